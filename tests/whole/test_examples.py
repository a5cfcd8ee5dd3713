"""The sandbox's gate: the page of what it sells, a browser that pays, and the examples."""

import html
import os
import re
import signal
import socket
import subprocess
import sys

import pytest
import requests

from lightningspace.sandbox.gate import PROPFIND, nginx_program
from lightningspace.sandbox.upstream import SOLD
from tests.conftest import ROOT, client_program, debian_program, eventually, free_port
from tests.pictures import FRAMED, WRITE
from tests.whole.test_accessible import faults
from tests.whole.test_program import Program, copied, starter

HTML = {"Accept": "text/html"}
PAGES = (
    "/",
    "/gate/wait/film",
    "/film/storm.svg",
    "/gate/topup/dice",
    "/gate/balance",
    "/gate/topup/x",
)


class Gate:
    """The program with its gate, and a folder in which a buyer works."""

    def __init__(self, tree, start):
        self.tree = tree
        self.port = free_port()
        self.program: Program = start(PORT=str(self.port))
        self.url = f"http://127.0.0.1:{self.port + 2}"

    def is_open(self) -> bool:
        return self.program.is_open() and requests.get(self.url, timeout=5).ok

    def listens(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port + 2)) == 0

    def run(self, *command: str, program: str = sys.executable) -> bytes:
        """Run a command that pays from the sandbox's wallet; returns its output."""
        env = os.environ | {"PAY": f"{sys.executable} examples/pay.py"}
        ran = subprocess.run([program, *command], cwd=self.tree, env=env, capture_output=True)
        assert ran.returncode == 0, ran.stderr.decode()
        return ran.stdout


@pytest.fixture(scope="module")
def gate(tmp_path_factory):
    if nginx_program() is None:
        pytest.skip("needs nginx: apt-get install nginx-light")
    tree = copied(tmp_path_factory.mktemp("gate"))
    (tree / "examples").symlink_to(ROOT / "examples")
    python = tree / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)
    with starter(tree) as start:
        opened = Gate(tree, start)
        eventually(opened.is_open)
        assert f"What is behind its gate: {opened.url}\n" in opened.program.said
        yield opened


def test_a_visitor_pays_by_a_click_and_enters(gate):
    browser = requests.Session()
    browser.headers.update(HTML)
    page = browser.get(f"{gate.url}/").text
    shown = re.findall(r'<h2><a href="([^"]+)">', page)
    assert shown == ["/film/storm.svg", "/news/", "/v1/roll?dice=2", "/disk/", "/queue/"]
    for path in shown:
        asked = browser.get(gate.url + path)
        assert asked.status_code == 402
        opened = press(browser, gate.url, asked.text)
        assert (opened.status_code, opened.url) == (200, gate.url + path)
    work = browser.post(f"{gate.url}/queue/", {"text": "Hello"})
    assert work.status_code in (200, 202)
    done = eventually(lambda: (got := browser.get(work.url)).status_code == 200 and got)
    assert done.headers["Content-Type"] == "image/png"
    assert requests.get(work.url, timeout=5).status_code == 402
    more = press(browser, gate.url, browser.get(f"{gate.url}/gate/topup/dice").text)
    assert more.url == f"{gate.url}/gate/balance"
    assert "<strong>19 sat</strong> left" in more.text


def press(browser, url: str, page: str) -> requests.Response:
    """Press “Pay from the sandbox wallet” on a pay page."""
    [form] = re.findall(r"<form.*?</form>", page, re.S)
    fields = dict(re.findall(r'name="(\w+)" value="([^"]*)"', form))
    return browser.post(url + re.search('action="([^"]+)"', form)[1], fields)


def test_a_paid_page_with_script_goes_on_by_itself(gate, chromium):
    """What the visitor has unfolded stays open. It polls at once when the visitor is back."""
    page, faults = chromium.new_page(), []
    page.on("pageerror", lambda fault: faults.append(fault))
    page.goto(f"{gate.url}/gate/topup/dice")
    page.click("summary")
    with page.expect_response(lambda response: "/gate/wait/dice" in response.url):
        page.evaluate("dispatchEvent(new Event('online'))")
    assert page.is_visible("#bolt11")
    gate.run("examples/pay.py", page.get_attribute("[data-looks]", "data-bolt11"))
    page.wait_for_url(f"{gate.url}/gate/balance")
    page.close()
    assert faults == []


def test_the_gates_pages_can_be_used_by_everybody(gate, chromium, subtests):
    axe = client_program("axe-core") / "node_modules" / "axe-core" / "axe.min.js"
    with chromium.new_context(bypass_csp=True) as context:
        context.add_init_script(path=axe)
        page = context.new_page()
        page.goto(gate.url)
        for path in (
            "/",
            "/gate/wait/film",
            "/film/storm.svg",
            "/gate/topup/dice",
            "/gate/balance",
        ):
            text = requests.get(gate.url + path, headers=HTML, timeout=5).text
            page.set_content(FRAMED)
            page.evaluate(WRITE, [text, "", path])
            with subtests.test(path=path):
                assert faults(page.frames[-1]) == []


