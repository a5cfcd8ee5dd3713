"""More time and another size: what it costs, what it does, and the pages that sell it."""

import re
import secrets
import time

import pytest

from lightningspace.base import clock, models
from lightningspace.base.clock import now
from lightningspace.base.models import Account, Order, Server, Service, transaction
from lightningspace.base.prices import DAY, Size
from lightningspace.outside.node import NodeError
from lightningspace.panel import reconcile
from lightningspace.rules import (
    accounts,
    capacity,
    invoices,
    ledger,
    order_book,
    orders,
    outbox,
    payments,
    quotes,
    services,
    wanted,
)
from tests.conftest import (
    at_once,
    csrf_token,
    enter,
    form_id,
    invoices_asked_for,
    open_account,
    record_payments,
    with_mail,
    with_settings,
    work,
)


@pytest.fixture(autouse=True)
def time_stands_still(time_machine):
    """A second between two steps could cost a sat."""


def buyer(form_id: str | None = None) -> orders.Buyer:
    return orders.Buyer("alice's browser", form_id or secrets.token_hex(8))


def reload(row):
    return type(row).get_by_id(row.get_id())


def sold_mb() -> int:
    """The space that was sold, without jails."""
    return sum(account.space_mb for account in Account.select())


@pytest.fixture
def extend(this_shop, alice):
    def extend(duration=1, unit="months", form_id=None):
        return orders.extend(this_shop, alice.id, duration, unit, buyer(form_id))

    return extend


@pytest.fixture
def resize(this_shop, alice):
    def resize(space_mb=100, addresses=0, domains=0, form_id=None):
        return orders.resize(
            this_shop, alice.id, Size(space_mb, addresses, domains), buyer(form_id)
        )

    return resize


@pytest.fixture
def pay(this_shop, wallet, worker):
    """Pay an order and let it take effect."""

    def pay(order):
        wallet.pay(order.bolt11)
        record_payments(worker)
        payments.apply(this_shop, order.token)
        return reload(order)

    return pay


def use(alice, mb: int = 1) -> None:
    """Set the used space, as if the panel had just reported it."""
    used = {"used_site_mb": mb, "used_database_mb": mb, "used_mail_mb": mb, "used_at": now()}
    Account.update(used).where(Account.id == alice.id).execute()


# -- rules: more time ------------------------------------------------------------------


@with_mail
def test_a_reminder_of_an_end_that_has_moved_is_not_sent(extend, pay, alice, this_shop, mails):
    Account.update(email="alice@example.org").where(Account.id == alice.id).execute()
    with transaction():
        outbox.write(this_shop, reload(alice), "ending", alice.expires_at)
    pay(extend())
    assert outbox.send_due(this_shop) == 0


def test_an_extension_that_is_paid_moves_the_end(extend, pay, alice):
    order = extend(30, "days")
    assert order.amount_msat == 210_000
    paid = pay(order)
    assert reload(alice).expires_at == alice.expires_at + 30 * DAY == paid.ends_at
    assert paid.bought_seconds == 30 * DAY


def test_the_same_form_twice_is_one_extension(extend, node):
    assert extend(form_id="one").token == extend(form_id="one").token
    assert invoices_asked_for(node) == 1


@pytest.mark.each_database
def test_the_same_form_twice_at_once_is_one_extension(extend, node):
    first, second = at_once(*2 * [lambda: extend(form_id="one")])
    assert first.token == second.token
    assert invoices_asked_for(node) == 1


def test_each_of_several_extensions_counts_when_it_is_paid(extend, pay, alice):
    for order in [extend(30, "days"), extend(24, "hours")][::-1]:
        pay(order)
    assert reload(alice).expires_at == alice.expires_at + 31 * DAY


def test_time_after_the_end_counts_as_paid_for_nothing(extend, pay, alice, this_shop, time_machine):
    """Or an hour's payment at the end of each grace period would add up to days, then months."""
    paid = ledger.paid_seconds(alice)
    for _ in range(3):
        account = reload(alice)
        time_machine.moment = account.expires_at + ledger.grace_seconds(this_shop, account) - 1
        pay(extend(1, "hours"))
        own = order_book.latest(alice.id, order_book.OWN_DOORS, 10)
        bought = sum(order.bought_seconds for order in own)
        assert ledger.paid_seconds(reload(alice)) == paid + bought


