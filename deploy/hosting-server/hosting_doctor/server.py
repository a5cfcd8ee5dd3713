"""What the checks ask the server."""

import grp
import os
import pwd
import re
import socket
import subprocess
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path

PANEL = Path("/usr/local/ispconfig")
CLIENTS = Path("/var/www/clients")
# Users and groups that ISPConfig's installer makes: customers' numbers follow theirs.
PANELS_USERS = ("vmail", "getmail", "ispapps", "ispconfig")
PANELS_GROUPS = (*PANELS_USERS, "sshusers")
# The number before nobody's (65534).
LAST_ID = 65533
OF_CUSTOMER = re.compile(r"web\d+")
OF_CLIENT = re.compile(r"client\d+")
SECONDS = 60


class Unknown(Exception):
    """A check cannot tell; the text says why, or what to install."""


class Server:
    """`web` is "apache" or "nginx"; `walls` is the shop's WALLS, by default what runs here."""

    def __init__(self, walls: str | None = None):
        self._wanted_walls = walls

    def forget(self) -> None:
        """Look at the processes again: a service was restarted."""
        self.__dict__.pop("processes", None)

    # Programs

    def run(
        self, *command: str, seconds: float = SECONDS, **options
    ) -> subprocess.CompletedProcess:
        """Run a command, whatever its exit status, and capture its output as text.

        Raises Unknown if it is not installed or takes too long.
        """
        try:
            return subprocess.run(
                command,
                capture_output=True,
                text=True,
                errors="replace",
                stdin=None if "input" in options else subprocess.DEVNULL,
                timeout=seconds,
                **options,
            )
        except FileNotFoundError:
            raise Unknown(f"{command[0]} is not installed") from None
        except subprocess.TimeoutExpired:
            raise Unknown(f"{' '.join(command)} did not end in {seconds} seconds") from None

    def said(self, *command: str, **options) -> str:
        """What the command printed. Raises Unknown if it failed."""
        done = self.run(*command, **options)
        if done.returncode:
            why = (done.stderr.strip() or done.stdout.strip() or "failed").splitlines()[-1]
            raise Unknown(f"{' '.join(command)}: {why}")
        return done.stdout

    def read(self, path: str | Path) -> str | None:
        """The file's text, or None if there is no such file."""
        try:
            return Path(path).read_text(encoding="utf-8", errors="replace")
        except FileNotFoundError:
            return None

    def files(self, directory: str, pattern: str) -> Iterator[tuple[str, str]]:
        """The name without its ending, and the text, of each file that matches."""
        for path in sorted(Path(directory).glob(pattern)):
            yield path.stem, self.read(path) or ""

    @cached_property
    def has_systemd(self) -> bool:
        return Path("/run/systemd/system").is_dir()

    @cached_property
    def processes(self) -> list[tuple[int, str, str]]:
        """PID, name and command line of root's processes.

        Only root's: customers can give theirs any name.
        """
        found = []
        for each in Path("/proc").glob("[0-9]*"):
            try:
                if each.stat().st_uid != 0:
                    continue
                line = (each / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                found.append((int(each.name), (each / "comm").read_text().strip(), line))
            except (FileNotFoundError, ProcessLookupError):
                pass  # it has just ended
        return found

    # Names and numbers

    @cached_property
    def name(self) -> str:
        return socket.getfqdn()

    @cached_property
    def addresses(self) -> list[str]:
        """The addresses that other machines reach it by."""
        lines = self.said("ip", "-o", "address", "show", "scope", "global").splitlines()
        return [line.split()[3].partition("/")[0] for line in lines]

    @cached_property
    def first_ids(self) -> tuple[int, int]:
        """The lowest user and group number that a customer can have."""
        customers = [user for user in pwd.getpwall() if OF_CUSTOMER.fullmatch(user.pw_name)]
        clients = [group for group in grp.getgrall() if OF_CLIENT.fullmatch(group.gr_name)]
        uids = [user.pw_uid for user in customers]
        gids = [group.gr_gid for group in clients]
        own_uids = [user.pw_uid for user in pwd.getpwall() if user.pw_name in PANELS_USERS]
        own_gids = [group.gr_gid for group in grp.getgrall() if group.gr_name in PANELS_GROUPS]
        # A later customer may get a number below those of today's customers.
        uids += [last + 1 for last in sorted(own_uids)[-1:]]
        gids += [last + 1 for last in sorted(own_gids)[-1:]]
        if not uids or not gids:
            raise Unknown("ISPConfig has made no users here: is this its server?")
        return min(uids), min(gids)

    @cached_property
    def customer(self) -> str:
        """The system user of any customer."""
        clients = {group.gr_gid for group in grp.getgrall() if OF_CLIENT.fullmatch(group.gr_name)}
        for user in pwd.getpwall():
            if OF_CUSTOMER.fullmatch(user.pw_name) and user.pw_gid in clients:
                return user.pw_name
        raise Unknown("there is no customer yet to try it with")

    # Web server and PHP

    @cached_property
    def web(self) -> str:
        # Where both run, nginx is in front of the other (SITES_TLS=wildcard).
        running = {name for _, name, _ in self.processes}
        for name, program in (("apache", "apache2"), ("nginx", "nginx")):
            if program in running:
                return name
        raise Unknown("neither Apache nor nginx runs")

    @cached_property
    def found_walls(self) -> str:
        if self.web == "nginx":
            return "nginx"
        return "mpm_itk" if "mpm_itk_module" in self.said("apache2ctl", "-M") else "narrow"

    @property
    def walls(self) -> str:
        return self._wanted_walls or self.found_walls

    @cached_property
    def php_versions(self) -> list[str]:
        return [
            path.name.removeprefix("php-fpm") for path in Path("/usr/sbin").glob("php-fpm[0-9]*")
        ]

    def sites(self) -> Iterator[tuple[str, str]]:
        """The name of each customer's site, and its text in the web server's configuration."""
        at = "nginx" if self.web == "nginx" else "apache2"
        for name, text in self.files(f"/etc/{at}/sites-enabled", "*.vhost"):
            if f"{CLIENTS}/" in text:
                yield name.partition("-")[2], text

    # The panel and its database

    @cached_property
    def panel_config(self) -> dict[str, str]:
        text = self.read(PANEL / "server/lib/config.inc.php")
        if text is None:
            raise Unknown("ISPConfig is not installed here")
        return dict(re.findall(r"^\$conf\['(\w+)'\] *= *'([^'\n]*)';", text, re.M))

    @cached_property
    def _mysql(self) -> tuple[list[str], dict[str, str]]:
        """The command that logs root in, and the environment variables that it needs."""
        ways: list[tuple[list[str], dict[str, str]]] = [(["mysql"], {})]
        ways.append((["mysql", "--defaults-file=/etc/mysql/debian.cnf"], {}))
        text = self.read(PANEL / "server/lib/mysql_clientdb.conf") or ""
        root = dict(re.findall(r"^\$clientdb_(\w+) *= *'([^'\n]*)';", text, re.M))
        if {"user", "password"} <= root.keys():
            # Not on the command line, which every local user can read.
            ways.append((["mysql", "-u", root["user"]], {"MYSQL_PWD": root["password"]}))
        for command, secret in ways:
            if self.run(*command, "-e", "SELECT 1", env=os.environ | secret).returncode == 0:
                return command, secret
        raise Unknown("MariaDB does not let root log in")

    def ask(self, sql: str) -> list[str]:
        """Run SQL as MariaDB's administrator, and return the lines of its answer."""
        command, secret = self._mysql
        asked = [*command, "--skip-column-names", "--batch", "--raw"]
        return self.said(*asked, input=sql, env=os.environ | secret).splitlines()

    @cached_property
    def settings(self) -> dict[tuple[str, str], str]:
        """The panel's server settings, by section and name."""
        config = self.panel_config
        id, database = int(config.get("server_id", "1")), config.get("db_database", "dbispconfig")
        if not re.fullmatch(r"\w+", database):
            raise Unknown(f"the panel's database has no valid name: {database}")
        found, section = {}, ""
        for line in self.ask(f"SELECT config FROM `{database}`.server WHERE server_id = {id}"):
            name, equals, value = line.partition("=")
            if line.startswith("["):
                section = line.strip("[] \r")
            elif equals:
                found[section, name.strip()] = value.strip()
        if not found:
            raise Unknown(f"the panel's database has no server {id}")
        return found
