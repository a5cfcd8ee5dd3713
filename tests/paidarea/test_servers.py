"""A paid area on real web servers with php-fpm, set up as the shop sets up a site."""

import json
import time

import pytest
import requests

from lightningspace import paidarea
from lightningspace.base import walls
from tests.paidarea.test_gate import PAGE, invoice_on, raw
from tests.paidarea.wallet import Wallet

MODES = {"apache-event": walls.NARROW, "apache-itk": walls.MPM_ITK, "nginx": walls.NGINX}
# Relays a port inside the box, the last argument, to one outside.
RELAY = """
import socket, sys, threading
here, there = ("127.0.0.1", int(sys.argv[3])), (sys.argv[1], int(sys.argv[2]))
def pass_on(source, target):
    while part := source.recv(65536):
        target.sendall(part)
    target.shutdown(socket.SHUT_WR)
server = socket.create_server(here)
while True:
    one, other = server.accept()[0], socket.create_connection(there)
    for pair in ((one, other), (other, one)):
        threading.Thread(target=pass_on, args=pair, daemon=True).start()
"""
# Addresses that some server might read differently.
TRICKS = """
    /members/film.txt /private/paid/members/film.txt /members/../private/paid/members/film.txt
    /members/%2e%2e/%2e%2e/private/paid/members/film.txt /MEMBERS/index.php/film.txt
    /members/..%2f..%2fprivate/paid/members/film.txt /members/index.php/..%2fmembers/film.txt
    /members/index.php/../../../private/paid/members/film.txt //members//index.php//film.txt
    /members/index.php/%2e%2e/members/film.txt
    /members/INDEX.PHP/film.txt /members/index.php;/film.txt /members/index.php/film.txt/.
    /members/index.php%2ffilm.txt /members/index.php%00/film.txt /members/index.php/%00/film.txt
    /members/index.php/;/film.txt /members/.paid/members/key /private/.paid/members/key
    /members/index.php/.paid/members/key /members/index.php/link.txt /members/paidarea.json
    /members/index.php.bak /members/index.phps /members/index.php/film.txt%20
""".split()

# The rules that WordPress writes for its own addresses.
WORDPRESS = """
RewriteEngine On
RewriteRule .* - [E=HTTP_AUTHORIZATION:%{HTTP:Authorization}]
RewriteBase /
RewriteRule ^index\\.php$ - [L]
RewriteCond %{REQUEST_FILENAME} !-f
RewriteCond %{REQUEST_FILENAME} !-d
RewriteRule . /index.php [L]
"""


class Area:
    def __init__(self, owner, rig, wallet):
        self.url = f"http://{rig.address}"
        self.owner, self.wallet = owner, wallet
        # The port at which the server's PHP finds the wallet.
        port = str(wallet.server_port)
        rig.box.background("python3", "-c", RELAY, wallet.host, port, port)
        settings = {
            "shop": wallet.url,
            "price_sat": 100,
            "seconds": 3600,
            "address": wallet.address("alice"),
            "network": "bcrt",
        }
        with rig.ftp("alice", "correct horse 9") as session:
            for directory in ("private/paid", "private/paid/members", "web/members"):
                session.mkd(directory)
        owner.put("private/paid/members/film.txt", "x" * 100 + "a film")
        owner.put("web/members/index.php", paidarea.GATE.text.decode())
        owner.put("web/members/paidarea.json", json.dumps(settings))

    def ask(self, path: str, method="GET", **options) -> requests.Response:
        headers = {"Host": self.owner.domain} | options.pop("headers", {})
        options = {"headers": headers, "allow_redirects": False, "timeout": 20} | options
        return requests.request(method, self.url + path, **options)


@pytest.fixture
def area(alice, rig, web):
    mode = MODES[web]
    directives = walls.apache_directives(mode, False), walls.nginx_directives(mode, False)
    alice.change(
        allow_override=walls.allow_override(mode),
        apache_directives=directives[0],
        nginx_directives=directives[1],
        php_open_basedir=walls.open_basedir(alice.root),
    )
    with Wallet(rig.box.address.rpartition(".")[0] + ".1") as wallet:
        yield Area(alice, rig, wallet)


def test_an_area_sells_and_serves_and_no_trick_opens_a_file(area, web, subtests):
    offered = area.ask("/members/index.php/film.txt")
    assert offered.status_code == 402, offered.text
    told = offered.json()
    lines = ", ".join(offered.raw.headers.getlist("WWW-Authenticate"))
    assert lines.startswith(f'LSAT macaroon="{told["macaroon"]}", invoice="{told["invoice"]}"')
    assert f', L402 macaroon="{told["macaroon"]}", invoice="{told["invoice"]}"' in lines
    credential = f"L402 {told['macaroon']}:{area.wallet.pay(told['invoice'])}"
    paid = {"Authorization": credential}
    whole = area.ask("/members/index.php/film.txt", headers=paid)
    assert (whole.status_code, whole.text) == (200, "x" * 100 + "a film")
    assert whole.headers["Content-Type"] == "text/plain; charset=utf-8"
    part = area.ask("/members/index.php/film.txt", headers=paid | {"Range": "bytes=-6"})
    assert (part.status_code, part.text) == (206, "a film")
    same = {"If-None-Match": whole.headers["ETag"]}
    assert area.ask("/members/index.php/film.txt", headers=paid | same).status_code == 304
    head = area.ask("/members/index.php/film.txt", "HEAD", headers=paid)
    length = None if "apache" in web else "106"  # Apache does not pass PHP's length on
    assert (head.status_code, head.headers.get("Content-Length")) == (200, length)
    assert "You have access" in area.ask("/members/", headers=paid).text
    forged = {"Authorization": credential[:-1] + ("0" if credential[-1] != "0" else "1")}
    assert area.ask("/members/index.php/film.txt", headers=forged).status_code == 401

    host = {"Host": area.owner.domain}
    assert raw(area.url, "/members/index.php/film.txt", PAGE | host)[0] == 402
    for trick in TRICKS:
        for headers in ({}, PAGE):
            with subtests.test(trick, headers=headers):
                status, text = raw(area.url, trick, headers | host)
                assert "a film" not in text and "<?php" not in text and status != 206


def test_a_browser_pays_and_enters(area, web):
    at = "/members/index.php/film.txt"
    posted = area.ask(at, "POST", headers=PAGE)
    assert (posted.status_code, posted.headers["Location"]) == (303, "?pay")
    page = area.ask(at, headers=PAGE, cookies=posted.cookies)
    assert page.status_code == 402
    area.wallet.pay(invoice_on(page))
    until = time.monotonic() + 20
    while area.ask(at, headers=PAGE, cookies=posted.cookies).status_code != 200:
        assert time.monotonic() < until
        time.sleep(0.1)


@pytest.mark.parametrize("web", ["apache-event", "apache-itk"])
def test_the_short_address_works_with_htaccess(area, web):
    assert area.ask("/members/film.txt").status_code == 404
    area.owner.put("web/.htaccess", WORDPRESS)
    area.owner.put("web/index.php", "<?php echo 'WordPress';")
    area.owner.put("web/members/.htaccess", paidarea.htaccess("members").decode())
    offered = area.ask("/members/film.txt")
    assert offered.status_code == 402
    told = offered.json()
    paid = {"Authorization": f"L402 {told['macaroon']}:{area.wallet.pay(told['invoice'])}"}
    assert area.ask("/members/film.txt", headers=paid).text.endswith("a film")
    assert area.ask("/members/nothing", headers=paid).status_code == 404