def test_a_suspended_hosting_counts_from_now_and_is_switched_on(
    extend, pay, alice, this_shop, time_machine
):
    time_machine.moment = alice.expires_at + DAY
    accounts.suspend(alice.id)
    reconcile.account(this_shop, alice.id)
    pay(extend(1, "hours"))
    after = reload(alice)
    assert after.expires_at == int(time_machine.moment) + 3600 * 1000 * 24 // 7000
    assert after.suspended_at is None
    reconcile.account(this_shop, alice.id)
    assert all(services.is_on(after, row) and row.is_applied for row in Service.select())


def test_what_is_paid_beyond_the_horizon_is_credit(extend, pay, alice):
    pay(extend(24, "months"))
    paid = pay(extend(24, "months"))
    after = reload(alice)
    assert after.expires_at - alice.ready_at == pytest.approx(1095 * DAY, abs=60)
    # 90 days and 48 months make 1,530 days: 435 too many, at 7 sat each.
    assert paid.bought_credit_msat == after.credit_msat == pytest.approx(435 * 7000, abs=10)
    assert ledger.holding(after).worth_msat == 1530 * 7000


def test_nothing_is_sold_that_would_have_no_effect(subtests, extend, resize, alice, node):
    for facts, why in [
        ({"closing_at": 1}, "closed"),
        ({"blocked_at": 1, "blocked_reason": "spam"}, "blocked"),
        ({"last_call_at": 1}, "about to be deleted"),
    ]:
        Account.update(facts).execute()
        for buy in (extend, lambda: resize(500)):
            with subtests.test(why), pytest.raises(quotes.NotForSale, match=why):
                buy()
        Account.update(dict.fromkeys(facts)).execute()
    assert invoices_asked_for(node) == 0


def test_money_under_way_to_a_blocked_hosting_counts_and_switches_nothing_on(extend, pay, alice):
    order = extend(30, "days")
    accounts.block(alice.id, "spam")
    pay(order)
    after = reload(alice)
    assert after.expires_at == alice.expires_at + 30 * DAY
    assert not any(services.is_on(after, row) for row in Service.select())


def test_unpaid_orders_of_an_account_are_limited(extend, this_shop):
    placed = [extend() for _ in range(orders.OPEN_ORDERS)]
    with pytest.raises(orders.TooManyUnpaid):
        extend()
    invoices.cancel(this_shop, placed[0])
    assert extend()


# -- rules: another size ------------------------------------------------------------------------


def test_a_larger_size_costs_the_difference_until_the_same_end(resize, pay, alice):
    order = resize(500)
    # 15 sat a day instead of 7, for 90 days.
    assert order.amount_msat == 8 * 90 * 1000
    assert sold_mb() == 100
    pay(order)
    after = reload(alice)
    assert after.space_mb == 500
    assert after.expires_at == alice.expires_at
    assert sold_mb() == 500
    assert all(not row.is_applied for row in Service.select().where(Service.kind == "site"))


@pytest.mark.each_database
def test_a_smaller_size_applies_at_once_and_lasts_longer(resize, pay, alice, node):
    pay(resize(500))
    use(alice)
    assert resize(100) is None
    after = reload(alice)
    assert after.space_mb == 100
    assert after.expires_at - alice.ready_at == pytest.approx(90 * 15 / 7 * DAY, abs=60)
    assert sold_mb() == 100


def test_extras_cost_until_the_end_and_are_allowed_then(resize, pay, alice, this_shop):
    order = resize(100, addresses=2, domains=1)
    assert order.amount_msat == 3 * 90 * 1000
    assert services.addresses_allowed(this_shop, reload(alice)) == 5
    pay(order)
    assert services.addresses_allowed(this_shop, reload(alice)) == 7
    assert services.domains_allowed(this_shop, reload(alice)) == 2


def test_one_more_extra_says_what_it_costs_until_when(alice, this_shop):
    size, msat, until = quotes.one_more(this_shop, alice, "addresses")
    assert (size, msat, until) == (Size(100, 1), 90_000, alice.expires_at)
    assert quotes.one_more(this_shop, alice, "domains")[0] == Size(100, 0, 1)


def test_the_present_size_costs_nothing_and_changes_nothing(resize, alice, this_shop):
    before = reload(alice)
    Account.update(value_msat=1).execute()  # as if prices had risen
    assert resize(100) is None
    assert reload(alice).expires_at == before.expires_at


