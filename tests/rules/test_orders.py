"""Orders are placed, paid, recorded, applied and released once, whatever comes first."""

import dataclasses
import re
import threading

import pytest
from pyln.client import LightningRpc

from lightningspace import shop
from lightningspace.base.config import from_env
from lightningspace.base.models import Account, Cursor, Order, Server
from lightningspace.base.prices import Terms
from lightningspace.outside.node import Node, NodeError, Payment
from lightningspace.rules import (
    accounts,
    capacity,
    hostnames,
    invoices,
    node_problems,
    order_book,
    orders,
    payments,
)
from tests.conftest import eventually, record_payments, wish, with_settings, work

YEAR = Terms(100, 12, "months")


def held() -> tuple[int, int]:
    """How many hostings are paid for, and how many names unpaid orders reserve."""
    is_paid = Account.opened_at.is_null(False)
    return Account.select().where(is_paid).count(), Account.select().where(~is_paid).count()


def reload(order: Order) -> Order:
    return Order.get_by_id(order.token)


def pay_and_record(order, wallet, worker) -> Order:
    wallet.pay(order.bolt11)
    record_payments(worker)
    return reload(order)


def pay(order, wallet, worker) -> None:
    wallet.pay(order.bolt11)
    work(worker)


# -- placing -------------------------------------------------------------------------


def test_an_order_reserves_name_and_space_and_has_an_invoice(order, node):
    assert order_book.state(order) == "unpaid"
    assert order.account.username == "alice"
    assert held() == (0, 1)
    assert order.bolt11.startswith("lnbcrt6300n1")
    assert order.amount_msat == 630_000


def test_the_description_carries_the_terms_and_no_name(order, node):
    _, call = next(call for call in node.calls if call[0] == "invoice")
    assert call["description"] == f"Web hosting: open 100 MB 3 months {order.token[:8]}"
    assert call["label"] == f"lightning-space-{order.token}"
    assert call["expiry"] == 15 * 60


def test_the_same_form_twice_is_one_order_with_one_invoice(this_shop, node):
    asked = wish(username="alice")
    first, second = orders.place(this_shop, asked), orders.place(this_shop, asked)
    assert first.token == second.token
    assert [method for method, _ in node.calls].count("invoice") == 1


@pytest.mark.each_database
def test_the_same_form_from_many_threads_is_one_order(this_shop, node):
    asked = wish(username="alice")
    this_shop = this_shop.for_worker()  # its calls to the node are not limited to three at once
    tokens, threads = [], []
    barrier = threading.Barrier(6)

    def click():
        barrier.wait()
        tokens.append(orders.place(this_shop, asked).token)

    for _ in range(6):
        threads.append(threading.Thread(target=click))
        threads[-1].start()
    for thread in threads:
        thread.join()
    assert len(tokens) == 6
    assert len(set(tokens)) == 1
    assert held() == (0, 1)


@pytest.mark.each_database
def test_the_second_click_of_a_double_click_does_not_spoil_the_order(this_shop, node):
    asked = wish(username="alice")
    node.faults.set("slow", "invoice", seconds=0.5, times=1)
    placed = []
    thread = threading.Thread(target=lambda: placed.append(orders.place(this_shop, asked)))
    thread.start()
    eventually(lambda: Order.select().first())
    impatient = dataclasses.replace(this_shop, node=Node("nowhere", seconds=1))
    with pytest.raises(NodeError):
        orders.place(impatient, asked)
    thread.join()
    assert placed[0].bolt11


def test_a_name_goes_to_one_of_two(this_shop, order):
    with pytest.raises(orders.NameTaken) as taken:
        orders.place(this_shop, wish(username="alice", browser="bob's browser"))
    assert taken.value.token is None
    assert held() == (0, 1)


def test_a_browser_that_holds_the_name_is_led_to_its_order(this_shop, order):
    with pytest.raises(orders.NameTaken) as taken:
        orders.place(this_shop, wish(username="alice", terms=YEAR))
    assert taken.value.token == order.token


