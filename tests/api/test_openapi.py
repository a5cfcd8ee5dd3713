"""The documents about the API match the code, and schemathesis finds that they hold."""

import importlib
import inspect
import json
import os
import pkgutil
import re
import subprocess
from pathlib import Path

import pytest
from flask import Flask

from lightningspace import api
from lightningspace.api.codes import CODES
from lightningspace.api.routes import PREFIX, Route, described_in
from lightningspace.base.clock import now
from lightningspace.base.models import Account
from lightningspace.base.prices import Terms
from lightningspace.base.refusals import Refusal
from lightningspace.outside import l402
from lightningspace.panel import reconcile
from lightningspace.rules import domains, orders, tokens, wanted
from tests.conftest import ROOT, client_program, dns_servers, opened, with_settings, work

SETTINGS = ROOT / "tests" / "clients" / "schemathesis" / "schemathesis.toml"
DOCUMENT = (ROOT / "docs" / "api.md").read_text()
ONE_BY_ONE = ("--phases", "coverage,fuzzing")
# Random examples for each operation, beside those that cover its schema.
IS_SOAK = os.environ.get("SOAK") == "1"
EXAMPLES = "50" if IS_SOAK else "1"
OFTEN = with_settings(
    ORDERS_LIMIT="100000 per minute",
    ORDERS_LIMIT_OVERALL="100000 per minute",
    CHANGES_LIMIT="100000 per minute",
    TIPS_LIMIT="100000 per minute",
    TIPS_LIMIT_OVERALL="100000 per minute",
    CHANGES_LIMIT_OVERALL="100000 per minute",
    UNPAID_PER_CLIENT="10000",
    CAPACITY_MB="100000000",
)


def routes() -> dict[str, Route]:
    """All routes, without a shop."""
    app = Flask("no shop")
    for part in api.PARTS:
        app.register_blueprint(part.blueprint)
    return described_in(app)


ROUTES = routes()


@pytest.fixture
def document(client):
    answer = client.get("/api/v1/openapi.json")
    assert (answer.status_code, answer.mimetype) == (200, "application/json")
    return answer.json


@pytest.fixture
def credential(this_shop, alice):
    """A credential with all rights for alice's hosting."""
    token = tokens.hand_out(this_shop, alice.id, "of a test", l402.WHOLE)
    return tokens.text_of(this_shop, token)


@pytest.fixture
def busy(this_shop, alice, wallet, worker):
    """Alice's hosting, with something of everything."""
    paid, unpaid = (
        orders.extend(this_shop, alice.id, 1, "days", orders.Buyer(None, form_id))
        for form_id in ("the first", "the second")
    )
    tip = orders.top_up(this_shop, alice.id, orders.Tip(1000, "page", "Hi"), None, "the third")
    for order in (paid, tip):
        wallet.pay(order.bolt11)
    for kind, name, settings in (
        ("mailbox", "b@alice.shop.test", {"quota_mb": 1}),
        ("forward", "c@alice.shop.test", {"destination": "bob@example.net"}),
    ):
        wanted.add(this_shop, alice.id, kind, name, **settings)
    domains.add(this_shop, alice.id, "alice.example", True)
    work(worker)


@pytest.fixture
def env(env, request):
    if "address" not in request.fixturenames:  # else the app is shared with other tests
        return env
    port, dns = map(request.getfixturevalue, ("port", "dns"))
    return env | dns_servers(dns) | {"PUBLIC_URL": f"http://127.0.0.1:{port}"}


@pytest.fixture
def address(app, config, port, at_work):
    """The address of a running shop, with its worker."""
    with opened(app, port):
        yield config.public_url


def test_the_document_has_every_route_and_no_other(app, document):
    routes = {
        (re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule.removeprefix(PREFIX)), method)
        for rule in app.url_map.iter_rules()
        for method in rule.methods - {"HEAD", "OPTIONS"}
        if rule.rule.startswith(f"{PREFIX}/") and rule.endpoint != "discovery.openapi_json"
    }
    documented = {
        (path, method.upper()) for path, item in document["paths"].items() for method in item
    }
    assert documented == routes


