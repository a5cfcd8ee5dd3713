"""What the API says about hostings and prices, as plain values; times are in ISO 8601."""

from collections.abc import Iterable
from enum import StrEnum

from lightningspace.base.clock import iso_or_none, iso_time, now
from lightningspace.base.models import Account, Domain, Order, Service
from lightningspace.base.money_models import Refund
from lightningspace.base.prices import (
    EXTRAS,
    EXTRAS_MAX,
    LONGEST_SECONDS,
    SHORTEST_SECONDS,
    UNIT_SECONDS,
    Size,
    Terms,
)
from lightningspace.rules import (
    accounts,
    calendar,
    capacity,
    certificates,
    domain_records,
    hostnames,
    ledger,
    offers,
    order_book,
    refunds,
    services,
    usage,
)
from lightningspace.rules import domains as extra_domains
from lightningspace.rules import tips as of_tips
from lightningspace.rules.calendar import Banner
from lightningspace.rules.progress import Progress, is_failing
from lightningspace.shop import Shop

# How many of the latest payments are listed with the hosting itself.
PAYMENTS_SHOWN = 10


class HostingState(StrEnum):
    """In order of precedence: a hosting's state is the first of these that is true."""

    BLOCKED = "blocked"
    CLOSING = "closing"
    LAST_CALL = "last_call"
    SUSPENDED = "suspended"
    SETTING_UP = "setting_up"
    PROBLEM = "problem"
    CHANGING = "changing"
    LIVE = "live"


# What credentials without the capability read are told after they paid or changed something.
TERMS = ("as_of", "state", "is_ready", "paid_until", "left_seconds", "credit_msat", "size")


# -- prices ----------------------------------------------------------------------------


def prices(shop: Shop) -> dict:
    config = shop.config
    return {
        "sizes": [
            {
                "space_mb": size,
                "rate_msat_per_day": shop.prices.rate(Size(size)),
                "price_msat_of_30_days": shop.prices.price_msat(Terms(size, 30, "days")),
            }
            for size in config.space_sizes_mb
        ],
        "included": {extra.name: extra.included(config) for extra in EXTRAS},
        "extra": {
            **{f"{extra.one}_msat_per_day": extra.msat_per_day(config) for extra in EXTRAS},
            "most_of_each": EXTRAS_MAX,
        },
        "time": {
            "unit_seconds": UNIT_SECONDS,
            "shortest_seconds": SHORTEST_SECONDS,
            "longest_seconds": LONGEST_SECONDS,
            "horizon_seconds": config.horizon_seconds,
        },
        "invoice_minutes": config.invoice_minutes,
        "mail_send_min_days": config.mail_send_min_days,
        "grace_days": config.grace_days,
        "space_left_mb": capacity.largest_mb(shop),
    }


def price(shop: Shop, terms: Terms) -> dict:
    """The price of a new hosting."""
    return {"space_mb": terms.space_mb, "time": time(terms), "msat": shop.prices.price_msat(terms)}


def size(of: Size) -> dict:
    return vars(of)


def time(of: Terms) -> dict:
    return {"duration": of.duration, "unit": of.unit, "seconds": of.seconds}


# -- a hosting -------------------------------------------------------------------------


def hosting(shop: Shop, account: Account, is_owner: bool) -> dict:
    """All that the control center shows of a hosting that was opened.

    `is_owner`: include its addresses for reminders, and generated passwords while they are shown
    there.
    """
    rows = services.of_account(account.id)
    site = services.only(rows, "site")
    banners, known = calendar.banners(shop, account), Progress(account, rows)
    return {
        "as_of": iso_time(now()),
        "username": account.username,
        "site": hostnames.site_name(shop, account.username),
        "url": certificates.url(shop, account, site),
        "https": certificates.state(shop, account, site) if site else None,
        "state": _state(account, known, [kind for kind, _ in banners]),
        "notices": [_notice(kind, facts) for kind, facts in banners],
        "is_ready": account.ready_at is not None,
        "jobs_before": known.jobs_before(),
        **_times(account),
        "size": size(Size.of(account)),
        "space": _space(account),
        "email": account.email if is_owner else None,
        "email_waits": account.email_waits if is_owner else None,
        "password": services.unsealed(shop, account.password_sealed) if is_owner else None,
        "services": [service(shop, row, known, is_owner) for row in rows],
        "connections": _connections(shop, account, rows, site),
        "may_send": accounts.may_send(shop, account),
        "php": _php(account, site),
        "mailboxes": mailboxes(shop, known, is_owner),
        "forwards": forwards(known),
        **{f"{extra.name}_allowed": extra.allowed(shop.config, account) for extra in EXTRAS},
        "domains": domains(shop, known),
        "orders": orders(shop, order_book.unpaid(account.id)),
        "payments": orders(shop, _payments(account.id)),
        "tips": tips(shop, account),
    }


