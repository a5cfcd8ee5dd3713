"""A clock that runs faster than the machine's, and that several processes share.

The shop's programs follow it when their environment names its file (tests/programs.py). What they
repeat or wait for by the machine's clock becomes shorter by the same factor. What one process
grants another that stalls becomes longer, since a stall takes the machine's time.
"""

import mmap
import struct
import time
from pathlib import Path

from lightningspace import worker
from lightningspace.base import clock
from lightningspace.outside import ftp, ispconfig
from lightningspace.panel import lease
from lightningspace.rules import domain_checks, offers, outbox, uploads, usage

VARIABLE = "TEST_CLOCK"
FACTS = struct.Struct("dddd")  # monotonic time at the start, this clock's then, its rate, its error
SHORTER = {
    worker: (
        *("TIDY_SECONDS", "CALENDAR_SECONDS", "UPGRADE_SECONDS", "STATUS_SECONDS"),
        *("FAULT_SECONDS", "PROBLEMS_SECONDS", "PANEL_PAUSE_SECONDS"),
    ),
    ispconfig: ("PAUSE_SECONDS", "LOGIN_PAUSE_SECONDS", "LOCKOUT_SECONDS"),
    ftp: ("REST_SECONDS",),
}
LONGER = {
    lease: ("LEASE_SECONDS", "LEASE_LEFT_SECONDS", "SILENT_SECONDS"),
    offers: ("HELD_SECONDS",),
    **dict.fromkeys((outbox, usage), ("CLAIM_SECONDS",)),
    domain_checks: ("ASKING_SECONDS",),
    uploads: ("LASTS_SECONDS",),  # compared with a file's mtime, which is the machine's time
}
LEAST_SECONDS = 1


class Clockwork:
    """`right` is the time outside the shop. `shops` is the time on its boxes, wrong by an error."""

    def __init__(self, path: Path, rate: float | None = None):
        self.path = path
        if rate is not None:
            path.write_bytes(FACTS.pack(time.monotonic(), time.time(), rate, 0))
        with path.open("r+b") as file:
            self._facts = mmap.mmap(file.fileno(), FACTS.size)

    def right(self) -> float:
        return self._read(with_error=False)

    def shops(self) -> float:
        return self._read(with_error=True)

    def _read(self, with_error: bool) -> float:
        began, then, rate, error = FACTS.unpack(self._facts[:])
        return then + (time.monotonic() - began) * rate + error * with_error

    @property
    def rate(self) -> float:
        return FACTS.unpack(self._facts[:])[2]

    def step(self, error: float) -> None:
        self._facts[:] = FACTS.pack(*FACTS.unpack(self._facts[:])[:3], error)


def follow(path: str) -> None:
    """Make this process, a program of the shop, follow the clock. Called before it starts."""
    clockwork = Clockwork(Path(path))
    clock.set_source(clockwork.shops)
    for module, names in SHORTER.items():
        for name in names:
            shorter = max(LEAST_SECONDS, getattr(module, name) / clockwork.rate)
            setattr(module, name, shorter)
    for module, names in LONGER.items():
        for name in names:
            setattr(module, name, int(getattr(module, name) * clockwork.rate))
