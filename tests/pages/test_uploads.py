"""The form for a ZIP or a page: who may send how much, and the answers."""

import io
import json
import os
import re

import pytest

from lightningspace.base import models
from lightningspace.base.clock import now
from lightningspace.base.models import Account, Service, Upload
from lightningspace.pages.uploads import BODY_BYTES_MAX, READ_BYTES_MAX
from lightningspace.panel import reconcile
from lightningspace.rules import accounts, wanted
from lightningspace.rules.uploads import Outcome
from tests.base.test_archive import END, LIST, SITE, link, packed
from tests.conftest import csrf_token, enter, open_account, with_settings

MB = 2**20


@pytest.fixture
def browser(client, this_shop, alice):
    """Alice's browser. The worker can reach her site."""
    with models.transaction():
        wanted.want_uploads(this_shop, alice)
    return enter(client, alice)


def send(browser, content: bytes, name="site.zip", **fields):
    token = csrf_token(browser.get("/account/upload").text)
    data = {"csrf_token": token, "file": (io.BytesIO(content), name)} | fields
    return browser.post("/account/upload", data=data)


def kept(this_shop) -> list[str]:
    directory = this_shop.config.uploads_dir
    return os.listdir(directory) if directory.is_dir() else []


def beside_the_field(page: str) -> str:
    return re.search(r'id="file-error" role="alert">(.*?)</small>', page, re.S)[1]


@pytest.mark.each_database
def test_a_zip_is_kept_and_the_page_waits_for_the_worker(browser, this_shop):
    answer = send(browser, packed(("site/index.html", b""), ("site/a.css", b"")))
    assert (answer.status_code, answer.location) == (303, "/account/upload")
    page = browser.get(answer.location).text
    assert "Everything lay in the directory “site”" in page
    assert "Putting 2 files online" in page and 'hx-trigger="every 2s"' in page
    assert '<meta http-equiv="refresh"' in page
    assert kept(this_shop) == [Upload.get().id]
    Upload.update(done=1).execute()
    assert "Putting 1 of 2 files online…" in browser.get("/account/upload/status").text
    Upload.update(done=2, outcome=Outcome.DONE, ended_at=now()).execute()
    Service.update(applied_revision=Service.revision, applied_at=now()).execute()
    for path in ("/account/upload/status", "/account/upload", "/account"):
        page = browser.get(path).text
        assert "✓ 2 files are online" in page and "/account/upload/status" not in page


def test_a_zip_without_a_start_page_is_reported(browser):
    send(browser, packed(("photo.jpg", b"")))
    assert "There is no index.html or index.php" in browser.get("/account/upload").text


def million() -> bytes:
    """A ZIP that claims to have a million files."""
    entry = LIST + bytes(24) + b"\1" + bytes(17) + b"a"
    size = (len(entry) * 10**6).to_bytes(4, "little")
    return b"PK\3\4" + entry * 10**6 + END + bytes(4) + b"\xff" * 4 + size + bytes(6)


BAD = {
    "65 MB": (lambda: b"PK" + bytes(65 * MB), "site.zip", 413, "larger than 64 MB"),
    "a million files": (million, "site.zip", 400, "more than 5,000 files"),
    "a link": (
        lambda: packed((link("a"), b"/etc/passwd")),
        "site.zip",
        400,
        "“a” in this ZIP is a l",
    ),
    "absolute": (
        lambda: packed(("/etc/passwd", b"")),
        "a.zip",
        400,
        "“/etc/passwd” in this ZIP leads",
    ),
    "markup": (lambda: packed(("../<b>", b"")), "a.zip", 400, "“../&lt;b&gt;” in this ZIP leads"),
    "no ZIP": (lambda: b"Rar!", "site.zip", 400, "cannot read this as a ZIP"),
    "another kind": (lambda: b"\xff\xd8", "<i>.jpg", 400, "Choose a ZIP file, or a page"),
    "empty": (lambda: b"", "a.html", 400, "This file is empty"),
    "no file": (lambda: b"", "", 400, "Choose a ZIP file or a page that is on your device"),
}


@with_settings(UPLOADS_LIMIT="100 per minute")
def test_a_bad_upload_is_refused_beside_the_field(browser, this_shop, subtests):
    for what, (content, name, status, why) in BAD.items():
        with subtests.test(what):
            answer = send(browser, content(), name=name)
            assert answer.status_code == status and why in beside_the_field(answer.text)
            assert re.search('<input [^>]*aria-invalid="true"[^>]* autofocus [^>]*>', answer.text)
            assert kept(this_shop) == [] and not Upload.select().exists()


class Watched(io.BytesIO):
    """A body that knows whether it was read."""

    is_read = False

    def readinto(self, buffer):
        self.is_read = True
        return super().readinto(buffer)


def sent_raw(client, length: int) -> tuple:
    """Send a form of that length; return the answer, and whether any of it was read."""
    body = Watched(b"--x\r\n")
    answer = client.post(
        "/account/upload",
        input_stream=body,
        content_type="multipart/form-data; boundary=x",
        environ_overrides={"CONTENT_LENGTH": str(length)},
    )
    return answer, body.is_read


