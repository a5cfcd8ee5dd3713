"""Prepaid bundles: what requests use up, who pays for it, and what a kill costs."""

import json
import re
from pathlib import Path
from unittest.mock import Mock
from urllib.parse import unquote

import pytest
from peewee import OperationalError

from lightningspace.base import clock
from lightningspace.base.gate_models import (
    GateBalance,
    GateCount,
    GateCredited,
    GateLease,
    GateSettled,
)
from lightningspace.base.tables import TABLES
from lightningspace.gate import balances, services
from lightningspace.gate.balances import Busy
from lightningspace.gate.meter import Meter
from lightningspace.gate.services import Bundle
from lightningspace.gate.settlement import Settlement, cost
from lightningspace.outside import l402
from tests.conftest import eventually
from tests.gate.box import head_of, pay

GATE = """
app = "http://127.0.0.1:{app}"
log = "{folder}/gate.log"

[[service]]
name = "calls"
location = "/calls/"
upstream = "http://127.0.0.1:{behind}"
bundle_sat = 5
per_request_msat = 1000

[[service]]
name = "films"
location = "/films/"
files = "{folder}/films"
bundle_sat = 100
per_mb_msat = 1000000
reserve_msat = 20000

[[service]]
name = "jobs"
location = "/jobs/"
upstream = "http://127.0.0.1:{behind}"
bundle_sat = 10
cost_header = "X-Gate-Cost-Msat"
reserve_msat = 3000

[[service]]
name = "time"
location = "/time/"
upstream = "http://127.0.0.1:{behind}"
bundle_sat = 10
per_second_msat = 1000
reserve_msat = 5000

[[service]]
name = "priced"
location = "/priced/"
upstream = "http://127.0.0.1:{behind}"
bundle_sat = 10
price_url = "http://127.0.0.1:{behind}/price"
price_msat = [100, 4000]

[[service]]
name = "pass"
location = "/pass/"
upstream = "http://127.0.0.1:{behind}"
price_sat = 5
time = "1 day"
"""
DAY = 86400


@pytest.fixture
def gate_toml() -> str:
    return GATE


@pytest.fixture
def settlement(box):
    found = Settlement(services.read(box.folder / "gate.toml"))
    yield found
    found.close()


def bought(box, wallet, path: str) -> str:
    return pay(wallet, box.get(path))


def left(own_app=None) -> int:
    """The only balance, including its leased parts."""
    [row] = GateBalance.select()
    key = row.token_id, row.service
    meter = own_app.extensions["gate_upkeep"].meter if own_app else Meter()
    return meter.left(key)[0]


def settled(box, settlement, own_app, requests: int) -> int:
    """The balance once that many requests are settled and no lease is held."""
    log = box.folder / "gate.log"
    eventually(lambda: log.read_text().count('"reserved": "') >= requests)
    settlement.look()
    own_app.extensions["gate_upkeep"].meter.close()
    [row] = GateBalance.select()
    return row.msat


def token_id(credential: str) -> str:
    return l402.read(credential.partition(":")[0]).token_id.hex()


def test_a_bundle_of_five_serves_five_requests(box, wallet, own_app, settlement):
    credential = bought(box, wallet, "/calls/x")
    told = [box.get("/calls/x", credential).get("X-Gate-Balance") for _ in range(5)]
    assert told == ["4000", "3000", "2000", "1000", "0"]
    over = box.get("/calls/x", credential)
    assert over.status == 402
    assert (over.json["balance_msat"], over.json["request_msat"]) == (0, 1000)
    assert over.json["bundle_msat"] == 5000 and over.json["costs"] == {
        "per": "request",
        "msat": 1000,
    }
    more = pay(wallet, over)
    assert token_id(more) == token_id(credential)
    # All credentials with the same id use up one balance.
    served = [box.get("/calls/x", each).status for each in (more, credential) * 3]
    assert served == [200] * 5 + [402]
    assert settled(box, settlement, own_app, 10) == 0


