"""The operator's commands show what is sold, who has what, and what happened."""

import pytest

from lightningspace.base import clock
from lightningspace.base.clock import DAY
from lightningspace.base.gate_models import GateDisk, GateRevoked, add_count
from lightningspace.gate import balances, services, settlement
from lightningspace.gate.services import TIME_MAX
from lightningspace.outside import l402
from lightningspace.outside.l402 import Rights
from lightningspace.rules import gate_income
from tests.conftest import record_payments
from tests.gate.test_metering import line

MORE = """
[[service]]
name = "calls"
location = "/calls/"
upstream = "http://127.0.0.1:{behind}"
bundle_sat = 1500
per_request_msat = 1500
time = "30 days"
freebie = 3
capabilities = {{ read = ["GET"], write = ["PUT", "POST"] }}
limits = [{{ requests = 10, per = "1s", burst = 20 }}]
blocklist = ["203.0.113.0/24"]
headers = {{ "X-Key" = "secret" }}
body = "a picture"
dry_run = true
gate_down = "open"
"""


@pytest.fixture
def gate_toml(gate_toml) -> str:
    return gate_toml + MORE


@pytest.fixture
def flask(gate_folder, own_app):
    """Run a command of the gate: `flask("services")`."""
    runner = own_app.test_cli_runner()
    return lambda *arguments, **more: runner.invoke(args=["gate", *arguments], **more)


def test_services_prints_the_terms_of_each(flask, gate_folder):
    lines = flask("services").output.splitlines()
    assert lines[:4] == [
        f"videos: /videos/ is files {gate_folder.folder}/films",
        "  called “The film archive”",
        "  50 sat for 24 hours",
        "  free: /videos/trailers/",
    ]
    assert "  no invoice at: /v1/quiet/" in lines
    assert lines[lines.index("  1,500 sat prepaid, to be used within 30 days") :] == [
        "  1,500 sat prepaid, to be used within 30 days",
        "  1,500 msat a request, 1,500 msat reserved for each request",
        "  free for each network: 3 requests a day",
        "  capability read: GET",
        "  capability write: PUT POST",
        "  limit: 10 requests in 1 s, 20 at once",
        "  its requests should send: a picture",
        "  it is sent up to 100 MB at once",
        "  blocked: 203.0.113.0/24",
        "  sent to it: X-Key",
        "  OPEN while the shop does not answer",
        "  DRY RUN: everybody passes, and nothing is sold",
    ]


@pytest.mark.each_database
def test_tokens_prints_what_is_kept(flask, this_shop):
    one, two, three = (this_shop.keys.token_id(0).hex() for _ in range(3))
    until = clock.now() + DAY
    balances.credit("1" * 64, (one, "calls"), 7500, until)
    assert balances.lease("a process", (one, "calls"), 1500, 0)
    balances.credit("2" * 64, (two, "calls"), 1_000_000, until)
    balances.credit("3" * 64, (three, "calls"), 5000, clock.now())  # its time is over
    GateDisk.create(token_id=two, service="disk", until=until)
    flask("revoke", three)
    result = flask("tokens")
    lines = result.stdout.splitlines()
    when = clock.clock_time(until)
    assert sorted(lines[:2]) == sorted(
        [f"{one} calls: 7.500 sat left, until {when}", f"{two} calls: 1,000 sat left, until {when}"]
    )
    assert lines[2] == f"{two} disk: a disk, paid until {when}"
    assert lines[3] == f"{three} revoked since {clock.clock_time(clock.now())}"
    assert len(lines) == 4
    assert result.stderr == "Passes leave no trace, and are not listed.\n"


def credential(this_shop, until: int) -> str:
    token_id = this_shop.keys.token_id(0)
    minted = l402.caveats("videos", Rights(None, until))
    return f"{this_shop.keys.mint(b'1' * 32, token_id, minted)}:{'0' * 64}"


@pytest.mark.each_database
def test_revoke_takes_an_id_or_a_credential_with_it(flask, this_shop, subtests):
    ends = clock.now() + 90 * DAY
    for shown in ("id", "macaroon", "credential", "header", "typed"):
        text = credential(this_shop, ends)
        token_id = l402.read(text.partition(":")[0]).token_id.hex()
        given = {
            "id": token_id.upper(),
            "macaroon": text.partition(":")[0],
            "credential": text,
            "header": f"Authorization: L402 {text}",
            "typed": "-",
        }[shown]
        with subtests.test(shown=shown):
            result = flask("revoke", given, input=f"{text}\n")
            assert result.exit_code == 0, result.output
            assert result.output == f"{token_id} is revoked\n"
            assert text.partition(":")[0] not in result.output
            assert GateRevoked.get_by_id(token_id).until > clock.now() + TIME_MAX
            again = flask("revoke", given, input=text)
            assert again.exit_code == 1 and "was revoked before" in again.output


