"""What the gate costs: its check against a bare Flask route, and nginx with it and without."""

import secrets
import shutil
import socket
import time
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

from bench.customers import crowd
from bench.measures import CONNECTIONS, goal, heading, say, throughput
from bench.programs import Program, Stage, Web, free_port, stage
from lightningspace.base import models
from lightningspace.base.clock import now
from lightningspace.base.gate_models import GateBalance, GateRevoked
from lightningspace.base.models import Table
from lightningspace.gate import nginx, services
from lightningspace.outside import l402
from lightningspace.outside.l402 import Rights
from lightningspace.shop import Shop

ROUNDS = 11
REVOKED, BALANCES = 1_000_000, 100_000
SLOW_READERS = 8
GATE = """
app = "http://127.0.0.1:{app}"
log = "{folder}/gate.log"
cache = "{folder}/cache"

[[service]]
name = "files"
location = "/gated/"
files = "{folder}/www/open"
price_sat = 5
time = "1 day"

[[service]]
name = "metered"
location = "/metered/"
files = "{folder}/www/open"
bundle_sat = 5
per_request_msat = 1
"""
NGINX = """
worker_processes 1;
daemon off;
pid {folder}/nginx.pid;
error_log {folder}/error.log crit;
events {{ }}
http {{
  access_log off;
  keepalive_requests 10000000;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  include {folder}/gate-http.conf;
  server {{
    listen 127.0.0.1:{port};
    root {folder}/www;
    include {folder}/gate-server.conf;
  }}
}}
"""


def measure() -> None:
    heading("gate: the check against a bare Flask route, and nginx with and without it")
    with stage() as opened:
        bare = opened.bare(20)
        plain = opened.web()
        without = memory(plain)
        plain.stop()
        folder = opened.directory / "gate"
        (folder / "www" / "open").mkdir(parents=True)
        (folder / "www" / "open" / "file").write_text("x" * 20)
        # nginx's own user must be able to read the file.
        for each in (opened.directory, folder, folder / "www", folder / "www" / "open"):
            each.chmod(0o755)
        toml = folder / "gate.toml"
        toml.write_text(GATE.format(app=1, folder=folder))
        opened.settle(GATE_CONFIG=str(toml))
        web = opened.web()
        shop = opened.shop()
        checks(web, bare, shop)
        grown = memory(web) - without
        goal(f"the web program has grown by {grown:.1f} MB (5 at most)", grown <= 5)
        large(web, bare, shop)
        through_nginx(opened, web, shop, folder, toml)


def memory(web: Web) -> float:
    crowd(web.port, "/", 1, CONNECTIONS)
    return web.pss_mb()


def credential(shop: Shop, service: str, msat: int | None = None) -> str:
    """An Authorization header with a credential that was paid for."""
    token_id = shop.keys.token_id(0)
    preimage = shop.keys.secret(token_id)
    caveats = l402.caveats(service, Rights(None, now() + 86400), msat)
    macaroon = shop.keys.mint(sha256(preimage).digest(), token_id, caveats)
    return f"Authorization: L402 {macaroon}:{preimage.hex()}"


def asked(service: str, header: str) -> str:
    return f"{header}\r\nX-Gate-Service: {service}\r\nX-Gate-Method: GET"


def checks(web: Web, bare: Web, shop: Shop) -> None:
    for service, msat in (("files", None), ("metered", 10**9)):
        header = asked(service, credential(shop, service, msat))
        by_cpu = 1 / check_cpu(web, bare, header)
        goal(f"check of {service}: {by_cpu:.2f} of a bare route by CPU (0.8)", by_cpu >= 0.8)


def large(web: Web, bare: Web, shop: Shop) -> None:
    """Add many revocations and balances, and repeat the checks: they must not get slower."""
    headers = {
        name: asked(name, credential(shop, name, msat))
        for name, msat in (("files", None), ("metered", 10**9))
    }
    before = {name: check_cpu(web, bare, header) for name, header in headers.items()}
    fill(
        GateRevoked,
        REVOKED,
        lambda: (secrets.token_hex(32), now() - secrets.randbelow(10**6), now() + 86400),
    )
    fill(GateBalance, BALANCES, lambda: (secrets.token_hex(32), "metered", 1, now() + 86400))
    time.sleep(20)  # until the web program has mirrored them
    for name, header in headers.items():
        ratio = before[name] / check_cpu(web, bare, header)
        text = f"{name}: with {REVOKED:,} revocations and {BALANCES:,} balances"
        goal(f"{text} a check costs {1 / ratio:.2f} times as much (1.1 at most)", ratio >= 0.9)
    say(f"the web program then takes {web.pss_mb():.0f} MB")


def fill(table: type[Table], count: int, row: Callable[[], tuple]) -> None:
    with models.transaction():
        for _ in range(0, count, 5000):
            table.insert_many([row() for _ in range(5000)], table._meta.sorted_fields).execute()


def check_cpu(web: Web, bare: Web, header: str) -> float:
    """The CPU time of a check divided by that of a bare route: the median of some rounds."""
    ratios = []
    for _ in range(ROUNDS):
        ours = throughput(web, "/gate/check", header, 0.4)[1]
        ratios.append(ours / throughput(bare, "/", header, 0.4)[1])
    return sorted(ratios)[ROUNDS // 2]


def through_nginx(opened: Stage, web: Web, shop: Shop, folder: Path, toml: Path) -> None:
    program = shutil.which("nginx")
    if program is None:
        say("nginx is not installed: requests through it are not measured")
        return
    toml.write_text(GATE.format(app=web.port, folder=folder))
    nginx.write(services.read(toml), folder)
    port = free_port()
    (folder / "nginx.conf").write_text(NGINX.format(folder=folder, port=port))
    server = opened.started(
        Program(
            [program, "-e", folder / "error.log", "-c", folder / "nginx.conf"], {}, folder / "log"
        )
    )
    server.port = port
    while socket.socket().connect_ex(("127.0.0.1", port)):
        time.sleep(0.05)
        server.check()
    header = credential(shop, "files")
    ratios = []
    for _ in range(ROUNDS):
        gated = crowd(port, "/gated/file", 0.6, CONNECTIONS, header)
        plain = crowd(port, "/open/file", 0.6, CONNECTIONS, header)
        ratios.append(gated / plain)
    ratio = sorted(ratios)[ROUNDS // 2]
    goal(f"a file behind the gate: {ratio:.2f} of nginx alone (0.7)", ratio >= 0.7)
    slow_readers(port, header, folder)


def slow_readers(port: int, header: str, folder: Path) -> None:
    """Let some clients read a large file slowly, and time another client beside them."""
    (folder / "www" / "open" / "large").write_bytes(bytes(20_000_000))
    request = f"GET /gated/large HTTP/1.1\r\nHost: x\r\n{header}\r\n\r\n".encode()
    readers = [socket.create_connection(("127.0.0.1", port)) for _ in range(SLOW_READERS)]
    try:
        for reader in readers:
            reader.sendall(request)
            assert b" 200 " in reader.recv(1000)
        started = time.perf_counter()
        crowd(port, "/gated/file", 0.2, 1, header)
        other = time.perf_counter() - started - 0.2
        goal(f"beside {SLOW_READERS} slow readers another waits {other:.2f} s (0.1)", other < 0.1)
    finally:
        for reader in readers:
            reader.close()
