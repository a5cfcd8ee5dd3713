"""Other people's L402 clients at the gate pay once for what they use, and no more."""

import pytest

from tests.gate.test_metering import GATE
from tests.l402_clients import Client, running  # noqa: F401

THREE = ["calls", "pass", "jobs"]
# These keep one credential for each host, the others one for each address.
BY_HOST = ["lightning-tools", "l402", "lsat-js"]
EVERY_CLIENT = [*BY_HOST, "l402-requests", "l402sdk", "fewsats", "alby-tools"]


@pytest.fixture
def gate_toml() -> str:
    return GATE


@pytest.fixture(params=EVERY_CLIENT)
def client(request, programs, box, wallet):
    client = Client(programs, request.param, f"http://127.0.0.1:{box.port}/", wallet)
    yield client
    client.stop()


def test_it_uses_three_services_three_times_with_three_payments(client, box):
    for _ in range(3):
        for service in THREE:
            answer = client.ask("POST", f"{service}/x", {"some": "thing"})
            assert answer["status"] == 200, answer
            assert answer["body"]["length"] > 10  # the body arrived after the payment, too
    assert client.payments == 3
    ids = {headers["X-L402-Token-Id"] for _, _, headers, _ in box.behind.asked}
    # Clients that show their credential where another service is sold keep one token id.
    assert len(ids) == (1 if client.name in BY_HOST else 3)


# This one never pays again for an address that it has paid for.
PAYS_ONCE = "alby-tools"


def test_a_bundle_of_five_serves_twelve_requests_for_three_payments(client, box):
    statuses = [client.ask("POST", "calls/x", {"some": "thing"})["status"] for _ in range(12)]
    if client.name == PAYS_ONCE:
        assert statuses == [200] * 5 + [402] * 7 and client.payments == 1
        return
    assert statuses == [200] * 12
    assert client.payments == 3
