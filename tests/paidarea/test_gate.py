"""The gate of a paid area, served by PHP itself, with a wallet that answers as a test wants."""

import base64
import fcntl
import hashlib
import hmac
import json
import os
import re
import secrets
import socket
import struct
import subprocess
import time
import zlib
from concurrent.futures import ThreadPoolExecutor
from email.utils import formatdate
from itertools import count

import pytest
import qrcode
import requests

from lightningspace import paidarea
from lightningspace.outside import l402
from lightningspace.outside.ftp import READ_MAX
from lightningspace.sandbox import bolt11
from tests.conftest import debian_program, eventually
from tests.paidarea.wallet import Wallet, says
from tests.tipjar.test_php import COMPLAINTS, NEITHER, Php, drip

FILM = bytes(range(256)) * 1024
PRICE, DAY = 100, 24 * 60 * 60
SECONDS_MAX = 5
PAGE = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}


@pytest.fixture(scope="module")
def wallet():
    with Wallet() as running:
        yield running


@pytest.fixture
def php(served, request):
    """A server with PHP, in whose log and pages PHP must not complain."""
    yield (running := served(getattr(request, "param", [])))
    assert not COMPLAINTS.search(running.log.read_text())


class Area:
    """A site with one paid area, /members/, that has a film."""

    numbers = count()

    def __init__(self, php: Php, wallet: Wallet, name: str | None = None):
        self.name = name or f"alice{next(self.numbers)}"
        self.wallet, self._log = wallet, php.log
        self.site = php.root / self.name
        self.gate = self.site / "web" / "members"
        self.files = self.site / "private" / "paid" / "members"
        self.kept = self.site / "private" / ".paid" / "members"
        self.gate.mkdir(parents=True)
        self.files.mkdir(parents=True)
        (self.gate / "index.php").write_bytes(paidarea.GATE.text)
        (self.files / "film.mp4").write_bytes(FILM)
        self.settings = {
            "shop": wallet.url,
            "site": "alice.space.example",
            "title": None,
            "price_sat": PRICE,
            "seconds": DAY,
            "address": wallet.address(self.name),
            "keeps_site_online": False,
            "programs_only": False,
            "network": "bcrt",
        }
        self.url = f"{php.url}/{self.name}/web/members/"
        self.set()

    def set(self, **changes) -> None:
        (self.gate / "paidarea.json").write_text(json.dumps(self.settings | changes))

    def play(self, **changes) -> None:
        self.wallet.play[self.name] = changes

    @property
    def made(self) -> int:
        return self.wallet.made(self.name)

    def ask(self, path="index.php/film.mp4", method="GET", **options) -> requests.Response:
        options = {"timeout": 30, "allow_redirects": False} | options
        answer = requests.request(method, self.url + path, **options)
        assert not COMPLAINTS.search(answer.text)
        return answer

    def buy(self) -> str:
        """Buy a credential."""
        offered = self.ask()
        assert offered.status_code == 402, offered.text
        told = offered.json()
        return f"L402 {told['macaroon']}:{self.wallet.pay(told['invoice'])}"

    def get(self, credential: str, path="index.php/film.mp4", **headers) -> requests.Response:
        return self.ask(path, headers={"Authorization": credential} | headers)

    def mint(self, preimage: bytes, *caveats: str, key: bytes | None = None) -> str:
        """A credential as the gate makes it."""
        key = key or (self.kept / "key").read_bytes()
        identifier = l402.IDENTIFIER.pack(0, hashlib.sha256(preimage).digest(), b"t" * 32)
        root = hmac.digest(key, b"root\0" + hashlib.sha256(identifier).digest(), "sha256")
        return f"L402 {l402.mint(root, identifier, *caveats)}:{preimage.hex()}"


@pytest.fixture
def area(php, wallet):
    return Area(php, wallet)


def invoice_on(page: requests.Response) -> str:
    return re.search(r'href="lightning:(lnbcrt[0-9a-z]+)"', page.text)[1]


# -- programs ---------------------------------------------------------------------------------


def test_a_program_pays_once_and_gets_the_file_again_and_again(area):
    offered = area.ask()
    assert (offered.status_code, offered.headers["Cache-Control"]) == (402, "no-store")
    told = offered.json()
    lsat, l402_line = offered.raw.headers.getlist("WWW-Authenticate")
    both = f'macaroon="{told["macaroon"]}", invoice="{told["invoice"]}"'
    assert lsat == f"LSAT {both}"
    assert l402_line == f'L402 {both}, version="0", token="{told["macaroon"]}"'
    invoice = bolt11.decode(told["invoice"])
    assert invoice["amount_msat"] == told["price_msat"] == PRICE * 1000

    macaroon = l402.read(told["macaroon"])
    assert macaroon.payment_hash.hex() == invoice["payment_hash"]
    until = invoice["created_at"] + invoice["expiry"] + DAY
    assert macaroon.caveats == (b"services=members:0", f"members_valid_until={until}".encode())
    key = (area.kept / "key").read_bytes()
    root = hmac.digest(key, b"root\0" + hashlib.sha256(macaroon.identifier).digest(), "sha256")
    l402.check_signature(macaroon, root)

    credential = f"L402 {told['macaroon']}:{area.wallet.pay(told['invoice'])}"
    film = area.get(credential)
    assert (film.status_code, film.content) == (200, FILM)
    assert film.headers["Content-Type"] == "video/mp4"
    assert film.headers["Cache-Control"] == "private, no-cache"

    asked = len(area.wallet.asked[area.name])
    marker = area.kept / "programs" / invoice["payment_hash"]
    before = marker.stat()
    with requests.Session() as session:
        session.headers["Authorization"] = credential
        for _ in range(100):
            assert session.head(area.url + "index.php/film.mp4").status_code == 200
    assert marker.stat().st_mtime_ns == before.st_mtime_ns and marker.stat().st_ino == before.st_ino
    assert len(area.wallet.asked[area.name]) == asked


def test_macaroons_equal_the_reference(tmp_path):
    """That is, the test vector on which other libraries agree."""
    sha = lambda text: hashlib.sha256(text).digest()  # noqa: E731
    identifier = b"\0\0" + sha(sha(b"pre")) + sha(b"tid")
    caveats = "services=web:0,api:1 web_capabilities=read,write web_valid_until=2000000000".split()
    code = (
        "echo base64_encode(minted(hex2bin($argv[1]), hex2bin($argv[2]), array_slice($argv, 3)));"
    )
    made = run_php(tmp_path, code, sha(b"root").hex(), identifier.hex(), *caveats)
    assert made == (
        "AgEEbHNhdAJCAADFoGraWbtfniivONeh36aV2iqR+upeiohG/Nqxs1eAOscRecI7de06Hs/B4VruGohsVodUGx3+"
        "7EKV7B5/RosPAAIUc2VydmljZXM9d2ViOjAsYXBpOjEAAht3ZWJfY2FwYWJpbGl0aWVzPXJlYWQsd3JpdGUAAhp3"
        "ZWJfdmFsaWRfdW50aWw9MjAwMDAwMDAwMAAABiCAIKPkvZ34mMBe4wf0AGEpSEIaMV4cmm332v2I92lZoA=="
    )


