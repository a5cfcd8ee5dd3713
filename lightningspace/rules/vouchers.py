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
from lightningspace.base.prices import DAY, EXTRAS
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
    """A voucher does not pay this order; the text says why."""

    status, code, field = 400, "bad_request", "code"


def make(space_mb: int, days: int) -> str:
    """Make one, and return its code, which is kept nowhere."""
    code = "".join(secrets.choice(LETTERS) for _ in range(LENGTH))
    Voucher.create(code_hash=_hash(code), space_mb=space_mb, days=days, made_at=now())
    return "-".join(code[at : at + GROUP] for at in range(0, LENGTH, GROUP))


def unused() -> list[Voucher]:
    """Those that can still be used, the oldest first."""
    return list(_unused().order_by(Voucher.made_at))


def may_pay(order: Order) -> bool:
    """Whether there is any voucher that could pay an order of this kind."""
    return order.kind in PAYABLE and _unused().exists()


def withdraw(code: str) -> bool:
    """Make an unused one void; False: there is none of this code."""
    one = (Voucher.code_hash == _hash(code)) & Voucher.used_at.is_null()
    return Voucher.delete().where(one).execute() == 1


def pay(shop: Shop, order: Order, code: str) -> None:
    """Let a voucher pay an unpaid order, whose invoice is withdrawn first; it takes effect as if
    Lightning had paid it. Of an order that is paid meanwhile the voucher stays as it was.

    Killed in between, the invoice is gone and the voucher unused: the order is placed again.
    Raises VoucherRefused, invoices.NotCancelled and NotCertain, and restored.Restoring: a copy may
    not know that it was used.
    """
    restored.check_sells()
    voucher = _find(code)
    if order_book.state(order) != OrderState.UNPAID or order.kind not in PAYABLE:
        raise VoucherRefused("This order cannot be paid by a voucher.")
    terms = order_book.terms_of(order)
    # Extras become time once they are given back: they would make it worth any amount.
    has_extras = any(getattr(order, extra.column) for extra in EXTRAS)
    if has_extras or order.space_mb > voucher.space_mb or terms.seconds > voucher.days * DAY:
        raise VoucherRefused(
            f"This voucher is for up to {voucher.space_mb} MB and {voucher.days} days, without "
            "extra mailboxes, forwards or domains. Place an order for no more than that."
        )
    if not invoices.withdraw_for_good(shop, order):
        return
    with transaction():
        still = (Voucher.code_hash == voucher.code_hash) & Voucher.used_at.is_null()
        if not Voucher.update(used_at=now()).where(still).execute():
            raise _unknown()
        if not _pay(shop, order):
            raise VoucherRefused("This order is over. The voucher is still good: order again.")
    logger.info("order %s: paid by a voucher", order.token[:8])


def _pay(shop: Shop, order: Order) -> int:
    preimage = _preimages(shop, order.token)[0]
    unpaid = (Order.token == order.token) & Order.paid_at.is_null() & Order.released_at.is_null()
    paid = Order.update(
        paid_at=now(),
        node_id=order_book.BY_VOUCHER,
        pay_index=0,
        received_msat=order.amount_msat,
        # Of a secret of ours: the order's token is a receipt like any other.
        payment_hash=hashlib.sha256(preimage).hexdigest(),
        invoice_hash=None,
    )
    return paid.where(unpaid).execute()


def preimage_of(shop: Shop, order: Order) -> str | None:
    """The secret behind the receipt of an order that a voucher has paid; None: a key is gone."""
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
        raise _unknown()
    return voucher


def _unknown() -> VoucherRefused:
    # The same for both: a code that was used may be somebody else's.
    return VoucherRefused("There is no such voucher, or it was used already.")


def _unused():
    return Voucher.select().where(Voucher.used_at.is_null())


def _hash(code: str) -> str:
    letters = "".join(filter(str.isalnum, code.lower()))
    return hashlib.sha256(letters.encode(errors="replace")).hexdigest()
