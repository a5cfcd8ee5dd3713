"""`flask rotate-key`: make a new SECRET_KEY in our own file, and later end the older ones."""

import fcntl
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click
from flask import current_app
from flask.cli import with_appcontext

from lightningspace.base import key_files
from lightningspace.base.config import Config
from lightningspace.base.models import Account, Service, Table
from lightningspace.base.vault import Unreadable, Vault

# What the database holds sealed.
SEALED = (
    (Account, Account.password_sealed),
    (Service, Service.password_sealed),
    (Service, Service.own_password_sealed),
)


@click.command("rotate-key")
@click.option("--forget", is_flag=True, help="End the older keys: all that they made is void.")
@with_appcontext
def rotate_key(forget):
    """Make a new SECRET_KEY. What the one before it has made stays good until --forget.

    Restart web and worker after each. With --forget, access keys, tokens, the gate's credentials,
    sessions and mailed links that were made with an older key are void.
    """
    shop, instance = current_app.extensions["shop"], Path(current_app.instance_path)
    is_ours = key_files.is_used(instance / key_files.KEY, shop.config.secret_key)
    if not forget and not is_ours:
        raise click.ClickException(
            "SECRET_KEY is in your settings. Set there, for web and worker:\n"
            f"  SECRET_KEY={new_key()}\n"
            "  SECRET_KEY_FALLBACKS=<the key that is SECRET_KEY now>\n"
            "and restart both"
        )
    if not forget:
        rotate(instance)
        click.echo(f"there is a new key in {instance / key_files.KEY}: restart web and worker now")
        click.echo("keep a copy of it away from the backups, in the place of the one before")
        click.echo("what the one before has made is good until `rotate-key --forget`")
        return
    click.echo(f"{reseal(shop.vault)} passwords that wait are sealed with the newest key")
    if is_ours and end_old(shop.config, instance):
        click.echo("the older keys are gone: restart web and worker now")
    elif shop.config.secret_key_fallbacks:
        click.echo("now take SECRET_KEY_FALLBACKS out of your settings, and restart web and worker")
    else:
        click.echo("there are no older keys")


def new_key() -> str:
    return secrets.token_hex(32)


def rotate(instance: Path) -> None:
    """Add our key to the older ones, then put a new one in its place. No key that was in use is
    lost if this is killed, or runs twice at once.
    """
    path, old_path = instance / key_files.KEY, instance / key_files.OLD_KEYS
    with _alone(instance):
        key, old = path.read_text().strip(), key_files.read_old(instance)
        if key not in old:
            key_files.replace(old_path, key_files.text_of([key, *old]))
        key_files.replace(path, key_files.text_of([new_key()]))


def reseal(vault: Vault) -> int:
    """Seal the database's passwords with the newest key; return how many.

    One that is changed meanwhile keeps the change; one that no key opens stays as it is.
    """
    return sum(_reseal(vault, table, column) for table, column in SEALED)


def _reseal(vault: Vault, table: type[Table], column) -> int:
    done = 0
    for (sealed,) in list(table.select(column).where(column.is_null(False)).tuples()):
        try:
            anew = vault.reseal(sealed)
        except Unreadable:
            continue
        done += table.update({column: anew}).where(column == sealed).execute()
    return done


def end_old(config: Config, instance: Path) -> bool:
    """Delete the older keys; False: there are none. Raises ClickException when the key has changed
    since this program has read it.
    """
    with _alone(instance):
        if not key_files.is_used(instance / key_files.KEY, config.secret_key):
            raise click.ClickException("there is a newer key by now: run this again")
        path = instance / key_files.OLD_KEYS
        if not path.exists():
            return False
        path.unlink()
        key_files.sync_directory(instance)
    return True


@contextmanager
def _alone(instance: Path) -> Iterator[None]:
    directory = os.open(instance, os.O_RDONLY)
    try:
        fcntl.flock(directory, fcntl.LOCK_EX)
        yield
    finally:
        os.close(directory)
