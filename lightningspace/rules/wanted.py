"""What should be: the services that an account owns, and every change to them.

A change is one transaction. It raises the revision of the account and of each row that the panel
must now be told of; `reconcile.account` then makes the panel match.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager

from peewee import IntegrityError

from lightningspace.base import passwords
from lightningspace.base.clock import now
from lightningspace.base.models import Account, Domain, Service, transaction
from lightningspace.base.refusals import Refusal
from lightningspace.rules import hostnames, services
from lightningspace.rules.kinds import KINDS
from lightningspace.shop import Shop

# How often to check whether a domain points here yet, if its site has a certificate.
ADDRESS_SECONDS = 60 * 60


class AccountClosed(Refusal):
    """The account is closed or closing: it cannot be changed any more."""

    code = "closing"
    text = "This hosting is being closed: nothing in it can be changed any more."


class NameInUse(Refusal):
    """The name is in use, by this account or another."""

    code = "taken"
    text = "This hosting already has this address."


class UnknownService(Refusal):
    """The account has no such service."""

    status, code = 404, "unknown"
    text = "There is nothing of this name in this hosting."


class AccountNotReady(Refusal):
    """The account is still being set up; its paid time has not begun."""

    status, code, retry_after = 503, "setting_up", 3
    text = "This hosting is still being set up. Please wait until it is ready."


class NoneLeft(Refusal):
    """The account has as many of these as are included and paid for."""

    code = "full"
    text = "All that is paid for is in use. Send the same again to buy more."


class TooMany(Refusal):
    """The account has as many of these as any account may have."""

    code = "full"
    text = "A hosting has no more of these. Remove one first."


# -- the account as a whole ----------------------------------------------------------


def want_all(shop: Shop, account: Account, password: str, is_generated: bool = False) -> None:
    """Within a transaction: want every service of a new account, with one password for all.

    A generated password is shown beside each service.
    """
    at_first = {name: kind for name, kind in KINDS.items() if kind.at_first}
    for name, kind in at_first.items():
        sealed = shop.vault.seal(password) if kind.has_password else None
        Service.create(
            account=account,
            kind=name,
            name=kind.at_first(shop, account),
            settings=services.checked(name, kind.begins_with),
            password_sealed=sealed,
            own_password_sealed=sealed if is_generated else None,
        )
    look_now(account.id)


@contextmanager
def change(account_id: str) -> Iterator[Account]:
    """A transaction for a change by an account's owner. Raises AccountClosed and AccountNotReady.

    Not before it is ready: a failing or endlessly repeated change could delay its paid time.
    """
    with transaction():
        account = touch(account_id)
        if account.ready_at is None:
            raise AccountNotReady
        yield account


def touch(account_id: str, **facts) -> Account:
    """Within a transaction: change an account and have it reconciled now. Raises AccountClosed."""
    changed = Account.update(revision=Account.revision + 1, reconcile_at=now(), **facts).where(
        (Account.id == account_id) & Account.opened_at.is_null(False) & Account.closing_at.is_null()
    )
    if not changed.execute():
        raise AccountClosed
    return Account.get_by_id(account_id)


def raise_revisions(account_id: str, *kinds: str, **which: str) -> int:
    """Have these rows looked at again, failed ones without their wait; return how many."""
    rows = (Service.account == account_id) & (Service.kind << kinds)
    for column, value in which.items():
        rows &= getattr(Service, column) == value
    changes = {"revision": Service.revision + 1, "tries": 0, "permanent": False}
    return Service.update(changes).where(rows).execute()


# -- the tip jar ---------------------------------------------------------------------


def want_uploads(shop: Shop, account: Account) -> None:
    """Within a transaction: want what we put on a new account's site over FTP."""
    want_upload_row(shop, account, shop.config.tip_jars)
    look_now(account.id)


def want_upload_row(shop: Shop, account: Account, has_jar: bool) -> None:
    Service.insert(
        account=account.id,
        kind="tipjar",
        name=hostnames.site_name(shop, account.username),
        settings=json.dumps({"is_there": has_jar}),
    ).on_conflict_ignore().execute()


def renew_tip_jar(account_id: str) -> None:
    """Within a transaction: put the tip jar up again, because what it says of the shop has changed.
    So may paid areas, which can be paid by the same door.
    """
    if raise_revisions(account_id, "tipjar", "paidarea"):
        look_now(account_id)


def look_now(account_id: str) -> None:
    """Within a transaction: have an account reconciled now, even a closing one."""
    Account.update(revision=Account.revision + 1, reconcile_at=now()).where(
        Account.id == account_id
    ).execute()


# -- single services -----------------------------------------------------------------


def add(
    shop: Shop, account_id: str, kind: str, name: str, password: str | None = None, **settings
) -> None:
    """Want one more service. A domain (alias) must have been proven to be the customer's.

    `password` None: one is generated and shown. Raises NameInUse, NoneLeft, TooMany, AccountClosed
    and AccountNotReady, and ValueError for a name or setting that is not allowed.
    """
    facts = {
        "settings": services.checked(kind, KINDS[kind].first_settings() | settings),
        "active": True,
        "gone": False,
    }
    if KINDS[kind].has_password:
        facts |= _sealed(shop, password)
    try:
        with change(account_id) as account:
            _want(shop, account, Service(account=account_id, kind=kind, name=name), facts)
    except IntegrityError:
        raise NameInUse from None


