"""Tips: who takes them by which door, what wallets are told, and what the owner sees."""

import json
import logging
import re
from urllib.parse import urlsplit

from peewee import fn

from lightningspace.base.clock import now
from lightningspace.base.models import Account, Order, lock_account, transaction
from lightningspace.base.prices import DAY
from lightningspace.outside.lnurl import PATH, encode
from lightningspace.outside.node import NodeError
from lightningspace.rules import hostnames, ledger, offers, order_book, wanted
from lightningspace.rules.order_book import TIP_DOORS, Door
from lightningspace.shop import Shop

logger = logging.getLogger(__name__)

# The doors by which tips come in (see `Order.door`); an owner can close each.
DOORS = TIP_DOORS
# More tips than these are not counted for a badge.
COUNTED_MAX = 1000
SWITCHES = (*(f"tips_{door}" for door in DOORS), "tips_show_end")


def taker(username: str, door: Door) -> Account | None:
    """The account of this name, if it takes tips by this door.

    None: there is none, it is closing or blocked, or its owner has closed the door; nobody can tell
    which. In its last minutes the account is still returned, and `orders.top_up` refuses.
    """
    account = Account.get_or_none(
        (Account.username == username)
        & Account.opened_at.is_null(False)
        & Account.closing_at.is_null()
        & Account.blocked_at.is_null()
    )
    return account if account and getattr(account, f"tips_{door}") else None


def paid_until(account: Account) -> int | None:
    """The end that everybody who may tip sees; None: the owner hides it."""
    return account.expires_at if account.tips_show_end else None


def lightning_address(shop: Shop, account: Account) -> str:
    """The account's Lightning Address (LUD-16): its name at the shop's host."""
    return f"{account.username}@{urlsplit(shop.config.public_url).netloc}"


def lnurl(shop: Shop, account: Account) -> str:
    """The LNURL that wallets scan to ask for an invoice (LUD-01)."""
    return encode(f"{shop.config.public_url}{PATH}/{account.username}")


def seconds_for(shop: Shop, account: Account, msat: int) -> int:
    """How many seconds of the hosting `msat` buy today."""
    return msat * DAY // ledger.rate(shop, account)


def page_url(shop: Shop, account: Account) -> str:
    """The page where people tip; of no use while that door is closed."""
    return f"{shop.config.public_url}/tip/{account.username}"


def badge_url(shop: Shop, account: Account) -> str:
    """The picture that the owner may put on the site. The key in it shows the owner's wish."""
    key = shop.vault.mac("badge", account.id)
    return f"{shop.config.public_url}/badge/{account.username}.svg?key={key}"


def has_badge(shop: Shop, account: Account, key: str) -> bool:
    """Whether whoever has this key may see the badge: it says what the tip page does, and more."""
    is_one = re.fullmatch("[0-9a-f]{32}", key) and shop.vault.is_mac(key, "badge", account.id)
    return bool(is_one) and account.tips_show_end


def count(account: Account) -> int:
    """How many tips it has got, counted up to COUNTED_MAX."""
    some = (
        Order.select(Order.token)
        .where((Order.account == account.id) & (Order.door == door) & Order.paid_at.is_null(False))
        .limit(COUNTED_MAX)
        .count()
        for door in DOORS
    )
    return min(COUNTED_MAX, sum(some) + account.small_tips)


def bounds(shop: Shop) -> tuple[int, int]:
    """The smallest and the largest tip that an invoice is made for, in sat."""
    return shop.config.tip_min_sats, shop.config.tip_max_sats


def bounds_msat(shop: Shop) -> tuple[int, int]:
    least, most = bounds(shop)
    return least * 1000, most * 1000


def metadata(shop: Shop, account: Account) -> str:
    """What a wallet shows of the payee (LUD-06); the invoice carries this text's hash."""
    text = f"Keep {hostnames.site_name(shop, account.username)} online"
    identifier = lightning_address(shop, account)
    return json.dumps([["text/plain", text], ["text/identifier", identifier]])


def offer(shop: Shop, account: Account) -> str | None:
    """The account's BOLT 12 offer, made at the first call; None: it has none. Raises NodeError."""
    if not offers.is_wanted(account):
        return None
    made = offers.make(shop, account, hostnames.site_name(shop, account.username))
    return made.bolt12 if made else None


def offer_if_told(shop: Shop, account: Account) -> str | None:
    """Like `offer`, for strangers: None as well while the node does not answer."""
    try:
        return offer(shop, account)
    except NodeError as error:
        logger.warning("no offer: %s", error)
        return None


# -- for the owner ---------------------------------------------------------------------


def received(account_id: str, most: int = order_book.LISTED) -> list[Order]:
    """The tips of others, hidden ones too, the latest first."""
    return order_book.latest(account_id, DOORS, most)


def received_msat(account: Account) -> int:
    """The sum of all tips of others, those too small to be listed included."""
    listed = Order.select(fn.SUM(Order.received_msat)).where(_received(account.id)).scalar()
    # PostgreSQL's sum is a Decimal, which is no number in JSON.
    return int(listed or 0) + account.small_tips_msat


def find(account_id: str, token: str) -> Order | None:
    """One received tip, by the token of its order."""
    order = order_book.find(token)
    is_one = order and order.account_id == account_id and order_book.is_tip(order) and order.paid_at
    return order if is_one else None


def _received(account_id: str):
    paid = Order.paid_at.is_null(False)
    return (Order.account == account_id) & order_book.is_of_others() & paid


def hide(account_id: str, token: str, hidden: bool = True) -> bool:
    """Hide one tip's message, or show it again; False: there is no such tip."""
    hides = Order.update(hidden_at=now() if hidden else None)
    return hides.where(_received(account_id) & (Order.token == token)).execute() == 1


def switch(account_id: str, **switches: bool) -> None:
    """Open and close doors. `tips_show_end`: whether others see until when the hosting is paid."""
    unknown = switches.keys() - set(SWITCHES)
    if unknown:
        raise ValueError(f"no switches of tips: {unknown}")
    with transaction():
        if lock_account(account_id):
            Account.update(switches).where(Account.id == account_id).execute()
            offers.recheck(account_id)
            wanted.renew_tip_jar(account_id)
