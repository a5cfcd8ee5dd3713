"""One, two and four web programs and workers over one PostgreSQL database."""

import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor

from bench.customers import Browser, crowd, pay
from bench.measures import CONNECTIONS, an_empty_database, heading, say
from bench.programs import Stage, stage
from lightningspace.base.models import Account

COUNTS = (1, 2, 4)
SECONDS = 5
ORDERS = 120
PANEL_SECONDS = 0.05


def measure() -> None:
    heading("scale: web programs and workers over one PostgreSQL database")
    server = os.environ.get("TEST_POSTGRESQL_URL")
    if not server:
        say("not measured: TEST_POSTGRESQL_URL is not set")
        return
    say(f"this machine has {os.cpu_count()} cores, shared with stand-ins, database and load")
    for count in COUNTS:
        with an_empty_database(server) as url, stage(url) as shop:
            of_web(shop, count)
            of_workers(shop, count)


def of_web(shop: Stage, count: int) -> None:
    programs = [shop.web() for _ in range(count)]
    browser = Browser(programs[0].port)
    order = browser.order()
    for what, path in (("front page", "/"), ("an order's status", f"{order}/status")):
        cpu = sum(program.cpu_seconds() for program in programs)
        with ThreadPoolExecutor(count) as pool:
            asked = [
                pool.submit(crowd, program.port, path, SECONDS, CONNECTIONS) for program in programs
            ]
            answers = sum(each.result() for each in asked)
        cpu = sum(program.cpu_seconds() for program in programs) - cpu
        say(
            f"{count} web: {what}: {answers / SECONDS:.0f} a second, "
            f"{cpu / answers * 1000:.2f} ms of CPU each"
        )
    for program in programs[1:]:
        program.stop()


def of_workers(shop: Stage, count: int) -> None:
    """Pay ORDERS orders at once, and see how fast that many workers open the hostings."""
    shop.stand_ins.panel_takes(PANEL_SECONDS)
    shop.shop()  # opens the database here, to count
    browser = Browser(shop.web().port)
    invoices = [browser.invoice(order) for order in browser.orders(ORDERS)]
    workers = [shop.worker() for _ in range(count)]
    time.sleep(3)
    cpu, started = sum(each.cpu_seconds() for each in workers), time.perf_counter()
    paying = threading.Thread(
        target=lambda: [pay(shop.stand_ins.wallet_path, bolt11) for bolt11 in invoices]
    )
    paying.start()
    is_ready = Account.ready_at.is_null(False)
    while Account.select().where(is_ready).count() < ORDERS:
        for worker in workers:
            worker.check()
        time.sleep(0.2)
    passed = time.perf_counter() - started
    cpu = sum(each.cpu_seconds() for each in workers) - cpu
    paying.join()
    say(
        f"{count} workers, with a panel that takes {PANEL_SECONDS * 1000:.0f} ms a call: "
        f"{ORDERS / passed * 60:.0f} openings a minute, {cpu / ORDERS * 1000:.0f} ms of CPU each"
    )
