"""The control center's pages for access: sessions, the receipt, the wallet's history, tokens."""

import logging
import re
from collections.abc import Mapping
from functools import partial, wraps

from flask import Response, current_app, flash, redirect, request, session, url_for
from flask_login import current_user
from werkzeug.exceptions import NotFound

from lightningspace.base.models import Token
from lightningspace.base.prices import DAY
from lightningspace.outside import l402
from lightningspace.outside.node import NodeError
from lightningspace.pages import control
from lightningspace.pages.control import page, this_account
from lightningspace.rules import (
    hostnames,
    recovery,
    services,
    sessions,
    tips,
    tokens,
    wallets,
    wanted,
)
from lightningspace.shop import this_shop
from lightningspace.visitors import limits, logins
from lightningspace.visitors.authorization import Credential
from lightningspace.visitors.forms import CAPABILITIES_IN_WORDS, ProofForm, ReceiptForm, TokenForm

logger = logging.getLogger(__name__)
blueprint = control.part("access")


def proof_first(then: str | None = None):
    """Show a view only after password or receipt was given just now; ask for it first otherwise.

    `then`: the endpoint to go on to; None: the same page.
    """

    def guard(view):
        @wraps(view)
        def guarded(**args):
            if logins.has_proved():
                return view(**args)
            return _to_proof(url_for(then) if then else request.path)

        return guarded

    return guard


def _to_proof(then: str):
    if request.method == "POST":
        flash(
            "Nothing is changed yet: give your password or access key first, then do it once more.",
            "problem",
        )
    return redirect(url_for("access.prove", then=then), 303)


@blueprint.get("/access")
def access():
    return _access_page()


def _access_page(status: int = 200, form: TokenForm | None = None, found: dict | None = None):
    return page(
        "account/access.html",
        status,
        form=form or TokenForm(formdata=None),
        tokens=tokens.handed_out(this_account().id),
        words=CAPABILITIES_IN_WORDS,
        sessions=sessions.of_account(this_account().id),
        own=current_user.session,
        wallets=wallets.of(this_account().id),
        wallets_max=wallets.WALLETS_MAX,
        noted_seconds=sessions.NOTED_SECONDS,
        lasts_days=sessions.LASTS_SECONDS // DAY,
        has_proved=logins.has_proved(),
        **(found or (_receipt() if logins.has_proved() else {})),
    )


def _receipt(epoch: int | None = None) -> dict:
    """The receipt's text; None: the node does not know it, or (`no_answer`) does not answer."""
    try:
        text = tokens.receipt(this_shop(), this_account(), epoch)
    except NodeError as error:
        logger.warning("no receipt: %s", error)
        return {"receipt": None, "no_answer": True}
    return {"receipt": text, "no_answer": False}


# -- password or receipt, asked again --------------------------------------------------


@blueprint.get("/prove")
def prove():
    return _proof_page()


@blueprint.post("/prove")
@limits.limited("logins")
def prove_by_password():
    form = ProofForm()
    if not form.validate_on_submit():
        return _proof_page(400, form=form)
    if logins.account_of(this_account().username, form.password.data) is None:
        form.password.errors = ["This is not your password."]
        return _proof_page(400, form=form)
    logins.prove()
    return redirect(_then(), 303)


@blueprint.post("/prove/receipt")
@limits.limited("logins")
def prove_by_receipt():
    form = ReceiptForm()
    if form.validate_on_submit() and _is_receipt(form.credential):
        logins.prove(by_receipt=True)
        return redirect(_then(), 303)
    if not form.errors:
        form.source.errors = ["This is not the access key of this hosting."]
    return _proof_page(400, receipt_form=form)


def _is_receipt(shown: Credential) -> bool:
    """Whether it is a receipt of this hosting, or a token that may do as much."""
    try:
        found = tokens.holder(this_shop(), shown.macaroon, shown.preimage)
    except (l402.Invalid, tokens.NotSettled):
        return False
    return found.rights.are_whole and found.account.id == this_account().id


def _proof_page(status: int = 200, **forms):
    choices = {"form": ProofForm, "receipt_form": ReceiptForm}
    shown = {name: forms.get(name) or kind(formdata=None) for name, kind in choices.items()}
    return page("account/prove.html", status, here="access", then=_then(), **shown)


