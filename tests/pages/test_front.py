"""The front page: what is sold, what it costs, and the form that orders it."""

import json
import logging
import re

import pytest

from lightningspace.base import clock, models
from lightningspace.base.models import Account, Order, Server
from lightningspace.rules import hostnames, order_book
from lightningspace.visitors.forms import TIMES
from tests.conftest import (
    ROOT,
    csrf_token,
    enter,
    filled_form,
    form_id,
    place_order,
    record_payments,
    with_mail,
    with_settings,
)


@pytest.fixture
def other(app):
    """Somebody else's browser."""
    return app.test_client()


@pytest.fixture
def queries(caplog):
    """The SQL that a function runs, without its parameters."""

    def queries(ask) -> tuple[str, ...]:
        caplog.clear()
        with caplog.at_level(logging.DEBUG, "peewee"):
            ask()
        return tuple(record.msg[0] for record in caplog.records if record.name == "peewee")

    return queries


def in_words(page: str) -> str:
    """The text of a page, in one line."""
    return " ".join(re.sub("<[^>]+>", "", page).split())


# -- what is sold ----------------------------------------------------------------------


def test_the_front_page_shows_prices_of_each_size(client):
    page = in_words(client.get("/").text)
    assert "Space Hour Day Month Year" in page
    assert "100 MB 1 7 210 2,555" in page
    assert "5 GB 5 105 3,150 38,325" in page
    assert "A blog for a year: 5,475 sat (500 MB, 1 year)" in page


@with_settings(SPACE_SIZES_MB="50,200", ADDRESSES_INCLUDED="1", PRICE_MSAT_PER_ADDRESS_DAY="0")
def test_the_text_about_sizes_and_extras_follows_the_settings(client):
    page = in_words(client.get("/").text)
    assert "A page for a weekend: 12 sat (50 MB, 2 days)" in page
    assert "A blog for a year: 3,285 sat (200 MB, 1 year)" in page
    assert "1 mailbox or forward included; more for nothing." in page
    assert "1 domain included; more for 1 sat a day each." in page


def test_what_happens_after_the_end_follows_the_settings(client):
    page = in_words(client.get("/").text)
    assert "switched off and kept for 14 days" in page
    assert "for another 365 days" in page
    assert "receive from the start, and send once you have paid for 30 days in all." in page
    assert "Its price holds for 15 minutes" in page


@with_settings(GRACE_DAYS="0", NAME_QUARANTINE_DAYS="0", MAIL_SEND_MIN_DAYS="0")
def test_nothing_is_promised_that_the_settings_rule_out(client):
    page = in_words(client.get("/").text)
    assert "Everything is deleted for good." in page
    assert "kept for" not in page and "another 0" not in page
    assert "They receive from the start, and send." in page


@with_settings(PANEL_SERVER_ID="1,2,3", CAPACITY_MB="1000,1000,0")
def test_the_php_versions_of_every_selling_server_are_named(client):
    assert "The server’s own version Files" in in_words(client.get("/").text)
    for server, versions in ((1, ["8.1", "8.3", "8.4"]), (2, ["8.3", "8.4", "<b>8.5"]), (3, [])):
        named = json.dumps([(id, f"PHP {name}") for id, name in enumerate(versions, 1)])
        Server.update(php_versions=named).where(Server.id == server).execute()
    assert "or one of these: PHP 8.3, PHP 8.4 Files" in in_words(client.get("/").text)
    Server.update(php_versions='[[1, "<b>8.5"]]').where(Server.capacity_mb > 0).execute()
    assert "or one of these: &lt;b&gt;8.5" in client.get("/").text


@pytest.mark.parametrize(
    ("env", "said"),
    [
        ({"WALLS": "narrow"}, "A .htaccess can do little here."),
        ({"WALLS": "nginx"}, "There is no .htaccess."),
        ({"WALLS": "mpm_itk"}, "MariaDB. For permalinks"),
    ],
    indirect=["env"],
)
def test_what_htaccess_may_do_depends_on_the_walls(client, said):
    assert said in in_words(client.get("/").text)


