"""kill -9 at any point: after a restart every paid order is carried out, and only once.

Web and worker run as in production; the node and the panel run in the test, and survive them.
"""

import io
import os
import random
import secrets
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests
from pyln.client import LightningRpc

from lightningspace.base import clock, models
from lightningspace.base.models import Account, Fact, Order, Service, Upload, set_fact
from lightningspace.base.money_models import Refund
from lightningspace.operator import telling
from lightningspace.rules import (
    accounts,
    order_book,
    orders,
    payments,
    refunds,
    services,
    uploads,
    wanted,
)
from tests.actual import assert_panel_matches, everything, wrong_calls
from tests.base.test_archive import packed
from tests.conftest import (
    OPENING,
    SOON_SECONDS,
    eventually,
    free_port,
    open_account,
    order_form,
    record_payments,
    wish,
    with_ftp,
    with_mail,
    with_settings,
)
from tests.flows import resize
from tests.programs import Program

PASSWORD = "correct horse"

# The panel's column for the name of each kind of record.
NAME_COLUMNS = {
    "client": "username",
    "site": "domain",
    "ftp": "username",
    "shell": "username",
    "database_user": "database_user",
    "database": "database_name",
    "mail_domain": "domain",
    "mailbox": "email",
}

# How often each call that changes the panel has been carried out.
WORK_DONE = {
    "client_add": lambda panel: len(panel.records("client")),
    "client_update": lambda panel: len(closed_clients(panel)),
    "sites_web_domain_add": lambda panel: len(panel.records("site")),
    "sites_web_domain_update": lambda panel: len(walled_sites(panel)),
    "sites_ftp_user_add": lambda panel: len(panel.records("ftp")),
    "sites_shell_user_add": lambda panel: len(panel.records("shell")),
    "sites_database_user_add": lambda panel: len(panel.records("database_user")),
    "sites_database_add": lambda panel: len(panel.records("database")),
    "mail_domain_add": lambda panel: len(panel.records("mail_domain")),
    "mail_user_add": lambda panel: len(panel.records("mailbox")),
}


@pytest.fixture
def start_worker(started, env, tmp_path):
    def start_worker(**settings):
        output = tmp_path / f"program-{len(started)}"
        worker = ["flask", "--app", "wsgi", "worker"]
        started.append(Program(worker, os.environ | env | settings, output))
        return started[-1]

    return start_worker


@pytest.fixture
def start_web(started, env, tmp_path):
    """Start the web program and wait until it answers; returns the program and its address."""

    def start_web():
        address = f"127.0.0.1:{free_port()}"
        command = ["gunicorn", "wsgi:app", "--threads", "8", "--bind", address]
        started.append(Program(command, os.environ | env, tmp_path / f"program-{len(started)}"))
        eventually(lambda: answers(f"http://{address}/"))
        return started[-1], f"http://{address}"

    return start_web


@pytest.fixture
def labels_at_node(node, tmp_path):
    """Ask the node for the labels of all its invoices."""
    rpc = LightningRpc(str(tmp_path / "lightning-rpc"))
    return lambda: [invoice["label"] for invoice in rpc.listinvoices()["invoices"]]


def answers(url):
    try:
        return requests.get(url, timeout=5).ok
    except requests.ConnectionError:
        return False


def calls(stand_in) -> Counter:
    return Counter(method for method, _ in list(stand_in.calls))


def closed_clients(panel) -> list[dict]:
    return [client for client in panel.records("client") if client["canceled"] == "y"]


def walled_sites(panel) -> list[dict]:
    return [site for site in panel.records("site") if site["allow_override"] != "All"]


def leases_run_out() -> int:
    """End the leases of killed workers, as LEASE_SECONDS would; returns how many there were."""
    return Account.update(leased_until=0).where(Account.leased_until.is_null(False)).execute()


def place(this_shop, *usernames) -> list[Order]:
    wishes = [wish(username=name, password=PASSWORD) for name in usernames]
    return [orders.place(this_shop, each) for each in wishes]


def all_ready() -> bool:
    """Whether every account is complete, and the worker has let go of it."""
    at_work = Account.ready_at.is_null() | Account.leased_by.is_null(False)
    return not Account.select().where(at_work).exists()


