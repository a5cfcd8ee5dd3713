"""The services of an account: questions about its rows, answered by the rules of their kinds."""

import json

from lightningspace.base import names, prices, walls
from lightningspace.base.models import Account, Service
from lightningspace.base.vault import Unreadable
from lightningspace.rules import hostnames
from lightningspace.rules.kinds import KINDS
from lightningspace.shop import Shop

SERVICE_NAMES = {name: kind.title for name, kind in KINDS.items()}
WITH_PASSWORD = tuple(name for name, kind in KINDS.items() if kind.has_password)
# What is off while the account is suspended or blocked.
SWITCHED = tuple(n for n, kind in KINDS.items() if kind.has_switch and not kind.works_suspended)
OPTIONAL = tuple(name for name, kind in KINDS.items() if kind.is_optional)
ADDRESSES = tuple(name for name, kind in KINDS.items() if kind.is_address)
CONNECTIONS = {name: kind.connection for name, kind in KINDS.items() if kind.connection}
# What is put on the site over FTP.
UPLOADED = tuple(name for name, kind in KINDS.items() if kind.is_uploaded)
# How the space of an account is split.
SPLIT_PERCENT = {name: kind.part.percent for name, kind in KINDS.items() if kind.part}
# The names, in the settings, of the switches and passwords of services that a hosting has once.
SETTING_SWITCHES = {
    kind.setting_name: name for name, kind in KINDS.items() if kind.setting_name and kind.has_switch
}
SETTING_PASSWORDS = {
    f"{kind.setting_name}_password": name
    for name, kind in KINDS.items()
    if kind.setting_name and kind.has_password
}
_PLACE = {name: place for place, name in enumerate(KINDS)}


def of_account(account_id: str) -> list[Service]:
    """The account's services, in the order in which the panel can take them."""
    rows = Service.select().where(Service.account == account_id)
    return sorted(rows, key=lambda row: (_PLACE[row.kind], row.name))


def only(rows: list[Service], kind: str) -> Service | None:
    """Among an account's services, that of a kind of which it has one at most."""
    return next((row for row in rows if row.kind == kind), None)


def settings_of(row: Service) -> dict:
    return KINDS[row.kind].first_settings() | json.loads(row.settings)


def this(row: Service):
    """The condition that finds the row."""
    return (
        (Service.account == row.account_id)
        & (Service.kind == row.kind)
        & (Service.name == row.name)
    )


def hangs_on(row: Service, other: Service) -> bool:
    """Whether `row` cannot be at the panel without `other`, of the same account."""
    if other.kind not in KINDS[row.kind].hangs_on:
        return False
    if KINDS[other.kind].is_domain:
        return row.name.rpartition("@")[2] == other.name
    return True


def is_on(account: Account, row: Service) -> bool:
    """Whether a service should work: as the customer's switch says, unless suspended or blocked."""
    return row.active and account.suspended_at is None and account.blocked_at is None


def is_going(account: Account, row: Service) -> bool:
    """Whether it is to be removed, alone or with its account."""
    return row.gone or account.closing_at is not None


