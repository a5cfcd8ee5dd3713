"""Looking for work costs the worker no more in a large shop while there is none."""

import hashlib
import logging
import re

import pytest

from bench.filling import fill
from lightningspace.base import clock, models, schema
from lightningspace.base.gate_models import GateDisk
from lightningspace.base.models import (
    Account,
    Fact,
    Offer,
    Order,
    RestingName,
    Service,
    WalletSignature,
)
from lightningspace.base.money_models import Refund
from lightningspace.gate import collection
from lightningspace.gate.services import Service as GateService
from lightningspace.outside import l402
from lightningspace.panel.lease import Lease
from lightningspace.rules import (
    clock_watch,
    domain_checks,
    offers,
    payouts,
    progress,
    tokens,
    usage,
)
from tests.whole.test_growth import insert

pytestmark = pytest.mark.each_database

# An index of some of the rows, those that wait for something, may be read from end to end.
PARTIAL = re.findall(r"CREATE INDEX (\w+) ON [^;]* WHERE", schema.SCHEMA.read_text())
LARGE = "accounts|services|domains|orders|offers|resting_names|wallet_signatures|gate_disks"
LARGE += "|refunds"


@pytest.fixture
def large_shop(this_shop):
    """2,000 accounts, known to the planner. Filling it takes longer than all the tests."""
    fill(models.db.obj, 2000, clock.now())
    until = clock.now() + 1000
    insert(RestingName(until=until), 2000, name_hash="'hash' || n", payment_hash="n")
    offer = Offer(account="", bolt12="lno1", is_active=True, is_due=False)
    insert(offer, 2000, id="n - 1", account_id="'id' || (n - 1)")
    paid = {"sent_at": 1, "paid_at": 1, "preimage": "", "expires_at": 1, "order": Order.get()}
    row = Refund(id="", msat=1, made_at=1, payment_hash="", **paid)
    insert(row, 2000, id="n", payment_hash="n")
    insert(WalletSignature(wallet_key="02", until=until), 2000, k1="n")
    insert(GateDisk(service="disk", until=until), 2000, token_id="'id' || n")
    models.db.execute_sql("ANALYZE")


@pytest.fixture
def statements(caplog):
    """Run a step; returns its SQL with the parameters."""

    def statements(step, *arguments) -> list[tuple]:
        caplog.clear()
        with caplog.at_level(logging.DEBUG, "peewee"):
            step(*arguments)
        ran = [record.msg for record in caplog.records if record.name == "peewee"]
        # The tables of servers, facts and uploads are small.
        asks = re.compile('SELECT (?!.*FROM "(?:servers|facts|uploads)")|UPDATE|DELETE')
        return [(sql, params) for sql, params in ran if asks.match(sql)]

    return statements


def work_through_a_lease(account_id: str) -> None:
    lease = Lease(account_id)
    assert lease.take()
    lease.check()
    lease.extend()
    lease.release(None, Account.get_by_id(account_id).revision)


def reads_whole(line: str) -> bool:
    """Whether a line of either database's plan reads all rows of a large table."""
    if scan := re.match(r"SCAN (?!CONSTANT ROW)\w+(?:.* INDEX (\w+))?", line):
        return scan[1] not in PARTIAL
    return re.search(rf"Seq Scan on (?:{LARGE})\b", line) is not None


def plan_of(sql: str, params) -> list[str]:
    explain = "EXPLAIN QUERY PLAN" if models.db.param == "?" else "EXPLAIN"
    return [str(row[-1]).strip() for row in models.db.execute_sql(f"{explain} {sql}", params)]


def test_no_step_of_the_worker_reads_a_large_table_whole(large_shop, worker, statements):
    seen = Account.select().where(Account.space_mb > 1)
    assert any(map(reads_whole, plan_of(*seen.sql())))
    steps = {
        "looking for work": (worker.look,),
        "following payments": (worker.follow_payments, 0),
        "tidying": (worker.tidy,),
        "looking up domains": (domain_checks.look, worker.shop),
        "minding the calendar": (worker.mind_calendar,),
        "looking at queues that nothing waits for": (progress.look_at_queues, worker.shop),
        "telling the node of offers": (offers.match, worker.shop),
        "knowing that an offer is off": (offers.is_off, "id7"),
        "paying refunds": (payouts.pay_due, worker.shop),
        "knowing what needs the operator": (payouts.problems,),
        "asking what space is used": (usage.look, worker.shop),
        "holding a lease": (work_through_a_lease, "id7"),
    }
    for name, step in steps.items():
        ran = statements(*step)
        assert ran, name
        for sql, params in ran:
            plan = plan_of(sql, params)
            assert not any(map(reads_whole, plan)), f"{name}: {sql}\n{plan}"

    Service.update(applied_at=clock.now() - 1).where(Service.name == "ftp7").execute()
    for sql, params in statements(progress.look_at_queues, worker.shop):
        assert not any(map(reads_whole, plan_of(sql, params))), sql
    assert progress.queue_of(1).done_until


def test_rare_queries_use_an_index(large_shop, worker, statements):
    disk = GateService("disk", "", "/disk/", 1, 1, disk="/srv/disk", grace_seconds=1)
    [query] = statements(collection.due, disk)
    plan = "".join(plan_of(*query))
    assert "gate_disks_over" in plan and "TEMP B-TREE" not in plan

    preimage, keys = bytes(32), worker.shop.keys
    receipt = keys.mint(
        hashlib.sha256(preimage).digest(), keys.token_id(0), l402.caveats(l402.SERVICE, l402.WHOLE)
    )
    [query] = statements(tokens.last_hosting, worker.shop, receipt, preimage)
    assert "resting_names_of_payment" in "".join(plan_of(*query))


def test_queries_of_the_calendar_use_an_index(large_shop, worker, statements):
    worker.mind_calendar()
    Fact.update(value="0").where(Fact.name == clock_watch.UNBROKEN).execute()
    few, moment = Account.id << [f"id{n}" for n in range(5)], clock.now()
    for expires_at in (moment - 1, moment - 15 * 86400, moment + 86400, moment + 7 * 86400):
        Account.update(expires_at=expires_at, calendar_at=moment).where(few).execute()
        ran = statements(worker.mind_calendar)
        assert len(ran) > 20
        for sql, params in ran:
            plan = plan_of(sql, params)
            assert not any(map(reads_whole, plan)), f"{sql}\n{plan}"
