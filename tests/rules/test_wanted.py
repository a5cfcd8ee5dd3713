"""Every service, through its whole life: the panel gets what is wanted."""

import pytest
from peewee import DataError

from lightningspace.base.models import Account, Order, RestingName, Service
from lightningspace.base.prices import Terms
from lightningspace.outside.ispconfig_records import KINDS, hash_of
from lightningspace.panel import reconcile
from lightningspace.rules import (
    accounts,
    certificates,
    hostnames,
    orders,
    payments,
    progress,
    services,
    wanted,
)
from lightningspace.rules.services import this
from tests.conftest import open_account, wish, with_settings, work
from tests.flows import resize

ED25519 = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIB0NEtxcJ2O5pSNUEvSLhZqVgVn3Dq3JfHEtVxkS3gbq alice"


@pytest.fixture
def settle(worker):
    """Let the worker do what is due, and assert that nothing is left to do."""

    def settle():
        work(worker)
        assert [row.error for row in progress.failing()] == []
        assert not Service.select().where(Service.revision > Service.applied_revision).exists()

    return settle


def the(panel, kind: str, **where) -> dict:
    """The only record of this kind (with these values)."""
    found = [r for r in panel.records(kind) if all(r[name] == x for name, x in where.items())]
    assert len(found) == 1
    return found[0]


def since(panel, calls: int) -> list[str]:
    return [method for method, _ in panel.calls[calls:]]


# -- single services -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "name"),
    [("site", "alice.shop.test"), ("ftp", "ls_alice"), ("database", "ls_alice")],
)
def test_a_service_is_switched_off_and_on_by_its_switch(kind, name, alice, panel, settle):
    wanted.switch(alice.id, kind, name, False)
    settle()
    assert the(panel, kind)["active"] == "n"
    wanted.switch(alice.id, kind, name, True)
    settle()
    assert the(panel, kind)["active"] == "y"


def test_a_shell_user_switched_off_is_removed(alice, panel, settle):
    wanted.switch(alice.id, "shell", "ls_alice", False)
    settle()
    assert panel.records("shell") == []
    assert Service.get(kind="shell").panel_id is None


def switch_shell_off_and_on(account, settle) -> None:
    for active in (False, True):
        wanted.switch(account.id, "shell", "ls_alice", active)
        settle()


def ssh_password(panel) -> str | None:
    return panel.password_of("shell", the(panel, "shell")["shell_user_id"])


def test_a_shell_user_switched_on_again_has_its_old_password(alice, panel, settle, this_shop):
    switch_shell_off_and_on(alice, settle)
    assert ssh_password(panel) == "correct horse"
    row = Service.get(kind="shell")
    assert (row.password_sealed, row.own_password_sealed) == (None, None)


def test_a_password_set_while_a_shell_user_is_off_counts_later(alice, panel, settle, this_shop):
    accounts.suspend(alice.id)
    settle()
    wanted.set_password(this_shop, alice.id, "shell", "ls_alice", "a new password")
    accounts.resume(alice.id)
    settle()
    assert ssh_password(panel) == "a new password"


def test_a_panel_that_hashes_a_hash_gets_a_new_password_that_is_shown(
    alice, panel, settle, this_shop
):
    add = this_shop.panel.add

    def without_the_flag(kind, client_id, fields, password=None):
        return add(kind, client_id, fields, password and str(password))

    this_shop.panel.add = without_the_flag
    switch_shell_off_and_on(alice, settle)
    own = this_shop.vault.unseal(Service.get(kind="shell").own_password_sealed)
    assert ssh_password(panel) == own != "correct horse"


def test_a_shell_user_deleted_by_hand_comes_back_with_a_password_that_is_shown(
    alice, panel, settle, this_shop
):
    wanted.switch(alice.id, "shell", "ls_alice", False)
    this_shop.panel.delete("shell", the(panel, "shell")["shell_user_id"])
    settle()
    wanted.switch(alice.id, "shell", "ls_alice", True)
    settle()
    own = this_shop.vault.unseal(Service.get(kind="shell").own_password_sealed)
    assert ssh_password(panel) == own != "correct horse"


def test_text_that_is_not_a_hash_is_not_sent_back(subtests):
    for hashed in ["", "*", "!", "$6$x", "plain", "$6$" + "a" * 86 + "'"]:
        with subtests.test(hashed=hashed):
            assert hash_of("shell", {"password": hashed}) is None


