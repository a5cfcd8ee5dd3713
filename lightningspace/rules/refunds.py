"""Refunds: what is paid back of an order, who may claim it, and what the operator decides.

A payment that no order waits for, and a tip that came too late, may be claimed by whoever paid it.
For any other order the operator has to offer a refund. The worker pays: see `payouts`.
"""

import hashlib
import hmac
import logging
import re
import secrets
from dataclasses import dataclass
from enum import StrEnum

from peewee import Case, IntegrityError, fn

from lightningspace.base.clock import now
from lightningspace.base.models import Account, Order, RestingName, transaction
from lightningspace.base.money_models import Refund
from lightningspace.base.prices import DAY
from lightningspace.base.refusals import Refusal
from lightningspace.outside import l402, lnurl
from lightningspace.outside.l402 import Macaroon
from lightningspace.outside.paying import FAILED, Asked
from lightningspace.rules import accounts, ledger, order_book, recovery, restored, tokens
from lightningspace.rules.order_book import OrderKind
from lightningspace.shop import Shop

logger = logging.getLogger(__name__)

# An invoice must be good for at least this long: paying it takes a while.
LEFT_SECONDS = 2 * 60
OFFER = re.compile("lno1[02-9ac-hj-np-z]+")
BOLT12_INVOICE = re.compile("lni1[02-9ac-hj-np-z]+")


class State(StrEnum):
    """OPEN: nobody has claimed it. CLAIMED: it waits for the operator's approval. DUE: the worker
    is about to pay it. FAILED: it could not be paid, and nothing is under way; its payer may leave
    another destination.
    """

    OPEN = "open"
    CLAIMED = "claimed"
    DUE = "due"
    PAYING = "paying"
    FAILED = "failed"
    PAID = "paid"
    REFUSED = "refused"


class Problem(StrEnum):
    """Why a refund was not paid. UNKNOWN: the node knows nothing of a payment that it may have been
    told to make, so only the operator can say whether to pay again.
    """

    UNREADABLE = "unreadable"
    AMOUNT = "amount"
    EXPIRED = "expired"
    OURS = "ours"
    USED = "used"
    UNREACHABLE = "unreachable"
    FAILED = "failed"
    UNKNOWN = "unknown"


IN_WORDS = {
    Problem.UNREADABLE: "This is no Lightning Address, BOLT 12 offer or invoice that we can pay.",
    Problem.AMOUNT: "It must be for exactly the amount of the refund.",
    Problem.EXPIRED: "This invoice has expired, or is about to.",
    Problem.OURS: "This is an invoice of our own node.",
    Problem.USED: "This invoice was used before.",
    Problem.UNREACHABLE: "Nobody gave us an invoice of this amount there.",
    Problem.FAILED: "Our Lightning node found no way to pay it.",
    Problem.UNKNOWN: "Our Lightning node cannot say what became of the payment.",
}


# These may pass: an address or an offer is tried again each hour, until this long after the claim.
PASSING = (Problem.UNREACHABLE, Problem.FAILED)
AGAIN_SECONDS = 7 * DAY


class NotClaimed(Refusal):
    """What was left as a destination cannot be paid."""

    status, code, field = 400, "bad_request", "destination"


class TooLate(Refusal):
    """Somebody else has claimed the refund, or it is being paid, or over."""

    text = "This refund has changed meanwhile. Look at it again."


class NotProved(Exception):
    """What was shown proves no payment to this shop."""


class CannotOffer(Exception):
    """The text is for the operator."""


@dataclass(frozen=True)
class Claimable:
    """What may be paid back of an order. `refund` None: nobody has claimed or offered it yet."""

    order: Order
    msat: int
    refund: Refund | None


# -- one refund ------------------------------------------------------------------------


def state(refund: Refund) -> State:
    if refund.refused_at is not None:
        return State.REFUSED
    if refund.paid_at is not None:
        return State.PAID
    if refund.sent_at is not None:
        return State.PAYING
    if refund.destination is None:
        return State.OPEN
    if refund.approved_at is None:
        return State.CLAIMED
    return State.DUE if refund.problem is None else State.FAILED