FREE = "free certificate from Let’s Encrypt"
BY_US = f"HTTPS A {FREE}, which we fetch for you"
ALWAYS = f"HTTPS From the first minute; for your own domain with a {FREE}"


@pytest.mark.parametrize(
    ("env", "said"),
    [
        ({"SITES_TLS": "letsencrypt"}, f"{BY_US}, for hostings of 7 days and more PHP"),
        ({"CERTIFICATE_MIN_DAYS": "0"}, f"{BY_US} PHP"),
        (
            {"SITES_TLS": "wildcard", "CERTIFICATE_MIN_DAYS": "1"},
            f"{ALWAYS}, for hostings of 1 day and more PHP",
        ),
        ({"SITES_TLS": "none"}, "HTTPS None: sites are at http:// addresses PHP"),
    ],
    indirect=["env"],
)
def test_what_is_said_about_https_follows_the_settings(client, said):
    assert said in in_words(client.get("/").text)


def test_refunds_follow_the_terms(client):
    page = in_words(client.get("/").text)
    assert "nothing to pay beyond the invoice. Payments cannot be refunded." in page
    assert "No, payments cannot be refunded." in page


@with_settings(TERMS_FILE=str(ROOT / "LICENSE"))
def test_a_shop_with_its_own_terms_refers_to_them_for_refunds(client):
    page = client.get("/").text
    assert 'See the <a href="/terms">terms</a>' in page
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


def test_asking_for_the_price_makes_no_invoice(client, node):
    answer = client.get("/price?space_mb=1000&duration=30&unit=days")
    assert "<strong>750 sat</strong> <span>for 1 GB, 30 days</span>" in answer.text
    assert node.calls == []
    assert Order.select().count() == 0


def test_a_size_or_time_that_is_not_sold_has_no_price(subtests, client):
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


def test_show_price_without_a_time_says_so_beside_the_field(client):
    page = place_order(client, show="price", duration="0")
    assert page.status_code == 400
    assert 'id="duration-error"' in page.text


@pytest.mark.parametrize(
    ("time", "price", "in_words"),
    [
        ("1 day", 7, "1 day"),
        ("1 month", 210, "1 month"),
        ("3 months", 630, "3 months"),
        ("1 year", "2,555", "1 year"),
    ],
)
def test_a_chosen_time_counts_and_not_the_typed_one(client, time, price, in_words):
    sent = {"space_mb": "100", "time": time, "duration": "0", "unit": "nonsense"}
    total = f"<strong>{price} sat</strong> <span>for 100 MB, {in_words}</span>"
    assert total in client.get("/price", query_string=sent).text
    page = place_order(client, show="price", **sent).text
    assert total in page and f'value="{time}" checked' in page
    assert place_order(client, **sent).status_code == 303
    assert (Order.get().duration, Order.get().unit) == TIMES[time]


@pytest.mark.parametrize("time", ["other", "", "1 century", "\0", None])
def test_the_typed_time_counts_if_other_is_chosen(client, time):
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


def test_name_and_password_are_folded_at_first(client):
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
def test_the_fields_are_unfolded_if_something_was_typed(client, typed):
    page = place_order(client, duration="0", **typed).text
    assert "<details open>\n    <summary>Choose name" in page


def test_a_front_page_without_mail_asks_for_no_address(client):
    page = client.get("/").text
    assert 'name="email"' not in page and "remind" not in page


@with_mail
def test_the_address_field_says_what_it_is_for(client):
    page = in_words(client.get("/").text)
    assert "For reminders before your time ends, and a warning if someone tries" in page
    assert "We remind you before that, if you gave an e-mail address" in page


def test_the_form_says_when_the_password_must_be_typed_again(client):
    assert "type it again" in place_order(client, duration="0", password="correct horse").text
    assert "type it again" not in place_order(client, duration="0", password="short").text
    assert "type it again" not in place_order(client, duration="0").text


@with_settings(CAPACITY_MB="50139")
def test_the_space_left_is_shown_when_it_is_little(client):
    assert "Space 49.99 GB left" in in_words(client.get("/").text)  # less a jail


@with_settings(CAPACITY_MB="50146")
def test_the_space_left_is_hidden_while_it_is_much(client):
    assert "GB left" not in client.get("/").text


