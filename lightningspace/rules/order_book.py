"""Orders as they stand: what one says, what has become of it, and which ones an account has."""

import hashlib
import re
import secrets
from enum import StrEnum

from peewee import JOIN

from lightningspace.base.clock import now
from lightningspace.base.models import Account, Order
from lightningspace.base.prices import EXTRAS, Terms
from lightningspace.rules import wanted
from lightningspace.shop import Shop

TOKEN_LENGTH = 32
# How much of a token is drawn at random. The rest says, by a keyed hash, which account it is for.
DRAWN_LENGTH = 20


class OrderKind(StrEnum):
    """OPEN: a new hosting. LOST: a payment of which no order is known, noted for the operator."""

    OPEN = "open"
    EXTEND = "extend"
    RESIZE = "resize"
    TOP_UP = "topup"
    LOST = "lost"


class Door(StrEnum):
    """How a top-up was asked for (`Order.door`): by the owner, or by others as a tip."""

    OWNER = "owner"
    PAGE = "page"
    ADDRESS = "address"
    OFFER = "offer"


# `Order.node_id` of an order that a voucher has paid: no money came for it.
BY_VOUCHER = "voucher"
# The doors by which an account's owner pays (None: for an order that is no top-up), and by which
# others give tips.
OWN_DOORS = (None, Door.OWNER)
TIP_DOORS = (Door.PAGE, Door.ADDRESS, Door.OFFER)
# Paid orders on one page of a list.
LISTED = 50
# How many of a browser's unpaid orders its pages remind of.
WAITING = 5


class OrderState(StrEnum):
    """CHECKING: PAID, CANCELLED or EXPIRED, and it is not known yet which. CLOSED: it was paid, and
    its hosting has been deleted.
    """

    PREPARING = "preparing"
    UNPAID = "unpaid"
    CHECKING = "checking"
    PAID = "paid"
    CANCELLED = "cancelled"
    EXPIRED = "expired"
    CLOSED = "closed"


# -- one order -------------------------------------------------------------------------


def find(token: str) -> Order | None:
    return Order.get_or_none(Order.token == token)


def state(order: Order) -> OrderState:
    if order.applied_at is not None and order.account_id is None:
        return OrderState.CLOSED
    if order.paid_at is not None:
        return OrderState.PAID
    if is_certain(order):
        return OrderState.EXPIRED if order.cancelled_at is None else OrderState.CANCELLED
    if order.cancelled_at or order.missing_at or order.expires_at <= now():
        return OrderState.CHECKING
    if order.bolt11 is None:
        return OrderState.PREPARING
    return OrderState.UNPAID


def is_certain(order: Order) -> bool:
    """Whether an unpaid order is certainly unpaid, and cannot be paid any more."""
    if order.released_at is None:  # certain if it was given up: nobody has seen its invoice
        return order.cancelled_at is not None and order.bolt11 is None
    return order.missing_at is None


def is_too_late(order: Order) -> bool:
    """Whether a payment came when its hosting was being deleted, and waits to open it anew.

    A tip opens nothing anew: it is too late as soon as the owner has closed the hosting.
    """
    if order.kind == OrderKind.OPEN or order.paid_at is None or order.applied_at is not None:
        return False
    account = order.account
    if account is None or account.deleting_at is not None:
        return True
    return is_tip(order) and account.closing_at is not None and account.last_call_at is None


def was_renewed(order: Order) -> bool:
    """Whether it has given an existing account more time or another size."""
    return order.kind != OrderKind.OPEN and order.applied_at is not None


def is_tip(order: Order) -> bool:
    """Whether it is a tip: anybody may pay it."""
    return order.door in TIP_DOORS


def lacks_name(order: Order) -> bool:
    """Whether the name that was ordered is not held for it: another order may get it first."""
    return order.account is not None and order.account.username is None


def terms_of(order: Order) -> Terms | None:
    """The terms of an order; None: it names no time, like an order of another size."""
    return Terms(order.space_mb, order.duration, order.unit) if order.duration else None


# -- its token -------------------------------------------------------------------------