def assert_each_opened_once(panel, *usernames) -> None:
    """In the database and at the panel nothing is doubled, missing or half done."""
    accounts = list(Account.select().order_by(Account.username))
    assert [account.username for account in accounts] == sorted(usernames)
    assert all_ready()
    assert Order.select().where(Order.applied_at.is_null(False)).count() == len(usernames)

    for kind, column in NAME_COLUMNS.items():
        rows = [row for row in Service.select().where(Service.kind == kind) if row.is_applied]
        assert len(rows) == len(usernames)
        assert sorted(record[column] for record in panel.records(kind)) == sorted(
            row.name for row in rows
        )
        if kind in services.WITH_PASSWORD:
            assert {panel.password_of(kind, row.panel_id) for row in rows} == {PASSWORD}
    assert len(closed_clients(panel)) == len(walled_sites(panel)) == len(usernames)


# -- the web program -----------------------------------------------------------------


class Browser(requests.Session):
    """Somebody with a filled-in order form, who may send it twice."""

    def __init__(self, url: str, username: str):
        super().__init__()
        page = self.get(f"{url}/").text
        self._form = order_form(page, username=username, password=PASSWORD)

    def order(self, url: str) -> requests.Response:
        return self.post(f"{url}/orders", self._form, allow_redirects=False, timeout=10)


def before_the_invoice(web, node, labels_at_node) -> None:
    eventually(lambda: calls(node)["invoice"] == 2)
    web.kill()


def after_the_invoice(web, node, labels_at_node) -> None:
    """Wait until the node has made the invoice, and hold a lock so that the shop cannot note it."""
    eventually(lambda: calls(node)["invoice"] == 2)
    with models.transaction():
        Order.update(bolt11=None).execute()  # PostgreSQL locks only rows that are written
        eventually(lambda: len(labels_at_node()) == 2)
        web.kill()


@pytest.mark.parametrize(
    ("weather", "kill"),
    [({"kind": "frozen"}, before_the_invoice), ({"kind": "slow", "seconds": 1}, after_the_invoice)],
    ids=["before its invoice", "after its invoice"],
)
def test_an_order_interrupted_by_a_killed_web_program_goes_on_or_is_freed(
    weather, kill, this_shop, node, labels_at_node, panel, wallet, start_web, start_worker
):
    web, url = start_web()
    alice, bob = Browser(url, "alice"), Browser(url, "bob")
    node.faults.set(method="invoice", **weather)
    with ThreadPoolExecutor() as pool:
        sent = [pool.submit(browser.order, url) for browser in (alice, bob)]
        kill(web, node, labels_at_node)
        assert all(isinstance(one.exception(), requests.ConnectionError) for one in sent)
    node.faults.clear()
    assert [order.bolt11 for order in Order.select()] == [None, None]
    with pytest.raises(orders.NameTaken):
        place(this_shop, "bob")

    # Alice's browser sends the form once more, and it is the same order.
    start_worker()
    _, url = start_web()
    assert alice.order(url).status_code == 303
    bought = Order.get(Order.username == "alice")
    wallet.pay(bought.bolt11)
    eventually(lambda: Account.get(Account.username == "alice").ready_at)

    # Bob went away. A minute later the worker's tidying frees the name and the invoice.
    clock.set_source(lambda: time.time() + payments.INTERRUPTED_SECONDS)
    payments.tidy(this_shop, node.id)
    assert labels_at_node() == [order_book.label(this_shop, bought)]
    assert_each_opened_once(panel, "alice")
    assert place(this_shop, "bob")[0].bolt11


def test_sigterm_ends_the_web_program_cleanly(start_web):
    web, url = start_web()
    with requests.Session() as waiting:
        waiting.get(url)
        started = time.monotonic()
        assert web.end() == 0
    assert time.monotonic() - started < SOON_SECONDS


# -- the worker: payments ------------------------------------------------------------


def test_a_payment_survives_a_worker_killed_before_it_was_recorded(
    this_shop, node, panel, wallet, start_worker
):
    (order,) = place(this_shop, "alice")
    node.faults.set("frozen", "waitanyinvoice")
    worker = start_worker()
    # The worker has looked up the open order, too, and waits again.
    eventually(lambda: calls(node)["waitanyinvoice"] and calls(node)["listinvoices"])
    wallet.pay(order.bolt11)
    worker.kill()
    node.faults.clear()
    assert Order.get().paid_at is None

    start_worker()
    eventually(all_ready)
    assert_each_opened_once(panel, "alice")


