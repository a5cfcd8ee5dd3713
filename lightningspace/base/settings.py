"""How a setting is declared and read from the environment.

A setting is a field of a dataclass, made by `Group.setting` or `Group.secret`. The variable has the
field's name in capitals.
"""

import os
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

DECLARATION = "setting"


class ConfigError(Exception):
    """A setting is missing or unusable; the text says which one and what to write instead."""


@dataclass(frozen=True)
class Made:
    """A default that is made at the start.

    `make` gets the settings that were read before, by field name, and the directory for our own
    files. `in_words`: the default, as the documentation gives it.
    """

    in_words: str
    make: Callable[[Mapping[str, Any], Path], Any]


@dataclass(frozen=True)
class Setting:
    """`parse` raises ValueError, whose text says what to write. `default` None: it must be set.

    `is_secret`: <name>_FILE may name a file that holds the value. `for_each_server`: the setting is
    a list with a value for each id in PANEL_SERVER_ID, and the field a dict by server id; this is
    what messages call one value.
    """

    group: "Group"
    parse: Callable[[str], Any]
    does: str
    default: str | Made | None
    is_secret: bool = False
    for_each_server: str | None = None


@dataclass(frozen=True)
class Group:
    """Settings that belong together, and what the documentation says about all of them."""

    title: str
    about: str

    def setting(
        self,
        parse: Callable[[str], Any],
        does: str,
        default: str | Made | None = None,
        for_each_server: str | None = None,
    ) -> Any:
        return _declared(Setting(self, parse, does, default, False, for_each_server))

    def secret(
        self, parse: Callable[[str], str], does: str, default: str | Made | None = None
    ) -> Any:
        return _declared(Setting(self, parse, does, default, True))


def _declared(setting: Setting) -> Any:
    return field(metadata={DECLARATION: setting})


def declared(kind: type) -> dict[str, Setting]:
    """The settings of a dataclass by field name, in its order."""
    return {each.name: each.metadata[DECLARATION] for each in fields(kind)}


@dataclass(frozen=True)
class Given:
    """A setting as the environment has it. `is_secret`: it is one, or names the file of one."""

    name: str
    value: str
    is_secret: bool


def given(kind: type, env: Mapping[str, str]) -> list[Given]:
    """The settings of the dataclass `kind` that `env` has, in its order."""
    found = []
    for field_name, setting in declared(kind).items():
        name = field_name.upper()
        names = (name, f"{name}_FILE") if setting.is_secret else (name,)
        found += [Given(each, env[each], setting.is_secret) for each in names if each in env]
    return found


def read(kind: type, env: Mapping[str, str], instance: Path) -> Any:
    """The settings of the dataclass `kind`, from `env`. Our own files are in `instance`.

    Raises ConfigError.
    """
    values: dict[str, Any] = {}
    for name, setting in declared(kind).items():
        values[name] = _value(name.upper(), setting, env, values, instance)
        if setting.for_each_server:
            values[name] = _by_server(name.upper(), setting, values)
    return kind(**values)


def _value(
    name: str,
    setting: Setting,
    env: Mapping[str, str],
    values: Mapping[str, Any],
    instance: Path,
) -> Any:
    if name in env:
        return _parsed(name, setting, env[name].strip())
    if setting.is_secret and f"{name}_FILE" in env:
        return in_file(f"{name}_FILE", Path(env[f"{name}_FILE"]), setting.parse)
    if isinstance(setting.default, Made):
        return setting.default.make(values, instance)
    if setting.default is not None:
        return _parsed(name, setting, setting.default)
    advice = _advice(setting.parse)
    if setting.is_secret:
        advice = f"write it, or the path of its file in {name}_FILE"
    raise ConfigError(f"{name} is not set: {advice}")


def _parsed(name: str, setting: Setting, text: str) -> Any:
    try:
        return setting.parse(text)
    except ValueError as error:
        raise ConfigError(f"{name} is not usable: {error}") from error


def _advice(parse: Callable[[str], Any]) -> str:
    """What to write, in the words with which the parser refuses an empty value."""
    try:
        parse("")
    except ValueError as error:
        return str(error)
    return "write a value"


def in_file(name: str, path: Path, parse: Callable[[str], str]) -> str:
    """The secret in the file that the variable `name` names. Raises ConfigError."""
    try:
        return parse(path.read_text().strip())
    except (OSError, ValueError) as error:
        # Only the reason, never what the file holds.
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise ConfigError(f"{name} names a file that is not usable ({path}): {reason}") from error


def make_secret(path: Path) -> None:
    """Write a random secret to the file, unless it is there by now."""
    # Written to a draft, then linked: two programs that start together end up with one whole key.
    draft = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
    with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(secrets.token_hex(32) + "\n")
        file.flush()
        os.fsync(file.fileno())
    try:
        os.link(draft, path)
    except FileExistsError:
        pass
    finally:
        draft.unlink()


def _by_server(name: str, setting: Setting, values: Mapping[str, Any]) -> dict[int, Any]:
    servers, given = values["panel_server_id"], values[name.lower()]
    if not given and setting.default == "":
        return {}
    if len(given) != len(servers):
        raise ConfigError(
            f"{name} needs one {setting.for_each_server} for each id in PANEL_SERVER_ID"
        )
    return dict(zip(servers, given, strict=True))
