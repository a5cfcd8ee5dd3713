"""BOLT 12 offers: one for each account, active while it takes tips, and payments to them."""

import pytest
from pyln.client import LightningRpc

from lightningspace.base import clock
from lightningspace.base.models import Account, Fact, Offer, Order, transaction
from lightningspace.base.prices import DAY
from lightningspace.outside.node import NodeError
from lightningspace.panel import reconcile
from lightningspace.rules import accounts, calendar, clock_watch, invoices, offers, payments, tips
from tests.conftest import at_once, eventually, log_in, open_account, record_payments, work

SAT = 1000
RATE = 7000


@pytest.fixture(autouse=True)
def clock_stands(time_machine):
    time_machine.moment = 1_800_000_000


@pytest.fixture
def offer(this_shop, alice) -> str:
    made = tips.offer(this_shop, alice)
    offers.match(this_shop)
    return made


def fresh(row):
    return type(row).get_by_id(row._pk)


def pay(wallet, bolt12, msat=1000 * SAT, note=None):
    fetched = wallet.call(
        "fetchinvoice",
        {"offer": bolt12, "amount_msat": msat} | ({"payer_note": note} if note else {}),
    )
    return wallet.pay(fetched["invoice"])


def recheck_all() -> None:
    """Make all offers due, as after a restore of the node."""
    with transaction():
        offers.recheck_all()


def is_on(node) -> bool:
    [shown] = node_offers(node)
    return shown["active"]


def node_offers(node):
    return LightningRpc(str(node._node.path)).call("listoffers")["offers"]


def test_an_account_has_one_offer_made_when_it_is_asked_for(this_shop, alice, node):
    assert node_offers(node) == []
    made = tips.offer(this_shop, alice)
    assert made.startswith("lno1")
    assert tips.offer(this_shop, alice) == made
    assert [each["label"] for each in node_offers(node)] == [f"lightning-space-tips-{alice.id}"]


@pytest.mark.each_database
def test_simultaneous_requests_get_the_same_offer(this_shop, alice, node):
    first, second = at_once(*[lambda: tips.offer(this_shop, alice)] * 2)
    assert first == second
    assert [each["bolt12"] for each in node_offers(node) if each["active"]] == [first]


@pytest.mark.each_database
def test_a_payment_to_an_offer_is_a_tip_with_the_payers_note(
    this_shop, alice, offer, wallet, worker
):
    pay(wallet, offer, 1000 * SAT, "räksmörgås ⚡\n")
    work(worker)
    [order] = tips.received(alice.id)
    assert (order.kind, order.door, order.message) == ("topup", "offer", "räksmörgås ⚡")
    assert order.offer_id == offers.of(alice.id).id
    assert fresh(alice).expires_at == alice.expires_at + 1000 * SAT * DAY // RATE


def test_a_note_is_kept_as_it_was_typed(alice, offer, wallet, worker, subtests):
    for sent, typed in [
        (r"say \"hi\",\tand \u26a1 \ud83d\ude00", 'say "hi", and ⚡ 😀'),
        (r"a typed \\n and \\\"", r"a typed \n and \""),
        (r"\o/", r"\o/"),
        (r'she said "hi\"', r'she said "hi\"'),
        ("two\nlines, one \\n", "two lines, one \\n"),
        ("\\", "\\"),
        (r"half \ud83d", "half"),
    ]:
        with subtests.test(typed):
            pay(wallet, offer, 1000 * SAT, sent)
            record_payments(worker)
            assert Order.get().message == typed
        Order.delete().execute()


def test_an_offer_can_be_paid_again_and_each_payment_counts_once(
    this_shop, alice, offer, wallet, worker, node
):
    for _ in range(2):
        pay(wallet, offer, 7 * SAT)
    record_payments(worker)
    payments.follow_from_start(payments.cursor(node.id))
    work(worker)
    assert len(tips.received(alice.id)) == 2
    assert fresh(alice).expires_at == alice.expires_at + 2 * DAY


