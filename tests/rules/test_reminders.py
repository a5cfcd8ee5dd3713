"""The address for reminders: confirmed by a mailed link, removed by the link in any reminder."""

import re
from dataclasses import replace

import pytest

from lightningspace.base import clock
from lightningspace.base.models import Account, Notice, Service, transaction
from lightningspace.base.vault import Vault
from lightningspace.rules import accounts, calendar, invoices, orders, outbox, reminders, sessions
from tests.conftest import at_once, csrf_token, open_account, wish, with_mail, work

NEW = "alice@new.example"
NO_TOKENS = ["x", "x" * 5000, "ü", "\0", "a\0b", "gAAAAAB", "\U0001f600", "..", "%00", "a-b-c", " "]


@pytest.fixture
def env(env):
    return {"SMTP_URL": "smtp://localhost:9"} | env


@pytest.fixture
def alice(this_shop) -> Account:
    account = open_account(this_shop, "alice")
    return with_email(account, "alice@old.example")


def with_email(account: Account, email: str | None) -> Account:
    Account.update(email=email).where(Account.id == account.id).execute()
    return Account.get_by_id(account.id)


def email_of(account: Account) -> str | None:
    return Account.get_by_id(account.id).email


def waits(account: Account) -> str | None:
    return Account.get_by_id(account.id).email_waits


def asks_for(shop, account, email) -> bool:
    try:
        return reminders.request_change(shop, account.id, email)
    except reminders.TooManyMails:
        return False


def asked(shop, account, email=NEW) -> str:
    """Ask to change the address; return the path of the link that is mailed to it."""
    assert reminders.request_change(shop, account.id, email)
    mail = Notice.select().order_by(Notice.about.desc()).first()
    assert mail.recipient == email
    return re.search(r"http://localhost(/reminders/confirm/\S+)", mail.body)[1]


def token(path: str) -> str:
    return path.rpartition("/")[2]


def reminded(shop, account, about=1) -> str:
    """Write the account's next reminder; return the path of the link that ends them."""
    with transaction():
        assert outbox.write(shop, account, "ending", about)
    return Notice.get(Notice.about == about).unsubscribe.removeprefix("http://localhost")


# -- another address ---------------------------------------------------------------------


def test_the_new_address_counts_once_its_owner_has_confirmed(this_shop, alice):
    path = asked(this_shop, alice)
    assert email_of(alice) == "alice@old.example"
    reminders.confirm(this_shop, token(path))
    assert email_of(alice) == NEW


def test_an_account_without_an_address_gets_one(this_shop, alice):
    path = asked(this_shop, with_email(alice, None))
    reminders.confirm(this_shop, token(path))
    assert email_of(alice) == NEW


@pytest.mark.each_database
def test_confirming_twice_is_confirming_once(this_shop, alice):
    path = asked(this_shop, alice)
    at_once(*[lambda: reminders.confirm(this_shop, token(path))] * 3)
    assert reminders.read(this_shop, token(path)).is_done
    assert email_of(alice) == NEW


def test_a_link_expires_after_a_day(this_shop, alice, time_machine):
    path = asked(this_shop, alice)
    time_machine.forward(86400)
    reminders.read(this_shop, token(path))
    time_machine.forward(1)
    with pytest.raises(reminders.UnknownLink, match="valid for a day"):
        reminders.confirm(this_shop, token(path))
    assert email_of(alice) == "alice@old.example"


def test_a_link_expires_when_the_address_is_changed(this_shop, alice):
    first = asked(this_shop, alice)
    second = asked(this_shop, alice, "alice@newer.example")
    reminders.confirm(this_shop, token(second))
    with pytest.raises(reminders.UnknownLink, match="was changed"):
        reminders.confirm(this_shop, token(first))
    third = asked(this_shop, alice, "alice@newest.example")
    reminders.remove(alice.id)
    with pytest.raises(reminders.UnknownLink):
        reminders.confirm(this_shop, token(third))
    assert email_of(alice) is None


def test_a_used_link_expires_when_the_address_is_removed(this_shop, alice):
    path = asked(this_shop, with_email(alice, None))
    reminders.confirm(this_shop, token(path))
    reminders.remove(alice.id)
    with pytest.raises(reminders.UnknownLink, match="was changed"):
        reminders.confirm(this_shop, token(path))

    path = asked(this_shop, alice, "alice@newer.example")
    reminders.confirm(this_shop, token(path))
    reminders.unsubscribe(this_shop, token(reminded(this_shop, Account.get_by_id(alice.id))))
    with pytest.raises(reminders.UnknownLink, match="was changed"):
        reminders.confirm(this_shop, token(path))
    assert email_of(alice) is None


