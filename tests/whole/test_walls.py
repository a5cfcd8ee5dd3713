"""One customer attacks another by all means of `flask walls`, on servers of real daemons that are
set up exactly as the shop and docs/hosting-server.md say.
"""

import io
import time
from dataclasses import dataclass

import pytest
import requests

from lightningspace import attack
from lightningspace.attack import field, hostings
from lightningspace.base import clock, walls
from lightningspace.base.models import Account, Fact
from lightningspace.panel import reconcile
from lightningspace.rules import tips
from lightningspace.sandbox.panel import SandboxPanel
from tests.conftest import PANEL_PASSWORD, open_account, with_ftp, work
from tests.rig import Rig

# A successful race shows the file in one of the first few hundred answers, and ends there.
RACE_REQUESTS = {"apache-event": 10_000, "apache-itk": 1_000, "nginx": 1_000}
# The shop's seconds pass more quickly, because a check mostly waits for them.
SPEED = 20


class PanelOfRig(SandboxPanel):
    """A panel whose server lets new FTP users in at once, and has carried out all changes whenever
    the panel is asked how many wait.
    """

    rig: Rig | None = None

    def answer(self, method: str, body: bytes, races: bool = False) -> tuple[int, bytes]:
        if self.rig and method == "monitor_jobqueue_count":
            self.rig.apply()
        answered = super().answer(method, body, races)
        if self.rig and method == "sites_ftp_user_add":
            self.rig.apply()
        return answered


class Careless(PanelOfRig):
    """A panel whose server ignores what the shop sends to keep neighbours apart."""

    def records(self, kind: str) -> list[dict]:
        open_to_all = {"allow_override": "All", "apache_directives": "", "custom_php_ini": ""}
        records = super().records(kind)
        if kind == "site":
            return [each | open_to_all | {"php_open_basedir": "/"} for each in records]
        return records


MODES = {"apache-event": walls.NARROW, "apache-itk": walls.MPM_ITK, "nginx": walls.NGINX}


@dataclass(frozen=True)
class Server:
    web: str
    is_careless: bool = False


@pytest.fixture
def server(request) -> Server | None:
    """The server of real daemons that `on_rig` chooses for the test."""
    return getattr(request, "param", None)


def on_rig(*webs: str, is_careless: bool = False):
    """A mark: run the test once on a server with each of these web servers."""
    servers = [Server(web, is_careless) for web in webs]
    return pytest.mark.parametrize("server", servers, ids=webs, indirect=True)


@pytest.fixture
def panel(server):
    kind = Careless if server and server.is_careless else PanelOfRig
    stand_in = kind(password=PANEL_PASSWORD)
    stand_in.queue_seconds = 0
    stand_in.start()
    yield stand_in
    stand_in.stop()


@pytest.fixture
def rig(panel, server):
    """The server behind the panel, which carries out the panel's records."""
    hardening = not server.is_careless
    with Rig(panel, server.web, hardening=hardening) as rig:
        panel.rig = rig
        yield rig
        panel.rig = None


@pytest.fixture
def env(env, server, request):
    if server is None:
        return env
    rig = request.getfixturevalue("rig")
    ftp = {"FTP_ADDRESSES": rig.address, "FTP_VERIFY_TLS": "false", "FTP_UPLOADS": "true"}
    return env | ftp | {"WALLS": MODES[server.web]}


@pytest.fixture
def quick_clock(monkeypatch):
    started, read = time.time(), time.monotonic
    began = read()
    clock.set_source(lambda: started + SPEED * (read() - began))
    monkeypatch.setattr(hostings, "LOOK_SECONDS", 1 / SPEED)
    monkeypatch.setattr(field, "BUSY_SECONDS", 0.05)


