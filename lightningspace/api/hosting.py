"""The API's routes over a hosting that is there: settings, mail, domains, orders, its end.

What may be, and what it does, say the forms and functions of the control center's pages.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from flask import Response, request, url_for

from lightningspace.api import answers, bodies, resources
from lightningspace.api.answers import ApiError, success
from lightningspace.api.bodies import TEXT, WHOLE, WRONG, YES_NO, BadBody
from lightningspace.api.selling import (
    NOT_READY,
    account_now,
    api,
    check,
    check_able,
    check_opened,
    check_still,
    holder,
    holders,
    sell_one_more,
    sells,
    told,
    wait_for_own_order,
)
from lightningspace.base import clock, names, passwords
from lightningspace.base.models import Account, Domain, Order, Service, transaction
from lightningspace.base.prices import DAY
from lightningspace.outside.node import NodeError
from lightningspace.rules import (
    accounts,
    domains,
    invoices,
    order_book,
    progress,
    reminders,
    services,
    sessions,
    tips,
    usage,
    wanted,
)
from lightningspace.rules.tokens import Holder
from lightningspace.shop import this_shop
from lightningspace.visitors import limits, logins
from lightningspace.visitors.forms import (
    DestinationForm,
    DomainForm,
    EmailForm,
    ForwardForm,
    MailboxForm,
    NewPasswordForm,
    PhpForm,
    QuotaForm,
    RedirectForm,
    SshKeyForm,
)

logger = logging.getLogger(__name__)

changes = limits.limited("changes", among=holders)

SWITCHES = services.SETTING_SWITCHES
PASSWORDS = services.SETTING_PASSWORDS
EVERY_PASSWORD = "services_password"
SERVICE_FIELDS = {"php": TEXT, "https": YES_NO, "ssh_key": TEXT, EVERY_PASSWORD: TEXT}
SERVICE_FIELDS |= {"pretty_addresses": YES_NO, "redirect_to": TEXT}
SERVICE_FIELDS |= dict.fromkeys(SWITCHES, YES_NO) | dict.fromkeys(PASSWORDS, TEXT)
OWNER_FIELDS = {"login_password": TEXT, "email": TEXT, "noted_as_of": TEXT}
TIP_SWITCHES = dict.fromkeys(tips.SWITCHES, YES_NO)
SETTING_FIELDS = SERVICE_FIELDS | TIP_SWITCHES | OWNER_FIELDS
# null for a password: one is made up and shown; for what else may be null: none.
SETTINGS_NULLABLE = (EVERY_PASSWORD, *PASSWORDS, "ssh_key", "redirect_to", "email")

MAILBOX_FIELDS = {"address": TEXT, "password": TEXT, "quota_mb": WHOLE}
MAILBOX_CHANGES = {"password": TEXT, "quota_mb": WHOLE}
FORWARD_FIELDS = {"address": TEXT, "destination": TEXT}
FORWARD_CHANGES = {"destination": TEXT}
DOMAIN_FIELDS = {"name": TEXT, "wants_mail": YES_NO}
DOMAIN_CHANGES = {"wants_mail": YES_NO}
TIP_CHANGES = {"hidden": YES_NO}


# -- why not ---------------------------------------------------------------------------


REFUSALS = {
    wanted.UnknownService: ApiError(
        404, "unknown", "There is nothing of this name in this hosting."
    ),
    wanted.AccountClosed: ApiError(409, "closing", "This hosting is being closed."),
    wanted.AccountNotReady: NOT_READY,
    wanted.NoneLeft: ApiError(
        409, "full", "All that is paid for is used. Send the same to buy more."
    ),
    wanted.NameInUse: ApiError(409, "taken", "This hosting has this address already."),
}


@api.errorhandler(wanted.UnknownService)
@api.errorhandler(wanted.AccountClosed)
@api.errorhandler(wanted.AccountNotReady)
@api.errorhandler(wanted.NoneLeft)
@api.errorhandler(wanted.NameInUse)
def refusal(error):
    return answers.of_api_error(REFUSALS[type(error)])


# -- what all of them need -------------------------------------------------------------


def _changer(capability: str) -> Holder:
    """As `holder`, of a hosting that can be changed by now."""
    found = holder(capability)
    if found.account.closing_at is None:
        check_opened(found)
    return found


def _check_as(form, **names: str) -> None:
    """As `check`, where the API has these names for the form's fields."""
    try:
        check(form)
    except BadBody as wrong:
        errors = {names.get(field, field): texts for field, texts in wrong.errors.items()}
        raise BadBody(str(wrong), errors) from None


