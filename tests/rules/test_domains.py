"""Extra domains: nobody gets a domain that is not theirs, and a proven one works."""

import html
import re
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lightningspace.base import clock, names
from lightningspace.base.models import Account, Domain, Notice, Service
from lightningspace.outside.dns import Resolver
from lightningspace.panel import reconcile
from lightningspace.rules import accounts, domain_checks, domains, wanted
from lightningspace.sandbox.program import buttons
from lightningspace.worker import Worker
from tests.conftest import at_once, csrf_token, log_in, open_account, with_settings

DAY = 86400
NAME = "alice.example"
SITE = "alice.shop.test"
NUL = "\\000"  # as written in zone files


@pytest.fixture
def shop(this_shop, dns):
    """The shop, which asks the stand-in name server."""
    return replace(this_shop, resolver=Resolver((dns.address,), seconds=5))


@pytest.fixture
def alice(shop, alice):
    return alice


@pytest.fixture
def bob(shop, panel):
    account = open_account(shop, "bob")
    reconcile.account(shop, account.id)
    return Account.get_by_id(account.id)


def prove(dns, account, name=NAME):
    dns.publish_text(domains.proof_name(name), domains.proof(account.id))


def wants(account, kind="alias", name=NAME):
    """The account's service of this kind and name, if it is wanted."""
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
    """alice's proven domain, with mail."""
    domains.add(shop, alice.id, NAME, True)
    prove(dns, alice)
    dns.publish(NAME, "MX", "10 alice.shop.test.")
    domain_checks.look(shop)
    assert wants(alice) and wants(alice, "mail_domain")


def test_a_proven_domain_works(shop, dns, alice, panel):
    domains.add(shop, alice.id, NAME, False)
    prove(dns, alice)
    assert domain_checks.look(shop) == 1
    reconcile.account(shop, alice.id)
    assert wants(alice).panel_id
    assert claim(alice).verified_at and claim(alice).problem is None


def step_days(shop, time_machine, days):
    """Let that many days pass, with a look-up each day."""
    for _ in range(days):
        time_machine.forward(DAY)
        Domain.update(look_at=int(time_machine.moment)).execute()
        domain_checks.look(shop)


def look_again(shop, account, time_machine):
    """Look up now, as "Check now" does."""
    time_machine.forward(domains.CHECK_SECONDS)
    domains.check_now(account.id, NAME)
    domain_checks.look(shop)


# -- whose a domain is ---------------------------------------------------------------


def test_a_claim_without_proof_has_no_effect(shop, dns, alice):
    domains.add(shop, alice.id, NAME, True)
    dns.publish(NAME, "MX", "10 alice.shop.test.")
    domain_checks.look(shop)
    assert not wants(alice) and not wants(alice, "mail_domain")
    assert claim(alice).verified_at is None
    assert claim(alice).problem == "We found no TXT record at _lightning-space.alice.example."


def test_the_proof_of_one_account_does_not_count_for_another(shop, dns, alice, bob):
    prove(dns, alice)
    domains.add(shop, bob.id, NAME, False)
    domain_checks.look(shop)
    assert not wants(bob)
    assert "has another value" in claim(bob).problem


def test_a_proof_at_another_name_does_not_count(shop, dns, alice):
    for where in (NAME, f"_lightning-space.www.{NAME}", "_lightning-space.example", f"x.{NAME}"):
        dns.publish_text(where, domains.proof(alice.id))
    domains.add(shop, alice.id, NAME, False)
    domain_checks.look(shop)
    assert not wants(alice)


def test_a_proof_is_compared_as_a_whole(shop, dns, alice):
    proof = domains.proof(alice.id)
    texts = (f"x{proof}", f"{proof}x", f"v=spf1 {proof}", f"{proof} {proof}", proof.upper())
    dns.publish(domains.proof_name(NAME), "TXT", *(f'"{text}"' for text in texts))
    domains.add(shop, alice.id, NAME, False)
    domain_checks.look(shop)
    assert not wants(alice)
    found = (f"{proof.upper()}", f"{proof} {proof}", f"{proof}x")
    assert f": {', '.join(f'“{text}”' for text in found)}." in claim(alice).problem


MANGLED = [
    '"{proof}"',
    "'{proof}'",
    '\\"{proof}\\"',
    "“{proof}”",
    "&quot;{proof}&quot;",
    "{proof}.",
    " {proof};",
    "\N{NO-BREAK SPACE}{proof}\N{ZERO WIDTH SPACE}",
    "lightning-space = {token}",
    "lightning-space\\={token}",
    "{token}",
    'TXT "{proof}"',
    "_lightning-space={proof}",
    "_lightning-space.{name}: {proof}",
    '_lightning-space.{name}. 300 IN TXT "{proof}"',
]


@with_settings(DOMAINS_INCLUDED="20")
def test_a_proof_counts_as_dns_forms_write_it(shop, dns, alice):
    proof, token = domains.proof(alice.id), domains.token(alice.id)
    texts = {f"alice{number}.example": text for number, text in enumerate(MANGLED)}
    for name, text in texts.items():
        text = text.format(name=name, proof=proof, token=token)
        dns.publish_text(domains.proof_name(name), text)
        domains.add(shop, alice.id, name, False)
    domain_checks.look(shop)
    assert [text for name, text in texts.items() if not wants(alice, name=name)] == []


