"""A hosting over the API: what it shows, its settings, its closing."""

from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest

from lightningspace.base import clock, passwords
from lightningspace.base.models import Account, Notice, Order, Server, Service, Token, transaction
from lightningspace.outside import l402
from lightningspace.outside.l402 import CAPABILITIES, Rights
from lightningspace.rules import domains, payments, services, tips, tokens, wanted
from tests.api.programs import (
    GOOD,
    HOUR,
    KEY,
    SITE,
    Program,
    clean,
    paid,
    problem,
    program,
    row,
    settings,
    wrong,
)
from tests.conftest import (
    at_once,
    eventually,
    let_the_server_follow,
    log_in,
    record_payments,
    with_mail,
    with_settings,
    work,
)

# -- what it shows ---------------------------------------------------------------------


@pytest.mark.each_database
@with_settings(MAIL_SEND_MIN_DAYS="365")
def test_a_hosting_is_described_as_the_control_center_shows_it(
    time_machine, client, this_shop, alice, owner, worker, wallet
):
    time_machine.moment = clock.from_iso("2030-01-01T00:00:00Z")
    clean(
        alice,
        **{f"used_{part}_mb": used for part, used in (("site", 9), ("database", 1), ("mail", 2))},
        opened_at=clock.now(),
        ready_at=clock.now(),
        valued_at=clock.now(),
        expires_at=clock.now() + 90 * 86400,
        used_at=clock.now(),
        email="alice@example.org",
    )
    wanted.add(this_shop, alice.id, "forward", f"all@{SITE}", destination="alice@example.org")
    domains.add(this_shop, alice.id, "example.org", False)
    Server.update(php_versions='[[1, "PHP 8.2"]]').execute()
    days = {"duration": 3, "unit": "days"}
    paid(client, wallet, worker, owner.post("/hosting/extend", days))
    Order.update(token="t", payment_hash="h").execute()
    let_the_server_follow(until=clock.now())
    told = owner.get().json
    services = told.pop("services")
    assert [service["kind"] for service in services] == [
        *("client", "site", "ftp", "shell", "database_user", "database"),
        *("mail_domain", "mailbox", "forward"),
    ]
    assert services[3] == {
        "kind": "shell",
        "name": "ls_alice",
        "is_on": True,
        "settings": {"ssh_key": ""},
        "password": None,
        "state": "live",
        "trouble": None,
    }
    domain = told.pop("domains")[0]
    assert [record["type"] for record in domain.pop("records")] == ["TXT", "ALIAS", "CNAME"]
    nothing = ("looked", "verified", "missing", "mx_missing", "mail_ends", "ends")
    assert domain == {
        "name": "example.org",
        "wants_mail": False,
        "added_at": "2030-01-01T00:00:00Z",
        **{f"{event}_at": None for event in nothing},
        "problem": None,
        "found": None,
        "web": None,
        "mail": None,
    }
    forward = {"address": f"all@{SITE}", "destination": "alice@example.org"}
    host = {"host": SITE, "user": "ls_alice"}
    mail = {"host": SITE, "user": f"info@{SITE}"}
    order = told.pop("payments")[0]
    assert told == {
        "as_of": "2030-01-01T00:00:00Z",
        "username": "alice",
        "site": SITE,
        "url": f"http://{SITE}/",
        "https": "fetching",
        "state": "changing",
        "notices": [],
        "is_ready": True,
        "jobs_before": None,
        "opened_at": "2030-01-01T00:00:00Z",
        "ready_at": "2030-01-01T00:00:00Z",
        "paid_until": "2030-04-04T00:00:00Z",
        "left_seconds": 93 * 86400,
        "paid_seconds": 93 * 86400,
        "credit_msat": 0,
        "size": {"space_mb": 100, "extra_addresses": 0, "extra_domains": 0},
        "space": {
            "site": {"used_mb": 9, "mb": 70},
            "database": {"used_mb": 1, "mb": 10},
            "mail": {"used_mb": 2, "mb": 20},
            "as_of": "2030-01-01T00:00:00Z",
        },
        "email": "alice@example.org",
        "email_waits": None,
        "password": None,
        "connections": {
            "host": SITE,
            "web": {"url": f"http://{SITE}/", "directory": "web"},
            "ftp": host | {"port": 21, "security": "explicit TLS"},
            "ssh": host | {"port": 22},
            "database": host
            | {"host": "localhost", "host_over_ssh": "127.0.0.1"}
            | {"port": 3306, "database": "ls_alice"},
            "imap": mail | {"port": 993, "security": "TLS"},
            "smtp": mail | {"port": 587, "security": "STARTTLS"},
        },
        "may_send": False,
        "php": {
            "choice": "0",
            "choices": [
                {"id": "0", "name": "the server's own"},
                {"id": "1", "name": "PHP 8.2"},
                {"id": "off", "name": "no PHP"},
            ],
        },
        "mailboxes": [
            {
                "address": f"info@{SITE}",
                "quota_mb": 20,
                "own_quota_mb": None,
                "password": None,
                "state": "live",
                "trouble": None,
            }
        ],
        "forwards": [forward | {"state": "applied", "trouble": None}],
        "addresses_allowed": 5,
        "domains_allowed": 1,
        "orders": [],
        "tips": {
            **dict.fromkeys(tips.SWITCHES, True),
            "page_url": "http://localhost/tip/alice",
            "lightning_address": "alice@localhost",
            "offer": None,
            "received_msat": 0,
        },
    }
    assert order == {
        "order": "t",
        "kind": "extend",
        "state": "paid",
        "price_msat": 21000,
        "received_msat": 21000,
        "size": {"space_mb": 100, "extra_addresses": 0, "extra_domains": 0},
        "time": days | {"seconds": 259200},
        "placed_at": "2030-01-01T00:00:00Z",
        "expires_at": order["expires_at"],
        "paid_at": order["paid_at"],
        "applied_at": "2030-01-01T00:00:00Z",
        "ends_at": "2030-04-04T00:00:00Z",
        "bought_seconds": 259200,
        "credit_msat": 0,
        "payment_hash": "h",
        "refund": None,
    }