def _form(kind: Callable, fields: dict, *args, **kwargs):
    """The form as a browser would send it."""
    return kind(*args, formdata=bodies.as_typed(fields), meta={"csrf": False}, **kwargs)


def _rows(account: Account) -> list[Service]:
    return services.of_account(account.id)


def _find(account: Account, kind: str, name: str) -> Service:
    """A service that is not being removed. Raises wanted.UnknownService."""
    # Compared here: PostgreSQL fails on a NUL.
    for row in _rows(account):
        if (row.kind, row.name, row.gone) == (kind, name, False):
            return row
    raise wanted.UnknownService


def _added(found: Holder, what: str, add: Callable[[], object]) -> Response | None:
    """Add one more of "addresses" or "domains": 402 if that is to be paid before, else None."""
    try:
        add()
    except wanted.NoneLeft:
        check_able(found, "pay")
        answer = sell_one_more(found, what)
        if answer is not None:
            return answer
        add()
    return None


# -- settings --------------------------------------------------------------------------


@api.patch("/hosting")
@changes
def change_hosting():
    """All of it, or nothing: each field is checked before, and one transaction changes them."""
    found = _changer("settings")
    body = bodies.read(SETTING_FIELDS, SETTINGS_NULLABLE)
    if not found.rights.are_whole and not OWNER_FIELDS.keys().isdisjoint(body):
        owners = " and ".join(sorted(OWNER_FIELDS.keys() & body.keys()))
        raise ApiError(403, "not_whole", f"Only a whole credential may set {owners}.")
    if EVERY_PASSWORD in body:
        check_able(found, "mail")
    steps = _steps(found.account, body)
    changes_services = body.keys() - OWNER_FIELDS.keys()
    with wanted.change(found.account.id) if changes_services else transaction():
        # A password is hashed for long enough to be revoked meanwhile.
        check_still(found)
        for step in steps:
            step()
    return told(found)


def _steps(account: Account, body: dict) -> list[Callable[[], object]]:
    """What to do for each field, within a transaction. Raises BadBody with all that is wrong."""
    rows = {row.kind: row for row in reversed(_rows(account)) if not row.gone}
    steps, errors = [], {}
    for field, value in body.items():
        try:
            steps.append(STEPS[field](_Setting(account, rows, field), value))
        except BadBody as wrong:
            errors |= wrong.errors
    if errors:
        raise BadBody(WRONG, errors)
    return steps


@dataclass(frozen=True)
class _Setting:
    """One field of the body, and the services that it may be about."""

    account: Account
    rows: dict[str, Service]
    field: str

    def row(self, kind: str) -> Service:
        if kind not in self.rows:
            raise self.wrong("This hosting has no such service.")
        return self.rows[kind]

    def checked(self, kind: Callable, name: str, value: str, *args) -> str:
        """What the form's field makes of the value. Raises BadBody."""
        form = _form(kind, {name: value}, *args)
        _check_as(form, **{name: self.field})
        return form[name].data

    def password(self, value: str | None) -> str | None:
        """None: one is made up."""
        return None if value is None else self.checked(NewPasswordForm, "new", value)

    def wrong(self, text: str) -> BadBody:
        return BadBody(WRONG, {self.field: [text]})

    def configure(self, kind: str, **settings) -> Callable[[], object]:
        row = self.row(kind)
        return partial(wanted.configure, row.account_id, row.kind, row.name, **settings)