def _want(shop: Shop, account: Account, row: Service, facts: dict) -> None:
    there = [each for each in services.of_account(account.id) if not each.gone]
    if not KINDS[row.kind].is_optional or not services.is_ours(shop, account, row, there):
        raise ValueError(f"not a name for this account's {row.kind}")
    if any(services.excludes(each, row) for each in there):
        raise NameInUse
    addresses = sum(each.kind in services.ADDRESSES for each in there)
    if KINDS[row.kind].is_address and addresses >= services.addresses_allowed(shop, account):
        raise NoneLeft
    most = KINDS[row.kind].most
    if most is not None and sum(each.kind == row.kind for each in there) >= most:
        raise TooMany
    if not raise_revisions(account.id, row.kind, name=row.name):
        Service.create(account=account.id, kind=row.kind, name=row.name, **facts)
    # Also of a row that was to be removed: it is wanted again.
    Service.update(facts).where(services.this(row)).execute()
    _share_anew(account.id, row.kind)


def remove(account_id: str, kind: str, name: str) -> None:
    """Want a service, and what hangs on it, no longer.

    Raises AccountClosed, AccountNotReady, UnknownService and ValueError.
    """
    with change(account_id):
        row, rows = _find(account_id, kind, name), services.of_account(account_id)
        is_of_site = any((each.kind, each.name) == ("site", name) for each in rows)
        if not KINDS[kind].is_optional or is_of_site:
            raise ValueError(f"this {kind} goes with its account")
        _let_go(account_id, row)


def let_domain_go(account_id: str, name: str) -> None:
    """Remove the domain's alias, and its mail with it."""
    with change(account_id):
        _let_go(account_id, _find(account_id, "alias", name))


def _let_go(account_id: str, row: Service) -> None:
    for each in services.of_account(account_id):
        if services.goes_along(each, row):
            raise_revisions(account_id, each.kind, name=each.name)
            Service.update(gone=True, password_sealed=None, own_password_sealed=None).where(
                services.this(each)
            ).execute()
    _share_anew(account_id, "mailbox")


def configure(account_id: str, kind: str, name: str, **settings) -> None:
    """Change some settings.

    Raises AccountClosed, AccountNotReady, UnknownService, and ValueError for a wrong setting.
    """
    with change(account_id):
        row = _find(account_id, kind, name)
        before = services.settings_of(row)
        changed = services.checked(kind, before | settings)
        facts = {}
        if kind == "site" and "letsencrypt" in settings:
            # What is known was about the certificate as it was wanted before.
            facts = {"note": None, "certificate_at": None}
        Service.update(settings=changed, **facts).where(services.this(row)).execute()
        raise_revisions(account_id, kind, name=name)
        _share_anew(account_id, kind)
        if kind == "site" and settings.get("letsencrypt"):
            _look_for_addresses(account_id)
        if settings.get("php", before.get("php")) != before.get("php"):
            # Without PHP another page takes its place, and nothing can be sold.
            raise_revisions(account_id, "tipjar", "paidarea")


def _look_for_addresses(account_id: str) -> None:
    """Check sooner whether it has a certificate, and whether its domains point here: from now on
    that matters.
    """
    moment = now()
    look_by(account_id, moment)
    Domain.update(look_at=moment).where(
        (Domain.account == account_id) & (Domain.look_at > moment + ADDRESS_SECONDS)
    ).execute()


def look_by(account_id: str, at: int) -> None:
    """Have the panel asked about the account, such as about its certificate, by this time."""
    Account.update(usage_at=at).where(
        (Account.id == account_id) & (Account.usage_at > at)
    ).execute()


def switch(account_id: str, kind: str, name: str, active: bool) -> None:
    """Switch one service off or on. Raises AccountClosed, AccountNotReady and UnknownService."""
    if not KINDS[kind].has_switch:
        raise ValueError(f"a {kind} has no switch")
    with change(account_id):
        row = _find(account_id, kind, name)
        Service.update(active=active).where(services.this(row)).execute()
        raise_revisions(account_id, kind, name=name)


def set_password(
    shop: Shop, account_id: str, kind: str, name: str, password: str | None = None
) -> None:
    """Change a password; None: a generated one, to be shown.

    Raises AccountClosed, AccountNotReady and UnknownService.
    """
    if not KINDS[kind].has_password:
        raise ValueError(f"a {kind} has no password")
    with change(account_id):
        _set(_find(account_id, kind, name), _sealed(shop, password))


def set_every_password(shop: Shop, account_id: str, password: str | None = None) -> None:
    """Give all services the same password; None: a generated one, to be shown.

    Raises AccountClosed and AccountNotReady.
    """
    facts = _sealed(shop, password)
    with change(account_id):
        for row in services.of_account(account_id):
            if KINDS[row.kind].has_password and not row.gone:
                _set(row, facts)


def _set(row: Service, facts: dict) -> None:
    Service.update(facts).where(services.this(row)).execute()
    raise_revisions(row.account_id, row.kind, name=row.name)


def _find(account_id: str, kind: str, name: str) -> Service:
    row = Service.get_or_none(services.this(Service(account=account_id, kind=kind, name=name)))
    if row is None or row.gone:
        raise UnknownService
    return row


def _sealed(shop: Shop, password: str | None) -> dict:
    sealed = shop.vault.seal(password or passwords.generate())
    return {"password_sealed": sealed, "own_password_sealed": None if password else sealed}


def _share_anew(account_id: str, kind: str) -> None:
    """Mailboxes share the space for mail: one more or one less changes everyone's quota."""
    if kind == "mailbox":
        raise_revisions(account_id, "mailbox")
