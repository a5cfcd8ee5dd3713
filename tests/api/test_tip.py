"""Tips over the API: an invoice for anybody, and its state."""

import pytest

from lightningspace.base import qr
from lightningspace.base.clock import from_iso
from lightningspace.base.models import Account, Order
from lightningspace.outside import l402
from lightningspace.rules import accounts, orders, recovery, tips, tokens
from tests.conftest import (
    csrf_token,
    invoices_asked_for,
    open_account,
    record_payments,
    wish,
    with_settings,
    work,
)

KEY = "a-key-of-this-request"
SAT = 1000


@pytest.fixture
def give(client, alice):
    """Ask for a tip's invoice: `give(1000 * SAT)`."""

    def give(msat=1000 * SAT, to="alice", key=None, address="192.0.2.1", **fields):
        headers = {"Idempotency-Key": key} if key else {}
        return client.post(
            f"/api/v1/tips/{to}",
            json={"amount_msat": msat} | fields,
            headers=headers,
            environ_base={"REMOTE_ADDR": address},
        )

    return give


@pytest.fixture
def look(client):
    """Get a tip's own address."""
    return lambda tip: client.get(tip.json["status_url"]).json


def status(answer) -> tuple[int, str]:
    return answer.status_code, answer.json.get("code")


def test_a_tip_is_asked_for_paid_and_watched(give, look, wallet, worker, alice):
    tip = give(1000 * SAT, message=" Thank\nyou ")
    assert tip.status_code == 201
    assert tip.headers["Access-Control-Allow-Origin"] == "*"
    assert "Set-Cookie" not in tip.headers
    told = tip.json
    token = told["order"]
    assert tip.location == f"/api/v1/tips/alice/{token}"
    assert told.pop("qr_svg").startswith("<svg")
    assert told.pop("invoice").startswith("lnbcrt10u1")
    expires_at = told.pop("expires_at")
    assert from_iso(expires_at) == Order.get().expires_at
    facts = {
        "order": token,
        "amount_msat": 1000 * SAT,
        "status_url": f"http://localhost/api/v1/tips/alice/{token}",
        "page_url": f"http://localhost/orders/{token}",
    }
    assert told == facts | {"state": "unpaid", "applied": False, "paid_until": None}
    assert look(tip) == tip.json

    preimage = wallet.pay(tip.json["invoice"])["payment_preimage"]
    work(worker)
    paid = look(tip)
    end = Account.get_by_id(alice.id).expires_at
    assert end == alice.expires_at + Order.get().bought_seconds
    assert from_iso(paid.pop("paid_until")) == end
    gone = {"invoice": None, "qr_svg": None, "expires_at": expires_at}
    assert paid == facts | gone | {"state": "paid", "applied": True}
    assert preimage not in str(paid)


def test_the_qr_code_is_of_the_invoice_in_capitals(give):
    tip = give().json
    assert tip["qr_svg"] == qr.svg("LIGHTNING:" + tip["invoice"].upper())


def test_the_ways_to_tip_are_described(client, alice, node):
    facts = {"username": "alice", "site": "alice.shop.test", "message_max": 140}
    facts |= {"min_msat": SAT, "max_msat": 1_000_000 * SAT}
    facts |= {"lightning_address": "alice@localhost", "page_url": "http://localhost/tip/alice"}
    told = client.get("/api/v1/tips/alice").json
    assert told.pop("offer").startswith("lno1")
    assert from_iso(told.pop("paid_until")) == alice.expires_at
    assert told == facts
    assert invoices_asked_for(node) == 0

    tips.switch(alice.id, tips_address=False, tips_offer=False, tips_show_end=False)
    closed = {"lightning_address": None, "offer": None, "paid_until": None}
    assert client.get("/api/v1/tips/alice").json == facts | closed


def test_the_ways_to_tip_are_described_while_the_node_is_down(client, alice, node):
    node.stop()
    told = client.get("/api/v1/tips/alice")
    assert (told.status_code, told.json["offer"]) == (200, None)


def test_the_end_of_a_tipped_hosting_is_hidden_if_the_owner_says_so(
    give, look, wallet, worker, alice
):
    tips.switch(alice.id, tips_show_end=False)
    tip = give()
    wallet.pay(tip.json["invoice"])
    work(worker)
    assert (look(tip)["applied"], look(tip)["paid_until"]) == (True, None)


