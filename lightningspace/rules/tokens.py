"""L402 tokens: which hosting a token and its preimage stand for, and with what rights.

The token of the order that opened a hosting is its receipt and gives control of it. Orders that a
holder's program places carry the rights that it had then; the owner hands out others.
"""

import hashlib
import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from lightningspace.base.clock import now
from lightningspace.base.models import (
    Account,
    Order,
    RestingName,
    Token,
    Wallet,
    lock_account,
    transaction,
)
from lightningspace.outside import l402
from lightningspace.outside.l402 import Macaroon, Rights, Void
from lightningspace.rules import order_book, vouchers
from lightningspace.rules.order_book import OrderKind
from lightningspace.shop import Shop

logger = logging.getLogger(__name__)

# `Order.holder` of an order whose token carries the rights of the receipt.
RECEIPT = "receipt"
# How many tokens one account may have handed out.
TOKENS_MAX = 50


class NotSettled(Exception):
    """The token is right, and counts as soon as its payment is recorded and has a hosting."""


class TokenNameTaken(Exception):
    """The account has a token of this name, with other rights."""


class TooManyTokens(Exception):
    """The account has handed out as many tokens as it may."""


@dataclass(frozen=True)
class Holder:
    """Whoever has shown a valid token. `order`: the one that it was sold for, or else the one that
    its hosting is found by. None: the owner has handed it out.
    """

    account: Account
    rights: Rights
    order: Order | None
    source: str  # RECEIPT, or the id of the handed-out token that these rights come from
    mark: str  # tells this token, as narrowed, from every other; no secret
    macaroon: Macaroon


@dataclass(frozen=True)
class Payer:
    """Whoever has shown any token of ours. `order`: the paid one that it was sold for; None: it is
    not known here.
    """

    macaroon: Macaroon
    order: Order | None


# -- checking tokens -------------------------------------------------------------------


def holder(shop: Shop, macaroon: Macaroon, preimage: bytes) -> Holder:
    """Who holds a token. Raises l402.Invalid for one that was not made here, l402.Void for one that
    is no longer valid (or stands for its payment alone), and NotSettled.
    """
    shop.keys.check(macaroon, preimage)
    rights = l402.rights_at_hosting(macaroon, now())
    own = Order.get_or_none(Order.payment_hash == macaroon.payment_hash.hex())
    before = own
    if macaroon.hosting_payment != macaroon.payment_hash:
        before = Order.get_or_none(Order.payment_hash == macaroon.hosting_payment.hex())
    known = [order for order in (before, own) if order is not None]
    if any(map(_may_count_soon, known)):
        raise NotSettled
    is_paid = own is None or own.paid_at is not None
    ways = [_of_order(order) for order in known]
    if before is None:
        ways.append(_of_handed_out(macaroon.token_id.hex()))
    account_id, source = next((way for way in ways if way[0] and is_paid), (None, ""))
    account = Account.get_or_none(Account.id == account_id) if account_id else None
    if account is None:
        raise Void(
            "this credential is revoked, its hosting is closed, or it stands for a payment alone"
        )
    if l402.epoch(macaroon) != account.receipt_epoch:
        raise Void("this credential is revoked: there is a newer access key")
    mark = shop.vault.mac("holder", macaroon.signature.hex())
    return Holder(account, rights, own or before, source, mark, macaroon)


def payer(shop: Shop, macaroon: Macaroon, preimage: bytes) -> Payer:
    """Who has paid for a token, whether or not it still stands for a hosting.

    Raises l402.Invalid for one that was not made here, and NotSettled.
    """
    shop.keys.check(macaroon, preimage)
    with suppress(Void):  # of another service, or its time is over
        l402.rights_at_hosting(macaroon, now())
    order = Order.get_or_none(Order.payment_hash == macaroon.payment_hash.hex())
    if order is not None and order.paid_at is None:
        if not order_book.is_certain(order):
            raise NotSettled
        order = None
    return Payer(macaroon, order)


