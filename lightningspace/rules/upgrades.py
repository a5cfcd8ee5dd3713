"""What existing hostings are told after the shop was upgraded, or has other settings."""

import hashlib
import json

from lightningspace import tipjar
from lightningspace.base import walls
from lightningspace.base.models import Account, Fact, Service, lock_account, transaction
from lightningspace.rules import wanted
from lightningspace.shop import Shop

# What every site is told after an upgrade, by its kind: so many accounts in one pass, of which
# there is one a minute.
UP_TO_DATE = "{kind} up to date"
UPGRADED_AT_ONCE = 50


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
            if wanted.raise_revisions(account.id, kind):
                wanted.look_now(account.id)
        return len(taken)


def _take_up_uploads(shop: Shop, account: Account) -> None:
    """Of an older version's account: without a row it has no tip jar, and one that is to be removed
    stands for the jar's removal.
    """
    wanted.want_upload_row(shop, account, has_jar=False)
    Service.update(gone=False, settings=json.dumps({"is_there": False})).where(
        (Service.account == account.id) & (Service.kind == "tipjar") & Service.gone
    ).execute()
