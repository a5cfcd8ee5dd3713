"""Mailboxes and forwards over the API."""

import pytest

from lightningspace.base.models import Account, Service
from lightningspace.rules import wanted
from tests.api.programs import (
    API,
    EVE,
    GOOD,
    SITE,
    TO_ALICE,
    Program,
    fill,
    paid,
    problem,
    program,
    row,
    settings,
    wrong,
)
from tests.conftest import at_once, invoices_asked_for, work

MAILBOX = f"/hosting/mailboxes/{EVE}"
FORWARD = f"/hosting/forwards/{EVE}"


def test_a_mailbox_is_added_changed_and_removed(owner, worker):
    answer = owner.post(
        "/hosting/mailboxes", {"address": f"Eve <Eve@{SITE.upper()}>", "quota_mb": 4}
    )
    assert answer.status_code == 201
    assert answer.headers["Location"] == f"{API}{MAILBOX}"
    told = answer.json
    assert (told["address"], told["state"], told["password"]) == (EVE, "waiting", None)
    assert (told["quota_mb"], told["own_quota_mb"]) == (4, 4)
    work(worker)
    made = owner.get(MAILBOX).json["password"]
    assert len(made) == 16
    assert owner.patch(MAILBOX, {"quota_mb": None}).json["own_quota_mb"] is None
    assert owner.get(MAILBOX).json["password"] == made
    assert owner.patch(MAILBOX, {"password": None}).json["state"] == "changing"
    work(worker)
    assert owner.get(MAILBOX).json["password"] not in (None, made)
    assert owner.patch(MAILBOX, {"password": GOOD}).status_code == 200
    work(worker)
    assert owner.get(MAILBOX).json["password"] is None
    assert [each["address"] for each in owner.get("/hosting/mailboxes").json["mailboxes"]] == [
        EVE,
        f"info@{SITE}",
    ]
    removed = owner.delete(MAILBOX)
    assert (removed.status_code, removed.json) == (202, {"address": EVE, "state": "going"})
    assert owner.get(MAILBOX).json["state"] == "going"
    assert problem(owner.delete(MAILBOX)) == (404, "unknown")
    work(worker)
    assert problem(owner.get(MAILBOX)) == (404, "unknown")


def test_a_forward_is_added_changed_and_removed(owner, worker):
    answer = owner.post("/hosting/forwards", {"address": EVE} | TO_ALICE)
    assert (answer.status_code, answer.headers["Location"]) == (201, f"{API}{FORWARD}")
    assert answer.json == {"address": EVE, "state": "waiting", "trouble": None} | TO_ALICE
    work(worker)
    changed = owner.patch(FORWARD, {"destination": "Bob <Bob@Tüst.de>"}).json
    assert (changed["destination"], changed["state"]) == ("bob@xn--tst-hoa.de", "changing")
    work(worker)
    assert owner.get(FORWARD).json["state"] == "applied"
    used = owner.get("/hosting/forwards").json
    assert (used["addresses_used"], used["addresses_allowed"]) == (2, 5)
    assert owner.delete(FORWARD).status_code == 202
    work(worker)
    assert owner.get("/hosting/forwards").json["forwards"] == []


WRONG_MAILBOXES = [
    ({}, {"address"}),
    ({"address": "eve"}, {"address"}),
    ({"address": f"@{SITE}"}, {"address"}),
    ({"address": f"e ve@{SITE}"}, {"address"}),
    ({"address": f"e\0ve@{SITE}"}, {"address"}),
    ({"address": f"\ud800@{SITE}"}, {"address"}),
    ({"address": f"{'e' * 64}@{SITE}"}, {"address"}),
    ({"address": "eve@bobby.shop.test"}, {"address"}),
    ({"address": f"eve@x@{SITE}"}, {"address"}),
    ({"address": ["eve"]}, {"address"}),
    ({"address": EVE, "password": "short"}, {"password"}),
    ({"address": EVE, "password": 'say "friend"'}, {"password"}),
    ({"address": EVE, "quota_mb": 0}, {"quota_mb"}),
    ({"address": EVE, "quota_mb": -1}, {"quota_mb"}),
    ({"address": EVE, "quota_mb": 21}, {"quota_mb"}),
    ({"address": EVE, "quota_mb": 10**14}, {"quota_mb"}),
    ({"address": EVE, "quota_mb": "4"}, {"quota_mb"}),
    ({"address": EVE, "quota_mb": True}, {"quota_mb"}),
    ({"address": EVE, "mb": 4}, {"mb"}),
]


def test_a_wrong_mailbox_is_refused(owner):
    for body, fields in WRONG_MAILBOXES:
        assert wrong(owner.post("/hosting/mailboxes", body)) == fields, body
    assert Service.select().where(Service.kind == "mailbox").count() == 1


