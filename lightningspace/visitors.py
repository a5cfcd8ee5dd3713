"""Who sends a request: which browser, from where, logged in to what, and how often."""

import ipaddress
import logging
import secrets
from collections.abc import Callable
from functools import cache, wraps

from flask import Response, after_this_request, current_app, request, session
from flask_login import LoginManager, UserMixin, current_user, login_user
from werkzeug.exceptions import TooManyRequests

from lightningspace import names, passwords, receipts
from lightningspace.clock import now
from lightningspace.limits import Exceeded, Limits
from lightningspace.models import Account, Order, lock_account, transaction
from lightningspace.shop import Shop

logger = logging.getLogger(__name__)

login_manager = LoginManager()
login_manager.login_view = "web.login"
login_manager.login_message = None
# It would end the sessions of who changes the address, as Tor does.
login_manager.session_protection = None


class SessionOver(Exception):
    """The session of this request was ended while it was under way."""


class User(UserMixin):
    """A logged-in account. Its sessions end when the account's session epoch rises."""

    def __init__(self, account: Account):
        self.account = account

    def get_id(self) -> str:
        return f"{self.account.id}.{self.account.session_epoch}"


def this_shop() -> Shop:
    return current_app.extensions["shop"]


def these_limits() -> Limits:
    return current_app.extensions["limits"]


STRANGERS = "strangers"
# The length of the IPv6 prefixes that providers give to one customer, at most.
PROVIDED = 48
UNKNOWN = "unknown"


def customers() -> str:
    """Strangers share one limit: a flood of them keeps nobody from his own pages."""
    is_at_home = request.blueprint == "account" and current_user.is_authenticated
    return current_user.account.id if is_at_home else STRANGERS


def limited(what: str, counts: Callable[[Response], bool], among: Callable[[], str] = customers):
    """Limit a view by the settings <what>_limit (for each network) and <what>_limit_overall.

    Only requests whose response `counts` are counted: orders placed, logins failed, changes.
    `among`: who shares them, STRANGERS or one customer.
    """
    return _limited(what, counts, among, f"{what}_limit_overall")


def limited_each(what: str, counts: Callable[[Response], bool]):
    """As `limited`, for each network alone: where nothing can be guessed."""
    return _limited(what, counts, customers, None)


def _limited(
    what: str, counts: Callable[[Response], bool], among: Callable[[], str], overall: str | None
):
    def decorate(view):
        @wraps(view)
        def within_limits(*args, **kwargs):
            config = this_shop().config
            each = getattr(config, f"{what}_limit")
            of_all = getattr(config, overall) if overall else None
            try:
                give_back = these_limits().take(f"{what} of {among()}", network(), each, of_all)
            except Exceeded as exceeded:
                raise TooManyRequests(retry_after=exceeded.seconds) from None

            @after_this_request
            def settle(response):
                if not counts(response):
                    give_back()
                return response

            return view(*args, **kwargs)

        return within_limits

    return decorate


@login_manager.user_loader
def load_user(user_id: str) -> User | None:
    account_id, _, epoch = user_id.partition(".")
    # The check first: PostgreSQL fails on a NUL.
    account = Account.get_or_none(Account.id == account_id) if account_id.isalnum() else None
    if account is None or account.opened_at is None or str(account.session_epoch) != epoch:
        return None
    return User(account)


def account_of(username: str, password: str) -> Account | None:
    """The account of a right name and password; an unknown name takes as long as a wrong one."""
    # The rule first: PostgreSQL fails on a NUL.
    account = names.RULE.fullmatch(username) and Account.get_or_none(
        (Account.username == username) & Account.opened_at.is_null(False)
    )
    try:
        right = passwords.matches(account and account.password_hash, password)
    except passwords.Busy:
        raise TooManyRequests from None
    return account if right else None


