"""What SECRET_KEY protects: sealed passwords, keyed hashes, and the key's own fingerprint."""

import base64
import hashlib
import hmac

from cryptography.fernet import Fernet, InvalidToken, MultiFernet

# Passwords, which stay in the database, and what is handed out in links.
PURPOSES = ("seal", "reminders")


class Unreadable(Exception):
    """A sealed value that none of our keys opens."""


class Vault:
    """Seals with `key`; opens what `key` or one of `fallbacks` (older keys) has sealed."""

    def __init__(self, key: str, fallbacks: tuple[str, ...] = ()):
        self._keys = (key, *fallbacks)
        self._mac_keys = [_derive(k, "mac") for k in self._keys]
        self._boxes = {purpose: self._box(purpose) for purpose in PURPOSES}

    def _box(self, purpose: str) -> MultiFernet:
        return MultiFernet([Fernet(_derive(key, purpose)) for key in self._keys])

    def seal(self, text: str, purpose: str = "seal") -> str:
        return self._boxes[purpose].encrypt(text.encode()).decode()

    def unseal(self, sealed: str, purpose: str = "seal") -> str:
        """Raise Unreadable when the value was not sealed for this purpose, with a key of ours."""
        try:
            return self._boxes[purpose].decrypt(sealed.encode()).decode()
        except InvalidToken as error:
            raise Unreadable from error

    def mac(self, purpose: str, *parts: str) -> str:
        """A keyed hash: equal for equal parts, and it tells nothing to who lacks the key."""
        return _mac(self._mac_keys[0], purpose, parts)

    def macs(self, purpose: str, *parts: str) -> list[str]:
        """What `mac` gives with our key, and gave with the older ones."""
        return [_mac(key, purpose, parts) for key in self._mac_keys]

    def is_mac(self, mac: str, purpose: str, *parts: str) -> bool:
        """Whether `mac` was made of these parts, with our key or an older one."""
        return any(hmac.compare_digest(mac, _mac(key, purpose, parts)) for key in self._mac_keys)

    def token_masters(self) -> list[bytes]:
        """What root keys of tokens derive from: with our key, then with the older ones."""
        return [base64.urlsafe_b64decode(_derive(key, "tokens")) for key in self._keys]

    def fingerprints(self) -> list[str]:
        """Of our key, then of the older ones; they may be shown and stored."""
        return [hashlib.sha256(_derive(key, "fingerprint")).hexdigest()[:16] for key in self._keys]


def _mac(key: bytes, purpose: str, parts: tuple[str, ...]) -> str:
    message = "\0".join((purpose, *parts)).encode()
    return hmac.new(key, message, "sha256").hexdigest()[:32]


def _derive(key: str, purpose: str) -> bytes:
    derived = hmac.digest(key.encode(), f"lightningspace {purpose}".encode(), "sha256")
    return base64.urlsafe_b64encode(derived)
