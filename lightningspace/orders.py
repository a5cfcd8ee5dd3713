"""What was bought: place an order, record its payment, let it take effect, or release it.

An order reserves its name and space before its invoice is asked for. Only the node says that
it is paid: recording that depends on no business rule, taking effect is separate and retried.
"""

import logging
import secrets
import string
from dataclasses import dataclass

from peewee import IntegrityError, fn

from lightningspace import names, passwords, wanted
from lightningspace.clock import now
from lightningspace.models import Account, Cursor, Order, RestingName, Server, transaction
from lightningspace.node import Invoice, NodeError, Payment, Refused
from lightningspace.prices import DAY, Terms
from lightningspace.shop import Shop
from lightningspace.vault import Unreadable

logger = logging.getLogger(__name__)

# A lost race for a name or a place is run again; the reads of the next round say what is gone.
RACES = 20
TOKEN_LENGTH = 32
# An order without an invoice after this time was interrupted: nobody has seen its invoice.
INTERRUPTED_SECONDS = 60
# Released orders stay for "order again", with what was typed in them, for this long.
KEPT_SECONDS = DAY
# Unpaid orders hold at most this part of the space that is not sold.
UNPAID_PART = 5


class NameTaken(Exception):
    """`token`: the unpaid order of the same browser that holds the name, if it is that."""

    def __init__(self, token: str | None):
        super().__init__("the name is taken")
        self.token = token


class SoldOut(Exception):
    """No server has the space left, or unpaid orders hold too much of it just now."""


class _SomebodyWasFaster(Exception):
    """Rolls a transaction back whose conditional update came second."""


class TooManyUnpaid(Exception):
    """The client has as many unpaid orders as it may."""


@dataclass(frozen=True)
class Wish:
    """What one submitted form asks for. `client` is the client's network address."""

    terms: Terms
    username: str | None
    email: str | None
    password: str | None
    browser: str
    client: str
    form_id: str


# -- placing -------------------------------------------------------------------------


def place(shop: Shop, wish: Wish) -> Order:
    """Reserve name and space, then get an invoice. The same form again answers the same order.

    Raises NameTaken, SoldOut, TooManyUnpaid; NodeError leaves nothing reserved.
    """
    order, is_new = _reserve(shop, wish, _attempt(shop, wish))
    if order.bolt11 is None and order.cancelled_at is None:
        try:
            _ask_for_invoice(shop, order)
        except NodeError:
            # Not another's: the other half of a double click may be about to get its invoice.
            if is_new:
                _give_up(order.token)
            raise
    return Order.get_by_id(order.token)


def _attempt(shop: Shop, wish: Wish) -> str:
    terms = wish.terms
    typed = (terms.space_mb, terms.duration, terms.unit, wish.username, wish.email, wish.password)
    return shop.vault.mac("attempt", wish.browser, wish.form_id, *(str(part) for part in typed))


def _reserve(shop: Shop, wish: Wish, attempt: str) -> tuple[Order, bool]:
    """The order of this attempt, and whether it was made just now."""
    for _ in range(RACES):
        try:
            with transaction():
                return _reserve_once(shop, wish, attempt)
        except IntegrityError:
            continue
    raise SoldOut


