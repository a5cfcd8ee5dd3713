"""Income: each payment counts once, on its day, and vouchers do not."""

import time

import pytest

from lightningspace.base import models
from lightningspace.base.clock import DAY
from lightningspace.base.models import Order
from lightningspace.base.money_models import IncomeOfDay
from lightningspace.rules import income, orders, payments, vouchers
from lightningspace.rules.income import Kind
from tests.conftest import ROOT, record_payments, wish
from tests.whole.test_growth import insert

MIGRATION = ROOT / "migrations" / "0019_income.sql"


def sums() -> dict[Kind, int]:
    return {Kind(row.kind): row.msat for row in income.since(0)}


@pytest.mark.each_database
def test_each_payment_is_counted_once_by_its_kind(this_shop, alice, wallet, worker):
    opening = orders.place(this_shop, wish(username="bob"))
    buyer = orders.Buyer("alice's browser", "1")
    more = orders.extend(this_shop, alice.id, 30, "days", buyer)
    tip = orders.top_up(this_shop, alice.id, orders.Tip(7000, "page"), None, "2")
    lost = orders.top_up(this_shop, alice.id, orders.Tip(9000, "page"), None, "3")
    with_voucher = orders.place(this_shop, wish(username="carol"))
    vouchers.pay(this_shop, with_voucher, vouchers.make(5000, 365))
    for order in (opening, more, tip, lost):
        wallet.pay(order.bolt11)
    Order.delete().where(Order.token == lost.token).execute()
    record_payments(worker)
    paid = {Kind.HOSTING: opening.amount_msat, Kind.MORE: more.amount_msat}
    paid |= {Kind.TIP: 7000, Kind.LOST: 9000}
    assert sums() == paid

    IncomeOfDay.delete().execute()
    for statement in MIGRATION.read_text().split(";"):
        if statement.strip().startswith("INSERT"):
            models.db.execute_sql(statement)
    assert sums() == paid

    payments.follow_from_start(payments.cursor(this_shop.node.node_id()))
    record_payments(worker)
    assert sums() == paid
    listed = list(income.payments(0, 2**40))
    assert {each.kind: each.msat for each in listed} == paid
    assert len(listed) == 4 and listed == sorted(listed, key=lambda each: each.paid_at)


def test_income_of_the_gate_is_summed_by_day(this_shop):
    with models.transaction():
        for paid_at in (DAY, DAY + 7, 2 * DAY):
            income.note(Kind.GATE, paid_at, 500)
    told = list(income.payments(DAY, 2 * DAY))
    assert told == [income.Payment(DAY, None, 1000, Kind.GATE)]


@pytest.mark.each_database
def test_a_large_shops_payments_are_found_by_their_index(this_shop):
    facts = {"kind": "lost", "placed_at": 1, "expires_at": 1, "node_id": "n", "pay_index": 1}
    lost = Order(token="", received_msat=1000, payment_hash="", paid_at=1, **facts)
    with models.transaction():
        of_each = {"token": "'token' || n", "payment_hash": "'hash' || n", "paid_at": "n"}
        insert(lost, 100_000, **of_each)
    models.db.execute_sql("ANALYZE")
    begun = time.thread_time()
    assert [order.paid_at for order in income.latest(3)] == [100_000, 99_999, 99_998]
    span = list(income.payments(90_000, 90_010))
    assert [each.paid_at for each in span] == list(range(90_000, 90_010))
    assert time.thread_time() - begun < 0.05
