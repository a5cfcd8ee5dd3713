"""How the API answers everything that is not as it should be, and to whom it tells what.

One shop serves the whole table. No answer may be a 500, and only sales may mint an invoice.
"""

import base64
import hashlib
import json
import re
import secrets
import time
from dataclasses import dataclass

import pytest
from pyln.client import LightningRpc

from app import create_app
from lightningspace import shop
from lightningspace.api import holders
from lightningspace.api.answers import PROBLEM
from lightningspace.base import clock, models
from lightningspace.base.config import from_env
from lightningspace.base.models import Account, Order
from lightningspace.outside import l402
from lightningspace.outside.l402 import Keys, Rights
from lightningspace.rules import accounts, invoices, order_book, orders, tips, tokens
from lightningspace.sandbox.node import SandboxNode
from lightningspace.sandbox.panel import SandboxPanel
from lightningspace.visitors import authorization
from tests.conftest import PANEL_PASSWORD, SetClock, WorkerByHand, invoices_asked_for, log_in, work

HOUR = {"duration": 1, "unit": "hours"}
WISH = {"space_mb": 100} | HOUR
SLOWEST_SECONDS = 8


class Stage:
    """A shop with customers, and the credentials of all sorts of people."""

    def __init__(self, directory):
        self.node = SandboxNode(directory / "lightning-rpc", directory / "wallet-rpc")
        self.panel = SandboxPanel(password=PANEL_PASSWORD)
        self.node.start()
        self.panel.start()
        settings = {
            "PUBLIC_URL": "http://localhost",
            "BASE_DOMAIN": "shop.test",
            "DATABASE_URL": f"sqlite:///{directory / 'shop.sqlite3'}",
            "SECRET_KEY": "a key of the tests that is long enough",
            "LIGHTNING_RPC": str(directory / "lightning-rpc"),
            "PANEL_URL": self.panel.url,
            "PANEL_USER": "shop",
            "PANEL_PASSWORD": PANEL_PASSWORD,
            "CAPACITY_MB": "1000000",
            "FTP_UPLOADS": "false",
            "UNPAID_PER_CLIENT": "1000",
            "ORDERS_LIMIT": "10000 per minute",
            "ORDERS_LIMIT_OVERALL": "10000 per minute",
            "CHANGES_LIMIT": "10000 per minute",
            "CHANGES_LIMIT_OVERALL": "10000 per minute",
            "TIPS_LIMIT": "10000 per minute",
            "TIPS_LIMIT_OVERALL": "10000 per minute",
        }
        config = from_env(settings, directory)
        self.app = create_app(config)
        models.init_db()
        self.shop = self.app.extensions["shop"]
        shop.settle_in(self.shop)
        self.worker = WorkerByHand(self.shop)
        self.wallet = LightningRpc(str(directory / "wallet-rpc"))
        self.client = self.app.test_client()
        self.credentials = {name: make(self) for name, make in CREDENTIALS.items()}

    def close(self) -> None:
        models.db.close()
        self.node.stop()
        self.panel.stop()

    # -- shopping ----------------------------------------------------------------------

    def ask(self, path="/hosting", body=WISH, credential="", **headers):
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        if credential:
            named["Authorization"] = credential
        return self.client.post(f"/api/v1{path}", json=body, headers=named)

    def pay(self, challenge) -> str:
        assert challenge.status_code == 402, challenge.text
        preimage = self.wallet.pay(challenge.json["invoice"])["payment_preimage"]
        work(self.worker)
        return f"L402 {challenge.json['macaroon']}:{preimage}"

    def buy(self, **wish) -> str:
        return self.pay(self.ask(body=WISH | wish))

    def extension(self, credential: str) -> str:
        return self.pay(self.ask("/hosting/extend", HOUR, credential))

    def tip(self, door: str, to="bob0", is_paid=True) -> Order:
        if door == "address":
            answer = self.client.get(f"/.well-known/lnurlp/{to}/invoice?amount=1000")
            invoice = answer.json["pr"]
        elif door == "offer":
            asked = {"offer": tips.offer(self.shop, Account.get(username=to)), "amount_msat": 1000}
            invoice = self.wallet.call("fetchinvoice", asked)["invoice"]
        else:
            invoice = self.ask(f"/tips/{to}", {"amount_msat": 1000}).json["invoice"]
        if is_paid:
            self.wallet.pay(invoice)
            work(self.worker)
        return Order.select().where(Order.door == door).order_by(Order.placed_at.desc()).get()

    # -- credentials -------------------------------------------------------------------

    def preimage_of(self, challenge) -> str:
        """The preimage that the payer's wallet would learn by paying."""
        token = challenge.json["order"]
        return self.node._by_label[order_book.label(self.shop, Order.get_by_id(token))].preimage

    def account(self, credential: str) -> Account:
        macaroon, preimage = taken_apart(credential)
        return tokens.holder(self.shop, macaroon, bytes.fromhex(preimage)).account

    def handed_out(self, **changes) -> str:
        rights = Rights(**({"capabilities": frozenset(["read"]), "valid_until": None} | changes))
        account = self.account(self.alice)
        self.token = tokens.hand_out(self.shop, account.id, secrets.token_hex(4), rights)
        return f"L402 {tokens.text_of(self.shop, self.token)}"


@pytest.fixture(autouse=True)
def short_waits(monkeypatch):
    """Payments are not recorded meanwhile, so waiting longer would bring nothing."""
    monkeypatch.setattr(holders, "WAIT_SECONDS", 0.3)


