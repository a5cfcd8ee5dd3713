"""Disk space over WebDAV: who gets at which files, how much fits, and how it ends."""

import os
import re
import threading
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import product
from pathlib import Path

import pytest

from lightningspace.base import clock
from lightningspace.base.gate_models import GateDisk
from lightningspace.gate import disks, services
from lightningspace.gate.disks import FILES_MAX, MB, Disks
from lightningspace.outside import l402
from tests.gate.box import PROPFIND_MODULE, head_of, pay

GATE = """
app = "http://127.0.0.1:{app}"
log = "{folder}/gate.log"
cache = "{folder}/cache"

[[service]]
name = "my-disk"
title = "Disk space"
location = "/my/disk/"
disk = "{folder}/disk"
quota_mb = 2
price_sat = 50
time = "1 day"
grace = "3 days"

[[service]]
name = "metered"
location = "/metered/"
disk = "{folder}/metered"
quota_mb = 1
bundle_sat = 10
per_request_msat = 1000

[[service]]
name = "root"
location = "/"
disk = "{folder}/root"
quota_mb = 1
price_sat = 50
time = "1 day"

[[service]]
name = "api"
location = "/v1/"
upstream = "http://127.0.0.1:{behind}"
price_sat = 5
time = "1 day"
"""
HTML = "text/html,application/xhtml+xml,*/*;q=0.8"
DAY = 86400


@pytest.fixture
def gate_toml() -> str:
    return GATE


@pytest.fixture
def gate_folder(gate_folder, more_settings):
    for name in ("disk", "metered", "root"):
        (gate_folder.folder / name).mkdir()
    more_settings["GATE_LIMIT"] = "1000 per day"
    return gate_folder


def bought(box, wallet, path: str = "/my/disk/", credential: str | None = None) -> str:
    return pay(wallet, box.get(path, credential))


def token_id(credential: str) -> str:
    return l402.read(credential.partition(":")[0]).token_id.hex()


def folder(box, credential: str) -> Path:
    return box.folder / "disk" / token_id(credential) / "my" / "disk"


def put(box, credential: str, name: str, body: bytes = b"x"):
    return box.ask("PUT", f"/my/disk/{name}", body, credential=credential)


def code(answer) -> tuple[int, str]:
    return answer.status, answer.json["code"]


def test_each_buyer_has_an_own_folder(box, wallet):
    alice, bob = bought(box, wallet), bought(box, wallet)
    empty = box.get("/my/disk/", alice, Accept=HTML)
    assert empty.status == 200 and "text/html" in empty.get("Content-Type")
    assert put(box, alice, "a.txt", b"alice's").status == 201
    assert put(box, alice, "new/folders/b.txt", b"b").status == 201
    read = box.get("/my/disk/a.txt", alice)
    assert (read.status, read.body) == (200, b"alice's")
    assert "script-src 'none'" in read.get("Content-Security-Policy")
    assert box.get("/my/disk/a.txt", alice, Range="bytes=0-4").body == b"alice"
    assert 'href="a.txt"' in box.get("/my/disk/", alice).text
    assert box.get("/my/disk/a.txt", bob).status == 404
    assert "a.txt" not in box.get("/my/disk/", bob).text
    assert put(box, bob, "a.txt", b"bob's").status == 201
    assert box.get("/my/disk/a.txt", alice).body == b"alice's"

    def ask(method, path, credential, to=None):
        headers = {"Destination": f"http://127.0.0.1:{box.port}{to}"} if to else {}
        return box.ask(method, f"/my/disk/{path}", None, headers, credential).status

    assert ask("MKCOL", "c/", alice) == 201
    assert ask("MOVE", "a.txt", alice, "/my/disk/c/a.txt") in (201, 204)
    assert box.get("/my/disk/c/a.txt", alice).body == b"alice's"
    assert ask("COPY", "c/a.txt", alice, "/my/disk/d.txt") == 405
    assert ask("DELETE", "c/a.txt", alice) == 204
    assert ask("DELETE", "c/", alice) == 204
    assert ask("DELETE", "", alice) == 204  # the whole folder, which can still be used afterwards
    assert box.get("/my/disk/", alice).status == 200
    assert box.get("/my/disk/a.txt", bob).body == b"bob's"
    assert not [path for path in (box.folder / "disk").rglob("*") if path.stat().st_mode & 0o007]