def test_the_password_of_a_removed_shell_user_is_shown_when_it_is_back(alice, settle, this_shop):
    wanted.set_password(this_shop, alice.id, "shell", "ls_alice")
    settle()
    shown = services.new_password(this_shop, Service.get(kind="shell"))
    accounts.suspend(alice.id)
    settle()
    assert services.new_password(this_shop, Service.get(kind="shell")) is None
    accounts.resume(alice.id)
    settle()
    assert services.new_password(this_shop, Service.get(kind="shell")) == shown


@pytest.mark.parametrize("typed", ["abcd123\\", "it's 9 lives!"])
def test_an_unusable_password_is_replaced(typed, alice, panel, settle, this_shop):
    """Earlier versions accepted such passwords with orders."""
    row = Service.get(kind="database_user")
    Service.update(
        password_sealed=this_shop.vault.seal(typed), revision=Service.revision + 1
    ).where(this(row)).execute()
    reconcile.try_now(alice.id)
    settle()
    made = services.new_password(this_shop, Service.get(kind="database_user"))
    assert made != typed and panel.password_of("database_user", row.panel_id) == made


def test_a_password_waits_for_a_shell_user_that_is_off(alice, panel, settle, this_shop):
    wanted.switch(alice.id, "shell", "ls_alice", False)
    wanted.set_password(this_shop, alice.id, "shell", "ls_alice", "another horse")
    settle()
    wanted.switch(alice.id, "shell", "ls_alice", True)
    settle()
    assert panel.password_of("shell", the(panel, "shell")["shell_user_id"]) == "another horse"
    assert Service.get(kind="shell").password_sealed is None


def test_a_failing_service_holds_up_no_other(alice, panel, worker, this_shop):
    panel.faults.set("refuse", "sites_ftp_user_update", message="quota_size_error_empty<br />\r\n")
    accounts.suspend(alice.id)
    work(worker)
    assert [row.kind for row in progress.failing()] == ["ftp"]
    assert the(panel, "database")["active"] == "n"
    assert the(panel, "mailbox")["disableimap"] == "y"


def test_a_service_that_can_never_be_applied_is_reported(alice, worker):
    """No change of ours leads to this; a database changed by hand might."""
    Service.update(gone=True, revision=2).where(Service.kind == "mail_domain").execute()
    Account.update(reconcile_at=0).execute()
    work(worker)
    assert [row.kind for row in progress.failing()] == ["mail_domain"]
    assert Account.get().reconcile_at is not None


def test_a_mailbox_switched_off_still_receives(alice, panel, settle):
    wanted.switch(alice.id, "mailbox", "info@alice.shop.test", False)
    settle()
    box = the(panel, "mailbox")
    assert (box["disableimap"], box["disablepop3"], box["disablesmtp"]) == ("y", "y", "y")
    assert (box["postfix"], box["disabledeliver"]) == ("y", "n")


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("ftp", "ls_alice"),
        ("shell", "ls_alice"),
        ("database_user", "ls_alice"),
        ("mailbox", "info@alice.shop.test"),
    ],
)
def test_a_changed_password_opens_and_is_wiped(kind, name, alice, panel, settle, this_shop):
    wanted.set_password(this_shop, alice.id, kind, name, "another horse")
    settle()
    assert panel.password_of(kind, Service.get(kind=kind).panel_id) == "another horse"
    assert Service.get(kind=kind).password_sealed is None


def test_a_password_that_is_left_empty_is_generated_and_shown(alice, panel, settle, this_shop):
    wanted.set_password(this_shop, alice.id, "ftp", "ls_alice")
    settle()
    own = this_shop.vault.unseal(Service.get(kind="ftp").own_password_sealed)
    assert panel.password_of("ftp", 1) == own


def test_a_generated_password_is_shown_for_a_day_after_it_opens(
    alice, settle, this_shop, time_machine
):
    time_machine.forward(10 * 86400)
    wanted.set_password(this_shop, alice.id, "ftp", "ls_alice")
    progress.wipe_shown_passwords()
    settle()
    progress.wipe_shown_passwords()
    assert Service.get(kind="ftp").own_password_sealed
    time_machine.forward(86400)
    progress.wipe_shown_passwords()
    assert Service.get(kind="ftp").own_password_sealed is None