def test_every_part_is_registered_and_each_of_its_views_described(app):
    parts = {
        importlib.import_module(f"lightningspace.api.{module.name}")
        for module in pkgutil.iter_modules(api.__path__)
    }
    described = {
        view: view.route
        for part in parts
        for view in vars(part).values()
        if inspect.isfunction(view) and hasattr(view, "route")
    }
    assert {part for part in parts if hasattr(part, "blueprint")} == set(api.PARTS)
    assert described.keys() <= set(app.view_functions.values())
    assert list(described_in(app)) == list(ROUTES)
    assert len(described) == len(ROUTES)
    for rule in app.url_map.iter_rules():
        if rule.endpoint.startswith("api_"):
            assert app.view_functions[rule.endpoint] in described, rule


def test_every_route_is_in_its_document():
    rows = re.findall(r"^\| `(\w+ /.*)` \| (.*) \| (\w*) \| (\w*) \|$", DOCUMENT, re.M)
    assert rows == [
        (name, route.summary, route.capability or "", "yes" if route.sells else "")
        for name, route in ROUTES.items()
    ]


def test_every_code_is_in_its_document():
    rows = re.findall(r"^\| (\d{3}) \| `(\w+)` \| (.*) \|$", DOCUMENT, re.M)
    assert rows == [(str(status), code, meaning) for code, (status, meaning) in CODES.items()]


def kinds_of(error: type[Refusal]) -> set[type[Refusal]]:
    return {error}.union(*(kinds_of(kind) for kind in error.__subclasses__()))


def test_every_error_code_is_in_the_document():
    sources = (path.read_text() for path in (ROOT / "lightningspace").glob("*/*.py"))
    raised = {
        (code, int(status))
        for text in sources
        for status, code in re.findall(r'(?:ApiError|problem)\(\s*(\d{3}),\s*"(\w+)"', text)
    }
    raised |= {(kind.code, kind.status) for kind in kinds_of(Refusal)}
    documented = {(code, status) for code, (status, _) in CODES.items()}
    # The codes of Flask's own refusals.
    raised |= {
        ("unauthorized", 401),
        ("not_found", 404),
        ("request_entity_too_large", 413),
        ("too_many_requests", 429),
        ("service_unavailable", 503),
    }
    assert raised == documented


@pytest.mark.parametrize(
    "number, status", [("3.0", 402), ("3e0", 402), ("3.5", 400), ("1e400", 400)]
)
def test_a_number_is_whole_however_it_is_written(number, status, client):
    body = f'{{"space_mb": 100, "duration": {number}, "unit": "days"}}'
    assert client.post("/api/v1/hosting", data=body).status_code == status


def test_the_document_states_budgets_and_prices(document, this_shop):
    text = document["info"]["description"]
    hour = this_shop.prices.price_msat(Terms(100, 1, "hours")) // 1000
    assert "more than 1,000 sat by default" in text
    assert re.search(rf"costs\s+{hour} sat\s+for an hour", text)


@pytest.mark.parametrize("name", ROUTES)
def test_the_capability_in_the_document_is_the_one_needed(name, client, alice, credential):
    method, path = name.split()
    capability = ROUTES[name].capability
    url = PREFIX + re.sub(r"{\w+}", "of-nobody", path)

    def status(*capabilities):
        header = narrowed(credential, f"{l402.SERVICE}_capabilities={','.join(capabilities)}")
        return client.open(url, method=method, json={}, headers=header).status_code

    others = [each for each in l402.CAPABILITIES if each != capability]
    if capability is None or ROUTES[name].needs_none:
        assert client.open(url, method=method, json={}).status_code != 401
    else:
        assert client.open(url, method=method, json={}).status_code == 401
        assert (status(*others), status(capability) in (401, 403)) == (403, False)


def narrowed(credential, *caveats):
    token, _, preimage = credential.partition(":")
    return {"Authorization": f"L402 {l402.read(token).narrowed(*caveats)}:{preimage}"}


