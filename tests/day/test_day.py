"""A day at full load: customers of every kind, while everything around the shop breaks in turn.

Web and worker run as in production, by a clock that is faster than the machine's. The node, the
panel and the name, mail and FTP servers run in the test. The suite simulates 20 minutes; `make day`
24 hours with 2,000 customers, and prints what became of them. SEED determines what breaks when, and
what each customer is going to do.
"""

import heapq
import os
import queue
import re
import secrets
import shutil
import tempfile
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest
from peewee import PeeweeException

from lightningspace.base import clock, models
from lightningspace.base.models import Account, Notice, Order
from lightningspace.panel import lease
from lightningspace.rules import accounts, outbox, payments, vouchers
from lightningspace.sandbox import panel as sandbox_panel
from tests.actual import everything
from tests.breaking import disk
from tests.conftest import (
    NO_POSTGRESQL,
    POSTGRESQL,
    SetClock,
    dns_servers,
    eventually,
    with_ftp,
    with_mail,
    with_settings,
    work,
)
from tests.day import customers, databases, weather
from tests.day.boxes import Boxes
from tests.day.browser import NoAnswer, Web
from tests.day.clockwork import Clockwork
from tests.day.findings import Findings, paid_orders

DAY = bool(os.environ.get("DAY"))
SEED = int(os.environ.get("SEED") or secrets.randbelow(10**6))
CUSTOMERS = int(os.environ.get("CUSTOMERS", "2000" if DAY else "40"))
RATE = float(os.environ.get("RATE", "60" if DAY else "240"))
KIND = os.environ.get("DATABASE") or ("postgresql" if POSTGRESQL and SEED % 2 else "sqlite")
LENGTH = (24 * 60 if DAY else 20) * 60
SECONDS = LENGTH / RATE
PAYMENTS_LEAST = CUSTOMERS // 8
TIMES = int(os.environ.get("TIMES", "3" if DAY else "1"))
FAULT_SECONDS = (3, 7) if DAY else (0.1, 0.2)
# Whatever has waited this long, by the machine's clock, is late.
CALM_SECONDS = 20
# How long after a fault customers may still notice it.
RECOVERY_SECONDS = 8 if DAY else 3


