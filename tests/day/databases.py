"""Faults of the shop's database during a day."""

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
    """Faults by name, each a context manager. `is_ours_alone`: no other test uses the server."""
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
    """Restart the server, as after a power cut, if it is ours alone; else cut off this database."""
    command = os.environ.get("TEST_POSTGRESQL_RESTART")
    if command and is_ours_alone:
        subprocess.run(shlex.split(command), check=True, capture_output=True, cwd="/")
        yield
        return
    with at_server(url, "gone"):
        yield


@contextmanager
def locked(path):
    """Lock the database, as another program's backup would."""
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
