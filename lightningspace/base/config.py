"""The settings, each declared once: read from the environment at the start, and never again.

`make settings` writes docs/settings.md from these declarations.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from urllib.parse import urlsplit

from lightningspace.base import defaults, parsers, settings, walls
from lightningspace.base.groups import (
    LIGHTNING,
    MAIL,
    PRICES,
    SERVERS,
    THE_SHOP,
    TIME,
    TIPS,
    UPLOADS,
    VERIFY_TLS,
    WHO,
)
from lightningspace.base.limit_settings import LimitSettings
from lightningspace.base.operator_settings import OperatorSettings
from lightningspace.base.parsers import list_of, one_of, whole, yes_or_no
from lightningspace.base.prices import DAY, LONGEST_SECONDS, Prices, Terms
from lightningspace.base.settings import ConfigError

DEAREST_MSAT = 10**14  # a thousand bitcoin


@dataclass(frozen=True)
class Config(OperatorSettings, LimitSettings):
    """The settings by name. `from_env` reads them."""

    public_url: str = THE_SHOP.setting(
        parsers.public_url,
        "The shop's own address, such as `https://shop.example`. `http://` is accepted only for "
        "this machine and `.onion`. Linked wallets know the shop by its host.",
    )
    base_domain: str = THE_SHOP.setting(
        parsers.host, "The domain of the sites: a customer gets `<name>.<BASE_DOMAIN>`."
    )
    reserved_names: tuple[str, ...] = THE_SHOP.setting(
        list_of(parsers.matching("[a-z0-9-]{1,63}")),
        "Names not to sell, such as `oak,mars`. Hosts in these settings are never sold.",
        "",
    )
    database_url: str = THE_SHOP.setting(
        parsers.database_url,
        "`sqlite:///path` or `postgresql://user:password@host/database`.",
        defaults.OUR_SQLITE,
    )
    secret_key: str = THE_SHOP.secret(
        parsers.key,
        "Seals passwords, makes tokens and signs sessions: at least 32 characters, no comma.",
        defaults.OUR_KEY,
    )
    secret_key_fallbacks: tuple[str, ...] = THE_SHOP.setting(
        list_of(parsers.key),
        "Older keys, separated by commas, while you change to a new one. Tokens made with one of "
        "them are void once it is gone from here.",
        defaults.OUR_OLD_KEYS,
    )

    shop_name: str = WHO.setting(
        parsers.shop_name, "The shop's name, in titles and mails.", defaults.HOST_OF_THE_SHOP
    )
    contact: str = WHO.setting(
        parsers.contact,
        "Where customers reach you when something needs a person: a mail address, or the URL of a "
        "page.",
        "",
    )
    abuse_contact: str = WHO.setting(
        parsers.contact, "Where abuse of a hosting is reported.", defaults.THE_CONTACT
    )
    terms_file: str = WHO.setting(
        parsers.document,
        "Your terms. Empty: short ones, made from these settings.",
        "",
    )
    privacy_file: str = WHO.setting(
        parsers.document,
        "Your privacy policy. Below it the page lists what is stored. Empty: that list alone.",
        "",
    )
    imprint_file: str = WHO.setting(
        parsers.document, "Who you are, where the law asks for it. Empty: no such page.", ""
    )
    source_url: str = WHO.setting(
        parsers.web_address, "Where the shop's source code can be had. Empty: no link.", ""
    )
    index_402_verify: str = WHO.setting(
        parsers.digest,
        "The `verification_hash` that 402index.io, a directory of what programs can buy, gives to "
        "whoever claims this shop there. It is public; the token that comes with it is not.",
        "",
    )

    lightning_rpc: str = LIGHTNING.setting(parsers.text, "The path of lightningd's RPC socket.")
    label_prefix: str = LIGHTNING.setting(
        parsers.matching(r"[a-z0-9-]{1,40}-"),
        "The prefix of our invoices' labels, which tells them from others at the node.",
        "lightning-space-",
    )
    invoice_minutes: int = LIGHTNING.setting(
        whole(2, 24 * 60), "For how many minutes an invoice can be paid at its price.", "15"
    )

    panel_url: str = SERVERS.setting(
        parsers.panel_url, "ISPConfig's address, such as `https://panel.example:8080`."
    )
    panel_user: str = SERVERS.setting(parsers.text, "The name of the remote user in ISPConfig.")
    panel_password: str = SERVERS.secret(parsers.secret, "The remote user's password.")
    panel_verify_tls: bool | str = SERVERS.setting(
        parsers.verify_tls, f"Whether ISPConfig's certificate is checked: {VERIFY_TLS}", "true"
    )
    panel_prefix: str = SERVERS.setting(
        parsers.panel_prefix,
        "The prefix of every name that we make in ISPConfig, which tells ours from others.",
        "ls_",
    )
    panel_server_id: tuple[int, ...] = SERVERS.setting(
        parsers.server_ids, "The ids of the ISPConfig servers to sell on, such as `1,2`.", "1"
    )
    capacity_mb: dict[int, int] = SERVERS.setting(
        list_of(whole(0)),
        "The space to sell on each server in MB, one number for each id in `PANEL_SERVER_ID`. "
        "Keep a tenth of the disk back.",
        for_each_server="number",
    )
    jail_mb: int = SERVERS.setting(
        whole(0, 10**6),
        "How many MB the SSH jail of a hosting takes on the server, on top of what is sold.",
        "146",
    )
    server_hosts: dict[int, str] = SERVERS.setting(
        list_of(parsers.host),
        "The host names for FTP, SSH and mail, as in the servers' certificates: one for each id in "
        "`PANEL_SERVER_ID`. Empty: each site's own name.",
        "",
        for_each_server="host name",
    )
    webmail_url: str = SERVERS.setting(
        parsers.web_address,
        "Where customers read their mail in the browser. Their pages link to it. Empty: no link.",
        "",
    )
    phpmyadmin_url: str = SERVERS.setting(
        parsers.web_address,
        "The same for their databases: a phpMyAdmin on their server, as only that reaches them.",
        "",
    )
    files_url: str = SERVERS.setting(
        parsers.web_address, "The same for their files: a page where the FTP user logs in.", ""
    )
    walls: str = SERVERS.setting(
        one_of(*walls.MODES),
        "What keeps the customers of a server apart. `narrow`: Apache, which allows little in "
        "`.htaccess`; `mpm_itk`: Apache serves each site as its customer, and allows everything in "
        "`.htaccess`; `nginx`: no `.htaccess`. See [hosting-server.md](hosting-server.md).",
        walls.NARROW,
    )
    sites_tls: str = SERVERS.setting(
        one_of("letsencrypt", "wildcard", "none"),
        "HTTPS of the sites. `letsencrypt`: each has a certificate that ISPConfig fetches; "
        "`wildcard`: a certificate of yours is good for all names below `BASE_DOMAIN`, and "
        "ISPConfig fetches those of customers' own domains; `none`: there is no HTTPS. See "
        "[customers.md](customers.md#customers-own-domains-and-https).",
        "letsencrypt",
    )
    certificate_min_days: int = SERVERS.setting(
        whole(0, 36_500),
        "How many days must be paid before a certificate is fetched for a hosting, so that nobody "
        "uses up a week's certificates by buying hours.",
        "7",
    )
    certificates_per_week: int = SERVERS.setting(
        whole(0, 10**6),
        "For how many hostings certificates may be fetched within a week. Let's Encrypt makes 50 "
        "for all names below one registered domain. 0: without a limit.",
        "40",
    )
    walls_check: str = SERVERS.setting(
        one_of("never", "weekly"),
        "`weekly`: the worker attacks the servers as `flask --app wsgi walls` does, and `problems` "
        "lists what is open.",
        "never",
    )
    worker_threads: int = SERVERS.setting(
        whole(1, 64),
        "How many new hostings the worker sets up at the same time, in addition to half as many "
        "changes and half as many uploads.",
        "10",
    )

    space_sizes_mb: tuple[int, ...] = PRICES.setting(
        parsers.sizes, "The sizes on offer, in MB.", "100,500,1000,5000"
    )
    price_msat_per_day: int = PRICES.setting(
        whole(0), "A day of any hosting, whatever its size.", "5000"
    )
    price_msat_per_gb_day: int = PRICES.setting(
        whole(0), "A day of each 1000 MB, on top of that.", "20000"
    )
    addresses_included: int = PRICES.setting(
        whole(1, 10_000), "Mailboxes and forwards, counted together, in every hosting.", "5"
    )
    price_msat_per_address_day: int = PRICES.setting(
        whole(0, 10**9), "A day of each further mailbox or forward.", "1000"
    )
    domains_included: int = PRICES.setting(
        whole(0, 10_000), "Domains of their own that customers may use with every hosting.", "1"
    )
    price_msat_per_domain_day: int = PRICES.setting(
        whole(0, 10**9), "A day of each further domain.", "1000"
    )

    fiat: str = PRICES.setting(
        parsers.currency,
        "The currency that prices are shown in beside sats, such as `EUR`. Empty: none.",
        "",
    )
    fiat_rate: Decimal | None = PRICES.setting(
        parsers.rate,
        "What a bitcoin costs in `FIAT`, such as `60000`. Empty: ask `FIAT_RATE_URL`.",
        "",
    )
    fiat_rate_url: tuple[str, tuple[str, ...]] | None = PRICES.setting(
        parsers.rate_source,
        "Where the worker asks for that every ten minutes: an address that answers with JSON and, "
        "after a `#`, the path to the number in it, such as `https://rates.example/t#EUR.last`.",
        "",
    )

    grace_days: int = TIME.setting(
        whole(0, 3_650),
        "How many days a hosting is kept, at most, after its paid time is over. It is kept no "
        "longer than the time bought since it was last over, but at least an hour. 0: not at all.",
        "14",
    )
    # At least the longest order, and a month.
    horizon_days: int = TIME.setting(
        whole(760, 36_500),
        "How many days ahead time can be paid for. What is paid beyond that stays as credit, and "
        "becomes time as the days go by.",
        "1095",
    )
    sweep_limit: int = TIME.setting(
        whole(1, 100),
        "In an hour ten accounts may be closed, and more as long as less was paid for them than "
        "this percentage of what was paid for all accounts.",
        "10",
    )
    mail_send_min_days: int = TIME.setting(
        whole(0, 36_500),
        "How many days must be paid before mailboxes and PHP may send mail, so that nobody buys an "
        "hour for spam.",
        "30",
    )
    name_quarantine_days: int = TIME.setting(
        whole(0, 36_500),
        "For how many days the name of a closed hosting is reserved before others may have it.",
        "365",
    )

    smtp_url: str = MAIL.secret(
        parsers.smtp_url,
        "The mail server for reminders: `smtp://user:password@mail.example:587` (STARTTLS) or "
        "`smtps://user:password@mail.example:465` (TLS). Empty: no mail is sent.",
        "",
    )
    smtp_verify_tls: bool | str = MAIL.setting(
        parsers.verify_tls,
        f"Whether the mail server's certificate is checked: {VERIFY_TLS}",
        "true",
    )
    mail_from: str = MAIL.setting(
        parsers.sender, "The address that reminders come from.", defaults.SENDER
    )
    dns_servers: tuple[str, ...] = MAIL.setting(
        list_of(parsers.name_server),
        "The resolvers that the worker asks about customers' domains, such as "
        "`9.9.9.9,127.0.0.1:5353`. Empty: the system's.",
        "",
    )

    tip_min_sats: int = TIPS.setting(
        whole(1, 10**9), "The smallest tip in sat that an invoice is made for.", "1"
    )
    tip_max_sats: int = TIPS.setting(
        whole(1, 10**9), "The largest tip in sat that an invoice is made for.", "1000000"
    )
    tip_jars: bool = TIPS.setting(
        yes_or_no("true", "false"), "`false`: no tip jar is put on new hostings.", "true"
    )

    ftp_uploads: bool = UPLOADS.setting(
        yes_or_no("true", "false"),
        "`false`, if the worker cannot reach FTP: it uploads nothing, and does not close `web` to "
        "neighbours.",
        "true",
    )
    ftp_addresses: dict[int, tuple[str, int]] = UPLOADS.setting(
        list_of(parsers.ftp_address),
        "Where the worker uploads, such as `10.0.0.5:21`: one address for each id in "
        "`PANEL_SERVER_ID`. Empty: to the customers' FTP host, port 21.",
        "",
        for_each_server="address",
    )
    web_addresses: dict[int, tuple[str, int]] = UPLOADS.setting(
        list_of(parsers.http_address),
        "As `FTP_ADDRESSES`: where the worker checks by HTTP that paid areas are shut. Empty: at "
        "the sites' own names, as visitors do.",
        "",
        for_each_server="address",
    )
    ftp_tls: bool = UPLOADS.setting(
        yes_or_no("always", "never"), "`never`: upload without encryption.", "always"
    )
    ftp_verify_tls: bool | str = UPLOADS.setting(
        parsers.verify_tls,
        f"Whether the FTP servers' certificates are checked: {VERIFY_TLS}",
        "true",
    )

    uploads_dir: Path = UPLOADS.setting(
        parsers.directory,
        "Where web and worker keep what customers send until it is on their sites: 2 GB at most.",
        defaults.OUR_UPLOADS,
    )

    @property
    def is_https(self) -> bool:
        return self.public_url.startswith("https:")

    @property
    def horizon_seconds(self) -> int:
        return self.horizon_days * DAY

    @property
    def hosts(self) -> set[str]:
        """The hosts that the settings name, the operator's own and others."""
        urls = (self.public_url, self.panel_url, self.smtp_url, self.database_url)
        urls += (self.rate_limit_storage, self.admin_webhook)
        named = [urlsplit(url).hostname or "" for url in urls]
        hosts = {host for several in named for host in several.split(",")}  # as PostgreSQL allows
        hosts |= {self.mail_from.rpartition("@")[2].lower(), *self.server_hosts.values()}
        hosts |= {host for host, _ in (*self.ftp_addresses.values(), *self.web_addresses.values())}
        return {host.rstrip(".") for host in hosts} - {""}

    def __repr__(self):
        return "<Config>"  # it holds secrets


