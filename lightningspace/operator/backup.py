"""`flask backup`: the database, the settings and your documents in one file, while the shop runs.

An archive is a tar whose members are named in `Part`: the manifest comes first, the database last.
Without `--with-key` its only secrets are those that the database holds sealed.
"""

import fcntl
import hashlib
import io
import json
import os
import re
import shlex
import shutil
import sqlite3
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from urllib.parse import urlsplit

import click
from flask import current_app
from flask.cli import with_appcontext
from psycopg.conninfo import conninfo_to_dict

from lightningspace import __version__
from lightningspace.base import key_files, models, schema, settings
from lightningspace.base.clock import iso_time, now
from lightningspace.base.config import Config
from lightningspace.base.tables import TABLES
from lightningspace.shop import Shop

FORMAT = 1
DOCUMENT_BYTES_MAX = 2**20
PASSWORD_IN_URL = re.compile(r"(?<=//)([^/@:?#]*):[^/@]*@|(?<=[?&])(password=[^&]*&?)")


class Part(StrEnum):
    MANIFEST = "manifest.json"
    SETTINGS = "settings.env"
    DOCUMENTS = "documents"
    KEY = "secret-key"
    OLD_KEYS = "secret-key.old"
    DATABASE = "database"


class BackupFailed(Exception):
    """Nothing was written; the text says why and what to do."""


@click.command("backup")
@click.argument("directory", type=click.Path(file_okay=False, path_type=Path))
@click.option("--keep", type=click.IntRange(1), help="Keep this many, and delete older ones.")
@click.option("--with-key", is_flag=True, help="Include SECRET_KEY and all passwords: for a move.")
@with_appcontext
def backup(directory, keep, with_key):
    """Write the database, the settings and your documents to one new file in DIRECTORY.

    Web and worker may keep running. The file is encrypted with age to BACKUP_AGE_RECIPIENT, if
    that is set. Without --with-key it holds no SECRET_KEY: keep that elsewhere.
    """
    shop, instance = current_app.extensions["shop"], Path(current_app.instance_path)
    try:
        made = make(shop, os.environ, instance, directory, with_key)
    except BackupFailed as error:
        raise click.ClickException(f"no backup was made: {error}") from None
    click.echo(str(made))
    for old in prune(shop.config, directory, keep) if keep else ():
        click.echo(f"deleted {old.name}")


def make(
    shop: Shop, env: Mapping[str, str], instance: Path, directory: Path, with_key: bool = False
) -> Path:
    """Write an archive to `directory` and return its path. Raises BackupFailed.

    A backup that is killed leaves nothing under that path: it is written to a draft, which the next
    one removes.
    """
    recipients = shop.config.backup_age_recipient
    if recipients and not shutil.which("age"):
        raise BackupFailed(
            "BACKUP_AGE_RECIPIENT is set, and the program age is not here: apt-get install age"
        )
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        with _scratch_directory(instance) as scratch:
            database = scratch / Part.DATABASE
            seen = schema.seen(models.db.obj)
            copy_database(shop.config.database_url, database)
            manifest = _manifest(shop, database, seen, with_key)
            members = _members(shop, env, instance, manifest, with_key)
            ending = ".tar.gz.age" if recipients else ".tar.gz"
            stamp = f"{datetime.fromtimestamp(now(), UTC):%Y%m%d-%H%M%S}"
            path = directory / f"{_name(shop.config)}{stamp}{ending}"
            _write(path, recipients, members, database)
            return path
    except (OSError, sqlite3.Error) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise BackupFailed(f"{getattr(error, 'filename', None) or directory}: {reason}") from None


def prune(config: Config, directory: Path, keep: int) -> list[Path]:
    """Delete all but the `keep` newest backups of this shop, and return those deleted."""
    ours = re.compile(re.escape(_name(config)) + r"[0-9]{8}-[0-9]{6}\.tar\.gz(\.age)?")
    found = sorted(path for path in directory.iterdir() if ours.fullmatch(path.name))
    for path in found[:-keep]:
        path.unlink()
    return found[:-keep]


def _name(config: Config) -> str:
    """How the names of this shop's archives begin."""
    return f"lightning-space-{re.sub('[^A-Za-z0-9.]', '_', urlsplit(config.public_url).hostname)}-"


# -- what is in it ---------------------------------------------------------------------


def _manifest(shop: Shop, database: Path, seen: list[str], with_key: bool) -> dict:
    with database.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return {
        "format": FORMAT,
        "program": __version__,
        "made_at": iso_time(now()),
        "database": kind_of(shop.config.database_url),
        "database_sha256": digest,
        "migrations": seen,
        "key": shop.vault.fingerprints()[0],
        "has_key": with_key,
        **{name: getattr(shop.config, name) for name in MUST_AGREE},
    }


# The settings without which a restored database is of no use.
MUST_AGREE = ("base_domain", "label_prefix", "panel_prefix")


def kind_of(database_url: str) -> str:
    return "sqlite" if database_url.startswith("sqlite:") else "postgresql"