def is_tried_again(refund: Refund) -> bool:
    """Whether it has failed, and will be tried again without anybody doing anything."""
    if state(refund) != State.FAILED or refund.problem not in PASSING:
        return False
    gives_invoices = lnurl.is_address(refund.destination) or OFFER.fullmatch(refund.destination)
    return bool(gives_invoices) and now() < refund.claimed_at + AGAIN_SECONDS


def latest(order: Order) -> Refund | None:
    """The order's refund that counts: its open one, or else the last."""
    return latest_of([order]).get(order.token)


def latest_of(orders: list[Order]) -> dict[str, Refund]:
    """The refunds that count, by the orders' tokens."""
    tokens_paid = [order.token for order in orders if order.paid_at is not None]
    if not tokens_paid:
        return {}
    is_open = Case(None, [(Refund.paid_at.is_null() & Refund.refused_at.is_null(), 1)], 0)
    found = Refund.select().where(Refund.order << tokens_paid)
    return {each.order_token: each for each in found.order_by(is_open, Refund.made_at, Refund.id)}


def claimable(order: Order) -> Claimable | None:
    """What the order's payer may claim, or has claimed; None: nothing."""
    refund = latest(order)
    if refund is not None:
        return Claimable(order, refund.msat, refund)
    return Claimable(order, order.received_msat, None) if _is_undelivered(order) else None


def _is_undelivered(order: Order) -> bool:
    is_late_tip = order.kind == OrderKind.TOP_UP and order.account_id is None
    is_lost = order.kind == OrderKind.LOST or is_late_tip
    return is_lost and order.paid_at is not None and order.applied_at is None


def left_msat(order: Order) -> int:
    """What was received for the order and neither offered nor paid back yet."""
    return _left_of(Order.token == order.token)


def _left_of(condition) -> int:
    """The same for all orders that meet the condition. A voucher has brought in nothing."""
    received = Order.select(fn.SUM(Order.received_msat))
    received = received.where(condition & (Order.node_id != order_book.BY_VOUCHER)).scalar()
    gone = Refund.select(fn.SUM(Refund.msat)).join(Order)
    gone = gone.where(condition & Refund.refused_at.is_null()).scalar()
    return int(received or 0) - int(gone or 0)


def _locked(order: Order) -> Order:
    """Within a transaction: lock the order against other offers and claims, and read it again."""
    Order.update(placed_at=Order.placed_at).where(Order.token == order.token).execute()
    return Order.get_by_id(order.token)


def _make(order: Order, msat: int, **facts) -> Refund:
    return Refund.create(id=secrets.token_hex(6), order=order, msat=msat, made_at=now(), **facts)


# -- who has paid ----------------------------------------------------------------------


def paid_with(shop: Shop, typed: str, preimage: bytes) -> Order:
    """The order that was paid by an invoice, shown by its text and preimage as wallets keep them.

    Nodes along the route know the payment hash and the preimage, but not the text. Raises
    NotProved, and NodeError where only our node knows the text.
    """
    order = Order.get_or_none(Order.payment_hash == hashlib.sha256(preimage).hexdigest())
    if order is None or order.paid_at is None:
        raise NotProved
    known = order.invoice_hash
    if order.kind == OrderKind.LOST:
        text = shop.node.find_text(order.payment_hash)
        known = order_book.hash_of(text) if text else None
    texts = {*recovery.invoices_in(typed), *BOLT12_INVOICE.findall("".join(typed.lower().split()))}
    shown = map(order_book.hash_of, texts)
    if known is None or not any(hmac.compare_digest(known, each) for each in shown):
        raise NotProved
    return order


def paid_for(shop: Shop, macaroon: Macaroon, preimage: bytes) -> Order:
    """The order whose payment this access key, or other credential, came with.

    One that was narrowed, or was replaced by a newer one, proves nothing. Raises NotProved.
    """
    try:
        order = tokens.payer(shop, macaroon, preimage).order
    except (l402.Invalid, tokens.NotSettled) as error:
        raise NotProved from error
    if order is None or not l402.is_as_minted(macaroon):
        raise NotProved
    newest = order.account or RestingName.get_or_none(
        RestingName.payment_hash == order.payment_hash
    )
    if newest and newest.receipt_epoch != l402.epoch(macaroon):
        raise NotProved
    return order


