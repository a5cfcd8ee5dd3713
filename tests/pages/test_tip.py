"""Tips: the public page, the order that it makes, and what the owner sees and decides."""

import json
import re
from xml.etree import ElementTree

import pytest

from lightningspace.base import messages
from lightningspace.base.clock import clock_time, iso_time
from lightningspace.base.models import Account, Order
from lightningspace.base.prices import DAY
from lightningspace.panel import reconcile
from lightningspace.rules import accounts, order_book, orders, payments, tips
from lightningspace.visitors.forms import TipJarForm
from tests.conftest import (
    at_once,
    csrf_token,
    enter,
    form_id,
    invoices_asked_for,
    open_account,
    record_payments,
    wish,
    with_ftp,
    with_settings,
    work,
)


@pytest.fixture(autouse=True)
def time_stands_still(time_machine):
    """A second between two steps could cost a sat."""


@pytest.fixture
def other(app):
    """Somebody else's browser."""
    return app.test_client()


@pytest.fixture
def owner(app, alice):
    """Alice's browser, logged in."""
    return enter(app.test_client(), alice)


@pytest.fixture
def pay(this_shop, wallet, worker):
    """Pay an order and let it take effect."""

    def pay(order):
        wallet.pay(order.bolt11)
        record_payments(worker)
        payments.apply(this_shop, order.token)
        return reload(order)

    return pay


def reload(row):
    return type(row).get_by_id(row.get_id())


def change(account: Account, **facts) -> None:
    Account.update(facts).where(Account.id == account.id).execute()


def filled(client, **fields) -> dict:
    """The form of alice's tip page as `client` would send it."""
    page = client.get("/tip/alice").text
    tokens = {"csrf_token": csrf_token(page), "form_id": form_id(page)}
    return tokens | {"sats": "1000", "message": ""} | fields


def give(client, **fields):
    return client.post("/tip/alice", data=filled(client, **fields))


def in_words(html: str) -> str:
    """The text of a page, in one line."""
    return " ".join(re.sub("<[^>]*>", "", html).split())


# -- the page --------------------------------------------------------------------------


def test_the_page_says_what_a_tip_does(client, alice):
    page = client.get("/tip/alice").text
    assert 'href="http://alice.shop.test/" rel="nofollow noopener">' in page
    said = in_words(page)
    assert "1,000 sat 142 days" in said
    assert "no rights over the site" in said
    assert f"paid until {clock_time(alice.expires_at)}" in said


def test_the_tip_page_hides_the_end_if_the_owner_says_so(client, alice):
    tips.switch(alice.id, tips_show_end=False)
    assert "<time" not in client.get("/tip/alice").text


def test_a_link_fills_the_amount_in(client, alice):
    page = client.get("/tip/alice").text
    link = re.search(r'<a href="(/tip/alice\?sats=5000)">', page)[1]
    assert 'value="5000"' in client.get(link).text
    for nonsense in ("0", "-1", "x", "1e3", "9" * 5000, "%00", "%ED%A0%80", "5000&sats=1"):
        answer = client.get(f"/tip/alice?sats={nonsense}")
        assert answer.status_code == 200
        assert 'role="alert"' not in answer.text


@with_settings(TIP_MIN_SATS="2000", TIP_MAX_SATS="9000")
def test_the_tip_page_keeps_to_the_bounds(client, alice, node):
    page = client.get("/tip/alice").text
    assert re.findall(r"\?sats=(\d+)", page) == ["5000"]
    assert 'min="2000" max="9000"' in page and 'value="2000"' in page
    for sats in ("1999", "9001"):
        assert give(client, sats=sats).status_code == 400
    assert give(client, sats="9000").status_code == 303


def test_the_page_shows_the_other_doors(client, alice, this_shop):
    page = client.get("/tip/alice").text
    assert "alice@localhost" in in_words(page)
    assert f'href="lightning:{tips.lnurl(this_shop, alice)}"' in page
    assert tips.offer(this_shop, alice) in page


@pytest.mark.parametrize("door", ["address", "offer"])
def test_a_door_that_is_closed_is_not_on_the_page(client, alice, door):
    tips.switch(alice.id, **{f"tips_{door}": False})
    page = client.get("/tip/alice").text
    assert ("alice@localhost" in page) == (door == "offer")
    assert ("lno1" in page) == (door == "address")


