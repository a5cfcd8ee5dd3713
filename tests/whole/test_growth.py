"""An account with as many rows as time and money can bring it slows nobody down."""

import time
from collections.abc import Callable

import pytest

from lightningspace.base import clock, models
from lightningspace.base.models import (
    Account,
    Domain,
    Notice,
    Offer,
    Order,
    Service,
    Session,
    Token,
    Upload,
    Wallet,
)
from lightningspace.base.prices import EXTRAS_MAX
from lightningspace.base.tables import TABLES
from lightningspace.outside import l402
from lightningspace.rules import (
    accounts,
    calendar,
    orders,
    outbox,
    payments,
    services,
    sessions,
    tips,
    tokens,
    wallets,
)
from lightningspace.rules.orders import Tip
from tests.conftest import csrf_token, log_in, place_order, record_payments, with_mail, work
from tests.operator import test_pages

MANY = 100_000
CPU_SECONDS = 0.1
# A machine that is busy with something else makes some tries slow, but not all.
TRIES = 5
# How many rows of each table the account has here: MANY, or the most that it can have.
ROWS = {Order: MANY, Notice: MANY, Token: tokens.TOKENS_MAX, Offer: 1, Upload: 1}
ROWS |= {Domain: EXTRAS_MAX, Service: 3 * EXTRAS_MAX, Session: sessions.SESSIONS_MAX}
ROWS[Wallet] = wallets.WALLETS_MAX


@pytest.fixture
def alice(this_shop, order, wallet, worker) -> Account:
    """A paid hosting that is ready."""
    wallet.pay(order.bolt11)
    work(worker)
    return Account.get(Account.ready_at.is_null(False))


@pytest.fixture
def crowded(this_shop, alice, mails) -> Account:
    """alice's account with that many rows."""
    Account.update(extra_addresses=EXTRAS_MAX, extra_domains=EXTRAS_MAX).execute()
    account, moment = Account.get(), clock.now()
    addresses = services.addresses_allowed(this_shop, account)
    domains = services.domains_allowed(this_shop, account)
    bought, mailbox = Order.get(), Service.get(Service.kind == "mailbox")
    tip = orders.top_up(this_shop, alice.id, Tip(1000, "address"), None, "form")
    token = tokens.hand_out(this_shop, alice.id, "all", l402.WHOLE)
    paid_at, name = f"{bought.paid_at} - n / 3", "'alice' || n || '.example'"
    topup = {"kind": "'topup'", "duration": "NULL", "unit": "NULL", "message": "'no. ' || n"}
    with models.transaction():
        insert(bought, **own("extension"), kind="'extend'", paid_at=paid_at)
        insert(bought, 100, **own("owner"), **topup, door="'owner'", paid_at=paid_at)
        door = "CASE n - n / 3 * 3 WHEN 0 THEN 'page' WHEN 1 THEN 'address' ELSE 'offer' END"
        insert(bought, **own("tip"), **topup, door=door, paid_at=paid_at)
        insert(tip, **own("over"), bolt11="NULL", released_at=str(moment))
        insert(tip, orders.OPEN_TIPS - 10, **own("open"))
        insert(token, tokens.TOKENS_MAX - 1, id="'id' || n", name="'name' || n")
        told = {"account_id": alice.id, "kind": "ending-7d", "channel": "mailbox", "about": 0}
        insert(Notice(**told, written_at=moment - 86400, sent_at=moment), about="n")
        begun = Session(account=alice, begun_at=moment, used_at=moment, proved_at=1)
        insert(begun, sessions.SESSIONS_MAX, id="'session' || n")
        linked = Wallet(account=alice, wallet_key="", linked_at=moment)
        insert(linked, wallets.WALLETS_MAX, wallet_key="'02' || n")
        Offer.create(id="offer", account=alice, bolt12="lno1", is_active=True, is_due=False)
        Upload.create(id="upload", account=alice, total=5000, sent_at=moment)
        insert(Domain(account=alice, name="", added_at=1, look_at=moment), domains, name=name)
        live = Service(account=alice, kind="", name="", applied_revision=1, applied_at=1)
        for kind in ("alias", "mail_domain"):
            insert(live, domains, kind=f"'{kind}'", name=name)
        insert(mailbox, addresses - 1, name="'info@alice' || n || '.example'")
        insert(live, services.KINDS["paidarea"].most, kind="'paidarea'", name="'area' || n")
    return Account.get()


def insert(row, count: int = MANY, **changes: str) -> None:
    """Insert rows like this one; `changes` are columns as SQL, which may contain the number n."""
    fields = row._meta.fields.items()
    facts = {field.column_name: row.__data__.get(name, field.default) for name, field in fields}
    columns = {name: models.db.param for name in facts} | changes
    models.db.execute_sql(
        "WITH RECURSIVE numbers (n) AS"
        f" (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < {count})"
        f" INSERT INTO {row._meta.table_name} ({', '.join(columns)})"
        f" SELECT {', '.join(columns.values())} FROM numbers",
        [fact for name, fact in facts.items() if name not in changes],
    )