def test_a_smaller_size_needs_the_used_space_to_be_known(resize, pay, alice):
    pay(resize(500))
    with pytest.raises(quotes.NotForSale, match="do not know yet"):
        resize(100)
    use(alice, 80)
    with pytest.raises(quotes.NotForSale, match="web site uses 80 MB, and would have only 70 MB"):
        resize(100)


def test_used_space_of_hours_ago_does_not_count_as_known(resize, pay, alice, time_machine):
    pay(resize(500))
    use(alice)
    time_machine.forward(2 * 60 * 60 + 1)
    with pytest.raises(quotes.NotForSale, match="do not know yet"):
        resize(100)


def test_extras_in_use_cannot_be_given_back(resize, pay, alice, this_shop):
    pay(resize(100, addresses=1))
    for number in range(5):
        wanted.add(this_shop, alice.id, "mailbox", f"box{number}@alice.shop.test")
    with pytest.raises(quotes.NotForSale, match="6 mailboxes and forwards"):
        resize(100)


def test_a_hosting_whose_time_is_over_cannot_be_resized(resize, alice, time_machine):
    time_machine.moment = alice.expires_at + 1
    with pytest.raises(quotes.NotForSale, match="Extend the hosting first"):
        resize(500)


def test_a_hosting_that_is_being_set_up_cannot_be_resized(this_shop):
    bob = open_account(this_shop, "bob")
    with pytest.raises(quotes.NotForSale, match="still being set up"):
        orders.resize(this_shop, bob.id, Size(500), buyer())


def test_a_second_size_waits_for_the_first(resize, this_shop):
    first = resize(500)
    with pytest.raises(quotes.ResizeWaits) as waits:
        resize(1000)
    assert waits.value.token == first.token
    invoices.cancel(this_shop, first)
    assert sold_mb() == 100
    assert resize(1000)


@pytest.mark.each_database
def test_two_sizes_at_once_are_one_order(resize, node):
    def ask(space_mb):
        try:
            return resize(space_mb).token
        except quotes.ResizeWaits as waits:
            return waits.token

    first, second = at_once(lambda: ask(500), lambda: ask(1000))
    assert first == second
    assert Order.select().where(Order.kind == "resize").count() == 1


@pytest.mark.each_database
def test_the_same_form_twice_is_one_resize(resize, node):
    first, second = at_once(*2 * [lambda: resize(500, form_id="one")])
    assert first.token == second.token
    assert sold_mb() == 100


def test_a_paid_size_that_is_not_in_effect_yet_comes_first(resize, wallet, worker):
    order = resize(500)
    wallet.pay(order.bolt11)
    record_payments(worker)
    with pytest.raises(quotes.ResizeWaits):
        resize(1000)


def test_a_node_that_fails_leaves_nothing_held_and_the_next_try_works(resize, node):
    node.faults.set("refuse", "invoice", times=1)
    with pytest.raises(NodeError):
        resize(500)
    assert sold_mb() == 100
    assert resize(500).bolt11


@with_settings(CAPACITY_MB="645")  # including a jail of 146 MB
def test_space_that_is_not_there_is_not_sold(resize, alice):
    with pytest.raises(orders.SoldOut):
        resize(500)
    assert sold_mb() == 100
    assert resize(100, addresses=1)


@pytest.mark.each_database
def test_a_paid_resize_is_done_though_its_space_was_sold(resize, alice, this_shop):
    order = resize(500)
    Server.update(capacity_mb=200).execute()
    paid_late(order)
    payments.apply(this_shop, order.token)
    assert sold_mb() == 500
    assert "server 1: 446 MB are sold beyond CAPACITY_MB" in capacity.problems(this_shop)[0]
    with pytest.raises(orders.SoldOut):
        resize(1000)
    uses(1)
    assert resize(100) is None


def test_a_paid_resize_is_done_though_more_space_is_used_by_now(resize, pay, alice, this_shop):
    pay(resize(500))
    uses(1)
    order = resize(400, domains=30)
    uses(300)
    paid_late(order)
    payments.apply(this_shop, order.token)
    assert (reload(alice).space_mb, reload(alice).extra_domains) == (400, 30)


def uses(site_mb: int) -> None:
    facts = {"used_site_mb": site_mb, "used_database_mb": 0, "used_mail_mb": 0}
    Account.update(used_at=now(), **facts).execute()


def paid_late(order) -> None:
    """Pay an order when it is too late, as can happen with a restored node."""
    facts = {"paid_at": 1, "node_id": "02" * 33, "pay_index": 1}
    facts |= {"payment_hash": "0" * 64, "received_msat": order.amount_msat}
    Order.update(facts).where(Order.token == order.token).execute()