def test_without_the_node_only_the_offer_is_missing(client, alice, node):
    node.down()
    answer = client.get("/tip/alice")
    assert answer.status_code == 200
    assert "alice@localhost" in answer.text
    assert "lno1" not in answer.text
    assert give(client).status_code == 503
    assert "Nothing was charged" in give(client).text
    assert [order_book.state(order) for order in Order.select()] == ["cancelled"] * 2


def test_a_site_without_tips_looks_like_an_unknown_one(client, alice, this_shop):
    form, elsewhere = filled(client), client.get("/nowhere")
    closed, blocked, closing = (open_account(this_shop, each) for each in ("bob1", "bob2", "bob3"))
    tips.switch(closed.id, tips_page=False)
    accounts.block(blocked.id, "spam")
    accounts.close(closing.id)
    orders.place(this_shop, wish(username="unpaid"))
    for name in ("bob1", "bob2", "bob3", "unpaid", "nobody", "Alice", "%00", "a" * 999):
        answer = client.get(f"/tip/{name}")
        assert (answer.status_code, answer.data) == (404, elsewhere.data), name
        assert dict(answer.headers) == dict(elsewhere.headers)
        answer = client.post(f"/tip/{name}", data=form)
        assert (answer.status_code, answer.data) == (404, elsewhere.data), name
    assert Order.select().where(Order.kind == "topup").count() == 0


def test_a_hosting_about_to_be_deleted_takes_no_tips(client, alice, time_machine):
    form = filled(client)
    change(alice, last_call_at=int(time_machine.moment))
    answer = client.get("/tip/alice")
    assert answer.status_code == 200
    assert "about to be deleted" in answer.text
    assert "<form" not in answer.text and "alice@localhost" not in answer.text
    assert client.post("/tip/alice", data=form).status_code == 409
    assert Order.select().count() == 0


# -- giving ----------------------------------------------------------------------------


@pytest.mark.each_database
def test_a_tip_becomes_time(client, alice, pay):
    answer = give(client, message=" Thank you! ")
    order = Order.get()
    assert answer.location == f"/orders/{order.token}"
    assert (order.kind, order.door, order.message) == ("topup", "page", "Thank you!")
    pay(order)
    assert reload(alice).expires_at == alice.expires_at + 1_000_000 * DAY // 7000


def test_a_tip_switches_a_suspended_site_on_again(client, alice, pay, this_shop, time_machine):
    time_machine.moment = alice.expires_at + 60
    accounts.suspend(alice.id)
    reconcile.account(this_shop, alice.id)
    assert "switches it on again" in client.get("/tip/alice").text
    give(client, sats="7")
    pay(Order.get())
    after = reload(alice)
    assert (after.suspended_at, after.expires_at) == (None, int(time_machine.moment) + DAY)


HOSTILE = {
    "<script>alert(1)</script>": "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>': '"><img src=x onerror=alert(1)>',
    "{{ 7*7 }} {% raw %}": "{{ 7*7 }} {% raw %}",
    "a\u202ebc\u2066d\u200f": "abcd",
    "a\x00b\r\nc\x1b[31m": "ab c[31m",
    "\ud800 half": "\ufffd half",
    "❤️‍🔥": "❤️‍🔥",
    " \u3000\t ": None,
}


def test_every_message_is_escaped(client, owner, alice, pay):
    pages = []
    for typed, kept in HOSTILE.items():
        form = filled(client, message=typed.encode(errors="surrogatepass"))
        answer = client.post("/tip/alice", data=form)
        order = Order.get_by_id(answer.location.removeprefix("/orders/"))
        if "\ud800" not in typed:  # the server chooses what replaces half a character
            assert order.message == kept
        pay(order)
        pages.append(client.get(answer.location))
    for page in (*pages, owner.get("/account/tips")):
        assert page.status_code == 200
        assert "<script>a" not in page.text and "<img src=x" not in page.text
        assert not re.search("[\u202a-\u202e\u2066-\u2069\x00\x1b]", page.text)


WRONG = [
    *({"sats": sats} for sats in ("", "0", "-5", "1.5", "1000001", "x", "٣", "9" * 10_000)),
    *({"message": text} for text in ("x" * 141, "x" * 10_000, "\n" * 200 + "x")),
]


