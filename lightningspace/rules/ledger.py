"""What an account has paid for: its size, the time left, and what that is worth."""

from peewee import Case, fn

from lightningspace.base.clock import now
from lightningspace.base.models import Account
from lightningspace.base.prices import DAY, SHORTEST_SECONDS, Holding, Size
from lightningspace.shop import Shop


def rate(shop: Shop, account: Account) -> int:
    """Today's price of the account's size, in msat per day."""
    return shop.prices.rate(Size.of(account))


def holding(account: Account, at: int | None = None) -> Holding:
    """What is left of the paid time at a moment; None: now. It does not run before everything is
    set up.
    """
    begins = _begins_at(account, at)
    left = account.expires_at - min(begins, account.expires_at)
    whole = account.expires_at - account.valued_at
    value_msat = account.value_msat * left // whole if left else 0
    return Holding(left, value_msat, account.credit_msat)


def columns(
    account: Account, after: Holding, at: int | None = None, has_other_size: bool = False
) -> dict:
    """The columns that give the account this holding from a moment on; None: from now on."""
    begins = _begins_at(account, at)
    return {
        "valued_at": begins,
        "expires_at": begins + after.seconds,
        "value_msat": after.value_msat,
        "credit_msat": after.credit_msat,
        "unpaid_seconds": account.unpaid_seconds + max(0, begins - account.expires_at),
        "began_at": _began_at(account, after, begins, has_other_size),
    }


def ends_at(account: Account, after: Holding, at: int | None = None) -> int:
    """When the paid time is over with this holding from a moment on; None: from now on."""
    return _begins_at(account, at) + after.seconds


def _begins_at(account: Account, at: int | None = None) -> int:
    # Never before it was valued: the clock may have gone back.
    at = now() if at is None else at
    return max(at, account.valued_at) if account.ready_at else account.valued_at


def _began_at(account: Account, after: Holding, begins: int, has_other_size: bool) -> int | None:
    """`began_at` from now on: a larger size shortens the whole term, not only the time left."""
    whole = account.expires_at - account.valued_at
    if begins >= account.expires_at:
        return begins
    if not has_other_size or not after.value_msat:
        return account.began_at
    more_msat = after.value_msat - holding(account, begins).value_msat
    bought_msat = term_seconds(account) * account.value_msat // whole + more_msat
    return begins + after.seconds - bought_msat * after.seconds // after.value_msat


def set_back(shop: Shop, account: Account, moment: int, ended_at: int, size: Size) -> dict:
    """The columns, as of `moment`, of an account that was valued by a clock that was ahead.

    `ended_at`, `size`: its end and its size before that. Time that only seemed to be over is given
    back: as time of the present size, if that is another.
    """
    seconds = account.expires_at - account.valued_at
    is_over = (account.began_at or 0) > moment and ended_at <= account.began_at
    seemed_over = max(0, ended_at - moment) if is_over else account.valued_at - moment
    if not seconds or account.ready_at is None or account.ready_at > moment:
        seemed_over = 0  # it began by that clock
    unpaid = max(0, account.began_at - moment - seemed_over) if is_over else 0
    given_back = seemed_over * shop.prices.rate(size) // rate(shop, account)
    value_msat = account.value_msat
    expires_at = moment + seconds + given_back
    later = expires_at - account.expires_at
    ready_at, began_at = account.ready_at, account.began_at
    if ready_at and ready_at > moment:
        ready_at = min(moment, ready_at + later)
    return {
        "opened_at": min(account.opened_at, ready_at or moment),
        "ready_at": ready_at,
        "valued_at": moment,
        "expires_at": expires_at,
        "value_msat": value_msat + (value_msat * given_back // seconds if seconds else 0),
        "unpaid_seconds": max(0, account.unpaid_seconds - unpaid),
        "began_at": moment if is_over else began_at and began_at + later,
        "kept_until": None if is_over else account.kept_until,
    }


def paid_seconds(account: Account) -> int:
    """The paid time from its beginning to its end, without the gaps between."""
    begun_at = account.ready_at or account.opened_at
    return account.expires_at - begun_at - account.unpaid_seconds


def term_seconds(account: Account) -> int:
    """What was bought since the paid time was last over, as time of the present size."""
    return account.expires_at - (account.began_at or account.ready_at or account.opened_at)


def grace_seconds(shop: Shop, account: Account) -> int:
    """How long it is kept after its end: as long as its term, within bounds.

    Were that as long as all the time ever paid, a sat a fortnight would keep a hosting for ever.
    """
    return min(shop.config.grace_days * DAY, max(term_seconds(account), SHORTEST_SECONDS))


def grace_in_sql(shop: Shop):
    """`grace_seconds` as an expression for a query."""
    longest = shop.config.grace_days * DAY
    shortest = min(SHORTEST_SECONDS, longest)
    begun_at = fn.COALESCE(Account.began_at, Account.ready_at, Account.opened_at)
    term = Account.expires_at - begun_at
    return Case(None, [(term >= longest, longest), (term <= shortest, shortest)], term)


def closes_at(shop: Shop, account: Account, since: int = 0) -> int:
    """Until when it is kept if nothing more is paid. `since`: time before it does not count."""
    kept_until = max(account.expires_at, since) + grace_seconds(shop, account)
    return max(kept_until, account.kept_until or 0)


def closes_at_in_sql(shop: Shop, since: int):
    """`closes_at` as an expression for a query."""
    ends = Account.expires_at
    at = Case(None, [(ends < since, since)], ends) + grace_in_sql(shop)
    return Case(None, [(at < Account.kept_until, Account.kept_until)], at)


def kept_until(shop: Shop, account: Account, begins: int, has_other_size: bool) -> int | None:
    """The column after a payment: a stranger's sat must not bring the deletion forward.

    None for another size, which would be kept at the price of the smaller.
    """
    if has_other_size:
        return None
    return closes_at(shop, account) if begins >= account.expires_at else account.kept_until