METHODS = ("GET", "HEAD", "PUT", "DELETE", "MKCOL", "MOVE", "COPY", "PROPFIND", "OPTIONS", "LOCK")


def test_nobody_gets_at_files_without_paying(box, wallet, subtests):
    credential = bought(box, wallet)
    put(box, credential, "a.txt", b"paid")
    macaroon = credential.partition(":")[0]
    other = bought(box, wallet, "/v1/x")
    own = f"/{token_id(credential)}/my/disk/a.txt"
    for method in METHODS:
        with subtests.test(method=method):
            headers = {"Destination": "/my/disk/b.txt"} if method in ("MOVE", "COPY") else {}
            assert box.ask(method, "/my/disk/a.txt", None, headers).status == 402
            assert box.ask(method, "/my/disk/a.txt", None, headers, other).status == 402
            forged = box.ask(method, "/my/disk/a.txt", None, headers, f"{macaroon}:{'0' * 64}")
            assert forged.status == 401
            assert box.ask(method, own, None).status == 402
    for length in (b"Content-Length: 2000000", b"Transfer-Encoding: chunked"):
        head = b"PUT /my/disk/a.txt HTTP/1.1\r\nHost: x\r\n" + length + b"\r\n\r\n"
        with subtests.test(length=length), box.raw(head) as socket:
            assert b" 402 " in head_of(socket)
    assert box.get("/my/disk/a.txt", credential).body == b"paid"
    [row] = GateDisk.select()
    assert row.token_id == token_id(credential)


class SaysYes(BaseHTTPRequestHandler):
    """A check that lets everybody in as the holder of the server's `token_id`."""

    def do_GET(self):
        self.send_response(204)
        self.send_header("X-L402-Token-Id", self.server.token_id)
        self.end_headers()
        self.server.asked += 1

    def log_message(self, *args):
        pass


@pytest.fixture
def says_yes():
    server = ThreadingHTTPServer(("127.0.0.1", 0), SaysYes)
    server.token_id, server.asked = "", 0
    serving = threading.Thread(target=server.serve_forever, args=(0.05,))
    serving.start()
    yield server
    server.shutdown()
    serving.join()
    server.server_close()


def test_a_check_that_names_nobody_opens_no_folder(box, wallet, says_yes, subtests):
    """Not even at "/", where a path on the disk is an address."""
    credential = bought(box, wallet, "/x")
    assert box.ask("PUT", "/x", b"paid", credential=credential).status == 201
    assert box.get("/x", credential).body == b"paid"
    conf = box.folder / "gate-http.conf"
    port = says_yes.server_port
    conf.write_text(re.sub("server 127.0.0.1:[0-9]+", f"server 127.0.0.1:{port}", conf.read_text()))
    box.reload()
    there, own = sorted(box.folder.rglob("*")), token_id(credential)
    names = ("", ".", "..", f"{own}/", f"{own}/..", own.upper(), own[:-1], f"{own}0", "x" * 64)
    paths = ("/", "/x", f"/{own}/x", "/my/disk/", "/my/disk/x")
    for method, path, says_yes.token_id in product(METHODS, paths, names):
        with subtests.test(method=method, path=path, token_id=says_yes.token_id):
            headers = {"Destination": "/my/disk/y" if "disk" in path else "/y"}
            answer = box.ask(method, path, b"x" if method == "PUT" else None, headers)
            assert answer.status >= 400 and b"paid" not in answer.body
    assert says_yes.asked > len(METHODS)
    assert sorted(box.folder.rglob("*")) == there
    says_yes.token_id = own
    assert box.get("/x").body == b"paid"


