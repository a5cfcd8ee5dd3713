"""The operator's pages: today, problems, hostings, refunds and money. `entry.admit` has checked who
asks for them.

They never call the panel: they note what is to be tried again, and the worker does it. They ask the
node only for its faults, and to cancel invoices.
"""

from collections import Counter

from flask import Blueprint, Response, redirect, render_template, request, url_for
from werkzeug.exceptions import NotFound

from lightningspace.base.models import Account, Order, Server
from lightningspace.operator import entry, money, problems, search
from lightningspace.operator.forms import BlockForm, PasswordForm, RefuseForm, SpanForm
from lightningspace.operator.refunds import STATES_IN_WORDS
from lightningspace.panel import reconcile
from lightningspace.rules import (
    abuse,
    accounts,
    capacity,
    certificates,
    hostnames,
    income,
    invoices,
    ledger,
    order_book,
    refunds,
    services,
    status,
    wanted,
)
from lightningspace.rules.progress import Progress
from lightningspace.shop import this_shop
from lightningspace.visitors import limits
from lightningspace.visitors.forms import Button, CloseForm

blueprint = Blueprint("operator", __name__, url_prefix=entry.HOME)

# The navigation: each page's endpoint and title, by the name of its template.
PAGES = {
    "today": ("operator.today", "Today"),
    "problems": ("operator.needs_you", "Needs you"),
    "hostings": ("operator.hostings", "Hostings"),
    "refunds": ("operator.refunds_page", "Refunds"),
    "money": ("operator.income_page", "Money"),
}
ORDERS_LISTED, NAMES_LISTED = 10, 200
STANDINGS = list(reversed(status.Standing))  # what is well comes first


def page(template: str, status: int = 200, **context):
    return render_template(
        f"operator/{template}.html", pages=PAGES, here=template, button=Button(), **context
    ), status


# -- the login -------------------------------------------------------------------------


@blueprint.get("/login")
def login():
    return render_template("operator/login.html", form=PasswordForm(formdata=None))


@blueprint.post("/login")
@limits.limited("logins", lambda response: response.status_code != 303, lambda: "the operator")
def log_in():
    form = PasswordForm()
    if form.validate_on_submit() and entry.is_password(form.password.data):
        return entry.log_in(_to("today"))
    form.password.errors = form.password.errors or ["Wrong password."]
    return render_template("operator/login.html", form=form), 400


@blueprint.get("/login/<secret>")
def link(secret):
    if not entry.is_link(secret):
        raise NotFound
    return render_template("operator/link.html", secret=secret, button=Button())


@blueprint.post("/login/<secret>")
def use_link(secret):
    if not entry.use_link(secret):
        raise NotFound
    return entry.log_in(_to("today"))


@blueprint.post("/logout")
def log_out():
    return entry.log_out(redirect(url_for("orders.index"), 303))


def _to(name: str) -> Response:
    return redirect(url_for(PAGES[name][0]), 303)


# -- today -----------------------------------------------------------------------------


@blueprint.get("")
def today():
    shop = this_shop()
    answered, silent = status.last_answers()
    return page(
        "today",
        paid=money.today(),
        standing=sum(status.counted().values(), start=Counter()),
        standings=STANDINGS,
        left_mb=capacity.left_mb(shop),
        capacity_mb={server.id: server.capacity_mb for server in Server.select()},
        answered=answered,
        silent=silent,
        needing=problems.last_count(),
        paid_orders=income.latest(ORDERS_LISTED),
        open_orders=order_book.latest_open(ORDERS_LISTED),
        in_words=money.IN_WORDS,
    )


@blueprint.get("/problems")
def needs_you():
    return page("problems", found=problems.found(this_shop()))


# -- hostings --------------------------------------------------------------------------


@blueprint.get("/hostings")
def hostings():
    typed = request.args.get("q", "").strip()
    found, orders = search.hostings(this_shop(), typed), search.orders(typed)
    if len(found) + len(orders) == 1:
        return redirect(_address_of(found or orders), 303)
    asked = request.args.get("standing")
    standing = status.Standing(asked) if asked in set(status.Standing) else None
    return page(
        "hostings",
        typed=typed,
        standing=standing,
        names=status.which(standing, NAMES_LISTED) if standing else (),
        most=NAMES_LISTED,
        done=request.args.get("done"),
        found=found,
        orders=orders,
        counted=status.counted(),
        standings=STANDINGS,
    )


def _address_of(found: list[Account] | list[Order]) -> str:
    [row] = found
    if isinstance(row, Account):
        return url_for("operator.hosting", username=row.username)
    return url_for("operator.order", token=row.token)


def _this(username: str) -> Account:
    found = search.hosting(username)
    if found is None:
        raise NotFound
    return found


@blueprint.get("/hostings/<username>")
def hosting(username):
    return _hosting_page(_this(username))


def _hosting_page(account: Account, status: int = 200, form: BlockForm | None = None):
    shop, rows = this_shop(), services.of_account(account.id)
    doors = (*order_book.OWN_DOORS, *order_book.TIP_DOORS)
    return page(
        "hosting",
        status,
        account=account,
        site=hostnames.site_name(shop, account.username),
        site_url=certificates.url(shop, account, services.only(rows, "site")),
        known=Progress(account, rows),
        holding=ledger.holding(account),
        closes_at=ledger.closes_at(shop, account),
        paid_orders=order_book.latest(account.id, doors, ORDERS_LISTED),
        open_orders=list(order_book.unpaid_by_all(account.id).limit(ORDERS_LISTED)),
        evidence=abuse.evidence(account.username),
        block_form=form or BlockForm(formdata=None),
        done=request.args.get("done"),
    )


