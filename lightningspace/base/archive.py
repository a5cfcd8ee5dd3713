"""A ZIP file from a stranger: looked at as a whole before anything of it is used."""

import re
import stat
import struct
import unicodedata
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from lightningspace.base.refusals import Refusal

FILES_MAX = 5000
PATH_BYTES_MAX, NAME_BYTES_MAX, PARTS_MAX = 500, 255, 40
# The list of files at its end: zipfile reads all of it at once, however many it says there are.
LIST_BYTES_MAX = 2 * 1024 * 1024
# Where that list's own end may lie: 22 bytes, and a comment.
END_BYTES_MAX = 22 + 2**16
CHUNK = 64 * 1024
SHOWN_MAX = 60
UNPRINTABLE = "\N{REPLACEMENT CHARACTER}"

ENCRYPTED, UTF_8 = 0x2041, 0x800
# What the packer's system adds, and nobody wants on a site.
LEFT_OUT = (".DS_Store", "Thumbs.db", "desktop.ini")
LEFT_OUT_TOP = "__MACOSX"
# What zipfile raises when a file's content is damaged, and what else it raises at odd ZIPs.
DAMAGED = (zipfile.BadZipFile, zlib.error)
UNREADABLE = (
    *(*DAMAGED, struct.error, EOFError, NotImplementedError),
    *(RuntimeError, ValueError, OverflowError, OSError),
)


class Unusable(Refusal):
    """It is no ZIP file that we would unpack."""

    status, code, field = 400, "bad_request", "file"
    text = "We cannot read this as a ZIP file. Please pack it anew and send it again."


@dataclass(frozen=True)
class File:
    """`path`: where it goes, below the pages' directory."""

    path: str
    bytes: int
    entry: zipfile.ZipInfo


class Archive:
    """The files of a ZIP. `files`: in the order in which they go online, start pages last. `top`:
    the directory around all of them, which their paths no longer have; None: there was none.

    `most_bytes`: what they may take unpacked. Raises Unusable.
    """

    def __init__(self, file: BinaryIO, most_bytes: int):
        _check_end(file)
        try:
            self._zip = zipfile.ZipFile(file)
        except UNREADABLE:
            raise Unusable from None
        entries = self._zip.infolist()
        found = list(_files(entries))
        # Entries may overlap in the ZIP: little to send, and hours to unpack.
        if sum(each.entry.compress_size for each in found) > file.seek(0, 2):
            raise Unusable
        if not found:
            raise Unusable("There is no file in this ZIP.")
        if len(found) > FILES_MAX:
            raise TooMany
        _check_places(found, [name for name in map(_name, entries) if name.endswith("/")])
        self.files, self.top = _without_top(found)
        self.files.sort(key=lambda each: is_start_page(each.path))
        if sum(each.bytes for each in self.files) > most_bytes:
            most = most_bytes // 2**20
            raise Unusable(f"Unpacked, it is larger than the {most} MB that there may be.")

    @property
    def has_start_page(self) -> bool:
        return is_start_page(self.files[-1].path)

    def read(self, file: File) -> Iterator[bytes]:
        """The content of a file, in chunks."""
        with self._zip.open(file.entry) as content:
            while chunk := content.read(CHUNK):
                yield chunk

    def check_contents(self) -> None:
        """Unpack everything once, into nothing. Raises Unusable."""
        for file in self.files:
            try:
                length = sum(map(len, self.read(file)))
            except UNREADABLE:
                length = None
            if length != file.bytes:
                raise Unusable(
                    f"“{_shown(file.path)}” in this ZIP is damaged. Please pack it anew."
                )


class TooMany(Unusable):
    text = f"There are more than {FILES_MAX:,} files in this ZIP. Please send them by FTP or SSH."


def is_start_page(path: str) -> bool:
    """Whether it may be what visitors of the site see first."""
    return path.lower().startswith("index.") and "/" not in path


def of_page(page: BinaryIO, file: BinaryIO) -> None:
    """Write a ZIP with one page in it, index.html."""
    packed = zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED)
    with packed, packed.open("index.html", "w") as content:
        while chunk := page.read(CHUNK):
            content.write(chunk)