def test_every_form_of_a_credential_is_metered(box, wallet, own_app):
    credential = bought(box, wallet, "/calls/x")
    macaroon, _, preimage = credential.partition(":")
    whole = l402.read(macaroon).narrowed(f"preimage={preimage}")
    for sent in (
        {"Authorization": f"L402 {credential}"},
        {"Authorization": f"LSAT {credential}"},
        {"Authorization": f"Basic eDp5, L402 {credential}"},
        {"Macaroon": whole.packed().hex()},
        {"Grpc-Metadata-Macaroon": whole.packed().hex()},
    ):
        answer = box.ask("POST", "/calls/x", b"body", sent)
        assert (answer.status, answer.json["length"]) == (200, 4), sent
    assert left(own_app) == 0
    refused = box.ask("POST", "/calls/x", b"body", {"Authorization": "L402 a:b"})
    assert (refused.status, len(box.behind.asked)) == (401, 5)


def test_an_unpaid_bundle_leaves_nothing(box):
    before = {table: table.select().count() for table in TABLES}
    assert [box.get("/calls/x").status for _ in range(5)] == [402] * 5
    assert {table: table.select().count() for table in TABLES} == before


def test_a_websocket_is_settled_when_it_ends(box, wallet, own_app, settlement):
    credential = bought(box, wallet, "/time/x")
    head = f"Host: x\r\nAuthorization: L402 {credential}\r\nUpgrade: websocket\r\n".encode()
    key = b"Connection: Upgrade\r\nSec-WebSocket-Key: eA==\r\n\r\n"
    with box.raw(b"GET /time/ws HTTP/1.1\r\n" + head + key) as web:
        assert b"101 Switching" in head_of(web)
        assert left(own_app) == 5000  # all of it is reserved
        web.sendall(b"ping")
        assert web.recv(4) == b"ping"
    assert 5000 < settled(box, settlement, own_app, 1) < 10_000


def test_twelve_requests_are_three_payments(box, wallet):
    credential, payments = None, 0
    for _ in range(12):
        answer = box.get("/calls/x", credential)
        if answer.status == 402:
            credential, payments = pay(wallet, answer), payments + 1
            answer = box.get("/calls/x", credential)
        assert answer.status == 200
    assert payments == 3


def test_failed_requests_cost_nothing(box, wallet, own_app, settlement):
    credential = bought(box, wallet, "/calls/x")
    for status in (400, 404, 500, 503):
        assert box.get(f"/calls/status/{status}", credential).status == status
    assert box.get("/calls/x", credential).status == 200
    assert settled(box, settlement, own_app, 5) == 4000


def test_bytes_time_or_the_upstream_determine_the_cost(box, wallet, own_app, settlement):
    credential = bought(box, wallet, "/films/film.mp4")
    answer = box.get("/films/film.mp4", credential)
    assert len(answer.body) == 10240
    cost = 100_000 - settled(box, settlement, own_app, 1)
    assert 10_240 < cost < 11_000  # including the answer's head
    part = box.get("/films/film.mp4", credential, Range="bytes=0-99")
    assert part.status == 206
    assert settled(box, settlement, own_app, 2) > 100_000 - cost - 1000


@pytest.mark.parametrize(
    ("path", "cost"),
    [
        ("/jobs/x?cost=1234", 1234),
        ("/jobs/x?cost=0", 0),
        ("/jobs/x?cost=9000", 9000),  # more than was reserved
        ("/jobs/x?cost=99999999999999999999", 10_000),  # at most the whole balance
        ("/jobs/x", 3000),  # the upstream named no cost
        ("/jobs/x?cost=-5", 3000),
        ("/jobs/x?cost=1e9", 3000),
        ("/jobs/status/500?cost=500", 0),
    ],
)
def test_the_upstream_names_the_cost(box, wallet, own_app, settlement, path, cost):
    credential = bought(box, wallet, "/jobs/x")
    answer = box.get(path, credential)
    assert answer.get("X-Gate-Cost-Msat") is None
    assert settled(box, settlement, own_app, 1) == 10_000 - cost