def test_a_bad_tip_is_refused_beside_its_field(client, alice, node):
    for typed in WRONG:
        answer = give(client, **typed)
        assert answer.status_code == 400, typed
        assert f'id="{[*typed][0]}-error"' in answer.text
    assert invoices_asked_for(node) == 0


def test_the_length_of_a_message_counts_characters(client, alice):
    text = "ü" * messages.LONGEST
    assert give(client, message=text).status_code == 303
    assert Order.get().message == text


def test_the_same_form_twice_at_once_is_one_tip(app, client, alice, node):
    form = filled(client)
    window = app.test_client()
    window.set_cookie("session", client.get_cookie("session").value)
    answers = at_once(*(lambda c=c: c.post("/tip/alice", data=form) for c in (client, window)))
    assert {answer.location for answer in answers} == {f"/orders/{Order.get().token}"}
    assert invoices_asked_for(node) == 1


def test_unpaid_tips_of_a_site_are_limited(client, alice):
    facts = {"kind": "topup", "door": "page", "account": alice, "space_mb": 100}
    facts |= {"amount_msat": 1000, "placed_at": 1, "expires_at": 1}
    Order.insert_many([facts | {"token": f"{n:032x}"} for n in range(orders.OPEN_TIPS)]).execute()
    answer = give(client)
    assert answer.status_code == 429
    assert "Many tips for this site" in answer.text
    assert 'value="1000"' in answer.text


def test_a_tip_needs_the_forms_csrf_token(client, alice):
    form = filled(client)
    assert client.post("/tip/alice", data=form | {"csrf_token": "x"}).status_code == 400
    from_elsewhere = {"Origin": "http://alice.shop.test"}
    assert client.post("/tip/alice", data=form, headers=from_elsewhere).status_code == 400
    assert Order.select().count() == 0


@with_settings(TIPS_LIMIT="2 per day", TIPS_LIMIT_OVERALL="4 per day")
def test_tips_of_a_network_are_limited_over_all_sites(client, alice, this_shop):
    open_account(this_shop, "bobby")

    def tip(username, address):
        form = filled(client)
        place = {"REMOTE_ADDR": address}
        return client.post(f"/tip/{username}", data=form, environ_base=place).status_code

    assert [tip("nobody", "192.0.2.1") for _ in range(9)] == [404] * 9
    assert [tip(name, "192.0.2.1") for name in ("alice", "bobby", "alice")] == [303, 303, 429]
    assert [tip("alice", "192.0.2.2") for _ in range(3)] == [303, 303, 429]
    # The overall limit is used up, but a network that has used nothing may still tip.
    assert [tip("alice", "192.0.2.3") for _ in range(3)] == [303, 303, 429]
    assert [tip("alice", "192.0.2.4") for _ in range(2)] == [303, 429]
    assert client.get("/tip/alice").status_code == 200


# -- its order page --------------------------------------------------------------------


@pytest.fixture
def tip(client, alice):
    give(client, message="for the cat")
    return Order.get()


def seen(browser, order) -> str:
    """The text of the order's page and its fragment, in this browser."""
    link = f"/orders/{order.token}"
    return in_words(browser.get(link).text + browser.get(f"{link}/status").text)


def test_only_the_browser_that_gives_sees_the_message_and_may_cancel(client, other, owner, tip):
    for browser, is_its_own in ((client, True), (other, False), (owner, False)):
        said = seen(browser, tip)
        assert "A tip for alice.shop.test" in said
        assert ("for the cat" in said) == ("Cancel the tip" in said) == is_its_own
        assert "proof of payment" not in said
    for browser in (other, owner, client):
        token = csrf_token(browser.get("/login").text)
        answer = browser.post(f"/orders/{tip.token}/cancel", data={"csrf_token": token})
        assert answer.status_code == (303 if browser is client else 404)
    assert order_book.state(reload(tip)) == "cancelled"
    assert (
        '<a role="button" href="/tip/alice?sats=1000">Tip again</a>'
        in client.get(f"/orders/{tip.token}").text
    )


def test_a_tip_that_is_paid_says_what_it_bought(client, other, tip, pay, alice):
    pay(tip)
    end = clock_time(reload(alice).expires_at)
    for browser in (client, other):
        page = browser.get(f"/orders/{tip.token}").text
        assert "1,000 sat bought 142 days more for alice.shop.test" in in_words(page)
        assert end in page
        assert "/account" not in page


