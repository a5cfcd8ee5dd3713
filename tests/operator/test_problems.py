"""What needs the operator is mailed: each problem once, and at most one mail an hour."""

import pytest

from lightningspace.base.models import Order, Service
from lightningspace.operator import problems
from lightningspace.outside.mail import MailError
from tests.conftest import at_once, with_mail, with_settings

pytestmark = [with_mail, with_settings(ADMIN_MAIL="admin@shop.test", SHOP_NAME="Ada's shop")]


def lose(number: int) -> None:
    """As if a payment had come that no order waits for."""
    facts = {"kind": "lost", "placed_at": 1, "expires_at": 1, "node_id": "n", "pay_index": 1}
    facts |= {"received_msat": 7000, "paid_at": 1, "payment_hash": "abcdef"[number] * 64}
    Order.create(token=f"{number:032}", **facts)


def test_a_problem_says_which_hosting_or_order_it_is_about(this_shop, alice):
    lose(1)
    failing = {"error": "x", "permanent": True, "failed_since": 1}
    Service.update(failing).where(Service.kind == "ftp").execute()
    told = [(each.username, each.token) for each in problems.found(this_shop)]
    assert told == [(None, f"{1:032}"), ("alice", None)]


def test_each_problem_is_mailed_once(this_shop, mails, time_machine):
    assert not problems.mail_new(this_shop)
    lose(1)
    assert not problems.mail_new(this_shop)  # the hour is not over
    time_machine.forward(problems.MAIL_SECONDS)
    assert problems.mail_new(this_shop)
    [mail] = mails.received
    assert (mail.recipient, mail.subject) == ("admin@shop.test", "Ada's shop needs you")
    assert "7000 msat, and no order waits for it" in " ".join(mail.text.split())
    assert mail.text.splitlines()[-2:] == ["-- ", "Ada's shop · localhost"]
    time_machine.forward(problems.MAIL_SECONDS)
    assert not problems.mail_new(this_shop)


def test_only_what_is_new_is_mailed_and_what_comes_back_is_new(this_shop, mails, time_machine):
    def an_hour_later() -> bool:
        time_machine.forward(problems.MAIL_SECONDS)
        return problems.mail_new(this_shop)

    lose(1)
    assert an_hour_later()
    lose(2)
    assert an_hour_later()
    assert "b" * 64 not in mails.received[1].text and "c" * 64 in mails.received[1].text
    Order.update(received_msat=8000).execute()
    assert not an_hour_later()  # the same ones, with other numbers
    Order.delete().execute()
    assert not an_hour_later()
    lose(1)
    assert an_hour_later()


def test_many_workers_send_one_mail(this_shop, mails):
    lose(1)
    assert sum(at_once(*[lambda: problems.mail_new(this_shop)] * 4)) == 1
    assert len(mails.received) == 1


def test_what_the_mail_server_does_not_take_is_mailed_an_hour_later(this_shop, mails, time_machine):
    lose(1)
    mails.faults.set("refuse", "MAIL", message="451 later")
    with pytest.raises(MailError):
        problems.mail_new(this_shop)
    mails.faults.clear()
    assert not problems.mail_new(this_shop)
    time_machine.forward(problems.MAIL_SECONDS)
    assert problems.mail_new(this_shop)
    assert len(mails.received) == 1
