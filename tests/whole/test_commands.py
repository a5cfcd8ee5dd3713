"""The control center's commands and files are tried as customers use them: in a terminal, on a
server of real daemons that is set up as the shop tells the panel.
"""

import re
from collections.abc import Iterator
from contextlib import ExitStack
from html import unescape
from pathlib import Path

import pytest
import requests

from app import create_app
from lightningspace import shop
from lightningspace.base import models, walls
from lightningspace.base.config import from_env
from lightningspace.base.models import Account
from lightningspace.outside.ispconfig import Panel
from lightningspace.outside.ispconfig_records import database_fields
from lightningspace.panel import reconcile
from lightningspace.sandbox.node import SandboxNode
from lightningspace.sandbox.panel import SandboxPanel
from tests.conftest import (
    PANEL_PASSWORD,
    csrf_token,
    debian_program,
    enter,
    eventually,
    let_the_server_follow,
    open_account,
)
from tests.rig import Rig
from tests.rig.box import file
from tests.rig.terminal import Done

PAGES = ("", "/data", "/htaccess")
COMMAND = re.compile(r'<pre[^>]*><code id="([^"]+)">(.*?)</code></pre>', re.S)
MODES = {"apache-event": walls.NARROW, "apache-itk": walls.MPM_ITK, "nginx": walls.NGINX}
# The files of a new site.
FRESH = ("standard_index.html", "favicon.ico", "robots.txt")
WORDPRESS = "<?php const SECRET = 'told to nobody';"


class Hosting:
    """alice's hosting, at a shop whose server is the rig: her pages, her site and her computer."""

    def __init__(self, running: ExitStack, web: str, tmp_path: Path):
        self.panel = SandboxPanel(password=PANEL_PASSWORD)
        self.panel.queue_seconds = 0
        node = SandboxNode(tmp_path / "lightning-rpc", tmp_path / "wallet-rpc")
        for server in (self.panel, node):
            server.start()
            running.callback(server.stop)
        is_whole = web == "apache-event"
        self.rig = Rig(self.panel, web, hardening=True, database=is_whole, imap=is_whole)
        running.enter_context(self.rig)
        config = from_env(self._settings(MODES[web], tmp_path), tmp_path)
        models.open_database(config.database_url)
        running.callback(models.db.close)
        models.init_db()
        self.shop = shop.build(config)
        shop.settle_in(self.shop)
        app = create_app(config)
        app.extensions["shop"] = self.shop
        self._open()
        self._browser = enter(app.test_client(), self._account)

    def _settings(self, mode: str, tmp_path: Path) -> dict[str, str]:
        return {
            "PUBLIC_URL": "http://localhost",
            "BASE_DOMAIN": "shop.test",
            "DATABASE_URL": f"sqlite:///{tmp_path / 'shop.sqlite3'}",
            "SECRET_KEY": "a key of the tests that is long enough",
            "LIGHTNING_RPC": str(tmp_path / "lightning-rpc"),
            "PANEL_URL": self.panel.url,
            "PANEL_USER": "shop",
            "PANEL_PASSWORD": PANEL_PASSWORD,
            "CAPACITY_MB": "100000",
            "SERVER_HOSTS": self.rig.host_name,
            "FTP_UPLOADS": "false",
            "WALLS": mode,
        }

    def _open(self) -> None:
        self._account = open_account(self.shop, "alice")
        self._follow()
        self._account = Account.get_by_id(self._account.id)
        [site] = self.panel.records("site")
        self.domain, self.root, self.user = (
            site[name] for name in ("domain", "document_root", "system_user")
        )
        # As the shop does over FTP.
        self.rig.box.run("chmod", "710", f"{self.root}/web")

    def _follow(self) -> None:
        reconcile.account(self.shop, self._account.id)
        self.rig.apply()
        let_the_server_follow()

    def page(self, path: str) -> str:
        return self._browser.get(f"/account{path}").text

    def commands(self) -> dict[str, str]:
        """The commands that her pages offer to copy, by their ids."""
        found = COMMAND.findall("".join(map(self.page, PAGES)))
        return {id: unescape(text) for id, text in found}

    def change(self, path: str, **fields: str) -> None:
        """Send a form of the settings, and wait until the server has followed."""
        token = csrf_token(self.page("/settings"))
        form = {"csrf_token": token, "name": self.domain} | fields
        answer = self._browser.post(f"/account/settings/{path}", data=form)
        assert answer.status_code == 303, answer.text
        self._follow()

    def password(self, kind: str) -> str:
        [record] = self.panel.records(kind)
        id = {"database_user": "database_user_id", "mailbox": "mailuser_id"}
        return self.panel.password_of(kind, record[id.get(kind, f"{kind}_user_id")])

    # Her site

    def write(self, path: str, text: str, mode: int = 0o644) -> None:
        uid, gid = map(int, self.rig.box.shell(f"id -u {self.user}; id -g {self.user}").split())
        directory = f"{self.root}/{path}".rpartition("/")[0]
        self.rig.box.run("mkdir", "-p", directory, user=self.user)
        self.rig.box.write({f"{self.root}/{path}": file(text, mode, uid, gid)})

    def mode(self, path: str) -> str:
        return self.rig.box.shell(f"stat -c %a {self.root}/{path}").strip()

    def get(self, path: str = "/", **options) -> requests.Response:
        headers = {"Host": self.domain, "Connection": "close"}
        url = f"http://{self.rig.address}{path}"
        return requests.get(url, headers=headers, allow_redirects=False, timeout=10, **options)