def test_the_page_of_a_paid_tip_leads_its_owner_to_the_control_center(owner, tip, pay):
    pay(tip)
    assert 'href="/account">To your hosting' in owner.get(f"/orders/{tip.token}").text
    poll = owner.get(f"/orders/{tip.token}/status")
    assert poll.headers["HX-Redirect"] == "/account"


def test_the_order_hides_the_end_if_the_owner_says_so(client, owner, alice, pay, tip):
    """The credit of a huge tip would tell it, too, since credit begins at the horizon."""
    tips.switch(alice.id, tips_show_end=False)
    give(client, sats="1000000")
    huge = Order.get(amount_msat=10**9)
    for is_paid in (False, True):
        for order in (tip, huge):
            if is_paid:
                pay(order)
            said = seen(client, order)
            assert not re.search("Paid then|is paid until|credit", said)
            assert clock_time(reload(alice).expires_at) not in said
    assert "is worth 142857 days for alice.shop.test" in seen(client, huge)
    assert "1,000 sat is worth 142 days" in seen(client, tip)
    assert "Done: paid until" in seen(owner, huge)


def expire(this_shop, node, time_machine):
    time_machine.forward(16 * 60)
    payments.tidy(this_shop, node.id)


def test_nobody_is_led_back_to_a_missing_page(client, alice, tip, this_shop, node, time_machine):
    expire(this_shop, node, time_machine)
    assert "Tip again" in seen(client, tip)
    tips.switch(alice.id, tips_page=False)
    assert "Tip again" not in seen(client, tip)
    assert "Nobody paid" in seen(client, tip)


def test_a_tip_for_a_deleted_hosting_says_how_to_get_it_back(
    client, tip, alice, wallet, worker, runner
):
    wallet.pay(tip.bolt11)
    record_payments(worker)
    Order.update(account=None).execute()  # as closing leaves it
    for path in (f"/orders/{tip.token}", f"/orders/{tip.token}/status"):
        answer = client.get(path)
        assert "bought nothing" in answer.text and f"/refund/{tip.token}" in answer.text
        assert "anew" not in answer.text and "hx-trigger" not in answer.text
    assert tip.payment_hash in runner.invoke(args=["problems"]).output
    work(worker)
    assert Account.select().count() == 1


def test_a_tips_page_says_when_its_hosting_has_ended(client, tip, alice, pay, worker):
    pay(tip)
    accounts.close(alice.id)
    work(worker)
    assert Account.select().count() == 0
    said = seen(client, tip)
    assert "The hosting that this tip paid for has ended" in said
    assert "alice" not in said and "again" not in said


# -- the owner's own door ----------------------------------------------------------------


def top_up(browser, sats="1000", **fields):
    page = browser.get("/account/extend").text.partition('id="top-up"')[2]
    tokens = {"csrf_token": csrf_token(page), "form_id": form_id(page), "sats": sats}
    return browser.post("/account/extend/top-up", data=tokens | fields)


def test_the_owner_tops_up_with_any_amount(owner, other, alice, pay):
    link = top_up(owner, "7").location
    order = Order.get()
    assert (order.kind, order.door, order.message) == ("topup", "owner", None)
    assert f'<a href="{link}">More time</a>' in owner.get("/account/extend").text
    end = clock_time(alice.expires_at + DAY)
    assert f"until {end}" in seen(owner, order)
    assert "Cancel the order" in seen(owner, order)
    for word in ("Cancel", "alice", "A tip"):
        assert word not in seen(other, order)
    pay(order)
    assert reload(alice).expires_at == alice.expires_at + DAY
    assert f"Extended by 24 hours until {end}" in in_words(owner.get("/account/payments").text)


def test_the_page_says_what_an_amount_buys(owner, alice, node):
    for path in ("/account/extend?sats=14", "/account/extend/top-up/price?sats=14"):
        said = in_words(owner.get(path).text)
        assert f"14 sat paid until {clock_time(alice.expires_at + 2 * DAY)}" in said
    assert "stays as credit" in owner.get("/account/extend/top-up/price?sats=99999").text
    for nonsense in ("", "sats=0", "sats=x", "sats=%00", "sats=9999999999", "sats[]=%ED%A0%80"):
        answer = owner.get(f"/account/extend/top-up/price?{nonsense}")
        assert (answer.status_code, "Enter an amount" in answer.text) == (200, True)
    assert "14 sat paid until" in in_words(top_up(owner, "14", show="price").text)
    assert invoices_asked_for(node) == 0