@pytest.fixture(scope="module")
def stage(tmp_path_factory):
    stage = Stage(tmp_path_factory.mktemp("stage"))
    yield stage
    stage.close()


def taken_apart(credential: str) -> tuple[l402.Macaroon, str]:
    text, _, preimage = credential.partition(" ")[2].rpartition(":")
    return l402.read(text), preimage


def narrowed(credential: str, *caveats: str) -> str:
    macaroon, preimage = taken_apart(credential)
    return f"L402 {macaroon.narrowed(*caveats)}:{preimage}"


def changed(credential: str, **changes) -> str:
    """A token as somebody without its key would change it."""
    macaroon, preimage = taken_apart(credential)
    return f"L402 {l402.Macaroon(**(vars(macaroon) | changes))}:{preimage}"


# -- whose credentials they are ----------------------------------------------------------


def alice(stage) -> str:
    stage.alice = stage.buy()
    return stage.alice


def bob(stage) -> str:
    stage.bob = stage.buy(duration=2, username="bob0", password="battery staple")
    return stage.bob


def closed(stage) -> str:
    carol = stage.buy()
    account = stage.account(carol)
    accounts.close(account.id)
    moment = clock.now()
    machine = SetClock(moment)
    clock.set_source(lambda: machine.moment)
    while Account.get_or_none(Account.id == account.id):
        work(stage.worker)
        machine.forward(600)
        assert machine.moment < moment + 36000
    clock.set_source(None)
    return carol


def renewed_since(stage) -> str:
    old = stage.buy()
    with models.transaction():
        tokens.renew(stage.account(old).id)
    return old


def revoked(stage) -> str:
    token = stage.handed_out()
    tokens.revoke(stage.token.account_id, stage.token.id)
    return token


def over(stage) -> str:
    clock.set_source(lambda: time.time() - 7200)
    token = stage.handed_out(valid_until=clock.now() + 3600)
    clock.set_source(None)
    return token


def of_another_shop(stage) -> str:
    preimage = hashlib.sha256(b"theirs").digest()
    keys = Keys([b"another master key, 32 bytes long"])
    macaroon = keys.mint(
        hashlib.sha256(preimage).digest(), keys.token_id(0), l402.caveats(l402.SERVICE, l402.WHOLE)
    )
    return f"L402 {macaroon}:{preimage.hex()}"


def minted_for_another_service(stage) -> str:
    """A token of another service that has the same key."""
    macaroon, preimage = taken_apart(stage.alice)
    root_key = stage.shop.keys._root(macaroon.identifier)
    return f"L402 {l402.mint(root_key, macaroon.identifier, 'services=other:0')}:{preimage}"


def of_a_browser(stage) -> str:
    """The token of an extension sold by a page: its payer has paid, and gets no access."""
    buyer = orders.Buyer("a browser", "a form's id")
    order = orders.extend(stage.shop, stage.account(stage.alice).id, 1, "hours", buyer)
    preimage = stage.wallet.pay(order.bolt11)["payment_preimage"]
    work(stage.worker)
    return f"L402 {tokens.challenge(stage.shop, order)}:{preimage}"


def unpaid(stage) -> str:
    challenge = stage.ask()
    return f"L402 {challenge.json['macaroon']}:{stage.preimage_of(challenge)}"


def unpaid_extension(stage) -> str:
    challenge = stage.ask("/hosting/extend", {"duration": 2, "unit": "hours"}, stage.alice)
    return f"L402 {challenge.json['macaroon']}:{stage.preimage_of(challenge)}"


def expired_unpaid(stage) -> str:
    challenge = stage.ask()
    credential = f"L402 {challenge.json['macaroon']}:{stage.preimage_of(challenge)}"
    invoices.cancel(stage.shop, Order.get_by_id(challenge.json["order"]))
    return credential


def challenge_alone(stage) -> str:
    return f"L402 {stage.ask().json['macaroon']}"


def widened(*caveats: str):
    """alice's token with further caveats of its holder, some of which try to widen it again."""
    return lambda stage: narrowed(stage.alice, *caveats)


def in_hex(credential: str) -> str:
    macaroon, preimage = taken_apart(credential)
    return macaroon.narrowed(f"preimage={preimage}").packed().hex()


def payment_of(credential: str) -> str:
    return f"{S}_payment={taken_apart(credential)[0].payment_hash.hex()}"


