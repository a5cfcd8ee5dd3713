"""Who sends a request: which browser, from where, logged in to what, and how often."""

import logging
from collections.abc import Callable
from contextlib import AbstractContextManager

from flask import request, session
from flask_login import LoginManager, UserMixin, current_user, login_user

from lightningspace.base import models, passwords
from lightningspace.base.clock import now
from lightningspace.base.models import Account, Session
from lightningspace.rules import sessions
from lightningspace.shop import this_shop
from lightningspace.visitors import browsers, limits, networks

logger = logging.getLogger(__name__)
login_manager = LoginManager()
login_manager.login_view = "login.login"
login_manager.login_message = None
# It would end the sessions of who changes the address, as Tor does.
login_manager.session_protection = None


class User(UserMixin):
    """A logged-in account, and the session that it is logged in by."""

    def __init__(self, account: Account, session: Session):
        self.account = account
        self.session = session


@login_manager.user_loader
def load_user(secret: str) -> User | None:
    found = sessions.find(secret)
    account = found and models.find(Account.id, found.account_id)
    if account is None:
        return None
    # A page that waits is not used by anybody.
    if "HX-Request" not in request.headers and sessions.note_use(found):
        session.modified = True  # its cookie lasts as long from now
    return User(account, found)


def account_of(username: str, password: str) -> Account | None:
    """The account of a right name and password; an unknown name takes as long as a wrong one.

    Raises passwords.Busy and TooManyRequests.
    """
    account = browsers.named(username)
    its_place = place(is_known=account is not None and browsers.is_known(account))
    right = passwords.matches(account and account.password_hash, password, its_place)
    return account if right else None


def place(is_known: bool = False) -> AbstractContextManager:
    """The place that this request's network has before the hashing: that of who is known here does
    not wait behind strangers. Raises TooManyRequests.
    """
    if not is_known:
        return passwords.STRANGERS.place(networks.network())
    # Over all accounts: three networks with many of a sat would have every place here for ever.
    config = this_shop().config
    limits.take("hashes of those known", config.logins_limit, config.logins_limit_overall)
    return passwords.KNOWN.place(networks.network())


def log_in(
    account: Account,
    is_at_home: bool = True,
    by_receipt: bool = False,
    proved_at: int | None = None,
    may: Callable[[], bool] = lambda: True,
) -> None:
    """Begin a session of this account; of the one before only the browser's identity stays.

    `is_at_home`: whoever comes has a way in that lasts (see `note_entry`). `proved_at`: not now
    but then. `may`: as in `sessions.begin`, which raises sessions.SessionOver.
    """
    before = current_user.session if current_user.is_authenticated else None
    proved_at = now() if proved_at is None else proved_at
    begun = sessions.begin(account, proved_at, by_receipt, before, may)
    if is_at_home:
        note_entry(account)
    _new_session()
    _enter(account, *begun)


def _enter(account: Account, secret: str, begun: Session) -> None:
    """The browser's cookie holds this session from now on, as long as that lasts."""
    user = User(account, begun)
    user.id = secret
    login_user(user)
    session.pop("_id", None)  # a hash of the client's address, which we neither need nor keep
    session.permanent = True
    browsers.note_known(account)


def note_entry(account: Account) -> None:
    """Note that somebody is at home, who has a password, the receipt or a token of his own.

    The wallet's history does not get in at once any more.
    """
    if account.entered_at is None:
        Account.update(entered_at=now(), recovery_asked_at=None).where(
            (Account.id == account.id) & Account.entered_at.is_null()
        ).execute()


def has_proved() -> bool:
    """Whether password or receipt was given in this session just now, or it has just ordered."""
    return sessions.has_proved(current_user.session)


def showed_receipt() -> bool:
    """Whether that was the receipt: it may set a password without the old one."""
    return has_proved() and current_user.session.by_receipt


def prove(by_receipt: bool = False) -> None:
    """Password or receipt was given again in this session. Raises sessions.SessionOver."""
    account = current_user.account
    proved = sessions.prove(current_user.session, by_receipt)
    note_entry(account)
    _enter(account, *proved)


def check_still() -> None:
    """Within a transaction: raise sessions.SessionOver if this session was ended meanwhile."""
    sessions.check(current_user.session)


def log_out() -> None:
    """End the session, and the right of this browser to enter by its order's link."""
    if current_user.is_authenticated:
        sessions.end(current_user.account.id, current_user.session.id)
    _new_session()


def log_out_everywhere(
    also: Callable[[], object] = lambda: None, proved: bool = False, **facts
) -> None:
    """End every session of the account but this one, and change these `facts` of it with that; and
    do what `also` does, within that transaction. `proved`: the password was given for it.

    Raises sessions.SessionOver, and nothing is changed, when another one was faster in ending this
    one.
    """
    account, own = current_user.account, current_user.session
    left = sessions.end_others(own, also, now() if proved else own.proved_at, **facts)
    note_entry(account)
    _new_session()
    _enter(account, *left)


def _new_session() -> None:
    """Orders of this browser may still wait for their payment, and logins behind a flood."""
    kept = {name: session[name] for name in ("browser", "known") if name in session}
    session.clear()
    if kept:
        session.update(kept)
        session.permanent = True
