"""A site's files over FTP (ftplib), with TLS unless told otherwise. Plain values in and out.

The files are the customer's and may be anything: names and contents are read with bounds in size
and time, and names from a listing must be checked before they are sent back to the server.
"""

import ftplib
import re
import socket
import ssl
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from lightningspace.outside.deadline import TimeLimit, WatchedFTP, time_limit

# A session ends after this time, whatever the server does. It is less than a third of a lease, and
# the account's other changes wait for it.
SESSION_SECONDS = 45
CONNECT_SECONDS = 5
ANSWER_SECONDS = 20
# Limits for reading one file or listing.
READ_SECONDS = 10
READ_MAX, LISTING_MAX = 128 * 1024, 64 * 1024
# A server that could not be reached is left alone for this long.
REST_SECONDS = 30
# Bytes of replies that a server may send in one session.
SAID_MAX = 256 * 1024

NAME = re.compile(r"[A-Za-z0-9._-]{1,100}")
NO_SPACE_WORDS = re.compile("quota exceeded|no space left|disk full", re.I)
CONNECTION_ERRORS = (OSError, EOFError, ftplib.Error)


class FtpError(Exception):
    """The server did not do it, or did not say whether it did.

    The text is for the operator; it contains no name, no password and nothing of the server's
    text. `permanent`: retrying is useless. `is_calm`: expected, and passes by itself.
    """

    is_calm = False

    def __init__(self, text: str, permanent: bool = False):
        super().__init__(text)
        self.permanent = permanent


class LoginRefused(FtpError):
    """The server does not accept the user, perhaps because it does not know them yet."""

    is_calm = True


class NotNow(FtpError):
    """The server was not asked, because it could not be reached a moment ago."""

    is_calm = True


class Unreachable(FtpError):
    """The server cannot be reached, or not in the way it is set up."""


class FtpRefused(FtpError):
    """The server refused this for this file, perhaps because of how its owner left it."""


class NoSpace(FtpError):
    """The site's quota or disk is full."""


class _TooSlow(FtpError):
    """The content did not arrive in time."""


class FtpServers:
    """The FTP servers of the shop, by server id, for all threads.

    `addresses` (host and port) replace the host that customers use. `verify_tls` may be a CA file.
    A server that could not be reached is left alone for a while, so that threads do not wait for
    it one after the other.
    """

    def __init__(
        self,
        addresses: dict[int, tuple[str, int]],
        is_tls: bool = True,
        verify_tls: bool | str = True,
    ):
        self._addresses = addresses
        self._is_tls = is_tls
        self._verify_tls = verify_tls
        self._not_before: dict[int, float] = {}

    @contextmanager
    def session(self, server_id: int, host: str, user: str, password: str) -> Iterator["Session"]:
        """Like FtpServer.session. `host`: where customers reach the server. Raises NotNow too."""
        self.check(server_id)
        try:
            address = self._addresses.get(server_id, (host, 21))
            server = FtpServer(*address, self._is_tls, self._verify_tls)
            with server.session(user, password) as session:
                yield session
        except Unreachable:
            self._not_before[server_id] = time.monotonic() + REST_SECONDS
            raise

    def check(self, server_id: int) -> None:
        """Raise NotNow if the server is being left alone."""
        if time.monotonic() < self._not_before.get(server_id, 0):
            raise NotNow("the FTP server could not be reached a moment ago")


