"""The calendar: what time does to an account.

It sends notices before the end, switches everything off at the end, and closes the account after
the grace period. One column drives it: `calendar_at`, when the account is due next. A pass handles
the due accounts one by one, each in its own transaction, so it can be killed anywhere and many can
run at once. Every date is computed from the account's end, never from when a pass ran: a clock that
jumps does nothing twice.
"""

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import cached_property

from peewee import Case, fn

from lightningspace.base.clock import CLOCKS_DIFFER_SECONDS, clock_time, now
from lightningspace.base.models import Account, Fact, Service, lock_account, set_fact, transaction
from lightningspace.base.prices import DAY
from lightningspace.rules import (
    accounts,
    clock_watch,
    hostnames,
    ledger,
    offers,
    order_book,
    outbox,
    recovery,
)
from lightningspace.shop import Shop

logger = logging.getLogger(__name__)
# Notices before the end, each sent at most once, and only if the paid time is at least LEAD_PART
# times as long as its lead.
LEADS = {"14d": 14 * DAY, "7d": 7 * DAY, "3d": 3 * DAY, "1d": DAY}
# For terms too short for any of those.
SHORT_LEADS = {"12h": 12 * clock_watch.HOUR, "2h": 2 * clock_watch.HOUR}
LEAD_PART = 4
# The notice before the deletion, for grace periods at least twice as long.
DELETION_LEAD = DAY
# This many accounts may be closed in an hour, however small the shop.
SWEEP_LEAST = 10
AT_ONCE = 1000
LOOK_AGAIN_SECONDS = 60
HELD = "calendar held"
SWEPT = "calendar closings of an hour"


@dataclass
class Pass:
    """What one pass did. `held`: why some closings have to wait; None: none do."""

    notices: int = 0
    suspended: int = 0
    resumed: int = 0
    credited: int = 0
    last_calls: int = 0
    closing: int = 0
    held: str | None = None

    def __str__(self):
        done = [f"{count} {COUNTED[name]}" for name, count in self._counts().items() if count]
        return ", ".join(done) or "nothing was due"

    def add(self, other: "Pass") -> None:
        for name, count in other._counts().items():
            setattr(self, name, getattr(self, name) + count)

    def _counts(self) -> dict[str, int]:
        return {name: getattr(self, name) for name in COUNTED}


COUNTED = {
    "notices": "notices written",
    "suspended": "suspended",
    "resumed": "resumed",
    "credited": "given time for their credit",
    "last_calls": "about to be closed",
    "closing": "closing",
}


@dataclass(frozen=True)
class _Rules:
    """The rules of one pass. `unbroken_since`: time before it does not count as a grace period.

    `sweep` None: any number may be closed. `is_held`: this hour's closings are used up.
    """

    moment: int
    unbroken_since: int
    sweep: "_Sweep | None" = None
    is_held: bool = False


def run_pass(shop: Shop, yes: bool = False, stopping: Callable[[], bool] = lambda: False) -> Pass:
    """Do what is due. Any number of passes may run at once.

    `yes`: the operator has confirmed the dates, so neither a gap nor the number of closings holds
    anything up.
    """
    clock_watch.wake()
    clock_watch.take_time_back(shop)
    moment = now()
    if yes:
        clock_watch.approve(moment)
    sweep = None if yes else _Sweep(shop, moment)
    is_held = sweep is not None and sweep.is_used_up()
    rules = replace(_rules(moment), sweep=sweep, is_held=is_held)
    passed = Pass()
    for some in _due(shop, rules):
        for account_id in some:
            if stopping():
                return passed
            try:
                passed.add(_look(shop, account_id, rules))
            except Exception:  # of this account alone: it stays due, the others go on
                logger.exception("account %s: the calendar failed", account_id)
        if clock_watch.wake():
            break  # this pass slept for hours: its rules are out of date
    passed.held = _why_held(shop, rules)
    _tell_of_sweep(passed.held)
    return passed


def _rules(moment: int) -> _Rules:
    return _Rules(moment, clock_watch.unbroken_since())


