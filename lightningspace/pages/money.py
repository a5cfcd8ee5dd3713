"""The control center's pages for paying: more time, another size, and what was paid."""

from flask import flash, redirect, render_template, request, url_for

from lightningspace.base.models import Account
from lightningspace.base.prices import EXTRAS, Size, Terms
from lightningspace.base.refusals import Refusal
from lightningspace.pages import control
from lightningspace.pages.control import page, this_account
from lightningspace.rules import (
    capacity,
    order_book,
    orders,
    quotes,
    refunds,
    restored,
    services,
    tips,
)
from lightningspace.shop import this_shop
from lightningspace.visitors import browsers, limits
from lightningspace.visitors.forms import (
    AmountForm,
    ExtendForm,
    PrefilledAmountForm,
    PrefilledSizeForm,
    PrefilledTimeForm,
    ResizeForm,
    SizeForm,
    TimeForm,
    TopUpForm,
)

blueprint = control.part("money")

# The times offered at a click; any other can be typed.
TIMES = ((1, "hours"), (1, "days"), (7, "days"), (1, "months"), (3, "months"), (12, "months"))


# -- more time -------------------------------------------------------------------------


@blueprint.get("/extend")
def extend():
    form, prefill = ExtendForm(formdata=None), PrefilledTimeForm(formdata=request.args)
    if request.args and prefill.validate():
        form.duration.data, form.unit.data = prefill.duration.data, prefill.unit.data
    top_up, amount = _amount_form(TopUpForm, None), _amount_form(PrefilledAmountForm, request.args)
    if amount.validate():
        top_up.sats.data = amount.sats.data
    return _extend_page(form, top_up=top_up)


@blueprint.get("/extend/price")
def extend_price():
    form = PrefilledTimeForm(formdata=request.args)
    form.validate()
    return render_template("account/_extension.html", account=this_account(), **_extension(form))


@blueprint.post("/extend")
@limits.limited("orders", lambda response: response.status_code in (303, 503))
def order_extension():
    form = ExtendForm()
    if request.form.get("show") == "price":
        return _extend_page(form, 200 if form.time_is_valid() else 400)
    if not form.validate_on_submit():
        return _extend_page(form, 400)
    try:
        order = orders.extend(
            this_shop(), this_account().id, form.duration.data, form.unit.data, _buyer(form)
        )
    except Refusal as refused:
        return _extend_page(form, *_problem(refused))
    return redirect(url_for("orders.order", token=order.token), 303)


@blueprint.get("/extend/top-up/price")
def top_up_price():
    form = _amount_form(PrefilledAmountForm, request.args)
    form.validate()
    horizon_days = this_shop().config.horizon_days
    return render_template("account/_top_up.html", horizon_days=horizon_days, **_top_up(form))


@blueprint.post("/extend/top-up")
@limits.limited("orders", lambda response: response.status_code in (303, 503))
def order_top_up():
    form, time_form = _amount_form(TopUpForm, request.form), ExtendForm(formdata=None)
    is_valid = form.validate_on_submit()
    if not is_valid or request.form.get("show") == "price":
        return _extend_page(time_form, 200 if is_valid else 400, top_up=form)
    tip = orders.Tip(form.sats.data * 1000, order_book.Door.OWNER)
    browser = browsers.browser_id(form.form_id.data)
    try:
        order = orders.top_up(this_shop(), this_account().id, tip, browser, form.form_id.data or "")
    except Refusal as refused:
        return _extend_page(time_form, *_problem(refused), top_up=form)
    return redirect(url_for("orders.order", token=order.token), 303)


def _amount_form(kind: type[AmountForm], typed) -> AmountForm:
    return kind(tips.bounds(this_shop()), formdata=typed)


def _extend_page(
    form: ExtendForm,
    status: int = 200,
    problem: str | None = None,
    top_up: TopUpForm | None = None,
):
    account = this_account()
    top_up = top_up or _amount_form(TopUpForm, None)
    return page(
        "account/extend.html",
        status,
        form=form,
        problem=problem,
        times=[
            (Terms(account.space_mb, *time), quotes.extension(this_shop(), account, *time).msat)
            for time in TIMES
        ],
        top_up=top_up,
        **_extension(form),
        **_top_up(top_up),
        **_selling(),
    )


def _top_up(form: AmountForm) -> dict:
    """What the amount in the form buys; None: no such amount is taken."""
    try:
        form.validate_sats(form.sats)
    except ValueError:
        return {"bought": None}
    return {"bought": quotes.topped_up(this_shop(), this_account(), form.sats.data * 1000)}


