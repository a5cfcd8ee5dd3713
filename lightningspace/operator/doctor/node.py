"""The Lightning node: whether it can take the money of whoever buys."""

import re
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path

from lightningspace.base.clock import DAY
from lightningspace.base.prices import LONGEST_SECONDS, Terms
from lightningspace.operator.doctor.dates import wrong_time
from lightningspace.operator.doctor.patient import Patient
from lightningspace.outside.node import NodeError
from lightningspace.rules import node_problems

# The first release that pays offers and invoices by one command, `xpay`.
OLDEST = (24, 11)
MAINNET = "bitcoin"
NETWORK_SYNC, LEDGER_SYNC = "warning_bitcoind_sync", "warning_lightningd_sync"
INVOICE_SECONDS = 60


def answers(patient: Patient) -> Iterator[str]:
    try:
        patient.node.about()
    except NodeError as error:
        yield (
            f"{error}: see whether lightningd runs (`lightning-cli getinfo`), and whether this "
            f"user may open its socket: `ls -l {patient.config.lightning_rpc}`"
        )


def is_synced(patient: Patient) -> Iterator[str]:
    about = patient.node.about()
    if NETWORK_SYNC in about:
        yield (
            "bitcoind does not know the newest blocks yet: wait until `bitcoin-cli "
            "getblockchaininfo` says that initialblockdownload is false"
        )
    elif LEDGER_SYNC in about:
        yield (
            "lightningd is reading blocks, and takes no payments before it is done: wait until "
            "`lightning-cli getinfo` no longer warns of that"
        )


def network(patient: Patient) -> Iterator[str]:
    name = patient.node.about().get("network")
    if name != MAINNET and not patient.is_for_this_machine:
        yield (
            f"the node is on {name}, whose money is worth nothing: let LIGHTNING_RPC be the socket "
            "of a node on bitcoin before you sell"
        )


def version(patient: Patient) -> Iterator[str]:
    told = str(patient.node.about().get("version"))
    found = re.match(r"v?(\d+)\.(\d+)", told)
    if found and (int(found[1]), int(found[2])) < OLDEST:
        yield f"lightningd is {told}: upgrade it to v{OLDEST[0]}.{OLDEST[1]} or newer"


def socket_is_shut(patient: Patient) -> Iterator[str]:
    path = Path(patient.config.lightning_rpc)
    if path.stat().st_mode & stat.S_IWOTH:
        yield (
            f"whoever is on this machine may spend the node's money by {path}: write "
            f"`rpc-file-mode=0660` into lightningd's config, and `chmod o= {path}` now"
        )


def channels(patient: Patient) -> Iterator[str]:
    """Whether a wallet can pay the dearest order on sale, in parts if need be."""
    known = patient.node.channels()
    usable = [each for each in known if each.is_usable]
    largest = max(patient.config.space_sizes_mb)
    price_msat = patient.shop.prices.price_msat(Terms(largest, LONGEST_SECONDS // DAY, "days"))
    receivable_msat = sum(each.receivable_msat for each in usable)
    if not known:
        yield "the node has no channel, so nobody can pay it: buy one from a provider of liquidity"
    elif not usable:
        peer = known[0].peer_id
        yield (
            f"none of the node's {len(known)} channels is online: `lightning-cli connect {peer}`, "
            "and see whether the machine reaches the net"
        )
    elif receivable_msat < price_msat:
        yield (
            f"{receivable_msat // 1000} sat can come in, and {price_msat // 1000} sat is the "
            f"dearest on sale ({largest} MB for two years): buy a channel towards the node, or "
            "spend from one"
        )


def plugins(patient: Patient) -> Iterator[str]:
    yield from node_problems.faults(patient.shop)


def has_our_time(patient: Patient) -> Iterator[str]:
    """By the expiry of an invoice that the node makes, and deletes again."""
    label = f"{patient.config.label_prefix}doctor-{secrets.token_hex(8)}"
    node = patient.node
    made = node.create_invoice(label, 1000, "A test of the shop's own", INVOICE_SECONDS)
    node.delete_unpaid_invoice(label)
    yield from wrong_time("the node's", made.expires_at - INVOICE_SECONDS)


CHECKS = {
    "node": answers,
    "node sync": is_synced,
    "node network": network,
    "node version": version,
    "node socket": socket_is_shut,
    "node channels": channels,
    "node plugins": plugins,
    "node clock": has_our_time,
}
