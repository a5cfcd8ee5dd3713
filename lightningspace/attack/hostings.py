"""The two hostings of a check: made without a payment, and removed whatever happens."""

import json
import logging
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from lightningspace import hosting, names, passwords, progress, wanted
from lightningspace.clock import now
from lightningspace.models import Account, Fact, Server, transaction
from lightningspace.shop import Shop

logger = logging.getLogger(__name__)

# The accounts that checks have made and not yet seen closed.
MADE = "hostings of the walls"
# Should nothing else remove them, the calendar does: that is their paid time, and their grace.
SECONDS = 60 * 60
# The server's queue is waited for so long, and looked at so often.
LIVE_SECONDS = 15 * 60
LOOK_SECONDS = 1


class CannotCheck(Exception):
    """The hostings of the check could not be made; its text is for the operator."""


@dataclass(frozen=True)
class Hosting:
    account_id: str
    username: str
    password: str


@contextmanager
def neighbours(shop: Shop, server_id: int) -> Iterator[tuple[Hosting, Hosting]]:
    """An attacker and his neighbour, both live. They are removed in the end, and so are those of
    earlier checks that were killed. Raises CannotCheck.
    """
    made: list[Hosting] = []
    try:
        for _ in range(2):
            made.append(_open(shop, server_id))
        wait(shop, *made)
        yield tuple(made)
    finally:
        long_ago = Account.select(Account.id).where(
            (Account.id << _made()) & (Account.opened_at <= now() - SECONDS)
        )
        _close(shop, [each.account_id for each in made] + [each.id for each in long_ago])


def _open(shop: Shop, server_id: int) -> Hosting:
    """An account as a paid order opens it."""
    account_id, password = secrets.token_hex(8), passwords.generate()
    password_hash = passwords.make_hash(password)
    space_mb, moment = shop.config.space_sizes_mb[0], now()
    with transaction():
        made = _made()
        account = Account.create(
            id=account_id,
            username=_free_name(),
            server=server_id,
            space_mb=space_mb,
            password_hash=password_hash,
            opened_at=moment,
            expires_at=moment + SECONDS,
            valued_at=moment,
            value_msat=0,
            calendar_at=moment,
        )
        # Over the server's capacity, if need be: it is for minutes.
        Server.update(held_mb=Server.held_mb + space_mb).where(Server.id == server_id).execute()
        wanted.want_all(shop, account, password)
        _note([*made, account_id])
    logger.info("account %s: opened to try the walls", account_id)
    return Hosting(account_id, account.username, password)


def _free_name() -> str:
    while Account.get_or_none(Account.username == (name := names.generate())):
        pass
    return name


def wait(shop: Shop, *hostings: Hosting) -> None:
    """Until all that these want works at their server. Raises CannotCheck.

    They are reconciled here too, for the case that no worker runs.
    """
    deadline = time.monotonic() + LIVE_SECONDS
    while troubles := [trouble for each in hostings if (trouble := _trouble(shop, each))]:
        if time.monotonic() > deadline:
            raise CannotCheck(f"a hosting of the check does not come to life: {troubles[0]}")
        time.sleep(LOOK_SECONDS)


def _trouble(shop: Shop, of: Hosting) -> str | None:
    """What its hosting waits for; None: it is live."""
    if of.account_id in hosting.due_accounts():
        hosting.reconcile(shop, of.account_id)
    progress.look_at_queues(shop)
    account, rows = Account.get_by_id(of.account_id), wanted.services_of(of.account_id)
    failing = [row for row in rows if row.error and not row.is_applied]
    told = "; ".join(f"{row.kind}: {row.error}" for row in failing)
    if any(row.permanent for row in failing):
        raise CannotCheck(f"a hosting of the check cannot be made: {told}")
    known = progress.Progress(account, rows)
    waiting = [row.kind for row in rows if known.state(row) not in ("live", "off")]
    return told or ", ".join(waiting) or None


def _close(shop: Shop, account_ids: list[str]) -> None:
    """What cannot be removed now, the worker removes."""
    for account_id in account_ids:
        wanted.close(account_id)
        hosting.reconcile(shop, account_id)
    with transaction():
        _note([id for id in _made() if Account.get_or_none(Account.id == id)])


def _made() -> list[str]:
    fact = Fact.get_or_none(Fact.name == MADE)
    return json.loads(fact.value) if fact else []


def _note(account_ids: list[str]) -> None:
    value = json.dumps(account_ids)
    Fact.insert(name=MADE, value=value).on_conflict(
        conflict_target=[Fact.name], update={"value": value}
    ).execute()
