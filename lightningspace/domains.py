"""Extra domains: what customers claim, the proof that it is theirs, and what hangs on that.

A claim is a row of `domains`. Once a TXT record with its account's token was seen, the domain is
an alias among the services; with an MX that points here it has mail. Both are looked at again
each day. Nothing is ever taken away for an answer that nobody gave.
"""

import hashlib
import logging
import re
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

from peewee import IntegrityError, fn

from lightningspace import certificates, messages, names, outbox, wanted
from lightningspace.clock import now
from lightningspace.dns import DnsError
from lightningspace.models import Account, Domain, Service, lock_account, transaction
from lightningspace.prices import DAY
from lightningspace.shop import Shop

logger = logging.getLogger(__name__)

PROOF_LABEL = "_lightning-space"
# The proof's name must be one that can be written.
NAME_MAX = 253 - len(PROOF_LABEL) - 1
TYPED_MAX = 1000

# Without its proof, or without its MX, a domain's mail is switched off; later it is lost.
MAIL_OFF_SECONDS = 3 * DAY
LOST_SECONDS = 14 * DAY
CLAIM_SECONDS = 30 * DAY  # then one without proof is forgotten

# How often something that is not as it should be is looked up: often while somebody is at it.
WAITS = ((10 * 60, 60), (DAY, 10 * 60), (8 * DAY, 60 * 60))
UNKNOWN_SECONDS = 10 * 60
CHECK_SECONDS = 10  # at most so often, whoever presses the button
# Longer than one pass takes.
ASKING_SECONDS = 7 * 60
ASKED_AT_ONCE = 50
SILENT_AT_ONCE = 20  # beside them, of those that nobody answered for the last time
THREADS = 10
# Zones that may have been added to a record's name, the longest first.
STRAYED_MAX = 3
# Of what was found instead, so much is shown.
TEXTS_SHOWN, TEXT_SHOWN_MAX = 3, 100
# A longer time in which nobody looked does not count as missing.
UNSEEN_SECONDS = 2 * DAY

# What is left around a domain that was copied out of a text, and where an address begins.
AROUND = " \t\r\n\u00a0\u200b\u200e\u200f\u2060\ufeff<>()[]\"'`“”„‘’«»,;"
URL_BEGINS = re.compile(r"^([a-z][a-z0-9+.-]*:)?/+", re.IGNORECASE)
PORT = re.compile(r":[0-9]{0,5}$")

NO_DOMAIN = "Write a domain, such as example.org."
MAIL_ADDRESS = "Write a domain alone, such as example.org: this is an e-mail address."
WILDCARD = "Write a domain without the “*.”: each name below it is a domain of its own here."
HYPHENS = "Write a domain without “--” as its third and fourth sign: the server takes no such name."
OF_THE_SHOP = "This name is the shop's own. Write a domain of yours."
MINE_ALREADY = "You have this domain already."
TAKEN = (
    "Another customer here has this domain. Once its TXT record does not name them any more, it "
    "becomes free within two weeks."
)
UNKNOWN = "Its name servers do not answer our questions."
LOST = "Its TXT record was missing for two weeks, so the domain was removed from your site."
REFUSED = "This domain cannot be used here."


# -- names ---------------------------------------------------------------------------


def normalise(typed: str) -> str:
    """The domain that somebody means, in A-labels. Raises ValueError with a text for them."""
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
    """What a domain's TXT record must name. It is no secret: every account has another."""
    return hashlib.sha256(f"lightning-space domain of {account_id}".encode()).hexdigest()[:32]


def proof(account_id: str) -> str:
    """The text of the TXT record."""
    return f"lightning-space={token(account_id)}"


def proof_name(name: str) -> str:
    return f"{PROOF_LABEL}.{name}"


def is_proof(account_id: str, text: str) -> bool:
    """Whether a TXT record's text is the proof, or what a form has made of it: in quotes of its
    own, with the name or the whole line of the zone before it, or without what the value begins
    with.
    """
    bare = re.sub(r"""[\\"'`“”„‘’\u200b\ufeff]|&quot;""", "", text).strip(" \t\r\n\xa0.,;")
    before = rf"({PROOF_LABEL}[^\s=:]*[\s=:]+)?(\d+\s+)?(IN\s+)?(TXT\s+)?(lightning-space\s*=\s*)?"
    return re.fullmatch(before + token(account_id), bare) is not None


