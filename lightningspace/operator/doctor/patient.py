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
from lightningspace.outside.inspected_node import InspectedNode
from lightningspace.outside.ispconfig_functions import InspectedPanel
from lightningspace.outside.raw_http import TOR, Site
from lightningspace.shop import Shop

NODE_SECONDS = 5


class NotSeen(Exception):
    """Nobody can say whether all is well; the text says why, and how to look by hand."""


@dataclass
class Patient:
    """`make_app` starts the shop, or raises ConfigError. `config` and `shop` are None until the
    settings are read. `writes`: a client of our own may be made at the panel.
    """

    env: Mapping[str, str]
    instance: Path
    make_app: Callable[[Config], Flask]
    writes: bool = False
    config: Config | None = None
    shop: Shop | None = None
    panel: InspectedPanel | None = None  # it waits less long than the shop's
    # Where Debian, or the files of deploy/, put what is outside the instance directory.
    settings_file: Path = Path("/etc/lightning-space.env")
    nginx: Path = Path("/etc/nginx")
    nginx_logs: Path = Path("/var/log/nginx")
    backups: Path = Path("/var/lib/lightning-space-backups")
    systemd: Path = Path("/run/systemd/system")
    tor: tuple[str, int] = TOR
    http_port: int = 80

    @cached_property
    def node(self) -> InspectedNode:
        return InspectedNode(self.config.lightning_rpc, NODE_SECONDS)

    @cached_property
    def site(self) -> Site:
        """The shop as its visitors reach it."""
        return Site(self.config.public_url, self.tor)

    @cached_property
    def mark(self) -> str:
        """A part of the query of the doctor's own requests, to look for in logs."""
        return secrets.token_hex(8)

    @property
    def host(self) -> str:
        """The host of PUBLIC_URL."""
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
