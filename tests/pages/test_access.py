"""Logging in with a receipt, a token or the wallet's history, and who is refused."""

import base64
import hashlib
import io
import logging
import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from html import unescape

import pytest
from coincurve import PrivateKey

from lightningspace.base import clock, models, passwords
from lightningspace.base.models import Account, Notice, Order, Session, Token
from lightningspace.base.prices import DAY
from lightningspace.outside import l402
from lightningspace.rules import accounts, orders, outbox, payments, recovery, sessions, tokens
from lightningspace.sandbox import bolt11
from tests.conftest import (
    csrf_token,
    eventually,
    filled_form,
    log_in,
    place_order,
    record_payments,
    with_mail,
    with_settings,
    work,
)

no_limits = with_settings(LOGINS_LIMIT="10000 per minute", ORDERS_LIMIT="10000 per minute")


@dataclass
class Bought:
    """A hosting, and what the paying wallet keeps of it."""

    order: Order
    invoice: str
    preimage: str

    @property
    def account(self) -> Account:
        """The account, read again."""
        return Order.get_by_id(self.order.token).account


@pytest.fixture
def pay(app, wallet):
    """Order with a browser that is never used again, and pay: `pay(username="alice")`."""

    def pay(**fields) -> Bought:
        token = place_order(app.test_client(), **fields).location.rpartition("/")[2]
        order = Order.get_by_id(token)
        return Bought(order, order.bolt11, wallet.pay(order.bolt11)["payment_preimage"])

    return pay


@pytest.fixture
def buy(pay, worker):
    """The same, until it is ready in the database: logging in does not ask the panel."""

    def buy(**fields) -> Bought:
        bought = pay(**fields)
        record_payments(worker)
        payments.apply(worker.shop, bought.order.token)
        Account.update(ready_at=clock.now()).execute()
        return bought

    return buy


@pytest.fixture
def bought(buy) -> Bought:
    return buy()


@pytest.fixture
def receipt(bought, this_shop) -> str:
    return tokens.receipt(this_shop, bought.account)


@pytest.fixture
def other(app):
    """Somebody else's browser."""
    return app.test_client()


def send(client, path, **fields):
    return client.post(path, data={"csrf_token": csrf_token(client.get("/login").text)} | fields)


def show(client, text="", **fields):
    """Log in by a receipt."""
    return send(client, "/login/receipt", receipt=text, **fields)


def choose(client, content: bytes, text=""):
    """Log in by a receipt in a file."""
    token = csrf_token(client.get("/login").text)
    fields = {"csrf_token": token, "receipt": text, "file": (io.BytesIO(content), "receipt.txt")}
    return client.post("/login/receipt", data=fields, content_type="multipart/form-data")


def recover(client, bought, **fields):
    return send(
        client,
        "/login/recover",
        **{"invoice": bought.invoice, "preimage": bought.preimage} | fields,
    )


def is_in(client, bought) -> bool:
    page = client.get("/account")
    return page.status_code == 200 and f">{bought.account.username}<" in page.text


def problem(answer) -> str:
    """The errors beside the fields of a refused form."""
    return unescape(" ".join(re.findall(r'<small class="error"[^>]*>([^<]*)', answer.text)))


def narrow(receipt: str, *caveats: str) -> str:
    macaroon, _, preimage = receipt.partition(":")
    return f"{l402.read(macaroon).narrowed(*caveats)}:{preimage}"


# -- by receipt ------------------------------------------------------------------------

SPELLINGS = {
    "as it is": lambda text: text,
    "with its scheme": lambda text: f"L402 {text}",
    "as a header": lambda text: f"authorization: lsat {text}",
    "wrapped": lambda text: "  L402\r\n" + "\r\n".join(re.findall(".{1,60}", text)) + "\n",
    "capital hex": lambda text: text.rpartition(":")[0] + ":" + text.rpartition(":")[2].upper(),
    "url-safe": lambda text: re.sub("=+:", ":", text).replace("+", "-").replace("/", "_"),
}


def test_a_pasted_receipt_logs_in(app, bought, receipt):
    for name, spelling in SPELLINGS.items():
        client = app.test_client()
        assert show(client, spelling(receipt)).location == "/account", name
        assert is_in(client, bought)
    assert bought.account.entered_at


def test_a_chosen_file_logs_in(app, bought, receipt):
    for before in (b"", b"\xef\xbb\xbfL402 "):
        client = app.test_client()
        assert choose(client, before + receipt.encode() + b"\r\n").location == "/account"
        assert is_in(client, bought)


def test_a_receipt_that_holds_another_service_too_logs_in_and_opens_the_api(
    client, other, bought, receipt, this_shop
):
    macaroon, preimage = l402.read(receipt.partition(":")[0]), bytes(32)
    films = l402.Rights(None, clock.now() + DAY)
    caveats = l402.caveats_with(macaroon, "films", films, clock.now())
    payment_hash = hashlib.sha256(preimage).digest()
    both = f"{this_shop.keys.mint(payment_hash, macaroon.token_id, caveats)}:{preimage.hex()}"
    assert show(client, both).location == "/account"
    assert is_in(client, bought)
    ask = {"headers": {"Authorization": f"L402 {both}"}}
    assert other.get("/api/v1/hosting", **ask).json["username"] == bought.account.username
    extends = {"duration": 1, "unit": "days"}
    assert other.post("/api/v1/hosting/extend", json=extends, **ask).status_code == 402
    with models.transaction():
        tokens.renew(bought.account.id)
    assert other.get("/api/v1/hosting", **ask).status_code == 401
    assert "counts no more" in problem(show(other, both))


