"""Real L402 clients buy from an open shop. None pays twice, and none pays for a mere look."""

import json
import os
import subprocess
import textwrap
import threading
from base64 import b64encode
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from lightningspace.base import clock
from lightningspace.base.models import Account, transaction
from lightningspace.rules import tokens
from lightningspace.sandbox.certificate import self_signed
from lightningspace.sandbox.ftp import SandboxFtp
from tests.conftest import ROOT, client_program, eventually, last_pay_index, opened, with_settings
from tests.l402_clients import Client, running  # noqa: F401

HOUR = {"duration": 1, "unit": "hours"}
WISH = {"space_mb": 100} | HOUR


@pytest.fixture
def env(env, port):
    return env | {"PUBLIC_URL": f"http://127.0.0.1:{port}"}


@pytest.fixture
def address(app, config, port):
    """The address at which the shop is open."""
    with opened(app, port):
        yield config.public_url


class Buyer(Client):
    """A client that buys a hosting."""

    def buy(self, wish: dict = WISH) -> dict:
        """Buy a hosting; returns it once it is ready."""
        bought = self.ask("POST", "hosting", wish)
        assert bought["status"] in (201, 202), bought
        return eventually(lambda: self.seen()["is_ready"] and self.seen())

    def seen(self) -> dict:
        answer = self.ask("GET", "hosting")
        assert answer["status"] in (200, 202), answer
        return answer["body"]


@pytest.fixture
def start(programs, address, wallet):
    """Start a client of the API by its name."""
    started = []

    def start(name: str) -> Buyer:
        started.append(Buyer(programs, name, f"{address}/api/v1/", wallet))
        return started[-1]

    yield start
    for client in started:
        client.stop()


# Clients that use one token for all requests here.
EXTENDING = ["l402-requests", "lightning-tools", "l402"]


BUYING = [*EXTENDING, "l402sdk"]


@pytest.fixture(params=BUYING)
def client(request, start, at_work):
    """A program with one of the clients, and a shop with its worker."""
    return start(request.param)


def revoke(username: str) -> None:
    """Void the receipt, as the owner's "new receipt" does."""
    with transaction():
        tokens.renew(Account.get(Account.username == username).id)


def is_refused(answer: dict) -> bool:
    """Whether it is a 401; lightning-tools says that our WWW-Authenticate has no challenge."""
    no_challenge = "No macaroon or token found in www-authenticate header"
    return answer.get("status") == 401 or answer.get("error") == no_challenge


@pytest.mark.parametrize("client", EXTENDING, indirect=True)
def test_a_client_buys_uses_and_extends_twice_with_three_payments(client, this_shop):
    hosting = client.buy()
    ends = [hosting["paid_until"]]
    assert client.payments == 1
    for _ in range(2):
        extended = client.ask("POST", "hosting/extend", HOUR)
        assert extended["status"] == 200, extended
        ends.append(extended["body"]["paid_until"])
        for _ in range(3):
            seen = client.seen()
            assert (seen["username"], seen["paid_until"]) == (hosting["username"], ends[-1])
    assert ends == sorted(set(ends))

    again = client.ask("POST", "hosting", WISH)
    assert (again["status"], again["body"]["username"]) == (201, hosting["username"])
    assert client.payments == 3
    assert last_pay_index(this_shop.node) == 3
    assert Account.select().count() == 1


@pytest.mark.parametrize("client", [*BUYING, "fewsats", "alby-tools", "lsat-js"], indirect=True)
def test_every_client_extends_what_is_sold_to_anybody_twice_with_three_payments(client, this_shop):
    hosting = client.buy()
    ends = [hosting["paid_until"]]
    for _ in range(2):
        given = client.ask("POST", f"hosting/{hosting['username']}/time", HOUR)
        assert given["status"] == 200, given
        ends.append(given["body"]["paid_until"])
        for _ in range(3):
            seen = client.seen()
            assert (seen["username"], seen["paid_until"]) == (hosting["username"], ends[-1])
    assert ends == sorted(set(ends))

    again = client.ask("POST", "hosting", WISH)
    assert (again["status"], again["body"]["username"]) == (201, hosting["username"])
    assert client.payments == 3
    assert last_pay_index(this_shop.node) == 3
    assert Account.select().count() == 1


def test_l402sdk_buys_once_and_pays_nothing_where_it_sends_no_token(start, at_work, this_shop):
    client = start("l402sdk")
    hosting = client.buy()
    # l402sdk keeps one token for each path, and takes none from its user.
    assert is_refused(client.ask("POST", "hosting/extend", HOUR))
    again = client.ask("POST", "hosting", WISH)
    assert (again["status"], again["body"]["username"]) == (201, hosting["username"])
    assert last_pay_index(this_shop.node) == 1


def test_a_client_with_a_revoked_credential_buys_again_and_pays_once(client, this_shop):
    first = client.buy()
    revoke(first["username"])
    assert is_refused(client.ask("GET", "hosting"))
    assert is_refused(client.ask("POST", "hosting/extend", HOUR))
    assert client.payments == 1

    second = client.buy()
    assert second["username"] != first["username"]
    assert client.seen()["username"] == second["username"]
    assert client.payments == 2
    assert last_pay_index(this_shop.node) == 2