def _php(setting: _Setting, value: str):
    choices = usage.php_choices(setting.account, setting.row("site"))
    choice = setting.checked(PhpForm, "version", value, choices)
    return setting.configure("site", **usage.php_settings(choice))


def _https(setting: _Setting, value: bool):
    return setting.configure("site", letsencrypt=value)


def _pretty_addresses(setting: _Setting, value: bool):
    return setting.configure("site", pretty_addresses=value)


def _redirect_to(setting: _Setting, value: str | None):
    own = services.redirected_names(this_shop(), _rows(setting.account))
    target = setting.checked(RedirectForm, "redirect_to", value, own) if value else ""
    return setting.configure("site", redirect_to=target)


def _ssh_key(setting: _Setting, value: str | None):
    key = setting.checked(SshKeyForm, "ssh_key", value) if value else ""
    return setting.configure("shell", ssh_key=key)


def _switch(setting: _Setting, value: bool):
    row = setting.row(SWITCHES[setting.field])
    return partial(wanted.switch, row.account_id, row.kind, row.name, value)


def _tip_switch(setting: _Setting, value: bool):
    return partial(tips.switch, setting.account.id, **{setting.field: value})


def _password(setting: _Setting, value: str | None):
    row = setting.row(PASSWORDS[setting.field])
    of_row = row.account_id, row.kind, row.name
    return partial(wanted.set_password, this_shop(), *of_row, setting.password(value))


def _every_password(setting: _Setting, value: str | None):
    password = setting.password(value)
    return partial(wanted.set_every_password, this_shop(), setting.account.id, password)


def _login_password(setting: _Setting, value: str):
    new = setting.checked(NewPasswordForm, "new", value)
    hashed = passwords.make_hash(new, logins.place_for_new_password())
    return partial(sessions.end_all, setting.account.id, password_hash=hashed)


def _email(setting: _Setting, value: str | None):
    if value is None:
        return partial(reminders.remove, setting.account.id)
    return partial(_mail_link, setting.account.id, setting.checked(EmailForm, "email", value))


def _noted(setting: _Setting, value: str):
    """What was made after the passwords were shown is not noted yet."""
    try:
        seen_at = max(0, min(clock.from_iso(value), clock.now()))
    except (ValueError, OverflowError):
        raise setting.wrong("Write the “as_of” of the answer that showed them.") from None
    return partial(progress.forget_passwords, setting.account.id, seen_at)


# What makes of each field, once it is checked, the step that changes it.
STEPS = {"php": _php, "https": _https, "ssh_key": _ssh_key, EVERY_PASSWORD: _every_password}
STEPS |= {"pretty_addresses": _pretty_addresses, "redirect_to": _redirect_to}
STEPS |= dict.fromkeys(SWITCHES, _switch) | dict.fromkeys(PASSWORDS, _password)
STEPS |= dict.fromkeys(TIP_SWITCHES, _tip_switch)
STEPS |= {"login_password": _login_password, "email": _email, "noted_as_of": _noted}


def _mail_link(account_id: str, email: str) -> None:
    """Within a transaction: mail a link to the new address."""
    try:
        is_sent = reminders.request_change(this_shop(), account_id, email)
    except reminders.TooManyMails:
        detail = (
            "A link was mailed to this address today already, or several to others. Nothing was "
            "changed; try again tomorrow."
        )
        raise ApiError(429, "too_many_mails", detail, retry_after=DAY) from None
    if not is_sent:
        raise ApiError(409, "no_mail", "This shop sends no mail. Nothing was changed.")


# -- mail ------------------------------------------------------------------------------


@api.get("/hosting/mailboxes")
def mailboxes():
    found = holder("read")
    return success({"mailboxes": _mailboxes(found)} | _addresses_used(found))


