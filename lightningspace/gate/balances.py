"""Prepaid balances in the database: credited once for each payment, used up by leases.

All amounts are in msat. A balance belongs to a token id: all its credentials draw on it.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from peewee import EXCLUDED, Case, fn

from lightningspace.base.clock import DAY, now
from lightningspace.base.gate_models import GateBalance, GateCredited, GateLease, GateSettled
from lightningspace.base.models import transaction
from lightningspace.rules import clock_watch

# For how many requests a lease is, and which part of a balance one process takes at once.
LEASE_REQUESTS = 64
PART = 4
# A lease that was not renewed for this long belongs to a process that is gone.
STALE_SECONDS = 15
TRIES = 10
# How long settled requests are remembered: after a restart nginx's log is read again.
SETTLED_SECONDS = 7 * DAY

Key = tuple[str, str]  # token id, service


class Busy(Exception):
    """Other processes are changing this balance, or the database hangs."""


@dataclass(frozen=True)
class Cost:
    """What a request was found to cost. `reserved`: what was taken before it."""

    request_id: str
    key: Key
    reserved: int
    msat: int


def credit(payment_hash: str, key: Key, msat: int, until: int) -> bool:
    """Credit a payment to the balance of a token id. False: that was done before.

    `until`: when the credential ends. What was left before can be used until then as well.
    """
    token_id, service = key
    row = GateCredited.insert(payment_hash=payment_hash, until=until)
    with transaction():
        if row.on_conflict_ignore().as_rowcount().execute() == 0:
            return False
        later = Case(
            None, [(EXCLUDED.until > GateBalance.until, EXCLUDED.until)], GateBalance.until
        )
        GateBalance.insert(token_id=token_id, service=service, msat=msat, until=until).on_conflict(
            conflict_target=[GateBalance.token_id, GateBalance.service],
            update={GateBalance.msat: GateBalance.msat + EXCLUDED.msat, GateBalance.until: later},
        ).execute()
    return True


def left(key: Key, but_by: str = "") -> tuple[int, int] | None:
    """What is left, and until when; None: there is no balance.

    What processes have leased counts as left, by their last note, but not that of `but_by`.
    """
    row = GateBalance.get_or_none(_is(GateBalance, key) & (GateBalance.until > now()))
    if row is None:
        return None
    theirs = _is(GateLease, key) & (GateLease.process != but_by)
    leased = GateLease.select(fn.SUM(GateLease.msat)).where(theirs).scalar()
    # PostgreSQL's sum is a Decimal.
    return row.msat + int(leased or 0), row.until


def listed() -> Iterator[tuple[str, str, int, int]]:
    """All balances: token id, service, what is left, and until when."""
    leases = GateLease.select(GateLease.token_id, GateLease.service, GateLease.msat).tuples()
    leased = Counter()
    for token_id, service, msat in leases.iterator():
        leased[token_id, service] += msat
    good = GateBalance.select().where(GateBalance.until > now())
    for row in good.order_by(GateBalance.token_id, GateBalance.service).iterator():
        msat = row.msat + leased[row.token_id, row.service]
        yield row.token_id, row.service, msat, row.until


def lease(process: str, key: Key, msat: int, held: int) -> tuple[int, int] | None:
    """Lease more, for requests of `msat`, to a process that holds `held` of it.

    Returns what it then holds, and what is left in the balance; None: there is not enough for one
    request. Raises Busy.
    """
    for _ in range(TRIES):
        # Before the transaction: whoever has nothing left need not wait for other writers.
        row = GateBalance.get_or_none(_is(GateBalance, key) & (GateBalance.until > now()))
        if row is None or row.msat + held < msat:
            return None
        with transaction():
            # Of a balance that is almost used up, little is kept from other processes.
            more = max(msat - held, min(LEASE_REQUESTS * msat - held, row.msat // PART))
            taken = GateBalance.update(msat=GateBalance.msat - more).where(
                _is(GateBalance, key) & (GateBalance.msat >= more)
            )
            if taken.execute() != 1:
                continue
            token_id, service = key
            facts = {"msat": held + more, "renewed_at": now()}
            GateLease.insert(
                process=process, token_id=token_id, service=service, **facts
            ).on_conflict(
                conflict_target=[GateLease.process, GateLease.token_id, GateLease.service],
                update=facts,
            ).execute()
            return held + more, row.msat - more
    raise Busy


def renew(process: str) -> set[Key]:
    """Note that a process is alive; return the keys of the leases that it still has."""
    own = GateLease.process == process
    with transaction():
        GateLease.update(renewed_at=now()).where(own).execute()
        rows = GateLease.select(GateLease.token_id, GateLease.service).where(own).tuples()
        return set(rows)


def note(process: str, held: dict[Key, int]) -> None:
    """Note what is left of leases, to be shown, and in case the process is killed."""
    with transaction():
        for key, msat in held.items():
            own = _is(GateLease, key) & (GateLease.process == process)
            GateLease.update(msat=msat).where(own).execute()


def give_back(process: str, key: Key, msat: int) -> None:
    """End a lease, of which `msat` are left. May be called twice."""
    with transaction():
        own = _is(GateLease, key) & (GateLease.process == process)
        if GateLease.delete().where(own).execute() == 1:
            _add(key, msat)


def end_stale_leases() -> int:
    """Give back the leases of processes that are gone; return how many.

    Nobody knows how much of one such a process has used up since its last note: the customer gets
    it back.
    """
    before = now() - STALE_SECONDS
    # A lease from the future, by a clock that was set back since, would stay for ever.
    is_stale = (GateLease.renewed_at < before) | (GateLease.renewed_at > now() + STALE_SECONDS)
    ended = 0
    for row in list(GateLease.select().where(is_stale).limit(1000)):
        with transaction():
            as_seen = (GateLease.process == row.process) & (GateLease.renewed_at == row.renewed_at)
            key = row.token_id, row.service
            if GateLease.delete().where(as_seen & _is(GateLease, key)).execute() == 1:
                _add(key, row.msat)
                ended += 1
    return ended


def settle(costs: Iterable[Cost]) -> None:
    """Give back what requests cost less than was reserved, or take what they cost more; each once.

    A balance never falls below 0. May be called twice.
    """
    with transaction():
        for cost in costs:
            if cost.msat == cost.reserved:
                continue
            row = GateSettled.insert(request_id=cost.request_id, settled_at=now())
            if row.on_conflict_ignore().as_rowcount().execute() == 1:
                _add(cost.key, cost.reserved - cost.msat)


def tidy() -> None:
    """Forget what is over, unless the clock has leapt within the last day.

    Once the clock is right again, a payment that only seemed to be over must not be credited twice.
    """
    if now() - clock_watch.unbroken_since() < DAY:
        return
    GateBalance.delete().where(GateBalance.until <= now()).execute()
    GateCredited.delete().where(GateCredited.until <= now()).execute()
    GateSettled.delete().where(GateSettled.settled_at < now() - SETTLED_SECONDS).execute()


def _add(key: Key, msat: int) -> None:
    summed = GateBalance.msat + msat
    at_least_0 = Case(None, [(summed > 0, summed)], 0)
    GateBalance.update(msat=at_least_0).where(_is(GateBalance, key)).execute()


def _is(table, key: Key):
    token_id, service = key
    return (table.token_id == token_id) & (table.service == service)
