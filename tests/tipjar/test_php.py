"""The tip jar's one file, served by PHP itself, with a shop that answers as a test wants."""

import base64
import hashlib
import json
import os
import re
import socket
import ssl
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from pathlib import Path

import pytest
import requests

from lightningspace import tipjar
from lightningspace.outside import lnurl
from lightningspace.sandbox.certificate import self_signed
from tests.conftest import ROOT, client_program, debian_program, eventually

ORDER = "0123456789abcdef" * 2
INVOICE = "lnbcrt10u1" + "p4x8gf2tvdw0s3jn54khce6mua7lqqzry9" * 8
SVG = '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 9 9"><path d="M0,0H9V9H0z"/></svg>'

# Some servers have no curl.
NO_CURL = ["disable_functions=curl_init"]
NO_FOPEN = ["allow_url_fopen=0"]
NEITHER = [*NO_CURL, *NO_FOPEN]
# PHP reads a program once, as on most servers, and again when it has changed.
OPCACHE = ["zend_extension=opcache", "opcache.enable_cli=1", "opcache.revalidate_freq=0"]
OPCACHE += ["opcache.file_update_protection=0"]
WAYS = pytest.mark.parametrize("php", [[], NEITHER], ids=["curl", "sockets"], indirect=True)
SECONDS_MAX = 8

NO_SENSE = "gave an answer that makes no sense"
NO_ANSWER = "does not answer right now"
COMPLAINTS = re.compile(r"Warning|Notice|Deprecated|Fatal|Parse error|Stack trace")


# -- the shop ----------------------------------------------------------------------------


def tip(**changes) -> dict:
    """A tip of 1,000 sat as the shop's API shows it."""
    return {
        "order": ORDER,
        "state": "unpaid",
        "amount_msat": 1000000,
        "message": None,
        "expires_at": "2026-11-21T22:45:00Z",
        "status_url": "https://evil.example/status",
        "page_url": "https://evil.example/page",
        "invoice": INVOICE,
        "qr_svg": SVG,
        "applied": False,
        "paid_until": None,
    } | changes


def says(body, status: int = 201, **headers: str):
    """An answer of the shop; `body` is text, or becomes JSON."""
    sent = (body if isinstance(body, str) else json.dumps(body)).encode()

    def answer(handler):
        handler.send_response(status)
        for name, value in headers.items():
            handler.send_header(name, value)
        handler.send_header("Content-Length", str(len(sent)))
        handler.end_headers()
        handler.wfile.write(sent)

    return answer


def redirects(status: int):
    def answer(handler):
        says(tip(), status, Location=f"{handler.path}/elsewhere")(handler)

    return answer


def hangs_up(handler):
    handler.close_connection = True


def drips_its_head(handler):
    handler.wfile.write(b"HTTP/1.1 201 Created\r\nX-Slow: ")
    drip(handler)


def drips_its_body(handler):
    handler.wfile.write(b"HTTP/1.1 201 Created\r\n\r\n ")
    drip(handler)


def drip(handler):
    """Send bytes at intervals that are each shorter than any timeout."""
    with pytest.raises(OSError):  # until the other end hangs up
        while True:
            time.sleep(0.2)
            handler.wfile.write(b" ")


