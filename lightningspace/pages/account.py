"""The control center's overview, and its pages for taking the data along and for closing."""

from dataclasses import dataclass

from flask import redirect, request, session, url_for

from lightningspace.base.clock import DAY, HOUR, now
from lightningspace.base.models import Account, Domain, Order, Service
from lightningspace.pages import control, uploads
from lightningspace.rules import (
    accounts,
    certificates,
    hostnames,
    invoices,
    ledger,
    progress,
    services,
    tips,
    tokens,
    usage,
)
from lightningspace.rules.progress import ServiceState
from lightningspace.shop import this_shop
from lightningspace.visitors import browsers, limits, logins
from lightningspace.visitors.forms import CloseForm

blueprint = control.part("account")
# For how long the overview tells of the opening, and offers the access key.
NEW_SECONDS = DAY
# An opening that took longer than this is not called quick.
SLOW_SECONDS = HOUR
# How long the overview says that a payment came too late for the hosting before.
ANEW_SECONDS = 7 * DAY
ONLY_RECEIVES = "This mailbox receives. It sends once you have paid for more days: see Mail."


# -- the overview ---------------------------------------------------------------------


@dataclass(frozen=True)
class Success:
    """A new hosting is there. `seconds`: how long that took after the payment; None: too long."""

    is_live: bool
    seconds: int | None


@blueprint.get("")
def overview():
    shop, account = this_shop(), control.this_account()
    usage.opened(account)
    known = control.this_progress()
    rows = known.rows
    order = tokens.opening_order(account)
    addresses = [row for row in rows if row.kind in services.ADDRESSES]
    mailboxes = [row for row in addresses if row.kind == "mailbox"]
    failing = [row for row in mailboxes[1:] if known.told_state(row) == ServiceState.PROBLEM]
    shown = mailboxes[:1] + failing
    own_passwords = {(row.kind, row.name): each for row, each in control.new_passwords(rows)}
    sealed = account.password_sealed if logins.is_trusted() else None
    login_password = services.unsealed(shop, sealed)
    access = _access(rows, shown)
    is_new = now() < (account.ready_at or now()) + NEW_SECONDS
    return control.page(
        "account/overview.html",
        success=_success(account, order, known) if is_new else None,
        offers_key=bool(login_password) or (is_new and not session.get("saved")),
        more_addresses=len(addresses) - len(shown),
        access=access,
        state=known.told_state,
        login_password=login_password,
        own_passwords=own_passwords,
        passwords=_passwords(login_password, own_passwords),
        hides_passwords=control.hides_passwords(rows),
        waiting=browsers.waiting_orders(),
        sends_mail=bool(shop.config.smtp_url),
        asked_name=order.username if order else None,
        is_anew=order is not None and order.is_late and now() < account.opened_at + ANEW_SECONDS,
        left_seconds=max(0, account.expires_at - now()),
        paid_seconds=ledger.paid_seconds(account),
        space=_space(account),
        last_tip=next(iter(tips.received(account.id, 1)), None),
        **uploads.shown(),
    )


def _success(account: Account, order: Order | None, known: progress.Progress) -> Success | None:
    """None: it was opened for a late payment, or its site does not look like a new one."""
    site = services.only(known.rows, "site")
    if order is None or order.is_late or site is None:
        return None
    state = known.told_state(site)
    if state == ServiceState.CHANGING and certificates.is_to_ask(site):
        state = ServiceState.LIVE  # only the request for its certificate is under way
    if state not in (ServiceState.APPLIED, ServiceState.LIVE):
        return None
    seconds = (account.ready_at or now()) - (order.paid_at or 0)
    return Success(state == ServiceState.LIVE, seconds if 0 <= seconds < SLOW_SECONDS else None)


def _passwords(login_password: str | None, own: dict[tuple[str, str], str]) -> dict[str, list]:
    """The passwords that can be shown, each once, with the kinds and names that it opens."""
    found = {login_password: []} if login_password else {}
    for service, password in own.items():
        found.setdefault(password, []).append(service)
    return found