def _done(account: Account, what: str) -> Response:
    return redirect(url_for("operator.hosting", username=account.username, done=what), 303)


@blueprint.post("/hostings/<username>/retry")
def retry(username):
    account = _this(username)
    reconcile.try_now(account.id)
    return _done(account, "retry")


@blueprint.post("/hostings/<username>/check")
def check(username):
    account = _this(username)
    accounts.check(account.id)
    return _done(account, "check")


@blueprint.post("/hostings/<username>/block")
def block(username):
    account, form = _this(username), BlockForm()
    if not form.validate_on_submit():
        return _hosting_page(account, 400, form)
    category = abuse.Category(form.category.data)
    try:
        abuse.block(account.id, category, form.reason.data, form.note.data)
    except wanted.AccountClosed:
        return _done(account, "closed")
    return _done(account, "block")


@blueprint.post("/hostings/<username>/unblock")
def unblock(username):
    account = _this(username)
    try:
        accounts.unblock(account.id)
    except wanted.AccountClosed:
        return _done(account, "closed")
    return _done(account, "unblock")


@blueprint.get("/hostings/<username>/close")
def close(username):
    return _close_page(_this(username), CloseForm(formdata=None))


@blueprint.post("/hostings/<username>/close")
def close_for_good(username):
    account, form = _this(username), CloseForm()
    if form.username.data != account.username:
        form.username.errors = [f"Enter {account.username} here to close this hosting."]
        return _close_page(account, form, 400)
    try:
        # Only if it still ends when the page said: nobody loses time that was paid for since.
        is_seen = account.closing_at or form.ends.data == str(account.expires_at)
        is_closed = is_seen and accounts.close_account(this_shop(), account)
    except (accounts.NotClosed, invoices.NotCertain) as refused:
        return _close_page(account, form, refused.status, refused=refused.text)
    if not is_closed:
        return _close_page(account, form, 409, has_moved=True)
    return redirect(url_for("operator.hostings", done="close"), 303)  # its own page is soon gone


def _close_page(account: Account, form: CloseForm, status: int = 200, **context):
    form.ends.data = account.expires_at
    return page(
        "close",
        status,
        account=account,
        site=hostnames.site_name(this_shop(), account.username),
        holding=ledger.holding(account),
        form=form,
        **context,
    )


@blueprint.get("/orders/<token>")
def order(token):
    return _order_page(_this_order(token))


def _this_order(token: str) -> Order:
    found = order_book.find(token)
    if found is None:
        raise NotFound
    return found


def _order_page(found: Order, status: int = 200, form: RefuseForm | None = None, **context):
    account, refund = found.account, refunds.latest(found)
    return page(
        "order",
        status,
        order=found,
        hosting=account if account and account.opened_at else None,
        state=order_book.state(found),
        refund=refund,
        refund_state=refund and refunds.state(refund),
        left_msat=refunds.left_msat(found) if found.paid_at else 0,
        states=STATES_IN_WORDS,
        words=refunds.IN_WORDS,
        refuse_form=form or RefuseForm(formdata=None),
        **context,
    )


# -- refunds ---------------------------------------------------------------------------


@blueprint.get("/refunds")
def refunds_page():
    waiting = [(each, refunds.state(each)) for each in refunds.waiting()]
    return page("refunds", waiting=waiting, states=STATES_IN_WORDS, words=refunds.IN_WORDS)


@blueprint.post("/orders/<token>/refund")
def offer_refund(token):
    found = _this_order(token)
    try:
        refunds.offer(found.token)
    except refunds.CannotOffer as error:
        return _order_page(found, 409, problem=f"Not offered: {error}.")
    return redirect(url_for("operator.order", token=found.token), 303)


@blueprint.post("/orders/<token>/refund/approve")
def approve_refund(token):
    found = _this_order(token)
    if refund := refunds.latest(found):
        refunds.approve(refund.id)
    return redirect(url_for("operator.order", token=found.token), 303)


@blueprint.post("/orders/<token>/refund/refuse")
def refuse_refund(token):
    found, form = _this_order(token), RefuseForm()
    if not form.validate_on_submit():
        return _order_page(found, 400, form)
    if refund := refunds.latest(found):
        refunds.refuse(refund.id, form.reason.data)
    return redirect(url_for("operator.order", token=found.token), 303)


# -- money -----------------------------------------------------------------------------


@blueprint.get("/money")
def income_page():
    return _income_page(SpanForm(formdata=None))


def _income_page(form: SpanForm, status: int = 200):
    spans = {"days": money.by_day(), "months": money.by_month()}
    return page("money", status, form=form, **spans)


@blueprint.get("/payments.csv")
def payments():
    form = SpanForm(formdata=request.args)
    if not form.validate():
        return _income_page(form, 400)
    first, last = form.days()
    name = f"payments-{first}-{last}.csv"
    return Response(
        money.lines(this_shop(), *money.moments(first, last)),
        mimetype="text/csv",
        headers={"Content-Disposition": f'attachment; filename="{name}"'},
    )
