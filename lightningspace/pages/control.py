"""The frame of the control center: who may see its pages, and what each of them shows."""

import json
import zlib

from flask import (
    Blueprint,
    Response,
    current_app,
    flash,
    g,
    redirect,
    render_template,
    request,
    url_for,
)
from flask_login import current_user
from werkzeug.exceptions import NotFound

from lightningspace.base.models import Account, Service
from lightningspace.panel import reconcile
from lightningspace.rules import (
    calendar,
    certificates,
    hostnames,
    quotes,
    services,
    sessions,
    wanted,
)
from lightningspace.rules.progress import Progress, Summary
from lightningspace.shop import this_shop
from lightningspace.visitors import limits, logins
from lightningspace.visitors.forms import Button

# The navigation: groups of pages. Each page's endpoint and title, by the name of its template.
GROUPS = {
    "Overview": {"overview": ("account.overview", "Overview")},
    "Web": {
        "settings": ("settings.settings", "Settings"),
        "upload": ("uploads.upload", "Upload"),
        "areas": ("areas.areas", "Paid areas"),
        "htaccess": ("settings.htaccess", ".htaccess"),
    },
    "Mail": {"mail": ("mail.mail", "Mail")},
    "Domains": {"domains": ("domains.domains", "Domains")},
    "Tips": {"tips": ("tips.tips", "Tips")},
    "Time and size": {
        "extend": ("money.extend", "More time"),
        "size": ("money.size", "Size"),
        "payments": ("money.payments", "Payments"),
    },
    "Access": {
        "access": ("access.access", "Keys"),
        "password": ("settings.password", "Password, e-mail"),
        "known": ("known.known_rows", "What we know"),
    },
    "Leave": {
        "data": ("account.data", "Your data"),
        "close": ("account.close", "Close"),
    },
}
PAGES = {name: page for pages in GROUPS.values() for name, page in pages.items()}
# How often a page polls: while services change, and while one waits to be tried again.
POLL_SECONDS, SLOW_POLL_SECONDS = 2, 15


def part(name: str) -> Blueprint:
    """A blueprint for pages of the control center, all of which require a login."""
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
    return _to_login()


def _to_login():
    login = url_for("login.login", then=_asked_for())
    if request.headers.get("HX-Request"):  # a poll: the fragment is no place for the login page
        return Response(headers={"HX-Redirect": login})
    if request.method == "POST":
        flash(
            "Nothing was changed, as you were logged out. Log in, then do it once more.", "problem"
        )
    return redirect(login)


def _asked_for() -> str | None:
    """The page of PAGES that this request belongs to; None: none of them."""
    here, part = request.args.get("here"), request.path.removeprefix("/account/").partition("/")[0]
    return next((name for name in (here, part, request.blueprint) if name in PAGES), None)


def path_of(name: str | None) -> str:
    """The path of a page of PAGES; of the overview for any other name."""
    endpoint, _ = PAGES.get(name, PAGES["overview"])
    return url_for(endpoint)


def _unknown(error):
    """The service is not this account's, or no longer exists."""
    return current_app.handle_user_exception(NotFound())  # raised here, it would be a 500


def _closed(error):
    """The account can no longer be changed, as every page says."""
    return redirect(url_for("account.overview"), 303)


def _not_ready(error):
    flash(error.text, "problem")
    return redirect(url_for("account.overview"), 303)


def _session_over(error):
    return _to_login()


blueprint = part("control")


def this_account() -> Account:
    return current_user.account


def this_progress() -> Progress:
    """The account's services and how far they are, read once per request: every part of a page
    shows the same.
    """
    if "progress" not in g:
        g.progress = Progress(this_account(), services.of_account(this_account().id))
    return g.progress


def page(template: str, status: int = 200, **context):
    """Render a page of the control center. `here`: its entry in the navigation, if not its name.

    Flashed messages are shown above it: those of the category "problem" as problems, others as
    successes.
    """
    here = context.pop("here", template.rpartition("/")[2].removesuffix(".html"))
    return render_template(
        template,
        account=this_account(),
        site=hostnames.site_name(this_shop(), this_account().username),
        site_url=site_url(),
        groups=GROUPS,
        here=here,
        banners=calendar.banners(this_shop(), this_account()),
        button=Button(),
        **_status(),
        **context,
    ), status


