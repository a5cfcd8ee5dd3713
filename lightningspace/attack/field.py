"""What an attacker can use: FTP, web, SSH and mail of one hosting, and facts about the other."""

import os
import secrets
import shutil
import smtplib
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import requests
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from lightningspace.attack.hostings import Hosting, wait
from lightningspace.base.models import Account, transaction
from lightningspace.base.prices import DAY
from lightningspace.outside import ispconfig_records
from lightningspace.outside.deadline import http_session, time_limit
from lightningspace.outside.ftp import FtpError, Session
from lightningspace.rules import accounts, hostnames, services, wanted
from lightningspace.shop import Shop

PROBE = (Path(__file__).parent / "probe.php").read_text(encoding="utf-8")
ASK_SECONDS = 30
SSH_SECONDS = 20
BUSY_TRIES, BUSY_SECONDS = 20, 0.5
PATIENCE_LOOKS_SECONDS = 5


class NotTried(Exception):
    """An attack could not be tried; the text says why."""


class Site:
    """One of the two hostings, and where it is on the server."""

    def __init__(self, shop: Shop, of: Hosting):
        self.shop = shop
        self.account_id, self.username, self.password = of.account_id, of.username, of.password
        account = Account.get_by_id(of.account_id)
        self.server_id = account.server_id
        self.host = hostnames.host(shop, account)
        self.name = hostnames.site_name(shop, of.username)
        self.user = shop.config.panel_prefix + of.username
        ids = {row.kind: row.panel_id for row in services.of_account(of.account_id)}
        self.number = ids["site"]
        self.root = ispconfig_records.site_directory(ids["client"], ids["site"])

    def files(self):
        """An FTP session as its owner, in the login directory."""
        return self.shop.ftp.session(self.server_id, self.host, self.user, self.password)


