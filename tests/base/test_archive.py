"""ZIP files from strangers: which files they hold, and every reason to refuse one."""

import io
import stat
import struct
import warnings
import zipfile
import zlib

import pytest

from lightningspace.base import archive
from lightningspace.base.archive import Archive, Unusable

MB = 2**20


def packed(*entries, compression=zipfile.ZIP_DEFLATED) -> bytes:
    """A ZIP with these entries: a name or a ZipInfo, and a content."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as made:
        for entry, content in entries:
            if isinstance(entry, str):
                info = zipfile.ZipInfo()
                info.filename = entry  # unchanged: ZipInfo would clean it up
                info.compress_type = compression
                entry = info
            with warnings.catch_warnings(action="ignore"):  # about duplicate names
                made.writestr(entry, content)
    return file.getvalue()


def info(name: str, **facts) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name)
    for fact, value in facts.items():
        setattr(entry, fact, value)
    return entry


def link(name: str, kind: int = stat.S_IFLNK) -> zipfile.ZipInfo:
    return info(name, create_system=3, external_attr=(kind | 0o777) << 16)


def changed(content: bytes, at: bytes, offset: int, new: bytes) -> bytes:
    """The content with bytes replaced by `new`, at an offset from the last occurrence of `at`."""
    place = content.rindex(at) + offset
    return content[:place] + new + content[place + len(new) :]


def read(content: bytes, most_bytes: int = 10 * MB) -> Archive:
    found = Archive(io.BytesIO(content), most_bytes)
    found.check_contents()
    return found


def paths(*names: str) -> list[str]:
    return [file.path for file in read(packed(*((name, b"x") for name in names))).files]


SITE = packed(
    ("index.html", b"<h1>Hi</h1>"), ("css/a.css", b"a {}"), compression=zipfile.ZIP_STORED
)
LIST, END = b"PK\1\2", b"PK\5\6"


def test_files_are_read_with_the_start_page_last():
    found = read(SITE)
    assert [(file.path, file.bytes) for file in found.files] == [
        ("css/a.css", 4),
        ("index.html", 11),
    ]
    assert b"".join(found.read(found.files[1])) == b"<h1>Hi</h1>"
    assert found.has_start_page and found.top is None
    assert not read(packed(("a.css", b""))).has_start_page


def test_one_page_becomes_index_html():
    file = io.BytesIO()
    archive.of_page(io.BytesIO(b"<p>" + bytes(MB)), file)
    found = read(file.getvalue())
    assert [(file.path, file.bytes) for file in found.files] == [("index.html", MB + 3)]


def test_names_of_files_are_normalized(subtests):
    umlaut = "für/übung.html"
    for names, found in {
        ("./a.html", "b//c.html"): ["a.html", "b/c.html"],
        ("__MACOSX/._a", ".DS_Store", "b/._c", "b/Thumbs.db", "b/c"): ["b/c"],
        ("empty/", "a"): ["a"],
        ("", "/".join("a" * archive.PARTS_MAX)): ["/".join("a" * archive.PARTS_MAX)],
        (".htaccess", "a b.html"): [".htaccess", "a b.html"],
        (umlaut,): [umlaut],
        ("fu\u0308r",): ["f\u00fcr"],
        # All are in one directory, which is taken away: else visitors would get another page.
        ("site/", "site/index.php", "site/site"): ["site", "index.php"],
        ("site/Index.html",): ["Index.html"],
        ("site/a.html", "other/index.html"): ["site/a.html", "other/index.html"],
        ("photos/a.jpg", "photos/b.jpg"): ["photos/a.jpg", "photos/b.jpg"],
    }.items():
        with subtests.test(names=names):
            assert paths(*names) == found
    assert read(packed(("site/index.php", b""))).top == "site"


def test_macos_names_are_decoded_correctly():
    content = packed(("für.html", b"")).replace("für".encode(), b"f\xc3\xbcr")
    for begin, offset in ((b"PK\3\4", 7), (LIST, 9)):
        content = changed(content, begin, offset, b"\0")  # clear the flag for UTF-8
    assert [file.path for file in read(content).files] == ["für.html"]


BAD_NAMES = {
    "../a": "leads out",
    "a/../../b": "leads out",
    "..": "leads out",
    "/etc/passwd": "leads out",
    "//server/share": "leads out",
    "C:\\a.html": "leads out",
    "c:a.html": "leads out",
    "..\\a": "a character in its name",
    "a\\b.html": "a character in its name",
    "a\r\nDELE b": "a character in its name",
    "a\0.html": "a character in its name",
    "a\u202egpj.exe": "a character in its name",
    " a": "a blank",
    "a /b": "a blank",
    "a" * 256: "too long a name",
    "ü" * 150: "too long a name",
    "/".join(["a" * 100] * 6): "too long a name",
    "a/" * 41: "more than 39 directories",
}


def test_names_that_lead_elsewhere_are_refused(subtests):
    for name, why in BAD_NAMES.items():
        with subtests.test(name=name), pytest.raises(Unusable, match=why) as refused:
            paths("index.html", name)
        assert refused.value.text.isprintable() and len(refused.value.text) < 180


def test_duplicate_names_are_refused(subtests):
    for names, why in {
        ("a", "a"): "the same name",
        ("A.html", "a.HTML"): "the same name",
        ("a", "./a"): "the same name",
        ("a", "a/b"): "a file and a directory",
        ("a", "a/"): "a file and a directory",
        ("a/b/c", "A/B"): "a file and a directory",
    }.items():
        with subtests.test(names=names), pytest.raises(Unusable, match=why):
            paths(*names)


BIG = packed(("a", bytes(2 * MB)))


def overlapping() -> bytes:
    """A ZIP with two files that share the same bytes."""
    names, content = (b"a", b"b"), bytes(1000)
    facts = struct.pack("<III", zlib.crc32(content), len(content), len(content))
    # Between the first header and the content is an extra field of that header.
    heads = [
        b"PK\3\4" + struct.pack("<5H", 20, 0, 0, 0, 0) + facts + struct.pack("<2H", 1, extra) + name
        for name, extra in zip(names, (31, 0), strict=True)
    ]
    entries = [
        LIST
        + struct.pack("<6H", 20, 20, 0, 0, 0, 0)
        + facts
        + struct.pack("<5H2I", 1, 0, 0, 0, 0, 0, at)
        + name
        for name, at in zip(names, (0, len(heads[0])), strict=True)
    ]
    body, listed = b"".join(heads) + content, b"".join(entries)
    return body + listed + END + struct.pack("<4H2IH", 0, 0, 2, 2, len(listed), len(body), 0)


BAD = {
    "nothing": (b"", "cannot read"),
    "no ZIP": (b"<html>" * 1000, "cannot read"),
    "the end of one": (END, "cannot read"),
    "half of one": (SITE[: len(SITE) // 2], "cannot read"),
    "no files": (packed(("a/", b"")), "no file"),
    "junk alone": (packed(("__MACOSX/a", b"")), "no file"),
    "a link": (packed((link("a"), b"/etc/passwd")), "is a link"),
    "a FIFO": (packed((link("a", stat.S_IFIFO), b"")), "is a link"),
    "a device": (packed((link("a", stat.S_IFCHR), b"")), "is a link"),
    "another compression": (
        packed(("a", b"x" * 99), compression=zipfile.ZIP_LZMA),
        "compressed in a way",
    ),
    "an unknown compression": (changed(SITE, LIST, 10, b"\x63\0"), "compressed in a way"),
    "encrypted": (changed(SITE, LIST, 8, b"\1"), "is encrypted"),
    "a damaged file": (changed(SITE, b"a {}", 0, b"!"), "is damaged"),
    "a shorter file than it says": (
        changed(BIG, LIST, 24, struct.pack("<I", 3 * MB)),
        "is damaged",
    ),
    "a longer file than it says": (changed(BIG, LIST, 24, struct.pack("<I", MB)), "is damaged"),
    "a place outside of it": (changed(SITE, LIST, 42, b"\xf0\xff\xff\x7f"), "is damaged"),
    "another name at its place": (changed(SITE, b"css/a.css", 0, b"js"), "is damaged"),
    "a version to come": (changed(SITE, LIST, 6, b"\xff\0"), "cannot read"),
    "a list elsewhere": (changed(SITE, END, 16, b"\xf0\xff\xff\x7f"), "is damaged"),
    "files in one place": (overlapping(), "cannot read"),
    "a longer list": (changed(SITE, END, 12, b"\xf0\xff\xff\x7f"), "more than 5,000 files"),
    "a ZIP64 end": (
        SITE.replace(END, b"PK\6\7" + bytes(16) + END),
        "cannot read",
    ),
}


def test_broken_zips_are_refused(subtests):
    for what, (content, why) in BAD.items():
        with subtests.test(what), pytest.raises(Unusable, match=why):
            read(content)


def test_zips_beyond_the_limits_of_size_are_refused():
    with pytest.raises(Unusable, match="larger than the 1 MB"):
        read(BIG, MB)
    # A size of 16 EiB, which needs ZIP64.
    lie = struct.pack("<HHQ", 1, 8, 2**64 - 1)
    huge = changed(packed((info("a", extra=lie), b"x")), LIST, 24, b"\xff" * 4)
    with pytest.raises(Unusable, match="larger than"):
        read(huge)
    many = packed(*((str(n), b"") for n in range(archive.FILES_MAX + 1)))
    with pytest.raises(Unusable, match="more than 5,000 files"):
        read(many)


def test_the_list_of_a_million_files_is_not_even_read():
    class Watched(io.BytesIO):
        bytes_read = 0

        def read(self, *args):
            content = super().read(*args)
            self.bytes_read += len(content)
            return content

    entry = LIST + bytes(24) + struct.pack("<HHHHHII", 1, 0, 0, 0, 0, 0, 0) + b"a"
    end = END + struct.pack("<HHHHIIH", 0, 0, 0xFFFF, 0xFFFF, len(entry) * 10**6, 0, 0)
    file = Watched(entry * 10**6 + end)
    with pytest.raises(Unusable, match="more than 5,000 files"):
        Archive(file, MB)
    assert file.bytes_read <= archive.END_BYTES_MAX
