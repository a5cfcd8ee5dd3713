"""The pages, as browsers see them: ordering, paying, the login and the account."""

import re
import statistics
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from lightningspace.base import models, passwords, qr
from lightningspace.base.models import Account, Order, Service
from lightningspace.outside.node import Payment
from lightningspace.panel import reconcile
from lightningspace.rules import accounts, order_book, orders, payments, progress, wanted
from tests.conftest import (
    at_once,
    csrf_token,
    eventually,
    filled_form,
    invoices_asked_for,
    let_the_server_follow,
    log_in,
    open_account,
    place_order,
    record_payments,
    wish,
    with_settings,
    work,
)


@pytest.fixture
def other(app):
    """Somebody else's browser."""
    return app.test_client()


def same_browser(app, client):
    """A second window of the same browser, for another thread."""
    window = app.test_client()
    window.set_cookie("session", client.get_cookie("session").value)
    return window


def send(client, path, page="/login", **fields):
    """Press a button: POST with the CSRF token of `page`."""
    token = csrf_token(client.get(page).text)
    return client.post(path, data={"csrf_token": token} | fields)


# -- ordering --------------------------------------------------------------------------


def test_an_order_leads_to_its_page(client):
    answer = place_order(client)
    assert answer.status_code == 303
    assert answer.location == f"/orders/{Order.get().token}"


def test_the_order_page_shows_amount_and_invoice(client):
    page = place_order(client, follow_redirects=True).text
    order = Order.get()
    assert heading_of(page) == "Pay 630 sat"
    assert "100 MB, 3 months" in page
    assert invoice_of(page) == order.bolt11
    assert f'href="lightning:{order.bolt11}">Open in wallet</a>' in page
    code = re.escape(qr.png(f"LIGHTNING:{order.bolt11.upper()}"))
    code = rf'<a class="qr" href="lightning:{order.bolt11}"><img src="{code}" alt="QR code of the'
    assert re.search(code, page)
    assert f'<time datetime="{time_of(order.expires_at)}">' in page


def heading_of(page):
    heading = re.search(r'<h1 id="order-heading"[^>]*>\s*(.*?)</h1>', page, re.S)[1]
    return re.sub("<[^>]*>", "", heading)


def title_of(page):
    return re.search(r"<title>(.*?) · ", page)[1]


def invoice_of(page):
    """The text of the invoice, without the places where it may break."""
    return re.search(r'<code id="bolt11">(.*?)</code>', page)[1].replace("<wbr>", "")


def test_the_order_page_says_what_is_bought_where_and_until_when(client, time_machine):
    page = client.get(place_order(client, username="alice").location).text
    facts = dict(re.findall(r"<dt>(.*?)</dt>\s*<dd>(.*?)</dd>", page, re.S))
    assert facts["Address"] == "alice.<wbr>shop.<wbr>test"
    assert facts["Includes"] == "A web site with PHP, FTP, SSH, a database and mail."
    assert time_of(int(time_machine.moment) + 90 * 86400) in facts["Paid until"]


def test_an_order_without_a_name_shows_no_address(client):
    assert "<dt>Address</dt>" not in client.get(place_order(client).location).text


def test_the_time_left_to_pay_is_counted_by_the_server(client, time_machine):
    link = place_order(client).location
    time_machine.forward(100)
    for path in (link, f"{link}/status"):
        shown = re.search(r'data-left="(\d+)">(\d+):(\d+)<', client.get(path).text)
        assert int(shown[1]) == Order.get().expires_at - int(time_machine.moment)
        assert int(shown[1]) == 60 * int(shown[2]) + int(shown[3])


def test_what_a_waiting_page_fetches_every_two_seconds_is_a_kilobyte_at_most(client):
    link = place_order(client, username="a" * 16).location
    assert len(client.get(f"{link}/status").data) <= 1024


def test_screen_readers_announce_only_the_heading(client):
    page = client.get(place_order(client).location).text
    assert re.findall(r"<(\w+)[^>]* aria-live=", page) == ["h1"]


def time_of(seconds):
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


def test_only_the_browser_that_ordered_sees_the_name_and_the_cancel_button(client, other):
    link = place_order(client, username="alice").location
    assert "Cancel the order" in client.get(link).text
    assert "alice" in client.get(link).text
    assert "Cancel the order" not in other.get(link).text
    assert "Cancel the order" not in other.get(f"{link}/status").text
    assert "alice" not in other.get(link).text


@pytest.fixture
def reach(client, wallet, worker, this_shop, node, panel, time_machine):
    """Bring an order of `client` into a state, and return its link."""

    def reach(state):
        link = place_order(client).location
        order = Order.get()
        if state == "cancelled":
            send(client, f"{link}/cancel")
        if state in ("checking", "expired"):
            time_machine.forward(16 * 60)
        if state == "expired":
            payments.tidy(this_shop, node.id)
        if state == "failing":
            panel.down()
        if state in ("paid", "failing", "ready"):
            wallet.pay(order.bolt11)
            record_payments(worker)
        if state in ("failing", "ready"):
            work(worker)
        return link

    return reach


WAITING = {
    "unpaid": "Waiting for your payment",
    "checking": "takes up to a minute",
    "paid": "Paid. Setting up",
    "failing": "Last try",
}
OVER = {"cancelled": "Cancelled", "expired": "Expired", "ready": "Ready"}


