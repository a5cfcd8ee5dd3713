"""The gate's answers to credentials as clients write them, and to forged, cut and huge ones."""

import secrets
from hashlib import sha256

import pytest
import requests

from lightningspace.base import clock
from lightningspace.outside import l402
from lightningspace.outside.l402 import Rights
from lightningspace.rules import tokens
from tests.gate.box import pay
from tests.gate.test_metering import GATE
from tests.whole.test_hostile import CREDENTIALS, HEADERS, changed, narrowed

HOUR = 3600
# Changes of alice's credential in the API's table that do not depend on what it is for.
ALTERED = (
    *("with bytes", "without its caveats", "no signature", "too many caveats", "too long"),
    *("bob's order, alice's preimage", "alice's order, bob's signature"),
    *("alice's hash, bob's token", "of no service", "of another service", "wider services"),
)
# The gate's status for each status of the API's sale (201: the hosting is already hers).
AS_SOLD = {201: 204, 401: 401, 402: 402}


class Payers:
    """Two people who have paid for the service `pass`."""

    def __init__(self, this_shop):
        self._shop = this_shop
        self.alice, self.bob = self.pays(), self.pays()

    def pays(self, service="pass", until=HOUR, keys=None) -> str:
        keys = keys or self._shop.keys
        token_id, preimage = keys.token_id(0), secrets.token_bytes(32)
        caveats = l402.caveats(service, Rights(None, clock.now() + until))
        macaroon = keys.mint(sha256(preimage).digest(), token_id, caveats)
        return f"L402 {macaroon}:{preimage.hex()}"


@pytest.fixture
def gate_toml() -> str:
    return GATE


@pytest.fixture
def payers(this_shop) -> Payers:
    return Payers(this_shop)


@pytest.fixture
def check(gate_folder, own_app, payers, node):
    """The status of the gate's answer to some headers; only a 402 may make an invoice."""
    client = own_app.test_client(use_cookies=False)
    own_app.extensions["limits"].take = lambda *args: lambda: None

    def check(headers: dict[str, str], service="pass") -> int:
        invoices = node.calls.count("invoice")
        asked = {"X-Gate-Service": service, "X-Gate-Method": "GET", "Accept": "*/*"}
        answer = client.get("/gate/check", headers=asked | headers)
        status = int(answer.headers.get("X-Gate-Status", answer.status_code))
        if status != 402:
            assert node.calls.count("invoice") == invoices
        return status

    yield check
    own_app.extensions["gate_upkeep"].stop()


def test_a_credential_gets_its_statuses(check, payers, subtests):
    them = {"alice": payers.alice, "bob": payers.bob}
    them |= {name: CREDENTIALS[name](payers) for name in ALTERED}
    macaroon, _, _ = payers.alice.partition(":")
    them |= {"challenge alone": macaroon, "closed": payers.pays(until=-1)}
    them |= {"unpaid": payers.pays("other"), "over": payers.pays(until=0)}
    tried = 0
    for name, case in HEADERS.items():
        try:
            written = case.write(them)
        except KeyError:  # a credential that only hostings have
            continue
        if case.sold in AS_SOLD:
            tried += 1
            headers = written if isinstance(written, dict) else {"Authorization": written}
            with subtests.test(name=name):
                assert check(headers) == AS_SOLD[case.sold]
    assert tried > 50


NARROWED = {
    "to the same": (["services=pass:0"], 204),
    "to a later end": (["pass_valid_until=4000000000"], 401),
    "to an end that is over": (["pass_valid_until=1000000000"], 402),
    "and widened": (["services=pass:0", "services=pass:0,calls:0"], 401),
    "to an end of letters": (["pass_valid_until=never"], 401),
    "by others' words": (["ip=192.0.2.1", "pass", "=", "pass_other=x"], 204),
    "by capabilities it has none of": (["pass_capabilities=read"], 204),
    "by a credit": (["pass_credit_msat=5", "calls_credit_msat=5"], 204),
    "by a hosting's payment": ([f"lightning-space_payment={'0' * 64}"], 401),
}


