"""The files that --fix writes: which belong together, their text, and how they take effect.

The texts are below files/, at the paths that they have on the server.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

FILES = Path(__file__).parent.parent / "files"
ANY_PHP = "php-fpm"
PHP_LIMITS = f"/etc/systemd/system/{ANY_PHP}.service.d/customers.conf"
CRON_ALLOW, AT_ALLOW = "/etc/cron.allow", "/etc/at.allow"
Command = tuple[str, ...]


def _systemctl(*words: str) -> Command:
    return ("systemctl", *words)


@dataclass(frozen=True)
class Part:
    """Files that are written, tested and activated together, for the check of the same name.

    `why`: what is open without them. `links`: symbolic links and their targets. `test`: commands
    that fail if the server would refuse the files. `use`: commands that make a running server read
    them. `web`: only with that web server.
    """

    name: str
    why: str
    paths: tuple[str, ...]
    links: dict[str, str] = field(default_factory=dict)
    test: tuple[Command, ...] = ()
    use: tuple[Command, ...] = ()
    web: str | None = None

    def of(self, php_versions: list[str]) -> dict[str, str]:
        """The path of each file on a server with these versions of PHP, and of its text."""
        found = {}
        for path in self.paths:
            each = (f"php{version}-fpm" for version in php_versions) if ANY_PHP in path else [""]
            found |= {path.replace(ANY_PHP, name): path for name in each}
        return found


APACHE_TEST: Command = ("apache2ctl", "configtest")
APACHE_RELOAD = _systemctl("reload", "apache2")
RULES = "/etc/nftables.d/customers.nft"
FTP_RESTART = _systemctl("restart", "pure-ftpd-mysql")

PARTS = (
    Part(
        "unknown names",
        "an unknown name, or one that is not paid for, may show a customer's site",
        ("/etc/apache2/sites-available/000-default.conf",),
        {"/etc/apache2/sites-enabled/000-default.conf": "../sites-available/000-default.conf"},
        test=(APACHE_TEST,),
        use=(APACHE_RELOAD,),
        web="apache",
    ),
    Part(
        "unknown names",
        "an unknown name, or one that is not paid for, may show a customer's site",
        ("/etc/nginx/sites-available/default",),
        {"/etc/nginx/sites-enabled/default": "../sites-available/default"},
        test=(("nginx", "-t"),),
        use=(_systemctl("reload", "nginx"),),
        web="nginx",
    ),
    Part(
        "Apache",
        "a site can show requests to its neighbours, and under mpm_itk a vhost could run as root",
        ("/etc/apache2/conf-available/customers.conf",),
        {"/etc/apache2/conf-enabled/customers.conf": "../conf-available/customers.conf"},
        test=(APACHE_TEST,),
        use=(APACHE_RELOAD,),
        web="apache",
    ),
    Part(
        "firewall",
        "customers can reach mail servers, the panel and everything else that listens locally",
        (
            RULES,
            "/etc/systemd/system/customers-firewall.service",
            "/etc/systemd/system/nftables.service.d/customers.conf",
        ),
        test=(("nft", "--check", "--file", RULES),),
        use=(
            _systemctl("daemon-reload"),
            _systemctl("enable", "customers-firewall"),
            _systemctl("restart", "customers-firewall"),
        ),
    ),
    Part(
        "SSH",
        "customers can tunnel to whatever listens inside the server",
        ("/etc/ssh/sshd_config.d/customers.conf",),
        test=(("/usr/sbin/sshd", "-t"),),
        use=(_systemctl("reload", "ssh"),),
    ),
    Part("crontab", "PHP can make a crontab, which outlives the hosting", (CRON_ALLOW,)),
    Part("at", "PHP can leave jobs of at, which outlive the hosting", (AT_ALLOW,)),
    Part(
        "SSH limits",
        "one SSH user can take all processes or memory",
        ("/etc/security/limits.d/customers.conf",),
    ),
    Part(
        "session limits",
        "the sessions of one SSH user can take all memory",
        (
            "/etc/systemd/system/user-.slice.d/customers.conf",
            "/etc/systemd/system/user-0.slice.d/root.conf",
        ),
        use=(_systemctl("daemon-reload"),),
    ),
    Part(
        "PHP limits",
        "one customer's PHP can take all processes or memory",
        (PHP_LIMITS,),
        # Run for the service of each installed version.
        use=(_systemctl("daemon-reload"), _systemctl("restart", ANY_PHP)),
    ),
    Part(
        "database connections",
        "one customer can take all of MariaDB's connections, and leave the panel and mail none",
        ("/etc/mysql/mariadb.conf.d/70-customers.cnf",),
        test=(("mariadbd", "--help", "--verbose"),),
        use=(_systemctl("restart", "mariadb"),),
    ),
    Part(
        "/tmp",
        "what is left in /tmp, clients' SSH keys included, stays until the next reboot",
        ("/etc/tmpfiles.d/tmp.conf",),
    ),
    Part(
        "directories",
        "customers can look into each other's directories and logs",
        ("/usr/local/sbin/keep-customers-apart", "/etc/cron.d/keep-customers-apart"),
        use=(("/usr/local/sbin/keep-customers-apart",),),
    ),
    Part(
        "sendmail",
        "PHP's mail() and other programs can send mail without a login",
        ("/etc/postfix/main.cf",),
        test=(("postfix", "check"),),
        use=(_systemctl("reload", "postfix"),),
    ),
    Part(
        "FTP TLS",
        "passwords go over the net unencrypted",
        ("/etc/pure-ftpd/conf/TLS",),
        use=(FTP_RESTART,),
    ),
    Part(
        "FTP places",
        "one address can take all FTP connections",
        ("/etc/pure-ftpd/conf/MaxClientsPerIP",),
        use=(FTP_RESTART,),
    ),
)


@dataclass(frozen=True)
class Ours:
    """The text of each file, on a server where customers' numbers begin with these.

    `customers`: the names of their users.
    """

    first_uid: int
    first_gid: int
    customers: frozenset[str] = frozenset()

    def text(self, template: str, before: str | None) -> str:
        """What the file should say. `before` is its text now, None if there is no file.

        A file that does what ours does, with lines of the operator's own, is returned as it is.
        """
        text = (FILES / template.lstrip("/")).read_text(encoding="utf-8")
        text = text.replace("@FIRST_UID@", str(self.first_uid))
        text = text.replace("@FIRST_GID@", str(self.first_gid))
        return EDITS.get(template, _if_lines_lack)(before or "", text, self)

    @staticmethod
    def mode(template: str) -> int:
        """0755 or 0644: Git keeps no other modes."""
        return 0o755 if (FILES / template.lstrip("/")).stat().st_mode & 0o100 else 0o644


def _lines(text: str) -> list[str]:
    """The lines that are neither empty nor comments."""
    stripped = (line.strip() for line in text.splitlines())
    return [line for line in stripped if line and not line.startswith(("#", ";"))]


def _if_lines_lack(before: str, ours: str, _: Ours) -> str:
    """Lines of the operator's own may stand between ours."""
    theirs = iter(_lines(before))
    return before if all(line in theirs for line in _lines(ours)) else ours


