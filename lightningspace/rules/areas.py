"""Paid areas: parts of a site that visitors pay for, over Lightning, to their owner or to the shop.

One is a service of the kind "paidarea", called as the first part of its address. Why it does not
sell stands in its row's `note`, as a Reason.
"""

from enum import StrEnum

from lightningspace import onsite
from lightningspace.base.models import Account, Service
from lightningspace.rules import certificates, hostnames, services, tips
from lightningspace.shop import Shop


class Reason(StrEnum):
    """Why an area is off.

    Of the owner's files: IN_THE_WAY of the gate's, FULL if there is no space, NOT_TAKEN if they
    cannot be put there. Of the site: NO_PHP, SILENT, ODD if something else answers than the gate,
    DEAF if PHP gets no credentials, OPEN if a file can be had without paying.

    The others are the gate's own words for what it lacks, or for what its wallet does.
    """

    IN_THE_WAY = "in_the_way"
    NO_SPACE = "no_space"
    NOT_TAKEN = "not_taken"
    NO_PHP = "no_php"
    SILENT = "silent"
    ODD = "not_ours"
    DEAF = "deaf"
    OPEN = "open"
    FULL = "full"
    BARE = "bare"
    FOLDER = "folder"
    BUSY = "busy"
    MANY = "many"
    DOWN = "down"
    NONSENSE = "odd"
    NOBODY = "nobody"
    REFUSED = "refused"
    AMOUNT = "amount"
    NETWORK = "network"
    NO_VERIFY = "no_verify"


# The reasons that the gate itself gives.
OF_THE_GATE = (
    *(Reason.FULL, Reason.BARE, Reason.FOLDER, Reason.BUSY, Reason.MANY, Reason.DOWN),
    *(Reason.NONSENSE, Reason.NOBODY, Reason.REFUSED, Reason.AMOUNT, Reason.NETWORK),
    Reason.NO_VERIFY,
)
# Reasons that may pass by themselves: the area is looked at again.
PASSING = (Reason.SILENT, Reason.ODD, Reason.DEAF, Reason.BUSY, Reason.MANY, Reason.DOWN)
# With these the gate is taken away. With the others it stays, so that those who have paid get in as
# soon as the site does what it should: it is only our look that has failed.
TAKEN_AWAY = (Reason.NO_PHP, Reason.OPEN)


def of_account(rows: list[Service]) -> list[Service]:
    """The paid areas among an account's services."""
    return [row for row in rows if row.kind == "paidarea"]


def url(shop: Shop, account: Account, name: str, site: Service | None = None) -> str:
    """The address of an area."""
    return f"{certificates.url(shop, account, site)}{name}/"


def address(shop: Shop, account: Account, settings: dict) -> str:
    """The Lightning Address that makes the invoices."""
    if settings["mode"] == "site":
        return tips.lightning_address(shop, account)
    return settings["wallet_address"]


def settings_file(shop: Shop, account: Account, row: Service) -> bytes:
    """The gate's settings file; it holds no secret. Raises NodeError."""
    settings = services.settings_of(row)
    return onsite.settings_file(
        {
            "shop": shop.config.public_url,
            "site": hostnames.site_name(shop, account.username),
            "title": settings["title"] or None,
            "price_sat": settings["price_sat"],
            "seconds": settings["seconds"],
            "address": address(shop, account, settings),
            "keeps_site_online": settings["mode"] == "site",
            "programs_only": settings["programs_only"],
            "network": shop.node.invoices_begin_with(),
        }
    )