def test_a_failing_service_is_reported_without_the_panels_words(this_shop, alice, owner):
    failing = {"error": "secret", "permanent": True, "tried_at": clock.now()}
    Service.update(revision=9, **failing).where(Service.kind == "ftp").execute()
    answer = owner.get()
    ftp = next(each for each in answer.json["services"] if each["kind"] == "ftp")
    assert (answer.json["state"], ftp["state"]) == ("problem", "problem")
    assert ftp["trouble"]["is_stuck"]
    assert "secret" not in answer.text


def test_only_whole_rights_see_passwords_and_the_address(client, this_shop, alice, owner, worker):
    clean(alice, email="alice@example.org", password_sealed=this_shop.vault.seal("the generated"))
    wanted.set_password(this_shop, alice.id, "ftp", "ls_alice")
    own = this_shop.vault.unseal(row("ftp").own_password_sealed)
    assert own not in owner.get().text  # the panel does not have it yet
    work(worker)
    assert {own, "the generated", "alice@example.org"} <= texts(owner.get().json)
    most = [each for each in CAPABILITIES if each != "close"]
    for rights in (Rights(frozenset(most), None), Rights(l402.WHOLE.capabilities, 2**33)):
        token = tokens.hand_out(this_shop, alice.id, f"until {rights.valid_until}", rights)
        narrower = Program(client, tokens.text_of(this_shop, token))
        assert not {own, "the generated", "alice@example.org"} & texts(narrower.get().json)


def texts(of) -> set:
    """All values in an answer, without the keys."""
    if isinstance(of, dict | list):
        return set().union(*map(texts, of.values() if isinstance(of, dict) else of))
    return {of}


def test_a_typed_password_is_not_shown(client, this_shop, wallet, worker):
    wish = {"space_mb": 100, "password": GOOD} | HOUR
    answer = Program(client, None).post("/hosting", wish)
    preimage = wallet.pay(answer.json["invoice"])["payment_preimage"]
    record_payments(worker)
    payments.apply(this_shop, Order.get().token)  # opened, with nothing at the panel yet
    buyer = Program(client, f"{answer.json['macaroon']}:{preimage}")
    told = buyer.get()
    assert (told.status_code, told.json["state"]) == (202, "setting_up")
    assert GOOD not in told.text
    assert problem(buyer.patch("/hosting", {"https": False})) == (503, "setting_up")
    work(worker)
    told = buyer.get()
    assert (told.status_code, told.json["is_ready"]) == (200, True)
    assert GOOD not in told.text


def test_reading_a_hosting_has_its_used_space_measured(owner, alice):
    clean(alice, used_site_mb=1, used_database_mb=1, used_mail_mb=1)
    clean(alice, used_at=clock.now() - 600, usage_at=clock.now() - 600 + 3600)
    owner.get()
    assert Account.get_by_id(alice.id).usage_at <= clock.now()


