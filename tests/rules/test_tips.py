"""Tips: anybody's money becomes time of a hosting, exactly once, and gives no rights."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightningspace.base import clock, messages
from lightningspace.base.models import Account, Order
from lightningspace.base.prices import DAY
from lightningspace.outside.node import NodeError
from lightningspace.panel import reconcile
from lightningspace.rules import accounts, ledger, order_book, orders, payments, tips
from lightningspace.rules.orders import Buyer, Tip, TooManyUnpaid
from lightningspace.rules.quotes import NotForSale
from tests.conftest import at_once, eventually, open_account, record_payments, with_settings, work

SAT = 1000
RATE = 7000  # msat a day, for alice's 100 MB


@pytest.fixture(autouse=True)
def clock_stands(time_machine):
    time_machine.moment = 1_800_000_000


@pytest.fixture
def tip(this_shop, alice):
    """Ask for a tip's invoice: `tip(1000 * SAT)`."""
    made = []

    def ask(msat=1000 * SAT, message=None, account=alice, browser="bob's browser", form=None):
        made.append(None)
        asked = Tip(msat, "page", message)
        return orders.top_up(this_shop, account.id, asked, browser, form or f"form {len(made)}")

    return ask


def fresh(row):
    return type(row).get_by_id(row._pk)


def test_a_tip_buys_time_at_the_rate_of_the_hosting(alice, tip, wallet, worker):
    order = tip(1000 * SAT)
    wallet.pay(order.bolt11)
    work(worker)
    assert fresh(alice).expires_at == alice.expires_at + 1000 * SAT * DAY // RATE
    paid = fresh(order)
    assert (paid.bought_seconds, paid.ends_at) == (
        1000 * SAT * DAY // RATE,
        fresh(alice).expires_at,
    )
    assert (paid.holder, paid.username, paid.bolt11) == (None, None, None)


@pytest.mark.each_database
def test_a_tip_reported_and_applied_twice_counts_once(this_shop, alice, tip, node, worker):
    order = tip()
    node.settle(order.payment_hash)
    record_payments(worker)
    payments.follow_from_start(payments.cursor(node.id))
    record_payments(worker)
    at_once(*[lambda: payments.apply(this_shop, order.token)] * 2)
    assert fresh(alice).expires_at == alice.expires_at + fresh(order).bought_seconds
    assert fresh(alice).value_msat == ledger.holding(alice).value_msat + 1000 * SAT


def test_a_wallet_that_pays_more_buys_more(alice, tip, node, worker):
    node.settle(tip(1000 * SAT).payment_hash, 2000 * SAT)
    work(worker)
    assert fresh(alice).expires_at == alice.expires_at + 2000 * SAT * DAY // RATE


def test_a_suspended_hosting_is_resumed_by_a_tip(alice, tip, node, worker, panel):
    Account.update(expires_at=clock.now(), valued_at=clock.now(), value_msat=0).execute()
    accounts.suspend(alice.id)
    work(worker)
    assert panel.records("site")[0]["active"] == "n"
    node.settle(tip(1 * SAT).payment_hash)
    work(worker)
    assert panel.records("site")[0]["active"] == "y"
    assert fresh(alice).suspended_at is None
    assert fresh(alice).expires_at == clock.now() + 1 * SAT * DAY // RATE


