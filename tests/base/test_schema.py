"""Upgrades of the schema: every row is kept, or nothing is changed."""

import os
import re
import resource
import shutil
import signal
import sqlite3
from pathlib import Path

import psycopg
import pytest
from peewee import IntegrityError

from app import create_app
from lightningspace import shop
from lightningspace.base import models, schema
from lightningspace.base.config import from_env
from lightningspace.base.models import Account, Cursor, Fact, Offer, Order, Token, db
from lightningspace.rules import calendar, ledger, payments, tips, tokens, upgrades
from tests.conftest import at_once, eventually, log_in
from tests.programs import Program

pytestmark = pytest.mark.each_database

ROOT = Path(__file__).parents[2]
OLD = Path(__file__).parent / "schema_5e5cd8b.sql"
NOW = int(re.search("^-- now: (.*)$", OLD.read_text(), re.M)[1])
RECEIPT = re.search("^-- alice's receipt: (.*)$", OLD.read_text(), re.M)[1]
TABLES = "servers accounts tokens services domains notices orders offers resting_names cursors"
NAMES = [migration.stem for migration in sorted(schema.MIGRATIONS.iterdir())]


def load(url: str, text: str) -> None:
    """Run an SQL script."""
    if url.startswith("sqlite:"):
        connection = sqlite3.connect(url.removeprefix("sqlite:///"))
        connection.executescript(text)
    else:
        connection = psycopg.connect(url, autocommit=True)
        connection.execute(text)
    connection.close()


@pytest.fixture
def database_url(empty_database_url):
    """A database without tables: each test makes its own."""
    return empty_database_url


@pytest.fixture(scope="module")
def upgraded_urls() -> dict[str, str]:
    return {}


@pytest.fixture
def upgraded_once(database_kind, upgraded_urls, tmp_path_factory, request):
    """`old` after its upgrade, shared by tests that only read, since upgrading takes longer."""
    if database_kind not in upgraded_urls:
        if database_kind == "postgresql":
            url = request.getfixturevalue("empty_postgresql")("upgraded")
        else:
            url = f"sqlite:///{tmp_path_factory.mktemp('upgraded') / 'shop.sqlite3'}"
        load(url, OLD.read_text())
        schema.upgrade(models.open_database(url))
        db.close()
        upgraded_urls[database_kind] = url
    models.open_database(upgraded_urls[database_kind])
    yield
    db.close()


@pytest.fixture
def old(empty_database_url):
    """The URL of a database of commit 5e5cd8b, which the models use."""
    load(empty_database_url, OLD.read_text())
    models.open_database(empty_database_url)
    yield empty_database_url
    db.close()


def select(query: str) -> list[tuple]:
    return db.execute_sql(query).fetchall()


def everything() -> dict[str, list]:
    """All rows of the database, whatever its schema."""
    held = {
        table: sorted(select(f"SELECT * FROM {table}"), key=repr)
        for table in sorted(db.get_tables())
        if not table.startswith("sqlite_")
    }
    return held | {"schema": shape()}


def shape() -> list[str]:
    """A description of the database's tables, without the order of columns."""
    if db.param == "?":
        return sorted(_shape_of_sqlite())
    questions = (
        "SELECT table_name, column_name, data_type, is_nullable, column_default "
        "FROM information_schema.columns WHERE table_schema = 'public'",
        "SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid) FROM pg_constraint "
        "WHERE connamespace = 'public'::regnamespace",
        "SELECT indexdef FROM pg_indexes WHERE schemaname = 'public'",
    )
    return sorted(str(row) for question in questions for row in select(question))


def _shape_of_sqlite():
    for name, sql in select("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL"):
        if sql.startswith("CREATE TABLE"):
            for _, *column in select(f"PRAGMA table_xinfo({name})"):
                yield f"{name}: {column}"
            yield from (f"{name}: {key[2:]}" for key in select(f"PRAGMA foreign_key_list({name})"))
            yield from (f"{name}: {index[2:]}" for index in _unique(name))
            yield from (f"{name}: {check}" for check in _checks(sql))
        else:
            yield _on_one_line(sql)


def _unique(table: str):
    for index in select(f"PRAGMA index_list({table})"):
        columns = [row[2] for row in select(f"PRAGMA index_info({index[1]})")]
        yield *index[:1], index[1], index[2], index[3], columns


