"""What owners send for their sites by the browser: a file, until the worker has put it there.

An account has one at most: a new one takes the place of the one before.
"""

import json
import logging
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from enum import StrEnum
from pathlib import Path
from typing import BinaryIO

from lightningspace.base import archive
from lightningspace.base.archive import Archive, Unusable
from lightningspace.base.clock import now
from lightningspace.base.models import Account, Upload, transaction
from lightningspace.base.refusals import Refusal
from lightningspace.rules import hostnames, services, wanted
from lightningspace.shop import Shop

logger = logging.getLogger(__name__)

BYTES_MAX = 64 * 2**20
# The limit however large the site is: all of it is unpacked once while its owner waits.
UNPACKED_BYTES_MAX = 256 * 2**20
# How much all of them together may take, and how much must stay free on the disk.
STORED_BYTES_MAX, FREE_BYTES_MIN = 2 * 2**30, 2**30
# How long the worker tries to put one on the site, and how long its outcome is shown.
LASTS_SECONDS = SHOWN_SECONDS = 60 * 60
ID = re.compile("[0-9a-f]{16}")
PAGE_ENDINGS = (".html", ".htm")


class Outcome(StrEnum):
    """IN_THE_WAY: nothing was done, as files of these names are there. REFUSED: the server does not
    take this file. OFF: the site was switched off meanwhile. LATE: the server was not to be had.
    LOST: the file is gone from our disk, perhaps to make room while it waited for an answer.
    """

    DONE = "done"
    IN_THE_WAY = "in the way"
    FULL = "full"
    REFUSED = "refused"
    OFF = "off"
    LATE = "late"
    LOST = "lost"


class SiteOff(Refusal):
    """The site is off, by its owner, the calendar or the operator."""

    field = "file"
    text = "Your site is off: nothing can be put online until it is on again."


class NoRoom(Refusal):
    """The shop keeps as much as it can."""

    status, code, field = 503, "service_unavailable", "file"
    text = "Too much is being sent right now. Please try again in a few minutes."


class Gone(Refusal):
    """There is no such upload that waits for an answer."""

    text = "What you sent is no longer here. Please send it again."


def of_account(account_id: str) -> Upload | None:
    return Upload.get_or_none(Upload.account == account_id)


def receive(shop: Shop, account: Account, name: str, sent: BinaryIO, replaces: bool) -> Archive:
    """Keep what an owner has sent, have the worker put it on the site, and return what is in it.

    A page, by its `name`, becomes index.html. `replaces`: files of the same names that are there.
    Raises Unusable, SiteOff, NoRoom, AccountClosed, AccountNotReady and UnknownService.
    """
    site = services.only(services.of_account(account.id), "site")
    if site is None or not services.is_on(account, site):
        raise SiteOff
    id = secrets.token_hex(8)
    try:
        _check_room(shop, sent)
        with _new_file(shop.config.uploads_dir / id) as file:
            _keep(name, sent, file)
            packed = Archive(file, most_bytes(account))
            packed.check_contents()
            _note(shop, account, id, packed, replaces)
    except OSError as error:
        logger.error("UPLOADS_DIR takes no file: %s", error.strerror)
        raise NoRoom from error
    return packed


@contextmanager
def _new_file(path: Path) -> Iterator[BinaryIO]:
    """A new file, which is removed if what is done with it fails."""
    try:
        with open(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600), "w+b") as file:
            yield file
    except BaseException:
        path.unlink(missing_ok=True)
        raise


def most_bytes(account: Account) -> int:
    """How much may be put on an account's site at once."""
    _, bought_mb = services.space_mb(account)["site"]
    return min(UNPACKED_BYTES_MAX, bought_mb * 2**20)


def _check_room(shop: Shop, sent: BinaryIO) -> None:
    directory = shop.config.uploads_dir
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    size = sent.seek(0, os.SEEK_END)
    sent.seek(0)
    while not _has_room(directory, size):
        if not _give_up_one(shop):
            logger.error("UPLOADS_DIR is full: an upload was refused")
            raise NoRoom


def _has_room(directory: Path, size: int) -> bool:
    is_full = _bytes_in(directory) + size > STORED_BYTES_MAX
    return not is_full and shutil.disk_usage(directory).free >= size + FREE_BYTES_MIN


def _give_up_one(shop: Shop) -> bool:
    """Give up the upload that has waited longest for its owner's answer; False: none waits.

    Otherwise some cheap hostings that never answer would keep all others out for an hour.
    """
    waits = Upload.outcome == Outcome.IN_THE_WAY
    oldest = Upload.select().where(waits).order_by(Upload.sent_at).first()
    if oldest is None:
        return False
    given_up = {"outcome": Outcome.LOST, "ended_at": now()}
    if Upload.update(given_up).where(waits & (Upload.id == oldest.id)).execute():
        remove_file(shop, oldest.id)
    return True


def _bytes_in(directory: Path) -> int:
    found = 0
    for entry in os.scandir(directory):
        with suppress(FileNotFoundError):  # the worker has just removed it
            found += entry.stat().st_size
    return found


