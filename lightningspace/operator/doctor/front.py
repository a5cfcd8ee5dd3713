"""The shop as its visitors reach it: the web server in front, and what it must not do."""

import json
import re
import secrets
from collections.abc import Iterator
from urllib.parse import urlsplit

from lightningspace.base.clock import DAY
from lightningspace.operator import introduction
from lightningspace.operator.doctor import listening, logs
from lightningspace.operator.doctor.dates import ends_soon
from lightningspace.operator.doctor.patient import NotSeen, Patient
from lightningspace.outside.raw_http import BadCertificate, NoAnswer, Site

# What a visitor might claim as its address; nobody has it (RFC 5737).
FORGED = "192.0.2.77"
# The texts in the web program's answer, beside the number `hops`.
TOLD = ("program", "url", "forwarded")
STYLE = re.compile(r'href="(/static/[^"]+\.css)"')
MAX_AGE = re.compile(r"max-age=([0-9]{1,10})")
REDIRECTS = (301, 302, 307, 308)
IN_FRONT = "“The web server in front” in docs/operating.md"


def answers(patient: Patient) -> Iterator[str]:
    url = patient.config.public_url
    try:
        answer = patient.site.ask("GET", "/healthz")
    except BadCertificate as error:
        yield f"{url} {error}: `certbot renew` says why it was not renewed, then reload nginx"
        return
    except NoAnswer as error:
        yield (
            f"{url} {error}: `systemctl status nginx lightning-space-web`. Where a router does not "
            "lead this machine back to itself, write the host into /etc/hosts"
        )
        return
    if (answer.status, answer.body) != (200, b"ok\n"):
        yield (
            f"{url}/healthz answers {answer.status}, and not as the shop does: `systemctl status "
            f"lightning-space-web`, and see {IN_FRONT}"
        )


def program(patient: Patient) -> Iterator[str]:
    told = _introduced(patient)
    if told is None:
        yield (
            "the program that answers at PUBLIC_URL does not know our SECRET_KEY, or is older: "
            "`systemctl restart lightning-space-web`"
        )
    elif told["program"] != introduction.PROGRAM:
        yield (
            f"the web program is {told['program']}, and what is here now is "
            f"{introduction.PROGRAM}: `systemctl restart lightning-space-web`"
        )


def _introduced(patient: Patient) -> dict | None:
    """How our request reached the web program; None: it did not tell."""
    headers = {
        "Authorization": introduction.header(patient.shop.vault),
        "X-Forwarded-For": FORGED,
    }
    answer = patient.site.ask("GET", f"/healthz?doctor={patient.mark}", headers)
    try:
        told = json.loads(answer.body)
        is_whole = isinstance(told["hops"], int)
        is_whole &= all(isinstance(told[each], str) for each in TOLD)
        return told if is_whole else None
    except (ValueError, TypeError, KeyError):
        return None


def proxies(patient: Patient) -> Iterator[str]:
    told = _introduced(patient)
    if told is None:
        raise NotSeen("the web program did not tell")
    noted = [each.strip() for each in told["forwarded"].split(",") if each.strip()]
    seen = len(noted) - noted.index(FORGED) - 1 if FORGED in noted else len(noted)
    if seen < told["hops"]:
        yield (
            f"visitors may claim any address: {seen} web servers in front add to X-Forwarded-For, "
            f"and PROXY_HOPS is {told['hops']}: let each do so (`proxy_set_header X-Forwarded-For "
            f"$proxy_add_x_forwarded_for`), or write PROXY_HOPS={seen}"
        )
    elif seen > told["hops"]:
        yield (
            f"all visitors share the limits of one: {seen} web servers in front add to "
            f"X-Forwarded-For, and PROXY_HOPS is {told['hops']}: write PROXY_HOPS={seen}"
        )
    if told["url"] != f"{patient.config.public_url}/":
        yield (
            f"the shop is asked at {told['url']}, and PUBLIC_URL is {patient.config.public_url}: "
            f"let the web server in front send Host and X-Forwarded-Proto, see {IN_FRONT}"
        )


def certificate(patient: Patient) -> Iterator[str]:
    url = urlsplit(patient.config.public_url)
    if url.scheme != "https":
        return
    yield from ends_soon(
        f"the shop's certificate, {url.hostname},",
        "`certbot renew` says why it was not",
        url.hostname,
        url.port or 443,
    )


def files(patient: Patient) -> Iterator[str]:
    found = STYLE.search(patient.site.ask("GET", "/").body.decode(errors="replace"))
    if found is None:
        raise NotSeen(f"{patient.config.public_url}/ names no style sheet: see it in a browser")
    answer = patient.site.ask("GET", found[1])
    kept = MAX_AGE.search(answer.get("Cache-Control"))
    if answer.status != 200 or not kept or int(kept[1]) < 365 * DAY:
        yield (
            f"{found[1]} is answered {answer.status} with the Cache-Control “"
            f"{answer.get('Cache-Control')}”, and should be kept for a year: take `expires` and "
            "`add_header Cache-Control` out of nginx's configuration of the shop"
        )


def pages(patient: Patient) -> Iterator[str]:
    """Whether one is compressed that holds secrets: its length would betray them."""
    path = f"/account/{secrets.token_hex(8)}"
    answer = patient.site.ask("GET", path, {"Accept-Encoding": "gzip, br, zstd"})
    if answer.get("Content-Encoding"):
        yield (
            "the web server in front compresses pages that have passwords in them: `gzip off;` in "
            "nginx's configuration of the shop, and `systemctl reload nginx`"
        )


def redirect(patient: Patient) -> Iterator[str]:
    url = urlsplit(patient.config.public_url)
    if url.scheme != "https" or url.port:
        return
    advice = "let port 80 of the web server in front `return 301 https://$host$request_uri;`"
    try:
        answer = Site(f"http://{url.hostname}:{patient.http_port}").ask("GET", "/")
    except NoAnswer as error:
        yield f"http://{url.hostname} {error}: {advice}"
        return
    to = answer.get("Location")
    if answer.status not in REDIRECTS or not f"{to}/".startswith(f"{patient.config.public_url}/"):
        yield f"http://{url.hostname} answers {answer.status} and does not lead to https: {advice}"


def figures(patient: Patient) -> Iterator[str]:
    if patient.is_for_this_machine:
        return
    if patient.site.ask("GET", "/metrics").status == 200:
        yield (
            "everybody may read /metrics: set METRICS_TOKEN, see “Monitoring” in docs/operating.md"
        )
    if patient.site.ask("GET", "/operator").status == 200:
        yield (
            "everybody may read /operator, without a login: `systemctl stop nginx` until you know "
            "why; does it cache pages that say no-store?"
        )


def log(patient: Patient) -> Iterator[str]:
    if patient.is_for_this_machine:
        return
    credential = introduction.header(patient.shop.vault)
    patient.site.ask("GET", f"/healthz?doctor={patient.mark}", {"Authorization": credential})
    yield from logs.look(patient, (patient.mark, credential.partition(":")[2]))


CHECKS = {
    "web": answers,
    "web program": program,
    "web proxies": proxies,
    "web certificate": certificate,
    "web files": files,
    "web pages": pages,
    "web redirect": redirect,
    "web figures": figures,
    "web log": log,
    "web port": listening.ports,
}
