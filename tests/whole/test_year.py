"""A year of a shop: customers come, pay, extend, resize, lapse and go, while servers fail.

The suite simulates some weeks with a few customers, `make year` a year with 300, and prints
what became of them. What each account should have is computed a second time, in fractions.
"""

import heapq
import os
import random
import secrets
from collections import Counter
from dataclasses import dataclass, field, replace
from fractions import Fraction

from pyln.client import LightningRpc, RpcError

from lightningspace import shop
from lightningspace.base import models
from lightningspace.base.models import Account, Order, Service
from lightningspace.base.prices import DAY, UNIT_SECONDS, Prices, Size, Terms
from lightningspace.outside.node import NodeError
from lightningspace.panel import reconcile
from lightningspace.rules import (
    accounts,
    calendar,
    hostnames,
    income,
    ledger,
    offers,
    orders,
    payments,
    quotes,
    tips,
    wanted,
)
from lightningspace.rules.orders import Buyer, Tip, Wish
from tests.actual import differences, everything
from tests.conftest import WorkerByHand, with_settings

CUSTOMERS = int(os.environ.get("CUSTOMERS", "10"))
DAYS = int(os.environ.get("DAYS", "14"))
SEED = int(os.environ.get("SEED", "21"))
HOUR = 60 * 60
GRACE_DAYS = 3
SIZES_MB = (100, 500, 1000)
TERMS = [(1, "hours"), (12, "hours"), (1, "days"), (3, "days"), (10, "days"), (1, "months")]
LONG_TERMS = [(3, "months"), (6, "months"), (9, "months")]


@dataclass
class Expected:
    """What was paid for, exactly: its value falls evenly from `begins` to `ends`."""

    begins: Fraction
    ends: Fraction
    value: Fraction
    paid_msat: int
    steps: int = 1

    def left(self, moment: int) -> tuple[Fraction, Fraction]:
        """The seconds that are left, and their value."""
        seconds = max(Fraction(0), self.ends - max(self.begins, moment))
        return seconds, self.value * seconds / (self.ends - self.begins)

    def set(self, moment: int, seconds: Fraction, value: Fraction) -> None:
        self.begins = max(self.begins, Fraction(moment))
        self.ends, self.value = self.begins + seconds, value
        self.steps += 1

    def buy(self, moment: int, msat: int, rate: int, least: int) -> None:
        seconds, value = self.left(moment)
        more = max(Fraction(least), Fraction(msat * DAY, rate))
        self.set(moment, seconds + more, value + msat)
        self.paid_msat += msat

    def resize(self, moment: int, msat: int, rate: int) -> None:
        _, value = self.left(moment)
        self.set(moment, (value + msat) * DAY / rate, value + msat)
        self.paid_msat += msat


@dataclass
class Customer:
    name: str
    space_mb: int
    terms: tuple[int, str]
    account_id: str | None = None
    expected: Expected | None = None
    is_ready: bool = False
    waits_for: list[str] = field(default_factory=list)  # payment hashes of orders


