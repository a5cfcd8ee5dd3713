"""Faults of a database while a shop uses it: of its disk, and of its server."""

import os
import subprocess
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit

import psycopg


@contextmanager
def disk(directory: Path, mb: int):
    """Make a directory on a tmpfs of `mb` MB. Yields False if that cannot be mounted here."""
    directory.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={mb}m", "tmpfs", directory]
    is_own = subprocess.run(mount, capture_output=True, check=False).returncode == 0
    try:
        yield is_own
    finally:
        if is_own:
            subprocess.run(["umount", "--lazy", directory], check=True)


@contextmanager
def full(directory: Path):
    """Fill the directory's disk to the last byte."""
    filler = directory / "filler"
    with suppress(OSError), filler.open("wb", buffering=0) as file:
        space = os.statvfs(directory)
        os.posix_fallocate(file.fileno(), 0, space.f_bavail * space.f_frsize)
        while file.write(bytes(4096)):
            pass
    yield
    filler.unlink()


class Server:
    """Does things to a database at its PostgreSQL server. Connections that exist when this is made
    are spared.
    """

    def __init__(self, connection: psycopg.Connection, url: str):
        self._connection, self._name = connection, urlsplit(url).path.removeprefix("/")
        self._spared = self._connections()

    def _connections(self) -> list[int]:
        query = "SELECT pid FROM pg_stat_activity WHERE datname = %s"
        return [pid for (pid,) in self._connection.execute(query, [self._name])]

    def _alter(self, what: str) -> None:
        self._connection.execute(f"ALTER DATABASE {self._name} {what}")

    def end_connections(self) -> None:
        for pid in set(self._connections()) - set(self._spared):
            self._connection.execute("SELECT pg_terminate_backend(%s)", [pid])

    @contextmanager
    def gone(self):
        """End connections and refuse new ones, as during a restart."""
        self._alter("ALLOW_CONNECTIONS false")
        self.end_connections()
        yield
        self._alter("ALLOW_CONNECTIONS true")

    @contextmanager
    def read_only(self):
        """Allow reading only, as on a standby or during maintenance."""
        self._alter("SET default_transaction_read_only = on")
        self.end_connections()
        yield
        self._alter("RESET default_transaction_read_only")  # for new connections