def test_an_index_is_paid_for_once(box, wallet, own_app, settlement):
    credential = bought(box, wallet, "/films/film.mp4")
    assert box.get("/films/", credential).body == b"all films"
    assert left(own_app) == 80_000
    assert 99_000 < settled(box, settlement, own_app, 1) < 100_000


LIMITS = "reserve_msat = 20000\nfreebie = 1\nlimits = [{{ requests = 2, per = '1 hour' }}]"


@pytest.mark.parametrize("gate_toml", [GATE.replace("reserve_msat = 20000", LIMITS)])
def test_an_index_is_one_request_of_a_limit(box, wallet, own_app, settlement):
    assert box.get("/films/").body == b"all films"  # the free index
    credential = bought(box, wallet, "/films/film.mp4")
    assert [box.get("/films/", credential).status for _ in range(3)] == [200, 200, 429]
    own_app.extensions["gate_upkeep"].counts.write()
    counted = {row.outcome: row.times for row in GateCount.select()}
    assert (counted["freebie"], counted["passed"]) == (1, 2)
    assert 99_000 < settled(box, settlement, own_app, 2) < 100_000


def test_one_credential_holds_bundles_and_passes(box, wallet, own_app):
    first = bought(box, wallet, "/calls/x")
    second = pay(wallet, box.get("/pass/x", first))
    third = pay(wallet, box.get("/jobs/x", second))
    for path in ("/calls/x", "/pass/x", "/jobs/x", "/calls/y", "/pass/y", "/jobs/y"):
        assert box.get(path, third).status == 200
    # A payment is credited once, whichever credential is shown.
    assert box.get("/calls/z", first).get("X-Gate-Balance") == "2000"
    assert GateCredited.select().count() == 2
    assert left_of(own_app, third, "calls") == 2000
    assert left_of(own_app, third, "jobs") == 4000


def left_of(own_app, credential: str, service: str) -> int:
    meter = own_app.extensions["gate_upkeep"].meter
    return meter.left((token_id(credential), service))[0]


def test_who_was_given_a_part_has_no_part_in_the_balance(box, wallet, own_app):
    owners = bought(box, wallet, "/calls/x")
    assert box.get("/calls/x", owners).status == 200
    macaroon, _, preimage = pay(wallet, box.get("/pass/x", owners)).partition(":")
    friends = f"{l402.read(macaroon).narrowed('services=pass:0')}:{preimage}"
    assert box.get("/pass/x", friends).status == 200
    his = pay(wallet, box.get("/calls/x", friends))
    assert token_id(his) != token_id(owners)
    assert [box.get("/calls/x", his).status for _ in range(6)] == [200] * 5 + [402]
    assert left_of(own_app, owners, "calls") == 4000


def test_caveats_of_the_holder_bring_no_credit(box, wallet, own_app):
    macaroon, _, preimage = bought(box, wallet, "/calls/x").partition(":")
    for caveat in ("calls_credit_msat=900000", "jobs_credit_msat=5"):
        more = f"{l402.read(macaroon).narrowed(caveat)}:{preimage}"
        assert box.get("/calls/x", more).status == 200
    assert left(own_app) == 3000
    passes = pay(wallet, box.get("/pass/x"))
    macaroon, _, preimage = passes.partition(":")
    forged = l402.read(macaroon).narrowed("services=pass:0,calls:0", "calls_credit_msat=900000")
    assert box.get("/calls/x", f"{forged}:{preimage}").status == 401


def test_a_price_by_request_is_asked_for(box, wallet, own_app, settlement):
    credential = bought(box, wallet, "/priced/x")
    box.behind.price = b'{"price_msat": 700}'
    assert box.get("/priced/x", credential).get("X-Gate-Balance") == "9300"
    for wrong in (
        b"",
        b"x",
        b"[]",
        b"{}",
        b'{"price_msat": 5000}',
        b'{"price_msat": "700"}',
        b"9" * 5000,
    ):
        box.behind.price = wrong
        answer = box.get("/priced/x", credential)
        assert (answer.status, answer.get("Retry-After")) == (503, "5"), wrong
    assert settled(box, settlement, own_app, 1) == 9300


