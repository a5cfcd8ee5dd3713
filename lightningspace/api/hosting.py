"""The API's routes for a hosting as a whole: how it stands, its settings, closing it."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from flask import Response, url_for

from lightningspace.api import codes, resources, routes
from lightningspace.api.answers import ApiError, success
from lightningspace.api.bodies import TEXT, WRONG, YES_NO, BadBody, check_as, form_of
from lightningspace.api.fields import EMAIL, PASSWORD, generated_if_null
from lightningspace.api.holders import (
    account_now,
    changer,
    changes,
    check_able,
    check_still,
    holder,
)
from lightningspace.api.routes import described
from lightningspace.base import clock, names, passwords
from lightningspace.base.models import Account, Service, transaction
from lightningspace.rules import (
    accounts,
    progress,
    reminders,
    services,
    sessions,
    tips,
    usage,
    wanted,
)
from lightningspace.rules.certificates import Https
from lightningspace.rules.tokens import Holder
from lightningspace.shop import this_shop
from lightningspace.visitors import logins
from lightningspace.visitors.forms import (
    EmailForm,
    NewPasswordForm,
    PhpForm,
    RedirectForm,
    SshKeyForm,
)

blueprint = routes.part("hosting")

SWITCHES = services.SETTING_SWITCHES
PASSWORDS = services.SETTING_PASSWORDS
EVERY_PASSWORD = "services_password"
SERVICE_FIELDS = {"php": TEXT, "https": YES_NO, "ssh_key": TEXT, EVERY_PASSWORD: TEXT}
SERVICE_FIELDS |= {"pretty_addresses": YES_NO, "redirect_to": TEXT}
SERVICE_FIELDS |= dict.fromkeys(SWITCHES, YES_NO) | dict.fromkeys(PASSWORDS, TEXT)
OWNER_FIELDS = {"login_password": TEXT, "email": TEXT, "noted_as_of": TEXT}
TIP_SWITCHES = dict.fromkeys(tips.SWITCHES, YES_NO)
SETTING_FIELDS = SERVICE_FIELDS | TIP_SWITCHES | OWNER_FIELDS
# null: for a password, one is generated and shown; for the others, there is to be none.
SETTINGS_NULLABLE = (EVERY_PASSWORD, *PASSWORDS, "ssh_key", "redirect_to", "email")
SETTINGS = {
    "php": {"description": "one of php.choices of the hosting"},
    "pretty_addresses": {
        "description": "index.php answers every address that is not a file, for permalinks"
    },
    "redirect_to": {
        "maxLength": names.WEB_ADDRESS_MAX,
        "description": "an address; the rest of what was asked for is appended. null: none",
    },
    "ssh_key": {"description": "one public key; null: none"},
    "login_password": PASSWORD,
    "email": EMAIL | {"description": "gets a link to confirm it; null: no more reminders"},
    "noted_as_of": {
        "pattern": r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$",
        "description": "`as_of` of an answer: the passwords it showed are not shown again",
    },
    **dict.fromkeys((EVERY_PASSWORD, *PASSWORDS), generated_if_null(PASSWORD)),
}


# -- how it stands ---------------------------------------------------------------------


@blueprint.get("/hosting")
@described(
    "All there is to know about the hosting",
    {200: "Hosting", 202: "Hosting"},
    capability="read",
    note="202: it is still being set up.",
)
def hosting():
    found = holder()
    usage.opened(found.account)
    return told(found, 200 if found.account.ready_at else 202)


def told(found: Holder, status: int = 200) -> Response:
    """The hosting as it is now. `status` 202: not yet as asked."""
    headers = {"Location": url_for("api_hosting.hosting")} if status == 201 else {}
    if status == 202:
        headers = {"Retry_After": "3"}
    is_owner = found.rights.are_whole
    answer = resources.hosting(this_shop(), account_now(found), is_owner)
    if "read" not in found.rights.capabilities:
        answer = {name: answer[name] for name in resources.TERMS}
    return success(answer, status, **headers)


# -- settings --------------------------------------------------------------------------


@blueprint.patch("/hosting")
@described(
    "Change settings and passwords",
    {200: "HostingAsTold"},
    capability="settings",
    fields=SETTING_FIELDS,
    rules=SETTINGS,
    codes=(*codes.CHANGE, "not_whole", "no_mail", "too_many_mails"),
    note="All that is sent is changed, or nothing. "
    f"{', '.join(OWNER_FIELDS)}: by whole credentials only. "
    f"{EVERY_PASSWORD} also sets that of the mailboxes, and needs the capability mail.",
)
@changes
def change_hosting():
    """Change all fields or none: each is checked first, then one transaction changes them."""
    found = changer()
    body = routes.body(SETTINGS_NULLABLE)
    if not found.rights.are_whole and not OWNER_FIELDS.keys().isdisjoint(body):
        owners = " and ".join(sorted(OWNER_FIELDS.keys() & body.keys()))
        raise ApiError(403, "not_whole", f"Only a whole credential may set {owners}.")
    if EVERY_PASSWORD in body:
        check_able(found, "mail")
    steps = _steps(found.account, body)
    changes_services = body.keys() - OWNER_FIELDS.keys()
    with wanted.change(found.account.id) if changes_services else transaction():
        # Hashing a password takes long enough for the credential to be revoked meanwhile.
        check_still(found)
        for step in steps:
            step()
    return told(found)


def _steps(account: Account, body: dict) -> list[Callable[[], object]]:
    """The steps for the fields, to be run in a transaction. Raises BadBody with every error."""
    rows = {row.kind: row for row in reversed(services.of_account(account.id)) if not row.gone}
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
    """One field of the body, and the services that it may change, by kind."""

    account: Account
    rows: dict[str, Service]
    field: str

    def row(self, kind: str) -> Service:
        if kind not in self.rows:
            raise self.wrong("This hosting has no such service.")
        return self.rows[kind]

    def checked(self, kind: Callable, name: str, value: str, *args) -> str:
        """The value as the form's field reads it. Raises BadBody."""
        form = form_of(kind, {name: value}, *args)
        check_as(form, **{name: self.field})
        return form[name].data

    def password(self, value: str | None) -> str | None:
        """The checked password; None: one is to be generated. Raises BadBody."""
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
    if this_shop().config.sites_tls == Https.NONE:
        raise setting.wrong("This shop’s sites have no HTTPS.")
    return setting.configure("site", letsencrypt=value)