# -- rules: one after the other -------------------------------------------------------------------


def test_a_cheap_extension_paid_after_growing_buys_what_it_is_worth(extend, resize, pay, alice):
    cheap = extend(24, "months")
    pay(resize(5000))
    before = reload(alice).expires_at
    paid = pay(cheap)
    # 720 days at 7 sat make 48 days at 105.
    assert paid.bought_seconds == 48 * DAY
    assert reload(alice).expires_at == before + 48 * DAY


def test_an_extension_paid_after_extras_buys_what_it_is_worth(extend, resize, pay):
    cheap = extend(70, "days")
    pay(resize(100, addresses=93))
    assert pay(cheap).bought_seconds == 490 * DAY // 100


def test_a_resize_paid_after_an_extension_converts_all_the_time(extend, resize, pay, alice):
    larger = resize(5000)
    pay(extend(24, "months"))
    pay(larger)
    after = reload(alice)
    assert after.space_mb == 5000
    # It lasts at least as long as promised, and no value is lost.
    assert after.expires_at >= alice.expires_at
    assert ledger.holding(after).worth_msat == pytest.approx((720 * 7 + 90 * 105) * 1000, abs=200)
    assert after.expires_at == pytest.approx(alice.expires_at + 48 * DAY, abs=60)


def test_a_resize_paid_after_the_end_buys_what_it_is_worth(resize, pay, alice, time_machine):
    time_machine.moment = alice.expires_at - 60
    order = resize(5000)
    assert order.amount_msat == 1000
    time_machine.forward(120)
    accounts.suspend(alice.id)
    pay(order)
    after = reload(alice)
    assert after.space_mb == 5000
    assert after.expires_at - int(time_machine.moment) == 1000 * DAY // 105_000
    assert after.suspended_at is None


# -- pages ---------------------------------------------------------------------------------


@pytest.fixture
def client(client, alice):
    """Alice's browser, logged in."""
    enter(client, alice)
    return client


@pytest.fixture
def stranger(app):
    return app.test_client()


def day(moment: int) -> str:
    return time.strftime("%Y-%m-%d", time.gmtime(moment))


def tokens_of(page: str) -> dict:
    """The hidden fields of the form that orders something, the only such form on the page."""
    form = next(form for form in page.split("<form")[1:] if 'name="form_id"' in form)
    return {"csrf_token": csrf_token(form), "form_id": form_id(form)}


def send(client, page, **fields):
    """Fill in the form of a page as a browser does, and send it."""
    tokens = tokens_of(client.get(page).text)
    return client.post(page.partition("?")[0], data=tokens | fields)


def order_time(client, duration="30", unit="days", **fields):
    return send(client, "/account/extend", duration=duration, unit=unit, **fields)


def order_size(client, **fields):
    size = {"space_mb": "500", "extra_addresses": "0", "extra_domains": "0"} | fields
    query = "&".join(f"{name}={value}" for name, value in size.items())
    return send(client, f"/account/size?{query}", **size)


def test_price_and_new_end_are_shown_before_anything_is_ordered(client, alice, node):
    for path in ("/account/extend", "/account/extend/price"):
        page = client.get(f"{path}?duration=30&unit=days").text
        assert "<strong>210 sat</strong>" in page
        assert day(alice.expires_at + 30 * DAY) in page
    assert invoices_asked_for(node) == 0


def test_a_button_says_whether_it_orders_a_time_or_an_amount(client):
    page = client.get("/account/extend").text
    assert re.findall(r'<button type="submit"[^>]*>([^<]*)<', page) == [
        "Order and pay for this time",
        "Order and pay this amount",
    ]


def test_an_hour_is_among_the_choices(client):
    assert ">1 hour</a> <small>1 sat</small>" in client.get("/account/extend").text


def test_show_price_keeps_what_was_typed_and_orders_nothing(client, node):
    page = order_time(client, "12", "days", show="price")
    assert page.status_code == 200
    assert "<strong>84 sat</strong>" in page.text
    assert 'value="12"' in page.text
    assert invoices_asked_for(node) == 0


