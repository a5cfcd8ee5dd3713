"""What something costs an account now, and what it would have once that is paid."""

from dataclasses import dataclass

from lightningspace.base.models import Account, Order
from lightningspace.base.prices import Holding, Size, Terms
from lightningspace.base.refusals import Refusal
from lightningspace.rules import accounts, ledger, order_book, wanted
from lightningspace.rules.order_book import OrderKind
from lightningspace.shop import Shop


class NotForSale(Refusal):
    """Nothing is sold to this account now; the text says why, to its owner."""


class ResizeWaits(Refusal):
    """`token`: the unpaid order of another size, which comes first."""

    code = "size_waits"
    text = "You have already ordered another size: pay or cancel that order first."

    def __init__(self, token: str):
        super().__init__(order=token)
        self.token = token


@dataclass(frozen=True)
class Quote:
    """A price, and what the account would have once it is paid.

    `credit_msat`: the part that would buy time beyond the horizon, and stays as credit.
    """

    msat: int
    ends_at: int
    credit_msat: int


def resize_msat(shop: Shop, account: Account, size: Size) -> int:
    """What another size costs now; 0: nothing. Raises as `orders.resize` does."""
    # Nor while one that is paid has yet to take effect.
    for some in (order_book.unpaid_by_all(account.id), order_book.arriving(account.id)):
        if waiting := some.where(Order.kind == OrderKind.RESIZE).first():
            raise ResizeWaits(waiting.token)
    if account.ready_at is None:
        raise NotForSale(wanted.AccountNotReady.text)
    holding = ledger.holding(account)
    if not holding.seconds:
        raise NotForSale("The paid time is over. Extend the hosting first, then change its size.")
    too_small = accounts.too_small(shop, account, size)
    if too_small:
        raise NotForSale(too_small)
    return holding.growth_msat(shop.prices.rate(size))


def extension(shop: Shop, account: Account, duration: int, unit: str) -> Quote:
    """More time for the size that the account has."""
    size, terms = Size.of(account), Terms(account.space_mb, duration, unit)
    msat = shop.prices.cost_msat(size, terms.seconds)
    return _quote(account, msat, _extended(shop, account, msat, terms.seconds))


def topped_up(shop: Shop, account: Account, msat: int) -> Quote:
    """As much more time as this money buys."""
    return _quote(account, msat, _extended(shop, account, msat, 0))


def other_size(shop: Shop, account: Account, size: Size) -> Quote:
    """Another size. Raises as `orders.resize` does, but never SoldOut."""
    check_may_buy(account)
    msat = resize_msat(shop, account, size)
    return _quote(account, msat, resized(shop, account, size, msat))


def one_more(shop: Shop, account: Account, what: str) -> tuple[Size, int, int]:
    """The size with one more of an extra, its price now and the end it leads to.

    Raises NotForSale and ResizeWaits.
    """
    size = Size.of(account).with_one_more(what)
    quote = other_size(shop, account, size)
    return size, quote.msat, quote.ends_at


def if_paid(shop: Shop, account: Account, order: Order) -> Quote:
    """What an unpaid order of an existing account would do if it were paid now."""
    return _quote(account, order.amount_msat, bought(shop, account, order, order.amount_msat))


def bought(shop: Shop, account: Account, order: Order, msat: int, at: int | None = None) -> Holding:
    """What the account has once `msat` is paid for an order; `at`: when, None: now."""
    if order.kind == OrderKind.RESIZE:
        return resized(shop, account, Size.of(order), msat, at)
    terms = order_book.terms_of(order)
    # An order priced for a smaller size buys what its money is worth today.
    is_as_priced = terms and Size.of(account).fits_in(Size.of(order))
    return _extended(shop, account, msat, terms.seconds if is_as_priced else 0, at)


def _extended(
    shop: Shop, account: Account, msat: int, least_seconds: int, at: int | None = None
) -> Holding:
    rate, horizon = ledger.rate(shop, account), shop.config.horizon_seconds
    return ledger.holding(account, at).buy(msat, rate, horizon, least_seconds)


def resized(shop: Shop, account: Account, size: Size, msat: int, at: int | None = None) -> Holding:
    rate, horizon = shop.prices.rate(size), shop.config.horizon_seconds
    return ledger.holding(account, at).resize(msat, rate, horizon)


def _quote(account: Account, msat: int, after: Holding) -> Quote:
    return Quote(msat, ledger.ends_at(account, after), after.credit_msat)


def check_may_buy(account: Account) -> None:
    """Raise NotForSale when nothing is sold to this account now."""
    if account.closing_at or account.opened_at is None:
        raise NotForSale("This hosting is being closed.")
    if account.blocked_at:
        raise NotForSale("This hosting is blocked.")
    if account.last_call_at:
        raise NotForSale(
            "This hosting is about to be deleted. Nothing is sold for it any more, so that nobody "
            "pays for nothing."
        )
