"""Vouchers: codes that pay an order instead of Lightning, each once.

A voucher is good for one order of a new hosting, or of more time, that asks for no more than its
space and its time, and for nothing extra. What the order leaves of it is lost.
"""

import hashlib
import logging
import secrets

from lightningspace.base.clock import now
from lightningspace.base.models import Order, transaction
from lightningspace.base.money_models import Voucher
from lightningspace.base.prices import EXTRAS, Terms
from lightningspace.base.refusals import Refusal
from lightningspace.rules import invoices, order_book, restored
from lightningspace.rules.order_book import OrderKind, OrderState
from lightningspace.shop import Shop

logger = logging.getLogger(__name__)

# Without those that look alike. Sixteen of them are 79 bits: nobody guesses one.
LETTERS = "23456789abcdefghjkmnpqrstuvwxyz"
LENGTH, GROUP = 16, 4
PAYABLE = (OrderKind.OPEN, OrderKind.EXTEND)


class VoucherRefused(Refusal):
    """A voucher does not pay this order."""

    status, code, field = 400, "bad_request", "code"
    text = "This order cannot be paid by a voucher."


class UnknownVoucher(VoucherRefused):
    """No voucher has this code. One that was used is unknown too: it may be somebody else's."""

    text = "There is no such voucher, or it was used already."


class VoucherTooSmall(VoucherRefused):
    """The order asks for more than the voucher is good for."""

    text = (
        "This voucher is for up to {space_mb} MB and {time}, without extra mailboxes, forwards or "
        "domains. Place an order for no more than that."
    )

    def __init__(self, terms: Terms):
        super().__init__(self.text.format(space_mb=terms.space_mb, time=terms.time_in_words))


class OrderOver(VoucherRefused):
    """The order cannot be paid any more."""

    text = "This order is over. The voucher is still good: order again."


def make(space_mb: int, days: int) -> str:
    """Make a voucher and return its code, which is kept as a hash alone."""
    code = "".join(secrets.choice(LETTERS) for _ in range(LENGTH))
    Voucher.create(code_hash=_hash(code), space_mb=space_mb, days=days, made_at=now())
    return "-".join(code[at : at + GROUP] for at in range(0, LENGTH, GROUP))


def unused() -> list[Voucher]:
    """The vouchers that can still be used, the oldest first."""
    return list(_unused().order_by(Voucher.made_at))


def terms(voucher: Voucher) -> Terms:
    """The largest that the voucher pays for."""
    return Terms(voucher.space_mb, voucher.days, "days")


def may_pay(order: Order) -> bool:
    """Whether any unused voucher could pay an order of this kind."""
    return order.kind in PAYABLE and _unused().exists()


def withdraw(code: str) -> bool:
    """Make an unused voucher void; False: none has this code."""
    one = (Voucher.code_hash == _hash(code)) & Voucher.used_at.is_null()
    return Voucher.delete().where(one).execute() == 1


def pay(shop: Shop, order: Order, code: str) -> None:
    """Pay an unpaid order by a voucher: its invoice is withdrawn, then it takes effect as if it had
    been paid over Lightning. If that has happened meanwhile, the voucher stays unused.

    If this is killed in between, the invoice is gone and the voucher unused: the customer orders
    again. Raises VoucherRefused, invoices.NotCancelled and NotCertain, and restored.Restoring,
    because a restored copy may not know that the voucher was used.
    """
    restored.check_sells()
    voucher = _find(code)
    if order_book.state(order) != OrderState.UNPAID or order.kind not in PAYABLE:
        raise VoucherRefused
    most, seconds = terms(voucher), order_book.terms_of(order).seconds
    # Extras turn into time when they are given back: with them a voucher would be worth any amount.
    has_extras = any(getattr(order, extra.column) for extra in EXTRAS)
    if has_extras or order.space_mb > most.space_mb or seconds > most.seconds:
        raise VoucherTooSmall(most)
    if not invoices.withdraw_for_good(shop, order):
        return
    with transaction():
        still = (Voucher.code_hash == voucher.code_hash) & Voucher.used_at.is_null()
        if not Voucher.update(used_at=now()).where(still).execute():
            raise UnknownVoucher
        if not _pay(shop, order):
            raise OrderOver
    logger.info("order %s: paid by a voucher", order.token[:8])


def _pay(shop: Shop, order: Order) -> int:
    preimage = _preimages(shop, order.token)[0]
    unpaid = (Order.token == order.token) & Order.paid_at.is_null() & Order.released_at.is_null()
    paid = Order.update(
        paid_at=now(),
        node_id=order_book.BY_VOUCHER,
        pay_index=0,
        received_msat=order.amount_msat,
        # The hash of a secret that we know, so that the order has a receipt like any other.
        payment_hash=hashlib.sha256(preimage).hexdigest(),
        invoice_hash=None,
    )
    return paid.where(unpaid).execute()


def preimage_of(shop: Shop, order: Order) -> str | None:
    """The preimage of an order that a voucher has paid; None: its key is gone."""
    for preimage in _preimages(shop, order.token):
        if hashlib.sha256(preimage).hexdigest() == order.payment_hash:
            return preimage.hex()
    return None


def _preimages(shop: Shop, token: str) -> list[bytes]:
    """By the current key, then by the older ones."""
    macs = shop.vault.macs("voucher preimage", token)
    return [hashlib.sha256(mac.encode()).digest() for mac in macs]


def _find(code: str) -> Voucher:
    voucher = Voucher.get_or_none(Voucher.code_hash == _hash(code))
    if voucher is None or voucher.used_at is not None:
        raise UnknownVoucher
    return voucher


def _unused():
    return Voucher.select().where(Voucher.used_at.is_null())


def _hash(code: str) -> str:
    letters = "".join(filter(str.isalnum, code.lower()))
    return hashlib.sha256(letters.encode(errors="replace")).hexdigest()