@with_settings(UPLOADS_LIMIT="2 per day")
def test_the_body_of_a_refused_upload_is_not_read(app, browser):
    stranger = app.test_client()
    answer, is_read = sent_raw(stranger, BODY_BYTES_MAX)
    assert answer.location.startswith("/login") and not is_read
    answer, is_read = sent_raw(browser, READ_BYTES_MAX)
    assert answer.status_code == 400 and is_read  # the client hangs up in the middle
    answer, is_read = sent_raw(browser, READ_BYTES_MAX + 1)
    assert answer.status_code == 413 and not is_read
    answer, is_read = sent_raw(browser, 100)  # the third upload
    assert answer.status_code == 429 and not is_read


def test_other_forms_keep_their_small_size_limit(browser):
    for path in ("/account/upload/replace", "/account/extend", "/login"):
        assert browser.post(path, data={"x": "x" * 70_000}).status_code == 413


def test_an_upload_from_another_site_stores_nothing(browser, this_shop):
    answer = browser.post("/account/upload", data={"file": (io.BytesIO(SITE), "a.zip")})
    assert answer.status_code == 400 and kept(this_shop) == []


def test_files_in_the_way_are_named_and_can_be_replaced(browser, alice, this_shop):
    send(browser, SITE)
    names = ["<b>.txt", "a b/ü.png"]
    facts = {"outcome": Outcome.IN_THE_WAY, "about": json.dumps(names), "ended_at": now()}
    Upload.update(facts).execute()
    page = browser.get("/account/upload").text
    assert "<code>&lt;b&gt;.txt</code>, <code>a b/ü.png</code>." in page
    form = {"csrf_token": csrf_token(page), "id": Upload.get().id}

    bob = open_account(this_shop, "bobby")
    reconcile.account(this_shop, bob.id)
    client = browser.application.test_client()
    enter(client, Account.get_by_id(bob.id))
    token = csrf_token(client.get("/account").text)
    assert client.post("/account/upload/replace", data=form | {"csrf_token": token}).location
    assert "no longer here" in client.get("/account/upload").text
    assert Upload.get().outcome == Outcome.IN_THE_WAY

    assert browser.post("/account/upload/replace", data=form).status_code == 303
    assert Upload.get().outcome is None and Upload.get().compared == 2
    browser.post("/account/upload/replace", data=form)
    assert "no longer here" in browser.get("/account/upload").text


def test_each_outcome_of_an_upload_is_explained(browser, subtests):
    send(browser, SITE)
    words = {
        Outcome.FULL: "Your web space is full. 1 of 2 files is online.",
        Outcome.REFUSED: "The server refused <code>&lt;a&gt;</code>. 1 of 2 files is online.",
        Outcome.OFF: "Your site was switched off meanwhile. 1 of 2 files is online.",
        Outcome.LATE: "The server could not be reached for an hour. 1 of 2 files is online.",
        Outcome.LOST: "What you sent was lost on our side. 1 of 2 files is online.",
        Outcome.DONE: "✓ 2 files are online",
        Outcome.IN_THE_WAY: "your site has files of the same names",
    }
    assert words.keys() == set(Outcome)
    for outcome, text in words.items():
        with subtests.test(outcome.value):
            facts = {"outcome": outcome, "ended_at": now(), "done": 1, "about": '["<a>"]'}
            Upload.update(facts).execute()
            page = re.sub(r"\s+", " ", browser.get("/account/upload/status").text)
            assert text in page and ("every 2s" in page) == (outcome == Outcome.DONE)


def test_an_upload_says_that_it_replaced_the_tip_jar(browser):
    send(browser, SITE)
    Upload.update(outcome=Outcome.DONE, ended_at=now()).execute()
    facts = {"applied_revision": Service.revision, "applied_at": now(), "note": "Yours is there."}
    Service.update(facts).where(Service.kind == "tipjar").execute()
    page = browser.get("/account/upload/status").text
    assert "Yours is there. So the tip jar is not your start page." in page


def test_a_site_that_is_off_has_no_upload_form(browser, alice, this_shop):
    accounts.block(alice.id, "See the terms.")
    page = browser.get("/account/upload").text
    assert "The site is off" in page and 'type="file"' not in page
    answer = send(browser, SITE)
    assert answer.status_code == 409 and kept(this_shop) == []


def test_a_shop_without_ftp_has_no_upload_form(client, alice, this_shop):
    enter(client, alice)
    assert 'type="file"' not in client.get("/account").text
    page = client.get("/account/upload").text
    assert "by FTP or SSH" in page and 'type="file"' not in page
    token = csrf_token(client.get("/account").text)
    data = {"csrf_token": token, "file": (io.BytesIO(SITE), "a.zip")}
    assert client.post("/account/upload", data=data).status_code == 404
    assert kept(this_shop) == []
