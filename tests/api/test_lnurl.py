"""Lightning Addresses: what wallets ask for, by GET, and what the shop answers."""

import hashlib
import json

import pytest
from pyln.proto import Invoice

from lightningspace.base.models import Account, Order
from lightningspace.rules import tips
from lightningspace.rules.orders import OPEN_TIPS
from tests.conftest import invoices_asked_for, open_account, with_settings, work

SAT = 1000
ADDRESS = "/.well-known/lnurlp/alice"
UNKNOWN = "Nobody of this name takes payments here."


@pytest.fixture
def ask(client, alice):
    """Ask the callback: `ask(amount=1000 * SAT)`."""

    def ask(to=ADDRESS, method="GET", address="192.0.2.1", **query):
        peer = {"REMOTE_ADDR": address}
        return client.open(f"{to}/invoice", method=method, query_string=query, environ_base=peer)

    return ask


def reason(answer) -> str:
    """The reason in an LNURL error."""
    assert (answer.status_code, answer.mimetype) == (200, "application/json")
    assert answer.json.keys() == {"status", "reason"}
    assert answer.json["status"] == "ERROR"
    return answer.json["reason"]


def is_no_store_for_any_site(answer) -> bool:
    headers = answer.headers
    told = headers["Access-Control-Allow-Origin"], headers["Cache-Control"]
    return told == ("*", "no-store") and "Set-Cookie" not in headers


def path(url: str) -> str:
    assert url.startswith("http://localhost/.well-known/lnurlp/alice/")
    return url.removeprefix("http://localhost")


def test_a_wallet_asks_pays_and_verifies(client, alice, wallet, worker):
    asked = client.get(ADDRESS)
    assert is_no_store_for_any_site(asked)
    told = asked.json
    metadata = told.pop("metadata")
    assert json.loads(metadata) == [
        ["text/plain", "Keep alice.shop.test online"],
        ["text/identifier", "alice@localhost"],
    ]
    callback = path(told.pop("callback"))
    bounds = {"minSendable": SAT, "maxSendable": 1_000_000 * SAT}
    assert told == {"tag": "payRequest", "commentAllowed": 140} | bounds

    answer = client.get(callback, query_string={"amount": 1001, "comment": " Thank\nyou "})
    assert is_no_store_for_any_site(answer)
    told = answer.json
    invoice = Invoice.decode(told.pop("pr"))
    assert invoice.amount * 10**11 == 1001
    assert dict(invoice.tags)["h"] == hashlib.sha256(metadata.encode()).digest()
    verify = path(told.pop("verify"))
    action = told.pop("successAction")
    assert action["tag"] == "message" and len(action["message"]) <= 144
    assert told == {"routes": [], "disposable": False}
    order = Order.get()
    assert (order.kind, order.door, order.message) == ("topup", "address", "Thank you")
    assert (order.holder, order.username, order.browser) == (None, None, None)

    unpaid = {"status": "OK", "settled": False, "preimage": None, "pr": order.bolt11}
    assert client.get(verify).json == unpaid
    preimage = wallet.pay(order.bolt11)["payment_preimage"]
    work(worker)
    paid = client.get(verify)
    assert is_no_store_for_any_site(paid)
    assert paid.json == unpaid | {"settled": True}
    assert preimage not in paid.text + str(paid.headers)
    assert Account.get_by_id(alice.id).expires_at > alice.expires_at


def test_each_request_is_an_invoice_of_its_own(ask):
    assert ask(amount=SAT).json["pr"] != ask(amount=SAT).json["pr"]


def test_capitals_are_the_same_name(client, ask):
    assert client.get("/.well-known/lnurlp/AliCe").data == client.get(ADDRESS).data
    verify = ask(to="/.well-known/lnurlp/ALICE", amount=SAT).json["verify"]
    assert "/alice/" in verify
    assert client.get(verify.replace("alice", "ALICE")).json["settled"] is False


def test_addresses_in_answers_are_never_what_the_client_says(client, alice):
    headers = {"Host": "evil.example", "X-Forwarded-Host": "evil.example"}
    for answer in (
        client.get(ADDRESS, headers=headers),
        client.get(f"{ADDRESS}/invoice?amount=1000", headers=headers),
    ):
        assert "evil.example" not in answer.text
        assert "http://localhost/.well-known/" in answer.text


def test_answers_are_json_whatever_a_wallet_accepts(client, alice):
    for accept in ("text/html", "text/html,*/*;q=0.1", "image/png", ""):
        for url in (ADDRESS, "/.well-known/lnurlp/nobody"):
            assert client.get(url, headers={"Accept": accept}).mimetype == "application/json"


def test_a_page_of_another_site_may_ask(client, alice):
    asks = {"Origin": "https://wallet.example", "Access-Control-Request-Method": "GET"}
    answer = client.options(ADDRESS, headers=asks)
    assert (answer.status_code, answer.headers["Access-Control-Allow-Origin"]) == (200, "*")


# -- requests that make no invoice -------------------------------------------------------


def test_metadata_without_an_amount_makes_no_invoice(ask, client, node):
    answer = ask(method="HEAD", amount=SAT)
    assert (answer.status_code, answer.data) == (200, b"")
    assert is_no_store_for_any_site(answer)
    client.get(ADDRESS)
    assert client.post(f"{ADDRESS}/invoice?amount=1000").status_code == 405
    assert invoices_asked_for(node) == 0


AMOUNTS = [
    *("", "-1000", "+1000", "0", "999", "1000000001", "1e3", "1000.0", "1_000", " 1000"),
    *("1000 ", "0x3e8", "١٠٠٠", "１０００", "9" * 5000, "1000\0", "null", "1000,1000"),
    ["1000", "1000"],
]


