"""The kinds of service that a hosting is made of, one declaration each.

`outside/ispconfig_records` declares what the record of each looks like at the panel.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from lightningspace import paidarea, tipjar
from lightningspace.base import names, ssh_keys
from lightningspace.base.models import Account, Service
from lightningspace.base.prices import DAY, LONGEST_SECONDS, SHORTEST_SECONDS
from lightningspace.outside import lnurl
from lightningspace.rules import hostnames
from lightningspace.shop import Shop


@dataclass(frozen=True)
class Setting:
    """One setting of a service.

    `first`: its value until somebody sets it. `as_kept`: turns a value that can be written in
    several ways into the one that the panel keeps, or raises ValueError.
    """

    first: object
    is_valid: Callable[[object], bool]
    as_kept: Callable[[str], str] | None = None

    def kept(self, value: object) -> object:
        """The value as it is stored. Raises ValueError for one that is not allowed."""
        kept = self.as_kept(str(value)) if self.as_kept and value else value
        if not self.is_valid(kept):
            raise ValueError("not a value of this setting")
        return kept


@dataclass(frozen=True)
class Part:
    """A kind's part of the account's space; accounts.used_…_mb says how much of it is used."""

    percent: int
    name: str  # in the API, and in the name of that column
    word: str  # for people, within a sentence

    @property
    def column(self) -> str:
        return f"used_{self.name}_mb"


@dataclass(frozen=True)
class Connection:
    """How a customer's programs connect to a service. {host} and {user} are placeholders.

    `name` and `facts`: for programs, over the API. `title`, `lines` and `commands`: for people, who
    copy the commands. `opens`: the kind that this user gives access to, if that is another one.
    """

    name: str
    facts: dict
    title: str
    lines: tuple[tuple[str, str], ...]
    commands: tuple[tuple[str, str], ...] = ()
    opens: str | None = None
    note: str = ""

    def filled(self, host: str, user: str) -> "Connection":
        """The same with the real host and user."""

        def real(value):
            return value.format(host=host, user=user) if isinstance(value, str) else value

        return replace(
            self,
            facts={name: real(value) for name, value in self.facts.items()},
            lines=tuple((title, real(text)) for title, text in self.lines),
            commands=tuple((title, real(text)) for title, text in self.commands),
        )


@dataclass(frozen=True)
class Kind:
    """A kind of service.

    title            what a customer calls it
    hangs_on         the kinds that must be at the panel before it
    at_first         the name of the one that each new hosting has; None: it has none
    may_be_called    whether the account may use a name, given its other rows; None: only `at_first`
    settings         what can be set, by name
    begins_with      its settings in a new hosting, where they differ from those of older ones
    has_password
    has_switch       it can be switched off
    works_suspended  it stays on when the account is suspended or blocked
    is_optional      customers can add and remove it
    is_address       it counts as one of the addresses that are included and paid for
    is_domain        what hangs on it has its name, alone or behind an @, and goes with it
    is_served        it works only after a restart of the web server
    is_uploaded      it is put on the site over FTP, and the panel knows nothing of it
    most             how many of them an account may have; None: any number
    part             its part of the account's space; None: it has none
    setting_name     what the API's settings call the one of each hosting; None: it is not set there
    connection       None: no program connects to it
    last             how late it comes in a round at the panel; 0: as soon as it can be made
    """

    title: str
    hangs_on: tuple[str, ...] = ()
    at_first: Callable[[Shop, Account], str] | None = None
    may_be_called: Callable[[Shop, Account, str, list[Service]], bool] | None = None
    settings: dict[str, Setting] = field(default_factory=dict)
    begins_with: dict[str, object] = field(default_factory=dict)
    has_password: bool = False
    has_switch: bool = True
    works_suspended: bool = False
    is_optional: bool = False
    is_address: bool = False
    is_domain: bool = False
    is_served: bool = False
    is_uploaded: bool = False
    most: int | None = None
    part: Part | None = None
    setting_name: str | None = None
    connection: Connection | None = None
    last: int = 0

    def is_called(self, shop: Shop, account: Account, name: str, rows: list[Service]) -> bool:
        if self.may_be_called:
            return self.may_be_called(shop, account, name, rows)
        return self.at_first is not None and name == self.at_first(shop, account)

    def first_settings(self) -> dict:
        return {name: setting.first for name, setting in self.settings.items()}


# -- names ---------------------------------------------------------------------------


def _client(shop: Shop, account: Account) -> str:
    return shop.config.panel_prefix + account.id


def _user(shop: Shop, account: Account) -> str:
    return shop.config.panel_prefix + account.username


def _site(shop: Shop, account: Account) -> str:
    return hostnames.site_name(shop, account.username)


def _info(shop: Shop, account: Account) -> str:
    return f"info@{_site(shop, account)}"


def _is_site(shop: Shop, account: Account, name: str, rows: list[Service]) -> bool:
    return name == _site(shop, account)


def _is_extra_domain(shop: Shop, account: Account, name: str, rows: list[Service]) -> bool:
    return names.is_domain(name) and not hostnames.is_the_shops(shop, name)


def _is_mail_domain(shop: Shop, account: Account, name: str, rows: list[Service]) -> bool:
    return name == _site(shop, account) or name in _names(rows, "alias")


def _is_address(shop: Shop, account: Account, name: str, rows: list[Service]) -> bool:
    local, _, domain = name.partition("@")
    # The panel refuses mailboxes of a domain without mail, and a forward of it would do nothing.
    has_mail = _is_mail_domain(shop, account, domain, rows) and domain in _names(
        rows, "mail_domain"
    )
    return names.is_local_part(local) and has_mail and len(name) <= names.ADDRESS_MAX


def _is_area(shop: Shop, account: Account, name: str, rows: list[Service]) -> bool:
    return bool(AREA.fullmatch(name)) and name not in NO_AREAS


def _names(rows: list[Service], kind: str) -> set[str]:
    return {row.name for row in rows if row.kind == kind}


# The first part of a paid area's address, and those that the server answers itself.
AREA = re.compile("[a-z0-9]([a-z0-9-]{0,28}[a-z0-9])?")
NO_AREAS = ("awstats", "cgi-bin", "error", "icons", "phpmyadmin", "stats", "webmail", "webstats")


# -- settings ------------------------------------------------------------------------


def _is_yes_or_no(value: object) -> bool:
    return isinstance(value, bool)


def _is_php_version(value: object) -> bool:
    return type(value) is int and value >= 0


def _is_redirect(value: object) -> bool:
    return value == "" or names.is_web_address(str(value))


def _is_ssh_key(value: object) -> bool:
    return value == "" or ssh_keys.is_kept(str(value))


def _is_quota(value: object) -> bool:
    return value is None or (type(value) is int and 0 < value < 10**9)


def _is_destination(value: object) -> bool:
    return names.is_address(str(value))


def _is_wallet_address(value: object) -> bool:
    return value is None or lnurl.is_address(str(value))


def _is_text(most: int) -> Callable[[object], bool]:
    def is_text(value: object) -> bool:
        # JSON can hold half of a surrogate pair, which no file can.
        is_whole = isinstance(value, str) and not re.search("[\ud800-\udfff]", value)
        return is_whole and len(value) <= most

    return is_text


def _is_whole(least: int, most: int) -> Callable[[object], bool]:
    return lambda value: type(value) is int and least <= value <= most


def _are_amounts(value: object) -> bool:
    if not isinstance(value, list) or not 0 < len(value) <= tipjar.AMOUNTS_MAX:
        return False
    return all(type(each) is int and 0 < each < 10**9 for each in value)


# -- the kinds -----------------------------------------------------------------------

FTP = Connection(
    name="ftp",
    facts={"port": 21, "security": "explicit TLS"},
    title="FTP",
    lines=(("Host", "{host}"), ("Port", "21, with TLS (explicit)")),
    commands=(("With lftp", "lftp -e 'set ftp:ssl-force true' -u {user} ftp://{host}"),),
)
SSH = Connection(
    name="ssh",
    facts={"port": 22},
    title="SSH",
    lines=(("Host", "{host}"), ("Port", "22")),
    commands=(("Shell", "ssh {user}@{host}"), ("Files", "sftp {user}@{host}")),
)
DATABASE = Connection(
    name="database",
    # The database's own programs take `localhost` for its socket, which the jail does not have.
    facts={
        "host": "localhost",
        "host_over_ssh": "127.0.0.1",
        "port": 3306,
        "database": "{user}",
    },
    title="Database",
    lines=(
        ("Host", "localhost; over SSH 127.0.0.1"),
        ("Port", "3306"),
        ("Database", "{user}"),
    ),
    commands=(("Over SSH", "mysql -h 127.0.0.1 -u {user} -p {user}"),),
    opens="database",
    note="For your site and over SSH; from elsewhere it cannot be reached.",
)
IMAP = Connection(
    name="imap",
    facts={"port": 993, "security": "TLS"},
    title="Mail",
    lines=(
        ("Incoming", "IMAP, {host}, port 993 (TLS)"),
        ("Outgoing", "SMTP, {host}, port 587 (STARTTLS)"),
    ),
)

# In the order in which the panel can take them.
KINDS: dict[str, Kind] = {
    "client": Kind("Customer at the server", at_first=_client, has_switch=False),
    "site": Kind(
        "Web site",
        hangs_on=("client",),
        at_first=_site,
        settings={
            "php": Setting(True, _is_yes_or_no),
            "php_version": Setting(0, _is_php_version),
            "letsencrypt": Setting(False, _is_yes_or_no),
            # Requests for what is no file go to index.php, as WordPress needs it.
            "pretty_addresses": Setting(False, _is_yes_or_no),
            "redirect_to": Setting("", _is_redirect),
        },
        begins_with={"letsencrypt": True},
        is_served=True,
        part=Part(70, "site", "web site"),
    ),
    "alias": Kind(
        "Extra domain",
        hangs_on=("client", "site"),
        may_be_called=_is_extra_domain,
        # Whether it is in the site's certificate.
        settings={"letsencrypt": Setting(False, _is_yes_or_no)},
        is_optional=True,
        is_domain=True,
        is_served=True,
    ),
    "ftp": Kind(
        "FTP",
        hangs_on=("client", "site"),
        at_first=_user,
        has_password=True,
        is_optional=True,
        setting_name="ftp",
        connection=FTP,
    ),
    "shell": Kind(
        "SSH",
        hangs_on=("client", "site"),
        at_first=_user,
        settings={"ssh_key": Setting("", _is_ssh_key, ssh_keys.read)},
        has_password=True,
        is_optional=True,
        setting_name="ssh",
        connection=SSH,
        last=1,  # the server takes half a minute to make its jail
    ),
    "database_user": Kind(
        "Database user",
        hangs_on=("client",),
        at_first=_user,
        has_password=True,
        has_switch=False,
        setting_name="database",
        connection=DATABASE,
    ),
    "database": Kind(
        "Database",
        hangs_on=("client", "site", "database_user"),
        at_first=_user,
        is_optional=True,
        part=Part(10, "database", "database"),
        setting_name="database",
    ),
    "mail_domain": Kind(
        "Mail domain",
        hangs_on=("client", "alias"),
        at_first=_site,
        may_be_called=_is_mail_domain,
        works_suspended=True,  # it goes on receiving
        is_optional=True,
        is_domain=True,
    ),
    "mailbox": Kind(
        "Mailbox",
        hangs_on=("client", "mail_domain"),
        at_first=_info,
        may_be_called=_is_address,
        # None: an equal share of what those with a quota leave.
        settings={"quota_mb": Setting(None, _is_quota)},
        has_password=True,
        is_optional=True,
        is_address=True,
        part=Part(20, "mail", "mail"),
        connection=IMAP,
    ),
    "forward": Kind(
        "Mail forward",
        hangs_on=("client", "mail_domain"),
        may_be_called=_is_address,
        settings={"destination": Setting(None, _is_destination, names.as_address)},
        is_optional=True,
        is_address=True,
    ),
    "tipjar": Kind(
        "Tip jar",
        hangs_on=("client", "site"),
        may_be_called=_is_site,
        settings={
            # If there is to be no jar, the row stands for the other work over FTP.
            "is_there": Setting(True, _is_yes_or_no),
            # Empty: the jar has a title and a text of its own.
            "title": Setting("", _is_text(tipjar.TITLE_MAX)),
            "text": Setting("", _is_text(tipjar.TEXT_MAX)),
            "amounts_sat": Setting([100, 1000, 10000], _are_amounts),
            "mode": Setting("site", ("site", "wallet").__contains__),
            "wallet_address": Setting(None, _is_wallet_address),
            # Put it back over the owner's start page, once.
            "put_back": Setting(False, _is_yes_or_no),
        },
        is_uploaded=True,
        last=2,  # it waits for FTP
    ),
    "paidarea": Kind(
        "Paid area",
        hangs_on=("client", "site"),
        may_be_called=_is_area,
        settings={
            "price_sat": Setting(1000, _is_whole(1, paidarea.PRICE_MAX)),
            "seconds": Setting(DAY, _is_whole(SHORTEST_SECONDS, LONGEST_SECONDS)),
            # Empty: its address.
            "title": Setting("", _is_text(paidarea.TITLE_MAX)),
            "mode": Setting("wallet", ("site", "wallet").__contains__),
            "wallet_address": Setting(None, _is_wallet_address),
            # The wallet does not say what is paid: no browser can be let in.
            "programs_only": Setting(False, _is_yes_or_no),
        },
        is_optional=True,
        is_uploaded=True,
        most=5,
        last=2,
    ),
}