# Paths, and targets for a MOVE of one's own file; {} stands for somebody else's folder.
PATHS = [
    *("/my/disk/../../{}/my/disk/a", "/my/disk/%2e%2e/%2e%2e/{}/my/disk/a", "/../{}/my/disk/a"),
    *("/my/disk/..%2f..%2f..%2f{}%2fmy/disk/a", "/my/disk//../../../{}/my/disk/a"),
    *("/my/disk/{}/my/disk/a", "//{}/my/disk/a", "/my/disk/a%00/x", "/my/disk/..\\..\\{}\\a"),
    *("/my/disk/../../.uploads/", "/my/disk/../../.over/"),
]
TARGETS = [
    *("/my/disk/../../../{}/my/disk/b", "/my/disk/%2e%2e/%2e%2e/%2e%2e/{}/my/disk/b"),
    *("/my/disk/..%2f..%2f..%2f{}%2fmy%2fdisk%2fb", "http://elsewhere/my/disk/b", "/v1/b", "/b"),
    *("/{}/my/disk/b", "../b", "b", "//x/my/disk/b", "file:///my/disk/b", "/my/disk/%00", ""),
    *("http://x/my/disk/../../b", "http://x", "/my/disk\\..\\..\\b", "/metered/b", "/my/disk/a\tb"),
]


def test_no_path_leads_out_of_a_folder(box, wallet, subtests):
    alice, bob = bought(box, wallet), bought(box, wallet)
    put(box, alice, "a", b"alice's")
    put(box, bob, "own", b"bob's")
    alices = token_id(alice)
    for path, method in [(path, method) for path in PATHS for method in ("GET", "PUT", "DELETE")]:
        with subtests.test(path=path, method=method):
            answer = box.ask(method, path.format(alices), b"", {}, bob)
            # 402 is another service's; otherwise the path is within bob's own folder.
            assert answer.status in (400, 402, 404, 409, 200, 201, 204)
            assert b"alice" not in answer.body
    for target in TARGETS:
        with subtests.test(target=target):
            headers = {"Destination": target.format(alices)}
            moved = box.ask("MOVE", "/my/disk/own", None, headers, bob)
            assert moved.status in (201, 204, 400)
            if moved.status != 400:
                put(box, bob, "own", b"bob's")
    assert [each.name for each in folder(box, alice).iterdir()] == ["a"]
    assert (folder(box, alice) / "a").read_bytes() == b"alice's"
    # There are files only in the two folders, below the disk's own path.
    assert {each.name for each in (box.folder / "disk").iterdir()} == {
        *(alices, token_id(bob), ".uploads")
    }
    assert [each.name for each in folder(box, bob).parent.parent.iterdir()] == ["my"]
    assert [each.name for each in folder(box, bob).parent.iterdir()] == ["disk"]


def test_a_link_leads_nowhere(box, wallet, caplog, subtests):
    """WebDAV cannot make a link; an operator can."""
    credential = bought(box, wallet)
    put(box, credential, "a", b"paid")
    outside = box.folder / "outside"
    outside.mkdir()
    (outside / "secret").write_text("secret")
    (folder(box, credential) / "link").symlink_to(outside)
    for path in ("link", "link/", "link/secret"):
        for method in ("GET", "PUT", "DELETE", "MKCOL", "MOVE"):
            with subtests.test(path=path, method=method):
                headers = {"Destination": "/my/disk/link/b", "Depth": "infinity"}
                answer = box.ask(method, f"/my/disk/{path}", None, headers, credential)
                assert answer.status >= 400 or b"secret" not in answer.body
                assert answer.status in (403, 404, 411, 503) or method == "GET"
    assert box.get("/my/disk/a", credential).body == b"paid"
    assert put(box, credential, "b").status == 503
    assert (outside / "secret").read_text() == "secret"
    assert [each.name for each in outside.iterdir()] == ["secret"]
    told = [record for record in caplog.records if "symbolic link" in record.message]
    assert len(told) == 1


def announced(box, credential: str, name: str, length: int):
    """A PUT that announces its length, and waits for leave to send the body."""
    head = f"PUT /my/disk/{name} HTTP/1.1\r\nHost: x\r\nAuthorization: L402 {credential}\r\n"
    return box.raw(f"{head}Content-Length: {length}\r\nExpect: 100-continue\r\n\r\n".encode())


