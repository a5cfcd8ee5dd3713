"""L402 tokens: mint, read, attenuate and verify them. Knows neither HTTP nor the database.

A token is a macaroon (libmacaroons' binary format V2, first-party caveats only) whose identifier
contains a payment hash. It is valid together with the preimage of that hash.
"""

import base64
import hashlib
import hmac
import re
import secrets
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

LOCATION = b"lsat"
SERVICE = "lightning-space"
# What a token may allow; a receipt allows all of it.
CAPABILITIES = ("read", "mail", "domains", "settings", "pay", "close")

MACAROON_BYTES_MAX = 4096
CAVEATS_MAX = 32
# Holders add caveats of their own; and a challenge's headers, which have 8 kB in nginx as we
# recommend it, hold a macaroon three times.
MINTED_BYTES_MAX = 1200
MINTED_MAX = 24
IDENTIFIER = struct.Struct(">H32s32s")
IDENTIFIER_VERSION = 0
# Our token ids: the version of the master key, the receipt's epoch, and 20 bytes of their own.
TOKEN_ID = struct.Struct(">4sQ20s")

VERSION = b"\x02"
# The types of libmacaroons' fields, and their order. Third-party caveats have more fields than an
# identifier: we neither make nor accept them.
END, LOCATION_FIELD, IDENTIFIER_FIELD, SIGNATURE_FIELD = 0, 1, 2, 6
SHAPE = re.compile(rb"\x01?\x02\x00(?:\x02\x00)*\x00\x06")

# The syntax of the values of caveats.
SERVICE_LIST = re.compile(rb"[\w.-]+:[0-9]+(?:,[\w.-]+:[0-9]+)*")
CAPABILITY_LIST = re.compile(rb"[\w.-]+(?:,[\w.-]+)*")
WHOLE_NUMBER = re.compile(rb"[+-]?[0-9]+")
# Names the payment that a hosting is found by, in a token that was minted for a later payment.
PAYMENT_HERE = f"{SERVICE}_payment".encode()
PAYMENT = re.compile(PAYMENT_HERE + rb"=([0-9a-f]{64})")
# The caveats that tokens are minted with, and the one that some clients add.
KNOWN = re.compile(
    rb"(services|preimage|%s|[\w.-]+_(?:capabilities|valid_until|credit_msat))=" % PAYMENT_HERE
)
# Those that belong to a payment, and not to what a token grants.
OF_PAYMENT = re.compile(rb"(?:preimage|%s|[\w.-]+_credit_msat)=" % PAYMENT_HERE)
WIDENS = "a caveat of this credential widens an earlier one"


class Invalid(Exception):
    """This token cannot be read, or was not minted here in this form."""


class Void(Invalid):
    """This token may have been valid once or elsewhere: revoked, expired, of another service."""


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
    def hosting_payment(self) -> bytes:
        """The hash of the payment that a hosting is found by: its own, or of the token before it.

        Its very first caveat alone can name another. Anybody can append caveats, but nobody can put
        one before those that it was minted with; and it was minted with one at least.
        """
        named = PAYMENT.fullmatch(self.caveats[0]) if self.caveats else None
        return bytes.fromhex(named[1].decode()) if named else self.payment_hash

    @property
    def token_id(self) -> bytes:
        return self._parts[2]

    @property
    def _parts(self) -> tuple[int, bytes, bytes]:
        return IDENTIFIER.unpack(self.identifier)

    def narrowed(self, *caveats: str | bytes) -> "Macaroon":
        """The same token with further caveats; any holder can add them."""
        signature, kept = self.signature, list(self.caveats)
        for caveat in caveats:
            kept.append(caveat if isinstance(caveat, bytes) else caveat.encode())
            signature = _hmac(signature, kept[-1])
        return replace(self, caveats=tuple(kept), signature=signature)

    def packed(self) -> bytes:
        parts = [VERSION]
        if self.location:
            parts.append(_field(LOCATION_FIELD, self.location))
        parts += [_field(IDENTIFIER_FIELD, self.identifier), bytes([END])]
        for caveat in self.caveats:
            parts += [_field(IDENTIFIER_FIELD, caveat), bytes([END])]
        parts += [bytes([END]), _field(SIGNATURE_FIELD, self.signature)]
        return b"".join(parts)

    def __str__(self) -> str:
        """Base64 with padding, which every client reads."""
        return base64.b64encode(self.packed()).decode()

    def __repr__(self):
        return f"<Macaroon of {self.identifier[2:6].hex()}>"  # the text is half of a credential


@dataclass(frozen=True)
class Rights:
    """What a token's caveats allow at a service. `valid_until`: None for ever.

    `capabilities` None: no caveat names any, as for a service that has none.
    """

    capabilities: frozenset[str] | None
    valid_until: int | None

    @property
    def are_whole(self) -> bool:
        return self.capabilities == frozenset(CAPABILITIES) and self.valid_until is None


