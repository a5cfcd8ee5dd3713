"""The defaults that depend on other settings, or on the instance directory."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from lightningspace.base import key_files, parsers, settings
from lightningspace.base.settings import Made


def _sender(given: Mapping[str, Any], instance: Path) -> str:
    host = urlsplit(given["public_url"]).hostname
    return f"hosting@{'localhost' if ':' in host else host}"


def _secret_key(given: Mapping[str, Any], instance: Path) -> str:
    """The key in our own file, made at the first start."""
    path = instance / key_files.KEY
    if not path.exists():
        settings.make_secret(path)
    return settings.in_file("SECRET_KEY_FILE", path, parsers.key)


def _old_keys(given: Mapping[str, Any], instance: Path) -> tuple[str, ...]:
    """The keys before the one in our own file, if that one is in use."""
    path = instance / key_files.OLD_KEYS
    if not path.exists() or not key_files.is_used(instance / key_files.KEY, given["secret_key"]):
        return ()
    each = parsers.list_of(parsers.key)
    return settings.in_file("SECRET_KEY_FALLBACKS", path, lambda text: each(",".join(text.split())))


HOST_OF_THE_SHOP = Made(
    "the host of `PUBLIC_URL`",
    lambda given, instance: urlsplit(given["public_url"]).hostname[:40],
)
THE_CONTACT = Made("`CONTACT`", lambda given, instance: given["contact"])
OUR_SQLITE = Made(
    "`sqlite:///…/instance/shop.sqlite3`",
    lambda given, instance: f"sqlite:///{instance / 'shop.sqlite3'}",
)
OUR_UPLOADS = Made("`instance/uploads`", lambda given, instance: instance / "uploads")
OUR_OLD_KEYS = Made("what `rotate-key` has put into `instance/secret-key.old`", _old_keys)
OUR_KEY = Made("made at the first start, in `instance/secret-key`", _secret_key)
SENDER = Made("`hosting@` the host of `PUBLIC_URL`", _sender)
