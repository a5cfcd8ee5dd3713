"""The worker's checks of customers' domains: their DNS records, and what follows from them."""

import logging
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

from peewee import fn

from lightningspace.base.clock import now
from lightningspace.base.models import Account, Domain, lock_account, transaction
from lightningspace.base.prices import DAY
from lightningspace.rules import (
    certificates,
    domain_records,
    domains,
    hostnames,
    outbox,
    services,
    wanted,
)
from lightningspace.rules.domain_records import Addresses, Answer
from lightningspace.shop import Shop

logger = logging.getLogger(__name__)

# A problem younger than the first number is looked up again after the second, both in seconds:
# often at first, while somebody is at work on it.
WAITS = ((10 * 60, 60), (DAY, 10 * 60), (8 * DAY, 60 * 60))
UNKNOWN_SECONDS = 10 * 60
NEW_SECONDS = 60 * 60
# Longer than one pass takes, with a dozen questions for each domain.
ASKING_SECONDS = 12 * 60
ASKED_AT_ONCE = 50
SILENT_AT_ONCE = 20  # and this many more whose servers were silent last time
THREADS = 10
# Time without a look does not count as missing if it is longer than this.
UNSEEN_SECONDS = 2 * DAY
UNKNOWN = "Its name servers do not answer our questions."
LOST = "Its TXT record was missing for two weeks, so the domain was removed from your site."
REFUSED = "This domain cannot be used here."


def look(shop: Shop, stopping: Callable[[], bool] = lambda: False) -> int:
    """Look up the domains that are due and let their services follow; return how many there were.

    Once `stopping()` is true, nothing more is asked.
    """
    asked = list(_take_due())
    if not asked:
        return 0
    own = _OwnAddresses(shop)

    def ask(row: Domain) -> Answer | None:
        host = hostnames.host(shop, row.account)
        return None if stopping() else domain_records.ask(shop, row, host, own)

    # Only the questions run side by side, so that one silent server holds up no others.
    with ThreadPoolExecutor(min(THREADS, len(asked)), "dns") as pool:
        answers = [pool.submit(ask, row) for row in asked]
        for row, answer in zip(asked, answers, strict=True):
            try:
                if answer.result() is not None:
                    _note(shop, row, answer.result())
            except Exception:
                logger.exception("account %s: a domain", row.account_id)
    return len(asked)


def _take_due() -> Iterator[Domain]:
    """Claim the domains that are due, so that no other worker looks at them meanwhile."""
    moment = now()
    for row in _due(moment):
        until = moment + ASKING_SECONDS
        taken = Domain.update(look_at=until, asked_at=moment).where(
            domains.this(row) & (Domain.look_at == row.look_at)
        )
        if taken.execute():
            row.look_at = until
            yield row


def _due(moment: int) -> list[Domain]:
    at = Domain.look_at
    # Each of these takes seconds: thousands at one dead server must not hold up all others.
    is_silent = fn.COALESCE(Domain.asked_at, 0) > fn.COALESCE(Domain.looked_at, 0)
    # A domain due later than it can be was put off by a wrong clock. One query per case: with a
    # single one SQLite reads the whole table.
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


class _OwnAddresses:
    """The addresses of servers, asked once in a pass."""

    def __init__(self, shop: Shop):
        self._shop = shop
        self._known: dict[str, Addresses] = {}

    def __call__(self, host: str) -> Addresses:
        if host not in self._known:  # two threads may ask for the same
            self._known[host] = domain_records.addresses(self._shop, host)
        return self._known[host]


def _note(shop: Shop, asked: Domain, answer: Answer) -> None:
    """Store what was found and what follows from it, all or nothing."""
    try:
        with transaction():
            account = lock_account(asked.account_id)
            row = Domain.get_or_none(domains.this(asked))
            if account is None or row is None or account.closing_at is not None:
                return
            if answer.has_token is not None:
                _note_answer(shop, account, row, answer)
            elif row.verified_at is None:
                row.problem = UNKNOWN
            if row.look_at == asked.look_at:  # else somebody has asked for another look
                row.look_at = now() + _wait(shop, row, answer.is_whole)
            domains.save(row)
    except wanted.NameInUse:
        _note_refusal(shop, asked, domains.TAKEN)
    except ValueError:
        _note_refusal(shop, asked, REFUSED)
    except wanted.AccountNotReady:
        pass  # it is looked at again in minutes


def _note_answer(shop: Shop, account: Account, row: Domain, answer: Answer) -> None:
    moment = now()
    was = row.verified_at is not None and row.missing_at is None, row.has_mx
    _note_token(row, answer, moment)
    if row.verified_at is None and moment - row.added_at >= domains.CLAIM_SECONDS:
        row.delete_instance()
        logger.info("account %s: a claim without proof is forgotten", account.id)
        return
    if row.wants_mail and answer.mx is not None:
        _note_mx(shop, account, row, answer.mx, moment)
    row.looked_at = moment
    row.found = domain_records.kept(answer)
    row.problem = _problem(shop, account, row, answer)
    domains.let_services_follow(shop, account, row)
    _follow_address(shop, account, row, answer.leads_here)
    _warn(shop, account, row, was)