S = "lightning-space"
CREDENTIALS = {
    "alice": alice,
    "bob": bob,
    "closed": closed,
    "a newer receipt": renewed_since,
    "revoked": revoked,
    "over": over,
    "another shop's": of_another_shop,
    "a browser's": of_a_browser,
    "unpaid": unpaid,
    "unpaid extension": unpaid_extension,
    "expired unpaid": expired_unpaid,
    "challenge alone": challenge_alone,
    "to read": lambda stage: stage.handed_out(),
    "to pay": lambda stage: stage.handed_out(capabilities=frozenset(["pay"])),
    "over for who got it": widened(f"{S}_valid_until=1000000000"),
    "for nothing": widened(f"{S}_capabilities="),
    "minted for another service": minted_for_another_service,
    "of another service": widened("services=other:0"),
    "of no service": widened("services="),
    "wider capabilities": widened(f"{S}_capabilities=read", f"{S}_capabilities=read,pay"),
    "wider services": widened(f"services={S}:0,other:0"),
    "later end": widened(f"{S}_valid_until=4000000000", f"{S}_valid_until=4000000001"),
    "end of letters": widened(f"{S}_valid_until=never"),
    "end with blanks": widened(f"{S}_valid_until= 4000000000"),
    "end with underscores": widened(f"{S}_valid_until=4_000_000_000"),
    "end below zero": widened(f"{S}_valid_until=-1"),
    "huge end": widened(f"{S}_valid_until={'9' * 400}"),
    "services without tiers": widened("services=lightning-space"),
    "too many caveats": widened(*["a=b"] * 32),
    "too long": widened("a=" + "b" * 4000),
    "with bytes": lambda stage: narrowed(stage.alice, "note=\x00\xff"),
    "without its caveats": lambda stage: changed(stage.alice, caveats=()),
    "other caveats": lambda stage: changed(
        stage.handed_out(), caveats=(b"services=lightning-space:0",)
    ),
    "bob's payment named": lambda stage: narrowed(stage.alice, payment_of(stage.bob)),
    "bob's payment first": lambda stage: changed(
        stage.alice, caveats=(payment_of(stage.bob).encode(), *taken_apart(stage.alice)[0].caveats)
    ),
    "own payment named": lambda stage: narrowed(stage.alice, payment_of(stage.alice)),
    "no payment named": widened(f"{S}_payment"),
    "no signature": lambda stage: changed(stage.alice, signature=bytes(32)),
    "bob's order, alice's preimage": lambda stage: (
        f"L402 {taken_apart(stage.bob)[0]}:{taken_apart(stage.alice)[1]}"
    ),
    "alice's order, bob's signature": lambda stage: changed(
        stage.alice, signature=taken_apart(stage.bob)[0].signature
    ),
    "alice's hash, bob's token": lambda stage: changed(
        stage.bob, identifier=taken_apart(stage.alice)[0].identifier
    ),
}


@dataclass(frozen=True)
class Case:
    """A header, and the status of its answer where a hosting is sold, seen, and extended, and where
    its time is sold to anybody (`given`).
    """

    write: object  # from the credentials to a header's value, or to headers
    sold: int | None = None  # None: not asked
    seen: int | None = None
    extended: int | None = None
    given: int | None = 402


def whole(name: str, **status):
    return Case(lambda them: them[name], **status)


NO_TOKEN = {
    "sold": 402,
    "seen": 401,
    "extended": 401,
}  # no token, or a void one: the hosting is for sale
BAD = {
    "sold": 401,
    "seen": 401,
    "extended": 401,
    "given": 401,
}  # forged or unreadable: no invoice anywhere
GOOD = {"sold": 201, "seen": 200, "extended": 402}  # alice's, however the client writes it

