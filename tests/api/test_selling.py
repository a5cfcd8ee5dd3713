"""The API for programs: buying and extending with nothing but a wallet."""

import hashlib
import random
import threading
import time
from dataclasses import dataclass

import pytest
from peewee import OperationalError

from lightningspace.api import holders
from lightningspace.base import clock, models
from lightningspace.base.models import Account, Order, Server, Service
from lightningspace.outside import l402
from lightningspace.outside.l402 import Rights
from lightningspace.rules import accounts, invoices, orders, payments, tokens
from tests.api.programs import wrong
from tests.conftest import at_once, invoices_asked_for, record_payments, with_settings, work

HOUR = {"duration": 1, "unit": "hours"}
WISH = {"space_mb": 100} | HOUR
KEY, ANOTHER_KEY = "a key of this request".replace(" ", "-"), "another-key-of-another"
# The longest that a request may wait: three seconds, and some time for a busy machine.
WAITS_AT_MOST = 3.5


@dataclass
class Program:
    """A program with a wallet."""

    client: object
    wallet: object
    worker: object

    def twin(self, app) -> "Program":
        """The same program, for another thread."""
        return Program(app.test_client(), self.wallet, self.worker)

    def asks(self, path="/hosting", body=WISH, token="", key=None, address="192.0.2.1"):
        headers = {"Authorization": token} if token else {}
        headers |= {"Idempotency-Key": key} if key else {}
        url, peer = f"/api/v1{path}", {"REMOTE_ADDR": address}
        return self.client.post(url, json=body, headers=headers, environ_base=peer)

    def extends(self, token, body=HOUR, **kwargs):
        return self.asks("/hosting/extend", body, token, **kwargs)

    def resizes(self, token, space_mb, **kwargs):
        return self.asks("/hosting/resize", {"space_mb": space_mb}, token, **kwargs)

    def looks(self, token):
        return self.client.get("/api/v1/hosting", headers={"Authorization": token})

    def pays(self, challenge) -> str:
        """Pay with the wallet, without the worker: the shop does not know of it yet."""
        assert challenge.status_code == 402, challenge.text
        preimage = self.wallet.pay(challenge.json["invoice"])["payment_preimage"]
        return f"L402 {challenge.json['macaroon']}:{preimage}"

    def buys(self, path="/hosting", body=WISH, token="", **kwargs) -> str:
        credential = self.pays(self.asks(path, body, token, **kwargs))
        work(self.worker)
        return credential


@pytest.fixture
def program(client, wallet, worker):
    return Program(client, wallet, worker)


@pytest.fixture
def token(program, this_shop):
    """The receipt of a hosting that was bought for an hour, and is ready in the database."""
    receipt = program.pays(program.asks())
    record_payments(program.worker)
    [due] = payments.due()
    payments.apply(this_shop, due.token)
    Account.update(ready_at=clock.now(), reconcile_at=None).execute()
    Service.update(applied_revision=Service.revision, applied_at=clock.now(), panel_id=1).execute()
    return receipt


@pytest.fixture
def nobody_may_wait():
    """Two other requests wait already, so the next ones are answered at once."""
    for _ in range(2):
        assert holders._waiting.acquire(blocking=False)
    yield
    for _ in range(2):
        holders._waiting.release()


def orders_of(kind: str) -> list[Order]:
    return list(Order.select().where(Order.kind == kind).order_by(Order.placed_at))


def paid(wallet, worker, answer) -> dict[str, str]:
    """Pay what a 402 asks for; return the header that proves it."""
    assert answer.status_code == 402, answer.text
    preimage = wallet.pay(answer.json["invoice"])["payment_preimage"]
    work(worker)
    return {"Authorization": f"L402 {answer.json['macaroon']}:{preimage}"}


def test_a_program_buys_and_extends(client, node, wallet, worker):
    receipt = paid(wallet, worker, client.post("/api/v1/hosting", json=WISH))
    bought = client.post("/api/v1/hosting", json=WISH, headers=receipt)
    assert bought.status_code == 201
    ends = [bought.json["paid_until"]]
    token = receipt
    for _ in range(2):
        token = paid(
            wallet, worker, client.post("/api/v1/hosting/extend", json=HOUR, headers=token)
        )
        extended = client.post("/api/v1/hosting/extend", json=HOUR, headers=token)
        assert extended.status_code == 200
        ends.append(extended.json["paid_until"])
        for header in (token, receipt):
            seen = client.get("/api/v1/hosting", headers=header)
            assert (seen.status_code, seen.json["paid_until"]) == (200, ends[-1])
    assert ends == sorted(set(ends))
    assert invoices_asked_for(node) == 3


