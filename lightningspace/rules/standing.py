"""How an order stands, for whoever asks: what its page, its fragment and the API say of it."""

from dataclasses import dataclass
from enum import StrEnum

from lightningspace.base.models import Order
from lightningspace.rules import certificates, hostnames, order_book, quotes, services, tips
from lightningspace.rules.order_book import OrderKind, OrderState
from lightningspace.rules.progress import Progress, Summary
from lightningspace.shop import Shop


class Stage(StrEnum):
    """As `OrderState`, with the stages of a paid order: that of a new hosting is PAID until it is
    READY; that for an existing one is RENEWING until it is RENEWED.

    LATE: the payment came when its hosting was being deleted.
    """

    PREPARING = "preparing"
    UNPAID = "unpaid"
    CHECKING = "checking"
    CANCELLED = "cancelled"
    EXPIRED = "expired"
    PAID = "paid"
    READY = "ready"
    RENEWING = "renewing"
    RENEWED = "renewed"
    LATE = "late"
    CLOSED = "closed"


CAN_BE_CANCELLED = (Stage.UNPAID, Stage.CHECKING)


@dataclass(frozen=True)
class Asker:
    """Whoever asks. `has_placed`: their browser placed the order; `account_id`: of the account that
    they are logged in to.
    """

    has_placed: bool = False
    account_id: str | None = None


STRANGER = Asker()


@dataclass(frozen=True)
class Standing:
    """What the asker may know of an order.

    `waits`: it will change by itself. `is_owners`: the asker is logged in to its account.
    `is_mine`: the asker may cancel it and see the names in it. `message`: of a tip, for its giver.
    `setup`: how far a new hosting is, once it is paid.

    For a top-up, while its hosting exists: `site`; `tells_end`, whether the asker may know until
    when that is paid; `worth_seconds`, how long this money keeps it. (Near the horizon the time
    bought would give away the end.)
    """

    order: Order
    state: Stage
    waits: bool
    is_tip: bool
    is_mine: bool
    is_owners: bool
    message: str | None
    setup: Summary | None = None
    site: str | None = None
    site_url: str | None = None
    tells_end: bool = False
    worth_seconds: int | None = None

    @property
    def lacks_name(self) -> bool:
        return order_book.lacks_name(self.order)

    @property
    def can_be_cancelled(self) -> bool:
        return self.is_mine and self.state in CAN_BE_CANCELLED

    def if_paid(self, shop: Shop) -> quotes.Quote | None:
        """What paying it now would lead to; None: nothing, or the asker may not know."""
        order, is_told = self.order, self.tells_end or self.order.kind != OrderKind.TOP_UP
        if order.kind == OrderKind.OPEN or order.account is None or not is_told:
            return None
        return quotes.if_paid(shop, order.account, order) if self.state == Stage.UNPAID else None


def of(shop: Shop, order: Order, asker: Asker = STRANGER) -> Standing:
    state, is_tip = stage(order), order_book.is_tip(order)
    is_owners = asker.account_id is not None and asker.account_id == order.account_id
    return Standing(
        order,
        state,
        waits=_waits(order, state),
        is_tip=is_tip,
        is_mine=asker.has_placed or (is_owners and order.kind != OrderKind.OPEN and not is_tip),
        is_owners=is_owners,
        message=order.message if asker.has_placed else None,
        setup=_setup(order) if state in (Stage.PAID, Stage.READY) else None,
        **_of_top_up(shop, order, is_owners),
    )


def stage(order: Order) -> Stage:
    state = order_book.state(order)
    if state != OrderState.PAID:
        return Stage(state)
    if order_book.was_renewed(order):
        return Stage.RENEWED
    if order_book.is_too_late(order):
        return Stage.LATE
    if order.kind != OrderKind.OPEN:
        return Stage.RENEWING
    is_there = order.applied_at is not None and order.account is not None
    return Stage.READY if is_there and order.account.ready_at is not None else Stage.PAID


def _waits(order: Order, state: Stage) -> bool:
    if state == Stage.LATE:
        return order.kind != OrderKind.TOP_UP  # a top-up opens no hosting anew
    if state == Stage.CHECKING:
        return order.released_at is None  # otherwise nobody will ever know
    return state in (Stage.UNPAID, Stage.PAID, Stage.RENEWING)


def _of_top_up(shop: Shop, order: Order, is_owners: bool) -> dict:
    account = order.account if order.kind == OrderKind.TOP_UP else None
    if account is None:
        return {}
    return {
        "site": hostnames.site_name(shop, account.username),
        "site_url": certificates.url(shop, account),
        "tells_end": is_owners or account.tips_show_end,
        "worth_seconds": tips.seconds_for(shop, account, order.received_msat or order.amount_msat),
    }


def _setup(order: Order) -> Summary | None:
    if order.account is None:
        return None
    return Progress(order.account, services.of_account(order.account_id)).summary()