WHOLE = Rights(frozenset(CAPABILITIES), None)
NOTHING = Rights(frozenset(), None)


# -- keys ------------------------------------------------------------------------------


class Keys:
    """Root keys, derived from master keys instead of stored: unpaid challenges leave no rows.

    The first master key mints; a token id contains the version of the key that minted it.
    """

    def __init__(self, masters: list[bytes]):
        self._masters = {_version(master): master for master in reversed(masters)}
        self._newest = _version(masters[0])

    def token_id(self, epoch: int, seed: bytes | None = None) -> bytes:
        """An id for a new token: the same for the same `seed`, random without one."""
        own = secrets.token_bytes(20) if seed is None else self._derive(self._newest, b"id", seed)
        return TOKEN_ID.pack(self._newest, epoch, own[:20])

    def mint(self, payment_hash: bytes, token_id: bytes, minted: Iterable[str | bytes]) -> Macaroon:
        """A token with these caveats, as they are; several payments may share a token id.

        Raises Void if the master key of this token id is not ours, or no longer, and Invalid for
        more caveats than MINTED_MAX, or longer ones.
        """
        identifier = IDENTIFIER.pack(IDENTIFIER_VERSION, payment_hash, token_id)
        macaroon = mint(self._root(identifier), identifier, *minted)
        if not _values(macaroon, "services"):  # else its holder could add the first caveats
            raise ValueError("a token names its services")
        _check_payments_named(macaroon)
        if len(macaroon.caveats) > MINTED_MAX or len(macaroon.packed()) > MINTED_BYTES_MAX:
            raise Invalid("this would be too long a credential")
        return macaroon

    def check(self, macaroon: Macaroon, preimage: bytes) -> None:
        """Raise Invalid unless we minted it, for the payment with this preimage.

        Raises Void if we may have, with a master key that is gone.
        """
        if hashlib.sha256(preimage).digest() != macaroon.payment_hash:
            raise Invalid("the preimage is not that of this credential")
        self.check_minted(macaroon)

    def check_minted(self, macaroon: Macaroon) -> None:
        """As `check`, for whoever has not paid yet."""
        check_signature(macaroon, self._root(macaroon.identifier))
        _check_payments_named(macaroon)

    def secret(self, token_id: bytes) -> bytes:
        """The preimage of a token that was not minted for a payment."""
        return self._derive(TOKEN_ID.unpack(token_id)[0], b"secret", token_id)

    def _root(self, identifier: bytes) -> bytes:
        version = TOKEN_ID.unpack(IDENTIFIER.unpack(identifier)[2])[0]
        return self._derive(version, b"root", hashlib.sha256(identifier).digest())

    def _derive(self, version: bytes, purpose: bytes, what: bytes) -> bytes:
        if version not in self._masters:
            raise Void("the key of this credential is not ours, or no longer")
        return _hmac(self._masters[version], purpose + b"\0" + what)


def new_epoch() -> int:
    """A random epoch for the next receipt: nobody can hold it in advance. The first is 0."""
    return 1 + secrets.randbelow((1 << 63) - 1)


def epoch(macaroon: Macaroon) -> int:
    """The epoch of the account's receipt that this token belongs to."""
    return TOKEN_ID.unpack(macaroon.token_id)[1]


def _version(master: bytes) -> bytes:
    return hashlib.sha256(b"version\0" + master).digest()[:4]


# -- minting and checking --------------------------------------------------------------


def mint(root_key: bytes, identifier: bytes, *caveats: str | bytes) -> Macaroon:
    key = _hmac(b"macaroons-key-generator", root_key)
    return Macaroon(identifier, (), _hmac(key, identifier)).narrowed(*caveats)


def check_signature(macaroon: Macaroon, root_key: bytes) -> None:
    """Raise Invalid unless it was minted with this root key, and only caveats were added since."""
    signature = _hmac(_hmac(b"macaroons-key-generator", root_key), macaroon.identifier)
    for caveat in macaroon.caveats:
        signature = _hmac(signature, caveat)
    if not hmac.compare_digest(signature, macaroon.signature):
        raise Invalid("the signature of this credential is wrong")


def _check_payments_named(macaroon: Macaroon) -> None:
    for at, caveat in enumerate(macaroon.caveats):
        is_named = caveat.partition(b"=")[0] == PAYMENT_HERE
        if is_named and (at > 0 or not PAYMENT.fullmatch(caveat)):
            raise Invalid("this credential cannot name the payment of a hosting there")


def caveats(service: str, rights: Rights, credit_msat: int | None = None) -> list[str]:
    """The caveats that a token with these rights at a service is minted with.

    `credit_msat`: what its payment is worth there, if the service is metered.
    """
    credit = [] if credit_msat is None else [f"{service}_credit_msat={credit_msat}"]
    return [*credit, f"services={service}:0", *_its_caveats(service, rights)]