def strayed(name: str) -> Iterator[tuple[str, str]]:
    """Where else the proof's record may have been written, and the name to be written there
    instead: forms add the zone to a name by themselves.
    """
    yield name, proof_name(name)
    labels = name.split(".")
    for above in range(min(len(labels) - 1, STRAYED_MAX)):
        zone = ".".join(labels[above:])
        yield f"{proof_name(name)}.{zone}", ".".join([PROOF_LABEL, *labels[:above]])


def records(shop: Shop, account: Account, domain: Domain) -> list[tuple[str, str, str, str]]:
    """The DNS records that make it work, each as (type, name, value, what it is for)."""
    name, host = domain.name, wanted.host(shop, account)
    # A name with a CNAME can have no MX, and the top of a zone no CNAME.
    kind = "ALIAS" if name.count(".") == 1 or domain.wants_mail else "CNAME"
    why = f"shows your site; where it cannot be written: A and AAAA with the addresses of {host}"
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
    """Claim a domain; it works once it is proven. Return its name.

    Raises ValueError, Taken and Full, with texts for the customer, NotReady and Closed.
    """
    name = normalise(typed)
    if wanted.is_the_shops(shop, name):
        raise ValueError(OF_THE_SHOP)
    with transaction():
        account = lock_account(account_id)
        if account is None or account.opened_at is None or account.closing_at is not None:
            raise wanted.Closed
        if account.ready_at is None:
            raise wanted.NotReady
        there = of(account_id)
        if any(each.name == name for each in there):
            raise wanted.Taken(MINE_ALREADY)
        if len(there) >= wanted.domains_allowed(shop, account):
            raise wanted.Full("You have as many domains as you pay for.")
        if _is_anothers(account_id, name):
            raise wanted.Taken(TAKEN)
        moment = now()
        Domain.create(
            account=account_id, name=name, added_at=moment, look_at=moment, wants_mail=wants_mail
        )
    return name


def remove(account_id: str, name: str) -> None:
    """Give a domain up, with its mailboxes and their mails. Raises Closed, NotReady and Unknown."""
    with transaction():
        wanted.change_within(account_id)
        row = _find(account_id, name)
        if _service(row, "alias"):
            wanted.let_domain_go(account_id, name)
        row.delete_instance()


def set_mail(shop: Shop, account_id: str, name: str, wants_mail: bool) -> None:
    """Have mail for a domain, or have it no more: its mailboxes and their mails are kept.

    Raises Closed and Unknown.
    """
    with transaction():
        account = wanted.change_within(account_id)
        row = _find(account_id, name)
        if row.wants_mail == wants_mail:
            return
        row.wants_mail, row.has_mx, row.mx_missing_at, row.look_at = wants_mail, False, None, now()
        _make_so(shop, account, row)
        _save(row)


def check_now(account_id: str, name: str) -> None:
    """Look its records up within seconds. Raises Unknown."""
    row = _find(account_id, name)
    moment = now()
    at = max(moment, min(row.asked_at or 0, moment) + CHECK_SECONDS)
    Domain.update(look_at=at).where(_this(row) & (Domain.look_at > at)).execute()


def mail_ends_at(row: Domain) -> int | None:
    """When its mail is (or was) switched off, if nothing changes."""
    missing = [at for at in (row.missing_at, row.mx_missing_at) if at is not None]
    return min(missing) + MAIL_OFF_SECONDS if missing else None


def ends_at(row: Domain) -> int | None:
    """When it is removed, if its TXT record stays away."""
    return row.missing_at + LOST_SECONDS if row.missing_at is not None else None


def _is_anothers(account_id: str, name: str) -> bool:
    """Whether another account has it by now; a claim alone holds up nobody."""
    theirs = (Service.kind == "alias") & (Service.name == name) & (Service.account != account_id)
    return Service.select().where(theirs & ~Service.gone).exists()


