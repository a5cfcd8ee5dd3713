"""L402 tokens: mint, read, narrow and check them. Knows neither HTTP nor the database.

A token is a macaroon (libmacaroons' binary format V2, first-party caveats only) whose identifier
names a payment hash, and counts together with the preimage of that hash.
"""

import base64
import binascii
import hashlib
import hmac
import re
import secrets
import struct
from dataclasses import dataclass, replace

LOCATION = b"lsat"
SERVICE = "lightning-space"
# What a token may be good for; a receipt is good for all of it.
CAPABILITIES = ("read", "mail", "domains", "settings", "pay", "close")

MACAROON_BYTES_MAX = 4096
CAVEATS_MAX = 32
IDENTIFIER = struct.Struct(">H32s32s")
IDENTIFIER_VERSION = 0
# Of our token ids: which master key, and which of the account's receipts.
TOKEN_ID = struct.Struct(">4sI24s")

# The types of libmacaroons' fields.
END, LOCATION_FIELD, IDENTIFIER_FIELD, SIGNATURE_FIELD = 0, 1, 2, 6
VERSION = 2


class Invalid(Exception):
    """This token cannot be read, or nobody here has made it like that."""


class Void(Invalid):
    """A token that may have been good once or elsewhere: revoked, over, of another service."""


@dataclass(frozen=True)
class Macaroon:
    identifier: bytes
    caveats: tuple[bytes, ...]
    signature: bytes
    location: bytes = LOCATION

    @property
    def payment_hash(self) -> bytes:
        return self._parts[1]

    @property
    def token_id(self) -> bytes:
        return self._parts[2]

    @property
    def _parts(self) -> tuple[int, bytes, bytes]:
        return IDENTIFIER.unpack(self.identifier)

    def narrowed(self, *caveats: str) -> "Macaroon":
        """The same token with further caveats: anybody who has it can do that."""
        macaroon = self
        for caveat in caveats:
            signature = _hmac(macaroon.signature, caveat.encode())
            kept = (*macaroon.caveats, caveat.encode())
            macaroon = replace(macaroon, caveats=kept, signature=signature)
        return macaroon

    def packed(self) -> bytes:
        parts = [bytes([VERSION])]
        if self.location:
            parts.append(_field(LOCATION_FIELD, self.location))
        parts += [_field(IDENTIFIER_FIELD, self.identifier), bytes([END])]
        for caveat in self.caveats:
            parts += [_field(IDENTIFIER_FIELD, caveat), bytes([END])]
        parts += [bytes([END]), _field(SIGNATURE_FIELD, self.signature)]
        return b"".join(parts)

    def __str__(self) -> str:
        """Base64 with padding, the one spelling that every client reads."""
        return base64.b64encode(self.packed()).decode()

    def __repr__(self):
        return f"<Macaroon of {self.identifier[2:6].hex()}>"  # whole, it is half of a credential


@dataclass(frozen=True)
class Rights:
    """What the caveats of a token leave of what it was minted for. `valid_until` None: for ever."""

    capabilities: frozenset[str]
    valid_until: int | None

    @property
    def are_whole(self) -> bool:
        return self.capabilities == frozenset(CAPABILITIES) and self.valid_until is None


WHOLE = Rights(frozenset(CAPABILITIES), None)


# -- keys ------------------------------------------------------------------------------