def test_no_more_space_can_be_used_than_was_bought(box, wallet, subtests):
    credential = bought(box, wallet)
    large = bytes(MB + MB // 2)
    assert put(box, credential, "large", large).status == 201
    assert put(box, credential, "more", bytes(MB)).status == 507
    assert code(put(box, credential, "more", bytes(MB))) == (507, "quota_exceeded")
    assert put(box, credential, "more", bytes(3 * MB)).status == 413
    with announced(box, credential, "more", MB) as socket:
        head_of(socket)  # 100, which nginx sends to everybody
        assert b" 507 " in head_of(socket)
    # A file that replaces another may be as large as that.
    assert put(box, credential, "large", large[:-9]).status == 204
    assert put(box, credential, "large", bytes(2 * MB)).status == 204
    assert put(box, credential, "empty", b"").status == 507
    assert box.ask("MKCOL", "/my/disk/c/", credential=credential).status == 507
    moved = {"Destination": "/my/disk/moved"}
    assert box.ask("MOVE", "/my/disk/large", None, moved, credential).status in (201, 204)
    assert box.ask("DELETE", "/my/disk/moved", credential=credential).status == 204
    assert put(box, credential, "at-once", large).status == 201
    chunked = box.ask("PUT", "/my/disk/c", iter([b"x"]), credential=credential)
    assert code(chunked) == (411, "length_required")
    body = box.ask("DELETE", "/my/disk/c", bytes(MB), credential=credential)
    assert code(body) == (413, "too_large")
    for name in ("n" * 256, "/".join(["deep"] * 700)):
        assert code(put(box, credential, name)) == (414, "name_too_long")


def test_uploads_under_way_count(box, wallet):
    credential = bought(box, wallet)
    with announced(box, credential, "slow", MB + 1) as slow:
        assert b" 100 " in head_of(slow)
        assert put(box, credential, "other", bytes(MB)).status == 507
        assert put(box, credential, "small", bytes(MB // 2)).status == 201
        slow.sendall(bytes(MB + 1))
        assert b" 201 " in head_of(slow)
    assert put(box, credential, "rest", bytes(MB // 4)).status == 201
    with announced(box, credential, "broken", MB // 8) as broken:
        assert b" 100 " in head_of(broken)
    assert put(box, credential, "broken", bytes(MB // 8)).status == 201  # sent again


def test_a_metered_disk_charges_for_nothing_that_does_not_fit(box, wallet):
    credential = bought(box, wallet, "/metered/")
    first = box.ask("PUT", "/metered/a", b"x", credential=credential)
    assert (first.status, first.get("X-Gate-Balance")) == (201, "9000")
    assert box.ask("PUT", "/metered/b", iter([b"x"]), credential=credential).status == 411
    assert box.get("/metered/a", credential).get("X-Gate-Balance") == "8000"


@pytest.fixture
def one_disk(tmp_path, app):
    """A disk's service, and its folder."""
    disk = tmp_path / "disk"
    disk.mkdir()
    (tmp_path / "gate.toml").write_text(GATE.format(app=1, behind=1, folder=tmp_path))
    return services.read(tmp_path / "gate.toml").services[0]


def asks(some: Disks, disk, method="PUT", path="a", length=0, whose="11" * 32):
    refused = some.refusal(disk, whose, clock.now() + DAY, method, f"/my/disk/{path}", length)
    return (refused.code, refused.name) if refused else None


def test_the_number_of_files_is_limited(one_disk):
    some = Disks()
    assert asks(some, one_disk) is None
    home = Path(one_disk.disk, "11" * 32, "my", "disk")
    for name in range(FILES_MAX - 2):
        os.mknod(home / str(name))
    some = Disks()
    some_disk = replace(one_disk, quota_mb=1000)
    assert asks(some, some_disk, "PUT", "one") is None
    assert asks(some, some_disk, "PUT", "sub/two") == (507, "too_many_files")
    assert asks(some, some_disk, "MKCOL", "two") is None
    assert asks(some, some_disk, "PUT", "three") == (507, "too_many_files")
    assert asks(some, some_disk, "DELETE", "1") is None
    use = disks.counted(str(home.parent.parent), "/my/disk/")
    assert (use.files, use.is_whole) == (FILES_MAX - 2, True)
    for name in range(10):
        os.mknod(home / f"more{name}")
    use = disks.counted(str(home.parent.parent), "/my/disk/")
    assert (use.files, use.is_whole) == (FILES_MAX + 1, False)


# What clients may write, and the file that it is below the folder.
NAMES = [
    ("a%2520b", b"a%20b"),
    ("%e4%C3%B6", b"\xe4\xc3\xb6"),
    ("\u00e4", b"\xe4"),
    ("a;b+c", b"a;b+c"),
    ("a%3Fb%23c?d=/../../e", b"a?b#c"),
    (".//x//y/../z/w", b"x/z/w"),
    ("%2e/v%2Fu%2f%2e%2E%2ft", b"v/t"),
    ("n#f", b"n"),
    ("%0d%0aX-Gate-Service:%20api", b"\r\nX-Gate-Service: api"),
    ("...", b"..."),
]


def test_an_address_is_read_as_nginx_reads_it(box, wallet, subtests):
    credential = bought(box, wallet)
    for written, name in NAMES:
        with subtests.test(written=written):
            head = f"PUT /my/disk/{written} HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n"
            head += f"Authorization: L402 {credential}\r\nConnection: close\r\n\r\nx"
            with box.raw(head.encode("latin-1")) as socket:
                assert b" 201 " in head_of(socket)
            assert b"/".join(disks.names_in(f"/my/disk/{written}")) == b"my/disk/" + name
            assert os.path.isfile(os.path.join(os.fsencode(folder(box, credential)), name))


def test_counting_takes_only_a_part_of_the_time(one_disk):
    """If counting takes 50 ms, it happens a few times at once, and then about once a second."""
    ticks = iter(range(10**6))
    some = Disks(lambda: next(ticks) * 0.05)
    for _ in range(60):
        assert asks(some, one_disk, "DELETE", "x") is None
    # Each request looks at the clock once, and twice more if it counts.
    assert 4 < (next(ticks) - 60) / 2 < 12


def test_no_trick_hides_uploads_under_way(one_disk):
    """Slow uploads, while other files of their size come and go."""
    some, size = Disks(), MB + MB // 2
    assert asks(some, one_disk) is None
    home = Path(one_disk.disk, "11" * 32, "my", "disk")
    (home / "y").write_bytes(bytes(size // 2))
    assert asks(some, one_disk, path="x", length=size // 2) is None
    full = (507, "quota_exceeded")
    # A file of that size is moved there, and back.
    assert asks(some, one_disk, "MOVE", "y") is None
    (home / "y").rename(home / "x")
    assert asks(some, one_disk, path="z", length=size // 2) == full
    (home / "x").rename(home / "y")
    assert asks(some, one_disk, path="z", length=size // 2) == full
    # It is sent again and again: nginx keeps the parts of each try until it ends or breaks off.
    found = [asks(some, one_disk, path="x", length=size // 2) for _ in range(20)]
    assert found[0] is None and found[-1] == (429, "too_many_requests")
    some = Disks()  # in place of a file that is as large
    found = [asks(some, one_disk, path="y", length=size // 2) for _ in range(20)]
    assert found[0] is None and found[-1] == (429, "too_many_requests")
    # A folder is made there for a file.
    some = Disks()
    assert asks(some, one_disk, path="x", length=size // 2) is None
    assert asks(some, one_disk, path="x/y") is None
    (home / "x").mkdir()
    assert asks(some, one_disk, path="z", length=size // 2) == full


def test_empty_files_count(one_disk):
    some = Disks()
    assert asks(some, one_disk) is None
    for number in range(2 * MB // 4096):
        os.mknod(Path(one_disk.disk, "11" * 32, "my", "disk", f"empty{number}"))
    assert asks(Disks(), one_disk) == (507, "quota_exceeded")


def test_a_full_or_missing_disk_is_reported_once(one_disk, caplog):
    some, endless = Disks(), replace(one_disk, quota_mb=10**12)
    for _ in range(2):
        assert asks(some, endless, length=10**17) == (503, "unavailable")
    assert asks(some, endless, length=1) is None
    os.rename(one_disk.disk, f"{one_disk.disk}-away")
    for _ in range(2):
        assert asks(some, endless, length=1) == (503, "unavailable")
    told = [record.message for record in caplog.records if "disk my-disk" in record.message]
    assert len(told) == 2 and "no room" in told[0] and "No such file" in told[1]


# -- the end ---------------------------------------------------------------------------


def test_files_are_kept_until_their_owner_renews(box, wallet, time_machine, this_shop):
    credential = bought(box, wallet)
    assert put(box, credential, "a", b"kept").status == 201
    [first] = GateDisk.select()
    time_machine.forward(this_shop.config.invoice_minutes * 60 + DAY)
    for method in ("GET", "PUT", "DELETE", "PROPFIND"):
        assert box.ask(method, "/my/disk/a", None, {}, credential).status == 402
    renewed = bought(box, wallet, credential=credential)
    assert box.get("/my/disk/a", renewed).body == b"kept"
    [second] = GateDisk.select()  # reading alone has noted the new end
    assert second.token_id == first.token_id and second.until >= first.until + DAY
    assert box.get("/my/disk/a", credential).status == 402
    # A narrowed credential ends sooner, but the folder does not.
    macaroon, _, preimage = renewed.partition(":")
    caveat = f"my-disk_valid_until={clock.now() + 60}"
    narrowed = f"{l402.read(macaroon).narrowed(caveat)}:{preimage}"
    assert box.get("/my/disk/a", narrowed).body == b"kept"
    assert [row.until for row in GateDisk.select()] == [second.until]


# -- WebDAV clients ----------------------------------------------------------------------


@pytest.fixture
def mounted(gate_toml, request):
    """A box whose disk can be listed by WebDAV clients."""
    if not PROPFIND_MODULE.exists():
        pytest.skip("needs PROPFIND in nginx: apt-get install libnginx-mod-http-dav-ext")
    return request.getfixturevalue("box")


@pytest.mark.parametrize(
    "gate_toml", [GATE.replace('grace = "3 days"', "propfind = true")], ids=["propfind"]
)
def test_a_webdav_client_lists_the_files(mounted, wallet, own_app):
    assert mounted.ask("OPTIONS", "/my/disk/").status == 402
    assert mounted.ask("PROPFIND", "/my/disk/", None, {"Accept": HTML}).status == 402
    credential = bought(mounted, wallet)

    def ask(method, path="", body=None, **headers):
        return mounted.ask(method, f"/my/disk/{path}", body, headers, credential)

    offered = ask("OPTIONS")
    assert offered.status == 200 and "PROPFIND" in offered.get("Allow")
    assert offered.get("DAV").startswith("1")
    first = ask("PROPFIND", Depth="1")
    assert first.status == 207 and first.text.count("<D:response>") == 1
    put(mounted, credential, "a%20b.txt", b"x")
    assert ask("PROPFIND", Depth="1").text.count("<D:response>") == 2
    assert "/my/disk/a%20b.txt" in ask("PROPFIND", "a%20b.txt", Depth="0").text
    assert ask("PROPFIND", Depth="infinity").status == 403
    assert ask("PROPFIND", body=b"x" * 100_000).status == 413
    assert ask("PROPFIND", body=b"<nonsense", Depth="0").status == 400
    assert ask("LOCK", "a%20b.txt").status == 405
    assert b"a b" not in mounted.ask("PROPFIND", "/my/disk/", None, {"Depth": "1"}).body
    listed = own_app.test_cli_runner().invoke(args=["gate", "services"]).output
    assert "2 MB each, kept for 7 days after its end\n  WebDAV clients see" in listed
