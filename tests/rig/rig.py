"""A hosting server with real daemons, set up from the records of a stand-in panel.

    with Rig(panel, web="apache-itk", hardening=True) as rig:
        rig.apply()
        requests.get(f"http://{rig.address}/", headers={"Host": "alice.shop.test"})

If this machine lacks something, the test is skipped and says what.
"""

import ftplib
import shlex
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from lightningspace.sandbox.certificate import self_signed
from lightningspace.sandbox.panel import SandboxPanel
from tests.rig.box import ENVIRONMENT, HOST_NAME, Box, Node, directory, file
from tests.rig.database import Database
from tests.rig.ftp import Ftp
from tests.rig.hardening import Hardening
from tests.rig.imap import Imap
from tests.rig.mail import Mail
from tests.rig.neighbours import Neighbours
from tests.rig.sites import SITE_LOGS, Site
from tests.rig.ssh import Ssh
from tests.rig.terminal import Terminal
from tests.rig.users import Hashes, PasswordOf, Users
from tests.rig.web import Apache, Nginx, Php, php_version

WEB_SERVERS = ("apache-event", "apache-itk", "nginx")
KINDS = ("client", "site", "alias", "ftp", "shell")
KINDS_OF_DATABASE = ("database", "database_user")
KINDS_OF_IMAP = ("mailbox",)
PANEL_CERTIFICATE = "/usr/local/ispconfig/interface/ssl/ispserver"
KEEP_UP_SECONDS = 0.05
START_SECONDS = 20
SSH_OPTIONS = """
    -F none -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR
    -o NumberOfPasswordPrompts=1 -o ConnectTimeout=10
""".split()
# Without a terminal, ssh asks a program for the password.
ASKPASS = '#!/bin/sh\necho "$RIG_PASSWORD"\n'


