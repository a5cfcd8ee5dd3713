"""The tip jar as a service of an account: put online by an FTP user that is then removed."""

import json
import logging
import secrets
from itertools import count

import pytest

from lightningspace import tipjar
from lightningspace.api import resources
from lightningspace.base.models import Account, Fact, Service
from lightningspace.base.prices import Size
from lightningspace.panel import reconcile
from lightningspace.rules import accounts, ledger, progress, services, tips, upgrades, wanted
from lightningspace.sandbox.ftp import FRESH_SITE
from tests.conftest import (
    at_once,
    eventually,
    let_the_server_follow,
    open_account,
    with_settings,
)

THEIRS = b"<?php echo 'My own page';\n"


@pytest.fixture(autouse=True)
def fair(shop_with_ftp, ftp_server):
    """Give every test here an FTP server."""
    return ftp_server


@pytest.fixture
def looking_often(monkeypatch):
    monkeypatch.setattr("lightningspace.worker.LOOK_SECONDS", 0.2)


@pytest.fixture
def at_work(looking_often, at_work):
    """A worker that runs by itself and looks more often than usual."""


@pytest.fixture
def pages(ftp_server):
    """The files of alice's site, without those that the panel has put there."""

    class Pages:
        @property
        def path(self):
            ftp_server.lay_out()
            return ftp_server.root / "clients/client1/web1/web"

        def __call__(self):
            files = {each.name: each.read_bytes() for each in self.path.iterdir()}
            return {name: each for name, each in files.items() if name not in FRESH_SITE}

    return Pages()


@pytest.fixture
def work(this_shop):
    """Reconcile alice until nothing is due; returns the number of rounds."""

    def work(account):
        for rounds in count():
            if account.id not in reconcile.due_accounts():
                return rounds
            assert rounds < 20
            reconcile.account(this_shop, account.id)

    return work


def jar(account) -> Service:
    return Service.get((Service.account == account) & (Service.kind == "tipjar"))


def uploaders(panel) -> list[str]:
    names = [record["username"] for record in panel.records("ftp")]
    return [name for name in names if "tip_" in name]


def settings(pages) -> dict:
    return json.loads(pages()["tipjar.json"])


# -- put there -------------------------------------------------------------------------------


def test_jar_is_put_on_the_site_after_the_hosting_is_ready(alice, panel, pages, work):
    assert alice.ready_at and not jar(alice).is_applied

    work(alice)

    assert pages()["index.php"] == tipjar.JAR.text
    assert jar(alice).is_applied and jar(alice).note is None
    assert jar(alice).password_sealed is None and jar(alice).own_password_sealed is None


def test_settings_are_those_that_were_agreed_on(alice, this_shop, pages, work):
    work(alice)

    assert (
        settings(pages).items()
        >= {
            "shop": "http://localhost",
            "username": "alice",
            "site": "alice.shop.test",
            "mode": "site",
            "title": None,
            "text": None,
            "amounts_sat": [100, 1000, 10000],
            "min_sat": 1,
            "max_sat": 1_000_000,
            "lightning_address": "alice@localhost",
            "wallet_address": None,
        }.items()
    )
    assert settings(pages)["qr"]["of"] == tips.lnurl(this_shop, alice)


def test_ftp_user_is_made_and_removed_again(alice, panel, work):
    work(alice)

    calls = [(method, params) for method, params in panel.calls if "ftp_user" in method]
    added = [params["params"] for method, params in calls if method == "sites_ftp_user_add"][1]
    assert added["username"] == f"ls_tip_{alice.id}"
    assert uploaders(panel) == []
    assert [method for method, _ in calls][-2:] == ["sites_ftp_user_delete", "sites_ftp_user_get"]


def mode(path) -> int:
    return path.stat().st_mode & 0o777


def test_neighbours_are_shut_out_of_the_site_and_its_files(alice, pages, work):
    work(alice)
    assert mode(pages.path) == 0o710
    files = {name: mode(pages.path / name) for name in ("index.php", "tipjar.json")}
    assert files == {"index.php": 0o640, "tipjar.json": 0o600}


