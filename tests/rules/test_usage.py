"""Used space and PHP versions: what the worker asks the panel, and what it keeps."""

import json
import logging
import threading

import pytest

from lightningspace.base import clock, models
from lightningspace.base.models import Account, Server, Service
from lightningspace.outside.ispconfig import PanelError
from lightningspace.panel import reconcile
from lightningspace.rules import accounts, usage, wanted
from tests.conftest import at_once, eventually, open_account

MB = 1024 * 1024
DATABASE_MB = 1000 * 1000
QUOTA_METHODS = ("quota_get_by_user", "databasequota_get_by_user", "mailquota_get_by_user")


@pytest.fixture
def alice(time_machine, alice):
    """alice's account, with a clock that stands still."""
    return alice


@pytest.fixture
def uses(panel, alice):
    """Make a service of alice's use this much: `uses("site", kb)`."""
    switches = {
        "site": panel.disk_kb,
        "database": panel.database_bytes,
        "mailbox": panel.mail_bytes,
    }

    def uses(kind: str, much: int) -> None:
        row = Service.get(Service.account == alice.id, Service.kind == kind)
        switches[kind][row.panel_id] = much

    return uses


def again(account: Account) -> Account:
    return Account.get_by_id(account.id)


def figures(account: Account) -> tuple:
    account = again(account)
    return account.used_site_mb, account.used_database_mb, account.used_mail_mb


def questions(panel) -> int:
    return sum(method in QUOTA_METHODS for method, _ in panel.calls)


def test_the_panels_figures_are_kept_in_the_megabytes_of_its_quotas(
    this_shop, alice, uses, time_machine
):
    uses("site", 3044)
    uses("database", 2 * DATABASE_MB + 1)
    uses("mailbox", 5 * MB)
    assert usage.look(this_shop) == 1
    assert figures(alice) == (3, 3, 5)
    assert again(alice).used_at == time_machine.moment // 1
    assert again(alice).usage_at == again(alice).used_at + 3600


def test_usage_of_an_account_is_asked_for_once_an_hour(this_shop, alice, uses, time_machine):
    uses("site", 1)
    usage.look(this_shop)
    time_machine.forward(3599)
    assert usage.look(this_shop) == 0
    time_machine.forward(1)
    assert usage.look(this_shop) == 1


def test_small_mailboxes_are_added_before_they_are_rounded(this_shop, alice, uses, panel):
    uses("site", 0)
    wanted.add(this_shop, alice.id, "mailbox", "bob@alice.shop.test")
    reconcile.account(this_shop, alice.id)
    for mailbox in panel.records("mailbox"):
        panel.mail_bytes[int(mailbox["mailuser_id"])] = 1000
    usage.look(this_shop)
    assert figures(alice) == (0, 0, 1)


def test_usage_beyond_the_bought_space_is_kept(this_shop, alice, uses):
    uses("site", 500 * 1024)
    usage.look(this_shop)
    assert figures(alice)[0] == 500 > alice.space_mb


def test_unmeasured_usage_is_asked_for_at_growing_intervals(this_shop, alice, panel, time_machine):
    asked = 0
    for _ in range(20):
        asked += usage.look(this_shop)
        if again(alice).used_at:
            break
        assert figures(alice) == (None, None, None)
        time_machine.forward(60)
    assert figures(alice) == (1, 0, 1)  # the welcome page, and the welcome mail
    assert asked <= 6


def test_usage_of_a_suspended_account_is_asked_for(this_shop, alice, uses, time_machine):
    uses("site", 2048)
    accounts.suspend(alice.id)
    reconcile.account(this_shop, alice.id)
    usage.look(this_shop)
    assert figures(alice)[0] == 2


def test_usage_of_a_closing_account_is_not_asked_for(this_shop, alice, panel):
    accounts.close(alice.id)
    assert usage.look(this_shop) == 0
    assert questions(panel) == 0


def test_a_strangers_usage_is_never_kept(this_shop, alice, uses, panel, time_machine, caplog):
    uses("site", 3 * 1024)
    usage.look(this_shop)
    bob = open_account(this_shop, "bob")
    reconcile.account(this_shop, bob.id)
    for site in panel.records("site"):
        panel.disk_kb[int(site["domain_id"])] = 77 * 1024
    # As after a restore of the panel: bob's client has the number of alice's.
    number = Service.get(Service.account == bob.id, Service.kind == "client").panel_id
    Service.update(panel_id=number).where(
        (Service.account == alice.id) & (Service.kind == "client")
    ).execute()
    time_machine.forward(3600)
    assert usage.look(this_shop) == 2
    assert figures(alice)[0] == 3
    assert figures(bob)[0] == 77
    assert "does not have the site alice.shop.test" in caplog.text


