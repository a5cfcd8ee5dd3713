"""`python app.py`: web, worker, and the sandbox's servers in one process."""

import fcntl
import logging
import shlex
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from textwrap import indent
from typing import IO

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from flask import Blueprint, Flask, redirect, render_template, request, url_for
from flask_login import current_user, login_required
from pyln.client import LightningRpc, RpcError
from werkzeug.exceptions import NotFound
from werkzeug.serving import make_server

from lightningspace import shop
from lightningspace.base import logs, models, schema, walls
from lightningspace.base.config import Config, ConfigError, from_env
from lightningspace.base.models import Order
from lightningspace.base.settings import declared
from lightningspace.operator import entry
from lightningspace.rules import domains, order_book, wallets
from lightningspace.sandbox.certificate import self_signed
from lightningspace.sandbox.dns import SandboxDns
from lightningspace.sandbox.ftp import SandboxFtp
from lightningspace.sandbox.gate import SandboxGate, pages
from lightningspace.sandbox.mail import Mail, SandboxMail
from lightningspace.sandbox.node import SandboxNode
from lightningspace.sandbox.panel import SandboxPanel
from lightningspace.sandbox.processes import HOST, is_free, with_us
from lightningspace.visitors.forms import Button
from lightningspace.worker import Worker

PORT = 5000
# The sites and the gate use the two ports after the shop's.
PORT_MAX = 65533
PANEL_USER, PANEL_PASSWORD = "shop", "sandbox-panel"
# The sandbox wallet's key for logins, and the pages that it may sign for.
WALLET_KEY = ec.derive_private_key(0x5A4DB07, ec.SECP256K1())
SIGNING_PAGES = ("/login/wallet", "/account/access/wallets/new")
ROUTER = Path(__file__).parent / "router.php"


class InUse(Exception):
    """Another sandbox runs with the same data, and would lose its sockets to this one."""


class Sandbox:
    """The stand-ins, with their data in `directory`.

    The sites are at the port after the shop's, the gate at the next. Raises InUse while another
    program uses the data.
    """

    def __init__(self, directory: Path, shop_port: int):
        directory.mkdir(parents=True, exist_ok=True)
        self._lock = _locked(directory / "lock")
        self.sites_port = shop_port + 1
        self.gate = SandboxGate(directory / "gate", shop_port + 2, shop_port)
        self.node_path = directory / "lightning-rpc"
        self.wallet_path = directory / "wallet-rpc"
        self.node = SandboxNode(self.node_path, self.wallet_path, store=directory / "node.sqlite3")
        self.panel = SandboxPanel(
            store=directory / "panel.sqlite3", user=PANEL_USER, password=PANEL_PASSWORD
        )
        self.panel.queue_seconds = 0.2  # a person is watching
        set_walls(self.panel)
        self.dns = SandboxDns(store=directory / "dns.json")
        self.mail = SandboxMail(show=print_mail)
        self.certificate = self_signed(directory / "ftp.pem", days=365)
        (directory / "www").mkdir(exist_ok=True)
        self.ftp = SandboxFtp(directory / "www", self.panel, self.certificate, show=self._print_jar)
        self._sites: subprocess.Popen | None = None

    def start(self) -> None:
        self.node.start()
        self.panel.start()
        self.dns.start()
        self.mail.start()
        self.ftp.start()

    def serve_sites(self) -> bool:
        """Serve the customers' sites. Return False if PHP is missing or the port is in use."""
        php = shutil.which("php")
        if php is None or not is_free(self.sites_port):
            return False
        serve = [php, "-q", "-S", f"{HOST}:{self.sites_port}"]
        self._sites = with_us([*serve, "-t", str(self.ftp.root), str(ROUTER)])
        return True

    def stop(self) -> None:
        self.gate.stop()
        if self._sites:
            self._sites.communicate()
        self.ftp.stop()
        self.mail.stop()
        self.dns.stop()
        self.panel.stop()
        self.node.stop()
        self._lock.close()

    def _print_jar(self, site: str, name: str) -> None:
        if name == "index.php":
            port = self.sites_port
            address = f"http://{site}.localhost:{port}/" if shutil.which("php") else site
            print(f"\n  There is a tip jar on {address}\n", flush=True)

    def settings(self) -> dict[str, str]:
        """The shop's settings for using the stand-ins."""
        return {
            "LIGHTNING_RPC": str(self.node_path),
            "PANEL_URL": self.panel.url,
            "PANEL_USER": PANEL_USER,
            "PANEL_PASSWORD": PANEL_PASSWORD,
            "DNS_SERVERS": self.dns.address.replace("#", ":"),
            "SMTP_URL": self.mail.url,
            "FTP_ADDRESSES": self.ftp.address,
            "WEB_ADDRESSES": f"{HOST}:{self.sites_port}",
            "FTP_VERIFY_TLS": str(self.certificate),
        }


