"""Mails to customers: each is written once, and stays a row until it is sent."""

import textwrap
from pathlib import Path
from urllib.parse import urlsplit

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from lightningspace import clock, ledger, wanted
from lightningspace.clock import now
from lightningspace.models import Account, Notice, Service, db
from lightningspace.shop import Shop

TEMPLATES = Path(__file__).parent.parent / "templates" / "mail"
# Whoever gets one of these may end all of them.
REMINDERS = ("ending", "suspended", "deletion", "blocked", "domain")
NO_BREAK = "\N{NO-BREAK SPACE}"  # until the lines are wrapped

_templates = Environment(
    loader=FileSystemLoader(TEMPLATES),
    undefined=StrictUndefined,
    autoescape=False,
    trim_blocks=True,
    lstrip_blocks=True,
)
_templates.filters |= {
    "clock_time": lambda seconds: clock.clock_time(seconds).replace(" ", NO_BREAK),
    "span": lambda seconds: clock.span(seconds).replace(" ", NO_BREAK),
}


def write(
    shop: Shop,
    account: Account,
    kind: str,
    about: int,
    recipient: str | None = None,
    channel: str = "email",
    **facts,
) -> bool:
    """Within a transaction: put a mail of templates/mail/<kind>.txt in the outbox.

    Of a kind such as "ending-7d" the first part names the template, and the whole tells it from
    the others of one end date.
    Each is written once for what it is about, such as an end date; False when it was. False as
    well without a recipient (which is the account's address, or for the channel "mailbox" its
    first mailbox) and where the shop sends no mail. `facts` are what the template asks for
    beside what the account itself tells.
    """
    if not db.in_transaction():
        raise RuntimeError("a mail is written in the transaction of what it speaks of")
    recipient = recipient or (account.email if channel == "email" else _first_mailbox(account))
    if not recipient or not shop.config.smtp_url:
        return False
    unsubscribe, template = None, kind.partition("-")[0]
    if template in REMINDERS and channel == "email":
        unsubscribe = unsubscribe_url(shop, account.id, recipient)
    subject, body = _render(template, _facts(shop, account) | facts | {"unsubscribe": unsubscribe})
    row = Notice.insert(
        account_id=account.id,
        kind=kind,
        about=about,
        channel=channel,
        recipient=recipient,
        subject=subject,
        body=body,
        unsubscribe=unsubscribe,
        written_at=now(),
        try_at=now(),
    )
    return row.on_conflict_ignore().as_rowcount().execute() == 1


def unsubscribe_url(shop: Shop, account_id: str, address: str) -> str:
    """The page that ends the reminders of this account to this address, for ever valid."""
    of_address = shop.vault.mac("reminders of", account_id, address)
    # The second makes it known as ours when the address, or the account, is gone.
    token = f"{account_id}-{of_address}-{shop.vault.mac('reminders', account_id, of_address)}"
    return f"{shop.config.public_url}/reminders/stop/{token}"


def _first_mailbox(account: Account) -> str | None:
    is_there = (Service.account == account.id) & (Service.kind == "mailbox") & ~Service.gone
    boxes = [row.name for row in Service.select().where(is_there).order_by(Service.name)]
    return min(boxes, key=lambda name: not name.startswith("info@"), default=None)


def _facts(shop: Shop, account: Account) -> dict:
    return {
        "public_url": shop.config.public_url,
        "shop_host": urlsplit(shop.config.public_url).hostname,
        "site": wanted.site_name(shop, account.username),
        "expires_at": account.expires_at,
        "closes_at": account.expires_at + ledger.grace_seconds(shop, account),
        "reason": account.blocked_reason,
        "now": now(),
    }


def _render(kind: str, facts: dict) -> tuple[str, str]:
    """Subject and text; the template's first line is the subject."""
    text = _templates.get_template("_mail.txt").render(kind=kind, **facts)
    subject, *lines = text.strip().splitlines()
    body = "\n".join(map(_wrapped, lines)).strip() + "\n"
    return subject.replace(NO_BREAK, " "), body.replace(NO_BREAK, " ")


def _wrapped(line: str) -> str:
    # A link stays in one piece.
    return textwrap.fill(line, 72, break_long_words=False, break_on_hyphens=False)
