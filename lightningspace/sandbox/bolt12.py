"""BOLT 12 offers, invoice requests and invoices for regtest, field for field as lightningd.

Encoding, ids and signatures are real. Blinded paths only look real: their keys and data are
random, so an onion message would reach nobody. Amounts in other currencies, recurrence (which
is read but never written), fallback addresses and paths that begin at a channel are left out.
"""

import hashlib
import re
import secrets

from coincurve import PrivateKey, PublicKey, PublicKeyXOnly
from pyln.proto.bech32 import CHARSET, convertbits

REGTEST = "06226e46111a0b59caaf126043eb5bbf28c34f3a5e332a1fc7b2b73cf188910f"
DEFAULT_EXPIRY = 7200
INVOICE_FEATURES = "020000"
# As recorded from lightningd: no fees, ten blocks, any amount.
PAYINFO = "0000000000000000000a00000000000000001d24b2dfac5200000000"

SIGNATURES = range(240, 1001)
OF_OFFERS = range(1, 80), range(10**9, 2 * 10**9)
OF_REQUESTS = range(160), range(10**9, 3 * 10**9), SIGNATURES
NAMES = {"lno": "offer", "lnr": "invoice_request", "lni": "invoice"}
RECURRENCE_UNITS = {0: "seconds", 1: "days", 2: "months"}

Fields = dict[int, bytes]


class Bolt12Error(ValueError):
    """The text is not a valid offer, invoice request or invoice for regtest."""


def encode_offer(
    issuer_id: str,
    *,
    amount_msat: int | None = None,
    description: str | None = None,
    issuer: str | None = None,
    absolute_expiry: int | None = None,
    quantity_max: int | None = None,
    first_node_id: str | None = None,
) -> str:
    """Write an offer. Its path is random, so each one differs even with equal terms."""
    fields = {
        2: bytes.fromhex(REGTEST),
        8: _maybe_number(amount_msat),
        10: _maybe_text(description),
        14: _maybe_number(absolute_expiry),
        16: _random_path(first_node_id or issuer_id, 51, 50),
        18: _maybe_text(issuer),
        20: _maybe_number(quantity_max),
        22: bytes.fromhex(issuer_id),
    }
    return _text("lno", _known(fields))


def encode_request(
    key: PrivateKey,
    offer: str,
    *,
    metadata: bytes,
    amount_msat: int | None = None,
    quantity: int | None = None,
    payer_note: str | None = None,
) -> str:
    """Write a request for an invoice, signed with a payer's key for this request only."""
    fields = {
        0: metadata,
        80: bytes.fromhex(REGTEST),
        82: _maybe_number(amount_msat),
        84: b"",
        86: _maybe_number(quantity),
        88: key.public_key.format(),
        89: _maybe_text(payer_note),
    }
    return _signed("lnr", key, _read("lno", offer) | _known(fields))


def encode_invoice(
    key: PrivateKey,
    request: str,
    *,
    payment_hash: str,
    created_at: int,
    amount_msat: int,
    expiry: int = DEFAULT_EXPIRY,
) -> str:
    """Write the invoice for a request, signed with the node's key."""
    asked = {kind: value for kind, value in _read("lnr", request).items() if kind not in SIGNATURES}
    node_id = key.public_key.format()
    fields = {
        160: _random_path(node_id.hex(), 50),
        162: bytes.fromhex(PAYINFO),
        164: _number(created_at),
        166: None if expiry == DEFAULT_EXPIRY else _number(expiry),
        168: bytes.fromhex(payment_hash),
        170: _number(amount_msat),
        174: bytes.fromhex(INVOICE_FEATURES),
        176: node_id,
    }
    return _signed("lni", key, asked | _known(fields))


def is_bolt12(text: object) -> bool:
    return isinstance(text, str) and text[:4].lower() in ("lno1", "lnr1", "lni1")


