"""Placing an order: a hosting, more time for it, another size, a tip.

An order reserves its name before its invoice is asked for, and no space. Only the node says that it
is paid: see `payments`.
"""

import logging
import secrets
from collections.abc import Callable
from dataclasses import dataclass

from peewee import IntegrityError

from lightningspace.base.clock import now
from lightningspace.base.models import Account, Order, lock_account, transaction
from lightningspace.base.prices import DAY, Size, Terms
from lightningspace.base.refusals import Refusal
from lightningspace.outside.node import NodeError
from lightningspace.rules import (
    accounts,
    capacity,
    hostnames,
    invoices,
    order_book,
    quotes,
    restored,
)
from lightningspace.rules.order_book import Door, OrderKind
from lightningspace.shop import Shop

logger = logging.getLogger(__name__)

# Unpaid orders and unpaid tips that one account may have. Tips: more than one network may ask for
# (TIPS_LIMIT) while an invoice lasts, or it could shut all others out.
OPEN_ORDERS = 10
OPEN_TIPS = 1000
HOUR = 60 * 60
# How many of a network's places are asked for in one query: most networks hold few.
PLACES_AT_ONCE = 20
# How often a lost race for a name is run again. The reads of the next round show what is gone.
RACES = 20


class NameTaken(Refusal):
    """`token`: the unpaid order of the same browser that holds the name, if it is that."""

    code, field = "name_taken", "username"
    text = "This name is taken."

    def __init__(self, token: str | None):
        super().__init__()
        self.token = token


class NameReserved(Refusal):
    """Nobody may order the name."""

    status, code, field = 400, "bad_request", "username"
    text = "This name is reserved. Choose another one."


class SoldOut(Refusal):
    """No server has the space left."""

    code, field = "sold_out", "space_mb"
    text = "There is not that much space left right now. Choose less, or come back later."


class TooManyOpened(Refusal):
    """As many hostings were opened in the last hour as NEW_HOSTINGS_PER_HOUR allows."""

    status, code, retry_after = 429, "too_many_requests", 600
    text = (
        "More hostings than usual were opened within the last hour. Nothing was charged: please "
        "come back a little later."
    )


class TooManyUnpaid(Refusal):
    """The network holds as many names, or the account has as many unpaid orders, as it may."""

    status, code, retry_after = 429, "too_many_unpaid", 60
    text = "This hosting has too many unpaid orders. Pay or cancel one of them first."
    detail = (
        "There are several unpaid orders already. Pay one, or wait until they expire; a new "
        "hosting can be ordered without a username."
    )


class NoInvoice(NodeError):
    """The order could not get its invoice from the node."""

    text = f"{NodeError.text} Nothing was charged. Please try again."


@dataclass(frozen=True)
class Wish:
    """What one submitted form asks for. `client`: the network that it comes from.

    `browser` None: a program ordered, and will come back with its receipt. `proof`: the receipt
    (payment hash and epoch) of a closed hosting, whose holder may have its resting name again.
    """

    terms: Terms
    username: str | None
    email: str | None
    password: str | None
    browser: str | None
    client: str
    form_id: str
    proof: tuple[str, int] | None = None


@dataclass(frozen=True)
class Buyer:
    """Who orders for an account: its owner's browser or program, and the form that was sent.

    Of a program: `holder`, whose rights the order's token will carry (see `Order.holder`), and the
    receipt epoch that they were checked against: the token of an order placed with a credential
    that was revoked meanwhile is void.
    """

    browser: str | None
    form_id: str
    holder: str | None = None
    receipt_epoch: int = 0


@dataclass(frozen=True)
class Tip:
    """What somebody wants to give to a hosting.

    `door`: as in `Order.door`; `message`: cleaned, for the owner; `metadata`: the text whose hash
    the invoice carries instead of our description (LUD-06).
    """

    msat: int
    door: Door
    message: str | None = None
    metadata: str | None = None


# -- a new hosting -------------------------------------------------------------------


def place(shop: Shop, wish: Wish) -> Order:
    """Reserve the name, then get an invoice. The same form again answers the same order.

    A name that this network has held today already is not held again: whoever pays first gets it.

    Raises NameReserved, NameTaken, SoldOut, TooManyOpened, TooManyUnpaid and, as all orders do,
    Restoring; NodeError leaves nothing reserved.
    """
    attempt = _attempt(shop, wish)
    return _place(shop, lambda: _reserve(shop, wish, attempt))


