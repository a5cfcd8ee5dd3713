"""The API over a hosting that is there: what it tells, changes, refuses and sells."""

import re
import secrets
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import product

import pytest

from lightningspace.base import clock, passwords
from lightningspace.base.models import (
    Account,
    Domain,
    Notice,
    Offer,
    Order,
    Server,
    Service,
    Token,
    transaction,
)
from lightningspace.outside import l402
from lightningspace.outside.l402 import CAPABILITIES, Rights
from lightningspace.panel import reconcile
from lightningspace.rules import (
    accounts,
    domains,
    hostnames,
    orders,
    payments,
    services,
    tips,
    tokens,
    wanted,
)
from tests.conftest import (
    at_once,
    csrf_token,
    enter,
    eventually,
    invoices_asked_for,
    let_the_server_follow,
    log_in,
    open_account,
    record_payments,
    with_settings,
    work,
)

pytestmark = pytest.mark.any_database

API = "/api/v1"
SITE = "alice.shop.test"
GOOD = "battery staple"
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIB0NEtxcJ2O5pSNUEvSLhZqVgVn3Dq3JfHEtVxkS3gbq"
HOUR = {"duration": 1, "unit": "hours"}
TO_ALICE = {"destination": "alice@example.org"}
EVE = f"eve@{SITE}"
TIP = "7" * 32


class Program:
    """A program with a credential, or with none."""

    def __init__(self, client, credential: str | None):
        self._client = client
        self.headers = {"Authorization": f"L402 {credential}"} if credential else {}

    def __call__(self, method: str, path: str, body: dict | None = None, **headers):
        return self._client.open(
            API + path, method=method, json=body, headers=self.headers | headers
        )

    def get(self, path="/hosting"):
        return self("GET", path)

    def post(self, path, body=None):
        return self("POST", path, body)

    def patch(self, path, body):
        return self("PATCH", path, body)

    def delete(self, path="/hosting"):
        return self("DELETE", path)


def program(client, shop, account, *capabilities: str) -> Program:
    """One with these capabilities of the account; without any named, with a whole credential."""
    rights = Rights(frozenset(capabilities), None) if capabilities else l402.WHOLE
    token = tokens.hand_out(shop, account.id, f"of a test {secrets.token_hex(4)}", rights)
    return Program(client, tokens.text_of(shop, token))


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


def paid(client, wallet, worker, answer) -> Program:
    """Pay what a 402 asks for; who shows that."""
    assert answer.status_code == 402, answer.text
    preimage = wallet.pay(answer.json["invoice"])["payment_preimage"]
    work(worker)
    return Program(client, f"{answer.json['macaroon']}:{preimage}")


def problem(answer) -> tuple[int, str]:
    assert answer.mimetype == "application/problem+json", answer.text
    return answer.status_code, answer.json["code"]


def wrong(answer) -> set[str]:
    """The fields of the body that are refused."""
    assert problem(answer) == (400, "bad_request")
    return set(answer.json["errors"])


def row(kind, name=None) -> Service:
    name = name or {"site": SITE}.get(kind, "ls_alice")
    return Service.get((Service.kind == kind) & (Service.name == name))


def settings(kind, name=None) -> dict:
    return services.settings_of(row(kind, name))


def clean(account: Account, **facts) -> None:
    Account.update(facts).where(Account.id == account.id).execute()


# -- who may what ----------------------------------------------------------------------

# Method and path, body, capability, status of success: all of them work one after the other.
ROUTES = [
    ("GET /hosting", None, "read", 200),
    ("GET /hosting/mailboxes", None, "read", 200),
    ("GET /hosting/mailboxes/eve@alice.shop.test", None, "read", 200),
    ("GET /hosting/forwards", None, "read", 200),
    ("GET /hosting/forwards/all@alice.shop.test", None, "read", 200),
    ("GET /hosting/domains", None, "read", 200),
    ("GET /hosting/domains/example.org", None, "read", 200),
    ("GET /hosting/orders", None, "read", 200),
    ("PATCH /hosting", {"https": True}, "settings", 200),
    ("PATCH /hosting/mailboxes/eve@alice.shop.test", {"quota_mb": 3}, "mail", 200),
    ("PATCH /hosting/forwards/all@alice.shop.test", {"destination": "a@b.example"}, "mail", 200),
    ("PATCH /hosting/domains/example.org", {"wants_mail": True}, "domains", 200),
    ("POST /hosting/mailboxes", {"address": f"new@{SITE}"}, "mail", 201),
    ("POST /hosting/forwards", {"address": f"newer@{SITE}"} | TO_ALICE, "mail", 201),
    ("POST /hosting/domains", {"name": "example.net"}, "domains", 201),
    ("POST /hosting/domains/example.org/check", None, "domains", 202),
    ("GET /hosting/tips", None, "read", 200),
    (f"PATCH /hosting/tips/{TIP}", {"hidden": True}, "settings", 200),
    ("DELETE /hosting/mailboxes/eve@alice.shop.test", None, "mail", 202),
    ("DELETE /hosting/forwards/all@alice.shop.test", None, "mail", 202),
    ("DELETE /hosting/domains/example.org", None, "domains", 202),
    ("DELETE /hosting/orders/<order>", None, "pay", 200),
    ("DELETE /hosting", None, "close", 202),
]
roomy = with_settings(DOMAINS_INCLUDED="3", CHANGES_LIMIT="1000 per minute")


