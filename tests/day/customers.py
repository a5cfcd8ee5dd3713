"""Customers: what each will do is drawn before the day begins."""

import queue
import random
import re
from collections import Counter
from dataclasses import dataclass, field

from lightningspace.sandbox import bolt11
from tests.conftest import csrf_token, form_id, order_form
from tests.day.browser import Browser, Page

MINUTE, HOUR, DAY = 60, 3600, 86_400
PASSWORD, OTHER_PASSWORD = "correct horse", "battery staple"
UNITS = {"hours": HOUR, "days": DAY, "months": 30 * DAY}
TERMS = [(1, "hours"), (2, "hours"), (6, "hours"), (12, "hours"), (1, "days"), (1, "months")]
SIZES_MB = (100, 500, 1000)
ACTIONS = {
    "extend": 6,
    "resize": 3,
    "tip": 4,
    "mailbox": 4,
    "forward": 2,
    "domain": 2,
    "service_password": 3,
    "login_password": 1,
    "upload": 2,
    "log_in_again": 2,
    "look_around": 3,
    "recover": 1,
    "unblockable": 1,
}
QUIRKS = ("never pays", "clicks twice", "pays late", "pays too much", "has a voucher")
API = "/api/v1/hosting"


class GoesAway(Exception):
    """The customer is done."""


@dataclass
class Life:
    """What a customer is going to do. `actions`: when, as a part of the paid time, and what."""

    number: int
    begins: float  # as a part of the day
    is_program: bool
    terms: tuple[int, str]
    space_mb: int
    quirk: str | None
    actions: list[tuple[float, str]]
    ends: str  # "lapses" or "closes"


def drawn(seed: int, number: int) -> Life:
    chance = random.Random(f"{seed}/{number}")
    count = chance.randint(1, 4)
    actions = chance.choices(list(ACTIONS), list(ACTIONS.values()), k=count)
    return Life(
        number,
        begins=chance.random() ** 1.3 * 0.85,
        is_program=chance.random() < 0.15,
        terms=chance.choice(TERMS),
        space_mb=chance.choice(SIZES_MB),
        quirk=chance.choice(QUIRKS) if chance.random() < 0.35 else None,
        actions=sorted((chance.random(), what) for what in actions),
        ends=chance.choice(("lapses", "lapses", "closes")),
    )


@dataclass
class World:
    """What customers meet outside the shop, and what all of them have done.

    `paid`: what wallets paid, by payment hash. The shop must have recorded all of it.
    """

    web: object
    node: object
    dns: object
    clock: object
    length: float  # of the day, in seconds
    vouchers: list[str]
    blocks: queue.SimpleQueue = field(default_factory=queue.SimpleQueue)
    counts: Counter = field(default_factory=Counter)
    paid: dict[str, int] = field(default_factory=dict)

    def pay(self, invoice: str, msat: int | None = None) -> str | None:
        """Pay an invoice. Return the preimage, or None if it is too late."""
        payment_hash = bolt11.decode(invoice)["payment_hash"]
        try:
            paid = self.node.settle(payment_hash, msat)
        except ValueError:
            self.counts["too late to pay"] += 1
            return None
        self.paid[payment_hash] = paid["amount_received_msat"]
        return paid["payment_preimage"]


