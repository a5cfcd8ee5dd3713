"""A shop of its own for each test, over the sandbox's real sockets."""

import os
import re
import secrets
import shutil
import subprocess
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest
from pyln.client import LightningRpc

from app import create_app
from lightningspace import clock, hosting, models, orders, shop
from lightningspace.config import Config, from_env
from lightningspace.models import Account, Order
from lightningspace.prices import Terms
from lightningspace.sandbox.node import SandboxNode
from lightningspace.sandbox.panel import SandboxPanel
from lightningspace.worker import Worker

PANEL_PASSWORD = "sandbox-panel"
DEADLINE_SECONDS = 20


def eventually(question, seconds: float = DEADLINE_SECONDS):
    """The first true answer to `question`; fails when there is none in time."""
    deadline = time.monotonic() + seconds
    while not (answer := question()):
        assert time.monotonic() < deadline, f"still not: {question}"
        time.sleep(0.02)
    return answer


@pytest.fixture(autouse=True)
def real_time():
    yield
    clock.set_source(None)


@dataclass
class SetClock:
    """A clock that stands still until a test moves it."""

    moment: float

    def forward(self, seconds: float) -> None:
        self.moment += seconds


@pytest.fixture
def time_machine():
    machine = SetClock(time.time())
    clock.set_source(lambda: machine.moment)
    return machine


@pytest.fixture
def node(tmp_path):
    stand_in = SandboxNode(tmp_path / "lightning-rpc", tmp_path / "wallet-rpc")
    stand_in.start()
    yield stand_in
    stand_in.stop()


@pytest.fixture
def panel():
    stand_in = SandboxPanel(password=PANEL_PASSWORD)
    stand_in.start()
    yield stand_in
    stand_in.stop()


@pytest.fixture
def wallet(node, tmp_path):
    """A customer's wallet: `wallet.pay(bolt11)`."""
    return LightningRpc(str(tmp_path / "wallet-rpc"))


@pytest.fixture
def database_kind():
    """Modules whose tests run on both databases override it."""
    return "sqlite"


@pytest.fixture
def database_url(database_kind, tmp_path, request):
    if database_kind == "postgresql":
        return request.getfixturevalue("postgresql_url")
    return f"sqlite:///{tmp_path / 'shop.sqlite3'}"


@pytest.fixture
def env(tmp_path, node, panel, database_url) -> dict[str, str]:
    """The settings of the shop under test, as environment variables."""
    return {
        "PUBLIC_URL": "http://localhost",
        "BASE_DOMAIN": "shop.test",
        "DATABASE_URL": database_url,
        "SECRET_KEY": "a key of the tests that is long enough",
        "LIGHTNING_RPC": str(tmp_path / "lightning-rpc"),
        "PANEL_URL": panel.url,
        "PANEL_USER": "shop",
        "PANEL_PASSWORD": PANEL_PASSWORD,
        "CAPACITY_MB": "100000",
        "UNPAID_PER_CLIENT": "1000",
    }


@pytest.fixture
def config(env, tmp_path) -> Config:
    return from_env(env, tmp_path)


@pytest.fixture
def app(config):
    app = create_app(config)
    models.init_db()
    shop.settle_in(app.extensions["shop"])
    yield app
    models.db.close()


@pytest.fixture
def this_shop(app):
    return app.extensions["shop"]


@pytest.fixture
def client(app):
    return app.test_client()


@pytest.fixture
def runner(app):
    return app.test_cli_runner()


@pytest.fixture
def worker(this_shop):
    return Worker(this_shop)


def wish(**changes) -> orders.Wish:
    """What alice's browser asks for: 100 MB for three months."""
    asked = {
        "terms": Terms(100, 3, "months"),
        "username": None,
        "email": None,
        "password": None,
        "browser": "alice's browser",
        "client": "192.0.2.1",
        "form_id": secrets.token_hex(8),
    }
    return orders.Wish(**(asked | changes))


@pytest.fixture
def order(this_shop) -> Order:
    return orders.place(this_shop, wish(username="alice", password="correct horse"))


# The calls that open an account after the login, in their order.
OPENING = (
    "client_add",
    "client_update",
    "client_get",
    "sites_web_domain_add",
    "sites_web_domain_update",
    "sites_web_domain_get",
    "sites_ftp_user_add",
    "sites_ftp_user_get",
    "sites_shell_user_add",
    "sites_shell_user_get",
    "sites_database_user_add",
    "sites_database_user_get",
    "sites_database_add",
    "sites_database_get",
    "mail_domain_add",
    "mail_domain_get",
    "mail_user_add",
    "mail_user_get",
)