def can_be_had(shop: Shop, username: str, proof: tuple[str, int] | None = None) -> bool:
    """Whether an order for the name would get it now. `proof`: as in `Wish`.

    It does not say why not, nor does the time it takes: every question is asked for every name.
    """
    reasons = [
        hostnames.is_reserved(shop, username),
        Account.select().where(Account.username == username).exists(),
        hostnames.rests(shop, username, proof),
    ]
    return not any(reasons)


def _place(
    shop: Shop, reserve: Callable[[], tuple[Order | None, bool]], metadata: str | None = None
) -> Order | None:
    """Get an invoice for the order of `reserve`, which also says whether it is new.

    None: there is nothing to pay. `metadata`: as in `Tip`.
    """
    restored.check_sells()
    order, is_new = _retried(reserve)
    if order is None:
        return None
    if order.bolt11 is None and order.cancelled_at is None and order.paid_at is None:
        try:
            invoices.ask_for_invoice(shop, order, metadata)
        except NodeError as error:
            logger.warning("order %s: no invoice: %s", order.token[:8], error)
            # Only a new one: the other half of a double click may just be getting its invoice.
            if is_new:
                invoices.give_up(order.token)
            raise NoInvoice(error) from error
    return Order.get_by_id(order.token)


def _attempt(shop: Shop, wish: Wish) -> str:
    who = wish.browser or f"a program at {wish.client}"
    return shop.vault.mac("attempt", who, wish.form_id, *_typed(wish))


def _typed(wish: Wish) -> list[str]:
    terms = wish.terms
    typed = (terms.space_mb, terms.duration, terms.unit, wish.username, wish.email, wish.password)
    return [str(part) for part in typed]


def is_as_asked(shop: Shop, order: Order, wish: Wish, by_owner: bool) -> bool:
    """Whether the order of a new hosting was placed with just this wish.

    For anybody but its owner, password and address do not count, or they could be guessed here.
    """
    if not by_owner:
        return (order_book.terms_of(order), order.username) == (wish.terms, wish.username)
    return order.asked is not None and shop.vault.is_mac(order.asked, "asked", *_typed(wish))


def _retried(reserve: Callable):
    for _ in range(RACES):
        try:
            with transaction():
                return reserve()
        except IntegrityError:
            continue
    raise SoldOut


def _reserve(shop: Shop, wish: Wish, attempt: str) -> tuple[Order, bool]:
    """Within a transaction: the order of this attempt, and whether it was made just now."""
    # Asked before the name is looked up, for whoever has just taken the name holds it.
    is_held = wish.username is not None and _may_hold(shop, wish)
    taken = wish.username and Account.get_or_none(Account.username == wish.username)
    # Looked up after the name: the other half of a double click may have committed in between.
    twin = Order.get_or_none(Order.attempt == attempt)
    if twin:
        return twin, False
    if wish.username and hostnames.is_reserved(shop, wish.username):
        raise NameReserved
    if taken:
        raise NameTaken(_own_unpaid_order(wish))
    if wish.username and hostnames.rests(shop, wish.username, wish.proof):
        raise NameTaken(None)
    _check_opened(shop)
    terms = wish.terms
    if terms.space_mb > capacity.largest_mb(shop):
        raise SoldOut
    is_free = wish.username is not None and not is_held
    account = Account.create(
        id=secrets.token_hex(8),
        username=None if is_free else wish.username or hostnames.free_name(shop),
        server=capacity.roomiest(shop),
        space_mb=terms.space_mb,
        held_by=_free_place(shop, wish.client) if is_held else None,
        email_waits=wish.email,
        password_sealed=shop.vault.seal(wish.password) if wish.password else None,
    )
    order = create(
        shop,
        kind=OrderKind.OPEN,
        account=account,
        attempt=attempt,
        asked=shop.vault.mac("asked", *_typed(wish)),
        browser=wish.browser,
        username=wish.username,
        held_name=_held_names(shop, wish)[0] if is_held else None,
        space_mb=terms.space_mb,
        duration=terms.duration,
        unit=terms.unit,
        amount_msat=shop.prices.price_msat(terms),
    )
    return order, True