@pytest.fixture(scope="module")
def alice(request, tmp_path_factory) -> Iterator[Hosting]:
    with ExitStack() as running:
        yield Hosting(running, request.param, tmp_path_factory.mktemp("shop"))


@pytest.fixture(autouse=True)
def tidied(alice):
    """Remove what a test has put on the site or fetched."""
    yield
    kept = " ".join(f"! -name {name}" for name in FRESH)
    alice.rig.box.shell(f"find {alice.root}/web -mindepth 1 -maxdepth 1 {kept} -exec rm -rf {{}} +")
    alice.rig.box.shell("rm -rf ~/*")


def on(*servers: str):
    """A mark: run the test with each of these servers."""
    return pytest.mark.parametrize("alice", servers, indirect=True, scope="module")


on_apache = on("apache-event")
on_each = on("apache-event", "nginx")


# -- the commands ----------------------------------------------------------------------


class Typed:
    """Her computer, and the commands of her pages with the passwords that they ask for."""

    def __init__(self, alice: Hosting):
        self._commands = alice.commands()
        self._computer = alice.rig.terminal()
        self.home = self._computer.home
        self.ssh = ("'s password: ", alice.password("shell"))
        self.ftp = ("Password: ", alice.password("ftp"))
        self.database = ("Enter password: ", alice.password("database_user"))
        self.mail = ("Password (", alice.password("mailbox"))

    def text(self, id: str) -> str:
        return self._commands[id]

    def run(self, id: str, *dialog: tuple[str, str]) -> Done:
        if program := PROGRAMS.get(id):
            debian_program(*program)
        return self._computer.run(self.text(id), *dialog)

    def in_jail(self, *dialog: tuple[str, str]) -> Done:
        return self.run("connect-shell-1", self.ssh, *dialog, ("$ ", "exit"))


@pytest.fixture(scope="module")
def typed(alice):
    return Typed(alice)


# The ids of commands that the tests below run.
TRIED = {
    *("connect-ftp-1", "connect-shell-1", "connect-shell-2", "connect-database_user-1"),
    *("sftp", "lftp", "dump", "mbsync-config", "mbsync", "secret", "secret-ftp"),
}


# Programs that no hosting server has, with their packages.
PROGRAMS = {
    "connect-ftp-1": ("lftp", "lftp"),
    "lftp": ("lftp", "lftp"),
    "mbsync": ("mbsync", "isync"),
}


@on_apache
def test_each_command_on_the_pages_is_tried_here(alice):
    assert alice.commands().keys() == TRIED


@on_apache
def test_ssh_opens_a_shell(typed):
    done = typed.in_jail(("$ ", "ls -d /web; echo $((6 * 7))"))
    assert done.status == 0
    assert "/web\r\n42\r\n" in done.said


