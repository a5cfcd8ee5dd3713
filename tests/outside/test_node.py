"""The node's client: what it asks of lightningd, and how it copes with bad answers."""

import logging
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from pyln.client import LightningRpc

from lightningspace.base import clock
from lightningspace.base.clock import DAY
from lightningspace.outside.node import Node, NodeError
from tests.conftest import SOON_SECONDS, eventually


@pytest.fixture
def lightning(node, tmp_path):
    return Node(str(tmp_path / "lightning-rpc"), seconds=3)


def test_asking_for_an_invoice_again_answers_the_same_one(lightning):
    first = lightning.create_invoice("label", 1000, "x", 600)
    assert lightning.create_invoice("label", 1000, "x", 600) == first


@pytest.mark.parametrize("active", [False, True])
def test_an_offer_switched_twice_at_once_is_switched(lightning, node, active):
    id = lightning.create_offer("label", "x", "y").id
    lightning.switch_offer(id, not active)
    node.faults.set("slow", "enableoffer" if active else "disableoffer", seconds=0.3)
    with ThreadPoolExecutor() as pool:
        assert list(pool.map(lightning.switch_offer, [id] * 2, [active] * 2)) == [True, True]
    assert lightning.find_offer(id).is_active == active


@pytest.mark.parametrize("msat", [0, -1, 1.5, 10**16, "1000"])
def test_odd_amounts_never_reach_the_node(lightning, node, msat):
    with pytest.raises(ValueError, match="whole number"):
        lightning.create_invoice("label", msat, "x", 600)
    assert node.calls == []


@pytest.mark.parametrize("seconds", [0, -1, 2**60])
def test_an_expiry_that_crashes_lightningd_never_reaches_it(lightning, node, seconds):
    with pytest.raises(ValueError, match="whole number"):
        lightning.create_invoice("label", 1000, "x", seconds)
    assert node.calls == []


def test_a_payment_is_waited_for(lightning, wallet):
    invoice = lightning.create_invoice("label", 1000, "x", 600)
    found = []
    thread = threading.Thread(target=lambda: found.append(lightning.wait_for_payment(0, 10)))
    thread.start()
    wallet.pay(invoice.bolt11)
    thread.join()
    assert found[0].payment_hash == invoice.payment_hash
    assert found[0].received_msat == 1000


def test_no_payment_in_time_is_none(lightning):
    assert lightning.wait_for_payment(0, 0) is None


def test_an_unpaid_invoice_is_deleted_and_stays_deleted(lightning):
    lightning.create_invoice("label", 1000, "x", 600)
    assert lightning.delete_unpaid_invoice("label")
    assert lightning.delete_unpaid_invoice("label") is None
    assert lightning.find_invoice("label") is None


def test_an_expired_invoice_is_deleted_as_well(lightning, time_machine):
    lightning.create_invoice("label", 1000, "x", 600)
    time_machine.forward(601)
    assert lightning.delete_unpaid_invoice("label")


def test_a_paid_invoice_is_never_deleted(lightning, wallet):
    wallet.pay(lightning.create_invoice("label", 1000, "x", 600).bolt11)
    assert lightning.delete_unpaid_invoice("label") is False
    is_known, payment = lightning.look_up("label")
    assert (is_known, payment.received_msat) == (True, 1000)


def test_income_of_deleted_invoices_is_known_too(lightning, wallet, node):
    invoice = lightning.create_invoice("label", 1000, "x", 600)
    wallet.pay(invoice.bolt11)
    LightningRpc(str(node._node.path)).delinvoice("label", "paid")
    paid_at = clock.now()
    assert lightning.look_up("label") == (False, None)
    [(payment_hash, (msat, at))] = lightning.income(paid_at - 60).items()
    assert (payment_hash, msat) == (invoice.payment_hash, 1000)
    assert paid_at - 60 < at <= paid_at
    assert lightning.income(paid_at + 60) == {}
    node.lose_plugin("bookkeeper")
    assert lightning.income(0) is None


def test_a_payment_is_known_by_its_index_and_its_hash(lightning, wallet, node):
    first, second = (lightning.create_invoice(label, 1000, "x", 600) for label in ("a", "b"))
    assert not lightning.has_payment(1, first.payment_hash)
    wallet.pay(first.bolt11)
    assert lightning.has_payment(1, first.payment_hash)
    assert not lightning.has_payment(1, second.payment_hash)
    wallet.pay(second.bolt11)
    LightningRpc(str(node._node.path)).delinvoice("a", "paid")
    assert not lightning.has_payment(1, first.payment_hash)


def test_autoclean_of_paid_invoices_is_off_by_default(lightning):
    assert lightning.deletes_paid_invoices() is False


def test_a_stopped_node_is_an_error_that_says_so(lightning, node):
    node.down()
    with pytest.raises(NodeError, match="Connection refused"):
        lightning.node_id()


def test_a_missing_socket_is_an_error_that_says_so(tmp_path):
    with pytest.raises(NodeError, match="No such file"):
        Node(str(tmp_path / "nothing"), seconds=1).node_id()


@pytest.mark.parametrize("kind", ["cut-before", "cut-after"])
def test_a_cut_connection_is_an_error_that_says_so(lightning, node, kind):
    node.faults.set(kind)
    with pytest.raises(NodeError, match="closed the connection"):
        lightning.node_id()


def test_messages_of_the_node_are_not_repeated(lightning, node):
    node.faults.set("refuse", message="preimage 00112233")
    with pytest.raises(NodeError) as error:
        lightning.node_id()
    assert "preimage" not in str(error.value)


def test_a_frozen_node_is_given_up_in_time(node, tmp_path):
    node.faults.set("frozen")
    started = time.monotonic()
    with pytest.raises(NodeError, match="too long"):
        Node(str(tmp_path / "lightning-rpc"), seconds=0.3).node_id()
    assert time.monotonic() - started < SOON_SECONDS


def test_a_frozen_node_holds_up_a_limited_number_of_calls(node, tmp_path):
    node.faults.set("frozen")
    lightning = Node(str(tmp_path / "lightning-rpc"), seconds=20, calls_at_once=3)

    def hang():
        with pytest.raises(NodeError):
            lightning.node_id()

    threads = [threading.Thread(target=hang) for _ in range(3)]
    for thread in threads:
        thread.start()
    eventually(lambda: len(node.calls) == 3)
    started = time.monotonic()
    with pytest.raises(NodeError, match="too many calls"):
        lightning.node_id()
    assert time.monotonic() - started < SOON_SECONDS
    node.faults.clear()
    for thread in threads:
        thread.join()


def test_the_log_has_no_preimage(lightning, wallet, caplog):
    caplog.set_level(logging.DEBUG)
    invoice = lightning.create_invoice("label", 1000, "x", 600)
    caplog.clear()
    entry = lightning._entry("label")
    assert entry["bolt11"] == invoice.bolt11
    assert caplog.text == ""


def test_payments_are_read_from_a_day_on(lightning, node, time_machine):
    labels = [f"label {number}" for number in range(40)]
    for label in labels:
        lightning.create_invoice(label, 1000, "x", 600)
        node.settle(label)
        time_machine.forward(DAY)
    node.calls.clear()
    since = int(time_machine.moment) - 10 * DAY
    assert [payment.label for payment in lightning.payments(since)] == labels[30:]
    assert len(node.calls) < 25  # rather than one for each payment ever made
    assert [payment.label for payment in lightning.payments(0)] == labels
    assert list(lightning.payments(int(time_machine.moment))) == []
