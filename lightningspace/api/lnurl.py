"""Lightning Addresses: wallets ask who takes tips (LUD-06, LUD-16), then for invoices.

Errors have status 200: wallets read only the body, and libraries that look at the status throw the
reason away.
"""

import re

from flask import Blueprint, Response, g, request, url_for
from werkzeug.exceptions import TooManyRequests

from lightningspace.api.answers import success
from lightningspace.base import messages
from lightningspace.base.models import Account
from lightningspace.base.refusals import Refusal
from lightningspace.outside import lnurl
from lightningspace.outside.node import NodeError
from lightningspace.rules import order_book, orders, quotes, restored, tips
from lightningspace.rules.order_book import Door
from lightningspace.shop import this_shop
from lightningspace.visitors import browsers, limits

blueprint = Blueprint("lnurl_pay", __name__, url_prefix=lnurl.PATH)

# At most 144 characters (LUD-09).
THANKS = "Thank you for keeping this site online!"


class PayError(Refusal):
    """A refusal that only wallets meet."""


@blueprint.url_value_preprocessor
def lower_name(endpoint, values):
    """Read capitals as the same name, with the same limits."""
    if values["username"].isascii():
        values["username"] = values["username"].lower()


@blueprint.get("/<username>")
def pay_request(username):
    shop, account = this_shop(), _taker(username)
    quotes.check_may_buy(account)
    restored.check_sells()
    least, most = tips.bounds_msat(shop)
    return success(
        {
            "tag": "payRequest",
            "callback": _url("callback", username=username),
            "minSendable": least,
            "maxSendable": most,
            "metadata": tips.metadata(shop, account),
            "commentAllowed": messages.LONGEST,
        }
    )


@blueprint.get("/<username>/invoice")
@limits.limited("tips", lambda response: g.get("asked_node", False), limits.givers, limits.giver)
def callback(username):
    """An invoice for exactly `amount` millisatoshi; each request makes a new one."""
    account = _taker(username)
    tip = orders.Tip(_amount(), Door.ADDRESS, _comment(), tips.metadata(this_shop(), account))
    if request.method == "HEAD":
        raise PayError("Invoices are made by GET only.")
    g.asked_node = True
    order = orders.top_up(this_shop(), account.id, tip, None, browsers.new_form_id())
    if order.bolt11 is None:  # its hosting began to close a moment ago
        raise _unknown()
    return success(
        {
            "pr": order.bolt11,
            "routes": [],
            "successAction": {"tag": "message", "message": THANKS},
            "disposable": False,
            "verify": _url("verify", username=username, order=order.token),
        }
    )


@blueprint.get("/<username>/<order>")
def verify(username, order):
    """Whether an invoice is paid (LUD-21), but never its preimage, which is the payer's proof."""
    found = order_book.find(order)
    account = found.account if found and found.door == Door.ADDRESS else None
    if account is None or account.username != username or found.bolt11 is None:
        raise PayError("There is no such invoice, or it has expired.")
    settled = found.paid_at is not None
    return success({"status": "OK", "settled": settled, "preimage": None, "pr": found.bolt11})


def _taker(username: str) -> Account:
    account = tips.taker(username, Door.ADDRESS)
    if account is None:
        raise _unknown()
    return account


def _unknown() -> PayError:
    return PayError("Nobody of this name takes payments here.")


def _amount() -> int:
    least, most = tips.bounds_msat(this_shop())
    sent = request.args.getlist("amount")
    is_one = len(sent) == 1 and re.fullmatch("[0-9]{1,15}", sent[0])
    if not is_one or not least <= int(sent[0]) <= most:
        raise PayError(f"Send from {least // 1000:,} to {most // 1000:,} sat.")
    return int(sent[0])


def _comment() -> str | None:
    sent = request.args.getlist("comment")
    if len(sent) > 1 or len("".join(sent)) > messages.LONGEST:
        raise PayError(f"A comment has up to {messages.LONGEST} characters.")
    return messages.cleaned("".join(sent))


def _url(endpoint: str, **values: str) -> str:
    return this_shop().config.public_url + url_for(f"lnurl_pay.{endpoint}", **values)


# -- errors ----------------------------------------------------------------------------


def _error(reason: str) -> Response:
    return success({"status": "ERROR", "reason": reason})


@blueprint.errorhandler(Refusal)
def refused(error):
    return _error(error.text)


@blueprint.errorhandler(orders.TooManyUnpaid)
@blueprint.errorhandler(TooManyRequests)
def too_many(error):
    return _error("Too many invoices at once. Please try again in a minute.")


@blueprint.errorhandler(NodeError)
def node_down(error):
    return _error(f"{NodeError.text} Please try again soon.")
