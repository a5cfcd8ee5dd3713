"""HTTP requests whose paths are sent as they are written: other clients tidy them up."""

import socket
import ssl
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from urllib.parse import urlsplit

from lightningspace.outside.deadline import time_limit

SECONDS = 15
BODY_BYTES_MAX = 256 * 1024
TOR = ("127.0.0.1", 9050)


class NoAnswer(Exception):
    """No readable answer came in time. The text goes on after the address."""


class BadCertificate(NoAnswer):
    """It has expired, is for another name, or is from nobody whom this machine trusts."""


@dataclass(frozen=True)
class Answer:
    """`body`: its first BODY_BYTES_MAX at most."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes

    def all(self, name: str) -> list[str]:
        return [value for each, value in self.headers if each.lower() == name.lower()]

    def get(self, name: str) -> str:
        return ", ".join(self.all(name))


class _SocketConnection(HTTPConnection):
    def __init__(self, path: str):
        super().__init__("localhost", timeout=SECONDS)
        self._path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


class _TorConnection(HTTPConnection):
    """Through Tor on this machine (SOCKS 5), which alone knows where onion addresses lead."""

    def __init__(self, host: str, port: int | None, tor: tuple[str, int]):
        super().__init__(host, port, timeout=SECONDS)
        self._tor = tor

    def connect(self):
        self.sock = socket.create_connection(self._tor, self.timeout)
        self._exchange(b"\5\1\0", b"\5\0")
        host = self.host.encode()
        to = bytes([len(host)]) + host + self.port.to_bytes(2, "big")
        self._exchange(b"\5\1\0\3" + to, b"\5\0\0\1")
        self.sock.recv(6, socket.MSG_WAITALL)  # an address and a port that mean nothing

    def _exchange(self, sent: bytes, expected: bytes) -> None:
        self.sock.sendall(sent)
        if self.sock.recv(len(expected), socket.MSG_WAITALL) != expected:
            raise ConnectionError(None, "Tor does not lead there")


class Site:
    """The server at an address such as https://example.org:8443, or at a socket such as
    unix:/run/web. Raises ValueError for other addresses.

    `tor`: where Tor listens on this machine, which leads to onion addresses.
    """

    def __init__(self, url: str, tor: tuple[str, int] = TOR):
        self._is_socket, self._is_https = url.startswith("unix:/"), False
        self._tor = tor
        if self._is_socket:
            self.url, self._host = url, url.removeprefix("unix:")
            return
        wrong = "write an address such as https://example.org, without a path"
        try:
            parts = urlsplit(url)
            self._host, self._port = parts.hostname, parts.port
        except ValueError:
            raise ValueError(wrong) from None
        self._is_https = parts.scheme == "https"
        has_more = parts.path.strip("/") or parts.query or parts.fragment or parts.username
        if parts.scheme not in ("http", "https") or not self._host or has_more:
            raise ValueError(wrong)
        self.url = f"{parts.scheme}://{parts.netloc}"

    def ask(self, method: str, path: str, headers: dict[str, str] | None = None) -> Answer:
        """Raises NoAnswer."""
        with time_limit(SECONDS) as limit:
            connection = self._connection()
            try:
                connection.connect()
                limit.watch(connection.sock)
                connection.request(method, path, headers={"Accept": "*/*"} | (headers or {}))
                answer = connection.getresponse()
                return Answer(answer.status, answer.getheaders(), answer.read(BODY_BYTES_MAX))
            except ssl.SSLCertVerificationError as error:
                raise BadCertificate(f"has a bad certificate: {error.verify_message}") from None
            except (OSError, HTTPException) as error:
                reason = getattr(error, "strerror", None) or type(error).__name__
                reason = "it took too long" if limit.is_over else reason
                raise NoAnswer(f"does not answer: {reason}") from None
            finally:
                connection.close()

    def _connection(self) -> HTTPConnection:
        if self._is_socket:
            return _SocketConnection(self._host)
        if self._host.endswith(".onion"):
            return _TorConnection(self._host, self._port, self._tor)
        if self._is_https:
            context = ssl.create_default_context()
            return HTTPSConnection(self._host, self._port, timeout=SECONDS, context=context)
        return HTTPConnection(self._host, self._port, timeout=SECONDS)
