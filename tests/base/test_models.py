"""The tables: one schema for SQLite and PostgreSQL, mirrored by the models."""

import re
import threading

import psycopg
import pytest
from peewee import OperationalError

from lightningspace.base import models, schema
from lightningspace.base.models import Account, Cursor, Order, Server, db, transaction
from lightningspace.base.tables import TABLES
from tests.conftest import POSTGRESQL, PgBouncer, at_once
from tests.quick import DURABLE

pytestmark = pytest.mark.each_database


@pytest.fixture
def database(database_url):
    """A database of each kind with our tables. Tests must not change it."""
    models.open_database(database_url)
    yield
    db.close()


def test_each_model_has_the_columns_of_its_table(subtests, database):
    for table in TABLES:
        with subtests.test(table=table):
            name = table._meta.table_name
            in_schema = {
                column.name: (column.null, column.primary_key) for column in db.get_columns(name)
            }
            keys = table._meta.primary_key
            key_fields = getattr(keys, "field_names", None) or [keys.name]
            key_columns = {table._meta.fields[field].column_name for field in key_fields}
            in_model = {
                field.column_name: (field.null, field.column_name in key_columns)
                for field in table._meta.sorted_fields
            }
            assert in_model == in_schema


def test_every_table_has_its_model(database):
    assert sorted(db.get_tables()) == sorted(table._meta.table_name for table in TABLES)


def test_each_model_has_the_unique_columns_of_its_table(subtests, database):
    for table in TABLES:
        with subtests.test(table=table):
            indexes = db.get_indexes(table._meta.table_name)
            in_schema = {tuple(index.columns) for index in indexes if index.unique}
            single = {(field.column_name,) for field in table._meta.sorted_fields if field.unique}
            assert single <= in_schema


def test_each_table_has_a_comment_in_the_schema():
    text = schema.SCHEMA.read_text()
    for name in re.findall(r"CREATE TABLE (\w+)", text):
        assert f"-- {name}: " in text


def test_creating_the_tables_twice_does_nothing(database):
    assert models.init_db() is False


@pytest.mark.each_database
def test_a_row_is_found_as_a_query_finds_it(database):
    server = Server.create(id=1, capacity_mb=1)
    for name in ("alice", "bob"):
        Account.create(id=name, username=name, server=1, space_mb=1, wallet_recovers=name == "bob")
    alice = (Account.id == "alice") & (Account.server == 1)
    for conditions in (
        [Account.username == "alice"],
        [Account.server == server, Account.username == "alice"],
        [alice & (Account.wallet_recovers == False)],  # noqa: E712
        [alice, Account.email.is_null()],
        [alice | (Account.username == "nobody")],
        [alice & (Account.space_mb < 2)],
        [alice & (Account.space_mb == Account.space_mb)],
        [alice & (Account.email == None)],  # noqa: E711
    ):
        found = Account.get_or_none(*conditions)
        as_peewee = Account.select().where(*conditions).get()
        assert (found, found.__data__) == (as_peewee, as_peewee.__data__)
        assert (found.server, found.dirty_fields) == (server, [])
    for conditions in ([Account.username == "carol"], [alice, Account.space_mb == 2]):
        assert Account.get_or_none(*conditions) is None
        with pytest.raises(Account.DoesNotExist):
            Account.get(*conditions)
    assert Account.get_or_none().username
    assert Account.get(username="bob") == Account.get_by_id("bob")


def test_our_query_for_rows_equals_peewees(subtests, database):
    for table in TABLES:
        with subtests.test(table=table):
            by_name = table.select(*table._meta.sorted_fields)
            assert table.select().sql() == by_name.sql()
    session = models.Session.select().join(Account).where(Account.server == 1)
    columns = ", ".join(f'"t1"."{name}"' for name in models.Session._meta.columns)
    assert session.sql()[0].startswith(f'SELECT {columns} FROM "sessions" AS "t1" INNER JOIN')
    inside = Account.select(Account.id).where(Account.server.in_(Server.select()))
    assert '(SELECT "t2"."id" FROM "servers" AS "t2")' in inside.sql()[0]


