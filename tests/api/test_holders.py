"""Who may do what with a hosting over the API, in which of its states, and how often."""

import re
from itertools import product

import pytest

from lightningspace.base.models import Account, Order
from lightningspace.outside.l402 import CAPABILITIES
from lightningspace.rules import accounts
from tests.api.programs import (
    API,
    EVE,
    GOOD,
    SITE,
    TIP,
    TO_ALICE,
    Program,
    clean,
    fill,
    problem,
    program,
    wrong,
)
from tests.conftest import csrf_token, enter, invoices_asked_for, log_in, with_settings

# -- who may do what -------------------------------------------------------------------

# Method and path, body, capability, status of success. In this order, all of them work.
ROUTES = [
    ("GET /hosting", None, "read", 200),
    ("GET /hosting/mailboxes", None, "read", 200),
    ("GET /hosting/mailboxes/eve@alice.shop.test", None, "read", 200),
    ("GET /hosting/forwards", None, "read", 200),
    ("GET /hosting/forwards/all@alice.shop.test", None, "read", 200),
    ("GET /hosting/domains", None, "read", 200),
    ("GET /hosting/domains/example.org", None, "read", 200),
    ("GET /hosting/orders", None, "read", 200),
    ("PATCH /hosting", {"https": True}, "settings", 200),
    ("PATCH /hosting/mailboxes/eve@alice.shop.test", {"quota_mb": 3}, "mail", 200),
    ("PATCH /hosting/forwards/all@alice.shop.test", {"destination": "a@b.example"}, "mail", 200),
    ("PATCH /hosting/domains/example.org", {"wants_mail": True}, "domains", 200),
    ("POST /hosting/mailboxes", {"address": f"new@{SITE}"}, "mail", 201),
    ("POST /hosting/forwards", {"address": f"newer@{SITE}"} | TO_ALICE, "mail", 201),
    ("POST /hosting/domains", {"name": "example.net"}, "domains", 201),
    ("POST /hosting/domains/example.org/check", None, "domains", 202),
    ("GET /hosting/tips", None, "read", 200),
    (f"PATCH /hosting/tips/{TIP}", {"hidden": True}, "settings", 200),
    ("DELETE /hosting/mailboxes/eve@alice.shop.test", None, "mail", 202),
    ("DELETE /hosting/forwards/all@alice.shop.test", None, "mail", 202),
    ("DELETE /hosting/domains/example.org", None, "domains", 202),
    ("DELETE /hosting/orders/<order>", None, "pay", 200),
    ("DELETE /hosting", None, "close", 202),
]
roomy = with_settings(DOMAINS_INCLUDED="3", CHANGES_LIMIT="1000 per minute")


def ask(who: Program, route, order: str):
    (method, path), body = route[0].split(), route[1]
    return who(method, path.replace("<order>", order), body)


@pytest.mark.each_database
@roomy
def test_each_route_needs_its_capability(client, this_shop, alice, furnished, node):
    who = {each: program(client, this_shop, alice, each) for each in CAPABILITIES}
    asked = invoices_asked_for(node)
    for route, capability in product(ROUTES, CAPABILITIES):
        if capability != route[2]:
            answer = ask(who[capability], route, furnished)
            assert problem(answer) == (403, "not_capable"), (route, capability)
    for route in ROUTES:
        answer = ask(who[route[2]], route, furnished)
        status = answer.status_code
        assert status == route[3], (route, answer.text)
        assert "Set-Cookie" not in answer.headers
        assert (status == 202) == ("Retry-After" in answer.headers)
        assert (status == 201) == ("Location" in answer.headers)
    assert invoices_asked_for(node) == asked


@roomy
def test_without_a_credential_nothing_is_shown_or_sold(furnished, stranger, node):
    asked = invoices_asked_for(node)
    for route in ROUTES:
        answer = ask(stranger, route, furnished)
        assert problem(answer) == (401, "unauthorized"), route
        assert answer.headers.getlist("WWW-Authenticate") == ["L402"]
    assert invoices_asked_for(node) == asked


def test_the_table_names_every_route(app):
    routes = set()
    for rule in app.url_map.iter_rules():
        if rule.rule.startswith(f"{API}/hosting"):
            routes |= {f"{method} {rule.rule}" for method in rule.methods - {"HEAD", "OPTIONS"}}
    known = {f"POST {API}/hosting{path}" for path in ("", "/extend", "/resize", "/<username>/time")}
    for route, *_ in ROUTES:
        method, path = route.split()
        path = re.sub("/[a-z]+@[^/]*", "/<address>", path).replace("example.org", "<name>")
        known.add(f"{method} {API}{path.replace('<order>', '<token>').replace(TIP, '<token>')}")
    assert routes == known


@pytest.mark.parametrize("path", ["/hosting", "/hosting/mailboxes", "/hosting/domains", "/prices"])
def test_a_head_is_a_get_without_a_body(path, owner):
    answer = owner("HEAD", path)
    assert (answer.status_code, answer.data) == (200, b"")
    assert answer.content_length == len(owner.get(path).data)


def test_a_wrong_method_says_which_are_right(owner):
    answer = owner("PUT", "/hosting/mailboxes")
    assert problem(answer) == (405, "method_not_allowed")
    assert {"GET", "POST"} <= set(answer.headers["Allow"].split(", "))