@pytest.mark.each_database
def test_two_watchers_record_a_payment_once(this_shop, alice, offer, wallet, node):
    pay(wallet, offer)
    payment = this_shop.node.wait_for_payment(0, 0)
    at_once(*[lambda: _recorded(this_shop, node, payment)] * 3)
    assert len(tips.received(alice.id)) == 1


def _recorded(shop, node, payment):
    try:
        return payments.record(shop, node.id, payment, 0)
    except Exception as error:  # the second violates the unique payment hash, and looks again
        return error


def test_the_offer_of_another_program_only_moves_the_cursor(this_shop, alice, wallet, worker, node):
    foreign = LightningRpc(str(node._node.path)).call(
        "offer", {"amount": "any", "description": "cake", "label": "bakery"}
    )
    pay(wallet, foreign["bolt12"])
    record_payments(worker)
    assert payments.cursor(node.id).pay_index == 1
    assert Order.select().count() == 0


def test_a_restored_database_finds_the_account_of_an_offer(this_shop, alice, offer, wallet, worker):
    Offer.delete().execute()
    pay(wallet, offer, 7 * SAT)
    work(worker)
    assert fresh(alice).expires_at == alice.expires_at + DAY


def test_a_payment_to_a_closed_hostings_offer_goes_to_the_operator(
    this_shop, alice, offer, wallet, worker, node, runner
):
    accounts.close(alice.id)
    reconcile.account(this_shop, alice.id)
    pay(wallet, offer)  # the node has not been told yet
    work(worker)
    lost = Order.get()
    assert (lost.kind, lost.received_msat, lost.account_id) == ("lost", 1000 * SAT, None)
    assert "no order waits for it" in runner.invoke(args=["problems"]).output
    offers.match(this_shop)
    assert not is_on(node)


def test_an_offer_unknown_to_a_restored_database_ends_with_its_hosting(
    this_shop, alice, offer, wallet, worker, node
):
    Offer.delete().execute()
    pay(wallet, offer, 7 * SAT)
    work(worker)
    assert accounts.close_account(this_shop, fresh(alice))
    assert not is_on(node)


@pytest.mark.parametrize("end", ["", "1", "tips-0123456789abcdef", "0123456789ABCDEF"])
def test_a_label_that_only_begins_like_ours_is_another_programs(
    end, this_shop, alice, wallet, worker, node
):
    asked = {"amount": "any", "description": "cake", "label": f"lightning-space-tips-{end}"}
    foreign = LightningRpc(str(node._node.path)).call("offer", asked)
    pay(wallet, foreign["bolt12"])
    record_payments(worker)
    assert payments.cursor(node.id).pay_index == 1
    assert Order.select().count() == 0


def look(shop):
    """Run a pass of the calendar, as if there had been no gap."""
    clock_watch.wake()
    Fact.update(value="0").where(Fact.name == clock_watch.UNBROKEN).execute()
    calendar.run_pass(shop)


