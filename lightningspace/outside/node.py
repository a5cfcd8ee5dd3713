"""The Lightning node (Core Lightning through pyln-client): invoices out, payments in."""

import json
import logging
import os
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

from pyln.client import LightningRpc, RpcError

from lightningspace.base import metrics
from lightningspace.base.clock import DAY
from lightningspace.base.refusals import Refusal

WEB_SECONDS = 5
WEB_CALLS_AT_ONCE = 3
# Calls take milliseconds. If no place is free after this time, the node is slow.
PLACE_SECONDS = 0.5
WORKER_SECONDS = 15

# Error codes of lightningd's calls for invoices and offers.
DUPLICATE_LABEL = 900
TIMED_OUT = 904
UNKNOWN_INVOICE = 905
WRONG_STATUS = 906
OFFER_EXISTS = 1000
IS_OFF = 1001
IS_ON = 1006
UNKNOWN_COMMAND = -32601

# Wallets can pay an invoice with this warning all the same.
IN_PARTS = "warning_mpp"
# The largest time that the node's bookkeeper accepts.
END_OF_TIME = 2**32 - 1

# pyln-client logs whole payloads, preimages included, at DEBUG.
_silent = logging.Logger("lightningspace.node.pyln", level=logging.CRITICAL + 1)


# By the network, what stands behind "ln" in invoices.
PREFIXES = {"testnet": "tb", "testnet4": "tb", "signet": "tbs", "regtest": "bcrt"}


class NodeError(Refusal):
    """The node did not do it, or did not say whether it did.

    `reason` is for the operator, `text` for whoever asked.
    """

    status, code, retry_after = 503, "node_down", 10
    text = "Our Lightning node does not answer."

    def __init__(self, reason: object):
        super().__init__()
        self.reason = str(reason)

    def __str__(self):
        return self.reason


@dataclass(frozen=True)
class Invoice:
    """`warnings`: why few or no wallets can pay it, as the node said when it made it."""

    label: str
    bolt11: str
    payment_hash: str
    expires_at: int
    warnings: tuple[str, ...] = field(default=(), compare=False)


@dataclass(frozen=True)
class Payment:
    """One paid invoice of the node, ours or another program's.

    `offer_id`: the BOLT 12 offer of the node that it was paid through. `payer_note`: the payer's
    message to that offer.
    """

    label: str
    payment_hash: str
    pay_index: int
    paid_at: int
    received_msat: int
    offer_id: str | None = None
    payer_note: str | None = None


@dataclass(frozen=True)
class Paid:
    """A payment with what its invoice says. `bolt11` None: it paid an offer; `asked_msat` None: for
    any amount.
    """

    payment: Payment
    bolt11: str | None
    description: str | None
    asked_msat: int | None


@dataclass(frozen=True)
class Offer:
    """A BOLT 12 offer, which anybody can pay any number of times while it is active."""

    id: str
    bolt12: str
    label: str | None
    is_active: bool


