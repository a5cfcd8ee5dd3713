"""Whatever is wanted, in any order and despite any failure: in the end the panel has just that.

Hypothesis makes up sequences of steps of customers, the operator, workers, the panel and the
clock, and prints the shortest one that fails. The suite runs a few, always the same ones;
`make soak` runs many, each time different ones.
"""

import copy
import os
import sys
import time
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)

from lightningspace import shop
from lightningspace.base import clock, models
from lightningspace.base.config import from_env
from lightningspace.base.models import Account, RestingName, Service, transaction
from lightningspace.base.prices import DAY
from lightningspace.base.tables import TABLES
from lightningspace.outside import ispconfig, ispconfig_records
from lightningspace.panel import reconcile
from lightningspace.panel.lease import LEASE_SECONDS, Lease
from lightningspace.rules import accounts, hostnames, ledger, progress, services, wanted
from lightningspace.rules.wanted import (
    AccountClosed,
    AccountNotReady,
    NameInUse,
    NoneLeft,
    UnknownService,
)
from lightningspace.sandbox.faults import Faults
from lightningspace.sandbox.jobs import JobQueue
from lightningspace.sandbox.panel import SandboxPanel
from tests.actual import KINDS, WITH_PASSWORD, assert_panel_matches, everything, wrong_calls
from tests.conftest import PANEL_PASSWORD, SetClock
from tests.flows import resize

pytestmark = pytest.mark.each_database

SOAK = os.environ.get("SOAK") == "1"
PHASES = (Phase.explicit, Phase.generate, Phase.shrink)
RUN = settings(
    max_examples=int(os.environ.get("EXAMPLES", "2000" if SOAK else "8")),
    stateful_step_count=int(os.environ.get("STEPS", "50" if SOAK else "25")),
    derandomize=not SOAK,  # a fault that CI finds can be repeated everywhere
    database=None,
    deadline=None,  # a shared machine may be slow
    # One step makes dozens of calls over a real socket.
    suppress_health_check=[HealthCheck.too_slow],
    phases=PHASES,
    print_blob=True,
)

OWNED = tuple(kind for kind in KINDS if kind != "client")
CAPACITY_MB = 10_000
QUARANTINE_DAYS = 2
START = 1_800_000_000.0
SSH_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIB0NEtxcJ2O5pSNUEvSLhZqVgVn3Dq3JfHEtVxkS3gbq alice"
# A domain of another client of the panel: wanting it fails until it is given up.
NOT_OURS = "bystander.example"

WHO = st.sampled_from(["alice", "bob", "carol"])
# "{user}" is the prefix and the username, "{site}" the site.
THINGS = [
    ("site", "{site}"),
    ("client", "{user}"),
    ("ftp", "{user}"),
    ("shell", "{user}"),
    ("database_user", "{user}"),
    ("database", "{user}"),
    ("alias", "one.example"),
    ("alias", "two.example"),
    ("alias", NOT_OURS),
    ("mail_domain", "{site}"),
    ("mail_domain", "one.example"),
    ("mail_domain", "two.example"),
    ("mailbox", "info@{site}"),
    ("mailbox", "post@{site}"),
    ("mailbox", "info@one.example"),
    ("mailbox", "post@two.example"),
    ("forward", "post@{site}"),
    ("forward", "news@{site}"),
    ("forward", "info@one.example"),
]
THING = st.sampled_from(THINGS)
# What the worker does after a step: perhaps its nth call of the panel goes wrong.
WORKER = st.one_of(
    st.sampled_from(["works", "sleeps"]),
    st.tuples(
        st.sampled_from(["cut-before", "cut-after", "refuse", "killed before", "killed after"]),
        st.integers(1, 20),
    ),
)
PASSWORD = st.sampled_from(["correct horse", "battery staple", None])
SPACE_MB = st.sampled_from([100, 101, 1, 1000, 5000])
SETTINGS = [
    *((("site", "{site}"), {"php": php}) for php in (False, True)),
    *((("site", "{site}"), {"php_version": version}) for version in (3, 0)),
    *((("site", "{site}"), {"letsencrypt": letsencrypt}) for letsencrypt in (True, False)),
    *((("shell", "{user}"), {"ssh_key": key}) for key in (SSH_KEY, "")),
    *(
        (("mailbox", name), {"quota_mb": quota})
        for name in ("info@{site}", "post@{site}", "info@one.example")
        for quota in (5, 500, None)
    ),
    (("forward", "news@{site}"), {"destination": "alice@elsewhere.example"}),
    (("forward", "post@{site}"), {"destination": "bob@elsewhere.example"}),
]
NOT_SETTINGS = [
    (("site", "{site}"), {"allow_override": "All"}),
    (("site", "{site}"), {"php": "no"}),
    (("site", "{site}"), {"php_version": -1}),
    (("shell", "{user}"), {"ssh_key": "ssh-ed25519 A\nssh-ed25519 B"}),
    (("mailbox", "info@{site}"), {"quota_mb": 0}),
    (("forward", "news@{site}"), {"destination": "a@b.example, c@d.example"}),
]
NOT_NAMES = [
    ("client", "{user}"),
    ("site", "two.example"),
    ("database_user", "{user}"),
    ("database", "mysql"),
    ("shell", "web3"),
    ("ftp", "ls_somebody"),
    ("alias", "panel.shop.test"),
    ("alias", "www.one.example"),
    ("alias", "%.example"),
    ("mail_domain", "gmail.com"),
    ("mailbox", "post@gmail.com"),
    ("mailbox", "../info@{site}"),
]
ADDITIONS = [
    *((kind, "{user}", {}) for kind in ("ftp", "shell", "database")),
    ("shell", "{user}", {"ssh_key": SSH_KEY}),
    *(("alias", name, {}) for name in ("one.example", "two.example", NOT_OURS)),
    *(("mail_domain", name, {}) for name in ("one.example", "two.example")),
    *(("mailbox", name, {}) for kind, name in THINGS if kind == "mailbox"),
    ("mailbox", "post@{site}", {"quota_mb": 7}),
    *(
        ("forward", name, {"destination": "alice@elsewhere.example"})
        for kind, name in THINGS
        if kind == "forward"
    ),
    ("forward", "news@{site}", {}),
]
# Changes that may come while a worker is busy.
CHANGES = [
    *((what,) for what in ("suspend", "resume", "block", "unblock", "check", "close") * 6),
    *(("resize", space_mb) for space_mb in (100, 1000)),
    *(("set_password", thing, "typed meanwhile") for thing in THINGS if thing[0] in WITH_PASSWORD),
    *(("set_password", thing, None) for thing in THINGS if thing[0] in WITH_PASSWORD),
    *(("remove", thing) for thing in THINGS),
    *(("switch", thing, active) for thing in THINGS for active in (False, True)),
    *(("add", *addition, "typed meanwhile") for addition in ADDITIONS),
    *(("configure", *setting) for setting in SETTINGS),
]

