"""L402 in HTTP headers: the challenge that we send, and what clients send back.

Clients were found to differ, so what is read is wide and what is written is narrow: each of the
two lines is one that all of them understand.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from lightningspace import l402
from lightningspace.l402 import Invalid, Macaroon

# Of a token that cannot be used, where nothing is sold: no invoice comes with it.
BARE = "L402"
CREDENTIALS_MAX = 4
# "L402 <macaroon>[,<macaroon>]:<preimage>", several of them joined by commas by some servers.
SCHEME = re.compile(r"(?:^|,)\s*(?:L402|LSAT)(?:\s+|$)", re.IGNORECASE)
# The gRPC way: the macaroon alone, in hex, with the preimage among its caveats.
HEX_HEADERS = ("HTTP_GRPC_METADATA_MACAROON", "HTTP_MACAROON")


@dataclass(frozen=True)
class Credential:
    macaroon: Macaroon
    preimage: bytes

    def __repr__(self):
        return "<Credential>"


def challenge(macaroon: str, invoice: str) -> list[str]:
    """The values of the two WWW-Authenticate lines, in their order."""
    pair = f'macaroon="{macaroon}", invoice="{invoice}"'
    return [f"LSAT {pair}", f'L402 {pair}, version="0", token="{macaroon}"']


def credentials(environ: Mapping[str, str]) -> list[Credential]:
    """What a request brings, the last first, for there the last counts; none if it brings none.

    Reads the raw headers: Werkzeug's parser takes such a header for a list of parameters. Raises
    l402.Invalid for one that cannot be read.
    """
    # Other schemes are none of ours: a proxy's password may stand there.
    found = list(_of_authorization(environ.get("HTTP_AUTHORIZATION", "")))
    found += [_of_hex(environ[name]) for name in HEX_HEADERS if environ.get(name)]
    if len(found) > CREDENTIALS_MAX:
        raise Invalid("these are too many tokens at once")
    return found[::-1]


def _of_authorization(header: str) -> Iterator[Credential]:
    for part in SCHEME.split(header)[1:]:
        macaroons, colon, preimage = part.strip().rpartition(":")
        if not colon:
            raise Invalid("write the token, a colon and its preimage")
        for macaroon in macaroons.split(","):
            yield Credential(l402.read(macaroon.strip()), l402.read_preimage(preimage.strip()))


def _of_hex(text: str) -> Credential:
    if len(text) > 2 * l402.MACAROON_BYTES_MAX or not re.fullmatch("([0-9a-fA-F]{2})+", text):
        raise Invalid("this token is not hex")
    macaroon = l402.unpack(bytes.fromhex(text))
    preimage = l402.preimage_in(macaroon)
    if preimage is None:
        raise Invalid("the token has no preimage")
    return Credential(macaroon, preimage)
