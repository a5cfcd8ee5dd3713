"""One mail over real sockets: how it is written, and what each answer of the server means."""

import socket
import threading
import time
from contextlib import contextmanager, suppress

import pytest

from lightningspace.base import clock
from lightningspace.outside.mail import Mailer, MailError, MailRefused
from lightningspace.sandbox.certificate import self_signed
from lightningspace.sandbox.mail import SandboxMail
from lightningspace.sandbox.program import print_mail
from tests.conftest import SOON_SECONDS

SENDER = "hosting@shop.example"
STOP = "https://shop.example/reminders/stop/" + "0123456789abcdef-" * 20 + "0"


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    return self_signed(tmp_path_factory.mktemp("tls") / "mail.pem")


@contextmanager
def server(**options):
    stand_in = SandboxMail(**options)
    stand_in.start()
    try:
        yield stand_in
    finally:
        stand_in.stop()


def send(url, recipient="alice@example.org", subject="Hello", body="A text.\n", **more):
    tls, seconds = more.pop("tls", True), more.pop("seconds", 5)
    Mailer(url, tls, SENDER, seconds).send(recipient, subject, body, **more)


def failure(*args, **kwargs) -> MailError:
    with pytest.raises(MailError) as failed:
        send(*args, **kwargs)
    for secret in ("alice", "example.org", "pass word", "127.0.0"):
        assert secret not in str(failed.value)
    return failed.value


# -- how a mail is made ------------------------------------------------------------------


def test_a_mail_has_the_headers_of_a_programs_mail(mails):
    clock.set_source(lambda: 1_801_400_400)
    send(mails.url, name="this-notice", unsubscribe=STOP)
    [mail] = mails.received
    assert (mail.sender, mail.recipient) == (SENDER, "alice@example.org")
    assert mail.text == "A text.\n"
    assert (
        dict(mail.message.items()).items()
        >= {
            "From": SENDER,
            "To": "alice@example.org",
            "Subject": "Hello",
            "Date": "Sun, 31 Jan 2027 13:00:00 +0000",
            "Message-ID": "<this-notice@shop.example>",
            "Auto-Submitted": "auto-generated",
            "List-Unsubscribe": f"<{STOP}>",
            "List-Unsubscribe-Post": "List-Unsubscribe=One-Click",
            "Content-Type": 'text/plain; charset="utf-8"',
        }.items()
    )


def test_a_mail_without_unsubscribing_does_not_offer_it(mails):
    send(mails.url)
    send(mails.url)
    first, second = (mail.message for mail in mails.received)
    assert not any(name.startswith("List-") for name in first)
    assert first["Message-ID"] != second["Message-ID"]


@pytest.mark.parametrize(
    "text",
    [
        "Grüße aus Zürich, 100 ₿\n",
        "x" * 2000 + "\n",
        "https://shop.example/" + "a=b&" * 300 + "\n",
        ".\n..\nFrom here\n",
        "a\rb\r\n.\r\nMAIL FROM:<eve@example.org>\r\n",
        "日本語\n" * 50,
    ],
)
def test_every_text_arrives_as_it_was(mails, text):
    send(mails.url, body=text)
    [mail] = mails.received
    assert mail.text.splitlines() == text.splitlines()
    raw = mail.message.as_bytes()
    assert raw.isascii()
    assert max(map(len, raw.splitlines())) < 100


@pytest.mark.parametrize(
    "subject",
    ["Hi\r\nBcc: eve@example.org", "Hi\nBcc: eve@example.org", "Hi\0\x1b[m\x85\u2028Bcc: x"],
)
def test_a_subject_adds_no_header(mails, subject):
    send(mails.url, subject=subject)
    [mail] = mails.received
    assert mail.message["Bcc"] is None
    assert mail.subject.startswith("Hi ") and mail.subject.isprintable()


@pytest.mark.parametrize("subject", ["Grüße", "ü" * 300, "x" * 3000, "=?utf-8?q?Bcc?=", ""])
def test_a_strange_subject_arrives(mails, subject):
    send(mails.url, subject=subject)
    assert mails.received[0].subject in (subject[:200], "Bcc")


def test_bad_addresses_are_refused_for_good_before_any_connection(subtests):
    for recipient in [
        *("", "alice", "@example.org", "alice@", "a@b@c.org", "alice@example.org\nBcc: eve@x.org"),
        *("alice@example.org, eve@example.org", "Alice <alice@example.org>", "alice@example.org\0"),
        *("a lice@example.org", "alice@[127.0.0.1]", '"alice"@example.org', "alice@x.org\u2028"),
        *("x" * 65 + "@example.org", "alice@" + "x" * 300, "alice@ü\ud800.org", "alice@\u200d.org"),
        *("alice@example.org>\r\nDATA", "=?utf-8?q?eve=40x.org?=@example.org"),
    ]:
        with subtests.test(recipient=recipient):
            with pytest.raises(MailRefused) as refused:
                send("smtp://127.0.0.1:1", recipient)
            assert refused.value.permanent
            assert not recipient or recipient not in str(refused.value)


