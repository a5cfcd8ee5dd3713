"""All rows that the shop has of one account, each with the day of its deletion.

An account may have any number of them, so they are read in parts: `rows` says where to go on.
"""

from dataclasses import dataclass
from functools import cache, cached_property

from lightningspace.base.clock import now
from lightningspace.base.models import (
    Account,
    Domain,
    Notice,
    Offer,
    Order,
    Service,
    Session,
    Table,
    Token,
    Upload,
    Wallet,
)
from lightningspace.rules import domains, ledger, order_book, payments, sessions, uploads
from lightningspace.rules.stored import ENTRY_OF
from lightningspace.rules.stored_entry import Entry
from lightningspace.shop import Shop

# Where the rows begin: the number of a list, and how many of its rows are skipped.
START = (0, 0)


@cache
def _names(table: type[Table]) -> tuple[dict[str, str], dict[str, str]]:
    """A table's columns that may be shown, and the others, each with the name of its field."""
    fields = {field.column_name: field.name for field in table._meta.sorted_fields}
    shown = {
        column: name
        for column, name in fields.items()
        if ENTRY_OF[table._meta.table_name, column].is_shown
    }
    return shown, {column: name for column, name in fields.items() if column not in shown}


@dataclass(frozen=True)
class Row:
    """`deleted_at` None: it stays."""

    row: Table
    deleted_at: int | None

    @property
    def table(self) -> str:
        return self.row._meta.table_name

    @cached_property
    def columns(self) -> dict[str, object]:
        """The value of each column that may be shown."""
        shown, _ = _names(type(self.row))
        return {column: self.row.__data__[name] for column, name in shown.items()}

    @cached_property
    def hidden(self) -> list[str]:
        """The columns that may not be shown, and are not empty."""
        _, hidden = _names(type(self.row))
        return [column for column, name in hidden.items() if self.row.__data__[name] is not None]

    @property
    def told(self) -> dict[Entry, dict[str, object]]:
        """The columns of each entry that are not empty, without the values that are not shown."""
        there = {name: value for name, value in self.columns.items() if value is not None}
        told: dict[Entry, dict[str, object]] = {}
        for name, value in (there | dict.fromkeys(self.hidden)).items():
            told.setdefault(ENTRY_OF[self.table, name], {})[name] = value
        return told


def rows(
    shop: Shop, account: Account, start: tuple[int, int], most: int
) -> tuple[list[Row], tuple[int, int] | None]:
    """At most `most` rows from `start` on, and where to go on; None: these are the last.

    Tips that were asked for and not paid are left out: they are others', and gone in a day.
    """
    number, offset = start
    end = ledger.closes_at(shop, account) if account.closing_at is None else now()
    found: list[Row] = []
    lists = _lists(account)
    while number < len(lists):
        wanted = most - len(found)
        some = list(lists[number].limit(wanted + 1).offset(offset))
        found += [Row(row, _deleted_at(row, end)) for row in some[:wanted]]
        if len(some) > wanted:
            return found, (number, offset + wanted)
        number, offset = number + 1, 0
    return found, None


def _lists(account: Account) -> list:
    """The queries for all rows, each in an order that an index has."""
    of_account = [
        (Session, (Session.begun_at.desc(), Session.id)),
        (Token, (Token.made_at.desc(), Token.id)),
        (Service, (Service.kind, Service.name)),
        (Upload, (Upload.id,)),
        (Domain, (Domain.name,)),
        (Offer, (Offer.id,)),
        (Notice, (Notice.kind, Notice.about, Notice.channel)),
        (Wallet, (Wallet.wallet_key,)),
    ]
    return [
        Account.select().where(Account.id == account.id),
        *(
            table.select().where(table.account_id == account.id).order_by(*order)
            for table, order in of_account
        ),
        *(_orders(account, door, True) for door in order_book.OWN_DOORS),
        *(_orders(account, door, False) for door in order_book.OWN_DOORS),
        *(_orders(account, door, True) for door in order_book.TIP_DOORS),
    ]


def _orders(account: Account, door: str | None, is_paid: bool):
    by_door = (Order.account == account.id) & (Order.door == door)
    latest_first = (Order.door.desc(), Order.paid_at.desc(), Order.token.desc())
    return (
        Order.select().where(by_door & Order.paid_at.is_null(not is_paid)).order_by(*latest_first)
    )


def _deleted_at(row: Table, end: int) -> int | None:
    """When it is deleted if the hosting is at `end`; None: never."""
    match row:
        case Session():
            return min(end, row.used_at + sessions.LASTS_SECONDS)
        case Service():
            return now() if row.gone else end
        case Upload():
            return min(
                end, (row.ended_at or row.sent_at + uploads.LASTS_SECONDS) + uploads.SHOWN_SECONDS
            )
        case Domain():
            return min(end, _forgotten_at(row) or end)
        case Order():
            return None if row.paid_at is not None else _unpaid_until(row)
        case Offer():
            return None
    return end


def _forgotten_at(row: Domain) -> int | None:
    if row.verified_at is None:
        return row.added_at + domains.CLAIM_SECONDS
    return domains.ends_at(row)


def _unpaid_until(order: Order) -> int:
    is_doubtful = order.released_at is not None and order.missing_at is not None
    kept = payments.DOUBTFUL_SECONDS if is_doubtful else payments.KEPT_SECONDS
    return (order.released_at or order.expires_at) + kept