WRITTEN = [
    *("/priced/a", "/priced//a", "/priced/./a", "/priced/b/../a", "/priced/b/c/%2e%2e/../a"),
    *("/priced/%61", "//priced/a#b", "/wrong/..//priced/a", "/priced/b%2f..%2fa"),
    *("/priced/a/", "/priced/a/b/..", "/priced/a/.", "/priced/a%2520b%20c?d=/../%61#e", "/priced/"),
    *("/priced/%C3%A9%3f%23;(')+,@~[]%22%7c", "/priced/\xfc"),
]


def test_a_price_is_asked_for_the_address_that_is_served(box, wallet, subtests):
    credential = bought(box, wallet, "/priced/x")
    box.behind.price = b'{"price_msat": 100}'
    for written in WRITTEN:
        with subtests.test(written=written):
            box.behind.asked.clear()
            head = f"GET {written} HTTP/1.0\r\nAuthorization: L402 {credential}\r\n\r\n"
            with box.raw(head.encode("latin-1")) as connection:
                assert b" 200 " in head_of(connection)
            (_, _, priced, _), (_, served, _, _) = box.behind.asked
            assert unquote(priced["X-Gate-Uri"], "latin-1") == unquote(served, "latin-1")


def test_a_price_is_asked_for_the_method_that_is_served(box, wallet):
    credential = bought(box, wallet, "/priced/x")
    box.behind.price = b'{"price_msat": 100}'
    box.behind.asked.clear()
    override = {"X-HTTP-Method-Override": "POST"}
    assert box.ask("GET", "/priced/x", None, override, credential).status == 200
    (_, _, priced, _), (_, _, served, _) = box.behind.asked
    assert priced["X-Gate-Method"] == "GET" and not override.keys() & served.keys()


def test_an_unpaid_request_is_told_the_price(box):
    told = box.get("/priced/x").json
    assert told["costs"] == {"per": "request", "msat_min": 100, "msat_max": 4000}
    assert box.get("/jobs/x").json["costs"] == {"per": "request", "named_in": "X-Gate-Cost-Msat"}
    assert box.get("/time/x").json["costs"] == {"per": "second", "msat": 1000}


# -- what is left ----------------------------------------------------------------------


def holding(answer, service: str) -> dict:
    return next(each for each in answer.json["services"] if each["service"] == service)


def test_a_program_asks_what_is_left_and_adds_to_it(box, wallet):
    credential = pay(wallet, box.get("/pass/x", bought(box, wallet, "/calls/x")))
    told = box.get("/gate/balance", credential)
    assert holding(told, "calls")["balance_msat"] == 5000
    assert "balance_msat" not in holding(told, "pass") and holding(told, "pass")["valid_until"]
    box.get("/calls/x", credential)
    asked = box.ask("POST", "/gate/topup/calls", credential=credential)
    assert asked.status == 402 and len(asked.all("WWW-Authenticate")) == 2
    more = pay(wallet, asked)
    assert token_id(more) == token_id(credential)
    added = box.ask("POST", "/gate/topup/calls", credential=more)
    assert (added.status, holding(added, "calls")["balance_msat"]) == (200, 9000)
    assert holding(box.get("/gate/balance", credential), "calls")["balance_msat"] == 9000


@pytest.mark.parametrize("credential", ["x:y", "nonsense", f"{'A' * 40}:{'0' * 64}"])
def test_a_made_up_credential_is_told_nothing(box, credential):
    for answer in (
        box.get("/gate/balance", credential),
        box.ask("POST", "/gate/topup/calls", credential=credential),
    ):
        assert (answer.status, answer.all("WWW-Authenticate")) == (401, ["L402"])
    assert box.get("/gate/balance").status == 401
    assert box.ask("POST", "/gate/topup/none").status == 404


