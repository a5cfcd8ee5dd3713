"""What the API tells of a hosting and of prices: plain values, times in ISO 8601."""

from lightningspace import ledger, orders, wanted
from lightningspace.clock import iso_time, now
from lightningspace.models import Account
from lightningspace.prices import Size, Terms
from lightningspace.shop import Shop


def prices(shop: Shop) -> dict:
    config = shop.config
    return {
        "sizes": [
            {
                "space_mb": size,
                "rate_msat_per_day": shop.prices.rate(Size(size)),
                "price_msat_of_30_days": shop.prices.price_msat(Terms(size, 30, "days")),
            }
            for size in config.space_sizes_mb
        ],
        "space_left_mb": orders.space_left_mb(),
    }


def size(of: Size) -> dict:
    return vars(of)


def time(of: Terms) -> dict:
    return {"duration": of.duration, "unit": of.unit, "seconds": of.seconds}


def hosting(shop: Shop, account: Account, with_passwords: bool) -> dict:
    """`with_passwords`: generated ones too, as long as the control center shows them."""
    return {
        "username": account.username,
        "site": wanted.site_name(shop, account.username),
        "is_ready": account.ready_at is not None,
        "paid_until": account.expires_at and iso_time(account.expires_at),
        "left_seconds": max(0, (account.expires_at or 0) - now()),
        "size": size(ledger.size(account)),
    }
