"""nginx with a gate in front of files and of an upstream: who gets in, and what everybody sees."""

import html
import json
import re
from itertools import product
from select import select
from urllib.parse import quote

from lightningspace.base import clock
from lightningspace.base.gate_models import GateCount
from lightningspace.base.tables import TABLES
from lightningspace.gate import selling
from lightningspace.gate.credentials import NOTHING, Shown
from lightningspace.gate.services import TIME_MAX, Bundle, Service
from lightningspace.outside import l402
from lightningspace.rules import restored
from tests.conftest import eventually, invoices_asked_for
from tests.gate.box import head_of, pay

HTML = "text/html,application/xhtml+xml,*/*;q=0.8"


def test_who_has_paid_gets_in_and_nobody_else(box, wallet):
    challenge = box.get("/videos/film.mp4")
    assert challenge.status == 402
    first, second = challenge.all("WWW-Authenticate")
    assert re.fullmatch('LSAT macaroon="[^"]+", invoice="lnbcrt[^"]+"', first)
    assert re.fullmatch(
        'L402 macaroon="[^"]+", invoice="[^"]+", version="0", token="[^"]+"', second
    )
    assert challenge.get("Content-Type") == "application/problem+json"
    assert challenge.get("Cache-Control") == "no-store"
    told = challenge.json
    assert told["price_msat"] == 50_000 and told["service"] == "videos"
    credential = pay(wallet, challenge)
    film = box.get("/videos/film.mp4", credential)
    assert (film.status, len(film.body)) == (200, 10240)
    part = box.get("/videos/film.mp4", credential, Range="bytes=256-259")
    assert (part.status, part.body) == (206, bytes(range(4)))
    assert box.get("/videos/", credential).body == b"all films"
    macaroon, _, preimage = credential.partition(":")
    for wrong in (f"{macaroon}:{'0' * 64}", f"{macaroon[:-4]}AAA=:{preimage}", "nonsense"):
        refused = box.get("/videos/film.mp4", wrong)
        assert refused.status == 401, wrong
        assert refused.all("WWW-Authenticate") == ["L402"]
    other = box.get("/v1/x", credential)
    assert other.status == 402  # the credential is good for the films alone
    assert not box.behind.asked


def test_nothing_of_a_pass_is_stored(box, wallet):
    before = {table: table.select().count() for table in TABLES}
    credential = pay(wallet, box.get("/v1/x"))
    assert box.get("/v1/x", credential).status == 200
    assert {table: table.select().count() for table in TABLES} == before


def test_free_paths_are_served(box):
    assert box.get("/videos/trailers/one.txt").body == b"free"
    assert box.get("/v1/free/x").json["path"] == "/v1/free/x"
    missing = box.get("/videos/none.mp4")
    assert missing.status == 404  # nobody pays for a missing file
    quiet = box.get("/v1/quiet/x")
    assert (quiet.status, quiet.all("WWW-Authenticate")) == (401, ["L402"])


PATHS = [
    *("/videos/trailers/../text.txt", "/videos/%2e%2e/videos/text.txt", "//videos/text.txt"),
    *("/videos//text.txt", "/./videos/text.txt", "/videos/trailers/..%2ftext.txt"),
    *("/videos/trailers/%2e%2e/text.txt", "/v%69deos/text.txt", "/videos/text.txt?free"),
    *("/v1/free/../x", "/v1/free/%2e%2e/x", "/v1/./x", "/v1//x", "/v1%2fx", "//v1/x"),
    *("/v1/free/..%2fx", "/wrong/free/../../v1/x", "/videos/../v1/x"),
]
# Paths that nginx passes on as it has matched them, or does not know.
HARMLESS = [
    *("/VIDEOS/text.txt", "/V1/x", "/videos/trailers/..;/text.txt", "/videos/text.txt/"),
    *("/videos", "/v1", "/gate/check", "/gate/pay"),
]


