"""Putting what an owner has sent by the browser on the site, some of it at a time.

Each file is written whole under a name of ours and then renamed, so that visitors never see half
a file. The number of files put is noted as it grows: after a lost connection or a killed worker the
next turn goes on from there, and puts at most the files of the last second again. That no file of
the owner's is in the way is noted before the first one is put.
"""

import hashlib
import time
from collections.abc import Callable

from lightningspace import onsite, tipjar
from lightningspace.base.archive import Archive, File
from lightningspace.base.models import Service, Upload, transaction
from lightningspace.outside.ftp import (
    CONNECTION_ERRORS,
    FtpError,
    FtpRefused,
    NoSpace,
    Session,
)
from lightningspace.panel.records import Outdated, Records
from lightningspace.rules import uploads
from lightningspace.rules.uploads import Outcome

# A turn ends after this time, or this many requests to the server; then others get one. The
# account's other changes wait for it as well.
TURN_SECONDS = 15
TURN_STEPS = 400
NOTE_SECONDS = 1
# Of the files that are in the way it is enough to name some.
NAMED_MAX = 5

# What ISPConfig puts on a new site, by the SHA-256 of its content: it belongs to nobody.
OF_ISPCONFIG = {
    "robots.txt": "fd89345af6aca5dab85f2aa6a830e270a362b1fa6b5f19607ddd773a081ed651",
    "favicon.ico": "5b910f8369fc6cf04503c24748de67ce38b01d95acca02c730e47abca4226e76",
}


def put(session: Session, records: Records, row: Service, stopping: Callable[[], bool]) -> None:
    """Put some more of the account's upload on the site, if there is one, from the directory of
    its pages. `row`: the tip jar's.

    Raises Outdated when the rest is for another turn, or nobody wants it any more, and FtpError.
    """
    upload = uploads.of_account(records.account.id)
    if upload is None or upload.outcome is not None:
        return
    turn = _Turn(session, records, row, upload, stopping)
    try:
        with uploads.opened(records.shop, records.account, upload) as archive:
            turn.take(archive)
    except uploads.Gone:
        turn.end(Outcome.LOST)


def give_up(records: Records) -> None:
    """End the account's upload, if there is one, because the site is off."""
    upload = uploads.of_account(records.account.id)
    if upload and upload.outcome is None:
        _end(records, upload, Outcome.OFF, [])


class _Turn:
    def __init__(
        self,
        session: Session,
        records: Records,
        row: Service,
        upload: Upload,
        stopping: Callable[[], bool],
    ):
        self.session = session
        self.records = records
        self.row = row
        self.upload = upload
        self._stopping = stopping
        self._until = time.monotonic() + TURN_SECONDS
        self._steps = 0
        self._noted_at, self._noted_far = time.monotonic(), self._far()
        # This turn's own: a worker that has lost its lease without knowing it does no harm.
        self._name = f"tipjar-upload-{records.lease.holder}.tmp"

    def take(self, archive: Archive) -> None:
        names = self.session.names()
        onsite.tidy(self.session, names)
        try:
            in_the_way = self._compare(archive, _in_utf_8(names))
            if in_the_way:
                self.end(Outcome.IN_THE_WAY, in_the_way)
                return
            if self._far() > self._noted_far:
                self._note()  # else whoever follows a killed worker takes its files for the owner's
            for file in archive.files[self.upload.done :]:
                self._put(archive, file)
                self.upload.done += 1
                self._go_on()
            if archive.has_start_page:
                tipjar.take_away(self.session)  # its index.php would come before an index.html
        except NoSpace:
            self.end(Outcome.FULL)
        except FtpRefused:
            at = min(self.upload.done, self.upload.total - 1)
            self.end(Outcome.REFUSED, [archive.files[at].path])
        except (FtpError, *CONNECTION_ERRORS):
            self._note()
            raise
        else:
            self.end(Outcome.DONE)

    def end(self, outcome: Outcome, about: list[str] | None = None) -> None:
        self._note()
        _end(self.records, self.upload, outcome, about or [])

    def _compare(self, archive: Archive, names: set[str] | None) -> list[str]:
        """Files of the owner's that are in the way. Later ones come with the owner's knowledge."""
        found: list[str] = []
        while self.upload.compared < self.upload.total and len(found) < NAMED_MAX:
            path = archive.files[self.upload.compared].path
            if self._is_owners(path, names):
                found.append(path)
            self.upload.compared += 1
            if self._is_over() and found:
                break
            self._go_on()
        return found

    def _is_owners(self, path: str, names: set[str] | None) -> bool:
        top = path.partition("/")[0]
        # Servers may leave out of their lists what begins with a dot.
        if names is not None and top not in names and not top.startswith("."):
            return False
        self._steps += 1
        return self.session.has_file(path) and not self._is_nobodys(path)

    def _is_nobodys(self, path: str) -> bool:
        """Whether the server or we have put it there, and nobody has edited it since."""
        if path == "standard_index.html":
            return True
        if path not in OF_ISPCONFIG and path not in tipjar.IS_OURS:
            return False
        content = self.session.read(path)
        if content is None:
            return False
        if path in OF_ISPCONFIG:
            return hashlib.sha256(content).hexdigest() == OF_ISPCONFIG[path] or not content
        return tipjar.IS_OURS[path](content)

    def _put(self, archive: Archive, file: File) -> None:
        self.session.make_directories_of(file.path)
        self.session.store_parts(self._name, archive.read(file), file.bytes)
        self.session.move(self._name, file.path)
        self._steps += 1

    def _is_over(self) -> bool:
        return self._steps >= TURN_STEPS or time.monotonic() >= self._until or self._stopping()

    def _go_on(self) -> None:
        """After each step: raise Outdated if it was the last of this turn."""
        is_last = self.upload.done == self.upload.total
        if self._is_over() and not is_last:
            self._note()
            raise Outdated
        if time.monotonic() >= self._noted_at + NOTE_SECONDS:
            self._note()
            self.records.check_wanted()

    def _note(self) -> None:
        _write(self.records, uploads.note, self.upload)
        self._noted_at = time.monotonic()
        if self._far() > self._noted_far:  # then a failure is the first of its kind
            self._noted_far = self._far()
            self.row.tries, self.row.failed_since = 0, None

    def _far(self) -> int:
        return self.upload.compared + self.upload.done


def _in_utf_8(names: list[str] | None) -> set[str] | None:
    return names and {name.encode("latin-1").decode(errors="replace") for name in names}


def _end(records: Records, upload: Upload, outcome: Outcome, about: list[str]) -> None:
    _write(records, uploads.end, upload, outcome, about)
    if outcome != Outcome.IN_THE_WAY:
        uploads.remove_file(records.shop, upload.id)


def _write(records: Records, change: Callable[..., bool], *arguments) -> None:
    with transaction():
        records.lease.extend()
        is_wanted = change(*arguments)
    if not is_wanted:  # another took its place
        raise Outdated
