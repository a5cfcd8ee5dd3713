"""What metered requests have cost, as nginx's log says; the worker reads it.

Before a request its reserve was taken. A line that never comes leaves it at that.
"""

import json
import logging
import os
import re
from pathlib import Path
from typing import IO

from peewee import fn

from lightningspace.base.clock import DAY, now
from lightningspace.base.gate_models import GateCount
from lightningspace.base.models import Fact, set_fact, transaction
from lightningspace.base.settings import ConfigError
from lightningspace.gate import balances, counts, revocations, services
from lightningspace.gate.balances import Cost
from lightningspace.gate.services import Bundle, Gate

logger = logging.getLogger(__name__)

CURSOR = "gate log"
# The name of a fact: the last day on which nginx's log told of a request.
TOLD = "gate log told"
READ_BYTES = 256 * 1024
MB = 10**6
# What nginx writes of a request. A line that somebody else wrote must not stop the worker.
WRITTEN = {
    "id": "[0-9a-f]{32}",
    "token": "[0-9a-f]{64}",
    "reserved": "[0-9]{1,15}",
    "status": "[0-9]{3}",
    "bytes": "[0-9]{1,15}",
    "seconds": r"[0-9]{1,9}\.[0-9]{3}",
    "cost": "(?s).*",
}
COST_MAX = 10**15
# Of this many requests of a day some are over, so nginx's log must have them.
TELLING = 20
# nginx's status for a client that hung up before it was answered.
HUNG_UP = 499
# logrotate's name for the log before this one.
BEFORE = ".1"


class Settlement:
    """Follows the log of a gate, through rotations and restarts."""

    def __init__(self, gate: Gate):
        self._gate = gate
        self._path, self._before = Path(gate.log), Path(gate.log + BEFORE)
        self._file: IO[bytes] | None = None
        self._is_over = False
        self._failing = False

    def look(self) -> None:
        """Settle what was written since the last look, and end leases of killed processes."""
        balances.end_stale_leases()
        try:
            self._follow()
            self._failing = False
        except OSError as error:
            if not self._failing:  # once, until it works again
                logger.error("%s cannot be read: %s", self._path, error.strerror)
            self._failing = True

    def close(self) -> None:
        if self._file:
            self._file.close()
            self._file = None

    def _follow(self) -> None:
        self._file = self._file or self._where_we_were() or _open(self._path)
        if self._file is None:
            return
        while self._settle_some():
            pass
        # Some of nginx's processes still write to the former log for a moment: one look more.
        is_over, self._is_over = self._is_over, self._is_replaced()
        if is_over and self._is_over:
            self.close()
            self._file, self._is_over = _open(self._path), False

    def _where_we_were(self) -> IO[bytes] | None:
        """The log that was read last, which may have been rotated to the name of the one before."""
        inode, offset = self._cursor()
        for path in (self._path, self._before):
            file = _open(path)
            if file is None:
                continue
            found = os.fstat(file.fileno())
            if found.st_ino == inode:
                file.seek(offset if offset <= found.st_size else 0)
                return file
            file.close()
        return None

    def _is_replaced(self) -> bool:
        try:
            return self._path.stat().st_ino != os.fstat(self._file.fileno()).st_ino
        except FileNotFoundError:
            return False

    def _settle_some(self) -> bool:
        """Settle some lines; False: there are no more."""
        start = self._file.tell()
        if os.fstat(self._file.fileno()).st_size < start:  # it was emptied
            start = self._file.seek(0)
        read = self._file.read(READ_BYTES)
        whole = read[: read.rfind(b"\n") + 1]
        if not whole and len(read) == READ_BYTES:  # too long to be a line of ours
            whole = read
        self._file.seek(start)  # where it stays until all of this is settled
        if not whole:
            return False
        costs, unread = [], 0
        for line in whole.splitlines():
            try:
                costs += self._cost(line)
            except (ValueError, KeyError, TypeError, RecursionError):
                unread += 1
        if unread:
            logger.error("%s lines of %s cannot be read", unread, self._path)
        with transaction():
            balances.settle(costs)
            if costs:
                set_fact(TOLD, str(now() // DAY))
            inode = os.fstat(self._file.fileno()).st_ino
            set_fact(CURSOR, f"{inode} {start + len(whole)}")
        self._file.seek(start + len(whole))
        return True

    def _cursor(self) -> tuple[int, int]:
        fact = Fact.get_or_none(Fact.name == CURSOR)
        if fact is None:
            return 0, 0
        inode, offset = fact.value.split()
        return int(inode), int(offset)

    def _cost(self, line: bytes) -> list[Cost]:
        """The cost in a line; empty: nothing was reserved.

        Raises ValueError, KeyError, TypeError or RecursionError for a line that cannot be read.
        """
        told = json.loads(line)
        service = self._gate.service(told["service"])
        if not told["reserved"] or service is None or service.bundle is None:
            return []
        for name, shape in WRITTEN.items():
            if not re.fullmatch(shape, told[name]):
                raise ValueError
        reserved = int(told["reserved"])
        msat = min(cost(service.bundle, told, reserved), COST_MAX)
        return [Cost(told["id"], (told["token"], service.name), reserved, msat)]


def _open(path: Path) -> IO[bytes] | None:
    try:
        return path.open("rb")
    except FileNotFoundError:
        return None


def cost(bundle: Bundle, told: dict[str, str], reserved: int) -> int:
    """What a request in nginx's log has cost. Raises ValueError and KeyError."""
    status = int(told["status"])
    if status == HUNG_UP:  # its work was done for nobody, but it was done, and may still be
        return max(reserved, _used(bundle, told, reserved))
    return 0 if status >= 400 else _used(bundle, told, reserved)


def _used(bundle: Bundle, told: dict[str, str], reserved: int) -> int:
    if bundle.per_mb_msat:
        return -(-int(told["bytes"]) * bundle.per_mb_msat // MB)
    if bundle.per_second_msat:
        milliseconds = round(float(told["seconds"]) * 1000)
        return -(-milliseconds * bundle.per_second_msat // 1000)
    if bundle.cost_header and told["cost"].isascii() and told["cost"].isdigit():
        return min(int(told["cost"][:18]), bundle.msat)
    return reserved


def problems(path: Path) -> list[str]:
    """What keeps metered requests of this gate.toml from being settled, or what is wrong in it."""
    try:
        gate = services.read(path)
    except ConfigError as error:
        return str(error).splitlines()
    if not gate.is_metered:
        return []
    try:
        file = _open(Path(gate.log))
        if file:
            file.close()
    except OSError as error:
        why = f"{gate.log} cannot be read: {error.strerror}"
        return [f"the gate: {why}, and metered requests cost what was reserved for them"]
    used = _metered_today(gate)
    told = (Fact.name == TOLD) & (Fact.value == str(now() // DAY))
    if used < TELLING or Fact.select().where(told).exists():
        return []
    return [
        f"the gate: {gate.log} tells of none of {used} metered requests of today, which cost what "
        "was reserved for them: does nginx write it, and does the worker run?"
    ]


def _metered_today(gate: Gate) -> int:
    """How many requests were let through."""
    metered = [each.name for each in gate.services if each.bundle and not each.dry_run]
    passed = (GateCount.day == now() // DAY) & (GateCount.outcome == "passed")
    times = GateCount.select(fn.SUM(GateCount.times)).where(passed & (GateCount.service << metered))
    return int(times.scalar() or 0)


def tidy() -> None:
    """Forget what is over."""
    balances.tidy()
    revocations.tidy()
    counts.tidy()
