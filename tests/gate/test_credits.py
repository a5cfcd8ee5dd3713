"""A payment is credited once, however long its credential is shown, and only if made here."""

from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256

import pytest

from lightningspace.base import clock
from lightningspace.base.gate_models import GateBalance, GateCredited
from lightningspace.base.models import transaction
from lightningspace.gate import balances
from lightningspace.gate.meter import Meter
from lightningspace.outside import l402
from lightningspace.outside.l402 import Rights
from lightningspace.rules import clock_watch
from tests.gate.box import pay
from tests.gate.test_metering import DAY, GATE, bought, left, token_id


@pytest.fixture
def gate_toml() -> str:
    return GATE


@pytest.fixture
def in_another_process(own_app):
    """Go on as another process, which remembers nothing, after the worker has tidied."""

    def in_another_process():
        upkeep = own_app.extensions["gate_upkeep"]
        upkeep.meter.close()
        upkeep.meter = Meter()
        balances.tidy()

    return in_another_process


def narrowed(credential: str, *caveats: str) -> str:
    macaroon, _, preimage = credential.partition(":")
    return f"{l402.read(macaroon).narrowed(*caveats)}:{preimage}"


@pytest.mark.each_database
def test_a_credential_narrowed_in_time_brings_no_second_credit(
    box, wallet, own_app, time_machine, in_another_process
):
    credential = bought(box, wallet, "/calls/x")
    for served in range(1, 4):
        soon = narrowed(credential, f"calls_valid_until={clock.now() + 60}")
        assert box.get("/calls/x", soon).status == 200
        time_machine.forward(120)
        in_another_process()
        assert left(own_app) == 5000 - served * 1000


@pytest.mark.each_database
def test_an_expired_credential_brings_no_credit(
    box, wallet, own_app, time_machine, in_another_process
):
    first = bought(box, wallet, "/calls/x")
    assert box.get("/calls/x", first).status == 200
    time_machine.forward(300 * DAY)
    second = pay(wallet, box.ask("POST", "/gate/topup/calls", credential=first))
    assert token_id(second) == token_id(first)
    assert box.get("/calls/x", second).get("X-Gate-Balance") == "8000"
    time_machine.forward(70 * DAY)
    for _ in range(2):
        in_another_process()
        assert box.ask("POST", "/gate/topup/calls", credential=first).status == 402
        assert box.get("/calls/x", first).status == 402
        assert left(own_app) == 8000


def test_a_credential_of_another_key_leaves_no_row(box, subtests):
    keys, preimage = l402.Keys([b"a key of one's own"]), bytes(32)
    caveats = l402.caveats("calls", Rights(None, 1 << 62), 1 << 62)
    for more in ((), ("jobs_valid_until=never",), ("services=x y",)):
        macaroon = keys.mint(sha256(preimage).digest(), keys.token_id(0), caveats).narrowed(*more)
        credential = f"{macaroon}:{preimage.hex()}"
        with subtests.test(more=more):
            assert box.get("/calls/x", credential).status == 402
            cookies = {"Accept": "text/html", "Cookie": f"gate-calls={credential}"}
            assert box.ask("GET", "/gate/balance", None, cookies).status == 200
            assert box.ask("GET", "/gate/topup/calls", None, cookies).status == 402
            assert not GateCredited.select().exists() and not GateBalance.select().exists()


def test_an_unreadable_caveat_of_one_service_does_not_block_others(box, wallet):
    both = pay(wallet, box.get("/jobs/x", bought(box, wallet, "/calls/x")))
    odd = narrowed(both, "calls_valid_until=never")
    assert box.get("/jobs/x", odd).status == 200
    assert box.get("/calls/x", odd).status == 401
    odder = narrowed(both, "services=x y")
    assert box.get("/calls/x", odder).status == 401
    assert box.ask("POST", "/gate/topup/calls", credential=odder).status == 401


def test_a_clock_that_leaps_and_returns_brings_no_second_credit(this_shop, time_machine):
    key = ("5" * 64, "calls")
    clock_watch.wake()
    balances.credit("1" * 64, key, 5000, clock.now() + DAY)
    time_machine.forward(400 * DAY)
    clock_watch.wake()
    balances.tidy()
    time_machine.forward(-400 * DAY)
    assert not balances.credit("1" * 64, key, 5000, clock.now() + DAY)
    assert balances.left(key)[0] == 5000
    time_machine.forward(400 * DAY)
    clock_watch.wake()
    time_machine.forward(DAY)
    balances.tidy()
    assert not GateCredited.select().exists()


def test_an_empty_balance_is_refused_without_waiting_for_writers(this_shop):
    key = ("5" * 64, "calls")
    balances.credit("1" * 64, key, 5, clock.now() + DAY)
    with transaction(), ThreadPoolExecutor(1) as other:
        assert other.submit(Meter().reserve, key, 10).result(10) is None