@pytest.mark.each_database
def test_a_name_ordered_simultaneously_goes_to_exactly_one(this_shop):
    results, threads = [], []
    barrier = threading.Barrier(8)

    def run(number):
        barrier.wait()
        try:
            orders.place(this_shop, wish(username="alice", browser=f"browser {number}"))
            results.append("placed")
        except orders.NameTaken:
            results.append("taken")

    for number in range(8):
        threads.append(threading.Thread(target=run, args=(number,)))
        threads[-1].start()
    for thread in threads:
        thread.join()
    assert sorted(results) == ["placed"] + ["taken"] * 7
    assert held() == (0, 1)


@with_settings(CAPACITY_MB="392", JAIL_MB="146")
def test_sold_space_includes_the_jail(this_shop, wallet, worker):
    pay(orders.place(this_shop, wish()), wallet, worker)
    assert capacity.largest_mb(this_shop) == 0
    with pytest.raises(orders.SoldOut):
        orders.place(this_shop, wish())
    Server.update(capacity_mb=492).execute()
    assert capacity.largest_mb(this_shop) == 100
    assert orders.place(this_shop, wish()).bolt11


@with_settings(CAPACITY_MB="10000", UNPAID_PER_CLIENT="100")
def test_unpaid_orders_hold_no_space(this_shop):
    for _ in range(10):
        orders.place(this_shop, wish(terms=Terms(5000, 1, "months")))
    assert capacity.largest_mb(this_shop) == 10000 - 146
    assert orders.place(this_shop, wish()).bolt11


@with_settings(CAPACITY_MB="300", JAIL_MB="0", UNPAID_PER_CLIENT="5")
def test_paid_orders_open_over_the_capacity_and_selling_stops(this_shop, wallet, worker):
    placed = [orders.place(this_shop, wish()) for _ in range(5)]
    for order in placed:
        pay(order, wallet, worker)
    assert held() == (5, 0)
    assert capacity.largest_mb(this_shop) == 0
    with pytest.raises(orders.SoldOut):
        orders.place(this_shop, wish())
    assert "server 1: 200 MB are sold beyond CAPACITY_MB" in capacity.problems(this_shop)[0]
    for order in placed[:3]:
        accounts.close(reload(order).account_id)
        work(worker)
    assert capacity.problems(this_shop) == []
    assert orders.place(this_shop, wish()).bolt11


@with_settings(PANEL_SERVER_ID="1,2,3", CAPACITY_MB="200,200,0", JAIL_MB="0", UNPAID_PER_CLIENT="5")
def test_a_payment_opens_where_the_most_is_left(this_shop, wallet, worker):
    placed = [orders.place(this_shop, wish()) for _ in range(5)]
    assert {order.account.server_id for order in placed} == {1}
    for order in placed:
        pay(order, wallet, worker)
    assert [reload(order).account.server_id for order in placed] == [1, 2, 1, 2, 1]


@with_settings(CAPACITY_MB="300")
def test_a_shop_that_has_stopped_selling_still_opens_paid_orders(this_shop, order, wallet, worker):
    Server.update(capacity_mb=0).execute()
    pay(order, wallet, worker)
    assert held() == (1, 0)


@pytest.mark.each_database
def test_the_server_with_the_most_unsold_space_is_taken(this_shop):
    Server.create(id=2, capacity_mb=200_000)
    assert orders.place(this_shop, wish()).account.server_id == 2