HEADERS = {
    # No credential of ours.
    "none": Case(lambda them: "", **NO_TOKEN),
    "another scheme": Case(lambda them: "Basic YWxpY2U6Y29ycmVjdCBob3JzZQ==", **NO_TOKEN),
    "a bearer": Case(lambda them: them["alice"].replace("L402", "Bearer"), **NO_TOKEN),
    "no scheme": Case(lambda them: them["alice"].partition(" ")[2], **NO_TOKEN),
    # Alice's, as clients were seen to write it.
    "good": whole("alice", **GOOD),
    "old scheme": Case(lambda them: them["alice"].replace("L402", "lsat"), **GOOD),
    "capital preimage": Case(lambda them: upper_preimage(them["alice"]), **GOOD),
    "no padding": Case(lambda them: them["alice"].replace("=", ""), **GOOD),
    "url-safe": Case(lambda them: them["alice"].replace("+", "-").replace("/", "_"), **GOOD),
    "beside a password": Case(lambda them: f"Basic abc, {them['alice']}, Basic def", **GOOD),
    "after a forged one": Case(lambda them: f"{them['no signature']},{them['alice']}", **GOOD),
    "before a forged one": Case(lambda them: f"{them['alice']}, {them['no signature']}", **GOOD),
    "before an unpaid one": Case(lambda them: f"{them['alice']}, {them['unpaid']}", **GOOD),
    "two macaroons": Case(
        lambda them: two_macaroons(them["challenge alone"], them["alice"]), **GOOD
    ),
    "in hex": Case(lambda them: {"Macaroon": in_hex(them["alice"])}, **GOOD),
    "grpc": Case(lambda them: {"Grpc-Metadata-Macaroon": in_hex(them["alice"])}, **GOOD),
    "unknown caveat": Case(lambda them: narrowed(them["alice"], "colour=blue"), **GOOD),
    "preimage of another": Case(
        lambda them: narrowed(them["alice"], f"preimage={'0' * 64}"), **GOOD
    ),
    # Somebody else's, or good for less.
    "bob's": whole("bob", sold=409, seen=200, extended=402),
    "to read": whole("to read", sold=201, seen=200, extended=403),
    "to pay": whole("to pay", sold=403, seen=403, extended=402),
    "for nothing": whole("for nothing", sold=403, seen=403, extended=403),
    "with bytes": whole("with bytes", **GOOD),
    # Void: they may have been good.
    "closed": whole("closed", **NO_TOKEN),
    "a newer receipt": whole("a newer receipt", **NO_TOKEN),
    "revoked": whole("revoked", **NO_TOKEN),
    "over": whole("over", **NO_TOKEN),
    "over for who got it": whole("over for who got it", **NO_TOKEN),
    "another shop's": whole("another shop's", **NO_TOKEN),
    "minted for another service": whole("minted for another service", **NO_TOKEN),
    "of no service": whole("of no service", **NO_TOKEN),
    "end below zero": whole("end below zero", **NO_TOKEN),
    "a browser's": whole("a browser's", **NO_TOKEN),
    "expired unpaid": whole("expired unpaid", **NO_TOKEN),
    # The preimage is right, and nobody has paid: a routing node, or a held payment.
    "unpaid": whole("unpaid", sold=503, given=503),
    "unpaid extension": whole("unpaid extension", extended=503, given=503),
    # Widened by the holder.
    "wider capabilities": whole("wider capabilities", **BAD),
    "wider services": whole("wider services", **BAD),
    "later end": whole("later end", **BAD),
    "end of letters": whole("end of letters", **BAD),
    "end with blanks": whole("end with blanks", **BAD),
    "end with underscores": whole("end with underscores", **BAD),
    "of another service": whole("of another service", **BAD),
    "huge end": whole("huge end", **BAD),
    "services without tiers": whole("services without tiers", **BAD),
    "without its caveats": whole("without its caveats", **BAD),
    "other caveats": whole("other caveats", **BAD),
    "bob's payment named": whole("bob's payment named", **BAD),
    "bob's payment first": whole("bob's payment first", **BAD),
    "own payment named": whole("own payment named", **BAD),
    "no payment named": whole("no payment named", **BAD),
    # Forged, cut, torn or huge.
    "no signature": whole("no signature", **BAD),
    "bob's order, alice's preimage": whole("bob's order, alice's preimage", **BAD),
    "alice's order, bob's signature": whole("alice's order, bob's signature", **BAD),
    "alice's hash, bob's token": whole("alice's hash, bob's token", **BAD),
    "too many caveats": whole("too many caveats", **BAD),
    "too long": whole("too long", **BAD),
    # Where time is sold to anybody, the payment of the closed hosting counts.
    "forged and void": Case(
        lambda them: f"{them['no signature']},{them['closed']}", **BAD | {"given": 402}
    ),
    "challenge alone": whole("challenge alone", **BAD),
    "challenge without preimage": Case(lambda them: them["challenge alone"] + ":", **BAD),
    "challenge with zeros": Case(lambda them: f"{them['challenge alone']}:{'0' * 64}", **BAD),
    "scheme alone": Case(lambda them: "L402", **BAD),
    "scheme and blank": Case(lambda them: "LSAT   ", **BAD),
    "scheme and comma": Case(lambda them: "L402 ,", **BAD),
    "preimage alone": Case(lambda them: "L402 :" + "0" * 64, **BAD),
    "cut in the macaroon": Case(lambda them: them["alice"][:80], **BAD),
    "cut in the preimage": Case(lambda them: them["alice"][:-1], **BAD),
    "preimage too long": Case(lambda them: them["alice"] + "00", **BAD),
    "preimage of letters": Case(lambda them: them["alice"][:-64] + "z" * 64, **BAD),
    "two preimages": Case(lambda them: them["alice"] + them["alice"][-65:], **BAD),
    "wrong base64": Case(lambda them: them["alice"].replace("L402 ", "L402 !?"), **BAD),
    "a byte above ASCII": Case(lambda them: them["alice"].replace(":", "\xe9:"), **BAD),
    "bytes after it": Case(lambda them: with_bytes_after(them["alice"]), **BAD),
    "version 1": Case(lambda them: "L402 MDAwYmxvY2F0aW9uIGE6:" + "0" * 64, **BAD),
    "JSON": Case(lambda them: 'L402 {"v":2}:' + "0" * 64, **BAD),
    "zeros": Case(lambda them: f"L402 {'A' * 5000}:{'0' * 64}", **BAD),
    "huge": Case(lambda them: f"L402 {'A' * 100_000}:{'0' * 64}", **BAD),
    "hundreds": Case(lambda them: ",".join([them["alice"]] * 300), **BAD),
    "five": Case(lambda them: ", ".join([them["alice"]] * 5), **BAD),
    "as parameters": Case(lambda them: as_parameters(them["alice"]), **BAD),
    "hex without preimage": Case(
        lambda them: {"Macaroon": taken_apart(them["alice"])[0].packed().hex()}, **BAD
    ),
    "hex of base64": Case(lambda them: {"Macaroon": them["alice"]}, **BAD),
    "odd hex": Case(lambda them: {"Macaroon": in_hex(them["alice"])[:-1]}, **BAD),
    "cut hex": Case(lambda them: {"Macaroon": in_hex(them["alice"])[:-2]}, **BAD),
    "huge hex": Case(lambda them: {"Grpc-Metadata-Macaroon": "02" * 50_000}, **BAD),
    "forged hex": Case(lambda them: {"Macaroon": in_hex(them["no signature"])}, **BAD),
}


def upper_preimage(credential: str) -> str:
    return credential[:-64] + credential[-64:].upper()


def two_macaroons(alone: str, credential: str) -> str:
    return f"{alone}, {credential.partition(' ')[2]}"


def with_bytes_after(credential: str) -> str:
    macaroon, preimage = taken_apart(credential)
    return f"L402 {base64.b64encode(macaroon.packed() + b'more').decode()}:{preimage}"


def as_parameters(credential: str) -> str:
    macaroon, preimage = taken_apart(credential)
    return f'L402 macaroon="{macaroon}", preimage="{preimage}"'


ASKED = [
    (name, where, vars(case)[where])
    for name, case in HEADERS.items()
    for where in ("sold", "seen", "extended", "given")
    if vars(case)[where]
]


