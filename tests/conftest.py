"""Fixtures: each test has a shop of its own, which talks to the sandbox over real sockets."""

import gc
import os
import re
import secrets
import shutil
import socket
import subprocess
import threading
import time
from collections import defaultdict, deque
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

import psycopg
import pytest
from flask import Flask
from jinja2 import BytecodeCache
from pyln.client import LightningRpc
from werkzeug.serving import make_server

from app import create_app
from lightningspace import shop
from lightningspace.base import clock, models, passwords
from lightningspace.base.config import Config, from_env
from lightningspace.base.models import Account, Fact, Order, Service
from lightningspace.base.prices import Terms
from lightningspace.base.tables import TABLES
from lightningspace.outside.node import Node
from lightningspace.pages import about
from lightningspace.panel import reconcile
from lightningspace.rules import orders, payments, progress, sessions, wanted
from lightningspace.sandbox.certificate import self_signed
from lightningspace.sandbox.dns import SandboxDns
from lightningspace.sandbox.ftp import SandboxFtp
from lightningspace.sandbox.mail import SandboxMail
from lightningspace.sandbox.node import SandboxNode
from lightningspace.sandbox.panel import SandboxPanel
from lightningspace.visitors.limits import Limits
from lightningspace.worker import Worker
from tests import quick  # noqa: F401

ROOT = Path(__file__).parent.parent
gc.disable()  # while tests are collected: there is next to no garbage

PANEL_PASSWORD = "sandbox-panel"
DEADLINE_SECONDS = 60
# What ends by itself ends sooner, on a busy machine too; what hangs does not.
SOON_SECONDS = 8

# A server where tests may create databases; tests/with-postgresql starts one.
POSTGRESQL = os.environ.get("TEST_POSTGRESQL_URL") or None
NO_POSTGRESQL = "PostgreSQL is not tested: TEST_POSTGRESQL_URL is not set (README, Tests)"


def eventually(question, seconds: float = DEADLINE_SECONDS):
    """Ask again and again, and return the first true answer; fail if there is none in time.

    The longer it takes, the less often it is asked, since asking costs time, too.
    """
    begun = time.monotonic()
    while not (answer := question()):
        waited = time.monotonic() - begun
        assert waited < seconds, f"still not: {question}"
        time.sleep(max(0.02, waited / 10))
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
def mails():
    """A mail server; `with_mail` marks a test whose shop sends there."""
    stand_in = SandboxMail()
    stand_in.start()
    yield stand_in
    stand_in.stop()


@pytest.fixture
def shop_with_mail(mails, more_settings):
    more_settings["SMTP_URL"] = mails.url


with_mail = pytest.mark.usefixtures("shop_with_mail")


@pytest.fixture
def dns():
    """A name server; the setting `dns_servers(dns)` makes a shop ask it."""
    stand_in = SandboxDns()
    stand_in.start()
    yield stand_in
    stand_in.stop()


@pytest.fixture(scope="session")
def empty_dns():
    """The name server of every shop that has no other: no name leads anywhere."""
    stand_in = SandboxDns()
    stand_in.start(look_seconds=1)  # stopped once, at the end of the session
    yield stand_in
    stand_in.stop()


@pytest.fixture
def ftp_server(tmp_path, panel):
    """The FTP server of the panel's sites; `with_ftp` marks a test whose shop uploads to it."""
    panel.queue_seconds = 0
    certificate = self_signed(tmp_path / "ftp.pem")
    stand_in = SandboxFtp(tmp_path / "www", panel, certificate)
    stand_in.start()
    yield stand_in
    stand_in.stop()


@pytest.fixture
def shop_with_ftp(ftp_server, tmp_path, more_settings):
    more_settings["FTP_UPLOADS"] = "true"
    more_settings["FTP_ADDRESSES"] = ftp_server.address
    more_settings["FTP_VERIFY_TLS"] = str(tmp_path / "ftp.pem")


with_ftp = pytest.mark.usefixtures("shop_with_ftp")


def dns_servers(dns: SandboxDns) -> dict[str, str]:
    return {"DNS_SERVERS": dns.address.replace("#", ":")}


@pytest.fixture
def wallet(node, tmp_path):
    """A customer's wallet: `wallet.pay(bolt11)`."""
    return LightningRpc(str(tmp_path / "wallet-rpc"))