def space_mb(account: Account) -> dict[str, tuple[int | None, int]]:
    """The MB used (None: not known yet) and bought of each part of the space, by kind."""
    parts = {name: kind.part for name, kind in KINDS.items() if kind.part}
    return {
        kind: (getattr(account, part.column), account.space_mb * part.percent // 100)
        for kind, part in parts.items()
    }


def quota_mb(space_mb: int, row: Service, rows: list[Service]) -> int | None:
    """A service's part of the account's space; None: its kind has none.

    At least 1: to the panel 0 means unlimited.
    """
    if row.kind not in SPLIT_PERCENT:
        return None
    if row.kind == "mailbox":
        return mailbox_quotas_mb(space_mb, rows)[row.name]
    return max(1, space_mb * SPLIT_PERCENT[row.kind] // 100)


def mailbox_quotas_mb(space_mb: int, rows: list[Service]) -> dict[str, int]:
    """The quota of each mailbox, by its name: they share one part of the account's space.

    Those with a quota of their own get that (less, if those quotas together exceed the part), and
    the others share what is left.
    """
    part = space_mb * SPLIT_PERCENT["mailbox"] // 100
    mailboxes = [row for row in rows if row.kind == "mailbox" and not row.gone]
    quotas = {row.name: settings_of(row)["quota_mb"] for row in mailboxes}
    own = [quota for quota in quotas.values() if quota]
    share = (part - sum(own)) // max(1, len(quotas) - len(own))
    return {
        name: max(1, min(quota, quota * part // sum(own)) if quota else share)
        for name, quota in quotas.items()
    }


def mail_left_mb(space_mb: int, others: list[Service]) -> int:
    """The largest own quota that a mailbox can have beside the own quotas of `others`."""
    own = [settings_of(row)["quota_mb"] or 0 for row in others if not row.gone]
    return max(0, space_mb * SPLIT_PERCENT["mailbox"] // 100 - sum(own))


def mail_domains(shop: Shop, account: Account, rows: list[Service]) -> list[str]:
    """The domains in which an address can be added, the hosting's own first."""
    own = hostnames.site_name(shop, account.username)
    there = [row.name for row in rows if row.kind == "mail_domain" and row.active and not row.gone]
    return sorted(there, key=lambda name: (name != own, name))


def new_password(shop: Shop, row: Service) -> str | None:
    """The generated password to show, once the panel has it and until the customer has noted it."""
    return unsealed(shop, row.own_password_sealed) if row.password_sealed is None else None


def unsealed(shop: Shop, sealed: str | None) -> str | None:
    """A password to show; None: there is none, or it cannot be read."""
    try:
        return shop.vault.unseal(sealed) if sealed else None
    except Unreadable:
        return None


def is_ours(shop: Shop, account: Account, row: Service, rows: list[Service]) -> bool:
    """Whether a name may reach the panel: it has our prefix, or a domain of the account.

    The panel knows no reserved names: it would drop even a system database on request.
    """
    if not names.RULE.fullmatch(account.username or ""):
        return False
    return KINDS[row.kind].is_called(shop, account, row.name, rows)


def addresses_allowed(shop: Shop, account: Account) -> int:
    """How many mailboxes and forwards, counted together, an account may have."""
    return prices.ADDRESSES.allowed(shop.config, account)


def domains_allowed(shop: Shop, account: Account) -> int:
    return prices.DOMAINS.allowed(shop.config, account)


def redirected_names(shop: Shop, rows: list[Service]) -> list[str]:
    """The names that a redirect of the site covers: with Apache the site's own, with nginx all."""
    kinds = ("site", "alias") if shop.config.walls == walls.NGINX else ("site",)
    return [row.name for row in rows if row.kind in kinds and not row.gone]


def has_php(account_id: str) -> bool:
    site = Service.get_or_none((Service.account == account_id) & (Service.kind == "site"))
    return site is not None and settings_of(site)["php"]


def at_panel(rows: list[Service]) -> list[Service]:
    """All but what is put on the site, which comes later and may wait for FTP."""
    return [row for row in rows if not KINDS[row.kind].is_uploaded]


def checked(kind: str, settings: dict) -> str:
    """The settings as they are stored. Raises ValueError for one that is not allowed."""
    return json.dumps({name: _kept(kind, name, value) for name, value in settings.items()})


def _kept(kind: str, name: str, value: object) -> object:
    known = KINDS[kind].settings
    try:
        return known[name].kept(value)
    except (KeyError, ValueError):
        raise ValueError(f"not a setting of a {kind}: {name}") from None


def excludes(there: Service, new: Service) -> bool:
    """Whether the two exclude each other: an address is either a mailbox or a forward."""
    are_addresses = KINDS[there.kind].is_address and KINDS[new.kind].is_address
    return there.name == new.name and (there.kind == new.kind or are_addresses)


def goes_along(row: Service, removed: Service) -> bool:
    """Whether `row` goes when `removed` does: a domain takes its mail and addresses with it."""
    if not KINDS[removed.kind].is_domain:
        return (row.kind, row.name) == (removed.kind, removed.name)
    own = _PLACE[row.kind] >= _PLACE[removed.kind]
    return own and row.name.rpartition("@")[2] == removed.name
