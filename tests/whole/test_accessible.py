"""axe-core finds no fault in any page of the tour, which visits them all: in narrow and wide
windows, in light, dark and forced colours.
"""

import re
from collections import defaultdict

import pytest
from playwright.sync_api import expect

from lightningspace.base.models import Order
from tests.conftest import client_program, opened, with_ftp, with_mail, work
from tests.pictures import Camera, file_name
from tests.tour import ERRORS, Sight, shown_shop

EVERY_RULE = ("wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice")
# Rules whose outcome may depend on the width and the look; the others run once for each page.
LOOKS = ("color-contrast", "link-in-text-block", "target-size", "scrollable-region-focusable")
# Widths and looks, each at least once. 320 px are 1280 at 400 %, and 700 about 1280 at 200 %.
SIGHTS = {
    320: ({"color_scheme": "light", "forced_colors": "none"}, EVERY_RULE),
    360: ({"color_scheme": "dark", "forced_colors": "none"}, LOOKS),
    700: ({"color_scheme": "light", "forced_colors": "active"}, LOOKS),
    1280: ({"color_scheme": "light", "forced_colors": "none"}, LOOKS),
}
FIRST = {320: SIGHTS[320]}
# Rules that need not run where each kind of element was seen before.
COLOURS = ("color-contrast", "link-in-text-block")
WIDTHS = (320, 360, 575, 577, 700, 740, 1280)
LOOK = """async ([width, rules, leftOut, within]) => {
    frameElement.style.width = `${width}px`
    const {violations} = await axe.run(within ? {include: within} : document, {
        runOnly: rules,
        rules: Object.fromEntries(leftOut.map((rule) => [rule, {enabled: false}])),
        resultTypes: ["violations"],
    })
    return violations.map(({id, nodes}) => `${id}: ${nodes.map((node) => node.html).join(" ")}`)
}"""
# The elements that are new: of a kind not yet seen with the same parents and the same neighbours.
NEW = """() => {
    const ours = ["class", "role", "type", "aria-live", "tabindex", "hidden", "disabled", "lang"]
    const kind = (each) => each && [each.localName, ...each.getAttributeNames().map((name) =>
        ours.includes(name) ? `${name}=${each.getAttribute(name)}` : name)].join(" ")
    const places = new Map(), seen = parent.seen ??= new Set()
    return [...document.body.querySelectorAll("*")].filter((each) => {
        const between = [each.previousElementSibling, each, each.nextElementSibling].map(kind)
        const place = [places.get(each.parentElement), ...between].join("|")
        places.set(each, place)
        return seen.size < seen.add(place).size
    })
}"""
TOO_WIDE = """(widths) => {
    for (const each of document.querySelectorAll("details")) each.open = true
    return widths.map((width) => {
        frameElement.style.width = `${width}px`
        return document.documentElement.scrollWidth - innerWidth
    })
}"""

# Endpoints without a page of their own: fragments, files, and redirects.
NO_PAGES = {
    *(
        "orders.price",
        "orders.name",
        "orders.order_status",
        "control.status",
        "tips.jar_state",
        "uploads.state",
    ),
    *("money.extend_price", "money.top_up_price", "money.size_price"),
    *("mail.mail_addresses", "mail.address_status", "domains.domain_status"),
    "areas.area_status",
    *("monitoring.healthz", "monitoring.figures", "operator.payments"),
    *("access.receipt_file", "access.next_receipt_file", "known.known_file", "tip.badge"),
    *(
        "orders.reopened_form",
        "orders.reopened_cancelling",
        "orders.reopened_voucher",
        "login.cookie",
    ),
    "refunds.status",
    *("login.wallet_status", "access.new_wallet_status", "lnurl_auth.signed"),
    *("static", "gate_static", "favicon", "robots", "discovery.llms_txt"),
}
FOR_PROGRAMS = ("/api/", "/.well-known/")


@pytest.fixture
def env(env, port):
    return env | {"PUBLIC_URL": f"http://127.0.0.1:{port}"}


@pytest.fixture
def tab(launch):
    """A tab with axe-core, for a camera. No test waits for what it paints."""
    browser = launch("--disable-threaded-compositing")
    axe = client_program("axe-core") / "node_modules" / "axe-core" / "axe.min.js"
    # Else the shop's policy would keep axe out of the page; test_browser.py tests that policy.
    context = browser.new_context(bypass_csp=True)
    context.set_default_timeout(30_000)
    context.add_init_script(path=axe)
    yield context.new_page()
    browser.close()


@pytest.fixture
def page(chromium, own_app, config, port):
    """A tab that does not poll, at the front page of an open shop."""
    with opened(own_app, port), chromium.new_context() as context:
        context.set_default_timeout(30_000)
        page = context.new_page()
        page.route("**/static/htmx*", lambda route: route.abort())
        page.goto(config.public_url)
        yield page


