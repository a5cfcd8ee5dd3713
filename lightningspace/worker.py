"""The worker: follow the node's payments, let paid orders take effect, make the panel match."""

import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from lightningspace import attack
from lightningspace.base import metrics, walls
from lightningspace.base.clock import now
from lightningspace.base.logs import first_line
from lightningspace.base.models import Order, db, drop_connection
from lightningspace.gate import services as gate_services
from lightningspace.gate import settlement
from lightningspace.gate.collection import Collection
from lightningspace.gate.settlement import Settlement
from lightningspace.operator import introduction, monitoring, problems, telling
from lightningspace.outside.ispconfig import Forbidden, PanelError
from lightningspace.outside.mail import MailError
from lightningspace.outside.node import NodeError
from lightningspace.outside.rates import RateError
from lightningspace.outside.webhook import WebhookError
from lightningspace.panel import reconcile
from lightningspace.rules import (
    abuse,
    calendar,
    clock_watch,
    currency,
    domain_checks,
    hostnames,
    node_problems,
    offers,
    outbox,
    payments,
    payouts,
    progress,
    restored,
    sessions,
    status,
    upgrades,
    uploads,
    usage,
    wallets,
)
from lightningspace.shop import Shop

logger = logging.getLogger(__name__)

LOOK_SECONDS = 2
QUEUE_SECONDS = 5
DOMAINS_SECONDS = 5
MAIL_SECONDS = 10
USAGE_SECONDS = 5
OFFERS_SECONDS = 2
REFUNDS_SECONDS = 5
PANEL_PAUSE_SECONDS = 30
TIDY_SECONDS = 60
CALENDAR_SECONDS = 60
UPGRADE_SECONDS = 60
STATUS_SECONDS = 60
WALLS_SECONDS = 60 * 60
PROBLEMS_SECONDS = 10 * 60
RATE_SECONDS = 5 * 60
GATE_SECONDS = 1
DISKS_SECONDS = 60
PAYMENT_WAIT_SECONDS = 30
# Short: a refused connection costs nothing, and people who have paid are waiting.
NODE_RETRY_SECONDS = 0.25
NODE_RETRY_SECONDS_MAX = 2
FAULT_SECONDS = 60
# Faults of other systems are logged in one line.
OUTSIDE = NodeError | PanelError | MailError | RateError | WebhookError


