"""A running nginx, tried from outside against gate.toml: `flask gate check`."""

import hashlib
import json
import re
import secrets
import time
from collections.abc import Iterator
from dataclasses import dataclass

from lightningspace.base.clock import now
from lightningspace.gate import nginx, tricks
from lightningspace.gate.addresses import paths
from lightningspace.gate.answers import RETRY_SECONDS, STATUSES
from lightningspace.gate.credentials import COOKIE
from lightningspace.gate.services import Gate, Service
from lightningspace.outside import l402
from lightningspace.outside.l402 import Rights
from lightningspace.outside.raw_http import Answer, NoAnswer, Site
from lightningspace.shop import Shop

# MIND: it is as gate.toml says, but perhaps not meant so.
GOOD, WRONG, MIND, NOT_TRIED = "good", "wrong", "mind", "not tried"

# How long the credentials of this check are good.
MINUTE = 60
# How long it waits when a limit says so, and how often it tries.
WAIT_SECONDS_MAX, TRIES = 5, 3
# How many addresses a line names.
NAMED = 3

WRITE = "`flask gate nginx <directory>` writes the files anew; then: nginx -t && nginx -s reload"
IN_BETWEEN = (
    "nginx does not ask the gate there: its location lacks `auth_request`, or another location "
    f"comes before it (one by a pattern does, where `^~` is missing). {WRITE}"
)
CHALLENGE = re.compile('(LSAT|L402) macaroon="([^"]+)", invoice="[^"]+"')
LIMITED = "a limit is reached: try again later"
# What nginx itself answers where it knows no such address, or sends on to one.
NOTHING_THERE = (301, 400, 404, 405)


class CannotCheck(Exception):
    """There is nothing to try; the text says why."""


@dataclass(frozen=True)
class Result:
    """`service`: "" if it is about all. `found`: what was answered. `advice`: what mends it."""

    service: str
    what: str
    result: str
    found: str = ""
    advice: str = ""


def check(shop: Shop, gate: Gate, url: str, echo: str = "") -> Iterator[Result]:
    """Try each service, and yield each result as it is known.

    It makes an invoice for each service, and one for a page, which nobody need pay. `echo`: a path
    of an upstream that answers with the headers that it got. Raises CannotCheck.
    """
    try:
        site = Site(url)
    except ValueError as error:
        raise CannotCheck(str(error)) from None
    echoing = _echoing(gate, echo) if echo else None
    probe = Probe(shop, gate, site)
    try:
        yield probe.reaches_the_shop()
        yield probe.is_as_written()
        yield probe.hides_its_own()
        for service in gate.services:
            yield from probe.of(service)
        if echoing:
            yield probe.echoes(echoing, echo)
    except NoAnswer as error:
        raise CannotCheck(f"{site.url} {error}") from None


def _echoing(gate: Gate, echo: str) -> Service:
    """The upstream that a path belongs to. Raises CannotCheck."""
    fitting = [each for each in gate.services if echo.startswith(each.location)]
    service = max(fitting, key=lambda each: len(each.location), default=None)
    if service is None or not service.upstream:
        raise CannotCheck(f"{echo} is not below the location of an upstream")
    if service.dry_run or echo.startswith(tuple(path for path, _ in paths(service))):
        raise CannotCheck(f"{echo} is not paid for: name another path")
    return service


