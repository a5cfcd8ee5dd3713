"""Receipts and tokens: who holds what, for how long, and recovery by a wallet's history."""

import hashlib
import secrets
from dataclasses import dataclass, replace

import pytest
from coincurve import PrivateKey

from lightningspace.base import models
from lightningspace.base.clock import now
from lightningspace.base.models import Account, Order, RestingName, Token
from lightningspace.base.prices import Terms
from lightningspace.base.vault import Vault
from lightningspace.outside import l402
from lightningspace.outside.l402 import WHOLE, Invalid, Keys, Macaroon, Rights, Void
from lightningspace.outside.node import Node, NodeError
from lightningspace.panel import reconcile
from lightningspace.rules import (
    accounts,
    hostnames,
    invoices,
    order_book,
    orders,
    payments,
    recovery,
    tokens,
)
from lightningspace.rules.orders import Buyer
from lightningspace.rules.recovery import NotRecovered, RecoveryWaits
from lightningspace.rules.tokens import RECEIPT, NotSettled
from lightningspace.sandbox import bolt11 as bolt11s
from tests.conftest import at_once, log_in, record_payments, wish, work

HOUR, DAY = 3600, 86400
ABLE_TO_PAY = Rights(frozenset({"read", "pay"}), None)


@dataclass
class Paid:
    """A paid order for its payer: token and preimage, and what the wallet keeps."""

    order: Order
    macaroon: Macaroon
    preimage: bytes
    bolt11: str

    @property
    def account(self) -> Account:
        return Account.get_by_id(Order.get_by_id(self.order.token).account_id)

    def holder(self, shop) -> tokens.Holder:
        return tokens.holder(shop, self.macaroon, self.preimage)


@pytest.fixture
def settle(this_shop, worker):
    """Record payments, and let them take effect, without the panel."""

    def settle():
        record_payments(worker)
        for due in payments.due():
            payments.apply(this_shop, due.token)

    return settle


@pytest.fixture
def pay(this_shop, wallet, settle):
    """Pay an order and let it take effect."""

    def pay(order, rights=WHOLE, then=settle) -> Paid:
        macaroon = tokens.challenge(this_shop, order, rights)
        preimage = bytes.fromhex(wallet.pay(order.bolt11)["payment_preimage"])
        then()
        return Paid(order, macaroon, preimage, order.bolt11)

    return pay


@pytest.fixture
def bought(this_shop, pay) -> Paid:
    """alice's hosting, bought by a program."""
    return pay(orders.place(this_shop, wish(username="alice", browser=None)))


@pytest.fixture
def extend(this_shop, pay):
    """Buy one more day as the holder of a token; None: in a browser."""

    def extend(account, holder=None, **kwargs) -> Paid:
        buyer = Buyer("alice's browser", secrets.token_hex(8))
        if holder:
            epoch = holder.account.receipt_epoch
            buyer = Buyer(None, secrets.token_hex(8), holder.source, epoch)
        order = orders.extend(this_shop, account.id, 1, "days", buyer)
        return pay(order, holder.rights if holder else WHOLE, **kwargs)

    return extend


@pytest.fixture
def hand_out(this_shop):
    """Hand out a token. Return its row, and what its holder gets."""

    def hand_out(account, rights=ABLE_TO_PAY):
        token = tokens.hand_out(this_shop, account.id, "for bob", rights)
        return token, *read(tokens.text_of(this_shop, token))

    return hand_out


def read(text: str) -> tuple[Macaroon, bytes]:
    macaroon, _, preimage = text.rpartition(":")
    return l402.read(macaroon), l402.read_preimage(preimage)


def renew(account: Account) -> None:
    with models.transaction():
        tokens.renew(account.id)


def close(account: Account, this_shop, worker) -> None:
    """Close an account until nothing is left of it."""
    with models.transaction():
        accounts.close(account.id)
    for _ in range(3):
        reconcile.account(this_shop, account.id)
        if not Account.select().where(Account.id == account.id).exists():
            return
    raise AssertionError("it is still there")


def refusal(call, *arguments) -> type[Exception]:
    with pytest.raises((Invalid, NotSettled)) as refused:
        call(*arguments)
    return refused.type


# -- the receipt -----------------------------------------------------------------------


def test_the_token_of_the_opening_order_gives_control(bought, this_shop):
    held = bought.holder(this_shop)
    assert (held.account, held.rights, held.source) == (bought.account, WHOLE, RECEIPT)
    assert held.order == bought.order


def test_the_receipt_stays_valid_when_more_is_paid(bought, extend, this_shop):
    extend(bought.account)
    assert bought.holder(this_shop).rights == WHOLE


def test_a_narrowed_receipt_has_fewer_rights_and_another_mark(bought, this_shop):
    narrowed = bought.macaroon.narrowed("lightning-space_capabilities=read")
    held = tokens.holder(this_shop, narrowed, bought.preimage)
    assert (held.rights, held.source) == (Rights(frozenset({"read"}), None), RECEIPT)
    assert held.mark != bought.holder(this_shop).mark == bought.holder(this_shop).mark