def test_the_manifest_names_what_is_sold(client, document):
    manifest = client.get("/.well-known/l402.json")
    assert (manifest.status_code, manifest.mimetype) == (200, "application/json")
    assert manifest.headers["Access-Control-Allow-Origin"] == "*"
    [service] = manifest.json["services"]
    assert service["name"] == l402.SERVICE
    sold = {(each["path"], each["method"].lower()) for each in service["resources"]}
    paths = document["paths"].items()
    assert sold == {
        (PREFIX + path, method)
        for path, item in paths
        for method, operation in item.items()
        if "402" in operation["responses"]
    }
    for each in service["resources"]:
        operation = document["paths"][each["path"].removeprefix(PREFIX)]
        operation = operation[each["method"].lower()]
        assert operation["x-l402-pricing"] == each["pricing"]
        assert operation.get("x-l402-capability") == each.get("capability")
        assert operation["x-l402-service"] == l402.SERVICE
    assert manifest.json["caveats"] == document["x-l402-caveats"]
    assert client.get(manifest.json["openapi"]).json == document


def test_the_manifest_is_there_while_node_and_panel_are_not(client, node, panel):
    node.stop()
    panel.stop()
    for path in ("/.well-known/l402.json", "/llms.txt", "/api/v1/openapi.json", "/api/v1/prices"):
        assert client.get(path).status_code == 200


def test_answers_that_ask_for_payment_link_to_the_manifest(client, alice):
    body = {"space_mb": 100, "duration": 1, "unit": "hours"}
    browser = {"Accept": "text/html"}
    for answer in (
        client.post("/api/v1/hosting", json=body),
        client.post("/api/v1/hosting", json=body, headers=browser),
        client.get("/api/v1/hosting"),
        client.get("/api/v1/prices"),
        client.get("/"),
        client.get("/", headers={"Accept": "text/plain"}),
        client.head("/"),
    ):
        [link] = answer.headers.getlist("Link")
        address, relation = re.fullmatch('<(.*)>; rel="(.*)"', link).groups()
        assert relation == "l402-manifest"
        assert client.get(address).json["services"]
    assert "Link" not in client.get("/login").headers


@with_settings(INDEX_402_VERIFY="5f" * 32)
def test_the_directory_402index_finds_the_operators_token(client):
    answer = client.get("/.well-known/402index-verify.txt")
    assert (answer.status_code, answer.content_type) == (200, "text/plain; charset=utf-8")
    assert answer.data == b"5f" * 32


def test_without_that_token_there_is_no_page_for_the_directory(client):
    assert client.get("/.well-known/402index-verify.txt").status_code == 404


def test_llms_txt_leads_to_everything_else(client, this_shop):
    answer = client.get("/llms.txt")
    assert (answer.status_code, answer.content_type) == (200, "text/plain; charset=utf-8")
    assert answer.headers["Access-Control-Allow-Origin"] == "*"
    links = re.findall(rf"\(({this_shop.config.public_url}/[^)]*)\)", answer.text)
    assert len(links) == 4
    assert {client.get(link).status_code for link in links} == {200}


def test_what_llms_txt_says_to_send_is_sold(client):
    text = client.get("/llms.txt").text
    [(url, body)] = re.findall(r"POST (http://\S+)\n.*?({.*?})", text, re.S)
    answer = client.post(url, data=body)
    hour = answer.json["price_msat"] // 1000
    assert answer.status_code == 402
    assert f"for an hour ({hour} sat;" in text


@pytest.mark.parametrize("path", ["/.well-known/l402.json", "/llms.txt", "/api/v1/openapi.json"])
def test_read_only_documents_refuse_other_methods_in_json(path, client):
    for answer in (client.post(path), client.delete(path), client.get(f"{path}/none")):
        assert answer.status_code in (404, 405)
        assert answer.json["status"] == answer.status_code
    assert client.options(path).status_code == 200


def test_an_unknown_field_is_refused_even_if_it_is_null(client):
    body = {"space_mb": 100, "duration": 1, "unit": "hours", "no_such": None}
    answer = client.post("/api/v1/hosting", json=body)
    assert (answer.status_code, list(answer.json["errors"])) == (400, ["no_such"])


