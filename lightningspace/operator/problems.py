"""What needs the operator: `flask problems` prints it, and `telling` tells what is new."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from lightningspace import attack
from lightningspace.base.clock import clock_time, now
from lightningspace.base.models import Fact, Order, Service, Table, set_fact
from lightningspace.gate import collection, settlement
from lightningspace.rules import (
    calendar,
    capacity,
    hostnames,
    node_problems,
    outbox,
    payments,
    payouts,
    progress,
    restored,
)
from lightningspace.shop import Shop

# How many of one kind are listed.
LISTED = 100
# The name of a fact: when problems were last looked for, and how many were found.
COUNTED = "problems counted"


@dataclass(frozen=True)
class Problem:
    """`username` and `token`: the hosting and the order that it is about, if any."""

    text: str
    username: str | None = None
    token: str | None = None


def found(shop: Shop) -> list[Problem]:
    """Empty when all is well."""
    gate_toml = shop.config.gate_config
    late = "a tip for a hosting that was gone when it came"
    lines = [
        *restored.problems(),
        *calendar.problems(shop),
        *capacity.problems(shop),
        *node_problems.problems(shop),
        *outbox.problems(),
        *hostnames.problems(shop),
        *attack.problems(shop),
        *(settlement.problems(gate_toml) if gate_toml else ()),
        *(collection.problems(gate_toml) if gate_toml else ()),
    ]
    return [
        *map(Problem, lines),
        *_first(payments.lost(), partial(_of_payment, "and no order waits for it")),
        *_first(payments.late_tips(), partial(_of_payment, late)),
        *_first(payments.doubtful(), _of_doubt),
        *(Problem(line, token=token) for line, token in payouts.problems().items()),
        *_first(progress.problems(), _of_failure),
    ]


def last_count() -> tuple[int, int] | None:
    """When the worker looked last, and how many it found."""
    fact = Fact.get_or_none(Fact.name == COUNTED)
    if fact is None:
        return None
    at, _, count = fact.value.partition(" ")
    return int(at), int(count)


def count(shop: Shop) -> None:
    set_fact(COUNTED, f"{now()} {len(found(shop))}")


def _first(rows: list, problem: Callable[[Table], Problem]) -> list[Problem]:
    told = [problem(row) for row in rows[:LISTED]]
    left = len(rows) - LISTED
    return [*told, Problem(f"and {left} more like that")] if left > 0 else told


def _of_payment(why: str, order: Order) -> Problem:
    paid = f"payment {order.payment_hash}: {order.received_msat} msat"
    return Problem(f"{paid}, {why} (order {order.token[:8]})", token=order.token)


def _of_doubt(order: Order) -> Problem:
    return Problem(
        f"payment {order.payment_hash}: {order.amount_msat} msat, and the node cannot say whether "
        f"they came, for it lost the invoice (order {order.token[:8]})",
        token=order.token,
    )


def _of_failure(row: Service) -> Problem:
    again = (
        "no retry cures it" if row.permanent else f"failing since {clock_time(row.failed_since)}"
    )
    name = row.account.username
    return Problem(f"{name}: {row.kind} {row.name}: {row.error} ({again})", username=name)
