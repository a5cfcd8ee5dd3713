"""The operator's pages: who gets in, what they show, and what their buttons do."""

import csv
import re

import pytest
from flask.testing import FlaskClient

from lightningspace.base import passwords
from lightningspace.base.clock import DAY, now
from lightningspace.base.models import Account, Evidence, Order, Service
from lightningspace.base.money_models import DailyRate, Refund
from lightningspace.operator import entry, money
from lightningspace.rules import accounts, orders, status
from tests.conftest import (
    at_once,
    csrf_token,
    enter,
    open_account,
    place_order,
    record_payments,
    with_settings,
    work,
)

PASSWORD = "a long one of the operator"
HASH = passwords.make_hash(PASSWORD)
with_password = with_settings(OPERATOR_PASSWORD_HASH=HASH)
ONION = f"http://{'a' * 56}.onion"
PAGES = ("", "/problems", "/hostings", "/refunds", "/money", "/hostings/alice", "/payments.csv")
PAGES += ("/login/x",)


def log_in(browser: FlaskClient, this_shop) -> FlaskClient:
    """Log in by a link, which needs no hashing."""
    link = entry.new_link(this_shop).removeprefix(this_shop.config.public_url)
    form = {"csrf_token": csrf_token(browser.get(link).text)}
    assert browser.post(link, data=form).location == "/operator"
    return browser


@pytest.fixture
def operator(client, this_shop) -> FlaskClient:
    return log_in(client, this_shop)


def press(browser: FlaskClient, page: str, to: str, **typed):
    form = {"csrf_token": csrf_token(browser.get(page).text)} | typed
    return browser.post(to, data=form)


# -- who gets in -----------------------------------------------------------------------


def test_without_a_password_the_operators_pages_are_not_found(client, alice, subtests):
    unknown = {method: client.open("/nowhere", method=method) for method in ("GET", "POST")}
    unknown["OPTIONS"] = client.options("/nowhere")
    for path in (*PAGES, "/login", "/logout", "/hostings/alice/close", "/"):
        for method, expected in unknown.items():
            with subtests.test(path=path, method=method):
                answer = client.open(f"/operator{path}", method=method)
                assert (answer.status_code, answer.text) == (404, expected.text)
                assert dict(answer.headers) == dict(expected.headers)


@with_password
def test_with_a_password_all_pages_lead_to_the_login(client, alice, subtests):
    customer = enter(client, alice)
    for path in PAGES:
        with subtests.test(path):
            answer = customer.get(f"/operator{path}")
            assert (answer.status_code, answer.location) == (303, "/operator/login")
    assert customer.post("/operator/hostings/alice/block", data={}).status_code in (303, 400)
    assert Account.get().blocked_at is None


@with_password
def test_the_password_logs_in_and_out(client):
    def send(password):
        return press(client, "/operator/login", "/operator/login", password=password)

    for wrong in ("", "wrong", "\0", "\udc80".encode("utf-8", "replace").decode(), "x" * 9000):
        assert send(wrong).status_code == 400
        assert client.get("/operator").status_code == 303
    answer = send(PASSWORD)
    assert (answer.status_code, answer.location) == (303, "/operator")
    cookie = answer.headers["Set-Cookie"]
    assert "HttpOnly" in cookie and "SameSite=Lax" in cookie and "Path=/operator;" in cookie
    assert client.get("/operator").status_code == 200
    assert client.get("/account").status_code == 302  # it is no customer's session
    press(client, "/operator", "/operator/logout")
    assert client.get("/operator").status_code == 303


@with_settings(OPERATOR_PASSWORD_HASH=HASH, LOGINS_LIMIT="3 per minute")
def test_guesses_are_limited_by_network_and_keep_nobody_else_out(client, time_machine):
    def send(address, password):
        form = {"csrf_token": csrf_token(client.get("/operator/login").text)}
        return client.post(
            "/operator/login",
            data=form | {"password": password},
            environ_base={"REMOTE_ADDR": address},
        ).status_code

    assert [send("192.0.2.1", "wrong") for _ in range(4)] == [400, 400, 400, 429]
    assert send("192.0.2.1", PASSWORD) == 429
    assert send("192.0.2.2", PASSWORD) == 303


