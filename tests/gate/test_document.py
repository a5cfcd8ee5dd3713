"""docs/gateway.md is true: its five minutes give a paid API, and its tables are complete."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

from lightningspace.gate import services
from lightningspace.outside.raw_http import Site
from tests.conftest import ROOT, debian_program, opened_at
from tests.gate.box import NGINX_CONF, Box

DOCUMENT = (ROOT / "docs" / "gateway.md").read_text()
FIVE_MINUTES = DOCUMENT.split("## A paid API in five minutes")[1].split("\n## ")[0]


def block(language: str) -> str:
    """The only block of this language in the section about five minutes."""
    [found] = re.findall(rf"^```{language}\n(.*?)^```$", FIVE_MINUTES, re.M | re.S)
    return found


def as_format(text: str) -> str:
    return text.replace("{", "{{").replace("}", "}}")


@pytest.fixture
def gate_toml() -> str:
    text = as_format(block("toml")).replace(":9000", ":{behind}")
    return 'app = "unix:{folder}/web"\nlog = "{folder}/gate.log"\n' + text


@pytest.fixture
def box(gate_folder, own_app) -> Box:
    """nginx as in the document, and the shop at a socket."""
    conf = as_format(block("nginx")).replace("listen 443 ssl", "listen 127.0.0.1:{port}")
    conf = re.sub(r".*ssl_certificate.*\n", "", conf).replace("/etc/nginx", str(gate_folder.folder))
    gate_folder.conf = NGINX_CONF.partition("  include")[0] + conf + "}}\n"
    with opened_at(f"unix://{gate_folder.folder}/web", own_app):
        gate_folder.start()
        yield gate_folder
        gate_folder.stop()
    own_app.extensions["gate_upkeep"].stop()


def test_the_five_minutes_give_a_paid_api(box, own_app, tmp_path):
    for name in ("curl", "jq"):
        debian_program(name, name)
    runner, url = own_app.test_cli_runner(), f"http://127.0.0.1:{box.port}"
    (tmp_path / "instance").mkdir()
    written = runner.invoke(args=["gate", "nginx", str(tmp_path / "instance")])
    assert written.exit_code == 0, written.output
    for name in ("gate-http.conf", "gate-server.conf"):
        assert (tmp_path / "instance" / name).read_text() == (box.folder / name).read_text()
    checked = runner.invoke(args=["gate", "check", url])
    assert checked.exit_code == 0, checked.output

    shop = Site(own_app.extensions["gate"].app)
    assert shop.ask("HEAD", "/.well-known/l402.json").status == 200

    steps = re.split(r"^\$ ", block("console"), flags=re.M)[1:]
    commands, shown = zip(*(step.split("\n", 1) for step in steps), strict=True)
    pay = f'pay() {{ {sys.executable} -c "{PAY}" {tmp_path}/wallet-rpc "$1"; }}\n'
    script = pay + "\n".join(f"echo @@@; {command}" for command in commands)
    ran = subprocess.run(
        ["bash", "-c", script.replace("https://api.example", url)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert ran.stderr == ""
    given = ran.stdout.replace("\r", "").split("@@@\n")[1:]
    assert given == list(shown)


PAY = (
    "import sys; from pyln.client import LightningRpc; "
    "print(LightningRpc(sys.argv[1]).pay(sys.argv[2])['payment_preimage'])"
)


def test_each_key_of_the_file_is_explained():
    """That is, those that services.py reads from a table."""
    tree = ast.parse(Path(services.__file__).read_text())
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    taken = [call for call in calls if getattr(call.func, "attr", "") == "take"]
    keys = {call.args[0].value for call in taken if isinstance(call.args[0], ast.Constant)}
    keys |= {"files", "upstream", "disk", *services.PER}
    section = DOCUMENT.split("## gate.toml")[1].split("\n## ")[0]
    explained = re.findall(r"^\| `(\w+)` \|", section, re.M)
    assert len(keys) > 30 and sorted(explained) == sorted(keys)


def test_the_tests_that_the_document_names_exist():
    named = re.findall(r"`([\w/]+\.py)::(\w+)`", DOCUMENT)
    assert len(named) > 50
    missing = [
        f"{path}::{name}"
        for path, name in named
        if not re.search(rf"^def {name}\(", (ROOT / path).read_text(), re.M)
    ]
    assert missing == []


def test_the_examples_that_the_document_names_are_short():
    named = re.findall(r"^\| `(examples/[\w.]+)` \|", DOCUMENT, re.M)
    assert len(named) >= 4
    assert [path for path in named if len((ROOT / path).read_text().splitlines()) >= 30] == []
