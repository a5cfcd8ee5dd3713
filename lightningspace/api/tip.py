"""The API's routes for giving tips, which need no credential and give none.

Tip jars on customers' sites call them; any other program may, too.
"""

from enum import StrEnum

from flask import g, url_for

from lightningspace.api import codes, routes
from lightningspace.api.answers import ApiError, success
from lightningspace.api.bodies import TEXT, WHOLE, WRONG, BadBody
from lightningspace.api.invoices import placed
from lightningspace.api.routes import described, idempotency_key
from lightningspace.base import messages, qr
from lightningspace.base.clock import iso_or_none, iso_time
from lightningspace.base.models import Account, Order
from lightningspace.rules import hostnames, order_book, orders, standing, tips
from lightningspace.rules.order_book import Door
from lightningspace.rules.orders import Tip
from lightningspace.rules.standing import Stage
from lightningspace.shop import this_shop
from lightningspace.visitors import browsers, limits, networks

blueprint = routes.part("tip")

FIELDS = {"amount_msat": WHOLE, "message": TEXT}


class TipState(StrEnum):
    """LATE: the hosting was being deleted when it was paid."""

    UNPAID = "unpaid"
    CHECKING = "checking"
    PAID = "paid"
    EXPIRED = "expired"
    LATE = "late"


# Stages that a giver need not tell apart.
AS_TOLD = {
    Stage.PREPARING: TipState.CHECKING,
    Stage.CANCELLED: TipState.EXPIRED,
    Stage.RENEWING: TipState.PAID,
    Stage.RENEWED: TipState.PAID,
}


@blueprint.get("/tips/<username>")
@described("How somebody takes tips", {200: "TipTaker"}, codes=codes.ONE)
def tip_taker(username):
    """Who takes tips, and how. Only the POST makes an invoice."""
    shop, account = this_shop(), taker(username)
    address = tips.lightning_address(shop, account) if account.tips_address else None
    least, most = tips.bounds_msat(shop)
    return success(
        {
            "username": account.username,
            "site": hostnames.site_name(shop, account.username),
            "min_msat": least,
            "max_msat": most,
            "message_max": messages.LONGEST,
            "lightning_address": address,
            "offer": tips.offer_if_told(shop, account),
            "paid_until": iso_or_none(tips.paid_until(account)),
            "page_url": tips.page_url(shop, account),
        }
    )


@blueprint.post("/tips/<username>")
@described(
    "Give a tip, which becomes time of a hosting",
    {201: "Tip"},
    fields=FIELDS,
    required=("amount_msat",),
    mints=True,
    codes=(*codes.ONE, "refused", "too_many_unpaid", "node_down", "restoring"),
    note="For whoever asks: pay the invoice, and watch the tip. It gives no right over the "
    "hosting. Messages are kept without control characters and line breaks.",
)
@limits.limited("tips", lambda response: g.get("asked_node", False), limits.givers, limits.giver)
def give_tip(username):
    account, asked = taker(username), _asked()
    order = placed(lambda: orders.top_up(this_shop(), account.id, asked, None, new_form_id()))
    location = url_for("api_tip.tip", username=username, order=order.token)
    return success(_tip(order, account), 201, Location=location)


@blueprint.get("/tips/<username>/<order>")
@described(
    "What has become of a tip",
    {200: "Tip"},
    codes=codes.ONE,
    note="late: the hosting was being deleted when it was paid. `applied`: it has become time.",
)
def tip(username, order):
    """A tip as it is now. Whoever has its URL may see it, even if the door was closed meanwhile."""
    found = order_book.find(order)
    account = found.account if found and order_book.is_tip(found) else None
    if account is None or account.username != username:
        raise _unknown()
    return success(_tip(found, account))


def new_form_id() -> str:
    """An id for the order: the same for the same Idempotency-Key from the same network, because
    askers do not say who they are.
    """
    key = idempotency_key()
    return f"{key} of {networks.network()}" if key else browsers.new_form_id()


def taker(username: str) -> Account:
    """Raises ApiError (404) where nobody of this name takes tips."""
    account = tips.taker(username, Door.PAGE)
    if account is None:
        raise _unknown()
    return account


def _unknown() -> ApiError:
    return ApiError(404, "unknown", "There is no such tip, or nobody of this name takes tips here.")


def _asked() -> Tip:
    """The tip that the body asks for. Raises BadBody."""
    body, errors = routes.body(), {}
    least, most = tips.bounds_msat(this_shop())
    if not least <= body.get("amount_msat", 0) <= most:
        errors["amount_msat"] = [f"Write a whole number from {least} to {most}."]
    if len(body.get("message", "")) > messages.LONGEST:
        errors["message"] = [f"A message has up to {messages.LONGEST} characters."]
    if errors:
        raise BadBody(WRONG, errors)
    return Tip(body["amount_msat"], Door.PAGE, messages.cleaned(body.get("message")))


def _tip(order: Order, account: Account) -> dict:
    """Never the preimage: with the invoice it proves the payment, and that proof is the payer's."""
    shop, stage = this_shop(), standing.stage(order)
    state = AS_TOLD.get(stage) or TipState(stage)
    address = url_for("api_tip.tip", username=account.username, order=order.token)
    invoice = order.bolt11 if state == TipState.UNPAID else None
    is_applied = order.applied_at is not None
    return {
        "order": order.token,
        "state": state,
        "amount_msat": order.amount_msat,
        "expires_at": iso_time(order.expires_at),
        "status_url": shop.config.public_url + address,
        "page_url": shop.config.public_url + url_for("orders.order", token=order.token),
        "invoice": invoice,
        "qr_svg": qr.svg(f"lightning:{invoice}".upper()) if invoice else None,
        "applied": is_applied,
        "paid_until": iso_or_none(tips.paid_until(account)) if is_applied else None,
    }
