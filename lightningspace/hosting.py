"""Making the panel match what is wanted.

The database says what should be. `reconcile` walks the rows of an account that are not applied:
look first, create, update or delete second, look again, record at once. So it can be repeated,
and killed anywhere, without harm.
"""

import json
import logging
import time
from collections.abc import Callable
from functools import partial

from peewee import fn

from lightningspace import ftp, outbox, panel, passwords, tipjar, wanted
from lightningspace.clock import now
from lightningspace.ftp import FtpError
from lightningspace.lease import Lease, Lost, is_free
from lightningspace.models import (
    Account,
    Domain,
    Notice,
    Offer,
    Order,
    RestingName,
    Server,
    Service,
    Token,
    transaction,
)
from lightningspace.panel import PanelError, Refused
from lightningspace.prices import DAY
from lightningspace.shop import Shop
from lightningspace.vault import Unreadable
from lightningspace.wanted import this

logger = logging.getLogger(__name__)

RETRY_SECONDS_MAX = 5 * 60
DUE_AT_ONCE = 1000
# So long it is no news that a tip jar waits for FTP.
FTP_COMES_SECONDS = 10 * 60
# After so many tries it is the customer's directory that does not take it.
JAR_TRIES = 8

# Records that stand for one thing of their name on the server: deleting a double deletes the
# thing itself.
NAMED_THINGS = ("shell", "database_user", "database", "mail_domain", "mailbox")


def due_accounts() -> list[str]:
    """Accounts that want something of the panel now and that no worker holds."""
    moment = now()
    at = Account.reconcile_at
    # What waits longer than anything may was put off by a clock that was wrong.
    is_due = (at <= moment) | (at > moment + 2 * RETRY_SECONDS_MAX)
    rows = Account.select(Account.id).where(is_due & is_free(moment)).order_by(at)
    return [row.id for row in rows.limit(DUE_AT_ONCE)]


def reconcile(shop: Shop, account_id: str, stopping: Callable[[], bool] = lambda: False) -> bool:
    """Make the panel match what the account wants; what fails is noted and tried again later.

    Any worker may call it at any time: the lease lets one of them through, the others get
    False. It ends between two services when `stopping()` is true or something else is wanted.
    """
    lease = Lease(account_id)
    if not lease.take():
        return False
    account, rows = _read(account_id)
    look_again = account.reconcile_at
    try:
        look_again = _Round(shop, account, rows, lease, stopping).run()
    finally:
        lease.release(look_again, account.revision)
    return True


def _read(account_id: str) -> tuple[Account, list[Service]]:
    """An account and its services as they are together: no change lies between the two."""
    account = Account.get_by_id(account_id)
    while True:
        rows = wanted.services_of(account_id)
        before, account = account, Account.get_by_id(account_id)
        if account.revision == before.revision:
            break
    for row in rows:
        row.gone = wanted.is_going(account, row)
    return account, rows


class _Outdated(Exception):
    """Something else is wanted by now, or the worker is to end."""


