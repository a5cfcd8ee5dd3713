"""A visitor with a real browser; journeys without script are in test_without_script.py."""

import re
import subprocess
import threading
from collections import defaultdict
from urllib.parse import parse_qs, urlsplit

import pytest
from playwright.sync_api import expect

from lightningspace.base import qr
from lightningspace.base.clock import from_iso, now
from lightningspace.base.models import Account, Order
from lightningspace.base.prices import DAY, Size
from lightningspace.outside import l402
from lightningspace.panel import reconcile
from lightningspace.rules import (
    accounts,
    domain_checks,
    domains,
    invoices,
    payments,
    tokens,
    wanted,
)
from lightningspace.sandbox.program import buttons
from tests.conftest import (
    debian_program,
    dns_servers,
    enter,
    eventually,
    free_port,
    let_the_server_follow,
    opened,
    place_order,
    record_payments,
    with_ftp,
    with_mail,
    work,
)
from tests.reader import Reader

VIEWPORT = {"width": 1280, "height": 720}
WIDTHS = (320, 360, 1280)
ZONE = "America/Sao_Paulo"  # of every visitor: three hours behind UTC
READY_MS = 60_000
# On a busy machine even simple things take long.
expect.set_options(timeout=30_000)


class Door:
    """The port at which the shop of each test is open in its turn."""

    def __init__(self):
        self.port, self.app = free_port(), None

    def __call__(self, environ, start_response):
        return self.app(environ, start_response)


@pytest.fixture(scope="module")
def door():
    door = Door()
    with opened(door, door.port):
        yield door


@pytest.fixture
def port(door):
    return door.port


@pytest.fixture
def env(env, port, dns):
    return env | dns_servers(dns) | {"PUBLIC_URL": f"http://127.0.0.1:{port}"}


@pytest.fixture
def address(own_app, config, door, tmp_path, dns):
    """The address at which the shop is open, with the sandbox's buttons."""
    own_app.register_blueprint(buttons(tmp_path / "wallet-rpc", dns))
    door.app = own_app
    return config.public_url


@pytest.fixture
def quick(panel, monkeypatch):
    """Let the worker look often, and the panel's server follow soon."""
    panel.queue_seconds = 0.2
    monkeypatch.setattr("lightningspace.worker.QUEUE_SECONDS", 0.5)
    monkeypatch.setattr("lightningspace.worker.LOOK_SECONDS", 0.5)


@pytest.fixture
def at_work(quick, at_work):
    """The worker of `conftest.py` in a shop that does not wait long."""


class Visit:
    """A visitor's browser, whose first tab is `page`, with its requests and messages.

    `client`: a quicker client without a window, for steps that no browser needs to show.
    """

    def __init__(self, context, address: str, client):
        self._context, self._address, self.client = context, address, client
        self.requests: list[str] = []
        self.complaints: list[str] = []
        self._heard = {
            "request": lambda request: self.requests.append(request.url),
            "console": self._note,
            "weberror": lambda error: self.complaints.append(str(error.error)),
        }
        for event, hear in self._heard.items():
            context.on(event, hear)
        self.page = context.pages[0] if context.pages else self.open()

    def _note(self, message) -> None:
        # A violation of the Content-Security-Policy is an error, too.
        if message.type in ("error", "warning"):
            self.complaints.append(message.text)

    def open(self):
        """A further tab."""
        return self._context.new_page()

    def show(self, path: str, page=None) -> None:
        """Open a page with the cookie of `client`, as the customer that it logged in."""
        cookie = self.client.get_cookie("session")
        found = {"name": cookie.key, "value": cookie.value, "url": self._address}
        self._context.add_cookies([found])
        (page or self.page).goto(path)

    def show_order(self, username: str, page=None) -> None:
        """Open the page of an order that this visitor has placed."""
        self.show(place_order(self.client, username=username).location, page)

    def asked(self, path: str) -> list[str]:
        """The requested addresses whose path ends like this."""
        return [url for url in self.requests if urlsplit(url).path.endswith(path)]

    def assert_clean(self) -> None:
        """No message was an error, and every request went to the shop."""
        assert self.complaints == []
        ours = (f"{self._address}/", "data:")
        assert [url for url in self.requests if not url.startswith(ours)] == []

    def close(self) -> None:
        """Empty the browser, and leave it to the next visitor."""
        for event, hear in self._heard.items():
            self._context.remove_listener(event, hear)
        for tab in self._context.pages[1:]:
            tab.close()
        self.page.unroute_all()
        self.page.goto("about:blank")
        self.page.set_viewport_size(VIEWPORT)
        self.page.emulate_media(color_scheme="null")
        self._context.clear_cookies()
        self._context.clear_permissions()