def test_a_link_expires_when_all_sessions_are_ended(this_shop, alice):
    path = asked(this_shop, alice, "thief@example.org")
    with transaction():
        sessions.end_all(alice.id)
    with pytest.raises(reminders.UnknownLink, match="logged out"):
        reminders.confirm(this_shop, token(path))
    assert email_of(alice) == "alice@old.example"


def test_a_link_of_a_hosting_that_is_gone_says_so(this_shop, alice):
    path = asked(this_shop, alice)
    accounts.close(alice.id)
    with pytest.raises(reminders.UnknownLink, match="does not exist"):
        reminders.confirm(this_shop, token(path))


@pytest.mark.parametrize(
    "act", [reminders.read, reminders.confirm, reminders.check_stop, reminders.unsubscribe]
)
def test_an_invalid_link_changes_nothing(this_shop, act):
    for text in ("", *NO_TOKENS, "\ud800"):
        with pytest.raises(reminders.UnknownLink):
            act(this_shop, text)


def test_a_value_sealed_for_something_else_is_no_link(this_shop, alice):
    forged = f'["{alice.id}", "", "eve@example.org", 9999999999]'
    with pytest.raises(reminders.UnknownLink):
        reminders.confirm(this_shop, this_shop.vault.seal(forged))
    other = Vault("another key that is long enough as well").seal(forged, "reminders")
    with pytest.raises(reminders.UnknownLink):
        reminders.confirm(this_shop, other)


def test_links_outlive_a_change_of_the_key(this_shop, alice):
    path, stop = asked(this_shop, alice), reminded(this_shop, alice)
    old = this_shop.config.secret_key
    changed = replace(this_shop, vault=Vault("a new key that is long enough too", (old,)))
    reminders.confirm(changed, token(path))
    assert email_of(alice) == NEW
    with_email(alice, "alice@old.example")
    reminders.unsubscribe(changed, token(stop))
    assert email_of(alice) is None


def test_links_are_limited_to_five_a_day(this_shop, alice, time_machine):
    for number in range(5):
        asked(this_shop, alice, f"alice{number}@example.org")
    with pytest.raises(reminders.TooManyMails):
        reminders.request_change(this_shop, alice.id, NEW)
    bob = open_account(this_shop, "bob")
    assert reminders.request_change(this_shop, bob.id, "bob@example.org")
    time_machine.forward(86400)
    asked(this_shop, alice)


@pytest.mark.each_database
def test_links_are_limited_to_five_even_at_once(this_shop, alice):
    asks = [lambda n=n: asks_for(this_shop, alice, f"alice{n}@example.org") for n in range(8)]
    assert sum(at_once(*asks)) == 5


@pytest.mark.each_database
def test_a_mailbox_gets_one_link_a_day_whoever_asks_at_once(this_shop, time_machine):
    accounts = [open_account(this_shop, f"bob{n}") for n in range(4)]
    ways = ("eve@example.org", "Eve@Example.ORG", "e.v.e@example.org", "eve+bob@example.org")
    asks = [
        lambda account=account, way=way: asks_for(this_shop, account, way)
        for account, way in zip(accounts, ways, strict=True)
    ]
    assert sum(at_once(*asks)) == Notice.select().count() == 1
    time_machine.forward(86399)
    assert not asks_for(this_shop, open_account(this_shop, "carol"), ways[0])
    time_machine.forward(1)
    assert sum(at_once(*asks[1:])) == 1


def test_no_second_link_is_mailed_while_the_first_is_valid(this_shop, alice, time_machine):
    path = asked(this_shop, alice)
    assert reminders.request_change(this_shop, alice.id, NEW)
    assert Notice.select().count() == 1
    reminders.confirm(this_shop, token(path))
    assert reminders.request_change(this_shop, alice.id, NEW)  # the address is in use already
    assert (waits(alice), email_of(alice)) == (None, NEW)


@with_mail
def test_an_address_that_is_refused_waits_without_a_link(this_shop, alice, mails):
    mails.refused[NEW] = "550 5.1.1 unknown"
    asked(this_shop, alice)
    assert reminders.link_ends_at(Account.get_by_id(alice.id))
    outbox.send_due(this_shop)
    assert reminders.link_ends_at(Account.get_by_id(alice.id)) is None
    assert waits(alice) == NEW


@with_mail
def test_confirmations_that_are_over_are_forgotten(this_shop, alice, mails, time_machine):
    asked(this_shop, alice)
    outbox.send_due(this_shop)
    time_machine.forward(86400)
    asked(this_shop, alice)
    assert Notice.select().count() == 1


