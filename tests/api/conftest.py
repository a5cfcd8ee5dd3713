"""Programs that ask for alice's hosting: her own, bob's, and one without a credential."""

import pytest

from lightningspace.panel import reconcile
from lightningspace.rules import domains, orders, tokens, wanted
from tests.api.programs import GOOD, SITE, Program, paid_tip, program
from tests.conftest import open_account


@pytest.fixture
def owner(client, this_shop, alice):
    return program(client, this_shop, alice)


@pytest.fixture
def bob(client, this_shop):
    account = open_account(this_shop, "bobby")
    reconcile.account(this_shop, account.id)
    return program(client, this_shop, account)


@pytest.fixture
def stranger(client):
    return Program(client, None)


@pytest.fixture
def furnished(this_shop, alice) -> str:
    """Give alice's hosting one service of each kind; return the token of an unpaid order."""
    wanted.add(this_shop, alice.id, "mailbox", f"eve@{SITE}", GOOD)
    wanted.add(this_shop, alice.id, "forward", f"all@{SITE}", destination="alice@example.org")
    domains.add(this_shop, alice.id, "example.org", False)
    paid_tip(alice)
    buyer = orders.Buyer(None, "a form", tokens.RECEIPT)
    return orders.extend(this_shop, alice.id, 1, "hours", buyer).token
