"""Reports to the operator by mail and by HTTP: each problem once, and a summary every week."""

import hashlib
import hmac
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from lightningspace.base import models
from lightningspace.base.clock import DAY
from lightningspace.base.models import Account, Order, Service
from lightningspace.operator import telling
from lightningspace.operator.telling import MAIL, WEBHOOK
from lightningspace.outside import webhook
from lightningspace.outside.mail import MailError
from lightningspace.outside.webhook import WebhookError
from lightningspace.rules import income
from tests.conftest import at_once, eventually, open_account, with_mail, with_settings
from tests.operator.test_problems import lose

SECRET = "a-secret-of-the-tests-0123456789"
with_admin_mail = with_settings(ADMIN_MAIL="admin@shop.test", SHOP_NAME="Ada's shop")
# 2026-11-30, 08:00.
MONDAY = 20_787 * DAY + 8 * 3600


class Hook:
    """The operator's program. It answers with `status`, or not at all while it `hangs`."""

    def __init__(self):
        self.status, self.hangs, self.got = 200, False, []
        self.goes_on = threading.Event()

    def take(self, handler) -> None:
        body = handler.rfile.read(int(handler.headers["Content-Length"]))
        self.got.append((handler.path, handler.headers, body))
        if self.hangs:
            self.goes_on.wait()
        handler.send_response(self.status)
        handler.send_header("Location", "/elsewhere")
        handler.end_headers()

    @property
    def messages(self) -> list[dict]:
        return [json.loads(body) for _, _, body in self.got]


@pytest.fixture
def hook(more_settings):
    told = Hook()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            told.take(self)

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    serving = threading.Thread(target=server.serve_forever, args=(0.05,))
    serving.start()
    told.url = f"http://127.0.0.1:{server.server_port}/hook?key=secret"
    more_settings |= {"ADMIN_WEBHOOK": told.url, "ADMIN_WEBHOOK_SECRET": SECRET}
    yield told
    told.goes_on.set()
    server.shutdown()
    serving.join()
    server.server_close()


# -- problems by mail ------------------------------------------------------------------


@with_mail
@with_admin_mail
def test_each_problem_is_mailed_once(this_shop, mails, time_machine):
    assert not telling.tell_problems(this_shop, MAIL)
    lose(1)
    assert not telling.tell_problems(this_shop, MAIL)  # the hour is not over
    time_machine.forward(MAIL.seconds)
    assert telling.tell_problems(this_shop, MAIL)
    [mail] = mails.received
    assert (mail.recipient, mail.subject) == ("admin@shop.test", "Ada's shop needs you")
    assert "7000 msat, and no order waits for it" in " ".join(mail.text.split())
    assert mail.text.splitlines()[-2:] == ["-- ", "Ada's shop · localhost"]
    time_machine.forward(MAIL.seconds)
    assert not telling.tell_problems(this_shop, MAIL)


@with_mail
@with_admin_mail
def test_only_new_problems_are_mailed_and_returning_ones_are_new(this_shop, mails, time_machine):
    def an_hour_later() -> bool:
        time_machine.forward(MAIL.seconds)
        return telling.tell_problems(this_shop, MAIL)

    lose(1)
    assert an_hour_later()
    lose(2)
    assert an_hour_later()
    assert "b" * 64 not in mails.received[1].text and "c" * 64 in mails.received[1].text
    Order.update(received_msat=8000).execute()
    assert not an_hour_later()  # the same problems, with other numbers
    Order.delete().execute()
    assert not an_hour_later()
    lose(1)
    assert an_hour_later()


def test_a_problem_of_a_name_with_another_number_is_another_problem(hook, this_shop, time_machine):
    failing = {"error": "x", "permanent": True, "failed_since": 1}
    for name in ("bob1", "bob2"):
        account = open_account(this_shop, name)
        is_its = (Service.kind == "ftp") & (Service.account == account.id)
        Service.update(failing).where(is_its).execute()
        assert telling.tell_problems(this_shop, WEBHOOK)
        time_machine.forward(WEBHOOK.seconds)
    assert [each["problems"][0]["hosting"] for each in hook.messages] == ["bob1", "bob2"]