def _with_setting(before: str, ours: str, _: Ours) -> str:
    """In Postfix the last line with a name counts, and indented lines continue it."""
    (line,) = _lines(ours)
    name = line.partition(" ")[0]
    of_name = re.compile(rf"^{name}\s*=.*\n?(?:[ \t]+\S.*\n?)*", re.M)
    set_to = of_name.findall(before)
    if set_to and " ".join(set_to[-1].split()) == line:
        return before
    return _ended(of_name.sub("", before)) + ours


def _without_customers(before: str, ours: str, numbers: Ours) -> str:
    names = [name for name in before.split() if name not in numbers.customers]
    return (
        before
        if names == before.split() and "root" in names
        else "\n".join(dict.fromkeys([ours.strip(), *names, ""]))
    )


def _within(least: int, most: int, before: str, ours: str, _: Ours) -> str:
    is_number = re.fullmatch(r"\s*\d{1,4}\s*", before)
    return before if is_number and least <= int(before) <= most else ours


def _ended(text: str) -> str:
    return text if not text or text.endswith("\n") else f"{text}\n"


EDITS: dict[str, Callable[[str, str, Ours], str]] = {
    "/etc/postfix/main.cf": _with_setting,
    CRON_ALLOW: _without_customers,
    AT_ALLOW: _without_customers,
    "/etc/pure-ftpd/conf/TLS": partial(_within, 2, 3),
    "/etc/pure-ftpd/conf/MaxClientsPerIP": partial(_within, 1, 50),
}