def _note_token(row: Domain, answer: Answer, moment: int) -> None:
    if answer.has_token:
        if row.verified_at is None:
            logger.info("account %s: a domain is proven", row.account_id)
            row.verified_at = moment
        row.missing_at = None
    elif row.verified_at is not None:
        row.missing_at = _missing_since(row.missing_at, row.looked_at, moment)
        if moment - row.missing_at >= domains.LOST_SECONDS:
            logger.info("account %s: a domain is lost", row.account_id)
            # It stays as a claim made today, so that its owner sees why.
            row.verified_at = row.missing_at = None
            row.added_at, row.problem = moment, LOST


def _note_mx(shop: Shop, account: Account, row: Domain, hosts: list[str], moment: int) -> None:
    ours = {hostnames.host(shop, account), hostnames.site_name(shop, account.username)}
    row.has_mx = not ours.isdisjoint(hosts)
    row.mx_missing_at = (
        None if row.has_mx else _missing_since(row.mx_missing_at, row.looked_at, moment)
    )


def _missing_since(missing_at: int | None, looked_at: int | None, moment: int) -> int:
    """Since when it is missing. Long times without a look do not count: it may have been there."""
    if missing_at is None:
        return moment
    unseen = moment - (looked_at or moment)
    return min(moment, missing_at + (unseen if unseen > UNSEEN_SECONDS else 0))


def _problem(shop: Shop, account: Account, row: Domain, answer: Answer) -> str | None:
    """What is wrong with the records, for the customer; None: nothing."""
    found = []
    if row.verified_at is None and (row.problem or "").startswith(LOST):
        found.append(LOST)
    if not answer.has_token:
        found.append(_instead_of_proof(row, answer))
    if row.wants_mail and answer.mx is not None and not row.has_mx:
        host = hostnames.host(shop, account)
        found.append(
            f"Its MX is {', '.join(answer.mx[:3])}, not {host}."
            if answer.mx
            else f"It has no MX record yet. Set its MX to {host}."
        )
    elif row.wants_mail and not row.has_mx:
        found.append("Its name servers do not answer when asked for its MX.")
    return " ".join(found) or None


def _instead_of_proof(row: Domain, answer: Answer) -> str:
    at = domains.proof_name(row.name)
    if answer.strayed:
        place, to_write = answer.strayed
        return f"We found your TXT record at {place}, not at {at}: write {to_write} as its name."
    if answer.texts:
        lines = domain_records.found(row).texts
        return f"The TXT record at {at} has another value: {', '.join(f'“{x}”' for x in lines)}."
    return f"We found no TXT record at {at}."


def _follow_address(shop: Shop, account: Account, row: Domain, leads_here: bool | None) -> None:
    """Within a transaction that holds the account: add the name to the certificate, or drop it.

    One name that points elsewhere would cost all of them the certificate.
    """
    alias = domains.service_of(row, "alias")
    if alias is None or leads_here in (None, services.settings_of(alias)["letsencrypt"]):
        return
    if certificates.may_change(shop, account):
        wanted.configure(account.id, "alias", row.name, letsencrypt=leads_here)


def _wait(shop: Shop, row: Domain, is_known: bool) -> int:
    """Seconds until the next look-up."""
    since = max(row.added_at, row.verified_at or 0, row.missing_at or 0, row.mx_missing_at or 0)
    age = now() - since
    wait = next((seconds for until, seconds in WAITS if age < until), DAY)
    if row.verified_at is None:
        return wait
    if not is_known:
        return min(wait, UNKNOWN_SECONDS)
    if row.problem:
        return wait
    if domain_records.found(row).leads_here is False:
        return min(wait, wanted.ADDRESS_SECONDS) if _waits_for_certificate(shop, row) else wait
    return wanted.ADDRESS_SECONDS if _waits_for_certificate(shop, row) else DAY


def _waits_for_certificate(shop: Shop, row: Domain) -> bool:
    alias = domains.service_of(row, "alias")
    is_without = alias is not None and not services.settings_of(alias)["letsencrypt"]
    return is_without and certificates.is_switched_on(shop, certificates.of_site(row.account_id))


def is_problem(row: Domain) -> bool:
    """Whether what its records lack is a problem already: a new record takes its time."""
    if row.missing_at is not None or (row.problem or "").startswith((LOST, REFUSED, domains.TAKEN)):
        return True
    since = max(row.added_at, row.mx_missing_at or 0)
    return not 0 <= now() - since < NEW_SECONDS


def _note_refusal(shop: Shop, asked: Domain, text: str) -> None:
    with transaction():
        row = Domain.get_or_none(domains.this(asked))
        if row is not None:
            row.looked_at, row.problem = now(), text
            row.look_at = now() + _wait(shop, row, is_known=True)
            domains.save(row)


def _warn(shop: Shop, account: Account, row: Domain, was: tuple) -> None:
    """Tell the owner which record has gone missing, while there is time to restore it."""
    had_token, had_mx = was
    if row.missing_at is not None and had_token:
        _write(shop, account, row, "TXT", row.missing_at, domains.ends_at(row))
    elif row.mx_missing_at is not None and had_mx:
        _write(shop, account, row, "MX", row.mx_missing_at, domains.mail_ends_at(row))


def _write(shop: Shop, account: Account, row: Domain, record: str, at: int, until: int) -> None:
    # One mail per record and day, however often it comes and goes; several may vanish on one day.
    about = (at // DAY << 20) + zlib.crc32(f"{record} {row.name}".encode()) % (1 << 20)
    outbox.write(shop, account, "domain", about, name=row.name, record=record, until=until)