@pytest.fixture
def results(this_shop, panel, rig, server, quick_clock) -> dict[str, attack.Result]:
    """The result of each attack, after which nothing of the check is left."""
    race_requests = RACE_REQUESTS[server.web]
    found = list(attack.check(this_shop, 1, rig.address, race_requests, patience_seconds=0))
    assert not Account.select().exists()
    assert not panel.records("client") and not panel.records("site")
    return {result.attack: result for result in found}


def those(results: dict[str, attack.Result], result: str) -> set[str]:
    return {name for name, each in results.items() if each.result == result}


# Attacks that are known to succeed, as docs/hosting-server.md says, by web server.
KNOWN = {
    walls.NARROW: {"race", "questions", "first words"},
    walls.MPM_ITK: {"own limits", "questions", "first words"},
    walls.NGINX: set(),
}


@on_rig(*MODES)
def test_walls_hold_on_a_hardened_server_set_up_by_the_shop(results, this_shop):
    assert {name: results[name].proof for name in those(results, attack.OPEN)} == {}
    assert those(results, attack.KNOWN) == KNOWN[this_shop.config.walls]
    # The rig's mail server takes no logins.
    not_tried = {name: results[name].proof for name in those(results, attack.NOT_TRIED)}
    assert not_tried.keys() == {"submission", "sender"}, not_tried
    assert [line for line in attack.problems(this_shop) if "not tried" not in line] == []


@on_rig("apache-event", is_careless=True)
def test_each_attack_succeeds_where_nothing_prevents_it(results, this_shop):
    """Otherwise the attack would not show that a wall holds."""
    # These hold by what the shop does over FTP and by kinds of records; test_rig shows them open.
    # The last holds by Apache, which since 2.4.69 reads no file for a condition.
    held = {"files by PHP", "files by a shell", "PHP sockets", "jail", "contents"}
    known = KNOWN[walls.NARROW]
    assert those(results, attack.HELD) == held
    assert those(results, attack.KNOWN) == known
    assert those(results, attack.OPEN) == results.keys() - held - known - {"submission", "sender"}
    told = [line for line in attack.problems(this_shop) if "a customer can " in line]
    assert len(told) == len(those(results, attack.OPEN))


# -- .htaccess of common programs ---------------------------------------------------------------

# In the manner of the files that common programs write.
OF_PROGRAMS = {
    "permalinks": """\
<IfModule mod_rewrite.c>
RewriteEngine On
RewriteRule .* - [E=HTTP_AUTHORIZATION:%{HTTP:Authorization}]
RewriteBase /
RewriteCond %{REQUEST_FILENAME} !-f
RewriteRule . /index.php [L]
</IfModule>
""",
    "headers": """\
<IfModule mod_headers.c>
  <IfModule mod_setenvif.c>
    SetEnvIfNoCase ^Authorization$ "(.+)" XAUTHORIZATION=$1
    RequestHeader set XAuthorization %{XAUTHORIZATION}e env=XAUTHORIZATION
  </IfModule>
  Header always set X-Content-Type-Options "nosniff"
  <FilesMatch "\\.(css|js|svg)$">
    Header set Cache-Control "max-age=15778463"
  </FilesMatch>
</IfModule>
<IfModule mod_php.c>
  php_value mbstring.func_overload 0
</IfModule>
AddDefaultCharset utf-8
Options -Indexes
<IfVersion >= 2.4>
ErrorDocument 404 /404.php
</IfVersion>
""",
}
SHUT = {
    "by Require": "Require all denied\n",
    "by Order": "Order deny,allow\nDeny from all\n",
    "by both": """\
<IfModule mod_authz_core.c>
  Require all denied
</IfModule>
<IfModule !mod_authz_core.c>
  Order deny,allow
  Deny from all
</IfModule>
""",
    "by name": '<FilesMatch "\\.(sql|ini)$">\n  Require all denied\n</FilesMatch>\n',
    "by Files": "<Files backup.sql>\nOrder allow,deny\nDeny from all\n</Files>\n",
    "by a password": "AuthType Basic\nAuthName x\nAuthUserFile /x\nRequire valid-user\n",
}


