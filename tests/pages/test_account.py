"""The control center: every form with good and bad input, and bob, who tries alice's names."""

import json
import re
from itertools import product
from urllib.parse import urlencode

import pytest
from flask import url_for

from lightningspace.base import models
from lightningspace.base.models import Account, Domain, Notice, Order, Server, Service
from lightningspace.pages import control
from lightningspace.panel import reconcile
from lightningspace.rules import accounts, invoices, order_book, orders, progress, services, wanted
from tests.conftest import (
    ROOT,
    csrf_token,
    enter,
    let_the_server_follow,
    log_in,
    open_account,
    with_settings,
    work,
)
from tests.reader import read

GOOD = "battery staple"
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIB0NEtxcJ2O5pSNUEvSLhZqVgVn3Dq3JfHEtVxkS3gbq"
MUCH = "10000 per minute"
no_limits = with_settings(
    LOGINS_LIMIT=MUCH, ORDERS_LIMIT=MUCH, UPLOADS_LIMIT=MUCH, CHANGES_LIMIT=MUCH
)


@pytest.fixture
def browser(client, alice):
    return enter(client, alice)


@pytest.fixture
def bob(this_shop):
    account = open_account(this_shop, "bobby")
    reconcile.account(this_shop, account.id)
    return Account.get_by_id(account.id)


def send(browser, path, **fields):
    token = csrf_token(browser.get("/account").text)
    return browser.post(f"/account{path}", data={"csrf_token": token} | fields)


def row_of(alice, kind, name=None) -> Service:
    which = {"name": name} if name else {}
    return Service.get(Service.account == alice, kind=kind, **which)


def settings_of(alice, kind) -> dict:
    return services.settings_of(row_of(alice, kind))


# -- every page ------------------------------------------------------------------------


def pages(app):
    """The addresses of all pages that need only a login."""
    for rule in app.url_map.iter_rules():
        if rule.rule.startswith("/account") and "GET" in rule.methods and not rule.arguments:
            yield rule.rule


def forms_to_send(app):
    """The URL rules of all forms of the control center."""
    for rule in app.url_map.iter_rules():
        if rule.rule.startswith("/account") and "POST" in rule.methods:
            yield rule


# What is sent by each form that changes services.
SITE_ROW = {"kind": "site", "name": "alice.shop.test"}
INFO = {"address": "info@alice.shop.test"}
AREA = {"price_sat": "5", "duration": "2", "unit": "days", "mode": "wallet"}
AREA |= {"wallet_address": "me@wallet.example"}
OF_SERVICES = {
    "service_password": {"service": "all", "password": GOOD},
    "switch": {"kind": "ftp", "name": "ls_alice", "active": "off"},
    "ssh_key": {"name": "ls_alice", "ssh_key": KEY},
    "php": SITE_ROW | {"version": "off"},
    "https": SITE_ROW | {"active": "on"},
    "pretty_addresses": SITE_ROW | {"active": "on"},
    "redirect_site": SITE_ROW | {"redirect_to": "https://alice.example/"},
    "add_mailbox": {"local_part": "bob", "domain": "alice.shop.test"},
    "add_forward": {
        **{"forward-local_part": "eve", "forward-domain": "alice.shop.test"},
        "forward-destination": "eve@example.org",
    },
    "set_mail_password": INFO | {"password": GOOD},
    "set_quota": INFO | {"quota_mb": "5"},
    "set_destination": {"address": "out@alice.shop.test", "destination": "eve@example.org"},
    "remove_address": {"address": "out@alice.shop.test"},
    "add_domain": {"name": "other.example"},
    "switch_domain_mail": {"name": "alice.example", "wants_mail": "yes"},
    "remove_domain": {"name": "alice.example"},
    "change_jar": {"title": "Thanks", "text": "", "amounts": "1 2 3", "mode": "site"},
    "put_jar": {},
    "remove_jar": {},
    "add_area": AREA | {"name": "more"},
    "change_area": AREA | {"area": "members"},
    "switch_area": {"area": "members", "active": "off"},
    "try_area": {"area": "members"},
    "remove_area": {"area": "members"},
    "send": {"file": (str(ROOT / "static" / "bolt.svg"), "index.html")},
}
# Forms about money, logins and tokens, which the panel has nothing to do with. A hosting may be
# closed at any time, and what failed may be tried again.
NOT_OF_SERVICES = set(
    """
    order_extension order_top_up order_size renew_receipt let_wallet_recover hand_out_token
    revoke_token switch_tips hide_tip retry noted email remove_email change_password end_sessions
    end_session close_for_good check_domain prove_by_password prove_by_receipt replace ask_wallet
    link_wallet unlink_wallet
    """.split()
)