class Year:
    def __init__(self, this_shop, node, panel, clock, directory):
        self.chance = random.Random(SEED)
        self.shop, self.node, self.panel = this_shop, node, panel
        self.clock, self.directory = clock, directory
        self.wallet = LightningRpc(str(directory / "wallet-rpc"))
        self.counts: Counter = Counter()
        self.forfeited_msat = Fraction(0)
        self.consumed_msat = Fraction(0)
        self.bare = everything(panel)
        self.down_until, self.is_panel_down = 0, False
        self.events: list[tuple[int, int, str]] = []
        self.customers = [self.a_customer(n) for n in range(CUSTOMERS)]
        self.hour = 0
        self.worker = WorkerByHand(this_shop)
        for number in range(CUSTOMERS):
            self.plan(number, self.chance.randrange(DAYS * 24 * 3 // 4), "order")

    def a_customer(self, number: int) -> Customer:
        terms = TERMS + [each for each in LONG_TERMS if DAYS > 200]
        return Customer(
            f"customer{number}", self.chance.choice(SIZES_MB), self.chance.choice(terms)
        )

    def plan(self, number: int, in_hours: int, what: str) -> None:
        heapq.heappush(self.events, (self.hour + max(1, in_hours), number, what))

    # -- an hour -----------------------------------------------------------------

    def live(self) -> None:
        for self.hour in range(DAYS * 24):
            self.clock.forward(HOUR)
            self.change_the_weather()
            while self.events and self.events[0][0] <= self.hour:
                _, number, what = heapq.heappop(self.events)
                getattr(self, what)(number)
            self.work()
            self.look_at_orders()
            if self.hour % 24 == 0:
                self.check()

    def settle(self) -> None:
        """Let everything that is under way end."""
        self.clear_the_weather()
        for _ in range(30):
            self.clock.forward(60)
            self.work()
            self.look_at_orders()

    def work(self) -> None:
        try:
            while self.worker.follow_payments(seconds=0):
                pass
            if self.hour % 4 == 0:
                self.worker.tidy()
            offers.match(self.shop)
        except NodeError:
            self.counts["node did not answer"] += 1
        for order in payments.due():
            payments.apply(self.shop, order.token)
        for account_id in reconcile.due_accounts():
            reconcile.account(self.shop, account_id)
        done = calendar.run_pass(self.shop)
        assert done.held is None
        for account_id in reconcile.due_accounts():
            reconcile.account(self.shop, account_id)

    def change_the_weather(self) -> None:
        chance = self.chance
        if self.down_until and self.down_until <= self.hour:
            self.clear_the_weather()
        if self.down_until or chance.random() > 0.03:
            return
        self.down_until = self.hour + chance.randint(1, 5)
        what = chance.choice(["panel down", "panel cuts", "node cuts", "restart", "killed"])
        self.counts[what] += 1
        match what:
            case "panel down":
                self.panel.down()
                self.is_panel_down = True
            case "panel cuts":
                kind = chance.choice(["cut-before", "cut-after", "refuse"])
                passes = chance.randint(0, 9)
                times = chance.randint(1, 5)
                self.panel.faults.set(kind, passes=passes, times=times, message="HTTP 500")
            case "node cuts":
                kind = chance.choice(["cut-before", "cut-after"])
                self.node.faults.set(kind, times=chance.randint(1, 5))
            case "restart":
                prices = self.shop.prices
                self.shop = replace(shop.build(self.shop.config), prices=prices)
                self.worker = WorkerByHand(self.shop)
            case "killed":
                with models.transaction():
                    Account.update(
                        leased_by="killed", leased_until=int(self.clock.moment) + 300
                    ).where(Account.reconcile_at.is_null(False)).execute()

    def clear_the_weather(self) -> None:
        self.down_until = 0
        if self.is_panel_down:
            self.panel.up()
        self.is_panel_down = False
        self.panel.faults.clear()
        self.node.faults.clear()

    def change_prices(self) -> None:
        """The operator changes the prices."""
        factor = self.chance.choice([Fraction(1, 2), Fraction(3, 2), Fraction(7, 9)])
        prices = Prices(
            int(5000 * factor), int(20000 * factor), {"addresses": 1000, "domains": 1000}
        )
        self.shop = replace(self.shop, prices=prices)
        self.worker = WorkerByHand(self.shop)
        self.counts["new prices"] += 1

    # -- what customers do ---------------------------------------------------------

    def order(self, number: int) -> None:
        customer = self.customers[number]
        wish = Wish(
            terms=Terms(customer.space_mb, *customer.terms),
            username=None if self.chance.random() < 0.5 else customer.name,
            email="c@example.org" if self.chance.random() < 0.5 else None,
            password="correct horse",
            browser=customer.name,
            client=f"192.0.2.{number % 250}",
            form_id=secrets.token_hex(8),
        )
        try:
            order = orders.place(self.shop, wish)
        except (orders.NameTaken, orders.SoldOut):
            self.counts["turned away"] += 1
            return
        except NodeError:
            self.plan(number, 1, "order")
            return
        if self.chance.random() < 0.2:
            self.counts["never paid"] += 1
            self.plan(number, self.chance.randint(2, 48), "order")
        else:
            self.pay(customer, order)

    def pay(self, customer: Customer, order: Order) -> None:
        # Some pay more than the invoice says: BOLT 4 allows up to twice as much.
        more = self.chance.randint(1, order.amount_msat) if self.chance.random() < 0.1 else 0
        self.node.settle(order.payment_hash, order.amount_msat + more)
        self.counts[f"paid: {order.kind}"] += 1
        customer.waits_for.append(order.payment_hash)

    def decide(self, number: int) -> None:
        """Plan what the customer does next, now that the end is known."""
        customer, chance = self.customers[number], self.chance
        left = int(customer.expected.ends - int(self.clock.moment)) // HOUR
        what = chance.random()
        if what < 0.45:
            self.plan(number, left - chance.randint(0, max(1, left // 2)), "extend")
        elif what < 0.65:
            self.plan(number, left + chance.randint(1, 12), "extend")  # suspended by then
        elif what < 0.72:
            self.plan(number, chance.randint(1, max(2, left)), "close")
        if chance.random() < 0.5:
            self.plan(number, chance.randint(1, max(2, left)), "resize")
        if chance.random() < 0.3:
            self.plan(number, chance.randint(1, max(2, left)), "mailbox")
        for way in ("tip", "tip_to_offer"):
            if chance.random() < 0.3:
                self.plan(number, chance.randint(1, max(2, left + 24)), way)

    def extend(self, number: int) -> None:
        customer = self.customers[number]
        if not self.is_there(customer) or customer.waits_for:
            return
        terms = self.chance.choice(TERMS)
        try:
            order = orders.extend(self.shop, customer.account_id, *terms, self.buyer(customer))
        except quotes.NotForSale:
            self.counts["refused: extend"] += 1
        except NodeError:
            self.plan(number, 1, "extend")
        else:
            if self.chance.random() < 0.1:
                self.counts["never paid"] += 1
            else:
                self.pay(customer, order)

    def tip(self, number: int) -> None:
        """A reader gives a tip for the site, or does not pay after all."""
        customer = self.customers[number]
        if not self.is_there(customer) or customer.waits_for:
            return
        tip = Tip(self.chance.randint(1, 5_000) * 1000, "page", "for your site")
        try:
            order = orders.top_up(
                self.shop, customer.account_id, tip, "reader", secrets.token_hex(8)
            )
        except quotes.NotForSale:
            self.counts["refused: tip"] += 1
        except NodeError:
            self.counts["tips not asked for"] += 1
        else:
            if self.chance.random() < 0.2:
                self.counts["never paid"] += 1
            else:
                self.pay(customer, order)

    def tip_to_offer(self, number: int) -> None:
        customer = self.customers[number]
        if not self.is_there(customer) or customer.waits_for:
            return
        try:
            offer = tips.offer(self.shop, Account.get_by_id(customer.account_id))
        except NodeError:
            self.counts["offers not made"] += 1
            return
        if offer is None:
            self.counts["refused: offer"] += 1
            return
        asked = {"offer": offer, "amount_msat": self.chance.randint(1, 5_000_000)}
        try:
            paid = self.wallet.pay(self.wallet.call("fetchinvoice", asked)["invoice"])
        except RpcError:
            self.counts["refused: payment to an offer"] += 1
        else:
            self.counts["paid: to an offer"] += 1
            customer.waits_for.append(paid["payment_hash"])

    def resize(self, number: int) -> None:
        customer = self.customers[number]
        if not self.is_there(customer) or customer.waits_for:
            return
        account = Account.get_by_id(customer.account_id)
        size = Size(self.chance.choice(SIZES_MB), self.chance.randint(0, 2), 0)
        moment = int(self.clock.moment)
        # The space in use, as if the worker had asked for it.
        Account.update(used_site_mb=1, used_database_mb=0, used_mail_mb=0, used_at=moment).where(
            Account.id == account.id
        ).execute()
        try:
            order = orders.resize(self.shop, account.id, size, self.buyer(customer))
        except (quotes.NotForSale, orders.SoldOut, quotes.ResizeWaits) as refused:
            self.counts[f"refused: {type(refused).__name__}"] += 1
        except NodeError:
            self.plan(number, 1, "resize")
        else:
            if order is None and size == Size.of(account):
                self.counts["same size"] += 1
            elif order is None:
                customer.expected.resize(moment, 0, self.shop.prices.rate(size))
                self.counts["resized without paying"] += 1
            elif self.chance.random() < 0.2:
                self.counts["never paid"] += 1
            else:
                self.pay(customer, order)

    def mailbox(self, number: int) -> None:
        customer = self.customers[number]
        if not self.is_there(customer):
            return
        account = Account.get_by_id(customer.account_id)
        address = (
            f"box{self.chance.randint(1, 9)}@{hostnames.site_name(self.shop, account.username)}"
        )
        try:
            wanted.add(self.shop, account.id, "mailbox", address, "battery staple")
            self.counts["mailboxes added"] += 1
        except (wanted.NameInUse, wanted.NoneLeft):
            self.counts["mailboxes refused"] += 1

    def close(self, number: int) -> None:
        customer = self.customers[number]
        if self.is_there(customer) and not customer.waits_for:
            accounts.close(customer.account_id)
            self.counts["closed by themselves"] += 1

    def buyer(self, customer: Customer) -> Buyer:
        return Buyer(customer.name, secrets.token_hex(8))

    def is_there(self, customer: Customer) -> bool:
        account = customer.account_id and Account.get_or_none(Account.id == customer.account_id)
        return bool(account) and account.ready_at is not None and account.closing_at is None

    # -- what comes of it ----------------------------------------------------------

    def look_at_orders(self) -> None:
        ready_at = dict(Account.select(Account.id, Account.ready_at).tuples())
        for number, customer in enumerate(self.customers):
            for payment_hash in list(customer.waits_for):
                order = Order.get_or_none(Order.payment_hash == payment_hash)
                if order and order.applied_at is not None:
                    customer.waits_for.remove(payment_hash)
                    self.took_effect(customer, order)
            if customer.account_id is None:
                continue
            if customer.account_id not in ready_at:
                self.ended(number, customer)
            elif ready_at[customer.account_id] and not customer.is_ready:
                customer.is_ready = True
                waited = ready_at[customer.account_id] - customer.expected.begins
                customer.expected.begins += waited
                customer.expected.ends += waited
                self.decide(number)

    def took_effect(self, customer: Customer, order: Order) -> None:
        rate = self.shop.prices.rate(Size.of(order))
        msat, moment = order.received_msat, order.applied_at
        if order.kind == "open":
            least = order.duration * UNIT_SECONDS[order.unit] if order.duration else 0
            seconds = max(Fraction(least), Fraction(msat * DAY, rate))
            begins = Fraction(moment)
            customer.account_id = order.account_id
            customer.is_ready = False
            customer.expected = Expected(begins, begins + seconds, Fraction(msat), msat)
            self.counts["opened late"] += order.is_late
            return
        if order.kind == "extend":
            least = order.duration * UNIT_SECONDS[order.unit]
            account = Account.get_by_id(customer.account_id)
            assert Size.of(account) == Size.of(order)
            customer.expected.buy(moment, msat, rate, least)
        elif order.kind == "topup":
            account = Account.get_by_id(customer.account_id)
            customer.expected.buy(moment, msat, ledger.rate(self.shop, account), 0)
        else:
            customer.expected.resize(moment, msat, rate)
        self.decide(self.customers.index(customer))

    def ended(self, number: int, customer: Customer) -> None:
        left = customer.expected.left(int(self.clock.moment))[1]
        self.forfeited_msat += left
        self.consumed_msat += customer.expected.paid_msat - left
        customer.account_id, customer.expected = None, None
        self.counts["ended"] += 1
        if self.chance.random() < 0.7:
            self.plan(number, self.chance.randint(1, 200), "order")

    # -- what holds ------------------------------------------------------------------

    def check(self) -> None:
        moment = int(self.clock.moment)
        for account in Account.select():
            if account.opened_at is None or account.closing_at is not None:
                continue
            is_over = account.ready_at is not None and account.expires_at <= moment
            assert (account.suspended_at is not None) == is_over
            assert account.expires_at + (GRACE_DAYS * 24 + 6) * HOUR > moment
        for customer in self.customers:
            if customer.account_id:
                self.check_money(customer, moment)

    def check_money(self, customer: Customer, moment: int) -> Fraction:
        """Check that the account's worth differs from the exact sum by less than a satoshi."""
        account, expected = Account.get_by_id(customer.account_id), customer.expected
        if not customer.is_ready:
            return expected.value
        seconds, value = expected.left(moment)
        holding = ledger.holding(account)
        # The value is rounded down to a msat, which is up to half a minute of the smallest hosting.
        assert abs(account.expires_at - expected.ends) <= 30 * expected.steps
        assert abs(holding.worth_msat - value) < 1000
        return value

    def table(self) -> str:
        moment = int(self.clock.moment)
        alive = [customer for customer in self.customers if customer.account_id]
        left = sum((self.check_money(each, moment) for each in alive), Fraction(0))
        self.consumed_msat += sum(each.expected.paid_msat for each in alive) - left
        received = sum(order.received_msat for order in paid_orders())
        by_days, at_node = sum(row.msat for row in income.since(0)), self.received_by_node()
        rows = [
            ("customers", len(self.customers)),
            ("days", DAYS),
            *sorted(self.counts.items()),
            ("alive in the end", len(alive)),
            ("received, msat, by the node", at_node),
            ("received, msat, in the orders", received),
            ("received, msat, by the days", by_days),
            ("of it used up", round(self.consumed_msat)),
            ("of it forfeited by closing", round(self.forfeited_msat)),
            ("of it left", round(left)),
            ("left in the accounts", self.worth_of_all()),
        ]
        assert at_node == received == by_days
        assert received == self.consumed_msat + self.forfeited_msat + left
        # To the satoshi, for all accounts together.
        assert abs(self.worth_of_all() - left) < 1000
        return "\n".join(f"{name:32}{value:>18,}" for name, value in rows)

    def worth_of_all(self) -> int:
        opened = Account.select().where(Account.opened_at.is_null(False))
        return sum(ledger.holding(account).worth_msat for account in opened)

    def received_by_node(self) -> int:
        invoices = LightningRpc(str(self.directory / "lightning-rpc")).listinvoices()["invoices"]
        return sum(int(each["amount_received_msat"]) for each in invoices if "paid_at" in each)


def paid_orders():
    return Order.select().where(Order.paid_at.is_null(False))


@with_settings(
    GRACE_DAYS=str(GRACE_DAYS), SWEEP_LIMIT="100", CAPACITY_MB="200000", HORIZON_DAYS="36500"
)
def test_panel_accounts_and_money_agree_after_a_year(
    this_shop, node, panel, time_machine, tmp_path
):
    models.db.execute_sql("PRAGMA synchronous=off")  # no machine fails here
    year = Year(this_shop, node, panel, time_machine, tmp_path)
    year.live()
    year.settle()

    assert not Service.select().where(Service.applied_revision != Service.revision).exists()
    assert differences(year.shop, panel, others=year.bare) == []
    assert payments.due() == []
    assert Order.select().where(Order.kind == "lost").count() == 0
    print("\n" + year.table())
