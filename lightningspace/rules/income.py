"""Income: the sums of each day, to which every payment is added as it is recorded, and the single
payments of a span, for the tax office. A voucher brings in nothing.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum

from peewee import JOIN, fn

from lightningspace.base.clock import DAY
from lightningspace.base.models import Account, Order
from lightningspace.base.money_models import DailyRate, IncomeOfDay
from lightningspace.rules import order_book
from lightningspace.rules.order_book import OrderKind

READ_AT_ONCE = 5000


class Kind(StrEnum):
    """MORE: more time or another size, bought by the owner. LOST: no order waited for it. REFUND:
    what was paid back, with its fees: below 0, and not in the sums of a day here.
    """

    HOSTING = "hosting"
    MORE = "more"
    TIP = "tip"
    GATE = "gate"
    LOST = "lost"
    REFUND = "refund"


@dataclass(frozen=True)
class Payment:
    """`payment_hash` None: all that the gate was paid on the day that begins at `paid_at`."""

    paid_at: int
    payment_hash: str | None
    msat: int
    kind: Kind


def note(kind: Kind, paid_at: int, msat: int) -> None:
    """Within the transaction that records a payment: add it to the sum of its day."""
    row = IncomeOfDay.insert(day=paid_at // DAY, kind=kind, times=1, msat=msat)
    row.on_conflict(
        conflict_target=[IncomeOfDay.day, IncomeOfDay.kind],
        update={
            IncomeOfDay.times: IncomeOfDay.times + 1,
            IncomeOfDay.msat: IncomeOfDay.msat + msat,
        },
    ).execute()


def forget_lost(paid_at: int, msat: int) -> None:
    """Within the transaction that makes a lost payment another: take it out of its day's sum."""
    counted = (IncomeOfDay.day == paid_at // DAY) & (IncomeOfDay.kind == Kind.LOST)
    less = {"times": IncomeOfDay.times - 1, "msat": IncomeOfDay.msat - msat}
    IncomeOfDay.delete().where(counted & (IncomeOfDay.times <= 1)).execute()
    IncomeOfDay.update(less).where(counted).execute()


def note_order(token: str) -> None:
    """The same for an order that was just paid."""
    columns = (Order.kind, Order.door, Order.paid_at, Order.received_msat)
    kind, door, paid_at, msat = Order.select(*columns).where(Order.token == token).tuples().get()
    note(_kind_of(kind, door), paid_at, msat)


def _kind_of(kind: str, door: str | None) -> Kind:
    if kind == OrderKind.OPEN:
        return Kind.HOSTING
    if kind == OrderKind.LOST:
        return Kind.LOST
    return Kind.TIP if door in order_book.TIP_DOORS else Kind.MORE


def since(day: int) -> list[IncomeOfDay]:
    """The sums from that day on, in the order of time."""
    rows = IncomeOfDay.select().where(IncomeOfDay.day >= day)
    return list(rows.order_by(IncomeOfDay.day))


def sums() -> list[tuple[str, int, int]]:
    """By kind, how many payments ever came in, and their msat."""
    columns = (IncomeOfDay.kind, fn.SUM(IncomeOfDay.times), fn.SUM(IncomeOfDay.msat))
    return list(IncomeOfDay.select(*columns).group_by(IncomeOfDay.kind).tuples())


def payments(begin: int, until: int) -> Iterator[Payment]:
    """Each payment from `begin` to before `until`, in order; then, for each of these days, all that
    the gate was paid: of its payments only the sums are kept.
    """
    last = (begin, "")
    while rows := _paid_after(*last, until):
        for *last, payment_hash, msat, kind, door, node_id in rows:
            if node_id != order_book.BY_VOUCHER:
                yield Payment(last[0], payment_hash, msat, _kind_of(kind, door))
    days = IncomeOfDay.day.between(begin // DAY, (until - 1) // DAY)
    of_gate = IncomeOfDay.select().where(days & (IncomeOfDay.kind == Kind.GATE))
    for row in of_gate.order_by(IncomeOfDay.day):
        yield Payment(row.day * DAY, None, row.msat, Kind.GATE)


def _paid_after(paid_at: int, token: str, until: int) -> list[tuple]:
    columns = (Order.paid_at, Order.token, Order.payment_hash, Order.received_msat, Order.kind)
    behind = (Order.paid_at > paid_at) | (Order.token > token)
    span = (Order.paid_at >= paid_at) & (Order.paid_at < until) & behind
    rows = Order.select(*columns, Order.door, Order.node_id).where(span)
    return list(rows.order_by(Order.paid_at, Order.token).limit(READ_AT_ONCE).tuples())


def latest(most: int) -> list[Order]:
    """The `most` orders that were paid last, with the names of their hostings."""
    orders = Order.select(Order, Account.username).join(Account, JOIN.LEFT_OUTER)
    paid = orders.where(Order.paid_at.is_null(False))
    return list(paid.order_by(Order.paid_at.desc(), Order.token.desc()).limit(most))


def rates(currency: str, begin: int, until: int) -> dict[int, Decimal]:
    """What a bitcoin cost on each of the days between, as far as that was noted."""
    days = DailyRate.day.between(begin // DAY, (until - 1) // DAY)
    rows = DailyRate.select().where((DailyRate.currency == currency) & days)
    return {row.day: Decimal(row.per_bitcoin) for row in rows}
