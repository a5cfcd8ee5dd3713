"""The files that docs/hosting-server.md tells operators to write, read from there.

A file is a fenced block under a paragraph that begins with its path:

    `/etc/cron.allow`: who may have a crontab.

"added" after the path's colon means that the block goes to the end of what is there.
"""

import re
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.rig.box import Box, Node, file, link

DOCUMENT = Path(__file__).parent.parent.parent / "docs" / "hosting-server.md"
BLOCK = re.compile(r"^`(/[^`\n]+)`:((?:[^\n]*\n)(?:[^\n]+\n)*)\n```\n(.*?)^```$", re.M | re.S)
CRON_LINE = re.compile(r"^(?:\S+ +){5}root +(\S.*)$", re.M)


@dataclass(frozen=True)
class Advice:
    path: str
    text: str
    is_added: bool

    @property
    def mode(self) -> int:
        return 0o755 if self.text.startswith("#!") else 0o644


def advice() -> list[Advice]:
    found = BLOCK.findall(DOCUMENT.read_text(encoding="utf-8"))
    return [Advice(path, text, said.split()[:1] == ["added"]) for path, said, text in found]


class Hardening:
    """What is advised for a box with this web server, but for the files in `without`."""

    packages = {
        "/usr/sbin/nft": "nftables",
        "/usr/bin/crontab": "cron",
        "/usr/bin/setfacl": "acl",
    }

    def __init__(self, web: str, without: tuple[str, ...]):
        other = "/etc/apache2/" if web == "nginx" else "/etc/nginx/"
        every = advice()
        unknown = set(without) - {each.path for each in every}
        assert not unknown, f"{DOCUMENT} does not advise {unknown}"
        self._advice = [
            each for each in every if each.path not in without and not each.path.startswith(other)
        ]

    def write(self, box: Box) -> None:
        nodes: dict[str, Node] = {}
        for each in self._advice:
            before = box.read(each.path) if each.is_added else ""
            nodes[each.path] = file(before + each.text, each.mode)
            available = "/etc/apache2/conf-available/"
            if each.path.startswith(available):
                name = each.path.removeprefix(available)
                nodes[f"/etc/apache2/conf-enabled/{name}"] = link(f"../conf-available/{name}")
        box.write(nodes)
        if "/etc/nftables.conf" in nodes:
            if box.run("nft", "add", "table", "inet", "probe", check=False).returncode:
                pytest.skip("needs nf_tables in the kernel")
            box.run("nft", "-f", "/etc/nftables.conf")

    def run_cron_jobs(self, box: Box) -> None:
        """Once, as the clock would each minute."""
        for each in self._advice:
            if each.path.startswith("/etc/cron.d/"):
                for command in CRON_LINE.findall(each.text):
                    box.shell(command)

    def php_processes(self) -> int | None:
        """How many processes a customer's PHP may have, as systemd is told."""
        for each in self._advice:
            if found := re.search(r"^LimitNPROC=(\d+)$", each.text, re.M):
                return int(found[1])
        return None
