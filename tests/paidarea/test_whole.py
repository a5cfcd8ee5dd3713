"""From the owner's form to a visitor's film, by shop, worker, FTP, PHP and node."""

import re
import socket
import subprocess

import pytest
import requests

from lightningspace.base.models import Account, Service
from lightningspace.panel import reconcile
from tests.conftest import (
    ROOT,
    csrf_token,
    debian_program,
    enter,
    eventually,
    open_account,
    opened,
    work,
)
from tests.paidarea.test_gate import PAGE, invoice_on

pytestmark = pytest.mark.usefixtures("shop_with_ftp")


@pytest.fixture
def env(env, port):
    at = {"PUBLIC_URL": f"http://127.0.0.1:{port}", "WEB_ADDRESSES": f"127.0.0.1:{port + 1}"}
    return env | at


@pytest.fixture
def alice(this_shop, panel):
    account = open_account(this_shop, "alice")
    reconcile.account(this_shop, account.id)
    return Account.get_by_id(account.id)


@pytest.fixture
def site(ftp_server, port):
    """The address at which sites are served, and the headers for alice's."""
    php = debian_program("php", "php-cli php-curl")
    router = ROOT / "lightningspace" / "sandbox" / "router.php"
    ftp_server.root.mkdir(exist_ok=True)
    command = [php, "-S", f"127.0.0.1:{port + 1}", "-t", str(ftp_server.root), str(router)]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as server:
        eventually(lambda: socket.socket().connect_ex(("127.0.0.1", port + 1)) == 0)
        yield f"http://127.0.0.1:{port + 1}"
        server.kill()


def test_visitors_payments_keep_the_site_online(
    app, client, alice, site, port, ftp_server, worker, wallet, time_machine
):
    enter(client, alice)
    sold = {"name": "members", "price_sat": "5000", "duration": "1", "unit": "days", "mode": "site"}
    token = csrf_token(client.get("/account/areas").text)
    with opened(app, port):
        posted = client.post("/account/areas", data=sold | {"csrf_token": token})
        assert posted.location == "/account/areas/members"
        for _ in range(20):
            work(worker)
            if Service.get(kind="paidarea").is_applied:
                break
            time_machine.forward(8)
        assert Service.get(kind="paidarea").note is None
        assert "It is on." in client.get("/account/areas/members/status").text

        film = ftp_server.root / "clients/client1/web1/private/paid/members/film.txt"
        film.write_text("a film")
        with requests.Session() as browser:
            browser.headers.update(PAGE | {"Host": "alice.shop.test"})
            page = browser.get(f"{site}/members/film.txt")
            assert page.status_code == 402 and "keeps alice.shop.test online" in page.text
            page = browser.post(f"{site}/members/film.txt")
            cookie = re.search("paid=([0-9a-f]{32})", page.history[0].headers["Set-Cookie"])[0]
            browser.headers["Cookie"] = (
                cookie  # the host is called by its address, so the session would not send it
            )
            paid_until = Account.get().expires_at
            wallet.pay(invoice_on(browser.get(f"{site}/members/film.txt")))
            work(worker)
            assert Account.get().expires_at > paid_until
            eventually(lambda: browser.get(f"{site}/members/film.txt").text == "a film")
