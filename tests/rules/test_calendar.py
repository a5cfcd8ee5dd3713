"""The calendar: what happens when, each thing once, and what never happens."""

import threading
from dataclasses import replace

import pytest
from peewee import chunked

from lightningspace.base import clock, models
from lightningspace.base.models import Account, Fact, Notice, Order, Service
from lightningspace.base.prices import DAY, Size
from lightningspace.panel import reconcile
from lightningspace.rules import (
    accounts,
    calendar,
    clock_watch,
    hostnames,
    invoices,
    ledger,
    orders,
    payments,
    progress,
    quotes,
    services,
)
from lightningspace.rules.orders import Buyer
from tests.conftest import (
    at_once,
    eventually,
    open_account,
    record_payments,
    wish,
    with_settings,
    work,
)

HOUR = 60 * 60
INVOICE = 15 * 60
GRACE = 14 * DAY
MONTHS = 90 * DAY


@pytest.fixture
def env(env):
    return env | {"SMTP_URL": "smtp://localhost:9"}


@pytest.fixture(autouse=True)
def clock_of_the_calendar(time_machine, this_shop):
    """A clock with whole seconds, and a calendar that has been running for long."""
    time_machine.moment = 1_800_000_000
    calendar.run_pass(this_shop)
    Fact.update(value="0").where(Fact.name == clock_watch.UNBROKEN).execute()


@pytest.fixture
def time(time_machine):
    """Move the clock: `time(DAY)`. The calendar ran meanwhile, and nothing was due."""

    def forward(seconds):
        time_machine.forward(seconds)
        Fact.update(value=str(clock.now() - 60)).where(Fact.name == clock_watch.PASSED).execute()

    return forward


@pytest.fixture
def look(this_shop):
    return lambda **options: calendar.run_pass(this_shop, **options)


@pytest.fixture
def bob(this_shop):
    return hosted(this_shop, "bob")


def hosted(shop, username, term=MONTHS, **facts) -> Account:
    """An account that is ready, in the database alone."""
    account = open_account(shop, username)
    moment = clock.now()
    facts = {"email": f"{username}@example.org", "expires_at": moment + term} | facts
    facts |= {"ready_at": moment, "reconcile_at": None}
    Account.update(facts).where(Account.id == account.id).execute()
    Service.update(applied_revision=1, applied_at=moment, panel_id=1).where(
        Service.account == account.id
    ).execute()
    return Account.get_by_id(account.id)


def fresh(account) -> Account:
    return Account.get_by_id(account.id)


def told(channel="email") -> list[str]:
    rows = Notice.select().where(Notice.channel == channel).order_by(Notice.written_at)
    return [row.kind for row in rows]


def extend(shop, account, duration=30) -> Order:
    form = f"{account.id} {clock.now()} {duration}"
    return orders.extend(shop, account.id, duration, "days", Buyer("browser", form))


# -- before the end ----------------------------------------------------------------------


LEADS_OF_TERMS = {
    730 * DAY: ["14d", "7d", "3d", "1d"],
    56 * DAY: ["14d", "7d", "3d", "1d"],
    56 * DAY - 1: ["7d", "3d", "1d"],
    30 * DAY: ["7d", "3d", "1d"],
    12 * DAY: ["3d", "1d"],
    4 * DAY: ["1d"],
    4 * DAY - 1: ["12h", "2h"],
    8 * HOUR: ["2h"],
    8 * HOUR - 1: [],
    HOUR: [],
}


def test_notices_before_the_end_are_scaled_to_the_term(this_shop, look, time, subtests):
    lead_seconds = calendar.LEADS | calendar.SHORT_LEADS
    for term, leads in LEADS_OF_TERMS.items():
        with subtests.test(term):
            bob = hosted(this_shop, "bob", term)
            for lead in leads:
                time(bob.expires_at - lead_seconds[lead] - clock.now() - 1)
                assert look().notices == 0, lead
                time(1)
                look()
                assert told()[-1] == f"ending-{lead}"
                look()
            time(bob.expires_at - clock.now() - 1)
            assert look().notices == 0
            assert told() == [f"ending-{lead}" for lead in leads]
            assert fresh(bob).suspended_at is None
        for table in (Notice, Service, Account):
            table.delete().execute()


def test_a_worker_that_slept_sends_only_the_latest(bob, look, time):
    time(MONTHS - 2 * DAY)
    assert look().notices == 2
    assert told() == ["ending-3d"]
    time(DAY)
    look()
    assert told() == ["ending-3d", "ending-1d"]


def test_each_notice_goes_to_the_hostings_own_mailbox_too(bob, look, time):
    time(MONTHS - 14 * DAY)
    look()
    assert told("mailbox") == ["ending-14d"]
    sent = Notice.get(Notice.channel == "mailbox")
    assert (sent.recipient, sent.about) == ("info@bob.shop.test", bob.expires_at)


@pytest.mark.parametrize("facts", [{"active": False}, {"gone": True}, {"applied_at": None}])
def test_no_notice_goes_to_a_missing_mailbox(bob, look, time, facts):
    is_mailbox = Service.kind == "mailbox"
    Service.update({"applied_revision": 0} | facts).where(is_mailbox).execute()
    time(MONTHS - 14 * DAY)
    look()
    assert told("mailbox") == []
    assert told() == ["ending-14d"]


def test_hourly_payments_for_months_are_not_followed_by_hourly_reminders(this_shop, look, time):
    bob = hosted(this_shop, "bob", HOUR)
    for _ in range(30):
        with models.transaction():
            holding = ledger.holding(fresh(bob)).buy(300, 7000, 1095 * DAY, 2 * HOUR)
            accounts.renew(this_shop, fresh(bob), holding)
        look()
        time(2 * HOUR)
    assert told() == []


