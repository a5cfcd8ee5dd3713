"""Paying with the node: what somebody's invoice asks for, and what became of paying it."""

import hashlib
from dataclasses import dataclass

from lightningspace.outside.node import Node, NodeError, NodeRefused, bounded

# How long the node looks for routes, and what the fees may be: this much, or a hundredth of the
# amount if that is more. These are xpay's defaults.
PAY_SECONDS = 60
FEE_MSAT = 5000
# How long a BOLT 12 invoice is good if it does not say.
BOLT12_SECONDS = 2 * 60 * 60
# An invoice may name any number as its expiry: none is taken to be later than this.
END_OF_TIME = 2**40

INVALID_PARAMS = -32602
COMPLETE, PENDING, FAILED = "complete", "pending", "failed"


@dataclass(frozen=True)
class Asked:
    """What somebody's invoice or offer asks for. An offer has no payment hash.

    `msat` None: any amount. `payee` None: an offer that does not name its node.
    """

    payment_hash: str | None
    msat: int | None
    payee: str | None
    expires_at: int | None = None
    prefix: str | None = None  # behind "ln", of a BOLT 11 invoice
    description_hash: str | None = None
    offer_id: str | None = None


@dataclass(frozen=True)
class Sent:
    """What has become of a payment that the node was told to make. FAILED: no part of it is under
    way any more. `began_at`: when the attempt began.
    """

    status: str
    began_at: int
    preimage: str | None = None
    fee_msat: int | None = None


class PayingNode(Node):
    """A node that also pays."""

    def read(self, text: str) -> Asked | None:
        """What an invoice (BOLT 11 or 12) or an offer asks for; None: the text is neither."""
        try:
            found = self._call("decode", string=text)
        except NodeRefused as refused:
            if refused.rpc_code != INVALID_PARAMS:
                raise
            return None
        return _asked(found) if found.get("valid") else None

    def fetch_invoice(self, offer: str, msat: int) -> str:
        """A BOLT 12 invoice for somebody's offer. Raises NodeRefused when there is none."""
        amount = {"amount_msat": bounded(msat, 1, 10**15)}
        seconds = PAY_SECONDS // 2
        limit = seconds + self._seconds
        return self._call("fetchinvoice", limit, offer=offer, timeout=seconds, **amount)["invoice"]

    def pay(self, invoice: str, msat: int) -> None:
        """Pay `msat` for an invoice of this amount, unless it was paid before.

        Whatever this raises, the payment may be under way, and `sent` alone says what became of it.
        Only after NodeUnreached is it certain that nothing was begun.
        """
        fee_msat = max(FEE_MSAT, msat // 100)
        limit = PAY_SECONDS + self._seconds
        self._call("xpay", limit, invstring=invoice, maxfee=fee_msat, retry_for=PAY_SECONDS)

    def sent(self, payment_hash: str) -> Sent | None:
        """What has become of a payment; None: the node knows of none."""
        found = self._call("listpays", payment_hash=payment_hash)["pays"]
        if not found:
            return None
        # Of several attempts, the one that counts, or else the last.
        first = {COMPLETE: 0, PENDING: 1}
        entry = min(found, key=lambda each: (first.get(each["status"], 2), -each["created_at"]))
        began_at = int(entry["created_at"])
        if entry["status"] != COMPLETE:
            return Sent(entry["status"], began_at)
        preimage = entry["preimage"]
        if hashlib.sha256(bytes.fromhex(preimage)).hexdigest() != payment_hash:
            raise NodeError("the node names a preimage that is another payment's")
        amount_msat, sent_msat = entry.get("amount_msat"), entry["amount_sent_msat"]
        return Sent(COMPLETE, began_at, preimage, amount_msat and sent_msat - amount_msat)

    def note(self, *key: str, text: str) -> None:
        """Keep a text in the node's datastore, which no restore of our database touches."""
        self._call("datastore", key=list(key), string=text, mode="create-or-replace")

    def noted(self, *key: str) -> dict[str, str]:
        """The texts right below this key, by the last part of their keys."""
        found = self._call("listdatastore", key=list(key))["datastore"]
        return {each["key"][-1]: each["string"] for each in found if "string" in each}

    def find_text(self, payment_hash: str) -> str | None:
        """The text of the node's own invoice with this payment hash, BOLT 11 or 12."""
        entries = self._call("listinvoices", payment_hash=payment_hash)["invoices"]
        return (entries[0].get("bolt11") or entries[0].get("bolt12")) if entries else None


def _asked(found: dict) -> Asked | None:
    if found["type"] == "bolt12 offer":
        msat, payee = found.get("offer_amount_msat"), found.get("offer_issuer_id")
        return Asked(None, msat, payee, offer_id=found["offer_id"])
    if found["type"] == "bolt12 invoice":
        seconds = found.get("invoice_relative_expiry", BOLT12_SECONDS)
        return Asked(
            found["invoice_payment_hash"],
            found["invoice_amount_msat"],
            found["invoice_node_id"],
            min(END_OF_TIME, found["invoice_created_at"] + seconds),
        )
    if found["type"] != "bolt11 invoice":
        return None
    return Asked(
        found["payment_hash"],
        found.get("amount_msat"),
        found["payee"],
        min(END_OF_TIME, found["created_at"] + found["expiry"]),
        found["currency"],
        found.get("description_hash"),
    )
