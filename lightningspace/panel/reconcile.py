"""Making the panel match the database, which says what should be.

`account` walks the rows of an account that are not applied yet, makes each change at the panel (see
`records`) and notes it at once. So it can be repeated, or killed anywhere, without harm.
"""

import json
import logging
from collections.abc import Callable
from functools import partial

from lightningspace.base.clock import now
from lightningspace.base.models import Account, Service, transaction
from lightningspace.outside import ftp
from lightningspace.outside.ftp import FtpError
from lightningspace.outside.ispconfig import PanelError, PanelRefused
from lightningspace.panel import areas, upload
from lightningspace.panel.lease import Lease, Lost, is_free
from lightningspace.panel.records import Outdated, Records, look_once_more
from lightningspace.rules import accounts, moves, services
from lightningspace.rules.services import this
from lightningspace.shop import Shop

logger = logging.getLogger(__name__)

RETRY_SECONDS_MAX = 5 * 60
DUE_AT_ONCE = 1000
# What an account needs next. Each kind of step has threads of its own in the worker.
OPENING, CHANGE, UPLOAD = "opening", "change", "upload"
# How long a new hosting's SSH waits for others that are just being opened: the server takes half a
# minute to make its jail, and everything behind it in the queue stands still.
SHELL_WAITS_SECONDS = 30
SHELL_LOOKS_SECONDS = 2
# How long a tip jar may wait for FTP before that is reported.
FTP_COMES_SECONDS = 10 * 60


def due_accounts() -> dict[str, str]:
    """Accounts that need the panel now and that no worker holds, each with its next step."""
    moment = now()
    at = Account.reconcile_at
    # A longer wait than any we set comes from a wrong clock.
    is_due = (at <= moment) | (at > moment + 2 * RETRY_SECONDS_MAX)
    columns = (Account.id, Account.ready_at, Account.closing_at)
    rows = Account.select(*columns).where(is_due & is_free(moment))
    rows = rows.order_by(Account.ready_at.is_null(False), at)
    accounts = list(rows.limit(DUE_AT_ONCE))
    if not accounts:
        return {}
    kinds: dict[str, set[str]] = {account.id: set() for account in accounts}
    unapplied = Service.applied_revision < Service.revision
    for row in Service.select().where((Service.account << list(kinds)) & unapplied):
        if _is_due(row):
            kinds[row.account_id].add(row.kind)
    return {account.id: _step(account, kinds[account.id]) for account in accounts}


def _step(account: Account, due_kinds: set[str]) -> str:
    if due_kinds and due_kinds <= set(services.UPLOADED) and account.closing_at is None:
        return UPLOAD
    return CHANGE if account.ready_at else OPENING


def account(
    shop: Shop,
    account_id: str,
    stopping: Callable[[], bool] = lambda: False,
    step: str | None = None,
) -> bool:
    """Make the panel match what the account wants; what fails is noted and retried later.

    Any worker may call it at any time: the lease lets one of them through, the others get False. It
    stops between two services when `stopping()` is true or the account has changed. `step`: do only
    what belongs to it (an OPENING uploads nothing); None: do everything.
    """
    lease = Lease(account_id)
    if not lease.take():
        return False
    account, rows = _read(account_id)
    look_again = account.reconcile_at
    try:
        with lease.renewed():
            look_again = _Round(shop, account, rows, lease, stopping, step).run()
    finally:
        lease.release(look_again, account.revision)
    return True


def _read(account_id: str) -> tuple[Account, list[Service]]:
    """An account and its services, read with no change in between."""
    account = Account.get_by_id(account_id)
    while True:
        rows = services.of_account(account_id)
        before, account = account, Account.get_by_id(account_id)
        if account.revision == before.revision:
            break
    for row in rows:
        row.gone = services.is_going(account, row)
    return account, rows