def test_a_payment_survives_a_worker_killed_before_it_took_effect(
    this_shop, panel, wallet, start_worker
):
    first, second = place(this_shop, "alice", "bob")
    panel.faults.set("frozen", "client_add")
    worker = start_worker(WORKER_THREADS="1")
    wallet.pay(first.bolt11)
    eventually(lambda: calls(panel)["client_add"])
    # The only thread is held up, so the second payment is recorded, and waits.
    wallet.pay(second.bolt11)
    eventually(lambda: Order.get_by_id(second.token).paid_at)
    worker.kill()
    panel.faults.clear()
    assert Order.get_by_id(second.token).applied_at is None

    leases_run_out()
    start_worker()
    eventually(all_ready)
    assert_each_opened_once(panel, "alice", "bob")


def test_a_worker_killed_when_the_node_has_paid_a_refund_pays_it_once(
    this_shop, node, wallet, start_worker
):
    """The node pays the refund while we hold a lock, so that the worker cannot note it."""

    def received() -> int:
        paid = [each for each in wallet.listinvoices()["invoices"] if each["status"] == "paid"]
        return sum(each["amount_received_msat"] for each in paid)

    lost = {"kind": "lost", "placed_at": 1, "expires_at": 1, "node_id": "n", "pay_index": 1}
    lost |= {"received_msat": 7000, "paid_at": 1, "payment_hash": "a" * 64}
    order = Order.create(token="0" * 32, **lost)
    refunds.offer(order.token)
    refunds.claim(this_shop, order, wallet.offer("any", "mine")["bolt12"])
    node.faults.set("slow", "xpay", seconds=1)
    worker = start_worker()
    eventually(lambda: calls(node)["xpay"])
    with models.transaction():
        Refund.update(made_at=1).execute()  # PostgreSQL locks only rows that are written
        eventually(received)
        worker.kill()
    node.faults.clear()
    assert Refund.get().sent_at and not Refund.get().paid_at

    start_worker()
    eventually(lambda: Refund.get().paid_at)
    assert (received(), calls(node)["xpay"]) == (7000, 1)


# -- the worker: the operator --------------------------------------------------------


MAILED_AT = "problems mailed at"


def an_hour_is_over() -> None:
    """Let an hour pass, so that the operator may be mailed again."""
    set_fact(MAILED_AT, 0)


@with_mail
@with_settings(ADMIN_MAIL="admin@shop.test")
def test_a_worker_killed_before_and_after_mailing_a_problem_mails_it_twice_at_most(
    this_shop, mails, start_worker
):
    lost = {"kind": "lost", "placed_at": 1, "expires_at": 1, "node_id": "n", "pay_index": 1}
    lost |= {"received_msat": 7000, "paid_at": 1, "payment_hash": "a" * 64}
    Order.create(token="0" * 32, **lost)

    def told() -> int:
        return sum(lost["payment_hash"] in mail.text for mail in mails.received)

    def is_its_turn() -> bool:
        last = Fact.get_or_none(Fact.name == MAILED_AT)
        return last is not None and last.value != "0"

    for weather, is_there in (("frozen", is_its_turn), ("slow", told)):
        an_hour_is_over()
        mails.faults.set(weather, "DATA", seconds=60)
        worker = start_worker()
        eventually(is_there)
        worker.kill()
        mails.faults.clear()
        assert told() == (weather == "slow")

    an_hour_is_over()
    start_worker()
    eventually(lambda: told() == 2)
    eventually(lambda: Fact.get_or_none(Fact.name == telling.known_by(telling.MAIL)))
    an_hour_is_over()
    telling.tell_problems(this_shop, telling.MAIL)
    assert told() == 2


# -- the worker: the panel -----------------------------------------------------------


def test_a_worker_killed_before_and_after_its_login_harms_nothing(
    this_shop, panel, wallet, start_worker
):
    (order,) = place(this_shop, "alice")
    wallet.pay(order.bolt11)
    for weather in ({"kind": "frozen"}, {"kind": "refuse", "message": "dribble"}):
        seen = calls(panel)["login"]
        panel.faults.set(method="login", **weather)
        worker = start_worker()
        eventually(lambda seen=seen: calls(panel)["login"] > seen)
        worker.kill()
        panel.faults.clear()
        leases_run_out()

    start_worker()
    eventually(all_ready)
    assert_each_opened_once(panel, "alice")


