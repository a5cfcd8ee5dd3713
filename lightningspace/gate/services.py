"""gate.toml: what is behind the gate, and what it costs."""

import ipaddress
import os
import re
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from lightningspace.base.clock import DAY, HOUR, MINUTE
from lightningspace.base.settings import ConfigError
from lightningspace.outside import l402

# The longest a pass or a bundle lasts: whatever is paid ends, and its rows go.
TIME_MAX = 10 * 366 * DAY
SPANS = {"second": 1, "minute": MINUTE, "hour": HOUR, "day": DAY, "week": 7 * DAY}
SPANS |= {"month": 30 * DAY, "year": 365 * DAY}
SPAN = re.compile(rf"([1-9][0-9]{{0,8}})\s*({'|'.join(SPANS)})s?|([1-9][0-9]{{0,8}})s")
NAME = re.compile("[a-z][a-z0-9-]{0,31}")
# These go into nginx's configuration as they are: no character may have a meaning there.
PATH = re.compile(r"/(?:[A-Za-z0-9._~@-]+/)*")
FILE_PATH = re.compile(r"/[A-Za-z0-9._~@/+-]*")
HEADER = re.compile("[A-Za-z0-9-]+")
IN_ENV = re.compile(r"\$\{(\w+)\}")
METHOD = re.compile("[A-Z]{1,20}")
# The addresses that the gate itself answers, and those that say what is sold.
RESERVED = ("/gate/", "/.well-known/")

PER = ("per_request_msat", "per_mb_msat", "per_second_msat", "cost_header", "price_url")
MSAT_MAX = 10**12
# All capabilities are in a credential, with other services: see l402.MINTED_BYTES_MAX.
NAMES_LENGTH = 400
# The largest body that an upstream gets, unless gate.toml names another.
BODY_MB = 100
# Where deploy/systemd has gunicorn.
APP = "unix:/run/lightning-space/web"
LOG = "/var/log/nginx/gate.log"


@dataclass(frozen=True)
class Limit:
    """A token bucket: `requests` in each `seconds`, and up to `burst` at once."""

    requests: int
    seconds: int
    burst: int


@dataclass(frozen=True)
class Bundle:
    """A prepaid balance: what one payment buys, and how requests use it up.

    Exactly one of PER says what a request costs. `reserve_msat`: taken before the request, and
    what it did not cost is given back after it.
    """

    msat: int
    reserve_msat: int
    per_request_msat: int = 0
    per_mb_msat: int = 0
    per_second_msat: int = 0
    cost_header: str = ""
    price_url: str = ""
    price_msat: tuple[int, int] = (0, 0)  # what `price_url` may answer


@dataclass(frozen=True)
class Service:
    """A service of gate.toml. `seconds`: how long what one payment buys can be used.

    `bundle` None: a pass, good for any number of requests in its time. `capabilities`: the methods
    that each one allows; empty: a pass allows every method.
    """

    name: str
    title: str
    location: str
    price_sat: int
    seconds: int
    bundle: Bundle | None = None
    files: str = ""
    upstream: str = ""
    disk: str = ""
    free: tuple[str, ...] = ()
    no_invoice: tuple[str, ...] = ()
    freebie: int = 0
    capabilities: tuple[tuple[str, tuple[str, ...]], ...] = ()
    limits: tuple[Limit, ...] = ()
    blocklist: tuple[str, ...] = ()
    headers: tuple[tuple[str, str], ...] = ()
    body: str = ""  # what the body of a request should be, in words for programs
    rate_kb: int = 0
    body_mb: int = BODY_MB
    quota_mb: int = 0
    grace_seconds: int = 0
    propfind: bool = False  # for WebDAV clients, by a module of nginx that it may not have
    shows_addresses: bool = False
    cors: bool = False
    dry_run: bool = False
    is_open_when_down: bool = False

    @property
    def kind(self) -> str:
        return "files" if self.files else "upstream" if self.upstream else "disk"

    @property
    def folder(self) -> str:
        """Where its files are on this machine; "" for an upstream."""
        return self.files or self.disk

    @property
    def all_capabilities(self) -> frozenset[str] | None:
        """What a pass is minted with; None: its capabilities are not told apart."""
        return frozenset(name for name, _ in self.capabilities) or None

    def capability_for(self, method: str) -> str | None:
        """The capability that a method needs; None: no pass allows it. HEAD is asked as GET."""
        method = "GET" if method == "HEAD" else method
        return next((name for name, methods in self.capabilities if method in methods), None)


