"""Clocks that have to agree, and certificates that end."""

from collections.abc import Callable, Iterator
from email.utils import parsedate_to_datetime
from socket import socket

import requests

from lightningspace.base.clock import CLOCKS_DIFFER_SECONDS, DAY, clock_time, now
from lightningspace.operator.doctor.patient import NotSeen
from lightningspace.outside.certificates import NoCertificate, valid_until
from lightningspace.outside.deadline import http_session, time_limit

WARNED_DAYS = 14
SECONDS = 10


def wrong_time(whose: str, moment: int) -> Iterator[str]:
    """What is wrong with a clock that says `moment`. `whose`: such as "the node's"."""
    if abs(moment - now()) > CLOCKS_DIFFER_SECONDS:
        yield (
            f"{whose} clock says {clock_time(moment)}, and ours {clock_time(now())}: "
            "`timedatectl set-ntp true` on both machines"
        )


def of_answer(url: str, verify_tls: bool | str) -> int | None:
    """What time it is by a web server; None: it does not say. Raises NotSeen."""
    with http_session(verify_tls) as session, time_limit(SECONDS):
        try:
            asked = {"timeout": SECONDS, "allow_redirects": False, "stream": True}
            with session.get(url, **asked) as answer:
                date = answer.headers.get("Date")
            return int(parsedate_to_datetime(date).timestamp()) if date else None
        except (requests.RequestException, ValueError) as error:
            raise NotSeen(f"{url} does not say what time it is: {type(error).__name__}") from error


def ends_soon(
    whose: str,
    advice: str,
    host: str,
    port: int,
    verify_tls: bool | str = True,
    begin: Callable[[socket], None] | None = None,
) -> Iterator[str]:
    """What is wrong with a certificate. `whose` names it, `advice` says what renews it; the others
    are those of `valid_until`.
    """
    try:
        until = valid_until(host, port, verify_tls, begin)
    except NoCertificate as error:
        yield f"{host}{error}"
        return
    if until is not None and until < now() + WARNED_DAYS * DAY:
        yield f"{whose} ends at {clock_time(until)}, and was not renewed: {advice}"
