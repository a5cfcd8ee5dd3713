"""The front page: what is sold, what it costs, and the form that orders it."""

import json
import re

import pytest

from lightningspace.base.models import Order, Server
from lightningspace.visitors.forms import TIMES
from tests.conftest import ROOT, place_order, with_settings


def in_words(page: str) -> str:
    """The text of a page on one line."""
    return " ".join(re.sub("<[^>]+>", "", page).split())


# -- what is sold ----------------------------------------------------------------------


def test_the_front_page_shows_prices_of_each_size(client):
    page = in_words(client.get("/").text)
    assert "Space Hour Day Month Year" in page
    assert "100 MB 1 7 210 2 555" in page
    assert "5 GB 5 105 3 150 38 325" in page
    assert "A blog for a year: 5 475 sat (500 MB, 365 days)" in page


@with_settings(SPACE_SIZES_MB="50,200", ADDRESSES_INCLUDED="1", PRICE_MSAT_PER_ADDRESS_DAY="0")
def test_what_is_said_of_sizes_and_extras_follows_the_settings(client):
    page = in_words(client.get("/").text)
    assert "A page for a weekend: 12 sat (50 MB, 2 days)" in page
    assert "A blog for a year: 3 285 sat (200 MB, 365 days)" in page
    assert "1 mailbox or forward included, more for nothing." in page
    assert "1 domain included, more for 1 sat a day each." in page


def test_what_happens_in_the_end_follows_the_settings(client):
    page = in_words(client.get("/").text)
    assert "switched off and kept for 14 days" in page
    assert "for another 365 days" in page
    assert "send once 30 days are paid" in page
    assert "Its price holds for 15 minutes" in page


@with_settings(GRACE_DAYS="0", NAME_QUARANTINE_DAYS="0", MAIL_SEND_MIN_DAYS="0")
def test_what_does_not_happen_in_the_end_is_not_promised(client):
    page = in_words(client.get("/").text)
    assert "Everything is deleted, and nobody can bring it back." in page
    assert "kept for" not in page and "another 0" not in page
    assert "They receive from the first minute, and send." in page


@with_settings(PANEL_SERVER_ID="1,2,3", CAPACITY_MB="1000,1000,0")
def test_of_php_the_versions_are_named_that_each_selling_server_has(client):
    assert "The server’s own version Files" in in_words(client.get("/").text)
    for server, versions in ((1, ["8.1", "8.3", "8.4"]), (2, ["8.3", "8.4", "<b>8.5"]), (3, [])):
        named = json.dumps([(id, f"PHP {name}") for id, name in enumerate(versions, 1)])
        Server.update(php_versions=named).where(Server.id == server).execute()
    assert "or one of these: PHP 8.3, PHP 8.4 Files" in in_words(client.get("/").text)
    Server.update(php_versions='[[1, "<b>8.5"]]').where(Server.capacity_mb > 0).execute()
    assert "or one of these: &lt;b&gt;8.5" in client.get("/").text


def test_money_back_is_a_question_of_the_terms(client):
    assert "No, payments cannot be refunded." in client.get("/").text


@with_settings(TERMS_FILE=str(ROOT / "LICENSE"))
def test_who_has_terms_of_their_own_says_there_what_is_refunded(client):
    page = client.get("/").text
    assert 'That is in the <a href="/terms">terms</a>' in page
    assert "refunded" not in page


# -- the form --------------------------------------------------------------------------


def test_the_order_form_can_be_filled_in_by_a_link(client):
    page = client.get("/?space_mb=500&duration=12&unit=days").text
    assert 'value="500" checked' in page
    assert 'value="12"' in page
    assert '<option selected value="days">' in page
    assert "for 500 MB, 12 days" in page


def test_a_link_with_nonsense_shows_the_form_as_it_is(client, subtests):
    for query in [
        *("space_mb=7", "space_mb=100&duration=0&unit=days", "duration=%FF%00&unit[]=x", "a=b")
    ]:
        with subtests.test(query):
            answer = client.get(f"/?{query}")
            assert answer.status_code == 200
            assert 'value="100" checked' in answer.text
            assert 'role="alert"' not in answer.text


def test_asking_for_the_price_answers_it_and_mints_nothing(client, node):
    answer = client.get("/price?space_mb=1000&duration=30&unit=days")
    assert "<strong>750 sat</strong> <span>for 1 GB, 30 days</span>" in answer.text
    assert node.calls == []
    assert Order.select().count() == 0