def test_no_way_of_writing_a_path_opens_it(box, subtests):
    for path in PATHS:
        with subtests.test(path=path):
            assert box.get(path).status == 402
    for path in HARMLESS:
        with subtests.test(path=path):
            assert box.get(path).status in (301, 404)
    # A free path is sent on as it was matched, so that no upstream reads its ".." differently.
    box.get("/v1/x/../free/y")
    assert [path for _, path, _, _ in box.behind.asked] == ["/v1/free/y"]


def test_the_upstream_learns_nothing_but_a_token_id(box, wallet):
    credential = pay(wallet, box.get("/v1/x"))
    cookies = "a=b; gate-api=x; gate-api.unpaid=y; c=d; gate-api=z"
    sent = {"X-L402-Token-Id": "forged", "Cookie": cookies, "X-Real-IP": "9.9.9.9"}
    sent |= {"X-Forwarded-For": "9.9.9.9", "Forwarded": "for=9.9.9.9", "Macaroon": "00"}
    got = box.ask("POST", "/v1/x?y=z", b"body", sent, credential).json
    assert (got["method"], got["path"], got["length"]) == ("POST", "/v1/x?y=z", 4)
    headers = got["headers"]
    assert re.fullmatch("[0-9a-f]{64}", headers["x-l402-token-id"])
    assert headers["cookie"] == "a=b; c=d"
    hidden = {"authorization", "macaroon", "x-real-ip", "x-forwarded-for", "forwarded"}
    assert not hidden & headers.keys()
    free = box.get("/v1/free/x", Authorization="Basic eDp5", X_L402_Token_Id="forged").json
    assert free["headers"]["authorization"] == "Basic eDp5"
    for password, kept in (("Basic aL402a=", True), ("Basic x, L402 a:b", False)):
        got = box.get("/v1/free/x", Authorization=password).json["headers"]
        assert ("authorization" in got) == kept, password
    assert "x-l402-token-id" not in free["headers"]
    # Programs may send each cookie in a line of its own.
    for cookies, kept in (
        (("a=b", "gate-api=x", "c=d"), "a=b,c=d"),
        (("gate-api=x", "g=h"), "g=h"),
    ):
        lines = "".join(f"Cookie: {cookie}\r\n" for cookie in cookies)
        with box.raw(f"GET /v1/free/x HTTP/1.0\r\n{lines}\r\n".encode()) as connection:
            head_of(connection)
            assert json.loads(connection.recv(9999))["headers"]["cookie"] == kept
    preimage = credential.partition(":")[2]
    assert preimage not in box.logs and credential not in box.logs


def test_the_upstreams_own_answers_pass(box, wallet):
    credential = pay(wallet, box.get("/v1/x"))
    for status in (401, 402, 403, 404, 500, 502, 503):
        answer = box.get(f"/v1/status/{status}", credential)
        assert (answer.status, answer.body) == (status, b"the upstream's own")
        assert answer.all("WWW-Authenticate") == ['Basic realm="x"']


def test_streams_and_websockets_work(box, wallet):
    credential = pay(wallet, box.get("/v1/x"))
    head = f"Host: x\r\nAuthorization: L402 {credential}\r\n".encode()
    with box.raw(b"GET /v1/events HTTP/1.1\r\n" + head + b"\r\n") as events:
        assert b"200 OK" in head_of(events)
        assert b"first" in events.recv(100)
        box.behind.may_end.set()
        assert b"last" in events.recv(100)
    upgrade = b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: eA==\r\n\r\n"
    with box.raw(b"GET /v1/ws HTTP/1.1\r\n" + head + upgrade, b"ping") as web:
        assert b"101 Switching" in head_of(web)
        assert web.recv(4) == b"ping"
    with box.raw(b"GET /v1/ws HTTP/1.1\r\nHost: x\r\n" + upgrade) as unpaid:
        assert b" 402 " in head_of(unpaid)


METHODS = ("POST", "PUT", "GET", "FOO", "PROPFIND")
LENGTHS = (b"Content-Length: 200000000", b"Transfer-Encoding: chunked")