@no_limits
def test_what_is_not_a_receipt_is_refused_and_not_shown_again(client, bought, receipt, buy, node):
    macaroon, _, preimage = receipt.partition(":")
    bobs = buy(username="bobby")
    *signed, last = base64.b64decode(macaroon)
    strange = base64.b64encode(bytes([*signed, last ^ 1])).decode()
    refused = [
        "",
        " ",
        ":",
        "\0",
        f"{receipt}\0",
        macaroon,
        preimage,
        f"{macaroon}:",
        f":{preimage}",
        f"{macaroon}:{bobs.preimage}",
        f"{macaroon}:{preimage[:-1]}",
        f"{macaroon}:{preimage}{preimage}",
        f"{strange}:{preimage}",
        f"{macaroon[:-8]}:{preimage}",
        f"{macaroon}x:{preimage}",
        f"{macaroon}{macaroon}:{preimage}",
        "AgE" + "A" * 20_000 + f":{preimage}",
        "Zürich:" + "é" * 64,
        f"Basic {receipt}",
        narrow(receipt, "lightning-space_capabilities=read,mail,domains,settings,pay,close,more"),
        narrow(receipt, "services=other:0"),
        narrow(receipt, "lightning-space_valid_until=1_0"),
        narrow(receipt, "lightning-space_valid_until=1"),
    ]
    for text in refused:
        answer = show(client, text)
        assert answer.status_code == 400, text
        assert problem(answer), text
        assert client.get("/account").status_code == 302, text
        for secret in (macaroon, preimage, bobs.preimage):
            assert secret not in answer.text


@no_limits
def test_a_file_that_is_not_a_receipt_is_refused(client, bought, receipt):
    for content in (b"", b"\0" * 100, bytes(range(256)) * 20, b"\xff\xfe" + receipt.encode()):
        answer = choose(client, content)
        assert answer.status_code == 400
        assert problem(answer)
    answer = choose(client, b"x" * 17_000)
    assert (answer.status_code, problem(answer)) == (
        400,
        "This file is too large to be an access key.",
    )
    assert 'aria-describedby="file-error file-hint"' in answer.text
    assert "choose it again" in answer.text
    assert choose(client, b"x" * 70_000).status_code == 413
    assert client.get("/account").status_code == 302


def test_what_is_pasted_counts_more_than_a_file(client, bought, receipt):
    assert choose(client, b"an old one", receipt).location == "/account"


def test_a_receipt_lets_in_to_its_own_hosting_alone(client, bought, buy, this_shop):
    bobs = buy(username="bobby")
    show(client, tokens.receipt(this_shop, bobs.account))
    assert is_in(client, bobs)
    assert not is_in(client, bought)


def test_a_narrowed_receipt_is_for_programs(client, bought, receipt):
    for caveat in ("capabilities=mail", "valid_until=9999999999"):
        answer = show(client, narrow(receipt, f"lightning-space_{caveat}"))
        assert answer.status_code == 400
        assert "for programs" in problem(answer)
    assert bought.account.entered_at is None


def test_a_handed_out_token_logs_in_if_it_may_everything(client, other, bought, this_shop):
    def handed_out(name, rights):
        token = tokens.hand_out(this_shop, bought.account.id, name, rights)
        return tokens.text_of(this_shop, token)

    part = l402.Rights(frozenset(["mail"]), None)
    assert "for programs" in problem(show(client, handed_out("part", part)))
    assert show(client, handed_out("all", l402.WHOLE)).location == "/account"


def test_a_receipt_waits_for_its_payment_to_take_effect(client, pay, this_shop, worker):
    bought = pay()
    text = f"{tokens.challenge(this_shop, bought.order)}:{bought.preimage}"

    def open_it():
        payments.apply(this_shop, bought.order.token)

    for then in (lambda: record_payments(worker), open_it):
        answer = show(client, text)
        assert answer.status_code == 400
        assert "Nothing is lost" in problem(answer)
        then()
    assert show(client, text).location == "/account"
    assert is_in(client, bought)  # already while it is being set up


def test_an_extension_paid_by_a_browser_is_no_receipt(client, bought, this_shop, wallet, worker):
    buyer = orders.Buyer("a browser", "form")
    order = orders.extend(this_shop, bought.account.id, 1, "days", buyer)
    preimage = wallet.pay(order.bolt11)["payment_preimage"]
    work(worker)
    answer = show(client, f"{tokens.challenge(this_shop, order)}:{preimage}")
    assert answer.status_code == 400
    assert "counts no more" in problem(answer)


def test_the_receipt_of_a_closed_hosting_can_order_its_name_again(
    client, other, buy, this_shop, worker
):
    bought = buy(username="alice")
    text = tokens.receipt(this_shop, bought.account)
    accounts.close(bought.account.id)
    work(worker)
    assert bought.account is None
    assert place_order(other, username="alice").status_code == 400

    assert show(client, text).location == "/"
    page = client.get("/").text
    assert "The hosting that your access key opened is closed" in page
    assert place_order(client, username="alice").status_code == 303
    assert Account.get(username="alice")
    assert "The hosting that your access key opened is closed" not in other.get("/").text


@with_settings(NAME_QUARANTINE_DAYS="0")
def test_a_receipt_of_a_hosting_whose_name_does_not_rest_is_refused(
    client, bought, receipt, worker
):
    accounts.close(bought.account.id)
    work(worker)
    assert "counts no more" in problem(show(client, receipt))


