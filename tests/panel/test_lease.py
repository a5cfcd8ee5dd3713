"""Leases: one worker at a time changes an account, whatever became of the previous one."""

import threading
from collections import Counter
from functools import partial
from itertools import cycle

import pytest

from lightningspace.base import clock, models
from lightningspace.base.models import Account, Service
from lightningspace.outside import ispconfig_records
from lightningspace.panel import reconcile
from lightningspace.panel.lease import LEASE_SECONDS, SILENT_SECONDS, Lease, Lost
from lightningspace.rules import accounts, progress, services
from lightningspace.shop import build
from tests.conftest import OPENING, at_once, eventually, open_account
from tests.flows import resize

THINGS = [name for name, kind in ispconfig_records.KINDS.items() if kind.is_thing]
# In the order in which an opening makes them.
KINDS = ("client", "site", "ftp", "database_user", "database", "mail_domain", "mailbox", "shell")
ADDS = [method for method in OPENING if method.endswith("_add")]
DELETES = [f"{method.removesuffix('_add')}_delete" for method in ADDS[1:]]
RESIZING = ["sites_web_domain_update", "sites_database_update", "mail_user_update"]
SWITCHING = [*RESIZING, "sites_ftp_user_update"]

# The stages of an account's life, and the calls that change the panel in each.
LIFE = [
    (lambda id: None, [*ADDS, "client_update", "sites_web_domain_update"]),
    (lambda id: resize(id, 200), RESIZING),
    (accounts.suspend, [*SWITCHING, "sites_shell_user_delete"]),
    (accounts.resume, [*SWITCHING, "sites_shell_user_add"]),
    (accounts.close, [*DELETES, "client_delete_everything"]),
]
# A closing logs in and reads the client. Then, kind by kind, it looks for the record, deletes it,
# and looks again by name and number; for the client, by its name alone.
CLOSING_CALLS = 2 + 4 * (len(KINDS) - 1) + 3


@pytest.fixture
def account(this_shop) -> Account:
    """An account with nothing at the panel yet."""
    return open_account(this_shop, "alice")


@pytest.fixture
def first(config):
    """The shop of one worker, with its own session at the panel."""
    return build(config)


@pytest.fixture
def second(config):
    return build(config)


class Hanging:
    """A worker in a thread of its own whose nth call at the panel hangs, until `go_on`.

    "on its way": only then the call reaches the panel. "unseen": the same, and at the same instant
    as another call of its kind, so that the panel does not notice that the name is taken.
    "answered": the panel has carried it out long ago, and the answer is under way.
    """

    def __init__(self, panel, shop, account_id: str, position: int, how: str):
        self._panel = panel
        self._left = position
        self._how = how
        self._hangs = threading.Event()
        self._go = threading.Event()
        panel.before_call = self._hold
        self._worker = threading.Thread(target=self._work, args=(shop, account_id))
        self._worker.start()
        assert self._hangs.wait(10)

    def go_on(self) -> list[str]:
        """Let the worker end; returns the methods that it still calls."""
        seen = len(self._panel.calls)
        self._panel.faults.clear()
        self._go.set()
        self._worker.join(10)
        assert not self._worker.is_alive()
        return [method for method, _ in self._panel.calls[seen:]]

    def _hold(self, method: str) -> None:
        self._left -= 1
        if self._left != -1:
            return
        if self._how == "answered":
            self._panel.faults.set("refuse", method, times=1, message="dribble")
        self._hangs.set()
        if self._how != "answered":
            self._go.wait(10)
        if self._how == "unseen":
            self._panel.faults.set("twice", method, times=1)

    def _work(self, shop, account_id):
        try:
            reconcile.account(shop, account_id)
        finally:
            models.db.close()


def writes(methods: list[str]) -> list[str]:
    ends = ("add", "update", "delete", "everything")
    return [method for method in methods if method.rpartition("_")[2] in ends]


def recorded(account_id: str) -> list[tuple]:
    """The records of the panel as the database knows them."""
    facts = ("kind", "panel_id", "applied_revision", "applied_at", "error")
    secrets = ("password_sealed", "own_password_sealed")
    rows = services.of_account(account_id)
    return [tuple(getattr(row, fact) for fact in (*facts, *secrets)) for row in rows]


def ids_at_panel(panel) -> dict[str, list[int]]:
    found = {}
    for kind in KINDS:
        column = "client_id" if kind == "client" else ispconfig_records.KINDS[kind].id
        found[kind] = [int(record[column]) for record in panel.records(kind)]
    return found


def settle(shop) -> None:
    """Do rounds until nothing is due."""
    for _ in range(3):
        for account_id in reconcile.due_accounts():
            reconcile.account(shop, account_id)


def assert_open(panel, account_id: str, but_twice: str | None = None) -> None:
    """Everything is applied, and is at the panel once."""
    rows = services.of_account(account_id)
    ids = ids_at_panel(panel)
    for row in rows:
        assert row.panel_id in ids[row.kind]
        assert len(ids[row.kind]) == (2 if row.kind == but_twice else 1)
        assert row.is_applied or row.kind == but_twice
        if row.kind in services.WITH_PASSWORD:
            assert panel.password_of(row.kind, row.panel_id) == "correct horse"
    assert not panel.can_log_in(ids["client"][0])
    assert panel.records("site")[0]["allow_override"] != "All"
    assert Account.get_by_id(account_id).ready_at
    assert Account.get_by_id(account_id).leased_by is None


