"""The text of docs/settings.md, made from the declarations. `make settings` writes the file."""

from itertools import groupby

from lightningspace.base import groups
from lightningspace.base.config import Config
from lightningspace.base.settings import Group, Made, Setting, declared

OPENING = """\
# Settings

<!-- Made from the declarations in lightningspace/base by `make settings`: change it there. -->

All settings are environment variables, read once at the start. A missing or wrong one stops the
start, and the message names it and says what to write instead. A setting with a `_FILE` beside its
name may also come from a file: set `<name>_FILE` to its path. Lists are separated by commas."""

ORDER = [each for each in vars(groups).values() if isinstance(each, Group)]
HEAD = ["| Setting | Default | What it does |", "| --- | --- | --- |"]


def text() -> str:
    parts = [OPENING]
    in_order = sorted(declared(Config).items(), key=lambda row: ORDER.index(row[1].group))
    for group, rows in groupby(in_order, lambda row: row[1].group):
        table = [*HEAD, *(_row(name.upper(), setting) for name, setting in rows)]
        parts += [f"## {group.title}", group.about, "\n".join(table)]
    return "\n\n".join(parts) + "\n"


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
    print(text(), end="")
