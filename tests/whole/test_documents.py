"""The documents are true: files they name exist, and commands answer as they show."""

import ast
import re
import shutil
import subprocess
import sys

import pytest
from click import Group
from flask import Flask

from lightningspace.cli import register
from tests.conftest import ROOT, opened

DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])
README_LINES_MAX = 200
OURS = ("lightningspace", "tests", "templates", "docs", "deploy", "examples", "bench", "static")
PACKAGES = "|".join(path.parent.name for path in (ROOT / "lightningspace").glob("*/__init__.py"))


def by_name(document) -> str:
    return str(document.relative_to(ROOT))


def outside_code(text: str) -> str:
    """A document without its blocks of code."""
    return re.sub(r"^```.*?^```$", "", text, flags=re.M | re.S)


# -- what documents name ---------------------------------------------------------------------


@pytest.mark.parametrize("document", DOCUMENTS, ids=by_name)
def test_links_lead_somewhere(document):
    broken = []
    for target in re.findall(r"\]\(([^)\s]+)\)", outside_code(document.read_text())):
        path, _, heading = target.partition("#")
        linked = (document.parent / path).resolve() if path else document
        if re.match(r"[a-z]+:", target):
            continue
        if not linked.exists() or (heading and heading not in headings(linked)):
            broken.append(target)
    assert broken == []


def headings(document) -> set[str]:
    """The anchors of a document's headings."""
    found = re.findall(r"^#+ (.*)$", outside_code(document.read_text()), re.M)
    return {as_anchor(heading) for heading in found}


def as_anchor(heading: str) -> str:
    return re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")


def texts_that_name_documents() -> list[str]:
    """What the program prints, mails and shows, its strings joined where a line breaks them."""
    tops = ("lightningspace", "templates", "deploy")
    files = [path for top in tops for path in (ROOT / top).rglob("*.*") if path.suffix != ".pyc"]
    files += [ROOT / "CHANGELOG.md", *(ROOT / "deploy").glob("*")]
    texts = [path.read_text() for path in files if path.is_file()]
    return [re.sub(r"\n +", " ", re.sub(r'"\n +f?"', "", text)) for text in texts]


def test_the_documents_that_the_program_names_are_there():
    texts = "\n".join(texts_that_name_documents())
    named = set(re.findall(r"\bdocs/[\w-]+\.md", texts))
    assert "docs/operating.md" in named
    assert [name for name in sorted(named) if not (ROOT / name).exists()] == []


def test_the_sections_that_the_program_names_are_there():
    """Such as “Monitoring” in docs/operating.md, whose headings may be numbered."""
    texts = "\n".join(texts_that_name_documents())
    before = re.findall(r"((?:“[^”]+”(?: and )?)+) in (docs/[\w-]+\.md)", texts)
    named = [(one, name) for some, name in before for one in re.findall("“([^”]+)”", some)]
    named += [(one, name) for name, one in re.findall(r"(docs/[\w-]+\.md), “([^”]+)”", texts)]
    assert len(named) > 10
    missing = [
        (one, name)
        for one, name in named
        if as_anchor(one) not in {re.sub(r"^\d+-", "", each) for each in headings(ROOT / name)}
    ]
    assert missing == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=by_name)
def test_files_that_documents_name_exist(document):
    """Files named with a directory of ours; files on a server have other paths."""
    text = document.read_text()
    named = re.findall(rf"`((?:{'|'.join(OURS)})/[\w/.-]+)`", text)
    named += [f"lightningspace/{path}" for path in re.findall(rf"`((?:{PACKAGES})/\w+\.py)", text)]
    assert [name for name in named if not (ROOT / name).exists()] == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=by_name)
def test_commands_that_are_named_are_there(document):
    """After `flask`, and of the ones that belong together, such as `refund offer`; and `make`'s."""
    bare = Flask("documents")
    register(bare)
    code = "\n".join(re.findall(r"`[^`\n]+`|^ {4}.*$", document.read_text(), re.M))
    missing = []
    for name, then in re.findall(r"\bflask (?:--app wsgi )?([a-z][a-z-]+)(?: ([a-z]+))?", code):
        command = bare.cli.commands.get(name)
        if command is None or (isinstance(command, Group) and then not in {"", *command.commands}):
            missing.append(f"flask {name} {then}")
    targets = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.M)
    missing += [
        f"make {name}" for name in re.findall(r"`make ([a-z]+)", code) if name not in targets
    ]
    assert missing == []


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text().splitlines()) <= README_LINES_MAX


def test_the_map_of_contributing_leads_to_existing_code():
    """Each `path.py:function` of CONTRIBUTING.md; of a method it says `Class.method`."""
    text = (ROOT / "CONTRIBUTING.md").read_text()
    places = re.findall(r"`([\w/]+\.py):([\w.]+)`", text)
    assert len(places) > 30
    assert [f"{path}:{name}" for path, name in places if name not in names_in(path)] == []