@on_apache
def test_sftp_opens_the_files(typed):
    listed = typed.run("connect-shell-2", typed.ssh, ("sftp> ", "ls /web"), ("sftp> ", "bye"))
    assert listed.status == 0
    assert "/web/robots.txt" in listed.said


@on_apache
def test_ftp_opens_the_files(typed):
    listed = typed.run("connect-ftp-1", typed.ftp, ("> ", "ls web"), ("> ", "bye"))
    assert listed.status == 0
    assert "robots.txt" in listed.said


# The way to fetch files, and whose password it asks for.
FETCHED = {"sftp": "ssh", "lftp": "ftp"}


@on_apache
@pytest.mark.parametrize("id", FETCHED)
def test_files_are_fetched(id, alice, typed):
    alice.write("web/deep/er/secret name.txt", "mine", 0o600)
    alice.write("web/.htaccess", "")
    assert typed.run(id, getattr(typed, FETCHED[id])).status == 0
    fetched = f"{typed.home}/{alice.domain}-web"
    alice.rig.box.run("diff", "-r", f"{alice.root}/web", fetched)


@on_apache
@pytest.mark.parametrize(
    "id",
    [
        "lftp",
        "sftp",
    ],
)
def test_files_are_fetched_again_into_the_same_place(id, alice, typed):
    for text in ("first", "second"):
        alice.write("web/page.txt", text)
        assert typed.run(id, getattr(typed, FETCHED[id])).status == 0
    alice.rig.box.run("diff", "-r", f"{alice.root}/web", f"{typed.home}/{alice.domain}-web")


@on_apache
def test_database_opens_over_ssh(typed):
    done = typed.in_jail(
        ("$ ", typed.text("connect-database_user-1")),
        typed.database,
        ("> ", "SELECT CONCAT('at ', DATABASE());"),
        ("> ", "exit"),
    )
    assert done.status == 0
    assert "at ls_alice" in done.said


@on_apache
def test_database_has_no_socket_in_the_jail(typed):
    elsewhere = typed.text("connect-database_user-1").replace("127.0.0.1", "localhost")
    assert "ERROR 2002" in typed.in_jail(("$ ", elsewhere), typed.database).said


@pytest.fixture
def filled_database(alice):
    """A database with enough rows for many writes."""
    [name] = (record["database_name"] for record in alice.panel.records("database"))
    alice.rig.database.ask(
        f"CREATE TABLE {name}.notes (id INT PRIMARY KEY, text VARCHAR(200)) ENGINE=InnoDB;"
        f"INSERT INTO {name}.notes SELECT seq, REPEAT('ä', 100) FROM {name}.seq_1_to_20000"
    )
    yield name
    alice.rig.database.ask(
        f"CREATE DATABASE IF NOT EXISTS {name}; DROP TABLE IF EXISTS {name}.notes"
    )


@pytest.fixture
def sql_files(alice, typed):
    """A function that finds dumps, in the jail and on the customer's computer; none at first."""
    places = f"{alice.root}/home/*/*.sql* {typed.home}/*.sql*"
    yield lambda: alice.rig.box.shell(f"ls {places} 2>/dev/null || true").split()
    alice.rig.box.shell(f"rm -f {places}")


@on_apache
def test_database_is_fetched(alice, typed, filled_database, sql_files):
    assert typed.run("dump", typed.ssh, typed.database, typed.ssh).status == 0
    fetched = f"{typed.home}/{filled_database}.sql"
    assert fetched in sql_files()
    before = alice.rig.database.ask(f"CHECKSUM TABLE {filled_database}.notes")
    alice.rig.database.ask(f"DROP TABLE {filled_database}.notes")
    alice.rig.database.ask(f"USE {filled_database};\n{alice.rig.box.read(fetched)}")
    assert alice.rig.database.ask(f"CHECKSUM TABLE {filled_database}.notes") == before


