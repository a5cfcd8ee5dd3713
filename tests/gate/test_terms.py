"""Terms of a service besides its price: limits, capabilities, free requests, dry runs, blocks."""

from ipaddress import ip_address

import pytest

from lightningspace.base import clock
from lightningspace.base.gate_models import GateCount, GateFreebie, GateRevoked
from lightningspace.gate import revocations
from lightningspace.gate.buckets import REMEMBERED, Buckets
from lightningspace.gate.revocations import APART, Revocations
from lightningspace.gate.services import Limit
from lightningspace.gate.upkeep import Upkeep
from lightningspace.outside import l402
from lightningspace.visitors import networks
from tests.api.test_openapi import assert_valid
from tests.conftest import eventually
from tests.gate.box import pay

GATE = """
app = "http://127.0.0.1:{app}"
log = "{folder}/gate.log"

[[service]]
name = "limited"
location = "/limited/"
upstream = "http://127.0.0.1:{behind}"
price_sat = 5
time = "1 day"
limits = [{{ requests = 3, per = "1h" }}, {{ requests = 1, per = "1s", burst = 100 }}]

[[service]]
name = "parts"
location = "/parts/"
upstream = "http://127.0.0.1:{behind}"
price_sat = 5
time = "1 day"
capabilities = {{ read = ["GET"], write = ["PUT", "POST"] }}

[[service]]
name = "tries"
location = "/tries/"
upstream = "http://127.0.0.1:{behind}"
price_sat = 5
time = "1 day"
freebie = 3
no_invoice = ["/tries/quiet/"]

[[service]]
name = "dry"
location = "/dry/"
upstream = "http://127.0.0.1:{behind}"
bundle_sat = 5
per_request_msat = 100
dry_run = true

[[service]]
name = "closed"
location = "/closed/"
upstream = "http://127.0.0.1:{behind}/deep/er/"
price_sat = 5
time = "1 day"
free = ["/closed/free/"]
blocklist = ["127.0.0.0/8"]

[[service]]
name = "open"
location = "/open/"
upstream = "http://127.0.0.1:{behind}/deep/er"
price_sat = 5
time = "1 day"
gate_down = "open"
addresses = true
headers = {{ "X-Key" = "a b", "X-Real-IP" = "ours" }}

[[service]]
name = "rest"
location = "/"
upstream = "http://127.0.0.1:{behind}"
price_sat = 5
time = "1 day"
"""


@pytest.fixture
def gate_toml() -> str:
    return GATE.replace('per = "1h"', 'per = "1 hour"')


def counted(own_app, service: str) -> dict[str, int]:
    own_app.extensions["gate_upkeep"].counts.write()
    return {
        row.outcome: row.times for row in GateCount.select().where(GateCount.service == service)
    }


def test_limits_are_of_who_has_paid_and_else_of_a_network(box, wallet):
    credential = pay(wallet, box.get("/limited/x"))
    others = pay(wallet, box.get("/limited/x"))
    for each in (credential, others):
        assert [box.get("/limited/x", each).status for _ in range(4)] == [200] * 3 + [429]
    refused = box.get("/limited/x", credential)
    assert 1 <= int(refused.get("Retry-After")) <= 1200
    assert refused.json["code"] == "too_many_requests"
    # A made-up credential counts for its sender's network.
    assert [box.get("/limited/x", "nonsense").status for _ in range(2)] == [401, 429]
    assert box.get("/limited/x").status == 429


def test_methods_need_their_capability(box, wallet):
    credential = pay(wallet, box.get("/parts/x"))
    for method in ("GET", "HEAD", "PUT", "POST"):
        assert box.ask(method, "/parts/x", credential=credential).status == 200
    assert box.ask("DELETE", "/parts/x", credential=credential).status == 403
    macaroon, _, preimage = credential.partition(":")
    readers = f"{l402.read(macaroon).narrowed('parts_capabilities=read')}:{preimage}"
    assert box.get("/parts/x", readers).status == 200
    refused = box.ask("PUT", "/parts/x", credential=readers)
    assert (refused.status, refused.json["code"]) == (403, "not_capable")
    assert box.get("/parts/x").json["methods"] == ["GET", "POST", "PUT"]


