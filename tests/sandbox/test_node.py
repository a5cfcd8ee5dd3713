import json
import random
import re
import socket
import threading
import time

import pyln.proto
import pytest
from coincurve import PrivateKey
from pyln.client import LightningRpc, RpcError
from pyln.proto.bech32 import CHARSET, bech32_encode

from lightningspace.base import clock
from lightningspace.sandbox import bolt11, bolt12
from lightningspace.sandbox.node import SandboxNode
from tests.conftest import SOON_SECONDS
from tests.contract import assert_same_shape, load

METHODS = (
    "autoclean-status",
    "decode",
    "delinvoice",
    "disableoffer",
    "enableoffer",
    "getinfo",
    "invoice",
    "listinvoices",
    "nosuchmethod",
    "offer",
    "waitanyinvoice",
)

# Parts of the names of recorded cases that the stand-in does not answer, and why.
NOT_OFFERED = {
    "offer-recurrence": "its offers do not recur (it reads those of others)",
    "-scid": "it has no channels that could be exposed",
}
TERMS = (
    "payment_hash payment_secret created_at expiry amount_msat description description_hash"
    " min_final_cltv_expiry features"
).split()


def recorded(*methods):
    entries = [entry for method in methods for entry in load("core-lightning", method)]
    return [
        pytest.param(entry, id=entry["case"])
        for entry in entries
        if not any(part in entry["case"] for part in NOT_OFFERED)
    ]


def recorded_invoices():
    entries = load("core-lightning", "invoice")
    # The first has a routing hint, the second an amount that overflowed lightningd's 64 bits.
    unusual = "invoice-exposeprivatechannels-scid", "invoice-amount-21"
    usual = [entry for entry in entries if "result" in entry and entry["case"] not in unusual]
    return [pytest.param(entry["result"]["bolt11"], id=entry["case"]) for entry in usual]


@pytest.fixture
def at():
    """Set the time: at(seconds)."""

    def at(seconds):
        clock.set_source(lambda: seconds)

    at(1_795_222_392)
    yield at
    clock.set_source(None)


@pytest.fixture
def make_node(tmp_path, at):
    nodes = []

    def make_node(**options):
        node = SandboxNode(tmp_path / "lightning-rpc", tmp_path / "wallet-rpc", **options)
        nodes.append(node)
        node.start()
        return node

    yield make_node
    for node in nodes:
        node.stop()


@pytest.fixture
def node(make_node):
    return make_node()


@pytest.fixture
def rpc(node, tmp_path):
    return LightningRpc(str(tmp_path / "lightning-rpc"))


@pytest.fixture
def wallet(node, tmp_path):
    return LightningRpc(str(tmp_path / "wallet-rpc"))


def make_invoice(rpc, label="alice", amount_msat=1000, **more):
    return rpc.invoice(amount_msat, label, "test", **more)


def status(rpc, label="alice"):
    return rpc.listinvoices(label)["invoices"][0]["status"]


def max_pay_index(rpc):
    return max((each.get("pay_index", 0) for each in rpc.listinvoices()["invoices"]), default=0)


def in_thread(call):
    """Start the call; returns a function that waits for its answer or raises its error."""
    outcome = []

    def run():
        try:
            outcome.append((call(), None))
        except Exception as error:
            outcome.append((None, error))

    thread = threading.Thread(target=run, daemon=True)
    thread.start()

    def answer():
        thread.join(10)
        assert outcome, "no answer in ten seconds"
        if outcome[0][1]:
            raise outcome[0][1]
        return outcome[0][0]

    return answer


def until(condition):
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.001)


# The recorded answers


def again(rpc, at, invoice):
    """Make an invoice like the recorded one, of the same age and with its known details."""
    terms = bolt11.decode(invoice["bolt11"])
    at(terms["created_at"])
    made = rpc.invoice(
        terms.get("amount_msat", "any"),
        invoice.get("label", "recorded"),
        terms.get("description", invoice.get("description")),
        terms["expiry"],
        preimage=invoice.get("payment_preimage"),
        deschashonly="description_hash" in terms,
    )
    return made, made["expires_at"]


def offer_again(rpc, text, **more):
    """Make an offer with the recorded terms, which gets another id."""
    terms = bolt12.decode(text)
    names = "description issuer quantity_max absolute_expiry".split()
    known = {name: terms[f"offer_{name}"] for name in names if f"offer_{name}" in terms}
    return rpc.offer(terms.get("offer_amount_msat", "any"), **known, **more)


def fetch_again(rpc, wallet, at, text, offers):
    """Fetch an invoice with the recorded terms; `offers` are the offers made so far, by old id."""
    terms = bolt12.decode(text)
    at(terms["invoice_created_at"])
    if terms["offer_id"] not in offers:
        offers[terms["offer_id"]] = offer_again(rpc, text)
    names = "amount_msat quantity payer_note".split()
    known = {name: terms[f"invreq_{name}"] for name in names if f"invreq_{name}" in terms}
    return wallet.fetchinvoice(offers[terms["offer_id"]]["bolt12"], **known)["invoice"]


