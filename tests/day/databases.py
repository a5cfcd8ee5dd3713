"""What happens to the shop's database in a day."""

import os
import shlex
import sqlite3
import subprocess
from contextlib import contextmanager
from pathlib import Path

import psycopg

from tests.breaking import Server, full
from tests.conftest import POSTGRESQL


def faults(url: str, directory: Path, is_ours_alone: bool) -> dict:
    """What may happen to it: its name, and what does it meanwhile. `is_ours_alone`: the server."""
    faults = {"disk is full": lambda: full(directory)} if directory.is_mount() else {}
    if url.startswith("sqlite:"):
        return faults | {"database is locked": lambda: locked(directory / "shop.sqlite3")}
    return faults | {
        "database restarts": lambda: restarted(url, is_ours_alone),
        "database hangs": lambda: tables_locked(url),
        "database may only be read": lambda: at_server(url, "read_only"),
    }


@contextmanager
def at_server(url, what):
    with psycopg.connect(POSTGRESQL, autocommit=True) as server:
        happens = getattr(Server(server, url), what)
        with happens():
            yield


@contextmanager
def restarted(url, is_ours_alone):
    """All of it at once where it is ours alone, as after a power cut; or else this database."""
    command = os.environ.get("TEST_POSTGRESQL_RESTART")
    if command and is_ours_alone:
        subprocess.run(shlex.split(command), check=True, capture_output=True, cwd="/")
        yield
        return
    with at_server(url, "gone"):
        yield


@contextmanager
def locked(path):
    """As a backup does that somebody made with another program."""
    connection = sqlite3.connect(path, isolation_level=None, timeout=30)
    connection.execute("BEGIN IMMEDIATE")
    yield
    connection.execute("ROLLBACK")
    connection.close()


@contextmanager
def tables_locked(url):
    with psycopg.connect(url) as connection:
        connection.execute("LOCK TABLE accounts, orders IN ACCESS EXCLUSIVE MODE")
        yield
        connection.rollback()
