"""What space and time cost, and what paid time is worth: whole numbers of msat and seconds.

Money buys time at today's rate. Paid time has a value, which falls evenly to zero at its end.
Whatever moves the end (an extension, another size) conserves that value to the msat.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

from lightningspace.base.clock import DAY, HOUR

UNIT_SECONDS = {"hours": HOUR, "days": DAY, "months": 30 * DAY}
SHORTEST_SECONDS = HOUR
LONGEST_SECONDS = 730 * DAY
MB_PER_GB = 1000
# Of each kind: every page of the control center reads all that an account has.
EXTRAS_MAX = 100


@dataclass(frozen=True)
class Extra:
    """What every hosting includes some of, and may have more of for a price a day.

    Its `column`, in accounts and in orders, counts those beyond the included ones. Forms, the API,
    prices and invoices follow from this.
    """

    name: str  # "addresses", as the API, its prices and the invoices say
    one: str  # "address", as the name of its price says
    title: str  # of its field in forms
    in_words: str  # "mailboxes and forwards"
    one_in_words: str  # "mailbox or forward"
    several_in_words: str  # "mailboxes or forwards"

    @property
    def column(self) -> str:
        return f"extra_{self.name}"

    def included(self, config: Any) -> int:
        """How many every hosting has: the setting <name>_included."""
        return getattr(config, f"{self.name}_included")

    def msat_per_day(self, config: Any) -> int:
        """What each one more costs: the setting price_msat_per_<one>_day."""
        return getattr(config, f"price_msat_per_{self.one}_day")

    def allowed(self, config: Any, of: Any) -> int:
        """How many there may be, in all, with the extras of an account or a Size."""
        return self.included(config) + getattr(of, self.column)

    def counted(self, count: int) -> str:
        words = self.one_in_words if count == 1 else self.several_in_words
        return f"{count} extra {words}"


ADDRESSES = Extra(
    name="addresses",
    one="address",
    title="Mailboxes and forwards",
    in_words="mailboxes and forwards",
    one_in_words="mailbox or forward",
    several_in_words="mailboxes or forwards",
)
DOMAINS = Extra(
    name="domains",
    one="domain",
    title="Domains of your own",
    in_words="domains",
    one_in_words="domain",
    several_in_words="domains",
)
EXTRAS = (ADDRESSES, DOMAINS)


@dataclass(frozen=True)
class Size:
    """What an account has room for: space, and how many of each extra beyond the included ones."""

    space_mb: int
    extra_addresses: int = 0
    extra_domains: int = 0

    @classmethod
    def of(cls, row: Any) -> "Size":
        """The size of an account or an order, whose columns have these names."""
        return cls(**{each.name: getattr(row, each.name) for each in fields(cls)})

    def fits_in(self, other: "Size") -> bool:
        mine, others = vars(self), vars(other)
        return all(mine[name] <= others[name] for name in mine)

    def with_one_more(self, what: str) -> "Size":
        """`what`: the name of an extra."""
        column = f"extra_{what}"
        return replace(self, **{column: getattr(self, column) + 1})


@dataclass(frozen=True)
class Terms:
    """Space for a duration, as an order names it."""

    space_mb: int
    duration: int
    unit: str

    @property
    def seconds(self) -> int:
        return self.duration * UNIT_SECONDS[self.unit]

    @property
    def time_in_words(self) -> str:
        if self.unit == "days" and self.duration % 365 == 0:
            return "1 year" if self.duration == 365 else f"{self.duration // 365} years"
        unit = self.unit.removesuffix("s") if self.duration == 1 else self.unit
        return f"{self.duration} {unit}"


def in_units(seconds: int) -> tuple[int, str]:
    """Whole hours as a duration and its unit: in days, where they are whole."""
    unit = "days" if seconds % DAY == 0 else "hours"
    return seconds // UNIT_SECONDS[unit], unit


@dataclass(frozen=True)
class Prices:
    """Today's prices. `msat_per_extra_day`: for each extra one, by the name of the extra."""

    msat_per_day: int
    msat_per_gb_day: int
    msat_per_extra_day: Mapping[str, int] = field(default_factory=dict)

    def rate(self, size: Size) -> int:
        """Today's price of holding `size`, in msat per day; at least 1."""
        return max(
            1,
            self.msat_per_day
            + -(-self.msat_per_gb_day * size.space_mb // MB_PER_GB)
            + sum(
                self.msat_per_extra_day.get(extra.name, 0) * getattr(size, extra.column)
                for extra in EXTRAS
            ),
        )

    def cost_msat(self, size: Size, seconds: int) -> int:
        """What this much time costs today: whole sats, at least one."""
        return max(1, -(-self.rate(size) * seconds // (DAY * 1000))) * 1000

    def price_msat(self, terms: Terms) -> int:
        """What a new hosting costs today: whole sats, at least one."""
        return self.cost_msat(Size(terms.space_mb), terms.seconds)


@dataclass(frozen=True)
class Holding:
    """An account's paid time at one moment: how much is left, and what it is worth.

    `credit_msat` is what was paid for time beyond the horizon (seconds from now); it becomes time
    as room appears.
    """

    seconds: int = 0
    value_msat: int = 0
    credit_msat: int = 0

    @property
    def worth_msat(self) -> int:
        return self.value_msat + self.credit_msat

    def buy(self, msat: int, rate: int, horizon: int, least_seconds: int = 0) -> "Holding":
        """Add time at `rate` (msat per day), at least `least_seconds`; earlier time stays."""
        seconds = max(least_seconds, msat * DAY // rate)
        room = max(0, horizon - self.seconds)
        if seconds <= room:
            return Holding(self.seconds + seconds, self.value_msat + msat, self.credit_msat)
        spent = -(-msat * room // seconds)
        return Holding(
            self.seconds + room, self.value_msat + spent, self.credit_msat + msat - spent
        )

    def resize(self, msat: int, rate: int, horizon: int) -> "Holding":
        """Turn all that it is worth, plus `msat`, into time at the `rate` of another size."""
        worth = self.worth_msat + msat
        horizon = max(horizon, self.seconds)  # what was bought stays, past the horizon too
        seconds = worth * DAY // rate
        if seconds <= horizon:
            return Holding(seconds, worth)
        spent = -(-horizon * rate // DAY)
        return Holding(horizon, spent, worth - spent)

    def use_credit(self, rate: int, horizon: int) -> "Holding":
        """Turn as much of the credit as there is room for into time at `rate`."""
        credit, nothing = self.credit_msat, Holding(self.seconds, self.value_msat)
        return nothing.buy(credit, rate, horizon) if credit else self

    def growth_msat(self, rate: int) -> int:
        """What a size of this `rate` costs until the same end: whole sats, 0 if paid for."""
        missing = -(-rate * self.seconds // DAY) - self.worth_msat
        return max(0, -(-missing // 1000)) * 1000
