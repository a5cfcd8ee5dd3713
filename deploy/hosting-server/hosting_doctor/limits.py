"""Checks of how much one customer may use, and which directories a customer may look into."""

import os
import re
import time
from pathlib import Path

from hosting_doctor.ours import FILES, PHP_LIMITS
from hosting_doctor.server import CLIENTS, OF_CLIENT, Server, Unknown
from hosting_doctor.web import few

# Names in systemd's units, and in /proc/<pid>/limits.
LIMITS = {
    "LimitNPROC": "Max processes",
    "LimitDATA": "Max data size",
    "LimitCORE": "Max core file size",
}
MB = 1024 * 1024
PANELS_CONNECTIONS = 200
# keep-customers-apart runs once a minute.
NEW_SECONDS = 120
LOGS = Path("/var/log/ispconfig/httpd")


def php_limits(server: Server) -> str | None:
    if not server.php_versions:
        return "PHP-FPM is not installed: apt install php-fpm"
    masters = [
        (pid, name)
        for pid, name, line in server.processes
        if name.startswith("php-fpm") and "master process" in line
    ]
    if not masters:
        raise Unknown("PHP-FPM does not run")
    for pid, name in masters:
        said = server.read(f"/proc/{pid}/limits") or ""
        for what, meant in _limits_meant().items():
            value = re.search(rf"^{what} +(\d+|unlimited)", said, re.M)
            if value and value[1] != meant:
                return f"{name} runs with “{what}” {value[1]}, not {meant}"
    return None


def _limits_meant() -> dict[str, str]:
    text = (FILES / PHP_LIMITS.lstrip("/")).read_text(encoding="utf-8")
    lines = re.findall(r"^(\w+)=(\d+)(M?)$", text, re.M)
    return {
        LIMITS[name]: str(int(value) * (MB if unit else 1))
        for name, value, unit in lines
        if name in LIMITS
    }


def database_connections(server: Server) -> str | None:
    (line,) = server.ask("SELECT @@max_user_connections, @@max_connections")
    of_user, of_all = map(int, line.split())
    if not 0 < of_user <= of_all / 4:
        return f"a user may have {of_user or 'all'} of MariaDB's {of_all} connections"
    return None


def panels_connections(server: Server) -> str | None:
    low = _panels_logins(server)
    if low:
        return (
            f"the panel and the mail server share the user {few(low)}, which may have no more "
            f"connections than a customer: --fix allows {PANELS_CONNECTIONS}"
        )
    return None


def _panels_logins(server: Server) -> list[str]:
    """The panel's database logins that may have too few connections.

    0 in mysql.user means the server's default, which customers have too.
    """
    user = server.panel_config.get("db_user", "ispconfig")
    name = user.replace("\\", "\\\\").replace("'", "\\'")
    sql = (
        "SELECT CONCAT(QUOTE(user), '@', QUOTE(host)) FROM mysql.user"
        f" WHERE user = '{name}' AND max_user_connections < {PANELS_CONNECTIONS}"
    )
    return server.ask(sql)


def more_for_the_panel(server: Server) -> list[str]:
    """The statements that allow the panel more connections."""
    with_more = f"WITH MAX_USER_CONNECTIONS {PANELS_CONNECTIONS};"
    return [f"ALTER USER {login} {with_more}" for login in _panels_logins(server)]


def directories(server: Server) -> str | None:
    now, open_to_all = time.time(), []
    if CLIENTS.is_dir():
        with os.scandir(CLIENTS) as entries:
            for each in entries:
                try:
                    found = each.stat(follow_symlinks=False)
                except FileNotFoundError:
                    continue  # a client that is just being removed
                is_of_client = OF_CLIENT.fullmatch(each.name) and not each.is_symlink()
                if is_of_client and found.st_mode & 0o007 and found.st_ctime < now - NEW_SECONDS:
                    open_to_all.append(each.name)
    if LOGS.is_dir() and LOGS.stat().st_mode & 0o007:
        open_to_all.append(str(LOGS))
    if open_to_all:
        return f"open to everybody: {few(sorted(open_to_all))}; does cron run?"
    return None
