"""Visitors without script: whole journeys by links and forms alone.

test_browser.py checks that Chromium shows such pages, and reloads them by itself.
"""

import re
import subprocess

import pytest
from werkzeug.middleware.http_proxy import ProxyMiddleware
from werkzeug.test import Client

from lightningspace.base.clock import now
from lightningspace.base.models import Account, Order
from lightningspace.base.prices import DAY, Size
from lightningspace.rules import domain_checks
from lightningspace.sandbox.program import ROUTER, buttons
from tests.conftest import (
    debian_program,
    dns_servers,
    eventually,
    free_port,
    opened,
    with_ftp,
    work,
)
from tests.reader import Reader


@pytest.fixture
def env(env, port, dns):
    return env | dns_servers(dns) | {"PUBLIC_URL": f"http://127.0.0.1:{port}"}


@pytest.fixture
def browser(app, config):
    """Open a browser of a visitor."""
    return lambda: Reader(app.test_client(), config.public_url)


def log_in(reader, username: str, password: str) -> None:
    reader.open("/login")
    reader.fill("Name", username)
    reader.fill("Password", password)
    reader.press("Log in")
    assert reader.address.endswith("/account")


def assert_shows_credentials(reader, username: str) -> None:
    """For a hosting with a generated password."""
    assert reader.address.endswith("/account")
    for service in ("FTP", "SSH", "Database", "Mail"):
        user = f"info@{username}.shop.test" if service == "Mail" else f"ls_{username}"
        facts = reader.unfold(service).text
        assert f"User {user} Password your password, shown above" in facts


def invoice_shown(reader) -> str:
    reader.unfold("The invoice as text")
    return reader.part("bolt11").text


def test_a_customer_buys_more_time_and_another_size(browser, alice, wallet, worker):
    reader = browser()
    log_in(reader, "alice", "correct horse")

    def fill_in(page, fields, shown, price):
        reader.follow("Time and size")
        reader.follow(page)
        fields()
        reader.press("Show price")
        assert re.match(price, reader.part(shown).text)

    def pay(button):
        reader.press(button)
        wallet.pay(invoice_shown(reader))
        work(worker)
        reader.look_again()
        reader.follow("To your hosting")
        assert reader.address.endswith("/account")

    def fill_in_time():
        reader.fill("Duration", "30")
        reader.choose("Unit", "days")

    fill_in("More time", fill_in_time, "price", "210 sat for 30 days")
    pay("Order and pay for this time")
    assert 119 * DAY < Account.get().expires_at - now() <= 120 * DAY

    def fill_in_size():
        reader.check("500 MB")
        reader.fill("Mailboxes and forwards", "1")

    fill_in("Size", fill_in_size, "offer", r"[\d,]+ sat now, for 500 MB, 1 extra mailbox")
    pay("Order and pay")
    assert Size.of(Account.get()) == Size(500, 1)

    used = {"used_site_mb": 1, "used_database_mb": 1, "used_mail_mb": 1, "used_at": now()}
    Account.update(used).execute()
    fill_in("Size", lambda: reader.check("100 MB"), "offer", "0 sat now, for 100 MB, 1 extra")
    reader.press("Change it now")
    assert "Your hosting has its new size" in reader.text
    assert Size.of(Account.get()) == Size(100, 1)


# -- a tip jar -------------------------------------------------------------------------


@pytest.fixture
def sites(ftp_server):
    """A web server with PHP for the sites; `sites("alice.shop.test")` gives a browser at one."""
    php, port = debian_program("php", "php-cli php-curl"), free_port()
    ftp_server.root.mkdir(exist_ok=True)
    command = [php, "-q", "-S", f"127.0.0.1:{port}", "-t", str(ftp_server.root), str(ROUTER)]
    serving = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    its = {"target": f"http://127.0.0.1:{port}", "host": None, "headers": {}}
    front_page = ProxyMiddleware(None, {}).proxy_to(its | {"remove_prefix": False}, "/", "/")
    yield lambda site: Reader(Client(front_page), f"http://{site}.localhost:{port}")
    serving.kill()
    serving.wait()


def paid_until(page) -> str:
    return re.search(r"Paid until ([-\d: ]+ UTC)", page.text)[1]


@with_ftp
def test_a_visitor_of_a_site_keeps_it_online(
    browser, app, port, wallet, sites, ftp_server, at_work
):
    owner = browser()
    owner.open("/")
    owner.unfold("Choose name and password")
    owner.fill("Name", "alice")
    owner.press("Order and pay")
    wallet.pay(invoice_shown(owner))
    eventually(lambda: owner.look_again() or owner.address.endswith("/account"))
    shown, before = paid_until(owner), Account.get().expires_at
    eventually(lambda: ("RNTO", "index.php") in ftp_server.commands)

    reader = sites("alice.shop.test")
    with opened(app, port):
        reader.open("/")
        assert "Keep alice.shop.test online" in reader.text
        reader.fill("Message", "Thank you for your site!")
        reader.press("1,000 sat")
        wallet.pay(reader.field("Invoice").value)
        eventually(lambda: reader.look_again() or "Thank you!" in reader.text)

    tip = Order.get(Order.kind == "topup")
    eventually(lambda: Order.get_by_id(tip.token).applied_at)
    assert Account.get().expires_at == before + 1_000_000 * DAY // 7000
    owner.open("/account")
    assert paid_until(owner) != shown
    owner.open("/account/tips")
    assert "Thank you for your site!" in owner.text
    assert "1,000 sat" in owner.text


