"""Login passwords. Only a few are hashed at a time, because scrypt takes 32 MB for each."""

import re
import secrets
import string
import threading
from contextlib import AbstractContextManager, contextmanager

from werkzeug.security import check_password_hash, generate_password_hash

LENGTH_MAX = 64
RULE_IN_WORDS = (
    "9 to 64 letters, digits and symbols (ASCII, but not ' \" or \\), or 8 with three of: lower "
    "case, upper case, digit, symbol"
)
# Without quotes and backslashes: ISPConfig hashes a database password with them escaped, and the
# original then never opens the database.
ALLOWED = r"[ !#-&(-\[\]-~]"
CLASSES = (r"[a-z]", r"[A-Z]", r"[0-9]", r"[^A-Za-z0-9]")

# Each hash takes 32 MB, and about 60 ms on current hardware.
METHOD = "scrypt:32768:8:1"


class Busy(Exception):
    """Too many passwords are being hashed right now."""


class Lane:
    """A queue for hashing: `at_once` hash at the same time, and at most `places` hash or wait.

    Each one that waits holds a thread of the web server; a flood of logins may not take them all.
    """

    def __init__(self, at_once: int, places: int):
        self.turn = threading.BoundedSemaphore(at_once)
        self._places = places
        self._networks: set[str] = set()
        self._lock = threading.Lock()

    @contextmanager
    def place(self, network: str):
        """Take the one place that a network may have, and wait for its turn. Raises Busy."""
        with self._lock:
            if len(self._networks) == self._places or network in self._networks:
                raise Busy
            self._networks.add(network)
        try:
            with self.turn:
                yield
        finally:
            with self._lock:
                self._networks.remove(network)


STRANGERS = Lane(at_once=2, places=3)
# For browsers that were logged in to the account before: a flood of strangers does not delay them.
KNOWN = Lane(at_once=1, places=3)


def is_good(password: str) -> bool:
    """Whether ISPConfig rates it "Good". It would refuse others, after the money is taken."""
    if not re.fullmatch(ALLOWED + "{8,64}", password):
        return False
    mixed = sum(re.search(pattern, password) is not None for pattern in CLASSES)
    return len(password) >= 9 or mixed >= 3


def has_only_allowed(password: str) -> bool:
    """Whether all its characters are ones that a password may have."""
    return re.fullmatch(ALLOWED + "*", password) is not None


def generate() -> str:
    """16 letters and digits without look-alikes (about 92 bits); lower case, upper case, digits."""
    alphabet = "".join(sorted(set(string.ascii_letters + string.digits) - set("0O1lI")))
    while True:
        password = "".join(secrets.choice(alphabet) for _ in range(16))
        if all(re.search(pattern, password) for pattern in CLASSES[:3]):
            return password


def make_hash(password: str, place: AbstractContextManager | None = None) -> str:
    """Hash it in a `place` of a lane, which may raise Busy; without one, wait for a turn."""
    with place or STRANGERS.turn:
        return generate_password_hash(password, METHOD)


def matches(
    password_hash: str | None, password: str, place: AbstractContextManager | None = None
) -> bool:
    """Whether it is right. None (an unknown user) takes as long. `place`: as in `make_hash`."""
    nobodys = f"{METHOD}$salt$no password has this hash"
    with place or STRANGERS.turn:
        right = check_password_hash(password_hash or nobodys, password[: LENGTH_MAX + 1])
    return right and password_hash is not None