@with_settings(DOMAINS_INCLUDED="2", CHANGES_LIMIT="10000 per minute")
def test_no_form_changes_services_before_they_are_ready(app, browser, this_shop, alice):
    wanted.add(this_shop, alice.id, "forward", "out@alice.shop.test", destination="a@example.org")
    wanted.add(this_shop, alice.id, "paidarea", "members", wallet_address="me@wallet.example")
    Domain.create(account=alice, name="alice.example", added_at=1, look_at=1)
    with models.transaction():
        wanted.want_uploads(this_shop, alice)
    seen = set()
    for rule in sorted(forms_to_send(app), key=lambda rule: "remove" in rule.endpoint):
        name = rule.endpoint.partition(".")[2]
        seen.add(name)
        if name in NOT_OF_SERVICES:
            continue
        fields = dict(OF_SERVICES[name])
        path = rule.rule.removeprefix("/account")
        for argument in rule.arguments:
            path = path.replace(f"<{argument}>", fields.pop(argument))
        for ready_at, changes in ((None, False), (1, True)):
            Account.update(ready_at=ready_at).execute()
            before = kept_services(alice)
            answer = send(browser, path, **fields)
            assert answer.status_code in (303, 400), name
            assert (kept_services(alice) != before) == changes, (name, ready_at, answer.text)
    assert seen == OF_SERVICES.keys() | NOT_OF_SERVICES


def kept_services(alice) -> list:
    rows = [list(table.select().order_by(table.name).tuples()) for table in (Service, Domain)]
    return [*rows, Account.get_by_id(alice.id).revision]


def test_every_page_needs_a_login(app, client, alice):
    for path in pages(app):
        assert client.get(path).location.startswith("/login"), path
        poll = client.get(path, headers={"HX-Request": "true"})
        assert poll.headers["HX-Redirect"].startswith("/login"), path


def test_every_form_needs_a_login_and_its_token(app, client, alice):
    token = csrf_token(client.get("/login").text)
    for rule in forms_to_send(app):
        path = re.sub("<[^>]*>", "x", rule.rule)
        assert client.post(path, data={"csrf_token": token}).location.startswith("/login"), path
    enter(client, alice)
    for rule in forms_to_send(app):
        assert client.post(re.sub("<[^>]*>", "x", rule.rule)).status_code == 400, rule


def test_every_page_says_which_it_is_and_leads_to_those_of_its_group(app, browser, subtests):
    with app.test_request_context():
        groups = {
            group: {url_for(endpoint): title for endpoint, title in pages.values()}
            for group, pages in control.GROUPS.items()
        }
    firsts = [next(iter(pages)) for pages in groups.values()]
    for pages in groups.values():
        for path in pages:
            with subtests.test(path):
                page = browser.get(path).text
                links = re.findall(r'<li><a href="([^"]*)"( aria-current="\w+")?', page)
                of_group = list(pages) if len(pages) > 1 else []
                assert [link for link, _ in links][: len(firsts + of_group)] == firsts + of_group
                assert {link for link, mark in links if "page" in mark} == {path}
                assert "aria-current" in dict(reversed(links))[next(iter(pages))]
                assert "alice.shop.test ·" in re.search("<title>(.*?)</title>", page)[1]


def test_the_session_of_a_deleted_account_leads_to_the_login(browser, alice, this_shop):
    accounts.close(alice.id)
    reconcile.account(this_shop, alice.id)
    assert Account.select().count() == 0
    assert browser.get("/account/settings").location.startswith("/login")


# -- other people's hostings -----------------------------------------------------------


def everything_of(account: Account) -> list:
    """All rows of an account, to compare them."""
    rows = [Account.select().where(Account.id == account.id)]
    rows += [table.select().where(table.account == account) for table in (Service, Domain, Order)]
    return [sorted(map(repr, query.dicts())) for query in rows]


@no_limits
def test_bob_changes_nothing_of_alices_by_any_form(app, client, alice, bob, this_shop):
    wanted.add(this_shop, alice.id, "alias", "alice.example")
    wanted.add(this_shop, alice.id, "mail_domain", "alice.example")
    wanted.add(this_shop, alice.id, "mailbox", "eve@alice.example")
    wanted.add(this_shop, alice.id, "paidarea", "members", wallet_address="me@wallet.example")
    Domain.create(account=alice, name="alice.example", added_at=1, look_at=1)
    order = orders.extend(this_shop, alice.id, 1, "months", orders.Buyer("bob", "form"))
    before = everything_of(alice)
    enter(client, bob)
    page = client.get("/account").text
    for rule in forms_to_send(app):
        if rule.endpoint == "account.close_for_good":
            continue  # it takes only a name, and is tried below
        for row in services.of_account(alice.id):
            local_part, _, domain = row.name.rpartition("@")
            known = {"kind": row.kind, "token": order.token, "order": order.token}
            named = {argument: known.get(argument, row.name) for argument in rule.arguments}
            path = app.url_map.bind("localhost").build(rule.endpoint, named, method="POST")
            typed = dict.fromkeys(("name", "domain", "address", "mailbox", "row"), row.name)
            typed |= known | {"service": f"{row.kind}:{row.name}", "account": alice.id}
            typed |= {"active": "off", "password": GOOD, "local_part": local_part or "x"}
            answer = client.post(path, data=typed | {"csrf_token": csrf_token(page)})
            assert answer.status_code in (303, 400, 404, 409), path
            if rule.arguments:
                assert answer.status_code == 404, path
            if answer.headers.get("Set-Cookie"):
                page = client.get("/account").text
    assert everything_of(alice) == before


