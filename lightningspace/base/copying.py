"""The shop's whole database into an empty PostgreSQL database, whatever tables it has."""

import sqlite3
from contextlib import closing

import psycopg
from peewee import Database, PeeweeException, SqliteDatabase, sort_models

from lightningspace.base import models, schema
from lightningspace.base.logs import first_line
from lightningspace.base.models import Table
from lightningspace.base.parsers import is_postgresql_url

ROWS_AT_ONCE = 1000


class CopyError(Exception):
    """Nothing was copied; its text says why and what to do, without what the URL holds."""


def copy_database(url: str) -> dict[str, int]:
    """Copy every row of the shop's database to the one of `url`, or none.

    Return how many rows each table has. The shop's own database is only read. Raises CopyError.
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
    # Either one keeps to what was there at its first SELECT.
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
    """Every table behind those that it refers to."""
    return sort_models(models.TABLES)


def _names(table: type[Table]) -> list[str]:
    return [field.column_name for field in table._meta.sorted_fields]


def _check_tables(source: Database) -> None:
    """What the models do not know of would be left behind."""
    there = {
        f"{name}.{column.name}"
        for name in source.get_tables()
        if not name.startswith("sqlite_")
        for column in source.get_columns(name)
    }
    known = {
        f"{table._meta.table_name}.{name}" for table in models.TABLES for name in _names(table)
    }
    if there != known:
        raise CopyError(
            "the shop's tables are not those of this version of the program: "
            f"{', '.join(sorted(there ^ known))}"
        )


def _make_tables(target: Database) -> None:
    there = set(target.get_tables()) & {table._meta.table_name for table in models.TABLES}
    if not there:
        schema.create_tables(target)
    schema.forget_version(target)  # that of the source comes with its facts
    for name in sorted(there):
        if _count(name, target):
            raise CopyError(
                f"the target holds a shop already (its {name} are not empty): name an empty "
                "database"
            )


def _copy(table: type[Table], source: Database, target: Database) -> int:
    name, names = table._meta.table_name, ", ".join(_names(table))
    # COPY reads SQLite's 1 and 0 as booleans, and streams.
    with (
        closing(_cursor(source)) as cursor,
        target.cursor().copy(f"COPY {name} ({names}) FROM STDIN") as copy,
    ):
        for row in cursor.execute(f"SELECT {names} FROM {name}"):
            copy.write_row(row)
    # Without it the first minutes run on plans for empty tables.
    target.execute_sql(f"ANALYZE {name}")
    read, arrived = _count(name, source), _count(name, target)
    if read != arrived:
        raise CopyError(f"nothing was copied: of {read} {name}, {arrived} arrived")
    return arrived


def _cursor(source: Database) -> sqlite3.Cursor | psycopg.ServerCursor:
    if isinstance(source, SqliteDatabase):
        return source.cursor()
    # The server's, for psycopg's own would fetch all rows at once.
    cursor = source.connection().cursor(name="rows")
    cursor.itersize = ROWS_AT_ONCE
    return cursor


def _count(name: str, database: Database) -> int:
    return database.execute_sql(f"SELECT COUNT(*) FROM {name}").fetchone()[0]