def print_mail(mail: Mail) -> None:
    text = f"A mail to {mail.recipient}: {mail.subject}\n\n{mail.text}"
    print(f"\n{indent(text, '  | ', lambda line: True)}", flush=True)


def buttons(wallet_path: Path, dns: SandboxDns | None = None) -> Blueprint:
    """The routes of "Pay from the sandbox wallet" and "Publish", which only this program has."""
    sandbox = Blueprint("sandbox", __name__)

    @sandbox.post("/sandbox/pay/<token>")
    def pay(token):
        order = Order.get_or_none(Order.token == token)
        if order is None or not Button().validate_on_submit():
            raise NotFound
        if order_book.state(order) == "unpaid":
            try:
                LightningRpc(str(wallet_path)).pay(order.bolt11)
            except RpcError as error:
                text = f"The sandbox wallet says: {error.error.get('message')}"
                page = render_template("error.html", title="Not paid", text=text, code=503)
                return page, 503
        return redirect(url_for("orders.order", token=token), 303)

    @sandbox.post("/sandbox/publish/<domain>")
    @login_required
    def publish(domain):
        """Publish the records that we ask for, as a customer would at a DNS provider."""
        account = current_user.account
        row = next((row for row in domains.of(account.id) if row.name == domain), None)
        if dns is None or row is None or not Button().validate_on_submit():
            raise NotFound
        for kind, name, value, _ in domains.records(shop.this_shop(), account, row):
            if kind == "TXT":
                dns.publish_text(name, value)
            elif kind == "MX":
                dns.publish(name, kind, value)
            else:  # the other records lead to the only server
                dns.publish(name, "A", HOST)
        domains.check_now(account.id, domain)
        return redirect(f"/account/domains#{domain}", 303)

    @sandbox.post("/sandbox/sign")
    def sign():
        """Sign the challenge of a page, as a wallet with LNURL-auth would."""
        k1, then = request.form.get("k1", ""), request.form.get("then", "")
        if not wallets.seconds_left(k1) or not Button().validate_on_submit():
            raise NotFound
        try:
            wallets.sign(shop.this_shop(), k1, *signed(WALLET_KEY, k1))
        except wallets.NotSigned as refused:
            text = f"The sandbox wallet says: {refused.text}"
            return render_template("error.html", title="Not signed", text=text, code=400), 400
        return redirect(then if then.startswith(SIGNING_PAGES) else "/", 303)

    return sandbox


def signed(key: ec.EllipticCurvePrivateKey, k1: str) -> tuple[str, str]:
    """The signature of the challenge and the public key, in hex as wallets send them."""
    signature = key.sign(bytes.fromhex(k1), ec.ECDSA(Prehashed(SHA256())))
    public = key.public_key().public_bytes(Encoding.X962, PublicFormat.CompressedPoint)
    return signature.hex(), public.hex()


def create_app_with_sandbox(create_app, root: Path, env: Mapping[str, str], port: int) -> tuple:
    """Build the shop over its stand-ins, which run already, but for the gate's nginx.

    Return the app, the sandbox, and why the gate cannot open, or "".
    """
    sandbox = Sandbox(root / "instance" / "sandbox", port)
    defaults = {
        "PUBLIC_URL": f"http://{HOST}:{port}",
        "BASE_DOMAIN": "space.example",
        "SHOP_NAME": "lightning-space",
        "CONTACT": "help@space.example",
        "CAPACITY_MB": "200000",
        "UNPAID_PER_CLIENT": "20",
    }
    sandbox.start()
    closed = "GATE_CONFIG is set" if env.get("GATE_CONFIG") else sandbox.gate.prepare()
    if not closed:
        defaults["GATE_CONFIG"] = str(sandbox.gate.config)
    settings = defaults | dict(env) | sandbox.settings()
    config = from_env(settings, root / "instance")
    write_settings(root / "instance" / "sandbox" / "env", settings)
    publish_sites(sandbox.dns, config.base_domain)
    app: Flask = create_app(config)
    app.register_blueprint(buttons(sandbox.wallet_path, sandbox.dns))
    if not closed:
        gate_pages = pages(sandbox.wallet_path)
        app.register_blueprint(gate_pages)
        app.extensions["csrf"].exempt(gate_pages)  # like the gate's own, they have no session
    if not models.init_db():
        schema.upgrade(models.db.obj)
    shop.settle_in(app.extensions["shop"])
    return app, sandbox, closed


