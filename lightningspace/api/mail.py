"""The API's routes for mailboxes and forwards."""

from collections.abc import Callable
from functools import partial

from flask import Response

from lightningspace.api import codes, fields, resources, routes
from lightningspace.api.answers import created, going, success, the
from lightningspace.api.bodies import TEXT, WHOLE, WRONG, BadBody, check, check_as, form_of
from lightningspace.api.holders import account_now, changer, changes, holder, progress_of, sells
from lightningspace.api.invoices import PRICE_OF_SIZE, added, wait_for_own_order
from lightningspace.api.routes import described
from lightningspace.base import names
from lightningspace.base.models import Account, Service, transaction
from lightningspace.rules import services, wanted
from lightningspace.rules.tokens import Holder
from lightningspace.shop import this_shop
from lightningspace.visitors.forms import (
    DestinationForm,
    ForwardForm,
    MailboxForm,
    NewPasswordForm,
    QuotaForm,
)

blueprint = routes.part("mail")

MAILBOX_FIELDS = {"address": TEXT, "password": TEXT, "quota_mb": WHOLE}
MAILBOX_CHANGES = {"password": TEXT, "quota_mb": WHOLE}
FORWARD_FIELDS = {"address": TEXT, "destination": TEXT}
FORWARD_CHANGES = {"destination": TEXT}


# -- mailboxes -------------------------------------------------------------------------


@blueprint.get("/hosting/mailboxes")
@described("The mailboxes", {200: "Mailboxes"}, capability="read")
def mailboxes():
    found = holder()
    return success({"mailboxes": _mailboxes(found)} | _addresses_used(found))


@blueprint.get("/hosting/mailboxes/<address>")
@described("One mailbox", {200: "Mailbox"}, capability="read", codes=codes.ONE)
def mailbox(address):
    return success(the(_mailboxes(holder()), "address", address))


@blueprint.post("/hosting/mailboxes")
@described(
    "Add a mailbox",
    {201: "Mailbox"},
    capability="mail",
    fields=MAILBOX_FIELDS,
    required=("address",),
    rules={"password": fields.or_empty(fields.PASSWORD)},
    sells="one more mailbox or forward than is included or was bought",
    price=PRICE_OF_SIZE,
    codes=(*codes.CHANGE, *codes.SIZE_SALE, "taken", "full"),
    note="Without a password one is generated and shown. A 402 needs the capability pay.",
)
@changes
@sells
def add_mailbox():
    found = changer()
    body = routes.body()
    wait_for_own_order(found)
    form = _address_form(MailboxForm, found, body, left_mb=_left_mb(found))
    password, quota_mb = form.password.data or None, form.quota_mb.data
    answer = _wanted(found, "mailbox", form.address, password, quota_mb=quota_mb)
    return answer or created(_mailboxes(found), "api_mail.mailbox", address=form.address)


@blueprint.patch("/hosting/mailboxes/<address>")
@described(
    "Change a mailbox",
    {200: "Mailbox"},
    capability="mail",
    fields=MAILBOX_CHANGES,
    rules={"password": fields.generated_if_null(fields.PASSWORD)},
    codes=(*codes.ONE, *codes.CHANGE),
    note="null for quota_mb: its share of what the other mailboxes leave.",
)
@changes
def change_mailbox(address):
    """null: for a password, one is generated; for a quota, a share of what the others leave."""
    found = changer()
    row = _find(found.account, "mailbox", address)
    body = routes.body(nullable=MAILBOX_CHANGES)
    password = body.get("password")
    if password is not None:
        check_as(form_of(NewPasswordForm, {"new": password}), new="password")
    quota_mb = body.get("quota_mb")
    if quota_mb is not None:
        check(form_of(QuotaForm, {"quota_mb": quota_mb}, left_mb=_left_mb(found, row)))
    if body:
        with transaction():
            if "password" in body:
                wanted.set_password(this_shop(), row.account_id, row.kind, row.name, password)
            if "quota_mb" in body:
                wanted.configure(row.account_id, row.kind, row.name, quota_mb=quota_mb)
    return success(the(_mailboxes(found), "address", address))


@blueprint.delete("/hosting/mailboxes/<address>")
@described(
    "Remove a mailbox with its mail",
    {202: "AddressGoing"},
    capability="mail",
    codes=(*codes.ONE, *codes.CHANGE),
)
@changes
def remove_mailbox(address):
    return _removed_address("mailbox", address)


# -- forwards --------------------------------------------------------------------------


