"""The public pages for ordering: the front page with its form, and an order with its invoice."""

from flask import (
    Blueprint,
    Response,
    current_app,
    flash,
    g,
    make_response,
    redirect,
    render_template,
    request,
    session,
    url_for,
)
from flask_login import current_user
from werkzeug.datastructures import MultiDict
from werkzeug.exceptions import NotFound, TooManyRequests

from lightningspace.base import names
from lightningspace.base.models import Order
from lightningspace.base.prices import EXTRAS, Terms
from lightningspace.base.refusals import Refusal
from lightningspace.rules import (
    capacity,
    currency,
    hostnames,
    invoices,
    order_book,
    orders,
    refunds,
    restored,
    services,
    sessions,
    standing,
    tips,
    usage,
    vouchers,
)
from lightningspace.rules.order_book import Door, OrderKind
from lightningspace.rules.standing import Asker, Stage, Standing
from lightningspace.shop import Shop, this_shop
from lightningspace.visitors import browsers, limits, logins, networks, readers
from lightningspace.visitors.forms import (
    TIMES,
    Button,
    NameForm,
    OrderForm,
    PriceForm,
    VoucherForm,
    with_chosen_time,
)

blueprint = Blueprint("orders", __name__)

# The times that the front page names a price of, for each size.
PRICED = ((1, "hours"), (1, "days"), (1, "months"), (365, "days"))
NOT_WITHDRAWN = (
    "Our Lightning node has not withdrawn the invoice yet. The voucher is still good: please try "
    "again in a minute, and do not pay the invoice meanwhile."
)
# What a blog or a shop needs at least, with the program that people mostly install for it.
PROGRAM_MB = 500


# -- the front page and the order form -----------------------------------------------


@blueprint.get("/")
def index():
    answer = make_response(_shop_as_text() if readers.wants_text() else _chosen_front_page())
    answer.vary.update(("Accept", "User-Agent"))
    return answer


def _shop_as_text() -> Response:
    shop = this_shop()
    text = render_template(
        "index.txt",
        config=shop.config,
        left_mb=capacity.largest_mb(shop),
        why_not=restored.why_not(),
        price_list=_price_list(shop),
        rate=currency.rate(shop),
    )
    return Response(text, content_type="text/plain; charset=utf-8")


def _chosen_front_page():
    """The front page, with what is chosen in its address."""
    form = _order_form(formdata=None)
    prefill = _price_form()
    if request.args and prefill.validate():
        form.space_mb.data, form.duration.data = prefill.space_mb.data, prefill.duration.data
        form.unit.data = prefill.unit.data
    return _front_page(form)


@blueprint.get("/price")
def price():
    form = _price_form()
    form.validate()
    return render_template("_price.html", **_price(form))


@blueprint.get("/name")
def name():
    form = NameForm(this_shop().config.space_sizes_mb, formdata=with_chosen_time(request.args))
    form.validate()
    return render_template("_name.html", **_price(form), **_look_at_name(form))


@blueprint.post("/orders")
@limits.limited("orders", lambda response: response.status_code in (303, 503))
@limits.limited("names", lambda response: g.get("name_refused", False), lambda: "orders")
def place_order():
    form = _order_form(formdata=with_chosen_time(request.form))
    if request.form.get("show") == "price":
        status = 200 if form.terms_are_valid() else 400
        return _front_page(form, status, **_look_at_name(form))
    if not form.validate_on_submit():
        return _front_page(form, status=400)

    try:
        order = orders.place(this_shop(), _wish(form))
    except Refusal as refused:
        if not refused.field:
            return _front_page(form, status=refused.status, problem=refused.text)
        g.name_refused = refused.field == "username"
        form[refused.field].errors = [refused.text]
        return _front_page(form, status=400, own_order=getattr(refused, "token", None))
    session.modified = True  # renews the cookie by which the order knows this browser
    return redirect(browsers.onwards(url_for("orders.order", token=order.token)), 303)


@blueprint.get("/orders")
def reopened_form():
    """Where a browser comes when it opens the answer to its form again."""
    return redirect(url_for("orders.index"), 303)


def _order_form(formdata: MultiDict | None) -> OrderForm:
    return OrderForm(this_shop().config.space_sizes_mb, formdata=formdata)


def _price_form() -> PriceForm:
    return PriceForm(this_shop().config.space_sizes_mb, formdata=with_chosen_time(request.args))


