"""What the shop's programs on customers' sites have in common: how the one file of each is made,
and the marks that tell whether a file is ours.

Each file of ours contains a mark, the hash of its content: if it is right, we wrote the file and
nobody has edited it since.
"""

import hashlib
import json
import re
import secrets
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path

from lightningspace.outside.ftp import FtpRefused, Session

SHARED = Path(__file__).parent / "shared.php"
PLACE_OF_SHARED = b"// SHARED\n"
UPLOAD = re.compile(r"tipjar-upload-[0-9a-f]{16}\.tmp")


class Program:
    """A program of one file. `title`: what its first comment calls it."""

    def __init__(self, title: str, source: Path):
        self._title = title.encode()
        self._source = source
        self._mark = re.compile(
            rb"^(?://|#) lightning-space %s ([0-9a-f]{64})\n" % self._title, re.M
        )

    @cached_property
    def text(self) -> bytes:
        """The whole file, with its mark."""
        source, place, end = self._source.read_bytes().partition(PLACE_OF_SHARED)
        assert place and not end, f"{self._source} does not end with the place of what is shared"
        shared = SHARED.read_bytes().removeprefix(b"<?php\n")
        return self.marked(source + shared, b"//")

    def marked(self, text: bytes, comment: bytes) -> bytes:
        """The text with its mark, in its line that ends with UNSTAMPED."""
        before, unstamped, after = text.partition(
            b"%s lightning-space %s UNSTAMPED\n" % (comment, self._title)
        )
        assert unstamped, "no line for its mark"
        mark = hashlib.sha256(before + after).hexdigest().encode()
        return before + b"%s lightning-space %s %s\n" % (comment, self._title, mark) + after

    def is_ours(self, content: bytes) -> bool:
        """Whether it is one of our versions, unedited."""
        line = self._mark.search(content)
        if not line:
            return False
        unmarked = content[: line.start()] + content[line.end() :]
        return hashlib.sha256(unmarked).hexdigest() == line[1].decode()


def settings_file(settings: dict) -> bytes:
    """A program's settings as a file, with their mark. They are public: none may be a secret."""
    marked = settings | {"mark": _mark(settings)}
    return json.dumps(marked, indent=2, ensure_ascii=False).encode() + b"\n"


def are_our_settings(content: bytes) -> bool:
    """Whether we wrote these settings and nobody has edited them."""
    settings = read_settings(content)
    mark = settings.pop("mark", None)
    return bool(settings) and mark == _mark(settings)


def read_settings(content: bytes) -> dict:
    try:
        settings = json.loads(content)
    except (ValueError, RecursionError):
        return {}
    return settings if isinstance(settings, dict) else {}


def _mark(settings: dict) -> str:
    canonical = json.dumps(settings, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(canonical.encode(errors="surrogatepass")).hexdigest()


def upload(session: Session, content: bytes, mode: int) -> str:
    """Store a whole file under a name of ours, to be renamed then; return that name."""
    name = f"tipjar-upload-{secrets.token_hex(8)}.tmp"
    session.store(name, content)
    session.set_mode(name, mode)
    return name


def tidy(session: Session, names: list[str] | None, keep: Iterable[str] = ()) -> None:
    """Remove what interrupted uploads left. `names`: all that are in the directory."""
    for name in sorted(set(names or ()) - set(keep)):
        if UPLOAD.fullmatch(name):
            try:
                session.delete(name)
            except FtpRefused:
                pass  # a directory of that name, or the customer has deleted it
