"""A stand-in lightningd, and a customer's wallet that pays it, each on its own unix socket.

Both answer as lightningd v26.06.6 was recorded to answer, and pyln-client talks to either
as it does to the real one.
"""

import bisect
import codecs
import hashlib
import heapq
import inspect
import json
import os
import re
import secrets
import socket
import sqlite3
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from coincurve import PrivateKey

from lightningspace.base import clock
from lightningspace.sandbox import bolt11, bolt12
from lightningspace.sandbox.faults import Fault, Faults

INVALID_PARAMS = -32602
UNKNOWN_HINT = (
    "this may be caused by a failure to autodetect key=value-style parameters."
    " Please try using the -k flag and explicit key=value pairs of parameters."
)
WEEK = 7 * 24 * 3600
WALLET_CAPACITY_MSAT = 10_000_000_000

AMOUNT = re.compile(r"([0-9]{1,20})(msat|sat)?|([0-9]{1,10})(?:\.([0-9]{1,11}))?btc")

# Commands of plugins that lightningd can run without.
PLUGINS = {
    "autoclean": ("autoclean-status",),
    "bookkeeper": ("bkpr-listincome",),
    "offers": ("offer", "decode"),
}

# Characters that JSON writes as \u escapes, which lightningd does not read.
UNREADABLE = re.compile("[\x00-\x08\x0b-\x1f\ud800-\udfff]")


class RpcFailure(Exception):
    """Raised to answer a call with this error."""

    def __init__(self, code: int, message: str, data: dict | None = None):
        super().__init__(message)
        self.error = {"code": code, "message": message}
        if data is not None:
            self.error["data"] = data


class HungUp(Exception):
    """Raised to close the connection without an answer."""


@dataclass
class Invoice:
    label: str
    payment_hash: str
    preimage: str
    amount_msat: int | None
    description: str | None
    expires_at: int
    created_index: int
    bolt11: str | None = None
    bolt12: str | None = None
    local_offer_id: str | None = None
    invreq_payer_note: str | None = None
    status: str = "unpaid"
    pay_index: int | None = None
    amount_received_msat: int | None = None
    paid_at: int | None = None
    updated_index: int | None = None

    def shown(self) -> dict:
        """The invoice as listinvoices shows it, without fields that are not known."""
        shown = {name: value for name, value in vars(self).items() if value is not None}
        preimage = shown.pop("preimage")
        if self.status == "paid":
            shown["payment_preimage"] = preimage
        return shown


@dataclass
class Offer:
    offer_id: str
    bolt12: str
    label: str | None
    single_use: bool
    active: bool = True
    used: bool = False

    def shown(self) -> dict:
        """The offer as `offer` answers it; other commands also show its description."""
        shown = {name: value for name, value in vars(self).items() if value is not None}
        return shown | {"force_paths": False}

    def described(self) -> dict:
        description = bolt12.decode(self.bolt12).get("offer_description")
        return self.shown() | ({} if description is None else {"description": description})


@dataclass
class Copy:
    """A backup of the node."""

    counters: dict
    income: dict[str, dict]
    invoices: list[dict]
    offers: list[dict]
    sent: dict[str, dict]
    notes: dict[str, dict]


