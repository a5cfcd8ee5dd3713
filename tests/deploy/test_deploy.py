"""deploy/: how it installs and upgrades a shop on a machine with systemd, and what faults do."""

import json
import re
import sqlite3
import subprocess
import sysconfig
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from pyln.client import LightningRpc

from tests.base.test_schema import NAMES, OLD, RECEIPT, load
from tests.conftest import ROOT, debian_program, eventually
from tests.rig.box import BoxError
from tests.rig.machine import Machine

PLACE = "/srv/lightning-space"
PROGRAMS = "app.py wsgi.py gunicorn.conf.py lightningspace templates static schema.sql migrations"
PARTS = [*PROGRAMS.split(), "requirements.txt", "deploy", ".gitignore"]
UNITS = ("lightning-space-web.socket", "lightning-space-web", "lightning-space-worker")
ANSWERS = {
    "PUBLIC_URL": "https://shop.example",
    "BASE_DOMAIN": "space.example",
    "LIGHTNING_RPC": "/run/lightning/rpc",
    "PANEL_URL": "http://127.0.0.1:8080",
    "PANEL_USER": "shop",
    "PANEL_PASSWORD": "the panel's own $password",
    "SERVER_HOSTS": "server1.example",
    "CAPACITY_MB": "200000",
}
# The node and the panel that a shop needs. The node's group is as in docs/operating.md.
AROUND = """
import os, threading
from lightningspace.sandbox.node import SandboxNode
from lightningspace.sandbox.panel import SandboxPanel

SandboxNode("/run/lightning/rpc", "/run/lightning/wallet").start()
os.chmod("/run/lightning/rpc", 0o660)
panel = SandboxPanel(password="the panel's own $password", port=8080)
panel.queue_seconds = 0
panel.start()
threading.Event().wait()
"""
CERTIFICATE = """
cd "$(mkdir -p /etc/letsencrypt/live/shop.example && echo /etc/letsencrypt/live/shop.example)"
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 \
  -subj /CN=shop.example -addext subjectAltName=DNS:shop.example \
  -keyout privkey.pem -out fullchain.pem
"""


class Bare(Machine):
    """A machine with a checkout of the shop, and with the packages that pip would install."""

    def __init__(self, checkout: Path):
        site_packages = Path(sysconfig.get_path("purelib"))
        super().__init__({PLACE: checkout, "/opt/site-packages": site_packages})
        self.checkout = checkout

    def deploy(self, line: str, settings: dict[str, str] | None = None, works: bool = True):
        """Run a script of deploy/, and return what it prints. `works`: it must succeed, or fail."""
        given = [f"{name}={value}" for name, value in (settings or {}).items()]
        words = line.split()
        command = [f"{PLACE}/deploy/{words[0]}", *words[1:]]
        done = self.run("env", *given, *command, check=False, timeout=300)
        said = (done.stdout + done.stderr).decode()
        assert (done.returncode == 0) == works, said
        return said

    def make_environment(self) -> None:
        """Make the Python environment that deploy/install would make with pip."""
        self.shell(f"""
            cd {PLACE}; . deploy/common.sh
            made=$(environment_for requirements.txt)
            python3 -m venv --without-pip $made
            echo /opt/site-packages > $(echo $made/lib/python*/site-packages)/shop.pth
            touch $made/ready""")

    def environment(self) -> str:
        return self.shell(f"readlink {PLACE}/.venv")

    def git(self, *words: str) -> str:
        own = ["-c", "user.name=operator", "-c", "user.email=operator@shop.example"]
        return self.run("git", "-C", PLACE, *own, *words).stdout.decode().strip()

    def commit(self, tag: str) -> None:
        self.git("add", "-A")
        self.git("commit", "-qm", tag)
        self.git("tag", tag)

    def get(self, path: str, *options: str) -> str:
        """What a visitor gets from nginx over HTTPS, with the headers."""
        url = f"https://shop.example{path}"
        trusted = "/etc/letsencrypt/live/shop.example/fullchain.pem"
        at = ["--resolve", "shop.example:443:127.0.0.1", "--cacert", trusted]
        return self.run("curl", "-sS", "-i", *at, *options, url).stdout.decode()

    def states(self) -> list[str]:
        return [self.state(unit) for unit in UNITS]

    def told(self, unit: str, name: str) -> str:
        return self.shell(f"systemctl show --value --property {name} {unit}").strip()


