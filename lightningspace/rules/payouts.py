"""Paying refunds out, each once: a payment is recorded before the node is told to make it, and from
then on the node alone says what became of it.
"""

import logging
from collections.abc import Callable

from peewee import IntegrityError

from lightningspace.base.clock import HOUR, now
from lightningspace.base.logs import first_line
from lightningspace.base.models import Fact, Order, set_fact, transaction
from lightningspace.base.money_models import Refund
from lightningspace.outside import lnurl
from lightningspace.outside.lnurl_pay import NoInvoice
from lightningspace.outside.node import NodeError, NodeRefused, NodeUnreached
from lightningspace.outside.paying import COMPLETE, FAILED, PAY_SECONDS, Asked, Sent
from lightningspace.rules import refunds
from lightningspace.rules.refunds import Problem, State
from lightningspace.shop import Shop

logger = logging.getLogger(__name__)

# This long after a call or an invoice is over by our clock, it is over by the node's as well.
CLOCKS_SECONDS = 10 * 60
# A payment that is under way for longer than this is held by somebody: the operator is told.
LONG_SECONDS = 60 * 60
# The name of a fact: when refunds that had failed were last tried again.
TRIED_AT = "refunds tried again at"
PAID_BEFORE = "It was paid back before."


def pay_due(shop: Shop, stopping: Callable[[], bool] = lambda: False) -> None:
    """Pay the refunds that are due, and look up the payments that were begun. Many may call this at
    once. One that fails does not keep the others from being paid.

    Raises NodeError.
    """
    _try_again()
    steps, failure = {State.PAYING: _look_up, State.DUE: _pay}, None
    for refund in refunds.waiting():
        step = steps.get(refunds.state(refund))
        if step is None or stopping():
            continue
        try:
            step(shop, refund)
        except NodeError as error:  # perhaps for this refund alone
            failure = error
        except Exception as error:
            logger.error("refund %s failed: %s", refund.id, first_line(error), exc_info=error)
    if failure:
        raise failure


def _try_again() -> None:
    """Once an hour, make those due again whose problem may have passed."""
    moment, fact = now(), Fact.get_or_none(Fact.name == TRIED_AT)
    if fact and 0 <= moment - int(fact.value) < HOUR:
        return
    set_fact(TRIED_AT, moment)
    for refund in filter(refunds.is_tried_again, refunds.waiting()):
        as_read = refunds.is_idle(refund.id) & (Refund.destination == refund.destination)
        Refund.update(problem=None).where(as_read & (Refund.problem == refund.problem)).execute()


def _pay(shop: Shop, refund: Refund) -> None:
    if _was_forgotten(shop, refund):
        return
    try:
        invoice, problem = _invoice(shop, refund)
        asked = shop.node.read(invoice) if invoice else None
        if problem is None:
            problem = Problem.UNREADABLE
            if asked is not None and asked.payment_hash is not None:
                problem = refunds.fault(shop, asked, refund.msat)
    except NodeRefused as refused:
        logger.warning("refund %s: %s", refund.id, refused)
        problem = Problem.UNREACHABLE
    if problem:
        _note_problem(refund, problem)
        return
    # At the node as well, where a restored database finds it.
    note = f"{refund.id}-{asked.payment_hash}"
    shop.node.note(*_key(shop, refund.order.payment_hash), note, text=str(refund.msat))
    if not _begin(refund, asked):
        return
    has_failed = False
    try:
        shop.node.pay(invoice, refund.msat)
    except NodeUnreached:  # it was not asked
        _end(refund)
        raise
    except NodeRefused as refused:  # parts of it may still be under way
        logger.warning("refund %s: %s", refund.id, refused)
        has_failed = True
    _look_up(shop, refund, has_failed)


def _key(shop: Shop, payment_hash: str) -> tuple[str, str, str]:
    """The key in the node's datastore below which a payment's refunds are noted."""
    return "lightning-space", f"{shop.config.label_prefix}refunds", payment_hash


def is_noted(shop: Shop, payment_hash: str) -> bool:
    """Whether the node has noted that some of a payment was, or was about to be, paid back. The
    database may have forgotten it. Raises NodeError.
    """
    return bool(shop.node.noted(*_key(shop, payment_hash)))


def _was_forgotten(shop: Shop, refund: Refund) -> bool:
    """Whether the node has made or begun a refund of this payment that the database, restored from
    an older copy, had forgotten. It is recorded now, and this refund is not to be paid.
    """
    for note, msat in shop.node.noted(*_key(shop, refund.order.payment_hash)).items():
        refund_id, _, payment_hash = note.partition("-")
        is_ours = Refund.get_or_none(Refund.payment_hash == payment_hash)
        sent = None if is_ours else shop.node.sent(payment_hash)
        if sent is None or sent.status == FAILED:
            continue
        if refund_id == refund.id:
            if _begin(refund, Asked(payment_hash, refund.msat, None, sent.began_at)):
                _look_up(shop, refund)
            return True
        if sent.status != COMPLETE:
            return True
        with transaction():
            _remember(refund.order, refund_id, int(msat), payment_hash, sent)
            if refunds.left_msat(refund.order) < 0:
                refunds.refuse(refund.id, PAID_BEFORE)
            else:  # perhaps the same money, offered again by somebody who did not know of that
                Refund.update(approved_at=None).where(_is_due(refund)).execute()
        return True
    return False


