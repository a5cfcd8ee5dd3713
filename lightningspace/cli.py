"""The operator's commands: `flask --app wsgi …`."""

import json
import logging
import signal
import threading
from dataclasses import asdict

import click
from flask import Flask, current_app
from flask.cli import with_appcontext
from gunicorn import systemd

from lightningspace import attack
from lightningspace.base import copying, messages, models, schema
from lightningspace.base.clock import clock_time
from lightningspace.base.models import Account
from lightningspace.gate.commands import gate
from lightningspace.operator import search
from lightningspace.operator.backup import backup
from lightningspace.operator.doctor.command import doctor
from lightningspace.operator.entry import operator_login, operator_password
from lightningspace.operator.keys import rotate_key
from lightningspace.operator.money import payments
from lightningspace.operator.moving import move
from lightningspace.operator.problems import found as found_problems
from lightningspace.operator.refunds import list_refunds, refund
from lightningspace.operator.restore import restore
from lightningspace.operator.restore_check import restore_check
from lightningspace.operator.vouchers import vouchers
from lightningspace.panel import reconcile
from lightningspace.rules import (
    abuse,
    accounts,
    calendar,
    progress,
    restored,
    services,
    wanted,
)
from lightningspace.worker import Worker

logger = logging.getLogger(__name__)


# The options of `flask` itself that take a value.
FLASK_OPTIONS = ("-A", "--app", "-e", "--env-file")


def command(arguments: list[str]) -> str | None:
    """The command that the arguments of `flask` name; None: they name none."""
    rest = iter(arguments)
    for argument in rest:
        if argument in FLASK_OPTIONS:
            next(rest, None)
        elif not argument.startswith("-"):
            return argument
    return None


@click.command("init-db")
@with_appcontext
def init_db():
    """Create the tables. Does nothing if they exist."""
    click.echo("database created" if models.init_db() else "database was there already")


@click.command("upgrade")
@with_appcontext
def upgrade():
    """Bring the database to the schema of this version. Stop web and worker first.

    A copy of an SQLite database is made beside it first. Does nothing when there is nothing to do;
    when it fails, the database is as it was.
    """
    try:
        applied, copy = schema.upgrade(models.db.obj)
    except (schema.WrongSchema, schema.UpgradeFailed) as error:
        raise click.ClickException(str(error)) from error
    if copy:
        click.echo(f"the database as it was: {copy}")
    for name in applied:
        click.echo(f"applied {name}")
    click.echo("the database is up to date")


@click.command("copy-database")
@click.argument("url")
@with_appcontext
def copy_database(url):
    """Copy the shop's database into the empty PostgreSQL database of URL, and count the rows.

    Stop web and worker first. The shop's own database stays as it is.
    """
    try:
        copied = copying.copy_database(url)
    except copying.CopyError as error:
        raise click.ClickException(str(error)) from error
    for name, rows in copied.items():
        click.echo(f"{name}: {rows}")


@click.command("worker")
@with_appcontext
def worker():
    """Follow payments and make the panel match, until SIGTERM or Ctrl-C."""
    shop = current_app.extensions["shop"]
    runner = Worker(shop)
    # In a thread of its own: signal handlers run in the main thread, where one would wait for ever
    # for a lock of the worker's events that the interrupted code holds.
    working = threading.Thread(target=runner.run, name="worker")
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: runner.stop())
    logger.info("worker started")
    working.start()
    systemd.sd_notify("READY=1", logger)
    # With a timeout: a signal that comes while all threads start may be seen only when this one
    # runs again.
    while working.is_alive():
        working.join(timeout=1)
    logger.info("worker stopped")


@click.command("problems")
@with_appcontext
def problems():
    """Print what needs you: payments without an order, what fails, what waits for your approval."""
    for problem in found_problems(current_app.extensions["shop"]):
        click.echo(problem.text)


@click.command("walls")
@click.option("--server", "server_id", type=int, help="Which one; by default the first.")
@click.option("--address", help="Where it is reached from here, if not by its customers' names.")
@click.option("--race-requests", default=attack.RACE_REQUESTS, help="How many the race sends.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, a line for each attack.")
@with_appcontext
def walls(server_id, address, race_requests, as_json):
    """Attack your own server as one customer would attack another, and print what holds.

    Two hostings of the shop's own are made for this and removed again, which takes some minutes.
    Exit code 1 when something is open, 2 when something could not be tried.
    """
    _check_may_act()
    shop = current_app.extensions["shop"]
    server_id = server_id or next(iter(shop.config.capacity_mb))
    if server_id not in shop.config.capacity_mb:
        raise click.ClickException(f"server {server_id} is not among PANEL_SERVER_ID")
    found = set()
    try:
        for result in attack.check(shop, server_id, address, race_requests):
            found.add(result.result)
            click.echo(json.dumps(asdict(result)) if as_json else _told(result))
    except attack.CannotCheck as error:
        click.echo(f"not checked: {error}", err=True)
        raise SystemExit(2) from None
    if attack.OPEN in found:
        raise SystemExit(1)
    if attack.NOT_TRIED in found:
        raise SystemExit(2)