def test_a_new_end_is_announced_again(this_shop, bob, look, time):
    time(MONTHS - DAY)
    look()
    with models.transaction():
        holding = ledger.holding(fresh(bob)).buy(1, 7000, 1095 * DAY, 30 * DAY)
        accounts.renew(this_shop, fresh(bob), holding)
    look()
    assert told() == ["ending-1d"]
    time(30 * DAY)
    look()
    assert told() == ["ending-1d", "ending-1d"]
    assert len({row.about for row in Notice.select().where(Notice.channel == "email")}) == 2


def test_time_of_a_hosting_being_set_up_does_not_end(this_shop, look, time):
    bob = open_account(this_shop, "bob")
    time(MONTHS + GRACE + DAY)
    assert str(look()) == "nothing was due"
    assert fresh(bob).suspended_at is None


def test_without_an_address_everything_else_happens(this_shop, look, time):
    bob = hosted(this_shop, "bob", email=None)
    Service.update(active=False).where(Service.kind == "mailbox").execute()
    time(MONTHS)
    assert str(look()) == "1 suspended"
    assert fresh(bob).suspended_at == clock.now()


# -- the end, and after it ---------------------------------------------------------------


def test_the_whole_life_of_a_hosting_day_by_day(this_shop, time, worker, panel):
    bob = open_account(this_shop, "bob")
    work(worker)
    Account.update(email="bob@example.org", expires_at=clock.now() + 60 * DAY).execute()
    ends = fresh(bob).expires_at
    seen = {}
    for day in range(75):
        before = told()
        calendar.run_pass(this_shop)
        work(worker)
        for kind in told()[len(before) :]:
            seen[kind] = day
        time(DAY)
    assert seen == {
        "ending-14d": 46,
        "ending-7d": 53,
        "ending-3d": 57,
        "ending-1d": 59,
        "suspended": 60,
        "deletion": 73,
    }
    assert panel.records("site")[0]["active"] == "n"
    assert fresh(bob).last_call_at == ends + GRACE
    time(INVOICE)
    assert str(calendar.run_pass(this_shop)) == "1 closing"
    work(worker)
    assert Account.get_or_none(Account.id == bob.id) is None
    assert panel.records("site") == []
    assert told()[-1] == "deleted"
    assert Notice.get(Notice.kind == "deleted").recipient == "bob@example.org"
    assert hostnames.rests(this_shop, "bob")


def test_the_deletion_is_announced_a_day_before_if_there_is_time(this_shop, look, time):
    hosted(this_shop, "bob", DAY)
    time(DAY)
    look()
    time(DAY - INVOICE)
    look()
    assert "deletion" not in told()
    assert Account.get().last_call_at == clock.now()


def test_a_notice_names_the_end_and_the_deletion(bob, look, time):
    time(MONTHS)
    look()
    text = Notice.get(Notice.kind == "suspended").body.replace("\n", " ")
    assert clock.clock_time(bob.expires_at) in text
    assert clock.clock_time(bob.expires_at + GRACE) in text


def test_paying_brings_a_suspended_account_back(this_shop, bob, look, time):
    time(MONTHS)
    look()
    with models.transaction():
        holding = ledger.holding(fresh(bob)).buy(1, 7000, 1095 * DAY, 30 * DAY)
        accounts.renew(this_shop, fresh(bob), holding)
    assert str(look()) == "nothing was due"
    after = fresh(bob)
    assert after.suspended_at is None
    assert after.calendar_at == after.expires_at - 14 * DAY


def at_last_call(look, time) -> None:
    time(MONTHS)
    look()
    time(GRACE - INVOICE)
    assert look().last_calls == 1


def test_after_the_last_call_nothing_is_sold(this_shop, bob, look, time):
    time(MONTHS)
    look()
    time(GRACE - INVOICE - 1)
    look()
    assert extend(this_shop, bob).bolt11
    time(1)
    look()
    with pytest.raises(quotes.NotForSale, match="about to be deleted"):
        extend(this_shop, bob, 31)


def test_an_account_is_not_closed_before_its_time(bob, look, time):
    at_last_call(look, time)
    time(INVOICE - 1)
    assert str(look()) == "nothing was due"
    time(1)
    assert str(look()) == "1 closing"
    assert str(look()) == "nothing was due"
    assert fresh(bob).calendar_at is None


def test_a_payable_invoice_keeps_an_account_open(this_shop, bob, look, time, worker):
    time(MONTHS)
    look()
    time(GRACE - INVOICE - 1)
    extend(this_shop, bob)
    time(1)
    look()
    time(INVOICE)
    # It has expired by our clock; only the node knows whether it was paid in time.
    assert look().closing == 0
    worker.tidy()
    time(60)
    assert look().closing == 1


def test_an_invoice_paid_in_its_last_second_counts(this_shop, bob, look, time, wallet, worker):
    time(MONTHS)
    look()
    time(GRACE - INVOICE - 1)
    order = extend(this_shop, bob)
    wallet.pay(order.bolt11)
    time(1)
    look()
    time(2 * INVOICE)
    assert look().closing == 0
    record_payments(worker)
    assert look().closing == 0
    payments.apply(this_shop, order.token)
    after = fresh(bob)
    assert (after.suspended_at, after.last_call_at) == (None, None)


