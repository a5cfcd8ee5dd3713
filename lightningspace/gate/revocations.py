"""Revoked token ids, mirrored in memory: 8 bytes each, however many there are."""

from array import array
from bisect import bisect_left
from collections.abc import Iterator

from lightningspace.base.clock import DAY, now
from lightningspace.base.gate_models import GateRevoked
from lightningspace.gate.services import TIME_MAX

# Rows up to this much older than the last look are read again: they may have been written late.
LATE_SECONDS = 10
# Longer than anything may be sold for, whatever gate.toml has said meanwhile.
NOTED_SECONDS = TIME_MAX + DAY
# How many new ones are kept unsorted before they are sorted in.
APART = 1000


class Revocations:
    """Whether a token id is revoked, as of the last `refresh`."""

    def __init__(self):
        self._sorted: array = array("Q")
        self._apart: set[int] = set()
        self._since = 0

    def __contains__(self, token_id: bytes) -> bool:
        return self._knows(_mark(token_id))

    def refresh(self) -> None:
        """Read what was revoked since the last time."""
        rows = (
            GateRevoked.select(GateRevoked.token_id)
            .where(GateRevoked.revoked_at >= self._since - LATE_SECONDS)
            .tuples()
        )
        new, moment = array("Q"), now()
        for (token_id,) in rows.iterator():
            mark = _mark(bytes.fromhex(token_id))
            if not self._knows(mark):
                new.append(mark)
        self._since = moment
        if len(self._apart) + len(new) <= APART:
            self._apart = self._apart | set(new)
            return
        # Replaced, not changed: requests read it meanwhile.
        new.extend(self._sorted)
        new.extend(self._apart)
        self._sorted, self._apart = array("Q", sorted(new)), set()

    def _knows(self, mark: int) -> bool:
        marks = self._sorted
        at = bisect_left(marks, mark)
        return mark in self._apart or (at < len(marks) and marks[at] == mark)


def revoke(token_id: str) -> bool:
    """Revoke a token id. False: it was revoked before."""
    until = now() + NOTED_SECONDS
    row = GateRevoked.insert(token_id=token_id, revoked_at=now(), until=until)
    return row.on_conflict_ignore().as_rowcount().execute() == 1


def listed() -> Iterator[tuple[str, int]]:
    """All of them, the latest first: token id, and since when."""
    rows = GateRevoked.select(GateRevoked.token_id, GateRevoked.revoked_at)
    yield from rows.order_by(GateRevoked.revoked_at.desc()).tuples().iterator()


def tidy() -> None:
    """Forget those that nobody could use any more."""
    GateRevoked.delete().where(GateRevoked.until <= now()).execute()


def _mark(token_id: bytes) -> int:
    """The random part of a token id: two equal ones are as good as impossible."""
    return int.from_bytes(token_id[12:20])