@pytest.mark.parametrize("state", WAITING)
def test_page_and_fragment_show_what_is_waited_for_and_poll(state, reach, other):
    link = reach(state)
    page, status = other.get(link), other.get(f"{link}/status")
    for answer in (page, status):
        assert answer.status_code == 200
        assert WAITING[state] in answer.text
    assert f'hx-get="{link}/status"' in status.text
    assert 'hx-trigger="every 2s, ' in status.text
    seconds = 20 if state == "unpaid" else 5
    assert f'<noscript><meta http-equiv="refresh" content="{seconds}">' in page.text
    if state != "unpaid":
        shows_no_invoice(page.text)


@pytest.mark.parametrize("state", OVER)
def test_page_and_fragment_show_a_final_state_and_stop_polling(state, reach, other):
    link = reach(state)
    page, status = other.get(link), other.get(f"{link}/status")
    for answer in (page, status):
        assert answer.status_code == 200
        assert OVER[state] in answer.text
        assert "hx-get" not in answer.text
        assert "refresh" not in answer.text
    shows_no_invoice(page.text)


ICONS = {"unpaid": "bolt", "checking": "bolt", "paid": "paid", "ready": "paid"}


@pytest.mark.parametrize("state", [*WAITING, *OVER])
def test_title_heading_and_icon_follow_the_state_on_page_and_fragment(state, reach, other):
    link = reach(state)
    page, status = other.get(link).text, other.get(f"{link}/status").text
    assert title_of(page) == title_of(status) == heading_of(page) == heading_of(status)
    icons = [re.search(r'rel="icon" href="/static/(\w+)-', text) for text in (page, status)]
    icon = ICONS.get(state, "paid" if state == "failing" else "over")
    assert icons[0][1] == icon
    assert (state == "unpaid" and icons[1] is None) or icons[1][1] == icon


def test_an_order_that_may_have_been_paid_can_be_ordered_again(reach, client, other):
    link = reach("checking")
    assert "Do not pay a second time" in client.get(link).text
    assert "Cancel the order" in client.get(f"{link}/status").text
    assert "Cancel the order" not in other.get(link).text
    assert "Not paid? Order again" in other.get(link).text


def test_only_the_ordering_browser_reads_which_name_is_free_again(
    client, other, worker, time_machine
):
    link = place_order(client, username="alice").location
    time_machine.forward(16 * 60)
    worker.tidy()
    assert "the name <strong>alice</strong> is free again" in client.get(link).text
    assert "alice" not in other.get(link).text


def shows_no_invoice(page: str) -> None:
    assert "lightning:ln" not in page
    assert "bolt11" not in page
    assert "data:image" not in page


@pytest.mark.parametrize("state", ["cancelled", "expired"])
def test_an_order_that_is_over_can_be_ordered_again(state, reach, client):
    page = client.get(reach(state)).text
    again = re.search(r'href="([^"]+)">Order again', page)[1].replace("&amp;", "&")
    assert 'value="100" checked' in client.get(again).text
    assert "for 100 MB, 3 months" in client.get(again).text


def test_the_same_form_twice_makes_one_order(client, node):
    form = filled_form(client, username="alice", password="correct horse")
    first, second = (client.post("/orders", data=form) for _ in range(2))
    assert (first.status_code, second.status_code) == (303, 303)
    assert first.location == second.location
    assert Order.select().count() == invoices_asked_for(node) == 1


@pytest.mark.each_database
def test_the_same_form_twice_at_once_makes_one_order(app, client, node):
    form = filled_form(client, username="alice")
    windows = [same_browser(app, client) for _ in range(2)]
    answers = at_once(*[lambda w=w: w.post("/orders", data=form) for w in windows])
    assert [a.status_code for a in answers] == [303, 303]
    assert len({a.location for a in answers}) == 1
    assert Order.select().count() == invoices_asked_for(node) == 1


def test_going_back_and_choosing_another_size_makes_a_second_order(client):
    form = filled_form(client)
    first = client.post("/orders", data=form)
    second = client.post("/orders", data=form | {"space_mb": "500"})
    assert first.location != second.location
    assert sorted(o.space_mb for o in Order.select()) == [100, 500]


def test_the_form_of_another_browser_makes_another_order(client, other):
    form = filled_form(client)
    client.post("/orders", data=form)
    other.post("/orders", data=form | {"csrf_token": filled_form(other)["csrf_token"]})
    assert Order.select().count() == 2


def test_a_name_that_the_browser_holds_itself_is_explained_with_a_link(client, other):
    link = place_order(client, username="alice").location
    again = place_order(client, username="alice", duration="4")
    assert again.status_code == 400
    assert f'<a href="{link}">' in again.text
    assert link not in place_order(other, username="alice").text


def test_a_taken_name_is_refused_beside_the_field(alice, client):
    answer = place_order(client, username="alice")
    assert answer.status_code == 400
    assert re.search(r'id="username-error"[^>]*>This name is taken', answer.text)
    assert 'value="alice"' in answer.text


@pytest.mark.each_database
def test_of_two_simultaneous_orders_of_a_name_one_gets_it(app, node):
    for number in range(5):
        browsers = [app.test_client() for _ in range(2)]
        forms = [filled_form(browser, username=f"alice{number}") for browser in browsers]
        answers = at_once(
            *[
                lambda b=browser, f=form: b.post("/orders", data=f)
                for browser, form in zip(browsers, forms, strict=True)
            ]
        )
        assert sorted(answer.status_code for answer in answers) == [303, 400]
        assert "taken" in max(answers, key=lambda answer: answer.status_code).text
    assert Order.select().count() == invoices_asked_for(node) == 5


