"""A stand-in FTP server (pyftpdlib) that behaves like pure-ftpd and serves the panel's sites.

The sites' directories are below `root`, laid out as by ISPConfig. Users can log in as soon as the
panel's queue has created their site.
"""

import logging
import os
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path

from OpenSSL import SSL
from pyftpdlib.authorizers import AuthenticationFailed
from pyftpdlib.filesystems import AbstractedFS
from pyftpdlib.handlers import DTPHandler, FTPHandler, TLS_DTPHandler, TLS_FTPHandler
from pyftpdlib.servers import ThreadedFTPServer

from lightningspace.sandbox.faults import Fault, Faults
from lightningspace.sandbox.panel import MadeSite, SandboxPanel

# It logs user names, and treats each connection that is cut as an error.
logging.getLogger("pyftpdlib").setLevel(logging.CRITICAL)
# Without a handler, pyftpdlib would configure logging itself.
logging.getLogger("pyftpdlib").addHandler(logging.NullHandler())

# What a new site contains, with modes.
SITE_DIRECTORIES = {
    "web": 0o711,
    "log": 0o755,
    "private": 0o710,
    "tmp": 0o770,
    "backup": 0o755,
    "cgi-bin": 0o755,
    "ssl": 0o755,
}
JAIL_DIRECTORIES = ("bin", "dev", "etc", "home", "lib", "lib64", "usr", "var")
NEW_FILE_MODE, NEW_DIRECTORY_MODE = 0o644, 0o755
FRESH_SITE = {
    "standard_index.html": b"<html><body>Welcome to your website!</body></html>\n",
    "favicon.ico": b"",
    "robots.txt": b"User-agent: *\n",
}


class SandboxFtp:
    """Listens at `host` and `port`. With a `certificate` (a PEM file) it requires TLS. Without one
    it still offers AUTH TLS, and answers 500 to it.

    The panel's paths are those of a real server; its "/var/www" is `root` here.

    Switches: `faults` by command (see faults.py; for "refuse" the message is the whole answer, or
    "dribble": the command's data arrives at one byte a second); `down` and `up`; `space_bytes` (how
    much may still be written; None: any amount). `commands` are all commands received, with their
    arguments. `show` is called with the domain and the new name of each file that is renamed in
    `web`.
    """

    def __init__(
        self,
        root: Path,
        panel: SandboxPanel,
        certificate: Path | None = None,
        host: str = "127.0.0.1",
        show: Callable[[str, str], None] | None = None,
    ):
        self.show = show
        self.root = root
        self.host = host
        self.port = 0
        self.faults = Faults()
        self.commands: list[tuple[str, str]] = []
        self.space_bytes: int | None = None
        self.panel = panel
        self.stopping = threading.Event()
        self._laying_out = threading.Lock()
        self._laid_out: set[MadeSite] = set()
        self._links: dict[Path, Path] | None = None
        self._certificate = certificate
        self._serving: threading.Thread | None = None

    @property
    def address(self) -> str:
        return f"{self.host}:{self.port}"

    def start(self) -> None:
        """Return once it is listening."""
        self.stopping.clear()
        server = _Server((self.host, self.port), _handler(self, self._certificate))
        self.port = server.address[1]
        self._serving = threading.Thread(target=self._serve, args=(server,), daemon=True)
        self._serving.start()

    def down(self) -> None:
        """Cut all connections and refuse new ones until `up`; the files stay."""
        if self._serving:
            self.stopping.set()
            self._serving.join()
            self._serving = None

    def up(self) -> None:
        self.start()

    def stop(self) -> None:
        self.faults.clear()
        self.down()

    def lay_out(self) -> None:
        """Create the sites' directories, as the panel's queue does, and a symlink for each name."""
        with self._laying_out:
            sites = set(self.panel.made_sites())
            for site in sites - self._laid_out:
                make_directories(self.local(site.directory), site.has_jail)
            if sites != self._laid_out:
                self._link([site for site in sites if site.is_served])
            self._laid_out = sites

    def _link(self, served: list[MadeSite]) -> None:
        sites = {
            self.root / site.domain: self.local(site.directory).relative_to(self.root)
            for site in served
        }
        if self._links is None:  # links may remain from an earlier start
            there = [path for path in self.root.glob("*") if path.is_symlink()]
            self._links = {link: link.readlink() for link in there}
        for link, _ in self._links.items() - sites.items():
            link.unlink()
        for link, site in sites.items() - self._links.items():
            link.symlink_to(site)
        self._links = sites

    def site_of(self, file: Path) -> str | None:
        sites = self.panel.made_sites()
        inside = (s.domain for s in sites if self.local(s.directory).resolve() in file.parents)
        return next(inside, None)

    def local(self, path: str) -> Path:
        """The path on this machine of a path at the panel."""
        return self.root / path.removeprefix("/var/www/")

    def _serve(self, server: "_Server") -> None:
        again = 0.0
        while not self.stopping.is_set():
            server.serve_forever(timeout=0.05, blocking=False)
            if (began := time.monotonic()) >= again:
                self.lay_out()
                # With many sites this takes a while: leave most of the time to serving.
                again = began + 10 * (time.monotonic() - began)
        server.close_all()


