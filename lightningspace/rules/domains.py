"""Extra domains: customers' claims, the proof of ownership, and the services that depend on it.

A claim is a row of `domains`. Once a TXT record with its account's token is seen, the domain
becomes an alias among the services; once an MX points here, it has mail. Both are checked again
every day. A name server that does not answer never costs a customer anything.
"""

import hashlib
import logging
import re
from collections.abc import Iterator

from lightningspace.base import names
from lightningspace.base.clock import now
from lightningspace.base.models import Account, Domain, Service, lock_account, transaction
from lightningspace.base.prices import DAY
from lightningspace.rules import hostnames, services, wanted
from lightningspace.shop import Shop

logger = logging.getLogger(__name__)

PROOF_LABEL = "_lightning-space"
# The name of the proof's record must be a valid one, too.
NAME_MAX = 253 - len(PROOF_LABEL) - 1
TYPED_MAX = 1000

MAIL_OFF_SECONDS = 3 * DAY  # without its proof or its MX: then its mail is switched off
LOST_SECONDS = 14 * DAY  # without its proof: then the domain is removed
CLAIM_SECONDS = 30 * DAY  # without proof: then the claim is dropped
CHECK_SECONDS = 10  # between two checks, whoever presses the button
# How many zones are tried that a form may have added to a record's name, the longest first.
STRAYED_MAX = 3

# What may surround a domain copied from a text, and how a URL begins.
AROUND = " \t\r\n\u00a0\u200b\u200e\u200f\u2060\ufeff<>()[]\"'`“”„‘’«»,;"
URL_BEGINS = re.compile(r"^([a-z][a-z0-9+.-]*:)?/+", re.IGNORECASE)
PORT = re.compile(r":[0-9]{0,5}$")

NO_DOMAIN = "Enter a domain, such as example.org."
MAIL_ADDRESS = "This is an e-mail address. Enter a domain alone, such as example.org."
WILDCARD = "Enter the domain without “*.”: here, each name below it is a domain of its own."
HYPHENS = "The server takes no domain with “--” as its third and fourth characters."
OF_THE_SHOP = "This name is the shop's own. Enter a domain of yours."
REFUSED = "This domain cannot be used here."
MINE_ALREADY = "You already have this domain."
TAKEN = (
    "Another customer here has this domain. It becomes free two weeks after its TXT record no "
    "longer names them."
)


# -- names ---------------------------------------------------------------------------


def normalise(typed: str) -> str:
    """The domain that was meant, in A-labels. Raises ValueError with a text for the customer."""
    text = typed.strip(AROUND) if len(typed) <= TYPED_MAX else ""
    is_url, text = URL_BEGINS.match(text), URL_BEGINS.sub("", text)
    host = re.split(r"[/?#\\]", text)[0].strip(AROUND)
    if "@" in host and not is_url:
        raise ValueError(MAIL_ADDRESS)
    host = PORT.sub("", host.rpartition("@")[2]).removesuffix(".")
    if host.startswith("*"):
        raise ValueError(WILDCARD)
    try:
        name = names.in_a_labels(host)
    except UnicodeError:
        is_odd = any(label[2:4] == "--" for label in host.split("."))
        raise ValueError(HYPHENS if is_odd else NO_DOMAIN) from None
    above = name.removeprefix("www.")
    name = above if names.is_domain(above) else name
    if not names.is_domain(name):
        raise ValueError(NO_DOMAIN)
    if len(name) > NAME_MAX:
        raise ValueError(f"We can use domains of up to {NAME_MAX} characters.")
    return name


def token(account_id: str) -> str:
    """The token that a domain's TXT record must contain: each account's own, and no secret."""
    return hashlib.sha256(f"lightning-space domain of {account_id}".encode()).hexdigest()[:32]


def proof(account_id: str) -> str:
    """The text of the TXT record."""
    return f"lightning-space={token(account_id)}"


def proof_name(name: str) -> str:
    return f"{PROOF_LABEL}.{name}"


def is_proof(account_id: str, text: str) -> bool:
    """Whether a TXT record's text is the proof, even if a form has altered it: with extra quotes,
    with the record's name or the whole zone file line before it, or without `lightning-space=`.
    """
    bare = re.sub(r"""[\\"'`“”„‘’\u200b\ufeff]|&quot;""", "", text).strip(" \t\r\n\xa0.,;")
    before = rf"({PROOF_LABEL}[^\s=:]*[\s=:]+)?(\d+\s+)?(IN\s+)?(TXT\s+)?(lightning-space\s*=\s*)?"
    return re.fullmatch(before + token(account_id), bare) is not None


def strayed(name: str) -> Iterator[tuple[str, str]]:
    """Where else the proof may have been written, each with the name to write instead: many forms
    add the zone to a name by themselves.
    """
    yield name, proof_name(name)
    labels = name.split(".")
    for above in range(min(len(labels) - 1, STRAYED_MAX)):
        place = ".".join([proof_name(name), *labels[above:]])
        if len(place) <= 253:  # else there is no such name
            yield place, ".".join([PROOF_LABEL, *labels[:above]])


def records(shop: Shop, account: Account, domain: Domain) -> list[tuple[str, str, str, str]]:
    """The DNS records that the domain needs, each as (type, name, value, what it is for)."""
    name, host = domain.name, hostnames.host(shop, account)
    # A name with a CNAME can have no MX, and a zone's apex no CNAME.
    kind = "ALIAS" if name.count(".") == 1 or domain.wants_mail else "CNAME"
    why = f"shows your site; if your DNS has no {kind}: A and AAAA with the addresses of {host}"
    return [
        ("TXT", proof_name(name), proof(account.id), "shows that it is yours; it must stay there"),
        (kind, name, host, why),
        ("CNAME", f"www.{name}", host, "shows your site there too, if you like"),
    ] + [("MX", name, f"10 {host}.", "brings its mail here")] * domain.wants_mail


