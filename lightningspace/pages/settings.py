"""The control center's settings: the site and its services, and the login and reminders."""

import logging
from functools import partial

from flask import flash, redirect, request, url_for
from werkzeug.exceptions import NotFound

from lightningspace.base import passwords
from lightningspace.base.models import Service
from lightningspace.pages import control
from lightningspace.rules import certificates, reminders, services, tokens, usage, wanted
from lightningspace.rules.certificates import Https
from lightningspace.shop import this_shop
from lightningspace.visitors import limits, logins
from lightningspace.visitors.forms import (
    EVERY_SERVICE,
    EmailForm,
    NewPasswordForm,
    PasswordForm,
    PhpForm,
    RedirectForm,
    ServicePasswordForm,
    SshKeyForm,
)

logger = logging.getLogger(__name__)
blueprint = control.part("settings")


@blueprint.get("/settings")
def settings():
    return _settings_page()


def _settings_page(status: int = 200, **forms):
    rows = control.own_rows()
    one = {row.kind: row for row in rows}
    shell, site = one.get("shell"), one.get("site")
    ssh_key = services.settings_of(shell)["ssh_key"] if shell else ""
    site_settings = services.settings_of(site) if site else {}
    choices = {
        "service_form": lambda: ServicePasswordForm(_with_password(rows), formdata=None),
        "key_form": lambda: SshKeyForm(formdata=None, ssh_key=ssh_key),
        "php_form": lambda: PhpForm(
            _php_choices(site), formdata=None, version=usage.php_choice(site)
        ),
        "redirect_form": lambda: RedirectForm(
            [], formdata=None, redirect_to=site_settings.get("redirect_to")
        ),
    }
    return control.page(
        "account/settings.html",
        status,
        switches=[row for row in rows if row.kind in services.SETTING_SWITCHES.values()],
        shell=shell,
        site_row=site,
        https=certificates.state(this_shop(), control.this_account(), site) if site else "none",
        certificate_min_days=this_shop().config.certificate_min_days,
        certificate_at=certificates.next_turn(site) if site else 0,
        site_settings=site_settings,
        walls=this_shop().config.walls,
        **{name: forms.get(name) or make() for name, make in choices.items()},
    )


@blueprint.post("/settings/password")
@limits.limited("changes", among=limits.owners)
def service_password():
    """Set the password of one service or of all: the typed one, or a generated one to be shown."""
    rows = control.own_rows()
    form = ServicePasswordForm(_with_password(rows))
    if request.form.get("service") not in dict(form.service.choices):
        raise NotFound
    if not form.validate_on_submit():
        return _settings_page(400, service_form=form)

    password = None if form.makes_one else form.password.data
    if form.service.data == EVERY_SERVICE:
        wanted.set_every_password(this_shop(), control.this_account().id, password)
    else:
        kind, _, name = form.service.data.partition(":")
        wanted.set_password(this_shop(), control.this_account().id, kind, name, password)
    if password is None:
        flash("A new password is being set. It is shown below as soon as it works.")
        return redirect(url_for("account.overview"), 303)
    flash("The new password is being set. It works within two minutes.")
    return redirect(url_for("settings.settings"), 303)


@blueprint.post("/settings/switch")
def switch():
    row = _own_row(request.form.get("kind"), request.form.get("name"))
    if row.kind not in services.SETTING_SWITCHES.values():
        raise NotFound
    active = request.form.get("active") == "on"
    wanted.switch(control.this_account().id, row.kind, row.name, active)
    title = services.SERVICE_NAMES[row.kind]
    flash(f"{title} is being switched on." if active else f"{title} is being switched off.")
    return redirect(url_for("settings.settings"), 303)


@blueprint.post("/settings/ssh-key")
def ssh_key():
    row, form = _own_row("shell", request.form.get("name")), SshKeyForm()
    if not form.validate_on_submit():
        return _settings_page(400, key_form=form)
    wanted.configure(control.this_account().id, "shell", row.name, ssh_key=form.ssh_key.data)
    flash("The SSH key is being set." if form.ssh_key.data else "The SSH key is being removed.")
    return redirect(url_for("settings.settings"), 303)


@blueprint.post("/settings/php")
def php():
    row = _own_row("site", request.form.get("name"))
    form = PhpForm(_php_choices(row))
    if not form.validate_on_submit():
        return _settings_page(400, php_form=form)
    change = usage.php_settings(form.version.data)
    wanted.configure(control.this_account().id, "site", row.name, **change)
    flash("PHP is being changed.")
    return redirect(url_for("settings.settings"), 303)


@blueprint.post("/settings/https")
def https():
    row = _own_row("site", request.form.get("name"))
    if this_shop().config.sites_tls == Https.NONE:
        raise NotFound
    active = request.form.get("active") == "on"
    wanted.configure(control.this_account().id, "site", row.name, letsencrypt=active)
    flash(f"HTTPS is being switched {'on' if active else 'off'}.")
    return redirect(url_for("settings.settings", _anchor="https"), 303)