def test_after_a_login_by_receipt_a_new_password_needs_no_old_one(app, bought, receipt):
    client = app.test_client()
    show(client, receipt)
    page = client.get("/account/password").text
    assert "Current password" not in page
    fields = {"csrf_token": csrf_token(page), "new": "staple battery"}
    assert client.post("/account/password", data=fields).status_code == 303
    assert is_in(client, bought)
    assert log_in(app.test_client(), bought.account.username, "staple battery").status_code == 303
    # This session goes on. A stolen one must not be able to set one password after the other.
    assert "Current password" in client.get("/account/password").text


@with_settings(LOGINS_LIMIT="3 per day")
def test_failures_of_all_kinds_are_limited_together(client, other, bought, receipt):
    assert log_in(client, "alice", "wrong password").status_code == 400
    assert show(client, "nonsense").status_code == 400
    assert recover(client, bought, preimage="0" * 64).status_code == 400
    assert show(client, receipt).status_code == 429
    assert recover(client, bought).status_code == 429
    assert log_in(client, "alice", "wrong password").status_code == 429


@with_settings(LOGINS_LIMIT_OVERALL="3 per day", ORDERS_LIMIT_OVERALL="3 per day")
def test_a_flood_of_strangers_keeps_no_owner_out(client, other, app, bought, receipt):
    show(client, receipt)
    for number in (1, 2, 3, 1):
        peer = {"REMOTE_ADDR": f"192.0.2.{number}"}
        form = filled_form(other)
        answers = [other.post("/orders", data=form, environ_base=peer)]
        form = {"csrf_token": form["csrf_token"], "username": "alice", "password": "wrong"}
        answers.append(other.post("/login", data=form, environ_base=peer))
    assert [answer.status_code for answer in answers] == [429, 429]
    order = send(client, "/account/extend", duration="1", unit="days", form_id="a form")
    assert order.location.startswith("/orders/")
    assert send(client, "/account/password", new="battery staple").status_code == 303
    assert show(app.test_client(), receipt).location == "/account"
    assert recover(app.test_client(), bought).status_code == 202


@with_settings(LOGINS_LIMIT="2 per day")
def test_good_receipts_are_not_counted(client, bought, receipt):
    for _ in range(4):
        assert show(client, receipt).status_code == 303


def test_a_login_keeps_only_the_browsers_id_of_the_session_before(client, bought, receipt, buy):
    place_order(client, username="bobby")
    with client.session_transaction() as session:
        browser = session["browser"]
        session["left over"] = "something"
    show(client, receipt)
    with client.session_transaction() as session:
        assert session["browser"] == browser
        assert "left over" not in session


def test_the_login_forms_need_their_csrf_token(client, bought, receipt):
    assert client.post("/login/receipt", data={"receipt": receipt}).status_code == 400
    fields = {"invoice": bought.invoice, "preimage": bought.preimage}
    assert client.post("/login/recover", data=fields).status_code == 400
    assert client.get("/account").status_code == 302


# -- the wallet's history --------------------------------------------------------------

COPIES = {
    "as it is": lambda text: text,
    "capitals": str.upper,
    "a link": lambda text: f"lightning:{text}",
    "wrapped": lambda text: "\r\n".join(re.findall(".{1,40}", text)) + " ",
    "a link in capitals": lambda text: f"LIGHTNING:{text.upper()}",
    "a link of a browser": lambda text: f"lightning://{text}",
    "a unified link": lambda text: f"bitcoin:BC1QXYZ?amount=0.0001&LIGHTNING={text.upper()}&x=1",
    "a link in a link": lambda text: f"https://wallet.example/#lightning%3A{text}",
    "a wallet's own link": lambda text: f"phoenix:lightning:{text}",
    "among words": lambda text: f'Invoice: "{text}" Amount: 21 sat',
}
PREIMAGES = {
    "capitals": str.upper,
    "0x": lambda text: f"0X{text}",
    "LND": lambda text: base64.b64encode(bytes.fromhex(text)).decode(),
    "url-safe": lambda text: base64.urlsafe_b64encode(bytes.fromhex(text)).decode().rstrip("="),
    "JSON": lambda text: (
        f' "payment_preimage": "{base64.b64encode(bytes.fromhex(text)).decode()}",'
    ),
    "wrapped": lambda text: f"{text[:32]}\r\n{text[32:]}\u200b",
    "an object": lambda text: f'{{"preimage":"{text}"}}',
    "a sentence": lambda text: f"Preimage: {text}.",
}


@no_limits
def test_the_wallets_history_opens_a_hosting_that_nobody_has_entered(app, bought):
    typed = [{"invoice": copy(bought.invoice)} for copy in COPIES.values()]
    typed += [{"preimage": copy(bought.preimage)} for copy in PREIMAGES.values()]
    for fields in typed:
        client = app.test_client()
        answer = recover(client, bought, **fields)
        assert answer.status_code == 200, fields
        assert answer.headers["Cache-Control"] == "no-store"
        assert is_in(client, bought)
    assert bought.account.entered_at is None


def test_the_wallets_history_works_at_once_after_the_browser_was_closed(
    app, client, worker, wallet
):
    """Nothing was saved, neither name nor password: the wallet alone is left."""
    bought = buys_here(client, worker, wallet)
    assert client.get(f"/orders/{bought.order.token}").location == "/account"
    assert recover(app.test_client(), bought).status_code == 200


