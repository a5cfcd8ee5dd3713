"""The API behind the server that the README names: its headers, its limits, its logs."""

import re
import socket
import subprocess
import sys
from pathlib import Path
from urllib.parse import quote

import pytest
import requests

from lightningspace import authorization, l402, logs
from tests.conftest import eventually, work
from tests.test_logs import CREDENTIAL, PREIMAGE, TOKEN, assert_says_nothing

pytestmark = pytest.mark.any_database

ROOT = Path(__file__).parent.parent


@pytest.fixture
def served(app, env, tmp_path):
    """The shop behind gunicorn, with its access log: its address and what it has said."""
    output = tmp_path / "gunicorn"
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "gunicorn", "wsgi:app", "--threads", "2"]
    command += ["--bind", f"127.0.0.1:{port}", "--access-logfile", "-", "--log-level", "debug"]
    with output.open("wb") as file:
        process = subprocess.Popen(
            command, cwd=ROOT, env={**env}, stdout=file, stderr=subprocess.STDOUT
        )

    def is_open() -> bool:
        assert process.poll() is None, output.read_text()
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0

    eventually(is_open)
    yield ("127.0.0.1", port), output.read_text
    process.terminate()
    process.wait(10)
    print(output.read_text())


def sent(address, *lines: str, body: str = "") -> bytes:
    """What the server answers to a request of these lines."""
    with socket.create_connection(address, timeout=10) as connection:
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

    # Several lines of one name arrive joined; a good and an unreadable one make no 500.
    lines = f"Authorization: {wrong}", "Authorization: Basic abc", "Authorization: L402 nonsense"
    for order in (lines, lines[::-1]):
        answer = sent(address, "GET /api/v1/hosting HTTP/1.1", *order)
        assert answer.startswith(b"HTTP/1.1 401"), answer
        assert b"application/problem+json" in answer
    # What is too big for gunicorn has its page: not ours, but no 500.
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


def test_a_receipt_counts_among_lines_that_the_server_joins(served, wallet, worker):
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
