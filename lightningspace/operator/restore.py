"""`flask restore`: fill an empty database from a backup. The shop then sells nothing at first."""

import hashlib
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import tarfile
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import IO, BinaryIO

import click
from flask import current_app
from flask.cli import with_appcontext
from peewee import PeeweeException, SqliteDatabase

from lightningspace.base import key_files, models, schema
from lightningspace.base.clock import now
from lightningspace.base.config import Config
from lightningspace.base.logs import first_line
from lightningspace.base.tables import TABLES
from lightningspace.base.vault import Vault
from lightningspace.operator.backup import (
    FORMAT,
    MUST_AGREE,
    BackupFailed,
    Part,
    check_sqlite,
    client_env,
    client_program,
    kind_of,
    said,
    without_password,
)
from lightningspace.rules import restored

MANIFEST_BYTES_MAX = 2**20


class RestoreFailed(Exception):
    """The database is still empty; the text says why and what to do."""


@dataclass(frozen=True)
class Restored:
    """`made_at`: when the copy was made, in ISO form. `is_older`: it needs an upgrade."""

    made_at: str
    is_older: bool


@click.command("restore")
@click.argument("archive", type=click.Path(exists=True, dir_okay=False, allow_dash=True))
@with_appcontext
def restore(archive):
    """Fill a database without orders or hostings from ARCHIVE, a file of `backup`.

    ARCHIVE - is standard input. The shop then sells nothing until `restore-check --go`. Settings
    and documents are taken out of an archive by tar; see docs/moving.md.
    """
    shop, instance = current_app.extensions["shop"], Path(current_app.instance_path)
    try:
        with open(archive, "rb") if archive != "-" else sys.stdin.buffer as file:
            done = fill(shop.config, instance, file)
    except RestoreFailed as error:
        raise click.ClickException(f"nothing was restored: {error}") from None
    click.echo(f"restored the database as it was at {done.made_at}")
    if done.is_older:
        click.echo("it is of an older version; next: flask --app wsgi upgrade")
    click.echo("nothing is sold, set up or closed until: flask --app wsgi restore-check --go")


def fill(config: Config, instance: Path, archive: BinaryIO) -> Restored:
    """Restore an archive. Raises RestoreFailed.

    If this is killed, the database is either empty or whole, and an empty one can be filled again.
    """
    if archive.peek(8).startswith(b"age-enc"):
        raise RestoreFailed(
            "the archive is encrypted: age -d -i <your key file> <archive> | flask --app wsgi "
            "restore -"
        )
    kind = _Sqlite if kind_of(config.database_url) == "sqlite" else _Postgresql
    target = kind(config, instance)
    try:
        target.check_empty()
        with target.draft() as draft:
            manifest = _read(config, instance, archive, draft)
            target.put(draft)
    except (tarfile.TarError, EOFError, json.JSONDecodeError, KeyError) as error:
        raise RestoreFailed(f"the archive is damaged, or none of `backup`: {error}") from None
    except BackupFailed as error:
        raise RestoreFailed(str(error)) from None
    except (OSError, sqlite3.Error, PeeweeException) as error:
        raise RestoreFailed(getattr(error, "strerror", None) or first_line(error)) from None
    is_older = schema.is_newer(models.db.obj, manifest["migrations"]) is False
    return Restored(manifest["made_at"], is_older)


def _read(config: Config, instance: Path, archive: BinaryIO, draft: Path) -> dict:
    """Check that the archive fits this shop, copy its database to the draft, and return its
    manifest.
    """
    manifest, keys, is_whole = None, {}, False
    with tarfile.open(fileobj=archive, mode="r|gz") as tar:
        for member in tar:
            content = tar.extractfile(member)
            if member.name == Part.MANIFEST:
                manifest = json.loads(content.read(MANIFEST_BYTES_MAX))
                _check(config, manifest)
            elif manifest is None:
                raise tarfile.TarError("it does not begin with a manifest")
            elif member.name in (Part.KEY, Part.OLD_KEYS):
                keys[member.name] = content.read(MANIFEST_BYTES_MAX)
            elif member.name == Part.DATABASE:
                is_whole = _copy(content, draft) == manifest["database_sha256"]
    if not is_whole:
        raise tarfile.TarError("its database is not whole")
    _settle_keys(config, instance, manifest, keys)
    return manifest


def _copy(content: BinaryIO, draft: Path) -> str:
    digest = hashlib.sha256()
    with open(os.open(draft, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600), "wb") as file:
        while chunk := content.read(2**20):
            digest.update(chunk)
            file.write(chunk)
    return digest.hexdigest()


def _check(config: Config, manifest: dict) -> None:
    if manifest["format"] != FORMAT:
        raise RestoreFailed("the archive is of a newer version of the program: install that one")
    ours = kind_of(config.database_url)
    if manifest["database"] != ours:
        raise RestoreFailed(
            f"its database is of {manifest['database']}, and DATABASE_URL is of {ours}; name one "
            "of its kind"
        )
    if schema.is_newer(models.db.obj, manifest["migrations"]):
        raise RestoreFailed(
            f"its database is of a newer version of the program ({manifest['program']}): install "
            "that one"
        )
    for name in MUST_AGREE:
        if manifest[name] != getattr(config, name):
            raise RestoreFailed(
                f"{name.upper()} was {manifest[name]} there: set the same here, or nothing of it "
                "is found"
            )


