"""`flask doctor`: each line of its table in docs/problems.md is provoked: it says what to do."""

import json
import os
import re
import shutil
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from itertools import takewhile
from pathlib import Path

import pytest

from app import create_app
from lightningspace import shop
from lightningspace.base import clock, models
from lightningspace.base.clock import DAY, HOUR, now
from lightningspace.base.models import Fact, Order, set_fact
from lightningspace.operator import doctor, introduction
from lightningspace.operator.doctor import OK, UNKNOWN, WRONG, Finding, command, examine, front
from lightningspace.operator.doctor.patient import NotSeen, Patient
from lightningspace.outside.ispconfig_functions import harmless_calls
from lightningspace.rules import clock_watch
from lightningspace.sandbox.certificate import self_signed
from lightningspace.sandbox.mail import SandboxMail
from lightningspace.sandbox.panel import KINDS
from lightningspace.sandbox.program import publish_sites, set_walls
from tests.conftest import SOON_SECONDS, dns_servers, opened

ROOT = Path(__file__).parents[2]
OPERATING = (ROOT / "docs/operating.md").read_text()
PROBLEMS = (ROOT / "docs/problems.md").read_text()
SECTION = PROBLEMS.split("## What `doctor` tells you")[1].split("\n## ")[0]

# Paths that may exist on the machine that runs the tests: replaced by one that does not.
PLACES = ("settings_file", "nginx", "nginx_logs", "backups", "systemd")

Case = Callable[["Ward"], Iterator[Patient | None]]
CASES: dict[str, Case] = {}


def breaks(what: str):
    """Mark a generator that makes a fault, yields the patient to look at, and mends the fault.

    It yields None for the ward's own patient. `what`: the fault's name in the table.
    """

    def keep(case):
        CASES[what] = contextmanager(case)
        return case

    return keep


def rows() -> list[tuple[str, str, str, list[str]]]:
    """Each line of the table: the fault, the check, its text, and what to type."""
    found = []
    for line in re.findall(r"^\| (.+) \|$", SECTION, re.M)[2:]:
        what, seen, typed = (cell.replace(r"\|", "|") for cell in re.split(r" (?<!\\)\| ", line))
        check, _, text = seen.strip("`").partition(": ")
        found.append((what, check, text, re.findall("`([^`]+)`", typed)))
    return found


def says(text: str, wanted: str) -> bool:
    pattern = ".*".join(map(re.escape, wanted.replace("`", "").split("…")))
    return bool(re.search(pattern, text.replace("`", "")))


class Ward:
    """A shop in good health, with the servers that it depends on."""

    def __init__(self, env, config, this_shop, **servers):
        self.env, self.config, self.shop = dict(env), config, this_shop
        self.servers = servers
        self.__dict__.update(servers)
        self.bent: dict[str, str] = {}  # how the web server in front changes a request
        self.answer: tuple[str, list, bytes] | None = None  # the web server's own answer
        self.headers: list[tuple[str, str]] = []  # headers that it adds to the shop's answers
        self.patient = self.with_env(self.env)

    def with_env(self, env: dict[str, str], instance: Path | None = None) -> Patient:
        empty = self.tmp_path / "none"
        patient = Patient(env, instance or self.tmp_path, lambda config: None)
        return replace(patient, config=self.config, shop=self.shop, **dict.fromkeys(PLACES, empty))

    def but(self, **changes) -> Patient:
        """The patient with other settings."""
        config = replace(self.config, **changes)
        return replace(self.patient, config=config, shop=shop.build(config), panel=None)

    def in_front(self, environ, start_response):
        """The WSGI app of a web server in front of the shop, such as nginx."""
        if self.answer:
            status, headers, body = self.answer
            start_response(status, headers)
            return [body]

        def started(status, headers, *rest):
            return start_response(status, [*headers, *self.headers], *rest)

        return self.app(environ | self.bent, started)


@pytest.fixture
def dns_of_sites(dns, more_settings):
    publish_sites(dns, "shop.test")
    more_settings |= dns_servers(dns)
    return dns


