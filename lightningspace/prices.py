"""What space and time cost: whole numbers of msat, rounded up once to whole sats."""

from dataclasses import dataclass

DAY = 24 * 60 * 60
UNIT_SECONDS = {"hours": 60 * 60, "days": DAY, "months": 30 * DAY}
SHORTEST_SECONDS = 60 * 60
LONGEST_SECONDS = 730 * DAY
MB_PER_GB = 1000


@dataclass(frozen=True)
class Terms:
    """What one order asks for."""

    space_mb: int
    duration: int
    unit: str

    @property
    def seconds(self) -> int:
        return self.duration * UNIT_SECONDS[self.unit]

    @property
    def time_in_words(self) -> str:
        unit = self.unit.removesuffix("s") if self.duration == 1 else self.unit
        return f"{self.duration} {unit}"


@dataclass(frozen=True)
class Prices:
    msat_per_day: int
    msat_per_gb_day: int

    def rate(self, space_mb: int) -> int:
        """Today's price of holding `space_mb`, in msat per day; at least 1."""
        return max(1, self.msat_per_day + -(-self.msat_per_gb_day * space_mb // MB_PER_GB))

    def price_msat(self, terms: Terms) -> int:
        """What `terms` cost today: whole sats, at least one."""
        sats = -(-self.rate(terms.space_mb) * terms.seconds // (DAY * 1000))
        return max(1, sats) * 1000

    def seconds_for(self, msat: int, space_mb: int) -> int:
        """The time that `msat` buy at today's rate of `space_mb`."""
        return msat * DAY // self.rate(space_mb)
