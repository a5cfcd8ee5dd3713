"""A stand-in mail server (aiosmtpd) that accepts and keeps every mail unless told otherwise."""

import asyncio
import logging
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult

from lightningspace.sandbox.faults import Fault, Faults

# Below that, aiosmtpd logs addresses.
logging.getLogger("mail.log").setLevel(logging.ERROR)


@dataclass
class Mail:
    sender: str
    recipient: str
    message: EmailMessage
    was_encrypted: bool
    user: str | None

    @property
    def subject(self) -> str:
        return str(self.message["Subject"])

    @property
    def text(self) -> str:
        return self.message.get_content().replace("\r\n", "\n")


class SandboxMail:
    """Listens at `url`. `certificate` is a PEM file for STARTTLS, or with `is_smtps` for TLS from
    the start; `login` is the user and password that it requires, over TLS.

    `faults` by command: MAIL, RCPT and DATA (for "refuse" the message is the whole answer).
    `refused`: answers by recipient.
    """

    def __init__(
        self,
        host: str = "127.0.0.1",
        certificate=None,
        is_smtps: bool = False,
        login: tuple[str, str] | None = None,
        show: Callable[[Mail], None] | None = None,
    ):
        self.received: list[Mail] = []
        self.refused: dict[str, str] = {}
        self.faults = Faults()
        self._login = login
        self._show = show
        self._is_smtps = is_smtps
        context = None
        if certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
        self._server = _Controller(
            self,
            hostname=host,
            port=0,
            server_hostname="mail.sandbox",
            ssl_context=context if is_smtps else None,
            tls_context=None if is_smtps else context,
            auth_required=bool(login),
            auth_require_tls=not is_smtps,
            authenticator=self._authenticate if login else None,
        )

    def start(self) -> None:
        self._server.start()

    def stop(self) -> None:
        self.faults.clear()
        self._server.stop()

    @property
    def address(self) -> str:
        return f"{self._server.hostname}:{self._server.port}"

    @property
    def url(self) -> str:
        login = "{}:{}@".format(*self._login) if self._login else ""
        return f"{'smtps' if self._is_smtps else 'smtp'}://{login}{self.address}"

    def _authenticate(self, server, session, envelope, mechanism, data) -> AuthResult:
        given = (data.login.decode(), data.password.decode())
        return AuthResult(success=given == self._login, handled=False, auth_data=data.login)

    # -- what aiosmtpd calls -----------------------------------------------------

    async def handle_MAIL(self, server, session, envelope, address, options):
        if answer := await self._weather(server, "MAIL"):
            return answer
        envelope.mail_from = address
        envelope.mail_options.extend(options)
        return "250 OK"

    async def handle_RCPT(self, server, session, envelope, address, options):
        answer = await self._weather(server, "RCPT") or self.refused.get(address)
        if answer:
            return answer
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server, session, envelope):
        fault = self.faults.take("DATA")
        if fault is None or fault.kind in ("slow", "cut-after"):
            self._keep(session, envelope)
        answer = await self._go_wrong(server, fault) if fault else None
        return answer or "250 OK"

    def _keep(self, session, envelope) -> None:
        for recipient in envelope.rcpt_tos:
            mail = Mail(
                envelope.mail_from,
                recipient,
                message_from_bytes(envelope.original_content, policy=default),
                was_encrypted=self._is_smtps or session.ssl is not None,
                user=session.auth_data.decode() if session.auth_data else None,
            )
            self.received.append(mail)
            if self._show:
                self._show(mail)

    async def _weather(self, server, call: str) -> str | None:
        """Apply a fault. Return the answer to give instead of the usual one, or None."""
        fault = self.faults.take(call)
        return await self._go_wrong(server, fault) if fault else None

    async def _go_wrong(self, server, fault: Fault) -> str | None:
        if fault.kind == "refuse":
            return fault.message
        if fault.kind == "slow":
            await asyncio.sleep(fault.seconds)
            return None
        while fault.kind == "frozen" and not self.faults.thawed.is_set():
            await asyncio.sleep(0.02)
        server.transport.abort()
        return "421 nobody reads this"


class _Controller(Controller):
    def _trigger_server(self):
        self.port = self.server.sockets[0].getsockname()[1]  # the port was 0: any free one
        super()._trigger_server()