@pytest.fixture(scope="module")
def idle():
    """Browsers in reserve, by their options, as each takes long to open."""
    return defaultdict(list)


@pytest.fixture
def visit(chromium, address, own_app, idle):
    """Open a browser of a visitor: `visit(script=False)`, `visit(clock=True)` to set its clock."""
    visits = []

    def visit(script: bool = True, clock: bool = False, permissions=()) -> Visit:
        free = idle[script, clock]
        if free:
            context = free.pop()
        else:
            context = chromium.new_context(
                base_url=address, java_script_enabled=script, viewport=VIEWPORT, timezone_id=ZONE
            )
            context.set_default_timeout(30_000)
            if clock:
                context.clock.install()
        context.grant_permissions(permissions)
        visits.append((free, context, Visit(context, address, own_app.test_client())))
        return visits[-1][-1]

    yield visit
    for free, context, each in visits:
        each.close()
        free.append(context)


def choose_name(page, username: str) -> None:
    page.get_by_text("Choose name and password").click()
    page.get_by_label("Name").fill(username)


def order_of(page) -> Order:
    return Order.get_by_id(page.url.rpartition("/")[2])


def assert_shows_credentials(page, username: str, password: str | None) -> None:
    """`password`: a generated one, or None if the customer has typed one."""
    expect(page).to_have_url(re.compile("/account$"), timeout=READY_MS)
    if password:
        expect(page.locator("#password")).to_have_text(password)
    for service in ("FTP", "SSH", "Database", "Mail"):
        heading = page.get_by_role("heading", name=service, exact=True)
        heading.click()
        facts = page.locator("details").filter(has=heading)
        user = f"info@{username}.shop.test" if service == "Mail" else f"ls_{username}"
        expect(facts.locator("div", has_text="User")).to_contain_text(user)
        whose = "your password" if password else "yours (hidden)"
        expect(facts.locator("div", has_text="Password")).to_contain_text(whose)


# -- buying --------------------------------------------------------------------------


@with_mail
def test_a_visitor_buys_a_hosting_with_script(visit, wallet, panel, at_work):
    seen = threading.Event()  # the page has shown the setting up: only then it becomes ready
    panel.before_call = lambda method: method != "sites_shell_user_add" or seen.wait(30)
    visitor = visit(permissions=["clipboard-read", "clipboard-write"])
    page = visitor.page
    page.goto("/")
    choose_name(page, "alice")
    page.get_by_label("E-mail").fill("alice@example.org")
    page.get_by_label("Password").fill("correct horse")
    before = page.locator("#price").inner_text()
    page.get_by_label("500 MB").check()
    expect(page.locator("#price")).not_to_have_text(before)
    expect(page.locator("#price")).to_contain_text("500 MB")
    expect(page.get_by_label("Name")).to_have_value("alice")
    for url in visitor.asked("/price"):
        assert parse_qs(urlsplit(url).query).keys() == {"space_mb", "time", "duration", "unit"}
    assert len(visitor.asked("/")) == 1

    page.get_by_role("button", name="Order and pay").click()
    expect(page.locator("button[data-pays]")).to_be_hidden()  # no wallet is in this browser
    page.get_by_role("button", name="Copy the invoice").click()
    expect(page.get_by_role("button", name="Copied")).to_be_visible()
    expect(page.get_by_role("status").filter(has_text="Copied")).to_have_count(1)
    invoice = page.locator("#bolt11").text_content()
    assert page.evaluate("navigator.clipboard.readText()") == invoice
    wallet.pay(invoice)

    # From here on nobody touches the page.
    expect(page.get_by_role("heading", name=re.compile("Setting up: [1-7] of 8"))).to_be_visible()
    expect(page).to_have_title(re.compile("Setting up: [1-8] of 8"))
    expect(page.locator("#icon")).to_have_attribute("href", re.compile("^/static/paid-"))
    expect(page.locator("#invoice")).to_be_hidden()
    expect(page.locator("#help")).to_be_hidden()
    seen.set()
    assert_shows_credentials(page, "alice", None)
    visitor.assert_clean()


