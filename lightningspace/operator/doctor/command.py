"""`flask doctor`, which runs also where the shop does not start."""

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path

import click
from flask import Flask, current_app
from flask.cli import with_appcontext

from lightningspace.base.config import Config
from lightningspace.operator.doctor import OK, UNKNOWN, WRONG, Finding, examine
from lightningspace.operator.doctor.patient import Patient

HOSTING_SERVER = Path(__file__).parents[3] / "deploy" / "hosting-server"
# The shop has no login there: whoever breaks into it has not broken into the customers' server.
OF_SERVER = f"""\
A hosting server has a doctor of its own. From a machine that may log in there as root:

    scp -r {HOSTING_SERVER} root@<server>:
    ssh root@<server> hosting-server/doctor

It prints a line for each check, as this one does. `--fix` writes what is missing."""


@click.command("doctor")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, a line for each finding.")
@click.option(
    "--write", "writes", is_flag=True, help="Make a client of our own at the panel, and remove it."
)
@click.option("--server", "of_server", is_flag=True, help="Say how to look at a hosting server.")
@with_appcontext
def doctor(as_json, writes, of_server):
    """Look at all that the shop stands on, and print what is wrong and what to type.

    Exit code 1 when something is wrong, 2 when something could not be looked at.
    """
    if of_server:
        click.echo(OF_SERVER)
        return
    patient = current_app.extensions["doctor"]
    patient.writes = writes
    results = set()
    for finding in examine(patient):
        results.add(finding.result)
        click.echo(json.dumps(asdict(finding)) if as_json else _told(finding))
    if WRONG in results:
        raise SystemExit(1)
    if UNKNOWN in results:
        raise SystemExit(2)


def _told(finding: Finding) -> str:
    line = f"{finding.result:8} {finding.check}"
    return line if finding.result == OK else f"{line}: {finding.text}"


def app(env: Mapping[str, str], instance: Path, make_app: Callable[[Config], Flask]) -> Flask:
    """An app with this command alone, which builds the shop itself and says why it cannot."""
    os.environ.setdefault("PGCONNECT_TIMEOUT", "10")  # libpq waits for ever by itself
    bare = Flask("lightningspace")
    bare.extensions["doctor"] = Patient(env, instance, make_app)
    bare.cli.add_command(doctor)
    return bare
