"""What has become of services: until they are live, and until their passwords are forgotten."""

import pytest

from lightningspace import hosting, orders, progress, wanted
from lightningspace.models import Account, Server
from tests.conftest import open_account, wish, work
from tests.flows import resize


def states(account) -> set[str]:
    account = Account.get_by_id(account.id)
    return {progress.state(account, row) for row in wanted.services_of(account.id)}


def test_live_follows_the_servers_queue(time_machine, alice, this_shop, panel):
    progress.look_at_queues(this_shop)
    assert states(alice) == {"applied"}
    time_machine.forward(panel.seconds_to_go())
    progress.look_at_queues(this_shop)
    assert states(alice) == {"live"}


def test_what_is_live_is_asked_for_no_more(time_machine, alice, this_shop, panel):
    time_machine.forward(panel.seconds_to_go())
    progress.look_at_queues(this_shop)
    calls = len(panel.calls)
    progress.look_at_queues(this_shop)
    assert len(panel.calls) == calls


def test_a_change_waits_for_the_queue_again(time_machine, alice, this_shop, panel, worker):
    time_machine.forward(panel.seconds_to_go())
    progress.look_at_queues(this_shop)
    resize(alice.id, 200)
    assert states(alice) == {"live", "changing"}
    work(worker)
    assert states(alice) == {"live", "applied"}


@pytest.mark.parametrize("why", ["forbidden", "busy"])
def test_live_is_taken_for_granted_after_three_minutes(why, time_machine, alice, this_shop, panel):
    if why == "forbidden":
        panel.forbidden = {"monitor_jobqueue_count"}
    else:
        panel.jobs_of_others(for_seconds=10_000)
    time_machine.forward(progress.LIVE_AT_LAST_SECONDS)
    progress.look_at_queues(this_shop)
    assert states(alice) == {"applied"}
    time_machine.forward(1)
    assert states(alice) == {"live"}


def test_a_refused_queue_holds_up_no_other_servers(this_shop, alice, panel, time_machine):
    Server.create(id=2, capacity_mb=1000)
    bobby = open_account(this_shop, "bobby")
    Account.update(server=2).where(Account.id == bobby.id).execute()
    hosting.reconcile(this_shop, bobby.id)
    time_machine.forward(panel.seconds_to_go())
    panel.faults.set("refuse", "monitor_jobqueue_count", times=1, message="no_server_error")
    progress.look_at_queues(this_shop)
    assert [server.queue_empty_at is None for server in Server.select()].count(True) == 1


def test_a_generated_password_is_wiped_after_a_day(this_shop, wallet, worker, panel, time_machine):
    wallet.pay(orders.place(this_shop, wish()).bolt11)
    work(worker)
    account = Account.get()
    assert this_shop.vault.unseal(account.password_sealed) == panel.password_of("ftp", 1)
    time_machine.forward(86401)
    progress.wipe_shown_passwords()
    assert Account.get().password_sealed is None