@with_mail
def test_whether_a_name_is_free_is_shown_while_it_is_typed(visit, alice):
    visitor = visit()
    page = visitor.page
    preview = page.locator("#name-preview")
    page.goto("/")
    choose_name(page, "alice")
    expect(preview).to_have_text("alice.shop.test is taken")
    page.get_by_label("Password").fill("correct horse")
    page.get_by_label("E-mail").fill("alice@example.org")
    page.get_by_label("Name").fill("alice2")
    expect(preview).to_contain_text("alice2.shop.test ✓ free")
    expect(preview).to_contain_text("630 sat")
    page.get_by_label("1 day").check()
    expect(preview).to_contain_text("7 sat")
    page.get_by_label("5 GB").check()
    expect(preview).to_contain_text("105 sat")
    for url in visitor.asked("/name"):
        fields = parse_qs(urlsplit(url).query, keep_blank_values=True).keys()
        assert fields == {"space_mb", "time", "duration", "unit", "username"}
    visitor.assert_clean()


def test_a_visitor_buys_a_hosting_without_script(visit, panel, at_work):
    visitor = visit(script=False)
    page = visitor.page
    page.goto("/")
    choose_name(page, "alice")
    page.get_by_label("500 MB").check()
    before = page.locator("#price").inner_text()
    page.get_by_role("button", name="Show price").click()
    expect(page.locator("#price")).not_to_have_text(before)
    expect(page.get_by_label("Name")).to_have_value("alice")
    expect(page.get_by_label("500 MB")).to_be_checked()
    assert Order.select().count() == 0

    page.get_by_role("button", name="Order and pay").click()
    expect(page.get_by_role("button", name="Copy the invoice")).to_be_hidden()
    page.get_by_role("button", name="Pay from the sandbox wallet").click()
    # The page refreshes itself.
    password = page.locator("#password").inner_text(timeout=READY_MS)
    assert password == panel.password_of("ftp", 1)
    assert_shows_credentials(page, "alice", password)

    page.get_by_role("button", name="I saved it").click()
    expect(page.locator("body")).not_to_contain_text(password)
    visitor.assert_clean()


WEBLN = """window.webln = {
  async enable() {},
  async sendPayment(invoice) {
    if (!await payFromTest(invoice)) throw new Error("User rejected");
  },
};"""


def test_a_wallet_in_the_browser_pays_and_may_refuse(visit, wallet, worker):
    visitor, wants, refused = visit(), [], []
    page = visitor.open()  # its own tab: the wallet is in no other

    def pay(invoice):
        (wallet.pay if wants else refused.append)(invoice)
        return bool(wants)

    page.expose_function("payFromTest", pay)
    page.add_init_script(WEBLN)
    visitor.show_order("alice", page)
    button = page.get_by_role("button", name="Pay with the wallet in this browser")
    button.click()
    expect(page.get_by_text("Then nothing was paid")).to_be_visible()
    assert refused == [order_of(page).bolt11]

    wants.append(True)
    button.click()
    expect(button).to_be_enabled()
    record_payments(worker)
    expect(page.get_by_role("heading", name="Paid. Setting up")).to_be_visible()
    visitor.assert_clean()


def test_the_page_of_an_order_shows_its_invoice_once_it_is_made(visit):
    visitor = visit()
    page = visitor.page
    visitor.show_order("alice")
    made = order_of(page)
    Order.update(bolt11=None, payment_hash=None).execute()
    page.reload()
    expect(page).to_have_title(re.compile("One moment"))
    Order.update(bolt11=made.bolt11, payment_hash=made.payment_hash).execute()
    expect(page).to_have_title(re.compile("Pay 630 sat"))
    expect(page.locator("main #bolt11")).to_have_count(1)
    visitor.assert_clean()


def test_a_stranger_with_the_link_sees_progress_and_no_credentials(visit, own_app, wallet, worker):
    order, stranger = place_order(own_app.test_client(), username="alice"), visit()
    page = stranger.page
    page.goto(order.location)
    expect(page.get_by_text("Waiting for your payment")).to_be_visible()
    expect(page.get_by_role("button", name="Cancel")).to_have_count(0)
    wallet.pay(order_of(page).bolt11)
    work(worker)
    expect(page.get_by_role("heading", name="Ready")).to_be_visible(timeout=READY_MS)
    expect(page.locator("body")).not_to_contain_text("ls_alice")
    stranger.assert_clean()