@pytest.mark.parametrize("way", ["notes", "saves", "chose"])
def test_an_owner_with_a_lasting_login_is_warned_first(way, app, client, worker, wallet):
    typed = {"password": "correct horse"} if way == "chose" else {}
    bought = buys_here(client, worker, wallet, **typed)
    page = client.get(f"/orders/{bought.order.token}", follow_redirects=True).text
    if way == "notes":
        client.post("/account/noted", data={"csrf_token": csrf_token(page)})
    if way == "saves":
        assert client.get("/account/receipt").status_code == 200
    assert recover(app.test_client(), bought).status_code == 202


def test_a_password_typed_with_the_order_is_a_lasting_login(client, buy):
    assert recover(client, buy(password="correct horse")).status_code == 202


def buys_here(client, worker, wallet, **typed) -> Bought:
    token = place_order(client, **typed).location.rpartition("/")[2]
    order = Order.get_by_id(token)
    bought = Bought(order, order.bolt11, wallet.pay(order.bolt11)["payment_preimage"])
    work(worker)
    return bought


def test_recovery_shows_a_new_password_once_and_ends_the_old_one(client, other, bought, receipt):
    typed = Order.get_by_id(bought.order.token).account.password_sealed
    assert typed
    page = recover(client, bought).text
    password = re.search(r'id="password">([^<]+)<', page)[1]
    assert bought.account.username in page
    assert password not in client.get("/account").text
    assert log_in(other, bought.account.username, password).location == "/account"
    assert bought.preimage not in page
    assert "counts no more" in problem(show(other, receipt))
    new = client.get("/account/receipt").text.strip()
    assert new != receipt
    assert show(other, new).location == "/account"


def test_recovery_ends_every_other_session_and_token(client, app, bought, receipt, this_shop):
    browser = app.test_client()
    show(browser, receipt)
    Account.update(entered_at=None).execute()
    tokens.hand_out(this_shop, bought.account.id, "all", l402.WHOLE)
    assert recover(client, bought).status_code == 200
    assert not is_in(browser, bought)
    assert Token.select().count() == 0


def test_each_recovery_makes_another_password(client, other, bought):
    shown = {
        re.search(r'id="password">([^<]+)<', recover(browser, bought).text)[1]
        for browser in (client, other)
    }
    assert len(shown) == 2
    assert is_in(other, bought)
    assert not is_in(client, bought)


def lookalike(bought, **changes) -> str:
    """An invoice that a node on the route could sign: the same hash and secret, another key."""
    seen = bolt11.decode(bought.invoice)
    told = {
        "payment_hash": seen["payment_hash"],
        "payment_secret": seen["payment_secret"],
        "created_at": seen["created_at"],
        "expiry": seen["expiry"],
        "amount_msat": seen["amount_msat"],
        "description": seen["description"],
        "min_final_cltv_expiry": seen["min_final_cltv_expiry"],
    }
    return bolt11.encode(PrivateKey(b"k" * 32), **told | changes)


@no_limits
def test_recovery_needs_both_invoice_and_preimage(client, bought, buy, wallet, this_shop, worker):
    buyer = orders.Buyer("a browser", "form")
    extension = orders.extend(this_shop, bought.account.id, 1, "days", buyer)
    paid = wallet.pay(extension.bolt11)["payment_preimage"]
    work(worker)
    bobs, seen = buy(username="bobby"), bolt11.decode(bought.invoice)
    refused = [
        {"invoice": lookalike(bought)},
        {"invoice": bobs.invoice},
        {"preimage": bobs.preimage},
        {"preimage": seen["payment_hash"]},
        {"preimage": seen["payment_secret"]},
        {"invoice": seen["payment_hash"]},
        {"invoice": bought.invoice[:-1]},
        {"invoice": bought.invoice + "q"},
        {"invoice": "\0"},
        {"invoice": extension.bolt11, "preimage": paid},
        {"invoice": "ünïcode"},
    ]
    said = set()
    for fields in refused:
        answer = recover(client, bought, **fields)
        assert answer.status_code == 400, fields
        said.add(problem(answer))
        typed = {"invoice": bought.invoice, "preimage": bought.preimage} | fields
        areas = re.findall(r"<textarea[^>]*>\s*([^<]*)</textarea>", answer.text)
        assert [unescape(text).strip() for text in areas] == ["", *typed.values()]
    assert len(said) == 1
    for preimage in ("", "\0", "x" * 64, bought.preimage[:-1], bought.preimage * 2, "é" * 64):
        assert recover(client, bought, preimage=preimage).status_code == 400
    for invoice in ("", " ", "lnbc" * 2000):
        assert recover(client, bought, invoice=invoice).status_code == 400
    assert client.get("/account").status_code == 302
    assert bought.account.receipt_epoch == 0


def test_recovery_can_be_forbidden(client, bought):
    recovery.let_wallet_recover(bought.account.id, False)
    assert recover(client, bought).status_code == 400


def test_recovery_of_a_hosting_in_use_waits_a_day(client, other, bought, receipt, time_machine):
    show(other, receipt)
    answer = recover(client, bought)
    assert answer.status_code == 202
    begins = bought.account.recovery_asked_at + recovery.WAIT_SECONDS
    assert clock.clock_time(begins) in answer.text
    assert clock.clock_time(begins + 7 * DAY) in answer.text
    assert "Somebody has shown" in other.get("/account").text

    time_machine.forward(recovery.WAIT_SECONDS - 1)
    assert recover(client, bought).status_code == 202
    time_machine.forward(1)
    assert recover(client, bought).status_code == 200
    assert is_in(client, bought)
    assert "Somebody has shown" not in client.get("/account").text