class Shop(ThreadingHTTPServer):
    """Answers about each hosting as its test has set, and notes the requests."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Asked)
        self.plays, self.seen = {}, []

    def asked(self, username: str) -> list:
        return [each for each in self.seen if each["path"].split("/")[4] == username]


class Asked(BaseHTTPRequestHandler):
    def play(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        seen = {"method": self.command, "path": self.path, "body": body}
        self.server.seen.append(seen | {"headers": dict(self.headers)})
        self.server.plays[self.path.split("/")[4]](self)

    do_GET = do_POST = play

    def log_message(self, *args):
        pass


@pytest.fixture(scope="module")
def shop():
    with Shop() as server:
        serving = threading.Thread(target=server.serve_forever, args=(0.02,))
        serving.start()
        server.url = f"http://127.0.0.1:{server.server_port}"
        yield server
        server.shutdown()
        serving.join()


# -- PHP ---------------------------------------------------------------------------------


class Php:
    """A server with PHP that serves `root` and logs all complaints of PHP.

    `settings` are lines of php.ini; the first may be another version of PHP, such as "7-4". `by`
    is a command that starts the server.
    """

    def __init__(self, root: Path, settings: list[str], by: tuple[str, ...] = ()):
        self.root, self.log, self._port = root, root / "log", root / "port"
        shown = ["display_errors=1", "error_reporting=-1", "log_errors=1"]
        start = self._debian if not settings or "=" in settings[0] else self._other
        command, env = start([*settings, *shown])
        with self.log.open("a") as log, self._port.open("w") as port:
            self._process = subprocess.Popen([*by, *command], stdout=port, stderr=log, env=env)
        self.url = eventually(self._opened)

    def _debian(self, settings: list[str]):
        program = debian_program("php", "php-cli php-curl")
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        # Without this machine's php.ini files, which would load these extensions.
        loaded = ["extension=curl", *OPCACHE, *settings]
        told = [part for each in loaded for part in ("-d", each)]
        return [program, "-n", *told, "-S", f"127.0.0.1:{port}", "-t", self.root], {}

    def _other(self, settings: list[str]):
        modules = client_program("php-wasm") / "node_modules"
        server = ROOT / "tests" / "clients" / "php-wasm" / "server.cjs"
        version, *settings = settings
        # It runs too briefly to repay slower compilers, and most of its code never runs.
        quick = ["--liftoff-only", "--wasm-lazy-validation", "--no-opt"]
        command = ["node", *quick, server, version, self.root, *settings]
        return command, os.environ | {"NODE_PATH": str(modules)}

    def _opened(self) -> str | None:
        """The server's address, from PHP's log or from the other program's output."""
        assert self._process.poll() is None, self.log.read_text()
        at = re.search(r"http://[\d.:]+\) started", self.log.read_text())
        port = self._port.read_text().strip()
        return at[0].split(")")[0] if at else port and f"http://127.0.0.1:{port}"

    def stop(self):
        self._process.kill()
        self._process.wait()


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """A server with PHP and some settings, started once and shared."""
    started = {}

    def served(settings: list[str]) -> Php:
        if tuple(settings) not in started:
            started[tuple(settings)] = Php(tmp_path_factory.mktemp("php"), settings)
        return started[tuple(settings)]

    yield served
    for php in started.values():
        php.stop()


@pytest.fixture
def php(served, request):
    """A server with PHP, in whose log and pages PHP must not complain."""
    yield (running := served(getattr(request, "param", [])))
    assert not COMPLAINTS.search(running.log.read_text())


class Jar:
    """A hosting with a tip jar."""

    numbers = count()

    def __init__(self, php: Php, shop: Shop, username: str | None = None):
        self.username, self._shop = username or f"alice{next(self.numbers)}", shop
        self._directory = php.root / self.username
        self._directory.mkdir()
        (self._directory / "index.php").write_bytes(tipjar.JAR.text)
        self.url = f"{php.url}/{self.username}/"
        self.settings = {
            "shop": shop.url,
            "username": self.username,
            "site": "alice.space.example",
            "mode": "site",
            "title": "Keep my bees online",
            "text": "Every tip helps.",
            "amounts_sat": [100, 1000, 10000],
            "min_sat": 10,
            "max_sat": 1000000,
            "lightning_address": "alice@shop.example",
            "wallet_address": None,
            "qr": None,
            "mark": "0" * 64,
        }
        self.set()

    def set(self, **settings):
        self.write(json.dumps(self.settings | settings))

    def write(self, text: str | bytes | None):
        """Write the file of settings; None removes it."""
        settings = self._directory / "tipjar.json"
        if text is None:
            settings.unlink()
        else:
            settings.write_bytes(text if isinstance(text, bytes) else text.encode())

    def play(self, answer):
        self._shop.plays[self.username] = answer

    @property
    def asked(self) -> list:
        return self._shop.asked(self.username)

    def get(self, query: str = "", **kwargs) -> requests.Response:
        return self._checked(requests.get(self.url + query, timeout=30, **kwargs))

    def post(self, data=None, **kwargs) -> requests.Response:
        data = {"amount": "1000"} if data is None else data
        return self._checked(
            requests.post(self.url, data, allow_redirects=False, timeout=30, **kwargs)
        )

    def _checked(self, answer: requests.Response) -> requests.Response:
        assert answer.status_code in (200, 303)
        assert not COMPLAINTS.search(answer.text)
        assert not answer.cookies
        return answer


@pytest.fixture
def jar(php, shop):
    return Jar(php, shop)


def has_form(page: requests.Response) -> bool:
    return "<form" in page.text


def buttons(page: requests.Response) -> list[int]:
    return [int(sat) for sat in re.findall(r'name="amount" value="(\d+)"', page.text)]


def picture(page: requests.Response) -> str | None:
    """The QR code on the page, as a browser decodes its address."""
    shown = re.search(r'<img class="qr"[^>]* src="data:image/svg\+xml;base64,([^"]*)"', page.text)
    return base64.b64decode(shown[1]).decode() if shown else None


# -- giving a tip ------------------------------------------------------------------------


def test_the_form_is_shown_without_asking_the_shop(jar):
    page = jar.get()
    assert "<h1>Keep my bees online</h1>" in page.text
    assert buttons(page) == [100, 1000, 10000]
    assert "alice@shop.example" in page.text
    assert jar.asked == []


