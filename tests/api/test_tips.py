"""Tips over the API, for the owner of the hosting."""

from lightningspace.base import clock
from lightningspace.base.models import Account, Offer, Order
from lightningspace.rules import accounts, tips
from tests.api.programs import API, HOUR, TIP, paid_tip, problem, wrong


def test_tips_are_listed_and_are_not_among_the_payments(owner, bob, alice, this_shop):
    paid_tip(alice, message="Thank you", door="address")
    told = owner.get("/hosting/tips").json
    tip = told["tips"][0]
    assert clock.from_iso(tip.pop("paid_at")) == Order.get().paid_at
    facts = {"order": TIP, "door": "address", "received_msat": 5000, "message": "Thank you"}
    small = {"small_tips": 0, "small_tips_msat": 0, "next_before": None}
    others = {"received_msat": 5000} | small
    assert told == {"tips": [facts | {"hidden": False}]} | others
    hosting = owner.get().json
    assert (hosting["tips"]["received_msat"], hosting["payments"]) == (5000, [])
    assert owner.get("/hosting/orders").json["payments"] == []
    assert bob.get("/hosting/tips").json == {"tips": [], "received_msat": 0} | small
    assert bob.get().json["tips"]["received_msat"] == 0


def test_a_message_is_hidden_and_shown_again(owner, bob, alice):
    paid_tip(alice, message="Thank you")
    path = f"/hosting/tips/{TIP}"
    for hidden in (True, True, False):
        told = owner.patch(path, {"hidden": hidden})
        assert (told.status_code, told.json["hidden"]) == (200, hidden)
        assert owner.get("/hosting/tips").json["tips"] == [told.json]
        assert (Order.get().hidden_at is not None) is hidden
    assert owner.patch(path, {}).json["hidden"] is False
    assert wrong(owner.patch(path, {"hidden": 1})) == {"hidden"}
    assert problem(bob.patch(path, {"hidden": True})) == (404, "unknown")
    assert Order.get().hidden_at is None


def test_only_tips_of_others_can_be_hidden(owner, alice):
    paid_tip(alice, door="owner")
    order = owner.post("/hosting/extend", HOUR).json["order"]
    for token in (TIP, order, "x", "é", "0" * 5000):
        assert problem(owner.patch(f"/hosting/tips/{token}", {"hidden": True})) == (404, "unknown")
    assert Order.select().where(Order.hidden_at.is_null(False)).count() == 0


def test_each_door_is_switched_with_other_settings_or_not_at_all(client, owner, alice, this_shop):
    offer = tips.offer(this_shop, alice)
    assert owner.get().json["tips"]["offer"] == offer
    for switch in tips.SWITCHES:
        told = owner.patch("/hosting", {switch: False, "https": True}).json["tips"]
        assert {name for name in tips.SWITCHES if not told[name]} == {switch}
        bad = owner.patch("/hosting", {switch: True, "php": "none"})
        assert wrong(bad) == {"php"}
        assert owner.get().json["tips"][switch] is False
        assert owner.patch("/hosting", {switch: True}).json["tips"][switch] is True
    owner.patch("/hosting", {"tips_page": False, "tips_offer": False})
    assert client.get(f"{API}/tips/alice").status_code == 404
    assert Offer.get().is_due
    assert wrong(owner.patch("/hosting", {"tips_page": "no", "tips_nothing": True})) == {
        *("tips_page", "tips_nothing")
    }


def test_the_doors_of_a_closing_hosting_cannot_be_switched(owner, alice):
    accounts.close(alice.id)
    assert problem(owner.patch("/hosting", {"tips_page": False})) == (409, "closing")
    assert Account.get_by_id(alice.id).tips_page