@dataclass(frozen=True)
class Gate:
    """`app`: where nginx reaches the shop. `log`: what nginx writes of metered requests.

    `cache`: a directory where nginx keeps for a second that a pass is good; empty: it does not.
    """

    services: tuple[Service, ...]
    app: str = APP
    log: str = LOG
    cache: str = ""

    def service(self, name: str) -> Service | None:
        return next((each for each in self.services if each.name == name), None)

    @property
    def app_server(self) -> str:
        """`app` as nginx writes it: "unix:/run/lightning-space/web" or "127.0.0.1:8000"."""
        return self.app if self.app.startswith("unix:") else urlsplit(self.app).netloc

    @property
    def is_metered(self) -> bool:
        return any(service.bundle for service in self.services)


class _Wrong(Exception):
    """What is wrong with one key of a table; the key is "" if it is the table as a whole."""

    def __init__(self, key: str, why: str):
        super().__init__(why)
        self.key = key


def read(path: Path, env: dict[str, str] | None = None) -> Gate:
    """The gate that this file describes. `env`: where its ${NAMES} are looked up.

    Raises ConfigError, which names the line of each mistake.
    """
    try:
        text = path.read_text()
        tables = tomllib.loads(text)
    except OSError as error:
        raise ConfigError(f"GATE_CONFIG names a file that is not usable: {error}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not TOML: {error}") from error
    gate, mistakes = _gate(tables, text, os.environ if env is None else env)
    if mistakes:
        raise ConfigError("\n".join(f"{path}, line {line}: {why}" for line, why in mistakes))
    return gate


def _gate(tables: dict, text: str, env) -> tuple[Gate, list[tuple[int, str]]]:
    lines, mistakes, services = text.splitlines(), [], []
    written = tables.pop("service", [])
    if not isinstance(written, list) or not all(isinstance(each, dict) for each in written):
        return Gate(()), [(_line(lines, 0, "service"), "write each service as [[service]]")]
    starts = [at for at, line in enumerate(lines) if re.match(r"\s*\[\[\s*service\s*]]", line)]
    for number, table in enumerate(written):
        start = starts[number] if number < len(starts) else 0
        try:
            service = _service(_Table(table), env)
            _check_beside(service, services)
            services.append(service)
        except _Wrong as wrong:
            mistakes.append((_line(lines, start, wrong.key), str(wrong)))
    try:
        table = _Table(tables)
        app = table.take("app", _app, APP)
        log = table.take("log", _file_path, LOG)
        cache = table.take("cache", _file_path, "")
        table.check_empty()
        if not written:
            raise _Wrong("", "there is no [[service]]")
    except _Wrong as wrong:
        mistakes.append((_line(lines, -1, wrong.key), str(wrong)))
        return Gate(()), mistakes
    return Gate(tuple(services), app, log, cache), mistakes


def _line(lines: list[str], start: int, key: str) -> int:
    """The number of the line that sets `key` in the table that begins at `start`."""
    for at in range(start + 1, len(lines)):
        if start >= 0 and re.match(r"\s*\[\[", lines[at]):
            break
        if key and re.match(rf"\s*[\"']?{re.escape(key)}[\"']?\s*[.=]", lines[at]):
            return at + 1
    return max(start, 0) + 1


class _Table:
    """The keys of a table, each taken once."""

    def __init__(self, table: dict):
        self._left = dict(table)

    def take(self, key: str, parse: Callable[[Any], Any], default: Any = None) -> Any:
        """The value of `key`, or `default` if it is not set; `default` None: it must be set.

        Raises _Wrong.
        """
        if key not in self._left:
            if default is None:
                raise _Wrong("", f"{key} is missing")
            return default
        try:
            return parse(self._left.pop(key))
        except ValueError as error:
            raise _Wrong(key, f"{key}: {error}") from None

    def has(self, key: str) -> bool:
        return key in self._left

    def one_of(self, *keys: str) -> str:
        """Which one of these keys is set. Raises _Wrong for none and for several."""
        there = [key for key in keys if key in self._left]
        if len(there) != 1:
            raise _Wrong(there[-1] if there else "", f"write one of {', '.join(keys)}")
        return there[0]

    def check_empty(self) -> None:
        for key in self._left:
            raise _Wrong(key, f"there is no setting {key} here")


