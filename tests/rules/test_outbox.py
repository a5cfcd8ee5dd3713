"""Mails are written once, sent, and forgotten."""

import threading
from dataclasses import replace

import pytest
from jinja2 import UndefinedError

from lightningspace.base import clock, models
from lightningspace.base.models import Account, MailPlace, Notice, Service, transaction
from lightningspace.panel import reconcile
from lightningspace.rules import accounts, outbox, wanted
from lightningspace.worker import Worker
from tests.conftest import at_once, eventually, open_account, with_mail

ENDS = 1_801_400_400  # 2027-01-31 13:00 UTC
FACTS = {
    "ending": {},
    "suspended": {},
    "deletion": {},
    "deleted": {"by_owner": False},
    "blocked": {"reason": "spam\nand more"},
    "domain": {"name": "alice.example", "record": "TXT", "until": ENDS},
    "confirm": {"link": "http://localhost/x", "until": ENDS},
    "recovery": {"opens_at": ENDS},
    "wallet": {},
}


@pytest.fixture
def env(env):
    return {"SMTP_URL": "smtp://localhost:9"} | env


@pytest.fixture
def alice(this_shop) -> Account:
    return with_email(open_account(this_shop, "alice"))


def with_email(account: Account) -> Account:
    address = f"{account.username}@example.org"
    Account.update(email=address, expires_at=ENDS).where(Account.id == account.id).execute()
    return Account.get_by_id(account.id)


def write(shop, account, kind="ending", about=ENDS, **facts) -> bool:
    with transaction():
        return outbox.write(shop, account, kind, about, **facts)


@pytest.mark.each_database
def test_a_mail_is_written_once_for_what_it_is_about(this_shop, alice):
    assert write(this_shop, alice)
    assert not write(this_shop, alice)
    assert write(this_shop, alice, about=ENDS + 1)
    assert write(this_shop, alice, kind="suspended")
    assert write(this_shop, with_email(open_account(this_shop, "bob")))
    assert Notice.select().count() == 4


def test_a_mail_is_undone_with_what_it_speaks_of(this_shop, alice):
    with pytest.raises(ZeroDivisionError), transaction():
        outbox.write(this_shop, alice, "ending", ENDS)
        1 / 0  # noqa: B018
    assert Notice.select().count() == 0
    with pytest.raises(RuntimeError):
        outbox.write(this_shop, alice, "ending", ENDS)


@pytest.mark.each_database
def test_mails_that_customers_can_cause_are_limited_per_day(this_shop, alice, time_machine):
    assert sum(write(this_shop, alice, about=about) for about in range(30)) == outbox.PER_DAY
    assert not write(this_shop, alice, "domain", name="x", record="MX", until=clock.now())
    assert write(this_shop, with_email(open_account(this_shop, "bob")))
    time_machine.forward(86399)
    assert not write(this_shop, alice, about=30)
    time_machine.forward(1)
    assert write(this_shop, alice, about=30)


@pytest.mark.each_database
def test_mails_to_a_recipient_are_limited_over_all_accounts(this_shop):
    accounts = [open_account(this_shop, f"bob{number}") for number in range(4)]
    Account.update(expires_at=ENDS).execute()

    def write_some(account, address):
        ordinary = [("ending", about) for about in range(8)]
        kept = [(kind, about) for kind in outbox.KEPT_PER_DAY for about in range(8)]
        return sum(
            write(this_shop, account, kind, about, recipient=address, **FACTS[kind])
            for kind, about in ordinary + kept
        )

    addresses = ("eve@example.org", "EVE@example.org", "e.ve@example.org", "eve+x@example.org")
    accounts = [Account.get_by_id(account.id) for account in accounts]
    each = [
        lambda account=account, address=address: write_some(account, address)
        for account, address in zip(accounts, addresses, strict=True)
    ]
    assert sum(at_once(*each)) == outbox.PER_DAY + sum(outbox.KEPT_PER_DAY.values())
    counts = {kind: Notice.select().where(Notice.kind == kind).count() for kind in FACTS}
    assert {kind: counts[kind] for kind in outbox.KEPT_PER_DAY} == outbox.KEPT_PER_DAY


def test_other_mails_do_not_use_up_an_owners_warnings(this_shop, alice):
    """Neither mails of other hostings to the same address, nor mails of other kinds."""
    bob = with_email(open_account(this_shop, "bob"))
    to = {"recipient": "alice@example.org"}
    for about in range(30):
        for each in FACTS:
            write(this_shop, alice, each, about, **FACTS[each], **to)
    for kind in ("suspended", "deletion", "recovery"):
        assert write(this_shop, bob, kind, **FACTS[kind], **to), kind