@with_settings(CAPACITY_MB="400")
def test_a_size_that_is_sold_out_is_refused_beside_the_field(client, node):
    assert "sold out" in client.get("/").text
    answer = place_order(client, space_mb="500", username="alice")
    assert answer.status_code == 400
    assert 'id="space_mb-error"' in answer.text
    assert 'value="alice"' in answer.text
    assert invoices_asked_for(node) == Account.select().count() == 0


@with_settings(UNPAID_PER_CLIENT="1")
def test_too_many_names_that_one_network_has_not_paid_are_refused(client, other):
    place_order(client, username="bobby")
    answer = place_order(other, username="alice")
    assert answer.status_code == 429
    assert "several names without paying" in answer.text
    assert 'value="alice"' in answer.text
    assert place_order(other).status_code == 303


@with_settings(UNPAID_PER_CLIENT="1")
def test_a_cancelled_order_leaves_its_place_to_the_next(client):
    link = place_order(client, username="bobby").location
    send(client, f"{link}/cancel")
    assert place_order(client, username="alice").status_code == 303


def test_an_order_says_when_its_name_is_not_reserved_again(client, other, wallet, worker):
    link = place_order(client, username="alice").location
    assert "not reserved" not in client.get(link).text
    send(client, f"{link}/cancel")
    link = place_order(client, username="alice").location
    assert "The name alice is not reserved" in client.get(link).text
    peer = {"REMOTE_ADDR": "192.0.2.9"}
    form = filled_form(other, username="alice")
    faster = other.post("/orders", data=form, environ_base=peer).location
    for paid in (faster, link):
        wallet.pay(Order.get_by_id(paid.rpartition("/")[2]).bolt11)
        work(worker)
    assert client.get(link).location == "/account"
    assert "The name alice was gone when you paid" in client.get("/account").text


@with_settings(ORDERS_LIMIT="2 per day")
def test_the_limit_of_orders_is_explained_on_our_own_page(client):
    for _ in range(2):
        assert place_order(client).status_code == 303
    answer = place_order(client)
    assert answer.status_code == 429
    assert "<h1>Slow down</h1>" in answer.text
    assert Order.select().count() == 2


@with_settings(ORDERS_LIMIT="1 per day")
def test_requests_that_order_nothing_do_not_count(client):
    for _ in range(3):
        assert place_order(client, duration="0").status_code == 400
        assert place_order(client, show="price").status_code == 200
    assert place_order(client).status_code == 303


@pytest.mark.parametrize("network", ["2001:db8:{:x}:1::1", "192.0.2.{}"])
@with_settings(ORDERS_LIMIT_OVERALL="6 per day", ORDERS_LIMIT="3 per day")
def test_at_the_overall_limit_only_the_heaviest_network_is_refused(network, client):
    def order(number):
        peer = {"REMOTE_ADDR": network.format(number)}
        return client.post("/orders", data=filled_form(client), environ_base=peer).status_code

    assert [order(number) for number in (1, 1, 1, 1, 2, 2, 2, 2)] == 2 * [303, 303, 303, 429]
    assert [order(number) for number in (1, 3, 3, 3, 2, 4, 4, 4)] == (
        [429, 303, 303, 429, 429, 303, 303, 429]
    )


def test_no_address_is_kept_where_limits_are_counted(app, client):
    place_order(client)
    counted = app.extensions["limits"]._own.storage
    assert counted and "127.0.0.1" not in " ".join(counted)


@with_settings(ORDERS_LIMIT="3 per day", UNPAID_PER_CLIENT="3")
def test_the_addresses_of_one_customer_are_one_network(client):
    orders = []
    for number in range(4):
        peer = {"REMOTE_ADDR": f"2001:db8:1:{number}::1"}
        orders.append(client.post("/orders", data=filled_form(client), environ_base=peer))
    assert [order.status_code for order in orders] == [303, 303, 303, 429]
    assert 0 < int(orders[-1].headers["Retry-After"]) <= 24 * 60 * 60


# -- faults of the node and the panel --------------------------------------------------


def test_a_node_that_is_down_charges_nothing_and_holds_nothing(client, node):
    node.down()
    form = filled_form(client, username="alice", email="a@example.org", password="correct horse")
    answer = client.post("/orders", data=form)
    assert answer.status_code == 503
    assert "Nothing was charged" in answer.text
    assert 'value="alice"' in answer.text
    assert "correct horse" not in answer.text
    assert Account.select().count() == 0

    node.up()
    assert client.post("/orders", data=form).status_code == 303


@pytest.mark.parametrize("weather", ["cut-before", "cut-after", "refuse"])
def test_a_node_that_fails_is_a_503_and_the_next_try_works(weather, client, node):
    node.faults.set(weather, "invoice", times=1)
    form = filled_form(client, username="alice")
    assert client.post("/orders", data=form).status_code == 503
    assert client.post("/orders", data=form).status_code == 303


def test_a_frozen_node_times_out_and_holds_up_nobody_else(app, client, node):
    node.faults.set("frozen", "invoice")
    form = filled_form(client)
    answers = []

    def order():
        answers.append(client.post("/orders", data=form))
        models.db.close()

    ordering = threading.Thread(target=order)
    started = time.monotonic()
    ordering.start()
    eventually(lambda: invoices_asked_for(node))
    assert app.test_client().get("/").status_code == 200
    assert ordering.is_alive()
    ordering.join(10)
    assert answers[0].status_code == 503
    assert time.monotonic() - started < 7
    node.faults.clear()


