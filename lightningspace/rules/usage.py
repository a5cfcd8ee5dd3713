"""What the panel knows about hostings: the space used, certificates, and the PHP versions on offer.

The worker asks every hour, and every five minutes while the account's pages are opened; pages show
what is stored.
"""

import json
import logging

from peewee import fn

from lightningspace.base.clock import HOUR, now
from lightningspace.base.models import Account, Server, Service
from lightningspace.outside import ispconfig_records
from lightningspace.outside.ispconfig import Forbidden, PanelError, PanelRefused
from lightningspace.rules import certificates, services
from lightningspace.shop import Shop

logger = logging.getLogger(__name__)

NO_PHP = "off"  # the choice of no PHP at all
# The panel itself measures every five minutes.
FRESH_SECONDS = 5 * 60
RETRY_SECONDS = 60
# Longer than the four calls that follow may take together, DNS questions included.
CLAIM_SECONDS = 5 * 60
AT_ONCE = 100

PARTS = {name: kind.part for name, kind in services.KINDS.items() if kind.part}


def look(shop: Shop) -> int:
    """Ask the panel about the accounts that are due; return how many there were.

    Any number of workers may call this. Raises PanelError when the other accounts would meet the
    same fault.
    """
    asked = 0
    for account in _due():
        if _claim(account):
            _ask(shop, account)
            asked += 1
    return asked


def opened(account: Account) -> None:
    """A page of the account was opened: ask again as soon as there may be news."""
    # Only the hourly question is brought forward: after a failure there is a reason to wait.
    if account.used_at is None or account.usage_at != account.used_at + HOUR:
        return
    _set(account, usage_at=account.used_at + FRESH_SECONDS)


def _due() -> list[Account]:
    """The accounts that are due, the oldest first, and those that a wrong clock put off too far."""
    moment, found = now(), []
    for is_due in (Account.usage_at <= moment, Account.usage_at > moment + 2 * HOUR):
        # Two queries: one with an OR would read and sort everything that is due.
        rows = Account.select().where(is_due & Account.closing_at.is_null())
        found.extend(rows.order_by(Account.usage_at).limit(AT_ONCE))
    return found


def _claim(account: Account) -> bool:
    """Take the account for a while; False when another worker was faster."""
    return _set(account, usage_at=now() + CLAIM_SECONDS)


def _set(account: Account, **facts) -> bool:
    """Change an account; False when somebody has asked, or is asking, for it meanwhile."""
    as_read = (Account.id == account.id) & (Account.usage_at == account.usage_at)
    done = Account.update(facts).where(as_read).execute() == 1
    if done:
        account.usage_at = facts["usage_at"]
    return done


def _ask(shop: Shop, account: Account) -> None:
    try:
        look_at = certificates.look(shop, account)
        used = _used_mb(shop, account)
    except PanelError as error:
        _put_off(account)
        if isinstance(error, Forbidden) or not isinstance(error, PanelRefused):
            raise
        logger.warning("account %s: the space used is not known: %s", account.id, error)
        return
    if used is None:
        _put_off(account)
        return
    moment = now()
    soon = max(look_at or moment + HOUR, moment + RETRY_SECONDS)
    _set(account, **used, used_at=moment, usage_at=min(soon, moment + HOUR))


def _put_off(account: Account) -> None:
    """Keep the old figures and ask again, after longer and longer waits."""
    moment = now()
    known_at = account.used_at or account.ready_at or moment
    wait = min(HOUR, max(RETRY_SECONDS, moment - known_at))
    _set(account, usage_at=moment + wait)


def _used_mb(shop: Shop, account: Account) -> dict | None:
    """The columns of the space used, in MB as the quotas count them, rounded up.

    None while some of it is unknown. Raises PanelError.
    """
    rows = services.of_account(account.id)
    client_id = next((row.panel_id for row in rows if row.kind == "client"), None)
    sites = [row.name for row in rows if row.kind == "site"]
    if client_id is None or not sites:
        return None
    used: dict[str, dict] = {}
    for kind in PARTS:
        used[kind] = shop.panel.used(kind, client_id)
        # After a restore of the panel the client's number may be a stranger's.
        if kind == "site" and sites[0] not in used[kind]:
            raise PanelRefused(f"client {client_id} of the panel does not have the site {sites[0]}")
    if any(None in each.values() for each in used.values()):
        return None
    return {
        part.column: ispconfig_records.in_mb(kind, sum(used[kind].values()))
        for kind, part in PARTS.items()
    }


# -- PHP versions --------------------------------------------------------------------


def look_at_php(shop: Shop) -> None:
    """Ask the panel hourly which PHP versions its servers have. Raises PanelError."""
    moment = now()
    asked_at = fn.COALESCE(Server.php_at, 0)
    for server in Server.select().where((asked_at <= moment - HOUR) | (asked_at > moment)):
        this = (Server.id == server.id) & (asked_at == (server.php_at or 0))
        if not Server.update(php_at=moment).where(this).execute():
            continue  # another worker does
        try:
            versions = shop.panel.php_versions(server.id)
        except Forbidden as error:
            logger.info("only the server's own PHP is offered: %s", error)
            versions = []
        except PanelError:
            soon = moment - HOUR + FRESH_SECONDS
            Server.update(php_at=soon).where(Server.id == server.id).execute()
            raise
        Server.update(php_versions=json.dumps(versions)).where(Server.id == server.id).execute()


def php_versions(server: Server) -> list[tuple[int, str]]:
    """Id and name of each PHP version on offer beside the server's own."""
    try:
        return [(int(id), str(name)) for id, name in json.loads(server.php_versions)]
    except (TypeError, ValueError):  # changed by hand
        return []


def php_on_offer() -> list[str]:
    """The names of the PHP versions that each server that sells has, beside its own."""
    sells = Server.select().where(Server.capacity_mb > 0).order_by(Server.id)
    first, *others = [[name for _, name in php_versions(server)] for server in sells] or [[]]
    return [name for name in first if all(name in names for names in others)]


def php_choices(account: Account, site: Service | None) -> list[tuple[str, str]]:
    """The choices for the site, the present one included, each with its label."""
    versions = {str(id): name for id, name in php_versions(account.server)}
    choices = {"0": "the server's own"} | versions
    current = php_choice(site)
    if current != NO_PHP and current not in choices:
        choices[current] = "the present one (no longer offered)"
    return [*choices.items(), (NO_PHP, "no PHP")]


def php_choice(site: Service | None) -> str:
    settings = services.settings_of(site) if site else services.KINDS["site"].first_settings()
    return str(settings["php_version"]) if settings["php"] else NO_PHP


def php_settings(choice: str) -> dict:
    """The site settings that a choice stands for."""
    return {"php": False} if choice == NO_PHP else {"php": True, "php_version": int(choice)}
