"""The schema's version: which migrations a database has seen, and how to bring it to the newest.

A migration is `migrations/0001_<what changes>.sql`: one text for SQLite and PostgreSQL or, where
that is impossible, two that end in `.sqlite.sql` and `.postgresql.sql`. Each one that a database
has seen is noted in its facts. A new database has seen them all: schema.sql is what they lead to.
"""

import hashlib
import os
import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from peewee import Database, IntegrityError, PeeweeException, SqliteDatabase

from lightningspace.base.clock import now
from lightningspace.base.logs import first_line

ROOT = Path(__file__).parents[2]
SCHEMA = ROOT / "schema.sql"
MIGRATIONS = ROOT / "migrations"

# The name of a migration's fact, before its number. The value is when it was applied.
FACT = "migration "

# How long an upgrade waits for a program that still runs. On SQLite the connection's wait counts.
LOCK_SECONDS = 30

# Databases from before migrations were noted: their `_fingerprint`, and how many migrations their
# tables have seen.
UNMARKED = {
    # Commit 5e5cd8b, before the first migration.
    "1599c87ab5d3fc3b30596ea7b33b12655a9af32528e0a84d5c5e264d75e6ffc4": 0,
    # The last commits without a version: their schema.sql is what the first nine lead to.
    "2bcdb874bdc8e7949c89f736e917e460fe607f573c18080f2e39eccdd55a91f3": 9,
}


class WrongSchema(Exception):
    """The database has another schema than this program; its text says what to run."""


class UpgradeFailed(Exception):
    """The database is as it was before; its text says which migration failed, and why."""


@dataclass(frozen=True)
class Migration:
    number: str  # four digits
    name: str  # the file's, without its endings
    path: Path


def statements(text: str) -> Iterator[str]:
    """The statements of an SQL text whose strings contain no ";", "--" or "%"."""
    for statement in re.sub(r"--.*", "", text).split(";"):
        if statement.strip():
            yield statement


def create_tables(database: Database) -> None:
    """Within a transaction: run schema.sql, and note that the database has seen all migrations."""
    for statement in statements(SCHEMA.read_text()):
        database.execute_sql(statement)
    _note(database, _all(database, MIGRATIONS))


def check(database: Database) -> None:
    """Raise WrongSchema unless the database has the schema that this program works with."""
    _check_tables(database)
    if _missing(database, MIGRATIONS):
        raise WrongSchema(
            "The database has the schema of an older version: stop web and worker, then run "
            "`flask --app wsgi upgrade`."
        )


def upgrade(database: Database, directory: Path = MIGRATIONS) -> tuple[list[str], Path | None]:
    """Bring the database to the newest schema: all the way, or not at all. May be called twice, and
    by several at once.

    Return the names of the migrations that were applied, and the copy that was made of the database
    before them; None: none was needed, or it is not SQLite. Raises WrongSchema for a database that
    cannot be upgraded, and UpgradeFailed.
    """
    _check_tables(database)
    doing, copy = "the upgrade", None
    try:
        with _without_foreign_keys(database), database.atomic():
            _lock(database)
            missing = _missing(database, directory)
            if missing and isinstance(database, SqliteDatabase):
                doing = "the copy of the database"
                copy = _copy(database)
            for migration in missing:
                doing = f"migration {migration.name}"
                for statement in statements(migration.path.read_text()):
                    database.execute_sql(statement)
                _check_foreign_keys(database)
            _note(database, _all(database, directory))
    except (PeeweeException, sqlite3.Error, OSError) as error:
        if copy:
            copy.unlink()
        raise UpgradeFailed(
            f"{doing} failed, and the database is as it was: {first_line(error)}"
        ) from error
    return [migration.name for migration in missing], copy


def _lock(database: Database) -> None:
    """Within a transaction: make other upgrades wait. On SQLite the transaction does that."""
    if not isinstance(database, SqliteDatabase):
        database.execute_sql(f"SET LOCAL lock_timeout = '{LOCK_SECONDS}s'")
        database.execute_sql("LOCK TABLE facts IN EXCLUSIVE MODE")


@contextmanager
def _without_foreign_keys(database: Database) -> Iterator[None]:
    """Switch off SQLite's foreign keys: a DROP TABLE counts for them as deleting all rows, even if
    the table is made again. Within a transaction that is impossible. `_check_foreign_keys` takes
    their place.
    """
    if not isinstance(database, SqliteDatabase):
        yield
        return
    database.execute_sql("PRAGMA foreign_keys = 0")
    try:
        yield
    finally:
        database.execute_sql("PRAGMA foreign_keys = 1")