@pytest.fixture
def bare(tmp_path) -> Iterator[Bare]:
    for program, package in (("nginx", "nginx-light"), ("curl", "curl"), ("git", "git")):
        debian_program(program, package)
    checkout = tmp_path / "checkout"
    checkout.mkdir()
    listed = ["git", "-C", ROOT, "ls-files", "-co", "--exclude-standard", *PARTS]
    files = subprocess.run(listed, capture_output=True, text=True, check=True).stdout.split("\n")
    there = [name for name in files if name and (ROOT / name).exists()]
    compiled = [str(path.relative_to(ROOT)) for path in ROOT.glob("lightningspace/**/*.pyc")]
    pack = ["tar", "-c", "-C", ROOT, *there, *compiled]
    packed = subprocess.run(pack, capture_output=True, check=True).stdout
    subprocess.run(["tar", "-xp", "-C", checkout], input=packed, check=True)
    with Bare(checkout) as machine:
        machine.shell("rm -f /var/log/nginx/*")
        machine.git("init", "-q")
        machine.commit("one")
        machine.make_environment()
        yield machine


def test_a_bare_machine_becomes_a_shop_that_sells(bare, around):
    it_only_says_what_it_would_do(bare)
    it_says_which_answer_is_missing(bare)
    bare.shell(CERTIFICATE)
    wallet = around()
    it_makes_the_shop(bare)
    it_changes_nothing_the_second_time(bare)
    root_runs_nothing_that_the_shops_user_may_write(bare)
    no_command_of_the_shop_gets_roots_terminal(bare)
    it_sells(bare, wallet)
    the_doctor_finds_what_is_missing_around_the_shop(bare)
    style = nginx_keeps_files(bare)
    it_answers_at_its_onion_address(bare)
    killed_programs_are_started_again(bare)
    a_wrong_setting_stops_the_shop(bare, style)
    an_upgrade_changes_code_database_and_services(bare)
    a_failed_upgrade_leaves_everything_as_it_was(bare)
    visitors_do_not_start_what_the_operator_stopped(bare)


@pytest.fixture
def around(bare):
    """Start a node, a wallet and a panel, as docs/operating.md places the node's socket."""

    def start() -> Path:
        """The wallet's socket."""
        bare.shell("""
            groupadd --force --system shop
            echo 'd /run/lightning 2750 root shop' > /etc/tmpfiles.d/lightning.conf
            systemd-tmpfiles --create lightning.conf""")
        bare.background("env", f"PYTHONPATH={PLACE}:/opt/site-packages", "python3", "-c", AROUND)
        return Path(f"/proc/{bare.pid}/root/run/lightning/wallet")

    return start


def it_only_says_what_it_would_do(bare):
    said = bare.deploy("install --check", ANSWERS | {"CAPACITY_MB": ""})
    for each in ("the user shop", "set PUBLIC_URL to https://shop.example", "CAPACITY_MB to your"):
        assert f"{each}" in said
    assert "$password" not in said
    assert not (bare.checkout / ".venv").exists() and not (bare.checkout / "instance").exists()
    made = "ls /etc/lightning-space* /etc/nginx/*/*lightning* /etc/systemd/system"
    assert bare.shell(f"{made} 2>/dev/null || true").strip() in ("", "/etc/systemd/system:")


def it_says_which_answer_is_missing(bare):
    assert "PUBLIC_URL is not set" in bare.deploy("install", works=False)
    wrong = {"PUBLIC_URL": "https://shop.example; reboot"}
    assert "PUBLIC_URL cannot be" in bare.deploy("install", wrong, works=False)


def it_makes_the_shop(bare):
    print(bare.deploy("install", ANSWERS))
    assert bare.states() == ["active"] * 3
    assert bare.is_active("lightning-space-backup.timer")
    for path, owner in (
        ("/etc/lightning-space.env", "600 root:root"),
        ("/etc/lightning-space.panel", "640 root:shop"),
        ("/run/lightning-space/web", "660 root:www-data"),
        (f"{PLACE}/instance", "700 shop:shop"),
        (f"{PLACE}/instance/secret-key", "600 shop:shop"),
    ):
        assert bare.shell(f"stat -c '%a %U:%G' {path}").strip() == owner

    # The operator's own drop-in wins.
    bare.shell("""
        mkdir /etc/systemd/system/lightning-space-web.service.d
        printf '[Service]\\nProtectHome=tmpfs\\n' \\
            > /etc/systemd/system/lightning-space-web.service.d/override.conf
        systemctl daemon-reload""")
    assert bare.told(UNITS[1], "ProtectHome") == "tmpfs"
    names = " ".join(f"{unit}.service" for unit in UNITS[1:])
    # The exposure in tenths: 0 is locked up, 100 is wide open.
    bare.shell(f"systemd-analyze security --threshold 15 {names}; systemd-analyze verify {names}")


