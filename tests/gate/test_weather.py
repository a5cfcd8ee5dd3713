"""The gate behind gunicorn: two processes, kills, and a database or a shop that is away."""

import os
import signal
import subprocess
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from http.client import HTTPConnection, HTTPException
from urllib.parse import urlsplit

import psycopg
import pytest

from lightningspace.base import clock, models
from lightningspace.base.gate_models import GateBalance, GateLease
from lightningspace.base.models import transaction
from lightningspace.gate import balances
from lightningspace.outside import l402
from lightningspace.outside.l402 import Rights
from tests.conftest import DATABASE_KINDS, POSTGRESQL, eventually
from tests.gate.box import pay
from tests.gate.test_metering import GATE
from tests.programs import Program

# `make soak` makes more requests.
REQUESTS, CREDITS = (8000, 5003) if "SOAK" in os.environ else (600, 403)


@pytest.fixture
def gate_toml() -> str:
    return GATE


@pytest.fixture
def start(gate_folder, this_shop, env, tmp_path, app_port):
    """Start the shop behind gunicorn with some processes, where nginx looks for it."""
    started = []

    def start(processes: int) -> Program:
        command = ["gunicorn", "wsgi:app", "--threads", "4", "--workers", str(processes)]
        command += ["--bind", f"127.0.0.1:{app_port}"]
        its_env = {**env, "HOME": str(tmp_path), "PGAPPNAME": ITS_NAME}
        program = Program(command, its_env, tmp_path / "gunicorn")
        started.append(program)
        eventually(lambda: program.said.count("Booting worker") >= processes)
        return program

    yield start
    for program in started:
        program.kill()


def credential_for(this_shop, service: str, msat: int) -> str:
    """A credential of a paid bundle of `msat`."""
    until = clock.now() + 3600
    token_id = this_shop.keys.token_id(0)
    preimage = this_shop.keys.secret(token_id)
    caveats = l402.caveats(service, Rights(None, until), msat)
    macaroon = this_shop.keys.mint(sha256(preimage).digest(), token_id, caveats)
    return f"{macaroon}:{preimage.hex()}"


# Tells gunicorn's connections to PostgreSQL from those of the tests.
ITS_NAME = f"gate {os.getpid()}"


class Asker:
    """Asks the check itself, as nginx does, over connections that it keeps."""

    def __init__(self, port: int, credential: str):
        self._port = port
        self._headers = {
            "X-Gate-Service": "calls",
            "X-Gate-Method": "HEAD",  # so that a refusal makes no invoice
            "X-Forwarded-For": "192.0.2.1",
            "Authorization": f"L402 {credential}",
        }

    def served(self, requests: int) -> int:
        """How many requests were let pass; those told to come again are repeated."""
        connection, passed = HTTPConnection("127.0.0.1", self._port, timeout=20), 0
        for _ in range(requests):
            while True:
                try:
                    connection.request("GET", "/gate/check", headers=self._headers)
                    answer = connection.getresponse()
                    answer.read()
                except (OSError, HTTPException):  # the process was killed meanwhile
                    connection.close()
                    continue
                if answer.headers.get("X-Gate-Status") != "503":
                    break
            passed += answer.status == 204
        connection.close()
        return passed


@pytest.mark.each_database
def test_two_processes_serve_what_was_paid_for(start, this_shop, app_port):
    start(2)
    # A price of 1000 msat: see GATE.
    ask = Asker(app_port, credential_for(this_shop, "calls", CREDITS * 1000))
    with ThreadPoolExecutor(4) as askers:
        served = sum(askers.map(ask.served, [REQUESTS // 4] * 4))
    assert served == CREDITS
    eventually(lambda: not GateLease.select().exists(), 10)
    assert GateBalance.get().msat == 0


@pytest.mark.each_database
def test_a_kill_costs_a_lease_at_most_and_the_customer_nothing(start, this_shop, app_port):
    program = start(2)
    ask = Asker(app_port, credential_for(this_shop, "calls", 10 * CREDITS * 1000))
    with ThreadPoolExecutor(5) as askers:
        asking = [askers.submit(ask.served, REQUESTS // 4) for _ in range(4)]
        eventually(leasing)
        for child in workers_of(program):
            os.kill(child, signal.SIGKILL)
        killed = leasing()
        served = sum(each.result() for each in asking)
    assert served == REQUESTS
    eventually(lambda: leasing() <= killed, 10)  # living processes give their leases back
    GateLease.update(renewed_at=0).execute()
    balances.end_stale_leases()
    left = GateBalance.get().msat // 1000
    paid_for = 10 * CREDITS - left
    assert served - len(killed) * balances.LEASE_REQUESTS <= paid_for <= served


def leasing() -> set[str]:
    """The processes that hold a lease."""
    return {row.process for row in GateLease.select()}


def workers_of(program: Program) -> list[int]:
    found = subprocess.run(
        ["pgrep", "-P", str(program.pid)], capture_output=True, text=True, check=True
    )
    return [int(each) for each in found.stdout.split()]


def test_a_hanging_shop_is_given_up_and_a_shop_that_is_back_serves(
    start, gate_folder, wallet, this_shop
):
    program = start(1)
    gate_folder.start()
    try:
        credential = pay(wallet, gate_folder.get("/pass/x"))
        [worker] = workers_of(program)
        os.kill(worker, signal.SIGSTOP)
        hung = gate_folder.get("/pass/x", credential)
        assert (hung.status, hung.get("Retry-After")) == (503, "5")
        os.kill(worker, signal.SIGCONT)
        assert eventually(lambda: gate_folder.get("/pass/x", credential).status == 200)
        os.kill(worker, signal.SIGKILL)
        assert eventually(lambda: gate_folder.get("/pass/x", credential).status == 200)
    finally:
        gate_folder.stop()


@pytest.fixture
def with_both(start, gate_folder, wallet):
    """Start nginx and the shop; gives a credential with a bundle and a pass."""
    start(1)
    gate_folder.start()
    credential = pay(wallet, gate_folder.get("/calls/x"))
    yield pay(wallet, gate_folder.get("/pass/x", credential))
    gate_folder.stop()


def test_passes_go_on_while_the_database_hangs(with_both, gate_folder):
    assert gate_folder.get("/calls/x", with_both).status == 200
    eventually(lambda: not GateLease.select().exists(), 10)
    with ThreadPoolExecutor(5) as askers:
        with transaction():  # nobody else can write
            hung = [askers.submit(gate_folder.get, "/calls/x", with_both) for _ in range(5)]
            assert eventually(lambda: sum(each.done() for each in hung) >= 4, 10)
            assert gate_folder.get("/pass/x", with_both).status == 200
        assert sorted(each.result().status for each in hung) == [200] + [503] * 4


@pytest.mark.parametrize("database_kind", DATABASE_KINDS[1:], indirect=True)
def test_passes_go_on_while_the_database_is_away(with_both, gate_folder, config, database_url):
    name = urlsplit(database_url).path[1:]
    models.db.close()
    with psycopg.connect(POSTGRESQL, autocommit=True) as server:
        server.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS false')
        cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = %s"
        server.execute(cut, [ITS_NAME])
        try:
            away = gate_folder.get("/calls/x", with_both)
            assert (away.status, away.get("Retry-After")) == (503, "5")
            assert gate_folder.get("/pass/x", with_both).status == 200
        finally:
            server.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS true')
    assert eventually(lambda: gate_folder.get("/calls/x", with_both).status == 200, 10)
