"""What every page has in common: headers, cookies, protection of forms, and error pages."""

import re

import pytest
from flask import abort
from flask.testing import FlaskClient
from werkzeug.exceptions import default_exceptions

from app import sats
from lightningspace.base import models
from lightningspace.base.clock import clock_time, iso_time, span, time_left
from lightningspace.base.models import Account, Order
from lightningspace.rules import orders
from lightningspace.visitors import logins, networks
from tests.conftest import (
    at_once,
    csrf_token,
    filled_form,
    form_id,
    log_in,
    order_form,
    place_order,
    wish,
    with_settings,
    work,
)
from tests.operator import test_pages

https = with_settings(PUBLIC_URL="https://localhost")


@pytest.fixture
def secure_client(own_app):
    """A browser that uses https."""
    own_app.config["PREFERRED_URL_SCHEME"] = "https"
    return own_app.test_client()


@pytest.fixture
def answers(own_app, alice, this_shop, wallet, worker):
    """One answer of each kind, by name."""
    client, stranger = own_app.test_client(), own_app.test_client()
    ready = orders.place(this_shop, wish())
    wallet.pay(ready.bolt11)
    work(worker)

    @own_app.get("/fault")
    def fault():
        raise RuntimeError("broken")

    log_in(client, "alice", "correct horse")
    link = place_order(stranger).location
    return {
        "front": client.get("/"),
        "price": client.get("/price?space_mb=100&duration=3&unit=months"),
        "order": stranger.get(link),
        "status": stranger.get(f"{link}/status"),
        "ready": stranger.get(f"/orders/{ready.token}"),
        "account": client.get("/account"),
        "login": client.get("/login"),
        "wrong login": log_in(stranger, "alice", "wrong password"),
        "wrong order": place_order(stranger, username='"><b>', duration="x"),
        "redirect": place_order(stranger),
        "to login": stranger.get("/account"),
        "no such page": client.get("/nothing"),
        "no such file": client.get("/static/nothing"),
        "no csrf": client.post("/orders"),
        "no get": client.get("/logout"),
        "too much": client.post("/orders", data={"a": "x" * 70_000}),
        "broken": client.get("/fault"),
        "style": client.get("/static/shop.css"),
        "script": client.get("/static/shop.js"),
        "image": client.get("/static/bolt.svg"),
    }


# -- headers ---------------------------------------------------------------------------


def test_every_answer_has_the_headers_that_protect(answers):
    for name, answer in answers.items():
        policy = answer.headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy, name
        assert "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy
        assert set(re.findall(r"(?:https?:|//|\*|[a-z]\.)[^ ;]*", policy)) == set()
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["Referrer-Policy"] == "same-origin"


def test_pages_are_not_stored_and_files_are(answers):
    for name, answer in answers.items():
        is_file = name in ("style", "script", "image")
        assert ("no-store" in answer.headers.get("Cache-Control", "")) != is_file or (
            name == "no such file"
        )


def test_no_page_needs_what_its_policy_forbids(answers):
    inline = r"""<style|\sstyle\s*=|<script(?![^>]*\ssrc="/static/)|\son[a-z]+\s*=|javascript:"""
    for name, answer in answers.items():
        if answer.mimetype == "text/html":
            assert not re.search(inline, answer.text, re.I), name
            assert not re.search(r'(src|href|action)="(https?:)?//(?!alice.shop.test)', answer.text)


# -- error pages -------------------------------------------------------------------------


def test_errors_are_shown_on_our_own_pages(answers):
    codes = {
        "no csrf": 400,
        "no such page": 404,
        "no such file": 404,
        "no get": 405,
        "too much": 413,
        "broken": 500,
    }
    for name, code in codes.items():
        assert answers[name].status_code == code
        assert f"<small>Error {code}</small>" in answers[name].text
        assert ">To the front page</a>" in answers[name].text


