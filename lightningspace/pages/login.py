"""Logging in: by name and password, by receipt, by a linked wallet, or by the history of the wallet
that paid.
"""

import re

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
from flask_login import current_user
from werkzeug.exceptions import BadRequest

from lightningspace.base.models import Account
from lightningspace.outside import l402
from lightningspace.pages import control
from lightningspace.rules import hostnames, recovery, sessions, tokens, wallets
from lightningspace.shop import this_shop
from lightningspace.visitors import browsers, limits, logins
from lightningspace.visitors.authorization import Credential
from lightningspace.visitors.forms import Button, LoginForm, ReceiptForm, RecoveryForm

blueprint = Blueprint("login", __name__)

# Where a first form leads, beside the control center.
OWN_PATH = re.compile(
    "/orders/[0-9a-f]{32}|/refund/[0-9a-f]{32,64}|/login/wallet(?:[?]then=[a-z]{1,20})?"
)
FORMS = {"form": LoginForm, "receipt_form": ReceiptForm, "recovery_form": RecoveryForm}


def _has_failed(response: Response) -> bool:
    return response.status_code == 400


def _login_page(status: int = 200, **context):
    forms = {name: kind(formdata=None) for name, kind in FORMS.items() if name not in context}
    waiting = browsers.waiting_orders()
    return render_template(
        "login.html", waiting=waiting, then=_then(), pages=control.PAGES, **forms, **context
    ), status


def _then() -> str | None:
    """The page of the control center that the login was meant for; None: any."""
    name = request.args.get("then")
    return name if name in control.PAGES else None


def _onwards() -> Response:
    return redirect(browsers.onwards(control.path_of(_then())), 303)


@blueprint.errorhandler(sessions.SessionOver)
def over(error):
    """What the visitor gave no longer logs in: the password was changed meanwhile, say."""
    return redirect(url_for("login.login", then=_then()), 303)


@blueprint.get("/login")
def login():
    if not current_user.is_authenticated:
        return _login_page()
    if _then():
        return redirect(control.path_of(_then()), 303)
    site = hostnames.site_name(this_shop(), current_user.account.username)
    return render_template("logged_in.html", site=site, button=Button())


@blueprint.post("/login")
@limits.limited("logins", among=limits.those_known)
def log_in():
    form = LoginForm()
    if not form.validate_on_submit():
        return _login_page(400, form=form)
    account = logins.account_of(form.username.data.lower(), form.password.data)
    if account is None:
        form.password.errors = ["Wrong name or password."]
        return _login_page(400, form=form)
    logins.log_in(account)
    return _onwards()


@blueprint.get("/cookie")
def cookie():
    """Go on from a browser's first form, if it has kept what it was given."""
    if not session:
        raise BadRequest("This browser keeps no cookie.")
    then = request.args.get("then", "")
    is_ours = OWN_PATH.fullmatch(then) or then in map(control.path_of, control.PAGES)
    return redirect(then if is_ours else url_for("orders.index"), 303)


@blueprint.post("/logout")
def logout():
    """`?again`: to log in another way, or to another hosting."""
    logins.log_out()
    return redirect(url_for("login.login" if "again" in request.args else "orders.index"), 303)


# -- by receipt ------------------------------------------------------------------------


@blueprint.post("/login/receipt")
@limits.limited_each("logins", _has_failed)
def log_in_by_receipt():
    form = ReceiptForm()
    if not form.validate_on_submit():
        return _login_page(400, receipt_form=form)
    shown = form.credential
    try:
        found = tokens.holder(this_shop(), shown.macaroon, shown.preimage)
    except tokens.NotSettled:
        problem = "Its payment has not taken effect yet. Nothing is lost: try again in a minute."
    except l402.Void:
        if _had_a_hosting(shown):
            return redirect(browsers.onwards(url_for("orders.index")), 303)
        problem = "It counts no more: there is a newer access key, or its time or hosting is over."
    except l402.Invalid:
        problem = "No hosting here has this access key. Is it complete?"
    else:
        if found.rights.are_whole:
            logins.log_in(found.account, by_receipt=True)
            return _onwards()
        problem = (
            "This token is for programs: it may not do everything, or it has an end. To log in "
            "takes the access key itself."
        )
    form.source.errors = [problem]
    return _login_page(400, receipt_form=form)