def test_a_panel_that_is_down_after_the_payment_is_reported(
    reach, other, panel, worker, time_machine
):
    link = reach("failing")
    page = other.get(link).text
    assert "Your payment is recorded" in page
    assert f'Last try: <time datetime="{time_of(time_machine.moment)}">' in page

    panel.up()
    time_machine.forward(3600)
    work(worker)
    assert "Ready" in other.get(link).text


def test_the_progress_shown_is_the_real_one(client, other, wallet, worker, panel):
    panel.forbidden = {"sites_shell_user_add"}
    link = place_order(client).location
    wallet.pay(Order.get().bolt11)
    work(worker)
    applied = int(re.search(r'<progress value="(\d+)" max="8"', other.get(link).text)[1])
    assert applied == sum(row.is_applied for row in models.Service.select())
    assert 0 < applied < 8


# -- ready -----------------------------------------------------------------------------


def test_the_browser_that_ordered_is_logged_in_and_taken_to_its_account(reach, client):
    answer = client.get(reach("ready"))
    assert (answer.status_code, answer.location) == (303, "/account")
    assert f"{Account.get().username}.shop.test" in client.get("/account").text


def test_the_fragment_takes_the_browser_that_ordered_to_its_account(reach, client):
    answer = client.get(f"{reach('ready')}/status")
    assert answer.headers["HX-Redirect"] == "/account"
    assert client.get("/account").status_code == 200


def test_another_browser_sees_that_it_is_ready_and_no_more(reach, other, this_shop):
    page = other.get(reach("ready")).text
    account = Account.get()
    assert "Ready" in page
    assert account.username not in page
    assert this_shop.vault.unseal(account.password_sealed) not in page
    assert other.get("/account").location.startswith("/login")


def test_the_account_shows_every_credential(reach, client, panel):
    page = client.get(reach("ready"), follow_redirects=True).text
    name = Account.get().username
    assert page.count(panel.password_of("ftp", 1)) == 1
    for text in (f"ls_{name}", f"info@{name}.shop.test", f"ssh ls_{name}@", "mysql -h 127.0.0.1"):
        assert text in page


def test_a_saved_password_is_wiped(reach, client, panel):
    client.get(reach("ready"))
    seen_at = re.search(r'name="seen_at" value="(\d+)"', client.get("/account").text)[1]
    assert send(client, "/account/noted", page="/account", seen_at=seen_at).status_code == 303
    assert Account.get().password_sealed is None
    assert panel.password_of("ftp", 1) not in client.get("/account").text


def test_a_password_made_after_the_page_was_shown_is_not_wiped(
    alice, this_shop, page_of_alice, client, time_machine
):
    page_of_alice()
    seen_at = int(time_machine.moment)
    time_machine.forward(5)
    wanted.set_password(this_shop, alice.id, "ftp", "ls_alice")
    page = page_of_alice()
    for odd in (seen_at, 0, -1, "x", ""):
        send(client, "/account/noted", page="/account", seen_at=odd)
    own = this_shop.vault.unseal(Service.get(kind="ftp").own_password_sealed)
    assert own in page
    send(client, "/account/noted", page="/account", seen_at=10**30)
    assert Service.get(kind="ftp").own_password_sealed is None


def test_a_password_that_does_not_open_yet_is_not_shown(alice, this_shop, page_of_alice, panel):
    panel.faults.set("refuse", "sites_ftp_user_update", message="HTTP 500")
    wanted.set_password(this_shop, alice.id, "ftp", "ls_alice")
    page = page_of_alice()
    assert this_shop.vault.unseal(Service.get(kind="ftp").own_password_sealed) not in page


def test_a_service_with_a_typed_password_shows_no_other(reach, client, this_shop, worker):
    client.get(reach("ready"))
    account = Account.get()
    wanted.set_password(this_shop, account.id, "ftp", f"ls_{account.username}", "another horse")
    work(worker)
    page = client.get("/account").text
    made = this_shop.vault.unseal(account.password_sealed)
    assert page.count(made) == 1
    assert page.count("your password, shown above") == 3
    assert page.count("yours (hidden)") == 1
    assert "another horse" not in page


def test_a_generated_password_is_not_shown_as_the_login_after_a_change(reach, client, panel):
    client.get(reach("ready"))
    assert "the login here, FTP" in re.sub(r"\s+", " ", client.get("/account").text)
    change_password(client, current=panel.password_of("ftp", 1))
    page = client.get("/account").text
    assert panel.password_of("ftp", 1) in page
    assert "the login here" not in page


def test_a_password_that_was_typed_is_never_shown(client, wallet, worker):
    link = place_order(client, password="correct horse").location
    wallet.pay(Order.get().bolt11)
    work(worker)
    assert "correct horse" not in client.get(link, follow_redirects=True).text


def test_nobody_sees_an_account_without_a_login(alice, client):
    answer = client.get("/account")
    assert (answer.status_code, answer.location) == (302, "/login")
    assert send(client, "/account/noted").location.startswith("/login")
    assert send(client, "/account/password").location.startswith("/login")


def test_customers_see_their_own_account_only(alice, this_shop, wallet, worker, client):
    bob = orders.place(this_shop, wish(username="bobby", password="battery staple"))
    wallet.pay(bob.bolt11)
    work(worker)
    log_in(client, "bobby", "battery staple")
    page = client.get("/account").text
    assert "bobby.shop.test" in page
    assert "alice" not in page


