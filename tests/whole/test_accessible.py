"""Each page under the eyes of axe-core: in narrow and wide windows, light, dark, forced colours."""

import pytest
from playwright.sync_api import expect, sync_playwright

from lightningspace.base.models import Account, Order
from lightningspace.outside import l402
from lightningspace.panel import reconcile
from lightningspace.rules import accounts, domains, payments, tokens, wanted
from tests.conftest import (
    client_program,
    debian_program,
    enter,
    opened,
    record_payments,
    with_settings,
    work,
)

SITE = "alice.shop.test"
CHROMIUM_ARGS = ("--no-sandbox", "--disable-gpu", "--disable-background-networking")
EVERY_RULE = ("wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice")
# What a width or a look may change; the others are asked once for each page.
LOOKS = ("color-contrast", "link-in-text-block", "target-size", "scrollable-region-focusable")
# Widths and looks, each at least once. 320 px are 1280 at 400 %, and 700 about 1280 at 200 %.
SIGHTS = (
    (320, {"color_scheme": "light", "forced_colors": "none"}, EVERY_RULE),
    (360, {"color_scheme": "dark", "forced_colors": "none"}, LOOKS),
    (700, {"color_scheme": "light", "forced_colors": "active"}, LOOKS),
    (1280, {"color_scheme": "light", "forced_colors": "none"}, LOOKS),
)
ALSO_AS_WIDE = (575, 577, 740)
LOOK = """async (rules) => {
    const {violations} = await axe.run({runOnly: rules, resultTypes: ["violations"]})
    return violations.map(({id, nodes}) => `${id}: ${nodes.map((node) => node.html).join(" ")}`)
}"""
TOO_WIDE = "document.documentElement.scrollWidth - innerWidth"