def bring_about(node, rpc, wallet, at, invoice, offers):
    """Bring an invoice into the recorded state."""
    if "bolt12" in invoice:
        text = fetch_again(rpc, wallet, at, invoice["bolt12"], offers)
        [made] = rpc.listinvoices(invstring=text)["invoices"]
    else:
        made, expires_at = again(rpc, at, invoice)
    if invoice["status"] == "paid":
        node.settle(made["payment_hash"], invoice["amount_received_msat"])
    elif invoice["status"] == "expired":
        at(expires_at)
    elif "updated_index" in invoice:
        rpc.call("delinvoice", {"label": invoice["label"], "status": "unpaid", "desconly": True})
    return made


def bring_about_offer(rpc, wallet, recorded):
    """Bring an offer into the recorded state."""
    more = {"label": recorded["label"]} if "label" in recorded else {}
    made = offer_again(rpc, recorded["bolt12"], single_use=recorded["single_use"], **more)
    if recorded["used"]:
        use(wallet, made)
    if not recorded["active"] and not (recorded["single_use"] and recorded["used"]):
        rpc.disableoffer(made["offer_id"])
    return made


def use(wallet, offer):
    terms = bolt12.decode(offer["bolt12"])
    more = {"quantity": 1} if "offer_quantity_max" in terms else {}
    if "offer_amount_msat" not in terms:
        more["amount_msat"] = 1000
    wallet.pay(wallet.fetchinvoice(offer["bolt12"], **more)["invoice"])


def recorded_offer(offer_id):
    [listed] = [e for e in load("core-lightning", "listoffers") if e["case"] == "listoffers"]
    [offer] = [o for o in listed["result"]["offers"] if o["offer_id"] == offer_id]
    return offer


def prepare(node, rpc, wallet, at, entry):
    """Bring about the state that the recorded call met; returns the call's parameters."""
    case, params = entry["case"], dict(entry["request"]["params"])
    result = entry.get("result", {})
    offers = {}
    for invoice in result.get("invoices", [result] if "status" in result else []):
        made = bring_about(node, rpc, wallet, at, invoice, offers)
        if "payment_hash" in params:
            params["payment_hash"] = made["payment_hash"]
        if "invstring" in params:
            params["invstring"] = made["bolt11"]
        if "lastpay_index" in params:
            params["lastpay_index"] = 0
        if "bolt12" in invoice:
            replaced = {"label": made["label"], "offer_id": made["local_offer_id"]}
            params |= {name: replaced[name] for name in params.keys() & replaced}

    if case in ("enableoffer", "disableoffer", "disableoffer-error-again"):
        met = recorded_offer(params["offer_id"]) | {"used": True, "active": case == "disableoffer"}
        params["offer_id"] = bring_about_offer(rpc, wallet, met)["offer_id"]
    if case in ("delinvoice-error-status-mismatch", "delinvoice-error-desconly-twice"):
        make_invoice(rpc, params["label"])
    if case == "delinvoice-error-desconly-twice":
        rpc.call("delinvoice", params)
    if case.startswith("invoice-error-duplicate-label"):
        made = rpc.call("invoice", params)
        if case.endswith("paid"):
            node.settle(made["payment_hash"])
        if case.endswith("expired"):
            at(made["expires_at"])
    if case == "invoice-error-duplicate-preimage":
        rpc.call("invoice", params | {"label": "first"})
    if "timeout" in params:
        params["timeout"] = min(params["timeout"], 1)
    # pyln-client leaves nulls out of named parameters; the recorded calls had them.
    return list(params.values()) if None in params.values() else params


def assert_answers_as_recorded(entry, rpc, params):
    try:
        answered = rpc.call(entry["request"]["method"], params)
    except RpcError as error:
        assert "error" in entry, error
        assert_same_shape(entry["error"], error.error)
        assert error.error["code"] == entry["error"]["code"]
        assert error.error["message"] == entry["error"]["message"]
        assert without_requests(error.error.get("data")) == without_requests(
            entry["error"].get("data")
        )
    else:
        assert "result" in entry, entry["error"]
        assert_same_shape(without_warnings(entry["result"]), without_warnings(answered))


def without_requests(data):
    """The data with marks in place of BOLT 12 requests, which differ each time."""
    return re.sub("lnr1[a-z0-9]+", "lnr1…", json.dumps(data))


def without_warnings(answer):
    return {name: value for name, value in answer.items() if not name.startswith("warning_")}


@pytest.mark.parametrize("entry", recorded(*METHODS))
def test_the_node_answers_as_recorded(entry, node, rpc, wallet, at):
    assert_answers_as_recorded(entry, rpc, prepare(node, rpc, wallet, at, entry))