def test_a_receipt_narrowed_in_time_expires(bought, this_shop, time_machine):
    narrowed = bought.macaroon.narrowed(f"lightning-space_valid_until={now() + HOUR}")
    assert not tokens.holder(this_shop, narrowed, bought.preimage).rights.are_whole
    time_machine.forward(HOUR)
    assert refusal(tokens.holder, this_shop, narrowed, bought.preimage) is Void


def test_another_orders_preimage_is_refused(bought, pay, this_shop):
    bobs = pay(orders.place(this_shop, wish(username="bob")))
    assert refusal(tokens.holder, this_shop, bought.macaroon, bobs.preimage) is Invalid


def test_a_receipt_of_another_shop_is_refused(bought, this_shop):
    other = replace(this_shop, keys=Keys([b"of another shop"]))
    assert refusal(bought.holder, other) is Void


def test_a_receipt_is_valid_while_its_key_is_a_fallback(bought, this_shop):
    masters = this_shop.vault.token_masters()
    rotated = replace(this_shop, keys=Keys([b"a new one", *masters]))
    assert bought.holder(rotated).rights == WHOLE
    anew = read(tokens.receipt(rotated, bought.account))
    assert tokens.holder(rotated, *anew).rights == WHOLE
    assert refusal(tokens.holder, this_shop, *anew) is Void


def test_a_receipt_is_not_settled_before_its_payment_is_recorded(this_shop, wallet, pay, settle):
    paid = pay(orders.place(this_shop, wish()), then=lambda: None)
    assert refusal(paid.holder, this_shop) is NotSettled
    settle()
    assert paid.holder(this_shop).rights == WHOLE


def unpaid(this_shop, node, order) -> Paid:
    """What the payer of an unpaid order would have. Nobody else knows the preimage yet."""
    preimage = bytes.fromhex(node._by_hash[order.payment_hash].preimage)
    return Paid(order, tokens.challenge(this_shop, order), preimage, order.bolt11)


def test_the_token_of_a_cancelled_order_is_void(this_shop, node, order):
    never_paid = unpaid(this_shop, node, order)
    assert refusal(never_paid.holder, this_shop) is NotSettled
    invoices.cancel(this_shop, order)
    assert refusal(never_paid.holder, this_shop) is Void


def test_the_token_of_an_expired_order_is_void_and_then_forgotten(
    this_shop, node, order, worker, time_machine
):
    never_paid = unpaid(this_shop, node, order)
    time_machine.forward(HOUR)
    worker.tidy()
    assert refusal(never_paid.holder, this_shop) is Void
    time_machine.forward(DAY)
    worker.tidy()
    assert not Order.select().exists()
    assert refusal(never_paid.holder, this_shop) is Void


def test_a_new_receipt_ends_every_token(bought, extend, hand_out, this_shop):
    _, *handed_out = hand_out(bought.account)
    extended = extend(bought.account, bought.holder(this_shop))
    by_bob = extend(bought.account, tokens.holder(this_shop, *handed_out))
    renew(bought.account)
    assert refusal(bought.holder, this_shop) is Void
    assert refusal(extended.holder, this_shop) is Void
    assert refusal(by_bob.holder, this_shop) is Void
    assert refusal(tokens.holder, this_shop, *handed_out) is Void
    assert not Token.select().exists()


def test_the_new_receipt_counts_and_so_does_what_is_bought_with_it(bought, extend, this_shop):
    renew(bought.account)
    anew = read(tokens.receipt(this_shop, bought.account))
    held = tokens.holder(this_shop, *anew)
    assert (held.rights, held.source) == (WHOLE, RECEIPT)
    assert extend(bought.account, held).holder(this_shop).rights == WHOLE


@pytest.mark.parametrize("when", ["before it", "by a request that was under way"])
def test_an_order_of_an_older_receipt_buys_time_and_no_control(
    bought, extend, settle, this_shop, when
):
    held, before = bought.holder(this_shop), bought.account.expires_at
    if when == "before it":
        extended = extend(bought.account, held, then=lambda: renew(bought.account))
        settle()
    else:
        renew(bought.account)
        extended = extend(bought.account, held)
    assert bought.account.expires_at == before + DAY
    assert refusal(extended.holder, this_shop) is Void


def test_the_receipt_of_a_closed_hosting_is_void_for_the_next_holder(
    bought, hand_out, extend, pay, this_shop, worker, time_machine
):
    _, *handed_out = hand_out(bought.account)
    extended = extend(bought.account, bought.holder(this_shop))
    close(bought.account, this_shop, worker)
    assert not Token.select().exists()
    time_machine.forward(365 * DAY)
    again = pay(orders.place(this_shop, wish(username="alice")))
    assert again.account.username == "alice"
    for macaroon, preimage in (
        (bought.macaroon, bought.preimage),
        (extended.macaroon, extended.preimage),
        handed_out,
    ):
        assert refusal(tokens.holder, this_shop, macaroon, preimage) is Void
    with pytest.raises(NotRecovered):
        recovery.recover(this_shop, bought.bolt11, bought.preimage)