class Customer:
    """Does one thing at a time. `step` returns in how many seconds the next one is due."""

    def __init__(self, world: World, life: Life):
        self.world, self.life = world, life
        n = life.number + 1
        self._address = f"10.{n >> 16}.{n >> 8 & 255}.{n & 255}"
        self.browser = Browser(world.web, self._address)
        self.chance = random.Random(f"life of {n}")
        self.name = f"customer{n}"
        self.next = self.buy if life.is_program else self.order
        self.left = list(life.actions)
        self.order_path, self.invoice, self.preimage = "", "", None
        self.then = self.decide
        self.credential, self.offer = "", {}
        self.ready_at = 0.0
        self.tries, self.password = 0, PASSWORD
        self.size = (life.space_mb, 0)

    def step(self) -> float | None:
        return self.next()

    def count(self, what: str) -> None:
        self.world.counts[what] += 1

    # -- an order and its payment ----------------------------------------------------

    def order(self) -> float:
        fields = {"username": self.name, "password": PASSWORD, "space_mb": str(self.life.space_mb)}
        fields |= {"duration": str(self.life.terms[0]), "unit": self.life.terms[1]}
        if self.life.number % 3 == 0:
            fields["email"] = f"{self.name}@mail.example"
        form = order_form(self.browser.get("/").text, **fields)
        page = self.browser.post("/orders", form)
        if self.life.quirk == "clicks twice":
            assert self.browser.post("/orders", form).path == page.path, "two orders of one form"
            self.count("clicked twice")
        if page.status == 400:
            self.count("refused: order")
            raise GoesAway
        self.count("ordered")
        return self.is_asked(page, self.decide)

    def is_asked(self, page: Page, then) -> float:
        """Go to the order's page, which asks for a payment. `then`: what to do once it is ready."""
        self.order_path, self.then = page.path.partition("?")[0], then
        self.next = self.read_invoice
        return self.read_invoice(page)

    def read_invoice(self, page: Page | None = None) -> float:
        page = page or self.browser.get(self.order_path)
        found = re.search(r"lightning:(ln[a-z0-9]+)", page.text)
        if found is None:  # the invoice is being made, or has expired
            self.tries += 1
            if self.tries > 8:
                return self.was_too_late()
            self.next = self.read_invoice
            return 5 * MINUTE
        self.invoice, self.next, self.tries = found[1], self.pay, 0
        first = self.then == self.decide
        if first and self.life.quirk == "never pays":
            self.count("never paid")
            self.life.quirk, self.next = None, self.order
            return 90 * MINUTE
        if first and self.life.quirk == "pays late":
            return self.chance.choice((50, 58, 61, 75)) * MINUTE
        return self.chance.randint(1, 8) * MINUTE

    def pay(self) -> float:
        if self.then == self.decide and self.life.quirk == "has a voucher" and self.world.vouchers:
            return self.pay_by_voucher()
        msat = None
        if self.life.quirk == "pays too much":
            least = bolt11.decode(self.invoice)["amount_msat"]
            msat = least + self.chance.randint(1, least)
        preimage = self.world.pay(self.invoice, msat)
        if preimage is None:
            return self.was_too_late()
        if self.then == self.decide:
            self.preimage, self.opened_by = preimage, self.invoice
        self.count("paid")
        self.next = self.wait
        return MINUTE

    def was_too_late(self) -> float:
        if self.then != self.decide:  # there is a hosting: go on without the extension
            self.next = self.then
            return MINUTE
        self.life.quirk = None
        self.next = self.buy if self.life.is_program else self.order
        return 10 * MINUTE

    def pay_by_voucher(self) -> float:
        page = self.browser.get(self.order_path)
        if 'name="csrf_token"' not in page.text:
            return self.was_too_late()
        code = self.world.vouchers.pop()
        fields = {"csrf_token": csrf_token(page.text), "code": code}
        page = self.browser.post(f"{self.order_path}/voucher", fields)
        self.life.quirk = None
        self.count("paid by a voucher" if page.status == 200 else "refused: voucher")
        self.next = self.wait if page.status == 200 else self.read_invoice
        return MINUTE

    def wait(self) -> float:
        """Wait until the order is ready: then its page redirects to the control center."""
        page = self.browser._send("GET", f"{self.order_path}/status")
        if "HX-Redirect" not in page.headers:
            return 3 * MINUTE
        self.browser.get(self.order_path)
        if self.then == self.decide:
            self.ready_at = self.world.clock.right()
        self.next = self.then
        return MINUTE

    # -- what an owner does ------------------------------------------------------------

    def decide(self) -> float:
        """Choose the next action; return when it is due within the time that was bought."""
        bought = min(self.world.length * 0.7, self.life.terms[0] * UNITS[self.life.terms[1]])
        if self.left:
            part, what = self.left.pop(0)
            self.next = getattr(self, what)
            if self.life.is_program:
                self.next = self.program_changes
            return max(2 * MINUTE, self.ready_at + part * bought - self.world.clock.right())
        if self.life.ends == "lapses":
            self.count("lets it lapse")
            raise GoesAway
        self.next = self.end_program if self.life.is_program else self.close
        return max(2 * MINUTE, self.ready_at + 0.9 * bought - self.world.clock.right())

    def goes_on(self) -> float:
        self.next = self.decide
        return MINUTE

    def page(self, path: str) -> Page:
        """Open a page of the control center; log in again if logged out."""
        page = self.browser.get(path)
        if page.path.startswith("/login"):
            self.log_in()
            page = self.browser.get(path)
        if page.path.startswith("/login") or page.status == 404:
            self.count("found their hosting gone")
            raise GoesAway
        return page

    def log_in(self) -> None:
        form = {"csrf_token": csrf_token(self.browser.get("/login").text)}
        self.browser.post("/login", form | {"username": self.name, "password": self.password})

    def press(self, path: str, to: str, /, **fields) -> Page:
        page = self.page(path)
        if 'name="csrf_token"' not in page.text:
            return page
        typed = {"csrf_token": csrf_token(page.text)}
        if 'name="form_id"' in page.text:
            typed["form_id"] = form_id(page.text)
        return self.browser.post(to, typed | fields)

    def did(self, what: str, page: Page) -> float:
        self.count(what if page.status == 200 else f"refused: {what}")
        return self.goes_on()

    def extend(self) -> float:
        duration, unit = self.chance.choice(TERMS[:4])
        page = self.press("/account/extend", "/account/extend", duration=str(duration), unit=unit)
        if not page.path.startswith("/orders/"):
            return self.did("extend", page)
        self.count("extend")
        return self.is_asked(page, self.goes_on)

    def resize(self) -> float:
        """Order a larger size: for a smaller one, no order's page says when it is done."""
        space_mb, addresses = self.size
        if self.chance.random() < 0.5:
            space_mb = min(1000, 5 * space_mb)
        self.size = space_mb, addresses + 1
        size = {"space_mb": str(space_mb), "extra_addresses": str(addresses + 1)}
        size["extra_domains"] = "0"
        query = "&".join(f"{name}={value}" for name, value in size.items())
        page = self.press(f"/account/size?{query}", "/account/size", **size)
        if not page.path.startswith("/orders/"):
            return self.did("resize", page)
        self.count("resize")
        return self.is_asked(page, self.goes_on)

    def tip(self) -> float:
        """Tip as a reader of the site, in another browser."""
        reader = Browser(
            self.world.web, f"172.16.{self.life.number >> 8 & 15}.{self.life.number & 255}"
        )
        path = f"/tip/{self.name}"
        page = reader.get(path)
        if page.status != 200:
            self.count("refused: tip")
            return self.goes_on()
        typed = {"csrf_token": csrf_token(page.text), "form_id": form_id(page.text)}
        typed["sats"] = str(self.chance.randint(1, 3000))
        page = reader.post(path, typed)
        found = re.search(r"lightning:(ln[a-z0-9]+)", page.text)
        if found and self.world.pay(found[1]):
            self.count("tip")
        else:
            self.count("refused: tip")
        return self.goes_on()

    def mailbox(self) -> float:
        fields = {"local_part": f"box{self.chance.randint(1, 9)}", "password": OTHER_PASSWORD}
        fields["domain"] = f"{self.name}.shop.test"
        return self.did("mailbox", self.press("/account/mail", "/account/mail/mailbox", **fields))

    def forward(self) -> float:
        fields = {"local_part": f"to{self.chance.randint(1, 9)}", "destination": "me@example.org"}
        fields["domain"] = f"{self.name}.shop.test"
        return self.did("forward", self.press("/account/mail", "/account/mail/forward", **fields))

    def domain(self) -> float:
        name = f"{self.name}.example"
        page = self.press("/account/domains", "/account/domains", name=name, wants_mail="y")
        proof = re.search(r"lightning-space=[A-Za-z0-9_-]+", page.text)
        if proof:
            self.world.dns.publish_text(f"_lightning-space.{name}", proof[0])
            self.world.dns.publish(name, "A", "192.0.2.7")
            self.world.dns.publish(name, "MX", f"10 {self.name}.shop.test.")
        return self.did("domain", page)

    def service_password(self) -> float:
        fields = {"service": "all", "password": OTHER_PASSWORD}
        page = self.press("/account/settings", "/account/settings/password", **fields)
        return self.did("service_password", page)

    def login_password(self) -> float:
        fields = {"current": self.password, "new": OTHER_PASSWORD}
        page = self.press("/account/password", "/account/password", **fields)
        if page.status == 200:
            self.password = OTHER_PASSWORD
        return self.did("login_password", page)

    def upload(self) -> float:
        page = self.page("/account/upload")
        fields = {"csrf_token": csrf_token(page.text)}
        content = f"<h1>{self.name}</h1>".encode()
        page = self.browser.send_file("/account/upload", fields, "index.html", content)
        return self.did("upload", page)

    def log_in_again(self) -> float:
        self.browser = Browser(self.world.web, self._address)
        return self.did("log_in_again", self.page("/account"))

    def look_around(self) -> float:
        pages = ("/account", "/account/payments", "/account/known", "/account/access", "/status")
        return self.did("look_around", [self.page(path) for path in pages][0])

    def recover(self) -> float:
        if self.preimage is None:
            return self.goes_on()
        browser = Browser(self.world.web, self._address)
        fields = {"csrf_token": csrf_token(browser.get("/login").text)}
        fields |= {"invoice": self.opened_by, "preimage": self.preimage}
        page = browser.post("/login/recover", fields)
        self.count("recover" if page.status in (200, 202) else "refused: recover")
        return self.goes_on()

    def unblockable(self) -> float:
        """Have the operator block the hosting for a while: see Day._operate."""
        self.world.blocks.put(self.name)
        self.count("blocked")
        return self.goes_on()

    def close(self) -> float:
        page = self.page("/account/close")
        ends = re.search(r'name="ends"[^>]*value="(\d+)"', page.text)
        if ends is None:
            self.count("refused: close")
            raise GoesAway
        fields = {"csrf_token": csrf_token(page.text), "username": self.name, "ends": ends[1]}
        page = self.browser.post("/account/close", fields)
        self.count("close" if page.path == "/goodbye" else "refused: close")
        raise GoesAway

    # -- programs ------------------------------------------------------------------------

    def buy(self) -> float:
        self.offer = {"space_mb": self.life.space_mb, "duration": self.life.terms[0]}
        self.offer |= {"unit": self.life.terms[1], "username": self.name}
        answer = self.browser.call("POST", API, self.offer)
        if answer.status != 402:
            self.count("refused: program's order")
            raise GoesAway
        self.count("ordered by programs")
        told, self.next = answer.json(), self.collect
        preimage = self.world.pay(told["invoice"])
        if preimage is None:
            return self.was_too_late()
        self.count("paid")
        self.credential = f"{told['macaroon']}:{preimage}"
        return MINUTE

    def collect(self) -> float:
        answer = self.browser.call("POST", API, self.offer, self.credential)
        assert answer.status in (201, 202), answer.text
        if answer.status == 202:
            return 3 * MINUTE
        self.ready_at = self.world.clock.right()
        return self.goes_on()

    def program_changes(self) -> float:
        self.next = self.decide
        if self.chance.random() < 0.5:
            address = f"box{self.chance.randint(1, 9)}@{self.name}.shop.test"
            path, body = "/mailboxes", {"address": address, "password": OTHER_PASSWORD}
        else:
            path, body = "/extend", {"duration": 2, "unit": "hours"}
        answer = self.browser.call("POST", API + path, body, self.credential)
        if answer.status == 402:
            told = answer.json()
            preimage = self.world.pay(told["invoice"])
            if preimage:
                self.count("paid")
                credential = f"{told['macaroon']}:{preimage}"
                answer = self.browser.call("POST", API + path, body, credential)
        is_good = answer.status in (200, 201, 202)
        self.count(f"program: {path}" if is_good else f"refused: program's {path}")
        return MINUTE

    def end_program(self) -> float:
        answer = self.browser.call("DELETE", API, None, self.credential)
        self.count("close" if answer.status in (200, 202, 204) else "refused: program's close")
        raise GoesAway