def record_payments(worker: Worker) -> None:
    """Everything that the node has been paid so far."""
    while worker.follow_payments(seconds=0):
        pass


def work(worker: Worker) -> None:
    """One round of the worker, in this thread: record, apply, reconcile what is due now."""
    record_payments(worker)
    for due in orders.due():
        orders.apply(worker._shop, due.token)
    for account_id in hosting.due_accounts():
        hosting.reconcile(worker._shop, account_id)


@pytest.fixture
def alice(order, wallet, worker) -> Account:
    """An account that is paid for and ready."""
    wallet.pay(order.bolt11)
    work(worker)
    return Account.get(Account.username == "alice")


# -- talking to the pages ------------------------------------------------------------


def csrf_token(page: str) -> str:
    return re.search(r'name="csrf_token"[^>]*value="([^"]+)"', page)[1]


def form_id(page: str) -> str:
    return re.search(r'name="form_id"[^>]*value="([^"]+)"', page)[1]


def order_form(page: str, **fields) -> dict[str, str]:
    """The front page's form as a browser sends it; a field given as None is missing."""
    form = {"csrf_token": csrf_token(page), "form_id": form_id(page)}
    form |= {"space_mb": "100", "duration": "3", "unit": "months"} | fields
    return {name: value for name, value in form.items() if value is not None}


def place_order(client, follow_redirects=False, **fields):
    """Fill in the order form as a browser does, and send it."""
    form = filled_form(client, **fields)
    return client.post("/orders", data=form, follow_redirects=follow_redirects)


def log_in(client, username: str, password: str, **kwargs):
    tokens = {"csrf_token": csrf_token(client.get("/login").text)}
    fields = {"username": username, "password": password}
    return client.post("/login", data=tokens | fields, **kwargs)


# -- what Debian's packages bring ----------------------------------------------------


def debian_program(program: str, package: str) -> str:
    """The path of a program; without it the test skips and names the Debian package."""
    found = shutil.which(program) or next(
        map(str, sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{program}"))), None
    )
    if found is None:
        pytest.skip(f"needs {program}: apt-get install {package}")
    return found


@pytest.fixture(scope="session")
def postgresql():
    """The URL of a private PostgreSQL server; `{name}` in it stands for a database's name."""
    initdb = debian_program("initdb", "postgresql")
    control = str(Path(initdb).with_name("pg_ctl"))
    # Not below pytest's own directory: only its user may enter that, and root's is not postgres.
    directory = Path(tempfile.mkdtemp(prefix="shop-postgresql-"))
    as_user = []
    if os.geteuid() == 0:  # PostgreSQL refuses to run as root
        shutil.chown(directory, "postgres")
        as_user = ["runuser", "-u", "postgres", "--"]

    def run(*command):
        subprocess.run([*as_user, *command], check=True, capture_output=True, cwd="/")

    data = directory / "data"
    options = f"-c listen_addresses= -c unix_socket_directories={directory} -c fsync=off"
    run(initdb, "-D", data, "-A", "trust", "-U", "shop", "-E", "UTF8")
    run(control, "-D", data, "-o", options, "-l", directory / "log", "-w", "start")
    yield f"postgresql://shop@/{{name}}?host={directory}"
    run(control, "-D", data, "-m", "immediate", "stop")
    shutil.rmtree(directory)


@pytest.fixture
def postgresql_url(postgresql):
    """An empty PostgreSQL database of the test's own."""
    name = f"t{secrets.token_hex(6)}"
    with psycopg.connect(postgresql.format(name="postgres"), autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    return postgresql.format(name=name)


# -- settings of single tests, and many browsers at once ------------------------------


def with_settings(**settings: str):
    """A mark: the test's shop has these settings too. Its module's `env` takes request.param."""
    return pytest.mark.parametrize("env", [settings], indirect=True, ids=[""])


def filled_form(client, **fields) -> dict[str, str]:
    """The order form as `client` would send it."""
    return order_form(client.get("/").text, **fields)


def at_once(*calls):
    """The answers of calls that start in the same instant, each in a thread of its own."""
    start = threading.Barrier(len(calls))

    def run(call):
        start.wait()
        try:
            return call()
        finally:
            models.db.close()

    with ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(run, calls))


def invoices_asked_for(node) -> int:
    return len({params["label"] for method, params in node.calls if method == "invoice"})
