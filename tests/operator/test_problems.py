"""Problems for the operator, and the hosting or order that each is about."""

from lightningspace.base.models import Order, Service
from lightningspace.operator import problems


def lose(number: int) -> None:
    """Record a payment that belongs to no order."""
    facts = {"kind": "lost", "placed_at": 1, "expires_at": 1, "node_id": "n", "pay_index": 1}
    facts |= {"received_msat": 7000, "paid_at": 1, "payment_hash": "abcdef"[number] * 64}
    Order.create(token=f"{number:032}", **facts)


def test_a_problem_says_which_hosting_or_order_it_is_about(this_shop, alice):
    lose(1)
    failing = {"error": "x", "permanent": True, "failed_since": 1}
    Service.update(failing).where(Service.kind == "ftp").execute()
    told = [(each.username, each.token) for each in problems.found(this_shop)]
    assert told == [(None, f"{1:032}"), ("alice", None)]


def test_problems_are_counted_for_the_pages(this_shop, time_machine):
    assert problems.last_count() is None
    lose(1)
    problems.count(this_shop)
    assert problems.last_count() == (int(time_machine.moment), 1)
