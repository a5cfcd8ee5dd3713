"""The network that a request comes from."""

import ipaddress
import logging
from collections.abc import Mapping
from functools import cache

from flask import request

from lightningspace.shop import this_shop

logger = logging.getLogger(__name__)

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
# The shortest IPv6 prefix that providers give to one customer.
PROVIDED = 48
NEIGHBOURS = 24
# How an IPv6 server behind a translator sees IPv4 addresses (RFC 6052).
TRANSLATED = ipaddress.ip_network("64:ff9b::/96")
UNKNOWN = "unknown"


def network() -> str:
    """The request's network: an IPv4 address, or the IPv6 prefix that one customer has.

    Only what the PROXY_HOPS web servers in front have noted counts, and nothing from before them.
    If the first of them gives no address, the nearest known one on the way is taken.
    """
    address = sender(request.environ, this_shop().config.proxy_hops)
    if address is None:
        _tell_operator()
        return UNKNOWN
    if address.version == 6:
        return str(ipaddress.ip_network((address, PROVIDED), strict=False).network_address)
    return str(address)


def neighbourhood(address: Address | None) -> str:
    """The addresses that one visitor may have at the same time: an IPv4 /24, or an IPv6 /48."""
    if address is None:
        return UNKNOWN
    prefix = PROVIDED if address.version == 6 else NEIGHBOURS
    return str(ipaddress.ip_network((address, prefix), strict=False))


def sender(environ: Mapping[str, str], hops: int) -> Address | None:
    """The address that a WSGI request comes from, as `network` reads it; None: there is none."""
    written = environ.get("HTTP_X_FORWARDED_FOR", "")
    noted = [each for each in written.split(",") if each.strip()]
    for text in (*noted[max(0, len(noted) - hops) :], environ.get("REMOTE_ADDR", "")):
        if address := _address(text):
            return address
    return None


def _address(text: str) -> Address | None:
    """Read an address as proxies write it: with or without a port, brackets, quotes, a zone."""
    text = text.strip(' \t"')
    for bare in (text, text.rpartition(":")[0]):
        try:
            address = ipaddress.ip_address(bare.strip("[]").partition("%")[0])
        except ValueError:
            continue
        if address in TRANSLATED:
            return ipaddress.IPv4Address(address.packed[-4:])
        # The first is how a server that listens on [::] sees an IPv4 client.
        return getattr(address, "ipv4_mapped", None) or address
    return None


@cache
def _tell_operator() -> None:
    """Only once: all such requests share the limits of one network."""
    logger.error(
        "a request came without its sender's address: let the web server in front send "
        "X-Forwarded-For, and set PROXY_HOPS"
    )


def is_by_onion() -> bool:
    """Whether this request came to an onion address: Tor alone encrypts its way."""
    host = request.host.partition(":")[0]
    return host.endswith(".onion") and not request.is_secure
