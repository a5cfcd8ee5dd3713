"""What is ordered: a hosting, more time for it, another size, tips; what becomes of unpaid orders.

An order reserves its name before its invoice is asked for, and no space. That it is paid, only the
node says: see payments.
"""

import hashlib
import logging
import secrets
from collections.abc import Callable
from dataclasses import dataclass, replace

from peewee import IntegrityError

from lightningspace import capacity, ledger, models, names, node_problems, offers, wanted
from lightningspace.clock import now
from lightningspace.models import (
    Account,
    Order,
    RestingName,
    lock_account,
    transaction,
)
from lightningspace.node import Invoice, NodeError
from lightningspace.prices import DAY, Holding, Size, Terms
from lightningspace.shop import Shop

logger = logging.getLogger(__name__)

# A lost race for a name or a place is run again; the reads of the next round say what is gone.
RACES = 20
TOKEN_LENGTH = 32
# Unpaid orders that one account may have, and unpaid tips that it may be given: more than what one
# network may ask for (TIPS_LIMIT) while an invoice lasts, or it could keep all others off.
OPEN_ORDERS = 10
OPEN_TIPS = 1000
# By which doors (see `Order.door`) an account is paid for: by its owner, and by others.
OWN_DOORS = (None, "owner")
TIP_DOORS = ("page", "address", "offer")
# So many paid orders are listed at once.
LISTED = 50


class NameTaken(Exception):
    """`token`: the unpaid order of the same browser that holds the name, if it is that."""

    def __init__(self, token: str | None):
        super().__init__("the name is taken")
        self.token = token


class NameReserved(Exception):
    """Nobody may order the name."""


class SoldOut(Exception):
    """No server has the space left."""


class TooManyUnpaid(Exception):
    """The network holds as many names, or the account has as many unpaid orders, as it may."""


class Refused(Exception):
    """Nothing is sold to this account now; the text says why, to its owner."""


class NotCertain(Exception):
    """Whether something is being paid just now is to be found out first: in a minute it is."""


class ResizeWaits(Exception):
    """`token`: the unpaid order of another size, which comes first."""

    def __init__(self, token: str):
        super().__init__("another size is ordered already")
        self.token = token


