"""The accounts of a box: its own, and those of customers."""

import subprocess

from tests.rig.box import Node, file
from tests.rig.sites import Site, gid_of, uid_of

NO_PASSWORD = "!"
JAIL_SHELL = "/usr/sbin/jk_chrootsh"


class Hashes:
    """Passwords as crypt(3) has them, each made once: a new hash would be a change."""

    def __init__(self):
        self._made: dict[str, str] = {}

    def of(self, password: str) -> str:
        if password not in self._made:
            self._made[password] = _crypt(password)
        return self._made[password]


def _crypt(password: str) -> str:
    command = ["openssl", "passwd", "-6", "-stdin"]
    made = subprocess.run(command, input=password, capture_output=True, text=True, check=True)
    return made.stdout.strip()


class Users:
    """The files of accounts, with what this machine had there before."""

    FILES = ("/etc/passwd", "/etc/group", "/etc/shadow")

    def __init__(self, passwd: str, group: str, shadow: str, hashes: Hashes):
        self._passwd, self._group, self._shadow = passwd, group, shadow
        self._hashes = hashes

    def files(self, sites: list[Site], clients: list[dict], shells: list[dict], password_of):
        """`password_of` gives the password of a shell user by its id."""
        passwd, shadow = [], []
        jailed = {record["puser"] for record in shells}
        for site in sites:
            home, shell = site.root, "/bin/false"
            if site.user in jailed:
                home, shell = f"{site.root}/./home/{site.user}", JAIL_SHELL
            passwd.append(f"{site.user}:x:{site.uid}:{site.gid}::{home}:{shell}")
            shadow.append(f"{site.user}:{NO_PASSWORD}:19000:0:99999:7:::")
        for record in shells:
            ids = f"{uid_of(record['puser'])}:{gid_of(record['pgroup'])}"
            home = f"{record['dir']}/./home/{record['username']}"
            shell = JAIL_SHELL if record["active"] == "y" else "/bin/false"
            passwd.append(f"{record['username']}:x:{ids}::{home}:{shell}")
            password = password_of(record["shell_user_id"])
            hash = self._hashes.of(password) if password else NO_PASSWORD
            shadow.append(f"{record['username']}:{hash}:19000:0:99999:7:::")
        groups = {f"client{record['client_id']}" for record in clients}
        groups |= {site.group for site in sites}
        group = [f"{name}:x:{gid_of(name)}:www-data" for name in sorted(groups)]
        return {
            "/etc/passwd": _with(self._passwd, passwd),
            "/etc/group": _with(self._group, group),
            "/etc/shadow": _with(self._shadow, shadow, mode=0o640, gid=42),
        }


def _with(before: str, lines: list[str], **rights: int) -> Node:
    return file("\n".join([before.rstrip("\n"), *lines, ""]), **rights)