@pytest.mark.parametrize(
    "php",
    [[], NO_CURL, NO_FOPEN, NEITHER],
    ids="all no-curl no-fopen neither".split(),
    indirect=True,
)
def test_a_tip_is_asked_for_once_and_its_invoice_shown(jar):
    jar.play(says(tip()))
    given = jar.post({"amount": "1000", "message": 'Hi "you" <3\r\n🐝'})
    assert (given.status_code, given.headers["Location"]) == (303, f"?tip={ORDER}")

    jar.play(says(tip(), 200))
    page = jar.get(given.headers["Location"])
    assert "<h1>Tip 1,000 sat</h1>" in page.text
    assert f'href="lightning:{INVOICE}"' in page.text
    assert f"readonly>{INVOICE}</textarea>" in page.text
    assert picture(page) == SVG
    assert '<noscript><meta http-equiv="refresh"' in page.text
    assert "until 22:45 UTC" in page.text

    post, look = jar.asked
    assert json.loads(post["body"]) == {"amount_msat": 1000000, "message": 'Hi "you" <3\n🐝'}
    assert post["headers"].get("Content-Type") == "application/json"
    assert (post["method"], post["path"]) == ("POST", f"/api/v1/tips/{jar.username}")
    assert (look["method"], look["path"]) == ("GET", f"/api/v1/tips/{jar.username}/{ORDER}")


@WAYS
def test_nothing_of_the_visitor_reaches_the_shop(jar):
    jar.play(says(tip()))
    told = {"Cookie": "a=b", "X-Forwarded-For": "192.0.2.1", "User-Agent": "alice's browser"}
    jar.post(headers=told | {"Referer": "http://elsewhere.example/", "Accept-Language": "tlh"})
    (asked,) = jar.asked
    assert asked["headers"].keys() - {"Connection"} == {
        "Host",
        "Accept",
        "User-Agent",
        "Content-Type",
        "Content-Length",
    }
    assert asked["headers"]["User-Agent"] == "lightning-space tip jar"
    assert json.loads(asked["body"]) == {"amount_msat": 1000000}


STATES = [
    ({"state": "checking"}, "can no longer be paid", True),
    ({"state": "paid"}, "1,000 sat received. The tip takes effect in a moment.", True),
    ({"state": "paid", "applied": True}, "received. It keeps this site online.", False),
    (
        {"state": "paid", "applied": True, "paid_until": "2027-03-03T10:00:00Z"},
        "alice.space.example is paid until 3 March 2027 now.",
        False,
    ),
    ({"state": "paid", "applied": True, "paid_until": "2027-99-03T10:00:00Z"}, "It keeps", False),
    ({"state": "expired"}, "nothing was charged", False),
    ({"state": "late"}, "could take no more tips", False),
]


@pytest.mark.parametrize("state, says_so, waits", STATES)
def test_the_page_says_the_state_of_a_tip(jar, state, says_so, waits):
    jar.play(says(tip(**state), 200))
    page = jar.get(f"?tip={ORDER}")
    assert says_so in page.text
    assert INVOICE not in page.text
    assert ("data-waits" in page.text, "http-equiv" in page.text) == (waits, waits)


@pytest.mark.parametrize(
    "typed, msat",
    [
        ("250", 250000),
        (" 250 ", 250000),
        ("0250", 250000),
        ("1,000", 1000000),
        ("1.000", 1000000),
        ("1'000 000", 1000000000),
        ("10", 10000),
    ],
)
@pytest.mark.parametrize("button", ["own", ""])
def test_an_own_amount_is_accepted_as_people_write_it(jar, typed, msat, button):
    jar.play(says(tip()))
    jar.post({"amount": button, "own": typed})
    assert json.loads(jar.asked[0]["body"])["amount_msat"] == msat


@pytest.mark.parametrize(
    "typed",
    ["", "9", "1000001", "0", "-100", "1.5", "1e3", "0x64", "99999999999999999999", "abc", "١٠٠"],
)
def test_an_amount_out_of_bounds_is_refused_before_the_shop_is_asked(jar, typed):
    page = jar.post({"amount": "own", "own": typed, "message": "Kept <b>"})
    assert "one between 10 and 1,000,000 sat" in page.text
    assert "Kept &lt;b&gt;</textarea>" in page.text
    assert jar.post({"amount": typed}).status_code == 200
    assert jar.asked == []


def test_a_message_may_have_140_characters_of_any_script(jar):
    jar.play(says(tip()))
    assert jar.post({"amount": "1000", "message": "🐝" * 140}).status_code == 303
    page = jar.post({"amount": "1000", "message": "🐝" * 141})
    assert "shorten the message to 140 characters" in page.text
    assert len(jar.asked) == 1


