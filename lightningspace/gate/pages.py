"""What people see of the gate: a page with an invoice, in place of what they asked for."""

import json
import logging
import re
from functools import partial

from flask import (
    Blueprint,
    Response,
    current_app,
    jsonify,
    redirect,
    render_template,
    request,
    url_for,
)
from werkzeug.exceptions import HTTPException, NotFound, ServiceUnavailable, default_exceptions

from lightningspace.base.clock import DAY, now
from lightningspace.gate import credentials, selling
from lightningspace.gate.answers import PROBLEM, Refuses, too_many, unauthorized
from lightningspace.gate.balances import Busy
from lightningspace.gate.credentials import COOKIE, UNPAID, Shown
from lightningspace.gate.selling import Challenge, Holding
from lightningspace.gate.services import Gate, Service
from lightningspace.gate.upkeep import Upkeep
from lightningspace.outside import l402
from lightningspace.outside.l402 import Macaroon
from lightningspace.outside.node import NodeError
from lightningspace.rules.restored import Restoring
from lightningspace.shop import this_shop
from lightningspace.visitors import limits, networks

logger = logging.getLogger(__name__)

blueprint = Blueprint("gate", __name__)

# How often the page of an unpaid invoice looks again.
LOOK_SECONDS = 5
# An address on this host to go back to: none that browsers read as another host's.
ADDRESS_MAX = 1000
OWN_ADDRESS = re.compile(r"/(?![/\\])[\x21-\x7e]*")


def this_gate() -> Gate:
    return current_app.extensions["gate"]


def _upkeep() -> Upkeep:
    upkeep: Upkeep = current_app.extensions["gate_upkeep"]
    upkeep.begin()  # this process may have checked nothing yet
    return upkeep


def shown(service: Service) -> Shown:
    """What this request shows for a service; what cannot be read counts as nothing here."""
    try:
        found = credentials.of(request.environ, service.name)
    except l402.Invalid:
        return credentials.NOTHING
    return credentials.look(this_shop().keys, service.name, found, _upkeep().revoked, now())


def refused(error: HTTPException):
    if error.response is not None:
        return error.response
    seconds = getattr(error, "retry_after", None)
    if error.code == 429 and not _is_person():
        return _problem(too_many("invoices", seconds))
    if not _is_person():
        return _problem(Refuses(error.code, "refused", f"{error.name}.", seconds or 0))
    page = render_template("gate/error.html", code=error.code, seconds=seconds)
    return page, error.code, {"Retry-After": str(seconds)} if seconds else {}


@blueprint.errorhandler(Busy)
def busy(error: Busy):
    return refused(ServiceUnavailable(retry_after=1))


for code in default_exceptions:  # each by itself, or the app's handlers would come first
    blueprint.register_error_handler(code, refused)


@blueprint.get("/gate/pay")
def pay():
    """The page that nginx shows instead of a service; once its invoice is paid, it leads back."""
    service = this_gate().service(request.headers.get("X-Gate-Service", ""))
    address = request.headers.get("X-Gate-Uri", "/")
    if service is None or not OWN_ADDRESS.fullmatch(address):
        raise NotFound
    return _sell(service, address)


@blueprint.get("/gate/wait/<name>")
def wait(name):
    """Where a page with an invoice goes on. A browser that keeps no cookies is told so before it
    pays: each time it would be shown another invoice.
    """
    service, address = _service(name), request.args.get("then", "/")
    if not OWN_ADDRESS.fullmatch(address):
        raise NotFound
    if credentials.cookie(request.environ, name, UNPAID):
        return _sell(service, address)
    if credentials.cookie(request.environ, name):  # it is paid, in another window
        return redirect(address, 303)
    return render_template("gate/cookies.html", service=service, address=address), 403


def _sell(service: Service, address: str) -> Response:
    """A page with an invoice, or, once that is paid, the way to `address`.

    Only here is the node asked whether it is paid; the cookie then holds a whole credential.
    """
    if request.method == "HEAD":
        return _problem(selling.not_asked(service))
    try:
        sold, preimage = _unpaid(service) or (None, None)
        if preimage:
            return _let_in(sold, preimage, address)
        if sold is None or sold.invoice.expires_at <= now():
            sold = _new_invoice(service, shown(service))
    except (NodeError, Restoring) as error:
        logger.warning("the gate: no invoice for %s: %s", service.name, error)
        return _page(503, service, address, why_not=error.text)
    response = _page(402, service, address, sold)
    for line in sold.lines:
        response.headers.add("WWW-Authenticate", line)
    _set_cookie(response, service, UNPAID, str(sold.macaroon), sold.invoice.expires_at + DAY)
    return response


def _new_invoice(service: Service, before: Shown) -> Challenge:
    """Raises NodeError, Restoring and TooManyRequests."""
    _count_invoice()
    selling.credit(_upkeep().meter, before)
    return selling.challenge(this_shop(), service, before)


def _count_invoice() -> None:
    config = this_shop().config
    network = networks.neighbourhood(networks.sender(request.environ, config.proxy_hops))
    limits.take("gate", config.gate_limit, config.gate_limit_overall, network)