@api.get("/hosting/mailboxes/<address>")
def mailbox(address):
    return success(_the(_mailboxes(holder("read")), "address", address))


@api.post("/hosting/mailboxes")
@changes
@sells
def add_mailbox():
    found = _changer("mail")
    body = bodies.read(MAILBOX_FIELDS)
    wait_for_own_order(found)
    form = _address_form(MailboxForm, found, body, left_mb=_left_mb(found))
    password, quota_mb = form.password.data or None, form.quota_mb.data
    answer = _wanted(found, "mailbox", form.address, password, quota_mb=quota_mb)
    return answer or _created(_mailboxes(found), "api.mailbox", address=form.address)


@api.patch("/hosting/mailboxes/<address>")
@changes
def change_mailbox(address):
    """null for a password: one is made up; for a quota: its share of what the others leave."""
    found = _changer("mail")
    row = _find(found.account, "mailbox", address)
    body = bodies.read(MAILBOX_CHANGES, nullable=MAILBOX_CHANGES)
    password = body.get("password")
    if password is not None:
        _check_as(_form(NewPasswordForm, {"new": password}), new="password")
    quota_mb = body.get("quota_mb")
    if quota_mb is not None:
        check(_form(QuotaForm, {"quota_mb": quota_mb}, left_mb=_left_mb(found, row)))
    if body:
        with transaction():
            if "password" in body:
                wanted.set_password(this_shop(), row.account_id, row.kind, row.name, password)
            if "quota_mb" in body:
                wanted.configure(row.account_id, row.kind, row.name, quota_mb=quota_mb)
    return success(_the(_mailboxes(found), "address", address))


@api.delete("/hosting/mailboxes/<address>")
@changes
def remove_mailbox(address):
    return _removed_address("mailbox", address)


@api.get("/hosting/forwards")
def forwards():
    found = holder("read")
    return success({"forwards": _forwards(found)} | _addresses_used(found))


@api.get("/hosting/forwards/<address>")
def forward(address):
    return success(_the(_forwards(holder("read")), "address", address))


@api.post("/hosting/forwards")
@changes
@sells
def add_forward():
    found = _changer("mail")
    body = bodies.read(FORWARD_FIELDS)
    wait_for_own_order(found)
    form = _address_form(ForwardForm, found, body)
    answer = _wanted(found, "forward", form.address, destination=form.destination.data)
    return answer or _created(_forwards(found), "api.forward", address=form.address)


@api.patch("/hosting/forwards/<address>")
@changes
def change_forward(address):
    found = _changer("mail")
    row = _find(found.account, "forward", address)
    form = _form(DestinationForm, bodies.read(FORWARD_CHANGES))
    form.address = row.name
    check(form)
    wanted.configure(row.account_id, row.kind, row.name, destination=form.destination.data)
    return success(_the(_forwards(found), "address", address))


@api.delete("/hosting/forwards/<address>")
@changes
def remove_forward(address):
    return _removed_address("forward", address)


def _address_form(kind: Callable, found: Holder, body: dict, **kwargs):
    """The checked form of a new address, which the API has as a whole."""
    local_part, _, domain = _as_address(body.pop("address", "")).rpartition("@")
    fields = body | {"local_part": local_part, "domain": domain}
    own = services.mail_domains(this_shop(), found.account, _rows(found.account))
    form = _form(kind, fields, own, **kwargs)
    _check_as(form, local_part="address", domain="address")
    return form


def _as_address(typed: str) -> str:
    try:
        return names.as_address(typed)
    except ValueError:
        return typed.strip()  # the form says what is wrong with it


def _wanted(found: Holder, kind: str, address: str, password: str | None = None, **settings):
    """Want one more address; 402 if that is to be paid before, else None."""
    add = partial(wanted.add, this_shop(), found.account.id, kind, address, password, **settings)
    try:
        return _added(found, "addresses", add)
    except ValueError:  # such as a domain that was removed a moment ago
        wrong = ["This address cannot be yours. Look at the domain again."]
        raise BadBody(WRONG, {"address": wrong}) from None


