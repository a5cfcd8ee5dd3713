"""The worker: its steps, and what it does when something fails."""

import logging
import threading

import pytest
from pyln.client import LightningRpc

from lightningspace.base import clock
from lightningspace.base.models import Account, Order, Service, transaction
from lightningspace.base.prices import DAY
from lightningspace.outside.node import NodeError
from lightningspace.panel import reconcile
from lightningspace.rules import accounts, clock_watch, node_problems, orders, progress, services
from lightningspace.worker import Worker, warn_of_settings
from tests.conftest import eventually, record_payments, wish, with_settings


@pytest.fixture
def running(worker, monkeypatch):
    """The worker in a thread, as the command runs it, but with shorter intervals."""
    monkeypatch.setattr("lightningspace.worker.LOOK_SECONDS", 0.2)
    monkeypatch.setattr("lightningspace.worker.QUEUE_SECONDS", 0.5)
    thread = threading.Thread(target=worker.run)
    thread.start()
    yield worker
    worker.stop()
    thread.join(20)
    assert not thread.is_alive()


def ready_accounts() -> int:
    return Account.select().where(Account.ready_at.is_null(False)).count()


@pytest.mark.each_database
@with_settings(WORKER_THREADS="4")
def test_many_orders_paid_at_once_are_all_opened_once(running, this_shop, wallet, panel):
    placed = [orders.place(this_shop, wish()) for _ in range(6)]
    for order in placed:
        wallet.pay(order.bolt11)
    eventually(lambda: ready_accounts() == 6)
    assert len(panel.records("client")) == 6
    assert len(panel.records("mailbox")) == 6


@pytest.mark.each_database
def test_orders_are_opened_once_at_a_panel_that_is_slow_and_restarts(
    panel, running, this_shop, wallet
):
    """Like a real panel under load: client_add slows other calls, and each site restarts it."""
    panel.delays["client_add"], panel.slowed_seconds = 0.5, 0.1
    panel.queue_seconds, panel.job_seconds = 0.02, {"shell": 0.2}
    panel.run_seconds, panel.restarts = 1, True
    for _ in range(4):
        wallet.pay(orders.place(this_shop, wish()).bolt11)
    eventually(lambda: ready_accounts() == 4)
    for kind in ("client", "site", "ftp", "shell", "database", "mail_domain", "mailbox"):
        assert len(panel.records(kind)) == 4, kind
    assert progress.problems() == []

    def are_live() -> bool:
        rows = list(Service.select())
        return all(
            progress.Summary(
                services.of_account(account.id), progress.Progress(account, rows)
            ).is_at_rest
            for account in Account.select()
        )

    eventually(are_live)
    for row in Service.select():
        assert panel.is_live(row.kind, row.panel_id)


@pytest.mark.each_database
def test_unfinished_work_is_picked_up_at_the_start(order, wallet, worker, panel):
    wallet.pay(order.bolt11)
    worker.follow_payments(seconds=0)
    thread = threading.Thread(target=worker.run)
    thread.start()
    eventually(lambda: ready_accounts() == 1)
    worker.stop()
    thread.join(20)


def test_a_node_that_comes_up_late_is_followed(running, order, node, wallet, caplog):
    node.down()
    eventually(lambda: "payments: the node" in caplog.text)
    node.up()
    wallet.pay(order.bolt11)
    eventually(lambda: ready_accounts() == 1)


def test_a_node_that_is_down_is_asked_again_and_reported_once(worker, node, caplog, monkeypatch):
    monkeypatch.setattr("lightningspace.worker.NODE_RETRY_SECONDS_MAX", 0.5)
    node.faults.set("refuse", "getinfo")
    watcher = threading.Thread(target=worker._watch)
    watcher.start()
    eventually(lambda: len(node.calls) == 5)  # after 0.25 and three times 0.5 seconds
    worker.stop()
    watcher.join(5)
    assert caplog.text.count("payments: the node refused getinfo") == 1


def pay_orders(this_shop, wallet, count: int) -> None:
    for _ in range(count):
        wallet.pay(orders.place(this_shop, wish()).bolt11)


def paid_orders() -> int:
    return Order.select().where(Order.paid_at.is_null(False)).count()


def restore(node, copy, worker, caplog) -> None:
    node.restore(copy)


def restart_restored(node, copy, worker, caplog) -> None:
    node.down()
    eventually(lambda: "payments: the node" in caplog.text)
    node.restore(copy)
    node.up()