def it_changes_nothing_the_second_time(bare):
    before = bare.read("/etc/lightning-space.env")
    assert "\nPUBLIC_URL=https://shop.example\n" in before and "$password" not in before
    other = ANSWERS | {"CAPACITY_MB": "1", "PANEL_PASSWORD": "another one"}
    assert bare.deploy("install", other) == "everything is there, and nothing was changed\n"
    assert bare.read("/etc/lightning-space.env") == before
    assert bare.read("/etc/lightning-space.panel") == "the panel's own $password\n"


def root_runs_nothing_that_the_shops_user_may_write(bare):
    for give, take in (("chown shop", "chown root"), ("chmod o+w", "chmod o-w")):
        bare.shell(f"{give} {PLACE}/.git/config")
        for script in ("install", "upgrade"):
            assert f"may write {PLACE}/.git/config," in bare.deploy(script, works=False)
        bare.shell(f"{take} {PLACE}/.git/config")


def no_command_of_the_shop_gets_roots_terminal(bare):
    """Other programs of the shop's user could type into root's terminal."""
    for name, line in (("at", "os.write(1, os.ttyname(0).encode())"), ("off", "open('/dev/tty')")):
        bare.shell(f'echo "import os; {line}; os._exit(0)" >/tmp/{name}')
    flask = f"PYTHONSTARTUP=/tmp/%s {PLACE}/deploy/flask shell"
    said = bare.shell(f"script -qec 'tty; {flask % 'at'}' /dev/null </dev/null")
    assert len(set(re.findall("/dev/pts/[0-9]+", said))) == 2, said
    said = bare.shell(f"script -qec '{flask % 'off'} 2>&1 | cat' /dev/null </dev/null")
    assert "No such device" in said, said


def it_sells(bare, wallet):
    """A hosting is sold over nginx and set up, and no secret of it is logged."""
    wish = '{"space_mb": 100, "duration": 1, "unit": "hours"}'
    asked = bare.get("/api/v1/hosting", "-d", wish)
    assert asked.startswith("HTTP/2 402"), asked
    offer = json.loads(asked.partition("\r\n\r\n")[2])
    preimage = LightningRpc(str(wallet)).pay(offer["invoice"])["payment_preimage"]
    key = f"Authorization: L402 {offer['macaroon']}:{preimage}"
    eventually(lambda: '"is_ready": true' in bare.get("/api/v1/hosting?secret=1", "-H", key))
    logs = bare.shell("cat /var/log/nginx/*.log; journalctl -o cat")
    assert "s after it was opened" in logs
    for secret in ("L402", offer["macaroon"], preimage, "secret=1", "panel's own"):
        assert secret not in logs


def the_doctor_finds_what_is_missing_around_the_shop(bare):
    """It has no DNS, no FTP, a server with ISPConfig's first settings, a node on regtest and a
    certificate for two days. Everything else is well.
    """
    bare.shell("echo 127.0.0.1 shop.example >> /etc/hosts")
    trusted = "/etc/letsencrypt/live/shop.example/fullchain.pem"
    said = bare.deploy("flask doctor --json --write", {"SSL_CERT_FILE": trusted}, works=False)
    found = [json.loads(line) for line in said.splitlines() if line.startswith("{")]
    wrong = {each["check"] for each in found if each["result"] == "wrong"}
    assert wrong == {"node network", "panel servers", "ftp", "dns", "web certificate"}, said
    unknown = {each["check"] for each in found if each["result"] == "unknown"}
    assert {name.partition(" ")[0] for name in unknown} == {"ftp", "dns"}


def nginx_keeps_files(bare) -> str:
    """nginx caches files for a year, and sends them by itself. Return the path of one of them."""
    page = bare.get("/", "-H", "Accept: text/html")
    assert re.search("^strict-transport-security: max-age=", page, re.M)
    style = re.search('href="(/static/shop[^"]+)"', page)[1]
    for encoding in ("identity", "gzip", "identity"):
        head = bare.get(style, "-I", "-H", f"Accept-Encoding: {encoding}")
        assert "max-age=31536000" in head
        assert ("content-encoding: gzip" in head) == (encoding == "gzip")
    return style


def it_answers_at_its_onion_address(bare):
    bare.shell(f"""
        ln -s {PLACE}/deploy/nginx/onion.conf /etc/nginx/sites-enabled/lightning-space-onion
        nginx -q -t; systemctl reload nginx""")
    host = f"Host: {'a' * 56}.onion"
    asked = ["curl", "-sS", "-i", "-H", host, "-H", "Accept: text/html", "http://127.0.0.1:8081/"]
    eventually(lambda: b"Set-Cookie: session=" in bare.run(*asked, check=False).stdout)


def killed_programs_are_started_again(bare):
    bare.shell("systemctl kill --signal KILL --kill-who all lightning-space-web")
    eventually(lambda: bare.get("/").startswith("HTTP/2 200"))
    assert int(bare.told("lightning-space-web", "NRestarts")) == 1
    assert bare.states() == ["active"] * 3