def decode(text: str) -> dict:
    """Read a text as lightningd's `decode` does, or raise Bolt12Error."""
    prefix = text[:3].lower()
    if prefix not in NAMES:
        raise Bolt12Error("invalid bech32 string")
    fields = _read(prefix, text)
    decoded = {"type": f"bolt12 {NAMES[prefix]}", "offer_id": offer_id(fields), "valid": True}
    for kind, value in fields.items():
        if kind in MEANINGS:
            name, meaning = MEANINGS[kind]
            decoded[name] = meaning(value)

    if prefix == "lno":
        _check_offer(decoded)
    elif prefix == "lnr":
        _check_chain([decoded.get("invreq_chain")])
        _check_signature(prefix, decoded.get("invreq_payer_id"), fields)
    else:
        _check_chain([decoded.get("invreq_chain")])
        _check_invoice(decoded)
        _check_signature(prefix, decoded["invoice_node_id"], fields)
        payinfos = decoded.pop("invoice_blindedpay")
        if len(payinfos) != len(decoded["invoice_paths"]):
            raise Bolt12Error("expected as many payinfo as paths")
        for path, payinfo in zip(decoded["invoice_paths"], payinfos, strict=True):
            path["payinfo"] = payinfo
        decoded.setdefault("invoice_relative_expiry", DEFAULT_EXPIRY)
    return decoded


def offer_id(fields: Fields) -> str:
    """lightningd's id of the offer: the Merkle root of the fields that belong to the offer."""
    of_offer = {kind: value for kind, value in fields.items() if _within(kind, OF_OFFERS)}
    return hashlib.sha256(_stream(of_offer)).hexdigest()


def _check_offer(decoded: dict) -> None:
    _check_chain(decoded.get("offer_chains", []))
    if "offer_amount_msat" in decoded and "offer_description" not in decoded:
        raise Bolt12Error("Offer does not contain a description, but contains an amount")
    if decoded.get("offer_amount_msat") == 0:
        raise Bolt12Error("Offer contains a zero amount")
    if "offer_issuer_id" not in decoded and "offer_paths" not in decoded:
        raise Bolt12Error("Offer does not contain an issuer_id or paths")


def _check_chain(chains: list) -> None:
    if REGTEST not in chains:
        raise Bolt12Error("wrong chain")


def _check_invoice(decoded: dict) -> None:
    needed = "amount_msat created_at payment_hash node_id paths blindedpay"
    for name in needed.split():
        if not decoded.get(f"invoice_{name}"):
            raise Bolt12Error(f"missing invoice_{name}")


# Ids and signatures


