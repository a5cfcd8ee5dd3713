"""What the operator is told without asking: each new problem once, and a summary of each week, by
mail (ADMIN_MAIL) and by HTTP (ADMIN_WEBHOOK).

Any worker may do it at any time: facts say when something was last sent, and what. What fails is
sent again after longer and longer waits. After a worker was killed, something may be sent twice.
"""

import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import dataclass

from lightningspace.base.clock import DAY, HOUR, MINUTE, iso_time, now
from lightningspace.base.models import Account, Fact, set_fact, transaction
from lightningspace.operator import problems
from lightningspace.operator.money import Span, of_days
from lightningspace.operator.problems import Problem
from lightningspace.outside import webhook
from lightningspace.outside.mail import MailError
from lightningspace.outside.webhook import WebhookError
from lightningspace.rules import capacity, outbox
from lightningspace.rules.income import Kind
from lightningspace.shop import Shop

WAIT_SECONDS_MAX = 6 * HOUR
# The first of January 1970 was a Thursday.
MONDAY = 4 * DAY
WEEK = 7 * DAY


@dataclass(frozen=True)
class Way:
    """`name`: part of the names of its facts. `seconds`: the least time between two messages."""

    name: str
    seconds: int
    tell_problems: Callable[[Shop, list[Problem]], None]
    tell_week: Callable[[Shop, "Week"], None]


@dataclass(frozen=True)
class Week:
    """From one Monday to the next. `new`, `ended`: hostings; `ended` None: nobody counted them when
    the week began.
    """

    begins: int
    money: Span
    new: int
    ended: int | None
    problems: list[Problem]
    left_mb: dict[int, int]


def tell(shop: Shop) -> None:
    """Tell what is due, by all ways, even if one fails; the last error is raised in the end."""
    failed = None
    for way in ways(shop):
        for step in (tell_problems, tell_week):
            try:
                step(shop, way)
            except (MailError, WebhookError) as error:
                failed = error
    if failed:
        raise failed


def ways(shop: Shop) -> list[Way]:
    found = [MAIL] if shop.config.admin_mail else []
    return [*found, WEBHOOK] if shop.config.admin_webhook else found


# -- problems --------------------------------------------------------------------------


def tell_problems(shop: Shop, way: Way) -> bool:
    """Tell the problems that are new; whether there were any. Raises MailError, WebhookError."""
    turn = f"problems {way.name} at"
    if not _takes_turn(turn, way.seconds):
        return False
    found = {_mark(each): each for each in problems.found(shop)}
    fact = Fact.get_or_none(Fact.name == known_by(way))
    known = set(json.loads(fact.value)) if fact else set()
    new = [each for mark, each in found.items() if mark not in known]
    if new:
        way.tell_problems(shop, new)
    # A problem that is gone is forgotten, and told again if it comes back.
    set_fact(known_by(way), json.dumps(sorted(found)))
    _went_well(turn)
    return bool(new)


def known_by(way: Way) -> str:
    """The name of the fact that holds the marks of the problems told by this way."""
    return "problems known" if way is MAIL else f"problems known by {way.name}"


def _mark(problem: Problem) -> str:
    """Stays the same when only times and counts in the text change, but differs for each hosting
    and order: customers choose names such as `bob1` and `bob2`.
    """
    text = re.sub(r"\d+", "", problem.text)
    about = problem.username or problem.token or ""
    return hashlib.sha256(f"{text}{about}".encode()).hexdigest()[:16]


# -- the week --------------------------------------------------------------------------


def tell_week(shop: Shop, way: Way) -> bool:
    """On Monday, or as soon after as possible, sum up the week before; whether that was done. In a
    shop's first week there is nothing to sum up. Raises MailError and WebhookError.
    """
    moment, name, turn = now(), f"week {way.name}", f"week {way.name} at"
    monday = moment - (moment - MONDAY) % WEEK
    fact = Fact.get_or_none(Fact.name == name)
    last = _Count.read(fact.value) if fact else None
    if last is None or last.monday > monday:  # the first week, or the clock was ahead
        set_fact(name, str(_Count.now(monday)))
        return False
    if last.monday == monday or not _takes_turn(turn, way.seconds):
        return False
    count = _Count.now(monday)
    way.tell_week(shop, _week(shop, monday - WEEK, last, count))
    set_fact(name, str(count))
    _went_well(turn)
    return True


