"""The OpenAPI document of the API, from the tables that the code itself checks bodies with."""

from dataclasses import dataclass, field

from lightningspace import api, l402, names, passwords
from lightningspace.answers import PROBLEM
from lightningspace.bodies import TEXT, WHOLE, YES_NO
from lightningspace.forms import EXTRAS_MAX
from lightningspace.prices import LONGEST_SECONDS, SHORTEST_SECONDS, UNIT_SECONDS, Size, Terms
from lightningspace.shop import Shop

PREFIX = api.api.url_prefix
JSON = "application/json"
VERSION = "1.0"
# Of the draft of L402's discovery (lightninglabs/L402, discovery-spec.md).
MANIFEST_VERSION = "1.0"
TITLE = "lightning-space"
SUMMARY = "Web hosting for Lightning payments, bought and managed by programs"

# Every `code` of a problem: its status, and what it means.
CODES = {
    "bad_request": (400, "The body cannot be read, or `errors` says what is wrong with it."),
    "bad_key": (400, "The Idempotency-Key is too short or long, or has blanks."),
    "unauthorized": (401, "No credential, or one that is not good (any more). No invoice comes."),
    "payment_required": (402, "Pay the invoice, then send the same with the credential."),
    "not_capable": (403, "The credential lacks the capability that this needs."),
    "name_taken": (409, "The username is another's, or rests after one."),
    "sold_out": (409, "So much space is not free just now."),
    "changed": (409, "The credential has paid for something else than this body asks for."),
    "ordered": (409, "The order of this Idempotency-Key is paid, or cannot be paid any more."),
    "refused": (409, "Nothing is sold to this hosting as it is now; `detail` says why."),
    "size_waits": (409, "Another size is ordered already, and comes first: `order`."),
    "not_had": (409, "When the payment came the size was sold out: it has become time."),
    "request_entity_too_large": (413, "The body has more than 64 KiB."),
    "too_many_unpaid": (429, "Too many unpaid orders: pay one, or wait until they are over."),
    "too_many_requests": (429, "Too many orders in a short time."),
    "not_settled": (503, "The payment is on its way into our books. Pay nothing twice."),
    "checking": (503, "Whether the order was paid in time is just being found out."),
    "takes_effect": (503, "It is paid, and takes effect in a moment."),
    "setting_up": (503, "The hosting is still being set up."),
    "node_down": (503, "Our Lightning node does not answer. Nothing was charged."),
    "service_unavailable": (503, "We cannot answer just now. Nothing is lost."),
}
TITLES = {
    400: "The body or a header is wrong",
    401: "Not with this credential",
    403: "This credential may not do that",
    409: "Not as things stand",
    413: "Too much",
    429: "Too often",
    503: "Not now; send the same again soon",
}


@dataclass(frozen=True)
class Route:
    """`answers`: schema of each success. `capability`: what a credential must be good for; `codes`:
    problems beyond those that capability, body and sale bring.
    """

    summary: str
    answers: dict[int, str]
    capability: str | None = None
    fields: dict[str, str] | None = None
    required: tuple[str, ...] = ()
    sells: str = ""
    price: str = ""
    codes: tuple[str, ...] = ()
    rules: dict[str, dict] = field(default_factory=dict)
    needs_none: bool = False  # a credential is not needed
    note: str = ""