@with_settings(TIP_JARS="false")
def test_shop_without_tip_jars_shuts_neighbours_out_all_the_same(alice, pages, work):
    work(alice)
    assert pages() == {} and mode(pages.path) == 0o710


@with_settings(FTP_UPLOADS="false")
def test_shop_that_cannot_reach_ftp_leaves_it_alone(alice, ftp_server):
    assert not Service.select().where(Service.kind == "tipjar").exists()
    assert not ftp_server.commands


# -- while there is no PHP ---------------------------------------------------------------------


def test_page_stands_in_for_the_jar_while_there_is_no_php(alice, pages, work):
    work(alice)
    wanted.configure(alice.id, "site", "alice.shop.test", php=False)
    work(alice)
    page = pages()["index.html"]
    assert b"/tip/alice" in page and mode(pages.path / "index.html") == 0o640
    tips.switch(alice.id, tips_page=False)
    work(alice)
    assert b"/tip/alice" not in pages()["index.html"]

    wanted.configure(alice.id, "site", "alice.shop.test", php=True)
    work(alice)
    assert set(pages()) == {"index.php", "tipjar.json"}


def test_page_that_its_owner_has_edited_stays(alice, pages, work):
    wanted.configure(alice.id, "site", "alice.shop.test", php=False)
    work(alice)
    edited = pages()["index.html"].replace(b"nothing here", b"something here")
    (pages.path / "index.html").write_bytes(edited)
    wanted.configure(alice.id, "site", "alice.shop.test", php=True)
    work(alice)
    assert pages()["index.html"] == edited and "index.html" in jar(alice).note


# -- waiting for FTP -------------------------------------------------------------------------


@pytest.fixture
def late(panel, time_machine):
    """Let the server take half a minute for each of the two FTP users."""
    panel.job_seconds = {"ftp": 30}
    return time_machine


def test_ftp_that_does_not_work_yet_is_waited_for_without_a_problem(
    late, alice, this_shop, panel, pages, work, caplog
):
    caplog.set_level(logging.INFO)
    tries = 0
    while not jar(alice).is_applied:
        work(alice)
        assert jar(alice).error is None
        assert progress.Progress(alice, []).told_state(jar(alice)) in ("waiting", "live", "applied")
        assert resources.hosting(this_shop, alice, True)["state"] in ("live", "changing")
        late.forward(1)
        tries += 1

    assert 60 < tries < 200 and len(uploaders(panel)) == 0
    assert pages()["index.php"] == tipjar.JAR.text
    assert not [record for record in caplog.records if record.levelno > logging.INFO]
    assert sum("not applied" in record.message for record in caplog.records) < 10


def test_ftp_that_never_works_is_shown_after_ten_minutes_and_a_problem_after_a_day(
    late, alice, panel, work
):
    panel.job_seconds = {"ftp": 10**7}
    accounts.check(alice.id)
    for _ in range(20):
        work(alice)
        late.forward(60)
    assert jar(alice).error == "the FTP server answered 530 to our login"
    assert not jar(alice).permanent and not progress.problems()

    late.forward(86400)
    assert [row.kind for row in progress.problems()] == ["tipjar"]


def test_other_changes_do_not_wait_for_ftp(late, alice, this_shop, panel, work):
    work(alice)
    assert not jar(alice).is_applied
    wanted.add(this_shop, alice.id, "forward", "me@alice.shop.test", destination="a@b.example")

    work(alice)
    rows = services.at_panel(services.of_account(alice.id))
    assert all(row.is_applied for row in rows) and not jar(alice).is_applied


