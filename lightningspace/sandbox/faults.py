"""Faults of a stand-in server: which of its next calls fail, and how."""

import threading
from dataclasses import dataclass

KINDS = ("slow", "frozen", "late", "refuse", "cut-before", "cut-after", "twice")


@dataclass
class Fault:
    kind: str
    method: str | None
    passes: int
    times: int | None
    seconds: float
    message: str


class Faults:
    """The faults of one server. Every call asks `take(method)` once, from any thread.

    `frozen` and `late` calls wait on `thawed`, which the server sets when it is closed or its
    faults are cleared. Then `frozen` calls are dropped.
    """

    def __init__(self):
        self._lock = threading.Lock()
        self._faults: list[Fault] = []
        self.thawed = threading.Event()

    def set(
        self,
        kind: str,
        method: str | None = None,
        *,
        passes: int = 0,
        times: int | None = None,
        seconds: float = 0.0,
        message: str = "",
    ) -> None:
        """Make the next calls of `method` fail (None: of any method).

        The first `passes` calls succeed, then `times` calls fail (None: all).
        `slow` waits `seconds`, then answers; `refuse` answers with the error `message`;
        `cut-before` and `cut-after` close the connection before or after doing the work.
        `late` does the work only when the faults are cleared (node only).
        `twice` does the work of two calls that arrived at the same instant (panel only).
        """
        if kind not in KINDS:
            raise ValueError(f"{kind} is not one of {', '.join(KINDS)}")
        with self._lock:
            self.thawed.clear()
            self._faults.append(Fault(kind, method, passes, times, seconds, message))

    def clear(self) -> None:
        with self._lock:
            self._faults.clear()
            self.thawed.set()

    def take(self, method: str) -> Fault | None:
        with self._lock:
            for fault in self._faults:
                if fault.method not in (None, method) or fault.times == 0:
                    continue
                if fault.passes > 0:
                    fault.passes -= 1
                    continue
                if fault.times is not None:
                    fault.times -= 1
                return fault
        return None