@pytest.fixture
def page_of_alice(alice, client, worker):
    """Let the worker do what is due, and return alice's page."""

    def page():
        work(worker)
        if client.get("/account").status_code == 302:
            log_in(client, "alice", "correct horse")
        return client.get("/account").text

    return page


def test_the_account_says_what_is_applied_and_what_is_live(
    alice, this_shop, page_of_alice, panel, time_machine
):
    assert "being switched on" in page_of_alice()
    for _ in range(2):
        time_machine.forward(panel.seconds_to_go() + 5)
        progress.look_at_queues(this_shop)
    page = page_of_alice()
    assert page.count('class="state">live') == 5
    assert "being switched on" not in page


def test_the_account_says_that_it_is_suspended(this_shop, alice, page_of_alice):
    Account.update(expires_at=Account.valued_at, value_msat=0).execute()
    accounts.suspend(alice.id)
    assert "The paid time is over" in page_of_alice()
    assert 'class="state">off' not in page_of_alice()  # the server has not switched it off yet
    reconcile.account(this_shop, alice.id)
    let_the_server_follow()
    assert page_of_alice().count('class="state">off') == 5


def test_the_account_says_why_it_is_blocked_and_escapes_it(alice, page_of_alice):
    accounts.block(alice.id, "It sent <b>spam</b>")
    assert "The reason: It sent &lt;b&gt;spam&lt;/b&gt;" in page_of_alice()


def test_the_account_says_that_it_is_being_closed(alice, page_of_alice, panel):
    panel.forbidden = {"sites_web_domain_delete"}
    accounts.close(alice.id)
    page = page_of_alice()
    assert "This hosting is being closed" in page
    assert "being removed" in page


def test_the_account_says_what_waits_for_the_operator(alice, page_of_alice, panel):
    panel.forbidden = {"sites_ftp_user_update"}
    wanted.switch(alice.id, "ftp", "ls_alice", False)
    page = page_of_alice()
    assert "needs the operator: ask whoever runs this shop" in page
    assert "sites_ftp_user_update" not in page


def test_the_account_shows_new_passwords_and_leads_to_the_rest(alice, this_shop, page_of_alice):
    wanted.add(this_shop, alice.id, "alias", "alice.example")
    wanted.add(this_shop, alice.id, "mailbox", "eve@alice.shop.test")
    wanted.add(this_shop, alice.id, "forward", "a@alice.shop.test", destination="b@example.org")
    page = page_of_alice()
    assert "<code>eve@alice.shop.test</code>" in page
    assert "alice.example</span>" in page
    assert "2 more mailboxes or forwards:" in page
    own = Service.get(name="eve@alice.shop.test").own_password_sealed
    assert this_shop.vault.unseal(own) in page


def test_a_removed_service_does_not_break_the_page(alice, page_of_alice):
    wanted.remove(alice.id, "ftp", "ls_alice")
    assert "<h3>FTP</h3>" not in page_of_alice()


# -- login -----------------------------------------------------------------------------


def test_name_and_password_open_the_account(alice, client):
    answer = log_in(client, "alice", "correct horse")
    assert (answer.status_code, answer.location) == (303, "/account")
    assert "alice.shop.test" in client.get("/account").text


def test_the_name_may_be_written_in_capitals_and_with_blanks(alice, client):
    assert log_in(client, " Alice ", "correct horse").status_code == 303


def without_tokens(page):
    return re.sub(r'name="csrf_token"[^>]*>', "", page)


def test_unknown_user_and_wrong_password_look_the_same(alice, client):
    wrong = log_in(client, "alice", "wrong password")
    unknown = log_in(client, "nobob", "wrong password")
    assert wrong.status_code == unknown.status_code == 400
    same = without_tokens(wrong.text).replace("alice", "nobob") == without_tokens(unknown.text)
    assert same
    assert "wrong password" not in wrong.text


def test_an_order_not_paid_yet_is_no_login(order, client):
    assert log_in(client, "alice", "correct horse").status_code == 400


@pytest.fixture
def hashes_that_take_long():
    """Hashes that take most of a login's time, though less than in production."""
    quick, passwords.METHOD = passwords.METHOD, "scrypt:8192:8:1"
    yield
    passwords.METHOD = quick


@with_settings(LOGINS_LIMIT="1000 per minute")
def test_unknown_user_and_wrong_password_take_the_same_time(alice, client, hashes_that_take_long):
    Account.update(password_hash=passwords.make_hash("correct horse")).execute()
    token = csrf_token(client.get("/login").text)
    taken = {"alice": [], "nobob": [], "no user !": []}
    for _ in range(9):
        for name, times in taken.items():
            # The CPU time of this thread, whatever else the machine does.
            start = time.thread_time()
            typed = {"csrf_token": token, "username": name, "password": "wrong password"}
            client.post("/login", data=typed)
            times.append(time.thread_time() - start)
    medians = [statistics.median(times) for times in taken.values()]
    assert max(medians) < 1.2 * min(medians)


HOSTILE_LOGINS = [
    ("\0", "correct horse"),
    ("al\0ice", "correct horse"),
    ("a" * 65, "correct horse"),
    ("' OR 1=1 --", "correct horse"),
    ("", "correct horse"),
    ("alice", "\0"),
    ("alice", "correct horse" * 1000),
    ("alice", "ünïcode"),
    ("alice", ""),
]


