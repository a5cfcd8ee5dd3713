"""The gate's payments: the labels of their invoices, and what is counted.

They have no order, and nobody knows who paid: only the sums of a day are kept.
"""

import re
import secrets

from lightningspace.base.clock import DAY
from lightningspace.base.gate_models import add_count
from lightningspace.base.models import Fact, set_fact
from lightningspace.outside.node import Payment
from lightningspace.rules import income
from lightningspace.shop import Shop

# Behind LABEL_PREFIX, so that no invoice of the gate is taken for an order's.
LABEL = "gate/"
OF_SERVICE = re.compile(f"{LABEL}([a-z][a-z0-9-]*)/[0-9a-f]{{32}}")
# The outcomes that payments are counted as, beside what the check has answered.
PAID, PAID_MSAT = "paid", "paid_msat"
# The fact that holds which payment was counted last: node, pay_index and time.
LAST = "gate payment counted"


def new_label(shop: Shop, service: str) -> str:
    """A label for an invoice of a service, which is in gate.toml."""
    return f"{shop.config.label_prefix}{LABEL}{service}/{secrets.token_hex(16)}"


def service_of(shop: Shop, label: str) -> str | None:
    """The service that an invoice was for; None: it is not the gate's."""
    prefix = shop.config.label_prefix
    found = OF_SERVICE.fullmatch(label.removeprefix(prefix)) if label.startswith(prefix) else None
    return found[1] if found else None


def count(shop: Shop, node_id: str, payment: Payment) -> None:
    """Within the transaction that moved the node's cursor past a payment: count it, if it is for
    the gate.

    A node that was restored or cleaned is read again from its first payment. What was counted
    before is recognized by its position, for nothing else is kept of it.
    """
    service = service_of(shop, payment.label)
    if service is None or _was_counted(node_id, payment):
        return
    day = payment.paid_at // DAY
    add_count(service, day, PAID, 1)
    add_count(service, day, PAID_MSAT, payment.received_msat)
    income.note(income.Kind.GATE, payment.paid_at, payment.received_msat)
    set_fact(LAST, f"{node_id} {payment.pay_index} {payment.paid_at}")


def _was_counted(node_id: str, payment: Payment) -> bool:
    fact = Fact.get_or_none(Fact.name == LAST)
    if fact is None:
        return False
    its_node, pay_index, paid_at = fact.value.rsplit(" ", 2)
    # A restored node gives an index again, but later.
    is_behind = payment.pay_index <= int(pay_index) and payment.paid_at <= int(paid_at)
    return its_node == node_id and is_behind