def test_mails_written_before_do_not_count(this_shop, alice):
    for about in [1] * 30 + [2]:
        write(this_shop, alice, "suspended", about)
    assert Notice.select().count() == 2


def test_recipients_are_kept_for_a_day_as_a_hash(this_shop, alice, time_machine):
    write(this_shop, alice)
    assert "example" not in MailPlace.get().for_whom
    time_machine.forward(86399)
    outbox.forget_places()
    assert MailPlace.select().count() == 1
    time_machine.forward(1)
    outbox.forget_places()
    assert MailPlace.select().count() == 0


def test_mails_counted_by_a_wrong_clock_do_not_count(this_shop, alice, time_machine):
    time_machine.forward(10 * 365 * 86400)
    for about in range(30):
        write(this_shop, alice, about=about)
    time_machine.forward(-10 * 365 * 86400)
    assert write(this_shop, alice)


def test_an_account_without_an_address_gets_no_mail(this_shop, alice):
    Account.update(email=None).execute()
    assert not write(this_shop, Account.get_by_id(alice.id))
    assert Notice.select().count() == 0


def test_a_shop_without_a_mail_server_writes_none(this_shop, alice):
    without = replace(this_shop, config=replace(this_shop.config, smtp_url=""))
    assert not write(without, alice)
    assert Notice.select().count() == 0


def test_a_mail_says_what_and_until_when_and_has_one_next_step(this_shop, alice, time_machine):
    time_machine.moment = ENDS - 3 * 86400
    write(this_shop, alice)
    mail = Notice.get()
    assert mail.subject == "alice.shop.test ends in 3 days"
    assert "2027-01-31 13:00 UTC" in mail.body
    # After 14 days of grace.
    assert "2027-02-14 13:00 UTC" in mail.body
    assert mail.body.count("http") == 2
    assert "\nhttp://localhost/account/extend\n" in mail.body
    end = f"\n\nTo get no more of these mails:\n{mail.unsubscribe}\n\n-- \nlocalhost\n"
    assert mail.body.endswith(end)


def test_a_mail_promises_no_grace_period_where_there_is_none(this_shop, alice):
    write(this_shop, alice, closes_at=ENDS)
    assert "kept" not in Notice.get().body and "deleted" in Notice.get().body


@pytest.mark.parametrize("kind", FACTS)
def test_every_mail_is_plain_text_with_a_subject(this_shop, alice, kind):
    assert write(this_shop, alice, kind, **FACTS[kind])
    mail = Notice.get()
    assert ("alice" in mail.subject) == (kind != "confirm") and len(mail.subject) < 78
    assert mail.body.startswith("Hello,\n\n")
    assert not any(len(line) > 78 for line in mail.body.splitlines() if "http" not in line)
    assert "\n\n\n" not in mail.body and "&" not in mail.body
    assert ("stop" in mail.body) == bool(mail.unsubscribe) == (kind in outbox.REMINDERS)


def test_every_kind_has_its_template():
    kinds = {*FACTS, "problems", "week"}  # the last two: tests/operator/test_telling.py
    assert {path.stem for path in outbox.TEMPLATES.glob("[a-z]*.txt")} == kinds


def test_a_missing_value_in_a_template_raises(this_shop, alice):
    with pytest.raises(UndefinedError):
        write(this_shop, alice, "domain", name="alice.example")


def test_the_mailbox_gets_the_same_text_without_a_way_to_end_it(this_shop, alice):
    assert write(this_shop, alice, channel="mailbox")
    mail = Notice.get()
    assert mail.recipient == "info@alice.shop.test"
    assert (mail.unsubscribe, "stop" in mail.body) == (None, False)
    assert write(this_shop, alice)  # the mail to the other channel is separate


def test_an_account_without_a_mailbox_gets_nothing_there(this_shop, alice):
    Account.update(ready_at=clock.now()).execute()
    wanted.remove(alice.id, "mailbox", "info@alice.shop.test")
    assert not write(this_shop, alice, channel="mailbox")


def test_a_closed_accounts_mails_are_deleted_unless_still_to_be_sent(this_shop, panel, alice):
    write(this_shop, alice)
    Notice.update(try_at=None, sent_at=clock.now()).execute()
    write(this_shop, alice, "deleted", by_owner=False)
    accounts.close(alice.id)
    reconcile.account(this_shop, alice.id)
    assert [mail.kind for mail in Notice.select()] == ["deleted"]
    assert models.Account.select().count() == 0