@pytest.fixture
def ward(dns_of_sites, shop_with_mail, shop_with_ftp, port, more_settings, request):
    more_settings["PUBLIC_URL"] = f"http://127.0.0.1:{port}"
    more_settings["ADMIN_MAIL"] = "ada@shop.test"
    names = ("env", "config", "this_shop", "app", "node", "panel", "ftp_server", "mails")
    found = {name: request.getfixturevalue(name) for name in (*names, "tmp_path", "monkeypatch")}
    set_fact(clock_watch.PASSED, now())
    set_walls(found["panel"])
    ward = Ward(**found, dns=dns_of_sites, port=port)
    with opened(ward.in_front, port):
        yield ward


# -- the shop's own --------------------------------------------------------------------


@breaks("a setting is wrong")
def a_setting_is_wrong(ward):
    yield ward.with_env(ward.env | {"BASE_DOMAIN": "Space Example"})


@breaks("the shop has no directory")
def no_directory(ward):
    yield ward.with_env(ward.env, ward.tmp_path / "nowhere")


@breaks("it is run by another user")
def another_user(ward):
    yield replace(ward.patient, instance=not_ours(ward.tmp_path))


def not_ours(tmp_path: Path) -> Path:
    if os.geteuid():
        return Path("/")
    other = tmp_path / "other"
    other.mkdir()
    os.chown(other, 65534, 65534)
    return other


@breaks("a secret lies open")
def a_secret_lies_open(ward):
    path = ward.tmp_path / "panel-password"
    path.write_text("sandbox-panel")
    path.chmod(0o644)
    yield replace(ward.patient, env=ward.env | {"PANEL_PASSWORD_FILE": str(path)})


@breaks("the secret key is missing")
def no_secret_key(ward):
    env = {name: value for name, value in ward.env.items() if name != "SECRET_KEY"}
    yield replace(ward.patient, env=env)


@breaks("sites are below the shop's domain")
def shared_domain(ward):
    yield ward.but(public_url="https://shop.test")


@contextmanager
def small_disk(ward, options: str) -> Iterator[Patient]:
    """A patient whose UPLOADS_DIR is on a small disk. Needs root."""
    path = ward.tmp_path / "disk"
    path.mkdir(exist_ok=True)
    mount = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(path)]
    if os.geteuid() or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("needs root, to mount a small disk")
    try:
        yield ward.but(uploads_dir=path)
    finally:
        subprocess.run(["umount", str(path)], check=True)


@breaks("a disk is full")
def full_disk(ward):
    with small_disk(ward, "size=1m") as patient:
        yield patient


@breaks("a disk can hold no more files")
def no_more_files(ward):
    with small_disk(ward, "nr_inodes=1") as patient:
        yield patient


@breaks("a disk was made read-only, or files are root's")
def read_only(ward):
    with small_disk(ward, "ro") as patient:
        yield patient


@breaks("a copy of the database lies beside the key")
def copy_beside_the_key(ward):
    copy = ward.tmp_path / "shop-2026-11-01.dump"
    copy.touch()
    yield
    copy.unlink()


@breaks("no backup was made for two days")
def no_backup(ward):
    path = ward.tmp_path / "backups" / "lightning-space-shop-20261101.tar.gz"
    path.parent.mkdir()
    path.touch()
    os.utime(path, (now() - 3 * DAY, now() - 3 * DAY))
    yield replace(ward.patient, backups=path.parent)


@contextmanager
def systemd(ward, enabled: str, active: str) -> Iterator[Patient]:
    """A patient on a machine with systemd, whose `systemctl` answers this."""
    path = ward.tmp_path / "bin" / "systemctl"
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"#!/bin/sh\n[ $1 = is-enabled ] && echo {enabled} || echo {active}\n")
    path.chmod(0o755)
    with ward.monkeypatch.context() as patched:
        patched.setenv("PATH", f"{path.parent}:{os.environ['PATH']}")
        yield replace(ward.patient, systemd=path.parent)


@breaks("nothing starts when the machine does")
def not_enabled(ward):
    with systemd(ward, "disabled", "active") as patient:
        yield patient


@breaks("systemd has given up")
def failed_unit(ward):
    with systemd(ward, "enabled", "failed") as patient:
        yield patient


# -- the database ----------------------------------------------------------------------


@contextmanager
def database_at(ward, url: str) -> Iterator[Patient]:
    patient = ward.but(database_url=url)
    models.db.close()
    models.open_database(url)
    try:
        yield patient
    finally:
        models.db.close()
        models.open_database(ward.config.database_url)


@breaks("the database is gone")
def no_database(ward):
    yield ward.but(database_url=f"sqlite:///{ward.tmp_path / 'gone.sqlite3'}")


