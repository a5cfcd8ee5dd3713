"""The API's OpenAPI document, made from the tables that bodies are checked with."""

import re
from collections.abc import Mapping

from lightningspace.api import fields, schemas
from lightningspace.api.answers import LINK, PROBLEM
from lightningspace.api.bodies import TEXT, WHOLE, YES_NO
from lightningspace.api.codes import CODES, SALE, TITLES
from lightningspace.api.routes import KEY, PREFIX, Route
from lightningspace.base.prices import LONGEST_SECONDS, UNIT_SECONDS, Terms
from lightningspace.outside import l402
from lightningspace.shop import Shop

JSON = "application/json"
VERSION = "1.0"
# The version of the draft of L402's discovery (lightninglabs/L402, discovery-spec.md).
MANIFEST_VERSION = "1.0"
SUMMARY = "Web hosting for Lightning payments, bought and managed by programs"

# The routes, by method and path.
Described = Mapping[str, Route]
TYPES = {WHOLE: "integer", TEXT: "string", YES_NO: "boolean"}


def document(shop: Shop, described: Described) -> dict:
    paths = {}
    for name in described:
        method, path = name.split()
        paths.setdefault(path, {})[method.lower()] = _operation(shop, described, name)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": shop.config.shop_name,
            "version": VERSION,
            "summary": SUMMARY,
            "description": _description(shop),
            "x-l402-version": MANIFEST_VERSION,
            "x-l402-provider": {"name": shop.config.shop_name, "uri": shop.config.public_url},
        },
        "servers": [{"url": f"{shop.config.public_url}{PREFIX}"}],
        "x-l402-caveats": dict(CAVEATS),
        "paths": paths,
        "components": {
            "securitySchemes": {"L402": SCHEME},
            "parameters": {"IdempotencyKey": IDEMPOTENCY_KEY},
            "headers": HEADERS,
            "responses": _shared_responses(described),
            "schemas": schemas.SCHEMAS,
        },
    }