@pytest.mark.parametrize(
    ("name", "place", "to_write"),
    [
        (NAME, f"_lightning-space.{NAME}.{NAME}", "_lightning-space"),
        (NAME, NAME, f"_lightning-space.{NAME}"),
        (f"shop.{NAME}", f"_lightning-space.shop.{NAME}.{NAME}", "_lightning-space.shop"),
    ],
)
def test_a_proof_at_the_wrong_name_is_reported(shop, dns, alice, name, place, to_write):
    dns.publish_text(place, f'"{domains.proof(alice.id)}"')
    domains.add(shop, alice.id, name, False)
    domain_checks.look(shop)
    assert not wants(alice, name=name)
    at = domains.proof_name(name)
    told = f"We found your TXT record at {place}, not at {at}: write {to_write} as its name."
    assert claim(alice, name).problem == told


@pytest.mark.each_database
def test_found_records_are_shown_as_one_line_of_text(shop, dns, alice):
    dns.publish(domains.proof_name(NAME), "TXT", '"<b>\\000\\226\\128\\174"', f'"{"x" * 250}"')
    domains.add(shop, alice.id, NAME, False)
    domain_checks.look(shop)
    assert claim(alice).problem.endswith(f"another value: “<b>”, “{'x' * 100}”.")


def in_words(page: str) -> str:
    return " ".join(html.unescape(re.sub("<[^>]+>", "", page)).split())


ADDRESSES = {
    "here": ({"A": ["192.0.2.1"]}, "✓ Found."),
    "here, by a CNAME": ({"CNAME": [f"{SITE}."]}, "✓ Found."),
    "elsewhere": (
        {"A": ["203.0.113.7"], "AAAA": ["2001:db8::7"]},
        "Found: points to 203.0.113.7, 2001:db8::7, not to us.",
    ),
    "here and elsewhere": (
        {"A": ["203.0.113.7", "192.0.2.1"]},
        "Found: points to 203.0.113.7, beside us.",
    ),
    "nowhere": ({}, "Found: leads nowhere yet."),
    "everywhere": (
        {"A": [f"10.0.{number // 250}.{number % 250}" for number in range(3000)]},
        "Found: points to 10.0.0.0, 10.0.0.1, 10.0.0.10 and 2997 more, not to us.",
    ),
    "in a circle": ({"CNAME": [f"{NAME}."]}, "We do not know where it points."),
    "to a circle of two": ({"CNAME": [f"x.{NAME}."]}, "We do not know where it points."),
}


def test_the_domains_addresses_are_shown_beside_the_wanted_ones(
    client, shop, dns, alice, time_machine, subtests
):
    log_in(client, "alice", "correct horse")
    domains.add(shop, alice.id, NAME, False)
    assert "Found" not in in_words(client.get("/account/domains").text)
    dns.publish(SITE, "A", "192.0.2.1")
    dns.publish(SITE, "AAAA", "2001:db8::1")
    dns.publish(f"x.{NAME}", "CNAME", f"{NAME}.")
    for case, (records, said) in ADDRESSES.items():
        for kind in ("A", "AAAA", "CNAME"):
            dns.publish(NAME, kind, *records.get(kind, []))
        look_again(shop, alice, time_machine)
        page = in_words(client.get(f"/account/domains/{NAME}/status").text)
        with subtests.test(case):
            assert said in page
            assert "or A 192.0.2.1 Copy or AAAA 2001:db8::1 Copy" in page


def test_a_record_with_the_zone_added_twice_is_explained(client, shop, dns, alice):
    log_in(client, "alice", "correct horse")
    dns.publish(SITE, "A", "192.0.2.1")
    dns.publish(f"{NAME}.{NAME}", "A", "192.0.2.1")
    domains.add(shop, alice.id, NAME, False)
    domain_checks.look(shop)
    page = in_words(client.get("/account/domains").text)
    assert f"our addresses at {NAME}.{NAME}, because the DNS form adds your domain" in page
    assert "There, enter @ as the name, or nothing." in page


def test_a_domain_that_leads_elsewhere_is_not_said_to_show_the_site(
    client, shop, dns, alice, panel, time_machine
):
    log_in(client, "alice", "correct horse")
    dns.publish(SITE, "A", "192.0.2.1")
    dns.publish(NAME, "A", "203.0.113.7")
    domains.add(shop, alice.id, NAME, False)
    prove(dns, alice)
    domain_checks.look(shop)
    reconcile.account(shop, alice.id)
    assert claim(alice).look_at == int(time_machine.moment) + 60
    page = in_words(client.get("/account/domains").text)
    assert "Web points to 203.0.113.7, not to us" in page and "/, shows" not in page
    dns.publish(NAME, "A", "192.0.2.1")
    time_machine.forward(60)
    domain_checks.look(shop)
    reconcile.account(shop, alice.id)
    assert f"http://{NAME}/ shows your site" in in_words(client.get("/account/domains").text)


def test_missing_records_are_no_problem_in_the_first_hour(client, shop, alice, bob, time_machine):
    log_in(client, "alice", "correct horse")
    domains.add(shop, alice.id, NAME, True)
    missing = f"We found no TXT record at _lightning-space.{NAME}."
    for minute, is_problem in ((0, False), (59, False), (60, True)):
        Domain.update(look_at=0).execute()
        time_machine.moment = Domain.get().added_at + 60 * minute
        domain_checks.look(shop)
        page = client.get("/account/domains").text
        assert (f'<p class="problem">{missing}' in page) == is_problem
        assert (f"<p>So far: {missing}" in page) != is_problem


