"""The shop behind gunicorn, as in production: headers, limits, logs."""

import re
import socket
import subprocess
import sys
from pathlib import Path
from urllib.parse import quote

import pytest
import requests

from lightningspace.base import logs
from lightningspace.outside import l402
from lightningspace.visitors import authorization
from tests.base.test_logs import CREDENTIAL, PREIMAGE, TOKEN, assert_says_nothing
from tests.conftest import eventually, with_settings, work
from tests.programs import Program

ROOT = Path(__file__).parents[2]


GUNICORN = ("gunicorn", "wsgi:app", "--threads", "2")


@pytest.fixture
def serve(this_shop, env, tmp_path):
    """Start the shop behind gunicorn with its access log; gives a function for its output."""
    programs = []

    def serve(address):
        host = ":".join(map(str, address)) if isinstance(address, tuple) else f"unix:{address}"
        command = [*GUNICORN, "--bind", host, "--access-logfile", "-", "--log-level", "debug"]
        program = Program(command, {**env, "HOME": str(tmp_path)}, tmp_path / "gunicorn")
        programs.append(program)

        def is_open() -> bool:
            with _socket(address) as probe:
                return program.says("") and probe.connect_ex(address) == 0

        eventually(is_open)
        return program.output.read_text

    yield serve
    for program in programs:
        assert program.end() == 0
        print(program.said)


def _socket(address) -> socket.socket:
    return socket.socket(socket.AF_INET if isinstance(address, tuple) else socket.AF_UNIX)


@pytest.fixture
def served(serve):
    """The address of the shop behind gunicorn, and a function for its output."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = probe.getsockname()
    return address, serve(address)


def sent(address, *lines: str, body: str = "") -> bytes:
    """Send a request of these lines; returns the server's answer."""
    with _socket(address) as connection:
        connection.settimeout(10)
        connection.connect(address)
        text = "\r\n".join([*lines, "Host: localhost", "Connection: close", "", body])
        connection.sendall(text.encode("latin-1"))
        answer = b""
        while piece := connection.recv(65536):
            answer += piece
    return answer


def test_gunicorn_logs_no_credential_and_reads_doubled_headers(served):
    address, said = served
    wrong = f"L402 {TOKEN}:{PREIMAGE.hex()}"
    url = f"http://{address[0]}:{address[1]}/api/v1/hosting"
    asked = requests.get(
        f"{url}?token={quote(CREDENTIAL)}&preimage={PREIMAGE.hex()}",
        headers={"Authorization": wrong, "Referer": f"{url}?L402+{quote(CREDENTIAL, safe='')}"},
        timeout=10,
    )
    assert asked.status_code == 401
    assert requests.get(f"{url}/{CREDENTIAL}", timeout=10).status_code == 404

    # gunicorn joins several lines of one name; a good one and an unreadable one make no 500.
    lines = f"Authorization: {wrong}", "Authorization: Basic abc", "Authorization: L402 nonsense"
    for order in (lines, lines[::-1]):
        answer = sent(address, "GET /api/v1/hosting HTTP/1.1", *order)
        assert answer.startswith(b"HTTP/1.1 401"), answer
        assert b"application/problem+json" in answer
    # For a header that is too large gunicorn has its own page, which is no 500 either.
    for line in (f"Authorization: L402 {'A' * 9000}:{PREIMAGE.hex()}", f"Macaroon: {'02' * 9000}"):
        assert sent(address, "GET /api/v1/hosting HTTP/1.1", line)[9:12] in (b"400", b"431")
    many = [f"Authorization: {wrong}"] * 50
    assert sent(address, "GET /api/v1/hosting HTTP/1.1", *many).startswith(b"HTTP/1.1 401")
    # Its error log quotes the header that it cannot read.
    broken = sent(address, "GET /api/v1/hosting HTTP/1.1", f"{CREDENTIAL} (no header)")
    assert broken.startswith(b"HTTP/1.1 400")

    eventually(lambda: said().count('"GET /api/v1/hosting') >= 4)
    assert logs.MASK in said()
    assert_says_nothing(said())


