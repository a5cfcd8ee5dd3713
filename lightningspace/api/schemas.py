"""The API's answers in JSON Schema; `resources` makes most of them."""

from lightningspace.api import resources
from lightningspace.api.tip import TipState
from lightningspace.base import messages
from lightningspace.base.prices import EXTRAS, UNIT_SECONDS, Size
from lightningspace.rules import refunds, services, tips
from lightningspace.rules.calendar import Banner
from lightningspace.rules.certificates import Https
from lightningspace.rules.order_book import OrderKind, OrderState
from lightningspace.rules.progress import ServiceState

PREFIX = "#/components/schemas/"


def ref(name: str) -> dict:
    return {"$ref": f"{PREFIX}{name}"}


def record(optional: dict | None = None, **properties: dict) -> dict:
    """An object with just these properties; `optional` ones may be missing."""
    return {
        "type": "object",
        "properties": properties | (optional or {}),
        "required": list(properties),
        "additionalProperties": False,
    }


def list_of(items: dict) -> dict:
    return {"type": "array", "items": items}


def or_null(schema: dict) -> dict:
    return {"anyOf": [schema, {"type": "null"}]}


def one_of(*names: str) -> dict:
    return {"enum": list(names)}


def text(description: str) -> dict:
    return {"type": "string", "description": description}


STRING, BOOLEAN = {"type": "string"}, {"type": "boolean"}
COUNT = {"type": "integer", "minimum": 0}
TIME = {"type": "string", "format": "date-time"}
PAGE = {"type": "string", "format": "uri", "description": "a page for people"}
SHOWN_END = or_null(TIME) | {"description": "null: the owner does not show it, or not yet"}
NEXT_BEFORE = or_null(STRING) | {"description": "`before` for the next ones; null: no more"}
PASSWORD = or_null(STRING) | {
    "description": "One that was generated: shown to whole credentials, until it is noted or a day "
    "has passed."
}
PROGRESS = {
    "state": one_of(*ServiceState),
    "trouble": or_null(record(is_stuck=BOOLEAN, last_try=or_null(TIME)))
    | {"description": "null while all is well; is_stuck: it waits for the operator"},
}
# The settings of services: each kind has some of them.
SETTINGS = {
    "php": BOOLEAN,
    "php_version": COUNT,
    "letsencrypt": BOOLEAN,
    "pretty_addresses": BOOLEAN,
    "redirect_to": STRING,
    "ssh_key": STRING,
    "quota_mb": or_null(COUNT),
    "destination": or_null(STRING),
}
CONNECTION = or_null(
    record(
        {"security": STRING, "database": STRING, "host_over_ssh": STRING},
        host=STRING,
        user=or_null(STRING),
        port=COUNT,
    )
)
USED = record(used_mb=or_null(COUNT), mb=COUNT)
PROBLEM = {
    "type": {"const": "about:blank"},
    "title": STRING,
    "status": {"type": "integer"},
    "code": text("for programs"),
    "detail": text("for people"),
}