@pytest.fixture(scope="module")
def chromium():
    path = debian_program("chromium", "chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=CHROMIUM_ARGS)
        yield browser
        browser.close()


@pytest.fixture
def env(env, port):
    return env | {"PUBLIC_URL": f"http://127.0.0.1:{port}"}


@pytest.fixture
def page(chromium, own_app, config, port):
    """A tab of a browser that asks nothing by itself: pages stay as the test wants them."""
    axe = client_program("axe-core") / "node_modules" / "axe-core" / "axe.min.js"
    with opened(own_app, port):
        # Only so may axe come into the page; the shop's own policy is tested in test_browser.py.
        context = chromium.new_context(base_url=config.public_url, bypass_csp=True)
        context.set_default_timeout(30_000)
        context.add_init_script(path=axe)
        tab = context.new_page()
        tab.route("**/static/htmx*", lambda route: route.abort())
        yield tab
        context.close()


def faults(page) -> list[str]:
    """What is wrong with the page as it is open."""
    page.evaluate("for (const each of document.querySelectorAll('details')) each.open = true")
    found = []
    for width, look, rules in SIGHTS:
        page.emulate_media(**look)
        page.set_viewport_size({"width": width, "height": 800})
        found += [f"{width}, {look}: {fault}" for fault in page.evaluate(LOOK, rules)]
        found += _too_wide(page, width)
    for width in ALSO_AS_WIDE:
        page.set_viewport_size({"width": width, "height": 800})
        found += _too_wide(page, width)
    return found


def _too_wide(page, width: int) -> list[str]:
    wide = page.evaluate(TOO_WIDE)
    return [f"{wide} px too wide at {width}"] if wide > 0 else []


@pytest.fixture
def looked_at(page, subtests):
    """Look at the page that is open, or at the one of an address."""

    def looked_at(text: str, path: str = "") -> None:
        if path:
            page.goto(path)
        with subtests.test(text):
            expect(page.locator("body")).to_contain_text(text)
            assert faults(page) == []

    return looked_at


def test_what_is_wrong_is_seen(page):
    page.goto("/")
    page.evaluate("document.querySelector('label[for=username]').remove()")
    page.evaluate("document.styleSheets[0].insertRule('.field small { color: #777 !important }')")
    page.evaluate("document.styleSheets[0].insertRule('main { min-width: 45rem }')")
    found = "\n".join(faults(page))
    assert "label: <input" in found
    assert "'dark', 'forced_colors': 'none'}: color-contrast: <small" in found
    assert "px too wide at 700" in found and "too wide at 740" not in found


def test_what_everybody_may_see(page, alice, looked_at):
    for path, text in (
        ("/", "Prices"),
        ("/login", "Or with your access key"),
        ("/terms", "What we do not promise"),
        ("/privacy", "Privacy"),
        ("/nowhere", "Nothing here"),
        ("/api/v1/hosting", "The same for programs"),
        ("/tip/alice", "A tip for"),
        ("/reminders/stop/x", "Reminders"),
    ):
        looked_at(text, path)
    page.goto("/")
    page.get_by_text("Choose name and password").click()
    page.get_by_label("Name").fill("a name with spaces")
    page.locator("#order-form button").last.click()
    looked_at("Not done yet")
    expect(page.locator("#username")).to_be_focused()
    page.goto("/login")
    page.get_by_role("button", name="Log in").click()
    looked_at("Write your name here")


def test_the_page_of_an_order(page, this_shop, wallet, worker, panel, looked_at):
    def order() -> str:
        page.goto("/")
        page.locator("#order-form button").last.click()
        page.wait_for_url("**/orders/*")
        return page.url.rpartition("/")[2]

    order()
    looked_at("Waiting for your payment")
    page.get_by_role("button", name="Cancel").click()
    looked_at("Cancelled")
    token = order()
    wallet.pay(Order.get_by_id(token).bolt11)
    record_payments(worker)
    payments.apply(this_shop, token)
    panel.down()
    work(worker)
    page.reload()
    looked_at("Setting up")
    panel.up()
    account = Account.get()
    reconcile.try_now(account.id)
    work(worker)
    page.goto(f"/orders/{token}")
    looked_at("Save your access")
    looked_at("Access key", "/account/access/card")
    page.context.clear_cookies()
    looked_at("Ready", f"/orders/{token}")


def test_who_has_a_keyboard_alone_comes_past_the_head_and_orders(page):
    page.goto("/")
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the content")).to_be_in_viewport()
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    expect(page.locator("main :focus")).to_have_count(1)
    for _ in range(20):
        outline = "getComputedStyle(document.activeElement).outlineStyle"
        assert page.evaluate(outline) == "solid"
        if page.evaluate("document.activeElement.matches('#order-form > [type=submit]')"):
            break
        page.keyboard.press("Tab")
    expect(page.locator("#order-form > [type=submit]")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("body")).to_contain_text("Waiting for your payment")


@with_settings(DOMAINS_INCLUDED="3")
def test_the_control_center(page, own_app, alice, this_shop, worker, looked_at):
    cookie = enter(own_app.test_client(), alice).get_cookie("session")
    url = this_shop.config.public_url
    page.context.add_cookies([{"name": "session", "value": cookie.value, "url": url}])
    wanted.add(this_shop, alice.id, "mailbox", f"eve@{SITE}", "battery staple")
    wanted.add(this_shop, alice.id, "forward", f"all@{SITE}", destination="alice@example.org")
    work(worker)
    domains.add(this_shop, alice.id, "example.org", True)
    given = tokens.hand_out(this_shop, alice.id, "my script", l402.WHOLE)
    pages = (
        ("", "Time and space"),
        ("/settings", "Passwords of the services"),
        ("/password", "Your password"),
        ("/htaccess", "Files that hold secrets"),
        ("/mail", "Add a forward"),
        (f"/mail/eve@{SITE}", "The mailbox is deleted"),
        (f"/mail/all@{SITE}", "One e-mail address"),
        ("/domains", "waiting for its TXT record"),
        ("/domains/example.org/remove", "example.org"),
        ("/tips", "Ways to tip"),
        ("/extend", "Or any amount"),
        ("/size", "Another size"),
        ("/access", "Browsers that are logged in"),
        ("/prove", "Is it you?"),
        ("/payments", "Payments"),
        ("/data", "Take everything along"),
        ("/known", "until"),
        ("/close", "This deletes, for good"),
    )
    for path, text in pages:
        looked_at(text, f"/account{path}")
    navigation = page.locator(".pages a").evaluate_all("links => links.map((a) => a.pathname)")
    assert set(navigation) <= {f"/account{path}" for path, _ in pages}
    page.goto("/account/mail")
    page.locator("#add-mailbox button").click()
    looked_at("Not done yet")
    page.goto("/account/prove")
    page.get_by_label("Password").fill("correct horse")
    page.get_by_role("button", name="Go on").click()
    for path, text in (
        ("", "Make the token"),
        (f"/tokens/{given.id}", "Token: my script"),
        ("/receipt", "A new access key"),
    ):
        looked_at(text, f"/account/access{path}")
    accounts.block(alice.id, "See the terms.")
    looked_at("This hosting is blocked", "/account")