def test_a_sites_php_and_certificate_are_set(this_shop, alice, panel, settle):
    assert certificates.take_turn(this_shop, alice, certificates.of_site(alice.id)) is None
    wanted.configure(alice.id, "site", "alice.shop.test", letsencrypt=True, php_version=3)
    settle()
    site = the(panel, "site")
    assert (site["ssl"], site["ssl_letsencrypt"], site["server_php_id"]) == ("y", "y", "3")
    wanted.configure(alice.id, "site", "alice.shop.test", letsencrypt=False, php=False)
    settle()
    site = the(panel, "site")
    assert (site["ssl"], site["ssl_letsencrypt"], site["php"]) == ("n", "n", "no")


def test_a_site_update_resets_nothing(alice, panel, settle):
    before = the(panel, "site")
    wanted.switch(alice.id, "site", "alice.shop.test", False)
    settle()
    assert the(panel, "site") == before | {"active": "n"}
    assert before["pm_max_children"] == "4"


def test_an_ssh_key_opens_the_shell(alice, panel, settle):
    wanted.configure(alice.id, "shell", "ls_alice", ssh_key=ED25519)
    settle()
    assert the(panel, "shell")["ssh_rsa"] == ED25519
    assert panel.password_of("shell", 1) == "correct horse"


def test_mailboxes_share_the_space_for_mail(alice, panel, settle, this_shop):
    wanted.add(this_shop, alice.id, "mailbox", "bob@alice.shop.test", "bobs password", quota_mb=5)
    wanted.add(this_shop, alice.id, "mailbox", "eve@alice.shop.test")
    settle()
    quotas = {box["email"]: int(box["quota"]) / 1024 / 1024 for box in panel.records("mailbox")}
    assert quotas == {
        "info@alice.shop.test": 7,
        "bob@alice.shop.test": 5,
        "eve@alice.shop.test": 7,
    }
    wanted.remove(alice.id, "mailbox", "eve@alice.shop.test")
    settle()
    assert the(panel, "mailbox", email="info@alice.shop.test")["quota"] == str(15 * 1024 * 1024)
    assert Service.select().where(Service.kind == "mailbox").count() == 2


def test_a_forward_is_added_changed_and_removed(alice, panel, settle, this_shop):
    source = "sales@alice.shop.test"
    wanted.add(this_shop, alice.id, "forward", source, destination="alice@example.org")
    settle()
    assert the(panel, "forward")["destination"] == "alice@example.org"
    wanted.configure(alice.id, "forward", source, destination="bob@example.org")
    settle()
    assert the(panel, "forward")["destination"] == "bob@example.org"
    wanted.remove(alice.id, "forward", source)
    settle()
    assert panel.records("forward") == []
    assert Service.get_or_none(kind="forward") is None


def test_a_forwards_destination_is_normalized_like_the_panels(alice, panel, settle, this_shop):
    source = "sales@alice.shop.test"
    wanted.add(this_shop, alice.id, "forward", source, destination="Alice.Smith@gmail.com")
    settle()
    assert the(panel, "forward")["destination"] == "alice.smith@gmail.com"
    # As earlier versions stored it.
    Service.update(settings='{"destination": "Bob@example.org"}', revision=9).where(
        Service.kind == "forward"
    ).execute()
    reconcile.try_now(alice.id)
    settle()
    assert the(panel, "forward")["destination"] == "bob@example.org"


def test_an_extra_domain_takes_its_mail_along(alice, panel, settle, this_shop):
    wanted.add(this_shop, alice.id, "alias", "alice.example")
    wanted.add(this_shop, alice.id, "mail_domain", "alice.example")
    wanted.add(this_shop, alice.id, "mailbox", "me@alice.example", "a password")
    settle()
    assert the(panel, "alias")["parent_domain_id"] == the(panel, "site")["domain_id"]
    assert the(panel, "mailbox", email="me@alice.example")["maildir"].endswith("alice.example/me")
    wanted.remove(alice.id, "alias", "alice.example")
    settle()
    assert panel.records("alias") == []
    assert the(panel, "mail_domain")["domain"] == "alice.shop.test"
    assert the(panel, "mailbox")["email"] == "info@alice.shop.test"


def test_a_service_removed_and_wanted_again_is_there(alice, panel, settle, this_shop):
    wanted.remove(alice.id, "ftp", "ls_alice")
    settle()
    assert panel.records("ftp") == []
    wanted.add(this_shop, alice.id, "ftp", "ls_alice", "another horse")
    settle()
    assert panel.password_of("ftp", the(panel, "ftp")["ftp_user_id"]) == "another horse"


