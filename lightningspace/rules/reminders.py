"""The address of an account's reminders: confirmed by a mailed link, ended by a link in each."""

import json
import logging
import re
from collections.abc import Callable
from dataclasses import dataclass, replace

from lightningspace.base.clock import now
from lightningspace.base.models import Account, Notice, lock_account, transaction
from lightningspace.base.prices import DAY
from lightningspace.base.refusals import Refusal
from lightningspace.base.vault import Unreadable
from lightningspace.rules import hostnames, outbox, wanted
from lightningspace.shop import Shop

logger = logging.getLogger(__name__)

CONFIRM_SECONDS = DAY
SEALED = re.compile(r"[A-Za-z0-9_=-]{1,2000}")
STOP = re.compile(r"([0-9A-Za-z]{1,64})-([0-9a-f]{32})-([0-9a-f]{32})")


class TooManyMails(Refusal):
    """The address was mailed a link today, whoever asked, or the account has asked for several."""

    status, code, retry_after, field = 429, "too_many_mails", DAY, "email"
    text = (
        "We have already mailed a link to this address today, or several to others. Nothing was "
        "changed: please try again tomorrow."
    )


class UnknownLink(Exception):
    """A link that is none of ours, or that is over; its text is for the customer."""


@dataclass(frozen=True)
class Change:
    """What a mailed link asks for. `epoch`: `Account.email_epoch` when the link was made."""

    account_id: str
    epoch: int
    address: str
    site: str = ""
    is_done: bool = False


# -- confirming an address -----------------------------------------------------------


def request_change(shop: Shop, account_id: str, email: str) -> bool:
    """Mail a link to the new address, which gets the account's reminders once it is confirmed.

    False where the shop sends no mail. Raises TooManyMails and AccountClosed.
    """
    with transaction():
        account = lock_account(account_id)
        if account is None or account.closing_at is not None:
            raise wanted.AccountClosed
        if not shop.config.smtp_url:
            return False
        if email == account.email_waits and link_ends_at(account):
            return True
        waits = None if email == account.email else email
        facts = {"email_waits": waits, "email_epoch": Account.email_epoch + 1}
        Account.update(facts).where(Account.id == account_id).execute()
        if waits and not mail_link(shop, Account.get_by_id(account_id)):
            raise TooManyMails
        return True


def mail_link(shop: Shop, account: Account) -> bool:
    """Within a transaction: mail a link to the address that waits, with what its owner should know
    of the hosting. False: none waits, or not today.

    Whoever ordered may have typed anybody's: of what they chose, the mail has only the site's name.
    """
    if account.email_waits is None:
        return False
    # Earlier requests are void, whether they were mailed yet or not.
    Notice.delete().where(_links(account)).execute()
    until = now() + CONFIRM_SECONDS
    facts = [account.id, account.email_epoch, account.email_waits, until]
    token = shop.vault.seal(json.dumps(facts), "reminders")
    link = f"{shop.config.public_url}/reminders/confirm/{token}"
    return outbox.write(
        shop, account, "confirm", now(), account.email_waits, link=link, until=until
    )


def link_ends_at(account: Account) -> int | None:
    """Until when the link mailed to the address that waits is valid; None: there is none."""
    is_given_up = Notice.try_at.is_null() & Notice.sent_at.is_null()
    mailed = Notice.get_or_none(_links(account) & ~is_given_up)
    until = mailed.written_at + CONFIRM_SECONDS if mailed and account.email_waits else 0
    return until if until > now() else None


def _links(account: Account):
    return (Notice.account_id == account.id) & (Notice.kind == "confirm")


def read(shop: Shop, token: str) -> Change:
    """What a link asks for, while it is still valid. Raises UnknownLink."""
    change = _unsealed(shop, token)
    account = Account.get_or_none(Account.id == change.account_id)
    return _checked(shop, change, account)


def confirm(shop: Shop, token: str) -> None:
    """Send the reminders to the new address. May be called twice. Raises UnknownLink."""
    change = _unsealed(shop, token)
    with transaction():
        change = _checked(shop, change, lock_account(change.account_id))
        if change.is_done:
            return
        Account.update(email=change.address, email_waits=None).where(
            Account.id == change.account_id
        ).execute()
    logger.info("account %s: its reminders have a new address", change.account_id)


def _unsealed(shop: Shop, token: str) -> Change:
    if not SEALED.fullmatch(token):
        raise UnknownLink("We do not know this link. Is it complete?")
    try:
        account_id, epoch, address, until = json.loads(shop.vault.unseal(token, "reminders"))
    except Unreadable:
        raise UnknownLink("We do not know this link. Is it complete?") from None
    if until < now():
        raise UnknownLink(
            "This link was valid for a day. Ask for another one in the settings of your hosting."
        )
    return Change(account_id, epoch, address)


def _checked(shop: Shop, change: Change, account: Account | None) -> Change:
    if account is None or account.username is None or account.closing_at is not None:
        raise UnknownLink("This hosting does not exist any more.")
    waits = (account.email_waits, account.email_epoch) == (change.address, change.epoch)
    if not waits and account.email != change.address:
        raise UnknownLink(
            "The address was changed, or every browser was logged out, after this link was asked "
            "for. Ask for another one in the settings of your hosting."
        )
    site = hostnames.site_name(shop, account.username)
    return replace(change, site=site, is_done=not waits)


# -- ending them ---------------------------------------------------------------------


def remove(account_id: str, is_meant: Callable[[str], bool] = lambda address: True) -> bool:
    """Forget an account's addresses that are meant, and unsent mails to them; False: none was."""
    with transaction():
        account = lock_account(account_id)
        known = {"email": account.email, "email_waits": account.email_waits} if account else {}
        gone = {name: None for name, address in known.items() if address and is_meant(address)}
        if gone:
            Account.update(gone).where(Account.id == account_id).execute()
        outbox.stop(account_id, is_meant)
    return bool(gone)


def check_stop(shop: Shop, token: str) -> None:
    """Raise UnknownLink unless the link is from one of our reminders, however old."""
    _stopped_by(shop, token)


def unsubscribe(shop: Shop, token: str) -> None:
    """End the reminders to the address that got this link. May be called twice.

    Raises UnknownLink.
    """
    account_id, of_address = _stopped_by(shop, token)

    def is_meant(address: str) -> bool:
        return shop.vault.is_mac(of_address, "reminders of", account_id, address)

    if remove(account_id, is_meant):
        logger.info("account %s: no more reminders", account_id)


def _stopped_by(shop: Shop, token: str) -> tuple[str, str]:
    match = STOP.fullmatch(token)
    if not match or not shop.vault.is_mac(match[3], "reminders", match[1], match[2]):
        raise UnknownLink("We do not know this link. Is it complete?")
    return match[1], match[2]