def test_an_unpaid_upload_is_answered_before_it_is_read(box, subtests):
    for method, length in product(METHODS, LENGTHS):
        head = f"{method} /v1/x HTTP/1.1\r\nHost: x\r\nAccept: {HTML}\r\n".encode() + length
        part = bytes(0x10000)
        part = b"10000\r\n" + part + b"\r\n" if b"chunked" in length else part
        sent = 0
        with subtests.test(method=method, length=length), box.raw(head + b"\r\n\r\n") as socket:
            while sent < 200_000_000 and not select([socket], [], [], 0)[0]:
                socket.sendall(part)
                sent += len(part)
            assert b" 402 " in head_of(socket)
            assert sent < 8_000_000
    assert not box.behind.asked


def test_who_only_looks_makes_no_invoice(box, node):
    for method in ("HEAD", "OPTIONS"):
        looked = box.ask(method, "/videos/film.mp4")
        assert looked.status == 402 and not looked.all("WWW-Authenticate")
        assert looked.get("Link") == '</.well-known/l402.json>; rel="l402-manifest"'
    for headers in ({}, {"Accept": HTML}):
        for path in ("/gate/topup/videos", "/gate/wait/videos?then=/videos/"):
            looked = box.ask("HEAD", path, None, headers | {"Cookie": "gate-videos.unpaid=x"})
            assert looked.status == 402 and not looked.all("Set-Cookie")
    asked = box.ask("OPTIONS", "/v1/x")
    assert asked.status == 204 and asked.get("Access-Control-Allow-Origin") == "*"
    assert "Authorization" in asked.get("Access-Control-Allow-Headers")
    assert not [call for call in node.calls if "invoice" in str(call)]


def test_a_restored_database_sells_nothing_and_honours_what_was_paid(box, wallet, node):
    credential = pay(wallet, box.get("/v1/x"))
    restored.begin()
    asked = invoices_asked_for(node)
    refused = box.get("/v1/x")
    assert (refused.status, refused.json["code"]) == (503, "restoring")
    page = box.ask("GET", "/videos/film.mp4", None, {"Accept": HTML})
    assert page.status == 503 and restored.Restoring.text in page.text
    assert box.get("/v1/x", credential).status == 200
    assert invoices_asked_for(node) == asked


def test_pages_of_other_sites_may_call_what_says_so(box, wallet):
    challenge = box.get("/v1/x")
    assert challenge.all("Access-Control-Allow-Origin") == ["*"]
    assert "WWW-Authenticate" in challenge.get("Access-Control-Expose-Headers")
    credential = pay(wallet, challenge)
    [exposed] = box.get("/v1/cors", credential).all("Access-Control-Expose-Headers")
    assert exposed.startswith("X-Own, WWW-Authenticate")
    assert not box.get("/videos/film.mp4").all("Access-Control-Allow-Origin")


def test_a_person_pays_and_is_in(box, wallet):
    page = box.get("/videos/film.mp4?x=1", Accept=HTML)
    assert page.status == 402 and "text/html" in page.get("Content-Type")
    assert len(page.all("WWW-Authenticate")) == 2
    assert "50 sat" in page.text and "The film archive" in page.text
    assert "<footer" in page.text  # shop.js needs it
    assert "sandbox" not in page.text
    invoice = re.search('href="lightning:([^"]+)"', page.text)[1]
    cookie = "; ".join(f"{name}={value}" for name, value in page.cookies.items())
    again = box.get("/videos/film.mp4?x=1", Accept=HTML, Cookie=cookie)
    assert again.status == 402 and invoice in again.text
    wallet.pay(invoice)

    def look():
        answer = box.get("/videos/film.mp4?x=1", Accept=HTML, Cookie=cookie)
        return answer if answer.status == 303 else None

    back = eventually(look)
    assert back.get("Location") == "/videos/film.mp4?x=1"
    assert "HttpOnly" in back.get("Set-Cookie")
    cookie = f"gate-videos={back.cookies['gate-videos']}"
    assert box.get("/videos/film.mp4", Accept=HTML, Cookie=cookie).status == 200
    assert box.get("/gate/static/shop.css").status == 200