def test_revoke_refuses_tokens_that_are_not_ours(flask, this_shop, subtests):
    ours = credential(this_shop, 0)
    forged = l402.read(ours.partition(":")[0]).narrowed("a=b").packed()
    for text in ("", "x", "0" * 64, "0" * 63, ours[:50], forged.hex(), f"x{ours}", "ü", "\udcff"):
        with subtests.test(text=text):
            result = flask("revoke", "--", text)
            assert result.exit_code == 1
            assert "this is no token of this shop: " in result.output
            assert not text or len(text) < 3 or text not in result.output
    assert not GateRevoked.select().exists()


@pytest.mark.each_database
def test_stats_has_a_line_for_each_day_and_service(flask, time_machine):
    today = clock.now() // DAY
    for service, day, outcome, times in (
        *(("api", today, "passed", 1200), ("api", today, "payment_required", 3)),
        *(("api", today, "page", 4), ("api", today, "busy", 2), ("api", today, "paid", 2)),
        *(("api", today, "paid_msat", 10_500), ("videos", today, "free", 8)),
        *(("videos", today - 6, "unauthorized", 5), ("videos", today - 7, "passed", 99)),
    ):
        add_count(service, day, outcome, times)
    lines = flask("stats").output.splitlines()
    assert lines[0].split() == [
        *("day", "service", "passed", "free", "freebie"),
        *("402", "401", "403", "429", "paid", "sat"),
    ]
    assert [line.split()[1:] for line in lines[1:4]] == [
        ["videos", "0", "0", "0", "0", "5", "0", "0", "0", "0"],
        ["api", "1,200", "0", "0", "7", "0", "0", "0", "2", "10.500", "busy", "2"],
        ["videos", "0", "8", "0", "0", "0", "0", "0", "0", "0"],
    ]
    assert lines[3].startswith(f"{clock.iso_time(clock.now())[:10]}  videos ")
    totals = ["all", "1,200", "8", "0", "7", "5", "0", "0", "2", "10.500", "busy", "2"]
    assert lines[4].split() == totals
    assert "99" in flask("stats", "--days", "8").output
    assert flask("stats", "--days", "0").exit_code == 2


@pytest.mark.each_database
def test_transactions_are_those_of_the_gate(flask, this_shop, node, worker, time_machine):
    def pay(label: str, msat: int) -> str:
        invoice = this_shop.node.create_invoice(label, msat, "x", 600)
        node.settle(label)
        return invoice.payment_hash

    old = pay(gate_income.new_label(this_shop, "videos"), 50_000)
    time_machine.forward(31 * DAY)
    pay("another program's", 7000)
    this_shop.node.create_invoice(gate_income.new_label(this_shop, "videos"), 50_000, "x", 600)
    new = pay(gate_income.new_label(this_shop, "api"), 5000)
    result = flask("transactions")
    [line] = result.stdout.splitlines()
    assert line.split() == [
        *clock.clock_time(clock.now()).split(),
        *("api", "5", "sat", new[:8]),
    ]
    assert result.stderr.endswith(": 1, 5 sat\n")
    lines = flask("transactions", "--since", "2020-01-01").stdout.splitlines()
    assert [each.split()[-1] for each in lines] == [old[:8], new[:8]]
    # The worker counts the payments, so the sums need no node.
    record_payments(worker)
    node.down()
    assert flask("stats", "--days", "40").output.splitlines()[-1].split()[-2:] == ["2", "55"]
    refused = flask("transactions")
    assert refused.exit_code == 1 and "the node did not answer" in refused.output
    assert flask("transactions", "--since", "x").exit_code == 2


def test_without_a_gate_each_command_says_so(runner, subtests):
    for command in (["services"], ["tokens"], ["revoke", "x"], ["stats"], ["transactions"]):
        with subtests.test(command=command[0]):
            result = runner.invoke(args=["gate", *command])
            assert result.exit_code == 1
            assert "there is no gate: set GATE_CONFIG" in result.output


@pytest.mark.each_database
def test_problems_reports_a_log_without_requests(gate_folder, own_app, time_machine):
    runner, path = own_app.test_cli_runner(), gate_folder.folder / "gate.toml"
    log, today = gate_folder.folder / "gate.log", clock.now() // DAY

    def told() -> list[str]:
        lines = runner.invoke(args=["problems"]).output.splitlines()
        return [line for line in lines if "gate" in line]

    add_count("calls", today, "passed", 1000)
    assert told() == []  # the service is on a dry run
    path.write_text(path.read_text().replace("dry_run = true", ""))
    assert told()[0].startswith(f"the gate: {log} tells of none of 1000 metered requests of today")
    log.write_text(line(1, ("2" * 64, "calls"), reserved="1500"))
    reader = settlement.Settlement(services.read(path))
    reader.look()
    reader.close()
    assert told() == []
    log.unlink()
    time_machine.forward(DAY)
    add_count("calls", today + 1, "passed", settlement.TELLING - 1)  # they may be under way
    add_count("calls", today + 1, "payment_required", 1000)
    add_count("videos", today + 1, "passed", 1000)
    assert told() == []
    log.mkdir()
    assert told()[0].startswith(f"the gate: {log} cannot be read: Is a directory")
    path.write_text("[[service]]\nname = 1\n")
    assert told()[0].startswith(f"{path}, line ")
