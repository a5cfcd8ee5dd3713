"""What should be: the services that an account owns, and every change of them.

Each change is rows in one transaction: it raises the revision of the rows that the panel now
has otherwise, and of their account. `hosting.reconcile` then makes the panel match.
"""

import hashlib
import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from peewee import IntegrityError, fn

from lightningspace import ledger, lnurl, names, offers, passwords, ssh_keys, tipjar, walls
from lightningspace.clock import now
from lightningspace.models import Account, Domain, Fact, Service, lock_account, transaction
from lightningspace.prices import DAY, Holding, Size
from lightningspace.shop import Shop
from lightningspace.vault import Unreadable

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

# What every site is told after an upgrade, by its kind: so many accounts in one pass, of which
# there is one a minute.
UP_TO_DATE = "{kind} up to date"
UPGRADED_AT_ONCE = 50

# What counts as an address of those that are included and paid for.
ADDRESSES = ("mailbox", "forward")
# So long a figure of the space used is good for, should the panel not tell a newer one.
USE_KNOWN_SECONDS = 2 * 60 * 60
# How often it is looked whether a domain leads here by now, if its site has a certificate.
ADDRESS_SECONDS = 60 * 60
# How the space of an account is split.
SPLIT_PERCENT = {"site": 70, "database": 10, "mailbox": 20}


class Closed(Exception):
    """The account is closed or closing: nothing can be wanted of it any more."""


class Taken(Exception):
    """The name is in use, by this account or another."""


class Unknown(Exception):
    """The account has no such service."""


class NotReady(Exception):
    """The account is still being set up; its paid time has not begun."""


class Full(Exception):
    """The account has as many of these as are included and paid for."""


# -- questions -----------------------------------------------------------------------


def services_of(account_id: str) -> list[Service]:
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


def may_send(shop: Shop, account: Account) -> bool:
    """Whether its mailboxes may: an hour's hosting is not a spam cannon."""
    return ledger.paid_seconds(account) >= shop.config.mail_send_min_days * DAY


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
    own = site_name(shop, account.username)
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


# -- names ---------------------------------------------------------------------------


def site_name(shop: Shop, username: str) -> str:
    return f"{username}.{shop.config.base_domain}"


def host(shop: Shop, account: Account) -> str:
    """The host name of its server, for FTP, SSH, mail and extra domains."""
    return shop.config.server_hosts.get(account.server_id) or site_name(shop, account.username)


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
    site = site_name(shop, username)
    if row.kind in ("site", "tipjar"):
        return row.name == site
    if row.kind == "alias":
        return names.is_domain(row.name) and not is_the_shops(shop, row.name)
    domains = {site} | {each.name for each in rows if each.kind == "alias"}
    if row.kind == "mail_domain":
        return row.name in domains
    # The panel takes no mailbox of a domain without mail, and a forward of it would do nothing.
    domains &= {each.name for each in rows if each.kind == "mail_domain"}
    local, _, domain = row.name.partition("@")
    return names.is_local_part(local) and domain in domains and len(row.name) <= names.ADDRESS_MAX


def is_the_shops(shop: Shop, domain: str) -> bool:
    """Whether it is a name that the shop itself lives by, or lies below or above one.

    Who had the domain above could receive the shop's own mail on its server.
    """
    # A host of the local net has one label: to others it may be what their domains end with.
    hosts = [host for host in shop.config.hosts if "." in host]
    return any(
        f".{domain}".endswith(f".{host}") or f".{host}".endswith(f".{domain}")
        for host in [shop.config.base_domain, *hosts]
    )


def is_reserved(shop: Shop, username: str) -> bool:
    """Whether nobody may have the name; who has it already keeps it."""
    return names.is_reserved(username) or username in _operators_names(shop)


def _operators_names(shop: Shop) -> set[str]:
    """What the operator reserves, and below BASE_DOMAIN the names that his hosts have.

    A site lies above the hosts below its name as well: it could have their mail, and a certificate.
    """
    below = f".{shop.config.base_domain}"
    hosts = [host.removesuffix(below) for host in shop.config.hosts if host.endswith(below)]
    return {*shop.config.reserved_names, *(host.rpartition(".")[2] for host in hosts)}