def test_a_recovery_whose_answer_was_lost_may_be_repeated(client, other, bought, time_machine):
    Account.update(entered_at=1).execute()
    recover(client, bought)
    time_machine.forward(recovery.WAIT_SECONDS)
    assert recover(client, bought).status_code == 200
    time_machine.forward(recovery.AGAIN_SECONDS - 1)
    assert recover(other, bought).status_code == 200
    assert is_in(other, bought)
    assert "Somebody has shown" not in other.get("/account").text
    time_machine.forward(recovery.AGAIN_SECONDS)
    assert recover(client, bought).status_code == 202


def test_an_attempt_at_recovery_expires(client, bought, time_machine):
    Account.update(entered_at=1).execute()
    recover(client, bought)
    time_machine.forward(recovery.WAIT_SECONDS + recovery.OPEN_SECONDS)
    time_machine.forward(recovery.AGAIN_SECONDS)
    assert recover(client, bought).status_code == 202
    assert bought.account.recovery_asked_at == clock.now()


def test_the_owner_refuses_recovery_by_the_banners_button(
    client, other, bought, receipt, time_machine
):
    show(other, receipt)
    recover(client, bought)
    send(other, "/account/access/wallet", active="off")
    assert "Somebody has shown" not in other.get("/account").text
    time_machine.forward(recovery.WAIT_SECONDS)
    assert recover(client, bought).status_code == 400
    assert bought.account.recovery_asked_at is None


@with_mail
def test_the_owner_is_mailed_once_about_an_attempt(mails, client, buy, time_machine):
    bought = buy(username="alice")
    Account.update(entered_at=1, email="alice@example.org").execute()
    for _ in range(2):
        recover(client, bought)
        time_machine.forward(60)
    told = list(Notice.select().where(Notice.kind == "recovery").order_by(Notice.channel))
    assert [row.recipient for row in told] == ["alice@example.org", "info@alice.shop.test"]
    assert {row.about for row in told} == {bought.account.recovery_asked_at}
    for row in told:
        assert "/account/access" in row.body
        assert bought.preimage not in row.body


@with_mail
def test_mails_about_attempts_have_their_own_daily_limit(mails, buy, this_shop, time_machine):
    bought = buy(username="alice")
    Account.update(entered_at=1, email="victim@example.org").execute()
    with models.transaction():
        for number in range(30):
            outbox.write(this_shop, bought.account, "ending-7d", number, closes_at=number)
    for _ in range(30):
        with pytest.raises(recovery.RecoveryWaits):
            recovery.recover(this_shop, bought.invoice, bytes.fromhex(bought.preimage))
        recovery.let_wallet_recover(bought.account.id, True)
        time_machine.forward(1)
    told = Notice.select().where((Notice.kind == "recovery") & (Notice.channel == "email"))
    assert told.count() == outbox.OF_ONE_ACCOUNT["recovery"]


@with_mail
def test_nobody_is_mailed_about_a_hosting_that_nobody_has_entered(mails, client, buy):
    bought = buy()
    Account.update(email="alice@example.org").execute()
    assert recover(client, bought).status_code == 200
    assert not Notice.select().where(Notice.kind == "recovery").exists()


def test_a_flood_of_recoveries_is_turned_away(client, bought):
    with passwords.STRANGERS.place("127.0.0.1"):
        assert recover(client, bought).status_code == 429
    assert bought.account.receipt_epoch == 0


def renew(browser, page=None):
    """Press the button on the page with the next receipt."""
    page = page or browser.get("/account/access/receipt").text
    fields = re.findall(r'name="(epoch|after)" value="(\d+)"', page)
    return send(browser, "/account/access/receipt", **dict(fields))


# -- the receipt in the control center -------------------------------------------------


@pytest.fixture
def browser(client, bought, receipt):
    """The owner's browser, logged in."""
    show(client, receipt)
    return client


def test_a_new_hosting_offers_its_receipt_without_asking_the_node(
    browser, bought, receipt, node, time_machine
):
    asked = len(node.calls)
    page = browser.get("/account").text
    assert 'href="/account/receipt"' in page
    assert bought.preimage not in page
    assert len(node.calls) == asked
    Account.update(password_sealed=None).execute()
    time_machine.forward(DAY + 1)
    assert 'href="/account/receipt"' not in browser.get("/account").text


def test_the_receipt_is_shown_and_saved(browser, other, bought, receipt):
    assert receipt in unescape(browser.get("/account/access").text)
    saved = browser.get("/account/receipt")
    assert saved.text == receipt + "\n"
    assert saved.mimetype == "text/plain"
    assert saved.headers["Cache-Control"] == "no-store"
    name = f"{bought.account.username}-access-key.txt"
    assert saved.headers["Content-Disposition"] == f'attachment; filename="{name}"'
    assert choose(other, saved.data).location == "/account"


def test_without_the_node_the_page_says_so_and_the_rest_works(browser, node, this_shop):
    tokens.hand_out(this_shop, Account.get().id, "my script", l402.WHOLE)
    node.down()
    for path, shown in (("", "my script"), ("/card", "ls_"), ("/receipt", "A new access key")):
        page = browser.get(f"/account/access{path}")
        assert page.status_code == 200
        assert "does not answer right now" in page.text
        assert shown in page.text
    for file in ("/account/receipt", "/account/access/receipt/file?epoch=1"):
        assert browser.get(file).status_code == 503