@pytest.mark.parametrize(
    "facts, state",
    [
        ({}, "live"),
        ({"ready_at": None}, "setting_up"),
        ({"suspended_at": 1, "expires_at": 2}, "suspended"),
        ({"last_call_at": 3, "suspended_at": 1, "expires_at": 2}, "last_call"),
        ({"blocked_at": 1, "blocked_reason": "spam"}, "blocked"),
        ({"closing_at": 1}, "closing"),
    ],
)
def test_the_state_is_one_word(facts, state, owner, alice):
    let_the_server_follow()
    if "expires_at" in facts:
        facts = facts | {"valued_at": 1}
    if facts:
        clean(alice, **facts)
    told = owner.get().json
    assert told["state"] == state
    if state in ("live", "setting_up"):
        assert told["notices"] == []
    else:
        assert told["notices"][0]["kind"] == state
    if state == "blocked":
        assert told["notices"][0]["reason"] == "spam"
    if state in ("suspended", "last_call"):
        assert told["left_seconds"] == 0
        assert clock.from_iso(told["notices"][0]["closes_at"])


# -- settings --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "body, kind, expected",
    [
        ({"php": "off"}, "site", {"php": False}),
        ({"php": "7"}, "site", {"php": True, "php_version": 7}),
        ({"https": False}, "site", {"letsencrypt": False}),
        ({"pretty_addresses": True}, "site", {"pretty_addresses": True}),
        ({"redirect_to": "Example.org/blog"}, "site", {"redirect_to": "https://example.org/blog/"}),
        ({"redirect_to": None}, "site", {"redirect_to": ""}),
        ({"ssh_key": f" {KEY} é\n"}, "shell", {"ssh_key": f"{KEY} e"}),
        ({"ssh_key": None}, "shell", {"ssh_key": ""}),
    ],
)
def test_a_setting_is_wanted_and_told(body, kind, expected, owner, alice):
    Server.update(php_versions='[[7, "PHP 8.2"]]').execute()
    wanted.configure(alice.id, "shell", "ls_alice", ssh_key=KEY)
    before = row(kind).revision
    answer = owner.patch("/hosting", body)
    assert answer.status_code == 200
    assert settings(kind).items() >= expected.items()
    assert row(kind).revision > before
    told = next(each for each in answer.json["services"] if each["kind"] == kind)
    assert (told["settings"], told["state"]) == (settings(kind), "changing")


@pytest.mark.parametrize("name, kind", [("ftp", "ftp"), ("ssh", "shell"), ("database", "database")])
def test_a_switch_is_off_and_on_again(name, kind, owner):
    for is_on in (False, True):
        assert owner.patch("/hosting", {name: is_on}).status_code == 200
        assert row(kind).active == is_on


@pytest.mark.parametrize(
    "field, kinds",
    [
        ("ftp_password", ["ftp"]),
        ("ssh_password", ["shell"]),
        ("database_password", ["database_user"]),
        ("services_password", ["database_user", "ftp", "mailbox", "shell"]),
    ],
)
@pytest.mark.parametrize("password", [GOOD, None])
def test_a_service_gets_a_password_typed_or_made(field, kinds, password, owner, this_shop, worker):
    assert owner.patch("/hosting", {field: password}).status_code == 200
    changed = list(Service.select().where(Service.password_sealed.is_null(False)))
    assert sorted(each.kind for each in changed) == kinds
    sealed = {this_shop.vault.unseal(each.password_sealed) for each in changed}
    assert len(sealed) == 1
    assert password is None or sealed == {password}
    work(worker)
    told = {each["password"] for each in owner.get().json["services"]} - {None}
    assert told == (sealed if password is None else set())


def test_saved_passwords_are_hidden_and_later_ones_are_shown(
    time_machine, owner, alice, this_shop, worker
):
    owner.patch("/hosting", {"ftp_password": None})
    work(worker)
    seen = owner.get().json
    time_machine.forward(5)
    owner.patch("/hosting", {"ssh_password": None})
    work(worker)
    told = owner.patch("/hosting", {"noted_as_of": seen["as_of"]}).json
    assert [each["kind"] for each in told["services"] if each["password"]] == ["shell"]