def test_a_link_works_once_and_for_ten_minutes(app, client, this_shop, time_machine):
    link = entry.new_link(this_shop).removeprefix("http://localhost")
    assert client.get(link).status_code == 200
    assert client.get(link).status_code == 200  # looking at it does not use it up
    form = {"csrf_token": csrf_token(client.get(link).text)}
    assert client.post(link, data=form).status_code == 303
    for method in ("GET", "POST"):
        assert app.test_client().open(link, method=method).status_code == 404
    older, newer = (entry.new_link(this_shop).removeprefix("http://localhost") for _ in "ab")
    assert app.test_client().get(older).status_code == 404
    time_machine.forward(entry.LINK_SECONDS)
    assert app.test_client().get(newer).status_code == 404
    time_machine.forward(-3 * entry.LINK_SECONDS)  # the link was made by a clock that was ahead
    assert app.test_client().get(newer).status_code == 404


@pytest.mark.each_database
def test_of_several_that_use_a_link_at_once_one_gets_in(app, this_shop):
    link = entry.new_link(this_shop).rpartition("/")[2]

    def use() -> bool:
        with app.app_context():
            return entry.use_link(link)

    assert sum(at_once(*[use] * 4)) == 1


def test_a_session_ends_after_twelve_hours_or_by_command(operator, runner, app, time_machine):
    this_shop = app.extensions["shop"]
    time_machine.forward(entry.SESSION_SECONDS - 1)
    assert operator.get("/operator").status_code == 200
    time_machine.forward(1)
    assert operator.get("/operator").status_code == 404
    log_in(operator, this_shop)
    told = runner.invoke(args=["operator-login", "--end-all"]).output
    assert told == "all sessions of the operator are ended\n"
    assert operator.get("/operator").status_code == 404
    for wrong in ("", "\0", "é", "x" * 3000, "\\303\\251"):
        operator.set_cookie("operator", wrong, path="/operator")
        assert operator.get("/operator").status_code == 404


def test_another_password_ends_all_sessions(operator, app):
    assert operator.get("/operator").status_code == 200
    config = app.extensions["shop"].config
    object.__setattr__(config, "operator_password_hash", HASH)
    assert operator.get("/operator").location == "/operator/login"


@with_settings(PUBLIC_URL="https://shop.example")
def test_with_https_the_cookie_can_be_set_by_no_other_host(client, this_shop):
    link, at = entry.new_link(this_shop), {"base_url": "https://shop.example"}
    path = link.removeprefix("https://shop.example")
    form = {"csrf_token": csrf_token(client.get(path, **at).text)}
    answer = client.post(path, data=form, headers={"Referer": link}, **at)
    cookies = answer.headers.getlist("Set-Cookie")
    [ours] = [each for each in cookies if each.startswith("__Host-operator=")]
    assert "; Secure; HttpOnly; Path=/; SameSite=Lax" in ours and "Domain" not in ours
    assert client.get("/operator", **at).status_code == 200


@with_settings(PUBLIC_URL="https://shop.example")
def test_the_operator_can_log_in_at_an_onion_address(client, this_shop):
    path, at = entry.new_link(this_shop).removeprefix("https://shop.example"), {"base_url": ONION}
    form = {"csrf_token": csrf_token(client.get(path, **at).text)}
    cookies = client.post(path, data=form, **at).headers.getlist("Set-Cookie")
    [ours] = [each for each in cookies if each.startswith("operator=")]
    assert "; HttpOnly; Path=/operator; SameSite=Lax" in ours and "Secure" not in ours
    assert client.get("/operator", **at).status_code == 200


