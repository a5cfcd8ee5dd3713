"""The gate among an operator's other lines of nginx, and in front of upstreams that lie."""

import subprocess

import pytest

from lightningspace.gate import nginx
from tests.conftest import debian_program, free_port
from tests.gate import conftest, test_metering
from tests.gate.box import pay
from tests.gate.test_metering import bought

OWN_KEY = """
[[service]]
name = "resold"
location = "/resold/"
upstream = "http://127.0.0.1:{behind}"
price_sat = 5
time = "1 day"
addresses = true
capabilities = {{ read = ["GET"] }}
headers = {{ "host" = "api.example.com", "authorization" = "Bearer k", "x-real-ip" = "ours" }}
"""


@pytest.fixture
def gate_toml() -> str:
    return conftest.GATE + OWN_KEY


@pytest.fixture
def add(box):
    """Add lines of the operator's own to nginx's configuration: within http, or within server."""
    conf = box.folder / "nginx.conf"

    def add(http: str = "", server: str = "") -> None:
        text = conf.read_text().replace("  types {", f"  {http}\n  types {{")
        conf.write_text(text.replace("    root ", f"    {server}\n    root "))
        box.reload()

    return add


CACHE = 'cache = "{folder}/cache"\n'


@pytest.mark.parametrize("gate_toml", [test_metering.GATE, CACHE + test_metering.GATE])
def test_a_cache_of_the_operators_keeps_no_answer_of_the_gate(box, wallet, add):
    passes, bundle = pay(wallet, box.get("/pass/x")), bought(box, wallet, "/calls/x")
    add(
        f"proxy_cache_path {box.folder}/own keys_zone=own:1m; proxy_cache own;"
        "proxy_cache_valid any 10m; proxy_ignore_headers Cache-Control Set-Cookie;"
        "proxy_cache_use_stale error timeout updating http_500;"
    )
    assert box.get("/pass/x", passes).status == 200
    assert box.get("/pass/x").status == 402
    assert [box.get("/calls/x", bundle).status for _ in range(6)] == [200] * 5 + [402]
    assert box.get("/gate/balance", passes).json["services"]
    assert box.get("/gate/balance").status == 401
    pages = [box.get("/pass/x", Accept="text/html").cookies for _ in range(2)]
    assert pages[0] != pages[1]


def test_an_upstream_cannot_redirect_nginx_inside(box, wallet, add):
    add(server=f"location /secret/ {{ internal; alias {box.folder}/films/; }}")
    credential = pay(wallet, box.get("/v1/x"))
    for path in ("/v1/", "/v1/free/"):
        for told in ("X-Accel-Redirect:/secret/text.txt", "X-Accel-Redirect:/gate/check"):
            assert box.get(f"{path}x?head={told}", credential).json["method"] == "GET"
    balance = box.get("/v1/x?head=X-Gate-Balance:999", credential)
    assert balance.status == 200 and balance.get("X-Gate-Balance") is None


def test_includes_in_an_upstreams_answer_have_no_effect(box, add):
    add("ssi on; ssi_types *;")
    said = "<!--#include virtual='/videos/text.txt' -->"
    assert box.get("/v1/free/x", X_Said=said).json["headers"]["x-said"] == said


def test_the_operators_headers_are_sent_alone(box, wallet):
    credential = pay(wallet, box.get("/resold/x"))
    sent = {"Cookie": f"gate-resold={credential}", "Authorization": "Basic eDp5", "X-Real-IP": "a"}
    got = box.ask("GET", "/resold/x", None, sent).json
    assert not got["twice"]
    headers = [got["headers"][name] for name in ("host", "authorization", "x-real-ip")]
    assert headers == ["api.example.com", "Bearer k", "ours"]
    assert got["headers"]["x-forwarded-for"] == "127.0.0.1"


def test_a_free_request_cannot_reach_other_paths_of_the_upstream(box):
    elsewhere = {"X-Original-URL": "/v1/x", "X-Rewrite-URL": "/v1/x"}
    # Over HTTP/2 on this connection a client could request anything.
    tunnel = {"Upgrade": "h2c", "Connection": "Upgrade, HTTP2-Settings", "HTTP2-Settings": "AAMA"}
    got = box.ask("GET", "/v1/free/x", None, elsewhere | tunnel).json["headers"]
    assert not {"x-original-url", "x-rewrite-url", "upgrade"} & got.keys()
    assert "upgrade" not in got.get("connection", "")


def test_no_header_names_a_method_that_was_not_bought(box, wallet):
    credential = pay(wallet, box.get("/resold/x"))
    named = ("X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override")
    sent = {"Cookie": f"gate-resold={credential}", **dict.fromkeys(named, "DELETE")}
    got = box.ask("GET", "/resold/x", None, sent).json["headers"]
    assert not {name.lower() for name in named} & got.keys()
    # Where every method is sold, these headers do no harm.
    free = box.ask("GET", "/v1/free/x", None, dict.fromkeys(named, "DELETE")).json["headers"]
    assert free["x-http-method"] == "DELETE"


def test_an_unpaid_upload_without_a_length_is_not_read(box, add):
    port = free_port()
    add(server=f"listen 127.0.0.1:{port} http2;")
    curl = [debian_program("curl", "curl"), "--http2-prior-knowledge", "-sS", "-T", "-"]
    curl += ["-X", "GET", "-H", "Accept: text/html", "-w", "%{http_code} %{size_upload}"]
    with subprocess.Popen(["head", "-c", "200M", "/dev/zero"], stdout=subprocess.PIPE) as body:
        command = [*curl, "-o", "/dev/null", f"http://127.0.0.1:{port}/v1/x"]
        told = subprocess.run(command, stdin=body.stdout, capture_output=True, check=False)
        body.kill()
    status, sent = told.stdout.split()
    # 000: nginx ends the stream, which curl may see before the answer.
    assert status in (b"413", b"000"), told.stderr
    assert int(sent) < 8_000_000


def test_only_the_owner_can_read_nginxs_files(box, own_app):
    files = nginx.write(own_app.extensions["gate"], box.folder)
    assert [oct(path.stat().st_mode & 0o777) for path in files] == ["0o600", "0o600"]
