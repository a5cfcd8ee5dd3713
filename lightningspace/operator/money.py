"""Income by day and month, and each payment as a line of CSV; `flask payments`."""

import csv
import io
import itertools
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date, timedelta

import click
from flask.cli import with_appcontext

from lightningspace.base.clock import DAY, iso_time, now
from lightningspace.base.money_models import IncomeOfDay
from lightningspace.rules import currency, income, refunds
from lightningspace.rules.income import Kind, Payment
from lightningspace.shop import Shop, this_shop

DAYS, MONTHS = 30, 24
EPOCH = date(1970, 1, 1)
IN_WORDS = {
    Kind.HOSTING: "new hosting",
    Kind.MORE: "more time or another size",
    Kind.TIP: "tip",
    Kind.GATE: "gate, all of that day",
    Kind.LOST: "no order waited for it",
    Kind.REFUND: "paid back, with its fee",
}
LINES_AT_ONCE = 500


@dataclass
class Span:
    """A day or a month. `msat`: what came in by kind, and as REFUND, below 0, what was paid back.
    `times`: how many payments came in.
    """

    begins: date
    msat: Counter[Kind] = field(default_factory=Counter)
    times: int = 0

    @property
    def total_msat(self) -> int:
        return self.msat.total()

    def add(self, row: IncomeOfDay) -> None:
        self.msat[Kind(row.kind)] += row.msat
        self.times += row.times

    def add_refund(self, refund: Payment) -> None:
        self.msat[Kind.REFUND] += refund.msat


def today() -> Span:
    return _spans([_date_of(now() // DAY)], lambda day: day)[0]


def of_days(first: int, count: int) -> Span:
    """One span of `count` days; `first` counts days since 1970."""
    span = Span(_date_of(first))
    for row in income.since(first):
        if row.day < first + count:
            span.add(row)
    for refund in _paid_back(first * DAY, (first + count) * DAY):
        span.add_refund(refund)
    return span


def by_day() -> list[Span]:
    """The last 30 days, today first."""
    last = _date_of(now() // DAY)
    return _spans([last - timedelta(number) for number in range(DAYS)], lambda day: day)


def by_month() -> list[Span]:
    """The last 24 months, this one first."""
    last = _date_of(now() // DAY)
    count = last.year * 12 + last.month - 1
    months = [date(n // 12, n % 12 + 1, 1) for n in range(count, count - MONTHS, -1)]
    return _spans(months, lambda day: day.replace(day=1))


def _spans(begins: list[date], span_of) -> list[Span]:
    spans = {each: Span(each) for each in begins}
    first = (begins[-1] - EPOCH).days
    for row in income.since(first):
        span = spans.get(span_of(_date_of(row.day)))
        if span:  # None: paid in days to come, by a node whose clock is ahead
            span.add(row)
    for refund in _paid_back(first * DAY, now() + 1):
        spans[span_of(_date_of(refund.paid_at // DAY))].add_refund(refund)
    return list(spans.values())


def _paid_back(begin: int, until: int) -> Iterator[Payment]:
    for each in refunds.paid_back(begin, until):
        msat = each.msat + (each.fee_msat or 0)
        yield Payment(each.paid_at, each.payment_hash, -msat, Kind.REFUND)


def _payments(begin: int, until: int) -> Iterator[Payment]:
    """What came in, then what was paid back."""
    return itertools.chain(income.payments(begin, until), _paid_back(begin, until))


def _date_of(day: int) -> date:
    return EPOCH + timedelta(day)


# -- for the tax office ----------------------------------------------------------------


def moments(first: date, last: date) -> tuple[int, int]:
    """When the first day begins, and when the last one is over."""
    return (first - EPOCH).days * DAY, ((last - EPOCH).days + 1) * DAY


def lines(shop: Shop, begin: int, until: int) -> Iterator[str]:
    """Payments and refunds from `begin` to before `until` as CSV, in parts of some lines. Nothing
    in it was written by a customer.
    """
    fiat = shop.config.fiat
    rates = income.rates(fiat, begin, until)
    head = ["time", "payment hash", "msat", "what"]
    yield _written([[*head, f"{fiat} for a bitcoin", fiat] if rates else head])
    paid = _payments(begin, until)
    while some := list(itertools.islice(paid, LINES_AT_ONCE)):
        yield _written(_row(payment, rates, fiat) for payment in some)


def _row(payment: Payment, rates: dict, fiat: str) -> list:
    row = [iso_time(payment.paid_at), payment.payment_hash or "", payment.msat]
    row.append(IN_WORDS[payment.kind])
    if rates:
        per_bitcoin = rates.get(payment.paid_at // DAY)
        rate = per_bitcoin and currency.Rate(fiat, per_bitcoin, None)
        row += [per_bitcoin, f"{rate.of(payment.msat):.4f}"] if rate else ["", ""]
    return row


def _written(rows) -> str:
    text = io.StringIO()
    csv.writer(text).writerows(rows)
    return text.getvalue()


_day = click.DateTime(["%Y-%m-%d"])


@click.command("payments")
@click.argument("first", type=_day)
@click.argument("last", type=_day)
@click.option("--csv", "as_csv", is_flag=True, help="Print each payment as a line of CSV.")
@with_appcontext
def payments(first, last, as_csv):
    """Print what was paid from the day FIRST to the end of the day LAST (UTC)."""
    begin, until = moments(first.date(), last.date())
    if as_csv:
        for some in lines(this_shop(), begin, until):
            click.echo(some, nl=False)
        return
    sums: Counter[Kind] = Counter()
    for payment in _payments(begin, until):
        sums[payment.kind] += payment.msat
    for kind in Kind:
        click.echo(f"{IN_WORDS[kind]}: {sums[kind]} msat")