class _Round:
    """One walk over the services of an account, by the holder of its lease."""

    def __init__(
        self,
        shop: Shop,
        account: Account,
        rows: list[Service],
        lease: Lease,
        stopping: Callable[[], bool],
        step: str | None,
    ):
        self.shop = shop
        self.account = account
        self.rows = rows
        self.lease = lease
        self.stopping = stopping
        self.step = step
        self.records = Records(shop, account, rows, lease)

    def run(self) -> int | None:
        """Do the walk and return when to look at the account again; None: everything is applied."""
        try:
            again = self._walk()
        except Lost:
            return self.account.reconcile_at
        except Outdated:
            again = [self.account.reconcile_at]
        accounts.begin_paid_time(self.shop, self.account)
        if not again and self.account.closing_at:
            self._note_closed()
        elif not again and self.account.moved_from is not None:
            with transaction():
                self.lease.extend()
                moves.finish(self.account)
        return min(again, default=None)

    def _walk(self) -> list[int]:
        """Apply what is due and return when to retry the rest. Raises Lost and Outdated."""
        due = [row for row in services.at_panel(self.rows) if self._is_for_now(row)]
        if due and not self.records.is_first and self._try(due[0], self.records.meet_client):
            return self._waits()
        tried: list[Service] = []
        while row := self._next(tried):
            if self.stopping():
                raise Outdated
            if tried:  # at least one step, or endless changes by a customer could put off a block
                self.records.check_wanted()
            tried.append(row)
            failure = self._try(row, partial(self._settle, row))
            if isinstance(failure, PanelError) and not isinstance(failure, PanelRefused):
                break  # the others would fail in the same way
        return self._waits()

    def _next(self, tried: list[Service]) -> Service | None:
        """The row to do next: removals from the last to the first, then the others in order.

        Rows that failed, or were applied most recently, come after the others, so that neither a
        fault nor endless changes hold anything up. SSH and the tip jar come last.
        """
        gone = [row for row in self.rows if row.gone]
        rows = gone[::-1] + [row for row in self.rows if not row.gone]
        if self.account.closing_at is None:  # then nothing changes any more
            rows.sort(key=lambda row: row.applied_at or 0)
        rows.sort(key=lambda row: row.tried_at if row.tries else 0)
        rows.sort(key=self._how_late)
        for row in rows:
            is_new = not any(row is each for each in tried)
            if is_new and self._is_for_now(row) and self._has_its_place(row):
                return row
        return None

    def _how_late(self, row: Service) -> int:
        # Removing a shell user cannot wait: what is off must be off.
        is_removed = self.records.is_to_be_away(row)
        # A new one waits only for a while, however often other services change.
        has_waited = row.kind == "shell" and row.applied_at is None and not self._is_young()
        is_gone = row.gone and (row.kind not in services.UPLOADED or self._goes_without_a_word(row))
        return 0 if is_gone or is_removed or has_waited else services.KINDS[row.kind].last

    def _is_young(self) -> bool:
        return self.account.opened_at > now() - SHELL_WAITS_SECONDS

    def _is_for_now(self, row: Service) -> bool:
        """Whether it is due and belongs to this step."""
        is_upload = row.kind in services.UPLOADED and not self._goes_without_a_word(row)
        if self.step is not None and is_upload != (self.step == UPLOAD):
            return False
        return _is_due(row) and not self._gives_way(row)

    def _goes_without_a_word(self, row: Service) -> bool:
        """Whether its row just goes, because nothing is done on the site any more to remove it."""
        return row.gone and (row.kind == "tipjar" or self.account.closing_at is not None)

    def _gives_way(self, row: Service) -> bool:
        """Whether a new hosting's SSH waits until others have what the server makes quickly."""
        is_new = row.kind == "shell" and row.applied_at is None and not row.gone
        if not is_new or not self._is_young():
            return False
        # Hostings that lack only SSH or the tip jar, or have failed, hold up nobody.
        in_trouble = Service.select(Service.account).where(Service.failed_since.is_null(False))
        others = (
            Service.select(Service.account)
            .join(Account)
            .where(
                Service.applied_at.is_null()
                & Service.kind.not_in([name for name, kind in services.KINDS.items() if kind.last])
                & Service.account.not_in(in_trouble)
                & (Service.account != self.account)
                & (Account.server == self.account.server_id)
                & (Account.opened_at > now() - SHELL_WAITS_SECONDS)
                & Account.ready_at.is_null()
                & Account.closing_at.is_null()
            )
        )
        return others.exists()

    def _try(self, row: Service, step: Callable[[], None]) -> Exception | None:
        """Take a step for a row; note and return its failure. Raises Lost and Outdated."""
        try:
            try:
                step()
            except (Lost, Outdated):
                raise
            except PanelError as error:
                self._note_failure(row, str(error), error.permanent)
                return error
            except ftp.NotNow as error:
                # FTP was not tried: the last failure still stands.
                self._note_failure(row, row.error or str(error), row.permanent, is_calm=True)
                return error
            except FtpError as error:
                self._note_failure(row, str(error), error.permanent, error.is_calm)
                return error
            except Exception as error:
                logger.exception("account %s: %s", self.account.id, row.kind)
                self._note_failure(row, f"a fault of ours: {type(error).__name__}", False)
                return error
        except Lost:
            # The lease's new holder may have made the same record.
            look_once_more(row)
            raise
        return None

    def _waits(self) -> list[int]:
        """When to try what is not applied; what a failing panel left undone waits with the failure.

        Empty only when everything is applied: each row is judged once, as it may be due a moment
        later.
        """
        waiting = [row for row in self.rows if not row.is_applied]
        later = [row for row in waiting if not self._is_for_now(row)]
        if waiting and not later:
            later = waiting[:1]
            self._note_failure(later[0], "what it hangs on is neither there nor under way", False)
        return [self._again_at(row) for row in later]

    def _again_at(self, row: Service) -> int:
        if not _is_due(row):
            return _try_at(row)
        return now() + SHELL_LOOKS_SECONDS if self._gives_way(row) else now()

    def _has_its_place(self, row: Service) -> bool:
        """Whether its turn has come: what it hangs on is there or, if it goes, what hung on it is
        gone.
        """
        if row.gone:
            return not any(services.hangs_on(each, row) for each in self.rows)
        if row.kind not in ("client", *services.UPLOADED) and self.records.client_id is None:
            return False
        return all(each.panel_id for each in self.rows if services.hangs_on(row, each))

    def _settle(self, row: Service) -> None:
        if not self.records.may_use_its_name(row):
            raise PanelRefused("its name is none that we may use: nothing was done", True)
        if row.gone:
            self._remove(row)
            # Even if the panel had nothing of it: its row goes as well.
            self.records.begin_deleting()
            self._note_removed(row)
        elif self.records.is_to_be_away(row):
            self.records.put_away(row)
            self._note_success(row, None)
        elif row.kind == "client":
            self._note_success(row, self.records.make_client(row))
        elif row.kind == "tipjar":
            self._note_upload(row, upload.put(self.records, row, self.stopping))
        elif row.kind == "paidarea":
            self._note_upload(row, areas.put(self.records, row))
        else:
            self._note_success(row, self.records.make(row))

    def _remove(self, row: Service) -> None:
        if row.kind == "client":
            self.records.remove_clients(row)
        elif row.kind in services.UPLOADED and self._goes_without_a_word(row):
            upload.remove_uploader(self.records, row)
        elif row.kind == "paidarea":
            areas.put(self.records, row)
        else:
            self.records.remove(row)

    # -- recording ---------------------------------------------------------------

    def _note_success(self, row: Service, panel_id: int | None) -> None:
        facts = _applied(row) | {"panel_id": panel_id}
        is_another = row.panel_id is not None and row.panel_id != panel_id
        hanging = [each for each in self.rows if is_another and services.hangs_on(each, row)]
        with transaction():
            self.lease.extend()
            Service.update(facts).where(this(row)).execute()
            if panel_id is not None:
                # A password that was changed meanwhile is still wanted.
                Service.update(password_sealed=None).where(
                    this(row) & (Service.revision == row.revision)
                ).execute()
            else:
                # A shell user that is off: unless a password waits for it, there is none to show.
                Service.update(own_password_sealed=None).where(
                    this(row) & Service.password_sealed.is_null()
                ).execute()
            for each in hanging:
                Service.update(revision=Service.revision + 1).where(this(each)).execute()
        row.panel_id, row.applied_revision = panel_id, row.revision
        if row.kind == "client":
            self.records.client_is(panel_id)
        for each in hanging:
            each.revision += 1

    def _note_upload(self, row: Service, note: str | None) -> None:
        is_done = note is None and services.is_on(self.account, row)
        with transaction():
            self.lease.extend()
            facts = _applied(row) | {"note": note, "password_sealed": None}
            if not services.is_on(self.account, row):  # so no upload has shown that FTP works
                facts["applied_at"] = row.applied_at or 0
            Service.update(facts).where(this(row)).execute()
            if is_done and row.kind == "tipjar":
                once = json.dumps(services.settings_of(row) | {"put_back": False})
                Service.update(settings=once).where(
                    this(row) & (Service.revision == row.revision)
                ).execute()
        row.applied_revision = row.revision

    def _note_removed(self, row: Service) -> None:
        with transaction():
            self.lease.extend()
            removed = Service.delete().where(this(row) & (Service.revision == row.revision))
            if not removed.execute():  # wanted again meanwhile
                Service.update(panel_id=None).where(this(row)).execute()
        self.rows.remove(row)

    def _note_failure(
        self, row: Service, text: str, permanent: bool, is_calm: bool = False
    ) -> None:
        """`is_calm`: not worth a report until it has lasted FTP_COMES_SECONDS."""
        row.tries, row.tried_at, row.permanent = row.tries + 1, now(), permanent
        # The earlier one, in case of a wrong clock.
        row.failed_since = min(row.failed_since or row.tried_at, row.tried_at)
        is_news = not is_calm or row.failed_since <= now() - FTP_COMES_SECONDS
        level = logging.ERROR if permanent else logging.WARNING
        with transaction():
            self.lease.extend()
            Service.update(
                error=text if is_news else row.error,
                permanent=permanent,
                tries=row.tries,
                tried_at=row.tried_at,
                failed_since=row.failed_since,
            ).where(this(row) & (Service.revision == row.revision)).execute()
        logger.log(
            level if is_news else logging.INFO,
            "account %s: %s not applied: %s",
            row.account_id,
            row.kind,
            text,
        )

    def _note_closed(self) -> None:
        """The panel has nothing of it left: free its space, let its name rest, forget it."""
        while self._forget_some_orders():
            continue
        with transaction():
            self.lease.extend()
            is_forgotten = accounts.forget(self.shop, self.account)
        if is_forgotten:
            logger.info("account %s: closed", self.account.id)

    def _forget_some_orders(self) -> bool:
        with transaction():
            self.lease.extend()
            return accounts.forget_some_orders(self.account.id) > 0


def _applied(row: Service) -> dict:
    """The columns of a row that has just been applied."""
    return {
        "applied_revision": row.revision,
        "applied_at": now(),
        "error": None,
        "permanent": False,
        "tries": 0,
        "failed_since": None,
    }


def _is_due(row: Service) -> bool:
    return not row.is_applied and _try_at(row) <= now()


def _try_at(row: Service) -> int:
    """When a failed row may be retried: after seconds at first, minutes later. 0: at once."""
    if not row.tries:
        return 0
    wait = RETRY_SECONDS_MAX if row.permanent else 2 ** min(row.tries, 10)
    at = row.tried_at + min(RETRY_SECONDS_MAX, wait)
    # As in due_accounts: a wrong clock.
    return at if at <= now() + 2 * RETRY_SECONDS_MAX else 0


def try_now(account_id: str) -> None:
    """Have what failed retried at once, without its wait."""
    with transaction():
        Account.update(revision=Account.revision + 1, reconcile_at=now()).where(
            (Account.id == account_id) & Account.opened_at.is_null(False)
        ).execute()
        Service.update(tries=0).where(Service.account == account_id).execute()