class Keys:
    """Root keys derived from master keys, so that a challenge nobody pays leaves no row.

    The first master key mints; a token id names the one that it was minted with.
    """

    def __init__(self, masters: list[bytes]):
        self._masters = {_version(master): master for master in reversed(masters)}
        self._newest = _version(masters[0])

    def token_id(self, epoch: int, seed: bytes | None = None) -> bytes:
        """One for a new token: equal for an equal `seed`, else random."""
        own = secrets.token_bytes(24) if seed is None else self._derive(self._newest, b"id", seed)
        return TOKEN_ID.pack(self._newest, epoch, own[:24])

    def mint(self, payment_hash: bytes, token_id: bytes, rights: Rights = WHOLE) -> Macaroon:
        """Raises Void when the master key of this token id is not ours (any more)."""
        identifier = IDENTIFIER.pack(IDENTIFIER_VERSION, payment_hash, token_id)
        return mint(self._root(identifier), identifier, *caveats(rights))

    def check(self, macaroon: Macaroon, preimage: bytes) -> None:
        """Raise Invalid unless we have minted it, for the payment of this preimage.

        Void: perhaps we have, with a master key that is gone.
        """
        if hashlib.sha256(preimage).digest() != macaroon.payment_hash:
            raise Invalid("the preimage is not that of this token")
        check_signature(macaroon, self._root(macaroon.identifier))

    def secret(self, token_id: bytes) -> bytes:
        """The preimage of a token that no payment of its own stands for."""
        return self._derive(TOKEN_ID.unpack(token_id)[0], b"secret", token_id)

    def _root(self, identifier: bytes) -> bytes:
        version = TOKEN_ID.unpack(IDENTIFIER.unpack(identifier)[2])[0]
        return self._derive(version, b"root", hashlib.sha256(identifier).digest())

    def _derive(self, version: bytes, purpose: bytes, what: bytes) -> bytes:
        if version not in self._masters:
            raise Void("the key of this token is not ours, or not any more")
        return _hmac(self._masters[version], purpose + b"\0" + what)


def epoch(macaroon: Macaroon) -> int:
    """Which of its account's receipts it is."""
    return TOKEN_ID.unpack(macaroon.token_id)[1]


def _version(master: bytes) -> bytes:
    return hashlib.sha256(b"version\0" + master).digest()[:4]


# -- minting and checking --------------------------------------------------------------


def mint(root_key: bytes, identifier: bytes, *caveats: str) -> Macaroon:
    key = _hmac(b"macaroons-key-generator", root_key)
    return Macaroon(identifier, (), _hmac(key, identifier)).narrowed(*caveats)


def check_signature(macaroon: Macaroon, root_key: bytes) -> None:
    """Raise Invalid unless it was minted with this root key, and only narrowed since."""
    signature = _hmac(_hmac(b"macaroons-key-generator", root_key), macaroon.identifier)
    for caveat in macaroon.caveats:
        signature = _hmac(signature, caveat)
    if not hmac.compare_digest(signature, macaroon.signature):
        raise Invalid("the signature of this token is wrong")


def caveats(rights: Rights) -> list[str]:
    """What a token of these rights is minted with; at most two for a receipt."""
    capabilities = ",".join(in_order(rights.capabilities))
    minted = [f"services={SERVICE}:0", f"{SERVICE}_capabilities={capabilities}"]
    if rights.valid_until is not None:
        minted.append(f"{SERVICE}_valid_until={rights.valid_until}")
    return minted


def in_order(capabilities: frozenset[str]) -> list[str]:
    return [name for name in CAPABILITIES if name in capabilities]


def rights(macaroon: Macaroon, moment: int) -> Rights:
    """What its caveats leave at this moment: each may only narrow what those before it allow.

    Unknown ones are skipped. Raises Void when nothing is left here, Invalid for a caveat of ours
    that cannot be read or would widen.
    """
    services, capabilities, valid_until = None, None, None
    for caveat in macaroon.caveats:
        condition, _, value = caveat.partition(b"=")
        if condition == b"services":
            services = _narrower(_names(value, tiers=True), services)
        elif condition == f"{SERVICE}_capabilities".encode():
            capabilities = _narrower(_names(value), capabilities)
        elif condition == f"{SERVICE}_valid_until".encode():
            until = _whole(value)
            if valid_until is not None and until > valid_until:
                raise Invalid("a caveat of this token widens an earlier one")
            valid_until = until
    if services is None or SERVICE not in services:
        raise Void("this token is not for this service")
    if valid_until is not None and moment >= valid_until:
        raise Void("the time of this token is over")
    known = frozenset(CAPABILITIES) & (capabilities or frozenset())
    return Rights(known, valid_until)


def preimage_in(macaroon: Macaroon) -> bytes | None:
    """The preimage that some clients write into the token itself; the last counts."""
    for caveat in reversed(macaroon.caveats):
        if caveat.startswith(b"preimage="):
            return read_preimage(caveat.removeprefix(b"preimage=").decode("ascii", "replace"))
    return None


def _narrower(names: frozenset[str], before: frozenset[str] | None) -> frozenset[str]:
    if before is not None and not names <= before:
        raise Invalid("a caveat of this token widens an earlier one")
    return names