@with_settings(CAPACITY_MB="200")
def test_sold_out_is_said_at_the_top(client):
    page = client.get("/").text
    assert page.index("Sold out right now") < page.index("<form")
    assert page.count("sold-out") == 4
    assert "Order and pay" not in page and "MB left" not in page


def test_sold_out_is_not_said_otherwise(client):
    assert "sold out" not in client.get("/").text


# -- as text ---------------------------------------------------------------------------

CURL = {"User-Agent": "curl/8.5.0", "Accept": "*/*"}
HTML = {"Accept": "text/html,*/*;q=0.8"}
WIDTH = 72


def test_a_terminal_gets_the_shop_as_text(client, subtests):
    for headers, kind in ((CURL, "plain"), ({"Accept": "text/plain"}, "plain"), (HTML, "html")):
        with subtests.test(headers):
            answer = client.get("/", headers=headers)
            assert answer.content_type == f"text/{kind}; charset=utf-8"
            assert {"Accept", "User-Agent"} <= set(answer.vary)
            assert answer.headers["Cache-Control"] == "no-store"
            assert kind == "html" or "Set-Cookie" not in answer.headers


def test_the_text_says_what_the_page_says(client):
    page, text = in_words(client.get("/").text), client.get("/", headers=CURL).text
    assert text.startswith("localhost\n=========\n") and text.endswith("/privacy\n")
    for size in ("100 MB", "500 MB", "1 GB", "5 GB"):
        row = re.search(f"^  {size} .*$", text, re.M)[0]
        assert " ".join(row.replace("\u202f", " ").split()) in page
    assert "Payments cannot be refunded." in text
    for path in ("llms.txt", "api/v1/openapi.json", "terms", "privacy", "status"):
        assert f"http://localhost/{path}\n" in text
    assert "imprint" not in text and "Contact" not in text and "EUR" not in text


@with_settings(
    SHOP_NAME="<Alice’s> & Bob’s shop of forty letters and signs"[:40],
    CONTACT="help@shop.example",
    ABUSE_CONTACT="https://shop.example/abuse",
    SOURCE_URL="https://shop.example/source?a=1&b=2",
    TERMS_FILE=str(ROOT / "LICENSE"),
    IMPRINT_FILE=str(ROOT / "LICENSE"),
    FIAT="EUR",
    FIAT_RATE="60000",
    # The highest price: two years cost a thousand bitcoin.
    PRICE_MSAT_PER_DAY="120000000000",
    SPACE_SIZES_MB="100,1000000",
    PRICE_MSAT_PER_GB_DAY="10000000",
    CAPACITY_MB="3000000",
)
def test_the_text_is_narrow_even_with_the_largest_numbers(client):
    text = client.get("/", headers=CURL).text
    lines = [line for line in text.splitlines() if "http" not in line]
    assert max(map(len, lines)) <= WIDTH, text
    for said in ("<Alice’s> & Bob’s", "  help@shop.example\n", "source?a=1&b=2\n", "/imprint\n"):
        assert said in text
    assert re.search(r"^1,000 sat is about 0\.60 EUR\.$", text, re.M)
    assert "refunded" not in text
    assert re.search(r"^  1000 GB( +\d[^ \n]+){4}$", text, re.M)


@with_settings(CAPACITY_MB="700")
def test_the_text_says_what_is_sold_out(client):
    text = client.get("/", headers=CURL).text
    assert re.search(r"^  100 MB +\d", text, re.M) and re.search("^  1 GB +sold out$", text, re.M)
    assert "1. Order 100 MB" in text


@with_settings(CAPACITY_MB="200")
def test_the_text_offers_nothing_when_sold_out(client):
    text = client.get("/", headers=CURL).text
    assert "Sold out right now." in text and "1. Order" not in text


# -- whether a name is free ------------------------------------------------------------


def look_at(client, name: str, **wished) -> str:
    wished = {"space_mb": "100", "time": "3 months"} | wished
    return in_words(client.get("/name", query_string={"username": name} | wished).text)