def _checks(sql: str):
    for found in re.finditer(r"CHECK \(", sql):
        depth, end = 1, found.end()
        while depth:
            depth += {"(": 1, ")": -1}.get(sql[end], 0)
            end += 1
        yield _on_one_line(sql[found.start() : end])


def _on_one_line(sql: str) -> str:
    return " ".join(re.sub("--.*", "", sql).split())


# -- upgrading from commit 5e5cd8b ---------------------------------------------------------


def test_the_upgrade_leads_to_the_newest_schema(old, database_kind, tmp_path, request):
    applied, _ = schema.upgrade(db.obj)
    assert applied == NAMES
    upgraded, seen = shape(), facts_of_version()
    db.close()
    if database_kind == "postgresql":
        models.open_database(request.getfixturevalue("empty_postgresql")("new"))
    else:
        models.open_database(f"sqlite:///{tmp_path / 'new.sqlite3'}")
    models.init_db()
    assert upgraded == shape()
    assert seen == facts_of_version() == [f"migration {name[:4]}" for name in NAMES]
    schema.check(db.obj)


def facts_of_version():
    return [name for (name,) in select("SELECT name FROM facts ORDER BY name") if "migr" in name]


def test_no_row_and_no_value_is_lost(old):
    names = {table: [column.name for column in db.get_columns(table)] for table in TABLES.split()}
    changed = "held_mb unpaid_mb queue_empty_at only_time email entered_at".split()
    kept = {
        table: [name for name in each if name not in changed]
        for table, each in names.items()
        if table != "cursors"
    }
    questions = [f"SELECT {', '.join(each)} FROM {table}" for table, each in kept.items()]
    before = [sorted(select(question), key=repr) for question in questions]
    schema.upgrade(db.obj)
    assert [sorted(select(question), key=repr) for question in questions] == before


def test_the_upgrade_sums_up_payments_by_account(upgraded_once):
    paid = {account.username: account.paid_msat for account in Account.select()}
    assert paid["paul"] == 1000 + 30_000
    assert paid["heidi"] == 630_000 + 900_000_000
    assert paid["judy"] == paid["mike"] == 0  # their payments are not in effect yet
    applied = Order.applied_at.is_null(False) & Order.account.is_null(False)
    assert sum(paid.values()) == sum(order.received_msat for order in Order.select().where(applied))


def test_the_upgrade_shortens_no_grace_period(upgraded_once):
    paul = Account.get(Account.username == "paul")
    assert paul.unpaid_seconds > 0
    assert ledger.term_seconds(paul) == ledger.paid_seconds(paul)
    for account in Account.select().where(Account.ready_at.is_null(False)):
        assert ledger.term_seconds(account) == ledger.paid_seconds(account)


def test_payments_are_followed_from_the_last_known_one(old):
    told = dict(select("SELECT node_id, pay_index FROM cursors"))
    schema.upgrade(db.obj)
    cursors = {cursor.node_id: cursor for cursor in Cursor.select()}
    assert set(cursors) == set(told)
    for node_id, cursor in cursors.items():
        ours = Order.select().where(Order.node_id == node_id).order_by(Order.pay_index.desc())
        last = ours.first()
        if last is None:
            assert (cursor.pay_index, cursor.payment_hash) == (0, None)
        else:  # another program's payment came after it
            assert cursor.pay_index == last.pay_index < told[node_id]
            assert cursor.payment_hash == last.payment_hash


def test_after_a_restore_of_the_node_the_later_payment_of_an_index_counts(old):
    again = "UPDATE orders SET pay_index = 14, paid_at = paid_at + 1 WHERE kind = 'lost'"
    db.execute_sql(again)
    db.execute_sql("UPDATE cursors SET pay_index = 14 WHERE pay_index > 14")
    schema.upgrade(db.obj)
    lost = Order.get(Order.kind == "lost")
    [cursor] = Cursor.select().where(Cursor.pay_index > 0)
    assert (cursor.pay_index, cursor.payment_hash) == (14, lost.payment_hash)


def test_the_upgrade_leaves_addresses_of_unpaid_orders_unconfirmed(upgraded_once):
    emails = {each.username: (each.email, each.email_waits) for each in Account.select()}
    assert emails["alice"] == ("alice@example.org", None)
    assert emails["judy"] == (None, "judy@example.org")
    assert emails["mike"] == (None, "mike@example.org")  # paid, but not in effect yet