def _check_opened(shop: Shop) -> None:
    most, lately = shop.config.new_hostings_per_hour, now() - HOUR
    # By the index of valued_at, which is never before opened_at.
    opened = Account.select().where((Account.valued_at > lately) & (Account.opened_at > lately))
    if most and opened.count() >= most:
        raise TooManyOpened


def create(shop: Shop, **facts) -> Order:
    """Within a transaction: a new order, with a token, which expires with its invoice."""
    moment = now()
    return Order.create(
        token=order_book.new_token(shop, facts.get("account")),
        placed_at=moment,
        expires_at=moment + shop.config.invoice_minutes * 60,
        **facts,
    )


def name_or_another(shop: Shop, order: Order) -> str:
    """The name that was ordered, or a generated one if none was or it is not to be had now."""
    name = order.username
    if name is None or hostnames.is_reserved(shop, name) or Account.get_or_none(username=name):
        return hostnames.free_name(shop)
    # The name of a closed hosting rests, but not for a late payment for that hosting.
    is_anothers = order.kind == OrderKind.OPEN and hostnames.rests(shop, name)
    return hostnames.free_name(shop) if is_anothers else name


def _may_hold(shop: Shop, wish: Wish) -> bool:
    """Whether the network may hold the name: not again on the day that it held it without paying,
    or it could hold it for ever.
    """
    if hostnames.rests(shop, wish.username):  # nobody else may have it anyway
        return True
    had = (Order.held_name << _held_names(shop, wish)) & (Order.placed_at > now() - DAY)
    return not Order.select().where(had).exists()


def _held_names(shop: Shop, wish: Wish) -> list[str]:
    return shop.vault.macs("held name", wish.client, wish.username)


def _own_unpaid_order(wish: Wish) -> str | None:
    order = (
        Order.select(Order.token)
        .join(Account)
        .where(
            (Account.username == wish.username)
            & (Order.browser == wish.browser)
            & Order.paid_at.is_null()
            & Order.released_at.is_null()
        )
        .first()
    )
    return order.token if order else None


def _free_place(shop: Shop, client: str) -> str:
    """One of the places that each network has for names held without payment."""
    owner, most = shop.vault.mac("client", client), shop.config.unpaid_per_client
    for first in range(0, most, PLACES_AT_ONCE):
        numbers = range(first, min(first + PLACES_AT_ONCE, most))
        places = [f"{owner}:{number}" for number in numbers]
        rows = Account.select(Account.held_by).where(Account.held_by << places)
        taken = {row.held_by for row in rows}
        if free := [place for place in places if place not in taken]:
            return free[0]
    raise TooManyUnpaid(
        "Your network has reserved several names without paying. Leave the name empty and we "
        "choose one, or pay or cancel one of those orders first."
    )


# -- more time, another size ---------------------------------------------------------


def extend(shop: Shop, account_id: str, duration: int, unit: str, buyer: Buyer) -> Order:
    """Order more time for an account at today's price of its size.

    The same form again answers the same order. Raises NotForSale, TooManyUnpaid and NodeError.
    """
    attempt = shop.vault.mac("extend", account_id, buyer.form_id, str(duration), unit)

    def reserve():
        account, twin = _customer(account_id, attempt)
        if twin:
            return twin, False
        quote = quotes.extension(shop, account, duration, unit)
        facts = _of_owner(account, buyer, attempt) | {"duration": duration, "unit": unit}
        size = vars(Size.of(account))
        return create(shop, kind=OrderKind.EXTEND, amount_msat=quote.msat, **facts, **size), True

    return _place(shop, reserve)


def resize(shop: Shop, account_id: str, size: Size, buyer: Buyer) -> Order | None:
    """Give an account another size; the time that is left becomes time at today's price of it.

    A larger size costs the difference until the end: returns the order to be paid. None: nothing
    is to be paid, and the account has this size now. Raises NotForSale (also for a size below what
    is used), ResizeWaits, SoldOut, TooManyUnpaid and NodeError.
    """
    attempt = shop.vault.mac("resize", account_id, buyer.form_id, *map(str, vars(size).values()))

    def reserve():
        account, twin = _customer(account_id, attempt)
        if twin:
            return twin, False
        if size == Size.of(account):
            return None, False
        amount_msat = quotes.resize_msat(shop, account, size)
        if size.space_mb > capacity.larger_mb(shop, account):
            raise SoldOut
        if not amount_msat:
            accounts.renew(shop, account, quotes.resized(shop, account, size, 0), size)
            return None, False
        facts = _of_owner(account, buyer, attempt) | vars(size)
        return create(shop, kind=OrderKind.RESIZE, amount_msat=amount_msat, **facts), True

    return _place(shop, reserve)