def _check_end(file: BinaryIO) -> None:
    """Look at the end of the list as zipfile does, before zipfile reads a list of any length."""
    size = file.seek(0, 2)
    file.seek(max(0, size - END_BYTES_MAX))
    tail = file.read()
    at = tail.rfind(b"PK\5\6")
    if at < 0 or len(tail) - at < 22:
        raise Unusable
    # With a ZIP64 end zipfile would take the length from there; nothing as small as this needs one.
    if tail[max(0, at - 20) :].startswith(b"PK\6\7"):
        raise Unusable
    (length,) = struct.unpack("<I", tail[at + 12 : at + 16])
    if length > LIST_BYTES_MAX:
        raise TooMany


def _files(entries: list[zipfile.ZipInfo]) -> Iterator[File]:
    for entry in entries:
        name = _name(entry)
        parts = _parts(name)
        is_junk = not parts or parts[0] == LEFT_OUT_TOP or parts[-1] in LEFT_OUT
        if name.endswith("/") or is_junk or parts[-1].startswith("._"):
            continue
        shown, kind = _shown(name), stat.S_IFMT(entry.external_attr >> 16)
        if kind not in (0, stat.S_IFREG):
            raise Unusable(f"“{shown}” in this ZIP is a link: only files can go online.")
        if entry.flag_bits & ENCRYPTED:
            raise Unusable(
                f"“{shown}” in this ZIP is encrypted. Please pack it without a password."
            )
        if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise Unusable(
                f"“{shown}” in this ZIP is compressed in a way that we cannot read. "
                "Please choose “Deflate” when you pack it."
            )
        yield File("/".join(parts), entry.file_size, entry)


def _name(entry: zipfile.ZipInfo) -> str:
    name = entry.orig_filename
    if not entry.flag_bits & UTF_8:
        try:
            name = name.encode("cp437").decode()  # macOS writes UTF-8 and does not say so
        except UnicodeError:
            pass
    return unicodedata.normalize("NFC", name)


def _parts(name: str) -> list[str]:
    """The directories in a name, and its last part. Raises Unusable."""
    shown, parts = _shown(name), [part for part in name.split("/") if part not in ("", ".")]
    if name.startswith("/") or re.match("[A-Za-z]:", name) or ".." in parts:
        raise Unusable(f"“{shown}” in this ZIP leads out of it: a name may not say where to go.")
    if "\\" in name or not name.isprintable():
        raise Unusable(f"“{shown}” in this ZIP has a character in its name that no URL has.")
    if any(part != part.strip() for part in parts):
        raise Unusable(f"“{shown}” in this ZIP has a blank at the beginning or end of its name.")
    longest = max((len(part.encode()) for part in parts), default=0)
    if longest > NAME_BYTES_MAX or len(name.encode()) > PATH_BYTES_MAX:
        raise Unusable(f"“{shown}” in this ZIP is too long a name.")
    if len(parts) > PARTS_MAX:
        raise Unusable(f"“{shown}” in this ZIP lies below more than {PARTS_MAX - 1} directories.")
    return parts


def _shown(name: str) -> str:
    printable = "".join(
        letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in name
    )
    return printable if len(name) <= SHOWN_MAX else printable[:SHOWN_MAX] + "…"


def _without_top(files: list[File]) -> tuple[list[File], str | None]:
    """Take the files out of the directory that all of them are in, if the start page is there."""
    tops = {file.path.partition("/")[0] for file in files}
    inner = [file.path.partition("/")[2] for file in files]
    if len(tops) != 1 or not all(inner) or not any(map(is_start_page, inner)):
        return files, None
    moved = [File(path, file.bytes, file.entry) for path, file in zip(inner, files, strict=True)]
    return moved, tops.pop()


def _check_places(files: list[File], directories: list[str]) -> None:
    """Check that no two files have the same place, even where capitals do not count."""
    seen: dict[str, str] = {}
    for file in files:
        key = file.path.casefold()
        if key in seen:
            raise Unusable(
                f"“{_shown(file.path)}” and “{_shown(seen[key])}” in this ZIP have the same name."
            )
        seen[key] = file.path
    # A directory may be listed by itself, with nothing in it.
    parents = {"/".join(_parts(name)).casefold() for name in directories}
    for file in files:
        parts = file.path.casefold().split("/")
        parents.update("/".join(parts[:length]) for length in range(1, len(parts)))
    for both in sorted(parents & seen.keys()):
        raise Unusable(f"“{_shown(seen[both])}” in this ZIP is a file and a directory.")
