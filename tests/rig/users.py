"""The accounts of a box: its own, and those of customers."""

import subprocess
from collections.abc import Callable
from typing import NamedTuple

from tests.rig.box import Box, Node, file
from tests.rig.sites import Site, gid_of, uid_of

NO_PASSWORD = "!"
# The password of a record, by its id; None if it has none.
PasswordOf = Callable[[str], str | None]
JAIL_SHELL = "/usr/sbin/jk_chrootsh"


class Hashes:
    """crypt(3) hashes of passwords, each made once: a new hash would look like a change."""

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
    """/etc/passwd, group and shadow: this machine's lines, and the customers'."""

    def __init__(self, box: Box, hashes: Hashes):
        self._box = box
        self._hashes = hashes

    def read(self) -> None:
        files = ("/etc/passwd", "/etc/group", "/etc/shadow")
        self._passwd, self._group, self._shadow = map(self._box.read, files)

    def files(
        self, sites: list[Site], clients: list[dict], shells: list[dict], password_of: PasswordOf
    ) -> dict[str, Node]:
        jailed = {record["puser"] for record in shells}
        accounts = [*PANELS_OWN, *(_of_site(site, site.user in jailed) for site in sites)]
        for record in shells:
            password = password_of(record["shell_user_id"])
            hash = self._hashes.of(password) if password else NO_PASSWORD
            accounts.append(self._of_shell(record, hash))
        groups = {f"client{record['client_id']}" for record in clients}
        groups |= {site.group for site in sites}
        lines = [*PANELS_GROUPS, *map(self._line, sorted(groups))]
        lines.append(f"{SSH_USERS}:{','.join(sorted(site.user for site in sites))}")
        return {
            "/etc/passwd": _with(self._passwd, [account.passwd for account in accounts]),
            "/etc/group": _with(self._group, lines),
            "/etc/shadow": _with(self._shadow, [account.shadow for account in accounts], 0o640, 42),
        }

    def _of_shell(self, record: dict, hash: str) -> "Account":
        """The account of a shell user, always in a jail: the shop asks for no others."""
        home = f"{record['dir']}/./home/{record['username']}"
        shell = JAIL_SHELL if record["active"] == "y" else "/bin/false"
        ids = uid_of(self._box, record["puser"]), gid_of(self._box, record["pgroup"])
        return Account(record["username"], *ids, home, shell, hash)

    def _line(self, group: str) -> str:
        return f"{group}:x:{gid_of(self._box, group)}:www-data"


# ISPConfig makes these groups when it is installed, before any customer's. All customers are in
# sshusers.
PANELS_GROUPS = ["vmail:x:5000:", "ispapps:x:5002:", "ispconfig:x:5003:"]
SSH_USERS = "sshusers:x:5001"


class Account(NamedTuple):
    name: str
    uid: int
    gid: int
    home: str
    shell: str
    hash: str = NO_PASSWORD

    @property
    def passwd(self) -> str:
        return f"{self.name}:x:{self.uid}:{self.gid}::{self.home}:{self.shell}"

    @property
    def shadow(self) -> str:
        return f"{self.name}:{self.hash}:19000:0:99999:7:::"


PANELS_OWN = [
    Account("vmail", 5000, 5000, "/var/vmail", "/bin/sh"),
    Account("ispapps", 5001, 5002, "/var/www/apps", "/bin/sh"),
    Account("ispconfig", 5002, 5003, "/usr/local/ispconfig", "/bin/sh"),
]


def _of_site(site: Site, is_jailed: bool) -> Account:
    home = f"{site.root}/./home/{site.user}" if is_jailed else site.root
    shell = JAIL_SHELL if is_jailed else "/bin/false"
    return Account(site.user, site.uid, site.gid, home, shell)


def _with(before: str, lines: list[str], mode: int = 0o644, gid: int = 0) -> Node:
    return file("\n".join([before.rstrip("\n"), *lines, ""]), mode, gid=gid)
