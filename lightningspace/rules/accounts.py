"""Accounts as a whole: their start, time and size; suspending, blocking, closing, forgetting."""

import logging
from collections.abc import Callable
from contextlib import suppress

from peewee import fn

from lightningspace import tipjar
from lightningspace.base.clock import now
from lightningspace.base.models import (
    Account,
    Domain,
    Notice,
    Offer,
    Order,
    Service,
    Session,
    Token,
    Wallet,
    lock_account,
    transaction,
)
from lightningspace.base.prices import ADDRESSES, DAY, DOMAINS, Extra, Holding, Size
from lightningspace.outside.node import NodeError
from lightningspace.rules import (
    areas,
    hostnames,
    invoices,
    ledger,
    offers,
    order_book,
    outbox,
    services,
    status,
    uploads,
    wanted,
)
from lightningspace.rules.order_book import OrderKind
from lightningspace.shop import Shop

logger = logging.getLogger(__name__)

# How long the last figure of the space used counts if the panel gives no newer one.
USE_KNOWN_SECONDS = 2 * 60 * 60
FORGOTTEN_AT_ONCE = 500
# What an order says of its customer: wiped once the order is over.
OF_CUSTOMER = ("username", "browser", "bolt11", "asked")


def may_send(shop: Shop, account: Account) -> bool:
    """Whether it may send mail: nobody should buy an hour's hosting for spam."""
    return ledger.paid_seconds(account) >= shop.config.mail_send_min_days * DAY


def begin_paid_time(shop: Shop, account: Account) -> None:
    """Start the paid time once each of the first services was applied, however long that took, and
    even if some of them have changed since. May be called twice, and with an account that was read
    long ago.
    """
    if account.ready_at or account.closing_at:
        return
    with transaction():
        account = lock_account(account.id)
        if account is None or account.ready_at or account.closing_at or _lacks_services(account):
            return
        moment = max(now(), account.opened_at)  # the clock may have been set back
        waited = moment - account.opened_at
        Account.update(
            ready_at=moment,
            valued_at=account.valued_at + waited,
            expires_at=account.expires_at + waited,
            calendar_at=moment,
            usage_at=moment,
        ).where(Account.id == account.id).execute()
        if shop.config.ftp_uploads:
            wanted.want_uploads(shop, account)
        Order.update(ends_at=Order.ends_at + waited).where(  # each order says its end
            (Order.account == account.id) & Order.applied_at.is_null(False)
        ).execute()
    status.note_ready(account.id, moment)
    logger.info("account %s: ready, %d s after it was opened", account.id, waited)


def _lacks_services(account: Account) -> bool:
    waits = (Service.account == account.id) & Service.applied_at.is_null()
    return Service.select().where(waits).exists()


def too_small(shop: Shop, account: Account, size: Size) -> str | None:
    """Why the account cannot have this size, in words for its owner; None: it can."""
    if size.space_mb < account.space_mb:
        if account.used_at is None or account.used_at < now() - USE_KNOWN_SECONDS:
            return "We do not know yet how much space you use. Please try again in five minutes."
        for kind, (used_mb, _) in services.space_mb(account).items():
            part = size.space_mb * services.SPLIT_PERCENT[kind] // 100
            if (used_mb or 0) > part:
                word = services.KINDS[kind].part.word
                return f"Your {word} uses {used_mb} MB, and would have only {part} MB of this size."
    for extra, count in _in_use(account).items():
        if count > extra.allowed(shop.config, size):
            words = extra.one_in_words if count == 1 else extra.in_words
            return f"You have {count} {words}, more than this size allows. Remove some first."
    return None


def _in_use(account: Account) -> dict[Extra, int]:
    rows = [row for row in services.of_account(account.id) if not row.gone]
    return {
        ADDRESSES: sum(row.kind in services.ADDRESSES for row in rows),
        DOMAINS: Domain.select().where(Domain.account == account.id).count(),
    }


