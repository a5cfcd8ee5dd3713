"""Rate limits: for each network, and overall, without shutting any network out.

A span begins for everybody at the same time: a minute when a minute of the clock begins.
"""

import logging
import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import wraps

from flask import Response, after_this_request, current_app, request, session
from flask_login import current_user
from limits import RateLimitItem, parse
from limits.errors import ConfigurationError, StorageError
from limits.storage import MemoryStorage, storage_from_string
from werkzeug.exceptions import TooManyRequests

from lightningspace.base.clock import now
from lightningspace.shop import this_shop
from lightningspace.visitors import browsers, networks

logger = logging.getLogger(__name__)

MEMORY = "memory://"
# How long a shared storage may take to answer, and how long it is left alone when it fails.
ANSWER_SECONDS = 1
LEFT_ALONE_SECONDS = 30


class Unusable(Exception):
    """No such storage can be used here."""


class Exceeded(Exception):
    """The limit is used up; in `seconds` there is room again."""

    def __init__(self, seconds: int):
        super().__init__(f"not for another {seconds} seconds")
        self.seconds = seconds


class Limits:
    """Counts in the storage with this URI, or in this process while that does not answer."""

    def __init__(self, storage: str):
        self._own = MemoryStorage()
        self._shared = None if storage == MEMORY else _shared(storage)
        self._left_alone_until = 0.0

    def take(self, what: str, network: str, each: str, overall: str | None) -> Callable[[], None]:
        """Count one more, and return what takes that back. Raises Exceeded, and counts nothing.

        `each`: the limit of one network, such as "20 per minute". `overall`: the limit of all
        together; once it is used up, a network may still use its share, which is `overall` divided
        by the networks that have used some.
        """
        with ExitStack() as taken:
            own = _Count(self, parse(each), what, network)
            taken.callback(own.add, -1)
            if own.add() > own.most:
                raise Exceeded(own.seconds_left)
            if overall is not None:
                self._take_of_all(what, network, parse(overall), taken)
            return taken.pop_all().close

    def _take_of_all(self, what: str, network: str, overall: RateLimitItem, taken: ExitStack):
        all_of_them = _Count(self, overall, what, "all")
        count_of_networks = _Count(self, overall, what, "networks")
        own = _Count(self, overall, what, "all", network)

        @taken.callback
        def give_back():
            if own.add(-1) == 0:
                count_of_networks.add(-1)

        had = own.add() - 1
        seen = count_of_networks.add(0 if had else 1)
        taken.callback(all_of_them.add, -1)
        if all_of_them.add() > overall.amount and had * seen >= overall.amount:
            raise Exceeded(all_of_them.seconds_left)

    def add(self, key: str, seconds: int, amount: int) -> int:
        """Count `amount` more, and return how many there are."""
        if self._shared and time.monotonic() >= self._left_alone_until:
            try:
                return self._shared.incr(key, seconds, amount)
            except StorageError as error:
                kind = type(error.storage_error).__name__
                logger.error("RATE_LIMIT_STORAGE fails (%s): each process counts alone", kind)
                self._left_alone_until = time.monotonic() + LEFT_ALONE_SECONDS
        return self._own.incr(key, seconds, amount)


class _Count:
    """One count in the present span of a limit; it stays with that span when the next begins."""

    def __init__(self, limits: Limits, limit: RateLimitItem, *of: str):
        self._limits, self._seconds, self.most = limits, limit.get_expiry(), limit.amount
        number, over = divmod(now(), self._seconds)
        self._key = "/".join((*of, f"{number} of {self._seconds}"))
        self.seconds_left = self._seconds - over

    def add(self, amount: int = 1) -> int:
        return self._limits.add(self._key, self._seconds, amount)


def _shared(storage: str):
    waits = {"socket_timeout": ANSWER_SECONDS, "socket_connect_timeout": ANSWER_SECONDS}
    try:
        return storage_from_string(storage, wrap_exceptions=True, **waits)
    except (ConfigurationError, ValueError) as error:
        raise Unusable from error


def these_limits() -> Limits:
    return current_app.extensions["limits"]


STRANGERS = "strangers"


def customers() -> str:
    """Whose limit a request counts for: a flood of strangers keeps no customer out."""
    is_at_home = request.path.startswith("/account") and current_user.is_authenticated
    return current_user.account.id if is_at_home else STRANGERS


def owners() -> str:
    """Like `customers`, but programs with a token of the customer's count apart: none of them keeps
    the customer from making changes.
    """
    return f"owners, {customers()}"


def those_known() -> str:
    """Like `customers`, for a login: an account that this browser knows is apart from strangers."""
    if "known" not in session:
        return STRANGERS
    account = browsers.named(request.form.get("username", "").strip().lower())
    return account.id if account and browsers.is_known(account) else STRANGERS


def givers() -> str:
    """Like `customers`, for tips: hosting servers, which ask for many visitors, count apart."""
    return "visitors of sites" if _is_server() else customers()


def giver() -> str:
    """Like `networks.network`, for tips: each hosting of a server is like a network of its own.

    So none uses up its neighbours' share, and a customer there who asks in the names of all of them
    meets the overall limit.
    """
    asking = networks.network()
    return f"{asking} for {request.view_args['username']}" if _is_server() else asking


def _is_server() -> bool:
    config = this_shop().config
    return networks.sender(request.environ, config.proxy_hops) in config.server_addresses


def limited(
    what: str,
    counts: Callable[[Response], bool] | None = None,
    among: Callable[[], str] = customers,
    network: Callable[[], str] = networks.network,
):
    """Limit a view by the settings <what>_limit (for each network) and <what>_limit_overall.

    `counts`: whether a request with this response counts, such as an order placed; None: all do.
    `among`: who shares the limits, such as STRANGERS or one customer. `network`: who asks.
    """
    return _limited(what, counts, among, f"{what}_limit_overall", network)


def limited_each(what: str, counts: Callable[[Response], bool] | None = None):
    """Like `limited`, without an overall limit: for views where nothing can be guessed."""
    return _limited(what, counts, customers, None)


def _limited(
    what: str,
    counts: Callable[[Response], bool] | None,
    among: Callable[[], str],
    overall: str | None,
    network: Callable[[], str] = networks.network,
):
    def decorate(view):
        @wraps(view)
        def within_limits(*args, **kwargs):
            config = this_shop().config
            of_all = getattr(config, overall) if overall else None
            each = getattr(config, f"{what}_limit")
            give_back = take(f"{what} of {among()}", each, of_all, network())

            @after_this_request
            def settle(response):
                if counts and not counts(response):
                    give_back()
                return response

            return view(*args, **kwargs)

        return within_limits

    return decorate


def take(
    what: str, each: str, overall: str | None, network: str | None = None
) -> Callable[[], None]:
    """Count one more of a network, and return what takes that back. Raises TooManyRequests.

    `network` None: that of this request.
    """
    # As a keyed hash: it may be stored.
    whose = this_shop().vault.mac("network", network or networks.network())
    try:
        return these_limits().take(what, whose, each, overall)
    except Exceeded as exceeded:
        raise TooManyRequests(retry_after=exceeded.seconds) from None