def test_a_time_that_is_not_sold_is_refused_beside_the_field(subtests, client, node):
    for duration, unit in [
        ("0", "days"),
        ("731", "days"),
        ("x", "days"),
        ("", "days"),
        ("1", "weeks"),
        ("\0", "\0"),
    ]:
        for show in [None, "price"]:
            with subtests.test(duration=duration, unit=unit, show=show):
                page = order_time(client, duration, unit, **({"show": show} if show else {}))
                assert page.status_code == 400
                assert '-error" role="alert"' in page.text
                assert "Choose a time" in page.text
                fragment = client.get(
                    "/account/extend/price", query_string={"duration": duration, "unit": unit}
                )
                assert "Choose a time" in fragment.text
                assert invoices_asked_for(node) == 0


def test_an_ordered_extension_has_a_page_with_its_invoice(client, alice, stranger):
    link = order_time(client).location
    order = Order.get(Order.kind == "extend")
    assert link == f"/orders/{order.token}"
    page = client.get(link).text
    assert "<title>Pay 210 sat" in page
    assert "<strong>alice</strong>, 100 MB" in page and "<dd>30 days</dd>" in page
    assert day(alice.expires_at + 30 * DAY) in page
    assert f'href="lightning:{order.bolt11}">Open in wallet</a>' in page
    text = stranger.get(link, headers={"User-Agent": "curl/8.5.0"}).text
    assert f"Paid until: {day(alice.expires_at + 30 * DAY)}" in text
    assert "Cancel the order" in page
    other = stranger.get(link).text
    assert "alice" not in other
    assert "Cancel the order" not in other
    assert f'href="{link}">30 days more</a>' in client.get("/account/extend").text


def test_the_same_form_sent_twice_makes_one_order(client, node):
    fields = tokens_of(client.get("/account/extend").text)
    fields |= {"duration": "3", "unit": "days"}
    first, second = (client.post("/account/extend", data=fields) for _ in range(2))
    assert first.location == second.location
    assert invoices_asked_for(node) == 1


def test_a_paid_extension_leads_who_is_logged_in_to_the_account(
    client, stranger, wallet, worker, alice
):
    link = order_time(client).location
    wallet.pay(Order.get(Order.kind == "extend").bolt11)
    record_payments(worker)
    assert "takes effect in a moment" in client.get(f"{link}/status").text
    work(worker)
    page = client.get(link).text
    assert f"<title>Done: paid until {clock.day(Account.get().expires_at)} ·" in page
    assert "Extended by 30 days until" in page
    assert "hx-get" not in page
    poll = client.get(f"{link}/status")
    assert poll.headers["HX-Redirect"] == "/account"
    assert "Thank you: your hosting is paid until" in client.get("/account").text
    other = stranger.get(f"{link}/status")
    assert "HX-Redirect" not in other.headers
    assert "Done: paid until" in other.text


def test_the_link_of_an_extension_logs_nobody_in(client, wallet, worker):
    link = order_time(client).location
    client.delete_cookie("session")
    for order in Order.select():
        wallet.pay(order.bolt11)
    work(worker)
    # As if this browser had placed the order in an earlier session, on a shared computer.
    browser = "of somebody who was logged in here"
    with client.session_transaction() as session:
        session["browser"] = browser
    shop = client.application.extensions["shop"]
    Order.update(browser=shop.vault.mac("browser", browser)).execute()
    assert client.get(link).status_code == 200
    assert "HX-Redirect" not in client.get(f"{link}/status").headers
    assert client.get("/account").status_code == 302


def test_a_login_to_another_hosting_is_not_led_anywhere(
    client, stranger, wallet, worker, this_shop
):
    enter(stranger, open_account(this_shop, "bobby"))
    link = order_time(client).location
    wallet.pay(Order.get(Order.kind == "extend").bolt11)
    work(worker)
    assert "HX-Redirect" not in stranger.get(f"{link}/status").headers


@pytest.mark.parametrize("kind", ["extend", "resize"])
def test_a_cancelled_order_can_be_ordered_again_where_it_came_from(kind, client, this_shop):
    link = (order_time if kind == "extend" else order_size)(client).location
    page = client.post(f"{link}/cancel", data={"csrf_token": csrf_token(client.get(link).text)})
    page = client.get(link).text
    assert "Cancelled" in page
    again = re.search('href="([^"]*)">Order again', page)[1].replace("&amp;", "&")
    form = client.get(again).text
    if kind == "extend":
        assert 'value="30"' in form
        assert '<option selected value="days">' in form
    else:
        assert 'value="500" checked' in form
        assert "<strong>720 sat</strong>" in form