def test_unreachable_server_is_left_in_peace(
    time_machine, alice, this_shop, panel, ftp_server, work, caplog
):
    caplog.set_level(logging.INFO)
    ftp_server.down()
    work(alice)
    assert "the FTP server refuses the connection" in jar(alice).error
    calls = len(panel.calls)
    time_machine.forward(10)
    work(alice)

    assert jar(alice).tries > 1 and "refuses the connection" in jar(alice).error
    # The panel is not asked for an FTP user meanwhile, either.
    assert not [method for method, _ in panel.calls[calls:] if "ftp_user" in method]


@with_settings(FTP_VERIFY_TLS="true")
def test_rejected_certificate_is_a_problem_for_the_operator(time_machine, alice, panel, work):
    for _ in range(2):  # the second time the server is not asked
        work(alice)
        assert jar(alice).permanent and "FTP_VERIFY_TLS" in jar(alice).error
        assert progress.problems()
        assert uploaders(panel) == []
        time_machine.forward(300)
    assert jar(alice).tries == 2


def test_panel_is_left_in_peace_while_ftp_is_waited_for(late, alice, panel, work):
    work(alice)
    assert jar(alice).tries == 1
    calls = len(panel.calls)
    late.forward(30)
    work(alice)
    assert jar(alice).tries == 2 and len(panel.calls) == calls


def ftp_state(alice) -> str:
    rows = services.of_account(alice.id)
    row = next(row for row in rows if row.kind == "ftp")
    return progress.Progress(alice, rows).state(row)


def test_ftp_is_live_once_a_login_has_worked(late, alice, this_shop, panel, work):
    while not jar(alice).is_applied:
        late.forward(10)
        let_the_server_follow()
        assert ftp_state(alice) == "applied"
        work(alice)
    let_the_server_follow(until=1)
    assert ftp_state(alice) == "live"  # however long the panel's queue is


@with_settings(FTP_VERIFY_TLS="true")
def test_ftp_that_only_we_cannot_reach_is_as_live_as_the_rest(time_machine, alice, work):
    work(alice)
    time_machine.forward(1)
    let_the_server_follow()
    assert jar(alice).permanent and ftp_state(alice) == "live"


# -- the customer's files --------------------------------------------------------------------


def test_own_start_page_stays_until_its_owner_wants_the_jar(alice, pages, work):
    (pages.path / "index.php").write_bytes(THEIRS)
    work(alice)
    assert pages() == {"index.php": THEIRS}
    assert jar(alice).is_applied and "index.php" in jar(alice).note

    wanted.configure(alice.id, "tipjar", "alice.shop.test", put_back=True)
    work(alice)
    assert pages()["index.php"] == tipjar.JAR.text and THEIRS in pages().values()
    assert jar(alice).note is None
    assert services.settings_of(jar(alice))["put_back"] is False


def test_wish_to_put_the_jar_back_counts_once(alice, pages, work):
    wanted.configure(alice.id, "tipjar", "alice.shop.test", put_back=True)
    work(alice)
    (pages.path / "index.php").write_bytes(THEIRS)

    wanted.configure(alice.id, "tipjar", "alice.shop.test", title="New")
    work(alice)
    assert pages()["index.php"] == THEIRS


@pytest.mark.each_database
def test_wish_during_an_upload_is_not_forgotten(alice, ftp_server, pages, work):
    meanwhile(
        ftp_server,
        "STOR",
        lambda: wanted.configure(alice.id, "tipjar", "alice.shop.test", put_back=True),
    )
    (pages.path / "index.html").write_bytes(THEIRS)
    wanted.configure(alice.id, "tipjar", "alice.shop.test", put_back=True)
    work(alice)

    assert pages()["index.php"] == tipjar.JAR.text
    assert jar(alice).is_applied and not services.settings_of(jar(alice))["put_back"]


def test_full_space_is_shown_and_the_upload_repeated_when_there_is_more(
    alice, this_shop, ftp_server, pages, work
):
    ftp_server.space_bytes = 0
    work(alice)
    assert jar(alice).note == tipjar.FULL and pages() == {}

    ftp_server.space_bytes = None
    with wanted.transaction():
        accounts.renew(this_shop, alice, ledger.holding(alice), Size(500))
    work(alice)
    assert jar(alice).note is None and "index.php" in pages()