def test_a_credential_gets_its_statuses(subtests, stage):
    for name, where, expected in ASKED:
        with subtests.test(name=name, where=where, expected=expected):
            written = HEADERS[name].write(stage.credentials)
            headers = written if isinstance(written, dict) else {"Authorization": written}
            invoices, began = invoices_asked_for(stage.node), time.monotonic()
            if where == "seen":
                answer = stage.client.get("/api/v1/hosting", headers=headers)
            elif where == "sold":
                answer = stage.client.post("/api/v1/hosting", json=WISH, headers=headers)
            else:
                path = {"extended": "extend", "given": "bob0/time"}[where]
                answer = stage.client.post(f"/api/v1/hosting/{path}", json=HOUR, headers=headers)
            assert answer.status_code == expected, answer.text
            assert time.monotonic() - began < SLOWEST_SECONDS
            if expected != 402:
                assert invoices_asked_for(stage.node) == invoices
            assert_is_an_answer(answer, stage)


# -- bodies, methods, addresses, headers -------------------------------------------------


@dataclass(frozen=True)
class Sent:
    """Any other request; without a credential unless `as_alice`."""

    status: int
    path: str = "/api/v1/hosting"
    body: object = None  # bytes, or something that becomes JSON
    headers: dict | None = None
    method: str = "POST"
    as_alice: bool = False


def wishes(**fields) -> dict:
    return WISH | fields


def extends(body, status=400, **kwargs) -> Sent:
    return Sent(status, "/api/v1/hosting/extend", body, as_alice=True, **kwargs)


def resizes(body, status=400) -> Sent:
    return Sent(status, "/api/v1/hosting/resize", body, as_alice=True)


def key(text: str, status: int = 400) -> Sent:
    return Sent(status, body=WISH, headers={"Idempotency-Key": text})


def with_text(field: str, text: str) -> bytes:
    """`text` as JSON writes it, escapes and all."""
    body = json.dumps(WISH | {field: "?"})
    return body.replace('"?"', f'"{text}"').encode()