@breaks("PostgreSQL is down")
def postgresql_is_down(ward):
    with database_at(ward, "postgresql://shop@127.0.0.1:1/shop") as patient:
        yield patient


@breaks("the database is of an older version")
def older_schema(ward):
    newest = Fact.select().where(Fact.name.startswith("migration ")).order_by(-Fact.name).get()
    newest.delete_instance()
    yield
    Fact.create(name=newest.name, value=newest.value)


@breaks("the key is another one")
def another_key(ward):
    yield ward.but(secret_key="another key that is long enough for that")


@contextmanager
def copied_database(ward) -> Iterator[tuple[Patient, Path]]:
    models.db.close()
    path = ward.tmp_path / "copies" / "shop.sqlite3"
    path.parent.mkdir(exist_ok=True)
    shutil.copyfile(ward.config.database_url.removeprefix("sqlite:///"), path)
    yield ward.but(database_url=f"sqlite:///{path}"), path


@breaks("the database was copied without its mode")
def journal_mode(ward):
    with copied_database(ward) as (patient, path):
        sqlite3.connect(path).execute("PRAGMA journal_mode=delete")
        yield patient


@breaks("the database is damaged")
def damaged(ward):
    with copied_database(ward) as (patient, path):
        with path.open("r+b") as file:
            file.seek(8192)
            file.write(b"\xff" * 8192)
        yield patient


@breaks("no worker runs")
def no_worker(ward):
    set_fact(clock_watch.PASSED, now() - HOUR)
    yield
    set_fact(clock_watch.PASSED, now())


@breaks("the worker was not started anew")
def worker_is_older(ward):
    set_fact(introduction.WORKER, "0.0.1 (01234567)")
    yield
    introduction.note_worker()


@breaks("the clock went back")
def clock_went_back(ward):
    set_fact(clock_watch.LATEST, now() + DAY)
    yield
    Fact.delete_by_id(clock_watch.LATEST)


@breaks("something waits for you")
def a_problem(ward):
    facts = {"kind": "lost", "placed_at": 1, "expires_at": 1, "node_id": "n", "pay_index": 1}
    facts |= {"received_msat": 7000, "paid_at": 1, "payment_hash": "a" * 64}
    Order.create(token="0" * 32, **facts)
    yield
    Order.delete().execute()


# -- the node --------------------------------------------------------------------------


@breaks("lightningd is down")
def node_is_down(ward):
    ward.node.down()
    yield
    ward.node.up()


@contextmanager
def telling(ward, **told) -> Iterator[None]:
    ward.node.told = told
    yield
    ward.node.told = {}


@breaks("lightningd reads blocks")
def node_reads_blocks(ward):
    with telling(ward, warning_lightningd_sync="Still loading latest blocks from bitcoind."):
        yield


@breaks("bitcoind is behind")
def bitcoind_is_behind(ward):
    with telling(ward, warning_bitcoind_sync="Bitcoind is not up-to-date with network."):
        yield


@breaks("the node is on a test network")
def regtest(ward):
    yield ward.but(public_url="https://shop.example")


@breaks("lightningd is old")
def old_node(ward):
    with telling(ward, version="v23.05.2"):
        yield


@breaks("anybody may use the node")
def open_socket(ward):
    path = Path(ward.config.lightning_rpc)
    path.chmod(0o666)
    yield
    path.chmod(0o600)


@contextmanager
def channel(ward, told: dict | None) -> Iterator[None]:
    ward.node.channel = told
    yield
    ward.node.channel = {}


@breaks("the node has no channel")
def no_channel(ward):
    with channel(ward, None):
        yield


@breaks("the node's peers are away")
def peers_are_away(ward):
    with channel(ward, {"peer_connected": False}):
        yield


@breaks("too little can come in")
def too_little_can_come_in(ward):
    with channel(ward, {"receivable_msat": 1_000_000}):
        yield


@breaks("the node deletes what was paid")
def autoclean(ward):
    ward.node.autocleans_paid_invoices = True
    yield
    ward.node.autocleans_paid_invoices = False


@breaks("the node's clock is wrong")
def clock_of_the_node(ward):
    ward.node.ahead_seconds = -HOUR
    yield
    ward.node.ahead_seconds = 0


@breaks("a plugin is missing")  # last of these: the plugin does not come back
def plugin(ward):
    ward.node.lose_plugin("offers")
    yield