class Field:
    def __init__(
        self,
        shop: Shop,
        annie: Hosting,
        bobby: Hosting,
        address: str | None,
        race_requests: int,
        patience_seconds: int,
    ):
        self.shop = shop
        self.walls = shop.config.walls
        self.race_requests = race_requests
        self.patient_until = time.monotonic() + patience_seconds
        self.annie, self.bobby = Site(shop, annie), Site(shop, bobby)
        self._hosting = annie
        self._address = address
        self._key = secrets.token_hex(16)
        self._probe = f"probe-{secrets.token_hex(6)}.php"
        self._local = threading.local()
        # In three files of bobby's, readable by everybody, by the group, and by the owner alone.
        self.secrets = {mode: secrets.token_hex(12) for mode in (0o644, 0o640, 0o600)}

    # -- what lies there -----------------------------------------------------------

    def settle_in(self) -> None:
        """Upload the attacker's program and the neighbour's files."""
        for mode, secret in self.secrets.items():
            self.put(self.bobby, {self.secret_name(mode): secret}, mode=mode)
        self.first_word = f"w{secrets.token_hex(6)}"
        self.put(self.bobby, {"page.xml": f"<{self.first_word} />"}, mode=0o640)
        self.put(self.bobby, {"who.php": "<?php echo exec('id -un');"})
        # The password file of a protected directory.
        hashed = "walls:{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g="  # "password"
        self.put(self.bobby, {"passwords": hashed}, mode=0o640)
        self.put(self.annie, {self._probe: PROBE.replace("THE KEY", self._key)})
        if not self.ask("look").get("user"):
            raise NotTried("PHP may not start programs")

    @staticmethod
    def secret_name(mode: int) -> str:
        return f"secret-{mode:o}.txt"

    def path(self, mode: int) -> str:
        """The path of a secret of bobby's on the server."""
        return f"{self.bobby.root}/web/{self.secret_name(mode)}"

    def found(self, text: str | None, where: str) -> str | None:
        """The proof that one of bobby's secrets is in a text that annie got."""
        for mode, secret in self.secrets.items():
            if secret in (text or ""):
                return f"{where}: the neighbour's file of mode {mode:04o}"
        return None

    def sockets(self) -> list[str]:
        """The paths of the sockets where bobby's PHP may listen."""
        name = f"web{self.bobby.number}.sock"
        found = self.run(f"ls -d /var/lib/php*-fpm/{name} /run/php/{name} /var/run/php/{name}")
        sockets = [line for line in found.splitlines() if line.startswith("/") and " " not in line]
        version = self.ask("look").get("version", "8.2")
        return sockets or [f"/var/lib/php{version}-fpm/{name}"]

    def put(
        self, site: Site, files: dict[str, str], directory: str = "", mode: int | None = None
    ) -> None:
        """Upload files as the owner into a directory below `web`, which is created if needed."""
        self.put_all(site, {directory: files}, mode)

    def put_all(
        self, site: Site, directories: dict[str, dict[str, str]], mode: int | None = None
    ) -> None:
        """Like `put`, for several directories in one FTP session, which is quicker."""
        try:
            with site.files() as session:
                session.enter("web")
                for directory, files in directories.items():
                    if directory:
                        _enter_new(session, directory)
                    for name, text in files.items():
                        session.store(name, text.encode())
                        if mode is not None:
                            session.set_mode(name, mode)
                    if directory:
                        session.leave()
        except FtpError as error:
            raise NotTried(f"FTP: {error}") from None

    # -- over the web --------------------------------------------------------------

    def get(self, site: Site, path: str, **options) -> requests.Response:
        """What a visitor gets. Raises NotTried if the server does not answer."""
        for tries_left in (2, 1, 0):
            try:
                with time_limit(ASK_SECONDS):
                    answer = self._http().get(
                        self._url(site, path), **self._options(site, dict(options))
                    )
            except requests.RequestException as error:
                raise NotTried(f"the web server does not answer: {type(error).__name__}") from None
            # PHP restarts at each change of a site; mpm_itk answers the same to deny access.
            if answer.status_code not in (502, 503, 504) or not tries_left:
                return answer
            time.sleep(BUSY_SECONDS)

    def ask(self, do: str, **facts) -> dict:
        """Let annie's program do something on the server."""
        options = {"json": {"key": self._key, "do": do} | facts}
        for _ in range(BUSY_TRIES):
            try:
                with time_limit(2 * ASK_SECONDS):
                    answer = self._http().post(
                        self._url(self.annie, f"/{self._probe}"),
                        **self._options(self.annie, options),
                    )
                if answer.status_code == 200:
                    return answer.json()
            except requests.RequestException:
                reason = "does its name lead to the server (--address)?"
                raise NotTried(f"{self.annie.name} does not answer: {reason}") from None
            except ValueError:
                raise NotTried(f"{self.annie.name} answers, but not with our program") from None
            time.sleep(BUSY_SECONDS)
        raise NotTried(f"the check's program is answered with {answer.status_code}")

    def run(self, command: str) -> str:
        """The output of a command that annie's program runs."""
        return self.ask("run", command=command).get("text", "")

    def connect(self) -> socket.socket:
        """A bare connection to the web server, to send what requests cannot. Raises OSError."""
        return socket.create_connection((self._address or self.annie.name, 80), ASK_SECONDS)

    def _url(self, site: Site, path: str) -> str:
        return f"http://{self._address or site.name}{path}"

    def _options(self, site: Site, options: dict) -> dict:
        headers = {"Host": site.name} | options.pop("headers", {})
        return {"headers": headers, "timeout": ASK_SECONDS, "allow_redirects": False} | options

    def _http(self) -> requests.Session:
        if not hasattr(self._local, "http"):
            self._local.http = http_session(True)
        return self._local.http

    # -- with SSH and mail -----------------------------------------------------------

    def ssh(self, *arguments: str) -> subprocess.CompletedProcess:
        """Run `ssh` as annie, with these arguments on its command line."""
        if not hasattr(self, "_ssh_key"):
            self._ssh_key = self._let_in_by_key()
        host = self._address or self.annie.host
        options = ["-F", "none", "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=no"]
        options += ["-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR"]
        options += ["-o", "ConnectTimeout=10", "-o", "IdentitiesOnly=yes"]
        command, destination = ["ssh", *options], f"{self.annie.user}@{host}"
        with tempfile.TemporaryDirectory() as directory:
            path = Path(directory) / "key"
            with open(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600), "w") as file:
                file.write(self._ssh_key)
            try:
                return subprocess.run(
                    [*command, "-i", str(path), *_options_first(arguments, destination)],
                    capture_output=True,
                    text=True,
                    errors="replace",
                    input="",
                    timeout=SSH_SECONDS,
                )
            except subprocess.TimeoutExpired:
                raise NotTried("SSH does not answer in time") from None

    def _let_in_by_key(self) -> str:
        """Install a new key for annie's SSH, and return its private half."""
        if shutil.which("ssh") is None:
            raise NotTried("ssh is not installed here")
        key = Ed25519PrivateKey.generate()
        public = key.public_key().public_bytes(
            serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH
        )
        self.change("shell", self.annie.user, ssh_key=public.decode())
        return key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.OpenSSH,
            serialization.NoEncryption(),
        ).decode()

    def change(self, kind: str, name: str, **settings) -> None:
        """Change a service of annie's, and wait until it is live."""
        wanted.configure(self.annie.account_id, kind, name, **settings)
        wait(self.shop, self._hosting)

    def mail_login(self) -> smtplib.SMTP:
        """A login to the mail server with annie's mailbox. Raises SMTPException and NotTried."""
        host = self._address or self.annie.host
        try:
            session = smtplib.SMTP(host, 587, timeout=ASK_SECONDS)
            session.starttls()
        except (OSError, smtplib.SMTPException) as error:
            raise NotTried(f"port 587 does not answer: {type(error).__name__}") from None
        session.login(f"info@{self.annie.name}", self.annie.password)
        return session

    def may_send(self) -> bool:
        return accounts.may_send(self.shop, Account.get_by_id(self.annie.account_id))

    def let_annie_send(self) -> None:
        """Let her mailbox send, as if she had paid for long enough."""
        days = self.shop.config.mail_send_min_days
        with transaction():
            Account.update(expires_at=Account.opened_at + (days + 1) * DAY).where(
                Account.id == self.annie.account_id
            ).execute()
        accounts.check(self.annie.account_id)
        wait(self.shop, self._hosting)

    def patiently(self, look: Callable[[], str | None]) -> str | None:
        """What `look` still finds once the server has had time to close new directories."""
        while (found := look()) and time.monotonic() < self.patient_until:
            time.sleep(PATIENCE_LOOKS_SECONDS)
        return found


def _enter_new(session: Session, directory: str) -> None:
    try:
        session.make_directory(directory)
    except FtpError:
        pass  # it exists already
    session.enter(directory)


def _options_first(arguments: tuple[str, ...], destination: str) -> list[str]:
    """ssh's options go before the destination, a command after it."""
    if arguments and arguments[0].startswith("-"):
        return [*arguments, destination]
    return [destination, *arguments]
