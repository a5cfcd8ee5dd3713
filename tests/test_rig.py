"""The rig itself: that it is the server that the panel's records say, and nothing of ours."""

import ftplib
import io
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import requests

from lightningspace.panel import Panel
from tests.conftest import PANEL_PASSWORD, eventually
from tests.rig import Rig

PASSWORD = "correct horse 9"
# What a site is told as long as nobody has wished for more.
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
    """A client at the panel with a site and an FTP user."""

    def __init__(self, rig: Rig, panel, name: str, **fields):
        self.name, self.domain = name, f"{name}.shop.test"
        self._rig = rig
        self.panel = Panel(panel.url, panel.user, PANEL_PASSWORD)
        self.client = self.panel.add_client(name, f"info@{self.domain}")
        self.site = self.panel.add("site", self.client, SITE | {"domain": self.domain} | fields)
        self.root = f"/var/www/clients/client{self.client}/web{self.site}"
        self.own = {
            "server_id": 1,
            "parent_domain_id": self.site,
            "username": name,
            "dir": self.root,
            "quota_size": -1,
            "active": "y",
        }
        user = {"uid": f"web{self.site}", "gid": f"client{self.client}"}
        self.ftp_user = self.panel.add("ftp", self.client, self.own | user, PASSWORD)

    def change(self, **fields) -> None:
        """As an update does, which keeps what it does not name but for the numbers of processes."""
        processes = {name: SITE[name] for name in SITE if name.startswith("pm")}
        self.panel.update("site", self.site, {"domain": self.domain} | processes | fields)
        self._rig.apply()

    def get(self, path: str = "/", **options) -> requests.Response:
        headers = {"Host": self.domain, "Connection": "close"}
        url = f"http://{self._rig.address}{path}"
        return requests.get(url, headers=headers, allow_redirects=False, timeout=10, **options)

    def put(self, path: str, text: str) -> None:
        with self._rig.ftp(self.name, PASSWORD) as session:
            session.storbinary(f"STOR {path}", io.BytesIO(text.encode()))

    def run(self, php: str) -> str:
        """What PHP code says that is called over the web."""
        self.put("web/run.php", f"<?php {php}")
        return self.get("/run.php").text


@pytest.fixture(params=["apache-event", "apache-itk", "nginx"])
def rig(request, panel):
    panel.queue_seconds = 0
    with Rig(panel, web=request.param) as rig:
        yield rig


@pytest.fixture
def alice(rig, panel):
    alice = Customer(rig, panel, "alice")
    rig.apply()
    return alice


only_apache = pytest.mark.parametrize("rig", ["apache-event", "apache-itk"], indirect=True)
on_one_server = pytest.mark.parametrize("rig", ["apache-event"], indirect=True)


def test_fresh_site_shows_its_first_page(alice):
    assert alice.get().text == "<h1>Welcome to alice.shop.test</h1>\n"


def test_php_runs_as_the_customer(alice):
    assert alice.run("system('id');").startswith("uid=5004(web1) gid=5005(client1) groups=5005")


def test_php_opens_its_own_files_alone(alice):
    said = alice.run("echo @filesize('/etc/passwd') ? 'open' : 'shut', filesize(__FILE__) > 0;")

    assert said == "shut1"


def test_line_of_php_ini_is_beyond_the_customer(alice):
    alice.change(custom_php_ini="memory_limit = 32M\nallow_url_fopen = 0")

    php = "ini_set('memory_limit', '64M'); echo ini_get('memory_limit');"
    assert alice.run(php + "echo ini_get('allow_url_fopen') ?: 'off';") == "32Moff"


@only_apache
def test_htaccess_counts_as_far_as_the_record_says(alice):
    alice.put("web/.htaccess", "Redirect /old /new\nSetEnv SECRET told")
    assert alice.get("/old").status_code == 302

    alice.change(allow_override="None")
    assert alice.get("/old").status_code == 404


@only_apache
def test_directives_win_over_allow_override(alice):
    alice.put("web/.htaccess", "Redirect /old /new")
    block = "<Directory {DOCROOT_CLIENT}>\nAllowOverride None\n</Directory>"
    alice.change(apache_directives=block)

    assert alice.get("/old").status_code == 404


def test_site_without_php_serves_the_rest(alice):
    alice.run("")
    alice.change(php="no")

    assert (alice.get("/run.php").status_code, alice.get("/robots.txt").status_code) == (403, 200)


@only_apache
def test_redirect_keeps_the_path(alice):
    alice.change(redirect_type="R=301,L", redirect_path="https://example.org/")

    answer = alice.get("/a/page?x=1")
    assert (answer.status_code, answer.headers["Location"]) == (
        301,
        "https://example.org/a/page?x=1",
    )


def test_site_that_is_off_is_an_unknown_name(rig, alice):
    alice.change(active="n")

    assert "Welcome to alice" not in alice.get().text


def test_site_that_is_removed_leaves_nothing(rig, alice):
    alice.panel.delete("site", alice.site)
    rig.apply()

    left = rig.box.shell("ls -d /var/www/*/* /var/log/ispconfig/httpd/* /etc/*/sites-*/* || true")
    assert "alice" not in left and "web1" not in left


def test_ftp_sees_the_site_from_above(rig, alice):
    with rig.ftp("alice", PASSWORD) as session:
        assert {"web", "private", "log", "tmp"} <= set(session.nlst())


@on_one_server  # it makes whoever is refused wait for seconds
def test_ftp_user_that_is_off_stays_outside(rig, alice):
    user = alice.own | {"uid": "web1", "gid": "client1", "active": "n"}
    alice.panel.update("ftp", alice.ftp_user, user)
    rig.apply()

    with pytest.raises(ftplib.error_perm, match="530"):
        rig.ftp("alice", PASSWORD)


@on_one_server
def test_mode_that_a_customer_chose_stays(rig, alice):
    with rig.ftp("alice", PASSWORD) as session:
        session.sendcmd("SITE CHMOD 710 web")
    alice.change(hd_quota=200)

    assert rig.box.shell(f"stat -c %a {alice.root}/web") == "710\n"
    assert alice.get().status_code == 200


@on_one_server
def test_neighbours_are_told_apart(rig, panel, alice):
    bob = Customer(rig, panel, "bob")
    rig.apply()

    assert bob.get().text != alice.get().text
    assert bob.run("system('id -un');") == "web2\n"


@on_one_server
def test_server_comes_after_the_panel_by_itself(rig, panel, alice):
    with rig.keep_up():
        bob = Customer(rig, panel, "bob")
        eventually(lambda: "Welcome to bob" in bob.get().text)


@on_one_server
def test_nothing_of_this_machine_is_touched(rig, alice):
    assert not Path("/var/www/clients").exists()
    assert "web1:" not in Path("/etc/passwd").read_text()


KILLED = """
import sys
from lightningspace.sandbox.panel import SandboxPanel
from tests.rig import Rig

with Rig(SandboxPanel()) as rig:
    print(rig.box.pid, flush=True)
    sys.stdin.read()
"""


@on_one_server
def test_rig_ends_with_a_process_that_is_killed(rig):
    root = Path(__file__).parent.parent
    command = [sys.executable, "-c", KILLED]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, cwd=root, **pipes) as holder:
        first = Path("/proc") / holder.stdout.readline().decode().strip()
        assert first.exists()
        os.kill(holder.pid, signal.SIGKILL)

    eventually(lambda: not first.exists(), seconds=5)
