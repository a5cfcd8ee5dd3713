"""Nothing that opens a hosting is logged, whoever logs it."""

import hashlib
import io
import logging
import socket
import subprocess
import sys
from pathlib import Path
from urllib.parse import quote

import pytest
import requests
from flask import request

from lightningspace import l402, logs
from lightningspace.sandbox import bolt11
from tests.conftest import eventually

pytestmark = pytest.mark.any_database

ROOT = Path(__file__).parent.parent
PREIMAGE = hashlib.sha256(b"pre").digest()
IDENTIFIER = l402.IDENTIFIER.pack(
    0, hashlib.sha256(PREIMAGE).digest(), hashlib.sha256(b"tid").digest()
)
TOKEN = l402.mint(b"root", IDENTIFIER, "services=lightning-space:0")
BARE = l402.Macaroon(IDENTIFIER, (), TOKEN.signature, b"")
CREDENTIAL = f"{TOKEN}:{PREIMAGE.hex()}"
URL_SAFE = str(TOKEN).replace("+", "-").replace("/", "_").rstrip("=")


def assert_says_nothing(text: str) -> None:
    """Not even a piece of it that would narrow a search."""
    for secret in (str(TOKEN), URL_SAFE, str(BARE), PREIMAGE.hex(), TOKEN.packed().hex()):
        for piece in (secret, secret.upper(), quote(secret, safe="")):
            for start in range(8, len(piece) - 16, 8):
                assert piece[start : start + 16] not in text


@pytest.fixture
def logged():
    """What a handler with the usual formatter writes."""
    before = logging.getLogRecordFactory()
    logs.install()
    written = io.StringIO()
    handler = logging.StreamHandler(written)
    handler.setFormatter(logging.Formatter("%(levelname)s %(name)s: %(message)s"))
    logging.getLogger().addHandler(handler)
    yield written
    logging.getLogger().removeHandler(handler)
    logging.setLogRecordFactory(before)


@pytest.mark.parametrize(
    "secret",
    [
        f"L402 {CREDENTIAL}",
        f"lsat {CREDENTIAL}",
        f"L402 {TOKEN},{BARE}:{PREIMAGE.hex()}",
        f"L402 {str(TOKEN)[5:]}:{PREIMAGE.hex()}",
        CREDENTIAL,
        URL_SAFE,
        str(BARE),
        quote(f"L402 {CREDENTIAL}"),
        quote(f"L402 {CREDENTIAL}", safe=""),
        quote(CREDENTIAL, safe=""),
        TOKEN.packed().hex(),
        BARE.packed().hex().upper(),
        PREIMAGE.hex(),
        PREIMAGE.hex().upper(),
        repr({"Authorization": f"L402 {CREDENTIAL}"}),
    ],
)
def test_what_opens_a_hosting_is_masked(secret):
    masked = logs.mask(f"before {secret} after")
    assert logs.MASK in masked
    assert masked.startswith("before ") and masked.endswith(" after")
    assert_says_nothing(masked)


def test_an_invoice_is_masked(node):
    paid = node._invoice(amount_msat=1000, label="a", description="b")["bolt11"]
    assert bolt11.decode(paid)
    assert logs.mask(f"[{paid}] [LIGHTNING:{paid.upper()}]") == (
        f"[{logs.MASK}] [LIGHTNING:{logs.MASK}]"
    )


@pytest.mark.parametrize(
    "text",
    [
        "order 0123456789abcdef0123456789abcdef: placed, 7000 msat",
        "account 0123456789abcdef: ready, 12 s after it was opened",
        f'File "{ROOT}/.venv/lib/python3.13/site-packages/flask/app_with_a_long_name.py", line 1',
        "LSAT and L402 are two names of one scheme",
        "the panel did not answer sites_web_domain_add: it took too long",
        "info@alice.shop.test",
    ],
)
def test_what_the_operator_must_read_stays(text):
    assert logs.mask(text) == text


def test_arguments_and_tracebacks_and_stacks_are_masked(logged):
    logger = logging.getLogger("anybody")
    logger.error("token %s, preimage %r", TOKEN, PREIMAGE.hex())
    logger.error("%(r)s", {"r": f"GET /?{CREDENTIAL} HTTP/1.1"})
    try:
        try:
            raise KeyError(CREDENTIAL)
        except KeyError as error:
            raise ValueError(f"not readable: {PREIMAGE.hex()}") from error
    except ValueError:
        logger.exception("broken", stack_info=True)
    said = logged.getvalue()
    assert said.count(logs.MASK) >= 5
    assert "ValueError: not readable" in said and "KeyError" in said and "Stack" in said
    assert_says_nothing(said)


@pytest.mark.parametrize("debug", [False, True])
def test_an_error_in_a_view_says_nothing_of_the_credential(app, client, logged, debug):
    app.debug = debug

    @app.get("/api/v1/broken")
    def broken():
        text = request.headers["Authorization"] + request.args["token"]
        raise RuntimeError(f"{text} {request.environ}")

    app.config["PROPAGATE_EXCEPTIONS"] = False
    answer = client.get(
        f"/api/v1/broken?token={quote(CREDENTIAL)}",
        headers={"Authorization": f"L402 {CREDENTIAL}", "Macaroon": TOKEN.packed().hex()},
    )
    assert (answer.status_code, answer.json["status"]) == (500, 500)
    assert_says_nothing(answer.text)
    said = logged.getvalue()
    assert "RuntimeError" in said
    assert_says_nothing(said)


# -- the programs ------------------------------------------------------------------------


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


def sent(address, *lines: str) -> bytes:
    """What the server answers to a request of these lines."""
    with socket.create_connection(address, timeout=10) as connection:
        text = "\r\n".join([*lines, "Host: localhost", "Connection: close", "", ""])
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