@pytest.mark.each_database
@with_mail
@with_admin_mail
def test_many_workers_send_one_mail(this_shop, mails):
    lose(1)
    assert sum(at_once(*[lambda: telling.tell_problems(this_shop, MAIL)] * 4)) == 1
    assert len(mails.received) == 1


@with_mail
@with_admin_mail
def test_mail_that_the_server_refuses_is_sent_an_hour_later(this_shop, mails, time_machine):
    lose(1)
    mails.faults.set("refuse", "MAIL", message="451 later")
    with pytest.raises(MailError):
        telling.tell_problems(this_shop, MAIL)
    mails.faults.clear()
    assert not telling.tell_problems(this_shop, MAIL)
    time_machine.forward(MAIL.seconds)
    assert telling.tell_problems(this_shop, MAIL)
    assert len(mails.received) == 1


# -- problems by HTTP ------------------------------------------------------------------


def test_a_message_is_signed_together_with_its_time(hook, this_shop, time_machine):
    time_machine.moment = 1_800_000_000
    lose(1)
    assert telling.tell_problems(this_shop, WEBHOOK)
    [(path, headers, body)] = hook.got
    mac = hmac.new(SECRET.encode(), b"1800000000." + body, hashlib.sha256).hexdigest()
    assert headers["Lightning-Space-Signature"] == f"t=1800000000,v1={mac}"
    assert (path, headers["Content-Type"]) == ("/hook?key=secret", "application/json")
    [message] = hook.messages
    assert message["kind"] == "problems" and message["at"] == "2027-01-15T08:00:00Z"
    assert message["shop"] == "http://localhost"
    [problem] = message["problems"]
    assert problem["hosting"] is None and "no order waits for it" in problem["text"]
    time_machine.forward(DAY)
    assert not telling.tell_problems(this_shop, WEBHOOK)  # each is told once


