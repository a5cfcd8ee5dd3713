"""Putting a paid area's gate on a site over FTP, and looking whether it does what it should.

An area is on only after its gate has asked a stranger for payment, and has not let one in by any
trick. Until then, and if it fails, its row says why not.
"""

from lightningspace import paidarea
from lightningspace.base import walls
from lightningspace.base.models import Service
from lightningspace.outside import ftp
from lightningspace.outside.deadline import TimeLimit, time_limit
from lightningspace.outside.ftp import FtpError, Session
from lightningspace.outside.node import NodeError
from lightningspace.outside.sites import Answer, Site, SiteError
from lightningspace.panel.records import Records
from lightningspace.panel.upload import PAGES, TRIES, at_site, remove_uploader
from lightningspace.rules import areas, certificates, hostnames, services
from lightningspace.rules.areas import Reason

# After this many looks it is not the server that needs a moment more.
LOOKS = 5
# One look ends after this time, however slowly the site answers each request.
LOOK_SECONDS = 40
# An area sells by one invoice; what is asked as a browser makes none.
AS_BROWSER = {"Accept": "text/html"}
AS_PROGRAM = {"Accept": "application/json"}
FORGED = AS_PROGRAM | {"Authorization": f"L402 AAAA:{'0' * 64}"}
# Other ways of writing a file's address, which some server may understand. {name}: the area's.
TRICKS = (
    "/{name}/{file}",
    "/private/paid/{name}/{file}",
    "/{name}/../../private/paid/{name}/{file}",
    "/{name}/%2e%2e/%2e%2e/private/paid/{name}/{file}",
    "/{name}/..%2f..%2fprivate/paid/{name}/{file}",
    "/{name}/index.php/..%2f{name}/{file}",
    "/{name}/index.php//{file}",
    "//{name}//index.php/{file}",
    "/{name}/INDEX.PHP/{file}",
    "/{name}/index.php;/{file}",
)


class NotYet(FtpError):
    """It does not work yet, perhaps because the server has not been told yet."""

    is_calm = True


def put(records: Records, row: Service) -> str | None:
    """Put the gate there, or take it away if its owner has switched the area off or removed it.
    Return why the area is not on; None: it is, or is to be off.

    On a site that is off, a gate is only taken away: it must not come back with the site. Raises
    FtpError, and whatever Records raises.
    """
    account, note = records.account, row.note
    if row.gone or not (account.suspended_at or account.blocked_at):
        try:
            note = _put(records, row) if row.active and not row.gone else _take_away(records, row)
        except ftp.NoSpace:
            note = Reason.NO_SPACE
        except ftp.FtpRefused:
            if row.tries < TRIES:
                raise
            note = Reason.NOT_TAKEN
    remove_uploader(records, row)
    return note


def _put(records: Records, row: Service) -> str | None:
    if not services.has_php(records.account.id):
        reason = Reason.NO_PHP
    else:
        try:
            settings = areas.settings_file(records.shop, records.account, row)
        except NodeError as error:
            raise NotYet(f"the paid area is not put there yet: {error}") from None
        has_htaccess = records.shop.config.walls != walls.NGINX

        def put_sample(session: Session) -> tuple[str, str]:
            paidarea.enter_files(session, row.name)
            return paidarea.put_sample(session)

        def put_gate(session: Session) -> bool:
            session.enter(PAGES)
            paidarea.enter_gate(session, row.name)
            return paidarea.put(session, row.name, settings, has_htaccess)

        if not at_site(records, row, put_gate):
            return Reason.IN_THE_WAY
        name, content = at_site(records, row, put_sample)
        reason = _proved(_site(records), row.name, name, content, services.settings_of(row))
        _take_sample(records, row)
        if reason in areas.PASSING and row.tries < LOOKS:
            raise NotYet(f"the paid area does not work yet: {reason}")
    if reason in areas.TAKEN_AWAY:
        _take_away(records, row)
    return reason


def _take_sample(records: Records, row: Service) -> None:
    def take(session: Session) -> None:
        paidarea.enter_files(session, row.name)
        paidarea.take_samples(session)

    at_site(records, row, take)


def _take_away(records: Records, row: Service) -> Reason | None:
    def take(session: Session) -> bool:
        session.enter(PAGES)
        try:
            session.enter(row.name)
        except ftp.FtpRefused:
            return True  # it was never there, or its owner has removed it
        return paidarea.take_away(session)

    return None if at_site(records, row, take) else Reason.IN_THE_WAY


def _site(records: Records) -> Site:
    """Where the server answers for the site."""
    shop, account = records.shop, records.account
    name = hostnames.site_name(shop, account.username)
    address = shop.config.web_addresses.get(account.server_id)
    if address:
        return Site(name, address)
    is_tls = certificates.url(shop, account).startswith("https:")
    return Site(name, (hostnames.host(shop, account), 443 if is_tls else 80), is_tls)


def _proved(site: Site, name: str, file: str, content: str, settings: dict) -> Reason | None:
    """None if the gate asks for payment, reads credentials, and shows the file to nobody."""
    gate = f"/{name}/index.php/{file}"
    try:
        with time_limit(LOOK_SECONDS) as limit:
            offered = site.get(gate, **AS_PROGRAM)
            if _shows(offered, content) or _is_open(site, name, file, content, limit):
                return Reason.OPEN
            reason = _of_offer(offered, settings["price_sat"] * 1000)
            if reason is None and site.get(gate, **FORGED).status != 401:
                reason = Reason.DEAF
    except SiteError:
        return Reason.SILENT
    return reason


def _is_open(site: Site, name: str, file: str, content: str, limit: TimeLimit) -> bool:
    """Whether any trick shows the file. Raises SiteError if none does, and one was not answered."""
    silent = None
    for trick in _tricks(name, file):
        try:
            if _shows(site.get(trick, **AS_BROWSER), content):
                return True
        except SiteError as error:
            silent = error
            if limit.is_over:
                break
    if silent:
        raise silent
    return False


def _shows(answer: Answer, content: str) -> bool:
    return content.encode() in answer.body


def _tricks(name: str, file: str) -> list[str]:
    return [trick.format(name=name, file=file) for trick in TRICKS]


def _of_offer(offered: Answer, msat: int) -> Reason | None:
    told = offered.facts
    if offered.status == 402:
        is_whole = 'L402 macaroon="' in offered.challenge and told.get("price_msat") == msat
        return None if is_whole else Reason.ODD
    said = told.get("reason")
    return next((reason for reason in areas.OF_THE_GATE if reason == said), Reason.ODD)