@pytest.fixture
def furnished(this_shop, alice) -> str:
    """Alice's hosting has one of each; the token of an unpaid order."""
    wanted.add(this_shop, alice.id, "mailbox", f"eve@{SITE}", GOOD)
    wanted.add(this_shop, alice.id, "forward", f"all@{SITE}", destination="alice@example.org")
    domains.add(this_shop, alice.id, "example.org", False)
    paid_tip(alice)
    buyer = orders.Buyer(None, "a form", tokens.RECEIPT)
    return orders.extend(this_shop, alice.id, 1, "hours", buyer).token


def paid_tip(account, token=TIP, **facts) -> Order:
    """One that has taken effect."""
    paid = {"node_id": "a node", "pay_index": 1, "payment_hash": token, "received_msat": 5000}
    applied = {"bought_seconds": 5, "ends_at": account.expires_at + 5}
    applied |= dict.fromkeys(("placed_at", "expires_at", "paid_at", "applied_at"), clock.now())
    tip = {"kind": "topup", "door": "page", "space_mb": 100, "amount_msat": 5000}
    return Order.create(token=token, account=account.id, **tip | paid | applied | facts)


def ask(who: Program, route, order: str):
    (method, path), body = route[0].split(), route[1]
    return who(method, path.replace("<order>", order), body)


@roomy
def test_each_route_needs_its_capability(client, this_shop, alice, furnished, node):
    who = {each: program(client, this_shop, alice, each) for each in CAPABILITIES}
    asked = invoices_asked_for(node)
    for route, capability in product(ROUTES, CAPABILITIES):
        if capability != route[2]:
            answer = ask(who[capability], route, furnished)
            assert problem(answer) == (403, "not_capable"), (route, capability)
    for route in ROUTES:
        answer = ask(who[route[2]], route, furnished)
        status = answer.status_code
        assert status == route[3], (route, answer.text)
        assert "Set-Cookie" not in answer.headers
        assert (status == 202) == ("Retry-After" in answer.headers)
        assert (status == 201) == ("Location" in answer.headers)
    assert invoices_asked_for(node) == asked


@roomy
def test_without_a_credential_nothing_is_told_or_sold(furnished, stranger, node):
    asked = invoices_asked_for(node)
    for route in ROUTES:
        answer = ask(stranger, route, furnished)
        assert problem(answer) == (401, "unauthorized"), route
        assert answer.headers.getlist("WWW-Authenticate") == ["L402"]
    assert invoices_asked_for(node) == asked


def test_the_table_names_every_route(app):
    routes = set()
    for rule in app.url_map.iter_rules():
        if rule.rule.startswith(f"{API}/hosting"):
            routes |= {f"{method} {rule.rule}" for method in rule.methods - {"HEAD", "OPTIONS"}}
    known = {f"POST {API}/hosting{path}" for path in ("", "/extend", "/resize")}
    for route, *_ in ROUTES:
        method, path = route.split()
        path = re.sub("/[a-z]+@[^/]*", "/<address>", path).replace("example.org", "<name>")
        known.add(f"{method} {API}{path.replace('<order>', '<token>').replace(TIP, '<token>')}")
    assert routes == known


@pytest.mark.parametrize("path", ["/hosting", "/hosting/mailboxes", "/hosting/domains", "/prices"])
def test_a_head_is_a_get_without_a_body(path, owner):
    answer = owner("HEAD", path)
    assert (answer.status_code, answer.data) == (200, b"")
    assert answer.content_length == len(owner.get(path).data)


def test_a_wrong_method_says_which_are_right(owner):
    answer = owner("PUT", "/hosting/mailboxes")
    assert problem(answer) == (405, "method_not_allowed")
    assert {"GET", "POST"} <= set(answer.headers["Allow"].split(", "))


# -- what is told ----------------------------------------------------------------------


@pytest.mark.each_database
@with_settings(MAIL_SEND_MIN_DAYS="365")
def test_a_hosting_is_told_as_the_control_center_shows_it(
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
    }