def test_every_error_has_our_own_page(own_app):
    own_app.add_url_rule("/fault/<int:code>", view_func=lambda code: abort(code))
    client = own_app.test_client()
    for code in default_exceptions:
        answer = client.get(f"/fault/{code}")
        assert answer.status_code == code
        assert answer.mimetype == "text/html"
        assert ">To the front page</a>" in answer.text
        assert "Content-Security-Policy" in answer.headers


def test_a_broken_page_does_not_tell_why(answers):
    assert "RuntimeError" not in answers["broken"].text
    assert "broken" not in answers["broken"].text


def test_a_form_without_its_csrf_token_says_what_to_do(client):
    page = client.post("/orders", data={"space_mb": "100"}).text
    assert "allow cookies" in page
    assert "Nothing was charged" in page


def test_a_wrong_method_names_the_right_ones(client):
    assert "POST" in client.get("/logout").headers["Allow"]


OUT_OF_REACH = {
    "sqlite": "sqlite:////proc/version",
    "postgresql": "postgresql://shop@127.0.0.1:1/shop",
}


@pytest.mark.each_database
def test_a_database_that_does_not_answer_is_a_503(client, database_kind, caplog):
    models.db.close()
    models.open_database(OUT_OF_REACH[database_kind])
    answer = client.get("/orders/x")
    assert answer.status_code == 503
    assert "<h1>One moment</h1>" in answer.text
    why = {"sqlite": "unable to open database file", "postgresql": "Connection refused"}
    told = "the database does not answer: OperationalError: "
    [line] = [line for line in caplog.messages if line.startswith(told)]
    assert why[database_kind] in line and "\n" not in line


# -- forms from elsewhere -------------------------------------------------------------------


def post_paths(app):
    for rule in app.url_map.iter_rules():
        if "POST" in rule.methods:
            yield re.sub("<[^>]*>", "x" * 32, rule.rule)


def test_every_form_needs_its_csrf_token(app, alice, client, this_shop):
    log_in(client, "alice", "correct horse")
    test_pages.log_in(client, this_shop)
    # Mail programs end reminders with a POST (RFC 8058), for which the secret address is enough.
    # The API takes no cookies.
    without = ("/reminders/stop/", "/api/")
    paths = {path for path in post_paths(app) if not path.startswith(without)}
    assert {"/orders", "/login", "/logout", "/account/password"} < paths
    for path in paths:
        for body in ({}, {"csrf_token": ""}, {"csrf_token": "x.y.z"}, {"csrf_token": "ü\0"}):
            assert client.post(path, data=body).status_code == 400, path


def test_a_csrf_token_of_another_browser_is_refused(app, client):
    form = filled_form(app.test_client())
    client.get("/")
    assert client.post("/orders", data=form).status_code == 400


def test_a_csrf_token_in_the_address_is_refused(client):
    token = csrf_token(client.get("/").text)
    assert client.post(f"/logout?csrf_token={token}").status_code == 400


def use_every_form(client, wallet, worker, headers):
    """Order, cancel, order again, pay, save the password, change it, log out and log in."""

    def send(path, page, **fields):
        token = csrf_token(client.get(page).text)
        return client.post(path, data={"csrf_token": token} | fields, headers=headers)

    cancelled = client.post("/orders", data=filled_form(client), headers=headers).location
    yield send(f"{cancelled}/cancel", cancelled)
    form = filled_form(client, username="alice")
    placed = client.post("/orders", data=form, headers=headers)
    yield placed
    wallet.pay(Order.get(Order.bolt11.is_null(False)).bolt11)
    work(worker)
    password = re.search(r'<code id="password">([^<]+)', page_after(client, placed.location))[1]
    yield send("/account/noted", "/account")
    changed = {"current": password, "new": "battery staple"}
    yield send("/account/password", "/account", **changed)
    yield send("/logout", "/account")
    yield send("/login", "/login", username="alice", password="battery staple")


def page_after(client, path):
    return client.get(path, follow_redirects=True).text