# -- orders with a token ---------------------------------------------------------------


def test_an_extension_by_the_receipt_carries_control(bought, extend, this_shop):
    extended = extend(bought.account, bought.holder(this_shop))
    held = extended.holder(this_shop)
    assert (held.account, held.rights, held.source) == (bought.account, WHOLE, RECEIPT)
    assert held.order == extended.order


def test_an_extension_by_an_extensions_token_carries_control(bought, extend, this_shop):
    first = extend(bought.account, bought.holder(this_shop))
    second = extend(bought.account, first.holder(this_shop))
    assert second.holder(this_shop).rights == WHOLE


def test_an_extension_in_a_browser_gives_nobody_control(bought, extend, this_shop):
    extended = extend(bought.account)
    assert refusal(extended.holder, this_shop) is Void


@pytest.mark.parametrize("rights", [ABLE_TO_PAY, WHOLE, replace(ABLE_TO_PAY, valid_until=2**40)])
def test_an_extension_by_a_handed_out_token_carries_its_rights_and_dies_with_it(
    bought, extend, hand_out, this_shop, rights
):
    token, *handed_out = hand_out(bought.account, rights)
    bobs = tokens.holder(this_shop, *handed_out)
    extended = extend(bought.account, bobs)
    held = extended.holder(this_shop)
    assert (held.account, held.rights, held.source) == (bought.account, rights, token.id)
    again = extend(bought.account, held)
    assert again.holder(this_shop).rights == rights
    assert tokens.revoke(bought.account.id, token.id)
    assert refusal(extended.holder, this_shop) is Void
    assert refusal(again.holder, this_shop) is Void
    assert bought.holder(this_shop).rights == WHOLE


def test_an_extensions_token_expires_with_the_handed_out_token(
    bought, extend, hand_out, this_shop, time_machine
):
    token, *handed_out = hand_out(bought.account, Rights(WHOLE.capabilities, now() + HOUR))
    extended = extend(bought.account, tokens.holder(this_shop, *handed_out))
    # Even a token that has no such caveat itself.
    endless = replace(extended, macaroon=tokens.challenge(this_shop, extended.order, WHOLE))
    for each in (extended, endless):
        assert each.holder(this_shop).source == token.id
    time_machine.forward(HOUR)
    for each in (extended, endless):
        assert refusal(each.holder, this_shop) is Void


def test_an_extension_by_a_narrowed_receipt_carries_the_narrowed_rights(bought, extend, this_shop):
    narrowed = bought.macaroon.narrowed("lightning-space_capabilities=read,pay")
    held = tokens.holder(this_shop, narrowed, bought.preimage)
    assert extend(bought.account, held).holder(this_shop).rights == ABLE_TO_PAY


def test_a_token_handed_out_for_another_hosting_lends_it_no_rights(
    bought, extend, hand_out, pay, this_shop
):
    bobs = pay(orders.place(this_shop, wish(username="bob")))
    token, *_ = hand_out(bobs.account, WHOLE)
    stolen = tokens.Holder(bought.account, WHOLE, None, token.id, "mark", bought.macaroon)
    assert refusal(extend(bought.account, stolen).holder, this_shop) is Void


def test_an_extension_that_is_not_paid_gives_nothing(bought, node, this_shop):
    buyer = Buyer(None, "a key", RECEIPT)
    order = orders.extend(this_shop, bought.account.id, 1, "days", buyer)
    never_paid = unpaid(this_shop, node, order)
    assert refusal(never_paid.holder, this_shop) is NotSettled
    invoices.cancel(this_shop, order)
    assert refusal(never_paid.holder, this_shop) is Void


# -- a payment that comes late ---------------------------------------------------------


def test_an_extension_paid_too_late_gives_control_of_what_it_opens(
    bought, extend, this_shop, worker, settle
):
    renew(bought.account)
    held = tokens.holder(this_shop, *read(tokens.receipt(this_shop, bought.account)))
    late = extend(bought.account, held, then=lambda: close(bought.account, this_shop, worker))
    record_payments(worker)
    # The hosting is about to be opened again: whoever paid need not pay again.
    assert refusal(late.holder, this_shop) is NotSettled
    settle()
    anew = late.holder(this_shop)
    assert (anew.account.username, anew.rights, anew.source) == ("alice", WHOLE, RECEIPT)
    assert anew.account.receipt_epoch == l402.epoch(late.macaroon) != 0
    assert refusal(bought.holder, this_shop) is Void


def test_an_order_paid_after_its_release_gives_control(this_shop, node, order, settle, worker):
    late = unpaid(this_shop, node, order)
    # As with a restored database, which has released an order that the node has not.
    invoices.release(order.token)
    node.settle(order.payment_hash)
    record_payments(worker)
    assert refusal(late.holder, this_shop) is NotSettled
    settle()
    assert late.holder(this_shop).rights == WHOLE


