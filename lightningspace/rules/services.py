"""The kinds of service that a hosting has, and what its rows say."""

import json
import re
from collections.abc import Callable

from lightningspace import tipjar
from lightningspace.base import names, prices, ssh_keys, walls
from lightningspace.base.models import Account, Service
from lightningspace.base.vault import Unreadable
from lightningspace.outside import lnurl
from lightningspace.rules import hostnames
from lightningspace.shop import Shop

# Each kind of service and what it hangs on, in the order in which the panel can take them.
HANGS_ON = {
    "client": (),
    "site": ("client",),
    "alias": ("client", "site"),
    "ftp": ("client", "site"),
    "shell": ("client", "site"),
    "database_user": ("client",),
    "database": ("client", "site", "database_user"),
    "mail_domain": ("client", "alias"),
    "mailbox": ("client", "mail_domain"),
    "forward": ("client", "mail_domain"),
    "tipjar": ("client", "site"),
}
KINDS = tuple(HANGS_ON)
# What a customer calls them.
SERVICE_NAMES = {
    "client": "Customer at the server",
    "site": "Web site",
    "alias": "Extra domain",
    "ftp": "FTP",
    "shell": "SSH",
    "database_user": "Database user",
    "database": "Database",
    "mail_domain": "Mail domain",
    "mailbox": "Mailbox",
    "forward": "Mail forward",
    "tipjar": "Tip jar",
}
WITH_PASSWORD = ("ftp", "shell", "database_user", "mailbox")
# What is off while the account is suspended or blocked; a mail domain goes on receiving.
SWITCHED = ("site", "alias", "ftp", "shell", "database", "mailbox", "forward", "tipjar")
# What a customer may have more or less of.
OPTIONAL = ("alias", "ftp", "shell", "database", "mail_domain", "mailbox", "forward")

# What can be set, and what it is at first. quota_mb None: its share of what the others leave.
SETTINGS: dict[str, dict] = dict.fromkeys(KINDS, {}) | {
    "site": {
        "php": True,
        "php_version": 0,
        "letsencrypt": False,
        "pretty_addresses": False,  # what is no file is for index.php, as WordPress wants it
        "redirect_to": "",
    },
    "alias": {"letsencrypt": False},  # whether it is in the site's certificate
    "shell": {"ssh_key": ""},
    "mailbox": {"quota_mb": None},
    "forward": {"destination": None},
    # Without a title or text of its owner's it has its own. put_back: over his start page, once.
    # Where there is to be none, the row stands for what else is done to the site over FTP.
    "tipjar": {
        "is_there": True,
        "title": "",
        "text": "",
        "amounts_sat": [100, 1000, 10000],
        "mode": "site",
        "wallet_address": None,
        "put_back": False,
    },
}
MAY_BE: dict[str, Callable[[object], bool]] = {
    "php": lambda value: isinstance(value, bool),
    "php_version": lambda value: type(value) is int and value >= 0,
    "letsencrypt": lambda value: isinstance(value, bool),
    "pretty_addresses": lambda value: isinstance(value, bool),
    "redirect_to": lambda value: value == "" or names.is_web_address(str(value)),
    "ssh_key": lambda value: value == "" or ssh_keys.is_kept(str(value)),
    "quota_mb": lambda value: value is None or (type(value) is int and 0 < value < 10**9),
    "destination": lambda value: names.is_address(str(value)),
    "title": lambda value: _is_text(value, tipjar.TITLE_MAX),
    "text": lambda value: _is_text(value, tipjar.TEXT_MAX),
    "amounts_sat": lambda value: isinstance(value, list) and _are_amounts(value),
    "mode": lambda value: value in ("site", "wallet"),
    "wallet_address": lambda value: value is None or lnurl.is_address(str(value)),
    "is_there": lambda value: isinstance(value, bool),
    "put_back": lambda value: isinstance(value, bool),
}
# What may be written in more than one way is stored as the panel keeps it.
AS_KEPT: dict[str, Callable[[str], str]] = {
    "ssh_key": ssh_keys.read,
    "destination": names.as_address,
}

# What counts as an address of those that are included and paid for.
ADDRESSES = ("mailbox", "forward")
# How the space of an account is split.
SPLIT_PERCENT = {"site": 70, "database": 10, "mailbox": 20}


# -- questions -----------------------------------------------------------------------


def of_account(account_id: str) -> list[Service]:
    """In the order in which the panel can take them."""
    rows = Service.select().where(Service.account == account_id)
    return sorted(rows, key=lambda row: (KINDS.index(row.kind), row.name))


def settings_of(row: Service) -> dict:
    return SETTINGS[row.kind] | json.loads(row.settings)


def this(row: Service):
    """The condition that finds the row."""
    return (
        (Service.account == row.account_id)
        & (Service.kind == row.kind)
        & (Service.name == row.name)
    )


def hangs_on(row: Service, other: Service) -> bool:
    """Whether `row` cannot be at the panel without `other`, of the same account."""
    if other.kind not in HANGS_ON[row.kind]:
        return False
    if other.kind in ("alias", "mail_domain"):
        return row.name.rpartition("@")[2] == other.name
    return True


def is_on(account: Account, row: Service) -> bool:
    """Whether a service is to work: the customer's switch, unless suspended or blocked."""
    return row.active and account.suspended_at is None and account.blocked_at is None


def is_going(account: Account, row: Service) -> bool:
    """Whether it is to be removed: by itself, or with its account."""
    return row.gone or account.closing_at is not None