def problems(shop: Shop) -> list[str]:
    """For the operator: hostings that have had a name of his since before he took it."""
    taken = Account.select(Account.username).where(
        (Account.username << _operators_names(shop)) & Account.opened_at.is_null(False)
    )
    return [
        f"account {account.username}: its site {site_name(shop, account.username)} has the name "
        "of a host in your settings, or one of RESERVED_NAMES: name that host otherwise"
        for account in taken.order_by(Account.username)
    ]


# -- the account as a whole ----------------------------------------------------------


def want_all(shop: Shop, account: Account, password: str, is_generated: bool = False) -> None:
    """Within a transaction: want every service of a new account, with one password for all.

    A generated one is shown beside each service.
    """
    prefixed = shop.config.panel_prefix + account.username
    site = site_name(shop, account.username)
    wanted = {
        "client": shop.config.panel_prefix + account.id,
        "site": site,
        "ftp": prefixed,
        "shell": prefixed,
        "database_user": prefixed,
        "database": prefixed,
        "mail_domain": site,
        "mailbox": f"info@{site}",
    }
    for kind, name in wanted.items():
        sealed = shop.vault.seal(password) if kind in WITH_PASSWORD else None
        Service.create(
            account=account,
            kind=kind,
            name=name,
            password_sealed=sealed,
            own_password_sealed=sealed if is_generated else None,
        )
    look_now(account.id)


def addresses_allowed(shop: Shop, account: Account) -> int:
    """How many mailboxes and forwards it may have together."""
    return shop.config.addresses_included + account.extra_addresses


def domains_allowed(shop: Shop, account: Account) -> int:
    return shop.config.domains_included + account.extra_domains


def too_small(shop: Shop, account: Account, size: Size) -> str | None:
    """Why the account cannot have this size, for its owner: more is in use. None: it can."""
    if size.space_mb < account.space_mb:
        if account.used_at is None or account.used_at < now() - USE_KNOWN_SECONDS:
            return "We do not know yet how much space is used. Please try again in five minutes."
        for kind, (used_mb, _) in space_mb(account).items():
            part = size.space_mb * SPLIT_PERCENT[kind] // 100
            if (used_mb or 0) > part:
                what = {"site": "web site", "mailbox": "mail"}.get(kind, kind)
                return f"Your {what} uses {used_mb} MB, and would have {part} MB of that size."
    rows = [row for row in services_of(account.id) if not row.gone]
    addresses = sum(row.kind in ADDRESSES for row in rows)
    if addresses > shop.config.addresses_included + size.extra_addresses:
        return f"You have {addresses} mailboxes and forwards. Remove some first."
    domains = Domain.select().where(Domain.account == account.id).count()
    if domains > shop.config.domains_included + size.extra_domains:
        return f"You have {domains} domains. Remove some first."
    return None


def renew(
    shop: Shop,
    account: Account,
    holding: Holding,
    size: Size | None = None,
    at: int | None = None,
) -> None:
    """Within a transaction that has locked it: give an account this holding, and this size.

    From now on, or from a moment on. With time left it is neither suspended nor closing any more.
    """
    facts = ledger.columns(account, holding, at, has_other_size=size is not None)
    kept_until = ledger.kept_until(shop, account, facts["valued_at"], size is not None)
    facts |= {"calendar_at": now(), "last_call_at": None, "kept_until": kept_until}
    # Before it is ready nothing melts away, whatever its end says.
    if holding.seconds and (account.ready_at is None or facts["expires_at"] > now()):
        facts |= {"suspended_at": None, "closing_at": None}
    if size:
        facts |= vars(size)
    Account.update(facts).where(Account.id == account.id).execute()
    if account.last_call_at or account.closing_at:
        offers.recheck(account.id)
    after = Account.get_by_id(account.id)
    kinds: set[str] = set()
    if account.closing_at and not after.closing_at:
        kinds.update(KINDS)
    if account.suspended_at and not after.suspended_at:
        kinds.update(SWITCHED)
    if account.space_mb != after.space_mb:
        kinds.update(SPLIT_PERCENT)
    if may_send(shop, account) != may_send(shop, after):
        kinds.update(("mailbox", "site"))  # and PHP's mail()
    if kinds:
        look_now(account.id)
        _raise_revisions(account.id, *kinds)
        if account.space_mb != after.space_mb:
            _raise_revisions(account.id, "tipjar", note=tipjar.FULL)