class SandboxNode:
    """The shop's node at `path`, and a customer's wallet at `wallet_path`.

    With a `store` everything survives a restart but the wallet's own invoices and offers; the same
    file is the same node. `calls` are the (method, params) that the node received.
    """

    def __init__(
        self,
        path: str | Path,
        wallet_path: str | Path | None = None,
        store: Path | None = None,
        faults: Faults | None = None,
    ):
        self.faults = faults or Faults()
        self.wallet_faults = Faults()
        self.autocleans_paid_invoices = False  # only reported, not done
        self.warnings: dict[str, str] = {}  # sent with each new invoice
        self.holds_payments = False  # payments that it sends stay pending until `end_held`
        self.ahead_seconds = 0  # how far its clock is ahead of ours
        self.told: dict = {}  # overrides fields of getinfo
        self.channel: dict | None = {}  # overrides fields of its only channel; None: it has none
        self._changed = threading.Condition(threading.RLock())
        self._waiters: list[list[Invoice]] = []
        self._records = _Records(store)
        self._load()
        self._node = _Endpoint(
            Path(path),
            {
                "autoclean-status": self._autoclean_status,
                "bkpr-listincome": self._listincome,
                "datastore": self._datastore,
                "decode": self._decode,
                "delinvoice": self._delinvoice,
                "disableoffer": self._disableoffer,
                "enableoffer": self._enableoffer,
                "fetchinvoice": self._fetch_for_node,
                "getinfo": lambda: self._getinfo(self.id, "sandbox", self._node.path) | self.told,
                "invoice": self._invoice,
                "listdatastore": self._listdatastore,
                "listinvoices": self._listinvoices,
                "listpeerchannels": self._listpeerchannels,
                "listoffers": self._listoffers,
                "listpays": self._listpays,
                "offer": self._offer,
                "waitanyinvoice": self._waitanyinvoice,
                "xpay": self._send,
            },
            self.faults,
        )
        self._wallet = self.purse = None
        if wallet_path is not None:
            # What the wallet receives is kept by a second node, which nobody connects to.
            self.purse = SandboxNode(wallet_path)
            self.purse._key, self.purse.id = self._wallet_key, self.wallet_id
            self._wallet = _Endpoint(
                Path(wallet_path),
                {
                    "fetchinvoice": self._fetchinvoice,
                    "getinfo": lambda: self._getinfo(self.wallet_id, "wallet", self._wallet.path),
                    "invoice": self.purse._invoice,
                    "listinvoices": self.purse._listinvoices,
                    "offer": self.purse._offer,
                    "pay": self._pay,
                    "xpay": self._xpay,
                },
                self.wallet_faults,
            )
        self.calls = self._node.calls

    def start(self) -> None:
        self._node.open()
        if self._wallet:
            self._wallet.open()

    def stop(self) -> None:
        """Close both sockets for good. The next SandboxNode with this store continues."""
        self.down()
        self._node.remove()
        if self._wallet:
            self._wallet.close()
            self._wallet.remove()
        with self._changed:
            self._records.close()

    def down(self) -> None:
        """Act as a stopped daemon: the socket file stays, and connections are refused."""
        self._node.close(self._wake)

    def up(self) -> None:
        self._node.open()

    def lose_plugin(self, name: str) -> None:
        """Run without this plugin from now on; its commands become unknown."""
        self._node.unknown |= set(PLUGINS[name])

    @property
    def waiting(self) -> int:
        """How many calls of waitanyinvoice are waiting right now."""
        return len(self._waiters)

    def settle(self, payment_hash_or_label: str, received_msat: int | None = None) -> dict:
        """Receive a payment of this invoice, and return the paid invoice.

        Raises ValueError where lightningd would refuse the payment: the invoice is unknown or no
        longer unpaid, or `received_msat` is below its amount or above twice that.
        """
        with self._changed:
            self._expire()
            invoice = self._find(payment_hash_or_label)
            if invoice is None:
                raise ValueError("no such invoice")
            if invoice.status != "unpaid":
                raise ValueError(f"the invoice is {invoice.status}")
            if received_msat is None:
                received_msat = invoice.amount_msat
            if not received_msat or received_msat < 0:
                raise ValueError("the invoice is for any amount: say how much is received")
            amount_msat = invoice.amount_msat or received_msat
            if not amount_msat <= received_msat <= 2 * amount_msat:
                raise ValueError("the payment is below the invoice's amount or above twice that")

            invoice.status = "paid"
            invoice.pay_index = self._next("pay")
            invoice.updated_index = self._next("updated")
            invoice.amount_received_msat = received_msat
            invoice.paid_at = clock.now()
            self._paid.append(invoice)
            self._keep_books(invoice)
            self._save(invoice)
            if invoice.local_offer_id in self._offers:
                self._use(self._offers[invoice.local_offer_id])

            # A call that is already waiting gets the next payment whatever its index, even the
            # lower ones of a restored node.
            for waiter in self._waiters:
                waiter.append(invoice)
            self._waiters.clear()
            self._changed.notify_all()
            return invoice.shown()

    def forget_newer_than(self, pay_index: int) -> None:
        """Restore a backup that was made right after this payment.

        The node keeps its id, but the later payments never happened here: their
        invoices are unpaid again, and pay_index continues from this payment.
        """
        with self._changed:
            kept = bisect.bisect_right(self._paid, pay_index, key=_by_pay_index)
            for invoice in self._paid[kept:]:
                invoice.status = "unpaid"
                invoice.pay_index = invoice.amount_received_msat = invoice.paid_at = None
                heapq.heappush(self._expiring, (invoice.expires_at, invoice.label))
                self._forget_income(invoice)
                self._records.put("invoice", invoice.label, vars(invoice))
            del self._paid[kept:]
            self._counters["pay"] = pay_index
            self._save()

    def copied(self) -> Copy:
        """A backup of the present state."""
        with self._changed:
            return Copy(
                dict(self._counters),
                dict(self._income),
                [dict(vars(invoice)) for invoice in self._by_hash.values()],
                [dict(vars(offer)) for offer in self._offers.values()],
                {payment_hash: dict(sent) for payment_hash, sent in self._sent.items()},
                dict(self._notes),
            )

    def restore(self, copy: Copy) -> None:
        """Restore a backup: nothing since then ever happened here.

        The wallet still knows what it paid. The node keeps its id, and pay_index continues from
        the backup.
        """
        with self._changed:
            known = {"invoice": self._by_label, "offer": self._offers, "income": self._income}
            known |= {"sent": self._sent, "note": self._notes}
            for kind, names in known.items():
                for name in names:
                    self._records.remove(kind, name)
            self._counters, self._income = dict(copy.counters), dict(copy.income)
            self._sent = {payment_hash: dict(sent) for payment_hash, sent in copy.sent.items()}
            self._notes = dict(copy.notes)
            kinds = {"income": self._income, "sent": self._sent, "note": self._notes}
            for kind, kept in kinds.items():
                for name, record in kept.items():
                    self._records.put(kind, name, record)
            self._know(
                [Offer(**record) for record in copy.offers],
                [Invoice(**record) for record in copy.invoices],
            )
            for offer in self._offers.values():
                self._records.put("offer", offer.offer_id, vars(offer))
            for invoice in self._by_label.values():
                self._records.put("invoice", invoice.label, vars(invoice))
            self._save()

    def forget_offer(self, offer_id: str) -> None:
        """Restore a backup made before this offer; its invoices and payments are lost as well."""
        with self._changed:
            del self._offers[offer_id]
            self._records.remove("offer", offer_id)
            for invoice in [i for i in self._by_hash.values() if i.local_offer_id == offer_id]:
                del self._by_label[invoice.label], self._by_hash[invoice.payment_hash]
                self._forget_income(invoice)
                self._records.remove("invoice", invoice.label)
            self._paid = [invoice for invoice in self._paid if invoice.local_offer_id != offer_id]
            self._save()

    # What is kept

    def _load(self) -> None:
        identity = self._records.get("node", "identity") or {
            "key": secrets.token_hex(32),
            "wallet_key": secrets.token_hex(32),
        }
        self._records.put("node", "identity", identity)
        self._key = PrivateKey.from_hex(identity["key"])
        self.id = self._key.public_key.format().hex()
        self._wallet_key = PrivateKey.from_hex(identity["wallet_key"])
        self.wallet_id = self._wallet_key.public_key.format().hex()
        self._counters = self._records.get("node", "counters") or {
            "created": 0,
            "updated": 0,
            "pay": 0,
        }
        self._counters.setdefault("sent", 0)  # an older sandbox's store has no such counter
        self._payments = self._records.all("payment")
        self._sent = self._records.all("sent")  # by payment hash, as listpays shows it
        self._notes = self._records.all("note")  # by key in JSON, as listdatastore shows it
        # What the bookkeeper plugin knows, including deleted invoices.
        self._income = self._records.all("income")
        self._know(
            [Offer(**record) for record in self._records.all("offer").values()],
            [Invoice(**record) for record in self._records.all("invoice").values()],
        )
        self._save()

    def _know(self, offers: list[Offer], invoices: list[Invoice]) -> None:
        self._offers = {offer.offer_id: offer for offer in offers}
        invoices.sort(key=lambda invoice: invoice.created_index)
        self._by_label = {invoice.label: invoice for invoice in invoices}
        self._by_hash = {invoice.payment_hash: invoice for invoice in invoices}
        self._paid = sorted((i for i in invoices if i.status == "paid"), key=_by_pay_index)
        self._expiring = [(i.expires_at, i.label) for i in invoices if i.status == "unpaid"]
        heapq.heapify(self._expiring)

    def _save(self, changed: Invoice | Offer | None = None) -> None:
        if isinstance(changed, Invoice):
            self._records.put("invoice", changed.label, vars(changed))
        if isinstance(changed, Offer):
            self._records.put("offer", changed.offer_id, vars(changed))
        self._records.put("node", "counters", self._counters)
        self._records.commit()

    def _next(self, counter: str) -> int:
        self._counters[counter] += 1
        return self._counters[counter]

    def _find(self, payment_hash_or_label: str) -> Invoice | None:
        return self._by_hash.get(payment_hash_or_label) or self._by_label.get(payment_hash_or_label)

    def _expire(self) -> None:
        now = clock.now()
        while self._expiring and self._expiring[0][0] <= now:
            expires_at, label = heapq.heappop(self._expiring)
            invoice = self._by_label.get(label)
            # The label of a deleted invoice may have been used again.
            if invoice and invoice.status == "unpaid" and invoice.expires_at == expires_at:
                invoice.status = "expired"
                invoice.updated_index = self._next("updated")
                self._save(invoice)

    def _wake(self) -> None:
        with self._changed:
            self._changed.notify_all()

    # The node's answers; parameters have lightningd's names

    def _getinfo(self, node_id: str, alias: str, path: Path) -> dict:
        return {
            "id": node_id,
            "alias": alias,
            "color": node_id[:6],
            "num_peers": 1,
            "num_pending_channels": 0,
            "num_active_channels": 1,
            "num_inactive_channels": 0,
            "address": [],
            "binding": [{"type": "ipv4", "address": "127.0.0.1", "port": 9735}],
            "version": "v26.06.6",
            "blockheight": 120,
            "network": "regtest",
            "fees_collected_msat": 0,
            "lightning-dir": str(path.parent),
            "our_features": {
                "init": "800898880a8a59a1",
                "node": "808898880a8a59a1",
                "channel": "",
                "invoice": "02000002024100",
            },
        }

    def _listpeerchannels(self, id=None) -> dict:
        """The fields that tell whether payments can come in. The real answer was not recorded."""
        if self.channel is None or id not in (None, self.wallet_id):
            return {"channels": []}
        channel = {
            "peer_id": self.wallet_id,
            "peer_connected": True,
            "state": "CHANNELD_NORMAL",
            "short_channel_id": "103x1x0",
            "private": False,
            "to_us_msat": 0,
            "total_msat": WALLET_CAPACITY_MSAT,
            "spendable_msat": 0,
            "receivable_msat": WALLET_CAPACITY_MSAT,
        }
        return {"channels": [channel | self.channel]}

    def _invoice(
        self,
        amount_msat,
        label,
        description,
        expiry=WEEK,
        preimage=None,
        # The stand-in has no private channels to expose.
        exposeprivatechannels=None,
        deschashonly=False,
    ) -> dict:
        amount_msat = _amount("amount_msat", amount_msat)
        label = _label(label)
        if not isinstance(description, str) or UNREADABLE.search(description):
            raise _invalid("description", "should be a string (without \\u)")
        expiry = _unsigned("expiry", expiry)
        preimage = _hex32("preimage", preimage) if preimage else secrets.token_hex(32)
        hash_only = _boolean("deschashonly", deschashonly)

        if len(label.encode()) > 128:
            raise RpcFailure(INVALID_PARAMS, f"Label '{label}' over 128 bytes")
        length = len(description.encode())
        if length > 639 and not hash_only:
            message = "Description greater than 639 bytes invalid"
            raise RpcFailure(INVALID_PARAMS, f"{message} (description length {length})")
        if expiry >= 2**60:
            # The real one crashes on this (and on negative numbers, which wrap to such).
            raise HungUp

        payment_hash = hashlib.sha256(bytes.fromhex(preimage)).hexdigest()
        payment_secret = payment_secret_of(preimage)
        created_at = clock.now() + self.ahead_seconds
        described = {"description": description}
        if hash_only:
            described = {"description_hash": hashlib.sha256(description.encode()).hexdigest()}
        with self._changed:
            if label in self._by_label:
                raise RpcFailure(900, f"Duplicate label '{label}'")
            if payment_hash in self._by_hash:
                raise RpcFailure(901, "preimage already used")
            invoice = Invoice(
                label=label,
                bolt11=bolt11.encode(
                    self._key,
                    payment_hash=payment_hash,
                    payment_secret=payment_secret,
                    created_at=created_at,
                    expiry=expiry,
                    amount_msat=amount_msat,
                    **described,
                ),
                payment_hash=payment_hash,
                preimage=preimage,
                amount_msat=amount_msat,
                description=description,
                expires_at=created_at + expiry,
                created_index=self._next("created"),
            )
            self._by_label[label] = self._by_hash[payment_hash] = invoice
            heapq.heappush(self._expiring, (invoice.expires_at, label))
            self._save(invoice)
        return {
            "payment_hash": payment_hash,
            "expires_at": invoice.expires_at,
            "bolt11": invoice.bolt11,
            "payment_secret": payment_secret,
            "created_index": invoice.created_index,
            **self.warnings,
        }

    def _listinvoices(self, label=None, invstring=None, payment_hash=None, offer_id=None) -> dict:
        if sum(chosen is not None for chosen in (label, invstring, payment_hash, offer_id)) > 1:
            message = "Can only specify one of {label}, {invstring}, {payment_hash} or {offer_id}"
            raise RpcFailure(INVALID_PARAMS, message)
        if payment_hash is not None:
            payment_hash = _hex32("payment_hash", payment_hash)
        elif invstring is not None:
            payment_hash = _terms("invstring", invstring)["payment_hash"]
        elif offer_id is not None:
            offer_id = _hex32("offer_id", offer_id)
        with self._changed:
            self._expire()
            if label is not None:
                found = [self._by_label.get(_label(label))]
            elif payment_hash is not None:
                found = [self._by_hash.get(payment_hash)]
            elif offer_id is not None:
                found = [i for i in self._by_label.values() if i.local_offer_id == offer_id]
            else:
                found = list(self._by_label.values())
            return {"invoices": [invoice.shown() for invoice in found if invoice]}

    def _waitanyinvoice(self, lastpay_index=0, timeout=None) -> dict:
        last = _unsigned("lastpay_index", lastpay_index)
        # The real one keeps it signed: every index is above -1 and 2^63.
        last -= 2**64 if last >= 2**63 else 0
        timeout = None if timeout is None else _unsigned("timeout", timeout)
        with self._changed:
            following = bisect.bisect_right(self._paid, last, key=_by_pay_index)
            if following < len(self._paid):
                return self._paid[following].shown()
            arrived: list[Invoice] = []
            self._waiters.append(arrived)
            self._changed.wait_for(
                lambda: arrived or self._node.closing.is_set(),
                None if timeout is None else min(timeout, threading.TIMEOUT_MAX),
            )
            if arrived:
                return arrived[0].shown()
            self._waiters = [waiter for waiter in self._waiters if waiter is not arrived]
            if self._node.closing.is_set():
                raise HungUp
            raise RpcFailure(904, "Timed out while waiting for invoice to be paid")

    def _delinvoice(self, label, status, desconly=False) -> dict:
        label = _label(label)
        if status not in ("paid", "expired", "unpaid"):
            raise _invalid("status", "should be 'paid', 'expired' or 'unpaid'")
        with self._changed:
            self._expire()
            invoice = self._by_label.get(label)
            if invoice is None:
                raise RpcFailure(905, "Unknown invoice")
            if invoice.status != status:
                raise RpcFailure(
                    906,
                    f"Invoice status is {invoice.status} not {status}",
                    {"current_status": invoice.status, "expected_status": status},
                )
            if _boolean("desconly", desconly):
                return self._delete_description(invoice)
            del self._by_label[label], self._by_hash[invoice.payment_hash]
            if invoice.pay_index is not None:
                del self._paid[bisect.bisect_left(self._paid, invoice.pay_index, key=_by_pay_index)]
            self._records.remove("invoice", label)
            self._save()
            return invoice.shown()

    def _delete_description(self, invoice: Invoice) -> dict:
        if invoice.description is None:
            raise RpcFailure(908, "Invoice description already removed")
        invoice.description = None
        # The recorded answer lacks the updated_index that later ones have.
        shown = invoice.shown()
        invoice.updated_index = self._next("updated")
        self._save(invoice)
        return shown

    def _decode(self, string) -> dict:
        return _bolt12("string", string) if bolt12.is_bolt12(string) else _bolt11("string", string)

    def _offer(
        self,
        amount,
        description=None,
        issuer=None,
        label=None,
        quantity_max=None,
        absolute_expiry=None,
        single_use=False,
    ) -> dict:
        foreign = isinstance(amount, str) and re.fullmatch(r"[0-9.]+[A-Z]{3}", amount)
        amount_msat = None if foreign else _amount("amount", amount)
        for name, text in (("description", description), ("issuer", issuer), ("label", label)):
            if text is not None and (not isinstance(text, str) or UNREADABLE.search(text)):
                raise _invalid(name, "should be a string (without \\u)")
        if quantity_max is not None:
            quantity_max = _unsigned("quantity_max", quantity_max)
        if absolute_expiry is not None:
            absolute_expiry = _unsigned("absolute_expiry", absolute_expiry)
        single_use = _boolean("single_use", single_use)
        if description is None and (foreign or amount_msat is not None):
            wanted = "description is required for the user to know what it was they paid for"
            raise _invalid("description", wanted)
        if foreign:
            raise RpcFailure(-32601, "Unknown command 'currencyconvert'")

        text = bolt12.encode_offer(
            self.id,
            amount_msat=amount_msat,
            description=description,
            issuer=issuer,
            absolute_expiry=absolute_expiry,
            quantity_max=quantity_max,
            # The wallet is the node's only peer, so every path to the node begins with it.
            first_node_id=self.wallet_id,
        )
        with self._changed:
            offer = Offer(bolt12.decode(text)["offer_id"], text, label, single_use)
            self._offers[offer.offer_id] = offer
            self._save(offer)
            return offer.shown() | {"created": True}

    def _listoffers(self, offer_id=None, active_only=False) -> dict:
        active_only = _boolean("active_only", active_only)
        if offer_id is not None:
            offer_id = _hex32("offer_id", offer_id)
        with self._changed:
            found = [
                self._offers[found_id].described()
                for found_id in sorted(self._offers)
                if offer_id in (None, found_id)
            ]
        return {"offers": [offer for offer in found if offer["active"] or not active_only]}

    def _disableoffer(self, offer_id) -> dict:
        with self._changed:
            offer = self._known_offer(offer_id)
            if not offer.active:
                raise RpcFailure(1001, "offer is not active")
            self._switch_off(offer)
            return offer.described()

    def _enableoffer(self, offer_id) -> dict:
        with self._changed:
            offer = self._known_offer(offer_id)
            if offer.active:
                raise RpcFailure(1006, "offer already active")
            if offer.single_use and offer.used:
                raise RpcFailure(1007, "cannot activate an used single use offer")
            offer.active = True
            self._save(offer)
            return offer.described()

    def _known_offer(self, offer_id) -> Offer:
        offer = self._offers.get(_hex32("offer_id", offer_id))
        if offer is None:
            raise RpcFailure(-1, "Unknown offer")
        return offer

    def _use(self, offer: Offer) -> None:
        offer.used = True
        if offer.single_use and offer.active:
            self._switch_off(offer)
        self._save(offer)

    def _switch_off(self, offer: Offer) -> None:
        """Disable an offer, and the invoices that were fetched from it."""
        offer.active = False
        for invoice in self._by_label.values():
            if invoice.local_offer_id == offer.offer_id and invoice.status == "unpaid":
                invoice.status = "expired"
                self._records.put("invoice", invoice.label, vars(invoice))
        self._save(offer)

    def _answer(self, request: str) -> str:
        """The invoice for a payer's request. Raises ValueError with the reason why not."""
        asked = bolt12.decode(request)
        now = clock.now()
        offer = self._offers.get(asked["offer_id"])
        if offer is None:
            raise ValueError("Unknown offer")
        if not offer.active:
            raise ValueError("Offer no longer available")
        ends_at = asked.get("offer_absolute_expiry", now + bolt12.DEFAULT_EXPIRY)
        if now >= ends_at:
            raise ValueError("Offer expired")
        amount_msat = asked.get("invreq_amount_msat")
        if "offer_amount_msat" in asked:
            least = asked["offer_amount_msat"] * asked.get("invreq_quantity", 1)
            if least >= 2**64:
                raise ValueError(f"quantity {asked['invreq_quantity']} causes overflow")
            amount_msat = least if amount_msat is None else amount_msat
            if amount_msat < least:
                raise ValueError(f"Amount must be at least {least}msat")
            if amount_msat // 5 > least:
                raise ValueError(f"Amount vastly exceeds {least}msat")

        preimage = secrets.token_hex(32)
        payment_hash = hashlib.sha256(bytes.fromhex(preimage)).hexdigest()
        expiry = min(bolt12.DEFAULT_EXPIRY, ends_at - now)
        invoice = Invoice(
            label=f"{offer.offer_id}-{asked['invreq_payer_id']}-0",
            bolt12=bolt12.encode_invoice(
                self._key,
                request,
                payment_hash=payment_hash,
                created_at=now,
                amount_msat=amount_msat,
                expiry=expiry,
            ),
            payment_hash=payment_hash,
            preimage=preimage,
            amount_msat=amount_msat,
            description=asked.get("offer_description"),
            expires_at=now + expiry,
            created_index=self._next("created"),
            local_offer_id=offer.offer_id,
            invreq_payer_note=asked.get("invreq_payer_note"),
        )
        self._by_label[invoice.label] = self._by_hash[payment_hash] = invoice
        heapq.heappush(self._expiring, (invoice.expires_at, invoice.label))
        self._save(invoice)
        return invoice.bolt12

    def _autoclean_status(self, subsystem=None) -> dict:
        idle = (
            "succeededforwards failedforwards succeededpays failedpays paidinvoices expiredinvoices"
        )
        status = {name: {"enabled": False, "cleaned": 0} for name in idle.split()}
        if self.autocleans_paid_invoices:
            status["paidinvoices"] = {"enabled": True, "age": 3600, "cleaned": 0}
        status["networkevents"] = {"enabled": True, "age": 30 * 24 * 3600, "cleaned": 0}
        if subsystem is not None and subsystem not in status:
            raise _invalid("subsystem", "should be a subsystem")
        return {"autoclean": {k: v for k, v in status.items() if subsystem in (None, k)}}

    def _listincome(self, consolidate_fees=True, start_time=0, end_time=2**32 - 1) -> dict:
        _boolean("consolidate_fees", consolidate_fees)
        start, end = _unsigned("start_time", start_time), _unsigned("end_time", end_time)
        with self._changed:
            return {
                "income_events": [
                    event for event in self._income.values() if start < event["timestamp"] <= end
                ]
            }

    def _forget_income(self, invoice: Invoice) -> None:
        if self._income.pop(invoice.payment_hash, None):
            self._records.remove("income", invoice.payment_hash)

    def _keep_books(self, invoice: Invoice) -> None:
        event = {
            "account": hashlib.sha256(self.id.encode()).hexdigest(),  # its channel
            "tag": "invoice",
            "credit_msat": invoice.amount_received_msat,
            "debit_msat": 0,
            "currency": "bcrt",
            "timestamp": invoice.paid_at,
            "description": invoice.description or "",
            "payment_id": invoice.payment_hash,
        }
        self._income[invoice.payment_hash] = event
        self._records.put("income", invoice.payment_hash, event)

    # Payments that the node sends, and its datastore. No answers of listpays and the datastore were
    # recorded: these follow lightningd's schemas.

    def _fetch_for_node(
        self, offer, amount_msat=None, quantity=None, timeout=60, payer_note=None
    ) -> dict:
        if not self.purse:
            raise RpcFailure(1003, "Failed: could not route or connect directly to another node")
        asked = (offer, amount_msat, quantity, timeout, payer_note)
        return self._fetch_from(self.purse, self.wallet_id, *asked)

    def _send(self, invstring, amount_msat=None, maxfee=None, retry_for=60, maxdelay=2016) -> dict:
        """Answer xpay. It can pay only the wallet, and takes no fee."""
        for name, value in (("retry_for", retry_for), ("maxdelay", maxdelay), ("maxfee", maxfee)):
            _unsigned(name, 0 if value is None else value)
        terms = _terms("invstring", invstring)
        payment_hash, asked_msat = terms["payment_hash"], terms.get("amount_msat")
        if (asked_msat is None) == (amount_msat is None):
            message = "amount_msat required" if asked_msat is None else "amount_msat unnecessary"
            raise RpcFailure(INVALID_PARAMS, message)
        amount_msat = asked_msat or _amount("amount_msat", amount_msat)
        with self._changed:
            before = self._sent.get(payment_hash, {}).get("status")
            if before == "complete":
                raise RpcFailure(219, "Already paid")
            if before == "pending":
                raise RpcFailure(200, "Payment is in progress")
            late = clock.now() - terms["created_at"] - terms["expiry"]
            if late >= 0:
                raise RpcFailure(207, f"Invoice expired {late} seconds ago")
            if not self.purse or terms["payee"] != self.wallet_id:
                raise RpcFailure(205, "Failed: We could not find a usable set of paths.")
            self._keep_sent(
                payment_hash=payment_hash,
                status="pending",
                destination=terms["payee"],
                created_at=clock.now(),
                amount_msat=amount_msat,
                amount_sent_msat=amount_msat,
                created_index=self._next("sent"),
                **{"bolt12" if bolt12.is_bolt12(invstring) else "bolt11": invstring},
            )
            if self.holds_payments:
                raise RpcFailure(209, "Timed out after after 1 attempts. 1 outstanding")
            paid = self.end_held(payment_hash)
        if paid["status"] == "failed":
            said = "incorrect_or_unknown_payment_details"
            raise RpcFailure(203, f"Destination said it doesn't know invoice: {said}")
        return {
            "payment_preimage": paid["preimage"],
            "amount_msat": amount_msat,
            "amount_sent_msat": paid["amount_sent_msat"],
            "failed_parts": 0,
            "successful_parts": 1,
        }

    def end_held(self, payment_hash: str, arrives: bool = True) -> dict:
        """Let a held payment arrive or fail, and return it as listpays shows it."""
        with self._changed:
            sent, invoice = self._sent[payment_hash], self.purse._find(payment_hash)
            try:
                if not invoice or not arrives:
                    raise ValueError("no such invoice")
                if invoice.status == "expired":  # the held payment was sent in time
                    invoice.status = "unpaid"
                self.purse.settle(payment_hash, sent["amount_msat"])
            except ValueError:
                return self._keep_sent(**{**sent, "status": "failed", "amount_msat": None})
            proof = {"preimage": invoice.preimage, "completed_at": clock.now()}
            return self._keep_sent(**{**sent, "status": "complete"} | proof)

    def _keep_sent(self, payment_hash: str, **facts) -> dict:
        sent = {name: value for name, value in facts.items() if value is not None}
        self._sent[payment_hash] = {"payment_hash": payment_hash, **sent}
        self._records.put("sent", payment_hash, self._sent[payment_hash])
        self._save()
        return self._sent[payment_hash]

    def _listpays(self, bolt11=None, payment_hash=None, status=None) -> dict:
        if payment_hash is not None:
            payment_hash = _hex32("payment_hash", payment_hash)
        elif bolt11 is not None:
            payment_hash = _terms("bolt11", bolt11)["payment_hash"]
        with self._changed:
            found = self._sent.values() if payment_hash is None else [self._sent.get(payment_hash)]
            return {
                "pays": [dict(each) for each in found if each and status in (None, each["status"])]
            }

    def _datastore(self, key, string=None, mode="must-create") -> dict:
        name = json.dumps(_key(key))
        if not _is_text(string) or mode not in ("must-create", "create-or-replace"):
            raise RpcFailure(INVALID_PARAMS, "string and mode: not as this stand-in knows them")
        with self._changed:
            before = self._notes.get(name)
            if before and mode == "must-create":
                raise RpcFailure(1202, "Key already exists")
            generation = before["generation"] + 1 if before else 0
            noted = {"key": _key(key), "generation": generation}
            noted |= {"hex": string.encode().hex(), "string": string}
            self._notes[name] = noted
            self._records.put("note", name, noted)
            self._save()
            return noted

    def _listdatastore(self, key=()) -> dict:
        """A key's own value, or the keys right below it; deeper keys are cut to that level."""
        asked, found = _key(key), {}
        with self._changed:
            for noted in self._notes.values():
                its = noted["key"]
                if its == asked or its[:-1] == asked:
                    found[tuple(its)] = dict(noted)
                elif its[: len(asked)] == asked:
                    nearest = its[: len(asked) + 1]
                    found[tuple(nearest)] = {"key": nearest}
        return {"datastore": [found[each] for each in sorted(found)]}

    # What the wallet answers

    def _fetchinvoice(
        self, offer, amount_msat=None, quantity=None, timeout=60, payer_note=None
    ) -> dict:
        """Ask the offer's node for an invoice.

        The note is sent unescaped: this wallet stands for all those that are not lightningd's.
        """
        return self._fetch_from(
            self if self._node.is_open else None,
            *(self.id, offer, amount_msat, quantity, timeout, payer_note),
        )

    def _fetch_from(self, payee, payee_id, offer, amount_msat, quantity, timeout, payer_note):
        """`payee`: the node that issued the offer; None: it is down. `payee_id`: its id."""
        terms = _bolt12("offer", offer, "lno")
        _unsigned("timeout", timeout)
        if amount_msat is not None and (amount_msat := _amount("amount_msat", amount_msat)) is None:
            raise _invalid("amount_msat", "should be a millisatoshi amount")
        if payer_note is not None and not _is_text(payer_note):
            raise _invalid("payer_note", "should be a string")
        if clock.now() > terms.get("offer_absolute_expiry", clock.now()):
            raise RpcFailure(1002, "Offer expired")
        if amount_msat is None and "offer_amount_msat" not in terms:
            raise RpcFailure(INVALID_PARAMS, "amount_msat parameter required")
        quantity = _quantity(quantity, terms.get("offer_quantity_max"))

        request = bolt12.encode_request(
            PrivateKey(),
            offer,
            metadata=secrets.token_bytes(16),
            amount_msat=amount_msat,
            quantity=quantity,
            payer_note=payer_note,
        )
        with self._changed:
            if terms.get("offer_issuer_id") != payee_id:
                message = "Failed: could not route or connect directly to another node"
                raise RpcFailure(1003, message)
            if payee is None:
                raise RpcFailure(1005, "Timeout waiting for response")
            try:
                return {"invoice": payee._answer(request), "changes": {}}
            except ValueError as reason:
                raise RpcFailure(
                    1004,
                    "Remote node sent failure message",
                    {"error": f"Failed invreq {request}: {reason}"},
                ) from reason

    def _xpay(self, invstring, amount_msat=None, retry_for=60, payer_note=None) -> dict:
        """Pay an invoice, or an offer by fetching an invoice from it."""
        if isinstance(invstring, str) and invstring.lower().startswith("lno1"):
            fetched = self._fetchinvoice(invstring, amount_msat, payer_note=payer_note)
            invstring, amount_msat = fetched["invoice"], None
        paid = self._pay(invstring, amount_msat, retry_for)
        shown = {name: paid[name] for name in ("payment_preimage", "amount_msat")}
        shown["amount_sent_msat"] = paid["amount_sent_msat"]
        return shown | {"failed_parts": 0, "successful_parts": 1}

    def _pay(self, bolt11, amount_msat=None, retry_for=60) -> dict:
        _unsigned("retry_for", retry_for)
        if amount_msat is not None:
            amount_msat = _amount("amount_msat", amount_msat)
        try:
            terms = _terms("bolt11", bolt11)
        except RpcFailure as failure:
            kind = "bolt12" if bolt12.is_bolt12(bolt11) else "bolt11"
            raise RpcFailure(INVALID_PARAMS, f"Invalid {kind}: {failure.__cause__}") from failure
        payment_hash = terms["payment_hash"]
        if "amount_msat" in terms and amount_msat is not None:
            raise RpcFailure(INVALID_PARAMS, "amount_msat parameter unnecessary")
        amount_msat = terms.get("amount_msat", amount_msat)
        if amount_msat is None:
            raise RpcFailure(INVALID_PARAMS, "amount_msat required")

        with self._changed:
            if payment_hash in self._payments:
                first = self._payments[payment_hash]
                # The real one's first answer has fractions of a second, later ones do not.
                return {**first, "created_at": int(first["created_at"])}
            late = clock.now() - terms["created_at"] - terms["expiry"]
            if late >= 0:
                raise RpcFailure(207, f"Invoice expired {late} seconds ago")
            if not self._node.is_open or terms["payee"] != self.id:
                raise RpcFailure(205, "Failed: We could not find a usable set of paths.")
            if amount_msat > WALLET_CAPACITY_MSAT:
                raise RpcFailure(
                    205,
                    "Failed: We could not find a usable set of paths. Total source capacity is "
                    f"only {WALLET_CAPACITY_MSAT}msat (in 1 channels).",
                )
            invoice = self._by_hash.get(payment_hash)
            try:
                # The node does not see the text that is paid, only hash and secret.
                # The secret of a BOLT 12 invoice is in a path; the signature vouches for it.
                secret = terms.get("payment_secret")
                if not invoice or secret not in (None, payment_secret_of(invoice.preimage)):
                    raise ValueError("no such invoice")
                self.settle(payment_hash, amount_msat)
            except ValueError as error:
                said = "incorrect_or_unknown_payment_details"
                message = f"Destination said it doesn't know invoice: {said}"
                raise RpcFailure(203, message) from error
            payment = {
                "payment_preimage": invoice.preimage,
                "amount_msat": amount_msat,
                "amount_sent_msat": amount_msat,
                "parts": 1,
                "destination": self.id,
                "payment_hash": payment_hash,
                "status": "complete",
                "created_at": float(clock.now()),
            }
            self._payments[payment_hash] = payment
            self._records.put("payment", payment_hash, payment)
            self._records.commit()
            return payment


