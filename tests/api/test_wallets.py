"""Libraries of real wallets pay a Lightning Address, and log in."""

import hashlib
import json
import os
import subprocess

import pytest

from lightningspace.base.models import Account, Order
from lightningspace.rules import tips, wallets
from tests.conftest import ROOT, client_program, eventually, opened, with_settings

CLIENTS = ROOT / "tests" / "clients"
SHOP = "shop.example"
SAT = 1000


@pytest.fixture
def env(env, port, request):
    return env | {"PUBLIC_URL": f"http://127.0.0.1:{port}"} | getattr(request, "param", {})


@pytest.fixture
def start(app, port, alice, at_work):
    """Start a wallet's program beside a running shop. Returns a function that asks it."""
    started = []

    def start(*command, **env):
        program = subprocess.Popen(
            command,
            env=os.environ | env,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        started.append(program)

        def ask(**what):
            program.stdin.write(json.dumps(what) + "\n")
            program.stdin.flush()
            line = program.stdout.readline()
            assert line, "it has ended"
            return json.loads(line)

        return ask

    with opened(app, port):
        yield start
    for program in started:
        program.kill()
        program.communicate()


@pytest.fixture
def lnurl(start):
    return start(client_program("lnurl") / "bin" / "python", CLIENTS / "lnurl" / "client.py")


@pytest.fixture
def lightning_tools(start, port):
    modules = client_program("lightning-tools") / "node_modules"
    program = CLIENTS / "lightning-tools" / "address.cjs"
    return start("node", program, SHOP, f"http://127.0.0.1:{port}", NODE_PATH=str(modules))


def assert_tipped_once(alice, msat: int, message: str) -> None:
    [order] = Order.select().where(Order.kind == "topup")
    assert (order.door, order.received_msat, order.message) == ("address", msat, message)
    assert Account.get_by_id(alice.id).expires_at == alice.expires_at + order.bought_seconds


def is_applied() -> bool:
    return Order.select().where(Order.kind == "topup", Order.applied_at.is_null(False)).exists()


def test_lnurl_asks_pays_and_verifies(lnurl, this_shop, alice, wallet, node):
    address = tips.lnurl(this_shop, alice)
    told = lnurl(lnurl=address, msat=21_001, comment="Thank you")
    assert told["metadata"][1] == ["text/identifier", tips.lightning_address(this_shop, alice)]
    assert (told["msat"], told["is_of_metadata"], told["disposable"]) == (21_001, True, False)
    unpaid = {"status": "OK", "pr": told["pr"], "settled": False, "preimage": None}
    assert lnurl(verify=told["verify"]) == unpaid
    wallet.pay(told["pr"])
    eventually(is_applied)
    assert lnurl(verify=told["verify"]) == unpaid | {"settled": True}
    assert_tipped_once(alice, 21_001, "Thank you")


def test_lnurl_signs_to_be_linked_and_to_log_in(lnurl, this_shop, alice):
    def sign(action, seed="ab" * 32) -> tuple[str, dict]:
        k1 = wallets.new_k1(this_shop, action)
        return k1, lnurl(login=wallets.code(this_shop, action, k1).lnurl, seed=seed)

    k1, answer = sign(wallets.LINK)
    assert answer["status"] == "OK"
    wallets.link(this_shop, alice.id, k1, lambda: None)
    k1, answer = sign(wallets.LOGIN)
    assert answer["status"] == "OK"
    assert wallets.hostings(wallets.signer(k1)) == [alice]
    _, answer = sign(wallets.LOGIN, seed="cd" * 32)
    assert answer["status"] == "ERROR"
    assert "No hosting here" in answer["reason"]


def test_lnurl_is_told_the_reason_of_a_refusal(lnurl, this_shop, alice, node):
    address = tips.lnurl(this_shop, alice)
    assert "not in range" in lnurl(lnurl=address, msat=999, comment="")["error"]
    node.stop()
    down = "Our Lightning node does not answer. Please try again soon."
    assert lnurl(lnurl=address, msat=SAT, comment="")["error"].endswith(down)
    tips.switch(alice.id, tips_address=False)
    nobody = "Nobody of this name takes payments here."
    assert lnurl(lnurl=address, msat=SAT, comment="")["error"] == nobody


@with_settings(PUBLIC_URL=f"https://{SHOP}")
def test_lightning_tools_asks_pays_and_verifies(lightning_tools, this_shop, alice, wallet):
    address = tips.lightning_address(this_shop, alice)
    assert address == f"alice@{SHOP}"
    told = lightning_tools(address=address, satoshi=21, comment="Thank you")
    assert (told["min"], told["max"], told["commentAllowed"]) == (SAT, 1_000_000 * SAT, 140)
    assert (told["identifier"], told["satoshi"]) == (address, 21)
    metadata = tips.metadata(this_shop, alice).encode()
    assert told["metadataHash"] == hashlib.sha256(metadata).hexdigest()
    assert told["action"]["tag"] == "message"
    assert lightning_tools() == {"paid": False, "preimage": None}
    wallet.pay(told["pr"])
    eventually(is_applied)
    assert lightning_tools() == {"paid": True, "preimage": None}
    assert_tipped_once(alice, 21 * SAT, "Thank you")


@with_settings(PUBLIC_URL=f"https://{SHOP}")
def test_lightning_tools_sees_that_a_name_does_not_exist(lightning_tools):
    told = lightning_tools(address=f"bob@{SHOP}", satoshi=21)
    assert told == {"error": "Invalid pay service params"}
