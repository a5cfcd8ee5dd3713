"""The control center: the pages of a logged-in account, and what they change.

Other modules add pages of theirs to `account`: whoever asks for one is logged in.
"""

import zlib

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

from lightningspace import hosting, passwords, visitors, wanted
from lightningspace.clock import now
from lightningspace.forms import Button, PasswordForm
from lightningspace.models import Account, Order, Service, transaction
from lightningspace.vault import Unreadable
from lightningspace.visitors import login_manager, this_shop

account = Blueprint("account", __name__, url_prefix="/account")

# The navigation; a page without a route yet is left out.
PAGES = {
    "overview": "Overview",
    "settings": "Settings",
    "mail": "Mail",
    "domains": "Domains",
    "extend": "Extend",
    "size": "Size",
    "receipts": "Receipts",
    "data": "Your data",
    "close": "Close",
}
# How often a page looks again: while services change, and while one waits to be tried again.
POLL_SECONDS, SLOW_POLL_SECONDS = 2, 15


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
    raise NotFound from error


@account.errorhandler(wanted.Closed)
def closed(error):
    """Nothing of it can be changed any more, and every page says so."""
    return redirect(url_for("account.overview"), 303)


@account.errorhandler(wanted.NotReady)
def not_ready(error):
    flash("This hosting is still being set up. Please wait until that is done.", "problem")
    return redirect(url_for("account.overview"), 303)


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
def retry():
    hosting.try_now(this_account().id)
    here = request.form.get("here", "")
    known = here in PAGES and _is_there(here)
    return redirect(url_for(f"account.{here if known else 'overview'}"), 303)


def _status() -> dict:
    """What the status fragment shows of the services, and whether it looks again by itself."""
    rows = wanted.services_of(this_account().id)
    failing = [row for row in rows if row.error and not row.is_applied]
    is_live = all(hosting.is_live(this_account().server, row) for row in rows)
    is_stuck = any(row.permanent for row in failing)
    moves = [row for row in rows if not row.is_applied and row not in failing]
    poll_seconds = None
    if moves or (not is_live and not failing):
        poll_seconds = POLL_SECONDS
    elif any(not row.permanent for row in failing):
        poll_seconds = SLOW_POLL_SECONDS
    seen = [(row.kind, row.name, _state(row), row.permanent) for row in rows]
    return {
        "rows": rows,
        "applied": sum(row.is_applied for row in rows),
        "is_live": is_live,
        "is_stuck": is_stuck,
        "failing": failing,
        "poll_seconds": poll_seconds,
        "seen": f"{zlib.crc32(repr(seen).encode()):x}",
    }


def _state(row: Service) -> str:
    """As `hosting.state`; or problem, when it could not be made or changed."""
    state = hosting.state(this_account(), row)
    return "problem" if row.error and state in ("waiting", "changing") else state


# -- the overview ---------------------------------------------------------------------


@account.get("")
def overview():
    shop, account = this_shop(), this_account()
    rows = wanted.services_of(account.id)
    site = wanted.site_name(shop, account.username)
    order = Order.select().where((Order.account == account) & (Order.kind == "open")).first()
    return page(
        "account/overview.html",
        host=shop.config.server_hosts.get(account.server_id, site),
        state=_state,
        password=unsealed(account.password_sealed),
        own_passwords={
            (row.kind, row.name): unsealed(row.own_password_sealed)
            for row in rows
            if row.own_password_sealed and row.password_sealed is None  # the panel has it
        },
        may_send=wanted.may_send(shop, account),
        asked_name=order.username if order else None,
        is_anew=order is not None and order.is_late,
        left_seconds=max(0, account.expires_at - now()),
    )


@account.post("/noted")
def noted():
    # Not what was made since that page was shown.
    seen_at = min(request.form.get("seen_at", 0, int), now())
    hosting.forget_passwords(this_account().id, seen_at)
    return redirect(url_for("account.overview"), 303)


def unsealed(sealed: str | None) -> str | None:
    """A generated password to show; None when there is none, or none that can be read."""
    try:
        return this_shop().vault.unseal(sealed) if sealed else None
    except Unreadable:
        return None


# -- the settings ---------------------------------------------------------------------


@account.get("/settings")
def settings():
    return _settings_page()


def _settings_page(status: int = 200, **forms):
    return page(
        "account/settings.html",
        status,
        login_form=forms.get("login_form") or PasswordForm(formdata=None),
    )


@account.post("/password")
@visitors.limited("logins", lambda response: True)
def change_password():
    form = PasswordForm()
    account = this_account()
    if not form.validate_on_submit():
        return _settings_page(400, login_form=form)
    if visitors.account_of(account.username, form.current.data) is None:
        form.current.errors = ["This is not your current password."]
        return _settings_page(400, login_form=form)
    password_hash = passwords.make_hash(form.new.data)
    with transaction():
        Account.update(
            password_hash=password_hash,
            session_epoch=Account.session_epoch + 1,
        ).where(Account.id == account.id).execute()
        # The browser that ordered is another session as well.
        Order.update(browser=None).where(Order.account == account).execute()
    visitors.log_in(Account.get_by_id(account.id))
    flash("Your login password is changed, and every other browser is logged out.")
    return redirect(url_for("account.settings"), 303)