def test_each_network_has_some_requests_free_each_day(box, own_app, time_machine):
    assert [box.get("/tries/x").status for _ in range(5)] == [200] * 3 + [402] * 2
    assert box.get("/tries/quiet/x").status == 401
    own_app.extensions["gate_upkeep"].stop()
    [row] = GateFreebie.select()
    assert row.used == 3 and "127" not in row.network
    assert counted(own_app, "tries")["freebie"] == 3
    time_machine.forward(86400)
    assert box.get("/tries/x").status == 200


def test_a_dry_run_lets_everybody_in_and_counts(box, own_app, node):
    assert [box.get("/dry/x").status for _ in range(2)] == [200, 200]
    assert box.get("/dry/x", "nonsense").status == 200
    assert counted(own_app, "dry") == {"payment_required": 2, "unauthorized": 1}
    assert not [call for call in node.calls if "invoice" in str(call)]


def test_who_is_blocked_gets_nothing(box):
    assert box.get("/closed/x").status == box.get("/closed/free/x").status == 403


def test_the_operators_headers_and_paths_are_sent(box, wallet):
    got = box.get("/open/x/y?z", pay(wallet, box.get("/open/x")), X_Key="forged").json
    assert got["path"] == "/deep/er/x/y?z"
    assert got["headers"]["x-key"] == "a b"
    assert got["headers"]["x-forwarded-for"] == "127.0.0.1"
    assert got["headers"]["x-real-ip"] == "ours"


def test_a_service_at_the_root_takes_nothing_from_the_others(box, wallet):
    rest = pay(wallet, box.get("/anything.txt"))
    assert box.get("/anything.txt", rest).json["path"] == "/anything.txt"
    assert box.get("/parts/x", rest).json["service"] == "parts"
    assert box.get("/gate/balance", rest).json["services"][0]["service"] == "rest"
    assert box.get("/.well-known/l402.json").status == 200
    assert box.get("/gate/check", rest).status == box.get("/gate/pay", rest).status == 404


def test_a_service_may_stay_open_while_the_gate_is_away(box):
    for_http = box.folder / "gate-http.conf"
    text = for_http.read_text()
    for_http.write_text(text.replace(text.split("server ")[1].split(";")[0], "127.0.0.1:1"))
    box.reload()
    forged = {"X-L402-Token-Id": "forged", "Authorization": "L402 a:b", "Cookie": "gate-open=x"}
    got = box.ask("GET", "/open/x", headers=forged)
    assert got.status == 200
    assert not {"x-l402-token-id", "authorization", "cookie"} & got.json["headers"].keys()
    assert box.get("/parts/x").status == 503


def test_what_is_revoked_is_out_within_a_second(box, wallet):
    credential = pay(wallet, box.get("/parts/x"))
    assert box.get("/parts/x", credential).status == 200
    token_id = l402.read(credential.partition(":")[0]).token_id.hex()
    revocations.revoke(token_id)
    eventually(lambda: box.get("/parts/x", credential).status == 402, 2)
    anew = pay(wallet, box.get("/parts/x", credential))
    assert l402.read(anew.partition(":")[0]).token_id.hex() != token_id
    assert box.get("/parts/x", anew).status == 200


def test_a_process_knows_revocations_before_its_first_check(box, wallet, own_app):
    credential = pay(wallet, box.get("/parts/x"))
    assert box.get("/gate/balance", credential).status == 200
    token_id = l402.read(credential.partition(":")[0]).token_id.hex()
    revocations.revoke(token_id)
    own_app.extensions["gate_upkeep"].stop()
    own_app.extensions["gate_upkeep"] = Upkeep()
    assert box.get("/gate/balance", credential).status == 401


def test_a_fault_does_not_stop_the_upkeep(this_shop, caplog):
    upkeep, looks = Upkeep(), []

    def refresh():
        looks.append(1)
        raise OverflowError("of some kind")

    upkeep.revoked.refresh = refresh
    upkeep.begin()
    eventually(lambda: len(looks) > 2)
    upkeep.stop()
    assert caplog.text.count("failed: of some kind") == 1


def test_revocations_are_followed(this_shop, time_machine):
    ids = [f"{0:024x}{number:016x}{0:024x}" for number in range(1, 3 * APART)]
    mirror = Revocations()
    for number, token_id in enumerate(ids):
        GateRevoked.create(token_id=token_id, revoked_at=clock.now(), until=clock.now() + 60)
        if number % 300 == 0:
            mirror.refresh()
            time_machine.forward(1)
    mirror.refresh()
    assert all(bytes.fromhex(each) in mirror for each in ids)
    assert bytes.fromhex(f"{0:064x}") not in mirror
    assert not revocations.revoke(ids[0]) and revocations.revoke("f" * 64)
    time_machine.forward(3600)
    revocations.tidy()
    assert GateRevoked.select().count() == 1