class Day:
    def __init__(self, shop, stand_ins, boxes, database_faults, clockwork):
        node, panel, dns, mails, ftp = stand_ins
        self.shop, self.node, self.panel = shop, node, panel
        self.boxes, self.clock = boxes, clockwork
        self.weather = weather.Weather(*stand_ins, clockwork, boxes, database_faults)
        self.faults = weather.drawn(SEED, list(self.weather.kinds), TIMES, FAULT_SECONDS)
        self.web = Web([box.address for box in boxes.boxes], 120 if DAY else 30)
        codes = [vouchers.make(1000, 31) for _ in range(CUSTOMERS // 20)]
        self.world = customers.World(self.web, node, dns, clockwork, LENGTH, codes)
        self.lives = [customers.drawn(SEED, number) for number in range(CUSTOMERS)]
        self.bare = everything(panel)
        self.failures: list[str] = []
        self.behind = 0.0
        self._stopping = threading.Event()

    def plan(self) -> str:
        lines = []
        for fault in self.faults:
            hours, minutes = divmod(int(fault.at * LENGTH / 60), 60)
            lines.append(f"{hours:02}:{minutes:02} {fault.what}")
        return "\n".join(lines)

    def table(self, rows) -> str:
        """A table of what was done, what broke, and what was found."""
        lines = [
            ("seed", SEED),
            ("database", KIND),
            ("customers", CUSTOMERS),
            ("hours", LENGTH // 3600 or f"{LENGTH / 3600:.1f}"),
            ("times faster than the machine's clock", int(RATE)),
            ("at most behind the plan, minutes", int(self.behind / 60)),
            *sorted(self.world.counts.items()),
            *sorted(Counter(f"broken: {what}" for *_, what in self.weather.broken).items()),
            *rows,
            *(("NOT AS IT SHOULD BE", text) for text in self.failures[:60]),
        ]
        return "\n".join(
            f"{name:48}{f'{value:,}' if isinstance(value, int) else value:>20}"
            for name, value in lines
        )

    # -- the day itself ----------------------------------------------------------------

    def live(self) -> None:
        self.begun, self.began_at = time.monotonic(), self.clock.right()
        self.boxes.is_early = lambda: time.monotonic() < self.begun + SECONDS / 5
        threads = [
            threading.Thread(target=self._break_things),
            threading.Thread(target=self.boxes.watch, args=(SECONDS / 200,)),
            threading.Thread(target=self._operate),
        ]
        for thread in threads:
            thread.start()
        try:
            self._lead_customers()
        finally:
            self.weather.stop()
            self._stopping.set()
            threads[0].join()
            threads[2].join()

    def _break_things(self) -> None:
        try:
            self.weather.blow(self.faults, self.begun, SECONDS)
        except Exception as error:
            self.failures.append(f"the weather broke down: {error!r}")

    def _lead_customers(self) -> None:
        """Let each customer do the next step when it is due, or as soon as a thread has time."""
        due, lock = [], threading.Condition()

        def plan(at: float, customer) -> None:
            with lock:
                heapq.heappush(due, (at, customer.life.number, customer))
                lock.notify()

        def lead() -> None:
            while self._goes_on():
                with lock:
                    wait = due[0][0] - self.clock.right() if due else 60.0
                    if wait > 0:
                        lock.wait(min(1, wait / RATE))
                        continue
                    at, _, customer = heapq.heappop(due)
                self.behind = max(self.behind, self.clock.right() - at)
                again = self._step(customer)
                if again is not None:
                    plan(self.clock.right() + again, customer)

        for life in self.lives:
            at = self.began_at + life.begins * LENGTH
            plan(at, customers.Customer(self.world, life))
        with ThreadPoolExecutor(24 if DAY else 8) as pool:
            for leading in [pool.submit(lead) for _ in range(pool._max_workers)]:
                leading.result()

    def _goes_on(self) -> bool:
        """Whether to go on: on a busy machine, a short day lasts until enough was paid."""
        over = time.monotonic() - self.begun - SECONDS
        return over < 0 or (over < 60 and self.world.counts["paid"] < PAYMENTS_LEAST)

    def _step(self, customer) -> float | None:
        try:
            return customer.step()
        except customers.GoesAway:
            return None
        except NoAnswer as error:
            self.world.counts["nobody answered"] += 1
            self.failures.append(str(error)[:300])
            return 10 * 60
        except Exception as error:  # it ends this customer's day alone
            self.failures.append(f"{customer.name}, {customer.next.__name__}: {error!r}"[:1000])
            return None

    def _operate(self) -> None:
        """Block the hostings that ask for it, and unblock them after a while."""
        blocked = []
        while not self._stopping.is_set() or blocked:
            try:
                if blocked and (blocked[0][0] < self.clock.right() or self._stopping.is_set()):
                    self._set_blocked(blocked[0][1], False)
                    blocked.pop(0)
                name = self.world.blocks.get(timeout=0.05)
                self._set_blocked(name, True)
                blocked.append((self.clock.right() + 20 * 60, name))
            except queue.Empty:
                pass
            except PeeweeException:
                models.drop_connection()
                self._stopping.wait(0.1)
        models.db.close()

    def _set_blocked(self, name: str, is_blocked: bool) -> None:
        account = Account.get_or_none(Account.username == name)
        if account and account.closing_at is None:
            if is_blocked:
                accounts.block(account.id, "See the terms.")
            else:
                accounts.unblock(account.id)

    def settle(self, worker) -> None:
        """Bring everything that is under way to its end: first by the programs, until nothing has
        waited long; then by hand, since a running shop always has something to do.
        """
        eventually(self._is_recorded, 120)
        eventually(self._is_calm, 900)
        self.boxes.stop()
        models.drop_connection()
        still = SetClock(self.clock.right())
        clock.set_source(lambda: still.moment)

        begun = time.monotonic()
        while left := self._under_way():
            assert time.monotonic() < begun + 120, f"still not settled: {left}"
            still.forward(60)  # a clock that was ahead has put things off by hours
            worker.mind_calendar()
            work(worker)
            outbox.send_due(self.shop)

    def _is_recorded(self) -> bool:
        seen = {row[0] for row in paid_orders().select(Order.payment_hash).tuples()}
        return set(self.world.paid) <= seen

    def _is_calm(self) -> bool:
        long_ago = int(self.clock.right() - CALM_SECONDS * RATE)
        is_open = Account.opened_at.is_null(False)
        late = Account.select().where(is_open & (Account.reconcile_at < long_ago)).exists()
        waits = paid_orders().where((Order.paid_at < long_ago) & Order.applied_at.is_null())
        return not late and waits.count() <= len(payments.late_tips())

    def _under_way(self) -> list:
        """Some of what is left to be done."""
        at_work = Account.reconcile_at.is_null(False) | ~lease.is_free(clock.now())
        is_at_work = Account.opened_at.is_null(False) & at_work
        waits = Notice.try_at.is_null(False)
        return [
            *payments.due(),
            *Account.select(Account.username, Account.reconcile_at).where(is_at_work).dicts(),
            *Notice.select(Notice.kind, Notice.try_at).where(waits).dicts(),
        ][:9]


@pytest.fixture
def database_kind():
    return KIND


@pytest.fixture
def small_disk():
    """Not below tmp_path: each run of pytest shuts the directory above to other users."""
    with tempfile.TemporaryDirectory(prefix="day-") as directory:
        Path(directory).chmod(0o755)  # PostgreSQL's user goes through it
        with disk(Path(directory, "disk"), mb=300 if DAY else 16):
            yield Path(directory, "disk")


@pytest.fixture
def database_url(small_disk, request):
    """On a disk of its own, which can be full."""
    if KIND == "sqlite":
        shutil.copyfile(request.getfixturevalue("tables"), small_disk / "shop.sqlite3")
        yield f"sqlite:///{small_disk / 'shop.sqlite3'}"
        return
    if POSTGRESQL is None:
        pytest.skip(NO_POSTGRESQL)
    name = f"day_{secrets.token_hex(4)}"
    if os.getuid() == 0:
        shutil.chown(small_disk, user="postgres")
    with psycopg.connect(POSTGRESQL, autocommit=True) as server:
        server.execute(f"CREATE TABLESPACE {name} LOCATION '{small_disk}'")
        server.execute(f"CREATE DATABASE {name} TABLESPACE {name}")
    url = re.sub("(//[^/]*)/[^?]*", rf"\1/{name}", POSTGRESQL, count=1)
    models.open_database(url)
    models.init_db()
    yield url
    models.db.close()
    with psycopg.connect(POSTGRESQL, autocommit=True) as server:
        server.execute(f"DROP DATABASE {name} WITH (FORCE)")
        server.execute(f"DROP TABLESPACE {name}")


@pytest.fixture
def clockwork(tmp_path, monkeypatch):
    made = Clockwork(tmp_path / "clock", RATE)
    clock.set_source(made.right)
    # The shop counts on the length of the panel's sessions in the machine's time.
    monkeypatch.setattr(sandbox_panel, "SESSION_SECONDS", sandbox_panel.SESSION_SECONDS * RATE)
    return made


@pytest.fixture
def settings_of_day(dns, more_settings):
    more_settings |= dns_servers(dns)


@with_mail
@with_ftp
@pytest.mark.usefixtures("clockwork", "settings_of_day")
@with_settings(
    PROXY_HOPS="1",
    CAPACITY_MB="100000000",
    INVOICE_MINUTES="60",
    SWEEP_LIMIT="100",
    TIP_JARS="false",
    **dict.fromkeys(("ORDERS_LIMIT_OVERALL", "LOGINS_LIMIT_OVERALL"), "100000 per minute"),
    **dict.fromkeys(("TIPS_LIMIT_OVERALL", "NAMES_LIMIT_OVERALL"), "100000 per minute"),
)
def test_a_day_of_faults_loses_and_doubles_nothing(
    this_shop, env, node, panel, dns, mails, ftp_server, worker, clockwork, small_disk, tmp_path
):
    print(f"SEED={SEED} on {KIND}")
    faults = databases.faults(env["DATABASE_URL"], small_disk, is_ours_alone=DAY)
    env["UPLOADS_DIR"] = str(this_shop.config.uploads_dir)
    boxes = Boxes(tmp_path, env, clockwork.path, count=2 if DAY or KIND == "postgresql" else 1)
    try:
        boxes.start()
        day = Day(this_shop, (node, panel, dns, mails, ftp_server), boxes, faults, clockwork)
        print(day.plan())
        day.live()
        day.settle(worker)
    finally:
        boxes.kill()
    since = day.begun + SECONDS / 4 if DAY else None
    print(day.table(Findings(this_shop, day, RECOVERY_SECONDS, since).rows()))
    assert day.failures == []
