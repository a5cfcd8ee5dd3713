"""The operator's commands: what they print, what they change, how they fail."""

import pytest

from lightningspace.base.clock import now
from lightningspace.base.models import Account, Fact, Order, Service
from lightningspace.base.prices import DAY
from lightningspace.operator import problems
from lightningspace.panel.lease import Lease
from lightningspace.rules import accounts, clock_watch, services
from tests.conftest import open_account, work


@pytest.fixture
def flask(runner):
    """Run a command: `flask("account", "alice")`."""
    return lambda *arguments: runner.invoke(args=list(arguments))


def test_account_prints_a_line_for_each_service(alice, flask):
    result = flask("account", "alice")
    lines = result.output.splitlines()
    assert result.exit_code == 0
    assert lines[0].startswith(f"alice: account {alice.id}, 100 MB on server 1, paid until 2")
    assert [line.split()[0] for line in lines[1:]] == [
        row.kind for row in services.of_account(alice.id)
    ]
    assert "ftp" in lines[3] and "ls_alice" in lines[3] and "id 1" in lines[3]
    assert lines[3].endswith("revision 1 of 1")


def test_account_prints_what_fails_and_no_secret(order, wallet, worker, panel, flask):
    wallet.pay(order.bolt11)
    panel.forbidden = {"sites_ftp_user_add"}
    work(worker)
    output = flask("account", "alice").output
    assert "may not call sites_ftp_user_add" in output
    assert "no retry cures it, last tried 2" in output
    assert "correct horse" not in output


@pytest.mark.parametrize("command", [["account"], ["retry"], ["block", "spam"], ["unblock"]])
def test_a_command_says_that_the_account_is_unknown(command, flask):
    result = flask(command[0], "nobody", *command[1:])
    assert result.exit_code == 1
    assert "no account is called nobody" in result.output


def test_retry_tries_now_and_says_how_it_went(order, wallet, worker, panel, flask):
    wallet.pay(order.bolt11)
    panel.forbidden = {"sites_ftp_user_add"}
    work(worker)
    assert flask("retry", "alice").exit_code == 1
    assert Service.get(kind="ftp").error
    panel.forbidden = set()
    result = flask("retry", "alice")
    assert result.exit_code == 0
    assert len(panel.records("ftp")) == 1
    assert flask("problems").output == ""


def test_retry_alone_asks_the_panel_nothing_when_all_is_applied(alice, panel, flask):
    calls = len(panel.calls)
    assert flask("retry", "alice").exit_code == 0
    assert len(panel.calls) == calls


def test_retry_with_check_makes_again_what_was_deleted_by_hand(alice, panel, flask, this_shop):
    this_shop.panel.delete("ftp", 1)
    assert flask("retry", "alice", "--check").exit_code == 0
    own = this_shop.vault.unseal(Service.get(kind="ftp").own_password_sealed)
    assert panel.password_of("ftp", 2) == own


def test_retry_says_when_a_worker_is_at_it(alice, flask):
    Lease(alice.id).take()
    result = flask("retry", "alice")
    assert result.exit_code == 1
    assert "a worker is at this account" in result.output


def test_retry_closes_what_is_closing(alice, flask):
    accounts.close(alice.id)
    assert flask("retry", "alice").output == "alice is closed\n"


def test_block_switches_off_and_keeps_the_reason(alice, worker, panel, flask, client):
    result = flask("block", "alice", "It sent\udcff\nspam.")
    assert (result.exit_code, result.output[:16]) == (0, "alice is blocked")
    work(worker)
    assert panel.records("site")[0]["active"] == "n"
    assert "It sent spam." in flask("account", "alice").output
    assert flask("unblock", "alice").exit_code == 0
    work(worker)
    assert panel.records("site")[0]["active"] == "y"
    assert Account.get().blocked_reason is None


def test_block_wants_a_reason(alice, flask):
    for nothing in (" ", "\N{ZERO WIDTH SPACE}"):
        assert flask("block", "alice", nothing).exit_code == 1
    assert Account.get().blocked_at is None


def test_a_closing_account_is_not_blocked(alice, flask):
    accounts.close(alice.id)
    result = flask("block", "alice", "too late")
    assert result.exit_code == 1
    assert "is being closed" in result.output


def test_problems_lists_permanent_failures_at_once(order, wallet, worker, panel, flask):
    wallet.pay(order.bolt11)
    panel.faults.set("refuse", "client_add", message="email_error_isemail<br />\r\n")
    work(worker)
    output = flask("problems").output
    assert "alice: client ls_" in output
    assert "the panel refused client_add: email_error_isemail (no retry cures it)" in output


def test_problems_prints_a_list_of_limited_length(flask):
    facts = {"kind": "lost", "placed_at": 1, "expires_at": 1, "node_id": "n", "pay_index": 1}
    facts |= {"received_msat": 1000, "paid_at": 1}
    tokens = [f"{n:032}" for n in range(problems.LISTED + 2)]
    Order.insert_many(facts | {"token": each, "payment_hash": each} for each in tokens).execute()
    lines = flask("problems").output.splitlines()
    assert len(lines) == problems.LISTED + 1
    assert "no order waits for it" in lines[0] and lines[-1] == "and 2 more like that"


def test_problems_lists_what_has_failed_for_a_day(
    order, wallet, worker, panel, flask, time_machine
):
    wallet.pay(order.bolt11)
    panel.down()
    work(worker)
    assert flask("problems").output == ""
    time_machine.forward(86400)
    work(worker)
    assert "connection refused (failing since 2" in flask("problems").output


# -- the calendar ----------------------------------------------------------------------


def end_of(*accounts) -> None:
    """Set back the end of these accounts, so that their grace period is over, too."""
    ids = [account.id for account in accounts]
    moment = now()
    facts = {"ready_at": moment - 2 * DAY, "expires_at": moment - DAY, "valued_at": 0}
    Account.update(facts | {"calendar_at": moment - DAY}).where(Account.id << ids).execute()


def test_calendar_prints_what_it_did(alice, flask):
    assert flask("calendar").output == "nothing was due\n"
    Account.update(expires_at=now(), valued_at=0, calendar_at=now()).execute()
    assert flask("calendar").output == "1 suspended\n"
    assert flask("calendar").output == "nothing was due\n"


def test_calendar_says_what_a_gap_holds_up_and_closes_it_with_yes(alice, flask):
    end_of(alice)
    lines = flask("calendar").output.splitlines()
    assert lines[0] == "1 suspended"
    assert "1 of the suspended accounts would be closed by now" in lines[1]
    assert flask("problems").output == lines[1] + "\n"
    lines = flask("calendar", "--yes").output.splitlines()
    assert lines[0] == "1 about to be closed"
    assert "closed in 15 minutes" in lines[1]
    assert flask("problems").output == ""


def test_calendar_says_that_too_many_would_be_closed(this_shop, flask):
    end_of(*[open_account(this_shop, f"bob{number}") for number in range(11)])
    flask("calendar")
    Fact.update(value="0").where(Fact.name == clock_watch.UNBROKEN).execute()
    Account.update(calendar_at=now()).execute()
    lines = flask("calendar").output.splitlines()
    assert lines[0] == "10 about to be closed"
    assert "accounts that wait to be closed: 1;" in lines[-1]
    assert "run `flask --app wsgi calendar --yes`" in lines[-1]
    assert flask("problems").output == lines[-1] + "\n"
    assert flask("calendar", "--yes").output.startswith("1 about to be closed\n")