def test_impossible_records_are_a_problem_at_once(client, shop, dns, alice, bob, time_machine):
    log_in(client, "alice", "correct horse")
    domains.add(shop, alice.id, NAME, False)
    wanted.add(shop, bob.id, "alias", NAME)
    prove(dns, alice)
    domain_checks.look(shop)
    assert '<p class="problem">Another customer here' in client.get("/account/domains").text


def test_the_longest_name_leaves_no_room_for_a_doubled_zone(shop, dns, alice):
    name = ".".join(["x" * 60, "y" * 60, "z" * 60, "w" * (domains.NAME_MAX - 186), "ab"])
    assert len(name) == domains.NAME_MAX
    domains.add(shop, alice.id, name, True)
    domain_checks.look(shop)
    assert "We found no TXT record at" in claim(alice, name).problem


def test_proofs_of_several_accounts_can_be_published_together(shop, dns, alice, bob):
    texts = [f'"{domains.proof(each.id)}"' for each in (bob, alice)]
    dns.publish(domains.proof_name(NAME), "TXT", '"something else"', *texts)
    domains.add(shop, alice.id, NAME, False)
    domain_checks.look(shop)
    assert wants(alice)


def test_a_live_domain_cannot_be_claimed_by_another(shop, alice, bob, proven):
    with pytest.raises(wanted.NameInUse, match="Another customer"):
        domains.add(shop, bob.id, NAME, False)


def test_claims_without_proof_hold_up_nobody(shop, dns, alice, bob):
    domains.add(shop, alice.id, NAME, False)
    domains.add(shop, bob.id, NAME, False)
    prove(dns, bob)
    domain_checks.look(shop)
    assert wants(bob) and not wants(alice)


def both_proven(dns, alice, bob):
    texts = [f'"{domains.proof(each.id)}"' for each in (alice, bob)]
    dns.publish(domains.proof_name(NAME), "TXT", *texts)


def test_of_two_accounts_with_proofs_one_has_the_domain(shop, dns, alice, bob, time_machine):
    domains.add(shop, alice.id, NAME, False)
    time_machine.forward(1)
    domains.add(shop, bob.id, NAME, False)
    both_proven(dns, alice, bob)
    domain_checks.look(shop)
    assert wants(alice) and not wants(bob)
    assert claim(bob).problem == domains.TAKEN and claim(bob).verified_at is None

    prove(dns, bob)
    step_days(shop, time_machine, 13)
    assert wants(alice) and not wants(bob)
    step_days(shop, time_machine, 2)
    reconcile.account(shop, alice.id)
    step_days(shop, time_machine, 1)
    assert wants(bob) and not wants(alice)
    assert claim(bob).problem is None


@pytest.mark.each_database
def test_of_two_simultaneous_proofs_one_gets_the_domain(shop, alice, bob):
    yes = domain_checks.Answer(True, is_whole=True)
    for each in (alice, bob):
        domains.add(shop, each.id, NAME, False)
    at_once(
        lambda: domain_checks._note(shop, claim(alice), yes),
        lambda: domain_checks._note(shop, claim(bob), yes),
    )
    assert bool(wants(alice)) != bool(wants(bob))
    loser = bob if wants(alice) else alice
    assert (claim(loser).problem, claim(loser).verified_at) == (domains.TAKEN, None)


def test_a_look_up_begun_before_the_removal_proves_nothing(shop, dns, alice):
    domains.add(shop, alice.id, NAME, False)
    asked = claim(alice)
    domains.remove(alice.id, NAME)
    domain_checks._note(shop, asked, domain_checks.Answer(True, is_whole=True))
    assert not wants(alice) and not claim(alice)


@with_settings(SERVER_HOSTS="panel.hoster.example", MAIL_FROM="shop@Mail.example")
def test_a_name_of_the_shop_is_refused(shop, alice):
    hosts = ["panel.hoster.example", "hoster.example", "mail.example", "a.mail.example"]
    for name in ["shop.test", "bob.shop.test", "mail.bob.shop.test", "www.shop.test", *hosts]:
        with pytest.raises(ValueError, match="shop's own"):
            domains.add(shop, alice.id, name, False)
    assert domains.add(shop, alice.id, "letters-mail.example", False)


@with_settings(SMTP_URL="smtp://email:25")
def test_a_host_of_the_local_network_reserves_no_domain(shop, alice):
    assert domains.add(shop, alice.id, "example.email", False)


def test_a_name_that_became_the_shops_since_is_not_given(shop, dns, alice):
    domains.add(shop, alice.id, NAME, False)
    prove(dns, alice)
    domain_checks.look(replace(shop, config=replace(shop.config, mail_from=f"shop@{NAME}")))
    assert not wants(alice)
    assert claim(alice).problem == domain_checks.REFUSED


# -- who may have how many -----------------------------------------------------------


@pytest.mark.each_database
def test_no_more_domains_than_paid_for_even_at_once(shop, alice):
    def add(name):
        try:
            return domains.add(shop, alice.id, name, False)
        except wanted.NoneLeft:
            return None

    added = at_once(*(lambda n=n: add(f"alice{n}.example") for n in range(4)))
    assert len(domains.of(alice.id)) == len(list(filter(None, added))) == 1


