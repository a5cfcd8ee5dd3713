"""Token buckets for the limits of services. Each process counts by itself."""

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable

from lightningspace.gate.services import Limit

# How many buckets are remembered; those not used for longest are forgotten first.
REMEMBERED = 10_000


class Buckets:
    """`clock`: a monotonic clock, in seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic):
        self._clock = clock
        self._lock = threading.Lock()
        self._full_at: OrderedDict[tuple, float] = OrderedDict()

    def take(self, limits: Iterable[Limit], *whose: str) -> float:
        """Count one request, if all the limits let it pass.

        Returns 0 if it has passed, or else after how many seconds it would.
        """
        moment = self._clock()
        with self._lock:
            filled, wait = {}, 0.0
            for number, limit in enumerate(limits):
                key = (*whose, number)
                each = limit.seconds / limit.requests
                # A bucket is stored as the time when it is full again: a request adds `each` to it.
                full_at = max(moment, self._full_at.get(key, 0)) + each
                filled[key] = full_at
                wait = max(wait, full_at - moment - limit.burst * each)
            if wait > 1e-6:
                return wait
            for key, full_at in filled.items():
                self._full_at[key] = full_at
                self._full_at.move_to_end(key)
            while len(self._full_at) > REMEMBERED:
                self._full_at.popitem(last=False)
        return 0.0