def test_the_page_works_if_the_node_does_not_know_the_payment(browser, node, bought):
    node.forget_newer_than(0)
    for path in ("", "/card", "/receipt"):
        page = browser.get(f"/account/access{path}")
        assert page.status_code == 200
        assert "the payment" in page.text and "opened this hosting" in page.text
    for file in ("/account/receipt", "/account/access/receipt/file?epoch=1"):
        assert browser.get(file).status_code == 404


def test_a_new_receipt_is_kept_first_and_then_ends_the_others(
    browser, other, app, bought, receipt, this_shop
):
    show(other, receipt)
    token = tokens.hand_out(this_shop, bought.account.id, "my script", l402.WHOLE)
    handed_out = tokens.text_of(this_shop, token)
    page = browser.get("/account/access/receipt").text
    file = re.search(r'"(/account/access/receipt/file[^"]+)', page)[1]
    new = browser.get(file).text.strip()
    assert new in unescape(page)
    assert receipt not in unescape(page)
    stranger = app.test_client()
    assert show(stranger, new).status_code == 400

    done = renew(browser, page)
    assert done.location == "/account/access"
    assert is_in(browser, bought)
    assert not is_in(other, bought)
    for old in (receipt, handed_out):
        assert "counts no more" in problem(show(stranger, old))
    assert show(stranger, new).location == "/account"
    assert browser.get("/account/receipt").text.strip() == new
    assert not bought.account.wallet_recovers
    assert recover(app.test_client(), bought).status_code == 400


def test_a_next_receipt_seen_by_another_session_is_not_the_new_one(
    browser, other, app, bought, receipt
):
    show(other, receipt)
    kept = re.search(r'<code id="receipt">([^<]+)', other.get("/account/access/receipt").text)[1]
    renew(browser)
    assert "counts no more" in problem(show(app.test_client(), unescape(kept)))


# -- who may see it --------------------------------------------------------------------


@pytest.fixture
def later(browser, bought, password_hash, time_machine):
    """The owner's browser, ten minutes after the login. The password is "correct horse"."""
    Account.update(password_hash=password_hash).execute()
    time_machine.forward(sessions.PROVED_SECONDS)
    return browser


def prove(browser, then="/account/access", password="correct horse"):
    return send(browser, f"/account/prove?then={then}", password=password)


def test_the_receipt_is_shown_again_for_the_password(later, receipt, time_machine):
    for _ in range(2):
        assert receipt not in unescape(later.get("/account/access").text)
        assert later.get("/account/receipt").location == "/account/prove?then=/account/access"
        assert prove(later, password="wrong password").status_code == 400
        assert receipt not in unescape(later.get("/account/access").text)
        assert prove(later).location == "/account/access"
        assert receipt in unescape(later.get("/account/access").text)
        assert later.get("/account/receipt").text == receipt + "\n"
        time_machine.forward(sessions.PROVED_SECONDS)


def test_the_receipt_is_shown_again_for_a_receipt_of_this_hosting(later, receipt, buy, this_shop):
    bobs = tokens.receipt(this_shop, buy(username="bobby").account)
    for text in ("", "nonsense", bobs, narrow(receipt, "lightning-space_capabilities=read")):
        answer = send(later, "/account/prove/receipt", receipt=text)
        assert (answer.status_code, bool(problem(answer))) == (400, True), text
    assert later.get("/account/receipt").status_code == 303
    assert send(later, "/account/prove/receipt", receipt=receipt).location == "/account/access"
    assert later.get("/account/receipt").status_code == 200


def test_a_copy_of_the_cookie_does_not_share_the_proof(app, later, bought):
    thief = app.test_client()
    thief.set_cookie("session", later.get_cookie("session").value)
    assert is_in(thief, bought)
    prove(later)
    assert thief.get("/account/receipt").location.startswith("/login")
    assert is_in(later, bought)


def test_everything_as_good_as_the_receipt_needs_the_proof(later, bought, this_shop):
    whole = tokens.hand_out(this_shop, bought.account.id, "whole", l402.WHOLE)
    recovery.let_wallet_recover(bought.account.id, False)
    before = bought.account
    for page in ("receipt", "card", f"tokens/{whole.id}"):
        path = f"/account/access/{page}"
        assert later.get(path).location == f"/account/prove?then={path}"
        assert prove(later, path).location == path
        assert later.get(path).status_code == 200
        Session.update(proved_at=0).execute()
    for path, fields in (
        ("/account/access/receipt", {"epoch": "1", "after": "0"}),
        ("/account/access/tokens", {"name": "mine", "capabilities": ["mail"], "until": ""}),
        ("/account/access/wallet", {"active": "on"}),
    ):
        assert send(later, path, **fields).location.startswith("/account/prove")
    assert later.get("/account/access/receipt/file?epoch=1").location.startswith("/account/prove")
    assert "Current password" in later.get("/account/password").text
    assert send(later, "/account/password", new="a thief's password").status_code == 400
    assert bought.account == before
    assert Token.select().count() == 1


def test_refusing_and_revoking_need_no_proof(later, bought, this_shop):
    row = tokens.hand_out(this_shop, bought.account.id, "whole", l402.WHOLE)
    send(later, "/account/access/wallet", active="off")
    send(later, f"/account/access/tokens/{row.id}/revoke")
    assert not bought.account.wallet_recovers
    assert not Token.select().exists()