@with_settings(LOGINS_LIMIT="1000 per minute")
def test_hostile_logins_are_refused_without_an_error(alice, client):
    for username, password in HOSTILE_LOGINS:
        answer = log_in(client, username, password)
        assert answer.status_code == 400
        assert "<h1>Log in</h1>" in answer.text


@with_settings(LOGINS_LIMIT="2 per day")
def test_logins_are_limited_even_with_the_right_password(alice, app, other):
    assert log_in(app.test_client(), "alice", "correct horse").status_code == 303
    assert log_in(other, "alice", "wrong password").status_code == 400
    answer = log_in(other, "alice", "correct horse")
    assert answer.status_code == 429
    assert "<h1>Slow down</h1>" in answer.text
    assert other.get("/login").status_code == 200


@pytest.fixture
def known(alice, app):
    """A browser in which alice was logged in before."""
    browser = app.test_client()
    log_in(browser, "alice", "correct horse", environ_base={"REMOTE_ADDR": "192.0.2.9"})
    send(browser, "/logout")
    return browser


def from_network(number: int) -> dict:
    return {"environ_base": {"REMOTE_ADDR": f"192.0.2.{number}"}}


@with_settings(LOGINS_LIMIT="2 per day", LOGINS_LIMIT_OVERALL="3 per day")
def test_a_known_browser_shares_no_limit_with_strangers(known, alice, app, this_shop):
    open_account(this_shop, "bobby", password_hash=alice.password_hash)
    other = app.test_client()
    statuses = [
        log_in(other, "alice", "wrong password", **from_network(number)).status_code
        for number in (1, 1, 1, 2, 2)
    ]
    # One was this browser's first login; the other network has its own share.
    assert statuses == [400, 400, 429, 400, 429]
    assert log_in(known, "bobby", "correct horse", **from_network(1)).status_code == 429
    # The customer's own logins are limited, too, for each network.
    statuses = [
        log_in(known, "alice", "wrong password", **from_network(1)).status_code for _ in range(3)
    ]
    assert statuses == [400, 400, 429]
    assert log_in(known, " Alice", "correct horse", **from_network(3)).status_code == 303


@with_settings(LOGINS_LIMIT="2 per day")
def test_a_network_with_many_hostings_has_one_limit_for_all_of_them(known, alice, this_shop):
    for name in ("mallory", "malloryb"):
        open_account(this_shop, name, password_hash=alice.password_hash)
        log_in(known, name, "correct horse", **from_network(len(name)))
    statuses = [
        log_in(known, name, "correct horse", **from_network(1)).status_code
        for name in ("mallory", "malloryb", "mallory")
    ]
    assert statuses == [303, 303, 429]
    assert log_in(known, "alice", "correct horse", **from_network(2)).status_code == 303


def test_a_known_browser_does_not_wait_behind_strangers(known, app):
    flood, is_over = passwords.STRANGERS, threading.Event()

    def hash_long(network):
        with flood.place(network):
            is_over.wait()

    with ThreadPoolExecutor() as pool:
        for number in range(3):
            pool.submit(hash_long, f"192.0.2.{number}")
        eventually(lambda: len(flood._networks) == 3)
        stranger = log_in(app.test_client(), "alice", "correct horse", **from_network(5))
        entered = log_in(known, "alice", "correct horse", **from_network(1))
        is_over.set()
    assert (stranger.status_code, entered.status_code) == (429, 303)


def test_one_login_of_a_network_waits_at_a_time(alice, client):
    with passwords.STRANGERS.place("192.0.2.1"):
        assert log_in(client, "alice", "correct horse", **from_network(1)).status_code == 429
        assert log_in(client, "alice", "correct horse", **from_network(2)).status_code == 303
    assert log_in(client, "alice", "correct horse", **from_network(1)).status_code == 303


@with_settings(LOGINS_LIMIT="2 per day")
def test_guessing_the_current_password_is_limited_too(alice, client):
    log_in(client, "alice", "correct horse")
    for _ in range(2):
        assert change_password(client, current="wrong guess").status_code == 400
    assert change_password(client).status_code == 429


def test_a_flood_of_logins_is_turned_away(alice, client):
    with passwords.STRANGERS.place("127.0.0.1"):
        assert log_in(client, "alice", "correct horse").status_code == 429


@with_settings(PROXY_HOPS="1", LOGINS_LIMIT="1 per day")
def test_behind_a_proxy_each_client_has_a_limit_of_its_own(alice, client):
    statuses = [
        log_in(client, "alice", "wrong", headers={"X-Forwarded-For": seen}).status_code
        for seen in ("192.0.2.1", "192.0.2.2", "192.0.2.1", "192.0.2.99, 192.0.2.1")
    ]
    assert statuses == [400, 400, 429, 429]


@with_settings(LOGINS_LIMIT="1 per day")
def test_without_a_proxy_nobody_can_claim_an_address(alice, client):
    statuses = [
        log_in(client, "alice", "wrong", headers={"X-Forwarded-For": seen}).status_code
        for seen in ("192.0.2.1", "192.0.2.2")
    ]
    assert statuses == [400, 429]


def test_logging_in_keeps_only_the_waiting_orders_of_the_session_before(alice, client):
    link = place_order(client).location
    with client.session_transaction() as session:
        session["left over"] = "something"
    log_in(client, "alice", "correct horse")
    assert "Cancel the order" in client.get(link).text
    with client.session_transaction() as session:
        assert "left over" not in session
        assert "_id" not in session


