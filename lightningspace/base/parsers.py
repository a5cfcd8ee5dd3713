"""Parsers for the text of settings. Each raises ValueError, which says what to write."""

import ipaddress
import re
import ssl
import unicodedata
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from urllib.parse import urlsplit

MAIL_ADDRESS = re.compile(r"[A-Za-z0-9._+-]+@[A-Za-z0-9.-]+")
# No quotes, brackets or spaces: it becomes a link.
WEB_ADDRESS = re.compile(r"https?://[A-Za-z0-9.-]+(:[0-9]{1,5})?(/[!#-&(-;=?-Z_a-z~]*)?")
DOCUMENT_BYTES_MAX = 256 * 1024
HOST = re.compile(
    r"(?=.{1,253}$)([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z]([a-z0-9-]{0,61}[a-z0-9])?"
)
POSTGRESQL_URL = re.compile(r"postgresql://([^/?#]*@)?[^/@?#]*/[^/@?#]+(\?[^@#]*)?")
LIMIT = re.compile(r"[1-9][0-9]{0,8} per (second|minute|hour|day)")


def text(value: str) -> str:
    if not value:
        raise ValueError("write a value")
    return value


def secret(value: str) -> str:
    if len(value) < 8:
        raise ValueError("write at least 8 characters")
    return value


def key(value: str) -> str:
    # Every visitor has a cookie signed with it, on which to try guesses offline.
    if len(value) < 32 or "," in value:
        raise ValueError(
            "write at least 32 random characters and no comma, such as openssl rand -hex 32 prints"
        )
    return value


def bearer_token(value: str) -> str:
    """A token for a header; "": there is none."""
    if value and not re.fullmatch(r"[A-Za-z0-9._~+/-]{20,200}=*", value):
        raise ValueError("write 20 letters and digits or more, such as openssl rand -hex 32 prints")
    return value


def password_hash(value: str) -> str:
    """As werkzeug writes it; "": there is none."""
    if value and not re.fullmatch(r"scrypt:[0-9]{4,6}:8:1\$[A-Za-z0-9]{8,}\$[0-9a-f]{128}", value):
        raise ValueError("write what `flask --app wsgi operator-password` prints, in its quotes")
    return value


def listening_or_none(value: str) -> tuple[str, int] | None:
    """An address and a port of this machine; None: none is named."""
    address, _, port = value.rpartition(":")
    try:
        if value and re.fullmatch("[0-9]{1,5}", port) and 0 < int(port) < 65536:
            return str(ipaddress.ip_address(address.strip("[]"))), int(port)
    except ValueError:
        pass
    if value:
        raise ValueError("write an address and a port, such as 127.0.0.1:9101")
    return None


def host(value: str) -> str:
    if not HOST.fullmatch(value):
        raise ValueError("write a host name in lower case, such as shop.example")
    return value


def public_url(value: str) -> str:
    # Compared with what browsers send as Origin: no capitals, nothing behind the host.
    match = re.fullmatch(r"(https?)://([a-z0-9.-]+|\[[0-9a-f:]+\])(:[0-9]{1,5})?/?", value)
    if not match:
        raise ValueError(
            "write the shop's address in lower case and without a path, such as https://shop.example"
        )
    if match[1] == "http" and not _is_safe_without_tls(match[2].strip("[]")):
        raise ValueError(
            "write it with https:// (http:// is for this machine and .onion alone): passwords and "
            "access keys would travel in clear, and tip jars refuse such a shop"
        )
    return value.rstrip("/")


