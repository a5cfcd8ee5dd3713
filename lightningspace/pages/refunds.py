"""The pages to claim a refund: the payer proves the payment, and says where to pay it back.

The browser that ordered needs no other proof.
"""

from flask import Blueprint, Response, redirect, render_template, url_for

from lightningspace.base.models import Order
from lightningspace.base.money_models import Refund
from lightningspace.base.refusals import Refusal
from lightningspace.rules import order_book, refunds
from lightningspace.rules.refunds import State
from lightningspace.shop import this_shop
from lightningspace.visitors import browsers, limits
from lightningspace.visitors.forms import ReceiptForm, RecoveryForm, RefundForm

blueprint = Blueprint("refunds", __name__)

# The states that change by themselves.
WAITS = (State.DUE, State.PAYING)
TAKES_DESTINATION = (State.OPEN, State.CLAIMED, State.FAILED)


# -- who has paid ----------------------------------------------------------------------


@blueprint.get("/refund")
def find():
    return _proof_page()


@blueprint.post("/refund")
@limits.limited("refunds")
def prove():
    form = RecoveryForm()
    if not form.validate_on_submit():
        return _proof_page(400, recovery_form=form)
    try:
        order = refunds.paid_with(this_shop(), form.invoice.data, form.secret)
    except refunds.NotProved:
        form.invoice.errors = ["These two are not from one payment to us, or it has not arrived."]
        return _proof_page(400, recovery_form=form)
    except Refusal as refused:
        return _proof_page(refused.status, recovery_form=form, problem=refused.text)
    return _proved(order)


@blueprint.post("/refund/key")
@limits.limited("refunds")
def prove_by_key():
    form = ReceiptForm()
    if not form.validate_on_submit():
        return _proof_page(400, receipt_form=form)
    shown = form.credential
    try:
        order = refunds.paid_for(this_shop(), shown.macaroon, shown.preimage)
    except refunds.NotProved:
        form.source.errors = [
            "This is from no payment to us, or there is a newer one, or it was narrowed."
        ]
        return _proof_page(400, receipt_form=form)
    return _proved(order)


def _proof_page(status: int = 200, **context):
    forms = {"recovery_form": RecoveryForm, "receipt_form": ReceiptForm}
    others = {name: kind(formdata=None) for name, kind in forms.items() if name not in context}
    return render_template("refund_proof.html", **others, **context), status


def _proved(order: Order) -> Response:
    browsers.keep_paid(order)
    return redirect(browsers.onwards(url_for("refunds.refund", token=order.token)), 303)


# -- what is paid back -----------------------------------------------------------------


@blueprint.get("/refund/<token>")
def refund(token):
    order = _paid_by_asker(token)
    return _page(order, RefundForm(formdata=None)) if order else _to_proof()


@blueprint.post("/refund/<token>")
@limits.limited("refunds")
def claim(token):
    order, form = _paid_by_asker(token), RefundForm()
    if order is None:
        return _to_proof()
    if not form.validate_on_submit():
        return _page(order, form, 400)
    try:
        refunds.claim(this_shop(), order, form.destination.data)
    except Refusal as refused:
        if not refused.field:
            return _page(order, form, refused.status, refused.text)
        form.destination.errors = [refused.text]
        return _page(order, form, 400)
    return redirect(url_for("refunds.refund", token=token), 303)


@blueprint.get("/refund/<token>/status")
def status(token):
    """What the page asks for while something is under way."""
    order = _paid_by_asker(token)
    latest = order and refunds.latest(order)
    if latest and refunds.state(latest) in WAITS:
        return Response(status=204)
    return Response(headers={"HX-Redirect": url_for("refunds.refund", token=token)})


def _paid_by_asker(token: str) -> Order | None:
    """None for a stranger, who does not learn whether there is such an order."""
    order = order_book.find(token) if token.isalnum() else None
    is_his = order is not None and order.paid_at is not None and browsers.has_paid(order)
    return order if is_his else None


def _to_proof() -> Response:
    return redirect(url_for("refunds.find"), 303)


def _page(order: Order, form: RefundForm, status: int = 200, problem: str | None = None):
    found = refunds.claimable(order)
    refund: Refund | None = found and found.refund
    state = refunds.state(refund) if refund else State.OPEN
    return render_template(
        "refund.html",
        order=order,
        found=found,
        refund=refund,
        state=state,
        is_tried_again=refund is not None and refunds.is_tried_again(refund),
        waits=found is not None and state in WAITS,
        takes_destination=found is not None and state in TAKES_DESTINATION,
        words=refunds.IN_WORDS,
        form=form,
        problem=problem,
    ), status