def pytest_terminal_summary(terminalreporter):
    if POSTGRESQL is None:
        terminalreporter.write_line(NO_POSTGRESQL, yellow=True)


DATABASE_KINDS = ["sqlite", "postgresql"] if POSTGRESQL else ["sqlite"]


def pytest_generate_tests(metafunc):
    """Run tests on SQLite; those marked `each_database` on each kind."""
    is_marked = metafunc.definition.get_closest_marker("each_database")
    if is_marked and "database_kind" in metafunc.fixturenames:
        metafunc.parametrize("database_kind", DATABASE_KINDS, indirect=True)


@pytest.fixture
def database_kind(request) -> str:
    return getattr(request, "param", "sqlite")


# The files that take longest, in groups that share daemons or a browser and so begin in one
# process. Two of the four groups wait most of the time, and leave the processors to the others.
LONGEST = (
    ("whole/test_walls.py", "whole/test_rig.py", "whole/test_commands.py"),
    (
        "whole/test_killed.py",
        "deploy/test_deploy.py",
        "paidarea/test_hosted.py",
        "paidarea/test_servers.py",
    ),
    ("whole/test_browser.py", "whole/test_accessible.py", "whole/test_clients.py"),
    ("api/test_openapi.py", "whole/test_stateful.py", "whole/test_growth.py"),
)


