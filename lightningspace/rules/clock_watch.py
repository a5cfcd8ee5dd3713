"""Whether the clock can be trusted: gaps without a calendar pass, and leaps."""

import logging

from peewee import Expression

from lightningspace.base.clock import CLOCKS_DIFFER_SECONDS, HOUR, clock_time, now
from lightningspace.base.models import Account, Fact, Order, lock_account, set_fact, transaction
from lightningspace.base.prices import DAY, Size
from lightningspace.rules import accounts, ledger
from lightningspace.rules.order_book import OrderKind
from lightningspace.shop import Shop

logger = logging.getLogger(__name__)


# Passes further apart than this leave a gap, after which every grace period starts over.
GAP_SECONDS = HOUR

PASSED = "calendar passed"
# The latest time that a pass has seen, and its longest recent leap: from where to where.
LATEST = "calendar latest"
LEAPT = "calendar leapt"
LEAP_KNOWN_SECONDS = 7 * DAY
UNBROKEN = "calendar unbroken since"
APPROVED = "calendar approved"

# The orders that say which size an account has from then on.
OF_A_SIZE = (OrderKind.OPEN, OrderKind.RESIZE)


# -- gaps and leaps ------------------------------------------------------------------


def wake() -> bool:
    """Note that the calendar is awake; return whether that ends a gap.

    The worker calls this before it looks at accounts: after a gap, closings whose deletion has not
    begun are taken back.
    """
    with transaction():
        moment, last = now(), stored(PASSED)
        is_gap = not moment - GAP_SECONDS <= last <= moment + CLOCKS_DIFFER_SECONDS
        set_fact(PASSED, moment)
        if is_gap:
            _begin_graces_anew(moment)
            if last:
                _take_closings_back()
        _note_latest(moment)
    if is_gap and last:
        logger.error(
            "the calendar last ran at %s, and now it is %s: nobody is closed before a whole grace "
            "period without such a gap; see `flask problems`",
            clock_time(last),
            clock_time(moment),
        )
    return is_gap


def note_restored() -> None:
    """Begin as after a gap, however recent the restored copy is: it may not know of a payment."""
    with transaction():
        _begin_graces_anew(now())
        _take_closings_back()


def _begin_graces_anew(moment: int) -> None:
    set_fact(UNBROKEN, moment)
    Fact.delete().where(Fact.name == APPROVED).execute()
    _look_again_at_suspended(moment)


def _note_latest(moment: int) -> None:
    """Within a transaction: note the time, unless the clock is behind what a pass has seen.

    If it is back where it leapt from, it was ahead before and is correct now. Otherwise it is wrong
    now, as on a box that booted without the time: by it, all that was ever paid lies in the future.
    """
    last, fact = stored(LATEST), Fact.get_or_none(Fact.name == LEAPT)
    left, came = map(int, fact.value.split()) if fact else (0, 0)
    if moment < last - CLOCKS_DIFFER_SECONDS:
        if not left - CLOCKS_DIFFER_SECONDS <= moment < came:
            return
        Fact.delete().where(Fact.name == LEAPT).execute()
        last = moment
    leap, is_old = moment - last, came < last - LEAP_KNOWN_SECONDS
    if last and leap > CLOCKS_DIFFER_SECONDS and (is_old or leap > came - left):
        set_fact(LEAPT, f"{last} {moment}")
    set_fact(LATEST, max(moment, last))


def latest() -> int | None:
    """The latest time that a pass has seen, if the clock is behind it; None: it is not behind.

    Time that began by a clock that is behind would be over too soon.
    """
    last = stored(LATEST)
    return last if now() < last - CLOCKS_DIFFER_SECONDS else None


def unbroken_since() -> int:
    """Time before it counts towards no grace period; 0: the operator has confirmed the dates."""
    return 0 if stored(APPROVED) else stored(UNBROKEN)


def approve(moment: int) -> None:
    with transaction():
        set_fact(APPROVED, moment)
        set_fact(LATEST, moment)
        _look_again_at_suspended(moment)


def _look_again_at_suspended(moment: int) -> None:
    """Within a transaction: make suspended accounts due: the date of their closing has moved."""
    Account.update(calendar_at=moment).where(
        Account.suspended_at.is_null(False) & Account.closing_at.is_null()
    ).execute()


def _take_closings_back() -> None:
    """Within a transaction: reopen what the calendar was closing.

    A restored database may not know of a payment made since.
    """
    has_work = Account.reconcile_at.is_null(False)
    closing = Account.select(Account.id).where(has_work & Account.closing_at.is_null(False))
    for account in list(closing):
        accounts.reopen(account.id)


def take_time_back(shop: Shop) -> None:
    """Set back what was paid or set up while the clock was ahead; twice is once.

    After `wake`, which finds out whether the clock is right now.
    """
    with transaction():
        if latest() is not None:
            return
        moment = now()
        is_ahead = Account.valued_at > moment + CLOCKS_DIFFER_SECONDS
        ahead = Account.select(Account.id).where(is_ahead & Account.opened_at.is_null(False))
        for account in filter(None, map(lock_account, sorted(account.id for account in ahead))):
            _set_back(shop, account, moment)


def _set_back(shop: Shop, account: Account, moment: int) -> None:
    before = _last_order(account, Order.applied_at <= moment)
    of_a_size = Order.kind.in_(OF_A_SIZE) & Order.space_mb.is_null(False)
    sized = _last_order(account, (Order.applied_at <= moment) & of_a_size)
    facts = ledger.set_back(
        shop,
        account,
        moment,
        ended_at=before.ends_at if before else moment,
        size=Size.of(sized or account),
    )
    end = facts["expires_at"]
    Order.update(ends_at=end).where((Order.account == account.id) & (Order.ends_at > end)).execute()
    Account.update(facts | {"calendar_at": moment}).where(Account.id == account.id).execute()
    logger.error("account %s: paid or set up by a clock that was ahead", account.id)


def _last_order(account: Account, which: Expression) -> Order | None:
    orders = Order.select().where((Order.account == account.id) & which)
    return orders.order_by(Order.applied_at.desc()).first()


def stored(name: str) -> int:
    fact = Fact.get_or_none(Fact.name == name)
    return int(fact.value) if fact else 0