def renew(
    shop: Shop,
    account: Account,
    holding: Holding,
    size: Size | None = None,
    at: int | None = None,
) -> None:
    """Within a transaction that has locked the account: give it this holding, and this size.

    `at`: from this moment on; None: from now on. With time left it is no longer suspended or
    closing.
    """
    facts = ledger.columns(account, holding, at, has_other_size=size is not None)
    kept_until = ledger.kept_until(shop, account, facts["valued_at"], size is not None)
    facts |= {"calendar_at": now(), "last_call_at": None, "kept_until": kept_until}
    # Before it is ready its time does not run, whatever its end says.
    if holding.seconds and (account.ready_at is None or facts["expires_at"] > now()):
        facts |= {"suspended_at": None, "closing_at": None}
    if size:
        facts |= vars(size)
    Account.update(facts).where(Account.id == account.id).execute()
    if account.last_call_at or account.closing_at:
        offers.recheck(account.id)
    after = Account.get_by_id(account.id)
    kinds: set[str] = set()
    if account.closing_at and not after.closing_at:
        kinds.update(services.KINDS)
    if account.suspended_at and not after.suspended_at:
        kinds.update(services.SWITCHED)
    if account.space_mb != after.space_mb:
        kinds.update(services.SPLIT_PERCENT)
    if may_send(shop, account) != may_send(shop, after):
        kinds.update(("mailbox", "site"))  # the site for PHP's mail()
    if kinds:
        wanted.look_now(account.id)
        wanted.raise_revisions(account.id, *kinds)
        if account.space_mb != after.space_mb:
            wanted.raise_revisions(account.id, "tipjar", note=tipjar.FULL)
            for reason in (areas.Reason.NO_SPACE, areas.Reason.FULL):
                wanted.raise_revisions(account.id, "paidarea", note=reason)


def suspend(account_id: str) -> None:
    """Switch everything off, until `resume`. May be called twice."""
    with transaction():
        wanted.touch(account_id, suspended_at=fn.COALESCE(Account.suspended_at, now()))
        wanted.raise_revisions(account_id, *services.SWITCHED)


def resume(account_id: str) -> None:
    """Switch on again what the customer had switched on. May be called twice."""
    with transaction():
        wanted.touch(account_id, suspended_at=None)
        wanted.raise_revisions(account_id, *services.SWITCHED)


def block(account_id: str, reason: str, category: str = "other") -> None:
    """Switch everything off, whatever is paid, and show the customer the reason. `category`: as in
    `abuse.Category`.
    """
    facts = {"blocked_at": fn.COALESCE(Account.blocked_at, now()), "blocked_reason": reason}
    facts["blocked_for"] = category
    _block(account_id, facts)


def unblock(account_id: str) -> None:
    _block(account_id, {"blocked_at": None, "blocked_reason": None, "blocked_for": None})


def _block(account_id: str, facts: dict) -> None:
    with transaction():
        wanted.touch(account_id, calendar_at=now(), **facts)
        wanted.raise_revisions(account_id, *services.SWITCHED)
        offers.recheck(account_id)


def close(account_id: str, by_calendar: bool = False) -> None:
    """Want nothing of the account any more. May be called twice.

    A payment takes a closing by the calendar back, until the panel is told to delete something.
    Only such an account has had a last call: that tells it from one that its owner closes.
    """
    facts = {"closing_at": now()} if by_calendar else {"closing_at": now(), "last_call_at": None}
    with suppress(wanted.AccountClosed), transaction():
        wanted.touch(account_id, **facts)
        wanted.raise_revisions(account_id, *services.KINDS)
        offers.recheck(account_id)


def reopen(account_id: str) -> bool:
    """Within a transaction: take back a closing by the calendar.

    False: it is closed by its owner, or not at all, or its deletion has begun.
    """
    facts = {"closing_at": None, "last_call_at": None, "calendar_at": now(), "reconcile_at": now()}
    reopened = Account.update(facts | {"revision": Account.revision + 1}).where(
        (Account.id == account_id)
        & Account.closing_at.is_null(False)
        & Account.last_call_at.is_null(False)
        & Account.deleting_at.is_null()
    )
    if not reopened.execute():
        return False
    wanted.raise_revisions(account_id, *services.KINDS)
    offers.recheck(account_id)
    return True


def check(account_id: str) -> None:
    """Have every service compared with the panel again, and corrected there."""
    with transaction():
        Account.update(revision=Account.revision + 1, reconcile_at=now()).where(
            (Account.id == account_id) & Account.opened_at.is_null(False)
        ).execute()
        wanted.raise_revisions(account_id, *services.KINDS)


# How often new invoices of tips are looked for, and cancelled, before an account is closed.
CANCELLING_ROUNDS = 20


class NotClosed(NodeError):
    """The node has not confirmed that nobody can pay for the account any more."""

    text = f"{NodeError.text} Nothing was closed. Please try again."


def close_account(
    shop: Shop, account: Account, also: Callable[[Account], None] = lambda account: None
) -> bool:
    """Close an account once none of its invoices can be paid any more.

    `also`: called within the transaction that closes it, to note what goes with that. False:
    nothing was closed, as a payment came or its end has moved since `account` was read. Raises
    NotCertain and NotClosed; invoices that were cancelled by then stay so. May be called twice.
    """
    try:
        return _close_unpaid(shop, account, also)
    except NodeError as error:
        logger.warning("account %s: not closed: %s", account.id, error)
        raise NotClosed(error) from error