def without_ids(offers):
    unnamed = [{k: v for k, v in o.items() if k not in ("offer_id", "bolt12")} for o in offers]
    return sorted(json.dumps(offer, sort_keys=True) for offer in unnamed)


@pytest.mark.parametrize("entry", recorded("listoffers"))
def test_the_node_lists_offers_as_recorded(entry, rpc, wallet):
    params, offers = dict(entry["request"]["params"]), entry["result"]["offers"]
    made = [bring_about_offer(rpc, wallet, offer)["offer_id"] for offer in offers]
    if params:
        rpc.disableoffer(rpc.offer("any", "another")["offer_id"])
    if "offer_id" in params:
        params["offer_id"] = made[0]
    answered = rpc.call("listoffers", params)["offers"]
    assert without_ids(answered) == without_ids(offers)
    ids = [offer["offer_id"] for offer in answered]
    assert ids == sorted(made) == [bolt12.decode(o["bolt12"])["offer_id"] for o in answered]


@pytest.mark.parametrize("entry", recorded("fetchinvoice"))
def test_the_wallet_fetches_invoices_as_recorded(entry, rpc, wallet, at):
    params, case = dict(entry["request"]["params"]), entry["case"]
    made = offer_again(rpc, params["offer"], single_use="single-use" in case)
    params["offer"] = made["bolt12"]
    if case == "fetchinvoice-error-disabled":
        rpc.disableoffer(made["offer_id"])
    if case == "fetchinvoice-error-expired-offer":
        at(bolt12.decode(made["bolt12"])["offer_absolute_expiry"] + 1)
    if case == "fetchinvoice-error-single-use-second":
        use(wallet, made)
    assert_answers_as_recorded(entry, wallet, params)


def test_the_wallet_pays_an_offer_as_recorded(rpc, wallet):
    [entry] = load("core-lightning", "xpay")
    made = offer_again(rpc, entry["request"]["params"]["invstring"])
    assert_answers_as_recorded(entry, wallet, {"invstring": made["bolt12"]})


@pytest.mark.parametrize("entry", recorded("pay"))
def test_the_wallet_answers_as_recorded(entry, rpc, wallet, at):
    params = dict(entry["request"]["params"])
    if bolt12.is_bolt12(params["bolt11"]):
        params["bolt11"] = fetch_again(rpc, wallet, at, params["bolt11"], {})
        return assert_answers_as_recorded(entry, wallet, params)
    made, expires_at = again(rpc, at, params)
    params["bolt11"] = made["bolt11"]
    if entry["case"] == "pay-again-same-bolt11":
        wallet.pay(made["bolt11"])
    if entry["case"] == "pay-error-deleted-invoice":
        rpc.delinvoice("recorded", "unpaid")
    if entry["case"] == "pay-error-expired":
        at(expires_at + 2)
    assert_answers_as_recorded(entry, wallet, params)


def test_the_wallet_describes_itself_as_a_node_does(wallet, node):
    answered = wallet.getinfo()
    assert_same_shape(load("core-lightning", "getinfo")[0]["result"], answered)
    assert answered["id"] == node.wallet_id != node.id


def test_the_payment_secret_is_derived_from_the_preimage_as_recorded(rpc):
    [entry] = [e for e in load("core-lightning", "invoice") if e["case"] == "invoice-preimage"]
    answered = rpc.call("invoice", entry["request"]["params"])
    assert answered["payment_hash"] == entry["result"]["payment_hash"]
    assert answered["payment_secret"] == entry["result"]["payment_secret"]


def test_another_shape_is_noticed(subtests):
    for answered in [
        {"a": 1, "b": [{"c": "x"}]},
        {"a": 1, "b": [{"c": "x", "d": 1.5, "e": 0}]},
        {"a": True, "b": [{"c": "x", "d": 1.5}]},
        {"a": 1, "b": [{"c": "x", "d": 1}]},
        {"a": 1, "b": [{"c": None, "d": 1.5}]},
        {"a": 1, "b": []},
    ]:
        with subtests.test(answered=answered):
            expected = {"a": 1, "b": [{"c": "x", "d": 1.5}]}
            assert_same_shape(expected, {"a": 2, "b": [{"c": "y", "d": 0.5}, {}]})
            with pytest.raises(AssertionError):
                assert_same_shape(expected, answered)


# BOLT 11


@pytest.mark.parametrize("text", recorded_invoices())
def test_recorded_terms_give_the_recorded_text_up_to_the_signature(text):
    decoded = bolt11.decode(text)
    terms = {name: decoded[name] for name in TERMS if name in decoded}
    written = bolt11.encode(PrivateKey(), **terms)
    assert written[: -104 - 6] == text[: -104 - 6]


def test_a_recorded_invoice_is_read_as_lightningd_reads_it(subtests):
    for case in ["decode-bolt11", "decode-bolt11-deschashonly"]:
        with subtests.test(case=case):
            [entry] = [e for e in load("core-lightning", "decode") if e["case"] == case]
            assert bolt11.decode(entry["request"]["params"]["string"]) == entry["result"]


