"""The server behind ISPConfig, with real daemons, made from the records of a stand-in panel.

    with Rig(panel, web="apache-itk", hardening=True) as rig:
        rig.apply()
        requests.get(f"http://{rig.address}/", headers={"Host": "alice.shop.test"})

What it lacks is skipped by name.
"""

import ftplib
import ssl
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from lightningspace.sandbox.certificate import self_signed
from lightningspace.sandbox.panel import SandboxPanel
from tests.rig.box import HOST_NAME, Box, Node, directory, file
from tests.rig.ftp import Ftp
from tests.rig.sites import Site
from tests.rig.users import Hashes, Users
from tests.rig.web import Apache, Nginx, Php

WEB_SERVERS = ("apache-event", "apache-itk", "nginx")
KINDS = ("client", "site", "alias", "ftp", "shell")
KEEP_UP_SECONDS = 0.05


class Rig:
    """`hardening`: what docs/hosting-server.md advises is done.

    `certificate` is a file that the FTP server's certificate may be held against; it is valid for
    the name `host_name`.
    """

    host_name = HOST_NAME

    def __init__(self, panel: SandboxPanel, web: str = "apache-event", hardening: bool = False):
        assert web in WEB_SERVERS, web
        self._panel = panel
        self._web_name = web
        self._hardening = hardening
        self._lock = threading.Lock()
        self._records: dict[str, list[dict]] = {}
        self._written: dict[str, Node] = {}
        self._sites: dict[str, Site] = {}
        self.box = Box()

    def __enter__(self) -> "Rig":
        self._need_programs()
        self.box.__enter__()
        try:
            self._start()
        except BaseException:
            self.box.stop()
            raise
        return self

    def __exit__(self, *_) -> None:
        self.box.stop()
        self._directory.cleanup()

    @property
    def address(self) -> str:
        return self.box.address

    # Start

    def _need_programs(self) -> None:
        web = Nginx if self._web_name == "nginx" else Apache
        needed = web.packages | Php.packages | Ftp.packages
        if self._web_name == "apache-itk":
            needed |= {"/usr/lib/apache2/modules/mpm_itk.so": "libapache2-mpm-itk"}
        missing = sorted({name for path, name in needed.items() if not Path(path).exists()})
        if missing:
            pytest.skip(f"needs {', '.join(missing)}: apt-get install {' '.join(missing)}")

    def _start(self) -> None:
        self._directory = tempfile.TemporaryDirectory()
        self.certificate = self_signed(Path(self._directory.name) / "ftp.pem", HOST_NAME)
        hashes = Hashes()
        self._users = Users(*map(self.box.read, Users.FILES), hashes)
        self._web = self._make_web()
        self._php = Php(self.box)
        self._ftp = Ftp(self.box, hashes, self.certificate.read_bytes())
        self._daemons = (self._php, self._web, self._ftp)
        # Of this machine's own sites no more than Debian's page.
        self.box.shell("find /var/www -mindepth 1 -maxdepth 1 ! -name html -exec rm -rf {} +")
        self.box.write(
            {
                "/etc/hosts": file(f"127.0.0.1 localhost\n{self.address} {HOST_NAME}\n"),
                "/var/www/clients": directory(),
            }
        )
        for daemon in self._daemons:
            daemon.prepare()
        self.box.write(self._ftp.settings())
        self._put(self._files({kind: [] for kind in KINDS}))
        for daemon in self._daemons:
            daemon.start()

    def _make_web(self) -> Apache | Nginx:
        if self._web_name == "nginx":
            return Nginx(self.box)
        return Apache(self.box, is_itk=self._web_name == "apache-itk")

    # Following the panel

    def apply(self) -> None:
        """Make the server what the records say. It serves that when this returns."""
        with self._lock:
            records = {kind: self._panel.records(kind) for kind in KINDS}
            if records != self._records:
                self._apply(records)
                self._records = records

    @contextmanager
    def keep_up(self) -> Iterator[None]:
        """Apply what changes at the panel, meanwhile."""
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
        for key in self._sites.keys() - sites.keys():
            self._sites[key].clear_away(self.box)
        for key in sites.keys() - self._sites.keys():
            sites[key].lay_out(self.box)
        self._sites = sites
        changed = self._put(self._files(records))
        for daemon in self._daemons:
            if any(map(daemon.is_concerned, changed)):
                daemon.reload()

    def _sites_of(self, records: dict[str, list[dict]]) -> list[Site]:
        return [
            Site(
                record,
                [a for a in records["alias"] if a["parent_domain_id"] == record["domain_id"]],
                self._php.sockets,
            )
            for record in records["site"]
        ]

    def _files(self, records: dict[str, list[dict]]) -> dict[str, Node]:
        sites = self._sites_of(records)
        passwords = self._password_of
        return {
            **self._users.files(sites, records["client"], records["shell"], passwords("shell")),
            **self._web.files(sites),
            **self._php.files(sites),
            **self._ftp.files(records["ftp"], passwords("ftp")),
        }

    def _password_of(self, kind: str) -> Callable[[str], str | None]:
        return lambda id: self._panel.password_of(kind, id)

    def _put(self, nodes: dict[str, Node]) -> set[str]:
        """Have these files and none of the former ones; the paths of those that differ."""
        gone = self._written.keys() - nodes.keys()
        news = {path: node for path, node in nodes.items() if self._written.get(path) != node}
        if gone:
            self.box.remove(gone)
        self.box.write(news)
        self._written = nodes
        return gone | news.keys()

    # As a customer

    def ftp(self, username: str, password: str) -> ftplib.FTP_TLS:
        """A session with TLS, at the directory that the user is let into."""
        context = ssl.create_default_context(cafile=str(self.certificate))
        session = ftplib.FTP_TLS(context=context, timeout=10, encoding="utf-8")
        session.connect(self.address, 21)
        session.host = HOST_NAME  # the certificate's
        session.login(username, password)
        session.prot_p()
        return session
