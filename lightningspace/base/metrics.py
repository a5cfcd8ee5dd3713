"""What this process counts for Prometheus: operator/monitoring.py shows it."""

import time
from contextlib import contextmanager

from prometheus_client import Counter, Gauge, Histogram

# An invoice takes milliseconds, opening a client seconds, and a call is given up after a minute.
SECONDS = (0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 60)
TO_READY = (1, 2, 5, 10, 20, 30, 60, 120, 300, 900, 3600)

NODE = Histogram("shop_node_seconds", "Calls to lightningd.", ["outcome"], buckets=SECONDS)
PANEL = Histogram("shop_panel_seconds", "Calls to ISPConfig.", ["outcome"], buckets=SECONDS)
INVOICES = Counter("shop_invoices", "Invoices that the node has made.")
READY = Histogram("shop_ready_seconds", "From the payment to a ready hosting.", buckets=TO_READY)
STEPS = Counter("shop_worker_steps", "Steps of the worker.", ["step", "outcome"])
STEPPED = Gauge("shop_worker_step_time", "When each last went well.", ["step"])


@contextmanager
def timed(calls: Histogram, refusal: type[Exception]):
    """Observe a call by its outcome: `ok`, `refused` (it raised `refusal`) or `failed`."""
    begun, outcome = time.perf_counter(), "failed"
    try:
        yield
        outcome = "ok"
    except refusal:
        outcome = "refused"
        raise
    finally:
        calls.labels(outcome).observe(time.perf_counter() - begun)
