"""The pages of refunds: who gets to them, and what they say."""

import secrets

import pytest
from pyln.client import LightningRpc

from lightningspace.base.models import Account, Order
from lightningspace.base.money_models import Refund
from lightningspace.outside.node import NodeError
from lightningspace.rules import payments, payouts, refunds, tokens
from tests.conftest import csrf_token, enter, place_order, record_payments, with_settings

MSAT = 21_000


@pytest.fixture
def lost(this_shop, tmp_path, wallet, worker):
    """A payment without an order: its row, and what the payer's wallet keeps."""
    rpc = LightningRpc(str(tmp_path / "lightning-rpc"))
    made = rpc.invoice(MSAT, this_shop.config.label_prefix + secrets.token_hex(16), "x", 900)
    preimage = wallet.pay(made["bolt11"])["payment_preimage"]
    record_payments(worker)
    return Order.get(), {"invoice": made["bolt11"], "preimage": preimage}


def send(client, to="/refund", **typed):
    token = csrf_token(client.get(to.removesuffix("/key")).text)
    return client.post(to, data={"csrf_token": token, **typed})


def asked_by(wallet, msat=MSAT):
    return wallet.invoice(msat, secrets.token_hex(4), "x", 3600)["bolt11"]


def test_whoever_proves_a_lost_payment_gets_it_back_and_a_proof(this_shop, client, lost, wallet):
    order, proof = lost
    answer = send(client, **proof)
    page = f"/refund/{order.token}"
    assert (answer.status_code, answer.location) == (303, page)
    assert "You get 21 sat back" in client.get(page).text
    wrong = send(client, page, destination=asked_by(wallet, MSAT + 1))
    assert wrong.status_code == 400 and refunds.IN_WORDS["amount"] in wrong.text
    assert send(client, page, destination=asked_by(wallet)).location == page
    assert "21 sat waits for approval" in client.get(page).text
    assert client.get(f"{page}/status").headers["HX-Redirect"] == page

    refunds.approve(Refund.get().id)
    assert client.get(f"{page}/status").status_code == 204
    payouts.pay_due(this_shop)
    shown = client.get(page).text
    assert "21 sat paid back" in shown and Refund.get().preimage in shown
    assert "csrf_token" not in shown
    stranger = client.application.test_client()
    assert stranger.get(page).location == stranger.get(f"{page}x").location == "/refund"
    assert Refund.get().preimage not in stranger.get(f"/orders/{order.token}").text


def test_a_wrong_proof_is_refused(client, lost, node, subtests):
    order, proof = lost
    page = f"/refund/{order.token}"
    cases = {
        "nothing": ({}, 400),
        "the payment hash": (proof | {"invoice": order.payment_hash}, 400),
        "another preimage": (proof | {"preimage": "0" * 64}, 400),
        "a long text": (proof | {"invoice": "lnbc1" * 1000}, 400),
        "a longer one": (proof | {"invoice": "lnbc1" * 2_000_000}, 413),
    }
    for name, (typed, status) in cases.items():
        with subtests.test(name):
            assert send(client, **typed).status_code == status
            token = csrf_token(client.get("/refund").text)
            claim = client.post(page, data={"csrf_token": token, "destination": "a@b.example"})
            assert client.get(page).location == claim.location == "/refund"
    with subtests.test("a node that is down"):
        node.down()
        answer = send(client, **proof)
        assert (answer.status_code, NodeError.text in answer.text) == (503, True)
    assert Refund.select().count() == 0


def test_the_browser_that_ordered_and_the_access_key_prove_it_too(
    this_shop, client, wallet, worker
):
    place_order(client, username="alice")
    order = Order.get()
    preimage = wallet.pay(order.bolt11)["payment_preimage"]
    key = f"{tokens.challenge(this_shop, order)}:{preimage}"
    record_payments(worker)
    page = f"/refund/{order.token}"
    assert "bought what it was for" in client.get(page).text
    refunds.offer(order.token, 5000)
    assert f'href="{page}"' in client.get(f"/orders/{order.token}").text
    assert "You get 5 sat back" in client.get(page).text

    stranger = client.application.test_client()
    shown = stranger.get(f"/orders/{order.token}").text
    assert "5 sat of this payment" in shown
    assert stranger.get("/refund/key").location == "/refund"
    assert send(stranger, "/refund/key", receipt=key[:-64] + "0" * 64).status_code == 400
    assert send(stranger, "/refund/key", receipt=key).location == page
    assert send(stranger, page, destination="Alice@Wallet.Example").location == page
    assert "alice@wallet.example" in client.get(page).text
    Refund.update(problem="unreachable").execute()
    assert refunds.IN_WORDS["unreachable"] in client.get(page).text
    refunds.refuse(Refund.get().id, "<b>No</b>")
    assert "&lt;b&gt;No" in client.get(page).text
    assert "alice@wallet.example" not in client.get(page).text


def test_the_list_of_payments_leads_to_refunds(this_shop, client, order, wallet, worker):
    wallet.pay(order.bolt11)
    record_payments(worker)
    payments.apply(this_shop, order.token)
    enter(client, Account.get())
    assert "/refund" not in client.get("/account/payments").text
    refunds.offer(order.token, 1500)
    shown = client.get("/account/payments").text
    assert "1.5 sat of it can be paid back" in shown
    assert f'href="/refund/{order.token}"' in shown


@with_settings(REFUNDS_LIMIT="3 per hour")
def test_attempts_to_prove_a_payment_are_limited(client, lost):
    typed = lost[1] | {"preimage": "0" * 64}
    assert [send(client, **typed).status_code for _ in range(4)] == [400, 400, 400, 429]