def test_caveats_of_the_holder_only_narrow_a_credential(check, payers, subtests):
    for name, (caveats, status) in NARROWED.items():
        with subtests.test(name=name):
            assert check({"Authorization": narrowed(payers.alice, *caveats)}) == status
    rid = changed(payers.alice, caveats=(b"services=pass:0",))
    assert check({"Authorization": rid}) == 401


def test_credentials_of_other_services_and_shops_open_nothing(check, payers):
    assert check({"Authorization": payers.alice}, "calls") == 402
    assert check({"Authorization": payers.pays("calls")}) == 402
    others = payers.pays(keys=l402.Keys([b"another shop's key"]))
    assert check({"Authorization": others}) == 402
    assert check({"Authorization": f"{others}, {payers.alice}"}) == 204
    assert check({"Authorization": payers.alice}, "none") == 404


COOKIES = [
    ("gate-pass={}", 204),
    ("a=b; gate-pass={} ; c=d", 204),
    ("gate-pass={}x", 402),
    ("gate-pass=", 402),
    ("gate-calls={}", 402),
    ("gate-pass.unpaid={}", 402),
    ("Gate-Pass={}", 402),
    ("gate-pass=" + "A" * 5000, 402),
    ("gate-pass=x; gate-pass={}", 402),  # the first counts, whose path is the nearest
    ("=; ;;= gate-pass", 402),
]


def test_a_browsers_cookie_opens_its_service_alone(check, payers, subtests):
    bare = payers.alice.partition(" ")[2]
    for cookie, status in COOKIES:
        with subtests.test(cookie=cookie[:40]):
            assert check({"Cookie": cookie.format(bare)}) == status
    # If there is a program's header, it counts instead of the cookie.
    assert check({"Cookie": f"gate-pass={bare}", "Authorization": "L402 nonsense"}) == 401


ODD = {
    "Accept": (
        *("*/*;x=text/html", "text/html;q=nan", "text/html;q=-1", '"text/html', "*;text/html"),
        *(",;=,text/html;q=0", "text/html;q=" + "9" * 5000, "\xa0text/html\xff;\x01"),
    ),
    "X-Forwarded-For": ("", ",", "x" * 8000, "1.2.3.4, [::1%\xe9]:99999999", "0x7f.1, \x01"),
    "Cookie": ("\xe9=\xe9", "gate-pass=\xe9:\x01", "gate-pass=" + ":" * 5000, ",;" * 2000),
    "Authorization": (
        "\xe9",
        "L402 \xe9:\xe9",
        "L402",
        "L402 :",
        "L402 ," + "," * 5000,
        "lsat\xa0",
    ),
    "Macaroon": ("\xe9", ",", "00", "0" * 9000),
    "X-Gate-Length": ("", "-1", "x"),
    "X-Gate-Method": ("", "get", "X" * 1000),
}


def test_no_header_breaks_the_check(check, subtests):
    for name, values in ODD.items():
        for value in values:
            with subtests.test(name=name, value=value[:40]):
                assert check({name: value}) in (401, 402)


def test_a_hostings_access_key_can_hold_purchases_at_the_gate(box, wallet, this_shop, alice):
    owners = tokens.text_of(this_shop, tokens.hand_out(this_shop, alice.id, "x", l402.WHOLE))
    both = pay(wallet, box.get("/pass/x", owners))
    assert box.get("/pass/x", both).status == 200
    hosting = f"http://127.0.0.1:{box.app_port}/api/v1/hosting"
    seen = requests.get(hosting, headers={"Authorization": f"L402 {both}"}, timeout=10)
    assert seen.json()["username"] == "alice"
    # A pass alone opens no hosting.
    alone = {"Authorization": f"L402 {pay(wallet, box.get('/pass/x'))}"}
    assert requests.get(hosting, headers=alone, timeout=10).status_code == 401
