"""Orders that were lost with the database, rebuilt from what the node says of their payments.

An invoice's description holds the terms, and its label a token from which a keyed hash tells the
account (`order_book.is_for`). A payment that cannot be attributed stays lost.
"""

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from lightningspace.base import names
from lightningspace.base.clock import now
from lightningspace.base.models import Account, Order, Server, Service, transaction
from lightningspace.base.prices import UNIT_SECONDS
from lightningspace.outside.node import Paid
from lightningspace.rules import hostnames, income, offers, order_book, payments, payouts
from lightningspace.rules.order_book import TOKEN_LENGTH, Door, OrderKind
from lightningspace.shop import Shop

logger = logging.getLogger(__name__)

# How long before its payment a client may seem to have been made, as clocks differ.
CLOCKS_SECONDS = 5 * 60


@dataclass(frozen=True)
class Orphan:
    """A client at the panel whose account is not in the database.

    `made_at` None: it is half made. `username` and `server_id`: those of its site; None: it has no
    site of ours.
    """

    account_id: str
    client_id: int
    made_at: int | None = None
    username: str | None = None
    server_id: int | None = None


class Outcome(StrEnum):
    """ADOPTED: its hosting is at the panel. OPENED: it is not, so a new one was opened. OVER: it is
    not, and its time would be over, so the payment stays lost. PAID_BACK: the node has noted a
    refund, so it stays lost as well. LEFT: nobody can say whose it is.
    """

    ADOPTED = "adopted"
    OPENED = "opened"
    EXTENDED = "extended"
    RESIZED = "resized"
    TIPPED = "tipped"
    OVER = "over"
    PAID_BACK = "paid back"
    LEFT = "left"


OF_KIND = {
    OrderKind.EXTEND: Outcome.EXTENDED,
    OrderKind.RESIZE: Outcome.RESIZED,
    OrderKind.TOP_UP: Outcome.TIPPED,
}


@dataclass(frozen=True)
class Rebuilt:
    """What has become of a lost payment. `description`: its invoice's, if the node knows it."""

    payment_hash: str
    outcome: Outcome
    account: Account | None
    description: str | None


def look_before_making() -> None:
    """For accounts that were not set up yet when the copy was made, look at the panel first."""
    Account.update(leases=1).where(Account.leases == 0).execute()


def rebuild(shop: Shop, orphans: Iterable[Orphan]) -> list[Rebuilt]:
    """Turn lost payments into orders that take effect. May be called again and again.

    Raises NodeError.
    """
    lost = [(order, shop.node.find_paid(order.payment_hash)) for order in payments.lost()]
    waiting = {orphan.account_id: orphan for orphan in orphans}
    paid_back = [each for each in lost if payouts.is_noted(shop, each[0].payment_hash)]
    rebuilt = [_result(*each, Outcome.PAID_BACK, None) for each in paid_back]
    lost = [each for each in lost if each not in paid_back]
    openings = [(order, paid) for order, paid in lost if _kind(paid) == OrderKind.OPEN]
    others = [(order, paid) for order, paid in lost if _kind(paid) != OrderKind.OPEN]
    # Those at the panel first: that shows whether a client is left that one of the others has made.
    openings.sort(key=lambda one: _whose(shop, one[1], waiting) is None)
    for order, paid in openings:
        rebuilt.append(_result(order, paid, *_open(shop, order, paid, waiting)))
    opened = Account.select(Account.id).where(Account.opened_at.is_null(False))
    ids = [id for (id,) in opened.tuples()] if others else []
    for order, paid in others:
        rebuilt.append(_result(order, paid, *_give(shop, order, paid, ids)))
    return rebuilt


def _result(order: Order, paid: Paid | None, outcome: Outcome, account_id: str | None) -> Rebuilt:
    account = account_id and Account.get_by_id(account_id)
    if account:
        logger.info("payment %s: %s, %s", order.payment_hash[:8], account.id, outcome)
    return Rebuilt(order.payment_hash, outcome, account, paid and paid.description)


def _kind(paid: Paid | None) -> OrderKind | None:
    terms = order_book.described(paid.description) if paid else None
    return OrderKind(terms["kind"]) if terms else None


def _whose(shop: Shop, paid: Paid, account_ids: Iterable[str]) -> str | None:
    token = paid.payment.label[-TOKEN_LENGTH:]
    return next((id for id in account_ids if order_book.is_for(shop, token, id)), None)


# -- new hostings ----------------------------------------------------------------------


