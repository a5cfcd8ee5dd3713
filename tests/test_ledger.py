"""What an account has paid for: held against a model in fractions, whatever is done to it."""

from dataclasses import replace
from fractions import Fraction
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lightningspace import clock, ledger
from lightningspace.models import Account
from lightningspace.prices import DAY, LONGEST_SECONDS, Holding, Prices, Size

PRICES = Prices(5000, 20000, 1000, 1000)
HORIZON = 1095 * DAY
SIZES = [Size(100), Size(500), Size(5000), Size(100, 7), Size(100, 0, 3), Size(1_000_000, 999, 999)]

sizes = st.sampled_from(SIZES)
seconds = st.integers(3600, LONGEST_SECONDS)
steps = st.lists(
    st.one_of(
        st.tuples(st.just("extend"), seconds, st.integers(0, 10**7)),
        st.tuples(st.just("resize"), sizes, st.integers(0, 10**7)),
        st.tuples(st.just("pay late"), sizes, seconds),
        st.tuples(st.just("use credit"), st.none(), st.none()),
        st.tuples(st.just("wait"), st.integers(0, 400 * DAY), st.none()),
    ),
    max_size=12,
)
many = settings(max_examples=200, deadline=None)


class Life:
    """One account, and beside it what its customer paid and what its size has used up since."""

    def __init__(self, size: Size, paid_seconds: int):
        self.moment, self.size = 1_700_000_000, size
        self.paid = PRICES.cost_msat(size, paid_seconds)
        self.used = Fraction(0)
        first = Holding().buy(self.paid, self.rate, HORIZON, paid_seconds)
        self.account = Account(opened_at=self.moment, ready_at=self.moment, valued_at=self.moment)
        self.rounded = 0  # msat that rounding may have cost
        self.keep(first)

    @property
    def rate(self) -> int:
        return PRICES.rate(self.size)

    @property
    def holding(self) -> Holding:
        return ledger.holding(self.account)

    def keep(self, holding: Holding) -> None:
        for name, value in ledger.columns(self.account, holding).items():
            setattr(self.account, name, value)

    def buy(self, holding: Holding, msat: int) -> None:
        before = self.holding
        assert holding.worth_msat == before.worth_msat + msat
        self.paid += msat
        self.keep(holding)
        assert self.holding == holding

    def extend(self, seconds: int, overpaid_msat: int) -> None:
        msat = PRICES.cost_msat(self.size, seconds) + overpaid_msat
        before = self.holding
        after = before.buy(msat, self.rate, HORIZON, seconds)
        assert after.seconds >= min(max(HORIZON, before.seconds), before.seconds + seconds)
        self.buy(after, msat)

    def resize(self, size: Size, overpaid_msat: int) -> None:
        before, rate = self.holding, PRICES.rate(size)
        if not before.seconds:
            return
        cost = before.growth_msat(rate)
        msat = cost + overpaid_msat if cost else 0
        after = before.resize(msat, rate, HORIZON)
        assert after.seconds >= before.seconds
        self.buy(after, msat)
        self.size = size

    def pay_late(self, size: Size, seconds: int) -> None:
        """An order of time placed at another size than the account has by now."""
        msat = PRICES.cost_msat(size, seconds)
        least = seconds if self.size.fits_in(size) else 0
        before = self.holding
        after = before.buy(msat, self.rate, HORIZON, least)
        assert after.seconds >= before.seconds
        self.buy(after, msat)

    def use_credit(self) -> None:
        before = self.holding
        self.buy(before.use_credit(self.rate, HORIZON), 0)
        assert self.holding.seconds >= before.seconds

    def wait(self, seconds: int) -> None:
        before = self.holding
        self.moment += seconds
        clock.set_source(lambda: self.moment)
        self.used += Fraction(self.rate * min(seconds, before.seconds), DAY)
        self.rounded += 1

    def assert_fair(self) -> None:
        """What is left is paid for at the price of the size that it has, in full."""
        held = self.holding
        assert held.value_msat + self.rounded >= Fraction(self.rate * held.seconds, DAY)
        assert self.paid + self.rounded >= self.used + held.credit_msat + Fraction(
            self.rate * held.seconds, DAY
        )
        assert held.worth_msat <= self.paid