class FtpServer:
    """One server. `verify_tls` may be a CA file."""

    def __init__(
        self,
        host: str,
        port: int = 21,
        is_tls: bool = True,
        verify_tls: bool | str = True,
        seconds: float = SESSION_SECONDS,
        read_seconds: float = READ_SECONDS,
    ):
        self.host = host
        self.port = port
        self.is_tls = is_tls
        self.read_seconds = read_seconds
        self.context = _tls_context(verify_tls)
        self._seconds = seconds

    @contextmanager
    def session(self, user: str, password: str) -> Iterator["Session"]:
        """A session in the user's directory. Raises FtpError, as its methods do; Unreachable if it
        failed before the login.
        """
        with time_limit(self._seconds) as limit:
            session = Session(self, limit, user, password)
            try:
                session.open()
                yield session
            except CONNECTION_ERRORS as error:
                kind = FtpError if session.is_known else Unreachable
                raise _told(error, limit, kind) from None
            finally:
                session.close()

    def try_out(self) -> None:
        """Reach it, without a login. Raises Unreachable."""
        with time_limit(self._seconds) as limit:
            session = Session(self, limit, "", "")
            try:
                session.reach()
            except CONNECTION_ERRORS as error:
                raise _told(error, limit, Unreachable) from None
            finally:
                session.close()


