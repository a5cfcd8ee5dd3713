"""The operator's mail server (smtplib): send one mail, plain values in."""

import re
import secrets
import smtplib
import socket
import ssl
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from email.generator import BytesGenerator
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime
from io import BytesIO
from urllib.parse import unquote, urlsplit

from lightningspace.base import names
from lightningspace.base.clock import now
from lightningspace.outside.deadline import WatchedSMTP, WatchedSMTPS, time_limit

# After this time sending is given up, whatever the server does.
MAIL_SECONDS = 60
HERE = ("localhost", "127.0.0.1", "::1")

_PART = r"[^\s\x00-\x20\x7f-\xa0@<>()\[\],:;\"\\]"
ADDRESS = re.compile(rf"({_PART}{{1,64}})@({_PART}{{1,253}})")

# Bodies are sent as 7 bits, whatever the server supports. Headers are not folded: a folded link
# would become an encoded word.
WRITTEN = SMTP.clone(cte_type="7bit")
FLAT = WRITTEN.clone(max_line_length=998)
SUBJECT_MAX = 200
UTF8 = ["SMTPUTF8", "BODY=8BITMIME"]

# Even in answers to a recipient or a mail, these codes are about us: bad sequence, no mail accepted
# here, authentication required.
OF_US = (503, 521, 530)


class MailError(Exception):
    """The mail was not sent, or the server did not confirm it. The next mail would fail as well.

    The text is for the operator and contains no address and no secret.
    """

    permanent = False


class MailRefused(MailError):
    """The server refused this one mail. `permanent`: it always will."""

    def __init__(self, text: str, permanent: bool = False):
        super().__init__(text)
        self.permanent = permanent


class Mailer:
    """Sends from `sender` through `smtp_url`, for all threads; each mail has its own connection.

    smtps:// is TLS from the start. smtp:// requires STARTTLS, except to this machine itself, where
    it is used if offered. `verify_tls` may be a CA file.
    """

    def __init__(
        self,
        smtp_url: str,
        verify_tls: bool | str,
        sender: str,
        seconds: float = MAIL_SECONDS,
    ):
        parts = urlsplit(smtp_url)
        self._is_tls = parts.scheme == "smtps"
        self._host = parts.hostname
        self._is_here = self._host in HERE
        self._port = parts.port or (465 if self._is_tls else 25 if self._is_here else 587)
        self._user = unquote(parts.username or "")
        self._password = unquote(parts.password or "")
        self._sender = sender
        self._our_host = sender.partition("@")[2]
        self._tls = self._tls_context(verify_tls)
        self._seconds = seconds

    def send(
        self,
        recipient: str,
        subject: str,
        body: str,
        unsubscribe: str | None = None,
        name: str | None = None,
    ) -> None:
        """Hand a mail to the server. Raises MailError.

        The same `name` gives the same Message-ID, so that a mail sent again after a crash is
        recognised as a duplicate. `unsubscribe`: the URL that ends such mails.
        """
        address = _ascii_host(recipient)
        needs_utf8 = not address.isascii()
        message = self._message(address, subject, body, unsubscribe, name)
        data = BytesIO()
        BytesGenerator(data, policy=FLAT.clone(utf8=needs_utf8)).flatten(message)
        with self._connection() as server:
            if needs_utf8 and not server.has_extn("smtputf8"):
                raise MailRefused(
                    "the mail server takes no such address (SMTPUTF8)", permanent=True
                )
            self._hand_over(server, address, data.getvalue(), UTF8 if needs_utf8 else [])

    def try_out(self, recipient: str) -> None:
        """Do all that comes before a mail, and send none. `recipient`: "" for nobody. Raises
        MailError.
        """
        with self._connection() as server:
            self._address(server, recipient and _ascii_host(recipient), [])
            server.rset()

    def _message(self, address, subject, body, unsubscribe, name) -> EmailMessage:
        message = EmailMessage(policy=WRITTEN)
        message["From"] = self._sender
        message["To"] = address
        message["Subject"] = _one_line(subject)[:SUBJECT_MAX]
        message["Date"] = format_datetime(datetime.fromtimestamp(now(), UTC))
        message["Message-ID"] = f"<{name or secrets.token_hex(16)}@{self._our_host}>"
        message["Auto-Submitted"] = "auto-generated"
        if unsubscribe:
            message["List-Unsubscribe"] = f"<{_one_line(unsubscribe)}>"
            message["List-Unsubscribe-Post"] = "List-Unsubscribe=One-Click"
        message.set_content(body)
        return message

    def _hand_over(self, server, address: str, data: bytes, options: list[str]) -> None:
        self._address(server, address, options)
        try:
            code, answer = server.data(data)
        except smtplib.SMTPDataError as error:
            code, answer = error.smtp_code, error.smtp_error
        if code != 250:
            raise _refusal("the mail", code, answer)
        # The server has accepted it, whatever happens to the connection now.
        try:
            server.putcmd("quit")
        except (OSError, smtplib.SMTPException):
            pass

    def _address(self, server, address: str, options: list[str]) -> None:
        code, _ = server.mail(self._sender, options)
        if code != 250:
            raise MailError(f"the mail server answered {code} to our sender (MAIL_FROM)")
        if address:
            code, answer = server.rcpt(address)
            if code not in (250, 251):
                raise _refusal("the recipient", code, answer)

    # -- connections -------------------------------------------------------------

    @contextmanager
    def _connection(self) -> Iterator[smtplib.SMTP]:
        with time_limit(self._seconds) as limit:
            try:
                with closing(self._reach()) as server:
                    self._open(server)
                    yield server
            except smtplib.SMTPResponseException as error:
                raise MailError(f"the mail server answered {error.smtp_code} to us") from None
            except (OSError, smtplib.SMTPException) as error:
                # The time limit shuts the connection down, which looks as if the server had.
                reason = "it took too long" if limit.is_over else _reason(error)
                raise MailError(f"the mail server did not take it: {reason}") from None

    def _reach(self) -> smtplib.SMTP:
        options = {"local_hostname": self._our_host, "timeout": self._seconds}
        if self._is_tls:
            return WatchedSMTPS(self._host, self._port, context=self._tls, **options)
        return WatchedSMTP(self._host, self._port, **options)

    def _open(self, server: smtplib.SMTP) -> None:
        server.ehlo_or_helo_if_needed()
        if not self._is_tls:
            self._start_tls(server)
        if self._user:
            self._log_in(server)
        server.ehlo_or_helo_if_needed()  # STARTTLS discards the capabilities

    def _start_tls(self, server: smtplib.SMTP) -> None:
        if server.has_extn("starttls"):
            server.starttls(context=self._tls)
        elif not self._is_here:
            raise MailError("the mail server offers no STARTTLS: nothing is sent in the clear")

    def _log_in(self, server: smtplib.SMTP) -> None:
        try:
            server.login(self._user, self._password)
        except smtplib.SMTPAuthenticationError as error:
            raise MailError(
                f"the mail server answered {error.smtp_code} to our login (SMTP_URL)"
            ) from None
        except smtplib.SMTPNotSupportedError:
            raise MailError("the mail server offers no login, but SMTP_URL names a user") from None
        except UnicodeError:
            raise MailError("smtplib logs in with ASCII alone: change that password") from None

    def _tls_context(self, verify_tls: bool | str) -> ssl.SSLContext:
        # Where TLS may be missing altogether, a certificate proves nothing.
        may_be_missing = self._is_here and not self._is_tls and verify_tls is True
        if verify_tls is False or may_be_missing:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
            return context
        return ssl.create_default_context(
            cafile=verify_tls if isinstance(verify_tls, str) else None
        )


