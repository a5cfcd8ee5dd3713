"""Refunds: who may claim one, what the operator decides, and that each is paid once."""

import hashlib
import secrets
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from pyln.client import LightningRpc

from lightningspace.base import clock, models
from lightningspace.base.models import Account, Order
from lightningspace.base.money_models import Refund
from lightningspace.operator import problems
from lightningspace.outside.lnurl_pay import NoInvoice
from lightningspace.outside.node import NodeError
from lightningspace.outside.paying import PayingNode
from lightningspace.rules import (
    accounts,
    order_book,
    orders,
    payments,
    payouts,
    rebuilding,
    refunds,
    restored,
    tokens,
    vouchers,
)
from lightningspace.rules.order_book import OrderKind
from lightningspace.rules.orders import Buyer
from lightningspace.rules.refunds import CannotOffer, NotClaimed, NotProved, Problem, State, TooLate
from tests.conftest import eventually, record_payments, with_settings

MSAT = 21_000


@pytest.fixture
def rpc(node, tmp_path):
    """The shop's node, as its operator calls it."""
    return LightningRpc(str(tmp_path / "lightning-rpc"))


@pytest.fixture
def lose(this_shop, rpc, wallet, worker):
    """Make a lost payment, without an order; return its row, the invoice and the preimage."""

    def lose(msat=MSAT):
        made = rpc.invoice(msat, this_shop.config.label_prefix + secrets.token_hex(16), "x", 900)
        preimage = bytes.fromhex(wallet.pay(made["bolt11"])["payment_preimage"])
        record_payments(worker)
        return Order.get(Order.payment_hash == made["payment_hash"]), made["bolt11"], preimage

    return lose


@pytest.fixture
def lost(lose):
    return lose()[0]


@pytest.fixture
def asked_by(wallet):
    """An invoice of the payer's wallet."""
    label = secrets.token_hex
    return lambda msat=MSAT, expiry=3600: wallet.invoice(msat, label(4), "x", expiry)["bolt11"]


def state_of(order) -> State:
    return refunds.state(refunds.latest(order))


def received(wallet) -> int:
    """The msat that the payer's wallet has received."""
    paid = [each for each in wallet.listinvoices()["invoices"] if each["status"] == "paid"]
    return sum(each["amount_received_msat"] for each in paid)


def later(seconds: float) -> None:
    moment = clock.now() + seconds
    clock.set_source(lambda: moment)


def long_after() -> None:
    """Move the time to when an invoice of two hours has expired by any clock."""
    later(3 * 3600)


# -- proving a payment -----------------------------------------------------------------


def test_a_lost_payment_is_claimed_approved_and_paid_once(this_shop, lose, asked_by, wallet):
    order, invoice, preimage = lose()
    assert any(order.payment_hash in line.text for line in problems.found(this_shop))
    assert refunds.paid_with(this_shop, f"Lightning:{invoice.upper()}", preimage) == order
    refund = refunds.claim(this_shop, order, asked_by())
    payouts.pay_due(this_shop)
    assert (refunds.state(refund), received(wallet)) == (State.CLAIMED, 0)
    assert [line for line in problems.found(this_shop) if refund.id in line.text]
    assert not any(order.payment_hash in line.text for line in problems.found(this_shop))

    assert refunds.approve(refund.id)
    for _ in range(3):
        payouts.pay_due(this_shop)
    paid = Refund.get()
    assert (refunds.state(paid), received(wallet)) == (State.PAID, MSAT)
    assert (paid.fee_msat, paid.destination) == (0, None)
    assert problems.found(this_shop) == []
    assert refunds.paid_back(paid.paid_at, paid.paid_at + 1) == [paid]
    assert refunds.paid_back(0, paid.paid_at) == []
    with pytest.raises(TooLate):
        refunds.claim(this_shop, order, asked_by())
    assert not refunds.approve(refund.id) and not refunds.refuse(refund.id, "no")