def _unpaid(service: Service) -> tuple[Challenge, str | None] | None:
    """The invoice that this browser was shown last, and its preimage once it is paid."""
    try:
        macaroon = l402.read(credentials.cookie(request.environ, service.name, UNPAID))
        this_shop().keys.check_minted(macaroon)
        l402.rights(macaroon, service.name, now())
    except l402.Invalid:
        return None
    payment_hash = macaroon.payment_hash.hex()
    look = partial(this_shop().node.find_by_hash, payment_hash)
    found = current_app.extensions["gate_looks"].at(payment_hash, look)
    if found is None:
        return None
    invoice, preimage = found
    return Challenge(service, invoice, macaroon), preimage


def _let_in(sold: Challenge, preimage: str, address: str) -> Response:
    response = redirect(address, 303)
    selling.credit(_upkeep().meter, Shown(sold.macaroon))
    service, credential = sold.service, f"{sold.macaroon}:{preimage}"
    _set_cookie(response, service, "", credential, sold.valid_until)
    response.delete_cookie(f"{COOKIE}{service.name}{UNPAID}", **_kind())
    return response


def _set_cookie(response: Response, service: Service, which: str, value: str, until: int) -> None:
    name, lasts = f"{COOKIE}{service.name}{which}", max(0, until - now())
    response.set_cookie(name, value, max_age=lasts, **_kind())


def _kind() -> dict:
    return {"httponly": True, "samesite": "Lax", "secure": request.is_secure}


def _page(
    status: int,
    service: Service,
    address: str,
    sold: Challenge | None = None,
    why_not: str | None = None,
) -> Response:
    text = render_template(
        "gate/pay.html",
        service=service,
        address=address,
        sold=sold,
        why_not=why_not,
        costs=selling.costs(service) if service.bundle else None,
        look_seconds=LOOK_SECONDS,
        # The page's own address: nginx shows it at the address that was asked for.
        here=address if request.endpoint == "gate.pay" else request.full_path,
        wait=url_for("gate.wait", name=service.name, then=_short(service, address)),
        sandbox_pays="sandbox_gate" in current_app.blueprints,
    )
    return Response(text, status)


def _short(service: Service, address: str) -> str:
    """The address, unless it is so long that one with it inside would be too long for nginx."""
    return address if len(address) <= ADDRESS_MAX else service.location


# -- what is left ----------------------------------------------------------------------


@blueprint.get("/gate/balance")
def balance():
    """What a program's credential, or a browser's cookies, are good for."""
    if not _is_person():
        try:
            macaroon = _authentic()
        except l402.Invalid as error:
            return _problem(unauthorized(error))
        if macaroon is None:
            return _problem(unauthorized("this needs the credential of a service"))
        return _told(macaroon)
    found = {}
    for service in this_gate().services:
        kept = shown(service)
        selling.credit(_upkeep().meter, kept)
        for each in _holdings(kept.macaroon) if kept.rights else ():
            if each.service == service:
                found[service.name] = each
    return render_template("gate/balance.html", gate=this_gate(), found=found)


@blueprint.get("/gate/topup/<name>")
def top_up_page(name):
    """The page where a person pays for one more bundle or pass; then it leads to the balance."""
    return _sell(_service(name), url_for("gate.balance"))


@blueprint.post("/gate/topup/<name>")
def top_up(name):
    """Sell one more bundle or pass to a program, for the token id that it shows.

    If its credential has just paid for a bundle, that is credited, and the balance is answered.
    """
    service = _service(name)
    try:
        before = Shown(_authentic())
        is_new = selling.credit(_upkeep().meter, before)
    except l402.Invalid as error:
        return _problem(unauthorized(error))
    if is_new:
        return _told(before.macaroon)
    try:
        return _problem(selling.payment_required(_new_invoice(service, before)))
    except (NodeError, Restoring) as error:
        logger.warning("the gate: no invoice for %s: %s", service.name, error)
        return _problem(selling.not_now(error))


def _service(name: str) -> Service:
    service = this_gate().service(name)
    if service is None:
        raise NotFound
    return service


def _authentic() -> Macaroon | None:
    """The macaroon of this request's credential; None: it has none. Raises l402.Invalid."""
    found = credentials.in_headers(request.environ)
    return credentials.authentic(this_shop().keys, found, _upkeep().revoked)


def _holdings(macaroon: Macaroon) -> list[Holding]:
    return selling.holdings(this_gate(), _upkeep().meter, macaroon)


def _told(macaroon: Macaroon) -> Response:
    return jsonify(services=[each.told() for each in _holdings(macaroon)])


def _is_person() -> bool:
    return "text/html" in request.headers.get("Accept", "")


def _problem(answer: Refuses) -> Response:
    response = Response(json.dumps(answer.problem()), answer.code, mimetype=PROBLEM)
    for line in answer.challenge:
        response.headers.add("WWW-Authenticate", line)
    if answer.retry_after:
        response.headers["Retry-After"] = str(answer.retry_after)
    return response