# -- the receipt as text ---------------------------------------------------------------


def test_the_receipt_as_text_is_the_token_that_was_paid_for(bought, this_shop):
    text = tokens.receipt(this_shop, bought.account)
    assert read(text) == (bought.macaroon, bought.preimage)


def test_a_silent_node_is_not_a_node_without_the_invoice(bought, node, this_shop):
    node.faults.set("refuse", "listinvoices", message="-1: no")
    with pytest.raises(NodeError):
        tokens.receipt(this_shop, bought.account)
    node.down()
    with pytest.raises(NodeError):
        tokens.receipt(this_shop, bought.account)


def test_a_frozen_node_does_not_hold_up_the_receipt(bought, node, this_shop, tmp_path):
    node.faults.set("frozen")
    impatient = replace(this_shop, node=Node(str(tmp_path / "lightning-rpc"), 0.2))
    with pytest.raises(NodeError):
        tokens.receipt(impatient, bought.account)


def test_without_its_invoice_there_is_no_receipt(bought, node, this_shop):
    node.forget_newer_than(0)
    assert tokens.receipt(this_shop, bought.account) is None
    this_shop.node.delete_unpaid_invoice(order_book.label(this_shop, bought.order))
    assert tokens.receipt(this_shop, bought.account) is None


# -- handed out ------------------------------------------------------------------------


def test_a_handed_out_token_carries_its_rights_and_no_more(bought, hand_out, this_shop):
    token, *handed_out = hand_out(bought.account)
    held = tokens.holder(this_shop, *handed_out)
    assert (held.account, held.rights, held.order) == (bought.account, ABLE_TO_PAY, None)
    assert held.source == token.id
    assert tokens.handed_out(bought.account.id) == [token]
    assert read(tokens.text_of(this_shop, token)) == tuple(handed_out)


def test_a_handed_out_tokens_preimage_belongs_to_no_payment(bought, hand_out, this_shop):
    _, macaroon, preimage = hand_out(bought.account, WHOLE)
    assert preimage != bought.preimage
    assert not Order.select().where(Order.payment_hash == macaroon.payment_hash.hex()).exists()
    # So it does not turn the opening's challenge, which anybody may have seen, into a receipt.
    assert refusal(tokens.holder, this_shop, bought.macaroon, preimage) is Invalid
    assert refusal(tokens.holder, this_shop, macaroon, bought.preimage) is Invalid


def test_a_handed_out_token_expires_at_its_date(bought, hand_out, this_shop, time_machine):
    token, *handed_out = hand_out(bought.account, replace(ABLE_TO_PAY, valid_until=now() + HOUR))
    assert tokens.holder(this_shop, *handed_out).rights.valid_until == now() + HOUR
    time_machine.forward(HOUR)
    assert refusal(tokens.holder, this_shop, *handed_out) is Void
    assert tokens.handed_out(bought.account.id) == [token]


def test_only_the_owner_revokes_a_token_and_only_once(bought, hand_out, pay, this_shop):
    token, *handed_out = hand_out(bought.account)
    bobs = pay(orders.place(this_shop, wish(username="bob")))
    assert not tokens.revoke(bobs.account.id, token.id)
    assert tokens.holder(this_shop, *handed_out)
    assert tokens.revoke(bought.account.id, token.id)
    assert not tokens.revoke(bought.account.id, token.id)
    assert refusal(tokens.holder, this_shop, *handed_out) is Void
    assert bought.holder(this_shop)


def test_tokens_are_limited_even_at_once(bought, this_shop):
    account_id = bought.account.id

    def hand_out():
        try:
            return tokens.hand_out(this_shop, account_id, secrets.token_hex(4), WHOLE).id
        except tokens.TooManyTokens:
            return None

    for _ in range(tokens.TOKENS_MAX - 1):
        assert hand_out()
    assert sorted(map(bool, at_once(*[hand_out] * 3))) == [False, False, True]
    assert len(tokens.handed_out(account_id)) == tokens.TOKENS_MAX


def test_a_form_sent_twice_hands_out_one_token(bought, hand_out, this_shop):
    assert hand_out(bought.account) == hand_out(bought.account)
    with pytest.raises(tokens.TokenNameTaken):
        hand_out(bought.account, WHOLE)
    assert len(tokens.handed_out(bought.account.id)) == 1


def test_a_closing_hosting_hands_out_no_token(bought, this_shop):
    with models.transaction():
        accounts.close(bought.account.id)
    with pytest.raises(Void):
        tokens.hand_out(this_shop, bought.account.id, "", WHOLE)
    with pytest.raises(Void):
        tokens.hand_out(this_shop, "of nobody", "", WHOLE)


def test_a_token_whose_key_is_gone_is_void_and_cannot_be_shown(bought, hand_out, this_shop):
    token, *handed_out = hand_out(bought.account)
    other = replace(this_shop, keys=Keys([b"of another shop"]))
    assert refusal(tokens.holder, other, *handed_out) is Void
    assert refusal(tokens.text_of, other, token) is Void