def test_the_upgrade_counts_a_typed_password_as_a_lasting_login(upgraded_once):
    entered = {each.username: each.entered_at for each in Account.select()}
    assert entered["alice"] == Account.get(Account.username == "alice").opened_at
    assert entered["heidi"] is None  # she has not saved the generated password
    assert entered["judy"] is None  # her hosting is not open


@pytest.fixture
def upgraded(old, env, tmp_path, time_machine):
    """The web program on an upgraded database, at the time when that was last used."""
    time_machine.moment = NOW
    schema.upgrade(db.obj)
    db.close()
    app = create_app(from_env(env, tmp_path))
    shop.settle_in(app.extensions["shop"])
    return app


def test_after_the_upgrade_customers_log_in_and_see_their_pages(upgraded):
    client = upgraded.test_client()
    assert log_in(client, "alice", "correct horse").status_code == 303
    paths = "mail domains data settings access payments tips extend size htaccess".split()
    pages = {path: client.get(f"/account/{path}".rstrip("/")) for path in ["", *paths]}
    assert {path: page.status_code for path, page in pages.items()} == dict.fromkeys(pages, 200)
    assert "alice.shop.test" in pages[""].text
    assert "eve@alice.shop.test" in pages["mail"].text
    assert "räksmörgås" in pages["tips"].text

    this_shop = upgraded.extensions["shop"]
    macaroon, preimage = tokens.l402.read(RECEIPT.split(":")[0]), bytes.fromhex(RECEIPT[-64:])
    assert tokens.holder(this_shop, macaroon, preimage).account.username == "alice"
    asked = upgraded.test_client().get(
        "/api/v1/hosting", headers={"Authorization": f"L402 {RECEIPT}"}
    )
    assert asked.status_code == 200
    assert [row.name for row in tokens.handed_out(Token.get().account_id)] == [
        "for the mail program"
    ]


def test_after_the_upgrade_the_calendar_goes_on(upgraded, time_machine):
    this_shop = upgraded.extensions["shop"]
    names = {each.id: each.username for each in Account.select()}
    ends = {each.username: each.expires_at for each in Account.select()}
    calendar.run_pass(this_shop)
    assert {each.id: each.username for each in Account.select()} == names
    # A hosting whose time was over stays so, and is kept as long as before.
    grace = Account.get(Account.username == "grace")
    assert grace.suspended_at and not grace.closing_at
    assert ledger.closes_at(this_shop, grace) == grace.expires_at + ledger.paid_seconds(grace)
    for each in Account.select().where(Account.opened_at.is_null(False)):
        assert each.expires_at >= ends[each.username]
    assert calendar.problems(this_shop) == []


def test_after_the_upgrade_the_worker_goes_on_and_payments_take_effect(upgraded):
    this_shop = upgraded.extensions["shop"]
    assert upgrades.bring_up_to_date(this_shop)
    alice = Account.get(Account.username == "alice")
    assert tips.received_msat(alice) == 2_000_000 + 500 + 100_000
    assert Offer.get().account_id == alice.id
    [due] = payments.due()
    assert payments.apply(this_shop, due.token)
    mike = Account.get(Account.username == "mike")
    assert mike.opened_at == NOW and mike.paid_msat == 630_000
    assert mike.email_waits == "mike@example.org"


# -- all or nothing --------------------------------------------------------------------


@pytest.fixture
def with_migration(tmp_path):
    """A directory of all migrations and one more."""

    def with_migration(text: str, name="9999_another.sql") -> Path:
        directory = tmp_path / "migrations"
        directory.mkdir(exist_ok=True)
        for migration in schema.MIGRATIONS.iterdir():
            (directory / migration.name).write_text(migration.read_text())
        (directory / name).write_text(text)
        return directory

    return with_migration


def test_a_second_upgrade_does_nothing(old, tmp_path):
    schema.upgrade(db.obj)
    after = everything()
    assert schema.upgrade(db.obj) == ([], None)
    assert everything() == after
    assert len(list(tmp_path.glob("*.before-upgrade"))) == (db.param == "?")


def test_two_simultaneous_upgrades_are_one(old, tmp_path):
    answers = at_once(*[lambda: schema.upgrade(db.obj)] * 2)
    assert sorted(applied for applied, _ in answers) == [[], NAMES]
    assert [copy for _, copy in answers if copy] == list(tmp_path.glob("*.before-upgrade"))
    schema.check(db.obj)


