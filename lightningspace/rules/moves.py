"""Moving a hosting to another server: it is set up again there; its content is copied by hand."""

import json

from lightningspace.base.clock import now
from lightningspace.base.models import Account, Service, lock_account, transaction
from lightningspace.base.refusals import Refusal
from lightningspace.rules import capacity, restored, services, wanted
from lightningspace.shop import Shop


class CannotMove(Refusal):
    """A hosting cannot be moved there; the text says why."""


def begin(shop: Shop, account_id: str, server_id: int) -> None:
    """Want everything on another server. The old server's records are deleted one by one, each just
    before the new one is made; a password stays the same if the panel keeps a hash of it.

    To call this again while it is under way changes nothing. Raises CannotMove and
    wanted.AccountClosed.
    """
    if restored.since() is not None:  # it may have been moved since the copy was made
        raise CannotMove("the database is a restored copy: run `restore-check` first")
    with transaction():
        account = lock_account(account_id)
        if account is None or account.closing_at is not None:
            raise wanted.AccountClosed
        if account.moved_from is not None and account.server_id == server_id:
            return
        _check_may_move(shop, account, server_id)
        former = account.server_id
        wanted.touch(account_id, server=server_id, moved_from=former, usage_at=now())
        wanted.raise_revisions(account_id, *services.KINDS)
        _forget_server_of_site(account_id)


def _check_may_move(shop: Shop, account: Account, server_id: int) -> None:
    if account.moved_from is not None:
        raise CannotMove("it is being moved to another server already: wait until it is there")
    if account.server_id == server_id:
        raise CannotMove("it is on that server")
    left_mb = capacity.left_mb(shop).get(server_id)
    if server_id not in shop.config.capacity_mb or left_mb is None:
        raise CannotMove("that server is not among PANEL_SERVER_ID")
    if left_mb < account.space_mb + shop.config.jail_mb:
        raise CannotMove(f"that server has no room for its {account.space_mb} MB")


def _forget_server_of_site(account_id: str) -> None:
    """Within a transaction: forget the site's PHP version, which each server numbers itself, and
    its certificate, which stays on the old one.
    """
    site = (Service.account == account_id) & (Service.kind == "site")
    for row in Service.select().where(site):
        settings = services.settings_of(row) | {"php_version": 0}
        Service.update(settings=json.dumps(settings)).where(services.this(row)).execute()
    nothing = {"certificate_at": None, "certificate_asked_at": None, "certificate_asks": 0}
    Service.update(nothing).where(site).execute()


def finish(account: Account) -> None:
    """Within a transaction: note that the move is done, unless the account changed meanwhile."""
    as_read = (Account.id == account.id) & (Account.revision == account.revision)
    Account.update(moved_from=None).where(as_read).execute()