FOREIGN = [
    ("/settings/password", {"service": "ftp:ls_alice", "password": GOOD}),
    ("/settings/password", {"service": "ftp:ls_alice", "make": "1"}),
    ("/settings/password", {"service": "mailbox:info@alice.shop.test", "password": GOOD}),
    ("/settings/password", {"service": "database:ls_bobby", "password": GOOD}),
    ("/settings/password", {"service": "ftp\0:ls_alice", "password": GOOD}),
    ("/settings/password", {"password": GOOD}),
    ("/settings/switch", {"kind": "ftp", "name": "ls_alice", "active": "off"}),
    ("/settings/switch", {"kind": "shell", "name": "ls_alice\0", "active": "off"}),
    ("/settings/switch", {"kind": "site", "name": "bobby.shop.test", "active": "off"}),
    ("/settings/switch", {"kind": "mailbox", "name": "info@bobby.shop.test", "active": "off"}),
    ("/settings/switch", {"kind": "client", "name": "ls_bobby", "active": "off"}),
    ("/settings/switch", {}),
    ("/settings/ssh-key", {"name": "ls_alice", "ssh_key": KEY}),
    ("/settings/php", {"name": "alice.shop.test", "version": "off"}),
    ("/settings/https", {"name": "alice.shop.test", "active": "on"}),
    ("/settings/pretty-addresses", {"name": "alice.shop.test", "active": "on"}),
    ("/settings/redirect", {"name": "alice.shop.test", "redirect_to": "https://bob.example"}),
]


@no_limits
def test_another_customers_service_is_not_found(client, alice, bob):
    before = everything_of(alice), everything_of(bob)
    for path, fields in FOREIGN:
        answer = send(enter(client, bob), path, **fields)
        assert answer.status_code == 404, (path, fields)
    assert (everything_of(alice), everything_of(bob)) == before


# -- hostile input ---------------------------------------------------------------------


WORST = ["al\0ice", "\ud800\udfff", "x" * 10_000, '"><script>alert(1)</script>']
HARMLESS = ("/logout", "/account/access/sessions")


@pytest.mark.each_database
@no_limits
def test_the_worst_strings_in_any_field_of_any_form_do_no_harm(app, browser):
    sent = {
        (form["action"], field, worst): fields | {field: worst}
        for path in pages(app)
        for form in read(browser.get(path).text).all("form")
        if form["action"] not in HARMLESS
        for fields in [{each["name"]: each.value for each in form.controls}]
        for field in fields.keys() - {"csrf_token"}
        for worst in WORST
    }
    assert len(sent) > 100
    for (action, *_), fields in sent.items():
        body = urlencode(fields, errors="surrogatepass")
        kind = "application/x-www-form-urlencoded"
        answer = browser.post(action, data=body, content_type=kind)
        assert answer.status_code in (200, 302, 303, 400, 404, 409), (action, fields)
        assert "<script>alert" not in answer.text


# -- the overview ----------------------------------------------------------------------


def test_the_overview_shows_the_space_once_it_is_known(browser, alice):
    assert browser.get("/account").text.count("measuring… of") == 3
    facts = {
        "used_site_mb": 41,
        "used_database_mb": 10,
        "used_mail_mb": 0,
        "used_at": 1_800_000_000,
    }
    Account.update(credit_msat=1_234_999, **facts).execute()
    page = browser.get("/account").text
    for text in ("41 MB of 70 MB used", "10 MB of 10 MB used", "0 MB of 20 MB used"):
        assert text in page
    assert page.count('class="full"') == 1
    assert "In all 51 MB of 100 MB used, as of <time" in page
    assert "1,234 sat" in page


def test_how_to_connect_can_be_copied(browser):
    page = browser.get("/account").text
    for line in ("sftp ls_alice@alice.shop.test", "ssh ls_alice@alice.shop.test"):
        assert re.search(rf'<code id="[^"]+">{line}</code>', page)
    copied = re.findall('data-copies="([^"]+)"', page)
    assert len(copied) == len(set(copied)) == 4
    for target in copied:
        assert page.count(f'id="{target}"') == 1


def test_many_addresses_are_counted_and_not_listed(browser, alice, this_shop):
    for name in ("eve", "sales", "zoe"):
        address = f"{name}@alice.shop.test"
        password = None if name == "zoe" else "correct horse"
        wanted.add(this_shop, alice.id, "mailbox", address, password)
    page = browser.get("/account").text
    assert "1 more mailbox or forward:" not in page
    assert page.count(">Mail</h3>") == 1
    assert "3 more mailboxes or forwards:" in page


# -- the state of things ---------------------------------------------------------------


def test_a_page_looks_again_only_while_something_is_under_way(browser, alice, worker, this_shop):
    assert "hx-trigger" in browser.get("/account/status").text
    let_the_server_follow()
    for path in ("/account", "/account/settings", "/account/status"):
        assert "hx-trigger" not in browser.get(path).text
        assert 'http-equiv="refresh"' not in browser.get(path).text
    wanted.switch(alice.id, "ftp", "ls_alice", False)
    page = browser.get("/account").text
    assert 'hx-trigger="every 2s"' in page
    assert '<noscript><meta http-equiv="refresh"' in page
    # On other pages a reload would lose what is being typed.
    assert 'http-equiv="refresh"' not in browser.get("/account/settings").text