def _this(row: Domain):
    return (Domain.account == row.account_id) & (Domain.name == row.name)


def _find(account_id: str, name: str) -> Domain:
    row = None
    if names.is_domain(name):  # or it may be a text that the database does not take
        row = Domain.get_or_none((Domain.account == account_id) & (Domain.name == name))
    if row is None:
        raise wanted.Unknown
    return row


def _save(row: Domain) -> None:
    if row.dirty_fields:  # else it would write all of them, and somebody's wish for a look away
        row.save(only=row.dirty_fields)


def _service(row: Domain, kind: str) -> Service | None:
    """The account's service of this domain, unless it is to be removed."""
    found = Service.get_or_none(
        wanted.this(Service(account=row.account_id, kind=kind, name=row.name))
    )
    return None if found is None or found.gone else found


# -- what the worker does ------------------------------------------------------------


@dataclass(frozen=True)
class Answer:
    """What a domain's records say; None: nobody knows, or nobody asked."""

    has_token: bool | None
    texts: tuple[str, ...] = ()
    strayed: tuple[str, str] | None = None  # where the token is instead, and its name to be written
    mx: list[str] | None = None
    leads_here: bool | None = None
    is_whole: bool = False


def look(shop: Shop, stopping: Callable[[], bool] = lambda: False) -> int:
    """Look up what is due, and let the services follow. Return how many domains that were.

    Once `stopping()` is true, nothing more is asked.
    """
    asked = list(_take_due())
    if not asked:
        return 0
    # Only the questions are asked side by side: one server that is silent holds up no others.
    with ThreadPoolExecutor(min(THREADS, len(asked)), "dns") as pool:
        answers = [
            pool.submit(_ask, shop, row, wanted.host(shop, row.account), stopping) for row in asked
        ]
        for row, answer in zip(asked, answers, strict=True):
            try:
                if answer.result() is not None:
                    _note(shop, row, answer.result())
            except Exception:
                logger.exception("account %s: a domain", row.account_id)
    return len(asked)


def _take_due() -> Iterator[Domain]:
    """Domains that no other worker looks at meanwhile."""
    moment = now()
    for row in _due(moment):
        until = moment + ASKING_SECONDS
        taken = Domain.update(look_at=until, asked_at=moment).where(
            _this(row) & (Domain.look_at == row.look_at)
        )
        if taken.execute():
            row.look_at = until
            yield row


def _due(moment: int) -> list[Domain]:
    at = Domain.look_at
    # Each of these takes seconds: thousands at a dead server must not be before all others.
    is_silent = fn.COALESCE(Domain.asked_at, 0) > fn.COALESCE(Domain.looked_at, 0)
    # What waits longer than anything may was put off by a clock that was wrong. A query for each:
    # in one of all SQLite reads the whole table.
    due = (
        ((at <= moment) & ~is_silent, ASKED_AT_ONCE),
        ((at <= moment) & is_silent, SILENT_AT_ONCE),
        (at > moment + 2 * DAY, ASKED_AT_ONCE),
    )
    return [
        row
        for which, at_once in due
        for row in Domain.select(Domain, Account)
        .join(Account)
        .where(which)
        .order_by(at)
        .limit(at_once)
    ]


def _ask(shop: Shop, row: Domain, host: str, stopping: Callable[[], bool]) -> Answer | None:
    if stopping():
        return None
    try:
        texts = shop.resolver.txt(proof_name(row.name))
    except DnsError as error:
        logger.info("account %s: a domain is not known: %s", row.account_id, error)
        return Answer(None)
    has_token = any(is_proof(row.account_id, text) for text in texts)
    found = Answer(has_token, tuple(sorted(texts)))
    if has_token:
        found = replace(found, leads_here=_leads_here(shop, row, host))
    else:
        found = replace(found, strayed=_strayed(shop, row))
    if not row.wants_mail:
        return replace(found, is_whole=True)
    try:
        return replace(found, mx=shop.resolver.mx(row.name), is_whole=True)
    except DnsError as error:
        logger.info("account %s: an MX is not known: %s", row.account_id, error)
        return found


