"""The API for programs: who asks, what is sold to them, and how it is paid. No cookie counts.

Other modules add routes of theirs to `api`. A credential is the L402 token of a hosting; invoices
are minted by the POSTs that sell something, and by nothing else.
"""

import logging
import re
import time
from collections.abc import Callable
from threading import BoundedSemaphore

from flask import Blueprint, Response, g, request, url_for

from lightningspace.api import answers, bodies, resources
from lightningspace.api.answers import ApiError, success
from lightningspace.api.bodies import TEXT, WHOLE, WRONG, BadBody
from lightningspace.base.clock import iso_time
from lightningspace.base.models import Account, Order, find
from lightningspace.base.prices import Size, Terms
from lightningspace.outside import l402
from lightningspace.outside.node import NodeError
from lightningspace.rules import ledger, order_book, orders, quotes, tokens, usage
from lightningspace.rules.tokens import Holder
from lightningspace.shop import this_shop
from lightningspace.visitors import authorization, browsers, limits, logins, networks
from lightningspace.visitors.authorization import Credential
from lightningspace.visitors.forms import TERMS_FIELDS, ExtendForm, OrderForm, PriceForm, ResizeForm

logger = logging.getLogger(__name__)
api = Blueprint("api", __name__, url_prefix="/api/v1")

# So long a request waits for the worker to record or apply what was paid; so many may at once, for
# each of them holds a thread.
WAIT_SECONDS = 3
LOOK_SECONDS = 0.1
_waiting = BoundedSemaphore(2)

KEY = re.compile(r"[\x21-\x7e]{16,200}")

ORDER_FIELDS = {"space_mb": WHOLE, "duration": WHOLE, "unit": TEXT}
ORDER_FIELDS |= {"username": TEXT, "password": TEXT, "email": TEXT}
TIME_FIELDS = {"duration": WHOLE, "unit": TEXT}
SIZE_FIELDS = dict.fromkeys(Size.__annotations__, WHOLE)

api.register_error_handler(ApiError, answers.of_api_error)
api.register_error_handler(BadBody, answers.of_bad_body)


@api.before_request
def check_key():
    """Whether or not something will be sold: who sends a key relies on it."""
    if request.method == "POST":
        idempotency_key()


# -- who asks --------------------------------------------------------------------------


def holder(capability: str) -> Holder:
    """Who has shown a credential that may do this. 401 without one has no invoice: a program that
    only wanted to look must not be made to buy.
    """
    try:
        found = _shown()
    except l402.Invalid as error:
        raise Unauthorized(error) from None
    if found is None:
        raise Unauthorized("this needs the L402 credential of a hosting")
    check_able(found, capability)
    return found


class Unauthorized(ApiError):
    def __init__(self, why: object):
        super().__init__(401, "unauthorized", f"{str(why)[:1].upper()}{str(why)[1:]}.")


@api.errorhandler(Unauthorized)
def unauthorized(error):
    response = answers.of_api_error(error)
    response.headers["WWW-Authenticate"] = authorization.BARE
    return response


def _shown() -> Holder | None:
    """The holder of the request's credential; of several, of the last good one. None: no
    credential. Raises l402.Invalid.
    """
    shown = authorization.credentials(request.environ)
    if not shown:
        return None
    found = wait_for(lambda: _last_good(shown))
    if found is None:
        raise ApiError(
            503,
            "not_settled",
            "The payment of this credential is not recorded yet. Send the same again soon; nothing "
            "needs to be paid twice.",
            retry_after=2,
        )
    logins.note_entry(found.account)
    return found


def _last_good(shown: list[Credential]) -> Holder | None:
    """None: one is good as soon as its payment is recorded, for who has the preimage has paid."""
    failures, one_waits = [], False
    for credential in shown:
        try:
            return tokens.holder(this_shop(), credential.macaroon, credential.preimage)
        except tokens.NotSettled:
            one_waits = True
        except l402.Invalid as error:
            failures.append(error)
    if one_waits:
        return None
    # What is forged weighs more than what is over: it must not be answered with an invoice.
    raise min(failures, key=lambda error: isinstance(error, l402.Void))


def check_able(found: Holder, capability: str) -> None:
    """Raise ApiError (403) unless it may."""
    if capability not in found.rights.capabilities:
        raise ApiError(403, "not_capable", f"This credential lacks the capability “{capability}”.")


def check_still(found: Holder) -> None:
    """Within a transaction: raise Unauthorized if its credential was revoked since it was shown."""
    try:
        tokens.check(found)
    except l402.Void as error:
        raise Unauthorized(error) from None


def wait_for(look: Callable):
    """The first true answer, or the last one when this request has waited three seconds in all."""
    answer = look()
    if answer or not _waiting.acquire(blocking=False):
        return answer
    try:
        if "waits_until" not in g:
            g.waits_until = time.monotonic() + WAIT_SECONDS
        while not (answer := look()) and time.monotonic() < g.waits_until:
            time.sleep(LOOK_SECONDS)
        return answer
    finally:
        _waiting.release()