def _wish(form: OrderForm) -> orders.Wish:
    return orders.Wish(
        terms=form.terms(),
        username=form.username.data or None,
        email=form.email.data or None,
        password=form.password.data or None,
        browser=browsers.browser_id(form.form_id.data),
        client=networks.network(),
        form_id=form.form_id.data or "",
        proof=browsers.kept_proof(),
    )


def _front_page(form: OrderForm, status: int = 200, **context):
    shop = this_shop()
    left_mb = capacity.largest_mb(shop)
    return render_template(
        "index.html",
        form=form,
        times=TIMES,
        left_mb=left_mb,
        why_not=restored.why_not(),
        is_scarce=capacity.is_scarce(shop, left_mb),
        config=shop.config,
        php_versions=usage.php_on_offer(),
        split=services.SPLIT_PERCENT,
        extras=[
            (extra, extra.included(shop.config), extra.msat_per_day(shop.config))
            for extra in EXTRAS
        ],
        price_list=_price_list(shop),
        examples=_examples(shop),
        waiting=browsers.waiting_orders(),
        had_a_hosting=browsers.kept_proof() is not None,
        **_price(form),
        **context,
    ), status


def _price_list(shop: Shop) -> list[tuple[int, list[int]]]:
    """Each size with its prices in msat, in the order of PRICED."""
    return [
        (size, [shop.prices.price_msat(Terms(size, *time)) for time in PRICED])
        for size in shop.config.space_sizes_mb
    ]


def _examples(shop: Shop) -> dict[str, tuple[Terms, int]]:
    """What some typical hostings cost."""
    sizes = sorted(shop.config.space_sizes_mb)
    enough = next((size for size in sizes if size >= PROGRAM_MB), sizes[-1])
    terms = {
        "party": Terms(sizes[0], 2, "days"),
        "blog": Terms(enough, 365, "days"),
        "pictures": Terms(sizes[-1], 1, "months"),
    }
    return {what: (each, shop.prices.price_msat(each)) for what, each in terms.items()}


def _price(form: PriceForm) -> dict:
    """The price of what the form asks for; None: no such thing is sold."""
    shop = this_shop()
    sizes, rate = shop.config.space_sizes_mb, currency.rate(shop)
    nothing = {"price_msat": None, "terms": None, "rate": rate}
    if form.space_mb.data not in sizes or form.duration.errors or form.unit.errors:
        return nothing
    try:
        form.validate_duration(form.duration)
    except ValueError:
        return nothing
    terms = form.terms()
    return {"price_msat": shop.prices.price_msat(terms), "terms": terms, "rate": rate}


def _look_at_name(form: NameForm | OrderForm) -> dict:
    """What the name in the form would become, if it can be one. `is_free` None: not asked."""
    shop, username = this_shop(), form.username.data
    if not username or not names.RULE.fullmatch(username):
        return {"no_name": bool(username), "rule": names.RULE_IN_WORDS}
    try:
        limits.take("names", shop.config.names_limit, shop.config.names_limit_overall)
    except TooManyRequests:
        is_free = None
    else:
        is_free = orders.can_be_had(shop, username, browsers.kept_proof())
    return {"site": hostnames.site_name(shop, username), "is_free": is_free}


# -- an order ------------------------------------------------------------------------


@blueprint.get("/orders/<token>")
def order(token):
    found = _standing(token)
    if readers.wants_text():
        text = render_template("order.txt", if_paid=found.if_paid(this_shop()), **_facts(found))
        return Response(text, content_type="text/plain; charset=utf-8")
    if _enters(found):
        return redirect(url_for("account.overview"), 303)
    return _order_page(found)


@blueprint.get("/orders/<token>/status")
def order_status(token):
    found = _standing(token)
    if _enters(found) or _renewed_ours(found):
        return Response(headers={"HX-Redirect": url_for("account.overview")})
    return render_template("_order_poll.html", **_facts(found))


@blueprint.get("/orders/<token>/cancel")
def reopened_cancelling(token):
    return redirect(url_for("orders.order", token=token), 303)


@blueprint.post("/orders/<token>/cancel")
def cancel_order(token):
    found = _standing(token)
    if not found.is_mine:
        raise NotFound
    if Button().validate_on_submit() and found.can_be_cancelled:
        try:
            invoices.cancel(this_shop(), found.order)
        except invoices.NotCancelled as refused:
            return _order_page(_standing(token), status=refused.status, problem=refused.text)
        except invoices.NotCertain:
            pass  # its page says so
    return redirect(url_for("orders.order", token=token), 303)