def top_up(shop: Shop, account_id: str, tip: Tip, browser: str | None, form_id: str) -> Order:
    """Order as much time as an amount of money buys, for the owner or anybody else.

    The same form of the same browser again answers the same order. Raises NotForSale, TooManyUnpaid
    and NodeError.
    """
    attempt = shop.vault.mac(
        *("topup", account_id, browser or "", form_id, str(tip.msat), tip.message or "")
    )
    facts = {"browser": browser, "message": tip.message, "amount_msat": tip.msat}
    return _top_up(shop, account_id, attempt, tip.door, lambda account: facts, tip.metadata)


def give_time(shop: Shop, account_id: str, duration: int, unit: str, form_id: str) -> Order:
    """Order a tip of exactly this much time, at today's price of the hosting's size.

    The same form again answers the same order. Raises NotForSale, TooManyUnpaid and NodeError.
    """
    attempt = shop.vault.mac("time", account_id, form_id, str(duration), unit)

    def facts(account: Account) -> dict:
        msat = quotes.extension(shop, account, duration, unit).msat
        return {"duration": duration, "unit": unit, "amount_msat": msat}

    return _top_up(shop, account_id, attempt, Door.PAGE, facts)


def _top_up(
    shop: Shop,
    account_id: str,
    attempt: str,
    door: Door,
    facts_for: Callable[[Account], dict],
    metadata: str | None = None,
) -> Order:
    def reserve():
        account = lock_account(account_id)
        twin = Order.get_or_none(Order.attempt == attempt)
        if twin:
            return twin, False
        if account is None:
            raise quotes.NotForSale("This hosting is closed.")
        quotes.check_may_buy(account)
        facts = facts_for(account)
        _check_takes(shop, account, door, facts["amount_msat"])
        facts = facts | {"account": account, "attempt": attempt, "door": door}
        return create(shop, kind=OrderKind.TOP_UP, **facts, **vars(Size.of(account))), True

    return _place(shop, reserve, metadata)


def _check_takes(shop: Shop, account: Account, door: Door, msat: int) -> None:
    if not shop.config.tip_min_sats * 1000 <= msat <= shop.config.tip_max_sats * 1000:
        raise quotes.NotForSale("This amount is smaller or larger than this shop takes.")
    if door == Door.OWNER:
        if order_book.unpaid(account.id).count() >= OPEN_ORDERS:
            raise TooManyUnpaid
    else:
        tips = order_book.unpaid_by_all(account.id).where(order_book.is_of_others())
        if tips.count() >= OPEN_TIPS:
            raise TooManyUnpaid(
                "Many tips for this site are being paid right now. Please try again in a while."
            )


def _customer(account_id: str, attempt: str) -> tuple[Account, Order | None]:
    """Within a transaction: an account that may buy, and its order of this attempt, if any."""
    account = lock_account(account_id)
    if account is None:
        raise quotes.NotForSale("This hosting is closed.")
    twin = Order.get_or_none(Order.attempt == attempt)
    if twin is None:
        quotes.check_may_buy(account)
        if order_book.unpaid(account_id).count() >= OPEN_ORDERS:
            raise TooManyUnpaid
    return account, twin


def _of_owner(account: Account, buyer: Buyer, attempt: str) -> dict:
    # If the hosting is gone when the payment comes, it is opened anew under this name.
    facts = {"account": account, "username": account.username}
    epoch = account.receipt_epoch if buyer.holder is None else buyer.receipt_epoch
    facts |= {"holder": buyer.holder, "receipt_epoch": epoch}
    return facts | {"browser": buyer.browser, "attempt": attempt}


def redeem(token: str) -> bool:
    """Note that a paid order's token was shown for what it bought; False: it was shown before."""
    first = Order.update(redeemed_at=now()).where(
        (Order.token == token) & Order.redeemed_at.is_null()
    )
    return first.execute() == 1