def test_what_is_bought_keeps_the_other_services_of_the_credential(program, token, this_shop, node):
    macaroon, preimage = l402.read(token.removeprefix("L402 ").partition(":")[0]), bytes(32)
    films = Rights(None, clock.now() + 3600)
    caveats = l402.caveats_with(macaroon, "films", films, clock.now())
    payment_hash = hashlib.sha256(preimage).digest()
    both = this_shop.keys.mint(payment_hash, macaroon.token_id, caveats)
    extended = program.buys("/hosting/extend", HOUR, f"L402 {both}:{preimage.hex()}")
    assert program.extends(extended).status_code == 200
    assert program.extends(extended).status_code == 402
    resized = program.buys("/hosting/resize", {"space_mb": 500}, extended)
    assert program.resizes(resized, 500).status_code == 200
    for credential in (extended, resized):
        assert program.looks(credential).json["size"]["space_mb"] == 500
        sold = l402.read(credential.removeprefix("L402 ").partition(":")[0])
        assert l402.rights(sold, "films", clock.now()) == films
        assert sold.token_id == macaroon.token_id
    assert invoices_asked_for(node) == 4


def test_a_new_hosting_keeps_the_services_of_the_credential(program, this_shop):
    keys, films = this_shop.keys, Rights(None, clock.now() + 3600)
    payment_hash = hashlib.sha256(bytes(32)).digest()

    def of_films(epoch=0, *added: str) -> tuple[l402.Macaroon, str]:
        bought = keys.mint(payment_hash, keys.token_id(epoch), l402.caveats("films", films))
        return bought, f"L402 {bought.narrowed(*added)}:{'0' * 64}"

    shown, credential = of_films()
    token = program.buys(token=credential)
    assert program.asks(token=token).status_code == 201
    sold = l402.read(token.removeprefix("L402 ").partition(":")[0])
    assert sold.token_id == shown.token_id
    assert l402.rights(sold, "films", clock.now()) == films
    assert program.extends(token).status_code == 402
    # The access key in the control center is another text, and as good for the hosting.
    text = tokens.receipt(this_shop, Account.get())
    assert program.looks(f"L402 {text}").json == program.looks(token).json

    for odd in (of_films(1), of_films(0, "ip=::1"), of_films(0, "services=films:0")):
        sold = l402.read(program.asks(token=odd[1]).json["macaroon"])
        assert l402.services(sold) == {l402.SERVICE}
        assert sold.token_id != odd[0].token_id


def test_requests_that_buy_nothing_make_no_invoice(client, node):
    answer = client.get("/api/v1/hosting")
    assert answer.status_code == 401
    assert answer.headers.getlist("WWW-Authenticate") == ["L402"]
    assert client.post("/api/v1/hosting/extend", json=HOUR).status_code == 401
    assert client.get("/api/v1/prices").status_code == 200
    assert invoices_asked_for(node) == 0


# -- prices ----------------------------------------------------------------------------


def test_prices_have_everything_that_a_program_needs_to_compute_one(stranger, node):
    told = stranger.get("/prices").json
    assert told["included"] == {"addresses": 5, "domains": 1}
    assert told["extra"]["address_msat_per_day"] == 1000
    assert told["time"]["unit_seconds"]["months"] == 30 * 86400
    assert "price" not in told
    asked = stranger.get("/prices?space_mb=100&duration=3&unit=months").json["price"]
    assert asked["msat"] == 90 * 7000
    assert invoices_asked_for(node) == 0


@pytest.mark.parametrize(
    "query, fields",
    [
        ("space_mb=100", {"duration", "unit"}),
        ("space_mb=7&duration=1&unit=hours", {"space_mb"}),
        ("space_mb=100&duration=0&unit=hours", {"duration"}),
        ("space_mb=100&duration=1_0&unit=hours", {"duration"}),
        ("space_mb=100&duration=1&unit=years", {"unit"}),
        ("space_mb=%00&duration=&unit=", {"space_mb", "duration", "unit"}),
    ],
)
def test_a_wrong_question_for_a_price_says_so(query, fields, stranger):
    assert wrong(stranger.get(f"/prices?{query}")) == fields


# -- a new hosting: once ---------------------------------------------------------------