def test_an_unpaid_flood_makes_no_more_invoices_than_the_limit(box, own_app, this_shop, node):
    limit = int(this_shop.config.gate_limit.split()[0])
    statuses = [box.get("/parts/x").status for _ in range(limit + 5)]
    assert statuses.count(402) == limit and set(statuses) == {402, 429}
    page = box.get("/parts/x", Accept="text/html")
    assert page.status == 429 and "Slow down" in page.text and int(page.get("Retry-After"))
    more = box.ask("POST", "/gate/topup/parts")
    assert (more.status, more.json["code"]) == (429, "too_many_requests")


def test_programs_can_discover_what_is_sold(box, this_shop):
    manifest = box.get("/.well-known/l402.json").json
    told = {service["name"]: service for service in manifest["services"]}
    assert set(told) == {"lightning-space", *"limited parts tries dry closed open rest".split()}
    assert told["parts"]["capabilities"] == ["read", "write"]
    methods = [(each["method"], each["capability"]) for each in told["parts"]["resources"]]
    assert methods == [("GET", "read"), ("PUT", "write"), ("POST", "write")]
    [resource] = told["dry"]["resources"]
    assert resource["path"] == "/dry/*"
    assert resource["pricing"]["price_msat"] == resource["pricing"]["bundle_msat"] == 5000
    assert resource["pricing"]["costs"] == {"per": "request", "msat": 100}
    assert {"parts_capabilities", "dry_valid_until"} <= manifest["caveats"].keys()


def test_openapi_describes_the_services_too(gate_folder, own_app):
    document = own_app.test_client().get("/api/v1/openapi.json").json
    assert_valid(document, "Hosting", [])
    operation = document["paths"]["/parts/{path}"]["put"]
    assert operation["x-l402-service"] == "parts" and operation["x-l402-capability"] == "write"


@pytest.mark.parametrize(
    ("one", "other", "is_same"),
    [
        ("192.0.2.1", "192.0.2.254", True),
        ("192.0.2.1", "192.0.3.1", False),
        ("2001:db8:1:2::3", "2001:db8:1:ffff::1", True),
        ("2001:db8:1::1", "2001:db8:2::1", False),
        ("192.0.2.1", "2001:db8:1::1", False),
    ],
)
def test_a_network_is_a_24_or_a_48(one, other, is_same):
    nets = [networks.neighbourhood(ip_address(address)) for address in (one, other)]
    assert (nets[0] == nets[1]) == is_same
    assert nets[0] in ("192.0.2.0/24", "2001:db8:1::/48")


# -- buckets ---------------------------------------------------------------------------


class Clock:
    seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds


def test_the_eleventh_of_ten_waits_until_there_is_room():
    ticks = Clock()
    buckets, limits = Buckets(ticks), [Limit(10, 10, 10)]
    assert [buckets.take(limits, "a") for _ in range(10)] == [0] * 10
    assert buckets.take(limits, "a") == pytest.approx(1)
    assert buckets.take(limits, "b") == 0
    ticks.seconds += 0.4
    assert buckets.take(limits, "a") == pytest.approx(0.6)
    ticks.seconds += 0.6
    assert buckets.take(limits, "a") == 0
    assert buckets.take(limits, "a") > 0
    ticks.seconds += 1000
    assert [buckets.take(limits, "a") for _ in range(11)][-2:] == [0, pytest.approx(1)]


def test_all_limits_must_pass_and_a_refused_request_counts_for_none():
    ticks = Clock()
    buckets, limits = Buckets(ticks), [Limit(100, 1, 100), Limit(1, 10, 1)]
    assert buckets.take(limits, "a") == 0
    assert [buckets.take(limits, "a") for _ in range(200)] == [pytest.approx(10)] * 200
    ticks.seconds += 10
    assert buckets.take(limits, "a") == 0


def test_who_has_not_come_for_longest_is_forgotten():
    buckets, limits = Buckets(Clock()), [Limit(1, 1000, 1)]
    assert buckets.take(limits, "first") == 0 and buckets.take(limits, "first") > 0
    for number in range(REMEMBERED):
        buckets.take(limits, str(number))
    assert buckets.take(limits, "first") == 0
