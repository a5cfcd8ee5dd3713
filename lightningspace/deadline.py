"""Calls that end by the wall clock, over HTTP with requests and over SMTP with smtplib.

Their timeout is one for each read: an answer that dribbles a byte a second outlasts it.
"""

import os
import smtplib
import socket
import threading
from contextlib import contextmanager

import requests
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

_running = threading.local()


class TimeLimit:
    """Shuts down the connections that its thread opens or uses, when its time is over."""

    def __init__(self, seconds: float):
        self.is_over = False
        self._sockets: list[socket.socket] = []
        self._lock = threading.Lock()
        self._timer = threading.Timer(seconds, self._shut_down)
        self._timer.daemon = True
        self._timer.start()

    def watch(self, sock: socket.socket) -> None:
        # A duplicate: TLS detaches the socket that it wraps, before the handshake.
        with self._lock:
            self._sockets.append(socket.socket(fileno=os.dup(sock.fileno())))
        if self.is_over:
            self._shut_down()

    def end(self) -> None:
        self._timer.cancel()
        with self._lock:
            while self._sockets:
                self._sockets.pop().close()

    def _shut_down(self) -> None:
        with self._lock:
            self.is_over = True
            for sock in self._sockets:
                try:
                    sock.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass  # the other side has closed it already


@contextmanager
def time_limit(seconds: float):
    """Cut this thread's calls off after so many seconds."""
    _running.limit = limit = TimeLimit(seconds)
    try:
        yield limit
    finally:
        _running.limit = None
        limit.end()


class _Watched:
    """A connection that the running time limit can shut down."""

    def _new_conn(self):
        sock = super()._new_conn()
        _running.limit.watch(sock)
        return sock

    def request(self, *args, **kwargs):
        if self.sock is not None:  # kept open from an earlier call
            _running.limit.watch(self.sock)
        return super().request(*args, **kwargs)


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
    """A session whose calls are made within `time_limit`. `verify_tls` may be a CA file."""
    session = requests.Session()
    session.verify = verify_tls
    session.trust_env = False  # no proxy and no .netrc of the machine between us and the panel
    session.mount("http://", _Adapter())
    session.mount("https://", _Adapter())
    return session


class WatchedSMTP(smtplib.SMTP):
    """smtplib's SMTP, for use within `time_limit`."""

    def _get_socket(self, host, port, timeout):
        sock = super()._get_socket(host, port, timeout)
        _running.limit.watch(sock)
        return sock


class WatchedSMTPS(smtplib.SMTP_SSL, WatchedSMTP):
    """smtplib's SMTP_SSL, for use within `time_limit`: the handshake counts as well."""
