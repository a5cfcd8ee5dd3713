"""The answers of the check: nginx serves the request, or sends something else instead.

nginx does not pass a refusal of the check on, so the headers of a 401 say what it is to send.
"""

import json
from dataclasses import dataclass, field
from http import HTTPStatus

from lightningspace.visitors import authorization

# The statuses that nginx is told to send.
STATUSES = (401, 402, 403, 411, 413, 414, 429, 503, 507)
REFUSED, PAGE = "@gate_refused", "@gate_page"
# The media type of problems (RFC 9457).
PROBLEM = "application/problem+json"
RETRY_SECONDS = 5


@dataclass(frozen=True)
class Passes:
    """The request is served. `headers`: what nginx makes of it."""

    headers: dict[str, str] = field(default_factory=dict)
    outcome: str = "passed"

    status = "204 No Content"

    def lines(self) -> list[tuple[str, str]]:
        return list(self.headers.items())


@dataclass(frozen=True)
class ShowsPage:
    """nginx shows a page with an invoice instead, which the shop makes."""

    status = "401 Unauthorized"
    outcome = "page"

    def lines(self) -> list[tuple[str, str]]:
        return [("X-Gate-Answer", PAGE)]


@dataclass(frozen=True)
class Refuses:
    """nginx sends this problem (RFC 9457). `challenge`: the values of WWW-Authenticate."""

    code: int
    name: str
    detail: str
    retry_after: int = 0
    challenge: tuple[str, ...] = ()
    facts: dict = field(default_factory=dict)

    status = "401 Unauthorized"

    @property
    def outcome(self) -> str:
        return self.name

    def lines(self) -> list[tuple[str, str]]:
        headers = [
            ("X-Gate-Answer", REFUSED),
            ("X-Gate-Status", str(self.code)),
            ("X-Gate-Body", json.dumps(self.problem())),
        ]
        if self.retry_after:
            headers.append(("Retry-After", str(self.retry_after)))
        names = ("X-Gate-L402", "X-Gate-Lsat")
        headers += zip(names, reversed(self.challenge), strict=False)
        return headers

    def problem(self) -> dict:
        title = HTTPStatus(self.code).phrase
        body = {"type": "about:blank", "title": title, "status": self.code, "code": self.name}
        return body | {"detail": self.detail} | self.facts


def unauthorized(why: object) -> Refuses:
    """401 without an invoice: a forged credential must not be answered with one."""
    detail = f"{str(why)[:1].upper()}{str(why)[1:]}."
    return Refuses(401, "unauthorized", detail, challenge=(authorization.BARE,))


def too_many(what: str, seconds: int) -> Refuses:
    """429: too many of these in a short time."""
    detail = f"Too many {what} in a short time. Send the same again later."
    return Refuses(429, "too_many_requests", detail, seconds)