class Node:
    """One lightningd. It serves all threads; every call opens its own connection.

    With `calls_at_once`, further calls raise NodeError after a moment, so that a frozen node blocks
    no more threads than that.
    """

    def __init__(self, rpc_path: str, seconds: float, calls_at_once: int | None = None):
        self._rpc_path = rpc_path
        self._seconds = seconds
        self._places = threading.BoundedSemaphore(calls_at_once) if calls_at_once else None

    def create_invoice(
        self, label: str, msat: int, description: str, seconds: int, only_hash: bool = False
    ) -> Invoice:
        """Create an invoice that expires in `seconds`. The same label returns the same invoice.

        `only_hash`: it contains the SHA-256 of the description instead, as LUD-06 requires.
        """
        try:
            answer = self._call(
                "invoice",
                amount_msat=bounded(msat, 1, 10**15),
                label=label,
                description=description,
                expiry=bounded(seconds, 1, 10**7),
                **({"deschashonly": True} if only_hash else {}),
            )
        except NodeRefused as refused:
            if refused.rpc_code != DUPLICATE_LABEL:
                raise
            found = self.find_invoice(label)
            if found is None:
                raise NodeError("the node knows the label and does not find its invoice") from None
            return found
        metrics.INVOICES.inc()
        warnings = sorted(each for each in answer if each.startswith("warning_"))
        return Invoice(
            label,
            answer["bolt11"],
            answer["payment_hash"],
            answer["expires_at"],
            tuple(each for each in warnings if each != IN_PARTS),
        )

    def find_invoice(self, label: str) -> Invoice | None:
        entry = self._entry(label)
        if entry is None:
            return None
        return Invoice(label, entry["bolt11"], entry["payment_hash"], entry["expires_at"])

    def find_by_hash(self, payment_hash: str) -> tuple[Invoice, str | None] | None:
        """The invoice with this payment hash, and its preimage once it is paid."""
        entries = self._call("listinvoices", payment_hash=payment_hash)["invoices"]
        if not entries or "bolt11" not in entries[0]:
            return None
        entry = entries[0]
        invoice = Invoice(entry["label"], entry["bolt11"], payment_hash, entry["expires_at"])
        return invoice, entry["payment_preimage"] if entry["status"] == "paid" else None

    def find_paid(self, payment_hash: str) -> Paid | None:
        """The payment with this hash, and the invoice that it paid; None: the node has no such."""
        entries = self._call("listinvoices", payment_hash=payment_hash)["invoices"]
        if not entries or entries[0]["status"] != "paid":
            return None
        entry = entries[0]
        return Paid(
            _payment(entry), entry.get("bolt11"), entry.get("description"), entry.get("amount_msat")
        )

    def look_up(self, label: str) -> tuple[bool, Payment | None]:
        """Whether the node knows an invoice with `label`, and its payment (None: unpaid)."""
        entry = self._entry(label)
        is_paid = entry is not None and entry["status"] == "paid"
        return entry is not None, _payment(entry) if is_paid else None

    def find_preimage(self, label: str) -> str | None:
        """The preimage of the paid invoice with `label`; None if there is no such invoice."""
        entry = self._entry(label)
        return entry["payment_preimage"] if entry and entry["status"] == "paid" else None

    def delete_unpaid_invoice(self, label: str) -> bool | None:
        """Delete an unpaid invoice. False: it is paid. None: the node does not know it.

        The node decides at the moment of the call, so no payment can be lost. An invoice that it
        does not know may have been paid before the node was restored or cleaned.
        """
        status = "unpaid"
        for _ in range(3):  # it may expire between two calls
            try:
                self._call("delinvoice", label=label, status=status)
                return True
            except NodeRefused as refused:
                if refused.rpc_code == UNKNOWN_INVOICE:
                    return None
                if refused.rpc_code != WRONG_STATUS:
                    raise
                status = refused.data.get("current_status")
                if status == "paid":
                    return False
        raise NodeError("the node does not say what has become of an invoice")

    def income(self, since: int) -> dict[str, tuple[int, int]] | None:
        """Payments received since then, by payment hash: msat and time, for deleted invoices too.

        None: the node keeps no books.
        """
        try:
            answer = self._call(
                "bkpr-listincome",
                consolidate_fees=False,
                start_time=bounded(max(0, since), 0, END_OF_TIME),
            )
        except NodeRefused as refused:
            if refused.rpc_code != UNKNOWN_COMMAND:
                raise
            return None
        received: dict[str, tuple[int, int]] = {}
        for event in answer["income_events"]:
            payment_hash = event.get("payment_id")
            if event["tag"] == "invoice" and event["credit_msat"] and payment_hash:
                # A multi-part payment has several events.
                msat, at = received.get(payment_hash, (0, 0))
                together = msat + event["credit_msat"], max(at, event["timestamp"])
                received[payment_hash] = together
        return received

    def create_offer(self, label: str, description: str, issuer: str) -> Offer:
        """Create an offer of any amount. Each call makes another one."""
        answer = self._call(
            "offer", amount="any", label=label, description=description, issuer=issuer
        )
        return _offer(answer)

    def find_offer(self, offer_id: str) -> Offer | None:
        found = self._call("listoffers", offer_id=offer_id)["offers"]
        return _offer(found[0]) if found else None

    def find_offer_of(self, label: str) -> Offer | None:
        """The newest offer with this label. It reads all offers of the node."""
        found = [each for each in self._call("listoffers")["offers"] if each.get("label") == label]
        return _offer(found[-1]) if found else None

    def switch_offer(self, offer_id: str, active: bool) -> bool:
        """Enable or disable an offer. Disabling also voids the invoices already fetched from it.

        May be called twice. False: the node does not know it, so nobody can pay it.
        """
        found = self.find_offer(offer_id)
        if found is None:
            return False
        if found.is_active == active:
            return True
        try:
            self._call("enableoffer" if active else "disableoffer", offer_id=offer_id)
        except NodeRefused as refused:  # somebody else has done it since we looked
            if refused.rpc_code != (IS_ON if active else IS_OFF):
                raise
        return True

    def wait_for_payment(self, after: int, seconds: int) -> Payment | None:
        """The first payment with a pay_index above `after`; None if none comes within `seconds`."""
        try:
            answer = self._call(
                "waitanyinvoice",
                lastpay_index=bounded(after, 0, 2**62),
                timeout=seconds,
                time_limit=seconds + self._seconds,
            )
        except NodeRefused as refused:
            if refused.rpc_code == TIMED_OUT:
                return None
            raise
        return _payment(answer)

    def payments(self, since: int) -> Iterator[Payment]:
        """The payments since then, one after the other: ours, and those of other programs.

        Each is asked for by itself, for a list of all invoices could be of any length.
        """
        # From a day earlier, for a clock that was wrong.
        after = self._before(since - DAY)
        while payment := self.wait_for_payment(after, 0):
            if payment.paid_at >= since:
                yield payment
            after = payment.pay_index

    def _before(self, moment: int) -> int:
        """A pay_index that payments from this moment on are above."""

        def is_before(pay_index: int) -> bool:
            following = self.wait_for_payment(pay_index, 0)
            return following is not None and following.paid_at < moment

        low, high = -1, 0
        while is_before(high):
            low, high = high, max(1, 2 * high)
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if is_before(middle) else (low, middle)
        return high

    def has_payment(self, pay_index: int, payment_hash: str) -> bool:
        """Whether the node's payment with this pay_index still has this hash.

        A node restored from an older copy assigns the index again; a deleted payment has none.
        """
        found = self.wait_for_payment(pay_index - 1, 0)
        known = (pay_index, payment_hash)
        return found is not None and (found.pay_index, found.payment_hash) == known

    def node_id(self) -> str:
        return self._call("getinfo")["id"]

    def invoices_begin_with(self) -> str:
        """What stands behind "ln" in invoices of its network."""
        return PREFIXES.get(self._call("getinfo").get("network"), "bc")

    def deletes_paid_invoices(self) -> bool:
        """Whether autoclean deletes paid invoices, perhaps before we have seen them."""
        try:
            status = self._call("autoclean-status")["autoclean"].get("paidinvoices", {})
        except NodeRefused as refused:
            if refused.rpc_code != UNKNOWN_COMMAND:
                raise
            return False
        return bool(status.get("enabled"))

    def makes_offers(self) -> bool:
        """Whether it has the plugin for offers. Without an amount, this call creates none."""
        return self._knows("offer")

    def keeps_books(self) -> bool:
        """Whether it has the bookkeeper plugin, which knows payments of deleted invoices."""
        return self._knows("bkpr-listincome", consolidate_fees=False, start_time=END_OF_TIME)

    def _knows(self, method: str, **params) -> bool:
        try:
            self._call(method, **params)
        except NodeRefused as refused:
            return refused.rpc_code != UNKNOWN_COMMAND
        return True

    def _entry(self, label: str) -> dict | None:
        entries = self._call("listinvoices", label=label)["invoices"]
        return entries[0] if entries else None

    def _call(self, method: str, time_limit: float | None = None, **params):
        if self._places and not self._places.acquire(timeout=PLACE_SECONDS):
            raise NodeError("the node is slow: too many calls are waiting for it")
        rpc = _Rpc(self._rpc_path, time_limit or self._seconds)
        try:
            if time_limit:  # it waits for a payment, and says nothing of the node
                return rpc.call(method, params)
            with metrics.timed(metrics.NODE, RpcError):
                return rpc.call(method, params)
        except RpcError as error:
            raise _refusal(method, error) from None
        except TimeoutError:
            raise NodeError(f"the node did not answer {method}: it took too long") from None
        except OSError as error:
            kind = NodeError if rpc.has_asked else NodeUnreached
            raise kind(f"the node did not answer {method}: {error.strerror}") from None
        except (ValueError, KeyError, AttributeError) as error:
            reason = type(error).__name__
            raise NodeError(f"the node's answer to {method} is not readable: {reason}") from None
        finally:
            if self._places:
                self._places.release()