def test_a_host_beyond_ascii_is_asked_for_in_punycode(mails):
    send(mails.url, "alice@straße.example")
    assert mails.received[0].recipient == "alice@xn--strae-oqa.example"


def test_a_name_beyond_ascii_goes_to_servers_that_take_it(mails):
    send(mails.url, "jürgen@example.org")
    assert mails.received[0].recipient == "jürgen@example.org"
    assert mails.received[0].message["To"] == "jürgen@example.org"


def test_a_name_beyond_ascii_is_refused_for_good_elsewhere():
    with scripted(b"220 hi\r\n", b"250 plain\r\n") as url:
        assert failure(url, "jürgen@example.net").permanent


# -- TLS and login -----------------------------------------------------------------------


def test_tls_from_the_start(certificate):
    with server(certificate=certificate, is_smtps=True) as mails:
        send(mails.url, tls=str(certificate))
        assert mails.received[0].was_encrypted


def test_starttls_with_a_server_elsewhere(certificate):
    with server(host="127.0.0.2", certificate=certificate) as mails:
        send(mails.url, tls=str(certificate))
        assert mails.received[0].was_encrypted


def test_a_server_elsewhere_without_starttls_gets_nothing():
    with server(host="127.0.0.2") as mails:
        url = mails.url.replace("//", "//shop:pass%20word@")
        assert "STARTTLS" in str(failure(url, tls=False))
        assert mails.received == []


def test_starttls_with_this_machine_where_offered(certificate, mails):
    with server(certificate=certificate) as encrypted:
        send(encrypted.url)
        assert encrypted.received[0].was_encrypted
    send(mails.url)
    assert not mails.received[0].was_encrypted


@pytest.mark.parametrize("is_smtps", [True, False])
def test_an_untrusted_certificate_is_not_accepted_unless_told_so(certificate, is_smtps):
    with server(host="127.0.0.2", certificate=certificate, is_smtps=is_smtps) as mails:
        assert "certificate is not accepted (SMTP_VERIFY_TLS)" in str(failure(mails.url))
        assert mails.received == []
        send(mails.url, tls=False)
        assert len(mails.received) == 1


def test_a_certificate_of_another_host_is_not_accepted(certificate):
    with server(host="127.0.0.3", certificate=certificate, is_smtps=True) as mails:
        assert "certificate" in str(failure(mails.url, tls=str(certificate)))


def test_a_server_without_tls_is_an_error(mails):
    assert "TLS" in str(failure(mails.url.replace("smtp:", "smtps:"), tls=False))


def test_user_and_password_are_decoded(certificate):
    login = ("sh:op", "pass word@/%")
    with server(certificate=certificate, login=login) as mails:
        send(f"smtp://sh%3Aop:pass%20word%40%2F%25@{mails.address}")
        assert mails.received[0].user == "sh:op"


def test_a_wrong_login_is_no_fault_of_the_mail(certificate):
    with server(certificate=certificate, login=("shop", "pass word")) as mails:
        wrong = failure(f"smtp://shop:wrong@{mails.address}")
        assert "535 to our login" in str(wrong)
        assert not isinstance(wrong, MailRefused) and not wrong.permanent
        missing = failure(f"smtp://{mails.address}")
        assert "530" in str(missing) and not isinstance(missing, MailRefused)
        beyond_ascii = failure(f"smtp://shop:p%C3%BC@{mails.address}")
        assert "ASCII" in str(beyond_ascii)


def test_a_login_that_is_not_offered_is_a_fault_of_the_server(mails):
    with scripted(b"220 hi\r\n", b"250 plain\r\n") as url:
        assert "no login" in str(failure(url.replace("//", "//shop:pass%20word@")))


# -- what the server answers -------------------------------------------------------------


@pytest.mark.parametrize("call", ["RCPT", "DATA"])
@pytest.mark.parametrize(
    ("answer", "permanent"),
    [
        ("550 5.1.1 <alice@example.org>: no such user", True),
        ("554 no", True),
        ("550 5.7.1 relaying denied for alice@example.org", False),
        ("450 4.2.0 alice@example.org is greylisted", False),
        ("452 4.2.2 full", False),
    ],
)
def test_a_refused_mail_differs_from_a_server_that_is_down(mails, call, answer, permanent):
    mails.faults.set("refuse", call, message=answer)
    refused = failure(mails.url)
    assert isinstance(refused, MailRefused)
    assert refused.permanent is permanent
    assert f"answered {answer[:3]} to the" in str(refused)
    assert mails.received == []