def _remember(order: Order, refund_id: str, msat: int, payment_hash: str, sent: Sent) -> None:
    at = dict.fromkeys(
        ("made_at", "approved_at", "claimed_at", "sent_at", "paid_at"), sent.began_at
    )
    of_payment = {"payment_hash": payment_hash, "expires_at": sent.began_at}
    of_payment |= {"preimage": sent.preimage, "fee_msat": sent.fee_msat}
    row = Refund.insert(id=refund_id, order=order, msat=msat, **at, **of_payment)
    row.on_conflict_ignore().execute()
    logger.error("refund %s: paid before the database was restored", refund_id)


def _invoice(shop: Shop, refund: Refund) -> tuple[str | None, Problem | None]:
    """The invoice to pay, or why there is none. Nothing is recorded before it is there."""
    destination = refund.destination
    if refunds.OFFER.fullmatch(destination):
        return shop.node.fetch_invoice(destination, refund.msat), None
    if not lnurl.is_address(destination):
        return destination, None
    try:
        invoice, description_hash = shop.payees.invoice(destination, refund.msat)
    except NoInvoice as error:
        logger.warning("refund %s: its Lightning Address %s", refund.id, error)
        return None, Problem.UNREACHABLE
    asked = shop.node.read(invoice)
    # The wallet's own invoice has the hash of what its address said: another may be anybody's.
    if asked is None or asked.description_hash not in (None, description_hash):
        return None, Problem.UNREACHABLE
    return invoice, None


def _is_due(refund: Refund):
    """The condition that a refund is due, as it was when it was read."""
    as_read = Refund.approved_at.is_null(False) & Refund.problem.is_null()
    as_read &= Refund.destination == refund.destination
    return refunds.is_idle(refund.id) & as_read


def _begin(refund: Refund, asked: Asked) -> bool:
    """Record the payment that is about to be made; False: somebody was faster."""
    refund.sent_at, refund.payment_hash = now(), asked.payment_hash
    refund.expires_at = asked.expires_at
    facts = {name: getattr(refund, name) for name in ("sent_at", "payment_hash", "expires_at")}
    try:
        with transaction():
            began = Refund.update(facts).where(_is_due(refund)).execute() == 1
    except IntegrityError:  # another refund has just taken this invoice
        _note_problem(refund, Problem.USED)
        return False
    if began:
        logger.info("refund %s: paying %d msat", refund.id, refund.msat)
    return began


def _note_problem(refund: Refund, problem: Problem) -> None:
    Refund.update(problem=problem).where(_is_due(refund)).execute()
    logger.warning("refund %s: not paid: %s", refund.id, problem)


def _end(refund: Refund, **facts) -> None:
    """Record that nothing of the payment that was begun is under way any more."""
    begun = (Refund.id == refund.id) & (Refund.sent_at == refund.sent_at) & Refund.paid_at.is_null()
    begun &= Refund.payment_hash == refund.payment_hash
    over = {"sent_at": None, "payment_hash": None, "expires_at": None}
    if Refund.update(over | facts).where(begun).execute():
        logger.warning("refund %s: not paid: %s", refund.id, facts.get("problem", "not begun"))


def _look_up(shop: Shop, refund: Refund, has_failed: bool = False) -> None:
    """Find out what became of a payment that was begun.

    `has_failed`: the node has just answered our call to pay so, and begins nothing more. Otherwise
    a call that it has not read yet may begin the payment until the invoice expires.
    """
    sent = shop.node.sent(refund.payment_hash)
    if sent is not None and sent.status == COMPLETE:
        facts = {"paid_at": now(), "preimage": sent.preimage, "fee_msat": sent.fee_msat}
        begun = (Refund.id == refund.id) & Refund.paid_at.is_null()
        begun &= Refund.payment_hash == refund.payment_hash
        if Refund.update(facts, destination=None, problem=None).where(begun).execute():
            logger.info("refund %s: paid", refund.id)
    elif sent is not None and sent.status == FAILED:
        # For a moment no part is under way, while the node looks for another route.
        over_at = sent.began_at + PAY_SECONDS
        if sent.began_at < refund.sent_at:  # an earlier attempt, which says nothing about ours
            over_at = max(over_at, refund.expires_at)
        if has_failed or now() > over_at + CLOCKS_SECONDS:
            _end(refund, problem=Problem.FAILED)
    elif sent is None and has_failed:
        _end(refund, problem=Problem.FAILED)
    elif sent is None and now() > refund.expires_at + CLOCKS_SECONDS:
        # The node was never told; or it was, and has been restored from an older copy since.
        _end(refund, problem=Problem.UNKNOWN, approved_at=None)
        logger.error("refund %s: the node knows nothing of it: see `flask refunds`", refund.id)


def problems() -> dict[str, str]:
    """What needs the operator: by a line for each, the token of its order."""
    told = {_problem(refund): refund.order_token for refund in refunds.waiting()}
    return {line: token for line, token in told.items() if line}


def _problem(refund: Refund) -> str | None:
    what = f"refund {refund.id} of {refund.msat} msat"
    state = refunds.state(refund)
    if state == State.CLAIMED and refund.problem == Problem.UNKNOWN:
        return f"{what}: the node knows nothing of its payment; has it been restored since?"
    if state == State.CLAIMED:
        return f"{what} waits for your word"
    if state == State.FAILED and not refunds.is_tried_again(refund):
        return f"{what} was not paid, and its payer has left no other destination yet"
    if state == State.PAYING and now() > refund.sent_at + LONG_SECONDS:
        return f"{what}: its payment is neither through nor back after an hour"
    return None
