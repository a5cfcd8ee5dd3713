"""HTTPS: the certificates that the panel's server fetches from Let's Encrypt.

The server asks for one when HTTPS is switched on for a site, and when an extra domain joins the
site or leaves it. If it gets none, it silently switches the site's `ssl` off again. Let's Encrypt
issues some 50 a week for all names below one domain and allows few tries an hour. So a site asks
only when `look` finds that it is its turn, whoever presses the button: once it works and enough is
paid for it, while the week's certificates last, and ever more rarely if it gets none.
"""

import logging
from enum import StrEnum

from peewee import fn

from lightningspace.base.clock import DAY, HOUR, now
from lightningspace.base.models import Account, Service, lock_account, transaction
from lightningspace.outside import ispconfig_records
from lightningspace.outside.dns import DnsError
from lightningspace.rules import hostnames, ledger, services, wanted
from lightningspace.rules.services import this
from lightningspace.shop import Shop

logger = logging.getLogger(__name__)

WEEK = 7 * DAY
# Waits between the requests of one site; after a week without any they start over.
WAITS = (10 * 60, HOUR, 3 * HOUR, 6 * HOUR, DAY)
FORGOTTEN_SECONDS = WEEK
# How long the server may take to try.
TRIED_SECONDS = 3 * 60


class Https(StrEnum):
    """The state of HTTPS for a site's own name. SHORT: too few days are paid for. ELSEWHERE: the
    name does not lead to its server. FULL: the week's certificates are used up. REFUSED: Let's
    Encrypt was asked, and gave none.
    """

    NONE = "none"
    WILDCARD = "wildcard"
    OFF = "off"
    THERE = "there"
    FETCHING = "fetching"
    SHORT = "short"
    ELSEWHERE = "elsewhere"
    FULL = "full"
    REFUSED = "refused"


NOTES = {
    Https.SHORT: "There is no certificate: too few days are paid for.",
    Https.ELSEWHERE: "There is no certificate yet: the site’s name does not lead to its server.",
    Https.FULL: "There is no certificate yet: all those of this week are used up.",
    Https.REFUSED: "There is no certificate: Let’s Encrypt has given none so far.",
}
REASONS = {note: why for why, note in NOTES.items()}


# -- its state -----------------------------------------------------------------------


def is_switched_on(shop: Shop, site: Service | None) -> bool:
    """Whether its owner wants HTTPS, where the shop has it."""
    has_any = shop.config.sites_tls != Https.NONE
    return site is not None and has_any and services.settings_of(site)["letsencrypt"]


def is_wanted(shop: Shop, site: Service | None) -> bool:
    """Whether the site is to have a certificate of its own."""
    if not is_switched_on(shop, site):
        return False
    return shop.config.sites_tls != Https.WILDCARD or _has_domains_here(site)


def _has_domains_here(site: Service) -> bool:
    """Whether an extra domain leads here: the shop's own certificate is not good for it."""
    aliases = (Service.account == site.account_id) & (Service.kind == "alias") & ~Service.gone
    return any(
        services.settings_of(each)["letsencrypt"] for each in Service.select().where(aliases)
    )


def of_site(account_id: str) -> Service | None:
    return Service.get_or_none((Service.account == account_id) & (Service.kind == "site"))


def state(shop: Shop, account: Account, site: Service) -> Https:
    if shop.config.sites_tls != "letsencrypt":
        return Https(shop.config.sites_tls)
    if not is_switched_on(shop, site):
        return Https.OFF
    if site.certificate_at is not None:
        return Https.THERE
    if not _is_paid_enough(shop, account):
        return Https.SHORT
    why_not = REASONS.get(site.note)
    return Https.FETCHING if why_not in (None, Https.SHORT) else why_not


# -- where it is ---------------------------------------------------------------------


def url(shop: Shop, account: Account, site: Service | None = None) -> str:
    """The address of the account's site, by https where that works. `site`: its service, if it is
    at hand.
    """
    has_https = shop.config.sites_tls == Https.WILDCARD
    if shop.config.sites_tls == "letsencrypt":
        site = site or of_site(account.id)
        has_https = is_switched_on(shop, site) and site.certificate_at is not None
    return _address(hostnames.site_name(shop, account.username), has_https)


def domain_url(shop: Shop, site: Service, alias: Service) -> str:
    """The same for an extra domain."""
    joined = is_switched_on(shop, site) and services.settings_of(alias)["letsencrypt"]
    is_there = site.certificate_at is not None and site.certificate_at >= _asked_at(site)
    return _address(alias.name, joined and is_there)


def _address(name: str, has_https: bool) -> str:
    return f"{'https' if has_https else 'http'}://{name}/"


# -- whose turn it is ----------------------------------------------------------------


def next_turn(site: Service) -> int:
    """When the site may ask next; 0 if it has never asked."""
    asked_at = _asked_at(site)
    return asked_at + WAITS[min(site.certificate_asks, len(WAITS)) - 1] if asked_at else 0


def _asked_at(site: Service) -> int:
    asked_at = site.certificate_asked_at or 0
    return asked_at if asked_at <= now() else 0  # else noted by a clock that was wrong


def _is_asking(site: Service) -> bool:
    return now() < _asked_at(site) + TRIED_SECONDS