class Session:
    """A login to one user's directory."""

    def __init__(self, server: FtpServer, limit: TimeLimit, user: str, password: str):
        self.is_known = False
        self._server = server
        self._limit = limit
        self._user = user
        self._password = password
        self._ftp: _Connection | None = None
        self._directory: str | None = None
        self._hanging: set[str] = set()
        self._made: set[str] = set()

    def open(self) -> None:
        ftp = self.reach()
        self._log_in(ftp)
        if self._server.is_tls:
            _reply(ftp.prot_p)
        _reply(ftp.voidcmd, "TYPE I")
        if self._directory:
            _reply(ftp.cwd, self._directory)

    def reach(self) -> "_Connection":
        """A connection, with TLS if that is set, before any login."""
        # Latin-1 decodes any byte that the server may send.
        self._ftp = ftp = _Connection(context=self._server.context, encoding="latin-1")
        _reply(ftp.connect, self._server.host, self._server.port, CONNECT_SECONDS)
        ftp.sock.settimeout(ANSWER_SECONDS)
        if self._server.is_tls:
            self._start_tls(ftp)
        return ftp

    def enter(self, directory: str) -> None:
        """Change into an existing directory; names are relative to it from then on."""
        _reply(self._connection().cwd, _plain(directory))
        self._directory = f"{self._directory}/{directory}" if self._directory else directory

    def leave(self) -> None:
        """Change back to the parent of the directory that was entered last."""
        _reply(self._connection().voidcmd, "CDUP")
        self._directory = (self._directory or "").rpartition("/")[0] or None

    def close(self) -> None:
        """Hang up without waiting for the server."""
        if self._ftp:
            self._ftp.close()
            self._ftp = None

    def names(self) -> list[str] | None:
        """The names in the directory; None if there are too many. Bytes outside ASCII are decoded
        as Latin-1.
        """
        listing = self._bounded("NLST", LISTING_MAX)
        if listing is None:
            return None
        # Not `splitlines`, for which a part of a letter in UTF-8 can be a line break, too.
        lines = listing.decode("latin-1").replace("\r", "\n").split("\n")
        return [line for line in lines if line]

    def read(self, name: str) -> bytes | None:
        """A file's whole content.

        None if that is impossible: it is no regular file, it is too long, it may not be read, or
        it is a FIFO that nobody writes to.
        """
        size = self._size(_plain(name))
        if name in self._hanging or size is None or size > READ_MAX:
            return None
        try:
            return self._bounded(f"RETR {_plain(name)}", READ_MAX)
        except FtpRefused:
            return None
        except _TooSlow:
            self._hanging.add(name)
            return None

    def store(self, name: str, content: bytes) -> None:
        """Write a whole file, under a name that is not in use yet."""
        self.store_parts(name, [content], len(content))

    def store_parts(self, name: str, parts: Iterable[bytes], length: int) -> None:
        """The same for a file that comes in several parts."""
        ftp = self._connection()
        conn = self._transfer(ftp, f"STOR {_plain(name)}")
        broken = None
        try:
            for part in parts:
                conn.sendall(part)
        except OSError as error:
            broken = error  # the server may have replied that its disk is full
        finally:
            _end(conn)
        _reply(ftp.voidresp)
        if broken:
            raise broken
        if self._size(_plain(name)) != length:
            raise FtpError("the FTP server has kept a file in part only")

    def rename(self, name: str, new_name: str) -> None:
        """Rename a file; what had the new name is replaced, even if it is a symlink."""
        _reply(self._connection().rename, _plain(name), _plain(new_name))

    def move(self, name: str, path: str) -> None:
        """Rename a file to a path of the customer's below the directory."""
        try:
            _reply(self._connection().rename, _plain(name), _path(path))
        except FtpError as error:
            # pure-ftpd's answer where a directory has that name, or one of the path's is a file.
            if isinstance(error, NoSpace) or not str(error).endswith(" 451"):
                raise
            raise FtpRefused(str(error)) from None

    def has_file(self, path: str) -> bool:
        """Whether a regular file is at this path of the customer's."""
        return self._size(_path(path)) is not None

    def make_directories_of(self, path: str) -> None:
        """Make the directories of a path of the customer's, as far as the server lets us."""
        parts = path.split("/")[:-1]
        for length in range(1, len(parts) + 1):
            directory = "/".join(parts[:length])
            if directory not in self._made:
                try:
                    _reply(self._connection().mkd, _path(directory))
                except FtpRefused:
                    pass  # it is there, or else nothing can be put into it
                self._made.add(directory)

    def delete(self, name: str) -> None:
        _reply(self._connection().delete, _plain(name))

    def make_directory(self, name: str) -> None:
        _reply(self._connection().mkd, _plain(name))

    def set_mode(self, name: str, mode: int) -> None:
        """chmod a file or directory."""
        command = f"SITE CHMOD {mode:o} {_plain(name)}"
        try:
            self._connection().voidcmd(command)
        except ftplib.error_perm as error:
            if _code(error) in ("550", "553"):
                raise FtpRefused(f"the FTP server answered {_code(error)} to SITE CHMOD") from None
            raise FtpError(
                f"the FTP server answered {_code(error)} to SITE CHMOD, by which neighbours are "
                "shut out: allow it",
                permanent=True,
            ) from None
        except ftplib.error_temp as error:
            raise FtpError(f"the FTP server answered {_code(error)} to SITE CHMOD") from None

    # -- connections -------------------------------------------------------------

    def _connection(self) -> "_Connection":
        """The open connection, or a new one if that was given up."""
        if self._ftp is None:
            self.open()
        return self._ftp

    def _start_tls(self, ftp: "_Connection") -> None:
        try:
            ftp.auth()
        except (ftplib.error_perm, ftplib.error_temp) as error:
            raise Unreachable(
                f"the FTP server answered {_code(error)} to AUTH TLS: it needs a certificate"
                " (pure-ftpd: /etc/ssl/private/pure-ftpd.pem), or set FTP_TLS=never",
                permanent=True,
            ) from None

    def _log_in(self, ftp: "_Connection") -> None:
        try:
            if ftp.sendcmd(f"USER {self._user}").startswith("3"):
                ftp.voidcmd(f"PASS {self._password}")
            self.is_known = True
        except (ftplib.error_perm, ftplib.error_temp) as error:
            hint = "" if self._server.is_tls else " (does it want TLS? FTP_TLS=always)"
            # pure-ftpd answers 421 while the user's directory does not exist yet.
            raise LoginRefused(
                f"the FTP server answered {_code(error)} to our login{hint}"
            ) from None

    def _size(self, path: str) -> int | None:
        """The size of a regular file; None for anything else. Reading a FIFO would never end."""
        try:
            return _reply(self._connection().size, path)
        except FtpRefused:
            return None

    def _bounded(self, command: str, most: int) -> bytes | None:
        """What the server sends; None if it is more bytes than that. Raises _TooSlow if it takes
        too long.

        In both cases the connection is given up, because the server may never finish.
        """
        ftp = self._connection()
        with time_limit(self._server.read_seconds) as limit:
            limit.watch(ftp.sock)
            try:
                content = _receive(self._transfer(ftp, command), most)
                if content is None:
                    self.close()
                else:
                    _reply(ftp.voidresp)
                return content
            except (*CONNECTION_ERRORS, FtpError):
                if not limit.is_over or self._limit.is_over:
                    raise
                self.close()
                raise _TooSlow("the FTP server took too long") from None

    def _transfer(self, ftp: "_Connection", command: str) -> socket.socket:
        ftp.timeout = CONNECT_SECONDS
        try:
            conn = _reply(ftp.transfercmd, command)
        except (ConnectionRefusedError, TimeoutError):
            raise FtpError(
                "no data connection with the FTP server: are its passive ports open?"
            ) from None
        conn.settimeout(ANSWER_SECONDS)
        return conn