def log_in(account: Account, is_at_home: bool = True, by_receipt: bool = False) -> None:
    """Begin a session of this account; of the one before only the browser's identity stays.

    `is_at_home`: whoever comes has a way in that lasts (see `note_entry`).
    """
    if is_at_home:
        note_entry(account)
    _new_session()
    login_user(User(account))
    if by_receipt:
        session["by_receipt"] = True
    session.pop("_id", None)  # a hash of the client's address, which we neither need nor keep


def note_entry(account: Account) -> None:
    """Note that somebody is at home, who has a password, the receipt or a token of his own.

    The wallet's history does not get in at once any more.
    """
    if account.entered_at is None:
        Account.update(entered_at=now(), recovery_asked_at=None).where(
            (Account.id == account.id) & Account.entered_at.is_null()
        ).execute()


def showed_receipt() -> bool:
    """Whether this session was begun with a receipt: it may set a password without the old one."""
    return "by_receipt" in session


def log_out() -> None:
    """End the session, and the right of this browser to enter by its order's link."""
    if current_user.is_authenticated:
        receipts.forget_browser(current_user.account.id)
    _new_session()


def log_out_everywhere(
    account: Account, also: Callable[[], object] = lambda: None, **facts
) -> None:
    """End every session of the account but this one, which was begun as `account` is, and change
    these `facts` of it with that; and do what `also` does, within that transaction.

    Raises SessionOver, and nothing is changed, when another one was faster in ending this one.
    """
    with transaction():
        locked = lock_account(account.id)
        if locked is None or locked.session_epoch != account.session_epoch:
            raise SessionOver
        also()
        receipts.end_sessions_within(account.id, **facts)
        account = Account.get_by_id(account.id)
    log_in(account)


def _new_session() -> None:
    browser = session.get("browser")
    session.clear()
    if browser:  # orders of this browser may still wait for their payment
        session["browser"] = browser
        session.permanent = True


def browser_id() -> str:
    """A keyed hash that knows this browser again; the first call gives it its cookie."""
    if "browser" not in session:
        session["browser"] = secrets.token_hex(16)
        session.permanent = True
    return this_shop().vault.mac("browser", session["browser"])


def new_form_id() -> str:
    """For a form that is sent once."""
    return secrets.token_hex(8)


def placed(order: Order) -> bool:
    """Whether this browser has placed the order."""
    if order.browser is None or "browser" not in session:
        return False
    return this_shop().vault.is_mac(order.browser, "browser", session["browser"])


def keep_proof(proof: tuple[str, int]) -> None:
    """Note that this browser has shown the receipt of a closed hosting (see orders.Wish)."""
    session["proof"] = proof


def kept_proof() -> tuple[str, int] | None:
    return tuple(session["proof"]) if "proof" in session else None


def network() -> str:
    """Where the request comes from: an IPv4 address, or of IPv6 all that one customer has.

    What PROXY_HOPS web servers in front have noted counts, and nothing that was there before. If
    the first of them tells no address, it is the nearest that is known on the way.
    """
    hops = this_shop().config.proxy_hops
    noted = [each for each in request.headers.get("X-Forwarded-For", "").split(",") if each.strip()]
    for text in (*noted[max(0, len(noted) - hops) :], request.remote_addr or ""):
        if address := _address(text):
            break
    else:
        _tell_operator()
        return UNKNOWN
    if address.version == 6:
        return str(ipaddress.ip_network((address, PROVIDED), strict=False).network_address)
    return str(address)


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """As proxies write it: with or without a port, brackets, quotes, a zone."""
    text = text.strip(' \t"')
    for bare in (text, text.rpartition(":")[0]):
        try:
            address = ipaddress.ip_address(bare.strip("[]").partition("%")[0])
        except ValueError:
            continue
        # The first: what a server that listens on [::] says of an IPv4 client.
        return getattr(address, "ipv4_mapped", None) or address
    return None


@cache
def _tell_operator() -> None:
    """Once: everybody who comes so shares the limits of one network."""
    logger.error(
        "a request came without its sender's address: let the web server in front send "
        "X-Forwarded-For, and set PROXY_HOPS"
    )
