"""The public pages and fragments: order and invoice, and where mailed links lead."""

import logging

from flask import (
    Blueprint,
    Response,
    current_app,
    flash,
    redirect,
    render_template,
    request,
    session,
    url_for,
)
from flask_login import current_user
from werkzeug.exceptions import NotFound

from lightningspace import capacity, orders, reminders, sessions, tips, visitors, wanted
from lightningspace.clock import clock_time
from lightningspace.forms import Button, OrderForm, PriceForm
from lightningspace.models import Order
from lightningspace.node import NodeError
from lightningspace.prices import Size, Terms
from lightningspace.visitors import this_shop

logger = logging.getLogger(__name__)
web = Blueprint("web", __name__)


# -- the front page and the order form -----------------------------------------------


@web.get("/")
def index():
    visitors.browser_id()
    form = _order_form(formdata=None)
    prefill = PriceForm(this_shop().config.space_sizes_mb, formdata=request.args)
    if request.args and prefill.validate():
        form.space_mb.data, form.duration.data = prefill.space_mb.data, prefill.duration.data
        form.unit.data = prefill.unit.data
    return _front_page(form)


@web.get("/price")
def price():
    form = PriceForm(this_shop().config.space_sizes_mb, formdata=request.args)
    form.validate()
    return render_template("_price.html", **_price(form))


@web.post("/orders")
@visitors.limited("orders", lambda response: response.status_code in (303, 503))
def place_order():
    form = _order_form()
    if request.form.get("show") == "price":
        return _front_page(form, status=200 if form.terms_are_valid() else 400)
    if not form.validate_on_submit():
        return _front_page(form, status=400)

    try:
        order = orders.place(this_shop(), _wish(form))
    except orders.NameReserved:
        form.username.errors = ["This name is reserved. Choose another one."]
        return _front_page(form, status=400)
    except orders.NameTaken as taken:
        form.username.errors = ["This name is taken."]
        return _front_page(form, status=400, own_order=taken.token)
    except orders.SoldOut:
        form.space_mb.errors = ["This much space is not free just now. Choose less, or come back."]
        return _front_page(form, status=400)
    except orders.TooManyUnpaid:
        problem = (
            "Your network holds several names that are not paid. Leave the name empty and we "
            "choose one, or pay or cancel one of those orders first."
        )
        return _front_page(form, status=429, problem=problem)
    except NodeError as error:
        logger.warning("no invoice: %s", error)
        problem = "Our Lightning node does not answer. Nothing was charged. Please try again."
        return _front_page(form, status=503, problem=problem)
    session.modified = True  # the cookie that knows the order lives on from now
    return redirect(url_for("web.order", token=order.token), 303)


def _order_form(**kwargs) -> OrderForm:
    return OrderForm(this_shop().config.space_sizes_mb, **kwargs)


def _wish(form: OrderForm) -> orders.Wish:
    return orders.Wish(
        terms=form.terms(),
        username=form.username.data or None,
        email=form.email.data or None,
        password=form.password.data or None,
        browser=visitors.browser_id(),
        client=visitors.network(),
        form_id=form.form_id.data or "",
        proof=visitors.kept_proof(),
    )


def _front_page(form: OrderForm, status: int = 200, **context):
    shop = this_shop()
    return render_template(
        "index.html",
        form=form,
        left_mb=capacity.largest_mb(this_shop()),
        price_list=[
            (size, shop.prices.rate(Size(size)), shop.prices.price_msat(Terms(size, 30, "days")))
            for size in shop.config.space_sizes_mb
        ],
        mail_days=shop.config.mail_send_min_days,
        split=wanted.SPLIT_PERCENT,
        had_a_hosting=visitors.kept_proof() is not None,
        **_price(form),
        **context,
    ), status


def _price(form: PriceForm) -> dict:
    """The price of what the form names; None while it names nothing that is sold."""
    shop = this_shop()
    sizes = shop.config.space_sizes_mb
    if form.space_mb.data not in sizes or form.duration.errors or form.unit.errors:
        return {"price_msat": None, "terms": None}
    try:
        form.validate_duration(form.duration)
    except ValueError:
        return {"price_msat": None, "terms": None}
    return {"price_msat": shop.prices.price_msat(form.terms()), "terms": form.terms()}


# -- an order ------------------------------------------------------------------------


@web.get("/orders/<token>")
def order(token):
    found = _order(token)
    if _enters(found):
        return redirect(url_for("account.overview"), 303)
    return _order_page(found)


@web.get("/orders/<token>/status")
def order_status(token):
    found = _order(token)
    if _enters(found) or _renewed_ours(found):
        return Response(headers={"HX-Redirect": url_for("account.overview")})
    return render_template("_order_status.html", **_status(found))


@web.post("/orders/<token>/cancel")
def cancel_order(token):
    found = _order(token)
    if not _is_mine(found):
        raise NotFound
    if Button().validate_on_submit() and orders.state(found) in ("unpaid", "checking"):
        try:
            orders.cancel(this_shop(), found)
        except NodeError as error:
            logger.warning("order %s: not cancelled yet: %s", token[:8], error)
            problem = "Our Lightning node does not answer. This is cancelled as soon as it does."
            return _order_page(_order(token), status=503, problem=problem)
        except orders.NotCertain:
            pass  # its page says so
    return redirect(url_for("web.order", token=token), 303)


def _order(token: str) -> Order:
    """The order of this link; 404 when there is none."""
    found = orders.find(token)
    if found is None or found.kind == "lost":
        raise NotFound
    return found


