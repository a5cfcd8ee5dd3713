"""What programs read of the API: true to the code, and found true by schemathesis."""

import re
import subprocess
import threading
from pathlib import Path

import pytest
from werkzeug.serving import WSGIRequestHandler, make_server

from lightningspace import l402, openapi, receipts
from lightningspace.worker import Worker
from tests.conftest import ROOT, client_program, with_settings

pytestmark = pytest.mark.any_database

SETTINGS = ROOT / "tests" / "clients" / "schemathesis" / "schemathesis.toml"
OFTEN = with_settings(
    ORDERS_LIMIT="100000 per minute",
    ORDERS_LIMIT_OVERALL="100000 per minute",
    UNPAID_PER_CLIENT="10000",
    CAPACITY_MB="100000000",
)


@pytest.fixture
def document(client):
    answer = client.get("/api/v1/openapi.json")
    assert (answer.status_code, answer.mimetype) == (200, "application/json")
    return answer.json


@pytest.fixture
def credential(this_shop, alice):
    """A whole one of alice's."""
    token = receipts.hand_out(this_shop, alice.id, "of a test", l402.WHOLE)
    return receipts.text_of(this_shop, token)


class Silent(WSGIRequestHandler):
    def log_request(self, *args):
        pass


@pytest.fixture
def address(app):
    """Where the shop is open, with its worker."""
    server = make_server("127.0.0.1", 0, app, threaded=True, request_handler=Silent)
    worker = Worker(app.extensions["shop"])
    programs = [threading.Thread(target=run) for run in (server.serve_forever, worker.run)]
    for program in programs:
        program.start()
    yield f"http://127.0.0.1:{server.port}"
    server.shutdown()
    worker.stop()
    for program in programs:
        program.join()
    server.server_close()


def test_every_route_is_in_it_and_no_other(app, document):
    routes = {
        (re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule.removeprefix(openapi.PREFIX)), method)
        for rule in app.url_map.iter_rules()
        for method in rule.methods - {"HEAD", "OPTIONS"}
        if rule.endpoint.startswith("api.")
    }
    documented = {
        (path, method.upper()) for path, item in document["paths"].items() for method in item
    }
    assert documented == routes


def test_every_code_of_the_programs_is_in_it():
    sources = (path.read_text() for path in (ROOT / "lightningspace").glob("*.py"))
    raised = {
        (code, int(status))
        for text in sources
        for status, code in re.findall(r'(?:ApiError|problem)\(\s*(\d{3}),\s*"(\w+)"', text)
    }
    documented = {(code, status) for code, (status, _) in openapi.CODES.items()}
    # Of Flask's own refusals.
    documented -= {
        ("request_entity_too_large", 413),
        ("too_many_requests", 429),
        ("service_unavailable", 503),
    }
    assert raised | {("unauthorized", 401)} == documented


@pytest.mark.parametrize(
    "number, status", [("3.0", 402), ("3e0", 402), ("3.5", 400), ("1e400", 400)]
)
def test_a_number_is_whole_however_it_is_written(number, status, client):
    body = f'{{"space_mb": 100, "duration": {number}, "unit": "days"}}'
    assert client.post("/api/v1/hosting", data=body).status_code == status


def schemathesis(address: str, directory: Path, *options: str) -> None:
    program = client_program("schemathesis") / "bin" / "schemathesis"
    command = [program, "--config-file", SETTINGS, "run", f"{address}/api/v1/openapi.json"]
    command += ["--url", f"{address}/api/v1", "--checks", "all", "--no-color", *options]
    ran = subprocess.run(command, cwd=directory, capture_output=True, text=True, timeout=300)
    assert ran.returncode == 0, ran.stdout + ran.stderr


@OFTEN
def test_schemathesis_passes_without_a_credential(address, tmp_path):
    schemathesis(address, tmp_path, "--max-examples", "30")


@OFTEN
def test_schemathesis_passes_with_a_credential(address, credential, tmp_path):
    header = f"Authorization: L402 {credential}"
    schemathesis(address, tmp_path, "--max-examples", "30", "--header", header)
