"""The shop that is looked at, and the machine that it runs on."""

import ipaddress
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from urllib.parse import urlsplit

from flask import Flask

from lightningspace.base.config import Config
from lightningspace.outside.ispconfig_functions import TriedPanel
from lightningspace.outside.looked_at_node import LookedAtNode
from lightningspace.outside.raw_http import TOR, Site
from lightningspace.shop import Shop

NODE_SECONDS = 5


class NotSeen(Exception):
    """It cannot be said whether it is well; the text says why, and how to look oneself."""


@dataclass
class Patient:
    """`make_app` is how the shop starts; it raises ConfigError. `config` and `shop` are None until
    the settings are read. `writes`: a client of our own may be made at the panel.
    """

    env: Mapping[str, str]
    instance: Path
    make_app: Callable[[Config], Flask]
    writes: bool = False
    config: Config | None = None
    shop: Shop | None = None
    panel: TriedPanel | None = None  # with less patience than the shop's
    # Where Debian, and the files of deploy/, have what is outside the instance directory.
    settings_file: Path = Path("/etc/lightning-space.env")
    nginx: Path = Path("/etc/nginx")
    nginx_logs: Path = Path("/var/log/nginx")
    backups: Path = Path("/var/lib/lightning-space-backups")
    systemd: Path = Path("/run/systemd/system")
    tor: tuple[str, int] = TOR
    http_port: int = 80

    @cached_property
    def node(self) -> LookedAtNode:
        return LookedAtNode(self.config.lightning_rpc, NODE_SECONDS)

    @cached_property
    def site(self) -> Site:
        """The shop as its visitors reach it."""
        return Site(self.config.public_url, self.tor)

    @cached_property
    def mark(self) -> str:
        """What the doctor's own requests have in their query, to be looked for in logs."""
        return secrets.token_hex(8)

    @property
    def host(self) -> str:
        """That of PUBLIC_URL."""
        return urlsplit(self.config.public_url).hostname

    @property
    def is_for_this_machine(self) -> bool:
        """Whether nobody else can reach the shop, as in its sandbox."""
        return self.host == "localhost" or is_loopback(self.host)


def is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def is_address(host: str) -> bool:
    try:
        return bool(ipaddress.ip_address(host))
    except ValueError:
        return False
