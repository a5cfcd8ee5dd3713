"""The API's routes that sell a new hosting, more time and another size; and the prices."""

from flask import Response, g, request

from lightningspace.api import bodies, codes, fields, resources, routes
from lightningspace.api.answers import ApiError, success
from lightningspace.api.bodies import TEXT, WHOLE
from lightningspace.api.holders import (
    Unauthorized,
    account_now,
    check_able,
    check_opened,
    holder,
    payer,
    sells,
    shown,
    wait_for,
)
from lightningspace.api.hosting import told
from lightningspace.api.invoices import (
    PRICE_OF_SIZE,
    challenged,
    is_applied,
    new_buyer,
    payment_required,
    placed,
    sell_size,
    wait_for_own_order,
)
from lightningspace.api.routes import described, idempotency_key
from lightningspace.api.tip import new_form_id, taker
from lightningspace.base import names
from lightningspace.base.clock import iso_or_none, iso_time
from lightningspace.base.models import Account, Order
from lightningspace.base.prices import Size, Terms
from lightningspace.outside import l402
from lightningspace.rules import hostnames, order_book, orders, quotes, tips, tokens
from lightningspace.rules.order_book import OrderKind
from lightningspace.rules.tokens import Holder
from lightningspace.shop import this_shop
from lightningspace.visitors import authorization, browsers, limits, networks
from lightningspace.visitors.forms import TERMS_FIELDS, ExtendForm, OrderForm, PriceForm, ResizeForm

blueprint = routes.part("selling")

ORDER_FIELDS = {"space_mb": WHOLE, "duration": WHOLE, "unit": TEXT}
ORDER_FIELDS |= {"username": TEXT, "password": TEXT, "email": TEXT}
TIME_FIELDS = {"duration": WHOLE, "unit": TEXT}
SIZE_FIELDS = dict.fromkeys(Size.__annotations__, WHOLE)
PRICE_OF_TIME = (
    "The rate of its size (rate_msat_per_day) times the seconds, divided by 86400, rounded up to "
    "whole satoshi; at least one."
)
NEW = {
    "username": fields.or_empty({"pattern": f"^{names.RULE.pattern}$"})
    | {"description": f"{names.RULE_IN_WORDS}, and not reserved"},
    "password": fields.or_empty(fields.PASSWORD),
    "email": fields.or_empty(fields.EMAIL),
}


# -- prices ----------------------------------------------------------------------------


@blueprint.get("/prices")
@described(
    "What is on offer, and what it costs",
    {200: "Prices"},
    query={"space_mb": WHOLE, "duration": WHOLE, "unit": TEXT},
    codes=("bad_request",),
    note="Asking makes no invoice. With space_mb, duration and unit, `price` is that of a new "
    "hosting. All prices are in millisatoshi; an invoice has whole satoshi.",
)
def prices():
    """What is on offer, and the price of what is asked for. Asking makes no invoice."""
    answer = resources.prices(this_shop())
    if any(name in request.args for name in TERMS_FIELDS):
        form = PriceForm(this_shop().config.space_sizes_mb, formdata=request.args)
        bodies.check(form)
        answer["price"] = resources.price(this_shop(), form.terms())
    return success(answer)


# -- a new hosting ---------------------------------------------------------------------


@blueprint.post("/hosting")
@described(
    "Buy a hosting, or see the one that was bought",
    {201: "Hosting", 202: "Hosting"},
    capability="read",
    needs_none=True,
    fields=ORDER_FIELDS,
    required=("space_mb", "duration", "unit"),
    rules=NEW,
    sells="a new hosting",
    price=PRICE_OF_TIME,
    codes=("name_taken", "sold_out", "changed"),
    note="Without a credential, or with one of a hosting that no longer exists, 402 sells a new "
    "one. With its credential and the same body it answers the hosting, however often it is sent. "
    "Name and password are generated when they are not sent. An e-mail address is mailed a link to "
    "confirm it when the order is paid, and reminders after that.",
)
@sells
def buy():
    """Sell a new hosting; with its credential, show the one that was bought."""
    wish = _wish()
    try:
        found = shown()
    except l402.Void:  # such as of a closed hosting: another one may be bought
        found = None
    except l402.Invalid as error:
        raise Unauthorized(error) from None
    if found:
        return _bought(found, wish)
    buyer = payer()
    order = placed(lambda: orders.place(this_shop(), wish))
    size = Size(wish.terms.space_mb)
    sale = {"size": resources.size(size), "time": resources.time(wish.terms)}
    sale |= {"name_is_held": not order_book.lacks_name(order)}
    return challenged(order, sale, lambda: tokens.challenge_of_new(this_shop(), order, buyer))