def _leads_here(shop: Shop, row: Domain, host: str) -> bool | None:
    try:
        return certificates.lead_here(shop, host, row.name)
    except DnsError as error:
        logger.info("account %s: an address is not known: %s", row.account_id, error)
        return None


def _strayed(shop: Shop, row: Domain) -> tuple[str, str] | None:
    """Where the proof stands instead: to be told, for below another's zone anybody may write."""
    try:
        for place, to_write in strayed(row.name):
            if any(is_proof(row.account_id, text) for text in shop.resolver.txt(place)):
                return place, to_write
    except DnsError:
        pass
    return None


def _note(shop: Shop, asked: Domain, answer: Answer) -> None:
    """Write down what was found, and what follows from it, all or nothing."""
    try:
        with transaction():
            account = lock_account(asked.account_id)
            row = Domain.get_or_none(_this(asked))
            if account is None or row is None or account.closing_at is not None:
                return
            if answer.has_token is not None:
                _note_answer(shop, account, row, answer)
            elif row.verified_at is None:
                row.problem = UNKNOWN
            if row.look_at == asked.look_at:  # else somebody wants another look
                row.look_at = now() + _wait(row, answer.is_whole)
            _save(row)
    except (IntegrityError, wanted.Taken):
        _note_refusal(asked, TAKEN)
    except ValueError:
        _note_refusal(asked, REFUSED)
    except wanted.NotReady:
        pass  # it is looked at again in minutes


def _note_answer(shop: Shop, account: Account, row: Domain, answer: Answer) -> None:
    moment = now()
    was = row.verified_at is not None and row.missing_at is None, row.has_mx
    _note_token(row, answer, moment)
    if row.verified_at is None and moment - row.added_at >= CLAIM_SECONDS:
        row.delete_instance()
        logger.info("account %s: a claim without proof is forgotten", account.id)
        return
    if row.wants_mail and answer.mx is not None:
        _note_mx(shop, account, row, answer.mx, moment)
    row.looked_at = moment
    row.problem = _problem(shop, account, row, answer)
    _make_so(shop, account, row)
    _follow_address(account, row, answer.leads_here)
    _warn(shop, account, row, was)


def _note_token(row: Domain, answer: Answer, moment: int) -> None:
    if answer.has_token:
        if row.verified_at is None:
            logger.info("account %s: a domain is proven", row.account_id)
            row.verified_at = moment
        row.missing_at = None
    elif row.verified_at is not None:
        row.missing_at = _missing_since(row.missing_at, row.looked_at, moment)
        if moment - row.missing_at >= LOST_SECONDS:
            logger.info("account %s: a domain is lost", row.account_id)
            # The claim stays as one of today, so that its owner sees why.
            row.verified_at = row.missing_at = None
            row.added_at, row.problem = moment, LOST


def _note_mx(shop: Shop, account: Account, row: Domain, hosts: list[str], moment: int) -> None:
    ours = {wanted.host(shop, account), wanted.site_name(shop, account.username)}
    row.has_mx = not ours.isdisjoint(hosts)
    row.mx_missing_at = (
        None if row.has_mx else _missing_since(row.mx_missing_at, row.looked_at, moment)
    )


def _missing_since(missing_at: int | None, looked_at: int | None, moment: int) -> int:
    """Time in which nobody looked is not counted: it may have been there."""
    if missing_at is None:
        return moment
    unseen = moment - (looked_at or moment)
    return min(moment, missing_at + (unseen if unseen > UNSEEN_SECONDS else 0))


def _problem(shop: Shop, account: Account, row: Domain, answer: Answer) -> str | None:
    """What was found instead, for the customer."""
    found = []
    if row.verified_at is None and (row.problem or "").startswith(LOST):
        found.append(LOST)
    if not answer.has_token:
        found.append(_instead_of_proof(row, answer))
    if row.wants_mail and answer.mx is not None and not row.has_mx:
        host = wanted.host(shop, account)
        found.append(
            f"Its MX is {', '.join(answer.mx[:3])}, not {host}."
            if answer.mx
            else f"It has no MX record; {host} is to be its MX."
        )
    elif row.wants_mail and not row.has_mx:
        found.append("Its name servers do not tell us its MX.")
    return " ".join(found) or None