def test_a_customer_buys_more_time_and_another_size(visit, alice, worker):
    visitor = visit()
    page = visitor.page

    def pay():
        page.get_by_role("button", name="Order and pay").first.click()
        page.get_by_role("button", name="Pay from the sandbox wallet").click()
        record_payments(worker)
        expect(page.get_by_text("Your payment is recorded")).to_be_visible()
        work(worker)
        expect(page).to_have_url(re.compile("/account$"), timeout=READY_MS)

    enter(visitor.client, alice)
    visitor.show("/account/extend")
    page.get_by_label("Duration", exact=True).fill("30")
    page.get_by_label("Unit").select_option("days")
    expect(page.locator("#price")).to_contain_text("210 sat for 30 days")
    pay()
    assert 119 * DAY < Account.get().expires_at - now() <= 120 * DAY

    page.goto("/account/size")
    page.get_by_label("500 MB").check()
    page.get_by_label("Mailboxes and forwards").fill("1")
    expect(page.locator("#offer")).to_contain_text("500 MB, 1 extra mailbox or forward")
    pay()
    assert Size.of(Account.get()) == Size(500, 1)
    visitor.assert_clean()


def test_times_are_in_the_visitors_zone_where_there_is_script(visit, time_machine):
    time_machine.moment = from_iso("2030-01-02T01:02:00Z")
    visitor = visit()
    page = visitor.page
    page.goto("/")
    end = page.locator("#price time")
    expect(end).to_have_text("1 Apr 2030")
    # The page's later requests do so, too.
    page.get_by_label("1 month").check()
    expect(end).to_have_text("31 Jan 2030")
    expect(end).to_have_attribute("title", "2030-02-01 01:02 UTC")
    page.get_by_label("1 day").check()
    expect(end).to_have_text("2030-01-02 22:02 GMT-3")
    expect(end).to_have_attribute("title", "2030-01-03 01:02 UTC")
    visitor.assert_clean()

    without_script = visit(script=False).page
    without_script.goto("/")
    expect(without_script.locator("#price time")).to_have_text("2 Apr 2030")


# -- an access key --------------------------------------------------------------------


def test_a_customer_copies_the_access_key_and_a_token(visit, wallet, worker):
    visitor = visit(permissions=["clipboard-read", "clipboard-write"])
    page = visitor.page
    link = place_order(visitor.client, username="alice").location
    wallet.pay(Order.get().bolt11)
    work(worker)
    visitor.client.get(link)
    visitor.show("/account/access")
    page.get_by_text("Show it as text").click()
    page.get_by_role("button", name="Copy: Your access key").click()
    assert page.evaluate("navigator.clipboard.readText()").startswith("AgEEbHNhdA")

    page.get_by_label("Name").fill("my mail script")
    page.get_by_label("change mailboxes and forwards").check()
    page.get_by_label("Until the end of").fill("2030-01-04")
    page.get_by_role("button", name="Make the token").click()
    page.get_by_role("button", name="Copy: The token").click()
    assert ":" in page.evaluate("navigator.clipboard.readText()")
    page.get_by_role("button", name="To all tokens").click()
    expect(page.locator("#tokens")).to_contain_text("until 2030-01-04 21:00 GMT-3")
    visitor.assert_clean()


# -- polling -------------------------------------------------------------------------


def test_a_page_without_connection_says_so_and_recovers_by_itself(visit, this_shop):
    visitor = visit(clock=True)
    page = visitor.page
    failures = [
        (lambda route: route.abort(), "requestfailed"),
        (lambda route: route.fulfill(status=503, body="<p>One moment</p>"), "requestfinished"),
    ]
    visitor.show_order("alice")
    told = page.get_by_text("No connection to the shop. Trying again")
    for fail, event in failures:
        page.route("**/status", fail, times=2)
        for outcome, fails in ((event, True), (event, True), ("requestfinished", False)):
            with page.expect_event(outcome, lambda request: request.url.endswith("/status")):
                page.clock.run_for(2_000)
            expect(page.get_by_text("Waiting for your payment")).to_be_visible()
            expect(told).to_be_visible(visible=fails)
        expect(page.locator("body")).not_to_contain_text("One moment")

    assert invoices.cancel(this_shop, order_of(page))
    page.clock.run_for(2_000)
    expect(page.get_by_role("heading", name="Cancelled")).to_be_visible()


