"""Payments: each of the node's is recorded once, and its order takes effect once.

Recording depends on no business rule; taking effect is separate and retried.
"""

import logging
import secrets
import string

from peewee import Case, IntegrityError, fn

from lightningspace.base import messages, passwords
from lightningspace.base.clock import now
from lightningspace.base.models import Account, Cursor, Order, lock_account, transaction
from lightningspace.base.money_models import Refund
from lightningspace.base.prices import DAY, Holding, Size
from lightningspace.base.vault import Unreadable
from lightningspace.outside.node import NodeError, NodeRefused, Payment
from lightningspace.rules import (
    accounts,
    capacity,
    clock_watch,
    gate_income,
    income,
    invoices,
    ledger,
    node_problems,
    offers,
    order_book,
    orders,
    outbox,
    quotes,
    reminders,
    wanted,
)
from lightningspace.rules.order_book import TOKEN_LENGTH, OrderKind, label
from lightningspace.shop import Shop

logger = logging.getLogger(__name__)

# An order without an invoice after this time was interrupted: nobody has seen its invoice.
INTERRUPTED_SECONDS = 60
# How long released orders are kept for "order again", with what was typed in them.
KEPT_SECONDS = DAY
# How long released orders are kept that may have been paid after all: the operator must see them.
DOUBTFUL_SECONDS = 30 * DAY
# How much later an invoice that the node does not know is looked for once more.
LOOK_AGAIN_SECONDS = 30


class _SomebodyWasFaster(Exception):
    """Rolls a transaction back whose conditional update came second."""


# -- recording -----------------------------------------------------------------------


def cursor(node_id: str) -> Cursor:
    """The last payment recorded from this node; its pay_index is 0 before the first."""
    return Cursor.get_or_none(Cursor.node_id == node_id) or Cursor(node_id=node_id, pay_index=0)


def checked_cursor(shop: Shop, node_id: str) -> int:
    """The pay_index to follow this node from: the cursor's, if the node still has that payment.

    Otherwise 0: all payments are read again, and those recorded before are recognized by their
    payment hashes. Raises NodeError.
    """
    last = cursor(node_id)
    if not last.pay_index or shop.node.has_payment(last.pay_index, last.payment_hash):
        return last.pay_index
    if follow_from_start(last):
        logger.error("%s; all its payments are read again", node_problems.LOST_PAYMENT)
    return 0


def record(shop: Shop, node_id: str, payment: Payment, after: int) -> bool:
    """Record a payment and move the cursor past it; False when it was known or is not ours.

    `after`: where the cursor was when it was waited for; if that has been set back since, it stays.
    A label of ours without an order is recorded too, as a lost order; of the gate's payments only
    the sums are kept. May be called twice. Raises NodeError when it was paid to an offer and only
    the node can say whose that is.
    """
    prefix, token = shop.config.label_prefix, payment.label[-TOKEN_LENGTH:]
    # The whole label: another program's prefix may begin with ours.
    is_ours = payment.label == prefix + token and set(token) <= set(string.hexdigits)
    is_tip, tipped = False, None
    if payment.offer_id:
        is_tip, tipped = offers.account_of(shop, payment.offer_id)
    with transaction():
        new = is_ours and _record(token, node_id, payment)
        new |= is_tip and _record_tip(shop, node_id, payment, tipped)
        Cursor.insert(node_id=node_id, pay_index=0).on_conflict_ignore().execute()
        moved = {"pay_index": payment.pay_index, "payment_hash": payment.payment_hash}
        is_there = (Cursor.node_id == node_id) & (Cursor.pay_index == after)
        if Cursor.update(moved).where(is_there).execute():
            gate_income.count(shop, node_id, payment)
    return new


def _record(token: str, node_id: str, payment: Payment) -> bool:
    facts = _facts(node_id, payment)
    recorded = (
        # Wallets that paid an address compare our answer with their invoice (LUD-21).
        Order.update(
            facts, bolt11=Case(None, [(Order.door == order_book.Door.ADDRESS, Order.bolt11)])
        )
        .where(
            (Order.token == token)
            & Order.paid_at.is_null()
            & (Order.payment_hash.is_null() | (Order.payment_hash == payment.payment_hash))
        )
        .execute()
    )
    if recorded:
        logger.info("order %s: paid, %d msat", token[:8], payment.received_msat)
        income.note_order(token)
        return True
    if Order.get_or_none(Order.payment_hash == payment.payment_hash):
        return False
    if Order.get_or_none(Order.token == token):
        token = payment.payment_hash
    _keep_lost(token, facts)
    return True