WRONG_SETTINGS = [
    ("php", "8.2"),
    ("php", "99"),
    ("php", ""),
    ("ssh_key", "no key"),
    ("ssh_key", f"{KEY}\n{KEY}"),
    ("ssh_key", f"no-pty {KEY}"),
    ("ssh_key", "-----BEGIN OPENSSH PRIVATE KEY-----"),
    ("services_password", ""),
    ("ftp_password", "short"),
    ("ssh_password", "pässword pässword"),
    ("database_password", "x" * 65),
    *((field, "it's 9 lives!") for field in ("services_password", "database_password")),
    *((field, "abcd123\\") for field in ("ftp_password", "ssh_password", "login_password")),
    ("login_password", "short"),
    ("email", ""),
    ("email", "nobody"),
    ("email", "\ud800@example.org"),
    ("email", f"{'x' * 250}@example.org"),
    ("noted_as_of", "yesterday"),
    ("noted_as_of", "0000-01-01T00:00:00Z"),
    ("https", "on"),
    ("ftp", 1),
    ("username", "eve"),
]


def test_a_wrong_field_keeps_the_others_from_being_changed(owner, alice):
    for field, value in WRONG_SETTINGS:
        answer = owner.patch("/hosting", {"https": False, "ssh_password": GOOD} | {field: value})
        assert wrong(answer) == {field}, (field, value)
    assert settings("site")["letsencrypt"]
    assert not Service.select().where(Service.password_sealed.is_null(False)).exists()
    assert Account.get_by_id(alice.id).session_epoch == 0


@with_settings(SITES_TLS="none")
def test_https_is_refused_where_there_is_none(owner):
    answer = owner.patch("/hosting", {"https": True, "php": "off"})
    assert answer.json["errors"] == {"https": ["This shop’s sites have no HTTPS."]}
    assert settings("site")["php"]
    told = owner.get().json
    assert (told["https"], told["url"]) == ("none", f"http://{SITE}/")


def test_all_errors_are_reported_at_once(owner):
    body = {"php": "x", "ssh_key": "x", "ftp_password": "x", "email": "x", "login_password": "x"}
    assert wrong(owner.patch("/hosting", body)) == body.keys()


def test_a_null_counts_as_a_missing_field_where_null_means_nothing(owner, alice):
    before = Account.get_by_id(alice.id).revision
    for body in ({}, {"php": None, "https": None, "login_password": None}):
        assert owner.patch("/hosting", body).status_code == 200
    assert Account.get_by_id(alice.id).revision == before


def test_the_password_of_all_services_needs_the_capability_mail(client, this_shop, alice):
    """The password is one of the mailboxes', too."""
    answers = [
        program(client, this_shop, alice, "settings", *more).patch(
            "/hosting", {"services_password": GOOD}
        )
        for more in ([], ["mail"])
    ]
    assert problem(answers[0]) == (403, "not_capable")
    assert answers[1].status_code == 200


@pytest.mark.parametrize(
    "body", [{"login_password": GOOD}, {"email": None}, {"noted_as_of": "2030-01-01T00:00:00Z"}]
)
def test_the_owners_settings_need_a_credential_with_all_rights(body, client, this_shop, alice):
    delegate = program(client, this_shop, alice, "read", "settings", "pay")
    clean(alice, email="alice@example.org")
    assert problem(delegate.patch("/hosting", body | {"https": False})) == (403, "not_whole")
    now = Account.get_by_id(alice.id)
    assert (now.email, now.session_epoch) == ("alice@example.org", 0)
    assert settings("site")["letsencrypt"]


def test_a_new_login_password_ends_every_session_and_no_credential(app, owner, alice):
    browser = app.test_client()
    log_in(browser, "alice", "correct horse")
    assert browser.get("/account").status_code == 200
    answer = owner.patch("/hosting", {"login_password": GOOD})
    assert answer.status_code == 200
    assert "Set-Cookie" not in answer.headers
    assert browser.get("/account").location.startswith("/login")
    assert log_in(browser, "alice", "correct horse").status_code == 400
    assert log_in(browser, "alice", GOOD).status_code == 303
    assert owner.get().status_code == 200


@pytest.mark.each_database
@pytest.mark.parametrize("revoked", ["every token", "this one"])
def test_a_credential_that_is_revoked_meanwhile_sets_no_password(
    client, this_shop, owner, alice, revoked
):
    given = Token.get()
    passwords.KNOWN.turn.acquire()
    with ThreadPoolExecutor(1) as pool:
        body = {"login_password": GOOD, "https": False}
        answer = pool.submit(owner.patch, "/hosting", body)
        eventually(lambda: passwords.KNOWN._networks)
        if revoked == "this one":
            tokens.revoke(alice.id, given.id)
        else:
            with transaction():
                tokens.renew(alice.id)
        passwords.KNOWN.turn.release()
        answer = answer.result()
    assert problem(answer) == (401, "unauthorized")
    assert Account.get_by_id(alice.id).password_hash == alice.password_hash
    assert settings("site")["letsencrypt"]