def test_what_fails_is_told_without_the_panels_words(this_shop, alice, owner):
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
    """All that an answer says, without its names."""
    if isinstance(of, dict | list):
        return set().union(*map(texts, of.values() if isinstance(of, dict) else of))
    return {of}


def test_a_typed_password_is_not_told(client, this_shop, wallet, worker):
    wish = {"space_mb": 100, "password": GOOD} | HOUR
    answer = Program(client, None).post("/hosting", wish)
    preimage = wallet.pay(answer.json["invoice"])["payment_preimage"]
    record_payments(worker)
    payments.apply(this_shop, Order.get().token)  # it is opened, and the panel has nothing yet
    buyer = Program(client, f"{answer.json['macaroon']}:{preimage}")
    told = buyer.get()
    assert (told.status_code, told.json["state"]) == (202, "setting_up")
    assert GOOD not in told.text
    assert problem(buyer.patch("/hosting", {"https": True})) == (503, "setting_up")
    work(worker)
    told = buyer.get()
    assert (told.status_code, told.json["is_ready"]) == (200, True)
    assert GOOD not in told.text


def test_a_look_has_the_used_space_asked_for_anew(owner, alice):
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


# -- prices ----------------------------------------------------------------------------


def test_prices_tell_all_that_a_program_reckons_with(stranger, node):
    told = stranger.get("/prices").json
    assert told["included"] == {"addresses": 5, "domains": 1}
    assert told["extra"]["address_msat_per_day"] == 1000
    assert told["time"]["unit_seconds"]["months"] == 30 * 86400
    assert "price" not in told
    asked = stranger.get("/prices?space_mb=100&duration=3&unit=months").json["price"]
    assert asked["msat"] == 90 * 7000
    assert invoices_asked_for(node) == 0


@pytest.mark.parametrize(
    "query, fields",
    [
        ("space_mb=100", {"duration", "unit"}),
        ("space_mb=7&duration=1&unit=hours", {"space_mb"}),
        ("space_mb=100&duration=0&unit=hours", {"duration"}),
        ("space_mb=100&duration=1_0&unit=hours", {"duration"}),
        ("space_mb=100&duration=1&unit=years", {"unit"}),
        ("space_mb=%00&duration=&unit=", {"space_mb", "duration", "unit"}),
    ],
)
def test_a_wrong_question_for_a_price_says_so(query, fields, stranger):
    assert wrong(stranger.get(f"/prices?{query}")) == fields


