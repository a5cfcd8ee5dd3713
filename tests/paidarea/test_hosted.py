"""A paid area that the shop puts on servers of real daemons, and checks there."""

import threading

import pytest
import requests
from werkzeug.serving import make_server

from lightningspace.base.models import Service
from lightningspace.rules import accounts, wanted
from tests.conftest import PANEL_PASSWORD, open_account, work
from tests.paidarea.test_servers import RELAY
from tests.rig import Rig
from tests.whole.test_walls import MODES, PanelOfRig

# Customers' programs on the server can reach few ports; this is one of those for FTP's data.
INSIDE = "40200"


@pytest.fixture(params=MODES)
def web(request):
    return request.param


@pytest.fixture
def panel(web):
    stand_in = PanelOfRig(password=PANEL_PASSWORD)
    stand_in.queue_seconds = 0
    stand_in.start()
    yield stand_in
    stand_in.stop()


@pytest.fixture
def rig(panel, web):
    with Rig(panel, web, hardening=True) as rig:
        panel.rig = rig
        yield rig
        panel.rig = None


@pytest.fixture
def env(env, rig, web, port):
    ftp = {"FTP_ADDRESSES": rig.address, "FTP_VERIFY_TLS": "false", "FTP_UPLOADS": "true"}
    at = {"PUBLIC_URL": f"http://127.0.0.1:{INSIDE}", "WEB_ADDRESSES": rig.address}
    return env | ftp | at | {"WALLS": MODES[web]}


@pytest.fixture
def shop_is_open(app, rig, port):
    """Open the shop where the server's PHP finds it, at the shop's own address."""
    outside = rig.box.address.rpartition(".")[0] + ".1"
    rig.box.background("python3", "-c", RELAY, outside, str(port), INSIDE)
    server = make_server(outside, port, app, threaded=True)
    serving = threading.Thread(target=server.serve_forever, args=(0.05,))
    serving.start()
    yield
    server.shutdown()
    serving.join()
    server.server_close()


def settle(worker, time_machine, rig, kind: str) -> Service:
    for _ in range(30):
        rig.apply()
        work(worker)
        row = Service.get_or_none(Service.kind == kind)
        if row is None or row.is_applied:
            return row
        time_machine.forward(16)
    raise AssertionError(row.error)


def test_an_area_is_put_on_sells_and_is_removed(
    this_shop, shop_is_open, rig, worker, wallet, time_machine
):
    account = open_account(this_shop, "alice")
    settle(worker, time_machine, rig, "tipjar")
    wanted.add(this_shop, account.id, "paidarea", "members", mode="site", price_sat=100)
    assert settle(worker, time_machine, rig, "paidarea").note is None

    def ask(**headers: str) -> requests.Response:
        url = f"http://{rig.address}/members/index.php/film.txt"
        return requests.get(url, headers={"Host": "alice.shop.test"} | headers, timeout=20)

    root = Service.get(kind="site")
    directory = f"/var/www/clients/client{Service.get(kind='client').panel_id}/web{root.panel_id}"
    film = f"{directory}/private/paid/members/film.txt"
    rig.box.shell(f"echo a film > {film}; chown --reference {directory}/private {film}")
    offer = ask()
    assert offer.status_code == 402, offer.text
    preimage = wallet.pay(offer.json()["invoice"])["payment_preimage"]
    paid = ask(Authorization=f"L402 {offer.json()['macaroon']}:{preimage}")
    assert (paid.status_code, paid.text) == (200, "a film\n")

    accounts.suspend(account.id)
    settle(worker, time_machine, rig, "site")
    wanted.remove(account.id, "paidarea", "members")
    assert settle(worker, time_machine, rig, "paidarea") is None
    accounts.resume(account.id)
    settle(worker, time_machine, rig, "site")
    rig.apply()
    assert ask().status_code == 404
    assert rig.box.read(film) == "a film\n"
