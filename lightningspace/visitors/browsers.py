"""Which browser a request comes from, and what it has ordered, shown and logged in to."""

import re
import secrets

from flask import current_app, request, session, url_for

from lightningspace.base import names
from lightningspace.base.models import Account, Order
from lightningspace.rules import order_book
from lightningspace.shop import this_shop

# How many accounts one browser can be known for.
KNOWN_MAX = 8


def named(username: str) -> Account | None:
    # The rule first: PostgreSQL fails on a NUL.
    if not names.RULE.fullmatch(username):
        return None
    account = Account.get_or_none(Account.username == username)
    return account if account and account.opened_at is not None else None


def is_known(account: Account) -> bool:
    """Whether this browser has had a session of the account."""
    vault = this_shop().vault
    return any(vault.is_mac(known, "known", account.id) for known in session.get("known", ()))


def note_known(account: Account) -> None:
    mac = this_shop().vault.mac("known", account.id)
    others = [known for known in session.get("known", ()) if known != mac]
    session["known"] = [mac, *others][:KNOWN_MAX]


def browser_id(form_id: str | None) -> str:
    """A keyed hash that identifies this browser; the first call gives it its cookie.

    It comes from the form that was sent, if that is one of ours, and from what the session has had
    of ours: sent twice at once, as by a double click, it is still one browser.
    """
    if "browser" not in session:
        is_ours = re.fullmatch("[0-9a-f]{32}", form_id or "")
        had = session.get("csrf_token", "")
        of_form = is_ours and this_shop().vault.mac("browser of a form", had, form_id)
        session["browser"] = of_form or secrets.token_hex(16)
    session.permanent = True
    return this_shop().vault.mac("browser", session["browser"])


def onwards(path: str) -> str:
    """Where to send a browser that has just got a cookie: to `path`, but if it is its first cookie,
    through a page that checks whether it keeps it.
    """
    has_one = current_app.session_interface.get_cookie_name(current_app) in request.cookies
    return path if has_one else url_for("login.cookie", then=path)


def new_form_id() -> str:
    """An id for a form that is sent once."""
    return secrets.token_hex(8)


def placed(order: Order) -> bool:
    """Whether this browser has placed the order."""
    if order.browser is None or "browser" not in session:
        return False
    return this_shop().vault.is_mac(order.browser, "browser", session["browser"])


def keep_paid(order: Order) -> None:
    """Note that this browser has shown the proof of an order's payment."""
    others = [token for token in session.get("paid", ()) if token != order.token]
    session["paid"] = [order.token, *others][:KNOWN_MAX]


def has_paid(order: Order) -> bool:
    """Whether this browser has placed the order, or shown the proof of its payment."""
    return placed(order) or order.token in session.get("paid", ())


def waiting_orders() -> list[Order]:
    """The latest orders that this browser has placed and can pay."""
    if "browser" not in session:
        return []
    return list(order_book.waiting(this_shop().vault.macs("browser", session["browser"])))


def keep_proof(proof: tuple[str, int]) -> None:
    """Note that this browser has shown the receipt of a closed hosting (see orders.Wish)."""
    session["proof"] = proof


def kept_proof() -> tuple[str, int] | None:
    return tuple(session["proof"]) if "proof" in session else None
