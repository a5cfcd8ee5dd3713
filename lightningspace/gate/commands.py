"""The operator's commands for the gate: `flask gate …`."""

import json
import re
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict
from datetime import UTC
from pathlib import Path

import click
from flask import current_app
from flask.cli import AppGroup

from lightningspace.base.clock import DAY, clock_time, iso_time, now, span
from lightningspace.base.gate_models import GateDisk
from lightningspace.gate import balances, counts, nginx, probe, revocations
from lightningspace.gate.services import Gate, Service
from lightningspace.outside import l402
from lightningspace.outside.node import NodeError
from lightningspace.rules import gate_income
from lightningspace.shop import Shop, this_shop
from lightningspace.visitors import authorization

gate = AppGroup("gate", help="What is behind the gate of gate.toml, and who uses it.")

# The columns of `stats`, and the outcomes that each sums up.
COLUMNS = {
    "passed": ("passed",),
    "free": ("free",),
    "freebie": ("freebie",),
    "402": ("payment_required", "page"),
    "401": ("unauthorized",),
    "403": ("not_sold", "not_capable"),
    "429": ("too_many_requests",),
    "paid": (gate_income.PAID,),
}
TRANSACTION_DAYS = 30
TOKEN_ID = re.compile("[0-9a-fA-F]{64}")


def this_gate() -> Gate:
    """Raises ClickException if there is none."""
    found = current_app.extensions.get("gate")
    if found is None:
        raise click.ClickException("there is no gate: set GATE_CONFIG to the path of a gate.toml")
    return found


@gate.command("nginx")
@click.argument("directory", type=click.Path(exists=True, file_okay=False, path_type=Path))
def write_nginx(directory):
    """Write what nginx includes into DIRECTORY, and say where to include it."""
    try:
        for_http, for_server = nginx.write(this_gate(), directory)
    except OSError as error:
        raise click.ClickException(f"{directory} cannot be written: {error.strerror}") from None
    click.echo(f"within http {{ }}:    include {for_http.absolute()};")
    click.echo(f"within server {{ }}:  include {for_server.absolute()};")
    click.echo("then test and load it: nginx -t && nginx -s reload")
    click.echo("and see whether it holds: flask gate check https://your.host")


# -- check -----------------------------------------------------------------------------


@gate.command("check")
@click.argument("url")
@click.option("--echo", help="A path of an upstream that answers with the headers that it got.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, a line for each test.")
def check(url, echo, as_json):
    """Try the gate that nginx has at URL, such as https://example.org, and print what is wrong.

    It asks as a stranger, with a forged credential and with a good one, and in all the ways that
    might get past the gate. With --echo it also looks at what an upstream gets to see. It makes an
    invoice for each service and one more, which nobody need pay. Exit code 1 when something is
    wrong, 2 when something could not be tried.
    """
    found = set()
    try:
        for result in probe.check(this_shop(), this_gate(), url, echo):
            found.add(result.result)
            click.echo(json.dumps(asdict(result)) if as_json else _told(result))
    except probe.CannotCheck as error:
        click.echo(f"not checked: {error}", err=True)
        raise SystemExit(2) from None
    if probe.WRONG in found:
        raise SystemExit(1)
    if probe.NOT_TRIED in found:
        raise SystemExit(2)


def _told(result: probe.Result) -> str:
    about = f"{result.service}: {result.what}" if result.service else result.what
    lines = [f"{result.result:9} {about}", result.found]
    lines.append(f"What mends it: {result.advice}" if result.advice else "")
    return "\n          ".join(filter(None, lines))


# -- services --------------------------------------------------------------------------


@gate.command("services")
def services():
    """Print each service: where it is, what it costs, and the rest of what gate.toml says of it."""
    for service in this_gate().services:
        target = getattr(service, service.kind)
        click.echo(f"{service.name}: {service.location} is {service.kind} {target}")
        for line in _terms(service):
            click.echo(f"  {line}")


def _terms(service: Service) -> Iterator[str]:
    bundle = service.bundle
    if service.title != service.name:
        yield f"called “{service.title}”"
    if bundle:
        yield f"{service.price_sat:,} sat prepaid, to be used within {span(service.seconds)}"
        yield _cost(service)
    else:
        yield f"{service.price_sat:,} sat for {span(service.seconds)}"
    if service.kind == "disk":
        yield f"{service.quota_mb} MB each, kept for {span(service.grace_seconds)} after its end"
    if service.propfind:
        yield "WebDAV clients see what is there (PROPFIND)"
    if service.free:
        yield f"free: {' '.join(service.free)}"
    if service.freebie:
        yield f"free for each network: {service.freebie} requests a day"
    if service.no_invoice:
        yield f"no invoice at: {' '.join(service.no_invoice)}"
    for name, methods in service.capabilities:
        yield f"capability {name}: {' '.join(methods)}"
    for limit in service.limits:
        burst = f", {limit.burst} at once" if limit.burst != limit.requests else ""
        yield f"limit: {limit.requests} requests in {limit.seconds} s{burst}"
    if service.body:
        yield f"its requests should send: {service.body}"
    if service.upstream:
        yield f"it is sent up to {service.body_mb:,} MB at once"
    if service.rate_kb:
        yield f"slowed down to {service.rate_kb} kB a second"
    if service.blocklist:
        yield f"blocked: {' '.join(service.blocklist)}"
    if service.headers:  # their values may be secrets
        yield f"sent to it: {' '.join(name for name, _ in service.headers)}"
    if service.shows_addresses:
        yield "it sees the addresses of its visitors"
    if service.cors:
        yield "pages of other sites may call it"
    if service.is_open_when_down:
        yield "OPEN while the shop does not answer"
    if service.dry_run:
        yield "DRY RUN: everybody passes, and nothing is sold"


