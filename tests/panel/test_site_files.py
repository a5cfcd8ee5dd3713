"""Files sent in the browser go online whole, in turns, and over no other file of the owner."""

import io
import json
import os
import zipfile
from itertools import count
from pathlib import Path

import pytest

from lightningspace import tipjar
from lightningspace.base.models import Account, Service, Upload
from lightningspace.panel import reconcile, site_files
from lightningspace.rules import accounts, uploads, wanted
from lightningspace.sandbox.ftp import FRESH_SITE
from lightningspace.worker import Worker
from tests.base.test_archive import packed
from tests.conftest import at_once, eventually, open_account, with_settings

PAGE = b"<h1>Alice</h1>"
SITE = {"index.html": PAGE, "css/a.css": b"a {}", "images/a b/\u00fc.png": bytes(100_000)}


@pytest.fixture(autouse=True)
def fair(shop_with_ftp, ftp_server, time_machine):
    """Give every test here an FTP server and a clock that stands still."""
    return ftp_server


@pytest.fixture
def pages(ftp_server):
    """The files of alice's site by path, without those that ISPConfig has put there."""

    class Pages:
        @property
        def path(self) -> Path:
            ftp_server.lay_out()
            return ftp_server.root / "clients/client1/web1/web"

        def __call__(self) -> dict[str, bytes]:
            files = [path for path in self.path.rglob("*") if path.is_file()]
            found = {str(path.relative_to(self.path)): path.read_bytes() for path in files}
            return {name: each for name, each in found.items() if FRESH_SITE.get(name) != each}

    return Pages()


@pytest.fixture
def work(this_shop, time_machine):
    """Reconcile alice until nothing is due; returns the number of rounds."""

    def work(account) -> int:
        for rounds in count():
            if Account.get_by_id(account.id).reconcile_at is None:
                return rounds
            assert rounds < 40
            reconcile.account(this_shop, account.id)
            time_machine.forward(1)

    return work


@pytest.fixture
def send(this_shop, alice):
    """Send a ZIP with these files, or a file of another kind."""

    def send(files, name="site.zip", replaces=False):
        content = files if isinstance(files, bytes) else packed(*files.items())
        account = Account.get_by_id(alice.id)
        return uploads.receive(this_shop, account, name, io.BytesIO(content), replaces)

    return send


def upload() -> Upload:
    return Upload.get()


def told() -> tuple:
    """The upload's outcome, how many files are online, and which files the outcome is about."""
    row = upload()
    return row.outcome, row.done, json.loads(row.about)


def kept(this_shop) -> list[str]:
    directory = this_shop.config.uploads_dir
    return os.listdir(directory) if directory.is_dir() else []


def jar() -> Service:
    return Service.get(Service.kind == "tipjar")


# -- on the site -------------------------------------------------------------------------


@pytest.mark.each_database
def test_a_zip_goes_online_and_leaves_nothing_behind(alice, send, work, pages, this_shop, panel):
    work(alice)
    send(SITE)
    spool = this_shop.config.uploads_dir / upload().id
    assert spool.stat().st_mode & 0o777 == 0o600 and upload().total == 3
    work(alice)
    assert told() == ("done", 3, [])
    assert pages() == SITE
    assert kept(this_shop) == []
    assert not [each for each in panel.records("ftp") if "tip_" in each["username"]]


def test_a_page_goes_online_as_index_html(alice, send, work, pages):
    send(PAGE, name="About me.HTM")
    work(alice)
    assert pages() == {"index.html": PAGE}


def test_the_start_page_takes_the_tip_jars_place(alice, send, work, pages, subtests):
    work(alice)
    assert set(pages()) == {"index.php", "tipjar.json"}
    for name in ("index.html", "index.php"):
        with subtests.test(name):
            send({name: PAGE, "tipjar.json": b"{}"}, replaces=True)
            work(alice)
            assert told()[0] == "done" and pages() == {name: PAGE, "tipjar.json": b"{}"}
            assert jar().note == f"Your site has a start page of its own: {name}."
            # As the page of tips offers: the owner's page is renamed and kept.
            wanted.configure(alice.id, "tipjar", jar().name, put_back=True)
            work(alice)
            assert pages()["index.php"] == tipjar.JAR.text and PAGE in pages().values()
            for path in pages.path.glob("*.old-*"):
                path.unlink()


def test_without_a_start_page_the_tip_jar_stays(alice, send, work, pages):
    send({"photo.jpg": b"x"})
    work(alice)
    assert set(pages()) == {"index.php", "tipjar.json", "photo.jpg"} and jar().note is None