class _Sweep:
    """How much may be closed in an hour: SWEEP_LEAST accounts, and more up to SWEEP_LIMIT percent.

    The percentage is of all that was paid, so nobody can hold up the closings of others by buying
    many small hostings.
    """

    def __init__(self, shop: Shop, moment: int):
        self._limit = shop.config.sweep_limit
        self._moment = moment

    @cached_property
    def _most_msat(self) -> int:
        paid = Account.select(fn.SUM(Account.paid_msat)).where(Account.closing_at.is_null())
        return int(paid.scalar() or 0) * self._limit // 100

    def is_used_up(self) -> bool:
        _, count, msat = self._swept()
        return count >= SWEEP_LEAST and msat >= self._most_msat

    def take(self, account: Account) -> bool:
        """Within a transaction: count one more closing; False: this hour's are used up."""
        Fact.insert(name=SWEPT, value="0 0 0").on_conflict_ignore().execute()
        # A write, so that another worker waits here.
        Fact.update(value=Fact.value).where(Fact.name == SWEPT).execute()
        if self.is_used_up():
            return False
        since, count, msat = self._swept()
        set_fact(SWEPT, f"{since} {count + 1} {msat + account.paid_msat}")
        return True

    def _swept(self) -> tuple[int, int, int]:
        """When this hour began, how many got their last call in it, and what was paid for them."""
        fact = Fact.get_or_none(Fact.name == SWEPT)
        since, count, msat = map(int, fact.value.split()) if fact else (0, 0, 0)
        if not self._moment - clock_watch.HOUR < since <= self._moment:
            return self._moment, 0, 0
        return since, count, msat


def _why_held(shop: Shop, rules: _Rules) -> str | None:
    """Why closings have to wait, for the operator; None: none do."""
    if rules.sweep is None or not rules.sweep.is_used_up():
        return None
    waiting = Account.select().where(_ends_grace(shop, rules)).count()
    if not waiting:
        return None
    return (
        f"accounts that wait to be closed: {waiting}; as many as SWEEP_LIMIT "
        f"({shop.config.sweep_limit} %) allows were in this hour, and the earliest go first; if "
        "the time of all of them is really over, run `flask --app wsgi calendar --yes`"
    )


def _ends_grace(shop: Shop, rules: _Rules):
    """The condition for accounts that are due and reach their last call in this pass."""
    return (
        (Account.calendar_at <= rules.moment)
        & (_last_call_in_sql(shop, rules) <= rules.moment)
        & Account.ready_at.is_null(False)
        & Account.closing_at.is_null()
        & Account.last_call_at.is_null()
    )


def _tell_of_sweep(held: str | None) -> None:
    with transaction():
        was_held = Fact.delete().where(Fact.name == HELD).execute()
        if held:
            set_fact(HELD, held)
    if held and not was_held:
        logger.error("%s", held)


# -- what is due ---------------------------------------------------------------------


def _due(shop: Shop, rules: _Rules) -> Iterator[list[str]]:
    """The ids of the accounts to look at, in batches, each once."""
    is_off = Account.suspended_at.is_null(False)
    # Accounts that were suspended by a clock that was ahead.
    has_time_left = is_off & (Account.expires_at > rules.moment) & Account.closing_at.is_null()
    yield from _in_parts(has_time_left, Account.expires_at)
    is_due = Account.calendar_at <= rules.moment
    if rules.is_held:
        # Skip those due for their last call alone, which has to wait. If `calendar_at` is later
        # than that, something has happened to them since.
        is_due &= ~(
            is_off
            & _ends_grace(shop, rules)
            & (Account.calendar_at <= _last_call_in_sql(shop, rules))
        )
    yield from _in_parts(is_due, Account.calendar_at)


def _in_parts(condition, column) -> Iterator[list[str]]:
    at, id = 0, ""
    while True:
        is_next = (column >= at) & ((column > at) | (Account.id > id))
        rows = Account.select(column, Account.id).where(condition & is_next)
        some = list(rows.order_by(column, Account.id).limit(AT_ONCE).tuples())
        if not some:
            return
        yield [id for _, id in some]
        at, id = some[-1]


def _look(shop: Shop, account_id: str, rules: _Rules) -> Pass:
    """Do what is due for one account, unless another pass has just done it."""
    with transaction():
        account = lock_account(account_id)
        if account is None or not _is_due(account, rules.moment):
            return Pass()
        look = _Look(shop, account, rules)
        at = look.run()
        Account.update(calendar_at=at).where(Account.id == account_id).execute()
    for name in ("suspended", "resumed", "credited", "last_calls", "closing"):
        if getattr(look.done, name):
            logger.info("account %s: %s by the calendar", account_id, name.replace("_", " "))
    return look.done


def _is_due(account: Account, moment: int) -> bool:
    if account.suspended_at is not None and account.expires_at > moment:
        return True
    return account.calendar_at is not None and account.calendar_at <= moment


