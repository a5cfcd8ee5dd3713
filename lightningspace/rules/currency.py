"""Prices in the operator's currency, beside those in sats: for people to compare, never to pay."""

from dataclasses import dataclass
from decimal import Decimal

from lightningspace.base.clock import DAY, now
from lightningspace.base.models import Fact, set_fact
from lightningspace.base.money_models import DailyRate
from lightningspace.outside import rates
from lightningspace.shop import Shop

FACT = "price of a bitcoin in {currency}"
FETCH_SECONDS = 10 * 60
# An older rate is not shown.
FRESH_SECONDS = 6 * 60 * 60
MSAT_PER_BITCOIN = 10**11


@dataclass(frozen=True)
class Rate:
    """`per_bitcoin`: in the currency. `at`: when the source said so; None: the operator did."""

    currency: str
    per_bitcoin: Decimal
    at: int | None

    def of(self, msat: int) -> Decimal:
        return self.per_bitcoin * msat / MSAT_PER_BITCOIN


def rate(shop: Shop) -> Rate | None:
    """The rate to show now; None: there is none."""
    config = shop.config
    if config.fiat_rate:
        return Rate(config.fiat, config.fiat_rate, None)
    known = _known(shop) if config.fiat_rate_url else None
    return known if known and _age(known) < FRESH_SECONDS else None


def look(shop: Shop) -> None:
    """Fetch the rate, unless some worker has done so just now; the first one of a day is kept.

    Raises rates.RateError.
    """
    source = shop.config.fiat_rate_url
    known = _known(shop) if source else None
    if source is None or (known and _age(known) < FETCH_SECONDS):
        return
    per_bitcoin = rates.fetch(*source)
    currency, moment = shop.config.fiat, now()
    set_fact(FACT.format(currency=currency), f"{moment} {per_bitcoin}")
    of_day = DailyRate.insert(currency=currency, day=moment // DAY, per_bitcoin=per_bitcoin)
    of_day.on_conflict_ignore().execute()


def _age(known: Rate) -> float:
    """In seconds; infinite for a rate whose date is in the future, by a wrong clock."""
    age = now() - known.at
    return age if age >= 0 else float("inf")


def _known(shop: Shop) -> Rate | None:
    currency = shop.config.fiat
    fact = Fact.get_or_none(Fact.name == FACT.format(currency=currency))
    if fact is None:
        return None
    at, per_bitcoin = fact.value.split()
    return Rate(currency, Decimal(per_bitcoin), int(at))
