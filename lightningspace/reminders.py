"""To which address an account's reminders go: set by a mailed link, ended by any reminder's."""

import json
import logging
import re
from dataclasses import dataclass

from lightningspace import outbox, wanted
from lightningspace.clock import now
from lightningspace.models import Account, Notice, lock_account, transaction
from lightningspace.prices import DAY
from lightningspace.shop import Shop
from lightningspace.vault import Unreadable

logger = logging.getLogger(__name__)

CHANGES_PER_DAY = 5
CONFIRM_SECONDS = DAY
SEALED = re.compile(r"[A-Za-z0-9_=-]{1,2000}")
STOP = re.compile(r"([0-9A-Za-z]{1,64})-([0-9a-f]{32})-([0-9a-f]{32})")


class TooMany(Exception):
    """An account asked for more confirmation mails than anybody needs."""


class Unknown(Exception):
    """A link that is none of ours, or that is over; its text is for the customer."""


@dataclass(frozen=True)
class Change:
    """What a mailed link asks for."""

    account_id: str
    before: str  # a keyed hash of the address that it replaces, and of which change of it that is
    address: str
    site: str = ""
    is_done: bool = False


# -- another address -----------------------------------------------------------------


def request_change(shop: Shop, account: Account, email: str) -> bool:
    """Mail a link to the new address; who opens it and confirms gets the account's reminders.

    False where the shop sends no mail. Raises TooMany and Closed.
    """
    with transaction():
        return request_change_within(shop, account.id, email)


def request_change_within(shop: Shop, account_id: str, email: str) -> bool:
    """As `request_change`, within a transaction of the caller's."""
    account = lock_account(account_id)
    if account is None or account.closing_at is not None:
        raise wanted.Closed
    until = now() + CONFIRM_SECONDS
    facts = [account.id, shop.vault.mac(*_state(account)), email, until]
    token = shop.vault.seal(json.dumps(facts), "reminders")
    link = f"{shop.config.public_url}/reminders/confirm/{token}"
    about = _next(account.id)
    return outbox.write(shop, account, "confirm", about, email, link=link, until=until)


def read(shop: Shop, token: str) -> Change:
    """What a link asks for, while it can still be had. Raises Unknown."""
    change = _unsealed(shop, token)
    account = Account.get_or_none(Account.id == change.account_id)
    return _checked(shop, change, account)


def confirm(shop: Shop, token: str) -> None:
    """Let the reminders go to the new address. May be called twice. Raises Unknown."""
    change = _unsealed(shop, token)
    with transaction():
        change = _checked(shop, change, lock_account(change.account_id))
        if change.is_done:
            return
        _set(change.account_id, change.address)
    logger.info("account %s: its reminders have a new address", change.account_id)


def remove(account_id: str) -> None:
    """No more reminders, of those either that are written already."""
    with transaction():
        remove_within(account_id)


def remove_within(account_id: str) -> None:
    """As `remove`, within a transaction of the caller's."""
    _set(account_id, None)
    outbox.stop(account_id)


def _next(account_id: str) -> int:
    """What the next confirmation is about: a number that no other has. Raises TooMany."""
    day_ago = now() - DAY
    confirmations = (Notice.account_id == account_id) & (Notice.kind == "confirm")
    is_old = (Notice.written_at <= day_ago) & Notice.try_at.is_null()
    Notice.delete().where(confirmations & is_old).execute()
    recent = list(Notice.select().where(confirmations))
    if sum(row.written_at > day_ago for row in recent) >= CHANGES_PER_DAY:
        raise TooMany
    return max([now(), *(row.about + 1 for row in recent)])


def _set(account_id: str, address: str | None) -> None:
    """Within a transaction: what was mailed before to be confirmed is over."""
    Account.update(email=address, email_epoch=Account.email_epoch + 1).where(
        Account.id == account_id
    ).execute()


def _state(account: Account) -> tuple[str, ...]:
    """What a link may change, once: whoever was logged out everywhere can confirm no more."""
    epochs = f"{account.email_epoch}.{account.session_epoch}"
    return "address", account.id, epochs, account.email or ""


def _unsealed(shop: Shop, token: str) -> Change:
    if not SEALED.fullmatch(token):
        raise Unknown("There is no such link. Is it complete?")
    try:
        account_id, before, address, until = json.loads(shop.vault.unseal(token, "reminders"))
    except Unreadable:
        raise Unknown("There is no such link. Is it complete?") from None
    if until < now():
        raise Unknown("This link was valid for a day. Ask for another one in your hosting.")
    return Change(account_id, before, address)


def _checked(shop: Shop, change: Change, account: Account | None) -> Change:
    if account is None or account.username is None or account.closing_at is not None:
        raise Unknown("This hosting does not exist any more.")
    is_done = account.email == change.address
    if not is_done and not shop.vault.is_mac(change.before, *_state(account)):
        raise Unknown(
            "The address was changed, or every browser was logged out, after this link was asked "
            "for. Ask for another one in your hosting."
        )
    site = wanted.site_name(shop, account.username)
    return Change(change.account_id, change.before, change.address, site, is_done)


# -- no more of them -----------------------------------------------------------------


def check_stop(shop: Shop, token: str) -> None:
    """Raise Unknown unless the link is of a reminder of ours, however old."""
    _stopped_by(shop, token)


def unsubscribe(shop: Shop, token: str) -> None:
    """End the reminders to the address that got this link. May be called twice. Raises Unknown."""
    account_id, of_address = _stopped_by(shop, token)

    def is_meant(address: str | None) -> bool:
        of = ("reminders of", account_id, address or "")
        return shop.vault.is_mac(of_address, *of)

    with transaction():
        account = lock_account(account_id)
        if account is not None and is_meant(account.email):
            _set(account_id, None)
            logger.info("account %s: no more reminders", account_id)
        outbox.stop(account_id, is_meant)


def _stopped_by(shop: Shop, token: str) -> tuple[str, str]:
    match = STOP.fullmatch(token)
    if not match or not shop.vault.is_mac(match[3], "reminders", match[1], match[2]):
        raise Unknown("There is no such link. Is it complete?")
    return match[1], match[2]
