"""Changes that were once lost, or stuck, on their way to the panel."""

import threading

import pytest

from lightningspace.base import models
from lightningspace.base.models import Account, Service
from lightningspace.panel import reconcile
from lightningspace.panel.lease import Lease
from lightningspace.rules import accounts, progress, services, upgrades, wanted
from tests.conftest import eventually, open_account, work

YEAR = 365 * 24 * 60 * 60


def on_call(panel, method, act):
    """Do `act` once, during the next call of this method."""
    acts = [act]

    def before_call(called):
        if called == method and acts:
            acts.pop()()
            models.db.close()  # this thread's

    panel.before_call = before_call


def test_a_generated_password_is_kept_whatever_changes_meanwhile(alice, this_shop, worker, panel):
    this_shop.panel.delete("shell", int(panel.records("shell")[0]["shell_user_id"]))
    accounts.check(alice.id)
    change = {"ssh_key": "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI" + "A" * 43}
    on_call(
        panel,
        "sites_shell_user_get",
        lambda: wanted.configure(alice.id, "shell", "ls_alice", **change),
    )
    work(worker)
    work(worker)
    made = panel.records("shell")[0]
    own = Service.get(Service.kind == "shell").own_password_sealed
    assert made["ssh_rsa"] == change["ssh_key"]
    assert panel.password_of("shell", made["shell_user_id"]) == this_shop.vault.unseal(own)


def test_a_password_chosen_meanwhile_wins_over_a_generated_one(alice, this_shop, worker, panel):
    this_shop.panel.delete("shell", int(panel.records("shell")[0]["shell_user_id"]))
    accounts.check(alice.id)
    on_call(
        panel,
        "sites_shell_user_get",
        lambda: wanted.set_password(this_shop, alice.id, "shell", "ls_alice", "battery staple"),
    )
    work(worker)
    work(worker)
    made = panel.records("shell")[0]
    assert panel.password_of("shell", made["shell_user_id"]) == "battery staple"
    assert Service.get(Service.kind == "shell").own_password_sealed is None


# -- taken back, or outdated -----------------------------------------------------------


@pytest.mark.parametrize("method", ["mail_user_get", "mail_user_delete"])
def test_a_mailbox_wanted_again_during_anothers_removal_is_kept(
    time_machine, alice, this_shop, worker, panel, method
):
    # Both in one second: the one applied earlier would be removed first.
    for name in ("first@alice.shop.test", "last@alice.shop.test"):
        wanted.add(this_shop, alice.id, "mailbox", name)
    work(worker)
    before = {box["email"]: box["mailuser_id"] for box in panel.records("mailbox")}
    for name in ("first@alice.shop.test", "last@alice.shop.test"):
        wanted.remove(alice.id, "mailbox", name)
    again = (this_shop, alice.id, "mailbox", "first@alice.shop.test")
    on_call(panel, method, lambda: wanted.add(*again))
    work(worker)
    work(worker)
    del before["last@alice.shop.test"]
    assert {box["email"]: box["mailuser_id"] for box in panel.records("mailbox")} == before


@pytest.mark.parametrize(
    "method", ["client_update", "sites_web_domain_add", "sites_ftp_user_add", "mail_user_get"]
)
def test_a_block_ends_an_opening_and_leaves_nothing_on(this_shop, panel, method):
    account = open_account(this_shop, "alice")
    adds = []

    def block():
        adds.extend(each for each, _ in panel.calls if each.endswith("_add"))
        accounts.block(account.id, "spam")

    on_call(panel, method, block)
    reconcile.account(this_shop, account.id)
    assert [each for each, _ in panel.calls if each.endswith("_add")] == adds
    assert Account.get().ready_at is None
    assert list(reconcile.due_accounts()) == [account.id]

    reconcile.account(this_shop, account.id)
    assert Account.get().reconcile_at is None
    assert [site["active"] for site in panel.records("site")] == ["n"]
    assert [user["active"] for user in panel.records("ftp")] == ["n"]
    assert panel.records("shell") == []


@pytest.mark.parametrize(
    "change",
    [
        lambda id: wanted.switch(id, "ftp", "ls_alice", False),
        lambda id: wanted.configure(id, "site", "alice.shop.test", letsencrypt=True),
    ],
)
def test_constant_changes_do_not_keep_an_account_from_becoming_ready(this_shop, panel, change):
    """Otherwise the paid time would never begin, and the hosting would be free for ever."""
    account = open_account(this_shop, "alice")

    def before_call(method):
        try:
            change(account.id)
        except wanted.AccountNotReady:
            pass

    panel.before_call = before_call
    reconcile.account(this_shop, account.id)
    assert Account.get().ready_at is not None


@pytest.mark.parametrize("kind", ["ftp", "shell"])
def test_constant_changes_do_not_prevent_a_block(this_shop, alice, panel, time_machine, kind):
    accounts.block(alice.id, "phishing")

    def before_call(method):
        wanted.switch(alice.id, kind, "ls_alice", True)
        models.db.close()

    panel.before_call = before_call
    for _ in range(10):
        time_machine.forward(2)
        reconcile.account(this_shop, alice.id)
    on = [name for name in ("site", "ftp", "database") if panel.records(name)[0]["active"] == "y"]
    assert (on, panel.records("shell")) == ([], [])
    assert panel.records("mailbox")[0]["disableimap"] == "y"


