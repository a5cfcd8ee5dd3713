"""The weather at a stand-in server: which of its coming calls go wrong, and how."""

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
    """The switches of one server. Every call asks `take(method)` once, from any thread.

    `frozen` and `late` calls wait on `thawed`; the server sets it when it is closed or when the
    weather clears, and then drops the former.
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
        """Let coming calls of `method` (None: of any) go wrong.

        The first `passes` of them go well, then `times` go wrong (None: all).
        `slow` waits `seconds`, then answers; `refuse` answers an error saying `message`;
        `cut-before` and `cut-after` close the connection before or after doing the work.
        `late` does the work only when the weather clears (the node alone).
        `twice` does the work of two such calls that came in the same instant (the panel alone).
        """
        if kind not in KINDS:
            raise ValueError(f"{kind} is none of {', '.join(KINDS)}")
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