def test_an_impossible_amount_is_refused_beside_its_field(owner, node):
    for sats in ("", "0", "1000001", "x"):
        answer = top_up(owner, sats)
        assert answer.status_code == 400, sats
        assert 'id="sats-error"' in answer.text
    assert invoices_asked_for(node) == 0


def test_a_top_up_that_expired_is_offered_again(owner, this_shop, node, time_machine):
    top_up(owner, "77")
    expire(this_shop, node, time_machine)
    link = re.search(
        r'href="(/account/extend\?sats=77)">Order again',
        owner.get(f"/orders/{Order.get().token}").text,
    )[1]
    assert 'value="77"' in owner.get(link).text


def test_the_page_says_why_no_amount_can_be_ordered(owner, alice, node):
    form = owner.get("/account/extend").text.partition('id="top-up"')[2]
    typed = {"csrf_token": csrf_token(form), "form_id": form_id(form), "sats": "5"}
    node.down()
    answer = owner.post("/account/extend/top-up", data=typed)
    assert answer.status_code == 503 and "Nothing was charged" in answer.text
    node.up()
    change(alice, last_call_at=1)
    answer = owner.post("/account/extend/top-up", data=typed | {"form_id": "another"})
    assert answer.status_code == 400 and "about to be deleted" in answer.text


def test_the_payments_name_tips(client, owner, tip, pay):
    pay(tip)
    assert "A tip extended it by 142 days" in in_words(owner.get("/account/payments").text)


# -- the control center ------------------------------------------------------------------


def send(browser, path, **fields):
    token = csrf_token(browser.get("/account").text)
    return browser.post(f"/account{path}", data={"csrf_token": token} | fields)


def test_the_owner_sees_what_came_in_and_what_it_bought(client, owner, tip, pay, time_machine):
    assert "No tips yet" in owner.get("/account/tips").text
    pay(tip)
    time_machine.forward(60)
    give(client, sats="7000")
    pay(Order.get(amount_msat=7_000_000))
    said = in_words(owner.get("/account/tips").text)
    assert "Others have given 8,000 sat" in said
    assert re.search("1,000 sat 142 days more, until .* UTC; on the web. for the cat", said)
    assert " sat of credit; on the web" in said  # for time beyond the horizon
    last = "The last tip: 7,000 sat, less than a minute ago."
    assert last in in_words(owner.get("/account").text)


def test_older_tips_can_be_reached_after_a_flood(owner, alice):
    facts = {"kind": "topup", "account": alice, "space_mb": 100}
    facts |= {"amount_msat": 1000, "placed_at": 1, "expires_at": 1, "node_id": "n"}
    facts |= {"received_msat": 1000, "pay_index": 1}
    many = [
        facts | {"token": f"{n:032x}", "payment_hash": f"{n}", "paid_at": n, "message": f"no. {n};"}
        for n in range(1, order_book.LISTED + 2)
    ]
    Order.insert_many(order | {"door": tips.DOORS[n % 3]} for n, order in enumerate(many)).execute()
    latest = owner.get("/account/tips").text
    assert "no. 2;" in latest and "no. 1;" not in latest
    link = re.search(r'<a href="([^"]*)">Older tips', latest)[1]
    older = owner.get(link).text
    assert "no. 1;" in older and "no. 2;" not in older and "Older tips" not in older
    token = f"{1:032x}"
    assert link == send(owner, re.search(f'/tips/{token}/hide[^"]*', older)[0]).location
    for nonsense in ("", "x", "%00", "0" * 32):
        assert owner.get(f"/account/tips?before={nonsense}").status_code == 404


def test_payments_below_a_tip_are_summed_up_in_one_line(owner, alice):
    small = {"small_tips": 200_000, "small_tips_msat": 200_999}
    Account.update(small).execute()
    said = in_words(owner.get("/account/tips").text)
    assert "Others have given 200 sat" in said and "No tips yet" not in said
    assert "200,000 of these were too small to be listed: 200 sat in all" in said


