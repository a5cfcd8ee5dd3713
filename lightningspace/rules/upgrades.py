"""Bringing existing hostings up to date after an upgrade of the shop, or new settings."""

import hashlib
import json

from lightningspace import paidarea, tipjar
from lightningspace.base import walls
from lightningspace.base.models import Account, Fact, Service, lock_account, transaction
from lightningspace.rules import wanted
from lightningspace.rules.kinds import KINDS
from lightningspace.shop import Shop

# The name of a fact: how far a kind's services are, as a version and the id of the last account.
UP_TO_DATE = "{kind} up to date"
# Accounts in one pass; there is a pass each minute.
UPGRADED_AT_ONCE = 50
# Comes after every account's id, which is hexadecimal.
ALL_OF_THEM = "~"


def bring_up_to_date(shop: Shop) -> int:
    """Have sites, mailboxes and tip jars written again that come from an older version or other
    settings; return for how many accounts.

    It takes up a few accounts at a time, in the order of their ids, so that the panel has time for
    other work. Several workers may call it at once.
    """
    return sum(_bring_up_to_date(shop, kind, version) for kind, version in _versions(shop).items())


def _versions(shop: Shop) -> dict[str, str]:
    """For each kind of service, a hash of all that decides what is written for it."""
    config = shop.config
    written: dict[str, list] = {"mailbox": [config.mail_send_min_days]}
    written["site"] = [config.mail_send_min_days, walls.OPEN_BASEDIR, walls.NO_MAIL]
    written["site"].append(walls.allow_override(config.walls))
    if config.sites_tls != "letsencrypt":  # what it was before there was a choice
        written["site"].append(config.sites_tls)
    for directives in (walls.apache_directives, walls.nginx_directives):
        written["site"] += [directives(config.walls, is_on) for is_on in (False, True)]
    if config.ftp_uploads:
        facts = (config.public_url, config.tip_min_sats, config.tip_max_sats)
        written["tipjar"] = [tipjar.JAR.text, tipjar.PAGE_TEXT, tipjar.MODES, facts]
        of_gate = (paidarea.GATE.text, paidarea.HTACCESS_TEXT)
        written["paidarea"] = [*of_gate, config.public_url, config.walls]
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
        # An account that is still being opened may already have the older version's site.
        is_there = Account.ready_at if KINDS[kind].is_uploaded else Account.opened_at
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
    """Add the row that accounts without a tip jar did not have in older versions, and keep the one
    that meant, when it was going, that its jar was to be removed.
    """
    wanted.want_upload_row(shop, account, has_jar=False)
    Service.update(gone=False, settings=json.dumps({"is_there": False})).where(
        (Service.account == account.id) & (Service.kind == "tipjar") & Service.gone
    ).execute()
