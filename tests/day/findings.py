"""The findings when a day is over: figures for its table, and everything that is wrong."""

import statistics
from fractions import Fraction

from pyln.client import LightningRpc

from lightningspace.base import clock
from lightningspace.base.models import Account, Order
from lightningspace.base.prices import DAY, UNIT_SECONDS, Size
from lightningspace.operator import problems
from lightningspace.rules import ledger, order_book, payments
from tests.actual import differences
from tests.day import weather
from tests.whole.test_year import Expected

# The longest wait for an answer, unless something is broken or was a moment ago.
ANSWER_SECONDS = 15
# A busy machine may refuse this part of all requests.
BUSY = 0.01
GROWTH = 1.2
# The threads of a worker's pools and loops, and one for the lease of each account that is
# reconciled. Each has a connection to the database, which is three files with SQLite.
THREADS_MAX = 60
SATOSHI = 1000
NEAR_SECONDS = 300


class Findings:
    """Looks at a day that is over.

    `recovery_seconds`: how long after a fault customers may still notice it. `since`: from when on
    programs must not grow, by the machine's clock; None: they did not run long enough.
    """

    def __init__(self, shop, day, recovery_seconds: float, since: float | None):
        self.shop, self.node, self.panel = shop, day.node, day.panel
        self.weather, self.web, self.world = day.weather, day.web, day.world
        self.boxes, self.bare = day.boxes, day.bare
        self.recovery_seconds, self.since = recovery_seconds, since
        self.failures = day.failures

    def rows(self) -> list[tuple[str, object]]:
        rows = [*self._payments(), *self._accounts(), *self._answers(), *self._programs()]
        wrong = differences(self.shop, Indexed(self.panel), others=self.bare)
        self.failures += wrong
        return [*rows, *self._problems(), ("differences at the panel", len(wrong))]

    def _expect(self, is_so: bool, otherwise: str) -> None:
        if not is_so:
            self.failures.append(otherwise)

    def _payments(self):
        """All that wallets paid is at the node and in the orders, once and to the msat."""
        rpc = LightningRpc(str(self.node._node.path))
        invoices = rpc.listinvoices()["invoices"]
        at_node = {
            each["payment_hash"]: int(each["amount_received_msat"])
            for each in invoices
            if "paid_at" in each
        }
        orders = paid_orders().where(Order.node_id != order_book.BY_VOUCHER)
        rows = list(orders.select(Order.payment_hash, Order.received_msat).tuples())
        late = len(payments.late_tips())
        waits = paid_orders().where(Order.applied_at.is_null()).count() - late
        twice = len(rows) - len(dict(rows))
        yield "payments", len(rows)
        yield "paid, msat", sum(dict(rows).values())
        yield "lost", len(self.world.paid.keys() - dict(rows).keys())
        yield "twice", twice
        yield "came when their hosting was gone", late
        yield "have not taken effect", waits
        self._expect(at_node == self.world.paid == dict(rows), "payments are lost or changed")
        self._expect(not twice and not waits, "payments count twice, or have not taken effect")

    def _accounts(self):
        """Each account is worth what was paid for it, less the time that is over; see test_year."""
        opened = list(Account.select().where(Account.opened_at.is_null(False)))
        moment, exact = clock.now(), 0
        for account in opened:
            own = (Order.account == account.id) & Order.applied_at.is_null(False)
            # The opening comes first, even if a clock that was behind applied a later order.
            orders = sorted(
                Order.select().where(own),
                key=lambda each: (each.kind != "open", each.applied_at, each.paid_at),
            )
            paid = sum(each.received_msat for each in orders)
            self._expect(paid == account.paid_msat, f"{account.username} has paid {paid}")
            expected = self._expected(account, orders)
            is_exact = not self._met_a_wrong_clock(account, orders)
            exact += is_exact
            least = SATOSHI if is_exact else self._hours_msat(account)
            worth = ledger.holding(account, moment).worth_msat
            differs = abs(worth - expected.left(moment)[1])
            if differs > least:
                self.failures.append(
                    f"{account.username} is worth {worth}, not {float(expected.left(moment)[1])}; "
                    f"{[(o.kind, o.received_msat, o.applied_at) for o in orders]}, {is_exact}"
                )
        yield "hostings in the end", len(opened)
        yield "of them compared to the satoshi", exact

    def _expected(self, account: Account, orders: list[Order]) -> Expected:
        begins = Fraction(account.ready_at or moment_of(orders[0]))
        expected = Expected(begins, begins, Fraction(0), 0)
        for order in orders:
            rate = self.shop.prices.rate(Size.of(order))
            least = order.duration * UNIT_SECONDS[order.unit] if order.duration else 0
            if order.kind == "open":
                seconds = max(Fraction(least), Fraction(order.received_msat * DAY, rate))
                expected.ends, expected.value = begins + seconds, Fraction(order.received_msat)
            elif order.kind == "resize":
                expected.resize(moment_of(order), order.received_msat, rate)
            else:
                expected.buy(moment_of(order), order.received_msat, rate, least)
        return expected

    def _met_a_wrong_clock(self, account: Account, orders: list[Order]) -> bool:
        facts = [account.ready_at, account.opened_at]
        facts += [at for order in orders for at in (order.paid_at, order.applied_at)]
        near = [
            at + error for at in facts for error in (0, weather.STEP_SECONDS, -weather.STEP_SECONDS)
        ]
        return any(
            began - NEAR_SECONDS <= at <= ended + NEAR_SECONDS
            for began, ended in self.weather.steps
            for at in near
        )

    def _hours_msat(self, account: Account) -> int:
        steps = max(1, len(self.weather.steps))
        hours = 3 * steps * 3600
        return self.shop.prices.rate(Size.of(account)) * hours // DAY + 2 * SATOSHI

    def _answers(self):
        """Nobody waits or sees an error while nothing is broken."""
        quiet = [each for each in self.web.asked if not self._was_broken(each)]
        seconds = sorted(each.seconds for each in quiet)
        slow = [each for each in quiet if each.seconds > ANSWER_SECONDS]
        wrong = [each for each in quiet if each.status == 0 or each.status >= 500]
        wrong = [each for each in wrong if not each.is_refused]
        if self.since:
            self.failures += [f"while nothing was broken: {each}" for each in slow[:20]]
            is_rare = len(wrong) <= len(quiet) * BUSY
            self._expect(is_rare, f"while nothing was broken: {len(wrong)} like {wrong[:3]}")
        yield "requests", len(self.web.asked)
        yield (
            "answered by 503 or a broken connection",
            sum(each.status in (0, 503) for each in self.web.asked),
        )
        yield "of them: a payment may be on its way", sum(e.is_refused for e in self.web.asked)
        yield "answered by 500", sum(each.status == 500 for each in self.web.asked)
        yield "requests while nothing was broken", len(quiet)
        yield "of them told that it is busy", len(wrong)
        if quiet:
            yield "of them the middle, ms", round(1000 * statistics.median(seconds))
            yield "one in a hundred took, ms", round(1000 * seconds[int(len(seconds) * 0.99)])
            yield "the longest, ms", round(1000 * seconds[-1])
        self.failures += [f"a 500: {each}" for each in self.web.asked if each.status == 500]

    def _was_broken(self, asked) -> bool:
        return any(
            began <= asked.at + asked.seconds and asked.at <= ended + self.recovery_seconds
            for began, ended, _ in self.weather.broken
        )

    def _programs(self):
        for name, then, now in self.boxes.growth(self.since) if self.since else []:
            for what in ("rss_mb", "threads", "files"):
                yield f"{name}: {what}", f"{getattr(then, what):.0f} → {getattr(now, what):.0f}"
            more_threads = max(0, now.threads - then.threads)
            if (
                now.rss_mb > then.rss_mb * GROWTH
                or now.threads > THREADS_MAX
                or now.files > then.files * GROWTH + 3 * more_threads
            ):
                self.failures.append(f"{name} grows: {then} → {now}")
        expected, others = self.boxes.errors()
        for kind, count in expected.items():
            yield f"errors logged because of {kind}", count
        self.failures += [f"logged: {line}" for line in others[:40]]

    def _problems(self):
        told = [each.text for each in problems.found(self.shop)]
        late = [line for line in told if "a tip for a hosting that was gone" in line]
        gaps = [line for line in told if "the calendar had a gap" in line]
        others = [line for line in told if line not in (*late, *gaps)]
        yield "problems: tips that came too late", len(late)
        yield "problems: closings that a clock holds up", len(gaps)
        yield "problems: others", len(others)
        self.failures += [f"problem: {line}" for line in others]


def moment_of(order: Order) -> int:
    return min(order.applied_at, order.paid_at)


def paid_orders():
    return Order.select().where(Order.paid_at.is_null(False))


class Indexed:
    """A panel that no longer changes: its lists of records are made once."""

    def __init__(self, panel):
        self._panel, self._records = panel, {}

    def records(self, kind: str) -> list[dict]:
        if kind not in self._records:
            self._records[kind] = self._panel.records(kind)
        return self._records[kind]

    def __getattr__(self, name: str):
        return getattr(self._panel, name)