@pytest.mark.parametrize("headers", [{}, {"Origin": "https://localhost"}], ids=["none", "own"])
@https
def test_forms_work_over_https_without_a_referer(secure_client, wallet, worker, headers):
    answers = list(use_every_form(secure_client, wallet, worker, headers))
    assert [answer.status_code for answer in answers] == [303] * 6
    assert secure_client.get("/account").status_code == 200


def test_forms_work_over_http_with_our_origin(client, wallet, worker):
    answers = use_every_form(client, wallet, worker, {"Origin": "http://localhost"})
    assert [answer.status_code for answer in answers] == [303] * 6


FOREIGN = [
    *("null", "", "https://evil.example", "https://localhost.evil.example", "https://localhost:81"),
    *("http://localhost", "https://x.localhost", "https://localhost/", "HTTPS://LOCALHOST", "ü"),
]


@https
def test_forms_of_other_sites_are_refused(secure_client):
    form = filled_form(secure_client)
    for origin in FOREIGN:
        answer = secure_client.post("/orders", data=form, headers={"Origin": origin})
        assert answer.status_code == 400, origin
        assert "<h1>That did not work</h1>" in answer.text
    assert Order.select().count() == 0


@https
def test_forms_work_where_a_web_server_hides_the_origin(secure_client):
    """nginx does so with `add_header Referrer-Policy no-referrer`."""
    form = filled_form(secure_client)
    sites = {"same-origin": 303, "same-site": 400, "cross-site": 400, "none": 400, "": 400}
    for site, status in sites.items():
        headers = {"Origin": "null", "Sec-Fetch-Site": site}
        assert secure_client.post("/orders", data=form, headers=headers).status_code == status
    headers = {"Origin": "https://evil.example", "Sec-Fetch-Site": "same-origin"}
    assert secure_client.post("/orders", data=form, headers=headers).status_code == 400
    headers["Origin"] = "null"
    form["csrf_token"] = "x"
    assert secure_client.post("/orders", data=form, headers=headers).status_code == 400


@with_settings(PUBLIC_URL="https://shop.example", PROXY_HOPS="1")
def test_our_origin_is_known_behind_a_proxy(client):
    headers = {"X-Forwarded-Proto": "https", "X-Forwarded-For": "192.0.2.1"}
    form = filled_form(client)
    for origin, status in (("https://shop.example", 303), ("https://evil.example", 400)):
        sent = headers | {"Origin": origin}
        assert client.post("/orders", data=form, headers=sent).status_code == status


# -- cookies ---------------------------------------------------------------------------------


@https
def test_the_cookie_belongs_to_this_host_alone_over_https(secure_client):
    cookie = secure_client.get("/").headers["Set-Cookie"]
    assert cookie.startswith("__Host-session=")
    parts = {part.strip().lower() for part in cookie.split(";")[1:]}
    assert {"secure", "httponly", "path=/", "samesite=lax"} <= parts
    assert not any(part.startswith("domain") for part in parts)


class ByOnion(FlaskClient):
    """A browser that comes by Tor, for which the web server in front says http."""

    way = {"Host": f"{'a' * 56}.onion", "X-Forwarded-Proto": "http"}

    def open(self, *args, headers=None, **kwargs):
        return super().open(*args, headers=self.way | (headers or {}), **kwargs)


@with_settings(PUBLIC_URL="https://shop.example", PROXY_HOPS="1")
def test_a_shop_with_https_can_be_used_by_its_onion_address_too(own_app, wallet, worker):
    """Over http, browsers keep neither Secure nor __Host- cookies."""
    client = ByOnion(own_app, own_app.response_class)
    cookie = client.get("/").headers["Set-Cookie"]
    assert cookie.startswith("session=") and "HttpOnly" in cookie and "Secure" not in cookie
    own = {"Origin": f"http://{client.way['Host']}"}
    answers = use_every_form(client, wallet, worker, own)
    assert [answer.status_code for answer in answers] == [303] * 6
    assert client.get("/account").status_code == 200
    for other in ({"X-Forwarded-Proto": "https"}, {"Host": "shop.example"}, {"Host": "onion"}):
        cookie = ByOnion(own_app, own_app.response_class).get("/", headers=other).headers
        assert cookie["Set-Cookie"].startswith("__Host-session=") and "Secure" in str(cookie)


