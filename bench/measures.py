"""What is measured. Each function runs one measurement and prints its figures."""

import http.client
import os
import queue
import sqlite3
import statistics
import threading
import time
from concurrent.futures import ThreadPoolExecutor

from bench.customers import Browser, Pollers, crowd, fetch, pay
from bench.programs import ROOT, Program, Stage, stage

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
        say(f"{size} bytes for a stranger, {mine} for who ordered; {CONNECTIONS} connections")
        for name, length, cookie in (
            ("without a cookie", size, ""),
            ("with the cookie of who ordered", mine, browser.cookie),
        ):
            bare = shop.bare(length)
            ratio = compare(web, path, bare, cookie, rounds, seconds, name)
            bare.stop()
            goal(f"{name}: {ratio:.2f} of the bare route's throughput (at least 0.4)", ratio >= 0.4)
        many_pollers(browser, web)


def compare(web, path, bare, cookie, rounds, seconds, name) -> float:
    """The median of the rounds' ratios; within a round both run, one after the other."""
    for program, its_path in ((web, path), (bare, "/")):
        crowd(program.port, its_path, 1, CONNECTIONS, cookie)
    ratios, cpu_ratios = [], []
    for _ in range(rounds):
        ours, our_cpu = throughput(web, path, cookie, seconds)
        theirs, their_cpu = throughput(bare, "/", cookie, seconds)
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


def throughput(program: Program, path: str, cookie: str, seconds: float) -> tuple[float, float]:
    """Answers per second, and the CPU seconds that one answer takes."""
    cpu, started = program.cpu_seconds(), time.perf_counter()
    answers = crowd(program.port, path, seconds, CONNECTIONS, cookie)
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

        # One after the other, so that the nth request is the nth call at the node.
        shop.stand_ins.invoice_seconds()
        connection = http.client.HTTPConnection("127.0.0.1", web.port, timeout=60)
        total = [seconds_of(browser.order, connection) for _ in range(count)]
        invoice = shop.stand_ins.invoice_seconds()
        outside = [a - b for a, b in zip(total, invoice, strict=True)]
        say(f"one customer: {in_ms(total, 50, 99)}")
        say(f"of this within the node's invoice call: {in_ms(invoice, 50, 99)}")
        took = percentile(outside, 50) * 1000
        goal(
            f"outside it (HTTP, form, database, the way to the node): {in_ms(outside, 50, 99)}"
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
            judge("one as fast as the real one", to_ready(shop, browser, 80, every=0.8), 4)
            polls, failed = pollers.stop()
        say(f"meanwhile {len(polls)} polls, {failed} failed, {in_ms(polls, 50, 99)}")


def to_ready(shop: Stage, browser: Browser, count: int, every: float) -> list[float]:
    """Pay an order every so often; how long each takes until its page says ready."""
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
    heading(f"burst: {BURST} orders paid at once, a panel that takes 100 ms a call")
    with stage() as shop:
        web, worker = shop.web(), shop.worker()
        a_burst(shop, web, worker)


def a_burst(shop: Stage, web, worker) -> None:
    """Each customer's browser polls its page meanwhile."""
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
    """When each order of the burst got ready, in seconds after `started`."""
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
        say(f"started, nothing asked yet (the imports): {fresh:.1f} MB")
        a_burst(shop, web, worker)
        browser = Browser(web.port)
        crowd(web.port, f"{browser.order()}/status", 5, 8, browser.cookie)
        many_pollers(browser, web, seconds=10)
        # Programs that run beside share pages with ours and would make them look smaller.
        shop.stand_ins.stop()
        for name, program in (("web", web), ("worker", worker)):
            say(f"{name}: {' + '.join(f'{part:.1f}' for part in program.pss_parts())} MB")
        total = web.pss_mb() + worker.pss_mb()
        goal(f"after the load: {total:.1f} MB together (below 150 MB)", total < 150)
