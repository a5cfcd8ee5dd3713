"""Whether the shop would start with its settings."""

import os
import pwd
import secrets
from collections.abc import Iterator
from pathlib import Path

from lightningspace.base.config import Config, ConfigError, from_env
from lightningspace.base.settings import declared
from lightningspace.operator.doctor.patient import Patient
from lightningspace.shop import build

OTHERS = 0o007


def are_readable(patient: Patient) -> Iterator[str]:
    """Reads the settings, and builds the shop. It never makes a secret key, which would belong to
    whoever runs the doctor.
    """
    env = dict(patient.env)
    if not patient.instance.is_dir():
        yield (
            f"the directory {patient.instance} is not there: make it with `install -d -o shop -g "
            f"shop -m 0700 {patient.instance}`, where shop is who runs the shop"
        )
        return
    if not patient.instance.joinpath("secret-key").exists():
        env = {"SECRET_KEY": secrets.token_hex(32)} | env if not _has_key(env) else env
    try:
        patient.config = from_env(env, patient.instance)
        patient.make_app(patient.config)
    except ConfigError as error:
        yield f"{error}. Then restart web and worker"
        return
    patient.shop = build(patient.config)


def _has_key(env: dict[str, str]) -> bool:
    return "SECRET_KEY" in env or "SECRET_KEY_FILE" in env


def user(patient: Patient) -> Iterator[str]:
    """Whether the doctor runs as the shop's user: root would not notice what that may not read."""
    owner = patient.instance.stat().st_uid
    if owner != os.geteuid():
        yield (
            f"the doctor is run by {_name(os.geteuid())}, and the shop by {_name(owner)}: run "
            "`deploy/flask doctor`, as root"
        )


def _name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def secrets_are_kept(patient: Patient) -> Iterator[str]:
    env = patient.env
    named = [env[f"{name.upper()}_FILE"] for name in _secrets() if f"{name.upper()}_FILE" in env]
    ours = patient.instance / "secret-key"
    if not (ours.exists() or _has_key(dict(env))):
        yield "there is no secret key yet: `deploy/flask init-db` makes it, and the database"
    keys = sorted(patient.instance.glob("secret-key*"))
    for path in (patient.settings_file, patient.instance, *keys, *map(Path, named)):
        try:
            mode = path.stat().st_mode
        except OSError:
            continue  # what is needed and not there, “settings” has said
        if mode & OTHERS:
            yield f"others on this machine may read {path}: `chmod o-rwx {path}`"


def _secrets() -> list[str]:
    return [name for name, setting in declared(Config).items() if setting.is_secret]


def domains_are_apart(patient: Patient) -> Iterator[str]:
    host, base = f".{patient.host}", f".{patient.config.base_domain}"
    if host.endswith(base) or base.endswith(host):
        yield (
            "PUBLIC_URL and BASE_DOMAIN share a domain, so customers' pages can set cookies for "
            "the shop: take a second domain for one of them, before the first sale"
        )


CHECKS = {
    "settings": are_readable,
    "user": user,
    "secrets": secrets_are_kept,
    "domains": domains_are_apart,
}
