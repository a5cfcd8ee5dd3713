"""Domains over the API."""

from lightningspace.base import clock
from lightningspace.base.models import Domain
from lightningspace.rules import domains, wanted
from tests.api.programs import API, paid, problem, wrong
from tests.conftest import invoices_asked_for

DOMAIN = "/hosting/domains/example.org"


def test_a_domain_is_claimed_checked_switched_and_given_up(owner, time_machine):
    answer = owner.post(
        "/hosting/domains", {"name": "https://www.Example.org/", "wants_mail": True}
    )
    assert (answer.status_code, answer.headers["Location"]) == (201, f"{API}{DOMAIN}")
    told = answer.json
    assert (told["name"], told["wants_mail"], told["web"]) == ("example.org", True, None)
    assert [each["type"] for each in told["records"]] == ["TXT", "ALIAS", "CNAME", "MX"]
    assert owner.get(DOMAIN).json == told
    Domain.update(look_at=clock.now() + 3600).execute()
    assert owner.post(f"{DOMAIN}/check").status_code == 202
    assert Domain.get().look_at <= clock.now() + domains.CHECK_SECONDS
    assert owner.patch(DOMAIN, {"wants_mail": False}).json["wants_mail"] is False
    assert owner.patch(DOMAIN, {}).json["wants_mail"] is False
    assert owner.patch(DOMAIN, {"wants_mail": True}).json["wants_mail"] is True
    removed = owner.delete(DOMAIN)
    assert (removed.status_code, removed.json) == (202, {"name": "example.org", "state": "going"})
    assert owner.get("/hosting/domains").json == {"domains": [], "domains_allowed": 1}
    for answer in (owner.get(DOMAIN), owner.delete(DOMAIN), owner.post(f"{DOMAIN}/check")):
        assert problem(answer) == (404, "unknown")


def test_a_wrong_domain_is_refused(owner):
    worst = ["x" * 5000, "exa\0mple.org", "\ud800.org", ["a.example"]]
    for name in (None, "", "localhost", "shop.test", *worst):
        assert wrong(owner.post("/hosting/domains", {"name": name})) == {"name"}, name


def test_a_domain_beyond_ascii_is_found_in_both_forms(owner):
    answer = owner.post("/hosting/domains", {"name": "müller.example"})
    assert answer.headers["Location"] == f"{API}/hosting/domains/xn--mller-kva.example"


def test_a_domain_is_claimed_once(owner, bob, this_shop, alice):
    owner.post("/hosting/domains", {"name": "example.org"})
    answer = owner.post("/hosting/domains", {"name": "example.org"})
    assert problem(answer) == (409, "taken")
    assert answer.json["detail"] == domains.MINE_ALREADY
    wanted.add(this_shop, alice.id, "alias", "example.org")
    answer = bob.post("/hosting/domains", {"name": "example.org"})
    assert (problem(answer), answer.json["detail"]) == ((409, "taken"), domains.TAKEN)


def test_one_more_domain_is_sold_and_then_added(client, owner, alice, wallet, worker, node):
    owner.post("/hosting/domains", {"name": "example.org"})
    body = {"name": "example.net", "wants_mail": False}
    answer = owner.post("/hosting/domains", body)
    assert answer.json["sale"]["size"]["extra_domains"] == 1
    buyer = paid(client, wallet, worker, answer)
    assert buyer.post("/hosting/domains", body).status_code == 201
    assert problem(buyer.post("/hosting/domains", body)) == (409, "taken")
    assert invoices_asked_for(node) == 1