def test_a_message_is_hidden_and_shown_again(client, owner, tip, pay):
    pay(tip)
    for hidden in ("on", "off", "off", "on", "on"):
        answer = send(owner, f"/tips/{tip.token}/hide", hidden=hidden)
        assert answer.location == "/account/tips#received"
        page = owner.get("/account/tips").text
        assert ("for the cat" in page) == (hidden == "off")
        assert "1,000 sat" in page
    assert "for the cat" in client.get(f"/orders/{tip.token}").text  # its writer still sees it


def test_bob_hides_no_tip_of_alices(app, client, owner, alice, tip, pay, this_shop):
    pay(tip)
    top_up(owner, "5")
    bob = enter(app.test_client(), open_account(this_shop, "bobby"))
    for token in (tip.token, tip.token.upper(), "0" * 32, "%00", "a" * 2000, "é"):
        assert send(bob, f"/tips/{token}/hide", hidden="on").status_code == 404
    assert send(owner, f"/tips/{Order.get(door='owner').token}/hide").status_code == 404
    assert "for the cat" not in bob.get("/account/tips").text
    assert reload(tip).hidden_at is None


SWITCHES = {"tips_page": "/tip/alice", "tips_address": "alice@localhost", "tips_offer": "lno1"}


def test_the_owner_closes_each_door_and_opens_it_again(client, owner, alice):
    for name, sign in SWITCHES.items():
        assert sign in owner.get("/account/tips").text
        answer = send(owner, "/tips/switch", name=name, active="off")
        assert answer.location == "/account/tips#doors"
        assert [field for field in tips.SWITCHES if not getattr(reload(alice), field)] == [name]
        assert sign not in owner.get("/account/tips").text
        assert client.get("/tip/alice").status_code == (404 if name == "tips_page" else 200)
        send(owner, "/tips/switch", name=name, active="on")
        assert all(getattr(reload(alice), field) for field in tips.SWITCHES)
        assert sign in owner.get("/account/tips").text


def test_the_owner_hides_the_end(client, owner):
    send(owner, "/tips/switch", name="tips_show_end", active="off")
    assert "Only you see until when" in owner.get("/account/tips").text
    assert "<time" not in client.get("/tip/alice").text


def test_an_unknown_switch_is_refused(owner, alice):
    before = Account.select().dicts().get()
    for name in ("wallet_recovers", "tips_show", "", "__class__", "a\0"):
        assert send(owner, "/tips/switch", name=name, active="off").status_code == 404
    assert Account.select().dicts().get() == before


def test_the_switches_of_a_closing_hosting_are_refused(owner, alice):
    accounts.close(alice.id)
    answer = send(owner, "/tips/switch", name="tips_page", active="off")
    assert answer.location == "/account"
    assert reload(alice).tips_page
    assert owner.get("/account/tips").status_code == 200


def test_without_the_node_the_page_shows_all_but_the_offer(owner, node):
    node.down()
    answer = owner.get("/account/tips")
    assert answer.status_code == 200
    assert "does not answer" in answer.text
    assert "alice@localhost" in answer.text and "lno1" not in answer.text


def test_the_note_of_an_offers_payer_is_shown_as_text(owner, alice, this_shop, wallet, worker):
    offer = tips.offer(this_shop, alice)
    invoice = wallet.call(
        "fetchinvoice",
        {
            "offer": offer,
            "amount_msat": 7000,
            "payer_note": "<script>alert(1)</script>\u202e\0",
        },
    )["invoice"]
    wallet.pay(invoice)
    work(worker)
    page = owner.get("/account/tips").text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;</bdi>" in page
    assert "to the offer" in page


# -- the tip jar -------------------------------------------------------------------------

JAR = {
    "title": "",
    "text": "",
    "amounts_sat": [100, 1000, 10000],
    "mode": "site",
    "wallet_address": None,
}
TYPED = {"title": "", "text": "", "amounts": "100 1000", "mode": "site", "wallet_address": ""}


def jar_form(app, **fields):
    with app.test_request_context(method="POST", data=TYPED | fields):
        form = TipJarForm((1, 1_000_000), JAR, meta={"csrf": False})
        form.validate()
        return form