@many
@given(sizes, seconds, steps)
def test_no_order_of_buying_gets_large_space_at_the_small_price(size, paid_seconds, steps):
    clock.set_source(lambda: 1_700_000_000)
    life = Life(size, paid_seconds)
    for what, first, second in steps:
        step = getattr(life, what.replace(" ", "_"))
        step(*(each for each in (first, second) if each is not None))
        life.assert_fair()


@many
@given(seconds, st.integers(0, LONGEST_SECONDS))
def test_a_value_melts_evenly_and_not_twice(paid_seconds, waited):
    """Looking in between, or buying nothing, takes nothing."""
    clock.set_source(lambda: 1_700_000_000)
    life = Life(Size(100), paid_seconds)
    life.wait(waited)
    at_once = life.holding
    life.keep(at_once)
    assert life.holding == at_once
    left = max(0, paid_seconds - waited)
    assert at_once.seconds >= left
    assert abs(at_once.value_msat - Fraction(life.paid * left, paid_seconds)) <= 1 + life.rate


@many
@given(sizes, sizes, seconds)
def test_there_and_back_again_costs_and_wins_nothing_but_rounding(small, large, paid_seconds):
    rate, other = PRICES.rate(small), PRICES.rate(large)
    msat = PRICES.cost_msat(small, paid_seconds)
    held = Holding().buy(msat, rate, 10**12, paid_seconds)
    back = held.resize(0, other, 10**12).resize(0, rate, 10**12)
    assert back.worth_msat == msat
    assert back.seconds == msat * DAY // rate


@pytest.mark.parametrize("method", ["buy", "resize"])
def test_what_is_beyond_the_horizon_is_credit_and_becomes_time_as_room_appears(method):
    held = getattr(Holding(), method)(10_000, 1000, 7 * DAY)
    assert held == Holding(7 * DAY, 7000, 3000)
    later = replace(held, seconds=5 * DAY, value_msat=5000)
    assert later.use_credit(1000, 7 * DAY) == Holding(7 * DAY, 7000, 1000)
    assert held.use_credit(1000, 7 * DAY) == held


def test_a_nearer_horizon_takes_nothing_that_was_bought():
    held = Holding(700 * DAY, 700_000)
    assert held.resize(0, 500, 360 * DAY) == Holding(700 * DAY, 350_000, 350_000)
    assert held.buy(1000, 1000, 360 * DAY) == Holding(700 * DAY, 700_000, 1000)


def test_nothing_melts_before_everything_is_set_up():
    moment = 1_700_000_000
    account = Account(opened_at=moment, valued_at=moment, expires_at=moment + DAY, value_msat=7000)
    clock.set_source(lambda: moment + 7200)
    assert ledger.holding(account) == Holding(DAY, 7000, 0)
    after = ledger.holding(account).buy(7000, 7000, HORIZON)
    assert ledger.columns(account, after)["expires_at"] == moment + 2 * DAY


def test_a_clock_that_went_back_gives_no_time():
    moment = 1_700_000_000
    account = Account(ready_at=moment, valued_at=moment, expires_at=moment + DAY, value_msat=7000)
    clock.set_source(lambda: moment - 7200)
    assert ledger.holding(account) == Holding(DAY, 7000, 0)


def test_the_grace_is_as_long_as_what_was_paid_within_bounds():
    shop = SimpleNamespace(config=SimpleNamespace(grace_days=14))
    for paid, grace in ((600, 3600), (7200, 7200), (90 * DAY, 14 * DAY)):
        account = Account(opened_at=0, ready_at=1000, expires_at=1000 + paid)
        assert ledger.grace_seconds(shop, account) == grace