# -- hostings that take none -------------------------------------------------------------


def test_every_name_that_takes_no_tips_looks_alike(client, this_shop, alice):
    bob = open_account(this_shop, "bob1")
    Account.update(closing_at=1).where(Account.id == bob.id).execute()
    carol = open_account(this_shop, "carol")
    Account.update(blocked_at=1, blocked_reason="spam").where(Account.id == carol.id).execute()
    dora = open_account(this_shop, "dora")
    tips.switch(dora.id, tips_page=False)
    orders.place(this_shop, wish(username="unpaid"))
    names = ["nobody", "bob1", "carol", "dora", "unpaid", "ALICE", "%C3%A4", "x" * 999]
    for body in ({"amount_msat": 1000 * SAT}, {"amount_msat": -1}):
        answers = [client.post(f"/api/v1/tips/{name}", json=body) for name in names]
        assert {status(answer) for answer in answers} == {(404, "unknown")}
        assert len({answer.data for answer in answers}) == 1
    told = [client.get(f"/api/v1/tips/{name}") for name in names]
    assert {answer.data for answer in told} == {answers[0].data}


def test_in_the_last_minutes_tips_are_refused_with_a_reason(give, client, alice, node):
    Account.update(last_call_at=1).execute()
    assert client.get("/api/v1/tips/alice").status_code == 200
    refused = give()
    assert status(refused) == (409, "refused")
    assert "about to be deleted" in refused.json["detail"]
    assert invoices_asked_for(node) == 0


def test_an_unknown_tip_is_not_found(client, alice):
    for token in ("0" * 32, "%C3%A4", "..", "x" * 999):
        assert status(client.get(f"/api/v1/tips/alice/{token}")) == (404, "unknown")


def test_only_tips_and_those_of_the_name_are_shown(client, this_shop, give, alice):
    open_account(this_shop, "bob1")
    tip, unpaid = give().json["order"], orders.place(this_shop, wish(username="unpaid"))
    nobody = client.get("/api/v1/tips/nobody")
    for path in (f"bob1/{tip}", f"nobody/{tip}", f"alice/{unpaid.token}"):
        assert client.get(f"/api/v1/tips/{path}").data == nobody.data
    extension = orders.extend(this_shop, alice.id, 1, "days", orders.Buyer(None, "form"))
    own = orders.top_up(this_shop, alice.id, orders.Tip(1000_000, "owner"), None, "form")
    for order in (extension, own):
        assert client.get(f"/api/v1/tips/alice/{order.token}").status_code == 404


# -- amounts and messages ----------------------------------------------------------------


WRONG = [
    ("", ["amount_msat"]),
    ("{}", ["amount_msat"]),
    ('{"amount_msat": null}', ["amount_msat"]),
    ('{"amount_msat": "1000"}', ["amount_msat"]),
    ('{"amount_msat": 1000.5}', ["amount_msat"]),
    ('{"amount_msat": true}', ["amount_msat"]),
    ('{"amount_msat": 999}', ["amount_msat"]),
    ('{"amount_msat": -1000}', ["amount_msat"]),
    ('{"amount_msat": 1000000001}', ["amount_msat"]),
    ('{"amount_msat": 1e30}', ["amount_msat"]),
    ('{"amount_msat": 1000, "message": 1}', ["message"]),
    ('{"amount_msat": 1000, "message": "%s"}' % ("ä" * 141), ["message"]),
    ('{"amount_msat": 1, "message": "%s"}' % ("x" * 141), ["amount_msat", "message"]),
    ('{"amount_msat": 1000, "amount_sat": 1}', ["amount_sat"]),
    ('{"amount_msat": 1000, "amount_msat": 1000}', []),
    ("[]", []),
    ("{", []),
]


def test_errors_in_a_body_are_reported_by_field(client, alice, node):
    for body, wrong in WRONG:
        answer = client.post("/api/v1/tips/alice", data=body.encode())
        assert status(answer) == (400, "bad_request"), body
        assert sorted(answer.json.get("errors", {})) == wrong, body
    assert invoices_asked_for(node) == 0


