"""An order's invoice at the node: asked for, withdrawn, released."""

import logging

from lightningspace.base.clock import now
from lightningspace.base.models import Account, Order, transaction
from lightningspace.base.refusals import Refusal
from lightningspace.outside.node import Invoice, NodeError
from lightningspace.rules import node_problems, order_book
from lightningspace.rules.order_book import OrderKind
from lightningspace.shop import Shop

logger = logging.getLogger(__name__)


class NotCertain(Refusal):
    """It is not known yet whether something is being paid; in a minute it is."""

    status, code, retry_after = 503, "checking", 10
    text = (
        "Somebody may be paying for this hosting right now. Nothing was closed: please try again "
        "in a minute."
    )


class NotCancelled(NodeError):
    """The node has not said that it cancelled an order's invoice."""

    text = f"{NodeError.text} We cancel this as soon as it does."


def ask_for_invoice(shop: Shop, order: Order, metadata: str | None) -> None:
    """Get an order's one invoice from the node. Raises NodeError.

    `metadata`: the text whose hash the invoice carries instead of our description (LUD-06).
    """
    invoice = shop.node.create_invoice(
        order_book.label(shop, order),
        order.amount_msat,
        metadata or order_book.describe(order),
        shop.config.invoice_minutes * 60,
        only_hash=metadata is not None,
    )
    if not _keep_invoice(order, invoice):
        raise NodeError("the order was given up before its invoice came")
    logger.info("order %s: placed, %d msat", order.token[:8], order.amount_msat)


def _keep_invoice(order: Order, invoice: Invoice) -> bool:
    with transaction():
        node_problems.note_warnings(order.amount_msat, invoice.warnings)
        kept = (
            Order.update(
                bolt11=invoice.bolt11,
                payment_hash=invoice.payment_hash,
                invoice_hash=order_book.hash_of(invoice.bolt11),
                expires_at=invoice.expires_at,
            )
            .where(
                (Order.token == order.token)
                & Order.cancelled_at.is_null()
                & (Order.bolt11.is_null() | (Order.bolt11 == invoice.bolt11))
            )
            .execute()
        )
    return kept == 1


def give_up(token: str) -> bool:
    """Free an order's name at once, if nobody has seen an invoice of it."""
    with transaction():
        given_up = (
            Order.update(cancelled_at=now(), held_name=None)
            .where(
                (Order.token == token)
                & Order.bolt11.is_null()
                & Order.paid_at.is_null()
                & Order.cancelled_at.is_null()
            )
            .execute()
        )
        if given_up:
            _free(token)
    return given_up == 1


# -- releasing -----------------------------------------------------------------------


def cancel(shop: Shop, order: Order) -> bool:
    """Cancel an unpaid order; False: the node says that it is paid, and it stands.

    Raises NotCancelled and NotCertain.
    """
    return withdraw_for_good(shop, order, cancelled_at=now()) and release(order.token)


def withdraw_for_good(shop: Shop, order: Order, **facts) -> bool:
    """Like `withdraw`; False: the node says that it is paid.

    Raises NotCancelled, and NotCertain when the node does not know the invoice: `payments.tidy`
    will find out whether it was paid, and end it if not.
    """
    try:
        is_deleted = withdraw(shop, order, **facts)
    except NodeError as error:
        logger.warning("order %s: not withdrawn yet: %s", order.token[:8], error)
        raise NotCancelled(error) from error
    if is_deleted is None and order.payment_hash and not Order.get_by_id(order.token).released_at:
        raise NotCertain
    return is_deleted is not False


def withdraw(shop: Shop, order: Order, **facts) -> bool | None:
    """Have the node delete an unpaid order's invoice; return what `Node.delete_unpaid_invoice`
    returns. Raises NodeError.

    The wish is noted first, with `facts`: a node that does not answer may act on it later. It is
    taken back when the invoice was paid, or when the node did not know it at the first request.
    """
    unpaid_one = (Order.token == order.token) & Order.paid_at.is_null()
    unpaid_one &= Order.released_at.is_null()
    told = Order.update(withdrawn_at=now(), **facts)
    is_first = told.where(unpaid_one & Order.withdrawn_at.is_null()).execute()
    is_deleted = shop.node.delete_unpaid_invoice(order_book.label(shop, order))
    if is_deleted is False:
        stands = unpaid_one & Order.bolt11.is_null(False)
        Order.update(withdrawn_at=None, cancelled_at=None).where(stands).execute()
    if is_deleted is None and is_first:
        Order.update(withdrawn_at=None).where(unpaid_one).execute()
    return is_deleted


def release(token: str, missing_at: int | None = None) -> bool:
    """Free an order's name: the node has no invoice of it that could be paid.

    `missing_at`: since when the node has none, if nobody can say whether it was paid before.
    """
    with transaction():
        released = (
            Order.update(released_at=now(), attempt=None, bolt11=None, missing_at=missing_at)
            .where((Order.token == token) & Order.paid_at.is_null() & Order.released_at.is_null())
            .execute()
        )
        if released:
            _free(token)
    if released:
        logger.info("order %s: released", token[:8])
    return released == 1


def _free(token: str) -> None:
    """Within a transaction: give an unpaid order's name back to the shop."""
    order = Order.get_by_id(token)
    Order.update(attempt=None).where(Order.token == token).execute()
    if order.kind == OrderKind.OPEN and order.account_id is not None:
        Order.update(account=None).where(Order.token == token).execute()
        Account.delete().where(Account.id == order.account_id).execute()
