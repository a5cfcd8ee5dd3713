"""Pages ask the database nothing twice."""

import logging
from collections import Counter

import pytest
from flask import url_for

from lightningspace.base.models import Domain, Order, Service, Upload
from lightningspace.pages.control import PAGES
from tests.conftest import enter, place_order
from tests.operator.test_pages import log_in

DOMAIN, ADDRESS = "bella.example", "info@alice.shop.test"
FRAGMENTS = (
    "/account/access/card",
    "/account/known/file",
    "/account/status",
    "/account/upload",
    "/account/upload/status",
    "/account/tips/jar",
    "/account/access/wallets/new",
    "/account/mail/addresses",
    f"/account/mail/{ADDRESS}",
    f"/account/mail/{ADDRESS}/status",
    f"/account/domains/{DOMAIN}/status",
    f"/account/domains/{DOMAIN}/remove",
    "/account/areas/members",
    "/account/areas/members/status",
)


@pytest.fixture
def owner(client, alice):
    """A customer with a domain, a tip jar and a paid area, none of which works yet."""
    Domain.create(account=alice, name=DOMAIN, added_at=0, look_at=0, verified_at=0)
    for kind, name in (
        ("alias", DOMAIN),
        ("tipjar", "alice.shop.test"),
        ("paidarea", "members"),
    ):
        Service.create(account=alice, kind=kind, name=name)
    Upload.create(account=alice, id="upload", total=1, sent_at=0)
    return enter(client, alice)


@pytest.fixture
def repeats(caplog):
    """The queries that a request makes more than once, with their parameters."""

    def repeats(client, path) -> list[str]:
        client.get(path)  # the first visit of the page of tips makes an offer
        caplog.clear()
        with caplog.at_level(logging.DEBUG, "peewee"):
            assert client.get(path).status_code == 200
        ran = Counter(repr(record.msg) for record in caplog.records if record.name == "peewee")
        assert ran
        return [query for query, times in ran.items() if times > 1]

    return repeats


def test_no_page_of_the_control_center_repeats_a_query(owner, repeats, app, subtests):
    with app.test_request_context():
        paths = [url_for(endpoint) for endpoint, *_ in PAGES.values()]
    for path in (*paths, *FRAGMENTS):
        with subtests.test(path):
            assert repeats(owner, path) == []


def test_no_page_of_the_operator_repeats_a_query(owner, repeats, this_shop, subtests):
    place_order(owner)
    log_in(owner, this_shop)
    page = "/operator/hostings/alice"
    of_order = f"/operator/orders/{Order.get().token}"
    paths = ["", "/problems", "/refunds", "/money", "/login"]
    paths += [f"/hostings{asked}" for asked in ("", "?q=nobody", "?standing=running")]
    csv = "/operator/payments.csv?first=2026-01-01&last=2030-01-01"
    for path in (*(f"/operator{each}" for each in paths), page, f"{page}/close", of_order, csv):
        with subtests.test(path):
            assert repeats(owner, path) == []


def test_the_page_of_an_order_repeats_no_query(client, repeats):
    place_order(client)
    assert repeats(client, f"/orders/{Order.get().token}/status") == []