# -- ISPConfig and its servers ---------------------------------------------------------


@breaks("ISPConfig is down, or refuses us")
def panel_refuses_us(ward):
    yield ward.but(panel_password="another password")


def logged_in(ward, **changes) -> Patient:
    patient = ward.but(**changes)
    assert doctor.look("panel", patient) == [doctor.Finding("panel", OK)]
    return patient


@breaks("the remote user lacks a function")
def no_function(ward):
    ward.panel.forbidden = {"sites_ftp_user_add"}
    yield logged_in(ward)
    ward.panel.forbidden = set()


@breaks("ISPConfig has no such server")
def no_server(ward):
    yield logged_in(ward, panel_server_id=(7,))


@breaks("a server keeps customers less apart")
def weak_walls(ward):
    before = ward.panel.web_config["security_level"]
    ward.panel.web_config["security_level"] = "10"
    yield logged_in(ward)
    ward.panel.web_config["security_level"] = before


@breaks("ISPConfig makes no clients (`--write`)")
def no_clients(ward):
    patient = logged_in(ward)
    patient.writes = True
    ward.panel.faults.set("refuse", "client_add", message="email_error_isemail<br />")
    yield patient
    ward.panel.faults.clear()


@contextmanager
def serving_tls(ward, host: str = "127.0.0.1", days: int = 5, age_days: int = 0) -> Iterator[str]:
    """The address of a server with TLS, whose certificate is valid for some days."""
    certificate = self_signed(ward.tmp_path / "tls.pem", days=days, age_days=age_days)
    mails = SandboxMail(host, certificate=certificate, is_smtps=True)
    mails.start()
    yield mails.address
    mails.stop()


@breaks("ISPConfig's certificate ends")
def certificate_of_the_panel(ward):
    with serving_tls(ward) as address:
        trusted = str(ward.tmp_path / "tls.pem")
        url = f"https://{address}/remote/json.php"
        yield ward.but(panel_url=url, panel_verify_tls=trusted)


@breaks("ISPConfig's clock is wrong")
def clock_of_the_panel(ward):
    ward.panel.ahead_seconds = HOUR
    yield
    ward.panel.ahead_seconds = 0


@breaks("FTP is down, or without TLS")
def ftp_is_down(ward):
    ward.ftp_server.down()
    yield
    ward.ftp_server.up()


@breaks("FTP's certificate ends")
def certificate_of_ftp(ward):  # it is valid for a day
    yield


# -- names and mail --------------------------------------------------------------------


@breaks("no resolver answers")
def no_resolver(ward):
    ward.dns.fault = "refused"
    yield
    ward.dns.fault = None


@contextmanager
def published(ward, name: str, kind: str, *values: str) -> Iterator[None]:
    ward.dns.publish(name, kind, *values)
    yield
    ward.dns.publish(name, kind)


@breaks("the resolver makes up answers")
def made_up_answers(ward):
    with published(ward, "*.invalid", "A", "203.0.113.9"):
        yield


@contextmanager
def without(ward, *kinds: str) -> Iterator[None]:
    for kind in kinds:
        ward.dns.publish("*.shop.test", kind)
    yield
    publish_sites(ward.dns, "shop.test")


@breaks("sites have no record")
def sites_have_no_record(ward):
    with without(ward, "A"):
        yield


@breaks("sites lead elsewhere")
def sites_lead_elsewhere(ward):
    with published(ward, "server1.example", "A", "203.0.113.5"):
        yield ward.but(server_hosts={1: "server1.example"})


@breaks("the server has no record")
def server_has_no_record(ward):
    yield ward.but(server_hosts={1: "server2.example"})


@breaks("mailboxes get no mail")
def no_mx(ward):
    with without(ward, "MX"):
        yield


@breaks("the mail host has no record")
def mx_is_not_found(ward):
    with published(ward, "mail.shop.test", "A"):
        yield
    publish_sites(ward.dns, "shop.test")


@breaks("customers' mail has no SPF")
def no_spf_of_sites(ward):
    with without(ward, "TXT"):
        yield


@breaks("the shop's mail has no SPF")
def no_spf_of_ours(ward):
    yield ward.but(public_url="https://shop.example", mail_from="hosting@shop.example")


@breaks("the shop has no record")
def shop_has_no_record(ward):
    yield ward.but(public_url="https://shop.example")


