"""Disk space that was paid for: a folder for each token id, and whether a write fits in it."""

import errno
import logging
import os
import re
import shutil
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from stat import S_ISDIR
from urllib.parse import unquote_to_bytes

from peewee import EXCLUDED

from lightningspace.base.gate_models import GateDisk
from lightningspace.gate.answers import RETRY_SECONDS, Refuses, too_many
from lightningspace.gate.services import Service

logger = logging.getLogger(__name__)

# As nginx counts in client_max_body_size.
MB = 1024 * 1024
# As how much a folder or an empty file counts, and how many of both one token id may have: neither
# counting them nor nginx, when it deletes or lists them, may hold up anybody.
ENTRY_BYTES = 4096
FILES_MAX = 10_000
NAME_BYTES_MAX, PATH_BYTES_MAX = 255, 3000
# How much a request may send that stores nothing.
BODY_BYTES_MAX = 64 * 1024
# Counting may take a 20th of the time, and MORE_SECONDS at once. If it may not count again, a count
# of the last COUNTED_SECONDS will do.
SHARE, MORE_SECONDS, COUNTED_SECONDS = 20, 4.0, 1.0
# An upload that broke off is counted as long as a slow one would take.
SLOW_SECONDS, SLOW_BYTES_PER_SECOND = 60, 50_000
# How much may be under way at once, beside the files: in quotas, and in paths.
SENDING_MAX, UNDER_WAY_MAX = 3, 1000
REMEMBERED = 10_000
# For nginx, which has the group: see docs/gateway.md.
MODE = 0o2770
WRITES = ("PUT", "MKCOL", "DELETE", "MOVE")


@dataclass(frozen=True)
class Use:
    """`is_whole` False: there is more than is counted."""

    size: int = 0
    files: int = 0
    is_whole: bool = True


@dataclass(frozen=True)
class UnderWay:
    """A write that was announced for a path. `added`: by how many bytes the folder will grow;
    `sending`: the length of the body.

    `former`: the inode that is there already, or 0. `is_kept`: the file there does not show whether
    it is over, because it was announced twice, or files were moved.
    """

    added: int
    files: int
    sending: int
    former: int
    until: float
    is_folder: bool
    is_kept: bool = False

    def is_over(self, target: bytes, moment: float) -> bool:
        if self.until <= moment:
            return True
        found = None if self.is_kept else _stat(target)
        if found is None or found.st_ino == self.former:
            return False
        return S_ISDIR(found.st_mode) if self.is_folder else found.st_size == self.sending


@dataclass
class Folder:
    """What this process knows of a folder. `until`: as it has noted in the database."""

    until: int = 0
    use: Use | None = None
    counted_at: float = 0.0
    busy_until: float = 0.0
    under_way: dict[bytes, UnderWay] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)