def test_a_short_grace_never_shortens_the_time_to_buy(this_shop, look, time):
    bob = hosted(this_shop, "bob", HOUR)
    config = replace(this_shop.config, grace_days=0)
    no_grace = replace(this_shop, config=config)
    time(HOUR - 1)
    calendar.run_pass(no_grace)
    assert extend(no_grace, bob)
    worker_tidied(no_grace)
    time(1)
    assert (
        str(calendar.run_pass(no_grace)) == "1 notices written, 1 suspended, 1 about to be closed"
    )
    time(INVOICE)
    assert calendar.run_pass(no_grace).closing == 1


def worker_tidied(shop) -> None:
    for order in Order.select().where(Order.kind == "extend"):
        assert invoices.cancel(shop, order)


# -- payments during the closing ---------------------------------------------------------


@pytest.fixture
def closing(this_shop, alice, worker, time, look, wallet):
    """alice is about to be removed, and her extension was just paid."""
    Account.update(email="alice@example.org", expires_at=clock.now() + HOUR).execute()
    time(HOUR)
    look()
    work(worker)
    order = extend(this_shop, alice)
    with models.transaction():
        accounts.close(alice.id)
    wallet.pay(order.bolt11)
    return order


@pytest.mark.each_database
def test_a_payment_before_the_first_deletion_keeps_the_hosting(
    closing, this_shop, alice, worker, panel
):
    record_payments(worker)
    assert payments.apply(this_shop, closing.token) == alice.id
    work(worker)
    assert fresh(alice).closing_at is None
    assert panel.records("site")[0]["active"] == "y"
    assert len(panel.records("shell")) == 1
    assert "deleted" not in told()
    assert not progress.problems()
    assert all(row.is_applied for row in services.of_account(alice.id))


def test_a_payment_after_the_first_deletion_opens_the_hosting_again(
    closing, this_shop, alice, worker, panel
):
    deletions = []

    def before_call(method):
        if method.endswith("_delete") and not deletions:
            deletions.append(method)
            record_payments(worker)
            assert payments.apply(this_shop, closing.token) is None
            models.db.close()

    panel.before_call = before_call
    reconcile.account(this_shop, alice.id)
    assert deletions
    work(worker)
    order = Order.get_by_id(closing.token)
    anew = Account.get()
    assert anew.id != alice.id
    assert (anew.username, order.is_late, order.account_id) == ("alice", True, anew.id)
    assert panel.records("site")[0]["active"] == "y"


# -- what holds it up --------------------------------------------------------------------


def test_after_a_gap_nobody_is_closed_before_a_whole_grace_period(bob, look, time_machine, time):
    time(MONTHS)
    look()
    time_machine.forward(GRACE + DAY)
    look()
    woke = clock.now()
    assert fresh(bob).last_call_at is None
    assert told()[-1] == "suspended"
    time(GRACE - DAY)
    look()
    assert told()[-1] == "deletion"
    time(DAY - INVOICE - 1)
    look()
    assert fresh(bob).last_call_at is None
    time(1)
    look()
    time(INVOICE)
    assert look().closing == 1
    assert clock.now() == woke + GRACE


def test_a_gap_undoes_a_last_call(this_shop, bob, look, time, time_machine):
    at_last_call(look, time)
    time_machine.forward(HOUR + 1)
    look()
    assert fresh(bob).last_call_at is None
    assert extend(this_shop, bob)


def test_a_gap_undoes_a_closing_that_has_not_begun(bob, look, time, time_machine):
    at_last_call(look, time)
    time(INVOICE)
    assert look().closing == 1
    time_machine.forward(HOUR + 1)
    look()
    assert fresh(bob).closing_at is None
    assert fresh(bob).suspended_at
    assert all(not row.is_applied for row in services.of_account(bob.id))


def test_a_gap_does_not_undo_the_owners_closing(bob, look, time, time_machine):
    look()
    accounts.close(bob.id)
    time_machine.forward(HOUR + 1)
    look()
    assert fresh(bob).closing_at


def test_a_gap_does_not_undo_the_owners_closing_at_the_last_call(bob, look, time, time_machine):
    at_last_call(look, time)
    accounts.close(bob.id)
    time_machine.forward(HOUR + 1)
    look()
    assert fresh(bob).closing_at


def test_a_worker_that_starts_after_a_gap_deletes_nothing(
    alice, look, time, time_machine, worker, panel
):
    at_last_call(look, time)
    time(INVOICE)
    assert look().closing == 1
    time_machine.forward(DAY)
    thread = threading.Thread(target=worker.run)
    thread.start()
    eventually(lambda: all(row.is_applied for row in services.of_account(alice.id)))
    worker.stop()
    thread.join(20)
    assert fresh(alice).closing_at is None
    assert len(panel.records("site")) == 1


def test_a_worker_that_cannot_ask_for_gaps_yet_deletes_nothing(
    alice, look, time, time_machine, worker, panel, caplog
):
    at_last_call(look, time)
    time(INVOICE)
    assert look().closing == 1
    time_machine.forward(DAY)
    models.db.execute_sql("ALTER TABLE facts RENAME TO facts_of_before")
    thread = threading.Thread(target=worker.run)
    thread.start()
    eventually(lambda: "_look_at_clock failed" in caplog.text)
    models.db.execute_sql("ALTER TABLE facts_of_before RENAME TO facts")
    eventually(lambda: all(row.is_applied for row in services.of_account(alice.id)))
    worker.stop()
    thread.join(20)
    assert fresh(alice).closing_at is None
    assert len(panel.records("site")) == 1


def test_a_gap_does_not_undo_a_deletion_that_has_begun(alice, look, time, time_machine, worker):
    at_last_call(look, time)
    time(INVOICE)
    look()
    Account.update(deleting_at=clock.now()).execute()
    time_machine.forward(DAY)
    look()
    work(worker)
    assert Account.select().count() == 0