def test_a_stranger_may_not_cancel_an_extension(client, stranger):
    link = order_time(client).location
    token = csrf_token(stranger.get("/").text)
    assert stranger.post(f"{link}/cancel", data={"csrf_token": token}).status_code == 404


def test_another_browser_of_the_owner_may_cancel_it(client, stranger, alice):
    enter(stranger, alice)
    link = order_size(client).location
    page = stranger.get(link).text
    assert "Cancel the order" in page
    stranger.post(f"{link}/cancel", data={"csrf_token": csrf_token(page)})
    assert "Cancelled" in client.get(link).text


def test_the_owner_of_another_hosting_may_not_cancel_it(client, stranger, this_shop):
    enter(stranger, open_account(this_shop, "bobby"))
    link = order_size(client).location
    assert "Cancel the order" not in stranger.get(link).text
    token = csrf_token(stranger.get("/").text)
    assert stranger.post(f"{link}/cancel", data={"csrf_token": token}).status_code == 404


def test_a_larger_size_is_priced_and_then_ordered(client, alice, node):
    query = "space_mb=500&extra_addresses=1&extra_domains=0"
    for path in ("/account/size", "/account/size/price"):
        page = client.get(f"{path}?{query}").text
        assert "<strong>810 sat</strong>" in page
        assert "</time>, as now." in page
        assert "Order and pay" in page
    assert invoices_asked_for(node) == 0
    link = order_size(client, extra_addresses="1").location
    page = client.get(link).text
    assert "<title>Pay 810 sat" in page
    assert "<dd>alice</dd>" in page and "<dd>500 MB, 1 extra mailbox or forward</dd>" in page
    assert day(alice.expires_at) in page
    assert (
        f'<a href="{link}">pay or cancel that order</a>'
        in client.get("/account/size?space_mb=1000").text
    )


def test_a_paid_size_is_done(client, wallet, worker, alice):
    link = order_size(client).location
    wallet.pay(Order.get(Order.kind == "resize").bolt11)
    work(worker)
    page = client.get(link).text
    assert "Changed to 500 MB, paid until" in page
    assert client.get(f"{link}/status").headers["HX-Redirect"] == "/account"
    assert re.search('value="500" checked>\\s*500 MB <small>now', client.get("/account/size").text)


def test_a_smaller_size_is_changed_at_once_and_says_so(client, resize, pay, alice):
    pay(resize(500))
    use(alice)
    page = client.get("/account/size?space_mb=100").text
    assert "<strong>0 sat</strong>" in page
    assert "Change it now" in page
    assert day(reload(alice).expires_at) in page
    done = order_size(client, space_mb="100")
    assert done.location == "/account"
    assert reload(alice).space_mb == 100
    assert day(reload(alice).expires_at) in page
    assert "Your hosting has its new size" in client.get("/account").text


def test_a_resize_happens_only_as_it_was_shown(client):
    page = client.get("/account/size?space_mb=500&extra_addresses=2&extra_domains=1").text
    confirm = page[page.index('id="confirm"') :]
    for name, value in (("space_mb", 500), ("extra_addresses", 2), ("extra_domains", 1)):
        assert f'name="{name}" value="{value}"' in confirm
    assert 'id="confirm"' not in client.get("/account/size").text


def test_a_size_that_is_not_sold_is_refused_beside_the_field(subtests, client, node):
    for field, typed in [
        ("space_mb", "7"),
        ("space_mb", "x"),
        ("space_mb", "\0"),
        ("extra_addresses", "-1"),
        ("extra_addresses", "101"),
        ("extra_domains", "x\0"),
        ("extra_domains", "1.5"),
        ("extra_domains", ""),
    ]:
        with subtests.test(field=field, typed=typed):
            size = {"space_mb": "500", "extra_addresses": "3", "extra_domains": "0"} | {
                field: typed
            }
            shown = client.get("/account/size", query_string=size)
            sent = tokens_of(client.get("/account/size?space_mb=500").text) | size
            for page in (shown, client.post("/account/size", data=sent)):
                assert page.status_code == 400
                assert f'id="{field}-error"' in page.text
                assert "could not coerce" not in page.text
                if field == "extra_domains":
                    assert 'value="3"' in page.text
                    assert 'value="500" checked' in page.text
            fragment = client.get("/account/size/price", query_string=size)
            assert fragment.status_code == 200
            assert "Choose a size" in fragment.text
            assert invoices_asked_for(node) == 0


