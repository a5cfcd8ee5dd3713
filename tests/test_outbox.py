"""Mails are written once, sent, and forgotten."""

from dataclasses import replace

import pytest
from jinja2 import UndefinedError

from lightningspace import clock, hosting, models, outbox, wanted
from lightningspace.models import Account, Notice, transaction
from tests.conftest import open_account

ENDS = 1_801_400_400  # 2027-01-31 13:00 UTC
FACTS = {
    "ending": {},
    "suspended": {},
    "deletion": {},
    "deleted": {},
    "blocked": {"reason": "spam\nand more"},
    "domain": {"name": "alice.example", "record": "TXT", "until": ENDS},
    "confirm": {"link": "http://localhost/x", "until": ENDS},
}


@pytest.fixture
def env(env):
    return env | {"SMTP_URL": "smtp://localhost:9"}


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


def test_who_gave_no_address_gets_no_mail(this_shop, alice):
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
    # 14 days of grace
    assert "2027-02-14 13:00 UTC" in mail.body
    assert mail.body.count("http") == 2
    assert "\nhttp://localhost/account/extend\n" in mail.body
    assert f"localhost\n\nNo more of these mails:\n{mail.unsubscribe}\n" in mail.body


@pytest.mark.parametrize("kind", FACTS)
def test_every_mail_is_plain_text_with_a_subject(this_shop, alice, kind):
    assert write(this_shop, alice, kind, **FACTS[kind])
    mail = Notice.get()
    assert "alice" in mail.subject and len(mail.subject) < 78
    assert mail.body.startswith("Hello,\n\n")
    assert not any(len(line) > 78 for line in mail.body.splitlines() if "http" not in line)
    assert "\n\n\n" not in mail.body and "&" not in mail.body
    assert ("stop" in mail.body) == bool(mail.unsubscribe) == (kind in outbox.REMINDERS)


def test_every_kind_has_its_template():
    assert {path.stem for path in outbox.TEMPLATES.glob("[a-z]*.txt")} == set(FACTS)


def test_a_fact_that_is_missing_is_a_fault_of_ours(this_shop, alice):
    with pytest.raises(UndefinedError):
        write(this_shop, alice, "domain", name="alice.example")


def test_the_mailbox_gets_the_same_text_without_a_way_to_end_it(this_shop, alice):
    assert write(this_shop, alice, channel="mailbox")
    mail = Notice.get()
    assert mail.recipient == "info@alice.shop.test"
    assert (mail.unsubscribe, "stop" in mail.body) == (None, False)
    assert write(this_shop, alice)  # the other channel is another mail


def test_an_account_without_a_mailbox_gets_nothing_there(this_shop, alice):
    wanted.remove(alice.id, "mailbox", "info@alice.shop.test")
    assert not write(this_shop, alice, channel="mailbox")


def test_a_closed_accounts_mails_go_with_it_but_those_still_to_be_sent(this_shop, panel, alice):
    write(this_shop, alice)
    Notice.update(try_at=None, sent_at=clock.now()).execute()
    write(this_shop, alice, "deleted")
    wanted.close(alice.id)
    hosting.reconcile(this_shop, alice.id)
    assert [mail.kind for mail in Notice.select()] == ["deleted"]
    assert models.Account.select().count() == 0