def _service(table: _Table, env) -> Service:
    name = table.take("name", _name)
    location = table.take("location", _location)
    kind = table.one_of("files", "upstream", "disk")
    parse = {"files": _file_path, "upstream": _web_address, "disk": _file_path}[kind]
    target = table.take(kind, parse)
    is_upstream = kind == "upstream"
    if table.one_of("price_sat", "bundle_sat") == "price_sat":
        price_sat, bundle = table.take("price_sat", _whole(1)), None
        seconds = table.take("time", _span)
    else:
        price_sat, bundle = _bundle(table, is_upstream)
        seconds = table.take("time", _span, SPANS["year"])
    service = Service(
        name=name,
        title=table.take("title", _text, name),
        location=location,
        price_sat=price_sat,
        seconds=seconds,
        bundle=bundle,
        **{kind: target},
        free=table.take("free", _list(_within(location)), ()),
        no_invoice=table.take("no_invoice", _list(_within(location)), ()),
        freebie=table.take("freebie", _whole(0), 0),
        capabilities=table.take("capabilities", _capabilities, ()),
        limits=table.take("limits", _list(_limit), ()),
        blocklist=table.take("blocklist", _list(_network), ()),
        headers=table.take("headers", _headers(env), ()) if is_upstream else (),
        body=table.take("body", _text, ""),
        rate_kb=table.take("rate_kb_per_second", _whole(1), 0),
        body_mb=table.take("body_mb", _whole(1), BODY_MB) if is_upstream else BODY_MB,
        quota_mb=table.take("quota_mb", _whole(1)) if kind == "disk" else 0,
        grace_seconds=table.take("grace", _span, 7 * DAY) if kind == "disk" else 0,
        propfind=table.take("propfind", _yes_or_no, False) if kind == "disk" else False,
        shows_addresses=table.take("addresses", _yes_or_no, False) if is_upstream else False,
        cors=table.take("cors", _yes_or_no, False),
        dry_run=table.take("dry_run", _yes_or_no, False),
        is_open_when_down=table.take("gate_down", _open_or_closed, False),
    )
    table.check_empty()
    if service.kind == "disk" and (service.freebie or service.dry_run or service.free):
        raise _Wrong("disk", "a disk belongs to who has paid: nothing of it can be free")
    if service.propfind and service.cors:
        raise _Wrong("cors", "OPTIONS can be for WebDAV clients or for pages of other sites")
    if service.kind == "disk" and service.is_open_when_down:
        raise _Wrong("gate_down", "a disk belongs to who has paid: its gate cannot be open")
    return service


def _bundle(table: _Table, is_upstream: bool) -> tuple[int, Bundle]:
    sat = table.take("bundle_sat", _whole(1))
    per = table.one_of(*PER)
    if per in ("cost_header", "price_url") and not is_upstream:
        raise _Wrong(per, f"{per} is for an upstream")
    parse = {"cost_header": _header_name, "price_url": _web_address}.get(per, _whole(1))
    facts = {per: table.take(per, parse)}
    if per == "per_request_msat":
        reserve = facts[per]
    elif per == "price_url":
        bounds = table.take("price_msat", _bounds)
        facts["price_msat"], reserve = bounds, bounds[1]
    else:
        reserve = table.take("reserve_msat", _whole(1))
    if reserve > sat * 1000:
        raise _Wrong("bundle_sat", "a bundle must pay for one request at least")
    return sat, Bundle(sat * 1000, reserve, **facts)


def _check_beside(service: Service, others: list[Service]) -> None:
    for other in others:
        if other.name == service.name:
            raise _Wrong("name", f"another service is called {service.name}")
        taken = {other.location, *other.free, *other.no_invoice}
        if (service.disk or other.disk) and _is_within(service.folder, other.folder):
            raise _Wrong(service.kind, f"{other.name} has the same folder, or one around or within")
        if taken & {service.location, *service.free, *service.no_invoice}:
            raise _Wrong("location", f"{other.name} has the same path")


def _is_within(one: str, other: str) -> bool:
    """Whether one of two folders is or holds the other."""
    shorter, longer = sorted((one, other), key=len)
    return bool(shorter) and f"{longer}/".startswith(f"{shorter.rstrip('/')}/")


# -- values ----------------------------------------------------------------------------


def _name(value: Any) -> str:
    if not isinstance(value, str) or not NAME.fullmatch(value):
        raise ValueError("write small letters, digits and hyphens, 32 at most")
    if value == l402.SERVICE:
        raise ValueError("this is the name of the hosting itself")
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value.strip() or len(value) > 100 or "\n" in value:
        raise ValueError("write a line of text, of 100 characters at most")
    return value.strip()


def _location(value: Any) -> str:
    if not isinstance(value, str) or not PATH.fullmatch(value) or "/./" in value or "/../" in value:
        raise ValueError("write a path that begins and ends with a slash, such as /videos/")
    if value.startswith(RESERVED):
        raise ValueError(f"{' and '.join(RESERVED)} belong to the gate")
    return value


def _within(location: str) -> Callable[[Any], str]:
    def parse(value: Any) -> str:
        path = _location(value)
        if not path.startswith(location) or path == location:
            raise ValueError(f"write paths below {location}")
        return path

    return parse


def _file_path(value: Any) -> str:
    if not isinstance(value, str) or not FILE_PATH.fullmatch(value) or "/../" in f"{value}/":
        raise ValueError("write an absolute path of letters, digits and . _ ~ @ + -")
    return value.rstrip("/") or "/"