def test_a_receipt_counts_among_headers_that_the_server_joins(served, wallet, worker):
    address, _ = served
    wish = '{"space_mb": 100, "duration": 1, "unit": "hours"}'
    lines = "POST /api/v1/hosting HTTP/1.1", f"Content-Length: {len(wish)}"
    answer = sent(address, *lines, body=wish).decode()
    assert answer.startswith("HTTP/1.1 402")
    challenges = re.findall("^WWW-Authenticate: (.*)\r$", answer, re.M)
    macaroon, invoice = re.fullmatch('LSAT macaroon="(.*)", invoice="(.*)"', challenges[0]).groups()
    assert challenges == authorization.challenge(macaroon, invoice)

    preimage = wallet.pay(invoice)["payment_preimage"]
    work(worker)
    own = f"Authorization: L402 {macaroon}:{preimage}"
    others = f"Authorization: LSAT {CREDENTIAL}", "Authorization: Basic abc"
    for order in ((own, *others), (*others, own), (others[0], own, others[1])):
        bought = sent(address, *lines, *order, body=wish)
        assert bought.startswith(b"HTTP/1.1 201"), bought
    long = f"Authorization: L402 {l402.read(macaroon).narrowed('note=' + 'n' * 3500)}:{preimage}"
    assert sent(address, "GET /api/v1/hosting HTTP/1.1", long).startswith(b"HTTP/1.1 200")


FIRST_VISIT_BYTES_MAX = 32 * 1024


def test_a_first_visit_is_light(served):
    address, _ = served

    def weight(path: str) -> int:
        return len(sent(address, f"GET {path} HTTP/1.1", "Accept-Encoding: gzip"))

    page = sent(address, "GET / HTTP/1.1").decode()
    files = {*re.findall(r'(?:href|src)="(/static/[^"]+)"', page)}
    weights = {path: weight(path) for path in ("/", *sorted(files))}
    for path, of_it in weights.items():
        print(f"{of_it:7,} bytes with their head: {path}")
    print(f"{sum(weights.values()):7,} bytes in all, of {FIRST_VISIT_BYTES_MAX:,}")
    assert len(files) == 4
    assert sum(weights.values()) <= FIRST_VISIT_BYTES_MAX


WISH = '{"space_mb": 100, "duration": 1, "unit": "hours"}'


@with_settings(PROXY_HOPS="1", ORDERS_LIMIT="1 per day")
def test_visitors_are_told_apart_over_a_unix_socket(serve, tmp_path):
    address = str(tmp_path / "socket")
    said = serve(address)

    def asked(noted: str) -> bytes:
        lines = "POST /api/v1/hosting HTTP/1.1", f"Content-Length: {len(WISH)}"
        return sent(address, *lines, f"X-Forwarded-For: {noted}", body=WISH)[9:12]

    seen = "203.0.113.7:51234", "203.0.113.7:51235", "[2001:db8::1]:51234", "203.0.113.8"
    assert [asked(noted) for noted in seen] == [b"402", b"429", b"402", b"402"]
    assert "X-Forwarded-For" not in said()  # nobody came without that header
    # gunicorn's own control socket is off.
    assert not (tmp_path / ".gunicorn").exists()


@pytest.mark.parametrize("wrong", [{"CAPACITY_MB": "x"}, {"DATABASE_URL": "sqlite:////etc/passwd"}])
def test_a_shop_that_cannot_start_ends_and_is_not_started_again(env, tmp_path, wrong):
    """Start it as an init system does: in a process that has imported nothing yet."""
    command = [sys.executable, "-m", *GUNICORN, "--workers", "3", "--bind", f"unix:{tmp_path}/s"]
    options = {"cwd": ROOT, "capture_output": True, "text": True, "timeout": 60}
    ended = subprocess.run(command, env=env | wrong, **options)
    assert ended.returncode == 4
    assert ended.stderr.count("The shop does not start: ") == 1
    assert "Traceback" not in ended.stderr