def _removed_address(kind: str, address: str) -> Response:
    found = _changer("mail")
    row = _find(found.account, kind, address)
    wanted.remove(row.account_id, row.kind, row.name)
    return _going(address=address)


def _mailboxes(found: Holder) -> list[dict]:
    return resources.mailboxes(this_shop(), _known(found), found.rights.are_whole)


def _forwards(found: Holder) -> list[dict]:
    return resources.forwards(_known(found))


def _known(found: Holder) -> progress.Progress:
    account = account_now(found)
    return progress.Progress(account, _rows(account))


def _addresses_used(found: Holder) -> dict:
    rows = [row for row in _rows(found.account) if row.kind in services.ADDRESSES and not row.gone]
    allowed = services.addresses_allowed(this_shop(), found.account)
    return {"addresses_used": len(rows), "addresses_allowed": allowed}


def _left_mb(found: Holder, row: Service | None = None) -> int:
    """What the quota of a mailbox, `row` or a new one, can be at most."""
    account = account_now(found)
    others = [each for each in _rows(account) if each.kind == "mailbox" and each != row]
    return services.mail_left_mb(account.space_mb, others)


# -- domains ---------------------------------------------------------------------------


@api.get("/hosting/domains", endpoint="domains")
def domain_list():
    found = holder("read")
    allowed = services.domains_allowed(this_shop(), found.account)
    return success({"domains": _domains(found), "domains_allowed": allowed})


@api.get("/hosting/domains/<name>")
def domain(name):
    return success(_the(_domains(holder("read")), "name", name))


@api.post("/hosting/domains")
@changes
@sells
def add_domain():
    found = _changer("domains")
    form = _form(DomainForm, bodies.read(DOMAIN_FIELDS))
    check(form)
    wait_for_own_order(found)
    typed, wants_mail = form.name.data, bool(form.wants_mail.data)
    try:
        answer = _added(
            found,
            "domains",
            lambda: domains.add(this_shop(), found.account.id, typed, wants_mail),
        )
        name = domains.normalise(typed)
    except wanted.NameInUse as error:
        raise ApiError(409, "taken", str(error)) from None
    except ValueError as error:
        raise BadBody(WRONG, {"name": [str(error)]}) from None
    return answer or _created(_domains(found), "api.domain", name=name)


@api.patch("/hosting/domains/<name>")
@changes
def change_domain(name):
    found = _changer("domains")
    row = _domain(found, name)
    wants_mail = bodies.read(DOMAIN_CHANGES).get("wants_mail")
    if wants_mail is not None and wants_mail != row.wants_mail:
        domains.set_mail(this_shop(), row.account_id, row.name, wants_mail)
    return success(_the(_domains(found), "name", name))


@api.delete("/hosting/domains/<name>")
@changes
def remove_domain(name):
    found = _changer("domains")
    row = _domain(found, name)
    domains.remove(row.account_id, row.name)
    return _going(name=name)


@api.post("/hosting/domains/<name>/check")
@changes
def check_domain(name):
    """Its records are looked up within seconds."""
    found = _changer("domains")
    row = _domain(found, name)
    domains.check_now(row.account_id, row.name)
    return success(_the(_domains(found), "name", name), 202, Retry_After="5")


def _domain(found: Holder, name: str) -> Domain:
    for row in domains.of(found.account.id):
        if row.name == name:
            return row
    raise wanted.UnknownService


def _domains(found: Holder) -> list[dict]:
    return resources.domains(this_shop(), _known(found))


# -- orders ----------------------------------------------------------------------------


@api.get("/hosting/orders", endpoint="orders")
def order_list():
    """Those that can be paid, and what was paid: the latest first, after the order `before`."""
    found = holder("read")
    before = request.args.get("before")
    paid, next_before = order_book.listed(found.account.id, order_book.OWN_DOORS, before)
    return success(
        {
            "orders": [resources.order(each) for each in order_book.unpaid(found.account.id)],
            "payments": [resources.order(each) for each in paid],
            "next_before": next_before,
        }
    )