def _may_count_soon(order: Order) -> bool:
    if order.paid_at is None:
        return not order_book.is_certain(order)
    # Its hosting is about to open, or to open anew if it was gone when the payment came. A lost
    # order has no account either: the operator knows of it.
    return order.applied_at is None and (order.account_id is None or order.kind == OrderKind.OPEN)


def _of_order(order: Order) -> tuple[str | None, str]:
    """The account that an order's token is for, and where its rights come from; None: nobody's."""
    if order.paid_at is None:
        return None, ""
    if order.kind == OrderKind.OPEN or order.holder == RECEIPT:
        return order.account_id, RECEIPT
    if order.holder is None:
        return None, ""
    account_id, source = _of_handed_out(order.holder)
    return (account_id, source) if account_id == order.account_id else (None, "")


def _of_handed_out(token_id: str) -> tuple[str | None, str]:
    token = Token.get_or_none(Token.id == token_id)
    if token is None or (token.valid_until is not None and now() >= token.valid_until):
        return None, ""
    return token.account_id, token.id


def check(found: Holder) -> None:
    """Within a transaction: lock the account until its end.

    Raises l402.Void when the token was revoked since it was shown.
    """
    account = lock_account(found.account.id)
    # A write, so that revoking the token waits as well.
    given = Token.update(name=Token.name).where(Token.id == found.source)
    is_there = found.source == RECEIPT or given.execute() == 1
    if account is None or account.receipt_epoch != found.account.receipt_epoch or not is_there:
        raise Void("this token is revoked")


def last_hosting(shop: Shop, macaroon: Macaroon, preimage: bytes) -> tuple[str, int] | None:
    """The proof (see `orders.Wish`) that a token was the receipt of a hosting whose name rests.

    None: it was none. Raises l402.Invalid.
    """
    shop.keys.check(macaroon, preimage)
    if not l402.rights_at_hosting(macaroon, now()).are_whole:
        return None
    proof = macaroon.hosting_payment.hex(), l402.epoch(macaroon)
    its_own = (RestingName.payment_hash == proof[0]) & (RestingName.receipt_epoch == proof[1])
    rests = its_own & (RestingName.until > now())
    return proof if RestingName.select().where(rests).exists() else None


# -- making tokens ---------------------------------------------------------------------


def challenge(
    shop: Shop, order: Order, rights: Rights = l402.WHOLE, shown: Macaroon | None = None
) -> Macaroon:
    """The token of an unpaid order, the same each time; `rights`: those of whoever asks for it.

    It is worthless without the preimage, which only its payer gets. `shown`: the token of whoever
    asks. If that stands for other services too, so does this one.
    """
    of_others = shown and l402.services(shown) - {l402.SERVICE} and _again(shop, order, shown)
    return of_others or _of_payment(shop, order, order.receipt_epoch, rights)


def challenge_of_new(shop: Shop, order: Order, buyer: Payer | None) -> Macaroon:
    """The token of an unpaid order of a new hosting, with the other services of the buyer's own."""
    shown = buyer and buyer.macaroon
    if (
        shown
        and l402.services(shown) - {l402.SERVICE}
        and l402.is_as_minted(shown)
        and l402.epoch(shown) == order.receipt_epoch
    ):
        caveats = l402.caveats_with(shown, l402.SERVICE, l402.WHOLE, now())
        with suppress(l402.Invalid):  # it holds too much by now
            return shop.keys.mint(bytes.fromhex(order.payment_hash), shown.token_id, caveats)
    return challenge(shop, order)


def challenge_of_giver(shop: Shop, order: Order, giver: Payer | None) -> Macaroon:
    """The token of an unpaid order that gives no right over the hosting that it is for.

    It stands for what the giver's own token stands for, since many clients keep one for each host.
    """
    again = giver and _again(shop, order, giver.macaroon)
    return again or _of_payment(shop, order, order.receipt_epoch, l402.NOTHING)


def _again(shop: Shop, order: Order, shown: Macaroon) -> Macaroon | None:
    """The order's token, which stands for what the shown one does; None: it holds too much."""
    payment_hash = bytes.fromhex(order.payment_hash)
    try:
        return shop.keys.mint(payment_hash, shown.token_id, l402.caveats_again(shown))
    except l402.Invalid:
        return None


