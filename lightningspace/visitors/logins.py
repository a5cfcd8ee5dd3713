"""Logins: which account a request is logged in to, and how its session begins and ends."""

import logging
from collections.abc import Callable
from contextlib import AbstractContextManager

from flask import request, session
from flask_login import LoginManager, UserMixin, current_user, login_user

from lightningspace.base import passwords
from lightningspace.base.clock import now
from lightningspace.base.models import Account, Session
from lightningspace.rules import sessions
from lightningspace.shop import this_shop
from lightningspace.visitors import browsers, limits, networks

logger = logging.getLogger(__name__)
login_manager = LoginManager()
login_manager.login_view = "login.login"
login_manager.login_message = None
# It would log out everybody whose address changes, as it does with Tor.
login_manager.session_protection = None


class User(UserMixin):
    """A logged-in account and its session."""

    def __init__(self, account: Account, session: Session):
        self.account = account
        self.session = session


@login_manager.user_loader
def load_user(secret: str) -> User | None:
    found = sessions.find(secret)
    account = found and Account.get_or_none(Account.id == found.account_id)
    if account is None:
        return None
    # A page that polls by itself does not count as use.
    if "HX-Request" not in request.headers and sessions.note_use(found):
        session.modified = True  # renews the cookie, too
    return User(account, found)


def account_of(username: str, password: str) -> Account | None:
    """The account of this name and password, or None. An unknown name takes as long as a wrong one.

    Raises passwords.Busy and TooManyRequests.
    """
    account = browsers.named(username)
    its_place = place(is_known=account is not None and browsers.is_known(account))
    right = passwords.matches(account and account.password_hash, password, its_place)
    return account if right else None


def place(is_known: bool = False) -> AbstractContextManager:
    """This network's place in the queue for hashing; known visitors do not wait behind strangers.

    Raises TooManyRequests.
    """
    if not is_known:
        return passwords.STRANGERS.place(networks.network())
    return _place_of_known("hashes of those known")


def place_for_new_password() -> AbstractContextManager:
    """Like `place`, for setting a password: as often as logins, but counted apart from them."""
    return _place_of_known("hashes of new passwords")


def _place_of_known(counted_as: str) -> AbstractContextManager:
    # Limited over all accounts: otherwise three networks with many one-sat accounts could hold
    # every place here for ever.
    config = this_shop().config
    limits.take(counted_as, config.logins_limit, config.logins_limit_overall)
    return passwords.KNOWN.place(networks.network())


def log_in(
    account: Account,
    is_at_home: bool = True,
    by_receipt: bool = False,
    proved_at: int | None = None,
    may: Callable[[], bool] = lambda: True,
) -> None:
    """Begin a session of this account; of the one before only the browser's identity stays.

    `is_at_home`: the visitor has a way in that lasts (see `note_entry`). `proved_at`: when password
    or receipt was given; None: now. `may`: as in `sessions.begin`. Raises sessions.SessionOver.
    """
    before = current_user.session if current_user.is_authenticated else None
    proved_at = now() if proved_at is None else proved_at
    begun = sessions.begin(account, proved_at, by_receipt, before, may)
    if is_at_home:
        note_entry(account)
    _new_session()
    _enter(account, *begun)


def _enter(account: Account, secret: str, begun: Session) -> None:
    """Put this session in the browser's cookie, for as long as it lasts."""
    user = User(account, begun)
    user.id = secret
    login_user(user)
    session.pop("_id", None)  # a hash of the client's address, which we neither need nor keep
    session.permanent = True
    browsers.note_known(account)


def note_entry(account: Account) -> None:
    """Note that the owner has a way in that lasts: a password, the receipt or a token.

    From then on the wallet's history does not log in at once.
    """
    if account.entered_at is None:
        Account.update(entered_at=now(), recovery_asked_at=None).where(
            (Account.id == account.id) & Account.entered_at.is_null()
        ).execute()


def has_proved() -> bool:
    """Whether password or receipt was given just now in this session, or it has just ordered."""
    return sessions.has_proved(current_user.session)


def is_trusted() -> bool:
    """Whether this session may see the passwords that are to be noted."""
    return sessions.is_trusted(current_user.session)


def showed_receipt() -> bool:
    """Whether the receipt was given just now: it may set a password without the old one."""
    return has_proved() and current_user.session.by_receipt


def prove(by_receipt: bool = False) -> None:
    """Note that password or receipt was given again. Raises sessions.SessionOver."""
    account = current_user.account
    proved = sessions.prove(current_user.session, by_receipt)
    note_entry(account)
    _enter(account, *proved)


def check_still() -> None:
    """Within a transaction: raise sessions.SessionOver if this session was ended meanwhile."""
    sessions.check(current_user.session)


def log_out() -> None:
    """End the session, and this browser's right to enter by its order's link."""
    if current_user.is_authenticated:
        sessions.end(current_user.account.id, current_user.session.id)
    _new_session()


def log_out_everywhere(
    also: Callable[[], object] = lambda: None, proved: bool = False, **facts
) -> None:
    """End every other session of the account; in the same transaction, change these `facts` of it
    and do what `also` does. `proved`: the password was given for it.

    Raises sessions.SessionOver, and changes nothing, when this session itself was ended before.
    """
    account, own = current_user.account, current_user.session
    left = sessions.end_others(own, also, now() if proved else own.proved_at, **facts)
    note_entry(account)
    _new_session()
    _enter(account, *left)


def _new_session() -> None:
    """Begin a new session, but keep what identifies the browser: its orders may wait to be paid,
    and its logins must not wait behind a flood.
    """
    kept = {name: session[name] for name in ("browser", "known") if name in session}
    session.clear()
    if kept:
        session.update(kept)
        session.permanent = True