def test_a_size_that_is_not_on_offer_any_more_can_be_kept(client, alice):
    Account.update(space_mb=250).execute()
    page = client.get("/account/size?extra_addresses=1").text
    assert re.search('value="250" checked>\\s*250 MB <small>now', page)
    assert "<strong>90 sat</strong>" not in page  # it has today's price
    assert "for 250 MB, 1 extra mailbox or forward" in page


@with_settings(CAPACITY_MB="499")
def test_a_size_that_is_sold_out_says_so(client, node):
    page = client.get("/account/size?space_mb=500").text
    assert "500 MB <small>sold out" in page
    assert "There is not that much space left right now" in page
    sent = send(client, "/account/size?extra_addresses=1", space_mb="500")
    assert sent.status_code == 400
    assert 'id="space_mb-error"' in sent.text
    assert invoices_asked_for(node) == 0


def test_the_page_says_why_a_size_cannot_be_had(client, resize, pay, alice):
    pay(resize(500))
    for page in (client.get("/account/size?space_mb=100"), shrink(client)):
        assert "We do not know yet how much space you use" in page.text
        assert 'id="confirm"' not in page.text
    assert page.status_code == 400


def shrink(client):
    return send(client, "/account/size?space_mb=1000", space_mb="100")


@pytest.mark.parametrize("order", [order_time, order_size])
def test_nothing_is_charged_while_the_node_is_down(order, client, node):
    node.faults.set("refuse", "invoice", times=1)
    answer = order(client)
    assert answer.status_code == 503
    assert "Nothing was charged" in answer.text
    assert order(client).status_code == 303


@pytest.mark.parametrize("order", [order_time, order_size])
def test_the_limit_of_unpaid_orders_is_explained(order, client, extend):
    for _ in range(orders.OPEN_ORDERS):
        extend()
    answer = order(client)
    assert answer.status_code == 429
    assert "many unpaid orders" in answer.text


@with_settings(ORDERS_LIMIT="2 per day")
def test_orders_are_limited(client):
    answers = [order_time(client).status_code for _ in range(3)]
    assert answers == [303, 303, 429]


def test_a_page_that_sells_nothing_says_why(subtests, client):
    for facts, why in [
        ({"closing_at": 1}, "This hosting is being closed"),
        ({"blocked_at": 1, "blocked_reason": "spam"}, "This hosting is blocked."),
        ({"last_call_at": 1}, "about to be deleted"),
    ]:
        Account.update(facts).execute()
        for path in ("/account/extend", "/account/size?space_mb=500"):
            with subtests.test(why=why, path=path):
                page = client.get(path).text
                assert why in page
                assert "Order and pay" not in page
        Account.update(dict.fromkeys(facts)).execute()


def test_time_beyond_the_horizon_is_shown_as_credit(client, extend, pay):
    pay(extend(24, "months"))
    page = client.get("/account/extend?duration=24&unit=months").text
    assert "at most 1095 days ahead" in page
    assert re.search("3,04[0-9] sat stays as credit", page)


def test_a_suspended_hosting_is_told_what_a_payment_does(client, alice, time_machine):
    time_machine.moment = alice.expires_at + DAY
    accounts.suspend(alice.id)
    enter(client, alice)
    page = client.get("/account/extend?duration=30&unit=days").text
    assert "counts from the moment you pay" in page
    assert day(alice.expires_at + 31 * DAY) in page
    assert "Extend the hosting first" in client.get("/account/size?space_mb=500").text


def test_nobody_sees_these_pages_without_a_login(alice, stranger):
    for path in ("extend", "extend/price", "size", "size/price", "payments"):
        assert stranger.get(f"/account/{path}").status_code == 302, path


def test_an_unpaid_extension_is_polled_with_one_query(client):
    link = order_time(client).location
    asked = []

    def note(sql, params=None, *rest):
        asked.append(sql)
        return execute(sql, params, *rest)

    execute = models.db.obj.execute_sql
    models.db.obj.execute_sql = note
    try:
        client.get(f"{link}/status")
    finally:
        models.db.obj.execute_sql = execute
    assert len(asked) == 1


# -- too late ------------------------------------------------------------------------------


