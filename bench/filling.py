"""Fill a database with many accounts that need nothing done, as fast as possible."""

import secrets
from collections.abc import Iterable, Iterator

from peewee import Database, PostgresqlDatabase

NODE_ID = "02" + 32 * "ab"
KINDS = "client site ftp shell database_user database mail_domain mailbox".split()
AT_ONCE = 5000


def fill(database: Database, count: int, moment: int) -> None:
    """Add accounts that were opened 30 days before `moment` for a year: paid, applied and live."""
    opened = moment - 30 * 86400
    until = opened + 31536000
    with database.atomic():
        _insert(
            database,
            "accounts (id, username, server_id, space_mb, password_hash, opened_at,"
            " ready_at, expires_at, valued_at, value_msat, calendar_at, revision, leases,"
            " used_site_mb, used_database_mb, used_mail_mb, used_at, usage_at)",
            (
                (
                    f"id{n}",
                    f"name{n}",
                    1,
                    100,
                    "hash",
                    opened,
                    opened,
                    until,
                    opened,
                    365 * 7000,
                    until - 14 * 86400,
                    1,
                    1,
                    20,
                    1,
                    3,
                    moment,
                    moment + 3600,
                )
                for n in range(count)
            ),
        )
        _insert(
            database,
            "services (account_id, kind, name, applied_revision, applied_at, panel_id)",
            (
                (f"id{n}", kind, f"{kind}{n}", 1, opened, n + 1)
                for n in range(count)
                for kind in KINDS
            ),
        )
        _insert(
            database,
            "domains (account_id, name, added_at, verified_at, look_at)",
            (
                (f"id{n}", f"name{n}.example", opened, opened, moment + 60 + n % 86400)
                for n in range(count)
            ),
        )
        _insert(
            database,
            "orders (token, kind, account_id, username, space_mb, duration, unit, amount_msat,"
            " placed_at, expires_at, bolt11, payment_hash, paid_at, node_id, pay_index,"
            " received_msat, applied_at, bought_seconds, ends_at)",
            (
                (f"token{n}", "open", f"id{n}", f"name{n}", 100, 12, "months", 1000, opened, opened)
                + (
                    f"lnbc{n}",
                    f"hash{n}",
                    opened,
                    NODE_ID,
                    n + 1,
                    1000,
                    opened,
                    31536000,
                    opened + 31536000,
                )
                for n in range(count)
            ),
        )


def copy_unpaid_order(database: Database, order: dict, account: dict, count: int) -> None:
    """Add copies of this order and its account, each with names, tokens and hashes of its own."""
    tokens = [secrets.token_hex(16) for _ in range(count)]
    _insert_rows(database, "accounts", [account | _own_account(token) for token in tokens])
    _insert_rows(database, "orders", [order | _own_order(order, token) for token in tokens])


def _own_account(token: str) -> dict:
    return {"id": token[:16], "username": token[16:], "held_by": f"{token[::-1]}:0"}


def _own_order(order: dict, token: str) -> dict:
    rest = order["bolt11"][: -len(token)]
    return {
        "token": token,
        "account_id": token[:16],
        "attempt": token[8:] + token[:8],
        "asked": token[4:] + token[:4],
        "bolt11": rest + token,
        "payment_hash": token + token,
        "invoice_hash": token + token[::-1],
    }


def _insert_rows(database: Database, table: str, rows: list[dict]) -> None:
    with database.atomic():
        columns = f"{table} ({', '.join(rows[0])})"
        _insert(database, columns, (tuple(row.values()) for row in rows))


def _insert(database: Database, table: str, rows: Iterable[tuple]) -> None:
    columns, cursor = table.count(",") + 1, database.cursor()
    if isinstance(database, PostgresqlDatabase):
        with cursor.copy(f"COPY {table} FROM STDIN") as copy:
            for row in rows:
                copy.write_row(row)
        return
    query = f"INSERT INTO {table} VALUES ({', '.join([database.param] * columns)})"
    for some in _in_parts(rows):
        cursor.executemany(query, some)


def _in_parts(rows: Iterable[tuple]) -> Iterator[list[tuple]]:
    part = []
    for row in rows:
        part.append(row)
        if len(part) == AT_ONCE:
            yield part
            part = []
    yield part