def test_without_a_client_at_the_panel_nothing_is_asked(this_shop, alice, panel):
    Service.update(panel_id=None).where(Service.kind == "client").execute()
    usage.look(this_shop)
    assert questions(panel) == 0
    assert again(alice).usage_at > clock.now()


@pytest.mark.parametrize("method", QUOTA_METHODS)
@pytest.mark.parametrize("answer", ["garbage", "HTTP 500", "some fault of SQL"])
def test_figures_stay_while_the_panel_gives_none(
    this_shop, alice, uses, panel, time_machine, method, answer
):
    uses("site", 3 * 1024)
    usage.look(this_shop)
    known_at = again(alice).used_at
    uses("site", 9 * 1024)
    time_machine.forward(3600)
    panel.faults.set("refuse", method, message=answer, times=1)
    try:
        usage.look(this_shop)
    except PanelError:
        assert answer != "some fault of SQL"
    assert figures(alice)[0] == 3
    assert again(alice).used_at == known_at
    assert usage.look(this_shop) == 0
    time_machine.forward(3600)
    usage.look(this_shop)
    assert figures(alice)[0] == 9


def test_a_panel_that_is_down_is_asked_once_and_not_for_each_account(this_shop, alice, panel):
    bob = open_account(this_shop, "bob")
    reconcile.account(this_shop, bob.id)
    panel.down()
    with pytest.raises(PanelError, match="refused"):
        usage.look(this_shop)
    due = Account.select().where(Account.usage_at <= clock.now())
    assert due.count() == 1
    panel.up()


def test_a_missing_permission_is_noticed_once(this_shop, alice, panel):
    bob = open_account(this_shop, "bob")
    reconcile.account(this_shop, bob.id)
    panel.forbidden = {"databasequota_get_by_user"}
    with pytest.raises(PanelError, match="may not call databasequota_get_by_user"):
        usage.look(this_shop)
    assert questions(panel) == 2


def test_one_account_that_is_refused_holds_up_no_other(this_shop, alice, panel, time_machine):
    time_machine.forward(1)
    bob = open_account(this_shop, "bob")
    reconcile.account(this_shop, bob.id)
    for site in panel.records("site"):
        panel.disk_kb[int(site["domain_id"])] = 1
    panel.faults.set("refuse", "quota_get_by_user", message="a fault of SQL", times=1)
    assert usage.look(this_shop) == 2
    assert again(alice).used_at is None
    assert figures(bob) == (1, 0, 0)


@pytest.mark.each_database
def test_two_workers_never_ask_for_the_same_account(this_shop, alice, uses, panel):
    uses("site", 1)
    panel.delays["quota_get_by_user"] = 0.2
    asked = at_once(*[lambda: usage.look(this_shop)] * 4)
    assert sum(asked) == 1
    assert questions(panel) == 3


def test_usage_claimed_by_a_killed_worker_is_asked_for_after_minutes(
    this_shop, alice, uses, time_machine
):
    uses("site", 2048)
    assert usage._claim(again(alice))
    assert usage.look(this_shop) == 0
    time_machine.forward(usage.CLAIM_SECONDS)
    usage.look(this_shop)
    assert figures(alice)[0] == 2


def test_an_answer_that_comes_after_the_claim_is_over_is_dropped(
    this_shop, alice, uses, panel, time_machine
):
    uses("site", 1024)

    def be_overtaken(method):
        panel.before_call = lambda method: None
        time_machine.forward(usage.CLAIM_SECONDS)
        usage.look(this_shop)
        uses("site", 9 * 1024)
        models.db.close()

    this_shop.panel.jobs_waiting(1)  # logs in first, so that the race is about usage alone
    panel.before_call = be_overtaken
    usage.look(this_shop)
    assert figures(alice)[0] == 1


def test_usage_put_off_by_a_wrong_clock_is_asked_for(this_shop, alice, uses, time_machine):
    uses("site", 2048)
    time_machine.forward(365 * 86400)
    usage.look(this_shop)
    time_machine.forward(-365 * 86400)
    assert usage.look(this_shop) == 1
    assert again(alice).usage_at == clock.now() + 3600


