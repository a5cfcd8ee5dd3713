"""The control center: the pages of a logged-in account, and what they change.

Other modules add pages of theirs to `account`: whoever asks for one is logged in.
"""

import logging
import zlib
from functools import partial

from flask import (
    Blueprint,
    Response,
    current_app,
    flash,
    redirect,
    render_template,
    request,
    url_for,
)
from flask_login import current_user
from werkzeug.exceptions import NotFound

from lightningspace import (
    certificates,
    hosting,
    ledger,
    lifecycle,
    orders,
    passwords,
    progress,
    receipts,
    reminders,
    sessions,
    tips,
    usage,
    visitors,
    wanted,
)
from lightningspace.clock import now
from lightningspace.forms import (
    EVERY_SERVICE,
    Button,
    CloseForm,
    EmailForm,
    NewPasswordForm,
    PasswordForm,
    PhpForm,
    RedirectForm,
    ServicePasswordForm,
    SshKeyForm,
)
from lightningspace.models import Account, Domain, Service
from lightningspace.node import NodeError
from lightningspace.prices import DAY
from lightningspace.visitors import login_manager, this_shop

logger = logging.getLogger(__name__)
account = Blueprint("account", __name__, url_prefix="/account")

# The navigation; a page without a route yet is left out.
PAGES = {
    "overview": "Overview",
    "settings": "Settings",
    "mail": "Mail",
    "domains": "Domains",
    "tips": "Tips",
    "extend": "Extend",
    "size": "Size",
    "access": "Access",
    "receipts": "Payments",
    "data": "Your data",
    "close": "Close",
}
# What has a switch on the settings page.
SWITCHES = ("ftp", "shell", "database")
# How often a page looks again: while services change, and while one waits to be tried again.
POLL_SECONDS, SLOW_POLL_SECONDS = 2, 15
# How long it offers the receipt by itself.
NEW_SECONDS = DAY
# How long it says that a payment came too late for the hosting before.
ANEW_SECONDS = 7 * DAY


@account.before_request
def require_login():
    if current_user.is_authenticated:
        return None
    if request.headers.get("HX-Request"):  # a poll: the fragment is no place for the login page
        return Response(headers={"HX-Redirect": url_for("web.login")})
    return login_manager.unauthorized()


@account.errorhandler(wanted.Unknown)
def unknown(error):
    """A service that is not this account's, or is no more."""
    return current_app.handle_user_exception(NotFound())  # raised here, it would be a 500


@account.errorhandler(wanted.Closed)
def closed(error):
    """Nothing of it can be changed any more, and every page says so."""
    return redirect(url_for("account.overview"), 303)


@account.errorhandler(wanted.NotReady)
def not_ready(error):
    flash("This hosting is still being set up. Please wait until that is done.", "problem")
    return redirect(url_for("account.overview"), 303)


@account.errorhandler(sessions.Over)
def session_over(error):
    return login_manager.unauthorized()


def this_account() -> Account:
    return current_user.account


def page(template: str, status: int = 200, **context):
    """One page of the control center; `here`: its entry in the navigation, if not its name.

    What `flash`ed before is shown above it: category "problem", or else a success.
    """
    here = context.pop("here", template.rpartition("/")[2].removesuffix(".html"))
    links = {name: title for name, title in PAGES.items() if _is_there(name)}
    return render_template(
        template,
        account=this_account(),
        site=wanted.site_name(this_shop(), this_account().username),
        pages=links,
        here=here,
        banners=lifecycle.banners(this_shop(), this_account()),
        button=Button(),
        **_status(),
        **context,
    ), status


def _is_there(name: str) -> bool:
    return f"account.{name}" in current_app.view_functions


# -- how far the panel is -------------------------------------------------------------


@account.get("/status")
def status():
    here, current = request.args.get("here", ""), _status()
    # The overview shows each service's state, so it is loaded anew when one has changed.
    if here == "overview" and request.args.get("seen") != current["seen"]:
        return Response(headers={"HX-Refresh": "true"})
    known = here if here in PAGES else "overview"
    return render_template("_account_status.html", here=known, button=Button(), **current)


@account.post("/retry")
@visitors.limited("logins", lambda response: True)
def retry():
    if _status()["failing"]:
        hosting.try_now(this_account().id)
    here = request.form.get("here", "")
    known = here in PAGES and _is_there(here)
    return redirect(url_for(f"account.{here if known else 'overview'}"), 303)