def test_the_same_key_has_the_same_challenge(program, node):
    first, second = program.asks(key=KEY), program.asks(key=KEY)
    assert first.headers.getlist("WWW-Authenticate") == second.headers.getlist("WWW-Authenticate")
    assert invoices_asked_for(node) == 1


def test_without_a_key_each_request_is_another_order(program, node):
    assert program.asks().json["invoice"] != program.asks().json["invoice"]
    assert invoices_asked_for(node) == 2


@pytest.mark.parametrize(
    "other", [{"body": WISH | {"duration": 2}}, {"key": ANOTHER_KEY}, {"address": "192.0.2.2"}]
)
def test_another_body_or_key_or_address_is_another_order(other, program):
    first, second = program.asks(key=KEY), program.asks(**({"key": KEY} | other))
    assert first.json["invoice"] != second.json["invoice"]


def test_an_idempotency_key_that_was_paid_sells_and_shows_nothing(program, node):
    token = program.buys(key=KEY)
    again = program.asks(key=KEY)
    assert (again.status_code, again.json["code"]) == (409, "ordered")
    assert "WWW-Authenticate" not in again.headers and "macaroon" not in again.json
    assert program.asks(key=KEY, token=token).status_code == 201
    assert invoices_asked_for(node) == 1


def test_an_expired_challenge_is_looked_at_before_there_is_another(
    program, time_machine, worker, this_shop, node
):
    first = program.asks(key=KEY)
    time_machine.forward(15 * 60)
    between = program.asks(key=KEY)
    assert (between.status_code, between.json["code"]) == (503, "checking")
    assert between.headers["Retry-After"]
    payments.tidy(this_shop, node.id)
    assert program.asks(key=KEY).json["invoice"] != first.json["invoice"]