def from_env(env: Mapping[str, str], instance: Path) -> Config:
    """Read the settings from `env`. Files of our own (database, secret key) go to `instance`.

    Raises ConfigError.
    """
    _make_directory(instance)
    config = settings.read(Config, env, instance)
    _check_prices(config)
    _check_currency(config)
    if config.tip_min_sats > config.tip_max_sats:
        raise ConfigError("TIP_MIN_SATS is above TIP_MAX_SATS: write a lower one")
    if config.admin_mail and not config.smtp_url:
        raise ConfigError("ADMIN_MAIL needs SMTP_URL: without it the shop sends no mail")
    if config.admin_webhook and not config.admin_webhook_secret:
        raise ConfigError("ADMIN_WEBHOOK needs ADMIN_WEBHOOK_SECRET: write one")
    return config


def _make_directory(instance: Path) -> None:
    try:
        instance.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"{instance} cannot be made for our data: {error.strerror}") from error


def _check_currency(config: Config) -> None:
    sources = {"FIAT_RATE": config.fiat_rate, "FIAT_RATE_URL": config.fiat_rate_url}
    if config.fiat and not any(sources.values()):
        raise ConfigError("FIAT needs FIAT_RATE or FIAT_RATE_URL")
    for name, source in sources.items():
        if source and not config.fiat:
            raise ConfigError(f"{name} needs FIAT, the currency that it is of")


def _check_prices(config: Config) -> None:
    prices = Prices(config.price_msat_per_day, config.price_msat_per_gb_day)
    if prices.msat_per_day + prices.msat_per_gb_day == 0:
        raise ConfigError("PRICE_MSAT_PER_DAY or PRICE_MSAT_PER_GB_DAY must be above 0")
    largest = Terms(config.space_sizes_mb[-1], LONGEST_SECONDS // DAY, "days")
    if prices.price_msat(largest) > DEAREST_MSAT:
        raise ConfigError(
            "PRICE_MSAT_PER_DAY and PRICE_MSAT_PER_GB_DAY are too high: two years of the largest "
            "size would cost more than a thousand bitcoin"
        )
