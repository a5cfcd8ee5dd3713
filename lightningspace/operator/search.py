"""Finding hostings and orders by what a customer, a wallet or a report of abuse names."""

import re

import click

from lightningspace.base import names
from lightningspace.base.models import Account, Order, Service
from lightningspace.rules import order_book
from lightningspace.shop import Shop

SHORT_TOKEN = 8  # as logs and invoices' descriptions have it
LISTED = 20


def hosting(username: str) -> Account | None:
    """The hosting of this name; None: there is none, or it was never opened."""
    # The rule first: PostgreSQL fails on a NUL.
    if not names.RULE.fullmatch(username):
        return None
    found = Account.get_or_none(Account.username == username)
    return found if found and found.opened_at is not None else None


def named(username: str) -> Account:
    """As `hosting`, for a command. Raises ClickException."""
    found = hosting(username)
    if found is None:
        raise click.ClickException(f"no account is called {username}")
    return found


def hostings(shop: Shop, typed: str) -> list[Account]:
    """By the name, the site's address, or a domain of the customer's own."""
    name = typed.lower().removesuffix(f".{shop.config.base_domain}")
    found = hosting(name)
    if found:
        return [found]
    try:
        domain = names.in_a_labels(name)
    except UnicodeError:
        return []
    if not names.is_domain(domain):
        return []
    alias = Service.get_or_none((Service.kind == "alias") & (Service.name == domain))
    return [alias.account] if alias else []


def orders(typed: str) -> list[Order]:
    """By the token or its first 8 characters, or by the payment hash."""
    text = typed.lower()
    if not re.fullmatch("[0-9a-f]+", text):
        return []
    if len(text) == SHORT_TOKEN:
        last = text + "f" * (order_book.TOKEN_LENGTH - SHORT_TOKEN)
        between = (Order.token >= text) & (Order.token <= last)
        return list(Order.select().where(between).order_by(Order.token).limit(LISTED))
    found = Order.get_or_none(Order.token == text) or Order.get_or_none(Order.payment_hash == text)
    return [found] if found else []
