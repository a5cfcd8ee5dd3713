"""The shop's one clock: Unix seconds, UTC. Tests set it, everything else only reads it."""

import time
from collections.abc import Callable

_source: Callable[[], float] = time.time


def now() -> int:
    return int(_source())


def set_source(source: Callable[[], float] | None) -> None:
    """Read the time from `source` from now on; None goes back to the machine's clock."""
    global _source
    _source = source or time.time
