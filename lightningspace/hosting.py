"""What the customer gets: the wanted services, and making the panel match them.

The database says what should be. `reconcile` walks the rows that are not applied: look first,
create second, record at once. So it can be repeated, and killed anywhere, without harm.
"""

import logging
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass

from lightningspace import passwords
from lightningspace.clock import now
from lightningspace.models import Account, Service, transaction
from lightningspace.panel import CALL_SECONDS, Panel, PanelError
from lightningspace.prices import DAY
from lightningspace.shop import Shop
from lightningspace.vault import Unreadable

logger = logging.getLogger(__name__)

# In the order in which the panel can take them.
KINDS = ("client", "site", "ftp", "shell", "database_user", "database", "mail_domain", "mailbox")
WITH_PASSWORD = ("ftp", "shell", "database_user", "mailbox")

# How the space of an account is split.
SPLIT_PERCENT = {"site": 70, "database": 10, "mailbox": 20}

# Longer than three calls that hang, so that boxes whose clocks differ by seconds do no harm.
LEASE_SECONDS = 5 * 60
# A call may start only while its lease outlasts it.
LEASE_LEFT_SECONDS = CALL_SECONDS + 30

RETRY_SECONDS_MAX = 5 * 60
LIVE_AT_LAST_SECONDS = 3 * 60


# -- what is wanted ------------------------------------------------------------------


def site_name(shop: Shop, username: str) -> str:
    return f"{username}.{shop.config.base_domain}"


def want_all(shop: Shop, account: Account, password: str) -> None:
    """Within a transaction: want every service of a new account, with one password for all."""
    prefixed = shop.config.panel_prefix + account.username
    site = site_name(shop, account.username)
    wanted = {
        "client": shop.config.panel_prefix + account.id,
        "site": site,
        "ftp": prefixed,
        "shell": prefixed,
        "database_user": prefixed,
        "database": prefixed,
        "mail_domain": site,
        "mailbox": f"info@{site}",
    }
    for kind, name in wanted.items():
        sealed = shop.vault.seal(password) if kind in WITH_PASSWORD else None
        Service.create(account=account, kind=kind, name=name, password_sealed=sealed)
    Account.update(revision=Account.revision + 1, reconcile_at=now()).where(
        Account.id == account.id
    ).execute()


def may_send(shop: Shop, account: Account) -> bool:
    """Whether its mailboxes may: an hour's hosting is not a spam cannon."""
    paid = account.expires_at - (account.ready_at or account.opened_at)
    return paid >= shop.config.mail_send_min_days * DAY


def services_of(account_id: str) -> list[Service]:
    rows = Service.select().where(Service.account == account_id)
    return sorted(rows, key=lambda row: (KINDS.index(row.kind), row.name))


def due_accounts() -> list[str]:
    """Accounts that want something of the panel now and that no worker holds."""
    moment = now()
    rows = (
        Account.select(Account.id)
        .where(
            (Account.reconcile_at <= moment)
            & (Account.leased_until.is_null() | (Account.leased_until <= moment))
        )
        .order_by(Account.reconcile_at)
    )
    return [row.id for row in rows]


# -- making the panel match ----------------------------------------------------------


class Lease:
    """One worker's right to change an account at the panel, for a while."""

    def __init__(self, account_id: str):
        self.account_id = account_id
        self.holder = secrets.token_hex(8)
        self._is_mine = (Account.id == account_id) & (Account.leased_by == self.holder)

    def take(self) -> bool:
        moment = now()
        free = Account.leased_until.is_null() | (Account.leased_until <= moment)
        taken = Account.update(leased_by=self.holder, leased_until=moment + LEASE_SECONDS).where(
            (Account.id == self.account_id) & free
        )
        return taken.execute() == 1

    def outlasts_a_call(self) -> bool:
        row = Account.select(Account.leased_until).where(self._is_mine).first()
        return row is not None and row.leased_until > now() + LEASE_LEFT_SECONDS

    def extend(self) -> None:
        Account.update(leased_until=now() + LEASE_SECONDS).where(self._is_mine).execute()

    def release(self, reconcile_at: int | None, revision: int) -> None:
        """Give the lease back and say when to look again, unless something is wanted anew."""
        free = {"leased_by": None, "leased_until": None}
        with transaction():
            settled = Account.update(reconcile_at=reconcile_at, **free).where(
                self._is_mine & (Account.revision == revision)
            )
            if not settled.execute():
                Account.update(free).where(self._is_mine).execute()


def reconcile(shop: Shop, account_id: str, stopping: Callable[[], bool] = lambda: False) -> None:
    """Make the panel match what the account wants; what fails is noted and tried again later.

    Any worker may call it at any time: the lease lets one of them through. It ends
    between two calls of the panel when `stopping()` is true.
    """
    lease = Lease(account_id)
    if not lease.take():
        return
    account = Account.get_by_id(account_id)
    look_again = account.reconcile_at
    try:
        look_again = _apply_all(shop, account, lease, stopping)
    finally:
        lease.release(look_again, account.revision)


