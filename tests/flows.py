"""An account's whole life at the panel, step by step, without node and pages.

A `World` can be set back to the start of any flow within a millisecond, so that a test can run the
same flow hundreds of times, each time with another fault.
"""

import json
import time
from collections.abc import Callable
from dataclasses import replace
from functools import cache

from lightningspace import shop as shops
from lightningspace.base import clock, models
from lightningspace.base.config import from_env
from lightningspace.base.models import Account, Order, Service, transaction
from lightningspace.base.prices import DAY
from lightningspace.base.tables import TABLES
from lightningspace.outside import ispconfig_records
from lightningspace.outside.ispconfig import Panel
from lightningspace.panel import reconcile
from lightningspace.rules import accounts, certificates, progress, services, wanted
from lightningspace.sandbox.panel import SandboxPanel
from tests import actual
from tests.conftest import PANEL_PASSWORD, SetClock

ID = "0123456789abcdef"
SITE = "alice.shop.test"
EXTRA = "alice.example"
NAME = "ls_alice"
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ2dEbG3bdEJ1pG2SAaTEgbZ1NIOVtDcbu8vnKD2tX5r alice"

# The name of the row of each kind; `change` adds a second mailbox.
NAMES = {
    "client": f"ls_{ID}",
    "site": SITE,
    "alias": EXTRA,
    "ftp": NAME,
    "shell": NAME,
    "database_user": NAME,
    "database": NAME,
    "mail_domain": EXTRA,
    "mailbox": f"info@{SITE}",
    "forward": f"hello@{SITE}",
}


class Line(Panel):
    """The shop's client of the panel, which asks the world before each call is sent."""

    def __init__(self, world: "World"):
        verify_tls = world.config.panel_verify_tls
        super().__init__(world.panel.url, "shop", PANEL_PASSWORD, verify_tls)
        self._world = world

    def lead_to(self, url: str) -> None:
        """Send the next call elsewhere."""
        self._url = url

    @property
    def is_waiting(self) -> bool:
        """Whether it is waiting because it was locked out or its login was refused."""
        return time.monotonic() < max(self._locked_out_until, self._no_login_before)

    def _post(self, method, arguments, deadline):
        self._url = self._world.panel.url
        seconds = self._world.before_call(method, arguments)
        if seconds is None:
            return super()._post(method, arguments, deadline)
        calls = len(self._world.panel.calls)
        try:
            return super()._post(method, arguments, time.monotonic() + seconds)
        finally:
            # Wait until the call has arrived: arriving during a later call would be another fault.
            given_up = time.monotonic() + 1
            while len(self._world.panel.calls) == calls and time.monotonic() < given_up:
                time.sleep(0.001)