def test_a_free_name_is_shown_as_the_address_that_it_becomes(client, time_machine):
    time_machine.moment = 1795860000  # 28 November 2026
    said = "alice.shop.test ✓ free · until 26 Feb 2027 · 630 sat"
    assert look_at(client, " Alice ") == said
    assert said in in_words(place_order(client, username="alice", show="price").text)
    assert "until 2026-11-28 11:00 UTC · 1 sat" in look_at(
        client, "alice", time="other", duration="1", unit="hours"
    )


@with_settings(RESERVED_NAMES="oak")
def test_a_taken_name_is_shown_without_the_reason(alice, client, other, this_shop):
    place_order(other, username="held")
    with models.transaction():
        hostnames.let_rest(this_shop, "rested", None, 0)
    for name in ("alice", "held", "rested", "oak", "www"):
        assert look_at(client, name) == f"{name}.shop.test is taken"
        assert place_order(client, username=name).status_code == 400


def test_a_resting_name_is_free_for_whoever_has_its_receipt(client, this_shop):
    with models.transaction():
        hostnames.let_rest(this_shop, "alice", "ab" * 32, 1)
    assert look_at(client, "alice") == "alice.shop.test is taken"
    with client.session_transaction() as session:
        session["proof"] = ("ab" * 32, 1)
    assert "free" in look_at(client, "alice")


@pytest.mark.each_database
def test_an_invalid_name_says_why_without_a_query(client):
    for name in ("al", "1alice", "a" * 17, "al\0ice", "<b>", "alice.example", "älice"):
        assert look_at(client, name) == (
            "A name has 3 to 16 lower-case letters and digits, beginning with a letter."
        )
    assert look_at(client, " ") == ""
    assert client.get("/name").status_code == 200


def test_a_name_is_checked_without_a_price_too(client):
    assert look_at(client, "alice", time="other", duration="0") == "alice.shop.test ✓ free"


def test_every_name_takes_the_same_queries(alice, client, queries, this_shop):
    with models.transaction():
        hostnames.let_rest(this_shop, "rested", None, 0)
    asked = {name: queries(lambda n=name: look_at(client, n)) for name in ("alice", "bobby")}
    asked |= {name: queries(lambda n=name: look_at(client, n)) for name in ("rested", "www")}
    assert len(set(asked.values())) == 1 and asked["www"]


@with_settings(NAMES_LIMIT="2 per day")
def test_after_many_names_it_is_not_said_whether_they_are_free(alice, client, other):
    for _ in range(2):
        assert look_at(client, "al") != ""  # not a valid name, and not counted
        assert look_at(client, "alice") == "alice.shop.test is taken"
    for name in ("alice", "bobby"):
        said = f"{name}.shop.test (we check when you order whether it is free)"
        assert look_at(client, name) == f"{said} · until {in_three_months()} · 630 sat"
        assert said in in_words(place_order(client, username=name, show="price").text)
    elsewhere = {"environ_base": {"REMOTE_ADDR": "192.0.2.9"}}
    assert "is taken" in in_words(other.get("/name?username=alice", **elsewhere).text)
    assert place_order(client, username="bobby").status_code == 303


@with_settings(NAMES_LIMIT="2 per day")
def test_after_many_taken_names_orders_do_not_tell_of_more(alice, client, other):
    for _ in range(2):
        look_at(client, "alice")  # counted separately: typing must not prevent ordering
    assert place_order(client, username="bobby").status_code == 303
    for _ in range(2):
        assert "This name is taken" in place_order(client, username="alice").text
    for name in ("alice", "carol"):
        assert place_order(client, username=name).status_code == 429
    elsewhere = {"environ_base": {"REMOTE_ADDR": "192.0.2.9"}}
    form = filled_form(other, username="carol")
    assert other.post("/orders", data=form, **elsewhere).status_code == 303


def in_three_months() -> str:
    return clock.day(clock.now() + 90 * 86400)


def test_checking_a_name_stores_nothing(client, node):
    look_at(client, "alice")
    assert node.calls == []
    assert Order.select().count() == Account.select().count() == 0


# -- orders that wait ------------------------------------------------------------------

# The pages that show a browser its waiting orders.
TELLING = ("/", "/login")