@breaks("the mail server takes nothing")
def mail_is_refused(ward):
    ward.mails.faults.set("refuse", "MAIL", message="550 not you")
    yield
    ward.mails.faults.clear()


@breaks("the mail server's certificate ends")
def certificate_of_the_mail_server(ward):
    with serving_tls(ward, "127.0.0.2") as address:
        trusted = str(ward.tmp_path / "tls.pem")
        yield ward.but(smtp_url=f"smtps://{address}", smtp_verify_tls=trusted)


# -- the web server in front -----------------------------------------------------------


@breaks("nginx or gunicorn is down")
def web_is_down(ward):
    yield ward.but(public_url="http://127.0.0.1:1")


@contextmanager
def answering(ward, status: str, *headers: tuple[str, str], body: bytes = b"") -> Iterator[None]:
    ward.answer = status, [*headers, ("Content-Length", str(len(body)))], body
    yield
    ward.answer = None


@breaks("nginx leads elsewhere")
def web_is_elsewhere(ward):
    with answering(ward, "502 Bad Gateway"):
        yield


@breaks("web is another shop, or older")
def web_is_another(ward):
    with answering(ward, "200 OK", body=b"ok\n"):
        yield


@breaks("web was not started anew")
def web_is_older(ward):
    told = {"program": "0.0.1 (01234567)", "url": "", "forwarded": "", "hops": 0}
    with answering(ward, "200 OK", body=json.dumps(told).encode()):
        yield


@contextmanager
def forwarded(ward, hops: int, **bent: str) -> Iterator[None]:
    """The web program has this PROXY_HOPS, and nginx changes requests like this."""
    ward.app.extensions["shop"] = replace(ward.shop, config=replace(ward.config, proxy_hops=hops))
    ward.bent = bent
    yield
    ward.bent = {}
    ward.app.extensions["shop"] = ward.shop


@breaks("visitors may claim any address")
def forged_address(ward):
    with forwarded(ward, 1):
        yield


@breaks("visitors share one limit")
def shared_limit(ward):
    with forwarded(ward, 0, HTTP_X_FORWARDED_FOR=f"{front.FORGED}, 203.0.113.1"):
        yield


@breaks("nginx does not say who was asked")
def no_host(ward):
    with forwarded(ward, 0, HTTP_HOST="127.0.0.1:8000"):
        yield


@breaks("the shop's certificate has ended")
def ended_certificate(ward):
    with serving_tls(ward, days=5, age_days=6) as address, ward.monkeypatch.context() as patched:
        patched.setenv("SSL_CERT_FILE", str(ward.tmp_path / "tls.pem"))  # OpenSSL trusts it
        yield ward.but(public_url=f"https://{address}")


@breaks("the shop's certificate ends")
def certificate_of_the_shop(ward):
    with serving_tls(ward) as address, ward.monkeypatch.context() as patched:
        patched.setenv("SSL_CERT_FILE", str(ward.tmp_path / "tls.pem"))  # OpenSSL trusts it
        yield ward.but(public_url=f"https://{address}")


@breaks("browsers ask for files again and again")
def files_are_not_kept(ward):
    body = b'<link rel="stylesheet" href="/static/shop-1a2b3c.css">'
    with answering(ward, "200 OK", ("Cache-Control", "max-age=60"), body=body):
        yield


@breaks("nginx compresses passwords")
def compressed(ward):
    ward.headers = [("Content-Encoding", "gzip")]
    yield
    ward.headers = []


@breaks("http:// leads nowhere")
def no_redirect(ward):
    yield replace(ward.but(public_url="https://127.0.0.1"), http_port=ward.port)


@breaks("figures are open to all")
def open_figures(ward):
    with onion(ward) as patient:
        yield patient