def test_a_form_of_another_site_does_nothing(operator, alice):
    form = {"csrf_token": csrf_token(operator.get("/operator").text), "reason": "x"}
    block = "/operator/hostings/alice/block"
    evil = {"Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site"}
    assert operator.post(block, data=form, headers=evil).status_code == 400
    assert operator.post(block, data={"reason": "x"}).status_code == 400
    assert Account.get().blocked_at is None


def test_the_command_prints_a_setting_that_a_shell_can_read(runner):
    told = runner.invoke(args=["operator-password"], input=f"{PASSWORD}\n{PASSWORD}\n").output
    [written] = re.findall("^OPERATOR_PASSWORD_HASH='([^']+)'$", told, re.M)
    assert passwords.matches(written, PASSWORD)
    short = runner.invoke(args=["operator-password"], input="short\nshort\n")
    assert short.exit_code == 1 and "write 12 to 64 characters" in short.output


# -- what they show --------------------------------------------------------------------


def test_today_shows_payments_hostings_and_servers(operator, worker, wallet, this_shop):
    assert "not known yet" in operator.get("/operator").text
    place_order(operator, username="bob")
    order = Order.get()
    assert order.token[:8] in operator.get("/operator").text
    wallet.pay(order.bolt11)
    work(worker)
    status.look(this_shop)
    worker._look_at_problems()
    shown = " ".join(operator.get("/operator").text.split())
    assert "<dt>Payments</dt> <dd>1</dd>" in shown and "<dt>Running</dt> <dd>1</dd>" in shown
    assert 'href="/operator/hostings/bob"' in shown and "Nothing needs you" in shown
    assert "of 100,000 MB" in shown and "✓ answers" in shown


def test_a_search_finds_hostings_and_orders_by_everything_it_names(
    operator, order, wallet, worker, this_shop, subtests
):
    wallet.pay(order.bolt11)
    work(worker)
    hosting, its_order = "/operator/hostings/alice", f"/operator/orders/{order.token}"

    def search(typed):
        return operator.get("/operator/hostings", query_string={"q": typed})

    Service.create(account=Account.get(), kind="alias", name="xn--mller-kva.example")
    for typed, leads_to in {
        "alice": hosting,
        " Alice ": hosting,
        "alice.shop.test": hosting,
        "müller.example": hosting,
        order.token: its_order,
        order.token[:8].upper(): its_order,
        order.payment_hash: its_order,
    }.items():
        with subtests.test(typed):
            assert search(typed).location == leads_to
            assert operator.get(leads_to).status_code == 200
    others = ("%", "a%", "_____", "\0", "alice\0", "' OR 1=1 --", "x" * 5000, "é" * 70, "0" * 31)
    for typed in (*others, "." * 300, "*", "a.b", "ⅷ.example", "\u202e", "1e5"):
        with subtests.test(typed):
            answer = search(typed)
            assert answer.status_code == 200 and "Nothing found." in answer.text


def test_texts_written_by_others_are_escaped(operator, alice):
    html = "<script>alert(1)</script>"
    typed = {"category": "phishing", "reason": html, "note": f"{html}\n=1+1\0"}
    answer = press(operator, "/operator/hostings/alice", "/operator/hostings/alice/block", **typed)
    assert answer.location == "/operator/hostings/alice?done=block"
    assert Account.get().blocked_reason == html
    Service.update(error=html, note=html).where(Service.kind == "ftp").execute()
    shown = operator.get(f"{answer.location}").text
    assert shown.count("&lt;script&gt;alert(1)") == 4 and html not in shown
    assert "\0" not in Evidence.get().note