@with_settings(DOMAINS_INCLUDED="0")
def test_paid_domains_add_to_the_included_ones(shop, alice):
    with pytest.raises(wanted.NoneLeft):
        domains.add(shop, alice.id, NAME, False)
    Account.update(extra_domains=1).execute()
    assert domains.add(shop, alice.id, NAME, False) == NAME


@with_settings(DOMAINS_INCLUDED="5")
def test_the_same_domain_twice_is_refused_however_it_is_written(shop, alice, bob):
    domains.add(shop, alice.id, NAME, False)
    for again in (NAME, "HTTPS://www.Alice.example./"):
        with pytest.raises(wanted.NameInUse, match="already"):
            domains.add(shop, alice.id, again, False)


def test_an_account_that_is_missing_unready_or_closed_gets_no_domain(shop, alice):
    with pytest.raises(wanted.AccountClosed):
        domains.add(shop, "nobody", NAME, False)
    with pytest.raises(wanted.AccountNotReady):
        domains.add(shop, open_account(shop, "bob").id, NAME, False)
    accounts.close(alice.id)
    for call in (
        lambda: domains.add(shop, alice.id, NAME, False),
        lambda: domains.remove(alice.id, NAME),
        lambda: domains.set_mail(shop, alice.id, NAME, True),
    ):
        with pytest.raises(wanted.AccountClosed):
            call()


def test_a_closing_account_gets_nothing_until_a_payment_takes_it_back(shop, dns, alice):
    domains.add(shop, alice.id, NAME, False)
    prove(dns, alice)
    accounts.close(alice.id)
    domain_checks.look(shop)
    assert not wants(alice)
    Account.update(closing_at=None).execute()
    Domain.update(look_at=0).execute()
    domain_checks.look(shop)
    assert wants(alice)


def test_a_closed_account_leaves_no_claim(shop, alice, proven):
    accounts.close(alice.id)
    reconcile.account(shop, alice.id)
    assert Domain.select().count() == 0


def test_a_suspended_account_has_its_domain_switched_off(shop, dns, alice, panel):
    accounts.suspend(alice.id)
    domains.add(shop, alice.id, NAME, False)
    prove(dns, alice)
    domain_checks.look(shop)
    reconcile.account(shop, alice.id)
    assert [alias["active"] for alias in panel.records("alias")] == ["n"]


# -- what people type ----------------------------------------------------------------


def test_domains_are_understood_however_people_write_them(subtests):
    for typed, name in [
        ("example.org", "example.org"),
        ("  Example.ORG.  ", "example.org"),
        ("https://www.example.org/shop?x=y#z", "example.org"),
        ("HTTP://example.org", "example.org"),
        ("example.org/", "example.org"),
        ("www.example.org", "example.org"),
        ("WWW.bücher.example", "xn--bcher-kva.example"),
        ("BÜCHER.example", "xn--bcher-kva.example"),
        ("bu\u0308cher.example", "xn--bcher-kva.example"),
        ("xn--bcher-kva.example", "xn--bcher-kva.example"),
        ("faß.example", "xn--fa-hia.example"),
        ("例え。example", "xn--r8jz45g.example"),
        ("shop.example.co.uk", "shop.example.co.uk"),
        ("пример.рф", "xn--e1afmkfd.xn--p1ai"),
        ("xn--sw8hj0a.ws", "xn--sw8hj0a.ws"),
        ("XN--SW8HJ0A.WS.", "xn--sw8hj0a.ws"),
        ("https://🍕.ws/", "xn--vi8h.ws"),
        ("i❤️.ws", "xn--i-7iq.ws"),
        ("🩷.ws", "xn--1z9h.ws"),
        ("ａｂｃ。example", "abc.example"),
        ("\u200bexample.org\u00a0", "example.org"),
        ("<http://example.org>,", "example.org"),
        ("“example.org”", "example.org"),
        ("http:/example.org", "example.org"),
        ("//example.org\\", "example.org"),
        ("https://me:secret@www.example.org:8443/a@b", "example.org"),
        ("example.org:8080", "example.org"),
        ("www.com", "www.com"),
        ("WWW.www.com", "www.com"),
        ("163.com", "163.com"),
    ]:
        with subtests.test(typed=typed, name=name):
            assert domains.normalise(typed) == name


WORST = [
    *("", " ", ".", "..", "a..b", ".example.org", "example", "localhost", "www", "com"),
    *("\0", "a\0.example", "a\nb.example", "a b.example", "*.example.org", "_dmarc.example.org"),
    *(
        "192.0.2.1",
        "[2001:db8::1]",
        "::1",
        "example.1",
        "info@example.org",
        "mailto:info@example.org",
    ),
    *(
        "ab--cd.example",
        "xn--0.example",
        "xn--a-ecp.example",
        "xn--.example",
        "xn--a.example",
        "xn--\0.example",
        "xn--zz-.example",
    ),
    *("-a.example", "a-.example", "a--.-b.example", "\u202eexample.org", "exam\u200dple.org"),
    *("x" * 64 + ".example", "x." * 127 + "example", "x" * 10_000, "." * 10_000, "ü" * 10_000),
    *(
        "www." * 3 + "example.org",
        "javascript:alert(1)",
        "<b>.example",
        "'; DROP TABLE domains; --",
    ),
    *("\ud800.example", "a" * 63 + "." + "b" * 63 + "." + "c" * 63 + "." + "d" * 40 + ".example"),
]

