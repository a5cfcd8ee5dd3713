"""The table of everything that is stored matches the schema."""

import re
from collections import Counter

from lightningspace.base import schema
from lightningspace.rules.stored import STORED, by_group
from lightningspace.rules.stored_entry import Group, Until
from tests.conftest import ROOT


def columns_of_schema() -> set[tuple[str, str]]:
    """Each table and column in schema.sql."""
    text = re.sub(r"--.*", "", schema.SCHEMA.read_text())
    tables = re.findall(r"CREATE TABLE (\w+) \((.*?)\n\);", text, re.S)
    return {
        (table, name)
        for table, body in tables
        for name in re.findall(r"^  ([a-z_0-9]+) +[A-Z]+\b", body, re.M)
    }


def test_every_column_of_the_schema_is_described_once():
    told = Counter(name for entry in STORED for name in entry.names)
    assert told.keys() == columns_of_schema()
    assert [name for name, times in told.items() if times > 1] == []


def test_secrets_are_not_shown():
    """Hashes, sealed passwords, and numbers in cookies, tokens and links."""
    shown = {f"{table}.{name}" for each in STORED if each.is_shown for table, name in each.names}
    secret = {"sessions.id", "tokens.id", "orders.token", "orders.invoice_hash", "orders.bolt11"}
    secret |= {"orders.browser", "orders.asked", "orders.attempt", "orders.held_name"}
    secret |= {"accounts.held_by", "notices.body", "notices.unsubscribe", "mail_places.for_whom"}
    assert not shown & secret
    assert [name for name in shown if re.search("password|sealed|_hash$", name)] == [
        "orders.payment_hash"  # the page of payments shows it, too
    ]


def test_every_group_has_entries_and_every_until_has_a_text():
    assert all(by_group().values()) and list(by_group()) == list(Group)
    words = (ROOT / "templates/about/_until.html").read_text()
    said = re.findall(r'until == "([^"]+)"', words)
    assert sorted(said) == sorted(Until)
    assert {entry.until for entry in STORED} == set(Until)