@on_apache
def test_programs_in_the_database_are_fetched(alice, typed, filled_database, sql_files):
    own = f"DEFINER={filled_database}@localhost"
    alice.rig.database.ask(
        f"USE {filled_database};"
        f"CREATE {own} PROCEDURE tidy() DELETE FROM notes;"
        f"CREATE {own} EVENT daily ON SCHEDULE EVERY 1 DAY DO CALL tidy()"
    )
    typed.run("dump", typed.ssh, typed.database, typed.ssh)
    alice.rig.database.ask(f"USE {filled_database}; DROP PROCEDURE tidy; DROP EVENT daily")
    fetched = alice.rig.box.read(f"{typed.home}/{filled_database}.sql")
    assert "PROCEDURE `tidy`" in fetched and "EVENT `daily`" in fetched


@on_apache
def test_database_is_not_left_where_apache_can_read_it(alice, typed, filled_database, sql_files):
    assert typed.run("dump", typed.ssh, typed.database, typed.ssh).status == 0
    for path in sql_files():
        alice.rig.box.run("test", "!", "-r", path, user="www-data")


def is_unfetched(sql_files) -> bool:
    """Whether nothing was fetched that could be taken for a dump."""
    return all(path.endswith(".sql.part") for path in sql_files())


@on_apache
def test_wrong_password_fetches_no_database(typed, filled_database, sql_files):
    done = typed.run("dump", typed.ssh, (typed.database[0], "a wrong one"))
    assert done.status != 0 and "Access denied" in done.said
    assert is_unfetched(sql_files)


@on_apache
def test_database_that_is_gone_is_not_fetched(alice, typed, filled_database, sql_files):
    alice.rig.database.ask(f"DROP DATABASE {filled_database}")
    done = typed.run("dump", typed.ssh, typed.database)
    assert done.status != 0 and "Unknown database" in done.said
    assert is_unfetched(sql_files)


@on_apache
def test_database_that_is_switched_off_is_not_fetched(alice, typed, filled_database, sql_files):
    for active in ("off", "on"):
        alice.change("switch", kind="database", name=filled_database, active=active)
        last = [typed.ssh] if active == "on" else []
        done = typed.run("dump", typed.ssh, typed.database, *last)
        assert (done.status == 0) == (active == "on")
        assert is_unfetched(sql_files) == (active == "off")


@on_apache
def test_half_of_a_database_is_not_fetched(alice, typed, filled_database, sql_files):
    """The owner's space is full before the dump has ended."""
    home = alice.rig.box.shell(f"ls -d {alice.root}/home/*").split()[-1]
    own = alice.rig.box.shell(f"stat -c uid=%u,gid=%g {home}").strip()
    alice.rig.box.shell(f"mount -t tmpfs -o size=1M,mode=700,{own} full {home}")
    try:
        done = typed.run("dump", typed.ssh, typed.database)
        assert done.status != 0 and "errno 28" in done.said
        assert is_unfetched(sql_files)
    finally:
        alice.rig.box.shell(f"umount {home}")


@on_apache
def test_database_that_is_removed_is_dropped(alice):
    """A check of the rig itself, which must follow the panel in deleting."""
    panel = Panel(alice.panel.url, alice.panel.user, PANEL_PASSWORD)
    client, user, site = (
        alice.panel.records(kind)[0][id]
        for kind, id in (
            ("client", "client_id"),
            ("database_user", "database_user_id"),
            ("site", "domain_id"),
        )
    )
    added = panel.add("database", client, database_fields(1, site, "ls_second", user, 10, True))
    alice.rig.apply()
    assert {"ls_second", "ls_alice"} <= set(alice.rig.database.ask("SHOW DATABASES"))
    panel.delete("database", added)
    alice.rig.apply()
    assert "ls_second" not in alice.rig.database.ask("SHOW DATABASES")


