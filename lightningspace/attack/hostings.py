"""The two hostings of a check: opened without payment, and always removed."""

import logging
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from lightningspace.base import passwords
from lightningspace.base.clock import now
from lightningspace.base.models import Account, Fact, transaction
from lightningspace.panel import reconcile
from lightningspace.rules import accounts, hostnames, progress, services, wanted
from lightningspace.shop import Shop

logger = logging.getLogger(__name__)

# The name of the fact that says when a check opened an account, before the account's id.
MADE = "hosting of the walls "
# A check takes minutes; an older hosting was left by a check that was killed.
SECONDS = 60 * 60
# How long to wait for the server's queue, and how often to look.
LIVE_SECONDS = 15 * 60
LOOK_SECONDS = 1


class CannotCheck(Exception):
    """The hostings of the check could not be opened. The text is for the operator."""


@dataclass(frozen=True)
class Hosting:
    account_id: str
    username: str
    password: str


@contextmanager
def neighbours(shop: Shop, server_id: int) -> Iterator[tuple[Hosting, Hosting]]:
    """An attacker and a neighbour, both live; they are removed at the end. Raises CannotCheck."""
    made: list[Hosting] = []
    try:
        for _ in range(2):
            made.append(_open(shop, server_id))
        wait(shop, *made)
        yield tuple(made)
    finally:
        _close([each.account_id for each in made])
        for each in made:
            try:
                reconcile.account(shop, each.account_id)
            except Exception:  # the worker will remove it
                logger.exception("account %s: not removed at once", each.account_id)


def close_left_over() -> None:
    """Remove what killed checks left; the worker calls it every minute."""
    made = Fact.select().where(Fact.name.startswith(MADE))
    _close(
        [fact.name.removeprefix(MADE) for fact in made if int(fact.value) <= now() - SECONDS],
    )


def _close(account_ids: list[str]) -> None:
    """Close these accounts, and forget those that are gone already."""
    for account_id in account_ids:
        accounts.close(account_id)
        if not Account.get_or_none(Account.id == account_id):
            Fact.delete().where(Fact.name == MADE + account_id).execute()


def _open(shop: Shop, server_id: int) -> Hosting:
    """Open an account as a paid order would."""
    account_id, password = secrets.token_hex(8), passwords.generate()
    password_hash = passwords.make_hash(password)
    space_mb, moment = shop.config.space_sizes_mb[0], now()
    with transaction():
        account = Account.create(
            id=account_id,
            username=_free_name(shop),
            server=server_id,
            space_mb=space_mb,
            password_hash=password_hash,
            opened_at=moment,
            expires_at=moment + SECONDS,
            valued_at=moment,
            value_msat=0,
            calendar_at=moment,
            # Nobody can keep it alive with tips.
            tips_page=False,
            tips_address=False,
            tips_offer=False,
        )
        wanted.want_all(shop, account, password)
        Fact.create(name=MADE + account_id, value=str(moment))
    logger.info("account %s: opened to try the walls", account_id)
    return Hosting(account_id, account.username, password)


def _free_name(shop: Shop) -> str:
    while Account.get_or_none(Account.username == (name := hostnames.free_name(shop))):
        pass
    return name


def wait(shop: Shop, *hostings: Hosting) -> None:
    """Wait until all services of these hostings are live. Raises CannotCheck.

    They are reconciled here as well, in case no worker runs.
    """
    deadline = time.monotonic() + LIVE_SECONDS
    while True:
        progress.look_at_queues(shop)
        troubles = [trouble for each in hostings if (trouble := _trouble(shop, each))]
        if not troubles:
            return
        if time.monotonic() > deadline:
            raise CannotCheck(f"a hosting of the check does not go live: {troubles[0]}")
        time.sleep(LOOK_SECONDS)


def _trouble(shop: Shop, of: Hosting) -> str | None:
    """What the hosting is waiting for, or None if it is live. Raises CannotCheck."""
    account = Account.get_by_id(of.account_id)
    if account.reconcile_at is not None and account.reconcile_at <= now():
        reconcile.account(shop, of.account_id)
    account, rows = Account.get_by_id(of.account_id), services.of_account(of.account_id)
    failing = [row for row in rows if row.error and not row.is_applied]
    told = "; ".join(f"{row.kind}: {row.error}" for row in failing)
    if any(row.permanent for row in failing):
        raise CannotCheck(f"a hosting of the check cannot be made: {told}")
    known = progress.Progress(account, rows)
    waiting = [row.kind for row in rows if known.state(row) not in ("live", "off")]
    return told or ", ".join(waiting) or None
