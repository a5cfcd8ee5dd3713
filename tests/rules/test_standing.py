"""The states of orders, and who sees what of them."""

from lightningspace.base.clock import now
from lightningspace.base.models import Account, Order
from lightningspace.rules import orders, standing, tips
from lightningspace.rules.order_book import Door
from lightningspace.rules.standing import Asker, Stage
from tests.conftest import open_account

LONG_AGO = 1
PAID = {"paid_at": LONG_AGO, "node_id": "n", "pay_index": 1, "payment_hash": "h"}
PAID |= {"received_msat": 5000}
APPLIED = PAID | {"applied_at": LONG_AGO, "ends_at": LONG_AGO + 9, "bought_seconds": 9}


def an_order(account, **facts) -> Order:
    order = {"token": "t", "kind": "extend", "space_mb": 100, "amount_msat": 5000}
    order |= {"placed_at": LONG_AGO, "expires_at": now() + 600, "bolt11": "ln"}
    if facts.get("kind") != "topup":
        order |= {"duration": 1, "unit": "hours"}
    return Order.create(account=account, **order | facts)


def a_tip(account, **facts) -> Order:
    return an_order(account, kind="topup", door=Door.PAGE, message="Thank you", **facts)


def test_an_order_is_at_one_stage_and_waits_for_the_next(this_shop, alice, subtests):
    for facts, stage, waits in [
        ({"bolt11": None}, Stage.PREPARING, False),
        ({}, Stage.UNPAID, True),
        ({"expires_at": LONG_AGO}, Stage.CHECKING, True),
        ({"released_at": LONG_AGO, "missing_at": LONG_AGO}, Stage.CHECKING, False),
        ({"released_at": LONG_AGO, "cancelled_at": LONG_AGO}, Stage.CANCELLED, False),
        ({"released_at": LONG_AGO}, Stage.EXPIRED, False),
        (PAID, Stage.RENEWING, True),
        (PAID | {"released_at": LONG_AGO}, Stage.RENEWING, True),
        (APPLIED, Stage.RENEWED, False),
        (APPLIED | {"account": None}, Stage.CLOSED, False),
        (PAID | {"account": None}, Stage.LATE, True),
        (PAID | {"account": None, "kind": "topup", "door": Door.PAGE}, Stage.LATE, False),
        (PAID | {"kind": "open", "account": None}, Stage.PAID, True),
        (APPLIED | {"kind": "open"}, Stage.READY, False),
    ]:
        with subtests.test(str(facts)):
            order = an_order(**{"account": alice} | facts)
            found = standing.of(this_shop, order)
            assert (found.state, found.waits) == (stage, waits)
        Order.delete().execute()


def test_a_new_hosting_is_paid_until_it_is_set_up(this_shop, alice):
    order = an_order(alice, **APPLIED | {"kind": "open"})
    Account.update(ready_at=None).where(Account.id == alice.id).execute()
    found = standing.of(this_shop, Order.get_by_id(order.token))
    assert (found.state, found.waits) == (Stage.PAID, True)
    assert found.setup.applied == len(found.setup.rows) > 0
    assert (found.setup.failing, found.setup.is_stuck) == ([], False)


def test_the_orderer_and_the_owner_may_cancel_an_order(this_shop, alice):
    order = an_order(alice)
    bob = open_account(this_shop, "bob1")
    for asker, is_mine, is_owners in (
        (Asker(), False, False),
        (Asker(account_id=bob.id), False, False),
        (Asker(has_placed=True), True, False),
        (Asker(account_id=alice.id), True, True),
    ):
        found = standing.of(this_shop, order, asker)
        assert (found.is_mine, found.is_owners) == (is_mine, is_owners)
        assert found.can_be_cancelled == is_mine
    Order.update(PAID).execute()
    paid = standing.of(this_shop, Order.get(), Asker(account_id=alice.id))
    assert (paid.is_mine, paid.can_be_cancelled) == (True, False)


def test_a_tip_belongs_to_its_giver_and_not_to_the_owner(this_shop, alice):
    tip = a_tip(alice)
    owners = standing.of(this_shop, tip, Asker(account_id=alice.id))
    givers = standing.of(this_shop, tip, Asker(has_placed=True))
    assert (owners.is_mine, owners.is_owners, owners.message) == (False, True, None)
    assert (givers.is_mine, givers.is_owners, givers.message) == (True, False, "Thank you")


def test_only_the_owner_sees_a_hidden_end(this_shop, alice):
    tips.switch(alice.id, tips_show_end=False)
    a_tip(alice)
    stranger = standing.of(this_shop, Order.get())
    owner = standing.of(this_shop, Order.get(), Asker(account_id=alice.id))
    assert (stranger.tells_end, stranger.if_paid(this_shop)) == (False, None)
    assert owner.tells_end and owner.if_paid(this_shop).ends_at > now()
    assert stranger.worth_seconds == owner.worth_seconds > 0
    assert stranger.site == "alice.shop.test"


def test_a_paid_or_expired_order_does_not_say_what_paying_would_do(this_shop, alice):
    buyer = orders.Buyer(None, "a form")
    order = orders.extend(this_shop, alice.id, 1, "days", buyer)
    assert standing.of(this_shop, order).if_paid(this_shop).msat == order.amount_msat
    Order.update(PAID).execute()
    assert standing.of(this_shop, Order.get()).if_paid(this_shop) is None
    Order.update(account=None).execute()
    assert standing.of(this_shop, Order.get()).site is None
