"""The tables as peewee classes, and the connection to them."""

import select
import threading
from contextlib import contextmanager, nullcontext

import psycopg
from peewee import (
    CompositeKey,
    Database,
    DatabaseProxy,
    Model,
    PostgresqlDatabase,
    SqliteDatabase,
)
from playhouse.db_url import parse

from lightningspace.base import schema, whole_rows
from lightningspace.base.columns import BigIntegerField, BooleanField, ForeignKeyField, TextField

# It holds money and secrets: every commit reaches the disk, and what is wiped is overwritten.
SQLITE_PRAGMAS = {
    "journal_mode": "wal",
    "synchronous": "full",
    "foreign_keys": 1,
    "secure_delete": 1,
}
SQLITE_BUSY_SECONDS = 30

db = DatabaseProxy()
_sqlite_writer = threading.Lock()


def open_database(url: str) -> Database:
    """Point the models at the database of `url` (sqlite:///… or postgresql://…).

    Connections are opened when first used, one per thread, and kept.
    """
    database = connect_to(url)
    db.initialize(database)
    return database


def connect_to(url: str) -> Database:
    """The database of `url`; the models keep theirs."""
    if url.startswith("sqlite:"):
        # BEGIN IMMEDIATE: a plain BEGIN that reads first answers "database is locked" when
        # another thread has written meanwhile, whatever the busy timeout.
        path = url.removeprefix("sqlite:///")
        return Sqlite(
            path, pragmas=SQLITE_PRAGMAS, timeout=SQLITE_BUSY_SECONDS, lock_type="IMMEDIATE"
        )
    return Postgresql(
        **parse(url, unquote_user=True, unquote_password=True),
        prefer_psycopg3=True,
        # A statement prepared on one of PgBouncer's connections is missing on the next.
        prepare_threshold=None,
    )


class Sqlite(SqliteDatabase):
    def rollback(self):
        # On a full disk SQLite has undone it already: the failing ROLLBACK would hide the reason.
        if self.connection().in_transaction:
            super().rollback()


class Postgresql(PostgresqlDatabase):
    """Replaces a connection that the server has ended while it was idle, before it is used. Without
    that, each thread would fail once after a restart, even if the server is long back.
    """

    def execute_sql(self, sql, params=None):
        self._leave_ended_connection()
        return super().execute_sql(sql, params)

    def begin(self, isolation_level=None):
        self._leave_ended_connection()
        super().begin(isolation_level)

    def _leave_ended_connection(self) -> None:
        if self.is_closed() or self.in_transaction():
            return
        connection = self.connection()
        if connection.closed or _is_ended(connection):
            self.close()


def _is_ended(connection: psycopg.Connection) -> bool:
    """Whether there is something to read: without being asked, a server sends only its goodbye."""
    unread = select.poll()
    unread.register(connection.fileno(), select.POLLIN)
    return bool(unread.poll(0))


@contextmanager
def transaction():
    """All or nothing, and one writer at a time on SQLite.

    A nested one is a savepoint: it is kept if the outer one is, and undone alone if it raises.
    """
    if db.in_transaction():
        with db.savepoint():
            yield
        return
    # Waiting for SQLite means longer and longer sleeps; our lock wakes the next thread at once.
    with _sqlite_writer if isinstance(db.obj, SqliteDatabase) else nullcontext(), db.atomic():
        yield


def init_db() -> bool:
    """Create the tables of schema.sql; False: they were there. Safe to call twice."""
    with transaction():
        if db.table_exists("facts"):
            return False
        schema.create_tables(db.obj)
    return True


def drop_connection() -> None:
    """After a fault: the next query opens another connection. The server may be gone, or may have
    become a standby, which takes no more writes over this one.
    """
    if not db.is_closed():
        db.close()


class Table(Model):
    class Meta:
        database = db
        legacy_table_names = False

    @classmethod
    def select(cls, *columns):
        """SELECT those columns, or whole rows."""
        if columns:
            return super().select(*columns)
        return whole_rows.WholeRows(cls, cls._meta.sorted_fields, is_default=True)

    @classmethod
    def get(cls, *conditions, **filters):
        found = cls.get_or_none(*conditions, **filters)
        if found is None:
            raise cls.DoesNotExist(f"no such {cls.__name__}")
        return found

    @classmethod
    def get_or_none(cls, *conditions, **filters):
        """The first row that meets all conditions."""
        lookup = None if filters else whole_rows.lookup(cls, conditions, db.param)
        if lookup:
            row = db.execute_sql(*lookup).fetchone()
            return row and whole_rows.made(cls, row)
        rows = cls.select().where(*conditions) if conditions else cls.select()
        return (rows.filter(**filters) if filters else rows).first()


class Server(Table):
    id = BigIntegerField(primary_key=True)
    capacity_mb = BigIntegerField()
    php_versions = TextField(default="[]")
    php_at = BigIntegerField(null=True)

    class Meta:
        table_name = "servers"