def _apply_all(
    shop: Shop, account: Account, lease: Lease, stopping: Callable[[], bool]
) -> int | None:
    """When to look at the account again; None when everything is applied."""
    rows = {row.kind: row for row in services_of(account.id)}
    for row in rows.values():
        if row.is_applied:
            continue
        if stopping() or not lease.outlasts_a_call():
            return account.reconcile_at
        started = time.monotonic()
        try:
            panel_id = _apply(_Task(shop, account, rows, lease), row)
        except _LeaseLost:
            return account.reconcile_at
        except PanelError as error:
            return _note_failure(row, str(error), error.permanent)
        except Exception as error:
            logger.exception("account %s: %s", account.id, row.kind)
            return _note_failure(row, f"a fault of ours: {type(error).__name__}", False)
        _note_success(row, panel_id, lease)
        milliseconds = (time.monotonic() - started) * 1000
        logger.info(
            "account %s: %s applied as %d, %.0f ms", account.id, row.kind, panel_id, milliseconds
        )
    _note_ready(account)
    return None


def _this(row: Service):
    return (
        (Service.account == row.account_id)
        & (Service.kind == row.kind)
        & (Service.name == row.name)
    )


def _note_success(row: Service, panel_id: int, lease: Lease) -> None:
    row.panel_id = panel_id
    facts = {
        "panel_id": panel_id,
        "applied_revision": row.revision,
        "applied_at": now(),
        "live_at": None,
        "error": None,
        "permanent": False,
        "tries": 0,
        "failed_since": None,
    }
    with transaction():
        Service.update(facts).where(_this(row)).execute()
        # A password that was changed meanwhile is wanted still.
        Service.update(password_sealed=None).where(
            _this(row) & (Service.revision == row.revision)
        ).execute()
        lease.extend()


def _note_failure(row: Service, text: str, permanent: bool) -> int:
    moment = now()
    Service.update(
        error=text,
        permanent=permanent,
        tries=Service.tries + 1,
        tried_at=moment,
        failed_since=row.failed_since or moment,
    ).where(_this(row)).execute()
    logger.log(
        logging.ERROR if permanent else logging.WARNING,
        "account %s: %s not applied: %s",
        row.account_id,
        row.kind,
        text,
    )
    if permanent:
        return moment + RETRY_SECONDS_MAX
    return moment + min(RETRY_SECONDS_MAX, 2 ** min(row.tries + 1, 10))


def _note_ready(account: Account) -> None:
    """The paid time starts when everything is there, however long that took."""
    moment = now()
    ready = (
        Account.update(ready_at=moment, expires_at=Account.expires_at + moment - Account.opened_at)
        .where((Account.id == account.id) & Account.ready_at.is_null())
        .execute()
    )
    if ready:
        logger.info(
            "account %s: ready, %d s after it was opened", account.id, moment - account.opened_at
        )


# -- one service at the panel --------------------------------------------------------


class _LeaseLost(Exception):
    pass


