"""The frame of the control center: who may see its pages, what stands on each of them."""

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

from lightningspace.base.models import Account, Service
from lightningspace.panel import reconcile
from lightningspace.rules import calendar, hostnames, progress, quotes, services, sessions, wanted
from lightningspace.rules.progress import Progress
from lightningspace.shop import this_shop
from lightningspace.visitors import limits
from lightningspace.visitors.forms import Button
from lightningspace.visitors.logins import login_manager

# The navigation: the template of each page, its endpoint and its title.
PAGES = {
    "overview": ("account.overview", "Overview"),
    "settings": ("settings.settings", "Settings"),
    "mail": ("mail.mail", "Mail"),
    "domains": ("domains.domains", "Domains"),
    "tips": ("tips.tips", "Tips"),
    "extend": ("money.extend", "Extend"),
    "size": ("money.size", "Size"),
    "access": ("access.access", "Access"),
    "payments": ("money.payments", "Payments"),
    "data": ("account.data", "Your data"),
    "close": ("account.close", "Close"),
}
# How often a page looks again: while services change, and while one waits to be tried again.
POLL_SECONDS, SLOW_POLL_SECONDS = 2, 15


def part(name: str) -> Blueprint:
    """A part of the control center: whoever asks for one of its pages is logged in."""
    blueprint = Blueprint(name, __name__, url_prefix="/account")
    blueprint.before_request(_require_login)
    blueprint.register_error_handler(wanted.UnknownService, _unknown)
    blueprint.register_error_handler(wanted.AccountClosed, _closed)
    blueprint.register_error_handler(wanted.AccountNotReady, _not_ready)
    blueprint.register_error_handler(sessions.SessionOver, _session_over)
    return blueprint


def _require_login():
    if current_user.is_authenticated:
        return None
    if request.headers.get("HX-Request"):  # a poll: the fragment is no place for the login page
        return Response(headers={"HX-Redirect": url_for("login.login")})
    return login_manager.unauthorized()


def _unknown(error):
    """A service that is not this account's, or is no more."""
    return current_app.handle_user_exception(NotFound())  # raised here, it would be a 500


def _closed(error):
    """Nothing of it can be changed any more, and every page says so."""
    return redirect(url_for("account.overview"), 303)


def _not_ready(error):
    flash("This hosting is still being set up. Please wait until that is done.", "problem")
    return redirect(url_for("account.overview"), 303)


def _session_over(error):
    return login_manager.unauthorized()


blueprint = part("control")


def this_account() -> Account:
    return current_user.account


def page(template: str, status: int = 200, **context):
    """One page of the control center; `here`: its entry in the navigation, if not its name.

    What `flash`ed before is shown above it: category "problem", or else a success.
    """
    here = context.pop("here", template.rpartition("/")[2].removesuffix(".html"))
    return render_template(
        template,
        account=this_account(),
        site=hostnames.site_name(this_shop(), this_account().username),
        pages=PAGES,
        here=here,
        banners=calendar.banners(this_shop(), this_account()),
        button=Button(),
        **_status(),
        **context,
    ), status


# -- how far the panel is -------------------------------------------------------------


@blueprint.get("/status")
def status():
    here, current = request.args.get("here", ""), _status()
    # The overview shows each service's state, so it is loaded anew when one has changed.
    if here == "overview" and request.args.get("seen") != current["seen"]:
        return Response(headers={"HX-Refresh": "true"})
    known = here if here in PAGES else "overview"
    return render_template("_account_status.html", here=known, button=Button(), **current)


@blueprint.post("/retry")
@limits.limited("changes", among=limits.owners)
def retry():
    if _status()["failing"]:
        reconcile.try_now(this_account().id)
    here = request.form.get("here", "")
    endpoint, _ = PAGES.get(here, PAGES["overview"])
    return redirect(url_for(endpoint), 303)


def _status() -> dict:
    """What the status fragment shows of the services, and whether it looks again by itself."""
    every_row = services.of_account(this_account().id)
    rows, known = services.beside_tip_jar(every_row), progress.Progress(this_account(), every_row)
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


def own_rows() -> list[Service]:
    return [row for row in services.of_account(this_account().id) if not row.gone]


NOT_READY = "Your hosting is still being set up. Please try again soon."
CLOSED = "Your hosting is being closed: nothing can be added any more."


def one_more(what: str) -> dict:
    """What one more of "addresses" or "domains" costs, or why there is none to be had."""
    try:
        size, msat, ends_at = quotes.one_more(this_shop(), this_account(), what)
    except quotes.NotForSale as refused:
        return {"why_not": str(refused)}
    except quotes.ResizeWaits as waits:
        return {"first": waits.token}
    return {"size": vars(size), "msat": msat, "ends_at": ends_at}


def rows_of(*kinds: str) -> list[Service]:
    return [row for row in services.of_account(this_account().id) if row.kind in kinds]


def poll_seconds(rows: list[Service]) -> int | None:
    """When to look at them again; None when nothing of them changes by itself."""
    known = Progress(this_account(), rows)
    moving = [row for row in rows if known.state(row) not in ("off", "live")]
    if all(row.permanent for row in moving):
        return None
    return POLL_SECONDS if any(row.error is None for row in moving) else SLOW_POLL_SECONDS