@no_limits
def test_the_proof_redirects_to_known_pages_alone(later):
    for then in (
        "https://evil.example/",
        "//evil.example",
        "/orders/x",
        "/account/%2e%2e//x",
        "\0",
    ):
        assert prove(later, then).location == "/account/access"


@with_settings(LOGINS_LIMIT="2 per day")
def test_failed_proofs_are_limited_like_logins(later, other, receipt):
    for _ in range(2):
        assert prove(later, password="wrong password").status_code == 400
    assert prove(later).status_code == 429
    assert send(later, "/account/prove/receipt", receipt=receipt).status_code == 429


def test_a_new_password_can_end_the_receipt_too(later, other, app, bought, receipt):
    fields = {"current": "correct horse", "new": "battery staple", "ends_receipt": "y"}
    assert send(later, "/account/password", **fields).location == "/account/access"
    assert receipt not in unescape(later.get("/account/access").text)
    assert "counts no more" in problem(show(other, receipt))
    new = later.get("/account/receipt").text.strip()
    assert show(other, new).location == "/account"
    assert log_in(app.test_client(), bought.account.username, "battery staple").status_code == 303
    assert not bought.account.wallet_recovers


def test_a_new_password_alone_keeps_the_receipt(later, other, receipt):
    assert "Make a new access key, too" in later.get("/account/password").text
    send(later, "/account/password", current="correct horse", new="battery staple")
    assert show(other, receipt).location == "/account"


def under_way(request):
    """Begin a request that hashes a password, and that ends when `finish` is called."""
    passwords.KNOWN.turn.acquire()
    pool = ThreadPoolExecutor(1)
    answer = pool.submit(request)
    eventually(lambda: passwords.KNOWN._networks)

    def finish():
        passwords.KNOWN.turn.release()
        pool.shutdown()
        return answer.result()

    return finish


@pytest.mark.each_database
def test_a_request_changes_nothing_if_its_session_is_ended_meanwhile(browser, other, bought):
    password = "a thief's password"
    Account.update(password_hash=passwords.make_hash(password)).execute()
    log_in(other, bought.account.username, password)
    fields = {"current": password, "new": "for ever and ever"}
    finish = under_way(lambda: send(other, "/account/password", **fields))
    before = bought.account.password_hash
    assert renew(browser).location == "/account/access"
    assert finish().location.startswith("/login")
    assert not is_in(other, bought)
    assert is_in(browser, bought)
    assert bought.account.password_hash == before


def test_only_the_current_receipt_can_be_replaced(browser, bought):
    for after in ("", "1", "x", "9" * 40):
        answer = send(browser, "/account/access/receipt", epoch="1", after=after)
        assert answer.status_code == 409
    assert bought.account.receipt_epoch == 0


def test_a_new_receipt_of_an_impossible_epoch_is_refused(browser, bought):
    for epoch in ("", "0", "x", "-1", "1_0", str(2**63), "9" * 5000):
        assert send(browser, "/account/access/receipt", epoch=epoch, after="0").status_code == 409
        assert browser.get(f"/account/access/receipt/file?epoch={epoch}").status_code == 404
    assert bought.account.receipt_epoch == 0


def test_a_form_sent_twice_makes_one_new_receipt(browser, bought):
    page = browser.get("/account/access/receipt").text
    assert renew(browser, page).status_code == 303
    epoch = bought.account.receipt_epoch
    assert renew(browser, page).status_code == 409
    assert bought.account.receipt_epoch == epoch


def test_recovery_can_be_switched_on_and_off(browser, bought):
    assert "Forbid it" in browser.get("/account/access").text
    send(browser, "/account/access/wallet", active="off")
    assert not bought.account.wallet_recovers
    assert "Allow it" in browser.get("/account/access").text
    send(browser, "/account/access/wallet", active="on")
    assert bought.account.wallet_recovers


def test_the_paying_page_says_that_its_payer_can_recover_the_hosting(client, bought, this_shop):
    opening = place_order(client, username="alice").location
    assert "its proof of payment can later unlock" in client.get(opening).text
    buyer = orders.Buyer("a browser", "form")
    order = orders.extend(this_shop, bought.account.id, 1, "days", buyer)
    assert "proof of payment" not in client.get(f"/orders/{order.token}").text


# -- tokens ----------------------------------------------------------------------------


def make_token(browser, **fields):
    made = {"name": "my script", "capabilities": ["mail"], "until": ""} | fields
    return send(browser, "/account/access/tokens", **made)


def friday() -> str:
    return clock.iso_time(clock.now() + 3 * DAY)[:10]


def test_a_token_for_mailboxes_works_until_its_date(browser, client, bought, time_machine):
    until = friday()
    made = make_token(browser, until=until)
    page = browser.get(made.location).text
    text = unescape(re.search(r'<code id="token">([^<]+)', page)[1])
    row = Token.get()
    assert (row.name, row.capabilities) == ("my script", "mail")
    assert clock.iso_time(row.valid_until - 1) == f"{until}T23:59:59Z"
    assert "my script" in browser.get("/account/access").text

    header = {"Authorization": f"L402 {text}"}
    assert client.get("/api/v1/hosting", headers=header).status_code == 403  # valid, but not for it
    time_machine.moment = row.valid_until
    assert client.get("/api/v1/hosting", headers=header).status_code == 401
    assert "expired <time" in browser.get("/account/access").text