def write_settings(path: Path, env: Mapping[str, str]) -> None:
    """Write a file for commands run beside the sandbox: `set -a; . instance/sandbox/env`."""
    names = [name.upper() for name in declared(Config)]
    names += [f"{name}_FILE" for name in names]
    lines = [f"{name}={shlex.quote(env[name])}\n" for name in names if name in env]
    path.touch(mode=0o600)
    path.write_text("".join(lines))


def set_walls(panel: SandboxPanel) -> None:
    """Set the server's web settings as docs/hosting-server.md advises."""
    panel.web_config |= {
        "htaccess_allow_override": walls.allow_override(walls.NARROW),
        "php_open_basedir": walls.open_basedir("[website_path]"),
        "check_apache_config": "n",
    }


def publish_sites(dns: SandboxDns, base_domain: str) -> None:
    """Publish the records that an operator publishes for the sites that are sold."""
    mail = f"mail.{base_domain}"
    dns.publish(f"*.{base_domain}", "A", HOST)
    dns.publish(f"*.{base_domain}", "MX", f"10 {mail}.")
    dns.publish_text(f"*.{base_domain}", "v=spf1 mx -all")
    dns.publish(mail, "A", HOST)


def _port(env: Mapping[str, str]) -> int:
    """The shop's port, from PORT. Ends the program if it cannot be used."""
    typed = env.get("PORT") or str(PORT)
    if not (typed.isascii() and typed.isdigit() and 0 < int(typed) <= PORT_MAX):
        sys.exit("The shop does not start: PORT is not usable: write a port, such as 5010")
    if not is_free(int(typed)):
        sys.exit(
            f"The shop does not start: {HOST}:{typed} is in use. Is it running already? If another "
            "program has the port, take another: make run PORT=5010"
        )
    return int(typed)


def _locked(path: Path) -> IO:
    """Open and lock a file. The lock holds until it is closed or this process ends.

    Raises InUse if another process holds it.
    """
    lock = path.open("w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.close()
        raise InUse(f"another one uses the data in {path.parent}: stop that first") from None
    return lock


def run(create_app, root: Path, env: Mapping[str, str]) -> None:
    logs.install()
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    logging.getLogger("werkzeug").setLevel(logging.WARNING)
    port = _port(env)
    try:
        app, sandbox, closed = create_app_with_sandbox(create_app, root, env, port)
        server = make_server(HOST, port, app, threaded=True)
    except (ConfigError, InUse, shop.CannotSettle) as error:
        sys.exit(f"The shop does not start: {error}")
    except (schema.WrongSchema, schema.UpgradeFailed) as error:
        sys.exit(f"The shop does not start: {error}\nTo begin anew, remove instance/")

    sites = f"  Its sites cannot be opened: that needs php-cli and port {port + 1}\n"
    if sandbox.serve_sites():
        sites = f"  The sites that it sells: http://<site>.localhost:{port + 1}\n"
    gate = f"  Its gate is not open: {closed}\n"
    if not closed:
        sandbox.gate.start()
        gate = f"  What is behind its gate: {sandbox.gate.url}\n"
    worker = Worker(app.extensions["shop"])
    working = threading.Thread(target=worker.run, name="worker")
    working.start()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    link = entry.new_link(app.extensions["shop"])
    print(
        f"\n  The shop is open: http://{HOST}:{port}\n"
        f"  What its operator sees, by a link that is good once: {link}\n"
        f"{sites}{gate}"
        "  Choose a size, order, and press “Pay from the sandbox wallet”. No real money moves.\n"
        "  Ctrl-C ends it; its data stay in instance/.\n",
        flush=True,
    )
    try:
        server.serve_forever()
    except (KeyboardInterrupt, SystemExit):
        print("  Closing.", flush=True)
    finally:
        worker.stop()
        working.join()
        server.server_close()
        sandbox.stop()