def test_pyln_proto_reads_the_sandbox_invoices(rpc, node):
    made = make_invoice(rpc, amount_msat=123000, expiry=900)
    read = pyln.proto.Invoice.decode(made["bolt11"])
    assert read.hexpubkey == node.id
    assert read.hexpaymenthash == made["payment_hash"]
    assert read.amount * 10**11 == 123000
    assert dict(read.tags) == {"d": "test", "x": 900}


def test_garbage_raises_only_its_own_error(rpc):
    chance = random.Random(11)
    good = make_invoice(rpc)["bolt11"]
    for _ in range(500):
        words = bytes(chance.randrange(32) for _ in range(chance.randrange(300)))
        cut = chance.randrange(len(good))
        prefix = chance.choice(["lnbcrt", "lnbcrt1u", "lnbcrt1p", "lnbcrt01u", "lnbc", "lno", "x"])
        garbage = [
            bech32_encode(prefix, words),
            good[:cut] + chance.choice("1bé Qq\x00") + good[cut + 1 :],
            good[:cut],
            words.decode(),
        ]
        for text in set(garbage) - {good}:
            with pytest.raises(bolt11.Bolt11Error):
                bolt11.decode(text)


def test_a_changed_invoice_has_another_signer(rpc, node):
    signed_by_node = bolt11.decode(make_invoice(rpc)["bolt11"])
    terms = {name: signed_by_node[name] for name in TERMS if name in signed_by_node}
    assert bolt11.decode(bolt11.encode(PrivateKey(), **terms))["payee"] != node.id


# BOLT 12


def recorded_texts():
    """Every BOLT 12 text that was recorded."""
    methods = "offer listoffers fetchinvoice decode listinvoices".split()
    entries = json.dumps([load("core-lightning", method) for method in methods])
    return sorted(set(re.findall("ln[oir]1[a-z0-9]+", entries)))


def test_recorded_offers_have_the_recorded_ids_and_terms():
    offers = [e["result"] for e in load("core-lightning", "offer") if "result" in e]
    assert [bolt12.decode(o["bolt12"])["offer_id"] for o in offers] == [
        o["offer_id"] for o in offers
    ]
    decodings = [
        e for e in load("core-lightning", "decode") if e["case"].startswith("decode-offer")
    ]
    for entry in decodings:
        assert bolt12.decode(entry["request"]["params"]["string"]) == entry["result"]


def test_signatures_of_lightningd_are_recognised_and_only_those():
    signed = [text for text in recorded_texts() if not text.startswith("lno1")]
    assert {bolt12.decode(text)["type"] for text in signed} == {
        "bolt12 invoice",
        "bolt12 invoice_request",
    }
    for text in signed:
        # The twelfth letter is part of the payer's random bytes.
        other = "q" if text[12] != "q" else "p"
        with pytest.raises(bolt12.Bolt12Error, match="Invalid signature"):
            bolt12.decode(text[:12] + other + text[13:])


def test_the_recorded_terms_give_texts_of_the_recorded_form(rpc, wallet, at):
    for text in recorded_texts():
        if text.startswith("lni1"):
            made = fetch_again(rpc, wallet, at, text, {})
            assert len(made) == len(text)
            assert_same_shape(bolt12.decode(text), rpc.decode(made))


def test_a_text_may_be_upper_case_or_in_pieces(rpc):
    text = rpc.offer("any", "Tips for alice")["bolt12"]
    for written in (text.upper(), text[:9] + "+\n  " + text[9:40] + "+" + text[40:]):
        assert rpc.decode(written) == rpc.decode(text)


def test_bolt12_garbage_raises_only_its_own_error(rpc, wallet):
    chance = random.Random(12)
    offer = rpc.offer(1000, "test")["bolt12"]
    for good in (offer, wallet.fetchinvoice(offer)["invoice"]):
        for _ in range(300):
            words = [chance.choice(CHARSET) for _ in range(chance.randrange(1, 99))]
            cut = chance.randrange(5, len(good))
            for text in (
                good[:4] + "".join(words),
                good[:cut] + chance.choice("1bé Qq+\x00"),
                good[:cut] + chance.choice(CHARSET) + good[cut + 1 :],
            ):
                try:
                    bolt12.decode(text)
                except bolt12.Bolt12Error:
                    pass


def test_the_same_terms_make_another_offer(rpc):
    first, second = (rpc.offer("any", "Tips for alice", label="alice") for _ in range(2))
    assert first["offer_id"] != second["offer_id"]
    assert len(rpc.listoffers()["offers"]) == 2