def test_a_service_wanted_again_before_its_removal_stays(alice, panel, settle, this_shop):
    wanted.remove(alice.id, "ftp", "ls_alice")
    wanted.add(this_shop, alice.id, "ftp", "ls_alice", "another horse")
    settle()
    assert the(panel, "ftp")["ftp_user_id"] == "1"
    assert panel.password_of("ftp", 1) == "another horse"


def test_services_that_match_are_not_written(alice, panel, worker):
    calls = len(panel.calls)
    accounts.check(alice.id)
    work(worker)
    login, *methods = since(panel, calls)
    assert len(methods) == 9  # a look at each service, and at the client's group
    assert login == "login" and all("get" in method for method in methods)


# -- the account as a whole ----------------------------------------------------------


def test_a_resize_changes_the_three_quotas(alice, panel, settle):
    resize(alice.id, 1000)
    settle()
    assert the(panel, "site")["hd_quota"] == "700"
    assert the(panel, "database")["database_quota"] == "100"
    assert the(panel, "mailbox")["quota"] == str(200 * 1024 * 1024)


def switches(panel) -> dict:
    box = the(panel, "mailbox")
    return {
        "site": the(panel, "site")["active"],
        "ftp": the(panel, "ftp")["active"],
        "database": the(panel, "database")["active"],
        "shell": len(panel.records("shell")),
        "imap": box["disableimap"],
        "pop": box["disablepop3"],
        "smtp": box["disablesmtp"],
        "mail domain": the(panel, "mail_domain")["active"],
    }


ALL_ON = {
    "site": "y",
    "ftp": "y",
    "database": "y",
    "shell": 1,
    "imap": "n",
    "pop": "n",
    "smtp": "n",
    "mail domain": "y",
}
ALL_OFF = {
    "site": "n",
    "ftp": "n",
    "database": "n",
    "shell": 0,
    "imap": "y",
    "pop": "y",
    "smtp": "y",
    "mail domain": "y",
}


def test_a_suspended_account_is_off_and_still_receives_mail(alice, panel, settle):
    accounts.suspend(alice.id)
    settle()
    assert switches(panel) == ALL_OFF


def test_a_resumed_account_is_on_again(alice, panel, settle):
    accounts.suspend(alice.id)
    settle()
    accounts.resume(alice.id)
    settle()
    assert switches(panel) == ALL_ON


def test_suspending_twice_is_suspending_once(alice, panel, settle, time_machine):
    accounts.suspend(alice.id)
    settle()
    suspended_at = Account.get().suspended_at
    time_machine.forward(60)
    accounts.suspend(alice.id)
    settle()
    assert Account.get().suspended_at == suspended_at
    accounts.resume(alice.id)
    settle()
    assert switches(panel) == ALL_ON


def test_services_that_the_customer_switched_off_stay_off_after_a_resume(alice, panel, settle):
    wanted.switch(alice.id, "ftp", "ls_alice", False)
    wanted.switch(alice.id, "shell", "ls_alice", False)
    accounts.suspend(alice.id)
    settle()
    accounts.resume(alice.id)
    settle()
    assert switches(panel) == ALL_ON | {"ftp": "n", "shell": 0}


def test_a_service_added_while_suspended_is_off(alice, panel, settle, this_shop):
    accounts.suspend(alice.id)
    wanted.add(this_shop, alice.id, "forward", "a@alice.shop.test", destination="b@example.org")
    settle()
    assert the(panel, "forward")["active"] == "n"


def test_a_block_beats_a_resume(alice, panel, settle):
    accounts.block(alice.id, "phishing")
    accounts.suspend(alice.id)
    accounts.resume(alice.id)
    settle()
    assert switches(panel) == ALL_OFF
    accounts.unblock(alice.id)
    settle()
    assert switches(panel) == ALL_ON


def test_the_client_is_updated_once_in_its_life(alice, panel, settle):
    for change in (accounts.suspend, accounts.resume, accounts.check, accounts.close):
        change(alice.id)
        settle()
    assert [method for method, _ in panel.calls].count("client_update") == 1


def test_a_closed_account_is_gone_from_the_panel_and_from_the_books(alice, panel, settle):
    accounts.close(alice.id)
    settle()
    assert [kind for kind in ("client", *KINDS) if panel.records(kind)] == []
    assert Account.select().count() == Service.select().count() == 0