class Disks:
    """The disks of the gate, as one process sees them. `clock`: a monotonic clock, in seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic):
        self._clock = clock
        self._lock = threading.Lock()
        self._folders: OrderedDict[tuple[str, str], Folder] = OrderedDict()
        self._failing: set[str] = set()

    def refusal(
        self,
        service: Service,
        token_id: str,
        until: int,
        method: str,
        uri: str,
        length: int | None,
    ) -> Refuses | None:
        """Why a request by a payer, who has paid until `until`, cannot be served; None: it can.

        From then on there is a folder. `length`: of the request's body; None: it does not say.
        """
        if length is None:
            return Refuses(411, "length_required", "Say how long the body is (Content-Length).")
        if method != "PUT" and length > BODY_BYTES_MAX:
            return Refuses(413, "too_large", "Only PUT takes a body of this size.")
        folder = self._folder(service.name, token_id)
        where = f"{service.disk}/{token_id}"
        try:
            with folder.lock:
                if folder.until < until:
                    note(service.name, token_id, until)
                    folder.until = until
                _make(where, service)
                refused = None
                if method in WRITES:
                    refused = self._of_write(service, folder, where, method, uri, length)
        except OSError as error:
            if where not in self._failing:  # once, until it works again
                logger.error("the disk %s: %s", service.name, error)
            self._failing.add(where)
            return Refuses(503, "unavailable", "Please try again soon.", RETRY_SECONDS)
        if method in WRITES:
            self._failing.discard(where)
        return refused

    def _folder(self, *key: str) -> Folder:
        with self._lock:
            folder = self._folders.setdefault(key, Folder())
            self._folders.move_to_end(key)
            if len(self._folders) > REMEMBERED:
                self._folders.popitem(last=False)
            return folder

    def _of_write(
        self, service: Service, folder: Folder, where: str, method: str, uri: str, length: int
    ) -> Refuses | None:
        use = self._use(service, folder, where)
        if method == "MOVE":
            self._end(folder)
            for path, each in folder.under_way.items():
                folder.under_way[path] = replace(each, is_kept=True)
        if method not in ("PUT", "MKCOL"):
            return None
        names = names_in(uri)
        target = os.path.join(os.fsencode(where), *names)
        if len(target) > PATH_BYTES_MAX or any(len(name) > NAME_BYTES_MAX for name in names):
            return Refuses(414, "name_too_long", "No file can have such a long name here.")
        begun = _begun(target, method, length, self._clock())
        if former := folder.under_way.get(target):
            begun = _again(former, begun)
        ahead = [each for path, each in folder.under_way.items() if path != target] + [begun]
        is_much = sum(each.sending for each in ahead) > SENDING_MAX * service.quota_mb * MB
        if is_much or len(ahead) > UNDER_WAY_MAX:
            return too_many("uploads", SLOW_SECONDS)
        if not use.is_whole or use.files + sum(each.files for each in ahead) > FILES_MAX:
            detail = f"{FILES_MAX} files and folders fit here. Delete some."
            return Refuses(507, "too_many_files", detail)
        if use.size + sum(each.added for each in ahead) > service.quota_mb * MB:
            detail = f"{service.quota_mb} MB fit here, and this would be more. Delete some files."
            return Refuses(507, "quota_exceeded", detail)
        if length > shutil.disk_usage(where).free:
            raise OSError(errno.ENOSPC, f"there is no room for {length} bytes", service.disk)
        folder.under_way[target] = begun
        return None

    def _use(self, service: Service, folder: Folder, where: str) -> Use:
        begun_at = self._clock()
        is_old = folder.use is None or folder.counted_at + COUNTED_SECONDS <= begun_at
        if is_old or folder.busy_until <= begun_at + MORE_SECONDS:
            # First, so that a write that ends meanwhile is counted twice rather than not at all.
            self._end(folder)
            folder.use = counted(where, service.location)
            folder.counted_at = self._clock()
            took = folder.counted_at - begun_at
            folder.busy_until = max(folder.busy_until, begun_at) + SHARE * took
        return folder.use

    def _end(self, folder: Folder) -> None:
        """Add writes that are over to the last count, until everything is counted again."""
        moment, use = self._clock(), folder.use or Use()
        for target, each in list(folder.under_way.items()):
            if each.is_over(target, moment):
                use = replace(use, size=use.size + each.added, files=use.files + each.files)
                del folder.under_way[target]
        folder.use = use


def note(service: str, token_id: str, until: int) -> None:
    """Note that a folder is paid until then, or longer if that was noted before."""
    is_later = EXCLUDED.until > GateDisk.until
    GateDisk.insert(service=service, token_id=token_id, until=until).on_conflict(
        conflict_target=[GateDisk.service, GateDisk.token_id],
        update={GateDisk.until: EXCLUDED.until},
        where=is_later,
    ).execute()


def counted(where: str, location: str) -> Use:
    """How much is in a folder, not counting the folders of `location`. Raises OSError, for a link
    too: what nginx does to a link, it may do to its target.
    """
    own, size, files = set(_own(where, location)), 0, 0
    ahead = [where]
    while ahead:
        try:
            for entry in _entries(ahead.pop()):
                if entry.is_symlink():
                    raise OSError(errno.ELOOP, "a symbolic link stands in the way", entry.path)
                is_folder = entry.is_dir(follow_symlinks=False)
                if is_folder:
                    ahead.append(entry.path)
                if entry.path in own:
                    continue
                files += 1
                if files > FILES_MAX:
                    return Use(size, files, is_whole=False)
                found = None if is_folder else _stat(entry.path)
                size += max(ENTRY_BYTES, found.st_size if found else 0)
        except OSError as error:
            if error.errno != errno.ENAMETOOLONG:
                raise
            return Use(size, files, is_whole=False)
    return Use(size, files)


def _entries(path: str):
    try:
        with os.scandir(path) as entries:
            yield from entries
    except FileNotFoundError:  # it was deleted meanwhile
        return


def _own(where: str, location: str) -> list[str]:
    """The folders that lead to a location's files."""
    own = [where]
    for name in filter(None, location.split("/")):
        own.append(f"{own[-1]}/{name}")
    return own


def _make(where: str, service: Service) -> None:
    own = _own(where, service.location)
    if os.path.isdir(own[-1]):
        return
    for path in own:
        try:
            os.mkdir(path)
        except FileExistsError:
            continue
        os.chmod(path, MODE)


def names_in(uri: str) -> list[bytes]:
    """The names in an address that a client has sent, as nginx reads them."""
    path = re.split("[?#]", uri, maxsplit=1)[0].encode("latin-1", "replace")
    names: list[bytes] = []
    for name in unquote_to_bytes(path).split(b"/"):
        if name == b"..":
            del names[-1:]
        elif name not in (b"", b"."):
            names.append(name)
    return names


def _stat(path) -> os.stat_result | None:
    """None: it is not there."""
    try:
        return os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None


def _begun(target: bytes, method: str, length: int, moment: float) -> UnderWay:
    """A write to this path that has just been announced."""
    before, missing = _stat(target), _missing_above(target)
    added = max(length, ENTRY_BYTES) + missing * ENTRY_BYTES
    if before is not None:
        added -= max(before.st_size, ENTRY_BYTES)
    until = moment + SLOW_SECONDS + length / SLOW_BYTES_PER_SECOND
    files, former = missing + (before is None), before.st_ino if before else 0
    return UnderWay(max(0, added), files, length, former, until, method == "MKCOL")


def _again(former: UnderWay, begun: UnderWay) -> UnderWay:
    """Both writes as one: nobody knows whether the former has broken off."""
    return replace(
        begun,
        added=max(former.added, begun.added),
        files=max(former.files, begun.files),
        sending=former.sending + begun.sending,
        until=max(former.until, begun.until),
        is_kept=True,
    )


def _missing_above(target: bytes) -> int:
    """How many folders nginx would make for a file."""
    missing, above = 0, os.path.dirname(target)
    while not os.path.lexists(above):
        missing, above = missing + 1, os.path.dirname(above)
    return missing
