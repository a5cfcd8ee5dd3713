"""Whether the shop is up, and its figures for Prometheus.

Each process has counters of its own (base/metrics.py). Those of gunicorn's processes are added up;
the worker shows its own at WORKER_METRICS. Figures of the database are read for each request.
"""

import hmac
import logging
import os
from collections.abc import Iterator

from flask import Blueprint, Response, jsonify, request
from peewee import PeeweeException
from prometheus_client import REGISTRY, CollectorRegistry, generate_latest, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.multiprocess import MultiProcessCollector
from werkzeug.exceptions import NotFound

from lightningspace.base.clock import DAY, now
from lightningspace.base.gate_models import GateCount
from lightningspace.base.logs import first_line
from lightningspace.base.models import Account, Domain, Fact, Notice, Order, Server
from lightningspace.operator import introduction, problems
from lightningspace.rules import capacity, clock_watch, gate_income, income, status
from lightningspace.shop import Shop, this_shop
from lightningspace.visitors import networks

logger = logging.getLogger(__name__)
blueprint = Blueprint("monitoring", __name__)

# gunicorn.conf.py names a directory here that its processes share.
SHARED = "PROMETHEUS_MULTIPROC_DIR"
FORMAT = "text/plain; version=0.0.4; charset=utf-8"


def serve(address: tuple[str, int]) -> None:
    """Serve this process's counters there, in threads that end with it. Raises OSError."""
    start_http_server(address[1], address[0])


@blueprint.get("/healthz")
def healthz():
    """Whether this process and its database answer; to the doctor, how its request came here."""
    try:
        Fact.select().limit(1).execute()
    except PeeweeException as error:
        logger.error("the database does not answer: %s", first_line(error))
        return Response("the database does not answer\n", 503, mimetype="text/plain")
    if introduction.is_valid(this_shop().vault, request.headers.get("Authorization", "")):
        return jsonify(introduction.answer(this_shop(), request))
    return Response("ok\n", mimetype="text/plain")


@blueprint.get("/metrics")
def figures():
    shop = this_shop()
    if not _may_read(shop.config.metrics_token):
        raise NotFound
    registry = CollectorRegistry()
    registry.register(_Stored(shop))
    shared = os.environ.get(SHARED)
    if shared:
        MultiProcessCollector(registry, shared)
    own = b"" if shared else generate_latest(REGISTRY)
    return Response(generate_latest(registry) + own, content_type=FORMAT)


def _may_read(token: str) -> bool:
    """With the token; if none is set, from this machine, but not through a web server in front."""
    if token:
        shown = request.headers.get("Authorization", "").encode()
        return hmac.compare_digest(shown, f"Bearer {token}".encode())
    if "X-Forwarded-For" in request.headers:
        return False
    address = networks.sender(request.environ, 0)
    return address is not None and address.is_loopback


class _Stored:
    """The figures of the database. Each is read by an index, or was noted by the worker."""

    def __init__(self, shop: Shop):
        self._shop = shop

    def collect(self) -> Iterator[Metric]:
        facts = {fact.name: fact.value for fact in Fact.select()}
        yield _gauge("shop_hostings", "Hostings that run.", int(facts.get(status.RUNNING, 0)))
        yield _labelled("shop_waiting", "What waits for the worker.", "what", _waiting())
        # Gauges: they fall when a lost payment's order is found, or an older copy is restored.
        sums = income.sums()
        times = {kind: times for kind, times, _ in sums}
        msat = {kind: msat for kind, _, msat in sums}
        yield _labelled("shop_payments", "Payments that ever came in.", "kind", times)
        yield _labelled("shop_received_msat", "What they were, in msat.", "kind", msat)
        capacity_mb = {str(row.id): row.capacity_mb for row in Server.select()}
        left_mb = {str(id): left for id, left in capacity.left_mb(self._shop).items()}
        yield _labelled("shop_capacity_mb", "Space for sale, in MB.", "server", capacity_mb)
        yield _labelled("shop_left_mb", "Space not sold yet, in MB.", "server", left_mb)
        answered = {what: int(facts.get(name, 0)) for what, name in status.ANSWERED.items()}
        yield _labelled("shop_answered_time", "When each last answered.", "server", answered)
        _, needing = facts.get(problems.COUNTED, "0 0").split()
        yield _gauge("shop_problems", "What needs the operator.", int(needing))
        passed = int(facts.get(clock_watch.PASSED, 0))
        yield _gauge("shop_calendar_time", "When the calendar last passed.", passed)
        yield _gate_checks()


def _waiting() -> dict[str, int]:
    is_due = Account.reconcile_at <= now()
    is_open = Order.paid_at.is_null() & Order.released_at.is_null()
    is_paid = Order.paid_at.is_null(False) & Order.applied_at.is_null()
    queues = {
        "accounts to reconcile": Account.select().where(is_due),
        "domains to look up": Domain.select().where(Domain.look_at <= now()),
        "mails to send": Notice.select().where(Notice.try_at.is_null(False)),
        "orders to be paid": Order.select().where(is_open),
        "payments to take effect": Order.select().where(is_paid),
    }
    return {what: rows.count() for what, rows in queues.items()}


def _gate_checks() -> Metric:
    """Of today alone: Prometheus takes a new day for a restart, and old days are forgotten."""
    told = CounterMetricFamily(
        "shop_gate_checks", "The gate's answers of today.", labels=["service", "outcome"]
    )
    is_check = GateCount.outcome.not_in([gate_income.PAID, gate_income.PAID_MSAT])
    for row in GateCount.select().where(is_check & (GateCount.day == now() // DAY)):
        told.add_metric([row.service, row.outcome], row.times)
    return told


def _gauge(name: str, about: str, value: int) -> Metric:
    return GaugeMetricFamily(name, about, value)


def _labelled(name: str, about: str, label: str, values: dict[str, int]) -> Metric:
    family = GaugeMetricFamily(name, about, labels=[label])
    for each, value in values.items():
        family.add_metric([each], value)
    return family