@api.delete("/hosting/orders/<token>")
@changes
def cancel_order(token):
    """Withdraw an order; once it is cancelled or over, that is what is answered again."""
    order = _order(holder("pay"), token)
    if order_book.state(order) in ("unpaid", "checking"):
        try:
            invoices.cancel(this_shop(), order)
        except NodeError as error:
            logger.warning("order %s: not cancelled yet: %s", token[:8], error)
            detail = "Our Lightning node does not answer: it is cancelled as soon as it does."
            raise ApiError(503, "node_down", detail, retry_after=10) from None
        except invoices.NotCertain:
            pass  # its state says so
        order = Order.get_by_id(order.token)
    if order_book.state(order) in ("preparing", "checking"):
        detail = "This order is being prepared or looked at just now. Send the same again soon."
        raise ApiError(503, "checking", detail, retry_after=5)
    if order_book.state(order) not in ("cancelled", "expired"):
        raise ApiError(409, "paid", "This order is paid.")
    return success(resources.order(order))


def _order(found: Holder, token: str) -> Order:
    """Raises wanted.UnknownService."""
    order = order_book.find(token)
    if order is None or order.account_id != found.account.id:
        raise wanted.UnknownService
    return order


# -- tips ------------------------------------------------------------------------------


@api.get("/hosting/tips", endpoint="tips")
def tip_list():
    """What others gave, hidden ones too: the latest first, after the tip `before`."""
    account = holder("read").account
    before = request.args.get("before")
    received, next_before = order_book.listed(account.id, tips.DOORS, before)
    return success(
        {
            "tips": [resources.tip(each) for each in received],
            "received_msat": tips.received_msat(account),
            "small_tips": account.small_tips,
            "small_tips_msat": account.small_tips_msat,
            "next_before": next_before,
        }
    )


@api.patch("/hosting/tips/<token>")
@changes
def change_tip(token):
    account = _changer("settings").account
    hidden = bodies.read(TIP_CHANGES).get("hidden")
    if account.closing_at:
        raise wanted.AccountClosed
    if hidden is not None:
        tips.hide(account.id, token, hidden)
    tip = tips.find(account.id, token)
    if tip is None:
        raise wanted.UnknownService
    return success(resources.tip(tip))


# -- the end ---------------------------------------------------------------------------


@api.delete("/hosting")
@changes
def close_hosting():
    """Everything in it is deleted, and nothing is paid back."""
    found = holder("close")
    try:
        is_closed = accounts.close_account(this_shop(), found.account)
    except NodeError as error:
        logger.warning("account %s: not closed: %s", found.account.id, error)
        detail = "Our Lightning node does not answer. Nothing was closed. Try again soon."
        raise ApiError(503, "node_down", detail, retry_after=10) from None
    except invoices.NotCertain:
        detail = "An order or a tip may just be being paid. Nothing was closed. Try again soon."
        raise ApiError(503, "checking", detail, retry_after=10) from None
    if not is_closed:
        detail = "A payment for this hosting has just arrived. Nothing was closed."
        raise ApiError(409, "just_paid", detail)
    return success({"closing": True}, 202, Retry_After="5")


# -- answers ---------------------------------------------------------------------------


def _the(listed: list[dict], key: str, name: str) -> dict:
    """The one of this name. Raises wanted.UnknownService."""
    for each in listed:
        if each[key] == name:
            return each
    raise wanted.UnknownService


def _created(listed: list[dict], endpoint: str, **name: str) -> Response:
    ((key, value),) = name.items()
    return success(_the(listed, key, value), 201, Location=url_for(endpoint, **name))


def _going(**name: str) -> Response:
    return success({**name, "state": "going"}, 202, Retry_After="5")
