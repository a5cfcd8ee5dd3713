"""What each route of the API is for, takes and answers, as `openapi` tells it."""

from dataclasses import dataclass, field

from lightningspace.api import hosting, selling
from lightningspace.api.bodies import TEXT, WHOLE, YES_NO
from lightningspace.api.tips import TIP_FIELDS
from lightningspace.base import messages, names, passwords
from lightningspace.base.prices import (
    EXTRAS,
    EXTRAS_MAX,
    LONGEST_SECONDS,
    SHORTEST_SECONDS,
    UNIT_SECONDS,
)
from lightningspace.rules import tips
from lightningspace.shop import Shop

# Every `code` of a problem: its status, and what it means.
CODES = {
    "bad_request": (400, "The request cannot be read, or `errors` says what is wrong with it."),
    "bad_key": (400, "The Idempotency-Key is too short or long, or has blanks."),
    "unauthorized": (401, "No credential, or one that is not good (any more). No invoice comes."),
    "payment_required": (402, "Pay the invoice, then send the same with the credential."),
    "not_capable": (403, "The credential lacks the capability that this needs."),
    "not_whole": (403, "Only a whole credential may set this."),
    "unknown": (404, "There is nothing of this name in this hosting, or nobody of it takes tips."),
    "not_found": (404, "There is no such address."),
    "name_taken": (409, "The username is another's, or rests after one."),
    "taken": (409, "This name is in use: in this hosting, or in another one."),
    "sold_out": (409, "So much space is not free just now."),
    "changed": (409, "The credential has paid for something else than this body asks for."),
    "ordered": (409, "The order of this Idempotency-Key is paid: send its credential along."),
    "refused": (409, "Nothing is sold to this hosting as it is now; `detail` says why."),
    "size_waits": (409, "Another size is ordered already, and comes first: `order`."),
    "full": (409, "All that is included and paid for is used just now: send the same again."),
    "closing": (409, "The hosting is being closed: nothing of it can be changed."),
    "no_mail": (409, "This shop sends no mail."),
    "paid": (409, "The order is paid."),
    "just_paid": (409, "A payment has just arrived: nothing was closed."),
    "request_entity_too_large": (413, "The body has more than 64 KiB."),
    "too_many_unpaid": (429, "Too many unpaid orders: pay one, or wait until they are over."),
    "too_many_requests": (429, "Too many orders or changes in a short time."),
    "too_many_mails": (429, "The address was mailed a link today, or several others were."),
    "not_settled": (503, "The payment is on its way into our books. Pay nothing twice."),
    "checking": (503, "The order is being prepared, or we find out whether it was paid in time."),
    "takes_effect": (503, "It is paid, and takes effect in a moment."),
    "setting_up": (503, "The hosting is still being set up."),
    "node_down": (503, "Our Lightning node does not answer. Nothing was charged."),
    "service_unavailable": (503, "We cannot answer just now. Nothing is lost."),
}
TITLES = {
    400: "The request is wrong",
    401: "Not with this credential",
    403: "This credential may not do that",
    404: "Nothing of this name",
    409: "Not as things stand",
    413: "Too much",
    429: "Too often",
    503: "Not now; send the same again soon",
}
SALE = ("ordered", "too_many_unpaid", "checking", "node_down")
SIZE_SALE = ("refused", "sold_out", "size_waits", "takes_effect", "setting_up")
PRICE_OF_TIME = (
    "The rate of its size (rate_msat_per_day) times the seconds, divided by 86400, rounded up to "
    "whole satoshi; at least one."
)
PRICE_OF_SIZE = "What the new size costs more until the end of the paid time; no less than 0."


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


# -- what fields may be ----------------------------------------------------------------

PASSWORD = {"pattern": f"^{passwords.SIGNS}{{9,64}}$", "description": passwords.RULE_IN_WORDS}
EMAIL = {"format": "email", "maxLength": 254}


def _or_empty(rules: dict) -> dict:
    return {"anyOf": [rules, {"maxLength": 0}]}


def _made_up_if_null(rules: dict) -> dict:
    return rules | {"description": f"{rules['description']}; null: one is made up and shown"}


