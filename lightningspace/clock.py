"""The shop's one clock: Unix seconds, UTC. Tests set it, everything else only reads it."""

import logging
import time
from collections.abc import Callable
from datetime import UTC, datetime

logger = logging.getLogger(__name__)

# By how much the clocks of two boxes may differ.
CLOCKS_DIFFER_SECONDS = 5 * 60
# A clock that was set ahead by mistake is set back before that.
STEP_LASTS_SECONDS = 30 * 60

_source: Callable[[], float] = time.time

SPANS = {"days": 24 * 60 * 60, "hours": 60 * 60}


def _uptime() -> float:
    # Sleeping counts; where that is not known, time awake.
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


def now() -> int:
    return int(_source())


def set_source(source: Callable[[], float] | None) -> None:
    """Read the time from `source` from now on; None goes back to the machine's clock."""
    global _source
    _source = source or time.time


class Steps:
    """Notices that the clock is set forward while this process runs.

    What time that has really passed, the machine's time since its start says.
    """

    def __init__(self, uptime: Callable[[], float] = _uptime):
        self._uptime = uptime
        self._offset = now() - uptime()
        self._noticed_at: float | None = None

    def is_right(self) -> bool:
        """False from a step forward on, until it is taken back or has lasted long enough.

        To be asked every few seconds: small corrections are none.
        """
        uptime = self._uptime()
        offset = now() - uptime
        if offset <= self._offset + CLOCKS_DIFFER_SECONDS:
            self._offset, self._noticed_at = offset, None
            return True
        if self._noticed_at is None:
            self._noticed_at = uptime
            logger.error(
                "the clock was set forward to %s: paid orders take effect when it is set back, or "
                "in %s; restart the worker if the time is right",
                clock_time(now()),
                span(STEP_LASTS_SECONDS),
            )
        if uptime - self._noticed_at >= STEP_LASTS_SECONDS:
            self._offset, self._noticed_at = offset, None
        return self._noticed_at is None


def iso_time(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def from_iso(text: str) -> int:
    """What `iso_time` was given. Raises ValueError."""
    return int(datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC).timestamp())


def clock_time(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M UTC")


def span(seconds: int) -> str:
    """A span of time in its largest fitting unit, rounded down: "89 days"."""
    for unit, length in SPANS.items():
        if seconds >= 2 * length:
            return f"{seconds // length} {unit}"
    minutes = max(0, seconds) // 60
    return f"{minutes} minute{'' if minutes == 1 else 's'}"
