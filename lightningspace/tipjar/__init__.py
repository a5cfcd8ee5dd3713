"""The tip jar of a site: which files are uploaded, and when.

The customer's own files are never overwritten or removed.
"""

import hashlib
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from html import escape
from pathlib import Path

from lightningspace import onsite
from lightningspace.base import qr
from lightningspace.base.clock import now
from lightningspace.outside import lnurl
from lightningspace.outside.ftp import NoSpace, Session

PROGRAM, SETTINGS, PAGE = "index.php", "tipjar.json", "index.html"
# Settings first: the program is useless without them.
FILES = (SETTINGS, PROGRAM, PAGE)
# Only the site's own PHP reads the first two; the web server reads the page.
MODES = {SETTINGS: 0o600, PROGRAM: 0o640, PAGE: 0o640}
# Limits of what the owner may set: characters, and buttons. The program accepts somewhat longer
# texts from owners who edit the file by hand.
TITLE_MAX, TEXT_MAX, AMOUNTS_MAX = 80, 500, 6

JAR = onsite.Program("tip jar", Path(__file__).parent / PROGRAM)
PAGE_MARK = re.compile(rb"<!-- lightning-space tip jar ([0-9a-f]{64}) -->\n\Z")
# The names from a listing that may be sent back to the server.
START_PAGE = re.compile(r"index(\.[A-Za-z0-9_-]{1,16}){1,3}")
KEPT = re.compile(r"index\.old-[0-9]{8}-[0-9]+\..+")

FULL = "Your web space is full: there is no room for the tip jar."
TOO_MUCH = "There are more files in the directory web than we can look through."
NOT_TAKEN = "Our files cannot be put into the directory web as it is."


def page(site: str, tip_page: str | None) -> bytes:
    """The page that replaces the jar while the site has no PHP. `tip_page`: None if it is off."""
    link = f'<p><a href="{escape(tip_page)}">Tip this site</a></p>\n' if tip_page else ""
    text = PAGE_TEXT.format(site=escape(site), link=link).encode()
    return text + f"<!-- lightning-space tip jar {hashlib.sha256(text).hexdigest()} -->\n".encode()


PAGE_TEXT = """\
<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{site}</title>
<style>
  body {{ font: 1.1em/1.5 system-ui, sans-serif; max-width: 34em }}
  body {{ margin: 4em auto; padding: 0 1em; overflow-wrap: anywhere }}
</style>
<h1>{site}</h1>
<p>There is nothing here yet.</p>
{link}"""


def is_our_page(content: bytes) -> bool:
    """Whether it is such a page of ours, unedited."""
    mark = PAGE_MARK.search(content)
    return bool(mark) and hashlib.sha256(content[: mark.start()]).hexdigest() == mark[1].decode()


def settings_file(
    *,
    shop: str,
    username: str,
    site: str,
    mode: str,
    title: str | None,
    text: str | None,
    amounts_sat: list[int],
    min_sat: int,
    max_sat: int,
    lightning_address: str | None,
    wallet_address: str | None,
) -> bytes:
    """The settings that the jar reads. They are public and contain no secret.

    `lightning_address` is the shop's, None if that way to tip is off. `wallet_address` is the
    owner's own, which the mode "wallet" shows.
    """
    url = f"{shop}{lnurl.PATH}/{username}" if lightning_address else None
    if mode == "wallet":
        url = lnurl.url_of_address(wallet_address) if wallet_address else None
    settings = {
        "shop": shop,
        "username": username,
        "site": site,
        "mode": mode,
        "title": title,
        "text": text,
        "amounts_sat": amounts_sat,
        "min_sat": min_sat,
        "max_sat": max_sat,
        "lightning_address": lightning_address,
        "wallet_address": wallet_address,
        "qr": _qr(lnurl.encode(url)) if url else None,
    }
    return onsite.settings_file(settings)


