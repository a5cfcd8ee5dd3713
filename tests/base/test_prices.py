"""Extras, which are sold beside space: each is declared once, and the rest follows from that."""

from dataclasses import fields

import pytest

from lightningspace.base.config import Config
from lightningspace.base.models import Account, Order
from lightningspace.base.prices import EXTRAS, Prices, Size
from lightningspace.rules import order_book

SETTINGS = {each.name for each in fields(Config)}


@pytest.mark.parametrize("extra", EXTRAS, ids=lambda extra: extra.name)
def test_an_extra_has_its_columns_and_settings(extra):
    assert {f"{extra.name}_included", f"price_msat_per_{extra.one}_day"} <= SETTINGS
    for row in (Account, Order):
        assert getattr(row, extra.column).default == 0


def test_a_size_is_space_and_each_extra():
    assert [each.name for each in fields(Size)] == ["space_mb", *(each.column for each in EXTRAS)]
    assert Size.of(Account(space_mb=100, extra_domains=2)) == Size(100, 0, 2)


def test_a_larger_extra_does_not_fit_into_the_earlier_size():
    for extra in EXTRAS:
        more = Size(100).with_one_more(extra.name)
        assert Size(100).fits_in(more)
        assert not more.fits_in(Size(500))


def test_each_extra_has_its_price():
    prices = Prices(5000, 20000, {"addresses": 10, "domains": 300})
    assert prices.rate(Size(100, 2, 3)) == prices.rate(Size(100)) + 2 * 10 + 3 * 300


def test_an_extra_has_a_singular_and_a_plural():
    assert [extra.counted(1) for extra in EXTRAS] == [
        "1 extra mailbox or forward",
        "1 extra domain",
    ]
    assert [extra.counted(2) for extra in EXTRAS] == [
        "2 extra mailboxes or forwards",
        "2 extra domains",
    ]


def test_invoices_name_the_extras_if_there_are_any():
    order = Order(token="a" * 32, kind="resize", space_mb=500, extra_domains=2)
    assert order_book.describe(order) == "Web hosting: resize 500 MB 0 addresses 2 domains aaaaaaaa"
    order.extra_domains = 0
    assert order_book.describe(order) == "Web hosting: resize 500 MB aaaaaaaa"
