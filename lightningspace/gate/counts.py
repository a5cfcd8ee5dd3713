"""What is counted by day: each network's free requests, and the check's answers."""

import threading
from collections import Counter

from lightningspace.base.clock import DAY, now
from lightningspace.base.gate_models import GateCount, GateFreebie, add_count
from lightningspace.base.models import transaction
from lightningspace.gate.meter import one_at_a_time

# For how many days the counts of answers are kept.
KEPT_DAYS = 400


class Freebies:
    """Each network's free requests of today. `take` writes until a network has used all of them."""

    def __init__(self):
        self._lock = threading.Lock()
        self._day = 0
        self._used_up: set[tuple[str, str]] = set()

    def take(self, service: str, network: str, most: int) -> bool:
        """Take one of a network's free requests of today; False: none is left.

        `network`: a keyed hash. Raises Busy while the database hangs.
        """
        day = now() // DAY
        if day != self._day:
            self._day, self._used_up = day, set()
        if (service, network) in self._used_up:
            return False
        with one_at_a_time(self._lock):
            is_free = _take(service, network, day, most)
        if is_free:
            return True
        self._used_up.add((service, network))
        return False


def _take(service: str, network: str, day: int, most: int) -> bool:
    key = {"service": service, "network": network, "day": day}
    with transaction():
        GateFreebie.insert(used=0, **key).on_conflict_ignore().execute()
        is_it = [getattr(GateFreebie, name) == value for name, value in key.items()]
        one_more = GateFreebie.update(used=GateFreebie.used + 1)
        return one_more.where(*is_it, GateFreebie.used < most).execute() == 1


class Counts:
    """The check's answers by service and outcome; `write` is called now and then."""

    def __init__(self):
        self._lock = threading.Lock()
        self._counted: Counter[tuple[str, int, str]] = Counter()

    def add(self, service: str, outcome: str) -> None:
        with self._lock:
            self._counted[service, now() // DAY, outcome] += 1

    def write(self) -> None:
        with self._lock:
            counted, self._counted = self._counted, Counter()
        try:
            with transaction():
                for (service, day, outcome), times in counted.items():
                    add_count(service, day, outcome, times)
        except BaseException:
            with self._lock:
                self._counted += counted
            raise


def by_day(first: int) -> dict[tuple[int, str], Counter[str]]:
    """The counts from the day `first` on: by day and service, in that order, those of outcomes."""
    rows = GateCount.select().where(GateCount.day >= first)
    found: dict[tuple[int, str], Counter[str]] = {}
    for row in rows.order_by(GateCount.day, GateCount.service):
        found.setdefault((row.day, row.service), Counter())[row.outcome] = row.times
    return found


def tidy() -> None:
    """Forget the free requests of other days, and old counts."""
    today = now() // DAY
    GateFreebie.delete().where(GateFreebie.day < today).execute()
    GateCount.delete().where(GateCount.day < today - KEPT_DAYS).execute()