@blueprint.get("/hosting/forwards")
@described("The forwards", {200: "Forwards"}, capability="read")
def forwards():
    found = holder()
    return success({"forwards": _forwards(found)} | _addresses_used(found))


@blueprint.get("/hosting/forwards/<address>")
@described("One forward", {200: "Forward"}, capability="read", codes=codes.ONE)
def forward(address):
    return success(the(_forwards(holder()), "address", address))


@blueprint.post("/hosting/forwards")
@described(
    "Add a forward",
    {201: "Forward"},
    capability="mail",
    fields=FORWARD_FIELDS,
    required=("address", "destination"),
    sells="one more mailbox or forward than is included or was bought",
    price=PRICE_OF_SIZE,
    codes=(*codes.CHANGE, *codes.SIZE_SALE, "taken", "full"),
    note="A 402 needs the capability pay.",
)
@changes
@sells
def add_forward():
    found = changer()
    body = routes.body()
    wait_for_own_order(found)
    form = _address_form(ForwardForm, found, body)
    answer = _wanted(found, "forward", form.address, destination=form.destination.data)
    return answer or created(_forwards(found), "api_mail.forward", address=form.address)


@blueprint.patch("/hosting/forwards/<address>")
@described(
    "Send a forward's mail elsewhere",
    {200: "Forward"},
    capability="mail",
    fields=FORWARD_CHANGES,
    required=("destination",),
    codes=(*codes.ONE, *codes.CHANGE),
)
@changes
def change_forward(address):
    found = changer()
    row = _find(found.account, "forward", address)
    form = form_of(DestinationForm, routes.body())
    form.address = row.name
    check(form)
    wanted.configure(row.account_id, row.kind, row.name, destination=form.destination.data)
    return success(the(_forwards(found), "address", address))


@blueprint.delete("/hosting/forwards/<address>")
@described(
    "Remove a forward",
    {202: "AddressGoing"},
    capability="mail",
    codes=(*codes.ONE, *codes.CHANGE),
)
@changes
def remove_forward(address):
    return _removed_address("forward", address)


# -- both ------------------------------------------------------------------------------


def _address_form(kind: Callable, found: Holder, body: dict, **kwargs):
    """The checked form for a new address, which the API takes in one field. Raises BadBody."""
    local_part, _, domain = _as_address(body.pop("address", "")).rpartition("@")
    typed = body | {"local_part": local_part, "domain": domain}
    own = services.mail_domains(this_shop(), found.account, services.of_account(found.account.id))
    form = form_of(kind, typed, own, **kwargs)
    check_as(form, local_part="address", domain="address")
    return form


def _as_address(typed: str) -> str:
    try:
        return names.as_address(typed)
    except ValueError:
        return typed.strip()  # the form says what is wrong with it


def _wanted(found: Holder, kind: str, address: str, password: str | None = None, **settings):
    """Add an address; 402 if one more must be paid first, else None. Raises BadBody."""
    add = partial(wanted.add, this_shop(), found.account.id, kind, address, password, **settings)
    try:
        return added(found, "addresses", add)
    except ValueError:  # such as a domain that was removed a moment ago
        wrong = ["You cannot have this address here. Check the domain."]
        raise BadBody(WRONG, {"address": wrong}) from None


def _removed_address(kind: str, address: str) -> Response:
    found = changer()
    row = _find(found.account, kind, address)
    wanted.remove(row.account_id, row.kind, row.name)
    return going(address=address)


def _mailboxes(found: Holder) -> list[dict]:
    return resources.mailboxes(this_shop(), progress_of(found), found.rights.are_whole)


def _forwards(found: Holder) -> list[dict]:
    return resources.forwards(progress_of(found))


def _addresses_used(found: Holder) -> dict:
    rows = [
        row
        for row in services.of_account(found.account.id)
        if row.kind in services.ADDRESSES and not row.gone
    ]
    allowed = services.addresses_allowed(this_shop(), found.account)
    return {"addresses_used": len(rows), "addresses_allowed": allowed}


def _left_mb(found: Holder, row: Service | None = None) -> int:
    """The largest quota that a mailbox can have; `row` None: a new one."""
    account = account_now(found)
    others = [
        each for each in services.of_account(account.id) if each.kind == "mailbox" and each != row
    ]
    return services.mail_left_mb(account.space_mb, others)


def _find(account: Account, kind: str, name: str) -> Service:
    """A service that is not being removed. Raises wanted.UnknownService."""
    for row in services.of_account(account.id):
        if (row.kind, row.name, row.gone) == (kind, name, False):
            return row
    raise wanted.UnknownService