def test_a_worker_killed_before_and_after_each_panel_call_opens_every_account_once(
    this_shop, panel, wallet, start_worker
):
    """The worker is killed twice, with an account under way for each place of a kill.

    Of each kind of call, the first hangs before its work and the second after it (its answer
    comes at a byte a second). The one account that is left over waits with its SSH for the
    others. After the first kill, calls about SSH hang, in four of the accounts.
    """
    before_ssh = [method for method in OPENING if "shell" not in method]
    names = [f"alice{number}" for number in range(2 * len(before_ssh) + 1)]
    hold(panel, before_ssh)
    for order in place(this_shop, *names):
        wallet.pay(order.bolt11)
    worker = start_worker(WORKER_THREADS="40")

    held = {method: len(names) - 2 * number for number, method in enumerate(before_ssh)}
    eventually(lambda: {method: calls(panel)[method] for method in before_ssh} == held)
    worked = {method: held[method] - 1 for method in WORK_DONE if method in held}
    eventually(lambda: {method: WORK_DONE[method](panel) for method in worked} == worked)
    is_there = (Service.kind == "mailbox") & Service.applied_at.is_null(False)
    eventually(lambda: Service.get_or_none(is_there))
    worker.kill()
    panel.faults.clear()

    hold(panel, [method for method in OPENING if "shell" in method])
    leases_run_out()
    worker = start_worker(WORKER_THREADS="40")
    ready = Account.select().where(Account.ready_at.is_null(False))
    eventually(lambda: ready.count() == len(names) - 4)
    worker.kill()
    panel.faults.clear()

    leases_run_out()
    start_worker()
    eventually(all_ready)
    assert_each_opened_once(panel, *names)


def hold(panel, methods: list[str]) -> None:
    """Let one call of each method hang before its work, and the next one after it."""
    for method in methods:
        panel.faults.set("frozen", method, times=1)
        panel.faults.set("refuse", method, times=1, message="dribble")


# -- the worker: its start, its end, and a second worker -----------------------------------


def test_sigterm_ends_the_worker_between_two_steps(this_shop, panel, wallet, start_worker):
    (order,) = place(this_shop, "alice")
    wallet.pay(order.bolt11)
    panel.faults.set("slow", "sites_ftp_user_add", seconds=1)
    worker = start_worker()
    eventually(lambda: calls(panel)["sites_ftp_user_add"])
    assert worker.end() == 0
    assert len(panel.records("ftp")) == 1
    assert Service.get(Service.kind == "ftp").is_applied
    assert calls(panel)["sites_shell_user_get"] == 0

    # It gave its lease back, so the next worker goes on at once.
    start_worker()
    eventually(all_ready)
    assert calls(panel)["sites_ftp_user_add"] == 1
    assert_each_opened_once(panel, "alice")


def test_sigterm_ends_a_worker_that_waits_for_payments(node, start_worker):
    worker = start_worker()
    eventually(lambda: node.waiting)
    started = time.monotonic()
    assert worker.end() == 0
    assert time.monotonic() - started < SOON_SECONDS


@pytest.mark.each_database
def test_a_worker_started_before_the_node_goes_on_once_the_node_is_up(
    this_shop, node, panel, wallet, start_worker
):
    (order,) = place(this_shop, "alice")
    node.down()
    worker = start_worker()
    eventually(lambda: worker.says("worker started") and worker.says("payments: the node"))
    node.up()
    wallet.pay(order.bolt11)
    eventually(all_ready)
    assert_each_opened_once(panel, "alice")


def test_two_workers_open_each_account_once(this_shop, panel, wallet, worker, start_worker):
    names = [f"alice{number}" for number in range(6)]
    for order in place(this_shop, *names[:3]):
        wallet.pay(order.bolt11)
    record_payments(worker)
    for order in payments.due():
        payments.apply(this_shop, order.token)
    for order in place(this_shop, *names[3:]):
        wallet.pay(order.bolt11)

    # With few threads and a slow panel, both workers have all accounts in their queues.
    panel.delays["*"] = 0.03
    start_worker(WORKER_THREADS="2"), start_worker(WORKER_THREADS="2")
    eventually(lambda: Account.select().where(Account.opened_at.is_null()).count() == 0)
    eventually(all_ready)
    assert_each_opened_once(panel, *names)
    writes = [method for method in OPENING if not method.endswith("_get")]
    assert [calls(panel)[method] for method in writes] == [len(names)] * len(writes)
    assert calls(panel)["login"] == 2


# -- three workers -------------------------------------------------------------------


def all_settled() -> bool:
    """Whether everything is applied, and every worker has given its leases back."""
    at_work = Account.reconcile_at.is_null(False) | Account.leased_by.is_null(False)
    return not Account.select().where(at_work).exists()