class _Round:
    """One walk over the services of an account, by the holder of its lease."""

    def __init__(self, shop: Shop, account: Account, rows: list[Service], lease: Lease, stopping):
        self.shop = shop
        self.panel = shop.panel
        self.account = account
        self.rows = rows
        self.lease = lease
        self.stopping = stopping
        # Nobody has called the panel for this account before, so none of its records is ours.
        self.is_first = account.leases == 1 and account.closing_at is None
        self.client_id: int | None = None
        self.group_id: int | None = None

    def run(self) -> int | None:
        """When to look at the account again; None when everything is applied."""
        try:
            again = self._walk()
        except (Lost, _Outdated):
            return self.account.reconcile_at
        if again:
            return min(again)
        if self.account.closing_at:
            self._note_closed()
        else:
            self._note_ready()
        return None

    def _walk(self) -> list[int]:
        """When to try again what could not be applied. Raises Lost and _Outdated."""
        due = [row for row in self.rows if _is_due(row)]
        if due and not self.is_first and self._try(due[0], self._meet_client):
            return self._waits()
        tried: list[Service] = []
        while row := self._next(tried):
            if self.stopping():
                raise _Outdated
            if tried:  # one step at least: a customer who never rests holds up no block
                self._check_wanted()
            tried.append(row)
            failure = self._try(row, partial(self._settle, row))
            if isinstance(failure, PanelError) and not isinstance(failure, Refused):
                break  # the others would meet the same
        return self._waits()

    def _next(self, tried: list[Service]) -> Service | None:
        """What is to be removed from the last to the first, then the others in their order.

        What failed before comes last: it holds up nothing that can be done. Nor does what is
        changed again and again, and a tip jar never.
        """
        gone = [row for row in self.rows if row.gone]
        rows = gone[::-1] + [row for row in self.rows if not row.gone]
        if self.account.closing_at is None:  # then nothing changes any more
            rows.sort(key=lambda row: row.applied_at or 0)
        rows.sort(key=lambda row: row.tried_at if row.tries else 0)
        rows.sort(key=lambda row: row.kind == "tipjar")
        for row in rows:
            is_new = not any(row is each for each in tried)
            if is_new and _is_due(row) and self._has_its_place(row):
                return row
        return None

    def _try(self, row: Service, step: Callable[[], None]) -> Exception | None:
        """Take a step for a row, or note on it why not. Raises Lost and _Outdated."""
        try:
            try:
                step()
            except (Lost, _Outdated):
                raise
            except PanelError as error:
                self._note_failure(row, str(error), error.permanent)
                return error
            except ftp.NotNow as error:
                # What was wrong when it was tried last is still so.
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
            _look_once_more(row)
            raise
        return None

    def _waits(self) -> list[int]:
        """When what is not applied may be tried; what was left for lack of a panel waits too."""
        waiting = [row for row in self.rows if not row.is_applied]
        if waiting and all(_is_due(row) for row in waiting):
            self._note_failure(waiting[0], "what it hangs on is neither there nor under way", False)
        return [_try_at(row) for row in waiting if not _is_due(row)]

    def _check_wanted(self) -> None:
        """Raise _Outdated when the account was changed since it was read."""
        as_read = (Account.id == self.account.id) & (Account.revision == self.account.revision)
        if not Account.select(Account.id).where(as_read).exists():
            raise _Outdated

    def _has_its_place(self, row: Service) -> bool:
        """Whether what it hangs on is there, or what hangs on it is not there any more."""
        if row.gone:
            return not any(wanted.hangs_on(each, row) for each in self.rows)
        if row.kind != "client" and self.client_id is None:
            return False
        return all(each.panel_id for each in self.rows if wanted.hangs_on(row, each))

    def _settle(self, row: Service) -> None:
        if not self._may_use_its_name(row):
            raise Refused("its name is none that we may use: nothing was done", True)
        if row.gone:
            self._remove(row)
            self._begin_deleting()  # if the panel had nothing of it: its row goes all the same
            self._note_removed(row)
        elif row.kind == "shell" and not wanted.is_on(self.account, row):
            # Switched off it would still open SSH with its password.
            self._remove(row)
            self._note_success(row, None)
        elif row.kind == "client":
            self._note_success(row, self._make_client(row))
        elif row.kind == "tipjar":
            self._settle_tip_jar(row)
        else:
            self._note_success(row, self._make(row))

    def _may_use_its_name(self, row: Service) -> bool:
        # One that is or was there (a shell user that is off) keeps it when the settings change, and
        # nothing that is not our client's is ever deleted.
        was_there = row.panel_id is not None or row.applied_at is not None
        return row.gone or was_there or wanted.is_ours(self.shop, self.account, row, self.rows)

    # -- one record --------------------------------------------------------------

    def _make(self, row: Service) -> int:
        """The id of the record that is there now as wanted: found, put right, or created."""
        fields = self._fields(row)
        found = None if self.is_first else self._look(row)
        added = None
        if found is None:
            try:
                added = self._create(row, fields)
            except Refused:
                # Is it there already? By a race, or forgotten by a database restored from a backup.
                found = self._look(row)
                if found is None:
                    raise
        if found is not None:
            id = panel.record_id(row.kind, found)
            if row.password_sealed is None and not panel.differences(found, fields):
                return id
            password = self._password(row) if row.password_sealed else None
            self._write(row, "updated", self.panel.update, row.kind, id, fields, password)
        found = self._look(row, added)
        if found is None:
            raise Refused("the panel has taken it and does not show it")
        different = panel.differences(found, fields)
        if different:
            raise Refused(f"the panel has not kept {', '.join(different)}")
        return panel.record_id(row.kind, found)

    def _create(self, row: Service, fields: dict) -> int:
        if not self.is_first and "site" in wanted.HANGS_ON[row.kind]:
            self._check_site()
        password = self._password(row) if row.kind in wanted.WITH_PASSWORD else None
        id = self._write(row, "added", self.panel.add, row.kind, self.client_id, fields, password)
        if row.kind == "site":
            # The add ignores allow_override, the wall between neighbours.
            self._write(row, "walled", self.panel.update, row.kind, id, fields)
        return id

    def _remove(self, row: Service) -> None:
        """Delete what the panel has of the row, and look that it is gone."""
        if row.kind == "client":
            self._remove_clients(row)
        elif row.kind == "tipjar":
            self._remove_tip_jar(row)
        elif self.client_id or row.panel_id:  # else nothing was ever made
            records = self._ours(row)
            for record in records:
                self._delete(row, record)
            if records and self._ours(row):
                raise Refused("the panel has deleted it and still shows it")

    def _delete(self, row: Service, record: dict) -> None:
        if row.gone or wanted.is_on(self.account, row):
            self._check_wanted()  # again: what is deleted does not come back
        self._begin_deleting()
        id = panel.record_id(row.kind, record)
        self._write(row, "deleted", self.panel.delete, row.kind, id)

    def _begin_deleting(self) -> None:
        """From the first deletion of a closing on, no payment takes it back."""
        if self.account.closing_at is None or self.account.deleting_at is not None:
            return
        moment = now()
        with transaction():
            self.lease.extend()
            begun = Account.update(deleting_at=moment).where(
                (Account.id == self.account.id) & (Account.revision == self.account.revision)
            )
            if not begun.execute():
                raise _Outdated
        self.account.deleting_at = moment

    def _write(self, row: Service, what: str, call: Callable, *arguments):
        """One change at the panel: nothing is written after another worker has taken over."""
        self.lease.check()
        started = time.monotonic()
        answer = call(*arguments)
        milliseconds = (time.monotonic() - started) * 1000
        logger.info("account %s: %s %s, %.0f ms", row.account_id, row.kind, what, milliseconds)
        return answer

    # -- what the panel has of it ------------------------------------------------

    def _look(self, row: Service, added: int | None = None) -> dict | None:
        """The record of ours, and one only; None when there is none.

        `added`: the id of the one that was just created.
        """
        ours = self._ours(row, added)
        if len(ours) < 2:
            return ours[0] if ours else None
        ids = [panel.record_id(row.kind, record) for record in ours]
        kept = ours[ids.index(row.panel_id) if row.panel_id in ids else 0]
        doubles = [record for record in ours if record is not kept]
        self._report_doubles(row, doubles)
        if row.kind in NAMED_THINGS:
            # Nobody has it yet, if it was added just now or in a try that did not come to its end.
            is_unfinished = row.failed_since is not None or self.account.ready_at is None
            is_fresh = added in ids or (row.applied_at is None and is_unfinished)
            if row.panel_id in ids or not is_fresh:
                raise Refused(
                    f"the panel has it {len(ids)} times (ids {', '.join(map(str, ids))}), and with "
                    "any of them goes what the customer has in it: make it one by hand",
                    True,
                )
            # The thing goes with the double: all of it is made anew.
            for record in doubles + [kept]:
                self._delete(row, record)
            raise Refused("the panel had it twice: it is made anew")
        for record in doubles:
            self._delete(row, record)
        return kept

    def _report_doubles(self, row: Service, doubles: list) -> None:
        logger.error(
            "account %s: the panel had %s %d times, by a race or by hand",
            row.account_id,
            row.kind,
            len(doubles) + 1,
        )

    def _ours(self, row: Service, added: int | None = None) -> list[dict]:
        """The records of this row that are our client's, the oldest first.

        Raises Refused when the name is another client's alone, or our record has become another's.
        """
        records = self.panel.find(row.kind, row.name)
        ids = [panel.record_id(row.kind, record) for record in records]
        if self.group_id is None and self.client_id:
            if added in ids:
                self.group_id = int(records[ids.index(added)]["sys_groupid"])
            elif records or row.panel_id:
                self.group_id = self.panel.group_id(self.client_id)
        ours = [record for record in records if self._is_ours(record)]
        others = [id for id, record in zip(ids, records, strict=True) if record not in ours]
        if row.panel_id in others:
            raise Refused(
                f"the one that we made (id {row.panel_id}) is another client's now: give it back "
                "or delete it by hand",
                True,
            )
        if row.panel_id and row.panel_id not in ids:
            renamed = self.panel.get(row.kind, row.panel_id)
            # After a restore of the panel its number may be another's.
            if renamed and self._is_ours(renamed):
                return [renamed, *ours]
        if others and not ours and not row.gone:
            raise Refused(
                f"its name exists at the panel and is another client's (id {others[0]})", True
            )
        return ours

    def _is_ours(self, record: dict) -> bool:
        return self.group_id is not None and int(record["sys_groupid"]) == self.group_id

    def _check_site(self) -> None:
        """Nothing is hung on a site of another: after a restore its number may be anybody's."""
        site = next(row for row in self.rows if row.kind == "site")
        records = self._ours(site)
        if site.panel_id not in [panel.record_id("site", record) for record in records]:
            raise Refused("its site is gone from the panel: retry --check makes it again", True)

    # -- the client --------------------------------------------------------------

    def _meet_client(self) -> None:
        """Know our client by its name. Its number may be another's after a restore of the panel."""
        row = next((row for row in self.rows if row.kind == "client"), None)
        if row is None or not self._may_use_its_name(row):
            return
        login = self.panel.find_login(row.name)
        if login:
            self.client_id, self.group_id = login
        elif row.panel_id and self._has_our_site(row.panel_id):
            # Everything is that one's: a second client could not even close the account.
            raise Refused(
                f"the client (id {row.panel_id}) was renamed: call it {row.name} again", True
            )
        if row.panel_id != self.client_id:
            row.applied_revision = 0  # it is looked at before all that hangs on it

    def _has_our_site(self, client_id: int) -> bool:
        group_id = self.panel.group_id(client_id)
        names = [row.name for row in self.rows if row.kind == "site"]
        records = self.panel.find("site", names[0]) if names and group_id else []
        return any(int(record["sys_groupid"]) == group_id for record in records)

    def _make_client(self, row: Service) -> int:
        client = None if self.is_first else self._look_for_client(row)
        if client is None:
            # ISPConfig asks for an address of each client: it gets the hosting's own mailbox.
            email = f"info@{wanted.site_name(self.shop, self.account.username)}"
            try:
                self.client_id = self._write(row, "added", self.panel.add_client, row.name, email)
                client = {"id": self.client_id, "is_closed": False}
            except Refused:
                client = self._look_for_client(row)  # is it there already?
                if client is None:
                    raise
        if client["is_closed"]:
            return client["id"]
        if client["id"] == row.panel_id:
            raise Refused(
                "the client may log in to the panel: cancel it there by hand (a change of ours "
                "would switch its services on)",
                True,
            )
        self._write(row, "closed", self.panel.close_client_login, client["id"])
        client = self._look_for_client(row)
        if client is None or not client["is_closed"]:
            raise Refused("the panel has taken the client and does not show it closed")
        return client["id"]

    def _look_for_client(self, row: Service) -> dict | None:
        """The whole client of ours; what was made half-way or twice is removed."""
        whole = []
        for client in self.panel.find_clients(row.name):
            if client["id"] == self.client_id or self.panel.group_id(client["id"]) is not None:
                whole.append(client)
            else:
                self._write(row, "half made, deleted", self.panel.delete_client, client["id"])
        if not whole:
            return None
        kept = next((each for each in whole if each["id"] == row.panel_id), whole[0])
        doubles = [each for each in whole if each is not kept]
        if doubles:
            self._report_doubles(row, doubles)
        for double in doubles:
            self._write(row, "double, deleted", self.panel.delete_client, double["id"])
        return kept

    def _remove_clients(self, row: Service) -> None:
        self._begin_deleting()
        for client in self.panel.find_clients(row.name):
            self._write(row, "deleted", self.panel.delete_client, client["id"])
        if self.panel.find_clients(row.name):
            raise Refused("the panel has deleted the client and still shows it")

    # -- the tip jar ---------------------------------------------------------------

    def _settle_tip_jar(self, row: Service) -> None:
        """Have it on the site. While the site is off, nothing is done there."""
        note, is_on = row.note, wanted.is_on(self.account, row)
        if is_on:
            content = wanted.jar_settings_file(self.shop, self.account, row)
            put_back = wanted.settings_of(row)["put_back"]
            try:
                note = self._at_site(row, "put", tipjar.put, content, put_back)
            except ftp.Refused:
                if row.tries < JAR_TRIES:
                    raise
                note = tipjar.NOT_TAKEN
        self._remove(self._uploader(row))
        self._note_tip_jar(row, note, is_done=is_on and note is None)

    def _remove_tip_jar(self, row: Service) -> None:
        """Take it off the site; when that goes as well, no more than the FTP user of it."""
        if self.account.closing_at is None and self.client_id and self._id("site"):
            try:
                self._at_site(row, "taken away", tipjar.take_away)
            except ftp.Refused:
                if row.tries < JAR_TRIES:
                    raise
        self._remove(self._uploader(row))

    def _at_site(self, row: Service, what: str, step: Callable, *arguments):
        """Take a step in the directory of the site's pages, by FTP."""
        server_id, host = self.account.server_id, wanted.host(self.shop, self.account)
        self.shop.ftp.check(server_id)
        uploader = self._uploader(row)
        password = self._make_uploader(row, uploader)

        def upload():
            with self.shop.ftp.session(server_id, host, uploader.name, password) as session:
                return step(session, *arguments)

        try:
            return self._write(row, what, upload)
        except FtpError as error:
            if error.permanent:  # a person must act first: until then it serves for nothing
                self._remove(uploader)
            raise

    def _uploader(self, row: Service) -> Service:
        """The FTP user that serves for it, as if it was wanted. It is there for a moment only."""
        name = wanted.uploader_name(self.shop, self.account)
        return Service(account=self.account, kind="ftp", name=name, gone=row.gone)

    def _make_uploader(self, row: Service, uploader: Service) -> str:
        """Its password; it is at the panel now."""
        client, site = self.client_id, self._id("site")
        fields = panel.uploader_fields(self.account.server_id, client, site, uploader.name)
        records = self._ours(uploader)
        password = wanted.unsealed(self.shop, row.password_sealed)
        # Made anew now and then: its password may be another, after a restore of a backup.
        is_stale = row.tries and row.tries % JAR_TRIES == 0
        is_fit = len(records) == 1 and not panel.differences(records[0], fields)
        if password and is_fit and not is_stale:
            return password
        self._remove(uploader)
        self._check_site()
        password = passwords.generate()
        row.password_sealed = self.shop.vault.seal(password)
        with transaction():
            self.lease.extend()
            Service.update(password_sealed=row.password_sealed).where(this(row)).execute()
        self._write(row, "FTP user added", self.panel.add, "ftp", client, fields, password)
        return password

    # -- what a record is to be --------------------------------------------------

    def _id(self, kind: str) -> int | None:
        return next((row.panel_id for row in self.rows if row.kind == kind), None)

    def _fields(self, row: Service) -> dict:
        server, name, is_on = (
            self.account.server_id,
            row.name,
            wanted.is_on(self.account, row),
        )
        client, site, settings = self.client_id, self._id("site"), wanted.settings_of(row)
        if row.kind in wanted.SPLIT_PERCENT:
            quota_mb = wanted.quota_mb(self.account.space_mb, row, self.rows)
        match row.kind:
            case "site":
                return panel.site_fields(server, name, quota_mb, is_on, **settings)
            case "alias":
                return panel.alias_fields(server, site, name, is_on)
            case "ftp":
                return panel.ftp_fields(server, client, site, name, is_on)
            case "shell":
                return panel.shell_fields(server, client, site, name, settings["ssh_key"])
            case "database_user":
                return panel.database_user_fields(server, name)
            case "database":
                user = self._id("database_user")
                return panel.database_fields(server, site, name, user, quota_mb, is_on)
            case "mail_domain":
                return panel.mail_domain_fields(server, name, row.active)
            case "mailbox":
                may_send = is_on and wanted.may_send(self.shop, self.account)
                return panel.mailbox_fields(server, name, quota_mb, is_on, may_send)
            case "forward":
                return panel.forward_fields(server, name, settings["destination"], is_on)
        raise ValueError(row.kind)

    def _password(self, row: Service) -> str:
        """The one that is wanted; when there is none, a generated one, kept before it is used."""
        if row.password_sealed:
            try:
                return self.shop.vault.unseal(row.password_sealed)
            except Unreadable:
                logger.error("account %s: a password cannot be read", row.account_id)
        logger.info("account %s: %s gets a generated password", row.account_id, row.kind)
        password = passwords.generate()
        sealed = self.shop.vault.seal(password)
        as_it_was = fn.COALESCE(Service.password_sealed, "") == (row.password_sealed or "")
        with transaction():
            self.lease.extend()
            # Not over one that the customer has chosen meanwhile.
            Service.update(password_sealed=sealed, own_password_sealed=sealed).where(
                this(row) & as_it_was
            ).execute()
        row.password_sealed = sealed
        return password

    # -- recording ---------------------------------------------------------------

    def _note_success(self, row: Service, panel_id: int | None) -> None:
        facts = _applied(row) | {"panel_id": panel_id}
        is_another = row.panel_id is not None and row.panel_id != panel_id
        hanging = [each for each in self.rows if is_another and wanted.hangs_on(each, row)]
        with transaction():
            self.lease.extend()
            Service.update(facts).where(this(row)).execute()
            if panel_id is not None:
                # A password that was changed meanwhile is wanted still.
                Service.update(password_sealed=None).where(
                    this(row) & (Service.revision == row.revision)
                ).execute()
            else:
                # A shell user that is off: one that waits for it is kept, the one before is void.
                Service.update(own_password_sealed=None).where(
                    this(row) & Service.password_sealed.is_null()
                ).execute()
            for each in hanging:
                Service.update(revision=Service.revision + 1).where(this(each)).execute()
        row.panel_id, row.applied_revision = panel_id, row.revision
        if row.kind == "client" and panel_id != self.client_id:
            self.client_id, self.group_id = panel_id, None
        for each in hanging:
            each.revision += 1

    def _note_tip_jar(self, row: Service, note: str | None, is_done: bool) -> None:
        with transaction():
            self.lease.extend()
            facts = _applied(row) | {"note": note, "password_sealed": None}
            Service.update(facts).where(this(row)).execute()
            if is_done:
                once = json.dumps(wanted.settings_of(row) | {"put_back": False})
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
        """`is_calm`: at first it is nothing to speak of."""
        row.tries, row.tried_at, row.permanent = row.tries + 1, now(), permanent
        # The earlier: the clock may have been wrong.
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

    def _note_ready(self) -> None:
        """The paid time starts when everything is there, however long that took."""
        moment, account = now(), self.account
        waited = moment - account.opened_at
        with transaction():
            ready = (
                Account.update(
                    ready_at=moment,
                    valued_at=Account.valued_at + waited,
                    expires_at=Account.expires_at + waited,
                    calendar_at=moment,
                    usage_at=moment,
                )
                .where(
                    (Account.id == account.id)
                    & (Account.revision == account.revision)
                    & Account.ready_at.is_null()
                )
                .execute()
            )
            if ready and self.shop.config.tip_jars:
                wanted.want_tip_jar(self.shop, account)
            if ready:  # the receipts name the end as well
                Order.update(ends_at=Order.ends_at + waited).where(
                    (Order.account == account.id) & Order.applied_at.is_null(False)
                ).execute()
        if ready:
            logger.info("account %s: ready, %d s after it was opened", account.id, waited)

    def _note_closed(self) -> None:
        """The panel has nothing of it any more: free its space, let its name rest, forget it.

        What stays are its payments, with amounts, dates and hashes.
        """
        account = self.account
        rest_until = now() + self.shop.config.name_quarantine_days * DAY
        with transaction():
            self.lease.extend()
            last = Account.get_by_id(account.id)
            if last.revision != account.revision:
                return  # rows that were done are to be looked at once more
            if last.blocked_at is None:
                by_owner = last.last_call_at is None
                outbox.write(self.shop, last, "deleted", last.expires_at, by_owner=by_owner)
            self._let_name_rest(rest_until, last.receipt_epoch)
            held_mb = self._forget_orders()
            Domain.delete().where(Domain.account == account.id).execute()
            Token.delete().where(Token.account == account.id).execute()
            Offer.update(account=None).where(Offer.account == account.id).execute()
            # What is still to be sent, such as that it is deleted, the outbox deletes.
            is_over = (Notice.account_id == account.id) & Notice.try_at.is_null()
            Notice.delete().where(is_over).execute()
            Account.delete().where(Account.id == account.id).execute()
            Server.update(
                held_mb=Server.held_mb - account.space_mb - held_mb,
                unpaid_mb=Server.unpaid_mb - held_mb,
            ).where(Server.id == account.server_id).execute()
        logger.info("account %s: closed", account.id)

    def _let_name_rest(self, until: int, receipt_epoch: int) -> None:
        """The receipt of the hosting that had it may have it again before."""
        account = self.account
        opening = (Order.account == account.id) & (Order.kind == "open")
        order = Order.select(Order.payment_hash).where(opening).first()
        facts = {
            "until": until,
            "payment_hash": order.payment_hash if order else None,
            "receipt_epoch": receipt_epoch,
        }
        # Nor may that of one before, which is noted by an older key.
        of_older_keys = self.shop.vault.macs("name", account.username)[1:]
        RestingName.delete().where(RestingName.name_hash << of_older_keys).execute()
        name_hash = self.shop.vault.mac("name", account.username)
        RestingName.insert(name_hash=name_hash, **facts).on_conflict(
            conflict_target=[RestingName.name_hash], update=facts
        ).execute()

    def _forget_orders(self) -> int:
        """Take its orders from the account; return the space that unpaid ones held for it.

        One that can still be paid keeps its name and browser, for the payment opens it anew.
        """
        its_own = Order.account == self.account.id
        # First, for it locks them: one that is just being released gives its space back itself.
        Order.update(attempt=None).where(its_own).execute()
        held_mb = Order.select(fn.SUM(Order.held_mb)).where(its_own).scalar() or 0
        is_over = Order.paid_at.is_null(False) & Order.applied_at.is_null(False)
        Order.update(username=None, browser=None, bolt11=None, asked=None).where(
            its_own & (is_over | Order.released_at.is_null(False))
        ).execute()
        Order.update(message=None).where(its_own).execute()
        Order.update(account=None, held_mb=0).where(its_own).execute()
        return held_mb


