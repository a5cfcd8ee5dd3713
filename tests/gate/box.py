"""A real nginx with a gate, a shop beside it, and an upstream that repeats what it was sent."""

import base64
import hashlib
import json
import re
import signal
import socket
import subprocess
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from lightningspace.gate import nginx, services
from tests.conftest import debian_program, eventually

# Debian's libnginx-mod-http-dav-ext.
PROPFIND_MODULE = Path("/usr/lib/nginx/modules/ngx_http_dav_ext_module.so")
NGINX_CONF = """\
{modules}
user root;
daemon off;
worker_processes 1;
pid {folder}/nginx.pid;
error_log {folder}/error.log info;
events {{ }}
http {{
  access_log {folder}/access.log;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  types {{ text/html html; text/plain txt; video/mp4 mp4; }}
  include {folder}/gate-http.conf;
  server {{
    listen 127.0.0.1:{port};
    root {folder}/www;
    include {folder}/gate-server.conf;
    # As an operator may have it: a location by pattern must not get before the gate.
    location ~ \\.txt$ {{ }}
  }}
}}
"""


@dataclass
class Answer:
    status: int
    headers: list[tuple[str, str]]
    body: bytes

    def all(self, name: str) -> list[str]:
        return [value for each, value in self.headers if each.lower() == name.lower()]

    def get(self, name: str) -> str | None:
        return next(iter(self.all(name)), None)

    @property
    def json(self):
        return json.loads(self.body)

    @property
    def text(self) -> str:
        return self.body.decode()

    @property
    def cookies(self) -> dict[str, str]:
        pairs = [value.partition(";")[0].partition("=") for value in self.all("Set-Cookie")]
        return {name: value for name, _, value in pairs}


class Behind(BaseHTTPRequestHandler):
    """An operator's program behind the gate: it answers with the request, as JSON."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def _answer(self):
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length) if length else self._chunks()
        self.server.asked.append((self.command, self.path, dict(self.headers.items()), len(body)))
        if found := re.search("/status/([0-9]+)", self.path):
            self._send(
                int(found[1]), b"the upstream's own", {"WWW-Authenticate": 'Basic realm="x"'}
            )
        elif self.path == "/price":
            self._send(200, self.server.price, {})
        elif "/events" in self.path:
            self._stream()
        elif self.headers.get("Upgrade") == "websocket":
            self._upgrade()
        else:
            told = {"method": self.command, "path": self.path, "length": len(body)}
            told["headers"] = {name.lower(): value for name, value in self.headers.items()}
            told["twice"] = len(self.headers.items()) - len(told["headers"])
            extra = {"Access-Control-Expose-Headers": "X-Own"} if "/cors" in self.path else {}
            if found := re.search("[?&]cost=([^&]*)", self.path):
                extra["X-Gate-Cost-Msat"] = found[1]
            if found := re.search("[?&]head=([^&:]*):([^&]*)", self.path):
                extra[found[1]] = found[2]
            self._send(200, json.dumps(told).encode(), extra)

    def _chunks(self) -> bytes:
        body = b""
        if self.headers.get("Transfer-Encoding") == "chunked":
            while size := int(self.rfile.readline(), 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
        return body

    def _send(self, status: int, body: bytes, headers: dict[str, str]):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _stream(self):
        """Send one event at once, and the next when the test says so."""
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(b"data: first\n\n")
        self.wfile.flush()
        self.server.may_end.wait(30)
        self.wfile.write(b"data: last\n\n")
        self.close_connection = True

    def _upgrade(self):
        key = self.headers["Sec-WebSocket-Key"] + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
        accept = base64.b64encode(hashlib.sha1(key.encode()).digest()).decode()
        self.wfile.write(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: " + accept.encode() + b"\r\n\r\n"
        )
        self.wfile.write(self.rfile.read(4))
        self.close_connection = True

    def __getattr__(self, name):
        if name.startswith("do_"):
            return self._answer
        raise AttributeError(name)


@contextmanager
def upstream():
    """The server behind the gate, whose `asked` lists its requests."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Behind)
    server.daemon_threads = True
    server.asked, server.may_end, server.price = [], threading.Event(), b""
    serving = threading.Thread(target=server.serve_forever, args=(0.05,))
    serving.start()
    yield server
    server.may_end.set()
    server.shutdown()
    serving.join()
    server.server_close()


@dataclass
class Box:
    """nginx with the gate of `folder`/gate.toml at a port."""

    folder: Path
    port: int
    app_port: int
    behind: ThreadingHTTPServer
    conf: str = NGINX_CONF
    _process: subprocess.Popen = field(default=None, repr=False)

    def start(self) -> None:
        program = debian_program("nginx", "nginx-light")
        (self.folder / "www").mkdir(exist_ok=True)
        conf = self.folder / "nginx.conf"
        modules = f"load_module {PROPFIND_MODULE};" if PROPFIND_MODULE.exists() else ""
        conf.write_text(self.conf.format(folder=self.folder, port=self.port, modules=modules))
        nginx.write(services.read(self.folder / "gate.toml"), self.folder)
        self._process = subprocess.Popen([program, "-e", self.folder / "error.log", "-c", conf])
        eventually(self._listens)

    def _listens(self) -> bool:
        assert self._process.poll() is None, (self.folder / "error.log").read_text()
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def reload(self) -> None:
        """Let nginx read its files again, and wait until they are in effect."""
        former = set(eventually(self._workers))  # it listens before it has any
        self._process.send_signal(signal.SIGHUP)
        eventually(lambda: not former & set(self._workers()))

    def _workers(self) -> list[str]:
        pid = self._process.pid
        return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()

    def stop(self) -> None:
        if self._process:
            self._process.terminate()
            self._process.wait()

    def ask(self, method: str, path: str, body=None, headers=None, credential=None) -> Answer:
        headers = dict(headers or {})
        if credential:
            headers["Authorization"] = f"L402 {credential}"
        connection = HTTPConnection("127.0.0.1", self.port, timeout=20)
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        read = Answer(answer.status, answer.getheaders(), answer.read())
        connection.close()
        return read

    def get(self, path: str, credential=None, **headers: str) -> Answer:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.ask("GET", path, None, named, credential)

    def raw(self, *sent: bytes) -> socket.socket:
        """A connection that has sent these bytes."""
        connection = socket.create_connection(("127.0.0.1", self.port), timeout=20)
        for part in sent:
            connection.sendall(part)
        return connection

    @property
    def logs(self) -> str:
        return "".join(path.read_text() for path in self.folder.glob("*.log"))


def head_of(connection: socket.socket) -> bytes:
    """The answer up to the end of its head."""
    received = b""
    while b"\r\n\r\n" not in received and (chunk := connection.recv(1)):
        received += chunk
    return received


def pay(wallet, answer: Answer) -> str:
    """Pay what a 402 asks for; returns the credential."""
    assert answer.status == 402, (answer.status, answer.text)
    preimage = wallet.pay(answer.json["invoice"])["payment_preimage"]
    return f"{answer.json['macaroon']}:{preimage}"


def seconds_since(moment: float) -> float:
    return time.monotonic() - moment