@pytest.mark.each_database
def test_hostings_are_listed_by_their_state(app, this_shop, subtests):
    operator, moment = log_in(app.test_client(), this_shop), now()
    for name, facts in {
        "alice": {"ready_at": moment},
        "bob": {"ready_at": moment, "suspended_at": moment},
        "carol": {"blocked_at": moment, "blocked_reason": "x", "suspended_at": moment},
        "dave": {"ready_at": moment, "closing_at": moment, "suspended_at": moment},
        "erin": {},
    }.items():
        account = open_account(this_shop, name)
        Account.update(username=name, **facts).where(Account.id == account.id).execute()
    status.look(this_shop)
    table = operator.get("/operator/hostings").text
    names = ("alice", "erin", "bob", "carol", "dave")
    for standing, name in zip(reversed(status.Standing), names, strict=True):
        with subtests.test(str(standing)):
            assert f'?standing={standing.replace(" ", "+")}"' in table
            shown = operator.get("/operator/hostings", query_string={"standing": standing}).text
            assert re.findall('href="/operator/hostings/([a-z]+)"', shown) == [name]
    assert status.counted() == {100: dict.fromkeys(status.Standing, 1)}
    for wrong in ("", "gone", "\0", "%"):
        shown = operator.get("/operator/hostings", query_string={"standing": wrong}).text
        assert 'href="/operator/hostings/' not in shown


# -- what their buttons do -------------------------------------------------------------


def test_the_worker_does_what_the_buttons_ask_for(operator, alice, worker, panel):
    page = "/operator/hostings/alice"
    Account.update(reconcile_at=None).execute()
    assert press(operator, page, f"{page}/retry").location == f"{page}?done=retry"
    assert Account.get().reconcile_at <= now()
    work(worker)
    calls = len(panel.calls)
    press(operator, page, f"{page}/check")
    assert len(panel.calls) == calls  # the pages do not call the panel
    work(worker)
    assert len(panel.calls) > calls
    typed = {"category": "spam", "reason": "Mails", "note": "log"}
    press(operator, page, f"{page}/block", **typed)
    assert (Account.get().blocked_for, Evidence.get().note) == ("spam", "log")
    press(operator, page, f"{page}/unblock")
    assert Account.get().blocked_at is None


def test_a_block_needs_a_reason_and_an_existing_hosting(operator, alice):
    page = "/operator/hostings/alice"
    for wrong in ({"reason": " "}, {"reason": "\u200b"}, {"reason": "x", "category": "x"}):
        typed = {"category": "spam"} | wrong
        answer = press(operator, page, f"{page}/block", **typed)
        assert answer.status_code == 400 and Account.get().blocked_at is None
    accounts.close(alice.id)
    form = {"csrf_token": csrf_token(operator.get("/operator").text)}
    for path in ("hostings/nobody/retry", "hostings/nobody/block", "orders/x"):
        assert operator.post(f"/operator/{path}", data=form).status_code in (404, 405)
    answer = operator.post(f"{page}/block", data=form | {"category": "spam", "reason": "x"})
    assert answer.location == f"{page}?done=closed" and Account.get().blocked_at is None


def test_closing_a_hosting_needs_its_name(operator, alice, worker):
    page = "/operator/hostings/alice/close"
    assert press(operator, page, page, username="bob").status_code == 400
    stale = press(operator, page, page, username="alice", ends="1")
    assert stale.status_code == 409 and Account.get().closing_at is None
    ends = re.search(r'name="ends"[^>]*value="(\d+)"', operator.get(page).text)[1]
    answer = press(operator, page, page, username="alice", ends=ends)
    assert answer.location == "/operator/hostings?done=close" and Account.get().closing_at
    assert "It is being closed" in operator.get(answer.location).text
    work(worker)
    assert not Account.select().exists()
    assert operator.get("/operator/hostings/alice").status_code == 404


def test_each_problem_has_its_button(operator, alice, this_shop):
    facts = {"error": "x", "permanent": True, "failed_since": 1}
    Service.update(facts).where(Service.kind == "ftp").execute()
    Order.create(
        **{"token": "0" * 32, "kind": "lost", "placed_at": 1, "expires_at": 1, "node_id": "n"},
        **{"pay_index": 1, "received_msat": 7000, "paid_at": 1, "payment_hash": "a" * 64},
    )
    shown = operator.get("/operator/problems").text
    assert 'action="/operator/hostings/alice/retry"' in shown
    assert f'href="/operator/orders/{"0" * 32}"' in shown
    assert "no order waited" in operator.get(f"/operator/orders/{'0' * 32}").text


