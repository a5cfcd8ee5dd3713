"""The overview: the moment of success, what is to be saved then, and the services."""

import re
from html import unescape

import pytest

from lightningspace.base.clock import now
from lightningspace.base.models import Account, Order, Service
from lightningspace.base.prices import DAY
from lightningspace.rules import progress, tokens, wanted
from tests.conftest import (
    csrf_token,
    let_the_server_follow,
    log_in,
    place_order,
    with_settings,
    work,
)
from tests.reader import read

SITE = "alice.shop.test"


@pytest.fixture
def buys(client, wallet, worker):
    """Buy alice's hosting with a browser, which is then taken to the overview."""

    def buys(**fields):
        link = place_order(client, username="alice", **fields).location
        wallet.pay(Order.get().bolt11)
        work(worker)
        assert client.get(link).location == "/account"
        return client

    return buys


@pytest.fixture
def browser(buys):
    return buys()


def shown(browser, path="/account") -> str:
    """The text of a page's content, as one line."""
    page = re.search("<main.*</main>", browser.get(path).text, re.S)[0]
    return unescape(re.sub(r"\s+", " ", re.sub("<[^>]*>", "", page)))


def send(browser, path, **fields):
    form = {"csrf_token": csrf_token(browser.get("/account").text)}
    return browser.post(f"/account{path}", data=form | fields)


def save(browser) -> None:
    """Press "I saved it"."""
    seen_at = re.search(r'name="seen_at" value="(\d+)"', browser.get("/account").text)[1]
    assert send(browser, "/noted", seen_at=seen_at).location == "/account"


def to_press(page: str) -> list:
    """The primary buttons of a page's content."""
    links = [each for main in read(page).all("main") for each in main.all("a", "button")]
    buttons = [each for each in links if "button" in (each.tag, each.get("role"))]
    quiet = {"secondary", "outline"}
    return [each for each in buttons if not quiet & set(each.get("class", "").split())]


def unfolded(page: str) -> list:
    return [each for each in read(page).all("details") if "open" in each]


# -- the moment of success -------------------------------------------------------------


def test_the_overview_begins_with_the_success(browser, time_machine):
    page = shown(browser)
    assert page.startswith(f" ✓ {SITE} is set up Set up a second after your payment. Paid until")
    assert "(in 90 days)" in page and "Open it" not in page
    let_the_server_follow()
    assert f"✓ {SITE} is live" in shown(browser)
    assert f'href="http://{SITE}/" rel="noreferrer">Open it</a>' in browser.get("/account").text
    time_machine.forward(DAY + 5)
    progress.wipe_shown_passwords()
    assert shown(browser).startswith(f" {SITE} Time and space")


def test_the_time_it_took_is_shown_only_if_it_was_short(browser, subtests):
    paid_at = Order.get().paid_at
    for seconds, told in [
        (-5, None),
        (0, "a second"),
        (9, "9 seconds"),
        (119, "119 seconds"),
        (180, "3 minutes"),
        (3600, None),
        (40 * DAY, None),
    ]:
        with subtests.test(seconds=seconds):
            Account.update(ready_at=paid_at + seconds).execute()
            page = shown(browser)
            assert (f"Set up {told} after your payment." in page) == bool(told)
            assert ("after your payment" in page) == bool(told)


def test_a_live_site_stays_live_while_its_certificate_is_fetched(browser):
    let_the_server_follow()
    asked = {"revision": Service.revision + 1, "certificate_asked_at": now()}
    Service.update(asked).where(Service.kind == "site").execute()
    assert f"✓ {SITE} is live" in shown(browser)


def test_a_hosting_that_is_not_live_is_not_called_live(browser, panel, worker, this_shop):
    let_the_server_follow()
    Order.update(is_late=True).execute()
    assert "is live" not in shown(browser)
    Order.update(is_late=False).execute()
    panel.forbidden = {"sites_web_domain_update"}
    wanted.configure(Account.get().id, "site", SITE, pretty_addresses=True)
    work(worker)
    assert "✓" not in shown(browser)


# -- what to save ----------------------------------------------------------------------


def test_saved_passwords_are_shown_no_more(browser, panel, time_machine):
    let_the_server_follow()
    page = browser.get("/account").text
    password = panel.password_of("ftp", 1)
    assert page.count(password) == 1
    assert f"For the login here, FTP, SSH, Database, info@{SITE}." in shown(browser)
    assert 'href="/account/receipt"' in page and 'href="/account/access/card"' in page
    assert page.count("your password, shown above") == 4
    assert len(to_press(page)) == 1
    save(browser)
    page = browser.get("/account").text
    for text in (password, "/account/receipt", "shown above"):
        assert text not in page
    assert page.count("yours (hidden)") == 4
    assert re.findall(r'role="button"\s+href="([^"]*)"', page) == [f"http://{SITE}/"]


def test_a_hosting_about_to_end_is_offered_nothing(browser):
    page = browser.get("/account").text
    assert "Save your access" in page and "More time" in page
    Account.update(last_call_at=1).execute()
    page = browser.get("/account").text
    assert "Save your access" in page and "More time" not in page
    Account.update(last_call_at=None, closing_at=1).execute()
    page = browser.get("/account").text
    assert "Save your access" not in page and "More time" not in page


