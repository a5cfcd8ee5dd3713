"""More time and another size: what it costs, what it does, and the pages that sell it."""

import secrets

import pytest

from lightningspace import hosting, ledger, orders, outbox, payments, wanted
from lightningspace.models import Account, Order, Server, Service, transaction
from lightningspace.node import NodeError
from lightningspace.prices import DAY, Size
from tests.conftest import (
    at_once,
    invoices_asked_for,
    open_account,
    record_payments,
    with_settings,
)

MONTH = (1, "months")


def buyer(form_id: str | None = None) -> orders.Buyer:
    return orders.Buyer("alice's browser", form_id or secrets.token_hex(8))


def reload(row):
    return type(row).get_by_id(row.get_id())


def held() -> tuple[int, int]:
    server = Server.get()
    return server.held_mb, server.unpaid_mb


@pytest.fixture
def extend(this_shop, alice):
    def extend(duration=1, unit="months", form_id=None):
        return orders.extend(this_shop, alice.id, duration, unit, buyer(form_id))

    return extend


@pytest.fixture
def resize(this_shop, alice):
    def resize(space_mb=100, addresses=0, domains=0, form_id=None):
        return orders.resize(
            this_shop, alice.id, Size(space_mb, addresses, domains), buyer(form_id)
        )

    return resize


@pytest.fixture
def pay(this_shop, wallet, worker):
    """Pay an order and let it take effect."""

    def pay(order):
        wallet.pay(order.bolt11)
        record_payments(worker)
        payments.apply(this_shop, order.token)
        return reload(order)

    return pay


def use(alice, mb: int = 1) -> None:
    """What the panel said of the space that is used."""
    used = {"used_site_mb": mb, "used_database_mb": mb, "used_mail_mb": mb, "used_at": 1}
    Account.update(used).where(Account.id == alice.id).execute()


# -- more time -------------------------------------------------------------------------


def test_a_reminder_of_an_end_that_has_moved_is_not_sent(extend, pay, alice, this_shop, mails):
    Account.update(email="alice@example.org").where(Account.id == alice.id).execute()
    with transaction():
        outbox.write(this_shop, reload(alice), "ending", alice.expires_at)
    pay(extend())
    assert outbox.send_due(this_shop) == 0


def test_an_extension_that_is_paid_moves_the_end(extend, pay, alice):
    order = extend(30, "days")
    assert order.amount_msat == 210_000
    paid = pay(order)
    assert reload(alice).expires_at == alice.expires_at + 30 * DAY == paid.ends_at
    assert paid.bought_seconds == 30 * DAY


def test_the_same_form_twice_is_one_extension(extend, node):
    assert extend(form_id="one").token == extend(form_id="one").token
    assert invoices_asked_for(node) == 1


def test_the_same_form_twice_at_once_is_one_extension(extend, node):
    first, second = at_once(*2 * [lambda: extend(form_id="one")])
    assert first.token == second.token
    assert invoices_asked_for(node) == 1


def test_each_of_several_extensions_counts_when_it_is_paid(extend, pay, alice):
    for order in [extend(30, "days"), extend(24, "hours")][::-1]:
        pay(order)
    assert reload(alice).expires_at == alice.expires_at + 31 * DAY


def test_a_suspended_hosting_counts_from_now_and_is_switched_on(
    extend, pay, alice, this_shop, time_machine
):
    time_machine.moment = alice.expires_at + DAY
    wanted.suspend(alice.id)
    hosting.reconcile(this_shop, alice.id)
    pay(extend(1, "hours"))
    after = reload(alice)
    assert after.expires_at == int(time_machine.moment) + 3600 * 1000 * 24 // 7000
    assert after.suspended_at is None
    hosting.reconcile(this_shop, alice.id)
    assert all(wanted.is_on(after, row) and row.is_applied for row in Service.select())


def test_what_is_paid_beyond_the_horizon_is_credit(extend, pay, alice):
    pay(extend(24, "months"))
    paid = pay(extend(24, "months"))
    after = reload(alice)
    assert after.expires_at - alice.ready_at == pytest.approx(1095 * DAY, abs=60)
    # 90 days and 48 months are 1530 days: 435 too many, at 7 sats.
    assert paid.bought_credit_msat == after.credit_msat == pytest.approx(435 * 7000, abs=10)
    assert ledger.holding(after).worth_msat == 1530 * 7000