def test_a_wrong_destination_is_refused(owner):
    destinations = [None, "", "nobody", EVE, EVE.upper(), "a@b.example,c@b.example", "\ud800"]
    bodies = [{"destination": each} for each in destinations]
    for body in bodies:
        assert wrong(owner.post("/hosting/forwards", {"address": EVE} | body)) == {"destination"}
    owner.post("/hosting/forwards", {"address": EVE} | TO_ALICE)
    for body in bodies:
        assert wrong(owner.patch(FORWARD, body)) == {"destination"}
    assert settings("forward", EVE) == TO_ALICE


def test_a_wrong_change_of_a_mailbox_changes_nothing(owner, this_shop, alice):
    wanted.add(this_shop, alice.id, "mailbox", EVE, GOOD)
    before = row("mailbox", EVE)
    for body in ({"password": "x"}, {"quota_mb": 99}, {"address": "x"}):
        answer = owner.patch(MAILBOX, {"password": GOOD, "quota_mb": 2} | body)
        assert wrong(answer) == body.keys()
    assert row("mailbox", EVE).__data__ == before.__data__


def test_an_address_can_be_added_once(owner):
    assert owner.post("/hosting/mailboxes", {"address": EVE}).status_code == 201
    assert problem(owner.post("/hosting/mailboxes", {"address": EVE})) == (409, "taken")
    answer = owner.post("/hosting/forwards", {"address": EVE} | TO_ALICE)
    assert problem(answer) == (409, "taken")


@pytest.mark.parametrize(
    "path, body",
    [("/hosting/mailboxes", {"address": EVE}), ("/hosting/forwards", {"address": EVE} | TO_ALICE)],
)
def test_one_more_address_is_sold_and_then_added(
    time_machine, path, body, client, this_shop, alice, owner, wallet, worker, node
):
    fill(this_shop, alice)
    answer = owner.post(path, body)
    assert answer.status_code == 402
    assert answer.json["price_msat"] == 90 * 1000
    assert answer.json["sale"]["size"]["extra_addresses"] == 1
    again = owner.post(path, body)
    assert again.json["invoice"] == answer.json["invoice"]
    buyer = paid(client, wallet, worker, again)
    added = buyer.post(path, body)
    assert (added.status_code, added.json["address"]) == (201, EVE)
    assert Account.get_by_id(alice.id).extra_addresses == 1
    assert problem(buyer.post(path, body)) == (409, "taken")
    # The next one is sold again, to one program at a time.
    told = []
    for who in (owner, buyer):
        answer = who.post(path, body | {"address": f"other@{SITE}"})
        told.append(problem(answer))
    assert told == [(402, "payment_required"), (409, "size_waits")]
    assert invoices_asked_for(node) == 2


def test_an_extra_that_was_paid_for_can_be_used_with_the_old_credential(
    client, this_shop, alice, owner, wallet, worker
):
    fill(this_shop, alice)
    paid(client, wallet, worker, owner.post("/hosting/mailboxes", {"address": EVE}))
    assert owner.post("/hosting/mailboxes", {"address": EVE}).status_code == 201


def test_errors_are_reported_before_anything_is_sold(owner, this_shop, alice, node):
    fill(this_shop, alice)
    wrong(owner.post("/hosting/mailboxes", {"address": EVE, "password": "short"}))
    answer = owner.post("/hosting/mailboxes", {"address": f"info@{SITE}"})
    assert problem(answer) == (409, "taken")
    assert invoices_asked_for(node) == 0


def test_one_more_address_is_sold_only_to_programs_that_may_pay(client, this_shop, alice, node):
    fill(this_shop, alice)
    delegate = program(client, this_shop, alice, "mail")
    answer = delegate.post("/hosting/mailboxes", {"address": EVE})
    assert problem(answer) == (403, "not_capable")
    assert "pay" in answer.json["detail"]
    assert invoices_asked_for(node) == 0
    answer = program(client, this_shop, alice, "mail", "pay").post(
        "/hosting/mailboxes", {"address": EVE}
    )
    assert problem(answer) == (402, "payment_required")


def test_the_mailbox_of_a_delegate_shows_its_password_to_the_owner(
    client, this_shop, alice, owner, worker
):
    delegate = program(client, this_shop, alice, "mail", "read")
    assert delegate.post("/hosting/mailboxes", {"address": EVE}).status_code == 201
    work(worker)
    assert delegate.get(MAILBOX).json["password"] is None
    assert owner.get(MAILBOX).json["password"]


@pytest.mark.each_database
def test_the_same_mailbox_asked_for_at_once_is_added_once(app, owner):
    def add():
        return Program(app.test_client(), None)(
            "POST", "/hosting/mailboxes", {"address": EVE}, **owner.headers
        )

    answers = at_once(*[add] * 4)
    assert sorted(answer.status_code for answer in answers) == [201, 409, 409, 409]