@dataclass(frozen=True)
class _Task:
    shop: Shop
    account: Account
    rows: dict[str, Service]
    lease: Lease

    @property
    def panel(self) -> Panel:
        return self.shop.panel

    @property
    def client_id(self) -> int:
        return self.rows["client"].panel_id

    @property
    def site_id(self) -> int:
        return self.rows["site"].panel_id

    @property
    def owner(self) -> tuple[int, int]:
        """What every record but the client's is added with: the client and the server."""
        return self.client_id, self.account.server_id

    def quota_mb(self, kind: str) -> int:
        return max(1, self.account.space_mb * SPLIT_PERCENT[kind] // 100)

    def password(self, row: Service) -> str:
        try:
            return self.shop.vault.unseal(row.password_sealed or "")
        except Unreadable:
            logger.error("account %s: a password cannot be read, a new one is made", row.account_id)
            return _renew_password(self.shop, row)

    def check_lease(self) -> None:
        """The look-up may have hung: nothing is written after another worker has taken over."""
        if not self.lease.outlasts_a_call():
            raise _LeaseLost


def _apply(task: _Task, row: Service) -> int:
    """The id of the record that is there now for `row`: found, or created."""
    if row.kind == "client":
        return _apply_client(task, row)
    find, id_key, create = _RECORDS[row.kind]
    found = find(task.panel, row.name)
    if found is None:
        task.check_lease()
        return create(task, row)
    if int(found["sys_groupid"]) != task.panel.group_id(task.client_id):
        raise PanelError(f"{row.name} exists at the panel and is another client's", True)
    if row.kind == "site" and not task.panel.is_walled(found):
        task.check_lease()
        task.panel.wall_site(int(found[id_key]))
    return int(found[id_key])


def _apply_client(task: _Task, row: Service) -> int:
    panel = task.panel
    client_id = panel.find_client(row.name)
    if client_id is None:
        task.check_lease()
        # ISPConfig asks for an address of each client: it gets the hosting's own mailbox.
        client_id = panel.add_client(row.name, task.rows["mailbox"].name)
        panel.close_client_login(client_id)
    elif not panel.is_client_login_closed(client_id):
        task.check_lease()
        panel.close_client_login(client_id)
    return client_id


def _create_site(task: _Task, row: Service) -> int:
    site_id = task.panel.add_site(*task.owner, row.name, task.quota_mb("site"))
    task.panel.wall_site(site_id)
    return site_id


def _create_ftp_user(task: _Task, row: Service) -> int:
    return task.panel.add_ftp_user(*task.owner, task.site_id, row.name, task.password(row))


def _create_shell_user(task: _Task, row: Service) -> int:
    return task.panel.add_shell_user(*task.owner, task.site_id, row.name, task.password(row))


def _create_database_user(task: _Task, row: Service) -> int:
    return task.panel.add_database_user(*task.owner, row.name, task.password(row))


def _create_database(task: _Task, row: Service) -> int:
    user_id = task.rows["database_user"].panel_id
    quota_mb = task.quota_mb("database")
    return task.panel.add_database(*task.owner, task.site_id, row.name, user_id, quota_mb)


def _create_mail_domain(task: _Task, row: Service) -> int:
    return task.panel.add_mail_domain(*task.owner, row.name)


def _create_mailbox(task: _Task, row: Service) -> int:
    return task.panel.add_mailbox(
        *task.owner,
        row.name,
        task.password(row),
        task.quota_mb("mailbox"),
        may_send(task.shop, task.account),
    )


# How each kind is looked up, where its record has the id, how it is created.
_RECORDS = {
    "site": (Panel.find_site, "domain_id", _create_site),
    "ftp": (Panel.find_ftp_user, "ftp_user_id", _create_ftp_user),
    "shell": (Panel.find_shell_user, "shell_user_id", _create_shell_user),
    "database_user": (Panel.find_database_user, "database_user_id", _create_database_user),
    "database": (Panel.find_database, "database_id", _create_database),
    "mail_domain": (Panel.find_mail_domain, "domain_id", _create_mail_domain),
    "mailbox": (Panel.find_mailbox, "mailuser_id", _create_mailbox),
}


def _renew_password(shop: Shop, row: Service) -> str:
    """A generated password for this service alone, kept before it is used, to be shown."""
    password = passwords.generate()
    sealed = shop.vault.seal(password)
    Service.update(password_sealed=sealed, own_password_sealed=sealed).where(_this(row)).execute()
    return password


# -- after it is applied -------------------------------------------------------------


def mark_live(shop: Shop) -> None:
    """Note what the server has carried out: its queue was empty once after it was applied.

    The queue counts every change of the server, so three minutes are enough as well.
    """
    moment = now()
    waiting = Service.applied_at.is_null(False) & Service.live_at.is_null()
    if not Service.select(Service.kind).where(waiting).first():
        return
    try:
        is_empty = shop.panel.jobs_waiting() == 0
    except PanelError as error:
        logger.warning("the panel's queue is not known: %s", error)
        is_empty = False
    since = moment if is_empty else moment - LIVE_AT_LAST_SECONDS
    Service.update(live_at=now()).where(waiting & (Service.applied_at < since)).execute()


def wipe_shown_passwords() -> None:
    """Forget generated passwords a day after the customer could see them."""
    seen = Account.ready_at <= now() - DAY
    initial = Account.select(Account.id).where(Account.password_sealed.is_null(False) & seen)
    of_services = (
        Account.select(Account.id)
        .join(Service)
        .where(Service.own_password_sealed.is_null(False) & seen)
    )
    for account in [*initial, *of_services]:
        forget_passwords(account.id)


def forget_passwords(account_id: str) -> None:
    """Wipe the generated passwords of an account that is ready: they were noted."""
    with transaction():
        is_ready = Account.update(password_sealed=None).where(
            (Account.id == account_id) & Account.ready_at.is_null(False)
        )
        if is_ready.execute():
            Service.update(own_password_sealed=None).where(Service.account == account_id).execute()


def failing() -> list[Service]:
    """What the panel has refused or not answered; the longest first."""
    since = Service.failed_since.is_null(False)
    return list(Service.select().where(since).order_by(Service.failed_since))


def problems() -> list[Service]:
    """Of what fails: what no retry cures, and what has failed for a day."""
    return [row for row in failing() if row.permanent or row.failed_since <= now() - DAY]
