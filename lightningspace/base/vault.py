"""What SECRET_KEY protects: sealed passwords, keyed hashes, and the key's own fingerprint."""

import base64
import hashlib
import hmac

from cryptography.fernet import Fernet, InvalidToken, MultiFernet

# "seal": passwords, kept in the database. "reminders": values handed out in links.
PURPOSES = ("seal", "reminders")


class Unreadable(Exception):
    """None of our keys opens this sealed value."""


class Vault:
    """Seals with `key`; opens what `key` or one of the older `fallbacks` sealed."""

    def __init__(self, key: str, fallbacks: tuple[str, ...] = ()):
        self._keys = (key, *fallbacks)
        self._mac_keys = [_derive(k, "mac") for k in self._keys]
        self._boxes = {purpose: self._box(purpose) for purpose in PURPOSES}

    def _box(self, purpose: str) -> MultiFernet:
        return MultiFernet([Fernet(_derive(key, purpose)) for key in self._keys])

    def seal(self, text: str, purpose: str = "seal") -> str:
        return self._boxes[purpose].encrypt(text.encode()).decode()

    def unseal(self, sealed: str, purpose: str = "seal") -> str:
        """Raises Unreadable if it was not sealed for this purpose with one of our keys."""
        try:
            return self._boxes[purpose].decrypt(sealed.encode()).decode()
        except InvalidToken as error:
            raise Unreadable from error

    def reseal(self, sealed: str) -> str:
        """The same, sealed with the current key. Raises Unreadable."""
        try:
            return self._boxes["seal"].rotate(sealed.encode()).decode()
        except InvalidToken as error:
            raise Unreadable from error

    def mac(self, purpose: str, *parts: str) -> str:
        """A keyed hash of the parts, which says nothing to anybody without the key."""
        return _mac(self._mac_keys[0], purpose, parts)

    def macs(self, purpose: str, *parts: str) -> list[str]:
        """`mac` with the current key, then with the older ones."""
        return [_mac(key, purpose, parts) for key in self._mac_keys]

    def is_mac(self, mac: str, purpose: str, *parts: str) -> bool:
        """Whether `mac` was made of these parts, with the current key or an older one."""
        return any(hmac.compare_digest(mac, _mac(key, purpose, parts)) for key in self._mac_keys)

    def token_masters(self) -> list[bytes]:
        """What root keys of tokens are derived from: the current key, then the older ones."""
        return [base64.urlsafe_b64decode(_derive(key, "tokens")) for key in self._keys]

    def fingerprints(self) -> list[str]:
        """Fingerprints of the current key, then of the older ones. They are not secret."""
        return [hashlib.sha256(_derive(key, "fingerprint")).hexdigest()[:16] for key in self._keys]


def _mac(key: bytes, purpose: str, parts: tuple[str, ...]) -> str:
    message = "\0".join((purpose, *parts)).encode()
    return hmac.new(key, message, "sha256").hexdigest()[:32]


def _derive(key: str, purpose: str) -> bytes:
    derived = hmac.digest(key.encode(), f"lightningspace {purpose}".encode(), "sha256")
    return base64.urlsafe_b64encode(derived)
