"""Real L402 clients buy in a paid area once, and again when their time is over."""

import pytest

from tests.l402_clients import Client, running  # noqa: F401
from tests.paidarea.test_gate import Area
from tests.paidarea.wallet import Wallet

# Clients that keep their credential, and buy again when it has expired.
REBUYING = ["l402-requests", "l402", "l402sdk", "fewsats"]


class Payer:
    """The stand-in wallet, with the method by which tests of clients pay."""

    def __init__(self, wallet: Wallet):
        self._wallet = wallet

    def pay(self, invoice: str) -> dict:
        return {"payment_preimage": self._wallet.pay(invoice)}


@pytest.fixture
def area(served):
    with Wallet() as wallet:
        area = Area(served([]), wallet)
        (area.files / "films.json").write_text('{"films": 12}')
        yield area


@pytest.fixture
def client(request, programs, area):
    client = Client(programs, request.param, area.url, Payer(area.wallet))
    yield client
    client.stop()


def films(client: Client) -> dict:
    return client.ask("GET", "index.php/films.json")


@pytest.mark.parametrize(
    "client", [*REBUYING, "lightning-tools", "alby-tools", "lsat-js"], indirect=True
)
def test_a_client_pays_once_for_three_downloads(client, area):
    for _ in range(3):
        answer = films(client)
        assert (answer["status"], answer["body"]) == (200, {"films": 12}), answer
    assert client.payments == area.made == 1


@pytest.mark.parametrize("client", REBUYING, indirect=True)
def test_a_client_pays_once_more_when_its_time_is_over(client, area):
    assert films(client)["status"] == 200
    (marker,) = (area.kept / "programs").iterdir()
    marker.write_text(f"{1:010d}{marker.read_text()[10:]}")  # as if it ended long ago
    for _ in range(2):
        assert films(client)["status"] == 200
    assert client.payments == 2