def test_closing_deletes_each_record_by_its_id_and_the_client_last(alice, panel, settle):
    for number, row in enumerate(services.of_account(alice.id)):  # as a slow panel leaves them
        Service.update(applied_at=Service.applied_at + number).where(services.this(row)).execute()
    calls = len(panel.calls)
    accounts.close(alice.id)
    settle()
    deleting = [method for method in since(panel, calls) if "delete" in method]
    assert deleting == [
        "mail_user_delete",
        "mail_domain_delete",
        "sites_database_delete",
        "sites_database_user_delete",
        "sites_shell_user_delete",
        "sites_ftp_user_delete",
        "sites_web_domain_delete",
        "client_delete_everything",
    ]


@pytest.fixture
def closed_order(order, wallet, worker, settle):
    """An order whose hosting was opened and then closed."""
    wallet.pay(order.bolt11)
    work(worker)
    accounts.close(Account.get().id)
    settle()
    return order


def test_a_closed_account_leaves_only_the_bare_payment(closed_order):
    kept = Order.get()
    assert (kept.account_id, kept.username, kept.browser, kept.bolt11) == (None,) * 4
    assert kept.payment_hash == closed_order.payment_hash
    assert kept.received_msat == closed_order.amount_msat
    assert payments.due() == []


def test_the_page_of_an_order_says_that_its_hosting_has_ended(closed_order, client):
    for path in (f"/orders/{closed_order.token}", f"/orders/{closed_order.token}/status"):
        page = client.get(path)
        assert page.status_code == 200
        assert "paid for has ended" in " ".join(page.text.split())


def test_the_name_of_a_closed_account_rests(alice, settle, this_shop, time_machine):
    accounts.close(alice.id)
    settle()
    with pytest.raises(orders.NameTaken):
        orders.place(this_shop, wish(username="alice"))
    time_machine.forward(365 * 86400 + 1)
    hostnames.forget_rested()
    assert RestingName.select().count() == 0
    assert orders.place(this_shop, wish(username="alice")).username == "alice"


def test_nothing_is_wanted_of_a_closing_account(alice, this_shop):
    accounts.close(alice.id)
    accounts.close(alice.id)
    for change in (accounts.suspend, accounts.resume, accounts.unblock):
        with pytest.raises(wanted.AccountClosed):
            change(alice.id)
    with pytest.raises(wanted.AccountClosed):
        wanted.add(this_shop, alice.id, "mailbox", "bob@alice.shop.test")


def test_an_account_closed_before_it_was_set_up_leaves_nothing(order, wallet, worker, panel):
    wallet.pay(order.bolt11)
    panel.down()
    work(worker)
    accounts.close(Account.get().id)
    panel.up()
    work(worker)
    assert Account.select().count() == 0
    assert panel.records("client") == []


@pytest.mark.parametrize("kind", ["cut-before", "cut-after"])
def test_duplicates_left_by_a_cut_call_are_merged(kind, order, wallet, worker, panel, time_machine):
    panel.faults.set("twice", "sites_database_add", times=1)
    panel.faults.set(kind, "sites_database_get", times=1)
    wallet.pay(order.bolt11)
    for _ in range(3):
        work(worker)
        time_machine.forward(10)
    assert progress.failing() == []
    assert len(panel.records("database")) == 1


# -- names ---------------------------------------------------------------------------


OTHERS_NAMES = [
    ("mailbox", "root@localhost"),
    ("mailbox", "bob@bob.shop.test"),
    ("mailbox", "bob@gmail.com"),
    ("mailbox", "../../etc@alice.shop.test"),
    ("mailbox", "a..b@alice.shop.test"),
    ("mailbox", "%@alice.shop.test"),
    ("mailbox", "Bob@alice.shop.test"),
    ("mailbox", "@alice.shop.test"),
    ("mailbox", f"{'a' * 60}@alice.shop.test"),
    ("mailbox", "bob@alice.shop.test\n"),
    ("mailbox", "bob\0@alice.shop.test"),
    ("forward", "bob@shop.test"),
    ("alias", "shop.test"),
    ("alias", "bob.shop.test"),
    ("alias", "www.alice.example"),
    ("alias", "localhost"),
    ("alias", "*.example.org"),
    ("alias", "exa mple.org"),
    ("alias", "Example.org"),
    ("alias", "127.0.0.1"),
    ("alias", "example.org/../../"),
    ("mail_domain", "gmail.com"),
    ("mail_domain", "shop.test"),
    ("ftp", "root"),
    ("ftp", "ls_bob"),
    ("shell", "web1"),
    ("shell", "root"),
    ("database", "mysql"),
    ("database", "dbispconfig"),
    ("database", "ls_bob"),
    ("client", "ls_x"),
    ("site", "bob.shop.test"),
]


