"""Requests to hosts of Lightning Addresses, and which of their answers are believed."""

import hashlib
import json
import ssl
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from lightningspace.outside import lnurl_pay
from lightningspace.outside.dns import Resolver
from lightningspace.outside.lnurl_pay import NoInvoice, Payees, is_public
from lightningspace.sandbox.certificate import self_signed

HOST, ADDRESS = "wallet.example", "alice@wallet.example"
METADATA = '[["text/plain", "räksmörgås"]]'


class Wallet(ThreadingHTTPServer):
    """The host of a Lightning Address: `answers` by path, which are sent as they are or as JSON."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.port = self.server_address[1]
        self.asked: list[str] = []
        self.answers: dict[str, object] = {}

    def takes(self, **facts) -> None:
        told = {"tag": "payRequest", "minSendable": 1000, "maxSendable": 10**9}
        told |= {"metadata": METADATA, "callback": f"https://{HOST}:{self.port}/pay?for=a%26b"}
        self.answers = {"/.well-known/lnurlp/alice": told | facts, "/pay": {"pr": "lnbcrt1x"}}


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.asked.append(self.path)
        answer = self.server.answers.get(self.path.partition("?")[0])
        self.send_response(302 if answer is None else 200)
        self.send_header("Location", "/.well-known/lnurlp/alice")
        self.end_headers()
        body = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
        self.wfile.write(body)

    def log_message(self, *arguments):
        pass


@pytest.fixture
def at_wallet(tmp_path, monkeypatch):
    """A wallet's host whose certificate the machine trusts."""
    path = self_signed(tmp_path / "wallet.pem", HOST)
    monkeypatch.setenv("SSL_CERT_FILE", str(path))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    with Wallet() as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        server.takes()
        yield server
        server.shutdown()


@pytest.fixture
def payees(at_wallet, dns):
    dns.publish(HOST, "A", "127.0.0.1")
    return Payees(Resolver((dns.address,)), at_wallet.port, may_ask=lambda address: True)


def test_a_host_is_asked_for_an_invoice_of_exactly_the_amount(at_wallet, payees):
    told_of = hashlib.sha256(METADATA.encode()).hexdigest()
    assert payees.invoice(ADDRESS, 21_001) == ("lnbcrt1x", told_of)
    assert at_wallet.asked == ["/.well-known/lnurlp/alice", "/pay?for=a%26b&amount=21001"]


def test_bad_answers_of_a_host_are_not_believed(at_wallet, payees, subtests):
    elsewhere = [
        *("http://wallet.example/pay", "https://127.0.0.1/", "https://wallet.example:22/pay"),
        *("https://wallet.example@10.0.0.1/", "https://[::1]/", "file:///etc/passwd", 7, None, ""),
        *("https://wallet.example/a b", "https://wallet.example/\r\nX: y", "https://w.example:x/"),
        *("https://wallet.example/" + "x" * 3000, "https://nowhere.example/pay"),
    ]
    cases = [
        *({"callback": each} for each in elsewhere),
        *({"tag": "withdrawRequest"}, {"metadata": None}, {"metadata": 7}),
        *(
            {"minSendable": 2001},
            {"maxSendable": 1999},
            {"minSendable": "1"},
            {"maxSendable": True},
        ),
    ]
    for facts in cases:
        with subtests.test(str(facts)[:60]):
            at_wallet.takes(**facts)
            with pytest.raises(NoInvoice):
                payees.invoice(ADDRESS, 2000)
    for path in ("/.well-known/lnurlp/alice", "/pay"):
        for body in (
            None,
            b"",
            b"[]",
            b"\xff",
            b"[" * 100_000,
            b'{"pr": "' + b"x" * 10**7,
            {"pr": 1},
        ):
            with subtests.test(path, body=str(body)[:20]):
                at_wallet.takes()
                at_wallet.answers[path] = body
                with pytest.raises(NoInvoice):
                    payees.invoice(ADDRESS, 2000)


def test_a_host_without_a_certificate_of_its_name_is_not_asked(at_wallet, payees, dns):
    dns.publish("other.example", "A", "127.0.0.1")
    with pytest.raises(NoInvoice, match="does not answer"):
        payees.invoice("alice@other.example", 2000)
    assert at_wallet.asked == []


def test_hosts_in_our_own_network_are_not_asked(at_wallet, dns):
    resolver = Resolver((dns.address,))
    dns.publish(HOST, "A", "127.0.0.1", "93.184.216.34")
    for host in (HOST, "nowhere.example"):
        with pytest.raises(NoInvoice, match="no public address"):
            Payees(resolver, at_wallet.port).invoice(f"alice@{host}", 2000)
    assert at_wallet.asked == []
    private = """127.0.0.1 10.1.2.3 172.16.0.1 192.168.1.1 169.254.169.254 100.64.0.1 0.0.0.0
        224.0.0.1 255.255.255.255 192.0.2.1 ::1 :: fe80::1 fd00::1 ff02::1 ::ffff:127.0.0.1
        ::ffff:93.184.216.34 64:ff9b::7f00:1 64:ff9b:1::1 2002:7f00:1:: 2001:0:1::1 2001:db8::1"""
    assert [each for each in private.split() if is_public(each)] == []
    assert is_public("93.184.216.34") and is_public("2606:2800:220:1:248:1893:25c8:1946")
    assert lnurl_pay.HTTPS_PORT == 443
