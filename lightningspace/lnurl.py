"""LNURL: Lightning Addresses, and addresses on the web as the text that wallets scan.

LUD-01 (bech32) and LUD-16 (name@host). Nothing is fetched here.
"""

import re

from pyln.proto.bech32 import bech32_encode, convertbits

from lightningspace import names

# Where a wallet asks for an invoice to a name (LUD-16).
PATH = "/.well-known/lnurlp"
USER = re.compile(r"[a-z0-9._+-]{1,64}")


def encode(url: str) -> str:
    """In upper case: a QR code of that has fewer dots."""
    return bech32_encode("lnurl", bytes(convertbits(url.encode(), 8, 5))).upper()


def is_address(text: str) -> bool:
    """Whether it has the form of a Lightning Address, in lower case and with A-labels."""
    user, _, host = text.partition("@")
    return bool(USER.fullmatch(user) and names.DOMAIN.fullmatch(host))


def url_of_address(address: str) -> str:
    """Where a wallet asks for an invoice to this Lightning Address."""
    user, _, host = address.partition("@")
    scheme = "http" if host.endswith(".onion") else "https"
    return f"{scheme}://{host}{PATH}/{user}"