SCHEMAS = {
    "Problem": record(
        {
            "errors": {
                "type": "object",
                "additionalProperties": list_of(STRING),
                "description": "what is wrong with each field of the body",
            },
            "order": text("the order that stands in the way"),
        },
        **PROBLEM,
    ),
    "PaymentRequired": record(
        **PROBLEM | {"status": {"const": 402}, "code": {"const": "payment_required"}},
        price_msat={"type": "integer", "minimum": 1000},
        expires_at=TIME,
        invoice=text("BOLT11, as in the header"),
        macaroon=text("base64, as in the header"),
        order=STRING,
        order_url=PAGE,
        sale=record(
            {
                "site": text("whose time is sold to anybody"),
                "size": ref("Size"),
                "time": ref("Time"),
                "paid_until": SHOWN_END,
                "name_is_held": BOOLEAN
                | {
                    "description": "false: whoever pays first has the name, and you get another one"
                },
            }
        ),
    ),
    "Size": record(**dict.fromkeys(Size.__annotations__, COUNT)),
    "Time": record(duration=COUNT, unit=one_of(*UNIT_SECONDS), seconds=COUNT),
    "Prices": record(
        {"price": record(space_mb=COUNT, time=ref("Time"), msat=COUNT)},
        sizes=list_of(record(space_mb=COUNT, rate_msat_per_day=COUNT, price_msat_of_30_days=COUNT)),
        included=record(**{extra.name: COUNT for extra in EXTRAS}),
        extra=record(
            **{f"{extra.one}_msat_per_day": COUNT for extra in EXTRAS}, most_of_each=COUNT
        ),
        time=record(
            unit_seconds=record(**dict.fromkeys(UNIT_SECONDS, COUNT)),
            shortest_seconds=COUNT,
            longest_seconds=COUNT,
            horizon_seconds=COUNT,
        ),
        invoice_minutes=COUNT,
        mail_send_min_days=COUNT,
        grace_days=COUNT,
        space_left_mb=COUNT,
    ),
    "Hosting": record(
        as_of=TIME,
        username=STRING,
        site=STRING,
        url=text("of the site: https where that works"),
        https=or_null(one_of(*Https))
        | {
            "description": "for the site’s own name. wildcard, there: it works; fetching: it will "
            "in minutes; short: too few days are paid for; elsewhere: the name does not lead here; "
            "full: the week’s certificates are used up; refused: Let’s Encrypt gave none so far; "
            "off: switched off; none: this shop’s sites have none"
        },
        state=one_of(*resources.HostingState),
        notices=list_of(ref("Notice")),
        is_ready=BOOLEAN,
        jobs_before=or_null(COUNT)
        | {
            "description": "jobs that the server does before all of this works; null: it does, or "
            "that is not known yet"
        },
        opened_at=or_null(TIME),
        ready_at=or_null(TIME),
        paid_until=or_null(TIME),
        left_seconds=COUNT,
        paid_seconds=COUNT,
        credit_msat=COUNT,
        size=ref("Size"),
        space=record(site=USED, database=USED, mail=USED, as_of=or_null(TIME)),
        email=or_null(STRING),
        email_waits=or_null(STRING) | {"description": "nothing goes there before it is confirmed"},
        password=PASSWORD,
        services=list_of(ref("Service")),
        connections=record(
            host=STRING,
            web=record(url=STRING, directory=STRING),
            **dict.fromkeys(("ftp", "ssh", "database", "imap", "smtp"), CONNECTION),
        ),
        may_send=BOOLEAN,
        php=record(choice=STRING, choices=list_of(record(id=STRING, name=STRING))),
        mailboxes=list_of(ref("Mailbox")),
        forwards=list_of(ref("Forward")),
        **{f"{extra.name}_allowed": COUNT for extra in EXTRAS},
        domains=list_of(ref("Domain")),
        orders=list_of(ref("Order")),
        payments=list_of(ref("Order")),
        tips=record(
            **dict.fromkeys(tips.SWITCHES, BOOLEAN),
            page_url=PAGE,
            lightning_address=STRING,
            offer=or_null(text("BOLT 12")) | {"description": "null: nobody has asked for it yet"},
            received_msat=COUNT,
        ),
    ),
    "Notice": record(
        {"opens_at": TIME, "closes_at": TIME, "ends_at": TIME, "reason": STRING}
        | {"credit_msat": COUNT, "blocked_for": or_null(STRING)},
        kind=one_of(*Banner),
    ),
    "Service": record(
        {"note": text("why it is otherwise than its settings say, while it is")},
        kind=one_of(*services.KINDS),
        name=STRING,
        is_on=BOOLEAN,
        settings=record(SETTINGS),
        password=PASSWORD,
        **PROGRESS,
    ),
    "Mailbox": record(
        address=STRING,
        quota_mb=or_null(COUNT),
        own_quota_mb=or_null(COUNT) | {"description": "null: a share of what the others leave"},
        password=PASSWORD,
        **PROGRESS,
    ),
    "Mailboxes": record(
        mailboxes=list_of(ref("Mailbox")), addresses_used=COUNT, addresses_allowed=COUNT
    ),
    "Forward": record(address=STRING, destination=or_null(STRING), **PROGRESS),
    "Forwards": record(
        forwards=list_of(ref("Forward")), addresses_used=COUNT, addresses_allowed=COUNT
    ),
    "Domain": record(
        name=STRING,
        wants_mail=BOOLEAN,
        added_at=TIME,
        **dict.fromkeys(
            ("looked_at", "verified_at", "missing_at", "mx_missing_at", "mail_ends_at", "ends_at"),
            or_null(TIME),
        ),
        problem=or_null(STRING),
        found=or_null(
            record(
                leads_here=or_null(BOOLEAN),
                addresses_elsewhere=list_of(STRING),
                server_addresses=list_of(STRING),
                texts=list_of(STRING),
                mx=or_null(list_of(STRING)),
            )
        )
        | {"description": "some of what its records said at looked_at; null in it: unknown"},
        records=list_of(record(type=STRING, name=STRING, value=STRING, purpose=STRING)),
        web=or_null(record(**PROGRESS)),
        mail=or_null(record(**PROGRESS)),
    ),
    "Domains": record(domains=list_of(ref("Domain")), domains_allowed=COUNT),
    "Order": record(
        order=STRING,
        kind=one_of(*(kind for kind in OrderKind if kind != OrderKind.LOST)),
        state=one_of(*OrderState),
        price_msat=COUNT,
        received_msat=or_null(COUNT),
        size=or_null(ref("Size")),
        time=or_null(ref("Time")),
        placed_at=TIME,
        expires_at=TIME,
        **dict.fromkeys(("paid_at", "applied_at", "ends_at"), or_null(TIME)),
        bought_seconds=or_null({"type": "integer"}),
        credit_msat=or_null({"type": "integer"}),
        payment_hash=or_null(STRING),
        refund=or_null(record(state=one_of(*refunds.State), msat=COUNT, page_url=PAGE)),
    ),
    "Orders": record(
        orders=list_of(ref("Order")),
        payments=list_of(ref("Order")),
        next_before=NEXT_BEFORE,
    ),
    "TipReceived": record(
        order=STRING,
        door=one_of(*tips.DOORS),
        received_msat=COUNT,
        message=or_null(STRING),
        hidden=BOOLEAN,
        paid_at=TIME,
    ),
    "Tips": record(
        tips=list_of(ref("TipReceived")),
        received_msat=COUNT,
        small_tips=COUNT,
        small_tips_msat=COUNT,
        next_before=NEXT_BEFORE,
    ),
    "TipTaker": record(
        username=STRING,
        site=STRING,
        min_msat=COUNT,
        max_msat=COUNT,
        message_max={"const": messages.LONGEST},
        lightning_address=or_null(STRING),
        offer=or_null(text("BOLT 12")),
        paid_until=SHOWN_END,
        page_url=PAGE,
    ),
    "Tip": record(
        order=STRING,
        state=one_of(*TipState),
        amount_msat=COUNT,
        expires_at=TIME,
        status_url={"type": "string", "format": "uri"},
        page_url=PAGE,
        invoice=or_null(text("BOLT11")) | {"description": "null: it cannot be paid (any more)"},
        qr_svg=or_null(text("of the invoice")),
        applied=BOOLEAN,
        paid_until=SHOWN_END,
    ),
    "TimeGiven": record(username=STRING, site=STRING, applied=BOOLEAN, paid_until=SHOWN_END),
    "AddressGoing": record(address=STRING, state={"const": "going"}),
    "DomainGoing": record(name=STRING, state={"const": "going"}),
    "Closing": record(closing={"const": True}),
}

_HOSTING = SCHEMAS["Hosting"]["properties"]
SCHEMAS |= {
    "HostingTerms": record(**{name: _HOSTING[name] for name in resources.TERMS}),
    "HostingAsTold": {
        "anyOf": [ref("Hosting"), ref("HostingTerms")],
        "description": "its terms alone for credentials that lack the capability read",
    },
}
