"""The control center's overview, and its pages for taking the data along and for closing."""

from flask import redirect, request, url_for

from lightningspace.base.clock import now
from lightningspace.base.models import Account, Domain, Service
from lightningspace.base.prices import DAY
from lightningspace.pages import control
from lightningspace.rules import (
    accounts,
    hostnames,
    invoices,
    ledger,
    progress,
    services,
    tips,
    tokens,
    usage,
)
from lightningspace.shop import this_shop
from lightningspace.visitors import browsers, limits, logins
from lightningspace.visitors.forms import CloseForm

blueprint = control.part("account")
# How long after the opening the overview offers the receipt.
NEW_SECONDS = DAY
# How long the overview says that a payment came too late for the hosting before.
ANEW_SECONDS = 7 * DAY
ONLY_RECEIVES = "This mailbox receives. It sends once you have paid for more days: see Mail."


# -- the overview ---------------------------------------------------------------------


@blueprint.get("")
def overview():
    shop, account = this_shop(), control.this_account()
    usage.opened(account)
    known = control.this_progress()
    rows = known.rows
    order = tokens.opening_order(account)
    addresses = [row for row in rows if row.kind in services.ADDRESSES]
    shown = [row for row in addresses if row.kind == "mailbox"][:1]
    shown += [row for row in addresses if row.own_password_sealed and row not in shown]
    return control.page(
        "account/overview.html",
        more_addresses=len(addresses) - len(shown),
        access=_access(rows, shown),
        state=known.told_state,
        password=services.unsealed(shop, account.password_sealed),
        own_passwords={
            (row.kind, row.name): password
            for row in rows
            if (password := services.new_password(shop, row))
        },
        waiting=browsers.waiting_orders(),
        sends_mail=bool(shop.config.smtp_url),
        asked_name=order.username if order else None,
        is_anew=order is not None and order.is_late and now() < account.opened_at + ANEW_SECONDS,
        is_new=bool(account.password_sealed) or now() < account.opened_at + NEW_SECONDS,
        left_seconds=max(0, account.expires_at - now()),
        paid_seconds=ledger.paid_seconds(account),
        space=_space(account),
        last_tip=next(iter(tips.received(account.id, 1)), None),
    )


@blueprint.post("/noted")
def noted():
    # No password made since that page was shown, and no number too large for the database.
    seen_at = max(0, min(request.form.get("seen_at", 0, int), now()))
    progress.forget_passwords(control.this_account().id, seen_at)
    logins.note_entry(control.this_account())
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
        # Only with the end that the page showed: time that was paid for since is not closed away.
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
