"""Answers of customers' sites are read within limits, and no further."""

import gzip
import ssl
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from lightningspace.outside import sites
from lightningspace.outside.sites import READ_MAX, Site, SiteError
from lightningspace.sandbox.certificate import self_signed
from tests.conftest import SOON_SECONDS


class Server(ThreadingHTTPServer):
    daemon_threads = True
    answer: bytes = b""
    part, seconds = 65536, 0.0
    asked = b""


class Handler(BaseHTTPRequestHandler):
    server: Server

    def handle(self):
        self.server.asked = self.connection.recv(65536)
        for at in range(0, len(self.server.answer), self.server.part):
            try:
                self.wfile.write(self.server.answer[at : at + self.server.part])
                time.sleep(self.server.seconds)
            except OSError:
                return


@pytest.fixture
def server():
    with Server(("127.0.0.1", 0), Handler) as running:
        threading.Thread(target=running.serve_forever, args=(0.02,), daemon=True).start()
        yield running
        running.shutdown()


@pytest.fixture
def site(server):
    return Site("alice.shop.test", server.server_address)


def test_the_target_is_sent_unchanged_to_the_named_server(server, site):
    challenge = b"WWW-Authenticate: LSAT a\r\nWWW-Authenticate: L402 b\r\n"
    server.answer = b"HTTP/1.1 402 Pay\r\n" + challenge + b"\r\n{}"
    target = "//a/../%2e%2e/..;/index.php/x"
    answer = site.get(target, Accept="text/html")
    assert (answer.status, answer.challenge, answer.facts) == (402, "LSAT a, L402 b", {})
    first, *headers = server.asked.decode().split("\r\n")
    assert first == f"GET {target} HTTP/1.1"
    assert "Host: alice.shop.test" in headers and "Accept: text/html" in headers


def test_no_redirect_is_followed(server, site):
    server.answer = b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\n\r\n"
    assert site.get("/").status == 302


HEAD = b"HTTP/1.1 200 OK\r\n"
NONSENSE = {
    "nothing": b"",
    "no HTTP": b"\x00" * 100,
    "half a head": HEAD,
    "a line without end": HEAD + b"X: " + b"x" * 200_000,
    "headers without end": HEAD + b"X: y\r\n" * 10_000,
    "a status that is none": b"HTTP/1.1 2000 OK\r\n\r\n",
    "a broken chunk": HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
    "less than was said": HEAD + b"Content-Length: 9999\r\n\r\nx",
    "what is not compressed": HEAD + b"Content-Encoding: gzip\r\n\r\nxxxx",
}


def test_nonsense_counts_as_no_answer(server, site, subtests):
    for kind, answer in NONSENSE.items():
        with subtests.test(kind):
            server.answer = answer
            try:
                answered = site.get("/")
            except SiteError:
                continue
            assert (answered.status, answered.facts) == (200, {}), kind


def test_only_the_beginning_of_an_endless_answer_is_read(server, site):
    server.answer = HEAD + b"\r\n" + b"x" * 50_000_000
    assert len(site.get("/").body) <= READ_MAX


def test_nothing_is_unpacked(server, site):
    packed = gzip.compress(b"x" * 10_000_000)
    server.answer = HEAD + b"Content-Encoding: gzip\r\n\r\n" + packed
    assert site.get("/").body == packed[:READ_MAX]


def test_a_slow_answer_is_cut_off(server, site, monkeypatch):
    monkeypatch.setattr(sites, "ANSWER_SECONDS", 0.3)
    server.answer, server.seconds = HEAD + b"X: " + b"x" * 65536, 0.1
    server.part = 100
    began = time.monotonic()
    with pytest.raises(SiteError):
        site.get("/")
    assert time.monotonic() - began < SOON_SECONDS


def test_an_unreachable_site_counts_as_no_answer():
    with pytest.raises(SiteError):
        Site("alice.shop.test", ("127.0.0.1", 1)).get("/")
    with pytest.raises(SiteError):
        Site("alice.shop.test", ("nowhere.invalid", 80)).get("/")


def test_a_certificate_must_be_the_sites(server, tmp_path):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(self_signed(tmp_path / "site.pem", "alice.shop.test"))
    server.socket = context.wrap_socket(server.socket, server_side=True)
    with pytest.raises(SiteError):
        Site("alice.shop.test", server.server_address, is_tls=True).get("/")