@dataclass(frozen=True)
class Wish:
    """What one submitted form asks for. `client` is the network that it comes from.

    `browser` None: a program's, which comes back with its receipt. `proof`: the receipt (payment
    hash and epoch) of a closed hosting, whose holder may have its resting name again.
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
class Offer:
    """What it costs now, and what the account would have once that is paid.

    `credit_msat`: what would be paid for time beyond the horizon.
    """

    msat: int
    ends_at: int
    credit_msat: int


@dataclass(frozen=True)
class Buyer:
    """Who orders for an account: its owner's browser or program, and the form that was sent.

    Of a program: `holder`, whose rights the order's token will carry (see `Order.holder`), and the
    epoch of the receipts that they were checked against, so that a token which is revoked meanwhile
    gets none of the new ones.
    """

    browser: str | None
    form_id: str
    holder: str | None = None
    receipt_epoch: int = 0


@dataclass(frozen=True)
class Tip:
    """What somebody wants to pay for a hosting, of which it gives him nothing.

    `door`: by which it comes, as in `Order.door`; `message`: cleaned, for the owner; `metadata`:
    the text whose hash the invoice carries instead of our description (LUD-06).
    """

    msat: int
    door: str
    message: str | None = None
    metadata: str | None = None


# -- a new hosting -------------------------------------------------------------------


def place(shop: Shop, wish: Wish) -> Order:
    """Reserve the name, then get an invoice. The same form again answers the same order.

    A name that this network has had reserved today is not reserved: who pays first has it.

    Raises NameReserved, NameTaken, SoldOut, TooManyUnpaid; NodeError leaves nothing reserved.
    """
    attempt = _attempt(shop, wish)
    return _place(shop, lambda: _reserve(shop, wish, attempt))


def _place(
    shop: Shop, reserve: Callable[[], tuple[Order | None, bool]], metadata: str | None = None
) -> Order | None:
    """Get an invoice for what `reserve` has reserved; it also says whether that was just now.

    `metadata`: as in `Tip`. None when it says that there is nothing to pay.
    """
    order, is_new = _retried(reserve)
    if order is None:
        return None
    if order.bolt11 is None and order.cancelled_at is None and order.paid_at is None:
        try:
            _ask_for_invoice(shop, order, metadata)
        except NodeError:
            # Not another's: the other half of a double click may be about to get its invoice.
            if is_new:
                give_up(order.token)
            raise
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

    Of who is not its owner password and address are passed over: he could guess until they fit.
    """
    if not by_owner:
        return (terms_of(order), order.username) == (wish.terms, wish.username)
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
    # Before the name: who has just taken it holds it, and so it is taken.
    is_held = wish.username is not None and _may_hold(shop, wish)
    taken = wish.username and Account.get_or_none(Account.username == wish.username)
    # After the name: a double click's other half may have committed between the two.
    twin = Order.get_or_none(Order.attempt == attempt)
    if twin:
        return twin, False
    if wish.username and wanted.is_reserved(shop, wish.username):
        raise NameReserved
    if taken:
        raise NameTaken(_own_unpaid_order(wish))
    if wish.username and rests(shop, wish.username, wish.proof):
        raise NameTaken(None)
    terms = wish.terms
    if terms.space_mb > capacity.largest_mb(shop):
        raise SoldOut
    is_free = wish.username is not None and not is_held
    account = Account.create(
        id=secrets.token_hex(8),
        username=None if is_free else wish.username or free_name(shop),
        server=capacity.roomiest(shop),
        space_mb=terms.space_mb,
        held_by=_free_place(shop, wish.client) if is_held else None,
        email_waits=wish.email,
        password_sealed=shop.vault.seal(wish.password) if wish.password else None,
    )
    order = create(
        shop,
        kind="open",
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


def create(shop: Shop, **facts) -> Order:
    """Within a transaction: a new order, with a token and the time that its invoice has."""
    moment = now()
    return Order.create(
        token=secrets.token_hex(TOKEN_LENGTH // 2),
        placed_at=moment,
        expires_at=moment + shop.config.invoice_minutes * 60,
        **facts,
    )


def rests(shop: Shop, username: str, proof: tuple[str, int] | None = None) -> bool:
    """Whether somebody had the name not long ago: mails of others still go to it.

    `proof`: the receipt (payment hash and epoch) of the asker's last hosting; if that had it, he
    may have it again.
    """
    hashes = shop.vault.macs("name", username)
    resting = (RestingName.name_hash << hashes) & (RestingName.until > now())
    last = RestingName.select().where(resting).first()
    return last is not None and (last.payment_hash, last.receipt_epoch) != proof


def free_name(shop: Shop) -> str:
    """A generated one, that an account may have all the same."""
    while rests(shop, name := names.generate()) or wanted.is_reserved(shop, name):
        continue
    return name


def name_or_another(shop: Shop, order: Order) -> str:
    """The name that was ordered, or a generated one if none was or nobody may have it by now."""
    name = order.username
    if name is None or wanted.is_reserved(shop, name) or Account.get_or_none(username=name):
        return free_name(shop)
    # The name of a hosting that was closed rests, but not for who paid for it.
    return free_name(shop) if order.kind == "open" and rests(shop, name) else name


def lacks_name(order: Order) -> bool:
    """Whether the name that was ordered is not kept for it: others may have it first."""
    return order.account is not None and order.account.username is None


def _may_hold(shop: Shop, wish: Wish) -> bool:
    """Not a name that the network has had today and has not paid: it could keep it like that."""
    if rests(shop, wish.username):  # nobody else may have it anyway
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
    """One of the places for names without payment that each network has."""
    owner = shop.vault.mac("client", client)
    places = [f"{owner}:{number}" for number in range(shop.config.unpaid_per_client)]
    taken = {a.held_by for a in Account.select(Account.held_by).where(Account.held_by << places)}
    for place in places:
        if place not in taken:
            return place
    raise TooManyUnpaid


# -- more time, another size ---------------------------------------------------------


def extend(shop: Shop, account_id: str, duration: int, unit: str, buyer: Buyer) -> Order:
    """Order more time for an account at today's price of its size; it counts when it is paid.

    The same form again answers the same order. Raises Refused, TooManyUnpaid and NodeError.
    """
    attempt = shop.vault.mac("extend", account_id, buyer.form_id, str(duration), unit)

    def reserve():
        account, twin = _customer(account_id, attempt)
        if twin:
            return twin, False
        offer = extension(shop, account, duration, unit)
        facts = _of_owner(account, buyer, attempt) | {"duration": duration, "unit": unit}
        size = _size_columns(ledger.size(account))
        return create(shop, kind="extend", amount_msat=offer.msat, **facts, **size), True

    return _place(shop, reserve)


def resize(shop: Shop, account_id: str, size: Size, buyer: Buyer) -> Order | None:
    """Give an account another size; what is paid becomes time at today's price of it.

    A larger one costs the difference until the end: return the order to be paid. None: what is
    paid is enough, and the account has this size now. Raises Refused (for a size below what is
    used, too), ResizeWaits, SoldOut, TooManyUnpaid and NodeError.
    """
    attempt = shop.vault.mac(
        "resize", account_id, buyer.form_id, *map(str, _size_columns(size).values())
    )

    def reserve():
        account, twin = _customer(account_id, attempt)
        if twin:
            return twin, False
        if size == ledger.size(account):
            return None, False
        amount_msat = resize_msat(shop, account, size)
        if size.space_mb > capacity.larger_mb(shop, account):
            raise SoldOut
        if not amount_msat:
            wanted.renew(shop, account, _resized(shop, account, size, 0), size)
            return None, False
        facts = _of_owner(account, buyer, attempt) | _size_columns(size)
        return create(shop, kind="resize", amount_msat=amount_msat, **facts), True

    return _place(shop, reserve)


def top_up(shop: Shop, account_id: str, tip: Tip, browser: str | None, form_id: str) -> Order:
    """Order time for as much money as somebody wants to give, whoever it is.

    The same form of the same browser again answers the same order. Raises Refused, TooManyUnpaid
    and NodeError.
    """
    attempt = shop.vault.mac(
        *("topup", account_id, browser or "", form_id, str(tip.msat), tip.message or "")
    )

    def reserve():
        account = lock_account(account_id)
        twin = Order.get_or_none(Order.attempt == attempt)
        if twin:
            return twin, False
        _check_takes(shop, account, tip)
        order = create(
            shop,
            kind="topup",
            account=account,
            attempt=attempt,
            browser=browser,
            door=tip.door,
            message=tip.message,
            amount_msat=tip.msat,
            **_size_columns(ledger.size(account)),
        )
        return order, True

    return _place(shop, reserve, tip.metadata)


def _check_takes(shop: Shop, account: Account | None, tip: Tip) -> None:
    if account is None:
        raise Refused("This hosting is closed.")
    check_may_buy(account)
    if not shop.config.tip_min_sats * 1000 <= tip.msat <= shop.config.tip_max_sats * 1000:
        raise Refused("This amount is below or above what is taken here.")
    of_owner = tip.door == "owner"
    open_ones = unpaid(account.id) if of_owner else _unpaid(account.id).where(is_of_others())
    if open_ones.count() >= (OPEN_ORDERS if of_owner else OPEN_TIPS):
        raise TooManyUnpaid


def resize_msat(shop: Shop, account: Account, size: Size) -> int:
    """What another size costs now; 0: nothing. Raises as `resize` does."""
    # Paid and not in effect yet is no time for another, either.
    for some in (_unpaid(account.id), arriving(account.id)):
        if waiting := some.where(Order.kind == "resize").first():
            raise ResizeWaits(waiting.token)
    if account.ready_at is None:
        raise Refused("The hosting is still being set up. Please wait until that is done.")
    holding = ledger.holding(account)
    if not holding.seconds:
        raise Refused("The paid time is over. Extend the hosting first, then change its size.")
    too_small = wanted.too_small(shop, account, size)
    if too_small:
        raise Refused(too_small)
    return holding.growth_msat(shop.prices.rate(size))


def extension(shop: Shop, account: Account, duration: int, unit: str) -> Offer:
    """So much more time for the size that it has."""
    size, terms = ledger.size(account), Terms(account.space_mb, duration, unit)
    msat = shop.prices.cost_msat(size, terms.seconds)
    return _offer(account, msat, _extended(shop, account, msat, terms.seconds))


def topped_up(shop: Shop, account: Account, msat: int) -> Offer:
    """As much more time as so much money buys."""
    return _offer(account, msat, _extended(shop, account, msat, 0))


def other_size(shop: Shop, account: Account, size: Size) -> Offer:
    """Raises as `resize` does, except that the size may turn out to be sold."""
    check_may_buy(account)
    msat = resize_msat(shop, account, size)
    return _offer(account, msat, _resized(shop, account, size, msat))


def one_more(shop: Shop, account: Account, what: str) -> tuple[Size, int, int]:
    """The size with one more of "addresses" or "domains", its price now and the end it leads to.

    Raises Refused and ResizeWaits.
    """
    size, extra = ledger.size(account), f"extra_{what}"
    size = replace(size, **{extra: getattr(size, extra) + 1})
    offer = other_size(shop, account, size)
    return size, offer.msat, offer.ends_at


def listed(
    account_id: str, doors: tuple[str | None, ...], before: str | None = None
) -> tuple[list[Order], str | None]:
    """What was paid for an account by these doors: so many orders as are listed at once, the latest
    first or those before the one of a token; and the token that the next ones come before.

    Raises wanted.Unknown.
    """
    last = find(before) if before is not None else None
    is_one = last and last.account_id == account_id and last.paid_at and last.door in doors
    if before is not None and not is_one:
        raise wanted.Unknown
    found = latest(account_id, doors, LISTED + 1, last)
    return found[:LISTED], found[LISTED - 1].token if len(found) > LISTED else None


def latest(
    account_id: str, doors: tuple[str | None, ...], most: int, before: Order | None = None
) -> list[Order]:
    """So many of the orders that were paid by these doors; `before`: those behind this one."""
    # A query for each door: one for all would read and sort all that was ever paid.
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
    """How often its owner has paid for an account."""
    return sum(_paid(account_id, door).count() for door in OWN_DOORS)


def _paid(account_id: str, door: str | None):
    by_door = (Order.account == account_id) & (Order.door == door)
    return Order.select().where(by_door & Order.paid_at.is_null(False))


def if_paid(shop: Shop, account: Account, order: Order) -> Offer:
    """What an unpaid order of an account that is there would do now."""
    return _offer(account, order.amount_msat, bought(shop, account, order, order.amount_msat))


def bought(shop: Shop, account: Account, order: Order, msat: int, at: int | None = None) -> Holding:
    """What an account has once so much is paid for an order, now or at a moment."""
    if order.kind == "resize":
        return _resized(shop, account, size_of(order), msat, at)
    terms = terms_of(order)
    # What was priced for a smaller size buys what it is worth.
    is_as_priced = terms and ledger.size(account).fits_in(size_of(order))
    return _extended(shop, account, msat, terms.seconds if is_as_priced else 0, at)


def _extended(
    shop: Shop, account: Account, msat: int, least_seconds: int, at: int | None = None
) -> Holding:
    rate, horizon = ledger.rate(shop, account), shop.config.horizon_seconds
    return ledger.holding(account, at).buy(msat, rate, horizon, least_seconds)


def _resized(shop: Shop, account: Account, size: Size, msat: int, at: int | None = None) -> Holding:
    rate, horizon = shop.prices.rate(size), shop.config.horizon_seconds
    return ledger.holding(account, at).resize(msat, rate, horizon)


def _offer(account: Account, msat: int, after: Holding) -> Offer:
    return Offer(msat, ledger.ends_at(account, after), after.credit_msat)


def check_may_buy(account: Account) -> None:
    """Raise Refused when nothing is sold to this account now."""
    if account.closing_at or account.opened_at is None:
        raise Refused("This hosting is being closed.")
    if account.blocked_at:
        raise Refused("This hosting is blocked.")
    if account.last_call_at:
        raise Refused(
            "This hosting is about to be deleted: nothing is sold for it any more, so that nobody "
            "pays for what goes."
        )


def _customer(account_id: str, attempt: str) -> tuple[Account, Order | None]:
    """Within a transaction: an account that may buy, and its order of this attempt if there is."""
    account = lock_account(account_id)
    if account is None:
        raise Refused("This hosting is closed.")
    twin = Order.get_or_none(Order.attempt == attempt)
    if twin is None:
        check_may_buy(account)
        if unpaid(account_id).count() >= OPEN_ORDERS:
            raise TooManyUnpaid
    return account, twin


def unpaid(account_id: str):
    """What the account's owner has ordered and can pay, or of which that is not certain."""
    return _unpaid(account_id).where(_is_of_owner())


def is_tip(order: Order) -> bool:
    """Whether it is money that others give: its payer may be anybody."""
    return order.door in TIP_DOORS


def is_of_others():
    """As `is_tip`, for a query."""
    return Order.door << TIP_DOORS


def _is_of_owner():
    return Order.door.is_null() | (Order.door == "owner")


def _unpaid(account_id: str):
    # One that was given up without an invoice is cancelled first and released later. One with an
    # invoice is cancelled when the node has deleted that.
    is_given_up = Order.cancelled_at.is_null(False) & Order.bolt11.is_null()
    return payable(account_id).where(~is_given_up).order_by(Order.placed_at)


def payable(account_id: str):
    """What the node may still have an unpaid invoice of."""
    its_own = Order.account == account_id
    return Order.select().where(its_own & Order.paid_at.is_null() & Order.released_at.is_null())


def arriving(account_id: str):
    """What is paid for an account and has not taken effect."""
    its_own = Order.account == account_id
    return Order.select().where(its_own & Order.paid_at.is_null(False) & Order.applied_at.is_null())


def _of_owner(account: Account, buyer: Buyer, attempt: str) -> dict:
    # The name: should the hosting be gone when the payment comes, it is opened anew under it.
    facts = {"account": account, "username": account.username}
    epoch = account.receipt_epoch if buyer.holder is None else buyer.receipt_epoch
    facts |= {"holder": buyer.holder, "receipt_epoch": epoch}
    return facts | {"browser": buyer.browser, "attempt": attempt}


def _size_columns(size: Size) -> dict:
    return {
        "space_mb": size.space_mb,
        "extra_addresses": size.extra_addresses,
        "extra_domains": size.extra_domains,
    }


# -- its invoice ---------------------------------------------------------------------


def _ask_for_invoice(shop: Shop, order: Order, metadata: str | None) -> None:
    invoice = shop.node.create_invoice(
        label(shop, order),
        order.amount_msat,
        metadata or describe(order),
        shop.config.invoice_minutes * 60,
        only_hash=metadata is not None,
    )
    if not _keep_invoice(order, invoice):
        raise NodeError("the order was given up before its invoice came")
    logger.info("order %s: placed, %d msat", order.token[:8], order.amount_msat)


def _keep_invoice(order: Order, invoice: Invoice) -> bool:
    with transaction():
        node_problems.note_warnings(order.amount_msat, invoice.warnings)
        kept = (
            Order.update(
                bolt11=invoice.bolt11,
                payment_hash=invoice.payment_hash,
                invoice_hash=hash_of(invoice.bolt11),
                expires_at=invoice.expires_at,
            )
            .where(
                (Order.token == order.token)
                & Order.cancelled_at.is_null()
                & (Order.bolt11.is_null() | (Order.bolt11 == invoice.bolt11))
            )
            .execute()
        )
    return kept == 1


def hash_of(bolt11: str) -> str:
    """What is kept of an invoice: who has its text as a whole can be told, and nobody else."""
    return hashlib.sha256(bolt11.lower().encode()).hexdigest()


def redeem(token: str) -> bool:
    """Note that a paid order's token was shown for what it bought; False when it was before."""
    first = Order.update(redeemed_at=now()).where(
        (Order.token == token) & Order.redeemed_at.is_null()
    )
    return first.execute() == 1


def give_up(token: str) -> bool:
    """Free an order's name at once, if its invoice was shown to nobody."""
    with transaction():
        given_up = (
            Order.update(cancelled_at=now(), held_name=None)
            .where(
                (Order.token == token)
                & Order.bolt11.is_null()
                & Order.paid_at.is_null()
                & Order.cancelled_at.is_null()
            )
            .execute()
        )
        if given_up:
            _free(token)
    return given_up == 1


def label(shop: Shop, order: Order) -> str:
    return shop.config.label_prefix + order.token


def describe(order: Order) -> str:
    """The invoice's description: the order's terms in a form that never changes, without a name.

    An order lost with the database can be rebuilt from it.
    """
    extras = order.extra_addresses or order.extra_domains
    size = f"{order.space_mb} MB"
    if extras:
        size += f" {order.extra_addresses} addresses {order.extra_domains} domains"
    time = f" {order.duration} {order.unit}" if order.duration else ""
    return f"Web hosting: {order.kind} {size}{time} {order.token[:8]}"


def size_of(order: Order) -> Size:
    return Size(order.space_mb, order.extra_addresses, order.extra_domains)


def was_renewed(order: Order) -> bool:
    """Whether it has given an account that was there more time or another size."""
    return order.kind in ("extend", "resize", "topup") and order.applied_at is not None


def is_too_late(order: Order) -> bool:
    """Whether a paid order waits until its hosting is deleted, to open it anew.

    A tip opens none: it is too late as soon as the owner has closed the hosting.
    """
    if order.kind == "open" or order.paid_at is None or order.applied_at is not None:
        return False
    account = order.account
    if account is None or account.deleting_at is not None:
        return True
    return is_tip(order) and account.closing_at is not None and account.last_call_at is None


def terms_of(order: Order) -> Terms | None:
    """None: it names no time (another size)."""
    return Terms(order.space_mb, order.duration, order.unit) if order.duration else None


# -- what has become of it -----------------------------------------------------------


def find(token: str) -> Order | None:
    """The order of this token, whatever somebody may have written as one."""
    # The check first: PostgreSQL fails on a NUL.
    return models.find(Order.token, token) if token.isalnum() else None


def state(order: Order) -> str:
    """preparing, unpaid, paid, cancelled, expired, or checking before one of these is certain.

    closed: it was paid for, and its hosting is no more.
    """
    if order.applied_at is not None and order.account_id is None:
        return "closed"
    if order.paid_at is not None:
        return "paid"
    if is_certain(order):
        return "expired" if order.cancelled_at is None else "cancelled"
    if order.cancelled_at or order.missing_at or order.expires_at <= now():
        return "checking"
    if order.bolt11 is None:
        return "preparing"
    return "unpaid"


def is_certain(order: Order) -> bool:
    """Whether nobody has paid an unpaid order, and nobody can any more."""
    if order.released_at is None:  # else it was given up: its invoice was shown to nobody
        return order.cancelled_at is not None and order.bolt11 is None
    return order.missing_at is None


# -- releasing -----------------------------------------------------------------------


def cancel(shop: Shop, order: Order) -> bool:
    """Withdraw an unpaid order; False when the node says that it is paid: then it stands.

    Raises NodeError, and NotCertain when the node does not know its invoice: `payments.tidy` finds
    out then whether it was paid, and else ends it.
    """
    is_deleted = withdraw(shop, order, cancelled_at=now())
    if is_deleted is None and order.payment_hash and not Order.get_by_id(order.token).released_at:
        raise NotCertain
    return is_deleted is not False and release(order.token)


def withdraw(shop: Shop, order: Order, **facts) -> bool | None:
    """Have the node delete an unpaid order's invoice: its answer. Raises NodeError.

    That is noted first, with the facts: a node that does not answer may do it later. It is taken
    back when it was paid, or when the node did not know it though nobody had told it to delete it.
    """
    unpaid_one = (Order.token == order.token) & Order.paid_at.is_null()
    unpaid_one &= Order.released_at.is_null()
    told = Order.update(withdrawn_at=now(), **facts)
    is_first = told.where(unpaid_one & Order.withdrawn_at.is_null()).execute()
    is_deleted = shop.node.delete_unpaid_invoice(label(shop, order))
    if is_deleted is False:
        stands = unpaid_one & Order.bolt11.is_null(False)
        Order.update(withdrawn_at=None, cancelled_at=None).where(stands).execute()
    if is_deleted is None and is_first:
        Order.update(withdrawn_at=None).where(unpaid_one).execute()
    return is_deleted


def close_account(shop: Shop, account: Account) -> bool:
    """Close an account once none of its invoices can be paid any more.

    False, and nothing is closed, when a payment came or its end has moved since `account` was
    read. Raises NotCertain and NodeError; what was cancelled before stays so. Twice is once.
    """
    if not Account.get_or_none(Account.id == account.id, Account.closing_at.is_null()):
        return True
    unpaid_ones = list(_unpaid(account.id))
    for _ in range(RACES):
        for order in unpaid_ones:
            if not cancel(shop, order) and not Order.get_by_id(order.token).released_at:
                return False
        # Strangers go on asking for invoices of tips meanwhile; what its owner orders stops it.
        unpaid_ones = list(_unpaid(account.id).where(is_of_others()))
        if not unpaid_ones:
            break
    is_closed = False
    try:
        if not offers.turn_off(shop, account.id):
            raise NotCertain
        with transaction():
            is_closed = _close_within(account)
    finally:
        if not is_closed:
            offers.recheck(account.id)
    return is_closed


def _close_within(account: Account) -> bool:
    locked = lock_account(account.id)
    if locked is None or locked.closing_at:
        return True
    if arriving(account.id).exists() or locked.expires_at != account.expires_at:
        return False
    # Ordered, or switched on, meanwhile.
    if _unpaid(account.id).exists() or not offers.is_off(account.id):
        raise NotCertain
    wanted.close_within(account.id)
    return True


def release(token: str, missing_at: int | None = None) -> bool:
    """Free an order's name: the node has no invoice of it to pay any more.

    `missing_at`: since when it has none, if nobody can say whether it was paid before.
    """
    with transaction():
        released = (
            Order.update(released_at=now(), attempt=None, bolt11=None, missing_at=missing_at)
            .where((Order.token == token) & Order.paid_at.is_null() & Order.released_at.is_null())
            .execute()
        )
        if released:
            _free(token)
    if released:
        logger.info("order %s: released", token[:8])
    return released == 1


def _free(token: str) -> None:
    """Within a transaction: give an unpaid order's name back to the shop."""
    order = Order.get_by_id(token)
    Order.update(attempt=None).where(Order.token == token).execute()
    if order.kind == "open" and order.account_id is not None:
        Order.update(account=None).where(Order.token == token).execute()
        Account.delete().where(Account.id == order.account_id).execute()