@blueprint.post("/settings/pretty-addresses")
def pretty_addresses():
    row = _own_row("site", request.form.get("name"))
    active = request.form.get("active") == "on"
    wanted.configure(control.this_account().id, "site", row.name, pretty_addresses=active)
    flash(
        "Pretty addresses are being switched on."
        if active
        else "Pretty addresses are being switched off."
    )
    return redirect(url_for("settings.settings"), 303)


@blueprint.post("/settings/redirect")
def redirect_site():
    row = _own_row("site", request.form.get("name"))
    form = RedirectForm(services.redirected_names(this_shop(), control.own_rows()))
    if not form.validate_on_submit():
        return _settings_page(400, redirect_form=form)
    target = form.redirect_to.data
    wanted.configure(control.this_account().id, "site", row.name, redirect_to=target)
    flash("The redirect is being set." if target else "The redirect is being removed.")
    return redirect(url_for("settings.settings"), 303)


@blueprint.get("/htaccess")
def htaccess():
    """What a .htaccess may do on this shop's servers."""
    return control.page("account/htaccess.html", walls=this_shop().config.walls)


# -- the login and reminders ---------------------------------------------------------


@blueprint.get("/password")
def password():
    return _password_page()


def _password_page(
    status: int = 200,
    login_form: NewPasswordForm | None = None,
    email_form: EmailForm | None = None,
):
    account = control.this_account()
    return control.page(
        "account/password.html",
        status,
        login_form=login_form or _login_form(formdata=None),
        email_form=email_form or EmailForm(formdata=None, email=account.email),
        sends_mail=bool(this_shop().config.smtp_url),
        link_ends_at=reminders.link_ends_at(account),
    )


@blueprint.post("/settings/email")
@limits.limited("changes", among=limits.owners)
def email():
    form = EmailForm()
    if not form.validate_on_submit():
        return _password_page(400, email_form=form)
    try:
        is_sent = reminders.request_change(this_shop(), control.this_account().id, form.email.data)
    except reminders.TooManyMails as refused:
        form.email.errors = [refused.text]
        return _password_page(refused.status, email_form=form)
    if not is_sent:
        raise NotFound  # a shop that sends no mail does not show the form
    if form.email.data == control.this_account().email:
        flash("Reminders go to this address.")
    else:
        flash(
            "We are mailing a link to the new address. Reminders go there once you have opened it."
        )
    return redirect(url_for("settings.password"), 303)


@blueprint.post("/settings/email/remove")
def remove_email():
    address = request.form.get("address")
    reminders.remove(control.this_account().id, lambda known: address in (None, known))
    flash("The address is deleted, and nothing more is sent there.")
    return redirect(url_for("settings.password"), 303)


@blueprint.post("/password")
@limits.limited("logins")
def change_password():
    form = _login_form()
    account = control.this_account()
    if not form.validate_on_submit():
        return _password_page(400, login_form=form)
    if form.current and logins.account_of(account.username, form.current.data) is None:
        form.current.errors = ["This is not your current password."]
        return _password_page(400, login_form=form)
    facts = {"password_hash": passwords.make_hash(form.new.data, logins.place_for_new_password())}
    if not form.ends_receipt.data:
        logins.log_out_everywhere(proved=bool(form.current), **facts)
        flash("Your login password is changed, and every other browser is logged out.")
        return redirect(url_for("settings.password"), 303)
    renew = partial(tokens.renew, account.id)
    logins.log_out_everywhere(renew, bool(form.current), wallet_recovers=False, **facts)
    logger.info("account %s: a new receipt", account.id)
    flash("Your login password is changed. Nothing from before gets in: save your new access key.")
    return redirect(url_for("access.access"), 303)


def _login_form(**kwargs) -> NewPasswordForm:
    """Whoever has just shown the receipt may never have had a password to type."""
    return (NewPasswordForm if logins.showed_receipt() else PasswordForm)(**kwargs)


def _own_row(kind: str | None, name: str | None) -> Service:
    """The service of this account that a form names, or 404."""
    for row in control.own_rows():
        if (row.kind, row.name) == (kind, name):
            return row
    raise NotFound


def _with_password(rows: list[Service]) -> list[tuple[str, str]]:
    """The choices of the form for passwords: each `kind:name` with its title."""
    return [
        (f"{row.kind}:{row.name}", f"{services.SERVICE_NAMES[row.kind]}: {row.name}")
        for row in rows
        if row.kind in services.WITH_PASSWORD
    ]


def _php_choices(site: Service | None) -> list[tuple[str, str]]:
    return usage.php_choices(control.this_account(), site)
