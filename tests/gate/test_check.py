"""`flask gate check` tries a real nginx and finds each fault there."""

import json
import posixpath
import re
from dataclasses import replace
from urllib.parse import unquote

import pytest

from lightningspace.gate import probe, tricks
from lightningspace.gate.services import Service
from lightningspace.outside import l402
from tests.conftest import free_port, opened, with_settings
from tests.gate.conftest import GATE

MORE = """
[[service]]
name = "calls"
location = "/calls/"
upstream = "http://127.0.0.1:{behind}"
bundle_sat = 5
per_request_msat = 1000
freebie = 2
limits = [{{ requests = 100, per = "1s" }}]

[[service]]
name = "parts"
location = "/parts/"
upstream = "http://127.0.0.1:{behind}"
price_sat = 5
time = "1 hour"
capabilities = {{ write = ["POST"] }}
limits = [{{ requests = 1, per = "1s" }}]

[[service]]
name = "dry"
location = "/dry/"
upstream = "http://127.0.0.1:{behind}"
price_sat = 5
time = "1 hour"
dry_run = true
gate_down = "open"
"""


@pytest.fixture
def gate_toml(gate_toml) -> str:
    return gate_toml + MORE


class Checked:
    """The output of a check."""

    def __init__(self, result):
        self.result = result
        self.found = [json.loads(line) for line in result.stdout.splitlines()]

    @property
    def wrong(self) -> list[tuple]:
        return [self._told(each) for each in self.found if each["result"] == "wrong"]

    def _told(self, each: dict) -> tuple:
        return each["service"], each["what"], each["found"]


@pytest.fixture
def check(box, own_app):
    """Check the gate of nginx: `check()`."""
    runner = own_app.test_cli_runner()

    def check(*options: str) -> Checked:
        args = ["gate", "check", f"http://127.0.0.1:{box.port}", "--json", *options]
        return Checked(runner.invoke(args=args))

    return check


def test_all_is_well(check, box, node):
    (box.folder / "films" / "a \n?#%25;ü.html").write_text("an odd name")
    checked = check("--echo", "/v1/headers")
    assert checked.result.exit_code == 0 and not checked.wrong
    results = [each["result"] for each in checked.found]
    assert results.count("mind") == 2 and "not tried" not in results
    whats = {(each["service"], each["what"]) for each in checked.found}
    assert ("videos", "/videos/trailers/ is free") in whats
    assert ("parts", "a good credential passes") in whats
    minded = [each["found"] for each in checked.found if each["result"] == "mind"]
    assert minded == ['everybody (gate_down = "open")', "everybody (dry_run): nothing is sold"]
    assert len([method for method, _ in node.calls if method == "invoice"]) == 4 + 1
    # The upstream got only requests that are free or that a buyer may make.
    sent = {(method, path) for method, path, _, _ in box.behind.asked}
    assert sent == {
        *(("HEAD", "/v1/"), ("HEAD", "/v1/free/"), ("HEAD", "/calls/"), ("GET", "/v1/headers")),
        *(("HEAD", "/v1/free/..;/"), ("HEAD", "/v1/free/9b1f/")),
    }


def test_findings_are_printed_as_lines(box, own_app):
    runner = own_app.test_cli_runner()
    result = runner.invoke(args=["gate", "check", f"http://127.0.0.1:{box.port}"])
    assert result.exit_code == 0
    lines = result.output.splitlines()
    assert lines[0] == "good      nginx reaches the shop"
    at = lines.index("good      api: a good credential passes")
    assert lines[at + 1] == "          /v1/ answers 200"


AUTH = "auth_request /gate/check;"
PAY = "a stranger is asked to pay"
LETS_IN = "a good credential passes"
BETWEEN = "no other location gets in between"
TRICKS = "no way of writing an address gets past the gate"
SEES = "the upstream sees no credential, and a token id to trust"
OF_API = "location ^~ /v1/ {"
OF_FILMS = "location ^~ /videos/ {"
HEADER = "proxy_set_header {} "
CASE = "location ~* ^/videos/(.*) { alias FOLDER/films/$1; }\n"