def _names(value: bytes, tiers: bool = False) -> frozenset[str]:
    try:
        text = value.decode("ascii")
    except UnicodeDecodeError:
        raise Invalid("a caveat of this token cannot be read") from None
    pattern = r"[^,:=]+:[0-9]+" if tiers else r"[^,:=]+"
    parts = text.split(",") if text else []
    if not all(re.fullmatch(pattern, part) for part in parts):
        raise Invalid("a caveat of this token cannot be read")
    return frozenset(part.partition(":")[0] for part in parts)


def _whole(value: bytes) -> int:
    # Plain digits: int() alone also reads "1_0" and " 1".
    if not re.fullmatch(rb"[0-9]{1,18}", value):
        raise Invalid("a caveat of this token cannot be read")
    return int(value)


# -- reading ---------------------------------------------------------------------------


def read(text: str) -> Macaroon:
    """A token in base64, standard or url-safe, padded or not. Raises Invalid."""
    if len(text) > MACAROON_BYTES_MAX * 4 // 3 + 4:
        raise Invalid("this token is too long")
    plain = text.replace("-", "+").replace("_", "/").rstrip("=")
    try:
        packed = base64.b64decode(plain + "=" * (-len(plain) % 4), validate=True)
    except (ValueError, binascii.Error):
        raise Invalid("this token is not base64") from None
    return unpack(packed)


def read_preimage(text: str) -> bytes:
    """64 hex digits of any case. Raises Invalid."""
    if not re.fullmatch("[0-9a-fA-F]{64}", text):
        raise Invalid("a preimage has 64 hex digits")
    return bytes.fromhex(text)


def unpack(packed: bytes) -> Macaroon:
    """Raises Invalid, whatever the bytes are; nothing is computed before their size is known."""
    if len(packed) > MACAROON_BYTES_MAX:
        raise Invalid("this token is too long")
    reader = _Reader(packed)
    location = reader.optional(LOCATION_FIELD)
    identifier = reader.field(IDENTIFIER_FIELD)
    reader.end()
    found: list[bytes] = []
    while not reader.at_end():
        if len(found) == CAVEATS_MAX:
            raise Invalid("this token has too many caveats")
        found.append(reader.field(IDENTIFIER_FIELD))
        reader.end()  # what stands here of third parties is none of ours
    reader.end()
    signature = reader.field(SIGNATURE_FIELD)
    reader.close()
    if len(identifier) != IDENTIFIER.size or IDENTIFIER.unpack(identifier)[0] != 0:
        raise Invalid("the identifier of this token is of another kind")
    if len(signature) != 32:
        raise Invalid("the signature of this token has not its length")
    return Macaroon(identifier, tuple(found), signature, location or b"")


class _Reader:
    """Fields one after the other; anything else raises Invalid."""

    def __init__(self, packed: bytes):
        self._packed = packed
        self._at = 1
        if packed[:1] != bytes([VERSION]):
            raise Invalid("this is no token of version 2")

    def field(self, kind: int) -> bytes:
        if self._varint() != kind:
            raise Invalid("a field of this token is missing")
        length = self._varint()
        value = self._packed[self._at : self._at + length]
        if len(value) != length:
            raise Invalid("this token is cut off")
        self._at += length
        return value

    def optional(self, kind: int) -> bytes | None:
        return self.field(kind) if self._packed[self._at : self._at + 1] == bytes([kind]) else None

    def at_end(self) -> bool:
        return self._packed[self._at : self._at + 1] == bytes([END])

    def end(self) -> None:
        if not self.at_end():
            raise Invalid("a field of this token is not expected")
        self._at += 1

    def close(self) -> None:
        if self._at != len(self._packed):
            raise Invalid("something follows this token")

    def _varint(self) -> int:
        value = 0
        for shift in (0, 7):  # nothing that we read is longer than that says
            if self._at >= len(self._packed):
                raise Invalid("this token is cut off")
            byte = self._packed[self._at]
            self._at += 1
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value
        raise Invalid("a field of this token is too long")


def _field(kind: int, value: bytes) -> bytes:
    return bytes([kind]) + _varint(len(value)) + value


def _varint(value: int) -> bytes:
    low = b""
    while value >= 0x80:
        low += bytes([value & 0x7F | 0x80])
        value >>= 7
    return low + bytes([value])


def _hmac(key: bytes, message: bytes) -> bytes:
    return hmac.digest(key, message, "sha256")