# -- at once -------------------------------------------------------------------------


@pytest.mark.each_database
def test_three_workers_at_once_carry_each_change_out_once(account, config, panel):
    panel.delays["*"] = 0.003
    workers = [build(config) for _ in range(3)]
    for change, expected in LIFE:
        change(account.id)
        seen = len(panel.calls)
        assert any(at_once(*[partial(reconcile.account, shop, account.id) for shop in workers]))
        assert Counter(writes([m for m, _ in panel.calls[seen:]])) == Counter(expected)
    assert Account.get_or_none() is None
    assert set(map(len, ids_at_panel(panel).values())) == {0}


@pytest.mark.each_database
def test_a_second_worker_calls_nothing_until_the_first_is_done(account, first, second, panel):
    hanging = Hanging(panel, first, account.id, 5, "on its way")
    seen = len(panel.calls)
    assert not reconcile.due_accounts()
    assert reconcile.account(second, account.id) is False
    assert len(panel.calls) == seen
    hanging.go_on()
    assert_open(panel, account.id)


def held_until() -> int:
    return Account.get().leased_until


def test_a_lease_is_renewed_while_its_holder_gives_signs_of_life(account, time_machine):
    lease, other = Lease(account.id, renew_seconds=0.02), Lease(account.id)
    assert lease.take()
    with lease.renewed():
        for _ in range(SILENT_SECONDS // 30):
            eventually(lambda: held_until() == clock.now() + LEASE_SECONDS)
            time_machine.forward(30)
        assert not other.take()
        lease.check()
        eventually(lambda: held_until() == clock.now() + LEASE_SECONDS)
        time_machine.forward(SILENT_SECONDS)  # the holder hangs
        eventually(lambda: time_machine.forward(1) or other.take())
        with pytest.raises(Lost):
            lease.check()


@pytest.mark.each_database
def test_the_lease_of_a_killed_worker_ends_within_a_minute(account, time_machine):
    assert Lease(account.id).take()
    time_machine.forward(60)
    assert account.id in reconcile.due_accounts()
    assert Lease(account.id).take()


# -- one after the other, while the first one's call hangs ---------------------------


# On one database alone: how calls hang has nothing to do with it.
@pytest.mark.parametrize(
    ("method", "how"),
    [(method, "unseen") for method in ADDS]
    + list(zip(OPENING, cycle(["on its way", "answered"]), strict=False)),
)
def test_an_opening_taken_over_while_a_call_hangs_is_complete_and_single(
    method, how, account, first, second, panel, time_machine
):
    hanging = Hanging(panel, first, account.id, 1 + OPENING.index(method), how)
    time_machine.forward(LEASE_SECONDS)
    assert reconcile.account(second, account.id)
    assert_open(panel, account.id)
    by_the_second = recorded(account.id)

    assert writes(hanging.go_on()) == []
    assert recorded(account.id) == by_the_second

    # The late call may have made a record twice: the shop has noticed, and looks for it.
    settle(second)
    kind = ["client", "site", *KINDS[2:]][ADDS.index(method)] if method in ADDS else None
    stays = how == "unseen" and kind in THINGS
    assert_open(panel, account.id, but_twice=kind if stays else None)
    assert [row.kind for row in progress.problems()] == ([kind] if stays else [])


@pytest.mark.parametrize(
    ("position", "how"),
    list(zip(range(CLOSING_CALLS), cycle(["on its way", "answered"]), strict=False)),
)
def test_a_closing_taken_over_while_a_call_hangs_leaves_nothing(
    position, how, alice, first, second, panel, time_machine
):
    accounts.close(alice.id)
    hanging = Hanging(panel, first, alice.id, position, how)
    time_machine.forward(LEASE_SECONDS)
    assert reconcile.account(second, alice.id)
    assert writes(hanging.go_on()) == []
    assert not Account.select().exists()
    assert not Service.select().exists()
    assert set(map(len, ids_at_panel(panel).values())) == {0}


@pytest.mark.each_database
def test_an_overtaken_worker_does_not_store_its_generated_password(
    alice, this_shop, first, second, panel, time_machine
):
    """The customer is shown the password that the panel has."""
    this_shop.panel.delete("ftp", 1)
    accounts.check(alice.id)
    # login, client_get, sites_web_domain_get, client_get_groupid, and the one that finds nothing
    hanging = Hanging(panel, first, alice.id, 4, "answered")
    time_machine.forward(LEASE_SECONDS)
    assert reconcile.account(second, alice.id)
    by_the_second = recorded(alice.id)
    assert writes(hanging.go_on()) == []
    assert recorded(alice.id) == by_the_second


# -- changes meanwhile --------------------------------------------------------


@pytest.mark.each_database
def test_a_closing_that_is_checked_at_every_delete_goes_on(alice, this_shop, panel):
    left = [*DELETES, "client_delete_everything"]

    def check_once(method):
        if method in left:
            left.remove(method)
            accounts.check(alice.id)

    accounts.close(alice.id)
    panel.before_call = check_once
    for _ in DELETES:
        settle(this_shop)
    assert left == []
    assert not Account.select().exists()
    assert set(map(len, ids_at_panel(panel).values())) == {0}
