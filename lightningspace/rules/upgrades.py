"""Existing hostings follow an upgrade of the shop, or a change of its settings."""

import hashlib
import json

from lightningspace import tipjar
from lightningspace.base import walls
from lightningspace.base.models import Account, Fact, Service, lock_account, transaction
from lightningspace.rules import wanted
from lightningspace.shop import Shop

# The fact that says how far the services of a kind are: a version, and the last account's id.
UP_TO_DATE = "{kind} up to date"
# Accounts in one pass; there is one each minute.
UPGRADED_AT_ONCE = 50
# Comes after every account's id, which is hexadecimal.
ALL_OF_THEM = "~"


def bring_up_to_date(shop: Shop) -> int:
    """Have sites, mailboxes and tip jars written anew where an older version, or other settings,
    wrote them; return the number of accounts taken up.

    A few at a time, in the order of their ids, so that the panel has time for other work. Several
    workers may do it at once.
    """
    return sum(_bring_up_to_date(shop, kind, version) for kind, version in _versions(shop).items())


def _versions(shop: Shop) -> dict[str, str]:
    """Of each kind of service a hash of all that decides what is written for it."""
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
        # An account that is still being opened may have the site of the older version already.
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
            if wanted.raise_revisions(account.id, kind):
                wanted.look_now(account.id)
        return len(taken)


def _take_up_uploads(shop: Shop, account: Account) -> None:
    """In older versions an account without a tip jar had no row, and a row that was going meant
    that its jar was to be removed.
    """
    wanted.want_upload_row(shop, account, has_jar=False)
    Service.update(gone=False, settings=json.dumps({"is_there": False})).where(
        (Service.account == account.id) & (Service.kind == "tipjar") & Service.gone
    ).execute()
