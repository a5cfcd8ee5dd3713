"""Wall-clock deadlines for calls over HTTP (requests), SMTP (smtplib) and FTP (ftplib).

Their own timeouts apply to each read, so an answer of one byte a second would outlast them.
"""

import ftplib
import os
import smtplib
import socket
import threading
import time
from contextlib import contextmanager

import requests
import urllib3
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import InsecureRequestWarning

# For the connection alone, and for each read.
CONNECT_SECONDS = 15

_running = threading.local()


class _Watchman:
    """One thread that looks after all time limits of the process."""

    def __init__(self):
        self._running: set[TimeLimit] = set()
        self._changed = threading.Condition()
        self._wakes_at = float("inf")
        self._is_there = False

    def add(self, limit: "TimeLimit") -> None:
        with self._changed:
            self._running.add(limit)
            if not self._is_there:
                threading.Thread(target=self._look, daemon=True, name="time limits").start()
                self._is_there = True
            if limit.ends_at < self._wakes_at:
                self._wakes_at = limit.ends_at
                self._changed.notify()

    def remove(self, limit: "TimeLimit") -> None:
        with self._changed:
            self._running.discard(limit)

    def _look(self) -> None:
        while True:
            for limit in self._wait():
                limit.shut_down()

    def _wait(self) -> "list[TimeLimit]":
        """The limits that are over. It may wake in vain, for a limit that has ended early."""
        with self._changed:
            if self._wakes_at == float("inf"):
                self._changed.wait()
            else:
                left = self._wakes_at - time.monotonic()
                self._changed.wait(min(max(0, left), threading.TIMEOUT_MAX))
            over = [limit for limit in self._running if limit.ends_at <= time.monotonic()]
            self._running.difference_update(over)
            self._wakes_at = min((limit.ends_at for limit in self._running), default=float("inf"))
        return over


def _post_watchman() -> None:
    global _watchman
    _watchman = _Watchman()


_post_watchman()
os.register_at_fork(after_in_child=_post_watchman)  # a fork takes no other threads along


class TimeLimit:
    """Shuts down the connections of its thread when its time is over."""

    def __init__(self, seconds: float, outer: "TimeLimit | None" = None):
        self.is_over = False
        self.ends_at = time.monotonic() + seconds
        self._outer = outer
        self._sockets: list[socket.socket] = []
        self._lock = threading.Lock()
        _watchman.add(self)

    def watch(self, sock: socket.socket) -> None:
        # A duplicate, because TLS detaches the socket that it wraps before the handshake.
        with self._lock:
            self._sockets.append(socket.socket(fileno=os.dup(sock.fileno())))
        if self.is_over:
            self.shut_down()
        if self._outer:
            self._outer.watch(sock)

    def end(self) -> None:
        _watchman.remove(self)
        with self._lock:
            while self._sockets:
                self._sockets.pop().close()

    def shut_down(self) -> None:
        with self._lock:
            self.is_over = True
            for sock in self._sockets:
                try:
                    sock.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass  # the peer has closed it already


@contextmanager
def time_limit(seconds: float):
    """Cut off this thread's calls after `seconds`.

    Limits nest. An inner one knows only connections that are opened within it, so connections that
    are already open must be passed to its `watch`.
    """
    outer = getattr(_running, "limit", None)
    _running.limit = limit = TimeLimit(seconds, outer)
    try:
        yield limit
    finally:
        _running.limit = outer
        limit.end()


class _Watched:
    """A connection that the running time limit can shut down."""

    def _new_conn(self):
        sock = super()._new_conn()
        _running.limit.watch(sock)
        return sock


class _HTTP(_Watched, HTTPConnection):
    pass


class _HTTPS(_Watched, HTTPSConnection):
    pass


class _HTTPPool(HTTPConnectionPool):
    ConnectionCls = _HTTP


class _HTTPSPool(HTTPSConnectionPool):
    ConnectionCls = _HTTPS


class _Adapter(HTTPAdapter):
    def init_poolmanager(self, *args, **kwargs):
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = {"http": _HTTPPool, "https": _HTTPSPool}


def http_session(verify_tls: bool | str) -> requests.Session:
    """A session for use within `time_limit`. `verify_tls` may be a CA file.

    Each call opens a connection of its own: the panel's web server restarts whenever a site
    changes, and Apache with mpm_itk and mod_fcgid then never answers on connections it kept open.
    """
    session = requests.Session()
    session.headers["Connection"] = "close"
    session.verify = verify_tls
    session.trust_env = False  # ignore the machine's proxies and .netrc
    if verify_tls is False:  # the operator chose that: no warning at each call
        urllib3.disable_warnings(InsecureRequestWarning)
    session.mount("http://", _Adapter())
    session.mount("https://", _Adapter())
    return session


def http_connection(host: str, port: int, tls_name: str | None = None) -> HTTPConnection:
    """One connection for use within `time_limit`, which sends a request's target as it is.

    `tls_name`: it has TLS, with a certificate of this name.
    """
    if tls_name is None:
        return _HTTP(host, port, timeout=CONNECT_SECONDS)
    return _HTTPS(
        host,
        port,
        timeout=CONNECT_SECONDS,
        cert_reqs="CERT_REQUIRED",
        server_hostname=tls_name,
        assert_hostname=tls_name,
    )


class WatchedSMTP(smtplib.SMTP):
    """smtplib's SMTP, for use within `time_limit`."""

    def _get_socket(self, host, port, timeout):
        sock = super()._get_socket(host, port, timeout)
        _running.limit.watch(sock)
        return sock


class WatchedSMTPS(smtplib.SMTP_SSL, WatchedSMTP):
    """smtplib's SMTP_SSL, for use within `time_limit`, which covers the handshake."""


class WatchedFTP(ftplib.FTP_TLS):
    """ftplib's FTP_TLS, for use within `time_limit`. It is plain FTP until `auth`."""

    def connect(self, host, port, timeout):
        self.host, self.port, self.timeout = host, port, timeout
        self.sock = socket.create_connection((host, port), timeout)
        _running.limit.watch(self.sock)
        _send_at_once(self.sock)
        self.af = self.sock.family
        self.file = self.sock.makefile("r", encoding=self.encoding)
        self.welcome = self.getresp()
        return self.welcome

    def ntransfercmd(self, cmd, rest=None):
        conn, size = ftplib.FTP.ntransfercmd(self, cmd, rest)
        try:
            _running.limit.watch(conn)
            _send_at_once(conn)
            if self._prot_p:
                # Some servers accept only data connections that resume the first one's TLS.
                conn = self.context.wrap_socket(
                    conn, server_hostname=self.host, session=self.sock.session
                )
        except BaseException:
            conn.close()
            raise
        return conn, size


def _send_at_once(sock: socket.socket) -> None:
    """Otherwise the end of a file, and the login after a handshake, wait until the server confirms
    what went before, which takes 40 ms.
    """
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
