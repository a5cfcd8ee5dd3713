"""What has become of what is wanted: how far each service is, what fails, and which generated
passwords are still to be seen.
"""

import logging

from peewee import fn

from lightningspace import wanted
from lightningspace.clock import now
from lightningspace.models import Account, Server, Service, transaction
from lightningspace.panel import PanelError
from lightningspace.prices import DAY
from lightningspace.shop import Shop
from lightningspace.wanted import this

logger = logging.getLogger(__name__)

LIVE_AT_LAST_SECONDS = 3 * 60


def state(account: Account, row: Service) -> str:
    """What has become of a service.

    going, waiting (to be made) or changing while it is not applied; off; applied; live.
    """
    if not row.is_applied:
        if wanted.is_going(account, row):
            return "going"
        return "changing" if row.applied_at else "waiting"
    if row.kind in wanted.SWITCHED and not wanted.is_on(account, row):
        return "off"
    return "live" if is_live(account.server, row) else "applied"


def told_state(account: Account, row: Service) -> str:
    """As `state`, for its owner; or problem, when it could not be made or changed."""
    known = state(account, row)
    return "problem" if row.error and known in ("waiting", "changing") else known


def is_live(server: Server, row: Service) -> bool:
    """Whether the server has carried out what was applied.

    Its queue was empty once since then; it counts every customer's changes, so three minutes
    are enough as well.
    """
    since = max(server.queue_empty_at or 0, now() - LIVE_AT_LAST_SECONDS)
    return row.is_applied and row.applied_at < since


def look_at_queues(shop: Shop) -> None:
    """Note when a server's job queue is empty, if something was applied that waits for it."""
    moment = now()
    newest = (
        Service.select(Account.server, fn.MAX(Service.applied_at))
        .join(Account)
        .where(Service.applied_at.between(moment - LIVE_AT_LAST_SECONDS, moment))
        .group_by(Account.server)
    )
    for server_id, applied_at in list(newest.tuples()):
        server = Server.get_by_id(server_id)
        if server.queue_empty_at is not None and server.queue_empty_at > applied_at:
            continue
        try:
            is_empty = shop.panel.jobs_waiting(server_id) == 0
        except PanelError as error:
            logger.warning("the queue of server %d is not known: %s", server_id, error)
            continue
        if is_empty:
            Server.update(queue_empty_at=moment).where(Server.id == server_id).execute()


def failing() -> list[Service]:
    """What the panel has refused or not answered; the longest first."""
    since = Service.failed_since.is_null(False)
    return list(Service.select().where(since).order_by(Service.failed_since))


def problems() -> list[Service]:
    """Of what fails: what no retry cures, and what has failed for a day."""
    return [row for row in failing() if row.permanent or row.failed_since <= now() - DAY]


# -- generated passwords -------------------------------------------------------------


def wipe_shown_passwords() -> None:
    """Forget generated passwords a day after they opened something."""
    seen = now() - DAY
    initial = Account.select(Account.id).where(
        Account.password_sealed.is_null(False) & (Account.ready_at <= seen)
    )
    for account in list(initial):
        Account.update(password_sealed=None).where(Account.id == account.id).execute()
    own = Service.select().where(
        Service.own_password_sealed.is_null(False)
        & Service.password_sealed.is_null()
        & (Service.applied_at <= seen)
    )
    for row in list(own):
        Service.update(own_password_sealed=None).where(
            this(row) & (Service.own_password_sealed == row.own_password_sealed)
        ).execute()


def forget_passwords(account_id: str, seen_at: int) -> None:
    """Wipe the generated passwords that a page of `seen_at` could show: they were noted."""
    with transaction():
        forget_passwords_within(account_id, seen_at)


def forget_passwords_within(account_id: str, seen_at: int) -> None:
    """As `forget_passwords`, within a transaction of the caller's."""
    is_ready = Account.update(password_sealed=None).where(
        (Account.id == account_id) & (Account.ready_at <= seen_at)
    )
    if is_ready.execute():
        Service.update(own_password_sealed=None).where(
            (Service.account == account_id)
            & Service.password_sealed.is_null()
            & (Service.applied_at <= seen_at)
        ).execute()
