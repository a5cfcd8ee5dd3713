"""An entry of `stored.STORED`: what it belongs to, and when it is deleted."""

from dataclasses import dataclass
from enum import StrEnum


class Group(StrEnum):
    """What an entry belongs to, as visitors see it; in this order."""

    HOSTING = "Your hosting"
    PAYMENTS = "Orders and payments"
    LOGINS = "Logins"
    TIPS = "Tips"
    MAIL = "Mails from us"
    DOMAINS = "Your domains"
    GATE = "What you paid for at the gate"
    SHOP = "The shop itself"


class Until(StrEnum):
    """When an entry is deleted; templates/about/_until.html says it in words."""

    HOSTING = "hosting"
    NAME_RESTED = "name rested"
    NAME_PAID = "name paid"
    NAME_NOT_HELD = "name not held"
    ADDRESS_REMOVED = "address removed"
    PASSWORD_NOTED = "password noted"
    PASSWORD_APPLIED = "password applied"
    LOGGED_OUT = "logged out"
    REVOKED = "revoked"
    REMOVED = "removed"
    UPLOAD_OVER = "upload over"
    UNPROVEN = "unproven"
    MAIL_SENT = "mail sent"
    A_DAY = "a day"
    A_WEEK = "a week"
    TEN_YEARS = "ten years"
    ORDER_OVER = "order over"
    INVOICE_OVER = "invoice over"
    PAID_BACK = "paid back"
    DETACHED = "detached"
    GATE_OVER = "gate over"
    DISK_OVER = "disk over"
    EVIDENCE = "evidence"
    NEVER = "never"


@dataclass(frozen=True, eq=False)
class Entry:
    """Columns that are one thing to people. `columns`: by table, separated by blanks.

    `is_shown` False: even its owner is only told that it is stored, because whoever saw it could
    use it, or because it is about the operator's servers.
    """

    group: Group
    what: str
    why: str
    until: Until
    columns: dict[str, str]
    is_shown: bool = True

    @property
    def names(self) -> list[tuple[str, str]]:
        """Each of its columns, with its table."""
        return [(table, name) for table, names in self.columns.items() for name in names.split()]
