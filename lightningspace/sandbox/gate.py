"""The sandbox's gate: a gate.toml with services for sale, and the nginx that serves them."""

import os
import shutil
import subprocess
from pathlib import Path

from flask import Blueprint, redirect, render_template, request
from pyln.client import LightningRpc, RpcError
from werkzeug.exceptions import NotFound

from lightningspace.base.settings import ConfigError
from lightningspace.gate import nginx, services
from lightningspace.gate.pages import OWN_ADDRESS, this_gate
from lightningspace.sandbox.processes import HOST, is_free, with_us
from lightningspace.sandbox.upstream import COST, SOLD, Upstream

SBIN = "/usr/sbin"
# From libnginx-mod-http-dav-ext: with it, WebDAV clients can list the files of a disk.
PROPFIND = Path("/usr/lib/nginx/modules/ngx_http_dav_ext_module.so")

GATE = """\
# Written by `make run` at each start.
app = "http://{host}:{shop_port}"
log = "{directory}/gate.log"

[[service]]
name = "film"
title = "The storm, a film"
location = "/film/"
files = "{sold}/film"
free = ["/film/trailer/"]
price_sat = 50
time = "1 day"

[[service]]
name = "news"
title = "The Hill Gazette"
location = "/news/"
files = "{sold}/news"
price_sat = 20
time = "1 week"

[[service]]
name = "dice"
title = "Dice, by the roll"
location = "/v1/"
upstream = "{upstream}"
bundle_sat = 10
per_request_msat = 1000

[[service]]
name = "disk"
title = "Disk space, 10 MB"
location = "/disk/"
disk = "{directory}/disk"
quota_mb = 10
propfind = {propfind}
price_sat = 30
time = "1 week"

[[service]]
name = "queue"
title = "QR codes of any text"
location = "/queue/"
upstream = "{upstream}"
bundle_sat = 100
cost_header = "{cost}"
reserve_msat = 10000
body = "The text, in UTF-8, of 1000 bytes at most"
"""
NGINX = """\
{beginning}daemon off;
worker_processes 1;
pid nginx.pid;
error_log error.log;
events {{ }}
http {{
  access_log off;
  client_body_temp_path body;
  proxy_temp_path proxy;
  fastcgi_temp_path fastcgi;
  uwsgi_temp_path uwsgi;
  scgi_temp_path scgi;
  types {{ text/html html; image/svg+xml svg; }}
  charset utf-8;
  include gate-http.conf;
  server {{
    listen {host}:{port};
    location / {{
      return 404;
    }}
    location = / {{
      rewrite ^ /gate/sandbox last;
    }}
    include gate-server.conf;
  }}
}}
"""


def nginx_program() -> str | None:
    """The path of nginx, or None if it is not installed. Debian has it outside most users' PATH."""
    return shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:{SBIN}")


class SandboxGate:
    """nginx at `port`, with everything that it writes in `directory`."""

    def __init__(self, directory: Path, port: int, shop_port: int):
        self.port = port
        self.config = directory / "gate.toml"
        self._directory, self._shop_port = directory, shop_port
        self._upstream: Upstream | None = None
        self._nginx: subprocess.Popen | None = None
        self._command: list[str] = []

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}"

    def prepare(self) -> str:
        """Write the files that nginx needs. Return why it cannot run, or ""."""
        program = nginx_program()
        if program is None:
            return "nginx is not installed (apt-get install nginx-light)"
        if not is_free(self.port):
            return f"port {self.port} is in use"
        (self._directory / "disk").mkdir(parents=True, exist_ok=True)
        self._upstream = Upstream()
        text = GATE.format(
            host=HOST,
            shop_port=self._shop_port,
            directory=self._directory,
            sold=SOLD,
            upstream=self._upstream.url,
            cost=COST,
            propfind=str(PROPFIND.exists()).lower(),
        )
        self.config.write_text(text)
        try:
            nginx.write(services.read(self.config), self._directory)
        except ConfigError as error:  # the directory's path may not suit nginx
            return str(error)
        beginning = f"load_module {PROPFIND};\n" if PROPFIND.exists() else ""
        # Started by root, its workers would run as nobody, who may not read everything here.
        beginning += "user root;\n" if os.geteuid() == 0 else ""
        conf = self._directory / "nginx.conf"
        conf.write_text(NGINX.format(beginning=beginning, host=HOST, port=self.port))
        log = self._directory / "error.log"
        self._command = [program, "-p", f"{self._directory}/", "-e", str(log), "-c", str(conf)]
        tested = subprocess.run([*self._command, "-t", "-q"], capture_output=True, text=True)
        return tested.stderr.strip() if tested.returncode else ""

    def start(self) -> None:
        self._upstream.start()
        self._nginx = with_us(self._command)

    def stop(self) -> None:
        if self._nginx:
            self._nginx.communicate()
            self._nginx = None
            self._upstream.stop()


def pages(wallet_path: Path) -> Blueprint:
    """The routes of the page that lists what is sold, and of the pay page's button."""
    sandbox = Blueprint("sandbox_gate", __name__)

    @sandbox.get("/gate/sandbox")
    def index():
        named = {service.name: service for service in this_gate().services}
        return render_template("gate/sandbox.html", gate=named, host=request.host_url.rstrip("/"))

    @sandbox.post("/gate/sandbox/pay")
    def pay():
        invoice, then = request.form.get("invoice", ""), request.form.get("then", "")
        if not OWN_ADDRESS.fullmatch(then):
            raise NotFound
        try:
            LightningRpc(str(wallet_path)).pay(invoice)
        except RpcError as error:
            text = f"The sandbox wallet says: {error.error.get('message')}"
            page = render_template("error.html", title="Not paid", text=text, code=503)
            return page, 503
        return redirect(then, 303)

    return sandbox