# -- money -----------------------------------------------------------------------------


def test_the_file_of_payments_has_no_names(operator, alice, wallet, worker, this_shop, runner):
    tip = orders.top_up(this_shop, alice.id, orders.Tip(7000, "page", "=cmd()"), None, "2")
    wallet.pay(tip.bolt11)
    record_payments(worker)
    day = Order.get_by_id(tip.token).paid_at
    assert "7 sat" in operator.get("/operator/money").text
    answer = operator.get("/operator/payments.csv?first=0001-01-01&last=9999-12-31")
    assert answer.mimetype == "text/csv"
    head, row = csv.reader(answer.text.splitlines())
    assert head == ["time", "payment hash", "msat", "what"]
    assert row[1:] == [Order.get_by_id(tip.token).payment_hash, "7000", "tip"]
    assert "alice" not in answer.text and "=" not in answer.text
    told = runner.invoke(args=["payments", "--csv", "2020-01-01", "2100-01-01"]).output
    assert told.split() == answer.text.split()
    told = runner.invoke(args=["payments", "2020-01-01", "2100-01-01"]).output
    assert "tip: 7000 msat\n" in told and "new hosting: 0 msat\n" in told
    paid_back = {"approved_at": 1, "sent_at": 1, "expires_at": 1, "preimage": "p", "fee_msat": 30}
    paid_back |= {"id": "1", "order": tip, "msat": 4000, "payment_hash": "b" * 64, "made_at": 1}
    Refund.create(**paid_back, paid_at=day)
    told = runner.invoke(args=["payments", "2020-01-01", "2100-01-01"]).output
    assert "tip: 7000 msat\n" in told and "paid back, with its fee: -4030 msat\n" in told
    answer = operator.get("/operator/payments.csv?first=2020-01-01&last=2100-01-01")
    assert list(csv.reader(answer.text.splitlines()))[2][1:3] == ["b" * 64, "-4030"]
    assert [span.total_msat for span in (money.today(), money.by_month()[0])] == [2970] * 2
    assert ">3</td>" in operator.get("/operator/money").text
    for wrong in ("first=x&last=2020-01-01", "first=2020-02-30&last=2020-03-01", ""):
        assert operator.get(f"/operator/payments.csv?{wrong}").status_code == 400
    wrong = "first=2020-01-02&last=2020-01-01"
    assert "not before the first" in operator.get(f"/operator/payments.csv?{wrong}").text


@with_settings(FIAT="EUR", FIAT_RATE_URL="https://rates.example/#EUR")
def test_the_file_has_the_rate_of_each_day_that_is_known(this_shop, runner):
    DailyRate.create(currency="EUR", day=20_000, per_bitcoin="60000.5")
    for number, day in enumerate((20_000, 20_001)):
        lost = {"kind": "lost", "placed_at": 1, "expires_at": 1, "node_id": "n", "pay_index": 1}
        lost |= {"received_msat": 630_000, "paid_at": day * DAY + 5, "payment_hash": f"{number}"}
        Order.create(token=f"{number:032}", **lost)
    told = runner.invoke(args=["payments", "--csv", "2024-10-04", "2024-10-05"]).output
    assert told.splitlines() == [
        "time,payment hash,msat,what,EUR for a bitcoin,EUR",
        "2024-10-04T00:00:05Z,0,630000,no order waited for it,60000.5,0.3780",
        "2024-10-05T00:00:05Z,1,630000,no order waited for it,,",
    ]
    told = runner.invoke(args=["payments", "--csv", "2024-10-06", "2024-10-07"]).output
    assert told == "time,payment hash,msat,what\n"
