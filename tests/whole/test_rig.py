"""The rig itself: it is the server that the panel's records describe, and touches nothing else.

The files of deploy/hosting-server are tried on it, too.
"""

import ftplib
import io
import os
import signal
import socket
import ssl
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import requests

from lightningspace.base import walls
from lightningspace.outside.ispconfig import Panel
from lightningspace.sandbox.panel import SandboxPanel
from tests.conftest import PANEL_PASSWORD, ROOT, eventually
from tests.rig import Rig
from tests.rig.hardening import ours

DOCUMENT = ROOT / "docs" / "hosting-server.md"
PASSWORD = "correct horse 9"
SITE = {
    "server_id": 1,
    "ip_address": "*",
    "type": "vhost",
    "vhost_type": "name",
    "hd_quota": 100,
    "traffic_quota": -1,
    "subdomain": "www",
    "http_port": 80,
    "https_port": 443,
    "php": "php-fpm",
    "php_fpm_use_socket": "y",
    "allow_override": "All",
    "pm": "ondemand",
    "pm_max_children": 4,
    "pm_process_idle_timeout": 10,
    "pm_max_requests": 0,
    "active": "y",
}


class Customer:
    """A client at the panel with a site, an FTP user and, if wished, an SSH user."""

    def __init__(self, rig: Rig, panel: SandboxPanel, name: str):
        self.name, self.domain = name, f"{name}.shop.test"
        self._rig = rig
        self.panel = Panel(panel.url, panel.user, PANEL_PASSWORD)
        self.client = self.panel.add_client(name, f"info@{self.domain}")
        self.site = self.panel.add("site", self.client, SITE | {"domain": self.domain})
        self.user, self.group = f"web{self.site}", f"client{self.client}"
        self.root = f"/var/www/clients/{self.group}/{self.user}"
        self.of_site = {
            "server_id": 1,
            "parent_domain_id": self.site,
            "dir": self.root,
            "quota_size": -1,
            "active": "y",
        }
        self.ftp_fields = {"username": name, "uid": self.user, "gid": self.group} | self.of_site
        self.ftp = self.panel.add("ftp", self.client, self.ftp_fields, PASSWORD)

    def add_shell(self, ssh_key: str = "") -> int:
        fields = {"puser": self.user, "pgroup": self.group, "shell": "/bin/bash"}
        fields |= {"username": f"{self.name}ssh", "chroot": "jailkit", "ssh_rsa": ssh_key}
        return self.panel.add("shell", self.client, fields | self.of_site, PASSWORD)

    def change(self, **fields) -> None:
        """Update the site; fields not named keep their values, except the numbers of processes."""
        processes = {name: SITE[name] for name in SITE if name.startswith("pm")}
        self.panel.update("site", self.site, {"domain": self.domain} | processes | fields)
        self._rig.apply()

    def remove(self) -> None:
        for kind, id in (("ftp", self.ftp), ("site", self.site)):
            self.panel.delete(kind, id)
        self.panel.delete_client(self.client)

    def get(self, path: str = "/", scheme: str = "http") -> requests.Response:
        headers = {"Host": self.domain, "Connection": "close"}
        url = f"{scheme}://{self._rig.address}{path}"
        return requests.get(url, headers=headers, allow_redirects=False, timeout=10)

    def put(self, path: str, text: str) -> None:
        with self._rig.ftp(self.name, PASSWORD) as session:
            session.storbinary(f"STOR {path}", io.BytesIO(text.encode()))

    def run(self, php: str) -> str:
        """The output of PHP code that is called over the web."""
        self.put("web/run.php", f"<?php {php}")
        return self.get("/run.php").text

    def ssh(self, *command: str, **options) -> str:
        done = self._rig.ssh(f"{self.name}ssh", PASSWORD, *command, **options)
        return done.stdout + done.stderr


Rigs = Callable[..., tuple[Rig, SandboxPanel]]