def run_php(directory, code: str, *arguments: str) -> str:
    """The output of code that may call the gate's functions."""
    php = debian_program("php", "php-cli")
    gate = paidarea.GATE.text.decode().replace("\nrun();\n", f"\n{code}\n", 1)
    (directory / "run.php").write_text(gate)
    command = [php, "-n", "-d", "display_errors=stderr", directory / "run.php", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert done.stderr == ""
    return done.stdout


def other_form(credential: str, kind: str) -> dict:
    scheme, _, rest = credential.partition(" ")
    text, _, preimage = rest.partition(":")
    url_safe = text.translate(str.maketrans("+/", "-_")).rstrip("=")
    return {
        "LSAT": {"Authorization": f"LSAT {rest}"},
        "lower case": {"Authorization": f"l402 {rest}"},
        "capital hex": {"Authorization": f"{scheme} {text}:{preimage.upper()}"},
        "URL-safe, no padding": {"Authorization": f"L402 {url_safe}:{preimage}"},
        "two at once": {"Authorization": f"L402 {text}:{'0' * 64}, {credential}"},
        "more spaces": {"Authorization": f"L402   {text} : {preimage}"},
    }[kind]


FORMS = ["LSAT", "lower case", "capital hex", "URL-safe, no padding", "two at once", "more spaces"]


def test_every_way_to_write_a_credential_is_read(area, subtests):
    credential = area.buy()
    for kind in FORMS:
        with subtests.test(kind):
            assert area.ask(headers=other_form(credential, kind)).status_code == 200
    assert area.made == 1


def test_credentials_that_apache_passes_twice_are_read(tmp_path, subtests):
    code = "$_SERVER = json_decode($argv[1], true) + $_SERVER; echo count(shown_credentials());"
    names = "HTTP_AUTHORIZATION", "REDIRECT_HTTP_AUTHORIZATION"
    for passed in (names[:1], names[1:], names):
        with subtests.test(passed=passed):
            sent = dict.fromkeys(passed, f"L402 AgEE:{'0' * 64}")
            assert run_php(tmp_path, code, json.dumps(sent)) == "1"


def test_a_narrowed_credential_gets_no_more_than_it_says(area, subtests):
    area.buy()
    now, own = int(time.time()), ("services=members:0", f"members_valid_until={2**31}")
    cases = {
        (*own,): 200,
        (*own, "preimage=" + "0" * 64): 200,
        (*own, "unknown"): 200,
        (*own, f"members_valid_until={now + 60}"): 200,
        (*own, f"members_valid_until={now - 1}"): 402,
        (*own, "members_valid_until=x"): 402,
        (*own, f"members_valid_until={2**31 + 1}"): 402,
        (*own, "services=members:0,other:0"): 402,
        (*own, "services="): 402,
        ("services=other:0", own[1]): 402,
        ("services=other:0,members:3", own[1]): 200,
        (own[1],): 402,
        (own[0],): 402,
        (): 402,
        (own[0], f"members_valid_until={now}"): 402,
    }
    for caveats, status in cases.items():
        with subtests.test(caveats=caveats):
            answer = area.get(area.mint(secrets.token_bytes(32), *caveats))
            assert answer.status_code == status
            if status == 402:  # a credential of ours is paid for again under its id
                assert l402.read(answer.json()["macaroon"]).token_id == b"t" * 32
        (area.kept / "recent").unlink(missing_ok=True)


def test_foreign_credentials_are_answered_without_an_invoice(area, subtests):
    good = area.buy()
    made = area.made
    text, _, preimage = good.removeprefix("L402 ").partition(":")
    packed = base64.b64decode(text)
    alien = area.mint(
        b"p" * 32, "services=members:0", f"members_valid_until={2**31}", key=b"k" * 64
    )
    bad = [
        "L402",
        "L402 ",
        "L402 :",
        f"L402 {text}",
        f"L402 {text}:",
        f"L402 {text}:{preimage[:-1]}",
    ]
    bad += [f"L402 {text}:{preimage}0", f"L402 {text}:{'0' * 64}", f"L402 :{preimage}", alien]
    bad += [f"L402 {'A' * 6000}:{preimage}", f"L402 {'A' * 7000}", f"L402 {preimage}:{preimage}"]
    for at in range(0, len(packed), 3):
        broken = bytearray(packed)
        broken[at] ^= 1 << at % 8
        bad.append(f"L402 {base64.b64encode(broken).decode()}:{preimage}")
        bad.append(f"L402 {base64.b64encode(packed[:at]).decode()}:{preimage}")
    bad.append(f"L402 {base64.b64encode(packed + b'x').decode()}:{preimage}")
    with requests.Session() as session:
        for credential in bad:
            with subtests.test(credential=credential[:80]):
                headers = {"Authorization": credential}
                answer = session.get(area.url + "index.php/film.mp4", headers=headers)
                is_our_location = answer.status_code == 200 and packed[1:7] == b"\x01\x04lsat"
                if is_our_location:  # the location is not signed
                    sent = base64.b64decode(credential.removeprefix("L402 ").partition(":")[0])
                    assert sent[7:] == packed[7:]
                else:
                    assert answer.status_code == 401
                    assert answer.headers["WWW-Authenticate"] == "L402"
    assert area.made == made
    assert area.ask(headers={"Authorization": "Basic YTpi"}).status_code == 402


def test_deleting_the_key_ends_all_credentials(area):
    credential = area.buy()
    assert area.get(credential).status_code == 200
    (area.kept / "key").unlink()
    assert area.get(credential).status_code == 401
    assert area.get(area.buy()).status_code == 200


def test_kept_files_let_nobody_in_and_name_nobody(area, php):
    credential = area.buy()
    assert area.get(credential).status_code == 200
    macaroon, _, preimage = credential.removeprefix("L402 ").partition(":")
    cookie = area.ask("", "POST", headers=PAGE).cookies["paid"]
    files = [path for path in area.kept.rglob("*") if path.is_file()]
    texts = [path.name + path.read_text() for path in files] + [php.log.read_text()]
    for secret in (macaroon, preimage, cookie):
        assert not any(secret in text for text in texts)
    of_wallet = area.wallet.url.replace("/", "\\/")  # the address to ask about payments
    assert not any("127.0.0.1" in text.replace(of_wallet, "") for text in texts[:-1])
    assert {path.stat().st_mode & 0o077 for path in (area.kept, area.kept / "key")} == {0}
    assert {path.stat().st_mode & 0o077 for path in area.kept.rglob("*/*")} == {0}


def test_many_caveats_leave_one_marker(area):
    area.buy()
    preimage = secrets.token_bytes(32)
    for number in range(5):
        caveats = "services=members:0", f"members_valid_until={2**31}", f"x={number}"
        assert area.get(area.mint(preimage, *caveats)).status_code == 200
    assert len(list((area.kept / "programs").iterdir())) == 1


# -- browsers ---------------------------------------------------------------------------------


def look_again(area) -> None:
    """Change the visits as if the gate had last asked the wallet some seconds ago."""
    for path in (area.kept / "visits").iterdir():
        path.write_text(json.dumps(json.loads(path.read_text()) | {"looked": 0}))


def test_a_browser_pays_and_enters_without_a_script(area):
    with requests.Session() as browser:
        browser.headers.update(PAGE)
        at = area.url + "index.php/film.mp4"
        offer = browser.get(at)
        assert offer.status_code == 402 and area.made == 0 and not browser.cookies
        assert "<b>100 sat</b> for <b>1 day</b>" in offer.text and "<script" not in offer.text

        page = browser.post(at)
        (cookie,) = browser.cookies
        assert (cookie.path, page.status_code) == (f"/{area.name}/web/members/", 402)
        assert cookie.has_nonstandard_attr("HttpOnly") and not cookie.secure
        invoice = invoice_on(page)
        assert '<meta http-equiv="refresh" content="8">' in page.text
        assert invoice_on(browser.get(at)) == invoice_on(browser.post(at)) == invoice
        assert area.made == 1
        assert requests.get(at, headers=PAGE).status_code == 402  # without the cookie

        look_again(area)
        assert invoice_on(browser.get(at)) == invoice
        area.wallet.pay(invoice)
        assert browser.get(at).status_code == 402  # the wallet was asked a moment ago
        look_again(area)
        assert browser.get(at).content == FILM
        asked = len(area.wallet.asked[area.name])
        for _ in range(100):
            assert browser.head(at).status_code == 200
        assert len(area.wallet.asked[area.name]) == asked

        (visit,) = (area.kept / "visits").iterdir()
        assert cookie.value not in visit.name + visit.read_text()
        visit.write_text(json.dumps(json.loads(visit.read_text()) | {"until": int(time.time())}))
        over = browser.get(at)
        assert over.status_code == 402 and "<button>Pay 100 sat" in over.text


def test_paying_an_invoice_later_than_it_was_shown_lets_a_visitor_in(area, monkeypatch):
    """Invoices of many wallets can be paid for a day."""
    monkeypatch.setattr(area.wallet, "expiry", 7 * DAY)
    with requests.Session() as browser:
        browser.headers.update(PAGE)
        invoice, now = invoice_on(browser.post(area.url)), time.time()
        (visit,) = (area.kept / "visits").iterdir()
        made = json.loads(visit.read_text())
        assert now + 3500 < made["expires"] < now + 3700
        assert now + DAY - 99 < made["payable"] < now + DAY + 99
        visit.write_text(json.dumps(made | {"expires": int(now) - 3 * 3600, "looked": 0}))
        assert "This invoice has expired" in browser.get(area.url).text
        area.wallet.pay(invoice)
        look_again(area)
        assert browser.get(area.url).status_code == 200


def is_locked(path) -> bool:
    with path.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def test_a_look_does_not_undo_a_newer_one(area):
    with requests.Session() as browser, ThreadPoolExecutor(1) as other:
        browser.headers.update(PAGE)
        browser.post(area.url)
        look_again(area)
        with (area.kept / "lock").open() as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            asked = other.submit(browser.get, area.url)
            eventually(lambda: is_locked(area.kept / "asking-1"))
            (visit,) = (area.kept / "visits").iterdir()
            seen = json.loads(visit.read_text()) | {"until": int(time.time()) + DAY}
            visit.write_text(json.dumps(seen))
        assert asked.result().status_code == 200
        assert json.loads(visit.read_text()) == seen


def test_a_made_up_cookie_opens_nothing(area):
    area.ask("", "POST", headers=PAGE)
    (visit,) = (area.kept / "visits").iterdir()
    visit.write_text(json.dumps(json.loads(visit.read_text()) | {"until": 2**31}))
    for cookie in ("0" * 32, visit.name, visit.name[:32], "../key", f"../visits/{visit.name}", ""):
        page = area.ask(headers=PAGE, cookies={"paid": cookie})
        assert page.status_code == 402 and "<button>Pay" in page.text


def test_a_browser_that_keeps_no_cookies_is_told(area):
    assert "keeps no cookies" in area.ask("index.php/?pay", headers=PAGE).text
    assert area.made == 0


def test_paying_an_expired_invoice_lets_a_visitor_in(area):
    with requests.Session() as browser:
        browser.headers.update(PAGE)
        invoice = invoice_on(browser.post(area.url))
        (visit,) = (area.kept / "visits").iterdir()
        over = json.loads(visit.read_text()) | {"expires": int(time.time()) - 130, "looked": 0}
        visit.write_text(json.dumps(over))
        page = browser.get(area.url)
        assert "This invoice has expired" in page.text and "http-equiv" not in page.text
        area.wallet.pay(invoice)
        look_again(area)
        assert browser.get(area.url).status_code == 200
        assert area.made == 1


def test_an_invoice_buys_the_terms_of_when_it_was_made(area):
    with requests.Session() as browser:
        browser.headers.update(PAGE)
        invoice = invoice_on(browser.post(area.url))
        area.set(price_sat=10_000, seconds=30 * DAY, title="Now dearer")
        page = browser.get(area.url)
        assert invoice_on(page) == invoice and "Now dearer" in page.text
        assert "<b>100 sat</b> for <b>1 day</b>" in page.text
        area.wallet.pay(invoice)
        look_again(area)
        assert browser.get(area.url).status_code == 200
    (visit,) = (area.kept / "visits").iterdir()
    assert time.time() < json.loads(visit.read_text())["until"] <= time.time() + DAY


LIES = {
    "not settled": {"settled": False},
    "settled by a word": {"settled": "true"},
    "settled by a number": {"settled": 1},
    "another invoice": {"settled": True, "pr": "lnbcrt1another"},
    "a list as invoice": {"settled": True, "pr": []},
    "another preimage": {"settled": True, "preimage": "00" * 32},
    "no preimage": {"settled": True, "preimage": "x"},
    "HTML": says("<h1>settled</h1>"),
    "an error": says(json.dumps({"status": "OK", "settled": True}), 500),
    "a redirect": says("", 302, Location="/verify/elsewhere"),
    "nothing": lambda handler: handler.connection.close(),
}


def test_a_wallet_that_lies_about_a_payment_lets_nobody_in(area, subtests):
    with requests.Session() as browser:
        browser.headers.update(PAGE)
        invoice = invoice_on(browser.post(area.url))
        for kind, lie in LIES.items():
            with subtests.test(kind):
                area.play(verify=lie)
                look_again(area)
                assert invoice_on(browser.get(area.url)) == invoice
        area.play(verify={"settled": True, "preimage": None})  # as the protocol allows
        look_again(area)
        assert browser.get(area.url).status_code == 200


# -- the wallet -------------------------------------------------------------------------------

FAULTS = {
    "down": {"offer": lambda handler: handler.connection.close()},
    "down later": {"made": lambda handler: handler.connection.close()},
    "odd HTML": {"offer": says("<h1>Hello</h1>")},
    "odd later": {"made": says("<h1>Hello</h1>")},
    "odd redirect": {"offer": says("", 302, Location="http://127.0.0.1:22/")},
    "odd redirect to nowhere": {"offer": says("", 302)},
    "odd redirect of files": {"offer": says("", 302, Location="file:///etc/passwd")},
    "odd redirect in a circle": {"offer": says("", 307, Location="/.well-known/lnurlp/circle")},
    "odd tag": {"offer": {"tag": "withdrawRequest"}},
    "odd callback": {"offer": {"callback": ["x"]}},
    "odd callback at home": {"offer": {"callback": "http://127.0.0.1:8080/x"}},
    "odd callback, a number": {"offer": {"callback": "https://127.0.0.1/x"}},
    "odd callback of files": {"offer": {"callback": "file:///etc/passwd"}},
    "odd callback with a line": {"offer": {"callback": "https://a.example/x\r\nX: y"}},
    "odd callback with a user": {"offer": {"callback": "https://a@b.example/x"}},
    "odd bounds": {"offer": {"minSendable": "1"}},
    "odd depth": {"offer": says("[" * 10000)},
    "odd size": {"offer": says(json.dumps({"tag": " " * 300000}))},
    "odd invoice": {"made": {"pr": "lnbcrt1"}},
    "odd, no invoice": {"made": {"pr": None}},
    "odd, an invoice as list": {"made": {"pr": ["x"]}},
    "odd verify": {"made": {"verify": "http://127.0.0.1:22/"}},
    "amount too small": {"offer": {"minSendable": PRICE * 1000 + 1}},
    "amount too large": {"offer": {"maxSendable": PRICE * 1000 - 1}},
    "nobody of this name": {"offer": says("", 404)},
    "refused": {"offer": says(json.dumps({"status": "ERROR", "reason": "<b>no</b>"}))},
    "refused later": {"made": says(json.dumps({"status": "error", "reason": "no"}))},
    "no_verify": {"made": {"verify": None}},
}


@pytest.mark.parametrize("php", [[], NEITHER], ids=["curl", "sockets"], indirect=True)
def test_a_wallet_that_fails_or_lies_sells_nothing_and_the_reason_is_told(area, subtests):
    area.wallet.play["circle"] = FAULTS["odd redirect in a circle"]
    assert area.ask().status_code == 402
    for kind, change in FAULTS.items():
        with subtests.test(kind):
            area.play(**change)
            answer = area.ask()
            reason = re.match("[a-z_]+", kind)[0]
            assert (answer.status_code, answer.json()["reason"]) == (503, reason)
            assert "WWW-Authenticate" not in answer.headers and "Retry-After" in answer.headers
            page = area.ask("", "POST", headers=PAGE)
            assert page.status_code == 402 and 'class="trouble"' in page.text
            assert not page.cookies and "lightning:" not in page.text
            (area.kept / "recent").unlink()
    area.play()
    assert area.ask().status_code == 402


def test_redirects_of_a_wallet_are_followed(served, wallet, subtests):
    for way, settings in (("curl", []), ("sockets", NEITHER)):
        for status in (301, 302, 307, 308):
            with subtests.test(way, status=status):
                area = Area(served(settings), wallet)
                there = f"{wallet.url}/.well-known/lnurlp/elsewhere"
                area.play(offer=says("", status, Location=there))
                assert area.ask().status_code == 402
                area.play(offer=says("", status, Location="/.well-known/lnurlp/elsewhere"))
                assert area.ask().status_code == 402


def test_an_invoice_must_match_the_price(area, subtests):
    def at(msat, **options):
        return area.wallet.invoice(msat, **options)

    good = at(PRICE * 1000)
    cases = {
        "more": (at(PRICE * 1000 + 1000), "odd"),
        "less": (at(PRICE * 1000 - 1), "odd"),
        "any amount": (at(None), "odd"),
        "expired": (at(PRICE * 1000, created_at=int(time.time()) - 601), "odd"),
        "a letter changed": (good[:-1] + ("q" if good[-1] != "q" else "p"), "odd"),
        "the amount changed": (good.replace("lnbcrt1u", "lnbcrt2u"), "odd"),
        "capitals": (good.upper(), None),
        "the same again": (good, "odd"),
    }
    for kind, (invoice, reason) in cases.items():
        with subtests.test(kind):
            area.play(made={"pr": invoice})
            answer = area.ask()
            assert answer.json().get("reason") == reason
            assert answer.status_code == (503 if reason else 402)
    area.set(network="bc")
    area.play()
    assert area.ask().json()["reason"] == "network"


def test_invoices_are_read_as_by_another_library(tmp_path, wallet):
    amounts = [1, 10, 11, 100, 999, 1000, 123_456_789, 10**8, 10**11, 10**10 + 1]
    invoices = [wallet.invoice(msat) for msat in amounts]
    code = """
    foreach (array_slice($argv, 1) as $text) {
        $read = read_invoice($text);
        echo $read ? bin2hex($read['hash']) . " {$read['amount']} {$read['expires']}\n" : "none\n";
    }"""
    expected = []
    for invoice, msat in zip(invoices, amounts, strict=True):
        read = bolt11.decode(invoice)
        ends = read["created_at"] + read["expiry"]
        expected.append([read["payment_hash"], msat * 10, ends])
    said = run_php(tmp_path, code, *invoices).splitlines()
    assert [
        [line.split()[0], int(float(line.split()[1])), int(line.split()[2])] for line in said
    ] == expected
    broken = [text[:at] + "q" + text[at + 1 :] for text in invoices[:2] for at in range(12, 300, 7)]
    broken = [text for text in broken if text not in invoices]
    assert set(run_php(tmp_path, code, *broken).split()) == {"none"}


def test_an_address_without_verify_serves_programs_alone(area):
    area.set(programs_only=True)
    area.play(made={"verify": None})
    assert area.ask().json()["browsers"] is False
    assert area.get(area.buy()).status_code == 200
    page = area.ask(headers=PAGE)
    assert "For browsers there is no way in" in page.text and "<form" not in page.text
    assert 'class="trouble"' in area.ask("", "POST", headers=PAGE).text


def test_a_slow_wallet_holds_up_two_visitors_at_most_and_briefly(wallet, tmp_path):
    def drips(handler):
        handler.wfile.write(b"HTTP/1.1 200 OK\r\n\r\n ")
        drip(handler)

    roots = [tmp_path / str(number) for number in range(5)]
    for root in roots:
        root.mkdir()
    servers = [Php(root, []) for root in roots]  # each answers one visitor at a time
    try:
        area = Area(servers[0], wallet)
        for root in roots[1:]:
            (root / area.name).symlink_to(area.site)
        credential = area.buy()
        area.play(offer=drips)

        def ask(php: Php) -> dict:
            return requests.get(area.url.replace(servers[0].url, php.url), timeout=30).json()

        with ThreadPoolExecutor(4) as visitors:
            began = time.monotonic()
            asking = [visitors.submit(ask, php) for php in servers[1:]]
            assert area.get(credential).status_code == 200
            assert sorted(each.result()["reason"] for each in asking) == [
                *("busy", "busy", "down", "down")
            ]
            assert time.monotonic() - began < SECONDS_MAX + 2

            area.play()
            (area.kept / "key").unlink()
            asking = [visitors.submit(ask, php) for php in servers[1:]]
            offers = [each.result() for each in asking if "invoice" in each.result()]
            assert offers  # which were all made with one key
            for offer in offers:
                paid = f"L402 {offer['macaroon']}:{wallet.pay(offer['invoice'])}"
                assert area.get(paid).status_code == 200
    finally:
        for php in servers:
            php.stop()


def test_nobody_floods_the_wallet(area):
    statuses = [area.ask().status_code for _ in range(25)]
    assert statuses == [402] * 20 + [429] * 5
    refused = area.ask()
    assert (refused.json()["reason"], refused.headers["Retry-After"]) == ("many", "60")
    assert "Too many invoices" in area.ask("", "POST", headers=PAGE).text
    assert area.made == 20
    moments = (area.kept / "recent").read_text()
    assert "127.0.0" not in moments
    # All places are taken by other networks; ten minutes later they are free.
    now = int(time.time())
    others = "\n".join(f"{now} {number:016x}" for number in range(200))
    (area.kept / "recent").write_text(others)
    assert area.ask().status_code == 429
    (area.kept / "recent").write_text(others.replace(str(now), str(now - 600)))
    assert area.ask().status_code == 402


def test_a_network_is_a_24_or_a_48(tmp_path):
    code = """foreach (array_slice($argv, 1) as $address) {
        $_SERVER['REMOTE_ADDR'] = $address;
        echo network(), "\n";
    }"""
    alike = ["192.0.2.1 192.0.2.254 ::ffff:192.0.2.9", "198.51.100.1 ::FFFF:198.51.100.2"]
    alike += ["2001:db8:1::1 2001:db8:1:ffff::1", "2001:db8:2::1", "nothing"]
    web = tmp_path / "web" / "members"
    web.mkdir(parents=True)
    said = iter(run_php(web, code, *" ".join(alike).split()).split())
    groups = [{next(said) for _ in each.split()} for each in alike]
    assert [len(group) for group in groups] == [1] * 5 and len(set.union(*groups)) == 5


def test_mere_looks_do_not_ask_the_wallet(area):
    for method, headers in [("HEAD", {}), ("HEAD", PAGE), ("GET", PAGE), ("OPTIONS", {})]:
        answer = area.ask(method=method, headers=headers)
        assert answer.status_code == (204 if method == "OPTIONS" else 402)
        assert "WWW-Authenticate" not in answer.headers
    link = PAGE | {"Sec-Fetch-Dest": "document", "Sec-Fetch-Site": "cross-site"}
    assert "<button>Pay" in area.ask(headers=link).text
    parts = [("image", "cross-site"), ("video", "same-origin"), ("iframe", "none"), ("script", "")]
    parts += [("empty", "cross-site"), ("empty", "same-site")]  # another site's script
    for part, site in parts:
        as_part = {"Sec-Fetch-Dest": part, "Sec-Fetch-Site": site, "Accept": "*/*"}
        assert area.ask(headers=as_part).json() == {
            "type": "about:blank",
            "title": "Payment required",
            "status": 402,
        }
    for site in ("cross-site", "same-site", "none"):
        answer = area.ask("", "POST", headers=PAGE | {"Sec-Fetch-Site": site})
        assert (answer.status_code, len(answer.cookies)) == (403, 0)
    for method in ("POST", "PUT", "DELETE", "PROPFIND", "BREW"):
        assert area.ask(method=method, data=b"x").status_code in (405, 501)
    assert area.ask("index.php/nothing").status_code == 404
    assert area.name not in area.wallet.asked
    own_script = {"Sec-Fetch-Dest": "empty", "Sec-Fetch-Site": "same-origin", "Accept": "*/*"}
    assert "invoice" in area.ask(headers=own_script).json()


# -- files ------------------------------------------------------------------------------------


def test_files_are_served_as_a_web_server_does(area, subtests):
    credential = area.buy()
    whole = area.get(credential)
    tag, changed = whole.headers["ETag"], whole.headers["Last-Modified"]
    size, later = len(FILM), formatdate(time.time() + 9, usegmt=True)
    cases = [
        ({"Range": "bytes=0-99"}, 206, FILM[:100], f"bytes 0-99/{size}"),
        ({"Range": "bytes=100-100"}, 206, FILM[100:101], f"bytes 100-100/{size}"),
        ({"Range": "bytes=1000-"}, 206, FILM[1000:], f"bytes 1000-{size - 1}/{size}"),
        ({"Range": "bytes=-7"}, 206, FILM[-7:], f"bytes {size - 7}-{size - 1}/{size}"),
        ({"Range": f"bytes=5-{size * 9}"}, 206, FILM[5:], f"bytes 5-{size - 1}/{size}"),
        ({"Range": f"bytes=-{size * 9}"}, 200, FILM, None),
        ({"Range": "bytes=0-"}, 200, FILM, None),
        ({"Range": f"bytes={size}-"}, 416, None, f"bytes */{size}"),
        ({"Range": "bytes=" + "9" * 30 + "-"}, 416, None, f"bytes */{size}"),
        ({"Range": "bytes=-0"}, 416, None, f"bytes */{size}"),
        ({"Range": "bytes=9-5"}, 200, FILM, None),
        ({"Range": "bytes=0-1,5-6"}, 200, FILM, None),
        ({"Range": "bytes=-"}, 200, FILM, None),
        ({"Range": "items=0-1"}, 200, FILM, None),
        ({"Range": "bytes=0-9", "If-Range": tag}, 206, FILM[:10], f"bytes 0-9/{size}"),
        ({"Range": "bytes=0-9", "If-Range": changed}, 206, FILM[:10], f"bytes 0-9/{size}"),
        ({"Range": "bytes=0-9", "If-Range": '"x"'}, 200, FILM, None),
        ({"Range": "bytes=0-9", "If-Range": later}, 200, FILM, None),
        ({"If-None-Match": tag}, 304, b"", None),
        ({"If-None-Match": f'"x", W/{tag}'}, 304, b"", None),
        ({"If-None-Match": "*"}, 304, b"", None),
        ({"If-None-Match": '"x"', "If-Modified-Since": later}, 200, FILM, None),
        ({"If-Modified-Since": changed}, 304, b"", None),
        ({"If-Modified-Since": later}, 304, b"", None),
        ({"If-Modified-Since": "Thu, 01 Jan 1970 00:00:01 GMT"}, 200, FILM, None),
        ({"If-Modified-Since": "never"}, 200, FILM, None),
    ]
    for headers, status, content, part in cases:
        with subtests.test(headers=headers):
            answer = area.get(credential, **headers)
            assert (answer.status_code, answer.headers.get("Content-Range")) == (status, part)
            assert content is None or answer.content == content
            if status in (200, 206):
                assert int(answer.headers["Content-Length"]) == len(content)
    head = area.ask(method="HEAD", headers={"Authorization": credential})
    assert (head.headers["Content-Length"], head.content) == (str(size), b"")
    assert head.headers["Accept-Ranges"] == "bytes"


def test_there_is_an_index_but_no_listing(area, subtests):
    (area.files / "deep" / "er").mkdir(parents=True)
    (area.files / "deep" / "index.html").write_text("<h1>Deep</h1>")
    (area.files / "a b & c.TXT").write_text("text")
    (area.files / "naïve.css").write_text("a {}")
    (area.files / "empty").touch()
    (area.files / "code.php").write_text("<?php echo 6 * 7;")
    credential = area.buy()
    cases = {
        "": (200, "You have access until"),
        "index.php": (200, "You have access until"),
        "index.php/": (200, "You have access until"),
        "index.php/deep/": (200, "<h1>Deep</h1>"),
        "index.php/deep": (302, ""),
        "index.php/deep/er/": (404, "Not found"),
        "index.php/film.mp4/": (404, "Not found"),
        "index.php/a%20b%20&%20c.TXT": (200, "text"),
        "index.php/na%C3%AFve.css": (200, "a {}"),
        "index.php/empty": (200, ""),
        "index.php/code.php": (200, "<?php echo 6 * 7;"),
    }
    for path, (status, text) in cases.items():
        with subtests.test(path):
            answer = area.get(credential, path)
            assert (answer.status_code, text in answer.text) == (status, True)
    assert area.get(credential, "index.php/deep").headers["Location"] == "deep/"
    assert area.get(credential, "index.php/a%20b%20&%20c.TXT").headers["Content-Type"] == (
        "text/plain; charset=utf-8"
    )
    (area.files / "index.html").write_text("<h1>Welcome</h1>")
    for path in ("", "index.php"):  # where the page's relative links would be wrong
        assert area.get(credential, path).headers["Location"] == "index.php/"
    assert "Welcome" in area.get(credential, "index.php/").text
    (area.gate / ".htaccess").touch()
    assert "Welcome" in area.get(credential, "").text
    assert area.ask("", headers=PAGE).status_code == 402


SECRET = "not for sale"
TRICKS = """
    ../members/film.mp4 index.php/../members/film.mp4 index.php/./film.mp4 index.php//film.mp4
    index.php/film.mp4/. index.php/film.mp4%00 index.php/film.mp4%0a index.php/%00film.mp4
    index.php/../secret.txt index.php/../../secret.txt
    index.php/%2e%2e/secret.txt index.php/..%2fsecret.txt index.php/%2e%2e%2f%2e%2e%2fsecret.txt
    index.php/..%5csecret.txt index.php/..%255csecret.txt index.php/%252e%252e%252fsecret.txt
    index.php/..;/secret.txt index.php/;/../secret.txt index.php/deep/../../secret.txt
    index.php/.hidden index.php/deep/.hidden index.php/.paid/members/key
    index.php/link.txt index.php/linked/secret.txt index.php/up/secret.txt index.php/loop
    index.php/FILM.MP4 index.php/film.mp4;x index.php/film.mp4%20 index.php/pipe index.php/deep.
    index.php//etc/passwd index.php/%2fetc%2fpasswd index.php/file:///etc/passwd
    index.php/php://filter/resource=film.mp4 index.php/film.mp4::$DATA
""".split()


def raw(url: str, target: str, headers: dict) -> tuple[int, str]:
    """The answer to a request whose target is sent unchanged."""
    host, _, port = url.split("/")[2].partition(":")
    headers = {"Host": host} | headers  # servers answer two of them with 400
    lines = [f"GET {target} HTTP/1.0", *(f"{name}: {value}" for name, value in headers.items())]
    with socket.create_connection((host, int(port or 80)), 10) as connection:
        connection.sendall(("\r\n".join(lines) + "\r\n\r\n").encode())
        with connection.makefile("rb") as answer:
            text = answer.read().decode(errors="replace")
    return int(text.split()[1]), text


def test_no_trick_opens_a_file_or_sells_one(area, subtests):
    (area.files / "deep").mkdir()
    for place in (area.files.parent, area.files.parent.parent, area.site):
        (place / "secret.txt").write_text(SECRET)
    for name in (".hidden", "deep/.hidden"):
        (area.files / name).write_text(SECRET)
    (area.files / "link.txt").symlink_to(area.site / "secret.txt")
    (area.files / "linked").symlink_to(area.site)
    (area.files / "up").symlink_to("..")
    (area.files / "loop").symlink_to("loop")
    os.mkfifo(area.files / "pipe")
    credential = area.buy()
    made = area.made
    path = area.url.removeprefix(area.url[: area.url.index("/", 8)])
    for trick in TRICKS:
        for headers in ({}, {"Authorization": credential}):
            with subtests.test(trick, paid=bool(headers)):
                status, text = raw(area.url, path + trick, headers)
                assert SECRET not in text and "root:" not in text and "\\x00" not in text
                assert (status, FILM[:4].decode() in text) in [(404, False), (400, False)]
    assert area.made == made
    (area.files / "inside").symlink_to("film.mp4")
    assert area.get(credential, "index.php/inside").content == FILM


def test_an_area_without_its_directory_or_settings_says_so_to_its_owner(area):
    area.files.rename(area.site / "elsewhere")
    assert area.ask().json()["reason"] == "folder"
    assert "private/paid/members" in area.ask(headers=PAGE).text
    wrong = [{}, [], {"price_sat": 0}, {"price_sat": -1}, {"seconds": 5}, {"address": "x"}]
    wrong += [
        {"shop": "ftp://x"},
        {"address": "a@b.onion"},
        {"price_sat": 10**30},
        {"seconds": "1d"},
    ]
    for changes in wrong:
        settings = changes and (area.settings | changes)
        (area.gate / "paidarea.json").write_text(json.dumps(settings))
        answer = area.ask()
        assert (answer.status_code, answer.json()["reason"]) == (503, "unset")


def test_an_empty_area_sells_nothing(area):
    (area.files / "film.mp4").unlink()
    (area.files / ".hidden").touch()
    assert area.ask("").status_code == 404
    page = area.ask("", headers=PAGE)
    assert page.status_code == 404 and "nobody pays for it" in page.text
    assert area.name not in area.wallet.asked


def test_a_full_space_sells_nothing(area):
    (area.site / "private" / ".paid").touch()
    answer = area.ask()
    assert (answer.status_code, answer.json()["reason"]) == (503, "full")
    assert area.name not in area.wallet.asked


# Root may write where nobody may, without this capability.
AS_EVERYBODY = ("setpriv", "--bounding-set=-dac_override") if os.geteuid() == 0 else ()


def test_buyers_are_let_in_even_if_nothing_can_be_written(wallet, tmp_path):
    php = Php(tmp_path, [], by=AS_EVERYBODY)
    try:
        area = Area(php, wallet)
        credential = area.buy()
        assert area.get(area.buy()).status_code == 200
        with requests.Session() as browser:
            browser.headers.update(PAGE)
            wallet.pay(invoice_on(browser.post(area.url)))
            look_again(area)
            places = [area.kept, area.kept / "programs", area.kept / "visits"]
            for place in places:
                place.chmod(0o500)
            assert area.ask().json()["reason"] == "full"
            assert area.get(credential).content == FILM
            assert browser.get(area.url + "index.php/film.mp4").content == FILM
            for place in places:
                place.chmod(0o700)
            assert browser.get(area.url + "index.php/film.mp4").content == FILM
        (visit,) = (area.kept / "visits").iterdir()
        assert json.loads(visit.read_text())["until"] > time.time()
        assert not COMPLAINTS.search(php.log.read_text())
    finally:
        php.stop()


def test_expired_visits_are_deleted(area):
    credential = area.buy()
    area.get(credential)
    (marker,) = (area.kept / "programs").iterdir()
    requests.post(area.url, headers=PAGE, allow_redirects=False)
    (visit,) = (area.kept / "visits").iterdir()
    gone = {
        "visits/x": json.dumps({"until": 1}),
        "programs/x": "0000000001 x",
        "visits/y": "broken",
    }
    gone["visits/z"] = json.dumps({"until": None, "expires": 1, "payable": 1})
    for name, text in gone.items():
        (area.kept / name).write_text(text)
        os.utime(area.kept / name, (1, 1))
    os.utime(marker, (1, 1))
    os.utime(visit, (1, 1))
    for _ in range(300):
        (area.kept / "recent").unlink(missing_ok=True)
        assert area.ask().status_code == 402
        if not any((area.kept / name).exists() for name in gone):
            break
    assert not any((area.kept / name).exists() for name in gone)
    assert marker.exists() and visit.exists()


def test_a_crowd_of_unpaid_visits_is_deleted_earlier(tmp_path):
    web, visits = tmp_path / "web" / "members", tmp_path / "private/.paid/members/visits"
    web.mkdir(parents=True)
    visits.mkdir(parents=True)
    late = {"until": None, "expires": 1, "payable": int(time.time()) + DAY}
    for number in range(2001):
        (visits / f"{number:064}").write_text(json.dumps(late))
        os.utime(visits / f"{number:064}", (1, 1))
    bought = late | {"until": int(time.time()) + DAY}
    (visits / f"{0:064}").write_text(json.dumps(bought))
    kept = []
    for extra in ("", "x"):
        (visits / f"{1:064}{extra}").write_text(json.dumps(late))
        os.utime(visits / f"{1:064}{extra}", (1, 1))
        run_php(web, "clear_away();")
        kept.append(len(list(visits.iterdir())))
    assert kept == [1, 2]


@pytest.mark.parametrize(
    "php", [["date.timezone=Pacific/Kiritimati"], ["date.timezone=America/Adak"]], indirect=True
)
def test_any_time_zone_of_the_server_works(area):
    told = area.ask().json()
    ends = bolt11.decode(told["invoice"])["created_at"] + area.wallet.expiry
    assert told["expires_at"] == time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(ends))
    now = int(time.time())
    own = ("services=members:0",)
    for seconds, status in ((-2, 402), (100, 200)):
        credential = area.mint(
            secrets.token_bytes(32), *own, f"members_valid_until={now + seconds}"
        )
        assert area.get(credential).status_code == status
    headers = {"If-Modified-Since": area.get(area.buy()).headers["Last-Modified"]}
    assert area.get(area.buy(), **headers).status_code == 304


