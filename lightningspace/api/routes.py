"""The parts of the API: what all of them have in common, and how each view says what it is for."""

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
    """`answers`: the schema of each success. `capability`: what a credential must be good for.
    `sells`: what a 402 has an invoice for. `codes`: problems beyond those that all of that brings.
    """

    summary: str
    answers: dict[int, str]
    capability: str | None = None
    needs_none: bool = False  # it may be used without a credential
    fields: dict[str, str] | None = None  # of the body
    required: tuple[str, ...] = ()
    rules: dict[str, dict] = field(default_factory=dict)  # of fields, beyond `fields`
    query: dict[str, str] = field(default_factory=dict)
    sells: str = ""
    mints: bool = False  # an invoice, for whoever asks
    price: str = ""
    codes: tuple[str, ...] = ()
    note: str = ""


def described(summary: str, answers: dict[int, str], **facts) -> Callable:
    """Tell of a view what `Route` holds; `openapi` makes the API's description of that."""
    route = Route(summary, answers, **facts)

    def mark(view):
        view.route = route
        return view

    return mark


def described_in(app: Flask) -> dict[str, Route]:
    """What an app's views are described as, by method and path below PREFIX, path by path."""
    by_path: dict[str, dict[str, Route]] = {}
    for rule in app.url_map.iter_rules():
        route = getattr(app.view_functions[rule.endpoint], "route", None)
        if route:
            path = re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule.removeprefix(PREFIX))
            [method] = rule.methods - {"HEAD", "OPTIONS"}
            by_path.setdefault(path, {})[f"{method} {path}"] = route
    return {name: route for on_path in by_path.values() for name, route in on_path.items()}


def this_route() -> Route:
    """That of the view which answers this request."""
    return current_app.view_functions[request.endpoint].route


def body(nullable: Container[str] = ()) -> dict:
    """What was sent of the fields that this route takes; see bodies.read. Raises BadBody."""
    return bodies.read(this_route().fields, nullable)


# -- what all parts have in common -----------------------------------------------------


def part(name: str) -> Blueprint:
    """A part of the API: what is wrong is said in JSON, and a key is looked at wherever it is."""
    blueprint = Blueprint(f"api_{name}", __name__, url_prefix=PREFIX)
    blueprint.before_request(_check_key)
    blueprint.register_error_handler(Refusal, answers.of_refusal)
    return blueprint


def _check_key() -> None:
    """Whether or not something will be sold: who sends a key relies on it."""
    if request.method == "POST":
        idempotency_key()


def idempotency_key() -> str | None:
    key = request.headers.get("Idempotency-Key")
    if key is not None and not KEY.fullmatch(key):
        raise ApiError(400, "bad_key", "An Idempotency-Key has 16 to 200 signs, without blanks.")
    return key