def test_the_cookie_over_http_is_out_of_reach_of_scripts_and_other_sites(client):
    cookie = client.get("/").headers["Set-Cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=Lax" in cookie


class Browser(FlaskClient):
    """A current browser: it says which site each of its requests comes from."""

    site = "same-origin"

    def open(self, *args, headers=None, **kwargs):
        return super().open(
            *args, headers={"Sec-Fetch-Site": self.site} | (headers or {}), **kwargs
        )


@pytest.fixture
def browser(app):
    return Browser(app, app.response_class)


def order_of(page: str, **fields) -> dict[str, str]:
    """The front page's form, which has no token."""
    assert re.search(r'name="csrf_token"[^>]*value=""', page)
    form = {"form_id": form_id(page), "space_mb": "100", "duration": "3", "unit": "months"}
    return form | fields


def test_a_visitor_who_only_looks_gets_no_cookie(browser, alice, this_shop):
    order = orders.place(this_shop, wish())
    browser.site = "none"
    for path in ("/", "/login", "/terms", "/privacy", "/tip/alice", "/nothing", "/account"):
        assert "Set-Cookie" not in browser.get(path).headers, path
    assert "Set-Cookie" not in browser.get(f"/orders/{order.token}").headers
    browser.site = "same-origin"
    wrong = browser.post("/orders", data={"duration": "x"})
    assert wrong.status_code == 400 and "Set-Cookie" not in wrong.headers


def test_an_order_brings_the_cookie(browser):
    placed = browser.post("/orders", data=order_of(browser.get("/").text))
    assert "Expires=" in placed.headers["Set-Cookie"]
    link = f"/orders/{Order.get().token}"
    assert placed.location == f"/cookie?then={link}"
    assert browser.get(placed.location).location == link
    assert "Cancel" in browser.get(link).text


def test_a_tip_and_a_login_bring_the_cookie(browser, app, alice):
    page = browser.get("/tip/alice").text
    tip = browser.post("/tip/alice", data={"sats": "100", "form_id": form_id(page)})
    assert "Expires=" in tip.headers["Set-Cookie"]
    other = Browser(app, app.response_class)
    other.get("/login")
    entered = other.post("/login", data={"username": "alice", "password": "correct horse"})
    assert entered.location == "/cookie?then=/account"
    assert other.get(entered.location, follow_redirects=True).status_code == 200


def test_a_double_click_before_the_first_cookie_is_one_order(browser, app):
    form = order_of(browser.get("/").text, username="alice")
    window = Browser(app, app.response_class)
    answers = at_once(*(lambda c=c: c.post("/orders", data=form) for c in (browser, window)))
    link = f"/orders/{Order.get().token}"
    assert {answer.location for answer in answers} == {f"/cookie?then={link}"}
    assert all("Cancel" in each.get(link).text for each in (browser, window))


def test_a_page_from_before_the_first_cookie_can_still_be_sent(browser):
    form = order_of(browser.get("/").text)
    browser.post("/orders", data=order_of(browser.get("/").text))
    assert browser.post("/orders", data=form).location.startswith("/orders/")
    assert Order.select().count() == 2


def test_a_browser_without_cookies_is_told_so_before_it_pays(app):
    browser = Browser(app, app.response_class, use_cookies=False)
    placed = browser.post("/orders", data=order_of(browser.get("/").text))
    told = browser.get(placed.location)
    assert told.status_code == 400
    assert "allow cookies" in told.text and "lnbc" not in told.text


@pytest.mark.parametrize("site", ["cross-site", "same-site", "none", "", "Same-Origin", "ü"])
def test_without_a_cookie_only_our_own_forms_count(browser, site):
    form = order_of(browser.get("/").text)
    browser.site = site
    assert browser.post("/orders", data=form).status_code == 400
    assert browser.post("/login", data={"username": "a", "password": "b"}).status_code == 400
    assert Order.select().count() == 0
    # A browser whose header is lost on the way can send the next form.
    assert csrf_token(browser.get("/").text)


def test_a_text_browser_gets_a_cookie_that_ends_with_it(client):
    page = client.get("/")
    assert "Expires=" not in page.headers["Set-Cookie"]
    placed = client.post("/orders", data=order_form(page.text))
    assert placed.location == f"/orders/{Order.get().token}"
    assert "Expires=" in placed.headers["Set-Cookie"]


@pytest.mark.parametrize(
    "then", ["https://evil.example/", "//evil.example", "/account\n", "", "/x"]
)
def test_the_check_for_cookies_redirects_to_our_own_pages_alone(client, then):
    client.get("/")
    answer = client.get("/cookie", query_string={"then": then})
    assert (answer.status_code, answer.location) == (303, "/")


@pytest.mark.each_database
def test_an_address_with_a_nul_is_not_found(app, alice):
    browser, seen = app.test_client(), set()
    log_in(browser, "alice", "correct horse")

    for rule in app.url_map.iter_rules():
        for name in rule.arguments - {"filename"}:
            path = re.sub(r"<\w+>", "1", rule.rule.replace(f"<{name}>", "a%00b"))
            for method in rule.methods - {"OPTIONS"}:
                answer = browser.open(path, method=method)
                assert answer.status_code == 404, (method, path)
            seen.add(rule.endpoint.partition(".")[0])
    assert {"orders", "tip", "mail", "api_tip", "api_mail", "lnurl_pay", "reminders"} <= seen


@pytest.mark.parametrize("cookie", ["", "x", "a.b.c", "e30.aaaaaa.bbbb", "%00", "." * 4000])
def test_a_spoiled_cookie_counts_as_no_cookie(app, alice, cookie):
    client = app.test_client()
    client.set_cookie("session", cookie)
    assert client.get("/").status_code == 200
    client.set_cookie("session", cookie)
    client.set_cookie("remember_token", f"{alice.id}.0|{cookie}")
    assert client.get("/account").status_code == 302


def test_a_session_of_a_closed_account_is_over(client, alice, app):
    log_in(client, "alice", "correct horse")
    with client.session_transaction() as session:
        for spoiled in ("", ".", "x", f"{alice.id}", f"{alice.id}.1", f"{alice.id}.0.0", "\0.0"):
            session["_user_id"] = spoiled
            with app.test_request_context():
                assert logins.load_user(spoiled) is None
    assert client.get("/account").status_code == 302


# -- who is asking ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("remote", "client_is"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1::"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("64:ff9b::192.0.2.1", "192.0.2.1"),
        ("fe80::1%eth0", "fe80::"),
        ("", "unknown"),
        ("nonsense", "unknown"),
    ],
)
def test_a_client_is_an_address_or_a_network(app, remote, client_is):
    with app.test_request_context(environ_base={"REMOTE_ADDR": remote}):
        assert networks.network() == client_is