def test_unpaid_orders_of_a_network_are_limited(this_shop, wallet, worker):
    this_shop = dataclasses.replace(
        this_shop, config=dataclasses.replace(this_shop.config, unpaid_per_client=2)
    )
    first = orders.place(this_shop, wish(username="alice"))
    orders.place(this_shop, wish(username="bobby"))
    with pytest.raises(orders.TooManyUnpaid):
        orders.place(this_shop, wish(username="carol"))
    assert orders.place(this_shop, wish())  # an order that holds no name is not limited
    assert orders.place(this_shop, wish(username="carol", client="192.0.2.2"))
    wallet.pay(first.bolt11)
    work(worker)
    assert orders.place(this_shop, wish(username="david"))


@pytest.fixture
def expire(this_shop, worker, time_machine):
    def expire():
        time_machine.forward(this_shop.config.invoice_minutes * 60 + 1)
        worker.tidy()

    return expire


def test_a_network_holds_a_name_once_a_day(this_shop, order, expire, time_machine):
    expire()
    again = orders.place(this_shop, wish(username="alice"))
    assert again.account.username is None
    bobs = orders.place(this_shop, wish(username="alice", client="192.0.2.2"))
    assert bobs.account.username == "alice"
    expire()
    # Cancelling the order, or another browser in the same network, does not change that.
    third = orders.place(this_shop, wish(username="alice", browser="bob's"))
    assert invoices.cancel(this_shop, third)
    assert orders.place(this_shop, wish(username="alice")).account.username is None
    time_machine.forward(24 * 60 * 60)
    assert orders.place(this_shop, wish(username="alice")).account.username == "alice"


@pytest.mark.each_database
def test_paying_an_order_whose_name_is_not_held_gets_it_if_free(
    this_shop, order, expire, wallet, worker
):
    expire()
    first, second = (orders.place(this_shop, wish(username="alice")) for _ in range(2))
    for each in (second, first):
        wallet.pay(each.bolt11)
        work(worker)
    names = [Order.get_by_id(each.token).account.username for each in (second, first)]
    assert names[0] == "alice"
    assert re.fullmatch("[a-z]{3}[0-9]{5}", names[1])
    assert not Order.select().where(Order.held_name.is_null(False), Order.paid_at > 0).exists()


def test_a_name_whose_invoice_could_not_be_made_was_not_held(this_shop, node):
    node.faults.set("refuse", "invoice", times=1)
    with pytest.raises(NodeError):
        orders.place(this_shop, wish(username="alice"))
    assert orders.place(this_shop, wish(username="alice")).account.username == "alice"


def test_the_clients_address_is_not_stored(this_shop, order):
    assert "192.0.2.1" not in Account.get().held_by + order.held_name


def test_a_node_that_is_down_leaves_nothing_reserved(this_shop, node):
    node.down()
    asked = wish(username="alice")
    with pytest.raises(NodeError):
        orders.place(this_shop, asked)
    assert Account.select().count() == 0
    assert held() == (0, 0)
    node.up()
    assert orders.place(this_shop, asked).bolt11


def test_an_invoice_made_by_a_lost_answer_is_deleted_at_the_node(
    this_shop, node, worker, time_machine
):
    node.faults.set("cut-after", "invoice", times=1)
    with pytest.raises(NodeError):
        orders.place(this_shop, wish())
    worker.tidy()
    label = order_book.label(this_shop, Order.get())
    assert this_shop.node.find_invoice(label) is None
    assert Order.get().released_at is not None


@pytest.mark.each_database
def test_an_invoice_that_comes_after_the_order_was_given_up_is_shown_to_nobody(this_shop, node):
    node.faults.set("slow", "invoice", seconds=0.5)
    failed = []

    def place():
        with pytest.raises(NodeError, match="given up"):
            orders.place(this_shop, wish(username="alice"))
        failed.append(True)

    thread = threading.Thread(target=place)
    thread.start()
    token = eventually(lambda: Order.select().first()).token
    invoices.give_up(token)
    thread.join()
    assert failed
    assert Order.get_by_id(token).bolt11 is None
    assert held() == (0, 0)


