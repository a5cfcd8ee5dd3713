"""When a server's TLS certificate expires."""

import ssl
from collections.abc import Callable
from contextlib import closing
from socket import create_connection, socket

from lightningspace.outside.deadline import time_limit

SECONDS = 10
ANSWER_BYTES_MAX = 4096


class NoCertificate(Exception):
    """The server shows none, or none to trust; the text goes on after its name."""


def valid_until(
    host: str,
    port: int,
    verify_tls: bool | str = True,
    begin: Callable[[socket], None] | None = None,
) -> int | None:
    """In Unix seconds; None: `verify_tls` is False. It may be a CA file. `begin` asks for TLS on
    the open connection.

    Raises NoCertificate.
    """
    if verify_tls is False:
        return None
    context = ssl.create_default_context(cafile=verify_tls if isinstance(verify_tls, str) else None)
    with time_limit(SECONDS) as limit:
        try:
            with closing(create_connection((host, port), SECONDS)) as connection:
                limit.watch(connection)
                if begin:
                    begin(connection)
                with context.wrap_socket(connection, server_hostname=host) as tls:
                    return int(ssl.cert_time_to_seconds(tls.getpeercert()["notAfter"]))
        except ssl.SSLCertVerificationError as error:
            raise NoCertificate(f" has a bad certificate: {error.verify_message}") from None
        except OSError as error:
            raise NoCertificate(f" shows no certificate: {type(error).__name__}") from error


def after(*commands: bytes) -> Callable[[socket], None]:
    """A `begin` that sends commands: `AUTH TLS` for FTP, `EHLO …` and `STARTTLS` for SMTP. It
    raises OSError.
    """

    def begin(connection: socket) -> None:
        connection.settimeout(SECONDS)
        _answer(connection)
        for command in commands:
            connection.sendall(command + b"\r\n")
            _answer(connection)

    return begin


def _answer(connection: socket) -> None:
    """Read an answer; in its last line a blank follows the number."""
    said = b""
    while not (said.endswith(b"\n") and said.splitlines()[-1][3:4] == b" "):
        part = connection.recv(ANSWER_BYTES_MAX)
        if not part or len(said) > ANSWER_BYTES_MAX:
            raise ConnectionError("no answer that begins TLS")
        said += part