MINE = (
    *(" Me@W.Example ", "₿me@w.example", "lightning:me@w.example", "LIGHTNING://ME@W.EXAMPLE"),
    *(
        "mailto:me@w.example",
        "lightning:₿me@w.example",
        "\u200b⚡me@w.example ⚡️",
        "<me@w.example>",
    ),
)
RIGHT_JARS = [
    ({"title": " Coffee\u202e\0 for  me "}, {"title": "Coffee for me"}),
    ({"title": "ü" * 80, "text": "ü" * 500}, {"title": "ü" * 80, "text": "ü" * 500}),
    ({"text": "one\r\n\r\ntwo\r\n"}, {"text": "one\n\ntwo"}),
    ({"text": "<script>❤️‍🔥"}, {"text": "<script>❤️‍🔥"}),
    ({"amounts": "5, 21; 5\n21000"}, {"amounts_sat": [5, 21, 21000]}),
    *(({"wallet_address": typed}, {"wallet_address": "me@w.example"}) for typed in MINE),
    ({"wallet_address": "⚡️ test@tüst.de"}, {"wallet_address": "test@xn--tst-hoa.de"}),
    ({"wallet_address": "me@xn--sw8hj0a.ws"}, {"wallet_address": "me@xn--sw8hj0a.ws"}),
]
WRONG_AMOUNTS = ("", "0", "1000001", "-5", "1.5", "1,000", "x", "1 2 3 4 5 6 7")
WRONG_ADDRESSES = ("me", "me@", "@x.example", "me@localhost", "a b@x.example", "me@127.0.0.1")
WRONG_ADDRESSES += ("lnurl1dp68gurn8ghj7", "lightning:", "₿", "me#1@x.example", "⚡" * 1000)
WRONG_JARS = [
    *({"title": "x" * size} for size in (81, 10_000)),
    *({"text": "x" * size} for size in (501, 60_000)),
    *({"amounts": text} for text in WRONG_AMOUNTS),
    *({"mode": text} for text in ("", "both", "\0")),
    *({"wallet_address": text} for text in WRONG_ADDRESSES),
    *({"wallet_address": text} for text in ("me@x.example/../", "x" * 65 + "@x.example")),
    {"wallet_address": "", "mode": "wallet"},
]


def test_the_tip_jars_form_accepts_valid_input(app):
    for typed, meant in RIGHT_JARS:
        form = jar_form(app, **typed)
        assert not form.errors, typed
        assert form.settings().items() >= meant.items()
    assert jar_form(app).settings() == JAR | {"amounts_sat": [100, 1000]}


def test_the_tip_jars_form_refuses_invalid_input(app):
    for typed in WRONG_JARS:
        assert list(jar_form(app, **typed).errors) == [[*typed][0]], typed


@pytest.fixture
def own_jar(ftp_server, alice, this_shop, owner):
    """The directory of alice's site, with the tip jar in it."""
    settle(this_shop)
    return (ftp_server.root / "alice.shop.test" / "web").resolve()


def settle(this_shop):
    while due := reconcile.due_accounts():
        for account_id in due:
            reconcile.account(this_shop, account_id)


def told(owner) -> str:
    return in_words(owner.get("/account/tips").text.partition('id="jar"')[2])


@with_ftp
def test_the_owner_sets_the_tip_jar(owner, own_jar, this_shop):
    assert "The tip jar is on your site" in told(owner)
    typed = {"title": "For <b>my</b> cat", "text": "one\r\ntwo", "amounts": "21 2100"}
    wallet = {"mode": "wallet", "wallet_address": "me@wallet.example"}
    answer = send(owner, "/tips/jar", **TYPED | typed | wallet)
    assert answer.location == "/account/tips#jar"
    assert "is being uploaded" in told(owner)
    assert 'hx-trigger="every 3s"' in owner.get("/account/tips/jar").text
    settle(this_shop)
    written = json.loads((own_jar / "tipjar.json").read_text())
    meant = {"title": "For <b>my</b> cat", "text": "one\ntwo", "amounts_sat": [21, 2100]}
    assert written.items() >= (meant | wallet).items()
    page = owner.get("/account/tips").text
    for value in ("For &lt;b&gt;my&lt;/b&gt; cat", "me@wallet.example", "21 2100"):
        assert f'value="{value}"' in page
    assert ">\r\none\ntwo</textarea>" in page
    assert "every 3s" not in owner.get("/account/tips/jar").text


