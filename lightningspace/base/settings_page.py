"""The texts of docs/settings.md and deploy/lightning-space.env, made from the declarations.

`make settings` writes both files.
"""

import re
import sys
import textwrap
from collections.abc import Iterator
from itertools import groupby

from lightningspace.base import groups
from lightningspace.base.config import Config
from lightningspace.base.settings import Group, Made, Setting, declared

OPENING = """\
# Settings

<!-- Made from the declarations in lightningspace/base by `make settings`: change it there. -->

For whoever runs a shop: every setting, to look it up. Few of them are needed for a first sale;
[operating.md](operating.md) names those.

All settings are environment variables, read once at the start. A missing or wrong one stops the
start, and the message names it and says what to write instead. A setting with a `_FILE` beside its
name may also come from a file: set `<name>_FILE` to its path. Lists are separated by commas."""

ENV_OPENING = """\
# The settings of the shop, each with its default. Take the # off those that you change, then
#     systemctl restart lightning-space-web lightning-space-worker
# systemd reads this file, and a shell: put quotes around what has spaces in it."""

ORDER = [each for each in vars(groups).values() if isinstance(each, Group)]
HEAD = ["| Setting | Default | What it does |", "| --- | --- | --- |"]


def text() -> str:
    parts = [OPENING]
    for group, rows in _in_groups():
        table = [*HEAD, *(_row(name.upper(), setting) for name, setting in rows)]
        parts += [f"## {group.title}", group.about, "\n".join(table)]
    return "\n\n".join(parts) + "\n"


def env() -> str:
    """The same as a file for systemd's EnvironmentFile, with every setting commented out."""
    parts = [ENV_OPENING]
    for group, rows in _in_groups():
        parts += [f"## {group.title}", _commented(group.about)]
        parts += [_lines(name.upper(), setting) for name, setting in rows]
    return "\n\n".join(parts) + "\n"


def _in_groups() -> Iterator[tuple[Group, Iterator[tuple[str, Setting]]]]:
    in_order = sorted(declared(Config).items(), key=lambda row: ORDER.index(row[1].group))
    return groupby(in_order, lambda row: row[1].group)


def _lines(name: str, setting: Setting) -> str:
    does, value = setting.does, setting.default
    if setting.is_secret:
        does += f" {name}_FILE may name a file that holds it."
    if isinstance(value, Made):
        does, value = f"{does} Default: {value.in_words}.", ""
    elif value is None:
        does, value = f"{does} It must be set.", ""
    quoted = f'"{value}"' if " " in value else value
    return f"{_commented(does)}\n#{name}={quoted}"


def _commented(markdown: str) -> str:
    plain = re.sub(r"\[([^]]*)\]\([^)]*\)", r"docs/\1", markdown).replace("`", "")
    wrapped = (textwrap.fill(each, 96, break_on_hyphens=False) for each in plain.split("\n\n"))
    return textwrap.indent("\n".join(wrapped), "# ")


def _row(name: str, setting: Setting) -> str:
    names = [name, f"{name}_FILE"] if setting.is_secret else [name]
    in_code = ", ".join(f"`{each}`" for each in names)
    return f"| {in_code} | {_default(setting.default)} | {setting.does} |"


def _default(default: str | Made | None) -> str:
    if isinstance(default, Made):
        return default.in_words
    if default is None:
        return "**required**"
    return f"`{default}`" if default else "empty"


if __name__ == "__main__":
    print(env() if sys.argv[1:] == ["env"] else text(), end="")
