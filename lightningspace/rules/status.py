"""How the shop is doing, for everybody: nothing about a single customer, and no exact figure of
what is sold.

Whoever looks at the page makes no call, and counts no hostings: the worker notes both.
"""

import json
import statistics
from collections import Counter
from dataclasses import dataclass
from enum import StrEnum

from peewee import SQL, Case, fn

from lightningspace.base import metrics
from lightningspace.base.clock import now
from lightningspace.base.models import Account, Fact, Order, set_fact
from lightningspace.outside.ispconfig import PanelError, PanelRefused
from lightningspace.outside.node import NodeError
from lightningspace.rules import capacity
from lightningspace.rules.order_book import OrderKind
from lightningspace.shop import Shop

# Facts: when each last answered, how many hostings ran then, and how long the last ones took, in
# seconds.
ANSWERED = {"node": "node answered at", "panel": "panel answered at"}
RUNNING = "hostings running"
COUNTED = "hostings by size and state"
TOOK = "seconds from paid to ready"
TAKEN_MAX = 100
# The worker asks each minute; it may be slow, and clocks differ.
SILENT_SECONDS = 5 * 60


class Standing(StrEnum):
    """The state of a hosting: the first of these that is true."""

    CLOSING = "being closed"
    BLOCKED = "blocked"
    SUSPENDED = "suspended"
    SETTING_UP = "being set up"
    RUNNING = "running"


class Free(StrEnum):
    AVAILABLE = "available"
    FEW_LEFT = "few left"
    SOLD_OUT = "sold out"


@dataclass(frozen=True)
class Status:
    """`running`: hostings, by the last count; None: not counted yet. `took_seconds`: the median;
    None: nothing was measured yet. `answered`: when node and panel last did; None: never. `silent`:
    those that do not answer now.
    """

    running: int | None
    took_seconds: int | None
    free: Free
    answered: dict[str, int | None]
    silent: set[str]


def told(shop: Shop) -> Status:
    known = {fact.name: fact.value for fact in Fact.select().where(Fact.name << _NAMES)}
    answered = _answered(known)
    took = [int(seconds) for seconds in known.get(TOOK, "").split()]
    return Status(
        running=int(known[RUNNING]) if RUNNING in known else None,
        took_seconds=int(statistics.median(took)) if took else None,
        free=_free(shop),
        answered=answered,
        silent=_silent(answered),
    )


def last_answers() -> tuple[dict[str, int | None], set[str]]:
    """`answered` and `silent`, as in Status."""
    known = Fact.select().where(Fact.name << list(ANSWERED.values()))
    answered = _answered({fact.name: fact.value for fact in known})
    return answered, _silent(answered)


def _answered(known: dict[str, str]) -> dict[str, int | None]:
    return {what: int(known.get(name, 0)) or None for what, name in ANSWERED.items()}


def _silent(answered: dict[str, int | None]) -> set[str]:
    return {what for what, at in answered.items() if (at or 0) <= now() - SILENT_SECONDS}


def counted() -> dict[int, Counter[Standing]]:
    """How many hostings of each size, in MB, are in each state, by the last count."""
    fact = Fact.get_or_none(Fact.name == COUNTED)
    found: dict[int, Counter[Standing]] = {}
    for space_mb, standing, count in json.loads(fact.value) if fact else ():
        found.setdefault(space_mb, Counter())[Standing(standing)] = count
    return found


def which(standing: Standing, most: int) -> list[str]:
    """The names of the first `most` hostings in this state."""
    is_one = Account.opened_at.is_null(False) & (_standing() == standing)
    rows = Account.select(Account.username).where(is_one).order_by(Account.username)
    return [row.username for row in rows.limit(most)]


def _standing() -> Case:
    return Case(
        None,
        [
            (Account.closing_at.is_null(False), Standing.CLOSING),
            (Account.blocked_at.is_null(False), Standing.BLOCKED),
            (Account.suspended_at.is_null(False), Standing.SUSPENDED),
            (Account.ready_at.is_null(), Standing.SETTING_UP),
        ],
        Standing.RUNNING,
    )


_NAMES = [*ANSWERED.values(), RUNNING, TOOK]


def _free(shop: Shop) -> Free:
    left_mb = capacity.largest_mb(shop)
    if left_mb < min(shop.config.space_sizes_mb):
        return Free.SOLD_OUT
    return Free.FEW_LEFT if capacity.is_scarce(shop, left_mb) else Free.AVAILABLE


# -- what is noted ---------------------------------------------------------------------


def look(shop: Shop) -> None:
    """Note how many hostings there are, and whether node and panel answer. Any worker may call it
    any time.
    """
    counted = _count()
    set_fact(COUNTED, json.dumps(counted))
    set_fact(RUNNING, sum(n for _, standing, n in counted if standing == Standing.RUNNING))
    server_id = next(iter(shop.config.capacity_mb))
    try:
        shop.node.node_id()
        set_fact(ANSWERED["node"], now())
    except NodeError:
        pass  # it is seen by the note that is missing
    try:
        shop.panel.jobs_waiting(server_id)
    except PanelRefused:
        pass  # also an answer
    except PanelError:
        return
    set_fact(ANSWERED["panel"], now())


def _count() -> list[tuple[int, str, int]]:
    rows = Account.select(Account.space_mb, _standing(), fn.COUNT(Account.id))
    # By their places: PostgreSQL does not see that two parameters are the same.
    by = (SQL("1"), SQL("2"))
    return list(rows.where(Account.opened_at.is_null(False)).group_by(*by).order_by(*by).tuples())


def note_ready(account_id: str, ready_at: int) -> None:
    """Note how long a new hosting took. Of two at the same moment one may be left out."""
    opening = (Order.account == account_id) & (Order.kind == OrderKind.OPEN)
    order = Order.select(Order.paid_at).where(opening).first()
    if order is None or order.paid_at is None:
        return
    Fact.insert(name=TOOK, value="").on_conflict_ignore().execute()
    before = Fact.get_by_id(TOOK).value
    seconds = max(0, ready_at - order.paid_at)
    metrics.READY.observe(seconds)
    took = [*before.split(), str(seconds)][-TAKEN_MAX:]
    as_read = (Fact.name == TOOK) & (Fact.value == before)
    Fact.update(value=" ".join(took)).where(as_read).execute()