CHANGING = [
    "client_add",
    "client_update",
    "client_delete_everything",
    *(
        f"{ispconfig_records.KINDS[kind].method}_{verb}"
        for kind in OWNED
        for verb in ("add", "update")
    ),
    *(f"{ispconfig_records.KINDS[kind].method}_delete" for kind in OWNED),
]
ASKING = [
    "client_get",
    "client_get_groupid",
    *(f"{ispconfig_records.KINDS[kind].method}_get" for kind in OWNED),
]
ADDING = ["client_add", *(f"{ispconfig_records.KINDS[kind].method}_add" for kind in OWNED)]
REFUSALS = [
    "HTTP 500",
    "HTTP 502",
    "garbage",
    "username_error_unique<br />\r\n",
    "Data truncated INSERT INTO `ftp_user` (`password`) VALUES ('$6$hash')",
]
BY_HAND = [
    ("site", "hd_quota", "1"),
    ("site", "active", "n"),
    ("site", "allow_override", "All"),
    ("site", "php_fpm_use_socket", "n"),
    ("site", "domain", "renamed.example"),
    ("alias", "active", "n"),
    ("ftp", "username", "renamed"),
    ("ftp", "dir", "/var/www/clients/client1/web1"),
    ("shell", "chroot", "no"),
    ("shell", "active", "n"),
    ("database", "database_quota", "-1"),
    ("database", "database_user_id", "1"),
    ("mail_domain", "active", "n"),
    ("mailbox", "disablesmtp", "n"),
    ("mailbox", "quota", "0"),
    ("forward", "destination", "mallory@elsewhere.example"),
]


# -- a second record of what should be ----------------------------------------------


@dataclass
class Thing:
    settings: dict = field(default_factory=dict)
    active: bool = True


