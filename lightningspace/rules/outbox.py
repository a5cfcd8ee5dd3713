"""Mails to customers: each is written once, and tried until the mail server takes it."""

import logging
import re
import textwrap
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from peewee import fn

from lightningspace.base import clock, names
from lightningspace.base.clock import now
from lightningspace.base.models import (
    Account,
    MailPlace,
    Notice,
    Service,
    db,
    lock_account,
    transaction,
)
from lightningspace.base.prices import DAY
from lightningspace.outside.mail import MailError, MailRefused
from lightningspace.rules import hostnames, ledger
from lightningspace.shop import Shop

logger = logging.getLogger(__name__)

TEMPLATES = Path(__file__).parents[2] / "templates" / "mail"
# Each of these carries a link that ends them all.
REMINDERS = ("ending", "suspended", "deletion", "blocked", "domain")
# What these say is no longer true once the end has moved.
OF_THE_END = ("ending", "suspended", "deletion")

# How many mails one recipient gets in a day, over all accounts and kinds. Beside them each kind
# here has places of its own, so that no other mail can keep an owner from being told. One account
# may cause fewer of these: strangers can cause any number, for each tip of a sat moves its end by
# minutes.
PER_DAY = 20
KEPT_PER_DAY = {"confirm": 1, "recovery": 5, "wallet": 5, "suspended": 5, "deletion": 5}
OF_ONE_ACCOUNT = {"confirm": 5, "recovery": 2, "wallet": 2, "suspended": 2, "deletion": 2}

AT_ONCE = 1000
# How long a sender may take to report back: much longer than a mail can take.
CLAIM_SECONDS = 5 * 60
RETRY_SECONDS = 60
RETRY_SECONDS_MAX = 6 * 60 * 60
GIVE_UP_SECONDS = 5 * DAY
LATE_SECONDS = 60 * 60
WIPED = {"recipient": None, "subject": None, "body": None, "unsubscribe": None, "try_at": None}

NO_BREAK = "\N{NO-BREAK SPACE}"  # becomes a blank once the lines are wrapped
# A link has a line of its own.
IN_A_PARAGRAPH = re.compile(r"(?<=\S)\n(?!\n|https?://)")