def _settle_keys(config: Config, instance: Path, manifest: dict, keys: dict[str, bytes]) -> None:
    """Make sure that what the database holds sealed can be opened: by the key that is set, or else
    by the archive's.
    """
    ours = Vault(config.secret_key, config.secret_key_fallbacks).fingerprints()
    if manifest["key"] in ours:
        return
    path = instance / key_files.KEY
    if Part.KEY in keys and key_files.is_used(path, config.secret_key):
        # The key here was made a moment ago, and guards nothing: the database is empty.
        if Part.OLD_KEYS in keys:
            key_files.replace(instance / key_files.OLD_KEYS, keys[Part.OLD_KEYS])
        key_files.replace(path, keys[Part.KEY])
        return
    raise RestoreFailed(
        f"the database is of another SECRET_KEY: put that one into {path}, or set it, and try again"
    )


# -- where it goes ---------------------------------------------------------------------


# The tables that `init-db` and a first start fill.
AT_FIRST = {"facts", "servers"}
_OURS = ", ".join(f"public.{table._meta.table_name}" for table in TABLES)


def _holds_something(tables: list[str], execute: Callable) -> bool:
    """Whether a database holds more than `init-db` and a first start put into it."""
    known = {table._meta.table_name for table in TABLES}
    if set(tables) - known:
        return True
    return any(
        execute(f"SELECT 1 FROM {name} LIMIT 1").fetchone() for name in set(tables) - AT_FIRST
    )


class _Draft:
    """A file for the archive's database, removed in the end."""

    def __init__(self, path: Path):
        self._path = path

    def __enter__(self) -> Path:
        self._remove()  # what a killed restore has left
        return self._path

    def __exit__(self, *_):
        self._remove()

    def _remove(self) -> None:
        for ending in ("", "-wal", "-shm", "-journal"):
            self._path.with_name(self._path.name + ending).unlink(missing_ok=True)


class _Sqlite:
    def __init__(self, config: Config, instance: Path):
        database: SqliteDatabase = models.db.obj
        self._path = Path(database.database)

    def check_empty(self) -> None:
        if not self._path.exists():
            if self._path.with_name(f"{self._path.name}-wal").exists():
                raise RestoreFailed(f"{self._path}-wal is there without its database: move it away")
            return
        with closing(sqlite3.connect(self._path, timeout=1)) as database:
            found = database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
            if _holds_something([name for (name,) in found.fetchall()], database.execute):
                raise RestoreFailed(
                    f"the database {self._path} is not empty: move it away, with its -wal and -shm"
                )
            # Fails while anybody else has it open. Removes its -wal and -shm.
            database.execute("PRAGMA journal_mode = DELETE")

    def draft(self) -> _Draft:
        return _Draft(self._path.with_name(f"{self._path.name}.restoring"))

    def put(self, draft: Path) -> None:
        check_sqlite(draft)
        with closing(sqlite3.connect(draft)) as database, database:
            database.execute(*_fact("?"))
        with draft.open("rb") as written:
            os.fsync(written.fileno())
        draft.rename(self._path)
        key_files.sync_directory(self._path.parent)


class _Postgresql:
    def __init__(self, config: Config, instance: Path):
        self._url = config.database_url
        self._instance = instance

    def check_empty(self) -> None:
        holds_something = _holds_something(models.db.get_tables(), models.db.execute_sql)
        models.db.close()
        if holds_something:
            raise RestoreFailed(
                "the database of DATABASE_URL is not empty: name another, as `createdb` makes it"
            )

    def draft(self) -> _Draft:
        return _Draft(self._instance / "restoring.pgdump")

    def put(self, draft: Path) -> None:
        """In one transaction: when anything fails, or this program ends, no COMMIT is sent."""
        reads = [client_program("pg_restore"), "--no-owner", "--no-privileges", "--file=-"]
        writes = [client_program("psql"), "--no-psqlrc", "--quiet", "--set=ON_ERROR_STOP=1"]
        writes += ["--file=-", f"--dbname={without_password(self._url)}"]
        with (
            subprocess.Popen(
                [*reads, draft], stdout=subprocess.PIPE, stderr=subprocess.PIPE
            ) as reading,
            subprocess.Popen(
                writes,
                env=client_env(self._url),
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
            ) as writing,
        ):
            try:
                _send_sql(reading, writing.stdin)
            except BrokenPipeError:  # it has ended; stderr says why
                pass
            except BaseException:
                writing.kill()
                raise
            _, stderr = writing.communicate()
        if writing.returncode:
            raise RestoreFailed(f"psql: {said(stderr)}")


def _send_sql(pg_restore: subprocess.Popen, psql: IO[bytes]) -> None:
    """Send what pg_restore writes to psql, in one transaction. Raises RestoreFailed."""
    psql.write(f"BEGIN;\nDROP TABLE IF EXISTS {_OURS} CASCADE;\n".encode())
    shutil.copyfileobj(pg_restore.stdout, psql)
    if pg_restore.wait():
        raise RestoreFailed(f"pg_restore: {said(pg_restore.stderr.read())}")
    sql, (name, value) = _fact("'%s'")
    sql = sql.replace("INTO facts", "INTO public.facts")
    psql.write(f"{sql % (name, value)};\nCOMMIT;\n".encode())


def _fact(param: str) -> tuple[str, tuple[str, str]]:
    """The SQL that keeps the shop from selling, with its parameters."""
    sql = f"INSERT INTO facts (name, value) VALUES ({param}, {param}) ON CONFLICT DO NOTHING"
    return sql, (restored.SINCE, str(now()))