def test_a_revoked_token_opens_nothing(browser, client, bought, this_shop):
    location = make_token(browser, capabilities=["read"]).location
    header = {"Authorization": f"L402 {tokens.text_of(this_shop, Token.get())}"}
    assert client.get("/api/v1/hosting", headers=header).status_code == 200
    assert send(browser, f"{location}/revoke").location == "/account/access"
    assert client.get("/api/v1/hosting", headers=header).status_code == 401
    assert browser.get(location).status_code == 404
    assert send(browser, f"{location}/revoke").status_code == 404


def test_a_session_by_token_ends_when_the_token_is_revoked(
    browser, other, client, bought, this_shop
):
    location = make_token(browser, capabilities=list(l402.CAPABILITIES)).location
    show(other, tokens.text_of(this_shop, Token.get()))
    assert is_in(other, bought)
    send(browser, f"{location}/revoke")
    assert not is_in(other, bought)
    page = browser.get("/account/access").text
    assert "make a new one" in page


def test_a_form_sent_twice_makes_one_token(browser):
    assert make_token(browser).location == make_token(browser).location
    assert Token.select().count() == 1
    answer = make_token(browser, capabilities=["read"])
    assert answer.status_code == 400
    assert "a token of this name" in problem(answer)


WRONG_TOKENS = [
    {"name": ""},
    {"name": "  "},
    {"name": "x" * 41},
    {"name": "\0\N{RIGHT-TO-LEFT OVERRIDE}\N{ZERO WIDTH JOINER}"},
    {"capabilities": []},
    {"capabilities": ["mail", "everything"]},
    {"capabilities": ["mail,close"]},
    {"capabilities": ["\0"]},
    {"until": "tomorrow"},
    {"until": "2020-01-01"},
    {"until": "9999-12-31"},
    {"until": "2099-01-01"},
    {"until": "2026-02-30"},
    {"until": "\0"},
    {"until": "٢٠٣٠-٠١-٠١"},
]


def test_errors_of_a_token_are_shown_beside_its_fields(browser):
    for fields in WRONG_TOKENS:
        answer = make_token(browser, **fields)
        assert answer.status_code == 400, fields
        assert problem(answer), fields
    assert Token.select().count() == 0


def test_a_token_may_end_today_and_have_any_name(browser):
    today = clock.iso_time(clock.now())[:10]
    make_token(browser, until=today, name='<b>"Zoë & Œ"</b>')
    assert Token.get().valid_until > clock.now()
    assert "<b>" not in browser.get("/account/access").text
    make_token(browser, name="two\nlines of \N{RIGHT-TO-LEFT OVERRIDE}👨\u200d👩\u200d👧 🩷")
    assert "two lines of 👨\u200d👩\u200d👧 🩷" in [token.name for token in Token.select()]


def test_the_number_of_tokens_is_limited(browser, bought, this_shop):
    for number in range(tokens.TOKENS_MAX):
        tokens.hand_out(this_shop, bought.account.id, f"token {number}", l402.WHOLE)
    answer = make_token(browser)
    assert answer.status_code == 400
    assert f"There are {tokens.TOKENS_MAX} tokens" in problem(answer)


def test_tokens_of_others_are_out_of_reach(browser, other, buy, this_shop):
    bobs = buy(username="bobby")
    token = tokens.hand_out(this_shop, bobs.account.id, "bobby's", l402.WHOLE)
    path = f"/account/access/tokens/{token.id}"
    assert browser.get(path).status_code == 404
    assert send(browser, f"{path}/revoke").status_code == 404
    assert browser.get("/account/access/tokens/%00").status_code == 404
    assert "bobby" not in browser.get("/account/access").text
    assert Token.select().count() == 1


def test_a_token_of_a_forgotten_key_is_shown_as_void(browser, bought, this_shop):
    keys = l402.Keys([b"k" * 32])
    token = Token.create(
        id=keys.token_id(0).hex(),
        account=bought.account,
        name="old",
        capabilities="mail",
        made_at=1,
    )
    page = browser.get(f"/account/access/tokens/{token.id}")
    assert page.status_code == 200
    assert "a key that the shop does not use any more" in page.text


def test_a_hosting_that_is_being_closed_hands_out_nothing(browser, bought):
    accounts.close(bought.account.id)
    assert make_token(browser).location == "/account"
    assert Token.select().count() == 0


# -- who sees what ---------------------------------------------------------------------


def test_no_stranger_and_no_log_sees_a_preimage(
    app, client, other, buy, receipt, bought, worker, caplog
):
    caplog.set_level(logging.INFO)
    caplog.set_level(logging.DEBUG, "lightningspace")
    bobs = buy(username="bobby")
    work(worker)
    recover(other, bobs)
    show(client, receipt)
    recover(client, bought, preimage="0" * 64)
    show(client, receipt.replace("A", "B"))
    for path in ("/account/access", "/account/access/receipt", "/account/receipt"):
        client.get(path)
    secrets = [bought.preimage, bobs.preimage, receipt.partition(":")[0], bought.invoice]
    for secret in secrets:
        assert secret not in caplog.text
    paths = [rule.rule for rule in app.url_map.iter_rules() if "GET" in rule.methods]
    for path in paths:
        token = bought.order.token
        seen = other.get(re.sub("<[^>]*>", token, path)).get_data().decode(errors="replace")
        for secret in (bought.preimage, bought.invoice, receipt.partition(":")[0]):
            assert secret not in seen, path