# -- a name that rests -----------------------------------------------------------------


@pytest.fixture
def resting(bought, this_shop, worker) -> tuple[Paid, Paid]:
    """The older and the last receipt of a closed hosting, whose name rests."""
    renew(bought.account)
    macaroon, preimage = read(tokens.receipt(this_shop, bought.account))
    last = replace(bought, macaroon=macaroon, preimage=preimage)
    close(bought.account, this_shop, worker)
    return bought, last


@pytest.mark.each_database
def test_the_last_receipt_may_have_its_resting_name_again(resting, this_shop):
    _, last = resting
    proof = tokens.last_hosting(this_shop, last.macaroon, last.preimage)
    again = orders.place(this_shop, wish(username="alice", proof=proof))
    assert again.username == "alice"


def test_nobody_else_may_have_a_resting_name(resting, this_shop, pay):
    older, last = resting
    bobs = pay(orders.place(this_shop, wish(username="bob")))
    narrowed = last.macaroon.narrowed("lightning-space_capabilities=read,pay")
    for macaroon, preimage in (
        (older.macaroon, older.preimage),
        (bobs.macaroon, bobs.preimage),
        (narrowed, last.preimage),
    ):
        proof = tokens.last_hosting(this_shop, macaroon, preimage)
        assert proof is None
        with pytest.raises(orders.NameTaken):
            orders.place(this_shop, wish(username="alice", proof=proof))
    assert refusal(tokens.last_hosting, this_shop, last.macaroon, bobs.preimage) is Invalid


def test_a_resting_name_taken_over_under_a_new_key_is_the_new_holders(
    resting, pay, this_shop, worker
):
    _, seller = resting
    of_seller = tokens.last_hosting(this_shop, seller.macaroon, seller.preimage)
    anew = replace(this_shop, vault=Vault("another key", (this_shop.config.secret_key,)))
    again = pay(orders.place(this_shop, wish(username="alice", proof=of_seller)))
    renew(again.account)
    close(again.account, anew, worker)
    assert hostnames.rests(anew, "alice", of_seller)
    of_buyer = again.order.payment_hash, RestingName.get().receipt_epoch
    assert not hostnames.rests(anew, "alice", of_buyer)


def test_a_receipt_renewed_during_the_removal_is_the_last_one(bought, this_shop, worker, panel):
    reconcile.account(this_shop, bought.account.id)

    renewed = []

    def before_call(method):
        if method.endswith("_delete") and not renewed:
            renew(bought.account)
            renewed.append(bought.account.receipt_epoch)
            models.db.close()

    panel.before_call = before_call
    close(bought.account, this_shop, worker)
    assert renewed
    assert RestingName.get().receipt_epoch == renewed[0]


# -- with other services ---------------------------------------------------------------


@pytest.fixture
def buy_films(this_shop):
    """Buy a service of a gate while showing a token. Return the token that the gate mints."""

    def buy_films(macaroon, preimage) -> tuple[Macaroon, bytes]:
        this_shop.keys.check(macaroon, preimage)
        paid_with = secrets.token_bytes(32)
        films = Rights(None, now() + DAY)
        caveats = l402.caveats_with(macaroon, "films", films, now())
        payment_hash = hashlib.sha256(paid_with).digest()
        return this_shop.keys.mint(payment_hash, macaroon.token_id, caveats), paid_with

    return buy_films


def test_an_access_key_that_holds_another_service_opens_the_hosting_as_before(
    bought, extend, hand_out, buy_films, this_shop, subtests
):
    alices = bought.macaroon, bought.preimage
    token, *of_bob = hand_out(bought.account)
    extended = extend(bought.account, bought.holder(this_shop))
    by_bob = extend(bought.account, tokens.holder(this_shop, *of_bob))
    for macaroon, preimage in (
        alices,
        of_bob,
        (extended.macaroon, extended.preimage),
        (by_bob.macaroon, by_bob.preimage),
        (bought.macaroon.narrowed("lightning-space_capabilities=read"), bought.preimage),
        (bought.macaroon.narrowed(f"lightning-space_valid_until={now() + HOUR}"), bought.preimage),
    ):
        with subtests.test(macaroon=macaroon):
            before = tokens.holder(this_shop, macaroon, preimage)
            once = buy_films(macaroon, preimage)
            for shown in (once, buy_films(*once)):
                held = tokens.holder(this_shop, *shown)
                assert (held.account, held.order) == (before.account, before.order)
                assert (held.rights, held.source) == (before.rights, before.source)
                assert l402.rights(shown[0], "films", now()).valid_until
                # The payment for the films alone opens no hosting.
                assert refusal(tokens.holder, this_shop, shown[0], preimage) is Invalid
    tokens.revoke(bought.account.id, token.id)
    for macaroon, preimage in (of_bob, (by_bob.macaroon, by_bob.preimage)):
        assert refusal(tokens.holder, this_shop, *buy_films(macaroon, preimage)) is Void