class Probe:
    def __init__(self, shop: Shop, gate: Gate, site: Site):
        self._shop, self._gate, self._site = shop, gate, site
        self._page_is_known = False

    # -- all services ----------------------------------------------------------------

    def reaches_the_shop(self) -> Result:
        """Raises CannotCheck when there is no point in going on."""
        what = "nginx reaches the shop"
        answer = self._site.ask("GET", "/.well-known/l402.json")
        to = answer.get("Location")
        if 300 <= answer.status < 400:
            raise CannotCheck(f"{self._site.url} leads on to {to}: name that address")
        if answer.status in (502, 504):
            return Result("", what, WRONG, f"it answers {answer.status}", self._why_not_reached())
        if answer.status != 200 or not isinstance(_json(answer).get("services"), list):
            raise CannotCheck(
                f"{self._site.url} answers {answer.status} at /.well-known/l402.json: "
                f"gate-server.conf is not included in that server {{ }}, or not loaded. {WRITE}"
            )
        return Result("", what, GOOD)

    def _why_not_reached(self) -> str:
        try:
            Site(self._gate.app).ask("HEAD", "/.well-known/l402.json")
        except (NoAnswer, ValueError):
            return f"nothing answers at {self._gate.app} (`app` in gate.toml): start the shop there"
        return (
            f"the shop answers here at {self._gate.app} (`app` in gate.toml), so nginx asks "
            f"elsewhere. {WRITE}"
        )

    def is_as_written(self) -> Result:
        what = "nginx goes by what gate.toml says now"
        answer = self._site.ask("GET", nginx.is_as_written(self._gate))
        if answer.status == 204:
            return Result("", what, GOOD)
        return Result("", what, WRONG, "its files were written for another gate.toml", WRITE)

    def hides_its_own(self) -> Result:
        what = "what nginx alone asks for is hidden"
        first = self._gate.services[0].name
        headers = {"X-Gate-Service": first, "X-Gate-Terms": "free", "X-Gate-Uri": "/"}
        for path in ("/gate/check", "/gate/pay"):
            answer = self._site.ask("GET", path, headers)
            if answer.status != 404:
                found = f"{path} answers {answer.status} to everybody"
                return Result("", what, WRONG, found, f"it is to answer 404. {WRITE}")
        return Result("", what, GOOD)

    # -- one service -----------------------------------------------------------------

    def of(self, service: Service) -> Iterator[Result]:
        if service.is_open_when_down:
            what = "who passes while the shop does not answer"
            yield Result(service.name, what, MIND, 'everybody (gate_down = "open")')
        if service.dry_run:
            yield Result(service.name, "who passes", MIND, "everybody (dry_run): nothing is sold")
            return
        yield (asks := self._asks_for_payment(service))
        if asks.result != GOOD:
            return
        if not self._page_is_known:
            self._page_is_known = True
            yield self._shows_a_page(service)
        yield self._refuses_forged(service)
        yield self._lets_in(service)
        yield self._asks_everywhere(service)
        yield self._sees_through_tricks(service)
        yield from (self._has_terms(service, *path) for path in paths(service))

    def _asks_for_payment(self, service: Service) -> Result:
        answer = self._patiently("GET", service.location, self._unpaid(service))
        wrong = _why_not_asked(service, answer) or self._why_not_ours(service, answer)
        return Result(service.name, "a stranger is asked to pay", *(wrong or [GOOD]))

    def _why_not_ours(self, service: Service, answer: Answer) -> tuple[str, str, str] | None:
        """What is wrong with a 402: result, found and advice; None: nothing is."""
        lines = answer.all("WWW-Authenticate")
        shown = [CHALLENGE.match(line) for line in lines]
        if [each and each[1] for each in shown] != ["LSAT", "L402"]:
            found = f"402 has {len(lines)} lines of WWW-Authenticate, and should have two"
            return WRONG, found, WRITE
        try:
            self._shop.keys.check_minted(l402.read(shown[1][2]))
        except l402.Invalid as error:
            advice = "nginx asks another shop, or one with another SECRET_KEY: see `app`"
            return WRONG, f"its macaroon is not of this shop: {error}", advice
        told = _json(answer)
        terms = told.get("service"), told.get("price_msat")
        if terms != (service.name, service.price_sat * 1000):
            found = f"it sells “{terms[0]}” for {terms[1]} msat"
            return WRONG, found, "gate.toml says otherwise by now: restart the shop"
        return None

    def _shows_a_page(self, service: Service) -> Result:
        what = "a browser gets a page with an invoice"
        headers = self._unpaid(service) | {"Accept": "text/html"}
        answer = self._patiently("GET", service.location, headers)
        if answer.status == 402 and b"lightning:" in answer.body:
            return Result(service.name, what, GOOD)
        if answer.status == 429:
            return Result(service.name, what, NOT_TRIED, "it gets 429", LIMITED)
        return Result(service.name, what, WRONG, f"it gets {answer.status}", WRITE)

    def _refuses_forged(self, service: Service) -> Result:
        what = "a forged credential is refused"
        macaroon = self._credential(service).partition(":")[0]
        forged = f"{macaroon}:{secrets.token_hex(32)}"
        answer = self._patiently("GET", service.location, _authorized(forged))
        if answer.status == 429:
            return Result(service.name, what, NOT_TRIED, "it is answered 429", LIMITED)
        if answer.status == 401 and answer.all("WWW-Authenticate") == ["L402"]:
            return Result(service.name, what, GOOD)
        return Result(service.name, what, WRONG, f"it is answered {answer.status}", IN_BETWEEN)

    def _lets_in(self, service: Service) -> Result:
        what = "a good credential passes"
        path = self._paid_path(service)
        answer = self._patiently("HEAD", path, _authorized(self._credential(service)))
        found = f"{path} answers {answer.status}"
        takes_no_get = service.capabilities and service.capability_for("GET") is None
        if takes_no_get and _is_gates(answer) and answer.status == 403:
            return Result(service.name, what, GOOD, f"{found}: it takes no GET")
        if _is_gates(answer) or _is_down(answer):
            return Result(service.name, what, WRONG, f"{found}, by the gate", "see the shop's log")
        if answer.status in (502, 504):
            advice = f"does {service.upstream} answer?"
            return Result(service.name, what, WRONG, found, advice)
        return Result(service.name, what, GOOD, found)

    def _asks_everywhere(self, service: Service) -> Result:
        what = "no other location gets in between"
        asked = tricks.paid(service)
        if not asked:
            found = f"no file of {service.files} can be seen from here"
            return Result(service.name, what, NOT_TRIED, found, "run this where they are")
        open_at = [found for path in asked if (found := self._passes(service, path))]
        if open_at:
            return Result(service.name, what, WRONG, _first(open_at), IN_BETWEEN)
        return Result(service.name, what, GOOD)

    def _passes(self, service: Service, path: str) -> str:
        """What a request that was not paid for is answered, if not by the gate; otherwise ""."""
        answer = self._site.ask("HEAD", path, self._unpaid(service))
        is_closed = _is_gates(answer) or _is_down(answer)
        return "" if is_closed else f"{path} answers {answer.status}"

    def _sees_through_tricks(self, service: Service) -> Result:
        what = "no way of writing an address gets past the gate"
        open_at = []
        for trick in tricks.of(service, self._paid_path(service)):
            answer = self._site.ask("HEAD", trick.path, self._unpaid(service))
            if _is_gates(answer) or _is_down(answer) or answer.status in NOTHING_THERE:
                continue
            if trick.beside:
                beside = self._site.ask("HEAD", trick.beside, self._unpaid(service))
                if beside.status == answer.status:  # so it is answered outside the gate as well
                    continue
            open_at.append(f"{trick.path} answers {answer.status}")
        if open_at:
            return Result(service.name, what, WRONG, _first(open_at), IN_BETWEEN)
        return Result(service.name, what, GOOD)

    def _has_terms(self, service: Service, path: str, terms: str) -> Result:
        answer = self._site.ask("HEAD", path)
        found = f"it answers {answer.status}"
        if terms == "free":
            what, is_good = f"{path} is free", not _is_gates(answer) and answer.status < 500
        else:
            what, is_good = f"{path} makes no invoices", answer.status in (401, 429)
        if is_good:
            return Result(service.name, what, GOOD)
        return Result(service.name, what, WRONG, found, WRITE)

    # -- what an upstream sees -------------------------------------------------------

    def echoes(self, service: Service, path: str) -> Result:
        """Whether an upstream sees no secret, at a path that answers with the headers it got."""
        what = "the upstream sees no credential, and a token id to trust"
        credential = self._credential(service)
        macaroon, _, preimage = credential.partition(":")
        cookie, forged, address = secrets.token_hex(8), secrets.token_hex(32), "192.0.2.77"
        headers = _authorized(credential)
        headers |= {"Cookie": f"{COOKIE}{service.name}={cookie}", "X-L402-Token-Id": forged}
        headers |= {"X-Forwarded-For": address, "X-Real-IP": address, "Forwarded": address}
        answer = self._patiently("GET", path, headers)
        seen = answer.body.decode("utf-8", "replace")
        if not 200 <= answer.status < 300:
            found = f"{path} answers {answer.status}"
            return Result(service.name, what, NOT_TRIED, found, "name a path that echoes headers")
        for secret, name in (
            (preimage, "the credential"),
            (cookie, "the gate's cookie"),
            (forged, "an X-L402-Token-Id that somebody made up"),
            *([] if service.shows_addresses else [(address, "the address of its visitor")]),
        ):
            if secret in seen:
                advice = f"a line `proxy_set_header` is missing or changed. {WRITE}"
                return Result(service.name, what, WRONG, f"it sees {name}", advice)
        if l402.read(macaroon).token_id.hex() not in seen:
            found = f"{path} does not tell the X-L402-Token-Id that it got"
            return Result(service.name, what, NOT_TRIED, found, "name a path that echoes headers")
        return Result(service.name, what, GOOD)

    # -- asking ----------------------------------------------------------------------

    def _patiently(self, method: str, path: str, headers: dict[str, str]) -> Answer:
        """Ask, and ask again if a limit lets nobody in for some seconds."""
        for _ in range(TRIES):
            answer = self._site.ask(method, path, headers)
            wait = answer.get("Retry-After")
            is_limited = answer.status == 429 and _is_gates(answer) and wait.isdigit()
            if not is_limited or int(wait) > WAIT_SECONDS_MAX:
                return answer
            time.sleep(int(wait))
        return answer

    def _paid_path(self, service: Service) -> str:
        if service.kind == "files":
            return next(iter(tricks.paid(service)), service.location)
        return service.location

    def _unpaid(self, service: Service) -> dict[str, str]:
        """Headers that pay for nothing: with an expired credential, which gets no free requests."""
        return _authorized(self._credential(service, -MINUTE)) if service.freebie else {}

    def _credential(self, service: Service, seconds: int = MINUTE) -> str:
        """A credential of our own, made as `tokens.text_of` makes those that are handed out."""
        keys = self._shop.keys
        token_id = keys.token_id(0)
        preimage = keys.secret(token_id)
        credit = service.bundle.msat if service.bundle and seconds > 0 else None
        rights = Rights(service.all_capabilities, now() + seconds)
        caveats = l402.caveats(service.name, rights, credit)
        macaroon = keys.mint(hashlib.sha256(preimage).digest(), token_id, caveats)
        return f"{macaroon}:{preimage.hex()}"


