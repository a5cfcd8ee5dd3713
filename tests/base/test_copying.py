"""Copying a shop's database into an empty PostgreSQL: everything, or nothing at all."""

from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest

from app import create_app
from lightningspace import shop
from lightningspace.base import copying, models, schema
from lightningspace.base.config import from_env
from lightningspace.base.gate_models import (
    GateBalance,
    GateCount,
    GateCredited,
    GateDisk,
    GateFreebie,
    GateLease,
    GateRevoked,
    GateSettled,
)
from lightningspace.base.models import (
    Account,
    Cursor,
    Domain,
    Evidence,
    Fact,
    MailPlace,
    Notice,
    Offer,
    Order,
    RestingName,
    Server,
    Service,
    Session,
    Token,
    Upload,
    Wallet,
    WalletSignature,
)
from lightningspace.base.money_models import DailyRate, IncomeOfDay, Refund, Voucher
from lightningspace.base.tables import TABLES
from lightningspace.rules import orders, payments
from tests.conftest import WorkerByHand, eventually, log_in, record_payments, wish, work
from tests.programs import Program

# For tests in which the kind of the source matters; the target is always PostgreSQL.
from_each = pytest.mark.each_database
LARGEST = 2**63 - 1
AWKWARD = (
    *("\\N", "", " \t\r\n\\", "Ünïcødé 🌩 \u202eabc", '\'; DROP TABLE "orders" --%s'),
    "x" * 10**6,
)


@pytest.fixture
def target(empty_postgresql):
    return empty_postgresql("copy")


@pytest.fixture
def there(target):
    """The target database, beside the models' database."""
    database = models.connect_to(target)
    yield database
    database.close()


@pytest.fixture
def full(app):
    """A shop with odd rows in every table, as (table, rows) pairs."""
    Fact.update(value="7").where(Fact.name == "migration 0001").execute()
    Server.create(id=LARGEST, capacity_mb=LARGEST)
    for number, text in enumerate(AWKWARD):
        name = text[:100]  # an index entry takes at most 2700 bytes
        account = Account.create(id=name, server=LARGEST, space_mb=1, email=text)
        Token.create(id=name, account=account, name=text, capabilities="", made_at=-number)
        Session.create(id=name, account=account, begun_at=-number, used_at=LARGEST, proved_at=0)
        Wallet.create(account=account, wallet_key=text[:100], linked_at=-number)
        WalletSignature.create(k1=name, wallet_key=text, until=LARGEST, is_used=number % 2)
        Service.create(
            account=account, kind="site", name=name, error=text, permanent=number % 2 == 0
        )
        Upload.create(account=account, id=name, total=LARGEST, sent_at=-number, about=text)
        Domain.create(account=account, name=name, added_at=-number, look_at=LARGEST, problem=text)
        Notice.create(
            account_id=name,
            kind="ending",
            about=LARGEST,
            channel="email",
            body=text,
            written_at=number,
        )
        Evidence.create(id=name, username=text, category="", note=text, noted_at=LARGEST)
        Voucher.create(code_hash=name, space_mb=LARGEST, days=1, made_at=-number)
        IncomeOfDay.create(day=number, kind=name, times=LARGEST, msat=-number)
        DailyRate.create(currency=name, day=LARGEST, per_bitcoin=text)
        MailPlace.create(for_whom=name, number=-number, taken_at=LARGEST)
        Order.create(
            token=name,
            kind="lost",
            account=account if number % 2 else None,
            browser=text,
            placed_at=-LARGEST,
            expires_at=LARGEST,
        )
        Refund.create(id=name, order=name, msat=LARGEST, made_at=-number, problem=text)
        Offer.create(id=name, account=account, bolt12=text, is_active=number % 2)
        RestingName.create(name_hash=name, until=number)
        Cursor.create(node_id=name, pay_index=LARGEST, payment_hash=name)
        Fact.create(name=name, value=text)
        GateBalance.create(token_id=name, service=text[:100], msat=LARGEST, until=-number)
        GateCredited.create(payment_hash=name, until=LARGEST)
        GateLease.create(process=name, token_id=name, service="", msat=0, renewed_at=LARGEST)
        GateSettled.create(request_id=name, settled_at=-number)
        GateRevoked.create(token_id=name, revoked_at=-number, until=LARGEST)
        GateFreebie.create(service=name, network=name, day=-number, used=LARGEST)
        GateCount.create(service=name, day=-number, outcome=name, times=LARGEST)
        GateDisk.create(service=name, token_id=name, until=-number)
    rows = all_rows()
    assert all(rows.values())
    return rows


