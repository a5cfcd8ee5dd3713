"""The doctor of the hosting server, on a server of real daemons: it finds what is missing, writes
it, and takes back what the server refuses.
"""

import json
import subprocess
from contextlib import ExitStack

import pytest

from lightningspace.sandbox.panel import SandboxPanel
from tests.conftest import PANEL_PASSWORD, eventually
from tests.rig import Rig
from tests.rig.box import Node, directory, file
from tests.rig.database import SERVER as MARIADB
from tests.rig.hardening import DEPLOYED, of_doctor, ours
from tests.rig.machine import Machine
from tests.rig.users import PANELS_GROUPS, PANELS_OWN
from tests.rig.waiting import UNTIL_SO
from tests.rig.web import php_version
from tests.whole.test_rig import SITE, Customer

COPIED = "/root/hosting-server"
TRUSTED = "/root/trusted.pem"
PHP_DROP_IN = "/etc/systemd/system/php$version-fpm.service.d/customers.conf"
# Stands in for systemctl, and notes each call.
SYSTEMCTL = f"""#!/bin/sh
set -eu
{UNTIL_SO}
echo "$*" >> /run/systemctl.log
version=$(basename /usr/sbin/php-fpm[0-9]*); version=${{version#php-fpm}}
case "$*" in
is-enabled*) [ -e /run/is-enabled ] && echo enabled || {{ echo disabled; exit 1; }} ;;
"enable customers-firewall") touch /run/is-enabled ;;
"restart customers-firewall") nft --file /etc/nftables.d/customers.nft ;;
daemon-reload) ;;
"reload apache2") apache2ctl graceful ;;
"reload ssh") pkill -HUP -o sshd ;;
"reload postfix") pkill -HUP -o master ;;
"restart pure-ftpd-mysql")
    pkill pure-ftpd && until_so sh -c '! pgrep pure-ftpd > /dev/null'
    STANDALONE_OR_INETD=standalone pure-ftpd-wrapper ;;
"restart php$version-fpm")
    pkill -o php-fpm && until_so sh -c '! pgrep php-fpm > /dev/null'
    of() {{ sed -n "s/^$1=//p" {PHP_DROP_IN} | sed s/M$/000000/; }}
    memory=$(sed -n 's/^LimitDATA=\\(.*\\)M$/\\1/p' {PHP_DROP_IN})
    [ "$memory" ] && limits="--nproc=$(of LimitNPROC) --core=0 --data=$((memory * 1048576))"
    prlimit ${{limits-"--core=0"}} php-fpm$version --daemonize ;;
"restart mariadb")
    pkill mariadbd && until_so sh -c '! pgrep mariadbd > /dev/null'
    {MARIADB} < /dev/null > /dev/null 2>&1 &
    until_so mysqladmin --silent ping > /dev/null ;;
*) exit 5 ;;
esac
"""
# Rules with which an operator closes the panel to all others.
PANEL_RULES = """table inet panel {
    chain input {
        type filter hook input priority filter; policy accept;
        tcp dport 8080 ip saddr != 10.77.0.0/16 drop
    }
}
"""
PANEL_CONFIG = """<?php
$conf['db_database'] = 'dbispconfig';
$conf['db_user'] = 'ispconfig';
$conf['server_id'] = '1';
"""
PANEL_SETTINGS = """[web]
server_type=apache
php_open_basedir=[website_path]/web:[website_path]/tmp:/dev/urandom
htaccess_allow_override=None
security_level=20
connect_userid_to_webid=y
set_folder_permissions_on_update=n
check_apache_config=n

[mail]
reject_sender_login_mismatch=y

[jailkit]
jailkit_hardlinks=no
"""
PANEL_DATABASE = f"""
CREATE OR REPLACE DATABASE dbispconfig;
CREATE TABLE dbispconfig.server (server_id INT, config TEXT);
INSERT INTO dbispconfig.server VALUES (1, '{PANEL_SETTINGS}');
CREATE OR REPLACE USER ispconfig@localhost IDENTIFIED BY 'panel';
"""
OF_PANEL = {
    "/usr/local/ispconfig/server/lib/config.inc.php": file(PANEL_CONFIG),
    "/usr/local/sbin/systemctl": file(SYSTEMCTL, 0o755),
    "/usr/local/sbin/unattended-upgrade": file("#!/bin/sh\n", 0o755),
    "/etc/apt/apt.conf.d/20auto-upgrades": file(
        'APT::Periodic::Update-Package-Lists "1";\nAPT::Periodic::Unattended-Upgrade "1";\n'
    ),
    "/run/panel": file(PANEL_RULES),
    # systemd itself does not run; the directory says that it does.
    "/run/systemd/system": directory(),
}
# The box of the tests has neither of them.
UNKNOWN = {"quotas", "clock"}


