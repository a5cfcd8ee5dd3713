"""The API's routes for orders: those that can be paid, what was paid, and cancelling one."""

from flask import request

from lightningspace.api import codes, resources, routes
from lightningspace.api.answers import ApiError, success
from lightningspace.api.bodies import TEXT
from lightningspace.api.holders import changes, holder
from lightningspace.api.routes import described
from lightningspace.base.models import Order
from lightningspace.rules import invoices, order_book, standing, wanted
from lightningspace.rules.order_book import OrderState
from lightningspace.rules.tokens import Holder
from lightningspace.shop import this_shop

blueprint = routes.part("payments")


@blueprint.get("/hosting/orders", endpoint="orders")
@described(
    "Orders that can be paid, and what was paid",
    {200: "Orders"},
    capability="read",
    query={"before": TEXT},
    codes=("unknown",),
    note="The latest payments first; `before` is the `next_before` of the previous answer.",
)
def order_list():
    """Orders that can be paid, and one page of payments: the latest first, after `before`."""
    found = holder()
    before = request.args.get("before")
    paid, next_before = order_book.listed(found.account.id, order_book.OWN_DOORS, before)
    return success(
        {
            "orders": resources.orders(this_shop(), order_book.unpaid(found.account.id)),
            "payments": resources.orders(this_shop(), paid),
            "next_before": next_before,
        }
    )


@blueprint.delete("/hosting/orders/<token>")
@described(
    "Cancel an order",
    {200: "Order"},
    capability="pay",
    codes=(*codes.ONE, "paid", "checking", "node_down"),
)
@changes
def cancel_order(token):
    """Cancel an order. One that is cancelled or expired already is answered as it is."""
    order = _order(holder(), token)
    if standing.stage(order) in standing.CAN_BE_CANCELLED:
        try:
            invoices.cancel(this_shop(), order)
        except invoices.NotCertain:
            pass  # its state says so
        order = Order.get_by_id(order.token)
    if order_book.state(order) in (OrderState.PREPARING, OrderState.CHECKING):
        detail = "This order is being prepared or checked right now. Send the same again soon."
        raise ApiError(503, "checking", detail, retry_after=5)
    if order_book.state(order) not in (OrderState.CANCELLED, OrderState.EXPIRED):
        raise ApiError(409, "paid", "This order is paid.")
    return success(resources.orders(this_shop(), [order])[0])


def _order(found: Holder, token: str) -> Order:
    """An order of this account. Raises wanted.UnknownService."""
    order = order_book.find(token)
    if order is None or order.account_id != found.account.id:
        raise wanted.UnknownService
    return order