@dataclass
class Hosting:
    """What one account wants, by the rules: its changes raise where `wanted` has to refuse."""

    id: str
    username: str
    space_mb: int
    things: dict[tuple[str, str], Thing]
    # The passwords that the customer knows: typed ones, and those noted from the page.
    known: dict[tuple[str, str], str]
    suspended: bool = False
    blocked: bool = False
    is_closed: bool = False
    is_gone: bool = False
    # Somebody has changed something at the panel by hand, and no check was asked for since.
    is_touched: bool = False
    # What a payment would bring back if it comes in time.
    closed: tuple[dict, dict] | None = None

    def suspend(self) -> None:
        self._is_there()
        self.suspended = True

    def resume(self) -> None:
        self._is_there()
        self.suspended = False

    def block(self, reason: str) -> None:
        self._is_there()
        self.blocked = True

    def unblock(self) -> None:
        self._is_there()
        self.blocked = False

    def close(self) -> None:
        if not self.is_closed:
            self.closed = self.things, self.known
        self.is_closed = True
        self.things, self.known = {}, {}

    def pay(self, is_deleting: bool) -> None:
        """Paid time switches everything on, and undoes a closing that has deleted nothing."""
        if is_deleting:
            return
        self.suspended = False
        if self.is_closed:
            self.is_closed = False
            self.things, self.known = self.closed

    def check(self) -> None:
        self.is_touched = False

    def resize(self, space_mb: int) -> None:
        self._is_there()
        self.space_mb = space_mb

    def add(self, kind: str, name: str, password: str | None, **settings) -> None:
        if kind == "forward" and not settings:
            raise ValueError  # without a destination
        self._is_ready()
        domain, there = name.rpartition("@")[2], self.things
        site = ("mail_domain", f"{self.username}.shop.test")
        may_be = {
            "alias": name in ("one.example", "two.example", NOT_OURS),
            "mail_domain": ("alias", name) in there or ("mail_domain", name) == site,
            "mailbox": ("mail_domain", domain) in there and ".." not in name,
            "forward": ("mail_domain", domain) in there,
        }
        if not may_be.get(kind, name == f"ls_{self.username}" and kind in OWNED[2:]):
            raise ValueError
        if kind == "database_user":
            raise ValueError
        kinds = ("mailbox", "forward") if kind in ("mailbox", "forward") else (kind,)
        if any((each, name) in there for each in kinds):
            raise NameInUse
        if Service.get_or_none((Service.name == name) & (Service.kind == kind)) not in (
            None,
            *Service.select().where(Service.account == self.id),
        ):
            raise NameInUse  # by another account
        self.things[kind, name] = Thing(settings)
        if password and kind in WITH_PASSWORD:
            self.known[kind, name] = password

    def remove(self, kind: str, name: str) -> None:
        self._is_ready()
        self._has(kind, name)
        site = f"{self.username}.shop.test"
        if kind in ("client", "site", "database_user") or name == site:
            raise ValueError
        along = {"alias": ("alias", "mail_domain"), "mail_domain": ("mail_domain",)}.get(kind, ())
        for each in list(self.things):
            hangs = along and each[0] in (*along, "mailbox", "forward")
            if each == (kind, name) or (hangs and each[1].rpartition("@")[2] == name):
                del self.things[each]

    def configure(self, kind: str, name: str, **settings) -> None:
        self._is_ready()
        self._has(kind, name)
        if ((kind, name), settings) in [
            ((kind, self.fill(template)), bad) for (kind, template), bad in NOT_SETTINGS
        ]:
            raise ValueError
        self.things[kind, name].settings |= settings

    def switch(self, kind: str, name: str, active: bool) -> None:
        if kind in ("client", "database_user"):
            raise ValueError
        self._is_ready()
        self._has(kind, name)
        self.things[kind, name].active = active

    def set_password(self, kind: str, name: str, password: str | None) -> None:
        if kind not in WITH_PASSWORD:
            raise ValueError
        self._is_ready()
        self._has(kind, name)
        if password:
            self.known[kind, name] = password

    def fill(self, template: str) -> str:
        """The name that a template stands for."""
        user, site = f"ls_{self.username}", f"{self.username}.shop.test"
        return template.replace("{user}", user).replace("{site}", site)

    def _is_there(self) -> None:
        if self.is_closed:
            raise AccountClosed

    def _is_ready(self) -> None:
        self._is_there()
        if Account.get_by_id(self.id).ready_at is None:
            raise AccountNotReady

    def _has(self, kind: str, name: str) -> None:
        self._is_there()
        if (kind, name) not in self.things:
            raise UnknownService


# -- the shop, its panel, and what has happened --------------------------------------


@dataclass
class Figures:
    examples: int = 0
    steps: Counter = field(default_factory=Counter)
    calls: int = 0
    faults: Counter = field(default_factory=Counter)

    def __str__(self):
        steps = "\n".join(f"  {count:7} {name}" for name, count in self.steps.most_common())
        faults = "\n".join(f"  {count:7} {kind}" for kind, count in self.faults.most_common())
        return (
            f"{self.examples} examples, {self.steps.total()} steps:\n{steps}\n"
            f"{self.calls} calls of the panel, {self.faults.total()} met a fault:\n{faults}"
        )


# The module of changes that are not about single services.
MODULES = dict.fromkeys(("suspend", "resume", "block", "unblock", "close", "check"), accounts)


class CountedFaults(Faults):
    def __init__(self, figures: Figures):
        super().__init__()
        self.figures = figures

    def take(self, method):
        fault = super().take(method)
        if fault:
            self.figures.faults[fault.kind] += 1
        return fault


class Killed(BaseException):
    """The worker's process ends here."""


@dataclass
class MortalPanel:
    """A worker's panel client whose process is killed before or after the nth call."""

    panel: ispconfig.Panel
    calls_left: int
    is_carried_out: bool

    def __getattr__(self, name):
        def call(*arguments, **named):
            self.calls_left -= 1
            if self.calls_left == 0 and not self.is_carried_out:
                raise Killed
            answer = getattr(self.panel, name)(*arguments, **named)
            if self.calls_left == 0:
                raise Killed
            return answer

        return call


