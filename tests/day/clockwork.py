"""A clock that runs faster than the machine's, and that several processes share.

The shop's programs follow it when the environment of tests/programs.py names its file. What they
repeat or wait for by the machine's clock becomes as much shorter, and what one process grants
another for the time of a stall as much longer: those stalls stay as they are.
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
FACTS = struct.Struct("dddd")  # the machine's time when it began, its own then, its rate, its error
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
    uploads: ("LASTS_SECONDS",),  # compared with when a file was written, by the machine's clock
}
LEAST_SECONDS = 1


class Clockwork:
    """`error`: by how many seconds the shop's boxes are wrong; what is outside of them is right."""

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
    """In a program of the shop, before it starts."""
    clockwork = Clockwork(Path(path))
    clock.set_source(clockwork.shops)
    for module, names in SHORTER.items():
        for name in names:
            shorter = max(LEAST_SECONDS, getattr(module, name) / clockwork.rate)
            setattr(module, name, shorter)
    for module, names in LONGER.items():
        for name in names:
            setattr(module, name, int(getattr(module, name) * clockwork.rate))
