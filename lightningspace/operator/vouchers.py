"""`flask vouchers`: codes that pay an order, for promotion and goodwill."""

import click
from flask.cli import AppGroup

from lightningspace.base.clock import clock_time
from lightningspace.base.models import transaction
from lightningspace.rules import vouchers as rules
from lightningspace.shop import this_shop

vouchers = AppGroup("vouchers", help="Codes that pay an order instead of Lightning, each once.")


@vouchers.command("make")
@click.argument("count", type=click.IntRange(1, 10_000))
@click.option("--mb", type=int, required=True, help="The largest size that they are good for.")
@click.option("--days", type=click.IntRange(1, 730), required=True, help="The longest time.")
def make(count, mb, days):
    """Make COUNT vouchers and print their codes, which are never shown again."""
    sizes = this_shop().config.space_sizes_mb
    if mb not in sizes:
        raise click.ClickException(f"--mb is no size that is sold: {', '.join(map(str, sizes))}")
    with transaction():
        codes = [rules.make(mb, days) for _ in range(count)]
    for code in codes:
        click.echo(code)


@vouchers.command("list")
def list_():
    """Print the unused vouchers: when they were made, and what they are good for."""
    for voucher in rules.unused():
        made, terms = clock_time(voucher.made_at), rules.terms(voucher)
        click.echo(f"{made}  {terms.space_mb} MB for {terms.time_in_words}")


@vouchers.command("withdraw")
@click.argument("code")
def withdraw(code):
    """Make an unused voucher void."""
    if not rules.withdraw(code):
        raise click.ClickException("there is no unused voucher of this code")
    click.echo("the voucher is void")