def fields(shop: Shop) -> dict[str, dict]:
    """What the forms ask of each field."""
    least, most = tips.bounds_msat(shop)
    return {
        "amount_msat": {"minimum": least, "maximum": most},
        "message": {"maxLength": messages.LONGEST},
        "space_mb": {"enum": list(shop.config.space_sizes_mb)},
        "duration": {"minimum": 1, "maximum": LONGEST_SECONDS // SHORTEST_SECONDS},
        "unit": {"enum": list(UNIT_SECONDS)},
        **{extra.column: {"minimum": 0, "maximum": EXTRAS_MAX} for extra in EXTRAS},
        "address": {"pattern": "@", "description": "of one of the hosting's domains with mail"},
        "destination": {"pattern": "@", "maxLength": 254},
        "quota_mb": {"minimum": 1},
        "name": {"minLength": 1, "description": "such as example.org"},
    }


NEW = {
    "username": _or_empty({"pattern": f"^{names.RULE.pattern}$"})
    | {"description": f"{names.RULE_IN_WORDS}, and not reserved"},
    "password": _or_empty(PASSWORD),
    "email": _or_empty(EMAIL),
}
SETTINGS = {
    "php": {"description": "one of php.choices of the hosting"},
    "pretty_addresses": {
        "description": "what is no file is for index.php, as WordPress and others want it"
    },
    "redirect_to": {
        "maxLength": names.WEB_ADDRESS_MAX,
        "description": "an address; what was asked for is put behind it. null: none",
    },
    "ssh_key": {"description": "one public key; null: none"},
    "login_password": PASSWORD,
    "email": EMAIL | {"description": "a link to open is mailed there; null: no more reminders"},
    "noted_as_of": {
        "pattern": r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$",
        "description": "`as_of` of an answer: the passwords that it showed are not shown any more",
    },
    **dict.fromkeys((hosting.EVERY_PASSWORD, *hosting.PASSWORDS), _made_up_if_null(PASSWORD)),
}

# -- the routes ------------------------------------------------------------------------

CHANGE = ("setting_up", "closing")
ONE = ("unknown", "not_found")
ROUTES = {
    "GET /prices": Route(
        "What is on offer, and what it costs",
        {200: "Prices"},
        query={"space_mb": WHOLE, "duration": WHOLE, "unit": TEXT},
        codes=("bad_request",),
        note="Asking mints nothing. With space_mb, duration and unit, `price` is that of a new "
        "hosting. All prices are in millisatoshi; an invoice has whole satoshi.",
    ),
    "POST /hosting": Route(
        "Buy a hosting, or see the one that was bought",
        {201: "Hosting", 202: "Hosting"},
        capability="read",
        needs_none=True,
        fields=selling.ORDER_FIELDS,
        required=("space_mb", "duration", "unit"),
        rules=NEW,
        sells="a new hosting",
        price=PRICE_OF_TIME,
        codes=("name_taken", "sold_out", "changed"),
        note="Without a credential, or with one of a hosting that is no more, 402 sells a new one. "
        "With its credential and the same body, the hosting is answered, however often it is sent. "
        "Name and password are made up when they are not sent; an e-mail address is mailed a link "
        "when it is paid, and reminders once that was opened.",
    ),
    "GET /hosting": Route(
        "All that there is to know of the hosting",
        {200: "Hosting", 202: "Hosting"},
        capability="read",
        note="202: it is still being set up.",
    ),
    "PATCH /hosting": Route(
        "Change settings and passwords",
        {200: "HostingAsTold"},
        capability="settings",
        fields=hosting.SETTING_FIELDS,
        rules=SETTINGS,
        codes=(*CHANGE, "not_whole", "no_mail", "too_many_mails"),
        note="All that is sent is changed, or nothing. "
        f"{', '.join(hosting.OWNER_FIELDS)}: by whole credentials only. "
        f"{hosting.EVERY_PASSWORD} is that of the mailboxes, too, and needs the capability mail.",
    ),
    "DELETE /hosting": Route(
        "Close the hosting",
        {202: "Closing"},
        capability="close",
        codes=("setting_up", "just_paid", "checking", "node_down"),
        note="Everything in it is deleted, and nothing is paid back.",
    ),
    "POST /hosting/extend": Route(
        "Buy more time",
        {200: "HostingAsTold", 202: "HostingAsTold"},
        capability="pay",
        fields=selling.TIME_FIELDS,
        required=("duration", "unit"),
        sells="more time",
        price=PRICE_OF_TIME,
        codes=("refused", "changed", "setting_up"),
        note="202: it is paid and takes effect in a moment. Send the same again: nothing is sold "
        "for it. "
        "The token of an extension is good for it once: the same body, sent again with that "
        "token, is sold again. It goes on to be a credential of the hosting, as the one that was "
        "shown to order it.",
    ),
    "POST /hosting/resize": Route(
        "Change the size",
        {200: "HostingAsTold"},
        capability="pay",
        fields=selling.SIZE_FIELDS,
        sells="a larger size",
        price=PRICE_OF_SIZE,
        codes=SIZE_SALE,
        note="What is not sent stays as it is. A larger size costs the difference until the same "
        "end; a smaller one is had at once, and makes what is paid last longer.",
    ),
    "GET /hosting/mailboxes": Route("The mailboxes", {200: "Mailboxes"}, capability="read"),
    "POST /hosting/mailboxes": Route(
        "Add a mailbox",
        {201: "Mailbox"},
        capability="mail",
        fields=hosting.MAILBOX_FIELDS,
        required=("address",),
        rules={"password": _or_empty(PASSWORD)},
        sells="one more mailbox or forward than is included or was bought",
        price=PRICE_OF_SIZE,
        codes=(*CHANGE, *SIZE_SALE, "taken", "full"),
        note="Without a password one is made up and shown. For 402 the capability pay is needed.",
    ),
    "GET /hosting/mailboxes/{address}": Route(
        "One mailbox", {200: "Mailbox"}, capability="read", codes=ONE
    ),
    "PATCH /hosting/mailboxes/{address}": Route(
        "Change a mailbox",
        {200: "Mailbox"},
        capability="mail",
        fields=hosting.MAILBOX_CHANGES,
        rules={"password": _made_up_if_null(PASSWORD)},
        codes=(*ONE, *CHANGE),
        note="null for quota_mb: its share of what the others leave.",
    ),
    "DELETE /hosting/mailboxes/{address}": Route(
        "Remove a mailbox with its mail",
        {202: "AddressGoing"},
        capability="mail",
        codes=(*ONE, *CHANGE),
    ),
    "GET /hosting/forwards": Route("The forwards", {200: "Forwards"}, capability="read"),
    "POST /hosting/forwards": Route(
        "Add a forward",
        {201: "Forward"},
        capability="mail",
        fields=hosting.FORWARD_FIELDS,
        required=("address", "destination"),
        sells="one more mailbox or forward than is included or was bought",
        price=PRICE_OF_SIZE,
        codes=(*CHANGE, *SIZE_SALE, "taken", "full"),
        note="For 402 the capability pay is needed.",
    ),
    "GET /hosting/forwards/{address}": Route(
        "One forward", {200: "Forward"}, capability="read", codes=ONE
    ),
    "PATCH /hosting/forwards/{address}": Route(
        "Send a forward's mail elsewhere",
        {200: "Forward"},
        capability="mail",
        fields=hosting.FORWARD_CHANGES,
        required=("destination",),
        codes=(*ONE, *CHANGE),
    ),
    "DELETE /hosting/forwards/{address}": Route(
        "Remove a forward", {202: "AddressGoing"}, capability="mail", codes=(*ONE, *CHANGE)
    ),
    "GET /hosting/domains": Route("The domains", {200: "Domains"}, capability="read"),
    "POST /hosting/domains": Route(
        "Add a domain",
        {201: "Domain"},
        capability="domains",
        fields=hosting.DOMAIN_FIELDS,
        required=("name",),
        sells="one more domain than is included or was bought",
        price=PRICE_OF_SIZE,
        codes=(*CHANGE, *SIZE_SALE, "taken", "full"),
        note="It works once its `records` are found. For 402 the capability pay is needed.",
    ),
    "GET /hosting/domains/{name}": Route(
        "One domain", {200: "Domain"}, capability="read", codes=ONE
    ),
    "PATCH /hosting/domains/{name}": Route(
        "Switch a domain's mail",
        {200: "Domain"},
        capability="domains",
        fields=hosting.DOMAIN_CHANGES,
        codes=(*ONE, *CHANGE),
    ),
    "DELETE /hosting/domains/{name}": Route(
        "Remove a domain with its mailboxes",
        {202: "DomainGoing"},
        capability="domains",
        codes=(*ONE, *CHANGE),
    ),
    "POST /hosting/domains/{name}/check": Route(
        "Have a domain's records looked up now",
        {202: "Domain"},
        capability="domains",
        codes=(*ONE, *CHANGE),
    ),
    "GET /hosting/orders": Route(
        "Orders that can be paid, and what was paid",
        {200: "Orders"},
        capability="read",
        query={"before": TEXT},
        codes=("unknown",),
        note="The latest payments first; `before` is the `next_before` of the answer before.",
    ),
    "DELETE /hosting/orders/{token}": Route(
        "Cancel an order",
        {200: "Order"},
        capability="pay",
        codes=(*ONE, "paid", "checking", "node_down"),
    ),
    "GET /hosting/tips": Route(
        "Tips that others gave",
        {200: "Tips"},
        capability="read",
        query={"before": TEXT},
        codes=("unknown",),
        note="The latest first; `before` is the `next_before` of the answer before. What was below "
        "the least that is a tip is counted in small_tips. Doors are switched by PATCH /hosting.",
    ),
    "PATCH /hosting/tips/{token}": Route(
        "Hide the message of a tip, or show it again",
        {200: "TipReceived"},
        capability="settings",
        fields=hosting.TIP_CHANGES,
        codes=(*ONE, *CHANGE),
    ),
    "GET /tips/{username}": Route(
        "How somebody takes tips", {200: "TipTaker"}, codes=("unknown", "not_found")
    ),
    "POST /tips/{username}": Route(
        "Give a tip, which becomes time of a hosting",
        {201: "Tip"},
        fields=TIP_FIELDS,
        required=("amount_msat",),
        mints=True,
        codes=("unknown", "not_found", "refused", "too_many_unpaid", "node_down"),
        note="For whoever asks: pay the invoice, and watch the tip. It gives no right over the "
        "hosting. Messages are kept without control characters and line breaks.",
    ),
    "GET /tips/{username}/{order}": Route(
        "What has become of a tip",
        {200: "Tip"},
        codes=("unknown", "not_found"),
        note="late: the hosting was being deleted when it was paid. `applied`: it has become time.",
    ),
}
TYPES = {WHOLE: "integer", TEXT: "string", YES_NO: "boolean"}