@dataclass(frozen=True)
class _Count:
    """How many hostings there were at `moment`, in the week that begins on `monday`."""

    monday: int
    moment: int
    hostings: int

    @classmethod
    def now(cls, monday: int) -> "_Count":
        return cls(monday, now(), _opened(0, now()))

    @classmethod
    def read(cls, text: str) -> "_Count":
        return cls(*map(int, text.split()))

    def __str__(self):
        return f"{self.monday} {self.moment} {self.hostings}"


def _opened(since: int, until: int) -> int:
    """How many hostings were opened from `since` to `until` and still exist."""
    return Account.select().where(Account.opened_at.between(since, until)).count()


def _week(shop: Shop, begins: int, last: _Count, count: _Count) -> Week:
    ended = last.hostings + _opened(last.moment + 1, count.moment) - count.hostings
    return Week(
        begins=begins,
        money=of_days(begins // DAY, 7),
        new=_opened(begins, begins + WEEK - 1),
        ended=max(0, ended) if last.monday == begins else None,
        problems=problems.found(shop),
        left_mb=capacity.left_mb(shop),
    )


# -- turns -----------------------------------------------------------------------------


def _takes_turn(name: str, seconds: int) -> bool:
    """Take the turn if it is due and nobody else has taken it; whether that was done.

    The fact of this name holds when the turn was last taken, and how often in a row it has failed.
    """
    moment = now()
    with transaction():
        Fact.insert(name=name, value="0").on_conflict_ignore().execute()
        last = Fact.get_by_id(name).value
        at, tries = _read(last)
        wait = min(seconds * 2 ** max(0, tries - 1), max(seconds, WAIT_SECONDS_MAX))
        if 0 <= moment - at < wait:
            return False
        ours = (Fact.name == name) & (Fact.value == last)
        return Fact.update(value=f"{moment} {min(tries + 1, 20)}").where(ours).execute() == 1


def _went_well(name: str) -> None:
    at, _ = _read(Fact.get_by_id(name).value)
    set_fact(name, at)


def _read(turn: str) -> tuple[int, int]:
    at, _, tries = turn.partition(" ")
    return int(at), int(tries or 0)


# -- by mail ---------------------------------------------------------------------------


def _mail(shop: Shop, kind: str, **facts) -> None:
    subject, body = outbox.rendered(shop, kind, **facts)
    shop.mailer.send(shop.config.admin_mail, subject, body)


def _mail_problems(shop: Shop, found: list[Problem]) -> None:
    _mail(shop, "problems", problems=[each.text for each in found])


def _mail_week(shop: Shop, week: Week) -> None:
    _mail(shop, "week", week=week, kinds=[kind for kind in Kind if week.money.msat[kind]])


MAIL = Way("mailed", HOUR, _mail_problems, _mail_week)


# -- by HTTP ---------------------------------------------------------------------------


def _post(shop: Shop, kind: str, message: dict) -> None:
    told = {"kind": kind, "shop": shop.config.public_url, "at": iso_time(now())}
    webhook.post(shop.config.admin_webhook, shop.config.admin_webhook_secret, told | message)


def _post_problems(shop: Shop, found: list[Problem]) -> None:
    _post(shop, "problems", {"problems": _as_json(found)})


def _post_week(shop: Shop, week: Week) -> None:
    message = {
        "week_of": iso_time(week.begins),
        "payments": week.money.times,
        "received_msat": week.money.total_msat,
        "received_msat_by_kind": {str(kind): msat for kind, msat in week.money.msat.items()},
        "hostings_new": week.new,
        "hostings_ended": week.ended,
        "left_mb": {str(id): left for id, left in week.left_mb.items()},
        "problems": _as_json(week.problems),
    }
    _post(shop, "week", message)


def _as_json(found: list[Problem]) -> list[dict]:
    return [{"text": each.text, "hosting": each.username} for each in found]


WEBHOOK = Way("posted", 10 * MINUTE, _post_problems, _post_week)