def _check_foreign_keys(database: Database) -> None:
    if isinstance(database, SqliteDatabase):
        broken = database.execute_sql("PRAGMA foreign_key_check").fetchone()
        if broken:
            raise IntegrityError(f"a row of {broken[0]} refers to no row of {broken[2]}")


def _copy(database: SqliteDatabase) -> Path:
    """A copy beside the database, as it was before this transaction, for its owner alone."""
    path = Path(database.database)
    copy = path.with_name(f"{path.name}.{datetime.now(UTC):%Y%m%d-%H%M%S}.before-upgrade")
    part = path.with_name(f"{path.name}.part")  # so that half a copy is not taken for a whole one
    part.unlink(missing_ok=True)
    try:
        copy_file(path, part)
        part.rename(copy)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    return copy


def copy_file(path: Path, copy: Path) -> None:
    """Copy an SQLite database that is in use to a new file, for its owner alone, as it is now."""
    os.close(os.open(copy, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    with (
        closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as source,
        closing(sqlite3.connect(copy)) as target,
    ):
        source.backup(target)
    with copy.open("rb") as written:
        os.fsync(written.fileno())


# -- what a database has seen --------------------------------------------------------


def _all(database: Database, directory: Path) -> list[Migration]:
    """Every migration in order, with the text for this kind of database."""
    kind = "sqlite" if isinstance(database, SqliteDatabase) else "postgresql"
    found = []
    for path in sorted(directory.glob("[0-9]*.sql")):
        name, _, only_for = path.stem.partition(".")
        if only_for in ("", kind):
            found.append(Migration(name[:4], name, path))
    return found


def _check_tables(database: Database) -> None:
    if not database.table_exists("facts"):
        raise WrongSchema("The database has no tables: run `flask --app wsgi init-db` first.")


def _missing(database: Database, directory: Path) -> list[Migration]:
    """The migrations that the database has not seen. Raises WrongSchema if they would not lead to
    the newest schema.
    """
    known = _all(database, directory)
    seen = _seen(database)
    if not seen:
        tables = _fingerprint(database)
        if tables not in UNMARKED:
            raise WrongSchema(
                "The database has the tables of no version that can be upgraded: run the program "
                "that made them."
            )
        seen = {migration.number for migration in known[: UNMARKED[tables]]}
    if seen - {migration.number for migration in known}:
        raise WrongSchema(
            "The database has the schema of a newer version: run the newer program, or restore the "
            "copy of the database from before its upgrade."
        )
    return [migration for migration in known if migration.number not in seen]


def _seen(database: Database) -> set[str]:
    names = database.execute_sql(f"SELECT name FROM facts WHERE name LIKE '{FACT}%%'").fetchall()
    return {name.removeprefix(FACT) for (name,) in names}


def _note(database: Database, migrations: list[Migration]) -> None:
    for migration in migrations:
        database.execute_sql(
            f"INSERT INTO facts (name, value) VALUES ({database.param}, {database.param}) "
            "ON CONFLICT DO NOTHING",
            (FACT + migration.number, str(now())),
        )


def seen(database: Database) -> list[str]:
    """The numbers of the migrations that a database has seen, for `is_newer`."""
    return sorted(_seen(database))


def is_newer(database: Database, seen: list[str]) -> bool | None:
    """Whether a database that has seen these is newer than this program; None: it is as old."""
    known = {migration.number for migration in _all(database, MIGRATIONS)}
    if set(seen) == known:
        return None
    return not set(seen) <= known


def forget_version(database: Database) -> None:
    """Forget the version of a database that is about to be filled with another one's facts."""
    if database.table_exists("facts"):
        database.execute_sql(f"DELETE FROM facts WHERE name LIKE '{FACT}%%'")


def columns(database: Database, table: str) -> list[str]:
    """The names of a table's columns. peewee's `get_columns` asks PostgreSQL for far more."""
    read = database.execute_sql(f'SELECT * FROM "{table}" LIMIT 0')
    return [name for name, *_ in read.description]


def _fingerprint(database: Database) -> str:
    """A hash that tells schemas apart, by their columns and named indexes."""
    names = []
    for table in database.get_tables():
        if table.startswith("sqlite_"):  # left by ANALYZE
            continue
        names += [f"{table}.{name}" for name in columns(database, table)]
        indexes = [index.name for index in database.get_indexes(table)]
        names += [name for name in indexes if not re.search("^sqlite_|_p?key[0-9]*$", name)]
    return hashlib.sha256("\n".join(sorted(names)).encode()).hexdigest()