def _state(account: Account, known: Progress, told: list[Banner]) -> HostingState:
    if account.suspended_at:
        told = [*told, Banner.SUSPENDED]
    if account.ready_at is None:
        told = [*told, HostingState.SETTING_UP]
    for state in HostingState:
        if state in told:
            return state
    all_of_it = known.summary()
    if all_of_it.failing:
        return HostingState.PROBLEM
    return HostingState.LIVE if all_of_it.is_at_rest else HostingState.CHANGING


def _notice(kind: str, facts: dict) -> dict:
    told = {
        name: iso_or_none(fact) if name.endswith("_at") else fact for name, fact in facts.items()
    }
    return {"kind": kind} | told


def _times(account: Account) -> dict:
    return {
        "opened_at": iso_or_none(account.opened_at),
        "ready_at": iso_or_none(account.ready_at),
        "paid_until": iso_or_none(account.expires_at),
        "left_seconds": max(0, account.expires_at - now()),
        "paid_seconds": ledger.paid_seconds(account),
        "credit_msat": account.credit_msat,
    }


def _space(account: Account) -> dict:
    """Each part with the MB used (null: not known yet) and bought."""
    parts = {
        services.KINDS[kind].part.name: {"used_mb": used_mb, "mb": mb}
        for kind, (used_mb, mb) in services.space_mb(account).items()
    }
    return parts | {"as_of": iso_or_none(account.used_at)}


def _php(account: Account, site: Service | None) -> dict:
    choices = usage.php_choices(account, site)
    return {
        "choice": usage.php_choice(site),
        "choices": [{"id": id, "name": name} for id, name in choices],
    }


def _connections(shop: Shop, account: Account, rows: list[Service], site: Service | None) -> dict:
    """What the overview says of how to connect. A mailbox's user is its address."""
    host = hostnames.host(shop, account)
    first = {row.kind: row.name for row in reversed(rows) if not row.gone}
    web = {"url": certificates.url(shop, account, site), "directory": "web"}
    told: dict = {"host": host, "web": web}
    for kind, connection in services.CONNECTIONS.items():
        told[connection.name] = None
        if (connection.opens or kind) in first:
            user = first.get(kind)
            facts = connection.filled(host, user).facts
            told[connection.name] = {"host": host, "user": user} | facts
    mail = told["imap"]
    told["smtp"] = mail and mail | {"port": 587, "security": "STARTTLS"}
    return told


# -- services --------------------------------------------------------------------------


def service(shop: Shop, row: Service, known: Progress, is_owner: bool) -> dict:
    return {
        "kind": row.kind,
        "name": row.name,
        "is_on": row.active,
        "settings": services.settings_of(row),
        **({"note": row.note} if row.note else {}),
        "password": _new_password(shop, row, is_owner),
    } | _progress(row, known)


def _progress(row: Service, known: Progress) -> dict:
    """Its state. `trouble`: null, or the time of the last try and whether it needs the operator."""
    trouble = None
    if is_failing(row):
        trouble = {"is_stuck": row.permanent, "last_try": iso_or_none(row.tried_at)}
    return {"state": known.told_state(row), "trouble": trouble}


def _new_password(shop: Shop, row: Service, is_owner: bool) -> str | None:
    return services.new_password(shop, row) if is_owner and not row.gone else None


def mailboxes(shop: Shop, known: Progress, is_owner: bool) -> list[dict]:
    quotas = services.mailbox_quotas_mb(known.account.space_mb, known.rows)
    return [
        {
            "address": row.name,
            "quota_mb": quotas.get(row.name),
            "own_quota_mb": services.settings_of(row)["quota_mb"],
            "password": _new_password(shop, row, is_owner),
        }
        | _progress(row, known)
        for row in known.rows
        if row.kind == "mailbox"
    ]


