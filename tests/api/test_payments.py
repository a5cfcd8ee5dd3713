"""Orders and payments over the API: lists, and cancelling."""

import pytest

from lightningspace.base import clock
from lightningspace.base.models import Order
from lightningspace.rules import refunds
from tests.api.programs import HOUR, paid, problem


def test_an_unpaid_order_is_listed_and_cancelled(owner, wallet):
    invoice = owner.post("/hosting/extend", HOUR).json["invoice"]
    (order,) = owner.get("/hosting/orders").json["orders"]
    assert (order["kind"], order["state"], order["price_msat"]) == ("extend", "unpaid", 1000)
    assert owner.get().json["orders"] == [order]
    path = f"/hosting/orders/{order['order']}"
    for _ in range(2):
        cancelled = owner.delete(path)
        assert (cancelled.status_code, cancelled.json["state"]) == (200, "cancelled")
    assert owner.get("/hosting/orders").json["orders"] == []
    with pytest.raises(Exception, match="unknown|expired|not"):
        wallet.pay(invoice)


def test_a_paid_order_is_not_cancelled(client, owner, wallet, worker):
    paid(client, wallet, worker, owner.post("/hosting/extend", HOUR))
    (order,) = owner.get("/hosting/orders").json["payments"]
    assert problem(owner.delete(f"/hosting/orders/{order['order']}")) == (409, "paid")


def test_an_orders_refund_is_shown_with_it(client, owner, wallet, worker):
    paid(client, wallet, worker, owner.post("/hosting/extend", HOUR))
    (order,) = owner.get("/hosting/orders").json["payments"]
    assert order["refund"] is None
    refunds.offer(order["payment_hash"], 400)
    (order,) = owner.get("/hosting/orders").json["payments"]
    page = f"http://localhost/refund/{order['order']}"
    assert order["refund"] == {"state": "open", "msat": 400, "page_url": page}
    assert owner.get().json["payments"][0] == order


def test_an_order_that_was_just_paid_is_not_cancelled(owner, wallet):
    """The node knows of the payment, but the shop does not yet."""
    answer = owner.post("/hosting/extend", HOUR).json
    wallet.pay(answer["invoice"])
    assert problem(owner.delete(f"/hosting/orders/{answer['order']}")) == (409, "paid")


def test_an_order_whose_invoice_is_being_made_is_cancelled_soon(owner):
    order = owner.post("/hosting/extend", HOUR).json["order"]
    Order.update(bolt11=None).execute()
    assert problem(owner.delete(f"/hosting/orders/{order}")) == (503, "checking")


def test_without_the_node_an_order_is_cancelled_later(owner, node):
    order = owner.post("/hosting/extend", HOUR).json["order"]
    node.stop()
    answer = owner.delete(f"/hosting/orders/{order}")
    assert problem(answer) == (503, "node_down")
    assert answer.headers["Retry-After"]
    assert [each["state"] for each in owner.get("/hosting/orders").json["orders"]] == ["checking"]


@pytest.mark.parametrize(
    "what, listed, most, facts",
    [
        ("orders", "payments", 50, {"kind": "extend", "duration": 1, "unit": "hours"}),
        ("tips", "tips", 50, {"kind": "topup", "door": "page"}),
    ],
)
def test_many_payments_come_in_parts(owner, alice, what, listed, most, facts):
    facts |= {"account": alice, "space_mb": 100, "amount_msat": 1000, "placed_at": 1}
    facts |= {"expires_at": 2, "node_id": "n", "pay_index": 1, "received_msat": 1000}
    tokens = [f"{number:032x}" for number in range(2 * most + 5)]
    Order.insert_many(
        facts | {"token": each, "payment_hash": each, "paid_at": clock.now() - number // 3}
        for number, each in enumerate(tokens)
    ).execute()
    seen, before = [], ""
    while before is not None:
        told = owner.get(f"/hosting/{what}{before and '?before='}{before}").json
        assert len(told[listed]) <= most
        seen += [each["order"] for each in told[listed]]
        before = told["next_before"]
    assert sorted(seen) == tokens
    assert len(owner.get().json["payments"]) == (10 if what == "orders" else 0)


def test_an_order_that_is_not_there_is_unknown(owner):
    for name in ("x", "", "%00", "é", "0" * 32, "0" * 5000):
        assert owner.delete(f"/hosting/orders/{name}").status_code == 404
        for what in ("orders", "tips"):
            assert problem(owner.get(f"/hosting/{what}?before={name}")) == (404, "unknown")
