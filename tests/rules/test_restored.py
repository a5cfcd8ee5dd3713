"""Until `restore-check --go` a restored database sells, changes, closes and deletes nothing."""

import pytest

from lightningspace.base.models import Account, Fact, Order
from lightningspace.rules import moves, orders, refunds, restored, status, vouchers, wanted
from tests.conftest import csrf_token, enter, eventually, order_form, wish


def test_the_worker_records_payments_and_does_nothing_else(
    this_shop, wallet, panel, alice, request, monkeypatch
):
    monkeypatch.setattr("lightningspace.worker.CALENDAR_SECONDS", 1)
    order = orders.place(this_shop, wish(username="bob"))
    restored.begin()
    Account.update(expires_at=1, valued_at=1, calendar_at=1).where(Account.id == alice.id).execute()
    wanted.touch(alice.id)
    calls = len(panel.calls)
    request.getfixturevalue("at_work")
    wallet.pay(order.bolt11)
    eventually(lambda: Order.get_by_id(order.token).paid_at)
    eventually(lambda: Fact.get_or_none(Fact.name == status.ANSWERED["panel"]))
    assert Order.get_by_id(order.token).applied_at is None
    assert Account.get_by_id(alice.id).suspended_at is None
    assert "client_add" not in [method for method, _ in panel.calls[calls:]]
    restored.end()
    eventually(lambda: Order.get_by_id(order.token).applied_at)
    eventually(lambda: Account.get_by_id(alice.id).suspended_at)


def test_pages_and_programs_are_told_that_the_shop_is_being_restored(app, this_shop, alice, client):
    form = order_form(client.get("/").text)
    restored.begin()
    front = client.get("/").text
    assert restored.Restoring.text in front and "Order and pay" not in front
    assert "from a backup" in client.get("/", headers={"User-Agent": "curl/8"}).text
    answer = client.post("/orders", data=form)
    assert answer.status_code == 503 and answer.text.count(restored.Restoring.text) == 1
    asked = {"space_mb": 100, "duration": 1, "unit": "days"}
    answer = client.post("/api/v1/hosting", json=asked)
    assert (answer.status_code, answer.json["code"]) == (503, "restoring")
    assert answer.headers["Retry-After"] == "600"
    for path in ("/.well-known/lnurlp/alice", "/.well-known/lnurlp/alice/invoice?amount=7000"):
        assert client.get(path).json == {"status": "ERROR", "reason": restored.Restoring.text}
    enter(client, alice)
    for path in ("/account/extend", "/account/size"):
        assert restored.Restoring.text in client.get(path).text
    assert client.get("/account").status_code == 200


def test_no_voucher_is_used_and_nothing_is_moved_or_paid_back(this_shop, alice, client):
    """The copy may be too old to know of a used voucher, a move or a refund."""
    form = order_form(client.get("/").text)
    client.post("/orders", data=form)
    order, code = Order.get(Order.paid_at.is_null()), vouchers.make(10**6, 1000)
    address = f"/orders/{order.token}"
    typed = {"csrf_token": csrf_token(client.get(address).text), "code": code}
    Account.update(blocked_at=1, blocked_reason="phishing").where(Account.id == alice.id).execute()
    restored.begin()
    answer = client.post(f"{address}/voucher", data=typed)
    assert answer.status_code == 503 and restored.Restoring.text in answer.text
    assert len(vouchers.unused()) == 1 and Order.get_by_id(order.token).withdrawn_at is None
    with pytest.raises(moves.CannotMove, match="restored copy"):
        moves.begin(this_shop, alice.id, alice.server_id + 1)
    with pytest.raises(restored.Restoring):
        refunds.close_account(this_shop, Account.get_by_id(alice.id))
    assert Account.get_by_id(alice.id).closing_at is None