def pytest_collection_modifyitems(items):
    """Let each process begin with some of the longest files.

    xdist gives each process an equal part of the list. A process that is done takes tests from the
    end of another's part.
    """
    of_file = defaultdict(list)
    for item in items:
        of_file[item.nodeid.partition("::")[0]].append(item)
    heads = [[] for _ in range(int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", 1)))]
    for place, names in enumerate(LONGEST):
        for name in names:
            heads[place % len(heads)] += of_file.pop(f"tests/{name}", [])
    others = chain.from_iterable(of_file.values())
    total, ordered = len(items), []
    for place, head in enumerate(heads):
        size = (total - len(ordered)) // (len(heads) - place)
        ordered += [*head, *islice(others, max(0, size - len(head)))]
    items[:] = ordered


def pytest_collection_finish():
    """What exists now stays, so the garbage collector need not look through it again and again."""
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)
    gc.enable()


@pytest.fixture
def empty_database_url(database_kind, tmp_path, request):
    """A database for the test alone, without tables."""
    if database_kind == "postgresql":
        return request.getfixturevalue("empty_postgresql")("empty")
    return f"sqlite:///{tmp_path / 'shop.sqlite3'}"


@pytest.fixture
def database_url(database_kind, tmp_path, request):
    """A database for the test alone, with the shop's tables, all empty."""
    if database_kind == "postgresql":
        return request.getfixturevalue("cleared_postgresql")()
    shutil.copyfile(request.getfixturevalue("tables"), tmp_path / "shop.sqlite3")
    return f"sqlite:///{tmp_path / 'shop.sqlite3'}"


@pytest.fixture
def more_settings() -> dict[str, str]:
    """Settings to which stand-ins add theirs before the shop is built."""
    return {"FTP_UPLOADS": "false"}


@pytest.fixture
def env(tmp_path, node, panel, database_url, empty_dns, more_settings, request) -> dict[str, str]:
    """The settings of the shop under test, as environment variables; `with_settings` adds some."""
    settings = {
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
        **dns_servers(empty_dns),
    }
    return settings | more_settings | getattr(request, "param", {})


@pytest.fixture
def config(env, tmp_path) -> Config:
    return from_env(env, tmp_path)


class CompiledTemplates(BytecodeCache):
    """Shares compiled templates between tests: compiling takes a quarter of a page test's time."""

    def __init__(self):
        self._compiled = {}

    def load_bytecode(self, bucket):
        if bucket.key in self._compiled:
            bucket.bytecode_from_string(self._compiled[bucket.key])

    def dump_bytecode(self, bucket):
        self._compiled[bucket.key] = bucket.bytecode_to_string()


COMPILED_TEMPLATES = CompiledTemplates()


@pytest.fixture(scope="session")
def tables(tmp_path_factory) -> Path:
    """An SQLite file with the shop's tables: copying it is quicker than creating them."""
    path = tmp_path_factory.mktemp("tables") / "shop.sqlite3"
    models.open_database(f"sqlite:///{path}")
    models.init_db()
    models.db.close()
    return path


@pytest.fixture
def this_shop(config):
    """The shop without its pages, which is all that most tests need; the others use `app`."""
    models.open_database(config.database_url)
    built = shop.build(config)
    shop.settle_in(built)
    yield built
    models.db.close()


@pytest.fixture
def own_app(config, this_shop) -> Flask:
    """An app for this test alone, which may add pages to it."""
    return make_app(config, this_shop)


def make_app(config: Config, this_shop: shop.Shop) -> Flask:
    models.db.close()
    app = create_app(config)
    app.jinja_env.bytecode_cache = COMPILED_TEMPLATES
    app.extensions["shop"] = this_shop
    return app


APPS: dict[tuple, Flask] = {}


@pytest.fixture
def app(config, this_shop) -> Flask:
    """The pages. Tests share an app, since building one takes longer than most tests; the shop in
    it, with its settings and its database, is the test's own.
    """
    # Settings that an app reads only when it is built.
    key = (config.secret_key, config.secret_key_fallbacks, config.is_https, config.proxy_hops)
    if key not in APPS:
        APPS[key] = make_app(config, this_shop)
    app = APPS[key]
    app.extensions["shop"] = this_shop
    app.extensions["limits"] = Limits(config.rate_limit_storage)
    app.jinja_env.globals["about"].update(about.facts(config))
    return app


@pytest.fixture
def client(app):
    return app.test_client()


@pytest.fixture
def runner(app):
    return app.test_cli_runner()


class WorkerByHand(Worker):
    """Does its rounds when a test says so (`work`), in the test's thread."""

    def __init__(self, its_shop: shop.Shop):
        super().__init__(its_shop)
        self.shop = its_shop.for_worker()


@pytest.fixture
def worker(this_shop):
    return WorkerByHand(this_shop)


@pytest.fixture
def port():
    return free_port()


PORTS_GIVEN: deque[int] = deque(maxlen=100)


def free_port() -> int:
    """A free port, with two free ports after it, for the sandbox's sites and gate.

    It is random, and outside the range that the kernel hands out, so that nobody else takes it. It
    is not returned again soon: a test may ask for several before it opens them.
    """
    while True:
        port = 10_000 + 3 * secrets.randbelow(7_000)
        if port in PORTS_GIVEN:
            continue
        with ExitStack() as probes:
            try:
                for beside in range(3):
                    probe = probes.enter_context(socket.socket())
                    probe.bind(("127.0.0.1", port + beside))
            except OSError:
                continue
            PORTS_GIVEN.append(port)
            return port


def opened(app, port: int):
    """Serve the shop's pages at a port."""
    return opened_at("127.0.0.1", app, port)


@contextmanager
def opened_at(host: str, app, port: int = 0):
    """Serve an app; yields the server. `host`: an address, or "unix:///path" for a socket."""
    server = make_server(host, port, app, threaded=True)
    serving = threading.Thread(target=server.serve_forever, args=(0.05,))
    serving.start()
    try:
        yield
    finally:  # or its thread would keep pytest from exiting
        server.shutdown()
        serving.join()
        server.server_close()


@pytest.fixture
def at_work(this_shop):
    """A worker that runs by itself, in its own thread."""
    worker = Worker(this_shop)
    working = threading.Thread(target=worker.run)
    working.start()
    yield
    worker.stop()
    working.join()


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


# The calls after the login that open an account, in order.
OPENING = (
    "client_add",
    "client_update",
    "client_get",
    "sites_web_domain_add",
    "sites_web_domain_update",
    "sites_web_domain_get",
    "sites_ftp_user_add",
    "sites_ftp_user_get",
    "sites_database_user_add",
    "sites_database_user_get",
    "sites_database_add",
    "sites_database_get",
    "mail_domain_add",
    "mail_domain_get",
    "mail_user_add",
    "mail_user_get",
    "sites_shell_user_add",
    "sites_shell_user_get",
)


def record_payments(worker: Worker) -> None:
    """Record everything that the node has been paid so far."""
    while worker.follow_payments(seconds=0):
        pass


def last_pay_index(node: Node) -> int:
    """The newest pay_index that the node has given; 0: none yet."""
    last = 0
    while payment := node.wait_for_payment(last, 0):
        last = payment.pay_index
    return last


def work(worker: WorkerByHand) -> None:
    """Do one round of the worker, in this thread: record, apply, reconcile what is due."""
    record_payments(worker)
    for due in payments.due():
        payments.apply(worker.shop, due.token)
    for account_id in reconcile.due_accounts():
        reconcile.account(worker.shop, account_id)


@pytest.fixture(scope="session")
def password_hash():
    """The hash of "correct horse": it takes as long as all the rest of making an account."""
    return passwords.make_hash("correct horse")


class Opened:
    """What opening alice's account leaves in the database and at the panel.

    It is made once per process and restored for other tests, since making it takes longer than most
    of them. The clock stands still while it is made, so that all its times are the same.
    """

    kept: dict[tuple, "Opened"] = {}

    def __init__(self, panel: SandboxPanel):
        self._moment = clock.now()
        self._panel, self._calls = panel.snapshot(), list(panel.calls)
        # Kept as text: serializing it for each test would take longest of all.
        rows = {table: list(table.select().dicts()) for table in (Account, Service)}
        self._inserts = [table.insert_many(rows[table]).sql() for table in rows]

    def repeat(self, panel) -> None:
        later = clock.now() - self._moment
        panel.go_back(self._panel, later)
        panel.calls = list(self._calls)
        with models.transaction():
            for sql, values in self._inserts:
                models.db.execute_sql(sql, [_shifted(value, later) for value in values])


def _shifted(value, seconds: int):
    """The value, that many seconds later: every number as large as a time counts as a time."""
    return value + seconds if type(value) is int and value > 10**9 else value


@contextmanager
def still_clock():
    moment = clock.now()
    source = clock.set_source(lambda: moment)
    yield
    clock.set_source(source)


@pytest.fixture
def alice(this_shop, panel, password_hash) -> Account:
    """An account that is paid for and ready. The test's shop has not logged in at the panel yet."""
    config = this_shop.config
    key = (
        config.database_url.partition(":")[0],
        config.base_domain,
        config.panel_prefix,
        config.walls,
        config.tip_jars,
        config.ftp_uploads,
        panel.queue_seconds,
        str(panel.job_seconds),
    )
    is_bare = not panel.calls and not panel.delays and not Account.select().exists()
    opened = Opened.kept.get(key) if is_bare else None
    if opened:
        opened.repeat(panel)
        return Account.get()
    with still_clock():
        other = shop.build(config)
        account = open_account(other, "alice", password_hash=password_hash)
        reconcile.account(other, account.id)
        if is_bare and Account.get_by_id(account.id).ready_at:
            Opened.kept[key] = Opened(panel)
    return Account.get_by_id(account.id)


def open_account(
    this_shop, username: str, password: str = "correct horse", password_hash: str = "of no use"
) -> Account:
    """Open an account as a paid order does: everything is wanted, and the panel has nothing yet."""
    with models.transaction():
        account = Account.create(
            id=secrets.token_hex(8),
            username=username,
            server=1,
            space_mb=100,
            password_hash=password_hash,
            opened_at=clock.now(),
            expires_at=clock.now() + 90 * 86400,
            valued_at=clock.now(),
            value_msat=90 * 7000,
            calendar_at=clock.now(),
        )
        wanted.want_all(this_shop, account, password)
    return account


def let_the_server_follow(until: int | None = None) -> None:
    """Note that the server's queue was seen empty, now or `until` a moment."""
    name, queue = progress.QUEUE.format(id=1), progress.queue_of(1)
    queue.take_for_done(until or clock.now() + 1)
    Fact.insert(name=name, value=str(queue)).on_conflict(
        conflict_target=[Fact.name], update={"value": str(queue)}
    ).execute()


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


def enter(client, account: Account):
    """Log in without the password, which would take long to check."""
    secret, _ = sessions.begin(account, clock.now())
    with client.session_transaction() as session:
        session["_user_id"] = secret
    return client


def log_in(client, username: str, password: str, **kwargs):
    tokens = {"csrf_token": csrf_token(client.get("/login").text)}
    fields = {"username": username, "password": password}
    return client.post("/login", data=tokens | fields, **kwargs)


# -- programs from Debian's packages and `make clients` ------------------------------


def debian_program(program: str, package: str) -> str:
    """The path of a program; without it the test skips and names the Debian package."""
    found = shutil.which(program)
    if found is None:
        pytest.skip(f"needs {program}: apt-get install {package}")
    return found


def client_program(name: str) -> Path:
    """The environment that `make clients` has built for a third-party program: a venv, or a
    directory with node_modules. Without it the test skips.
    """
    built = ROOT / ".clients" / name
    if not (built / "ready").exists():
        pytest.skip(f"needs {name}: make clients")
    return built


@pytest.fixture(scope="session")
def empty_postgresql():
    """Gives the URL of an empty PostgreSQL database: `empty_postgresql("shop")`.

    There is one database for each name and pytest process, emptied each time: that takes 10 ms, a
    CREATE DATABASE 100 ms.
    """
    if POSTGRESQL is None:
        pytest.skip(NO_POSTGRESQL)
    own = f"shop_test_{secrets.token_hex(4)}"
    with psycopg.connect(POSTGRESQL, autocommit=True) as server, ExitStack() as databases:
        inside = {}

        def empty(name: str) -> str:
            url = re.sub("(//[^/]*)/[^?]*", rf"\1/{own}_{name}", POSTGRESQL, count=1)
            if name not in inside:
                server.execute(f"CREATE DATABASE {own}_{name}")
                databases.callback(server.execute, f"DROP DATABASE {own}_{name} WITH (FORCE)")
                inside[name] = databases.enter_context(psycopg.connect(url, autocommit=True))
            end_others(inside[name])
            inside[name].execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
            return url

        yield empty


@pytest.fixture(scope="session")
def cleared_postgresql(empty_postgresql):
    """Gives the URL of a PostgreSQL database with the shop's tables, as if they were just made.

    Making them takes ten times as long as deleting their rows. Tests must not change them.
    """
    url = empty_postgresql("shop")
    models.open_database(url)
    models.init_db()
    models.db.close()
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("SET session_replication_role = replica")  # ignore foreign keys
        facts = connection.execute("SELECT name, value FROM facts").fetchall()
        deletes = "; ".join(f"DELETE FROM {table._meta.table_name}" for table in TABLES)

        def clear() -> str:
            end_others(connection)
            connection.execute(deletes)
            connection.cursor().executemany("INSERT INTO facts VALUES (%s, %s)", facts)
            return url

        yield clear


def end_others(connection: psycopg.Connection) -> None:
    """End the connections of killed programs to this database: their locks would block us."""
    connection.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )


