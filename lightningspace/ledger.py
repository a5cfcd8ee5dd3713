"""What an account has paid for: its size, the time that is left, and what that is worth."""

from peewee import Case, fn

from lightningspace.clock import now
from lightningspace.models import Account
from lightningspace.prices import DAY, SHORTEST_SECONDS, Holding, Size
from lightningspace.shop import Shop


def size(account: Account) -> Size:
    return Size(account.space_mb, account.extra_addresses, account.extra_domains)


def rate(shop: Shop, account: Account) -> int:
    """Today's price of what it holds, in msat per day."""
    return shop.prices.rate(size(account))


def holding(account: Account) -> Holding:
    """What is left now of what was paid. Before everything is set up nothing melts away."""
    begins = _begins_at(account)
    left = account.expires_at - min(begins, account.expires_at)
    whole = account.expires_at - account.valued_at
    value_msat = account.value_msat * left // whole if left else 0
    return Holding(left, value_msat, account.credit_msat)


def columns(account: Account, holding: Holding) -> dict:
    """The account's columns that say: from now on it has this holding."""
    begins = _begins_at(account)
    return {
        "valued_at": begins,
        "expires_at": begins + holding.seconds,
        "value_msat": holding.value_msat,
        "credit_msat": holding.credit_msat,
        "unpaid_seconds": account.unpaid_seconds + max(0, begins - account.expires_at),
    }


def _begins_at(account: Account) -> int:
    # Never before: the clock may have gone back.
    return max(now(), account.valued_at) if account.ready_at else account.valued_at


def paid_seconds(account: Account) -> int:
    """All the time from its beginning to its end that was paid."""
    begun_at = account.ready_at or account.opened_at
    return account.expires_at - begun_at - account.unpaid_seconds


def grace_seconds(shop: Shop, account: Account) -> int:
    """How long it is kept after its end: as long as was paid, within bounds."""
    return min(shop.config.grace_days * DAY, max(paid_seconds(account), SHORTEST_SECONDS))


def grace_in_sql(shop: Shop):
    """`grace_seconds` as an expression for a query."""
    longest = shop.config.grace_days * DAY
    shortest = min(SHORTEST_SECONDS, longest)
    begun_at = fn.COALESCE(Account.ready_at, Account.opened_at)
    paid = Account.expires_at - begun_at - Account.unpaid_seconds
    return Case(None, [(paid >= longest, longest), (paid <= shortest, shortest)], paid)