def make_directories(site: Path, has_jail: bool) -> None:
    if not site.exists():
        site.mkdir(parents=True)
        site.chmod(NEW_DIRECTORY_MODE)
        for name, mode in SITE_DIRECTORIES.items():
            (site / name).mkdir()
            (site / name).chmod(mode)
        for name, content in FRESH_SITE.items():
            (site / "web" / name).write_bytes(content)
            (site / "web" / name).chmod(NEW_FILE_MODE)
    for name in JAIL_DIRECTORIES if has_jail else ():
        (site / name).mkdir(exist_ok=True)


class _Server(ThreadedFTPServer):
    poll_timeout = 0.05

    def __init__(self, address, handler):
        # pyftpdlib shares its own among all servers of a process.
        self._lock, self._exit = threading.Lock(), threading.Event()
        super().__init__(address, handler)


class _Users:
    """pyftpdlib's authorizer, one for each connection."""

    def __init__(self, sandbox: SandboxFtp):
        self._sandbox = sandbox
        self._home: Path | None = None

    def validate_authentication(self, username, password, handler):
        self._sandbox.lay_out()
        path = self._sandbox.panel.ftp_directory(username, password)
        home = path and self._sandbox.local(path)
        if not home or not home.is_dir():
            raise AuthenticationFailed("Login authentication failed")
        self._home = home

    def get_home_dir(self, username):
        return str(self._home)

    def has_perm(self, username, perm, path=None):
        return True

    def get_msg_login(self, username):
        return "OK. Current directory is /"

    def get_msg_quit(self, username):
        return "Goodbye."

    def impersonate_user(self, username, password):
        pass

    def terminate_impersonation(self, username):
        pass


class _Files(AbstractedFS):
    """A directory that users cannot leave, on a disk that may be full."""

    def open(self, filename, mode):
        is_new = not os.path.exists(filename)
        file = super().open(filename, mode)
        if is_new:
            os.chmod(filename, NEW_FILE_MODE)
        return _Counted(file, self.cmd_channel.sandbox) if "w" in mode else file

    def mkdir(self, path):
        super().mkdir(path)
        os.chmod(path, NEW_DIRECTORY_MODE)


class _Counted:
    def __init__(self, file, sandbox: SandboxFtp):
        self._file = file
        self._sandbox = sandbox

    def write(self, chunk: bytes) -> None:
        left = self._sandbox.space_bytes
        if left is not None:
            self._sandbox.space_bytes = left - len(chunk[:left])
        self._file.write(chunk[:left])
        if left is not None and len(chunk) > left:
            raise OSError(28, os.strerror(28))

    def __getattr__(self, name):
        return getattr(self._file, name)