def test_a_visitor_back_from_a_wallet_does_not_wait_for_the_next_poll(visit, this_shop):
    visitor = visit(clock=True)
    page = visitor.page
    visitor.show_order("alice")
    with page.expect_response("**/status"):  # the clock's last poll
        page.clock.pause_at(page.evaluate("Date.now() / 1000") + 60)
    assert invoices.cancel(this_shop, order_of(page))
    page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
    expect(page.get_by_role("heading", name="Cancelled")).to_be_visible()
    page.clock.resume()


def test_the_time_left_to_pay_counts_down_between_two_polls(visit):
    visitor = visit(clock=True)
    page = visitor.page
    page.route("**/status", lambda route: route.abort())
    visitor.show_order("alice")
    left = page.locator("[data-left]")
    assert int(left.inner_text().partition(":")[0]) >= 13
    page.clock.fast_forward(5 * 60_000)
    expect(left).to_have_text(re.compile(r"^([89]|10):\d\d$"))
    page.clock.fast_forward(15 * 60_000)
    expect(left).to_have_text("0:00")


def test_a_page_in_a_final_state_polls_no_more(visit, this_shop):
    visitor = visit(clock=True)
    page = visitor.page
    visitor.show_order("alice")
    assert invoices.cancel(this_shop, order_of(page))
    page.clock.run_for(2_000)
    expect(page.get_by_role("heading", name="Cancelled")).to_be_visible()
    expect(page.get_by_role("button", name="Order again")).to_have_attribute(
        "href", "/?space_mb=100&duration=3&unit=months"
    )
    polls = len(visitor.asked("/status"))
    page.clock.run_for(60_000)
    page.goto("/login")  # a poll under way would be noted by now
    assert len(visitor.asked("/status")) == polls
    visitor.assert_clean()


# -- the control center --------------------------------------------------------------


def test_a_customer_logs_in_gets_a_new_password_and_closes(visit, alice, panel, at_work):
    visitor = visit()
    page = visitor.page
    page.goto("/login")
    page.get_by_label("Access key", exact=True).fill("one that counts no more")
    page.get_by_role("button", name="Use the access key").click()
    expect(page.get_by_text("This is not an access key")).to_be_in_viewport()
    expect(page.get_by_label("Access key", exact=True)).to_have_value("")
    page.get_by_label("Name").fill("alice")
    page.get_by_label("Password").fill("correct horse")
    page.get_by_role("button", name="Log in").click()
    page.get_by_role("link", name="Web", exact=True).click()
    page.get_by_label("Service").select_option("FTP: ls_alice")
    page.get_by_role("button", name="Choose one for me").click()
    # From here on the page looks again by itself.
    page.get_by_text("For FTP.").wait_for(timeout=READY_MS)
    expect(page.locator("#password")).to_have_text(panel.password_of("ftp", 1))

    page.goto("/account/close")
    page.get_by_role("button", name="Close and delete everything").click()
    expect(page.get_by_text("Enter alice here")).to_be_in_viewport()
    page.get_by_label("Name").fill("alice")
    page.get_by_role("button", name="Close and delete everything").click()
    expect(page.get_by_role("heading", name="Goodbye")).to_be_visible()
    eventually(lambda: Account.select().count() == 0)
    # The browser complains about the refused forms alone.
    assert [text for text in visitor.complaints if "400" not in text] == []


@with_ftp
def test_the_overview_follows_services_and_keeps_the_visitors_input(visit, alice, worker, tmp_path):
    visitor, chosen = visit(), tmp_path / "index.html"
    chosen.write_text("My site")
    page = visitor.page
    work(worker)
    wanted.switch(alice.id, "shell", "ls_alice", False)
    enter(visitor.client, alice)
    visitor.show("/account")
    ssh = page.locator("details").filter(has=page.get_by_role("heading", name="SSH"))
    expect(ssh).to_contain_text("being changed")
    ssh.locator("summary").click()
    page.get_by_label("ZIP").set_input_files(chosen)
    page.get_by_role("checkbox").check()
    page.evaluate("document.isTheSame = true")

    work(worker)
    let_the_server_follow()
    expect(ssh.locator(".state")).to_have_text("off")
    expect(ssh.locator("dl")).to_be_visible()
    assert page.get_by_label("ZIP").evaluate("field => field.files[0].name") == "index.html"
    expect(page.get_by_role("checkbox")).to_be_checked()
    assert page.evaluate("document.isTheSame")
    visitor.assert_clean()