def suspend(account_id: str) -> None:
    """Switch everything off, until `resume`. Twice is once."""
    with transaction():
        suspend_within(account_id)


def suspend_within(account_id: str) -> None:
    """As `suspend`, within a transaction of the caller's."""
    touch(account_id, suspended_at=fn.COALESCE(Account.suspended_at, now()))
    _raise_revisions(account_id, *SWITCHED)


def resume(account_id: str) -> None:
    """Switch on again what the customer had on. Twice is once."""
    with transaction():
        resume_within(account_id)


def resume_within(account_id: str) -> None:
    """As `resume`, within a transaction of the caller's."""
    touch(account_id, suspended_at=None)
    _raise_revisions(account_id, *SWITCHED)


def block(account_id: str, reason: str) -> None:
    """Switch everything off, whatever is paid; the customer is shown the reason."""
    facts = {"blocked_at": fn.COALESCE(Account.blocked_at, now()), "blocked_reason": reason}
    _block(account_id, facts)


def unblock(account_id: str) -> None:
    _block(account_id, {"blocked_at": None, "blocked_reason": None})


def _block(account_id: str, facts: dict) -> None:
    with transaction():
        touch(account_id, calendar_at=now(), **facts)
        _raise_revisions(account_id, *SWITCHED)
        offers.recheck(account_id)


def close(account_id: str) -> None:
    """Want nothing of the account any more. Twice is once.

    A payment takes it back, until the moment when the panel is told to delete.
    """
    try:
        with transaction():
            close_within(account_id)
    except Closed:
        pass


def close_within(account_id: str, by_calendar: bool = False) -> None:
    """As `close`, within a transaction of the caller's. Raises Closed.

    What the calendar closes has had its last call: that tells it from what its owner closes.
    """
    touch(account_id, closing_at=now(), **({} if by_calendar else {"last_call_at": None}))
    _raise_revisions(account_id, *KINDS)
    offers.recheck(account_id)


def reopen_within(account_id: str) -> bool:
    """Within a transaction: take the calendar's closing back, unless it has begun to delete."""
    facts = {"closing_at": None, "last_call_at": None, "calendar_at": now(), "reconcile_at": now()}
    reopened = Account.update(facts | {"revision": Account.revision + 1}).where(
        (Account.id == account_id)
        & Account.closing_at.is_null(False)
        & Account.last_call_at.is_null(False)
        & Account.deleting_at.is_null()
    )
    if not reopened.execute():
        return False
    _raise_revisions(account_id, *KINDS)
    offers.recheck(account_id)
    return True


def check(account_id: str) -> None:
    """Have every service looked at again, and put right what the panel has otherwise."""
    with transaction():
        Account.update(revision=Account.revision + 1, reconcile_at=now()).where(
            (Account.id == account_id) & Account.opened_at.is_null(False)
        ).execute()
        _raise_revisions(account_id, *KINDS)


@contextmanager
def _change(account_id: str) -> Iterator[Account]:
    """One transaction of `change_within`. Raises Closed and NotReady."""
    with transaction():
        yield change_within(account_id)


def change_within(account_id: str) -> Account:
    """Within a transaction: as `touch`, for what its owner wants. Raises Closed and NotReady.

    What fails, or is changed over and over, would put off the start of the paid time.
    """
    account = touch(account_id)
    if account.ready_at is None:
        raise NotReady
    return account


def touch(account_id: str, **facts) -> Account:
    """Within a transaction: change an account and have it reconciled now. Raises Closed."""
    changed = Account.update(revision=Account.revision + 1, reconcile_at=now(), **facts).where(
        (Account.id == account_id) & Account.opened_at.is_null(False) & Account.closing_at.is_null()
    )
    if not changed.execute():
        raise Closed
    return Account.get_by_id(account_id)