def test_the_page_says_how_many_jobs_the_server_has_to_do_first(browser, alice, this_shop, panel):
    for _ in range(1000):
        panel.jobs_of_others(for_seconds=10)
    assert "switches it on within two minutes" in browser.get("/account/status").text
    progress.look_at_queues(this_shop)
    page = browser.get("/account/status").text
    assert re.search(r"The server has 1,0\d\d jobs to do", page)


def test_the_overview_reloads_when_a_state_has_changed(browser, alice, worker):
    page = browser.get("/account").text
    poll = re.search('hx-get="([^"]+)"', page)[1].replace("&amp;", "&")
    assert "HX-Location" not in browser.get(poll).headers
    wanted.switch(alice.id, "ftp", "ls_alice", False)
    assert json.loads(browser.get(poll).headers["HX-Location"])["path"] == "/account"
    assert "HX-Location" not in browser.get(poll.replace("here=overview", "here=mail")).headers


def test_a_button_retries_what_has_failed(browser, alice, worker, panel):
    panel.down()
    wanted.switch(alice.id, "ftp", "ls_alice", False)
    work(worker)
    page = browser.get("/account/settings").text
    assert "7 of 8 services are up to date" in page
    assert 'hx-trigger="every 15s"' in page
    panel.up()
    work(worker)
    assert not row_of(alice, "ftp").is_applied
    assert send(browser, "/retry", here="settings").location == "/account/settings"
    work(worker)
    assert row_of(alice, "ftp").is_applied
    assert "Try again now" not in browser.get("/account").text


def test_a_permanent_failure_is_not_polled(browser, alice, worker, panel):
    panel.forbidden = {"sites_ftp_user_update"}
    wanted.switch(alice.id, "ftp", "ls_alice", False)
    work(worker)
    page = browser.get("/account/settings").text
    assert "needs the operator" in page
    assert "Try again now" in page
    assert "hx-trigger" not in page


def test_a_retry_without_failures_does_nothing(browser, alice):
    before = everything_of(alice)
    for here in ("", "overview", "nowhere", "status", "\0"):
        assert send(browser, "/retry", here=here).location == "/account"
    assert everything_of(alice) == before


# -- passwords of the services ---------------------------------------------------------

WITH_PASSWORD = {
    "ftp:ls_alice": "ftp",
    "shell:ls_alice": "shell",
    "database_user:ls_alice": "database_user",
    "mailbox:info@alice.shop.test": "mailbox",
}


def test_a_typed_password_is_set_and_never_shown(browser, alice, worker, panel):
    for number, service in enumerate(WITH_PASSWORD):
        typed = f"{GOOD} {number}"
        answer = send(browser, "/settings/password", service=service, password=typed)
        assert answer.location == "/account/settings"
        assert GOOD not in browser.get("/account").text
    work(worker)
    for number, kind in enumerate(WITH_PASSWORD.values()):
        assert panel.password_of(kind, 1) == f"{GOOD} {number}"
    assert GOOD not in browser.get("/account").text


def test_a_generated_password_is_shown_once_it_works(browser, alice, worker, panel):
    answer = send(browser, "/settings/password", service="ftp:ls_alice", make="1", password="x")
    assert answer.location == "/account"
    work(worker)
    made = panel.password_of("ftp", 1)
    assert made not in ("x", "correct horse")
    assert browser.get("/account").text.count(made) == 1


@pytest.mark.parametrize("typed", [{"password": GOOD}, {"make": "1"}])
def test_all_services_get_the_same_password_at_once(browser, alice, worker, panel, typed):
    assert send(browser, "/settings/password", service="all", **typed).status_code == 303
    work(worker)
    all_of_them = {panel.password_of(kind, 1) for kind in WITH_PASSWORD.values()}
    assert len(all_of_them) == 1
    assert all_of_them == {GOOD} or "make" in typed
    page = browser.get("/account").text
    assert page.count(all_of_them.pop()) == (1 if "make" in typed else 0)


BAD = ["", "short", "        ", "p" * 65, "pässword word", "pass\0word word", "x" * 10_000]


@no_limits
def test_a_bad_password_is_refused_beside_its_field(browser, alice):
    before = everything_of(alice)
    for password in BAD:
        answer = send(browser, "/settings/password", service="shell:ls_alice", password=password)
        assert answer.status_code == 400
        assert 'id="password-error"' in answer.text
        assert '<option selected value="shell:ls_alice">' in answer.text
        assert not password or f'value="{password}"' not in answer.text
    assert everything_of(alice) == before


@with_settings(CHANGES_LIMIT="3 per day")
def test_changes_of_passwords_are_limited(browser):
    answers = [
        send(browser, "/settings/password", service="all", password=GOOD).status_code
        for _ in range(4)
    ]
    assert answers == [303, 303, 303, 429]


# Requests that count as a change, and the status of the answer.
CHANGES = [
    ("/settings/password", {"service": "all", "password": GOOD}, 303),
    ("/settings/email", {"email": "no address"}, 400),
    ("/retry", {}, 303),
    ("/close", {"username": "bobby"}, 400),
]