@pytest.mark.parametrize(
    ("noted", "client_is"),
    [
        ("203.0.113.7, 10.0.0.1", "203.0.113.7"),
        ("203.0.113.7:51234,10.0.0.1:80", "203.0.113.7"),
        ("2001:db8:1:2::3, 10.0.0.1", "2001:db8:1::"),
        ("[2001:db8:1:2::3], 10.0.0.1", "2001:db8:1::"),
        ('"[2001:db8:1:2::3]:51234", 10.0.0.1', "2001:db8:1::"),
        ("2001:db8:1:2:3:4:5:6:51234, 10.0.0.1", "2001:db8:1::"),
        ("[fe80::1%eth0]:51234, 10.0.0.1", "fe80::"),
        ("::ffff:203.0.113.7, 10.0.0.1", "203.0.113.7"),
        ("[::ffff:203.0.113.7]:51234, 10.0.0.1", "203.0.113.7"),
        (' \t"203.0.113.7" ,, \t10.0.0.1 ,', "203.0.113.7"),
        # What stood there before the proxies is not believed, in whatever form.
        ("9.9.9.9, 203.0.113.7, 10.0.0.1", "203.0.113.7"),
        ('"9.9.9.9, 203.0.113.7, 10.0.0.1', "203.0.113.7"),
        ("9.9.9.9\\, 203.0.113.7, 10.0.0.1", "203.0.113.7"),
        (",,,203.0.113.7, 10.0.0.1", "203.0.113.7"),
        # The nearest known address counts.
        ("unknown, 10.0.0.1", "10.0.0.1"),
        ("_hidden:80, 10.0.0.1", "10.0.0.1"),
        ("9.9.9.9, \xe9\0, 10.0.0.1", "10.0.0.1"),
        ("203.0.113.7", "203.0.113.7"),
        ("unknown, unix:", "192.0.2.1"),
        (":, []", "192.0.2.1"),
        ("", "192.0.2.1"),
    ],
)
@with_settings(PROXY_HOPS="2")
def test_a_visitors_address_is_found_however_proxies_write_it(app, noted, client_is):
    environ = {"REMOTE_ADDR": "192.0.2.1", "HTTP_X_FORWARDED_FOR": noted}
    with app.test_request_context(environ_base=environ):
        assert networks.network() == client_is