class World:
    """A database and a panel for many examples, each of which finds them as they were at first."""

    def __init__(self, database_url: str, directory: Path, figures: Figures):
        self.figures = figures
        self.panel = SandboxPanel(password=PANEL_PASSWORD, faults=CountedFaults(figures))
        self.panel.start()
        self._closed_clients: Counter = Counter()
        update = self.panel._methods["client_update"]
        self.panel._methods["client_update"] = lambda params: self._close_client(update, params)
        env = {
            "PUBLIC_URL": "http://localhost",
            "BASE_DOMAIN": "shop.test",
            "DATABASE_URL": database_url,
            "SECRET_KEY": "a key of the tests that is long enough",
            "LIGHTNING_RPC": str(directory / "nobody answers here"),
            "PANEL_URL": self.panel.url,
            "PANEL_USER": "shop",
            "PANEL_PASSWORD": PANEL_PASSWORD,
            "CAPACITY_MB": str(CAPACITY_MB),
            "FTP_UPLOADS": "false",
            "NAME_QUARANTINE_DAYS": str(QUARANTINE_DAYS),
        }
        self.config = from_env(env, directory)
        models.open_database(database_url)
        if database_url.startswith("sqlite:"):
            # No machine fails here, and waiting for the disk would take longer than all the rest.
            models.db.execute_sql("PRAGMA synchronous=off")
        models.init_db()
        shop.settle_in(self.new_shop())
        self._make_bystander()
        panel = self.panel
        self._start = copy.deepcopy((panel._rows, panel._next_id))
        self.bystander = copy.deepcopy(self.records_of_bystander())
        self.others = everything(panel)

    def new_shop(self) -> shop.Shop:
        """The shop of a program that has just been started."""
        return shop.build(self.config)

    def begin_anew(self) -> None:
        panel = self.panel
        self.figures.calls += len(panel.calls)
        panel._rows, panel._next_id = copy.deepcopy(self._start)
        panel._queue, panel._failures, panel._sessions = JobQueue(), [], {}
        panel.faults.clear()
        panel.calls.clear()
        panel.forbidden = set()
        panel.before_call = lambda method: None
        self._closed_clients.clear()
        with transaction():
            for table in (Service, Account, RestingName):
                table.delete().execute()

    def stop(self) -> None:
        self.figures.calls += len(self.panel.calls)
        self.panel.stop()
        models.db.close()

    def _make_bystander(self) -> None:
        """Add another client of the panel, with a record of every kind, that nothing may touch."""
        theirs = self.new_shop().panel
        client = theirs.add_client("bystander", "info@bystander.example")
        self.bystanders_group = str(theirs.group_id(client))
        site = theirs.add(
            "site", client, ispconfig_records.site_fields(1, client, None, NOT_OURS, 9, True)
        )
        alias = ispconfig_records.alias_fields(1, site, "also-bystander.example", True)
        theirs.add("alias", client, alias)
        user = "bystander"
        ftp = ispconfig_records.ftp_fields(1, client, site, user, True)
        theirs.add("ftp", client, ftp, "the bystander's own")
        shell = ispconfig_records.shell_fields(1, client, site, user, "")
        theirs.add("shell", client, shell, "the bystander's own")
        database_user = ispconfig_records.database_user_fields(1, user)
        by = theirs.add("database_user", client, database_user, "the bystander's own")
        theirs.add(
            "database", client, ispconfig_records.database_fields(1, site, user, by, 5, True)
        )
        theirs.add("mail_domain", client, ispconfig_records.mail_domain_fields(1, NOT_OURS, True))
        mailbox = ispconfig_records.mailbox_fields(1, f"info@{NOT_OURS}", 5, True, True)
        theirs.add("mailbox", client, mailbox, "the bystander's own")
        forward = ispconfig_records.forward_fields(
            1, f"news@{NOT_OURS}", "info@elsewhere.example", True
        )
        theirs.add("forward", client, forward)
        self.panel.calls.clear()

    def records_of_bystander(self) -> dict:
        rows, client = self.panel._rows, self.panel.login("bystander")["client_id"]
        theirs = {
            (kind, id): row
            for kind in OWNED
            for id, row in rows[kind].items()
            if row.record["sys_groupid"] == self.bystanders_group
        }
        login = next(row for row in rows["sys_user"].values() if row.record["client_id"] == client)
        return theirs | {"client": rows["client"][int(client)], "login": login}

    def _close_client(self, update, params: dict) -> int:
        """Check that client_update, which switches everything on, comes first, and only once."""
        client = params["client_id"]
        self._closed_clients[client] += 1
        return update(params)

    def check_client_updates(self) -> None:
        assert all(count == 1 for count in self._closed_clients.values()), self._closed_clients


# -- the machine ---------------------------------------------------------------------