# -- the address of an order -------------------------------------------------------------


@pytest.fixture
def ordered(this_shop):
    """An order with somebody else's address, and a name that is meant for its reader."""
    return orders.place(this_shop, wish(username="callnow5551234", email=NEW))


def opened(order, wallet, worker) -> Account:
    wallet.pay(order.bolt11)
    work(worker)
    return Account.get_by_id(order.account_id)


def test_an_orders_address_gets_a_link_when_paid_and_nothing_else_yet(
    this_shop, ordered, wallet, worker, time_machine
):
    assert Notice.select().count() == 0
    account = opened(ordered, wallet, worker)
    assert (waits(account), email_of(account)) == (NEW, None)
    link = Notice.get()
    assert (link.kind, link.recipient) == ("confirm", NEW)
    accounts.block(account.id, "call now 555 1234")
    time_machine.moment = account.expires_at
    calendar.run_pass(this_shop)
    assert {row.recipient for row in Notice.select()} == {NEW}
    time_machine.moment = account.ready_at
    reminders.confirm(this_shop, token(re.search(r"/reminders/confirm/\S+", link.body)[0]))
    assert (waits(account), email_of(account)) == (None, NEW)
    calendar.run_pass(this_shop)
    assert [row.kind for row in Notice.select() if row.kind != "confirm"] == ["blocked"]


def test_the_mail_after_a_purchase_says_how_to_go_on(ordered, wallet, worker):
    account = opened(ordered, wallet, worker)
    [mail] = Notice.select()
    assert clock.clock_time(account.expires_at) in mail.body
    for link in ("/login", "/reminders/confirm/"):
        assert f"\nhttp://localhost{link}" in mail.body
    assert mail.body.endswith("\n\n-- \nlocalhost\n")
    # It names only the site's address of what the orderer chose, who may have typed any address.
    assert re.findall(r"\S*callnow\S*", mail.subject + mail.body) == ["callnow5551234.shop.test"]
    assert "alice" not in mail.subject + mail.body


def test_an_order_that_nobody_pays_leaves_no_address(this_shop, ordered):
    invoices.cancel(this_shop, ordered)
    assert Account.select().count() == Notice.select().count() == 0


def test_the_link_for_a_second_hosting_of_the_day_must_be_asked_for(
    this_shop, ordered, wallet, worker, time_machine
):
    asked(this_shop, open_account(this_shop, "bob"))
    account = opened(ordered, wallet, worker)
    assert reminders.link_ends_at(account) is None
    with pytest.raises(reminders.TooManyMails):
        reminders.request_change(this_shop, account.id, NEW)
    time_machine.forward(86400)
    reminders.confirm(this_shop, token(asked(this_shop, account)))
    assert email_of(account) == NEW


def test_an_orders_address_outlives_sessions_and_a_sessions_does_not(
    this_shop, ordered, wallet, worker
):
    account = opened(ordered, wallet, worker)
    path = re.search(r"/reminders/confirm/\S+", Notice.get().body)[0]
    with transaction():
        sessions.end_all(account.id)
    reminders.confirm(this_shop, token(path))
    asked(this_shop, account, "thief@example.org")
    with transaction():
        sessions.end_all(account.id)
    assert (waits(account), email_of(account)) == (None, NEW)


@with_mail
def test_a_closed_hostings_link_is_not_mailed(this_shop, ordered, wallet, worker, mails):
    account = opened(ordered, wallet, worker)
    accounts.close(account.id)
    work(worker)
    assert Account.select().count() == Notice.select().count() == 0


# -- ending them -------------------------------------------------------------------------


@with_mail
def test_the_link_in_a_reminder_ends_the_reminders(this_shop, alice, mails):
    path = reminded(this_shop, alice)
    reminders.unsubscribe(this_shop, token(path))
    assert email_of(alice) is None
    assert outbox.send_due(this_shop) == 0
    assert Notice.get().recipient is Notice.get().body is None
    reminders.unsubscribe(this_shop, token(path))


@with_mail
def test_the_link_of_an_old_address_leaves_the_new_one_alone(this_shop, alice, mails):
    path = reminded(this_shop, alice)
    alice = with_email(alice, NEW)
    reminded(this_shop, alice, about=2)
    reminders.unsubscribe(this_shop, token(path))
    assert email_of(alice) == NEW
    assert outbox.send_due(this_shop) == 1
    assert mails.received[0].recipient == NEW