def _had_a_hosting(credential: Credential) -> bool:
    """Whether it was the receipt of a closed hosting; if so, this browser may order its name."""
    try:
        proof = tokens.last_hosting(this_shop(), credential.macaroon, credential.preimage)
    except l402.Invalid:
        return False
    if proof:
        browsers.keep_proof(proof)
    return proof is not None


# -- by a linked wallet ----------------------------------------------------------------


@blueprint.post("/login/wallet")
def ask_wallet():
    """Give this browser a k1: it is tied to the browser before it is shown."""
    session["login_k1"] = wallets.new_k1(this_shop(), wallets.LOGIN)
    session.permanent = True
    return redirect(browsers.onwards(url_for("login.wallet", then=_then())), 303)


@blueprint.get("/login/wallet")
def wallet():
    """Show the k1; once a wallet has signed it, log in, or ask to which of its hostings."""
    linked = _signed_for()
    if len(linked) == 1:
        return _enter_by_wallet(linked[0])
    code = _code()
    if not linked and not code and current_user.is_authenticated:  # in another tab
        return _onwards()
    return render_template(
        "login_by_wallet.html",
        code=code,
        sites={each.username: hostnames.site_name(this_shop(), each.username) for each in linked},
        then=_then(),
        button=Button(),
        sandbox_signs="sandbox" in current_app.blueprints,
    )


@blueprint.get("/login/wallet/status")
def wallet_status():
    """What the page asks for while it waits."""
    if _code():
        return Response(status=204)
    return Response(headers={"HX-Redirect": url_for("login.wallet", then=_then())})


@blueprint.post("/login/wallet/choose")
def choose_hosting():
    chosen = request.form.get("username")
    for account in _signed_for():
        if account.username == chosen:
            return _enter_by_wallet(account)
    return redirect(url_for("login.wallet", then=_then()), 303)


def _signed_for() -> list[Account]:
    """The hostings of the wallet that has signed this browser's k1."""
    key = wallets.signer(session.get("login_k1"))
    return wallets.hostings(key) if key else []


def _enter_by_wallet(account: Account):
    # This is no proof: a stranger's page may have shown the k1, and wallets cannot tell.
    k1 = session["login_k1"]
    logins.log_in(account, proved_at=sessions.NEVER, may=lambda: wallets.enter(k1, account.id))
    return _onwards()


def _code() -> wallets.Code | None:
    return wallets.code(this_shop(), wallets.LOGIN, session.get("login_k1"))


# -- by the wallet's history ----------------------------------------------------------


@blueprint.post("/login/recover")
@limits.limited_each("logins")
def recover():
    form = RecoveryForm()
    if not form.validate_on_submit():
        return _login_page(400, recovery_form=form)
    try:
        place, invoice = logins.place(), form.invoice.data
        account, password = recovery.recover(this_shop(), invoice, form.secret, place)
    except recovery.RecoveryWaits as waits:
        return _login_page(202, waits_until=waits.at, closes_at=waits.closes_at)
    except recovery.NotRecovered:
        form.invoice.errors = [
            "These two open no hosting here. They are not from the payment that opened it, or it "
            "is still being set up, or its owner does not allow this."
        ]
        return _login_page(400, recovery_form=form)
    logins.log_in(account, is_at_home=False)
    site = hostnames.site_name(this_shop(), account.username)
    onwards = control.path_of(_then())
    return render_template(
        "recovered.html", account=account, password=password, site=site, onwards=onwards
    )