def put(
    session: Session, settings: bytes, put_back: bool = False, page: bytes | None = None
) -> str | None:
    """Make the jar the site's start page, with these settings.

    `page` is put in front of it while the site has no PHP. Returns a note for the owner if the jar
    was not put there, because of a start page of their own or a lack of space. With `put_back`
    their start page is renamed and kept. Raises FtpError; another call completes what it
    interrupted.
    """
    wanted = {PROGRAM: JAR.text, SETTINGS: settings, PAGE: page}
    uploads: dict[str, str] = {}
    while True:
        found = _look(session, wanted)
        note = _note(found, put_back)
        onsite.tidy(session, found.names, keep=() if note else uploads.values())
        if note:
            return note
        missing = [name for name in FILES if name in found.to_be_written]
        # After an upload, look again: the customer may be uploading at the same time.
        if all(name in uploads for name in missing):
            break
        try:
            for name in missing:
                if name not in uploads:
                    uploads[name] = onsite.upload(session, wanted[name], MODES[name])
        except NoSpace:
            onsite.tidy(session, session.names())
            return FULL
    names = set(found.names)
    for name in FILES:
        for old in found.in_the_way[name]:
            session.rename(old, _other_name(old, names))
        if name in missing:
            session.rename(uploads.pop(name), name)
        elif name in found.ours:  # an older version left it readable for all
            session.set_mode(name, MODES[name])
    for name in (*uploads.values(), *found.to_be_removed):
        session.delete(name)
    return None


def take_away(session: Session) -> None:
    """Remove our unedited files. Raises FtpError; another call completes it."""
    for name, is_ours in IS_OURS.items():
        content = session.read(name)
        if content is not None and is_ours(content):
            session.delete(name)
    onsite.tidy(session, session.names())


# -- what is there -------------------------------------------------------------------


@dataclass(frozen=True)
class _Found:
    """What is in the directory, and what has to be done there."""

    names: list[str] | None
    start_pages: list[str]  # the customer's
    in_the_way: dict[str, list[str]]  # per file of ours: what is to be renamed for it
    ours: list[str]
    to_be_written: list[str]
    to_be_removed: list[str]


def _look(session: Session, wanted: dict[str, bytes | None]) -> _Found:
    names = session.names()
    if names is None:
        return _Found(None, [], {}, [], [], [])
    there = {name: session.read(name) if name in names else b"" for name in FILES}
    ours = {name: bool(there[name]) and IS_OURS[name](there[name]) for name in FILES}
    start_pages = [
        name
        for name in names
        if name.lower().startswith("index.") and not KEPT.fullmatch(name) and not ours.get(name)
    ]
    to_be_written = [name for name in (PROGRAM, PAGE) if wanted[name] not in (there[name], None)]
    edited = []
    settings = there[SETTINGS]
    if settings != wanted[SETTINGS] and not _is_edited_from(settings, wanted[SETTINGS]):
        to_be_written.append(SETTINGS)
        if SETTINGS in names and not ours[SETTINGS]:
            edited.append(SETTINGS)
    in_the_way = [name for name in start_pages if START_PAGE.fullmatch(name)]
    return _Found(
        names,
        start_pages,
        {SETTINGS: edited, PROGRAM: in_the_way, PAGE: []},
        [name for name in FILES if ours[name]],
        to_be_written,
        [PAGE] if ours[PAGE] and wanted[PAGE] is None else [],
    )


def _note(found: _Found, put_back: bool) -> str | None:
    if found.names is None:
        return TOO_MUCH
    if not found.start_pages or put_back:
        return None
    known = [name for name in sorted(found.start_pages) if START_PAGE.fullmatch(name)]
    name = known[0] if known else "index.…"
    return f"Your site has a start page of its own: {name}."


def _is_edited_from(content: bytes | None, wanted: bytes) -> bool:
    """Whether the customer edited the very settings that would be written: the edits stay."""
    if not content:
        return False
    mark = onsite.read_settings(content).get("mark")
    if mark is None:  # broken by the edit
        found = re.search(rb'"mark"\s*:\s*"([0-9a-f]{64})"', content)
        mark = found and found[1].decode()
    return mark is not None and mark == onsite.read_settings(wanted)["mark"]


# For each of our files: whether a content is ours and unedited.
IS_OURS = {PROGRAM: JAR.is_ours, SETTINGS: onsite.are_our_settings, PAGE: is_our_page}


# -- what is done --------------------------------------------------------------------


def _other_name(name: str, names: set[str]) -> str:
    """A free name that is served in the same way, so that PHP is never shown as text."""
    stem, _, extension = name.partition(".")
    today = datetime.fromtimestamp(now(), UTC).strftime("%Y%m%d")
    number = 1
    while f"{stem}.old-{today}-{number}.{extension}" in names:
        number += 1
    other = f"{stem}.old-{today}-{number}.{extension}"
    names.add(other)
    return other


def _qr(text: str) -> dict[str, str]:
    return {"of": text, "svg": str(qr.svg(text))}
