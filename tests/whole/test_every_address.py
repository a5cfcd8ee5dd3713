"""Every page, form and route of the app once, on each kind of database.

Most tests run on SQLite. Queries that PostgreSQL would refuse are found here, and by the tests
that send every form and every change of a hosting (tests/pages/test_account.py,
tests/api/test_hosting.py).
"""

import re

import pytest

from lightningspace.base.models import Account
from lightningspace.outside import l402
from lightningspace.rules import domains, orders, tokens, wanted
from tests.conftest import ROOT, csrf_token, enter, with_settings, work
from tests.operator.test_pages import log_in

SITE = "alice.shop.test"
# Pages that need a receipt, a key, a proof or a mailed link, files, and redirects.
NOT_SHOWN = {
    *("orders.reopened_form", "orders.reopened_cancelling", "orders.reopened_voucher"),
    *("access.receipt_file", "access.next_receipt_file"),
    *("reminders.confirm_reminders", "reminders.stop_reminders"),
    *("login.cookie", "login.wallet", "tip.badge", "refunds.refund"),
    *("static", "gate_static", "operator.link"),
}

# Queries of addresses that need one.
ASKED = {"operator.payments": "?first=2026-01-01&last=2030-01-01"}


@pytest.fixture
def values(this_shop, alice, wallet, worker) -> dict[str, str]:
    """Values for the placeholders in addresses: alice's hosting has one of everything."""
    wanted.add(this_shop, alice.id, "mailbox", f"eve@{SITE}", "battery staple")
    wanted.add(this_shop, alice.id, "forward", f"all@{SITE}", destination="alice@example.org")
    domains.add(this_shop, alice.id, "example.org", True)
    wanted.add(this_shop, alice.id, "paidarea", "members", wallet_address="me@wallet.example")
    buyer = orders.Buyer("alice's browser", "the first", tokens.RECEIPT)
    extension = orders.extend(this_shop, alice.id, 1, "hours", buyer)
    tip = orders.top_up(this_shop, alice.id, orders.Tip(1000, "page", "Hi"), None, "the second")
    wallet.pay(tip.bolt11)
    work(worker)
    handed_out = tokens.hand_out(this_shop, alice.id, "of a test", l402.WHOLE)
    return {
        "username": "alice",
        "name": "example.org",
        "domain": "example.org",
        "area": "members",
        "address": f"eve@{SITE}",
        "token": extension.token,
        "order": extension.token,
        "token_id": handed_out.id,
        "id": handed_out.id,
        "tip": tip.token,
        "forward": f"all@{SITE}",
        "credential": tokens.text_of(this_shop, handed_out),
    }


def addresses(app, values):
    """Method, address and endpoint of each route; those that only show something come first."""
    found = []
    for rule in app.url_map.iter_rules():
        pattern = rule.rule.replace("/tips/<username>/<order>", "/tips/<username>/<tip>")
        pattern = pattern.replace("/forwards/<address>", "/forwards/<forward>")
        path = re.sub(r"<(?:\w+:)?(\w+)>", lambda name: values.get(name[1], "1"), pattern)
        found += [(method, path, rule.endpoint) for method in rule.methods - {"HEAD", "OPTIONS"}]
    return sorted(found, key=lambda each: each[0] != "GET")


@pytest.mark.each_database
@with_settings(
    DOMAINS_INCLUDED="3",
    CHANGES_LIMIT="1000 per minute",
    LOGINS_LIMIT="1000 per minute",
    INDEX_402_VERIFY="ab" * 32,
    ABUSE_CONTACT="abuse@shop.test",
    IMPRINT_FILE=str(ROOT / "LICENSE"),
)
def test_every_address_is_answered_and_every_page_shown(app, client, alice, values, subtests):
    log_in(enter(client, alice), app.extensions["shop"])
    form = {"csrf_token": csrf_token(client.get("/account").text)}
    credential = {"Authorization": f"L402 {values['credential']}"}
    shown = set()
    for method, path, endpoint in addresses(app, values):
        with subtests.test(method=method, path=path):
            if path.startswith("/api/"):
                answer = client.open(path, method=method, json={}, headers=credential)
            elif method == "GET":
                answer = client.get(f"{path}{ASKED.get(endpoint, '')}")
            else:
                answer = client.open(path, method=method, data=form)
            assert answer.status_code < 500, answer.text
            if method == "GET" and answer.status_code == 200:
                shown.add(endpoint)
    assert Account.select().count() == 1
    every = {endpoint for method, _, endpoint in addresses(app, values) if method == "GET"}
    assert every - shown == NOT_SHOWN