def test_a_return_address_elsewhere_is_refused(gate):
    for then in ("", "//other.example/", "https://other.example/", "/\\other.example"):
        form = {"invoice": "lnbcrt1", "then": then}
        assert requests.post(f"{gate.url}/gate/sandbox/pay", form, timeout=5).status_code == 404
    form = {"invoice": "\x00", "then": "/"}
    refused = requests.post(f"{gate.url}/gate/sandbox/pay", form, timeout=5)
    assert refused.status_code == 503 and "The sandbox wallet says" in refused.text


def test_the_commands_of_its_page_work_as_pasted(gate):
    for name in ("curl", "jq"):
        debian_program(name, name)
    page = requests.get(gate.url, timeout=5).text
    blocks = re.findall(r"<pre[^>]*><code>(.*?)</code>", page, re.S)
    script = "\n".join(["set -e", *map(html.unescape, blocks)])
    said = gate.run("-c", script, program="bash").decode()
    assert said.startswith("1000\n")
    assert "Storm passes" in said and '{"rolled":[' in said and "X-Gate-Balance: 9000" in said
    assert "Remember the cheese" in said
    assert '"balance_msat":' in said.splitlines()[-1]
    assert (gate.tree / "hello.png").read_bytes().startswith(b"\x89PNG")


def test_the_film_is_fetched_in_pieces_and_resumed(gate):
    command = ["examples/film.py", f"{gate.url}/film/storm.svg"]
    gate.run(*command)
    film, whole = gate.tree / "storm.svg", (SOLD / "film" / "storm.svg").read_bytes()
    assert film.read_bytes() == whole
    film.write_bytes(whole[:2000])
    gate.run(*command)
    assert film.read_bytes() == whole


def test_the_news_is_paid_for_once(gate):
    for name in ("curl", "jq"):
        debian_program(name, name)
    command = ["examples/news.sh", f"{gate.url}/news/", "storm.html", "market.html"]
    said = gate.run(*command, program="sh").decode()
    assert "Storm passes" in said and "Market day" in said
    credential = (gate.tree / "pass").read_text()
    assert gate.run(*command, program="sh").decode() == said
    assert (gate.tree / "pass").read_text() == credential
    assert (gate.tree / "pass").stat().st_mode & 0o777 == 0o600


def test_files_are_kept_on_a_disk(gate):
    for name in ("curl", "jq"):
        debian_program(name, name)
    for name in ("one", "two"):
        (gate.tree / name).write_text(name * 1000)
    command = ["examples/disk.sh", f"{gate.url}/disk/", "one", "two"]
    gate.run(*command, program="sh")
    key = (gate.tree / "key").read_text()
    gate.run(*command, program="sh")
    assert (gate.tree / "key").read_text() == key
    (gate.tree / "key").write_text("")
    gate.run(*command[:3], program="sh")
    other = (gate.tree / "key").read_text().partition(": ")[2].strip()
    get = {"headers": {"Authorization": other}, "timeout": 5}
    assert requests.get(f"{gate.url}/disk/one", **get).ok
    assert requests.get(f"{gate.url}/disk/two", **get).status_code == 404
    if PROPFIND.exists():
        get["headers"]["Depth"] = "1"
        listed = requests.request("PROPFIND", f"{gate.url}/disk/", **get).text
        assert "/disk/one<" in listed and "two" not in listed


def test_twelve_rolls_are_paid_from_two_bundles(gate):
    python = client_program("l402-requests") / "bin" / "python"
    said = gate.run("examples/api.py", f"{gate.url}/v1/roll?dice=2", "12", program=str(python))
    left = [int(line.split()[-3]) for line in said.decode().splitlines()]
    assert left == [*range(9000, -1, -1000), 9000, 8000]


def test_work_is_paid_for_by_its_length(gate):
    assert gate.run("examples/draw.py", gate.url, "Grüße").decode() == "70 msat\n"
    assert (gate.tree / "code.png").read_bytes().startswith(b"\x89PNG")


def test_the_queue_refuses_nonsense_without_charge(gate):
    asked = requests.post(f"{gate.url}/queue/", b"x", timeout=5).json()
    paid = gate.run("examples/pay.py", asked["invoice"]).decode().strip()
    browser = requests.Session()
    browser.headers["Authorization"] = f"L402 {asked['macaroon']}:{paid}"
    for sent in (b"", b"\xff", b"x" * 1001, b"x" * 100_000):
        assert browser.post(f"{gate.url}/queue/", sent).status_code in (400, 413)
    assert browser.get(f"{gate.url}/queue/none").status_code == 404

    def left() -> int:
        return browser.get(f"{gate.url}/gate/balance").json()["services"][0]["balance_msat"]

    eventually(lambda: left() == 100_000)
    assert browser.post(f"{gate.url}/queue/", b"x" * 1000).json()["cost_msat"] == 10_000
    eventually(lambda: left() == 90_000)


def test_nginx_ends_with_a_killed_program(gate):
    """The last test with `gate`, which it kills."""
    assert gate.listens()
    gate.program.end(signal.SIGKILL)
    eventually(lambda: not gate.listens())


def test_without_the_gates_port_the_shop_runs_without_a_gate(tmp_path):
    port = free_port()
    with socket.socket() as other, starter(copied(tmp_path)) as start:
        other.bind(("127.0.0.1", port + 2))
        other.listen()
        program = start(PORT=str(port))
        eventually(program.is_open)
        assert f"Its gate is not open: port {port + 2} is in use\n" in program.said
        assert program.end() == 0