class _Look:
    """One due account, within the transaction that has locked it."""

    def __init__(self, shop: Shop, account: Account, rules: _Rules):
        self.shop = shop
        self.account = account
        self.rules = rules
        self.done = Pass()

    def run(self) -> int | None:
        """Do what is due and return when to look again; None: never."""
        if self.account.closing_at is not None:
            return None  # unless a payment takes it back
        if self.account.blocked_at:
            outbox.withdraw(self.account.id, *outbox.OF_THE_END, "domain")
            self._tell("blocked", self.account.blocked_at)
        if self.account.ready_at is None:
            return None  # its paid time has not begun
        again = self._use_credit()
        is_over = self.account.expires_at <= self.rules.moment
        then = self._after_the_end() if is_over else self._before_the_end()
        return then if then is None else min(then, again or then)

    def _use_credit(self) -> int | None:
        """Turn credit into time as room appears; return when to do so again, or None."""
        account = self.account
        is_over = account.expires_at <= self.rules.moment
        if is_over and account.credit_msat < self.shop.config.tip_min_sats * 1000:
            return None  # like a tip this small, it switches nothing on
        # A clock that has just jumped gives no time away.
        since = max(account.valued_at, self.rules.unbroken_since)
        if account.credit_msat and since + DAY <= self.rules.moment:
            rate, horizon = ledger.rate(self.shop, account), self.shop.config.horizon_seconds
            holding = ledger.holding(account).use_credit(rate, horizon)
            accounts.renew(self.shop, account, holding)
            self.done.credited += 1
            account = self.account = Account.get_by_id(account.id)
            since = account.valued_at
        return since + DAY if account.credit_msat else None

    def _before_the_end(self) -> int:
        account, moment = self.account, self.rules.moment
        if account.suspended_at:
            accounts.resume(account.id)
            if account.expires_at > moment + CLOCKS_DIFFER_SECONDS:
                outbox.take_back(account.id, account.expires_at, "suspended", "deletion")
            self.done.resumed += 1
        self._set_last_call(None)
        leads = {name: account.expires_at - lead for name, lead in _leads(account).items()}
        # Whoever set the end after a notice was due knows the end.
        leads = {name: at for name, at in leads.items() if at > account.valued_at}
        passed = [name for name, at in leads.items() if at <= moment]
        if passed:
            latest = max(passed, key=leads.get)
            self._tell(f"ending-{latest}", account.expires_at)
            self._tell_mailbox(f"ending-{latest}")
        return min([at for at in leads.values() if at > moment], default=account.expires_at)

    def _after_the_end(self) -> int | None:
        account, moment = self.account, self.rules.moment
        if account.suspended_at is None:
            accounts.suspend(account.id)
            self.done.suspended += 1
        self._tell("suspended", account.expires_at)
        deletion = ledger.closes_at(self.shop, account, self.rules.unbroken_since) - DELETION_LEAD
        has_notice = deletion - account.expires_at >= DELETION_LEAD
        if has_notice and moment < deletion:
            self._set_last_call(None)
            return deletion
        if has_notice:
            self._tell("deletion", account.expires_at)
        return self._close()

    def _close(self) -> int | None:
        """Make the last call, and later close; return when to look again, None: closed."""
        account, moment = self.account, self.rules.moment
        closes_at = ledger.closes_at(self.shop, account, self.rules.unbroken_since)
        invoice = _invoice_seconds(self.shop)
        last_call = _last_call(self.shop, account, self.rules)
        if moment < last_call:
            self._set_last_call(None)
            return last_call
        called_at, sweep = account.last_call_at, self.rules.sweep
        if called_at is None or called_at > moment:
            if sweep and not sweep.take(account):
                return last_call
            self._set_last_call(moment)
            self.done.last_calls += 1
            called_at = moment
        closes_at = max(closes_at, called_at + invoice)
        if moment < closes_at:
            return closes_at
        if _may_be_paid(account):
            return moment + LOOK_AGAIN_SECONDS
        accounts.close(account.id, by_calendar=True)
        self.done.closing += 1
        return None

    def _set_last_call(self, moment: int | None) -> None:
        if self.account.last_call_at != moment:
            Account.update(last_call_at=moment).where(Account.id == self.account.id).execute()
            offers.recheck(self.account.id)

    def _tell(self, kind: str, about: int, **facts) -> None:
        account = self.account
        if account.blocked_at and kind != "blocked":
            return  # its owner gets the operator's reason and nothing else
        facts["closes_at"] = ledger.closes_at(self.shop, account, self.rules.unbroken_since)
        self.done.notices += outbox.write(self.shop, account, kind, about, **facts)

    def _tell_mailbox(self, kind: str) -> None:
        name = f"info@{hostnames.site_name(self.shop, self.account.username)}"
        mailbox = (Service.kind == "mailbox") & (Service.name == name)
        works = Service.applied_at.is_null(False) & Service.active & ~Service.gone
        if Service.select().where((Service.account == self.account.id) & mailbox & works).exists():
            about = self.account.expires_at
            self._tell(kind, about, recipient=name, channel="mailbox")