def test_disabling_an_offer_expires_invoices_fetched_from_it(rpc, wallet):
    disabled, other = (rpc.offer(1000, "Tips for alice") for _ in range(2))
    fetched = [wallet.fetchinvoice(offer["bolt12"])["invoice"] for offer in (disabled, other)]
    rpc.disableoffer(disabled["offer_id"])
    [entry] = rpc.call("listinvoices", {"offer_id": disabled["offer_id"]})["invoices"]
    assert entry["status"] == "expired"
    with pytest.raises(RpcError) as refused:
        wallet.pay(fetched[0])
    assert refused.value.error["code"] == 203
    wallet.pay(fetched[1])
    rpc.enableoffer(disabled["offer_id"])
    wallet.pay(wallet.fetchinvoice(disabled["bolt12"])["invoice"])


@pytest.mark.parametrize(
    "method, offer_id, code",
    [
        ("enableoffer", "active", 1006),
        ("enableoffer", "used up", 1007),
        ("enableoffer", "00" * 32, -1),
        ("disableoffer", "00" * 32, -1),
        ("disableoffer", "alice", -32602),
    ],
)
def test_an_offer_that_cannot_be_switched_says_why(rpc, wallet, method, offer_id, code):
    active, used_up = rpc.offer("any"), rpc.offer(1000, "test", single_use=True)
    use(wallet, used_up)
    known = {"active": active["offer_id"], "used up": used_up["offer_id"]}
    with pytest.raises(RpcError) as refused:
        rpc.call(method, [known.get(offer_id, offer_id)])
    assert refused.value.error["code"] == code


def test_offers_and_invoices_fetched_from_them_survive_a_restart(make_node, tmp_path):
    rpc = LightningRpc(str(tmp_path / "lightning-rpc"))
    wallet = LightningRpc(str(tmp_path / "wallet-rpc"))
    first = make_node(store=tmp_path / "node.sqlite")
    offer = rpc.offer(1000, "Tips for alice", label="alice")
    use(wallet, offer)
    rpc.disableoffer(rpc.offer("any")["offer_id"])
    fetched = wallet.fetchinvoice(offer["bolt12"], payer_note="hello")["invoice"]
    before = rpc.listoffers(), rpc.listinvoices()
    first.stop()

    make_node(store=tmp_path / "node.sqlite")
    assert (rpc.listoffers(), rpc.listinvoices()) == before
    wallet.pay(fetched)
    assert rpc.waitanyinvoice(1, 0)["invreq_payer_note"] == "hello"


def test_a_restored_node_forgets_payments_of_offers_and_offers(rpc, wallet, node):
    kept, lost = rpc.offer(1000, "kept"), rpc.offer(1000, "lost")
    use(wallet, kept)
    node.forget_newer_than(0)
    [unpaid] = rpc.call("listinvoices", {"offer_id": kept["offer_id"]})["invoices"]
    assert unpaid["status"] == "unpaid"
    use(wallet, lost)
    fetched = wallet.fetchinvoice(lost["bolt12"])["invoice"]
    node.forget_offer(lost["offer_id"])
    assert max_pay_index(rpc) == 0
    assert rpc.listoffers(lost["offer_id"]) == {"offers": []}
    with pytest.raises(RpcError) as unknown:
        wallet.fetchinvoice(lost["bolt12"])
    assert unknown.value.error["data"]["error"].endswith(": Unknown offer")
    with pytest.raises(RpcError):
        wallet.pay(fetched)


def test_an_invoice_ends_with_its_offer_or_after_two_hours(rpc, wallet, at):
    began = clock.now()
    offers = rpc.offer(1000, "test", absolute_expiry=began + 60), rpc.offer(1000, "test")
    fetched = [wallet.fetchinvoice(offer["bolt12"])["invoice"] for offer in offers]
    entries = rpc.listinvoices()["invoices"]
    assert [entry["expires_at"] - began for entry in entries] == [60, 7200]
    at(began + 60)
    with pytest.raises(RpcError) as expired:
        wallet.pay(fetched[0])
    assert expired.value.error["code"] == 207
    with pytest.raises(RpcError) as refused:
        wallet.fetchinvoice(offers[0]["bolt12"])
    assert refused.value.error["data"]["error"].endswith(": Offer expired")


def test_no_invoice_is_fetched_from_a_foreign_offer_or_a_stopped_node(rpc, wallet, node):
    foreign = bolt12.encode_offer(PrivateKey().public_key.format().hex())
    with pytest.raises(RpcError) as unreachable:
        wallet.fetchinvoice(foreign, 1000)
    assert unreachable.value.error["code"] == 1003
    offer = rpc.offer("any")["bolt12"]
    node.down()
    with pytest.raises(RpcError) as silent:
        wallet.fetchinvoice(offer, 1000, timeout=1)
    assert silent.value.error["code"] == 1005


@pytest.mark.parametrize("kind, made", [("cut-before", 0), ("cut-after", 1)])
def test_an_offer_is_made_or_not_depending_on_when_the_connection_is_cut(rpc, node, kind, made):
    node.faults.set(kind, "offer", times=1)
    with pytest.raises(RpcError):
        rpc.offer("any")
    assert len(rpc.listoffers()["offers"]) == made


