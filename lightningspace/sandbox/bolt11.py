"""BOLT 11 invoices for regtest, field for field as lightningd writes them."""

import re

from coincurve import PrivateKey, PublicKey, ecdsa
from pyln.proto.bech32 import CHARSET, bech32_decode, bech32_encode, convertbits

PREFIX = "lnbcrt"
TIMESTAMP_WORDS = 7
SIGNATURE_WORDS = 104

# The value of each multiplier, in tenths of a millisatoshi: "p" is one tenth.
MULTIPLIERS = {"": 10**12, "m": 10**9, "u": 10**6, "n": 10**3, "p": 1}

# Fields with a fixed length. Readers skip one of any other length.
FIXED_WORDS = {"p": 52, "s": 52, "h": 52, "n": 53}


class Bolt11Error(ValueError):
    """The text is not a valid regtest invoice."""


def encode(
    key: PrivateKey,
    *,
    payment_hash: str,
    payment_secret: str,
    created_at: int,
    expiry: int,
    amount_msat: int | None = None,
    description: str | None = None,
    description_hash: str | None = None,
    min_final_cltv_expiry: int = 10,
    features: str = "02024100",
) -> str:
    """Write and sign an invoice. Without `amount_msat` the payer chooses the amount."""
    hrp = PREFIX + ("" if amount_msat is None else _shorten(amount_msat))
    words = _number(created_at, TIMESTAMP_WORDS)
    words += _field("s", _words(bytes.fromhex(payment_secret)))
    words += _field("p", _words(bytes.fromhex(payment_hash)))
    if description_hash is None:
        words += _field("d", _words((description or "").encode()))
    else:
        words += _field("h", _words(bytes.fromhex(description_hash)))
    words += _field("x", _number(expiry))
    words += _field("c", _number(min_final_cltv_expiry))
    words += _field("9", _number(int(features, 16)))
    words += _words(key.sign_recoverable(_signed(hrp, words)))
    return bech32_encode(hrp, bytes(words))


def decode(text: str) -> dict:
    """Read an invoice as lightningd's `decode` does, or raise Bolt11Error."""
    try:
        hrp, words = bech32_decode(text)
    except ValueError as error:
        raise Bolt11Error("Bad bech32 string") from error
    amount = re.fullmatch(PREFIX + r"(?:([1-9][0-9]{0,19})([munp]?))?", hrp)
    if not amount:
        raise Bolt11Error("Not a regtest invoice")
    if len(words) < TIMESTAMP_WORDS + SIGNATURE_WORDS:
        raise Bolt11Error("Too short to hold a signature")

    signed, signature = words[:-SIGNATURE_WORDS], _bytes(words[-SIGNATURE_WORDS:])
    fields = _fields(signed[TIMESTAMP_WORDS:])
    payee, der = _recover(signature, _signed(hrp, signed))
    if "n" in fields and _bytes(fields["n"]) != payee:
        raise Bolt11Error("Not signed by the payee it names")
    if missing := {"p", "s"} - fields.keys():
        raise Bolt11Error(f"Missing fields: {sorted(missing)}")

    decoded = {
        "type": "bolt11 invoice",
        "currency": PREFIX.removeprefix("ln"),
        "created_at": _value(signed[:TIMESTAMP_WORDS]),
        "expiry": _value(fields["x"]) if "x" in fields else 3600,
        "payee": payee.hex(),
        "min_final_cltv_expiry": _value(fields["c"]) if "c" in fields else 18,
        "payment_secret": _bytes(fields["s"]).hex(),
        "payment_hash": _bytes(fields["p"]).hex(),
        "signature": der.hex(),
        "valid": True,
    }
    if amount[1]:
        decoded["amount_msat"] = _lengthen(int(amount[1]), amount[2])
    if "d" in fields:
        decoded["description"] = _text(fields["d"])
    elif "h" in fields:
        decoded["description_hash"] = _bytes(fields["h"]).hex()
    else:
        raise Bolt11Error("Neither a description nor its hash")
    if "9" in fields:
        features = _value(fields["9"])
        decoded["features"] = features.to_bytes((features.bit_length() + 7) // 8, "big").hex()
    return decoded


def _shorten(amount_msat: int) -> str:
    """Use the largest multiplier that needs no fraction."""
    for letter, worth in MULTIPLIERS.items():
        units, rest = divmod(amount_msat * 10, worth)
        if not rest:
            return f"{units}{letter}"
    raise AssertionError("a tenth of a millisatoshi divides everything")


def _lengthen(units: int, letter: str) -> int:
    amount_msat, rest = divmod(units * MULTIPLIERS[letter], 10)
    if rest:
        raise Bolt11Error("The amount is a fraction of a millisatoshi")
    return amount_msat


def _field(tag: str, words: list[int]) -> list[int]:
    return [CHARSET.index(tag), *divmod(len(words), 32), *words]


def _fields(words: bytes) -> dict[str, bytes]:
    fields = {}
    while words:
        if len(words) < 3:
            raise Bolt11Error("A field is cut off")
        tag, end = CHARSET[words[0]], 3 + words[1] * 32 + words[2]
        value, words = words[3:end], words[end:]
        if len(value) != end - 3:
            raise Bolt11Error("A field is cut off")
        if FIXED_WORDS.get(tag, len(value)) == len(value):
            fields.setdefault(tag, value)
    return fields


def _recover(signature: bytes, signed: bytes) -> tuple[bytes, bytes]:
    """Return the signer's key, and the signature in DER as `decode` shows it."""
    try:
        payee = PublicKey.from_signature_and_message(signature, signed)
        recoverable = ecdsa.deserialize_recoverable(signature)
    except ValueError as error:
        raise Bolt11Error("Invalid signature") from error
    return payee.format(), ecdsa.cdata_to_der(ecdsa.recoverable_convert(recoverable))


def _signed(hrp: str, words) -> bytes:
    """The signed bytes: the data, padded with zero bits (coincurve hashes them)."""
    return hrp.encode() + bytes(convertbits(words, 5, 8))


def _words(data: bytes) -> list[int]:
    return convertbits(data, 8, 5)


def _bytes(words: bytes) -> bytes:
    return bytes(convertbits(words, 5, 8))[: len(words) * 5 // 8]


def _text(words: bytes) -> str:
    try:
        return _bytes(words).decode()
    except UnicodeDecodeError as error:
        raise Bolt11Error("The description is not UTF-8") from error


def _number(value: int, length: int = 1) -> list[int]:
    """Write a number in as few 5-bit words as it needs, but at least `length`."""
    length = max(length, -(-value.bit_length() // 5))
    return [value >> 5 * place & 31 for place in reversed(range(length))]


def _value(words: bytes) -> int:
    value = 0
    for word in words:
        value = value << 5 | word
    return value
