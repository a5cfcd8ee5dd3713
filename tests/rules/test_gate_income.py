"""The gate's payments are counted by service and day, each once, and leave no other trace."""

import pytest

from lightningspace.base.clock import DAY
from lightningspace.base.gate_models import GateCount
from lightningspace.base.models import Fact, Order
from lightningspace.outside.node import Payment
from lightningspace.rules import gate_income, payments
from tests.conftest import at_once

pytestmark = pytest.mark.each_database

NODE = "02ab"


def payment(this_shop, pay_index: int, service="films", paid_at=3 * DAY, msat=5000) -> Payment:
    label = gate_income.new_label(this_shop, service)
    return Payment(label, f"{pay_index:064x}", pay_index, paid_at, msat)


def counted() -> dict[tuple, int]:
    return {(row.service, row.day, row.outcome): row.times for row in GateCount.select()}


def test_payments_are_summed_by_service_and_day(this_shop):
    came = [
        payment(this_shop, 1),
        payment(this_shop, 2, msat=7000),
        payment(this_shop, 5, "api"),
        payment(this_shop, 6, paid_at=4 * DAY - 1),
        payment(this_shop, 7, paid_at=4 * DAY),
    ]
    after = 0
    for each in came:
        assert payments.record(this_shop, NODE, each, after) is False  # there is no order for it
        after = each.pay_index
    assert counted() == {
        ("films", 3, "paid"): 3,
        ("films", 3, "paid_msat"): 17_000,
        ("films", 4, "paid"): 1,
        ("films", 4, "paid_msat"): 5000,
        ("api", 3, "paid"): 1,
        ("api", 3, "paid_msat"): 5000,
    }
    assert not Order.select().exists()
    assert not Fact.select().where(Fact.value.contains(f"{7:064x}")).exists()


def test_a_payment_seen_by_several_workers_counts_once(this_shop):
    same = payment(this_shop, 1)
    at_once(*[lambda: payments.record(this_shop, NODE, same, 0)] * 4)
    assert counted()["films", 3, "paid"] == 1


def test_payments_read_again_count_once_and_new_ones_count(this_shop):
    came = [payment(this_shop, index, paid_at=3 * DAY + index) for index in range(1, 5)]
    for each in came:
        payments.record(this_shop, NODE, each, each.pay_index - 1)
    # The node was restored to the second payment, and gave two indexes again.
    assert payments.follow_from_start(payments.cursor(NODE))
    came[2:] = [payment(this_shop, index, paid_at=3 * DAY + 10 + index) for index in (3, 4)]
    for each in came:
        payments.record(this_shop, NODE, each, each.pay_index - 1)
    assert counted()["films", 3, "paid"] == 6
    assert payments.follow_from_start(payments.cursor(NODE))
    for each in came:
        payments.record(this_shop, NODE, each, each.pay_index - 1)
    assert counted()["films", 3, "paid"] == 6
    payments.record(this_shop, NODE, payment(this_shop, 5, paid_at=0), 4)  # by a wrong clock
    payments.record(this_shop, "03cd", payment(this_shop, 1), 0)
    assert counted()["films", 3, "paid"] == 7 and counted()["films", 0, "paid"] == 1


@pytest.mark.parametrize(
    "label",
    ["gate/films/" + "0" * 31, "gate/" + "0" * 32, "gate//" + "0" * 32, "gate/a/b/" + "0" * 32],
)
def test_payments_with_other_labels_are_not_the_gates(this_shop, label):
    for prefix in ("", "another-", this_shop.config.label_prefix):
        assert gate_income.service_of(this_shop, prefix + label) is None