class Lives(RuleBasedStateMachine):
    """Customers, the operator, workers, the panel and the clock, in any order."""

    def __init__(self, world: World):
        super().__init__()
        self.world, self.panel, self.figures = world, world.panel, world.figures
        self.world.begin_anew()
        self.time = SetClock(START)
        clock.set_source(lambda: self.time.moment)
        self.shop = world.new_shop()
        self.hostings: dict[str, Hosting] = {}  # by username, the latest of each
        self.opened = 0
        self.calls_checked = 0
        self.names: set[tuple[str, str]] = set()  # all that were ever wanted

    # -- what customers and the operator want ------------------------------------

    @initialize(
        space_mb=SPACE_MB, days=st.sampled_from([90, 1]), wants_all=st.booleans(), worker=WORKER
    )
    def alice_opens(self, space_mb, days, wants_all, worker):
        self.open("alice", space_mb, days, "correct horse", worker)
        for addition in ADDITIONS if wants_all else ():
            if NOT_OURS not in addition:
                self._want("alice", "add", *addition, "battery staple")

    @precondition(lambda self: len(self.hostings) < 3 or any(h.is_gone for h in self.each()))
    @rule(
        who=WHO, space_mb=SPACE_MB, days=st.sampled_from([90, 1]), password=PASSWORD, worker=WORKER
    )
    def open(self, who, space_mb, days, password, worker):
        self._step("open")
        rests = RestingName.get_or_none(name_hash=self.shop.vault.mac("name", who))
        if Account.get_or_none(username=who) or rests:
            return
        self.opened += 1
        id, moment, password = f"{self.opened:016x}", clock.now(), password or "made for all"
        with transaction():
            account = Account.create(
                id=id,
                username=who,
                server=1,
                space_mb=space_mb,
                opened_at=moment,
                expires_at=moment + days * DAY,
                valued_at=moment,
                value_msat=days * 1000,
                calendar_at=moment,
                password_hash="not asked for here",
            )
            wanted.want_all(self.shop, account, password)
        at_first = [
            ("client", f"ls_{id}"),
            *((kind, f"ls_{who}") for kind in ("ftp", "shell", "database_user", "database")),
            *((kind, f"{who}.shop.test") for kind in ("site", "mail_domain")),
            ("mailbox", f"info@{who}.shop.test"),
        ]
        known = {thing: password for thing in at_first if thing[0] in WITH_PASSWORD}
        things = {
            (kind, name): Thing(dict(services.KINDS[kind].begins_with)) for kind, name in at_first
        }
        self.hostings[who] = Hosting(id, who, space_mb, things, known)
        self.names.update(at_first)
        self._worker(worker)

    @rule(who=WHO, space_mb=SPACE_MB, worker=WORKER)
    def resize(self, who, space_mb, worker):
        self._want(who, "resize", space_mb)
        self._worker(worker)

    @rule(who=WHO, addition=st.sampled_from(ADDITIONS), password=PASSWORD, worker=WORKER)
    def add(self, who, addition, password, worker):
        self._want(who, "add", *addition, password)
        self._worker(worker)

    @rule(who=WHO, thing=st.sampled_from(NOT_NAMES), worker=WORKER)
    def add_what_may_not_be(self, who, thing, worker):
        self._want(who, "add", *thing, {}, "correct horse")
        self._worker(worker)

    @rule(who=WHO, thing=THING, worker=WORKER)
    def remove(self, who, thing, worker):
        self._want(who, "remove", thing)
        self._worker(worker)

    @rule(who=WHO, setting=st.sampled_from(SETTINGS), worker=WORKER)
    def configure(self, who, setting, worker):
        self._want(who, "configure", *setting)
        self._worker(worker)

    @rule(who=WHO, setting=st.sampled_from(NOT_SETTINGS), worker=WORKER)
    def configure_what_may_not_be(self, who, setting, worker):
        self._want(who, "configure", *setting)
        self._worker(worker)

    @rule(who=WHO, thing=THING, active=st.booleans(), worker=WORKER)
    def switch(self, who, thing, active, worker):
        self._want(who, "switch", thing, active)
        self._worker(worker)

    @rule(who=WHO, thing=THING, password=PASSWORD, worker=WORKER)
    def set_password(self, who, thing, password, worker):
        self._want(who, "set_password", thing, password)
        self._worker(worker)

    @rule(who=WHO, what=st.sampled_from(["suspend", "resume", "block", "unblock"]), worker=WORKER)
    def turn(self, who, what, worker):
        self._want(who, what)
        self._worker(worker)

    @rule(who=WHO, worker=WORKER)
    def check(self, who, worker):
        self._want(who, "check")
        self._worker(worker)

    @rule(who=WHO, worker=WORKER)
    def close(self, who, worker):
        self._want(who, "close")
        self._worker(worker)

    @rule(who=WHO, worker=WORKER)
    def pay(self, who, worker):
        self._step("pay")
        each = self._of(who)
        with models.transaction():
            account = models.lock_account(each.id)
            if account:
                each.pay(account.deleting_at is not None)
            if account and account.deleting_at is None:
                paid = ledger.holding(account).buy(7000, 7000, 1000 * DAY)
                accounts.renew(self.shop, account, paid)
        self._worker(worker)

    @rule(who=WHO)
    def note_passwords(self, who):
        """The customer notes the password that the page shows, and confirms it."""
        self._step("note_passwords")
        hosting_ = self._of(who)
        self._note_passwords(hosting_)
        progress.forget_passwords(hosting_.id, clock.now())

    # -- what workers do ---------------------------------------------------------

    @rule()
    def round(self):
        self._step("round")
        self._round()

    @rule(seconds=st.sampled_from([5, 301]))
    def some_rounds(self, seconds):
        self._step("some_rounds")
        for _ in range(4):
            self._round()
            self.time.forward(seconds)

    @rule(rows=st.integers(0, 12))
    def round_that_is_stopped(self, rows):
        self._step("round_that_is_stopped")
        left = iter(range(rows))
        self._round(stopping=lambda: next(left, None) is None)

    @rule(call=st.integers(1, 40), is_carried_out=st.booleans(), holds_lease=st.booleans())
    def round_that_is_killed(self, call, is_carried_out, holds_lease):
        """The process ends before or after a call, with or without giving its lease back."""
        self._step("round_that_is_killed")
        self._round_that_is_killed(call, is_carried_out, holds_lease)

    def _round_that_is_killed(self, call, is_carried_out, holds_lease):
        mortal = MortalPanel(self.shop.panel, call, is_carried_out)
        for account_id in reconcile.due_accounts():
            try:
                reconcile.account(replace(self.shop, panel=mortal), account_id)
            except Killed:
                if holds_lease:
                    Account.update(
                        leased_by="killed", leased_until=clock.now() + LEASE_SECONDS
                    ).where(Account.id == account_id).execute()
                break
        self._see_who_is_gone()

    @rule(who=WHO, call=st.integers(1, 40), change=st.sampled_from(CHANGES))
    def round_with_a_change(self, who, call, change):
        """While a call of the worker is under way, the web program changes what is wanted."""
        self._step("round_with_a_change")
        with self._at_call(call, lambda: self._want(who, *change)):
            self._round()

    @rule(call=st.integers(1, 40))
    def round_that_outlasts_its_lease(self, call):
        """A worker hangs in a call, another takes over, and then the call goes on."""
        self._step("round_that_outlasts_its_lease")
        other = self.world.new_shop()

        def take_over():
            self.time.forward(LEASE_SECONDS + 1)
            for account_id in reconcile.due_accounts():
                reconcile.account(other, account_id)

        with self._at_call(call, take_over):
            self._round()

    @rule(who=WHO)
    def worker_vanishes(self, who):
        self._step("worker_vanishes")
        if self._of(who).id in reconcile.due_accounts():
            assert Lease(self._of(who).id).take()

    @rule(who=WHO, is_half_made=st.booleans())
    def worker_vanishes_in_client_add(self, who, is_half_made):
        """The worker is killed; so is the panel's PHP, unless it had finished by then."""
        self._step("worker_vanishes_in_client_add")
        account_id = self._of(who).id
        client = f"ls_{account_id}"
        is_due = account_id in reconcile.due_accounts()
        if not is_due or client in [c["username"] for c in self.panel.records("client")]:
            return
        assert Lease(account_id).take()
        params = {
            "contact_name": client,
            "username": client,
            "email": f"info@{who}.shop.test",
            "language": "en",
            "web_php_options": "no,php-fpm",
            "ssh_chroot": "jailkit",
            "password": "Aa1" + 24 * "x",
        }
        id = self._by_hand("client_add", reseller_id=0, params=params)
        if is_half_made:
            self.panel.half_make(id)

    @rule(what=st.sampled_from(["worker", "panel"]))
    def restart(self, what):
        self._step("restart")
        if what == "worker":
            self.shop = self.world.new_shop()
        else:
            self.panel._sessions.clear()

    # -- the clock, failures, and others at the panel --------------------

    @rule(seconds=st.sampled_from([1, 5, 60, 301, 1801, DAY + 1, 3 * DAY]))
    def time_passes(self, seconds):
        self._step("time_passes")
        self.time.forward(seconds)
        for each in self.each():
            self._note_passwords(each)  # within a day, before the passwords are wiped
        progress.wipe_shown_passwords()
        hostnames.forget_rested()
        progress.look_at_queues(self.shop)

    @rule(
        kind=st.sampled_from(["cut-before", "cut-after"]),
        method=st.sampled_from([None, *CHANGING, *ASKING, "login"]),
        passes=st.integers(0, 5),
        times=st.sampled_from([1, 2, None]),
    )
    def panel_cuts(self, kind, method, passes, times):
        self._step("panel_cuts")
        self.panel.faults.set(kind, method, passes=passes, times=times)

    @rule(
        method=st.sampled_from([*CHANGING, *ASKING]),
        message=st.sampled_from(REFUSALS),
        passes=st.integers(0, 2),
        times=st.sampled_from([1, 2, None]),
    )
    def panel_refuses(self, method, message, passes, times):
        self._step("panel_refuses")
        self.panel.faults.set("refuse", method, passes=passes, times=times, message=message)

    @rule(method=st.sampled_from(ADDING), passes=st.integers(0, 2))
    def panel_races(self, method, passes):
        self._step("panel_races")
        self.panel.faults.set("twice", method, passes=passes, times=1)

    @rule(method=st.sampled_from([*CHANGING, *ASKING]))
    def panel_forbids(self, method):
        self._step("panel_forbids")
        self.panel.forbidden = self.panel.forbidden | {method}

    @rule()
    def weather_clears(self):
        self._step("weather_clears")
        self.panel.faults.clear()
        self.panel.forbidden = set()

    @rule(who=WHO, kind=st.sampled_from(["client", *OWNED]))
    def deleted_by_hand(self, who, kind):
        self._step("deleted_by_hand")
        record = self._record(who, kind)
        if record and kind == "client":
            self._by_hand("client_delete_everything", client_id=int(record["client_id"]))
        elif record:
            method = f"{ispconfig_records.KINDS[kind].method}_delete"
            self._by_hand(method, primary_id=int(record[KINDS[kind][0]]))

    @rule(who=WHO, change=st.sampled_from(BY_HAND))
    def changed_by_hand(self, who, change):
        self._step("changed_by_hand")
        kind, column, value = change
        record = self._record(who, kind)
        if record and Service.get_or_none(kind=kind, panel_id=int(record[KINDS[kind][0]])):
            with self.panel._lock:
                self.panel.find(kind, record[KINDS[kind][0]]).record[column] = value

    # -- what holds after every step ---------------------------------------------

    def check_invariants(self, *_) -> None:
        # Not an @invariant, which Hypothesis would print after each step.
        self.all_is_well()

    def all_is_well(self) -> None:
        self._nobody_else_is_touched()
        self._the_rows_say_what_is_wanted()
        self._clients_are_updated_once()
        self._nothing_fails_by_our_own_fault()
        self._calls_stay_within_the_walls()
        self._who_waits_for_nothing_has_all()

    def _nobody_else_is_touched(self):
        assert self.world.records_of_bystander() == self.world.bystander

    def _the_rows_say_what_is_wanted(self):
        for each in self.each():
            account = Account.get_or_none(Account.id == each.id)
            rows = [
                row for row in services.of_account(each.id) if not services.is_going(account, row)
            ]
            at_first = {name: kind.first_settings() for name, kind in services.KINDS.items()}
            things = {
                key: (at_first[key[0]] | t.settings, t.active) for key, t in each.things.items()
            }
            assert things == {
                (row.kind, row.name): (services.settings_of(row), row.active) for row in rows
            }
            assert (account is None) == each.is_gone
            if account and not each.is_closed:
                turned = (account.suspended_at is not None, account.blocked_at is not None)
                assert turned == (each.suspended, each.blocked)
                assert account.space_mb == each.space_mb

    def _clients_are_updated_once(self):
        self.world.check_client_updates()

    def _nothing_fails_by_our_own_fault(self):
        for row in progress.failing():
            assert "a fault of ours" not in (row.error or ""), f"{row.kind}: {row.error}"
            assert "$6$" not in row.error

    def _calls_stay_within_the_walls(self):
        calls = self.panel.calls[self.calls_checked :]
        self.calls_checked += len(calls)
        for method, arguments in calls:
            self._check_call(method, arguments)

    def _who_waits_for_nothing_has_all(self):
        for each in self.each():
            account = Account.get_or_none(Account.id == each.id)
            if account and account.reconcile_at is None and account.leased_by is None:
                assert all(row.is_applied for row in services.of_account(each.id))
                assert account.ready_at
                if not each.is_touched:
                    self._matches(each)

    # -- the end -----------------------------------------------------------------

    def teardown(self):
        if sys.exc_info()[0] is None:
            self.figures.examples += 1
            steps = self.figures.steps.copy()
            self._end()
            self.figures.steps = steps
        clock.set_source(None)

    def _end(self) -> None:
        """Failures end: everything becomes as it is wanted, and stays so."""
        self.panel.faults.clear()
        self.panel.forbidden = set()
        self.shop = self.world.new_shop()
        for each in self.each():
            if ("alias", NOT_OURS) in each.things:
                self._want(each.username, "remove", ("alias", NOT_OURS))
            if each.is_touched:
                self._want(each.username, "check")
        self._settle()
        for each in self.each():
            if not each.is_gone:
                self._matches(each, others=self.world.others)

        seen = len(self.panel.calls)
        for each in self.each():
            self._want(each.username, "check")
        self._settle()
        changing = [method for method, _ in self.panel.calls[seen:] if method in CHANGING]
        assert changing == [], "nothing was wanted otherwise"

        for each in self.each():
            self._want(each.username, "close")
        self._settle()
        self.all_is_well()
        assert everything(self.panel) == self.world.others
        assert wrong_calls(self.panel, may_send=lambda address: True) == []

    def _settle(self) -> None:
        for _ in range(20):
            self.time.forward(LEASE_SECONDS + 1)
            self._round()
            if not Account.select().where(Account.reconcile_at.is_null(False)).exists():
                self.all_is_well()
                return
        left = [(row.kind, row.name, row.error) for row in progress.failing()]
        raise AssertionError(f"still not as it is wanted: {left}")

    # -- helpers ----------------------------------------------------------

    def _matches(self, each: Hosting, others: dict | None = None) -> None:
        known = each.known
        assert_panel_matches(self.shop, self.panel, each.id, passwords=known, others=others)

    def each(self) -> list[Hosting]:
        return list(self.hostings.values())

    def _of(self, who: str) -> Hosting:
        """The customer's hosting; alice's for a customer who was never here."""
        return self.hostings.get(who) or self.hostings["alice"]

    def _step(self, name: str) -> None:
        self.figures.steps[name] += 1

    def _want(self, who: str, what: str, *arguments) -> None:
        """Change what is wanted in the shop and in the model, which says whether it is refused."""
        self._step(what)
        each, named = self._of(who), {}
        if what == "block":
            arguments = ("by the operator",)
        if what == "add":
            kind, template, named, password = arguments
            arguments = (kind, each.fill(template), password)
        elif arguments and isinstance(arguments[0], tuple):
            (kind, template), *others = arguments
            if what == "configure":
                (named,), others = others, []
            arguments = (kind, each.fill(template), *others)
        needs_shop = (self.shop,) if what in ("add", "set_password") else ()
        change = resize if what == "resize" else getattr(MODULES.get(what, wanted), what)
        try:
            getattr(each, what)(*arguments, **named)
        except (
            AccountClosed,
            NoneLeft,
            NameInUse,
            UnknownService,
            AccountNotReady,
            ValueError,
        ) as refusal:
            self._step(f"  refused: {type(refusal).__name__}")
            before = all_rows()
            with pytest.raises(type(refusal)):
                change(*needs_shop, each.id, *arguments, **named)
            assert all_rows() == before
        else:
            if what == "add":
                self.names.add(arguments[:2])
            change(*needs_shop, each.id, *arguments, **named)

    def _worker(self, does: str | tuple[str, int]) -> None:
        if does == "works":
            self._round()
        elif does != "sleeps":
            fault, call = does
            if fault.startswith("killed"):
                self._round_that_is_killed(call, fault == "killed after", holds_lease=False)
            else:
                self.panel.faults.set(fault, passes=call - 1, times=1, message="HTTP 500")
                self._round()

    def _round(self, stopping=lambda: False) -> None:
        for account_id in reconcile.due_accounts():
            reconcile.account(self.shop, account_id, stopping)
        self._see_who_is_gone()

    def _see_who_is_gone(self) -> None:
        there = {account.id for account in Account.select(Account.id)}
        for each in self.each():
            if each.id not in there and not each.is_gone:
                assert each.is_closed
                each.is_gone = True
                names = [client["username"] for client in self.panel.records("client")]
                assert f"ls_{each.id}" not in names
                rest = RestingName.get_by_id(self.shop.vault.mac("name", each.username))
                assert 0 <= clock.now() + QUARANTINE_DAYS * DAY - rest.until <= LEASE_SECONDS + 1

    @contextmanager
    def _at_call(self, number: int, act):
        """Do `act` while the panel's nth call from now is under way."""
        seen, faults = Counter(), []

        def before_call(method):
            seen["calls"] += 1
            if seen["calls"] != number:
                return
            try:
                act()
            except BaseException as fault:
                faults.append(fault)
            finally:
                models.db.close()

        self.panel.before_call = before_call
        yield
        self.panel.before_call = lambda method: None
        if faults:
            raise faults[0]

    def _note_passwords(self, each: Hosting) -> None:
        for row in services.of_account(each.id):
            if row.own_password_sealed and not each.is_closed and not row.gone:
                each.known[row.kind, row.name] = self.shop.vault.unseal(row.own_password_sealed)

    def _record(self, who: str, kind: str) -> dict | None:
        """The customer's newest record of that kind at the panel."""
        each = self._of(who)
        login = self.panel.login(f"ls_{each.id}")
        if login is None:
            return None
        each.is_touched = True
        if kind == "client":
            return self.panel.find("client", login["client_id"]).record
        found = self.panel.records(kind)
        found = [r for r in found if r["sys_groupid"] == login["default_group"]]
        return found[-1] if found else None

    def _by_hand(self, method: str, **arguments):
        with self.panel._lock:
            return self.panel._methods[method](arguments)

    def _check_call(self, method: str, arguments: dict) -> None:
        """Names are ours, ids are numbers, and hostings paid for too few days send no mail."""
        for name in ("client_id", "primary_id", "reseller_id"):
            id = arguments.get(name, 0)
            if isinstance(id, dict):
                self._check_name(method, *id.items())
            else:
                assert type(id) is int
        fields = arguments.get("params")
        if not fields or method == "client_update":
            return
        for column in ("server_id", "parent_domain_id", "database_user_id"):
            assert type(fields.get(column, 0)) is int
        kind = kind_of(method)
        self._check_name(method, (KINDS[kind][1], fields[KINDS[kind][1]]))
        if kind == "mailbox":
            username = fields["email"].rpartition("@")[2].removesuffix(".shop.test")
            account = Account.get_or_none(Account.username == username)
            paid = account and account.expires_at - (account.ready_at or account.opened_at)
            if account and paid < self.shop.config.mail_send_min_days * DAY:
                assert fields["disablesmtp"] == "y"

    def _check_name(self, method: str, *columns: tuple[str, str]) -> None:
        kind = kind_of(method)
        assert [(KINDS[kind][1], value) for _, value in columns] == list(columns)
        assert (kind, columns[0][1]) in self.names, f"{method} of {columns[0][1]}"


def kind_of(method: str) -> str:
    if method.startswith("client_"):
        return "client"
    return next(k for k in OWNED if method.rpartition("_")[0] == ispconfig_records.KINDS[k].method)


def all_rows() -> list[list[tuple]]:
    """All rows of the database."""
    names = [table._meta.table_name for table in TABLES]
    rows = [models.db.execute_sql(f"SELECT * FROM {name}").fetchall() for name in names]
    return [sorted(each, key=repr) for each in rows]


@pytest.fixture(scope="module")
def figures():
    figures, started = Figures(), time.monotonic()
    yield figures
    print(f"\n{figures}\n{time.monotonic() - started:.0f} s")


def _run(database_url: str) -> settings:
    """Fewer examples on PostgreSQL, where each takes twice as long and tests the same rules."""
    few = not SOAK and database_url.startswith("postgresql:")
    return settings(RUN, max_examples=3) if few else RUN


def test_the_panel_ends_up_as_it_is_wanted(database_url, tmp_path, figures):
    world = World(database_url, tmp_path, figures)
    try:
        run_state_machine_as_test(lambda: Lives(world), settings=_run(database_url))
    finally:
        world.stop()