def test_the_real_end_is_announced_after_a_wrong_suspension(bob, look, time, time_machine):
    time_machine.forward(365 * DAY)
    look()
    assert told() == ["suspended"]
    time_machine.forward(-365 * DAY)
    assert look().resumed == 1
    assert told() == []
    time(MONTHS)
    look()
    assert told() == ["suspended"]


def test_the_first_worker_of_a_shop_undoes_no_closing(this_shop, bob, look):
    Fact.delete().execute()
    accounts.close(bob.id)
    look()
    assert fresh(bob).closing_at is not None


def test_a_gap_is_a_problem_while_closings_wait(this_shop, bob, look, time, time_machine, caplog):
    time(MONTHS)
    look()
    time_machine.forward(DAY)
    look()
    assert caplog.text.count("the calendar last ran at") == 1
    assert calendar.problems(this_shop) == []
    time(GRACE - DAY)
    look()
    (problem,) = calendar.problems(this_shop)
    assert "1 of the suspended accounts would be closed by now" in problem
    assert "calendar --yes" in problem
    assert caplog.text.count("the calendar last ran at") == 1


def test_a_calendar_that_does_not_run_is_a_problem(this_shop, time_machine):
    assert calendar.problems(this_shop) == []
    time_machine.forward(HOUR + 1)
    assert "is the worker running?" in calendar.problems(this_shop)[0]


def test_the_operator_may_say_that_the_dates_are_right(bob, look, time, time_machine, this_shop):
    time(MONTHS)
    look()
    time_machine.forward(GRACE + DAY)
    look()
    assert look(yes=True).last_calls == 1
    assert calendar.problems(this_shop) == []
    assert told()[-1] == "deletion"
    time(INVOICE)
    assert look().closing == 1


def test_the_operators_confirmation_ends_with_the_next_gap(
    this_shop, bob, look, time, time_machine
):
    time(MONTHS)
    look()
    look(yes=True)
    time_machine.forward(GRACE + DAY)
    look()
    assert fresh(bob).last_call_at is None


def test_the_very_first_pass_counts_as_a_gap(bob, look, time):
    time(MONTHS + GRACE)
    Fact.delete().where(Fact.name << [clock_watch.PASSED, clock_watch.UNBROKEN]).execute()
    assert str(look()) == "1 notices written, 1 suspended"


def test_a_clock_that_was_ahead_does_nothing_irreversible(bob, look, time_machine, this_shop, time):
    before = clock.now()
    time_machine.forward(10 * 365 * DAY)
    assert look().suspended == 1
    time_machine.moment = before
    look()
    after = fresh(bob)
    assert (after.suspended_at, after.closing_at, after.last_call_at) == (None, None, None)
    assert after.expires_at == bob.expires_at
    time(MONTHS - 14 * DAY)
    look()
    assert told() == ["ending-14d"]
    time(14 * DAY)
    look()
    assert fresh(bob).suspended_at == clock.now()
    time(GRACE - DAY)
    look()
    assert sorted(told()) == ["deletion", "ending-14d", "suspended"]


def test_a_clock_that_goes_back_does_nothing_twice(bob, look, time, time_machine):
    for seconds in (MONTHS - 7 * DAY, 7 * DAY, GRACE - DAY):
        time(seconds)
        look()
    before, suspended_at = told(), fresh(bob).suspended_at
    time_machine.forward(-100)
    assert str(look()) == "nothing was due"
    time_machine.forward(100)
    look()
    assert told() == before
    assert fresh(bob).suspended_at == suspended_at


@pytest.mark.each_database
def test_many_wrongly_suspended_are_all_resumed(this_shop, look, time_machine, monkeypatch):
    monkeypatch.setattr(calendar, "AT_ONCE", 2)
    for number in range(5):
        hosted(this_shop, f"bob{number}")
    time_machine.forward(MONTHS)
    assert look().suspended == 5
    time_machine.forward(-MONTHS)
    assert look().resumed == 5


# -- too many at once --------------------------------------------------------------------


def many(shop, count, term=DAY, paid_msat=98_000):
    facts = {"email": None, "paid_msat": paid_msat}
    names = [f"bob{Account.select().count() + n}" for n in range(count)]
    opened = [hosted(shop, name, term, **facts) for name in names[:1]]
    return opened and opened + copied(opened[0], names[1:])


def copied(account, usernames) -> list[Account]:
    """Copies of an account, which is quicker than opening more."""
    [facts] = Account.select().where(Account.id == account.id).dicts()
    rows = list(Service.select().where(Service.account == account).dicts())
    alike, theirs = [], []
    for username in usernames:
        alike.append(facts | {"id": username, "username": username})
        for row in rows:
            name = row["name"].replace(account.username, username)
            of_client = f"ls_{username}" if row["kind"] == "client" else name
            theirs.append(row | {"account": username, "name": of_client})
    for table, copies in ((Account, alike), (Service, theirs)):
        for batch in chunked(copies, 50):
            table.insert_many(batch).execute()
    return list(Account.select().where(Account.id << usernames).order_by(Account.id))


@pytest.mark.each_database
def test_a_sweep_closes_ten_an_hour_or_all_once_the_operator_agrees(this_shop, look, time, caplog):
    earliest = [many(this_shop, 1, DAY + n)[0] for n in range(22)]
    time(DAY + 22)
    assert look().suspended == 22
    time(DAY + 22 - INVOICE)
    assert look().last_calls == 10
    assert [each.id for each in earliest if fresh(each).last_call_at] == [
        each.id for each in earliest[:10]
    ]
    assert look().last_calls == 0
    assert caplog.text.count("accounts that wait to be closed: 12") == 1
    assert "accounts that wait to be closed: 12" in calendar.problems(this_shop)[0]
    time(INVOICE)
    assert look().closing == 10
    time(HOUR - INVOICE)
    assert look().last_calls == 10
    assert look(yes=True).last_calls == 2
    assert calendar.problems(this_shop) == []
    time(INVOICE)
    assert look().closing == 12