def test_a_transaction_is_all_or_nothing(database):
    with pytest.raises(RuntimeError), transaction():
        Server.create(id=1, capacity_mb=1)
        raise RuntimeError
    assert Server.select().count() == 0


def test_an_inner_transaction_is_undone_alone(database):
    with transaction():
        Server.create(id=1, capacity_mb=1)
        with pytest.raises(RuntimeError), transaction():
            Server.create(id=2, capacity_mb=1)
            raise RuntimeError
        with transaction():
            Server.create(id=3, capacity_mb=1)
    assert [server.id for server in Server.select().order_by(Server.id)] == [1, 3]


def test_an_inner_transaction_is_undone_with_the_outer_one(database):
    with pytest.raises(RuntimeError), transaction():
        with transaction():
            Server.create(id=1, capacity_mb=1)
        raise RuntimeError
    assert Server.select().count() == 0


def test_threads_that_read_then_write_do_not_lock_each_other_out(database):
    Cursor.create(node_id="node", pay_index=0, payment_hash="of any")

    def count():
        for _ in range(20):
            with transaction():
                Cursor.get()
                Cursor.update(pay_index=Cursor.pay_index + 1).execute()
        db.close()

    threads = [threading.Thread(target=count) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert Cursor.get().pay_index == 120


def test_commits_reach_the_disk_and_deleted_text_is_overwritten(tmp_path, monkeypatch):
    monkeypatch.setattr(models, "SQLITE_PRAGMAS", DURABLE)
    models.open_database(f"sqlite:///{tmp_path / 'shop.sqlite3'}")
    pragmas = {
        name: db.execute_sql(f"PRAGMA {name}").fetchone()[0]
        for name in ("journal_mode", "synchronous", "foreign_keys", "secure_delete")
    }
    db.close()
    assert pragmas == {
        "journal_mode": "wal",
        "synchronous": 2,
        "foreign_keys": 1,
        "secure_delete": 1,
    }


def test_the_shop_works_through_pgbouncer(empty_postgresql, tmp_path):
    def count():
        for _ in range(20):
            with transaction():
                Cursor.update(pay_index=Cursor.pay_index + 1).execute()
                Cursor.get()

    with PgBouncer(tmp_path, empty_postgresql("pooled")) as between:
        models.open_database(between.url)
        models.init_db()
        Cursor.create(node_id="node", pay_index=0, payment_hash="of any")
        at_once(*[count] * 6)
        assert Cursor.get().pay_index == 120
        db.close()


def test_a_referenced_row_may_have_been_deleted_meanwhile(database):
    Server.create(id=1, capacity_mb=1)
    Account.create(id="a", server=1, space_mb=1)
    facts = {"space_mb": 1, "amount_msat": 1, "placed_at": 1, "expires_at": 2}
    Order.create(token="t", kind="open", account="a", **facts)
    read = Order.get_by_id("t")
    Order.update(account=None).execute()
    Account.delete().execute()
    assert read.account is None
    assert (read.account, read.account_id) == (None, "a")


def end_connection() -> None:
    """End our connection, as a server that stops does."""
    pid = db.connection().info.backend_pid
    with psycopg.connect(POSTGRESQL, autocommit=True) as server:
        server.execute("SELECT pg_terminate_backend(%s, 10000)", [pid])


def test_a_connection_that_the_server_ended_is_replaced_but_not_within_a_transaction(
    cleared_postgresql,
):
    models.open_database(cleared_postgresql())
    end_connection()
    assert Server.get_or_none() is None
    end_connection()
    with transaction():
        assert Server.get_or_none() is None
    for writes_again in (True, False):
        with pytest.raises(OperationalError), transaction():
            Server.create(id=1, capacity_mb=1)
            end_connection()
            if writes_again:
                Server.create(id=2, capacity_mb=1)
        assert Server.get_or_none() is None
    db.close()