@pytest.fixture(scope="module")
def rigs() -> Iterator[Rigs]:
    """Servers with their panels, which tests share: `rigs("nginx", hardening=True)`."""
    with ExitStack() as running:
        made = {}

        def rig(web: str, hardening: bool = False) -> tuple[Rig, SandboxPanel]:
            if (web, hardening) not in made:
                panel = SandboxPanel(password=PANEL_PASSWORD)
                panel.start()
                running.callback(panel.stop)
                rig = running.enter_context(Rig(panel, web, hardening))
                made[web, hardening] = rig, panel
            return made[web, hardening]

        yield rig


@pytest.fixture
def hardening():
    return False


@pytest.fixture(params=["apache-event", "apache-itk", "nginx"])
def web(request):
    return request.param


@pytest.fixture
def rig(rigs, web, hardening, request):
    rig, _ = rigs(web, hardening)
    if "customer" not in request.fixturenames:
        rig.apply()
    return rig


@pytest.fixture
def customer(rigs, rig, web, hardening):
    """Make a customer of this name, who is gone in the next test.

    The server removes the old things only then, together with making the new ones, because its
    daemons read their files again each time.
    """
    panel = rigs(web, hardening)[1]
    with ExitStack() as customers:

        def make(name: str) -> Customer:
            made = Customer(rig, panel, name)
            customers.callback(made.remove)
            return made

        yield make


@pytest.fixture
def alice(rig, customer, request):
    alice = customer("alice")
    if "bob" not in request.fixturenames:
        rig.apply()
    return alice


@pytest.fixture
def bob(rig, customer, alice):
    """A second customer, made together with alice."""
    bob = customer("bob")
    rig.apply()
    return bob


def on(*servers: str):
    """A mark: run the test on these servers; it would be the same on the others."""
    return pytest.mark.parametrize("web", servers)


# -- the server follows the panel's records
# ------------------------------------------------------------


def test_fresh_site_shows_its_first_page_and_runs_php_as_its_customer(alice):
    assert alice.get().text == "<h1>Welcome to alice.shop.test</h1>\n"
    assert f"({alice.user}) gid=" in alice.run("system('id');")
    assert alice.run("system('id -Gn');") == f"{alice.group} sshusers\n"
    opened = "echo @filesize('/etc/passwd') ? 'open' : 'shut', filesize(__FILE__) > 0;"
    assert alice.run(opened) == "shut1"


@on("apache-event")
def test_customer_cannot_override_a_line_of_php_ini(alice):
    alice.change(custom_php_ini="memory_limit = 32M\nallow_url_fopen = 0")

    php = "ini_set('memory_limit', '64M'); echo ini_get('memory_limit');"
    assert alice.run(php + "echo ini_get('allow_url_fopen') ?: 'off';") == "32Moff"


@on("apache-event", "apache-itk")
def test_htaccess_counts_only_if_the_record_allows(alice):
    alice.put("web/.htaccess", "Redirect /old /new\nSetEnv SECRET told")
    assert alice.get("/old").status_code == 302

    alice.change(allow_override="None")
    assert alice.get("/old").status_code == 404


@on("apache-event", "apache-itk")
@pytest.mark.parametrize(("php", "block"), [("php-fpm", "{DOCROOT_CLIENT}"), ("no", "{DOCROOT}")])
def test_directives_win_over_allow_override(alice, php, block):
    alice.put("web/.htaccess", "Redirect /old /new")
    directives = f"<Directory {block}>\nAllowOverride None\n</Directory>"
    alice.change(apache_directives=directives, php=php)

    assert alice.get("/old").status_code == 404


@on("apache-event")
def test_directives_for_php_have_no_effect_on_a_site_without_php(alice):
    alice.put("web/.htaccess", "Redirect /old /new")
    directives = "<Directory {DOCROOT_CLIENT}>\nAllowOverride None\n</Directory>"
    alice.change(apache_directives=directives, php="no")

    assert alice.get("/old").status_code == 302


def test_site_without_php_serves_the_rest(alice):
    alice.run("")
    alice.change(php="no")

    assert (alice.get("/run.php").status_code, alice.get("/robots.txt").status_code) == (403, 200)