def payment_secret_of(preimage: str) -> str:
    flipped = bytearray.fromhex(preimage)
    flipped[0] ^= 1
    return hashlib.sha256(flipped).hexdigest()


def _by_pay_index(invoice: Invoice) -> int:
    return invoice.pay_index


# Parameters as lightningd reads them


def _invalid(name: str, wanted: str) -> RpcFailure:
    message = f"{name}: {wanted}: invalid token (see logs for details)"
    return RpcFailure(INVALID_PARAMS, message)


def _amount(name: str, value) -> int | None:
    """Read an amount; None stands for "any"."""
    if value == "any":
        return None
    parsed = AMOUNT.fullmatch(str(value)) if type(value) in (int, str) else None
    if parsed is None:
        amount_msat = 0
    elif parsed[3] is None:
        amount_msat = int(parsed[1]) * (1000 if parsed[2] == "sat" else 1)
    else:
        amount_msat = int(parsed[3] + (parsed[4] or "").ljust(11, "0"))
    if not 0 < amount_msat < 2**64:
        raise _invalid(name, "should be positive msat or 'any'")
    return amount_msat


def _label(value) -> str:
    if type(value) not in (int, float, str):
        raise _invalid("label", "should be a string or number")
    return str(value)


def _unsigned(name: str, value) -> int:
    """Read an unsigned number; negative ones wrap around, as in the real one."""
    if type(value) is str and re.fullmatch("-?[0-9]{1,20}", value):
        value = int(value)
    if type(value) is not int or not -(2**63) <= value < 2**64:
        raise _invalid(name, "should be an unsigned 64 bit integer")
    return value % 2**64


