"""Anybody may buy time for a hosting over the API, and gets no right over it."""

import hashlib

import pytest

from lightningspace.base import models
from lightningspace.base.clock import from_iso, now
from lightningspace.base.models import Account, Order
from lightningspace.outside import l402
from lightningspace.outside.l402 import Rights
from lightningspace.rules import accounts, orders, recovery, tips, tokens
from tests.api.programs import Program, paid, problem, program, wrong
from tests.conftest import (
    csrf_token,
    invoices_asked_for,
    open_account,
    record_payments,
    wish,
    with_settings,
    work,
)

PATH = "/hosting/alice/time"
KEY = "a-key-of-this-request"
DAY = {"duration": 1, "unit": "days"}
PRICE_MSAT = 7000
SECONDS = 86400


@pytest.fixture
def give(client, wallet, worker):
    """Buy time for alice's hosting, and let it take effect. Return the program that paid."""

    def give(who: Program, path=PATH, body=DAY) -> Program:
        return paid(client, wallet, worker, who.post(path, body))

    return give


def end(account: Account) -> int:
    return Account.get_by_id(account.id).expires_at


def macaroon_of(who: Program) -> l402.Macaroon:
    return l402.read(who.headers["Authorization"].removeprefix("L402 ").partition(":")[0])


def test_time_is_sold_to_anybody_answered_once_and_sold_again(stranger, give, alice, node, owner):
    asked = stranger.post(PATH, DAY)
    assert problem(asked) == (402, "payment_required")
    assert asked.json["price_msat"] == PRICE_MSAT
    sale = asked.json["sale"]
    assert sale["site"] == "alice.shop.test"
    assert sale["time"] == DAY | {"seconds": SECONDS}
    assert from_iso(sale["paid_until"]) == alice.expires_at + SECONDS
    scheme, macaroon = f'L402 macaroon="{asked.json["macaroon"]}"', asked.json["macaroon"]
    assert asked.headers.getlist("WWW-Authenticate")[1].startswith(scheme)
    assert l402.rights(l402.read(macaroon), l402.SERVICE, now()).capabilities == frozenset()

    giver, ends = stranger, [alice.expires_at]
    for _ in range(3):
        giver = give(giver)
        given = giver.post(PATH, DAY)
        assert given.status_code == 200
        told = dict(given.json)
        ends.append(from_iso(told.pop("paid_until")))
        assert told == {"username": "alice", "site": "alice.shop.test", "applied": True}
        assert ends[-1] == end(alice)
    assert [later - earlier for earlier, later in zip(ends, ends[1:], strict=False)] == [
        SECONDS
    ] * 3
    assert giver.post(PATH, DAY).status_code == 402
    assert invoices_asked_for(node) == 5
    assert owner.get("/hosting/tips").json["received_msat"] == 3 * PRICE_MSAT


def test_paying_for_time_gives_no_right_over_the_hosting(
    stranger, client, this_shop, alice, wallet, worker
):
    asked = stranger.post(PATH, DAY)
    giver = paid(client, wallet, worker, asked)
    credential = giver.headers["Authorization"].removeprefix("L402 ")
    order, preimage = Order.get(), bytes.fromhex(credential.partition(":")[2])
    looks = [giver.get(), giver.get("/hosting/orders"), giver.post("/hosting/extend", DAY)]
    looks += [giver.patch("/hosting", {"https": True}), giver.delete()]
    assert {problem(each) for each in looks} == {(401, "unauthorized")}
    login = {"csrf_token": csrf_token(client.get("/login").text), "receipt": credential}
    assert client.post("/login/receipt", data=login).status_code == 400
    with pytest.raises(recovery.NotRecovered):
        recovery.recover(this_shop, asked.json["invoice"], preimage)
    # Not even a token with all rights would do, which nobody is given.
    with pytest.raises(l402.Void):
        tokens.holder(this_shop, tokens.challenge(this_shop, order), preimage)
    assert giver.post("/hosting", {"space_mb": 100} | DAY).status_code == 402