def test_names_that_are_not_the_accounts_are_refused(alice, this_shop, panel):
    calls = len(panel.calls)
    for kind, name in OTHERS_NAMES:
        settings = {"destination": "a@example.org"} if kind == "forward" else {}
        with pytest.raises((ValueError, wanted.NameInUse)):
            wanted.add(this_shop, alice.id, kind, name, **settings)
    assert Account.get().reconcile_at is None
    assert len(panel.calls) == calls


def names_sent(panel) -> list[tuple[str, str]]:
    """Each name in the panel's calls, with its column, except for logins."""
    sent = []
    for method, call in panel.calls:
        given = dict(call) if method != "login" else {}
        for part in ("params", "primary_id", "client_id"):
            if isinstance(given.get(part), dict):
                given |= given.pop(part)
        sent += [(key, value) for key, value in given.items() if key in NAME_COLUMNS]
    return sent


NAME_COLUMNS = ("username", "database_user", "database_name", "domain", "email", "login", "source")


def is_ours(column: str, name: str, *domains: str) -> bool:
    if column in ("username", "database_user", "database_name"):
        return name.startswith("ls_")
    return name.rpartition("@")[2] in ("alice.shop.test", *domains)


@pytest.mark.parametrize("kind", ["client", "site", "ftp", "shell", "database", "mailbox"])
def test_a_foreign_name_in_a_row_never_reaches_the_panel(kind, this_shop, panel, subtests):
    alice = open_account(this_shop, "alice")
    for name in ("mysql", "dbispconfig", "web1", "root", "%", "a@b' OR 1=1"):
        with subtests.test(name):
            untried = {"tries": 0, "permanent": False, "error": None}
            Service.update(name=name, **untried).where(Service.kind == kind).execute()
            reconcile.account(this_shop, alice.id)
            row = Service.get(kind=kind)
            assert row.permanent
            assert row.error.startswith("its name is none that we may use")
            assert all(is_ours(*sent) for sent in names_sent(panel))


@pytest.mark.each_database
def test_an_invalid_username_makes_no_call(this_shop, wallet, worker, panel):
    paid = 0
    for username in ("a'--", "x\0y", "%", "ä" * 5, "../etc", "A B", " ", "a" * 99):
        try:
            order = orders.place(this_shop, wish(username=username))
        except DataError:  # PostgreSQL refuses NUL
            continue
        wallet.pay(order.bolt11)
        paid += 1
    work(worker)
    assert panel.calls == []
    clients = list(Service.select().where(Service.kind == "client"))
    assert len(clients) == paid >= 7
    assert all(row.permanent for row in clients)


def test_a_name_of_the_system_is_harmless_behind_the_prefix(this_shop, worker, panel):
    usernames = ("mysql", "dbispconfig", "web1", "root", "client3")
    for username in usernames:
        open_account(this_shop, username)
    work(worker)
    own = [f"{username}.shop.test" for username in usernames]
    sent = names_sent(panel)
    assert {name.rpartition("@")[2] for _, name in sent} >= set(own)
    assert all(is_ours(*each, *own) for each in sent)


def test_every_name_and_id_that_reaches_the_panel_is_ours(alice, panel, settle, this_shop):
    wanted.add(this_shop, alice.id, "alias", "alice.example")
    wanted.add(this_shop, alice.id, "mail_domain", "alice.example")
    wanted.add(this_shop, alice.id, "forward", "a@alice.example", destination="b@example.org")
    settle()
    accounts.close(alice.id)
    settle()
    assert len(names_sent(panel)) > 30
    assert all(is_ours(*sent, "alice.example") for sent in names_sent(panel))
    for _, call in panel.calls:
        for given in (call, call.get("params", {})):
            ids = [value for key, value in given.items() if key.endswith("_id")]
            assert all(type(id) is int or isinstance(id, dict) for id in ids)