def _extension(form: TimeForm) -> dict:
    """What the time in the form costs and leads to; None: no such time is sold."""
    shop, account = this_shop(), this_account()
    context = {"offer": None, "horizon_days": shop.config.horizon_days}
    try:
        form.validate_duration(form.duration)
    except ValueError:
        return context
    if form.duration.errors or form.unit.errors or form.unit.data not in form.unit.choices:
        return context
    terms = Terms(account.space_mb, form.duration.data, form.unit.data)
    offer = quotes.extension(shop, account, terms.duration, terms.unit)
    return context | {"terms": terms, "offer": offer}


# -- another size ------------------------------------------------------------------------


@blueprint.get("/size")
def size():
    form = _size_form(PrefilledSizeForm, formdata=request.args)
    return _size_page(form, 200 if form.validate() else 400)


@blueprint.get("/size/price")
def size_price():
    form = _size_form(PrefilledSizeForm, formdata=request.args)
    form.validate()
    return render_template("account/_other_size.html", account=this_account(), **_other_size(form))


@blueprint.post("/size")
@limits.limited("orders", lambda response: response.status_code in (303, 503))
def order_size():
    form = _size_form(ResizeForm)
    if not form.validate_on_submit():
        return _size_page(form, 400)
    try:
        order = orders.resize(this_shop(), this_account().id, form.size(), _buyer(form))
    except (quotes.NotForSale, quotes.ResizeWaits):
        return _size_page(form, 400)  # the page says why where the price would be
    except orders.SoldOut as sold_out:
        form.space_mb.errors = [sold_out.text]
        return _size_page(form, 400)
    except Refusal as refused:
        return _size_page(form, *_problem(refused))
    if order:
        return redirect(url_for("orders.order", token=order.token), 303)
    changed = Account.get_by_id(this_account().id)
    flash(changed.expires_at, "resized")
    return redirect(url_for("account.overview"), 303)


def _size_form(kind: type[SizeForm], **kwargs) -> SizeForm:
    return kind(this_shop().config.space_sizes_mb, Size.of(this_account()), **kwargs)


def _size_page(form: SizeForm, status: int = 200, problem: str | None = None):
    shop, account = this_shop(), this_account()
    return page(
        "account/size.html",
        status,
        form=form,
        problem=problem,
        room_mb=capacity.larger_mb(shop, account),
        extras=[
            (form[extra.column], extra.included(shop.config), extra.msat_per_day(shop.config))
            for extra in EXTRAS
        ],
        split=services.SPLIT_PERCENT,
        **_other_size(form),
        **_selling(),
    )


def _other_size(form: SizeForm) -> dict:
    """What the size in the form costs and leads to, or why it cannot be bought."""
    shop, account = this_shop(), this_account()
    context = {"offer": None, "horizon_days": shop.config.horizon_days}
    if form.errors:
        return context
    size = form.size()
    if size == Size.of(account):
        return context | {"is_same": True}
    try:
        offer = quotes.other_size(shop, account, size)
    except quotes.NotForSale as refused:
        return context | {"why_not": str(refused)}
    except quotes.ResizeWaits as waits:
        return context | {"first": waits.token}
    if size.space_mb > capacity.larger_mb(shop, account):
        return context | {"why_not": orders.SoldOut.text}
    return context | {
        "offer": offer,
        "size": size,
        "confirm": _size_form(ResizeForm, formdata=None),
    }


# -- both --------------------------------------------------------------------------------


def _buyer(form: ExtendForm | ResizeForm) -> orders.Buyer:
    return orders.Buyer(browsers.browser_id(form.form_id.data), form.form_id.data or "")


def _selling() -> dict:
    """Why nothing is sold to this account now (None: it is), and the orders it can still pay."""
    context = {"refusal": None, "unpaid": list(order_book.unpaid(this_account().id))}
    try:
        restored.check_sells()
        quotes.check_may_buy(this_account())
    except (quotes.NotForSale, restored.Restoring) as refused:
        context["refusal"] = str(refused)
    return context


def _problem(refused: Refusal) -> tuple[int, str]:
    """The status and the text for a customer who cannot order now."""
    return 400 if isinstance(refused, quotes.NotForSale) else refused.status, refused.text


# -- what was paid -----------------------------------------------------------------------


@blueprint.get("/payments")
def payments():
    before, doors = request.args.get("before"), (*order_book.OWN_DOORS, *order_book.TIP_DOORS)
    paid, older = order_book.listed(this_account().id, doors, before)
    paid_back = refunds.latest_of(paid)
    found = {"receipts": paid, "before": before, "older": older}
    return page("account/payments.html", **found, refunds=paid_back)
