"""The files of deploy/hosting-server, as the doctor writes them."""

import importlib
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

from tests.rig.box import Box, Node, file, link
from tests.rig.sites import FIRST_GID, FIRST_UID

DEPLOYED = Path(__file__).parent.parent.parent / "deploy" / "hosting-server"
CRON_LINE = re.compile(r"^(?:\S+ +){5}root +(\S.*)$", re.M)
# Their names for systemd, and for prlimit.
LIMITS = {"LimitNPROC": "nproc", "LimitDATA": "data", "LimitCORE": "core"}
# The file that is edited: the rest of it is kept.
EDITED = "/etc/postfix/main.cf"


def of_doctor(module: str) -> ModuleType:
    """Import a module of the doctor, which is not part of the shop's package."""
    if str(DEPLOYED) not in sys.path:
        sys.path.append(str(DEPLOYED))
    return importlib.import_module(f"hosting_doctor.{module}")


ours = of_doctor("ours")


class Hardening:
    """The files for a box with this web server, except those in `without`."""

    packages = {
        "/usr/sbin/nft": "nftables",
        "/usr/bin/at": "at",
        "/usr/bin/crontab": "cron",
        "/usr/bin/setfacl": "acl",
    }

    def __init__(self, web: str, php_version: str, without: tuple[str, ...]):
        server = "nginx" if web == "nginx" else "apache"
        parts = [part for part in ours.PARTS if part.web in (None, server)]
        self.templates = {
            path: template
            for part in parts
            for path, template in part.of([php_version]).items()
            if path not in without
        }
        self._links = {path: target for part in parts for path, target in part.links.items()}
        numbers = ours.Ours(FIRST_UID, FIRST_GID)
        self._numbers = numbers
        unedited = self.templates.items() - {(EDITED, EDITED)}
        self._texts = {path: numbers.text(template, None) for path, template in unedited}

    def write(self, box: Box) -> None:
        texts = dict(self._texts)
        if EDITED in self.templates:
            texts[EDITED] = self._numbers.text(EDITED, box.read(EDITED))
        nodes: dict[str, Node] = {
            path: file(text, self._numbers.mode(self.templates[path]))
            for path, text in texts.items()
        }
        box.write(nodes | {path: link(target) for path, target in self._links.items()})
        if ours.RULES in texts:
            if box.run("nft", "add", "table", "inet", "probe", check=False).returncode:
                pytest.skip("needs nf_tables in the kernel")
            box.run("nft", "-f", ours.RULES)

    def run_cron_jobs(self, box: Box) -> None:
        """Run the cron jobs once, as cron does every minute."""
        for path, text in self._texts.items():
            if path.startswith("/etc/cron.d/"):
                for command in CRON_LINE.findall(text):
                    box.shell(command)

    def php_limits(self) -> dict[str, str]:
        """The limits of customers' PHP, from the systemd unit, as prlimit takes them."""
        text = "".join(text for path, text in self._texts.items() if "-fpm.service.d/" in path)
        return {
            LIMITS[name]: str(int(value) * (1024 * 1024 if unit else 1))
            for name, value, unit in re.findall(r"^(\w+)=(\d+)(M?)$", text, re.M)
            if name in LIMITS
        }