def _instead_of_proof(row: Domain, answer: Answer) -> str:
    at = proof_name(row.name)
    if answer.strayed:
        place, to_write = answer.strayed
        return f"We found your TXT record at {place}, not at {at}: write {to_write} as its name."
    lines = [messages.on_one_line(text[:TEXT_SHOWN_MAX]) for text in answer.texts[:TEXTS_SHOWN]]
    if lines:
        return f"The TXT record at {at} has another value: {', '.join(f'“{x}”' for x in lines)}."
    return f"We found no TXT record at {at}."


def _make_so(shop: Shop, account: Account, row: Domain) -> None:
    """Within a transaction that holds the account: let its services follow from the claim."""
    alias, mail = _service(row, "alias"), _service(row, "mail_domain")
    if row.verified_at is None:
        if alias:
            wanted.change_within(account.id)
            wanted.let_domain_go(account.id, row.name)
        return
    if not alias:
        wanted.want_domain(shop, wanted.change_within(account.id), "alias", row.name)
    has_mail = _has_mail(row, mail is not None and mail.active)
    if mail and mail.active != has_mail:
        wanted.change_within(account.id)
        wanted.switch_within(account.id, "mail_domain", row.name, has_mail)
    elif has_mail and not mail:
        wanted.want_domain(shop, wanted.change_within(account.id), "mail_domain", row.name)


def _follow_address(account: Account, row: Domain, leads_here: bool | None) -> None:
    """Within a transaction that holds the account: have it in the site's certificate, or no more.

    One name that leads elsewhere would end the certificate of all of them.
    """
    alias = _service(row, "alias")
    if alias is None or leads_here in (None, wanted.settings_of(alias)["letsencrypt"]):
        return
    if certificates.may_change(account.id):
        wanted.touch(account.id)
        wanted.configure_within(account.id, "alias", row.name, letsencrypt=leads_here)


def _has_mail(row: Domain, has_it_now: bool) -> bool:
    """Whether mail for it is taken: it begins with an MX of ours, and outlasts it for days."""
    if not row.wants_mail:
        return False
    ends = mail_ends_at(row)
    if has_it_now:
        return ends is None or now() < ends
    return ends is None and row.has_mx


def _wait(row: Domain, is_known: bool) -> int:
    """How long until it is looked up again."""
    since = max(row.added_at, row.verified_at or 0, row.missing_at or 0, row.mx_missing_at or 0)
    age = now() - since
    wait = next((seconds for until, seconds in WAITS if age < until), DAY)
    if row.verified_at is None:
        return wait
    if not is_known:
        return min(wait, UNKNOWN_SECONDS)
    if row.problem:
        return wait
    return wanted.ADDRESS_SECONDS if _waits_for_certificate(row) else DAY


def _waits_for_certificate(row: Domain) -> bool:
    alias = _service(row, "alias")
    is_without = alias is not None and not wanted.settings_of(alias)["letsencrypt"]
    return is_without and certificates.is_wanted(certificates.of_site(row.account_id))


def _note_refusal(asked: Domain, text: str) -> None:
    with transaction():
        row = Domain.get_or_none(_this(asked))
        if row is not None:
            row.looked_at, row.problem = now(), text
            row.look_at = now() + _wait(row, is_known=True)
            _save(row)


def _warn(shop: Shop, account: Account, row: Domain, was: tuple) -> None:
    """Tell the owner what has gone missing, while there is time to write it again."""
    had_token, had_mx = was
    if row.missing_at is not None and had_token:
        _write(shop, account, row, "TXT", row.missing_at, ends_at(row))
    elif row.mx_missing_at is not None and had_mx:
        _write(shop, account, row, "MX", row.mx_missing_at, mail_ends_at(row))


def _write(shop: Shop, account: Account, row: Domain, record: str, at: int, until: int) -> None:
    # Of each record once a day, however often it comes and goes. Several may go missing on one.
    about = (at // DAY << 20) + zlib.crc32(f"{record} {row.name}".encode()) % (1 << 20)
    outbox.write(shop, account, "domain", about, name=row.name, record=record, until=until)