def _boolean(name: str, value) -> bool:
    if type(value) is not bool and value not in ("true", "false"):
        raise _invalid(name, "should be 'true' or 'false'")
    return value in (True, "true")


def _hex32(name: str, value) -> str:
    if not isinstance(value, str) or not re.fullmatch("[0-9a-fA-F]{64}", value):
        raise _invalid(name, "should be a 32 byte hex value")
    return value.lower()


def _bolt11(name: str, value) -> dict:
    text = value.removeprefix("lightning:") if isinstance(value, str) else ""
    try:
        return bolt11.decode(text)
    except bolt11.Bolt11Error as error:
        wrong = str(error) if text.lower().startswith("ln") else "Unparsable string"
        raise _invalid(name, wrong) from error


def _bolt12(name: str, value, prefix: str = "ln") -> dict:
    text = value if isinstance(value, str) else ""
    try:
        if not text.lower().startswith(prefix):
            raise bolt12.Bolt12Error(f"unexpected prefix {text[:3].lower()}")
        return bolt12.decode(text)
    except bolt12.Bolt12Error as error:
        wrong = f"Unparsable offer: {error}" if prefix == "lno" else str(error)
        raise _invalid(name, wrong) from error


def _terms(name: str, value) -> dict:
    """Read a BOLT 11 or BOLT 12 invoice into what a payer needs."""
    if not bolt12.is_bolt12(value):
        return _bolt11(name, value)
    terms = _bolt12(name, value, "lni")
    return {
        "payment_hash": terms["invoice_payment_hash"],
        "amount_msat": terms["invoice_amount_msat"],
        "created_at": terms["invoice_created_at"],
        "expiry": terms["invoice_relative_expiry"],
        "payee": terms["invoice_node_id"],
    }


