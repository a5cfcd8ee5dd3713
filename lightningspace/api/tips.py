"""The API's routes for those who get tips: what came in, and which messages are shown."""

from flask import request

from lightningspace.api import codes, resources, routes
from lightningspace.api.answers import success
from lightningspace.api.bodies import TEXT, YES_NO
from lightningspace.api.holders import changer, changes, holder
from lightningspace.api.routes import described
from lightningspace.rules import order_book, tips, wanted

blueprint = routes.part("tips")

CHANGES = {"hidden": YES_NO}


@blueprint.get("/hosting/tips", endpoint="tips")
@described(
    "Tips that others gave",
    {200: "Tips"},
    capability="read",
    query={"before": TEXT},
    codes=("unknown",),
    note="The latest first; `before` is the `next_before` of the previous answer. What was below "
    "the least that is a tip is counted in small_tips. Doors are switched by PATCH /hosting.",
)
def tip_list():
    """One page of the tips of others, hidden ones too: the latest first, after `before`."""
    account = holder().account
    before = request.args.get("before")
    received, next_before = order_book.listed(account.id, tips.DOORS, before)
    return success(
        {
            "tips": [resources.tip(each) for each in received],
            "received_msat": tips.received_msat(account),
            "small_tips": account.small_tips,
            "small_tips_msat": account.small_tips_msat,
            "next_before": next_before,
        }
    )


@blueprint.patch("/hosting/tips/<token>")
@described(
    "Hide the message of a tip, or show it again",
    {200: "TipReceived"},
    capability="settings",
    fields=CHANGES,
    codes=(*codes.ONE, *codes.CHANGE),
)
@changes
def change_tip(token):
    account = changer().account
    hidden = routes.body().get("hidden")
    if account.closing_at:
        raise wanted.AccountClosed
    if hidden is not None:
        tips.hide(account.id, token, hidden)
    tip = tips.find(account.id, token)
    if tip is None:
        raise wanted.UnknownService
    return success(resources.tip(tip))