def test_a_person_sees_what_is_left_and_adds_to_it(box, wallet):
    cookies = {}

    def look(path: str):
        cookie = "; ".join(f"{name}={value}" for name, value in cookies.items())
        answer = box.get(path, Accept="text/html", Cookie=cookie)
        cookies.update(answer.cookies)
        return answer

    def pay_page(path: str):
        invoice = re.search('href="lightning:([^"]+)"', look(path).text)[1]
        wallet.pay(invoice)
        return eventually(lambda: look(path).get("Location"))

    assert "Nothing that this browser knows of" in look("/gate/balance").text
    assert pay_page("/calls/x") == "/calls/x"
    assert look("/calls/x").status == 200
    assert "<strong>4 sat</strong> left" in look("/gate/balance").text
    assert pay_page("/gate/topup/calls") == "/gate/balance"
    assert "<strong>9 sat</strong> left" in look("/gate/balance").text
    assert [look("/calls/x").status for _ in range(10)] == [200] * 9 + [402]


# -- the log ---------------------------------------------------------------------------


def line(number: int, key, status="200", reserved="3000", cost="1000", **facts) -> str:
    token, service = key
    told = {"id": f"{number:032x}", "service": service, "token": token, "reserved": reserved}
    told |= {"status": status, "bytes": "0", "seconds": "0.000", "cost": cost}
    return json.dumps(told | facts) + "\n"


KEY = ("5" * 64, "jobs")


@pytest.fixture
def log(tmp_path, this_shop):
    """The log of a gate whose only customer has 100,000 msat."""
    balances.credit("1" * 64, KEY, 100_000, clock.now() + DAY)
    return Path(tmp_path / "gate.log")


@pytest.fixture
def reader(tmp_path, log):
    made = []

    def reader() -> Settlement:
        path = tmp_path / "gate.toml"
        ports = {"app": 1, "behind": 1, "folder": tmp_path}
        path.write_text(GATE.format(**ports))
        made.append(Settlement(services.read(path)))
        return made[-1]

    yield reader
    for each in made:
        each.close()


@pytest.mark.each_database
def test_a_line_counts_once_however_often_it_comes(log, reader):
    first, second = line(1, KEY), line(2, KEY, cost="500")
    log.write_text(first + second + first)
    settlement = reader()
    settlement.look()
    assert left() == 100_000 + 2000 + 2500
    log.write_text(second)  # the log is emptied and written again
    settlement.look()
    settlement.look()
    reader().look()
    assert left() == 104_500
    assert GateSettled.select().count() == 2


def test_a_request_that_cost_its_reserve_leaves_no_row(log, reader):
    log.write_text(line(1, KEY, cost="3000"))
    reader().look()
    assert left() == 100_000 and not GateSettled.select().exists()


def test_half_a_line_waits_for_its_end(log, reader):
    whole = line(1, KEY)
    log.write_text(whole[:40])
    settlement = reader()
    settlement.look()
    assert left() == 100_000
    with log.open("a") as file:
        file.write(whole[40:])
    settlement.look()
    assert left() == 102_000


def test_nothing_is_lost_when_the_database_fails(log, reader, monkeypatch):
    log.write_text(line(1, KEY) + line(2, KEY))
    settlement = reader()
    with monkeypatch.context() as away:
        away.setattr(GateSettled, "insert", Mock(side_effect=OperationalError))
        for _ in range(2):
            with pytest.raises(OperationalError):
                settlement.look()
    settlement.look()
    assert left() == 104_000


def test_nothing_is_lost_when_the_log_is_rotated(log, reader):
    log.write_text(line(1, KEY))
    settlement = reader()
    settlement.look()
    log.rename(f"{log}.1")
    with Path(f"{log}.1").open("a") as former:
        log.write_text(line(3, KEY))
        settlement.look()
        former.write(line(2, KEY))  # by a process of nginx that still writes to the old file
    for _ in range(3):
        settlement.look()
    assert left() == 106_000