class World:
    """A shop, a panel with somebody else's hosting on it, a clock, and alice's account."""

    def __init__(self, directory, **settings: str):
        self.panel = SandboxPanel(password=PANEL_PASSWORD)
        self.panel.start()
        env = {
            "PUBLIC_URL": "http://localhost",
            "BASE_DOMAIN": "shop.test",
            "SECRET_KEY": "a key of the tests that is long enough",
            "LIGHTNING_RPC": str(directory / "lightning-rpc"),
            "PANEL_URL": self.panel.url,
            "PANEL_USER": "shop",
            "PANEL_PASSWORD": PANEL_PASSWORD,
            "CAPACITY_MB": "100000",
            "FTP_UPLOADS": "false",
        }
        self.config = from_env(env | settings, directory)
        models.open_database(self.config.database_url)
        models.init_db()
        self.clock = SetClock(int(time.time()))
        self.before_call: Callable[[str, dict], float | None] = lambda method, arguments: None
        self.shop = replace(shops.build(self.config), panel=Line(self))
        shops.settle_in(self.shop)
        make_bystander(Panel(self.panel.url, "shop", PANEL_PASSWORD))
        self.others = actual.everything(self.panel)
        self.panel.calls.clear()
        self.empty = self._state()
        self.saved, self._done = cache(self._saved), cache(self._finish)
        self.calls_of = cache(self._calls_of)

    def close(self) -> None:
        models.db.close()
        self.panel.stop()

    # -- states ------------------------------------------------------------------

    def start(self, flow: str, days: int = 1) -> None:
        """Go back to the beginning of the flow, and change the rows as it does.

        `days`: how long the account is paid for.
        """
        self._go_back(self.saved(flow, days))

    def _saved(self, flow: str, days: int) -> tuple:
        """The state in which a flow begins; for a later flow, the earlier ones are run first."""
        before = STARTS_AFTER[flow]
        self._go_back(self._done(before, days) if before else self.empty)
        if before is None:
            open_account(self.shop, days)
        FLOWS[flow](self.shop)
        return self._state()

    def _finish(self, flow: str, days: int) -> tuple:
        self.start(flow, days)
        self.finish()
        return self._state()

    def _calls_of(self, flow: str) -> list[str]:
        """The methods that a flow calls if nothing goes wrong."""
        self.start(flow)
        before = len(self.panel.calls)
        self.finish(rounds=1)
        return [method for method, _ in self.panel.calls[before:]]

    def _state(self) -> tuple:
        # Kept as SQL text: writing the statements each time would take longest of all.
        statements = [(f"DELETE FROM {table._meta.table_name}", ()) for table in TABLES[::-1]]
        for table in TABLES:
            if rows := list(table.select().dicts()):
                statements.append(table.insert_many(rows).sql())
        return self.panel.snapshot(), list(self.panel.calls), statements, self.clock.moment

    def _go_back(self, state: tuple) -> None:
        panel, calls, statements, self.clock.moment = state
        clock.set_source(lambda: self.clock.moment)
        self.before_call = lambda method, arguments: None
        self.renew_line()
        self.panel.go_back(panel)
        self.panel.calls.extend(calls)
        with transaction():
            for sql, values in statements:
                models.db.execute_sql(sql, values)

    def renew_line(self) -> None:
        """End the waits of the shop's client, which are in real seconds, not by our clock."""
        self.shop = replace(self.shop, panel=Line(self))

    # -- going on ------------------------------------------------------------------

    def account(self) -> Account | None:
        return Account.get_or_none(Account.id == ID)

    def row(self, kind: str, name: str | None = None) -> Service:
        return Service.get(kind=kind, name=name or NAMES[kind])

    def failing(self) -> list[Service]:
        return progress.failing()

    @property
    def is_done(self) -> bool:
        account = self.account()
        return account is None or account.reconcile_at is None

    def round(self) -> None:
        """Do what the worker does if the account is due, else nothing."""
        for account_id in reconcile.due_accounts():
            reconcile.account(self.shop, account_id)

    def wait(self) -> None:
        """Move the clock to when the account is due next."""
        account = self.account()
        if account is not None and account.reconcile_at is not None:
            self.clock.moment = max(self.clock.moment, account.reconcile_at)

    def finish(self, rounds: int = 12) -> None:
        """Do rounds, each when it is due, until everything is applied."""
        for _ in range(rounds):
            if self.is_done:
                return
            self.wait()
            self.round()
        errors = [f"{row.kind}: {row.error}" for row in self.failing()]
        assert self.is_done, f"not done after {rounds} rounds: {errors}"

    def assert_all_is_as_wanted(self, flow: str | None = None, may_send: bool = False) -> None:
        passwords = PASSWORDS.get(flow, {})
        actual.assert_panel_matches(
            self.shop, self.panel, ID, passwords=passwords, others=self.others
        )
        assert actual.wrong_calls(self.panel, lambda address: may_send) == []


def make_bystander(panel: Panel) -> None:
    """Somebody else's client with one record of every kind."""
    client = panel.add_client("stranger", "stranger@stranger.test")
    panel.close_client_login(client)
    for kind in ispconfig_records.KINDS:
        add_foreign(panel, kind)


FOREIGN_NAMES = {
    "site": "stranger.test",
    "alias": "stranger.example",
    "ftp": "stranger",
    "shell": "stranger",
    "database_user": "stranger",
    "database": "stranger",
    "mail_domain": "stranger.test",
    "mailbox": "info@stranger.test",
    "forward": "all@stranger.test",
}


def add_foreign(panel: Panel, kind: str, name: str | None = None, client=1, site=1) -> int:
    """Add a record that the shop has not made, by default the stranger's. Return its id."""
    name = name or FOREIGN_NAMES[kind]
    fields = {
        "site": lambda: ispconfig_records.site_fields(1, client, None, name, 33, True, php=False),
        "alias": lambda: ispconfig_records.alias_fields(1, site, name, True),
        "ftp": lambda: ispconfig_records.ftp_fields(1, client, site, name, True),
        "shell": lambda: ispconfig_records.shell_fields(1, client, site, name, ""),
        "database_user": lambda: ispconfig_records.database_user_fields(1, name),
        "database": lambda: ispconfig_records.database_fields(1, site, name, 1, 33, True),
        "mail_domain": lambda: ispconfig_records.mail_domain_fields(1, name, True),
        "mailbox": lambda: ispconfig_records.mailbox_fields(1, name, 33, True, True),
        "forward": lambda: ispconfig_records.forward_fields(1, name, "stranger@example.org", True),
    }[kind]()
    password = "a stranger's password" if kind in services.WITH_PASSWORD else None
    return panel.add(kind, client, fields, password)