def _status() -> dict:
    """What the status fragment shows of the services, and whether it looks again by itself."""
    every_row = wanted.services_of(this_account().id)
    rows, known = wanted.beside_tip_jar(every_row), progress.Progress(this_account(), every_row)
    failing = [row for row in rows if row.error and not row.is_applied]
    is_at_rest = known.is_at_rest(rows)
    is_stuck = any(row.permanent for row in failing)
    moves = [row for row in rows if not row.is_applied and row not in failing]
    poll_seconds = None
    if moves or (not is_at_rest and not failing):
        poll_seconds = POLL_SECONDS
    elif any(not row.permanent for row in failing):
        poll_seconds = SLOW_POLL_SECONDS
    seen = [(row.kind, row.name, known.told_state(row), row.permanent) for row in rows]
    return {
        "rows": rows,
        "applied": sum(row.is_applied for row in rows),
        "is_at_rest": is_at_rest,
        "jobs_before": known.jobs_before(),
        "is_stuck": is_stuck,
        "failing": failing,
        "poll_seconds": poll_seconds,
        "seen": f"{zlib.crc32(repr(seen).encode()):x}",
    }


# -- the overview ---------------------------------------------------------------------


@account.get("")
def overview():
    shop, account = this_shop(), this_account()
    usage.opened(account)
    rows = wanted.services_of(account.id)
    order = receipts.opening_order(account)
    addresses = [row for row in rows if row.kind in wanted.ADDRESSES]
    shown = [row for row in addresses if row.kind == "mailbox"][:1]
    shown += [row for row in addresses if row.own_password_sealed and row not in shown]
    return page(
        "account/overview.html",
        shown_mailboxes=shown,
        more_addresses=len(addresses) - len(shown),
        host=wanted.host(this_shop(), this_account()),
        state=progress.Progress(account, rows).told_state,
        password=wanted.unsealed(shop, account.password_sealed),
        own_passwords={
            (row.kind, row.name): password
            for row in rows
            if (password := wanted.new_password(shop, row))
        },
        may_send=wanted.may_send(shop, account),
        sends_mail=bool(shop.config.smtp_url),
        asked_name=order.username if order else None,
        is_anew=order is not None and order.is_late and now() < account.opened_at + ANEW_SECONDS,
        is_new=bool(account.password_sealed) or now() < account.opened_at + NEW_SECONDS,
        left_seconds=max(0, account.expires_at - now()),
        paid_seconds=ledger.paid_seconds(account),
        space=_space(account),
        last_tip=next(iter(tips.received(account.id, 1)), None),
    )


@account.post("/noted")
def noted():
    # Not what was made since that page was shown; no number that the database cannot hold.
    seen_at = max(0, min(request.form.get("seen_at", 0, int), now()))
    progress.forget_passwords(this_account().id, seen_at)
    visitors.note_entry(this_account())
    return redirect(url_for("account.overview"), 303)


def _space(account: Account) -> list[tuple[str, int | None, int]]:
    """Of each part of the space: its name, the MB used (None: not known yet) and bought."""
    titles = {"site": "Web site", "database": "Database", "mailbox": "Mail"}
    return [
        (titles[kind], used_mb, bought_mb)
        for kind, (used_mb, bought_mb) in wanted.space_mb(account).items()
    ]


# -- the settings ---------------------------------------------------------------------


@account.get("/settings")
def settings():
    return _settings_page()


def _settings_page(status: int = 200, **forms):
    rows = _own_rows()
    one = {row.kind: row for row in rows}
    shell, site = one.get("shell"), one.get("site")
    ssh_key = wanted.settings_of(shell)["ssh_key"] if shell else ""
    site_settings = wanted.settings_of(site) if site else {}
    choices = {
        "service_form": lambda: ServicePasswordForm(_with_password(rows), formdata=None),
        "key_form": lambda: SshKeyForm(formdata=None, ssh_key=ssh_key),
        "php_form": lambda: PhpForm(
            _php_choices(site), formdata=None, version=usage.php_choice(site)
        ),
        "redirect_form": lambda: RedirectForm(
            [], formdata=None, redirect_to=site_settings.get("redirect_to")
        ),
        "email_form": lambda: EmailForm(formdata=None, email=this_account().email),
        "login_form": lambda: _login_form(formdata=None),
    }
    return page(
        "account/settings.html",
        status,
        switches=[row for row in rows if row.kind in SWITCHES],
        shell=shell,
        site_row=site,
        certificate_at=certificates.next_turn(site) if site else 0,
        sends_mail=bool(this_shop().config.smtp_url),
        link_ends_at=reminders.link_ends_at(this_account()),
        site_settings=site_settings,
        walls=this_shop().config.walls,
        **{name: forms.get(name) or make() for name, make in choices.items()},
    )


