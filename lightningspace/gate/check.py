"""The check: nginx asks here before it serves what is behind the gate. WSGI, in front of Flask.

A pass is checked without a database. nginx is told in headers what to do: see `answers`.
"""

import logging
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property

from flask import Flask
from peewee import PeeweeException
from werkzeug.datastructures import MIMEAccept
from werkzeug.http import parse_accept_header

from lightningspace.base.clock import now
from lightningspace.base.logs import first_line
from lightningspace.base.models import drop_connection
from lightningspace.gate import credentials, selling
from lightningspace.gate.addresses import as_served
from lightningspace.gate.answers import (
    RETRY_SECONDS,
    Passes,
    Refuses,
    ShowsPage,
    too_many,
    unauthorized,
)
from lightningspace.gate.balances import Busy
from lightningspace.gate.buckets import Buckets
from lightningspace.gate.counts import Freebies
from lightningspace.gate.credentials import NOTHING, Shown
from lightningspace.gate.disks import Disks
from lightningspace.gate.services import Gate, Service
from lightningspace.gate.upkeep import Upkeep
from lightningspace.outside import l402, request_price
from lightningspace.outside.node import NodeError
from lightningspace.outside.request_price import PriceUnknown
from lightningspace.rules.restored import Restoring
from lightningspace.shop import Shop
from lightningspace.visitors import networks
from lightningspace.visitors.limits import Exceeded, Limits

logger = logging.getLogger(__name__)

PATH = "/gate/check"
Answer = Passes | ShowsPage | Refuses


@dataclass(frozen=True)
class Asked:
    """What nginx asks about: a request for a service."""

    environ: dict
    service: Service
    hops: int

    @property
    def method(self) -> str:
        return self.environ.get("HTTP_X_GATE_METHOD", "GET")

    @property
    def terms(self) -> str:
        """ "paid", "free" or "no-invoice", by its path."""
        return self.environ.get("HTTP_X_GATE_TERMS", "paid")

    @property
    def uri(self) -> str:
        return self.environ.get("HTTP_X_GATE_URI", "/")

    @property
    def has_passed(self) -> bool:
        """Whether nginx asks again about a request that it redirects internally, as to an index."""
        return self.environ.get("HTTP_X_GATE_PASSED") == self.service.name

    @property
    def reserved(self) -> str:
        """What was reserved for this request before; "" if nothing was."""
        return self.environ.get("HTTP_X_GATE_RESERVED", "")

    @property
    def length(self) -> int | None:
        """The length of its body; None: it does not say, and may have a body."""
        written = self.environ.get("HTTP_X_GATE_LENGTH", "")
        if written.isascii() and written.isdigit():
            return int(written[:18])
        is_said = self.method != "PUT" and "HTTP_X_GATE_CODING" not in self.environ
        return 0 if is_said else None

    @property
    def has_body(self) -> bool:
        """Whether its headers announce a body, which would have to be read whatever the method."""
        length = self.environ.get("HTTP_X_GATE_LENGTH", "0")
        return length != "0" or "HTTP_X_GATE_CODING" in self.environ

    @property
    def wants_page(self) -> bool:
        """Whether a person's browser asks: one that prefers HTML to all else that it accepts."""
        written = self.environ.get("HTTP_ACCEPT", "")
        if self.has_body or "text/html" not in written:
            return False
        accepted = parse_accept_header(written, MIMEAccept)
        named = {kind: quality for kind, quality in accepted if "*" not in kind}
        wanted = named.get("text/html", 0)
        return wanted > 0 and wanted == max(named.values())

    @cached_property
    def network(self) -> str:
        return networks.neighbourhood(networks.sender(self.environ, self.hops))