def restore_while_it_is_down(node, copy, worker, caplog) -> None:
    worker.stop()
    node.restore(copy)


@pytest.mark.parametrize("restoring", [restore, restart_restored, restore_while_it_is_down])
def test_a_restored_node_that_counts_beyond_the_cursor_costs_no_payment(
    restoring, running, this_shop, node, wallet, panel, caplog
):
    panel.down()  # payments are recorded, but nothing can be made
    pay_orders(this_shop, wallet, 2)
    copy = node.copied()
    pay_orders(this_shop, wallet, 2)
    eventually(lambda: paid_orders() == 4)
    restoring(node, copy, running, caplog)
    pay_orders(this_shop, wallet, 4)
    if restoring is restore_while_it_is_down:
        record_payments(Worker(this_shop))
    eventually(lambda: paid_orders() == 8)
    assert caplog.text.count("restored from an older copy") == 1
    [told] = node_problems.problems(this_shop)
    assert "compare with `lightning-cli bkpr-listincome`" in told


@pytest.mark.each_database
def test_paid_invoices_that_the_node_has_deleted_are_reported_once(
    this_shop, node, wallet, worker, caplog
):
    pay_orders(this_shop, wallet, 2)
    record_payments(worker)
    for invoice in LightningRpc(this_shop.config.lightning_rpc).listinvoices()["invoices"]:
        LightningRpc(this_shop.config.lightning_rpc).delinvoice(invoice["label"], "paid")
    for _ in range(2):
        worker.tidy()
        record_payments(worker)
    assert caplog.text.count("paid invoices were cleaned away") == 1
    pay_orders(this_shop, wallet, 1)
    record_payments(worker)
    assert paid_orders() == 3


@pytest.mark.each_database
def test_a_frozen_panel_does_not_keep_payments_from_being_recorded(
    running, this_shop, panel, wallet
):
    panel.faults.set("frozen")
    placed = [orders.place(this_shop, wish()) for _ in range(3)]
    for order in placed:
        wallet.pay(order.bolt11)
    eventually(lambda: Order.select().where(Order.applied_at.is_null(False)).count() == 3)
    assert ready_accounts() == 0
    panel.faults.clear()


@pytest.mark.each_database
def test_a_fault_of_ours_is_logged_and_not_tried_again_at_once(
    worker, order, wallet, caplog, this_shop
):
    wallet.pay(order.bolt11)
    worker.follow_payments(seconds=0)
    # A row that should not exist makes the payment fail to take effect.
    Service.create(account=order.account, kind="site", name="alice.shop.test")
    worker.look()
    eventually(lambda: "_open failed" in caplog.text)
    eventually(lambda: not worker._busy)
    worker.look()
    assert not worker._busy
    assert caplog.text.count("_open failed") == 1
    [line] = [line for line in caplog.messages if line.startswith("_open failed: ")]
    assert "unique constraint" in line.lower() and "\n" not in line


def autoclean(node) -> None:
    node.autocleans_paid_invoices = True


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (autoclean, "autoclean deletes paid invoices"),
        (lambda node: node.lose_plugin("bookkeeper"), "no plugin `bookkeeper`"),
        (lambda node: node.lose_plugin("offers"), "no plugin `offers`"),
        (lambda node: node.lose_plugin("autoclean"), None),
    ],
)
def test_changes_at_a_running_node_are_reported_once_and_listed(
    change, fault, worker, node, runner, caplog
):
    worker.tidy()
    assert runner.invoke(args=["problems"]).output == ""
    change(node)
    for _ in range(2):
        worker.tidy()
    assert [fault in line for line in caplog.messages] == ([True] if fault else [])
    assert (fault or "") in runner.invoke(args=["problems"]).output


def test_a_node_that_does_not_answer_is_listed(node, runner):
    node.down()
    assert "Connection refused" in runner.invoke(args=["problems"]).output


def test_a_node_that_is_down_is_a_fault_in_words(worker, node):
    node.down()
    with pytest.raises(NodeError, match="Connection refused"):
        worker.follow_payments(seconds=0)