@contextmanager
def onion(ward) -> Iterator[Patient]:
    """A patient at an onion address, with a stand-in for Tor that leads there."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        leading = threading.Thread(target=lead, args=(listener, ward.port))
        leading.start()
        patient = ward.but(public_url=f"http://{'a' * 56}.onion")
        patient.tor = listener.getsockname()
        yield patient
        listener.shutdown(socket.SHUT_RDWR)
        leading.join()


def lead(listener: socket.socket, port: int) -> None:
    """Speak SOCKS 5: pass on one request and its answer per connection, until it is shut down."""
    while True:
        try:
            visitor, _ = listener.accept()
        except OSError:
            return
        with visitor, socket.create_connection(("127.0.0.1", port)) as web:
            assert visitor.recv(3) == b"\5\1\0"
            visitor.sendall(b"\5\0")
            assert visitor.recv(300) == b"\5\1\0\3" + bytes([62]) + b"a" * 56 + b".onion\0P"
            visitor.sendall(b"\5\0\0\1" + bytes(6))
            web.sendall(visitor.recv(65536).replace(b"\r\n", b"\r\nConnection: close\r\n", 1))
            while part := web.recv(65536):
                visitor.sendall(part)


@contextmanager
def logging_to(ward, line: str) -> Iterator[Path]:
    directory = ward.tmp_path / "logs"
    directory.mkdir(exist_ok=True)
    (directory / "access.log").write_text(line)
    yield directory
    shutil.rmtree(directory)


@breaks("your pages are open to all")
def open_pages(ward):
    with onion(ward) as patient, answering(ward, "200 OK"):
        yield patient


@breaks("nginx logs queries or credentials")
def logged(ward):
    with onion(ward) as patient:
        line = f'"GET /healthz?doctor={patient.mark} HTTP/1.1" 200'
        with logging_to(ward, line) as patient.nginx_logs:
            yield patient


@breaks("nobody can say what nginx logs")
def unreadable_log(ward):
    with onion(ward) as patient:  # whose logs do not exist
        yield patient


@breaks("gunicorn is open to all")
def open_port(ward):
    listen = "import socket; s = socket.create_server(('', 0)); print(flush=True); input()"
    command = [sys.executable, "-S", "-c", listen, "gunicorn"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, **pipes) as listening:
        listening.stdout.readline()
        yield ward.but(proxy_hops=1)
        listening.communicate(b"\n")


# -- the tests -------------------------------------------------------------------------

# Faults that need PostgreSQL have a test of their own.
OF_POSTGRESQL = ("PostgreSQL takes no more", "PostgreSQL's clock is wrong")


def test_each_fault_in_the_table_is_found_with_what_to_type(ward, subtests):
    table = rows()
    assert {what for what, *_ in table} == {*CASES, *OF_POSTGRESQL}
    told = {what: rest for what, *rest in table}
    for what in CASES:
        check, text, typed = told[what]
        with subtests.test(what), CASES[what](ward) as patient:
            found = doctor.look(check, patient or ward.patient)
            said = [each.text for each in found if each.result != OK]
            assert [each for each in said if says(each, text)], found
            if not text.startswith("server …: set “"):  # whose advice is the setting itself
                assert all(any(says(each, command) for each in said) for command in typed), said


def test_a_healthy_shop_is_ok_and_left_as_it_was(ward, alice):
    def state():
        facts = {fact.name: fact.value for fact in Fact.select()}
        return facts, [ward.panel.records(kind) for kind in KINDS], Order.select().count()

    # The stand-in FTP server's certificate is always for a day.
    ward.patient.writes = True
    ward.panel.calls.clear()
    before = state()
    found = list(examine(ward.patient))
    wrong = [each for each in found if each.result != OK]
    assert [(each.check, each.result) for each in wrong] == [("ftp certificate", WRONG)]
    assert [each.check for each in found] == list(doctor.BY_NAME)
    assert state() == before
    [(made, invoice), (deleted, _)] = [
        (method, params) for method, params in ward.node.calls if method.endswith("invoice")
    ]
    assert (made, deleted) == ("invoice", "delinvoice")
    assert ward.shop.node.look_up(invoice["label"]) == (False, None)
    assert [method for method, _ in ward.panel.calls].count("login") == 1


def test_the_doctor_ends_even_if_everything_is_down_or_hangs(ward):
    ward.node.faults.set("frozen")
    ward.panel.down()
    ward.ftp_server.down()
    ward.dns.fault = "silent"
    patient = ward.with_env(ward.env | {"PUBLIC_URL": "http://127.0.0.1:1"})
    begun = time.monotonic()
    found = {each.check: each for each in examine(patient, seconds=0.5)}
    assert time.monotonic() - begun < SOON_SECONDS
    assert list(found) == list(doctor.BY_NAME)
    assert found["node"] == Finding("node", UNKNOWN, "not seen within 0.5 seconds")
    assert found["panel"].result == found["ftp"].result == found["web"].result == WRONG
    expected = Finding("web log", UNKNOWN, "not looked at while “web” is not ok")
    assert found["web log"] == expected
    ward.node.faults.clear()


def test_a_database_that_hangs_holds_up_nothing_else(ward):
    with ExitStack() as afterwards:
        silent = socket.create_server(("127.0.0.1", 0))
        url = f"postgresql://shop@127.0.0.1:{silent.getsockname()[1]}/shop"
        afterwards.enter_context(database_at(ward, url))
        afterwards.enter_context(silent)  # so that it is closed first
        patient = ward.with_env(ward.env | {"DATABASE_URL": url})
        begun = time.monotonic()
        of_files = takewhile(lambda each: each.check != "units", examine(patient))
        assert ("disks", OK) in [(each.check, each.result) for each in of_files]
        assert time.monotonic() - begun < SOON_SECONDS


def test_a_check_that_crashes_is_reported(ward, caplog):
    with onion(ward) as patient:
        patient.nginx_logs = None
        [found] = doctor.look("web log", patient)
    assert (found.result, found.text) == (UNKNOWN, "the check itself failed: AttributeError")
    assert "the check “web log” failed" in caplog.text


def test_other_servers_answers_cannot_control_the_terminal(ward, subtests):
    told = {"url": "", "forwarded": "", "hops": 0, "program": "\x1b[2J\u202e\n1"}
    with answering(ward, "200 OK", body=json.dumps(told).encode()):
        [found] = doctor.look("web program", ward.patient)
    assert found.text.startswith("the web program is [2J 1, and what is here")
    for worst in (["hops"], {"hops": "1"}, told | {"hops": None}, told | {"url": 1}, "hops"):
        with subtests.test(worst), answering(ward, "200 OK", body=json.dumps(worst).encode()):
            [found] = doctor.look("web program", ward.patient)
            assert "does not know our SECRET_KEY" in found.text


def test_the_panel_is_asked_for_every_function_that_the_shop_calls(ward):
    named = re.search(r"These are the calls behind them:\n\n(.*?)\n\n", OPERATING, re.S)[1]
    calls = set(re.findall("`([a-z]+_[a-z_]+)`", named))
    kinds = re.search(r"`_add`.*?of(.*?);", named, re.S)[1]
    for kind in re.findall("`([a-z_]+)`", kinds):
        calls.remove(kind)
        calls |= {f"{kind}_{verb}" for verb in ("add", "get", "update", "delete")}
    assert harmless_calls().keys() == calls
    groups = " ".join(OPERATING.split("these functions:\n\n> ")[1].split("\n\n")[0].split("\n> "))
    assert {f"*{group}*" for group, _ in harmless_calls().values()} == set(groups.split(", "))


def test_an_instance_directory_that_others_can_read_is_reported(ward):
    open_to_all = ward.tmp_path / "instance"
    open_to_all.mkdir(mode=0o755)
    [found] = doctor.look("secrets", replace(ward.patient, instance=open_to_all))
    assert found.text.endswith(f"may read {open_to_all}: `chmod o-rwx {open_to_all}`")


def test_http_must_redirect_to_https(ward):
    patient = replace(ward.but(public_url="https://127.0.0.1"), http_port=ward.port)
    with answering(ward, "301 Moved", ("Location", "https://127.0.0.1/")):
        assert doctor.look("web redirect", patient) == [Finding("web redirect", OK)]
    with answering(ward, "301 Moved", ("Location", "https://127.0.0.1.example/")):
        assert doctor.look("web redirect", patient)[0].result == WRONG
    patient.http_port = 1
    [found] = doctor.look("web redirect", patient)
    assert found.text.startswith(
        "http://127.0.0.1 does not answer: Connection refused: let port 80"
    )


def test_nginxs_configuration_is_believed_where_its_logs_cannot_be_read(ward, subtests):
    site = ward.tmp_path / "nginx" / "sites-enabled" / "shop"
    site.parent.mkdir(parents=True)
    other = "server { server_name other.example; access_log /var/log/nginx/other.log; }"
    patient = replace(ward.but(public_url="https://shop.example"), nginx=site.parents[1])
    for line, result in {
        "access_log off;": OK,
        "": UNKNOWN,
        "# access_log off;\n": UNKNOWN,
        "access_log off; location /a { access_log /tmp/a; }": UNKNOWN,
        f"include {ROOT}/deploy/nginx/shop.conf;": OK,
        "include nothing.conf;": UNKNOWN,
    }.items():
        with subtests.test(line):
            site.write_text(
                f"{other} server {{ server_name shop.example; {line} location / {{ }} }}"
            )
            seen = OK
            try:
                assert not list(front.logs.look(patient, ("mark",)))
            except NotSeen:
                seen = UNKNOWN
            assert seen == result


def test_only_the_doctor_is_told_what_its_request_looked_like(client, this_shop, subtests):
    def ask(credential: str):
        return client.get("/healthz", headers={"Authorization": credential})

    good = introduction.header(this_shop.vault)
    assert ask(good).json["url"] == "http://localhost/"
    moment, _, mac = good.removeprefix("Doctor ").partition(":")
    for worst in (
        "",
        "Doctor",
        "Bearer " + mac,
        f"Doctor {moment}:{mac[:-1]}{'0' if mac[-1] != '0' else '1'}",
        f"Doctor {int(moment) + 1}:{mac}",
        f"Doctor {'9' * 5000}:{mac}",
        f"Doctor {moment}:{'ü' * 64}",
    ):
        with subtests.test(worst[:40]):
            assert ask(worst.encode().decode("latin-1")).text == "ok\n"
    clock.set_source(lambda: int(moment) + HOUR)
    assert ask(good).text == "ok\n"


def test_the_command_and_its_exit_code_say_what_is_wrong(ward):
    bare = command.app(ward.env, ward.tmp_path, create_app)
    for name in PLACES:
        setattr(bare.extensions["doctor"], name, ward.tmp_path / "none")
    told = bare.test_cli_runner().invoke(args=["doctor"])
    assert told.exit_code == 1
    assert "\nok       node\n" in told.output
    assert "\nwrong    ftp certificate: the FTP certificate of server 1, " in told.output
    told = bare.test_cli_runner().invoke(args=["doctor", "--json"])
    lines = [json.loads(line) for line in told.stdout.splitlines()]
    assert {"check": "node", "result": "ok", "text": ""} in lines
    assert [line["check"] for line in lines] == list(doctor.BY_NAME)
    ward.env["BASE_DOMAIN"] = ""
    bare = command.app(ward.env, ward.tmp_path, create_app)
    told = bare.test_cli_runner().invoke(args=["doctor"])
    assert told.exit_code == 1 and told.output.startswith("wrong    settings: BASE_DOMAIN is not")


def test_the_doctor_says_how_to_check_a_hosting_server(tmp_path):
    bare = command.app({}, tmp_path, create_app)
    told = bare.test_cli_runner().invoke(args=["doctor", "--server"])
    [directory] = re.findall(r"scp -r (/\S+) root@", told.output)
    assert told.exit_code == 0 and "hosting-server/doctor\n" in told.output
    assert os.access(Path(directory) / "doctor", os.X_OK) and directory.endswith("/hosting-server")


def test_the_doctor_runs_where_the_shop_does_not_start(tmp_path):
    """As root runs it, without settings."""
    env = {"PATH": os.environ["PATH"]}
    flask = [sys.executable, "-m", "flask", "--app", "wsgi", "doctor", "--json"]
    told = subprocess.run(flask, cwd=ROOT, env=env, capture_output=True, text=True)
    first, *others = [json.loads(line) for line in told.stdout.splitlines()]
    assert (told.returncode, first["check"], first["result"]) == (1, "settings", "wrong")
    assert {line["result"] for line in others} == {"unknown"}


@pytest.mark.parametrize("database_kind", ["postgresql"], indirect=True)
def test_the_doctor_checks_postgresql_too(this_shop, config, tmp_path):
    patient = Patient({}, tmp_path, lambda config: None, config=config, shop=this_shop)
    told = {what: (check, text) for what, check, text, _ in rows() if what in OF_POSTGRESQL}
    for check, _ in told.values():
        assert [each.result for each in doctor.look(check, patient)] == [OK]
    [(name,)] = models.db.execute_sql("SELECT current_database()")
    models.db.execute_sql(f"ALTER DATABASE {name} CONNECTION LIMIT 1")
    clock.set_source(lambda: time.time() - HOUR)
    for check, text in told.values():
        [found] = doctor.look(check, patient)
        assert found.result == WRONG and says(found.text, text)
    models.db.execute_sql(f"ALTER DATABASE {name} CONNECTION LIMIT -1")
