"""Where a login leads, and what the login page shows to a browser that is logged in."""

import re

from lightningspace.base.models import Session
from tests.conftest import csrf_token, enter, with_settings

# Addresses that are opened while logged out, and where the login then leads.
MEANT = {
    "/account": "/account",
    "/account/extend": "/account/extend",
    "/account/extend?duration=3&unit=days": "/account/extend",
    "/account/mail/info@alice.shop.test": "/account/mail",
    "/account/domains/x/status": "/account/domains",
    "/account/access/tokens/1": "/account/access",
    "/account/receipt": "/account/access",
    "/account/status?here=tips": "/account/tips",
    "/account/status?here=//evil": "/account",
}
# Addresses that no login leads to.
STRANGE = (
    *("", "//evil", "/\\evil", "https:evil", "https://evil.example/", "/orders/x", "/logout"),
    *("logout", "account.overview", "/account/extend", "extend/..", "Extend", "extend\n", "\0"),
    *("status", "receipt", "prove", "x" * 10_000, "\N{RIGHT-TO-LEFT OVERRIDE}extend"),
)


def fill_in(client, address: str):
    """Log in as alice by the form of the page at this address."""
    page = client.get(address).text
    action = re.search(r'<form method="post" action="(/login[^"/]*)"', page)[1]
    fields = {"username": "alice", "password": "correct horse"}
    return client.post(action, data={"csrf_token": csrf_token(page)} | fields)


@with_settings(LOGINS_LIMIT="1000 per minute")
def test_a_login_leads_to_what_was_asked_for(app, alice, subtests):
    for asked, then in MEANT.items():
        with subtests.test(asked=asked):
            client = app.test_client()
            login = client.get(asked).location
            assert client.get(asked, headers={"HX-Request": "true"}).headers["HX-Redirect"] == login
            answer = fill_in(client, login)
            assert answer.location == then
            assert client.get(answer.location).status_code == 200


@with_settings(LOGINS_LIMIT="1000 per minute")
def test_a_login_leads_nowhere_else(app, alice, subtests):
    client = app.test_client()
    for then in STRANGE:
        with subtests.test(then=then):
            fields = {"username": "alice", "password": "wrong"}
            token = csrf_token(client.get("/login").text)
            answer = client.post(
                "/login", query_string={"then": then}, data={"csrf_token": token} | fields
            )
            assert answer.status_code == 400
            actions = re.findall(r'<form method="post" action="([^"]*)"', answer.text)
            assert actions == [
                "/login",
                *(f"/login/{way}" for way in ("receipt", "wallet", "recover")),
            ]
            cookie = client.get("/cookie", query_string={"then": then}).location
            assert cookie == ("/account/extend" if then == "/account/extend" else "/")
    # Nor does a field of the form, or the old name of the parameter.
    token = {"csrf_token": csrf_token(client.get("/login").text), "then": "//evil"}
    fields = {"username": "alice", "password": "correct horse"}
    answer = client.post("/login?next=//evil", data=token | fields)
    assert answer.location == "/account"


def test_a_wrong_password_keeps_where_the_login_leads(client, alice):
    page = client.get("/login?then=extend").text
    fields = {"csrf_token": csrf_token(page), "username": "alice", "password": "wrong password"}
    page = client.post("/login?then=extend", data=fields).text
    assert "<strong>More time</strong>" in page
    assert page.count("?then=extend") == 4


def test_a_login_without_a_cookie_leads_there_too(client, alice):
    fields = {"username": "alice", "password": "correct horse"}
    same_origin = {"Sec-Fetch-Site": "same-origin"}
    answer = client.post("/login?then=extend", data=fields, headers=same_origin)
    assert answer.location == "/cookie?then=/account/extend"
    assert client.get(answer.location).location == "/account/extend"


def test_a_form_sent_after_the_session_ended_is_reported_as_lost(client, alice):
    page = enter(client, alice).get("/account/mail").text
    Session.delete().execute()
    fields = {"csrf_token": csrf_token(page), "local_part": "bob", "domain": "alice.shop.test"}
    answer = client.post("/account/mail/mailbox", data=fields)
    assert answer.location == "/login?then=mail"
    assert "Nothing was changed" in client.get(answer.location).text
    assert "Nothing was changed" not in client.get(answer.location).text


def test_the_login_page_of_a_logged_in_browser_leads_on(client, alice):
    enter(client, alice)
    page = client.get("/login").text
    assert "alice.<wbr>shop.<wbr>test" in page
    assert 'name="password"' not in page
    assert client.get("/login?then=extend").location == "/account/extend"
    token = {"csrf_token": csrf_token(page)}
    assert client.post("/logout?again=yes", data=token).location == "/login"
    assert 'name="password"' in client.get("/login").text
