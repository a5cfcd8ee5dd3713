"""The shop's only clock: Unix seconds, UTC. Tests set it; everything else reads it."""

import time
from collections.abc import Callable
from datetime import UTC, datetime

# How far apart the clocks of two boxes may be.
CLOCKS_DIFFER_SECONDS = 5 * 60

_source: Callable[[], float] = time.time

MINUTE, HOUR, DAY = 60, 60 * 60, 24 * 60 * 60
SPANS = {"days": DAY, "hours": HOUR}


def now() -> int:
    return int(_source())


def set_source(source: Callable[[], float] | None) -> Callable[[], float]:
    """Read the time from `source`, and return the source before; None: the machine's clock."""
    global _source
    before, _source = _source, source or time.time
    return before


def iso_time(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def iso_or_none(seconds: int | None) -> str | None:
    return None if seconds is None else iso_time(seconds)


def from_iso(text: str) -> int:
    """The inverse of `iso_time`. Raises ValueError."""
    return int(datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC).timestamp())


def clock_time(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M UTC")


def day(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%-d %b %Y")


def span(seconds: int) -> str:
    """A duration in its largest fitting unit, rounded down: "89 days"."""
    for unit, length in SPANS.items():
        if seconds >= 2 * length:
            return f"{seconds // length} {unit}"
    minutes = max(0, seconds) // MINUTE
    return f"{minutes} minute{'' if minutes == 1 else 's'}"


def time_left(seconds: int) -> str:
    """Like `span`, but rounded: hours after 90 days were bought, it is still "90 days"."""
    if _nearest(seconds, HOUR) >= 2 * DAY:
        return span(_nearest(seconds, DAY))
    if _nearest(seconds, MINUTE) >= 2 * HOUR:
        return span(_nearest(seconds, HOUR))
    return span(_nearest(seconds, MINUTE))


def _nearest(seconds: int, length: int) -> int:
    return (seconds + length // 2) // length * length
