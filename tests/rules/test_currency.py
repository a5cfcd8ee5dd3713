"""Prices in another currency: shown only while the source gives plausible and recent rates."""

import json
import threading
import time
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from lightningspace.base import models
from lightningspace.base.clock import DAY
from lightningspace.base.models import Fact
from lightningspace.outside import rates
from lightningspace.rules import currency, income
from tests.conftest import SOON_SECONDS, eventually, with_settings

HOUR = 60 * 60


class Source(ThreadingHTTPServer):
    """A source of rates. `answer`: what it sends, in parts; `status`: its HTTP status."""

    daemon_threads = True

    def __init__(self):
        self.asked, self.status = 0, 200
        self.answer: list[bytes] = []
        super().__init__(("127.0.0.1", 0), Telling)

    def says(self, said: object) -> None:
        self.answer = [said if isinstance(said, bytes) else json.dumps(said).encode()]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/ticker"


class Telling(BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.asked += 1
        self.send_response(self.server.status)
        self.send_header("Location", f"{self.server.url}?again")
        self.end_headers()
        for part in self.server.answer:
            self.wfile.write(part)

    def log_message(self, *_):
        pass


@pytest.fixture
def source():
    told = Source()
    told.says({"EUR": {"last": 60000.5}})
    serving = threading.Thread(target=told.serve_forever, args=(0.02,))
    serving.start()
    yield told
    told.shutdown()
    serving.join()
    told.server_close()


@pytest.fixture
def asking(source, more_settings):
    """Settings of a shop that asks the source."""
    more_settings |= {"FIAT": "EUR", "FIAT_RATE_URL": f"{source.url}#EUR.last"}


with_source = pytest.mark.usefixtures("asking")


# -- the source ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "path", "rate"),
    [
        ({"EUR": {"last": 60000.5}}, "EUR.last", "60000.5"),
        ({"EUR": {"last": "60000.50"}}, "EUR.last", "60000.50"),
        ({"result": {"XXBTZEUR": {"c": ["60000.1", "1"]}}}, "result.XXBTZEUR.c.0", "60000.1"),
        ({"rate": 60000}, "rate", "60000"),
        ([{"rate": 1}], "0.rate", "1"),
    ],
)
def test_the_number_at_the_path_is_the_rate(source, said, path, rate):
    source.says(said)
    assert rates.fetch(source.url, tuple(path.split("."))) == Decimal(rate)


LIES = {
    "negative": -60000,
    "nothing": 0,
    "tiny": 1e-9,
    "enormous": 10**13,
    "endless": b'{"EUR": {"last": Infinity}}',
    "not a number": b'{"EUR": {"last": NaN}}',
    "with an exponent": b'{"EUR": {"last": 1e999999999}}',
    "text": "sixty",
    "foreign digits": "٦٠٠٠٠",
    "true": True,
    "null": None,
    "a list": [60000],
    "another object": {"EUR": 60000},
    "HTML": b"<!doctype html><title>Log in</title>",
    "no text": b"\xff\xfe\0",
    "empty": b"",
    "deep": b"[" * 100_000,
    "cut off": b'{"EUR": {"last": 600',
    "huge": b" " * 300_000 + b'{"EUR": {"last": 60000}}',
}


@pytest.mark.parametrize("lie", LIES)
def test_an_implausible_answer_gives_no_rate(source, lie):
    said = LIES[lie]
    source.says(said if isinstance(said, bytes) else {"EUR": {"last": said}})
    with pytest.raises(rates.RateError):
        rates.fetch(source.url, ("EUR", "last"))


@pytest.mark.parametrize("path", ["USD.last", "EUR", "EUR.last.0", "EUR.0", "0"])
def test_a_path_that_leads_nowhere_gives_no_rate(source, path):
    with pytest.raises(rates.RateError, match="no number at"):
        rates.fetch(source.url, tuple(path.split(".")))


@pytest.mark.parametrize("status", [301, 302, 404, 429, 500])
def test_only_status_200_counts_and_redirects_are_not_followed(source, status):
    source.status = status
    with pytest.raises(rates.RateError, match=str(status)):
        rates.fetch(source.url, ("EUR", "last"))
    assert source.asked == 1


def test_an_unreachable_source_gives_no_rate():
    with pytest.raises(rates.RateError):
        rates.fetch("http://127.0.0.1:1/", ("EUR",))


def test_a_source_that_dribbles_is_cut_off(source):

    def slowly():
        while True:
            yield b" "
            time.sleep(0.05)

    source.answer = slowly()
    started = time.monotonic()
    with pytest.raises(rates.RateError):
        rates.fetch(source.url, ("EUR", "last"), seconds=0.5)
    assert time.monotonic() - started < SOON_SECONDS


# -- what is shown ---------------------------------------------------------------------


@with_source
def test_a_rate_is_asked_for_every_ten_minutes(this_shop, source, time_machine):
    assert currency.rate(this_shop) is None
    for _ in range(3):
        currency.look(this_shop)
    assert source.asked == 1
    assert currency.rate(this_shop).of(630_000) == Decimal("0.37800315")
    time_machine.forward(10 * 60)
    source.says({"EUR": {"last": 50000}})
    currency.look(this_shop)
    assert source.asked == 2
    assert currency.rate(this_shop).per_bitcoin == 50000


@with_source
def test_the_first_rate_of_each_day_is_kept(this_shop, source, time_machine):
    time_machine.moment = 7 * DAY
    for seconds, price in ((0, 60000), (10 * 60, 50000), (DAY, 40000)):
        time_machine.forward(seconds)
        source.says({"EUR": {"last": price}})
        currency.look(this_shop)
    assert income.rates("EUR", 0, 9 * DAY) == {7: 60000, 8: 40000}
    assert income.rates("EUR", 8 * DAY, 9 * DAY) == {8: 40000}
    assert income.rates("USD", 0, 9 * DAY) == {}


@with_source
def test_the_worker_asks_for_the_rate(this_shop, at_work):
    eventually(lambda: currency.rate(this_shop))


@pytest.fixture
def failing(source):
    source.status = 500


@with_source
def test_the_worker_logs_one_line_about_a_missing_rate(failing, at_work, caplog):
    eventually(lambda: "the source of the rate answered 500" in caplog.text)
    assert "Traceback" not in caplog.text


@with_source
def test_a_rate_is_shown_for_six_hours(this_shop, source, time_machine):
    currency.look(this_shop)
    source.says("<html>")
    time_machine.forward(6 * HOUR - 1)
    with pytest.raises(rates.RateError):
        currency.look(this_shop)
    assert currency.rate(this_shop)
    time_machine.forward(1)
    assert currency.rate(this_shop) is None


@with_source
def test_a_rate_from_the_future_is_not_shown(this_shop, time_machine):
    currency.look(this_shop)
    time_machine.forward(-HOUR)
    assert currency.rate(this_shop) is None
    currency.look(this_shop)
    assert currency.rate(this_shop)


@with_source
def test_the_rate_of_another_currency_is_not_used(this_shop):
    with models.transaction():
        models.set_fact(currency.FACT.format(currency="USD"), "1 1")
    assert currency.rate(this_shop) is None


@with_settings(FIAT="EUR", FIAT_RATE="60000")
def test_a_fixed_rate_has_no_time(this_shop):
    assert currency.rate(this_shop) == currency.Rate("EUR", Decimal(60000), None)
    currency.look(this_shop)
    assert not Fact.select().where(Fact.name.startswith("price of")).exists()


def test_without_a_currency_none_is_shown(this_shop):
    assert currency.rate(this_shop) is None