def all_rows():
    return {table: sorted(table.select().tuples(), key=repr) for table in TABLES}


def copy_database(runner, url):
    return runner.invoke(args=["copy-database", url])


def refused(runner, url):
    """The command's message when it refuses."""
    result = copy_database(runner, url)
    assert result.exit_code == 1
    assert isinstance(result.exception, SystemExit)
    assert "hunter2" not in result.output
    return result.output


# -- what arrives --------------------------------------------------------------------


READ_ONLY = {
    "sqlite": "PRAGMA query_only = 1",
    "postgresql": "SET default_transaction_read_only = on",
}


@from_each
def test_every_row_arrives_as_it_is_and_the_shops_own_database_is_only_read(
    full, runner, target, database_kind
):
    models.db.execute_sql(READ_ONLY[database_kind])
    result = copy_database(runner, target)
    assert result.exit_code == 0, result.output
    assert sorted(result.output.splitlines()) == sorted(
        f"{table._meta.table_name}: {len(rows)}" for table, rows in full.items()
    )
    models.db.close()
    models.open_database(target)
    assert all_rows() == full
    schema.check(models.db.obj)


@from_each
def test_a_shop_on_the_copy_goes_on_where_the_other_stopped(
    order, wallet, worker, this_shop, runner, env, target, tmp_path
):
    wallet.pay(order.bolt11)
    record_payments(worker)
    payments.apply(this_shop, order.token)
    assert Account.get().opened_at and not Account.get().ready_at
    assert copy_database(runner, target).exit_code == 0
    models.db.close()

    app = create_app(from_env(env | {"DATABASE_URL": target}, tmp_path))
    moved = app.extensions["shop"]
    shop.settle_in(moved)
    second = orders.place(moved, wish(username="bob"))
    wallet.pay(second.bolt11)
    # The SSH of one account waits for the other account's opening.
    eventually(partial(are_ready, WorkerByHand(moved)))
    assert log_in(app.test_client(), "alice", "correct horse").status_code == 303


def are_ready(worker):
    work(worker)
    return all(account.ready_at for account in Account.select())


@from_each
def test_starting_the_command_writes_nothing_either(app, env, target, tmp_path):
    command = ["flask", "--app", "wsgi", "copy-database", target]
    started = Program(command, env | {"CAPACITY_MB": "7"}, tmp_path / "output")
    assert started.wait() == 0, started.said
    assert "servers: 1" in started.said.splitlines()
    assert Server.get().capacity_mb == 100_000


@from_each
def test_tables_that_init_db_has_made_are_filled_and_what_is_written_meanwhile_left_out(
    app, target, there
):
    Fact.update(value="7").where(Fact.name == "migration 0001").execute()
    with there.atomic():
        schema.create_tables(there)

    def copy():
        try:
            return copying.copy_database(target)
        finally:
            models.db.close()

    with ThreadPoolExecutor() as pool:
        with there.atomic():
            there.execute_sql("LOCK TABLE facts")
            copied = pool.submit(copy)
            waits = "SELECT 1 FROM pg_locks WHERE NOT granted AND relation = 'facts'::regclass"
            eventually(lambda: there.execute_sql(waits).fetchone())
            Cursor.create(node_id="node", pay_index=0)
        counts = copied.result()
    assert (counts["servers"], counts["cursors"]) == (1, 0)
    schema.check(there)
    facts = "SELECT name, value FROM facts"
    assert set(there.execute_sql(facts)) == set(Fact.select().tuples())