# -- mail and domains ------------------------------------------------------------------


def test_a_customer_adds_a_mailbox_and_a_domain(visit, alice, worker, this_shop, panel):
    visitor = visit(clock=True)
    page = visitor.page

    def follow(text):
        """Let the worker work, until the page shows the text by itself."""
        page.clock.run_for(5_000)
        expect(page.locator("main")).to_contain_text(text)

    enter(visitor.client, alice)
    visitor.show("/account/mail")
    form = page.locator("#add-mailbox")
    form.get_by_label("Address").fill("e v e")
    form.get_by_role("button").click()
    expect(page.get_by_text("Use letters a to z")).to_be_in_viewport()
    expect(form.get_by_label("Address")).to_have_value("e v e")
    visitor.complaints.clear()  # about the answer 400
    form.get_by_label("Address").fill("Eve")
    form.get_by_role("button").click()
    expect(page.get_by_role("link", name="eve@alice.shop.test")).to_be_visible()
    work(worker)
    follow("New password:")
    password = page.locator(".new code").inner_text()
    assert password == panel.password_of("mailbox", 2)

    page.goto("/account/domains")
    page.get_by_label("Domain").fill("alice.example")
    page.get_by_label("Receive mail for it here").check()
    page.get_by_role("button", name="Add the domain").click()
    expect(page.get_by_text("waiting for its TXT record")).to_be_visible()
    with page.expect_response("**/account/domains"):  # else it is looked for too early
        page.get_by_role("button", name="Publish these records").click()
    domain_checks.look(this_shop)
    work(worker)
    follow("http://alice.example/")
    visitor.assert_clean()


# -- looks ---------------------------------------------------------------------------


# By how many pixels a page is too wide for windows of some widths. It is put into a frame that is
# not painted, which is many times quicker than loading it, and its layout is the same.
TOO_WIDE = """
async ([text, widths]) => {
  const page = new DOMParser().parseFromString(text, "text/html");
  const style = (page) => [...page.querySelectorAll("link[rel=stylesheet], style")]
    .map((sheet) => sheet.outerHTML).join("");
  if (style(page) !== style(document)) throw new Error("it has another style");
  let frame = document.querySelector("iframe");
  if (!frame) {
    frame = document.createElement("iframe");
    Object.assign(frame.style, { position: "absolute", border: 0, visibility: "hidden" });
    document.body.append(frame);
    frame.contentDocument.write(`<!doctype html><title>Frame</title>${style(page)}`);
    frame.contentDocument.close();
    await new Promise((done) => frame.contentWindow.addEventListener("load", done));
  }
  frame.contentDocument.documentElement.className = document.documentElement.className;
  frame.contentDocument.body.replaceWith(page.body);
  for (const each of frame.contentDocument.querySelectorAll("details")) each.open = true;
  return widths.map((width) => {
    frame.style.width = `${width}px`;
    return frame.contentDocument.documentElement.scrollWidth - frame.contentWindow.innerWidth;
  });
}
"""


