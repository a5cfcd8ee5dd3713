"""How far each wanted service is, what fails, and which generated passwords can still be shown."""

import logging
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property

from lightningspace.base.clock import now
from lightningspace.base.models import Account, Fact, Server, Service, transaction
from lightningspace.base.prices import DAY
from lightningspace.outside.ispconfig import Forbidden, PanelError
from lightningspace.rules import services
from lightningspace.rules.job_queue import Queue
from lightningspace.rules.services import this
from lightningspace.shop import Shop

logger = logging.getLogger(__name__)

# The name of a fact: what is known of a server's job queue.
QUEUE = "job queue of server {id}"
# If the panel does not tell how many jobs wait, they count as done after this time.
UNTOLD_SECONDS = 3 * 60


class ServiceState(StrEnum):
    """WAITING: to be made. GOING: to be removed. APPLIED: the panel has it, but the server has not
    carried it out yet. PROBLEM: it could not be made or changed.
    """

    WAITING = "waiting"
    CHANGING = "changing"
    GOING = "going"
    OFF = "off"
    APPLIED = "applied"
    LIVE = "live"
    PROBLEM = "problem"


UNFINISHED = (ServiceState.WAITING, ServiceState.CHANGING)
AT_REST = (ServiceState.LIVE, ServiceState.OFF)


class Progress:
    """How far the services of an account are. `rows`: all of its services."""

    def __init__(self, account: Account, rows: list[Service]):
        self.account = account
        self.rows = rows

    @cached_property
    def _queue(self) -> Queue:
        return queue_of(self.account.server_id)

    def summary(self) -> "Summary":
        """The summary of all services but what is put on the site over FTP."""
        return Summary(services.at_panel(self.rows), self)

    def state(self, row: Service) -> ServiceState:
        """GOING, WAITING or CHANGING while it is not applied; then APPLIED (CHANGING, if it is to
        be off) until the server has carried it out; then LIVE or OFF.
        """
        if not row.is_applied:
            if services.is_going(self.account, row):
                return ServiceState.GOING
            return ServiceState.CHANGING if row.applied_at else ServiceState.WAITING
        if row.kind in services.SWITCHED and not services.is_on(self.account, row):
            return ServiceState.OFF if self._is_carried_out(row) else ServiceState.CHANGING
        return ServiceState.LIVE if self._is_live(row) else ServiceState.APPLIED

    def told_state(self, row: Service) -> ServiceState:
        """Like `state`, as its owner is told; PROBLEM: it could not be made or changed."""
        known = self.state(row)
        return ServiceState.PROBLEM if row.error and known in UNFINISHED else known

    def jobs_before(self) -> int | None:
        """How many jobs its server must still do before all that is applied is carried out.

        None: it is carried out, or nobody has looked yet.
        """
        applied = [
            row.applied_at
            for row in services.at_panel(self.rows)
            if row.is_applied and not self._is_carried_out(row)
        ]
        return self._queue.ahead_of(max(applied)) or None if applied else None

    def _is_live(self, row: Service) -> bool:
        if row.kind != "ftp":
            return self._is_carried_out(row)
        upload = services.only(self.rows, "tipjar")
        if upload is None:
            return self._is_carried_out(row)
        # An upload that got in after it was applied proves it, whatever the queue.
        if (upload.applied_at or 0) > row.applied_at:
            return True
        # If our upload cannot get in, as the operator knows, only the queue can tell.
        return self._is_carried_out(row) and bool(upload.applied_at or upload.error)

    def _is_carried_out(self, row: Service) -> bool:
        queue = self._queue
        is_served = services.KINDS[row.kind].is_served
        until = queue.restarted_until if is_served else queue.done_until
        return row.is_applied and row.applied_at < until


def is_failing(row: Service) -> bool:
    """Whether the panel has refused it, or not answered, since it was last applied."""
    return bool(row.error) and not row.is_applied


@dataclass(frozen=True)
class Summary:
    """How far some services of an account are."""

    rows: list[Service]
    known: Progress

    @property
    def applied(self) -> int:
        """How many are at the panel as wanted."""
        return sum(row.is_applied for row in self.rows)

    @property
    def failing(self) -> list[Service]:
        return [row for row in self.rows if is_failing(row)]

    @property
    def is_stuck(self) -> bool:
        """Whether something fails that no retry cures."""
        return any(row.permanent for row in self.failing)

    @property
    def is_being_applied(self) -> bool:
        """Whether something is still to be told to the panel, which has not refused it."""
        return any(not row.is_applied and not row.error for row in self.rows)

    @property
    def under_way(self) -> list[Service]:
        """The services that are not as wanted yet, at the panel or at the server."""
        return [row for row in self.rows if self.known.state(row) not in AT_REST]

    @property
    def is_at_rest(self) -> bool:
        return not self.under_way


def queue_of(server_id: int) -> Queue:
    known = Fact.get_or_none(Fact.name == QUEUE.format(id=server_id))
    return Queue.read(known.value if known else "")


def look_at_queues(shop: Shop) -> None:
    """See how many jobs each server has to do, if something that was applied waits for them."""
    for server in list(Server.select(Server.id)):  # one that sells no more still has accounts
        if _waits(server.id, queue_of(server.id).restarted_until):
            _look_at_queue(shop, server.id)


def _waits(server_id: int, since: int) -> bool:
    if not 0 < since <= now():  # not looked at yet, or by a wrong clock
        return True
    rows = Service.select(Service.account).where(Service.applied_at >= since).distinct()
    here = (Account.id << [row.account_id for row in rows]) & (Account.server == server_id)
    return Account.select().where(here).exists()


def _look_at_queue(shop: Shop, server_id: int) -> None:
    name, moment = QUEUE.format(id=server_id), now()
    Fact.insert(name=name, value="").on_conflict_ignore().execute()
    before = Fact.get_by_id(name).value
    queue = Queue.read(before)
    try:
        queue.look(moment, shop.panel.jobs_waiting(server_id))
    except Forbidden as error:
        logger.warning("the queue of server %d is not known: %s", server_id, error)
        queue.take_for_done(moment - UNTOLD_SECONDS)
    except PanelError as error:  # no warning: it is away whenever its web server restarts
        logger.info("the queue of server %d is not known: %s", server_id, error)
        return
    # This look builds on the one before: it does not count if another worker has looked meanwhile.
    Fact.update(value=str(queue)).where((Fact.name == name) & (Fact.value == before)).execute()


def failing() -> list[Service]:
    """The services that the panel has refused or not answered for, the longest first."""
    since = Service.failed_since.is_null(False)
    return list(Service.select().where(since).order_by(Service.failed_since))


def problems() -> list[Service]:
    """The failing services that no retry cures, or that have failed for a day."""
    return [row for row in failing() if row.permanent or row.failed_since <= now() - DAY]


# -- generated passwords -------------------------------------------------------------


def wipe_shown_passwords() -> None:
    """Forget generated passwords a day after they began to work."""
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
    """Wipe the generated passwords that a page could show at `seen_at`: they were noted."""
    is_ready = Account.update(password_sealed=None).where(
        (Account.id == account_id) & (Account.ready_at <= seen_at)
    )
    with transaction():
        if is_ready.execute():
            Service.update(own_password_sealed=None).where(
                (Service.account == account_id)
                & Service.password_sealed.is_null()
                & (Service.applied_at <= seen_at)
            ).execute()