def test_three_workers_carry_each_change_out_once(this_shop, panel, start_worker):
    adds = {method: 1 for method in OPENING if method.endswith("_add")}
    site, database = {"sites_web_domain_update": 1}, {"sites_database_update": 1}
    mail, shell = {"mail_user_update": 1}, {"sites_shell_user_delete": 1}
    ftp = {"sites_ftp_user_update": 1}
    removals = {method.replace("_add", "_delete"): 1 for method in adds}
    removals |= {
        "client_delete": 0,
        "sites_shell_user_delete": 0,
    }  # client_delete_everything removes the client; SSH is gone already
    ids = [open_account(this_shop, f"alice{number}").id for number in range(5)]
    panel.delays["*"] = 0.01
    for _ in range(3):
        start_worker(WORKER_THREADS="3")
    for change, expected in (
        (lambda id: None, adds | site | {"client_update": 1}),
        (lambda id: resize(id, 200), site | database | mail),
        (accounts.suspend, site | database | mail | ftp | shell),
        (accounts.close, removals | {"client_delete_everything": 1}),
    ):
        before = calls(panel)
        for id in ids:
            change(id)
        eventually(all_settled)
        made = calls(panel) - before
        reads = ("login", "_get", "_username", "_groupid", "_count", "_by_user", "_versions")
        writes = Counter({m: n for m, n in made.items() if not m.endswith(reads)})
        assert writes == Counter({m: len(ids) * each for m, each in expected.items()})
    assert not Account.select().exists()


def test_a_killed_workers_lease_is_waited_for(this_shop, panel, start_worker):
    account = open_account(this_shop, "alice")
    panel.faults.set("frozen", "sites_ftp_user_add", times=1)
    worker = start_worker()
    eventually(lambda: calls(panel)["sites_ftp_user_add"])
    worker.kill()
    panel.faults.clear()

    looked_at = []
    panel.before_call = lambda method: "client_get" in method and looked_at.append(time.time())
    start_worker(), start_worker()
    until = int(time.time()) + 4
    Account.update(leased_until=until).execute()
    eventually(all_ready)
    assert looked_at[0] >= until
    assert_panel_matches(this_shop, panel, account.id)


def stores(ftp_server) -> int:
    return sum(command == "STOR" for command, _ in list(ftp_server.commands))


@with_ftp
def test_a_worker_killed_while_it_puts_files_online_is_followed_by_another(
    this_shop, ftp_server, start_worker
):
    files = {f"{number % 6}/{number}.txt": b"%d" % number for number in range(60)}
    account, kept = open_account(this_shop, "alice"), str(this_shop.config.uploads_dir)
    worker = start_worker(UPLOADS_DIR=kept)
    eventually(lambda: all_ready() and Service.get(kind="tipjar").is_applied)
    begun = stores(ftp_server)
    ftp_server.faults.set("frozen", "STOR", passes=30, times=1)
    content = io.BytesIO(packed(*files.items()))
    uploads.receive(this_shop, Account.get_by_id(account.id), "site.zip", content, False)
    eventually(lambda: stores(ftp_server) == begun + 31)
    worker.kill()
    assert Upload.get().outcome is None
    ftp_server.faults.clear()
    assert leases_run_out() == 1
    start_worker(UPLOADS_DIR=kept)
    eventually(lambda: Upload.get().outcome)
    assert (Upload.get().outcome, Upload.get().done) == (uploads.Outcome.DONE, 60)
    pages = ftp_server.root / "clients/client1/web1/web"
    assert {name: (pages / name).read_bytes() for name in files} == files
    assert not list(pages.rglob("*.tmp"))


