"""All checks, in the order in which they are reported."""

import shutil
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass

from hosting_doctor import box, limits, mail, network, web
from hosting_doctor.mend import Mender
from hosting_doctor.ours import PARTS, Part
from hosting_doctor.server import Server, Unknown

OK, WRONG, UNKNOWN = "ok", "wrong", "unknown"
# A service may still be reloading its files when `systemctl reload` has returned.
PATIENCE_SECONDS = 10


@dataclass(frozen=True)
class Check:
    """`look` returns what is wrong, or None; it may raise Unknown.

    `web`: only with that web server, "apache" or "nginx". `needs`: a program, and the package that
    has it. `sql`: the statements that fix it in MariaDB. The files of the Part with the same name
    are checked first.
    """

    name: str
    look: Callable[[Server], str | None] | None = None
    web: str | None = None
    needs: tuple[str, str] | None = None
    sql: Callable[[Server], list[str]] | None = None

    @property
    def lacks_program(self) -> bool:
        return bool(self.needs and shutil.which(self.needs[0]) is None)


CHECKS = (
    Check("walls", web.walls),
    Check("Apache version", web.apache_version, web="apache"),
    Check("overrides", web.overrides, web="apache"),
    Check("PHP sockets", web.php_sockets),
    Check("Apache", web="apache"),
    Check("unknown names", web.unknown_names),
    Check("firewall", network.firewall, needs=("nft", "nftables")),
    Check("SSH", network.ssh, needs=("/usr/sbin/sshd", "openssh-server")),
    Check("panel's port", network.panel_port),
    Check("crontab"),
    Check("at"),
    Check("SSH limits"),
    Check("session limits"),
    Check("PHP limits", limits.php_limits),
    Check("panel's connections", limits.panels_connections, sql=limits.more_for_the_panel),
    Check(
        "database connections", limits.database_connections, needs=("mariadbd", "mariadb-server")
    ),
    Check("/tmp"),
    Check("directories", limits.directories, needs=("setfacl", "acl")),
    Check("sendmail", needs=("postfix", "postfix")),
    Check("senders", mail.senders),
    Check("message size", mail.message_size),
    Check("mail sent", mail.mail_sent),
    Check("FTP TLS", needs=("pure-ftpd", "pure-ftpd-mysql")),
    Check("FTP places", needs=("pure-ftpd", "pure-ftpd-mysql")),
    Check("FTP certificate", mail.ftp_certificate),
    Check("panel settings", box.panel_settings),
    Check("quotas", box.quotas),
    Check("disk", box.disk),
    Check("clock", box.clock),
    Check("upgrades", box.upgrades),
)


@dataclass(frozen=True)
class Finding:
    check: str
    result: str
    text: str


class Doctor:
    """Checks a server, and fixes what it is told to."""

    def __init__(self, server: Server, say: Callable[[str], None]):
        """`say` gets each change as text, before it is written."""
        self._server = server
        self._mender = Mender(server, say)

    def checks(self) -> list[Check]:
        """Those for the web server that runs here, or all if none runs."""
        try:
            running = self._server.web
        except Unknown:
            return list(CHECKS)
        return [check for check in CHECKS if check.web in (None, running)]

    def look(self, check: Check) -> Finding:
        try:
            wrong = self._wrong(check)
        except Unknown as reason:
            return Finding(check.name, UNKNOWN, str(reason))
        except Exception as error:  # the other checks go on
            traceback.print_exc()
            return Finding(check.name, UNKNOWN, f"this check has failed: {error!r}")
        return Finding(check.name, WRONG if wrong else OK, wrong or "")

    def can_mend(self, check: Check) -> bool:
        return not check.lacks_program and bool(check.sql or self._part(check))

    def mend(self, check: Check) -> Finding:
        """Fix what is wrong, and return the result of checking once more."""
        refused = None
        try:
            if check.sql:
                self._mender.tell_mariadb(check.sql(self._server))
            elif part := self._part(check):
                refused = self._mender.mend(part)
        except Unknown as reason:
            refused = str(reason)
        if refused:
            return Finding(check.name, WRONG, refused)
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            self._server.forget()
            found = self.look(check)
            if found.result != WRONG or time.monotonic() > deadline:
                return found
            time.sleep(0.1)

    def _wrong(self, check: Check) -> str | None:
        if check.needs and check.lacks_program:
            return f"apt install {check.needs[1]}"
        if part := self._part(check):
            if lacking := self._mender.lacking(part):
                return f"{part.why}: --fix writes {', '.join(lacking)}"
            if self._mender.is_unfinished(part):
                return f"{part.why}: --fix was cut short and begins again"
        return check.look(self._server) if check.look else None

    def _part(self, check: Check) -> Part | None:
        for part in PARTS:
            if part.name == check.name and (part.web is None or part.web == self._server.web):
                return part
        return None