def test_an_invalid_idempotency_key_is_refused_whatever_is_sold(client, alice, credential):
    headers = {"Authorization": f"L402 {credential}", "Idempotency-Key": "too short"}
    body = {"address": "me@alice.shop.test"}
    answer = client.post("/api/v1/hosting/mailboxes", json=body, headers=headers)
    assert (answer.status_code, answer.json["code"]) == (400, "bad_key")


def test_a_hosting_is_as_described_in_every_state(
    client, this_shop, alice, busy, credential, document, panel
):
    header = {"Authorization": f"L402 {credential}"}
    over = {"expires_at": now() - 1, "valued_at": now() - 1, "value_msat": 0}
    over |= {"ready_at": now() - 9}
    shown = []
    for state, facts in (
        ("setting_up", {"ready_at": None}),
        ("changing", {"ready_at": now(), "credit_msat": 5000}),
        ("problem", {"recovery_asked_at": now()}),
        ("suspended", over | {"suspended_at": now()}),
        ("last_call", {"last_call_at": now()}),
        ("closing", {"closing_at": now()}),
        ("blocked", {"blocked_at": now(), "blocked_reason": "It sent spam."}),
    ):
        if state == "problem":
            panel.down()
            wanted.add(this_shop, alice.id, "mailbox", "d@alice.shop.test")
            reconcile.account(this_shop, alice.id)
        Account.update(facts).where(Account.id == alice.id).execute()
        shown.append(client.get("/api/v1/hosting", headers=header).json)
        assert shown[-1]["state"] == state
    told = {notice["kind"] for answer in shown for notice in answer["notices"]}
    assert told >= {"credit", "recovery", "suspended", "last_call", "closing", "blocked"}
    assert_valid(document, "Hosting", shown)


def test_closing_is_answered_as_described(client, credential, document):
    header = {"Authorization": f"L402 {credential}"}
    answer = client.delete("/api/v1/hosting", headers=header)
    assert answer.status_code == 202
    assert_valid(document, "Closing", [answer.json])


def assert_valid(document: dict, schema: str, answers: list) -> None:
    python = client_program("schemathesis") / "bin" / "python"
    given = json.dumps({"document": document, "schema": schema, "answers": answers})
    command = [python, SETTINGS.with_name("validate.py")]
    ran = subprocess.run(command, input=given, capture_output=True, text=True, timeout=60)
    assert (ran.stdout, ran.stderr, ran.returncode) == ("", "", 0)


def schemathesis(address: str, directory: Path, *options: str) -> None:
    program = client_program("schemathesis") / "bin" / "schemathesis"
    command = [program, "--config-file", SETTINGS, "run", f"{address}/api/v1/openapi.json"]
    command += ["--suppress-health-check", "all", "--request-timeout", "60"]
    # What is being removed (202) can be seen until it is gone, which use_after_free forbids.
    command += ["--checks", "all", "--exclude-checks", "use_after_free", "--no-color", *options]
    ran = subprocess.run(command, cwd=directory, capture_output=True, text=True, timeout=300)
    assert ran.returncode == 0, ran.stdout + ran.stderr


@OFTEN
def test_schemathesis_passes_without_a_credential(address, tmp_path):
    # Without a credential, everything else is refused, whatever it is.
    names = r"^(\w+ /(prices|tips|hosting/{username}/time)|POST /hosting$)"
    open_to_all = ("--include-name-regex", names)
    schemathesis(address, tmp_path, *ONE_BY_ONE, *open_to_all, "--max-examples", EXAMPLES)


@OFTEN
def test_schemathesis_passes_with_a_credential(busy, address, credential, tmp_path):
    options = ("--max-examples", EXAMPLES, "--header", f"Authorization: L402 {credential}")
    # Operations that take no credential are tested without one, above.
    others = () if IS_SOAK else ("--exclude-path-regex", "^/(prices|tips)")
    schemathesis(address, tmp_path, *options, "--exclude-name", "DELETE /hosting", *others)
    if IS_SOAK:
        schemathesis(address, tmp_path, *options, *ONE_BY_ONE, "--include-name", "DELETE /hosting")