def buy_time(this_shop, wallet, shown, then) -> tuple[Macaroon, bytes]:
    """Buy time while showing a token, as /hosting/extend sells it."""
    held = tokens.holder(this_shop, *shown)
    buyer = Buyer(None, secrets.token_hex(8), held.source, held.account.receipt_epoch)
    order = orders.extend(this_shop, held.account.id, 1, "days", buyer)
    macaroon = tokens.challenge(this_shop, order, held.rights, held.macaroon)
    preimage = bytes.fromhex(wallet.pay(order.bolt11)["payment_preimage"])
    then()
    return macaroon, preimage


def test_orders_with_an_access_key_keep_its_other_services(
    bought, hand_out, buy_films, this_shop, wallet, settle, subtests
):
    token, *of_bob = hand_out(bought.account)
    for shown in ((bought.macaroon, bought.preimage), tuple(of_bob)):
        with subtests.test(shown=shown[0]):
            before = tokens.holder(this_shop, *shown)
            extended = buy_time(this_shop, wallet, buy_films(*shown), settle)
            again = buy_time(this_shop, wallet, extended, settle)
            for each in (extended, again):
                held = tokens.holder(this_shop, *each)
                assert (held.account, held.rights) == (before.account, before.rights)
                assert held.source == before.source
                assert held.order.payment_hash == each[0].payment_hash.hex()
                assert l402.rights(each[0], "films", now()).valid_until
    assert tokens.revoke(bought.account.id, token.id)
    assert refusal(tokens.holder, this_shop, *again) is Void
    renew(bought.account)
    assert refusal(tokens.holder, this_shop, *buy_films(bought.macaroon, bought.preimage)) is Void


def test_a_token_bought_with_an_access_key_counts_once_paid(
    bought, hand_out, buy_films, this_shop, node, wallet, settle
):
    _, *of_bob = hand_out(bought.account)
    for shown in (buy_films(bought.macaroon, bought.preimage), buy_films(*of_bob)):
        held = tokens.holder(this_shop, *shown)
        paid = buy_time(this_shop, wallet, shown, then=lambda: None)
        assert refusal(tokens.holder, this_shop, *paid) is NotSettled
        settle()
        assert tokens.holder(this_shop, *paid).rights == held.rights
        buyer = Buyer(None, secrets.token_hex(8), held.source, 0)
        order = orders.extend(this_shop, held.account.id, 1, "days", buyer)
        macaroon = tokens.challenge(this_shop, order, held.rights, held.macaroon)
        preimage = bytes.fromhex(node._by_hash[order.payment_hash].preimage)
        assert refusal(tokens.holder, this_shop, macaroon, preimage) is NotSettled
        invoices.cancel(this_shop, order)
        assert refusal(tokens.holder, this_shop, macaroon, preimage) is Void


def test_a_late_order_with_an_access_key_gives_control_of_what_it_opens(
    bought, buy_films, this_shop, wallet, settle, worker
):
    shown = buy_films(bought.macaroon, bought.preimage)
    gone = bought.account
    late = buy_time(this_shop, wallet, shown, lambda: close(gone, this_shop, worker))
    record_payments(worker)
    assert refusal(tokens.holder, this_shop, *late) is NotSettled
    settle()
    held = tokens.holder(this_shop, *late)
    assert (held.account.username, held.rights, held.source) == ("alice", WHOLE, RECEIPT)
    assert held.account.id != gone.id
    assert refusal(tokens.holder, this_shop, *shown) is Void


def test_an_access_key_with_services_ends_with_a_new_one(bought, extend, buy_films, this_shop):
    shown = buy_films(bought.macaroon, bought.preimage)
    later = buy_films(*shown)
    renew(bought.account)
    for each in (shown, later, buy_films(*shown)):
        assert refusal(tokens.holder, this_shop, *each) is Void
    anew = read(tokens.receipt(this_shop, bought.account))
    assert tokens.holder(this_shop, *buy_films(*anew)).rights == WHOLE


def test_nobody_can_name_the_payment_of_anothers_hosting(
    bought, pay, buy_films, this_shop, subtests
):
    bobs = pay(orders.place(this_shop, wish(username="bob")))
    alices = f"lightning-space_payment={bought.order.payment_hash}"
    films = this_shop.keys.mint(
        hashlib.sha256(bobs.preimage).digest(), bobs.macaroon.token_id, ["services=films:0"]
    )
    both, paid_with = buy_films(bobs.macaroon, bobs.preimage)
    for macaroon, preimage in (
        (bobs.macaroon, bobs.preimage),
        (films, bobs.preimage),
        (both, paid_with),
    ):
        with subtests.test(macaroon=macaroon):
            for attack in (
                macaroon.narrowed(alices),
                macaroon.narrowed(alices, alices),
                macaroon.narrowed("services=lightning-space:0", alices),
                Macaroon(
                    macaroon.identifier,
                    (alices.encode(), *macaroon.caveats),
                    macaroon.narrowed(alices).signature,
                ),
                Macaroon(macaroon.identifier, (alices.encode(),), macaroon.signature),
            ):
                for refuse in (tokens.holder, tokens.last_hosting):
                    assert refusal(refuse, this_shop, attack, preimage) is Invalid
                assert refusal(buy_films, attack, preimage) is Invalid