def test_the_operator_is_told_of_visitors_without_an_address(app, caplog):
    networks._tell_operator.cache_clear()
    for _ in range(2):
        with app.test_request_context(environ_base={"REMOTE_ADDR": ""}):
            assert networks.network() == "unknown"
    assert caplog.text.count("PROXY_HOPS") == 1


@with_settings(ORDERS_LIMIT="1 per day", PROXY_HOPS="2")
def test_the_clients_address_is_found_behind_several_proxies(client):
    for seen, status in (
        ("203.0.113.1, 198.51.100.1", 303),
        ("203.0.113.1, 198.51.100.2", 429),
        ("9.9.9.9, 203.0.113.1, 198.51.100.1", 429),
        ("203.0.113.2, 198.51.100.1", 303),
    ):
        form = filled_form(client)
        answer = client.post("/orders", data=form, headers={"X-Forwarded-For": seen})
        assert answer.status_code == status, seen
    assert Account.select().count() == 2


# -- words ----------------------------------------------------------------------------------------


def test_money_is_whole_sats_rounded_up(subtests):
    for msat, words in [(1, "1"), (1000, "1"), (1001, "2"), (1234567000, "1,234,567")]:
        with subtests.test(msat=msat, words=words):
            assert sats(msat) == words


def test_spans_are_shown_in_the_largest_unit_that_fits_twice(subtests):
    for seconds, words in [
        (-5, "0 minutes"),
        (59, "0 minutes"),
        (60, "1 minute"),
        (7199, "119 minutes"),
        (7200, "2 hours"),
        (2 * 86400 - 1, "47 hours"),
        (90 * 86400, "90 days"),
    ]:
        with subtests.test(seconds=seconds, words=words):
            assert span(seconds) == words


def test_the_time_left_is_rounded_so_that_it_reads_as_what_was_bought(subtests):
    for seconds, words in [
        (-90 * 86400, "0 minutes"),
        (29, "0 minutes"),
        (30, "1 minute"),
        (3600 - 5, "60 minutes"),
        (2 * 3600 - 5, "2 hours"),
        (36 * 3600, "36 hours"),
        (86400 - 5, "24 hours"),
        (2 * 86400 - 5, "2 days"),
        (90 * 86400 - 5, "90 days"),
        (90 * 86400 - 11 * 3600, "90 days"),
        (90 * 86400 - 13 * 3600, "89 days"),
    ]:
        with subtests.test(seconds=seconds, words=words):
            assert time_left(seconds) == words


def test_times_are_utc():
    assert (iso_time(0), clock_time(0)) == ("1970-01-01T00:00:00Z", "1970-01-01 00:00 UTC")