class Worker:
    """Runs until `stop()`. Several may run at once; only the database coordinates them."""

    def __init__(self, shop: Shop):
        self._shop = shop.for_worker()
        self._stopping = threading.Event()
        self._wake = threading.Event()
        self._busy: set[str] = set()
        self._not_before: dict[str, float] = {}  # by key, after a fault of ours
        self._busy_lock = threading.Lock()
        self._rests = True  # until it is known whether the database is a restored copy
        self._told_of_node: list[str] = []
        path = shop.config.gate_config
        gate = gate_services.read(path) if path else None
        self.settlement = Settlement(gate) if gate else None
        self.collection = Collection(gate) if gate else None
        # Paid orders and new hostings have threads to themselves.
        threads = shop.config.worker_threads
        sizes = {
            reconcile.OPENING: threads,
            reconcile.CHANGE: threads // 2,
            reconcile.UPLOAD: threads // 2,
        }
        self.pools = {step: ThreadPoolExecutor(max(1, size), step) for step, size in sizes.items()}

    def stop(self) -> None:
        """End between two steps. May be called twice, and from any thread but that of `run`."""
        self._stopping.set()
        self._wake.set()

    def run(self) -> None:
        if self._shop.config.worker_metrics:
            self._guarded(monitoring.serve, self._shop.config.worker_metrics)
        self._guarded(introduction.note_worker)
        # Threads that wait for the node or the panel hold nothing: they may die with the process.
        threading.Thread(target=self._watch, name="watcher", daemon=True).start()
        looks = threading.Thread(target=self._guarded, args=(warn_of_settings, self._shop))
        looks.daemon = True
        looks.start()
        # Before anything is deleted, closings that a gap has overtaken are taken back.
        self._until_done(self._look_at_clock)
        self._until_done(self._look_whether_restored)
        self._repeat("tidy", self.tidy, TIDY_SECONDS)
        self._repeat("calendar", self.mind_calendar, CALENDAR_SECONDS)
        self._repeat("queues", self._look_at_queues, QUEUE_SECONDS)
        self._repeat("domains", self._look_at_domains, DOMAINS_SECONDS)
        self._repeat("mails", self._send_mails, MAIL_SECONDS)
        self._repeat("usage", self._look_at_usage, USAGE_SECONDS)
        self._repeat("offers", self._match_offers, OFFERS_SECONDS)
        self._repeat("refunds", self._pay_back, REFUNDS_SECONDS)
        self._repeat("upgrade", self._upgrade, UPGRADE_SECONDS)
        self._repeat("problems", self._look_at_problems, PROBLEMS_SECONDS, rests=False)
        if self._shop.config.fiat_rate_url:
            self._repeat("rate", self._look_at_rate, RATE_SECONDS)
        if self.settlement:
            self._repeat("gate", self.settlement.look, GATE_SECONDS)
            self._repeat("disks", self._collect_disks, DISKS_SECONDS)
        self._repeat("status", self._look_at_status, STATUS_SECONDS, rests=False)
        if self._shop.config.walls_check == "weekly":
            self._repeat("walls", self._check_walls, WALLS_SECONDS)
        while not self._stopping.is_set():
            self._guarded(self._look_awake)
            self._wake.wait(LOOK_SECONDS)
            self._wake.clear()
        for pool in self.pools.values():
            pool.shutdown(wait=False, cancel_futures=True)
        for pool in self.pools.values():
            pool.shutdown()

    # -- steps -------------------------------------------------------------------

    def look(self) -> None:
        """Hand out what is due: paid orders that take effect, accounts to reconcile."""
        self._hand_out(payments.due())

    def _look_awake(self) -> None:
        """Like `look`, but a clock that has jumped is noticed before payments are applied by it."""
        self._look_whether_restored()
        if self._rests:
            return
        due = payments.due()
        if due:
            self._look_at_clock()
        self._hand_out(due)

    def _look_at_clock(self) -> None:
        clock_watch.wake()
        clock_watch.take_time_back(self._shop)

    def _look_whether_restored(self) -> None:
        """A restored copy must not be acted on before `restore-check`; payments are recorded."""
        self._rests = restored.since() is not None

    def _hand_out(self, paid: list[Order]) -> None:
        for order in paid:
            # By order, not by account: an order that waits for a deletion must not hold it up.
            self._start(reconcile.OPENING, order.token, self._open, order.token)
        for account_id, step in reconcile.due_accounts().items():
            # By step as well: one that waits for a thread holds up no other step of the account.
            self._start(step, f"{step} {account_id}", self._reconcile, account_id, step)

    def follow_payments(self, seconds: int = PAYMENT_WAIT_SECONDS) -> bool:
        """Record the node's next payment; False when none came in `seconds`. Raises NodeError."""
        node = self._shop.node
        node_id = node.node_id()
        after = payments.checked_cursor(self._shop, node_id)
        payment = node.wait_for_payment(after, seconds)
        if payment is None:
            return False
        # A node that was restored since may have counted past the cursor, and payments be skipped.
        if payments.checked_cursor(self._shop, node_id) != after:
            return True
        if payments.record(self._shop, node_id, payment, after):
            self._wake.set()
        return True

    def tidy(self) -> None:
        """The chores of every minute. Raises NodeError."""
        progress.wipe_shown_passwords()
        hostnames.forget_rested()
        outbox.forget_places()
        sessions.tidy()
        uploads.tidy(self._shop)
        wallets.tidy()
        settlement.tidy()
        abuse.wipe_evidence(self._shop)
        attack.close_left_over()
        node_id = self._shop.node.node_id()
        if payments.tidy(self._shop, node_id):
            self._wake.set()
        payments.checked_cursor(self._shop, node_id)
        self._look_at_node()

    def mind_calendar(self) -> None:
        calendar.run_pass(self._shop, stopping=self._stopping.is_set)

    def _look_at_node(self) -> None:
        """Report new faults in its settings, which may change while it runs."""
        faults = node_problems.faults(self._shop)
        for fault in faults:
            if fault not in self._told_of_node:
                logger.error("%s", fault)
        self._told_of_node = faults

    # -- threads -----------------------------------------------------------------

    def _watch(self) -> None:
        wait, told = NODE_RETRY_SECONDS, None
        while not self._stopping.is_set():
            try:
                self.follow_payments()
                wait, told = NODE_RETRY_SECONDS, None
            except Exception as error:
                if self._stopping.is_set():
                    return
                self._report("payments", error, is_news=str(error) != told)
                told = str(error)
                self._stopping.wait(wait)
                wait = min(NODE_RETRY_SECONDS_MAX, wait * 2)

    def _repeat(
        self, name: str, step: Callable[[], None], seconds: int, rests: bool = True
    ) -> None:
        """`rests`: it is not done while the database is a restored copy."""

        def loop():
            while not self._stopping.is_set():
                if not (rests and self._rests):
                    self._guarded(step)
                self._stopping.wait(seconds)

        threading.Thread(target=loop, name=name, daemon=True).start()

    def _until_done(self, step: Callable, *arguments) -> None:
        while not self._stopping.is_set() and not self._guarded(step, *arguments):
            self._stopping.wait(LOOK_SECONDS)

    def _start(self, pool: str, key: str, step: Callable, *arguments) -> None:
        """Run a step in a pool, unless one of that key is running, or had a fault a moment ago."""
        with self._busy_lock:
            if key in self._busy or self._not_before.get(key, 0) > time.monotonic():
                return
            self._busy.add(key)
        self.pools[pool].submit(self._run, key, step, *arguments)

    def _run(self, key: str, step: Callable, *arguments) -> None:
        went_well = self._guarded(step, *arguments)
        with self._busy_lock:
            self._busy.discard(key)
            self._not_before.pop(key, None)
            if not went_well:
                self._not_before[key] = time.monotonic() + FAULT_SECONDS

    def _open(self, token: str) -> None:
        account_id = payments.apply(self._shop, token)
        if account_id:
            self._reconcile(account_id, reconcile.OPENING)

    def _reconcile(self, account_id: str, step: str) -> None:
        reconcile.account(self._shop, account_id, self._stopping.is_set, step)

    def _check_walls(self) -> None:
        attack.check_weekly(self._shop)

    def _upgrade(self) -> None:
        upgrades.bring_up_to_date(self._shop)

    def _look_at_status(self) -> None:
        status.look(self._shop)

    def _look_at_queues(self) -> None:
        progress.look_at_queues(self._shop)

    def _look_at_domains(self) -> None:
        domain_checks.look(self._shop, self._stopping.is_set)

    def _send_mails(self) -> None:
        outbox.send_due(self._shop, self._stopping.is_set)

    def _look_at_problems(self) -> None:
        problems.count(self._shop)
        telling.tell(self._shop)

    def _match_offers(self) -> None:
        offers.match(self._shop)

    def _pay_back(self) -> None:
        payouts.pay_due(self._shop, self._stopping.is_set)

    def _look_at_usage(self) -> None:
        try:
            usage.look(self._shop)
            usage.look_at_php(self._shop)
        except PanelError as error:
            self._report("usage", error)
            self._stopping.wait(PANEL_PAUSE_SECONDS)

    def _collect_disks(self) -> None:
        self.collection.look(self._stopping.is_set)

    def _look_at_rate(self) -> None:
        currency.look(self._shop)

    def _guarded(self, step: Callable, *arguments) -> bool:
        """Run one step among many; a fault is logged and answered False, and the others go on."""
        name = step.__name__.strip("_")
        try:
            step(*arguments)
        except Exception as error:
            self._report(step.__name__, error)
            metrics.STEPS.labels(name, "failed").inc()
            return False
        metrics.STEPS.labels(name, "ok").inc()
        metrics.STEPPED.labels(name).set(now())
        return True

    def _report(self, what: str, error: Exception, is_news: bool = True) -> None:
        if is_news and isinstance(error, OUTSIDE):
            logger.warning("%s: %s", what, error)
        elif is_news:
            logger.error("%s failed: %s", what, first_line(error), exc_info=error)
        if not db.in_transaction():
            drop_connection()


def warn_of_settings(shop: Shop) -> None:
    """Log which of the servers' settings let customers at each other, as far as the panel tells."""
    for server_id in shop.config.capacity_mb:
        try:
            settings = shop.panel.web_settings(server_id)
        except Forbidden:
            logger.info("the settings of server %d are not looked at: server_get", server_id)
        except PanelError as error:
            logger.warning("the settings of server %d are not known: %s", server_id, error)
        else:
            for fault in walls.faults_of_server(shop.config.walls, settings):
                logger.error("server %d, Server Config, Web: %s", server_id, fault)