FORM = {"Content-Type": "application/x-www-form-urlencoded"}
STRANGE = [
    b"amount[]=1000",
    b"amount[x][y]=1000&own[]=1&message[]=2",
    b"amount=10%000&own=%00",
    b"amount=own&own=10%0000%0a",
    b"amount=1000&message=%ff%fe",
    b"amount=1000&message=" + b"a" * 1000000,
    b"amount=" + b"9" * 1000000,
    b"amount=own&own=" + b"1,000" * 200000,
    b"\x00" * 1000,
    b"",
]


@pytest.mark.parametrize("body", STRANGE)
def test_input_that_no_form_sends_is_harmless(jar, body):
    page = jar.post(body, headers=FORM)
    assert has_form(page)
    assert "error" in page.text
    assert len(page.text) < 20000
    assert jar.asked == []


def test_text_that_is_not_utf8_is_shown_with_replacements(jar):
    page = jar.post(b"amount=1000&message=Kept%ff%3cb%3e", headers=FORM)
    assert "Kept\ufffd&lt;b&gt;</textarea>" in page.text


def test_phps_warning_about_too_many_fields_is_not_shown(served, shop):
    jar = Jar(served(["output_buffering=4096"]), shop)
    page = jar.post("&".join(f"a{number}=" for number in range(20000)), headers=FORM)
    assert has_form(page)
    assert "Content-Security-Policy" in page.headers


def test_a_message_loses_its_control_characters(jar):
    jar.play(says(tip()))
    jar.post({"amount": "1000", "message": " a\x00b\x1b[1m\x7f\u0085 "})
    assert json.loads(jar.asked[0]["body"])["message"] == "ab[1m"


@pytest.mark.parametrize(
    "query",
    [
        "?tip=",
        "?tip=x",
        "?tip[]=x",
        f"?tip={ORDER}0",
        f"?tip={ORDER.upper()}",
        f"?tip={ORDER}%0a",
        "?tip=../../orders",
        "?tip=%00%ff",
    ],
)
def test_malformed_orders_are_never_asked_for(jar, query):
    page = jar.get(query)
    assert "There is no such tip" in page.text
    assert has_form(page)
    assert jar.asked == []


# -- a shop that cannot, will not or lies ------------------------------------------------


def bolt11(amount: str) -> str:
    return INVOICE.replace("10u", amount, 1)


LIES = {
    "another amount": tip(amount_msat=1100000, invoice=bolt11("11u")),
    "two amounts": tip(amount_msat=1100000),
    "an invoice over more": tip(invoice=bolt11("100u")),
    "an invoice over a tenth more": tip(invoice=bolt11("11u")),
    "an invoice over less": tip(invoice=bolt11("1u")),
    "an invoice over bitcoins": tip(invoice=bolt11("10")),
    "a zero in front": tip(invoice=bolt11("010u")),
    "an invoice over nothing": tip(invoice=bolt11("0u")),
    "an invoice over any amount": tip(invoice=bolt11("")),
    "an unknown multiplier": tip(invoice=bolt11("10k")),
    "an amount beyond all bounds": tip(invoice=bolt11("9" * 30)),
    "another network's invoice": tip(invoice=INVOICE.replace("lnbcrt", "lnxy")),
    "capitals": tip(invoice=INVOICE.upper()),
    "HTML in the invoice": tip(invoice=INVOICE + '"><script>'),
    "a line more": tip(invoice=INVOICE + "\n"),
    "an endless invoice": tip(invoice=INVOICE + "q" * 5000),
    "a list as invoice": tip(invoice=[INVOICE]),
    "no invoice": tip(invoice=None),
    "an offer": tip(invoice="lno1" + "q" * 200),
    "a paid one": tip(state="paid"),
    "an unknown state": tip(state="<b>"),
    "a list as state": tip(state=["unpaid"]),
    "an order that is an address": tip(order="//evil.example/"),
    "an order with a line more": tip(order=ORDER + "\r\nSet-Cookie: a=b"),
    "a number as order": tip(order=1),
    "text as amount": tip(amount_msat="1000000"),
    "a part of an amount": tip(amount_msat=1000000.0),
    "an endless amount": tip(amount_msat=10**40),
    "nothing in it": {},
    "a list": [],
    "text": "unpaid",
    "a number": 1,
    "null": None,
}


@pytest.mark.parametrize("answer", LIES.values(), ids=LIES.keys())
def test_a_lie_of_the_shop_shows_no_invoice(jar, answer):
    jar.play(says(json.dumps(answer)))
    page = jar.post()
    assert NO_SENSE in page.text
    assert "alice@shop.example" in page.text