def test_the_worker_asks_for_usage_by_itself(this_shop, alice, uses, worker, panel):
    uses("site", 2048)
    panel.php_versions = [(3, "PHP 8.3")]
    thread = threading.Thread(target=worker.run)
    thread.start()
    eventually(lambda: usage.php_versions(Server.get()))
    worker.stop()
    thread.join(20)
    assert figures(alice)[0] == 2


def test_the_worker_survives_a_panel_that_is_down(alice, worker, panel, caplog):
    panel.down()
    worker.stop()
    worker._look_at_usage()
    assert "usage: the panel did not answer" in caplog.text


# -- opened pages --------------------------------------------------------------------


def test_opening_the_page_asks_for_usage_within_five_minutes(this_shop, alice, uses, time_machine):
    uses("site", 1)
    usage.look(this_shop)
    usage.opened(again(alice))
    time_machine.forward(299)
    assert usage.look(this_shop) == 0
    time_machine.forward(1)
    assert usage.look(this_shop) == 1


def test_an_opened_page_writes_once_in_five_minutes(this_shop, alice, uses, caplog):
    uses("site", 1)
    usage.look(this_shop)
    shown = again(alice)
    usage.opened(shown)
    with caplog.at_level(logging.DEBUG, "peewee"):
        caplog.clear()
        usage.opened(shown)
        usage.opened(again(alice))
    assert not [record for record in caplog.records if "UPDATE" in record.getMessage()]


def test_an_opened_page_does_not_shorten_the_wait_after_a_failure(
    this_shop, alice, uses, panel, time_machine
):
    uses("site", 1)
    usage.look(this_shop)
    time_machine.forward(3600)
    panel.faults.set("refuse", "quota_get_by_user", message="a fault of SQL", times=1)
    usage.look(this_shop)
    put_off = again(alice).usage_at
    usage.opened(again(alice))
    assert again(alice).usage_at == put_off > clock.now()


def test_opening_the_page_of_a_new_account_changes_nothing(this_shop, alice):
    usage.opened(alice)
    assert again(alice).usage_at == alice.usage_at


# -- PHP -----------------------------------------------------------------------------


def test_php_versions_are_kept_with_their_ids(this_shop, alice, panel):
    panel.php_versions = [(3, "PHP 8.3"), (4, "PHP 8.4")]
    usage.look_at_php(this_shop)
    assert usage.php_versions(Server.get()) == [(3, "PHP 8.3"), (4, "PHP 8.4")]


def test_php_versions_are_asked_for_once_an_hour(this_shop, alice, panel, time_machine):
    usage.look_at_php(this_shop)
    panel.php_versions = [(3, "PHP 8.3")]
    time_machine.forward(3599)
    usage.look_at_php(this_shop)
    assert usage.php_versions(Server.get()) == []
    time_machine.forward(1)
    usage.look_at_php(this_shop)
    assert usage.php_versions(Server.get()) == [(3, "PHP 8.3")]


def test_php_versions_stay_while_the_panel_is_down(this_shop, alice, panel, time_machine):
    panel.php_versions = [(3, "PHP 8.3")]
    usage.look_at_php(this_shop)
    time_machine.forward(3600)
    panel.php_versions = []
    panel.faults.set("refuse", "server_get_php_versions", message="HTTP 500", times=1)
    with pytest.raises(PanelError):
        usage.look_at_php(this_shop)
    usage.look_at_php(this_shop)
    assert usage.php_versions(Server.get()) == [(3, "PHP 8.3")]
    time_machine.forward(300)
    usage.look_at_php(this_shop)
    assert usage.php_versions(Server.get()) == []


def test_without_the_permission_only_the_servers_own_php_is_offered(this_shop, alice, panel):
    panel.php_versions = [(3, "PHP 8.3")]
    panel.forbidden = {"server_get_php_versions"}
    usage.look_at_php(this_shop)
    assert usage.php_versions(Server.get()) == []


def test_unreadable_php_versions_are_ignored(subtests):
    for stored in ["", "nonsense", "7", '[["x", "PHP"]]', "[[1]]", "null"]:
        with subtests.test(stored=stored):
            assert usage.php_versions(Server(php_versions=stored)) == []


def test_a_php_version_is_chosen_by_its_id(this_shop, alice, panel):
    panel.php_versions = [(3, "PHP 8.3")]
    usage.look_at_php(this_shop)
    (version,) = json.loads(Server.get().php_versions)
    wanted.configure(alice.id, "site", "alice.shop.test", php_version=version[0])
    reconcile.account(this_shop, alice.id)
    assert panel.records("site")[0]["server_php_id"] == "3"
