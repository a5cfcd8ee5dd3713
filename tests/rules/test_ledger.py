"""What an account has paid for, compared with a model in exact fractions."""

from dataclasses import replace
from fractions import Fraction
from types import SimpleNamespace

from hypothesis import example, given, settings
from hypothesis import strategies as st

from lightningspace.base import clock
from lightningspace.base.models import Account, Order
from lightningspace.base.prices import DAY, LONGEST_SECONDS, Holding, Prices, Size
from lightningspace.rules import ledger, quotes

PRICES = Prices(5000, 20000, {"addresses": 1000, "domains": 1000})
HORIZON = 1095 * DAY
SHOP = SimpleNamespace(
    prices=PRICES, config=SimpleNamespace(horizon_seconds=HORIZON, grace_days=14)
)
SIZES = [Size(100), Size(500), Size(5000), Size(100, 7), Size(100, 0, 3), Size(1_000_000, 999, 999)]
NOON = 1_700_000_000

sizes = st.sampled_from(SIZES)
hours = st.one_of(st.integers(1, 48), st.integers(1, LONGEST_SECONDS // 3600))
steps = st.lists(
    st.one_of(
        st.tuples(st.just("extend"), hours),
        st.tuples(st.just("resize"), sizes, st.booleans()),
        st.tuples(st.just("pay"), st.integers(0, 9), st.sampled_from([0, 0, 1, 999, 10**7])),
        st.tuples(st.just("use_credit")),
        st.tuples(st.just("wait"), st.one_of(st.integers(0, 900), st.integers(0, 400 * DAY))),
    ),
    max_size=16,
)
many = settings(max_examples=200, deadline=None)


class Life:
    """An account with its open orders, and the exact value that was paid and used up."""

    def __init__(self, size: Size, hours: int):
        self.moment, self.used, self.orders = NOON, Fraction(0), []
        clock.set_source(lambda: self.moment)
        times = dict.fromkeys(("opened_at", "ready_at", "valued_at", "expires_at"), NOON)
        self.account = Account(**times, **vars(size))
        self.paid = PRICES.cost_msat(size, hours * 3600)
        self.term_paid, self.dearest = self.paid, 0  # since the time was last over
        self.rounded = 0  # the msat that rounding may have lost
        self.keep(Holding().buy(self.paid, self.rate, HORIZON, hours * 3600))

    @property
    def rate(self) -> int:
        return ledger.rate(SHOP, self.account)

    @property
    def holding(self) -> Holding:
        return ledger.holding(self.account)

    def keep(self, holding: Holding, size: Size | None = None) -> None:
        facts = ledger.columns(self.account, holding, has_other_size=size is not None)
        facts |= vars(size) if size else {}
        for name, value in facts.items():
            setattr(self.account, name, value)

    def extend(self, hours: int) -> None:
        """Order more time, to be paid at any later moment, or never."""
        size, offer = (
            Size.of(self.account),
            quotes.extension(SHOP, self.account, hours, "hours"),
        )
        order = Order(kind="extend", duration=hours, unit="hours", amount_msat=offer.msat)
        self.order(order, size, offer.ends_at)

    def resize(self, size: Size, is_paid: bool) -> None:
        """Order another size, or get it for nothing. A second order waits for the first."""
        if any(order.kind == "resize" for order in self.orders) or not self.holding.seconds:
            return
        order = Order(kind="resize", amount_msat=self.holding.growth_msat(PRICES.rate(size)))
        self.order(order, size, self.account.expires_at)
        if is_paid or not order.amount_msat:
            self.pay(-1, 0)

    def order(self, order: Order, size: Size, ends_at: int) -> None:
        for name, value in vars(size).items():
            setattr(order, name, value)
        order.ends_at = ends_at  # the promised end
        self.orders.append(order)

    def pay(self, number: int, overpaid_msat: int) -> None:
        if not self.orders:
            return
        order, before = self.orders.pop(number % len(self.orders)), self.holding
        msat = order.amount_msat + overpaid_msat if order.amount_msat else 0
        size = Size.of(order) if order.kind == "resize" else None
        after = quotes.bought(SHOP, self.account, order, msat)
        assert after.worth_msat == before.worth_msat + msat
        self.paid += msat
        self.term_paid = msat + (self.term_paid if before.seconds else before.credit_msat)
        was_small = Size.of(self.account).fits_in(Size.of(order))
        self.keep(after, size)
        assert self.holding == after
        if order.kind == "extend":
            assert after.seconds >= before.seconds
            named = before.seconds + order.duration * 3600 if was_small else 0
            assert after.seconds >= min(named, HORIZON)
        elif before.seconds:  # an end in the past cannot be kept
            # Each rounding may lose one msat, which is worth this much time.
            assert self.account.expires_at >= order.ends_at - self.rounded * DAY // self.rate - 1

    def use_credit(self) -> None:
        before = self.holding
        after = before.use_credit(self.rate, HORIZON)
        assert (after.worth_msat, after.seconds >= before.seconds) == (before.worth_msat, True)
        self.term_paid = self.term_paid if before.seconds else before.credit_msat
        self.keep(after)

    def wait(self, seconds: int) -> None:
        self.used += Fraction(self.rate * min(seconds, self.holding.seconds), DAY)
        self.moment += seconds

    def assert_fair(self) -> None:
        """Assert that the time left is paid for in full, at the price of the present size."""
        self.rounded += 1
        held, left = self.holding, Fraction(self.rate * self.holding.seconds, DAY)
        assert held.value_msat + self.rounded >= left
        assert self.paid + self.rounded >= self.used + left + held.credit_msat
        assert held.worth_msat <= self.paid
        # So the grace period, too, is no longer than that would have bought.
        self.dearest = max(self.dearest, self.rate)
        a_second_each = self.rounded * (1 + self.dearest // DAY)
        term = Fraction(self.rate * ledger.term_seconds(self.account), DAY)
        assert self.term_paid + a_second_each >= term


@many
@example(Size(100), 24, [("extend", 17_520), ("resize", Size(5000), True), ("pay", 0, 0)])
@example(
    Size(100), 24, [("resize", Size(5000), False), ("extend", 17_520), ("pay", 1, 0), ("pay", 0, 0)]
)
@example(Size(100), 24, [("extend", 17_520), ("resize", Size(100, 7), True), ("pay", 0, 0)])
@given(sizes, hours, steps)
def test_no_order_of_buying_gets_large_space_at_the_small_price(size, hours, steps):
    life = Life(size, hours)
    for step, *arguments in steps:
        getattr(life, step)(*arguments)
        life.assert_fair()


@many
@given(hours, st.integers(0, LONGEST_SECONDS))
def test_value_falls_evenly_and_not_twice(hours, waited):
    """Reading the value in between, or buying nothing, loses nothing."""
    life, paid_seconds = Life(Size(100), hours), hours * 3600
    life.wait(waited)
    at_once = life.holding
    life.keep(at_once)
    assert life.holding == at_once
    left = max(0, paid_seconds - waited)
    assert at_once.seconds >= left
    assert abs(at_once.value_msat - Fraction(life.paid * left, paid_seconds)) <= 1 + life.rate


@many
@given(sizes, sizes, hours)
def test_resizing_back_and_forth_changes_only_by_rounding(small, large, hours):
    rate, other = PRICES.rate(small), PRICES.rate(large)
    msat = PRICES.cost_msat(small, hours * 3600)
    held = Holding().buy(msat, rate, 10**12, hours * 3600)
    back = held.resize(0, other, 10**12).resize(0, rate, 10**12)
    assert back.worth_msat == msat
    assert back.seconds == msat * DAY // rate


def test_time_beyond_the_horizon_is_credit_and_becomes_time_later(subtests):
    for method in ["buy", "resize"]:
        with subtests.test(method=method):
            held = getattr(Holding(), method)(10_000, 1000, 7 * DAY)
            assert held == Holding(7 * DAY, 7000, 3000)
            later = replace(held, seconds=5 * DAY, value_msat=5000)
            assert later.use_credit(1000, 7 * DAY) == Holding(7 * DAY, 7000, 1000)
            assert held.use_credit(1000, 7 * DAY) == held


def test_a_nearer_horizon_takes_nothing_that_was_bought():
    held = Holding(700 * DAY, 700_000)
    assert held.resize(0, 500, 360 * DAY) == Holding(700 * DAY, 350_000, 350_000)
    assert held.buy(1000, 1000, 360 * DAY) == Holding(700 * DAY, 700_000, 1000)


def test_no_value_is_used_up_before_everything_is_set_up():
    moment = NOON
    account = Account(opened_at=moment, valued_at=moment, expires_at=moment + DAY, value_msat=7000)
    clock.set_source(lambda: moment + 7200)
    assert ledger.holding(account) == Holding(DAY, 7000, 0)
    after = ledger.holding(account).buy(7000, 7000, HORIZON)
    assert ledger.ends_at(account, after) == moment + 2 * DAY


def test_a_clock_that_went_back_gives_no_time():
    moment = NOON
    account = Account(ready_at=moment, valued_at=moment, expires_at=moment + DAY, value_msat=7000)
    clock.set_source(lambda: moment - 7200)
    assert ledger.holding(account) == Holding(DAY, 7000, 0)


def test_the_grace_period_is_as_long_as_the_term_within_bounds():
    for paid, grace in ((600, 3600), (7200, 7200), (90 * DAY, 14 * DAY)):
        account = Account(opened_at=0, ready_at=1000, expires_at=1000 + paid)
        assert ledger.grace_seconds(SHOP, account) == grace