@with_settings(LOGINS_LIMIT="2 per day", LOGINS_LIMIT_OVERALL="2 per day")
def test_used_up_changes_leave_logins_possible(browser, alice, app):
    for _ in range(5):
        for path, fields, status in CHANGES:
            assert send(browser, path, **fields).status_code == status
    assert send(browser, "/prove", password="correct horse").status_code == 303
    browser.post("/logout", data={"csrf_token": csrf_token(browser.get("/account").text)})
    assert log_in(browser, "alice", "correct horse").location == "/account"
    assert log_in(app.test_client(), "alice", "correct horse").location == "/account"


@with_settings(
    **{"LOGINS_LIMIT": "2 per day", "LOGINS_LIMIT_OVERALL": "2 per day"},
    **{"CHANGES_LIMIT": "4 per day", "CHANGES_LIMIT_OVERALL": "4 per day"},
)
def test_logins_leave_changes_possible(browser, app):
    for _ in range(3):
        proof = send(browser, "/prove", password="wrong password")
        login = log_in(app.test_client(), "alice", "wrong password")
    assert (proof.status_code, login.status_code) == (429, 429)
    for path, fields, status in CHANGES:
        assert send(browser, path, **fields).status_code == status
    assert send(browser, "/retry").status_code == 429


# -- on and off ------------------------------------------------------------------------


def test_a_service_is_switched_off_and_on(browser, alice, worker):
    for active, kind in product(("off", "on"), ("ftp", "shell", "database")):
        answer = send(browser, "/settings/switch", active=active, kind=kind, name="ls_alice")
        assert answer.location == "/account/settings"
        work(worker)
        row = row_of(alice, kind)
        assert (row.active, row.is_applied) == (active == "on", True)
        other = "on" if active == "off" else "off"
        assert (
            f"Switch {other} {services.SERVICE_NAMES[kind]}"
            in browser.get("/account/settings").text
        )


def test_https_is_switched_on_and_off(browser, alice):
    for active in ("on", "off"):
        send(browser, "/settings/https", name="alice.shop.test", active=active)
        assert settings_of(alice, "site")["letsencrypt"] == (active == "on")


def test_pretty_addresses_are_switched_on_and_off(browser, alice):
    for active in ("on", "off"):
        send(browser, "/settings/pretty-addresses", name="alice.shop.test", active=active)
        assert settings_of(alice, "site")["pretty_addresses"] == (active == "on")


def test_site_is_redirected(subtests, browser, alice):
    for typed, kept in [
        ("https://example.org/", "https://example.org/"),
        (" Example.COM ", "https://example.com/"),
        ("http://müller.example:8080/a/b_c", "http://xn--mller-kva.example:8080/a/b_c/"),
        ("https://xn--sw8hj0a.ws/", "https://xn--sw8hj0a.ws/"),
        ("", ""),
    ]:
        with subtests.test(typed):
            send(browser, "/settings/redirect", name="alice.shop.test", redirect_to=typed)
            assert settings_of(alice, "site")["redirect_to"] == kept


def test_redirect_that_means_something_to_the_web_server_is_refused(browser, alice):
    before = everything_of(alice)
    for target in (
        *("https://", "ftp://example.org/", "javascript:alert(1)", "https://exam ple.org/"),
        *("https://example.org/?a=1", "https://example.org/#x", "https://example.org/%2e"),
        *("https://example.org/$1", 'https://example.org/" [P]', "https://example.org/a\\b"),
        *("https://example.org/a\nRewriteEngine off", "https://user:pass@example.org/"),
        *("https://[::1]/", "https://127.0.0.1/", "https://localhost/", "unix:/run/php.sock"),
        *("https://example.org:0/", f"https://example.org/{'a' * 200}/", "https://a..example/"),
        *("https://alice.shop.test/", "http://www.alice.shop.test/elsewhere", "\0", "https://\0/"),
    ):
        answer = send(browser, "/settings/redirect", name="alice.shop.test", redirect_to=target)
        assert answer.status_code == 400, target
        assert 'id="redirect_to-error"' in answer.text
    assert everything_of(alice) == before


def test_the_htaccess_page_lists_the_directives(browser):
    page = browser.get("/account/htaccess").text
    assert "may only say what cannot lead to a neighbour" in page and "FallbackResource" in page


@with_settings(WALLS="mpm_itk")
def test_the_htaccess_page_describes_mpm_itk(browser):
    assert "AuthUserFile" in browser.get("/account/htaccess").text


# -- the SSH key -----------------------------------------------------------------------

PASTED = {
    KEY: KEY,
    f"{KEY} alice@example": f"{KEY} alice@example",
    f"  {KEY} alice\r\n": f"{KEY} alice",
    f"{KEY[:40]}\r\n{KEY[40:]} alice\n\n": f"{KEY} alice",
    f"{KEY} José Müller (laptop)": f"{KEY} Jose Muller (laptop)",
    "": "",
    " \r\n ": "",
}


