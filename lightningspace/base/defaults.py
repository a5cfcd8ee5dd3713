"""What settings are by default that depend on other settings, or on the instance directory."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from lightningspace.base import parsers, settings
from lightningspace.base.settings import Made


def _sender(given: Mapping[str, Any], instance: Path) -> str:
    host = urlsplit(given["public_url"]).hostname
    return f"hosting@{'localhost' if ':' in host else host}"


def _secret_key(given: Mapping[str, Any], instance: Path) -> str:
    """The key in our own file, made at the first start."""
    path = instance / "secret-key"
    if not path.exists():
        settings.make_secret(path)
    return settings.in_file("SECRET_KEY_FILE", path, parsers.key)


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
OUR_KEY = Made("made at the first start, in `instance/secret-key`", _secret_key)
SENDER = Made("`hosting@` the host of `PUBLIC_URL`", _sender)