# The beginnings of the refusals, which say what to enter instead.
REFUSALS = ("Enter ", "This is an e-mail address", "The server takes no", "We can use")


def test_nonsense_is_refused_with_advice(subtests):
    for typed in WORST:
        with subtests.test(typed=typed):
            with pytest.raises(ValueError, match="|".join(REFUSALS)) as refused:
                domains.normalise(typed)
            assert type(refused.value) is ValueError


def test_input_that_is_something_else_is_called_by_its_name(subtests):
    for typed, sentence in [
        ("info@example.org", domains.MAIL_ADDRESS),
        ("mailto:info@example.org", domains.MAIL_ADDRESS),
        ("*.example.org", domains.WILDCARD),
        ("ab--cd.example", domains.HYPHENS),
        ("example", domains.NO_DOMAIN),
    ]:
        says = pytest.raises(ValueError, match=f"^{re.escape(sentence)}$")
        with subtests.test(typed=typed), says:
            domains.normalise(typed)


@settings(max_examples=200, deadline=None)
@given(st.one_of(st.text(), st.from_regex(r"\A(xn--[a-z0-9-]*|[^\0]{1,5})\.(example|org)\Z")))
def test_any_input_becomes_a_domain_or_is_refused(typed):
    try:
        name = domains.normalise(typed)
    except ValueError as refused:
        assert str(refused).startswith(REFUSALS)
    else:
        assert names.is_domain(name) and domains.normalise(name) == name
        assert domains.normalise(names.in_unicode(name)) == name


def test_a_domain_that_was_not_claimed_is_unknown(shop, alice):
    for name in [*WORST, "no.such.example"]:
        for call in (
            lambda name=name: domains.check_now(alice.id, name),
            lambda name=name: domains.remove(alice.id, name),
            lambda name=name: domains.set_mail(shop, alice.id, name, True),
        ):
            with pytest.raises(wanted.UnknownService):
                call()


def test_a_domain_is_read_in_its_own_script():
    assert names.in_unicode("xn--bcher-kva.example") == "bücher.example"
    assert names.in_unicode("xn--zzzzzzzzz.example") == "xn--zzzzzzzzz.example"
    assert names.in_unicode("example.org") == "example.org"


@pytest.mark.parametrize("name", ["xn--bcher-kva.example", "xn--sw8hj0a.example"])
def test_a_domain_of_another_script_works(shop, dns, alice, panel, name):
    assert domains.add(shop, alice.id, name, False) == name
    prove(dns, alice, name)
    domain_checks.look(shop)
    reconcile.account(shop, alice.id)
    assert [alias["domain"] for alias in panel.records("alias")] == [name]


# -- what is lost, and what is not ---------------------------------------------------


def test_a_lost_proof_first_ends_mail_and_then_the_domain(
    shop, dns, alice, time_machine, proven, caplog
):
    dns.publish(domains.proof_name(NAME), "TXT")
    domains.check_now(alice.id, NAME)
    time_machine.forward(10)
    domain_checks.look(shop)
    missing_at = claim(alice).missing_at
    assert missing_at == int(time_machine.moment)
    assert domains.mail_ends_at(claim(alice)) == missing_at + 3 * DAY

    step_days(shop, time_machine, 2)
    assert wants(alice, "mail_domain").active
    step_days(shop, time_machine, 1)
    assert not wants(alice, "mail_domain").active
    step_days(shop, time_machine, 10)
    assert wants(alice) and claim(alice).missing_at == missing_at
    assert domains.ends_at(claim(alice)) == missing_at + 14 * DAY
    step_days(shop, time_machine, 1)
    assert not wants(alice) and not wants(alice, "mail_domain")

    row = claim(alice)
    assert (row.verified_at, row.missing_at) == (None, None)
    assert row.problem.startswith(domain_checks.LOST)
    step_days(shop, time_machine, 29)
    assert claim(alice).problem.startswith(domain_checks.LOST)
    assert NAME not in caplog.text
    step_days(shop, time_machine, 2)
    assert claim(alice) is None


def test_a_proof_that_comes_back_in_time_loses_nothing(shop, dns, alice, time_machine, proven):
    wanted.add(shop, alice.id, "mailbox", f"info@{NAME}")
    dns.publish(domains.proof_name(NAME), "TXT")
    step_days(shop, time_machine, 13)
    assert not wants(alice, "mail_domain").active
    prove(dns, alice)
    step_days(shop, time_machine, 1)
    row = claim(alice)
    assert (row.missing_at, row.problem) == (None, None)
    assert wants(alice, "mail_domain").active
    assert wants(alice, "mailbox", f"info@{NAME}")


def test_a_lost_domain_can_be_proven_again(shop, dns, alice, time_machine, proven):
    dns.publish(domains.proof_name(NAME), "TXT")
    step_days(shop, time_machine, 15)
    reconcile.account(shop, alice.id)
    prove(dns, alice)
    step_days(shop, time_machine, 1)
    assert wants(alice) and wants(alice, "mail_domain").active
    assert claim(alice).problem is None