def _reserve_once(shop: Shop, wish: Wish, attempt: str) -> tuple[Order, bool]:
    taken = wish.username and Account.get_or_none(Account.username == wish.username)
    # After the name: a double click's other half may have committed between the two.
    twin = Order.get_or_none(Order.attempt == attempt)
    if twin:
        return twin, False
    if taken:
        raise NameTaken(_own_unpaid_order(wish))
    if wish.username and _rests(shop, wish.username):
        raise NameTaken(None)
    terms = wish.terms
    account = Account.create(
        id=secrets.token_hex(8),
        username=wish.username or _free_name(shop),
        server=_hold(terms.space_mb),
        space_mb=terms.space_mb,
        held_by=_free_place(shop, wish.client),
        email=wish.email,
        password_sealed=shop.vault.seal(wish.password) if wish.password else None,
    )
    moment = now()
    order = Order.create(
        token=secrets.token_hex(TOKEN_LENGTH // 2),
        kind="open",
        account=account,
        attempt=attempt,
        browser=wish.browser,
        username=wish.username,
        space_mb=terms.space_mb,
        duration=terms.duration,
        unit=terms.unit,
        amount_msat=shop.prices.price_msat(terms),
        placed_at=moment,
        expires_at=moment + shop.config.invoice_minutes * 60,
    )
    return order, True


def _rests(shop: Shop, username: str) -> bool:
    """Whether somebody had the name not long ago: mails of others still go to it."""
    hashes = shop.vault.macs("name", username)
    return (
        RestingName.select()
        .where((RestingName.name_hash << hashes) & (RestingName.until > now()))
        .exists()
    )


def _free_name(shop: Shop) -> str:
    while _rests(shop, name := names.generate()):
        continue
    return name


def _own_unpaid_order(wish: Wish) -> str | None:
    order = (
        Order.select(Order.token)
        .join(Account)
        .where(
            (Account.username == wish.username)
            & (Order.browser == wish.browser)
            & Order.paid_at.is_null()
        )
        .first()
    )
    return order.token if order else None


def _hold(space_mb: int) -> int:
    """Take space on the server with the most unsold space, for an order not yet paid."""
    left = Server.capacity_mb - Server.held_mb
    held_by_unpaid = Server.unpaid_mb + space_mb
    not_sold = Server.capacity_mb - Server.held_mb + Server.unpaid_mb
    for server in Server.select(Server.id).order_by(left.desc(), Server.id):
        held = (
            Server.update(held_mb=Server.held_mb + space_mb, unpaid_mb=held_by_unpaid)
            .where(
                (Server.id == server.id)
                & (Server.held_mb + space_mb <= Server.capacity_mb)
                # One order may always be open, however small the shop.
                & ((held_by_unpaid * UNPAID_PART <= not_sold) | (Server.unpaid_mb == 0))
            )
            .execute()
        )
        if held:
            return server.id
    raise SoldOut


def _free_place(shop: Shop, client: str) -> str:
    """One of the places for unpaid orders that each client address has."""
    owner = shop.vault.mac("client", client)
    places = [f"{owner}:{number}" for number in range(shop.config.unpaid_per_client)]
    taken = {a.held_by for a in Account.select(Account.held_by).where(Account.held_by << places)}
    for place in places:
        if place not in taken:
            return place
    raise TooManyUnpaid


def _ask_for_invoice(shop: Shop, order: Order) -> None:
    invoice = shop.node.create_invoice(
        label(shop, order), order.amount_msat, describe(order), shop.config.invoice_minutes * 60
    )
    if not _keep_invoice(order.token, invoice):
        raise NodeError("the order was given up before its invoice came")
    logger.info("order %s: placed, %d msat", order.token[:8], order.amount_msat)


def _keep_invoice(token: str, invoice: Invoice) -> bool:
    with transaction():
        kept = (
            Order.update(
                bolt11=invoice.bolt11,
                payment_hash=invoice.payment_hash,
                expires_at=invoice.expires_at,
            )
            .where(
                (Order.token == token)
                & Order.cancelled_at.is_null()
                & (Order.bolt11.is_null() | (Order.bolt11 == invoice.bolt11))
            )
            .execute()
        )
    return kept == 1


def _give_up(token: str) -> bool:
    """Free an order's name and space at once, if its invoice was shown to nobody."""
    with transaction():
        given_up = (
            Order.update(cancelled_at=now())
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
    return (
        f"Web hosting: {order.kind} {order.space_mb} MB {order.duration} {order.unit} "
        f"{order.token[:8]}"
    )


def terms_of(order: Order) -> Terms:
    return Terms(order.space_mb, order.duration, order.unit)


# -- what has become of it -----------------------------------------------------------


def state(order: Order) -> str:
    """preparing, unpaid, paid, cancelled, expired, or checking before one of these is certain.

    closed: it was paid for, and its hosting is no more.
    """
    if order.applied_at is not None and order.account_id is None:
        return "closed"
    if order.paid_at is not None:
        return "paid"
    if order.cancelled_at is not None:
        return "cancelled"
    if order.released_at is not None:
        return "expired"
    if order.expires_at <= now():
        return "checking"
    if order.bolt11 is None:
        return "preparing"
    return "unpaid"


def space_left_mb() -> int:
    """The most space that one order could get now, on one server."""
    left = fn.MAX(Server.capacity_mb - Server.held_mb)
    return max(0, Server.select(left).scalar() or 0)


# -- payments ------------------------------------------------------------------------


def cursor(node_id: str) -> int:
    """The pay_index of the last payment recorded from this node; 0 before the first."""
    found = Cursor.get_or_none(Cursor.node_id == node_id)
    return found.pay_index if found else 0


def record(shop: Shop, node_id: str, payment: Payment, after: int) -> bool:
    """Keep a payment and move the cursor past it; False when it was known or is not ours.

    `after` is the cursor that it was waited for with: if it was set back meanwhile, it stays.
    A label of ours without an order is kept as well, as a lost order. May be called twice.
    """
    prefix, token = shop.config.label_prefix, payment.label[-TOKEN_LENGTH:]
    # The whole label: another program's prefix may begin with ours.
    is_ours = payment.label == prefix + token and set(token) <= set(string.hexdigits)
    with transaction():
        new = is_ours and _record(token, node_id, payment)
        Cursor.insert(node_id=node_id, pay_index=0).on_conflict_ignore().execute()
        Cursor.update(pay_index=payment.pay_index).where(
            (Cursor.node_id == node_id) & (Cursor.pay_index == after)
        ).execute()
    return new


def _record(token: str, node_id: str, payment: Payment) -> bool:
    facts = {
        "node_id": node_id,
        "pay_index": payment.pay_index,
        "paid_at": payment.paid_at,
        "received_msat": payment.received_msat,
        "payment_hash": payment.payment_hash,
    }
    recorded = (
        Order.update(facts)
        .where(
            (Order.token == token)
            & Order.paid_at.is_null()
            & (Order.payment_hash.is_null() | (Order.payment_hash == payment.payment_hash))
        )
        .execute()
    )
    if recorded:
        logger.info("order %s: paid, %d msat", token[:8], payment.received_msat)
        return True
    if Order.get_or_none(Order.payment_hash == payment.payment_hash):
        return False
    if Order.get_or_none(Order.token == token):
        token = payment.payment_hash
    moment = now()
    Order.create(token=token, kind="lost", placed_at=moment, expires_at=moment, **facts)
    logger.error("payment %s has no order: see `flask problems`", payment.payment_hash[:8])
    return True


def follow_from_start(node_id: str) -> None:
    """Read the node's payments again from the first: it was restored and counts backwards."""
    Cursor.update(pay_index=0).where(Cursor.node_id == node_id).execute()


def due() -> list[Order]:
    """Paid orders that have not taken effect."""
    return list(
        Order.select(Order.token, Order.account)
        .where(Order.paid_at.is_null(False) & Order.applied_at.is_null() & (Order.kind != "lost"))
        .order_by(Order.paid_at)
    )


def apply(shop: Shop, token: str) -> str | None:
    """Let a paid order take effect, exactly once: open the account that it ordered.

    Return the account's id; None when it had taken effect before. May be called by many at once.
    """
    order = Order.get_by_id(token)
    if order.paid_at is None or order.applied_at is not None or order.kind != "open":
        return None
    if order.account_id is None:
        _reserve_again(shop, token)
        order = Order.get_by_id(token)
    password, is_generated = _initial_password(shop, order.account)
    password_hash = passwords.make_hash(password)

    seconds = max(
        terms_of(order).seconds, shop.prices.seconds_for(order.received_msat, order.space_mb)
    )
    moment = now()
    with transaction():
        applied = (
            Order.update(applied_at=moment, bought_seconds=seconds, attempt=None)
            .where((Order.token == token) & Order.applied_at.is_null())
            .execute()
        )
        if not applied:
            return None
        Account.update(
            opened_at=moment,
            expires_at=moment + seconds,
            rate_msat_per_day=order.received_msat * DAY // seconds,
            password_hash=password_hash,
            # A generated password stays readable until the customer has noted it.
            password_sealed=shop.vault.seal(password) if is_generated else None,
            held_by=None,
        ).where(Account.id == order.account_id).execute()
        Server.update(unpaid_mb=Server.unpaid_mb - order.space_mb).where(
            Server.id == order.account.server_id
        ).execute()
        wanted.want_all(shop, order.account, password, is_generated)
    logger.info("order %s: account %s opened", token[:8], order.account_id)
    return order.account_id


def _initial_password(shop: Shop, account: Account) -> tuple[str, bool]:
    """The password typed with the order, or a generated one (True)."""
    if account.password_sealed:
        try:
            return shop.vault.unseal(account.password_sealed), False
        except Unreadable:
            logger.error("account %s: its password cannot be read, a new one is made", account.id)
    return passwords.generate(), True


def _reserve_again(shop: Shop, token: str) -> None:
    """A place for a paid order that has none: its name and space were released before.

    That takes a database or a node restored from a backup. The money is there, so it opens even
    over the server's capacity, and under a generated name if its own is gone.
    """
    for _ in range(RACES):
        try:
            with transaction():
                order = Order.get_by_id(token)
                if order.account_id:
                    return
                name = order.username
                if not name or Account.get_or_none(username=name) or _rests(shop, name):
                    name = _free_name(shop)
                left = Server.capacity_mb - Server.held_mb
                for_sale = Server.select().where(Server.capacity_mb > 0)
                server = for_sale.order_by(left.desc(), Server.id).get()
                Server.update(
                    held_mb=Server.held_mb + order.space_mb,
                    unpaid_mb=Server.unpaid_mb + order.space_mb,
                ).where(Server.id == server.id).execute()
                account = Account.create(
                    id=secrets.token_hex(8),
                    username=name,
                    server=server,
                    space_mb=order.space_mb,
                )
                placed = (
                    Order.update(account=account)
                    .where((Order.token == token) & Order.account.is_null())
                    .execute()
                )
                if not placed:
                    raise _SomebodyWasFaster
                logger.error("order %s: paid after its release, opened anew", token[:8])
                return
        except (IntegrityError, _SomebodyWasFaster):
            continue
    raise RuntimeError(f"no name found for order {token[:8]}")


# -- releasing -----------------------------------------------------------------------


def cancel(shop: Shop, order: Order) -> bool:
    """Withdraw an unpaid order; False when the node says that it is paid. Raises NodeError."""
    if not shop.node.delete_unpaid_invoice(label(shop, order)):
        return False
    return _release(order.token, cancelled_at=now())


def _release(token: str, **facts) -> bool:
    """Free an order's name and space: the node has no invoice of it to pay any more."""
    with transaction():
        released = (
            Order.update(released_at=now(), attempt=None, bolt11=None, **facts)
            .where((Order.token == token) & Order.paid_at.is_null() & Order.released_at.is_null())
            .execute()
        )
        if released:
            _free(token)
    if released:
        logger.info("order %s: released", token[:8])
    return released == 1


def _free(token: str) -> None:
    """Within a transaction: give an unpaid order's space and name back to the shop."""
    order = Order.get_by_id(token)
    if order.account_id is None:
        return
    account = order.account
    Order.update(account=None, attempt=None).where(Order.token == token).execute()
    Account.delete().where(Account.id == account.id).execute()
    Server.update(
        held_mb=Server.held_mb - account.space_mb, unpaid_mb=Server.unpaid_mb - account.space_mb
    ).where(Server.id == account.server_id).execute()


def tidy(shop: Shop, node_id: str) -> bool:
    """Look every open order up at the node; release the expired ones; forget the old ones.

    Return whether a payment was found that the watcher had not seen. Raises NodeError.
    """
    found = False
    open_orders = Order.select().where(Order.paid_at.is_null() & Order.released_at.is_null())
    for order in list(open_orders):
        try:
            found |= _look_up(shop, node_id, order)
        except Refused as refused:  # of this order: the others go on
            logger.error("order %s: %s", order.token[:8], refused)
    Order.delete().where(
        Order.paid_at.is_null() & (Order.released_at <= now() - KEPT_SECONDS)
    ).execute()
    return found


def _look_up(shop: Shop, node_id: str, order: Order) -> bool:
    interrupted = order.bolt11 is None and order.placed_at <= now() - INTERRUPTED_SECONDS
    given_up = interrupted and _give_up(order.token)
    is_over = given_up or order.cancelled_at or order.expires_at <= now()
    if is_over and shop.node.delete_unpaid_invoice(label(shop, order)):
        _release(order.token)
        return False
    payment = shop.node.find_payment(label(shop, order))
    if payment is None:
        return False
    # The cursor stays: payments before this one may still be on their way to the watcher.
    with transaction():
        return _record(order.token, node_id, payment)