def test_unwritable_directory_is_shown_to_its_owner_alone(time_machine, alice, ftp_server, work):
    ftp_server.faults.set("refuse", "STOR", message="553 Can't open that file: Permission denied")
    for _ in range(10):
        work(alice)
        time_machine.forward(300)

    assert jar(alice).is_applied and jar(alice).note == tipjar.NOT_TAKEN
    assert not progress.problems()


def test_jar_that_was_deleted_is_put_back_by_a_check(alice, pages, work):
    work(alice)
    (pages.path / "index.php").unlink()
    work(alice)
    assert "index.php" not in pages()

    accounts.check(alice.id)
    work(alice)
    assert pages()["index.php"] == tipjar.JAR.text


# -- its settings ----------------------------------------------------------------------------


def test_settings_that_its_owner_changes_are_written(alice, pages, work):
    work(alice)
    wallet = {"mode": "wallet", "wallet_address": "me@wallet.example"}
    wanted.configure(alice.id, "tipjar", "alice.shop.test", title="Coffee!", **wallet)
    work(alice)

    assert settings(pages).items() >= ({"title": "Coffee!"} | wallet).items()


def test_jar_shows_no_address_that_is_switched_off(alice, pages, work):
    work(alice)
    tips.switch(alice.id, tips_address=False)
    work(alice)

    assert settings(pages)["lightning_address"] is None and settings(pages)["qr"] is None


WRONG = [
    {"title": "x" * 81},
    {"title": "half a character: \ud800"},
    {"title": None},
    {"text": "x" * 501},
    {"amounts_sat": []},
    {"amounts_sat": [0]},
    {"amounts_sat": ["1"]},
    {"amounts_sat": [True]},
    {"amounts_sat": [1] * 7},
    {"amounts_sat": 100},
    {"mode": "shop"},
    {"wallet_address": "me"},
    {"wallet_address": ""},
    {"put_back": 1},
    {"is_there": None},
    {"colour": "red"},
]


def test_bad_setting_is_refused(alice):
    for wrong in WRONG:
        with pytest.raises(ValueError):
            wanted.configure(alice.id, "tipjar", "alice.shop.test", **wrong)


def test_upgrade_renews_every_jar_once(alice, this_shop, pages, work):
    upgrades.bring_up_to_date(this_shop)
    work(alice)
    (pages.path / "index.php").unlink()
    assert upgrades.bring_up_to_date(this_shop) == 0
    assert work(alice) == 0

    Fact.update(value="another version ~").where(Fact.name == "tipjar up to date").execute()
    assert (upgrades.bring_up_to_date(this_shop), upgrades.bring_up_to_date(this_shop)) == (1, 0)
    assert work(alice) == 1
    assert pages()["index.php"] == tipjar.JAR.text


@with_settings(TIP_JARS="false")
def test_upgrade_shuts_neighbours_out_of_older_sites(alice, this_shop, pages, work):
    work(alice)
    pages.path.chmod(0o711)
    Service.delete().where(Service.kind == "tipjar").execute()
    upgrades.bring_up_to_date(this_shop)
    work(alice)
    assert mode(pages.path) == 0o710 and pages() == {}


def test_worker_renews_jars_by_itself(alice, work, at_work):
    eventually(lambda: Fact.get_or_none(Fact.name == "tipjar up to date"))
    eventually(lambda: jar(alice).is_applied)


# -- off, suspended, closed ------------------------------------------------------------------


def test_jar_that_its_owner_removes_is_taken_away(alice, panel, pages, work):
    work(alice)
    wanted.configure(alice.id, "tipjar", "alice.shop.test", is_there=False)
    work(alice)
    assert pages() == {} and uploaders(panel) == []

    wanted.configure(alice.id, "tipjar", "alice.shop.test", is_there=True)
    work(alice)
    assert pages()["index.php"] == tipjar.JAR.text


