"""The files of our own secret key and of the older ones, in the instance directory."""

import os
import secrets
from collections.abc import Iterable
from pathlib import Path

KEY = "secret-key"
# One key a line, the latest first. They are read as SECRET_KEY_FALLBACKS if that is not set.
OLD_KEYS = "secret-key.old"


def is_used(path: Path, key: str) -> bool:
    """Whether the key in use is that of the file, and not one from the settings."""
    return path.exists() and path.read_text().strip() == key


def read_old(instance: Path) -> list[str]:
    """The keys before the one in use, the latest first."""
    path = instance / OLD_KEYS
    return path.read_text().split() if path.exists() else []


def text_of(keys: Iterable[str]) -> bytes:
    return "".join(f"{key}\n" for key in keys).encode()


def replace(path: Path, text: bytes) -> None:
    """Replace a file as a whole, readable by its owner alone. If that fails, the old one stays."""
    draft = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
    try:
        with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        draft.rename(path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
    sync_directory(path.parent)


def sync_directory(path: Path) -> None:
    """Make sure that what was renamed or deleted in it reaches the disk."""
    directory = os.open(path, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