def test_beyond_the_horizon_a_tip_stays_as_credit(this_shop, alice, tip, node, worker):
    node.settle(tip(1_000_000 * SAT).payment_hash)
    work(worker)
    horizon = this_shop.config.horizon_seconds
    assert fresh(alice).expires_at == clock.now() + horizon
    left = ledger.holding(alice).seconds
    spent = -(-1_000_000 * SAT * (horizon - left) // (1_000_000 * SAT * DAY // RATE))
    assert fresh(alice).credit_msat == 1_000_000 * SAT - spent


@pytest.mark.parametrize(
    ("facts", "why"),
    [
        ({"closing_at": 1}, "being closed"),
        ({"blocked_at": 1, "blocked_reason": "spam"}, "blocked"),
        ({"last_call_at": 1}, "about to be deleted"),
    ],
)
def test_no_invoice_is_made_for_a_hosting_about_to_go(node, alice, tip, facts, why):
    Account.update(facts).execute()
    asked = len(node.calls)
    with pytest.raises(NotForSale, match=why):
        tip()
    assert len(node.calls) == asked


def test_no_invoice_is_made_for_a_hosting_that_is_gone(this_shop, alice, tip, worker):
    accounts.close(alice.id)
    work(worker)
    with pytest.raises(NotForSale):
        tip()


@with_settings(TIP_MIN_SATS="21", TIP_MAX_SATS="100")
def test_an_amount_out_of_the_bounds_is_refused(tip):
    for msat in (-1, 0, 1, 21 * SAT - 1, 100 * SAT + 1, 10**30):
        with pytest.raises(NotForSale, match="amount"):
            tip(msat)


def test_the_same_form_again_answers_the_same_order(tip):
    first = tip(form="form", message="hello")
    assert tip(form="form", message="hello").token == first.token
    assert tip(form="form", message="hello you").token != first.token
    assert tip(form="form", message="hello", browser="carol's browser").token != first.token


@pytest.mark.each_database
def test_a_double_click_on_a_tip_is_one_order(tip, alice):
    both = at_once(*[lambda: tip(form="form")] * 2)
    assert both[0].token == both[1].token
    assert Order.select().where(Order.kind == "topup").count() == 1


def test_unpaid_tips_do_not_use_up_the_owners_orders(this_shop, alice, tip):
    like = tip().__data__ | {"bolt11": None, "payment_hash": None, "invoice_hash": None}
    asked = ({"token": f"{n:032}", "attempt": None} for n in range(1, orders.OPEN_TIPS))
    Order.insert_many([like | each for each in asked]).execute()
    with pytest.raises(TooManyUnpaid):
        tip()
    assert list(order_book.unpaid(alice.id)) == []
    assert orders.top_up(this_shop, alice.id, Tip(1 * SAT, "owner"), "alice's browser", "form")
    assert orders.extend(this_shop, alice.id, 1, "days", Buyer("browser", "form"))


def test_a_node_that_does_not_answer_leaves_nothing(this_shop, alice, tip, node):
    node.faults.set("refuse", "invoice", times=1)
    with pytest.raises(NodeError):
        tip(form="form")
    assert tip(form="form").bolt11


def test_an_unpaid_tip_is_forgotten_with_its_message(this_shop, tip, time_machine, node):
    tip(message="hello")
    time_machine.forward(15 * 60)
    payments.tidy(this_shop, node.id)
    time_machine.forward(DAY)
    payments.tidy(this_shop, node.id)
    assert Order.select().where(Order.kind == "topup").count() == 0


# -- closing -----------------------------------------------------------------------------


def test_an_owner_who_closes_cancels_unpaid_tips_first(this_shop, alice, tip, wallet, worker):
    order, bolt11 = tip(), tip().bolt11
    assert accounts.close_account(this_shop, alice)
    assert fresh(order).cancelled_at
    with pytest.raises(Exception, match="pay"):
        wallet.pay(bolt11)
    work(worker)
    assert Account.select().count() == 0


def test_a_tip_ordered_while_the_owner_closes_keeps_nothing_open(this_shop, alice, tip, node):
    tip()
    node.faults.set("slow", "delinvoice", times=1, seconds=0.5)

    def tip_meanwhile():
        eventually(lambda: any(method == "delinvoice" for method, _ in node.calls))
        return tip(browser="another browser")

    closed, order = at_once(lambda: accounts.close_account(this_shop, alice), tip_meanwhile)
    assert closed
    assert fresh(order).cancelled_at


def test_a_tip_that_was_just_paid_stops_the_closing(this_shop, alice, tip, node, worker):
    node.settle(tip().payment_hash)
    assert not accounts.close_account(this_shop, alice)
    assert fresh(alice).closing_at is None


def test_a_tip_that_comes_too_late_opens_nothing(
    this_shop, alice, tip, node, worker, runner, caplog
):
    order = tip(message="for your site")
    accounts.close(alice.id)
    reconcile.account(this_shop, alice.id)
    assert Account.select().count() == 0
    node.settle(order.payment_hash)
    for _ in range(3):
        work(worker)
    assert Account.select().count() == 0
    late = fresh(order)
    assert (late.applied_at, late.message, late.browser) == (None, None, "bob's browser")
    assert payments.due() == []
    told = runner.invoke(args=["problems"]).output
    assert f"payment {late.payment_hash}: 1000000 msat, a tip for a hosting that was gone" in told


def test_a_tip_undoes_no_closing_of_the_owners(this_shop, alice, tip, wallet, worker):
    order = tip()
    accounts.close(alice.id)
    wallet.pay(order.bolt11)
    record_payments(worker)
    assert payments.apply(this_shop, order.token) is None
    assert fresh(alice).closing_at is not None
    assert order_book.is_too_late(fresh(order))
    work(worker)
    assert Account.get_or_none(Account.id == alice.id) is None
    assert payments.late_tips() == [order]


def test_closing_leaves_the_amounts_of_tips_and_not_their_messages(
    this_shop, alice, tip, node, worker
):
    order = tip(message="for your site")
    node.settle(order.payment_hash)
    work(worker)
    accounts.close(alice.id)
    work(worker)
    kept = fresh(order)
    assert (kept.account_id, kept.message, kept.browser) == (None, None, None)
    assert (kept.received_msat, kept.kind) == (1000 * SAT, "topup")


# -- who takes them ----------------------------------------------------------------------


def test_each_door_can_be_closed_by_itself(alice):
    for door in tips.DOORS:
        tips.switch(alice.id, **{f"tips_{door}": False})
        assert [each for each in tips.DOORS if not tips.taker("alice", each)] == [door]
        tips.switch(alice.id, **{f"tips_{door}": True})


@pytest.mark.parametrize(
    "facts", [{"closing_at": 1}, {"blocked_at": 1, "blocked_reason": "spam"}, {"username": "bob"}]
)
def test_closing_blocked_and_missing_hostings_take_no_tips(alice, facts):
    Account.update(facts).execute()
    assert tips.taker("alice", "page") is None


@pytest.mark.each_database
def test_an_invalid_name_takes_no_tips(alice):
    for name in ("", "Alice", "../alice", "a" * 300, "älice", "bob"):
        assert tips.taker(name, "page") is None


def test_an_unpaid_hosting_takes_no_tips(order):
    assert tips.taker("alice", "page") is None


def test_only_switches_of_tips_are_switched(alice):
    with pytest.raises(ValueError, match="no switches"):
        tips.switch(alice.id, credit_msat=10**9)


# -- what the owner sees -----------------------------------------------------------------


@pytest.mark.each_database
def test_the_owner_sees_paid_tips_of_others_and_hides_them(this_shop, alice, tip, node, worker):
    first, second, _unpaid = tip(1 * SAT, "first"), tip(2 * SAT, "second"), tip()
    own = orders.top_up(this_shop, alice.id, Tip(5 * SAT, "owner"), "alice's browser", "form")
    for order in (first, second, own):
        node.settle(order.payment_hash)
    work(worker)
    assert {each.message for each in tips.received(alice.id)} == {"first", "second"}
    total = tips.received_msat(alice)
    assert (total, type(total)) == (3 * SAT, int)  # JSON needs an int
    assert order_book.latest(alice.id, order_book.OWN_DOORS, 10) == [own]
    assert tips.hide(alice.id, first.token)
    assert fresh(first).hidden_at == clock.now()
    assert tips.hide(alice.id, first.token, hidden=False)
    assert fresh(first).hidden_at is None


def test_nobody_hides_the_tips_of_another(this_shop, tip, node, worker):
    order = tip(message="hello")
    node.settle(order.payment_hash)
    work(worker)
    bob = open_account(this_shop, "bob")
    assert not tips.hide(bob.id, order.token)
    assert fresh(order).hidden_at is None


def test_a_message_is_kept_as_one_line_of_text(subtests):
    for written, kept in [
        (None, None),
        (7, None),
        ("", None),
        (" \n\t ", None),
        ("hello", "hello"),
        ("  two\r\n lines ", "two lines"),
        ("a\0b\x1b[31m", "ab[31m"),
        ("\ud800half", "half"),
        ("a\u202edcba\u2066", "adcba"),
        ("<script>alert(1)</script>", "<script>alert(1)</script>"),
        ("👩\u200d💻 ⚡ räksmörgås", "👩\u200d💻 ⚡ räksmörgås"),
        ("a" * 139 + "👩\u200d💻", "a" * 139),
        ("👩\u200d" * 100, "👩\u200d" * 70),
        ("\u200d\ufe0f\U000e0061\u3164\u2800", None),
        ("hi\U000e0068\U000e0069 \U0001f3f4\U000e0067", "hi 🏴"),
        ("Z" + "\u0301\u200d" * 100 + "o", "Z" + "\u0301\u200d" * 8 + "o"),
        ("\u2028x\u00a0y\u3000", "x y"),
        ("x" * 141, "x" * 140),
        ("\0" * 10**6 + "x", None),
    ]:
        with subtests.test(written=written, kept=kept):
            assert messages.cleaned(written) == kept


def test_ordinary_messages_are_not_changed(subtests):
    for text in [
        "Zapped! 🩷",  # newer than Python 3.11
        "\U0001fa8d \U0003abcd \ue000",  # new this year, unassigned, and for private use
        "🏴\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f 🇺🇦 🏳️\u200d🌈",
        "👨\u200d👩\u200d👧\u200d👦 👁️\u200d🗨️ 1️⃣ 👍🏽",
        "می\u200cخواهم",
        "क्\u200dष ශ්\u200dරී",
        "ᠮᠣᠩᠭᠣᠯ\u180e\u180bᠠ",
        "שלום \u200eC++\u200f, ok?",
        "ཧྐྵྨླྺྼྻྂ",
        "葛\U000e0100城 ไทย\u200bไทย",
        "₿ + ⚡ = ❤️",
    ]:
        with subtests.test(text=text):
            assert messages.cleaned(text) == text


@given(st.text(st.characters(), max_size=200))
def test_a_stored_message_is_valid_everywhere(text):
    kept = messages.cleaned(text)
    assert messages.cleaned(kept) == kept
    assert kept is None or kept.encode() and messages.on_one_line(kept) == kept


@pytest.mark.each_database
def test_any_message_can_be_stored(alice, tip):
    worst = "".join(map(chr, [*range(0x300), 0x202E, 0xFEFF, 0xFFFE, 0xFFFF, 0x10FFFF, 0xD800]))
    for start in range(0, len(worst), 100):
        message = messages.cleaned(worst[start : start + 100])
        assert fresh(tip(message=message)).message == message
