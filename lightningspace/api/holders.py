"""Who calls the API: the holder of a credential, and what it may do. Cookies are ignored.

A credential is the L402 token of a hosting.
"""

import time
from collections.abc import Callable
from threading import BoundedSemaphore
from typing import TypeVar

from flask import g, request

from lightningspace.api.answers import ApiError
from lightningspace.api.routes import this_route
from lightningspace.base.models import Account
from lightningspace.outside import l402
from lightningspace.rules import services, tokens
from lightningspace.rules.progress import Progress
from lightningspace.rules.tokens import Holder, Payer
from lightningspace.rules.wanted import AccountNotReady
from lightningspace.shop import this_shop
from lightningspace.visitors import authorization, limits, logins
from lightningspace.visitors.authorization import Credential

# How long a request waits for the worker to record or apply what was paid. Few may wait at once,
# for each holds a thread.
WAIT_SECONDS = 3
LOOK_SECONDS = 0.1
_waiting = BoundedSemaphore(2)
Found = TypeVar("Found", Holder, Payer)


class Unauthorized(ApiError):
    def __init__(self, why: object):
        super().__init__(401, "unauthorized", f"{str(why)[:1].upper()}{str(why)[1:]}.")


def holder() -> Holder:
    """The holder of a credential that may do what this route requires. Raises ApiError.

    A 401 comes without an invoice: a program that only wanted to look must not be made to buy.
    """
    try:
        found = shown()
    except l402.Invalid as error:
        raise Unauthorized(error) from None
    if found is None:
        raise Unauthorized("this needs the L402 credential of a hosting")
    check_able(found, this_route().capability)
    return found


def changer() -> Holder:
    """As `holder`; raises AccountNotReady while the hosting is being set up."""
    found = holder()
    if found.account.closing_at is None:
        check_opened(found)
    return found


def shown() -> Holder | None:
    """The holder of the request's credential; of several, of the last valid one. None: no
    credential. Raises l402.Invalid, and ApiError (503) while its payment is not recorded.
    """
    found = _shown(tokens.holder)
    if found is not None:
        logins.note_entry(found.account)
    return found


def payer() -> Payer | None:
    """Who has paid for the request's credential, whatever it stands for; None: nobody, as far as
    is known. Raises ApiError, because a forged credential is not answered with an invoice.
    """
    try:
        return _shown(tokens.payer)
    except l402.Void:
        return None
    except l402.Invalid as error:
        raise Unauthorized(error) from None


def _shown(look: Callable[..., Found]) -> Found | None:
    credentials = authorization.credentials(request.environ)
    if not credentials:
        return None
    found = wait_for(lambda: _last_good(credentials, look))
    if found is None:
        raise ApiError(
            503,
            "not_settled",
            "The payment of this credential is not recorded yet. Send the same again soon; nothing "
            "needs to be paid twice.",
            retry_after=2,
        )
    return found


def _last_good(shown: list[Credential], look: Callable[..., Found]) -> Found | None:
    """The last valid one; None: one will be valid once its payment is recorded."""
    failures, one_waits = [], False
    for credential in shown:
        try:
            return look(this_shop(), credential.macaroon, credential.preimage)
        except tokens.NotSettled:
            one_waits = True
        except l402.Invalid as error:
            failures.append(error)
    if one_waits:
        return None
    # Forged outweighs void: a forged credential must not be answered with an invoice.
    raise min(failures, key=lambda error: isinstance(error, l402.Void))


def check_able(found: Holder, capability: str) -> None:
    """Raise ApiError (403) unless the holder has this capability."""
    if capability not in found.rights.capabilities:
        raise ApiError(403, "not_capable", f"This credential lacks the capability “{capability}”.")


def check_still(found: Holder) -> None:
    """Within a transaction: raise Unauthorized if the credential was revoked since it was shown."""
    try:
        tokens.check(found)
    except l402.Void as error:
        raise Unauthorized(error) from None


def check_opened(found: Holder) -> None:
    """Raise AccountNotReady while the hosting is being set up."""
    if found.account.ready_at is None:
        raise AccountNotReady


def account_now(found: Holder) -> Account:
    """The account as it is now, after a wait. Raises Unauthorized when it is gone."""
    account = Account.get_or_none(Account.id == found.account.id)
    if account is None:
        raise Unauthorized("what this credential was for is closed")
    return account


def progress_of(found: Holder) -> Progress:
    account = account_now(found)
    return Progress(account, services.of_account(account.id))


def wait_for(look: Callable):
    """The first true answer of `look`, or the last one once this request has waited WAIT_SECONDS in
    all. It does not wait while too many requests do.
    """
    answer = look()
    if answer or not _waiting.acquire(blocking=False):
        return answer
    try:
        if "waits_until" not in g:
            g.waits_until = time.monotonic() + WAIT_SECONDS
        while not (answer := look()) and time.monotonic() < g.waits_until:
            time.sleep(LOOK_SECONDS)
        return answer
    finally:
        _waiting.release()


# -- rate limits -----------------------------------------------------------------------


def _customers() -> str:
    """Like limits.customers, but by the credential."""
    if "holders" not in g:  # each limit asks
        try:
            credentials = authorization.credentials(request.environ)
            found = _last_good(credentials, tokens.holder) if credentials else None
        except l402.Invalid:
            found = None
        g.holders = found.account.id if found else limits.STRANGERS
    return g.holders


changes = limits.limited("changes", among=_customers)
sells = limits.limited("orders", lambda response: g.get("asked_node", False), _customers)