def _record_tip(shop: Shop, node_id: str, payment: Payment, account_id: str | None) -> bool:
    """Record a payment to an account's offer as a top-up, ordered and paid in one moment."""
    if Order.get_or_none(Order.payment_hash == payment.payment_hash):
        return False
    facts = _facts(node_id, payment)
    account = account_id and Account.get_or_none(Account.id == account_id)
    taken = account and _taken(shop, account, payment)
    if not taken:
        _keep_lost(payment.payment_hash, facts)
        return True
    order = orders.create(
        shop,
        kind=OrderKind.TOP_UP,
        door=order_book.Door.OFFER,
        offer_id=payment.offer_id,
        amount_msat=payment.received_msat,
        **vars(Size.of(account)),
        **taken,
        **facts,
    )
    logger.info("order %s: a tip of %d msat", order.token[:8], payment.received_msat)
    income.note(income.Kind.TIP, payment.paid_at, payment.received_msat)
    return True


def record_tip_again(shop: Shop, lost: Order, payment: Payment, account_id: str) -> bool:
    """Record a lost payment as what it was, a tip to the offer of an account that is there again.

    False: it is lost no longer.
    """
    with transaction():
        if not Order.delete().where(is_still_lost(lost)).execute():
            return False
        income.forget_lost(lost.paid_at, lost.received_msat)
        return _record_tip(shop, lost.node_id, payment, account_id)


def _taken(shop: Shop, account: Account, payment: Payment) -> dict | None:
    """Within a transaction: what the order of a payment to the account's offer says.

    None: it is too small for a hosting that is being closed. An offer takes any amount. One below
    the smallest tip becomes credit at once, moves no end and is only counted: else a thousandth of
    a sat a fortnight would keep a suspended hosting for ever, and anybody could fill its owner's
    lists for nothing.
    """
    moment, msat = now(), payment.received_msat
    if msat >= shop.config.tip_min_sats * 1000:
        return {"account": account, "message": messages.cleaned(payment.payer_note)}
    kept = Account.update(
        credit_msat=Account.credit_msat + msat,
        paid_msat=Account.paid_msat + msat,
        small_tips=Account.small_tips + 1,
        small_tips_msat=Account.small_tips_msat + msat,
        calendar_at=moment,
    ).where((Account.id == account.id) & Account.closing_at.is_null())
    if not kept.execute():
        return None
    # Without an account, like the orders of a closed one; its hash still identifies the payment.
    in_effect = {"applied_at": moment, "bought_seconds": 0, "ends_at": account.expires_at}
    return in_effect | {"bought_credit_msat": msat}


def _facts(node_id: str, payment: Payment) -> dict:
    return {
        "node_id": node_id,
        "pay_index": payment.pay_index,
        "paid_at": payment.paid_at,
        "received_msat": payment.received_msat,
        "payment_hash": payment.payment_hash,
    }


def _keep_lost(token: str, facts: dict) -> None:
    moment = now()
    Order.create(token=token, kind=OrderKind.LOST, placed_at=moment, expires_at=moment, **facts)
    logger.error("payment %s has no order: see `flask problems`", facts["payment_hash"][:8])
    income.note(income.Kind.LOST, facts["paid_at"], facts["received_msat"])


def follow_from_start(last: Cursor) -> bool:
    """Read the node's payments again from the first; False: another worker was faster."""
    as_read = (Cursor.node_id == last.node_id) & (Cursor.payment_hash == last.payment_hash)
    with transaction():
        if not Cursor.update(pay_index=0, payment_hash=None).where(as_read).execute():
            return False
        node_problems.note_lost_payment()
        offers.recheck_all()
    return True


def due() -> list[Order]:
    """Paid orders that have not taken effect."""
    waits = (
        Order.paid_at.is_null(False) & Order.applied_at.is_null() & (Order.kind != OrderKind.LOST)
    )
    return list(
        Order.select(Order.token, Order.account).where(waits & ~_too_late()).order_by(Order.paid_at)
    )


def lost() -> list[Order]:
    """Payments that no order waited for, and nobody has claimed back; the oldest first."""
    return _without_account(Order.kind == OrderKind.LOST)


def late_tips() -> list[Order]:
    """Tips that came when their hosting was gone, and nobody has claimed back; the oldest first."""
    return _without_account(_too_late())


def is_still_lost(order: Order):
    """The condition that no order waits for this payment, and nobody has claimed it back."""
    return (Order.token == order.token) & (Order.kind == OrderKind.LOST) & ~_is_claimed()


def _is_claimed():
    return fn.EXISTS(Refund.select(Refund.id).where(Refund.order == Order.token))


def _without_account(which) -> list[Order]:
    waits = Order.paid_at.is_null(False) & Order.applied_at.is_null() & Order.account.is_null()
    waits &= ~_is_claimed()
    return list(Order.select().where(waits & which).order_by(Order.paid_at))


def _too_late():
    return (Order.kind == OrderKind.TOP_UP) & Order.account.is_null()