def _raise_revisions(account_id: str, *kinds: str, **which: str) -> int:
    """How many rows are to be looked at again, with no wait for what failed before."""
    rows = (Service.account == account_id) & (Service.kind << kinds)
    for column, value in which.items():
        rows &= getattr(Service, column) == value
    changes = {"revision": Service.revision + 1, "tries": 0, "permanent": False}
    return Service.update(changes).where(rows).execute()


# -- the tip jar ---------------------------------------------------------------------


def want_uploads(shop: Shop, account: Account) -> None:
    """Within a transaction: want on the site of a new account what we put there over FTP."""
    _want_uploads(shop, account, shop.config.tip_jars)
    look_now(account.id)


def _want_uploads(shop: Shop, account: Account, has_jar: bool) -> None:
    Service.insert(
        account=account.id,
        kind="tipjar",
        name=site_name(shop, account.username),
        settings=json.dumps({"is_there": has_jar}),
    ).on_conflict_ignore().execute()


def redirected_names(shop: Shop, rows: list[Service]) -> list[str]:
    """What a redirect of the site is of: Apache is told the site's own name, nginx none."""
    kinds = ("site", "alias") if shop.config.walls == walls.NGINX else ("site",)
    return [row.name for row in rows if row.kind in kinds and not row.gone]


def has_php(account_id: str) -> bool:
    site = Service.get_or_none((Service.account == account_id) & (Service.kind == "site"))
    return site is not None and settings_of(site)["php"]


def renew_tip_jar_within(account_id: str) -> None:
    """Within a transaction: what the jar says of the shop is otherwise."""
    if _raise_revisions(account_id, "tipjar"):
        look_now(account_id)


def look_now(account_id: str) -> None:
    """Within a transaction: have an account reconciled, whatever has become of it."""
    Account.update(revision=Account.revision + 1, reconcile_at=now()).where(
        Account.id == account_id
    ).execute()


# -- after an upgrade ----------------------------------------------------------------


def bring_up_to_date(shop: Shop) -> int:
    """Bring sites and tip jars to what is written there by now, for the shop was upgraded or has
    other settings; return how many accounts were taken up.

    A few at a time, in the order of their ids: the panel has other things to do. Several workers
    may do it at once.
    """
    return sum(_bring_up_to_date(shop, kind, version) for kind, version in _versions(shop).items())


def _versions(shop: Shop) -> dict[str, str]:
    config = shop.config
    written: dict[str, list] = {"mailbox": [config.mail_send_min_days]}
    written["site"] = [config.mail_send_min_days, walls.OPEN_BASEDIR, walls.NO_MAIL]
    written["site"].append(walls.allow_override(config.walls))
    for directives in (walls.apache_directives, walls.nginx_directives):
        written["site"] += [directives(config.walls, is_on) for is_on in (False, True)]
    if config.ftp_uploads:
        facts = (config.public_url, config.tip_min_sats, config.tip_max_sats)
        written["tipjar"] = [tipjar.program(), tipjar.PAGE_TEXT, tipjar.MODES, facts]
    return {kind: hashlib.sha256(repr(of).encode()).hexdigest() for kind, of in written.items()}


# Behind every account's id, which is hexadecimal.
ALL_OF_THEM = "~"


def _bring_up_to_date(shop: Shop, kind: str, version: str) -> int:
    name = UP_TO_DATE.format(kind=kind)
    with transaction():
        Fact.insert(name=name, value="").on_conflict_ignore().execute()
        before = Fact.get_by_id(name).value
        done, _, after = before.partition(" ")
        if done != version:
            after = ""
        elif after == ALL_OF_THEM:
            return 0
        # One that is still being opened has its site already, as it was written before.
        is_there = Account.ready_at if kind == "tipjar" else Account.opened_at
        rows = Account.select(Account.id, Account.username).where(
            is_there.is_null(False) & Account.closing_at.is_null() & (Account.id > after)
        )
        taken = list(rows.order_by(Account.id).limit(UPGRADED_AT_ONCE))
        last = taken[-1].id if len(taken) == UPGRADED_AT_ONCE else ALL_OF_THEM
        moved = Fact.update(value=f"{version} {last}").where(
            (Fact.name == name) & (Fact.value == before)
        )
        if not moved.execute():
            return 0  # another worker was quicker
        for account in taken:
            lock_account(account.id)  # before its rows, as everybody does
            if kind == "tipjar":
                _take_up_uploads(shop, account)
            if _raise_revisions(account.id, kind):
                look_now(account.id)
        return len(taken)