@pytest.mark.parametrize(
    ("call", "answer"),
    [
        ("MAIL", "550 5.1.8 hosting@shop.example is no sender"),
        ("MAIL", "451 later"),
        ("RCPT", "421 4.3.2 shutting down"),
        ("RCPT", "530 5.7.0 log in first"),
        ("DATA", "421 4.3.2 shutting down"),
    ],
)
def test_a_server_that_takes_nothing_is_no_fault_of_the_mail(mails, call, answer):
    mails.faults.set("refuse", call, message=answer)
    failed = failure(mails.url)
    assert not isinstance(failed, MailRefused) and not failed.permanent
    assert answer[:3] in str(failed)


@pytest.mark.parametrize("call", ["MAIL", "RCPT", "DATA"])
def test_a_connection_that_is_cut_is_no_fault_of_the_mail(mails, call):
    mails.faults.set("cut-before", call)
    failed = failure(mails.url)
    assert "the connection was cut" in str(failed) and not isinstance(failed, MailRefused)
    mails.faults.clear()
    send(mails.url)


def test_a_mail_whose_answer_is_lost_may_have_been_taken(mails):
    mails.faults.set("cut-after", "DATA")
    assert not failure(mails.url).permanent
    assert len(mails.received) == 1


@pytest.mark.parametrize("call", ["MAIL", "RCPT", "DATA"])
def test_a_server_that_hangs_is_given_up_in_time(mails, call):
    mails.faults.set("frozen", call)
    started = time.monotonic()
    assert "it took too long" in str(failure(mails.url, seconds=0.3))
    assert time.monotonic() - started < SOON_SECONDS


def test_a_server_that_is_down_is_an_error_that_says_so():
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        url = f"smtp://127.0.0.1:{bound.getsockname()[1]}"
        assert "connection refused" in str(failure(url))


def test_an_unknown_server_name_is_an_error_that_says_so():
    assert "its name is not found" in str(failure("smtp://mail.invalid"))


def test_a_bad_greeting_is_a_passing_error(subtests):
    for greeting in [b"", b"554 go away\r\n", b"421 busy\r\n", b"HTTP/1.1 400 Bad Request\r\n\r\n"]:
        with subtests.test(greeting=greeting):
            with scripted(greeting) as url:
                failed = failure(url)
            assert not isinstance(failed, MailRefused) and not failed.permanent


def test_an_answer_that_dribbles_is_given_up_in_time():
    with scripted(b"220 hi\r\n", b"250-" + b"x" * 500, seconds_between_bytes=0.02) as url:
        started = time.monotonic()
        assert "it took too long" in str(failure(url, seconds=0.5))
        assert time.monotonic() - started < SOON_SECONDS


def test_a_tls_handshake_that_hangs_is_given_up_in_time():
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"smtps://127.0.0.1:{silent.getsockname()[1]}"
        assert "it took too long" in str(failure(url, seconds=0.3))


def test_a_mail_that_was_taken_counts_as_sent_whatever_follows():
    with scripted(b"220 hi\r\n", *[b"250 ok\r\n"] * 3, b"354 go\r\n", b"250 taken\r\n") as url:
        send(url)


@contextmanager
def scripted(*answers: bytes, seconds_between_bytes: float = 0):
    """A server that sends these answers in turn, whatever it is told, and hangs up."""

    def serve():
        connection, _ = listener.accept()
        with connection, connection.makefile("rb") as told, suppress(OSError):
            for answer in answers:
                for byte in answer if seconds_between_bytes else ():
                    connection.sendall(bytes([byte]))
                    time.sleep(seconds_between_bytes)
                connection.sendall(b"" if seconds_between_bytes else answer)
                if answer is not answers[-1]:
                    told.readline()
                while answer.startswith(b"354") and told.readline() != b".\r\n":
                    pass

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=serve, daemon=True).start()
        yield f"smtp://127.0.0.1:{listener.getsockname()[1]}"


# -- many at once ------------------------------------------------------------------------


def test_a_mailer_serves_all_threads(mails):
    mailer = Mailer(mails.url, True, SENDER)
    threads = [
        threading.Thread(target=mailer.send, args=(f"alice{n}@example.org", "Hello", "A text.\n"))
        for n in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert {mail.recipient for mail in mails.received} == {
        f"alice{n}@example.org" for n in range(8)
    }


def test_the_sandbox_shows_the_mails_that_it_took(capsys):
    with server(show=print_mail) as mails:
        send(mails.url, body="First.\n\nLast.\n")
    assert "  | A mail to alice@example.org: Hello\n  | \n  | First.\n" in capsys.readouterr().out