_templates = Environment(
    loader=FileSystemLoader(TEMPLATES),
    undefined=StrictUndefined,
    autoescape=False,
    trim_blocks=True,
    lstrip_blocks=True,
)
_templates.globals["blank"] = NO_BREAK
_templates.filters |= {
    "day": clock.day,
    "sats": lambda msat: f"{-(-msat // 1000):,}",
    "clock_time": lambda seconds: clock.clock_time(seconds).replace(" ", NO_BREAK),
    "time_left": lambda seconds: clock.time_left(seconds).replace(" ", NO_BREAK),
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
    """Within a transaction: put a mail from templates/mail/<kind>.txt in the outbox.

    Of a kind such as "ending-7d" the first part names the template; the whole tells it from the
    other notices of the same end.

    Each kind is written once for what it is `about`, such as an end date. False: it was written
    before, or too many were today; there is no recipient (by default the account's confirmed
    address or, for the channel "mailbox", its first mailbox); or the shop sends no mail. `facts`:
    what the template needs beside the account's own facts.
    """
    if not db.in_transaction():
        raise RuntimeError("a mail is written in the transaction of what it speaks of")
    recipient = recipient or (account.email if channel == "email" else _first_mailbox(account))
    if not recipient or not shop.config.smtp_url:
        return False
    unsubscribe, template = None, _template(kind)
    key = {"account_id": account.id, "kind": kind, "about": about, "channel": channel}
    if Notice.get_or_none(**key) or not _takes_place(shop, template, recipient, account, channel):
        return False
    if template in REMINDERS and channel == "email":
        unsubscribe = unsubscribe_url(shop, account.id, recipient)
    subject, body = _render(template, _facts(shop, account) | facts | {"unsubscribe": unsubscribe})
    row = Notice.insert(
        **key,
        recipient=recipient,
        subject=subject,
        body=body,
        unsubscribe=unsubscribe,
        written_at=now(),
        try_at=now(),
    )
    return row.on_conflict_ignore().as_rowcount().execute() == 1


def _template(kind: str) -> str:
    return kind.partition("-")[0]


def _takes_place(shop: Shop, template: str, recipient: str, account: Account, channel: str) -> bool:
    """Within a transaction: count one more such mail; False: too many were written today."""
    mailbox = names.mailbox_of(recipient)
    if template not in KEPT_PER_DAY:
        return _take(shop.vault.mac("mails to", mailbox), PER_DAY)
    of_account = shop.vault.mac("mails of", account.id, channel, template)
    to_mailbox = shop.vault.mac("mails to", mailbox, template)
    has_place = _take(of_account, OF_ONE_ACCOUNT[template])
    return has_place and _take(to_mailbox, KEPT_PER_DAY[template])


def _take(for_whom: str, places: int) -> bool:
    moment, at = now(), MailPlace.taken_at
    # A place taken more than a day ahead was taken by a wrong clock.
    is_free = (at <= moment - DAY) | (at > moment + DAY)
    held = MailPlace.select(MailPlace.number).where((MailPlace.for_whom == for_whom) & ~is_free)
    # The query only saves tries; the write decides.
    for number in sorted(set(range(places)) - {place.number for place in held}):
        place = MailPlace.insert(for_whom=for_whom, number=number, taken_at=moment)
        taken = place.on_conflict(
            conflict_target=[MailPlace.for_whom, MailPlace.number],
            update={at: moment},
            where=is_free,
        )
        if taken.as_rowcount().execute() == 1:
            return True
    return False


def forget_places() -> None:
    """Forget whom we wrote to, as soon as it no longer counts against a limit."""
    MailPlace.delete().where(MailPlace.taken_at <= now() - DAY).execute()


def withdraw(account_id: str, *templates: str) -> None:
    """Within a transaction: drop unsent mails of these templates: they are no longer true."""
    unsent = (Notice.account_id == account_id) & Notice.try_at.is_null(False)
    for row in Notice.select().where(unsent):
        if _template(row.kind) in templates:
            Notice.update(WIPED).where(_this(row)).execute()


def take_back(account_id: str, about: int, *kinds: str) -> None:
    """Within a transaction: forget what a wrong clock told, so that it is told when it is true."""
    told = (Notice.account_id == account_id) & (Notice.about == about) & (Notice.kind << kinds)
    Notice.delete().where(told).execute()


def stop(account_id: str, is_meant: Callable[[str], bool] = lambda recipient: True) -> None:
    """Within a transaction: drop the account's unsent mails to addresses that are meant."""
    unsent = (Notice.account_id == account_id) & Notice.try_at.is_null(False)
    for row in Notice.select().where(unsent & (Notice.channel == "email")):
        if is_meant(row.recipient):
            _forget(row)


def unsubscribe_url(shop: Shop, account_id: str, address: str) -> str:
    """The page that ends this account's reminders to this address; valid for ever."""
    of_address = shop.vault.mac("reminders of", account_id, address)
    # The second hash proves the link ours when the address, or the account, is gone.
    token = f"{account_id}-{of_address}-{shop.vault.mac('reminders', account_id, of_address)}"
    return f"{shop.config.public_url}/reminders/stop/{token}"


def _first_mailbox(account: Account) -> str | None:
    is_there = (Service.account == account.id) & (Service.kind == "mailbox") & ~Service.gone
    boxes = [row.name for row in Service.select().where(is_there).order_by(Service.name)]
    return min(boxes, key=lambda name: not name.startswith("info@"), default=None)


def _facts(shop: Shop, account: Account) -> dict:
    return _facts_of_shop(shop) | {
        "site": hostnames.site_name(shop, account.username),
        "expires_at": account.expires_at,
        "closes_at": ledger.closes_at(shop, account),
        "reason": account.blocked_reason,
        "blocked_for": account.blocked_for,
        "now": now(),
    }


def _facts_of_shop(shop: Shop) -> dict:
    return {
        "public_url": shop.config.public_url,
        "shop_name": shop.config.shop_name,
        "shop_host": urlsplit(shop.config.public_url).hostname,
    }


def rendered(shop: Shop, kind: str, **facts) -> tuple[str, str]:
    """Subject and body of a mail that is about no account."""
    return _render(kind, _facts_of_shop(shop) | facts | {"unsubscribe": None})


def _render(kind: str, facts: dict) -> tuple[str, str]:
    """Subject and body; the template's first line is the subject.

    The lines of a paragraph are wrapped again, as values make them longer.
    """
    text = _templates.get_template("_mail.txt").render(kind=kind, **facts)
    subject, _, body = text.strip().partition("\n")
    paragraphs = IN_A_PARAGRAPH.sub(" ", body).strip().splitlines()
    body = "\n".join(map(_wrapped, paragraphs)) + "\n"
    return subject.replace(NO_BREAK, " "), body.replace(NO_BREAK, " ")


def _wrapped(line: str) -> str:
    # Links stay in one piece.
    return textwrap.fill(line, 72, break_long_words=False, break_on_hyphens=False)


# -- sending -------------------------------------------------------------------------


def send_due(shop: Shop, stopping: Callable[[], bool] = lambda: False) -> int:
    """Send what is due; return how many mails the server took. Any worker may call it any time."""
    sent = 0
    for row in _due():
        if stopping():
            break
        if not _claim(row):
            continue
        try:
            _send(shop, row)
        except MailError as error:
            _note_failure(row, str(error), error.permanent)
            if not isinstance(error, MailRefused):
                _put_off()
                break
        except Exception as error:  # of ours; its text may hold an address
            _note_failure(row, f"our fault: {type(error).__name__}")
        else:
            _note_sent(row)
            sent += 1
    return sent


def problems() -> list[str]:
    """For the operator: how many mails have waited for an hour, with the error of one of them."""
    is_late = Notice.try_at.is_null(False) & (Notice.written_at <= now() - LATE_SECONDS)
    late = Notice.select(
        fn.COUNT(Notice.account_id), fn.MIN(Notice.written_at), fn.MAX(Notice.error)
    ).where(is_late)
    count, since, error = late.tuples().get()
    if not count:
        return []
    why = error or "is the worker running?"
    return [f"mails not sent: {count}, the first since {clock.clock_time(since)}: {why}"]


def _due() -> list[Notice]:
    moment, at = now(), Notice.try_at
    # A mail due later than any retry was put off by a wrong clock.
    is_due = (at <= moment) | (at > moment + 2 * RETRY_SECONDS_MAX)
    # The least tried first: a mail at which the server hangs or hangs up ends the round.
    order = (Notice.tries, at, Notice.written_at)
    return list(Notice.select().where(is_due).order_by(*order).limit(AT_ONCE))


def _claim(row: Notice) -> bool:
    """Claim a mail, unless another worker has. If this one dies now, it is due again later."""
    claimed_until = now() + max(CLAIM_SECONDS, _wait(row.tries))
    claim = Notice.update(try_at=claimed_until, tries=Notice.tries + 1)
    if claim.where(_this(row) & (Notice.try_at == row.try_at)).execute() != 1:
        return False
    row.try_at, row.tries = claimed_until, row.tries + 1
    return True


def _send(shop: Shop, row: Notice) -> None:
    if shop.mailer is None:
        raise MailError("there is no SMTP_URL any more")
    # The same for every try, so that the recipient's server recognises a mail that comes twice.
    name = shop.vault.mac("mail", row.account_id, row.kind, str(row.about), row.channel)
    shop.mailer.send(row.recipient, row.subject, row.body, row.unsubscribe, name)


def _note_sent(row: Notice) -> None:
    _finish(row, sent_at=now(), error=None)
    logger.info("account %s: %s mail sent (%s)", row.account_id, row.kind, row.channel)


def _note_failure(row: Notice, text: str, permanent: bool = False) -> None:
    if permanent or now() - row.written_at >= GIVE_UP_SECONDS:
        _finish(row, error=text)
        logger.error("account %s: %s mail given up: %s", row.account_id, row.kind, text)
        return
    is_ours = _this(row) & (Notice.try_at == row.try_at)
    Notice.update(error=text, try_at=now() + _wait(row.tries - 1)).where(is_ours).execute()
    logger.warning("account %s: %s mail not sent yet: %s", row.account_id, row.kind, text)


def _finish(row: Notice, **facts) -> None:
    with transaction():
        _forget(row, **facts)


def _forget(row: Notice, **facts) -> None:
    """Wipe recipient and text; that it was written is kept as long as its account."""
    if lock_account(row.account_id):
        Notice.update(WIPED | facts).where(_this(row)).execute()
    else:
        Notice.delete().where(_this(row)).execute()


def _put_off() -> None:
    """The mail server is down: put off every mail that is due."""
    moment = now()
    Notice.update(try_at=moment + RETRY_SECONDS).where(Notice.try_at <= moment).execute()


def _wait(tries: int) -> int:
    return min(RETRY_SECONDS_MAX, RETRY_SECONDS * 2 ** min(tries, 20))


def _this(row: Notice):
    return (
        (Notice.account_id == row.account_id)
        & (Notice.kind == row.kind)
        & (Notice.about == row.about)
        & (Notice.channel == row.channel)
    )