def copied() -> dict[str, Node]:
    """The doctor's files, as scp copies them."""
    return {
        f"{COPIED}/{path.relative_to(DEPLOYED)}": file(
            path.read_bytes(), path.stat().st_mode & 0o777
        )
        for path in DEPLOYED.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


@pytest.fixture(scope="module")
def alice_and_rig():
    with ExitStack() as running:
        panel = SandboxPanel(password=PANEL_PASSWORD)
        panel.start()
        running.callback(panel.stop)
        rig = running.enter_context(Rig(panel, hardening=True, database=True))
        alice = Customer(rig, panel, "alice")
        alice.panel.update(
            "site", alice.site, SITE | {"domain": alice.domain, "allow_override": "None"}
        )
        rig.apply()
        rig.box.write(copied() | OF_PANEL | {TRUSTED: file(rig.certificate.read_bytes())})
        rig.database.ask(PANEL_DATABASE)
        rig.box.shell("nft -f /run/panel; touch /run/is-enabled")
        yield alice, rig


@pytest.fixture
def rig(alice_and_rig):
    return alice_and_rig[1]


@pytest.fixture
def alice(alice_and_rig):
    return alice_and_rig[0]


@pytest.fixture
def doctor(rig):
    """Run the doctor; returns its status, its findings and its other output."""

    def run(*arguments: str):
        command = ["env", f"SSL_CERT_FILE={TRUSTED}", f"{COPIED}/doctor", "--json", *arguments]
        done = rig.box.run(*command, check=False)
        lines = [json.loads(line) for line in done.stdout.decode().splitlines()]
        assert all(line.keys() == {"check", "result", "text"} for line in lines), done.stderr
        return done.returncode, {line["check"]: line for line in lines}, done.stderr.decode()

    return run


def those(found: dict, result: str) -> set[str]:
    return {name for name, line in found.items() if line["result"] == result}


def test_all_is_well_after_the_first_fix(rig, doctor):
    status, found, said = doctor("--fix")
    # This cannot be done by a file.
    assert said == "ALTER USER 'ispconfig'@'localhost' WITH MAX_USER_CONNECTIONS 200;\n"
    assert (status, those(found, "wrong"), those(found, "unknown")) == (2, set(), UNKNOWN), found


# Run in the box: takes each file away in turn, and runs the checks that have files. Checks that ask
# other programs run only where their own file is away.
TAKE_AWAY = """
import json, os, sys
sys.dont_write_bytecode = True
sys.path.insert(0, sys.argv[1])
from hosting_doctor.checks import Doctor
from hosting_doctor.ours import PARTS
from hosting_doctor.server import Server

names = {part.name for part in PARTS}
costly = {"unknown names", "firewall", "SSH", "database connections"}
server = Server()
doctor = Doctor(server, print)
checks = [check for check in doctor.checks() if check.name in names]
told = {}
for part in PARTS:
    if part.web in (None, server.web):
        for path in (*part.of(server.php_versions), *part.links):
            os.rename(path, path + ".away")
            others = [c for c in checks if c.name in (part.name, *names - costly)]
            found = map(doctor.look, others)
            told[path] = [part.name, [each.check for each in found if each.result == "wrong"]]
            os.rename(path + ".away", path)
print(json.dumps(told))
"""


def test_each_missing_file_is_reported_by_its_own_check_alone(rig):
    told = json.loads(rig.box.run("python3", "-c", TAKE_AWAY, COPIED).stdout)

    assert len(told) >= 20
    assert {path: wrong for path, (name, wrong) in told.items() if wrong != [name]} == {}


FIRST_VHOST = "<VirtualHost *:80>\\n Redirect /x /y\\n</VirtualHost>\\n"
MAIL_LOG = """\
Nov 29 13:01:02 box postfix/submission/smtpd[7]: 4AB: client=x[192.0.2.1], sasl_method=PLAIN, \
sasl_username=info@alice.shop.test
Nov 29 13:01:03 box postfix/qmgr[8]: 4AB: from=<x@y>, size=345, nrcpt=100 (queue active)
2026-11-29T13:59:03.1+00:00 box postfix/submission/smtpd[7]: 4AC: client=x[192.0.2.1], \
sasl_username=info@bob.shop.test
2026-11-29T13:59:04.1+00:00 box postfix/qmgr[8]: 4AC: from=<x@y>, size=345, nrcpt=101 (queue active)
2026-11-29T14:09:04.1+00:00 box postfix/qmgr[8]: 4AC: from=<x@y>, size=345, nrcpt=101 (queue active)
"""
IN_DATABASE = "mysql dbispconfig -e"
SWITCHED_OFF = "REPLACE(config, 'userid_to_webid=y', 'userid_to_webid=n')"
# For each check: a command that spoils something, what the check says then, and the remedy.
SPOILT = {
    "walls": (":", "the shop's WALLS is mpm_itk, but Apache without mpm_itk runs here", ":"),
    "overrides": (
        "sed -i s/AllowOverride.None/AllowOverride\\ All/ /etc/apache2/sites-available/alice*",
        "alice.shop.test",
        "sed -i s/AllowOverride.All/AllowOverride\\ None/ /etc/apache2/sites-available/alice*",
    ),
    "PHP sockets": (
        "cd /etc/php/*/fpm/pool.d; echo 'listen = 127.0.0.1:9010' > web9.conf",
        "web9",
        "rm /etc/php/*/fpm/pool.d/web9.conf",
    ),
    "unknown names": (
        f"printf '{FIRST_VHOST}' > /etc/apache2/sites-enabled/000-0.conf; apache2ctl graceful",
        "http at 10.77.",
        "rm /etc/apache2/sites-enabled/000-0.conf; apache2ctl graceful",
    ),
    "firewall": (
        "nft flush chain inet customers customer",
        "not what the kernel has",
        "systemctl restart customers-firewall",
    ),
    "panel's port": ("nft flush chain inet panel input", "open to the world", "nft -f /run/panel"),
    "SSH": (
        "cd /etc/ssh/sshd_config.d; sed s/yes/no/ customers.conf > 00.conf",
        "does not count",
        "rm /etc/ssh/sshd_config.d/00.conf",
    ),
    "crontab": (
        "(echo admin; echo $alice) >> /etc/cron.allow",
        "--fix writes /etc/cron.allow",
        "sed -i /web/d /etc/cron.allow",
    ),
    "PHP limits": (
        "prlimit --pid $(pgrep -o php-fpm) --nproc=50:100",
        "runs with “Max processes” 50, not 100",
        "prlimit --pid $(pgrep -o php-fpm) --nproc=100:100",
    ),
    "panel's connections": (
        f"{IN_DATABASE} 'ALTER USER ispconfig@localhost WITH MAX_USER_CONNECTIONS 0'",
        "--fix allows 200",
        f"{IN_DATABASE} 'ALTER USER ispconfig@localhost WITH MAX_USER_CONNECTIONS 200'",
    ),
    "database connections": (
        f"{IN_DATABASE} 'SET GLOBAL max_user_connections = 400'",
        "400 of MariaDB's 500",
        f"{IN_DATABASE} 'SET GLOBAL max_user_connections = 25'",
    ),
    "directories": (
        "chmod 755 /var/log/ispconfig/httpd",
        "open to everybody: /var/log/ispconfig/httpd",
        "chmod 750 /var/log/ispconfig/httpd",
    ),
    "sendmail": (
        "postconf -e authorized_submit_users=static:anyone",
        "--fix writes /etc/postfix/main.cf",
        "postconf -e 'authorized_submit_users=root, ispconfig, postfix, vmail'",
    ),
    "senders": (
        "postconf -e smtpd_sender_restrictions=permit_mynetworks",
        "Reject sender and login mismatch",
        "postconf -e smtpd_sender_restrictions=reject_sender_login_mismatch",
    ),
    "message size": (
        "postconf -e message_size_limit=0",
        "Message Size Limit",
        "postconf -e message_size_limit=30000000",
    ),
    "mail sent": (
        f"printf '{MAIL_LOG}' > /var/log/mail.log",
        "info@bob.shop.test 101, info@alice.shop.test 100",
        ": > /var/log/mail.log",
    ),
    "FTP TLS": (
        "echo 1 > /etc/pure-ftpd/conf/TLS",
        "--fix writes /etc/pure-ftpd/conf/TLS",
        "echo 3 > /etc/pure-ftpd/conf/TLS",
    ),
    "FTP certificate": (
        f"mv {TRUSTED} {TRUSTED}.away",
        "not good for box.test: self-signed certificate",
        f"mv {TRUSTED}.away {TRUSTED}",
    ),
    "panel settings": (
        f'{IN_DATABASE} "UPDATE server SET config = {SWITCHED_OFF}"',
        "System → Server Config: Web → Connect Linux userid to webid: on",
        f"{IN_DATABASE} \"UPDATE server SET config = REPLACE(config, 'webid=n', 'webid=y')\"",
    ),
    "upgrades": (
        "mv /usr/local/sbin/unattended-upgrade /root",
        "apt install unattended-upgrades",
        "mv /root/unattended-upgrade /usr/local/sbin",
    ),
}


def test_each_spoilt_thing_is_reported_with_helpful_words(rig, alice, doctor, subtests):
    of_alice = f"alice={alice.user}; "
    rig.box.shell(of_alice + "\n".join(f"({spoil})" for spoil, _, _ in SPOILT.values()))
    status, found, _ = doctor("--walls", "mpm_itk")

    assert status == 1
    for name, (_, told, _) in SPOILT.items():
        with subtests.test(name):
            assert told in found[name]["text"]
    assert those(found, "wrong") == SPOILT.keys()
    # Leave nothing wrong for the next test.
    rig.box.shell("\n".join(f"({mend})" for _, _, mend in SPOILT.values()))


@pytest.fixture
def bare(rig):
    """Reset the server as ISPConfig leaves it: without the files, and without their effects."""
    paths = [
        path
        for part in ours.PARTS
        if part.web != "nginx"
        for path in (*part.of([php_version()]), *part.links)
        if path != "/etc/postfix/main.cf"
    ]
    rig.box.shell(
        f"rm {' '.join(paths)};"
        " nft delete table inet customers; rm -rf /run/is-enabled /run/systemctl.log"
        " /var/backups/hosting-doctor; postconf -X authorized_submit_users;"
        " echo 1 > /etc/pure-ftpd/conf/TLS; chmod 755 /var/log/ispconfig/httpd"
    )
    rig.database.ask("ALTER USER ispconfig@localhost WITH MAX_USER_CONNECTIONS 0")


def test_fix_writes_all_once(rig, alice, doctor, bare):
    status, found, said = doctor("--fix")
    assert (those(found, "wrong"), those(found, "unknown")) == (set(), UNKNOWN), found
    assert "+    DisableForwarding yes" in said
    assert rig.box.shell("cat /var/backups/hosting-doctor/*/etc/pure-ftpd/conf/TLS") == "1\n"
    assert alice.get().status_code == 200
    # The numbers of customers begin after ISPConfig's own users.
    rules = rig.box.read(ours.RULES)
    assert "skuid 5003-65533" in rules and "skgid 5004-65533" in rules

    looks = "find /etc /usr/local /var/backups/hosting-doctor -printf '%p %T@\\n'; cat"
    were = rig.box.shell(f"{looks} /run/systemctl.log | grep -v is-enabled")
    assert doctor("--fix") == (status, found, "")
    assert rig.box.shell(f"{looks} /run/systemctl.log | grep -v is-enabled") == were


def test_a_fix_that_the_server_refuses_is_taken_back(rig, alice, doctor):
    ours_of_apache = "/etc/apache2/conf-available/customers.conf"
    rig.box.shell(
        f"echo '# before' > {ours_of_apache}; echo Nonsense > /etc/apache2/conf-enabled/x.conf"
    )

    status, found, _ = doctor("--fix", "Apache")
    reason = "taken back, because of apache2ctl configtest: "
    assert status == 1 and reason in found["Apache"]["text"]
    assert rig.box.read(ours_of_apache) == "# before\n"
    assert alice.get().status_code == 200

    rig.box.shell("rm /etc/apache2/conf-enabled/x.conf")
    assert doctor("--fix", "Apache")[0] == 0


def test_fix_that_was_cut_short_is_repeated(rig, doctor):
    """The doctor was killed when it had written the files and sshd had not read them."""
    rig.box.shell(
        "mkdir -p /run/hosting-doctor; touch /run/hosting-doctor/SSH; : > /run/systemctl.log"
    )

    assert "was cut short" in doctor("SSH")[1]["SSH"]["text"]
    assert doctor("--fix", "SSH")[0] == doctor("SSH")[0] == 0
    assert rig.box.read("/run/systemctl.log") == "reload ssh\n"


def test_customer_gets_only_a_part_of_the_connections(rig):
    """A customer may have three here; the panel, which may have more, gets in."""
    rig.database.ask(
        "SET GLOBAL max_user_connections = 3; CREATE USER c1alice@localhost IDENTIFIED BY 'a'"
    )
    waiting = "mysql -h 127.0.0.1 -u {user} -p{password} -Ne 'SELECT {what}'"
    for _ in range(3):
        sleeping = waiting.format(user="c1alice", password="a", what="SLEEP(30)")
        rig.box.background("sh", "-c", sleeping)
    eventually(lambda: len(rig.database.ask("SHOW PROCESSLIST")) >= 4)

    refused = rig.box.run(
        "sh", "-c", waiting.format(user="c1alice", password="a", what="1"), check=False
    )
    assert b"max_user_connections" in refused.stderr
    assert rig.box.shell(waiting.format(user="ispconfig", password="panel", what="1")) == "1\n"


def test_fix_waits_for_a_package_that_is_missing(rig, doctor):
    rig.box.shell("mv /usr/bin/setfacl /root")
    try:
        _, found, said = doctor("--fix", "directories")
    finally:
        rig.box.shell("mv /root/setfacl /usr/bin")
    assert (found["directories"]["text"], said) == ("apt install acl", "")


OWN_USERS = "".join(f"{account.passwd}\n" for account in PANELS_OWN)
OWN_GROUPS = "".join(f"{line}\n" for line in PANELS_GROUPS)
OF_PHP = ("MemoryMax", "OOMPolicy", "PrivateTmp")


def test_systemd_does_what_the_files_say():
    parts = ("firewall", "PHP limits", "session limits")
    with Machine({}) as machine:
        machine.write(copied())
        elsewhere = machine.run(f"{COPIED}/doctor", "--fix", "firewall", check=False).stdout
        assert b"unknown  firewall: ISPConfig has made no users here" in elsewhere
        machine.shell(
            f"printf '{OWN_USERS}' >> /etc/passwd; printf '{OWN_GROUPS}' >> /etc/group;"
            " systemctl start php$version-fpm".replace("$version", php_version())
        )
        status = machine.run(f"{COPIED}/doctor", "--fix", *parts, check=False)
        assert status.returncode == 0, status.stdout.decode()

        # Debian's own rules begin with `flush ruleset`, which would remove ours.
        for word in ("start", "reload", "stop"):
            assert "inet customers" in machine.shell(f"systemctl {word} nftables; nft list tables")
        limits = f"systemctl show --value php{php_version()}-fpm -p {','.join(OF_PHP)}"
        policy, memory, is_private = machine.shell(limits).split()
        assert int(memory) and (policy, is_private) == ("continue", "yes")
        slices = "systemctl show --value -p MemoryMax user-5003.slice user-0.slice"
        of_customer, of_root = machine.shell(slices).split()
        assert int(of_customer) and of_root == "infinity"


class Mounted(of_doctor("server").Server):
    """A server with these mounts, whose quotas are on or off."""

    def __init__(self, mounts: str, quotas: str):
        super().__init__()
        self._mounts, self._quotas = mounts, quotas

    def read(self, path):
        assert path == "/proc/self/mounts"
        return self._mounts

    def run(self, *command, **_):
        assert command == ("quotaon", "-p", "/var/www")
        return subprocess.CompletedProcess(command, 1, self._quotas, "")


IS_ON = "group quota on /var/www (/dev/vdb) is on\nuser quota on /var/www (/dev/vdb) is on\n"
ROOT_MOUNT = "/dev/vda / ext4 rw,usrquota 0 0\n"


@pytest.mark.parametrize(
    ("options", "quotas", "told"),
    [
        ("rw,usrquota,grpquota", IS_ON, None),
        ("rw,quota,usrquota", IS_ON.replace("is on", "is on (enforced)"), None),
        ("rw", IS_ON, "mount /var/www with usrquota,grpquota (/etc/fstab)"),
        ("rw,noquota", IS_ON, "mount /var/www with usrquota,grpquota (/etc/fstab)"),
        ("rw,usrquota", IS_ON.replace("is on", "is off"), "quotaon /var/www"),
        ("rw,usrquota", "", "quotaon /var/www"),
    ],
)
def test_quotas_are_checked_on_the_disk_of_the_sites(options, quotas, told):
    server = Mounted(f"{ROOT_MOUNT}/dev/vdb /var/www ext4 {options} 0 0\n", quotas)

    assert of_doctor("box").quotas(server) == (told and f"customers can fill the disk: {told}")


@pytest.mark.parametrize(
    ("path", "before", "after"),
    [
        ("/etc/cron.allow", "root\nadmin\n", "root\nadmin\n"),
        ("/etc/cron.allow", "admin\nweb1\n", "root\nadmin\n"),
        ("/etc/pure-ftpd/conf/TLS", "3\n", "3\n"),
        ("/etc/pure-ftpd/conf/TLS", "no", "2\n"),
        ("/etc/pure-ftpd/conf/MaxClientsPerIP", "1000\n", "10\n"),
        (
            "/etc/ssh/sshd_config.d/customers.conf",
            "Match Group client*\n\tDisableForwarding yes\n\tX11Forwarding no\n",
            "Match Group client*\n\tDisableForwarding yes\n\tX11Forwarding no\n",
        ),
        (
            "/etc/postfix/main.cf",
            "a = 1\nauthorized_submit_users = all,\n  more\nb = 2",
            "a = 1\nb = 2\n# Who may hand in mail by sendmail: the server itself and the panel.\n"
            "authorized_submit_users = root, ispconfig, postfix, vmail\n",
        ),
    ],
)
def test_harmless_lines_of_the_operator_stay(path, before, after):
    numbers = ours.Ours(5003, 5004, frozenset({"web1", "alicessh"}))

    assert numbers.text(path, before) == after
    assert numbers.text(path, after) == after


def test_the_range_of_customers_numbers_is_found():
    text = ours.Ours(10001, 10002).text("/etc/nftables.d/customers.nft", None)

    assert "skuid 10001-65533" in text and "skgid 10002-65533" in text and "@" not in text
