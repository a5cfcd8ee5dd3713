"""The settings: environment variables, parsed and checked once, at the start."""

import ipaddress
import os
import re
import secrets
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from lightningspace.base import walls
from lightningspace.base.prices import DAY, LONGEST_SECONDS, Prices, Terms

HOST = re.compile(
    r"(?=.{1,253}$)([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z]([a-z0-9-]{0,61}[a-z0-9])?"
)
POSTGRESQL_URL = re.compile(r"postgresql://([^/?#]*@)?[^/@?#]*/[^/@?#]+(\?[^@#]*)?")
LIMIT = re.compile(r"[1-9][0-9]{0,8} per (second|minute|hour|day)")
DEAREST_MSAT = 10**14  # a thousand bitcoin


class ConfigError(Exception):
    """A setting that is missing or odd; its text says which one and what to write instead."""


@dataclass(frozen=True)
class Config:
    public_url: str
    base_domain: str
    database_url: str
    secret_key: str
    secret_key_fallbacks: tuple[str, ...]
    lightning_rpc: str
    label_prefix: str
    panel_url: str
    panel_user: str
    panel_password: str
    panel_verify_tls: bool | str
    panel_prefix: str
    walls: str
    walls_check: str
    capacity_mb: dict[int, int]
    jail_mb: int
    server_hosts: dict[int, str]
    reserved_names: tuple[str, ...]
    space_sizes_mb: tuple[int, ...]
    price_msat_per_day: int
    price_msat_per_gb_day: int
    addresses_included: int
    domains_included: int
    price_msat_per_address_day: int
    price_msat_per_domain_day: int
    grace_days: int
    horizon_days: int
    sweep_limit: int
    smtp_url: str
    smtp_verify_tls: bool | str
    mail_from: str
    dns_servers: tuple[str, ...]
    invoice_minutes: int
    unpaid_per_client: int
    mail_send_min_days: int
    name_quarantine_days: int
    worker_threads: int
    proxy_hops: int
    rate_limit_storage: str
    orders_limit: str
    orders_limit_overall: str
    logins_limit: str
    logins_limit_overall: str
    changes_limit: str
    changes_limit_overall: str
    tips_limit: str
    tips_limit_overall: str
    tip_min_sats: int
    tip_max_sats: int
    tip_jars: bool
    ftp_uploads: bool
    ftp_addresses: dict[int, tuple[str, int]]
    ftp_tls: bool
    ftp_verify_tls: bool | str

    @property
    def is_https(self) -> bool:
        return self.public_url.startswith("https:")

    @property
    def horizon_seconds(self) -> int:
        return self.horizon_days * DAY

    @property
    def hosts(self) -> set[str]:
        """The hosts that any setting names: the operator's own, and those that he uses."""
        urls = (self.public_url, self.panel_url, self.smtp_url, self.database_url)
        named = [urlsplit(url).hostname or "" for url in (*urls, self.rate_limit_storage)]
        hosts = {host for several in named for host in several.split(",")}  # of PostgreSQL
        hosts |= {self.mail_from.rpartition("@")[2].lower(), *self.server_hosts.values()}
        hosts |= {host for host, _ in self.ftp_addresses.values()}
        return {host.rstrip(".") for host in hosts} - {""}

    def __repr__(self):
        return "<Config>"  # it holds secrets