def a_wrong_setting_stops_the_shop(bare, style):
    settings = "/etc/lightning-space.env"
    bare.shell(f"sed -i s/^CAPACITY_MB=.*/CAPACITY_MB=much/ {settings}")
    with pytest.raises(BoxError):
        bare.run("systemctl", "restart", *UNITS[1:])
    for unit in UNITS[1:]:
        assert (bare.state(unit), bare.told(unit, "ExecMainStatus")) == ("failed", "4")
        assert bare.told(unit, "NRestarts") == "0"
        said = bare.run("systemctl", "status", unit, check=False).stdout
        assert b"CAPACITY_MB is not usable: " in said
    # Visitors start the shop again, but only a few times; they read that it is down.
    eventually(lambda: "the shop is starting" in bare.get("/") and bare.state(UNITS[0]) == "failed")
    assert bare.get(style, "-H", "Accept-Encoding: identity").startswith("HTTP/2 200")
    bare.shell(f"sed -i s/^CAPACITY_MB=.*/CAPACITY_MB=200000/ {settings}")


def an_upgrade_changes_code_database_and_services(bare):
    """Upgrade from the first schema's database, with its key, while everything is down."""
    database = bare.checkout / "instance/shop.sqlite3"
    database.unlink()
    load(f"sqlite:///{database}", OLD.read_text())
    (bare.checkout / "instance/secret-key").write_text("a key of the tests that is long enough\n")
    bare.shell(f"chown shop:shop {PLACE}/instance/shop.sqlite3")
    (bare.checkout / "templates/index.html").write_text("another version")
    assert "files of the program were changed" in bare.deploy("upgrade", works=False)
    bare.commit("two")
    assert "there is no version four" in bare.deploy("upgrade four", works=False)
    assert "deploy/upgrade brings" in bare.deploy("install", works=False)
    bare.git("checkout", "-q", "one")

    said = bare.deploy("upgrade two")
    assert said.startswith("from one to two\n") and f"applied {NAMES[-1]}\n" in said
    assert "done; `deploy/flask doctor`" in said and ".before-upgrade, for it" in said
    assert bare.states() == ["active"] * 3
    assert "another version" in bare.get("/", "-H", "Accept: text/html")
    assert bare.get("/api/v1/hosting", "-H", f"Authorization: L402 {RECEIPT}").startswith(
        "HTTP/2 200"
    )
    assert "runs two already" in bare.deploy("upgrade two")


def a_failed_upgrade_leaves_everything_as_it_was(bare):
    """Packages, unit and schema are new already when the new version's front page fails."""
    before = state_of(bare)
    for path, text in (
        ("requirements.txt", "# another version\n"),
        ("deploy/systemd/lightning-space-web.service", "\n"),
        ("migrations/9999_three.sql", "DELETE FROM tokens;"),
        ("templates/index.html", "{{ nothing.at_all }}"),
    ):
        with (bare.checkout / path).open("a") as file:
            file.write(text)
    assert before[-1]
    bare.make_environment()
    bare.commit("three")
    bare.git("checkout", "-q", "two")
    # Root neither writes nor unpacks anything where the shop's user can place a link.
    trap = f"runuser -u shop -- ln -s /etc/by-the-shop {PLACE}/instance/before-upgrade.tar"
    bare.shell(f"{trap}; install -m 0666 /dev/null /etc/by-the-shop")

    said = bare.deploy("upgrade three", works=False)
    backups = bare.shell("stat -c '%a %U' /var/lib/lightning-space-backups/*").split("\n")
    assert backups == ["600 shop", ""]
    assert "applied 9999_three" in said and "the front page answers 500" in said
    assert "the shop is as it was" in said
    assert bare.git("rev-parse", "HEAD") == bare.git("rev-parse", "two")
    after = state_of(bare)
    assert after == before
    assert bare.shell("cat /etc/by-the-shop") == ""
    assert bare.states() == ["active"] * 3
    assert "another version" in bare.get("/", "-H", "Accept: text/html")


def visitors_do_not_start_what_the_operator_stopped(bare):
    bare.shell("systemctl stop lightning-space-web")
    assert "the shop is starting" in bare.get("/")
    assert bare.states() == ["inactive", "inactive", "active"]


def state_of(bare) -> tuple[str, str, list]:
    """The environment, the units, and rows that no worker changes."""
    units = bare.shell("cat /etc/systemd/system/lightning*.service")
    with closing(sqlite3.connect(bare.checkout / "instance/shop.sqlite3")) as database:
        tokens = database.execute("SELECT * FROM tokens ORDER BY 1").fetchall()
    return bare.environment(), units, tokens