def _told(result: attack.Result) -> str:
    line = f"{result.result:9} {result.attack}: {result.what}"
    proof = f"\n          {result.proof}" if result.proof else ""
    word = "What closes it" if result.result == attack.OPEN else "See"
    advice = f"\n          {word}: {result.advice}" if result.advice else ""
    return line + proof + advice


@click.command("calendar")
@click.option("--yes", is_flag=True, help="The dates are right: hold back no closings this time.")
@with_appcontext
def run_calendar(yes):
    """Run one pass of the calendar, as the worker does each minute, and print what it did."""
    shop = current_app.extensions["shop"]
    _check_may_act()
    passed = calendar.run_pass(shop, yes)
    click.echo(str(passed))
    if passed.last_calls:
        click.echo(
            f"what is about to be closed is not sold any more, and closed in "
            f"{shop.config.invoice_minutes} minutes (by the worker, or by this command)"
        )
    for line in calendar.problems(shop):
        click.echo(line)


@click.command("account")
@click.argument("username")
@with_appcontext
def account(username):
    """Print what an account wants and what the panel has of it, one line per service."""
    _print_account(search.named(username))


@click.command("retry")
@click.argument("username")
@click.option("--check", is_flag=True, help="Look at every service, and put right what differs.")
@with_appcontext
def retry(username, check):
    """Try again now what could not be applied; exit code 1 if something still is not."""
    _check_may_act()
    found = search.named(username)
    (accounts.check if check else reconcile.try_now)(found.id)
    if not reconcile.account(current_app.extensions["shop"], found.id):
        raise click.ClickException("a worker is at this account just now: look again in a moment")
    found = Account.get_or_none(Account.id == found.id)
    if found is None:
        click.echo(f"{username} is closed")
    elif not _print_account(found):
        raise SystemExit(1)


@click.command("block")
@click.argument("username")
@click.argument("reason")
@click.option(
    "--for", "category", type=click.Choice([each.value for each in abuse.Category]), default="other"
)
@click.option(
    "--evidence",
    type=click.File(errors="replace"),  # mails are in any encoding
    help="A text for you alone; - is standard input.",
)
@with_appcontext
def block(username, reason, category, evidence):
    """Switch an account off, whatever is paid. Its customer reads the category and the REASON."""
    reason = messages.on_one_line(reason)
    if not reason:
        raise click.ClickException("write a reason: the customer reads it")
    note = evidence.read(abuse.NOTE_MAX) if evidence else ""
    _change(abuse.block, username, abuse.Category(category), reason, note)
    click.echo(f"{username} is blocked; the worker switches everything off")


@click.command("evidence")
@click.argument("username")
@with_appcontext
def evidence(username):
    """Print what was noted when hostings of this name were blocked."""
    for found in abuse.evidence(username):
        click.echo(f"{clock_time(found.noted_at)}, {found.category}:")
        click.echo(found.note)


@click.command("unblock")
@click.argument("username")
@with_appcontext
def unblock(username):
    """Lift a block."""
    _change(accounts.unblock, username)
    click.echo(f"{username} is not blocked; the worker switches on what is paid for")


def _change(change, username: str, *arguments) -> None:
    try:
        change(search.named(username).id, *arguments)
    except wanted.AccountClosed:
        raise click.ClickException(f"{username} is being closed") from None


def _check_may_act() -> None:
    if restored.since() is not None:
        raise click.ClickException(
            "the database is a restored copy: run `flask --app wsgi restore-check` first"
        )


def _print_account(found: Account) -> bool:
    """Print an account and its services; whether everything is applied."""
    rows = services.of_account(found.id)
    known = progress.Progress(found, rows)
    click.echo(
        f"{found.username}: account {found.id}, {found.space_mb} MB on server {found.server_id}, "
        f"paid until {clock_time(found.expires_at)}"
    )
    for what, moment in (
        ("suspended", found.suspended_at),
        ("blocked", found.blocked_at),
        ("closing", found.closing_at),
    ):
        if moment:
            reason = f": {found.blocked_reason}" if what == "blocked" else ""
            click.echo(f"{what} since {clock_time(moment)}{reason}")
    for row in rows:
        id = f"id {row.panel_id}" if row.panel_id else "no id"
        click.echo(
            f"  {row.kind:13} {row.name:30} {id:9} {known.state(row):8} "
            f"revision {row.applied_revision} of {row.revision}"
        )
        if row.error:
            tried = "no retry cures it, " if row.permanent else ""
            click.echo(f"    {row.error} ({tried}last tried {clock_time(row.tried_at)})")
        if row.note:
            click.echo(f"    {row.note}")
    return all(row.is_applied for row in rows)


def register(app: Flask) -> None:
    commands = (
        *(init_db, upgrade, copy_database, worker, run_calendar, problems),
        *(account, retry, block, evidence, unblock, walls, gate, vouchers, move),
        *(backup, restore, restore_check, rotate_key),
        *(list_refunds, refund),
        *(operator_password, operator_login, payments, doctor),
    )
    for command in commands:
        app.cli.add_command(command)
