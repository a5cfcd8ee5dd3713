"""The tip jar is put on a site by a real FTP server; no file of the customer's is lost."""

import hashlib
import json
import os
import re
from contextlib import contextmanager
from datetime import UTC, datetime

import pytest
from pyln.proto.bech32 import bech32_decode

from lightningspace import onsite, tipjar
from lightningspace.base import clock
from lightningspace.outside import ftp
from lightningspace.outside.ftp import FtpError, FtpRefused, FtpServer
from lightningspace.sandbox.certificate import self_signed
from lightningspace.sandbox.ftp import FRESH_SITE, SandboxFtp
from tests.outside.test_ftp import PASSWORD, USER, OneSite

THEIRS = b"<?php echo 'My own page';\n"
OLDER = b"<?php\n// An older version of ours.\n"
DAY = datetime.fromtimestamp(clock.now(), UTC).strftime("%Y%m%d")


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    return self_signed(tmp_path_factory.mktemp("tls") / "ftp.pem")


@pytest.fixture
def server(tmp_path, certificate):
    stand_in = SandboxFtp(tmp_path / "www", OneSite(), certificate)
    stand_in.start()
    stand_in.lay_out()
    yield stand_in
    stand_in.stop()


@pytest.fixture
def pages(server):
    return server.root / "clients/client1/web1/web"


@pytest.fixture
def ftp_server(server, certificate):
    return FtpServer(
        server.host, server.port, verify_tls=str(certificate), seconds=20, read_seconds=1
    )


@pytest.fixture
def put(ftp_server):
    def put(settings=None, put_back=False):
        with ftp_server.session(USER, PASSWORD) as session:
            return tipjar.put(session, settings or settings_file(), put_back)

    return put


@pytest.fixture
def take_away(ftp_server):
    def take_away():
        with ftp_server.session(USER, PASSWORD) as session:
            tipjar.take_away(session)

    return take_away


def settings_file(**changes) -> bytes:
    settings = {
        "shop": "https://shop.test",
        "username": "alice",
        "site": "alice.shop.test",
        "mode": "site",
        "title": "Keep this site alive ⚡",
        "text": "",
        "amounts_sat": [100, 1000],
        "min_sat": 1,
        "max_sat": 1_000_000,
        "lightning_address": "alice@shop.test",
        "wallet_address": None,
    }
    return tipjar.settings_file(**(settings | changes))


def marked(unmarked: bytes) -> bytes:
    """The text of an older version of the program, with its mark."""
    head, rest = unmarked.split(b"\n", 1)
    mark = hashlib.sha256(unmarked).hexdigest().encode()
    return head + b"\n// lightning-space tip jar " + mark + b"\n" + rest


def files(pages) -> dict[str, bytes]:
    """The site's files without those of the panel."""
    return {
        path.name: path.read_bytes() if path.is_file() else b"?"
        for path in pages.iterdir()
        if path.name not in FRESH_SITE
    }


def jar(settings=None) -> dict[str, bytes]:
    return {"index.php": tipjar.JAR.text, "tipjar.json": settings or settings_file()}


# -- the files -----------------------------------------------------------------------------


def test_program_has_a_valid_mark_in_its_second_line():
    lines = tipjar.JAR.text.splitlines()

    assert lines[0].startswith(b"<?php")
    assert lines[1] == b"// lightning-space tip jar " + lines[1][-64:]
    assert b"UNSTAMPED" not in tipjar.JAR.text
    assert tipjar.JAR.is_ours(tipjar.JAR.text)
    assert len(tipjar.JAR.text) < ftp.READ_MAX


def test_edited_program_is_the_customers(subtests):
    for content in [
        b"",
        THEIRS,
        OLDER,
        b"<?php\n// lightning-space tip jar " + b"0" * 64 + b"\n",
        tipjar.JAR.text + b"\n",
        tipjar.JAR.text.replace(b"\n", b"\r\n"),
        b"\xef\xbb\xbf" + tipjar.JAR.text,
        tipjar.JAR.text[:-1],
    ]:
        with subtests.test(content=content):
            assert not tipjar.JAR.is_ours(content)


def test_older_version_of_the_program_is_ours():
    assert tipjar.JAR.is_ours(marked(OLDER))