@account.post("/settings/password")
@visitors.limited("logins", lambda response: True)
def service_password():
    """Of one service or all at once: the typed one, or one that we make up and show."""
    rows = _own_rows()
    form = ServicePasswordForm(_with_password(rows))
    if request.form.get("service") not in dict(form.service.choices):
        raise NotFound
    if not form.validate_on_submit():
        return _settings_page(400, service_form=form)

    password = None if form.makes_one else form.password.data
    if form.service.data == EVERY_SERVICE:
        wanted.set_every_password(this_shop(), this_account().id, password)
    else:
        kind, _, name = form.service.data.partition(":")
        wanted.set_password(this_shop(), this_account().id, kind, name, password)
    if password is None:
        flash("A new password is being set. It is shown below as soon as it works.")
        return redirect(url_for("account.overview"), 303)
    flash("The new password is being set: it works within a minute.")
    return redirect(url_for("account.settings"), 303)


@account.post("/settings/switch")
def switch():
    row = _own_row(request.form.get("kind"), request.form.get("name"))
    if row.kind not in SWITCHES:
        raise NotFound
    active = request.form.get("active") == "on"
    wanted.switch(this_account().id, row.kind, row.name, active)
    title = wanted.SERVICE_NAMES[row.kind]
    flash(f"{title} is being switched {'on' if active else 'off'}.")
    return redirect(url_for("account.settings"), 303)


@account.post("/settings/ssh-key")
def ssh_key():
    row, form = _own_row("shell", request.form.get("name")), SshKeyForm()
    if not form.validate_on_submit():
        return _settings_page(400, key_form=form)
    wanted.configure(this_account().id, "shell", row.name, ssh_key=form.ssh_key.data)
    flash("The SSH key is being set." if form.ssh_key.data else "The SSH key is being removed.")
    return redirect(url_for("account.settings"), 303)


@account.post("/settings/php")
def php():
    row = _own_row("site", request.form.get("name"))
    form = PhpForm(_php_choices(row))
    if not form.validate_on_submit():
        return _settings_page(400, php_form=form)
    change = usage.php_settings(form.version.data)
    wanted.configure(this_account().id, "site", row.name, **change)
    flash("The PHP of your site is being changed.")
    return redirect(url_for("account.settings"), 303)


@account.post("/settings/https")
def https():
    row = _own_row("site", request.form.get("name"))
    active = request.form.get("active") == "on"
    wanted.configure(this_account().id, "site", row.name, letsencrypt=active)
    flash(
        "The server is asked to fetch a certificate when it is your turn. That takes some minutes."
        if active
        else "HTTPS is being switched off."
    )
    return redirect(url_for("account.settings"), 303)


@account.post("/settings/pretty-addresses")
def pretty_addresses():
    row = _own_row("site", request.form.get("name"))
    active = request.form.get("active") == "on"
    wanted.configure(this_account().id, "site", row.name, pretty_addresses=active)
    flash(f"Pretty addresses are being switched {'on' if active else 'off'}.")
    return redirect(url_for("account.settings"), 303)


@account.post("/settings/redirect")
def redirect_site():
    row = _own_row("site", request.form.get("name"))
    form = RedirectForm(wanted.redirected_names(this_shop(), _own_rows()))
    if not form.validate_on_submit():
        return _settings_page(400, redirect_form=form)
    target = form.redirect_to.data
    wanted.configure(this_account().id, "site", row.name, redirect_to=target)
    flash("The redirect is being set." if target else "The redirect is being removed.")
    return redirect(url_for("account.settings"), 303)


@account.get("/htaccess")
def htaccess():
    """What a .htaccess may do on this shop's servers."""
    return page("account/htaccess.html", here="settings", walls=this_shop().config.walls)


@account.post("/settings/email")
@visitors.limited("logins", lambda response: True)
def email():
    form = EmailForm()
    if not form.validate_on_submit():
        return _settings_page(400, email_form=form)
    try:
        is_sent = reminders.request_change(this_shop(), this_account(), form.email.data)
    except reminders.TooMany:
        form.email.errors = [
            "A link was mailed to this address today already, or several to others. Please try "
            "again tomorrow."
        ]
        return _settings_page(429, email_form=form)
    if not is_sent:
        raise NotFound  # the form is not on the page where no mail is sent
    if form.email.data == this_account().email:
        flash("Reminders go to this address.")
    else:
        flash("We mail a link to the new address. Reminders go there once you have opened it.")
    return redirect(url_for("account.settings"), 303)