# -- what the wallet kept --------------------------------------------------------------


def test_a_visitor_logs_in_with_what_the_wallet_kept(browser, wallet, worker):
    buyer = browser()
    buyer.open("/")
    buyer.press("Order and pay")
    assert "its proof of payment can later unlock" in buyer.text
    invoice = invoice_shown(buyer)
    preimage = wallet.pay(invoice)["payment_preimage"]
    work(worker)  # the buyer never sees the page of the paid order

    reader = browser()
    reader.open("/")
    reader.follow("Your hosting")
    reader.fill("Invoice", f"{invoice[:100]}\n{invoice[100:]}")
    reader.fill("Preimage", preimage)
    reader.press("Set a new password")
    assert "Your new password" in reader.text
    account = Account.get()
    assert account.username in reader.text
    password = reader.part("password").text
    reader.follow("To your hosting")
    assert_shows_credentials(reader, account.username)

    reader.follow("Access")
    name, receipt = reader.download("Save it as a file")
    assert name == f"{account.username}-access-key.txt"
    reader.press("Log out")

    reader.open("/login")
    reader.attach("Or the file that you saved", name, receipt)
    reader.press("Use the access key")
    assert reader.address.endswith("/account")
    reader.press("Log out")
    log_in(reader, account.username, password)


def test_a_new_access_key_ends_the_old_one_and_every_token(browser, wallet, worker):
    reader = browser()
    reader.open("/")
    reader.press("Order and pay")
    wallet.pay(invoice_shown(reader))
    work(worker)
    reader.look_again()
    reader.follow("Access")
    reader.unfold("Show it as text")
    receipt = reader.part("receipt").text

    reader.fill("Name", "my mail script")
    reader.check("change mailboxes and forwards")
    reader.fill("Until the end of", "2030-01-04")
    reader.press("Make the token")
    assert ":" in reader.part("token").text
    reader.follow("To all tokens")
    assert "my mail script until 2030-01-05 00:00 UTC" in reader.part("tokens").text

    reader.follow("Make a new access key")
    assert "you have handed out 1" in reader.text
    reader.press("I have kept it: end the old ones")
    assert "The new access key counts from now on" in reader.text
    assert "my mail script" not in reader.part("tokens").text
    reader.press("Log out")
    reader.open("/login")
    reader.fill("Access key", receipt)
    reader.press("Use the access key", expected=400)
    assert "It counts no more" in reader.text
    assert reader.field("Access key").value == ""


# -- the control center ----------------------------------------------------------------


def test_a_customer_gets_a_new_password_and_closes(browser, alice, panel, worker):
    reader = browser()
    log_in(reader, "alice", "correct horse")
    reader.follow("Web")
    reader.choose("Service", "FTP: ls_alice")
    reader.press("Choose one for me")
    work(worker)
    reader.look_again()
    assert "For FTP." in reader.text
    assert reader.part("password").text == panel.password_of("ftp", 1)

    reader.follow("Leave")
    reader.follow("Close")
    reader.press("Close and delete everything", expected=400)
    assert "Enter alice here" in reader.text
    reader.fill("Name", "alice")
    reader.press("Close and delete everything")
    assert "Goodbye" in reader.text
    work(worker)
    assert Account.select().count() == 0
    reader.open("/account")
    assert "Log in" in reader.text


def test_a_customer_adds_a_mailbox_and_a_domain(
    own_app, config, alice, worker, this_shop, panel, dns, tmp_path
):
    own_app.register_blueprint(buttons(tmp_path / "wallet-rpc", dns))
    reader = Reader(own_app.test_client(), config.public_url)

    def add_mailbox(local_part, domain, expected=200):
        reader.follow("Mail")
        reader.fill("Address", local_part, within="add-mailbox")
        reader.choose("Domain", domain, within="add-mailbox")
        reader.press("Add", expected, within="add-mailbox")

    log_in(reader, "alice", "correct horse")
    add_mailbox("e v e", "alice.shop.test", expected=400)
    assert "Use letters a to z" in reader.text
    assert reader.field("Address", within="add-mailbox").value == "e v e"
    add_mailbox("Eve", "alice.shop.test")
    assert "eve@alice.shop.test being set up" in reader.text
    work(worker)
    reader.follow("Look again")
    assert f"New password: {panel.password_of('mailbox', 2)}" in reader.text

    reader.follow("Domains")
    reader.fill("Domain", "alice.example")
    reader.check("Receive mail for it here")
    reader.press("Add the domain")
    assert "waiting for its TXT record" in reader.text
    reader.press("Publish these records")
    domain_checks.look(this_shop)
    work(worker)
    reader.follow("Look again")
    assert "http://alice.example/" in reader.text
    add_mailbox("info", "alice.example")
    assert "info@alice.example" in reader.text

    reader.follow("Domains")
    reader.follow("Remove")
    assert "info@alice.example" in reader.text
    reader.press("Remove alice.example")
    assert "alice.example is being removed" in reader.text
