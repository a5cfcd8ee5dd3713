"""Addresses as nginx reads them, however they were written."""

from collections.abc import Iterator
from urllib.parse import quote, unquote

from lightningspace.gate.services import Service

# What nginx sends on as it is.
PLAIN = "/!$&'()*+,;=:@[]~"


def as_served(uri: str) -> str:
    """The address that nginx matches and sends on when it is asked for this one."""
    path, mark, query = uri.partition("#")[0].partition("?")
    kept, parts = [], unquote(path, "latin-1").split("/")[1:]
    for part in parts:
        if part == "..":
            del kept[-1:]
        elif part not in ("", "."):
            kept.append(part)
    if kept and parts[-1] in ("", ".", ".."):
        kept.append("")
    return quote("/" + "/".join(kept), PLAIN, "latin-1") + mark + query


def paths(service: Service) -> Iterator[tuple[str, str]]:
    """The paths below its location that have terms of their own: "free", or "no-invoice"."""
    yield from ((path, "free") for path in service.free)
    yield from ((path, "no-invoice") for path in service.no_invoice)
