"""/healthz and /metrics: who may read them, and what they say."""

import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import requests

from lightningspace.base import clock, models
from lightningspace.base.gate_models import add_count
from lightningspace.operator import problems
from lightningspace.outside.ispconfig import PanelError
from lightningspace.outside.node import NodeError
from lightningspace.rules import gate_income
from tests.conftest import eventually, free_port, place_order, record_payments, with_settings, work

ROOT = Path(__file__).parents[2]
TOKEN = "a-token-of-the-tests-0123456789"


def figures(text: str) -> dict[str, float]:
    """The samples, by name and labels."""
    assert not re.search("^(?!#|shop_|python_|process_|$)", text, re.M)
    samples = (line.rpartition(" ") for line in text.splitlines() if not line.startswith("#"))
    return {name: float(value) for name, _, value in samples}


def test_healthz_is_ok_while_the_database_answers(client, this_shop, tmp_path):
    assert (client.get("/healthz").status_code, client.get("/healthz").text) == (200, "ok\n")
    models.db.close()
    (tmp_path / "shop.sqlite3").write_bytes(b"this is no database, and long enough" * 99)
    answer = client.get("/healthz")
    assert (answer.status_code, answer.text) == (503, "the database does not answer\n")


def test_without_a_token_only_this_machine_reads_the_metrics(client):
    def status(address, **headers):
        return client.get(
            "/metrics", environ_base={"REMOTE_ADDR": address}, headers=headers
        ).status_code

    assert status("127.0.0.1") == status("::1") == 200
    assert status("192.0.2.1") == status("") == 404
    # A request through a web server in front, even if PROXY_HOPS is not set.
    assert status("127.0.0.1", X_Forwarded_For="127.0.0.1") == 404


@with_settings(METRICS_TOKEN=TOKEN)
def test_with_a_token_whoever_shows_it_reads_the_metrics(client):
    for shown in (None, "", TOKEN, f"Bearer {TOKEN}x", f"Basic {TOKEN}", "Bearer ü"):
        assert client.get("/metrics", headers={"Authorization": shown or ""}).status_code == 404
    answer = client.get("/metrics", headers={"Authorization": f"Bearer {TOKEN}"})
    assert answer.status_code == 200 and TOKEN not in answer.text


def test_the_metrics_follow_what_happens(client, worker, wallet, this_shop, node, panel):
    before = figures(client.get("/metrics").text)
    place_order(client, username="alice")
    label = 'what="orders to be paid"'
    assert figures(client.get("/metrics").text)[f"shop_waiting{{{label}}}"] == 1
    wallet.pay(models.Order.get().bolt11)
    record_payments(worker)
    assert figures(client.get("/metrics").text)['shop_waiting{what="payments to take effect"}'] == 1
    work(worker)
    with models.transaction():
        today = clock.now() // 86400
        add_count("film", today - 1, "passed", 3)
        add_count("film", today, "passed", 4)
        add_count("film", today, gate_income.PAID_MSAT, 1000)
    node.stop()
    panel.stop()
    with pytest.raises(NodeError):
        this_shop.node.node_id()
    with pytest.raises(PanelError):
        this_shop.panel.jobs_waiting(1)
    problems.count(this_shop)
    after = figures(client.get("/metrics").text)

    def more(name: str) -> float:
        return after[name] - before.get(name, 0)

    amount = models.Order.get().received_msat
    assert more("shop_invoices_total") == more('shop_payments{kind="hosting"}') == 1
    assert more('shop_received_msat{kind="hosting"}') == amount
    assert more("shop_ready_seconds_count") == 1
    assert more('shop_panel_seconds_count{outcome="ok"}') > 10
    for what in ("node", "panel"):
        assert more(f'shop_{what}_seconds_count{{outcome="failed"}}') >= 1
    assert after['shop_gate_checks_total{outcome="passed",service="film"}'] == 4
    assert [name for name in after if gate_income.PAID_MSAT in name] == []
    assert after["shop_problems"] == 1  # the node
    assert after['shop_capacity_mb{server="1"}'] == 100000
    assert after['shop_left_mb{server="1"}'] < 100000


def test_the_metrics_name_nobody(client, worker, wallet):
    place_order(client, username="alice", email="alice@example.com")
    wallet.pay(models.Order.get().bolt11)
    work(worker)
    order = models.Order.get()
    told = client.get("/metrics").text
    secret = ("alice", order.token, order.token[:8], order.payment_hash)
    assert [each for each in secret if each in told] == []


def test_gunicorns_processes_are_summed_and_the_worker_shows_its_own_metrics(
    env, tmp_path, this_shop
):
    """With real processes: where counters are kept is decided when the modules are imported."""
    ports = free_port(), free_port()
    settings = {**env, "PATH": str(Path(sys.executable).parent), "TMPDIR": str(tmp_path)}
    settings["WORKER_METRICS"] = f"127.0.0.1:{ports[1]}"
    web = ["gunicorn", "wsgi:app", "--workers", "2", "--bind", f"127.0.0.1:{ports[0]}"]
    commands = web, ["flask", "--app", "wsgi", "worker"]
    programs = [
        subprocess.Popen([sys.executable, "-m", *command], cwd=ROOT, env=settings)
        for command in commands
    ]
    try:
        for port in ports:
            eventually(lambda port=port: is_open(port))
        page = requests.Session()
        for _ in range(8):  # so that each process answers some
            page.get(f"http://127.0.0.1:{ports[0]}/", headers={"Connection": "close"})
        shown = figures(requests.get(f"http://127.0.0.1:{ports[0]}/metrics").text)
        assert shown['shop_capacity_mb{server="1"}'] == 100000
        workers = f"http://127.0.0.1:{ports[1]}/metrics"
        stepped = 'shop_worker_steps_total{outcome="ok",step="tidy"}'
        eventually(lambda: stepped in figures(requests.get(workers).text))
        assert figures(requests.get(workers).text)['shop_worker_step_time{step="tidy"}'] > 10**9
    finally:
        for program in programs:
            program.terminate()
        assert [program.wait() for program in programs] == [0, 0]
    # No counters stay behind.
    assert not list(tmp_path.glob("lightning-space-metrics-*"))


def is_open(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_dashboard_and_alerts_use_existing_metrics(client, worker, wallet):
    place_order(client, username="alice")
    wallet.pay(models.Order.get().bolt11)
    work(worker)
    families = set(re.findall("^# TYPE (\\S+)", client.get("/metrics").text, re.M))
    asked = set()
    for name in ("alerts.yml", "dashboard.json"):
        text = (ROOT / "deploy" / "monitoring" / name).read_text()
        asked |= set(re.findall(r"\bshop_[a-z_]+", text))
    assert len(asked) > 10
    assert {name.removesuffix("_bucket") for name in asked} <= families