def test_nothing_secret_is_logged(running, this_shop, wallet, node, caplog):
    caplog.set_level(logging.INFO)
    order = orders.place(
        this_shop, wish(username="alice", password="correct horse", email="alice@example.org")
    )
    preimage = wallet.pay(order.bolt11)["payment_preimage"]
    eventually(lambda: ready_accounts() == 1)
    assert "opened" in caplog.text
    for secret in ("correct horse", preimage, "alice@example.org", "192.0.2.1", order.token):
        assert secret not in caplog.text


@pytest.mark.each_database
def test_a_payment_that_waits_for_a_deletion_does_not_hold_it_up(
    worker, this_shop, alice, wallet, panel
):
    buyer = orders.Buyer("alice's browser", "a form")
    wallet.pay(orders.extend(this_shop, alice.id, 30, "days", buyer).bolt11)
    worker.follow_payments(seconds=0)
    accounts.close(alice.id)
    Account.update(deleting_at=clock.now()).execute()
    busy = threading.Event()
    keep_busy(worker, busy, *worker.pools)
    worker.look()
    busy.set()
    eventually(lambda: Account.get_or_none(Account.id == alice.id) is None)


def keep_busy(worker, until: threading.Event, *pools: str) -> None:
    for name in pools:
        for _ in range(worker.shop.config.worker_threads):  # so that no thread is left
            worker.pools[name].submit(until.wait)


@pytest.mark.each_database
def test_paid_order_waits_for_no_change_and_no_upload(worker, order, wallet):
    busy = threading.Event()
    keep_busy(worker, busy, reconcile.CHANGE, reconcile.UPLOAD)
    wallet.pay(order.bolt11)
    worker.follow_payments(seconds=0)
    worker.look()
    try:
        eventually(lambda: ready_accounts() == 1)
    finally:
        busy.set()


@pytest.mark.each_database
def test_change_waits_for_no_upload(worker, alice, panel):
    busy = threading.Event()
    keep_busy(worker, busy, reconcile.UPLOAD, reconcile.OPENING)
    accounts.suspend(alice.id)
    worker.look()
    try:
        eventually(lambda: panel.records("site")[0]["active"] == "n")
    finally:
        busy.set()


# -- the server's settings ------------------------------------------------------------------


def warnings_of(this_shop, caplog) -> str:
    caplog.clear()
    warn_of_settings(this_shop)
    return "\n".join(record.message for record in caplog.records)


def test_a_server_with_default_settings_is_reported_as_too_open(this_shop, panel, caplog):
    told = warnings_of(this_shop, caplog)
    assert "set “.htaccess AllowOverride” to None" in told
    assert "take /tmp out of “PHP open_basedir”" in told
    assert "Test webserver configuration on restart" in told
    assert "Security level" not in told and "nginx" not in told


def test_a_server_that_is_set_as_documented_is_not_reported(this_shop, panel, caplog):
    panel.web_config |= {
        "htaccess_allow_override": "None",
        "php_open_basedir": "[website_path]/web:/usr/share/php",
        "check_apache_config": "n",
    }
    assert warnings_of(this_shop, caplog) == ""


@with_settings(WALLS="nginx")
def test_a_web_server_that_does_not_match_walls_is_a_fault(this_shop, panel, caplog):
    assert "WALLS=nginx is wrong" in warnings_of(this_shop, caplog)


def test_settings_that_the_panel_does_not_show_are_no_fault(this_shop, panel, caplog):
    panel.forbidden = {"server_get"}
    caplog.set_level(logging.WARNING)
    assert warnings_of(this_shop, caplog) == ""


@pytest.mark.each_database
def test_a_clock_that_was_ahead_is_set_back_before_money_counts(
    time_machine, alice, running, this_shop, wallet
):
    ends_at = alice.expires_at
    # Wait for the calendar's first pass, which must not run with the clock ahead.
    eventually(lambda: Account.get().calendar_at > alice.calendar_at)
    # The account seems to have been set up then; the worker sees that together with the clock.
    names = ("ready_at", "valued_at", "expires_at")
    ahead = {name: getattr(alice, name) + 200 * DAY for name in names}
    with transaction():
        time_machine.forward(200 * DAY)
        clock_watch.wake()
        Account.update(ahead).execute()
    time_machine.forward(-200 * DAY)
    order = orders.extend(this_shop, alice.id, 1, "days", orders.Buyer("browser", "form"))
    wallet.pay(order.bolt11)
    eventually(lambda: Order.get_by_id(order.token).applied_at)
    assert Account.get().expires_at == pytest.approx(ends_at + DAY, abs=2)