# -- claiming --------------------------------------------------------------------------


def claim(shop: Shop, order: Order, typed: str) -> Refund:
    """Note where to pay an order's refund, or another destination while nothing is under way.

    The caller has checked that the order's payer asks. Raises NotClaimed, TooLate, NodeError, and
    restored.Restoring while the lost payment's order may still be found.
    """
    restored.check_sells()
    found = claimable(order)
    if found is None:
        raise TooLate
    destination = _destination(shop, typed, found.msat)
    facts = {"destination": destination, "claimed_at": now()}
    if found.refund is None:
        return _claim_first(shop, order, facts)
    # UNKNOWN stays: another destination does not say whether the first payment was made.
    problem = Case(None, [(Refund.problem == Problem.UNKNOWN, Refund.problem)], None)
    may_change = Refund.approved_at.is_null() | Refund.destination.is_null()
    may_change |= Refund.problem.is_null(False)
    changed = Refund.update(facts, problem=problem).where(is_idle(found.refund.id) & may_change)
    if not changed.execute():
        raise TooLate
    logger.info("refund %s: claimed", found.refund.id)
    return Refund.get_by_id(found.refund.id)


def _claim_first(shop: Shop, order: Order, facts: dict) -> Refund:
    with transaction():
        last = _locked(order)
        found = claimable(last)
        if found is None or found.refund is not None:
            raise TooLate
        is_small = found.msat <= shop.config.refund_auto_msat
        refund = _make(last, found.msat, approved_at=now() if is_small else None, **facts)
    logger.info("refund %s: %d msat of order %s claimed", refund.id, refund.msat, order.token[:8])
    return refund


def is_idle(refund_id: str):
    """The condition that nothing of a refund is under way, and that it is not over."""
    is_open = Refund.paid_at.is_null() & Refund.refused_at.is_null()
    return (Refund.id == refund_id) & is_open & Refund.sent_at.is_null()


def _destination(shop: Shop, typed: str, msat: int) -> str:
    """A Lightning Address, an offer or an invoice that can be paid. Raises NotClaimed, NodeError.

    A Lightning Address is not looked up before it is to be paid.
    """
    if "@" in typed:
        try:
            return lnurl.as_address(typed)
        except ValueError:
            raise NotClaimed(IN_WORDS[Problem.UNREADABLE]) from None
    text = "".join(typed.lower().split())
    offer = OFFER.search(text)
    text = offer[0] if offer else next(iter(recovery.invoices_in(text)), "")
    asked = shop.node.read(text) if text else None
    problem = Problem.UNREADABLE if asked is None else fault(shop, asked, msat)
    if problem:
        raise NotClaimed(IN_WORDS[problem])
    return text


def fault(shop: Shop, asked: Asked, msat: int) -> Problem | None:
    """Why this cannot be paid as a refund of `msat`; None: it can. Raises NodeError."""
    is_offer = asked.offer_id is not None
    if asked.payee == shop.node.node_id() or (is_offer and shop.node.find_offer(asked.offer_id)):
        return Problem.OURS
    if asked.prefix is not None and asked.prefix != shop.node.invoices_begin_with():
        return Problem.UNREADABLE
    if asked.msat != msat and not (is_offer and asked.msat is None):
        return Problem.AMOUNT
    if is_offer:
        return None
    if asked.expires_at < now() + LEFT_SECONDS:
        return Problem.EXPIRED
    sent = shop.node.sent(asked.payment_hash)
    is_sent = sent is not None and sent.status != FAILED
    is_known = Refund.get_or_none(Refund.payment_hash == asked.payment_hash)
    return Problem.USED if is_sent or is_known else None


# -- for the operator ------------------------------------------------------------------


def waiting() -> list[Refund]:
    """The refunds that are not over, the oldest first."""
    is_open = Refund.paid_at.is_null() & Refund.refused_at.is_null()
    return list(Refund.select().where(is_open).order_by(Refund.made_at, Refund.id))