def test_what_routing_nodes_know_proves_nothing(this_shop, lose, asked_by):
    order, invoice, preimage = lose()
    other = lose()
    for text, proof in (
        (asked_by(), preimage),
        ("", preimage),
        (order.payment_hash, preimage),
        (other[1], preimage),
        (invoice, other[2]),
        (invoice, b"\0" * 32),
        ("lnbc1" * 20_000, preimage),
    ):
        with pytest.raises(NotProved):
            refunds.paid_with(this_shop, text, proof)


def test_the_credential_of_a_payment_proves_it_unless_it_was_narrowed_or_replaced(
    this_shop, order, wallet, worker
):
    order = Order.get_by_id(order.token)
    preimage = bytes.fromhex(wallet.pay(order.bolt11)["payment_preimage"])
    key = tokens.challenge(this_shop, order)
    with pytest.raises(NotProved):  # it has not been recorded yet
        refunds.paid_for(this_shop, key, preimage)
    record_payments(worker)
    payments.apply(this_shop, order.token)
    assert refunds.paid_for(this_shop, key, preimage).token == order.token
    with pytest.raises(NotProved):
        refunds.paid_for(this_shop, key.narrowed("lightning-space_capabilities=read"), preimage)
    with pytest.raises(NotProved):
        refunds.paid_for(this_shop, key, b"\0" * 32)
    with models.transaction():
        tokens.renew(Account.get().id)
    with pytest.raises(NotProved):
        refunds.paid_for(this_shop, key, preimage)


# -- claiming --------------------------------------------------------------------------


def test_only_exactly_the_refund_is_paid_and_not_to_the_shop_itself(
    this_shop, lost, rpc, wallet, asked_by, subtests
):
    ours, used = rpc.invoice(MSAT, "another program's", "x", 900)["bolt11"], asked_by()
    this_shop.node.pay(used, MSAT)
    offers = {
        name: each["bolt12"]
        for name, each in (
            ("fixed", wallet.offer(MSAT + 1, "mine")),
            ("ours", rpc.offer("any", "ours")),
        )
    }
    cases = {
        "": Problem.UNREADABLE,
        "hello": Problem.UNREADABLE,
        "\x00": Problem.UNREADABLE,
        "a@b": Problem.UNREADABLE,
        "alice@127.0.0.1": Problem.UNREADABLE,
        "@" * 10_000_000: Problem.UNREADABLE,
        "lno1" + "q" * 3000: Problem.UNREADABLE,
        asked_by().replace("lnbcrt", "lnbc"): Problem.UNREADABLE,
        asked_by(MSAT + 1): Problem.AMOUNT,
        asked_by(MSAT - 1): Problem.AMOUNT,
        asked_by("any"): Problem.AMOUNT,
        offers["fixed"]: Problem.AMOUNT,
        asked_by(expiry=refunds.LEFT_SECONDS - 5): Problem.EXPIRED,
        ours: Problem.OURS,
        offers["ours"]: Problem.OURS,
        used: Problem.USED,
    }  # fmt: skip
    for typed, problem in cases.items():
        with subtests.test(str(problem), typed=typed[:20]):
            with pytest.raises(NotClaimed) as refused:
                refunds.claim(this_shop, lost, typed)
            assert refused.value.text == refunds.IN_WORDS[problem]
    assert Refund.select().count() == 0


def test_a_payment_is_either_claimed_or_rebuilt(this_shop, lost, asked_by):
    restored.begin()
    with pytest.raises(restored.Restoring):
        refunds.claim(this_shop, lost, asked_by())
    restored.end()
    assert Order.select().where(payments.is_still_lost(lost)).exists()
    refunds.claim(this_shop, lost, asked_by())
    assert not Order.update(kind="open").where(payments.is_still_lost(lost)).execute()
    assert payments.lost() == []


