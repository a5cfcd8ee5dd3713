"""The pages and fragments: order, invoice, login, account."""

import logging

from flask import (
    Blueprint,
    Response,
    current_app,
    redirect,
    render_template,
    request,
    session,
    url_for,
)
from flask_login import current_user, login_required
from werkzeug.exceptions import NotFound, TooManyRequests

from lightningspace import hosting, names, orders, passwords, visitors, wanted
from lightningspace.clock import now
from lightningspace.forms import (
    Button,
    LoginForm,
    OrderForm,
    PasswordForm,
    PriceForm,
)
from lightningspace.models import Account, Order, find_order, transaction
from lightningspace.node import NodeError
from lightningspace.prices import Size, Terms
from lightningspace.vault import Unreadable
from lightningspace.visitors import this_shop

logger = logging.getLogger(__name__)
web = Blueprint("web", __name__)

# What a customer calls the services.
SERVICE_NAMES = {
    "client": "Customer at the server",
    "site": "Web site",
    "alias": "Extra domain",
    "ftp": "FTP",
    "shell": "SSH",
    "database_user": "Database user",
    "database": "Database",
    "mail_domain": "Mail domain",
    "mailbox": "Mailbox",
    "forward": "Mail forward",
}


# -- the front page and the order form -----------------------------------------------


@web.get("/")
def index():
    visitors.browser_id()
    form = _order_form(formdata=None)
    prefill = PriceForm(this_shop().config.space_sizes_mb, formdata=request.args)
    if request.args and prefill.validate():
        form.space_mb.data, form.duration.data = prefill.space_mb.data, prefill.duration.data
        form.unit.data = prefill.unit.data
    return _front_page(form)


@web.get("/price")
def price():
    form = PriceForm(this_shop().config.space_sizes_mb, formdata=request.args)
    form.validate()
    return render_template("_price.html", **_price(form))


@web.post("/orders")
@visitors.limited("orders", lambda response: response.status_code in (303, 503))
def place_order():
    form = _order_form()
    if request.form.get("show") == "price":
        return _front_page(form, status=200 if form.terms_are_valid() else 400)
    if not form.validate_on_submit():
        return _front_page(form, status=400)

    try:
        order = orders.place(this_shop(), _wish(form))
    except orders.NameTaken as taken:
        form.username.errors = ["This name is taken."]
        return _front_page(form, status=400, own_order=taken.token)
    except orders.SoldOut:
        form.space_mb.errors = ["This much space is not free just now. Choose less, or come back."]
        return _front_page(form, status=400)
    except orders.TooManyUnpaid:
        problem = "Your network has several unpaid orders. Pay or cancel one of them first."
        return _front_page(form, status=429, problem=problem)
    except NodeError as error:
        logger.warning("no invoice: %s", error)
        problem = "Our Lightning node does not answer. Nothing was charged. Please try again."
        return _front_page(form, status=503, problem=problem)
    session.modified = True  # the cookie that knows the order lives on from now
    return redirect(url_for("web.order", token=order.token), 303)


def _order_form(**kwargs) -> OrderForm:
    return OrderForm(this_shop().config.space_sizes_mb, **kwargs)


def _wish(form: OrderForm) -> orders.Wish:
    return orders.Wish(
        terms=form.terms(),
        username=form.username.data or None,
        email=form.email.data or None,
        password=form.password.data or None,
        browser=visitors.browser_id(),
        client=visitors.client_address(),
        form_id=form.form_id.data or "",
    )


def _front_page(form: OrderForm, status: int = 200, **context):
    shop = this_shop()
    return render_template(
        "index.html",
        form=form,
        left_mb=orders.space_left_mb(),
        price_list=[
            (size, shop.prices.rate(Size(size)), shop.prices.price_msat(Terms(size, 30, "days")))
            for size in shop.config.space_sizes_mb
        ],
        mail_days=shop.config.mail_send_min_days,
        split=wanted.SPLIT_PERCENT,
        **_price(form),
        **context,
    ), status


def _price(form: PriceForm) -> dict:
    """The price of what the form names; None while it names nothing that is sold."""
    shop = this_shop()
    sizes = shop.config.space_sizes_mb
    if form.space_mb.data not in sizes or form.duration.errors or form.unit.errors:
        return {"price_msat": None, "terms": None}
    try:
        form.validate_duration(form.duration)
    except ValueError:
        return {"price_msat": None, "terms": None}
    return {"price_msat": shop.prices.price_msat(form.terms()), "terms": form.terms()}


# -- an order ------------------------------------------------------------------------


@web.get("/orders/<token>")
def order(token):
    found = _order(token)
    if _enters(found):
        return redirect(url_for("web.account"), 303)
    return _order_page(found)


@web.get("/orders/<token>/status")
def order_status(token):
    found = _order(token)
    if _enters(found):
        return Response(headers={"HX-Redirect": url_for("web.account")})
    return render_template("_order_status.html", **_status(found))


@web.post("/orders/<token>/cancel")
def cancel_order(token):
    found = _order(token)
    if not visitors.placed(found):
        raise NotFound
    if Button().validate_on_submit() and orders.state(found) in ("unpaid", "checking"):
        try:
            orders.cancel(this_shop(), found)
        except NodeError as error:
            logger.warning("order %s: not cancelled: %s", token[:8], error)
            problem = "Our Lightning node does not answer: the order stands. Please try again."
            return _order_page(found, status=503, problem=problem)
    return redirect(url_for("web.order", token=token), 303)