def test_the_link_in_a_reminder_removes_the_same_unconfirmed_address(this_shop, alice):
    path = reminded(this_shop, alice)
    asked(this_shop, alice, "alice@old.example".upper())
    reminders.unsubscribe(this_shop, token(path))
    assert (waits(alice), email_of(alice)) == ("ALICE@OLD.EXAMPLE", None)
    Account.update(email_waits="alice@old.example").execute()
    reminders.unsubscribe(this_shop, token(path))
    assert waits(alice) is None


def test_one_of_two_addresses_is_removed(this_shop, alice):
    asked(this_shop, alice)
    reminders.remove(alice.id, lambda address: address == NEW)
    assert (waits(alice), email_of(alice)) == (None, "alice@old.example")
    assert Notice.get().try_at is None  # the reminder is not sent


def test_one_accounts_link_leaves_others_alone(this_shop, alice):
    bob = with_email(open_account(this_shop, "bob"), "alice@old.example")
    reminders.unsubscribe(this_shop, token(reminded(this_shop, alice)))
    assert email_of(bob) == "alice@old.example"
    foreign = token(reminded(this_shop, bob, about=2)).replace(bob.id, alice.id)
    with pytest.raises(reminders.UnknownLink):
        reminders.unsubscribe(this_shop, foreign)


def test_the_link_works_when_the_account_is_gone(this_shop, alice):
    path = reminded(this_shop, alice)
    Service.delete().execute()
    Account.delete().execute()
    reminders.unsubscribe(this_shop, token(path))
    assert Notice.select().count() == 0
    reminders.unsubscribe(this_shop, token(path))


@with_mail
def test_removing_the_address_drops_waiting_mails(this_shop, alice, mails):
    reminded(this_shop, alice)
    asked(this_shop, alice)
    with transaction():
        outbox.write(this_shop, alice, "ending", 1, channel="mailbox")
    reminders.remove(alice.id)
    assert email_of(alice) is None
    assert outbox.send_due(this_shop) == 1
    assert mails.received[0].recipient == "info@alice.shop.test"


# -- the pages ---------------------------------------------------------------------------


def test_opening_the_link_does_not_confirm_but_the_button_does(this_shop, client, alice):
    path = asked(this_shop, alice)
    page = client.get(path)
    assert page.status_code == 200
    assert NEW in page.text and "alice.shop.test" in page.text
    client.head(path)
    assert email_of(alice) == "alice@old.example"
    form = {"csrf_token": csrf_token(page.text)}
    done = client.post(path, data=form, follow_redirects=True)
    assert f"go to {NEW}" in done.text and "<form" not in done.text
    assert email_of(alice) == NEW


def test_only_our_own_button_confirms(client, this_shop, alice):
    path = asked(this_shop, alice)
    assert client.post(path).status_code == 400
    assert email_of(alice) == "alice@old.example"


@pytest.mark.parametrize("what", ["confirm", "stop"])
def test_an_invalid_link_is_a_friendly_404(client, what):
    for text in NO_TOKENS:
        page = client.get(f"/reminders/{what}/{text}")
        assert page.status_code == client.post(f"/reminders/stop/{text}").status_code == 404
        assert "<h1>" in page.text and 'role="button"' in page.text


def test_an_expired_link_says_so(this_shop, client, alice, time_machine):
    path = asked(this_shop, alice)
    time_machine.forward(86401)
    page = client.get(path)
    assert page.status_code == 404
    assert "valid for a day" in page.text


def test_opening_the_stop_link_does_not_stop_but_the_button_does(this_shop, client, alice):
    path = reminded(this_shop, alice)
    page = client.get(path)
    assert page.status_code == 200 and "<button>No more reminders" in page.text
    assert email_of(alice) == "alice@old.example"
    assert "You get no more reminders" in client.post(path).text
    assert email_of(alice) is None
    assert client.post(path).status_code == 200


@pytest.mark.parametrize("origin", [None, "null", "https://mail.example"])
def test_a_mail_program_ends_reminders_with_one_click(this_shop, client, alice, origin):
    path = reminded(this_shop, alice)
    headers = {"Origin": origin} if origin else {}
    answer = client.post(path, data={"List-Unsubscribe": "One-Click"}, headers=headers)
    assert answer.status_code == 200
    assert email_of(alice) is None


def test_addresses_are_not_logged(this_shop, client, alice, caplog):
    caplog.set_level("INFO")
    client.post(reminded(this_shop, alice))
    reminders.confirm(this_shop, token(asked(this_shop, with_email(alice, None))))
    assert "new address" in caplog.text and "no more reminders" in caplog.text
    assert ".example" not in caplog.text
