"""The public status of the shop."""

import pytest

from lightningspace.base.clock import now
from lightningspace.base.models import Account, Fact, Server
from lightningspace.rules import accounts, orders, status
from tests.conftest import open_account, wish, work


@pytest.fixture(autouse=True)
def time_stands_still(time_machine):
    pass


def running(shop) -> int:
    status.look(shop)
    return status.told(shop).running


def test_only_hostings_that_run_are_counted(this_shop, alice):
    assert running(this_shop) == 1
    for change in ({"suspended_at": 1}, {"closing_at": 1}, {"ready_at": None}):
        Account.update(suspended_at=None, closing_at=None, ready_at=1).execute()
        Account.update(change).execute()
        assert running(this_shop) == 0, change
    Account.update(closing_at=None, ready_at=1).execute()
    accounts.block(alice.id, "a reason")
    assert running(this_shop) == 0


def test_hostings_are_counted_by_the_worker_and_not_for_each_visitor(this_shop, alice):
    assert status.told(this_shop).running is None
    status.look(this_shop)
    Account.update(closing_at=1).execute()
    assert status.told(this_shop).running == 1


def test_the_time_from_paid_to_ready_is_the_median_of_the_last(
    this_shop, wallet, worker, time_machine
):
    assert status.told(this_shop).took_seconds is None
    order = orders.place(this_shop, wish())
    wallet.pay(order.bolt11)
    time_machine.forward(7)
    work(worker)
    assert status.told(this_shop).took_seconds == 7
    took = Fact.get(Fact.name == status.TOOK)
    took.value = " ".join(map(str, range(status.TAKEN_MAX)))
    took.save()
    status.note_ready(Account.get().id, Account.get().ready_at)
    [*_, last] = kept = Fact.get(Fact.name == status.TOOK).value.split()
    assert (len(kept), kept[0], last) == (status.TAKEN_MAX, "1", "7")


def test_a_hosting_that_nobody_bought_is_not_counted(this_shop):
    account = open_account(this_shop, "bobby")
    status.note_ready(account.id, now())
    assert status.told(this_shop).took_seconds is None


def test_a_silent_node_or_panel_is_named(this_shop, node, panel, time_machine):
    assert status.told(this_shop).silent == {"node", "panel"}
    status.look(this_shop)
    assert status.told(this_shop).silent == set()
    time_machine.forward(status.SILENT_SECONDS)
    assert status.told(this_shop).silent == {"node", "panel"}
    node.stop()
    status.look(this_shop)
    told = status.told(this_shop)
    assert told.silent == {"node"}
    assert told.answered["node"] == now() - status.SILENT_SECONDS


@pytest.mark.parametrize(
    ("capacity_mb", "free"),
    [
        (0, "sold out"),
        (245, "sold out"),
        (246, "few left"),
        (50_145, "few left"),
        (50_146, "available"),
    ],
)
def test_free_space_is_described_without_numbers(this_shop, capacity_mb, free):
    Server.update(capacity_mb=capacity_mb).execute()
    assert status.told(this_shop).free == free
