"""LNURL: URLs as bech32 for wallets to scan (LUD-01), Lightning Addresses (LUD-16), and logins that
a wallet signs (LUD-04).

Nothing is fetched here.
"""

import re

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from cryptography.hazmat.primitives.hashes import SHA256
from pyln.proto.bech32 import bech32_encode, convertbits

from lightningspace.base import names

# Where a wallet asks about a name (LUD-16).
PATH = "/.well-known/lnurlp"
# Where it sends what it has signed. It derives its key from the host: another host, another key.
AUTH_PATH = "/lnurl-auth"
USER = re.compile(r"[a-z0-9._+-]{1,64}")
# What is copied along with an address: the scheme of a link, the sign of a BIP 353 name or profile.
SCHEME = re.compile("^(lightning|lnurlp?|bitcoin):/*", re.IGNORECASE)
SIGNS = "₿⚡\ufe0f \t\r\n"


def encode(url: str) -> str:
    """The URL in bech32, in upper case: that makes a coarser QR code."""
    return bech32_encode("lnurl", bytes(convertbits(url.encode(), 8, 5))).upper()


def is_address(text: str) -> bool:
    """Whether it has the form of a Lightning Address, in lower case and with A-labels."""
    user, _, host = text.partition("@")
    return bool(USER.fullmatch(user) and names.DOMAIN.fullmatch(host))


def as_address(typed: str) -> str:
    """The Lightning Address that somebody typed, as `is_address` wants it. Raises ValueError."""
    text = names.UNSEEN.sub("", typed).strip(SIGNS)
    address = names.as_address(SCHEME.sub("", text).lstrip(SIGNS))
    if not is_address(address):
        raise ValueError("no Lightning Address")
    return address


def url_of_address(address: str) -> str:
    """Where a wallet asks about this Lightning Address."""
    user, _, host = address.partition("@")
    scheme = "http" if host.endswith(".onion") else "https"
    return f"{scheme}://{host}{PATH}/{user}"


def auth_url(public_url: str, k1: str, action: str) -> str:
    """What a wallet is given to sign `k1`; it shows the host and the action: "login" or "link"."""
    return f"{public_url}{AUTH_PATH}?tag=login&k1={k1}&action={action}"


def is_signed(k1: bytes, signature: bytes, key: bytes) -> bool:
    """Whether this key has signed `k1`, which is taken for a hash as it is. Never raises."""
    try:
        public = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256K1(), key)
        public.verify(signature, k1, ec.ECDSA(Prehashed(SHA256())))
    except (ValueError, InvalidSignature):
        return False
    return True