def test_a_refused_message_is_repeated_after_longer_and_longer_waits(hook, this_shop, time_machine):
    lose(1)
    hook.status = 500
    waits, before = [], time_machine.moment
    while len(waits) < 8:
        try:
            telling.tell_problems(this_shop, WEBHOOK)
        except WebhookError as error:
            assert str(error) == "the webhook answered 500"
            waits.append((time_machine.moment - before) // 60)
            before = time_machine.moment
        time_machine.forward(10 * 60)
    assert waits == [0, 10, 20, 40, 80, 160, 320, 360]
    hook.status = 204
    time_machine.forward(DAY)
    assert telling.tell_problems(this_shop, WEBHOOK)
    lose(2)
    time_machine.forward(10 * 60)
    assert telling.tell_problems(this_shop, WEBHOOK)


@pytest.mark.parametrize("status", [301, 302, 307, 404])
def test_redirects_are_not_followed(hook, status):
    hook.status = status
    with pytest.raises(WebhookError, match=f"answered {status}"):
        webhook.post(hook.url, SECRET, {})
    assert [path for path, _, _ in hook.got] == ["/hook?key=secret"]


def test_a_program_that_hangs_times_out_and_no_error_names_its_address(hook):
    hook.hangs = True
    with pytest.raises(WebhookError) as hung:
        webhook.post(hook.url, SECRET, {}, seconds=0.2)
    hook.goes_on.set()
    with pytest.raises(WebhookError) as nobody:
        webhook.post("http://127.0.0.1:9/hook?key=secret", SECRET, {})
    assert not any("secret" in str(error.value) for error in (hung, nobody))


@with_mail
@with_settings(ADMIN_MAIL="admin@shop.test")
def test_mail_and_http_do_not_depend_on_each_other(hook, this_shop, mails, time_machine):
    lose(1)
    mails.faults.set("refuse", "MAIL", message="451 later")
    with pytest.raises(MailError):
        telling.tell(this_shop)
    assert len(hook.messages) == 1
    mails.faults.clear()
    hook.status = 500
    lose(2)
    time_machine.forward(MAIL.seconds)
    with pytest.raises(WebhookError):
        telling.tell(this_shop)
    assert len(mails.received) == 1


def test_the_worker_tells(hook, this_shop, at_work):
    lose(1)
    eventually(lambda: hook.messages)


# -- the week --------------------------------------------------------------------------


@with_mail
@with_admin_mail
def test_the_summary_of_a_week_is_sent_once_on_monday(hook, this_shop, mails, time_machine):
    def told() -> int:
        return sum(telling.tell_week(this_shop, way) for way in (MAIL, WEBHOOK))

    time_machine.moment = MONDAY - 5 * DAY  # a Wednesday
    open_account(this_shop, "alice")
    assert told() == 0
    time_machine.forward(4 * DAY)
    assert told() == 0  # Sunday
    Account.update(username="gone").execute()
    for name in ("bob", "carol"):
        open_account(this_shop, name)
    with models.transaction():
        for kind, msat in ((income.Kind.HOSTING, 21_000_000), (income.Kind.TIP, 1000)):
            income.note(kind, MONDAY - 2 * DAY, msat)
        income.note(income.Kind.TIP, MONDAY, 5000)  # in the next week
    Account.update(opened_at=MONDAY - 20 * DAY).where(Account.username == "bob").execute()
    time_machine.moment = MONDAY
    lose(1)
    assert told() == 2
    assert told() == 0
    [mail], [message] = mails.received, hook.messages
    text = " ".join(mail.text.split())
    assert mail.subject == "Ada's shop: your week" and "from Monday, 23 Nov 2026:" in text
    assert "Received: 21,001 sat in 2 payments. New hostings: 21,000 sat. Tips: 1 sat." in text
    assert "Hostings opened: 2." in text and "no order waits for it" in text
    assert "\n\n\n" not in mail.text
    assert message["week_of"] == "2026-11-23T00:00:00Z"
    assert message["received_msat"] == 21_001_000 and message["hostings_new"] == 2
    assert message["problems"][0]["hosting"] is None
    time_machine.forward(7 * DAY)
    assert told() == 2
    assert hook.messages[1]["received_msat"] == 5000 and hook.messages[1]["hostings_ended"] == 0


@pytest.mark.each_database
def test_many_workers_tell_of_a_week_once(hook, this_shop, time_machine):
    time_machine.moment = MONDAY - DAY
    telling.tell_week(this_shop, WEBHOOK)
    time_machine.moment = MONDAY
    assert sum(at_once(*[lambda: telling.tell_week(this_shop, WEBHOOK)] * 4)) == 1
    assert len(hook.messages) == 1


def test_a_summary_that_was_refused_is_sent_later(hook, this_shop, time_machine):
    time_machine.moment = MONDAY - DAY
    telling.tell_week(this_shop, WEBHOOK)
    time_machine.moment, hook.status = MONDAY, 503
    with pytest.raises(WebhookError):
        telling.tell_week(this_shop, WEBHOOK)
    hook.status = 200
    assert not telling.tell_week(this_shop, WEBHOOK)
    time_machine.forward(WEBHOOK.seconds)
    assert telling.tell_week(this_shop, WEBHOOK)


def test_a_clock_that_was_ahead_does_not_end_the_summaries(hook, this_shop, time_machine):
    time_machine.moment = MONDAY + 400 * DAY
    telling.tell_week(this_shop, WEBHOOK)
    time_machine.moment = MONDAY - DAY
    assert not telling.tell_week(this_shop, WEBHOOK)
    time_machine.moment = MONDAY
    assert telling.tell_week(this_shop, WEBHOOK)


def test_hostings_that_ended_are_those_that_are_missing(hook, this_shop, time_machine):
    time_machine.moment = MONDAY - DAY
    for name in ("alice", "bob", "carol"):
        open_account(this_shop, name)
    telling.tell_week(this_shop, WEBHOOK)
    time_machine.forward(3600)
    open_account(this_shop, "dave")
    models.Service.delete().execute()
    Account.delete().where(Account.username << ["alice", "bob"]).execute()
    time_machine.moment = MONDAY
    assert telling.tell_week(this_shop, WEBHOOK)
    [message] = hook.messages
    assert (message["hostings_new"], message["hostings_ended"]) == (2, 2)
