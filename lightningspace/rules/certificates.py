"""HTTPS: the certificates that the panel's server fetches from Let's Encrypt.

The server asks for one when HTTPS is switched on for a site, and when an extra domain joins the
site or leaves it. If it gets none, it silently switches the site's `ssl` off again. Let's Encrypt
issues some 50 a week for all names below one domain and allows few tries an hour, so each site asks
only when it is its turn, whoever presses the button.
"""

import logging

from peewee import fn

from lightningspace.base.clock import HOUR, now
from lightningspace.base.models import Account, Service, lock_account, transaction
from lightningspace.base.prices import DAY
from lightningspace.outside import ispconfig_records
from lightningspace.outside.dns import DnsError
from lightningspace.rules import hostnames, services, wanted
from lightningspace.rules.services import this
from lightningspace.shop import Shop

logger = logging.getLogger(__name__)

# Waits between the requests of one site; after a week without any they start over.
WAITS = (10 * 60, HOUR, 3 * HOUR, 6 * HOUR, DAY)
FORGOTTEN_SECONDS = 7 * DAY
# How long the server may take to try.
TRIED_SECONDS = 3 * 60

NONE = "There is no certificate: Let’s Encrypt has given none so far."


def next_turn(site: Service) -> int:
    """When the site may ask next; 0 if it has never asked."""
    asked_at = site.certificate_asked_at
    if asked_at is None or asked_at > now():  # by a clock that was wrong
        return 0
    return asked_at + WAITS[min(site.certificate_asks, len(WAITS)) - 1]


def take_turn(site: Service) -> bool:
    """Within a transaction: whether the site may ask now; if so, that is noted as its request."""
    moment, asked_at = now(), site.certificate_asked_at or 0
    if moment < next_turn(site):
        return False
    is_row_of_asks = 0 <= moment - asked_at < FORGOTTEN_SECONDS
    asks = site.certificate_asks + 1 if is_row_of_asks else 1
    taken = Service.update(certificate_asked_at=moment, certificate_asks=asks).where(
        this(site) & (fn.COALESCE(Service.certificate_asked_at, 0) == asked_at)
    )
    if not taken.execute():
        return False  # another worker was quicker
    site.certificate_asked_at, site.certificate_asks = moment, asks
    look_at = moment + TRIED_SECONDS
    Account.update(usage_at=look_at).where(
        (Account.id == site.account_id) & (Account.usage_at > look_at)
    ).execute()
    return True


def is_wanted(site: Service | None) -> bool:
    return site is not None and services.settings_of(site)["letsencrypt"]


def of_site(account_id: str) -> Service | None:
    return Service.get_or_none((Service.account == account_id) & (Service.kind == "site"))


def may_change(account_id: str) -> bool:
    """Within a transaction: whether an extra domain may join or leave the site's certificate."""
    site = of_site(account_id)
    # Where there is no certificate, the change makes the server ask for none.
    return not is_wanted(site) or site.note is not None or take_turn(site)


def lead_here(shop: Shop, host: str, name: str) -> bool:
    """Whether a name points to the server and nowhere else. Raises DnsError."""
    found = shop.resolver.addresses(name)
    if not found:
        return False
    own = shop.resolver.addresses(host)
    if not own:
        raise DnsError("the server's own name has no address")
    return found <= own


def look(shop: Shop, account: Account) -> None:
    """Note whether the server got the certificate. If not, ask again once it is the site's turn and
    its name points here. Raises PanelError.
    """
    site = of_site(account.id)
    if not is_wanted(site) or not site.is_applied or not site.panel_id:
        return
    if not services.is_on(account, site) or account.closing_at is not None:
        return
    record = shop.panel.get("site", site.panel_id)
    if record is None or ispconfig_records.name_of("site", record) != site.name:
        return  # no longer ours
    as_read = this(site) & (Service.revision == site.revision)
    note = None if ispconfig_records.has_certificate(record) else NONE
    if note != site.note:
        logger.info("account %s: %s certificate", account.id, "no" if note else "a")
        Service.update(note=note).where(as_read).execute()
    if note and now() >= next_turn(site) and _may_lead_here(shop, account, site):
        with transaction():
            lock_account(account.id)  # before its rows, as everywhere
            if Service.update(revision=Service.revision + 1).where(as_read).execute():
                wanted.look_now(account.id)


def _may_lead_here(shop: Shop, account: Account, site: Service) -> bool:
    try:
        return lead_here(shop, hostnames.host(shop, account), site.name)
    except DnsError:
        return True  # unknown: let the server try