PRICE_OF_TIME = (
    "The rate of its size (rate_msat_per_day) times the seconds, divided by 86400, rounded up to "
    "whole satoshi; at least one."
)
SALE = ("refused", "ordered", "too_many_unpaid", "too_many_requests", "checking", "node_down")
SIZE_SALE = ("sold_out", "size_waits", "not_had", "takes_effect", "setting_up")
ROUTES = {
    "GET /prices": Route(
        "What is on offer, and what it costs",
        {200: "Prices"},
        note="Asking mints nothing. All prices are in millisatoshi; an invoice has whole satoshi.",
    ),
    "POST /hosting": Route(
        "Buy a hosting, or see the one that was bought",
        {201: "Hosting", 202: "Hosting"},
        capability="read",
        needs_none=True,
        fields=api.ORDER_FIELDS,
        required=("space_mb", "duration", "unit"),
        sells="a new hosting",
        price=PRICE_OF_TIME,
        codes=("name_taken", "sold_out", "changed"),
        note="Without a credential, or with one of a hosting that is no more, 402 sells a new one. "
        "With its credential and the same body, the hosting is answered, however often it is sent. "
        "Name and password are made up when they are not sent; an e-mail address gets reminders.",
    ),
    "GET /hosting": Route(
        "All that there is to know of the hosting",
        {200: "Hosting", 202: "Hosting"},
        capability="read",
        note="202: it is still being set up.",
    ),
    "POST /hosting/extend": Route(
        "Buy more time",
        {200: "Hosting", 202: "Hosting"},
        capability="pay",
        fields=api.TIME_FIELDS,
        required=("duration", "unit"),
        sells="more time",
        price=PRICE_OF_TIME,
        codes=("changed", "setting_up"),
        note="The token of an extension is good for it once: the same body, sent again with that "
        "token, is sold again. It goes on to be a credential of the hosting, as the one that was "
        "shown to order it.",
    ),
    "POST /hosting/resize": Route(
        "Change the size",
        {200: "Hosting"},
        capability="pay",
        fields=api.SIZE_FIELDS,
        sells="a larger size",
        price="What the new size costs more until the end of the paid time; no less than 0.",
        codes=SIZE_SALE,
        note="What is not sent stays as it is. A larger size costs the difference until the same "
        "end; a smaller one is had at once, and makes what is paid last longer.",
    ),
}


def document(shop: Shop) -> dict:
    paths = {}
    for name, route in ROUTES.items():
        method, path = name.split()
        paths.setdefault(path, {})[method.lower()] = _operation(shop, name, route)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": TITLE,
            "version": VERSION,
            "summary": SUMMARY,
            "description": _description(shop),
            "x-l402-version": MANIFEST_VERSION,
            "x-l402-provider": {"name": TITLE, "uri": shop.config.public_url},
        },
        "servers": [{"url": f"{shop.config.public_url}{PREFIX}"}],
        "x-l402-caveats": CAVEATS,
        "paths": paths,
        "components": {
            "securitySchemes": {"L402": SCHEME},
            "parameters": {"IdempotencyKey": IDEMPOTENCY_KEY},
            "headers": HEADERS,
            "schemas": SCHEMAS,
        },
    }


def smallest_sat(shop: Shop) -> dict[str, int]:
    """What the smallest hosting costs, in satoshi."""
    size = shop.config.space_sizes_mb[0]
    cost = {unit: shop.prices.price_msat(Terms(size, 1, unit)) for unit in UNIT_SECONDS}
    return {unit: msat // 1000 for unit, msat in cost.items()}


def _description(shop: Shop) -> str:
    costs = smallest_sat(shop)
    return f"""\
No account form, no e-mail: a paid invoice is the login and the API key.

**Buying.** `POST /hosting` answers 402 with an invoice and a macaroon. Pay the invoice; your
wallet gets its preimage. Send the same request again with the header
`Authorization: L402 <macaroon>:<preimage>`. That credential is the receipt of the hosting: it has
no end, so keep it. The other POSTs that cost something answer 402 in the same way; the credential
that they lead to may do what the one shown to order it may do, and the old one stays good. No
other request mints an invoice: without a good credential they answer 401.

**Budgets.** Common clients refuse to pay more than 1,000 sat by default (l402-requests, lnget and
Aperture's client): raise that, or buy less at once. The smallest hosting costs {costs["hours"]} sat
for an hour and {costs["months"]} sat for a month.

**Sending again.** `POST /hosting` without a credential is a new order each time; the other POSTs
answer the same invoice until it is paid. With an `Idempotency-Key`, the same request and key are
one order for ever. Without one, the credential of a paid extension is good for that extension
once: then the same body is sold again, so that a loop may buy hour after hour.

**Errors** are `application/problem+json` (RFC 9457) with a `code` for programs and a `detail` for
people. `Retry-After` says after how many seconds to send the same again. In bodies, null is as if
the field were not there.

**Narrower credentials.** Whoever has a credential can narrow it by appending first-party caveats:
`{l402.SERVICE}_capabilities=read,mail` (of {", ".join(l402.CAPABILITIES)}) and
`{l402.SERVICE}_valid_until=<unix seconds>`. Passwords are shown to whole credentials only.
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
    """The draft's "formula" knows only prices of caveats, so that ours are "dynamic"."""
    return {"model": "dynamic", "prices": f"{PREFIX}/prices", "description": route.price}


# -- what is sent ----------------------------------------------------------------------

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
    "description": "The same key and request are one order for ever. Make it up at random.",
    "schema": {"type": "string", "pattern": f"^{api.KEY.pattern}$"},
}
TYPES = {WHOLE: "integer", TEXT: "string", YES_NO: "boolean"}


