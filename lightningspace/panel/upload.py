"""What the shop does on a site over FTP: shut neighbours out of it, put up what its owner has sent
by the browser, and the tip jar.

For that it makes itself a short-lived FTP user at the panel. While FTP does not work yet, it tries
only FTP and leaves the panel in peace.
"""

from collections.abc import Callable
from typing import TypeVar

from lightningspace import tipjar
from lightningspace.base import passwords
from lightningspace.base.models import Account, Service, transaction
from lightningspace.outside import ftp, ispconfig_records
from lightningspace.outside.ftp import FtpError, Session
from lightningspace.panel import site_files
from lightningspace.panel.records import Records
from lightningspace.rules import hostnames, services, tips
from lightningspace.rules.services import this
from lightningspace.shop import Shop

Result = TypeVar("Result")
# After this many tries it is the customer's directory that does not take the files.
TRIES = 8
# Where the pages are, and who may go in: the customer, and the web server by its group.
PAGES, PAGES_MODE = "web", 0o710


def put(records: Records, row: Service, stopping: Callable[[], bool]) -> str | None:
    """Do what is wanted on the site; return a note for its owner if the tip jar cannot be there.

    Nothing is done to a site that is off. Raises FtpError, and whatever Records raises: Outdated
    also when there is more to be put than one turn may take.
    """
    account, note = records.account, row.note

    def work(session: Session) -> str | None:
        session.enter(PAGES)
        site_files.put(session, records, row, stopping)
        return _step(records.shop, account, row)(session)

    if not services.is_on(account, row):
        site_files.give_up(records)
    else:
        try:
            note = at_site(records, row, work)
        except ftp.FtpRefused:
            if row.tries < TRIES:
                raise
            note = tipjar.NOT_TAKEN
    remove_uploader(records, row)
    return note


def _step(shop: Shop, account: Account, row: Service) -> Callable[[Session], str | None]:
    """What to do in the pages' directory."""
    settings = services.settings_of(row)
    if not settings["is_there"]:
        return tipjar.take_away
    content, page = settings_file(shop, account, row), None
    if not services.has_php(account.id):
        page = tipjar.page(row.name, tips.page_url(shop, account) if account.tips_page else None)
    return lambda session: tipjar.put(session, content, settings["put_back"], page)


def settings_file(shop: Shop, account: Account, row: Service) -> bytes:
    """The tip jar's settings file."""
    settings = services.settings_of(row)
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


def uploader_name(shop: Shop, account: Account, row: Service) -> str:
    """The name of the shop's FTP user for a row; no customer's is like it."""
    prefix = shop.config.panel_prefix
    if row.kind == "tipjar":
        return f"{prefix}tip_{account.id}"
    return f"{prefix}paid_{account.id}_{row.name}"


def at_site(records: Records, row: Service, work: Callable[[Session], Result]) -> Result:
    """Do some work in a session at the site's login directory, by an FTP user of the row's own.

    That stays until `remove_uploader`. Raises FtpError, and whatever Records raises.
    """
    shop, account = records.shop, records.account
    server_id, host = account.server_id, hostnames.host(shop, account)
    shop.ftp.check(server_id)
    uploader = _uploader(records, row)
    password = _password(records, row) or _make_uploader(records, row, uploader)

    def upload() -> Result:
        with shop.ftp.session(server_id, host, uploader.name, password) as session:
            _shut_neighbours_out(session)
            return work(session)

    try:
        return records.write(row, "uploaded", upload)
    except FtpError as error:
        if error.permanent:  # a person must act first: until then the FTP user is of no use
            remove_uploader(records, row)
        raise


def _shut_neighbours_out(session: Session) -> None:
    try:
        session.set_mode(PAGES, PAGES_MODE)
    except ftp.FtpRefused as error:
        # No customer can move that directory away, so the server refuses this to everybody.
        text = f"{error}, by which neighbours are shut out: allow it (pure-ftpd: NoChmod off)"
        raise FtpError(text, permanent=True) from None


def remove_uploader(records: Records, row: Service) -> None:
    """Remove our FTP user from the panel, and its password from the row."""
    records.know_client()
    if row.password_sealed:
        row.password_sealed = None
        with transaction():
            records.lease.extend()
            Service.update(password_sealed=None).where(this(row)).execute()
    records.remove(_uploader(records, row))


def _uploader(records: Records, row: Service) -> Service:
    """A row for our FTP user, as if it was wanted: the database has none."""
    name = uploader_name(records.shop, records.account, row)
    return Service(account=records.account, kind="ftp", name=name, gone=row.gone)


def _password(records: Records, row: Service) -> str | None:
    """The password of an FTP user that was made before; None: there is none.

    None at every TRIES-th try as well: after a restore from a backup it may be wrong.
    """
    is_stale = row.tries and row.tries % TRIES == 0
    return None if is_stale else services.unsealed(records.shop, row.password_sealed)


def _make_uploader(records: Records, row: Service, uploader: Service) -> str:
    """Make our FTP user at the panel and return its password."""
    remove_uploader(records, row)
    records.check_site()
    client, site = records.client_id, records.id_of("site")
    fields = ispconfig_records.ftp_fields(
        records.account.server_id, client, site, uploader.name, True
    )
    password = passwords.generate()
    records.write(row, "FTP user added", records.panel.add, "ftp", client, fields, password)
    row.password_sealed = records.shop.vault.seal(password)
    with transaction():
        records.lease.extend()
        Service.update(password_sealed=row.password_sealed).where(this(row)).execute()
    return password