def _open(
    shop: Shop, order: Order, paid: Paid, waiting: dict[str, Orphan]
) -> tuple[Outcome, str | None]:
    account_id = _whose(shop, paid, waiting)
    if account_id:
        adopted = _adopt(shop, order, paid, waiting[account_id])
        if adopted:
            del waiting[account_id]
        return (Outcome.ADOPTED, account_id) if adopted else (Outcome.LEFT, None)
    began = paid.payment.paid_at - CLOCKS_SECONDS
    may_be_there = any((orphan.made_at or 0) >= began for orphan in waiting.values())
    is_known = _whose(shop, paid, (id for (id,) in Account.select(Account.id).tuples()))
    if may_be_there or is_known:
        return Outcome.LEFT, None
    terms = order_book.described(paid.description)
    seconds = terms.get("duration", 0) * UNIT_SECONDS.get(terms.get("unit"), 0)
    if paid.payment.paid_at + seconds <= now():
        return Outcome.OVER, None
    if not _becomes(order, paid, OrderKind.OPEN):
        return Outcome.LEFT, None
    return Outcome.OPENED, payments.apply(shop, order.token)


def _adopt(shop: Shop, order: Order, paid: Paid, orphan: Orphan) -> bool:
    """Take over the hosting that the panel has, as it is there, with its passwords.

    False: another account has its name, or its server is unknown.
    """
    name, terms = orphan.username, order_book.described(paid.description)
    is_taken = name is None or Account.select().where(Account.username == name).exists()
    if is_taken or not Server.select().where(Server.id == orphan.server_id).exists():
        return False
    with transaction():
        size = {column: terms[column] for column in terms if column.startswith("extra_")}
        account = Account.create(
            id=orphan.account_id,
            username=name,
            server=orphan.server_id,
            space_mb=terms["space_mb"],
            leases=1,  # so that the panel is looked at before anything is made there
            **size,
        )
        if not _becomes(order, paid, OrderKind.OPEN, account):
            account.delete_instance()  # another run was faster
            return False
        payments.apply(shop, order.token)
        Account.update(server=orphan.server_id).where(Account.id == account.id).execute()
        Service.update(password_sealed=None, own_password_sealed=None).where(
            Service.account == account.id
        ).execute()
    return True


# -- more of what is there -------------------------------------------------------------


def _give(
    shop: Shop, order: Order, paid: Paid | None, account_ids: list[str]
) -> tuple[Outcome, str | None]:
    if paid is None:
        return Outcome.LEFT, None
    if paid.payment.offer_id:
        _, account_id = offers.account_of(shop, paid.payment.offer_id)
        if account_id not in account_ids or not payments.record_tip_again(
            shop, order, paid.payment, account_id
        ):
            return Outcome.LEFT, None
        payments.apply(shop, Order.get(Order.payment_hash == order.payment_hash).token)
        return Outcome.TIPPED, account_id
    account_id = _whose(shop, paid, account_ids)
    if account_id is None:
        return Outcome.LEFT, None
    # The invoices of Lightning Addresses describe the payee in their own form.
    kind = _kind(paid) or OrderKind.TOP_UP
    if not _becomes(order, paid, kind, Account.get_by_id(account_id)):
        return Outcome.LEFT, None
    payments.apply(shop, order.token)
    return OF_KIND[kind], account_id


def _becomes(order: Order, paid: Paid, kind: OrderKind, account: Account | None = None) -> bool:
    """Make a lost payment the order that it was; False: that cannot be, or was done meanwhile."""
    terms = order_book.described(paid.description)
    if kind in (OrderKind.OPEN, OrderKind.EXTEND) and "duration" not in terms:
        return False
    facts = {"kind": kind, "account": account, "amount_msat": order.received_msat}
    if terms:
        facts |= terms | {"kind": kind}
    else:
        facts |= {"space_mb": account.space_mb}
    if kind == OrderKind.TOP_UP:
        facts["door"] = Door.PAGE if terms else Door.ADDRESS
    elif account:
        facts["username"] = account.username
    if paid.asked_msat:
        facts["amount_msat"] = paid.asked_msat
    if paid.bolt11:
        facts["invoice_hash"] = order_book.hash_of(paid.bolt11)
    with transaction():
        # Locked first: on PostgreSQL, an update that had to wait for a claim does not see it.
        Order.update(placed_at=Order.placed_at).where(Order.token == order.token).execute()
        if not Order.update(facts).where(payments.is_still_lost(order)).execute():
            return False
        income.forget_lost(order.paid_at, order.received_msat)
        income.note_order(order.token)
    return True


# -- what is left at the panel ---------------------------------------------------------


def keep_names(shop: Shop, orphans: Iterable[Orphan]) -> None:
    """Let nobody order the names of hostings that stay at the panel without an account."""
    with transaction():
        for orphan in orphans:
            if orphan.username and names.RULE.fullmatch(orphan.username):
                hostnames.let_rest(shop, orphan.username, None, 0)