def caveats_with(
    macaroon: Macaroon, service: str, rights: Rights, moment: int, credit_msat: int | None = None
) -> list[str | bytes]:
    """The caveats of a token that grants what this one does now, and a service with these rights.

    Only for a token that was checked. What it granted there before counts no more, and what it has
    paid for is credited to it alone; caveats that we do not know remain as they stand, for they
    may narrow it elsewhere. `credit_msat`: as in `caveats`. Raises Invalid.
    """
    granted = _granted(macaroon, moment) | {service: rights}
    # A hosting that is bought now is found by that payment itself.
    known = [_payment_named(macaroon)] if SERVICE in granted and service != SERVICE else []
    if credit_msat is not None:
        known.append(f"{service}_credit_msat={credit_msat}")
    known.append(f"services={','.join(f'{name}:0' for name in granted)}")
    for name, its_rights in granted.items():
        known += _its_caveats(name, its_rights)
    return known + [caveat for caveat in macaroon.caveats if not KNOWN.match(caveat)]


def caveats_again(macaroon: Macaroon) -> list[str | bytes]:
    """The caveats of a token that grants just what this one does, narrowed as it is, for a payment
    that buys nothing from a service. Only for a token that was checked.
    """
    kept = [caveat for caveat in macaroon.caveats if not OF_PAYMENT.match(caveat)]
    return [_payment_named(macaroon), *kept]


def _payment_named(macaroon: Macaroon) -> str:
    return f"{SERVICE}_payment={macaroon.hosting_payment.hex()}"


def _granted(macaroon: Macaroon, moment: int) -> dict[str, Rights]:
    """What it grants now, by service."""
    found = {}
    for service in sorted(services(macaroon)):
        try:
            found[service] = rights(macaroon, service, moment)
        except Void:  # its time is over
            continue
    return found


def _its_caveats(service: str, rights: Rights) -> list[str]:
    minted = []
    if rights.capabilities is not None:
        minted.append(f"{service}_capabilities={','.join(in_order(rights.capabilities))}")
    if rights.valid_until is not None:
        minted.append(f"{service}_valid_until={rights.valid_until}")
    return minted


def in_order(capabilities: frozenset[str]) -> list[str]:
    """Those of a hosting first, in their own order."""
    others = sorted(capabilities.difference(CAPABILITIES))
    return [name for name in CAPABILITIES if name in capabilities] + others


def services(macaroon: Macaroon) -> frozenset[str]:
    """The services that it names, whether or not their time is over. Raises Invalid."""
    return _left(macaroon, "services", SERVICE_LIST) or frozenset()


def rights(macaroon: Macaroon, service: str, moment: int) -> Rights:
    """What its caveats allow there at this moment; each may only narrow the earlier ones.

    Unknown caveats are skipped, as all L402 servers do. Raises Void if it allows nothing there,
    Invalid for a caveat of that service that is malformed or would widen.
    """
    named = services(macaroon)
    capabilities = _left(macaroon, f"{service}_capabilities", CAPABILITY_LIST)
    valid_until = None
    for value in _values(macaroon, f"{service}_valid_until"):
        until = _whole(value)
        if valid_until is not None and until > valid_until:
            raise Invalid(WIDENS)
        valid_until = until
    if service not in named:
        raise Void("this credential is not for this service")
    if valid_until is not None and moment >= valid_until:
        raise Void("the time of this credential is over")
    return Rights(capabilities, valid_until)


def rights_at_hosting(macaroon: Macaroon, moment: int) -> Rights:
    """As `rights`, with the capabilities that there are; without a caveat that names some, none."""
    found = rights(macaroon, SERVICE, moment)
    return replace(found, capabilities=WHOLE.capabilities & (found.capabilities or frozenset()))


def credit(macaroon: Macaroon, service: str) -> tuple[int, int] | None:
    """What its payment is worth at a metered service, and until when; None: it has not paid for it.

    Only for a token that was checked. It counts before the caveat of services alone: every token is
    minted with that, so that what a holder adds comes after it. And an end that a holder adds is
    that of the credential, not of what was paid for: the first end counts.
    """
    start = f"{service}_credit_msat=".encode()
    for caveat in macaroon.caveats:
        if caveat.startswith(b"services="):
            return None
        if caveat.startswith(start):
            until = _values(macaroon, f"{service}_valid_until")[0]
            return _whole(caveat.removeprefix(start)), _whole(until)
    return None