def names_in(path: str) -> set[str]:
    """Functions, classes, methods and module-level names of one of the program's files."""
    found = set()
    file = ROOT / "lightningspace" / path
    for node in ast.parse(file.read_text()).body if file.exists() else []:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found.add(node.name)
        if isinstance(node, ast.ClassDef):
            found |= {f"{node.name}.{each.name}" for each in node.body if hasattr(each, "name")}
        for target in getattr(node, "targets", [getattr(node, "target", None)]):
            if isinstance(target, ast.Name):
                found.add(target.id)
    return found


# -- what documents show ---------------------------------------------------------------------


@pytest.fixture
def env(env, port):
    nobody = {"DNS_SERVERS": "127.0.0.1:9", "BASE_DOMAIN": "space.example"}
    return env | nobody | {"PUBLIC_URL": f"http://127.0.0.1:{port}"}


@pytest.fixture
def session(app, config, port, at_work, tmp_path):
    """Run the commands of a document against an open shop; returns the output of each."""
    directory = tmp_path / "session"
    python, wallet = directory / ".venv/bin/python", directory / "instance/sandbox/wallet-rpc"
    for path in (python, wallet):
        path.parent.mkdir(parents=True)
    python.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)
    wallet.symlink_to(tmp_path / "wallet-rpc")

    def run(blocks: list[str], commands: list[str]) -> list[str]:
        steps = (f"echo @@@\n{command}" for command in commands)
        script = "\n".join([*blocks, *steps]).replace("http://127.0.0.1:5000", config.public_url)
        ran = subprocess.run(
            ["bash", "-c", script], cwd=directory, text=True, capture_output=True, timeout=120
        )
        assert ran.stderr == ""
        return ran.stdout.split("@@@\n")[1:]

    with opened(app, port):
        yield run


SESSIONS = [ROOT / "docs" / "api.md", ROOT / "README.md"]


@pytest.mark.parametrize("document", SESSIONS, ids=by_name)
def test_commands_answer_as_the_document_shows(document, session):
    missing = [name for name in ("curl", "jq") if shutil.which(name) is None]
    if missing:
        pytest.skip(f"needs {' and '.join(missing)}")
    blocks = re.findall(r"^```sh\n(.*?)^```$", document.read_text(), re.M | re.S)
    shown = "".join(re.findall(r"^```console\n(.*?)^```$", document.read_text(), re.M | re.S))
    steps = [step.partition("\n") for step in re.split(r"^\$ ", shown, flags=re.M)[1:]]
    answers = session(blocks, [command for command, _, _ in steps])
    assert len(answers) == len(steps)
    wrong = [
        (command, answer)
        for (command, _, answer), given in zip(steps, answers, strict=True)
        if not facts(answer) <= facts(given)
    ]
    assert wrong == [], answers


def test_the_two_commands_for_a_terminal_buy_a_hosting(session, config):
    """As pasted: the wallet pays in between, and the preimage is typed into the second command."""
    missing = [name for name in ("curl", "jq") if shutil.which(name) is None]
    if missing:
        pytest.skip(f"needs {' and '.join(missing)}")
    (text,) = session([], [f"curl -s {config.public_url}"])
    order, take = re.findall(r"(?:^  \S.*\n(?:    .*\n)+)", text, re.M)
    pay = """
.venv/bin/python -c 'import sys; from pyln.client import LightningRpc
print(LightningRpc("instance/sandbox/wallet-rpc").pay(sys.argv[1])["payment_preimage"])' \\
    "$(jq -r .invoice order)" > preimage"""
    invoice, _, hosting, again = session(
        [],
        [
            order,
            pay,
            f"exec < preimage\n{take}",
            f"until curl -s -H @key {config.public_url}/api/v1/hosting | tee hosting |"
            " jq -e .is_ready > /dev/null; do sleep 0.1; done; cat hosting",
        ],
    )
    assert invoice.startswith("Pay 7 sat\n") and "█▀▀" in invoice
    site = re.search(r'"site": ?"([a-z0-9]+\.space\.example)"', hosting)[1]
    assert site in again and '"password"' in again


def facts(answer: str) -> set[str]:
    """Parts of an answer that do not depend on the moment: HTTP's status and headers, the names of
    members, and some values. Of a price for the time left, which falls by the second, two digits.
    """
    lines = re.findall(r"^(?:HTTP/1\.1 \d+|[A-Z][\w-]+:)", answer, re.M)
    names = re.findall(r'"\w+":', answer)
    values = re.findall(r'"(?:code|kind)": ?[\w"]+', answer)
    prices = re.findall(r'"price_msat": ?(\d+)', answer)
    return {
        *lines,
        *names,
        *(value.replace(" ", "") for value in values),
        *(f"price_msat: {int(price):.1e}" for price in prices),
    }
