"""What hostings are called, and which names nobody may have."""

from lightningspace.base import names
from lightningspace.base.clock import now
from lightningspace.base.models import Account, RestingName
from lightningspace.rules import hostnames
from lightningspace.shop import Shop

# -- names ---------------------------------------------------------------------------


def site_name(shop: Shop, username: str) -> str:
    return f"{username}.{shop.config.base_domain}"


def host(shop: Shop, account: Account) -> str:
    """The host name of its server, for FTP, SSH, mail and extra domains."""
    return shop.config.server_hosts.get(account.server_id) or site_name(shop, account.username)


def is_the_shops(shop: Shop, domain: str) -> bool:
    """Whether it is a name that the shop itself lives by, or lies below or above one.

    Who had the domain above could receive the shop's own mail on its server.
    """
    # A host of the local net has one label: to others it may be what their domains end with.
    hosts = [host for host in shop.config.hosts if "." in host]
    return any(
        f".{domain}".endswith(f".{host}") or f".{host}".endswith(f".{domain}")
        for host in [shop.config.base_domain, *hosts]
    )


def is_reserved(shop: Shop, username: str) -> bool:
    """Whether nobody may have the name; who has it already keeps it."""
    return names.is_reserved(username) or username in _operators_names(shop)


def _operators_names(shop: Shop) -> set[str]:
    """What the operator reserves, and below BASE_DOMAIN the names that his hosts have.

    A site lies above the hosts below its name as well: it could have their mail, and a certificate.
    """
    below = f".{shop.config.base_domain}"
    hosts = [host.removesuffix(below) for host in shop.config.hosts if host.endswith(below)]
    return {*shop.config.reserved_names, *(host.rpartition(".")[2] for host in hosts)}


def problems(shop: Shop) -> list[str]:
    """For the operator: hostings that have had a name of his since before he took it."""
    taken = Account.select(Account.username).where(
        (Account.username << _operators_names(shop)) & Account.opened_at.is_null(False)
    )
    return [
        f"account {account.username}: its site {site_name(shop, account.username)} has the name "
        "of a host in your settings, or one of RESERVED_NAMES: name that host otherwise"
        for account in taken.order_by(Account.username)
    ]


def rests(shop: Shop, username: str, proof: tuple[str, int] | None = None) -> bool:
    """Whether somebody had the name not long ago: mails of others still go to it.

    `proof`: the receipt (payment hash and epoch) of the asker's last hosting; if that had it, he
    may have it again.
    """
    hashes = shop.vault.macs("name", username)
    resting = (RestingName.name_hash << hashes) & (RestingName.until > now())
    last = RestingName.select().where(resting).first()
    return last is not None and (last.payment_hash, last.receipt_epoch) != proof


def free_name(shop: Shop) -> str:
    """A generated one, that an account may have all the same."""
    while rests(shop, name := names.generate()) or hostnames.is_reserved(shop, name):
        continue
    return name