def test_the_start_page_is_not_put_aside_for_a_jar_that_was_to_be_put_back(
    alice, send, work, pages
):
    work(alice)
    wanted.configure(alice.id, "tipjar", jar().name, put_back=True)
    send({"index.html": PAGE})
    work(alice)
    assert pages() == {"index.html": PAGE}


@with_settings(TIP_JARS="false")
def test_an_upload_needs_no_tip_jar(alice, send, work, pages):
    send(SITE)
    work(alice)
    assert pages() == SITE


# -- files that are there ------------------------------------------------------------------


def test_files_of_the_owner_are_replaced_only_with_consent(alice, send, work, pages, this_shop):
    work(alice)
    theirs = {f"a/{n}.txt": b"theirs" for n in range(7)} | {".htaccess": b"# theirs"}
    theirs["Åх.html"] = b"theirs"
    for name, content in theirs.items():
        (pages.path / name).parent.mkdir(exist_ok=True)
        (pages.path / name).write_bytes(content)
    (pages.path / "link.txt").symlink_to("a/1.txt")
    before = pages()
    order = ("b.txt", "Åх.html", "a/new.txt", *theirs)
    send({name: b"new" for name in order} | {"link.txt": b"new"})
    work(alice)
    assert told() == ("in the way", 0, ["Åх.html", "a/0.txt", "a/1.txt", "a/2.txt", "a/3.txt"])
    assert pages() == before

    uploads.replace(this_shop, alice, upload().id)
    work(alice)
    assert told() == ("done", 12, [])
    assert set(pages()) == {"index.php", "tipjar.json", "b.txt", "a/new.txt", "link.txt", *theirs}
    assert pages()["a/1.txt"] == pages()[".htaccess"] == pages()["link.txt"] == b"new"
    assert not (pages.path / "link.txt").is_symlink()
    with pytest.raises(uploads.Gone):
        uploads.replace(this_shop, alice, upload().id)


def test_files_of_the_server_and_the_shop_are_replaced_without_asking(alice, send, work, pages):
    work(alice)
    site = {name: b"mine" for name in (*FRESH_SITE, "tipjar.json", "index.php")}
    send(site)
    work(alice)
    assert told() == ("done", 5, []) and pages() == site
    send(site)
    work(alice)
    assert told() == ("in the way", 0, ["favicon.ico", "robots.txt", "tipjar.json", "index.php"])


def test_a_directory_that_is_too_full_to_be_listed_is_looked_at_file_by_file(
    alice, send, work, pages
):
    work(alice)
    for number in range(1000):
        (pages.path / f"{number:0>100}").write_bytes(b"")
    (pages.path / "a").write_bytes(b"theirs")
    send({"a": b"new", "b": b"new"})
    work(alice)
    assert told() == ("in the way", 0, ["a"]) and "b" not in pages()


def test_a_file_that_the_server_does_not_take_is_named(alice, send, work, pages, this_shop):
    work(alice)
    (pages.path / "a").mkdir()
    (pages.path / "b").write_bytes(b"")
    for files, about in (({"0": b"", "a": b""}, "a"), ({"0": b"", "b/c": b""}, "b/c")):
        send(files, replaces=True)
        work(alice)
        assert told() == ("refused", 1, [about])
    assert kept(this_shop) == [] and not list(pages.path.glob("*.tmp"))


def test_a_full_site_is_reported(alice, send, work, ftp_server, pages):
    work(alice)
    ftp_server.space_bytes = 50_000
    send({"a": bytes(10_000), "b": os.urandom(100_000)})
    work(alice)
    assert told() == ("full", 1, []) and pages()["a"] == bytes(10_000)
    assert "b" not in pages() and not list(pages.path.glob("*.tmp"))


# -- in turns ------------------------------------------------------------------------------


MANY = {f"{n // 10}/{n}.txt": str(n).encode() for n in range(60)}


@pytest.fixture
def short_turns(monkeypatch):
    monkeypatch.setattr(site_files, "TURN_STEPS", 20)


def test_many_files_take_several_turns(short_turns, alice, send, work, pages, this_shop):
    work(alice)
    send(MANY)
    reconcile.account(this_shop, alice.id)
    # The rest waits behind other accounts, and is due at once.
    assert upload().done == 20 and not jar().tries
    assert reconcile.due_accounts() == {alice.id: reconcile.UPLOAD}
    assert work(alice) == 2
    assert told()[0] == "done" and MANY.items() <= pages().items()
    send(MANY | {"60": b""})
    work(alice)
    assert told()[0] == "in the way"