def _keep(name: str, sent: BinaryIO, file: BinaryIO) -> None:
    """Copy a ZIP, or pack a page."""
    begin = sent.read(2)
    sent.seek(0)
    if begin == b"PK":
        shutil.copyfileobj(sent, file)
    elif not begin:
        raise Unusable("This file is empty.")
    elif name.lower().endswith(PAGE_ENDINGS):
        archive.of_page(sent, file)
    elif name.lower().endswith(".zip"):
        raise Unusable
    else:
        raise Unusable("Choose a ZIP file, or a page whose name ends in .html.")


def _note(shop: Shop, account: Account, id: str, packed: Archive, replaces: bool) -> None:
    total = len(packed.files)
    # The owner's start page takes the tip jar's place, even where the jar was to be put back.
    once = {"put_back": False} if packed.has_start_page else {}
    with transaction():
        _want(shop, account, **once)
        before = of_account(account.id)  # locked by now: of two at once the second sees the first
        Upload.delete().where(Upload.account == account.id).execute()
        Upload.create(
            account=account,
            id=id,
            total=total,
            compared=total if replaces else 0,
            sent_at=now(),
        )
    if before:
        remove_file(shop, before.id)


def _want(shop: Shop, account: Account, **settings) -> None:
    """Within a transaction: have the worker look after the site over FTP."""
    site = hostnames.site_name(shop, account.username)
    wanted.configure(account.id, "tipjar", site, **settings)


def replace(shop: Shop, account: Account, id: str) -> None:
    """Put it on the site over the files that were in its way. May be called twice.

    Raises Gone, AccountClosed, AccountNotReady and UnknownService.
    """
    with transaction():
        facts = {"compared": Upload.total, "outcome": None, "ended_at": None, "sent_at": now()}
        waits = (Upload.account == account.id) & (Upload.id == id)
        waits &= Upload.outcome == Outcome.IN_THE_WAY
        if not Upload.update(facts).where(waits).execute():
            raise Gone
        _want(shop, account)


# -- for the worker --------------------------------------------------------------------


@contextmanager
def opened(shop: Shop, account: Account, upload: Upload) -> Iterator[Archive]:
    """What is in it. Raises Gone if its file cannot be read any more, also while it is read."""
    try:
        file = open(shop.config.uploads_dir / upload.id, "rb")  # noqa: SIM115
    except OSError as error:
        logger.error("account %s: its upload is lost: %s", account.id, error.strerror)
        raise Gone from error
    try:
        with file:
            yield Archive(file, UNPACKED_BYTES_MAX)
    except (Unusable, *archive.DAMAGED) as error:  # it was sound when it came
        logger.error("account %s: its upload is damaged: %s", account.id, type(error).__name__)
        raise Gone from error


def note(upload: Upload) -> bool:
    """Within a transaction: note how far an upload is; False: it has ended or was replaced."""
    facts = {"compared": upload.compared, "done": upload.done}
    return _under_way(upload, facts)


def end(upload: Upload, outcome: Outcome, about: list[str]) -> bool:
    """Within a transaction: note an upload's outcome; False: as in `note`. `about`: file paths."""
    ended = {"outcome": outcome, "about": json.dumps(about), "ended_at": now()}
    return _under_way(upload, ended)


def _under_way(upload: Upload, facts: dict) -> bool:
    is_same = (Upload.id == upload.id) & Upload.outcome.is_null()
    return Upload.update(facts).where(is_same).execute() == 1


def forget(shop: Shop, account_id: str) -> None:
    """Within a transaction: forget the upload of an account that is deleted."""
    upload = of_account(account_id)
    if upload:
        upload.delete_instance()
        remove_file(shop, upload.id)


def tidy(shop: Shop) -> None:
    """Give up what takes too long, forget what was shown, and remove files that nobody needs.

    An upload dated as far in the future is from a clock that was wrong, and goes as well.
    """
    moment, kept = now(), set()
    for upload in list(Upload.select()):  # those of the last hours: few
        as_read = (Upload.id == upload.id) & (Upload.sent_at == upload.sent_at)
        if upload.outcome is None and abs(moment - upload.sent_at) >= LASTS_SECONDS:
            late = {"outcome": Outcome.LATE, "ended_at": moment}
            Upload.update(late).where(as_read & Upload.outcome.is_null()).execute()
        elif upload.outcome is not None and abs(moment - upload.ended_at) >= SHOWN_SECONDS:
            Upload.delete().where(as_read & Upload.outcome.is_null(False)).execute()
        elif upload.outcome in (None, Outcome.IN_THE_WAY):
            kept.add(upload.id)
    directory = shop.config.uploads_dir
    for path in directory.iterdir() if directory.is_dir() else ():
        # A file without a row is just being received; others may not be ours.
        if path.name in kept or not ID.fullmatch(path.name):
            continue
        with suppress(FileNotFoundError):
            if path.is_file() and abs(moment - path.stat().st_mtime) >= LASTS_SECONDS:
                path.unlink()


def remove_file(shop: Shop, id: str) -> None:
    """Remove the file of an upload that nobody needs any more."""
    (shop.config.uploads_dir / id).unlink(missing_ok=True)