# -- pictures ----------------------------------------------------------------------------------


def test_qr_codes_equal_those_of_another_library(tmp_path, subtests):
    lengths = [1, 2, 25, 26, 47, 134, 135, 400, 700, 1100, 1500, 2500, 4296]
    texts = [("LIGHTNING:LNBC" + "10U1P4X8GF2TVDW0S3JN" * 300)[:length] for length in lengths]
    code = """foreach (array_slice($argv, 1) as $text) {
        echo implode("/", array_map('implode', qr_rows($text))), "\n";
    }"""
    drawn = run_php(tmp_path, code, *texts).split()
    for text, rows in zip(texts, drawn, strict=True):
        with subtests.test(length=len(text)):
            qr = qrcode.QRCode(error_correction=qrcode.ERROR_CORRECT_L, border=0, mask_pattern=0)
            qr.add_data(text, optimize=0)
            expected = ["".join("01"[dark] for dark in row) for row in qr.get_matrix()]
            assert rows.split("/") == expected
    nothing = run_php(tmp_path, "var_dump(qr_rows('lower'), qr_rows(str_repeat('A', 4297)));")
    assert nothing.split() == ["NULL", "NULL"]


def test_the_picture_is_a_png_of_the_code(area):
    page = area.ask("", "POST", headers=PAGE)
    page = area.ask("", headers=PAGE, cookies=page.cookies)
    shown = re.search(r'src="data:image/png;base64,([^"]+)"', page.text)[1]
    qr = qrcode.QRCode(error_correction=qrcode.ERROR_CORRECT_L, border=4, mask_pattern=0)
    qr.add_data(f"LIGHTNING:{invoice_on(page).upper()}", optimize=0)
    rows = qr.get_matrix()
    parts = png_parts(base64.b64decode(shown))
    side = len(rows)
    assert parts[0] == (b"IHDR", struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0))
    assert [name for name, _ in parts] == [b"IHDR", b"IDAT", b"IEND"]
    lines = zlib.decompress(parts[1][1])
    width = 1 + (side + 7) // 8
    drawn = [lines[at + 1 : at + width] for at in range(0, len(lines), width)]
    bits = ["".join(f"{byte:08b}" for byte in line)[:side] for line in drawn]
    assert bits == ["".join("10"[dark] for dark in row) for row in rows]


