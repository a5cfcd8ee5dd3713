"""The public pages and fragments: order and invoice, and where mailed links lead."""

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

from lightningspace.base.clock import clock_time
from lightningspace.base.models import Order
from lightningspace.base.prices import Size, Terms
from lightningspace.base.refusals import Refusal
from lightningspace.rules import (
    capacity,
    hostnames,
    invoices,
    order_book,
    orders,
    quotes,
    services,
    sessions,
    tips,
)
from lightningspace.rules.progress import Progress
from lightningspace.shop import this_shop
from lightningspace.visitors import browsers, limits, logins, networks
from lightningspace.visitors.forms import Button, OrderForm, PriceForm

blueprint = Blueprint("orders", __name__)


# -- the front page and the order form -----------------------------------------------


@blueprint.get("/")
def index():
    browsers.browser_id()
    form = _order_form(formdata=None)
    prefill = PriceForm(this_shop().config.space_sizes_mb, formdata=request.args)
    if request.args and prefill.validate():
        form.space_mb.data, form.duration.data = prefill.space_mb.data, prefill.duration.data
        form.unit.data = prefill.unit.data
    return _front_page(form)


@blueprint.get("/price")
def price():
    form = PriceForm(this_shop().config.space_sizes_mb, formdata=request.args)
    form.validate()
    return render_template("_price.html", **_price(form))


@blueprint.post("/orders")
@limits.limited("orders", lambda response: response.status_code in (303, 503))
def place_order():
    form = _order_form()
    if request.form.get("show") == "price":
        return _front_page(form, status=200 if form.terms_are_valid() else 400)
    if not form.validate_on_submit():
        return _front_page(form, status=400)

    try:
        order = orders.place(this_shop(), _wish(form))
    except Refusal as refused:
        if not refused.field:
            return _front_page(form, status=refused.status, problem=refused.text)
        form[refused.field].errors = [refused.text]
        return _front_page(form, status=400, own_order=getattr(refused, "token", None))
    session.modified = True  # the cookie that knows the order lives on from now
    return redirect(url_for("orders.order", token=order.token), 303)


def _order_form(**kwargs) -> OrderForm:
    return OrderForm(this_shop().config.space_sizes_mb, **kwargs)