@on_apache
def test_every_mailbox_is_fetched(alice, typed):
    mails = {"cur": "read", "new": "unread", ".Work.2026/cur": "kept"}
    maildir = f"/var/vmail/{alice.domain}/info/Maildir"
    for name, text in mails.items():
        alice.rig.box.run("mkdir", "-p", f"{maildir}/{name}")
        alice.rig.box.write({f"{maildir}/{name}/1.a": file(f"Subject: {text}\n\n{text}\n")})
    alice.rig.box.run("chown", "-R", "5000:5000", "/var/vmail")
    config = f"{typed.home}/{alice.domain}.mbsync"
    alice.rig.box.write({config: file(typed.text("mbsync-config"))})
    for _ in range(2):
        assert typed.run("mbsync", typed.mail).status == 0
    fetched = f"{typed.home}/{alice.domain}-mail"
    said = alice.rig.box.run("grep", "-rh", "^Subject", fetched).stdout.decode().splitlines()
    assert sorted(said) == ["Subject: kept", "Subject: read", "Subject: unread"]


# -- files that hold secrets -----------------------------------------------------------


@pytest.fixture
def wp_config(alice):
    alice.write("web/wp-config.php", WORDPRESS)
    alice.write("web/shows.php", "<?php include 'wp-config.php'; echo SECRET;")
    return "web/wp-config.php"


@on_apache
def test_secret_is_shut_over_ssh(alice, typed, wp_config):
    done = typed.in_jail(("$ ", typed.text("secret")))
    assert done.status == 0 and alice.mode(wp_config) == "600"
    assert alice.get("/shows.php").text == "told to nobody"


@on_apache
def test_secret_is_shut_by_ftp(alice, typed, wp_config):
    done = typed.run(
        "connect-ftp-1", typed.ftp, ("> ", f"quote {typed.text('secret-ftp')}"), ("> ", "bye")
    )
    assert done.status == 0 and alice.mode(wp_config) == "600"
    assert alice.get("/shows.php").text == "told to nobody"


@on_apache
def test_secret_is_not_served_as_a_page(alice, wp_config):
    """Apache serves it neither by its own name nor by a link."""
    alice.write("web/notes.txt", "told to nobody", 0o600)
    links = f"ln -s wp-config.php {alice.root}/web/by-link.txt"
    links += f"; ln {alice.root}/web/wp-config.php {alice.root}/web/same.txt"
    alice.rig.box.shell(links, user=alice.user)
    assert alice.get("/same.txt").text == WORDPRESS
    alice.rig.box.run("chmod", "600", f"{alice.root}/{wp_config}")
    for path in ("/notes.txt", "/by-link.txt", "/same.txt"):
        assert alice.get(path).status_code == 403, path
    assert alice.get("/wp-config.php").text == ""


FLIP = """
chdir shift;
for (;;) {
    for my $target ("robots.txt", "wp-config.php") {
        symlink $target, "new";
        rename "new", "flip.txt";
    }
}
"""


@on_apache
def test_secret_is_not_served_by_a_race(alice, wp_config):
    """A link is switched to and fro, so that Apache checks one file and opens the other."""
    alice.rig.box.run("chmod", "600", f"{alice.root}/{wp_config}")
    alice.rig.box.background(
        *("runuser", "-u", alice.user, "--", "timeout", "20"),
        *("perl", "-e", FLIP, f"{alice.root}/web"),
    )
    eventually(lambda: alice.get("/flip.txt").status_code != 404)
    answers = [alice.get("/flip.txt") for _ in range(200)]
    alice.rig.box.run("pkill", "-u", alice.user, "perl")
    assert {answer.status_code for answer in answers} == {200, 403}
    assert not any("SECRET" in answer.text for answer in answers)


# -- what .htaccess may say ------------------------------------------------------------


def htaccess(alice, *lines: str, directory: str = "web") -> None:
    alice.write(f"{directory}/.htaccess", "".join(f"{line}\n" for line in lines))


@on_apache
@pytest.mark.parametrize(
    ("line", "status", "location"),
    [
        ("Redirect /old /new", 302, "/new"),
        ("Redirect permanent /old https://example.org/new", 301, "https://example.org/new"),
        (r"RedirectMatch ^/ol(.)$ /new/$1", 302, "/new/d"),
    ],
)
def test_htaccess_sends_visitors_elsewhere(alice, line, status, location):
    htaccess(alice, line)
    answer = alice.get("/old")
    assert answer.status_code == status
    assert answer.headers["Location"].removeprefix(f"http://{alice.domain}") == location


