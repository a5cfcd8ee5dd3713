"""The mail server that reminders go to. No mail is sent."""

from collections.abc import Iterator
from urllib.parse import urlsplit

from lightningspace.operator.doctor.dates import ends_soon
from lightningspace.operator.doctor.patient import Patient
from lightningspace.outside.certificates import after
from lightningspace.outside.mail import HERE, Mailer, MailError

SECONDS = 10
IMPLICIT, SUBMISSION = 465, 587


def takes_our_mail(patient: Patient) -> Iterator[str]:
    """Tries it out up to naming the recipient, ADMIN_MAIL if it is set."""
    config = patient.config
    if not config.smtp_url:
        return
    mailer = Mailer(config.smtp_url, config.smtp_verify_tls, config.mail_from, SECONDS)
    try:
        mailer.try_out(config.admin_mail)
    except MailError as error:
        yield (
            f"{error}: set SMTP_URL and MAIL_FROM to what your mail provider says, and see whether "
            "this machine may reach it"
        )


def certificate(patient: Patient) -> Iterator[str]:
    url = urlsplit(patient.config.smtp_url)
    if not url.hostname or url.hostname in HERE:
        return
    is_tls = url.scheme == "smtps"
    port = url.port or (IMPLICIT if is_tls else SUBMISSION)
    yield from ends_soon(
        f"the mail server's certificate, {url.hostname},",
        "renew it there",
        url.hostname,
        port,
        patient.config.smtp_verify_tls,
        None if is_tls else after(b"EHLO localhost", b"STARTTLS"),
    )


CHECKS = {"mail": takes_our_mail, "mail certificate": certificate}