def _wish(form: OrderForm) -> orders.Wish:
    return orders.Wish(
        terms=form.terms(),
        username=form.username.data or None,
        email=form.email.data or None,
        password=form.password.data or None,
        browser=browsers.browser_id(),
        client=networks.network(),
        form_id=form.form_id.data or "",
        proof=browsers.kept_proof(),
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
        split=services.SPLIT_PERCENT,
        had_a_hosting=browsers.kept_proof() is not None,
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


@blueprint.get("/orders/<token>")
def order(token):
    found = _order(token)
    if _enters(found):
        return redirect(url_for("account.overview"), 303)
    return _order_page(found)


@blueprint.get("/orders/<token>/status")
def order_status(token):
    found = _order(token)
    if _enters(found) or _renewed_ours(found):
        return Response(headers={"HX-Redirect": url_for("account.overview")})
    return render_template("_order_status.html", **_status(found))


@blueprint.post("/orders/<token>/cancel")
def cancel_order(token):
    found = _order(token)
    if not _is_mine(found):
        raise NotFound
    if Button().validate_on_submit() and order_book.state(found) in ("unpaid", "checking"):
        try:
            invoices.cancel(this_shop(), found)
        except invoices.NotCancelled as refused:
            return _order_page(_order(token), status=refused.status, problem=refused.text)
        except invoices.NotCertain:
            pass  # its page says so
    return redirect(url_for("orders.order", token=token), 303)


def _order(token: str) -> Order:
    """The order of this link; 404 when there is none."""
    found = order_book.find(token)
    if found is None or found.kind == "lost":
        raise NotFound
    return found


def _enters(order: Order) -> bool:
    """Log the browser that ordered in, once everything is ready."""
    # Who pays for an extension gets no more than that.
    if order.kind != "open" or not _is_ready(order) or not browsers.placed(order):
        return False
    if _is_owners(order):
        return True
    account = order.account
    try:
        logins.log_in(
            account,
            # Who has neither typed a password nor noted ours is out as soon as this browser is
            # closed, but for the wallet's history.
            is_at_home=account.password_sealed is None,
            proved_at=account.ready_at,
            # Sessions that end meanwhile do not begin anew.
            may=lambda: browsers.placed(Order.get_by_id(order.token)),
        )
    except sessions.SessionOver:
        return False
    if order.username and order.username != account.username:
        flash(f"The name {order.username} was taken when you paid, so you have another one.")
    return True


def _is_ready(order: Order) -> bool:
    is_there = order.applied_at is not None and order.account is not None
    return is_there and order.account.ready_at is not None


def _is_mine(order: Order) -> bool:
    """Whether this browser has placed it, or is logged in to the account that has ordered it."""
    is_of_account = order.kind != "open" and not order_book.is_tip(order)
    return browsers.placed(order) or (is_of_account and _is_owners(order))


def _is_owners(order: Order) -> bool:
    return current_user.is_authenticated and current_user.account.id == order.account_id


def _renewed_ours(order: Order) -> bool:
    """Whether it has taken effect, for the account that this browser is logged in to."""
    if not order_book.was_renewed(order) or not _is_owners(order):
        return False
    flash(f"Thank you: your hosting is paid until {clock_time(order.ends_at)}.")
    return True


def _order_page(order: Order, status: int = 200, **context):
    facts = _status(order)
    return render_template(
        "order.html",
        button=Button(),
        if_paid=_if_paid(order) if facts.get("tells_end", True) else None,
        lacks_name=order_book.lacks_name(order),
        message=order.message if browsers.placed(order) else None,
        sandbox_pays="sandbox" in current_app.blueprints,
        **facts,
        **context,
    ), status


def _if_paid(order: Order) -> quotes.Quote | None:
    """What an order of an account that is there would do now; None once it is paid or over."""
    if order.kind == "open" or order_book.state(order) != "unpaid" or order.account is None:
        return None
    return quotes.if_paid(this_shop(), order.account, order)


def _status(order: Order) -> dict:
    state = order_book.state(order)
    status = {"order": order, "state": state, "is_mine": _is_mine(order), "waits": True}
    if state in ("preparing", "cancelled", "expired", "closed") or order.released_at:
        status["waits"] = False
    elif order_book.was_renewed(order):
        status |= {"state": "renewed", "waits": False}
    elif order_book.is_too_late(order):
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
    facts = {"is_tip": order_book.is_tip(order), "is_owners": is_owners}
    facts |= {"site": None, "tells_end": False}
    if account is None:
        return facts
    msat = order.received_msat or order.amount_msat
    return facts | {
        "site": hostnames.site_name(this_shop(), account.username),
        "tells_end": is_owners or account.tips_show_end,
        # Not what it has bought: within the horizon that would tell the end.
        "worth_seconds": tips.seconds_for(this_shop(), account, msat),
        "again": _tip_again(order) if order_book.state(order) in ("cancelled", "expired") else None,
    }


def _tip_again(order: Order) -> str | None:
    username, sats = order.account.username, order.amount_msat // 1000
    if not order_book.is_tip(order):
        return url_for("money.extend", sats=sats)
    takes = tips.taker(username, "page")
    return url_for("tip.tip", username=username, sats=sats) if takes else None


def _setting_up(order: Order) -> dict:
    rows = services.of_account(order.account_id) if order.account_id else []
    all_of_it = Progress(order.account, rows).summary()
    failing, is_ready = all_of_it.failing, _is_ready(order)
    return {
        "state": "ready" if is_ready else "paid",
        "waits": not is_ready,
        "services": all_of_it.rows,
        "applied": all_of_it.applied,
        "last_try": failing[0].tried_at if failing else None,
        "is_stuck": all_of_it.is_stuck,
    }


# -- closed ----------------------------------------------------------------------------


@blueprint.get("/goodbye")
def goodbye():
    """Where closing a hosting ends, logged out."""
    return render_template("goodbye.html")