def test_a_token_of_another_epoch_does_not_open_the_hosting_that_it_names(bought, this_shop):
    keys, preimage = this_shop.keys, secrets.token_bytes(32)
    named = f"lightning-space_payment={bought.order.payment_hash}"
    caveats = [named, *l402.caveats(l402.SERVICE, WHOLE)]
    for epoch, expected in ((0, WHOLE), (1, Void), (2**63, Void)):
        token_id = keys.token_id(epoch)
        macaroon = keys.mint(hashlib.sha256(preimage).digest(), token_id, caveats)
        if expected is Void:
            assert refusal(tokens.holder, this_shop, macaroon, preimage) is Void
        else:
            assert tokens.holder(this_shop, macaroon, preimage).rights == expected


def test_a_closed_hostings_name_comes_back_to_an_access_key_with_services(
    bought, buy_films, this_shop, worker
):
    shown = buy_films(bought.macaroon, bought.preimage)
    close(bought.account, this_shop, worker)
    assert refusal(tokens.holder, this_shop, *shown) is Void
    proof = tokens.last_hosting(this_shop, *shown)
    assert proof == tokens.last_hosting(this_shop, bought.macaroon, bought.preimage)
    assert orders.place(this_shop, wish(username="alice", proof=proof)).username == "alice"


# -- the wallet's history --------------------------------------------------------------


def entered(account: Account) -> None:
    Account.update(entered_at=now()).where(Account.id == account.id).execute()


def dressed(text: str) -> list[str]:
    """An invoice as wallets show it, and as copied from a mail."""
    return [
        text,
        text.upper(),
        f"lightning:{text}",
        f"LIGHTNING:{text.upper()}",
        f"  {text[:40]}\r\n  {text[40:]}\t\n",
    ]


@pytest.mark.each_database
def test_the_wallets_history_sets_a_new_password_and_ends_all_else(
    bought, extend, hand_out, client, this_shop
):
    hand_out(bought.account)
    Order.update(browser="alice's browser").execute()
    Account.update(session_epoch=4, password_sealed="sealed").execute()
    account, password = recovery.recover(this_shop, bought.bolt11, bought.preimage)
    assert account == bought.account
    assert account.session_epoch == 5 and account.receipt_epoch != 0
    assert (account.password_sealed, account.entered_at) == ("sealed", None)
    assert not Token.select().exists()
    assert Order.get().browser is None
    assert refusal(bought.holder, this_shop) is Void
    assert tokens.holder(this_shop, *read(tokens.receipt(this_shop, account)))
    assert log_in(client, "alice", password).status_code == 303


@pytest.mark.parametrize("spelling", range(5))
def test_the_invoice_is_taken_as_wallets_show_it(bought, this_shop, spelling):
    text = dressed(bought.bolt11)[spelling]
    assert recovery.recover(this_shop, text, bought.preimage)


def look_alike(text: str) -> str:
    """An invoice with the same hash, secret, amount and text, from another node."""
    terms = bolt11s.decode(text)
    names = ("payment_hash", "payment_secret", "created_at", "expiry", "amount_msat", "description")
    same = {name: terms[name] for name in names}
    cltv, features = terms["min_final_cltv_expiry"], terms["features"]
    return bolt11s.encode(
        PrivateKey(), min_final_cltv_expiry=cltv, features=features.zfill(8), **same
    )


def test_a_routing_nodes_lookalike_invoice_is_refused(bought, node, this_shop):
    """Such a node knows hash, secret and preimage. It lacks the receiver's key."""
    forged = look_alike(bought.bolt11)
    ours, theirs = bolt11s.decode(bought.bolt11), bolt11s.decode(forged)
    assert theirs.pop("payee") != ours.pop("payee")
    assert theirs.pop("signature") != ours.pop("signature")
    assert ours == theirs
    with pytest.raises(NotRecovered):
        recovery.recover(this_shop, forged, bought.preimage)
    assert bought.account.receipt_epoch == 0


def test_every_other_proof_is_refused(bought, extend, pay, this_shop):
    bobs = pay(orders.place(this_shop, wish(username="bob")))
    extended = extend(bought.account)
    for text, preimage in (
        (bobs.bolt11, bought.preimage),
        (bought.bolt11, bobs.preimage),
        (bought.bolt11, bytes(32)),
        (bought.bolt11[:-1], bought.preimage),
        (bought.bolt11 + "q", bought.preimage),
        (bought.order.payment_hash, bought.preimage),
        ("", bought.preimage),
        ("\0ü\U0001f329", bought.preimage),
        (extended.bolt11, extended.preimage),
        (hashlib.sha256(bought.bolt11.encode()).hexdigest(), bought.preimage),
    ):
        with pytest.raises(NotRecovered):
            recovery.recover(this_shop, text, preimage)
    assert {account.receipt_epoch for account in Account.select()} == {0}