@pytest.mark.each_database
def test_a_payment_being_claimed_is_not_rebuilt_too(this_shop, lose, database_kind):
    lost, invoice, _ = lose()
    paid = this_shop.node.find_paid(lost.payment_hash)
    paid = replace(paid, description="Web hosting: open 100 MB 3 months 00000000", bolt11=invoice)

    def becomes() -> bool:
        try:
            return rebuilding._becomes(lost, paid, OrderKind.OPEN)
        finally:
            models.db.close()

    with ThreadPoolExecutor(1) as pool:
        with models.transaction():
            refunds._make(refunds._locked(lost), MSAT, destination="lno1", claimed_at=1)
            rebuilt = pool.submit(becomes)
            if database_kind == "postgresql":
                blocked = "SELECT 1 FROM pg_locks WHERE NOT granted"
                eventually(lambda: models.db.execute_sql(blocked).fetchone())
        assert not rebuilt.result()
    assert Order.get().kind == OrderKind.LOST


def test_of_two_simultaneous_claims_one_counts(this_shop, lost, asked_by):
    def claim(_) -> bool:
        try:
            refunds._claim_first(this_shop, lost, {"destination": "lno1", "claimed_at": 1})
        except TooLate:
            return False
        finally:
            models.db.close()
        return True

    with ThreadPoolExecutor() as pool:
        assert sorted(pool.map(claim, range(4))) == [False, False, False, True]
    assert Refund.select().count() == 1


def test_the_destination_may_change_until_the_approval(this_shop, lost, asked_by):
    first = refunds.claim(this_shop, lost, asked_by())
    second = refunds.claim(this_shop, lost, " LIGHTNING:Alice@Wallet.Example ")
    assert (second.id, second.destination) == (first.id, "alice@wallet.example")
    refunds.approve(first.id)
    with pytest.raises(TooLate):
        refunds.claim(this_shop, lost, asked_by())


@with_settings(REFUND_AUTO_MSAT=str(MSAT))
def test_small_refunds_are_paid_without_asking(this_shop, lose, asked_by, wallet):
    small, large = lose(MSAT)[0], lose(MSAT + 1)[0]
    offer = wallet.offer("any", "mine")["bolt12"]
    for order in (small, large):
        refunds.claim(this_shop, order, offer)
    payouts.pay_due(this_shop)
    assert (state_of(small), state_of(large)) == (State.PAID, State.CLAIMED)
    assert received(wallet) == MSAT


def test_a_refused_refund_can_be_offered_again_by_the_operator_alone(this_shop, lost, asked_by):
    refund = refunds.claim(this_shop, lost, asked_by())
    assert refunds.refuse(refund.id, "It was never yours.")
    assert (state_of(lost), refunds.latest(lost).destination) == (State.REFUSED, None)
    with pytest.raises(TooLate):
        refunds.claim(this_shop, lost, asked_by())
    refunds.offer(lost.payment_hash)
    assert refunds.state(refunds.claim(this_shop, lost, asked_by())) == State.DUE


# -- what is offered -------------------------------------------------------------------


def test_offers_never_exceed_what_is_left_of_the_payment(this_shop, lost, asked_by, wallet):
    for wrong in (0, -1, MSAT + 1, 10**30):
        with pytest.raises(CannotOffer):
            refunds.offer(lost.token, wrong)
    with pytest.raises(CannotOffer):
        refunds.offer("f" * 64)
    refunds.offer(lost.token, 1000)
    with pytest.raises(CannotOffer):  # one at a time
        refunds.offer(lost.token, 1000)
    refunds.claim(this_shop, lost, asked_by(1000))
    payouts.pay_due(this_shop)
    with pytest.raises(CannotOffer):
        refunds.offer(lost.token, MSAT - 999)
    assert refunds.offer(lost.token).msat == MSAT - 1000


@pytest.fixture
def account(this_shop, order, wallet, worker):
    """An account that was bought and is ready, in the database alone."""
    wallet.pay(order.bolt11)
    record_payments(worker)
    payments.apply(this_shop, order.token)
    Account.update(ready_at=Account.opened_at).execute()
    return Account.get()


def test_closing_a_hosting_offers_what_is_left_of_it(this_shop, account):
    with pytest.raises(CannotOffer):
        refunds.close_account(this_shop, account)
    accounts.block(account.id, "It sent spam.")
    account = Account.get()
    later((account.expires_at - clock.now()) / 2)
    received_msat = Order.get().received_msat
    refund = refunds.close_account(this_shop, account)
    assert refund.msat == pytest.approx(received_msat / 2, rel=0.01)
    assert Account.get().closing_at
    with pytest.raises(CannotOffer):
        refunds.close_account(this_shop, Account.get())