class Account(Table):
    id = TextField(primary_key=True)
    username = TextField(null=True, unique=True)
    server = ForeignKeyField(Server, column_name="server_id")
    moved_from = BigIntegerField(null=True)
    space_mb = BigIntegerField()
    extra_addresses = BigIntegerField(default=0)
    extra_domains = BigIntegerField(default=0)
    held_by = TextField(null=True, unique=True)
    email = TextField(null=True)
    email_waits = TextField(null=True)
    email_epoch = BigIntegerField(default=0)
    password_sealed = TextField(null=True)
    password_hash = TextField(null=True)
    opened_at = BigIntegerField(null=True)
    ready_at = BigIntegerField(null=True)
    expires_at = BigIntegerField(null=True)
    valued_at = BigIntegerField(null=True)
    value_msat = BigIntegerField(null=True)
    credit_msat = BigIntegerField(default=0)
    paid_msat = BigIntegerField(default=0)
    unpaid_seconds = BigIntegerField(default=0)
    began_at = BigIntegerField(null=True)
    kept_until = BigIntegerField(null=True)
    calendar_at = BigIntegerField(null=True)
    last_call_at = BigIntegerField(null=True)
    suspended_at = BigIntegerField(null=True)
    blocked_at = BigIntegerField(null=True)
    blocked_reason = TextField(null=True)
    blocked_for = TextField(null=True)
    closing_at = BigIntegerField(null=True)
    deleting_at = BigIntegerField(null=True)
    session_epoch = BigIntegerField(default=0)
    receipt_epoch = BigIntegerField(default=0)
    entered_at = BigIntegerField(null=True)
    wallet_recovers = BooleanField(default=True)
    recovery_asked_at = BigIntegerField(null=True)
    tips_page = BooleanField(default=True)
    tips_address = BooleanField(default=True)
    tips_offer = BooleanField(default=True)
    tips_show_end = BooleanField(default=True)
    small_tips = BigIntegerField(default=0)
    small_tips_msat = BigIntegerField(default=0)
    revision = BigIntegerField(default=0)
    reconcile_at = BigIntegerField(null=True)
    leased_by = TextField(null=True)
    leased_until = BigIntegerField(null=True)
    leases = BigIntegerField(default=0)
    used_site_mb = BigIntegerField(null=True)
    used_database_mb = BigIntegerField(null=True)
    used_mail_mb = BigIntegerField(null=True)
    used_at = BigIntegerField(null=True)
    usage_at = BigIntegerField(null=True)

    class Meta:
        table_name = "accounts"


class Token(Table):
    id = TextField(primary_key=True)
    account = ForeignKeyField(Account, column_name="account_id", backref="tokens")
    name = TextField()
    capabilities = TextField()
    valid_until = BigIntegerField(null=True)
    made_at = BigIntegerField()

    class Meta:
        table_name = "tokens"


class Session(Table):
    id = TextField(primary_key=True)
    account = ForeignKeyField(Account, column_name="account_id", backref="sessions")
    begun_at = BigIntegerField()
    used_at = BigIntegerField()
    proved_at = BigIntegerField()
    by_receipt = BooleanField(default=False)

    class Meta:
        table_name = "sessions"


class Wallet(Table):
    account = ForeignKeyField(Account, column_name="account_id", backref="wallets")
    wallet_key = TextField()
    linked_at = BigIntegerField()
    used_at = BigIntegerField(null=True)

    class Meta:
        table_name = "wallets"
        primary_key = CompositeKey("account", "wallet_key")


class WalletSignature(Table):
    k1 = TextField(primary_key=True)
    wallet_key = TextField()
    until = BigIntegerField()
    is_used = BooleanField(default=False)

    class Meta:
        table_name = "wallet_signatures"


class Evidence(Table):
    id = TextField(primary_key=True)
    username = TextField()
    category = TextField()
    note = TextField()
    noted_at = BigIntegerField()

    class Meta:
        table_name = "evidence"


class Service(Table):
    account = ForeignKeyField(Account, column_name="account_id", backref="services")
    kind = TextField()
    name = TextField()
    settings = TextField(default="{}")
    active = BooleanField(default=True)
    gone = BooleanField(default=False)
    password_sealed = TextField(null=True)
    own_password_sealed = TextField(null=True)
    revision = BigIntegerField(default=1)
    applied_revision = BigIntegerField(default=0)
    applied_at = BigIntegerField(null=True)
    panel_id = BigIntegerField(null=True)
    error = TextField(null=True)
    note = TextField(null=True)
    permanent = BooleanField(default=False)
    tries = BigIntegerField(default=0)
    tried_at = BigIntegerField(null=True)
    failed_since = BigIntegerField(null=True)
    certificate_asked_at = BigIntegerField(null=True)
    certificate_asks = BigIntegerField(default=0)
    certificate_at = BigIntegerField(null=True)

    class Meta:
        table_name = "services"
        primary_key = CompositeKey("account", "kind", "name")

    @property
    def is_applied(self) -> bool:
        return self.applied_revision == self.revision