def _merkle_root(fields: Fields) -> bytes:
    """The Merkle root of the fields, each paired with its nonce."""
    records = [(kind, _record(kind, fields[kind])) for kind in sorted(fields)]
    nonce_tag = b"LnNonce" + records[0][1]
    nodes = [
        _branch(_tagged(b"LnLeaf", record), _tagged(nonce_tag, _bigsize(kind)))
        for kind, record in records
        if kind not in SIGNATURES
    ]
    while len(nodes) > 1:
        pairs = zip(nodes[::2], nodes[1::2], strict=False)
        # A leaf without a partner moves up unchanged.
        nodes = [_branch(*pair) for pair in pairs] + nodes[len(nodes) // 2 * 2 :]
    return nodes[0]


def _branch(one: bytes, other: bytes) -> bytes:
    return _tagged(b"LnBranch", min(one, other) + max(one, other))


def _tagged(tag: bytes, message: bytes) -> bytes:
    tag_hash = hashlib.sha256(tag).digest()
    return hashlib.sha256(tag_hash + tag_hash + message).digest()


def _to_sign(prefix: str, fields: Fields) -> bytes:
    return _tagged(f"lightning{NAMES[prefix]}signature".encode(), _merkle_root(fields))


def _signed(prefix: str, key: PrivateKey, fields: Fields) -> str:
    signature = key.sign_schnorr(_to_sign(prefix, fields), secrets.token_bytes(32))
    return _text(prefix, fields | {240: signature})


def _check_signature(prefix: str, signer: str | None, fields: Fields) -> None:
    if signer is None or len(fields.get(240, b"")) != 64:
        raise Bolt12Error("Missing signature")
    key = PublicKeyXOnly(bytes.fromhex(signer)[1:])
    if not key.verify(fields[240], _to_sign(prefix, fields)):
        raise Bolt12Error("Invalid signature")


# The text and its fields


def _text(prefix: str, fields: Fields) -> str:
    return f"{prefix}1" + "".join(CHARSET[word] for word in convertbits(_stream(fields), 8, 5))


def _read(prefix: str, text: str) -> Fields:
    """Read the fields, and refuse those that this kind of text may not have."""
    joined = re.sub(r"(?<=[^+])\+\s*(?=[^+\s])", "", text)
    if joined not in (joined.lower(), joined.upper()):
        raise Bolt12Error("invalid bech32 string")
    begins, _, rest = joined.lower().partition("1")
    words = [CHARSET.find(letter) for letter in rest]
    stream = None if -1 in words else convertbits(words, 5, 8, pad=False)
    if stream is None:
        raise Bolt12Error("invalid bech32 string")
    if begins != prefix:
        raise Bolt12Error(f"unexpected prefix {begins}")

    fields = _fields(bytes(stream))
    allowed = {"lno": OF_OFFERS, "lnr": OF_REQUESTS}.get(prefix)
    for kind in fields:
        if kind % 2 == 0 and kind not in MEANINGS:
            raise Bolt12Error(f"invalid {NAMES[prefix]} data")
        if allowed and not _within(kind, allowed):
            raise Bolt12Error(f"field {kind} outside {NAMES[prefix]} range")
    return fields


def _fields(stream: bytes) -> Fields:
    fields: Fields = {}
    reader = _Reader(stream)
    while reader.left:
        kind = reader.bigsize()
        if fields and kind <= max(fields):
            raise Bolt12Error("fields out of order")
        fields[kind] = reader.take(reader.bigsize())
    if not fields:
        raise Bolt12Error("no fields")
    return fields


def _within(kind: int, ranges: tuple[range, ...]) -> bool:
    return any(kind in one for one in ranges)


def _known(fields: dict[int, bytes | None]) -> Fields:
    return {kind: value for kind, value in fields.items() if value is not None}


def _stream(fields: Fields) -> bytes:
    return b"".join(_record(kind, fields[kind]) for kind in sorted(fields))


def _record(kind: int, value: bytes) -> bytes:
    return _bigsize(kind) + _bigsize(len(value)) + value


def _bigsize(number: int) -> bytes:
    if number < 0xFD:
        return bytes([number])
    length = 2 if number < 1 << 16 else 4 if number < 1 << 32 else 8
    return bytes([0xFC + length.bit_length() - 1]) + number.to_bytes(length, "big")


def _number(value: int) -> bytes:
    """A number in as few bytes as possible; zero takes none."""
    return value.to_bytes((value.bit_length() + 7) // 8, "big")


def _maybe_number(value: int | None) -> bytes | None:
    return None if value is None else _number(value)


def _maybe_text(value: str | None) -> bytes | None:
    return None if value is None else value.encode()


def _random_path(first_node_id: str, *lengths: int) -> bytes:
    """A path for show: a hop with a random key for each length, and random data of that length."""
    path = bytes.fromhex(first_node_id) + _random_point() + bytes([len(lengths)])
    for length in lengths:
        path += _random_point() + length.to_bytes(2, "big") + secrets.token_bytes(length)
    return path


def _random_point() -> bytes:
    return PrivateKey().public_key.format()


class _Reader:
    """Reads bytes from the front, or raises Bolt12Error."""

    def __init__(self, data: bytes):
        self.left = data

    def take(self, length: int) -> bytes:
        if length > len(self.left):
            raise Bolt12Error("a field is cut off")
        taken, self.left = self.left[:length], self.left[length:]
        return taken

    def number(self, length: int) -> int:
        return int.from_bytes(self.take(length), "big")

    def point(self) -> str:
        point = self.take(33)
        try:
            PublicKey(point)
        except ValueError as error:
            raise Bolt12Error("not a point of the curve") from error
        return point.hex()

    def bigsize(self) -> int:
        first = self.number(1)
        if first < 0xFD:
            return first
        number = self.number(2 << first - 0xFD)
        if len(_bigsize(number)) != 1 + (2 << first - 0xFD):
            raise Bolt12Error("a number is longer than it needs to be")
        return number


# What the fields mean


def _hex(value: bytes) -> str:
    return value.hex()


def _hash(value: bytes) -> str:
    if len(value) != 32:
        raise Bolt12Error("a hash has another length")
    return value.hex()


def _hashes(value: bytes) -> list[str]:
    return [_hash(value[at : at + 32]) for at in range(0, len(value), 32)]


def _point(value: bytes) -> str:
    if len(value) != 33:
        raise Bolt12Error("a point has another length")
    return _Reader(value).point()


def _amount(value: bytes) -> int:
    if len(value) > 8 or value[:1] == b"\0":
        raise Bolt12Error("a number is longer than it needs to be")
    return int.from_bytes(value, "big")


def _string(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError as error:
        raise Bolt12Error("a text is not UTF-8") from error


def _paths(value: bytes) -> list[dict]:
    reader, paths = _Reader(value), []
    while reader.left:
        path = {"first_node_id": reader.point(), "first_path_key": reader.point()}
        path["path"] = [_hop(reader) for _ in range(reader.number(1))]
        if not path["path"]:
            raise Bolt12Error("a path is empty")
        paths.append(path)
    return paths


def _hop(reader: _Reader) -> dict:
    node_id = reader.point()
    data = reader.take(reader.number(2))
    return {"blinded_node_id": node_id, "encrypted_recipient_data": data.hex()}


def _payinfos(value: bytes) -> list[dict]:
    reader, payinfos = _Reader(value), []
    while reader.left:
        payinfos.append(
            {
                "fee_base_msat": reader.number(4),
                "fee_proportional_millionths": reader.number(4),
                "cltv_expiry_delta": reader.number(2),
                "htlc_minimum_msat": reader.number(8),
                "htlc_maximum_msat": reader.number(8),
                "features": reader.take(reader.number(2)).hex(),
            }
        )
    return payinfos


def _recurrence(value: bytes) -> dict:
    unit, period = _Reader(value).number(1), _amount(value[1:])
    if unit not in RECURRENCE_UNITS or not period:
        raise Bolt12Error("Offer contains invalid recurrence")
    return {
        "compulsory_field": True,
        "time_unit": unit,
        "time_unit_name": RECURRENCE_UNITS[unit],
        "period": period,
    }


MEANINGS = {
    0: ("invreq_metadata", _hex),
    2: ("offer_chains", _hashes),
    4: ("offer_metadata", _hex),
    8: ("offer_amount_msat", _amount),
    10: ("offer_description", _string),
    12: ("offer_features", _hex),
    14: ("offer_absolute_expiry", _amount),
    16: ("offer_paths", _paths),
    18: ("offer_issuer", _string),
    20: ("offer_quantity_max", _amount),
    22: ("offer_issuer_id", _point),
    80: ("invreq_chain", _hash),
    82: ("invreq_amount_msat", _amount),
    84: ("invreq_features", _hex),
    86: ("invreq_quantity", _amount),
    88: ("invreq_payer_id", _point),
    89: ("invreq_payer_note", _string),
    160: ("invoice_paths", _paths),
    162: ("invoice_blindedpay", _payinfos),
    164: ("invoice_created_at", _amount),
    166: ("invoice_relative_expiry", _amount),
    168: ("invoice_payment_hash", _hash),
    170: ("invoice_amount_msat", _amount),
    174: ("invoice_features", _hex),
    176: ("invoice_node_id", _point),
    240: ("signature", _hex),
    1000000024: ("offer_recurrence", _recurrence),
}
