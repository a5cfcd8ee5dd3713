"""The operator's commands: `flask --app wsgi …`."""

import logging
import signal
import threading

import click
from flask import Flask, current_app
from flask.cli import with_appcontext

from lightningspace import hosting, models
from lightningspace.models import Order
from lightningspace.worker import Worker, warn_of_autoclean

logger = logging.getLogger(__name__)


@click.command("init-db")
@with_appcontext
def init_db():
    """Create the tables. Does nothing when they are there."""
    click.echo("database created" if models.init_db() else "database was there already")


@click.command("worker")
@with_appcontext
def worker():
    """Follow payments and make the panel match, until SIGTERM or Ctrl-C."""
    shop = current_app.extensions["shop"]
    runner = Worker(shop)
    # In a thread of its own: a signal handler runs in the main one, and would wait for ever for
    # a lock of the worker's events that the interrupted code holds.
    working = threading.Thread(target=runner.run, name="worker")
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: runner.stop())
    warn_of_autoclean(shop)
    logger.info("worker started")
    working.start()
    working.join()
    logger.info("worker stopped")


@click.command("problems")
@with_appcontext
def problems():
    """Print what needs the operator: payments without an order, services that fail."""
    for order in Order.select().where(Order.kind == "lost").order_by(Order.paid_at):
        click.echo(
            f"payment {order.payment_hash}: {order.received_msat} msat, and no order waits for it "
            f"(order {order.token[:8]})"
        )
    for row in hosting.problems():
        again = "no retry cures it" if row.permanent else f"tried {row.tries} times"
        click.echo(f"account {row.account_id}: {row.kind} {row.name}: {row.error} ({again})")


def register(app: Flask) -> None:
    for command in (init_db, worker, problems):
        app.cli.add_command(command)