@pytest.mark.parametrize("is_missing", [False, True])
def test_while_dns_is_down_nothing_changes(shop, dns, alice, time_machine, proven, is_missing):
    if is_missing:
        dns.publish(domains.proof_name(NAME), "TXT")
        dns.publish(NAME, "MX")
        step_days(shop, time_machine, 1)
    before = claim(alice).missing_at
    for fault in ("servfail", "referral"):
        dns.fault = fault
        step_days(shop, time_machine, 10)
    dns.fault = None
    assert claim(alice).missing_at == before
    assert wants(alice) and wants(alice, "mail_domain").active
    # The first answer afterwards does not count the days without an answer, either.
    step_days(shop, time_machine, 1)
    assert wants(alice) and wants(alice, "mail_domain").active


def test_a_worker_that_slept_or_a_clock_that_jumped_loses_nothing(
    shop, dns, alice, time_machine, proven
):
    dns.publish(domains.proof_name(NAME), "TXT")
    step_days(shop, time_machine, 1)
    for days in (40, -40, 365):
        time_machine.forward(days * DAY)
        domain_checks.look(shop)
        assert wants(alice), days


def test_a_clock_that_was_ahead_does_not_end_the_look_ups(shop, dns, alice, time_machine):
    time_machine.forward(1000 * DAY)
    domains.add(shop, alice.id, NAME, False)
    domain_checks.look(shop)
    time_machine.forward(-1000 * DAY)
    prove(dns, alice)
    domain_checks.look(shop)
    assert wants(alice)


def test_a_claim_without_proof_is_forgotten_after_a_month(shop, alice, time_machine):
    domains.add(shop, alice.id, NAME, False)
    step_days(shop, time_machine, 29)
    assert claim(alice)
    step_days(shop, time_machine, 1)
    assert not claim(alice)


@with_settings(SMTP_URL="smtp://localhost:1", DOMAINS_INCLUDED="2")
def test_the_owner_is_warned_once_about_each_domain(shop, dns, alice, time_machine, proven):
    Account.update(email="alice@mail.example").execute()
    second = "second.example"
    domains.add(shop, alice.id, second, False)
    prove(dns, alice, second)
    step_days(shop, time_machine, 1)
    assert Notice.select().count() == 0
    for name in (NAME, second):
        dns.publish(domains.proof_name(name), "TXT")
    step_days(shop, time_machine, 4)
    notices = list(Notice.select().order_by(Notice.subject))
    assert [(row.kind, row.subject) for row in notices] == [
        ("domain", f"{NAME}: its TXT record is missing"),
        ("domain", f"{second}: its TXT record is missing"),
    ]


@with_settings(SMTP_URL="smtp://localhost:1", DOMAINS_INCLUDED="2")
def test_a_record_that_comes_and_goes_is_reported_once_a_day(
    shop, dns, alice, time_machine, proven
):
    Account.update(email="alice@mail.example").execute()
    time_machine.forward(DAY - time_machine.moment % DAY)
    for _ in range(5):
        dns.publish(domains.proof_name(NAME), "TXT")
        dns.publish(NAME, "MX")
        look_again(shop, alice, time_machine)
        prove(dns, alice)
        dns.publish(NAME, "MX", "10 alice.shop.test.")
        look_again(shop, alice, time_machine)
    assert Notice.select().count() == 1
    time_machine.forward(DAY)
    dns.publish(domains.proof_name(NAME), "TXT")
    look_again(shop, alice, time_machine)
    assert Notice.select().count() == 2


# -- mail ----------------------------------------------------------------------------


def test_mail_waits_for_the_mx(shop, dns, alice, time_machine, panel):
    domains.add(shop, alice.id, NAME, True)
    prove(dns, alice)
    dns.publish(NAME, "MX", "10 mx.other.example.")
    domain_checks.look(shop)
    assert wants(alice) and not wants(alice, "mail_domain")
    assert claim(alice).problem == "Its MX is mx.other.example, not alice.shop.test."

    dns.publish(NAME, "MX", "5 mx.other.example.", "20 Alice.shop.test.")
    time_machine.forward(60)
    domain_checks.look(shop)
    reconcile.account(shop, alice.id)
    assert claim(alice).problem is None
    assert wants(alice, "mail_domain").panel_id


@pytest.mark.parametrize(
    ("host", "is_here"),
    [("host.example", True), ("alice.shop.test", True)]
    + [("bob.shop.test", False), ("x.host.example", False), (".", False)],
)
@with_settings(SERVER_HOSTS="host.example")
def test_an_mx_names_the_server_or_the_site(shop, dns, alice, host, is_here):
    domains.add(shop, alice.id, NAME, True)
    prove(dns, alice)
    dns.publish(NAME, "MX", f"10 {host.removesuffix('.')}.")
    domain_checks.look(shop)
    assert bool(wants(alice, "mail_domain")) is is_here
    if host == ".":
        assert claim(alice).problem == "It has no MX record yet. Set its MX to host.example."


@with_settings(SMTP_URL="smtp://localhost:1")
def test_mail_ends_three_days_after_its_mx_and_comes_back_with_it(
    shop, dns, alice, time_machine, proven
):
    Account.update(email="alice@mail.example").execute()
    dns.publish(NAME, "MX", "10 mx.other.example.")
    step_days(shop, time_machine, 3)
    assert wants(alice, "mail_domain").active
    step_days(shop, time_machine, 1)
    assert not wants(alice, "mail_domain").active
    assert wants(alice).active and claim(alice).missing_at is None
    assert [row.subject for row in Notice.select()] == [f"{NAME}: its MX record is missing"]

    step_days(shop, time_machine, 20)
    assert wants(alice)
    dns.publish(NAME, "MX", "10 alice.shop.test.")
    step_days(shop, time_machine, 1)
    assert wants(alice, "mail_domain").active
    assert claim(alice).mx_missing_at is None