def test_the_new_credential_keeps_the_rights_of_the_one_shown(
    client, stranger, give, this_shop, alice, bob, subtests
):
    account = Account.get_by_id(alice.id)
    read = program(client, this_shop, account, "read")
    owner = program(client, this_shop, account)
    for who, sees, extends in ((read, "alice", 403), (owner, "alice", 402), (bob, "bobby", 402)):
        with subtests.test(sees=sees, extends=extends):
            giver = who
            for _ in range(2):
                giver = give(giver)
                assert giver.get().json["username"] == sees
                assert giver.post("/hosting/extend", DAY).status_code == extends
                assert giver.post(PATH, DAY).status_code == 200
                assert macaroon_of(giver).token_id == macaroon_of(who).token_id
    before = end(alice)
    of_owner = give(owner)
    with models.transaction():
        tokens.renew(alice.id)
    assert giver.get().json["username"] == "bobby"
    for each in (of_owner, give(read), give(owner)):
        # It is void for the hosting, but still proves the payment.
        assert each.get().status_code == 401
        assert each.post(PATH, DAY).status_code == 200
    assert end(alice) == before + 3 * SECONDS


def test_a_shown_credential_may_be_of_other_services_or_be_too_long(
    client, stranger, give, this_shop, alice, owner
):
    keys, preimage = this_shop.keys, bytes(32)
    films = Rights(None, now() + SECONDS)
    of_films = keys.mint(
        hashlib.sha256(preimage).digest(), keys.token_id(0), l402.caveats("films", films)
    )
    giver = give(Program(client, f"{of_films}:{preimage.hex()}"))
    assert l402.rights(macaroon_of(giver), "films", now()) == films
    assert giver.get().status_code == 401
    assert giver.post(PATH, DAY).status_code == 200

    crowded = macaroon_of(owner).narrowed(*["colour=blue"] * 25)
    preimage = owner.headers["Authorization"].rpartition(":")[2]
    who = Program(client, f"{crowded}:{preimage}")
    assert who.get().status_code == 200
    giver = give(who)
    assert giver.get().status_code == 401
    assert giver.post(PATH, DAY).status_code == 200


@with_settings(TIPS_LIMIT="100 per minute")
def test_the_headers_of_the_largest_credential_fit_into_nginx(client, this_shop, alice):
    """There is room for two invoices of a busy node."""
    keys, sizes = this_shop.keys, set()
    for count in range(900, l402.MINTED_BYTES_MAX - 130, 20):
        caveats = ["services=films:0", "x" * count]
        shown = keys.mint(hashlib.sha256(bytes(32)).digest(), keys.token_id(0), caveats)
        who = Program(client, f"{shown}:{'0' * 64}")
        asked = who.post(PATH, DAY)
        assert asked.status_code == 402
        sizes.add(len(asked.json["macaroon"]))
        assert len(str(asked.headers)) + 2 * 400 < 8192
    assert max(sizes) > l402.MINTED_BYTES_MAX * 1.3


def test_the_end_is_hidden_if_the_owner_says_so(stranger, give, alice):
    tips.switch(alice.id, tips_show_end=False)
    asked = stranger.post(PATH, DAY)
    assert asked.json["sale"]["paid_until"] is None
    given = give(stranger).post(PATH, DAY)
    assert (given.status_code, given.json["paid_until"], given.json["applied"]) == (200, None, True)
    assert end(alice) == alice.expires_at + SECONDS


def test_a_credential_for_another_time_is_told_to_ask_for_that_one(stranger, give, alice, node):
    giver = give(stranger)
    two = DAY | {"duration": 2}
    assert problem(giver.post(PATH, two)) == (409, "changed")
    assert invoices_asked_for(node) == 1
    assert giver.post(PATH, DAY).status_code == 200
    assert giver.post(PATH, two).status_code == 402