def test_an_invalid_amount_is_refused(ask, node):
    for query in ({}, *({"amount": amount} for amount in AMOUNTS)):
        assert reason(ask(**query)) == "Send from 1 to 1,000,000 sat.", query
    assert invoices_asked_for(node) == 0


def test_a_comment_that_is_too_long_is_refused(ask, node):
    for comment in ("x" * 141, "\N{PILE OF POO}" * 141, ["a", "b"]):
        told = reason(ask(amount=SAT, comment=comment))
        assert told == "A comment has up to 140 characters."
    assert invoices_asked_for(node) == 0


def test_a_comment_is_kept_as_text(ask):
    for comment in ("\0\u202e", "ä" * 140, "<b>"):
        paid = ask(amount=SAT, comment=comment).json["pr"]
        assert Order.get(bolt11=paid).message == (None if "\0" in comment else comment)


def test_every_name_that_takes_no_tips_looks_alike(client, this_shop, alice):
    bob = open_account(this_shop, "bob1")
    Account.update(closing_at=1).where(Account.id == bob.id).execute()
    carol = open_account(this_shop, "carol")
    Account.update(blocked_at=1, blocked_reason="spam").where(Account.id == carol.id).execute()
    tips.switch(alice.id, tips_address=False)
    names = ["nobody", "bob1", "carol", "alice", "a.b_c-d", "%E2%84%AAit", "x" * 999]
    for end in ("", "/invoice?amount=1000", "/invoice"):
        answers = [client.get(f"/.well-known/lnurlp/{name}{end}") for name in names]
        assert {reason(answer) for answer in answers} == {UNKNOWN}
        assert len({str(answer.headers) for answer in answers}) == 1


def test_in_the_last_minutes_tips_are_refused_with_a_reason(client, ask, node):
    Account.update(last_call_at=1).execute()
    for answer in (client.get(ADDRESS), ask(amount=SAT)):
        assert "about to be deleted" in reason(answer)
    assert invoices_asked_for(node) == 0


@with_settings(TIPS_LIMIT="2 per day", TIPS_LIMIT_OVERALL="3 per day")
def test_a_network_is_limited_over_all_names(ask, client, this_shop, node):
    open_account(this_shop, "bob1")
    limited = "Too many invoices at once. Please try again in a minute."
    capitals = "/.well-known/lnurlp/ALICE"
    bobs = "/.well-known/lnurlp/bob1"
    ask(amount=1), ask(amount=SAT, method="HEAD")  # neither counts
    assert ask(to=bobs, amount=SAT).json["pr"] and ask(to=capitals, amount=SAT).json["pr"]
    assert reason(ask(amount=SAT)) == reason(ask(to=bobs, amount=SAT)) == limited
    peer = {"REMOTE_ADDR": "192.0.2.1"}
    given = client.post("/api/v1/tips/alice", json={"amount_msat": SAT}, environ_base=peer)
    assert given.status_code == 429
    assert ask(amount=SAT, address="192.0.2.8").json["pr"]
    # The overall limit is used up, but a network that has used nothing may still ask.
    assert ask(amount=SAT, address="192.0.2.9").json["pr"]
    assert reason(ask(amount=SAT, address="192.0.2.9")) == limited
    assert client.get(ADDRESS).json["tag"] == "payRequest"
    assert invoices_asked_for(node) == 4


@with_settings(TIPS_LIMIT="2 per day")
def test_an_ipv6_client_is_its_whole_network(ask, client):
    for network in ("2001:db8:1:1::1", "2001:db8:1:2::1"):
        assert ask(amount=SAT, address=network).json["pr"]
    assert "Too many invoices" in reason(ask(amount=SAT, address="2001:db8:1:3::1"))
    assert ask(amount=SAT, address="2001:db8:2:1::1").json["pr"]


@with_settings(TIPS_LIMIT="1000 per minute")
def test_a_hosting_with_many_unpaid_tips_says_so(ask, this_shop, alice):
    Order.insert_many(
        [
            {
                **dict.fromkeys(("placed_at", "expires_at"), 1),
                **{"token": f"{number:032}", "kind": "topup", "door": "address"},
                **{"account": alice.id, "space_mb": 1, "amount_msat": 1},
            }
            for number in range(OPEN_TIPS)
        ]
    ).execute()
    assert reason(ask(amount=SAT)).startswith("Too many invoices")


def test_an_unreachable_node_is_reported(ask, client, node):
    node.stop()
    assert reason(ask(amount=SAT)) == "Our Lightning node does not answer. Please try again soon."
    assert client.get(ADDRESS).json["tag"] == "payRequest"


# -- which invoices can be verified ------------------------------------------------------


def test_only_invoices_of_the_address_and_of_the_name_are_verified(client, this_shop, ask):
    open_account(this_shop, "bob1")
    token = ask(amount=SAT).json["verify"].rpartition("/")[2]
    other = client.post("/api/v1/tips/alice", json={"amount_msat": SAT}).json["order"]
    for end in (f"bob1/{token}", f"nobody/{token}", f"alice/{other}", "alice/0"):
        answer = client.get(f"/.well-known/lnurlp/{end}")
        assert reason(answer) == "There is no such invoice, or it has expired."


def test_an_invoice_that_was_not_paid_in_time_is_reported_as_expired(
    client, ask, time_machine, this_shop, worker
):
    verify = ask(amount=SAT).json["verify"]
    time_machine.forward(this_shop.config.invoice_minutes * 60 + 1)
    assert client.get(verify).json["settled"] is False
    worker.tidy()
    assert reason(client.get(verify)) == "There is no such invoice, or it has expired."