def forwards(known: Progress) -> list[dict]:
    return [
        {"address": row.name, "destination": services.settings_of(row)["destination"]}
        | _progress(row, known)
        for row in known.rows
        if row.kind == "forward"
    ]


def domains(shop: Shop, known: Progress) -> list[dict]:
    return [_domain(shop, known, row) for row in extra_domains.of(known.account.id)]


def _domain(shop: Shop, known: Progress, domain: Domain) -> dict:
    """`web` and `mail`: how far they are; null while the records do not allow them."""
    own = {row.kind: row for row in known.rows if row.name == domain.name and not row.gone}
    return {
        "name": domain.name,
        "wants_mail": domain.wants_mail,
        "added_at": iso_or_none(domain.added_at),
        "looked_at": iso_or_none(domain.looked_at),
        "verified_at": iso_or_none(domain.verified_at),
        "missing_at": iso_or_none(domain.missing_at),
        "mx_missing_at": iso_or_none(domain.mx_missing_at),
        "mail_ends_at": iso_or_none(extra_domains.mail_ends_at(domain)),
        "ends_at": iso_or_none(extra_domains.ends_at(domain)),
        "problem": domain.problem,
        "found": _found(domain),
        "records": [
            {"type": type, "name": name, "value": value, "purpose": purpose}
            for type, name, value, purpose in extra_domains.records(shop, known.account, domain)
        ],
        "web": _progress(own["alias"], known) if "alias" in own else None,
        "mail": _progress(own["mail_domain"], known) if "mail_domain" in own else None,
    }


def _found(domain: Domain) -> dict | None:
    if domain.looked_at is None:
        return None
    found = domain_records.found(domain)
    return {
        "leads_here": found.leads_here,
        "addresses_elsewhere": found.elsewhere,
        "server_addresses": found.own,
        "texts": found.texts,
        "mx": found.mx,
    }


# -- orders ----------------------------------------------------------------------------


def _payments(account_id: str) -> list[Order]:
    return order_book.latest(account_id, order_book.OWN_DOORS, PAYMENTS_SHOWN)


def orders(shop: Shop, found: Iterable[Order]) -> list[dict]:
    """They are never given with the preimage, nor with an invoice: the order's page shows that
    while it can be paid.
    """
    rows = list(found)
    paid_back = refunds.latest_of(rows)
    return [_order(shop, each, paid_back.get(each.token)) for each in rows]


def _order(shop: Shop, of: Order, refund: Refund | None) -> dict:
    terms = order_book.terms_of(of)
    return {
        "order": of.token,
        "kind": of.kind,
        "state": order_book.state(of),
        "price_msat": of.amount_msat,
        "received_msat": of.received_msat,
        "size": size(Size.of(of)) if of.space_mb else None,
        "time": time(terms) if terms else None,
        "placed_at": iso_or_none(of.placed_at),
        "expires_at": iso_or_none(of.expires_at),
        "paid_at": iso_or_none(of.paid_at),
        "applied_at": iso_or_none(of.applied_at),
        "ends_at": iso_or_none(of.ends_at),
        "bought_seconds": of.bought_seconds,
        "credit_msat": of.bought_credit_msat,
        "payment_hash": of.payment_hash,
        "refund": refund and _refund(shop, refund),
    }


def _refund(shop: Shop, refund: Refund) -> dict:
    claimed_at = f"{shop.config.public_url}/refund/{refund.order_token}"
    return {"state": refunds.state(refund), "msat": refund.msat, "page_url": claimed_at}


# -- tips ------------------------------------------------------------------------------


def tips(shop: Shop, account: Account) -> dict:
    """The doors for tips, open or closed, and what came by them. `offer` None: not made yet."""
    offer = offers.of(account.id)
    return {
        **{name: getattr(account, name) for name in of_tips.SWITCHES},
        "page_url": of_tips.page_url(shop, account),
        "lightning_address": of_tips.lightning_address(shop, account),
        "offer": offer and offer.bolt12,
        "received_msat": of_tips.received_msat(account),
    }


def tip(of: Order) -> dict:
    return {
        "order": of.token,
        "door": of.door,
        "received_msat": of.received_msat,
        "message": of.message,
        "hidden": of.hidden_at is not None,
        "paid_at": iso_or_none(of.paid_at),
    }
