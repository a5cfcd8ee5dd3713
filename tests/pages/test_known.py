"""All that the shop knows about a hosting: the page, the file, and who may see them."""

import json

import pytest

from lightningspace.base.clock import iso_time, now
from lightningspace.base.models import (
    Account,
    Domain,
    Notice,
    Offer,
    Order,
    Service,
    Session,
    Token,
    Upload,
)
from lightningspace.base.prices import DAY
from lightningspace.outside import l402
from lightningspace.pages.known import FILE_ROWS, PAGE_ROWS
from lightningspace.rules import domains, ledger, orders, sessions, stored, tokens, uploads
from tests.conftest import enter, open_account, work

EVIL = "<script>alert(1)</script> \\ \" ' é"


@pytest.fixture(autouse=True)
def time_stands_still(time_machine):
    """So that the moment at which a row is deleted does not change."""


@pytest.fixture
def browser(client, alice):
    return enter(client, alice)


@pytest.fixture
def rich(this_shop, alice, wallet, worker) -> Account:
    """An account with a row in every table."""
    tokens.hand_out(this_shop, alice.id, "for my phone", l402.WHOLE)
    Domain.create(account=alice, name="bella.example", added_at=now(), look_at=now())
    Upload.create(id="upload", account=alice, total=3, sent_at=now())
    Offer.create(id="offer", account=alice, bolt12="lno1", is_active=True, is_due=False)
    tip = orders.top_up(this_shop, alice.id, orders.Tip(5000, "page", EVIL), None, "a form")
    wallet.pay(tip.bolt11)
    work(worker)
    orders.extend(this_shop, alice.id, 1, "hours", orders.Buyer("a browser", "another form"))
    Notice.create(account_id=alice.id, kind="ending-7d", about=1, channel="email", written_at=now())
    Account.update(email="alice@example.org").execute()
    return Account.get()


def file_of(browser, query="") -> dict:
    answer = browser.get(f"/account/known/file{query}")
    assert answer.mimetype == "application/json"
    assert "attachment" in answer.headers["Content-Disposition"]
    return json.loads(answer.text)


def rows_of(told: dict, table: str) -> list[dict]:
    return [row for row in told["rows"] if row["table"] == table]


def test_the_page_shows_every_row(browser, rich):
    page = browser.get("/account/known").text
    for text in ("alice@example.org", "for my phone", "bella.example", "lno1", "A tip of 5 sat"):
        assert text in page
    assert "An order that is not paid" in page
    assert "<script>alert" not in page and "&lt;script&gt;alert(1)" in page
    assert page.count("<details>") == len(file_of(browser)["rows"])


def test_the_file_has_every_row_of_the_account_and_no_other(browser, rich, this_shop):
    open_account(this_shop, "bobby")
    told = file_of(browser)
    for table in (Session, Token, Service, Upload, Domain, Offer, Order, Notice):
        its_own = table.select().where(table.account_id == rich.id).count()
        assert len(rows_of(told, table._meta.table_name)) == its_own > 0
    assert "bobby" not in json.dumps(told)
    assert [row["columns"]["username"] for row in rows_of(told, "accounts")] == ["alice"]
    assert [row["columns"]["message"] for row in rows_of(told, "orders")] == [None, EVIL]


def test_each_row_has_the_day_on_which_it_is_deleted(browser, rich, this_shop):
    told, end = file_of(browser), ledger.closes_at(this_shop, rich)
    unpaid = Order.get(Order.paid_at.is_null())
    goes = {
        "accounts": [end],
        "sessions": [now() + sessions.LASTS_SECONDS],
        "tokens": [end],
        "uploads": [now() + uploads.LASTS_SECONDS + uploads.SHOWN_SECONDS],
        "domains": [now() + domains.CLAIM_SECONDS],
        "notices": [end],
        "offers": [None],
        "orders": [unpaid.expires_at + DAY, None],
    }
    for table, moments in goes.items():
        told_of = [row["deleted_at"] for row in rows_of(told, table)]
        assert told_of == [at and iso_time(at) for at in moments], table
    assert f'Kept until <time datetime="{iso_time(end)}"' in browser.get("/account/known").text


def test_an_unpaid_tip_is_not_listed(browser, alice, this_shop):
    orders.top_up(this_shop, alice.id, orders.Tip(5000, "page", "not for you"), None, "a form")
    assert rows_of(file_of(browser), "orders") == []
    assert "not for you" not in browser.get("/account/known").text


def test_secrets_are_named_and_not_shown(browser, rich):
    of_one = {
        "accounts": (Account, Account.id == rich.id, {"leased_until": 1}),
        "services": (Service, Service.kind == "ftp", {}),
        "notices": (Notice, Notice.about == 1, {}),
        "orders": (Order, Order.door == "page", {}),
    }
    hidden = [name for entry in stored.STORED if not entry.is_shown for name in entry.names]
    named = [(table, name) for table, name in hidden if table in of_one]
    for table, (model, this, facts) in of_one.items():
        # The token of an order names it, and the epoch is only a number.
        names = {name for of, name in named if of == table} - {"token", "receipt_epoch"}
        model.update(facts | dict.fromkeys(names, "SECRET")).where(this).execute()
    page, told = browser.get("/account/known").text, browser.get("/account/known/file").text
    for text in ("SECRET", Token.get().id, *(order.token for order in Order.select())):
        assert text not in page and text not in told
    for _, name in named:
        assert f"<code>{name}</code> stored, not shown" in page
        assert f'"{name}"' in told


def test_the_file_needs_a_recent_proof(browser, alice, time_machine):
    time_machine.forward(sessions.PROVED_SECONDS)
    answer = browser.get("/account/known/file")
    assert answer.location == "/account/prove?then=/account/known"
    assert browser.get("/account/known").status_code == 200


def test_thousands_of_rows_come_in_parts(browser, alice):
    for number in range(FILE_ROWS + PAGE_ROWS):
        about = {"account_id": alice.id, "kind": "ending-7d", "about": number}
        Notice.create(**about, channel="email", written_at=now())
    rows, seen = 1 + Session.select().count() + Service.select().count() + FILE_ROWS + PAGE_ROWS, []
    first = file_of(browser)
    assert len(first["rows"]) == FILE_ROWS
    assert "?after=" in first["next"]
    last = file_of(browser, first["next"].partition("/file")[2])
    assert last["next"] is None
    seen = [row["columns"] for row in first["rows"] + last["rows"]]
    assert len(seen) == rows and all(seen.count(row) == 1 for row in seen[-100:])
    page = browser.get("/account/known").text
    assert page.count("<details>") == PAGE_ROWS and "More rows" in page
    assert f"{FILE_ROWS} rows at most" in page


@pytest.mark.each_database
def test_an_impossible_part_is_not_found(browser):
    for after in ("", "x", "0-", "-1-0", "0-1%00", "0-9999999999", "1-1-1", "٣-٣"):
        for path in ("/account/known", "/account/known/file"):
            assert browser.get(f"{path}?after={after}").status_code == 404, (path, after)


@pytest.mark.each_database
def test_after_the_last_row_there_is_nothing(browser):
    assert "There are no more." in browser.get("/account/known?after=99-0").text
    assert file_of(browser, "?after=6-999999999")["rows"] == []
