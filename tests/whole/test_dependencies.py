"""Each part of the program declares what it imports in its own file of requirements."""

import ast
import re
import sys
import tomllib
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

import lightningspace

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
OURS = ("app", "wsgi", "lightningspace", "tests", "bench", "when")
# Run as a program, or pinned for the sake of another package.
NOT_IMPORTED = {"bitstring", "email-validator"}

PARTS = {
    "requirements.txt": ([], ["app.py", "wsgi.py", "gunicorn.conf.py", "lightningspace"]),
    "requirements-sandbox.txt": (["sandbox"], ["lightningspace/sandbox"]),
    "requirements-dev.txt": (["sandbox", "dev"], ["tests", "bench"]),
}
# The sandbox, which production does without, and clients that have their own environments.
APART = ("lightningspace/sandbox", "tests/clients")


def normal(name: str) -> str:
    return re.sub("[-_.]+", "-", name).lower()


def locked(file: str) -> dict[str, str]:
    found = re.findall(r"^([\w.-]+)==(\S+)", (ROOT / file).read_text(), re.M)
    return {normal(name): version for name, version in found}


def declared(extras) -> set[str]:
    lists = [PROJECT["dependencies"], *(PROJECT["optional-dependencies"][each] for each in extras)]
    return {normal(re.match(r"[\w.-]+", line)[0]) for each in lists for line in each}


def sources(paths):
    for path in (ROOT / each for each in paths):
        for file in [path] if path.is_file() else path.rglob("*.py"):
            if not any(file.is_relative_to(ROOT / other) for other in APART if other not in paths):
                yield file


def imported(files) -> dict[str, str]:
    """The distributions that the files import, with a file for each."""
    found = {}
    for file in files:
        found |= dict.fromkeys(imported_by(file), str(file))
    return found


@cache
def imported_by(file: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(file.read_text())):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            names = [node.module]
        for name in names:
            top = name.partition(".")[0]
            if top not in sys.stdlib_module_names and top not in OURS:
                found |= {normal(owner) for owner in _owners(name)}
    return found


owners_of_modules = cache(packages_distributions)


def _owners(module: str) -> list[str]:
    if module.startswith("pyln."):  # a namespace of several distributions
        return [module.replace(".", "-").rsplit("-", module.count(".") - 1)[0]]
    return owners_of_modules().get(module.partition(".")[0], [module])


@pytest.mark.parametrize("file", PARTS)
def test_imported_packages_are_declared_and_locked(file):
    extras, paths = PARTS[file]
    used = imported(sources(paths))
    assert used.keys() <= declared(extras)
    assert used.keys() <= locked(file).keys()


def test_declared_packages_are_imported():
    used = imported(sources(sum((paths for _, paths in PARTS.values()), [])))
    tools = {"lightning-space", "pytest-xdist", "ruff"}
    assert declared(["sandbox", "dev"]) - used.keys() == NOT_IMPORTED | tools


def test_larger_files_of_requirements_add_to_the_smaller():
    production, sandbox, dev = map(locked, PARTS)
    assert production.items() < sandbox.items() < dev.items()


@pytest.mark.parametrize("file", PARTS)
def test_every_package_has_hashes_and_no_index_is_named(file):
    text = (ROOT / file).read_text()
    assert len(re.findall(r"^\S+==.*\\\n    --hash=sha256:", text, re.M)) == len(locked(file))
    assert not re.search("://|--(extra-)?index|--find-links", text)


def test_the_version_is_written_in_one_place():
    assert PROJECT["dynamic"] == ["version"]
    newest = re.findall(r"^## \[(\d.*?)\]", (ROOT / "CHANGELOG.md").read_text(), re.M)[0]
    assert newest == lightningspace.__version__