def _key(value) -> list[str]:
    """Read a key of the datastore; one value stands for an array of it."""
    key = [value] if isinstance(value, str) else value
    if not isinstance(key, list | tuple) or not all(map(_is_text, key)):
        raise _invalid("key", "should be an array or string")
    return list(key)


def _quantity(value, most: int | None) -> int | None:
    if most is None:
        if value is not None:
            raise RpcFailure(INVALID_PARAMS, "quantity parameter unnecessary")
        return None
    if value is None:
        raise RpcFailure(INVALID_PARAMS, "quantity parameter required")
    quantity = _unsigned("quantity", value)
    if quantity == 0:
        raise RpcFailure(INVALID_PARAMS, "quantity parameter must be non-zero")
    if most and quantity > most:
        raise RpcFailure(INVALID_PARAMS, f"quantity must be <= {most}")
    return quantity


def _is_text(value) -> bool:
    """Whether it can be encoded in UTF-8."""
    return isinstance(value, str) and not re.search("[\ud800-\udfff]", value)


class _Records:
    """Keyed JSON records in an SQLite file, or nowhere. Callers hold the node's lock."""

    def __init__(self, store: Path | None):
        self._database = None
        if store is None:
            return
        self._database = sqlite3.connect(store, check_same_thread=False)
        # A crash of the machine may lose the last writes: no real money is in here.
        self._database.execute("PRAGMA synchronous = OFF")
        self._database.execute("PRAGMA journal_mode = WAL")
        self._database.execute(
            "CREATE TABLE IF NOT EXISTS records (kind TEXT, name TEXT, value TEXT NOT NULL,"
            " PRIMARY KEY (kind, name))"
        )

    def all(self, kind: str) -> dict[str, dict]:
        if self._database is None:
            return {}
        query = "SELECT name, value FROM records WHERE kind = ?"
        return {name: json.loads(value) for name, value in self._database.execute(query, (kind,))}

    def get(self, kind: str, name: str) -> dict | None:
        return self.all(kind).get(name)

    def put(self, kind: str, name: str, value: dict) -> None:
        if self._database is not None:
            row = (kind, name, json.dumps(value))
            self._database.execute("INSERT OR REPLACE INTO records VALUES (?, ?, ?)", row)

    def remove(self, kind: str, name: str) -> None:
        if self._database is not None:
            row = (kind, name)
            self._database.execute("DELETE FROM records WHERE kind = ? AND name = ?", row)

    def commit(self) -> None:
        if self._database is not None:
            self._database.commit()

    def close(self) -> None:
        """Close the database, and store nothing from now on."""
        if self._database is not None:
            self._database.close()
            self._database = None


