"""HTTPS: a certificate that could not be had is noticed, reported and asked for again later."""

import re
from dataclasses import replace
from itertools import groupby

import pytest

from lightningspace.api import resources
from lightningspace.base.clock import now
from lightningspace.base.models import Account, Domain, Service
from lightningspace.outside.dns import Resolver
from lightningspace.panel import reconcile
from lightningspace.rules import (
    accounts,
    certificates,
    domain_checks,
    domains,
    progress,
    services,
    upgrades,
    usage,
    wanted,
)
from lightningspace.rules.certificates import Https
from tests.conftest import csrf_token, form_id, log_in, open_account, with_settings

HOUR, DAY = 3600, 86400
SITE, NAME = "alice.shop.test", "alice.example"


@pytest.fixture
def shop(this_shop, dns):
    dns.publish(SITE, "A", "192.0.2.1")
    dns.publish(SITE, "AAAA", "2001:db8::1")
    return replace(this_shop, resolver=Resolver((dns.address,), seconds=5))


@pytest.fixture
def alice(shop, time_machine, alice):
    return alice


@pytest.fixture
def after(shop, alice, time_machine):
    """Let time pass, with everything that the worker does: `after(seconds)`."""

    def after(seconds: int, step: int = 30 * 60) -> None:
        for _ in range(-(-seconds // step)):
            time_machine.forward(step)
            domain_checks.look(shop)
            usage.look(shop)
            reconcile.account(shop, alice.id)

    return after


def switch(alice, active: bool) -> None:
    wanted.configure(alice.id, "site", SITE, letsencrypt=active)


def site() -> Service:
    return Service.get(kind="site")


def https(client) -> str:
    page = client.get("/account/settings").text
    return page.partition("<span>HTTPS <small>")[2].partition("<")[0]


def claim(shop, dns, alice) -> None:
    domains.add(shop, alice.id, NAME, False)
    dns.publish_text(domains.proof_name(NAME), domains.proof(alice.id))


def test_a_new_hosting_asks_for_a_certificate_as_soon_as_it_is_ready(
    client, shop, alice, panel, after
):
    assert panel.certificates_asked == [] and panel.records("site")[0]["ssl"] == "n"
    log_in(client, "alice", "correct horse")
    assert https(client) == "certificate being fetched"
    after(1, step=1)
    assert panel.certificates_asked == [[SITE]]
    assert https(client) == "certificate being fetched"
    assert certificates.url(shop, alice) == f"http://{SITE}/"
    after(2 * 60, step=60)
    assert certificates.url(shop, alice) == f"http://{SITE}/"
    after(60, step=60)
    assert https(client) == "on" and certificates.url(shop, alice) == f"https://{SITE}/"
    after(2 * DAY)
    assert panel.certificates_asked == [[SITE]]


def test_hostings_opened_before_stay_without_a_certificate(alice, panel, after):
    Service.update(settings="{}").where(Service.kind == "site").execute()
    after(HOUR)
    assert panel.certificates_asked == []


def test_a_certificate_that_the_server_loses_is_noticed(client, shop, alice, panel, after):
    log_in(client, "alice", "correct horse")
    after(HOUR)
    panel.find("site", site().panel_id).record.update(ssl="n", ssl_letsencrypt="n")
    panel.no_certificates = True
    after(HOUR)
    assert certificates.url(shop, alice) == f"http://{SITE}/"
    after(5 * 60, step=60)
    assert https(client) == "no certificate yet"
    assert certificates.url(shop, alice) == f"http://{SITE}/"


def test_links_to_a_site_say_https_once_it_has_a_certificate(client, alice, after):
    log_in(client, "alice", "correct horse")
    tip = client.get("/tip/alice").text
    form = {"csrf_token": csrf_token(tip), "form_id": form_id(tip), "sats": "100"}
    order = client.post("/tip/alice", data=form).location

    def links() -> set[str]:
        pages = [client.get(path).text for path in ("/account", "/tip/alice", order)]
        return {re.search(rf'href="(https?)://{SITE}/"', page)[1] for page in pages}

    assert links() == {"http"}
    after(HOUR)
    assert links() == {"https"}


def paid_for(alice, days: float) -> None:
    Account.update(expires_at=Account.opened_at + int(days * DAY)).execute()


def test_a_short_hosting_asks_for_no_certificate_even_by_the_switch(
    client, shop, alice, panel, after
):
    log_in(client, "alice", "correct horse")
    paid_for(alice, 6.9)
    for active in (True, False, True):
        switch(alice, active)
        wanted.configure(alice.id, "site", SITE, php=active)
        after(HOUR)
    assert panel.certificates_asked == []
    assert https(client) == "no certificate"
    assert "hostings that are paid for 7 days or more" in client.get("/account/settings").text

    paid_for(alice, 7)
    assert https(client) == "certificate being fetched"
    after(2 * HOUR)
    assert panel.certificates_asked == [[SITE]] and https(client) == "on"


def test_a_domain_of_a_short_hosting_asks_for_no_certificate(shop, dns, alice, panel, after):
    paid_for(alice, 1)
    claim(shop, dns, alice)
    dns.publish(NAME, "A", "192.0.2.1")
    after(HOUR)
    assert panel.records("alias")[0]["ssl_letsencrypt_exclude"] == "n"
    assert panel.certificates_asked == []


def others_have_asked(shop, *ages: int, note: str | None = None) -> None:
    for number, age in enumerate(ages):
        account = open_account(shop, f"other{number}{'r' if note else ''}")
        Service.update(certificate_asked_at=now() - age, certificate_asks=1, note=note).where(
            (Service.account == account.id) & (Service.kind == "site")
        ).execute()


@with_settings(CERTIFICATES_PER_WEEK="2")
def test_certificates_of_a_week_are_limited_by_the_settings(client, shop, alice, panel, after):
    log_in(client, "alice", "correct horse")
    others_have_asked(shop, 5 * DAY, 6 * DAY)
    switch(alice, True)
    after(HOUR)
    assert panel.certificates_asked == [] and https(client) == "no certificate yet"
    assert "The certificates of this week are used up." in client.get("/account/settings").text
    after(DAY)
    assert panel.certificates_asked == [[SITE]] and https(client) == "on"


@with_settings(CERTIFICATES_PER_WEEK="2")
def test_a_refused_certificate_does_not_count_for_the_week(shop, alice, panel, after):
    others_have_asked(shop, DAY, HOUR, note=certificates.NOTES[Https.REFUSED])
    others_have_asked(shop, DAY)
    after(1, step=1)
    assert panel.certificates_asked == [[SITE]]


@with_settings(CERTIFICATES_PER_WEEK="2")
def test_a_certificate_asked_for_by_a_wrong_clock_does_not_count(shop, alice, panel, after):
    others_have_asked(shop, -365 * DAY, -366 * DAY)
    after(1, step=1)
    assert panel.certificates_asked == [[SITE]]


@with_settings(CERTIFICATES_PER_WEEK="0")
def test_the_limit_can_be_lifted(shop, alice, panel, after):
    others_have_asked(shop, HOUR)
    after(1, step=1)
    assert panel.certificates_asked == [[SITE]]


@with_settings(SITES_TLS="none")
def test_a_shop_without_https_asks_for_nothing_and_offers_nothing(
    client, shop, alice, panel, after
):
    log_in(client, "alice", "correct horse")
    switch(alice, True)
    after(HOUR)
    assert panel.certificates_asked == [] and panel.records("site")[0]["ssl"] == "n"
    assert certificates.url(shop, alice) == f"http://{SITE}/"
    page = client.get("/account/settings").text
    assert "HTTPS" not in page
    form = {"csrf_token": csrf_token(page), "name": SITE, "active": "on"}
    assert client.post("/account/settings/https", data=form).status_code == 404


@with_settings(SITES_TLS="wildcard")
def test_with_a_wildcard_certificate_only_domains_need_one(client, shop, dns, alice, panel, after):
    log_in(client, "alice", "correct horse")
    assert certificates.url(shop, alice) == f"https://{SITE}/"
    after(HOUR)
    assert panel.certificates_asked == []
    claim(shop, dns, alice)
    dns.publish(NAME, "A", "192.0.2.1")
    after(HOUR, step=60)
    assert panel.certificates_asked == [[SITE, NAME]]
    assert f"https://{NAME}/" in client.get("/account/domains").text
    switch(alice, False)
    after(1, step=1)
    assert panel.records("site")[0]["ssl"] == "n"
    assert f"http://{NAME}/" in client.get("/account/domains").text
    assert certificates.url(shop, alice) == f"https://{SITE}/"


def test_a_certificate_is_dropped_when_the_kind_of_https_changes(
    this_shop, shop, alice, panel, after
):
    after(HOUR)
    assert panel.records("site")[0]["ssl"] == "y"
    upgrades.bring_up_to_date(shop)
    bare = replace(shop, config=replace(shop.config, sites_tls="none"))
    upgrades.bring_up_to_date(bare)
    reconcile.account(bare, alice.id)
    assert panel.records("site")[0]["ssl"] == "n" and site().certificate_at is None


def test_a_refused_certificate_is_noticed_reported_and_asked_for_again(
    client, shop, alice, panel, after
):
    log_in(client, "alice", "correct horse")
    panel.no_certificates = True
    switch(alice, True)
    after(1, step=1)
    assert site().is_applied and https(client) == "certificate being fetched"
    after(5 * 60, step=5 * 60)
    assert panel.records("site")[0]["ssl"] == "n"
    assert https(client) == "no certificate yet"
    known = progress.Progress(alice, services.of_account(alice.id))
    assert resources.service(shop, site(), known, True)["note"] == certificates.NOTES["refused"]
    page = client.get("/account/settings").text
    assert "Let’s Encrypt has given none so far. We ask again" in page

    panel.no_certificates = False
    after(HOUR)
    assert https(client) == "on" and site().note is None
    assert panel.records("site")[0]["ssl_letsencrypt"] == "y"
    assert panel.certificates_asked == [[SITE]] * 2


def test_a_certificate_is_asked_for_at_growing_intervals(alice, panel, after):
    panel.no_certificates = True
    switch(alice, True)
    after(DAY, step=HOUR)
    assert len(panel.certificates_asked) == 5
    after(6 * DAY, step=12 * HOUR)
    assert len(panel.certificates_asked) <= 11


def test_no_certificate_is_asked_for_while_the_name_leads_elsewhere(
    client, dns, alice, panel, after
):
    log_in(client, "alice", "correct horse")
    for kind in ("A", "AAAA"):
        dns.publish(SITE, kind)
    after(DAY, step=2 * HOUR)
    assert panel.certificates_asked == []
    assert https(client) == "no certificate yet"
    assert f"{SITE} does not lead to its server" in client.get("/account/settings").text
    dns.publish(SITE, "A", "192.0.2.1")
    after(HOUR)
    assert panel.certificates_asked == [[SITE]]


def test_the_switch_does_not_ask_for_a_certificate_earlier(client, alice, panel, after):
    log_in(client, "alice", "correct horse")
    panel.no_certificates = True
    for number in range(10):
        switch(alice, number % 2 == 1)
        wanted.configure(alice.id, "site", SITE, php=number % 2 == 1)
        after(4 * 60, step=4 * 60)
    assert len(panel.certificates_asked) <= 3
    assert https(client) == "no certificate yet"
    switch(alice, False)
    after(1, step=1)
    assert https(client) == "off"


@pytest.mark.each_database
def test_of_two_simultaneous_workers_one_asks_for_a_certificate(shop, alice):
    first, second = site(), site()
    assert certificates.take_turn(shop, alice, first) is None
    assert certificates.take_turn(shop, alice, second) == Https.REFUSED
    assert certificates.take_turn(shop, alice, first) == Https.REFUSED
    assert site().certificate_asks == 1


def test_a_hosting_that_is_off_asks_for_no_certificate(alice, panel, after):
    accounts.suspend(alice.id)
    switch(alice, True)
    after(HOUR)
    assert panel.certificates_asked == []
    accounts.resume(alice.id)
    after(HOUR)
    assert panel.certificates_asked == [[SITE]]


def test_a_domain_is_added_to_the_certificate_when_it_leads_here(
    client, shop, dns, alice, panel, after
):
    log_in(client, "alice", "correct horse")
    switch(alice, True)
    claim(shop, dns, alice)
    dns.publish(NAME, "A", "198.51.100.7")
    after(HOUR)
    assert {tuple(names) for names in panel.certificates_asked} == {(SITE,)}
    assert f"HTTPS comes once it points to {SITE}" in client.get("/account/domains").text

    dns.publish(NAME, "A")
    dns.publish(NAME, "CNAME", f"{SITE}.")
    after(2 * HOUR)
    assert panel.certificates_asked[-1] == [SITE, NAME]
    assert "HTTPS comes" not in client.get("/account/domains").text


def test_a_domain_that_comes_and_goes_costs_few_certificates(shop, dns, alice, panel, after):
    switch(alice, True)
    claim(shop, dns, alice)
    for number in range(24):
        dns.publish(NAME, "A", "192.0.2.1" if number % 2 else "198.51.100.7")
        Domain.update(look_at=0).execute()
        after(HOUR, step=HOUR)
    sets = [names for names, _ in groupby(panel.certificates_asked)]
    assert 2 <= len(sets) <= 6


def test_a_domain_stays_in_the_certificate_while_dns_is_silent(shop, dns, alice, panel, after):
    claim(shop, dns, alice)
    dns.publish(NAME, "A", "192.0.2.1")
    after(5 * 60, step=5 * 60)
    dns.fault = "servfail"
    Domain.update(look_at=0).execute()
    after(5 * 60, step=5 * 60)
    assert panel.records("alias")[0]["ssl_letsencrypt_exclude"] == "n"


def test_another_sites_record_says_nothing_about_the_certificate(shop, alice, panel, after):
    switch(alice, True)
    after(1, step=1)
    record = panel.find("site", site().panel_id).record
    record.update(domain="bobs.shop.test", ssl_letsencrypt="n")
    Account.update(usage_at=0).execute()
    usage.look(shop)
    assert site().note is None and site().is_applied
