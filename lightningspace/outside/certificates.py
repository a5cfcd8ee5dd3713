"""Until when a server's TLS certificate is good."""

import ssl
from collections.abc import Callable
from contextlib import closing
from socket import create_connection, socket

from cryptography import x509

from lightningspace.outside.deadline import time_limit

SECONDS = 10
ANSWER_BYTES_MAX = 4096


class NoCertificate(Exception):
    """It cannot be had; the text goes on after the server's name."""


def valid_until(host: str, port: int, begin: Callable[[socket], None] | None = None) -> int:
    """Unix seconds. The certificate is not checked. `begin` asks for TLS on the open connection.

    Raises NoCertificate.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with time_limit(SECONDS) as limit:
        try:
            with closing(create_connection((host, port), SECONDS)) as connection:
                limit.watch(connection)
                if begin:
                    begin(connection)
                with context.wrap_socket(connection, server_hostname=host) as tls:
                    der = tls.getpeercert(binary_form=True)
        except OSError as error:
            raise NoCertificate(f" has no certificate for us: {type(error).__name__}") from error
    return int(x509.load_der_x509_certificate(der).not_valid_after_utc.timestamp())


def after(*commands: bytes) -> Callable[[socket], None]:
    """How FTP (`AUTH TLS`) and SMTP (`EHLO …`, `STARTTLS`) begin with TLS. Raises OSError."""

    def begin(connection: socket) -> None:
        connection.settimeout(SECONDS)
        _answer(connection)
        for command in commands:
            connection.sendall(command + b"\r\n")
            _answer(connection)

    return begin


def _answer(connection: socket) -> None:
    """Read an answer; its last line has a blank behind the number."""
    said = b""
    while not (said.endswith(b"\n") and said.splitlines()[-1][3:4] == b" "):
        part = connection.recv(ANSWER_BYTES_MAX)
        if not part or len(said) > ANSWER_BYTES_MAX:
            raise ConnectionError("no answer that begins TLS")
        said += part