def _members(
    shop: Shop, env: Mapping[str, str], instance: Path, manifest: dict, with_key: bool
) -> dict[str, bytes]:
    given = settings.given(Config, env)
    members = {Part.MANIFEST: json.dumps(manifest, indent=2).encode()}
    if with_key:
        members[Part.KEY] = f"{shop.config.secret_key}\n".encode()
        if shop.config.secret_key_fallbacks:
            members[Part.OLD_KEYS] = key_files.text_of(shop.config.secret_key_fallbacks)
    members[Part.SETTINGS] = "".join(_settings(shop.config, given, with_key)).encode()
    for each in given:
        # Not Path.is_file, which raises if the value is too long to be a name.
        is_file = not each.is_secret and os.path.isfile(each.value)
        path = Path(each.value)
        if is_file and path.stat().st_size <= DOCUMENT_BYTES_MAX:
            members[f"{Part.DOCUMENTS}{path.absolute()}"] = path.read_bytes()
    return members


def _settings(config: Config, given: list[settings.Given], with_key: bool) -> Iterator[str]:
    """The lines of an environment file. The keys have members of their own."""
    for each in given:
        name = each.name.removesuffix("_FILE") if each.is_secret else each.name
        if name in ("SECRET_KEY", "SECRET_KEY_FALLBACKS"):
            continue
        if with_key:
            value = getattr(config, name.lower()) if each.is_secret else each.value
            yield f"{name}={shlex.quote(value)}\n"
        elif each.is_secret:
            yield f"# {name} is not kept here: set it anew.\n"
        else:
            yield f"{name}={shlex.quote(without_password(each.value))}\n"


# -- the database ----------------------------------------------------------------------


def copy_database(url: str, target: Path) -> None:
    """Copy the database as of one moment, while others may write to it. Raises BackupFailed,
    OSError and sqlite3.Error.
    """
    if kind_of(url) == "sqlite":
        schema.copy_file(Path(models.db.obj.database), target)
        check_sqlite(target)
        return
    command = [client_program("pg_dump"), "--format=custom", "--no-owner", "--no-privileges"]
    command += [f"--table={table._meta.table_name}" for table in TABLES]
    command += [f"--file={target}", f"--dbname={without_password(url)}"]
    done = subprocess.run(command, env=client_env(url), capture_output=True, check=False)
    if done.returncode:
        raise BackupFailed(f"pg_dump: {said(done.stderr)}")


def check_sqlite(path: Path) -> None:
    """Raise BackupFailed if the database is damaged."""
    with closing(sqlite3.connect(path)) as database:
        found = database.execute("PRAGMA quick_check(1)").fetchone()[0]
    if found != "ok":
        raise BackupFailed(f"the database is damaged: {found}")


def client_program(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        raise BackupFailed(f"{name} is not here: apt-get install postgresql-client")
    return found


def without_password(url: str) -> str:
    """The URL for a command line, which everybody on the machine can read. `client_env` passes the
    password.
    """
    return PASSWORD_IN_URL.sub(lambda found: "" if found[1] is None else f"{found[1]}@", url)


def client_env(url: str) -> dict[str, str]:
    password = conninfo_to_dict(url).get("password")
    return os.environ | ({"PGPASSWORD": password} if password else {})


def said(stderr: bytes) -> str:
    """The first line that a failed program wrote to stderr: those below it may quote rows."""
    return stderr.decode(errors="replace").strip().partition("\n")[0] or "it failed without a word"


# -- the file --------------------------------------------------------------------------


def _write(
    path: Path, recipients: tuple[str, ...], members: dict[str, bytes], database: Path
) -> None:
    draft = path.with_name(f".{path.name}.draft")
    _remove_stale(path.parent, ".lightning-space-*.draft")
    with os.fdopen(os.open(draft, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        try:
            with (
                _encrypted(file, recipients) as sink,
                tarfile.open(fileobj=sink, mode="w|gz") as tar,
            ):
                for name, content in members.items():
                    tar.addfile(_member(name, len(content)), io.BytesIO(content))
                with database.open("rb") as source:
                    tar.addfile(_member(Part.DATABASE, database.stat().st_size), source)
            file.flush()
            os.fsync(file.fileno())
            draft.rename(path)
        except BaseException:
            draft.unlink(missing_ok=True)
            raise
    key_files.sync_directory(path.parent)


def _member(name: str, size: int) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.size, member.mtime, member.mode = size, now(), 0o600
    return member


@contextmanager
def _encrypted(file, recipients: tuple[str, ...]):
    if not recipients:
        yield file
        return
    arguments = [part for each in recipients for part in ("-r", each)]
    age = subprocess.Popen(
        ["age", *arguments], stdin=subprocess.PIPE, stdout=file, stderr=subprocess.PIPE
    )
    stderr = b""
    try:
        yield age.stdin
    except BrokenPipeError:  # it has ended; stderr says why
        pass
    finally:
        _, stderr = age.communicate()
    if age.returncode:
        raise BackupFailed(f"age: {said(stderr)}")


@contextmanager
def _scratch_directory(instance: Path) -> Iterator[Path]:
    """For the copy of the database, which is as secret as the files in `instance`."""
    _remove_stale(instance, "backup-*")
    scratch = Path(tempfile.mkdtemp(prefix="backup-", dir=instance))
    lock = os.open(scratch, os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield scratch
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
        os.close(lock)


def _remove_stale(directory: Path, pattern: str) -> None:
    """Remove what killed backups have left there. A backup at work holds a lock on its own."""
    for path in directory.glob(pattern):
        lock = os.open(path, os.O_RDONLY)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        except BlockingIOError:
            continue
        finally:
            os.close(lock)