def test_mail_that_the_owner_switched_off_stays_off_and_keeps_its_mails(
    shop, dns, alice, time_machine, proven
):
    wanted.add(shop, alice.id, "mailbox", f"info@{NAME}")
    domains.set_mail(shop, alice.id, NAME, False)
    assert not wants(alice, "mail_domain").active
    assert wants(alice, "mailbox", f"info@{NAME}")
    step_days(shop, time_machine, 5)
    assert not wants(alice, "mail_domain").active

    domains.set_mail(shop, alice.id, NAME, True)
    assert not wants(alice, "mail_domain").active  # the MX may point elsewhere by now
    domain_checks.look(shop)
    assert wants(alice, "mail_domain").active


def test_mail_of_a_domain_can_be_switched_on_later(shop, dns, alice, time_machine):
    domains.add(shop, alice.id, NAME, False)
    prove(dns, alice)
    dns.publish(NAME, "MX", "10 alice.shop.test.")
    domain_checks.look(shop)
    assert not wants(alice, "mail_domain")
    domains.set_mail(shop, alice.id, NAME, True)
    domain_checks.look(shop)
    assert wants(alice, "mail_domain")


def test_an_unanswered_mx_query_is_repeated_soon(shop, dns, alice, time_machine):
    domains.add(shop, alice.id, NAME, True)
    asked = claim(alice)
    domain_checks._note(shop, asked, domain_checks.Answer(True))
    assert wants(alice) and not wants(alice, "mail_domain")
    assert "do not answer when asked for its MX" in claim(alice).problem
    assert claim(alice).look_at - time_machine.moment <= 60


# -- removing, and looking -----------------------------------------------------------


def test_removing_a_domain_takes_all_of_it_along(shop, dns, alice, panel, proven):
    reconcile.account(shop, alice.id)
    wanted.add(shop, alice.id, "mailbox", f"info@{NAME}")
    reconcile.account(shop, alice.id)
    domains.remove(alice.id, NAME)
    reconcile.account(shop, alice.id)
    assert not Service.select().where(Service.name.endswith(NAME)).exists()
    assert not claim(alice) and not panel.records("alias")
    assert domain_checks.look(shop) == 0


def test_a_removed_domain_can_be_added_again_at_once(shop, alice, proven):
    domains.remove(alice.id, NAME)
    domains.add(shop, alice.id, NAME, True)
    domain_checks.look(shop)
    assert wants(alice) and wants(alice, "mail_domain")


def test_another_account_may_have_a_removed_domain(shop, dns, alice, bob, proven, time_machine):
    reconcile.account(shop, alice.id)
    domains.remove(alice.id, NAME)
    domains.add(shop, bob.id, NAME, False)
    prove(dns, bob)
    domain_checks.look(shop)
    assert not wants(bob)  # the panel still has alice's
    reconcile.account(shop, alice.id)
    time_machine.forward(60)
    domain_checks.look(shop)
    assert wants(bob)


@pytest.mark.each_database
def test_two_workers_look_once(shop, dns, alice):
    domains.add(shop, alice.id, NAME, False)
    assert sum(at_once(lambda: domain_checks.look(shop), lambda: domain_checks.look(shop))) == 1
    assert dns.questions.count((domains.proof_name(NAME), "TXT")) == 1


def test_a_worker_that_was_killed_while_it_asked_is_followed_by_another(
    shop, dns, alice, time_machine
):
    domains.add(shop, alice.id, NAME, False)
    prove(dns, alice)
    assert len(list(domain_checks._take_due())) == 1
    assert domain_checks.look(shop) == 0
    time_machine.forward(domain_checks.ASKING_SECONDS)
    assert domain_checks.look(shop) == 1
    assert wants(alice)


def test_an_unproven_domain_is_looked_up_often_at_first_and_rarely_later(shop, alice, time_machine):
    domains.add(shop, alice.id, NAME, False)
    waits = []
    for forward in (0, 600, DAY, 8 * DAY):
        time_machine.forward(forward)
        domain_checks.look(shop)
        waits.append(claim(alice).look_at - int(time_machine.moment))
        Domain.update(look_at=0).execute()
    assert waits == [60, 600, 3600, DAY]


@with_settings(SITES_TLS="none")
def test_a_working_domain_is_looked_up_daily(shop, dns, alice, proven, time_machine):
    for name in (NAME, SITE):
        dns.publish(name, "A", "192.0.2.1")
    look_again(shop, alice, time_machine)
    assert claim(alice).look_at == int(time_machine.moment) + DAY


def test_check_now_looks_up_every_ten_seconds_at_most(shop, alice, proven, time_machine):
    began = int(time_machine.moment)
    domains.check_now(alice.id, NAME)
    assert claim(alice).look_at == began + 10
    time_machine.forward(300)
    Domain.update(look_at=began + DAY).execute()
    domains.check_now(alice.id, NAME)
    assert claim(alice).look_at == began + 300
    Domain.update(look_at=5).execute()
    domains.check_now(alice.id, NAME)
    assert claim(alice).look_at == 5


def test_check_now_during_a_look_up_is_not_lost(shop, alice, time_machine):
    domains.add(shop, alice.id, NAME, False)
    (asked,) = domain_checks._take_due()
    time_machine.forward(20)
    domains.check_now(alice.id, NAME)
    domain_checks._note(shop, asked, domain_checks.Answer(False, is_whole=True))
    assert claim(alice).look_at == int(time_machine.moment)


