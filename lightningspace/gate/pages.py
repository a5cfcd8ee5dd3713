"""What people see of the gate: a page with an invoice, in place of what they asked for."""

import logging
import re

from flask import Blueprint, Response, current_app, redirect, render_template, request
from werkzeug.exceptions import NotFound

from lightningspace.base.clock import DAY, now
from lightningspace.gate import credentials, selling
from lightningspace.gate.credentials import COOKIE, UNPAID, Shown
from lightningspace.gate.selling import Challenge
from lightningspace.gate.services import Gate, Service
from lightningspace.outside import l402
from lightningspace.outside.node import NodeError
from lightningspace.shop import this_shop
from lightningspace.visitors import limits, networks

logger = logging.getLogger(__name__)

blueprint = Blueprint("gate", __name__)

# How often the page of an unpaid invoice looks again.
LOOK_SECONDS = 5
# An address of this host, to go back to: not one that browsers read as another host's.
OWN_ADDRESS = re.compile(r"/(?![/\\])[\x21-\x7e]*")


def this_gate() -> Gate:
    return current_app.extensions["gate"]


def shown(service: Service) -> Shown:
    """What this request has shown for a service; what cannot be read is nothing here."""
    try:
        found = credentials.of(request.environ, service.name)
    except l402.Invalid:
        return credentials.NOTHING
    revoked = current_app.extensions["gate_upkeep"].revoked
    return credentials.look(this_shop().keys, service.name, found, revoked, now())


@blueprint.get("/gate/pay")
def pay():
    """The page that nginx shows instead of a service; once its invoice is paid, it leads back.

    Only here is the node asked whether that is so: the cookie then holds a whole credential.
    """
    service = this_gate().service(request.headers.get("X-Gate-Service", ""))
    address = request.headers.get("X-Gate-Uri", "/")
    if service is None or not OWN_ADDRESS.fullmatch(address):
        raise NotFound
    try:
        sold, preimage = _unpaid(service) or (None, None)
        if preimage:
            return _let_in(sold, preimage, address)
        if sold is None or sold.invoice.expires_at <= now():
            _count_invoice()
            before = shown(service)
            selling.credit(current_app.extensions["gate_upkeep"].meter, before)
            sold = selling.challenge(this_shop(), service, before)
    except NodeError as error:
        logger.warning("the gate: no invoice for %s: %s", service.name, error)
        return _page(503, service, address), 503
    response = Response(_page(402, service, address, sold), 402)
    for line in sold.lines:
        response.headers.add("WWW-Authenticate", line)
    _set_cookie(response, service, UNPAID, str(sold.macaroon), sold.invoice.expires_at + DAY)
    return response


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
    found = this_shop().node.find_by_hash(macaroon.payment_hash.hex())
    if found is None:
        return None
    invoice, preimage = found
    return Challenge(service, invoice, macaroon), preimage


def _let_in(sold: Challenge, preimage: str, address: str) -> Response:
    response = redirect(address, 303)
    service, credential = sold.service, f"{sold.macaroon}:{preimage}"
    _set_cookie(response, service, "", credential, sold.valid_until)
    response.delete_cookie(f"{COOKIE}{service.name}{UNPAID}", **_kind())
    return response


def _set_cookie(response: Response, service: Service, which: str, value: str, until: int) -> None:
    name, lasts = f"{COOKIE}{service.name}{which}", max(0, until - now())
    response.set_cookie(name, value, max_age=lasts, **_kind())


def _kind() -> dict:
    return {"httponly": True, "samesite": "Lax", "secure": request.is_secure}


def _page(status: int, service: Service, address: str, sold: Challenge | None = None) -> str:
    return render_template(
        "gate/pay.html",
        status=status,
        service=service,
        address=address,
        sold=sold,
        costs=selling.costs(service) if service.bundle else None,
        look_seconds=LOOK_SECONDS,
    )
