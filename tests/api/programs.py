"""Programs that use the API with a hosting's credential, and checks for their answers."""

import secrets

from lightningspace.base import clock
from lightningspace.base.models import Account, Order, Service
from lightningspace.outside import l402
from lightningspace.outside.l402 import Rights
from lightningspace.rules import hostnames, services, tokens, wanted
from tests.conftest import work

API = "/api/v1"
SITE = "alice.shop.test"
GOOD = "battery staple"
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIB0NEtxcJ2O5pSNUEvSLhZqVgVn3Dq3JfHEtVxkS3gbq"
HOUR = {"duration": 1, "unit": "hours"}
TO_ALICE = {"destination": "alice@example.org"}
EVE = f"eve@{SITE}"
TIP = "7" * 32


class Program:
    """A program with a credential, or without one."""

    def __init__(self, client, credential: str | None):
        self._client = client
        self.headers = {"Authorization": f"L402 {credential}"} if credential else {}

    def __call__(self, method: str, path: str, body: dict | None = None, **headers):
        return self._client.open(
            API + path, method=method, json=body, headers=self.headers | headers
        )

    def get(self, path="/hosting"):
        return self("GET", path)

    def post(self, path, body=None):
        return self("POST", path, body)

    def patch(self, path, body):
        return self("PATCH", path, body)

    def delete(self, path="/hosting"):
        return self("DELETE", path)


def program(client, shop, account, *capabilities: str) -> Program:
    """A program with these capabilities for the account, or with all rights if none is named."""
    rights = Rights(frozenset(capabilities), None) if capabilities else l402.WHOLE
    token = tokens.hand_out(shop, account.id, f"of a test {secrets.token_hex(4)}", rights)
    return Program(client, tokens.text_of(shop, token))


def paid(client, wallet, worker, answer) -> Program:
    """Pay what a 402 asks for; return a program with the credential that this buys."""
    assert answer.status_code == 402, answer.text
    preimage = wallet.pay(answer.json["invoice"])["payment_preimage"]
    work(worker)
    return Program(client, f"{answer.json['macaroon']}:{preimage}")


def problem(answer) -> tuple[int, str]:
    assert answer.mimetype == "application/problem+json", answer.text
    return answer.status_code, answer.json["code"]


def wrong(answer) -> set[str]:
    """The fields of the request's body that the answer refuses."""
    assert problem(answer) == (400, "bad_request")
    return set(answer.json["errors"])


def row(kind, name=None) -> Service:
    name = name or {"site": SITE}.get(kind, "ls_alice")
    return Service.get((Service.kind == kind) & (Service.name == name))


def settings(kind, name=None) -> dict:
    return services.settings_of(row(kind, name))


def clean(account: Account, **facts) -> None:
    Account.update(facts).where(Account.id == account.id).execute()


def paid_tip(account, token=TIP, **facts) -> Order:
    """A tip that has taken effect."""
    paid = {"node_id": "a node", "pay_index": 1, "payment_hash": token, "received_msat": 5000}
    applied = {"bought_seconds": 5, "ends_at": account.expires_at + 5}
    applied |= dict.fromkeys(("placed_at", "expires_at", "paid_at", "applied_at"), clock.now())
    tip = {"kind": "topup", "door": "page", "space_mb": 100, "amount_msat": 5000}
    return Order.create(token=token, account=account.id, **tip | paid | applied | facts)


def fill(shop, account) -> None:
    """Use up the mail addresses that are included."""
    for number in range(4):
        name = f"more{number}@{hostnames.site_name(shop, account.username)}"
        wanted.add(shop, account.id, "forward", name, destination="alice@example.org")