class PgBouncer:
    """PgBouncer in front of a database: each transaction may get another connection.

    `url`: the database, through PgBouncer.
    """

    def __init__(self, directory: Path, direct_url: str):
        self._program = debian_program("pgbouncer", "pgbouncer")
        self._settings = directory / "pgbouncer.ini"
        direct, port = urlsplit(direct_url), free_port()
        self.url = f"postgresql://{direct.username}@127.0.0.1:{port}{direct.path}"
        where = {"user": direct.username, "password": direct.password}
        where |= {"host": direct.hostname, "port": direct.port, **dict(parse_qsl(direct.query))}
        server = " ".join(f"{name}={value}" for name, value in where.items() if value)
        self._settings.write_text(
            f"[databases]\n* = {server}\n"
            f"[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\n"
            "auth_type = any\npool_mode = transaction\ndefault_pool_size = 2\n"
            + ("user = postgres\n" if os.getuid() == 0 else "")  # it refuses to run as root
        )

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.stop()

    def start(self) -> None:
        command = [self._program, self._settings]
        self._running = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        eventually(self._is_open)

    def stop(self) -> None:
        """End it at once, as if it were killed."""
        self._running.kill()
        self._running.wait()

    def _is_open(self) -> bool:
        try:
            psycopg.connect(self.url).close()
        except psycopg.OperationalError:
            return False
        return True


# -- settings of single tests, and simultaneous calls -------------------------------------


def with_settings(**settings: str):
    """A mark for tests whose shop has these settings, too."""
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