# -- taking effect -------------------------------------------------------------------


def apply(shop: Shop, token: str) -> str | None:
    """Let a paid order take effect, exactly once.

    Return the account's id; None when it took effect before, or has to wait until its account,
    which is being deleted, is gone. Many may call it at once.
    """
    order = Order.get_by_id(token)
    if order.paid_at is None or order.applied_at is not None or order.kind == OrderKind.LOST:
        return None
    if order.kind != OrderKind.OPEN and order.account_id is not None:
        with transaction():
            return _renew(shop, token)
    if order.kind == OrderKind.TOP_UP:
        return None  # its hosting is gone, and a tip opens none: see `late_tips`
    if order.account_id is None:
        _reserve_again(shop, token)
        order = Order.get_by_id(token)
    return _open(shop, order)


def _open(shop: Shop, order: Order) -> str | None:
    password, is_generated = _initial_password(shop, order.account)
    password_hash = passwords.make_hash(password)
    terms, rate = order_book.terms_of(order), shop.prices.rate(Size.of(order))
    horizon = shop.config.horizon_seconds
    holding = Holding().buy(order.received_msat, rate, horizon, terms.seconds if terms else 0)
    moment = clock_watch.latest() or now()
    with transaction():
        ends_at = moment + holding.seconds
        if not _take_effect(order.token, holding.seconds, ends_at, holding.credit_msat):
            return None
        if order_book.lacks_name(order):
            order.account.username = orders.name_or_another(shop, order)
        Account.update(
            server=capacity.take_roomiest(shop),
            username=order.account.username,
            opened_at=moment,
            expires_at=ends_at,
            valued_at=moment,
            value_msat=holding.value_msat,
            credit_msat=holding.credit_msat,
            paid_msat=order.received_msat,
            calendar_at=moment,
            password_hash=password_hash,
            # Whoever typed a password has a way in that lasts.
            entered_at=None if is_generated else moment,
            # A generated password stays readable until the customer has noted it.
            password_sealed=shop.vault.seal(password) if is_generated else None,
            held_by=None,
        ).where(Account.id == order.account_id).execute()
        wanted.want_all(shop, order.account, password, is_generated)
        reminders.mail_link(shop, Account.get_by_id(order.account_id))
    logger.info("order %s: account %s opened", order.token[:8], order.account_id)
    return order.account_id


def _take_effect(token: str, seconds: int, ends_at: int, credit_msat: int) -> bool:
    applied = Order.update(
        applied_at=now(),
        bought_seconds=seconds,
        ends_at=ends_at,
        bought_credit_msat=credit_msat,
        # The same form sent again is a new wish now; a program repeats its key for the same order.
        attempt=Case(None, [(Order.browser.is_null(), Order.attempt)]),
        held_name=None,
    ).where((Order.token == token) & Order.applied_at.is_null())
    return applied.execute() == 1


def _renew(shop: Shop, token: str) -> str | None:
    """Within a transaction: turn a payment for an existing account into time or another size."""
    account = lock_account(Order.get_by_id(token).account_id)
    order = Order.get_by_id(token)  # again: whoever held the account's row may have been faster
    if account is None or order.applied_at is not None or order_book.is_too_late(order):
        return None
    # Not as of now: if our clock is ahead at the moment, that would give time away.
    at = clock_watch.latest() or min(now(), order.paid_at)
    before = ledger.holding(account, at)
    # What was paid for is given, however full the server is and however much is in use.
    size = Size.of(order) if order.kind == OrderKind.RESIZE else None
    after = quotes.bought(shop, account, order, order.received_msat, at)
    ends_at = ledger.ends_at(account, after, at)
    credit_msat = max(0, after.credit_msat - before.credit_msat)
    if not _take_effect(token, after.seconds - before.seconds, ends_at, credit_msat):
        return None
    _count(order)
    accounts.renew(shop, account, after, size, at)
    outbox.withdraw(account.id, *outbox.OF_THE_END)
    logger.info("order %s: account %s %s", token[:8], account.id, order.kind)
    return account.id


def _count(order: Order) -> None:
    paid_msat = Account.paid_msat + order.received_msat
    Account.update(paid_msat=paid_msat).where(Account.id == order.account_id).execute()


def _initial_password(shop: Shop, account: Account) -> tuple[str, bool]:
    """The password typed with the order, or a generated one (True)."""
    if account.password_sealed:
        try:
            return shop.vault.unseal(account.password_sealed), False
        except Unreadable:
            logger.error("account %s: its password cannot be read, a new one is made", account.id)
    return passwords.generate(), True