NESTED = b"[" * 60_000
TIME = "/api/v1/hosting/bob0/time"
FORM = b"space_mb=100&duration=1&unit=hours"
BODIES = {
    "nothing": Sent(400, body=b""),
    "no JSON": Sent(400, body=b"space"),
    "half of it": Sent(400, body=json.dumps(WISH).encode()[:-1]),
    "more than one": Sent(400, body=json.dumps(WISH).encode() * 2),
    "an array": Sent(400, body=[WISH]),
    "a text": Sent(400, body="WISH"),
    "null": Sent(400, body=b"null"),
    "a number": Sent(400, body=b"1"),
    "a form": Sent(400, body=FORM),
    "a form by its name": Sent(
        400, body=FORM, headers={"Content-Type": "application/x-www-form-urlencoded"}
    ),
    "a form of parts": Sent(
        400,
        body=b'--a\r\nContent-Disposition: form-data; name="space_mb"\r\n\r\n100\r\n--a--',
        headers={"Content-Type": "multipart/form-data; boundary=a"},
    ),
    "XML": Sent(400, body=b"<a/>", headers={"Content-Type": "application/xml"}),
    "JSON by another name": Sent(402, body=WISH, headers={"Content-Type": "text/plain"}),
    "compressed": Sent(400, body=b"\x1f\x8b\x08\x00", headers={"Content-Encoding": "gzip"}),
    "deep": Sent(400, body=NESTED),
    "deep objects": Sent(400, body=b'{"a":' * 10_000),
    "deep field": Sent(400, body=b'{"username":' + b"[" * 500 + b"]" * 500 + b"}"),
    "too much": Sent(413, body=b" " * 70_000),
    "no UTF-8": Sent(400, body=b'{"unit": "\xff"}'),
    "a NUL": Sent(400, body=b'{"unit": "\x00"}'),
    "NaN": Sent(400, body=b'{"space_mb": NaN, "duration": 1, "unit": "hours"}'),
    "infinity": Sent(400, body=b'{"space_mb": -Infinity, "duration": 1, "unit": "hours"}'),
    "infinite in figures": Sent(400, body=b'{"space_mb": 1e999, "duration": 1, "unit": "hours"}'),
    "doubled name": Sent(
        400, body=b'{"space_mb": 100, "space_mb": 1, "duration": 1, "unit": "hours"}'
    ),
    "unknown field": Sent(400, body=wishes(price_msat=1)),
    "a field of ours": Sent(400, body=wishes(form_id="a", csrf_token="b")),
    "a surrogate as a name": Sent(400, body=with_text("?", r"\ud800")),
    "a page of names": Sent(400, body=wishes(**{f"f{n}": n for n in range(2000)})),
    # Numbers.
    "huge": Sent(400, body=wishes(space_mb=10**400)),
    "endless": Sent(400, body=b'{"space_mb": ' + b"9" * 5000 + b"}"),
    "above 64 bits": Sent(400, body=wishes(duration=2**64)),
    "below zero": Sent(400, body=wishes(duration=-1)),
    "zero": Sent(400, body=wishes(duration=0)),
    "a part": Sent(400, body=wishes(duration=1.5)),
    "a whole part": Sent(402, body=wishes(duration=1.0)),
    "a text of figures": Sent(400, body=wishes(duration="1")),
    "yes": Sent(400, body=wishes(duration=True)),
    "null time": Sent(400, body=wishes(duration=None)),
    "a size not sold": Sent(400, body=wishes(space_mb=101)),
    "too long a time": Sent(400, body=wishes(duration=25, unit="months")),
    "no such unit": Sent(400, body=wishes(unit="years")),
    "array for a number": Sent(400, body=wishes(space_mb=[100])),
    "object for a text": Sent(400, body=wishes(unit={"unit": "hours"})),
    # Texts.
    "number for a name": Sent(400, body=wishes(username=12345)),
    "array for a name": Sent(400, body=wishes(username=["anna"])),
    "reserved": Sent(400, body=wishes(username="postmaster")),
    "taken": Sent(409, body=wishes(username="bob0")),
    "capitals": Sent(402, body=wishes(username="Anna")),
    "markup": Sent(400, body=wishes(username="<script>alert(1)</script>")),
    "long name": Sent(400, body=wishes(username="a" * 60_000)),
    "weak": Sent(400, body=wishes(password="secret")),
    "long password": Sent(400, body=wishes(password="Aa1!" * 10_000)),
    "long address": Sent(400, body=wishes(email="a" * 300 + "@example.org")),
    "address with a line": Sent(400, body=wishes(email="a@example.org\nBcc: b@example.org")),
    "empty texts": Sent(402, body=wishes(username="", password="", email="")),
    **{
        f"{what} in {field}": Sent(400, body=with_text(field, text))
        for field in ("username", "password", "email", "unit")
        for what, text in {
            "NUL": r"a\u0000bcdefgh@example.org",
            "surrogate": r"a\ud800bcdefgh@example.org",
            "surrogate alone": r"\udfff",
            "right-to-left": r"a\u202ebcdefgh@exam\u202eple.org",
        }.items()
    },
    # Other sales.
    "extension of nothing": extends({}),
    "extension of an array": extends([]),
    "extension below zero": extends(HOUR | {"duration": -1}),
    "extension of space": extends(WISH),
    "extension of NaN": extends(b'{"duration": NaN, "unit": "hours"}'),
    "time of nothing": Sent(400, TIME, {}),
    "time of an array": Sent(400, TIME, []),
    "time below zero": Sent(400, TIME, HOUR | {"duration": -1}),
    "time of space": Sent(400, TIME, WISH),
    "time of a NUL": Sent(400, TIME, HOUR | {"unit": "hours\0"}),
    "time above 64 bits": Sent(400, TIME, HOUR | {"duration": 2**64}),
    "key of time": Sent(400, TIME, HOUR, {"Idempotency-Key": "short"}),
    "time, in order": Sent(402, TIME, HOUR),
    "resize to nothing": resizes({"space_mb": 0}),
    "resize below zero": resizes({"extra_addresses": -1}),
    "resize to millions": resizes({"extra_domains": 10**9}),
    "resize to a text": resizes({"space_mb": "200"}),
    "resize to what is not sold": resizes({"space_mb": 101}),
    "resize of time": resizes(HOUR),
    # Keys.
    "key too short": key("a" * 15),
    "key too long": key("a" * 201),
    "key with a blank": key("a" * 16 + " " + "b"),
    "key of umlauts": key("\xe4" * 20),
    "empty key": key(""),
    "good key": key("a" * 200, 402),
    "key of an extension": extends(HOUR, headers={"Idempotency-Key": "short"}),
}
ELSEWHERE = {
    "PUT": Sent(405, method="PUT"),
    "TRACE": Sent(405, method="TRACE"),
    "no such method": Sent(405, method="BUY"),
    "GET of what sells": Sent(405, "/api/v1/hosting/extend", method="GET"),
    "GET of time": Sent(405, TIME, method="GET"),
    "HEAD of time": Sent(405, TIME, method="HEAD"),
    "time of nobody": Sent(404, "/api/v1/hosting/nobody/time", HOUR),
    "time of a NUL's": Sent(404, "/api/v1/hosting/bob0%00/time", HOUR),
    "time of no UTF-8's": Sent(404, "/api/v1/hosting/%ff/time", HOUR),
    "time of a surrogate's": Sent(404, "/api/v1/hosting/%ed%a0%80/time", HOUR),
    "time of a path": Sent(404, "/api/v1/hosting/bob0%2f..%2fbob0/time", HOUR),
    "time of a long name's": Sent(404, f"/api/v1/hosting/{'a' * 50_000}/time", HOUR),
    "time of a domain": Sent(404, "/api/v1/hosting/domains/time", HOUR),
    "POST of prices": Sent(405, "/api/v1/prices"),
    "HEAD": Sent(401, method="HEAD"),
    "HEAD of prices": Sent(200, "/api/v1/prices", method="HEAD"),
    "HEAD of what sells": Sent(405, "/api/v1/hosting/extend", method="HEAD"),
    "method in a header": Sent(
        401, method="GET", headers={"X-HTTP-Method-Override": "POST", "X-Method": "POST"}
    ),
    "no such path": Sent(404, "/api/v1/nothing"),
    "no such version": Sent(404, "/api/v2/hosting", body=WISH),
    "the root": Sent(404, "/api", method="GET"),
    "the root with a slash": Sent(404, "/api/", method="GET"),
    "a slash more": Sent(404, "/api/v1/hosting/", body=WISH),
    "two slashes": Sent(404, "/api//v1/hosting", body=WISH),
    "dots": Sent(404, "/api/v1/../v1/hosting", body=WISH),
    "a NUL": Sent(404, "/api/v1/hosting%00", body=WISH),
    "a line": Sent(404, "/api/v1/hosting%0d%0aX-A:%20b", body=WISH),
    "no UTF-8": Sent(404, "/api/v1/%ff%fe", method="GET"),
    "a long path": Sent(404, "/api/v1/" + "a" * 50_000, method="GET"),
    "a long query": Sent(401, "/api/v1/hosting?" + "a=b&" * 20_000, method="GET"),
    "a token in the query": Sent(401, "/api/v1/hosting?token=L402+abc", method="GET"),
    "another origin": Sent(402, body=WISH, headers={"Origin": "https://evil.example"}),
    "no origin": Sent(402, body=WISH, headers={"Origin": "null"}),
    "another origin that looks": Sent(
        401, method="GET", headers={"Origin": "https://evil.example", "Cookie": "session=a"}
    ),
    "a broken cookie": Sent(402, body=WISH, headers={"Cookie": "session=\xff; session=b; =;"}),
    "odd accept": Sent(402, body=WISH, headers={"Accept": "text/html;q=0, */*;q=nan"}),
    "no accept": Sent(402, body=WISH, headers={"Accept": ""}),
    "any accept": Sent(402, body=WISH, headers={"Accept": "*/*"}),
    "script's accept": Sent(
        402, body=WISH, headers={"Accept": "application/json, text/plain, */*"}
    ),
    "asks for an image": Sent(402, body=WISH, headers={"Accept": "image/png"}),
    "another host": Sent(402, body=WISH, headers={"Host": "evil.example"}),
    "a wrong length": Sent(400, body=b"", headers={"Content-Length": "-1"}),
    "expects to go on": Sent(402, body=WISH, headers={"Expect": "100-continue"}),
}