def test_a_worker_that_was_away_continues_where_it_was(log, reader):
    log.write_text(line(1, KEY))
    reader().look()
    with log.open("a") as file:
        file.write(line(2, KEY))
    log.rename(f"{log}.1")
    log.write_text(line(3, KEY))
    settlement = reader()
    for _ in range(3):
        settlement.look()
    assert left() == 106_000


def test_a_missing_log_is_waited_for(log, reader):
    settlement = reader()
    settlement.look()
    log.write_text(line(1, KEY))
    settlement.look()
    assert left() == 102_000


NONSENSE = [
    *("", "x", "[]", "{}", '{"reserved": "5"}', "\0" * 100, "null", "9" * 5000),
    *(line(9, KEY, reserved="x"), line(9, KEY, status=""), line(9, KEY, reserved="")),
    *(line(9, ("", "gone")), line(9, ("", "pass")), line(9, KEY, status="499")),
    # Nesting and numbers that are too large.
    *("[" * 100_000, '{"reserved": 1e999, "service": "jobs", "token": ""}'),
    *(line(9, KEY, **{name: value}) for name in ("reserved", "bytes") for value in (1, "9" * 20)),
    *(line(9, KEY, id=value) for value in ("", "\0", "9" * 99, None, ["9"])),
    *(line(9, ("5", "jobs"), reserved="5"), line(9, ("\0" * 64, "jobs"), reserved="5")),
    *(line(9, (KEY[0], "time"), seconds=value) for value in ("inf", "nan", "1e999", "-1.000")),
    *(line(9, (KEY[0], "time"), cost=value) for value in (5, None)),
]


def test_nonsense_in_the_log_changes_nothing(log, reader, caplog):
    log.write_text("\n".join(NONSENSE) + "\n" + line(1, KEY))
    reader().look()
    assert left() == 102_000
    assert "cannot be read" in caplog.text


def test_a_client_that_hangs_up_pays_for_the_time_taken(log, reader):
    key = (KEY[0], "time")
    balances.credit("2" * 64, key, 50_000, clock.now() + DAY)
    hung_up = {"status": "499", "reserved": "5000"}
    log.write_text(line(1, key, **hung_up, seconds="20.000") + line(2, key, **hung_up))
    reader().look()
    # Whoever hangs up at once pays the reserve, as the upstream may go on working.
    assert balances.left(key)[0] == 50_000 - 15_000


COSTS = [
    # How requests are billed, what nginx logs, and the cost.
    ({"per_request_msat": 700}, {}, 700),
    ({"per_mb_msat": 1000}, {"bytes": "1"}, 1),
    ({"per_mb_msat": 1000}, {"bytes": "2500000"}, 2500),  # the download was broken off
    ({"per_second_msat": 1000}, {"seconds": "0.001"}, 1),
    ({"per_second_msat": 1000}, {"seconds": "61.500", "status": "101"}, 61_500),
    ({"cost_header": "X-Cost"}, {"cost": "5"}, 5),
    ({"cost_header": "X-Cost"}, {"cost": ""}, 700),
    ({"cost_header": "X-Cost"}, {"cost": "5", "status": "499"}, 700),
    ({"per_mb_msat": 1000}, {"bytes": "0", "status": "499"}, 700),
    ({"per_request_msat": 700}, {"status": "399"}, 700),
    ({"per_request_msat": 700}, {"status": "400"}, 0),
    ({"per_second_msat": 1000}, {"seconds": "9", "status": "504"}, 0),
]


@pytest.mark.parametrize(("per", "told", "msat"), COSTS)
def test_what_a_request_has_cost(per, told, msat):
    line = {"status": "200", "bytes": "0", "seconds": "0.000", "cost": ""} | told
    assert cost(Bundle(100_000, 700, **per), line, 700) == msat