@pytest.mark.parametrize("name", BUYING)
def test_a_payment_not_yet_recorded_is_not_made_twice(name, start, this_shop, request):
    client = start(name)
    assert client.ask("POST", "hosting", WISH)["status"] == 503
    request.getfixturevalue("at_work")
    assert client.buy()["is_ready"]
    assert client.payments == 1
    assert last_pay_index(this_shop.node) == 1


def test_without_a_credential_a_look_costs_nothing(client, this_shop):
    assert is_refused(client.ask("GET", "hosting"))
    assert client.ask("GET", "prices")["status"] == 200
    assert client.payments == 0
    assert last_pay_index(this_shop.node) == 0


def test_lightning_tools_pays_nothing_where_it_may_only_reuse(start, at_work, this_shop):
    client = start("lightning-tools")
    client.buy()
    assert client.ask("POST", "hosting/extend", HOUR, buys=False)["status"] == 402
    assert last_pay_index(this_shop.node) == 1


# -- the example of docs/api.md ----------------------------------------------------------

EXAMPLE = ROOT / "examples" / "pay_as_you_go.py"
FTP_HOST = "server.test"
# The example's surroundings: the address of the FTP server, and minutes that pass more quickly.
WORLD = """
import runpy, socket, sys, time
host, port, *sys.argv = sys.argv[1:]
connect, sleep = socket.create_connection, time.sleep
there = {(host, 21): ("127.0.0.1", int(port))}
socket.create_connection = lambda at, *args, **kwargs: connect(there.get(at, at), *args, **kwargs)
time.sleep = lambda seconds: sleep(seconds / 200)
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.fixture
def lnd(wallet):
    """The URL of an LND as l402-requests uses it to pay; the sandbox's wallet pays for it."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            assert (self.path, self.headers["Grpc-Metadata-macaroon"]) == (
                "/v2/router/send",
                "abcd",
            )
            paid = wallet.pay(asked["payment_request"])
            preimage = b64encode(bytes.fromhex(paid["payment_preimage"])).decode()
            answer = {"result": {"status": "SUCCEEDED", "payment_preimage": preimage}}
            self.send_response(200)
            self.end_headers()
            self.wfile.write(json.dumps(answer).encode())

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        serving = threading.Thread(target=server.serve_forever, args=(0.02,))
        serving.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        serving.join()


@pytest.fixture
def ftp(tmp_path, panel):
    """The panel's FTP server, which works some time after the panel has an account."""
    server = SandboxFtp(tmp_path / "www", panel, self_signed(tmp_path / "ftp.pem", FTP_HOST))
    server.start()
    yield server
    server.stop()


@pytest.fixture
def run_example(address, lnd, ftp, tmp_path):
    """Start the example for some hours with the wallet that its environment names."""
    python = client_program("l402-requests") / "bin" / "python"
    wallet = {"LND_REST_HOST": lnd, "LND_MACAROON_HEX": "abcd"}
    env = os.environ | wallet | {"SSL_CERT_FILE": str(tmp_path / "ftp.pem")}
    started = []

    def run_example(hours: int) -> subprocess.Popen:
        command = [python, "-c", WORLD, FTP_HOST, str(ftp.port), EXAMPLE, address, str(hours)]
        started.append(subprocess.Popen(command, cwd=tmp_path, env=env))
        return started[-1]

    yield run_example
    for example in started:
        example.kill()
        example.wait()


@with_settings(SERVER_HOSTS=FTP_HOST, PRICE_MSAT_PER_DAY="22000")
def test_the_example_extends_when_ten_minutes_are_left_and_lets_the_last_hour_run_out(
    run_example, at_work, this_shop, panel, time_machine, ftp, tmp_path, caplog
):
    caplog.set_level("INFO", "werkzeug")
    (tmp_path / "index.html").write_text("<h1>Paid by the hour</h1>")
    example = run_example(hours=3)
    eventually(lambda: Account.select().where(Account.ready_at.is_null(False)).exists())
    time_machine.forward(panel.seconds_to_go() + 1)
    (site,) = panel.made_sites()
    page = tmp_path / "www" / site.domain / "web" / "index.html"
    eventually(lambda: page.exists() and page.read_text() == "<h1>Paid by the hour</h1>")

    def left() -> int:
        return Account.get().expires_at - clock.now()

    def let_it_look() -> None:
        looks = caplog.text.count("GET /api/v1/hosting ")
        eventually(lambda: caplog.text.count("GET /api/v1/hosting ") > looks + 2)

    for paid in (1, 2):
        time_machine.forward(left() - 600)
        let_it_look()
        assert (left(), last_pay_index(this_shop.node)) == (600, paid)
        time_machine.forward(1)
        eventually(lambda: left() == 599 + 3600)
    assert example.wait(20) == 0
    assert last_pay_index(this_shop.node) == 3


def test_the_document_shows_the_example_as_it_is():
    indented = textwrap.indent(EXAMPLE.read_text(), "    ")
    assert f"\n\n{indented}\n" in (ROOT / "docs" / "api.md").read_text()
    assert len(EXAMPLE.read_text().splitlines()) < 32
