"""Mail and domains in the control center: what is added, changed and removed there."""

import re
from functools import partial
from itertools import product

import pytest
from markupsafe import escape

from lightningspace.base import clock
from lightningspace.base.models import Account, Domain, Service
from lightningspace.rules import domain_checks, domains, services
from tests.conftest import (
    at_once,
    csrf_token,
    dns_servers,
    enter,
    let_the_server_follow,
    open_account,
    with_settings,
    work,
)

SITE = "alice.shop.test"


@pytest.fixture
def env(env, dns):
    return env | dns_servers(dns)


@pytest.fixture
def owner(client, alice):
    return enter(client, alice)


@pytest.fixture
def bob(app, this_shop):
    """The browser of another customer."""
    return enter(app.test_client(), open_account(this_shop, "bob"))


def send(client, path, page="/account/mail", **fields):
    return client.post(path, data={"csrf_token": csrf_token(client.get(page).text)} | fields)


def add_mailbox(client, local_part="eve", domain=SITE, **fields):
    typed = {"local_part": local_part, "domain": domain} | fields
    return send(client, "/account/mail/mailbox", **typed)


def add_forward(client, local_part="sales", domain=SITE, destination="bob@example.org"):
    typed = {"local_part": local_part, "domain": domain, "destination": destination}
    return send(
        client, "/account/mail/forward", **{f"forward-{name}": text for name, text in typed.items()}
    )


def without_tokens(page):
    """The page without CSRF tokens, which depend on the second."""
    return re.sub(r'(name="csrf_token"[^>]* value=")[^"]+', r"\1", page)


def switched_on():
    """Have the server carry out everything that was applied."""
    let_the_server_follow()


def there(kind):
    rows = Service.select().where((Service.kind == kind) & ~Service.gone).order_by(Service.name)
    return [row.name for row in rows]


def the(kind, name):
    return Service.get((Service.kind == kind) & (Service.name == name))


def error(answer, field):
    """The error beside a field of the page."""
    assert answer.status_code == 400
    found = re.search(rf'id="{field}-error"[^>]*>([^<]*)<', answer.text)
    return found and found[1]


# -- adding --------------------------------------------------------------------------


def test_the_list_shows_the_first_mailbox_and_what_mail_programs_need(owner):
    page = owner.get("/account/mail").text
    assert f"info@{SITE}" in page
    assert "1 of 5" in page
    assert "port 993" in page
    assert "Your mailboxes receive and send" in page


@with_settings(MAIL_SEND_MIN_DAYS="365")
def test_the_page_says_that_mailboxes_may_not_send_yet(owner):
    assert "once you have paid for 365" in owner.get("/account/mail").text


def test_an_added_mailbox_opens_with_the_password_that_is_shown(owner, worker, panel):
    assert add_mailbox(owner, " Eve ").status_code == 303
    assert "hx-get" in owner.get("/account/mail/addresses").text
    work(worker)
    shown = owner.get("/account/mail/addresses").text
    password = re.search(r"New password: <code>([^<]+)<", shown)[1]
    record = next(row for row in panel.records("mailbox") if row["email"] == f"eve@{SITE}")
    assert password == panel.password_of("mailbox", record["mailuser_id"])
    assert 'hx-trigger="every' in shown
    switched_on()
    assert "hx-" not in owner.get("/account/mail/addresses").text


def test_a_typed_password_is_used_and_never_shown(owner, worker, panel):
    add_mailbox(owner, password="correct battery", quota_mb="5")
    work(worker)
    record = next(row for row in panel.records("mailbox") if row["email"] == f"eve@{SITE}")
    assert panel.password_of("mailbox", record["mailuser_id"]) == "correct battery"
    assert int(record["quota"]) == 5 * 1024 * 1024
    assert "correct battery" not in owner.get("/account/mail").text