def test_invoices_that_few_wallets_can_pay_are_a_problem(this_shop, node, time_machine):
    def told() -> list[str]:
        orders.place(this_shop, wish())
        return node_problems.problems(this_shop)

    node.warnings = {"warning_mpp": "in parts"}
    assert told() == []
    node.warnings = {"warning_deadends": "dead ends", "warning_offline": "away"}
    [line] = told()
    assert "pay 630 sat and more, the node says (warning_deadends warning_offline)" in line
    node.warnings = {}
    assert told() == []


OPERATORS = {
    "PUBLIC_URL": "https://kiosk.shop.test",
    "PANEL_URL": "https://ivy.eu.shop.test:8080",
    "SERVER_HOSTS": "oak.shop.test",
    "MAIL_FROM": "hosting@Letters.shop.test",
    "SMTP_URL": "smtp://user:password@carrier.shop.test:587",
    "DATABASE_URL": "postgresql://user:password@tables1.shop.test,tables2.shop.test/shop",
    "FTP_ADDRESSES": "up.shop.test:2121",
    "RATE_LIMIT_STORAGE": "redis://counts.shop.test/1",
    "RESERVED_NAMES": "mine, other",
}
OPERATORS_NAMES = ("kiosk", "eu", "oak", "letters", "carrier", "counts", "tables1", "mine", "other")


@pytest.fixture
def with_hosts(env, this_shop, tmp_path):
    """A shop whose operator has hosts below BASE_DOMAIN."""
    return dataclasses.replace(this_shop, config=from_env(env | OPERATORS, tmp_path))


def test_a_name_of_the_operators_is_not_sold(with_hosts, subtests):
    for name in (*OPERATORS_NAMES, "www", "vps3"):
        with subtests.test(name), pytest.raises(orders.NameReserved):
            orders.place(with_hosts, wish(username=name))
    assert Account.select().count() == 0


def test_names_that_are_not_the_operators_hosts_are_sold(with_hosts):
    for name in ("ivy", "shop2x", "beech"):
        assert orders.place(with_hosts, wish(username=name)).account.username == name


def test_a_repeated_form_is_answered_though_its_name_was_reserved_since(this_shop, with_hosts):
    asked = wish(username="letters")
    assert orders.place(this_shop, asked) == orders.place(with_hosts, asked)


def test_a_hosting_keeps_a_name_reserved_since_and_it_is_a_problem(
    this_shop, with_hosts, wallet, worker
):
    order = orders.place(this_shop, wish(username="letters"))
    orders.place(this_shop, wish(username="mine"))  # stays unpaid
    pay_and_record(order, wallet, worker)
    payments.apply(with_hosts, order.token)
    assert Account.get(Account.opened_at.is_null(False)).username == "letters"
    [told] = hostnames.problems(with_hosts)
    assert told.startswith("account letters: its site letters.shop.test has ")
    assert hostnames.problems(this_shop) == []


def test_a_late_payment_does_not_get_a_name_reserved_since(this_shop, with_hosts, worker):
    order = orders.place(this_shop, wish(username="letters"))
    released_and_paid(order, this_shop, worker)
    payments.apply(with_hosts, order.token)
    assert re.fullmatch("[a-z]{3}[0-9]{5}", Account.get().username)


def test_an_order_without_a_held_name_does_not_get_one_reserved_since(
    this_shop, with_hosts, wallet, worker
):
    invoices.cancel(this_shop, orders.place(this_shop, wish(username="letters")))
    order = orders.place(this_shop, wish(username="letters"))
    pay_and_record(order, wallet, worker)
    payments.apply(with_hosts, order.token)
    assert re.fullmatch("[a-z]{3}[0-9]{5}", Account.get().username)


# -- payments ------------------------------------------------------------------------


