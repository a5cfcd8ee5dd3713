"""Copy the shop's whole database into an empty PostgreSQL database."""

import sqlite3
from contextlib import closing

import psycopg
from peewee import Database, PeeweeException, SqliteDatabase, sort_models

from lightningspace.base import models, schema
from lightningspace.base.logs import first_line
from lightningspace.base.models import Table
from lightningspace.base.parsers import is_postgresql_url
from lightningspace.base.tables import TABLES

ROWS_AT_ONCE = 1000


class CopyError(Exception):
    """Nothing was copied. The text says why and what to do; it never contains the URL."""


def copy_database(url: str) -> dict[str, int]:
    """Copy all rows of the shop's database to the database at `url`, or none of them.

    Return the number of rows per table. The shop's own database is only read. Raises CopyError.
    """
    if not is_postgresql_url(url):
        raise CopyError(
            "the target is not usable: write postgresql://user:password@host/database, with / @ : "
            "? # and % in a password as %2F %40 %3A %3F %23 %25"
        )
    source, target = models.db.obj, models.connect_to(url)
    try:
        target.connect()
    except PeeweeException as error:
        raise CopyError(
            f"the target does not open: {first_line(error)}. Check the host, the port, the name of "
            "the database, user and password, and that its server lets this machine in"
        ) from error
    # In both, all reads see the database as it was at the first SELECT.
    snapshot = "DEFERRED" if isinstance(source, SqliteDatabase) else "REPEATABLE READ"
    try:
        with source.atomic(snapshot), target.atomic():
            _check_tables(source)
            _make_tables(target)
            return {table._meta.table_name: _copy(table, source, target) for table in _in_order()}
    except (PeeweeException, psycopg.Error, sqlite3.Error) as error:
        raise CopyError(f"nothing was copied: {first_line(error)}") from error
    finally:
        target.close()


def _in_order() -> list[type[Table]]:
    """All tables, each after those it refers to."""
    return sort_models(TABLES)


def _names(table: type[Table]) -> list[str]:
    return [field.column_name for field in table._meta.sorted_fields]


def _check_tables(source: Database) -> None:
    """Refuse tables and columns that the models do not know: they would be left behind."""
    there = {
        f"{name}.{column}"
        for name in source.get_tables()
        if not name.startswith("sqlite_")
        for column in schema.columns(source, name)
    }
    known = {f"{table._meta.table_name}.{name}" for table in TABLES for name in _names(table)}
    if there != known:
        raise CopyError(
            "the shop's tables are not those of this version of the program: "
            f"{', '.join(sorted(there ^ known))}"
        )


def _make_tables(target: Database) -> None:
    there = set(target.get_tables()) & {table._meta.table_name for table in TABLES}
    if not there:
        schema.create_tables(target)
    schema.forget_version(target)  # the source's version comes with its facts
    for name in sorted(there):
        if _count(name, target):
            raise CopyError(
                f"the target holds a shop already (its {name} are not empty): name an empty "
                "database"
            )


def _copy(table: type[Table], source: Database, target: Database) -> int:
    name, names = table._meta.table_name, ", ".join(_names(table))
    # COPY streams, and accepts SQLite's 1 and 0 as booleans.
    with (
        closing(_cursor(source)) as cursor,
        target.cursor().copy(f"COPY {name} ({names}) FROM STDIN") as copy,
    ):
        for row in cursor.execute(f"SELECT {names} FROM {name}"):
            copy.write_row(row)
    # Without this the planner takes the tables for empty during the first minutes.
    target.execute_sql(f"ANALYZE {name}")
    read, arrived = _count(name, source), _count(name, target)
    if read != arrived:
        raise CopyError(f"nothing was copied: of {read} {name}, {arrived} arrived")
    return arrived


def _cursor(source: Database) -> sqlite3.Cursor | psycopg.ServerCursor:
    if isinstance(source, SqliteDatabase):
        return source.cursor()
    # A server-side cursor: a client-side one would fetch all rows at once.
    cursor = source.connection().cursor(name="rows")
    cursor.itersize = ROWS_AT_ONCE
    return cursor


def _count(name: str, database: Database) -> int:
    return database.execute_sql(f"SELECT COUNT(*) FROM {name}").fetchone()[0]
