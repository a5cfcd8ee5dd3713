"""The operator's commands for refunds: what they print, and what they refuse."""

import pytest

from lightningspace.base.models import Account, Order
from lightningspace.base.money_models import Refund
from lightningspace.rules import accounts, payments, payouts, refunds
from lightningspace.rules.refunds import State
from tests.conftest import record_payments
from tests.operator.test_pages import log_in, press

LOST = {"kind": "lost", "placed_at": 1, "expires_at": 1, "node_id": "n", "pay_index": 1}
LOST |= {"received_msat": 7000, "paid_at": 1, "payment_hash": "a" * 64, "token": "0" * 32}


@pytest.fixture
def flask(runner):
    """Run a command; return its exit code and output."""

    def flask(*arguments: str) -> tuple[int, str]:
        result = runner.invoke(args=list(arguments))
        return result.exit_code, result.output

    return flask


def test_a_refund_is_offered_seen_and_paid(this_shop, flask, wallet):
    order = Order.create(**LOST)
    assert flask("refunds") == (0, "")
    code, said = flask("refund", "offer", order.payment_hash, "--msat", "5000")
    refund = Refund.get()
    assert code == 0 and f"{refund.id}: 5000 msat, nobody has claimed it yet" in said
    assert "http://localhost/refund" in said
    assert flask("refund", "offer", order.token)[0] == 1
    refunds.claim(this_shop, order, "alice@wallet.example")
    Refund.update(problem="unreachable", claimed_at=1).execute()
    said = flask("refunds")[1]
    assert "to alice@wallet.example" in said and refunds.IN_WORDS["unreachable"] in said
    assert refund.id in flask("problems")[1]

    refunds.claim(this_shop, order, wallet.offer("any", "mine")["bolt12"])
    payouts.pay_due(this_shop)
    assert flask("refunds") == (0, "")
    said = flask("refunds", "--since", "2020-01-01")[1]
    assert Refund.get().preimage in said
    assert said.endswith("5000 msat paid back, 0 msat of fees\n")
    assert flask("refunds", "--since", "2100-01-01")[1].startswith("0 msat")


def test_the_operator_approves_or_refuses_with_a_reason(this_shop, flask):
    order = Order.create(**LOST)
    refund = refunds.claim(this_shop, order, "alice@wallet.example")
    assert "waits for your word" in flask("problems")[1]
    for wrong in (("refuse", refund.id, " "), ("approve", "x"), ("offer", "x"), ("close", "x")):
        code, said = flask("refund", *wrong)
        assert code == 1 and said.startswith("Error: ")
    assert "is paid in a moment" in flask("refund", "approve", refund.id)[1]
    assert "refused" in flask("refund", "refuse", refund.id, "Not\nyours.")[1]
    assert Refund.get().reason == "Not yours."
    assert flask("refund", "approve", refund.id)[0] == 1


def test_the_operators_pages_do_what_the_commands_do(this_shop, client):
    order = Order.create(**LOST)
    operator, page = log_in(client, this_shop), f"/operator/orders/{order.token}"
    assert "Nothing waits" in operator.get("/operator/refunds").text
    for _ in range(2):
        assert press(operator, page, f"{page}/refund").status_code in (303, 409)
    assert Refund.select().count() == 1
    assert refunds.state(refunds.claim(this_shop, order, "alice@wallet.example")) == State.DUE
    assert order.token in operator.get("/operator/refunds").text
    assert press(operator, page, f"{page}/refund/refuse", reason=" ").status_code == 400
    press(operator, page, f"{page}/refund/refuse", reason="No.")
    assert "No." in operator.get(page).text

    Refund.delete().execute()
    refunds.claim(this_shop, order, "alice@wallet.example")
    assert "alice@wallet.example" in operator.get(page).text
    press(operator, page, f"{page}/refund/approve")
    assert refunds.state(Refund.get()) == State.DUE
    stranger = client.application.test_client()
    assert stranger.post(f"{page}/refund/approve").status_code in (303, 400, 404)


def test_a_blocked_hosting_is_closed_and_paid_back(this_shop, flask, order, wallet, worker):
    wallet.pay(order.bolt11)
    record_payments(worker)
    payments.apply(this_shop, order.token)
    assert "block it first" in flask("refund", "close", "alice")[1]
    accounts.block(Account.get().id, "It sent spam.")
    received_msat = Order.get().received_msat
    assert (
        f"{received_msat} msat, nobody has claimed it yet" in flask("refund", "close", "alice")[1]
    )
    assert Account.get().closing_at
    assert "closed already" in flask("refund", "close", "alice")[1]
