"""Names of hostings: their host names, and which usernames nobody may have."""

from fnmatch import fnmatchcase

from lightningspace.base import names
from lightningspace.base.clock import clock_time, now
from lightningspace.base.models import Account, Fact, RestingName, Wallet
from lightningspace.base.prices import DAY
from lightningspace.shop import FORMER_URL, Shop

# How long the operator is told what follows from a new PUBLIC_URL.
FORMER_URL_SECONDS = 7 * DAY


def site_name(shop: Shop, username: str) -> str:
    return f"{username}.{shop.config.base_domain}"


def host(shop: Shop, account: Account) -> str:
    """The host name of the account's server, for FTP, SSH, mail and extra domains."""
    return shop.config.server_hosts.get(account.server_id) or site_name(shop, account.username)


def is_the_shops(shop: Shop, domain: str) -> bool:
    """Whether the domain is one of the shop's own hosts, or lies below or above one.

    Whoever had the domain above could receive the shop's own mail.
    """
    # A host of the local network has one label: customers' domains may well end with it.
    hosts = [host for host in shop.config.hosts if "." in host]
    return any(
        f".{domain}".endswith(f".{host}") or f".{host}".endswith(f".{domain}")
        for host in [shop.config.base_domain, *hosts]
    )


def is_reserved(shop: Shop, username: str) -> bool:
    """Whether nobody may order the name; whoever has it already keeps it."""
    if names.is_reserved(username) or username in _operators_names(shop):
        return True
    return any(fnmatchcase(username, pattern) for pattern in shop.config.refused_names)


def is_refused_domain(shop: Shop, domain: str) -> bool:
    """Whether a line of REFUSED_NAMES with a dot says that no customer may have it."""
    patterns = (each for each in shop.config.refused_names if "." in each)
    return any(fnmatchcase(domain, pattern) for pattern in patterns)


def _operators_names(shop: Shop) -> set[str]:
    """RESERVED_NAMES, and the names that the operator's own hosts have below BASE_DOMAIN.

    A site could also take mail and certificates for any host below its name.
    """
    below = f".{shop.config.base_domain}"
    hosts = [host.removesuffix(below) for host in shop.config.hosts if host.endswith(below)]
    return {*shop.config.reserved_names, *(host.rpartition(".")[2] for host in hosts)}


def problems(shop: Shop) -> list[str]:
    """For the operator: hostings that had one of these names first, and what follows from a new
    PUBLIC_URL.
    """
    taken = Account.select(Account.username).where(
        (Account.username << _operators_names(shop)) & Account.opened_at.is_null(False)
    )
    told = [
        f"account {account.username}: its site {site_name(shop, account.username)} has the name "
        "of a host in your settings, or one of RESERVED_NAMES: name that host otherwise"
        for account in taken.order_by(Account.username)
    ]
    return [*told, *_former_url(shop)]


def _former_url(shop: Shop) -> list[str]:
    fact = Fact.get_or_none(Fact.name == FORMER_URL)
    at, _, url = fact.value.partition(" ") if fact else ("0", "", "")
    if int(at) < now() - FORMER_URL_SECONDS:
        return []
    wallets = Wallet.select().count()
    return [
        f"{clock_time(int(at))}: PUBLIC_URL was {url}, and is {shop.config.public_url}: wallets "
        f"that log in ({wallets}) are to be linked anew, Lightning Addresses are names at the new "
        "host, and tip jars follow within minutes; let the old host redirect to the new one, for "
        "links in mails and programs of customers lead there"
    ]


def rests(shop: Shop, username: str, proof: tuple[str, int] | None = None) -> bool:
    """Whether the name was another hosting's not long ago: people still send mail to it.

    `proof`: the receipt (payment hash and epoch) of the asker's last hosting; if the name was that
    hosting's, it does not rest for the asker.
    """
    hashes = shop.vault.macs("name", username)
    resting = (RestingName.name_hash << hashes) & (RestingName.until > now())
    last = RestingName.select().where(resting).first()
    return last is not None and (last.payment_hash, last.receipt_epoch) != proof


def let_rest(shop: Shop, username: str, payment_hash: str | None, receipt_epoch: int) -> None:
    """Within a transaction: keep the name of a closed account from others for a while. Whoever has
    the receipt of this payment and epoch may have it sooner.
    """
    facts = {
        "until": now() + shop.config.name_quarantine_days * DAY,
        "payment_hash": payment_hash,
        "receipt_epoch": receipt_epoch,
    }
    # An earlier holder, whose hash was made with an older key, may not.
    of_older_keys = shop.vault.macs("name", username)[1:]
    RestingName.delete().where(RestingName.name_hash << of_older_keys).execute()
    name_hash = shop.vault.mac("name", username)
    RestingName.insert(name_hash=name_hash, **facts).on_conflict(
        conflict_target=[RestingName.name_hash], update=facts
    ).execute()


def forget_rested() -> None:
    """Free the names that have rested long enough."""
    RestingName.delete().where(RestingName.until <= now()).execute()


def free_name(shop: Shop) -> str:
    """A generated name that neither rests nor is reserved."""
    while rests(shop, name := names.generate()) or is_reserved(shop, name):
        continue
    return name
