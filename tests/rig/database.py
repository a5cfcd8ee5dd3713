"""MariaDB with the panel's databases and their users."""

from tests.rig.box import Box, Node, file
from tests.rig.waiting import UNTIL_SO

SETTINGS = "/etc/mysql/box.cnf"
DATA = "/var/lib/mysql"
WANTED = f"{DATA}-customers.sql"
SERVER = f"mariadbd --defaults-file={SETTINGS} --user=nobody"
# The socket is where PHP's `localhost` looks for it; no jail has it.
MY_CNF = f"""[server]
datadir = {DATA}
socket = /run/mysqld/mysqld.sock
pid-file = /run/mysqld/mysqld.pid
log-error = /var/log/mysqld.log
bind-address = 127.0.0.1
# It is gone soon, and lies in memory until then.
innodb_log_file_size = 4M
innodb_buffer_pool_size = 8M
innodb_flush_log_at_trx_commit = 0
performance_schema = OFF
# Empty but for what is written for customers.
!includedir /etc/mysql/mariadb.conf.d/
"""
SYSTEM_DATABASES = {"information_schema", "mysql", "performance_schema", "sys"}
START = f"""{UNTIL_SO}
rm -rf {DATA}; install -d -o nobody {DATA} /run/mysqld
mariadb-install-db --defaults-file={SETTINGS} --user=nobody --skip-test-db >/dev/null
: > /var/log/mysqld.log; chown nobody /var/log/mysqld.log
{SERVER} </dev/null >/dev/null 2>&1 &
until_so [ -S /run/mysqld/mysqld.sock ]
"""


class Database:
    packages = {
        "/usr/sbin/mariadbd": "mariadb-server-core",
        "/usr/bin/mariadb-install-db": "mariadb-server-core",
        "/usr/bin/mysqldump": "mariadb-client",
    }
    ports = ()

    def __init__(self, box: Box):
        self._box = box

    def prepare(self) -> None:
        """Drop this machine's own settings: the server reads a file of its own."""
        self._box.shell("rm -rf /etc/mysql/mariadb.conf.d; mkdir -p /etc/mysql/mariadb.conf.d")

    def settings(self) -> dict[str, Node]:
        return {SETTINGS: file(MY_CNF)}

    def start(self) -> None:
        self._box.shell(START)

    def files(self, databases: list[dict], users: list[dict]) -> dict[str, Node]:
        """The SQL of databases and users. ISPConfig makes a user with its first database."""
        of_id = {user["database_user_id"]: user for user in users}
        lines = []
        for database in databases:
            name, user = database["database_name"], of_id.get(database["database_user_id"])
            lines.append(f"CREATE DATABASE IF NOT EXISTS `{name}` CHARACTER SET utf8mb4;\n")
            if user and database["active"] == "y":
                login = f"'{user['database_user']}'@'localhost'"
                hash = user["database_password"]
                lines.append(f"CREATE OR REPLACE USER {login} IDENTIFIED BY PASSWORD '{hash}';\n")
                lines.append(f"GRANT ALL PRIVILEGES ON `{name}`.* TO {login};\n")
        return {WANTED: file("".join(lines))}

    def is_concerned(self, path: str) -> bool:
        return path == WANTED

    def reload(self) -> None:
        wanted = self._box.read(WANTED)
        databases = set(self.ask("SHOW DATABASES")) - SYSTEM_DATABASES
        gone = [f"DROP DATABASE `{name}`;" for name in databases if f"`{name}`" not in wanted]
        logins = self.ask(
            "SELECT CONCAT(QUOTE(user), '@', QUOTE(host)) FROM mysql.user"
            " WHERE user NOT IN ('root', 'nobody', 'mariadb.sys')"
        )
        gone += [f"DROP USER {login};" for login in logins if login not in wanted]
        self.ask("\n".join(gone) + wanted)

    def ask(self, sql: str) -> list[str]:
        """Run SQL as the server's administrator. Return the lines of the answer."""
        asked = self._box.run("mysql", f"--defaults-file={SETTINGS}", "-N", "-B", input=sql)
        return asked.stdout.decode().splitlines()
