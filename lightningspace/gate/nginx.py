"""nginx's configuration: one file for `http { }` and one for `server { }`, made from gate.toml."""

import hashlib
from pathlib import Path
from urllib.parse import urlsplit

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from lightningspace.gate.addresses import paths
from lightningspace.gate.answers import STATUSES
from lightningspace.gate.services import Gate, Service

HTTP, SERVER = "gate-http.conf", "gate-server.conf"
EXPOSED = "WWW-Authenticate, X-Gate-Balance, Retry-After"
METHODS = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"
ALLOWED = (
    "Content-Type, Authorization, Accept-Authenticate, WWW-Authenticate, Macaroon, "
    "Grpc-Metadata-Macaroon, Range"
)
TO_THE_APP = """\
  proxy_pass http://gate_app;
  proxy_cache off;
  proxy_http_version 1.1;
  proxy_set_header Connection "";
  proxy_set_header Host $http_host;
  proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
  proxy_set_header X-Forwarded-Proto $scheme;
"""
# The headers that every upstream is sent; "": the header is not sent.
SENT = (
    ("Host", "$http_host"),
    ("Upgrade", "$gate_upgrade"),
    ("Connection", "$gate_connection"),
    ("Authorization", "$gate_authorization"),
    ("Macaroon", '""'),
    ("Grpc-Metadata-Macaroon", '""'),
    ("Cookie", "$gate_cookie"),
    ("X-L402-Token-Id", "$gate_token_id"),
    ("X-Request-Id", "$request_id"),
    ("Forwarded", '""'),
    # Some programs serve what these headers name, and not what was asked for.
    ("X-Original-URL", '""'),
    ("X-Rewrite-URL", '""'),
    ("X-Forwarded-Proto", "$scheme"),
)
# With these headers some programs take another method, which may not be paid for, or cost more.
METHOD_OVERRIDES = ("X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override")
TEMPLATES = Path(__file__).parents[2] / "templates" / "gate"
_templates = Environment(
    loader=FileSystemLoader(TEMPLATES),
    undefined=StrictUndefined,
    autoescape=False,
    trim_blocks=True,
    lstrip_blocks=True,
)


def write(gate: Gate, directory: Path) -> list[Path]:
    """Write both files into the directory, and return their paths. Raises OSError.

    For their owner alone: they hold the keys that upstreams are sent.
    """
    written = []
    for name, text in ((HTTP, for_http(gate)), (SERVER, for_server(gate))):
        path = directory / name
        path.touch(0o600)
        path.chmod(0o600)  # if it was there before
        path.write_text(text)
        written.append(path)
    return written


def for_http(gate: Gate) -> str:
    """The text of HTTP."""
    return _for_http(gate, made_of(gate))


def for_server(gate: Gate) -> str:
    """The text of SERVER."""
    return _for_server(gate, made_of(gate))


def made_of(gate: Gate) -> str:
    """A hash that tells both files from those of another gate.toml or version of the shop."""
    texts = _for_http(gate, "") + _for_server(gate, "")
    return hashlib.sha256(texts.encode()).hexdigest()[:32]


def is_as_written(gate: Gate) -> str:
    """The address that nginx answers with 204 if both files that it uses are those of `gate`.

    nginx does not tell the hash itself, from which secrets that services are sent could be guessed.
    """
    return f"/gate/config?is={made_of(gate)}-{made_of(gate)}"


def _for_http(gate: Gate, made_of: str) -> str:
    return _templates.get_template("http.conf").render(
        gate=gate,
        exposed=EXPOSED,
        cost_variable=_cost_variable,
        folder_variable=_folder_variable,
        made_of=made_of,
    )


def _for_server(gate: Gate, made_of: str) -> str:
    return _templates.get_template("server.conf").render(
        gate=gate,
        paths=paths,
        target=_target,
        folder_variable=_folder_variable,
        sent=_sent,
        to_the_app=TO_THE_APP,
        statuses=STATUSES,
        exposed=EXPOSED,
        methods=METHODS,
        allowed=ALLOWED,
        made_of=made_of,
    )


def _target(service: Service, path: str) -> str:
    """Where requests below `path` go: the same path at the upstream, or below the path it has."""
    parts = urlsplit(service.upstream)
    base = parts.path or service.location
    below = path.removeprefix(service.location)
    return f"{parts.scheme}://{parts.netloc}{base.rstrip('/')}/{below}"


def _sent(service: Service) -> list[tuple[str, str]]:
    """The headers that its upstream gets from nginx: those of gate.toml take the place of ours."""
    named = {name.lower() for name, _ in service.headers}
    address = "$remote_addr" if service.shows_addresses else '""'
    ours = [*SENT, ("X-Forwarded-For", address), ("X-Real-IP", address)]
    if service.capabilities or (service.bundle and service.bundle.price_url):
        ours += [(name, '""') for name in METHOD_OVERRIDES]
    kept = [(name, value) for name, value in ours if name.lower() not in named]
    return kept + [(name, f'"{value}"') for name, value in service.headers]


def _cost_variable(service: Service) -> str:
    header = service.bundle.cost_header if service.bundle else ""
    return f"$upstream_http_{header.lower().replace('-', '_')}" if header else ""


def _folder_variable(service: Service) -> str:
    """The variable that holds the folder on the disk, by who asks."""
    return f"$gate_folder_{service.name.replace('-', '_')}"
