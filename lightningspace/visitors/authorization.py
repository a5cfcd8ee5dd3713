"""L402 in HTTP headers: the challenge that we send, and the credentials that clients send back.

Clients differ, so we read widely and write narrowly: all of them understand either of the two lines
that we send.
"""

import base64
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from lightningspace.outside import l402
from lightningspace.outside.l402 import Invalid, Macaroon

# The challenge for a useless token where nothing is sold: it has no invoice.
BARE = "L402"
CREDENTIALS_MAX = 4
HEADERS_LENGTH_MAX = 6000 * CREDENTIALS_MAX
OURS = re.compile(r"(?:L402|LSAT)\b(.*)", re.IGNORECASE)
ANOTHER_SCHEME = re.compile(r"[A-Za-z0-9_-]+\s+[^\s:]")
# The gRPC way: the macaroon alone, in hex, with the preimage among its caveats.
HEX_HEADERS = ("HTTP_MACAROON", "HTTP_GRPC_METADATA_MACAROON")
# What surrounds a preimage that a person pastes.
AROUND_PREIMAGE = re.compile("""[\\s"'`“”,;.(){}<>\\[\\]\u200b\ufeff]""")
IN_BASE64 = re.compile("[A-Za-z0-9+/_-]{43}=?")
URL_SAFE = str.maketrans("-_", "+/")
# A credential that a person pastes: as in the header, or without its scheme.
PASTED = re.compile(r"\s*(?:Authorization\s*:)?\s*(?:(?:L402|LSAT)\s+)?(.*)", re.I | re.S)


@dataclass(frozen=True)
class Credential:
    macaroon: Macaroon
    preimage: bytes

    def __repr__(self):
        return "<Credential>"


def challenge(macaroon: str, invoice: str) -> list[str]:
    """The values of the two WWW-Authenticate lines, in order."""
    pair = f'macaroon="{macaroon}", invoice="{invoice}"'
    return [f"LSAT {pair}", f'L402 {pair}, version="0", token="{macaroon}"']


def credentials(environ: Mapping[str, str]) -> list[Credential]:
    """The credentials of a request, the last first, for the last one counts; empty if it has none.

    Reads the raw headers: Werkzeug's parser takes such a header for a list of parameters. An
    unreadable credential is skipped beside a readable one; alone, it raises l402.Invalid.
    """
    authorization = environ.get("HTTP_AUTHORIZATION", "")
    in_hex = [environ.get(name, "") for name in HEX_HEADERS]
    if len(authorization) + sum(map(len, in_hex)) > HEADERS_LENGTH_MAX:
        raise Invalid("these tokens are too long")
    written = [(text.strip(), None) for header in in_hex for text in header.split(",") if text]
    written += _pairs(authorization)
    if len(written) > CREDENTIALS_MAX:
        raise Invalid("these are too many tokens at once")
    found, failure = [], None
    for macaroon, preimage in reversed(written):
        try:
            found.append(_of_hex(macaroon) if preimage is None else _read(macaroon, preimage))
        except Invalid as error:
            failure = failure or error
    if failure and not found:
        raise failure
    return found


def pasted(text: str) -> Credential:
    """The credential that was pasted or chosen as a file, wrapped or not. Raises l402.Invalid."""
    macaroon, _, preimage = "".join(PASTED.fullmatch(text)[1].split()).rpartition(":")
    return _read(macaroon, preimage)


def pasted_macaroon(text: str) -> Macaroon:
    """The macaroon that was pasted, alone or in a credential. Raises l402.Invalid."""
    return l402.read("".join(PASTED.fullmatch(text)[1].split()).partition(":")[0])


def pasted_preimage(text: str) -> bytes:
    """The preimage that was pasted: in hex, or in base64 as LND shows it, with the blanks and signs
    that wallets and JSON put around it. Raises l402.Invalid.
    """
    bare = AROUND_PREIMAGE.sub("", text.rpartition(":")[2])
    if IN_BASE64.fullmatch(bare):
        return base64.b64decode(bare.rstrip("=").translate(URL_SAFE) + "=")
    return l402.read_preimage(re.sub("^0[xX]", "", bare))


def _pairs(header: str) -> Iterator[tuple[str, str]]:
    """Each macaroon in an Authorization header with its preimage, as they are written.

    "L402 <macaroon>[,<macaroon>]:<preimage>"; servers join several lines with commas. Other schemes
    are skipped: a proxy's password may stand there.
    """
    ours: list[list[str]] = []
    is_ours = False
    for part in map(str.strip, header.split(",")):
        if begins := OURS.fullmatch(part):
            is_ours = True
            ours.append([begins[1]])
        elif ANOTHER_SCHEME.match(part):
            is_ours = False
        elif is_ours:
            ours[-1].append(part)
    for parts in ours:
        *macaroons, last = parts
        last, _, preimage = last.rpartition(":")
        for macaroon in (*macaroons, last):
            yield macaroon.strip(), preimage.strip()


def _read(macaroon: str, preimage: str) -> Credential:
    if not macaroon:
        raise Invalid("write the token, a colon and its preimage")
    return Credential(l402.read(macaroon), l402.read_preimage(preimage))


def _of_hex(text: str) -> Credential:
    if len(text) > 2 * l402.MACAROON_BYTES_MAX or not re.fullmatch("([0-9a-fA-F]{2})+", text):
        raise Invalid("this token is not hex")
    macaroon = l402.unpack(bytes.fromhex(text))
    preimage = l402.preimage_in(macaroon)
    if preimage is None:
        raise Invalid("the token has no preimage")
    return Credential(macaroon, preimage)