@pytest.mark.each_database
@pytest.mark.parametrize(("cheap", "dear", "called"), [(11, 20, 11), (31, 20, 31), (0, 120, 12)])
def test_a_sweep_weighs_what_was_paid(this_shop, look, time, cheap, dear, called):
    """Many hostings that cost a sat must not hold up other closings."""
    stay = many(this_shop, dear, MONTHS)
    due = many(this_shop, cheap, DAY, 1000)
    if not due:
        due = stay
        Account.update(expires_at=clock.now() + DAY).execute()
    time(DAY)
    look()
    time(DAY - INVOICE)
    assert look().last_calls == called


def test_what_an_hour_allows_is_counted_over_all_passes_and_workers(this_shop, look, time):
    for n in range(20):
        many(this_shop, 1, DAY + n % 2 * 60)
    time(DAY + 60)
    look()
    time(DAY - INVOICE - 60)
    assert look().last_calls == 10
    time(120)
    assert look().last_calls == 0
    time(HOUR - 120)
    assert look().last_calls == 10


def test_the_rest_goes_on_while_closings_wait(this_shop, look, time):
    many(this_shop, 21)
    time(DAY)
    look()
    bob = hosted(this_shop, "bob", DAY - INVOICE)
    time(DAY - INVOICE)
    assert str(look()) == "1 notices written, 1 suspended, 10 about to be closed"
    time(60)
    waits = Account.get(Account.last_call_at.is_null() & (Account.username != "bob"))
    accounts.block(waits.id, "spam")
    Account.update(email="waits@example.org").where(Account.id == waits.id).execute()
    assert str(look()) == "1 notices written"
    assert str(look()) == "nothing was due"
    assert fresh(bob).suspended_at


def test_a_sweep_that_is_over_is_no_problem_any_more(this_shop, look, time):
    many(this_shop, 11)
    time(DAY)
    look()
    time(DAY - INVOICE)
    assert look().held
    Account.update(expires_at=clock.now() + DAY, calendar_at=clock.now()).where(
        Account.last_call_at.is_null()
    ).execute()
    look()
    assert calendar.problems(this_shop) == []


@with_settings(GRACE_DAYS="0")
def test_a_sweep_without_grace_is_suspended_all_the_same(this_shop, look, time):
    many(this_shop, 21)
    time(DAY)
    passed = look()
    assert (passed.suspended, passed.last_calls) == (21, 10)
    assert str(look()) == "nothing was due"


# -- what one sat buys -------------------------------------------------------------------


def test_one_sat_a_fortnight_does_not_keep_a_large_hosting(this_shop, look, time):
    """Two weeks of 100 MB, then 5 GB for the last ten minutes, then tips of one sat."""
    bob = hosted(this_shop, "bob", 14 * DAY, value_msat=98_000)
    time(14 * DAY - 600)
    renew(this_shop, bob, lambda held: held.resize(1000, 105_000, 1095 * DAY), Size(5000))
    left = fresh(bob).expires_at - clock.now()
    assert left < HOUR
    # 99 sat buys less than a day of 5 GB.
    assert ledger.grace_seconds(this_shop, fresh(bob)) < DAY
    for _ in range(3):
        time(left)
        look()
        time(ledger.grace_seconds(this_shop, fresh(bob)) - INVOICE - 1)
        look()
        renew(this_shop, bob, lambda held: held.buy(1000, 105_000, 1095 * DAY))
        left = fresh(bob).expires_at - clock.now()
        assert ledger.grace_seconds(this_shop, fresh(bob)) == HOUR


def test_a_tip_of_one_sat_gives_a_grace_period_of_its_own_length(this_shop, look, time):
    bob = hosted(this_shop, "bob", 90 * DAY)
    time(90 * DAY + DAY)
    renew(this_shop, bob, lambda held: held.buy(1000, 7000, 1095 * DAY))
    assert ledger.grace_seconds(this_shop, fresh(bob)) == DAY // 7
    renew(this_shop, bob, lambda held: held.buy(7000, 7000, 1095 * DAY))
    assert ledger.grace_seconds(this_shop, fresh(bob)) == DAY // 7 + DAY


def test_a_strangers_sat_does_not_bring_the_deletion_forward(this_shop, look, time):
    bob = hosted(this_shop, "bob", 365 * DAY, value_msat=365 * 105_000, space_mb=5000)
    closes_at = bob.expires_at + GRACE
    time(365 * DAY + HOUR)
    look()
    for _ in range(2):
        renew(this_shop, bob, lambda held: held.buy(1000, 105_000, 1095 * DAY))
        assert ledger.closes_at(this_shop, fresh(bob)) == closes_at
        time(DAY)
        look()
        assert fresh(bob).suspended_at
    time(closes_at - clock.now() - INVOICE)
    assert look().last_calls == 1
    renew(this_shop, bob, lambda held: held.buy(1000, 105_000, 1095 * DAY))
    time(2 * HOUR)
    assert look().last_calls == 1


def test_a_grace_period_is_not_kept_with_a_larger_size(this_shop, look, time):
    bob = hosted(this_shop, "bob", 14 * DAY, value_msat=98_000)
    time(14 * DAY + HOUR)
    look()
    renew(this_shop, bob, lambda held: held.buy(1000, 7000, 1095 * DAY))
    renew(this_shop, bob, lambda held: held.resize(1000, 105_000, 1095 * DAY), Size(5000))
    assert ledger.closes_at(this_shop, fresh(bob)) <= clock.now() + 2 * HOUR