@pytest.mark.parametrize(
    ("facts", "why"),
    [
        ({"closing_at": 1}, "closed"),
        ({"blocked_at": 1, "blocked_reason": "spam"}, "blocked"),
        ({"last_call_at": 1}, "about to be deleted"),
    ],
)
def test_nothing_is_sold_to_who_would_get_nothing(facts, why, extend, resize, alice, node):
    Account.update(facts).execute()
    for buy in (extend, lambda: resize(500)):
        with pytest.raises(orders.Refused, match=why):
            buy()
    assert invoices_asked_for(node) == 0


def test_money_under_way_to_a_blocked_hosting_counts_and_switches_nothing_on(extend, pay, alice):
    order = extend(30, "days")
    wanted.block(alice.id, "spam")
    pay(order)
    after = reload(alice)
    assert after.expires_at == alice.expires_at + 30 * DAY
    assert not any(wanted.is_on(after, row) for row in Service.select())


def test_an_account_has_so_many_unpaid_orders(extend, this_shop):
    placed = [extend() for _ in range(orders.OPEN_ORDERS)]
    with pytest.raises(orders.TooManyUnpaid):
        extend()
    orders.cancel(this_shop, placed[0])
    assert extend()


# -- another size ------------------------------------------------------------------------


def test_a_larger_size_costs_the_difference_until_the_same_end(resize, pay, alice):
    order = resize(500)
    # 15 sats a day instead of 7, for 90 days.
    assert order.amount_msat == 8 * 90 * 1000
    assert held() == (500, 400)
    pay(order)
    after = reload(alice)
    assert after.space_mb == 500
    assert after.expires_at == alice.expires_at
    assert held() == (500, 0)
    assert all(not row.is_applied for row in Service.select().where(Service.kind == "site"))


def test_a_smaller_size_is_had_at_once_and_lasts_longer(resize, pay, alice, node):
    pay(resize(500))
    use(alice)
    assert resize(100) is None
    after = reload(alice)
    assert after.space_mb == 100
    assert after.expires_at - alice.ready_at == pytest.approx(90 * 15 / 7 * DAY, abs=60)
    assert held() == (100, 0)


def test_extras_cost_until_the_end_and_are_allowed_then(resize, pay, alice, this_shop):
    order = resize(100, addresses=2, domains=1)
    assert order.amount_msat == 3 * 90 * 1000
    assert wanted.addresses_allowed(this_shop, reload(alice)) == 5
    pay(order)
    assert wanted.addresses_allowed(this_shop, reload(alice)) == 7
    assert wanted.domains_allowed(this_shop, reload(alice)) == 2


def test_one_more_says_what_it_costs_until_when(alice, this_shop):
    size, msat, until = orders.one_more(this_shop, alice, "addresses")
    assert (size, msat, until) == (Size(100, 1), 90_000, alice.expires_at)
    assert orders.one_more(this_shop, alice, "domains")[0] == Size(100, 0, 1)


def test_the_size_that_it_has_costs_nothing_and_changes_nothing(resize, alice, this_shop):
    before = reload(alice)
    Account.update(value_msat=1).execute()  # as after a rise of the prices
    assert resize(100) is None
    assert reload(alice).expires_at == before.expires_at


def test_a_smaller_size_waits_until_it_is_known_what_is_used(resize, pay, alice):
    pay(resize(500))
    with pytest.raises(orders.Refused, match="do not know yet"):
        resize(100)
    use(alice, 80)
    with pytest.raises(orders.Refused, match="web site uses 80 MB, and would have 70 MB"):
        resize(100)


def test_extras_in_use_cannot_be_given_back(resize, pay, alice, this_shop):
    pay(resize(100, addresses=1))
    for number in range(5):
        wanted.add(this_shop, alice.id, "mailbox", f"box{number}@alice.shop.test")
    with pytest.raises(orders.Refused, match="6 mailboxes and forwards"):
        resize(100)


def test_a_hosting_whose_time_is_over_has_no_other_size(resize, alice, time_machine):
    time_machine.moment = alice.expires_at + 1
    with pytest.raises(orders.Refused, match="Extend the hosting first"):
        resize(500)


def test_a_hosting_that_is_being_set_up_has_no_other_size(this_shop):
    bob = open_account(this_shop, "bob")
    with pytest.raises(orders.Refused, match="still being set up"):
        orders.resize(this_shop, bob.id, Size(500), buyer())