@with_mail
def test_a_new_address_is_mailed_a_link_first(mails, owner, alice):
    answer = owner.patch("/hosting", {"email": " new@example.org"})
    assert (answer.status_code, answer.json["email"]) == (200, None)
    assert answer.json["email_waits"] == "new@example.org"
    notice = Notice.get()
    assert (notice.kind, notice.recipient) == ("confirm", "new@example.org")


def test_no_address_means_no_reminders(owner, alice):
    clean(alice, email="alice@example.org")
    Account.update(email_waits="new@example.org").execute()
    answer = owner.patch("/hosting", {"email": None}).json
    assert answer["email"] is answer["email_waits"] is None
    assert Account.get_by_id(alice.id).email is None


def test_a_shop_that_sends_no_mail_takes_no_address_and_changes_nothing(owner):
    answer = owner.patch("/hosting", {"email": "new@example.org", "https": False})
    assert problem(answer) == (409, "no_mail")
    assert settings("site")["letsencrypt"]


@with_mail
def test_the_sixth_mail_of_a_day_changes_nothing(mails, owner):
    for number in range(5):
        answer = owner.patch("/hosting", {"email": f"new{number}@example.org"})
        assert answer.status_code == 200
    answer = owner.patch("/hosting", {"email": "new@example.org", "https": False})
    assert problem(answer) == (429, "too_many_mails")
    assert answer.headers["Retry-After"]
    assert settings("site")["letsencrypt"]


@with_mail
def test_one_address_gets_one_link_a_day_from_all(mails, owner, bob):
    for _ in range(2):  # asking again for the same address sends nothing
        assert owner.patch("/hosting", {"email": "victim@example.org"}).status_code == 200
    answer = bob.patch("/hosting", {"email": "Victim+x@example.org"})
    assert problem(answer) == (429, "too_many_mails")
    assert Notice.select().count() == 1


@pytest.mark.each_database
def test_changes_of_one_hosting_at_once_are_all_made(app, owner, alice):
    bodies = [{"https": False}, {"ftp": False}, {"ssh_key": KEY}]
    bodies.append({"ssh_password": GOOD, "php": "off"})

    def change(body):
        return Program(app.test_client(), None)("PATCH", "/hosting", body, **owner.headers)

    answers = at_once(*[partial(change, body) for body in bodies])
    assert [answer.status_code for answer in answers] == [200] * 4
    site = {"php": False, "php_version": 0, "letsencrypt": False}
    assert settings("site") == services.KINDS["site"].first_settings() | site
    assert (row("ftp").active, settings("shell")["ssh_key"]) == (False, KEY)
    assert row("shell").password_sealed


# -- the end ---------------------------------------------------------------------------


def test_a_hosting_is_closed_and_then_gone(owner, alice, worker):
    order = owner.post("/hosting/extend", HOUR).json["order"]
    for _ in range(2):
        answer = owner.delete()
        assert (answer.status_code, answer.json) == (202, {"closing": True})
    assert Order.get_by_id(order).cancelled_at
    assert owner.get().json["state"] == "closing"
    work(worker)
    assert Account.select().count() == 0
    for answer in (owner.get(), owner.delete()):
        assert problem(answer) == (401, "unauthorized")


def test_a_payment_on_its_way_keeps_a_hosting_open(owner, alice, wallet):
    wallet.pay(owner.post("/hosting/extend", HOUR).json["invoice"])
    assert problem(owner.delete()) == (409, "just_paid")
    assert Account.get_by_id(alice.id).closing_at is None


def test_a_hosting_that_somebody_may_be_paying_for_is_not_closed_yet(
    owner, alice, wallet, this_shop, worker
):
    tips.offer(this_shop, alice)
    wallet.pay(this_shop.node.create_invoice("another program's", 1000, "x", 600).bolt11)
    assert problem(owner.delete()) == (503, "checking")
    record_payments(worker)
    assert owner.delete().status_code == 202


def test_without_the_node_nothing_is_closed(owner, alice, node):
    owner.post("/hosting/extend", HOUR)
    node.stop()
    assert problem(owner.delete()) == (503, "node_down")
    assert Account.get_by_id(alice.id).closing_at is None