BAD_SETTINGS = [
    ("site", {"php": "yes"}),
    ("site", {"php_version": "1 OR 1"}),
    ("site", {"allow_override": "All"}),
    ("shell", {"ssh_key": "-----BEGIN OPENSSH PRIVATE KEY-----"}),
    ("shell", {"ssh_key": f"{ED25519}\nssh-rsa {'A' * 60}"}),
    ("shell", {"ssh_key": f'command="/bin/sh" {ED25519}'}),
    ("shell", {"chroot": "no"}),
    ("mailbox", {"quota_mb": 0}),
    ("mailbox", {"quota_mb": -1}),
    ("mailbox", {"disablesmtp": "n"}),
]


def test_invalid_settings_are_refused(alice, subtests):
    for kind, settings in BAD_SETTINGS:
        name = Service.get(kind=kind).name
        with subtests.test(str(settings)), pytest.raises(ValueError, match="not a setting"):
            wanted.configure(alice.id, kind, name, **settings)
    assert Account.get().reconcile_at is None


@pytest.mark.parametrize(
    "destination",
    ["", "nonsense", "a@b", "a@example.org, b@example.org", "a@example.org\nx", "|sh"],
)
def test_a_forward_goes_to_one_address(destination, alice, this_shop):
    with pytest.raises(ValueError, match="not a setting"):
        wanted.add(this_shop, alice.id, "forward", "a@alice.shop.test", destination=destination)


def test_an_address_is_a_mailbox_or_a_forward(alice, this_shop):
    with pytest.raises(wanted.NameInUse):
        wanted.add(
            this_shop, alice.id, "forward", "info@alice.shop.test", destination="b@example.org"
        )


def test_a_domain_is_on_one_account(alice, this_shop, wallet, worker):
    wallet.pay(orders.place(this_shop, wish(username="bob")).bolt11)
    work(worker)
    bob = Account.get(Account.username == "bob")
    wanted.add(this_shop, alice.id, "alias", "alice.example")
    with pytest.raises(wanted.NameInUse):
        wanted.add(this_shop, bob.id, "alias", "alice.example")


def test_missing_services_cannot_be_changed(alice, this_shop):
    for change in (
        lambda: wanted.switch(alice.id, "mailbox", "bob@alice.shop.test", False),
        lambda: wanted.remove(alice.id, "alias", "alice.example"),
        lambda: wanted.set_password(this_shop, alice.id, "ftp", "ls_bob"),
        lambda: wanted.configure(alice.id, "mailbox", "bob@alice.shop.test", quota_mb=5),
    ):
        with pytest.raises(wanted.UnknownService):
            change()


@pytest.mark.parametrize(
    ("kind", "name"),
    [("client", None), ("site", None), ("database_user", None), ("mail_domain", None)],
)
def test_essential_services_cannot_be_removed_alone(kind, name, alice):
    with pytest.raises(ValueError, match="goes with its account"):
        wanted.remove(alice.id, kind, Service.get(kind=kind).name)


# -- several servers -----------------------------------------------------------------


@with_settings(PANEL_SERVER_ID="4,7", CAPACITY_MB="1200,2200")
def test_an_account_goes_to_the_server_with_most_room_and_stays(
    this_shop, wallet, worker, panel, settle
):
    for number in range(3):
        terms = Terms(1000 if number else 500, 1, "days")
        order = orders.place(this_shop, wish(username=f"user{number}x", terms=terms))
        wallet.pay(order.bolt11)
        work(worker)
    servers = {a.username: a.server_id for a in Account.select()}
    assert servers == {"user0x": 7, "user1x": 7, "user2x": 4}

    before = len(panel.calls)
    accounts.check(Account.get(Account.username == "user2x").id)
    wanted.add(
        this_shop, Account.get(Account.username == "user2x").id, "mailbox", "b@user2x.shop.test"
    )
    settle()
    sent = {c["params"]["server_id"] for _, c in panel.calls[before:] if "params" in c}
    assert sent == {4}
    assert {r["server_id"] for r in panel.records("site")} == {"4", "7"}


# -- what the page shows -------------------------------------------------------------


def test_applied_and_live_are_different_states(time_machine, alice, this_shop, panel):
    assert progress.Progress(alice, []).state(Service.get(kind="site")) == "applied"
    for _ in range(2):
        time_machine.forward(panel.seconds_to_go() + 5)
        progress.look_at_queues(this_shop)
    assert progress.Progress(alice, []).state(Service.get(kind="site")) == "live"
    wanted.switch(alice.id, "site", "alice.shop.test", False)
    assert progress.Progress(alice, []).state(Service.get(kind="site")) == "changing"
