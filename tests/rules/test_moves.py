"""Moving a hosting makes it on the other server, once, whenever the worker is killed."""

import pytest

from lightningspace.base.models import Account, Service
from lightningspace.panel import reconcile
from lightningspace.rules import accounts, moves, services, wanted
from tests.conftest import open_account, with_settings

two_servers = with_settings(PANEL_SERVER_ID="1,2", CAPACITY_MB="5000,5000")
MOVED = ("site", "ftp", "shell", "database", "database_user", "mail_domain", "mailbox")


@pytest.fixture
def there(this_shop):
    """alice's hosting on server 1, with a second mailbox."""
    account = open_account(this_shop, "alice")
    reconcile.account(this_shop, account.id)
    wanted.add(this_shop, account.id, "mailbox", "eve@alice.shop.test", "battery staple")
    reconcile.account(this_shop, account.id)
    return Account.get_by_id(account.id)


def servers(panel) -> dict[str, list[str]]:
    return {kind: sorted(row["server_id"] for row in panel.records(kind)) for kind in MOVED}


@two_servers
def test_a_move_makes_everything_again_with_its_passwords(there, this_shop, panel, runner):
    before = {row["username"]: row["password"] for row in panel.records("ftp")}
    told = runner.invoke(args=["move", "alice", "2"]).output
    site = panel.records("site")[0]
    assert f"web{site['domain_id']}/web" in told and "/var/vmail/alice.shop.test/eve" in told
    assert servers(panel)["site"] == ["1"]  # without --yes it only says what to do
    done = runner.invoke(args=["move", "alice", "2", "--yes"])
    assert done.exit_code == 0, done.output
    assert servers(panel) == {kind: ["2"] * (2 if kind == "mailbox" else 1) for kind in MOVED}
    assert {row["username"]: row["password"] for row in panel.records("ftp")} == before
    # The panel does not accept MariaDB's hash, so the customer is shown a new password.
    assert Service.get(kind="database_user").own_password_sealed
    assert not Service.get(kind="ftp").own_password_sealed
    moved = Account.get()
    assert (moved.server_id, moved.moved_from) == (2, None)
    assert all(row.is_applied for row in Service.select())
    assert len(panel.records("client")) == 1


@two_servers
def test_a_move_killed_at_any_call_is_completed_once(there, this_shop, panel):
    """Each round is cut at a later call, before and after the panel has done it."""
    moves.begin(this_shop, there.id, 2)
    rounds = 0
    while Account.get().moved_from is not None:
        panel.faults.set(("cut-before", "cut-after")[rounds % 2], passes=rounds // 2, times=2)
        Service.update(tries=0).execute()
        reconcile.account(this_shop, there.id)
        panel.faults.clear()
        rounds += 1
    assert rounds > 10
    assert servers(panel) == {kind: ["2"] * (2 if kind == "mailbox" else 1) for kind in MOVED}


@two_servers
def test_a_copy_from_before_the_move_undoes_nothing(there, this_shop, panel, runner):
    assert runner.invoke(args=["move", "alice", "2", "--yes"]).exit_code == 0
    moved, before = servers(panel), panel.records("site")
    Account.update(server=1).execute()
    accounts.check(there.id)
    reconcile.account(this_shop, there.id)
    assert servers(panel) == moved
    assert "move alice 2 --yes" in Service.get(kind="site").error
    done = runner.invoke(args=["move", "alice", "2", "--yes"])
    assert done.exit_code == 0, done.output
    assert (servers(panel), panel.records("site")) == (moved, before)
    assert Account.get().server_id == 2 and all(row.is_applied for row in Service.select())


@two_servers
def test_a_copy_from_within_a_move_deletes_nothing_moved_back_since(
    there, this_shop, panel, runner
):
    known = list(Service.select())
    for server in ("2", "1"):
        assert runner.invoke(args=["move", "alice", server, "--yes"]).exit_code == 0
    before = {kind: panel.records(kind) for kind in MOVED}
    for row in known:
        Service.update(panel_id=row.panel_id).where(services.this(row)).execute()
    Account.update(server=2, moved_from=1).execute()
    accounts.check(there.id)
    reconcile.account(this_shop, there.id)
    assert {kind: panel.records(kind) for kind in MOVED} == before


@two_servers
def test_impossible_moves_are_refused(there, this_shop, runner, subtests):
    Account.update(space_mb=100).execute()
    wrong = {
        "1": "it is on that server",
        "3": "not among PANEL_SERVER_ID",
    }
    for server, why in wrong.items():
        with subtests.test(server):
            told = runner.invoke(args=["move", "alice", server, "--yes"])
            assert told.exit_code == 1 and why in told.output
    Account.update(space_mb=4900).execute()
    assert "has no room" in runner.invoke(args=["move", "alice", "2", "--yes"]).output
    Account.update(space_mb=100).execute()
    moves.begin(this_shop, there.id, 2)
    moves.begin(this_shop, there.id, 2)  # beginning twice is allowed
    with pytest.raises(moves.CannotMove, match="already"):
        moves.begin(this_shop, there.id, 1)
    assert "no account" in runner.invoke(args=["move", "bob", "2"]).output
    accounts.close(there.id)
    assert "being closed" in runner.invoke(args=["move", "alice", "2", "--yes"]).output