@pytest.mark.parametrize(
    "changes",
    [{"order": "f" * 32}, {"invoice": bolt11("11u")}, {"amount_msat": None}, {"state": 1}],
)
def test_a_lie_about_a_tip_shows_no_invoice_and_looks_again(jar, changes):
    jar.play(says(tip(**changes), 200))
    page = jar.get(f"?tip={ORDER}")
    assert NO_SENSE in page.text
    assert "lnbcrt" not in page.text
    assert 'data-state="trouble" data-waits="yes"' in page.text


NONSENSE = {
    "HTML": says("<h1>Hello</h1><script>alert(1)</script>"),
    "JSON that is cut off": says(json.dumps(tip())[:-1]),
    "not UTF-8": lambda handler: handler.wfile.write(b'HTTP/1.0 201 OK\r\n\r\n{"order": "\xff"}'),
    "nothing": says(""),
    "too deep": says("[" * 100000),
    "too much": says(tip(qr_svg=" " * 1000000)),
    "too much of nothing": says(json.dumps(tip()) + " " * 1000000),
    "without end": lambda handler: pour(handler),
    "an endless head": lambda handler: pour(handler, b"HTTP/1.1 201 Created\r\nX: "),
    "a redirect": redirects(302),
    "a redirect that keeps the method": redirects(308),
    "success of another kind": says(tip(), 200),
    "success without a body": says("", 204),
    "a mistake": says("<h1>Internal Server Error</h1>", 500),
    "not allowed": says({"code": "unauthorized", "detail": "<b>"}, 401),
}


def pour(handler, head: bytes = b"HTTP/1.1 201 Created\r\n\r\n"):
    handler.wfile.write(head)
    with pytest.raises(OSError):  # until the other end hangs up
        while True:
            handler.wfile.write(b"x" * 65536)


@WAYS
@pytest.mark.parametrize("answer", NONSENSE.values(), ids=NONSENSE.keys())
def test_nonsense_of_the_shop_gives_a_friendly_sentence(jar, answer):
    jar.play(answer)
    page = jar.post({"amount": "1000", "message": "Kept"})
    assert NO_SENSE in page.text or NO_ANSWER in page.text
    assert "alice@shop.example" in page.text
    assert "Kept</textarea>" in page.text
    assert "alert(" not in page.text
    assert len(jar.asked) == 1


PROBLEMS = {
    400: "does not take this amount or this message",
    404: "takes no tips right now",
    409: "its hosting is about to end",
    429: "Too many tips",
    503: "cannot make an invoice right now",
}


@WAYS
@pytest.mark.parametrize("status", PROBLEMS)
def test_refusals_of_the_shop_are_told_in_our_words(jar, status):
    problem = {"status": status, "code": "<i>", "detail": "<b>raw</b>", "errors": {"a": ["<u>"]}}
    jar.play(says(problem, status, **{"Content-Type": "application/problem+json"}))
    page = jar.post()
    assert PROBLEMS[status] in page.text
    assert "raw" not in page.text
    assert ("alice@shop.example</a></p>" in page.text) == (status not in (400, 409))


@pytest.mark.parametrize("status, waits", [(429, True), (503, True), (409, False), (404, False)])
def test_a_tip_that_the_shop_does_not_show_now_is_looked_at_again(jar, status, waits):
    jar.play(says({}, status))
    page = jar.get(f"?tip={ORDER}")
    assert ("data-waits" in page.text) == waits
    assert has_form(page) == (not waits)
    assert ("There is no such tip" in page.text) == (status == 404)


@WAYS
def test_without_the_shop_the_lightning_address_is_shown(jar):
    jar.play(hangs_up)
    assert NO_ANSWER in jar.post().text
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        jar.set(shop=f"http://127.0.0.1:{nobody.getsockname()[1]}")
        for page in (jar.post(), jar.get(f"?tip={ORDER}")):
            assert NO_ANSWER in page.text
            assert "alice@shop.example</a></p>" in page.text


def test_a_slow_shop_holds_a_visitor_for_eight_seconds_at_most(shop, tmp_path):
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        no_handshake = f"https://127.0.0.1:{silent.getsockname()[1]}"
        slow = [(drips_its_head, None), (drips_its_body, None), (None, no_handshake)]
        cases = [(flags, *each) for flags in ([], NEITHER) for each in slow]

        def ask(number: int) -> float:
            flags, answer, address = cases[number]
            (root := tmp_path / str(number)).mkdir()
            php = Php(root, flags)
            jar = Jar(php, shop)
            jar.set(shop=address or shop.url)
            jar.play(answer)
            began = time.monotonic()
            try:
                page = jar.post()
            finally:
                php.stop()
            assert NO_ANSWER in page.text
            assert not COMPLAINTS.search(php.log.read_text())
            return time.monotonic() - began

        with ThreadPoolExecutor(len(cases)) as visitors:
            waited = list(visitors.map(ask, range(len(cases))))
    assert all(SECONDS_MAX - 1 < seconds < SECONDS_MAX + 2 for seconds in waited), waited


