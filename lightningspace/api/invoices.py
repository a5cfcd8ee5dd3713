"""What must be paid before it is done: 402 with an invoice, for the routes that sell."""

from collections.abc import Callable

from flask import Response, g, url_for

from lightningspace.api import answers, resources
from lightningspace.api.answers import ApiError
from lightningspace.api.bodies import WRONG, BadBody
from lightningspace.api.holders import account_now, check_able, wait_for
from lightningspace.api.routes import idempotency_key
from lightningspace.base.clock import iso_time
from lightningspace.base.models import Order
from lightningspace.base.prices import Size
from lightningspace.outside.l402 import Macaroon
from lightningspace.rules import order_book, orders, tokens, wanted
from lightningspace.rules.order_book import OrderState
from lightningspace.rules.tokens import Holder
from lightningspace.shop import this_shop
from lightningspace.visitors import authorization

PRICE_OF_SIZE = "What the new size costs more until the end of the paid time; at least 0."


def placed(place: Callable):
    """The order that `place` returns. Raises its refusals, and BadBody for a reserved name."""
    g.asked_node = True
    try:
        return place()
    except orders.NameReserved as reserved:
        raise BadBody(WRONG, {reserved.field: [reserved.text]}) from None


def payment_required(order: Order, sale: dict, found: Holder) -> Response:
    """402 with the order's invoice, and its token narrowed to the rights of whoever asks.

    Raises ApiError when the order cannot be paid.
    """
    asker = found.rights, found.macaroon
    return challenged(order, sale, lambda: tokens.challenge(this_shop(), order, *asker))


def challenged(order: Order, sale: dict, mint: Callable[[], Macaroon]) -> Response:
    """402 with the order's invoice and its token. Raises ApiError when it cannot be paid."""
    state = order_book.state(order)
    if state in (OrderState.PREPARING, OrderState.CHECKING):
        detail = "This is being checked for a last-second payment. Send the same again soon."
        raise ApiError(503, "checking", detail, retry_after=5)
    if state != OrderState.UNPAID:
        detail = "This was ordered with this key before, and paid: send its credential as well."
        raise ApiError(409, "ordered", detail)
    macaroon = str(mint())
    response = answers.problem(
        402,
        "payment_required",
        "Pay the invoice, then send the same request again with the header "
        "Authorization: L402 <macaroon>:<preimage>.",
        price_msat=order.amount_msat,
        expires_at=iso_time(order.expires_at),
        invoice=order.bolt11,
        macaroon=macaroon,
        order=order.token,
        order_url=this_shop().config.public_url + url_for("orders.order", token=order.token),
        sale=sale,
    )
    for value in authorization.challenge(macaroon, order.bolt11):
        response.headers.add("WWW-Authenticate", value)
    return response


def new_buyer(found: Holder) -> orders.Buyer:
    """The same request makes the same order: with an Idempotency-Key for ever, without one until it
    is paid.
    """
    key, epoch = idempotency_key(), found.account.receipt_epoch
    if key:
        # Under a newer receipt it is another key: the older order's token would be void.
        return orders.Buyer(None, f"key {found.source} {epoch} {key}", found.source, epoch)
    paid = order_book.times_paid(found.account.id)
    return orders.Buyer(None, f"{found.mark} after {paid}", found.source, epoch)


# -- another size, one more of something -----------------------------------------------


def sell_size(found: Holder, size: Size) -> Response | None:
    """402 for another size; None: nothing is to be paid, and the account has it now."""
    order = placed(lambda: orders.resize(this_shop(), found.account.id, size, new_buyer(found)))
    if order is None:
        return None
    if order.paid_at is not None:
        if not wait_for(lambda: is_applied(order.token)):
            raise _takes_effect()
        return None
    return payment_required(order, {"size": resources.size(size)}, found)


def sell_one_more(found: Holder, what: str) -> Response | None:
    """402 for one more of an extra; None: the account has it now."""
    return sell_size(found, Size.of(account_now(found)).with_one_more(what))


def wait_for_own_order(found: Holder) -> None:
    """Wait until what the credential paid for has taken effect. Raises ApiError (503)."""
    own = found.order
    if own and own.applied_at is None and not wait_for(lambda: is_applied(own.token)):
        raise _takes_effect()


def is_applied(token: str) -> bool:
    applied = (Order.token == token) & Order.applied_at.is_null(False)
    return Order.select().where(applied).exists()


def _takes_effect() -> ApiError:
    detail = "This is paid, and takes effect in a moment. Send the same again soon."
    return ApiError(503, "takes_effect", detail, retry_after=2)


def added(found: Holder, what: str, add: Callable[[], object]) -> Response | None:
    """Add one more of "addresses" or "domains": 402 if it must be paid first, else None."""
    try:
        add()
    except wanted.NoneLeft:
        check_able(found, "pay")
        answer = sell_one_more(found, what)
        if answer is not None:
            return answer
        add()
    return None