def test_a_migration_that_fails_leaves_everything_as_it_was(old, with_migration, tmp_path):
    before = everything()
    directory = with_migration("UPDATE accounts SET space_mb = 1; UPDATE accounts SET space_mb = 0")
    with pytest.raises(schema.UpgradeFailed) as refused:
        schema.upgrade(db.obj, directory)
    told = str(refused.value)
    assert told.startswith("migration 9999_another failed, and the database is as it was: ")
    assert "check" in told.lower() and "\n" not in told and "alice" not in told
    assert everything() == before
    assert not list(tmp_path.glob("*.before-upgrade"))
    assert schema.upgrade(db.obj)[0] == NAMES


def test_a_migration_may_rebuild_a_table(old, with_migration):
    """By SQLite's procedure, while rows of other tables refer to it."""
    schema.upgrade(db.obj)
    columns = [column.name for column in db.get_columns("offers")]
    text = re.search("CREATE TABLE servers .*?;", schema.SCHEMA.read_text(), re.S)[0]
    rebuilt = text.replace("CREATE TABLE servers", "CREATE TABLE new_servers")
    directory = with_migration(
        f"{rebuilt} INSERT INTO new_servers SELECT id, capacity_mb, php_versions, php_at FROM "
        "servers; DROP TABLE servers; ALTER TABLE new_servers RENAME TO servers",
        "9999_servers.sqlite.sql",
    )
    (directory / "9999_servers.postgresql.sql").write_text("ALTER TABLE servers ADD CHECK (id > 0)")
    held = select("SELECT COUNT(*) FROM accounts")
    assert schema.upgrade(db.obj, directory)[0] == ["9999_servers"]
    assert select("SELECT COUNT(*) FROM accounts") == held
    assert [column.name for column in db.get_columns("offers")] == columns
    with pytest.raises(IntegrityError):
        Account.create(id="x", server=77, space_mb=1)


def test_dangling_references_stop_the_upgrade(old, with_migration):
    before = everything()
    with pytest.raises(schema.UpgradeFailed, match="9999_another"):
        schema.upgrade(db.obj, with_migration("DELETE FROM servers"))
    assert everything() == before
    with pytest.raises(IntegrityError):
        db.execute_sql("DELETE FROM servers")


@pytest.fixture
def sqlite_alone(database_kind):
    if database_kind != "sqlite":
        pytest.skip("SQLite's files")


def test_the_copy_has_the_old_rows_and_mode_0600(old, sqlite_alone):
    before = everything()
    umask = os.umask(0)
    try:
        _, copy = schema.upgrade(db.obj)
    finally:
        os.umask(umask)
    assert copy.stat().st_mode & 0o777 == 0o600
    db.close()
    models.open_database(f"sqlite:///{copy}")
    assert everything() == before


def upgrade_in_a_child(old: str, prepare) -> int:
    """Upgrade in a child process, which `prepare` may kill. Return its exit code."""
    db.close()
    child = os.fork()
    if not child:
        code = 1
        try:
            database = models.open_database(old)
            prepare(database)
            schema.upgrade(database)
            code = 0
        except schema.UpgradeFailed as error:
            print(error, flush=True)
        finally:
            os._exit(code)
    return os.waitpid(child, 0)[1]


def test_an_upgrade_killed_at_any_statement_changes_nothing(old, sqlite_alone):
    before = everything()
    killed = 0

    def kill_at(number: int):
        def prepare(database):
            count = iter(range(number))

            def traced(statement):
                if next(count, None) is None:
                    os.kill(os.getpid(), signal.SIGKILL)

            database.connection().set_trace_callback(traced)

        return prepare

    while everything() == before:
        status = upgrade_in_a_child(old, kill_at(killed))
        assert os.WTERMSIG(status) == signal.SIGKILL or everything() != before
        killed += 7  # a change that was kept would show at later statements, too
    # Only after the commit is it too late to kill it.
    assert killed > 100
    schema.check(db.obj)
    assert schema.upgrade(db.obj) == ([], None)


def test_an_upgrade_killed_in_postgresql_changes_nothing(old, database_kind, with_migration):
    if database_kind != "postgresql":
        pytest.skip("PostgreSQL's connections")
    before = everything()
    directory = with_migration("SELECT pg_sleep(600)")
    db.close()
    child = os.fork()
    if not child:
        schema.upgrade(models.open_database(old), directory)
        os._exit(0)
    sleeps = "SELECT pid FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep%%'"
    try:
        [(backend,)] = eventually(lambda: select(sleeps))
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    # The server notices only at the end of the statement.
    select(f"SELECT pg_terminate_backend({backend})")
    eventually(lambda: not select(sleeps))
    assert everything() == before