@pytest.fixture(scope="module")
def tls_shop(tmp_path_factory):
    """A shop with a certificate that nobody trusts by default."""
    certificate = self_signed(tmp_path_factory.mktemp("tls") / "shop.pem", "shop.example")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    with Shop() as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        serving = threading.Thread(target=server.serve_forever, args=(0.02,))
        serving.start()
        server.url, server.certificate = f"https://127.0.0.1:{server.server_port}", certificate
        yield server
        server.shutdown()
        serving.join()


@pytest.mark.parametrize("flags", [[], NEITHER], ids=["curl", "sockets"])
def test_a_certificate_must_be_good(served, tls_shop, flags):
    jar = Jar(served(flags), tls_shop)
    jar.play(says(tip()))
    assert NO_ANSWER in jar.post().text
    assert jar.asked == []

    trusted = [f"{name}={tls_shop.certificate}" for name in ("curl.cainfo", "openssl.cafile")]
    trusting = served([*flags, *trusted])
    jar = Jar(trusting, tls_shop)
    jar.play(says(tip()))
    assert jar.post().status_code == 303
    # The certificate is for another name.
    jar.set(shop=tls_shop.url.replace("127.0.0.1", "localhost"))
    assert NO_ANSWER in jar.post().text
    assert len(jar.asked) == 1


BARE = ["disable_functions=curl_init,stream_socket_client"]


@pytest.mark.parametrize("php", [BARE], ids=["bare"], indirect=True)
def test_the_page_says_what_php_lacks_and_still_how_to_pay(jar):
    page = jar.get()
    assert "PHP has neither curl" in page.text
    assert "alice@shop.example" in page.text
    assert not has_form(page)
    assert "PHP has neither curl" in jar.post().text
    jar.set(mode="wallet", wallet_address="me@wallet.example")
    assert "neither" not in jar.get().text


# -- pictures, headers, script ------------------------------------------------------------


def test_a_picture_with_a_script_is_shown_as_an_image_alone(jar):
    evil = SVG.replace("<path", '<script>alert(1)</script><path onload="alert(2)"')
    jar.play(says(tip(qr_svg=evil), 200))
    page = jar.get(f"?tip={ORDER}")
    assert picture(page) == evil
    assert "alert(" not in page.text


@pytest.mark.parametrize(
    "svg", [None, 1, [SVG], "", "<html>" + SVG, " " + SVG, '"><script>', SVG + " " * 140000]
)
def test_a_bad_picture_is_left_out(jar, svg):
    jar.play(says(tip(qr_svg=svg), 200))
    page = jar.get(f"?tip={ORDER}")
    assert picture(page) is None
    assert f'href="lightning:{INVOICE}"' in page.text


def test_the_policy_allows_this_style_and_script_and_nothing_else(jar):
    jar.play(says(tip()))
    for answer in (jar.get(), jar.post()):
        rules = dict(
            rule.strip().split(" ", 1)
            for rule in answer.headers["Content-Security-Policy"].split(";")
        )
        assert (rules["default-src"], rules["img-src"]) == ("'none'", "data:")
        assert (rules["form-action"], rules["base-uri"]) == ("'self'", "'none'")
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["Referrer-Policy"] == "no-referrer"
        assert answer.headers["Cache-Control"] == "no-store"
        assert "X-Powered-By" not in answer.headers
    page = jar.get().text
    for kind in ("style", "script"):
        (inside,) = re.findall(f"<{kind}>(.*?)</{kind}>", page, re.S)
        digest = base64.b64encode(hashlib.sha256(inside.encode()).digest()).decode()
        assert rules[f"{kind}-src"] == f"'sha256-{digest}'"
    assert not re.search(r"""\s(style|on\w+)=["']""", page)


# -- settings ------------------------------------------------------------------------------


BROKEN = [
    None,
    "",
    "{",
    "null",
    "[]",
    "1",
    '"shop"',
    "[" * 1000,
    b"\xff\xfe",
    b"\x00",
    "{}",
    " " * 300000,
]


@pytest.mark.parametrize("text", BROKEN)
def test_unreadable_settings_leave_a_page_that_says_so(jar, text):
    jar.write(text)
    for page in (jar.get(), jar.post(), jar.get(f"?tip={ORDER}")):
        assert "tipjar.json beside index.php is missing" in page.text
        assert "Keep this site online" in page.text
        assert not has_form(page)