def test_constant_looks_ask_the_node_only_now_and_then(box, node):
    page = box.get("/videos/film.mp4", Accept=HTML)
    cookie = "; ".join(f"{name}={value}" for name, value in page.cookies.items())
    before = len(node.calls)
    for _ in range(20):
        assert box.get("/videos/film.mp4", Accept=HTML, Cookie=cookie).status == 402
    assert len(node.calls) - before <= 5


def test_a_browser_without_cookies_is_told_before_it_pays(box, wallet, node):
    page = box.get("/videos/film.mp4?x=1&y=2", Accept=HTML)
    look = html.unescape(re.search('content="5; url=([^"]+)"', page.text)[1])
    invoices = sum("invoice" in str(call) for call in node.calls)
    told = box.get(look, Accept=HTML)
    assert told.status == 403 and "Please allow cookies" in told.text
    assert sum("invoice" in str(call) for call in node.calls) == invoices
    cookie = "; ".join(f"{name}={value}" for name, value in page.cookies.items())
    invoice = re.search('href="lightning:([^"]+)"', page.text)[1]
    assert invoice in box.get(look, Accept=HTML, Cookie=cookie).text
    for then in ("//other.example/", "https://other.example/", "/\\other.example", "", "x"):
        other = f"/gate/wait/videos?then={quote(then)}"
        assert box.get(other, Accept=HTML, Cookie=cookie).status == 404, then
    assert box.get("/gate/wait/none", Accept=HTML, Cookie=cookie).status == 404
    wallet.pay(invoice)
    answers = [eventually(lambda: led(box.get(look, Accept=HTML, Cookie=cookie)))]
    paid = f"gate-videos={answers[0].cookies['gate-videos']}"
    answers.append(box.get(look, Accept=HTML, Cookie=paid))  # in another window
    assert {answer.get("Location") for answer in answers} == {"/videos/film.mp4?x=1&y=2"}
    long = box.get(f"/v1/{'x' * 3000}", Accept=HTML)
    assert '; url=/gate/wait/api?then=/v1/">' in long.text


def led(answer):
    return answer.status == 303 and answer


def test_a_pass_lasts_as_long_as_was_bought(box, wallet, time_machine, this_shop):
    challenge = box.get("/videos/film.mp4")
    time_machine.forward(this_shop.config.invoice_minutes * 60 - 1)
    credential = pay(wallet, challenge)
    time_machine.forward(86400)
    assert box.get("/videos/film.mp4", credential).status == 200
    time_machine.forward(2)
    eventually(lambda: box.get("/videos/film.mp4", credential).status == 402, 5)
    anew = box.get("/videos/film.mp4", credential)
    assert box.get("/videos/film.mp4", pay(wallet, anew)).status == 200


def test_a_pass_that_is_bought_early_goes_on_from_its_end(box, wallet, time_machine):
    def until(credential) -> int:
        return l402.rights(l402.read(credential.partition(":")[0]), "videos", 0).valid_until

    first = pay(wallet, box.get("/videos/film.mp4"))
    time_machine.forward(3600)
    second = pay(wallet, box.ask("POST", "/gate/topup/videos", credential=first))
    assert until(second) == until(first) + 86400
    # Not for the holder of a narrowed credential, and not once the first pass has ended.
    narrowed = l402.read(first.partition(":")[0]).narrowed("services=videos:0")
    friends = f"{narrowed}:{first.partition(':')[2]}"
    his = pay(wallet, box.ask("POST", "/gate/topup/videos", credential=friends))
    assert until(his) == until(first) + 3600
    time_machine.forward(until(second) - clock.now())
    anew = pay(wallet, box.ask("POST", "/gate/topup/videos", credential=second))
    assert until(anew) - clock.now() > 86400


