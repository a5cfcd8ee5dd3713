"""Wallets that log in (LNURL-auth): what they are given to sign, and which hostings they open.

What a wallet signs, the `k1`, has no row: it contains its own expiry and a keyed hash of what it is
for. Only a k1 that was signed is noted, so strangers cannot fill a table.
"""

import logging
import re
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import urlsplit

from lightningspace.base.clock import now
from lightningspace.base.models import (
    Account,
    Wallet,
    WalletSignature,
    lock_account,
    transaction,
)
from lightningspace.base.prices import DAY
from lightningspace.base.refusals import Refusal
from lightningspace.outside import lnurl
from lightningspace.rules import outbox, wanted
from lightningspace.shop import Shop

logger = logging.getLogger(__name__)

LOGIN, LINK = ACTIONS = ("login", "link")
# How long a wallet may take to sign.
SIGN_SECONDS = 10 * 60
# How long what was signed is kept: longer than any box's clock may be wrong.
KEPT_SECONDS = DAY
# How many wallets may log in to one hosting, and to how many hostings one wallet may.
WALLETS_MAX = 5
HOSTINGS_MAX = 20

# Its expiry and a random part, then the hash over both.
K1 = re.compile("([0-9a-f]{8}[0-9a-f]{24})([0-9a-f]{32})")
# As LUD-04 wants them: a signature in DER, and a compressed point.
SIGNATURE = re.compile("(?:[0-9a-f]{2}){8,72}")
KEY = re.compile("0[23][0-9a-f]{64}")


class NotSigned(Refusal):
    """What a wallet sent does not count; its text is for the wallet to show."""


class SignatureOver(Exception):
    """No wallet has signed this, it has counted already, or its time is over."""


class TooManyWallets(Refusal):
    text = "No more wallets can be linked here."


def new_k1(shop: Shop, action: str) -> str:
    """A new k1 for a wallet to sign. The caller ties it to a browser before it is shown."""
    told = f"{now() + SIGN_SECONDS:08x}{secrets.token_hex(12)}"
    return told + shop.vault.mac("wallet", action, told)


def seconds_left(k1: str | None) -> int:
    """How long it may still be signed; 0: it has expired, or is no k1."""
    is_one = K1.fullmatch(k1 or "")
    return max(0, _until(k1) - now()) if is_one else 0


@dataclass(frozen=True)
class Code:
    """What a wallet scans or opens to sign a k1, in two spellings (LUD-01, LUD-17), and the host
    that it names when it asks.
    """

    k1: str
    host: str
    lnurl: str
    keyauth: str
    seconds_left: int


def code(shop: Shop, action: str, k1: str | None) -> Code | None:
    """What to show; None: the k1 has expired, or is signed. Its host is always PUBLIC_URL's."""
    left = seconds_left(k1)
    if not left or WalletSignature.select().where(WalletSignature.k1 == k1).exists():
        return None
    url = lnurl.auth_url(shop.config.public_url, k1, action)
    keyauth = f"keyauth:{url.partition(':')[2]}"
    return Code(k1, urlsplit(url).hostname, lnurl.encode(url), keyauth, left)


def sign(shop: Shop, k1: str, signature: str, key: str) -> None:
    """Note that a wallet has signed. Whoever is first counts; the same again changes nothing.

    To log in, its key must be linked to a hosting. Raises NotSigned.
    """
    k1, signature, key = k1.lower(), signature.lower(), key.lower()
    action = _action(shop, k1)
    if action is None:
        raise NotSigned("This code is none of ours. Is it complete?")
    if not seconds_left(k1):
        raise NotSigned("This code is over. Please load its page again.")
    if (
        not SIGNATURE.fullmatch(signature)
        or not KEY.fullmatch(key)
        or not _is_good(k1, signature, key)
    ):
        raise NotSigned("The signature is not right.")
    if action == LOGIN and not hostings(key):
        raise NotSigned("No hosting here is linked with this wallet: log in, and link it first.")
    row = WalletSignature.insert(k1=k1, wallet_key=key, until=_until(k1))
    if row.on_conflict_ignore().as_rowcount().execute() == 1:
        return
    if WalletSignature.get_by_id(k1).wallet_key != key:
        raise NotSigned("Another wallet has used this code. Please load its page again.")