def test_payments_by_voucher_are_not_paid_back(this_shop, account, lost):
    accounts.block(account.id, "It sent spam.")
    by_voucher = {"node_id": order_book.BY_VOUCHER, "pay_index": 0}
    Order.update(by_voucher).where(Order.account == account.id).execute()
    with pytest.raises(CannotOffer):
        refunds.offer(Order.get(Order.account == account.id).token)
    with pytest.raises(CannotOffer):
        refunds.close_account(this_shop, Account.get())
    extended = {
        "account": account,
        "applied_at": clock.now() + 1,
        "bought_seconds": 0,
        "ends_at": 1,
    }
    Order.update(extended).where(Order.token == lost.token).execute()
    assert refunds.close_account(this_shop, Account.get()).msat == MSAT


def test_a_vouchers_time_is_not_paid_back_from_spent_money(this_shop, account, wallet, worker):
    paid_msat = Order.get().received_msat
    later((account.expires_at - clock.now()) * 0.9)
    more = orders.extend(this_shop, account.id, 3, "months", Buyer(None, "a form"))
    vouchers.pay(this_shop, more, vouchers.make(10_000, 90))
    payments.apply(this_shop, more.token)
    accounts.block(account.id, "It sent spam.")
    refund = refunds.close_account(this_shop, Account.get())
    assert refund.msat == pytest.approx(paid_msat / 10, rel=0.01)


def test_a_hosting_without_value_is_not_closed_for_a_refund(this_shop, account):
    accounts.block(account.id, "It sent spam.")
    later(account.expires_at - clock.now() + 1)
    with pytest.raises(CannotOffer):
        refunds.close_account(this_shop, Account.get())
    assert Account.get().closing_at is None


# -- paying ----------------------------------------------------------------------------


@pytest.fixture
def due(this_shop, lost, asked_by):
    refunds.offer(lost.token)
    return refunds.claim(this_shop, lost, asked_by())


def test_an_address_or_offer_is_tried_again_each_hour_for_a_week(
    this_shop, lose, node, wallet, asked_by
):
    by_offer, by_invoice = lose()[0], lose()[0]
    node.faults.set("refuse", "xpay")
    for order, to in ((by_offer, wallet.offer("any", "mine")["bolt12"]), (by_invoice, asked_by())):
        refunds.offer(order.token)
        refunds.claim(this_shop, order, to)
    payouts.pay_due(this_shop)
    assert (state_of(by_offer), state_of(by_invoice)) == (State.FAILED, State.FAILED)
    assert len(payouts.problems()) == 1
    node.faults.clear()
    payouts.pay_due(this_shop)
    assert received(wallet) == 0
    later(3601)
    payouts.pay_due(this_shop)
    assert (state_of(by_offer), state_of(by_invoice)) == (State.PAID, State.FAILED)
    Refund.update(paid_at=None, preimage=None, sent_at=None, problem="failed").where(
        Refund.order == by_offer.token
    ).execute()
    later(refunds.AGAIN_SECONDS)
    assert not any(map(refunds.is_tried_again, refunds.waiting()))


class Host:
    """The host of a Lightning Address, which gives this invoice, or none."""

    def __init__(self, invoice: str | None):
        self._invoice = invoice

    def invoice(self, address: str, msat: int) -> tuple[str, str]:
        if self._invoice is None:
            raise NoInvoice("does not answer")
        return self._invoice, hashlib.sha256(b"[]").hexdigest()