def site_url() -> str:
    """The address of the account's site, by https where that works."""
    site = services.only(this_progress().rows, "site")
    return certificates.url(this_shop(), this_account(), site)


def shown_anew(name: str) -> Response:
    """Answer a poll: have the page of PAGES that it came from fetched again. What somebody types,
    chooses or unfolds there stays.
    """
    swap = {"target": "#main", "select": "#main", "swap": "outerMorph"}
    return Response(headers={"HX-Location": json.dumps({"path": path_of(name)} | swap)})


# -- passwords ------------------------------------------------------------------------


def new_passwords(rows: list[Service]) -> list[tuple[Service, str]]:
    """The services with a password that is to be noted; none where this session may not see it."""
    return _new_passwords(rows) if logins.is_trusted() else []


def hides_passwords(rows: list[Service]) -> bool:
    """Whether there are new passwords that this session may not see."""
    return not logins.is_trusted() and bool(_new_passwords(rows))


def _new_passwords(rows: list[Service]) -> list[tuple[Service, str]]:
    found = [(row, services.new_password(this_shop(), row)) for row in rows]
    return [(row, each) for row, each in found if each]


# -- progress -------------------------------------------------------------------------


@blueprint.get("/status")
def status():
    here, current = request.args.get("here", ""), _status()
    # The overview shows each service's state.
    if here == "overview" and request.args.get("seen") != current["seen"]:
        return shown_anew(here)
    known = here if here in PAGES else "overview"
    return render_template("_account_status.html", here=known, button=Button(), **current)


@blueprint.post("/retry")
@limits.limited("changes", among=limits.owners)
def retry():
    if _status()["failing"]:
        reconcile.try_now(this_account().id)
    return redirect(path_of(request.form.get("here")), 303)


def _status() -> dict:
    """What the status fragment shows of the services. `poll_seconds` None: it does not poll."""
    known = this_progress()
    all_of_it = known.summary()
    rows, failing, is_at_rest = all_of_it.rows, all_of_it.failing, all_of_it.is_at_rest
    poll_seconds = None
    if all_of_it.is_being_applied or (not is_at_rest and not failing):
        poll_seconds = POLL_SECONDS
    elif any(not row.permanent for row in failing):
        poll_seconds = SLOW_POLL_SECONDS
    seen = [(row.kind, row.name, known.told_state(row), row.permanent) for row in rows]
    return {
        "rows": rows,
        "applied": all_of_it.applied,
        "is_at_rest": is_at_rest,
        "jobs_before": known.jobs_before(),
        "is_stuck": all_of_it.is_stuck,
        "failing": failing,
        "poll_seconds": poll_seconds,
        "seen": f"{zlib.crc32(repr(seen).encode()):x}",
    }


def own_rows() -> list[Service]:
    return [row for row in this_progress().rows if not row.gone]


def one_more(what: str) -> dict:
    """What one more of "addresses" or "domains" costs, or why it cannot be bought."""
    try:
        size, msat, ends_at = quotes.one_more(this_shop(), this_account(), what)
    except quotes.NotForSale as refused:
        return {"why_not": str(refused)}
    except quotes.ResizeWaits as waits:
        return {"first": waits.token}
    return {"size": vars(size), "msat": msat, "ends_at": ends_at}


def rows_of(*kinds: str) -> list[Service]:
    return [row for row in this_progress().rows if row.kind in kinds]


def poll_seconds(rows: list[Service]) -> int | None:
    """How soon to look at these services again; None: none of them changes by itself."""
    moving = Summary(rows, this_progress()).under_way
    if all(row.permanent for row in moving):
        return None
    return POLL_SECONDS if any(row.error is None for row in moving) else SLOW_POLL_SECONDS
