"""Paying a Lightning Address (LUD-16): the invoice that its host gives for an amount (LUD-06).

The host is a stranger's. It is asked only at public addresses and over TLS, no redirect is
followed, and its answer is read within bounds.
"""

import hashlib
import ipaddress
import re
from collections.abc import Callable
from urllib.parse import urlsplit

from lightningspace.base import names
from lightningspace.outside import lnurl
from lightningspace.outside.dns import DnsError, Resolver
from lightningspace.outside.sites import Site, SiteError

HTTPS_PORT = 443
INVOICE_MAX = 4000
# What a request line may hold.
QUERY = re.compile("[!-~]{1,2000}")
# IPv6 addresses that stand for IPv4 ones (NAT64): they lead who knows where.
TRANSLATED = [ipaddress.ip_network(each) for each in ("64:ff9b::/96", "64:ff9b:1::/48")]


class NoInvoice(Exception):
    """A Lightning Address gave no invoice of this amount. The text goes on after the address."""


def is_public(address: str) -> bool:
    """Whether an IP address is on the Internet, and not of this machine or a local network."""
    found = ipaddress.ip_address(address)
    if found.version == 6:
        if found.ipv4_mapped or found.sixtofour or found.teredo:
            return False
        if any(found in network for network in TRANSLATED):
            return False
    return found.is_global and not found.is_multicast and not found.is_reserved


class Payees:
    """The hosts of Lightning Addresses. `may_ask`: whether an IP address may be asked."""

    def __init__(
        self,
        resolver: Resolver,
        port: int = HTTPS_PORT,
        may_ask: Callable[[str], bool] = is_public,
    ):
        self._resolver, self._port, self._may_ask = resolver, port, may_ask

    def invoice(self, address: str, msat: int) -> tuple[str, str]:
        """An invoice of a Lightning Address, and the hash of its metadata: the description hash
        that the invoice must have if it has any. Raises NoInvoice.
        """
        host = address.partition("@")[2]
        told = self._ask(host, urlsplit(lnurl.url_of_address(address)).path)
        least, most, text = (told.get(name) for name in ("minSendable", "maxSendable", "metadata"))
        if told.get("tag") != "payRequest" or not isinstance(text, str):
            raise NoInvoice("is none that can be paid")
        if type(least) is not int or type(most) is not int or not least <= msat <= most:
            raise NoInvoice(f"does not take {msat} msat")
        invoice = self._ask(*_with_amount(told.get("callback"), msat, self._port)).get("pr")
        if not isinstance(invoice, str) or len(invoice) > INVOICE_MAX:
            raise NoInvoice("gave no invoice")
        return invoice, hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()

    def _ask(self, host: str, target: str) -> dict:
        try:
            found = self._resolver.addresses(host)
        except DnsError:
            raise NoInvoice("cannot be found right now") from None
        # All of them: a private address among others would be asked sooner or later.
        if not found or not all(map(self._may_ask, found)):
            raise NoInvoice("has no public address")
        first = min(found, key=lambda each: (":" in each, each))
        try:
            answer = Site(host, (first, self._port), is_tls=True).get(target)
        except SiteError:
            raise NoInvoice("does not answer") from None
        if answer.status != 200:
            raise NoInvoice(f"answered {answer.status}")
        return answer.facts


def _with_amount(callback: object, msat: int, own_port: int) -> tuple[str, str]:
    """The callback's host, and the target of a request there. Raises NoInvoice."""
    try:
        parts = urlsplit(callback if isinstance(callback, str) else "")
        host, port = parts.hostname or "", parts.port or own_port
    except ValueError:
        raise NoInvoice("has a bad callback") from None
    target = f"{parts.path or '/'}?{parts.query}{'&' if parts.query else ''}amount={msat}"
    is_one = parts.scheme == "https" and port == own_port and parts.username is None
    if not is_one or not names.DOMAIN.fullmatch(host) or not QUERY.fullmatch(target):
        raise NoInvoice("has a bad callback")
    return host, target
