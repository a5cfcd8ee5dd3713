"""The progress of services until they are live, and their passwords until they are wiped."""

import pytest

from lightningspace.base import models
from lightningspace.base.models import Account, Fact, Server
from lightningspace.panel import reconcile
from lightningspace.rules import orders, progress, services, wanted
from tests.conftest import let_the_server_follow, open_account, wish, work
from tests.flows import resize


def states(account) -> set[str]:
    account = Account.get_by_id(account.id)
    rows = services.of_account(account.id)
    known = progress.Progress(account, rows)
    return {known.state(row) for row in rows}


def look_until_it_is_done(this_shop, panel, time_machine) -> None:
    """Look once more after the queue is empty, when the web server may be restarting."""
    for _ in range(2):
        time_machine.forward(panel.seconds_to_go() + 5)
        progress.look_at_queues(this_shop)


def test_live_follows_the_servers_queue(time_machine, alice, this_shop, panel):
    progress.look_at_queues(this_shop)
    assert states(alice) == {"applied"}
    time_machine.forward(panel.seconds_to_go())
    progress.look_at_queues(this_shop)
    assert states(alice) == {"applied", "live"}
    look_until_it_is_done(this_shop, panel, time_machine)
    assert states(alice) == {"live"}


def test_the_queue_is_not_asked_for_when_everything_is_live(time_machine, alice, this_shop, panel):
    look_until_it_is_done(this_shop, panel, time_machine)
    calls = len(panel.calls)
    progress.look_at_queues(this_shop)
    assert len(panel.calls) == calls


def test_a_change_waits_for_the_queue_again(time_machine, alice, this_shop, panel, worker):
    look_until_it_is_done(this_shop, panel, time_machine)
    resize(alice.id, 200)
    assert states(alice) == {"live", "changing"}
    work(worker)
    assert states(alice) == {"live", "applied"}


def test_without_an_answer_about_the_queue_services_are_live_after_three_minutes(
    time_machine, alice, this_shop, panel
):
    panel.forbidden = {"monitor_jobqueue_count"}
    time_machine.forward(progress.UNTOLD_SECONDS - 10)
    progress.look_at_queues(this_shop)
    assert states(alice) == {"applied"}
    time_machine.forward(11)
    progress.look_at_queues(this_shop)
    assert states(alice) == {"live"}


def test_a_panel_that_does_not_answer_makes_nothing_live(time_machine, alice, this_shop, panel):
    panel.faults.set("cut-before", "monitor_jobqueue_count")
    time_machine.forward(3600)
    progress.look_at_queues(this_shop)
    assert states(alice) == {"applied"}


@pytest.fixture
def busy(panel, time_machine):
    """A server with half an hour of work, which it takes up once a minute, and new work coming."""
    panel.queue_seconds, panel.run_seconds, panel.job_seconds = 1, 60, {"shell": 20}
    panel.jobs_of_others(for_seconds=1800)
    return time_machine


def test_nothing_is_live_before_the_server_has_done_it(busy, this_shop, panel):
    alice = open_account(this_shop, "alice")
    reconcile.account(this_shop, alice.id)
    is_live, looks = False, 0
    while not is_live:
        assert looks < 1000
        progress.look_at_queues(this_shop)
        rows = services.of_account(alice.id)
        known = progress.Progress(Account.get_by_id(alice.id), rows)
        is_live = progress.Summary(rows, known).is_at_rest
        if looks == 30:
            panel.jobs_of_others(for_seconds=900)
        if not is_live and looks:
            assert known.jobs_before() > 0
        # Nothing was called live too early.
        for row in rows:
            if known.state(row) == "live":
                assert panel.is_live(row.kind, row.panel_id), row.kind
        busy.forward(17)  # so that the second of the minute changes
        looks += 1
    assert known.jobs_before() is None


def test_a_service_is_off_only_when_the_server_has_done_it(busy, this_shop, alice, panel):
    let_the_server_follow()
    busy.forward(2)
    wanted.switch(alice.id, "database", "ls_alice", False)
    reconcile.account(this_shop, alice.id)
    assert states(alice) == {"live", "changing"}
    busy.forward(3600)
    for _ in range(3):
        progress.look_at_queues(this_shop)
        busy.forward(60)
    assert states(alice) == {"live", "off"}


@pytest.mark.each_database
def test_a_look_that_another_worker_overtook_does_not_count(this_shop, alice, panel):
    panel.jobs_of_others(for_seconds=3600)
    progress.look_at_queues(this_shop)
    name = progress.QUEUE.format(id=1)

    def overtake(method):
        panel.before_call = lambda method: None
        Fact.update(value='{"waiting":1000}').where(Fact.name == name).execute()
        models.db.close()

    panel.before_call = overtake
    progress.look_at_queues(this_shop)
    assert Fact.get_by_id(name).value == '{"waiting":1000}'
    assert states(alice) == {"applied"}


def test_a_refused_queue_holds_up_no_other_servers(this_shop, alice, panel, time_machine):
    Server.create(id=2, capacity_mb=1000)
    bobby = open_account(this_shop, "bobby")
    Account.update(server=2).where(Account.id == bobby.id).execute()
    reconcile.account(this_shop, bobby.id)
    time_machine.forward(panel.seconds_to_go())
    panel.faults.set("refuse", "monitor_jobqueue_count", times=1, message="no_server_error")
    progress.look_at_queues(this_shop)
    looked = [progress.queue_of(id).done_until for id in (1, 2)]
    assert looked.count(0) == 1


def test_a_generated_password_is_wiped_after_a_day(this_shop, wallet, worker, panel, time_machine):
    wallet.pay(orders.place(this_shop, wish()).bolt11)
    work(worker)
    account = Account.get()
    assert this_shop.vault.unseal(account.password_sealed) == panel.password_of("ftp", 1)
    time_machine.forward(86401)
    progress.wipe_shown_passwords()
    assert Account.get().password_sealed is None