@blueprint.post("/noted")
def noted():
    # No password made since that page was shown, and no number too large for the database.
    seen_at = max(0, min(request.form.get("seen_at", 0, int), now()))
    if logins.is_trusted():  # otherwise none was shown
        progress.forget_passwords(control.this_account().id, seen_at)
    logins.note_entry(control.this_account())
    session["saved"] = True  # for this browser, until it logs out
    return redirect(url_for("account.overview"), 303)


def _access(rows: list[Service], mailboxes: list[Service]) -> dict[tuple[str, str], dict]:
    """How to connect to the services that the overview shows, by kind and name.

    `opens`: the service that this user opens, whose state counts.
    """
    shop, account = this_shop(), control.this_account()
    host, found = hostnames.host(shop, account), {}
    for row in rows:
        connection = services.CONNECTIONS.get(row.kind)
        if connection is None or (row.kind == "mailbox" and row not in mailboxes):
            continue
        opened = (each for each in rows if each.kind == connection.opens)
        note = connection.note
        if row.kind == "mailbox" and not accounts.may_send(shop, account):
            note = ONLY_RECEIVES
        found[row.kind, row.name] = {
            "connection": connection.filled(host, row.name),
            "opens": next(opened, row),
            "note": note,
        }
    return found


def _space(account: Account) -> list[tuple[str, int | None, int]]:
    """The name of each part of the space, its MB used (None: not known yet) and bought."""
    return [
        (services.KINDS[kind].part.word.capitalize(), used_mb, bought_mb)
        for kind, (used_mb, bought_mb) in services.space_mb(account).items()
    ]


# -- taking the data along ------------------------------------------------------------


@blueprint.get("/data")
def data():
    rows = control.own_rows()
    site = hostnames.site_name(this_shop(), control.this_account().username)
    one = {row.kind: row for row in rows}
    mailboxes = [row for row in rows if row.kind == "mailbox"]
    return control.page(
        "account/data.html",
        host=hostnames.host(this_shop(), control.this_account()),
        ftp=one.get("ftp"),
        shell=one.get("shell"),
        database=one.get("database"),
        database_user=one.get("database_user"),
        mailboxes=mailboxes,
        directories=" ".join(f"~/{site}-mail/{row.name}" for row in mailboxes),
    )


# -- closing --------------------------------------------------------------------------


@blueprint.get("/close")
def close():
    return _close_page(CloseForm(formdata=None))


@blueprint.post("/close")
@limits.limited("changes", lambda response: response.status_code == 400, limits.owners)
def close_for_good():
    form, account = CloseForm(), control.this_account()
    if form.username.data != account.username:
        form.username.errors = [f"Enter {account.username} here to close this hosting."]
        return _close_page(form, 400)
    try:
        # Only if it still ends when the page said: nobody loses time that was paid for since.
        is_seen = account.closing_at or form.ends.data == str(account.expires_at)
        is_closed = is_seen and accounts.close_account(this_shop(), account)
    except (accounts.NotClosed, invoices.NotCertain) as refused:
        return _close_page(form, refused.status, problem=refused.text)
    if not is_closed:
        problem = (
            "A payment for this hosting has just arrived, or its end has moved. Nothing was "
            "closed: see what is left now, and close it if you still want to."
        )
        return _close_page(form, 409, problem=problem)
    logins.log_out()
    return redirect(url_for("orders.goodbye"), 303)


def _close_page(form: CloseForm, status: int = 200, **context):
    account = control.this_account()
    form.ends.data = account.expires_at
    return control.page(
        "account/close.html",
        status,
        here="close",
        form=form,
        holding=ledger.holding(account),
        domains=Domain.select().where(Domain.account == account).count(),
        services=control.own_rows(),
        **context,
    )
