"""Where wallets send what they have signed to log in or to be linked (LNURL-auth, LUD-04).

Nothing here knows of browsers: the page that showed what was to be signed asks by itself. Errors
have status 200, as in `lnurl`.
"""

from flask import Blueprint, request
from werkzeug.exceptions import TooManyRequests

from lightningspace.api.answers import success
from lightningspace.outside import lnurl
from lightningspace.rules import wallets
from lightningspace.shop import this_shop
from lightningspace.visitors import limits

blueprint = Blueprint("lnurl_auth", __name__)


@blueprint.get(lnurl.AUTH_PATH)
@limits.limited_each("logins")
def signed():
    """Note what a wallet has signed. What is right counts as well: each makes a row."""
    k1, signature, key = map(_sent, ("k1", "sig", "key"))
    if not signature or not key or request.method == "HEAD":
        raise wallets.NotSigned("Scan this with a Lightning wallet that can log in (LNURL-auth).")
    wallets.sign(this_shop(), k1, signature, key)
    return success({"status": "OK"})


def _sent(name: str) -> str:
    return "".join(request.args.getlist(name))


@blueprint.errorhandler(wallets.NotSigned)
def refused(error):
    return success({"status": "ERROR", "reason": error.text})


@blueprint.errorhandler(TooManyRequests)
def too_many(error):
    return success({"status": "ERROR", "reason": "Too many tries. Please wait a minute."})