def smallest_sat(shop: Shop) -> dict[str, int]:
    """What the smallest hosting costs for one of each unit of time, in satoshi."""
    size = shop.config.space_sizes_mb[0]
    cost = {unit: shop.prices.price_msat(Terms(size, 1, unit)) for unit in UNIT_SECONDS}
    return {unit: msat // 1000 for unit, msat in cost.items()}


def _description(shop: Shop) -> str:
    costs = smallest_sat(shop)
    return f"""\
No account, no e-mail: a paid invoice is the login and the API key.

**Buying.** `POST /hosting` answers 402 with an invoice and a macaroon. Pay the invoice; your
wallet gets its preimage. Send the same request again with the header
`Authorization: L402 <macaroon>:<preimage>`. That credential is the access key of the hosting: it
has no end, so keep it. The other POSTs that cost something answer 402 in the same way. The
credential that they lead to may do what the one shown to order it may do, and the old one stays
valid. Without a valid credential all but `POST /hosting`, `POST /hosting/{{username}}/time`,
`GET /prices` and tips answer 401, and make no invoice.

**More time, by anybody.** `POST /hosting/{{username}}/time` sells time of a hosting to whoever
asks, by 402 as well: for whoever has no credential of it, and for clients that keep one for each
address. Paying gives no right over the hosting.

**Tips.** Anybody may pay for more time of a site: `POST /tips/{{username}}` answers with an
invoice, and with the address where the tip can be watched. That needs no credential and makes none.

**Budgets.** Common clients refuse to pay more than 1,000 sat by default (l402-requests, lnget and
Aperture's client): raise that, or buy less at once. The smallest hosting costs
{costs["hours"]:,} sat for an hour and {costs["months"]:,} sat for a month.

**Sending again.** `POST /hosting` and `POST /hosting/{{username}}/time` are a new order each time
that they answer 402; the other POSTs answer the same invoice until it is paid. With an
`Idempotency-Key`, the same request and key are one order for ever. Without one, the credential of
paid time is good for that time once: then the same body is sold again, so that a loop may buy hour
after hour.

**Errors** are `application/problem+json` (RFC 9457) with a `code` for programs and a `detail` for
people. `Retry-After` says after how many seconds to send the same again. In bodies, null counts as
absent, unless the field says what it stands for.

**Narrower credentials.** Whoever has a credential can narrow it by appending first-party caveats:
`{l402.SERVICE}_capabilities=read,mail` (of {", ".join(l402.CAPABILITIES)}) and
`{l402.SERVICE}_valid_until=<unix seconds>`. Passwords are shown to whole credentials only.
Without `read`, what was paid or changed is answered with the hosting's state, time and size alone.
"""


# -- L402's discovery ------------------------------------------------------------------

CAVEATS = {
    "services": {
        "type": "service_list",
        "attenuation": "subset",
        "description": f"Needed; {l402.SERVICE} must be among them.",
    },
    f"{l402.SERVICE}_capabilities": {
        "type": "string",
        "attenuation": "subset",
        "description": f"Needed; some of {', '.join(l402.CAPABILITIES)}, joined by commas.",
    },
    f"{l402.SERVICE}_valid_until": {
        "type": "timestamp",
        "attenuation": "earlier",
        "description": "Unix seconds; without it there is no end.",
    },
}


def pricing(shop: Shop, route: Route) -> dict:
    """The draft's "formula" can only price caveats, so ours is "dynamic"."""
    return {"model": "dynamic", "prices": f"{PREFIX}/prices", "description": route.price}


# -- requests --------------------------------------------------------------------------

SCHEME = {
    "type": "apiKey",
    "in": "header",
    "name": "Authorization",
    "x-l402-scheme": "L402",
    "description": (
        "`L402 <macaroon>:<preimage>`: the macaroon in base64 as the 402 has it, and the preimage "
        "as 64 hex digits, which the wallet has when the invoice is paid. (L402 is not in IANA's "
        "list of HTTP authentication schemes, so that the draft of its discovery describes it as "
        "a key.) `LSAT` for `L402` and the headers `Macaroon` and `Grpc-Metadata-Macaroon` (hex, "
        "with a caveat `preimage=`) are understood as well."
    ),
}
IDEMPOTENCY_KEY = {
    "name": "Idempotency-Key",
    "in": "header",
    "description": "The same key and request are one order for ever. Choose it at random.",
    "schema": {"type": "string", "pattern": f"^{KEY.pattern}$"},
}
IN_PATH = {"type": "string", "pattern": "^[^/]+$"}


def _body(shop: Shop, route: Route) -> dict:
    rules = fields.rules(shop) | route.rules
    properties = {
        name: _property(kind, rules.get(name, {}), name in route.required)
        for name, kind in route.fields.items()
    }
    schema = {"type": "object", "properties": properties, "additionalProperties": False}
    if route.required:
        schema["required"] = list(route.required)
    if "unit" in properties:
        schema["allOf"] = [_at_most(unit, seconds) for unit, seconds in UNIT_SECONDS.items()]
    return {"required": bool(route.required), "content": {JSON: {"schema": schema}}}


def _property(kind: str, rules: dict, is_required: bool) -> dict:
    if is_required:
        return {"type": TYPES[kind]} | rules
    if "enum" in rules:
        rules = rules | {"enum": [*rules["enum"], None]}
    return {"type": [TYPES[kind], "null"]} | rules


def _parameters(shop: Shop, path: str, route: Route) -> list[dict]:
    rules = fields.rules(shop)
    found = [
        {"name": name, "in": "path", "required": True, "schema": IN_PATH}
        for name in re.findall("{(.*?)}", path)
    ]
    for name, kind in route.query.items():
        schema = {"type": TYPES[kind]} | rules.get(name, {})
        found.append({"name": name, "in": "query", "schema": schema})
    if route.sells or route.mints:
        found.append(_ref("parameters", "IdempotencyKey"))
    return found


def _at_most(unit: str, seconds: int) -> dict:
    return {
        "if": {"properties": {"unit": {"const": unit}}},
        "then": {"properties": {"duration": {"maximum": LONGEST_SECONDS // seconds}}},
    }


# -- responses -------------------------------------------------------------------------

HEADERS = {
    "Challenge": {
        "description": "Two lines, which proxies may join: `LSAT macaroon=…, invoice=…` for old "
        "clients, and the same with `L402`.",
        "required": True,
        "schema": {"type": "string"},
    },
    "Manifest": {
        "description": "Leads to the manifest, which says what else is sold.",
        "required": True,
        "schema": {"const": LINK},
    },
    "Bare": {
        "description": "No invoice: nothing is sold here.",
        "required": True,
        "schema": {"const": "L402"},
    },
    "RetryAfter": {
        "description": "Seconds until the same may be sent again.",
        "required": True,
        "schema": {"type": "string", "pattern": "^[0-9]+$"},
    },
    "Location": {"required": True, "schema": {"type": "string", "format": "uri-reference"}},
}


def _operation(shop: Shop, described: Described, name: str) -> dict:
    (method, path), route = name.split(), described[name]
    operation = {
        "operationId": _operation_id(method, path),
        "summary": route.summary,
        "responses": _responses(described, method, path),
    }
    if route.note:
        operation["description"] = route.note
    if route.takes_credentials:
        scheme = {"L402": [route.capability] if route.capability else []}
        operation["security"] = [{}, scheme] if route.needs_none else [scheme]
        operation["x-l402-service"] = l402.SERVICE
    if route.capability:
        operation["x-l402-capability"] = route.capability
    if route.fields is not None:
        operation["requestBody"] = _body(shop, route)
    if parameters := _parameters(shop, path, route):
        operation["parameters"] = parameters
    if route.sells:
        operation["x-l402-pricing"] = pricing(shop, route)
    return operation


def _operation_id(method: str, path: str) -> str:
    words = path.replace("{", "").replace("}", "").replace("_", "/").split("/")
    return method.lower() + "".join(word.capitalize() for word in words)


def _responses(described: Described, method: str, path: str) -> dict:
    route = described[f"{method} {path}"]
    answers = {status: _success(status, schema) for status, schema in route.answers.items()}
    if 201 in answers and (links := _links(described, f"{path}/")):
        answers[201]["links"] = links
    if route.sells:
        answers[402] = _payment_required(described, route)
    for status, codes in _problems(method, route).items():
        answers[status] = _ref("responses", "-".join(codes))
    return {str(status): answers[status] for status in sorted(answers)}


def _shared_responses(described: Described) -> dict:
    """The responses for problems, which many routes have in common."""
    return {
        "-".join(codes): _problem(status, codes)
        for name, route in described.items()
        for status, codes in _problems(name.split()[0], route).items()
    }


def _problems(method: str, route: Route) -> dict[int, list[str]]:
    """The codes of the problems that the route may answer, by status."""
    codes = set(route.codes) | {"service_unavailable"}
    if method != "GET":
        codes |= {"too_many_requests"}
    if route.takes_credentials:
        codes |= {"unauthorized", "not_settled"}
    if route.capability:
        codes |= {"not_capable"}
    if route.fields is not None:
        codes |= {"bad_request", "request_entity_too_large"}
    if method == "POST":
        codes |= {"bad_key"}
    if route.sells:
        codes |= set(SALE)
    by_status: dict[int, list[str]] = {}
    for code in CODES:
        if code in codes:
            by_status.setdefault(CODES[code][0], []).append(code)
    return by_status


def _links(described: Described, path: str, member: str = "") -> dict:
    """Links from an answer to the routes below `path`, for what can be done with what it made.

    Their last parameter is the answer's `member`, or the member of the parameter's own name.
    """
    links = {}
    for name in described:
        method, below = name.split()
        if below.startswith(f"{path}{{"):
            *same, parameter = re.findall("{(.*?)}", below)
            given = {name: f"$request.path.{name}" for name in same}
            given[parameter] = f"$response.body#/{member or parameter}"
            operation = _operation_id(method, below)
            links[operation] = {"operationId": operation, "parameters": given}
    return links


def _success(status: int, schema: str) -> dict:
    headers = {201: {"Location": _ref("headers", "Location")}}
    headers[202] = {"Retry-After": _ref("headers", "RetryAfter")}
    answer = {"description": {200: "As asked", 201: "It is there", 202: "Soon"}[status]}
    if status in headers:
        answer["headers"] = headers[status]
    return answer | {"content": {JSON: {"schema": _ref("schemas", schema)}}}


def _payment_required(described: Described, route: Route) -> dict:
    return {
        "description": f"An invoice for {route.sells}",
        "headers": {
            "WWW-Authenticate": _ref("headers", "Challenge"),
            "Link": _ref("headers", "Manifest"),
        },
        "content": {PROBLEM: {"schema": _ref("schemas", "PaymentRequired")}},
        "links": _links(described, "/hosting/orders/", "order"),
    }


def _problem(status: int, codes: list[str]) -> dict:
    meanings = [f"- `{code}`: {CODES[code][1]}" for code in codes]
    answer = {"description": "\n".join([f"{TITLES[status]}.", "", *meanings])}
    if status == 401:
        answer["headers"] = {"WWW-Authenticate": _ref("headers", "Bare")}
    if status in (429, 503):
        answer["headers"] = {"Retry-After": _ref("headers", "RetryAfter")}
    exact = {"properties": {"status": {"const": status}, "code": {"enum": codes}}}
    schema = {"allOf": [_ref("schemas", "Problem"), exact]}
    return answer | {"content": {PROBLEM: {"schema": schema}}}


def _ref(kind: str, name: str) -> dict:
    return {"$ref": f"#/components/{kind}/{name}"}