def test_a_pass_is_bought_no_further_ahead_than_anything_is_sold(this_shop):
    film = Service("films", "Films", "/films/", 5, TIME_MAX, files="/srv")
    first = selling.challenge(this_shop, film, NOTHING)
    second = selling.challenge(this_shop, film, Shown(first.macaroon))
    assert second.valid_until == second.invoice.expires_at + TIME_MAX


def test_a_renewed_bundle_runs_from_now(this_shop):
    bundle = Bundle(5000, 100, per_request_msat=100)
    api = Service("api", "API", "/v1/", 5, 3600, bundle, upstream="http://127.0.0.1:9")
    first = selling.challenge(this_shop, api, NOTHING)
    second = selling.challenge(this_shop, api, Shown(first.macaroon))
    assert second.valid_until == second.invoice.expires_at + 3600


def test_one_credential_holds_all_services(box, wallet):
    films = pay(wallet, box.get("/videos/film.mp4"))
    both = pay(wallet, box.get("/v1/x", films))
    assert box.get("/videos/film.mp4", both).status == 200
    assert box.get("/v1/x", both).status == 200
    assert box.get("/v1/x", films).status == 402


def test_an_unreachable_gate_is_closed(box, own_app, wallet):
    credential = pay(wallet, box.get("/v1/x"))
    box.behind.asked.clear()
    for_http = box.folder / "gate-http.conf"
    for_http.write_text(
        re.sub("server 127.0.0.1:[0-9]+", "server 127.0.0.1:1", for_http.read_text())
    )
    box.reload()
    away = box.get("/v1/x", credential)
    assert (away.status, away.get("Retry-After")) == (503, "5")
    assert box.get("/v1/free/x").status == 200
    assert [path for _, path, _, _ in box.behind.asked] == ["/v1/free/x"]


def kept(box) -> str:
    """The files in nginx's cache."""
    files = [path for path in (box.folder / "cache").rglob("*") if path.is_file()]
    return "".join(path.read_text("latin-1") for path in files)


def test_a_cached_check_counts_for_one_credential_and_stores_none(box, wallet, own_app):
    credential = pay(wallet, box.get("/v1/x"))
    macaroon, _, preimage = credential.partition(":")
    counts = own_app.extensions["gate_upkeep"].counts
    asked = [box.get("/v1/x", credential) for _ in range(20)]
    assert {answer.status for answer in asked} == {200}
    ids = {answer.json["headers"]["x-l402-token-id"] for answer in asked}
    assert len(ids) == 1
    counts.write()
    assert GateCount.get(GateCount.outcome == "passed").times < 20
    # For another service or credential the check is asked again.
    assert box.get("/videos/film.mp4", credential).status == 402
    altered = f"{macaroon[:40]}{'A' if macaroon[40] != 'A' else 'B'}{macaroon[41:]}"
    for wrong in (f"{macaroon}:{preimage[:-1]}x", f"{altered}:{'0' * 16}{preimage[16:]}"):
        assert box.get("/v1/x", wrong).status == 401
    # Answers to requests with cookies are not kept, as cookies are the caller's own.
    for cookie in ("a=b", "c=d; gate-api=x"):
        got = box.get("/v1/x", credential, Cookie=cookie)
        assert got.json["headers"]["cookie"] == cookie.partition(";")[0]
    # Nor answers with a credential in another header, where this header's need not be good.
    junk = f"L402 {'A' * 64}:{'0' * 64}"
    narrowed = l402.read(macaroon).narrowed(f"preimage={preimage}").packed().hex()
    for header in ("Macaroon", "Grpc-Metadata-Macaroon"):
        for sent, status in (({header: narrowed}, 200), ({}, 401)):
            assert box.ask("GET", "/v1/x", None, sent | {"Authorization": junk}).status == status
    assert macaroon not in kept(box) and preimage not in kept(box)
    assert preimage[:16] in kept(box)