def test_wishes_for_passwords_do_not_put_off_the_paid_time(this_shop, panel):
    account = open_account(this_shop, "alice")

    def before_call(method):
        with pytest.raises(wanted.AccountNotReady):
            wanted.set_password(this_shop, account.id, "mailbox", "info@alice.shop.test")
        models.db.close()

    panel.before_call = before_call
    reconcile.account(this_shop, account.id)
    assert Account.get_by_id(account.id).ready_at


def test_an_account_is_ready_when_each_service_was_applied_once(this_shop, panel, time_machine):
    account = open_account(this_shop, "alice")

    def before_call(method):
        accounts.check(account.id)
        models.db.close()

    panel.before_call = before_call
    for _ in range(20):
        time_machine.forward(2)
        reconcile.account(this_shop, account.id)
    assert Account.get_by_id(account.id).ready_at
    assert not all(row.is_applied for row in services.of_account(account.id))


def test_nothing_is_added_before_an_account_is_ready(this_shop):
    account = open_account(this_shop, "alice")
    with pytest.raises(wanted.AccountNotReady):
        wanted.add(this_shop, account.id, "alias", "alice.example")
    assert not Service.select().where(Service.kind == "alias").exists()

    reconcile.account(this_shop, account.id)
    wanted.add(this_shop, account.id, "alias", "alice.example")


# -- tried again -----------------------------------------------------------------------


def test_a_retry_asked_for_during_a_round_is_not_lost(alice, this_shop, worker, panel):
    panel.faults.set("refuse", "sites_ftp_user_update", message="username_error_regex")
    wanted.set_password(this_shop, alice.id, "ftp", "ls_alice", "battery staple")
    work(worker)
    wanted.set_password(this_shop, alice.id, "shell", "ls_alice", "battery staple")
    Service.update(tries=1).where(Service.kind == "ftp").execute()
    on_call(panel, "sites_shell_user_update", lambda: reconcile.try_now(alice.id))
    work(worker)
    assert list(reconcile.due_accounts()) == [alice.id]

    panel.faults.clear()
    work(worker)
    assert panel.password_of("ftp", 1) == "battery staple"


def test_a_correction_during_the_failing_call_is_tried_at_once(alice, this_shop, worker, panel):
    address = "hello@alice.shop.test"
    wanted.add(this_shop, alice.id, "forward", address, destination="first@example.org")
    work(worker)
    wanted.configure(alice.id, "forward", address, destination="wrong@example.org")
    panel.faults.set("refuse", "mail_forward_update", times=1, message="destination_error")
    right = {"destination": "right@example.org"}
    on_call(
        panel,
        "mail_forward_update",
        lambda: wanted.configure(alice.id, "forward", address, **right),
    )
    work(worker)
    row = Service.get(Service.kind == "forward")
    assert (row.permanent, row.tries, row.error) == (False, 0, None)

    work(worker)
    assert panel.records("forward")[0]["destination"] == "right@example.org"


@pytest.mark.each_database
def test_an_upgrade_and_a_change_wait_for_each_other(alice, this_shop, database_kind):
    """PostgreSQL would end one of them if each waited for rows of the other."""
    upgrade = threading.Thread(target=in_its_own_connection(upgrades.bring_up_to_date, this_shop))
    with models.transaction():
        wanted.touch(alice.id)
        upgrade.start()
        if database_kind == "postgresql":
            blocked = "SELECT 1 FROM pg_locks WHERE NOT granted"
            eventually(lambda: models.db.execute_sql(blocked).fetchone())
        accounts.suspend(alice.id)
    upgrade.join()
    site = Service.get(Service.kind == "site")
    assert site.revision == site.applied_revision + 2


def in_its_own_connection(step, *arguments):
    def run():
        step(*arguments)
        models.db.close()

    return run


# -- a clock that was wrong ------------------------------------------------------------


def test_a_lease_taken_a_year_ahead_holds_nothing_up(alice, worker, panel, time_machine):
    accounts.suspend(alice.id)
    time_machine.forward(YEAR)
    assert Lease(alice.id).take()
    time_machine.forward(-YEAR)
    work(worker)
    assert panel.records("site")[0]["active"] == "n"


def test_a_failure_noted_a_year_ahead_holds_nothing_up_for_long(alice, worker, panel, time_machine):
    time_machine.forward(YEAR)
    accounts.suspend(alice.id)
    panel.faults.set("cut-before", "sites_web_domain_update", times=2)
    work(worker)
    time_machine.forward(-YEAR)
    assert list(reconcile.due_accounts()) == [alice.id]
    work(worker)
    # Otherwise the operator would not be told of it a day later.
    assert progress.failing()[0].failed_since <= time_machine.moment
    for _ in range(3):
        time_machine.forward(reconcile.RETRY_SECONDS_MAX)
        work(worker)
    assert panel.records("site")[0]["active"] == "n"
    assert Account.get().reconcile_at is None


def test_a_lease_of_a_box_ten_seconds_ahead_is_respected(alice, this_shop, panel, time_machine):
    accounts.suspend(alice.id)
    time_machine.forward(10)
    assert Lease(alice.id).take()
    time_machine.forward(-10)
    before = len(panel.calls)
    assert list(reconcile.due_accounts()) == []
    assert not reconcile.account(this_shop, alice.id)
    assert len(panel.calls) == before
