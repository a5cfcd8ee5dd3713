"""Who sends a request: which browser, from where, logged in to what, and how often."""

import ipaddress
import logging
import secrets
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import cache, wraps

from flask import Response, after_this_request, current_app, request, session
from flask_login import LoginManager, UserMixin, current_user, login_user
from werkzeug.exceptions import TooManyRequests

from lightningspace import models, names, passwords, sessions
from lightningspace.clock import now
from lightningspace.limits import Exceeded, Limits
from lightningspace.models import Account, Order, Session
from lightningspace.shop import Shop

logger = logging.getLogger(__name__)

# Of accounts that had a session in one browser.
KNOWN_MAX = 8
login_manager = LoginManager()
login_manager.login_view = "web.login"
login_manager.login_message = None
# It would end the sessions of who changes the address, as Tor does.
login_manager.session_protection = None


class User(UserMixin):
    """A logged-in account, and the session that it is logged in by."""

    def __init__(self, account: Account, session: Session):
        self.account = account
        self.session = session


def this_shop() -> Shop:
    return current_app.extensions["shop"]


def these_limits() -> Limits:
    return current_app.extensions["limits"]


STRANGERS = "strangers"
# The length of the IPv6 prefixes that providers give to one customer, at most.
PROVIDED = 48
# What an IPv6 server behind a translator sees of all IPv4 (RFC 6052).
TRANSLATED = ipaddress.ip_network("64:ff9b::/96")
UNKNOWN = "unknown"


def customers() -> str:
    """Strangers share one limit: a flood of them keeps nobody from his own pages."""
    is_at_home = request.blueprint == "account" and current_user.is_authenticated
    return current_user.account.id if is_at_home else STRANGERS


def those_known() -> str:
    """As `customers`, of a login: whom this browser knows does not wait behind strangers."""
    if "known" not in session:
        return STRANGERS
    account = _named(request.form.get("username", "").strip().lower())
    return account.id if account and _is_known(account) else STRANGERS


def limited(
    what: str,
    counts: Callable[[Response], bool] | None = None,
    among: Callable[[], str] = customers,
):
    """Limit a view by the settings <what>_limit (for each network) and <what>_limit_overall.

    Only requests whose response `counts` are counted, such as orders placed; None: all are.
    `among`: who shares them, STRANGERS or one customer.
    """
    return _limited(what, counts, among, f"{what}_limit_overall")


def limited_each(what: str, counts: Callable[[Response], bool] | None = None):
    """As `limited`, for each network alone: where nothing can be guessed."""
    return _limited(what, counts, customers, None)


def _limited(
    what: str,
    counts: Callable[[Response], bool] | None,
    among: Callable[[], str],
    overall: str | None,
):
    def decorate(view):
        @wraps(view)
        def within_limits(*args, **kwargs):
            config = this_shop().config
            of_all = getattr(config, overall) if overall else None
            give_back = _take(f"{what} of {among()}", getattr(config, f"{what}_limit"), of_all)

            @after_this_request
            def settle(response):
                if counts and not counts(response):
                    give_back()
                return response

            return view(*args, **kwargs)

        return within_limits

    return decorate


def _take(what: str, each: str, overall: str | None) -> Callable[[], None]:
    """Count one more of this network's, and return what takes that back. Raises TooManyRequests."""
    whose = this_shop().vault.mac("network", network())  # it may be stored
    try:
        return these_limits().take(what, whose, each, overall)
    except Exceeded as exceeded:
        raise TooManyRequests(retry_after=exceeded.seconds) from None


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
    account = _named(username)
    its_place = place(is_known=account is not None and _is_known(account))
    right = passwords.matches(account and account.password_hash, password, its_place)
    return account if right else None


def place(is_known: bool = False) -> AbstractContextManager:
    """The place that this request's network has before the hashing: that of who is known here does
    not wait behind strangers. Raises TooManyRequests.
    """
    if not is_known:
        return passwords.STRANGERS.place(network())
    # Over all accounts: three networks with many of a sat would have every place here for ever.
    config = this_shop().config
    _take("hashes of those known", config.logins_limit, config.logins_limit_overall)
    return passwords.KNOWN.place(network())


def _named(username: str) -> Account | None:
    # The rule first: PostgreSQL fails on a NUL.
    if not names.RULE.fullmatch(username):
        return None
    account = models.find(Account.username, username)
    return account if account and account.opened_at is not None else None


def _is_known(account: Account) -> bool:
    """Whether this browser has had a session of the account."""
    vault = this_shop().vault
    return any(vault.is_mac(known, "known", account.id) for known in session.get("known", ()))


def _note_known(account: Account) -> None:
    mac = this_shop().vault.mac("known", account.id)
    others = [known for known in session.get("known", ()) if known != mac]
    session["known"] = [mac, *others][:KNOWN_MAX]


def log_in(
    account: Account,
    is_at_home: bool = True,
    by_receipt: bool = False,
    proved_at: int | None = None,
    may: Callable[[], bool] = lambda: True,
) -> None:
    """Begin a session of this account; of the one before only the browser's identity stays.

    `is_at_home`: whoever comes has a way in that lasts (see `note_entry`). `proved_at`: not now
    but then. `may`: as in `sessions.begin`, which raises sessions.Over.
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
    _note_known(account)


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
    """Password or receipt was given again in this session. Raises sessions.Over."""
    account = current_user.account
    proved = sessions.prove(current_user.session, by_receipt)
    note_entry(account)
    _enter(account, *proved)


def check_still() -> None:
    """Within a transaction: raise sessions.Over if this session was ended meanwhile."""
    sessions.check_within(current_user.session)


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

    Raises sessions.Over, and nothing is changed, when another one was faster in ending this one.
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
        if address in TRANSLATED:
            return ipaddress.IPv4Address(address.packed[-4:])
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
