"""`flask restore-check`: what came in since a restored copy was made, before it sells again."""

from collections.abc import Iterator

import click
from flask import current_app
from flask.cli import with_appcontext

from lightningspace.base.clock import clock_time
from lightningspace.base.models import Account, Order, Service
from lightningspace.outside.ispconfig import PanelError
from lightningspace.outside.node import NodeError
from lightningspace.rules import clock_watch, hostnames, payments, rebuilding, restored
from lightningspace.rules.rebuilding import Orphan, Outcome, Rebuilt
from lightningspace.shop import Shop

TOLD = {
    Outcome.ADOPTED: "opened {name}, which the panel has: it is back, and its time begins now",
    Outcome.OPENED: "opened a hosting that the panel does not have: opened anew as {name}",
    Outcome.EXTENDED: "more time for {name}, now until {until}",
    Outcome.RESIZED: "another size for {name}: {space_mb} MB until {until}",
    Outcome.TIPPED: "a tip for {name}, now until {until}",
}


@click.command("restore-check")
@click.option(
    "--begin", is_flag=True, help="The database was restored by other means: stop selling."
)
@click.option("--go", is_flag=True, help="Everything is back: sell again.")
@with_appcontext
def restore_check(begin, go):
    """Find what came in since the restored copy was made, and say what cannot be found.

    Reads the node's payments, rebuilds the orders that are missing, and compares the clients at the
    panel with the accounts. Deletes nothing, and may be run again and again. Until --go nothing is
    sold, set up, changed or closed.
    """
    shop: Shop = current_app.extensions["shop"].for_worker()
    if begin:
        stopped = restored.begin()
        click.echo("nothing is sold until --go" if stopped else "nothing was sold already")
    try:
        for line in check(shop):
            click.echo(line)
    except (NodeError, PanelError) as error:
        raise click.ClickException(
            f"{error}. What was found so far is kept: run this again"
            + (", and then --go" if go else "")
        ) from None
    if go:
        click.echo("the shop sells again" if restored.end() else "the shop was selling already")
    elif restored.since() is not None:
        click.echo("nothing is sold yet: when this is as it should be, run it with --go")


def check(shop: Shop) -> Iterator[str]:
    """Do the whole check, and yield what it finds in words. Raises NodeError and PanelError."""
    clock_watch.wake()
    clock_watch.take_time_back(shop)
    if restored.since() is not None:
        clock_watch.note_restored()
    rebuilding.look_before_making()
    yield f"payments that the node had and the database did not: {_read_payments(shop)}"
    for order in payments.due():
        if account_id := payments.apply(shop, order.token):
            name = Account.get_by_id(account_id).username
            yield f"order {order.token[:8]}, which the copy has: paid, it takes effect for {name}"
    clients = shop.panel.clients_of(shop.config.panel_prefix)
    orphans = list(_orphans(shop, clients))
    rebuilt = rebuilding.rebuild(shop, orphans)
    yield from map(_told, rebuilt)
    adopted = {each.account.id for each in rebuilt if each.outcome == Outcome.ADOPTED}
    left = [orphan for orphan in orphans if orphan.account_id not in adopted]
    rebuilding.keep_names(shop, left)
    for orphan in left:
        yield _of_orphan(shop, orphan)
    yield from _without_client(shop, clients)


def _read_payments(shop: Shop) -> int:
    """Record what the node was paid since the copy; return how many payments were the shop's."""
    node_id, found = shop.node.node_id(), 0
    while True:
        after = payments.checked_cursor(shop, node_id)
        payment = shop.node.wait_for_payment(after, 0)
        if payment is None:
            break
        found += payments.record(shop, node_id, payment, after)
    payments.tidy(shop, node_id)
    return found


def _orphans(shop: Shop, clients: dict) -> Iterator[Orphan]:
    """The clients at the panel that are named like ours and have no account here."""
    prefix = shop.config.panel_prefix
    known = {prefix + id for (id,) in Account.select(Account.id).tuples()}
    for name in sorted(clients.keys() - known):
        id, made_at = clients[name]
        if len(name) == len(prefix) + 16:
            yield Orphan(name.removeprefix(prefix), id, made_at, *_site(shop, id))


def _site(shop: Shop, client_id: int) -> tuple[str | None, int | None]:
    """The username in the name of a client's site, and the id of its server; None: no such site."""
    group_id = shop.panel.group_id(client_id)
    ending = hostnames.site_name(shop, "")
    for record in shop.panel.records_of("site", group_id) if group_id else ():
        if record["type"] == "vhost" and record["domain"].endswith(ending):
            return record["domain"].removesuffix(ending), int(record["server_id"])
    return None, None


# -- in words --------------------------------------------------------------------------


def _told(each: Rebuilt) -> str:
    payment = f"payment {each.payment_hash}"
    account = each.account
    if account is None:
        order = Order.get(Order.payment_hash == each.payment_hash)
        if each.outcome == Outcome.OVER:
            return (
                f"{payment}: opened a hosting whose time is over, and the panel does not have it: "
                "it was closed since"
            )
        if each.outcome == Outcome.PAID_BACK:
            return f"{payment}: the node says that it was paid back, or was to be"
        says = f": “{each.description}”" if each.description else ""
        return f"{payment}: {order.received_msat} msat, and nobody can say whose{says}"
    until = clock_time(account.expires_at)
    said = TOLD[each.outcome].format(name=account.username, until=until, space_mb=account.space_mb)
    return f"{payment}: {said}"


def _of_orphan(shop: Shop, orphan: Orphan) -> str:
    name = shop.config.panel_prefix + orphan.account_id
    made = f"made {clock_time(orphan.made_at)}" if orphan.made_at else "half made"
    site = "no site of the shop's"
    if orphan.username:
        site = f"the site {hostnames.site_name(shop, orphan.username)}"
        if Account.get_or_none(Account.username == orphan.username):
            site += ", a name that another account has here"
    return (
        f"client {name} (id {orphan.client_id}): {made}, {site}; it has no account. It stays as it "
        "is, and nobody else gets its name: delete it in ISPConfig once you know that nobody paid "
        "for it, by a voucher either"
    )


def _without_client(shop: Shop, clients: dict) -> Iterator[str]:
    rows = (
        Service.select(Service.name, Account)
        .join(Account)
        .where(
            (Service.kind == "client")
            & Service.panel_id.is_null(False)
            & Account.closing_at.is_null()
        )
        .order_by(Account.username)
    )
    for row in rows:
        if row.name not in clients:
            name = row.account.username
            yield (
                f"account {name}: the panel has no client {row.name}: it was closed since, or lost "
                f"there. Paid until {clock_time(row.account.expires_at)}; after --go, "
                f"`retry {name} --check` makes it anew, empty"
            )