def test_a_typed_password_is_hidden_and_the_key_is_offered_for_a_day(buys, app, time_machine):
    browser, other = buys(password="correct horse"), app.test_client()
    assert "Login password yours (hidden) Access key" in shown(browser)
    save(browser)
    assert "Save your access" not in shown(browser)
    log_in(other, "alice", "correct horse")
    assert "Save your access" in shown(other)
    time_machine.forward(DAY + 5)
    assert "Save your access" not in shown(other)


def test_new_passwords_are_shown_each_once_until_they_are_saved(browser, this_shop, worker):
    save(browser)
    account = Account.get()
    for kind in ("ftp", "shell"):
        wanted.set_password(this_shop, account.id, kind, "ls_alice")
    work(worker)
    page = shown(browser)
    assert "Save your new passwords" in page and "For FTP." in page and "For SSH." in page
    assert page.count("its own, shown above") == 2
    save(browser)
    assert "Save your new" not in shown(browser)


TOOLS = {
    "WEBMAIL_URL": ("Webmail", "https://mail.shop.test/?a=1&b=2"),
    "PHPMYADMIN_URL": ("phpMyAdmin", "https://db.shop.test/"),
    "FILES_URL": ("File manager", "https://files.shop.test/"),
}


def linked_tools(browser, path: str) -> dict[str, str]:
    page = unescape(browser.get(path).text)
    links = re.findall(r'<a href="([^"]*)" rel="noreferrer">([^<]*)</a>', page)
    return {text: href for href, text in links if text in dict(TOOLS.values())}


@with_settings(**{setting: url for setting, (_, url) in TOOLS.items()})
def test_the_web_programs_of_services_are_linked(browser):
    assert linked_tools(browser, "/account") == dict(TOOLS.values())
    webmail = dict([TOOLS["WEBMAIL_URL"]])
    for path in ("/account/mail", f"/account/mail/info@{SITE}"):
        assert linked_tools(browser, path) == webmail, path


def test_without_web_programs_none_is_linked(browser):
    for path in ("/account", "/account/mail"):
        assert "In the browser" not in browser.get(path).text, path


def test_the_key_card_has_everything_to_log_in_and_pay(browser, this_shop, panel, subtests):
    answer, key = browser.get("/account/access/card"), tokens.receipt(this_shop, Account.get())
    assert answer.headers["Cache-Control"] == "no-store"
    page = shown(browser, "/account/access/card")
    for text in (
        *("Log in at http://localhost/login", "Name alice", panel.password_of("ftp", 1), key),
        *("UTC Printed 20", "http://localhost/tip/alice", f"ls_alice at {SITE}"),
        *("ls_alice at localhost", f"info@{SITE} at {SITE}"),
    ):
        with subtests.test(text):
            assert text in page
    assert re.findall('<img src="data:image/png[^"]*" alt="(QR[^"]*)"', answer.text) == [
        "QR code of the access key",
        "QR code of the page for paying",
    ]
    save(browser)
    Account.update(tips_page=False).execute()
    page = browser.get("/account/access/card").text
    assert panel.password_of("ftp", 1) not in page and 'class="blank"' in page
    assert "/tip/alice" not in page


# -- the services ----------------------------------------------------------------------


def test_each_service_is_folded_unless_it_fails(browser, panel, worker, this_shop):
    let_the_server_follow()
    account = Account.get()
    wanted.add(this_shop, account.id, "mailbox", f"zoe@{SITE}", "correct horse")
    work(worker)
    let_the_server_follow()
    page = browser.get("/account").text
    assert unfolded(page) == []
    assert page.count('class="state">live') == 5 and "zoe@" not in page
    panel.forbidden = {"sites_ftp_user_update", "mail_user_update"}
    wanted.switch(account.id, "ftp", "ls_alice", False)
    wanted.set_password(this_shop, account.id, "mailbox", f"zoe@{SITE}")
    work(worker)
    page = browser.get("/account").text
    assert len(unfolded(page)) == page.count('class="state fails">problem') == 2
    assert f"<h3>zoe@{SITE}</h3>" in page


@with_settings(DOMAINS_INCLUDED="3")
def test_each_page_has_at_most_one_primary_button(app, browser, this_shop, subtests):
    account = Account.get()
    wanted.add(this_shop, account.id, "forward", f"all@{SITE}", destination="a@example.org")
    send(browser, "/domains", name="example.org")
    paths = [
        rule.rule
        for rule in app.url_map.iter_rules()
        if rule.rule.startswith("/account") and "GET" in rule.methods and not rule.arguments
    ]
    paths += [f"/account/mail/info@{SITE}", f"/account/mail/all@{SITE}"]
    paths += ["/account/size?space_mb=500", "/account/domains/example.org/remove"]
    wanted.add(this_shop, account.id, "paidarea", "members", wallet_address="me@wallet.example")
    paths += ["/account/areas/members"]
    for path in paths:
        with subtests.test(path):
            assert len(to_press(browser.get(path).text)) <= 1