def is_as_minted(macaroon: Macaroon) -> bool:
    """Whether no holder has narrowed it: each of our caveats is there once, and no other.

    Of an end of the hosting nobody knows who added it, so such a token counts as narrowed.
    """
    if _values(macaroon, f"{SERVICE}_valid_until"):
        return False
    known = [KNOWN.match(caveat) for caveat in macaroon.caveats]
    if not all(known):
        return False
    conditions = [each[1] for each in known if each[1] != b"preimage"]
    return len(set(conditions)) == len(conditions)


def preimage_in(macaroon: Macaroon) -> bytes | None:
    """The preimage that some clients add as a caveat; the last one counts."""
    for caveat in reversed(macaroon.caveats):
        if caveat.startswith(b"preimage="):
            return read_preimage(caveat.removeprefix(b"preimage=").decode("ascii", "replace"))
    return None


def _left(macaroon: Macaroon, condition: str, pattern: re.Pattern[bytes]) -> frozenset[str] | None:
    """The names that the caveats of a condition leave; None: there is no such caveat."""
    left = None
    for value in _values(macaroon, condition):
        names = _names(value, pattern)
        if left is not None and not names <= left:
            raise Invalid(WIDENS)
        left = names
    return left


def _values(macaroon: Macaroon, condition: str) -> list[bytes]:
    start = f"{condition}=".encode()
    return [caveat[len(start) :] for caveat in macaroon.caveats if caveat.startswith(start)]


def _names(value: bytes, pattern: re.Pattern[bytes]) -> frozenset[str]:
    if not value:
        return frozenset()
    if not pattern.fullmatch(value):
        raise Invalid("a caveat of this credential cannot be read")
    return frozenset(part.partition(":")[0] for part in value.decode().split(","))


def _whole(value: bytes) -> int:
    # As Go parses it, in 64 bits; int() would also accept "1_0" and " 1".
    if not WHOLE_NUMBER.fullmatch(value) or abs(int(value)) >= 1 << 63:
        raise Invalid("a caveat of this credential cannot be read")
    return int(value)


# -- reading ---------------------------------------------------------------------------


def read(text: str) -> Macaroon:
    """Read base64, standard or URL-safe, padded or not. Raises Invalid."""
    if len(text) > MACAROON_BYTES_MAX * 4 // 3 + 4:
        raise Invalid("this macaroon is too long")
    plain = text.replace("-", "+").replace("_", "/").rstrip("=")
    try:
        packed = base64.b64decode(plain + "=" * (-len(plain) % 4), validate=True)
    except ValueError:
        raise Invalid("this macaroon is not base64") from None
    return unpack(packed)


def read_preimage(text: str) -> bytes:
    """Read 64 hex digits in either case. Raises Invalid."""
    if not re.fullmatch("[0-9a-fA-F]{64}", text):
        raise Invalid("a preimage has 64 hex digits")
    return bytes.fromhex(text)


def unpack(packed: bytes) -> Macaroon:
    """Raises Invalid for anything malformed. The size is checked before anything is computed."""
    if len(packed) > MACAROON_BYTES_MAX:
        raise Invalid("this macaroon is too long")
    if not packed.startswith(VERSION):
        raise Invalid("this is not a macaroon of version 2")
    fields = list(_fields(packed))
    if not SHAPE.fullmatch(bytes(kind for kind, _ in fields)):
        raise Invalid("this macaroon does not have the parts of ours")
    location = fields[0][1] if fields[0][0] == LOCATION_FIELD else b""
    identifier, *found = [value for kind, value in fields if kind == IDENTIFIER_FIELD]
    signature = fields[-1][1]
    if len(found) > CAVEATS_MAX:
        raise Invalid("this macaroon has too many caveats")
    if len(identifier) != IDENTIFIER.size or IDENTIFIER.unpack(identifier)[0] != IDENTIFIER_VERSION:
        raise Invalid("the identifier of this macaroon is of another kind")
    if len(signature) != 32:
        raise Invalid("the signature of this macaroon has the wrong length")
    return Macaroon(identifier, tuple(found), signature, location)


def _fields(packed: bytes) -> Iterator[tuple[int, bytes]]:
    """Type and value of each field after the version byte."""
    at = len(VERSION)
    while at < len(packed):
        kind, at = packed[at], at + 1
        if kind == END:
            yield END, b""
            continue
        length, at = _length(packed, at)
        if at + length > len(packed):
            raise Invalid("this macaroon is cut off")
        yield kind, packed[at : at + length]
        at += length


def _length(packed: bytes, at: int) -> tuple[int, int]:
    """The varint at this offset, and the offset after it."""
    # At most two bytes, enough for MACAROON_BYTES_MAX; a longer encoding than needed is refused.
    low, high = packed[at : at + 1], packed[at + 1 : at + 2]
    if low and low[0] < 0x80:
        return low[0], at + 1
    if not high or not 0 < high[0] < 0x80:
        raise Invalid("a length in this macaroon is wrong")
    return low[0] & 0x7F | high[0] << 7, at + 2


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