def _refusal(of_what: str, code: int, answer: bytes) -> MailError:
    # Only the code: servers repeat the address in their text.
    text = f"the mail server answered {code} to {of_what}"
    if code not in range(400, 600) or code in (421, *OF_US):
        return MailError(text)
    # 5.7.x is a policy, such as "no relaying", which an operator can change.
    return MailRefused(text, permanent=code >= 500 and not answer.startswith(b"5.7."))


def _reason(error: Exception) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return "its certificate is not accepted (SMTP_VERIFY_TLS)"
    if isinstance(error, ssl.SSLError):
        return "no TLS with it"
    # smtplib reports a timeout as a closed connection.
    if isinstance(error, TimeoutError) or isinstance(error.__context__, TimeoutError):
        return "it took too long"
    if isinstance(error, socket.gaierror):
        return "its name is not found"
    if isinstance(error, ConnectionRefusedError):
        return "connection refused"
    if isinstance(error, smtplib.SMTPServerDisconnected | ConnectionError):
        return "the connection was cut"
    return type(error).__name__


def _ascii_host(recipient: str) -> str:
    """The address with its host in A-labels. Raises MailRefused unless it is one plain address."""
    match = ADDRESS.fullmatch(recipient)
    # An encoded word would be decoded in the header To, into another address.
    if not match or "=?" in recipient:
        raise MailRefused("this is no address that a mail can go to", permanent=True)
    local, host = match.groups()
    if not host.isascii():
        try:
            host = names.in_a_labels(host)
        except UnicodeError:
            raise MailRefused("this is no host that a mail can go to", permanent=True) from None
    return f"{local}@{host}"


def _one_line(text: str) -> str:
    return " ".join(re.sub(r"[\x00-\x20\x7f-\x9f\s]+", " ", text).split())