def resize(account_id: str, space_mb: int) -> None:
    """Give the account another size, without a payment."""
    with transaction():
        wanted.touch(account_id)
        Account.update(space_mb=space_mb).where(Account.id == account_id).execute()
        wanted.raise_revisions(account_id, *services.SPLIT_PERCENT)


def open_account(shop, days: int) -> None:
    """Open alice's account as payments.apply does: paid, with nothing at the panel yet."""
    moment = clock.now()
    with transaction():
        account = Account.create(
            id=ID,
            username="alice",
            server=1,
            space_mb=100,
            opened_at=moment,
            expires_at=moment + days * DAY,
            valued_at=moment,
            value_msat=days * 7000,
            calendar_at=moment,
            password_hash="not used here",
        )
        Order.create(
            token="f" * 32,
            kind="open",
            account=account,
            browser="alice's browser",
            username="alice",
            space_mb=100,
            duration=days,
            unit="days",
            amount_msat=7000,
            placed_at=moment,
            expires_at=moment + 900,
            bolt11="lnbcrt1",
            payment_hash="0" * 64,
            paid_at=moment,
            node_id="02" * 33,
            pay_index=1,
            received_msat=7000,
            applied_at=moment,
            bought_seconds=days * DAY,
            ends_at=moment + days * DAY,
        )
        wanted.want_all(shop, account, "correct horse")


# -- the flows -------------------------------------------------------------------------


def change(shop) -> None:
    """Change everything that a customer may change, in one go."""
    resize(ID, 200)
    certificates.take_turn(shop, Account.get_by_id(ID), certificates.of_site(ID))
    wanted.configure(ID, "site", SITE, letsencrypt=True)
    wanted.set_password(shop, ID, "ftp", NAME, "battery staple")
    wanted.add(shop, ID, "mailbox", f"second@{SITE}", "second password")
    wanted.add(shop, ID, "forward", f"hello@{SITE}", destination="alice@example.org")
    wanted.add(shop, ID, "alias", EXTRA)
    wanted.add(shop, ID, "mail_domain", EXTRA)
    wanted.switch(ID, "database", NAME, False)
    wanted.remove(ID, "mailbox", f"old@{SITE}")
    wanted.configure(ID, "shell", NAME, ssh_key=KEY)


def add_mailbox(shop) -> None:
    wanted.add(shop, ID, "mailbox", f"old@{SITE}", "an old password")


FLOWS = {
    "opening": lambda shop: None,
    "growing": add_mailbox,  # adds what `changing` removes
    "changing": change,
    "suspending": lambda shop: accounts.suspend(ID),
    "resuming": lambda shop: accounts.resume(ID),
    "closing": lambda shop: accounts.close(ID),
    "resting": lambda shop: None,
}
STARTS_AFTER = {
    "opening": None,
    "growing": "opening",
    "changing": "growing",
    "suspending": "changing",
    "resuming": "suspending",
    "closing": "changing",
    "resting": "changing",
}
FIRST_PASSWORDS = {
    ("ftp", NAME): "correct horse",
    ("shell", NAME): "correct horse",
    ("database_user", NAME): "correct horse",
    ("mailbox", f"info@{SITE}"): "correct horse",
}
LATER_PASSWORDS = FIRST_PASSWORDS | {
    ("ftp", NAME): "battery staple",
    ("mailbox", f"second@{SITE}"): "second password",
}
PASSWORDS = {
    "opening": FIRST_PASSWORDS,
    "changing": LATER_PASSWORDS,
    # Resuming an account makes its shell user again, with a generated password.
    "suspending": {key: LATER_PASSWORDS[key] for key in LATER_PASSWORDS if key[0] != "shell"},
    "resuming": {key: LATER_PASSWORDS[key] for key in LATER_PASSWORDS if key[0] != "shell"},
    "closing": {},
}


def call_as_text(method: str, arguments: dict) -> str:
    """The call as text that does not depend on the session or the passwords."""
    params = arguments.get("params", {})
    shown = {k: v for k, v in params.items() if "password" not in k}
    rest = {k: v for k, v in arguments.items() if k not in ("session_id", "params", "password")}
    return json.dumps([method, rest, shown], sort_keys=True)
