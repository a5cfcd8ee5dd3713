"""The database, what it says of the worker, and what the worker has found."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from peewee import PeeweeException

from lightningspace.base import models, schema
from lightningspace.base.clock import MINUTE, clock_time, now
from lightningspace.base.logs import first_line
from lightningspace.base.models import Fact, transaction
from lightningspace.operator import introduction
from lightningspace.operator import problems as found_problems
from lightningspace.operator.doctor.dates import wrong_time
from lightningspace.operator.doctor.patient import Patient
from lightningspace.rules import clock_watch
from lightningspace.shop import CannotSettle, settle_in

# The worker's calendar passes once a minute.
SILENT_SECONDS = 5 * MINUTE
# Of those that PostgreSQL allows; the rest is for bursts.
CONNECTIONS_PERCENT = 80


def _path(patient: Patient) -> Path | None:
    """None: it is PostgreSQL."""
    url = patient.config.database_url
    return Path(url.removeprefix("sqlite:///")) if url.startswith("sqlite:") else None


def answers(patient: Patient) -> Iterator[str]:
    path = _path(patient)
    if path and not path.is_file():  # opening it would create it
        yield (
            f"there is no {path}: `deploy/flask init-db` makes it, or DATABASE_URL has to name "
            "another"
        )
        return
    try:
        models.db.execute_sql("SELECT 1")
    except PeeweeException as error:
        runs = "is it a database of SQLite's?" if path else "`systemctl status postgresql`"
        yield f"the database does not answer: {first_line(error)}: {runs}"


def has_our_schema(patient: Patient) -> Iterator[str]:
    try:
        schema.check(models.db.obj)
    except schema.WrongSchema as error:
        yield str(error)


class _RolledBack(Exception):
    pass


def agrees_with_the_settings(patient: Patient) -> Iterator[str]:
    """Do what the shop does when it starts, and roll back what that writes."""
    try:
        with transaction():
            settle_in(patient.shop)
            raise _RolledBack
    except _RolledBack:
        pass
    except CannotSettle as error:
        yield str(error)


def is_sound(patient: Patient) -> Iterator[str]:
    path = _path(patient)
    if path is None:
        yield from _connections()
        return
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=10)) as database:
        [(mode,)] = database.execute("PRAGMA journal_mode")
        if mode != "wal":
            yield (
                f"its journal mode is {mode}, so that reading waits for writing: `sqlite3 {path} "
                "'PRAGMA journal_mode=wal'`, or start the worker anew"
            )
        try:
            said = [line for (line,) in database.execute("PRAGMA quick_check(3)")]
        except sqlite3.DatabaseError as error:
            said = [str(error)]
        if said != ["ok"]:
            yield (
                f"SQLite says that {path} is damaged ({said[0].splitlines()[-1]}): stop web and "
                "worker, and restore a backup, see docs/recovery.md"
            )


def _connections() -> Iterator[str]:
    clients = "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'"
    [(used, most)] = models.db.execute_sql(
        f"SELECT ({clients}), current_setting('max_connections')::int"
    )
    [(of_ours, our_most)] = models.db.execute_sql(
        f"SELECT ({clients} AND datname = current_database()), datconnlimit FROM pg_database"
        " WHERE datname = current_database()"
    )
    nearly, ours_nearly = most * CONNECTIONS_PERCENT, our_most * CONNECTIONS_PERCENT
    if used * 100 > nearly or 0 <= ours_nearly < of_ours * 100:  # below 0: without a limit
        yield (
            f"PostgreSQL's connections are nearly used up: {used} of max_connections={most}. Raise "
            "it and what `ALTER DATABASE … CONNECTION LIMIT` says, or put PgBouncer in between"
        )


def has_our_time(patient: Patient) -> Iterator[str]:
    if _path(patient):
        return
    [(moment,)] = models.db.execute_sql("SELECT extract(epoch FROM clock_timestamp())::bigint")
    yield from wrong_time("PostgreSQL's", moment)


def worker_runs(patient: Patient) -> Iterator[str]:
    passed = clock_watch.stored(clock_watch.PASSED)
    if passed < now() - SILENT_SECONDS:
        since = f"since {clock_time(passed)}" if passed else "yet"
        yield (
            f"no worker has run {since}: `systemctl start lightning-space-worker`, and "
            "`journalctl -u lightning-space-worker -n 50` says why it ended"
        )
    fact = Fact.get_or_none(Fact.name == introduction.WORKER)
    if fact and fact.value != introduction.PROGRAM:
        yield (
            f"the worker is {fact.value}, and what is here now is {introduction.PROGRAM}: "
            "`systemctl restart lightning-space-worker`"
        )
    if behind := clock_watch.latest():
        yield (
            f"this machine's clock says {clock_time(now())}, and said {clock_time(behind)} "
            "before: set it, see docs/recovery.md"
        )


def problems(patient: Patient) -> Iterator[str]:
    if count := len(found_problems.found(patient.shop)):
        yield f"`deploy/flask problems` lists what needs you (lines: {count})"


CHECKS = {
    "database": answers,
    "schema": has_our_schema,
    "names and keys": agrees_with_the_settings,
    "database files": is_sound,
    "database clock": has_our_time,
    "worker": worker_runs,
    "problems": problems,
}
