"""What L402 costs: checking a token, selling with it, and what unpaid challenges leave behind."""

import base64
import hashlib
import secrets
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from peewee import fn
from pymacaroons import Macaroon as TheirMacaroon
from pymacaroons import Verifier

from bench.customers import challenge, fetch, pay
from bench.filling import copy_unpaid_order
from bench.measures import compare, goal, heading, say, throughput
from bench.programs import Stage, Web, stage
from lightningspace.base import clock, models
from lightningspace.base.models import Account, Order
from lightningspace.base.tables import TABLES
from lightningspace.outside import l402
from lightningspace.outside.l402 import Keys, Macaroon
from lightningspace.outside.node import WEB_CALLS_AT_ONCE
from lightningspace.rules import payments, tokens
from lightningspace.shop import Shop

UNPAID = 50_000
HOUR = 3600


def measure() -> None:
    heading("l402: tokens against pymacaroons, and requests with them against a bare Flask route")
    parse_and_verify()
    with stage() as opened:
        web = opened.web()
        credential = buy(opened, web)
        shop = opened.shop()
        check = partial(tokens.holder, shop, *read(credential))
        requests(opened, web, credential, check)
        rows = all_rows()
        challenges(opened, web)
        flood(check)
        web.stop()
        clean_up(opened, shop, rows)


# -- the token alone -------------------------------------------------------------------


def parse_and_verify() -> None:
    keys = Keys([secrets.token_bytes(32)])
    preimage = secrets.token_bytes(32)
    caveats = l402.caveats(l402.SERVICE, l402.WHOLE)
    receipt = keys.mint(hashlib.sha256(preimage).digest(), keys.token_id(0), caveats)
    root = secrets.token_bytes(32)
    same = l402.mint(root, receipt.identifier, *caveats)
    text, ours_text = str(receipt), str(same)
    theirs_text = base64.urlsafe_b64encode(same.packed()).decode()

    def ours():
        l402.check_signature(l402.read(ours_text), root)

    def theirs():
        verifier = Verifier()
        verifier.satisfy_general(lambda caveat: True)
        verifier.verify(TheirMacaroon.deserialize(theirs_text), root)

    def whole():
        macaroon = l402.read(text)
        keys.check(macaroon, preimage)
        l402.rights_at_hosting(macaroon, 0)

    rounds = [(cpu_seconds(ours, 500), cpu_seconds(theirs, 500)) for _ in range(31)]
    fast, slow = (statistics.median(times) * 1e6 for times in zip(*rounds, strict=True))
    ratio = statistics.median(slow / fast for fast, slow in rounds)
    goal(
        f"parse and verify an access key: {fast:.1f} µs; pymacaroons takes {slow:.1f} µs, "
        f"{ratio:.1f} times as long (at least 3)",
        ratio >= 3,
    )
    took = cpu_seconds(whole, 5000) * 1e6
    say(f"with the root key derived, and preimage and caveats checked: {took:.1f} µs")


def cpu_seconds(step: Callable[[], object], times: int) -> float:
    """The CPU seconds of one step, which other programs disturb less than wall-clock time."""
    started = time.process_time()
    for _ in range(times):
        step()
    return (time.process_time() - started) / times


# -- requests --------------------------------------------------------------------------


def buy(opened: Stage, web: Web) -> str:
    """Buy a hosting as a program does, wait until it is ready, and return the header's value."""
    asked = challenge(web.port)
    preimage = pay(opened.stand_ins.wallet_path, asked["invoice"])
    credential = f"L402 {asked['macaroon']}:{preimage}"
    worker = opened.worker()
    while fetch(web.port, "GET", "/api/v1/hosting", {"Authorization": credential})[0] != 200:
        worker.check()
        time.sleep(0.1)
    worker.stop()
    return credential


def read(credential: str) -> tuple[Macaroon, bytes]:
    macaroon, _, preimage = credential.removeprefix("L402 ").partition(":")
    return l402.read(macaroon), l402.read_preimage(preimage)


def requests(opened: Stage, web: Web, credential: str, check: Callable[[], object]) -> None:
    header = f"Authorization: {credential}"
    for path in ("/api/v1/hosting/forwards", "/api/v1/hosting"):
        size = len(fetch(web.port, "GET", path, {"Authorization": credential})[2].encode())
        bare = opened.bare(size)
        ratio = compare(web, path, bare, header, 7, 0.8, f"GET {path}")
        bare.stop()
        say(f"GET {path}, verified ({size} bytes): {ratio:.2f} of the bare route's throughput")
    _, cpu = throughput(web, "/api/v1/hosting", header, 2)
    took = cpu_seconds(check, 1000)
    goal(
        f"of the {cpu * 1000:.1f} ms of CPU time that GET /api/v1/hosting takes, {took * 1e6:.0f} "
        f"µs check the credential: {took / cpu:.1%} (at most 10 %)",
        took / cpu <= 0.1,
    )