@on("apache-event")
def test_redirect_keeps_the_path(alice):
    alice.change(redirect_type="R=301,L", redirect_path="https://example.org/")

    answer = alice.get("/a/page?x=1")
    assert (answer.status_code, answer.headers["Location"]) == (
        301,
        "https://example.org/a/page?x=1",
    )


def test_site_that_is_off_is_an_unknown_name(alice):
    alice.change(active="n")

    assert "Welcome to alice" not in alice.get().text


def test_site_that_is_removed_leaves_nothing(rig, customer):
    alice = customer("alice")
    rig.apply()
    alice.remove()
    rig.apply()

    left = "ls -d /var/www/*/* /var/log/ispconfig/httpd/* /etc/*/sites-*/* /var/lib/php*/* || true"
    said = rig.box.shell(left + "; cat /etc/passwd")
    assert "alice" not in said and f"{alice.user}:" not in said


@on("apache-event")
def test_ftp_sees_the_site_from_above_until_it_is_off(rig, alice):
    with rig.ftp("alice", PASSWORD) as session:
        assert {"web", "private", "log", "tmp"} <= set(session.nlst())
    assert "alice" in rig.box.read("/etc/pure-ftpd/pureftpd.passwd")

    alice.panel.update("ftp", alice.ftp, alice.ftp_fields | {"active": "n"})
    rig.apply()

    # Not tried by a login, because a refused one takes seconds.
    assert "alice" not in rig.box.read("/etc/pure-ftpd/pureftpd.passwd")


@on("apache-event")
def test_mode_that_a_customer_chose_stays(rig, alice):
    with rig.ftp("alice", PASSWORD) as session:
        session.sendcmd("SITE CHMOD 710 web")
    alice.change(hd_quota=200)

    assert rig.box.shell(f"stat -c %a {alice.root}/web") == "710\n"
    assert alice.get().status_code == 200


@on("apache-event")
def test_ssh_lands_in_the_jail_until_its_user_is_removed(rig, alice, tmp_path):
    make_key = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(tmp_path / "key")]
    subprocess.run(make_key, check=True)
    user = alice.add_shell((tmp_path / "key.pub").read_text())
    rig.apply()
    assert alice.ssh("id -un; pwd; ls -d /web /var/www").splitlines() == [
        "alicessh",
        "/home/alicessh",
        "/web",
        "ls: cannot access '/var/www': No such file or directory",
    ]

    login, env = rig.ssh_login("alicessh", "a wrong one", "-i", str(tmp_path / "key"))
    said = subprocess.run([*login, "id -un"], env=env, capture_output=True, text=True)
    assert said.stdout == "alicessh\n"

    alice.panel.delete("shell", user)
    rig.apply()
    assert "alicessh" not in rig.box.read("/etc/passwd")
    assert rig.box.shell(f"ls {alice.root}/home") == ""
    assert alice.get().status_code == 200


def test_neighbours_have_different_sites_and_users(alice, bob):
    assert bob.get().text != alice.get().text
    assert bob.run("system('id -un');") == f"{bob.user}\n"


@on("apache-event")
def test_server_follows_the_panel_by_itself(rig, customer):
    with rig.keep_up():
        alice = customer("alice")
        eventually(lambda: "Welcome to alice" in alice.get().text)


# -- this machine stays as it was --------------------------------------------------


@on("apache-event")
def test_nothing_of_this_machine_is_touched(rig, alice):
    assert not Path(alice.root).exists()
    assert f"{alice.user}:" not in Path("/etc/passwd").read_text()


KILLED = """
import sys
from lightningspace.sandbox.panel import SandboxPanel
from tests.rig import Rig

with Rig(SandboxPanel()) as rig:
    print(rig.box.pid, flush=True)
    sys.stdin.read()
"""


@on("apache-event")
def test_rig_ends_with_a_process_that_is_killed(rig):
    root = Path(__file__).parents[2]
    command = [sys.executable, "-c", KILLED]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, cwd=root, **pipes) as holder:
        first = Path("/proc") / holder.stdout.readline().decode().strip()
        assert first.exists()
        os.kill(holder.pid, signal.SIGKILL)

    eventually(lambda: not first.exists(), seconds=5)