# -- other people's hostings, and other states -----------------------------------------


@roomy
def test_bob_finds_nothing_of_alices(furnished, bob, alice):
    before = Account.get_by_id(alice.id).revision
    for route in ROUTES:
        answer = ask(bob, route, furnished)
        path = route[0].partition(" ")[2]
        if "@" in path or "example.org" in path or "<order>" in path:
            assert problem(answer) == (404, "unknown"), route
        elif "address" in (route[1] or {}):
            assert wrong(answer) == {"address"}  # it is in alice's domain
        else:
            assert "alice" not in answer.text, route
    assert Account.get_by_id(alice.id).revision == before
    assert Order.get_by_id(furnished).cancelled_at is None


@roomy
def test_a_name_that_is_not_there_is_unknown(owner):
    names = ("x", "%ff", "é", "x" * 5000, f"INFO@{SITE}")
    for kind, name in product(("mailboxes", "forwards", "domains"), names):
        for method in ("GET", "PATCH", "DELETE"):
            answer = owner(method, f"/hosting/{kind}/{name}", {})
            assert problem(answer) == (404, "unknown"), (method, kind, name)


@roomy
def test_a_closing_hosting_can_be_seen_and_not_changed(furnished, owner, alice):
    accounts.close(alice.id)
    for route in ROUTES:
        answer = ask(owner, route, furnished)
        if route[2] in ("read", "pay", "close") or route[0].endswith("/check"):
            assert answer.status_code == route[3], route
        else:
            assert problem(answer) == (409, "closing"), route


@roomy
def test_services_of_a_hosting_being_set_up_cannot_be_changed_yet(furnished, owner, alice):
    clean(alice, ready_at=None)
    for route in ROUTES:
        answer = ask(owner, route, furnished)
        if route[2] in ("read", "pay", "close"):
            assert answer.status_code in (200, 202), route
        else:
            assert problem(answer) == (503, "setting_up"), route
            assert answer.headers["Retry-After"]


OFF = [
    {"suspended_at": 1, "valued_at": 1, "expires_at": 2},
    {"blocked_at": 1, "blocked_reason": "spam"},
]


@roomy
@pytest.mark.parametrize("facts", OFF, ids=["suspended", "blocked"])
def test_a_hosting_that_is_off_is_managed_as_on_the_pages(facts, furnished, owner, alice):
    clean(alice, **facts)
    for route in ROUTES:
        assert ask(owner, route, furnished).status_code == route[3], route


@roomy
def test_every_route_works_while_the_panel_is_down(furnished, owner, panel):
    panel.stop()
    for route in ROUTES:
        assert ask(owner, route, furnished).status_code == route[3], route


def test_nothing_is_sold_to_a_blocked_hosting(owner, this_shop, alice, node):
    fill(this_shop, alice)
    clean(alice, blocked_at=1, blocked_reason="spam")
    answer = owner.post("/hosting/mailboxes", {"address": EVE})
    assert problem(answer) == (409, "refused")
    assert invoices_asked_for(node) == 0


# -- too often -------------------------------------------------------------------------


@with_settings(CHANGES_LIMIT="3 per day")
def test_changes_are_limited_and_reading_is_not(owner):
    for _ in range(3):
        owner.patch("/hosting", {"ftp_password": "short"})
    for answer in (
        owner.patch("/hosting", {"https": True}),
        owner.post("/hosting/mailboxes", {"address": EVE}),
        owner.delete(),
    ):
        assert problem(answer) == (429, "too_many_requests")
        assert answer.headers["Retry-After"]
    assert owner.get().status_code == 200


@with_settings(CHANGES_LIMIT="2 per day", CHANGES_LIMIT_OVERALL="2 per day")
def test_a_programs_changes_do_not_use_up_the_owners(client, this_shop, alice, app):
    reader = program(client, this_shop, alice, "read")
    answers = [problem(reader.patch("/hosting", {"https": True}))[0] for _ in range(3)]
    assert answers == [403, 403, 429]
    browser = enter(app.test_client(), alice)
    fields = {"csrf_token": csrf_token(browser.get("/account").text)}
    fields |= {"service": "all", "password": GOOD}
    assert browser.post("/account/settings/password", data=fields).status_code == 303


@with_settings(LOGINS_LIMIT="2 per day", LOGINS_LIMIT_OVERALL="2 per day")
def test_logins_leave_a_new_login_password_possible(app, owner):
    browser = app.test_client()
    log_in(browser, "alice", "correct horse")  # the browser is known from now on
    statuses = [log_in(browser, "alice", "wrong password").status_code for _ in range(3)]
    assert statuses == [400, 400, 429]
    assert owner.patch("/hosting", {"login_password": GOOD}).status_code == 200


@with_settings(LOGINS_LIMIT="2 per day", LOGINS_LIMIT_OVERALL="2 per day")
def test_new_login_passwords_are_limited_and_leave_logins_possible(app, owner):
    browser = app.test_client()
    log_in(browser, "alice", "correct horse")
    statuses = [owner.patch("/hosting", {"login_password": GOOD}).status_code for _ in range(3)]
    assert statuses == [200, 200, 429]
    assert log_in(browser, "alice", GOOD).location == "/account"