def test_settings_hold_the_qr_code_of_their_modes_address():
    site = json.loads(settings_file())
    wallet = json.loads(settings_file(mode="wallet", wallet_address="me@wallet.test"))
    none = json.loads(settings_file(lightning_address=None))

    assert bech32_decode(site["qr"]["of"])[0] == "lnurl"
    assert site["qr"]["of"] == site["qr"]["of"].upper() != wallet["qr"]["of"]
    assert site["qr"]["svg"].startswith("<svg") and "<script" not in site["qr"]["svg"]
    assert none["qr"] is None


def test_longest_settings_can_be_read_again():
    host = ".".join(["x" * 63] * 3) + ".example"
    longest = settings_file(
        title="⚡" * 1000,
        text="⚡" * 4000,
        mode="wallet",
        wallet_address="x" * 64 + "@" + host,
        lightning_address="alice@" + host,
    )

    assert len(longest) < ftp.READ_MAX
    assert onsite.are_our_settings(longest)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"null",
        b"[]",
        b"{}",
        b'{"mark": null}',
        b"[" * 60_000,
        b"9" * 60_000,
        b"\xff\xfe",
        b'{"a": NaN, "mark": "x"}',
        b'{"title": "\\ud800", "mark": "x"}',
        settings_file().replace("⚡".encode(), b"!"),
        settings_file()[:-3],
    ],
)
def test_settings_that_were_edited_or_are_broken_are_the_customers(content):
    assert not onsite.are_our_settings(content)


# -- putting it there ----------------------------------------------------------------------


def test_jar_is_put_on_a_fresh_site_and_the_panels_files_stay(put, pages):
    assert put() is None

    assert files(pages) == jar()
    assert all((pages / name).read_bytes() == content for name, content in FRESH_SITE.items())


def test_putting_the_jar_again_writes_nothing(put, server):
    put()
    server.commands.clear()

    assert put() is None
    written = {"STOR", "RNFR", "RNTO", "DELE"}
    assert not written & {command for command, _ in server.commands}


def test_new_settings_replace_those_that_nobody_edited(put, pages):
    put()

    assert put(settings_file(title="Thanks!")) is None
    assert files(pages) == jar(settings_file(title="Thanks!"))


def test_older_version_is_replaced(put, pages):
    (pages / "index.php").write_bytes(marked(OLDER))

    assert put() is None
    assert files(pages) == jar()


@pytest.mark.parametrize(
    "name, told",
    [
        ("index.html", "index.html"),
        ("index.htm", "index.htm"),
        ("index.php", "index.php"),
        ("index.html.de", "index.html.de"),
        ("INDEX.HTML", "index.…"),
        ("index.a\nb", "index.a"),
        ("index.<script>", "index.…"),
        ("index." + "x" * 200, "index.…"),
    ],
)
def test_start_page_of_the_customer_stays_and_the_reason_is_told(put, pages, name, told):
    (pages / name).write_bytes(THEIRS)

    assert put() == f"Your site has a start page of its own: {told}."
    assert files(pages) == {name: THEIRS}


@pytest.mark.parametrize("content", [b"", b"x" * (ftp.READ_MAX + 1), tipjar.JAR.text + b" "])
def test_index_php_without_a_valid_mark_is_the_customers(put, pages, content):
    (pages / "index.php").write_bytes(content)

    assert put() == "Your site has a start page of its own: index.php."
    assert files(pages) == {"index.php": content}


@pytest.mark.parametrize("make", [os.mkdir, os.mkfifo, lambda path: os.symlink("/etc", path)])
def test_index_php_that_is_no_file_is_the_customers(put, pages, make):
    make(pages / "index.php")

    assert put() == "Your site has a start page of its own: index.php."
    assert set(os.listdir(pages)) == {"index.php", *FRESH_SITE}


def test_index_php_that_cannot_be_read_is_the_customers(put, pages, server):
    (pages / "index.php").write_bytes(tipjar.JAR.text)
    server.faults.set("frozen", "RETR", times=1)

    assert put() == "Your site has a start page of its own: index.php."


def test_page_that_appears_during_the_upload_stays(put, pages, server):
    upload = server.faults.take

    def customer_uploads(command):
        if command == "STOR":
            (pages / "index.php").write_bytes(THEIRS)
        return upload(command)

    server.faults.take = customer_uploads

    assert put() == "Your site has a start page of its own: index.php."
    assert files(pages) == {"index.php": THEIRS}


def test_too_many_files_to_be_listed_count_as_a_site_of_the_customers(put, pages):
    for number in range(700):
        (pages / f"{'x' * 100}-{number}").touch()

    assert put() == tipjar.TOO_MUCH
    assert "index.php" not in os.listdir(pages)


