"""The browsers that are logged in: one row each, found by a secret that only the cookie holds.

The row alone decides whether a session is over: it may go while a request is under way.
"""

import hashlib
import secrets
from collections.abc import Callable

from peewee import Case

from lightningspace.base.clock import now
from lightningspace.base.models import Account, Order, Session, lock_account, transaction
from lightningspace.base.prices import DAY
from lightningspace.rules.order_book import OrderKind

# How long a session lasts without use, and how precisely its last use is noted.
LASTS_SECONDS = 31 * DAY
NOTED_SECONDS = 60 * 60
# For how long after password or receipt was given a session may do what amounts to having the whole
# hosting.
PROVED_SECONDS = 10 * 60
# As its time: it was not given at all.
NEVER = 0
# Per account; beyond that, the one that was unused for longest goes.
SESSIONS_MAX = 50


class SessionOver(Exception):
    """The session, or every one of the account, was ended while this was under way."""


def find(secret: str) -> Session | None:
    """The session of a cookie, by its secret; None: it is over."""
    session = Session.get_or_none(Session.id == _id(secret))
    if session is None or session.used_at <= now() - LASTS_SECONDS:
        return None
    return session


def note_use(session: Session) -> bool:
    """Note that the session is used; False: that was noted recently.

    A note from the future was made by a wrong clock, and does not count.
    """
    moment = now()
    if session.used_at <= moment < session.used_at + NOTED_SECONDS:
        return False
    noted = Session.update(used_at=moment).where(
        (Session.id == session.id) & (Session.used_at == session.used_at)
    )
    return noted.execute() == 1


def has_proved(session: Session) -> bool:
    """Whether password or receipt was given just now, by any box's clock."""
    return abs(now() - session.proved_at) < PROVED_SECONDS


def is_trusted(session: Session) -> bool:
    """Whether password or receipt was ever given in this session, or it has ordered.

    To the others no password is shown: those first made for services open the login as well.
    """
    return session.proved_at != NEVER


def begin(
    account: Account,
    proved_at: int,
    by_receipt: bool = False,
    instead_of: Session | None = None,
    may: Callable[[], bool] = lambda: True,
) -> tuple[str, Session]:
    """Begin a session of the account; return its cookie's secret and the session.

    `instead_of`: the session that the browser had, of any account. `may`: asked within the
    transaction. Raises SessionOver when it says no, or when all sessions were ended since `account`
    was read: whatever let the caller in may be void.
    """
    with transaction():
        locked = lock_account(account.id)
        if locked is None or locked.session_epoch != account.session_epoch or not may():
            raise SessionOver
        if instead_of:
            Session.delete().where(Session.id == instead_of.id).execute()
        return _begin(account.id, now(), proved_at, by_receipt)


def prove(session: Session, by_receipt: bool) -> tuple[str, Session]:
    """Continue a session in which password or receipt was given again, under a new cookie.

    Copies of the old cookie are void. Raises SessionOver.
    """
    with transaction():
        _end_own(session)
        return _begin(session.account_id, session.begun_at, now(), by_receipt)


def end_others(
    session: Session, also: Callable[[], object], proved_at: int, **facts
) -> tuple[str, Session]:
    """Like `end_all`, with what `also` does; this session goes on under a new cookie.

    Raises SessionOver, and changes nothing, when another request has ended this one first.
    """
    with transaction():
        _end_own(session)
        also()
        end_all(session.account_id, **facts)
        # A login by receipt may set a password without the old one, but only once.
        return _begin(session.account_id, session.begun_at, proved_at, by_receipt=False)


def end_all(account_id: str, **facts) -> None:
    """Within a transaction: log every browser out, and change these `facts` of the account.

    An address that waits for its confirmation is dropped if a browser asked for it, but not if the
    order did.
    """
    waits = Case(None, [(Account.email_epoch == 0, Account.email_waits)])
    Account.update(session_epoch=Account.session_epoch + 1, email_waits=waits, **facts).where(
        Account.id == account_id
    ).execute()
    Session.delete().where(Session.account == account_id).execute()
    _forget_browser(account_id)


def _forget_browser(account_id: str) -> None:
    """Forget which browser ordered the account: it could still enter by its order's link."""
    opening = (Order.account == account_id) & (Order.kind == OrderKind.OPEN)
    Order.update(browser=None).where(opening).execute()


def end(account_id: str, id: str) -> None:
    """End one session, and the right of the browser that ordered to begin another by its link.

    That may be the same browser; nobody knows.
    """
    with transaction():
        lock_account(account_id)
        own = (Session.account == account_id) & (Session.id == id)
        Session.delete().where(own).execute()
        _forget_browser(account_id)


def of_account(account_id: str) -> list[Session]:
    """The account's sessions, the last used first."""
    lasting = Session.used_at > now() - LASTS_SECONDS
    own = Session.select().where((Session.account == account_id) & lasting)
    return list(own.order_by(Session.used_at.desc(), Session.begun_at.desc(), Session.id))


def tidy() -> None:
    Session.delete().where(Session.used_at <= now() - LASTS_SECONDS).execute()


def check(session: Session) -> None:
    """Within a transaction that has locked the account: raise SessionOver if it was ended."""
    if not Session.select().where(Session.id == session.id).exists():
        raise SessionOver


def _end_own(session: Session) -> None:
    """Within a transaction. Raises SessionOver."""
    lock_account(session.account_id)
    if not Session.delete().where(Session.id == session.id).execute():
        raise SessionOver


def _begin(account_id: str, begun_at: int, proved_at: int, by_receipt: bool) -> tuple[str, Session]:
    """Within a transaction that has locked the account."""
    for old in of_account(account_id)[SESSIONS_MAX - 1 :]:
        Session.delete().where(Session.id == old.id).execute()
    secret = secrets.token_hex(16)
    begun = Session.create(
        id=_id(secret),
        account=account_id,
        begun_at=begun_at,
        used_at=now(),
        proved_at=proved_at,
        by_receipt=by_receipt,
    )
    return secret, begun


def _id(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