@pytest.mark.parametrize("note", ["", '\n\x00\u202e"<b>', "é" * 10_000])
def test_a_payer_may_note_anything(rpc, wallet, note):
    # pyln-client's own xpay() drops the note.
    params = {"invstring": rpc.offer("any")["bolt12"], "amount_msat": 1000, "payer_note": note}
    wallet.call("xpay", params)
    assert rpc.waitanyinvoice(0, 0)["invreq_payer_note"] == note


def test_a_payment_of_an_offer_arrives_with_its_note(rpc, wallet):
    offer = rpc.offer("any", "Tips for alice")
    fetched = wallet.fetchinvoice(offer["bolt12"], 5000, payer_note="räksmörgås ⚡")
    wallet.pay(fetched["invoice"])
    paid = rpc.waitanyinvoice(0, 0)
    assert (paid["local_offer_id"], paid["bolt12"]) == (offer["offer_id"], fetched["invoice"])
    assert (paid["amount_received_msat"], paid["invreq_payer_note"]) == (5000, "räksmörgås ⚡")


# Payments


def test_paying_again_moves_nothing(rpc, wallet):
    made = make_invoice(rpc)
    first = wallet.pay(made["bolt11"])
    before = rpc.listinvoices("alice")
    assert wallet.pay(made["bolt11"])["payment_preimage"] == first["payment_preimage"]
    assert rpc.listinvoices("alice") == before
    assert max_pay_index(rpc) == 1


def test_a_wallet_chooses_the_amount_of_an_any_invoice(rpc, wallet):
    made = make_invoice(rpc, amount_msat="any")
    wallet.pay(made["bolt11"], amount_msat=777)
    [paid] = rpc.listinvoices("alice")["invoices"]
    assert paid["amount_received_msat"] == 777
    assert "amount_msat" not in paid


def test_up_to_twice_the_amount_is_received(rpc, node):
    make_invoice(rpc)
    assert node.settle("alice", 2000)["amount_received_msat"] == 2000


@pytest.mark.parametrize("received_msat", [0, 999, 2001])
def test_other_amounts_are_refused_and_leave_it_unpaid(rpc, node, received_msat):
    make_invoice(rpc)
    with pytest.raises(ValueError):
        node.settle("alice", received_msat)
    assert status(rpc) == "unpaid"


def test_a_settled_invoice_refuses_another_payment(rpc, wallet, node):
    made = make_invoice(rpc)
    node.settle("alice")
    with pytest.raises(ValueError):
        node.settle(made["payment_hash"])
    with pytest.raises(RpcError) as refused:
        wallet.pay(made["bolt11"])
    assert refused.value.error["code"] == 203


def test_an_invoice_is_unpaid_until_the_second_it_expires(rpc, node, at):
    made = make_invoice(rpc, expiry=600)
    at(made["expires_at"] - 1)
    assert status(rpc) == "unpaid"
    at(made["expires_at"])
    assert status(rpc) == "expired"
    with pytest.raises(ValueError):
        node.settle("alice")


def test_a_label_used_again_does_not_expire_with_the_deleted_invoice(rpc, at):
    deleted = make_invoice(rpc, expiry=600)
    rpc.delinvoice("alice", "unpaid")
    make_invoice(rpc, expiry=900)
    at(deleted["expires_at"])
    assert status(rpc) == "unpaid"


def test_a_paid_invoice_never_expires(rpc, wallet, at):
    made = make_invoice(rpc)
    wallet.pay(made["bolt11"])
    at(made["expires_at"] + 1)
    assert status(rpc) == "paid"


def test_another_nodes_invoice_finds_no_path(rpc, wallet):
    decoded = bolt11.decode(make_invoice(rpc)["bolt11"])
    terms = {name: decoded[name] for name in TERMS if name in decoded}
    with pytest.raises(RpcError) as refused:
        wallet.pay(bolt11.encode(PrivateKey(), **terms))
    assert refused.value.error["code"] == 205
    assert status(rpc) == "unpaid"


def test_a_wrong_payment_secret_is_refused(rpc, wallet, node):
    decoded = bolt11.decode(make_invoice(rpc)["bolt11"])
    terms = {name: decoded[name] for name in TERMS if name in decoded}
    with pytest.raises(RpcError) as refused:
        wallet.pay(bolt11.encode(node._key, **terms | {"payment_secret": "00" * 32}))
    assert refused.value.error["code"] == 203
    assert status(rpc) == "unpaid"


def test_a_text_that_is_no_invoice_cannot_be_paid(wallet):
    with pytest.raises(RpcError) as refused:
        wallet.pay("hello")
    assert refused.value.error == {"code": -32602, "message": "Invalid bolt11: Bad bech32 string"}