def test_an_address_is_paid_exactly_the_refund(this_shop, lose, rpc, wallet, asked_by, subtests):
    def of(text: str) -> str:
        hashed = {"label": secrets.token_hex(4), "description": text, "deschashonly": True}
        return wallet.call("invoice", {"amount_msat": MSAT, **hashed})["bolt11"]

    cases = {
        None: Problem.UNREACHABLE,
        "hello": Problem.UNREACHABLE,
        of("[1]"): Problem.UNREACHABLE,
        asked_by(MSAT + 1): Problem.AMOUNT,
        asked_by("any"): Problem.AMOUNT,
        asked_by(expiry=10): Problem.EXPIRED,
        rpc.invoice(MSAT, "ours", "x", 900)["bolt11"]: Problem.OURS,
        of("[]"): None,
    }
    for invoice, problem in cases.items():
        with subtests.test(str(problem)):
            order = lose()[0]
            refunds.offer(order.token)
            refunds.claim(this_shop, order, "alice@wallet.example")
            payouts.pay_due(replace(this_shop, payees=Host(invoice)))
            assert refunds.latest(order).problem == problem
            assert received(wallet) == (0 if problem else MSAT)
            if problem:
                refunds.refuse(refunds.latest(order).id, "no")


def hash_of(this_shop, refund) -> str:
    return this_shop.node.read(refund.destination).payment_hash


def test_a_refund_is_paid_once_whatever_the_node_answers(
    this_shop, lose, node, wallet, asked_by, subtests
):
    """Each fault while paying: the state at once, what happens later, and the state after that."""
    cases = {
        # The connection was cut after the node had paid, or before, or the node refused.
        "cut-after": (State.PAID, None, State.PAID),
        "cut-before": (State.PAYING, None, State.CLAIMED),
        "refuse": (State.FAILED, None, State.FAILED),
        # The node said that it failed, but a part was held for days, and arrived or came back.
        "hold": (State.PAYING, None, State.PAYING),
        "hold, arrives": (State.PAYING, True, State.PAID),
        "hold, comes back": (State.PAYING, False, State.FAILED),
    }
    for fault, (at_once, arrives, then) in cases.items():
        with subtests.test(fault):
            clock.set_source(None)
            order, before = lose()[0], received(wallet)
            refunds.offer(order.token)
            refund = refunds.claim(this_shop, order, asked_by())
            payment_hash = hash_of(this_shop, refund)
            node.holds_payments = fault.startswith("hold")
            if not node.holds_payments:
                node.faults.set(fault, "xpay", times=1)
            try:
                payouts.pay_due(this_shop)
            except NodeError:
                assert fault.startswith("cut")
            payouts.pay_due(this_shop)
            assert state_of(order) == at_once
            if at_once == State.PAYING:
                with pytest.raises(TooLate):
                    refunds.claim(this_shop, order, asked_by())
                assert not refunds.approve(refund.id) and not refunds.refuse(refund.id, "no")
            node.holds_payments = False
            if arrives is not None:
                node.end_held(payment_hash, arrives)
            long_after()
            for _ in range(3):
                payouts.pay_due(this_shop)
            assert state_of(order) == then
            assert received(wallet) - before == (MSAT if then == State.PAID else 0)
            payouts.problems()
            if then == State.PAYING:
                node.end_held(payment_hash)
                payouts.pay_due(this_shop)
            if then in (State.FAILED, State.CLAIMED):  # the same money, by another invoice
                refunds.claim(this_shop, order, asked_by())
                refunds.approve(refund.id)
                payouts.pay_due(this_shop)
            assert (state_of(order), received(wallet) - before) == (State.PAID, MSAT)


def test_no_payment_is_under_way_if_the_node_was_down(this_shop, due, node, wallet, lost):
    node.down()
    for _ in range(2):
        with pytest.raises(NodeError):
            payouts.pay_due(this_shop)
    assert state_of(lost) == State.DUE
    node.up()
    payouts.pay_due(this_shop)
    assert (state_of(lost), received(wallet)) == (State.PAID, MSAT)


def test_a_node_restored_since_it_paid_is_not_told_to_pay_again(
    this_shop, due, node, wallet, lost, asked_by
):
    copy = node.copied()
    node.faults.set("cut-after", "xpay", times=1)
    with pytest.raises(NodeError):
        payouts.pay_due(this_shop)
    node.restore(copy)
    payouts.pay_due(this_shop)
    assert state_of(lost) == State.PAYING
    long_after()
    for _ in range(3):
        payouts.pay_due(this_shop)
    assert (state_of(lost), Refund.get().problem) == (State.CLAIMED, Problem.UNKNOWN)
    # The operator still sees it if the destination changes.
    assert refunds.claim(this_shop, lost, asked_by()).problem == Problem.UNKNOWN
    payouts.pay_due(this_shop)
    assert received(wallet) == MSAT
    assert any("restored" in line for line in payouts.problems())


