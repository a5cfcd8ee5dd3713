"""A full, read-only or unreachable database: pages say so, and the shop recovers by itself.

Web and worker run as in production. Nothing is restarted once the database is well again.
"""

import os
import shutil
import subprocess
from contextlib import contextmanager

import psycopg
import pytest
import requests

from lightningspace.base import models
from lightningspace.base.models import Account, Order
from tests.breaking import Server, disk, full
from tests.conftest import (
    POSTGRESQL,
    PgBouncer,
    eventually,
    free_port,
    order_form,
)
from tests.programs import Program

WISH = {"space_mb": 100, "duration": 1, "unit": "hours"}


@pytest.fixture
def start(started, tmp_path):
    def start(env, *command) -> Program:
        started.append(Program([*command], os.environ | env, tmp_path / f"program-{len(started)}"))
        return started[-1]

    return start


class Shop:
    """A running shop, and what its customers do: `wallet` pays for them."""

    def __init__(self, start, env, wallet):
        host = f"127.0.0.1:{free_port()}"
        self.url, self.wallet = f"http://{host}", wallet
        web = start(env, "gunicorn", "wsgi:app", "--threads", "4", "--bind", host)
        self.programs = [web, start(env, "flask", "--app", "wsgi", "worker")]
        eventually(self._is_open)

    def _is_open(self) -> bool:
        assert all(program.says("") for program in self.programs)
        try:
            return requests.get(f"{self.url}/healthz", timeout=5).ok
        except requests.ConnectionError:
            return False

    def order(self, name: str, browser: requests.Session | None = None) -> requests.Response:
        browser = browser or self.browser()
        form = browser.form | {"username": name, "password": "correct horse"}
        return browser.post(f"{self.url}/orders", form, allow_redirects=False, timeout=40)

    def browser(self) -> requests.Session:
        """A browser that has already opened the form."""
        browser = requests.Session()
        browser.form = order_form(browser.get(f"{self.url}/", timeout=40).text)
        return browser

    def pay(self, answer: requests.Response) -> None:
        assert answer.status_code == 303, answer.text
        self.wallet.pay(Order.get_by_id(answer.headers["Location"].rpartition("/")[2]).bolt11)

    def is_ready(self, name: str) -> bool:
        account = Account.get_or_none(Account.username == name)
        return account is not None and account.ready_at is not None

    def assert_says_so(self, answer: requests.Response) -> None:
        """The answer is the shop's own page about a database that does not work."""
        assert answer.status_code == 503, answer.text
        assert "Nothing is lost" in answer.text
        assert answer.headers["Retry-After"] == "10"
        assert "Traceback" not in answer.text and "rror:" not in answer.text

    def sale_over_the_api(self) -> requests.Response:
        return requests.post(f"{self.url}/api/v1/hosting", json=WISH, timeout=40)


def lives_through(shop: Shop, node, break_it) -> None:
    """Break the database: an order from before is paid meanwhile, and served afterwards."""
    shop.pay(shop.order("alice"))
    eventually(lambda: shop.is_ready("alice"))
    open_order, ordering = shop.order("bob"), shop.browser()
    bolt11 = Order.get_by_id(open_order.headers["Location"].rpartition("/")[2]).bolt11
    invoices = len(asked_for(node))
    with break_it():
        shop.wallet.pay(bolt11)
        eventually(lambda: shop.order("carol", ordering).status_code == 503)
        shop.assert_says_so(shop.order("carol", ordering))
        sale = shop.sale_over_the_api()
        shop.assert_says_so(sale)
        assert sale.headers["Content-Type"] == "application/problem+json"
        eventually(lambda: "failed: " in shop.programs[1].said)
    eventually(lambda: shop.is_ready("bob"))
    assert len(asked_for(node)) == invoices, "an order that could not be written has an invoice"
    eventually(lambda: shop.order("carol", ordering).status_code == 303)
    shop.pay(shop.order("carol", ordering))
    eventually(lambda: shop.is_ready("carol"))
    assert Order.select().count() == 3
    assert "Exception on " not in shop.programs[0].said, "some page was a 500"
    assert all(program.says("") for program in shop.programs), "it was restarted"


def asked_for(node) -> set[str]:
    return {params["label"] for method, params in list(node.calls) if method == "invoice"}


# -- SQLite ----------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path):
    with disk(tmp_path / "disk", mb=4) as is_own:
        if not is_own:
            pytest.skip("needs to mount a file system: run it as root")
        yield tmp_path / "disk"


@pytest.fixture
def database_on_it(small_disk, database_url, more_settings):
    where = small_disk / "shop.sqlite3"
    shutil.move(database_url.removeprefix("sqlite:///"), where)
    more_settings["DATABASE_URL"] = f"sqlite:///{where}"


on_a_small_disk = pytest.mark.usefixtures("database_on_it")


@on_a_small_disk
def test_the_shop_reports_and_survives_a_full_disk(this_shop, env, node, wallet, small_disk, start):
    shop = Shop(start, env, wallet)
    lives_through(shop, node, lambda: full(small_disk))
    assert "database or disk is full" in shop.programs[0].said


@on_a_small_disk
def test_a_read_only_database_stops_the_start_with_a_message(this_shop, env, small_disk, start):
    models.db.close()
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    for program in (("gunicorn", "wsgi:app"), ("flask", "--app", "wsgi", "worker")):
        refused = start(env, *program)
        assert refused.wait() == 4
        assert "The shop does not start: the database of DATABASE_URL" in refused.said
        assert "Traceback" not in refused.said


# -- PostgreSQL ------------------------------------------------------------------------


on_postgresql = pytest.mark.parametrize("database_kind", ["postgresql"], indirect=True)


@on_postgresql
@pytest.mark.parametrize("happens", ["gone", "read_only"])
def test_the_shop_survives_a_postgresql_that_is_gone_or_read_only_for_a_while(
    this_shop, env, node, wallet, start, happens
):
    with psycopg.connect(POSTGRESQL, autocommit=True) as connection:
        server = Server(connection, env["DATABASE_URL"])
        lives_through(Shop(start, env, wallet), node, getattr(server, happens))


@on_postgresql
def test_the_shop_survives_a_restart_of_pgbouncer(this_shop, env, node, wallet, start, tmp_path):
    with PgBouncer(tmp_path, env["DATABASE_URL"]) as between:

        @contextmanager
        def gone():
            between.stop()
            yield
            between.start()

        env["DATABASE_URL"] = between.url
        lives_through(Shop(start, env, wallet), node, gone)