class Customers:
    """Many customers who keep changing their minds."""

    def __init__(self, this_shop, count: int, chance: random.Random):
        self.shop = this_shop
        self.chance = chance
        self.passwords = {}
        self.ids = []
        self._number = 0
        for number in range(count):
            account = open_account(this_shop, f"alice{number}", PASSWORD)
            self.ids.append(account.id)
            for row in services.of_account(account.id):
                self.passwords[row.kind, row.name] = PASSWORD

    def change_something(self) -> None:
        """Change something, mostly in an account that a worker is busy with."""
        id = self.chance.choice(self.ids)
        if self.chance.random() < 0.7:
            held = Account.select(Account.id).where(Account.leased_by.is_null(False))
            id = self.chance.choice(sorted({row.id for row in held} & set(self.ids)) or [id])
        rows = [row for row in services.of_account(id) if not row.gone]
        changes = (
            self._resize,
            self._add_mailbox,
            self._remove_mailbox,
            self._share_mail,
            self._set_password,
            self._set_password,
            self._suspend_or_resume,
            self._block_or_unblock,
            self._switch,
            self._add_domain,
            self._remove_domain,
            self._forward,
            lambda id, rows: accounts.check(id),
        )
        if self.chance.random() < 0.03 and len(self.ids) > 8:
            self.ids.remove(id)
            return accounts.close(id)
        try:
            self.chance.choice(changes)(id, rows)
        except wanted.AccountNotReady:
            pass

    def _one(self, rows, *kinds, but: str = "info@alice") -> Service | None:
        found = [row for row in rows if row.kind in kinds and not row.name.startswith(but)]
        return self.chance.choice(found) if found else None

    def _name(self) -> str:
        self._number += 1
        return f"n{self._number}"

    def _resize(self, id, rows):
        resize(id, self.chance.randint(20, 500))

    def _add_mailbox(self, id, rows):
        domain = self._one(rows, "mail_domain")
        name, password = f"{self._name()}@{domain.name}", secrets.token_hex(8)
        wanted.add(self.shop, id, "mailbox", name, password, quota_mb=self.chance.choice((None, 7)))
        self.passwords["mailbox", name] = password

    def _remove_mailbox(self, id, rows):
        if row := self._one(rows, "mailbox", "forward"):
            wanted.remove(id, row.kind, row.name)

    def _share_mail(self, id, rows):
        row = self._one(rows, "mailbox", but="nobody")
        wanted.configure(id, row.kind, row.name, quota_mb=self.chance.choice((None, 3, 100)))

    def _set_password(self, id, rows):
        row = self._one(rows, *services.WITH_PASSWORD, but="nobody")
        password = self.chance.choice((None, secrets.token_hex(8)))
        wanted.set_password(self.shop, id, row.kind, row.name, password)
        self.passwords[row.kind, row.name] = password

    def _suspend_or_resume(self, id, rows):
        self.chance.choice((accounts.suspend, accounts.resume, accounts.resume))(id)

    def _block_or_unblock(self, id, rows):
        if self.chance.random() < 0.3:
            accounts.block(id, "a reason")
        else:
            accounts.unblock(id)

    def _switch(self, id, rows):
        row = self._one(rows, "site", "ftp", "shell", "database", "mailbox", "mail_domain")
        wanted.switch(id, row.kind, row.name, self.chance.random() < 0.7)

    def _add_domain(self, id, rows):
        name = f"{self._name()}.example"
        wanted.add(self.shop, id, "alias", name)
        wanted.add(self.shop, id, "mail_domain", name)

    def _remove_domain(self, id, rows):
        if row := self._one(rows, "alias"):
            wanted.remove(id, row.kind, row.name)

    def _forward(self, id, rows):
        domain = self._one(rows, "mail_domain")
        name = f"{self._name()}@{domain.name}"
        wanted.add(self.shop, id, "forward", name, destination="alice@example.org")


@pytest.mark.each_database
def test_three_workers_killed_again_and_again_lose_and_double_nothing(
    this_shop, panel, start_worker
):
    seed = int(os.environ.get("SEED") or secrets.randbelow(10**6))
    print(f"SEED={seed}")
    chance = random.Random(seed)
    others = everything(panel)
    customers = Customers(this_shop, 12, chance)
    panel.delays["*"] = 0.01

    def until_calls(more: int) -> None:
        """Let the customers change their minds until the panel has had this many more calls."""
        enough, deadline = len(panel.calls) + more, time.monotonic() + 5
        while len(panel.calls) < enough and time.monotonic() < deadline:
            customers.change_something()
            time.sleep(0.01)

    interrupted = 0
    for _ in range(3):
        workers = [start_worker(WORKER_THREADS="4") for _ in range(3)]
        until_calls(chance.randint(1, 60))
        chance.choice(workers).kill()
        until_calls(chance.randint(1, 60))
        for worker in workers:
            worker.kill()
        time.sleep(0.1)  # calls that are under way reach the panel
        interrupted += leases_run_out()
    assert interrupted > 5

    for _ in range(3):
        start_worker()
    eventually(all_settled, seconds=60)
    assert_panel_matches(this_shop, panel, passwords=customers.passwords, others=others)
    assert wrong_calls(panel, lambda address: True) == []
    open_accounts = list(Account.select())
    assert {account.id for account in open_accounts} == set(customers.ids)