def _pretty_addresses(setting: _Setting, value: bool):
    return setting.configure("site", pretty_addresses=value)


def _redirect_to(setting: _Setting, value: str | None):
    own = services.redirected_names(this_shop(), services.of_account(setting.account.id))
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
    """Forget only passwords that the answer could show: later ones are not noted yet."""
    try:
        seen_at = max(0, min(clock.from_iso(value), clock.now()))
    except (ValueError, OverflowError):
        raise setting.wrong("Send the “as_of” of the answer that showed them.") from None
    return partial(progress.forget_passwords, setting.account.id, seen_at)


# For each field, the function that checks its value and returns the step that changes it.
STEPS = {"php": _php, "https": _https, "ssh_key": _ssh_key, EVERY_PASSWORD: _every_password}
STEPS |= {"pretty_addresses": _pretty_addresses, "redirect_to": _redirect_to}
STEPS |= dict.fromkeys(SWITCHES, _switch) | dict.fromkeys(PASSWORDS, _password)
STEPS |= dict.fromkeys(TIP_SWITCHES, _tip_switch)
STEPS |= {"login_password": _login_password, "email": _email, "noted_as_of": _noted}


def _mail_link(account_id: str, email: str) -> None:
    """Within a transaction: mail a link to the new address."""
    if not reminders.request_change(this_shop(), account_id, email):
        raise ApiError(409, "no_mail", "This shop sends no mail. Nothing was changed.")


# -- closing it ------------------------------------------------------------------------


@blueprint.delete("/hosting")
@described(
    "Close the hosting",
    {202: "Closing"},
    capability="close",
    codes=("setting_up", "just_paid", "checking", "node_down"),
    note="Everything in it is deleted, and nothing is paid back.",
)
@changes
def close_hosting():
    """Delete everything in it; nothing is paid back."""
    found = holder()
    if not accounts.close_account(this_shop(), found.account):
        detail = "A payment for this hosting has just arrived. Nothing was closed."
        raise ApiError(409, "just_paid", detail)
    return success({"closing": True}, 202, Retry_After="5")
