"""Addresses as nginx goes by them, however they were written."""

from urllib.parse import quote, unquote

# What nginx sends on as it is.
PLAIN = "/!$&'()*+,;=:@[]~"


def as_served(uri: str) -> str:
    """The address that nginx has matched and sends on, for the one that it was asked for."""
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
