"""What a visitor reads with, if that is no graphical browser."""

import re

from flask import request

TERMINALS = re.compile("curl|wget", re.IGNORECASE)
TEXT_BROWSERS = re.compile("w3m|lynx|e?links", re.IGNORECASE)


def wants_text() -> bool:
    """Whether to answer with plain text: to curl and the like, or if it is asked for.

    A request that names text/html gets that.
    """
    accepted = dict(request.accept_mimetypes)
    if "text/html" in accepted:
        return accepted.get("text/plain", 0) > accepted["text/html"]
    return "text/plain" in accepted or TERMINALS.match(_program()) is not None


def shows_text_only() -> bool:
    """Whether it is a browser that shows no pictures, and ignores what is hidden."""
    return TEXT_BROWSERS.match(_program()) is not None


def _program() -> str:
    return request.headers.get("User-Agent", "")