def _order(token: str) -> Order:
    """The order of this link; 404 when there is none."""
    # The check first: PostgreSQL fails on a NUL.
    found = find_order(token) if token.isalnum() else None
    if found is None or found.kind == "lost":
        raise NotFound
    return found


def _enters(order: Order) -> bool:
    """Log the browser that ordered in, once everything is ready."""
    if not _is_ready(order) or not visitors.placed(order):
        return False
    visitors.log_in(order.account)
    return True


def _is_ready(order: Order) -> bool:
    is_there = order.applied_at is not None and order.account is not None
    return is_there and order.account.ready_at is not None


def _order_page(order: Order, status: int = 200, **context):
    return render_template(
        "order.html",
        button=Button(),
        terms=orders.terms_of(order),
        sandbox_pays="sandbox" in current_app.blueprints,
        **_status(order),
        **context,
    ), status


def _status(order: Order) -> dict:
    state = orders.state(order)
    status = {"order": order, "state": state, "is_mine": visitors.placed(order), "waits": True}
    if state in ("preparing", "cancelled", "expired", "closed"):
        status["waits"] = False
    if state == "paid":
        services = wanted.services_of(order.account_id) if order.account_id else []
        failing = [row for row in services if row.error]
        is_ready = _is_ready(order)
        status |= {
            "state": "ready" if is_ready else "paid",
            "waits": not is_ready,
            "services": services,
            "SERVICE_NAMES": SERVICE_NAMES,
            "applied": sum(row.is_applied for row in services),
            "last_try": failing[0].tried_at if failing else None,
            "is_stuck": any(row.permanent for row in failing),
        }
    return status


# -- login ---------------------------------------------------------------------------


@web.route("/login", methods=["GET", "POST"])
@visitors.limited("logins", lambda response: response.status_code == 400)
def login():
    form = LoginForm()
    if not form.validate_on_submit():
        return render_template("login.html", form=form), 400 if form.is_submitted() else 200

    account = _login(form.username.data.lower(), form.password.data)
    if account is None:
        form.password.errors = ["This name and password do not belong together."]
        return render_template("login.html", form=form), 400
    visitors.log_in(account)
    return redirect(url_for("web.account"), 303)


def _login(username: str, password: str) -> Account | None:
    """The account of a right name and password; an unknown name takes as long as a wrong one."""
    # The rule first: PostgreSQL fails on a NUL.
    account = names.RULE.fullmatch(username) and Account.get_or_none(
        (Account.username == username) & Account.opened_at.is_null(False)
    )
    try:
        right = passwords.matches(account and account.password_hash, password)
    except passwords.Busy:
        raise TooManyRequests from None
    return account if right else None


@web.post("/logout")
def logout():
    visitors.log_out()
    return redirect(url_for("web.index"), 303)


# -- the account ---------------------------------------------------------------------


@web.get("/account")
@login_required
def account():
    return _account_page(PasswordForm(formdata=None))


@web.post("/account/noted")
@login_required
def noted():
    # Not what was made since that page was shown.
    seen_at = min(request.form.get("seen_at", 0, int), now())
    hosting.forget_passwords(current_user.account.id, seen_at)
    return redirect(url_for("web.account"), 303)


@web.post("/account/password")
@login_required
@visitors.limited("logins", lambda response: True)
def change_password():
    form = PasswordForm()
    account = current_user.account
    if not form.validate_on_submit():
        return _account_page(form, status=400)
    if _login(account.username, form.current.data) is None:
        form.current.errors = ["This is not your current password."]
        return _account_page(form, status=400)
    password_hash = passwords.make_hash(form.new.data)
    with transaction():
        Account.update(
            password_hash=password_hash,
            session_epoch=Account.session_epoch + 1,
        ).where(Account.id == account.id).execute()
        # The browser that ordered is another session as well.
        Order.update(browser=None).where(Order.account == account).execute()
    visitors.log_in(Account.get_by_id(account.id))
    return redirect(url_for("web.account", changed="password"), 303)


def _account_page(form: PasswordForm, status: int = 200):
    shop, account = this_shop(), current_user.account
    rows = wanted.services_of(account.id)
    site = wanted.site_name(shop, account.username)
    order = Order.select().where((Order.account == account) & (Order.kind == "open")).first()
    return render_template(
        "account.html",
        account=account,
        site=site,
        host=shop.config.server_hosts.get(account.server_id, site),
        rows=rows,
        SERVICE_NAMES=SERVICE_NAMES,
        state=lambda row: hosting.state(account, row),
        applied=sum(row.is_applied for row in rows),
        is_stuck=any(row.permanent for row in rows),
        is_live=all(hosting.is_live(account.server, row) for row in rows),
        password=_unsealed(account.password_sealed),
        own_passwords={
            (row.kind, row.name): _unsealed(row.own_password_sealed)
            for row in rows
            if row.own_password_sealed and row.password_sealed is None  # the panel has it
        },
        may_send=wanted.may_send(shop, account),
        asked_name=order.username if order else None,
        left_seconds=max(0, account.expires_at - now()),
        form=form,
        button=Button(),
        changed=request.args.get("changed") == "password",
    ), status


def _unsealed(sealed: str | None) -> str | None:
    """A generated password to show; None when there is none, or none that can be read."""
    try:
        return this_shop().vault.unseal(sealed) if sealed else None
    except Unreadable:
        return None