def waiting(client, path: str = "/") -> list[str]:
    """The links to orders that a page shows as waiting for payment."""
    page = client.get(path)
    assert page.status_code == 200
    found = re.search('<section class="waiting".*?</section>', page.text, re.DOTALL)
    return re.findall('href="([^"]+)"', found[0]) if found else []


def test_an_order_that_waits_for_its_payment_is_found_again(client, other):
    assert waiting(client) == []
    link = place_order(client, username="alice").location
    for path in TELLING:
        assert waiting(client, path) == [link]
        assert waiting(other, path) == []
    page = in_words(client.get("/").text)
    assert "Waiting for your payment: 100 MB, 3 months as alice, 630 sat, until" in page
    assert "alice" not in in_words(other.get("/").text)


def test_a_logged_in_customer_finds_the_waiting_order_too(alice, client, other):
    link = place_order(client).location
    assert waiting(enter(client, alice), "/account") == [link]
    assert waiting(enter(other, alice), "/account") == []


def test_a_form_for_a_name_ordered_before_links_to_that_order(client):
    link = place_order(client).location
    assert f'href="{link}"' in place_order(client, duration="0").text


@pytest.mark.parametrize("end", ["paid", "cancelled", "expired"])
def test_an_order_is_not_shown_as_waiting_once_it_is(end, client, wallet, worker, time_machine):
    link = place_order(client).location
    if end == "paid":
        wallet.pay(Order.get().bolt11)
        record_payments(worker)
    elif end == "cancelled":
        token = csrf_token(client.get(link).text)
        client.post(f"{link}/cancel", data={"csrf_token": token})
    else:
        time_machine.forward(15 * 60)
    for path in TELLING:
        assert waiting(client, path) == []


def test_the_latest_of_many_orders_are_shown(client, time_machine):
    links = []
    for _ in range(7):
        links.insert(0, place_order(client).location)
        time_machine.forward(1)
    assert waiting(client) == links[:5]


def test_a_tip_that_waits_is_found_again(alice, client):
    page = client.get("/tip/alice").text
    typed = {"csrf_token": csrf_token(page), "form_id": form_id(page), "sats": "100"}
    link = client.post("/tip/alice", data=typed | {"message": ""}).location
    assert waiting(client) == [link]


def test_waiting_orders_are_searched_among_open_ones_alone(this_shop):
    query, values = order_book.waiting(["a", "b"]).sql()
    plan = models.db.execute_sql(f"EXPLAIN QUERY PLAN {query}", values).fetchall()
    assert "orders_open" in str(plan)


# -- in a currency ---------------------------------------------------------------------


@with_settings(FIAT="EUR", FIAT_RATE="60000")
def test_prices_are_shown_in_the_operators_currency_too(client):
    price = in_words(client.get("/price?space_mb=100&time=3+months").text)
    assert price.startswith("630 sat for 100 MB, 3 months") and price.endswith("about 0.38 EUR")
    assert "Prices in sat; 1,000 sat is about 0.60 EUR Space" in in_words(client.get("/").text)
    assert in_words(client.get("/price?space_mb=100&time=1+day").text).endswith(
        "less than 0.01 EUR"
    )
    assert "EUR" not in client.get("/price?space_mb=100&time=other&duration=0").text


@with_settings(FIAT="EUR", FIAT_RATE_URL="https://rates.example/#EUR")
def test_the_time_of_the_rate_is_shown(client):
    assert "EUR" not in client.get("/").text
    with models.transaction():
        models.set_fact("price of a bitcoin in EUR", f"{clock.now()} 60000")
    said = f"about 0.38 EUR, at the rate of {clock.clock_time(clock.now())[:-6]}"
    assert said in in_words(client.get("/").text)


@with_settings(FIAT="ZWL", FIAT_RATE="999999999999.99999999", PRICE_MSAT_PER_DAY="10000000000")
def test_large_amounts_of_a_currency_can_be_read(client):
    assert "about 9,000,001,800,000.00 ZWL" in in_words(
        client.get("/price?space_mb=100&time=3+months").text
    )


def test_no_currency_is_shown_unless_one_is_set(client):
    assert "about" not in in_words(client.get("/price?space_mb=100&time=3+months").text)