@blueprint.get("/orders/<token>/voucher")
def reopened_voucher(token):
    return redirect(url_for("orders.order", token=token), 303)


@blueprint.post("/orders/<token>/voucher")
@limits.limited_each("logins", lambda response: response.status_code == 400)
def pay_by_voucher(token):
    found, form = _standing(token), VoucherForm()
    if not form.validate_on_submit():
        return _order_page(found, 400, voucher=form)
    try:
        vouchers.pay(this_shop(), found.order, form.code.data)
    except (vouchers.VoucherRefused, restored.Restoring) as refused:
        form.code.errors = [refused.text]
        return _order_page(found, refused.status, voucher=form)
    except (invoices.NotCancelled, invoices.NotCertain) as refused:
        form.code.errors = [NOT_WITHDRAWN]
        return _order_page(_standing(token), refused.status, voucher=form)
    return redirect(url_for("orders.order", token=token), 303)


def _standing(token: str) -> Standing:
    """How the order of this link stands for whoever asks, or 404."""
    found = order_book.find(token)
    if found is None or found.kind == OrderKind.LOST:
        raise NotFound
    has_placed = browsers.placed(found)
    # A page that waits for its payment polls every two seconds, and nothing on it depends on who is
    # logged in.
    only_waits = has_placed and found.paid_at is None and found.kind != OrderKind.TOP_UP
    asker = Asker(has_placed, None if only_waits else _own_account_id())
    return standing.of(this_shop(), found, asker)


def _own_account_id() -> str | None:
    return current_user.account.id if current_user.is_authenticated else None


def _enters(found: Standing) -> bool:
    """Log in the browser that ordered, once everything is ready; whether it is logged in."""
    order = found.order
    # Whoever pays for an extension gets no more than that.
    if found.state != Stage.READY or not browsers.placed(order):
        return False
    if found.is_owners:
        return True
    account = order.account
    try:
        logins.log_in(
            account,
            # Without a password, typed or noted, the customer is out once this browser is
            # closed, but for the wallet's history.
            is_at_home=account.password_sealed is None,
            proved_at=account.ready_at,
            # Read again: if all sessions were ended meanwhile, this link opens none.
            may=lambda: browsers.placed(Order.get_by_id(order.token)),
        )
    except sessions.SessionOver:
        return False
    if order.username and order.username != account.username:
        flash(f"The name {order.username} was gone when you paid, so we chose another one.")
    return True


def _renewed_ours(found: Standing) -> bool:
    """Whether the order has taken effect, for the account that this browser is logged in to."""
    if found.state != Stage.RENEWED or not found.is_owners:
        return False
    flash(found.order.ends_at, "extended")
    return True


def _order_page(found: Standing, status: int = 200, voucher: VoucherForm | None = None, **context):
    takes_vouchers = found.state == Stage.UNPAID and vouchers.may_pay(found.order)
    refund = refunds.latest(found.order)
    return render_template(
        "order.html",
        voucher=(voucher or VoucherForm(formdata=None)) if takes_vouchers else None,
        button=Button(),
        if_paid=found.if_paid(this_shop()),
        address=_address(found),
        lacks_name=found.lacks_name,
        refund=refund,
        refund_state=refund and refunds.state(refund),
        sandbox_pays="sandbox" in current_app.blueprints,
        **_facts(found),
        **context,
    ), status


def _facts(found: Standing) -> dict:
    """What the page and its fragment show of the order."""
    return vars(found) | {"again": _top_up_again(found)}


def _address(found: Standing) -> str | None:
    """Where a new hosting is to be, for whoever ordered it; None: nobody has chosen that yet."""
    username = found.order.username
    is_known = found.is_mine and found.order.kind == OrderKind.OPEN and username
    return hostnames.site_name(this_shop(), username) if is_known else None


def _top_up_again(found: Standing) -> str | None:
    """Where to order the amount of an unpaid top-up again, once it is over; None: nowhere."""
    if found.site is None or found.state not in (Stage.CANCELLED, Stage.EXPIRED):
        return None
    username, sats = found.order.account.username, found.order.amount_msat // 1000
    if not found.is_tip:
        return url_for("money.extend", sats=sats)
    takes = tips.taker(username, Door.PAGE)
    return url_for("tip.tip", username=username, sats=sats) if takes else None


# -- closed ----------------------------------------------------------------------------


@blueprint.get("/goodbye")
def goodbye():
    """Where closing a hosting leads, logged out."""
    return render_template("goodbye.html", config=this_shop().config)