def _close_unpaid(shop: Shop, account: Account, also: Callable[[Account], None]) -> bool:
    if not Account.get_or_none(Account.id == account.id, Account.closing_at.is_null()):
        return True
    unpaid_ones = list(order_book.unpaid_by_all(account.id))
    for _ in range(CANCELLING_ROUNDS):
        for order in unpaid_ones:
            if not invoices.cancel(shop, order) and not Order.get_by_id(order.token).released_at:
                return False
        # Strangers may ask for new tip invoices meanwhile; a new order of the owner's stops it.
        unpaid_ones = list(order_book.unpaid_by_all(account.id).where(order_book.is_of_others()))
        if not unpaid_ones:
            break
    is_closed = False
    try:
        if not offers.turn_off(shop, account.id):
            raise invoices.NotCertain
        with transaction():
            is_closed = _close_within(account, also)
    finally:
        if not is_closed:
            offers.recheck(account.id)
    return is_closed


def _close_within(account: Account, also: Callable[[Account], None] = lambda account: None) -> bool:
    locked = lock_account(account.id)
    if locked is None or locked.closing_at:
        return True
    if order_book.arriving(account.id).exists() or locked.expires_at != account.expires_at:
        return False
    # An order was placed, or the offer switched on, meanwhile.
    if order_book.unpaid_by_all(account.id).exists() or not offers.is_off(account.id):
        raise invoices.NotCertain
    also(locked)
    close(account.id)
    return True


# -- what is left of it ----------------------------------------------------------------


def forget(shop: Shop, account: Account) -> bool:
    """Within a transaction: delete an account of which the panel has nothing left, free its space
    and let its name rest. Only its payments stay, with amounts, dates and hashes.

    False: nothing was done, because the account has changed since `account` was read.
    """
    last = Account.get_by_id(account.id)
    if last.revision != account.revision:
        return False
    if last.blocked_at is None:
        by_owner = last.last_call_at is None
        outbox.write(shop, last, "deleted", last.expires_at, by_owner=by_owner)
    _let_name_rest(shop, last)
    _forget_orders(account.id)
    Domain.delete().where(Domain.account == account.id).execute()
    Token.delete().where(Token.account == account.id).execute()
    Session.delete().where(Session.account == account.id).execute()
    uploads.forget(shop, account.id)
    Wallet.delete().where(Wallet.account == account.id).execute()
    Offer.update(account=None, bolt12="").where(Offer.account == account.id).execute()
    outbox.withdraw(account.id, "confirm")
    # The outbox deletes the notices that it still has to send, such as that of the deletion.
    is_over = (Notice.account_id == account.id) & Notice.try_at.is_null()
    Notice.delete().where(is_over).execute()
    Account.delete().where(Account.id == account.id).execute()
    return True


def _let_name_rest(shop: Shop, account: Account) -> None:
    """Reserve the name for the hosting's receipt while it rests."""
    opening = (Order.account == account.id) & (Order.kind == OrderKind.OPEN)
    order = Order.select(Order.payment_hash).where(opening).first()
    payment_hash = order.payment_hash if order else None
    hostnames.let_rest(shop, account.username, payment_hash, account.receipt_epoch)


def _forget_orders(account_id: str) -> None:
    """Detach its orders from the account.

    One that can still be paid keeps its name and browser: a payment opens the hosting anew.
    """
    its_own = Order.account == account_id
    is_over = Order.paid_at.is_null(False) & Order.applied_at.is_null(False)
    Order.update(dict.fromkeys(OF_CUSTOMER)).where(
        its_own & (is_over | Order.released_at.is_null(False))
    ).execute()
    Order.update(account=None, attempt=None, message=None).where(its_own).execute()


def forget_some_orders(account_id: str) -> int:
    """Within a transaction: detach some finished orders from an account that is being deleted, and
    return how many. The order that opened it stays.

    All at once would hold up every other writer for seconds.
    """
    is_over = Order.released_at.is_null(False) | Order.applied_at.is_null(False)
    its_own = (Order.account == account_id) & (Order.kind != OrderKind.OPEN)
    some = Order.select(Order.token).where(its_own & is_over).limit(FORGOTTEN_AT_ONCE)
    tokens = [order.token for order in some]
    facts = dict.fromkeys(("account", "attempt", "message", *OF_CUSTOMER))
    return Order.update(facts).where(its_own & (Order.token << tokens)).execute()
