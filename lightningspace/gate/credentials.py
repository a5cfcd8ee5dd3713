"""What a request shows: its credential for a service, or what came instead of one."""

import re
from collections.abc import Container, Mapping
from dataclasses import dataclass

from lightningspace.outside import l402
from lightningspace.outside.l402 import Keys, Macaroon, Rights
from lightningspace.visitors import authorization
from lightningspace.visitors.authorization import Credential

COOKIE = "gate-"
# The cookie of an invoice that is not paid yet.
UNPAID = ".unpaid"
# Servers join several lines with commas; our cookies contain none.
BETWEEN = re.compile("[;,]")
OURS = re.compile(rf"(?:^|(?<=[;,]))\s*{COOKIE}[^;,]*(?:[;,]|$)")


@dataclass(frozen=True)
class Shown:
    """`macaroon`: the one that counts, or, if none does, one of ours that may be bought again.

    `rights` None: it gives none here. `forged`: why there is no good one, if one was made up: then
    no invoice is made.
    """

    macaroon: Macaroon | None = None
    rights: Rights | None = None
    forged: l402.Invalid | None = None

    @property
    def token_id(self) -> str:
        return self.macaroon.token_id.hex() if self.macaroon else ""


NOTHING = Shown()


def look(
    keys: Keys, service: str, credentials: list[Credential], revoked: Container[bytes], moment: int
) -> Shown:
    """What the credentials, the last first, give at a service at this moment."""
    void, forged = None, None
    for credential in credentials:
        macaroon = credential.macaroon
        try:
            keys.check(macaroon, credential.preimage)
        except l402.Void:  # its key is gone: nobody can say whether it was ours, so it is skipped
            continue
        except l402.Invalid as error:
            forged = forged or error
            continue
        if macaroon.token_id in revoked:
            continue
        try:
            return Shown(macaroon, l402.rights(macaroon, service, moment))
        except l402.Void:
            void = void or macaroon
        except l402.Invalid as error:
            forged = forged or error
    return Shown(None, None, forged) if forged else Shown(void)


def authentic(
    keys: Keys, credentials: list[Credential], revoked: Container[bytes]
) -> Macaroon | None:
    """The last macaroon that is ours and paid, whatever it is good for; None: there is none.

    Raises l402.Invalid if one was made up.
    """
    for credential in credentials:
        keys.check(credential.macaroon, credential.preimage)
        if credential.macaroon.token_id not in revoked:
            l402.services(credential.macaroon)  # which its holder may have spoilt
            return credential.macaroon
    return None


def of(environ: Mapping[str, str], service: str) -> list[Credential]:
    """The credentials in a request's headers, or else the one in the service's cookie.

    Raises l402.Invalid for headers that cannot be read. An unreadable cookie counts as none: its
    owner could do nothing about it.
    """
    credentials = in_headers(environ)
    if credentials:
        return credentials
    try:
        return [authorization.pasted(cookie(environ, service))]
    except l402.Invalid:
        return []


def in_headers(environ: Mapping[str, str]) -> list[Credential]:
    """Raises l402.Invalid for headers that cannot be read."""
    return authorization.credentials(environ)


def cookie(environ: Mapping[str, str], service: str, which: str = "") -> str:
    """The value of a service's cookie; "" if there is none."""
    for written in BETWEEN.split(environ.get("HTTP_COOKIE", "")):
        name, _, value = written.strip().partition("=")
        if name == f"{COOKIE}{service}{which}":
            return value
    return ""


def cookies_of_others(written: str) -> str:
    """A Cookie header without our cookies."""
    return OURS.sub("", written).strip(" ;,")