def _why_not_asked(service: Service, answer: Answer) -> tuple[str, str, str] | None:
    """Why a stranger was not answered 402: result, found and advice; None: that was so."""
    found = f"{service.location} answers {answer.status}"
    if _is_down(answer):
        advice = (
            "the shop gives nginx no answer that it can use: does it run, and was it restarted "
            "after gate.toml was changed?"
        )
        return WRONG, found, advice
    if _is_gates(answer):
        if answer.status == 402:
            return None
        if answer.status == 429:
            return NOT_TRIED, found, LIMITED
        return WRONG, f"{found}: {_json(answer).get('detail')}", "see `flask problems`"
    if answer.status == 401:
        advice = f"the line `error_page 401 = $gate_answer;` is missing. {WRITE}"
        return WRONG, f"{found}, which is nginx's own", advice
    if answer.status == 403 and service.blocklist:
        return NOT_TRIED, found, "is this machine in its blocklist? Try from another one"
    if answer.status == 404 and service.files:
        advice = f"is {service.files} there, and may nginx enter it? If so, {IN_BETWEEN}"
        return WRONG, found, advice
    return WRONG, f"{found} to who has not paid", IN_BETWEEN


def _authorized(credential: str) -> dict[str, str]:
    return {"Authorization": f"L402 {credential}"}


def _is_gates(answer: Answer) -> bool:
    """Whether the gate has refused, and not what is behind it."""
    return answer.status in STATUSES and 'rel="l402-manifest"' in answer.get("Link")


def _is_down(answer: Answer) -> bool:
    """Whether nginx has refused because the shop does not answer."""
    is_it = answer.status == 503 and answer.get("Retry-After") == str(RETRY_SECONDS)
    return is_it and not _is_gates(answer)


def _json(answer: Answer) -> dict:
    try:
        told = json.loads(answer.body)
    except ValueError:
        return {}
    return told if isinstance(told, dict) else {}


def _first(found: list[str]) -> str:
    more = f" and {len(found) - NAMED} more" if len(found) > NAMED else ""
    return ", ".join(found[:NAMED]) + more
