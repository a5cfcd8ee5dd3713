"""The BOLT 12 offers of accounts: one each, made on demand, switched on and off by a rule.

The account decides whether its offer should be active. Whatever may change that raises the offer's
revision, and the worker tells the node.
"""

import logging
import re

from lightningspace.base.clock import now
from lightningspace.base.models import Account, Cursor, Offer, lock_account, transaction
from lightningspace.outside import node
from lightningspace.outside.node import NodeRefused
from lightningspace.shop import Shop

logger = logging.getLogger(__name__)

# Longer than the worker asks the node about one offer.
HELD_SECONDS = 2 * 60
LABEL = "tips-"


def is_wanted(account: Account) -> bool:
    """Whether its offer should be active: nobody is to pay for what is about to go."""
    may_be_sold = account.opened_at is not None and account.last_call_at is None
    is_open = account.closing_at is None and account.blocked_at is None
    return may_be_sold and is_open and account.tips_offer


def of(account_id: str) -> Offer | None:
    return Offer.get_or_none(Offer.account == account_id)


def make(shop: Shop, account: Account, site: str) -> Offer | None:
    """The account's offer, made if it has none; of two made at once the first is kept.

    None: it should have none now. Raises NodeError.
    """
    known = of(account.id)
    if known:
        if known.is_active != is_wanted(account):  # whoever was closing the account was killed
            recheck(account.id)
        return known
    label = f"{shop.config.label_prefix}{LABEL}{account.id}"
    # A public node derives the offer from these words alone: without the account's id, the next
    # holder of a name would get the last one's offer again.
    made = _made(shop, label, f"Tips for {site} ({account.id[:8]})", site)
    with transaction():
        locked = lock_account(account.id)
        if locked and is_wanted(locked):
            # It is due at first, so the worker checks whether it is still wanted.
            Offer.insert(
                id=made.id, account=account.id, bolt12=made.bolt12, is_active=True
            ).on_conflict_ignore().execute()
    kept = of(account.id)
    if kept is None or kept.id != made.id:
        shop.node.switch_offer(made.id, False)
    return kept


def _made(shop: Shop, label: str, description: str, issuer: str) -> node.Offer:
    try:
        return shop.node.create_offer(label, description, issuer)
    except NodeRefused as refused:
        # It exists, switched off, and a restored database does not know it.
        found = shop.node.find_offer_of(label) if refused.rpc_code == node.OFFER_EXISTS else None
        if found is None:
            raise
        return found


def recheck(account_id: str) -> None:
    """Within a transaction: have the worker check its offer. May be called twice."""
    changes = {"revision": Offer.revision + 1, "is_due": True}
    Offer.update(changes).where(Offer.account == account_id).execute()


def recheck_all() -> None:
    """Within a transaction: have every offer checked: the node may have lost what it was told."""
    Offer.update(revision=Offer.revision + 1, is_due=True).execute()


def is_off(account_id: str) -> bool:
    """Whether no offer of the account can be paid, now or after a change under way."""
    may_be_on = Offer.is_active | Offer.is_due
    return not Offer.select().where((Offer.account == account_id) & may_be_on).exists()


def account_of(shop: Shop, offer_id: str) -> tuple[bool, str | None]:
    """Whether an offer is ours, and its account; None: closed, or unknown.

    An offer that a restored database does not know is found by its label and kept again, so that it
    goes when its account does. Raises NodeError.
    """
    known = Offer.get_or_none(Offer.id == offer_id)
    if known and known.account_id:
        return True, known.account_id
    found = shop.node.find_offer(offer_id)
    # The whole label: another program's, or another shop's, may begin with ours.
    ours = re.escape(shop.config.label_prefix + LABEL) + "([0-9a-f]{16})"
    labelled = found and re.fullmatch(ours, found.label or "")
    if not labelled:
        return known is not None, None
    if not known:
        _keep_again(found, labelled[1])
    return True, labelled[1]


def _keep_again(found: node.Offer, account_id: str) -> None:
    with transaction():
        # An offer that is not its account's, or no longer, is to be switched off.
        owner = None if lock_account(account_id) is None or of(account_id) else account_id
        Offer.insert(
            id=found.id,
            account=owner,
            bolt12=found.bolt12 if owner else "",
            is_active=found.is_active,
        ).on_conflict_ignore().execute()


# -- telling the node ------------------------------------------------------------------


def match(shop: Shop) -> int:
    """Switch due offers on or off at the node; return how many were settled. Raises NodeError."""
    matched = 0
    for offer in list(Offer.select(Offer.id).where(Offer.is_due)):
        try:
            matched += _match(shop, offer.id)
        except NodeRefused as refused:  # of this offer alone: the others go on
            logger.error("offer %s: %s; it is tried again soon", offer.id[:8], refused)
    return matched


def turn_off(shop: Shop, account_id: str) -> bool:
    """Switch the account's offer off now, before the account is closed.

    False: another worker is at it, or a payment is not recorded yet. Whoever then does not close
    the account calls `recheck`. Raises NodeError.
    """
    offer = of(account_id)
    return offer is None or _match(shop, offer.id, is_over=True)


def _match(shop: Shop, offer_id: str, is_over: bool = False) -> bool:
    # One worker at a time, so that we note what the node was told last.
    moment = now()
    is_free = Offer.held_until.is_null() | (Offer.held_until <= moment)
    # Held until then by a wrong clock.
    is_free |= Offer.held_until > moment + HELD_SECONDS
    until = moment + HELD_SECONDS
    # Due in any case: if we are killed now, nobody knows what the node was told.
    hold = Offer.update(held_until=until, is_due=True)
    held = hold.where((Offer.id == offer_id) & is_free)
    if not held.execute():
        return False
    try:
        offer = Offer.get_by_id(offer_id)
        account = offer.account_id and Account.get_or_none(Account.id == offer.account_id)
        wanted = bool(account) and not is_over and is_wanted(account)
        if not shop.node.switch_offer(offer_id, wanted) and wanted:
            # The node is another one, or was restored: a new offer is made on demand.
            Offer.update(account=None, bolt12="").where(Offer.id == offer_id).execute()
            logger.error("offer %s: the node does not know it any more", offer_id[:8])
            wanted = False
        is_on = wanted or not _is_recorded(shop)
    except NodeRefused:
        raise  # it stays held for a while: it would be refused again
    except BaseException:
        Offer.update(held_until=None).where(Offer.id == offer_id).execute()
        raise
    with transaction():
        Offer.update(is_active=is_on, held_until=None).where(Offer.id == offer_id).execute()
        as_read = (Offer.id == offer_id) & (Offer.revision == offer.revision)
        Offer.update(is_due=is_on != wanted).where(as_read).execute()
    return is_on == wanted


def _is_recorded(shop: Shop) -> bool:
    """Whether every payment that the node has so far is recorded: no later one can be to an offer
    that is off.
    """
    last = Cursor.get_or_none(Cursor.node_id == shop.node.node_id())
    if last is None or not last.pay_index:
        return shop.node.wait_for_payment(0, 0) is None
    # A restored node counts from below the cursor: that has to be noticed first.
    if not shop.node.has_payment(last.pay_index, last.payment_hash):
        return False
    return shop.node.wait_for_payment(last.pay_index, 0) is None
