"""Calls that end by the wall clock: HTTP with requests, SMTP with smtplib, FTP with ftplib.

Their timeout is one for each read: an answer that dribbles a byte a second outlasts it.
"""

import ftplib
import os
import smtplib
import socket
import threading
from contextlib import contextmanager

import requests
import urllib3
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import InsecureRequestWarning

_running = threading.local()


class TimeLimit:
    """Shuts down the connections that its thread opens or uses, when its time is over."""

    def __init__(self, seconds: float, outer: "TimeLimit | None" = None):
        self.is_over = False
        self._outer = outer
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
        if self._outer:
            self._outer.watch(sock)

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
    """Cut this thread's calls off after so many seconds.

    One within another may end earlier; it has to be told to watch what is open already.
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
    """A session whose calls are made within `time_limit`. `verify_tls` may be a CA file.

    Each is made on a connection of its own: the panel's web server restarts for each site that
    changes, and Apache with mpm_itk and mod_fcgid leaves what it kept open without an answer.
    """
    session = requests.Session()
    session.headers["Connection"] = "close"
    session.verify = verify_tls
    session.trust_env = False  # no proxy and no .netrc of the machine between us and the panel
    if verify_tls is False:  # as the operator has said: not once more at each call
        urllib3.disable_warnings(InsecureRequestWarning)
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


class WatchedFTP(ftplib.FTP_TLS):
    """ftplib's FTP_TLS, for use within `time_limit`. Until `auth` it is plain FTP."""

    def connect(self, host, port, timeout):
        self.host, self.port, self.timeout = host, port, timeout
        self.sock = socket.create_connection((host, port), timeout)
        _running.limit.watch(self.sock)
        self.af = self.sock.family
        self.file = self.sock.makefile("r", encoding=self.encoding)
        self.welcome = self.getresp()
        return self.welcome

    def ntransfercmd(self, cmd, rest=None):
        conn, size = ftplib.FTP.ntransfercmd(self, cmd, rest)
        try:
            _running.limit.watch(conn)
            if self._prot_p:
                # Some servers take no data but from whom they know from the control connection.
                conn = self.context.wrap_socket(
                    conn, server_hostname=self.host, session=self.sock.session
                )
        except BaseException:
            conn.close()
            raise
        return conn, size