def _is_safe_without_tls(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith((".localhost", ".onion"))


def shop_name(value: str) -> str:
    is_odd = any(unicodedata.category(sign)[0] in "CZ" and sign != " " for sign in value)
    if is_odd or not 1 <= len(value) <= 40:
        raise ValueError("write the shop's name: up to 40 letters, symbols and spaces")
    return value


def contact(value: str) -> str:
    if value and not (MAIL_ADDRESS.fullmatch(value) or WEB_ADDRESS.fullmatch(value)):
        raise ValueError(
            "write a mail address or the URL of a page, such as help@shop.example or "
            "https://shop.example/help"
        )
    return value


def web_address(value: str) -> str:
    if value and not WEB_ADDRESS.fullmatch(value):
        raise ValueError("write the URL of a page, such as https://shop.example/help")
    return value


def webhook(value: str) -> str:
    parts = urlsplit(web_address(value))
    if parts.scheme == "http" and not _is_safe_without_tls(parts.hostname or ""):
        raise ValueError("write it with https:// (http:// is for this machine and .onion alone)")
    return value


def digest(value: str) -> str:
    if value and not re.fullmatch("[0-9a-f]{64}", value):
        raise ValueError("write a SHA-256 in 64 hex digits")
    return value


def currency(value: str) -> str:
    if value and not re.fullmatch("[A-Z]{3}", value):
        raise ValueError("write the three letters of a currency, such as EUR")
    return value


def rate(value: str) -> Decimal | None:
    """None without one."""
    if not value:
        return None
    if not re.fullmatch(r"[0-9]{1,12}(\.[0-9]{1,8})?", value) or not Decimal(value):
        raise ValueError("write what a bitcoin costs, such as 60000")
    return Decimal(value)


def rate_source(value: str) -> tuple[str, tuple[str, ...]] | None:
    """The URL to ask, and the keys that lead to the number in its answer; None without one."""
    if not value:
        return None
    url, _, path = value.partition("#")
    found = re.fullmatch(r"(https?)://([A-Za-z0-9.-]+)(:[0-9]{1,5})?(/[!-~]*)?", url)
    is_safe = found and (found[1] == "https" or _is_safe_without_tls(found[2]))
    if not is_safe or not re.fullmatch(r"[A-Za-z0-9_:/-]+(\.[A-Za-z0-9_:/-]+)*", path):
        raise ValueError(
            "write an https:// address and, behind a #, the way to the number in its JSON, such as "
            "https://rates.example/ticker#EUR.last"
        )
    return url, tuple(path.split("."))


def document(value: str) -> str:
    """The text of the file; empty without one."""
    if not value:
        return ""
    try:
        data = Path(value).read_bytes()
        text = data.decode()
    except (OSError, ValueError):
        raise ValueError(f"write the path of a text file in UTF-8: {value} is none") from None
    if not text.strip() or len(data) > DOCUMENT_BYTES_MAX or "\0" in text:
        raise ValueError(f"write the path of a text of up to 256 kB: {value} is none")
    return text


def patterns(value: str) -> tuple[str, ...]:
    """The lines of the file, but for empty ones and comments (`#`)."""
    lines = [line.partition("#")[0].strip().lower() for line in document(value).splitlines()]
    if wrong := next((line for line in lines if not re.fullmatch(r"[a-z0-9.*?-]*", line)), None):
        raise ValueError(f"write letters, digits, hyphens, dots, * and ?, and not {wrong!r}")
    return tuple(filter(None, lines))


def file_or_none(value: str) -> Path | None:
    """The path of a file that is read later; None: none is named."""
    if value and not Path(value).is_file():
        raise ValueError("write the path of a file that can be read")
    return Path(value) if value else None


def directory(value: str) -> Path:
    if not value.startswith("/") or "\0" in value or Path(value).is_file():
        raise ValueError("write the path of a directory, such as /var/lib/shop/uploads")
    return Path(value)


def panel_url(value: str) -> str:
    match = re.fullmatch(r"(https?://[A-Za-z0-9.-]+(:[0-9]{1,5})?)(/\S*)?", value)
    if not match:
        raise ValueError("write ISPConfig's address, such as https://panel.example:8080")
    path = match[3] if match[3] not in (None, "/") else "/remote/json.php"
    return match[1] + path


def is_postgresql_url(value: str) -> bool:
    """Whether its parts are clear: a misread piece of a password would end up in messages."""
    try:
        urlsplit(value).port  # noqa: B018 - it raises on "user:pa/ss@host"
    except ValueError:
        return False
    return bool(POSTGRESQL_URL.fullmatch(value))


def database_url(value: str) -> str:
    if not (re.match(r"sqlite:///.", value) or is_postgresql_url(value)):
        # Not the value: it may hold a password.
        raise ValueError(
            "write sqlite:///path or postgresql://user:password@host/database, with / @ : ? # and "
            "% in a password as %2F %40 %3A %3F %23 %25"
        )
    return value


def smtp_url(value: str) -> str:
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


def sender(value: str) -> str:
    if not MAIL_ADDRESS.fullmatch(value):
        raise ValueError("write the address that our mails come from, such as hosting@shop.example")
    return value


def mail_address(value: str) -> str:
    if value and not MAIL_ADDRESS.fullmatch(value):
        raise ValueError("write a mail address, such as admin@shop.example")
    return value


def name_server(value: str) -> str:
    address, _, port = value.rpartition(":") if value.count(":") == 1 else (value, "", "53")
    if not re.fullmatch("[0-9]{1,5}", port) or not 0 < int(port) < 65536:
        raise ValueError("write a name server's address, such as 9.9.9.9 or 127.0.0.1:5353")
    try:
        return f"{ipaddress.ip_address(address)}#{port}"
    except ValueError:
        raise ValueError(
            "write a name server's address, such as 9.9.9.9 or 127.0.0.1:5353"
        ) from None


def address(value: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    try:
        return ipaddress.ip_address(value)
    except ValueError:
        raise ValueError("write addresses, such as 203.0.113.5,2001:db8::5") from None


def panel_prefix(value: str) -> str:
    if not re.fullmatch(r"[a-z][a-z0-9]{0,5}_", value):
        raise ValueError(
            "write a letter, up to five letters or digits, and an underscore, such as ls_"
        )
    return value


def verify_tls(value: str) -> bool | str:
    if value in ("true", "false"):
        return value == "true"
    try:
        # Not the default context, which reads all the machine's certificates first.
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(value)
    except OSError:  # also raised for a bad content
        raise ValueError("write true, false or the path of a file with CA certificates") from None
    return value


def _address(default_port: int) -> Callable[[str], tuple[str, int]]:
    def parse(value: str) -> tuple[str, int]:
        match = re.fullmatch(r"([a-z0-9.-]+|\[[0-9a-f:]+\])(?::([0-9]{1,5}))?", value)
        port = int(match[2] or default_port) if match else 0
        if not 0 < port < 65536:
            raise ValueError(
                f"write host names with or without a port, such as server.example:{default_port}"
            )
        return match[1].strip("[]"), port

    return parse


ftp_address, http_address = _address(21), _address(80)


def yes_or_no(yes: str, no: str) -> Callable[[str], bool]:
    def parse(value: str) -> bool:
        if value not in (yes, no):
            raise ValueError(f"write {yes} or {no}")
        return value == yes

    return parse


def one_of(*words: str) -> Callable[[str], str]:
    def parse(value: str) -> str:
        if value not in words:
            raise ValueError(f"write {', '.join(words[:-1])} or {words[-1]}")
        return value

    return parse


def limit(value: str) -> str:
    if not LIMIT.fullmatch(value):
        raise ValueError("write a limit such as 20 per minute")
    return value


def limit_storage(value: str) -> str:
    if value != "memory://" and not re.fullmatch(r"(redis|rediss|redis\+unix)://\S+", value):
        # Not the value: it may hold a password.
        raise ValueError("write memory:// or a Redis, such as redis://localhost:6379")
    return value


def whole(least: int, most: int = 10**12) -> Callable[[str], int]:
    def parse(value: str) -> int:
        if not re.fullmatch(r"[0-9]{1,12}", value) or not least <= int(value) <= most:
            raise ValueError(f"write a whole number from {least} to {most}")
        return int(value)

    return parse


def matching(pattern: str) -> Callable[[str], str]:
    def parse(value: str) -> str:
        if not re.fullmatch(pattern, value):
            raise ValueError(f"write a value that matches {pattern}")
        return value

    return parse


def age_recipient(value: str) -> str:
    if not re.fullmatch(r"age1[0-9a-z]{8,2000}|ssh-(ed25519|rsa) [A-Za-z0-9+/=]{40,2000}", value):
        raise ValueError("write what `age-keygen` calls the public key, such as age1…")
    return value


def list_of(parse_one: Callable) -> Callable[[str], tuple]:
    def parse(value: str) -> tuple:
        return tuple(parse_one(part.strip()) for part in value.split(",")) if value else ()

    return parse


def server_ids(value: str) -> tuple[int, ...]:
    ids = tuple(whole(1, 10**6)(part.strip()) for part in value.split(","))
    if len(set(ids)) != len(ids):
        raise ValueError("write each server id once, such as 1,2")
    return ids


def sizes(value: str) -> tuple[int, ...]:
    mb = [whole(10, 10**8)(part.strip()) for part in value.split(",")]
    if len(set(mb)) != len(mb):
        raise ValueError("write each size once, such as 100,500")
    return tuple(sorted(mb))
