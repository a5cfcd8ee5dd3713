"""One worker's right to change an account at the panel, for a while."""

import secrets

from lightningspace.clock import now
from lightningspace.models import Account, transaction
from lightningspace.panel import CALL_SECONDS

# Longer than three calls that hang, so that boxes whose clocks differ by seconds do no harm.
LEASE_SECONDS = 5 * 60
# A call starts only while its lease outlasts it.
LEASE_LEFT_SECONDS = CALL_SECONDS + 30


def is_free(moment: int):
    """The condition that finds accounts which nobody holds.

    One that is held beyond what a lease can last was taken by a clock that was wrong.
    """
    too_far = moment + 2 * LEASE_SECONDS
    until = Account.leased_until
    return until.is_null() | (until <= moment) | (until > too_far)


class Lost(Exception):
    """The lease ran out, and another worker has taken over."""


class Lease:
    def __init__(self, account_id: str):
        self.account_id = account_id
        self.holder = secrets.token_hex(8)
        self._is_mine = (Account.id == account_id) & (Account.leased_by == self.holder)

    def take(self) -> bool:
        """Whether it was free, or had run out."""
        moment = now()
        taken = Account.update(
            leased_by=self.holder,
            leased_until=moment + LEASE_SECONDS,
            leases=Account.leases + 1,
        ).where((Account.id == self.account_id) & is_free(moment))
        return taken.execute() == 1

    def check(self) -> None:
        """See to it that the lease outlasts a call that starts now. Raises Lost."""
        row = Account.select(Account.leased_until).where(self._is_mine).first()
        if row is None:
            raise Lost
        if row.leased_until <= now() + LEASE_LEFT_SECONDS:
            self.extend()

    def extend(self) -> None:
        """Raise Lost if another has taken it. In a transaction, that undoes the rest of it."""
        extended = Account.update(leased_until=now() + LEASE_SECONDS).where(self._is_mine)
        if not extended.execute():
            raise Lost

    def release(self, reconcile_at: int | None, revision: int) -> None:
        """Give the lease back and say when to look again, unless something is wanted anew."""
        free = {"leased_by": None, "leased_until": None}
        with transaction():
            settled = Account.update(reconcile_at=reconcile_at, **free).where(
                self._is_mine & (Account.revision == revision)
            )
            if not settled.execute():
                Account.update(free).where(self._is_mine).execute()