def faults(frame, sights=SIGHTS, left_out=()) -> list[str]:
    """The faults of the page in a camera's frame, without the rules that are left out. Its new
    elements are examined in more looks.
    """
    wide = zip(WIDTHS, frame.evaluate(TOO_WIDE, WIDTHS), strict=True)
    found = [f"{pixels} px too wide at {width}" for width, pixels in wide if pixels > 0]
    new = frame.evaluate_handle(NEW) if sights is SIGHTS else None
    for width, (look, rules) in sights.items():
        frame.page.emulate_media(**look)
        within = new if rules is LOOKS else None
        violations = frame.evaluate(LOOK, [width, rules, left_out, within])
        found += [f"{width}, {look}: {violation}" for violation in violations]
    return found


def test_faults_of_a_page_are_found(tab, app, client):
    frame = Camera(tab, app).write(Sight("/", "", client.get("/")))
    frame.evaluate("document.querySelector('label[for=username]').remove()")
    frame.evaluate("document.styleSheets[0].insertRule('.field small { color: #777 !important }')")
    frame.evaluate("document.styleSheets[0].insertRule('main { min-width: 45rem }')")
    found = "\n".join(faults(frame))
    assert "label: <input" in found
    assert "'dark', 'forced_colors': 'none'}: color-contrast: <small" in found
    assert "px too wide at 700" in found and "too wide at 740" not in found


def elements(page: str) -> set[str]:
    """Each kind of element in a page: its name and attributes, without texts and addresses."""
    ours = ("class", "role", "type", "aria-live", "tabindex", "hidden", "disabled", "lang")
    found = set()
    for name, attributes in re.findall(r"<([a-z]\w*)([^>]*)", page):
        told = re.findall(rf'({"|".join(ours)})(?:="([^"]*)")?', attributes)
        found.add(f"{name} {sorted(told)} {sorted(re.findall(' ([a-z-]+)=', attributes))}")
    return found


@shown_shop
@with_mail
@with_ftp
def test_the_tour_shows_every_page_and_none_has_faults(app, tour, request, subtests):
    """A state of a page is skipped if earlier states have shown each of its elements. Rules about
    width and colours run once for each kind of element and place.
    """
    sights = tour.walk()
    pages = {
        rule.endpoint
        for rule in app.url_map.iter_rules()
        if "GET" in rule.methods and not rule.rule.startswith(FOR_PROGRAMS)
    }
    assert pages - tour.shown == NO_PAGES
    names = [file_name(sight, 360, "dark") for sight in sights]
    assert len(set(names)) == len(names)
    assert all((sight.page == ERRORS) == ("Error " in sight.answer.text) for sight in sights)

    tab = request.getfixturevalue("tab")  # not before: the pages need no browser
    camera, seen, of_page, bare = Camera(tab, app), set(), defaultdict(set), {}
    kinds = {sight: elements(sight.answer.text) for sight in sights}
    # The states with most elements come first, so that the others have little to add.
    for sight in sorted(sights, key=lambda sight: -len(kinds[sight])):
        shown = kinds[sight]
        if shown <= of_page[sight.page]:
            continue
        with subtests.test(page=sight.page, state=sight.state):
            frame = camera.write(sight)
            assert (faults(frame, FIRST, COLOURS) if shown <= seen else faults(frame)) == []
        if "<noscript>" in sight.answer.text:
            bare.setdefault(sight.page, sight)
        seen |= shown
        of_page[sight.page] |= shown
    for page, sight in bare.items():
        with subtests.test(page=page, script=False):
            assert faults(camera.write(sight, script=False), FIRST) == []


def test_a_hosting_can_be_bought_with_the_keyboard_alone(page, wallet, worker):
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the content")).to_be_in_viewport()
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    expect(page.locator("main :focus")).to_have_count(1)
    go_to(page, "#order-form > [type=submit]")
    page.keyboard.press("Enter")
    page.wait_for_url("**/orders/*")
    for what in (".open", "[data-copies]", "#invoice summary"):
        go_to(page, what)
    page.keyboard.press("Enter")
    expect(page.locator("#bolt11")).to_be_in_viewport()
    wallet.pay(Order.get().bolt11)
    work(worker)
    page.reload()
    expect(page).to_have_url(re.compile("/account$"))
    go_to(page, "main :is(a, button)")


def go_to(page, selector: str) -> None:
    """Press Tab until the element has the focus, which must be visible all the way."""
    for _ in range(60):
        page.keyboard.press("Tab")
        outline = "getComputedStyle(document.activeElement).outlineStyle"
        assert page.evaluate(outline) == "solid"
        if page.evaluate(f"document.activeElement.matches({selector!r})"):
            return
    raise AssertionError(f"no Tab leads to {selector}")
