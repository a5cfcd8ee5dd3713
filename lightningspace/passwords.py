"""Login passwords: hashed and checked two at a time, because scrypt takes 32 MB for each."""

import re
import secrets
import string
import threading
from contextlib import contextmanager, nullcontext

from werkzeug.security import check_password_hash, generate_password_hash

LENGTH_MAX = 64
RULE_IN_WORDS = (
    "9 to 64 letters, digits and signs (ASCII, but not ' \" or \\), or 8 if they mix three of: "
    "lower case, upper case, digits, signs"
)
# ISPConfig hashes a database password with its quotes and backslashes escaped: it never opens.
SIGNS = r"[ !#-&(-\[\]-~]"
CLASSES = (r"[a-z]", r"[A-Z]", r"[0-9]", r"[^A-Za-z0-9]")

# For each hash 32 MB and, on a machine of these years, 60 ms.
METHOD = "scrypt:32768:8:1"
_hashing = threading.BoundedSemaphore(2)
# Those who wait hold a thread of the web server each: a flood of logins may not take them all.
_waiting = threading.BoundedSemaphore(4)

# What an unknown user's password is checked against, so that it takes as long as a known one's.
_NOBODY = generate_password_hash(secrets.token_hex(16), METHOD)


class Busy(Exception):
    """Too many passwords are being checked just now."""


def is_good(password: str) -> bool:
    """What ISPConfig takes as "Good": others it would refuse after the money is taken."""
    if not re.fullmatch(SIGNS + "{8,64}", password):
        return False
    mixed = sum(re.search(pattern, password) is not None for pattern in CLASSES)
    return len(password) >= 9 or mixed >= 3


def generate() -> str:
    """16 letters and digits without look-alikes (about 92 bits), of all three classes."""
    alphabet = "".join(sorted(set(string.ascii_letters + string.digits) - set("0O1lI")))
    while True:
        password = "".join(secrets.choice(alphabet) for _ in range(16))
        if all(re.search(pattern, password) for pattern in CLASSES[:3]):
            return password


def make_hash(password: str, at_once: bool = False) -> str:
    """With `at_once` it raises Busy where too many wait; else it waits behind them."""
    with _a_place_in_the_queue() if at_once else nullcontext(), _hashing:
        return generate_password_hash(password, METHOD)


def matches(password_hash: str | None, password: str) -> bool:
    """Check a login; None stands for an unknown user and takes as long. Raises Busy."""
    with _a_place_in_the_queue(), _hashing:
        right = check_password_hash(password_hash or _NOBODY, password[: LENGTH_MAX + 1])
    return right and password_hash is not None


@contextmanager
def _a_place_in_the_queue():
    if not _waiting.acquire(blocking=False):
        raise Busy
    try:
        yield
    finally:
        _waiting.release()