def test_payments_below_a_tip_do_not_keep_a_suspended_hosting(
    this_shop, alice, offer, wallet, worker, node, time_machine
):
    time_machine.forward(alice.expires_at - clock.now() + DAY)
    look(this_shop)
    pay(wallet, offer, 999)
    work(worker)
    look(this_shop)
    after = fresh(alice)
    assert (after.expires_at, after.credit_msat) == (alice.expires_at, 999)
    assert after.suspended_at
    assert tips.received(alice.id) == []
    pay(wallet, offer, 1)
    work(worker)
    look(this_shop)
    after = fresh(alice)
    assert (after.expires_at, after.credit_msat) == (clock.now() + SAT * DAY // RATE, 0)
    assert not after.suspended_at


@pytest.mark.each_database
def test_a_payment_below_a_tip_is_counted_once_and_not_listed(
    this_shop, alice, offer, wallet, worker, node
):
    for _ in range(3):
        pay(wallet, offer, 500, "hello")
    pay(wallet, offer, 7 * SAT)
    record_payments(worker)
    payments.follow_from_start(payments.cursor(node.id))
    work(worker)
    after = fresh(alice)
    assert (after.small_tips, after.small_tips_msat, after.credit_msat) == (3, 1500, 1500)
    assert [each.received_msat for each in tips.received(alice.id)] == [7 * SAT]
    assert tips.received_msat(after) == 1500 + 7 * SAT
    small = Order.select().where(Order.received_msat == 500)
    assert {(each.account_id, each.message, each.bought_credit_msat) for each in small} == {
        (None, None, 500)
    }
    assert (small.count(), payments.due(), payments.late_tips()) == (3, [], [])


def test_a_payment_below_a_tip_undoes_no_closing(this_shop, alice, offer, wallet, worker):
    pay(wallet, offer, 500)
    accounts.close(alice.id)
    record_payments(worker)
    assert (Order.get().kind, fresh(alice).credit_msat) == ("lost", 0)
    assert fresh(alice).closing_at


def test_a_payment_below_a_tip_becomes_time_at_the_end_of_the_day(
    this_shop, alice, offer, wallet, worker, time_machine
):
    for _ in range(2):
        pay(wallet, offer, 500)
        work(worker)
    assert fresh(alice).expires_at == alice.expires_at
    time_machine.forward(DAY)
    look(this_shop)
    assert fresh(alice).expires_at == alice.expires_at + SAT * DAY // RATE


def test_an_offer_that_only_the_node_knows_is_used_again(this_shop, alice, offer, node):
    accounts.block(alice.id, "spam")
    offers.match(this_shop)
    Offer.delete().execute()
    accounts.unblock(alice.id)
    # A public node answers so, which makes no offer twice.
    node.faults.set("refuse", "offer", times=1, message="1000: Offer already exists")
    assert tips.offer(this_shop, fresh(alice)) == offer
    offers.match(this_shop)
    assert is_on(node)


# -- the rule ----------------------------------------------------------------------------


def test_closing_disables_the_offer_and_the_next_hosting_gets_another(
    this_shop, alice, offer, node, worker, wallet
):
    accounts.close_account(this_shop, alice)
    assert not is_on(node)
    work(worker)
    offers.match(this_shop)
    assert Offer.get().account_id is None
    assert Offer.get().bolt12 == ""  # since it named the site
    anew = open_account(this_shop, "alice")
    assert tips.offer(this_shop, anew) != offer
    with pytest.raises(Exception, match="no longer available"):
        pay(wallet, offer)


def test_a_hosting_is_closed_twice_while_the_worker_is_at_its_offer(this_shop, alice, offer):
    assert accounts.close_account(this_shop, alice)
    Offer.update(held_until=clock.now() + 10, is_due=True).execute()
    assert accounts.close_account(this_shop, alice)


def test_no_two_hostings_have_offers_with_the_same_words(this_shop, alice, offer, node, worker):
    # A public node derives the offer from its words: the same words give the same one, disabled.
    accounts.close_account(this_shop, alice)
    work(worker)
    tips.offer(this_shop, open_account(this_shop, "alice"))
    first, second = (each["description"] for each in node_offers(node))
    assert first != second


def test_an_offer_made_while_the_owner_closes_is_never_shown(this_shop, alice, node):
    assert accounts.close_account(this_shop, fresh(alice))
    assert tips.offer(this_shop, alice) is None  # with a row that was read before
    assert not is_on(node)


def test_an_offer_that_became_due_meanwhile_stops_the_closing(this_shop, alice, offer, node):
    node.faults.set("slow", "waitanyinvoice", times=1, seconds=0.5)

    def switch_on():
        eventually(lambda: any(method == "waitanyinvoice" for method, _ in node.calls))
        tips.switch(alice.id, tips_offer=True)

    with pytest.raises(invoices.NotCertain):
        at_once(lambda: accounts.close_account(this_shop, alice), switch_on)
    assert fresh(alice).closing_at is None


def test_an_invoice_fetched_before_cannot_be_paid_either(this_shop, alice, offer, node, wallet):
    fetched = wallet.call("fetchinvoice", {"offer": offer, "amount_msat": 7 * SAT})
    accounts.close_account(this_shop, alice)
    with pytest.raises(Exception, match="pay"):
        wallet.pay(fetched["invoice"])


@pytest.mark.parametrize(
    ("off", "on"),
    [
        (
            lambda alice: accounts.block(alice.id, "spam"),
            lambda alice: accounts.unblock(alice.id),
        ),
        (
            lambda alice: tips.switch(alice.id, tips_offer=False),
            lambda alice: tips.switch(alice.id, tips_offer=True),
        ),
        (
            lambda alice: accounts.close(alice.id),
            lambda alice: Account.update(closing_at=None).execute() and offers.recheck(alice.id),
        ),
    ],
)
def test_an_offer_is_off_while_no_tips_are_taken(this_shop, alice, offer, node, off, on):
    off(alice)
    assert not offers.is_off(alice.id)
    offers.match(this_shop)
    assert not is_on(node)
    assert offers.is_off(alice.id)
    assert tips.offer(this_shop, fresh(alice)) is None
    on(alice)
    offers.match(this_shop)
    assert is_on(node)


@pytest.fixture
def at_last_call(this_shop, alice, offer, time_machine):
    """The calendar has just made the last call: nothing is sold to alice any more."""
    calendar.run_pass(this_shop)
    Fact.update(value="0").where(Fact.name == clock_watch.UNBROKEN).execute()
    for seconds in (90 * DAY, 14 * DAY):
        time_machine.forward(seconds)
        Fact.update(value=str(clock.now() - 60)).where(Fact.name == clock_watch.PASSED).execute()
        passed = calendar.run_pass(this_shop)
    assert passed.last_calls == 1
    time_machine.forward(15 * 60)
    Fact.update(value=str(clock.now() - 60)).where(Fact.name == clock_watch.PASSED).execute()


def test_the_last_call_disables_the_offer_before_the_closing(
    this_shop, node, at_last_call, time_machine
):
    assert calendar.run_pass(this_shop).closing == 0  # the node has not been told yet
    offers.match(this_shop)
    assert not is_on(node)
    time_machine.forward(calendar.LOOK_AGAIN_SECONDS)
    assert calendar.run_pass(this_shop).closing == 1


def test_a_payment_to_an_offer_in_the_last_minutes_counts(
    this_shop, alice, offer, node, at_last_call, wallet, worker
):
    pay(wallet, offer, 7 * SAT)
    work(worker)
    assert fresh(alice).last_call_at is None
    assert fresh(alice).expires_at == clock.now() + DAY
    offers.match(this_shop)
    assert is_on(node)


def test_an_offer_is_not_off_before_its_payments_are_recorded(
    this_shop, alice, offer, node, wallet, worker
):
    pay(wallet, offer, 7 * SAT)
    with pytest.raises(invoices.NotCertain):
        accounts.close_account(this_shop, alice)
    accounts.block(alice.id, "spam")
    assert offers.match(this_shop) == 0
    assert not is_on(node)
    assert not offers.is_off(alice.id)
    record_payments(worker)
    assert offers.match(this_shop) == 1
    assert offers.is_off(alice.id)


# -- faults of the node ------------------------------------------------------------------


def test_a_node_that_is_down_is_told_later(this_shop, alice, offer, node):
    accounts.block(alice.id, "spam")
    node.down()
    with pytest.raises(NodeError):
        offers.match(this_shop)
    node.up()
    offers.match(this_shop)
    assert not is_on(node)


@pytest.mark.parametrize("kind", ["cut-before", "cut-after"])
def test_a_call_that_was_cut_is_made_again(this_shop, alice, offer, node, kind):
    accounts.block(alice.id, "spam")
    node.faults.set(kind, "disableoffer", times=1)
    with pytest.raises(NodeError):
        offers.match(this_shop)
    assert offers.match(this_shop) == 1
    assert not is_on(node)
    assert offers.match(this_shop) == 0


@pytest.mark.each_database
def test_one_worker_at_a_time_tells_the_node(this_shop, alice, offer, node, time_machine):
    accounts.block(alice.id, "spam")
    Offer.update(held_until=clock.now() + offers.HELD_SECONDS).execute()
    assert offers.match(this_shop) == 0
    time_machine.forward(offers.HELD_SECONDS)  # the first worker was killed
    assert offers.match(this_shop) == 1


def test_an_offer_that_the_node_refuses_does_not_hold_up_the_others(
    this_shop, alice, offer, node, caplog, time_machine
):
    bob = open_account(this_shop, "bob")
    tips.offer(this_shop, bob)
    for account in (alice, bob):
        accounts.block(account.id, "spam")
    node.faults.set("refuse", "disableoffer", times=1, message="1000: no")
    assert offers.match(this_shop) == 1
    assert "the node refused disableoffer" in caplog.text
    assert offers.match(this_shop) == 0
    time_machine.forward(offers.HELD_SECONDS)
    assert offers.match(this_shop) == 1


def test_without_the_plugin_no_offer_is_made_and_closing_works(this_shop, alice, node, client):
    bob = open_account(this_shop, "bob")
    tips.offer(this_shop, bob)
    node.lose_plugin("offers")
    log_in(client, "alice", "correct horse")
    page = client.get("/account/tips").text
    assert "makes no offers right now" in page and "does not answer" not in page
    for account in (alice, bob):
        assert accounts.close_account(this_shop, fresh(account))
    assert not is_on(node)


def test_an_owner_cannot_close_while_the_node_is_silent(this_shop, alice, offer, node):
    node.faults.set("cut-before", "disableoffer", times=1)
    with pytest.raises(NodeError):
        accounts.close_account(this_shop, alice)
    assert fresh(alice).closing_at is None


def test_an_offer_switched_off_needlessly_is_on_again(this_shop, alice, offer, node):
    node.faults.set("cut-after", "disableoffer", times=1)
    with pytest.raises(NodeError):
        accounts.close_account(this_shop, alice)
    offers.match(this_shop)
    assert is_on(node)


def test_an_offer_unknown_to_the_node_does_not_hold_up_the_closing(this_shop, alice, offer, node):
    node.forget_offer(offers.of(alice.id).id)  # it was restored, or is another node
    assert accounts.close_account(this_shop, alice)
    offers.match(this_shop)
    assert offers.is_off(alice.id)


def test_an_offer_unknown_to_the_node_is_replaced(this_shop, alice, offer, node, wallet, worker):
    node.forget_offer(offers.of(alice.id).id)
    recheck_all()
    offers.match(this_shop)
    anew = tips.offer(this_shop, alice)
    assert anew != offer
    pay(wallet, anew, 7 * SAT)
    work(worker)
    assert fresh(alice).expires_at == alice.expires_at + DAY


def test_an_offer_that_a_restored_node_has_on_is_switched_off(this_shop, alice, offer, node):
    accounts.block(alice.id, "spam")
    offers.match(this_shop)
    LightningRpc(str(node._node.path)).call("enableoffer", {"offer_id": offers.of(alice.id).id})
    recheck_all()
    offers.match(this_shop)
    assert not is_on(node)


def test_the_offer_of_a_hosting_that_was_not_closed_is_on_again(this_shop, alice, offer, node):
    stale = Account.get_by_id(alice.id)
    Account.update(expires_at=Account.expires_at + 1).execute()  # as if somebody had paid
    assert not accounts.close_account(this_shop, stale)
    offers.match(this_shop)
    assert is_on(node)


def test_the_offer_after_a_killed_closing_is_on_when_it_is_shown(this_shop, alice, offer, node):
    offers.turn_off(this_shop, alice.id)
    tips.offer(this_shop, alice)
    offers.match(this_shop)
    assert is_on(node)