class _Connection(WatchedFTP):
    """Accepts replies of SAID_MAX bytes in all."""

    said = 0

    def getline(self):
        line = super().getline()
        self.said += len(line)
        if self.said > SAID_MAX:
            raise ftplib.error_proto("that is enough")
        return line


def _receive(conn: socket.socket, most: int) -> bytes | None:
    content = bytearray()
    try:
        while len(content) <= most:
            received = conn.recv(most)
            if not received:
                return bytes(content)
            content += received
        return None
    finally:
        _close(conn)


def _end(conn: socket.socket) -> None:
    """Signal the end of the data."""
    try:
        if isinstance(conn, ssl.SSLSocket):
            conn.unwrap()
    except (OSError, ValueError):
        pass  # the server's reply to the transfer decides
    _close(conn)


def _close(conn: socket.socket) -> None:
    # Closing is not enough, because the time limit holds a duplicate of the socket.
    try:
        conn.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass
    conn.close()


def _plain(name: str) -> str:
    if not NAME.fullmatch(name) or ".." in name or name == ".":
        raise AssertionError("not a name of ours")
    return name


def _path(path: str) -> str:
    """A path that base.archive has let pass, as the bytes that the connection sends."""
    if not path.isprintable() or path.startswith("/") or ".." in path.split("/"):
        raise AssertionError("not a path below the directory")
    return path.encode().decode("latin-1")


def _reply(call: Callable, *args):
    """The call's result; a refusal of the server becomes an FtpError."""
    try:
        return call(*args)
    except (ftplib.error_perm, ftplib.error_temp) as error:
        code = _code(error)
        if code in ("452", "552") or NO_SPACE_WORDS.search(str(error)):
            raise NoSpace("the space of the site is full") from None
        text = f"the FTP server answered {code}"
        raise (FtpRefused if code in ("450", "550", "553") else FtpError)(text) from None
    except OSError:
        raise
    except (ValueError, OverflowError):
        raise ftplib.error_proto("no such number") from None


def _code(error: Exception) -> str:
    code = str(error)[:3]
    return code if code.isdecimal() and code.isascii() else "no code"


def _tls_context(verify_tls: bool | str) -> ssl.SSLContext:
    if verify_tls is not False:
        return ssl.create_default_context(cafile=verify_tls if verify_tls is not True else None)
    # The default one reads all the machine's certificates first, for a tenth of a second.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _told(error: Exception, limit: TimeLimit, kind: type[FtpError]) -> FtpError:
    # The time limit itself shuts connections down, which looks as if the server had.
    if limit.is_over or isinstance(error, TimeoutError):
        return kind("the FTP server took too long")
    if isinstance(error, ssl.SSLCertVerificationError):
        text = "the FTP server's certificate is not accepted (FTP_VERIFY_TLS)"
        return kind(text, permanent=True)
    if isinstance(error, socket.gaierror):
        return kind("the FTP server's name is not found")
    if isinstance(error, ConnectionRefusedError):
        return kind("the FTP server refuses the connection")
    if isinstance(error, EOFError | ConnectionError | ssl.SSLEOFError):
        return kind("the FTP server cut the connection")
    if isinstance(error, ssl.SSLError):
        return kind("no TLS with the FTP server")
    return kind(f"the FTP server does not speak FTP as it should ({type(error).__name__})")
