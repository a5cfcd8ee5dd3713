"""What the operator must know about the Lightning node: its settings, and what it has lost."""

from lightningspace.base.clock import clock_time, now
from lightningspace.base.models import Fact, set_fact
from lightningspace.base.prices import DAY
from lightningspace.outside.node import NodeError
from lightningspace.shop import Shop

LOST_AT = "payment lost by the node at"
LOST_PAYMENT = (
    "the node does not have the payment any more that was recorded last: it was restored from an "
    "older copy, or paid invoices were cleaned away there (autoclean, delinvoice)"
)
TOLD_SECONDS = 7 * DAY
# The name of a fact about the smallest recent invoice with a warning: when, its msat, the warnings.
WARNED = "node warned"


def note_lost_payment() -> None:
    """Within a transaction: note that the node has lost the payment at the cursor."""
    set_fact(LOST_AT, now())


def note_warnings(msat: int, warnings: tuple[str, ...]) -> None:
    """Within a transaction: note what the node warned of, if anything, for an invoice of `msat`."""
    known = _warned()
    if not warnings:
        if known and msat >= known[1]:
            Fact.delete().where(Fact.name == WARNED).execute()
    elif known is None or msat <= known[1] or known[0] <= now() - DAY:
        set_fact(WARNED, f"{now()} {msat} {' '.join(warnings)}")


def _warned() -> tuple[int, int, str] | None:
    fact = Fact.get_or_none(Fact.name == WARNED)
    if fact is None:
        return None
    at, msat, warnings = fact.value.split(" ", 2)
    return int(at), int(msat), warnings


def problems(shop: Shop) -> list[str]:
    """What is wrong with the node now, and what went wrong lately; empty when all is well."""
    told = []
    lost = Fact.get_or_none(Fact.name == LOST_AT)
    if lost and int(lost.value) > now() - TOLD_SECONDS:
        told.append(
            f"{clock_time(int(lost.value))}: {LOST_PAYMENT}; what it has was read again, and what "
            "was cleaned away before it was recorded is not in it: compare with `lightning-cli "
            "bkpr-listincome`"
        )
    warned = _warned()
    if warned and warned[0] > now() - DAY:
        told.append(
            f"{clock_time(warned[0])}: few wallets or none can pay {warned[1] // 1000} sat and "
            f"more, the node says ({warned[2]}): it needs channels through which so much can come"
        )
    try:
        return told + faults(shop)
    except NodeError as error:
        return [*told, str(error)]


def faults(shop: Shop) -> list[str]:
    """What in its settings and plugins may cost money or features. Raises NodeError."""
    told = []
    if shop.node.deletes_paid_invoices():
        told.append(
            "the node's autoclean deletes paid invoices: a payment could be lost; switch "
            "autoclean-paidinvoices off"
        )
    if not shop.node.keeps_books():
        told.append(
            "the node has no plugin `bookkeeper`: of an invoice that it does not know any more, "
            "nobody can say whether it was paid"
        )
    if not shop.node.makes_offers():
        told.append("the node has no plugin `offers`: hostings have no BOLT 12 offers")
    return told