@with_ftp
def test_errors_of_the_tip_jar_are_shown_beside_its_fields(owner, own_jar):
    answer = send(owner, "/tips/jar", **TYPED | {"amounts": "0", "title": "x" * 81})
    assert answer.status_code == 400
    assert 'id="amounts-error"' in answer.text and 'id="title-error"' in answer.text
    assert "The tip jar is on your site" in in_words(answer.text)


@with_ftp
def test_the_tip_jar_is_put_back_and_taken_away(owner, own_jar, this_shop):
    (own_jar / "index.php").write_text("my own")
    send(owner, "/tips/jar", **TYPED)
    settle(this_shop)
    assert "Your site has a start page of its own: index.php." in told(owner)
    assert (own_jar / "index.php").read_text() == "my own"
    for _ in range(2):
        assert send(owner, "/tips/jar/put").location == "/account/tips#jar"
    settle(this_shop)
    assert "The tip jar is on your site" in told(owner)
    assert "my own" in [each.read_text() for each in own_jar.glob("index.old-*")]
    for _ in range(2):
        assert send(owner, "/tips/jar/remove").location == "/account/tips#jar"
    assert "Put a tip jar on your site" in told(owner)
    assert '"/account/tips"' in owner.get("/account/tips/jar").headers["HX-Location"]
    assert send(owner, "/tips/jar", **TYPED).status_code == 404
    settle(this_shop)
    assert not (own_jar / "index.php").exists()
    send(owner, "/tips/jar/put")
    settle(this_shop)
    assert (own_jar / "index.php").exists()


@with_ftp
def test_the_owner_reads_that_the_tip_jar_waits_for_ftp(
    owner, own_jar, ftp_server, this_shop, alice, time_machine
):
    ftp_server.stop()
    send(owner, "/tips/jar", **TYPED)
    reconcile.account(this_shop, alice.id)
    assert "The server does not respond as it should; we keep trying" in told(owner)


@with_ftp
def test_the_owner_is_told_that_the_tip_jar_needs_the_tip_page(owner, own_jar):
    send(owner, "/tips/switch", name="tips_page", active="off")
    assert "without it the tip jar cannot take tips" in told(owner)


# -- the badge -----------------------------------------------------------------------------------


def badge_of(client, this_shop, account):
    return client.get(tips.badge_url(this_shop, account).removeprefix("http://localhost"))


def test_a_badge_says_until_when_it_is_paid_and_by_how_many_tips(
    client, alice, this_shop, pay, time_machine
):
    answer = badge_of(client, this_shop, alice)
    ends = iso_time(alice.expires_at)[:10]
    assert f"<title>paid until {ends}</title>" in answer.text
    for number, words in ((1, "1 tip"), (2, "2 tips")):
        given = orders.Tip(1000, "page")
        pay(orders.top_up(this_shop, alice.id, given, None, f"form {number}"))
        assert f" by {words}</title>" in badge_of(client, this_shop, alice).text
    time_machine.forward(100 * DAY)
    assert "<title>the paid time is over</title>" in badge_of(client, this_shop, alice).text


def test_a_badge_is_a_picture_that_browsers_keep_for_an_hour(client, alice, this_shop):
    answer = badge_of(client, this_shop, alice)
    assert answer.mimetype == "image/svg+xml"
    assert answer.headers["Cache-Control"] == "public, max-age=3600"
    assert "Set-Cookie" not in answer.headers
    assert ElementTree.fromstring(answer.text).tag.endswith("svg")


def test_a_badge_needs_its_key(client, alice):
    for key in ("", "x", "0" * 32, "%00", "\u00e9" * 32, "F" * 32):
        for name in ("alice", "nobody"):
            answer = client.get(f"/badge/{name}.svg", query_string={"key": key})
            assert answer.status_code == 404, (name, key)


@pytest.mark.parametrize("switch", ["tips_page", "tips_show_end"])
def test_a_switch_that_is_off_removes_the_badge(client, owner, alice, this_shop, switch):
    page = owner.get("/account/tips").text
    assert tips.badge_url(this_shop, alice) in page
    tips.switch(alice.id, **{switch: False})
    assert badge_of(client, this_shop, alice).status_code == 404
    assert "/badge/" not in owner.get("/account/tips").text