def test_files_compared_in_an_earlier_turn_are_remembered(
    short_turns, alice, send, work, pages, this_shop
):
    work(alice)
    for number in range(6):
        (pages.path / str(number)).mkdir()
    (pages.path / "5/59.txt").write_bytes(b"theirs")
    send(MANY)
    reconcile.account(this_shop, alice.id)
    assert (upload().compared, upload().done) == (20, 0)
    work(alice)
    assert told() == ("in the way", 0, ["5/59.txt"])


def test_after_a_lost_connection_an_upload_goes_on_where_it_was(
    alice, send, work, pages, ftp_server, time_machine, this_shop
):
    work(alice)
    send(MANY)
    for command in ("STOR", "RNTO", "MKD", "SIZE"):
        for kind in ("cut-before", "cut-after"):
            before = upload().done
            ftp_server.faults.set(kind, command, passes=2, times=1)
            reconcile.account(this_shop, alice.id)
            assert upload().done > before and jar().tries == 1
            time_machine.forward(2)
    ftp_server.faults.clear()
    work(alice)
    assert told()[0] == "done" and MANY.items() <= pages().items()
    assert not list(pages.path.glob("*.tmp"))


def test_a_change_of_the_account_does_not_wait_for_an_upload(
    alice, send, pages, work, this_shop, monkeypatch
):
    work(alice)
    monkeypatch.setattr(site_files, "NOTE_SECONDS", 0)
    send(MANY)
    put = site_files._Turn._put

    def put_and_suspend(turn, archive, file):
        put(turn, archive, file)
        if turn.upload.done == 7:
            accounts.suspend(alice.id)

    monkeypatch.setattr(site_files._Turn, "_put", put_and_suspend)
    reconcile.account(this_shop, alice.id)
    assert upload().done == 8 and upload().outcome is None
    work(alice)
    assert told() == ("off", 8, []) and kept(this_shop) == []


def test_a_new_upload_replaces_one_under_way(short_turns, alice, send, work, pages, this_shop):
    work(alice)
    send(MANY)
    reconcile.account(this_shop, alice.id)
    send(SITE)
    assert kept(this_shop) == [upload().id]
    work(alice)
    assert told() == ("done", 3, []) and len(pages()) == 20 + 3


@pytest.mark.each_database
def test_one_of_many_simultaneous_uploads_is_kept(alice, send, this_shop):
    at_once(*[lambda: send(MANY)] * 4)
    assert kept(this_shop) == [upload().id]


def test_workers_put_uploads_online_by_themselves(alice, send, pages, at_work, monkeypatch):
    send(SITE)
    eventually(lambda: upload().outcome == "done")
    assert pages() == SITE


def test_uploads_have_threads_of_their_own(this_shop):
    pools = Worker(this_shop).pools
    assert pools[reconcile.UPLOAD] not in (pools[reconcile.OPENING], pools[reconcile.CHANGE])


# -- what is refused, given up and removed -------------------------------------------------


def test_a_site_that_is_off_takes_no_upload(alice, send, this_shop):
    for turn_off in (
        lambda: wanted.switch(alice.id, "site", "alice.shop.test", False),
        lambda: accounts.block(alice.id, "See the terms."),
        lambda: accounts.suspend(alice.id),
    ):
        turn_off()
        with pytest.raises(uploads.SiteOff):
            send(SITE)
    accounts.close(alice.id)
    with pytest.raises((wanted.AccountClosed, uploads.SiteOff)):
        send(SITE)
    assert kept(this_shop) == [] and not Upload.select().exists()


def test_a_refused_upload_is_not_kept(alice, send, this_shop, subtests):
    for name, content, why in (
        ("a.zip", b"", "empty"),
        ("a.zip", b"PK", "cannot read"),
        ("a.zip", b"<html>", "cannot read"),
        ("a.php", b"<?php", "Choose a ZIP"),
        ("index.html.exe", b"MZ", "Choose a ZIP"),
        ("", b"x", "Choose a ZIP"),
        ("a.html", bytes(71 * 2**20), "larger than the 70 MB"),
    ):
        with subtests.test(name, why=why), pytest.raises(uploads.Unusable, match=why):
            send(content, name=name)
    assert kept(this_shop) == [] and not Upload.select().exists()


def test_customers_cannot_fill_the_disk(alice, send, this_shop, monkeypatch):
    send(SITE)
    monkeypatch.setattr(uploads, "STORED_BYTES_MAX", 500)
    with pytest.raises(uploads.NoRoom):
        send(SITE)
    monkeypatch.setattr(uploads, "FREE_BYTES_MIN", 2**60)
    with pytest.raises(uploads.NoRoom):
        send(PAGE, name="a.html")
    assert len(kept(this_shop)) == 1