class _Endpoint:
    """JSON-RPC on a unix socket, with a thread for each connection."""

    def __init__(self, path: Path, methods: dict[str, Callable[..., dict]], faults: Faults):
        self.path = path
        self.calls: list[tuple[str, dict | list]] = []
        self.closing = threading.Event()
        self.unknown: set[str] = set()
        self._methods = methods
        self._faults = faults
        self._listener: socket.socket | None = None
        self._lock = threading.Lock()
        self._connections: dict[socket.socket, threading.Thread] = {}

    @property
    def is_open(self) -> bool:
        return self._listener is not None

    def open(self) -> None:
        if self.is_open:
            return
        self.closing.clear()
        self._faults.thawed.clear()
        self.remove()
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        # The kernel accepts paths up to 107 bytes, and temporary directories can be longer.
        directory = os.open(self.path.parent, os.O_DIRECTORY | os.O_RDONLY)
        try:
            listener.bind(f"/proc/self/fd/{directory}/{self.path.name}")
        finally:
            os.close(directory)
        self.path.chmod(0o600)
        listener.listen(128)
        self._listener = listener
        self._accepting = threading.Thread(target=self._accept, args=(listener,), daemon=True)
        self._accepting.start()

    def close(self, wake: Callable[[], None] = lambda: None) -> None:
        """Close everything. `wake` wakes calls that sleep elsewhere, so that they see `closing`."""
        if not self.is_open:
            return
        self.closing.set()
        self._faults.thawed.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._accepting.join()
        self._listener.close()
        self._listener = None
        with self._lock:
            connections = dict(self._connections)
        for connection in connections:
            _hang_up(connection)
        wake()
        for thread in connections.values():
            thread.join()

    def remove(self) -> None:
        self.path.unlink(missing_ok=True)

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            thread = threading.Thread(target=self._serve, args=(connection,), daemon=True)
            with self._lock:
                self._connections[connection] = thread
            thread.start()

    def _serve(self, connection: socket.socket) -> None:
        try:
            for request in _requests(connection):
                answer = self._answer(request)
                connection.sendall(json.dumps(answer).encode() + b"\n\n")
        except (HungUp, OSError, UnicodeError):
            pass
        finally:
            with self._lock:
                del self._connections[connection]
            _hang_up(connection)
            connection.close()

    def _answer(self, request: dict) -> dict:
        answer = {"jsonrpc": "2.0", "id": request.get("id")}
        method, params = request.get("method"), request.get("params", {})
        if not isinstance(method, str) or not isinstance(params, dict | list):
            return answer | {"error": {"code": -32600, "message": "Invalid request"}}
        self.calls.append((method, params))
        fault = self._faults.take(method)
        try:
            if fault is not None:
                self._suffer(fault)
            answer["result"] = self._call(method, params)
        except RpcFailure as failure:
            answer["error"] = failure.error
        if fault is not None and fault.kind == "cut-after":
            raise HungUp
        return answer

    def _suffer(self, fault: Fault) -> None:
        if fault.kind == "slow":
            if self.closing.wait(fault.seconds):
                raise HungUp
        elif fault.kind == "frozen":
            self._faults.thawed.wait()
            raise HungUp
        elif fault.kind == "late":
            self._faults.thawed.wait()
            if self.closing.is_set():
                raise HungUp
        elif fault.kind == "refuse":
            # "205: no route" sets the error's code.
            parsed = re.fullmatch(r"(?:(-?[0-9]+): *)?(.*)", fault.message, re.S)
            raise RpcFailure(int(parsed[1] or -1), parsed[2])
        elif fault.kind == "cut-before":
            raise HungUp

    def _call(self, method: str, params: dict | list) -> dict:
        answer = self._methods.get(method)
        if answer is None or method in self.unknown:
            raise RpcFailure(-32601, f"Unknown command '{method}'")
        return answer(**_named(answer, params))