@pytest.mark.parametrize("off", [accounts.suspend, lambda id: accounts.block(id, "no")])
def test_jar_of_a_suspended_hosting_is_put_after_the_resumption(
    late, alice, panel, pages, work, off
):
    work(alice)
    assert uploaders(panel)
    off(alice.id)
    work(alice)
    assert uploaders(panel) == [] and jar(alice).is_applied

    late.forward(60)
    work(alice)
    assert pages() == {}

    (accounts.resume if off is accounts.suspend else accounts.unblock)(alice.id)
    for _ in range(10):
        work(alice)
        late.forward(60)
    assert pages()["index.php"] == tipjar.JAR.text


def test_closing_does_not_wait_for_ftp(late, alice, this_shop, panel, ftp_server, work):
    work(alice)
    assert uploaders(panel)
    ftp_server.down()
    accounts.close(alice.id)
    work(alice)

    assert Account.get_or_none(Account.id == alice.id) is None
    assert panel.records("ftp") == [] and panel.records("client") == []


@pytest.mark.parametrize("is_applied", [True, False])
def test_worker_closes_a_hosting_with_its_tip_jar(
    alice, this_shop, panel, ftp_server, work, at_work, is_applied
):
    if not is_applied:
        ftp_server.down()
    eventually(lambda: jar(alice).tries or jar(alice).is_applied)
    accounts.close(alice.id)
    eventually(lambda: not Account.select().exists())
    assert panel.records("ftp") == [] and panel.records("client") == []


def meanwhile(ftp_server, command, change):
    """Call `change` once, as an FTP command comes in."""
    take, changes = ftp_server.faults.take, [change]

    def taken(arrived):
        if arrived == command and changes:
            changes.pop()()
        return take(arrived)

    ftp_server.faults.take = taken


@pytest.mark.parametrize("command", ["PASS", "STOR", "RNTO"])
def test_closing_during_an_upload_leaves_nothing(alice, panel, ftp_server, work, command):
    meanwhile(ftp_server, command, lambda: accounts.close(alice.id))
    work(alice)

    assert Account.get_or_none(Account.id == alice.id) is None
    assert panel.records("ftp") == [] and panel.records("client") == []


@pytest.mark.parametrize("command", ["PASS", "STOR", "RNTO"])
def test_suspension_during_an_upload_removes_its_ftp_user(alice, panel, ftp_server, work, command):
    meanwhile(ftp_server, command, lambda: accounts.suspend(alice.id))
    work(alice)

    assert uploaders(panel) == [] and jar(alice).is_applied
    assert [record["active"] for record in panel.records("site")] == ["n"]


# -- faults ----------------------------------------------------------------------------------


def begin_anew(panel, ftp_server, account):
    """Start again as if no jar had ever been put on the site."""
    site = pages_of(ftp_server, account)
    for name in {each.name for each in site.iterdir()} - FRESH_SITE.keys():
        (site / name).unlink()
    with wanted.transaction():
        wanted.touch(account.id)
        wanted.raise_revisions(account.id, "tipjar")
    panel.calls.clear()
    ftp_server.commands.clear()


def pages_of(ftp_server, account):
    ftp_server.lay_out()
    return (ftp_server.root / f"{account.username}.shop.test" / "web").resolve()


def settled(this_shop, panel, ftp_server, account, time_machine):
    for _ in range(20):
        if jar(account).is_applied:
            break
        time_machine.forward(60)
        this_shop.ftp._not_before.clear()
        reconcile.account(this_shop, account.id)
    row = jar(account)
    site = pages_of(ftp_server, account)
    there = {each.name for each in site.iterdir()} - FRESH_SITE.keys()
    assert row.is_applied and row.note is None and row.password_sealed is None and not row.error
    assert there == {"index.php", "tipjar.json"}
    assert (site / "index.php").read_bytes() == tipjar.JAR.text
    assert uploaders(panel) == []