def test_a_database_restored_since_it_was_paid_pays_nothing_again(this_shop, lose, node, wallet):
    """For the same refund, another one of the same payment, and while its payment is held."""
    offer = wallet.offer("any", "mine")["bolt12"]
    same, other, held = (lose()[0] for _ in range(3))
    for order in (same, other, held):
        refunds.offer(order.token)
    before = list(Refund.select().where(Refund.order << [same, held]).dicts())
    for order in (same, other):
        refunds.claim(this_shop, order, offer)
    payouts.pay_due(this_shop)
    node.holds_payments = True
    refunds.claim(this_shop, held, offer)
    payouts.pay_due(this_shop)
    node.holds_payments = False
    assert received(wallet) == 2 * MSAT

    later(60)
    Refund.delete().execute()
    Refund.insert_many(before).execute()
    refunds.offer(other.token, 1000)
    for order in (same, other, held):
        refunds.claim(this_shop, order, offer)
    for _ in range(3):
        payouts.pay_due(this_shop)
    stand = [state_of(each) for each in (same, other, held)]
    assert stand == [State.PAID, State.REFUSED, State.PAYING]
    assert sorted(each.msat for each in refunds.paid_back(0, clock.now() + 1)) == [MSAT, MSAT]
    with pytest.raises(CannotOffer):
        refunds.offer(other.token)
    node.end_held(refunds.latest(held).payment_hash)
    payouts.pay_due(this_shop)
    assert (state_of(held), received(wallet)) == (State.PAID, 3 * MSAT)


def test_a_refund_offered_again_after_a_restore_waits_for_the_operator(this_shop, lost, wallet):
    """After a second `refund close`, which the received amount would still cover."""
    offer = wallet.offer("any", "mine")["bolt12"]
    for _ in range(2):
        Refund.delete().execute()
        refunds.offer(lost.token, 1000)
        refunds.claim(this_shop, lost, offer)
        payouts.pay_due(this_shop)
    assert (state_of(lost), received(wallet)) == (State.CLAIMED, 1000)
    payouts.pay_due(this_shop)
    assert received(wallet) == 1000
    [line] = payouts.problems()
    assert "waits for your word" in line
    assert refunds.left_msat(lost) == MSAT - 2000
    refunds.approve(refunds.latest(lost).id)
    payouts.pay_due(this_shop)
    assert (state_of(lost), received(wallet)) == (State.PAID, 2000)


class Forgetful(PayingNode):
    """A node that says "paid", and then does not know the payment."""

    def sent(self, payment_hash):
        return None


def test_a_node_that_contradicts_itself_is_not_told_to_pay_again(this_shop, due, lost, wallet):
    node = Forgetful(this_shop.config.lightning_rpc, seconds=3)
    for _ in range(3):
        payouts.pay_due(replace(this_shop, node=node))
    assert (state_of(lost), received(wallet)) == (State.PAYING, MSAT)
    payouts.pay_due(this_shop)
    assert (state_of(lost), received(wallet)) == (State.PAID, MSAT)


class Killed(BaseException):
    """Ends the program like kill -9: it goes no further, and uncommitted changes are undone."""


class KilledAtCall(PayingNode):
    """The worker's client of the node: the worker is killed before or after this call."""

    def __init__(self, path, number, is_done):
        super().__init__(path, seconds=3)
        self._left, self._is_done = number, is_done

    def _call(self, method, time_limit=None, **params):
        self._left -= 1
        if self._left == 0 and not self._is_done:
            raise Killed
        answer = super()._call(method, time_limit, **params)
        if self._left == 0:
            raise Killed
        return answer


