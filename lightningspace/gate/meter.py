"""Metering requests: they are taken from leases in this process's memory, so that few of them write
to the database.
"""

import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from lightningspace.gate import balances
from lightningspace.gate.balances import Busy, Key

# A lease that is not used for this long is given back, so that other processes can use it.
IDLE_SECONDS = 2
# Well before other processes would take this one for gone.
RENEWED_SECONDS = balances.STALE_SECONDS / 2
REMEMBERED = 10_000
# While the database hangs, one request waits for it, and the others no longer than this.
WAIT_SECONDS = 1


@contextmanager
def one_at_a_time(lock: threading.Lock) -> Iterator[None]:
    """Hold the lock. Raises Busy if it is not free in time."""
    if not lock.acquire(timeout=WAIT_SECONDS):
        raise Busy
    try:
        yield
    finally:
        lock.release()


@dataclass
class Held:
    """A lease: what is left of it, and what was left in the database when it was taken."""

    msat: int
    besides: int
    used_at: float
    noted: int  # of `msat`, in the database


class Meter:
    """One for each process; its first request may come after a fork. `clock`: a monotonic clock."""

    def __init__(self, clock: Callable[[], float] = time.monotonic):
        self._clock = clock
        self._lock = threading.Lock()
        self._process = ""
        self._held: dict[Key, Held] = {}
        self._renewed_at = 0.0
        self._credited: OrderedDict[str, None] = OrderedDict()

    def has_credited(self, payment_hash: str) -> bool:
        """Whether this process knows that the payment was credited; False: it may have been."""
        return payment_hash in self._credited

    def credit(self, payment_hash: str, key: Key, msat: int, until: int) -> bool:
        """Credit a payment. False: that was done before. Raises Busy."""
        if self.has_credited(payment_hash):
            return False
        with one_at_a_time(self._lock):
            is_new = balances.credit(payment_hash, key, msat, until)
            self._credited[payment_hash] = None
            if len(self._credited) > REMEMBERED:
                self._credited.popitem(last=False)
        return is_new

    def reserve(self, key: Key, msat: int) -> int | None:
        """Take `msat` for a request; return roughly what is left. None: there is not enough.

        Raises Busy while another process holds what is left, or the database hangs.
        """
        with one_at_a_time(self._lock):
            moment = self._clock()
            if self._held and moment - self._renewed_at > RENEWED_SECONDS:
                self._renew()
            held = self._held.get(key)
            if held is None or held.msat < msat:
                held = self._lease(key, msat, held, moment)
                if held is None:
                    return None
            held.msat -= msat
            held.used_at = moment
            return held.msat + held.besides

    def _lease(self, key: Key, msat: int, held: Held | None, moment: float) -> Held | None:
        if not self._held:
            self._process = self._process or secrets.token_hex(8)
            self._renewed_at = moment
        had = held.msat if held else 0
        leased = balances.lease(self._process, key, msat, had)
        if leased is None:
            elsewhere = balances.left(key, but_by=self._process)
            if elsewhere and elsewhere[0] + had >= msat:
                raise Busy
            return None
        self._held[key] = Held(*leased, moment, noted=leased[0])
        return self._held[key]

    def left(self, key: Key) -> tuple[int, int] | None:
        """What is left of a balance, and until when; None: there is none. Raises Busy."""
        with one_at_a_time(self._lock):
            held = self._held.get(key)
            found = balances.left(key, but_by=self._process)
        if found is None:
            return None
        msat, until = found
        return msat + (held.msat if held else 0), until

    def tick(self) -> None:
        """Keep the leases that are used, and give the others back. Call it each second or so."""
        with self._lock:
            if not self._held:
                return
            moment = self._clock()
            self._renew()
            used = {key: held for key, held in self._held.items() if held.msat != held.noted}
            balances.note(self._process, {key: held.msat for key, held in used.items()})
            for held in used.values():
                held.noted = held.msat
            for key, held in list(self._held.items()):
                if moment - held.used_at > IDLE_SECONDS:
                    balances.give_back(self._process, key, held.msat)
                    del self._held[key]

    def close(self) -> None:
        """Give everything back."""
        with self._lock:
            for key, held in list(self._held.items()):
                balances.give_back(self._process, key, held.msat)
                del self._held[key]

    def _renew(self) -> None:
        # A lease that others took for stale was given back: it must not be used up twice.
        still = balances.renew(self._process)
        self._held = {key: held for key, held in self._held.items() if key in still}
        self._renewed_at = self._clock()
