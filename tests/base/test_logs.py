"""Nothing that opens a hosting is logged, whoever logs it."""

import hashlib
import io
import logging
from pathlib import Path
from urllib.parse import quote

import pytest
from flask import request
from peewee import IntegrityError

from lightningspace.base import logs
from lightningspace.base.models import Account
from lightningspace.outside import l402
from lightningspace.sandbox import bolt11

ROOT = Path(__file__).parents[2]
PREIMAGE = hashlib.sha256(b"pre").digest()
IDENTIFIER = l402.IDENTIFIER.pack(
    0, hashlib.sha256(PREIMAGE).digest(), hashlib.sha256(b"tid").digest()
)
TOKEN = l402.mint(b"root", IDENTIFIER, "services=lightning-space:0")
BARE = l402.Macaroon(IDENTIFIER, (), TOKEN.signature, b"")
CREDENTIAL = f"{TOKEN}:{PREIMAGE.hex()}"
URL_SAFE = str(TOKEN).replace("+", "-").replace("/", "_").rstrip("=")


def assert_says_nothing(text: str) -> None:
    """Assert that no secret is in the text, not even a part that would help a search."""
    for secret in (str(TOKEN), URL_SAFE, str(BARE), PREIMAGE.hex(), TOKEN.packed().hex()):
        for piece in (secret, secret.upper(), quote(secret, safe="")):
            for start in range(8, len(piece) - 16, 8):
                assert piece[start : start + 16] not in text


@pytest.fixture
def logged():
    """The output of a handler with the usual formatter."""
    before = logging.getLogRecordFactory()
    logs.install()
    written = io.StringIO()
    handler = logging.StreamHandler(written)
    handler.setFormatter(logging.Formatter("%(levelname)s %(name)s: %(message)s"))
    logging.getLogger().addHandler(handler)
    yield written
    logging.getLogger().removeHandler(handler)
    logging.setLogRecordFactory(before)


def test_credentials_are_masked(subtests):
    for secret in [
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
    ]:
        with subtests.test(secret=secret):
            masked = logs.mask(f"before {secret} after")
            assert logs.MASK in masked
            assert masked.startswith("before ") and masked.endswith(" after")
            assert_says_nothing(masked)


def test_messages_of_wallets_are_masked():
    line = "GET /.well-known/lnurlp/alice/invoice?amount=1000&comment=%s&x=1 HTTP/1.1"
    masked = logs.mask(line % "Thank%20you+%22")
    assert masked == line % logs.MASK
    assert logs.mask("no comment=") == "no comment="


def test_an_invoice_is_masked(node):
    paid = node._invoice(amount_msat=1000, label="a", description="b")["bolt11"]
    assert bolt11.decode(paid)
    assert logs.mask(f"[{paid}] [LIGHTNING:{paid.upper()}]") == (
        f"[{logs.MASK}] [LIGHTNING:{logs.MASK}]"
    )


def test_text_for_the_operator_is_not_masked(subtests):
    for text in [
        "order 0123456789abcdef0123456789abcdef: placed, 7000 msat",
        "account 0123456789abcdef: ready, 12 s after it was opened",
        f'File "{ROOT}/.venv/lib/python3.13/site-packages/flask/app_with_a_long_name.py", line 1',
        "LSAT and L402 are two names of one scheme",
        "the panel did not answer sites_web_domain_add: it took too long",
        "info@alice.shop.test",
    ]:
        with subtests.test(text=text):
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
def test_an_error_in_a_view_does_not_log_the_credential(own_app, logged, debug):
    own_app.debug = debug

    @own_app.get("/api/v1/broken")
    def broken():
        text = request.headers["Authorization"] + request.args["token"]
        raise RuntimeError(f"{text} {request.environ}")

    own_app.config["PROPAGATE_EXCEPTIONS"] = False
    answer = own_app.test_client().get(
        f"/api/v1/broken?token={quote(CREDENTIAL)}",
        headers={"Authorization": f"L402 {CREDENTIAL}", "Macaroon": TOKEN.packed().hex()},
    )
    assert (answer.status_code, answer.json["status"]) == (500, 500)
    assert_says_nothing(answer.text)
    said = logged.getvalue()
    assert "RuntimeError" in said
    assert_says_nothing(said)


@pytest.mark.each_database
def test_a_row_that_the_database_quotes_is_not_logged(this_shop, logged):
    address = "alice" + "@example.org"
    try:
        Account.create(id="alice", server=1, space_mb=0, email=address)
    except IntegrityError as error:
        logging.getLogger("some library").exception("broken: %s", logs.first_line(error))
    said = logged.getvalue()
    assert said.count("IntegrityError: ") >= 1 and "Traceback" in said
    assert said.lower().count("check constraint") >= 2
    assert address not in said