@with_settings(DOMAINS_INCLUDED="3")
def test_a_fault_with_one_domain_holds_up_no_other(shop, dns, alice):
    for name in ("a.example", "b.example", "c.example"):
        domains.add(shop, alice.id, name, False)
        prove(dns, alice, name)

    class Broken(Resolver):
        def txt(self, name):
            if "b.example" in name:
                raise RuntimeError("a fault of ours")
            return super().txt(name)

    assert domain_checks.look(replace(shop, resolver=Broken((dns.address,)))) == 3
    assert wants(alice, name="a.example") and wants(alice, name="c.example")
    assert not wants(alice, name="b.example")


def test_many_domains_at_a_dead_server_hold_up_no_others(shop, dns, alice, bob, time_machine):
    for number in range(60):
        moment = clock.now()
        Domain.create(account=bob, name=f"b{number}.example", added_at=moment, look_at=moment)
    dns.fault = "servfail"
    while domain_checks.look(shop):
        pass
    time_machine.forward(600)
    domains.add(shop, alice.id, NAME, False)
    time_machine.forward(1)
    dns.fault = None
    prove(dns, alice)
    domain_checks.look(shop)
    assert wants(alice)
    while domain_checks.look(shop):
        pass
    assert all(row.looked_at for row in Domain.select())


def test_a_worker_that_is_ending_looks_nothing_up(shop, dns, alice, time_machine):
    domains.add(shop, alice.id, NAME, False)
    prove(dns, alice)
    domain_checks.look(shop, stopping=lambda: True)
    assert not dns.questions
    time_machine.forward(domain_checks.ASKING_SECONDS)
    domain_checks.look(shop)
    assert wants(alice)


def test_the_strangest_mail_hosts_can_be_shown(shop, dns, alice):
    domains.add(shop, alice.id, NAME, True)
    prove(dns, alice)
    hosts = [f"{n} {NUL * 60}.<b>\\255.{'x' * 60}." for n in range(10)]
    dns.publish(NAME, "MX", *hosts)
    domain_checks.look(shop)
    assert wants(alice) and "not alice.shop.test" in claim(alice).problem


def test_the_worker_looks_domains_up(shop, dns, alice):
    domains.add(shop, alice.id, NAME, False)
    prove(dns, alice)
    worker = Worker(shop)
    worker._look_at_domains()
    assert wants(alice)


def test_a_claim_says_that_the_name_server_is_silent(shop, dns, alice):
    dns.fault = "servfail"
    domains.add(shop, alice.id, NAME, False)
    domain_checks.look(shop)
    assert claim(alice).problem == domain_checks.UNKNOWN
    assert claim(alice).looked_at is None


# -- what is to be written -----------------------------------------------------------


def test_the_records_to_write_are_those_that_are_looked_for(shop, dns, alice):
    domains.add(shop, alice.id, NAME, True)
    for kind, name, value, why in domains.records(shop, alice, claim(alice)):
        assert why
        if kind == "TXT":
            dns.publish_text(name, value)
        if kind == "MX":
            dns.publish(name, kind, value)
    domain_checks.look(shop)
    assert wants(alice) and wants(alice, "mail_domain")


def test_no_cname_is_advised_where_none_is_allowed(shop, alice):
    def advised(name, wants_mail):
        row = Domain(account=alice.id, name=name, wants_mail=wants_mail)
        records = domains.records(shop, alice, row)
        return [each[0] for each in records if each[1] == name]

    assert advised("alice.example", False) == ["ALIAS"]
    assert advised("shop.alice.example", False) == ["CNAME"]
    assert advised("shop.alice.example", True) == ["ALIAS", "MX"]  # a CNAME excludes an MX


def test_each_account_has_a_token_of_its_own(alice, bob):
    assert domains.token(alice.id) != domains.token(bob.id)
    assert domains.token(alice.id) == domains.token(alice.id)
    assert alice.id not in domains.token(alice.id)


# -- the sandbox's button ------------------------------------------------------------


@pytest.fixture
def sandbox(own_app, tmp_path, dns):
    """A browser of a shop with the sandbox's buttons."""
    own_app.register_blueprint(buttons(tmp_path / "wallet-rpc", dns))
    return own_app.test_client()


def test_the_sandbox_publishes_what_is_asked_for(shop, dns, alice, sandbox):
    domains.add(shop, alice.id, NAME, True)
    log_in(sandbox, "alice", "correct horse")
    form = {"csrf_token": csrf_token(sandbox.get("/login").text)}
    assert sandbox.post(f"/sandbox/publish/{NAME}", data=form).status_code == 303
    domain_checks.look(shop)
    assert wants(alice) and wants(alice, "mail_domain")


def test_the_sandbox_publishes_nothing_for_others(shop, dns, alice, bob, sandbox):
    domains.add(shop, bob.id, NAME, True)
    assert sandbox.post(f"/sandbox/publish/{NAME}").status_code in (302, 400)
    log_in(sandbox, "alice", "correct horse")
    form = {"csrf_token": csrf_token(sandbox.get("/login").text)}
    assert sandbox.post(f"/sandbox/publish/{NAME}", data=form).status_code == 404
    domain_checks.look(shop)
    assert not wants(bob)
