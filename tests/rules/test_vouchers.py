"""A voucher pays for one order, once, whatever happens in between."""

import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from lightningspace.base import models
from lightningspace.base.models import Account, Order
from lightningspace.base.money_models import Voucher
from lightningspace.base.prices import Terms
from lightningspace.base.vault import Vault
from lightningspace.rules import orders, tokens, vouchers
from lightningspace.rules.orders import Buyer
from lightningspace.rules.vouchers import VoucherRefused, VoucherTooSmall
from tests.conftest import (
    csrf_token,
    enter,
    place_order,
    record_payments,
    wish,
    with_settings,
    work,
)

A_MONTH = Terms(500, 30, "days")


def place(shop, terms=A_MONTH, username=None) -> Order:
    return orders.place(shop, wish(terms=terms, username=username))


@pytest.mark.each_database
def test_a_voucher_pays_one_order_however_many_try(this_shop, worker):
    code = vouchers.make(500, 30)
    placed = [place(this_shop) for _ in range(6)]

    def pay(order: Order) -> bool:
        try:
            vouchers.pay(this_shop, order, code)
        except VoucherRefused:
            return False
        finally:
            models.db.close()
        return True

    with ThreadPoolExecutor(6) as threads:
        assert sorted(threads.map(pay, placed)) == [False] * 5 + [True]
    assert Order.select().where(Order.paid_at.is_null(False)).count() == 1
    work(worker)
    [account] = Account.select().where(Account.ready_at.is_null(False))
    assert account.space_mb == 500
    assert account.expires_at - account.opened_at >= 30 * 86400
    assert vouchers.unused() == []


def test_a_vouchers_access_key_is_valid_even_after_a_key_rotation(this_shop, worker, client):
    order = place(this_shop, username="alice")
    vouchers.pay(this_shop, order, vouchers.make(500, 30))
    work(worker)
    account = Account.get()
    key = tokens.receipt(this_shop, account)
    answer = client.get("/api/v1/hosting", headers={"Authorization": f"L402 {key}"})
    assert answer.status_code == 200, answer.text
    assert answer.json["username"] == "alice"
    # Its secret can be derived again after SECRET_KEY has changed.
    config = this_shop.config
    newer = replace(
        this_shop, vault=Vault("another key of the tests, long enough", (config.secret_key,))
    )
    assert vouchers.preimage_of(newer, Order.get()) == key.rpartition(":")[2]
    foreign = replace(this_shop, vault=Vault("another key of the tests, long enough", ()))
    assert vouchers.preimage_of(foreign, Order.get()) is None


def test_orders_that_a_voucher_does_not_pay(this_shop, alice, wallet, worker, subtests):
    largest, longest = Terms(1000, 1, "days"), Terms(100, 2, "months")
    code = vouchers.make(500, 30)
    resize = orders.resize(this_shop, alice.id, orders.Size(500, 0, 0), Buyer(None, "a form"))
    tip = orders.top_up(this_shop, alice.id, orders.Tip(10**5, orders.Door.PAGE), None, "b")
    Account.update(extra_domains=1).where(Account.id == alice.id).execute()
    extra = orders.extend(this_shop, alice.id, 1, "days", Buyer(None, "c"))
    paid = place(this_shop, username="bob")
    wallet.pay(paid.bolt11)
    record_payments(worker)
    refused = {
        "larger": (place(this_shop, largest), code),
        "longer": (place(this_shop, longest), code),
        "another size": (resize, code),
        "with extras": (extra, code),
        "a tip": (tip, code),
        "paid": (Order.get_by_id(paid.token), code),
        "wrong": (place(this_shop), "abcd-efgh-jkmn-pqrs"),
        "odd": (place(this_shop), "\ud800\0Ω" * 20),
        "empty": (place(this_shop), ""),
    }
    for name, (order, typed) in refused.items():
        with subtests.test(name), pytest.raises(VoucherRefused):
            vouchers.pay(this_shop, order, typed)
    with pytest.raises(VoucherTooSmall, match="for up to 500 MB and 30 days, without extra"):
        vouchers.pay(this_shop, *refused["larger"])
    assert len(vouchers.unused()) == 1
    # The invoices of refused orders can still be paid.
    wallet.pay(refused["larger"][0].bolt11)


def test_an_invoice_paid_meanwhile_leaves_the_voucher_unused(this_shop, wallet, worker):
    order, code = place(this_shop), vouchers.make(500, 30)
    wallet.pay(order.bolt11)
    vouchers.pay(this_shop, order, code)
    assert len(vouchers.unused()) == 1
    record_payments(worker)
    assert Order.get().received_msat == order.amount_msat and Order.get().node_id != "voucher"


def test_a_node_that_is_down_leaves_the_voucher_unused(client, node, this_shop):
    place_order(client, username="alice", space_mb="500", duration="1")
    order, code = Order.get(), vouchers.make(500, 30)
    page = client.get(f"/orders/{order.token}")
    node.stop()
    form = {"csrf_token": csrf_token(page.text), "code": code}
    answer = client.post(f"/orders/{order.token}/voucher", data=form)
    assert answer.status_code == 503 and "still good" in answer.text
    assert len(vouchers.unused()) == 1 and Order.get().paid_at is None


def test_a_customer_uses_a_voucher_on_the_orders_page(client, this_shop, worker, runner):
    place_order(client, username="alice", space_mb="500", duration="1")
    address = f"/orders/{Order.get().token}"
    assert "voucher" not in client.get(address).text  # while there are none
    made = runner.invoke(args=["vouchers", "make", "2", "--mb", "500", "--days", "30"])
    code, other = made.output.split()
    assert re.fullmatch("([2-9a-z]{4}-){3}[2-9a-z]{4}", code)
    page = client.get(address).text
    token = csrf_token(page)
    assert "I have a voucher" in page and code not in page
    wrong = client.post(f"{address}/voucher", data={"csrf_token": token, "code": "nothing"})
    assert wrong.status_code == 400 and "There is no such voucher" in wrong.text
    typed = f"  {code.upper().replace('-', ' ')} "
    answer = client.post(f"{address}/voucher", data={"csrf_token": token, "code": typed})
    assert (answer.status_code, answer.location) == (303, address)
    work(worker)
    assert client.get(address).location == "/account"
    assert "500 MB for 30 days" in runner.invoke(args=["vouchers", "list"]).output
    assert "by a voucher" in client.get("/account/payments").text
    assert runner.invoke(args=["vouchers", "withdraw", other]).output == "the voucher is void\n"
    assert runner.invoke(args=["vouchers", "withdraw", code]).exit_code == 1
    assert runner.invoke(args=["vouchers", "list"]).output == ""
    assert "no size" in runner.invoke(args="vouchers make 1 --mb 7 --days 1".split()).output


def test_a_voucher_pays_for_more_time(client, alice, this_shop, worker):
    enter(client, alice)
    order = orders.extend(this_shop, alice.id, 30, "days", Buyer(None, "a form"))
    vouchers.pay(this_shop, order, vouchers.make(100, 30))
    work(worker)
    later = Account.get_by_id(alice.id).expires_at - alice.expires_at
    assert later >= 30 * 86400


@with_settings(LOGINS_LIMIT="3 per day")
def test_guesses_of_vouchers_are_limited(client, this_shop):
    place_order(client)
    vouchers.make(100, 30)
    address = f"/orders/{Order.get().token}"
    form = {"csrf_token": csrf_token(client.get(address).text), "code": "a guess"}
    codes = [client.post(f"{address}/voucher", data=form).status_code for _ in range(4)]
    assert codes == [400, 400, 400, 429]
    assert Voucher.select().count() == 1