def _wish() -> orders.Wish:
    form = bodies.form_of(OrderForm, routes.body(), this_shop().config.space_sizes_mb)
    bodies.check(form)
    return orders.Wish(
        terms=form.terms(),
        username=form.username.data or None,
        email=form.email.data or None,
        password=form.password.data or None,
        browser=None,
        client=networks.network(),
        form_id=idempotency_key() or browsers.new_form_id(),
        proof=_proof(),
    )


def _proof() -> tuple[str, int] | None:
    """The receipt of a closed hosting, if it was shown: its holder may have the name again."""
    try:
        shown = authorization.credentials(request.environ)
    except l402.Invalid:
        return None
    for credential in shown:
        try:
            proof = tokens.last_hosting(this_shop(), credential.macaroon, credential.preimage)
        except l402.Invalid:
            continue
        if proof:
            return proof
    return None


def _bought(found: Holder, wish: orders.Wish) -> Response:
    check_able(found, "read")
    order = tokens.opening_order(found.account)
    by_owner = found.rights.are_whole
    if order is None or not orders.is_as_asked(this_shop(), order, wish, by_owner):
        raise ApiError(
            409,
            "changed",
            "This credential is of a hosting that was ordered differently. Send what was ordered, "
            "to see it again, or send this without a credential to buy another one.",
        )
    is_ready = wait_for(lambda: _is_ready(found.account.id))
    return told(found, 201 if is_ready else 202)


def _is_ready(account_id: str) -> bool:
    ready = (Account.id == account_id) & Account.ready_at.is_null(False)
    return Account.select().where(ready).exists()


# -- more time, another size -----------------------------------------------------------


@blueprint.post("/hosting/extend")
@described(
    "Buy more time",
    {200: "HostingAsTold", 202: "HostingAsTold"},
    capability="pay",
    fields=TIME_FIELDS,
    required=("duration", "unit"),
    sells="more time",
    price=PRICE_OF_TIME,
    codes=("refused", "changed", "setting_up"),
    note="202: it is paid and takes effect in a moment. Send the same again: that sells nothing. "
    "The credential of an extension is good for it once: the same body, sent again with that "
    "credential, is sold again. It stays a credential of the hosting, like the one that was shown "
    "to order it.",
)
@sells
def extend():
    """Sell more time. A token is good once for what it paid; then the same is sold again."""
    found = holder()
    form = bodies.form_of(ExtendForm, routes.body())
    bodies.check(form)
    asked = form.duration.data, form.unit.data
    own = found.order
    if own and _has_bought_time(own) and own.redeemed_at is None:
        _check_paid_for(own, asked)
        # A 202 does not use the token up: whoever sends the same again must not get an invoice.
        if not wait_for(lambda: is_applied(own.token)):
            return told(found, 202)
        if orders.redeem(own.token):
            return told(found)
    check_opened(found)
    order = placed(lambda: orders.extend(this_shop(), found.account.id, *asked, new_buyer(found)))
    if order.paid_at is not None:
        if not wait_for(lambda: is_applied(order.token)):
            return told(found, 202)
        orders.redeem(order.token)
        return told(found)
    terms = Terms(order.space_mb, *asked)
    offer = quotes.if_paid(this_shop(), found.account, order)
    sale = {"time": resources.time(terms), "paid_until": iso_time(offer.ends_at)}
    return payment_required(order, sale, found)


def _check_paid_for(own: Order, asked: tuple[int, str]) -> None:
    if (own.duration, own.unit) != asked:
        raise ApiError(
            409,
            "changed",
            f"This credential has paid for {own.duration} {own.unit} more. Ask for that.",
        )