def test_no_page_scrolls_sideways(visit, own_app, config, wallet, worker, panel, this_shop):
    page, client = visit().page, own_app.test_client()
    reader = Reader(client, config.public_url)
    page.goto("/")

    def order(username, expected=200):
        reader.open("/")
        reader.unfold("Choose name and password")
        reader.fill("Name", username)
        reader.press("Order and pay", expected)

    def assert_fits(text):
        assert text in reader.text
        found = page.evaluate(TOO_WIDE, [reader.source, WIDTHS])
        wide = {width: pixels for width, pixels in zip(WIDTHS, found, strict=True) if pixels > 0}
        assert wide == {}, f"{reader.address} ({text}): {wide}"

    for path, expected, text in (
        ("/", 200, "Prices"),
        ("/login", 200, "Log in"),
        ("/nowhere", 404, "Nothing here"),
        ("/api/v1/hosting", 401, "This needs the L402 credential"),
        ("/api/v1/openapi.json", 200, "Idempotency-Key"),
    ):
        reader.open(path, expected)
        assert_fits(text)
    wish = {"space_mb": 100, "duration": 1, "unit": "hours"}
    reader.open("/api/v1/hosting", 402, method="POST", json=wish)
    assert_fits("Copy the invoice")
    order("a name with spaces" * 5, 400)
    assert_fits("A name has")
    order("cancelled")
    reader.press("Cancel the order")
    assert_fits("This order was cancelled")

    order("a234567890123456")
    assert_fits("Waiting for your payment")
    unpaid, order_page = Order.get(Order.username == "a234567890123456"), reader.address
    wallet.pay(unpaid.bolt11)
    record_payments(worker)
    payments.apply(this_shop, unpaid.token)
    panel.down()
    work(worker)
    reader.open(order_page)
    assert_fits("The server does not respond")
    panel.up()
    account = Account.get(Account.opened_at.is_null(False))
    reconcile.try_now(account.id)
    work(worker)
    reader.open(order_page)
    assert_fits("Save your access")
    domain = f"{'a' * 60}.{'b' * 60}.example"
    wanted.add(this_shop, account.id, "alias", domain)
    domains.add(this_shop, account.id, f"c{domain}", wants_mail=True)
    address = f"{'x' * 37}@a234567890123456.shop.test"
    destination = f"{'y' * 60}@{domain}"
    wanted.add(this_shop, account.id, "forward", address, destination=destination)
    for path in ("mail", f"mail/{address}", "domains", f"domains/c{domain}/remove"):
        reader.open(f"/account/{path}")
        assert_fits(address if "mail" in path else f"c{domain}")
    for path, button in (
        ("extend", "Order and pay for this time"),
        ("size?space_mb=5000&extra_addresses=100&extra_domains=100", "Order and pay"),
    ):
        reader.open(f"/account/{path}")
        reader.press(button)
        assert_fits("after this")
        reader.open(f"/account/{path}")
        assert_fits("Not paid yet")
    reader.open("/account/payments")
    assert_fits("Opened 100 MB")
    token = tokens.hand_out(this_shop, account.id, "x" * 40, l402.WHOLE)
    tokens.hand_out(this_shop, account.id, "W" * 40, l402.Rights(frozenset(["mail"]), 1))
    for path in ("access", "access/receipt"):
        reader.open(f"/account/{path}")
        reader.unfold("Show it as text")
        assert_fits("AgEEbHNhdA")
    reader.open(f"/account/access/tokens/{token.id}")
    assert_fits("AgEEbHNhdA")
    accounts.block(account.id, "See https://shop.example/terms#" + "x" * 90)
    work(worker)
    reader.open("/account")
    assert_fits("This hosting is blocked")


def test_the_qr_code_scans_in_every_light(visit, tmp_path, subtests):
    zbarimg = debian_program("zbarimg", "zbar-tools")
    visitor = visit()
    page = visitor.page
    visitor.show_order("alice")
    picture = tmp_path / "qr.png"
    for scheme, width in (("light", 1280), ("dark", 1280), ("dark", 320)):
        with subtests.test(scheme=scheme, width=width):
            page.emulate_media(color_scheme=scheme)
            page.set_viewport_size({"width": width, "height": 700})
            page.locator(".qr img").screenshot(path=picture)
            scanned = subprocess.run(
                [zbarimg, "--raw", "--quiet", picture], capture_output=True, text=True, check=True
            )
            assert scanned.stdout.strip() == f"LIGHTNING:{order_of(page).bolt11.upper()}"


def test_the_qr_code_of_a_terminal_scans(tmp_path):
    zbarimg = debian_program("zbarimg", "zbar-tools")
    code = f"LIGHTNING:LNBC{'0123456789QPZRY' * 22}"
    lines = qr.blocks(code).splitlines()
    scale = 4
    rows = [
        [pixel for block in line for pixel in [255 * (block in lit)] * scale]
        for line in lines
        for lit in ("█▀", "█▄")
        for _ in range(scale)
    ]
    picture = tmp_path / "blocks.pgm"
    head = f"P5 {len(rows[0])} {len(rows)} 255\n".encode()
    picture.write_bytes(head + b"".join(map(bytes, rows)))
    command = [zbarimg, "--raw", "--quiet", picture]
    scanned = subprocess.run(command, capture_output=True, text=True, check=True)
    assert scanned.stdout.strip() == code