def _enters(order: Order) -> bool:
    """Log the browser that ordered in, once everything is ready."""
    # Who pays for an extension gets no more than that.
    if order.kind != "open" or not _is_ready(order) or not visitors.placed(order):
        return False
    if _is_owners(order):
        return True
    account = order.account
    try:
        visitors.log_in(
            account,
            # Who has neither typed a password nor noted ours is out as soon as this browser is
            # closed, but for the wallet's history.
            is_at_home=account.password_sealed is None,
            proved_at=account.ready_at,
            # Sessions that end meanwhile do not begin anew.
            may=lambda: visitors.placed(Order.get_by_id(order.token)),
        )
    except sessions.Over:
        return False
    if order.username and order.username != account.username:
        flash(f"The name {order.username} was taken when you paid, so you have another one.")
    return True


def _is_ready(order: Order) -> bool:
    is_there = order.applied_at is not None and order.account is not None
    return is_there and order.account.ready_at is not None


def _is_mine(order: Order) -> bool:
    """Whether this browser has placed it, or is logged in to the account that has ordered it."""
    is_of_account = order.kind != "open" and not orders.is_tip(order)
    return visitors.placed(order) or (is_of_account and _is_owners(order))


def _is_owners(order: Order) -> bool:
    return current_user.is_authenticated and current_user.account.id == order.account_id


def _renewed_ours(order: Order) -> bool:
    """Whether it has taken effect, for the account that this browser is logged in to."""
    if not orders.was_renewed(order) or not _is_owners(order):
        return False
    flash(f"Thank you: your hosting is paid until {clock_time(order.ends_at)}.")
    return True


def _order_page(order: Order, status: int = 200, **context):
    facts = _status(order)
    return render_template(
        "order.html",
        button=Button(),
        if_paid=_if_paid(order) if facts.get("tells_end", True) else None,
        lacks_name=orders.lacks_name(order),
        message=order.message if visitors.placed(order) else None,
        sandbox_pays="sandbox" in current_app.blueprints,
        **facts,
        **context,
    ), status


def _if_paid(order: Order) -> orders.Offer | None:
    """What an order of an account that is there would do now; None once it is paid or over."""
    if order.kind == "open" or orders.state(order) != "unpaid" or order.account is None:
        return None
    return orders.if_paid(this_shop(), order.account, order)


def _status(order: Order) -> dict:
    state = orders.state(order)
    status = {"order": order, "state": state, "is_mine": _is_mine(order), "waits": True}
    if state in ("preparing", "cancelled", "expired", "closed") or order.released_at:
        status["waits"] = False
    elif orders.was_renewed(order):
        status |= {"state": "renewed", "waits": False}
    elif orders.is_too_late(order):
        # Of a top-up nothing more comes: it opens no hosting anew.
        status |= {"state": "late", "waits": order.kind != "topup"}
    elif state == "paid":
        status |= _setting_up(order) if order.kind == "open" else {"state": "renewing"}
    return status | (_of_top_up(order) if order.kind == "topup" else {})


def _of_top_up(order: Order) -> dict:
    """Whose it is, and what its page may say of that; `tells_end`: until when that is paid.

    `site` None: the hosting is gone.
    """
    account, is_owners = order.account, _is_owners(order)
    facts = {"is_tip": orders.is_tip(order), "is_owners": is_owners}
    facts |= {"site": None, "tells_end": False}
    if account is None:
        return facts
    msat = order.received_msat or order.amount_msat
    return facts | {
        "site": wanted.site_name(this_shop(), account.username),
        "tells_end": is_owners or account.tips_show_end,
        # Not what it has bought: within the horizon that would tell the end.
        "worth_seconds": tips.seconds_for(this_shop(), account, msat),
        "again": _tip_again(order) if orders.state(order) in ("cancelled", "expired") else None,
    }


def _tip_again(order: Order) -> str | None:
    username, sats = order.account.username, order.amount_msat // 1000
    if not orders.is_tip(order):
        return url_for("account.extend", sats=sats)
    takes = tips.taker(username, "page")
    return url_for("web.tip", username=username, sats=sats) if takes else None


def _setting_up(order: Order) -> dict:
    services = wanted.services_of(order.account_id) if order.account_id else []
    services = wanted.beside_tip_jar(services)
    failing = [row for row in services if row.error]
    is_ready = _is_ready(order)
    return {
        "state": "ready" if is_ready else "paid",
        "waits": not is_ready,
        "services": services,
        "applied": sum(row.is_applied for row in services),
        "last_try": failing[0].tried_at if failing else None,
        "is_stuck": any(row.permanent for row in failing),
    }


# -- closed ----------------------------------------------------------------------------


@web.get("/goodbye")
def goodbye():
    """Where closing a hosting ends, logged out."""
    return render_template("goodbye.html")


# -- reminders -----------------------------------------------------------------------


@web.route("/reminders/confirm/<token>", methods=["GET", "POST"])
def confirm_reminders(token):
    # Opening the link is not enough: mail scanners do.
    button = Button()
    try:
        if button.validate_on_submit():
            reminders.confirm(this_shop(), token)
            return redirect(url_for("web.confirm_reminders", token=token), 303)
        change = reminders.read(this_shop(), token)
    except reminders.Unknown as unknown:
        return render_template("reminders.html", unknown=unknown), 404
    return render_template("reminders.html", change=change, is_done=change.is_done, button=button)


@web.route("/reminders/stop/<token>", methods=["GET", "POST"])
def stop_reminders(token):
    """Mail programs post here themselves (RFC 8058): without a cookie, from anywhere."""
    is_post = request.method == "POST"
    act = reminders.unsubscribe if is_post else reminders.check_stop
    try:
        act(this_shop(), token)
    except reminders.Unknown as unknown:
        return render_template("reminders.html", unknown=unknown), 404
    return render_template("reminders.html", is_stop=True, is_done=is_post)
