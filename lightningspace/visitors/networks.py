"""Where a request comes from."""

import ipaddress
import logging
from functools import cache

from flask import request

from lightningspace.shop import this_shop

logger = logging.getLogger(__name__)

# The length of the IPv6 prefixes that providers give to one customer, at most.
PROVIDED = 48
# What an IPv6 server behind a translator sees of all IPv4 (RFC 6052).
TRANSLATED = ipaddress.ip_network("64:ff9b::/96")
UNKNOWN = "unknown"


def network() -> str:
    """Where the request comes from: an IPv4 address, or of IPv6 all that one customer has.

    What PROXY_HOPS web servers in front have noted counts, and nothing that was there before. If
    the first of them tells no address, it is the nearest that is known on the way.
    """
    hops = this_shop().config.proxy_hops
    noted = [each for each in request.headers.get("X-Forwarded-For", "").split(",") if each.strip()]
    for text in (*noted[max(0, len(noted) - hops) :], request.remote_addr or ""):
        if address := _address(text):
            break
    else:
        _tell_operator()
        return UNKNOWN
    if address.version == 6:
        return str(ipaddress.ip_network((address, PROVIDED), strict=False).network_address)
    return str(address)


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """As proxies write it: with or without a port, brackets, quotes, a zone."""
    text = text.strip(' \t"')
    for bare in (text, text.rpartition(":")[0]):
        try:
            address = ipaddress.ip_address(bare.strip("[]").partition("%")[0])
        except ValueError:
            continue
        if address in TRANSLATED:
            return ipaddress.IPv4Address(address.packed[-4:])
        # The first: what a server that listens on [::] says of an IPv4 client.
        return getattr(address, "ipv4_mapped", None) or address
    return None


@cache
def _tell_operator() -> None:
    """Once: everybody who comes so shares the limits of one network."""
    logger.error(
        "a request came without its sender's address: let the web server in front send "
        "X-Forwarded-For, and set PROXY_HOPS"
    )
