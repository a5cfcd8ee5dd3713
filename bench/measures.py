"""The measurements of pages, worker and calendar: each function runs one and prints figures."""

import http.client
import os
import queue
import re
import secrets
import sqlite3
import statistics
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass

import psycopg

from bench.customers import Browser, Pollers, crowd, fetch, pay
from bench.filling import fill
from bench.programs import ROOT, Program, Stage, stage
from lightningspace.base import models, names
from lightningspace.base.clock import now
from lightningspace.base.models import Account, Fact
from lightningspace.panel import reconcile
from lightningspace.rules import calendar, clock_watch, progress, wanted
from lightningspace.shop import Shop

TIMINGS = ROOT / "tests" / "contracts" / "ispconfig" / "_timings.json"

POLLERS = 200
CONNECTIONS = 4
BURST = 200


def heading(text: str) -> None:
    print(f"\n{text}", flush=True)


def say(text: str) -> None:
    print(f"  {text}", flush=True)


def goal(text: str, is_met: bool) -> None:
    say(f"{'met   ' if is_met else 'MISSED'}  {text}")


def percentile(values: list[float], percent: int) -> float:
    ranked = sorted(values)
    return ranked[min(len(ranked) - 1, len(ranked) * percent // 100)]


def in_ms(seconds: list[float], *percents: int) -> str:
    return ", ".join(f"p{p} {percentile(seconds, p) * 1000:.1f} ms" for p in percents)


# -- GET /orders/<token>/status ------------------------------------------------------


def status(rounds: int = 15, seconds: float = 0.8) -> None:
    heading("status: GET /orders/<token>/status of an unpaid order")
    with stage() as shop:
        web = shop.web()
        browser = Browser(web.port)
        order = browser.order()
        path = f"{order}/status"
        size = len(fetch(web.port, "GET", path)[2].encode())
        mine = len(fetch(web.port, "GET", path, {"Cookie": browser.cookie})[2].encode())
        say(f"{size} bytes for a stranger, {mine} for the buyer; {CONNECTIONS} connections")
        for name, length, header in (
            ("without a cookie", size, ""),
            ("with the buyer's cookie", mine, f"Cookie: {browser.cookie}"),
        ):
            bare = shop.bare(length)
            ratio = compare(web, path, bare, header, rounds, seconds, name)
            bare.stop()
            goal(f"{name}: {ratio:.2f} of the bare route's throughput (at least 0.4)", ratio >= 0.4)
        many_pollers(browser, web)


def compare(web, path, bare, header, rounds, seconds, name) -> float:
    """Run both in turn, some rounds, and return the median ratio of their throughputs."""
    for program, its_path in ((web, path), (bare, "/")):
        crowd(program.port, its_path, 1, CONNECTIONS, header)
    ratios, cpu_ratios = [], []
    for _ in range(rounds):
        ours, our_cpu = throughput(web, path, header, seconds)
        theirs, their_cpu = throughput(bare, "/", header, seconds)
        ratios.append(ours / theirs)
        cpu_ratios.append(their_cpu / our_cpu)
        say(
            f"{name}: {ours:.0f}/s of {theirs:.0f}/s = {ratios[-1]:.2f}; CPU time of one answer "
            f"{our_cpu * 1000:.3f} ms against {their_cpu * 1000:.3f} ms = {cpu_ratios[-1]:.2f}"
        )
    say(
        f"{name}: by CPU time, which other programs disturb less: "
        f"{statistics.median(cpu_ratios):.2f}"
    )
    return statistics.median(ratios)


def throughput(program: Program, path: str, header: str, seconds: float) -> tuple[float, float]:
    """Return the answers per second, and the CPU seconds that one answer takes."""
    cpu, started = program.cpu_seconds(), time.perf_counter()
    answers = crowd(program.port, path, seconds, CONNECTIONS, header)
    passed = time.perf_counter() - started
    return answers / passed, (program.cpu_seconds() - cpu) / answers


def many_pollers(browser: Browser, web: Program, seconds: float = 20) -> None:
    orders = browser.orders(POLLERS)
    with Pollers(web.port, orders, browser.cookie) as pollers:
        time.sleep(3)
        cpu, started = web.cpu_seconds(), time.perf_counter()
        time.sleep(seconds)
        cores = (web.cpu_seconds() - cpu) / (time.perf_counter() - started)
        polls, failed = pollers.stop()
    say(f"{POLLERS} browsers: {len(polls)} polls, {failed} failed, {in_ms(polls, 50, 99)}")
    goal(f"{POLLERS} browsers polling every 2 s take {cores:.2f} cores (below 0.5)", cores < 0.5)


# -- POST /orders --------------------------------------------------------------------


def orders(count: int = 300) -> None:
    heading("orders: POST /orders with a password, through gunicorn, against the sandbox node")
    with stage() as shop:
        web = shop.web()
        browser = Browser(web.port)
        say(f"one commit to this disk (fsync): {in_ms(fsyncs(shop), 50, 99)}")
        browser.orders(20)

        with ThreadPoolExecutor(4) as pool:
            started = time.perf_counter()
            together = list(pool.map(lambda _: seconds_of(browser.order), range(count)))
            rate = count / (time.perf_counter() - started)
        say(f"four customers at once: {rate:.0f} orders a second, {in_ms(together, 50, 99)}")

        # One after the other, so that the nth request makes the node's nth call.
        shop.stand_ins.invoice_seconds()
        connection = http.client.HTTPConnection("127.0.0.1", web.port, timeout=60)
        total = [seconds_of(browser.order, connection) for _ in range(count)]
        invoice = shop.stand_ins.invoice_seconds()
        outside = [a - b for a, b in zip(total, invoice, strict=True)]
        say(f"one customer: {in_ms(total, 50, 99)}")
        say(f"of this, in the node's invoice call: {in_ms(invoice, 50, 99)}")
        took = percentile(outside, 50) * 1000
        goal(
            f"outside it (HTTP, form, database, reaching the node): {in_ms(outside, 50, 99)}"
            " (p50 at most 15 ms)",
            took <= 15,
        )


def seconds_of(step, *arguments) -> float:
    started = time.perf_counter()
    step(*arguments)
    return time.perf_counter() - started


def fsyncs(shop: Stage) -> list[float]:
    with open(shop.directory / "fsync", "wb") as file:

        def write():
            file.write(b"x" * 4096)
            file.flush()
            os.fsync(file.fileno())

        return [seconds_of(write) for _ in range(100)]


# -- payment to ready ----------------------------------------------------------------


def judge(name: str, seconds: list[float], limit: int) -> None:
    figures = f"{in_ms(seconds, 50, 95)}, slowest {max(seconds):.1f} s"
    goal(f"{name}: {figures} (p95 below {limit} s)", percentile(seconds, 95) < limit)


def ready() -> None:
    heading(f"ready: from payment to ready, while {POLLERS} other browsers poll")
    with stage() as shop:
        web = shop.web()
        shop.worker()
        browser = Browser(web.port)
        with Pollers(web.port, browser.orders(POLLERS), browser.cookie) as pollers:
            judge("a panel that answers at once", to_ready(shop, browser, 80, every=0.4), 1)
            shop.stand_ins.panel_takes_real_times(TIMINGS)
            judge("a panel as fast as a real one", to_ready(shop, browser, 80, every=0.8), 4)
            polls, failed = pollers.stop()
        say(f"meanwhile {len(polls)} polls, {failed} failed, {in_ms(polls, 50, 99)}")


def to_ready(shop: Stage, browser: Browser, count: int, every: float) -> list[float]:
    """Pay an order each `every` seconds, and return the seconds from each payment to ready."""
    invoices = {order: browser.invoice(order) for order in browser.orders(count)}
    taken: queue.Queue[float] = queue.Queue()

    def buy(order: str) -> None:
        started = time.perf_counter()
        pay(shop.stand_ins.wallet_path, invoices[order])
        while not browser.is_ready(order):
            time.sleep(0.03)
        taken.put(time.perf_counter() - started)

    buyers = []
    for order in invoices:
        buyers.append(threading.Thread(target=buy, args=(order,), daemon=True))
        buyers[-1].start()
        time.sleep(every)
    for buyer in buyers:
        buyer.join(120)
    return [taken.get_nowait() for _ in invoices]


# -- everybody at once ---------------------------------------------------------------


def burst() -> None:
    heading(f"burst: {BURST} orders paid at once, with a panel that takes 100 ms a call")
    with stage() as shop:
        web, worker = shop.web(), shop.worker()
        a_burst(shop, web, worker)


def a_burst(shop: Stage, web, worker) -> None:
    """Pay all orders at once, while each customer's browser polls its page."""
    shop.stand_ins.panel_takes(0.1)
    browser = Browser(web.port)
    invoices = {order: browser.invoice(order) for order in browser.orders(BURST)}
    with Pollers(web.port, list(invoices), browser.cookie) as pollers:
        cpu, started = worker.cpu_seconds(), time.perf_counter()
        with ThreadPoolExecutor(8) as pool:
            list(
                pool.map(lambda bolt11: pay(shop.stand_ins.wallet_path, bolt11), invoices.values())
            )
        paid = time.perf_counter() - started
        times = ready_times(shop, started)
        cores = (worker.cpu_seconds() - cpu) / times[-1]
        polls, failed = pollers.stop()
    say(
        f"paying took {paid:.1f} s; the first was ready after {times[0]:.1f} s, half after "
        f"{times[len(times) // 2]:.1f} s; the worker took {cores:.2f} cores"
    )
    say(f"meanwhile {len(polls)} polls, {failed} failed, {in_ms(polls, 50, 99)}")
    goal(f"the last was ready after {times[-1]:.1f} s (within 60 s)", times[-1] <= 60)


def ready_times(shop: Stage, started: float, patience: float = 300) -> list[float]:
    """When each order of the burst was ready, in seconds after `started`."""
    times: list[float] = []
    database = sqlite3.connect(f"file:{shop.database}?mode=ro", uri=True)
    before = 0
    while len(times) < BURST:
        (count,) = database.execute(
            "SELECT count(*) FROM accounts WHERE ready_at IS NOT NULL"
        ).fetchone()
        passed = time.perf_counter() - started
        times += [passed] * (count - before)
        before = count
        if passed > patience:
            raise RuntimeError(f"only {count} of {BURST} were ready after {patience} s")
        time.sleep(0.05)
    database.close()
    return times


# -- memory --------------------------------------------------------------------------


def memory() -> None:
    heading("memory: PSS of web (gunicorn's master and its process) and of the worker")
    with stage() as shop:
        web, worker = shop.web(), shop.worker()
        time.sleep(3)
        fresh = web.pss_mb() + worker.pss_mb()
        say(f"started, before the first request (the imports): {fresh:.1f} MB")
        a_burst(shop, web, worker)
        browser = Browser(web.port)
        crowd(web.port, f"{browser.order()}/status", 5, 8, f"Cookie: {browser.cookie}")
        many_pollers(browser, web, seconds=10)
        # The stand-ins share pages with our programs, and would make them look smaller.
        shop.stand_ins.stop()
        for name, program in (("web", web), ("worker", worker)):
            say(f"{name}: {' + '.join(f'{part:.1f}' for part in program.pss_parts())} MB")
        total = web.pss_mb() + worker.pss_mb()
        goal(f"after the load: {total:.1f} MB together (below 150 MB)", total < 150)


# -- opening a hosting ---------------------------------------------------------------

# The panel calls for each new service. The client comes first, then the site, then four chains that
# do not depend on each other.
STEPS = {
    "client": ("client_add", "client_update", "client_get"),
    "site": ("sites_web_domain_add", "sites_web_domain_update", "sites_web_domain_get"),
    "ftp": ("sites_ftp_user_add", "sites_ftp_user_get"),
    "shell": ("sites_shell_user_add", "sites_shell_user_get"),
    "database_user": ("sites_database_user_add", "sites_database_user_get"),
    "database": ("sites_database_add", "sites_database_get"),
    "mail_domain": ("mail_domain_add", "mail_domain_get"),
    "mailbox": ("mail_user_add", "mail_user_get"),
}
SIDE_BY_SIDE = (("ftp",), ("shell",), ("database_user", "database"), ("mail_domain", "mailbox"))


def opening(count: int = 40) -> None:
    heading("opening: reconcile.account of a new account, with a panel as fast as a real one")
    with stage() as opened:
        shop = opened.shop()
        first = reconciled(shop, opened)
        calls_of_one(first.calls)
        opened.stand_ins.panel_takes_real_times(TIMINGS)
        taken = [reconciled(shop, opened) for _ in range(count)]
        total = sum(each.seconds for each in taken)
        within = sum(each.panel_seconds for each in taken)
        say(f"{count} accounts, one after the other: {in_ms([t.seconds for t in taken], 50, 95)}")
        say(f"of this, in the panel: {in_ms([t.panel_seconds for t in taken], 50, 95)}")
        ours = (total - within) / count * 1000
        overhead = total / within - 1
        goal(
            f"{ours:.1f} ms of an opening are ours, for {len(taken[0].calls)} calls and the "
            f"database: {overhead:.1%} of the panel's own time (below 5 %)",
            overhead < 0.05,
        )
        cpu = statistics.mean(each.cpu_seconds for each in taken) * 1000
        say(f"of ours, {cpu:.1f} ms is CPU time, which other programs disturb less")
        alone = statistics.mean(each.panel_seconds for each in taken)
        together = statistics.mean(critical_path(each.calls) for each in taken)
        say(
            "with independent calls side by side, the panel would take "
            f"{together:.2f} s instead of {alone:.2f} s ({together / alone:.0%})"
        )
        nothing_to_do(shop, opened, taken[-1].account_id)


@dataclass
class Reconciled:
    account_id: str
    seconds: float
    cpu_seconds: float
    calls: list[tuple[str, float]]

    @property
    def panel_seconds(self) -> float:
        return sum(seconds for _, seconds in self.calls)


def reconciled(shop: Shop, opened: Stage) -> Reconciled:
    """Open a new account, and measure it."""
    account_id = a_new_account(shop)
    cpu = time.process_time()
    seconds = seconds_of(reconcile.account, shop, account_id)
    cpu = time.process_time() - cpu
    if Account.get_by_id(account_id).ready_at is None:
        raise RuntimeError(f"not opened: {[row.error for row in progress.failing()]}")
    return Reconciled(account_id, seconds, cpu, opened.stand_ins.panel_calls())


def a_new_account(shop: Shop) -> str:
    with models.transaction():
        account = Account.create(
            id=secrets.token_hex(8),
            username=names.generate(),
            server=1,
            space_mb=100,
            password_hash="of no use",
            opened_at=now(),
            expires_at=now() + 90 * 86400,
            valued_at=now(),
            value_msat=90 * 7000,
        )
        wanted.want_all(shop, account, "Correct horse 1")
    return account.id


def calls_of_one(calls: list[tuple[str, float]]) -> None:
    made = Counter(method for method, _ in calls)
    for method, times in made.items():
        say(f"{times}  {method}")
    looked = sum(times for method, times in made.items() if method.endswith("_get"))
    added = sum(times for method, times in made.items() if method.endswith("_add"))
    updated = sum(times for method, times in made.items() if method.endswith("_update"))
    say(
        f"{len(calls)} calls: {made['login']} login, {added} adds, {looked} look-ups, "
        f"{updated} updates"
    )


def critical_path(calls: list[tuple[str, float]]) -> float:
    """The panel's seconds if independent calls ran side by side, each as fast as it was alone."""
    seconds = dict(calls)
    took = {kind: sum(seconds[method] for method in methods) for kind, methods in STEPS.items()}
    longest = max(sum(took[kind] for kind in chain) for chain in SIDE_BY_SIDE)
    return took["client"] + took["site"] + longest


def nothing_to_do(shop: Shop, opened: Stage, account_id: str) -> None:
    seconds = [seconds_of(reconcile.account, shop, account_id) for _ in range(100)]
    calls = len(opened.stand_ins.panel_calls())
    goal(f"with nothing to do: {calls} panel calls (0), {in_ms(seconds, 50, 99)}", calls == 0)


# -- nothing to do -------------------------------------------------------------------


def idle(count: int = 100_000, seconds: float = 60) -> None:
    heading("idle: the CPU time of a worker that has nothing to do")
    for accounts in (0, count):
        with stage() as opened:
            opened.shop()
            took = seconds_of(fill, models.db.obj, accounts, now())
            models.db.close()
            size = opened.database.stat().st_size / 1e6
            say(f"{accounts} accounts: filled in {took:.0f} s, {size:.0f} MB")
            worker = opened.worker()
            time.sleep(5)
            cpu, started = worker.cpu_seconds(), time.perf_counter()
            time.sleep(seconds)
            worker.check()
            cpu, passed = worker.cpu_seconds() - cpu, time.perf_counter() - started
            share = cpu / passed
            goal(f"{cpu:.2f} s of CPU in {passed:.0f} s: {share:.2%} (below 1 %)", share < 0.01)


# -- the calendar --------------------------------------------------------------------

DAY = 86400
DUE = 1000


def calendar_passes(few: int = 10_000, many: int = 1_000_000) -> None:
    heading(f"calendar: a pass with {DUE} accounts due, among {few} and among {many}")
    kinds = {"SQLite": None}
    if os.environ.get("TEST_POSTGRESQL_URL"):
        kinds["PostgreSQL"] = os.environ["TEST_POSTGRESQL_URL"]
    else:
        say("PostgreSQL is not measured: TEST_POSTGRESQL_URL is not set")
    for kind, server in kinds.items():
        seconds = [passes(kind, server, accounts) for accounts in (few, many)]
        for what in seconds[0]:
            ratio = seconds[1][what] / seconds[0][what]
            goal(f"{kind}, {what}: {ratio:.2f} times as long (at most 1.5)", ratio <= 1.5)


def passes(kind: str, server: str | None, accounts: int, rounds: int = 3) -> dict[str, float]:
    """The median seconds of each kind of pass."""
    taken: dict[str, list[float]] = {}
    cpus: dict[str, list[float]] = {}
    with an_empty_database(server) as url, stage(url) as opened:
        shop = opened.shop()
        took = seconds_of(fill, models.db.obj, accounts, now())
        if url:
            models.db.execute_sql("VACUUM ANALYZE")  # else autovacuum runs during the passes
        calendar.run_pass(shop)
        Fact.update(value="0").where(Fact.name == clock_watch.UNBROKEN).execute()
        for number in range(rounds):
            some = Account.id << [f"id{n * (accounts // DUE) + number}" for n in range(DUE)]
            for what, facts in {
                "suspensions and a mail": {
                    "expires_at": now() - 1,
                    "email": Account.username.concat("@example.org"),
                },
                "last calls": {"expires_at": now() - 15 * DAY, "email": None},
                "closings": {"last_call_at": now() - DAY},
            }.items():
                Account.update(facts | {"calendar_at": now() - 1}).where(some).execute()
                cpu = time.process_time()
                taken.setdefault(what, []).append(seconds_of(calendar.run_pass, shop))
                cpus.setdefault(what, []).append(time.process_time() - cpu)
        if Account.select().where(Account.closing_at.is_null(False)).count() != rounds * DUE:
            raise RuntimeError(f"not closed: {calendar.problems(shop)}")
    medians = {what: statistics.median(seconds) for what, seconds in taken.items()}
    figures = ", ".join(
        f"{what} {seconds:.2f} s (CPU time {statistics.median(cpus[what]):.2f} s)"
        for what, seconds in medians.items()
    )
    say(f"{kind}, {accounts} accounts (filled in {took:.0f} s): {figures}")
    return medians


@contextmanager
def an_empty_database(server: str | None):
    """Yield the URL of a new PostgreSQL database, dropped at the end; None without a server."""
    if server is None:
        yield None
        return
    name = f"shop_bench_{secrets.token_hex(4)}"
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
        try:
            yield re.sub("(//[^/]*)/[^?]*", rf"\1/{name}", server, count=1)
        finally:
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)")