def challenges(opened: Stage, web: Web, rounds: int = 5, count: int = 100) -> None:
    bare = opened.bare(2000)
    throughput(bare, "/", "", 1)
    ratios = []
    # With more at once, some would be told to try again later.
    with ThreadPoolExecutor(WEB_CALLS_AT_ONCE) as pool:
        for _ in range(rounds):
            cpu, started = web.cpu_seconds(), time.perf_counter()
            list(pool.map(lambda _: challenge(web.port), range(count)))
            rate = count / (time.perf_counter() - started)
            cpu = (web.cpu_seconds() - cpu) / count
            theirs, their_cpu = throughput(bare, "/", "", 0.8)
            ratios.append((rate / theirs, their_cpu / cpu))
            say(
                f"POST /api/v1/hosting: {rate:.0f} challenges/s of {theirs:.0f}/s = "
                f"{rate / theirs:.3f}; CPU time of one {cpu * 1000:.2f} ms"
            )
    bare.stop()
    ratio, cpu_ratio = (statistics.median(each) for each in zip(*ratios, strict=True))
    say(
        f"a challenge, which is an order with its invoice: {ratio:.3f} of the bare route's "
        f"throughput, by CPU time {cpu_ratio:.3f}"
    )


# -- challenges that nobody pays -------------------------------------------------------


def flood(check: Callable[[], object]) -> None:
    verification(check)  # to warm up: the first takes longer
    few, before = Order.select().count(), verification(check)
    add_unpaid(UNPAID)
    after = verification(check)
    say(
        f"a credential is checked in {before * 1e6:.0f} µs among {few} orders, in "
        f"{after * 1e6:.0f} µs among {Order.select().count()}"
    )
    goal(
        f"with {UNPAID} unpaid challenges this takes {after / before:.2f} times as long "
        "(at most 1.2)",
        after / before <= 1.2,
    )


def verification(check: Callable[[], object]) -> float:
    return statistics.median(cpu_seconds(check, 200) for _ in range(25))


def add_unpaid(count: int) -> None:
    """Add copies of an unpaid challenge."""
    order = Order.select().where(Order.paid_at.is_null()).dicts().first()
    order["account_id"] = order.pop("account")
    account = Account.select().where(Account.id == order["account_id"]).dicts().get()
    account["server_id"] = account.pop("server")
    copy_unpaid_order(models.db.obj, order, account, count)


def clean_up(opened: Stage, shop: Shop, rows: dict) -> None:
    """Do what the worker does once the invoices have expired, and a day later.

    `rows`: what the tables held before the first challenge.
    """
    traces = some_traces()
    if not all(count_in_files(opened, [trace]) for trace in traces[:8]):
        raise RuntimeError("traces that are in the database were not found in its files")
    node_id, started = shop.node.node_id(), time.perf_counter()
    for late in (HOUR, HOUR + payments.KEPT_SECONDS + HOUR):
        clock.set_source(lambda late=late: time.time() + late)
        payments.tidy(shop, node_id)
    clock.set_source(None)
    say(f"the worker's clean-up took {time.perf_counter() - started:.0f} s")
    left = all_rows()
    changed = sorted(name for name in rows if rows[name] != left[name])
    goal(
        f"a day later every row is as it was before; tables that differ: {changed or 'none'}",
        not changed,
    )
    models.db.close()
    found = count_in_files(opened, traces)
    goal(f"of {len(traces)} traces of challenges, {found} are in the files (0)", found == 0)


def some_traces() -> list[str]:
    """The unique texts of 300 unpaid challenges."""
    unpaid = Order.select().where(Order.paid_at.is_null()).order_by(fn.RANDOM()).limit(300)
    names = ("token", "payment_hash", "invoice_hash", "bolt11")
    return [getattr(order, name) for order in unpaid for name in names]


def count_in_files(opened: Stage, traces: list[str]) -> int:
    files = [path.read_bytes() for path in opened.directory.glob("shop.sqlite3*")]
    return sum(any(trace.encode() in data for data in files) for trace in traces)


def all_rows() -> dict[str, list[tuple]]:
    return {table._meta.table_name: sorted(table.select().tuples(), key=repr) for table in TABLES}