def space_mb(account: Account) -> dict[str, tuple[int | None, int]]:
    """Of each part of the space, by its kind: the MB used (None: not known yet) and bought."""
    used_mb = {
        "site": account.used_site_mb,
        "database": account.used_database_mb,
        "mailbox": account.used_mail_mb,
    }
    return {
        kind: (used_mb[kind], account.space_mb * percent // 100)
        for kind, percent in SPLIT_PERCENT.items()
    }


def quota_mb(space_mb: int, row: Service, rows: list[Service]) -> int:
    """A site's, database's or mailbox's part of the account's space.

    The panel takes 0 for unlimited, so it is at least 1.
    """
    if row.kind == "mailbox":
        return mailbox_quotas_mb(space_mb, rows)[row.name]
    return max(1, space_mb * SPLIT_PERCENT[row.kind] // 100)


def mailbox_quotas_mb(space_mb: int, rows: list[Service]) -> dict[str, int]:
    """What each mailbox has, by its name: all of them share one part of the account's space.

    Those with a quota of their own have that (less, if all of them together would be above the
    part), and the others share what is left.
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
    """What one mailbox's own quota can be at most, beside the own quotas of `others`."""
    own = [settings_of(row)["quota_mb"] or 0 for row in others if not row.gone]
    return max(0, space_mb * SPLIT_PERCENT["mailbox"] // 100 - sum(own))


def mail_domains(shop: Shop, account: Account, rows: list[Service]) -> list[str]:
    """Where an address can be added; the hosting's own first."""
    own = hostnames.site_name(shop, account.username)
    there = [row.name for row in rows if row.kind == "mail_domain" and row.active and not row.gone]
    return sorted(there, key=lambda name: (name != own, name))


def new_password(shop: Shop, row: Service) -> str | None:
    """A generated password to show: once the panel has it, and until it is noted."""
    return unsealed(shop, row.own_password_sealed) if row.password_sealed is None else None


def unsealed(shop: Shop, sealed: str | None) -> str | None:
    """A password to show; None when there is none, or none that can be read."""
    try:
        return shop.vault.unseal(sealed) if sealed else None
    except Unreadable:
        return None


def is_ours(shop: Shop, account: Account, row: Service, rows: list[Service]) -> bool:
    """Whether a name may reach the panel: ours by the prefix, or of a domain of the account.

    The panel knows no reserved names, and would drop a system database for who asked.
    """
    config, username = shop.config, account.username
    if not names.RULE.fullmatch(username or ""):
        return False
    if row.kind == "client":
        return row.name == config.panel_prefix + account.id
    if row.kind in ("ftp", "shell", "database_user", "database"):
        return row.name == config.panel_prefix + username
    site = hostnames.site_name(shop, username)
    if row.kind in ("site", "tipjar"):
        return row.name == site
    if row.kind == "alias":
        return names.is_domain(row.name) and not hostnames.is_the_shops(shop, row.name)
    domains = {site} | {each.name for each in rows if each.kind == "alias"}
    if row.kind == "mail_domain":
        return row.name in domains
    # The panel takes no mailbox of a domain without mail, and a forward of it would do nothing.
    domains &= {each.name for each in rows if each.kind == "mail_domain"}
    local, _, domain = row.name.partition("@")
    return names.is_local_part(local) and domain in domains and len(row.name) <= names.ADDRESS_MAX


def addresses_allowed(shop: Shop, account: Account) -> int:
    """How many mailboxes and forwards it may have together."""
    return prices.ADDRESSES.allowed(shop.config, account)


def domains_allowed(shop: Shop, account: Account) -> int:
    return prices.DOMAINS.allowed(shop.config, account)


def redirected_names(shop: Shop, rows: list[Service]) -> list[str]:
    """What a redirect of the site is of: Apache is told the site's own name, nginx none."""
    kinds = ("site", "alias") if shop.config.walls == walls.NGINX else ("site",)
    return [row.name for row in rows if row.kind in kinds and not row.gone]


def has_php(account_id: str) -> bool:
    site = Service.get_or_none((Service.account == account_id) & (Service.kind == "site"))
    return site is not None and settings_of(site)["php"]


def beside_tip_jar(rows: list[Service]) -> list[Service]:
    """What a hosting is made of. What is put on its site comes later, and may wait for FTP."""
    return [row for row in rows if row.kind != "tipjar"]


def checked(kind: str, settings: dict) -> str:
    """The settings as they are stored. Raises ValueError for one that may not be."""
    return json.dumps({name: _kept(kind, name, value) for name, value in settings.items()})


def _kept(kind: str, name: str, value: object) -> object:
    try:
        kept = AS_KEPT[name](str(value)) if name in AS_KEPT and value else value
    except ValueError:
        kept = None
    if name not in SETTINGS[kind] or not MAY_BE[name](kept):
        raise ValueError(f"not a setting of a {kind}: {name}")
    return kept


def excludes(there: Service, new: Service) -> bool:
    """Whether the two cannot both be: an address is a mailbox or a forward."""
    kinds = {there.kind, new.kind}
    return there.name == new.name and (len(kinds) == 1 or kinds == {"mailbox", "forward"})


def goes_along(row: Service, removed: Service) -> bool:
    """Whether `row` goes when `removed` does: a domain takes its mail and addresses along."""
    if removed.kind not in ("alias", "mail_domain"):
        return (row.kind, row.name) == (removed.kind, removed.name)
    own = KINDS.index(row.kind) >= KINDS.index(removed.kind)
    return own and row.name.rpartition("@")[2] == removed.name


def _is_text(value: object, most: int) -> bool:
    # JSON can name half a character, which no file can hold.
    is_whole = isinstance(value, str) and not re.search("[\ud800-\udfff]", value)
    return is_whole and len(value) <= most


def _are_amounts(values: list) -> bool:
    are_whole = all(type(value) is int and 0 < value < 10**9 for value in values)
    return are_whole and 0 < len(values) <= tipjar.AMOUNTS_MAX