# -- how often -------------------------------------------------------------------------


def holders() -> str:
    """As limits.customers, by the credential."""
    if "holders" not in g:  # each limit asks
        try:
            shown = authorization.credentials(request.environ)
            found = _last_good(shown) if shown else None
        except l402.Invalid:
            found = None
        g.holders = found.account.id if found else limits.STRANGERS
    return g.holders


sells = limits.limited("orders", lambda response: g.get("asked_node", False), holders)


# -- prices ----------------------------------------------------------------------------


@api.get("/prices")
def prices():
    """What is on offer, and the price of what is asked for. Asking mints nothing."""
    answer = resources.prices(this_shop())
    if any(name in request.args for name in TERMS_FIELDS):
        form = PriceForm(this_shop().config.space_sizes_mb, formdata=request.args)
        check(form)
        answer["price"] = resources.price(this_shop(), form.terms())
    return success(answer)


# -- a new hosting ---------------------------------------------------------------------


@api.post("/hosting")
@sells
def buy():
    """A new hosting; with its credential, the one that was bought."""
    wish = _wish()
    try:
        found = _shown()
    except l402.Void:  # of a hosting that is no more: another one may be bought
        found = None
    except l402.Invalid as error:
        raise Unauthorized(error) from None
    if found:
        return _bought(found, wish)
    order = placed(lambda: orders.place(this_shop(), wish))
    size = Size(wish.terms.space_mb)
    sale = {"size": resources.size(size), "time": resources.time(wish.terms)}
    return payment_required(order, sale | {"name_is_held": not order_book.lacks_name(order)})


def _wish() -> orders.Wish:
    body = bodies.read(ORDER_FIELDS)
    form = OrderForm(
        this_shop().config.space_sizes_mb, formdata=bodies.as_typed(body), meta={"csrf": False}
    )
    check(form)
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
    """The receipt of a closed hosting, which may have its name again."""
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
            "This credential is of a hosting that was ordered otherwise. Send what was ordered to "
            "see it again, or send this without a credential to buy another one.",
        )
    is_ready = wait_for(lambda: _is_ready(found.account.id))
    return told(found, 201 if is_ready else 202)


def _is_ready(account_id: str) -> bool:
    ready = (Account.id == account_id) & Account.ready_at.is_null(False)
    return Account.select().where(ready).exists()


def told(found: Holder, status: int = 200) -> Response:
    """The hosting as it is now; 202: not yet as it was asked to be."""
    headers = {"Location": url_for("api.hosting")} if status == 201 else {}
    if status == 202:
        headers = {"Retry_After": "3"}
    is_owner = found.rights.are_whole
    answer = resources.hosting(this_shop(), account_now(found), is_owner)
    if "read" not in found.rights.capabilities:
        answer = {name: answer[name] for name in resources.TERMS}
    return success(answer, status, **headers)


def account_now(found: Holder) -> Account:
    """As it is now, after a wait."""
    account = find(Account.id, found.account.id)
    if account is None:
        raise Unauthorized("what this token was for is closed")
    return account


@api.get("/hosting")
def hosting():
    found = holder("read")
    usage.opened(found.account)
    return told(found, 200 if found.account.ready_at else 202)


# -- more time, another size -----------------------------------------------------------


@api.post("/hosting/extend")
@sells
def extend():
    """More time. A token is good for what it paid once; then the same is sold again."""
    found = holder("pay")
    form = ExtendForm(formdata=bodies.as_typed(bodies.read(TIME_FIELDS)), meta={"csrf": False})
    check(form)
    asked = form.duration.data, form.unit.data
    own = found.order
    if own and _has_bought_time(own) and own.redeemed_at is None:
        if (own.duration, own.unit) != asked:
            raise ApiError(
                409,
                "changed",
                f"This credential has paid for {own.duration} {own.unit} more. Ask for that.",
            )
        # Who is told to come again must not meet another invoice then: it is not used up by that.
        if not wait_for(lambda: _is_applied(own.token)):
            return told(found, 202)
        if orders.redeem(own.token):
            return told(found)
    check_opened(found)
    order = placed(lambda: orders.extend(this_shop(), found.account.id, *asked, new_buyer(found)))
    if order.paid_at is not None:
        if not wait_for(lambda: _is_applied(order.token)):
            return told(found, 202)
        orders.redeem(order.token)
        return told(found)
    terms = Terms(order.space_mb, *asked)
    offer = quotes.if_paid(this_shop(), found.account, order)
    sale = {"time": resources.time(terms), "paid_until": iso_time(offer.ends_at)}
    return payment_required(order, sale, found.rights)


def _has_bought_time(order: Order) -> bool:
    """One whose hosting was gone has opened it anew, for the time that was asked for."""
    return order.kind == "extend" or (order.is_late and order.duration is not None)