def receipt(shop: Shop, account: Account, epoch: int | None = None) -> str | None:
    """The account's receipt, as text: the token and its preimage.

    `epoch`: of a receipt that may be the next; None: the present one. Returns None when the node no
    longer knows the payment. Raises NodeError.
    """
    epoch = account.receipt_epoch if epoch is None else epoch
    order = opening_order(account)
    if order and order.node_id == order_book.BY_VOUCHER:
        preimage = vouchers.preimage_of(shop, order)
    else:
        preimage = order and shop.node.find_preimage(order_book.label(shop, order))
    if not preimage:
        return None
    return f"{_of_payment(shop, order, epoch, l402.WHOLE)}:{preimage}"


def opening_order(account: Account) -> Order | None:
    """The order that opened the account."""
    opening = (Order.account == account.id) & (Order.kind == OrderKind.OPEN)
    return Order.select().where(opening).first()


def _of_payment(shop: Shop, order: Order, epoch: int, rights: Rights) -> Macaroon:
    token_id = shop.keys.token_id(epoch, order.token.encode())
    caveats = l402.caveats(l402.SERVICE, rights)
    return shop.keys.mint(bytes.fromhex(order.payment_hash), token_id, caveats)


def hand_out(
    shop: Shop,
    account_id: str,
    name: str,
    rights: Rights,
    check_still: Callable[[], None] = lambda: None,
) -> Token:
    """A token with these rights that can be revoked alone; the same again returns the same token.

    `check_still`: called once the account is locked, to raise whatever forbids it. Raises
    TooManyTokens, TokenNameTaken, and l402.Void when the hosting is being closed.
    """
    capabilities = ",".join(l402.in_order(rights.capabilities))
    with transaction():
        account = lock_account(account_id)
        if account is None or account.closing_at:
            raise Void("this hosting is being closed")
        check_still()
        twin = Token.get_or_none((Token.account == account_id) & (Token.name == name))
        if twin and (twin.capabilities, twin.valid_until) == (capabilities, rights.valid_until):
            return twin
        if twin:
            raise TokenNameTaken
        if Token.select().where(Token.account == account_id).count() >= TOKENS_MAX:
            raise TooManyTokens
        return Token.create(
            id=shop.keys.token_id(account.receipt_epoch).hex(),
            account=account_id,
            name=name,
            capabilities=capabilities,
            valid_until=rights.valid_until,
            made_at=now(),
        )


def handed_out(account_id: str) -> list[Token]:
    """The account's handed-out tokens, the newest first."""
    own = Token.select().where(Token.account == account_id)
    return list(own.order_by(Token.made_at.desc(), Token.id))


def text_of(shop: Shop, token: Token) -> str:
    """A handed-out token as it is used: with a preimage of its own, which belongs to no payment.

    So its holder cannot turn a challenge seen elsewhere into a receipt. Raises l402.Void when the
    key that it was made with is gone.
    """
    token_id = bytes.fromhex(token.id)
    preimage = shop.keys.secret(token_id)
    caveats = l402.caveats(l402.SERVICE, rights_of(token))
    macaroon = shop.keys.mint(hashlib.sha256(preimage).digest(), token_id, caveats)
    return f"{macaroon}:{preimage.hex()}"


def rights_of(token: Token) -> Rights:
    return Rights(frozenset(token.capabilities.split(",")), token.valid_until)


def revoke(account_id: str, token_id: str) -> bool:
    """Revoke one token, and those of orders placed with it. False: there is no such token."""
    own = Token.delete().where((Token.account == account_id) & (Token.id == token_id))
    return own.execute() == 1


def renew(account_id: str, epoch: int | None = None) -> None:
    """Within a transaction: void every receipt and token of the account, and unlink its wallets.

    `epoch`: of the next receipt; None: a new one.
    """
    epoch = l402.new_epoch() if epoch is None else epoch
    Account.update(receipt_epoch=epoch, recovery_asked_at=None).where(
        Account.id == account_id
    ).execute()
    Token.delete().where(Token.account == account_id).execute()
    Wallet.delete().where(Wallet.account == account_id).execute()