@on_rig("apache-event", "apache-itk")
def test_htaccess_of_common_programs_breaks_and_opens_nothing(this_shop, rig):
    reconcile.account(this_shop, open_account(this_shop, "alice").id)
    rig.apply()

    def status(directory: str, lines: str) -> int:
        with rig.ftp("ls_alice", "correct horse") as session:
            session.mkd(f"web/{directory}")
            for name, text in {"backup.sql": "secret", ".htaccess": lines}.items():
                session.storbinary(f"STOR web/{directory}/{name}", io.BytesIO(text.encode()))
        headers = {"Host": "alice.shop.test", "Connection": "close"}
        url = f"http://{rig.address}/{directory}/backup.sql"
        return requests.get(url, headers=headers, timeout=10).status_code

    for number, (name, lines) in enumerate(OF_PROGRAMS.items()):
        assert status(f"open{number}", lines) == 200, name
    for number, (name, lines) in enumerate(SHUT.items()):
        assert status(f"shut{number}", lines) in (401, 403, 500), name


# -- where walls cannot be checked -----------------------------------------------------------


def test_hostings_that_cannot_be_made_are_removed_and_reported(this_shop, panel, runner):
    panel.forbidden = {"sites_shell_user_add"}
    told = runner.invoke(args=["walls"])
    assert told.exit_code == 2
    assert "a hosting of the check cannot be made: shell: the remote user may not" in told.output
    assert not Account.select().exists() and not panel.records("client")
    problem = runner.invoke(args=["problems"]).output
    assert problem.startswith("walls of server 1: not checked at ") and "cannot be made" in problem


@with_ftp
def test_name_that_does_not_lead_to_the_server_is_reported(runner, panel, ftp_server, quick_clock):
    told = runner.invoke(args=["walls", "--address", "127.0.0.1:1"])
    assert told.exit_code == 2
    assert "not checked: " in told.output and "lead to the server (--address)" in told.output
    assert not Account.select().exists() and not panel.records("client")


@pytest.mark.parametrize("is_ready", [True, False])
def test_worker_removes_hostings_of_a_killed_check(
    this_shop, panel, worker, time_machine, is_ready
):
    hostings._open(this_shop, 1)
    if is_ready:
        work(worker)
    worker.tidy()
    assert Account.get().closing_at is None
    time_machine.forward(hostings.SECONDS)
    for _ in range(2):
        worker.tidy()
        work(worker)
    assert not Account.select().exists() and not panel.records("client")
    worker.tidy()
    assert not Fact.select().where(Fact.name.startswith(hostings.MADE)).exists()


def test_hosting_of_a_check_takes_no_tips(this_shop):
    made = hostings._open(this_shop, 1)
    assert tips.taker(made.username, "page") is None


def test_each_server_is_checked_once_a_week(this_shop, panel, time_machine):
    panel.forbidden = {"client_add"}
    for days, checks in ((0, 1), (6, 0), (1, 1), (6, 0), (8, 1)):
        time_machine.forward(days * 86400)
        before = [method for method, _ in panel.calls].count("client_add")
        for _ in range(2):
            attack.check_weekly(this_shop)
        added = [method for method, _ in panel.calls].count("client_add") - before
        assert bool(added) == bool(checks)


def test_weekly_check_that_did_not_end_is_reported(this_shop, panel):
    class Killed(BaseException):
        pass

    def dies(method):
        raise Killed

    this_shop.panel._call = lambda *arguments, **more: dies(arguments)
    with pytest.raises(Killed):
        attack.check_weekly(this_shop)
    del this_shop.panel._call
    (told,) = attack.problems(this_shop)
    assert "the check was started and did not finish" in told


def test_server_that_is_not_ours_is_not_attacked(this_shop, runner, panel):
    told = runner.invoke(args=["walls", "--server", "7"])
    assert told.exit_code == 1 and "server 7 is not among PANEL_SERVER_ID" in told.output
    assert not panel.calls