WRONG = [
    ({"title": None}, [100, 1000, 10000]),
    ({"title": ["a"], "text": {"a": 1}, "site": 5, "mode": "<b>"}, [100, 1000, 10000]),
    ({"amounts_sat": None}, [100, 1000, 10000]),
    ({"amounts_sat": "1000"}, [100, 1000, 10000]),
    ({"amounts_sat": [0, -5, "x", None, [], 1.5, 10**30, True]}, [100, 1000, 10000]),
    ({"amounts_sat": [5, 21, 21, "42", 2000000]}, [21, 42]),
    ({"amounts_sat": list(range(100, 5000))}, [100, 101, 102, 103, 104, 105]),
    ({"amounts_sat": [5], "min_sat": 20000}, [20000]),
    ({"min_sat": 500, "max_sat": 100}, [100, 1000, 10000]),
    ({"min_sat": -1, "max_sat": 10**30}, [100, 1000, 10000]),
    ({"min_sat": "<b>", "max_sat": []}, [100, 1000, 10000]),
    ({"mode": "wallet", "wallet_address": "nobody"}, [100, 1000, 10000]),
    ({"mode": ["wallet"], "wallet_address": "me@wallet.example"}, [100, 1000, 10000]),
    ({"qr": 1, "lightning_address": 2, "more": {"a": [[[[[1]]]]]}}, [100, 1000, 10000]),
]


@pytest.mark.parametrize("settings, seen", WRONG)
def test_a_wrong_setting_alone_falls_back_to_its_default(jar, settings, seen):
    jar.set(**settings)
    page = jar.get()
    assert has_form(page)
    assert buttons(page) == seen
    jar.play(says(tip(amount_msat=20000000, invoice=bolt11("200u"))))
    assert jar.post({"amount": "20000"}).status_code == 303


@pytest.mark.parametrize(
    "settings",
    [
        {"shop": "ftp://shop.example"},
        {"shop": "http://shop.example"},
        {"shop": "javascript:alert(1)"},
        {"shop": "//shop.example"},
        {"shop": "https://user:password@shop.example"},
        {"shop": "https://shop.example/<b>"},
        {"shop": "https://shop.example\r\nX: y"},
        {"shop": "https://127.0.0.1@evil.example"},
        {"shop": "file:///etc/passwd"},
        {"shop": ["https://shop.example"]},
        {"username": "../../evil"},
        {"username": "alice\r\n"},
        {"username": ""},
        {"username": 7},
    ],
)
def test_without_a_valid_shop_the_lightning_address_is_still_shown(jar, settings):
    jar.set(**settings)
    page = jar.get()
    assert not has_form(page)
    assert "alice@shop.example</a></p>" in page.text
    assert "does not know its shop" in jar.post().text
    assert jar.asked == []


def test_texts_are_text_and_keep_their_lines(jar):
    evil = "</title><script>alert(1)</script>\"'&\x00\u202e"
    jar.set(title=evil, text=f"First\nSecond {evil}", site="<b>")
    page = jar.get().text
    assert "<script>alert" not in page
    assert page.count("&lt;script&gt;alert(1)") == 3
    assert "First<br />\nSecond" in page
    jar.set(title="x" * 100000, text="🐝" * 5000)
    page = jar.get().text
    assert "x" * 120 + "…" in page
    assert len(page) < 20000


def test_settings_edited_by_hand_may_have_a_byte_order_mark_and_another_character_set(jar):
    text = json.dumps(jar.settings | {"title": "BIENE"})
    jar.write(b"\xef\xbb\xbf" + text.encode())
    assert "<h1>BIENE</h1>" in jar.get().text
    jar.write(text.replace("BIENE", "Bär").encode("latin-1"))
    assert "<h1>B\ufffdr</h1>" in jar.get().text


# -- the owner's wallet ---------------------------------------------------------------------

WALLET = "Me.and-you+1@wallet.example"


def qr_for(address: str) -> dict:
    return {"of": lnurl.encode(lnurl.url_of_address(address)), "svg": SVG}


def test_tips_to_the_owners_wallet_need_no_shop(jar):
    jar.set(mode="wallet", wallet_address=WALLET, qr=qr_for(WALLET.lower()), title=None)
    for page in (jar.get(), jar.post()):
        assert "<h1>Leave a tip</h1>" in page.text
        assert f'value="{WALLET.lower()}"' in page.text
        assert f'href="lightning:{qr_for(WALLET.lower())["of"]}"' in page.text
        assert picture(page) == SVG
        assert not has_form(page)
    assert jar.asked == []


@pytest.mark.parametrize(
    "qr", [None, 5, [], {"of": 1, "svg": SVG}, qr_for("bob@wallet.example"), {"svg": SVG}]
)
def test_a_qr_code_of_another_address_is_not_shown(jar, qr):
    jar.set(mode="wallet", wallet_address=WALLET, qr=qr)
    page = jar.get()
    assert picture(page) is None
    assert qr_for(WALLET.lower())["of"] in page.text