def paid_back(since: int, until: int) -> list[Refund]:
    """The refunds that were paid from `since` to before `until`, in that order. `msat` arrived;
    `fee_msat` was paid on top.
    """
    between = (Refund.paid_at >= since) & (Refund.paid_at < until)
    return list(Refund.select().where(between).order_by(Refund.paid_at, Refund.id))


def offer(named: str, msat: int | None = None) -> Refund:
    """Offer an order's payer `msat` back; None: all that is left of the payment.

    `named`: the payment hash or the order's token. An offer is approved already: it is paid as
    soon as it is claimed. Raises CannotOffer.
    """
    order = Order.get_or_none((Order.payment_hash == named) | (Order.token == named))
    if order is None or order.paid_at is None:
        raise CannotOffer("no payment has this hash, and no paid order this token")
    with transaction():
        order = _locked(order)
        most = max(0, left_msat(order))
        msat = most if msat is None else msat
        if msat < 1 or msat > most:
            raise CannotOffer(f"{most} msat are left of this payment")
        return _offer(order, msat)


def _offer(order: Order, msat: int) -> Refund:
    """Within a transaction."""
    try:
        with transaction():
            refund = _make(order, msat, approved_at=now())
    except IntegrityError:
        raise CannotOffer("a refund of this payment waits already: see `refunds`") from None
    logger.info("refund %s: %d msat of order %s offered", refund.id, msat, order.token[:8])
    return refund


def close_account(shop: Shop, account: Account) -> Refund:
    """Close a blocked account for good, and offer its payer what is left of the paid time.

    Raises CannotOffer where nothing is left or nothing was closed, restored.Restoring, and what
    `accounts.close_account` raises.
    """
    restored.check_sells()
    if account.blocked_at is None:
        raise CannotOffer("block it first, with a reason that its owner reads")
    made: list[Refund] = []
    if not accounts.close_account(shop, account, lambda last: made.append(_offer_rest(last))):
        raise CannotOffer("a payment came meanwhile: nothing was closed")
    if not made:
        raise CannotOffer("it is being closed already")
    return made[0]


def _offer_rest(account: Account) -> Refund:
    """Within the transaction that closes it."""
    opening = tokens.opening_order(account)
    if opening is None:
        raise CannotOffer("the payment that opened it is not known")
    order = _locked(opening)
    msat = min(_worth_in_money(account), _left_of(Order.account == account.id))
    if msat < 1:
        raise CannotOffer("nothing is left of its paid time")
    if not account.wallet_recovers:  # by its owner's choice, a wallet's history proves nothing
        Order.update(invoice_hash=None).where(Order.token == order.token).execute()
    return _offer(order, msat)


def _worth_in_money(account: Account) -> int:
    """The worth of the time left, without what vouchers paid. What was bought last is used last."""
    worth = left = ledger.holding(account).worth_msat
    in_effect = (Order.account == account.id) & Order.applied_at.is_null(False)
    paid = Order.select(Order.received_msat, Order.node_id).where(in_effect)
    for order in paid.order_by(Order.applied_at.desc(), Order.paid_at.desc()).iterator():
        part = min(left, order.received_msat)
        left -= part
        worth -= part if order.node_id == order_book.BY_VOUCHER else 0
    return worth


def approve(refund_id: str) -> bool:
    """Have it paid, or tried again. False: there is no such refund, it is under way, or over."""
    yes = {"approved_at": fn.COALESCE(Refund.approved_at, now()), "problem": None}
    approved = Refund.update(yes).where(is_idle(refund_id)).execute() == 1
    if approved:
        logger.info("refund %s: approved", refund_id)
    return approved


def refuse(refund_id: str, reason: str) -> bool:
    """Refuse it; whoever claimed it reads the reason. False: as in `approve`."""
    no = {"refused_at": now(), "reason": reason, "destination": None}
    refused = Refund.update(no).where(is_idle(refund_id)).execute() == 1
    if refused:
        logger.info("refund %s: refused", refund_id)
    return refused