def renew(shop, account, buy, size=None) -> None:
    with models.transaction():
        holding = buy(ledger.holding(fresh(account)))
        accounts.renew(shop, fresh(account), holding, size)


# -- a clock that is ahead ---------------------------------------------------------------


AHEAD = 200 * DAY


def test_a_payment_counts_from_when_the_node_had_it(this_shop, alice, wallet, worker, time_machine):
    order = extend(this_shop, alice, 1)
    wallet.pay(order.bolt11)
    record_payments(worker)
    time_machine.forward(AHEAD)
    payments.apply(this_shop, order.token)
    assert fresh(alice).expires_at == alice.expires_at + DAY


@pytest.fixture
def paid_ahead(this_shop, look, wallet, worker, time_machine):
    """Pay for one more day while the clock is ahead, of which the calendar knows."""

    def pay(account, days_later=0) -> Order:
        paid_before(account)
        time_machine.forward(days_later * DAY)
        time_machine.forward(AHEAD)
        look()
        order = extend(this_shop, account, 1)
        wallet.pay(order.bolt11)  # the node's clock is ahead, too
        record_payments(worker)
        payments.apply(this_shop, order.token)
        time_machine.forward(-AHEAD)
        look()
        return order

    return pay


@pytest.mark.parametrize("term", [MONTHS, DAY])
def test_a_payment_while_the_clock_was_ahead_counts_from_now(this_shop, paid_ahead, term):
    bob = hosted(this_shop, "bob", term, value_msat=term // DAY * 7000)
    is_over = term == DAY
    paid_ahead(bob, days_later=2)
    end = clock.now() + DAY if is_over else bob.expires_at + DAY
    assert abs(fresh(bob).expires_at - end) <= 1
    assert ledger.holding(fresh(bob)).value_msat == pytest.approx(
        (end - clock.now()) * 7000 / DAY, rel=0.01
    )
    assert fresh(bob).suspended_at is None


def paid_before(account) -> None:
    moment = clock.now()
    facts = {"placed_at": moment, "expires_at": moment, "paid_at": moment, "applied_at": moment}
    facts |= {"bought_seconds": 1, "ends_at": account.expires_at, "node_id": "02", "pay_index": 1}
    facts |= {"payment_hash": "0" * 64, "received_msat": 1, "amount_msat": 1, "space_mb": 100}
    Order.create(token="f" * 32, kind="open", account=account, **facts)


def test_a_hosting_set_up_while_the_clock_was_ahead_begins_now(this_shop, look, time_machine):
    account = open_account(this_shop, "carol")
    time_machine.forward(AHEAD)
    look()
    reconcile.account(this_shop, account.id)
    time_machine.forward(-AHEAD)
    look()
    carol = fresh(account)
    assert carol.ready_at == carol.valued_at == clock.now()
    assert carol.expires_at == clock.now() + MONTHS


def test_a_long_time_keeps_its_end_though_the_clock_was_ahead(this_shop, paid_ahead):
    bob = hosted(this_shop, "bob", 730 * DAY, value_msat=730 * 7000)
    order = paid_ahead(bob)
    after = fresh(bob)
    assert after.expires_at == Order.get_by_id(order.token).ends_at == bob.expires_at + DAY
    assert after.value_msat == pytest.approx(731 * 7000, rel=0.01)


def test_time_that_only_seemed_over_does_not_count_as_unpaid(bob, paid_ahead):
    paid_ahead(bob)
    assert ledger.paid_seconds(fresh(bob)) == MONTHS + DAY


def test_a_hosting_set_up_between_two_passes_by_a_clock_ahead_begins_now(
    this_shop, look, wallet, worker, time_machine
):
    order = orders.place(this_shop, wish(username="carol"))
    wallet.pay(order.bolt11)
    record_payments(worker)
    payments.apply(this_shop, order.token)
    time_machine.forward(AHEAD)
    reconcile.account(this_shop, Account.get().id)
    time_machine.forward(-AHEAD)
    look()
    assert Order.get().ends_at == Account.get().expires_at == clock.now() + MONTHS


def test_what_gets_ready_while_its_time_is_set_back_has_all_of_it(this_shop, look, time_machine):
    time_machine.forward(2 * HOUR)
    look()
    as_read = open_account(this_shop, "carol")
    Service.update(applied_at=clock.now()).where(Service.account == as_read.id).execute()
    time_machine.forward(-2 * HOUR)
    look()
    accounts.begin_paid_time(this_shop, as_read)
    carol = fresh(as_read)
    assert carol.ready_at == carol.valued_at == clock.now()
    assert carol.expires_at == clock.now() + MONTHS


def test_what_was_set_up_and_valued_again_by_a_clock_ahead_has_all_its_time(
    this_shop, look, time_machine
):
    time_machine.forward(2 * HOUR)
    look()
    carol = hosted(this_shop, "carol")
    time_machine.forward(60)
    renew(this_shop, carol, lambda held: held.buy(100, 7000, 1095 * DAY))
    time_machine.forward(-2 * HOUR)
    paid = ledger.paid_seconds(fresh(carol))
    look()
    assert ledger.paid_seconds(fresh(carol)) == paid > MONTHS


def test_killed_before_time_is_taken_back_the_next_pass_takes_it(this_shop, look, time_machine):
    time_machine.forward(2 * HOUR)
    look()
    carol = hosted(this_shop, "carol")
    time_machine.forward(-2 * HOUR)
    clock_watch.wake()
    assert fresh(carol).valued_at > clock.now()
    look()
    assert fresh(carol).valued_at == clock.now()
    assert fresh(carol).expires_at == clock.now() + MONTHS


def test_a_size_chosen_by_a_clock_that_was_ahead_makes_no_time(this_shop, look, time_machine):
    bob = hosted(this_shop, "bob")
    paid_before(bob)
    time_machine.forward(60 + 2 * HOUR)
    look()
    renew(this_shop, bob, lambda held: held.resize(1000, 70_000, 1095 * DAY), Size(1000))
    time_machine.forward(-2 * HOUR)
    look()
    assert ledger.holding(fresh(bob)).seconds == pytest.approx(MONTHS / 10, rel=0.01)
    assert ledger.holding(fresh(bob)).value_msat == pytest.approx(bob.value_msat, rel=0.01)


# -- a clock that is behind --------------------------------------------------------------


BEHIND = 40 * DAY


def test_a_box_that_starts_with_a_wrong_clock_costs_nobody_time(
    this_shop, look, time, time_machine
):
    bob = hosted(this_shop, "bob", 30 * DAY)
    paid_before(bob)
    for days_off in (0, 1, 1):
        time(DAY)
        look()
        time_machine.forward(-BEHIND)
        look()
        time_machine.forward(BEHIND + days_off * DAY)
        look()
    assert (fresh(bob).expires_at, fresh(bob).suspended_at) == (bob.expires_at, None)
    assert not clock_watch.latest()


def test_a_hosting_set_up_by_a_clock_behind_begins_when_it_was_opened(
    this_shop, look, time_machine
):
    account = open_account(this_shop, "carol")
    time_machine.forward(-BEHIND)
    reconcile.account(this_shop, account.id)
    time_machine.forward(BEHIND)
    look()
    assert fresh(account).expires_at == clock.now() + MONTHS


def test_a_payment_while_the_clock_is_behind_counts_from_when_it_was_right(
    this_shop, bob, look, time, wallet, worker, time_machine
):
    time(MONTHS + 3 * DAY)
    look()
    time_machine.forward(-200 * DAY)
    look()
    # The node's clock is behind, too.
    renewed = extend(this_shop, bob, 1)
    opened = orders.place(this_shop, wish(username="carol"))
    for order in (renewed, opened):
        wallet.pay(order.bolt11)
    work(worker)
    assert "if it is right now" in calendar.problems(this_shop)[0]
    time_machine.forward(200 * DAY)
    look()
    carol = Account.get(username="carol")
    assert (fresh(bob).expires_at, fresh(bob).suspended_at) == (clock.now() + DAY, None)
    assert carol.ready_at == clock.now()
    assert carol.expires_at == clock.now() + MONTHS


def test_the_operator_may_say_that_the_clock_was_ahead_from_the_start(look, time_machine):
    time_machine.forward(-BEHIND)
    look()
    assert clock_watch.latest()
    look(yes=True)
    assert not clock_watch.latest()


# -- blocked -----------------------------------------------------------------------------


def test_a_blocked_account_is_told_the_reason_and_nothing_else(bob, look, time):
    accounts.block(bob.id, "phishing")
    look()
    for seconds in (MONTHS - 7 * DAY, 7 * DAY, GRACE - DAY, DAY - INVOICE, INVOICE):
        time(seconds)
        look()
    assert told() == ["blocked"]
    assert told("mailbox") == []
    assert "phishing" in Notice.get().body
    assert fresh(bob).closing_at


def test_a_waiting_mail_is_not_sent_after_a_block_or_a_payment(
    this_shop, alice, look, time, wallet, worker
):
    def waiting():
        return {row.kind for row in Notice.select().where(Notice.try_at.is_null(False))}

    Account.update(email="alice@example.org").execute()
    time(MONTHS - DAY)
    look()
    assert waiting() == {"ending-1d"}
    order = extend(this_shop, alice)
    wallet.pay(order.bolt11)
    work(worker)
    assert waiting() == set()
    time(30 * DAY)
    look()
    accounts.block(alice.id, "phishing")
    look()
    assert waiting() == {"blocked"}


def test_an_owner_who_closes_gets_no_mail_about_the_end(this_shop, alice, worker, panel):
    Account.update(email="alice@example.org").execute()
    accounts.close(alice.id)
    work(worker)
    body = Notice.get(Notice.kind == "deleted").body
    assert "was closed by somebody with access" in body
    assert "paid time" not in body


def test_a_blocked_account_is_deleted_without_a_mail(this_shop, alice, worker, panel):
    Account.update(email="alice@example.org").execute()
    accounts.block(alice.id, "phishing")
    accounts.close(alice.id)
    work(worker)
    assert Account.select().count() == 0
    assert told() == []


def test_an_account_blocked_before_it_is_ready_is_told_at_once(this_shop, look):
    bob = open_account(this_shop, "bob")
    Account.update(email="bob@example.org").execute()
    accounts.block(bob.id, "phishing")
    look()
    assert told() == ["blocked"]


def test_an_unblocked_account_gets_notices_again(bob, look, time):
    accounts.block(bob.id, "phishing")
    look()
    accounts.unblock(bob.id)
    time(MONTHS)
    look()
    assert told() == ["blocked", "suspended"]


# -- credit ------------------------------------------------------------------------------


@pytest.mark.each_database
def test_credit_becomes_time_once_a_day_as_room_appears(this_shop, look, time):
    horizon, rate = this_shop.config.horizon_seconds, 7000
    bob = hosted(this_shop, "bob", horizon, value_msat=1095 * rate, credit_msat=10 * rate)
    look()
    for day in range(1, 13):
        time(DAY - 1)
        assert look().credited == 0
        time(1)
        assert look().credited == (1 if day <= 10 else 0)
        after = fresh(bob)
        credit = max(0, 10 - day) * rate
        assert after.credit_msat == credit
        holding = ledger.holding(after)
        paid = 1105 * rate - day * rate
        assert paid - day <= holding.worth_msat <= paid
    assert fresh(bob).expires_at == bob.expires_at + 10 * DAY


def test_a_clock_that_jumps_gives_no_credit_away(this_shop, look, time_machine):
    horizon, rate = this_shop.config.horizon_seconds, 7000
    bob = hosted(this_shop, "bob", horizon, value_msat=1095 * rate, credit_msat=100 * rate)
    before = clock.now()
    time_machine.forward(4 * 365 * DAY)
    look()
    time_machine.moment = before
    look()
    after = fresh(bob)
    assert (after.expires_at, after.credit_msat) == (bob.expires_at, bob.credit_msat)
    assert after.suspended_at is None


# -- killed, and together ----------------------------------------------------------------


@pytest.mark.each_database
def test_passes_at_once_do_everything_once(this_shop, time):
    accounts = [hosted(this_shop, f"bob{number}") for number in range(8)]
    time(MONTHS)
    passes = at_once(*[lambda: calendar.run_pass(this_shop)] * 4)
    assert sum(each.suspended for each in passes) == 8
    assert sum(each.notices for each in passes) == 8
    assert Notice.select().count() == 8
    assert {fresh(each).suspended_at for each in accounts} == {clock.now()}


def test_a_fault_undoes_one_account_and_holds_up_no_other(this_shop, look, time, caplog):
    told_of = hosted(this_shop, "alice")
    silent = hosted(this_shop, "bob", email=None)
    time(MONTHS)
    broken = replace(this_shop, vault=None)  # so that making a mail's link fails
    assert str(calendar.run_pass(broken)) == "1 suspended"
    assert caplog.text.count("the calendar failed") == 1
    assert fresh(silent).suspended_at
    assert fresh(told_of).suspended_at is None
    assert str(look()) == "1 notices written, 1 suspended"


class Killed(BaseException):
    pass


@pytest.mark.each_database
def test_a_pass_killed_between_two_accounts_is_continued(this_shop, look, time):
    for number in range(3):
        hosted(this_shop, f"bob{number}")
    time(MONTHS)
    looks = []

    def stopping():
        looks.append(1)
        if len(looks) == 2:
            raise Killed

    with pytest.raises(Killed):
        look(stopping=stopping)
    assert str(look()) == "2 notices written, 2 suspended"
    assert told() == ["suspended"] * 3


def test_a_pass_that_slept_half_way_is_not_continued(
    this_shop, look, time, time_machine, monkeypatch
):
    monkeypatch.setattr(calendar, "AT_ONCE", 1)
    many(this_shop, 3)
    time(DAY)
    look()
    time(DAY - INVOICE)

    def stopping():
        if not time_machine.moment % 2:
            time_machine.forward(DAY + 1)

    assert look(stopping=stopping).last_calls == 1
    assert look().last_calls == 0
    assert Account.select().where(Account.last_call_at.is_null(False)).count() == 0


def test_a_worker_minds_the_calendar(this_shop, bob, worker, time_machine):
    time_machine.forward(MONTHS)
    thread = threading.Thread(target=worker.run)
    thread.start()
    eventually(lambda: fresh(bob).suspended_at)
    worker.stop()
    thread.join(20)


# -- what people are shown ---------------------------------------------------------------


def kinds(shop, account) -> list[str]:
    return [kind for kind, _ in calendar.banners(shop, fresh(account))]


def test_the_control_center_shows_what_comes(this_shop, bob, look, time):
    assert kinds(this_shop, bob) == []
    time(MONTHS - 14 * DAY)
    assert calendar.banners(this_shop, fresh(bob)) == [("ending", {"ends_at": bob.expires_at})]
    time(14 * DAY)
    look()
    closes_at = bob.expires_at + GRACE
    assert calendar.banners(this_shop, fresh(bob)) == [("suspended", {"closes_at": closes_at})]
    time(GRACE - INVOICE)
    look()
    assert calendar.banners(this_shop, fresh(bob)) == [("last_call", {"closes_at": closes_at})]
    time(INVOICE)
    look()
    assert kinds(this_shop, bob) == ["closing"]
    wanted_again = {"closing_at": None, "last_call_at": None, "expires_at": clock.now() + MONTHS}
    Account.update(wanted_again | {"credit_msat": 5}).execute()
    assert kinds(this_shop, bob) == ["credit"]
    accounts.block(bob.id, "phishing")
    why = {"reason": "phishing", "blocked_for": "other"}
    assert calendar.banners(this_shop, fresh(bob)) == [("blocked", why)]


@pytest.mark.each_database
@pytest.mark.parametrize("grace_days", [0, 1, 14])
def test_the_database_knows_the_same_grace(this_shop, bob, grace_days):
    shop = replace(this_shop, config=replace(this_shop.config, grace_days=grace_days))
    for term in (0, 1, HOUR, 2 * HOUR, DAY, 14 * DAY, 14 * DAY + 1, MONTHS):
        Account.update(expires_at=bob.ready_at + term).execute()
        known = Account.select(ledger.grace_in_sql(shop)).scalar()
        assert known == ledger.grace_seconds(shop, fresh(bob)), term
        for kept_until in (None, bob.ready_at + DAY):
            Account.update(kept_until=kept_until).execute()
            for since in (0, bob.ready_at + 3 * HOUR):
                known = Account.select(ledger.closes_at_in_sql(shop, since)).scalar()
                assert known == ledger.closes_at(shop, fresh(bob), since), (term, kept_until, since)
