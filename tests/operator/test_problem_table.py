"""Each line of the table of `problems` in docs/problems.md is provoked, and read from it."""

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from lightningspace import attack
from lightningspace.base import models
from lightningspace.base.clock import DAY, HOUR, MINUTE, now
from lightningspace.base.gate_models import GateDisk, add_count
from lightningspace.base.models import Account, Notice, Order, Server, Service, set_fact
from lightningspace.base.money_models import Refund
from lightningspace.gate.collection import ASIDE
from lightningspace.operator.problems import found
from lightningspace.rules import calendar, clock_watch, node_problems, restored
from lightningspace.shop import FORMER_URL

ROOT = Path(__file__).parents[2]
PROBLEMS = (ROOT / "docs/problems.md").read_text()
SECTION = PROBLEMS.split("## What `problems` tells you")[1].split("\n## ")[0]
GATE = """
log = "{folder}/gate.log"

[[service]]
name = "calls"
location = "/calls/"
upstream = "http://127.0.0.1:1"
bundle_sat = 1500
per_request_msat = 1500
time = "30 days"

[[service]]
name = "my-disk"
location = "/disk/"
disk = "{folder}/disk"
price_sat = 10
time = "1 day"
quota_mb = 1
grace = "1 day"
"""


def told_of() -> list[str]:
    """The lines of `problems` in the table; … stands for anything."""
    cells = re.findall(r"^\| (`.+?`) \| ", SECTION, re.M)
    return [line for cell in cells for line in re.findall("`([^`]+)`", cell)]


def matches(text: str, line: str) -> bool:
    wanted = re.sub("<[a-z]+>", "…", line)
    return bool(re.search(".*".join(map(re.escape, wanted.split("…"))), text))


class Trouble:
    """A shop in which each case causes one problem."""

    def __init__(self, this_shop, node, folder):
        self.shop, self.node, self.folder = this_shop, node, folder
        self.gate = folder / "gate.toml"

    def order(self, kind: str, **facts) -> Order:
        known = {"kind": kind, "placed_at": 1, "expires_at": 1}
        if kind != "lost":
            known |= {"space_mb": 100, "amount_msat": 7000}
        return Order.create(token="0" * 32, payment_hash="a" * 64, **known | facts)

    def payment(self, kind: str, **facts) -> Order:
        paid = {"node_id": "n", "pay_index": 1, "received_msat": 7000, "paid_at": 1}
        return self.order(kind, **paid | facts)

    def refund(self, **facts) -> None:
        order = self.payment("lost")
        Refund.create(
            id="r1", order=order, msat=7000, made_at=1, destination="a@b.example", **facts
        )

    def failing(self, **facts) -> None:
        service = Service.select().where(Service.kind == "site").get()
        its_own = (Service.account == service.account) & (Service.kind == "site")
        Service.update(error="the panel refused it", **facts).where(its_own).execute()


def a_gap(trouble: Trouble) -> None:
    ended = now() - 40 * DAY
    Account.update(suspended_at=ended, expires_at=ended, valued_at=ended).execute()
    set_fact(clock_watch.UNBROKEN, now() - MINUTE)


def late_mail(trouble: Trouble) -> None:
    mail = {"recipient": "a@b.example", "subject": "", "body": ""}
    which = {"account_id": "a", "kind": "ending", "about": 1, "channel": "email"}
    Notice.create(written_at=1, try_at=1, **mail | which)


def moved_name(trouble: Trouble) -> None:
    config = replace(trouble.shop.config, reserved_names=("alice",))
    trouble.shop = replace(trouble.shop, config=config)


CASES: dict[str, Callable[[Trouble], object]] = {
    "and no order waits for it": lambda t: t.payment("lost"),
    "a tip for a hosting that was gone": lambda t: t.payment("topup", door="page"),
    "cannot say whether they came": lambda t: t.order("open", released_at=1, missing_at=1),
    "waits for your word": lambda t: t.refund(),
    "has left no other destination": lambda t: t.refund(approved_at=1, problem="expired"),
    "neither through nor back": lambda t: t.refund(
        approved_at=1, sent_at=1, payment_hash="b" * 64, expires_at=1
    ),
    "knows nothing of its payment": lambda t: t.refund(problem="unknown"),
    "that was recorded last": lambda t: node_problems.note_lost_payment(),
    "the database was restored": lambda t: set_fact(restored.SINCE, now()),
    "few wallets or none": lambda t: node_problems.note_warnings(1000, ("warning_capacity",)),
    "autoclean": lambda t: setattr(t.node, "autocleans_paid_invoices", True),
    "sold beyond CAPACITY_MB": lambda t: Server.update(capacity_mb=1).execute(),
    "no retry cures it": lambda t: t.failing(permanent=True, failed_since=now()),
    "failing since": lambda t: t.failing(permanent=False, failed_since=now() - 2 * DAY),
    "the clock says": lambda t: set_fact(clock_watch.LATEST, now() + DAY),
    "has not run since": lambda t: set_fact(clock_watch.PASSED, now() - 2 * HOUR),
    # The texts themselves are tested by tests/rules/test_calendar.py.
    "wait to be closed": lambda t: set_fact(calendar.HELD, "accounts that wait to be closed: 12"),
    "had a gap": a_gap,
    "mails not sent": late_mail,
    "walls of server": lambda t: set_fact(
        attack.FOUND.format(id=1), json.dumps({"at": 1, "trouble": "no ssh", "found": []})
    ),
    "cannot be read": lambda t: (t.folder / "gate.log").mkdir(),
    "tells of none": lambda t: add_count("calls", now() // DAY, "passed", 1000),
    "gate.toml, line": lambda t: t.gate.write_text("[[service]]\nname = 1\n"),
    "should be deleted by now": lambda t: GateDisk.create(
        service="my-disk", token_id="a" * 64, until=now() - 9 * DAY
    ),
    "the disk …": lambda t: (t.folder / "disk" / ASIDE).write_text("in the way"),
    "does not name any more": lambda t: GateDisk.create(
        service="of-old", token_id="a" * 64, until=now()
    ),
    "PUBLIC_URL was": lambda t: set_fact(FORMER_URL, f"{now()} https://old.example"),
    "has the name of a host": moved_name,
    "has no plugin": lambda t: t.node.lose_plugin("offers"),  # the last: it does not come back
}


@pytest.fixture
def troubles(tmp_path, more_settings, request):
    folder = tmp_path / "gate"
    folder.mkdir()
    (folder / "gate.toml").write_text(GATE.format(folder=folder))
    (folder / "disk").mkdir()
    more_settings["GATE_CONFIG"] = str(folder / "gate.toml")
    this_shop = request.getfixturevalue("this_shop")
    request.getfixturevalue("alice")
    return Trouble(this_shop, request.getfixturevalue("node"), folder)


def test_each_line_of_the_table_is_printed_and_no_other(troubles, subtests):
    lines = told_of()
    assert found(troubles.shop) == []
    for what, provoke in CASES.items():
        [line] = [line for line in lines if what in line]
        lines.remove(line)
        with subtests.test(what), models.db.atomic() as undo:
            shop, gate = troubles.shop, troubles.gate.read_text()
            provoke(troubles)
            said = [each.text for each in found(troubles.shop)]
            undo.rollback()
            troubles.shop = shop
            troubles.gate.write_text(gate)
            troubles.node.autocleans_paid_invoices = False
            for path in (troubles.folder / "gate.log", troubles.folder / "disk" / ASIDE):
                if path.exists():
                    path.rmdir() if path.is_dir() else path.unlink()
            assert len(said) == 1 and matches(said[0], line), said
    assert lines == []