def test_the_receipt_sees_the_same_hosting_again_and_again(program, token, node, panel):
    answers = [program.asks(token=token) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [201] * 3
    assert len({answer.json["username"] for answer in answers}) == 1
    assert program.asks(body=WISH | {"duration": 2}, token=token).json["code"] == "changed"
    assert invoices_asked_for(node) == 1
    assert Account.select().count() == 1


@pytest.mark.each_database
def test_two_requests_with_one_key_at_once_are_one_order(app, program, node):
    clients = [program.twin(app) for _ in range(3)]
    answers = at_once(*(lambda each=each: each.asks(key=KEY) for each in clients))
    assert {answer.status_code for answer in answers} == {402}
    assert len({answer.json["invoice"] for answer in answers}) == 1
    assert invoices_asked_for(node) == Order.select().count() == 1


def test_a_receipt_shown_before_the_worker_has_seen_the_payment_waits(
    program, worker, nobody_may_wait
):
    challenge = program.asks()
    token = program.pays(challenge)
    for _ in range(2):
        early = program.asks(token=token)
        assert (early.status_code, early.json["code"]) == (503, "not_settled")
        assert early.headers["Retry-After"] and "WWW-Authenticate" not in early.headers
        assert program.looks(token).status_code == 503
    record_payments(worker)
    assert program.asks(token=token).status_code == 503  # paid, but not opened yet
    payments.apply(worker.shop, challenge.json["order"])
    opened = program.asks(token=token)
    assert (opened.status_code, opened.headers["Retry-After"]) == (202, "3")
    work(worker)
    assert program.asks(token=token).status_code == 201


def test_a_waiting_request_is_answered_as_soon_as_the_worker_is_done(app, program, worker):
    """As with a thread of gunicorn, and the worker in another process."""
    token = program.pays(program.asks())
    working = threading.Timer(0.5, lambda: (work(worker), models.db.close()))
    working.start()
    began = time.monotonic()
    assert program.asks(token=token).status_code == 201
    assert time.monotonic() - began < WAITS_AT_MOST
    working.join()


def test_two_requests_wait_for_three_seconds_and_others_not_at_all(app, program):
    token = program.pays(program.asks())
    clients = [program.twin(app) for _ in range(5)]

    def ask(each):
        began = time.monotonic()
        return each.asks(token=token).status_code, time.monotonic() - began

    answers = at_once(*(lambda each=each: ask(each) for each in clients))
    assert [status for status, _ in answers] == [503] * 5
    seconds = sorted(seconds for _, seconds in answers)
    assert seconds[2] < 2 < seconds[3] and seconds[4] < WAITS_AT_MOST


def test_a_request_waits_three_seconds_in_all(program, worker):
    """First for the payment, then for the panel, which does not answer."""
    token = program.pays(program.asks())

    def settle():
        record_payments(worker)
        for due in payments.due():
            payments.apply(worker.shop, due.token)
        models.db.close()

    settling = threading.Timer(1.5, settle)
    settling.start()
    began = time.monotonic()
    assert program.asks(token=token).status_code == 202
    assert time.monotonic() - began < WAITS_AT_MOST
    settling.join()


def test_the_receipt_of_a_closed_hosting_has_its_name_again(
    program, worker, time_machine, node, this_shop
):
    wish = WISH | {"username": " Anna"}
    old = program.buys(body=wish)
    narrower, _, preimage = old.rpartition(":")
    narrower = l402.read(narrower.partition(" ")[2]).narrowed("lightning-space_capabilities=pay")
    account = Account.get()
    accounts.close(account.id)
    while Account.get_or_none(Account.id == account.id):
        time_machine.forward(30)
        work(worker)
    for stranger in ("", f"L402 {narrower}:{preimage}"):
        taken = program.asks(body=wish, token=stranger)
        assert (taken.status_code, taken.json["code"]) == (409, "name_taken")
    assert invoices_asked_for(node) == 1
    new = program.buys(body=wish, token=f"Basic abc, {old}")
    bought = program.asks(body=wish, token=new)
    assert (bought.status_code, bought.json["username"]) == (201, "anna")


# -- more time: what was paid for is delivered, once --------------------------------------


def end(program, token) -> str:
    return program.looks(token).json["paid_until"]


def test_until_it_is_paid_an_extension_has_one_invoice(program, token, node):
    challenges = [program.extends(token) for _ in range(3)]
    assert len({each.json["invoice"] for each in challenges}) == 1
    assert invoices_asked_for(node) == 2
    program.pays(challenges[0])
    work(program.worker)
    assert program.extends(token).json["invoice"] != challenges[0].json["invoice"]


def test_an_extension_with_a_key_is_the_same_for_ever(program, token, node):
    extension = program.buys("/hosting/extend", HOUR, token, key=KEY)
    until = end(program, token)
    for credential in (extension, extension, token, extension):
        again = program.extends(credential, key=KEY)
        assert (again.status_code, again.json["paid_until"]) == (200, until)
    assert invoices_asked_for(node) == 2


def test_a_lost_answer_can_be_had_again_by_its_key(program, token, node):
    """The program is killed after the token was marked as redeemed, before it got the answer."""
    extension = program.buys("/hosting/extend", HOUR, token, key=KEY)
    assert orders.redeem(orders_of("extend")[0].token)
    assert program.extends(extension, key=KEY).status_code == 200
    assert invoices_asked_for(node) == 2


def test_a_paid_token_gets_its_answer_even_with_another_key(program, token, node):
    """Some libraries generate a new key for each request."""
    extension = program.buys("/hosting/extend", HOUR, token, key=KEY)
    assert program.extends(extension, key=ANOTHER_KEY).status_code == 200
    assert invoices_asked_for(node) == 2


def test_a_paid_token_buys_what_it_was_for_and_nothing_else(program, token, node):
    extension = program.buys("/hosting/extend", HOUR, token)
    other = program.extends(extension, {"duration": 2, "unit": "hours"})
    assert (other.status_code, other.json["code"]) == (409, "changed")
    assert program.extends(extension).status_code == 200
    assert invoices_asked_for(node) == 2
    assert program.extends(extension).status_code == 402


def test_a_payment_not_in_effect_yet_is_never_sold_again(
    program, token, worker, node, nobody_may_wait
):
    """The worker is busy. The 202 does not use the token up."""
    challenge = program.extends(token)
    extension = program.pays(challenge)
    assert program.extends(extension).status_code == 503
    record_payments(worker)
    for _ in range(3):
        early = program.extends(extension)
        assert (early.status_code, early.headers["Retry-After"]) == (202, "3")
    payments.apply(worker.shop, challenge.json["order"])
    assert program.extends(extension).status_code == 200
    assert invoices_asked_for(node) == 2


@pytest.mark.each_database
def test_a_token_shown_twice_at_once_counts_once(app, program, token):
    extension = program.buys("/hosting/extend", HOUR, token)
    until = end(program, token)
    clients = [program.twin(app) for _ in range(3)]
    answers = at_once(*(lambda each=each: each.extends(extension) for each in clients))
    assert sorted(answer.status_code for answer in answers) == [200, 402, 402]
    assert len({answer.json["invoice"] for answer in answers if "invoice" in answer.json}) == 1
    assert end(program, token) == until


@pytest.mark.each_database
def test_an_extension_asked_for_twice_at_once_has_one_invoice(app, program, token, node):
    clients = [program.twin(app) for _ in range(3)]
    answers = at_once(*(lambda each=each: each.extends(token) for each in clients))
    assert {answer.status_code for answer in answers} == {402}
    assert len({answer.json["invoice"] for answer in answers}) == 1
    assert invoices_asked_for(node) == 2


@pytest.mark.parametrize("state", ["blocked", "last call", "closing"])
def test_nothing_is_sold_to_a_hosting_that_is_about_to_go(state, program, token, node):
    account = Account.get()
    if state == "blocked":
        accounts.block(account.id, "spam")
    elif state == "last call":
        Account.update(last_call_at=clock.now()).execute()
    else:
        accounts.close(account.id)
    for answer in (program.extends(token), program.resizes(token, 1000)):
        assert (answer.status_code, answer.json["code"]) == (409, "refused")
    assert invoices_asked_for(node) == 1


@pytest.mark.parametrize("state", ["blocked", "suspended", "closing", "last call"])
def test_a_payment_made_meanwhile_is_answered(state, program, token, worker, node):
    challenge = program.extends(token)
    account = Account.get()
    if state == "blocked":
        accounts.block(account.id, "spam")
    elif state == "suspended":
        accounts.suspend(account.id)
    elif state == "closing":
        accounts.close(account.id)
    else:
        Account.update(last_call_at=clock.now()).execute()
    before = account.expires_at
    extension = program.pays(challenge)
    work(worker)
    answer = program.extends(extension)
    assert answer.status_code == 200, answer.text
    assert Account.get().expires_at == before + orders_of("extend")[0].bought_seconds
    assert (Account.get().blocked_at is not None) == (state == "blocked")
    assert Account.get().closing_at is None
    assert invoices_asked_for(node) == 2


def test_a_payment_for_a_deleted_hosting_opens_it_again_and_is_answered(
    program, token, worker, node, time_machine, nobody_may_wait
):
    before = program.looks(token).json["username"]
    challenge = program.extends(token)
    account = Account.get()
    accounts.close(account.id)
    while Account.get_or_none(Account.id == account.id):
        time_machine.forward(30)
        work(worker)
    extension = program.pays(challenge)
    record_payments(worker)
    for answer in (program.extends(extension), program.asks(token=extension)):
        assert (answer.status_code, answer.json["code"]) == (503, "not_settled")
    for _ in range(3):
        work(worker)
    answer = program.extends(extension)
    assert (answer.status_code, answer.json["username"]) == (200, before)
    assert answer.json["left_seconds"] >= 3600
    # It is now the receipt of the new hosting; the old receipt is void.
    assert program.looks(extension).status_code == 200
    assert program.looks(token).status_code == 401
    assert invoices_asked_for(node) == 2
    assert program.extends(extension).status_code == 402


def test_a_payment_recorded_after_the_invoice_is_over_counts(
    program, token, worker, time_machine, node
):
    challenge = program.extends(token)
    extension = program.pays(challenge)
    time_machine.forward(16 * 60)
    assert program.extends(token).status_code == 503  # it is not known whether it was paid
    work(worker)
    assert program.extends(extension).status_code == 200
    assert invoices_asked_for(node) == 2


def test_after_a_new_receipt_a_key_is_another_one(program, token, this_shop):
    """The token of the earlier order would be void once it is paid."""
    before = program.extends(token, key=KEY)
    with models.transaction():
        tokens.renew(Account.get().id)
    new = f"L402 {tokens.receipt(this_shop, Account.get())}"
    challenge = program.extends(new, key=KEY)
    assert challenge.json["invoice"] != before.json["invoice"]
    extension = program.pays(challenge)
    work(program.worker)
    assert program.extends(extension, key=KEY).status_code == 200


def test_a_suspended_hosting_comes_back_by_its_receipt(program, token, worker, time_machine):
    time_machine.forward(6 * 3600)
    accounts.suspend(Account.get().id)
    work(worker)
    assert program.looks(token).json["state"] == "suspended"
    extension = program.buys("/hosting/extend", HOUR, token)
    answer = program.extends(extension)
    assert answer.status_code == 200
    assert answer.json["left_seconds"] >= 3600
    assert answer.json["state"] != "suspended"


@dataclass
class Sale:
    """What the program knows of an extension."""

    challenge: object
    body: dict
    token: str = ""  # set once it is paid
    is_answered: bool = False


@pytest.mark.parametrize("seed", range(3))
def test_every_payment_is_answered_once_whatever_happens(
    seed, program, token, worker, this_shop, node, nobody_may_wait, time_machine
):
    """Old and new tokens, with and without keys, in any order, between the worker's steps."""
    chance = random.Random(seed)
    begins, sales, of_key = Account.get().expires_at, {}, {}

    def ask():
        body = chance.choice([HOUR, HOUR, {"duration": 2, "unit": "hours"}])
        key = chance.choice([None, None, KEY, ANOTHER_KEY])
        paid = [sale for sale in sales.values() if sale.token]
        own = chance.choice([None, None, *paid])
        answer = program.extends(own.token if own else token, body, key=key)
        keyed = of_key.get((key, body["duration"]))
        is_owed = own is not None and own.body == body and not own.is_answered
        if answer.status_code == 402:
            assert not is_owed
            order = answer.json["order"]
            assert keyed in (None, order)
            sales.setdefault(order, Sale(answer, body))
            if key:
                of_key[key, body["duration"]] = order
        elif answer.status_code == 200:
            answered = own if is_owed else sales[keyed]
            assert answered.token and answered.body == body
            answered.is_answered = True
        else:
            assert answer.status_code in (202, 429, 503) or answer.json["code"] == "changed"

    def pay():
        unpaid = [sale for sale in sales.values() if not sale.token]
        if unpaid:
            sale = chance.choice(unpaid)
            sale.token = program.pays(sale.challenge)

    def apply():
        for due in payments.due():
            payments.apply(this_shop, due.token)

    steps = [ask, ask, ask, pay, lambda: record_payments(worker), apply, lambda: work(worker)]
    for _ in range(60):
        chance.choice(steps)()
    work(worker)
    applied = [order for order in orders_of("extend") if order.applied_at]
    assert {order.token for order in applied} == {o for o, sale in sales.items() if sale.token}
    assert Account.get().expires_at == begins + sum(order.bought_seconds for order in applied)
    assert invoices_asked_for(node) == 1 + len(sales)


# -- another size ------------------------------------------------------------------------


def test_a_larger_size_is_paid_once(program, token, node):
    challenge = program.resizes(token, 1000)
    assert program.resizes(token, 1000).json["invoice"] == challenge.json["invoice"]
    larger = program.pays(challenge)
    work(program.worker)
    for credential in (larger, larger, token):
        answer = program.resizes(credential, 1000)
        assert (answer.status_code, answer.json["size"]["space_mb"]) == (200, 1000)
    assert invoices_asked_for(node) == 2


@pytest.mark.parametrize("key", [None, KEY])
def test_a_paid_size_is_given_though_its_space_was_sold(key, program, token, worker):
    challenge = program.resizes(token, 1000, key=key)
    Server.update(capacity_mb=1).execute()
    larger = program.pays(challenge)
    work(worker)
    for _ in range(2):
        answer = program.resizes(larger, 1000, key=key)
        assert (answer.status_code, answer.json["size"]["space_mb"]) == (200, 1000)


def test_a_paid_size_not_in_effect_yet_is_not_sold_again(
    program, token, worker, node, nobody_may_wait
):
    challenge = program.resizes(token, 1000)
    larger = program.pays(challenge)
    record_payments(worker)
    early = program.resizes(larger, 1000)
    assert (early.status_code, early.json["code"]) == (503, "takes_effect")
    payments.apply(worker.shop, challenge.json["order"])
    assert program.resizes(larger, 1000).status_code == 200
    assert invoices_asked_for(node) == 2


def test_one_more_address_keeps_its_invoice_until_it_is_paid(program, token, node):
    def add(number, credential=token):
        body = {"address": f"n{number}@{site}", "password": "correct horse"}
        return program.asks("/hosting/mailboxes", body, credential)

    site = program.looks(token).json["site"]
    number = 0
    while (challenge := add(number)).status_code == 201:
        number += 1
    assert add(number).json["invoice"] == challenge.json["invoice"]
    paid_for = program.pays(challenge)
    work(program.worker)
    assert add(number, paid_for).status_code == 201
    assert invoices_asked_for(node) == 2


# -- rights ------------------------------------------------------------------------------


def test_an_extensions_token_has_the_rights_of_the_one_that_asked(program, token, this_shop, node):
    account = Account.get()
    until = clock.now() + 7200
    rights = Rights(frozenset(["read", "pay"]), until)
    given = tokens.hand_out(this_shop, account.id, "a friend's", rights)
    friend = f"L402 {tokens.text_of(this_shop, given)}"
    challenge = program.extends(friend)
    extension = program.pays(challenge)
    work(program.worker)
    assert program.extends(extension).status_code == 200
    for credential in (friend, extension):
        assert program.looks(credential).status_code == 200
        headers = {"Authorization": credential}
        changed = program.client.patch("/api/v1/hosting", json={"https": True}, headers=headers)
        assert changed.status_code == 403
        assert program.client.delete("/api/v1/hosting", headers=headers).status_code == 403
    tokens.revoke(account.id, given.id)
    for credential in (friend, extension):
        assert program.looks(credential).status_code == 401
    assert program.looks(token).status_code == 200
    assert invoices_asked_for(node) == 2


def test_passwords_are_shown_only_with_all_rights(program, token, this_shop):
    password = this_shop.vault.unseal(Account.get().password_sealed)
    account = Account.get()
    assert password in program.looks(token).text
    for capabilities, until in [
        (["read"], None),
        (["read", "mail", "domains", "settings", "pay"], None),
        (["read", "mail", "domains", "settings", "pay", "close"], clock.now() + 3600),
    ]:
        rights = Rights(frozenset(capabilities), until)
        given = tokens.hand_out(this_shop, account.id, f"{len(capabilities)} {until}", rights)
        narrower = f"L402 {tokens.text_of(this_shop, given)}"
        for answer in (program.looks(narrower), program.asks(token=narrower)):
            assert answer.status_code in (200, 201)
            assert password not in answer.text


def test_a_token_that_may_read_learns_no_password_by_guessing(program, this_shop):
    wish = WISH | {"username": "alice", "password": "correct horse", "email": "a@shop.example"}
    token = program.buys(body=wish)
    rights = Rights(frozenset(["read"]), None)
    given = tokens.hand_out(this_shop, Account.get().id, "reads", rights)
    reader = f"L402 {tokens.text_of(this_shop, given)}"
    for guess in ({}, {"password": "battery staple"}, {"email": "b@shop.example"}):
        assert program.asks(body=wish | guess, token=reader).status_code == 201
        assert program.asks(body=wish | guess, token=token).status_code == (409 if guess else 201)
    for other in ({"username": "bobby"}, {"duration": 2}):
        assert program.asks(body=wish | other, token=reader).status_code == 409


def test_a_token_that_may_only_pay_sees_only_what_it_bought(program, token, this_shop):
    given = tokens.hand_out(
        this_shop, Account.get().id, "pays", Rights(frozenset(["pay", "settings"]), None)
    )
    friend = f"L402 {tokens.text_of(this_shop, given)}"
    extension = program.buys("/hosting/extend", HOUR, friend)
    headers = {"Authorization": friend}
    for answer in (
        program.extends(extension),
        program.resizes(friend, 100),
        program.client.patch("/api/v1/hosting", json={"https": True}, headers=headers),
    ):
        assert answer.status_code == 200
        assert set(answer.json) == {
            "as_of",
            "state",
            "is_ready",
            "paid_until",
            "left_seconds",
            "credit_msat",
            "size",
        }


# -- limits, before an invoice is minted ----------------------------------------------------


def assert_slows_down(answer, node, invoices: int) -> None:
    assert answer.status_code == 429, answer.text
    assert int(answer.headers["Retry-After"]) > 0
    assert answer.mimetype == "application/problem+json"
    assert "WWW-Authenticate" not in answer.headers
    assert invoices_asked_for(node) == invoices


@with_settings(ORDERS_LIMIT="2 per day")
def test_orders_of_a_network_are_limited(program, node):
    assert [program.asks().status_code for _ in range(2)] == [402, 402]
    assert_slows_down(program.asks(), node, 2)
    assert_slows_down(program.asks(body={}), node, 2)
    assert program.asks(address="192.0.2.2").status_code == 402
    order = orders_of("open")[0].token
    paths = ["/api/v1/prices", "/api/v1/openapi.json", "/", f"/orders/{order}/status"]
    for path in paths * 3:
        peer = {"REMOTE_ADDR": "192.0.2.1"}
        assert program.client.get(path, environ_base=peer).status_code == 200


@with_settings(ORDERS_LIMIT="2 per day")
def test_reading_refused_requests_and_redeeming_are_not_limited(program, node):
    token = program.buys()
    for _ in range(4):
        assert program.asks(token=token).status_code == 201
        assert program.asks(body={}).status_code == 400
        assert program.extends("").status_code == 401
        assert program.looks(token).status_code == 200
    for _ in range(2):
        extension = program.buys("/hosting/extend", HOUR, token)
    assert_slows_down(program.extends(token), node, 3)
    assert program.looks(extension).status_code == 200


def flood(program, token, addresses):
    nobody = f"L402 {token.partition(' ')[2][:200]}:{'0' * 64}"
    for address in addresses:
        program.asks(address=address)
        for headers in ({}, {"Authorization": nobody}):
            peer = {"REMOTE_ADDR": address}
            program.client.patch("/api/v1/hosting", json={}, headers=headers, environ_base=peer)


def assert_goes_on(program, token):
    extension = program.buys("/hosting/extend", HOUR, token)
    assert program.extends(extension).status_code == 200
    assert program.asks(token=token).status_code == 201
    headers, peer = {"Authorization": extension}, {"REMOTE_ADDR": "192.0.2.1"}
    answer = program.client.patch("/api/v1/hosting", json={}, headers=headers, environ_base=peer)
    assert answer.status_code == 200


@with_settings(ORDERS_LIMIT_OVERALL="3 per day", CHANGES_LIMIT_OVERALL="3 per day")
def test_a_flood_of_strangers_keeps_nobody_from_extending(program, token, node):
    flood(program, token, ["192.0.2.2", "192.0.2.3"] * 2)
    assert_slows_down(program.asks(address="192.0.2.2"), node, 3)
    assert program.asks(address="192.0.2.9").status_code == 402
    assert_goes_on(program, token)


@with_settings(ORDERS_LIMIT="3 per day", CHANGES_LIMIT="3 per day")
def test_a_flood_from_the_same_address_keeps_nobody_from_extending(program, token, node):
    flood(program, token, ["192.0.2.1"] * 5)
    assert_slows_down(program.asks(), node, 3)
    assert_goes_on(program, token)


@with_settings(UNPAID_PER_CLIENT="2")
def test_unpaid_names_of_a_network_are_limited(program, node):
    bodies = [WISH | {"username": f"alice{n}"} for n in range(3)]
    assert [program.asks(body=body).status_code for body in bodies[:2]] == [402, 402]
    refused = program.asks(body=bodies[2])
    assert refused.json["code"] == "too_many_unpaid"
    assert_slows_down(refused, node, 2)
    assert program.asks().json["sale"]["name_is_held"] is True
    other = program.asks(body=bodies[2], address="2001:db8::1")
    assert other.json["sale"]["name_is_held"] is True


def test_an_unpaid_name_is_held_once(program, this_shop):
    body = WISH | {"username": "alice"}
    first = program.asks(body=body)
    invoices.cancel(this_shop, Order.get_by_id(first.json["order"]))
    assert program.asks(body=body).json["sale"]["name_is_held"] is False


def test_unpaid_orders_of_a_hosting_are_limited(program, token, node):
    for hours in range(1, orders.OPEN_ORDERS + 1):
        challenge = program.extends(token, {"duration": hours, "unit": "hours"})
        assert challenge.status_code == 402
    refused = program.extends(token, {"duration": 23, "unit": "hours"})
    assert_slows_down(refused, node, 1 + orders.OPEN_ORDERS)
    # An earlier order can still be paid.
    assert program.extends(token, {"duration": 3, "unit": "hours"}).status_code == 402


def test_as_many_programs_buy_at_once_as_there_are_threads(app, program, node):
    node.faults.set("slow", "invoice", seconds=0.03)  # like a real node
    answers = at_once(*(program.twin(app).asks for _ in range(8)))
    assert {answer.status_code for answer in answers} == {402}


def test_a_node_that_is_down_costs_nothing_and_holds_nothing(program, token, node):
    node.down()
    for answer in (program.asks(), program.extends(token), program.resizes(token, 1000)):
        assert (answer.status_code, answer.json["code"]) == (503, "node_down")
        assert answer.headers["Retry-After"]
    assert program.looks(token).status_code == 200
    node.up()
    assert program.extends(token).status_code == 402


def test_a_fault_of_the_database_is_told_to_programs_as_well(own_app):
    @own_app.get("/api/v1/fault")
    def fault():
        raise OperationalError("the server closed the connection")

    answer = own_app.test_client().get("/api/v1/fault")
    assert (answer.status_code, answer.json["code"]) == (503, "service_unavailable")
    assert int(answer.headers["Retry-After"]) > 0
    assert "closed the connection" not in answer.text