def is_to_ask(site: Service) -> bool:
    """Whether it has taken its turn since the panel was last told."""
    return (site.certificate_asked_at or -1) >= (site.applied_at or 0)


def _why_not(shop: Shop, account: Account, site: Service) -> Https | None:
    """Why the site may not ask now; None: it may."""
    if not _is_paid_enough(shop, account):
        return Https.SHORT
    if now() < next_turn(site):
        return Https.REFUSED
    return Https.FULL if _is_used_up(shop, site) else None


def _is_paid_enough(shop: Shop, account: Account) -> bool:
    return ledger.paid_seconds(account) >= shop.config.certificate_min_days * DAY


def _is_used_up(shop: Shop, site: Service) -> bool:
    """Whether others have asked for the certificates of this week. What was refused does not count,
    or one broken server would take them all.
    """
    most, moment = shop.config.certificates_per_week, now()
    # Later ones were noted by a clock that was wrong: they would count until it is right.
    in_this_week = Service.certificate_asked_at.between(moment - WEEK + 1, moment)
    asked = in_this_week & ~this(site)
    is_given = fn.COALESCE(Service.note, "") != NOTES[Https.REFUSED]
    return bool(most) and Service.select().where(asked & is_given).count() >= most


def take_turn(shop: Shop, account: Account, site: Service) -> Https | None:
    """Within a transaction: note that the site asks now. Return why it may not; None: it may."""
    why_not = _why_not(shop, account, site)
    if why_not is not None:
        return why_not
    moment, asked_at = now(), site.certificate_asked_at or 0
    is_row_of_asks = 0 <= moment - asked_at < FORGOTTEN_SECONDS
    asks = site.certificate_asks + 1 if is_row_of_asks else 1
    taken = Service.update(certificate_asked_at=moment, certificate_asks=asks).where(
        this(site) & (fn.COALESCE(Service.certificate_asked_at, 0) == asked_at)
    )
    if not taken.execute():
        return Https.REFUSED  # another worker was quicker
    site.certificate_asked_at, site.certificate_asks = moment, asks
    wanted.look_by(account.id, moment + TRIED_SECONDS)
    return None


def may_change(shop: Shop, account: Account) -> bool:
    """Within a transaction: whether an extra domain may join or leave the site's certificate."""
    site = of_site(account.id)
    if not is_wanted(shop, site) or not (site.certificate_at or _is_asking(site)):
        # Where there is no certificate, the change makes the server ask for none.
        wanted.look_by(account.id, now() + TRIED_SECONDS)
        return True
    return take_turn(shop, account, site) is None


# -- what becomes of it --------------------------------------------------------------


def lead_here(shop: Shop, host: str, name: str) -> bool:
    """Whether a name points to the server and nowhere else. Raises DnsError."""
    found = shop.resolver.addresses(name)
    if not found:
        return False
    own = shop.resolver.addresses(host)
    if not own:
        raise DnsError("the server's own name has no address")
    return found <= own


def look(shop: Shop, account: Account) -> int | None:
    """Note whether the server got the certificate. If not, ask for one once it is the site's turn
    and its name points here. Return when to look again, if that is soon. Raises PanelError.
    """
    site = of_site(account.id)
    if not is_wanted(shop, site) or site.error or not site.panel_id:
        return None
    if not services.is_on(account, site) or account.closing_at is not None:
        return None
    record = shop.panel.get("site", site.panel_id)
    if record is None or ispconfig_records.name_of("site", record) != site.name:
        return None  # no longer ours
    if ispconfig_records.has_certificate(record):
        return _look_at_certificate(account, site)
    if _is_asking(site) and is_to_ask(site):
        return _asked_at(site) + TRIED_SECONDS
    why_not = _why_not(shop, account, site)
    if why_not is None and not _may_lead_here(shop, account, site):
        why_not = Https.ELSEWHERE
    _note(account, site, None, NOTES.get(why_not))
    if why_not is None:
        return _ask(shop, account, site)
    return next_turn(site) if why_not == Https.REFUSED else None


def _look_at_certificate(account: Account, site: Service) -> int | None:
    if _is_asking(site):
        return _asked_at(site) + TRIED_SECONDS
    is_known = site.certificate_at is not None and site.certificate_at >= _asked_at(site)
    _note(account, site, site.certificate_at if is_known else now(), None)
    return None


def _as_read(site: Service):
    return this(site) & (Service.revision == site.revision)


def _note(account: Account, site: Service, certificate_at: int | None, note: str | None) -> None:
    if (certificate_at is None) != (site.certificate_at is None) or note != site.note:
        logger.info("account %s: %s certificate", account.id, "a" if certificate_at else "no")
    if (certificate_at, note) != (site.certificate_at, site.note):
        facts = {"certificate_at": certificate_at, "note": note}
        Service.update(facts).where(_as_read(site)).execute()


def _ask(shop: Shop, account: Account, site: Service) -> int | None:
    with transaction():
        lock_account(account.id)  # before its rows, as everywhere
        if Service.update(revision=Service.revision + 1).where(_as_read(site)).execute():
            take_turn(shop, account, site)
            wanted.look_now(account.id)
    return _asked_at(site) + TRIED_SECONDS


def _may_lead_here(shop: Shop, account: Account, site: Service) -> bool:
    try:
        return lead_here(shop, hostnames.host(shop, account), site.name)
    except DnsError:
        return True  # unknown: let the server try