# -- settings --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "body, kind, expected",
    [
        ({"php": "off"}, "site", {"php": False}),
        ({"php": "7"}, "site", {"php": True, "php_version": 7}),
        ({"https": True}, "site", {"letsencrypt": True}),
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


def test_noted_passwords_are_told_no_more_and_later_ones_are(
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


def test_a_wrong_field_changes_nothing_of_the_others(owner, alice):
    for field, value in WRONG_SETTINGS:
        answer = owner.patch("/hosting", {"https": True, "ssh_password": GOOD} | {field: value})
        assert wrong(answer) == {field}, (field, value)
    assert not settings("site")["letsencrypt"]
    assert not Service.select().where(Service.password_sealed.is_null(False)).exists()
    assert Account.get_by_id(alice.id).session_epoch == 0


def test_all_that_is_wrong_is_said_at_once(owner):
    body = {"php": "x", "ssh_key": "x", "ftp_password": "x", "email": "x", "login_password": "x"}
    assert wrong(owner.patch("/hosting", body)) == body.keys()


def test_what_is_null_and_cannot_be_is_as_if_it_were_not_there(owner, alice):
    before = Account.get_by_id(alice.id).revision
    for body in ({}, {"php": None, "https": None, "login_password": None}):
        assert owner.patch("/hosting", body).status_code == 200
    assert Account.get_by_id(alice.id).revision == before


def test_the_password_of_all_services_needs_the_capability_mail(client, this_shop, alice):
    """It is one of the mailboxes, too."""
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
def test_what_is_the_owners_needs_a_whole_credential(body, client, this_shop, alice):
    delegate = program(client, this_shop, alice, "read", "settings", "pay")
    clean(alice, email="alice@example.org")
    assert problem(delegate.patch("/hosting", body | {"https": True})) == (403, "not_whole")
    now = Account.get_by_id(alice.id)
    assert (now.email, now.session_epoch) == ("alice@example.org", 0)
    assert not settings("site")["letsencrypt"]


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
        body = {"login_password": GOOD, "https": True}
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
    assert not settings("site")["letsencrypt"]


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
    answer = owner.patch("/hosting", {"email": "new@example.org", "https": True})
    assert problem(answer) == (409, "no_mail")
    assert not settings("site")["letsencrypt"]


def test_the_sixth_mail_of_a_day_changes_nothing(mails, owner):
    for number in range(5):
        answer = owner.patch("/hosting", {"email": f"new{number}@example.org"})
        assert answer.status_code == 200
    answer = owner.patch("/hosting", {"email": "new@example.org", "https": True})
    assert problem(answer) == (429, "too_many_mails")
    assert answer.headers["Retry-After"]
    assert not settings("site")["letsencrypt"]


def test_one_address_gets_one_link_a_day_from_all(mails, owner, bob):
    for _ in range(2):  # the second is the same request
        assert owner.patch("/hosting", {"email": "victim@example.org"}).status_code == 200
    answer = bob.patch("/hosting", {"email": "Victim+x@example.org"})
    assert problem(answer) == (429, "too_many_mails")
    assert Notice.select().count() == 1


# -- mailboxes and forwards ------------------------------------------------------------

MAILBOX = f"/hosting/mailboxes/{EVE}"
FORWARD = f"/hosting/forwards/{EVE}"


def test_a_mailbox_is_added_changed_and_removed(owner, worker):
    answer = owner.post(
        "/hosting/mailboxes", {"address": f"Eve <Eve@{SITE.upper()}>", "quota_mb": 4}
    )
    assert answer.status_code == 201
    assert answer.headers["Location"] == f"{API}{MAILBOX}"
    told = answer.json
    assert (told["address"], told["state"], told["password"]) == (EVE, "waiting", None)
    assert (told["quota_mb"], told["own_quota_mb"]) == (4, 4)
    work(worker)
    made = owner.get(MAILBOX).json["password"]
    assert len(made) == 16
    assert owner.patch(MAILBOX, {"quota_mb": None}).json["own_quota_mb"] is None
    assert owner.get(MAILBOX).json["password"] == made
    assert owner.patch(MAILBOX, {"password": None}).json["state"] == "changing"
    work(worker)
    assert owner.get(MAILBOX).json["password"] not in (None, made)
    assert owner.patch(MAILBOX, {"password": GOOD}).status_code == 200
    work(worker)
    assert owner.get(MAILBOX).json["password"] is None
    assert [each["address"] for each in owner.get("/hosting/mailboxes").json["mailboxes"]] == [
        EVE,
        f"info@{SITE}",
    ]
    removed = owner.delete(MAILBOX)
    assert (removed.status_code, removed.json) == (202, {"address": EVE, "state": "going"})
    assert owner.get(MAILBOX).json["state"] == "going"
    assert problem(owner.delete(MAILBOX)) == (404, "unknown")
    work(worker)
    assert problem(owner.get(MAILBOX)) == (404, "unknown")


def test_a_forward_is_added_changed_and_removed(owner, worker):
    answer = owner.post("/hosting/forwards", {"address": EVE} | TO_ALICE)
    assert (answer.status_code, answer.headers["Location"]) == (201, f"{API}{FORWARD}")
    assert answer.json == {"address": EVE, "state": "waiting", "trouble": None} | TO_ALICE
    work(worker)
    changed = owner.patch(FORWARD, {"destination": "Bob <Bob@Tüst.de>"}).json
    assert (changed["destination"], changed["state"]) == ("bob@xn--tst-hoa.de", "changing")
    work(worker)
    assert owner.get(FORWARD).json["state"] == "applied"
    used = owner.get("/hosting/forwards").json
    assert (used["addresses_used"], used["addresses_allowed"]) == (2, 5)
    assert owner.delete(FORWARD).status_code == 202
    work(worker)
    assert owner.get("/hosting/forwards").json["forwards"] == []


WRONG_MAILBOXES = [
    ({}, {"address"}),
    ({"address": "eve"}, {"address"}),
    ({"address": f"@{SITE}"}, {"address"}),
    ({"address": f"e ve@{SITE}"}, {"address"}),
    ({"address": f"e\0ve@{SITE}"}, {"address"}),
    ({"address": f"\ud800@{SITE}"}, {"address"}),
    ({"address": f"{'e' * 64}@{SITE}"}, {"address"}),
    ({"address": "eve@bobby.shop.test"}, {"address"}),
    ({"address": f"eve@x@{SITE}"}, {"address"}),
    ({"address": ["eve"]}, {"address"}),
    ({"address": EVE, "password": "short"}, {"password"}),
    ({"address": EVE, "password": 'say "friend"'}, {"password"}),
    ({"address": EVE, "quota_mb": 0}, {"quota_mb"}),
    ({"address": EVE, "quota_mb": -1}, {"quota_mb"}),
    ({"address": EVE, "quota_mb": 21}, {"quota_mb"}),
    ({"address": EVE, "quota_mb": 10**14}, {"quota_mb"}),
    ({"address": EVE, "quota_mb": "4"}, {"quota_mb"}),
    ({"address": EVE, "quota_mb": True}, {"quota_mb"}),
    ({"address": EVE, "mb": 4}, {"mb"}),
]


def test_a_wrong_mailbox_is_refused(owner):
    for body, fields in WRONG_MAILBOXES:
        assert wrong(owner.post("/hosting/mailboxes", body)) == fields, body
    assert Service.select().where(Service.kind == "mailbox").count() == 1


def test_a_wrong_destination_is_refused(owner):
    destinations = [None, "", "nobody", EVE, EVE.upper(), "a@b.example,c@b.example", "\ud800"]
    bodies = [{"destination": each} for each in destinations]
    for body in bodies:
        assert wrong(owner.post("/hosting/forwards", {"address": EVE} | body)) == {"destination"}
    owner.post("/hosting/forwards", {"address": EVE} | TO_ALICE)
    for body in bodies:
        assert wrong(owner.patch(FORWARD, body)) == {"destination"}
    assert settings("forward", EVE) == TO_ALICE


def test_a_wrong_change_of_a_mailbox_changes_nothing(owner, this_shop, alice):
    wanted.add(this_shop, alice.id, "mailbox", EVE, GOOD)
    before = row("mailbox", EVE)
    for body in ({"password": "x"}, {"quota_mb": 99}, {"address": "x"}):
        answer = owner.patch(MAILBOX, {"password": GOOD, "quota_mb": 2} | body)
        assert wrong(answer) == body.keys()
    assert row("mailbox", EVE).__data__ == before.__data__


def test_an_address_is_there_once(owner):
    assert owner.post("/hosting/mailboxes", {"address": EVE}).status_code == 201
    assert problem(owner.post("/hosting/mailboxes", {"address": EVE})) == (409, "taken")
    answer = owner.post("/hosting/forwards", {"address": EVE} | TO_ALICE)
    assert problem(answer) == (409, "taken")


def fill(shop, account) -> None:
    for number in range(4):
        name = f"more{number}@{hostnames.site_name(shop, account.username)}"
        wanted.add(shop, account.id, "forward", name, destination="alice@example.org")


@pytest.mark.parametrize(
    "path, body",
    [("/hosting/mailboxes", {"address": EVE}), ("/hosting/forwards", {"address": EVE} | TO_ALICE)],
)
def test_one_more_address_is_sold_and_then_added(
    time_machine, path, body, client, this_shop, alice, owner, wallet, worker, node
):
    fill(this_shop, alice)
    answer = owner.post(path, body)
    assert answer.status_code == 402
    assert answer.json["price_msat"] == 90 * 1000
    assert answer.json["sale"]["size"]["extra_addresses"] == 1
    again = owner.post(path, body)
    assert again.json["invoice"] == answer.json["invoice"]
    buyer = paid(client, wallet, worker, again)
    added = buyer.post(path, body)
    assert (added.status_code, added.json["address"]) == (201, EVE)
    assert Account.get_by_id(alice.id).extra_addresses == 1
    assert problem(buyer.post(path, body)) == (409, "taken")
    # The next is sold anew, to one of them at a time.
    told = []
    for who in (owner, buyer):
        answer = who.post(path, body | {"address": f"other@{SITE}"})
        told.append(problem(answer))
    assert told == [(402, "payment_required"), (409, "size_waits")]
    assert invoices_asked_for(node) == 2


def test_what_was_paid_for_one_more_may_be_used_by_the_old_credential(
    client, this_shop, alice, owner, wallet, worker
):
    fill(this_shop, alice)
    paid(client, wallet, worker, owner.post("/hosting/mailboxes", {"address": EVE}))
    assert owner.post("/hosting/mailboxes", {"address": EVE}).status_code == 201


def test_what_is_wrong_is_said_before_anything_is_sold(owner, this_shop, alice, node):
    fill(this_shop, alice)
    wrong(owner.post("/hosting/mailboxes", {"address": EVE, "password": "short"}))
    answer = owner.post("/hosting/mailboxes", {"address": f"info@{SITE}"})
    assert problem(answer) == (409, "taken")
    assert invoices_asked_for(node) == 0


def test_one_more_is_sold_only_to_who_may_pay(client, this_shop, alice, node):
    fill(this_shop, alice)
    delegate = program(client, this_shop, alice, "mail")
    answer = delegate.post("/hosting/mailboxes", {"address": EVE})
    assert problem(answer) == (403, "not_capable")
    assert "pay" in answer.json["detail"]
    assert invoices_asked_for(node) == 0
    answer = program(client, this_shop, alice, "mail", "pay").post(
        "/hosting/mailboxes", {"address": EVE}
    )
    assert problem(answer) == (402, "payment_required")


def test_the_mailbox_of_a_delegate_shows_its_password_to_the_owner(
    client, this_shop, alice, owner, worker
):
    delegate = program(client, this_shop, alice, "mail", "read")
    assert delegate.post("/hosting/mailboxes", {"address": EVE}).status_code == 201
    work(worker)
    assert delegate.get(MAILBOX).json["password"] is None
    assert owner.get(MAILBOX).json["password"]


# -- domains ---------------------------------------------------------------------------

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


def test_a_domain_of_other_letters_is_found_again(owner):
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


# -- orders ----------------------------------------------------------------------------


def test_an_unpaid_order_is_listed_and_cancelled(owner, wallet):
    invoice = owner.post("/hosting/extend", HOUR).json["invoice"]
    (order,) = owner.get("/hosting/orders").json["orders"]
    assert (order["kind"], order["state"], order["price_msat"]) == ("extend", "unpaid", 1000)
    assert owner.get().json["orders"] == [order]
    path = f"/hosting/orders/{order['order']}"
    for _ in range(2):
        cancelled = owner.delete(path)
        assert (cancelled.status_code, cancelled.json["state"]) == (200, "cancelled")
    assert owner.get("/hosting/orders").json["orders"] == []
    with pytest.raises(Exception, match="unknown|expired|not"):
        wallet.pay(invoice)


def test_a_paid_order_stands(client, owner, wallet, worker):
    paid(client, wallet, worker, owner.post("/hosting/extend", HOUR))
    (order,) = owner.get("/hosting/orders").json["payments"]
    assert problem(owner.delete(f"/hosting/orders/{order['order']}")) == (409, "paid")


def test_an_order_that_was_just_paid_stands(owner, wallet):
    """The node knows of the payment, and we do not yet."""
    answer = owner.post("/hosting/extend", HOUR).json
    wallet.pay(answer["invoice"])
    assert problem(owner.delete(f"/hosting/orders/{answer['order']}")) == (409, "paid")


def test_an_order_that_gets_its_invoice_just_now_is_cancelled_soon(owner):
    order = owner.post("/hosting/extend", HOUR).json["order"]
    Order.update(bolt11=None).execute()
    assert problem(owner.delete(f"/hosting/orders/{order}")) == (503, "checking")


def test_without_the_node_an_order_is_cancelled_later(owner, node):
    order = owner.post("/hosting/extend", HOUR).json["order"]
    node.stop()
    answer = owner.delete(f"/hosting/orders/{order}")
    assert problem(answer) == (503, "node_down")
    assert answer.headers["Retry-After"]
    assert [each["state"] for each in owner.get("/hosting/orders").json["orders"]] == ["checking"]


@pytest.mark.parametrize(
    "what, listed, most, facts",
    [
        ("orders", "payments", 50, {"kind": "extend", "duration": 1, "unit": "hours"}),
        ("tips", "tips", 50, {"kind": "topup", "door": "page"}),
    ],
)
def test_many_payments_come_in_parts(owner, alice, what, listed, most, facts):
    facts |= {"account": alice, "space_mb": 100, "amount_msat": 1000, "placed_at": 1}
    facts |= {"expires_at": 2, "node_id": "n", "pay_index": 1, "received_msat": 1000}
    tokens = [f"{number:032x}" for number in range(2 * most + 5)]
    Order.insert_many(
        facts | {"token": each, "payment_hash": each, "paid_at": clock.now() - number // 3}
        for number, each in enumerate(tokens)
    ).execute()
    seen, before = [], ""
    while before is not None:
        told = owner.get(f"/hosting/{what}{before and '?before='}{before}").json
        assert len(told[listed]) <= most
        seen += [each["order"] for each in told[listed]]
        before = told["next_before"]
    assert sorted(seen) == tokens
    assert len(owner.get().json["payments"]) == (10 if what == "orders" else 0)


def test_an_order_that_is_not_there_is_unknown(owner):
    for name in ("x", "", "%00", "é", "0" * 32, "0" * 5000):
        assert owner.delete(f"/hosting/orders/{name}").status_code == 404
        for what in ("orders", "tips"):
            assert problem(owner.get(f"/hosting/{what}?before={name}")) == (404, "unknown")


# -- tips ------------------------------------------------------------------------------


def test_what_others_gave_is_listed_and_is_none_of_the_payments(owner, bob, alice, this_shop):
    paid_tip(alice, message="Thank you", door="address")
    told = owner.get("/hosting/tips").json
    tip = told["tips"][0]
    assert clock.from_iso(tip.pop("paid_at")) == Order.get().paid_at
    facts = {"order": TIP, "door": "address", "received_msat": 5000, "message": "Thank you"}
    small = {"small_tips": 0, "small_tips_msat": 0, "next_before": None}
    others = {"received_msat": 5000} | small
    assert told == {"tips": [facts | {"hidden": False}]} | others
    hosting = owner.get().json
    assert (hosting["tips"]["received_msat"], hosting["payments"]) == (5000, [])
    assert owner.get("/hosting/orders").json["payments"] == []
    assert bob.get("/hosting/tips").json == {"tips": [], "received_msat": 0} | small
    assert bob.get().json["tips"]["received_msat"] == 0


def test_a_message_is_hidden_and_shown_again(owner, bob, alice):
    paid_tip(alice, message="Thank you")
    path = f"/hosting/tips/{TIP}"
    for hidden in (True, True, False):
        told = owner.patch(path, {"hidden": hidden})
        assert (told.status_code, told.json["hidden"]) == (200, hidden)
        assert owner.get("/hosting/tips").json["tips"] == [told.json]
        assert (Order.get().hidden_at is not None) is hidden
    assert owner.patch(path, {}).json["hidden"] is False
    assert wrong(owner.patch(path, {"hidden": 1})) == {"hidden"}
    assert problem(bob.patch(path, {"hidden": True})) == (404, "unknown")
    assert Order.get().hidden_at is None


def test_what_is_no_tip_of_others_cannot_be_hidden(owner, alice):
    paid_tip(alice, door="owner")
    order = owner.post("/hosting/extend", HOUR).json["order"]
    for token in (TIP, order, "x", "%00", "é", "0" * 5000):
        assert problem(owner.patch(f"/hosting/tips/{token}", {"hidden": True})) == (404, "unknown")
    assert Order.select().where(Order.hidden_at.is_null(False)).count() == 0


def test_each_door_is_switched_with_other_settings_or_not_at_all(client, owner, alice, this_shop):
    offer = tips.offer(this_shop, alice)
    assert owner.get().json["tips"]["offer"] == offer
    for switch in tips.SWITCHES:
        told = owner.patch("/hosting", {switch: False, "https": True}).json["tips"]
        assert {name for name in tips.SWITCHES if not told[name]} == {switch}
        bad = owner.patch("/hosting", {switch: True, "php": "none"})
        assert wrong(bad) == {"php"}
        assert owner.get().json["tips"][switch] is False
        assert owner.patch("/hosting", {switch: True}).json["tips"][switch] is True
    owner.patch("/hosting", {"tips_page": False, "tips_offer": False})
    assert client.get(f"{API}/tips/alice").status_code == 404
    assert Offer.get().is_due
    assert wrong(owner.patch("/hosting", {"tips_page": "no", "tips_nothing": True})) == {
        *("tips_page", "tips_nothing")
    }


def test_of_a_hosting_that_is_being_closed_no_door_is_switched(owner, alice):
    accounts.close(alice.id)
    assert problem(owner.patch("/hosting", {"tips_page": False})) == (409, "closing")
    assert Account.get_by_id(alice.id).tips_page


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


def test_while_it_is_not_certain_that_nobody_pays_a_hosting_is_closed_a_moment_later(
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


# -- somebody else's, and other times --------------------------------------------------


@roomy
def test_bob_finds_nothing_of_alices(furnished, bob, alice):
    before = Account.get_by_id(alice.id).revision
    for route in ROUTES:
        answer = ask(bob, route, furnished)
        path = route[0].partition(" ")[2]
        if "@" in path or "example.org" in path or "<order>" in path:
            assert problem(answer) == (404, "unknown"), route
        elif "address" in (route[1] or {}):
            assert wrong(answer) == {"address"}  # of her domain
        else:
            assert "alice" not in answer.text, route
    assert Account.get_by_id(alice.id).revision == before
    assert Order.get_by_id(furnished).cancelled_at is None


@roomy
def test_a_name_that_is_not_there_is_unknown(owner):
    names = ("x", "%00", "%ff", "é", "x" * 5000, f"INFO@{SITE}")
    for kind, name in product(("mailboxes", "forwards", "domains"), names):
        for method in ("GET", "PATCH", "DELETE"):
            answer = owner(method, f"/hosting/{kind}/{name}", {})
            assert problem(answer) == (404, "unknown"), (method, kind, name)


@roomy
def test_a_closing_hosting_is_told_and_changed_no_more(furnished, owner, alice):
    accounts.close(alice.id)
    for route in ROUTES:
        answer = ask(owner, route, furnished)
        if route[2] in ("read", "pay", "close") or route[0].endswith("/check"):
            assert answer.status_code == route[3], route
        else:
            assert problem(answer) == (409, "closing"), route


@roomy
def test_a_hosting_that_is_being_set_up_is_changed_soon(furnished, owner, alice):
    clean(alice, ready_at=None)
    for route in ROUTES:
        answer = ask(owner, route, furnished)
        if route[2] in ("read", "pay", "close"):
            assert answer.status_code in (200, 202), route
        else:
            assert problem(answer) == (503, "setting_up"), route
            assert answer.headers["Retry-After"]


OFF = [
    {"suspended_at": 1, "valued_at": 1, "expires_at": 2},
    {"blocked_at": 1, "blocked_reason": "spam"},
]


@roomy
@pytest.mark.parametrize("facts", OFF, ids=["suspended", "blocked"])
def test_what_is_off_is_managed_as_on_the_pages(facts, furnished, owner, alice):
    clean(alice, **facts)
    for route in ROUTES:
        assert ask(owner, route, furnished).status_code == route[3], route


@roomy
def test_all_of_it_works_while_the_panel_is_down(furnished, owner, panel):
    panel.stop()
    for route in ROUTES:
        assert ask(owner, route, furnished).status_code == route[3], route


def test_nothing_more_is_sold_to_who_is_blocked(owner, this_shop, alice, node):
    fill(this_shop, alice)
    clean(alice, blocked_at=1, blocked_reason="spam")
    answer = owner.post("/hosting/mailboxes", {"address": EVE})
    assert problem(answer) == (409, "refused")
    assert invoices_asked_for(node) == 0


# -- too often, at once ----------------------------------------------------------------


@with_settings(CHANGES_LIMIT="3 per day")
def test_changes_are_limited_and_looks_are_not(owner):
    for _ in range(3):
        owner.patch("/hosting", {"ftp_password": "short"})
    for answer in (
        owner.patch("/hosting", {"https": True}),
        owner.post("/hosting/mailboxes", {"address": EVE}),
        owner.delete(),
    ):
        assert problem(answer) == (429, "too_many_requests")
        assert answer.headers["Retry-After"]
    assert owner.get().status_code == 200


@with_settings(CHANGES_LIMIT="2 per day", CHANGES_LIMIT_OVERALL="2 per day")
def test_a_program_keeps_the_owner_from_no_change(client, this_shop, alice, app):
    reader = program(client, this_shop, alice, "read")
    answers = [problem(reader.patch("/hosting", {"https": True}))[0] for _ in range(3)]
    assert answers == [403, 403, 429]
    browser = enter(app.test_client(), alice)
    fields = {"csrf_token": csrf_token(browser.get("/account").text)}
    fields |= {"service": "all", "password": GOOD}
    assert browser.post("/account/settings/password", data=fields).status_code == 303


@with_settings(LOGINS_LIMIT="2 per day", LOGINS_LIMIT_OVERALL="2 per day")
def test_logins_leave_a_new_login_password_possible(app, owner):
    browser = app.test_client()
    log_in(browser, "alice", "correct horse")  # it is known from now on
    statuses = [log_in(browser, "alice", "wrong password").status_code for _ in range(3)]
    assert statuses == [400, 400, 429]
    assert owner.patch("/hosting", {"login_password": GOOD}).status_code == 200


@with_settings(LOGINS_LIMIT="2 per day", LOGINS_LIMIT_OVERALL="2 per day")
def test_new_login_passwords_are_limited_and_leave_logins_possible(app, owner):
    browser = app.test_client()
    log_in(browser, "alice", "correct horse")
    statuses = [owner.patch("/hosting", {"login_password": GOOD}).status_code for _ in range(3)]
    assert statuses == [200, 200, 429]
    assert log_in(browser, "alice", GOOD).location == "/account"


@pytest.mark.each_database
def test_the_same_mailbox_asked_for_at_once_is_added_once(app, owner):
    def add():
        return Program(app.test_client(), None)(
            "POST", "/hosting/mailboxes", {"address": EVE}, **owner.headers
        )

    answers = at_once(*[add] * 4)
    assert sorted(answer.status_code for answer in answers) == [201, 409, 409, 409]


@pytest.mark.each_database
def test_changes_of_one_hosting_at_once_are_all_made(app, owner, alice):
    bodies = [{"https": True}, {"ftp": False}, {"ssh_key": KEY}]
    bodies.append({"ssh_password": GOOD, "php": "off"})

    def change(body):
        return Program(app.test_client(), None)("PATCH", "/hosting", body, **owner.headers)

    answers = at_once(*[partial(change, body) for body in bodies])
    assert [answer.status_code for answer in answers] == [200] * 4
    site = {"php": False, "php_version": 0, "letsencrypt": True}
    assert settings("site") == services.KINDS["site"].first_settings() | site
    assert (row("ftp").active, settings("shell")["ssh_key"]) == (False, KEY)
    assert row("shell").password_sealed