def test_deleting_an_invoice_that_was_paid_meanwhile_is_refused(rpc, node):
    make_invoice(rpc)
    node.settle("alice")
    with pytest.raises(RpcError) as refused:
        rpc.delinvoice("alice", "unpaid")
    assert refused.value.error["code"] == 906
    assert refused.value.error["data"] == {"current_status": "paid", "expected_status": "unpaid"}


def test_a_deleted_payments_index_is_skipped_and_never_used_again(rpc, node):
    for label in ("alice", "bob"):
        make_invoice(rpc, label)
        node.settle(label)
    rpc.delinvoice("alice", "paid")
    assert rpc.waitanyinvoice(0, 0)["label"] == "bob"
    make_invoice(rpc, "alice")
    assert node.settle("alice")["pay_index"] == 3


@pytest.mark.parametrize("params", [{"expiry": -1}, {"expiry": 2**60}])
def test_the_expiry_that_crashes_lightningd_gets_no_answer(rpc, params):
    with pytest.raises(RpcError) as lost:
        make_invoice(rpc, **params)
    assert isinstance(lost.value.error, str)


# Waiting


def test_a_waiting_call_wakes_at_once_when_something_is_paid(rpc, wallet, node):
    made = make_invoice(rpc)
    waiting = in_thread(lambda: rpc.waitanyinvoice(0, 60))
    until(lambda: node.waiting)
    began = time.monotonic()
    wallet.pay(made["bolt11"])
    assert waiting()["payment_hash"] == made["payment_hash"]
    assert time.monotonic() - began < SOON_SECONDS


def test_payments_come_one_by_one_in_their_order(rpc, node):
    for label in ("bob", "alice"):
        make_invoice(rpc, label)
    node.settle("alice")
    node.settle("bob")
    first = rpc.waitanyinvoice(0, 0)
    assert [first["label"], rpc.waitanyinvoice(first["pay_index"], 0)["label"]] == ["alice", "bob"]


@pytest.mark.parametrize("wrapping", [-1, 2**63])
def test_a_cursor_that_wraps_starts_again(rpc, node, wrapping):
    make_invoice(rpc)
    node.settle("alice")
    assert rpc.waitanyinvoice(wrapping, 0)["pay_index"] == 1


# Restarts


def test_a_restarted_node_finds_everything(make_node, tmp_path):
    rpc = LightningRpc(str(tmp_path / "lightning-rpc"))
    wallet = LightningRpc(str(tmp_path / "wallet-rpc"))
    store = tmp_path / "node.sqlite"
    first = make_node(store=store)
    for label in ("paid", "open", "deleted"):
        make_invoice(rpc, label)
    paid = wallet.pay(rpc.listinvoices("paid")["invoices"][0]["bolt11"])
    rpc.delinvoice("deleted", "unpaid")
    before = rpc.getinfo()["id"], wallet.getinfo()["id"], rpc.listinvoices()
    first.stop()

    second = make_node(store=store)
    assert (rpc.getinfo()["id"], wallet.getinfo()["id"], rpc.listinvoices()) == before
    assert second.settle("open")["pay_index"] == 2
    assert make_invoice(rpc, "next")["created_index"] == 4
    again = wallet.pay(rpc.listinvoices("paid")["invoices"][0]["bolt11"])
    assert again["payment_preimage"] == paid["payment_preimage"]


def test_a_restored_node_is_the_same_and_counts_lower(rpc, node):
    for label in ("alice", "bob"):
        make_invoice(rpc, label)
        node.settle(label)
    node.forget_newer_than(1)
    assert rpc.getinfo()["id"] == node.id
    assert max_pay_index(rpc) == 1
    assert status(rpc, "bob") == "unpaid"
    with pytest.raises(RpcError) as timed_out:
        rpc.waitanyinvoice(2, 0)
    assert timed_out.value.error["code"] == 904
    make_invoice(rpc, "carol")
    assert node.settle("carol")["pay_index"] == 2


def test_a_node_restored_from_a_copy_knows_nothing_newer(make_node, tmp_path):
    rpc = LightningRpc(str(tmp_path / "lightning-rpc"))
    node = make_node(store=tmp_path / "node.sqlite")
    make_invoice(rpc, "kept")
    copy, before = node.copied(), rpc.listinvoices()
    make_invoice(rpc, "lost")
    rpc.offer("any")
    node.settle("kept")
    node.restore(copy)
    assert (rpc.listinvoices(), rpc.listoffers()) == (before, {"offers": []})
    node.stop()
    make_node(store=tmp_path / "node.sqlite")
    assert (rpc.listinvoices(), rpc.listoffers()) == (before, {"offers": []})


def test_a_call_that_waits_beyond_a_restored_nodes_count_gets_the_lower_index(rpc, node):
    make_invoice(rpc)
    waiting = in_thread(lambda: rpc.waitanyinvoice(1000, 60))
    until(lambda: node.waiting)
    node.settle("alice")
    assert waiting()["pay_index"] == 1


