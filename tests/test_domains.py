"""Extra domains: nobody has one that is not theirs, and what is proven works."""

from dataclasses import replace

import pytest

from lightningspace import domains, hosting
from lightningspace.dns import Resolver
from lightningspace.models import Account, Domain, Service
from lightningspace.sandbox.dns import SandboxDns
from tests.conftest import open_account

DAY = 86400
NAME = "alice.example"


@pytest.fixture
def dns():
    stand_in = SandboxDns()
    stand_in.start()
    yield stand_in
    stand_in.stop()


@pytest.fixture
def shop(this_shop, dns):
    """The shop, asking the stand-in's name server."""
    return replace(this_shop, resolver=Resolver((dns.address,), seconds=0.3))


@pytest.fixture
def alice(shop, alice):
    return alice


@pytest.fixture
def bob(shop, panel):
    account = open_account(shop, "bob")
    hosting.reconcile(shop, account.id)
    return Account.get_by_id(account.id)


def prove(dns, account, name=NAME):
    dns.publish_text(domains.proof_name(name), domains.proof(account.id))


def wants(account, kind="alias", name=NAME):
    """The service, if it is wanted."""
    return Service.get_or_none(
        (Service.account == account.id)
        & (Service.kind == kind)
        & (Service.name == name)
        & ~Service.gone
    )


def claim(account, name=NAME) -> Domain:
    return Domain.get_or_none((Domain.account == account.id) & (Domain.name == name))


@pytest.fixture
def proven(shop, dns, alice, time_machine):
    """alice's domain, with mail."""
    domains.add(shop, alice.id, NAME, True)
    prove(dns, alice)
    dns.publish(NAME, "MX", "10 alice.shop.test.")
    domains.look(shop)
    assert wants(alice) and wants(alice, "mail_domain")


def test_a_proven_domain_works(shop, dns, alice, panel):
    domains.add(shop, alice.id, NAME, False)
    prove(dns, alice)
    assert domains.look(shop) == 1
    hosting.reconcile(shop, alice.id)
    assert wants(alice).panel_id
    assert claim(alice).verified_at and claim(alice).problem is None
