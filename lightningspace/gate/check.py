"""nginx asks here before it serves what is behind the gate. WSGI, in front of Flask.

A pass is checked without a database. nginx is told in headers what to do: see `answers`.
"""

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property

from flask import Flask
from peewee import PeeweeException
from werkzeug.datastructures import MIMEAccept
from werkzeug.http import parse_accept_header

from lightningspace.base.clock import now
from lightningspace.gate import credentials, selling
from lightningspace.gate.answers import RETRY_SECONDS, Passes, Refuses, ShowsPage
from lightningspace.gate.buckets import Buckets
from lightningspace.gate.credentials import NOTHING, Shown
from lightningspace.gate.services import Gate, Service
from lightningspace.outside import l402
from lightningspace.outside.node import NodeError
from lightningspace.shop import Shop
from lightningspace.visitors import authorization, networks
from lightningspace.visitors.limits import Exceeded

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
    def has_body(self) -> bool:
        """By its headers: whatever the method, a body that is sent would have to be read."""
        length = self.environ.get("HTTP_X_GATE_LENGTH", "0")
        return length != "0" or "HTTP_X_GATE_CODING" in self.environ

    @property
    def wants_page(self) -> bool:
        """Whether a person's browser asks, which prefers HTML to anything else that it names."""
        written = self.environ.get("HTTP_ACCEPT", "")
        if self.has_body or "text/html" not in written:
            return False
        accepted = parse_accept_header(written, MIMEAccept)
        named = {kind: quality for kind, quality in accepted if "*" not in kind}
        return named.get("text/html", 0) == max(named.values()) > 0

    @cached_property
    def network(self) -> str:
        return networks.neighbourhood(networks.sender(self.environ, self.hops))


class Check:
    """The shop's WSGI application with the check in front."""

    def __init__(self, app: Flask):
        self._app, self._inner = app, app.wsgi_app
        gate: Gate = app.extensions["gate"]
        self._services = {service.name: service for service in gate.services}
        self._buckets = Buckets()

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
        answer = self._guarded(Asked(environ, service, self._shop.config.proxy_hops))
        start_response(answer.status, answer.lines())
        return []

    def _guarded(self, asked: Asked) -> Answer:
        try:
            answer = self._answer(asked)
        except PeeweeException as error:
            logger.error("the gate's database does not answer: %s", type(error).__name__)
            answer = Refuses(503, "unavailable", "Please try again soon.", RETRY_SECONDS)
        if asked.service.dry_run and not isinstance(answer, Passes):
            return self._passes(asked, NOTHING)
        return answer

    def _answer(self, asked: Asked) -> Answer:
        service = asked.service
        if asked.terms == "free":
            return self._passes(asked, NOTHING)
        try:
            found = credentials.of(asked.environ, service.name)
            revoked = self._app.extensions["revoked"]
            shown = credentials.look(self._shop.keys, service.name, found, revoked, now())
        except l402.Invalid as error:
            shown = Shown(forged=error)
        who = shown.token_id if shown.rights else asked.network
        wait = self._buckets.take(service.limits, service.name, who)
        if wait:
            detail = "Too many requests in a short time. Send the same again later."
            return Refuses(429, "too_many_requests", detail, max(1, -int(-wait // 1)))
        if shown.rights:
            return self._of_holder(asked, shown)
        return self._unpaid(asked, shown)

    def _of_holder(self, asked: Asked, shown: Shown) -> Answer:
        service = asked.service
        if service.capabilities:
            needed = service.capability_for(asked.method)
            if needed is None:
                return Refuses(403, "not_sold", "This service does not take this method.")
            if needed not in (shown.rights.capabilities or ()):
                detail = f"This credential lacks the capability “{needed}”."
                return Refuses(403, "not_capable", detail)
        return self._passes(asked, shown)

    def _unpaid(self, asked: Asked, shown: Shown) -> Answer:
        if shown.forged:
            why = str(shown.forged)
            detail = f"{why[:1].upper()}{why[1:]}."
            return Refuses(401, "unauthorized", detail, challenge=(authorization.BARE,))
        if asked.terms == "no-invoice":
            detail = "This needs the L402 credential of a service. No invoice is made here."
            return Refuses(401, "unauthorized", detail, challenge=(authorization.BARE,))
        if asked.method in ("HEAD", "OPTIONS"):
            return selling.not_asked(asked.service)
        if asked.wants_page:
            return ShowsPage()
        try:
            self._app.extensions["limits"].take(
                "gate",
                self._shop.vault.mac("network", asked.network),
                self._shop.config.gate_limit,
                self._shop.config.gate_limit_overall,
            )
            sold = selling.challenge(self._shop, asked.service, shown)
        except Exceeded as exceeded:
            detail = "Too many invoices in a short time. Send the same again later."
            return Refuses(429, "too_many_requests", detail, exceeded.seconds)
        except NodeError as error:
            logger.warning("the gate: no invoice for %s: %s", asked.service.name, error)
            return selling.node_down(error)
        return selling.payment_required(sold)

    def _passes(self, asked: Asked, shown: Shown) -> Passes:
        headers = {}
        if shown.rights:
            headers["X-L402-Token-Id"] = shown.token_id
        if asked.service.upstream:
            kept = credentials.cookies_of_others(asked.environ.get("HTTP_COOKIE", ""))
            headers["X-Gate-Cookie"] = kept
        return Passes({name: value for name, value in headers.items() if value})