def test_an_unpaid_or_unopened_order_recovers_nothing(this_shop, node, order, wallet, worker):
    preimage = bytes.fromhex(node._by_hash[order.payment_hash].preimage)
    for step in (lambda: None, lambda: wallet.pay(order.bolt11), lambda: record_payments(worker)):
        step()
        with pytest.raises(NotRecovered):
            recovery.recover(this_shop, order.bolt11, preimage)


@pytest.mark.each_database
def test_recovery_of_a_used_hosting_waits_a_day_and_is_possible_for_a_week(
    bought, this_shop, time_machine
):
    entered(bought.account)

    def recover():
        return recovery.recover(this_shop, bought.bolt11, bought.preimage)

    def waits() -> int:
        with pytest.raises(RecoveryWaits) as waiting:
            recover()
        return waiting.value.at - now()

    assert waits() == DAY
    time_machine.forward(DAY - 1)
    assert waits() == 1
    time_machine.forward(1 + 7 * DAY)
    time_machine.forward(recovery.AGAIN_SECONDS)
    assert waits() == DAY  # the attempt was not used, so a new one begins
    time_machine.forward(DAY + 7 * DAY - 1)
    assert recover()


def test_a_lost_answer_to_a_recovery_is_given_again_for_a_while(
    bought, client, this_shop, time_machine
):
    entered(bought.account)
    with pytest.raises(RecoveryWaits) as waiting:
        recovery.recover(this_shop, bought.bolt11, bought.preimage)
    assert waiting.value.closes_at == waiting.value.at + 7 * DAY
    time_machine.forward(DAY)
    for _ in range(2):
        _, password = recovery.recover(this_shop, bought.bolt11, bought.preimage)
        assert recovery.opens_at(bought.account) is None
    time_machine.forward(recovery.AGAIN_SECONDS)
    with pytest.raises(RecoveryWaits):
        recovery.recover(this_shop, bought.bolt11, bought.preimage)
    assert log_in(client, "alice", password).status_code == 303


def test_a_recovery_begun_by_a_wrong_clock_does_not_count(bought, this_shop, time_machine):
    entered(bought.account)
    time_machine.forward(365 * DAY)
    with pytest.raises(RecoveryWaits):
        recovery.recover(this_shop, bought.bolt11, bought.preimage)
    time_machine.forward(-365 * DAY)
    with pytest.raises(RecoveryWaits) as waits:
        recovery.recover(this_shop, bought.bolt11, bought.preimage)
    assert waits.value.at == now() + DAY


def test_the_first_login_cancels_a_waiting_recovery(bought, client, this_shop):
    log_in(client, "alice", recovery.recover(this_shop, bought.bolt11, bought.preimage)[1])
    assert bought.account.entered_at is not None
    with pytest.raises(RecoveryWaits):
        recovery.recover(this_shop, bought.bolt11, bought.preimage)


def test_recovery_that_is_switched_off_is_refused_even_while_it_waits(
    bought, this_shop, time_machine
):
    entered(bought.account)
    with pytest.raises(RecoveryWaits):
        recovery.recover(this_shop, bought.bolt11, bought.preimage)
    Account.update(wallet_recovers=False).execute()
    time_machine.forward(DAY)
    with pytest.raises(NotRecovered):
        recovery.recover(this_shop, bought.bolt11, bought.preimage)


def test_a_new_receipt_restarts_the_wait(bought, this_shop, time_machine):
    entered(bought.account)
    with pytest.raises(RecoveryWaits):
        recovery.recover(this_shop, bought.bolt11, bought.preimage)
    time_machine.forward(DAY)
    renew(bought.account)
    with pytest.raises(RecoveryWaits):
        recovery.recover(this_shop, bought.bolt11, bought.preimage)


def test_two_simultaneous_recoveries_succeed_one_after_the_other(bought, this_shop, client):
    def recover():
        return recovery.recover(this_shop, bought.bolt11, bought.preimage)[1]

    passwords = at_once(recover, recover)
    answers = sorted(log_in(client, "alice", each).status_code for each in passwords)
    assert answers[0] == 303 and answers[1] != 303


def test_an_hours_hosting_is_recovered_like_any_other(this_shop, pay):
    paid = pay(orders.place(this_shop, wish(terms=Terms(100, 1, "hours"), browser=None)))
    assert recovery.recover(this_shop, paid.bolt11, paid.preimage)[0] == paid.account


def test_the_text_of_a_paid_invoice_is_not_kept(bought):
    assert Order.get().bolt11 is None
    assert Order.get().invoice_hash == order_book.hash_of(bought.bolt11)


def test_the_worker_opens_a_hosting_bought_by_a_program(bought, worker):
    work(worker)
    assert bought.account.ready_at is not None