@on_apache
def test_htaccess_sets_another_start_page(alice):
    htaccess(alice, "DirectoryIndex robots.txt")
    assert alice.get().text == alice.get("/robots.txt").text


@on_apache
def test_list_of_files_stays_hidden(alice):
    """The server lists no files, whatever .htaccess says."""
    alice.write("web/list/file.txt", "")
    for lines in ([], ["IndexOptions FancyIndexing"], ["Options +Indexes"]):
        htaccess(alice, *lines, directory="web/list")
        assert alice.get("/list/").status_code == 403
    alice.write("web/list/index.html", "")
    assert alice.get("/list/").status_code == 200


@on_apache
@pytest.mark.parametrize(
    ("lines", "status"),
    [
        (["Order allow,deny", "Allow from all", "Deny from 10.77"], 403),
        (["Order deny,allow", "Deny from all"], 403),
        (["Order deny,allow", "Deny from all", "Allow from 10.77"], 200),
        (["Order deny,allow", "Deny from 192.0.2.1"], 200),
    ],
)
def test_htaccess_shuts_visitors_out_by_their_address(alice, lines, status):
    htaccess(alice, *lines)
    assert alice.get("/robots.txt").status_code == status


@on_apache
@pytest.mark.parametrize(
    ("line", "header", "value"),
    [
        ("AddDefaultCharset iso-8859-5", "Content-Type", "text/plain; charset=iso-8859-5"),
        ("AddCharset koi8-r .txt", "Content-Type", "text/plain; charset=koi8-r"),
        ("AddLanguage fi .txt", "Content-Language", "fi"),
        ("DefaultLanguage fi", "Content-Language", "fi"),
    ],
)
def test_htaccess_sets_charsets_and_languages_of_files(alice, line, header, value):
    htaccess(alice, line)
    assert alice.get("/robots.txt").headers[header] == value


@on_apache
def test_directory_has_pretty_addresses_by_htaccess(alice):
    alice.write("web/blog/index.php", "<?php echo $_SERVER['REQUEST_URI'];")
    alice.write("web/blog/there.txt", "there")
    htaccess(alice, "FallbackResource /blog/index.php", directory="web/blog")
    assert alice.get("/blog/a/b?c").text == "/blog/a/b?c"
    assert alice.get("/blog/there.txt").text == "there"
    assert alice.get("/a/b").status_code == 404


VOID = {
    "RewriteRule": ["RewriteEngine on", "RewriteRule ^there$ /robots.txt"],
    "SetEnv": ["SetEnv SECRET told"],
    "AddType": ["AddType text/x-told .txt"],
    "AddHandler": ["AddHandler server-status .txt"],
    "Header": ["Header set X-Told yes"],
    "Options": ["Options +ExecCGI +FollowSymLinks"],
    "ErrorDocument": ["ErrorDocument 404 told"],
    "AuthType": ["AuthType Basic", "AuthName told", "AuthUserFile /dev/null"],
    "no directive": ["Told"],
}


def everything(alice) -> list[tuple]:
    """How the site answers, without times."""
    alice.write("web/env.php", "<?php echo getenv('SECRET'), $_SERVER['SECRET'] ?? '';")
    alice.rig.box.shell(f"ln -sf /etc/hostname {alice.root}/web/link.txt", user=alice.user)
    answers = []
    for path in ("/", "/robots.txt", "/env.php", "/there", "/link.txt"):
        answer = alice.get(path)
        headers = {name: text for name, text in answer.headers.items() if name != "Date"}
        answers.append((answer.status_code, headers, answer.text))
    return answers


@on_apache
def test_htaccess_that_asks_for_a_password_lets_nobody_in(alice):
    htaccess(alice, *VOID["AuthType"], "Require valid-user")
    assert alice.get("/robots.txt").status_code in (401, 403, 500)


@on_apache
@pytest.mark.parametrize("name", VOID)
def test_forbidden_lines_of_htaccess_have_no_effect(name, alice):
    before = everything(alice)
    assert [status for status, *_ in before] == [200, 200, 200, 404, 403]
    htaccess(alice, *VOID[name])
    assert everything(alice) == before
    # The other lines of the file count.
    htaccess(alice, *VOID[name], "Redirect /old /new")
    assert alice.get("/old").status_code == 302