class Upload(Table):
    account = ForeignKeyField(Account, column_name="account_id", primary_key=True)
    id = TextField(unique=True)
    total = BigIntegerField()
    compared = BigIntegerField(default=0)
    done = BigIntegerField(default=0)
    sent_at = BigIntegerField()
    ended_at = BigIntegerField(null=True)
    outcome = TextField(null=True)
    about = TextField(default="[]")

    class Meta:
        table_name = "uploads"


class Domain(Table):
    account = ForeignKeyField(Account, column_name="account_id", backref="domains")
    name = TextField()
    added_at = BigIntegerField()
    look_at = BigIntegerField()
    asked_at = BigIntegerField(null=True)
    looked_at = BigIntegerField(null=True)
    verified_at = BigIntegerField(null=True)
    missing_at = BigIntegerField(null=True)
    wants_mail = BooleanField(default=False)
    has_mx = BooleanField(default=False)
    mx_missing_at = BigIntegerField(null=True)
    problem = TextField(null=True)
    found = TextField(null=True)

    class Meta:
        table_name = "domains"
        primary_key = CompositeKey("account", "name")


class Notice(Table):
    account_id = TextField()
    kind = TextField()
    about = BigIntegerField()
    channel = TextField()
    recipient = TextField(null=True)
    subject = TextField(null=True)
    body = TextField(null=True)
    unsubscribe = TextField(null=True)
    written_at = BigIntegerField()
    try_at = BigIntegerField(null=True)
    tries = BigIntegerField(default=0)
    sent_at = BigIntegerField(null=True)
    error = TextField(null=True)

    class Meta:
        table_name = "notices"
        primary_key = CompositeKey("account_id", "kind", "about", "channel")


class MailPlace(Table):
    for_whom = TextField()
    number = BigIntegerField()
    taken_at = BigIntegerField()

    class Meta:
        table_name = "mail_places"
        primary_key = CompositeKey("for_whom", "number")


class Order(Table):
    token = TextField(primary_key=True)
    kind = TextField()
    account = ForeignKeyField(Account, column_name="account_id", null=True, backref="orders")
    attempt = TextField(null=True, unique=True)
    browser = TextField(null=True)
    username = TextField(null=True)
    held_name = TextField(null=True)
    space_mb = BigIntegerField(null=True)
    extra_addresses = BigIntegerField(default=0)
    extra_domains = BigIntegerField(default=0)
    duration = BigIntegerField(null=True)
    unit = TextField(null=True)
    amount_msat = BigIntegerField(null=True)
    placed_at = BigIntegerField()
    expires_at = BigIntegerField()
    bolt11 = TextField(null=True)
    payment_hash = TextField(null=True, unique=True)
    invoice_hash = TextField(null=True)
    asked = TextField(null=True)
    holder = TextField(null=True)
    receipt_epoch = BigIntegerField(default=0)
    redeemed_at = BigIntegerField(null=True)
    cancelled_at = BigIntegerField(null=True)
    withdrawn_at = BigIntegerField(null=True)
    missing_at = BigIntegerField(null=True)
    released_at = BigIntegerField(null=True)
    paid_at = BigIntegerField(null=True)
    node_id = TextField(null=True)
    pay_index = BigIntegerField(null=True)
    received_msat = BigIntegerField(null=True)
    applied_at = BigIntegerField(null=True)
    bought_seconds = BigIntegerField(null=True)
    ends_at = BigIntegerField(null=True)
    bought_credit_msat = BigIntegerField(default=0)
    is_late = BooleanField(default=False)
    door = TextField(null=True)
    message = TextField(null=True)
    hidden_at = BigIntegerField(null=True)
    offer_id = TextField(null=True)

    class Meta:
        table_name = "orders"


def lock_account(account_id: str) -> Account | None:
    """Within a transaction: lock the account until that ends, and return it; None: it is gone."""
    locked = Account.update(revision=Account.revision).where(Account.id == account_id).execute()
    return Account.get_by_id(account_id) if locked else None


class Offer(Table):
    id = TextField(primary_key=True)
    account = ForeignKeyField(Account, column_name="account_id", null=True, unique=True)
    bolt12 = TextField()
    is_active = BooleanField()
    is_due = BooleanField(default=True)
    revision = BigIntegerField(default=1)
    held_until = BigIntegerField(null=True)

    class Meta:
        table_name = "offers"


class RestingName(Table):
    name_hash = TextField(primary_key=True)
    until = BigIntegerField()
    payment_hash = TextField(null=True)
    receipt_epoch = BigIntegerField(default=0)

    class Meta:
        table_name = "resting_names"


class Cursor(Table):
    node_id = TextField(primary_key=True)
    pay_index = BigIntegerField()
    payment_hash = TextField(null=True)

    class Meta:
        table_name = "cursors"


class Fact(Table):
    name = TextField(primary_key=True)
    value = TextField()

    class Meta:
        table_name = "facts"


def set_fact(name: str, value: int | str) -> None:
    Fact.insert(name=name, value=str(value)).on_conflict(
        conflict_target=[Fact.name], update={Fact.value: str(value)}
    ).execute()