def test_a_public_key_is_set_however_it_was_pasted(browser, alice):
    for pasted, kept in PASTED.items():
        wanted.configure(alice.id, "shell", "ls_alice", ssh_key=f"{KEY} before")
        answer = send(browser, "/settings/ssh-key", name="ls_alice", ssh_key=pasted)
        assert answer.location == "/account/settings"
        assert settings_of(alice, "shell")["ssh_key"] == kept
        assert f">\r\n{kept}</textarea>" in browser.get("/account/settings").text


def test_malformed_key_forms_are_understood_or_refused(browser, alice):
    wanted.configure(alice.id, "shell", "ls_alice", ssh_key=KEY)
    assert send(browser, "/settings/ssh-key", name="ls_alice").status_code == 303
    assert settings_of(alice, "shell")["ssh_key"] == ""
    for seen_at in ("-" + "9" * 40, "9" * 40, "9" * 9999, "x", ""):
        assert send(browser, "/noted", seen_at=seen_at).status_code == 303


WRONG_KEYS = [
    *("ssh-ed25519", "ssh-ed25519 AAAA", "ssh-rsa " + KEY.split()[1], "ssh-ed25519 " + "A" * 68),
    *(f"{KEY}\n{KEY}", f"{KEY} alice\n{KEY} bob", f'command="x" {KEY}', "ssh-dss " + "A" * 68),
    *("x", "<script>", "\0", KEY + "\0", KEY + " \x1b[2J", KEY + "=", "ssh-ed25519 " + "A" * 9000),
]


def test_what_is_not_a_public_key_is_refused_beside_its_field(browser, alice):
    before = everything_of(alice)
    for pasted in WRONG_KEYS:
        answer = send(browser, "/settings/ssh-key", name="ls_alice", ssh_key=pasted)
        assert answer.status_code == 400, pasted
        assert 'id="ssh_key-error"' in answer.text
        if pasted.startswith("ssh-rsa"):
            assert pasted in answer.text  # what was pasted is not lost
    assert everything_of(alice) == before


SECRET = "c2VjcmV0IHNlY3JldA"
PRIVATE = [
    f"-----BEGIN OPENSSH PRIVATE KEY-----\r\nb3BlbnNzaC1rZXktdjEA{SECRET}\r\n",
    f"-----BEGIN RSA PRIVATE KEY-----\n{SECRET}",
    f"-----begin encrypted private key-----{SECRET}",
    f"PuTTY-User-Key-File-3: ssh-ed25519\nEncryption: none\nPrivate-Lines: 1\n{SECRET}",
    f"b3BlbnNzaC1rZXktdjEA{SECRET}",
    f"ssh-ed25519 {SECRET}\n-----BEGIN OPENSSH PRIVATE KEY-----\n{SECRET}",
    f"{KEY} alice\n-----BEGIN OPENSSH PRIVATE KEY-----\n{SECRET}",
    f"{KEY} alice\n-----BEGIN RSA PRIVATE\xa0KEY-----\n{SECRET}",
    f"{SECRET}\n{SECRET}\n-----END OPENSSH PRIVATE KEY-----",
    f"{SECRET}\n{SECRET}",
]


def test_a_private_key_is_neither_kept_nor_shown_nor_logged(browser, alice, caplog):
    caplog.set_level("DEBUG")
    for pasted in PRIVATE:
        answer = send(browser, "/settings/ssh-key", name="ls_alice", ssh_key=pasted)
        assert answer.status_code == 400
        assert 'id="ssh_key-error"' in answer.text
        assert ("This is a private key" in answer.text) == (pasted != PRIVATE[-1])
        assert SECRET not in answer.text + browser.get("/account/settings").text
    assert SECRET not in repr(everything_of(alice)) + caplog.text


# -- PHP -------------------------------------------------------------------------------


def test_the_php_version_is_one_of_the_servers(browser, alice):
    Server.update(php_versions='[[3, "PHP 8.2"]]').execute()
    assert '<option value="3">PHP 8.2</option>' in browser.get("/account/settings").text
    for version, php in (("3", (True, 3)), ("off", (False, 3)), ("0", (True, 0))):
        answer = send(browser, "/settings/php", name="alice.shop.test", version=version)
        assert answer.location == "/account/settings"
        settings = settings_of(alice, "site")
        assert (settings["php"], settings["php_version"]) == php
        page = browser.get("/account/settings").text
        assert f'<option selected value="{version}">' in page


def test_another_php_version_is_refused_beside_its_field(browser, alice):
    before = everything_of(alice)
    for version in ("4", "", "-1", "on", "0\0", "9" * 50, "٣"):
        answer = send(browser, "/settings/php", name="alice.shop.test", version=version)
        assert answer.status_code == 400, version
        assert 'id="version-error"' in answer.text
    assert everything_of(alice) == before


def test_a_version_that_is_no_longer_offered_is_still_shown(browser, alice):
    wanted.configure(alice.id, "site", "alice.shop.test", php_version=7)
    assert '<option selected value="7">' in browser.get("/account/settings").text


# -- sessions --------------------------------------------------------------------------


def test_logging_out_everywhere_leaves_this_browser_alone(app, browser, alice):
    elsewhere = enter(app.test_client(), alice)
    Order.create(
        token="a" * 32, kind="open", account=alice, space_mb=100, amount_msat=1000, placed_at=1,
        expires_at=1, browser="the browser that ordered",
    )  # fmt: skip
    assert send(browser, "/access/sessions").location == "/account/access#sessions"
    assert browser.get("/account").status_code == 200
    assert elsewhere.get("/account").status_code == 302
    assert Order.get().browser is None