class _Weather:
    """A control connection with faults; mixed into pyftpdlib's."""

    sandbox: SandboxFtp
    abstracted_fs = _Files
    auth_failed_timeout = 0
    timeout = None
    banner = "---------- Welcome to the sandbox's FTP ----------"
    encoding = "utf8"

    _is_cut = False
    _is_cut_after = False
    dribbles = False
    data_dribbles = False

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.authorizer = _Users(self.sandbox)

    def process_command(self, cmd, *args, **kwargs):
        self.sandbox.commands.append((cmd, os.path.basename(str(args[0])) if args else ""))
        fault = self.sandbox.faults.take(cmd)
        if fault is None or not self._goes_wrong(cmd, fault):
            super().process_command(cmd, *args, **kwargs)

    def _goes_wrong(self, cmd: str, fault: Fault) -> bool:
        """Apply the fault, and return whether the command must not be carried out."""
        if fault.kind == "slow":
            time.sleep(fault.seconds)
        elif fault.kind == "cut-after":
            self._is_cut_after = True
        elif fault.kind == "refuse" and fault.message == "dribble":
            self.data_dribbles = cmd in ("RETR", "NLST")
            self.dribbles = not self.data_dribbles
        elif fault.kind == "refuse":
            self.respond(fault.message)
            return True
        else:
            if fault.kind == "frozen":
                self.wait_for_better_weather()
            self._cut()
            return True
        return False

    def wait_for_better_weather(self, seconds: float | None = None) -> None:
        until = time.monotonic() + (seconds or 3600)
        sandbox = self.sandbox
        while time.monotonic() < until and not sandbox.stopping.is_set():
            if sandbox.faults.thawed.wait(0.02):
                break

    def ftp_RNTO(self, path):
        renamed = super().ftp_RNTO(path)
        site = self.sandbox.site_of(Path(path).resolve()) if renamed else None
        is_page = Path(path).parent.name == "web"  # not in a directory below it
        if site and is_page and self.sandbox.show:
            self.sandbox.show(site, os.path.basename(path))
        return renamed

    def respond(self, resp, **kwargs):
        if self._is_cut_after and not resp.startswith("1"):
            self._cut()
        elif not self._is_cut:
            if resp.startswith("426") and self.sandbox.space_bytes == 0:
                resp = "452 Error during write to file"
            super().respond(resp, **kwargs)

    def send(self, data):
        if self.dribbles:
            self.wait_for_better_weather(1)
            data = data[:1]
        return super().send(data)

    def _cut(self) -> None:
        """Hang up at once."""
        self._is_cut = True
        raw = socket.socket(fileno=os.dup(self._fileno))
        try:
            raw.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass  # the client has hung up first
        finally:
            raw.close()


class _WithTls(_Weather, TLS_FTPHandler):
    tls_control_required = True
    tls_data_required = True


class _WithoutTls(_Weather, FTPHandler):
    def pre_process_command(self, line, cmd, arg):
        if cmd == "AUTH":
            self.sandbox.commands.append((cmd, arg))
            return self.respond("500 This security scheme is not implemented")
        return super().pre_process_command(line, cmd, arg)


class _DataWeather:
    """A data connection with faults; mixed into pyftpdlib's."""

    def send(self, data):
        if self.cmd_channel.data_dribbles:
            self.cmd_channel.wait_for_better_weather(1)
            data = data[:1]
        return super().send(data)

    def use_sendfile(self):
        return False

    def handle_error(self):
        self._error = True
        # pyftpdlib's handler for TLS would not report that the disk is full.
        DTPHandler.handle_error(self)


class _Data(_DataWeather, DTPHandler):
    pass


class _TlsData(_DataWeather, TLS_DTPHandler):
    pass


def _handler(sandbox: SandboxFtp, certificate: Path | None) -> type:
    """A class for one server's connections, because pyftpdlib keeps settings on the class."""
    if certificate is None:
        return type("Plain", (_WithoutTls,), {"sandbox": sandbox, "dtp_handler": _Data})
    context = SSL.Context(SSL.TLS_SERVER_METHOD)
    context.use_certificate_chain_file(str(certificate))
    context.use_privatekey_file(str(certificate))
    facts = {"sandbox": sandbox, "dtp_handler": _TlsData, "ssl_context": context}
    return type("Tls", (_WithTls,), facts)