# -- sending ---------------------------------------------------------------------------


def send(shop) -> int:
    return outbox.send_due(shop)


@with_mail
def test_a_mail_is_sent_once_and_forgotten(time_machine, this_shop, alice, mails):
    write(this_shop, alice)
    written = Notice.get()
    assert send(this_shop) == 1
    [mail] = mails.received
    assert (mail.recipient, mail.subject) == (written.recipient, written.subject)
    assert mail.text == written.body
    assert mail.message["List-Unsubscribe"] == f"<{written.unsubscribe}>"
    row = Notice.get()
    assert row.sent_at == clock.now()
    assert row.error is row.try_at is None
    assert row.recipient is row.subject is row.body is row.unsubscribe is None
    assert send(this_shop) == 0
    assert not write(this_shop, alice)  # not twice about the same


@with_mail
def test_a_sent_mail_of_a_deleted_account_leaves_nothing(this_shop, alice, mails):
    write(this_shop, alice, "deleted", by_owner=False)
    forget(alice)
    assert send(this_shop) == 1
    assert Notice.select().count() == 0


@with_mail
def test_a_mail_that_is_not_true_any_more_is_not_sent(this_shop, alice, mails):
    write(this_shop, alice)
    write(this_shop, alice, "blocked", reason="spam")
    with transaction():
        outbox.withdraw(alice.id, "ending", "suspended")
    assert send(this_shop) == 1
    assert "blocked" in mails.received[0].subject
    assert not write(this_shop, alice)


@pytest.mark.each_database
@with_mail
def test_workers_that_look_at_once_send_each_mail_once(this_shop, alice, mails):
    for about in range(20):
        write(this_shop, alice, about=about)
    mails.faults.set("slow", "RCPT", seconds=0.01)
    assert sum(at_once(*[lambda: send(this_shop)] * 3)) == 20
    assert len(mails.received) == 20


@with_mail
def test_a_mail_sent_again_after_a_crash_has_the_same_message_id(
    this_shop, alice, mails, time_machine
):
    write(this_shop, alice)
    row = Notice.get()
    assert outbox._claim(row)
    outbox._send(this_shop, row)  # the worker is killed after this
    assert send(this_shop) == 0
    time_machine.forward(outbox.CLAIM_SECONDS)
    assert send(this_shop) == 1
    first, second = mails.received
    assert first.message["Message-ID"] == second.message["Message-ID"]
    time_machine.forward(86400)
    assert send(this_shop) == 0


@with_mail
def test_a_worker_that_died_before_sending_loses_nothing(this_shop, alice, mails, time_machine):
    write(this_shop, alice)
    assert outbox._claim(Notice.get())
    time_machine.forward(outbox.CLAIM_SECONDS)
    assert send(this_shop) == 1
    assert len(mails.received) == 1


@pytest.mark.each_database
@with_mail
def test_a_worker_that_comes_late_does_not_undo_what_another_did(this_shop, alice, mails):
    write(this_shop, alice)
    late = Notice.get()
    assert outbox._claim(late)
    Notice.update(try_at=clock.now()).execute()
    assert send(this_shop) == 1
    outbox._note_failure(late, "it took too long")
    assert Notice.get().try_at is None


@with_mail
def test_one_bad_address_holds_up_nobody(this_shop, alice, mails, caplog):
    bob = with_email(open_account(this_shop, "bob"))
    write(this_shop, alice)
    write(this_shop, bob)
    mails.refused["alice@example.org"] = "450 4.2.0 <alice@example.org> is greylisted"
    assert send(this_shop) == 1
    assert mails.received[0].recipient == "bob@example.org"
    waiting = Notice.get(Notice.account_id == alice.id)
    assert waiting.try_at == pytest.approx(clock.now() + 60, abs=2)
    assert waiting.error == "the mail server answered 450 to the recipient"
    assert "example.org" not in caplog.text


@with_mail
def test_an_address_that_is_refused_for_good_is_given_up_at_once(this_shop, alice, mails, caplog):
    write(this_shop, alice)
    mails.refused["alice@example.org"] = "550 5.1.1 <alice@example.org> unknown"
    assert send(this_shop) == 0
    row = Notice.get()
    assert (row.try_at, row.sent_at, row.recipient, row.body) == (None, None, None, None)
    assert row.error == "the mail server answered 550 to the recipient"
    assert f"account {alice.id}: ending mail given up" in caplog.text
    assert caplog.records[-1].levelname == "ERROR"
    assert "example.org" not in caplog.text
    assert not write(this_shop, alice)