def png_parts(png: bytes) -> list[tuple[bytes, bytes]]:
    """The picture's chunks, whose checksums must be right."""
    assert png.startswith(b"\x89PNG\r\n\x1a\n")
    parts, at = [], 8
    while at < len(png):
        (length,) = struct.unpack(">I", png[at : at + 4])
        part = png[at + 4 : at + 8 + length]
        assert png[at + 8 + length : at + 12 + length] == struct.pack(">I", zlib.crc32(part))
        parts.append((part[:4], part[4:]))
        at += 12 + length
    return parts


def test_the_page_has_a_policy_and_escapes_the_owners_text(area):
    area.set(title='<script>alert("1")</script>')
    page = area.ask("", headers=PAGE)
    assert "<script" not in page.text and "&lt;script&gt;" in page.text
    policy = page.headers["Content-Security-Policy"]
    (style,) = re.findall("<style>(.*?)</style>", page.text, re.S)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert f"style-src 'sha256-{digest}'" in policy and "script-src" not in policy
    assert page.headers["Vary"] == "Accept, Authorization, Cookie"
    area.set(title="x" * 9999, price_sat=1234567, seconds=7200, keeps_site_online=True)
    page = area.ask("", headers=PAGE).text
    assert "<b>1,234,567 sat</b> for <b>2 hours</b>" in page and "x" * 121 not in page
    assert "keeps alice.space.example online" in page


