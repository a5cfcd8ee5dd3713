"""Recovery from the wallet's history: whoever paid for a hosting can get back into it.

A wallet keeps the invoice it paid and the preimage that it got for it. Both together prove who
paid. They set a new password and a new receipt, and do nothing else.
"""

import hashlib
import hmac
import logging
import re
from collections.abc import Callable
from contextlib import AbstractContextManager

from lightningspace.base import passwords
from lightningspace.base.clock import now
from lightningspace.base.models import (
    Account,
    Order,
    lock_account,
    transaction,
)
from lightningspace.base.prices import DAY
from lightningspace.rules import order_book, outbox, sessions, tokens
from lightningspace.rules.order_book import OrderKind
from lightningspace.shop import Shop

logger = logging.getLogger(__name__)

# Where the owner has logged in before, recovery waits for WAIT_SECONDS and is then possible for
# OPEN_SECONDS. After a recovery it is possible once more for AGAIN_SECONDS: the
# answer may have been lost, or the form sent twice.
WAIT_SECONDS = DAY
OPEN_SECONDS = 7 * DAY
AGAIN_SECONDS = 10 * 60
INVOICE = re.compile("ln(?:bcrt|bc|tbs|tb)[0-9]*[munp]?1[02-9ac-hj-np-z]+")  # in small letters
UNSEEN_BREAKS = re.compile("[\\s\u200b\ufeff]")


class NotRecovered(Exception):
    """No hosting here was opened by this invoice and preimage, or its owner forbids recovery."""


class RecoveryWaits(Exception):
    """The owner has logged in before, so a mail tells of it, and refusing is possible until `at`.

    From then on, and until `closes_at`, the same recovery succeeds.
    """

    def __init__(self, at: int):
        super().__init__("the wallet's history does not log in at once")
        self.at = at
        self.closes_at = at + OPEN_SECONDS


def recover(
    shop: Shop, typed: str, preimage: bytes, place: AbstractContextManager | None = None
) -> tuple[Account, str]:
    """The account that paying this invoice opened, and the new password of its login.

    The invoice's whole text is compared, which only our own node can have signed: a node on the
    payment's route knows hash, secret and preimage, and could imitate the rest. Every other
    receipt, token and session ends. `place`: as for `passwords.make_hash`. Raises NotRecovered,
    RecoveryWaits where the owner has logged in before, and passwords.Busy.
    """
    payment_hash = hashlib.sha256(preimage).hexdigest()
    order = Order.get_or_none((Order.payment_hash == payment_hash) & (Order.kind == OrderKind.OPEN))
    is_it = order is not None and order.invoice_hash is not None and order.account_id is not None
    hashes = map(order_book.hash_of, invoices_in(typed))
    if not is_it or not any(hmac.compare_digest(order.invoice_hash, each) for each in hashes):
        raise NotRecovered
    password = passwords.generate()
    password_hash = passwords.make_hash(password, place)
    moment = now()
    with transaction():
        account = _recoverable(order.account_id)
        opens_at = _opens_at(shop, account, moment)
        if opens_at <= moment:
            # Sealed passwords stay until they are noted: they open the services, perhaps unseen.
            sessions.end_all(account.id, password_hash=password_hash)
            tokens.renew(account.id)
            # As if its open week ended just now: one more recovery works, and nobody is told of it.
            Account.update(recovery_asked_at=moment - WAIT_SECONDS - OPEN_SECONDS).where(
                Account.id == account.id
            ).execute()
    if opens_at > moment:
        raise RecoveryWaits(opens_at)
    logger.info("account %s: recovered from the wallet's history", account.id)
    return Account.get_by_id(account.id), password


def invoices_in(typed: str) -> set[str]:
    """The invoices in a text as wallets show them: in links, in capitals, in sentences, wrapped."""
    text = typed.lower()
    return {*INVOICE.findall(text), *INVOICE.findall(UNSEEN_BREAKS.sub("", text))}


def _opens_at(shop: Shop, account: Account, moment: int) -> int:
    """From when on recovery works; an owner who has logged in before is told of the attempt."""
    if account.entered_at is None:
        return moment
    asked_at, lasts = account.recovery_asked_at, WAIT_SECONDS + OPEN_SECONDS
    # An attempt in the future was noted by a clock that was wrong.
    if asked_at is not None and asked_at <= moment < asked_at + lasts + AGAIN_SECONDS:
        return asked_at + WAIT_SECONDS
    opens_at = moment + WAIT_SECONDS
    Account.update(recovery_asked_at=moment).where(Account.id == account.id).execute()
    for channel in ("email", "mailbox"):
        outbox.write(shop, account, "recovery", moment, channel=channel, opens_at=opens_at)
    return opens_at


def opens_at(account: Account) -> int | None:
    """From when on an attempt that waits will succeed; None: none waits."""
    asked_at = account.recovery_asked_at
    if asked_at is None or now() >= asked_at + WAIT_SECONDS + OPEN_SECONDS:
        return None
    return asked_at + WAIT_SECONDS


def let_wallet_recover(
    account_id: str, may: bool, check_still: Callable[[], None] = lambda: None
) -> None:
    """Allow or forbid recovery; an attempt that waits is over.

    `check_still`: as for `tokens.hand_out`.
    """
    with transaction():
        lock_account(account_id)
        check_still()
        Account.update(wallet_recovers=may, recovery_asked_at=None).where(
            Account.id == account_id
        ).execute()


def _recoverable(account_id: str) -> Account:
    account = lock_account(account_id)
    if account is None or account.opened_at is None or not account.wallet_recovers:
        raise NotRecovered
    return account