def _action(shop: Shop, k1: str) -> str | None:
    """The action that a k1 was made for; None: it is none of ours."""
    parts = K1.fullmatch(k1)
    is_for = (
        each for each in ACTIONS if parts and shop.vault.is_mac(parts[2], "wallet", each, parts[1])
    )
    return next(is_for, None)


def _until(k1: str) -> int:
    return int(k1[:8], 16)


def _is_good(k1: str, signature: str, key: str) -> bool:
    return lnurl.is_signed(*map(bytes.fromhex, (k1, signature, key)))


def signer(k1: str | None) -> str | None:
    """The key of the wallet that has signed this; None: none yet, or it has counted already."""
    row = WalletSignature.get_or_none(WalletSignature.k1 == k1) if seconds_left(k1) else None
    return row.wallet_key if row and not row.is_used else None


def hostings(key: str | None) -> list[Account]:
    """The hostings that this wallet logs in to, by their names."""
    linked = Wallet.select(Wallet.account).where(Wallet.wallet_key == key)
    return list(Account.select().where(Account.id << linked).order_by(Account.username))


def enter(k1: str, account_id: str) -> bool:
    """Within a transaction that has locked the account: let what was signed log in to it, once."""
    try:
        key = _use(k1)
    except SignatureOver:
        return False
    is_it = (Wallet.account == account_id) & (Wallet.wallet_key == key)
    return Wallet.update(used_at=now()).where(is_it).execute() == 1


def link(shop: Shop, account_id: str, k1: str, check_still: Callable[[], None]) -> None:
    """Let the wallet that has signed this log in from now on; the owner is told by mail.

    `check_still`: as for `tokens.hand_out`. Raises SignatureOver, TooManyWallets and AccountClosed.
    """
    moment = now()
    with transaction():
        account = lock_account(account_id)
        if account is None or account.closing_at:
            raise wanted.AccountClosed
        check_still()
        key = _use(k1)
        of_account = of(account_id)
        if key in [row.wallet_key for row in of_account]:
            return
        if len(of_account) >= WALLETS_MAX:
            raise TooManyWallets(f"There are {WALLETS_MAX} wallets. Unlink one of them first.")
        if len(hostings(key)) >= HOSTINGS_MAX:
            raise TooManyWallets(f"This wallet logs in to {HOSTINGS_MAX} hostings already.")
        Wallet.create(account=account_id, wallet_key=key, linked_at=moment)
        for channel in ("email", "mailbox"):
            outbox.write(shop, account, "wallet", moment, channel=channel)
    logger.info("account %s: a wallet is linked", account_id)


def _use(k1: str) -> str:
    """Within a transaction: the key that has signed this, which counts now and never again."""
    is_there = (WalletSignature.k1 == k1) & ~WalletSignature.is_used
    used = WalletSignature.update(is_used=True).where(is_there & (WalletSignature.until > now()))
    if used.execute() != 1:
        raise SignatureOver
    return WalletSignature.get_by_id(k1).wallet_key


def of(account_id: str) -> list[Wallet]:
    """The wallets that log in to the account, the first linked first."""
    own = Wallet.select().where(Wallet.account == account_id)
    return list(own.order_by(Wallet.linked_at, Wallet.wallet_key))


def unlink(account_id: str, key: str) -> bool:
    """False: there is no such wallet."""
    own = (Wallet.account == account_id) & (Wallet.wallet_key == key)
    return Wallet.delete().where(own).execute() == 1


def tidy() -> None:
    WalletSignature.delete().where(WalletSignature.until <= now() - KEPT_SECONDS).execute()