def _take_up_uploads(shop: Shop, account: Account) -> None:
    """Of an older version's account: without a row it has no tip jar, and one that is to be removed
    stands for the jar's removal.
    """
    _want_uploads(shop, account, has_jar=False)
    Service.update(gone=False, settings=json.dumps({"is_there": False})).where(
        (Service.account == account.id) & (Service.kind == "tipjar") & Service.gone
    ).execute()


def beside_tip_jar(rows: list[Service]) -> list[Service]:
    """What a hosting is made of. What is put on its site comes later, and may wait for FTP."""
    return [row for row in rows if row.kind != "tipjar"]


# -- single services -----------------------------------------------------------------


def add(
    shop: Shop, account_id: str, kind: str, name: str, password: str | None = None, **settings
) -> None:
    """Want one more service. A domain (alias) must have been proven to be the customer's before.

    `password` None: one is generated and shown. Raises Taken, Full, Closed and NotReady, and
    ValueError for a name or setting that may not be.
    """
    facts = {"settings": _checked(kind, SETTINGS[kind] | settings), "active": True, "gone": False}
    if kind in WITH_PASSWORD:
        facts |= _sealed(shop, password)
    try:
        with _change(account_id) as account:
            _want(shop, account, Service(account=account_id, kind=kind, name=name), facts)
    except IntegrityError:
        raise Taken from None


def want_domain(shop: Shop, account: Account, kind: str, name: str) -> None:
    """Within a transaction of `change_within`: add its alias or mail_domain.

    Raises as `add` does, and IntegrityError when another account has the name.
    """
    facts = {"settings": _checked(kind, {}), "active": True, "gone": False}
    _want(shop, account, Service(account=account.id, kind=kind, name=name), facts)


def _want(shop: Shop, account: Account, row: Service, facts: dict) -> None:
    there = [each for each in services_of(account.id) if not each.gone]
    if row.kind not in OPTIONAL or not is_ours(shop, account, row, there):
        raise ValueError(f"not a name for this account's {row.kind}")
    if any(_excludes(each, row) for each in there):
        raise Taken
    addresses = sum(each.kind in ADDRESSES for each in there)
    if row.kind in ADDRESSES and addresses >= addresses_allowed(shop, account):
        raise Full
    if not _raise_revisions(account.id, row.kind, name=row.name):
        Service.create(account=account.id, kind=row.kind, name=row.name, **facts)
    # One that was to be removed is wanted again.
    Service.update(facts).where(this(row)).execute()
    _share_anew(account.id, row.kind)


def remove(account_id: str, kind: str, name: str) -> None:
    """Want a service no more, nor what hangs on it.

    Raises Closed, NotReady, Unknown and ValueError.
    """
    with _change(account_id):
        row, rows = _find(account_id, kind, name), services_of(account_id)
        is_of_site = any((each.kind, each.name) == ("site", name) for each in rows)
        if kind not in OPTIONAL or is_of_site:
            raise ValueError(f"this {kind} goes with its account")
        _let_go(account_id, row)


def let_domain_go(account_id: str, name: str) -> None:
    """Within a transaction that has touched the account: remove its alias, and mail with it."""
    _let_go(account_id, _find(account_id, "alias", name))


def _let_go(account_id: str, row: Service) -> None:
    for each in services_of(account_id):
        if _goes_along(each, row):
            _raise_revisions(account_id, each.kind, name=each.name)
            Service.update(gone=True, password_sealed=None, own_password_sealed=None).where(
                this(each)
            ).execute()
    _share_anew(account_id, "mailbox")


def configure(account_id: str, kind: str, name: str, **settings) -> None:
    """Change some settings. Raises Closed, NotReady, Unknown, and ValueError for a wrong one."""
    with _change(account_id):
        configure_within(account_id, kind, name, **settings)