@account.post("/settings/email/remove")
def remove_email():
    reminders.remove(this_account().id, request.form.get("address"))
    flash("The address is deleted here, and nothing is sent there any more.")
    return redirect(url_for("account.settings"), 303)


@account.post("/password")
@visitors.limited("logins")
def change_password():
    form = _login_form()
    account = this_account()
    if not form.validate_on_submit():
        return _settings_page(400, login_form=form)
    if form.current and visitors.account_of(account.username, form.current.data) is None:
        form.current.errors = ["This is not your current password."]
        return _settings_page(400, login_form=form)
    facts = {"password_hash": passwords.make_hash(form.new.data, visitors.place(is_known=True))}
    if not form.ends_receipt.data:
        visitors.log_out_everywhere(proved=bool(form.current), **facts)
        flash("Your login password is changed, and every other browser is logged out.")
        return redirect(url_for("account.settings"), 303)
    renew = partial(receipts.renew_within, account.id)
    visitors.log_out_everywhere(renew, bool(form.current), wallet_recovers=False, **facts)
    logger.info("account %s: a new receipt", account.id)
    flash("Your login password is changed, and nothing else from before gets in. Keep the receipt.")
    return redirect(url_for("account.access"), 303)


def _login_form(**kwargs) -> NewPasswordForm:
    """Who has just shown the receipt may never have had a password."""
    return (NewPasswordForm if visitors.showed_receipt() else PasswordForm)(**kwargs)


def _own_rows() -> list[Service]:
    return [row for row in wanted.services_of(this_account().id) if not row.gone]


def _own_row(kind: str | None, name: str | None) -> Service:
    """The service of this account that a form names; 404 when it has no such."""
    for row in _own_rows():
        if (row.kind, row.name) == (kind, name):
            return row
    raise NotFound


def _with_password(rows: list[Service]) -> list[tuple[str, str]]:
    """What the form for passwords offers: `kind:name` and its title."""
    return [
        (f"{row.kind}:{row.name}", f"{wanted.SERVICE_NAMES[row.kind]}: {row.name}")
        for row in rows
        if row.kind in wanted.WITH_PASSWORD
    ]


def _php_choices(site: Service | None) -> list[tuple[str, str]]:
    return usage.php_choices(this_account(), site)


# -- taking the data along ------------------------------------------------------------


@account.get("/data")
def data():
    rows, site = _own_rows(), wanted.site_name(this_shop(), this_account().username)
    one = {row.kind: row for row in rows}
    mailboxes = [row for row in rows if row.kind == "mailbox"]
    return page(
        "account/data.html",
        host=wanted.host(this_shop(), this_account()),
        ftp=one.get("ftp"),
        shell=one.get("shell"),
        database=one.get("database"),
        database_user=one.get("database_user"),
        mailboxes=mailboxes,
        directories=" ".join(f"~/{site}-mail/{row.name}" for row in mailboxes),
    )


# -- closing --------------------------------------------------------------------------


@account.get("/close")
def close():
    return _close_page(CloseForm(formdata=None))


@account.post("/close")
@visitors.limited("logins", lambda response: response.status_code == 400)
def close_for_good():
    form, account = CloseForm(), this_account()
    if form.username.data != account.username:
        form.username.errors = [f"Write {account.username} here to close this hosting."]
        return _close_page(form, 400)
    try:
        # The end that the page showed: what has been paid since is not closed away.
        is_seen = account.closing_at or form.ends.data == str(account.expires_at)
        is_closed = is_seen and orders.close_account(this_shop(), account)
    except NodeError as error:
        logger.warning("account %s: not closed: %s", account.id, error)
        problem = "Our Lightning node does not answer. Nothing was closed. Please try again."
        return _close_page(form, 503, problem=problem)
    except orders.NotCertain:
        problem = (
            "An order or a tip for this hosting may just be being paid. Nothing was closed: please "
            "try again in a minute."
        )
        return _close_page(form, 503, problem=problem)
    if not is_closed:
        problem = (
            "A payment for this hosting has just arrived, or its end has moved. Nothing was "
            "closed: look at what is left now, and close it again if you still want to."
        )
        return _close_page(form, 409, problem=problem)
    visitors.log_out()
    return redirect(url_for("web.goodbye"), 303)


def _close_page(form: CloseForm, status: int = 200, **context):
    account = this_account()
    form.ends.data = account.expires_at
    return page(
        "account/close.html",
        status,
        here="close",
        form=form,
        holding=ledger.holding(account),
        domains=Domain.select().where(Domain.account == account).count(),
        services=_own_rows(),
        **context,
    )
