"""Sessions: what ends with them, and what they may see after a proof."""

import re

import pytest

from lightningspace.base import clock, models, passwords
from lightningspace.base.models import Account, Order, Session, Token
from lightningspace.base.prices import DAY
from lightningspace.outside import l402
from lightningspace.rules import sessions, tokens
from tests.conftest import csrf_token, enter, log_in, open_account, place_order, work

HOUR, MINUTE = 60 * 60, 60


def copied(app, client):
    """Somebody else's browser, with a copy of the cookie."""
    thief = app.test_client()
    thief.set_cookie("session", client.get_cookie("session").value)
    return thief


def is_in(client) -> bool:
    return client.get("/account").status_code == 200


def send(client, path, page="/account", **fields):
    return client.post(path, data={"csrf_token": csrf_token(client.get(page).text)} | fields)


@pytest.fixture
def browser(client, alice):
    log_in(client, "alice", "correct horse")
    return client


@pytest.fixture
def other(app, alice):
    return enter(app.test_client(), alice)


# -- ending a session ------------------------------------------------------------------


def test_logging_out_ends_the_session_wherever_its_cookie_is(app, browser, other):
    thief = copied(app, browser)
    assert is_in(thief)
    send(browser, "/logout")
    assert not is_in(thief)
    assert is_in(other)


def test_ending_all_sessions_ends_copies_of_this_one(app, browser, alice):
    changes = {"current": "correct horse", "new": "battery staple"}
    for path, fields in (("/account/access/sessions", {}), ("/account/password", changes)):
        thief = copied(app, browser)
        assert send(browser, path, **fields).status_code == 303
        assert is_in(browser)
        assert not is_in(thief)
    assert Session.select().count() == 1


def test_a_login_ends_the_session_that_the_browser_had(app, browser, this_shop):
    thief = copied(app, browser)
    open_account(this_shop, "bobby", password_hash=passwords.make_hash("battery staple"))
    log_in(browser, "bobby", "battery staple")
    assert Session.select().count() == 1
    assert not is_in(thief)


def test_sessions_are_listed_and_each_can_be_ended(app, browser, other, time_machine):
    time_machine.forward(2 * DAY)
    page = browser.get("/account/access").text
    assert page.count("This browser") == 1
    [path] = re.findall(r"/account/access/sessions/[0-9a-f]{64}/end", page)
    assert "2 days ago" in page
    assert "End all others" in page
    assert send(browser, path).location == "/account/access#sessions"
    assert not is_in(other)
    assert is_in(browser)
    assert send(browser, path).status_code == 404
    assert "End all others" not in browser.get("/account/access").text


def test_nobody_ends_the_session_of_another_account(app, browser, this_shop):
    bob = enter(app.test_client(), open_account(this_shop, "bobby"))
    bobs = Session.get(Session.account == Account.get(username="bobby"))
    for id in (bobs.id, "x", "%00", "a" * 64):
        assert send(browser, f"/account/access/sessions/{id}/end").status_code == 404
    assert is_in(bob)


def test_the_cookie_holds_what_the_database_does_not(browser):
    with browser.session_transaction() as session:
        secret = session["_user_id"]
    assert secret not in Session.get().id
    assert not is_in(forged(browser, Session.get().id))


def forged(browser, secret):
    with browser.session_transaction() as session:
        session["_user_id"] = secret
    return browser


def test_a_session_lasts_as_long_as_it_is_used(browser, other, time_machine):
    time_machine.forward(20 * DAY)
    assert "Set-Cookie" in browser.get("/account").headers  # its cookie is renewed, too
    time_machine.forward(20 * DAY)
    assert is_in(browser)
    assert not is_in(other)
    sessions.tidy()
    assert Session.select().count() == 1


def test_the_use_of_a_session_is_written_once_an_hour(time_machine, browser):
    begun = clock.now()
    browser.get("/account/status")
    time_machine.forward(HOUR - 1)
    assert "Set-Cookie" not in browser.get("/account/status").headers
    assert Session.get().used_at == begun
    time_machine.forward(1)
    browser.get("/account/status", headers={"HX-Request": "true"})  # a poll
    assert Session.get().used_at == begun
    browser.get("/account/status")
    assert Session.get().used_at == begun + HOUR
    time_machine.forward(-365 * DAY)  # the clock had been wrong
    browser.get("/account/status")
    assert Session.get().used_at == clock.now()


def test_sessions_of_an_account_are_limited(time_machine, browser, alice):
    time_machine.forward(1)
    for _ in range(sessions.SESSIONS_MAX - 1):
        sessions.begin(alice, 0)
    time_machine.forward(HOUR)
    assert is_in(browser)
    sessions.begin(alice, 0)
    assert Session.select().count() == sessions.SESSIONS_MAX
    assert is_in(browser)  # it was used in between


@pytest.mark.each_database
def test_a_login_fails_if_its_password_was_changed_meanwhile(this_shop, alice):
    """Hashing a password takes long enough for it to be changed meanwhile."""
    with models.transaction():
        sessions.end_all(alice.id)
    with pytest.raises(sessions.SessionOver):
        sessions.begin(alice, clock.now())
    _, row = sessions.begin(Account.get_by_id(alice.id), clock.now())
    sessions.end(alice.id, row.id)

    def still():
        sessions.check(row)

    for change in (
        lambda: sessions.prove(row, by_receipt=False),
        lambda: sessions.end_others(row, lambda: None, 0, password_hash="a thief's"),
        lambda: tokens.hand_out(this_shop, alice.id, "mine", l402.WHOLE, still),
    ):
        with pytest.raises(sessions.SessionOver):
            change()
    assert not Session.select().exists()
    assert not Token.select().exists()
    assert Account.get_by_id(alice.id).password_hash == alice.password_hash


# -- the browser that ordered ----------------------------------------------------------


@pytest.fixture
def buyer(app, wallet, worker):
    """A browser that has just bought a hosting, and the order's link."""
    browser = app.test_client()
    link = place_order(browser, username="carol").location
    wallet.pay(Order.get(username="carol").bolt11)
    work(worker)
    assert browser.get(link).location == "/account"
    return browser, link


def test_the_orders_link_leads_back_into_the_same_session(buyer):
    browser, link = buyer
    browser.get(link)
    assert Session.select().count() == 1


def test_a_session_that_is_ended_from_elsewhere_does_not_begin_again(app, buyer):
    browser, link = buyer
    elsewhere = enter(app.test_client(), Account.get(username="carol"))
    page = elsewhere.get("/account/access").text
    send(elsewhere, re.search(r"/account/access/sessions/\w+/end", page)[0])
    assert browser.get(link).status_code == 200
    assert not is_in(browser)


def test_right_after_the_purchase_the_receipt_is_shown(buyer, time_machine):
    browser, link = buyer
    assert browser.get("/account/receipt").status_code == 200
    time_machine.forward(10 * MINUTE)
    assert browser.get("/account/receipt").location.startswith("/account/prove")


def test_a_later_visit_by_the_orders_link_needs_a_proof(app, wallet, worker, time_machine):
    browser = app.test_client()
    link = place_order(browser, username="carol").location
    wallet.pay(Order.get().bolt11)
    work(worker)
    time_machine.forward(10 * MINUTE)
    assert browser.get(link).location == "/account"
    assert "/account/prove" in browser.get("/account/receipt").location
    password = re.search(r'id="password">([^<]+)<', browser.get("/account").text)[1]
    send(browser, "/account/prove", password=password)
    assert browser.get("/account/receipt").status_code == 200