def test_a_second_size_waits_for_the_first(resize, this_shop):
    first = resize(500)
    with pytest.raises(orders.ResizeWaits) as waits:
        resize(1000)
    assert waits.value.token == first.token
    orders.cancel(this_shop, first)
    assert held() == (100, 0)
    assert resize(1000)


def test_two_sizes_at_once_are_one_order(resize, node):
    def ask(space_mb):
        try:
            return resize(space_mb).token
        except orders.ResizeWaits as waits:
            return waits.token

    first, second = at_once(lambda: ask(500), lambda: ask(1000))
    assert first == second
    assert Order.select().where(Order.kind == "resize").count() == 1
    assert held()[0] == reload(Order.get(Order.token == first)).space_mb


def test_the_same_form_twice_is_one_other_size(resize, node):
    first, second = at_once(*2 * [lambda: resize(500, form_id="one")])
    assert first.token == second.token
    assert held() == (500, 400)


def test_a_paid_size_that_is_not_in_effect_yet_comes_first(resize, wallet, worker):
    order = resize(500)
    wallet.pay(order.bolt11)
    record_payments(worker)
    with pytest.raises(orders.ResizeWaits):
        resize(1000)


def test_a_node_that_fails_leaves_nothing_held_and_the_next_try_works(resize, node):
    node.faults.set("refuse", "invoice", times=1)
    with pytest.raises(NodeError):
        resize(500)
    assert held() == (100, 0)
    assert resize(500).bolt11


@with_settings(CAPACITY_MB="499")
def test_space_that_is_not_there_is_not_sold(resize, alice):
    with pytest.raises(orders.SoldOut):
        resize(500)
    assert held() == (100, 0)
    assert resize(100, addresses=1)


@with_settings(CAPACITY_MB="600")
def test_space_that_was_sold_after_the_release_becomes_time(resize, alice, this_shop, worker):
    order = resize(500)
    orders.cancel(this_shop, order)
    Server.update(held_mb=500).execute()
    paid_late(order)
    payments.apply(this_shop, order.token)
    after = reload(alice)
    assert after.space_mb == 100
    assert after.expires_at == pytest.approx(alice.expires_at + 720 / 7 * DAY, abs=1)
    assert reload(order).only_time
    assert held() == (500, 0)


def paid_late(order) -> None:
    """As a node that was restored would have it."""
    facts = {"paid_at": 1, "node_id": "02" * 33, "pay_index": 1}
    facts |= {"payment_hash": "0" * 64, "received_msat": order.amount_msat}
    Order.update(facts).where(Order.token == order.token).execute()


# -- one after the other -------------------------------------------------------------------


def test_a_cheap_extension_paid_after_growing_buys_what_it_is_worth(extend, resize, pay, alice):
    cheap = extend(24, "months")
    pay(resize(5000))
    before = reload(alice).expires_at
    paid = pay(cheap)
    # 720 days at 7 sats are 48 days at 105.
    assert paid.bought_seconds == 48 * DAY
    assert reload(alice).expires_at == before + 48 * DAY


def test_an_extension_paid_after_extras_buys_what_it_is_worth(extend, resize, pay):
    cheap = extend(70, "days")
    pay(resize(100, addresses=93))
    assert pay(cheap).bought_seconds == 490 * DAY // 100


def test_a_size_paid_after_another_extension_turns_all_of_it_into_time_of_that_size(
    extend, resize, pay, alice
):
    larger = resize(5000)
    pay(extend(24, "months"))
    pay(larger)
    after = reload(alice)
    assert after.space_mb == 5000
    # At least what was promised, and all of the value.
    assert after.expires_at >= alice.expires_at
    assert ledger.holding(after).worth_msat == pytest.approx((720 * 7 + 90 * 105) * 1000, abs=200)
    assert after.expires_at == pytest.approx(alice.expires_at + 48 * DAY, abs=60)


def test_a_size_paid_after_the_end_is_what_the_money_is_worth(resize, pay, alice, time_machine):
    time_machine.moment = alice.expires_at - 60
    order = resize(5000)
    assert order.amount_msat == 1000
    time_machine.forward(120)
    wanted.suspend(alice.id)
    pay(order)
    after = reload(alice)
    assert after.space_mb == 5000
    assert after.expires_at - int(time_machine.moment) == 1000 * DAY // 105_000
    assert after.suspended_at is None
