"""The paid area of a site: which files are uploaded, and when.

The customer's own files are never overwritten or removed.
"""

import re
import secrets
from pathlib import Path

from lightningspace import onsite
from lightningspace.outside.ftp import FtpRefused, NoSpace, Session

PROGRAM, SETTINGS, HTACCESS = "index.php", "paidarea.json", ".htaccess"
# Settings first: the program is useless without them.
FILES = (SETTINGS, PROGRAM, HTACCESS)
# Only the site's own PHP reads the first two; the web server reads the last.
MODES = {SETTINGS: 0o600, PROGRAM: 0o640, HTACCESS: 0o640}
# Where the files for sale are, in a directory for each area. Only the site's own PHP may go in, and
# nobody by a link from the pages.
FOR_SALE, FOR_SALE_MODE = ("private", "paid"), 0o700
# Limits of what the owner may set.
TITLE_MAX, PRICE_MAX = 80, 100_000_000

GATE = onsite.Program("paid area", Path(__file__).parent / PROGRAM)
IS_OURS = {
    SETTINGS: onsite.are_our_settings,
    PROGRAM: GATE.is_ours,
    HTACCESS: GATE.is_ours,
}
SAMPLE = re.compile(r"paidarea-sample-[0-9a-f]{16}\.tmp")


def htaccess(name: str) -> bytes:
    """A .htaccess that makes addresses shorter, where it may. It does not decide who has access."""
    return GATE.marked(HTACCESS_TEXT.format(name=name).encode(), b"#")


HTACCESS_TEXT = """\
# lightning-space paid area UNSTAMPED
# The site's own program, such as a WordPress, must not take them over.
<IfModule mod_rewrite.c>
RewriteEngine Off
</IfModule>
DirectoryIndex index.php
FallbackResource /{name}/index.php
"""


def enter_files(session: Session, name: str) -> None:
    """Go from the login directory to that of the area's files, which is made."""
    session.make_directories_of("/".join((*FOR_SALE, name, "")))
    for directory in FOR_SALE[:-1]:
        session.enter(directory)
    session.set_mode(FOR_SALE[-1], FOR_SALE_MODE)
    session.enter(FOR_SALE[-1])
    session.enter(name)


def put_sample(session: Session) -> tuple[str, str]:
    """Put a file there that nobody may be able to get; return its name and content."""
    take_samples(session)
    name, content = f"paidarea-sample-{secrets.token_hex(8)}.tmp", secrets.token_hex(16)
    session.store(name, content.encode())
    return name, content


def take_samples(session: Session) -> None:
    """Remove that file, and those that an interrupted look has left."""
    for name in session.names() or ():
        if SAMPLE.fullmatch(name):
            try:
                session.delete(name)
            except FtpRefused:
                pass  # a directory of that name, or its owner has deleted it


def enter_gate(session: Session, name: str) -> None:
    """Go from the directory of the pages to the area's, which is made."""
    session.make_directories_of(f"{name}/")
    session.enter(name)


def put(session: Session, name: str, settings: bytes, has_htaccess: bool) -> bool:
    """Put the gate into the directory; False: a file of the owner's is in the way, nothing changed.

    Raises FtpError; another call completes what it interrupted.
    """
    wanted = {SETTINGS: settings, PROGRAM: GATE.text}
    onsite.tidy(session, session.names())
    if _in_the_way(session, wanted):
        return False
    if not has_htaccess:
        _remove_ours(session, [HTACCESS])  # left from another kind of server: the gate acts by it
    elif not _in_the_way(session, [HTACCESS]):
        wanted[HTACCESS] = htaccess(name)
    missing = [each for each in wanted if session.read(each) != wanted[each]]
    try:
        uploads = {each: onsite.upload(session, wanted[each], MODES[each]) for each in missing}
    except NoSpace:
        onsite.tidy(session, session.names())
        raise
    if _in_the_way(session, missing):  # its owner has been uploading at the same time
        onsite.tidy(session, session.names())
        return False
    for each, upload in uploads.items():
        session.rename(upload, each)
    return True


def take_away(session: Session) -> bool:
    """Remove our unedited files; False: what its owner has edited goes on selling.

    Raises FtpError; another call completes it.
    """
    _remove_ours(session, IS_OURS)
    onsite.tidy(session, session.names())
    return not {PROGRAM, SETTINGS} <= set(session.names() or ())


def _remove_ours(session: Session, names) -> None:
    for name in names:
        content = session.read(name)
        if content is not None and IS_OURS[name](content):
            session.delete(name)


def _in_the_way(session: Session, names) -> bool:
    there = session.names() or ()
    for name in names:
        content = session.read(name)
        if content is None and (name in there or session.has_file(name)):
            return True  # too large, or no file at all
        if content is not None and not IS_OURS[name](content):
            return True
    return False