def test_an_order_whose_invoice_is_being_made_polls(client):
    link = place_order(client).location
    Order.update(bolt11=None).execute()
    page = client.get(link).text
    assert "Your invoice is being made" in page
    assert '<noscript><meta http-equiv="refresh" content="3"></noscript>' in page
    assert f'hx-get="{link}" hx-trigger="every 2s"' in page
    assert "Cancel the order" not in page


@with_settings(LOGINS_LIMIT="1 per day")
def test_a_limit_that_is_reached_logs_no_address(client, caplog):
    caplog.set_level("INFO")
    log_in(client, "alice", "wrong password")
    assert log_in(client, "alice", "wrong password").status_code == 429
    assert "127.0.0.1" not in caplog.text


def test_an_own_order_is_entered_after_a_login_to_another_hosting(alice, client, wallet, worker):
    link = place_order(client).location
    log_in(client, "alice", "correct horse")
    wallet.pay(Order.get_by_id(link.rpartition("/")[2]).bolt11)
    work(worker)
    assert client.get(link).location == "/account"
    assert 'id="password"' in client.get("/account").text


def test_logging_out_ends_the_right_to_enter_by_the_orders_link(client, wallet, worker):
    link = place_order(client).location
    wallet.pay(Order.get().bolt11)
    work(worker)
    assert client.get(link).status_code == 303
    send(client, "/logout")
    assert client.get(link).status_code == 200
    assert client.get("/account").location.startswith("/login")


def test_logging_out_takes_a_form(alice, client):
    log_in(client, "alice", "correct horse")
    assert client.get("/logout").status_code == 405
    assert client.get("/account").status_code == 200
    assert send(client, "/logout").location == "/"
    assert client.get("/account").status_code == 302


def test_logging_out_ends_the_right_to_enter_by_the_order(reach, client):
    link = reach("ready")
    client.get(link)
    send(client, "/logout")
    assert client.get(link).status_code == 200


# -- the login password ----------------------------------------------------------------


def change_password(client, current="correct horse", new="battery staple"):
    return send(client, "/account/password", page="/account", current=current, new=new)


def test_a_changed_password_is_the_one_that_logs_in(alice, client, other):
    log_in(client, "alice", "correct horse")
    assert change_password(client).location == "/account/password"
    assert client.get("/account").status_code == 200
    assert log_in(other, "alice", "correct horse").status_code == 400
    assert log_in(other, "alice", "battery staple").status_code == 303


def test_changing_the_password_logs_other_sessions_out(alice, client, other):
    log_in(client, "alice", "correct horse")
    log_in(other, "alice", "correct horse")
    change_password(client)
    assert other.get("/account").status_code == 302


def test_changing_the_password_ends_the_ordering_browsers_right_to_enter(
    client, other, wallet, worker
):
    link = place_order(client, username="alice", password="correct horse").location
    wallet.pay(Order.get().bolt11)
    work(worker)
    assert client.get(link).location == "/account"
    log_in(other, "alice", "correct horse")
    change_password(other)
    assert client.get("/account").status_code == 302
    assert client.get(link).status_code == 200
    assert client.get("/account").status_code == 302


@with_settings(LOGINS_LIMIT="1000 per minute")
def test_changing_the_password_needs_the_old_one_and_a_good_new_one(alice, client, subtests):
    log_in(client, "alice", "correct horse")
    for field, typed in [
        ("current", "wrong password"),
        ("current", ""),
        ("new", ""),
        ("new", "short"),
        ("new", "        "),
        ("new", "p" * 65),
        ("new", "pässword word"),
    ]:
        with subtests.test(field=field, typed=typed):
            answer = change_password(client, **{field: typed})
            assert answer.status_code == 400
            assert f'id="{field}-error"' in answer.text
            assert not typed or f'value="{typed}"' not in answer.text
    assert Account.get_by_id(alice.id).password_hash == alice.password_hash


# -- cancelling ------------------------------------------------------------------------


def test_cancelling_frees_name_and_space_and_deletes_the_invoice(client, this_shop):
    link = place_order(client, username="alice").location
    order = Order.get()
    answer = send(client, f"{link}/cancel", page=link)
    assert (answer.status_code, answer.location) == (303, link)
    assert this_shop.node.find_invoice(order_book.label(this_shop, order)) is None
    assert place_order(client, username="alice").status_code == 303


def test_only_the_browser_that_ordered_may_cancel(client, other, alice):
    link = place_order(client).location
    assert send(other, f"{link}/cancel").status_code == 404
    log_in(other, "alice", "correct horse")
    assert send(other, f"{link}/cancel", page="/account").status_code == 404
    assert "Waiting for your payment" in client.get(link).text


@pytest.mark.parametrize("is_recorded", [True, False])
def test_cancelling_a_paid_order_does_nothing(client, wallet, worker, is_recorded):
    link = place_order(client).location
    wallet.pay(Order.get().bolt11)
    if is_recorded:
        record_payments(worker)
    send(client, f"{link}/cancel")
    assert Order.get().cancelled_at is None
    work(worker)
    assert Account.get().ready_at is not None


def test_cancelling_twice_is_cancelling_once(client):
    link = place_order(client).location
    answers = [send(client, f"{link}/cancel") for _ in range(2)]
    assert [answer.status_code for answer in answers] == [303, 303]


def test_an_order_is_cancelled_as_soon_as_the_node_answers(client, node, worker):
    link = place_order(client).location
    node.down()
    answer = send(client, f"{link}/cancel", page=link)
    assert answer.status_code == 503
    assert "We cancel this as soon as it does" in answer.text
    for page in (answer.text, client.get(link).text):
        assert "Please do not pay it any more" in page
        assert "lnbc" not in page and "bolt11" not in page
    node.up()
    worker.tidy()
    assert "Cancelled" in client.get(link).text


