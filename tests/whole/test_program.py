"""`python app.py`: the whole shop in one process, in a copy of the tree with its own data."""

import fcntl
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import requests

from lightningspace.outside.node import Node, NodeError
from lightningspace.sandbox.gate import nginx_program
from lightningspace.sandbox.panel import SandboxPanel
from lightningspace.sandbox.program import _port
from tests.conftest import csrf_token, debian_program, eventually, last_pay_index, order_form

ROOT = Path(__file__).parents[2]
ADDRESS = "http://127.0.0.1:5000"
PASSWORD = "correct horse"


class Program:
    """A running `python app.py`, with its output in a file."""

    def __init__(self, tree: Path, output: Path, env: dict[str, str]):
        self._output = output
        self.address = f"http://127.0.0.1:{env.get('PORT', 5000)}"
        with output.open("wb") as file:
            self.process = subprocess.Popen(
                [sys.executable, "app.py"],
                cwd=tree,
                env=os.environ | env,
                stdout=file,
                stderr=subprocess.STDOUT,
                # From a suite in a shell's background it would inherit that Ctrl-C is ignored.
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
            )

    @property
    def said(self) -> str:
        return self._output.read_text()

    def is_open(self) -> bool:
        assert self.process.poll() is None, f"it ended: {self.said}"
        return "The shop is open" in self.said and requests.get(self.address, timeout=5).ok

    def end(self, number: int = signal.SIGINT) -> int:
        self.process.send_signal(number)
        return self.process.wait(10)


def copied(directory: Path) -> Path:
    """Copy the program without its tests, and without data of an earlier start."""
    for name in ("lightningspace", "migrations", "templates", "static"):
        shutil.copytree(ROOT / name, directory / "tree" / name)
    for name in ("app.py", "schema.sql"):
        shutil.copy(ROOT / name, directory / "tree")
    return directory / "tree"


@contextmanager
def starter(tree: Path):
    """Start the program; each one is killed at the end, and its output printed."""
    programs = []

    def start(**env: str) -> Program:
        programs.append(Program(tree, tree.with_name(f"output-{len(programs)}"), env))
        return programs[-1]

    yield start
    for program in programs:
        program.process.kill()
        program.process.wait()
        print(program.said)


@pytest.fixture
def tree(tmp_path):
    return copied(tmp_path)


@pytest.fixture
def start(tree):
    with starter(tree) as start:
        yield start


@dataclass
class Shop:
    """The program alone on the machine: at the port that it takes by default."""

    tree: Path
    start: Callable[..., Program]
    program: Program
    node: Node


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    """Open for several tests, as a start takes a second; the last of them ends it."""
    tree = copied(tmp_path_factory.mktemp("shop"))
    node = Node(str(tree / "instance" / "sandbox" / "lightning-rpc"), seconds=5)
    with open(__file__) as turn, starter(tree) as start:
        # The port is fixed: the processes of the suite take turns.
        fcntl.flock(turn, fcntl.LOCK_EX)
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", 5000)) == 0:
                pytest.fail("another program listens on 127.0.0.1:5000: end it first")
        program = start()
        eventually(program.is_open)
        yield Shop(tree, start, program, node)


def buy(username: str) -> requests.Session:
    """Order a hosting and pay it from the sandbox wallet; returns the browser, logged in."""
    browser = requests.Session()
    page = browser.get(f"{ADDRESS}/").text
    form = order_form(page, username=username, password=PASSWORD)
    order = browser.post(f"{ADDRESS}/orders", form)
    token = order.url.rpartition("/")[2]
    pay = {"csrf_token": csrf_token(order.text)}
    browser.post(f"{ADDRESS}/sandbox/pay/{token}", pay).raise_for_status()
    status = f"{ADDRESS}/orders/{token}/status"
    eventually(lambda: browser.get(status).headers.get("HX-Redirect") == "/account")
    return browser


def log_in(username: str, address: str = ADDRESS) -> requests.Response:
    browser = requests.Session()
    form = {"csrf_token": csrf_token(browser.get(f"{address}/login").text)}
    return browser.post(f"{address}/login", form | {"username": username, "password": PASSWORD})


@pytest.fixture(scope="module")
def alice(shop) -> requests.Session:
    return buy("alice")


def test_the_program_says_its_address_and_sells_a_hosting_there(shop, alice):
    """With a domain that goes live once its records are published."""
    assert f"The shop is open: {ADDRESS}" in shop.program.said
    account = alice.get(f"{ADDRESS}/account")
    assert "alice.space.example" in account.text
    assert "ls_alice" in account.text

    domains = f"{ADDRESS}/account/domains"
    token = {"csrf_token": csrf_token(alice.get(domains).text)}
    added = alice.post(domains, token | {"name": "www.Bücher.example", "wants_mail": "y"})
    assert "waiting for its TXT record" in added.text
    name = "xn--bcher-kva.example"
    alice.post(f"{ADDRESS}/sandbox/publish/{name}", token).raise_for_status()
    eventually(lambda: f"http://{name}/" in alice.get(domains).text)