def own(mark: str) -> dict[str, str]:
    """The columns that must differ between orders."""
    return {"token": f"'{mark}' || n", "payment_hash": f"'{mark}' || n", "attempt": "NULL"}


def is_slow(call: Callable[[], object], tries: int = TRIES) -> bool:
    """Whether every call takes too much of this thread's CPU time."""
    for _ in range(tries):
        begun = time.thread_time()
        call()
        if time.thread_time() - begun < CPU_SECONDS:
            return False
    return True


# Values for the placeholders in addresses, and queries.
VALUES = {
    "filename": "shop.css",
    "username": "alice",
    "token": "extension7",
    "order": "tip7",
    "address": "info@alice7.example",
    "name": "alice7.example",
    "area": "area3",
    "secret": "none",
}
QUERIES = {
    "access.next_receipt_file": ["?epoch=7"],
    # The last parts of the lists of mails, orders, and tips.
    "known.known_rows": ["", "?after=7-99900", "?after=9-99900", "?after=13-33000"],
    "known.known_file": ["", "?after=7-99500", "?after=9-99500", "?after=13-33000"],
    "money.payments": ["", "?before=tip90000"],
    "tips.tips": ["", "?before=tip90000"],
    "api_payments.orders": ["", "?before=extension90000"],
    "api_tips.tips": ["", "?before=tip90000"],
    "lnurl_pay.callback": ["?amount=1000"],
    "operator.hostings": ["", "?standing=running", "?q=alice7", "?q=extensi7", "?q=bella.example"],
    "operator.payments": ["?first=2026-01-01&last=2026-01-02"],
}
# Endpoints about things that alice has none of.
UNKNOWN = (
    "about.abuse",
    "about.imprint",
    "discovery.index_402",
    "tip.badge",
    "reminders.confirm_reminders",
    "reminders.stop_reminders",
    "api_mail.forward",
    "operator.link",
)


@pytest.fixture
def visit(app, this_shop, crowded):
    """Open an address as alice, or as her program."""
    browser, token = app.test_client(), Token.get(Token.name == "all")
    log_in(browser, "alice", "correct horse")
    test_pages.log_in(browser, this_shop)
    credential = {"Authorization": f"L402 {tokens.text_of(this_shop, token)}"}

    def visit(address: str, method: str = "GET", **kwargs):
        headers = credential if address.startswith("/api/") else {}
        return browser.open(address, method=method, headers=headers, **kwargs)

    return visit


def addresses(app, values: dict[str, str]) -> list[tuple[str, str]]:
    """Each endpoint that can be opened, with its addresses and their queries."""
    urls = app.url_map.bind("localhost")
    found = []
    for rule in app.url_map.iter_rules():
        if "GET" in rule.methods:
            address = urls.build(rule.endpoint, {name: values[name] for name in rule.arguments})
            found += [
                (rule.endpoint, address + query) for query in QUERIES.get(rule.endpoint, [""])
            ]
    return found


@with_mail
def test_an_account_with_many_rows_slows_nobody_down(
    app, client, visit, crowded, this_shop, wallet, worker
):
    of_accounts = {table for table in TABLES if hasattr(table, "account_id")}
    assert of_accounts == ROWS.keys(), "how many rows may an account have there?"
    for table, rows in ROWS.items():
        assert table.select().where(table.account_id == crowded.id).count() >= rows

    slow, odd = [], []
    for endpoint, address in addresses(app, VALUES | {"token_id": Token.get(name="all").id}):
        if visit(address).status_code >= 400 and endpoint not in UNKNOWN:
            odd.append(address)
        if is_slow(lambda address=address: visit(address)):
            slow.append(address)
    assert (slow, odd) == ([], [])

    tip = orders.top_up(this_shop, crowded.id, Tip(1000, "address"), None, "another form")
    wallet.pay(tip.bolt11)
    record_payments(worker)
    csrf, hour = csrf_token(visit("/account").text), {"duration": 1, "unit": "hours"}
    badge = tips.badge_url(this_shop, crowded).removeprefix("http://localhost")
    assert f" by {tips.COUNTED_MAX}+ tips" in visit(badge).text
    again = {
        "a badge": lambda: visit(badge),
        "extending": lambda: visit("/api/v1/hosting/extend", "POST", json=hour),
        "ordering": lambda: place_order(client, username="alice"),
        "closing": lambda: close(crowded),
        "looking for what is paid": payments.due,
        "writing a mail": lambda: write_mail(this_shop, crowded),
    }
    once = {
        "a tip takes effect": lambda: payments.apply(this_shop, tip.token),
        "the calendar": lambda: calendar.run_pass(this_shop, yes=True),
        "logging out": lambda: visit("/logout", "POST", data={"csrf_token": csrf}),
    }
    slow = [what for what, step in again.items() if is_slow(step)]
    assert slow + [what for what, step in once.items() if is_slow(step, tries=1)] == []


def close(account: Account) -> None:
    """Close it, as far as that is done in one transaction."""
    with models.transaction():
        assert not accounts._close_within(account)


def write_mail(shop, account: Account) -> None:
    with models.transaction():
        outbox.write(shop, account, "suspended", clock.now(), channel="mailbox")