@pytest.mark.each_database
def test_a_payment_is_recorded_once_however_often_it_is_reported(order, wallet, worker, this_shop):
    paid = pay_and_record(order, wallet, worker)
    assert paid.received_msat == 630_000
    payment = Payment(
        order_book.label(this_shop, order), paid.payment_hash, paid.pay_index, 1, paid.received_msat
    )
    assert payments.record(this_shop, paid.node_id, payment, 0) is False
    assert reload(order).paid_at == paid.paid_at


@pytest.mark.each_database
def test_the_cursor_moves_with_every_payment_even_of_other_programs(
    this_shop, node, wallet, worker
):
    foreign = this_shop.node.create_invoice("another program", 1000, "x", 600)
    wallet.pay(foreign.bolt11)
    record_payments(worker)
    assert Cursor.get().pay_index == 1
    assert Order.select().count() == 0


def test_a_payment_of_ours_without_an_order_goes_to_the_operator(this_shop, wallet, worker, runner):
    token = "f" * 32
    lost = this_shop.node.create_invoice(f"lightning-space-{token}", 5000, "x", 600)
    wallet.pay(lost.bolt11)
    record_payments(worker)
    assert Order.get_by_id(token).kind == "lost"
    assert lost.payment_hash in runner.invoke(args=["problems"]).output
    work(worker)
    assert Account.select().count() == 0


def test_an_order_takes_effect_once(order, wallet, worker, this_shop):
    pay_and_record(order, wallet, worker)
    assert payments.apply(this_shop, order.token) == order.account_id
    assert payments.apply(this_shop, order.token) is None
    account = Account.get()
    assert account.expires_at - account.opened_at == 90 * 86400
    assert account.value_msat == order.amount_msat
    assert held() == (1, 0)