@on_apache
def test_each_directive_on_the_page_is_tried_here(alice):
    source = Path(__file__).read_text(encoding="utf-8")
    told = re.findall(r"<code>([A-Z]\w+)[^<]*</code>", alice.page("/htaccess"))
    assert len(told) > 15
    assert [word for word in told if word not in source] == []


@on_each
def test_user_ini_sets_up_php(alice):
    alice.write("web/own/.user.ini", "memory_limit = 77M\n")
    alice.write("web/own/limit.php", "<?php header('X-Told: yes'); echo ini_get('memory_limit');")
    answer = alice.get("/own/limit.php")
    assert (answer.text, answer.headers["X-Told"]) == ("77M", "yes")


@on("apache-itk")
def test_htaccess_may_say_everything_under_itk(alice):
    made = ["openssl", "passwd", "-apr1", "a password"]
    hash = alice.rig.box.run(*made).stdout.decode()
    alice.write("private/passwords", f"alice:{hash}", 0o600)
    htaccess(
        alice,
        *("RewriteEngine on", "RewriteRule ^there$ /robots.txt", "Header set X-Told yes"),
        *("AddHandler server-status .status", "ErrorDocument 404 told"),
    )
    passwords = f"AuthUserFile {alice.root}/private/passwords"
    login = ("AuthType Basic", "AuthName told", passwords, "Require valid-user")
    htaccess(alice, *login, directory="web/inside")
    alice.write("web/inside/page.txt", "inside")
    alice.write("web/server.status", "")
    assert "Server Status" in alice.get("/server.status").text
    assert alice.get("/there").headers["X-Told"] == "yes"
    assert alice.get("/missing").text == "told"
    assert alice.get("/inside/page.txt").status_code == 401
    assert alice.get("/inside/page.txt", auth=("alice", "a password")).text == "inside"


# -- the settings of the site ----------------------------------------------------------


@pytest.fixture
def pretty(alice):
    alice.change("pretty-addresses", active="on")
    yield
    alice.change("pretty-addresses", active="off")


@on_each
def test_pretty_addresses_are_for_the_start_page(alice, pretty):
    alice.write("web/index.php", "<?php echo 'asked for ', $_SERVER['REQUEST_URI'];")
    alice.write("web/there.php", "<?php echo 'there ', $_GET['c'] ?? '';")
    assert alice.get("/a/b").text == "asked for /a/b"
    assert alice.get("/a/b?c=1").text == "asked for /a/b?c=1"
    assert alice.get().text == "asked for /"
    assert alice.get("/robots.txt").text == "User-agent: *\n"
    assert alice.get("/there.php?c=1").text == "there 1"


@on_each
def test_pretty_addresses_without_a_program_lead_nowhere(alice, pretty):
    assert alice.get("/a/b").status_code == 404


@pytest.mark.parametrize(
    "alice",
    [
        "apache-event",
        "nginx",
    ],
    indirect=True,
    scope="module",
)
def test_pretty_addresses_keep_the_first_page(alice, pretty):
    assert alice.get().text == f"<h1>Welcome to {alice.domain}</h1>\n"
    alice.write("web/index.html", "mine")
    alice.write("web/sub/index.html", "below")
    assert (alice.get().text, alice.get("/sub/").text) == ("mine", "below")


@on_each
def test_pretty_addresses_can_be_switched_off(alice):
    alice.write("web/index.php", "<?php echo 'asked for ', $_SERVER['REQUEST_URI'];")
    for active in ("on", "off"):
        alice.change("pretty-addresses", active=active)
        assert alice.get("/a/b").status_code == {"on": 200, "off": 404}[active]


@on_each
def test_redirect_of_the_site_can_be_removed(alice):
    alice.change("redirect", redirect_to="https://example.org/blog")
    answer = alice.get("/a/b?c=1")
    assert answer.status_code == 301
    assert answer.headers["Location"] == "https://example.org/blog/a/b?c=1"
    alice.change("redirect", redirect_to="")
    assert alice.get("/a/b").status_code == 404
    assert alice.get("/robots.txt").status_code == 200