class Check:
    """The shop's WSGI application with the check in front."""

    def __init__(self, app: Flask):
        self._app, self._inner = app, app.wsgi_app
        gate: Gate = app.extensions["gate"]
        self._services = {service.name: service for service in gate.services}
        self._upkeep: Upkeep = app.extensions["gate_upkeep"]
        self._buckets, self._freebies, self._disks = Buckets(), Freebies(), Disks()

    @property
    def _shop(self) -> Shop:
        return self._app.extensions["shop"]

    def __call__(self, environ: dict, start_response: Callable) -> Iterable[bytes]:
        if environ["PATH_INFO"] != PATH:
            return self._inner(environ, start_response)
        service = self._services.get(environ.get("HTTP_X_GATE_SERVICE", ""))
        if service is None:
            start_response("404 Not Found", [("Content-Length", "0")])
            return []
        self._upkeep.begin()
        answer = self._guarded(Asked(environ, service, self._shop.config.proxy_hops))
        length = [] if isinstance(answer, Passes) else [("Content-Length", "0")]
        start_response(answer.status, answer.lines() + length)
        return []

    def _guarded(self, asked: Asked) -> Answer:
        service = asked.service
        try:
            answer = self._answer(asked)
        except PeeweeException as error:
            logger.error("the gate's database does not answer: %s", first_line(error))
            drop_connection()
            answer = Refuses(503, "unavailable", "Please try again soon.", RETRY_SECONDS)
        except Busy:
            answer = Refuses(503, "busy", "Please try again in a moment.", 1)
        if not asked.has_passed:
            self._upkeep.counts.add(service.name, answer.outcome)
        if service.dry_run and not isinstance(answer, Passes):
            return self._passes(asked, NOTHING)
        return answer

    def _answer(self, asked: Asked) -> Answer:
        service = asked.service
        if asked.terms == "free":
            return self._passes(asked, NOTHING, "free")
        try:
            found = credentials.of(asked.environ, service.name)
            keys, revoked = self._shop.keys, self._upkeep.revoked
            shown = credentials.look(keys, service.name, found, revoked, now())
        except l402.Invalid as error:
            shown = Shown(forged=error)
        if asked.has_passed:
            return self._passes(asked, shown, reserved=asked.reserved)
        who = shown.token_id if shown.rights else asked.network
        wait = self._buckets.take(service.limits, service.name, who)
        if wait:
            return too_many("requests", max(1, math.ceil(wait)))
        if shown.rights:
            return self._of_holder(asked, shown)
        return self._of_stranger(asked, shown)

    # -- who has paid ----------------------------------------------------------------

    def _of_holder(self, asked: Asked, shown: Shown) -> Answer:
        service = asked.service
        if service.capabilities:
            needed = service.capability_for(asked.method)
            if needed is None:
                return Refuses(403, "not_sold", "This service does not take this method.")
            if needed not in (shown.rights.capabilities or ()):
                detail = f"This credential lacks the capability “{needed}”."
                return Refuses(403, "not_capable", detail)
        if service.disk:
            whose = service, shown.token_id, shown.rights.valid_until
            refused = self._disks.refusal(*whose, asked.method, asked.uri, asked.length)
            if refused:
                return refused
        if service.bundle and not service.dry_run:
            return self._metered(asked, shown)
        return self._passes(asked, shown, is_kept=not service.limits and not service.disk)

    def _metered(self, asked: Asked, shown: Shown) -> Answer:
        service, meter = asked.service, self._upkeep.meter
        selling.credit(meter, shown)
        try:
            price = self._price(asked)
            balance = meter.reserve((shown.token_id, service.name), price)
        except PriceUnknown as error:
            logger.warning("the gate: no price of a request for %s: %s", service.name, error)
            return Refuses(503, "no_price", "What this costs is not known now.", RETRY_SECONDS)
        if balance is None:
            return self._unpaid(asked, shown, price)
        return self._passes(asked, shown, reserved=str(price), balance=balance)

    def _price(self, asked: Asked) -> int:
        """What to reserve for a request. Raises PriceUnknown."""
        bundle = asked.service.bundle
        if bundle.price_url:
            # Written in another way, an address could look like a cheaper one.
            served = as_served(asked.uri)
            return request_price.fetch(bundle.price_url, bundle.price_msat, asked.method, served)
        return bundle.reserve_msat

    # -- who has not -----------------------------------------------------------------

    def _of_stranger(self, asked: Asked, shown: Shown) -> Answer:
        service = asked.service
        if shown.forged:
            return unauthorized(shown.forged)
        if service.freebie and shown.macaroon is None:
            network = self._shop.vault.mac("freebie", asked.network)
            if self._freebies.take(service.name, network, service.freebie):
                return self._passes(asked, NOTHING, "freebie")
        return self._unpaid(asked, shown)

    def _unpaid(self, asked: Asked, shown: Shown, price: int | None = None) -> Answer:
        """`price`: of a request that the balance no longer pays for."""
        service = asked.service
        if asked.terms == "no-invoice":
            return unauthorized("this needs a credential of the service: no invoice is made here")
        if service.dry_run or asked.method in ("HEAD", "OPTIONS"):
            return selling.not_asked(service)
        if asked.wants_page:
            return ShowsPage()
        config = self._shop.config
        whose = self._shop.vault.mac("network", asked.network)
        limits: Limits = self._app.extensions["limits"]
        try:
            limits.take("gate", whose, config.gate_limit, config.gate_limit_overall)
            selling.credit(self._upkeep.meter, shown)
            sold = selling.challenge(self._shop, service, shown)
        except Exceeded as exceeded:
            return too_many("invoices", exceeded.seconds)
        except (NodeError, Restoring) as error:
            logger.warning("the gate: no invoice for %s: %s", service.name, error)
            return selling.not_now(error)
        facts = {} if price is None else self._what_is_left(shown, service, price)
        return selling.payment_required(sold, **facts)

    def _what_is_left(self, shown: Shown, service: Service, price: int) -> dict:
        found = self._upkeep.meter.left((shown.token_id, service.name))
        return {"balance_msat": found[0] if found else 0, "request_msat": price}

    def _passes(
        self,
        asked: Asked,
        shown: Shown,
        outcome: str = "passed",
        reserved: str = "",
        balance: int | None = None,
        is_kept: bool = False,
    ) -> Passes:
        headers = {"X-Gate-Reserved": reserved}
        if asked.terms != "free":
            headers["X-Gate-Passed"] = asked.service.name
        if is_kept:
            # How long nginx may cache it, if it has a cache: a revocation takes as long.
            headers["X-Accel-Expires"] = "1"
        if shown.rights:
            headers["X-L402-Token-Id"] = shown.token_id
        if balance is not None:
            headers["X-Gate-Balance"] = str(balance)
        if asked.service.upstream:
            kept = credentials.cookies_of_others(asked.environ.get("HTTP_COOKIE", ""))
            headers["X-Gate-Cookie"] = kept
        return Passes({name: value for name, value in headers.items() if value}, outcome)