def test_the_file_is_small_enough_to_be_recognised():
    text = paidarea.GATE.text.decode()
    assert text.startswith("<?php\n// lightning-space paid area ")
    assert "UNSTAMPED" not in text and "SHARED" not in text
    assert len(text.encode()) < READ_MAX
    assert paidarea.GATE.is_ours(paidarea.GATE.text)
    assert not paidarea.GATE.is_ours(paidarea.GATE.text + b"\n")


# -- other versions of PHP ------------------------------------------------------------------------


def tour(area: Area) -> list:
    """The answers to many of the requests of the other tests."""
    answers = [area.ask(), area.ask(method="HEAD"), area.ask("", headers=PAGE)]
    credential = area.buy()
    for headers in ({}, {"Range": "bytes=5-9"}, {"Range": "bytes=-3"}, {"If-None-Match": "*"}):
        answers.append(area.get(credential, **headers))
    answers += [area.get(credential, path) for path in ("", "index.php/x", "index.php/..%2fx")]
    answers += [area.ask(headers=other_form(credential, kind)) for kind in FORMS]
    for bad in (credential[:-1], credential[:50], "L402 AgEE:" + "0" * 64, "L402 =:x"):
        answers.append(area.get(bad))
    for at in range(8, 200, 31):
        other = "A" if credential[at] != "A" else "B"
        answers.append(area.get(f"{credential[:at]}{other}{credential[at + 1 :]}"))
    for change in [*FAULTS.values(), {}]:
        if not any(map(callable, change.values())):
            area.play(**change)
            answers.append(area.ask())
    area.play(**FAULTS["refused"])
    answers.append(area.ask("", "POST", headers=PAGE))
    area.play()
    asked = area.ask("", "POST", headers=PAGE)
    page = area.ask("", headers=PAGE, cookies=asked.cookies)
    answers += [asked, page]
    area.wallet.pay(invoice_on(page))
    look = {"headers": PAGE, "cookies": asked.cookies}
    answers.append(eventually(lambda: (seen := area.ask(**look)).status_code == 200 and seen))
    for settings in ({"title": "<b>\n🐝\x00"}, {"seconds": 90 * 60}, {"address": None}):
        area.set(**settings)
        answers.append(area.ask("", headers=PAGE))
    heads = "Content-Security-Policy Cache-Control Content-Type Content-Range Vary".split()
    return [
        (each.status_code, same(each.text), *(each.headers.get(name) for name in heads))
        for each in answers
    ]


def same(text: str) -> str:
    """The text without parts that differ each time."""
    changing = r"lnbcrt[0-9a-z]{99,}|AgEE[^\"]+|base64,[^\"]+|\d\d:\d\d UTC|\d{4}-\d\d-[^\"]+"
    return re.sub(changing, "…", text)


@pytest.mark.parametrize("version, way", [("7-4", NEITHER), ("8-4", [])])
def test_other_versions_answer_like_debians(served, wallet, version, way, monkeypatch):
    limits = rb"PER_NETWORK_MAX = 20", b"PER_NETWORK_MAX = 200"
    monkeypatch.setattr(paidarea.GATE, "text", paidarea.GATE.text.replace(*limits))
    debians, other = served(way), served([version, *way])
    name = f"bob{version.replace('-', '')}"
    first = tour(Area(debians, wallet, name))
    wallet.play.clear()
    assert tour(Area(other, wallet, name)) == first
    for php in (debians, other):
        assert not COMPLAINTS.search(php.log.read_text())