@with_mail
def test_waits_grow_and_end_after_five_days(this_shop, alice, mails, time_machine, caplog):
    write(this_shop, alice)
    mails.refused["alice@example.org"] = "450 later"
    waits = []
    while (at := Notice.get().try_at) is not None:
        waits.append(at - clock.now())
        time_machine.forward(waits[-1])
        send(this_shop)
    assert waits[:5] == [0, 60, 120, 240, 480]
    assert waits[-1] == 6 * 60 * 60
    assert 5 * 86400 <= sum(waits) <= 5.25 * 86400
    assert Notice.get().recipient is None
    assert caplog.text.count("ERROR") == 1


@with_mail
def test_mails_that_wait_for_an_hour_are_a_problem(this_shop, alice, mails, runner, time_machine):
    write(this_shop, alice)
    mails.refused["alice@example.org"] = "450 later"
    send(this_shop)
    assert runner.invoke(args=["problems"]).output == ""
    time_machine.forward(3600)
    said = runner.invoke(args=["problems"]).output
    assert said.startswith("mails not sent: 1, the first since ")
    assert said.endswith(" UTC: the mail server answered 450 to the recipient\n")
    mails.refused.clear()
    send(this_shop)
    assert runner.invoke(args=["problems"]).output == ""


@with_mail
def test_a_given_up_mail_of_a_deleted_account_is_deleted(this_shop, alice, mails):
    write(this_shop, alice, "deleted", by_owner=False)
    forget(alice)
    mails.refused["alice@example.org"] = "550 no"
    send(this_shop)
    assert Notice.select().count() == 0


@with_mail
def test_a_server_that_is_down_is_asked_once_a_minute(this_shop, alice, mails, time_machine):
    for about in range(5):
        write(this_shop, alice, about=about)
    mails.faults.set("refuse", "MAIL", message="451 later")
    for _ in range(6):
        send(this_shop)
        time_machine.forward(10)
    assert Notice.select().where(Notice.tries == 1).count() == 1
    assert Notice.select().where(Notice.tries == 0).count() == 4
    mails.faults.clear()
    assert send(this_shop) == 5


@with_mail
def test_mails_that_make_the_server_hang_up_do_not_hold_up_new_ones(
    this_shop, alice, mails, time_machine
):
    mails.refused["alice@example.org"] = "421 bye"
    for about in range(5):
        write(this_shop, alice, about=about)
    for _ in range(5):
        send(this_shop)
        time_machine.forward(60)
    time_machine.forward(3600)
    write(this_shop, with_email(open_account(this_shop, "bob")))
    assert send(this_shop) == 1


def test_a_fault_of_ours_holds_up_nobody(this_shop, alice, caplog):
    class Breaks:
        def send(self, recipient, *mail):
            if recipient.startswith("alice"):
                raise KeyError(recipient)

    write(this_shop, alice)
    write(this_shop, with_email(open_account(this_shop, "bob")))
    assert send(replace(this_shop, mailer=Breaks())) == 1
    assert "our fault: KeyError" in caplog.text and "example.org" not in caplog.text
    assert Notice.get(Notice.account_id == alice.id).try_at > clock.now()


@with_mail
def test_a_mail_put_off_by_a_wrong_clock_is_due(this_shop, alice, mails, time_machine):
    time_machine.forward(10 * 365 * 86400)
    write(this_shop, alice)
    time_machine.forward(-10 * 365 * 86400)
    assert send(this_shop) == 1


def test_without_a_mail_server_nothing_stays_for_ever(this_shop, alice, time_machine):
    write(this_shop, alice)
    without = replace(this_shop, mailer=None)
    assert send(without) == 0
    time_machine.forward(outbox.GIVE_UP_SECONDS)
    send(without)
    assert Notice.get().recipient is None


@with_mail
def test_a_round_ends_between_two_mails(this_shop, alice, mails):
    for about in range(3):
        write(this_shop, alice, about=about)
    assert outbox.send_due(this_shop, stopping=lambda: bool(mails.received)) == 1


@with_mail
def test_the_worker_sends_what_is_due(this_shop, alice, mails):
    write(this_shop, alice)
    worker = Worker(this_shop)
    thread = threading.Thread(target=worker.run)
    thread.start()
    eventually(lambda: mails.received)
    worker.stop()
    thread.join(20)


def forget(account: Account) -> None:
    Service.delete().execute()
    Account.delete().where(Account.id == account.id).execute()