def from_env(env: Mapping[str, str], instance: Path) -> Config:
    """Read the settings from `env`. Files of our own (database, secret key) go to `instance`.

    Raises ConfigError.
    """
    read = _Reader(env)
    servers = read("PANEL_SERVER_ID", _ids, "1")
    hosts = read("SERVER_HOSTS", _list_of(_host), "")
    if hosts and len(hosts) != len(servers):
        raise ConfigError("SERVER_HOSTS needs one host name for each id in PANEL_SERVER_ID")
    capacity = read("CAPACITY_MB", _list_of(_whole(0)))
    if len(capacity) != len(servers):
        raise ConfigError("CAPACITY_MB needs one number for each id in PANEL_SERVER_ID")
    price_msat_per_day = read("PRICE_MSAT_PER_DAY", _whole(0), "5000")
    price_msat_per_gb_day = read("PRICE_MSAT_PER_GB_DAY", _whole(0), "20000")
    if price_msat_per_day + price_msat_per_gb_day == 0:
        raise ConfigError("PRICE_MSAT_PER_DAY or PRICE_MSAT_PER_GB_DAY must be above 0")
    sizes = read("SPACE_SIZES_MB", _sizes, "100,500,1000,5000")
    prices = Prices(price_msat_per_day, price_msat_per_gb_day)
    if prices.price_msat(Terms(sizes[-1], LONGEST_SECONDS // DAY, "days")) > DEAREST_MSAT:
        raise ConfigError(
            "PRICE_MSAT_PER_DAY and PRICE_MSAT_PER_GB_DAY are too high: two years of the largest "
            "size would cost more than a thousand bitcoin"
        )
    least_tip = read("TIP_MIN_SATS", _whole(1, 10**9), "1")
    most_tip = read("TIP_MAX_SATS", _whole(1, 10**9), "1000000")
    if least_tip > most_tip:
        raise ConfigError("TIP_MIN_SATS is above TIP_MAX_SATS: write a lower one")
    ftp_addresses = read("FTP_ADDRESSES", _list_of(_ftp_address), "")
    if ftp_addresses and len(ftp_addresses) != len(servers):
        raise ConfigError("FTP_ADDRESSES needs one address for each id in PANEL_SERVER_ID")
    public_url = read("PUBLIC_URL", _public_url)
    _make_directory(instance)
    return Config(
        public_url=public_url,
        base_domain=read("BASE_DOMAIN", _host),
        database_url=read("DATABASE_URL", _database_url, f"sqlite:///{instance / 'shop.sqlite3'}"),
        secret_key=_secret_key(read, instance),
        secret_key_fallbacks=read("SECRET_KEY_FALLBACKS", _list_of(_key), ""),
        lightning_rpc=read("LIGHTNING_RPC", _text),
        label_prefix=read("LABEL_PREFIX", _matching(r"[a-z0-9-]{1,40}-"), "lightning-space-"),
        panel_url=read("PANEL_URL", _panel_url),
        panel_user=read("PANEL_USER", _text),
        panel_password=read.secret("PANEL_PASSWORD", _secret),
        panel_verify_tls=read("PANEL_VERIFY_TLS", _verify_tls, "true"),
        panel_prefix=read("PANEL_PREFIX", _panel_prefix, "ls_"),
        walls=read("WALLS", _one_of(*walls.MODES), walls.NARROW),
        walls_check=read("WALLS_CHECK", _one_of("never", "weekly"), "never"),
        capacity_mb=dict(zip(servers, capacity, strict=True)),
        jail_mb=read("JAIL_MB", _whole(0, 10**6), "146"),
        server_hosts=dict(zip(servers, hosts, strict=True)) if hosts else {},
        reserved_names=read("RESERVED_NAMES", _list_of(_matching("[a-z0-9-]{1,63}")), ""),
        space_sizes_mb=sizes,
        price_msat_per_day=price_msat_per_day,
        price_msat_per_gb_day=price_msat_per_gb_day,
        addresses_included=read("ADDRESSES_INCLUDED", _whole(1, 10_000), "5"),
        domains_included=read("DOMAINS_INCLUDED", _whole(0, 10_000), "1"),
        price_msat_per_address_day=read("PRICE_MSAT_PER_ADDRESS_DAY", _whole(0, 10**9), "1000"),
        price_msat_per_domain_day=read("PRICE_MSAT_PER_DOMAIN_DAY", _whole(0, 10**9), "1000"),
        grace_days=read("GRACE_DAYS", _whole(0, 3_650), "14"),
        # At least the longest order and its month.
        horizon_days=read("HORIZON_DAYS", _whole(760, 36_500), "1095"),
        sweep_limit=read("SWEEP_LIMIT", _whole(1, 100), "10"),
        smtp_url=read.secret("SMTP_URL", _smtp_url, ""),
        smtp_verify_tls=read("SMTP_VERIFY_TLS", _verify_tls, "true"),
        mail_from=read("MAIL_FROM", _sender, f"hosting@{_mail_host(public_url)}"),
        dns_servers=read("DNS_SERVERS", _list_of(_name_server), ""),
        invoice_minutes=read("INVOICE_MINUTES", _whole(2, 24 * 60), "15"),
        unpaid_per_client=read("UNPAID_PER_CLIENT", _whole(1, 10_000), "3"),
        mail_send_min_days=read("MAIL_SEND_MIN_DAYS", _whole(0, 36_500), "30"),
        name_quarantine_days=read("NAME_QUARANTINE_DAYS", _whole(0, 36_500), "365"),
        worker_threads=read("WORKER_THREADS", _whole(1, 64), "10"),
        proxy_hops=read("PROXY_HOPS", _whole(0, 10), "0"),
        rate_limit_storage=read("RATE_LIMIT_STORAGE", _limit_storage, "memory://"),
        orders_limit=read("ORDERS_LIMIT", _limit, "20 per minute"),
        orders_limit_overall=read("ORDERS_LIMIT_OVERALL", _limit, "300 per minute"),
        logins_limit=read("LOGINS_LIMIT", _limit, "10 per minute"),
        logins_limit_overall=read("LOGINS_LIMIT_OVERALL", _limit, "300 per minute"),
        changes_limit=read("CHANGES_LIMIT", _limit, "60 per minute"),
        changes_limit_overall=read("CHANGES_LIMIT_OVERALL", _limit, "600 per minute"),
        tips_limit=read("TIPS_LIMIT", _limit, "20 per minute"),
        tips_limit_overall=read("TIPS_LIMIT_OVERALL", _limit, "300 per minute"),
        tip_min_sats=least_tip,
        tip_max_sats=most_tip,
        tip_jars=read("TIP_JARS", _yes_or_no("true", "false"), "true"),
        ftp_uploads=read("FTP_UPLOADS", _yes_or_no("true", "false"), "true"),
        ftp_addresses=dict(zip(servers, ftp_addresses, strict=True)) if ftp_addresses else {},
        ftp_tls=read("FTP_TLS", _yes_or_no("always", "never"), "always"),
        ftp_verify_tls=read("FTP_VERIFY_TLS", _verify_tls, "true"),
    )


class _Reader:
    def __init__(self, env: Mapping[str, str]):
        self._env = env

    def __call__(self, name: str, parse: Callable, default: str | None = None):
        text = self._env.get(name, default)
        if text is None:
            raise ConfigError(f"{name} is not set: {_advice(parse)}")
        try:
            return parse(text.strip())
        except ValueError as error:
            raise ConfigError(f"{name} is not usable: {error}") from error

    def secret(self, name: str, parse: Callable[[str], str], default: str | None = None) -> str:
        if name in self._env:
            return self(name, parse)
        path = self._env.get(f"{name}_FILE")
        if path is None and default is not None:
            return default
        if path is None:
            raise ConfigError(
                f"{name} is not set: write it, or the path of its file in {name}_FILE"
            )
        return _read_secret(f"{name}_FILE", Path(path), parse)


def _advice(parse: Callable) -> str:
    """What to write, in the words that the parser itself refuses an empty value with."""
    try:
        parse("")
    except ValueError as error:
        return str(error)
    return "write a value"


def _read_secret(name: str, path: Path, parse: Callable[[str], str]) -> str:
    try:
        return parse(path.read_text().strip())
    except (OSError, ValueError) as error:
        # The reason only: never what the file holds.
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise ConfigError(f"{name} names a file that is not usable ({path}): {reason}") from error


def _make_directory(instance: Path) -> None:
    try:
        instance.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"{instance} cannot be made for our data: {error.strerror}") from error


def _secret_key(read: _Reader, instance: Path) -> str:
    """SECRET_KEY, or what SECRET_KEY_FILE holds, or the key made at the first start."""
    if "SECRET_KEY" in read._env or "SECRET_KEY_FILE" in read._env:
        return read.secret("SECRET_KEY", _key)
    path = instance / "secret-key"
    if not path.exists():
        _make_secret(path)
    return _read_secret("SECRET_KEY_FILE", path, _key)


def _make_secret(path: Path) -> None:
    # Written beside, then linked: two programs that start together end with one whole key.
    draft = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
    with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(secrets.token_hex(32) + "\n")
        file.flush()
        os.fsync(file.fileno())
    try:
        os.link(draft, path)
    except FileExistsError:
        pass
    finally:
        draft.unlink()


def _text(value: str) -> str:
    if not value:
        raise ValueError("write a value")
    return value


def _secret(value: str) -> str:
    if len(value) < 8:
        raise ValueError("write at least 8 characters")
    return value


def _key(value: str) -> str:
    # Every visitor has a cookie signed with it: a key that can be guessed is guessed at home.
    if len(value) < 32 or "," in value:
        raise ValueError(
            "write at least 32 random characters and no comma, such as openssl rand -hex 32 prints"
        )
    return value


def _host(value: str) -> str:
    if not HOST.fullmatch(value):
        raise ValueError("write a host name in lower case, such as shop.example")
    return value


def _public_url(value: str) -> str:
    # Compared with what browsers send as Origin: no capitals, nothing behind the host.
    match = re.fullmatch(r"(https?)://([a-z0-9.-]+|\[[0-9a-f:]+\])(:[0-9]{1,5})?/?", value)
    if not match:
        raise ValueError(
            "write the shop's address in lower case and without a path, such as https://shop.example"
        )
    if match[1] == "http" and not _is_safe_without_tls(match[2].strip("[]")):
        raise ValueError(
            "write it with https:// (http:// is for this machine and .onion alone): receipts and "
            "passwords would travel in clear, and tip jars refuse such a shop"
        )
    return value.rstrip("/")


def _is_safe_without_tls(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith((".localhost", ".onion"))


def _panel_url(value: str) -> str:
    match = re.fullmatch(r"(https?://[A-Za-z0-9.-]+(:[0-9]{1,5})?)(/\S*)?", value)
    if not match:
        raise ValueError("write ISPConfig's address, such as https://panel.example:8080")
    path = match[3] if match[3] not in (None, "/") else "/remote/json.php"
    return match[1] + path


def is_postgresql_url(value: str) -> bool:
    """Whether its parts are clear: a part of a password, taken for another, ends up in messages."""
    try:
        urlsplit(value).port  # noqa: B018 - it raises on "user:pa/ss@host"
    except ValueError:
        return False
    return bool(POSTGRESQL_URL.fullmatch(value))


def _database_url(value: str) -> str:
    if not (re.match(r"sqlite:///.", value) or is_postgresql_url(value)):
        # Not the value: it may hold a password.
        raise ValueError(
            "write sqlite:///path or postgresql://user:password@host/database, with / @ : ? # and "
            "% in a password as %2F %40 %3A %3F %23 %25"
        )
    return value


def _smtp_url(value: str) -> str:
    try:
        parts = urlsplit(value)
        port = parts.port
    except ValueError:
        parts, port = urlsplit(""), None
    is_host = re.fullmatch(r"[a-z0-9.-]+|[0-9a-f:]+", parts.hostname or "")
    is_bare = not (parts.path.strip("/") or parts.query or parts.fragment)
    if value and not (parts.scheme in ("smtp", "smtps") and is_host and is_bare and port != 0):
        # Not the value: it may hold a password.
        raise ValueError(
            "write smtp://user:password@host:587 (STARTTLS) or smtps://user:password@host:465 "
            "(TLS), with / @ : ? # and % in a password as %2F %40 %3A %3F %23 %25"
        )
    return value


def _mail_host(public_url: str) -> str:
    host = urlsplit(public_url).hostname
    return "localhost" if ":" in host else host


def _sender(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9._+-]+@[A-Za-z0-9.-]+", value):
        raise ValueError("write the address that our mails come from, such as hosting@shop.example")
    return value


def _name_server(value: str) -> str:
    address, _, port = value.rpartition(":") if value.count(":") == 1 else (value, "", "53")
    if not re.fullmatch("[0-9]{1,5}", port) or not 0 < int(port) < 65536:
        raise ValueError("write a name server's address, such as 9.9.9.9 or 127.0.0.1:5353")
    try:
        return f"{ipaddress.ip_address(address)}#{port}"
    except ValueError:
        raise ValueError(
            "write a name server's address, such as 9.9.9.9 or 127.0.0.1:5353"
        ) from None


def _panel_prefix(value: str) -> str:
    if not re.fullmatch(r"[a-z][a-z0-9]{0,5}_", value):
        raise ValueError(
            "write a letter, up to five letters or digits, and an underscore, such as ls_"
        )
    return value


def _verify_tls(value: str) -> bool | str:
    if value in ("true", "false"):
        return value == "true"
    try:
        ssl.create_default_context().load_verify_locations(value)
    except OSError:  # of the file, or of what is in it
        raise ValueError("write true, false or the path of a file with CA certificates") from None
    return value


def _ftp_address(value: str) -> tuple[str, int]:
    match = re.fullmatch(r"([a-z0-9.-]+|\[[0-9a-f:]+\])(?::([0-9]{1,5}))?", value)
    port = int(match[2] or 21) if match else 0
    if not 0 < port < 65536:
        raise ValueError("write host names with or without a port, such as ftp.example:21")
    return match[1].strip("[]"), port


def _yes_or_no(yes: str, no: str) -> Callable[[str], bool]:
    def parse(value: str) -> bool:
        if value not in (yes, no):
            raise ValueError(f"write {yes} or {no}")
        return value == yes

    return parse


def _one_of(*words: str) -> Callable[[str], str]:
    def parse(value: str) -> str:
        if value not in words:
            raise ValueError(f"write {', '.join(words[:-1])} or {words[-1]}")
        return value

    return parse


def _limit(value: str) -> str:
    if not LIMIT.fullmatch(value):
        raise ValueError("write a limit such as 20 per minute")
    return value


def _limit_storage(value: str) -> str:
    if value != "memory://" and not re.fullmatch(r"(redis|rediss|redis\+unix)://\S+", value):
        # Not the value: it may hold a password.
        raise ValueError("write memory:// or a Redis, such as redis://localhost:6379")
    return value


def _whole(least: int, most: int = 10**12) -> Callable[[str], int]:
    def parse(value: str) -> int:
        if not re.fullmatch(r"[0-9]{1,12}", value) or not least <= int(value) <= most:
            raise ValueError(f"write a whole number from {least} to {most}")
        return int(value)

    return parse


def _matching(pattern: str) -> Callable[[str], str]:
    def parse(value: str) -> str:
        if not re.fullmatch(pattern, value):
            raise ValueError(f"write a value that matches {pattern}")
        return value

    return parse


def _list_of(parse_one: Callable) -> Callable[[str], tuple]:
    def parse(value: str) -> tuple:
        return tuple(parse_one(part.strip()) for part in value.split(",")) if value else ()

    return parse


def _ids(value: str) -> tuple[int, ...]:
    ids = tuple(_whole(1, 10**6)(part.strip()) for part in value.split(","))
    if len(set(ids)) != len(ids):
        raise ValueError("write each server id once, such as 1,2")
    return ids


def _sizes(value: str) -> tuple[int, ...]:
    sizes = [_whole(10, 10**8)(part.strip()) for part in value.split(",")]
    if len(set(sizes)) != len(sizes):
        raise ValueError("write each size once, such as 100,500")
    return tuple(sorted(sizes))