def _cost(service: Service) -> str:
    bundle = service.bundle
    for per, unit in (("request", "request"), ("mb", "MB"), ("second", "second")):
        if msat := getattr(bundle, f"per_{per}_msat"):
            return f"{msat:,} msat a {unit}, {bundle.reserve_msat:,} msat reserved for each request"
    if bundle.price_url:
        low, high = bundle.price_msat
        return f"{low:,} to {high:,} msat a request, as {bundle.price_url} says"
    return (
        f"what the header {bundle.cost_header} says, "
        f"{bundle.reserve_msat:,} msat reserved for each request"
    )


# -- tokens ----------------------------------------------------------------------------


@gate.command("tokens")
def tokens():
    """Print what is kept by token id: balances, disks, and what is revoked.

    Who holds a pass is not known: passes leave no trace.
    """
    this_gate()
    for token_id, service, msat, until in balances.listed():
        click.echo(f"{token_id} {service}: {_sat(msat)} sat left, until {clock_time(until)}")
    for disk in GateDisk.select().order_by(GateDisk.token_id, GateDisk.service).iterator():
        click.echo(f"{disk.token_id} {disk.service}: a disk, paid until {clock_time(disk.until)}")
    for token_id, revoked_at in revocations.listed():
        click.echo(f"{token_id} revoked since {clock_time(revoked_at)}")
    click.echo("Passes leave no trace, and are not listed.", err=True)


@gate.command("revoke")
@click.argument("token")
def revoke(token):
    """Revoke all credentials of a token id, within a second.

    TOKEN is the id as `tokens` prints it and upstreams see it, or a credential or macaroon that has
    it. Write - to have it read from the input: other programs can see what is typed here.
    """
    this_gate()
    token_id = _token_id(this_shop(), sys.stdin.read() if token == "-" else token)
    if not revocations.revoke(token_id):
        raise click.ClickException(f"{token_id} was revoked before")
    click.echo(f"{token_id} is revoked")


def _token_id(shop: Shop, text: str) -> str:
    """The id in what was typed. Raises ClickException."""
    try:
        if TOKEN_ID.fullmatch(text.strip()):
            token_id = bytes.fromhex(text.strip())
            shop.keys.secret(token_id)  # raises Void for one that is not ours
            return token_id.hex()
        macaroon = authorization.pasted_macaroon(text)
        shop.keys.check_minted(macaroon)
    except l402.Invalid as error:
        raise click.ClickException(f"this is no token of this shop: {error}") from None
    return macaroon.token_id.hex()


# -- what happened ---------------------------------------------------------------------


@gate.command("stats")
@click.option("--days", default=7, type=click.IntRange(1, counts.KEPT_DAYS), show_default=True)
def stats(days):
    """Print what the check has answered, and what was paid, by day (UTC) and service.

    The columns with a number are refusals by status; `paid` counts invoices.
    """
    this_gate()
    found = counts.by_day(now() // DAY - days + 1)
    rows = [("day", "service", *COLUMNS, "sat", "")]
    for (number, service), outcomes in found.items():
        rows.append((iso_time(number * DAY)[:10], service, *_cells(outcomes)))
    if found:
        everything = sum(found.values(), start=Counter())
        rows.append(("all", "", *_cells(everything)))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = [
            cell.ljust(width) if at < 2 or at == len(row) - 1 else cell.rjust(width)
            for at, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        click.echo("  ".join(cells).rstrip())


def _cells(outcomes: dict[str, int]) -> list[str]:
    cells = [f"{sum(outcomes[name] for name in names):,}" for names in COLUMNS.values()]
    known = {gate_income.PAID_MSAT, *(name for names in COLUMNS.values() for name in names)}
    others = [f"{name} {times:,}" for name, times in sorted(outcomes.items()) if name not in known]
    return [*cells, _sat(outcomes[gate_income.PAID_MSAT]), ", ".join(others)]


@gate.command("transactions")
@click.option("--since", type=click.DateTime(["%Y-%m-%d"]), help="A day; else 30 days ago.")
def transactions(since):
    """Print the gate's paid invoices, as the node has them: when, for what, and how much."""
    this_gate()
    shop = this_shop().for_worker()
    start = int(since.replace(tzinfo=UTC).timestamp()) if since else now() - TRANSACTION_DAYS * DAY
    number, msat = 0, 0
    try:
        for payment in shop.node.payments(start):
            service = gate_income.service_of(shop, payment.label)
            if service is None:
                continue
            number, msat = number + 1, msat + payment.received_msat
            click.echo(
                f"{clock_time(payment.paid_at)}  {service:20} {_sat(payment.received_msat):>12} sat"
                f"  {payment.payment_hash[:8]}"
            )
    except NodeError as error:
        raise click.ClickException(str(error)) from None
    click.echo(f"payments since {clock_time(start)}: {number}, {_sat(msat)} sat", err=True)


def _sat(msat: int) -> str:
    """Whole sat, or with its thousandths."""
    return f"{msat // 1000:,}" + (f".{msat % 1000:03}" if msat % 1000 else "")
