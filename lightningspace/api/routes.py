"""What the API's blueprints have in common, and how each view describes itself."""

import re
from collections.abc import Callable, Container
from dataclasses import dataclass, field

from flask import Blueprint, Flask, current_app, request

from lightningspace.api import answers, bodies
from lightningspace.api.answers import ApiError
from lightningspace.base.refusals import Refusal

PREFIX = "/api/v1"
KEY = re.compile(r"[\x21-\x7e]{16,200}")


@dataclass(frozen=True)
class Route:
    """What a view does. `answers`: the schema of each successful status. `capability`: what its
    credential must be good for; None with `needs_none`: only what it has paid for counts. `sells`:
    what a 402's invoice is for. `codes`: its problems beyond those that all of this implies.
    """

    summary: str
    answers: dict[int, str]
    capability: str | None = None
    needs_none: bool = False  # a credential may be left out
    fields: dict[str, str] | None = None  # of the body
    required: tuple[str, ...] = ()
    rules: dict[str, dict] = field(default_factory=dict)  # for fields, beyond fields.rules
    query: dict[str, str] = field(default_factory=dict)
    sells: str = ""
    mints: bool = False  # it makes invoices for whoever asks
    price: str = ""
    codes: tuple[str, ...] = ()
    note: str = ""

    @property
    def takes_credentials(self) -> bool:
        return self.capability is not None or self.needs_none


def described(summary: str, answers: dict[int, str], **facts) -> Callable:
    """Describe a view by a `Route`, from which `openapi` makes the API's description."""
    route = Route(summary, answers, **facts)

    def mark(view):
        view.route = route
        return view

    return mark


def described_in(app: Flask) -> dict[str, Route]:
    """The routes of an app's views, by method and path below PREFIX, grouped by path."""
    by_path: dict[str, dict[str, Route]] = {}
    for rule in app.url_map.iter_rules():
        route = getattr(app.view_functions[rule.endpoint], "route", None)
        if route:
            path = re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule.removeprefix(PREFIX))
            [method] = rule.methods - {"HEAD", "OPTIONS"}
            by_path.setdefault(path, {})[f"{method} {path}"] = route
    return {name: route for on_path in by_path.values() for name, route in on_path.items()}


def this_route() -> Route:
    """The route of the view that answers this request."""
    return current_app.view_functions[request.endpoint].route


def body(nullable: Container[str] = ()) -> dict:
    """The fields of this route that were sent; see bodies.read. Raises BadBody."""
    return bodies.read(this_route().fields, nullable)


# -- blueprints ------------------------------------------------------------------------


def part(name: str) -> Blueprint:
    """A blueprint of the API: it answers refusals in JSON, and checks every Idempotency-Key."""
    blueprint = Blueprint(f"api_{name}", __name__, url_prefix=PREFIX)
    blueprint.before_request(_check_key)
    blueprint.register_error_handler(Refusal, answers.of_refusal)
    return blueprint


def _check_key() -> None:
    """Check a key even if nothing will be sold: whoever sends one relies on it."""
    if request.method == "POST":
        idempotency_key()


def idempotency_key() -> str | None:
    """The request's Idempotency-Key; None: it has none. Raises ApiError (400)."""
    key = request.headers.get("Idempotency-Key")
    if key is not None and not KEY.fullmatch(key):
        raise ApiError(400, "bad_key", "An Idempotency-Key has 16 to 200 visible ASCII characters.")
    return key
