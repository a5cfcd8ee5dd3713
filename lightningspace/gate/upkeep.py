"""What each web process does for the gate besides answering requests, in one thread."""

import atexit
import logging
import os
import threading
from collections.abc import Callable

from peewee import PeeweeException

from lightningspace.base.logs import first_line
from lightningspace.base.models import drop_connection
from lightningspace.gate.counts import Counts
from lightningspace.gate.meter import Meter
from lightningspace.gate.revocations import Revocations

logger = logging.getLogger(__name__)

LOOK_SECONDS = 0.5
# After how many looks the counts are written.
COUNTS_EACH = 10


class Upkeep:
    """This process's memory of the gate. It follows the database, and works while that is away."""

    def __init__(self):
        self.meter, self.revoked, self.counts = Meter(), Revocations(), Counts()
        self._lock = threading.Lock()
        self._process = 0
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._failing: set[str] = set()

    def begin(self) -> None:
        """Start the thread, unless it runs; threads do not survive a fork."""
        if self._process == os.getpid():
            return
        with self._lock:
            if self._process == os.getpid():
                return
            self._guarded(self.revoked.refresh)
            self._process = os.getpid()
            self._thread = threading.Thread(target=self._run, name="gate", daemon=True)
            self._thread.start()
            atexit.register(self.stop)

    def stop(self) -> None:
        """Give leases back, and write the counts. May be called twice."""
        self._stopping.set()
        if self._thread:
            self._thread.join()

    def _run(self) -> None:
        looks = 0
        while not self._stopping.wait(LOOK_SECONDS):
            looks += 1
            self._guarded(self.revoked.refresh)
            self._guarded(self.meter.tick)
            if looks % COUNTS_EACH == 0:
                self._guarded(self.counts.write)
        self._guarded(self.meter.close)
        self._guarded(self.counts.write)

    def _guarded(self, step: Callable[[], None]) -> None:
        name = step.__qualname__
        try:
            step()
            self._failing.discard(name)
        except Exception as error:  # of whatever kind: without this thread nothing is revoked
            if name not in self._failing:  # once, until it works again
                told = None if isinstance(error, PeeweeException) else error
                logger.error("the gate: %s failed: %s", name, first_line(error), exc_info=told)
            self._failing.add(name)
            drop_connection()