def _leads(account: Account) -> dict[str, int]:
    """The notices that the paid time is long enough for: by name, how long before the end."""
    longest = ledger.paid_seconds(account) // LEAD_PART
    for leads in (LEADS, SHORT_LEADS):
        fitting = {name: lead for name, lead in leads.items() if lead <= longest}
        if fitting:
            return fitting
    return {}


def _last_call(shop: Shop, account: Account, rules: _Rules) -> int:
    """When selling to the account stops; never before its paid time is over."""
    closes_at = ledger.closes_at(shop, account, rules.unbroken_since)
    return max(account.expires_at, closes_at - _invoice_seconds(shop))


def _last_call_in_sql(shop: Shop, rules: _Rules):
    ends = Account.expires_at
    last_call = ledger.closes_at_in_sql(shop, rules.unbroken_since) - _invoice_seconds(shop)
    return Case(None, [(last_call < ends, ends)], last_call)


def _invoice_seconds(shop: Shop) -> int:
    return shop.config.invoice_minutes * 60


def _may_be_paid(account: Account) -> bool:
    """Whether one of its orders can still be paid, or is paid and has not taken effect.

    An expired invoice may have been paid in its last second. Only the node knows: it is asked every
    minute, and then the order is released. Since the last call there are no new invoices, not even
    for tips, so nobody can hold up a closing.
    """
    if not offers.is_off(account.id):
        return True
    return order_book.payable(account.id).exists() or order_book.arriving(account.id).exists()


# -- banners and problems ------------------------------------------------------------


class Banner(StrEnum):
    """The kinds of banners in the control center; behind each, its facts."""

    CLOSING = "closing"
    RECOVERY = "recovery"  # opens_at
    BLOCKED = "blocked"  # reason
    LAST_CALL = "last_call"  # closes_at
    SUSPENDED = "suspended"  # closes_at
    ENDING = "ending"  # ends_at
    CREDIT = "credit"  # credit_msat


def banners(shop: Shop, account: Account) -> list[tuple[Banner, dict]]:
    """The banners of the control center: each a kind, with its facts."""
    if account.closing_at and not account.blocked_at:
        return [(Banner.CLOSING, {})]
    shown = []
    opens_at = recovery.opens_at(account)
    if opens_at is not None:
        shown.append((Banner.RECOVERY, {"opens_at": opens_at}))
    if account.blocked_at:
        why = {"reason": account.blocked_reason, "blocked_for": account.blocked_for}
        return [*shown, (Banner.BLOCKED, why)]
    if account.ready_at is None:
        return shown
    closes_at = ledger.closes_at(shop, account, _rules(now()).unbroken_since)
    if account.last_call_at:
        closes_at = max(closes_at, account.last_call_at + _invoice_seconds(shop))
        shown.append((Banner.LAST_CALL, {"closes_at": closes_at}))
    elif account.expires_at <= now():
        shown.append((Banner.SUSPENDED, {"closes_at": closes_at}))
    elif account.expires_at - max(_leads(account).values(), default=0) <= now():
        shown.append((Banner.ENDING, {"ends_at": account.expires_at}))
    if account.credit_msat:
        shown.append((Banner.CREDIT, {"credit_msat": account.credit_msat}))
    return shown


def problems(shop: Shop) -> list[str]:
    """What keeps the calendar from its work, for the operator; empty when all is well."""
    told = []
    moment, last = now(), clock_watch.stored(clock_watch.PASSED)
    if behind := clock_watch.latest():
        told.append(
            f"the clock says {clock_time(moment)}, and said {clock_time(behind)} before: set it; "
            "if it is right now, run `flask --app wsgi calendar --yes`"
        )
    if last and last < moment - clock_watch.GAP_SECONDS:
        told.append(f"the calendar has not run since {clock_time(last)}: is the worker running?")
    held = Fact.get_or_none(Fact.name == HELD)
    if held:
        told.append(held.value)
    rules = _rules(moment)
    waiting = _held_up_by_gap(shop, rules) if rules.unbroken_since else 0
    if waiting:
        told.append(
            f"{waiting} of the suspended accounts would be closed by now, but the calendar had a "
            f"gap until {clock_time(rules.unbroken_since)}: nobody is closed before a whole grace "
            "period without one; if the clock and the dates are right, run `flask --app wsgi "
            "calendar --yes`"
        )
    return told


def _held_up_by_gap(shop: Shop, rules: _Rules) -> int:
    return (
        Account.select()
        .where(
            Account.suspended_at.is_null(False)
            & Account.closing_at.is_null()
            & (ledger.closes_at_in_sql(shop, 0) <= rules.moment)
            & (ledger.closes_at_in_sql(shop, rules.unbroken_since) > rules.moment)
        )
        .count()
    )
