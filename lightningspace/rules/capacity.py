"""The space of the servers: how much is sold, and where there is room.

Unpaid orders hold nothing. Paid ones always get their space, if need be beyond a server's capacity:
then it sells nothing until it is back below.
"""

from peewee import fn

from lightningspace.base.models import Account, Server
from lightningspace.shop import Shop

# Space for fewer hostings of the largest size than this is scarce.
FEW = 10


def left_mb(shop: Shop) -> dict[int, int]:
    """The MB of each server that are not sold; below 0: it is over its capacity.

    A hosting counts with the space that was bought and its SSH jail, which its quota leaves out and
    which stays when SSH is switched off.
    """
    each = fn.SUM(Account.space_mb + shop.config.jail_mb)
    is_paid = Account.opened_at.is_null(False)
    sold = Account.select(Account.server, each).where(is_paid).group_by(Account.server)
    # PostgreSQL's sum is a Decimal.
    sold_mb = {server_id: int(space_mb) for server_id, space_mb in sold.tuples()}
    servers = Server.select(Server.id, Server.capacity_mb).tuples()
    return {id: capacity_mb - sold_mb.get(id, 0) for id, capacity_mb in servers}


def largest_mb(shop: Shop) -> int:
    """The largest new hosting that can be sold now, in MB."""
    return max(0, max(left_mb(shop).values(), default=0) - shop.config.jail_mb)


def is_scarce(shop: Shop, left_mb: int) -> bool:
    """Whether this much holds only a few of the largest size on offer."""
    return left_mb < FEW * max(shop.config.space_sizes_mb)


def larger_mb(shop: Shop, account: Account) -> int:
    """The largest size that an account can buy now, in MB: it stays on its server."""
    return account.space_mb + max(0, left_mb(shop)[account.server_id])


def roomiest(shop: Shop) -> int:
    """The id of the server with the most space left, of those that sell."""
    left, sells = left_mb(shop), Server.select(Server.id).where(Server.capacity_mb > 0)
    # If none sells any more, a paid hosting still has to go somewhere.
    ids = [server.id for server in sells] or list(left)
    return max(sorted(ids), key=left.get)


def take_roomiest(shop: Shop) -> int:
    """Like `roomiest`, within a transaction: others wait until this one has taken its space."""
    # A write, so that others wait here.
    Server.update(capacity_mb=Server.capacity_mb).execute()
    return roomiest(shop)


def problems(shop: Shop) -> list[str]:
    """For the operator: the servers that are over their capacity, and by how much."""
    left = left_mb(shop)
    sells = [server.id for server in Server.select(Server.id).where(Server.capacity_mb > 0)]
    return [
        f"server {id}: {-left[id]} MB are sold beyond CAPACITY_MB, as payments came that found no "
        "room any more: nothing is sold there until that is back below"
        for id in sorted(sells)
        if left[id] < 0
    ]
