"""What breaks during a day, and for how long. It is drawn before the day begins."""

import random
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass

from lightningspace.base import models

STEP_SECONDS = 2 * 60 * 60


@dataclass(frozen=True)
class Fault:
    at: float  # as a part of the day
    what: str
    seconds: float  # by the machine's clock


def drawn(seed: int, kinds: list[str], times: int, seconds: tuple[float, float]) -> list[Fault]:
    """Draw faults, one after the other: every kind once in each of `times` random orders."""
    chance = random.Random(f"weather {seed}")
    order = [kind for _ in range(times) for kind in chance.sample(kinds, len(kinds))]
    first, last = 0.04, 0.96
    apart = (last - first) / len(order)
    return [
        Fault(first + number * apart, what, chance.uniform(*seconds))
        for number, what in enumerate(order)
    ]


class Weather:
    """Breaks things. `broken`: from when to when what was broken, by the machine's clock."""

    def __init__(self, node, panel, dns, mails, ftp, clock, boxes, database):
        self.node, self.panel, self.dns, self.mails, self.ftp = node, panel, dns, mails, ftp
        self.clock, self.boxes = clock, boxes
        self.broken: list[tuple[float, float, str]] = []
        self.steps: list[tuple[float, float]] = []  # when the shop's clock was wrong, in right time
        self._stopping = threading.Event()
        self.kinds = {
            "node restarts": lambda: self._down(node),
            "node hangs": lambda: self._faulty(node, kind="frozen"),
            "node is slow": lambda: self._faulty(node, kind="slow", seconds=0.7),
            "node hangs up": lambda: self._faulty(node, kind="cut-after", times=4),
            "panel restarts": lambda: self._down(panel),
            "panel hangs": lambda: self._faulty(panel, kind="frozen"),
            "panel is slow": lambda: self._faulty(panel, kind="slow", seconds=0.7),
            "panel hangs up": lambda: self._faulty(panel, kind="cut-after", times=4),
            "DNS is silent": lambda: self._dns("silent"),
            "DNS fails": lambda: self._dns("servfail"),
            "SMTP hangs": lambda: self._faulty(mails, kind="frozen", method="MAIL"),
            "SMTP refuses": lambda: self._faulty(
                mails, kind="refuse", method="RCPT", message="451 come back later"
            ),
            "FTP restarts": lambda: self._down(ftp),
            "clock is 2 h ahead": lambda: self._step(STEP_SECONDS),
            "clock is 2 h behind": lambda: self._step(-STEP_SECONDS),
            "web is killed": boxes.without_web,
            "worker is killed": boxes.without_worker,
            **database,
        }

    def blow(self, faults: list[Fault], begun: float, seconds: float) -> None:
        for fault in faults:
            if self._stopping.wait(max(0, begun + fault.at * seconds - time.monotonic())):
                return
            began = time.monotonic()
            with self.kinds[fault.what]():
                self._stopping.wait(fault.seconds)
            self.broken.append((began, time.monotonic(), fault.what))
        models.db.close()

    def stop(self) -> None:
        self._stopping.set()

    @contextmanager
    def _down(self, server):
        server.down()
        yield
        server.up()

    @contextmanager
    def _faulty(self, server, method=None, **fault):
        server.faults.set(method=method, **fault)
        yield
        server.faults.clear()

    @contextmanager
    def _dns(self, fault: str):
        self.dns.fault = fault
        yield
        self.dns.fault = None

    @contextmanager
    def _step(self, error: int):
        began = self.clock.right()
        self.clock.step(error)
        yield
        self.clock.step(0)
        self.steps.append((began, self.clock.right()))