# -- what the files of deploy/hosting-server do ---------------------------------------


def seen(*values: object, web: tuple[str, ...] = ("apache-event",)):
    """A mark: `seen` is the first value on a server as installed, the second on a hardened one."""
    as_installed, hardened = values
    cases = [(server, False, as_installed) for server in web]
    cases += [(server, True, hardened) for server in web]
    return pytest.mark.parametrize(("web", "hardening", "seen"), cases)


def hardened(*servers: str):
    return pytest.mark.parametrize(("web", "hardening"), [(server, True) for server in servers])


def connect_to(port: int, address: str = "127.0.0.1") -> str:
    """PHP code that says whether it can connect."""
    return f"echo @fsockopen('{address}', {port}, $no, $why, 3) ? 'through' : $why, ' ';"


MAKE_CRONTAB = "(echo '* * * * * id' | crontab - && crontab -l) 2>&1"
MADE, NOT_MADE = "* * * * * id", "not allowed to use this program (crontab)"
# What a customer's PHP tries, and its output on a server as installed and on a hardened one.
TRIED_BY_PHP = {
    "what is not for customers": (
        "".join(map(connect_to, (25, 8080, 8081))),
        "through through through ",
        "Connection refused Connection refused Connection refused ",
    ),
    "what is for customers": (
        "".join(map(connect_to, (80, 3306))),
        "through through ",
        "through through ",
    ),
    "mail without a login": (
        "echo mail('root@box.test', 'x', 'x') ? 'sent' : 'refused';",
        "sent",
        "refused",
    ),
    "a crontab": (
        f"""system("{MAKE_CRONTAB} | grep -oF -e '{MADE}' -e '{NOT_MADE}'");""",
        f"{MADE}\n",
        f"{NOT_MADE}\n",
    ),
    "a job of at": (
        "system('echo id | at now + 1 hour 2>&1 | grep -o -e ^job -e not.have.permission');",
        "job\n",
        "not have permission\n",
    ),
    "more memory than a process gets": (
        """system("perl -e 'print length(q(x) x (600 << 20))' 2> /dev/null || echo too much");""",
        "629145600",
        "too much\n",
    ),
}


@seen(1, 2)
def test_php_gets_only_as_far_as_the_server_lets_it(alice, seen):
    said = {tried: alice.run(row[0]) for tried, row in TRIED_BY_PHP.items()}

    assert said == {tried: row[seen] for tried, row in TRIED_BY_PHP.items()}


@hardened("apache-event")
def test_mail_of_the_server_itself_is_delivered(rig):
    rig.box.run("sendmail", "root", input="Subject: from the server\n\nx\n")

    eventually(lambda: "from the server" in rig.box.shell("cat /var/mail/root || true"))


@pytest.fixture
def mail_server_elsewhere(rig):
    """Its address, as seen from the box; it listens at the ports for mail with a login."""
    address = f"10.77.{rig.box.number}.1"
    with ExitStack() as listening:
        for port in (465, 587):
            listening.enter_context(socket.create_server((address, port)))
        yield address


@seen(("reached port 3306", "through"), ("stdio forwarding failed", "Connection refused"))
def test_customer_reaches_beyond_the_jail_only_without_hardening(
    rig, alice, mail_server_elsewhere, seen, hardening
):
    alice.add_shell()
    rig.apply()
    by_tunnel, mail_server = seen

    assert by_tunnel in alice.ssh(options=("-W", "127.0.0.1:3306"))
    assert mail_server in alice.ssh(f": < /dev/tcp/{mail_server_elsewhere}/587 && echo through")
    by_php = "".join(connect_to(port, mail_server_elsewhere) for port in (465, 587))
    assert alice.run(by_php) == f"{mail_server} {mail_server} "
    if hardening:
        assert alice.ssh("cat /log/error.log; ulimit -u; echo here") == "100\nhere\n"