@pytest.mark.parametrize(
    "address",
    [
        *("me", "@wallet.example", "me@", "me@localhost", "me@wallet", "me@1.2.3.4", "a b@c.de"),
        *(
            "me@wallet.example:443",
            "me@wallet.example/x",
            "me@-a.example",
            "me@a..example",
            "é@a.de",
        ),
        *(
            "me@you@wallet.example",
            "<b>@a.de",
            "me@a.de\nX",
            f"{'a' * 65}@a.de",
            f"a@{'a.' * 130}de",
        ),
        *(None, 5, [WALLET], {"a": WALLET}),
    ],
)
def test_without_a_valid_wallet_address_tips_go_to_the_site(jar, address):
    jar.set(mode="wallet", wallet_address=address)
    assert has_form(jar.get())


@pytest.mark.parametrize(
    "address, at, asks",
    [
        ("alice@shop.example", "https://shop.example", "https://shop.example"),
        ("alice@elsewhere.example", "https://shop.example", "https://elsewhere.example"),
        ("alice@127.0.0.1:5000", "http://127.0.0.1:5000", "http://127.0.0.1:5000"),
        ("alice@localhost", "http://localhost", "http://localhost"),
        ("alice@abcdef.onion", "https://shop.example", "http://abcdef.onion"),
        ("alice@127.0.0.1:5000", "https://shop.example", None),
        ("alice@shop.example:5000", "https://shop.example", None),
    ],
)
def test_the_shops_address_leads_to_the_shop(jar, address, at, asks):
    jar.set(lightning_address=address, shop=at)
    found = re.findall(r'href="lightning:([^"]*)"', jar.get().text)
    assert found == ([lnurl.encode(f"{asks}/.well-known/lnurlp/alice")] if asks else [])


# -- other versions of PHP ---------------------------------------------------------------------


def tour(jar: Jar) -> list:
    """The answers to the requests of the other tests: status, policy, and target."""
    answers = [jar.get(), jar.get("?tip[]=x")]
    answers += [jar.post(body, headers=FORM) for body in STRANGE]
    for answer in [*map(says, LIES.values()), *NONSENSE.values(), hangs_up]:
        jar.play(answer)
        answers.append(jar.post())
    for status in PROBLEMS:
        jar.play(says({}, status))
        answers += [jar.post(), jar.get(f"?tip={ORDER}")]
    jar.play(says(tip()))
    answers.append(jar.post({"amount": "own", "own": "1,000", "message": "🐝\r\n<b>"}))
    for state, *_ in [({},), *STATES]:
        jar.play(says(tip(**state), 200))
        answers.append(jar.get(f"?tip={ORDER}"))
    for settings, _ in WRONG:
        jar.set(**settings)
        answers.append(jar.get())
    for mode in ("site", "wallet"):
        jar.set(mode=mode, wallet_address=WALLET, qr=qr_for(WALLET.lower()), text="<b>\n🐝\x00")
        answers.append(jar.get())
    for text in BROKEN:
        jar.set()
        jar.write(text)
        answers.append(jar.get())
    heads = "Location", "Content-Security-Policy", "Cache-Control", "Content-Type"
    return [
        (each.status_code, each.text, *(each.headers.get(name) for name in heads))
        for each in answers
    ]


def complains(php: Php) -> bool:
    """Whether PHP complains of a page that has a fault."""
    (directory := php.root / "wrong").mkdir(exist_ok=True)
    page = "<?php ini_set('display_errors', '0'); echo 'Hello', $nobody;"
    (directory / "index.php").write_text(page)
    assert requests.get(f"{php.url}/wrong/", timeout=30).text == "Hello"
    log = php.log.read_text()
    php.log.write_text("")
    return COMPLAINTS.search(log) is not None


@pytest.mark.parametrize("version, way", [("7-4", NEITHER), ("8-4", [])])
def test_other_versions_of_php_answer_like_debians_without_complaints(served, shop, version, way):
    debians, other = served(way), served([version, *way])
    username = f"alice{version.replace('-', '')}{len(way)}"
    first = tour(Jar(debians, shop, username))
    assert tour(Jar(other, shop, username)) == first
    for php in (debians, other):
        assert not COMPLAINTS.search(php.log.read_text())
        assert complains(php)


# -- the file --------------------------------------------------------------------------------


def test_the_file_is_small_and_whole():
    text = tipjar.JAR.text.decode()
    assert text.startswith("<?php\n// lightning-space tip jar ")
    assert "UNSTAMPED" not in text and "SHARED" not in text
    assert len(text.encode()) < 48 * 1024
    assert max(map(len, text.splitlines())) < 300