def _has_bought_time(order: Order) -> bool:
    """Whether it bought time. A late order did, too: it opened a new hosting for that time."""
    return order.kind == OrderKind.EXTEND or (order.is_late and order.duration is not None)


@blueprint.post("/hosting/<username>/time")
@described(
    "Buy more time for anybody's hosting",
    {200: "TimeGiven", 202: "TimeGiven"},
    needs_none=True,
    fields=TIME_FIELDS,
    required=("duration", "unit"),
    sells="more time for a hosting",
    price=PRICE_OF_TIME,
    codes=(*codes.ONE, "refused", "changed", "too_late"),
    note="For whoever asks, while the hosting takes tips at its page: it is a tip of just that "
    "time. Paying gives no right over the hosting; the credential goes on standing for what the "
    "one that was shown stands for, and for that payment. Sent with it, the same body is answered "
    "once with the end, and then sold again. 202: it is paid and takes effect in a moment.",
)
@limits.limited("tips", lambda response: g.get("asked_node", False), limits.givers, limits.giver)
def give_time(username):
    """Sell time of a hosting to anybody, as a tip. A token is good once for what it paid."""
    giver = payer()
    form = bodies.form_of(ExtendForm, routes.body())
    bodies.check(form)
    asked = form.duration.data, form.unit.data
    own = giver.order if giver else None
    if own and _has_given_time(own, username) and own.redeemed_at is None:
        _check_paid_for(own, asked)
        answer = _given(own)
        # As for an extension: only what has taken effect uses the token up.
        if answer.status_code == 202 or orders.redeem(own.token):
            return answer
    account = taker(username)
    order = placed(lambda: orders.give_time(this_shop(), account.id, *asked, new_form_id()))
    if own and own.token == order.token:
        return _given(own)
    offer = quotes.if_paid(this_shop(), account, order)
    ends_at = offer.ends_at if account.tips_show_end else None
    sale = {
        "site": hostnames.site_name(this_shop(), username),
        "time": resources.time(order_book.terms_of(order)),
        "paid_until": iso_or_none(ends_at),
    }
    return challenged(order, sale, lambda: tokens.challenge_of_giver(this_shop(), order, giver))


def _has_given_time(order: Order, username: str) -> bool:
    """Whether it bought time as a tip: for this name, or too late for any."""
    if not order_book.is_tip(order) or order.duration is None:
        return False
    if order.account is None:
        return order.applied_at is None
    return order.account.username == username


def _given(order: Order) -> Response:
    """What time that somebody has paid for has done. Raises ApiError when it came too late."""
    is_there = not order_book.is_too_late(order) and wait_for(lambda: is_applied(order.token))
    order = order_book.find(order.token)
    account = order and order.account
    if account is None or order_book.is_too_late(order):
        detail = "This was paid when the hosting was being deleted, and bought nothing."
        raise ApiError(409, "too_late", detail)
    answer = {
        "username": account.username,
        "site": hostnames.site_name(this_shop(), account.username),
        "applied": is_there,
        "paid_until": iso_or_none(tips.paid_until(account)) if is_there else None,
    }
    return success(answer) if is_there else success(answer, 202, Retry_After="3")


@blueprint.post("/hosting/resize")
@described(
    "Change the size",
    {200: "HostingAsTold"},
    capability="pay",
    fields=SIZE_FIELDS,
    sells="a larger size",
    price=PRICE_OF_SIZE,
    codes=codes.SIZE_SALE,
    note="What is not sent stays as it is. A larger size costs the difference until the same "
    "end; a smaller one is had at once, and makes what is paid last longer.",
)
@sells
def resize():
    """Sell another size; fields that are not sent stay as they are."""
    found = holder()
    body = routes.body()
    wait_for_own_order(found)
    sizes, size = this_shop().config.space_sizes_mb, Size.of(account_now(found))
    form = bodies.form_of(ResizeForm, body, sizes, size)
    bodies.check(form)
    check_opened(found)
    return sell_size(found, form.size()) or told(found)
