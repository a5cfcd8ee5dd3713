"""What a customer's domain says in DNS: asked by the worker, and kept for its owner to see."""

import json
import logging
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace

from lightningspace.base import messages
from lightningspace.base.models import Domain
from lightningspace.outside.dns import DnsError
from lightningspace.rules import domains
from lightningspace.shop import Shop

logger = logging.getLogger(__name__)

NAME_MAX = 253
# How many values of each kind are kept, and how much of each: anybody can write thousands.
SHOWN_MAX, OWN_MAX, TEXT_SHOWN_MAX = 3, 8, 100

Addresses = frozenset[str] | None  # None: unknown


@dataclass(frozen=True)
class Answer:
    """What a domain's records say; None: unknown, or not asked."""

    has_token: bool | None
    texts: tuple[str, ...] = ()
    strayed: tuple[str, str] | None = None  # where the proof is instead, and the name to write
    addresses: Addresses = None
    own: Addresses = None  # those of the server
    doubled: str | None = None  # where the server's addresses are instead
    mx: list[str] | None = None
    is_whole: bool = False

    @property
    def leads_here(self) -> bool | None:
        """Whether it points to the server and nowhere else."""
        if not self.addresses:
            return None if self.addresses is None else False
        return self.addresses <= self.own if self.own else None


def ask(shop: Shop, row: Domain, host: str, own_addresses: Callable[[str], Addresses]) -> Answer:
    try:
        texts = shop.resolver.txt(domains.proof_name(row.name))
    except DnsError as error:
        logger.info("account %s: a domain is not known: %s", row.account_id, error)
        return Answer(None)
    has_token = any(domains.is_proof(row.account_id, text) for text in texts)
    found = Answer(has_token, tuple(sorted(texts)), own=own_addresses(host))
    found = _with_addresses(shop, row, found)
    if not has_token:
        found = replace(found, strayed=_strayed(shop, row))
    if not row.wants_mail:
        return replace(found, is_whole=True)
    try:
        return replace(found, mx=shop.resolver.mx(row.name), is_whole=True)
    except DnsError as error:
        logger.info("account %s: an MX is not known: %s", row.account_id, error)
        return found


def addresses(shop: Shop, name: str) -> Addresses:
    try:
        return frozenset(shop.resolver.addresses(name))
    except DnsError as error:
        logger.info("the addresses of a name are not known: %s", error)
        return None


def _with_addresses(shop: Shop, row: Domain, found: Answer) -> Answer:
    found = replace(found, addresses=addresses(shop, row.name))
    twice = f"{row.name}.{row.name}"
    if found.addresses == frozenset() and found.own and len(twice) <= NAME_MAX:
        # Many forms add the zone by themselves to the name that is written.
        there = addresses(shop, twice)
        return replace(found, doubled=twice if there and there <= found.own else None)
    return found


def _strayed(shop: Shop, row: Domain) -> tuple[str, str] | None:
    """Where else the proof was found. It is shown but not accepted: others may write there."""
    try:
        for place, to_write in domains.strayed(row.name):
            if any(domains.is_proof(row.account_id, text) for text in shop.resolver.txt(place)):
                return place, to_write
    except DnsError:
        pass
    return None


# -- what is kept of it --------------------------------------------------------------


@dataclass(frozen=True)
class Found:
    """What was found when a domain was last looked up, some of each; None: unknown.

    `elsewhere`: its addresses that are not the server's, with `more` of them not listed.
    `is_here_too`: it has addresses of the server as well. `own`: the server's addresses.
    """

    leads_here: bool | None = None
    is_here_too: bool = False
    elsewhere: tuple[str, ...] = ()
    more: int = 0
    own: tuple[str, ...] = ()
    doubled: str | None = None
    texts: tuple[str, ...] = ()
    mx: tuple[str, ...] | None = None


def kept(answer: Answer) -> str:
    """An answer as it is stored."""
    there, own = answer.addresses or frozenset(), answer.own or frozenset()
    elsewhere = _in_order(there - own) if own else []
    found = Found(
        answer.leads_here,
        bool(there & own),
        tuple(elsewhere[:SHOWN_MAX]),
        len(elsewhere[SHOWN_MAX:]),
        tuple(_in_order(own)[:OWN_MAX]),
        answer.doubled,
        tuple(messages.on_one_line(text[:TEXT_SHOWN_MAX]) for text in answer.texts[:SHOWN_MAX]),
        None if answer.mx is None else tuple(answer.mx[:SHOWN_MAX]),
    )
    return json.dumps(asdict(found))


def found(row: Domain) -> Found:
    """What is known of a domain; all of it is unknown before the first look."""
    return Found(**json.loads(row.found)) if row.found else Found()


def _in_order(some: frozenset[str]) -> list[str]:
    """IPv4 first."""
    return sorted(some, key=lambda address: (":" in address, address))