# -- leases ----------------------------------------------------------------------------


class Clock:
    seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds


@pytest.mark.each_database
def test_all_is_served_once_and_no_more(this_shop):
    balances.credit("1" * 64, KEY, 803, clock.now() + DAY)
    meters, served = [Meter(), Meter()], 0
    for number in range(1300):
        try:
            served += meters[number % 2].reserve(KEY, 1) is not None
        except Busy:
            meters[1 - number % 2].close()
    for meter in meters:
        meter.close()
    assert served == 803
    assert left() == 0 and not GateLease.select().exists()


@pytest.mark.each_database
def test_a_payment_is_credited_once(this_shop):
    for meter in (Meter(), Meter()):
        for _ in range(2):
            meter.credit("1" * 64, KEY, 500, clock.now() + DAY)
    assert left() == 500
    meter.credit("2" * 64, KEY, 300, clock.now() + 2 * DAY)
    assert balances.left(KEY) == (800, clock.now() + 2 * DAY) or left() == 800


def test_a_killed_process_costs_nobody_anything(this_shop, time_machine):
    balances.credit("1" * 64, KEY, 10_000, clock.now() + DAY)
    killed = Meter()
    for _ in range(30):
        killed.reserve(KEY, 10)
    assert GateLease.get().msat == 640
    time_machine.forward(balances.STALE_SECONDS)
    assert balances.end_stale_leases() == 0
    time_machine.forward(1)
    assert balances.end_stale_leases() == 1
    assert left() == 10_000  # the lease is lost, and never at the customer's cost


def test_a_process_that_slept_uses_no_lease_twice(this_shop, time_machine):
    ticks = Clock()
    sleeper = Meter(ticks)
    balances.credit("1" * 64, KEY, 1000, clock.now() + DAY)
    sleeper.reserve(KEY, 10)
    time_machine.forward(60)
    ticks.seconds += 60
    balances.end_stale_leases()
    others = Meter()
    served = [others.reserve(KEY, 10) for _ in range(100)]
    assert all(each is not None for each in served)
    others.tick()
    assert sleeper.reserve(KEY, 10) is None


def test_a_clock_that_jumps_gives_no_lease_twice(this_shop, time_machine):
    meter = Meter()
    balances.credit("1" * 64, KEY, 1000, clock.now() + DAY)
    meter.reserve(KEY, 10)
    time_machine.forward(3600)
    balances.end_stale_leases()  # before the process has renewed its leases
    meter.tick()
    served = 1 + sum(meter.reserve(KEY, 10) is not None for _ in range(50))
    time_machine.forward(-7200)
    balances.end_stale_leases()
    meter.tick()
    while meter.reserve(KEY, 10) is not None:
        served += 1
    lease = balances.LEASE_REQUESTS
    assert 100 <= served <= 100 + 2 * lease  # one lease for each jump at most


def test_unused_leases_are_given_back(this_shop):
    ticks = Clock()
    meter = Meter(ticks)
    balances.credit("1" * 64, KEY, 1000, clock.now() + DAY)
    meter.reserve(KEY, 10)
    other = Meter()
    with pytest.raises(Busy):
        other.reserve(KEY, 990)  # the rest is leased to the other process
    ticks.seconds += 3
    meter.tick()
    assert other.reserve(KEY, 990) == 0


def test_a_bundle_ends(this_shop, time_machine):
    balances.credit("1" * 64, KEY, 1000, clock.now() + DAY)
    time_machine.forward(DAY)
    assert Meter().reserve(KEY, 10) is None
    balances.tidy()
    assert not GateBalance.select().exists() and not GateCredited.select().exists()


def test_no_log_has_a_credential(box, wallet):
    credential = bought(box, wallet, "/calls/x")
    box.get("/calls/x", credential)
    log = box.folder / "gate.log"
    eventually(lambda: f'"token": "{token_id(credential)}"' in log.read_text())
    assert credential.partition(":")[2] not in box.logs