def _web_address(value: Any) -> str:
    wrong = "write an address such as http://127.0.0.1:9000"
    if not isinstance(value, str) or not re.fullmatch(r"https?://[A-Za-z0-9.:\[\]/_~-]+", value):
        raise ValueError(wrong)
    try:
        parts = urlsplit(value)
        if not parts.hostname or parts.port == 0:
            raise ValueError
    except ValueError:
        raise ValueError(wrong) from None
    return value


def _app(value: Any) -> str:
    if isinstance(value, str) and value.startswith("unix:"):
        return f"unix:{_file_path(value.removeprefix('unix:'))}"
    address = _web_address(value)
    if not re.fullmatch("http://[^/]*/?", address):
        raise ValueError(f"write {APP} or an address such as http://127.0.0.1:8000")
    return address


def _whole(least: int) -> Callable[[Any], int]:
    def parse(value: Any) -> int:
        if type(value) is not int or not least <= value <= MSAT_MAX:
            raise ValueError(f"write a whole number from {least} to {MSAT_MAX}")
        return value

    return parse


def _bounds(value: Any) -> tuple[int, int]:
    if not isinstance(value, list) or len(value) != 2:
        raise ValueError("write the lowest and the highest price, such as [100, 5000]")
    low, high = map(_whole(1), value)
    if low > high:
        raise ValueError("write the lowest price first")
    return low, high


def _span(value: Any) -> int:
    found = SPAN.fullmatch(value) if isinstance(value, str) else None
    seconds = (int(found[3] or found[1]) * SPANS[found[2] or "second"]) if found else 0
    if not 0 < seconds <= TIME_MAX:
        raise ValueError('write a time such as "1 day" or "90s", of ten years at most')
    return seconds


def _yes_or_no(value: Any) -> bool:
    if type(value) is not bool:
        raise ValueError("write true or false")
    return value


def _open_or_closed(value: Any) -> bool:
    if value not in ("open", "closed"):
        raise ValueError('write "open" or "closed"')
    return value == "open"


def _list(parse_one: Callable[[Any], Any]) -> Callable[[Any], tuple]:
    def parse(value: Any) -> tuple:
        if not isinstance(value, list):
            raise ValueError("write a list in brackets")
        return tuple(map(parse_one, value))

    return parse


def _limit(value: Any) -> Limit:
    wrong = 'write { requests = 10, per = "1s", burst = 20 }'
    if not isinstance(value, dict) or not {"requests", "per"} <= value.keys():
        raise ValueError(wrong)
    if value.keys() - {"requests", "per", "burst"}:
        raise ValueError(wrong)
    requests = _whole(1)(value["requests"])
    return Limit(requests, _span(value["per"]), _whole(1)(value.get("burst", requests)))


def _network(value: Any) -> str:
    try:
        return str(ipaddress.ip_network(value))
    except (ValueError, TypeError):
        raise ValueError("write addresses and networks, such as 203.0.113.0/24") from None


def _capabilities(value: Any) -> tuple[tuple[str, tuple[str, ...]], ...]:
    wrong = 'write which methods each allows, such as { read = ["GET"] }'
    if not isinstance(value, dict) or not value:
        raise ValueError(wrong)
    for name, methods in value.items():
        if not re.fullmatch(r"[\w.-]{1,32}", name, re.ASCII) or not isinstance(methods, list):
            raise ValueError(wrong)
        if not all(isinstance(each, str) and METHOD.fullmatch(each) for each in methods):
            raise ValueError(wrong)
    if len(",".join(value)) > NAMES_LENGTH:
        raise ValueError(f"write names of {NAMES_LENGTH} letters at most, all together")
    return tuple((name, tuple(methods)) for name, methods in value.items())


def _header_name(value: Any) -> str:
    if not isinstance(value, str) or not HEADER.fullmatch(value):
        raise ValueError("write the name of a header, such as X-Gate-Cost-Msat")
    return value


def _headers(env) -> Callable[[Any], tuple[tuple[str, str], ...]]:
    def parse(value: Any) -> tuple[tuple[str, str], ...]:
        if not isinstance(value, dict):
            raise ValueError('write headers as { "X-Api-Key" = "${API_KEY}" }')
        return tuple((_header_name(name), expanded(text)) for name, text in value.items())

    def expanded(text: Any) -> str:
        if not isinstance(text, str):
            raise ValueError("write each header's value as text")
        for name in IN_ENV.findall(text):
            if name not in env:
                raise ValueError(f"the environment variable {name} is not set")
        full = IN_ENV.sub(lambda found: env[found[1]], text)
        # It is written between quotes into nginx's configuration, where $ begins a variable.
        if not re.fullmatch(r"[\x20-\x7e]*", full) or set(full) & set('"\\$'):
            raise ValueError("its value may have no quotes, no \\ and no $, and only ASCII")
        return full

    return parse