def test_a_stopped_daemon_refuses_and_keeps_its_state(rpc, wallet, node):
    made = make_invoice(rpc)
    node.down()
    with pytest.raises(ConnectionRefusedError):
        rpc.getinfo()
    with pytest.raises(RpcError) as no_path:
        wallet.pay(made["bolt11"])
    assert no_path.value.error["code"] == 205
    node.up()
    assert status(rpc) == "unpaid"


def test_stopping_removes_the_socket_files(rpc, wallet, node):
    node.stop()
    for client in (rpc, wallet):
        with pytest.raises(FileNotFoundError):
            client.getinfo()


def test_a_stale_socket_file_is_replaced(node, rpc, make_node):
    node.down()
    assert make_node().id == rpc.getinfo()["id"]


def test_stopping_waits_for_no_call(rpc, node):
    node.faults.set("frozen", "getinfo")
    node.faults.set("slow", "listinvoices", seconds=3600)
    calls = [rpc.getinfo, rpc.listinvoices, lambda: rpc.waitanyinvoice(0)]
    answers = [in_thread(call) for call in calls]
    until(lambda: len(node.calls) == 3 and node.waiting)
    node.stop()
    for answer in answers:
        with pytest.raises((RpcError, ConnectionError)):
            answer()


def test_a_path_longer_than_the_kernel_takes_works(tmp_path):
    directory = tmp_path / ("d" * 120)
    directory.mkdir()
    node = SandboxNode(directory / "lightning-rpc")
    node.start()
    assert LightningRpc(str(directory / "lightning-rpc")).getinfo()["id"] == node.id
    node.stop()


# The wire and its faults


def read_answers(connection, count):
    text = b""
    while text.count(b"\n\n") < count:
        text += connection.recv(65536)
    return text


def test_requests_are_found_however_the_stream_is_split(node, tmp_path):
    one = (
        '{"jsonrpc": "2.0", "id": 1, "method": "invoice", "params": ["any", "é", "ü{"]}'
        ' {"id": 2, "method": "getinfo"}\n{"id": 3, "method": 7}'
    ).encode()
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(10)
        connection.connect(str(tmp_path / "lightning-rpc"))
        for byte in one:
            connection.sendall(bytes([byte]))
        answers = read_answers(connection, 3)
        connection.sendall(b"garbage")
        assert connection.recv(1) == b""
    assert [b'"id": %d' % n in answers for n in (1, 2, 3)] == [True] * 3
    assert b"-32600" in answers


def test_every_call_is_noted(rpc, node):
    make_invoice(rpc)
    rpc.listinvoices("alice")
    assert [method for method, _ in node.calls] == ["invoice", "listinvoices"]
    assert node.calls[1] == ("listinvoices", {"label": "alice"})


def test_slow_answers_late(rpc, node):
    node.faults.set("slow", times=1, seconds=0.2)
    began = time.monotonic()
    assert rpc.getinfo()["id"] == node.id
    assert time.monotonic() - began >= 0.2


def test_frozen_answers_nothing_until_the_weather_clears(rpc, node):
    node.faults.set("frozen", "getinfo")
    frozen = in_thread(rpc.getinfo)
    until(lambda: node.calls)
    make_invoice(rpc)
    node.faults.clear()
    with pytest.raises(RpcError) as lost:
        frozen()
    assert isinstance(lost.value.error, str)
    assert rpc.getinfo()["id"] == node.id


@pytest.mark.parametrize(
    "message, error",
    [
        ("no more", {"code": -1, "message": "no more"}),
        ("205: no route", {"code": 205, "message": "no route"}),
    ],
)
def test_refuse_answers_the_error_and_does_nothing(rpc, node, message, error):
    node.faults.set("refuse", "invoice", times=1, message=message)
    with pytest.raises(RpcError) as refused:
        make_invoice(rpc)
    assert refused.value.error == error
    assert rpc.listinvoices() == {"invoices": []}
    make_invoice(rpc)


@pytest.mark.parametrize("kind, made", [("cut-before", 0), ("cut-after", 1)])
def test_a_cut_connection_leaves_the_work_undone_or_done(rpc, node, kind, made):
    node.faults.set(kind, "invoice", passes=1, times=1)
    make_invoice(rpc, "bob")
    with pytest.raises(RpcError) as lost:
        make_invoice(rpc)
    assert isinstance(lost.value.error, str)
    assert len(rpc.listinvoices("alice")["invoices"]) == made


def test_the_wallet_has_its_own_weather(rpc, wallet, node):
    node.faults.set("refuse", message="not today")
    node.wallet_faults.set("cut-after", "pay", times=1)
    assert wallet.getinfo()["id"] == node.wallet_id
    node.faults.clear()
    made = make_invoice(rpc)
    with pytest.raises(RpcError):
        wallet.pay(made["bolt11"])
    assert status(rpc) == "paid"