@pytest.mark.parametrize("where", ["panel", "ftp"])
def test_upload_cut_after_any_call_is_completed_by_a_repeat(
    alice, this_shop, panel, ftp_server, time_machine, where
):
    # tests/tipjar cuts every single command over FTP; here some of them are enough.
    server, step = (panel, 1) if where == "panel" else (ftp_server, 4)
    for index in range(0, 60, step):
        begin_anew(panel, ftp_server, alice)
        # A call that only reads is repeated at once.
        server.faults.set("cut-after", passes=index, times=2)
        reconcile.account(this_shop, alice.id)
        was_hit = not jar(alice).is_applied
        server.faults.clear()
        settled(this_shop, panel, ftp_server, alice, time_machine)
        added = [method for method, _ in panel.calls if method == "sites_ftp_user_add"]
        assert len(added) <= 2
        if not was_hit:
            assert index == {"panel": 7, "ftp": 24}[where]
            return
    raise AssertionError("more calls than expected")


class Killed(BaseException):
    """The process is killed here."""


def test_upload_killed_between_any_two_steps_is_completed_by_a_repeat(
    alice, this_shop, panel, ftp_server, time_machine
):
    for index in range(60):
        begin_anew(panel, ftp_server, alice)
        if not killed_at_panel_call(this_shop, alice, index):
            assert index > 3
            return
        time_machine.forward(600)  # the lease of the killed one ends
        settled(this_shop, panel, ftp_server, alice, time_machine)
    raise AssertionError("more calls than expected")


def killed_at_panel_call(this_shop, account, index) -> bool:
    """Die before the nth call of the panel; nothing in the process is tidied up."""
    calls, call = count(), this_shop.panel._call

    def dies(*arguments, **more):
        if next(calls) == index:
            raise Killed
        return call(*arguments, **more)

    this_shop.panel._call = dies
    try:
        reconcile.account(this_shop, account.id)
        return False
    except Killed:
        return True
    finally:
        del this_shop.panel._call


def test_two_workers_put_one_jar(alice, this_shop, panel, pages):
    at_once(*[lambda: reconcile.account(this_shop, alice.id)] * 4)

    added = [method for method, _ in panel.calls if method == "sites_ftp_user_add"]
    assert len(added) == 2  # the customer's, and ours for the upload
    assert pages()["index.php"] == tipjar.JAR.text


def test_ftp_user_of_another_client_with_our_name_is_left_alone(this_shop, alice, panel, work):
    bob = open_account(this_shop, "bob")
    reconcile.account(this_shop, bob.id)
    other = next(record for record in panel.records("ftp") if record["username"] == "ls_bob")
    row = panel.find("ftp", other["ftp_user_id"])
    row.record["username"] = f"ls_tip_{alice.id}"
    work(alice)

    assert jar(alice).permanent and "another client's" in jar(alice).error
    assert panel.find("ftp", other["ftp_user_id"])


def test_lost_or_outdated_password_is_replaced(
    late, alice, this_shop, panel, ftp_server, pages, work
):
    work(alice)
    assert uploaders(panel)
    # As in a database restored from a backup.
    sealed = this_shop.vault.seal(secrets.token_hex(16))
    Service.update(password_sealed=sealed).where(Service.kind == "tipjar").execute()
    for _ in range(60):
        work(alice)
        late.forward(60)

    assert pages()["index.php"] == tipjar.JAR.text


def test_no_name_and_no_password_is_logged(alice, panel, ftp_server, work, caplog):
    caplog.set_level(logging.DEBUG)
    ftp_server.faults.set("refuse", "PASS", times=1, message="530 ls_tip_ is not known")
    work(alice)

    ours = "\n".join(r.getMessage() for r in caplog.records if r.name.startswith("lightningspace"))
    assert "ls_tip_" not in ours and "password" not in ours.lower()


def test_operator_reads_why_there_is_no_jar(runner, alice, pages, work):
    (pages.path / "index.php").write_bytes(THEIRS)
    work(alice)

    assert "has a start page of its own" in runner.invoke(args=["account", "alice"]).output
