"""Customers' sites over HTTP, as a stranger asks them. What they answer may be anything.

Asked is the server that the operator has named, by its own address, for a site on it: no DNS record
and no answer leads elsewhere, as no redirect is followed.
"""

import json
from dataclasses import dataclass
from http.client import HTTPException

from urllib3.exceptions import HTTPError

from lightningspace.outside.deadline import http_connection, time_limit

# A wallet may take ten of them.
ANSWER_SECONDS = 15
READ_MAX = 64 * 1024


class SiteError(Exception):
    """The server did not answer, or not in HTTP."""


@dataclass(frozen=True)
class Answer:
    """`challenge`: all that its WWW-Authenticate says. `body`: the first of it."""

    status: int
    challenge: str
    body: bytes

    @property
    def facts(self) -> dict:
        """What its JSON says; {} for anything else."""
        try:
            facts = json.loads(self.body)
        except (ValueError, RecursionError):
            return {}
        return facts if isinstance(facts, dict) else {}


@dataclass(frozen=True)
class Site:
    """`address`: the server's host and port. With TLS its certificate must be that of `name`."""

    name: str
    address: tuple[str, int]
    is_tls: bool = False

    def get(self, target: str, **headers: str) -> Answer:
        """What a GET is answered; the target is sent as it is. Raises SiteError."""
        sent = {"Host": self.name, "Connection": "close", "User-Agent": "lightning-space"}
        connection = http_connection(*self.address, self.name if self.is_tls else None)
        try:
            with time_limit(ANSWER_SECONDS) as limit:
                raw = {"preload_content": False, "decode_content": False}
                connection.request("GET", target, headers=sent | headers, **raw)
                answer = connection.getresponse()
                challenge = ", ".join(answer.headers.getlist("WWW-Authenticate"))
                body = answer.read(READ_MAX)
                if limit.is_over:  # then it only looks whole
                    raise TimeoutError
                return Answer(answer.status, challenge, body)
        except (OSError, HTTPException, HTTPError, ValueError) as error:
            raise SiteError(f"the site does not answer ({type(error).__name__})") from None
        finally:
            connection.close()