def test_a_message_is_kept_as_text_on_one_line(give):
    for message, kept in (
        (None, None),
        (" \0\u202e\n", None),
        ("\u202e<b>a\ud800\r\nb", "<b>a b"),
        ("\N{PILE OF POO}" * 140, "\N{PILE OF POO}" * 140),
    ):
        tip = give(message=message)
        assert "message" not in tip.json  # anybody may have the link
        assert Order.get_by_id(tip.json["order"]).message == kept


def test_an_amount_need_not_be_whole_sats(give):
    assert give(1001).json["invoice"].startswith("lnbcrt10010p1")


@with_settings(TIP_MIN_SATS="5", TIP_MAX_SATS="10")
def test_the_bounds_of_tips_are_those_of_the_settings(give, client):
    told = client.get("/api/v1/tips/alice").json
    assert (told["min_msat"], told["max_msat"]) == (5 * SAT, 10 * SAT)
    assert [give(msat).status_code for msat in (4999, 5000, 10_000, 10_001)] == [400, 201, 201, 400]


# -- once, and not too often -------------------------------------------------------------


def test_the_same_key_is_one_tip(give, node, wallet, worker):
    first = give(key=KEY)
    assert give(key=KEY).json == first.json
    others = give(2000 * SAT, key=KEY), give(key=KEY, message="x"), give(key=KEY, address="::1")
    assert len({each.json["order"] for each in (first, *others)}) == 4
    wallet.pay(first.json["invoice"])
    work(worker)
    again = give(key=KEY)
    assert (again.status_code, again.json["state"]) == (201, "paid")
    assert again.json["order"] == first.json["order"]
    assert invoices_asked_for(node) == 4
    assert status(give(key="short")) == (400, "bad_key")


def test_without_a_key_each_request_is_another_tip(give):
    assert give().json["invoice"] != give().json["invoice"]


@with_settings(TIPS_LIMIT="2 per day", TIPS_LIMIT_OVERALL="2 per day")
def test_a_network_is_limited_over_all_names(give, this_shop, client):
    open_account(this_shop, "bob1")
    assert give(0).status_code == 400  # a refused one does not count
    assert [give(to=name).status_code for name in ("alice", "bob1", "alice")] == [201, 201, 429]
    limited = give(to="bob1")
    assert status(limited) == (429, "too_many_requests")
    assert int(limited.headers["Retry-After"]) > 0
    # The overall limit is used up, but a network that has used nothing may still tip.
    assert [give(address="192.0.2.2").status_code for _ in range(2)] == [201, 429]
    assert client.get("/api/v1/tips/alice").status_code == 200


@with_settings(
    TIPS_LIMIT="1 per day", TIPS_LIMIT_OVERALL="9 per day", SERVER_ADDRESSES="192.0.2.9,2001:db8::9"
)
def test_visitors_of_one_servers_sites_count_for_each_site(give, this_shop):
    open_account(this_shop, "bob1")

    def asked(address: str) -> list[int]:
        return [give(to=to, address=address).status_code for to in ("alice", "bob1", "alice")]

    assert asked("192.0.2.9") == [201, 201, 429]
    assert asked("2001:db8::9")[:2] == [201, 201]
    # An address beside the server's counts as an ordinary network.
    assert asked("2001:db8::8") == [201, 429, 429]


@with_settings(TIPS_LIMIT="5 per day", TIPS_LIMIT_OVERALL="2 per day", SERVER_ADDRESSES="192.0.2.9")
def test_a_customer_cannot_have_invoices_made_in_all_neighbours_names(give, this_shop):
    open_account(this_shop, "bob1")
    there = [give(to=to, address="192.0.2.9").status_code for to in ("alice", "bob1") * 2]
    assert there == [201, 201, 429, 429]
    assert give(address="192.0.2.2").status_code == 201  # other networks are not affected


def test_nothing_is_charged_while_the_node_is_down(give, node):
    node.faults.set("refuse", "invoice", times=1)
    answer = give(key=KEY)
    assert status(answer) == (503, "node_down")
    assert answer.headers["Retry-After"]
    assert give(key=KEY).status_code == 201


# -- what becomes of it ------------------------------------------------------------------