def test_an_invoice_that_the_node_has_lost_is_not_called_unpaid(client, node, worker, time_machine):
    copy = node.copied()
    link = place_order(client).location
    node.restore(copy)
    worker.tidy()
    time_machine.forward(60)
    worker.tidy()
    page = client.get(link).text
    assert "cannot say whether it was paid" in page and Order.get().payment_hash in page
    assert "Nothing was charged" not in page
    assert "hx-trigger" not in page and "Order again" in page


# -- text browsers, and terminals ------------------------------------------------------


CURL, W3M = {"User-Agent": "curl/8.5.0"}, {"User-Agent": "w3m/0.5.3+git20230121"}
LYNX = {"User-Agent": "Lynx/2.9.0dev.12 libwww-FM/2.14"}
FIREFOX = {"User-Agent": "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0"}
HTML, TEXT = {"Accept": "text/html,*/*;q=0.8"}, {"Accept": "text/plain"}


@pytest.mark.parametrize(
    ("headers", "is_text"),
    [
        (CURL | {"Accept": "*/*"}, True),
        ({"User-Agent": "Wget/1.21.3"}, True),
        (FIREFOX | TEXT, True),
        (CURL | HTML, False),
        (FIREFOX | HTML, False),
        (FIREFOX | {"Accept": "*/*"}, False),
        (W3M | HTML, False),
        ({"User-Agent": "\xff", "Accept": ";;,q=x"}, False),
    ],
)
def test_a_terminal_gets_the_order_as_text(headers, is_text, client, other):
    answer = other.get(place_order(client).location, headers=headers)
    assert answer.content_type == f"text/{'plain' if is_text else 'html'}; charset=utf-8"
    assert is_text == ("<" not in answer.text)


def test_the_text_of_an_order_has_its_invoice_whole_and_as_blocks(client, other):
    link = place_order(client, username="alice").location
    text = other.get(link, headers=CURL).text
    lines = text.splitlines()
    assert lines[0] == "Pay 630 sat"
    assert Order.get().bolt11 in lines
    assert qr.blocks(f"LIGHTNING:{Order.get().bolt11.upper()}") in text
    assert lines[-1] == f"http://localhost{link}"
    assert "alice" not in text


@pytest.mark.parametrize("state", [*WAITING, *OVER])
def test_the_text_of_an_order_follows_its_state(state, reach, client):
    link = reach(state)
    page, text = client.get(link), client.get(link, headers=CURL)
    assert text.status_code == 200  # and it logs nobody in
    assert state == "ready" or text.text.startswith(heading_of(page.text) + "\n")
    assert state == "unpaid" or "lnbc" not in text.text


@pytest.mark.parametrize("browser", [W3M, LYNX])
def test_a_text_browser_gets_the_code_as_text_and_no_useless_button(browser, client):
    page = client.get(place_order(client).location, headers=browser | HTML).text
    assert f"<pre>{qr.blocks(f'LIGHTNING:{Order.get().bolt11.upper()}')}</pre>" in page
    assert "data:image" not in page and 'type="button"' not in page
    assert invoice_of(page) == Order.get().bolt11


# -- links -----------------------------------------------------------------------------


HOSTILE_TOKENS = ["x", "..%2F..%2Fetc", "0" * 32, "0" * 10_000, "%00", "%FF", "'%20OR%201=1"]


def test_an_unknown_link_is_a_404(subtests, client):
    for token in HOSTILE_TOKENS:
        with subtests.test(token=token):
            place_order(client)
            assert client.get(f"/orders/{token}").status_code == 404
            assert client.get(f"/orders/{token}/status").status_code == 404
            assert send(client, f"/orders/{token}/cancel").status_code == 404


def test_the_address_of_a_form_leads_on_when_opened_by_get(client):
    link = place_order(client).location
    assert client.get("/orders").location == "/"
    assert client.get(f"{link}/cancel").location == link
    assert client.get("/orders/unknown/cancel", follow_redirects=True).status_code == 404


def test_no_link_at_all_is_a_404(client):
    assert client.get("/orders/").status_code == 404
    assert client.get("/orders/../account").status_code in (302, 404)


def test_a_payment_without_an_order_has_no_page(client, this_shop):
    label = this_shop.config.label_prefix + "f" * 32
    payments.record(this_shop, "node", Payment(label, "e" * 64, 1, 1, 1000), after=0)
    assert Order.get().kind == "lost"
    assert client.get(f"/orders/{Order.get().token}").status_code == 404
    assert client.get(f"/orders/{Order.get().token}/status").status_code == 404


def test_a_real_shop_has_no_sandbox_button(app, client):
    link = place_order(client).location
    assert "sandbox" not in client.get(link).text
    assert not any("sandbox" in str(rule) for rule in app.url_map.iter_rules())
    assert send(client, f"/sandbox/pay/{Order.get().token}").status_code == 404


@pytest.mark.each_database
def test_nul_characters_do_no_harm(client):
    assert client.get("/orders/%00").status_code == 404
    assert log_in(client, "al\0ice", "\0").status_code == 400
    for field in ("username", "email", "password", "duration", "space_mb", "unit"):
        assert place_order(client, **{field: "al\0ice"}).status_code == 400
    assert place_order(client, form_id="\0").status_code == 303
