"""A hosting's public tip page, where whoever likes its site pays for more of its time."""

from flask import Blueprint, Response, redirect, render_template, request, url_for
from werkzeug.exceptions import NotFound

from lightningspace.base import messages
from lightningspace.base.models import Account
from lightningspace.base.refusals import Refusal
from lightningspace.rules import certificates, hostnames, orders, quotes, tips
from lightningspace.rules.order_book import Door
from lightningspace.shop import this_shop
from lightningspace.visitors import browsers, limits
from lightningspace.visitors.forms import PrefilledAmountForm, TipForm

blueprint = Blueprint("tip", __name__)

# The amounts offered at a click, in sat, within the bounds; any other can be typed.
AMOUNTS = (100, 1_000, 5_000, 21_000, 100_000)
# How long browsers may keep a badge, which every visitor of a site asks for.
BADGE_SECONDS = 60 * 60


@blueprint.get("/tip/<username>")
def tip(username):
    account = _taker(username)
    form = TipForm(tips.bounds(this_shop()), formdata=None)
    prefill = PrefilledAmountForm(tips.bounds(this_shop()), formdata=request.args)
    if request.args and prefill.validate():
        form.sats.data = prefill.sats.data
    return _tip_page(account, form)


@blueprint.post("/tip/<username>")
@limits.limited("tips", lambda response: response.status_code in (303, 503))
def give_tip(username):
    account, form = _taker(username), TipForm(tips.bounds(this_shop()))
    if account.last_call_at or not form.validate_on_submit():
        return _tip_page(account, form, 409 if account.last_call_at else 400)
    given = orders.Tip(form.sats.data * 1000, Door.PAGE, messages.cleaned(form.message.data))
    browser = browsers.browser_id(form.form_id.data)
    try:
        order = orders.top_up(this_shop(), account.id, given, browser, form.form_id.data or "")
    except quotes.NotForSale:  # it was closed or blocked, or had its last call, since we looked
        return _tip_page(_taker(username), form, 409)
    except Refusal as refused:
        return _tip_page(account, form, refused.status, refused.text)
    return redirect(url_for("orders.order", token=order.token), 303)


@blueprint.get("/badge/<username>.svg")
def badge(username):
    account, key = _taker(username), request.args.get("key", "")
    if not tips.has_badge(this_shop(), account, key):
        raise NotFound
    text = render_template(
        "badge.svg",
        ends_at=account.expires_at,
        tips=tips.count(account),
        most=tips.COUNTED_MAX,
    )
    headers = {"Cache-Control": f"public, max-age={BADGE_SECONDS}"}
    return Response(text.strip(), mimetype="image/svg+xml", headers=headers)


def _taker(username: str) -> Account:
    account = tips.taker(username, Door.PAGE)
    if account is None:
        raise NotFound
    return account


def _tip_page(account: Account, form: TipForm, status: int = 200, problem: str | None = None):
    shop = this_shop()
    least, most = tips.bounds(shop)
    amounts = [(each, tips.seconds_for(shop, account, each * 1000)) for each in AMOUNTS]
    return render_template(
        "tip.html",
        username=account.username,
        site=hostnames.site_name(shop, account.username),
        site_url=certificates.url(shop, account),
        is_over=account.last_call_at is not None,
        paid_until=tips.paid_until(account),
        amounts=[
            (amount, seconds)
            for amount, seconds in amounts
            if least <= amount <= most and seconds <= shop.config.horizon_seconds
        ],
        form=form,
        problem=problem,
        address=tips.lightning_address(shop, account) if account.tips_address else None,
        lnurl=tips.lnurl(shop, account),
        # A node that has just failed to answer is not waited for again.
        offer=tips.offer_if_told(shop, account) if status != 503 else None,
    ), status