def test_an_odd_request_gets_its_status(subtests, stage):
    for name in BODIES | {f"elsewhere: {name}": None for name in ELSEWHERE}:
        with subtests.test(name=name):
            sent = BODIES.get(name) or ELSEWHERE[name.removeprefix("elsewhere: ")]
            headers = {"Content-Type": "application/json"} | (sent.headers or {})
            if sent.as_alice:
                headers["Authorization"] = stage.alice
            body = sent.body if isinstance(sent.body, bytes | None) else json.dumps(sent.body)
            invoices = invoices_asked_for(stage.node)
            answer = stage.client.open(sent.path, method=sent.method, data=body, headers=headers)
            assert answer.status_code == sent.status, answer.text
            assert invoices_asked_for(stage.node) == invoices + (sent.status == 402)
            if sent.method == "HEAD":
                assert answer.data == b""
            else:
                assert_is_an_answer(answer, stage)
            assert "evil.example" not in answer.text
            if sent.status == 405:
                assert answer.headers["Allow"]
            if sent.status == 400 and answer.json["code"] == "bad_request":
                assert isinstance(answer.json.get("errors", {}), dict)


def test_a_browser_reads_a_page_with_the_same_headers(stage):
    browser = {"Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"}
    for sent in (stage.ask(**browser), stage.ask(body=WISH | {"unit": "\ud800"}, **browser)):
        assert sent.mimetype == "text/html"
        assert sent.headers["Access-Control-Allow-Origin"] == "*"
        assert sent.headers["Cache-Control"] == "no-store"
        assert "Set-Cookie" not in sent.headers
    assert stage.ask(**browser).headers.getlist("WWW-Authenticate")[0].startswith("LSAT macaroon=")
    looked = stage.client.get("/api/v1/hosting", headers=browser)
    assert (looked.status_code, looked.mimetype) == (401, "text/html")
    assert looked.headers.getlist("WWW-Authenticate") == ["L402"]


def test_a_browser_may_ask_whether_a_page_may_call_us(subtests, stage):
    for path in ["/api", "/api/v1/hosting", "/api/v1/nothing", "/api/v1/prices"]:
        with subtests.test(path=path):
            asks = {"Origin": "https://page.example", "Access-Control-Request-Method": "POST"}
            asks["Access-Control-Request-Headers"] = "authorization, content-type, idempotency-key"
            answer = stage.client.options(path, headers=asks)
            assert (answer.status_code, answer.data) == (200, b"")
            assert answer.headers["Access-Control-Allow-Origin"] == "*"
            assert "Access-Control-Allow-Credentials" not in answer.headers
            for header in (
                "Authorization",
                "Content-Type",
                "Idempotency-Key",
                "Accept-Authenticate",
            ):
                assert header in answer.headers["Access-Control-Allow-Headers"]
            assert {"POST", "PATCH", "DELETE"} <= set(
                answer.headers["Access-Control-Allow-Methods"].split(", ")
            )


def test_the_cookie_of_a_logged_in_browser_has_no_effect(stage):
    browser = stage.app.test_client()
    assert log_in(browser, "bob0", "battery staple").status_code == 303
    assert browser.get("/account").status_code == 200
    for method, path in [
        ("GET", "/api/v1/hosting"),
        ("PATCH", "/api/v1/hosting"),
        ("DELETE", "/api/v1/hosting"),
        ("POST", "/api/v1/hosting/extend"),
        ("POST", "/api/v1/hosting/resize"),
    ]:
        invoices = invoices_asked_for(stage.node)
        answer = browser.open(path, method=method, json=HOUR)
        assert answer.status_code in (401, 405), path
        assert invoices_asked_for(stage.node) == invoices
        assert_is_an_answer(answer, stage)
    assert browser.get("/account").status_code == 200


# -- every route ---------------------------------------------------------------------------


def routes(stage, methods: str, **values: str):
    """Each method and address of the app, with these values in its placeholders."""
    for rule in stage.app.url_map.iter_rules():
        path = re.sub(r"<(?:\w+:)?(\w+)>", lambda name: values.get(name[1], "1"), rule.rule)
        for method in rule.methods & set(methods.split()):
            yield rule.endpoint, method, path