class Rig:
    """The server. `hardening`: with the files of deploy/hosting-server, except those in `without`.

    `certificate` is a file to verify the FTP server's certificate with; it is valid for
    `host_name`. `database` and `imap`: with a real MariaDB, and a real Dovecot.
    """

    host_name = HOST_NAME

    def __init__(
        self,
        panel: SandboxPanel,
        web: str = "apache-event",
        hardening: bool = False,
        without: tuple[str, ...] = (),
        database: bool = False,
        imap: bool = False,
    ):
        assert web in WEB_SERVERS, web
        self._panel = panel
        self._hardening = Hardening(web, php_version(), without) if hardening else None
        self._lock = threading.Lock()
        kinds = KINDS + KINDS_OF_DATABASE * database + KINDS_OF_IMAP * imap
        self._records: dict[str, list[dict]] = {kind: [] for kind in kinds}
        self._written: dict[str, Node] = {}
        # Files that were written and that some daemon has yet to read.
        self._unread: set[str] = set()
        self._sites: dict[str, Site] = {}
        self.box = Box()
        self._make_daemons(web, database, imap)

    def _make_daemons(self, web: str, database: bool, imap: bool) -> None:
        hashes = Hashes()
        self._users = Users(self.box, hashes)
        is_itk = web == "apache-itk"
        self._web = Nginx(self.box) if web == "nginx" else Apache(self.box, is_itk)
        self._php = Php(self.box, self._hardening.php_limits() if self._hardening else {})
        self._ftp = Ftp(self.box, hashes)
        self._ssh = Ssh(self.box)
        self._mail = Mail(self.box)
        self.database = Database(self.box) if database else None
        self._imap = Imap(self.box, hashes) if imap else None
        # The daemons that follow the panel's records, and then all of them.
        self._followers = (self._php, self._web, self._ftp, *self._optional())
        neighbours = Neighbours(self.box, has_database=database)
        self._daemons = (self._mail, *self._followers, self._ssh, neighbours)

    def _optional(self) -> Iterator[Database | Imap]:
        return filter(None, (self.database, self._imap))

    def __enter__(self) -> "Rig":
        self._need_packages()
        self.box.__enter__()
        try:
            self._start()
        except BaseException:
            self.box.stop()
            raise
        return self

    def __exit__(self, *_) -> None:
        self.box.stop()

    @property
    def address(self) -> str:
        return self.box.address

    # Start

    def _need_packages(self) -> None:
        needed: dict[str, str] = {}
        for part in (self.box, *self._daemons, *filter(None, [self._hardening])):
            needed |= part.packages
        missing = {name for path, name in needed.items() if not Path(path).exists()}
        if missing:
            names = " ".join(sorted(missing))
            pytest.skip(f"needs {names}: apt-get install {names}")

    def _start(self) -> None:
        ours = self.box.new_directory()
        self.certificate = self_signed(ours / "server.pem", HOST_NAME)
        self._askpass = ours / "askpass"
        self._askpass.write_text(ASKPASS)
        self._askpass.chmod(0o700)

        self._users.read()
        # Keep only Debian's page of this machine's own sites.
        self.box.shell("find /var/www -mindepth 1 -maxdepth 1 ! -name html -exec rm -rf {} +")
        at_once(daemon.prepare for daemon in self._daemons)
        self.box.write(self._settings())
        self._put(self._files(self._records))
        if self._hardening:
            self._hardening.write(self.box)
        at_once(daemon.start for daemon in self._daemons)
        for daemon in self._daemons:
            for port in daemon.ports:
                self._wait_for(port)

    def _settings(self) -> dict[str, Node]:
        """The files that do not depend on the records."""
        certificate = self.certificate.read_bytes()
        return {
            "/etc/hosts": file(f"127.0.0.1 localhost\n{self.address} {HOST_NAME}\n"),
            "/var/www/clients": directory(),
            SITE_LOGS: directory(),
            f"{PANEL_CERTIFICATE}.crt": file(certificate),
            f"{PANEL_CERTIFICATE}.key": file(certificate, 0o400),
            **self._ftp.settings(certificate),
            **self._ssh.settings(),
            **self._mail.settings(),
            **(self.database.settings() if self.database else {}),
            **(self._imap.settings(certificate) if self._imap else {}),
        }

    def _wait_for(self, port: int) -> None:
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                return socket.create_connection((self.address, port), timeout=1).close()
            except OSError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.01)

    # Following the panel

    def apply(self) -> None:
        """Make the server match the records. When this returns, it serves them."""
        with self._lock:
            records = {kind: self._panel.records(kind) for kind in self._records}
            if records != self._records:
                self._apply(records)
                self._records = records

    @contextmanager
    def keep_up(self) -> Iterator[None]:
        """Apply the panel's changes as they come, within the block."""
        ended, failures = threading.Event(), []

        def follow():
            try:
                while not ended.wait(KEEP_UP_SECONDS):
                    self.apply()
            except Exception as error:
                failures.append(error)

        following = threading.Thread(target=follow)
        following.start()
        try:
            yield
        finally:
            ended.set()
            following.join()
            if failures:
                raise failures[0]

    def _apply(self, records: dict[str, list[dict]]) -> None:
        sites = {site.key: site for site in self._sites_of(records)}
        self._ssh.end_sessions(_gone(self._records["shell"], records["shell"], "shell_user_id"))
        for key in self._sites.keys() - sites.keys():
            self._sites[key].clear_away()
        for key in sites.keys() - self._sites.keys():
            sites[key].lay_out()
        self._sites = sites
        self._ssh.make_jails(list(sites.values()), records["shell"])
        self._unread |= self._put(self._files(records))
        if self._hardening:
            self._hardening.run_cron_jobs(self.box)
        at_once(
            daemon.reload
            for daemon in self._followers
            if any(map(daemon.is_concerned, self._unread))
        )
        self._unread.clear()

    def _sites_of(self, records: dict[str, list[dict]]) -> list[Site]:
        return [
            Site(
                self.box,
                record,
                [a for a in records["alias"] if a["parent_domain_id"] == record["domain_id"]],
                self._php.sockets,
            )
            for record in records["site"]
        ]

    def _files(self, records: dict[str, list[dict]]) -> dict[str, Node]:
        sites, shells = self._sites_of(records), records["shell"]
        optional: dict[str, Node] = {}
        if self.database:
            optional |= self.database.files(*(records[kind] for kind in KINDS_OF_DATABASE))
        if self._imap:
            optional |= self._imap.files(records["mailbox"], self._passwords("mailbox"))
        return {
            **self._users.files(sites, records["client"], shells, self._passwords("shell")),
            **self._web.files(sites),
            **self._php.files(sites),
            **self._ftp.files(records["ftp"], self._passwords("ftp")),
            **self._ssh.files(shells),
            **optional,
        }

    def _passwords(self, kind: str) -> PasswordOf:
        return lambda id: self._panel.password_of(kind, id)

    def _put(self, nodes: dict[str, Node]) -> set[str]:
        """Write these files, and remove earlier ones. Return the paths that have changed."""
        gone = self._written.keys() - nodes.keys()
        news = {path: node for path, node in nodes.items() if self._written.get(path) != node}
        self.box.write(news, before=f"rm -rf -- {shlex.join(gone)}" if gone else "")
        self._written = nodes
        return gone | news.keys()

    # What tests do with it

    def restart_php(self) -> None:
        """Restart PHP's processes, to drop what requests have left in them."""
        self._php.reload()

    def ftp(self, username: str, password: str) -> ftplib.FTP_TLS:
        """An FTP session with TLS, in the login directory."""
        context = ssl.create_default_context(cafile=str(self.certificate))
        session = ftplib.FTP_TLS(context=context, timeout=10, encoding="utf-8")
        session.connect(self.address, 21)
        session.host = HOST_NAME  # the certificate's
        session.login(username, password)
        session.prot_p()
        return session

    def ssh(
        self, username: str, password: str, *command: str, options: tuple[str, ...] = (), **run
    ) -> subprocess.CompletedProcess:
        """Run ssh with these `options`, and return the finished process, whatever its status."""
        login, env = self.ssh_login(username, password, *options)
        settings = {"input": "", "capture_output": True, "text": True, "timeout": 30}
        return subprocess.run([*login, *command], env=env, **(settings | run))

    def terminal(self) -> Terminal:
        """A customer's computer, which resolves the server's name and trusts its certificate."""
        return Terminal(self.box, self.certificate.read_bytes())

    def ssh_login(self, username: str, password: str, *options: str) -> tuple[list[str], dict]:
        """The command line that logs in, and its environment."""
        env = ENVIRONMENT | {
            "SSH_ASKPASS": str(self._askpass),
            "SSH_ASKPASS_REQUIRE": "force",
            "RIG_PASSWORD": password,
        }
        return ["ssh", *SSH_OPTIONS, *options, f"{username}@{self.address}"], env


def at_once(calls: Iterable[Callable[[], None]]) -> None:
    """Run each call in a thread of its own, since they mostly wait."""
    with ThreadPoolExecutor() as threads:
        for running in [threads.submit(call) for call in calls]:
            running.result()


def _gone(before: list[dict], now: list[dict], id: str) -> list[dict]:
    left = {record[id] for record in now}
    return [record for record in before if record[id] not in left]