def test_uploads_that_wait_for_their_owners_answer_make_room(
    alice, send, this_shop, time_machine, monkeypatch
):
    for number in range(3):
        other = open_account(this_shop, f"other{number}")
        reconcile.account(this_shop, other.id)
        account = Account.get_by_id(other.id)
        uploads.receive(this_shop, account, "a.zip", io.BytesIO(packed(("a", b""))), False)
        time_machine.forward(1)
    waiting = Upload.select().order_by(Upload.sent_at).limit(2)
    facts = {"outcome": "in the way", "ended_at": 1}
    Upload.update(facts).where(Upload.id << [each.id for each in waiting]).execute()
    most = sum((this_shop.config.uploads_dir / name).stat().st_size for name in kept(this_shop))
    monkeypatch.setattr(uploads, "STORED_BYTES_MAX", most)
    send({"b": b""})
    outcomes = [each.outcome for each in Upload.select().order_by(Upload.sent_at)]
    assert outcomes == ["lost", "in the way", None, None] and len(kept(this_shop)) == 3


def test_an_unwritable_directory_is_reported_as_no_room(alice, send, this_shop):
    this_shop.config.uploads_dir.write_bytes(b"")
    with pytest.raises(uploads.NoRoom):
        send(SITE)
    assert not Upload.select().exists()


def test_an_upload_that_the_server_never_takes_is_given_up_after_an_hour(
    alice, send, work, ftp_server, this_shop, time_machine
):
    work(alice)
    ftp_server.down()
    send(SITE)
    os.utime(this_shop.config.uploads_dir / upload().id, (1, 1))
    reconcile.account(this_shop, alice.id)
    uploads.tidy(this_shop)
    assert told() == (None, 0, []) and kept(this_shop)
    time_machine.forward(uploads.LASTS_SECONDS)
    uploads.tidy(this_shop)
    assert told() == ("late", 0, []) and not kept(this_shop)
    time_machine.forward(uploads.SHOWN_SECONDS)
    uploads.tidy(this_shop)
    assert not Upload.select().exists()


def test_uploads_dated_ahead_by_a_wrong_clock_are_removed(alice, send, this_shop):
    send(SITE)
    Upload.update(sent_at=Upload.sent_at + 10**6).execute()
    os.utime(this_shop.config.uploads_dir / upload().id, (2**32, 2**32))
    uploads.tidy(this_shop)
    assert told() == ("late", 0, []) and not kept(this_shop)
    Upload.update(ended_at=Upload.ended_at + 10**6).execute()
    uploads.tidy(this_shop)
    assert not Upload.select().exists()


def test_an_upload_whose_file_is_gone_is_reported(alice, send, work, this_shop):
    send(SITE)
    (this_shop.config.uploads_dir / upload().id).unlink()
    work(alice)
    assert told() == ("lost", 0, [])


def test_an_upload_whose_file_is_corrupt_is_reported(alice, send, work, this_shop):
    stored = packed(("a.txt", b"spoiled"), ("b.txt", b"b"), compression=zipfile.ZIP_STORED)
    for spoil in (lambda content: content[:-9], lambda content: content.replace(b"sp", b"SP")):
        send(stored)
        path = this_shop.config.uploads_dir / upload().id
        path.write_bytes(spoil(path.read_bytes()))
        work(alice)
        assert told() == ("lost", 0, [])


def test_files_that_nobody_needs_are_removed_after_an_hour(alice, send, this_shop, time_machine):
    uploads.tidy(this_shop)  # there is no directory yet
    send(SITE)
    left, fresh, others = "0" * 16, "f" * 16, "app.py"
    for name in (left, fresh, others):
        (this_shop.config.uploads_dir / name).write_bytes(b"")
    (this_shop.config.uploads_dir / ("1" * 16)).mkdir()
    for path in this_shop.config.uploads_dir.iterdir():
        if path.name not in (fresh, upload().id):
            os.utime(path, (1, 1))
    uploads.tidy(this_shop)
    assert sorted(kept(this_shop)) == sorted([fresh, others, "1" * 16, upload().id])


def test_an_upload_goes_with_its_account(alice, send, work, this_shop):
    send(SITE)
    accounts.close(alice.id)
    reconcile.account(this_shop, alice.id)
    assert not Account.select().exists() and not Upload.select().exists()
    assert kept(this_shop) == []
