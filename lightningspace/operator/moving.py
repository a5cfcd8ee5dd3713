"""`flask move`: set a hosting up again on another server, and say what to copy."""

import click
from flask.cli import with_appcontext

from lightningspace.base.models import Account
from lightningspace.operator import search
from lightningspace.panel import reconcile
from lightningspace.rules import moves, services, wanted
from lightningspace.shop import this_shop


@click.command("move")
@click.argument("username")
@click.argument("server_id", type=int)
@click.option("--yes", is_flag=True, help="You have copied its content: delete it there.")
@with_appcontext
def move(username, server_id, yes):
    """Set a hosting up again, empty, on another server. Without --yes, say what to copy first.

    If this is killed or fails half-way, the worker goes on with it.
    """
    account = search.named(username)
    places = _places(account)
    if not yes:
        click.echo(f"On server {account.server_id}, copy to somewhere else:")
        click.echo("\n".join(places))
        click.echo("Then run it again with --yes, which deletes these there.")
        return
    try:
        moves.begin(this_shop(), account.id, server_id)
    except moves.CannotMove as error:
        raise click.ClickException(error.text) from error
    except wanted.AccountClosed:
        raise click.ClickException(f"{username} is being closed") from None
    reconcile.account(this_shop(), account.id)
    account = Account.get_or_none(Account.id == account.id)
    is_there = account is not None and account.moved_from is None
    if not is_there:
        click.echo("The worker goes on with it; `account` shows how far it is.")
        raise SystemExit(1)
    click.echo(f"On server {server_id} it is made anew, empty. Copy back what you have to:")
    click.echo("\n".join(_places(account)))
    click.echo("Files belong to its own user there. Let its DNS records lead to that server.")


def _places(account: Account) -> list[str]:
    """Where an account's files, databases and mail are on its server."""
    rows = services.of_account(account.id)
    ids = {row.kind: row.panel_id for row in rows}
    site = f"/var/www/clients/client{ids.get('client')}/web{ids.get('site')}"
    places = [f"  {site}/web and {site}/private"]
    places += [f"  the database {row.name} (mysqldump)" for row in rows if row.kind == "database"]
    for row in rows:
        if row.kind == "mailbox":
            local, _, domain = row.name.partition("@")
            places.append(f"  /var/vmail/{domain}/{local}")
    return places