def test_a_forward_goes_where_it_was_told(owner, worker, panel):
    assert add_forward(owner, destination="Bob+x@Example.ORG").status_code == 303
    work(worker)
    (record,) = panel.records("forward")
    assert record["destination"] == "bob+x@example.org"
    assert "goes to bob+x@example.org" in owner.get("/account/mail").text
    assert the("forward", f"sales@{SITE}").is_applied


@with_settings(ADDRESSES_INCLUDED="9")
def test_the_own_domain_has_no_reserved_addresses(owner):
    for local_part in ("postmaster", "abuse", "noreply", "a.b-c_d", "0", "ROOT", "x" * 48):
        assert add_mailbox(owner, local_part).status_code == 303
        assert f"{local_part.lower()}@{SITE}" in there("mailbox")


WRONG = {
    "local_part": [
        *("", " ", ".", "..", ".a", "a.", "a..b", "a@b", f"eve@{SITE}", "a b", "a+b", "é", "😀"),
        *("a\0b", "a\nb", "../../etc", "a/b", "%61", "x" * 10_000, "x" * 64, '"a"', "{{7*7}}"),
        *('"><script>alert(1)</script>', "' OR 1=1 --", "\u202eeve", "*", "@"),
    ],
    "domain": ["", "example.org", "bob.shop.test", "shop.test", "a\0", "x" * 10_000, "<script>"],
    "password": ["short", "pässword long", "a\0aaaaaaaaa", "x" * 65, "x" * 10_000, "   "],
    "quota_mb": ["0", "-1", "21", "1.5", "1e3", "٣", "abc", "a\0", "9" * 5000, "<script>", "😀"],
}


@pytest.mark.parametrize("field", WRONG)
def test_errors_of_a_mailbox_are_shown_beside_its_fields(field, owner):
    page = owner.get("/account/mail").text
    typed = {"local_part": "eve", "domain": SITE, "password": "correct battery", "quota_mb": "5"}
    for value in WRONG[field]:
        fields = typed | {field: value, "csrf_token": csrf_token(page)}
        answer = owner.post("/account/mail/mailbox", data=fields)
        assert error(answer, field), value
        assert "correct battery" not in answer.text
        assert "<script>" not in answer.text
        for kept in ("local_part", "quota_mb"):
            assert str(escape(fields[kept].strip().lower())) in answer.text, value
    assert there("mailbox") == [f"info@{SITE}"]


WRONG_DESTINATIONS = [
    *("", "bob", "a@b", "@example.org", "a@example.org, b@example.org", "a@b@example.org"),
    *(
        "a b@example.org",
        "a@example.org\r\nBcc: b@example.org",
        "a\0@example.org",
        "a@exa mple.org",
    ),
    *("|/bin/sh", "/etc/passwd", ":include:/etc/passwd", '"|x"@example.org', "a@[127.0.0.1]"),
    *("<script>@example.org", "😀@example.org", "x" * 10_000 + "@example.org", "a..b@example.org"),
    f"sales@{SITE}",
]


def test_errors_of_a_forward_are_shown_beside_its_fields(owner):
    for destination in WRONG_DESTINATIONS:
        answer = add_forward(owner, destination=destination)
        assert error(answer, "forward-destination"), destination
        assert 'value="sales"' in answer.text
        assert str(escape(destination.strip())) in answer.text
    for local_part in WRONG["local_part"]:
        assert error(add_forward(owner, local_part), "forward-local_part"), local_part
    assert there("forward") == []


def test_an_address_is_a_mailbox_or_a_forward(owner):
    assert "already" in error(add_forward(owner, "info"), "forward-local_part")
    add_forward(owner)
    assert "already" in error(add_mailbox(owner, "SALES"), "local_part")
    assert there("mailbox") == [f"info@{SITE}"]


def test_nothing_is_added_without_the_forms_csrf_token(owner):
    fields = {"local_part": "eve", "domain": SITE}
    assert owner.post("/account/mail/mailbox", data=fields).status_code == 400
    assert owner.post(f"/account/mail/info@{SITE}/remove").status_code == 400
    assert there("mailbox") == [f"info@{SITE}"]


# -- how many ------------------------------------------------------------------------