def test_the_program_serves_the_sites_tip_jar(shop, alice):
    debian_program("php", "php-cli")
    site = "http://alice.space.example.localhost:5001/"
    eventually(lambda: f"There is a tip jar on {site}" in shop.program.said)
    host = {"Host": "alice.space.example.localhost:5001"}

    def page():
        return requests.get("http://127.0.0.1:5001/", headers=host, timeout=10).text

    eventually(lambda: "alice.space.example online" in page())
    tip = requests.post("http://127.0.0.1:5001/", {"amount": "1000"}, headers=host, timeout=10)
    assert "lnbcrt" in tip.text


def test_a_second_program_beside_it_says_so_and_leaves_it_alone(shop, port):
    beside, elsewhere = shop.start(), shop.start(PORT=str(port))
    assert beside.process.wait(60) != 0
    assert "127.0.0.1:5000 is in use" in beside.said
    assert "make run PORT=5010" in beside.said
    assert elsewhere.process.wait(60) != 0
    assert "another one uses the data in " in elsewhere.said
    assert "Traceback" not in beside.said + elsewhere.said
    assert shop.node.node_id()
    buy("carol")


def test_a_second_start_finds_everything_again(shop, alice):
    """The last test with `shop`, which it ends."""
    node_id, paid = shop.node.node_id(), last_pay_index(shop.node)
    assert ends_cleanly(shop.program, signal.SIGINT, shop.node)
    sites = sites_at_panel(shop.tree)
    assert "alice.space.example" in sites.values()

    second = shop.start()
    eventually(second.is_open)
    assert "alice.space.example" in log_in("alice").text
    assert (shop.node.node_id(), last_pay_index(shop.node)) == (node_id, paid)
    buy("bob")
    assert ends_cleanly(second, signal.SIGTERM, shop.node)
    assert "read again" not in second.said
    assert "ERROR" not in second.said
    found = sites_at_panel(shop.tree)
    assert found.items() > sites.items()
    assert sorted(found.values()) == sorted({*found.values(), "bob.space.example"})


def ends_cleanly(program: Program, number: int, node: Node) -> bool:
    status = program.end(number)
    with pytest.raises(NodeError):
        node.node_id()
    return status == 0 and "Traceback" not in program.said


def sites_at_panel(tree: Path) -> dict[str, str]:
    """The sites by their ids, while the program is not open."""
    panel = SandboxPanel(store=tree / "instance" / "sandbox" / "panel.sqlite3")
    sites = {site["domain_id"]: site["domain"] for site in panel.records("site")}
    panel.stop()
    return sites


def test_the_program_takes_another_port_and_data_of_an_older_version(start, tree, port):
    (tree / "instance").mkdir()
    with closing(sqlite3.connect(tree / "instance" / "shop.sqlite3")) as database:
        database.executescript((ROOT / "tests" / "base" / "schema_5e5cd8b.sql").read_text())
    program = start(PORT=str(port), SECRET_KEY="a key of the tests that is long enough")
    eventually(program.is_open)
    assert f"The shop is open: {program.address}\n" in program.said
    if shutil.which("php"):
        assert f"http://<site>.localhost:{port + 1}\n" in program.said
    if nginx_program() is None:
        assert "Its gate is not open: nginx is not installed" in program.said
    assert "alice" in log_in("alice", program.address).text
    assert program.end() == 0


def test_a_bad_port_is_reported(start):
    refused = start(PORT="٥٠٠٠")
    assert refused.process.wait(60) != 0
    why = "The shop does not start: PORT is not usable: write a port, such as 5010"
    assert refused.said == f"{why}\n"
    with pytest.raises(SystemExit, match=why):
        _port({"PORT": "65534"})


@pytest.mark.parametrize(
    "host, path",
    [
        ("alice.space.example.localhost", "/../log/"),
        ("alice.space.example.localhost", "/%2e%2e/private"),
        ("alice.space.example.localhost", "/%00"),
        ("clients.localhost", "/client1/"),
        ("bob.space.example.localhost", "/index.php"),
    ],
)
def test_sandbox_serves_only_public_files_of_sites(web_server, host, path):
    assert get(web_server, host, path).split()[1] == b"404"


@pytest.mark.parametrize(
    "host", ["clients.localhost", "..localhost", "bob.space.example.localhost", "127.0.0.1"]
)
def test_name_without_a_site_gets_the_servers_own_page(web_server, host):
    answer = get(web_server, host, "/")
    assert answer.split()[1] == b"200" and b"the server's own default page" in answer


def get(port, host, path):
    with socket.create_connection(("127.0.0.1", port), 10) as conn:
        conn.sendall(f"GET {path} HTTP/1.0\r\nHost: {host}\r\n\r\n".encode())
        return conn.makefile("rb").read()


@pytest.fixture
def web_server(tmp_path, port):
    """The port of a server for alice's site, without the rest of the sandbox."""
    for name in ("web", "log", "private"):
        (tmp_path / "clients/client1/web1" / name).mkdir(parents=True)
    (tmp_path / "alice.space.example").symlink_to("clients/client1/web1")
    php = debian_program("php", "php-cli")
    router = ROOT / "lightningspace" / "sandbox" / "router.php"
    command = [php, "-S", f"127.0.0.1:{port}", "-t", str(tmp_path), str(router)]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as server:
        eventually(lambda: socket.socket().connect_ex(("127.0.0.1", port)) == 0)
        yield port
        server.kill()