def _applied(row: Service) -> dict:
    """What is noted of a row that is as it is wanted."""
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
    """When a row that failed may be tried again: after seconds first, after minutes later."""
    if not row.tries:
        return 0
    wait = RETRY_SECONDS_MAX if row.permanent else 2 ** min(row.tries, 10)
    at = row.tried_at + min(RETRY_SECONDS_MAX, wait)
    # As in due_accounts: the clock was wrong.
    return at if at <= now() + 2 * RETRY_SECONDS_MAX else 0


def _look_once_more(row: Service) -> None:
    """The lease was lost around a write: whoever holds it now may have made the thing as well."""
    with transaction():
        Account.update(revision=Account.revision + 1, reconcile_at=now()).where(
            Account.id == row.account_id
        ).execute()
        Service.update(revision=Service.revision + 1).where(this(row)).execute()


def try_now(account_id: str) -> None:
    """Let what failed be tried again at once, and not only after its wait."""
    with transaction():
        Account.update(revision=Account.revision + 1, reconcile_at=now()).where(
            (Account.id == account_id) & Account.opened_at.is_null(False)
        ).execute()
        Service.update(tries=0).where(Service.account == account_id).execute()


def forget_rested_names() -> None:
    """Let names be taken again whose time of rest is over."""
    RestingName.delete().where(RestingName.until <= now()).execute()