@api.post("/hosting/resize")
@sells
def resize():
    """Another size; what is not sent stays as it is."""
    found = holder("pay")
    body = bodies.read(SIZE_FIELDS)
    wait_for_own_order(found)
    form = ResizeForm(
        this_shop().config.space_sizes_mb,
        ledger.size(account_now(found)),
        formdata=bodies.as_typed(body),
        meta={"csrf": False},
    )
    check(form)
    check_opened(found)
    return sell_size(found, form.size()) or told(found)


def sell_size(found: Holder, size: Size) -> Response | None:
    """402 for another size; None when nothing is to be paid, and the account has it now."""
    order = placed(lambda: orders.resize(this_shop(), found.account.id, size, new_buyer(found)))
    if order is None:
        return None
    if order.paid_at is not None:
        if not wait_for(lambda: _is_applied(order.token)):
            raise _takes_effect()
        return None
    return payment_required(order, {"size": resources.size(size)}, found.rights)


def sell_one_more(found: Holder, what: str) -> Response | None:
    """402 for one more of an extra; None when it is there now."""
    return sell_size(found, ledger.size(account_now(found)).with_one_more(what))


def wait_for_own_order(found: Holder) -> None:
    """Let what the shown credential has paid for take effect first."""
    own = found.order
    if own and own.applied_at is None and not wait_for(lambda: _is_applied(own.token)):
        raise _takes_effect()


def _is_applied(token: str) -> bool:
    applied = (Order.token == token) & Order.applied_at.is_null(False)
    return Order.select().where(applied).exists()


def _takes_effect() -> ApiError:
    detail = "This is paid, and takes effect in a moment. Send the same again soon."
    return ApiError(503, "takes_effect", detail, retry_after=2)


SETTING_UP = "The hosting is still being set up. Send the same again soon."
NOT_READY = ApiError(503, "setting_up", SETTING_UP, retry_after=3)


def check_opened(found: Holder) -> None:
    if found.account.ready_at is None:
        raise NOT_READY


# -- selling ---------------------------------------------------------------------------


def placed(place: Callable):
    """What `place` answers; why nothing is sold is said as an ApiError."""
    g.asked_node = True
    try:
        return place()
    except orders.NameReserved:
        wrong = ["This name is reserved. Choose another one."]
        raise BadBody(WRONG, {"username": wrong}) from None
    except orders.NameTaken:
        raise ApiError(409, "name_taken", "This name is taken.") from None
    except orders.SoldOut:
        raise ApiError(409, "sold_out", "This much space is not free just now.") from None
    except orders.TooManyUnpaid:
        detail = (
            "There are several unpaid orders already. Pay one, or wait until they are over; a new "
            "hosting can be ordered without a username."
        )
        raise ApiError(429, "too_many_unpaid", detail, retry_after=60) from None
    except quotes.ResizeWaits as waits:
        detail = "Another size is ordered already: pay that order, or cancel it."
        raise ApiError(409, "size_waits", detail, order=waits.token) from None
    except quotes.NotForSale as refused:
        raise ApiError(409, "refused", str(refused)) from None
    except NodeError as error:
        logger.warning("no invoice: %s", error)
        detail = "Our Lightning node does not answer. Nothing was charged. Try again soon."
        raise ApiError(503, "node_down", detail, retry_after=10) from None


def payment_required(order: Order, sale: dict, rights: l402.Rights = l402.WHOLE) -> Response:
    """402 with the order's invoice, and its token narrowed to the rights of who asks."""
    state = order_book.state(order)
    if state in ("preparing", "checking"):
        detail = "Whether this was paid in time is just being found out. Send the same again soon."
        raise ApiError(503, "checking", detail, retry_after=5)
    if state != "unpaid":
        detail = "This was ordered before with this key, and paid: send its credential along."
        raise ApiError(409, "ordered", detail)
    macaroon = str(tokens.challenge(this_shop(), order, rights))
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
    """The same request makes the same order: with an Idempotency-Key for ever, else until it is
    paid.
    """
    key, epoch = idempotency_key(), found.account.receipt_epoch
    if key:
        # Of a newer receipt it is another key: the older order's token would be void.
        return orders.Buyer(None, f"key {found.source} {epoch} {key}", found.source, epoch)
    paid = order_book.times_paid(found.account.id)
    return orders.Buyer(None, f"{found.mark} after {paid}", found.source, epoch)


def idempotency_key() -> str | None:
    key = request.headers.get("Idempotency-Key")
    if key is not None and not KEY.fullmatch(key):
        raise ApiError(400, "bad_key", "An Idempotency-Key has 16 to 200 signs, without blanks.")
    return key


def check(form) -> None:
    """Raise BadBody for what the form finds wrong."""
    if not form.validate():
        raise BadBody(WRONG, form.errors)
