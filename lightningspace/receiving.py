"""The control center's page of tips: what came in, and by which doors more may come."""

import logging

from flask import flash, redirect, request, url_for
from werkzeug.exceptions import NotFound

from lightningspace import tips, wanted
from lightningspace.control import account, page, this_account
from lightningspace.node import NodeError
from lightningspace.visitors import this_shop

logger = logging.getLogger(__name__)

# What its owner reads when a switch was pressed, on or off.
SWITCHED = {
    "tips_page": ("The tip page is open.", "The tip page is closed: nobody finds it."),
    "tips_address": ("The Lightning Address takes tips.", "The Lightning Address takes none."),
    "tips_offer": ("The offer takes tips.", "The offer takes none."),
    "tips_show_end": (
        "Whoever may tip sees until when your hosting is paid.",
        "Until when your hosting is paid, nobody sees but you.",
    ),
}


@account.get("/tips", endpoint="tips")
def tips_page():
    shop, own = this_shop(), this_account()
    return page(
        "account/tips.html",
        received=tips.received(own.id),
        received_msat=tips.received_msat(own.id),
        most_listed=tips.LISTED,
        address=tips.lightning_address(shop, own),
        lnurl=tips.lnurl(shop, own),
        link=tips.page_url(shop, own),
        **_offer(),
    )


def _offer() -> dict:
    """The offer's text; None while there is none, or (`no_answer`) the node says nothing."""
    try:
        return {"offer": tips.offer(this_shop(), this_account()), "no_answer": False}
    except NodeError as error:
        logger.warning("no offer: %s", error)
        return {"offer": None, "no_answer": True}


@account.post("/tips/switch")
def switch_tips():
    name, active = request.form.get("name"), request.form.get("active") == "on"
    if name not in SWITCHED:
        raise NotFound
    if this_account().closing_at:
        raise wanted.Closed
    tips.switch(this_account().id, **{name: active})
    flash(SWITCHED[name][not active])
    return redirect(url_for("account.tips", _anchor="doors"), 303)


@account.post("/tips/<token>/hide")
def hide_tip(token):
    hidden = request.form.get("hidden") == "on"
    # The check first: PostgreSQL fails on a NUL.
    if not token.isalnum() or not tips.hide(this_account().id, token, hidden):
        raise NotFound
    return redirect(url_for("account.tips", _anchor="received"), 303)
