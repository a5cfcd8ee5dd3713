"""LNURL: Lightning Addresses, and addresses on the web as the text that wallets scan.

LUD-01 (bech32) and LUD-16 (name@host). Nothing is fetched here.
"""

import re

from pyln.proto.bech32 import bech32_encode, convertbits

from lightningspace.base import names

# Where a wallet asks for an invoice to a name (LUD-16).
PATH = "/.well-known/lnurlp"
USER = re.compile(r"[a-z0-9._+-]{1,64}")
# What is copied along with an address: of links, and of names by DNS (BIP 353) and profiles.
SCHEME = re.compile("^(lightning|lnurlp?|bitcoin):/*", re.IGNORECASE)
SIGNS = "₿⚡\ufe0f \t\r\n"


def encode(url: str) -> str:
    """In upper case: a QR code of that has fewer dots."""
    return bech32_encode("lnurl", bytes(convertbits(url.encode(), 8, 5))).upper()


def is_address(text: str) -> bool:
    """Whether it has the form of a Lightning Address, in lower case and with A-labels."""
    user, _, host = text.partition("@")
    return bool(USER.fullmatch(user) and names.DOMAIN.fullmatch(host))


def as_address(typed: str) -> str:
    """The Lightning Address that somebody means, as `is_address` wants it. Raises ValueError."""
    text = names.UNSEEN.sub("", typed).strip(SIGNS)
    address = names.as_address(SCHEME.sub("", text).lstrip(SIGNS))
    if not is_address(address):
        raise ValueError("no Lightning Address")
    return address


def url_of_address(address: str) -> str:
    """Where a wallet asks for an invoice to this Lightning Address."""
    user, _, host = address.partition("@")
    scheme = "http" if host.endswith(".onion") else "https"
    return f"{scheme}://{host}{PATH}/{user}"
