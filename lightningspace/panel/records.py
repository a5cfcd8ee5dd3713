"""An account's records at the panel: finding, correcting, creating and deleting them.

Look first; create, update or delete second; look again. So a call can be repeated, or killed
anywhere, without harm.
"""

import logging
import time
from collections.abc import Callable

from peewee import fn

from lightningspace.base import passwords
from lightningspace.base.clock import now
from lightningspace.base.models import Account, Service, transaction
from lightningspace.base.vault import Unreadable
from lightningspace.outside import ispconfig_records
from lightningspace.outside.ispconfig import PanelRefused
from lightningspace.outside.ispconfig_records import Hashed, Wish
from lightningspace.panel.lease import Lease
from lightningspace.rules import accounts, certificates, hostnames, services, wanted
from lightningspace.rules.services import this
from lightningspace.shop import Shop

logger = logging.getLogger(__name__)

# Marks a password that is kept as the panel's hash of it. No typed one begins with this.
KEPT = "\0"


class Outdated(Exception):
    """The account has changed since it was read, or the worker is stopping."""


class Records:
    """The records of one account, for the holder of its lease.

    Changing them raises PanelError and Lost, and Outdated rather than delete what is wanted again.
    """

    def __init__(self, shop: Shop, account: Account, rows: list[Service], lease: Lease):
        self.shop = shop
        self.panel = shop.panel
        self.account = account
        self.rows = rows
        self.lease = lease
        # The panel was never called for this account before: it has no record of ours.
        self.is_first = account.leases == 1 and account.closing_at is None
        self.client_id: int | None = None
        self._group_id: int | None = None

    def may_use_its_name(self, row: Service) -> bool:
        # A record that is or was there (a shell user that is off) keeps its name when the shop's
        # settings change, and nothing that is not our client's is ever deleted.
        was_there = row.panel_id is not None or row.applied_at is not None
        return row.gone or was_there or services.is_ours(self.shop, self.account, row, self.rows)

    # -- one record --------------------------------------------------------------

    def make(self, row: Service) -> int:
        """Find, correct or create the record as wanted, and return its id."""
        found = None if self.is_first else self._look(row)
        if found is not None and self._is_left_behind(row, found):
            self.put_away(row)
            found = None
        self._check_server(found)
        added, password = None, None
        if found is None:
            if services.KINDS[row.kind].has_password:
                password = self._password(row)
            try:
                added = self._create(row, password)
            except PanelRefused:
                # Is it there already, by a race or because a restored database has forgotten it?
                found = self._look(row)
                if found is None:
                    raise
        id = ispconfig_records.record_id(row.kind, found) if found else added
        fields = self._fields(row, id, found)
        if found is not None:
            if row.password_sealed is None and not ispconfig_records.differences(found, fields):
                return id
            password = self._password(row) if row.password_sealed else None
            self.write(row, "updated", self.panel.update, row.kind, id, fields, password)
        elif ispconfig_records.KINDS[row.kind].is_incomplete:
            self.write(row, "completed", self.panel.update, row.kind, id, fields)
        found = self._look(row, added)
        if found is None:
            raise PanelRefused("the panel has taken it and does not show it")
        different = ispconfig_records.not_kept(row.kind, found, fields)
        if different:
            raise PanelRefused(f"the panel has not kept {', '.join(sorted(different))}")
        id = ispconfig_records.record_id(row.kind, found)
        if isinstance(password, Hashed) and ispconfig_records.hash_of(row.kind, found) != password:
            # The panel has hashed the hash: no password opens it.
            password = self._generate_password(row)
            self.write(row, "updated", self.panel.update, row.kind, id, fields, password)
        return id

    def _is_left_behind(self, row: Service, record: dict) -> bool:
        """Whether it is on the server that the account is being moved from.

        With another id than ours, it has come there since: our database is a copy from before the
        hosting was moved back.
        """
        former = self.account.moved_from
        is_known = row.panel_id in (None, ispconfig_records.record_id(row.kind, record))
        return former is not None and record.get("server_id") == str(former) and is_known

    def _check_server(self, record: dict | None) -> None:
        """Raise PanelRefused if it is on another server than the account: its content is there."""
        server_id = (record or {}).get("server_id")
        if server_id is not None and server_id != str(self.account.server_id):
            name = self.account.username
            raise PanelRefused(
                f"it is on server {server_id}, and known here on {self.account.server_id}, as in a "
                f"copy from before it was moved: `move {name} {server_id} --yes` deletes nothing "
                "that is there",
                True,
            )

    def _create(self, row: Service, password: str | None) -> int:
        if not self.is_first and "site" in services.KINDS[row.kind].hangs_on:
            self.check_site()
        fields = self._fields(row)
        return self.write(row, "added", self.panel.add, row.kind, self.client_id, fields, password)

    def is_to_be_away(self, row: Service) -> bool:
        """Whether it is off and of a kind that the panel must not have while it is off."""
        kind = ispconfig_records.KINDS.get(row.kind)
        return bool(kind and kind.opens_when_off) and not services.is_on(self.account, row)

    def put_away(self, row: Service) -> None:
        """Remove what will be made again, and keep the panel's hash of its password for then."""
        for record in self.ours(row):
            hashed = ispconfig_records.hash_of(row.kind, record)
            if hashed and row.password_sealed is None:
                self._keep_password(row, KEPT + hashed)
        self.remove(row)

    def remove(self, row: Service) -> None:
        """Delete what the panel has of the row, and check that it is gone."""
        if self.client_id or row.panel_id:  # else nothing was ever made
            records = self.ours(row)
            for record in records:
                self._delete(row, record)
            if records and self.ours(row):
                raise PanelRefused("the panel has deleted it and still shows it")

    def _delete(self, row: Service, record: dict) -> None:
        if row.gone or services.is_on(self.account, row):
            self.check_wanted()  # once more: nothing brings back what is deleted
        self.begin_deleting()
        id = ispconfig_records.record_id(row.kind, record)
        self.write(row, "deleted", self.panel.delete, row.kind, id)

    def check_wanted(self) -> None:
        """Raise Outdated if the account has changed since it was read."""
        as_read = (Account.id == self.account.id) & (Account.revision == self.account.revision)
        if not Account.select(Account.id).where(as_read).exists():
            raise Outdated

    def begin_deleting(self) -> None:
        """Note a closing's first deletion: from now on no payment takes the closing back."""
        if self.account.closing_at is None or self.account.deleting_at is not None:
            return
        moment = now()
        with transaction():
            self.lease.extend()
            begun = Account.update(deleting_at=moment).where(
                (Account.id == self.account.id) & (Account.revision == self.account.revision)
            )
            if not begun.execute():
                raise Outdated
        self.account.deleting_at = moment

    def write(self, row: Service, what: str, call: Callable, *arguments):
        """Make one change at the panel or on the site, unless another worker has taken over."""
        self.lease.check()
        started = time.monotonic()
        answer = call(*arguments)
        milliseconds = (time.monotonic() - started) * 1000
        logger.info("account %s: %s %s, %.0f ms", row.account_id, row.kind, what, milliseconds)
        return answer

    # -- what the panel has of it ------------------------------------------------

    def _look(self, row: Service, added: int | None = None) -> dict | None:
        """Our record; None: there is none. Doubles are deleted first.

        `added`: the id of the record that was just created. Raises PanelRefused for doubles with
        which the customer's data would go, or once both are deleted to be made again.
        """
        ours = self.ours(row, added)
        if len(ours) < 2:
            return ours[0] if ours else None
        ids = [ispconfig_records.record_id(row.kind, record) for record in ours]
        kept = ours[ids.index(row.panel_id) if row.panel_id in ids else 0]
        doubles = [record for record in ours if record is not kept]
        self._report_doubles(row, doubles)
        if ispconfig_records.KINDS[row.kind].is_thing:
            # The customer does not have it yet if it was added just now or in an unfinished try.
            is_unfinished = row.failed_since is not None or self.account.ready_at is None
            is_fresh = added in ids or (row.applied_at is None and is_unfinished)
            if row.panel_id in ids or not is_fresh:
                raise PanelRefused(
                    f"the panel has it {len(ids)} times (ids {', '.join(map(str, ids))}), and with "
                    "any of them goes what the customer has in it: make it one by hand",
                    True,
                )
            # What both stand for goes with the double: delete both, and make it again.
            for record in doubles + [kept]:
                self._delete(row, record)
            raise PanelRefused("the panel had it twice: it is made anew")
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

    def ours(self, row: Service, added: int | None = None) -> list[dict]:
        """The row's records that belong to our client, the oldest first.

        Raises PanelRefused when only another client has the name, or our record now belongs to
        another client.
        """
        records = self.panel.find(row.kind, row.name)
        ids = [ispconfig_records.record_id(row.kind, record) for record in records]
        if self._group_id is None and self.client_id:
            if added in ids:
                self._group_id = ispconfig_records.owner(records[ids.index(added)])
            elif records or row.panel_id:
                self._group_id = self.panel.group_id(self.client_id)
        ours = [record for record in records if self._is_ours(record)]
        others = [id for id, record in zip(ids, records, strict=True) if record not in ours]
        if row.panel_id in others:
            raise PanelRefused(
                f"the one that we made (id {row.panel_id}) is another client's now: give it back "
                "or delete it by hand",
                True,
            )
        if row.panel_id and row.panel_id not in ids:
            renamed = self.panel.get(row.kind, row.panel_id)
            # After a restore of the panel its id may be another client's.
            if renamed and self._is_ours(renamed):
                return [renamed, *ours]
        if others and not ours and not row.gone:
            raise PanelRefused(
                f"its name exists at the panel and is another client's (id {others[0]})", True
            )
        return ours

    def _is_ours(self, record: dict) -> bool:
        return self._group_id is not None and ispconfig_records.owner(record) == self._group_id

    def check_site(self) -> None:
        """Raise PanelRefused unless the site is ours: after a restore its id may be anybody's."""
        site = next(row for row in self.rows if row.kind == "site")
        records = self.ours(site)
        if site.panel_id not in [ispconfig_records.record_id("site", record) for record in records]:
            raise PanelRefused(
                "its site is gone from the panel: retry --check makes it again", True
            )

    # -- the client --------------------------------------------------------------

    def meet_client(self) -> None:
        """Find our client by its name: after a restore of the panel its id may be another client's.

        Raises PanelRefused when it was renamed.
        """
        row = next((row for row in self.rows if row.kind == "client"), None)
        if row is None or not self.may_use_its_name(row):
            return
        login = self.panel.find_login(row.name)
        if login:
            self.client_id, self._group_id = login
        elif row.panel_id and self._has_our_site(row.panel_id):
            # It has all the records: a second client could not even close the account.
            raise PanelRefused(
                f"the client (id {row.panel_id}) was renamed: call it {row.name} again", True
            )
        if row.panel_id != self.client_id:
            row.applied_revision = 0  # so it is looked at before all that hangs on it

    def know_client(self) -> None:
        """Like `meet_client`, unless this round has met it already.

        Raises Outdated when the client is another one by now, or gone, so that it is looked at
        before everything that hangs on it.
        """
        if self.client_id is not None:
            return
        self.meet_client()
        row = next((row for row in self.rows if row.kind == "client"), None)
        if row is not None and not row.is_applied:
            look_once_more(row)
            raise Outdated

    def client_is(self, client_id: int | None) -> None:
        """Go on with the client that was just applied."""
        if client_id != self.client_id:
            self.client_id, self._group_id = client_id, None

    def _has_our_site(self, client_id: int) -> bool:
        group_id = self.panel.group_id(client_id)
        names = [row.name for row in self.rows if row.kind == "site"]
        records = self.panel.find("site", names[0]) if names and group_id else []
        return any(ispconfig_records.owner(record) == group_id for record in records)

    def make_client(self, row: Service) -> int:
        client = None if self.is_first else self._look_for_client(row)
        if client is None:
            # ISPConfig asks for an address of each client: it gets the hosting's own mailbox.
            email = f"info@{hostnames.site_name(self.shop, self.account.username)}"
            try:
                self.client_id = self.write(row, "added", self.panel.add_client, row.name, email)
                client = {"id": self.client_id, "is_closed": False}
            except PanelRefused:
                client = self._look_for_client(row)  # is it there already?
                if client is None:
                    raise
        if client["is_closed"]:
            return client["id"]
        if client["id"] == row.panel_id:
            raise PanelRefused(
                "the client may log in to the panel: cancel it there by hand (a change of ours "
                "would switch its services on)",
                True,
            )
        self.write(row, "closed", self.panel.close_client_login, client["id"])
        client = self._look_for_client(row)
        if client is None or not client["is_closed"]:
            raise PanelRefused("the panel has taken the client and does not show it closed")
        return client["id"]

    def _look_for_client(self, row: Service) -> dict | None:
        """Our complete client; None: there is none. Half-made ones and doubles are deleted."""
        whole = []
        for client in self.panel.find_clients(row.name):
            if client["id"] == self.client_id or self.panel.group_id(client["id"]) is not None:
                whole.append(client)
            else:
                self.write(row, "half made, deleted", self.panel.delete_client, client["id"])
        if not whole:
            return None
        kept = next((each for each in whole if each["id"] == row.panel_id), whole[0])
        doubles = [each for each in whole if each is not kept]
        if doubles:
            self._report_doubles(row, doubles)
        for double in doubles:
            self.write(row, "double, deleted", self.panel.delete_client, double["id"])
        return kept

    def remove_clients(self, row: Service) -> None:
        self.begin_deleting()
        for client in self.panel.find_clients(row.name):
            self.write(row, "deleted", self.panel.delete_client, client["id"])
        if self.panel.find_clients(row.name):
            raise PanelRefused("the panel has deleted the client and still shows it")

    # -- what a record should be -------------------------------------------------

    def id_of(self, kind: str) -> int | None:
        return next((row.panel_id for row in self.rows if row.kind == kind), None)

    def _fields(self, row: Service, id: int | None = None, found: dict | None = None) -> dict:
        """The record as it is wanted. `id`: its id, if it is there; `found`: as it is now."""
        settings = services.settings_of(row)
        if row.kind == "site":
            settings["letsencrypt"] = self._has_certificate(row, id, found)
        wish = Wish(
            name=row.name,
            server_id=self.account.server_id,
            client_id=self.client_id,
            id=id,
            ids={each.kind: each.panel_id for each in reversed(self.rows)},
            is_active=row.active,
            is_on=services.is_on(self.account, row),
            quota_mb=services.quota_mb(self.account.space_mb, row, self.rows),
            settings=settings,
            walls_mode=self.shop.config.walls,
            may_send=accounts.may_send(self.shop, self.account),
        )
        return ispconfig_records.KINDS[row.kind].fields(wish)

    def _has_certificate(self, row: Service, id: int | None, found: dict | None) -> bool:
        """Whether the site keeps its certificate, or asks for one now: each request counts."""
        if not certificates.is_wanted(self.shop, row):
            if row.note is not None or row.certificate_at is not None:
                self._forget_certificate(row)
            return False
        if found is not None and ispconfig_records.has_certificate(found):
            return True
        is_served = id is not None and services.is_on(self.account, row)
        return is_served and certificates.is_to_ask(row)

    def _forget_certificate(self, row: Service) -> None:
        with transaction():
            self.lease.extend()
            Service.update(note=None, certificate_at=None).where(this(row)).execute()
        row.note = row.certificate_at = None

    def _password(self, row: Service) -> str:
        """The wanted password; if there is none, a generated one, stored before it is used."""
        if row.password_sealed:
            try:
                password = self.shop.vault.unseal(row.password_sealed)
                if password.startswith(KEPT):
                    return Hashed(password.removeprefix(KEPT))
                if passwords.is_good(password):  # all but some that were typed under older rules
                    return password
            except Unreadable:
                logger.error("account %s: a password cannot be read", row.account_id)
        return self._generate_password(row)

    def _generate_password(self, row: Service) -> str:
        logger.info("account %s: %s gets a generated password", row.account_id, row.kind)
        password = passwords.generate()
        self._keep_password(row, password, is_shown=True)
        return password

    def _keep_password(self, row: Service, password: str, is_shown: bool = False) -> None:
        """Store it until the panel has it, unless the customer has chosen another meanwhile."""
        sealed = self.shop.vault.seal(password)
        facts = {"password_sealed": sealed} | ({"own_password_sealed": sealed} if is_shown else {})
        as_it_was = fn.COALESCE(Service.password_sealed, "") == (row.password_sealed or "")
        with transaction():
            self.lease.extend()
            Service.update(facts).where(this(row) & as_it_was).execute()
        row.password_sealed = sealed


def look_once_more(row: Service) -> None:
    """Have a row applied again: its record may be another by now."""
    with transaction():
        wanted.look_now(row.account_id)
        Service.update(revision=Service.revision + 1).where(this(row)).execute()
