"""Attacks by mail: sent too early, or in a neighbour's name."""

import smtplib
from collections.abc import Callable

from lightningspace.attack.field import Field, NotTried


def by_php(field: Field) -> str | None:
    if field.may_send():
        raise NotTried("MAIL_SEND_MIN_DAYS lets a new hosting send")
    sent = field.ask("mail", to=f"info@{field.bobby.name}").get("accepted")
    return "mail() says that it was sent" if sent else None


def sendmail(field: Field) -> str | None:
    to = f"info@{field.bobby.name}"
    mail = "printf 'Subject: walls\\n\\nA check of the shop.\\n'"
    said = field.run(f"{mail} | /usr/sbin/sendmail {to} && echo sent")
    return "sendmail accepted a mail" if said.strip().endswith("sent") else None


def submission(field: Field) -> str | None:
    if field.may_send():
        raise NotTried("MAIL_SEND_MIN_DAYS lets a new hosting send")
    return _send(field, lambda session: "the mailbox may log in to send")


def sender(field: Field) -> str | None:
    field.let_annie_send()

    def as_neighbour(session: smtplib.SMTP) -> str | None:
        session.mail(f"info@{field.bobby.name}")
        code, _ = session.rcpt(f"info@{field.bobby.name}")
        return "mail from the neighbour's address is accepted" if code < 400 else None

    return _send(field, as_neighbour)


def _send(field: Field, step: Callable[[smtplib.SMTP], str | None]) -> str | None:
    """The result of a step after the login; None if the mail server refuses the login."""
    try:
        with field.mail_login() as session:
            return step(session)
    except smtplib.SMTPAuthenticationError as error:
        if error.smtp_code < 500:
            raise NotTried(f"the mail server answered {error.smtp_code} to the login") from None
        return None
    except (OSError, smtplib.SMTPException) as error:
        raise NotTried(f"the mail server: {type(error).__name__}") from None