def test_a_credential_for_time_counts_for_its_own_hosting_alone(stranger, bob, give, alice):
    giver = give(stranger)
    assert giver.post("/hosting/bobby/time", DAY).status_code == 402
    assert giver.post(PATH, DAY).status_code == 200
    # An extension, or a tip of some amount, has not paid for this time.
    extended = give(bob, "/hosting/extend")
    assert extended.post("/hosting/bobby/time", DAY).status_code == 402


def test_time_is_not_sold_twice_before_it_takes_effect(
    stranger, client, wallet, worker, this_shop, alice, node
):
    asked = stranger.post(PATH, DAY)
    preimage = wallet.pay(asked.json["invoice"])["payment_preimage"]
    giver = Program(client, f"{asked.json['macaroon']}:{preimage}")
    assert problem(giver.post(PATH, DAY)) == (503, "not_settled")
    record_payments(worker)
    waits = giver.post(PATH, DAY)
    assert (waits.status_code, waits.headers["Retry-After"]) == (202, "3")
    assert (waits.json["applied"], waits.json["paid_until"]) == (False, None)
    work(worker)
    assert giver.post(PATH, DAY).json["applied"] is True
    assert invoices_asked_for(node) == 1


# -- hostings that take none, and bad requests -------------------------------------------


@pytest.mark.each_database
def test_time_is_not_sold_where_no_tips_are_taken(stranger, this_shop, alice, give, node):
    giver = give(stranger)
    bob = open_account(this_shop, "bob1")
    Account.update(closing_at=1).where(Account.id == bob.id).execute()
    carol = open_account(this_shop, "carol")
    Account.update(blocked_at=1, blocked_reason="spam").where(Account.id == carol.id).execute()
    orders.place(this_shop, wish(username="unpaid"))
    tips.switch(alice.id, tips_page=False)
    asked = invoices_asked_for(node)
    names = ["alice", "nobody", "bob1", "carol", "unpaid", "ALICE", "%C3%A4", "x" * 999]
    answers = [stranger.post(f"/hosting/{name}/time", DAY) for name in names]
    assert {problem(answer) for answer in answers} == {(404, "unknown")}
    assert len({answer.data for answer in answers}) == 1
    # Whoever has paid before still gets the answer.
    assert giver.post(PATH, DAY).status_code == 200
    assert problem(giver.post(PATH, DAY)) == (404, "unknown")
    tips.switch(alice.id, tips_page=True)
    Account.update(last_call_at=1).where(Account.id == alice.id).execute()
    assert problem(stranger.post(PATH, DAY)) == (409, "refused")
    assert invoices_asked_for(node) == asked


@with_settings(TIP_MIN_SATS="2", TIP_MAX_SATS="10")
def test_the_price_of_time_is_within_the_bounds_of_tips(stranger, alice):
    for body, status in (
        ({"duration": 1, "unit": "hours"}, 409),
        ({"duration": 4, "unit": "hours"}, 402),
        (DAY, 402),
        ({"duration": 2, "unit": "days"}, 409),
    ):
        answer = stranger.post(PATH, body)
        assert answer.status_code == status, body
        assert status == 402 or answer.json["code"] == "refused"


def test_errors_in_a_body_are_reported_by_field(stranger, alice, node):
    for body, fields in (
        ({}, {"duration", "unit"}),
        (DAY | {"duration": 0}, {"duration"}),
        (DAY | {"duration": -1}, {"duration"}),
        (DAY | {"duration": "1"}, {"duration"}),
        (DAY | {"unit": "years"}, {"unit"}),
        (DAY | {"unit": "\0"}, {"unit"}),
        ({"duration": 25, "unit": "months"}, {"duration"}),
        (DAY | {"amount_msat": 1000}, {"amount_msat"}),
        (DAY | {"username": "alice"}, {"username"}),
    ):
        assert wrong(stranger.post(PATH, body)) == fields, body
    assert problem(stranger("GET", PATH)) == (405, "method_not_allowed")
    assert invoices_asked_for(node) == 0