# What somebody breaks by hand: the file, its old and its new text, and what the check finds.
BROKEN = {
    "nobody asks the gate": ("server", OF_API, AUTH, "", "api", PAY, "/v1/ answers 200"),
    "nor for files": ("server", OF_FILMS, AUTH, "", "videos", PAY, "/videos/ answers 200"),
    "a pattern comes first": (
        *("server", OF_FILMS, OF_FILMS, "location /videos/ {"),
        *("videos", BETWEEN, "/videos/text.txt answers 404"),
    ),
    "and before an API": (
        *("server", OF_API, OF_API, "location /v1/ {"),
        *("api", BETWEEN, "/v1/x.txt answers 404"),
    ),
    "the credential is sent on": (
        *("server", OF_API, HEADER.format("Authorization"), "# "),
        *("api", SEES, "it sees the credential"),
    ),
    "the cookie is sent on": (
        *("server", OF_API, HEADER.format("Cookie"), "# "),
        *("api", SEES, "it sees the gate's cookie"),
    ),
    "a token id is believed": (
        *("server", OF_API, HEADER.format("X-L402-Token-Id"), "# "),
        *("api", SEES, "it sees an X-L402-Token-Id that somebody made up"),
    ),
    "addresses are sent on": (
        *("server", OF_API, HEADER.format("X-Real-IP"), "# "),
        *("api", SEES, "it sees the address of its visitor"),
    ),
    "what the gate says is not shown": (
        *("server", OF_API, "error_page 401 = $gate_answer;", ""),
        *("api", PAY, "/v1/ answers 401, which is nginx's own"),
    ),
    "too much is free": (
        *("server", "", OF_FILMS, "location ^~ /videos/te { alias FOLDER/films/te; }" + OF_FILMS),
        *("videos", BETWEEN, "/videos/text.txt answers 200"),
    ),
    "too much of an API is free": (
        *("server", "", "location ^~ /v1/free/ {", "location ^~ /v1/free {"),
        *("api", BETWEEN, "/v1/free9b1f/x answers 200"),
    ),
    "what is free is not": (
        *("server", "location ^~ /v1/free/ {", "set $gate_terms free;", "set $gate_terms paid;"),
        *("api", "/v1/free/ is free", "it answers 402"),
    ),
    "invoices where there should be none": (
        *("server", "", "set $gate_terms no-invoice;", "set $gate_terms paid;"),
        *("api", "/v1/quiet/ makes no invoices", "it answers 402"),
    ),
    "case matters to nobody else": (
        *("server", "", "location = /gate/check {", CASE + "location = /gate/check {"),
        *("videos", TRICKS, "/VIDEOS/film.mp4 answers 200"),
    ),
    "the shop is elsewhere": (
        *("http", "", "server 127.0.0.1:", "server 127.0.0.1:1; #"),
        *("", "nginx reaches the shop", "it answers 502"),
    ),
    "the upstream is elsewhere": (
        *("server", OF_API, "proxy_pass http://127.0.0.1:", "proxy_pass http://127.0.0.1:1/; #"),
        *("api", LETS_IN, "/v1/ answers 502"),
    ),
    "the page is open to all": (
        *("server", "", "location = /gate/pay {", "location = /gate/nothing {"),
        *("", "what nginx alone asks for is hidden", "/gate/pay answers 402 to everybody"),
    ),
    "pages are not made": (
        *("server", "", "rewrite ^ /gate/pay break;", "return 404;"),
        *("videos", "a browser gets a page with an invoice", "it gets 404"),
    ),
    "a header line is lost": (
        *("server", "", "add_header WWW-Authenticate $gate_lsat always;", ""),
        *("api", PAY, "402 has 1 lines of WWW-Authenticate, and should have two"),
    ),
    "the files are old": (
        *("http", "$gate_made_of", "default ", "default 0"),
        *("", "nginx goes by what gate.toml says now", "its files were written for another"),
    ),
}


@pytest.mark.parametrize("gate_toml", [GATE])
@with_settings(GATE_LIMIT="10000 per minute", GATE_LIMIT_OVERALL="10000 per minute")
def test_each_thing_broken_by_hand_is_found(box, check, subtests):
    files = {each: box.folder / f"gate-{each}.conf" for each in ("http", "server")}
    whole = {each: path.read_text() for each, path in files.items()}
    for name, (file, start, old, new, *found) in BROKEN.items():
        with subtests.test(name=name):
            before, start, after = whole[file].partition(start) if start else ("", "", whole[file])
            assert old in start + after
            changed = (start + after).replace(old, new.replace("FOLDER", str(box.folder)), 1)
            files[file].write_text(before + changed)
            box.reload()
            checked = check("--echo", "/v1/headers")
            assert checked.result.exit_code == 1
            assert any(
                (service, what) == tuple(found[:2]) and found[2] in told
                for service, what, told in checked.wrong
            ), checked.wrong
        files[file].write_text(whole[file])
    box.reload()
    assert check().result.exit_code == 0