def _then() -> str:
    """The page of the control center to go on to."""
    path = request.args.get("then", "")
    return path if re.fullmatch("/account(/[a-z0-9-]+){0,3}", path) else url_for("access.access")


# -- sessions --------------------------------------------------------------------------


@blueprint.post("/access/sessions")
def end_sessions():
    logins.log_out_everywhere()
    flash("Every other browser is logged out.")
    return redirect(url_for("access.access", _anchor="sessions"), 303)


@blueprint.post("/access/sessions/<session_id>/end")
def end_session(session_id):
    if session_id not in [row.id for row in sessions.of_account(this_account().id)]:
        raise NotFound
    if session_id == current_user.session.id:
        logins.log_out()
        return redirect(url_for("orders.index"), 303)
    sessions.end(this_account().id, session_id)
    flash("That browser is logged out.")
    return redirect(url_for("access.access", _anchor="sessions"), 303)


# -- the receipt -----------------------------------------------------------------------


@blueprint.get("/receipt")
@proof_first(then="access.access")
def receipt_file():
    found = _receipt()
    if found["receipt"]:
        logins.note_entry(this_account())
    return _file(found) or _access_page(_status(found), found=found)


@blueprint.get("/access/card")
@proof_first()
def key_card():
    """A card to print and keep: it is all that one needs to get in, or to pay for more time."""
    shop, account = this_shop(), this_account()
    rows = {row.kind: row for row in reversed(control.own_rows())}
    return page(
        "account/key_card.html",
        here="access",
        password=services.unsealed(shop, account.password_sealed),
        host=hostnames.host(shop, account),
        services=[rows[kind] for kind in services.CONNECTIONS if kind in rows],
        connections=services.CONNECTIONS,
        login_url=f"{shop.config.public_url}{url_for('login.login')}",
        pay_url=tips.page_url(shop, account) if account.tips_page else None,
        **_receipt(),
    )


@blueprint.get("/access/receipt")
@proof_first()
def next_receipt():
    """Show the next receipt, to be saved before it voids the others."""
    return _next_receipt_page()


@blueprint.get("/access/receipt/file")
@proof_first(then="access.next_receipt")
def next_receipt_file():
    epoch = _epoch(request.args)
    if epoch is None:
        raise NotFound
    found = _receipt(epoch)
    return _file(found) or _next_receipt_page(_status(found), found)


@blueprint.post("/access/receipt")
@proof_first()
def renew_receipt():
    # Only the one that the page showed, and only if it is still the next: a form sent twice makes
    # one receipt, and does not void another tab's.
    epoch, after = _epoch(request.form), request.form.get("after", -1, int)
    if epoch is None or after != this_account().receipt_epoch:
        return _next_receipt_page(409, problem="This was not the next access key. Save this one.")
    renew = partial(tokens.renew, this_account().id, epoch)
    logins.log_out_everywhere(renew, wallet_recovers=False)
    logger.info("account %s: a new receipt", this_account().id)
    flash("The new access key counts from now on, and nothing that was handed out before.")
    return redirect(url_for("access.access"), 303)


def _epoch(fields: Mapping[str, str]) -> int | None:
    """The epoch of the next receipt, as a page showed it; None: it cannot be one."""
    typed = fields.get("epoch", "")
    is_one = re.fullmatch("[1-9][0-9]{0,18}", typed) and int(typed) < 1 << 63
    return int(typed) if is_one else None


def _next_receipt_page(status: int = 200, found: dict | None = None, **context):
    # A new epoch on each page: nobody who saw an earlier page has the key that will count.
    epoch = l402.new_epoch()
    return page(
        "account/new_receipt.html",
        status,
        here="access",
        epoch=epoch,
        tokens=tokens.handed_out(this_account().id),
        **(found or _receipt(epoch)),
        **context,
    )


def _status(found: dict) -> int:
    return 503 if found["no_answer"] else 404


def _file(found: dict) -> Response | None:
    if found["receipt"] is None:
        return None
    disposition = f'attachment; filename="{this_account().username}-access-key.txt"'
    headers = {"Content-Disposition": disposition}
    return Response(found["receipt"] + "\n", mimetype="text/plain", headers=headers)


# -- the wallet's history --------------------------------------------------------------