def test_time_paid_while_the_hosting_is_deleted_is_too_late(
    stranger, client, wallet, worker, alice
):
    asked = stranger.post(PATH, DAY)
    accounts.close(alice.id)
    Account.update(deleting_at=1).where(Account.id == alice.id).execute()
    preimage = wallet.pay(asked.json["invoice"])["payment_preimage"]
    giver = Program(client, f"{asked.json['macaroon']}:{preimage}")
    record_payments(worker)
    assert problem(giver.post(PATH, DAY)) == (409, "too_late")
    for _ in range(3):
        work(worker)
    assert not Account.select().where(Account.id == alice.id).exists()
    assert problem(giver.post(PATH, DAY)) == (409, "too_late")
    assert problem(stranger.post(PATH, DAY)) == (404, "unknown")


def test_nothing_is_told_about_a_hosting_that_is_gone(stranger, give, worker, alice):
    giver = give(stranger)
    accounts.close(alice.id)
    for _ in range(3):
        work(worker)
    assert problem(giver.post(PATH, DAY)) == (404, "unknown")


# -- once, and not too often -------------------------------------------------------------


def test_the_same_key_is_one_order_for_ever(stranger, client, wallet, worker, alice, node):
    def ask(who=stranger, body=DAY, key=KEY, address="192.0.2.1"):
        return client.post(
            f"/api/v1{PATH}",
            json=body,
            headers={"Idempotency-Key": key} | who.headers,
            environ_base={"REMOTE_ADDR": address},
        )

    first = ask()
    assert ask().data == first.data
    others = [ask(body=DAY | {"duration": 2}), ask(key=KEY + "2"), ask(address="192.0.2.2")]
    assert len({each.json["invoice"] for each in (first, *others)}) == 4
    assert problem(ask(key="short")) == (400, "bad_key")
    giver = paid(client, wallet, worker, first)
    assert problem(ask()) == (409, "ordered")
    for _ in range(3):
        assert ask(giver).status_code == 200
    assert end(alice) == alice.expires_at + SECONDS
    assert invoices_asked_for(node) == 4


@with_settings(TIPS_LIMIT="3 per day", TIPS_LIMIT_OVERALL="3 per day")
def test_a_network_is_limited_together_with_tips(stranger, give, client, alice):
    assert stranger.post("/tips/alice", {"amount_msat": 1000}).status_code == 201
    giver = give(stranger)
    assert giver.post(PATH, DAY).status_code == 200  # a paid one does not count
    assert [stranger.post(PATH, DAY).status_code for _ in range(2)] == [402, 429]
    assert problem(stranger.post("/tips/alice", {"amount_msat": 1000})) == (
        429,
        "too_many_requests",
    )
    other = {"environ_base": {"REMOTE_ADDR": "192.0.2.2"}}
    assert client.post(f"/api/v1{PATH}", json=DAY, **other).status_code == 402


def test_nothing_is_charged_while_the_node_is_down(stranger, node, alice):
    node.faults.set("refuse", "invoice", times=1)
    assert problem(stranger.post(PATH, DAY)) == (503, "node_down")
    assert stranger.post(PATH, DAY).status_code == 402


def test_a_size_that_changes_meanwhile_buys_what_the_money_is_worth(
    stranger, client, wallet, worker, alice
):
    asked = stranger.post(PATH, DAY)
    Account.update(space_mb=alice.space_mb * 5).where(Account.id == alice.id).execute()
    before = end(alice)
    giver = paid(client, wallet, worker, asked)
    given = giver.post(PATH, DAY)
    assert given.status_code == 200
    assert 0 < from_iso(given.json["paid_until"]) - before < SECONDS