def _named(answer: Callable[..., dict], params: dict | list) -> dict:
    """Match the given parameters to the method's; null is the same as leaving one out."""
    known = inspect.signature(answer).parameters
    if isinstance(params, list):
        if len(params) > len(known):
            message = f"too many parameters: got {len(params)}, expected {len(known)}"
            raise RpcFailure(INVALID_PARAMS, message)
        params = dict(zip(known, params, strict=False))
    for name in params:
        if name not in known:
            raise RpcFailure(INVALID_PARAMS, f"unknown parameter: {name}, {UNKNOWN_HINT}")
    required = [name for name, known_as in known.items() if known_as.default is known_as.empty]
    for name in required:
        if name not in params:
            raise RpcFailure(INVALID_PARAMS, f"missing required parameter: {name}")
    return {name: value for name, value in params.items() if value is not None or name in required}


def _requests(connection: socket.socket):
    """The JSON objects in a stream, however it is split into chunks."""
    utf8 = codecs.getincrementaldecoder("utf-8")()
    decoder = json.JSONDecoder()
    text = ""
    while piece := connection.recv(65536):
        text = (text + utf8.decode(piece)).lstrip()
        while text:
            if not text.startswith("{"):
                raise HungUp
            try:
                request, end = decoder.raw_decode(text)
            except json.JSONDecodeError:
                break
            yield request
            text = text[end:].lstrip()


def _hang_up(connection: socket.socket) -> None:
    try:
        connection.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass
