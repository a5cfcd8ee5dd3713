"""Templates and texts are readable, and use one word for each thing."""

import ast
import re

from tests.conftest import ROOT

TEMPLATES = ROOT / "templates"
WIDTH = 110

# Python modules with texts for people, and the tip jar.
TEXTS = [ROOT / "app.py"] + [
    path
    for wing in ("pages", "api", "visitors", "rules", "base", "tipjar", "paidarea", "onsite")
    for path in (ROOT / "lightningspace" / wing).glob("*.p*")
]


def test_no_line_of_a_template_is_too_long():
    lines = {
        f"{path.relative_to(TEMPLATES)}:{number}": len(line)
        for path in TEMPLATES.rglob("*.*")
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
    }
    assert {place: length for place, length in lines.items() if length > WIDTH} == {}
    assert len(lines) > 1000


# -- words -----------------------------------------------------------------------------


def forbidden() -> list[str]:
    """The words that the table in CONTRIBUTING.md tells us not to write."""
    section = (
        (ROOT / "CONTRIBUTING.md").read_text().partition("\n## Words\n")[2].partition("\n## ")[0]
    )
    rows = [line.strip("| ").split("|") for line in section.splitlines() if line.startswith("| ")]
    cells = [row[2] for row in rows[2:] if len(row) > 2]
    return [word.strip() for cell in cells for word in cell.split(",") if word.strip()]


def in_template(text: str) -> str:
    """What people read of a template: text, attributes, and sentences in its code."""
    text = re.sub(r"\{#.*?#\}", " ", text, flags=re.S)
    code = re.findall(r"\{[{%].*?[%}]\}", text, re.S)
    quoted = (text for each in code for text in re.findall(r'"([^"]*)"', each))
    said = [text for text in quoted if " " in text]
    text = re.sub(r"\{[{%].*?[%}]\}", "\0", text, flags=re.S)
    said += re.findall(r'\b(?:alt|aria-label|content|data-text|placeholder|title)="([^"]*)"', text)
    return " · ".join([re.sub(r"<[^>]*>", " ", text), *said])


def in_program(text: str) -> str:
    """A module's strings of several words, without docstrings and log messages."""
    program, unread = ast.parse(text), set()
    for node in ast.walk(program):
        is_logged = isinstance(node, ast.Call) and ast.unparse(node.func).startswith("logger.")
        if is_logged or (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)):
            unread |= set(ast.walk(node))
    strings = {node for node in ast.walk(program) if isinstance(node, ast.Constant)} - unread
    said = [node.value for node in strings if isinstance(node.value, str)]
    return " · ".join(text for text in said if " " in text)


def texts() -> dict[str, str]:
    found = {path: in_template(path.read_text()) for path in TEMPLATES.rglob("*.*")}
    found |= {path: in_program(path.read_text()) for path in TEXTS if path.suffix == ".py"}
    found |= {path: path.read_text() for path in TEXTS if path.suffix == ".php"}
    return {str(path.relative_to(ROOT)): text for path, text in found.items()}


# Files in which a word means something else, such as a header, or is for operators.
MEANT = {
    ("lightningspace/api/answers.py", "receipt"),
    ("lightningspace/base/names.py", "storage"),
    ("templates/index.html", "website"),
    ("lightningspace/base/limit_settings.py", "control center"),
    ("lightningspace/onsite/shared.php", "balance"),
    ("templates/gate/server.conf", "balance"),
    ("templates/gate/sandbox.html", "balance"),
}


def test_there_is_one_word_for_each_thing():
    words = forbidden()
    assert {"receipt", "on line", "just now"} < set(words)
    found = [
        (path, word)
        for path, text in texts().items()
        for word in words
        if re.search(rf"\b{word}s?\b", " ".join(text.split()), re.I) and (path, word) not in MEANT
    ]
    assert found == []


def test_amounts_have_commas_between_thousands():
    assert [path for path, text in texts().items() if re.search(r"\b[0-9]{4,} sat\b", text)] == []