@pytest.mark.each_database
def test_an_order_takes_effect_once_with_many_workers(order, wallet, worker, this_shop):
    pay_and_record(order, wallet, worker)
    opened = []
    threads = [
        threading.Thread(target=lambda: opened.append(payments.apply(this_shop, order.token)))
        for _ in range(5)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(opened, key=str) == sorted([order.account_id, *[None] * 4], key=str)
    assert held() == (1, 0)


def test_an_unpaid_order_takes_no_effect(order, this_shop):
    assert payments.apply(this_shop, order.token) is None
    assert Account.get().opened_at is None


def test_overpaid_money_buys_time(order, node, worker, this_shop):
    node.settle(order.payment_hash, received_msat=945_000)
    record_payments(worker)
    payments.apply(this_shop, order.token)
    account = Account.get()
    assert account.expires_at - account.opened_at == 135 * 86400


def test_a_price_that_rose_meanwhile_gives_the_duration_that_was_named(
    order, wallet, worker, this_shop
):
    pay_and_record(order, wallet, worker)
    dearer = dataclasses.replace(this_shop.prices, msat_per_day=50_000)
    payments.apply(dataclasses.replace(this_shop, prices=dearer), order.token)
    assert reload(order).bought_seconds == 90 * 86400


def test_a_node_that_was_restored_is_read_from_the_start(this_shop, node, wallet, worker, caplog):
    for _ in range(3):
        wallet.pay(orders.place(this_shop, wish()).bolt11)
    record_payments(worker)
    assert Cursor.get().pay_index == 3
    node.forget_newer_than(1)
    again = orders.place(this_shop, wish(username="bella"))
    node.settle(again.payment_hash)
    assert Cursor.get().pay_index == 3
    worker.tidy()
    assert "restored from an older copy" in caplog.text
    record_payments(worker)
    assert reload(again).paid_at is not None
    assert Order.select().where(Order.paid_at.is_null(False)).count() == 4


def test_another_node_is_followed_from_its_first_payment(this_shop, order, worker):
    payment = Payment(order_book.label(this_shop, order), order.payment_hash, 7, 1, 630_000)
    payments.record(this_shop, "another node", payment, 0)
    assert payments.cursor("another node").pay_index == 7
    assert payments.cursor(this_shop.node.node_id()).pay_index == 0


def test_a_payment_the_watcher_missed_is_found_by_its_label(order, wallet, worker):
    wallet.pay(order.bolt11)
    worker.tidy()
    assert order_book.state(reload(order)) == "paid"


def test_a_cursor_that_was_set_back_is_not_jumped_forward(this_shop, order):
    payment = Payment("foreign", "e" * 64, 51, 1, 1000)
    payments.record(this_shop, "node", payment, after=0)
    payments.follow_from_start(payments.cursor("node"))
    payments.record(this_shop, "node", payment, after=51)
    assert payments.cursor("node").pay_index == 0


def test_a_prefix_that_begins_with_ours_is_another_shops(this_shop):
    label = "lightning-space-two-" + "f" * 32
    assert not payments.record(this_shop, "node", Payment(label, "e" * 64, 1, 1, 1000), after=0)
    assert Order.select().count() == 0


@pytest.mark.each_database
def test_a_paid_order_without_a_place_gets_one_place_from_many_workers(order, this_shop, worker):
    released_and_paid(order, this_shop, worker)
    threads = [
        threading.Thread(target=payments.apply, args=(this_shop, order.token)) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert Account.select().count() == 1
    assert held() == (1, 0)


def test_an_invoice_that_came_while_tidying_is_not_deleted(this_shop, order, time_machine):
    stale = reload(order)
    stale.bolt11 = None
    time_machine.forward(payments.INTERRUPTED_SECONDS + 1)
    payments._look_up(this_shop, "node", stale, dict)
    assert this_shop.node.find_invoice(order_book.label(this_shop, order))
    assert order_book.state(reload(order)) == "unpaid"


# -- releasing -----------------------------------------------------------------------


def test_a_cancelled_order_frees_name_and_space(order, this_shop, node):
    assert invoices.cancel(this_shop, order)
    assert order_book.state(reload(order)) == "cancelled"
    assert Account.select().count() == 0
    assert held() == (0, 0)
    assert this_shop.node.find_invoice(order_book.label(this_shop, order)) is None


def test_a_paid_order_cannot_be_cancelled(order, this_shop, wallet, worker):
    wallet.pay(order.bolt11)
    assert invoices.cancel(this_shop, order) is False
    work(worker)
    assert Account.get().ready_at is not None


def test_an_expired_order_frees_its_name_once_the_node_has_deleted_its_invoice(
    order, node, worker, time_machine
):
    time_machine.forward(16 * 60)
    assert order_book.state(reload(order)) == "checking"
    node.down()
    with pytest.raises(NodeError):
        worker.tidy()
    assert held() == (0, 1)
    node.up()
    worker.tidy()
    assert order_book.state(reload(order)) == "expired"
    assert held() == (0, 0)
    assert Account.select().count() == 0


def look_twice(worker, time_machine) -> None:
    worker.tidy()
    time_machine.forward(60)
    worker.tidy()


@pytest.mark.parametrize("kind", ["cut-before", "cut-after"])
def test_an_expired_order_is_released_whether_the_node_heard_it_or_not(
    kind, order, worker, node, time_machine, runner
):
    node.faults.set(kind, "delinvoice", times=1)
    time_machine.forward(16 * 60)
    with pytest.raises(NodeError):
        worker.tidy()
    look_twice(worker, time_machine)
    assert order_book.state(reload(order)) == "expired"
    assert runner.invoke(args=["problems"]).output == ""


@pytest.mark.parametrize("kind", ["cut-before", "cut-after", "late"])
def test_an_order_is_cancelled_whenever_the_node_carries_it_out(
    kind, order, this_shop, worker, node, time_machine, tmp_path, runner
):
    node.faults.set(kind, "delinvoice", times=1)
    impatient = dataclasses.replace(this_shop, node=Node(str(tmp_path / "lightning-rpc"), 0.2))
    with pytest.raises(NodeError):
        invoices.cancel(impatient, order)
    assert order_book.state(reload(order)) == "checking"
    node.faults.clear()
    if kind == "late":
        eventually(lambda: this_shop.node.find_invoice(order_book.label(this_shop, order)) is None)
    look_twice(worker, time_machine)
    assert order_book.state(reload(order)) == "cancelled"
    assert held() == (0, 0)
    assert runner.invoke(args=["problems"]).output == ""


@pytest.mark.each_database
def test_a_payment_while_the_order_is_being_cancelled_counts(
    order, this_shop, worker, node, wallet
):
    node.faults.set("cut-before", "delinvoice", times=1)
    with pytest.raises(NodeError):
        invoices.cancel(this_shop, order)
    wallet.pay(order.bolt11)
    worker.tidy()
    assert order_book.state(reload(order)) == "paid"


@pytest.mark.parametrize("end", ["none", "cancelled", "expired"])
def test_a_payment_of_a_deleted_invoice_is_found_in_the_nodes_books(
    end, order, this_shop, worker, wallet, time_machine
):
    wallet.pay(order.bolt11)
    rpc = LightningRpc(this_shop.config.lightning_rpc)
    rpc.delinvoice(order_book.label(this_shop, order), "paid")
    if end == "cancelled":
        with pytest.raises(invoices.NotCertain):
            invoices.cancel(this_shop, order)
    if end == "expired":
        time_machine.forward(16 * 60)
    worker.tidy()
    assert reload(order).received_msat == order.amount_msat
    work(worker)
    assert Account.get().ready_at is not None


@pytest.mark.parametrize(
    ("end", "lacks_books"), [("none", False), ("none", True), ("expired", False), ("cancel", False)]
)
def test_an_order_whose_invoice_the_node_has_lost_is_released_and_listed(
    end, lacks_books, this_shop, worker, node, time_machine, runner
):
    copy = node.copied()
    order = orders.place(this_shop, wish())
    node.settle(order.payment_hash)  # the shop was not told
    node.restore(copy)
    if lacks_books:
        node.lose_plugin("bookkeeper")
    if end == "expired":
        time_machine.forward(16 * 60)
    if end == "cancel":
        with pytest.raises(invoices.NotCertain):
            invoices.cancel(this_shop, order)
    worker.tidy()
    assert order_book.state(reload(order)) == "checking"
    assert held() == (0, 1)
    time_machine.forward(60)
    worker.tidy()
    assert order_book.state(reload(order)) == "checking"
    assert held() == (0, 0)
    time_machine.forward(86401)
    worker.tidy()
    listed = f"payment {order.payment_hash}: 630000 msat, and the node cannot say whether they came"
    assert listed in runner.invoke(args=["problems"]).output
    time_machine.forward(payments.DOUBTFUL_SECONDS)
    worker.tidy()
    assert Order.select().count() == 0


def test_unreadable_books_do_not_hold_up_other_orders(order, this_shop, worker, node, time_machine):
    rpc = LightningRpc(this_shop.config.lightning_rpc)
    rpc.delinvoice(order_book.label(this_shop, order), "unpaid")
    time_machine.forward(1)
    other = orders.place(this_shop, wish())
    node.faults.set("cut-before", "bkpr-listincome")
    time_machine.forward(16 * 60)
    payments.tidy(this_shop, this_shop.node.node_id())
    assert [order_book.state(reload(each)) for each in (order, other)] == ["checking", "expired"]
    node.faults.clear()
    look_twice(worker, time_machine)
    assert reload(order).released_at is not None


def test_an_order_that_the_node_knows_again_can_be_paid(this_shop, worker, node):
    older = node.copied()
    order = orders.place(this_shop, wish())
    newer = node.copied()
    node.restore(older)
    worker.tidy()
    assert order_book.state(reload(order)) == "checking"
    node.restore(newer)
    worker.tidy()
    assert order_book.state(reload(order)) == "unpaid"


@pytest.mark.each_database
def test_a_payment_in_the_last_second_wins_over_the_expiry(order, wallet, worker, time_machine):
    wallet.pay(order.bolt11)
    time_machine.forward(16 * 60)
    worker.tidy()
    work(worker)
    assert order_book.state(reload(order)) == "paid"
    assert Account.get().ready_at is not None


def test_the_input_of_an_unpaid_order_is_deleted_after_a_day(order, worker, time_machine):
    time_machine.forward(16 * 60)
    worker.tidy()
    assert Order.select().count() == 1
    time_machine.forward(86401)
    worker.tidy()
    assert Order.select().count() == 0


def released_and_paid(order, this_shop, worker):
    """Pay an order after its release, which needs a restored node or database."""
    invoices.cancel(this_shop, order)
    payment = Payment(order_book.label(this_shop, order), order.payment_hash, 1, 1, 630_000)
    payments.record(this_shop, "node", payment, 0)


def test_a_payment_after_the_release_opens_the_hosting_again(order, this_shop, worker):
    released_and_paid(order, this_shop, worker)
    work(worker)
    account = Account.get()
    assert account.username == "alice"
    assert account.ready_at is not None
    assert held() == (1, 0)


def test_a_name_that_was_taken_meanwhile_is_replaced(order, this_shop, worker):
    released_and_paid(order, this_shop, worker)
    orders.place(this_shop, wish(username="alice", client="192.0.2.2"))
    work(worker)
    opened = Account.get(Account.opened_at.is_null(False))
    assert opened.username != "alice"
    assert reload(order).username == "alice"


# -- the shop ------------------------------------------------------------------------


@pytest.mark.each_database
def test_the_capacity_follows_the_settings(this_shop):
    more = dataclasses.replace(this_shop.config, capacity_mb={1: 5, 2: 7})
    shop.settle_in(dataclasses.replace(this_shop, config=more))
    assert {server.id: server.capacity_mb for server in Server} == {1: 5, 2: 7}
    fewer = dataclasses.replace(this_shop.config, capacity_mb={2: 7})
    shop.settle_in(dataclasses.replace(this_shop, config=fewer))
    assert {server.id: server.capacity_mb for server in Server} == {1: 0, 2: 7}


# -- tokens and terms that outlive the database ------------------------------------------


def test_a_token_knows_its_account_by_any_of_our_keys_and_no_other(this_shop, env, tmp_path, alice):
    tokens = {order_book.new_token(this_shop, alice) for _ in range(3)}
    assert len(tokens) == 3 and {len(token) for token in tokens} == {order_book.TOKEN_LENGTH}
    changed = env | {"SECRET_KEY": "k" * 32, "SECRET_KEY_FALLBACKS": env["SECRET_KEY"]}
    later = shop.build(from_env(changed, tmp_path))
    del changed["SECRET_KEY_FALLBACKS"]
    stranger = shop.build(from_env(changed, tmp_path))
    for token in tokens:
        assert order_book.is_for(this_shop, token, alice.id)
        assert order_book.is_for(later, token, alice.id)
        assert not order_book.is_for(this_shop, token, "0" * 16)
        assert not order_book.is_for(stranger, token, alice.id)
    assert not order_book.is_for(this_shop, order_book.new_token(this_shop, None), alice.id)


def test_the_terms_of_an_invoice_can_be_read_back(this_shop, order):
    columns = ("kind", "space_mb", "duration", "unit", "extra_addresses", "extra_domains")
    for facts in ({}, {"extra_domains": 3, "kind": "resize", "duration": None, "unit": None}):
        for name, value in facts.items():
            setattr(order, name, value)
        told = order_book.described(order_book.describe(order))
        assert [told.get(name) or None for name in columns] == [
            getattr(order, name) or None for name in columns
        ]
    assert order_book.described("Web hosting: open 100 MB 1 years 00000000") is None
    assert order_book.described(None) is None