# -- what the customer does ----------------------------------------------------------


def of(account_id: str) -> list[Domain]:
    rows = Domain.select().where(Domain.account == account_id)
    return list(rows.order_by(Domain.name))


def add(shop: Shop, account_id: str, typed: str, wants_mail: bool) -> str:
    """Claim a domain, which works once it is proven. Return its name.

    Raises ValueError, NameInUse and NoneLeft, with texts for the customer, AccountNotReady and
    AccountClosed.
    """
    name = normalise(typed)
    if hostnames.is_the_shops(shop, name):
        raise ValueError(OF_THE_SHOP)
    if hostnames.is_refused_domain(shop, name):
        raise ValueError(REFUSED)
    with transaction():
        account = lock_account(account_id)
        if account is None or account.opened_at is None or account.closing_at is not None:
            raise wanted.AccountClosed
        if account.ready_at is None:
            raise wanted.AccountNotReady
        there = of(account_id)
        if any(each.name == name for each in there):
            raise wanted.NameInUse(MINE_ALREADY)
        if len(there) >= services.domains_allowed(shop, account):
            raise wanted.NoneLeft("You already use all the domains you pay for.")
        if _is_anothers(account_id, name):
            raise wanted.NameInUse(TAKEN)
        moment = now()
        Domain.create(
            account=account_id, name=name, added_at=moment, look_at=moment, wants_mail=wants_mail
        )
    return name


def remove(account_id: str, name: str) -> None:
    """Give up a domain, with its mailboxes and their mail.

    Raises AccountClosed, AccountNotReady and UnknownService.
    """
    with wanted.change(account_id):
        row = _find(account_id, name)
        if service_of(row, "alias"):
            wanted.let_domain_go(account_id, name)
        row.delete_instance()


def set_mail(shop: Shop, account_id: str, name: str, wants_mail: bool) -> None:
    """Switch a domain's mail on or off; its mailboxes and their mail are kept.

    Raises AccountClosed and UnknownService.
    """
    with wanted.change(account_id) as account:
        row = _find(account_id, name)
        if row.wants_mail == wants_mail:
            return
        row.wants_mail, row.has_mx, row.mx_missing_at, row.look_at = wants_mail, False, None, now()
        let_services_follow(shop, account, row)
        save(row)


def check_now(account_id: str, name: str) -> None:
    """Have its records looked up within seconds. Raises UnknownService."""
    row = _find(account_id, name)
    moment = now()
    at = max(moment, min(row.asked_at or 0, moment) + CHECK_SECONDS)
    Domain.update(look_at=at).where(this(row) & (Domain.look_at > at)).execute()


def mail_ends_at(row: Domain) -> int | None:
    """When its mail is (or was) switched off if nothing changes; None: nothing is missing."""
    missing = [at for at in (row.missing_at, row.mx_missing_at) if at is not None]
    return min(missing) + MAIL_OFF_SECONDS if missing else None


def ends_at(row: Domain) -> int | None:
    """When it is removed if its TXT record stays away; None: the record is there."""
    return row.missing_at + LOST_SECONDS if row.missing_at is not None else None


def _is_anothers(account_id: str, name: str) -> bool:
    """Whether another account has proven the domain; a claim alone stops nobody."""
    theirs = (Service.kind == "alias") & (Service.name == name) & (Service.account != account_id)
    return Service.select().where(theirs & ~Service.gone).exists()


def this(row: Domain):
    return (Domain.account == row.account_id) & (Domain.name == row.name)


def _find(account_id: str, name: str) -> Domain:
    row = None
    if names.is_domain(name):  # any other text may be one that the database rejects
        row = Domain.get_or_none((Domain.account == account_id) & (Domain.name == name))
    if row is None:
        raise wanted.UnknownService
    return row


def save(row: Domain) -> None:
    if row.dirty_fields:  # else all columns are written, and a wish for a look is lost
        row.save(only=row.dirty_fields)


def service_of(row: Domain, kind: str) -> Service | None:
    """The service of this kind for the domain; None: there is none, or it is to be removed."""
    found = Service.get_or_none(
        services.this(Service(account=row.account_id, kind=kind, name=row.name))
    )
    return None if found is None or found.gone else found


def let_services_follow(shop: Shop, account: Account, row: Domain) -> None:
    """Within a transaction that holds the account: make the domain's services follow its claim."""
    alias, mail = service_of(row, "alias"), service_of(row, "mail_domain")
    if row.verified_at is None:
        if alias:
            wanted.let_domain_go(account.id, row.name)
        return
    if not alias:
        wanted.add(shop, account.id, "alias", row.name)
    has_mail = _has_mail(row, mail is not None and mail.active)
    if mail and mail.active != has_mail:
        wanted.switch(account.id, "mail_domain", row.name, has_mail)
    elif has_mail and not mail:
        wanted.add(shop, account.id, "mail_domain", row.name)


def _has_mail(row: Domain, has_it_now: bool) -> bool:
    """Whether we take mail for it: from the first MX that points here until days after the last."""
    if not row.wants_mail:
        return False
    ends = mail_ends_at(row)
    if has_it_now:
        return ends is None or now() < ends
    return ends is None and row.has_mx