# -- all or nothing ------------------------------------------------------------------


def test_a_database_with_a_shop_in_it_is_refused(full, runner, target, there):
    assert copy_database(runner, target).exit_code == 0
    assert "holds a shop already" in refused(runner, target)
    assert there.execute_sql("SELECT COUNT(*) FROM servers").fetchone() == (2,)


def test_one_refused_row_leaves_nothing(full, runner, target, there):
    with there.atomic():
        schema.create_tables(there)
    there.execute_sql("ALTER TABLE services ADD CHECK (name <> '')")
    assert "nothing was copied: new row for relation" in refused(runner, target)
    assert there.execute_sql("SELECT COUNT(*) FROM servers").fetchone() == (0,)


def test_rows_that_the_target_drops_are_noticed(full, runner, target, there):
    with there.atomic():
        schema.create_tables(there)
    # One statement each: the semicolons are within the function's body.
    there.execute_sql(
        "CREATE FUNCTION swallow() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'"
    )
    there.execute_sql(
        "CREATE TRIGGER swallow BEFORE INSERT ON facts FOR EACH ROW EXECUTE FUNCTION swallow()"
    )
    assert f"of {len(full[Fact])} facts, 0 arrived" in refused(runner, target)
    assert there.execute_sql("SELECT COUNT(*) FROM servers").fetchone() == (0,)


@pytest.fixture
def own_tables(empty_database_url):
    """Tables for the models that the test may change."""
    models.db.close()
    models.open_database(empty_database_url)
    models.init_db()


@from_each
def test_a_shop_of_another_version_is_refused(subtests, app, own_tables, runner, target, there):
    changes = {
        "CREATE TABLE notes (line TEXT)": ("notes.line", "DROP TABLE notes"),
        "ALTER TABLE accounts ADD COLUMN phone TEXT": (
            "accounts.phone",
            "ALTER TABLE accounts DROP COLUMN phone",
        ),
        "DROP TABLE cursors": ("cursors.node_id, cursors.pay_index, cursors.payment_hash", ""),
    }
    for change, (odd, undo) in changes.items():
        with subtests.test(change):
            models.db.execute_sql(change)
            assert f"not those of this version of the program: {odd}\n" in refused(runner, target)
            assert there.get_tables() == []
            if undo:
                models.db.execute_sql(undo)


# -- the URL -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url",
    [
        "sqlite:////tmp/hunter2",
        "postgresql://shop:hunter2@db.example",
        "postgresql://shop:1/hunter2@db.example/shop",
        "postgresql://shop:1?hunter2@db.example/shop",
        "postgresql://shop:1#hunter2@db.example/shop",
        "postgresql://shop:hunter2/@db.example/shop",
        "postgresql://shop:[hunter2@db.example/shop",
        "hunter2",
    ],
)
def test_an_unclear_url_is_refused_before_anything_is_tried(app, runner, url):
    assert "write postgresql://user:password@host/database" in refused(runner, url)


def test_an_unreachable_server_is_reported_without_the_password(app, runner):
    said = refused(runner, "postgresql://shop:hunter2@127.0.0.1:1/shop?connect_timeout=5")
    assert "Connection refused. Check the host, the port" in said


@pytest.mark.parametrize(
    ("part", "other"),
    [("shop@", "stranger:hunter2@"), ("_copy", "_nowhere"), ("?", "?password=hunter2&odd=1&")],
)
def test_a_wrong_name_is_reported_without_the_password(app, runner, target, part, other):
    if part not in target:
        pytest.skip("the user is another one")
    assert "Check the host, the port" in refused(runner, target.replace(part, other))