def test_an_unreachable_shop_is_found(gate_folder, own_app, app_port):
    box, runner = gate_folder, own_app.test_cli_runner()
    box.start()
    try:
        result = runner.invoke(args=["gate", "check", f"http://127.0.0.1:{box.port}"])
        assert result.exit_code == 1
        assert f"nothing answers at http://127.0.0.1:{app_port}" in result.output
        assert "/v1/ answers 503" in result.output
        with opened(own_app, app_port):
            for_http = box.folder / "gate-http.conf"
            for_http.write_text(for_http.read_text().replace("server 127", "server 127.0.0.1:1; #"))
            box.reload()
            result = runner.invoke(args=["gate", "check", f"http://127.0.0.1:{box.port}"])
            assert f"the shop answers here at http://127.0.0.1:{app_port}" in result.output
    finally:
        box.stop()
        own_app.extensions["gate_upkeep"].stop()


def test_faults_of_the_shop_are_found(box, own_app, this_shop, node, subtests):
    gate, url = own_app.extensions["gate"], f"http://127.0.0.1:{box.port}"
    dearer = replace(gate, services=tuple(replace(each, price_sat=99) for each in gate.services))
    another = replace(this_shop, keys=l402.Keys([b"another" * 9]))

    def wrong(its_shop, its_gate) -> list[str]:
        found = probe.check(its_shop, its_gate, url)
        return [each.found for each in found if each.result == probe.WRONG]

    assert wrong(this_shop, dearer)[0] == "it sells “videos” for 50000 msat"
    assert "its macaroon is not of this shop" in wrong(another, gate)[0]
    node.down()
    told = wrong(this_shop, gate)
    assert told[0] == "/videos/ answers 503: Our Lightning node does not answer."


def test_a_check_that_is_impossible_says_so(check, box, own_app, subtests):
    runner = own_app.test_cli_runner()
    url = f"http://127.0.0.1:{box.port}"
    for arguments, told in (
        ([f"http://127.0.0.1:{free_port()}"], "does not answer: Connection refused"),
        ([f"https://127.0.0.1:{box.port}"], "does not answer: "),
        ([f"http://127.0.0.1:{box.behind.server_port}"], "gate-server.conf is not included"),
        (["127.0.0.1"], "write an address such as https://example.org"),
        ([f"{url}/videos/"], "write an address such as"),
        (["http://[::1"], "write an address such as"),
        (["http://127.0.0.1:99999"], "write an address such as"),
        ([url, "--echo", "/nowhere"], "/nowhere is not below the location of an upstream"),
        ([url, "--echo", "/videos/x"], "/videos/x is not below the location of an upstream"),
        ([url, "--echo", "/v1/free/x"], "/v1/free/x is not paid for"),
    ):
        with subtests.test(arguments=arguments):
            result = runner.invoke(args=["gate", "check", *arguments])
            assert result.exit_code == 2 and told in result.stderr
    for path in ("/v1/status/404", "/v1/status/200"):
        with subtests.test(echo=path):
            [told] = [each for each in check("--echo", path).found if each["what"] == SEES]
            assert told["result"] == "not tried"


def test_a_redirect_elsewhere_is_reported(check, box):
    files = box.folder / "gate-server.conf"
    manifest = "location = /.well-known/l402.json {"
    elsewhere = manifest + " return 301 https://shop.test/; }\nlocation = /former {"
    files.write_text(files.read_text().replace(manifest, elsewhere))
    box.reload()
    result = check().result
    assert result.exit_code == 2
    assert "leads on to https://shop.test/: name that address" in result.stderr


@pytest.mark.parametrize("free", [(), ("/a/b/free/",), ("/a/b/c/d/free/", "/a/b/x/")])
@pytest.mark.parametrize("rest", ["", "x", "c/film.mp4"])
def test_tricks_lead_to_the_paid_path(free, rest):
    service = Service("a", "A", "/a/b/", 1, 1, upstream="http://x", free=free)
    tried = [trick for trick in tricks.of(service, "/a/b/" + rest) if not trick.beside]
    assert len(tried) > 10
    for trick in tried:
        path = re.sub("/+", "/", unquote(trick.path.partition("?")[0]))
        assert posixpath.normpath(path) == posixpath.normpath("/a/b/" + rest), trick


def test_tricks_work_for_a_service_at_the_root():
    service = Service("a", "A", "/", 1, 1, upstream="http://x")
    assert all(trick.path.startswith("/") for trick in tricks.of(service, "/x"))


def test_a_reached_limit_is_reported(box, check):
    # Use up the invoices that a network may ask for.
    for _ in range(40):
        box.get("/v1/x")
    checked = check()
    assert checked.result.exit_code == 2 and not checked.wrong
    told = [each["found"] for each in checked.found if each["result"] == "not tried"]
    assert told[0] == "/videos/ answers 429"