def configure_within(account_id: str, kind: str, name: str, **settings) -> None:
    """As `configure`, within a transaction of `change_within`."""
    row = _find(account_id, kind, name)
    changed = _checked(kind, settings_of(row) | settings)
    # What was said of a certificate was of the one that was wanted before.
    facts = {"note": None} if kind == "site" and "letsencrypt" in settings else {}
    Service.update(settings=changed, **facts).where(this(row)).execute()
    _raise_revisions(account_id, kind, name=name)
    _share_anew(account_id, kind)
    if kind == "site" and settings.get("letsencrypt"):
        _look_for_addresses(account_id)
    if settings.get("php", settings_of(row).get("php")) != settings_of(row).get("php"):
        _raise_revisions(account_id, "tipjar")  # another page stands in for it, or none any more


def _look_for_addresses(account_id: str) -> None:
    """Whether its domains lead here matters from now on."""
    moment = now()
    Domain.update(look_at=moment).where(
        (Domain.account == account_id) & (Domain.look_at > moment + ADDRESS_SECONDS)
    ).execute()


def switch(account_id: str, kind: str, name: str, active: bool) -> None:
    """Switch one service off or on. Raises Closed, NotReady and Unknown."""
    if kind not in (*SWITCHED, "mail_domain"):
        raise ValueError(f"a {kind} has no switch")
    with _change(account_id):
        switch_within(account_id, kind, name, active)


def switch_within(account_id: str, kind: str, name: str, active: bool) -> None:
    """As `switch`, within a transaction of `change_within`."""
    row = _find(account_id, kind, name)
    Service.update(active=active).where(this(row)).execute()
    _raise_revisions(account_id, kind, name=name)


def set_password(
    shop: Shop, account_id: str, kind: str, name: str, password: str | None = None
) -> None:
    """Change a password; None: a generated one, to be shown.

    Raises Closed, NotReady and Unknown.
    """
    if kind not in WITH_PASSWORD:
        raise ValueError(f"a {kind} has no password")
    with _change(account_id):
        set_password_within(shop, account_id, kind, name, password)


def set_password_within(
    shop: Shop, account_id: str, kind: str, name: str, password: str | None = None
) -> None:
    """As `set_password`, within a transaction of `change_within`."""
    _set(_find(account_id, kind, name), _sealed(shop, password))


def set_every_password(shop: Shop, account_id: str, password: str | None = None) -> None:
    """Give all services the same password; None: a generated one, to be shown.

    Raises Closed and NotReady.
    """
    with _change(account_id):
        set_every_password_within(shop, account_id, password)


def set_every_password_within(shop: Shop, account_id: str, password: str | None = None) -> None:
    """As `set_every_password`, within a transaction of `change_within`."""
    facts = _sealed(shop, password)
    for row in services_of(account_id):
        if row.kind in WITH_PASSWORD and not row.gone:
            _set(row, facts)


def _set(row: Service, facts: dict) -> None:
    Service.update(facts).where(this(row)).execute()
    _raise_revisions(row.account_id, row.kind, name=row.name)


def _find(account_id: str, kind: str, name: str) -> Service:
    row = Service.get_or_none(this(Service(account=account_id, kind=kind, name=name)))
    if row is None or row.gone:
        raise Unknown
    return row


def _checked(kind: str, settings: dict) -> str:
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


def _sealed(shop: Shop, password: str | None) -> dict:
    sealed = shop.vault.seal(password or passwords.generate())
    return {"password_sealed": sealed, "own_password_sealed": None if password else sealed}


def _excludes(there: Service, new: Service) -> bool:
    """Whether the two cannot both be: an address is a mailbox or a forward."""
    kinds = {there.kind, new.kind}
    return there.name == new.name and (len(kinds) == 1 or kinds == {"mailbox", "forward"})


def _goes_along(row: Service, removed: Service) -> bool:
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


def _share_anew(account_id: str, kind: str) -> None:
    """Mailboxes share the space for mail: one more or less changes the quota of each."""
    if kind == "mailbox":
        _raise_revisions(account_id, "mailbox")