def test_an_unpaid_tip_expires(give, look, time_machine, this_shop, worker):
    tip = give(message="hello")
    time_machine.forward(this_shop.config.invoice_minutes * 60 + 1)
    assert (look(tip)["state"], look(tip)["invoice"]) == ("checking", None)
    worker.tidy()
    assert (look(tip)["state"], look(tip)["applied"]) == ("expired", False)


def test_a_tip_can_be_watched_after_its_door_was_closed(give, look, wallet, worker, alice, client):
    tip = give()
    tips.switch(alice.id, tips_page=False)
    wallet.pay(tip.json["invoice"])
    work(worker)
    assert client.get("/api/v1/tips/alice").status_code == 404
    assert look(tip)["state"] == "paid"


def test_a_tip_paid_while_the_hosting_is_deleted_is_late(give, look, wallet, worker, alice):
    tip = give()
    accounts.close(alice.id)
    Account.update(deleting_at=1).where(Account.id == alice.id).execute()
    wallet.pay(tip.json["invoice"])
    record_payments(worker)
    assert (look(tip)["state"], look(tip)["applied"]) == ("late", False)


def test_a_tip_of_a_hosting_that_is_gone_is_not_shown(give, client, wallet, worker, alice):
    tip = give()
    wallet.pay(tip.json["invoice"])
    work(worker)
    accounts.close(alice.id)
    for _ in range(3):
        work(worker)
    assert Account.select().where(Account.id == alice.id).count() == 0
    assert status(client.get(tip.json["status_url"])) == (404, "unknown")


# -- what it gives its payer: nothing ------------------------------------------------------


@pytest.fixture(params=["page", "address", "offer"])
def paid(request, client, give, wallet, worker, this_shop, alice) -> tuple[Order, str, bytes]:
    """A paid tip by each door, with its invoice and preimage."""
    if request.param == "page":
        invoice = give().json["invoice"]
    elif request.param == "address":
        invoice = client.get("/.well-known/lnurlp/alice/invoice?amount=1000000").json["pr"]
    else:
        asked = {"offer": tips.offer(this_shop, alice), "amount_msat": 1000 * SAT}
        invoice = wallet.call("fetchinvoice", asked)["invoice"]
    preimage = wallet.pay(invoice)["payment_preimage"]
    work(worker)
    order = Order.get(Order.kind == "topup")
    assert (order.door, order.applied_at is None) == (request.param, False)
    return order, invoice, bytes.fromhex(preimage)


def test_paying_a_tip_gives_no_key_to_the_hosting(paid, client, this_shop, alice):
    order, invoice, preimage = paid
    sold = client.post("/api/v1/hosting", json={"space_mb": 100, "duration": 1, "unit": "days"})
    handed_out = tokens.hand_out(this_shop, alice.id, "a token", l402.WHOLE)
    # The first token is never given to anybody: even that one would open nothing.
    for text in (
        str(tokens.challenge(this_shop, order)),
        sold.json["macaroon"],
        tokens.text_of(this_shop, handed_out).partition(":")[0],
    ):
        with pytest.raises(l402.Invalid):
            tokens.holder(this_shop, l402.read(text), preimage)
        header = {"Authorization": f"L402 {text}:{preimage.hex()}"}
        assert client.get("/api/v1/hosting", headers=header).status_code == 401
        fields = {"receipt": f"{text}:{preimage.hex()}"}
        assert log_in_by(client, "receipt", fields).status_code == 400
    assert client.get("/account").status_code == 302


def test_paying_a_tip_recovers_no_hosting(paid, client, this_shop, alice):
    order, invoice, preimage = paid
    with pytest.raises(recovery.NotRecovered):
        recovery.recover(this_shop, invoice, preimage)
    fields = {"invoice": invoice, "preimage": preimage.hex()}
    assert log_in_by(client, "recover", fields).status_code == 400
    assert client.get("/account").status_code == 302
    assert Account.get_by_id(alice.id).recovery_asked_at is None


def log_in_by(client, way: str, fields: dict):
    token = csrf_token(client.get("/login").text)
    return client.post(f"/login/{way}", data={"csrf_token": token} | fields)


def test_a_browser_reads_a_page(client, give):
    browser = {"Accept": "text/html"}
    tip = give()
    page = client.get(tip.json["status_url"], headers=browser)
    assert (page.status_code, page.mimetype) == (200, "text/html")
    assert "&lt;svg" in page.text and "<svg" not in page.text