@blueprint.post("/access/wallet")
def let_wallet_recover():
    may = request.form.get("active") == "on"
    if may and not logins.has_proved():
        return _to_proof(url_for("access.access"))
    recovery.let_wallet_recover(this_account().id, may, logins.check_still)
    flash(
        "Your wallet’s history may log in." if may else "Your wallet’s history opens nothing now."
    )
    return redirect(url_for("access.access"), 303)


# -- wallets that log in ---------------------------------------------------------------


@blueprint.post("/access/wallets")
@proof_first(then="access.access")
def ask_wallet():
    session["link_k1"] = wallets.new_k1(this_shop(), wallets.LINK)
    return redirect(url_for("access.new_wallet"), 303)


@blueprint.get("/access/wallets/new")
@proof_first()
def new_wallet():
    """Show what a wallet is to sign, and, once one has, ask whether it was the owner's."""
    return _new_wallet_page()


@blueprint.get("/access/wallets/new/status")
def new_wallet_status():
    if _wallet_code():
        return Response(status=204)
    return Response(headers={"HX-Redirect": url_for("access.new_wallet")})


@blueprint.post("/access/wallets/new")
@proof_first(then="access.access")
def link_wallet():
    k1 = request.form.get("k1", "")
    if k1 != session.get("link_k1"):  # of another tab
        return redirect(url_for("access.new_wallet"), 303)
    try:
        wallets.link(this_shop(), this_account().id, k1, logins.check_still)
    except wallets.SignatureOver:
        return redirect(url_for("access.new_wallet"), 303)
    except wallets.TooManyWallets as refused:
        return _new_wallet_page(refused.status, problem=refused.text)
    del session["link_k1"]
    logins.note_entry(this_account())
    flash("Your wallet logs in from now on.")
    return redirect(url_for("access.access", _anchor="wallets"), 303)


@blueprint.post("/access/wallets/unlink")
def unlink_wallet():
    if not wallets.unlink(this_account().id, request.form.get("key", "")):
        raise NotFound
    flash("That wallet logs in no more. Browsers that it has logged in to stay logged in.")
    return redirect(url_for("access.access", _anchor="wallets"), 303)


def _new_wallet_page(status: int = 200, **context):
    k1 = session.get("link_k1")
    return page(
        "account/link_wallet.html",
        status,
        here="access",
        code=_wallet_code(),
        signed=k1 if wallets.signer(k1) else None,
        sandbox_signs="sandbox" in current_app.blueprints,
        **context,
    )


def _wallet_code() -> wallets.Code | None:
    return wallets.code(this_shop(), wallets.LINK, session.get("link_k1"))


# -- tokens ----------------------------------------------------------------------------


@blueprint.post("/access/tokens")
@proof_first(then="access.access")
def hand_out_token():
    form = TokenForm()
    if not form.validate_on_submit():
        return _access_page(400, form)
    try:
        token = tokens.hand_out(
            this_shop(), this_account().id, form.name.data, form.rights(), logins.check_still
        )
    except tokens.TokenNameTaken:
        form.name.errors = ["You have a token of this name, which may do something else."]
        return _access_page(400, form)
    except l402.Void:
        raise wanted.AccountClosed from None
    except tokens.TooManyTokens:
        form.name.errors = [f"There are {tokens.TOKENS_MAX} tokens. Revoke one of them first."]
        return _access_page(400, form)
    return redirect(url_for("access.token", token_id=token.id), 303)


@blueprint.get("/access/tokens/<token_id>")
@proof_first()
def token(token_id):
    row = _own_token(token_id)
    try:
        text = tokens.text_of(this_shop(), row)
    except l402.Void:
        text = None
    return page(
        "account/token.html", here="access", row=row, text=text, words=CAPABILITIES_IN_WORDS
    )


@blueprint.post("/access/tokens/<token_id>/revoke")
def revoke_token(token_id):
    row = _own_token(token_id)
    revoke = partial(tokens.revoke, this_account().id, row.id)
    if tokens.rights_of(row).are_whole:
        logins.log_out_everywhere(revoke)
        flash(
            f"“{row.name}” is revoked, and every other browser is logged out. Who had it could see "
            "your access key: should it be in wrong hands, make a new one."
        )
    else:
        revoke()
        flash(f"“{row.name}” is revoked, and opens nothing any more.")
    return redirect(url_for("access.access"), 303)


def _own_token(token_id: str) -> Token:
    for row in tokens.handed_out(this_account().id):
        if row.id == token_id:
            return row
    raise NotFound