@with_settings(ADDRESSES_INCLUDED="2")
def test_a_full_list_of_addresses_says_how_to_get_more(owner):
    add_mailbox(owner)
    answer = add_forward(owner)
    assert answer.status_code == 400
    assert "You have 2 of 2" in answer.text
    assert "/account/size?space_mb=100&amp;extra_addresses=1&amp;extra_domains=0" in answer.text
    assert re.search(r"One more</a> costs \d+ sat, until <time", answer.text)
    assert 'value="bob@example.org"' in answer.text
    assert there("forward") == []


@pytest.mark.each_database
@with_settings(ADDRESSES_INCLUDED="3")
def test_addresses_added_at_once_never_exceed_the_limit(app, owner, alice):
    token = csrf_token(owner.get("/account/mail").text)
    cookie = owner.get_cookie("session").value

    def add(number):
        window = app.test_client()
        window.set_cookie("session", cookie)
        fields = {"csrf_token": token, "local_part": f"eve{number}", "domain": SITE}
        return window.post("/account/mail/mailbox", data=fields).status_code

    answers = at_once(*(partial(add, number) for number in range(6)))
    assert sorted(answers) == [303, 303, 400, 400, 400, 400]
    assert len(there("mailbox")) == 3


def test_with_a_smaller_size_addresses_stay_and_no_more_fit(owner, alice):
    Account.update(extra_addresses=2).where(Account.id == alice.id).execute()
    for number in range(6):
        assert add_mailbox(owner, f"eve{number}").status_code == 303
    Account.update(extra_addresses=0).where(Account.id == alice.id).execute()
    page = owner.get("/account/mail").text
    assert "7 of 5" in page
    answer = add_mailbox(owner, "one-more")
    assert "You have 7 of 5" in answer.text
    assert "Remove some first" in answer.text
    assert send(owner, f"/account/mail/eve0@{SITE}/remove").status_code == 303
    assert "You have 6 of 5" in add_mailbox(owner, "one-more").text


def test_an_account_that_is_being_set_up_or_closed_adds_nothing(owner, alice):
    for facts, text in (
        ({"ready_at": None}, "still being set up"),
        ({"ready_at": 1, "closing_at": 1}, "being closed"),
    ):
        Account.update(facts).where(Account.id == alice.id).execute()
        assert text in error(add_mailbox(owner), "local_part")
        assert text in error(add_forward(owner), "forward-local_part")
    assert there("mailbox") == [f"info@{SITE}"]


# -- one address ---------------------------------------------------------------------


def test_a_changed_password_opens_the_mailbox(owner, worker, panel):
    path = f"/account/mail/info@{SITE}"
    assert send(owner, f"{path}/password", path, password="correct battery").status_code == 303
    work(worker)
    assert panel.password_of("mailbox", 1) == "correct battery"
    send(owner, f"{path}/password", path)
    assert "being set" in owner.get(path).text
    work(worker)
    assert panel.password_of("mailbox", 1) in owner.get(f"{path}/status").text


def test_a_refused_password_changes_nothing(owner, worker, panel):
    path = f"/account/mail/info@{SITE}"
    for password in WRONG["password"]:
        assert error(send(owner, f"{path}/password", path, password=password), "password")
    work(worker)
    assert panel.password_of("mailbox", 1) == "correct horse"