# -- putting it back -------------------------------------------------------------------------


def test_put_back_keeps_every_start_page_under_another_name(put, pages):
    for name in ("index.php", "index.html", "index.html.de"):
        (pages / name).write_bytes(name.encode())

    assert put(put_back=True) is None

    assert files(pages) == jar() | {
        f"index.old-{DAY}-1.php": b"index.php",
        f"index.old-{DAY}-1.html": b"index.html",
        f"index.old-{DAY}-1.html.de": b"index.html.de",
    }
    assert put() is None  # the kept page is no start page any more


def test_put_back_again_overwrites_no_kept_page(put, pages):
    for number in range(3):
        (pages / "index.php").write_bytes(THEIRS + str(number).encode())
        assert put(put_back=True) is None

    kept = {name: content for name, content in files(pages).items() if ".old-" in name}
    assert kept == {f"index.old-{DAY}-{n + 1}.php": THEIRS + str(n).encode() for n in range(3)}


def test_put_back_moves_a_link_and_not_its_target(put, pages):
    (pages / "app.php").write_bytes(THEIRS)
    (pages / "index.php").symlink_to("app.php")

    assert put(put_back=True) is None
    assert (pages / "app.php").read_bytes() == THEIRS
    assert (pages / f"index.old-{DAY}-1.php").is_symlink()
    assert (pages / "index.php").read_bytes() == tipjar.JAR.text


def test_put_back_moves_an_unreadable_page(put, pages, server):
    (pages / "index.php").write_bytes(THEIRS)
    server.faults.set("frozen", "RETR", times=1)

    assert put(put_back=True) is None
    assert files(pages) == jar() | {f"index.old-{DAY}-1.php": THEIRS}


def test_put_back_moves_only_names_of_start_pages(put, pages):
    (pages / "index.a b").write_bytes(THEIRS)

    assert put(put_back=True) is None
    assert files(pages) == jar() | {"index.a b": THEIRS}


# -- edited settings -------------------------------------------------------------------------


EDITED = settings_file().replace(b"Keep this site alive", b"Buy me a coffee")
BROKEN = settings_file().replace(b'"title"', b'"title', 1)


@pytest.mark.parametrize("edited", [EDITED, BROKEN])
def test_settings_edited_by_hand_stay_until_others_are_wanted(put, pages, edited):
    put()
    (pages / "tipjar.json").write_bytes(edited)

    assert put() is None
    assert files(pages) == jar(edited)

    new = settings_file(title="New")
    assert put(new) is None
    assert files(pages) == jar(new) | {f"tipjar.old-{DAY}-1.json": edited}


@pytest.mark.parametrize("content", [b"", b"{}", b"mine", b"x" * (ftp.READ_MAX + 1)])
def test_settings_file_that_was_never_ours_is_kept(put, pages, content):
    (pages / "tipjar.json").write_bytes(content)

    assert put() is None
    assert files(pages) == jar() | {f"tipjar.old-{DAY}-1.json": content}


# -- taking it away --------------------------------------------------------------------------


def test_jar_is_taken_away(put, take_away, pages):
    put()
    take_away()
    take_away()

    assert files(pages) == {}


def test_edited_files_are_not_taken_away(put, take_away, pages):
    put()
    (pages / "index.php").write_bytes(tipjar.JAR.text + b"mine")
    (pages / "tipjar.json").write_bytes(EDITED)
    take_away()

    assert files(pages) == {"index.php": tipjar.JAR.text + b"mine", "tipjar.json": EDITED}


# -- a full disk, left-overs, hostile names ----------------------------------------------------


@pytest.mark.parametrize("bytes_left", [0, 100, len(settings_file()) + 10])
def test_full_space_is_reported_and_leaves_nothing_behind(put, pages, server, bytes_left):
    server.space_bytes = bytes_left

    assert put() == tipjar.FULL
    assert files(pages) == {}

    server.space_bytes = None
    assert put() is None
    assert files(pages) == jar()


def test_existing_jar_survives_a_full_disk(put, pages, server):
    put()
    server.space_bytes = 0

    assert put(settings_file(title="New")) == tipjar.FULL
    assert files(pages) == jar()


LEFT_OVER = "tipjar-upload-0123456789abcdef.tmp"