def new_token(shop: Shop, account: Account | None) -> str:
    """A token for an order of this account, as `is_for` can tell; None: it is nobody's.

    It is the invoice's label as well. So an order that was lost with the database finds its account
    again, and the node does not learn whose it is.
    """
    drawn = secrets.token_hex(DRAWN_LENGTH // 2)
    if account is None:
        return drawn + secrets.token_hex((TOKEN_LENGTH - DRAWN_LENGTH) // 2)
    return drawn + _marks(shop, drawn, account.id)[0]


def is_for(shop: Shop, token: str, account_id: str) -> bool:
    """Whether the order of this token was placed for the account."""
    return token[DRAWN_LENGTH:] in _marks(shop, token[:DRAWN_LENGTH], account_id)


def _marks(shop: Shop, drawn: str, account_id: str) -> list[str]:
    macs = shop.vault.macs("order for", account_id, drawn)
    return [mac[: TOKEN_LENGTH - DRAWN_LENGTH] for mac in macs]


# -- its invoice -----------------------------------------------------------------------


def label(shop: Shop, order: Order) -> str:
    """The label of its invoice at the node."""
    return shop.config.label_prefix + order.token


def describe(order: Order) -> str:
    """The invoice's description: the order's terms in a fixed form, without a name.

    An order that was lost with the database can be rebuilt from it.
    """
    counts = {extra.name: getattr(order, extra.column) for extra in EXTRAS}
    size = f"{order.space_mb} MB"
    if any(counts.values()):
        size += "".join(f" {count} {name}" for name, count in counts.items())
    time = f" {order.duration} {order.unit}" if order.duration else ""
    return f"Web hosting: {order.kind} {size}{time} {order.token[:8]}"


DESCRIBED = re.compile(
    r"Web hosting: (?P<kind>open|extend|resize|topup) (?P<space_mb>[1-9][0-9]{0,8}) MB"
    + "".join(rf"(?: (?P<{extra.column}>[0-9]{{1,9}}) {extra.name})?" for extra in EXTRAS)
    + r"(?: (?P<duration>[1-9][0-9]{0,8}) (?P<unit>hours|days|months))? [0-9a-f]{8}"
)


def described(text: str | None) -> dict | None:
    """What `describe` wrote of an order, by its columns; None: it did not write that."""
    found = DESCRIBED.fullmatch(text or "")
    if found is None:
        return None
    return {
        name: value if name in ("kind", "unit") else int(value)
        for name, value in found.groupdict().items()
        if value is not None
    }


def hash_of(bolt11: str) -> str:
    """What is kept of an invoice: enough to recognise its whole text, and nothing to rebuild it."""
    return hashlib.sha256(bolt11.lower().encode()).hexdigest()


# -- the orders of an account ----------------------------------------------------------


def unpaid(account_id: str):
    """What the account's owner has ordered and can still pay, or may have paid."""
    return unpaid_by_all(account_id).where(_is_of_owner())


def unpaid_by_all(account_id: str):
    """Like `unpaid`, tips included."""
    # An order given up before it had an invoice is cancelled at once and released later. One with
    # an invoice is over only when the node has deleted that.
    is_given_up = Order.cancelled_at.is_null(False) & Order.bolt11.is_null()
    return payable(account_id).where(~is_given_up).order_by(Order.placed_at)


def payable(account_id: str):
    """Orders of which the node may still have an unpaid invoice."""
    its_own = Order.account == account_id
    return Order.select().where(its_own & Order.paid_at.is_null() & Order.released_at.is_null())


def arriving(account_id: str):
    """Orders that are paid and have not taken effect."""
    its_own = Order.account == account_id
    return Order.select().where(its_own & Order.paid_at.is_null(False) & Order.applied_at.is_null())


def is_of_others():
    """`is_tip` as a condition for a query."""
    return Order.door << TIP_DOORS


def _is_of_owner():
    return Order.door.is_null() | (Order.door == Door.OWNER)


def latest_open(most: int) -> list[Order]:
    """The `most` latest orders, of all accounts, that can still be paid."""
    is_open = Order.paid_at.is_null() & Order.released_at.is_null()
    orders = Order.select(Order, Account.username).join(Account, JOIN.LEFT_OUTER)
    return list(orders.where(is_open).order_by(Order.placed_at.desc()).limit(most))


# -- the orders of a browser -----------------------------------------------------------


def waiting(browser: list[str]):
    """The latest orders of a browser that can be paid now. `browser`: its hash by each key."""
    # These two first, as in the index of open orders: there are few of them.
    is_open = Order.paid_at.is_null() & Order.released_at.is_null()
    has_invoice = Order.bolt11.is_null(False) & Order.cancelled_at.is_null()
    can_be_paid = has_invoice & Order.missing_at.is_null() & (Order.expires_at > now())
    found = Order.select().where(is_open & (Order.browser << browser) & can_be_paid)
    return found.order_by(Order.placed_at.desc()).limit(WAITING)


# -- what was paid ---------------------------------------------------------------------


def listed(
    account_id: str, doors: tuple[str | None, ...], before: str | None = None
) -> tuple[list[Order], str | None]:
    """One page of what was paid for an account by these doors, the latest first.

    `before`: the token of the order that the page begins behind. Also returns the token for the
    next page; None: there is none. Raises wanted.UnknownService for a `before` that is not listed.
    """
    # The check first: PostgreSQL fails on a NUL.
    last = find(before) if before is not None and before.isalnum() else None
    is_one = last and last.account_id == account_id and last.paid_at and last.door in doors
    if before is not None and not is_one:
        raise wanted.UnknownService
    found = latest(account_id, doors, LISTED + 1, last)
    return found[:LISTED], found[LISTED - 1].token if len(found) > LISTED else None


def latest(
    account_id: str, doors: tuple[str | None, ...], most: int, before: Order | None = None
) -> list[Order]:
    """The `most` latest orders paid by these doors; `before`: of those older than this one."""
    # One query per door: a single one would read and sort everything that was ever paid.
    found = [order for door in doors for order in _latest(account_id, door, most, before)]
    found.sort(key=lambda order: (order.paid_at, order.token), reverse=True)
    return found[:most]


def _latest(account_id: str, door: str | None, most: int, before: Order | None) -> list[Order]:
    paid = _paid(account_id, door)
    if before:
        is_earlier = (Order.paid_at < before.paid_at) | (Order.token < before.token)
        paid = paid.where((Order.paid_at <= before.paid_at) & is_earlier)
    # The door as well: PostgreSQL does not see that NULL is the same door.
    latest_first = (Order.door.desc(), Order.paid_at.desc(), Order.token.desc())
    return list(paid.order_by(*latest_first).limit(most))


def times_paid(account_id: str) -> int:
    """How often the owner has paid for the account."""
    return sum(_paid(account_id, door).count() for door in OWN_DOORS)


def _paid(account_id: str, door: str | None):
    by_door = (Order.account == account_id) & (Order.door == door)
    return Order.select().where(by_door & Order.paid_at.is_null(False))
