"""The API for programs: buying and extending with nothing but a wallet."""

import pytest

from tests.conftest import invoices_asked_for, work

pytestmark = pytest.mark.any_database

HOUR = {"duration": 1, "unit": "hours"}
WISH = {"space_mb": 100} | HOUR


def paid(wallet, worker, answer) -> dict[str, str]:
    """Pay what a 402 asks for; the header that proves it."""
    assert answer.status_code == 402, answer.text
    preimage = wallet.pay(answer.json["invoice"])["payment_preimage"]
    work(worker)
    return {"Authorization": f"L402 {answer.json['macaroon']}:{preimage}"}


def test_a_program_buys_and_extends(client, node, wallet, worker):
    receipt = paid(wallet, worker, client.post("/api/v1/hosting", json=WISH))
    bought = client.post("/api/v1/hosting", json=WISH, headers=receipt)
    assert bought.status_code == 201
    ends = [bought.json["paid_until"]]
    token = receipt
    for _ in range(2):
        token = paid(
            wallet, worker, client.post("/api/v1/hosting/extend", json=HOUR, headers=token)
        )
        extended = client.post("/api/v1/hosting/extend", json=HOUR, headers=token)
        assert extended.status_code == 200
        ends.append(extended.json["paid_until"])
        for header in (token, receipt):
            seen = client.get("/api/v1/hosting", headers=header)
            assert (seen.status_code, seen.json["paid_until"]) == (200, ends[-1])
    assert ends == sorted(set(ends))
    assert invoices_asked_for(node) == 3


def test_what_sells_nothing_mints_nothing(client, node):
    answer = client.get("/api/v1/hosting")
    assert answer.status_code == 401
    assert answer.headers.getlist("WWW-Authenticate") == ["L402"]
    assert client.post("/api/v1/hosting/extend", json=HOUR).status_code == 401
    assert client.get("/api/v1/prices").status_code == 200
    assert invoices_asked_for(node) == 0
