"""The lease: one worker's right to change an account at the panel while it works."""

import logging
import secrets
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from lightningspace.base.clock import now
from lightningspace.base.models import Account, db, transaction

logger = logging.getLogger(__name__)

# How long the accounts of a killed worker wait for another one. It is renewed so often that clocks
# which differ by some seconds do no harm.
LEASE_SECONDS = 45
RENEW_SECONDS = 10
# With less left than this, it was not renewed: its holder was paused, or has no database.
LEASE_LEFT_SECONDS = LEASE_SECONDS - 2 * RENEW_SECONDS
# Longer than three hanging calls: a holder that gives no sign of life for this long loses it.
SILENT_SECONDS = 5 * 60


def is_free(moment: int):
    """The condition for accounts that nobody holds.

    One held for longer than a lease can last was taken by a wrong clock.
    """
    too_far = moment + 2 * LEASE_SECONDS
    until = Account.leased_until
    return until.is_null() | (until <= moment) | (until > too_far)


class Lost(Exception):
    """The lease ran out, and another worker has taken over."""


class Lease:
    def __init__(self, account_id: str, renew_seconds: float = RENEW_SECONDS):
        self.account_id = account_id
        self.holder = secrets.token_hex(8)
        self._renew_seconds = renew_seconds
        self._alive_at = now()
        self._is_mine = (Account.id == account_id) & (Account.leased_by == self.holder)

    def take(self) -> bool:
        """Take the lease; False: another worker holds it."""
        moment = now()
        taken = Account.update(
            leased_by=self.holder,
            leased_until=moment + LEASE_SECONDS,
            leases=Account.leases + 1,
        ).where((Account.id == self.account_id) & is_free(moment))
        return taken.execute() == 1

    @contextmanager
    def renewed(self) -> Iterator[None]:
        """Keep renewing it, whatever the holder waits for."""
        is_over = threading.Event()
        threading.Thread(target=self._renew_until, args=(is_over,), daemon=True).start()
        try:
            yield
        finally:
            is_over.set()

    def _renew_until(self, is_over: threading.Event) -> None:
        while not is_over.wait(self._renew_seconds):
            if self._alive_at <= now() - SILENT_SECONDS:
                continue
            try:
                with db.connection_context(), transaction():
                    self._set_until()
            except Lost:
                return  # the holder sees it before the next call
            except Exception as error:
                logger.warning("account %s: lease not renewed: %s", self.account_id, error)

    def check(self) -> None:
        """Before a call: make sure that the lease is ours and has enough time left. Raises Lost."""
        self._alive_at = now()
        row = Account.select(Account.leased_until).where(self._is_mine).first()
        if row is None:
            raise Lost
        if row.leased_until <= now() + LEASE_LEFT_SECONDS:
            self.extend()

    def extend(self) -> None:
        """Renew it. Raises Lost if another worker has it; that undoes any transaction around it."""
        self._alive_at = now()
        self._set_until()

    def _set_until(self) -> None:
        extended = Account.update(leased_until=now() + LEASE_SECONDS).where(self._is_mine)
        if not extended.execute():
            raise Lost

    def release(self, reconcile_at: int | None, revision: int) -> None:
        """Give it back and set when to look again, unless the account has a newer revision."""
        free = {"leased_by": None, "leased_until": None}
        with transaction():
            settled = Account.update(reconcile_at=reconcile_at, **free).where(
                self._is_mine & (Account.revision == revision)
            )
            if not settled.execute():
                Account.update(free).where(self._is_mine).execute()
