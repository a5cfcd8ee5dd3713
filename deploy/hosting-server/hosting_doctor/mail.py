"""Checks of mail and FTP: who may send, how much was sent, and FTP's certificate."""

import ftplib
import os
import re
import ssl
import time
from collections import Counter
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path

from hosting_doctor.server import Server, Unknown

MESSAGE_MB_MAX = 100
# Recipients within one hour of the clock. A mailing list reaches that many; a person hardly ever.
MAILS_MAX = 100
NAMED = 3
CERTIFICATE = Path("/etc/ssl/private/pure-ftpd.pem")
# --fix may have restarted it a moment ago.
START_SECONDS = 5
LOG = "/var/log/mail.log"
# Begins with `Nov 29 13:01:02` or `2026-11-29T13:01:02`; the first group ends with the hour.
LINE = re.compile(r"(\w{3} +\d+ \d\d|\d{4}-\d\d-\d\dT\d\d)\S* .*? postfix\S*\[\d+\]: (\w+): (.*)")


def senders(server: Server) -> str | None:
    said = server.said("postconf", "-h", "smtpd_sender_restrictions")
    if not re.search(r"\breject_(authenticated_)?sender_login_mismatch\b", said):
        return (
            "a mailbox can send as anybody: in the panel, System → Server Config → Mail, "
            "switch “Reject sender and login mismatch” on"
        )
    return None


def message_size(server: Server) -> str | None:
    megabytes = int(server.said("postconf", "-h", "message_size_limit")) / 1024 / 1024
    if not 0 < megabytes <= MESSAGE_MB_MAX:
        return (
            "one message can fill the disk: in the panel, System → Server Config → Mail, "
            "set “Message Size Limit” to 30 MB"
        )
    return None


def mail_sent(server: Server) -> str | None:
    """Count the recipients of each login and hour, in the current log and the one before."""
    if not os.path.exists(LOG):
        raise Unknown(f"there is no {LOG}: apt install rsyslog")
    with ExitStack() as opened:
        logs = [
            opened.enter_context(open(path, encoding="utf-8", errors="replace"))
            for path in (f"{LOG}.1", LOG)
            if os.path.exists(path)
        ]
        counted = count(line for log in logs for line in log)
    most: Counter[str] = Counter()
    for (login, _), recipients in counted.items():
        most[login] = max(most[login], recipients)
    if most and max(most.values()) > MAILS_MAX:
        top = ", ".join(f"{login} {recipients}" for login, recipients in most.most_common(NAMED))
        return f"more than {MAILS_MAX} mails in an hour; is it spam (`flask block`)? {top}"
    return None


def count(log: Iterable[str]) -> Counter[tuple[str, str]]:
    """How many recipients each login has written to, by the hour."""
    sent: dict[str, tuple[str, str]] = {}
    recipients: dict[str, int] = {}
    for line in log:
        # Most lines are of no interest: a look for text is cheaper than the pattern.
        if "sasl_username=" in line or "nrcpt=" in line:
            if not (found := LINE.match(line)):
                continue
            hour, queue_id, said = found.groups()
            if login := re.search(r"\bsasl_username=([^,\s]+)", said):
                sent[queue_id] = login[1], hour
            # Logged again at each retry.
            elif queue_id in sent and (many := re.search(r"\bnrcpt=(\d+) ", said)):
                recipients[queue_id] = int(many[1])
    by_hour: Counter[tuple[str, str]] = Counter()
    for queue_id, login_and_hour in sent.items():
        by_hour[login_and_hour] += recipients.get(queue_id, 1)
    return by_hour


def ftp_certificate(server: Server) -> str | None:
    if not CERTIFICATE.exists():
        return f"there is no certificate: let the installer link the panel's to {CERTIFICATE}"
    session = ftplib.FTP_TLS(context=ssl.create_default_context(), timeout=30)
    try:
        _connect(session, server.addresses[0] if server.addresses else "127.0.0.1")
        session.host = server.name  # the certificate's
        session.auth()
    except ssl.SSLCertVerificationError as error:
        return f"the certificate is not good for {server.name}: {error.verify_message}"
    except (OSError, EOFError, ftplib.Error) as error:
        return f"FTP does not answer: {error}"
    finally:
        session.close()
    return None


def _connect(session: ftplib.FTP_TLS, address: str) -> None:
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            session.connect(address, 21)
            return
        except ConnectionRefusedError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)