def test_a_disk_too_full_for_the_copy_leaves_everything_as_it_was(
    old, sqlite_alone, tmp_path, capfd
):
    before = everything()

    def prepare(database):
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))

    assert os.WEXITSTATUS(upgrade_in_a_child(old, prepare)) == 1
    assert everything() == before
    told = "the copy of the database failed, and the database is as it was: "
    assert capfd.readouterr().out.startswith(told)
    assert not list(tmp_path.glob("*.part")) + list(tmp_path.glob("*upgrade*"))


def test_a_disk_too_full_for_a_migration_leaves_everything_as_it_was(old, sqlite_alone, tmp_path):
    before = everything()
    [(pages,)] = select("PRAGMA page_count")
    db.execute_sql(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(schema.UpgradeFailed, match="^migration 0.* failed, .* is full$"):
        schema.upgrade(db.obj)
    assert everything() == before
    assert not list(tmp_path.glob("*upgrade*"))


# -- recognizing databases -----------------------------------------------------------------


def test_the_last_unversioned_schema_counts_as_nine_migrations(old, tmp_path):
    for path in sorted(schema.MIGRATIONS.iterdir())[:9]:
        shutil.copy(path, tmp_path)
    schema.upgrade(db.obj, tmp_path)
    schema.forget_version(db.obj)
    with pytest.raises(schema.WrongSchema, match="of an older version"):
        schema.check(db.obj)
    applied, _ = schema.upgrade(db.obj)
    assert applied == NAMES[9:]
    assert facts_of_version() == [f"migration {name[:4]}" for name in NAMES]


REFUSED = {
    "no tables": ("", "has no tables: run `flask --app wsgi init-db`"),
    "of between two commits": (
        "ALTER TABLE servers DROP COLUMN queue_empty_at",
        "of no version that can be upgraded",
    ),
    "a newer one": (
        "INSERT INTO facts VALUES ('migration 0001', '1'), ('migration 7777', '1')",
        "of a newer version: run the newer program",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_an_unknown_database_is_refused_and_left_alone(empty_database_url, case):
    change, told = REFUSED[case]
    if change:
        load(empty_database_url, OLD.read_text() + change)
    models.open_database(empty_database_url)
    before = everything()
    for refuses in (schema.check, schema.upgrade):
        with pytest.raises(schema.WrongSchema, match=re.escape(told)):
            refuses(db.obj)
    assert everything() == before
    db.close()


def test_a_database_of_an_older_version_must_be_upgraded(old):
    with pytest.raises(schema.WrongSchema, match="run `flask --app wsgi upgrade`"):
        schema.check(db.obj)


def run(env, tmp_path, *command) -> tuple[int, str]:
    """Run a program; return its exit code and output."""
    program = Program(command, env, tmp_path / "output")
    return program.wait(), program.said


def flask(env, tmp_path, *command) -> tuple[int, str]:
    return run(env, tmp_path, "flask", "--app", "wsgi", *command)


def test_no_program_starts_before_the_upgrade(old, env, tmp_path, database_kind):
    told = (
        "The database has the schema of an older version: stop web and worker, then run "
        "`flask --app wsgi upgrade`.\n"
    )
    before = everything()
    # A customer may have the name of a command.
    for command in (("worker",), ("problems",), ("account", "upgrade"), ("copy-database", "url")):
        assert flask(env, tmp_path, *command) == (4, told)
    web = ["gunicorn", "wsgi:app", "--bind", f"unix:{tmp_path / 'web'}"]
    code, said = run(env, tmp_path, *web)
    assert code == 4 and told in said
    assert everything() == before
    db.close()

    status, said = flask(env, tmp_path, "upgrade")
    assert status == 0, said
    lines = said.splitlines()
    if database_kind == "sqlite":
        assert lines.pop(0).startswith(f"the database as it was: {tmp_path / 'shop.sqlite3'}.")
    assert lines == [f"applied {name}" for name in NAMES] + ["the database is up to date"]
    assert flask(env, tmp_path, "upgrade") == (0, "the database is up to date\n")
    status, said = flask(env, tmp_path, "account", "alice")
    assert status == 0, said
    assert Fact.get_by_id(shop.KEY_FINGERPRINT).value