def _reserve_again(shop: Shop, token: str) -> None:
    """Make an account for a paid order that has none, for its name was released.

    That takes a database or a node restored from a backup. The money is there, so it opens, and
    under a generated name if its own is gone.
    """
    for _ in range(orders.RACES):
        try:
            with transaction():
                # A write, so that others wait here: opening locks the order first, too.
                alone = (Order.token == token) & Order.account.is_null()
                if not Order.update(placed_at=Order.placed_at).where(alone).execute():
                    return
                order = Order.get_by_id(token)
                account = Account.create(
                    id=secrets.token_hex(8),
                    username=orders.name_or_another(shop, order),
                    server=capacity.roomiest(shop),
                    receipt_epoch=order.receipt_epoch,
                    **vars(Size.of(order)),
                )
                is_late = order.kind != OrderKind.OPEN or order.is_late
                placed = (
                    Order.update(account=account, kind=OrderKind.OPEN, is_late=is_late)
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


# -- open orders ---------------------------------------------------------------------


def tidy(shop: Shop, node_id: str) -> bool:
    """Look up every open order at the node; release the expired ones; forget the old ones.

    Return whether a payment was found that the watcher had not seen. Raises NodeError.
    """
    found, unknown = False, []
    is_open = Order.paid_at.is_null() & Order.released_at.is_null()
    for order in list(Order.select().where(is_open).order_by(Order.placed_at)):
        try:
            found |= _look_up(shop, node_id, order, unknown)
        except NodeRefused as refused:  # of this order alone: the others go on
            logger.error("order %s: %s", order.token[:8], refused)
    if unknown:
        found |= _find_out(shop, node_id, unknown)
    is_kept = Order.missing_at.is_null(False) & (Order.released_at > now() - DOUBTFUL_SECONDS)
    is_over = Order.paid_at.is_null() & (Order.released_at <= now() - KEPT_SECONDS)
    Order.delete().where(is_over & ~is_kept).execute()
    return found


def doubtful() -> list[Order]:
    """Released orders that may or may not have been paid; the oldest first."""
    doubts = Order.paid_at.is_null() & Order.released_at.is_null(False)
    doubts &= Order.missing_at.is_null(False)
    return list(Order.select().where(doubts).order_by(Order.released_at))


def _look_up(shop: Shop, node_id: str, order: Order, unknown: list[Order]) -> bool:
    """Whether it was found paid. An order whose invoice the node does not know joins `unknown`."""
    interrupted = order.bolt11 is None and order.placed_at <= now() - INTERRUPTED_SECONDS
    given_up = interrupted and invoices.give_up(order.token)
    is_over = given_up or order.cancelled_at or order.expires_at <= now()
    if is_over and invoices.withdraw(shop, order):
        invoices.release(order.token)
        return False
    is_known, payment = shop.node.look_up(label(shop, order))
    if not is_known and order.payment_hash is None:
        if is_over:  # nobody has seen its invoice
            invoices.release(order.token)
        return False
    if not is_known:
        unknown.append(order)
    elif order.missing_at:  # the node was restored once more, and knows it again
        Order.update(missing_at=None).where(Order.token == order.token).execute()
    if payment is None:
        return False
    # The cursor stays: payments before this one may still be on their way to the watcher.
    with transaction():
        return _record(order.token, node_id, payment)


def _find_out(shop: Shop, node_id: str, unknown: list[Order]) -> bool:
    """Whether some were paid, by the node's books. These may be slow, so they come last."""
    found = False
    try:
        # From a day earlier, for a clock that was wrong.
        income = shop.node.income(unknown[0].placed_at - DAY)
    except NodeError as error:
        logger.warning("orders whose invoices the node does not know wait: %s", error)
        return False
    for order in unknown:
        payment = _payment_in(shop, order, income)
        if payment:
            with transaction():
                found |= _record(order.token, node_id, payment)
    return found


def _payment_in(shop: Shop, order: Order, income: dict | None) -> Payment | None:
    """The payment, by the node's books, of an order whose invoice the node no longer knows.

    Without one the order is released at the second look. Unless we had the node delete the invoice,
    the node was restored or cleaned, and may have lost the payment.
    """
    if income and order.payment_hash in income:
        received_msat, at = income[order.payment_hash]
        logger.error("order %s: paid, and its invoice cleaned away at the node", order.token[:8])
        return Payment(label(shop, order), order.payment_hash, 0, at, received_msat)
    if order.missing_at is None:
        still = (Order.token == order.token) & Order.released_at.is_null()
        Order.update(missing_at=now()).where(still).execute()
    elif order.missing_at <= now() - LOOK_AGAIN_SECONDS:
        is_certain = income is not None and order.withdrawn_at is not None
        if (
            invoices.release(order.token, None if is_certain else order.missing_at)
            and not is_certain
        ):
            logger.error(
                "order %s: the node does not know its invoice any more; it may have been paid",
                order.token[:8],
            )
    return None
