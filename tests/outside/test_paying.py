"""Payments by the node, and what it says of them."""

import pytest

from lightningspace.outside import paying
from lightningspace.outside.node import NodeError, NodeRefused, NodeUnreached
from lightningspace.outside.paying import COMPLETE, FAILED, PENDING, PayingNode
from tests.conftest import eventually


@pytest.fixture
def lightning(node, tmp_path):
    return PayingNode(str(tmp_path / "lightning-rpc"), seconds=3)


def asked_by(wallet, msat=5000, **more):
    return wallet.invoice(msat, more.pop("label", "a refund"), "x", **more)["bolt11"]


def test_an_invoice_of_somebody_else_is_read_and_paid_once(lightning, node, wallet):
    text = asked_by(wallet)
    asked = lightning.read(text)
    assert (asked.msat, asked.payee, asked.prefix) == (5000, node.wallet_id, "bcrt")
    assert lightning.sent(asked.payment_hash) is None

    lightning.pay(text, 5000)
    sent = lightning.sent(asked.payment_hash)
    assert (sent.status, sent.fee_msat) == (COMPLETE, 0)
    assert wallet.listinvoices()["invoices"][0]["status"] == "paid"
    with pytest.raises(NodeRefused):
        lightning.pay(text, 5000)
    assert dict(node.calls)["xpay"]["maxfee"] == paying.FEE_MSAT


def test_an_offer_of_somebody_else_gives_an_invoice_of_the_amount(lightning, wallet):
    offer = wallet.offer("any", "mine")["bolt12"]
    assert lightning.read(offer).offer_id
    text = lightning.fetch_invoice(offer, 7001)
    asked = lightning.read(text)
    assert asked.msat == 7001
    lightning.pay(text, 7001)
    assert lightning.sent(asked.payment_hash).status == COMPLETE


def test_text_that_is_no_invoice_is_read_as_none(lightning):
    for text in ("", "hello", "lno1qq", "lnbcrt1", "\x00", "⚡" * 100):
        assert lightning.read(text) is None


def test_the_outcome_of_a_payment_is_read_from_the_node_alone(lightning, node, wallet, subtests):
    for number, (fault, error, before, arrives, after) in enumerate(
        (
            ("cut-after", NodeError, COMPLETE, None, COMPLETE),  # paid, and the line was cut
            ("cut-before", NodeError, None, None, None),
            ("refuse", NodeRefused, None, None, None),
            (
                "hold",
                NodeRefused,
                PENDING,
                True,
                COMPLETE,
            ),  # the node says that it failed, and then it arrives
            ("hold", NodeRefused, PENDING, False, FAILED),
        )
    ):
        with subtests.test(fault, arrives=arrives):
            text = asked_by(wallet, label=str(number))
            payment_hash = lightning.read(text).payment_hash
            node.holds_payments = fault == "hold"
            if fault != "hold":
                node.faults.set(fault, "xpay", times=1)
            with pytest.raises(error):
                lightning.pay(text, 5000)
            sent = lightning.sent(payment_hash)
            assert (sent and sent.status) == before
            if arrives is not None:
                node.end_held(payment_hash, arrives)
            sent = lightning.sent(payment_hash)
            assert (sent and sent.status) == after


def test_a_node_that_is_down_has_not_paid(lightning, node, wallet):
    text = asked_by(wallet)
    node.down()
    with pytest.raises(NodeUnreached):
        lightning.pay(text, 5000)
    node.up()
    node.faults.set("late", "xpay", times=1)
    impatient = PayingNode(lightning._rpc_path, seconds=0.2 - paying.PAY_SECONDS)
    with pytest.raises(NodeError) as raised:
        impatient.pay(text, 5000)
    assert not isinstance(raised.value, NodeUnreached)
    node.faults.clear()
    payment_hash = lightning.read(text).payment_hash
    assert eventually(lambda: lightning.sent(payment_hash)).status == COMPLETE


def test_notes_at_the_node_are_found_below_their_key(lightning):
    assert lightning.noted("a", "b") == {}
    lightning.note("a", "b", "one", text="1")
    lightning.note("a", "b", "two", text="⚡")
    lightning.note("a", "b", "two", text="2")
    lightning.note("a", "c", text="no")
    assert lightning.noted("a", "b") == {"one": "1", "two": "2"}
    assert lightning.noted("a") == {"c": "no"}


def test_payments_sent_since_a_restored_copy_are_forgotten(lightning, node, wallet):
    copy, text = node.copied(), asked_by(wallet)
    lightning.pay(text, 5000)
    node.restore(copy)
    assert lightning.sent(lightning.read(text).payment_hash) is None