def test_a_payment_while_the_hosting_is_deleted_opens_it_anew(
    client, stranger, wallet, worker, alice, panel, this_shop
):
    link = order_time(client).location
    accounts.close(alice.id)
    Account.update(deleting_at=1).execute()
    wallet.pay(Order.get(Order.kind == "extend").bolt11)
    record_payments(worker)
    for order in payments.due():
        assert payments.apply(this_shop, order.token) is None
    assert "It opens again as soon as that is done" in client.get(f"{link}/status").text
    for _ in range(3):
        work(worker)
    assert "opened again" in stranger.get(link).text
    assert "alice" not in stranger.get(link).text
    assert stranger.get("/account").status_code == 302
    assert client.get(link).location == "/account"
    page = client.get("/account").text
    assert "opened again as alice. What was in it is gone." in page
    assert 'id="password"' in page
    assert "Opened again: 100 MB for 30 days until" in client.get("/account/payments").text


def test_a_size_paid_too_late_opens_it_anew_with_that_size(
    client, worker, alice, wallet, this_shop
):
    link = order_size(client).location
    accounts.close(alice.id)
    reconcile.account(this_shop, alice.id)
    assert Account.select().count() == 0
    assert client.get(link).status_code == 200
    wallet.pay(Order.get(Order.kind == "resize").bolt11)
    record_payments(worker)
    assert "just too late" in client.get(link).text
    for _ in range(2):
        work(worker)
    assert Account.get().space_mb == 500
    assert client.get(link).location == "/account"
    assert "Opened again: 500 MB for 48 days" in client.get("/account/payments").text


def test_an_order_whose_hosting_is_gone_says_so(client, stranger, extend, pay, alice, this_shop):
    link = f"/orders/{pay(extend()).token}"
    accounts.close(alice.id)
    reconcile.account(this_shop, alice.id)
    page = stranger.get(link).text
    assert "Ended" in page
    assert 'href="/?space_mb=100&amp;duration=1&amp;unit=months"' in page


# -- receipts ------------------------------------------------------------------------------


def test_receipts_say_what_each_payment_did(client, extend, resize, pay, alice):
    paid = [pay(extend(30, "days")), pay(resize(1000, addresses=2))]
    page = client.get("/account/payments").text
    assert "Extended by 30 days until" in page
    assert "Changed to 1 GB, 2 extra mailboxes or forwards, paid until" in page
    assert "<strong>210 sat</strong>" in page
    for order in paid:
        assert order.payment_hash in page


def test_a_payment_not_in_effect_yet_has_a_receipt(client, extend, wallet, worker):
    wallet.pay(extend(30, "days").bolt11)
    record_payments(worker)
    assert (
        "30 days more: paid, and takes effect in a moment." in client.get("/account/payments").text
    )


def test_a_receipt_says_what_became_credit(client, extend, pay):
    pay(extend(24, "months"))
    pay(extend(24, "months"))
    page = client.get("/account/payments").text
    assert re.search("3.04[0-9] sat of it became credit", page)
    assert re.search("3,04[0-9] sat is credit now", page)


def test_nobody_sees_the_receipts_of_another(client, stranger, extend, pay, this_shop):
    paid = pay(extend())
    enter(stranger, open_account(this_shop, "bobby"))
    page = stranger.get("/account/payments").text
    assert paid.payment_hash not in page
    assert "Nothing has been paid yet" in page


def test_payments_are_listed_in_parts(client, stranger, alice, this_shop):
    """The owner's payments and other people's, each once, the latest first."""
    facts = {"account": alice, "space_mb": 100, "amount_msat": 1000, "placed_at": 1, "node_id": "n"}
    facts |= {"expires_at": 2, "pay_index": 1, "received_msat": 1000, "duration": 1}
    own, topped_up = facts | {"kind": "extend", "unit": "hours"}, facts | {"kind": "topup"}
    topped_up |= {"duration": None}
    several = (own, topped_up | {"door": "owner"}, topped_up | {"door": "address"})
    hashes = [f"{n:064x}" for n in range(2 * order_book.LISTED + 1)]
    for n, payment_hash in enumerate(hashes):
        paid = {"token": payment_hash[32:], "payment_hash": payment_hash, "paid_at": 9 + n // 4}
        Order.create(**several[n % 3], **paid)
    seen, link = [], "/account/payments"
    while link:
        page = client.get(link).text
        seen += re.findall("<code>([0-9a-f]{64})</code>", page)
        older = re.search('<a href="([^"]*)">Older payments', page)
        link = older and older[1]
    assert seen == hashes[::-1]
    enter(stranger, open_account(this_shop, "bobby"))
    assert stranger.get(f"/account/payments?before={hashes[7][32:]}").status_code == 404