@seen("bob's000", "111")
def test_php_reads_a_neighbours_files_only_without_hardening(alice, bob, seen):
    bob.put("web/settings.txt", "bob's")
    logs = (f"/var/log/ispconfig/httpd/{bob.domain}/error.log", f"{bob.root}/log/error.log")
    files = (f"{bob.root}/web/settings.txt", *logs)
    php = (f"system('cat {path}', $failed); echo $failed;" for path in files)

    assert alice.run("".join(php)) == seen


@seen(200, 503, web=("apache-event", "apache-itk", "nginx"))
def test_unknown_name_has_no_page_on_a_hardened_server(rig, seen):
    headers = {"Host": "nobody.shop.test"}

    assert requests.get(f"http://{rig.address}/", headers=headers).status_code == seen


@hardened("apache-event", "nginx")
def test_unknown_name_has_no_page_over_https(rig, alice, web):
    context = ssl._create_unverified_context()
    try:
        with (
            socket.create_connection((rig.address, 443), timeout=10) as connection,
            context.wrap_socket(connection, server_hostname="nobody.shop.test") as secured,
        ):
            secured.sendall(b"GET / HTTP/1.0\r\nHost: nobody.shop.test\r\n\r\n")
            said = secured.recv(100).decode()
    except ssl.SSLError as error:
        said = error.reason

    assert said.startswith(
        {"apache-event": "HTTP/1.1 503", "nginx": "TLSV1_UNRECOGNIZED_NAME"}[web]
    )


@seen(True, False)
def test_site_shows_requests_to_neighbours_only_without_hardening(rig, alice, bob, seen):
    alice.put("web/.htaccess", "SetHandler server-status")
    bob.put("web/slow.php", "<?php sleep(30);")

    def status_meanwhile() -> str:
        page = alice.get("/status").text
        return page if "2 requests currently being processed" in page else ""

    with socket.create_connection((rig.address, 80)) as visitor:
        visitor.sendall(b"GET /slow.php?secret HTTP/1.0\r\nHost: bob.shop.test\r\n\r\n")
        assert ("slow.php?secret" in eventually(status_meanwhile)) == seen


@seen(150, 100)
def test_processes_of_a_customer_are_limited_by_hardening(rig, alice, seen):
    alice.run("for ($i = 0; $i < 150; $i++) exec('sleep 60 > /dev/null 2>&1 &');")
    running = int(rig.box.shell(f"pgrep -c -u {alice.user} sleep"))

    assert running == 150 if seen == 150 else running < 100


@seen("230", "421")
def test_ftp_login_without_tls_is_refused_by_hardening(rig, alice, seen):
    with ftplib.FTP(rig.address) as session:
        try:
            said = session.login("alice", PASSWORD)
        except ftplib.Error as error:
            said = str(error)

    assert said.startswith(seen)


@hardened("apache-itk")
def test_htaccess_keeps_its_power_under_itk(alice):
    alice.put("web/.htaccess", "RewriteEngine on\nRewriteRule ^old$ /robots.txt")

    assert alice.get("/old").text == alice.get("/robots.txt").text


@hardened("apache-event")
def test_keys_that_the_panel_leaves_are_swept_away(rig):
    old, new = "/tmp/65f0c1d2e3a4b1.23456789", "/tmp/65f0c1d2e3a4b1.23456789.pub"
    rig.box.shell(f"touch -d '2 days ago' {old}; touch {new}")
    if rig.box.run("which", "systemd-tmpfiles", check=False).returncode:
        pytest.skip("needs systemd-tmpfiles: apt-get install systemd")
    rig.box.shell("systemd-tmpfiles --clean /etc/tmpfiles.d/tmp.conf")

    assert rig.box.shell("ls /tmp/*") == f"{new}\n"


def test_document_quotes_what_the_shop_sends():
    text = DOCUMENT.read_text(encoding="utf-8")

    assert "".join(f"    {line}\n" for line in walls.NARROW_OVERRIDE) in text
    assert text.count("```") == 0  # the files are files
    first, second = map(walls.allow_override, (walls.NARROW, walls.MPM_ITK))
    assert f"| `{first}`, or `{second}` under mpm_itk |" in text
    basedir = walls.open_basedir("[website_path]")
    assert f"| `{basedir}` |" in text


