"""One shop: its settings and the outside systems that it talks to."""

from dataclasses import dataclass, replace

from flask import current_app

from lightningspace.base.clock import now
from lightningspace.base.config import Config
from lightningspace.base.models import Account, Fact, Order, Server, set_fact, transaction
from lightningspace.base.prices import EXTRAS, Prices
from lightningspace.base.vault import Vault
from lightningspace.outside import node as lightning
from lightningspace.outside.dns import Resolver
from lightningspace.outside.ftp import FtpServers
from lightningspace.outside.ispconfig import Panel
from lightningspace.outside.l402 import Keys
from lightningspace.outside.lnurl_pay import Payees
from lightningspace.outside.mail import Mailer
from lightningspace.outside.paying import PayingNode

KEY_FINGERPRINT = "key fingerprint"
# Settings that must not change as long as there is any account or order, and what they name.
NAMED_BY = {
    "BASE_DOMAIN": "sites and mailboxes are named",
    "PANEL_PREFIX": "clients at the panel are found",
    "LABEL_PREFIX": "invoices at the node are found",
}
# The name of a fact: when PUBLIC_URL changed, and what it was before.
FORMER_URL = "former PUBLIC_URL"


class CannotSettle(Exception):
    """The database and the settings do not agree; the text says what to write."""


class WrongKey(CannotSettle):
    """The database was written with another SECRET_KEY."""


class SettingInUse(CannotSettle):
    """A setting has changed by whose former value accounts or orders are known."""


@dataclass(frozen=True)
class Shop:
    config: Config
    node: PayingNode
    panel: Panel
    vault: Vault
    keys: Keys
    prices: Prices
    resolver: Resolver
    ftp: FtpServers
    payees: Payees
    mailer: Mailer | None  # None: no mail server is set, and nothing is sent

    def for_worker(self) -> "Shop":
        """The same shop, with more time for calls to the node than a web page can wait."""
        node = PayingNode(self.config.lightning_rpc, lightning.WORKER_SECONDS)
        return replace(self, node=node)


def build(config: Config) -> Shop:
    vault = Vault(config.secret_key, config.secret_key_fallbacks)
    resolver = Resolver(config.dns_servers)
    return Shop(
        config=config,
        node=PayingNode(config.lightning_rpc, lightning.WEB_SECONDS, lightning.WEB_CALLS_AT_ONCE),
        panel=Panel(
            config.panel_url, config.panel_user, config.panel_password, config.panel_verify_tls
        ),
        vault=vault,
        keys=Keys(vault.token_masters()),
        prices=Prices(
            config.price_msat_per_day,
            config.price_msat_per_gb_day,
            {extra.name: extra.msat_per_day(config) for extra in EXTRAS},
        ),
        resolver=resolver,
        ftp=FtpServers(config.ftp_addresses, config.ftp_tls, config.ftp_verify_tls),
        payees=Payees(resolver),
        mailer=_mailer(config) if config.smtp_url else None,
    )


def _mailer(config: Config) -> Mailer:
    return Mailer(config.smtp_url, config.smtp_verify_tls, config.mail_from)


def settle_in(shop: Shop) -> None:
    """Write to the database the settings that it must agree with. Safe to call at every start.

    Raises WrongKey when our keys could not read what is sealed in it, and SettingInUse.
    """
    ours = shop.vault.fingerprints()
    with transaction():
        Fact.insert(name=KEY_FINGERPRINT, value=ours[0]).on_conflict_ignore().execute()
        known = Fact.get_by_id(KEY_FINGERPRINT).value
        if known not in ours:
            raise WrongKey(
                "the database was written with another SECRET_KEY: start with that one, or name it "
                "in SECRET_KEY_FALLBACKS"
            )
        if known != ours[0]:
            Fact.update(value=ours[0]).where(Fact.name == KEY_FINGERPRINT).execute()
        _keep_names(shop.config)
        for server_id, capacity_mb in shop.config.capacity_mb.items():
            Server.insert(id=server_id, capacity_mb=capacity_mb).on_conflict_ignore().execute()
            Server.update(capacity_mb=capacity_mb).where(Server.id == server_id).execute()
        # A server that is no longer in the settings sells nothing; its accounts stay.
        gone = Server.id.not_in(list(shop.config.capacity_mb))
        Server.update(capacity_mb=0).where(gone).execute()


def _keep_names(config: Config) -> None:
    """Within a transaction: note the settings that names were made of. Raises SettingInUse."""
    for name, named in NAMED_BY.items():
        value = getattr(config, name.lower())
        known = _noted(name, value)
        if known != value and _is_anything_there():
            raise SettingInUse(
                f"{name} was {known}, and {named} by it: start with that one. Another one is for "
                "an empty database"
            )
        set_fact(name, value)
    url = _noted("PUBLIC_URL", config.public_url)
    if url != config.public_url:
        set_fact("PUBLIC_URL", config.public_url)
        set_fact(FORMER_URL, f"{now()} {url}")


def _noted(name: str, value: str) -> str:
    """The setting at the last start; `value` if that was the first."""
    Fact.insert(name=name, value=value).on_conflict_ignore().execute()
    return Fact.get_by_id(name).value


def _is_anything_there() -> bool:
    return Account.select().exists() or Order.select().exists()


def this_shop() -> Shop:
    return current_app.extensions["shop"]