def test_no_route_shows_a_preimage_to_the_holder_of_a_challenge(stage):
    macaroon, _ = taken_apart(stage.alice)
    order = Order.get(Order.payment_hash == macaroon.payment_hash.hex())
    anonymous, bob = stage.app.test_client(), stage.app.test_client()
    assert log_in(bob, "bob0", "battery staple").status_code == 303
    everything, reading = "GET POST PUT PATCH DELETE", "GET"
    askers = [
        (anonymous, everything, ""),
        (anonymous, everything, f"L402 {macaroon}"),
        (anonymous, everything, f"L402 {macaroon}:{'0' * 64}"),
        (anonymous, everything, stage.credentials["unpaid"].rpartition(":")[0]),
        (anonymous, reading, stage.credentials["to read"]),
        (anonymous, reading, stage.bob),
        (bob, reading, ""),
    ]
    own = taken_apart(stage.bob)[1]
    others = {invoice.preimage for invoice in list(stage.node._by_label.values())} - {own}
    seen, shown_to = set(), set()
    values = {"token": order.token, "token_id": stage.token.id, "id": stage.token.id}
    for browser, methods, credential in askers:
        for endpoint, method, path in routes(stage, methods, **values):
            fields = {"macaroon": str(macaroon), "order": order.token, "token": str(macaroon)}
            answer = browser.open(
                path,
                method=method,
                query_string=fields if method == "GET" else None,
                headers={"Authorization": credential} if credential else {},
                **({"json": fields} if path.startswith("/api/") else {"data": fields}),
            )
            seen.add(answer.status_code)
            text = answer.data.decode(errors="replace")  # files, too
            assert answer.status_code < 500, (endpoint, method, text)
            said = (text + str(answer.headers)).lower()
            assert not any(preimage in said for preimage in others), (endpoint, method)
            if own in said:
                shown_to.add((browser, credential))
    assert {200, 302, 400, 401, 404} <= seen
    assert shown_to == {
        (bob, "")
    }  # bob's receipt on bob's page: so the walk would have noticed others


def test_no_route_shows_a_preimage_to_the_giver_of_a_tip(stage):
    anonymous, bob = stage.app.test_client(), stage.app.test_client()
    assert log_in(bob, "bob0", "battery staple").status_code == 303
    doors = [("page", True), ("address", True), ("page", False), ("address", False)]
    given = [stage.tip(door, is_paid=is_paid) for door, is_paid in [("offer", True), *doors]]
    own = taken_apart(stage.bob)[1]
    hidden = {invoice.preimage for invoice in list(stage.node._by_label.values())} - {own}
    assert len(hidden) >= len(given)
    seen, asked = set(), set()
    for order in given:
        values = dict.fromkeys(("order", "token"), order.token) | {"username": "bob0"}
        for browser, credential in ((anonymous, ""), (anonymous, stage.bob), (bob, "")):
            headers = {"Authorization": credential} if credential else {}
            for endpoint, method, path in routes(stage, "GET", **values):
                if (browser, credential, path) in asked:
                    continue  # an address that names no order, asked before
                asked.add((browser, credential, path))
                answer = browser.open(path, method=method, headers=headers)
                said = (answer.data.decode(errors="replace") + str(answer.headers)).lower()
                assert not any(preimage in said for preimage in hidden), (endpoint, order.door)
                if order.token in path and answer.status_code == 200 and "error" not in said:
                    seen.add(endpoint)
    assert {"api_tip.tip", "lnurl_pay.verify", "orders.order"} <= seen


def test_routes_that_sell_nothing_ask_for_a_credential_and_mint_nothing(stage):
    for_everybody = {"api_selling.prices", "api_selling.buy", "api_selling.give_time"}
    for_everybody |= {"api_tip.tip_taker", "api_tip.give_tip", "api_tip.tip"}
    credentials = ["", *(stage.credentials[name] for name in ("closed", "revoked", "a browser's"))]
    invoices = invoices_asked_for(stage.node)
    asked = set()
    for endpoint, method, path in routes(stage, "GET HEAD POST PUT PATCH DELETE"):
        if not endpoint.startswith("api_") or endpoint in for_everybody:
            continue
        asked.add((method, path))
        for credential in credentials:
            headers = {"Authorization": credential} if credential else {}
            answer = stage.client.open(path, method=method, json=HOUR, headers=headers)
            assert answer.status_code == 401, (endpoint, method, answer.text)
            if method != "HEAD":
                assert_is_an_answer(answer, stage)
    assert ("POST", "/api/v1/hosting/extend") in asked
    assert invoices_asked_for(stage.node) == invoices


def assert_is_an_answer(answer, stage) -> None:
    """JSON, for any site's programs, never stored, without a cookie, and without a secret."""
    assert answer.mimetype == ("application/json" if answer.status_code < 300 else PROBLEM)
    body = json.loads(answer.text)
    headers = answer.headers
    if answer.status_code >= 400:
        assert body["status"] == answer.status_code and body["title"] and body["detail"]
    assert headers["Access-Control-Allow-Origin"] == "*"
    assert "WWW-Authenticate" in headers["Access-Control-Expose-Headers"]
    assert headers["Cache-Control"] == "no-store"
    assert "Set-Cookie" not in headers
    assert "cookie" not in headers["Vary"].lower()
    assert {"accept", "authorization"} <= set(headers["Vary"].lower().split(", "))
    challenges = headers.getlist("WWW-Authenticate")
    if answer.status_code == 402:
        assert challenges == authorization.challenge(body["macaroon"], body["invoice"])
        assert body["invoice"] == body["invoice"].lower()
    else:
        assert challenges == (["L402"] if answer.status_code == 401 else [])
    assert ("Retry-After" in headers) == (answer.status_code in (202, 429, 503))
    assert_tells_no_preimage(answer, stage.node)


def assert_tells_no_preimage(answer, node) -> None:
    said = answer.text + str(answer.headers)
    for invoice in list(node._by_label.values()):
        assert invoice.preimage not in said.lower()