# -- the address for reminders -----------------------------------------------------------

sends_mail = with_settings(
    SMTP_URL="smtp://localhost", MAIL_FROM="shop@shop.example", LOGINS_LIMIT="10000 per minute"
)


@sends_mail
def test_a_new_address_gets_a_link_first(browser, alice):
    assert send(browser, "/settings/email", email=" eve@example.org ").status_code == 303
    assert Account.get_by_id(alice.id).email is None
    notice = Notice.get()
    assert (notice.kind, notice.recipient) == ("confirm", "eve@example.org")
    link = re.search(r"http://localhost(/reminders/\S+)", notice.body)[1]
    page = browser.get(link)
    browser.post(link, data={"csrf_token": csrf_token(page.text)})
    assert Account.get_by_id(alice.id).email == "eve@example.org"
    assert "Reminders go to eve@example.org" in browser.get("/account/password").text
    assert "waits for" not in browser.get("/account/password").text
    assert send(browser, "/settings/email/remove").location == "/account/password"
    assert Account.get_by_id(alice.id).email is None


@sends_mail
def test_an_invalid_address_is_refused_beside_its_field(browser, alice):
    wrong = ("", "eve", "a@b", "eve@example.org\r\nBcc: x@example.org", "a\0@example.org")
    for typed in (*wrong, "x" * 10_000 + "@example.org"):
        answer = send(browser, "/settings/email", email=typed)
        assert answer.status_code == 400
        assert 'id="email-error"' in answer.text
    assert Notice.select().count() == 0


@sends_mail
def test_an_unconfirmed_address_is_shown_and_can_be_removed(browser, alice, time_machine):
    Account.update(email="alice@example.org").execute()
    send(browser, "/settings/email", email="eve@example.org")
    page = browser.get("/account/password").text
    assert "eve@example.org waits for you" in page and "Mail the link" not in page
    assert "eve@example.org" in browser.get("/account").text
    time_machine.forward(86400)
    assert "Mail the link" in browser.get("/account/password").text
    send(browser, "/settings/email", email="eve@example.org")
    assert Notice.select().count() == 1 and Notice.get().written_at == int(time_machine.moment)
    send(browser, "/settings/email/remove", address="eve@example.org")
    page = browser.get("/account/password").text
    assert "eve@" not in page and "Reminders go to alice@example.org" in page


@sends_mail
def test_mails_to_confirm_addresses_are_limited_per_day(browser, alice):
    emails = [f"eve{number}@example.org" for number in range(6)]
    answers = [send(browser, "/settings/email", email=email) for email in emails]
    assert [answer.status_code for answer in answers] == [303] * 5 + [429]
    assert 'id="email-error"' in answers[-1].text


@with_settings(SMTP_URL="smtp://localhost:9", LOGINS_LIMIT="100 per minute")
def test_many_accounts_send_no_more_to_one_address(app, this_shop):
    statuses = []
    for name in ("alice", "bobby", "carol"):
        browser = enter(app.test_client(), open_account(this_shop, name))
        for email in ("Eve@example.org", "eve@Example.org"):
            statuses.append(send(browser, "/settings/email", email=email).status_code)
    assert statuses == [303] + [429] * 5
    assert send(browser, "/settings/email", email="carol@example.org").status_code == 303


def test_a_shop_without_mail_asks_for_no_address(browser, alice):
    assert "Reminders" not in browser.get("/account/password").text
    assert send(browser, "/settings/email", email="eve@example.org").status_code == 404
    Account.update(email="eve@example.org").execute()
    page = browser.get("/account/password").text
    assert "Remove the address" in page
    assert "Change the address" not in page


# -- taking the data along -------------------------------------------------------------


@with_settings(SERVER_HOSTS="server.example")
def test_the_commands_name_this_accounts_services(browser, alice, this_shop):
    wanted.add(this_shop, alice.id, "mailbox", "eve@alice.shop.test")
    page = browser.get("/account/data").text
    for text in (
        "sftp -r ls_alice@server.example:/web/. alice.shop.test-web",
        "-u ls_alice ftp://server.example",
        "mysqldump -h 127.0.0.1 -u ls_alice -p",
        "User info@alice.shop.test",
        "User eve@alice.shop.test",
    ):
        assert text in page


def test_commands_for_missing_services_are_not_shown(browser, alice):
    wanted.remove(alice.id, "shell", "ls_alice")
    wanted.remove(alice.id, "database", "ls_alice")
    page = browser.get("/account/data").text
    assert "mysqldump" not in page
    assert "lftp" in page
    assert browser.get("/account/settings").status_code == 200
    assert browser.get("/account").status_code == 200


# -- closing ---------------------------------------------------------------------------


def close(browser, username="alice", page=None):
    """Fill in the form of the page, or of one that was opened earlier, and send it."""
    page = page or browser.get("/account/close").text
    ends = re.search('name="ends"[^>]*value="([0-9]*)"', page)
    return send(browser, "/close", username=username, ends=ends and ends[1])