class NodeUnreached(NodeError):
    """The node was not asked: nobody listens at its socket."""


class NodeRefused(NodeError):
    """lightningd answered with an error."""

    def __init__(self, method: str, code: int, data: dict):
        super().__init__(f"the node refused {method} with code {code}")
        self.rpc_code = code
        self.data = data


class _Rpc(LightningRpc):
    """pyln-client's calls with a time limit; without one, a frozen node blocks them for ever."""

    def __init__(self, path: str, seconds: float):
        super().__init__(path, logger=_silent)
        self._deadline = time.monotonic() + seconds
        self.has_asked = False

    def call(self, method, payload=None, cmdprefix=None, filter=None):
        request_id = self.get_json_id(method, cmdprefix)
        with self._connect() as connection:
            self.has_asked = True
            self._writeobj(
                connection,
                {"jsonrpc": "2.0", "id": request_id, "method": method, "params": payload or {}},
            )
            answer = self._read(connection)
        if answer.get("id") != request_id:
            raise ValueError("an answer to another question")
        if "error" in answer:
            raise RpcError(method, None, answer["error"])
        return answer["result"]

    def _connect(self) -> socket.socket:
        # Through /proc, because the path of a unix socket is limited to 107 bytes.
        directory = os.open(os.path.dirname(os.path.abspath(self.socket_path)), os.O_DIRECTORY)
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connection.settimeout(self._left())
            connection.connect(f"/proc/self/fd/{directory}/{os.path.basename(self.socket_path)}")
        except BaseException:
            connection.close()
            raise
        finally:
            os.close(directory)
        return connection

    def _read(self, connection: socket.socket) -> dict:
        """One answer, which lightningd ends with an empty line."""
        received = bytearray()
        while not received.endswith(b"\n\n"):
            connection.settimeout(self._left())
            chunk = connection.recv(65536)
            if not chunk:
                raise ConnectionResetError(None, "it closed the connection")
            received += chunk
        return json.loads(received)

    def _left(self) -> float:
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        return left