@hardened("apache-event")
def test_jail_is_made_after_the_customer_was_kept_apart(rig, alice):
    """Jailkit makes no jail below a directory that is not root's, or whose group is not."""
    rig.box.shell(f"jk_cp -j {alice.root} /usr/bin/id; {alice.root}/usr/bin/id")


def test_document_names_every_file():
    text = DOCUMENT.read_text(encoding="utf-8")

    assert [path for part in ours.PARTS for path in part.paths if f"`{path}`" not in text] == []


def test_file_can_be_left_out(panel):
    path = "/etc/pure-ftpd/conf/MaxClientsPerIP"
    with Rig(panel, hardening=True, without=(path,)) as rig:
        assert rig.box.run("test", "-e", path, check=False).returncode == 1


# Commands that show that a file is valid and read; the tests above show what it does.
UNIT_IS_READ = "systemd-analyze verify --man=no"
TRIED = {
    ours.RULES: f"nft -c -f {ours.RULES}",
    "/etc/systemd/system/customers-firewall.service": (
        f'test -z "$({UNIT_IS_READ} customers-firewall.service 2>&1 | tee /dev/stderr)"'
    ),
    "/etc/systemd/system/nftables.service.d/customers.conf": (
        f"! {UNIT_IS_READ} nftables.service 2>&1 | grep customers.conf"
    ),
    "/etc/ssh/sshd_config.d/customers.conf": "/usr/sbin/sshd -t",
    "/etc/cron.allow": "! crontab -l -u root 2>&1 | grep 'not allowed'",
    "/etc/at.allow": "grep -qx root /etc/at.allow",
    "/etc/security/limits.d/customers.conf": "grep -q nproc /etc/security/limits.d/customers.conf",
    ours.PHP_LIMITS: (
        "grep -h '^Max processes *100 ' /proc/$(cat /run/php/php*-fpm.pid)/limits"
        f"; ! {UNIT_IS_READ} php8.2-fpm.service 2>&1 | grep customers.conf"
    ),
    "/etc/systemd/system/user-.slice.d/customers.conf": (
        f"! {UNIT_IS_READ} user-5003.slice 2>&1 | grep customers.conf"
    ),
    "/etc/systemd/system/user-0.slice.d/root.conf": (
        f"! {UNIT_IS_READ} user-0.slice 2>&1 | grep root.conf"
    ),
    "/etc/mysql/mariadb.conf.d/70-customers.cnf": (
        "my_print_defaults --defaults-file=/etc/mysql/mariadb.conf.d/70-customers.cnf mysqld"
        " | grep -x -- --max_user_connections=25"
    ),
    "/etc/tmpfiles.d/tmp.conf": "test -s /etc/tmpfiles.d/tmp.conf",
    "/usr/local/sbin/keep-customers-apart": "/usr/local/sbin/keep-customers-apart",
    "/etc/cron.d/keep-customers-apart": "test $(stat -c %a /var/log/ispconfig/httpd) = 750",
    "/etc/postfix/main.cf": 'postfix check; test -z "$(postconf -n 2>&1 >/dev/null)"',
    "/etc/pure-ftpd/conf/TLS": "pure-ftpd-wrapper --show-options | grep -e '-Y 2'",
    "/etc/pure-ftpd/conf/MaxClientsPerIP": "pure-ftpd-wrapper --show-options | grep -e '-C 10'",
    "/etc/apache2/conf-available/customers.conf": ". /etc/apache2/envvars; apache2 -t",
    "/etc/apache2/sites-available/000-default.conf": ". /etc/apache2/envvars; apache2 -t",
    "/etc/nginx/sites-available/default": "nginx -t",
}


@hardened("apache-itk", "nginx")
def test_each_file_is_valid(rig, web):
    other = "apache" if web == "nginx" else "nginx"
    paths = [path for part in ours.PARTS if part.web != other for path in part.paths]

    for path in paths:
        rig.box.shell(TRIED[path])
    assert len(paths) > 10