def test_what_is_not_sold_has_no_price(subtests, client):
    for query in [
        "",
        "space_mb=1&duration=1&unit=days",
        "space_mb=100&duration=731&unit=days",
        "space_mb=100&duration=1_0&unit=days",
        "space_mb=100&duration=3&unit=weeks",
        "space_mb=100&unit=days",
        "space_mb=%00&duration=%FF&unit=%ED%A0%80",
    ]:
        with subtests.test(query=query):
            answer = client.get(f"/price?{query}")
            assert answer.status_code == 200
            assert "sat" not in answer.text
            assert "Choose a size" in answer.text


def test_show_price_keeps_what_was_typed_except_the_password(client, node):
    typed = {"username": "alice", "email": "a@example.org", "password": "correct horse"}
    terms = {"space_mb": "500", "duration": "12", "unit": "days"}
    page = place_order(client, show="price", **typed, **terms)
    assert page.status_code == 200
    assert "<strong>180 sat</strong> <span>for 500 MB, 12 days</span>" in page.text
    assert 'value="alice"' in page.text
    assert 'value="a@example.org"' in page.text
    assert "correct horse" not in page.text
    assert node.calls == []
    assert Order.select().count() == 0


def test_show_price_of_nothing_says_so_beside_the_field(client):
    page = place_order(client, show="price", duration="0")
    assert page.status_code == 400
    assert 'id="duration-error"' in page.text


@pytest.mark.parametrize(
    ("time", "price", "in_words"),
    [
        ("1 day", 7, "1 day"),
        ("1 month", 210, "1 month"),
        ("3 months", 630, "3 months"),
        ("1 year", "2\u202f555", "365 days"),
    ],
)
def test_a_time_that_is_chosen_counts_and_not_what_is_typed_beside_it(
    client, time, price, in_words
):
    sent = {"space_mb": "100", "time": time, "duration": "0", "unit": "nonsense"}
    total = f"<strong>{price} sat</strong> <span>for 100 MB, {in_words}</span>"
    assert total in client.get("/price", query_string=sent).text
    page = place_order(client, show="price", **sent).text
    assert total in page and f'value="{time}" checked' in page
    assert place_order(client, **sent).status_code == 303
    assert (Order.get().duration, Order.get().unit) == TIMES[time]


@pytest.mark.parametrize("time", ["other", "", "1 century", "\0", None])
def test_any_other_time_is_the_one_that_is_typed(client, time):
    place_order(client, time=time, duration="5", unit="hours")
    assert (Order.get().duration, Order.get().unit) == (5, "hours")


def test_the_time_of_a_link_is_chosen_in_the_form(client):
    for query, chosen in [
        ("space_mb=100&duration=1&unit=months", "1 month"),
        ("space_mb=100&time=1+year", "1 year"),
        ("space_mb=100&duration=12&unit=days", "other"),
        ("space_mb=100&duration=0&unit=days", "3 months"),
    ]:
        radios = re.findall('name="time" value="([^"]+)" checked', client.get(f"/?{query}").text)
        assert radios == [chosen]


def test_a_time_that_is_not_sold_is_asked_for_in_its_field(client):
    page = place_order(client, time="other", duration="0").text
    assert 'value="other" checked' in page and 'id="duration-error"' in page


def test_name_and_password_can_stay_closed(client):
    assert "<details>\n    <summary>Choose name" in client.get("/").text
    page = place_order(client, show="price").text
    assert "<details>\n    <summary>Choose name" in page


@pytest.mark.parametrize(
    "typed",
    [
        {"username": "alice"},
        {"username": "a"},
        {"password": "correct horse"},
        {"password": "short"},
        {"email": "a@example.org"},
        {"email": "nobody"},
    ],
)
def test_what_was_typed_there_is_in_sight(client, typed):
    page = place_order(client, duration="0", **typed).text
    assert "<details open>\n    <summary>Choose name" in page


def test_a_password_that_has_to_be_typed_again_is_said_to_be_so(client):
    assert "type it again" in place_order(client, duration="0", password="correct horse").text
    assert "type it again" not in place_order(client, duration="0", password="short").text
    assert "type it again" not in place_order(client, duration="0").text


@with_settings(CAPACITY_MB="50139")
def test_how_much_is_left_is_said_when_it_is_little(client):
    assert "Space 49.99 GB left" in in_words(client.get("/").text)  # with a jail


@with_settings(CAPACITY_MB="50146")
def test_how_much_is_left_is_nobodys_business_while_it_is_much(client):
    assert "GB left" not in client.get("/").text


@with_settings(CAPACITY_MB="200")
def test_who_comes_when_all_is_sold_reads_it_first(client):
    page = client.get("/").text
    assert page.index("Everything is sold out") < page.index("<form")
    assert page.count("sold-out") == 4


def test_nobody_else_reads_that_all_is_sold(client):
    assert "sold out" not in client.get("/").text