def _refusal(method: str, error: RpcError) -> NodeError:
    # lightningd's text repeats what was sent; the code says enough.
    if not isinstance(error.error, dict):
        return NodeError(f"the node went away during {method}")
    return NodeRefused(method, error.error.get("code", 0), error.error.get("data") or {})


def _payment(entry: dict) -> Payment:
    return Payment(
        label=entry["label"],
        payment_hash=entry["payment_hash"],
        pay_index=entry["pay_index"],
        paid_at=entry["paid_at"],
        received_msat=entry["amount_received_msat"],
        offer_id=entry.get("local_offer_id"),
        payer_note=_as_typed(entry.get("invreq_payer_note")),
    )


def _as_typed(note: str | None) -> str | None:
    r"""The note without JSON's escapes, which a payer's lightningd sends (`\"` for `"`).

    A note that is not valid inside a JSON string, such as `\o/`, was not escaped: it stays.
    """
    if note is None or "\\" not in note:
        return note
    try:
        return json.loads(f'"{note}"')
    except ValueError:
        return note


def _offer(entry: dict) -> Offer:
    return Offer(entry["offer_id"], entry["bolt12"], entry.get("label"), entry["active"])


def bounded(value: int, least: int, most: int) -> int:
    """Refuse numbers out of range: lightningd crashes on some of them."""
    if type(value) is not int or not least <= value <= most:
        raise ValueError(f"{value} is not a whole number from {least} to {most}")
    return value
