"""The tip jar of an account on its site: put there and taken away, over FTP.

For that it has an FTP user of its own at the panel, for a moment.
"""

from collections.abc import Callable

from lightningspace import ftp, panel, passwords, tipjar, tips, wanted
from lightningspace.ftp import FtpError
from lightningspace.models import Account, Service, transaction
from lightningspace.records import Records
from lightningspace.shop import Shop
from lightningspace.wanted import this

# After so many tries it is the customer's directory that does not take it.
TRIES = 8


def put(records: Records, row: Service) -> str | None:
    """Have it on the site; a note for its owner if it cannot be there. While the site is off,
    nothing is done there. Raises FtpError, and what Records do.
    """
    shop, account, note = records.shop, records.account, row.note
    if wanted.is_on(account, row):
        content = settings_file(shop, account, row)
        put_back = wanted.settings_of(row)["put_back"]
        try:
            note = _at_site(records, row, "put", tipjar.put, content, put_back)
        except ftp.Refused:
            if row.tries < TRIES:
                raise
            note = tipjar.NOT_TAKEN
    records.remove(_uploader(records, row))
    return note


def take_away(records: Records, row: Service) -> None:
    """Take it off the site; when that goes as well, no more than the FTP user of it. Raises as
    `put` does.
    """
    if records.account.closing_at is None and records.client_id and records.id_of("site"):
        try:
            _at_site(records, row, "taken away", tipjar.take_away)
        except ftp.Refused:
            if row.tries < TRIES:
                raise
    records.remove(_uploader(records, row))


def settings_file(shop: Shop, account: Account, row: Service) -> bytes:
    """What it is to say."""
    settings = wanted.settings_of(row)
    least, most = tips.bounds(shop)
    return tipjar.settings_file(
        shop=shop.config.public_url,
        username=account.username,
        site=row.name,
        mode=settings["mode"],
        title=settings["title"] or None,
        text=settings["text"] or None,
        amounts_sat=settings["amounts_sat"],
        min_sat=least,
        max_sat=most,
        lightning_address=tips.lightning_address(shop, account) if account.tips_address else None,
        wallet_address=settings["wallet_address"],
    )


def uploader_name(shop: Shop, account: Account) -> str:
    """The FTP user that puts it there: no customer's has such a name."""
    return f"{shop.config.panel_prefix}tip_{account.id}"


def _at_site(records: Records, row: Service, what: str, step: Callable, *arguments):
    """Take a step in the directory of the site's pages."""
    shop, account = records.shop, records.account
    server_id, host = account.server_id, wanted.host(shop, account)
    shop.ftp.check(server_id)
    uploader = _uploader(records, row)
    password = _make_uploader(records, row, uploader)

    def upload():
        with shop.ftp.session(server_id, host, uploader.name, password) as session:
            return step(session, *arguments)

    try:
        return records.write(row, what, upload)
    except FtpError as error:
        if error.permanent:  # a person must act first: until then it serves for nothing
            records.remove(uploader)
        raise


def _uploader(records: Records, row: Service) -> Service:
    """Its FTP user, as if it was wanted: the database has none."""
    name = uploader_name(records.shop, records.account)
    return Service(account=records.account, kind="ftp", name=name, gone=row.gone)


def _make_uploader(records: Records, row: Service, uploader: Service) -> str:
    """Its password; it is at the panel now."""
    client, site = records.client_id, records.id_of("site")
    fields = panel.uploader_fields(records.account.server_id, client, site, uploader.name)
    found = records.ours(uploader)
    password = wanted.unsealed(records.shop, row.password_sealed)
    # Made anew now and then: its password may be another, after a restore of a backup.
    is_stale = row.tries and row.tries % TRIES == 0
    is_fit = len(found) == 1 and not panel.differences(found[0], fields)
    if password and is_fit and not is_stale:
        return password
    records.remove(uploader)
    records.check_site()
    password = passwords.generate()
    row.password_sealed = records.shop.vault.seal(password)
    with transaction():
        records.lease.extend()
        Service.update(password_sealed=row.password_sealed).where(this(row)).execute()
    records.write(row, "FTP user added", records.panel.add, "ftp", client, fields, password)
    return password
