"""Whether the clock can be gone by: gaps in which no pass came, and leaps."""

import logging

from lightningspace.base.clock import CLOCKS_DIFFER_SECONDS, clock_time, now
from lightningspace.base.models import Account, Fact, Order, lock_account, set_fact, transaction
from lightningspace.base.prices import DAY
from lightningspace.rules import accounts, ledger

logger = logging.getLogger(__name__)

HOUR = 60 * 60

# Passes further apart than this leave a gap: nobody is closed by what the clock says after it.
GAP_SECONDS = HOUR

PASSED = "calendar passed"
# The latest moment that a pass came at, and the longest leap of it lately: from where to where.
LATEST = "calendar latest"
LEAPT = "calendar leapt"
LEAP_KNOWN_SECONDS = 7 * DAY
UNBROKEN = "calendar unbroken since"
APPROVED = "calendar approved"


# -- gaps and sweeps -----------------------------------------------------------------


def wake() -> bool:
    """Note that the calendar is awake; whether it was not for too long before.

    The worker does this before it looks at accounts: a closing not begun is taken back then.
    """
    with transaction():
        moment, last = now(), stored(PASSED)
        is_gap = not moment - GAP_SECONDS <= last <= moment + CLOCKS_DIFFER_SECONDS
        set_fact(PASSED, moment)
        if is_gap:
            set_fact(UNBROKEN, moment)
            Fact.delete().where(Fact.name == APPROVED).execute()
            _look_again_at_suspended(moment)
            if last:
                _take_closings_back()
        if not _is_behind(moment):
            _take_time_back(moment)
    if is_gap and last:
        logger.error(
            "the calendar last ran at %s, and now it is %s: nobody is closed before a whole grace "
            "period without such a gap; see `flask problems`",
            clock_time(last),
            clock_time(moment),
        )
    return is_gap


def _is_behind(moment: int) -> bool:
    """Within a transaction: whether the clock is behind what a pass has seen, and note the latest.

    It was ahead if it is back where it leapt from. Else it is a box that starts without the time,
    and by its clock all that was ever paid would be paid ahead.
    """
    last, fact = stored(LATEST), Fact.get_or_none(Fact.name == LEAPT)
    left, came = map(int, fact.value.split()) if fact else (0, 0)
    if moment < last - CLOCKS_DIFFER_SECONDS:
        if not left - CLOCKS_DIFFER_SECONDS <= moment < came:
            return True
        Fact.delete().where(Fact.name == LEAPT).execute()
        last = moment
    leap, is_old = moment - last, came < last - LEAP_KNOWN_SECONDS
    if last and leap > CLOCKS_DIFFER_SECONDS and (is_old or leap > came - left):
        set_fact(LEAPT, f"{last} {moment}")
    set_fact(LATEST, max(moment, last))
    return False


def latest() -> int | None:
    """When a pass came last, if the clock is behind that; what began now would be over too soon."""
    last = stored(LATEST)
    return last if now() < last - CLOCKS_DIFFER_SECONDS else None


def approve(moment: int) -> None:
    with transaction():
        set_fact(APPROVED, moment)
        set_fact(LATEST, moment)
        _look_again_at_suspended(moment)


def _look_again_at_suspended(moment: int) -> None:
    """Within a transaction: have those looked at again whose closing has another date now."""
    Account.update(calendar_at=moment).where(
        Account.suspended_at.is_null(False) & Account.closing_at.is_null()
    ).execute()


def _take_closings_back() -> None:
    """Within a transaction: a database that was restored may not know of a payment since."""
    has_work = Account.reconcile_at.is_null(False)
    closing = Account.select(Account.id).where(has_work & Account.closing_at.is_null(False))
    for account in list(closing):
        accounts.reopen(account.id)


def _take_time_back(moment: int) -> None:
    """Within a transaction: of what was paid or set up while the clock was ahead."""
    is_ahead = Account.valued_at > moment + CLOCKS_DIFFER_SECONDS
    ahead = Account.select(Account.id).where(is_ahead & Account.opened_at.is_null(False))
    for account in filter(None, map(lock_account, sorted(account.id for account in ahead))):
        own = (Order.account == account.id) & (Order.applied_at <= moment)
        before = Order.select(Order.ends_at).where(own).order_by(Order.applied_at.desc()).first()
        facts = ledger.set_back(account, moment, before.ends_at if before else moment)
        end = facts["expires_at"]
        Order.update(ends_at=end).where(
            (Order.account == account.id) & (Order.ends_at > end)
        ).execute()
        Account.update(facts | {"calendar_at": moment}).where(Account.id == account.id).execute()
        logger.error("account %s: paid or set up by a clock that was ahead", account.id)


def stored(name: str) -> int:
    fact = Fact.get_or_none(Fact.name == name)
    return int(fact.value) if fact else 0