def test_a_quota_is_a_part_of_the_space_for_mail(owner, worker, panel):
    path = f"/account/mail/info@{SITE}"
    assert "20 MB" in error(send(owner, f"{path}/quota", path, quota_mb="21"), "quota_mb")
    assert send(owner, f"{path}/quota", path, quota_mb="15").status_code == 303
    assert "5 MB" in error(add_mailbox(owner, quota_mb="6"), "quota_mb")
    assert add_mailbox(owner, quota_mb="5").status_code == 303
    work(worker)
    quotas = {row["email"]: int(row["quota"]) // 2**20 for row in panel.records("mailbox")}
    assert quotas == {f"info@{SITE}": 15, f"eve@{SITE}": 5}
    assert send(owner, f"{path}/quota", path, quota_mb="").status_code == 303
    work(worker)
    assert services.settings_of(the("mailbox", f"info@{SITE}"))["quota_mb"] is None


def test_a_forward_can_go_elsewhere(owner, worker, panel):
    add_forward(owner)
    path = f"/account/mail/sales@{SITE}"
    wrong = send(owner, f"{path}/destination", path, destination="nowhere")
    assert error(wrong, "destination")
    assert 'value="nowhere"' in wrong.text
    for itself in (f"sales@{SITE}", f"Sales@{SITE.upper()}"):
        answer = send(owner, f"{path}/destination", path, destination=itself)
        assert "circle" in error(answer, "destination")
    answer = add_forward(owner, "round", destination=f"ROUND@{SITE}")
    assert "circle" in error(answer, "forward-destination")
    assert (
        send(owner, f"{path}/destination", path, destination="eve@example.org").status_code == 303
    )
    work(worker)
    assert panel.records("forward")[0]["destination"] == "eve@example.org"


def test_a_removed_address_goes_from_panel_and_page(owner, worker, panel):
    add_forward(owner)
    work(worker)
    for name in (f"info@{SITE}", f"sales@{SITE}"):
        page = owner.get(f"/account/mail/{name}").text
        assert f"Remove {name}" in page
        answer = send(owner, f"/account/mail/{name}/remove")
        assert answer.status_code == 303
        assert "being removed" in owner.get("/account/mail").text
        assert owner.get(f"/account/mail/{name}").status_code == 404
    work(worker)
    assert panel.records("mailbox") == panel.records("forward") == []
    assert "You have no address yet" in owner.get("/account/mail").text
    assert add_mailbox(owner, "info").status_code == 303


def test_an_address_whose_removal_waits_can_be_had_again(owner, worker, panel):
    send(owner, f"/account/mail/info@{SITE}/remove")
    assert add_mailbox(owner, "info", password="correct battery").status_code == 303
    work(worker)
    assert [row["email"] for row in panel.records("mailbox")] == [f"info@{SITE}"]


STRANGE = [
    *("eve@alice.shop.test", "info@bob.shop.test", "bob.shop.test", "x", "a%00b@x", "%FF", "😀"),
    *("..", "<script>", "x" * 5000, "info@alice.shop.test%00", "INFO@alice.shop.test", "ls_alice"),
]


def test_other_accounts_addresses_are_not_found(owner, bob):
    before = [(row.name, row.revision, row.gone) for row in Service.select()]
    token = csrf_token(owner.get("/account/mail").text)
    fields = {"csrf_token": token, "quota_mb": "5", "destination": "a@example.org"}
    for name in STRANGE:
        for what in ("", "/status"):
            assert owner.get(f"/account/mail/{name}{what}").status_code == 404, name
        for what in ("password", "quota", "destination", "remove"):
            answer = owner.post(f"/account/mail/{name}/{what}", data=fields)
            assert answer.status_code in (404, 405), name
    for path in (f"info@{SITE}/destination", f"info@{SITE}/nothing"):
        assert owner.post(f"/account/mail/{path}", data=fields).status_code == 404
    assert [(row.name, row.revision, row.gone) for row in Service.select()] == before


def test_the_pages_of_mail_need_a_login(client, alice):
    for path in ("mail", "mail/addresses", f"mail/info@{SITE}"):
        answer = client.get(f"/account/{path}")
        assert answer.status_code == 302
        assert answer.location.startswith("/login")


def test_a_failure_is_shown_at_its_address(owner, worker, panel):
    panel.forbidden = {"mail_user_add"}
    add_mailbox(owner)
    work(worker)
    switched_on()
    shown = owner.get("/account/mail/addresses").text
    assert "needs the operator" in shown
    assert "hx-" not in shown


def test_an_address_without_an_answer_is_polled_less_often(owner, worker, panel):
    switched_on()
    panel.down()
    add_mailbox(owner)
    work(worker)
    assert "every 15s" in owner.get(f"/account/mail/eve@{SITE}/status").text


# -- domains -------------------------------------------------------------------------


def add_domain(client, name="alice.example", **fields):
    return send(client, "/account/domains", "/account/domains", name=name, **fields)


def the_domains():
    return [row.name for row in Domain.select().order_by(Domain.name)]


@pytest.fixture
def publish(alice, dns, this_shop):
    """Publish the records that alice's domain needs, and have them looked up."""

    def publish(name="alice.example", mx=True):
        dns.publish_text(domains.proof_name(name), domains.proof(alice.id))
        for each in (SITE, name):
            dns.publish(each, "A", "192.0.2.1")
        dns.publish(name, "MX", *([f"10 {SITE}."] if mx else []))
        Domain.update(look_at=0).execute()
        domain_checks.look(this_shop)

    return publish


def test_an_added_domain_waits_for_the_records_that_are_shown(owner, alice):
    answer = add_domain(owner, " https://WWW.Alice.Example/ ", wants_mail="y")
    assert (answer.status_code, answer.location) == (303, "/account/domains#alice.example")
    page = owner.get("/account/domains").text
    assert "waiting for its TXT record" in page
    assert f'<code id="alice.example-1-value">{domains.proof(alice.id)}</code>' in page
    assert f"10 {SITE}." in page
    assert "1 of" in page
    fragment = owner.get("/account/domains/alice.example/status").text
    assert without_tokens(fragment).strip() in without_tokens(page)
    assert 'hx-trigger="every' in fragment


def test_a_proven_domain_is_live_and_polls_no_more(owner, worker, publish):
    add_domain(owner)
    publish(mx=False)
    work(worker)
    switched_on()
    assert 'href="http://alice.example/"' in owner.get("/account/domains").text
    assert "hx-" not in owner.get("/account/domains/alice.example/status").text


def test_a_mailbox_on_an_added_domain(owner, worker, panel, publish):
    add_domain(owner, wants_mail="y")
    assert error(add_mailbox(owner, domain="alice.example"), "domain")
    publish()
    work(worker)
    assert add_mailbox(owner, domain="alice.example").status_code == 303
    assert add_forward(owner, domain="alice.example").status_code == 303
    work(worker)
    assert "eve@alice.example" in [row["email"] for row in panel.records("mailbox")]
    assert "<h3>alice.example</h3>" in owner.get("/account/mail").text


def test_a_removed_domain_takes_its_addresses_along(owner, worker, panel, publish):
    add_domain(owner, wants_mail="y")
    publish()
    work(worker)
    add_mailbox(owner, domain="alice.example")
    add_forward(owner, domain="alice.example")
    work(worker)
    path = "/account/domains/alice.example/remove"
    page = owner.get(path).text
    assert "eve@alice.example" in page and "sales@alice.example" in page
    assert f"info@{SITE}" not in page
    assert send(owner, path, path).status_code == 303
    work(worker)
    assert the_domains() == []
    assert [row["email"] for row in panel.records("mailbox")] == [f"info@{SITE}"]
    assert panel.records("forward") == panel.records("alias") == []
    assert add_domain(owner).status_code == 303


def test_a_domain_without_its_record_says_since_when_and_what_follows(
    owner, worker, publish, dns, this_shop
):
    add_domain(owner, wants_mail="y")
    publish()
    work(worker)
    dns.publish(domains.proof_name("alice.example"), "TXT")
    Domain.update(look_at=0).execute()
    domain_checks.look(this_shop)
    page = owner.get("/account/domains").text
    assert "its TXT record is missing" in page
    assert "its mail is switched off <time" in page
    assert "the domain is removed <time" in page
    assert "We found no TXT record" in page


def test_what_was_found_in_the_dns_is_shown_as_text(owner):
    add_domain(owner)
    Domain.update(problem='Its MX is "><script>alert(1)</script>.').execute()
    for path in ("domains", "domains/alice.example/status"):
        page = owner.get(f"/account/{path}").text
        assert "&lt;script&gt;alert(1)" in page
        assert "<script>alert" not in page


def test_mail_of_a_domain_can_be_switched(owner, worker, publish):
    add_domain(owner, wants_mail="y")
    publish()
    work(worker)
    for wants_mail, is_on in (("no", False), ("no", False), ("yes", True), ("x", False)):
        path = "/account/domains/alice.example/mail"
        answer = send(owner, path, "/account/domains", wants_mail=wants_mail)
        assert answer.status_code == 303
        assert Domain.get().wants_mail is is_on
    assert "alice.example</option>" not in owner.get("/account/mail").text


def test_check_now_looks_a_domain_up_soon(owner):
    add_domain(owner)
    Domain.update(look_at=2**40).execute()
    send(owner, "/account/domains/alice.example/check", "/account/domains")
    assert Domain.get().look_at <= clock.now() + 10


WRONG_DOMAINS = [
    *("", " ", "alice", ".", "..", "a..b", "shop.test", "bob.shop.test", "localhost", "a\0.org"),
    *("127.0.0.1", "[::1]", "a b.example", "a@b.example", "*.example.org", "-a.example", "😀"),
    *("a_b.example", "a\n.example", "x" * 64 + ".example", "x." * 5000 + "example", "x" * 10_000),
    *("<script>alert(1)</script>", '"><img src=x>.example', "xn--\0.example", "' OR 1=1 --"),
]


@with_settings(DOMAINS_INCLUDED="100")
def test_many_domains_are_polled_less_often(owner, this_shop, alice):
    for number in range(60):
        domains.add(this_shop, alice.id, f"a{number}.example", False)
    page = owner.get("/account/domains").text
    assert page.count('hx-trigger="every 30s"') == 60
    assert 'hx-trigger="every 30s"' in owner.get("/account/domains/a7.example/status").text


def test_an_invalid_domain_is_refused_beside_its_field(owner):
    token = csrf_token(owner.get("/account/domains").text)
    for name in WRONG_DOMAINS:
        fields = {"csrf_token": token, "name": name, "wants_mail": "y"}
        answer = owner.post("/account/domains", data=fields)
        assert error(answer, "name"), name
        assert str(escape(name.strip())) in answer.text, name
        assert "<script>alert" not in answer.text
        assert re.search('<input checked[^>]*name="wants_mail"', answer.text)
    assert the_domains() == []


def test_a_domain_beyond_ascii_is_shown_in_both_forms(owner):
    add_domain(owner, "Müller.example")
    page = owner.get("/account/domains").text
    assert "müller.example <small>(xn--mller-kva.example)</small>" in page
    assert the_domains() == ["xn--mller-kva.example"]


@with_settings(DOMAINS_INCLUDED="1")
def test_a_full_list_of_domains_is_refused_one_more(owner):
    add_domain(owner)
    assert "already" in error(add_domain(owner), "name")
    answer = add_domain(owner, "second.example")
    assert answer.status_code == 400
    assert "You have 1 of 1" in answer.text
    assert "extra_domains=1" in answer.text
    assert 'value="second.example"' in answer.text
    assert the_domains() == ["alice.example"]


def test_a_domain_of_another_is_not_found(owner, bob):
    Account.update(ready_at=clock.now()).execute()
    add_domain(bob, "bob.example")
    token = csrf_token(owner.get("/account/mail").text)
    before = [(row.name, row.look_at, row.wants_mail) for row in Domain.select()]
    assert len(before) == 1
    names = ("bob.example", "x", "%00", "%FF", "x" * 5000, "😀", SITE)
    for name, what in product(names, ("status", "check", "mail", "remove")):
        path = f"/account/domains/{name}/{what}"
        fields = {"csrf_token": token, "wants_mail": "yes"}
        assert owner.post(path, data=fields).status_code in (404, 405), name
        assert owner.get(path).status_code in (404, 405), name
    assert [(row.name, row.look_at, row.wants_mail) for row in Domain.select()] == before
