"""A cache of answers for some seconds: asked again at once, nobody else is asked."""

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import TypeVar

SECONDS = 2
REMEMBERED = 1000

Found = TypeVar("Found")


class Looks:
    """Answers by key, each for some seconds. `clock`: a monotonic clock, in seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic):
        self._clock = clock
        self._lock = threading.Lock()
        self._found: OrderedDict[str, tuple[float, object]] = OrderedDict()

    def at(self, key: str, look: Callable[[], Found]) -> Found:
        """What `look` returns, or returned a moment ago. Raises what it raises."""
        moment = self._clock()
        with self._lock:
            at, found = self._found.get(key, (None, None))
        if at is not None and moment - at < SECONDS:
            return found
        found = look()
        with self._lock:
            self._found[key] = moment, found
            self._found.move_to_end(key)
            if len(self._found) > REMEMBERED:
                self._found.popitem(last=False)
        return found
