"""Blocked hostings with category and evidence, and names that are never sold."""

import pytest

from lightningspace.base.models import Account, Evidence
from lightningspace.rules import abuse, accounts, domains, orders
from lightningspace.rules.abuse import Category
from tests.conftest import enter, open_account, place_order, wish, with_mail, with_settings, work

NAMES = """# of banks
*bank*
pay?al   # and the like
*.bank.example
"""


@pytest.fixture
def refused(tmp_path, more_settings):
    path = tmp_path / "refused.txt"
    path.write_text(NAMES)
    more_settings["REFUSED_NAMES"] = str(path)


def block(runner, *arguments, note=None):
    return runner.invoke(args=["block", "alice", *arguments], input=note)


@with_mail
def test_the_customer_reads_the_category_and_the_operator_keeps_evidence(
    alice, client, runner, this_shop, time_machine
):
    enter(client, alice)
    command = ["It copies\na bank’s login.", "--for", "phishing", "--evidence", "-"]
    assert block(runner, *command, note="From: victim\0@bank.example\n<b>").exit_code == 0
    page = client.get("/account").text
    assert "off (for phishing)" in " ".join(page.split())
    assert "It copies a bank’s login." in page and "victim" not in page
    told = runner.invoke(args=["evidence", "alice"]).output
    assert "From: victim@bank.example\n<b>" in told and ", phishing:" in told
    # The owner does not see the evidence.
    assert "victim" not in client.get("/account/known").text
    Account.delete()  # the evidence outlives the hosting, under its name
    time_machine.forward(90 * 86400 - 1)
    abuse.wipe_evidence(this_shop)
    assert Evidence.select().count() == 1
    time_machine.forward(1)
    abuse.wipe_evidence(this_shop)
    assert not Evidence.select().exists()
    assert runner.invoke(args=["evidence", "alice"]).output == ""


def test_without_evidence_none_is_kept_and_unblocking_clears_the_category(alice, runner, client):
    assert block(runner, "a reason").exit_code == 0
    enter(client, alice)
    assert "is off. The reason: a reason" in " ".join(client.get("/account").text.split())
    assert not Evidence.select().exists()
    assert runner.invoke(args=["unblock", "alice"]).exit_code == 0
    assert Account.get().blocked_for is None
    assert block(runner, "a reason", "--for", "boredom").exit_code == 2
    assert block(runner, "\n").exit_code == 1


def test_evidence_is_deleted_after_its_time(alice):
    abuse.block(alice.id, Category.SPAM, "spam", "x" * 10**6)
    assert len(Evidence.get().note) == abuse.NOTE_MAX


def test_evidence_of_any_encoding_cannot_control_the_terminal(alice, runner, tmp_path):
    mail = tmp_path / "report.eml"
    mail.write_bytes(b"M\xfcller:\r\n\t\x1b]0;root\x07 \x9b2J spam\rham\0")
    command = ["a reason", "--evidence", str(mail)]
    assert block(runner, *command).exit_code == 0
    told = runner.invoke(args=["evidence", "alice"]).output.partition(":\n")[2]
    assert told == "M\ufffdller:\n\t]0;root \ufffd2J spam\nham\n"


def test_refused_names_are_not_sold(refused, this_shop, client, subtests):
    for name in ("mybank", "bank", "paypal", "paybal"):
        with subtests.test(name), pytest.raises(orders.NameReserved):
            orders.place(this_shop, wish(username=name))
    orders.place(this_shop, wish(username="paypall"))
    assert client.get("/name?username=bankers").text.count("bankers") >= 1


def test_refused_domains_are_not_taken(refused, this_shop, alice):
    for name in ("login.bank.example", "LOGIN.Bank.example"):
        with pytest.raises(ValueError, match="cannot be used here"):
            domains.add(this_shop, alice.id, name, False)
    domains.add(this_shop, alice.id, "bank.example", False)


@with_settings(NEW_HOSTINGS_PER_HOUR="2")
def test_no_more_hostings_are_sold_than_may_be_opened_in_an_hour(
    this_shop, client, worker, wallet, time_machine
):
    waiting = orders.place(this_shop, wish(username="carol", client="192.0.2.7"))
    for name in ("alice", "bob"):
        open_account(this_shop, name)
    answer = place_order(client, username="dave")
    assert answer.status_code == 429 and "than usual" in answer.text
    # A paid order is opened all the same.
    wallet.pay(waiting.bolt11)
    work(worker)
    assert Account.get(Account.username == "carol").opened_at
    # Extending a hosting does not count.
    accounts.block(Account.get(Account.username == "alice").id, "a reason")
    time_machine.forward(3601)
    assert place_order(client, username="dave").status_code == 303