@pytest.fixture
def unpaid(alice, this_shop) -> Order:
    buyer = orders.Buyer("alice's browser", "form")
    return orders.extend(this_shop, alice.id, 1, "months", buyer)


def test_the_closing_page_says_what_is_lost(browser, alice, time_machine):
    time_machine.forward(86400)
    page = browser.get("/account/close").text
    assert re.search("<strong>(88|89) days</strong>", page)
    assert re.search("<strong>62[23] sat</strong>", page)
    assert "Nothing is paid back" in page


def test_closing_cancels_what_is_unpaid_deletes_everything_and_logs_out(
    browser, alice, unpaid, worker, this_shop
):
    answer = close(browser, " alice ")
    assert answer.location == "/goodbye"
    assert "for 365 days a hash" in browser.get("/goodbye").text
    assert browser.get("/account").status_code == 302
    assert order_book.state(Order.get()) == "cancelled"
    assert this_shop.node.find_invoice(order_book.label(this_shop, unpaid)) is None
    work(worker)
    assert Account.select().count() == Service.select().count() == 0


def test_closing_needs_the_name(browser, alice, unpaid):
    before = everything_of(alice)
    for typed in ("", "bobby", "Alice", "alice.shop.test", "al\0ice", "x" * 9000):
        answer = close(browser, typed)
        assert answer.status_code == 400
        assert 'id="username-error"' in answer.text
    assert everything_of(alice) == before


def test_nothing_is_closed_while_the_node_does_not_answer(browser, alice, unpaid, node):
    node.down()
    answer = close(browser)
    assert answer.status_code == 503
    assert "Nothing was closed" in answer.text
    assert Account.get_by_id(alice.id).closing_at is None
    node.up()
    assert close(browser).location == "/goodbye"


def test_without_unpaid_orders_the_node_is_not_asked(browser, alice, node):
    node.down()
    assert close(browser).location == "/goodbye"


@pytest.mark.parametrize("is_recorded", [False, True])
def test_a_payment_that_has_just_arrived_stops_the_closing(
    browser, alice, unpaid, wallet, worker, is_recorded
):
    wallet.pay(unpaid.bolt11)
    if is_recorded:
        worker.follow_payments(seconds=0)
    answer = close(browser)
    assert answer.status_code == 409
    assert "has just arrived" in answer.text
    assert Account.get_by_id(alice.id).closing_at is None
    work(worker)
    assert Account.get_by_id(alice.id).expires_at > alice.expires_at
    assert close(browser).location == "/goodbye"


def test_a_payment_since_the_page_was_opened_stops_the_closing(
    browser, alice, unpaid, wallet, worker
):
    page = browser.get("/account/close").text
    wallet.pay(unpaid.bolt11)
    work(worker)
    answer = close(browser, page=page)
    assert answer.status_code == 409
    assert Account.get_by_id(alice.id).closing_at is None
    assert close(browser, page=answer.text).location == "/goodbye"


def test_an_order_placed_while_closing_stops_it(alice, this_shop, unpaid, node, monkeypatch):
    """Another tab orders while the node is deleting the first invoice."""
    take, buyer = node.faults.take, orders.Buyer("alice's browser", "another form")

    def order_meanwhile(method):
        if method == "delinvoice":
            monkeypatch.undo()
            orders.extend(this_shop, alice.id, 1, "hours", buyer)
            models.db.close()  # this thread's connection
        return take(method)

    monkeypatch.setattr(node.faults, "take", order_meanwhile)
    with pytest.raises(invoices.NotCertain):
        accounts.close_account(this_shop, alice)
    assert Account.get_by_id(alice.id).closing_at is None
    assert accounts.close_account(this_shop, alice) is True


def test_an_end_that_moves_while_closing_stops_it(alice, this_shop):
    Account.update(expires_at=Account.expires_at + 1).execute()
    assert accounts.close_account(this_shop, alice) is False
    assert Account.get_by_id(alice.id).closing_at is None


def test_closing_twice_is_closing_once(app, browser, alice, panel):
    elsewhere = enter(app.test_client(), alice)
    assert close(browser).location == "/goodbye"
    closed = Account.get_by_id(alice.id)
    assert "being closed already" in elsewhere.get("/account/close").text
    assert close(elsewhere).location == "/goodbye"
    assert Account.get_by_id(alice.id).closing_at == closed.closing_at


@sends_mail
def test_a_hosting_that_is_being_closed_takes_no_changes(browser, alice):
    accounts.close(alice.id)
    before = everything_of(alice)
    for path, fields in (
        ("/settings/password", {"service": "all", "password": GOOD}),
        ("/settings/switch", {"kind": "ftp", "name": "ls_alice", "active": "off"}),
        ("/settings/ssh-key", {"name": "ls_alice", "ssh_key": KEY}),
        ("/settings/https", {"name": "alice.shop.test", "active": "on"}),
        ("/settings/email", {"email": "alice@example.org"}),
    ):
        assert send(browser, path, **fields).location == "/account"
    assert everything_of(alice) == before
    assert Notice.select().count() == 0
    assert "This hosting is being closed" in browser.get("/account").text
