"""The operator's commands for the gate: `flask gate …`."""

from pathlib import Path

import click
from flask import current_app
from flask.cli import AppGroup

from lightningspace.base.clock import span
from lightningspace.gate import nginx
from lightningspace.gate.services import Gate

gate = AppGroup("gate", help="What is behind the gate of gate.toml.")


def this_gate() -> Gate:
    """Raises ClickException where there is none."""
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


@gate.command("services")
def services():
    """Print each service, where it is and what it costs."""
    for service in this_gate().services:
        target = getattr(service, service.kind)
        click.echo(f"{service.name}: {service.location} is {service.kind} {target}")
        sold = f"{service.price_sat} sat for {span(service.seconds)}"
        if service.bundle:
            sold = f"{service.price_sat} sat prepaid, to be used within {span(service.seconds)}"
        click.echo(f"  {sold}{', dry run' if service.dry_run else ''}")