def test_left_overs_of_killed_uploads_are_removed(put, take_away, pages):
    (pages / LEFT_OVER).write_bytes(b"half")
    put()
    assert files(pages) == jar()

    (pages / LEFT_OVER).write_bytes(b"half")
    take_away()
    assert files(pages) == {}


def test_left_overs_beside_a_start_page_of_the_customer_are_removed(put, pages):
    (pages / LEFT_OVER).write_bytes(b"half")
    (pages / "index.html").write_bytes(THEIRS)
    put()

    assert files(pages) == {"index.html": THEIRS}


@pytest.mark.parametrize(
    "name",
    [
        "tipjar-upload-x.tmp",
        "tipjar-upload-0123456789abcdef.tmp.php",
        "x\ntipjar-upload-0123456789abcdef.tmp",
        "x\nindex.html",
        "\udcff\udcfe",
        "..index.php",
    ],
)
def test_strange_names_do_no_harm(put, take_away, pages, name):
    """Not even a directory with the name of a left-over does harm."""
    (pages / LEFT_OVER).mkdir()
    (pages / name).write_bytes(THEIRS)

    with_jar = put() is None
    take_away()

    assert with_jar == ("index.html" not in name)
    assert files(pages) == {name: THEIRS, LEFT_OVER: b"?"}


def test_name_split_over_two_lines_of_a_listing_does_no_harm(put, pages):
    """A listing has one name in each line, but a name may span two lines."""
    (pages / "tipjar.json\n..").write_bytes(THEIRS)

    with pytest.raises(FtpRefused):
        put()
    assert files(pages)["tipjar.json\n.."] == THEIRS


# -- killed at every command -------------------------------------------------------------------


@contextmanager
def killed_at(server, index):
    """Cut the connection once, after `index` commands and one more."""
    server.faults.set("cut-after", passes=index, times=1)
    try:
        yield
    finally:
        server.faults.clear()


def left_behind(pages) -> dict:
    """The files and their modes, without random parts of names."""
    return {
        re.sub("upload-[0-9a-f]+", "upload-", path.name): (path.read_bytes(), path.stat().st_mode)
        for path in pages.iterdir()
    }


def every_kill(server, pages, prepare, act, check):
    """Run `act` with the connection cut at each command in turn, and then once more without.

    Commands up to the login are left out, as nothing was read before. If a kill leaves the same
    files as the previous one, its command only read, and `act` is not repeated.
    """
    left = None
    for index in range(5, 200):
        prepare()
        was_killed = False
        try:
            with killed_at(server, index):
                act()
        except FtpError:
            was_killed = True
        check(was_killed)
        before, left = left, left_behind(pages)
        if was_killed and left == before:
            continue
        act()
        check(False)
        if not was_killed:
            assert index > 10
            return
    raise AssertionError("more commands than expected")


def test_upload_killed_anywhere_is_completed_by_a_repeat(put, pages, server):
    new = settings_file(title="New")

    def prepare():
        for path in pages.iterdir():
            path.unlink()
        (pages / "index.php").write_bytes(marked(OLDER))
        (pages / "tipjar.json").write_bytes(settings_file())

    def check(is_half):
        there = files(pages)
        if is_half:  # the jar works, with the old or the new version of each file
            assert there["index.php"] in (marked(OLDER), tipjar.JAR.text)
            assert there["tipjar.json"] in (settings_file(), new)
        else:
            assert there == jar(new)

    every_kill(server, pages, prepare, lambda: put(new), check)


def test_put_back_killed_anywhere_loses_nothing(put, pages, server):
    mine = {"index.php": THEIRS, "index.html": b"<p>mine", "tipjar.json": b"{mine}"}

    def prepare():
        for path in pages.iterdir():
            path.unlink()
        for name, content in mine.items():
            (pages / name).write_bytes(content)

    def check(is_half):
        there = files(pages)
        for content in mine.values():
            assert content in there.values()
        if not is_half:
            assert len(there) == 5 and there.items() >= jar().items()

    every_kill(server, pages, prepare, lambda: put(put_back=True), check)


def test_removal_killed_anywhere_is_completed(take_away, pages, server):
    def prepare():
        for name, content in jar().items():
            (pages / name).write_bytes(content)
        (pages / "mine.html").write_bytes(THEIRS)

    def check(is_half):
        there = files(pages)
        assert there.pop("mine.html") == THEIRS
        assert is_half or there == {}

    every_kill(server, pages, prepare, take_away, check)
