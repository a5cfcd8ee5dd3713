"""Abuse: what hostings are blocked for, and the evidence."""

import secrets
from enum import StrEnum

from lightningspace.base import messages
from lightningspace.base.clock import now
from lightningspace.base.models import Account, Evidence, transaction
from lightningspace.base.prices import DAY
from lightningspace.rules import accounts
from lightningspace.shop import Shop

NOTE_MAX = 64 * 1024


class Category(StrEnum):
    """What a hosting is blocked for, as its customer reads it."""

    SPAM = "spam"
    PHISHING = "phishing"
    MALWARE = "malware"
    ATTACKS = "attacks"
    ILLEGAL = "illegal content"
    COPYRIGHT = "copyright"
    OVERUSE = "overuse"
    OTHER = "other"


def block(account_id: str, category: Category, reason: str, note: str = "") -> None:
    """Block an account. `reason`: for the customer; `note`: the evidence, for the operator alone.

    Raises wanted.AccountClosed.
    """
    # An attacker may have written some of it, and `flask evidence` shows it on a terminal.
    note = messages.in_lines(note[:NOTE_MAX])
    with transaction():
        accounts.block(account_id, reason, category)
        if note:
            Evidence.create(
                id=secrets.token_hex(8),
                username=Account.get_by_id(account_id).username,
                category=category,
                note=note,
                noted_at=now(),
            )


def evidence(username: str) -> list[Evidence]:
    """What was noted about hostings of this name, the latest first."""
    rows = Evidence.select().where(Evidence.username == username)
    return list(rows.order_by(Evidence.noted_at.desc()))


def wipe_evidence(shop: Shop) -> None:
    """Delete what is older than EVIDENCE_DAYS."""
    Evidence.delete().where(Evidence.noted_at <= now() - shop.config.evidence_days * DAY).execute()