def _rules(shop: Shop) -> dict[str, dict]:
    """What the forms ask of each field."""
    hours = LONGEST_SECONDS // SHORTEST_SECONDS
    return {
        "space_mb": {"enum": list(shop.config.space_sizes_mb)},
        "duration": {"minimum": 1, "maximum": hours},
        "unit": {"enum": list(UNIT_SECONDS)},
        "username": {
            "pattern": f"^({names.RULE.pattern})?$",
            "description": f"{names.RULE_IN_WORDS}, and not reserved.",
        },
        "password": {
            "pattern": r"^([\x20-\x7e]{9,64})?$",
            "description": passwords.RULE_IN_WORDS,
        },
        "email": {"anyOf": [{"format": "email", "maxLength": 254}, {"maxLength": 0}]},
        "extra_addresses": {"minimum": 0, "maximum": EXTRAS_MAX},
        "extra_domains": {"minimum": 0, "maximum": EXTRAS_MAX},
    }


def _body(shop: Shop, route: Route) -> dict:
    rules = _rules(shop) | route.rules
    properties = {
        name: _property(TYPES[kind], rules.get(name, {}), name in route.required)
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
        return {"type": kind} | rules
    if "enum" in rules:
        rules = rules | {"enum": [*rules["enum"], None]}
    return {"type": [kind, "null"]} | rules


def _at_most(unit: str, seconds: int) -> dict:
    return {
        "if": {"properties": {"unit": {"const": unit}}},
        "then": {"properties": {"duration": {"maximum": LONGEST_SECONDS // seconds}}},
    }


# -- what is answered ------------------------------------------------------------------

HEADERS = {
    "Challenge": {
        "description": "Two lines, which proxies may join: `LSAT macaroon=…, invoice=…` for old "
        "clients, and the same with `L402`.",
        "required": True,
        "schema": {"type": "string"},
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


def _operation(shop: Shop, name: str, route: Route) -> dict:
    method, path = name.split()
    operation = {
        "operationId": _operation_id(method, path),
        "summary": route.summary,
        "responses": _responses(route),
    }
    if route.note:
        operation["description"] = route.note
    if route.capability:
        scheme = {"L402": [route.capability]}
        operation["security"] = [{}, scheme] if route.needs_none else [scheme]
        operation["x-l402-service"] = l402.SERVICE
        operation["x-l402-capability"] = route.capability
    if route.fields is not None:
        operation["requestBody"] = _body(shop, route)
    if route.sells:
        operation["parameters"] = [_ref("parameters", "IdempotencyKey")]
        operation["x-l402-pricing"] = pricing(shop, route)
    return operation


def _operation_id(method: str, path: str) -> str:
    words = path.replace("{", "").replace("}", "").replace("_", "/").split("/")
    return method.lower() + "".join(word.capitalize() for word in words)


def _responses(route: Route) -> dict:
    by_status: dict[int, list[str]] = {}
    for code in _codes(route):
        by_status.setdefault(CODES[code][0], []).append(code)
    answers = {status: _success(status, schema) for status, schema in route.answers.items()}
    if route.sells:
        answers[402] = _payment_required(route)
    answers |= {status: _problem(status, codes) for status, codes in by_status.items()}
    return {str(status): answers[status] for status in sorted(answers)}


def _codes(route: Route) -> list[str]:
    codes = set(route.codes) | {"service_unavailable"}
    if route.capability:
        codes |= {"unauthorized", "not_capable", "not_settled"}
    if route.fields is not None:
        codes |= {"bad_request", "request_entity_too_large"}
    if route.sells:
        codes |= {"bad_key", *SALE}
    return [code for code in CODES if code in codes]


def _success(status: int, schema: str) -> dict:
    headers = {201: {"Location": _ref("headers", "Location")}}
    headers[202] = {"Retry-After": _ref("headers", "RetryAfter")}
    answer = {"description": {200: "As asked", 201: "Bought and ready", 202: "Not yet"}[status]}
    if status in headers:
        answer["headers"] = headers[status]
    return answer | {"content": {JSON: {"schema": _ref("schemas", schema)}}}


def _payment_required(route: Route) -> dict:
    return {
        "description": f"An invoice for {route.sells}",
        "headers": {"WWW-Authenticate": _ref("headers", "Challenge")},
        "content": {PROBLEM: {"schema": _ref("schemas", "PaymentRequired")}},
    }


def _problem(status: int, codes: list[str]) -> dict:
    meanings = [f"- `{code}`: {CODES[code][1]}" for code in codes]
    answer = {"description": "\n".join([f"{TITLES[status]}.", "", *meanings])}
    if status == 401:
        answer["headers"] = {"WWW-Authenticate": _ref("headers", "Bare")}
    if status == 429:
        answer["headers"] = {"Retry-After": _ref("headers", "RetryAfter")}
    exact = {"properties": {"status": {"const": status}, "code": {"enum": codes}}}
    schema = {"allOf": [_ref("schemas", "Problem"), exact]}
    return answer | {"content": {PROBLEM: {"schema": schema}}}


def _ref(kind: str, name: str) -> dict:
    return {"$ref": f"#/components/{kind}/{name}"}


# -- schemas of the answers ------------------------------------------------------------


def _record(optional: dict | None = None, **properties: dict) -> dict:
    """An object with just these properties; `optional` ones may be missing."""
    return {
        "type": "object",
        "properties": properties | (optional or {}),
        "required": list(properties),
        "additionalProperties": False,
    }


def _list(items: dict) -> dict:
    return {"type": "array", "items": items}


def _or_null(schema: dict) -> dict:
    return {"anyOf": [schema, {"type": "null"}]}


STRING, BOOLEAN = {"type": "string"}, {"type": "boolean"}
COUNT = {"type": "integer", "minimum": 0}
TIME = {"type": "string", "format": "date-time"}
PROBLEM_MEMBERS = {
    "type": {"const": "about:blank"},
    "title": STRING,
    "status": {"type": "integer"},
    "code": {"enum": list(CODES)},
    "detail": STRING,
}
SCHEMAS = {
    "Problem": _record(
        {
            "errors": {"type": "object", "additionalProperties": _list(STRING)},
            "order": STRING,
        },
        **PROBLEM_MEMBERS,
    ),
    "PaymentRequired": _record(
        **PROBLEM_MEMBERS | {"status": {"const": 402}, "code": {"const": "payment_required"}},
        price_msat={"type": "integer", "minimum": 1000},
        expires_at=TIME,
        invoice={"type": "string", "description": "BOLT11, as in the header"},
        macaroon={"type": "string", "description": "base64, as in the header"},
        order=STRING,
        order_url={"type": "string", "format": "uri", "description": "a page for people"},
        sale=_record(
            {"size": _ref("schemas", "Size"), "time": _ref("schemas", "Time")}
            | {"paid_until": TIME}
        ),
    ),
    "Size": _record(**{name: COUNT for name in Size.__annotations__}),
    "Time": _record(duration=COUNT, unit={"enum": list(UNIT_SECONDS)}, seconds=COUNT),
    "Prices": _record(
        sizes=_list(_record(space_mb=COUNT, rate_msat_per_day=COUNT, price_msat_of_30_days=COUNT)),
        space_left_mb=COUNT,
    ),
    "Hosting": _record(
        username=STRING,
        site=STRING,
        is_ready=BOOLEAN,
        paid_until=_or_null(TIME),
        left_seconds=COUNT,
        size=_ref("schemas", "Size"),
    ),
}