def test_a_worker_killed_at_any_call_to_the_node_pays_once(this_shop, lose, node, wallet, subtests):
    offer = wallet.offer("any", "mine")["bolt12"]

    def calls_while_paid(shop) -> list[str]:
        before = len(node.calls)
        payouts.pay_due(shop)
        return [method for method, _ in node.calls[before:]]

    def begin():
        order = lose()[0]
        refunds.offer(order.token)
        refunds.claim(this_shop, order, offer)
        return order

    begin()
    calls = calls_while_paid(this_shop)
    found = ["listdatastore", "fetchinvoice", "decode", "getinfo", "listpays"]
    assert calls == [*found, "datastore", "xpay", "listpays"]
    for number, method in enumerate(calls, 1):
        for is_done in (False, True):
            with subtests.test(method, number=number, is_done=is_done):
                clock.set_source(None)
                before, order = received(wallet), begin()
                dying = KilledAtCall(this_shop.config.lightning_rpc, number, is_done)
                with pytest.raises(Killed):
                    payouts.pay_due(replace(this_shop, node=dying))
                payouts.pay_due(this_shop)
                if (method, is_done) == ("xpay", False):  # the node may be told yet
                    assert state_of(order) == State.PAYING
                    long_after()
                    payouts.pay_due(this_shop)
                    assert state_of(order) == State.CLAIMED
                    refunds.approve(refunds.latest(order).id)
                    payouts.pay_due(this_shop)
                assert (state_of(order), received(wallet) - before) == (State.PAID, MSAT)


@pytest.mark.each_database
def test_simultaneous_workers_pay_each_refund_once(this_shop, lose, wallet):
    offer = wallet.offer("any", "mine")["bolt12"]
    for _ in range(3):
        order = lose()[0]
        refunds.offer(order.token)
        refunds.claim(this_shop, order, offer)

    def look(_) -> None:
        try:
            payouts.pay_due(this_shop)
        except NodeError:
            pass  # the node takes only so many calls at once
        finally:
            models.db.close()

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(look, range(16)))
    payouts.pay_due(this_shop)
    assert (len(refunds.waiting()), received(wallet)) == (0, 3 * MSAT)


class Hasty(PayingNode):
    """A client that does not wait for payments."""

    def _call(self, method, time_limit=None, **params):
        return super()._call(method, 0.2 if method == "xpay" else time_limit, **params)


def test_a_call_that_the_node_reads_late_pays_once(this_shop, due, node, wallet, lost):
    """A frozen node carries out what was sent to it once it wakes."""
    node.faults.set("late", "xpay", times=1)
    hasty = Hasty(this_shop.config.lightning_rpc, seconds=3)
    with pytest.raises(NodeError):
        payouts.pay_due(replace(this_shop, node=hasty))
    assert state_of(lost) == State.PAYING
    node.faults.clear()
    eventually(lambda: received(wallet))
    payouts.pay_due(this_shop)
    assert (state_of(lost), received(wallet)) == (State.PAID, MSAT)


def test_an_earlier_failure_of_the_same_invoice_does_not_count(
    this_shop, lost, asked_by, node, wallet
):
    """Until the node has read the call, all that it knows is the attempt before."""
    refunds.offer(lost.token)
    refund = refunds.claim(this_shop, lost, asked_by(expiry=24 * 3600))
    node.holds_payments = True
    payouts.pay_due(this_shop)
    node.end_held(hash_of(this_shop, refund), arrives=False)
    node.holds_payments = False
    later(3600)
    payouts.pay_due(this_shop)
    assert state_of(lost) == State.FAILED
    refunds.approve(refund.id)
    node.faults.set("late", "xpay", times=1)
    hasty = Hasty(this_shop.config.lightning_rpc, seconds=3)
    with pytest.raises(NodeError):
        payouts.pay_due(replace(this_shop, node=hasty))
    payouts.pay_due(this_shop)
    assert state_of(lost) == State.PAYING
    with pytest.raises(TooLate):
        refunds.claim(this_shop, lost, asked_by())
    node.faults.clear()
    eventually(lambda: received(wallet))
    payouts.pay_due(this_shop)
    assert (state_of(lost), received(wallet)) == (State.PAID, MSAT)
