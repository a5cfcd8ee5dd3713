"""The panel is made to match: each service of a new account is made once, whatever fails."""

import threading
import time
from itertools import count

import pytest

from lightningspace.base import clock
from lightningspace.base.models import Account, Order, Service
from lightningspace.base.prices import Terms
from lightningspace.outside import ispconfig_records
from lightningspace.panel import reconcile
from lightningspace.panel.lease import LEASE_SECONDS, Lease
from lightningspace.rules import accounts, orders, payments, progress, services, wanted
from tests.actual import directives
from tests.conftest import eventually, open_account, record_payments, wish, with_settings, work

KINDS_AT_PANEL = (
    "client",
    "site",
    "ftp",
    "shell",
    "database_user",
    "database",
    "mail_domain",
    "mailbox",
)


def at_panel(panel) -> dict[str, int]:
    return {kind: len(panel.records(kind)) for kind in KINDS_AT_PANEL}


def test_a_paid_order_gets_every_service_once(alice, panel):
    assert at_panel(panel) == dict.fromkeys(KINDS_AT_PANEL, 1)
    assert all(row.is_applied for row in services.of_account(alice.id))
    assert alice.ready_at is not None


def test_names_at_the_panel_are_ours(alice, panel):
    assert panel.records("client")[0]["username"] == f"ls_{alice.id}"
    assert panel.records("client")[0]["email"] == "info@alice.shop.test"
    assert panel.records("site")[0]["domain"] == "alice.shop.test"
    assert panel.records("ftp")[0]["username"] == "ls_alice"
    assert panel.records("shell")[0]["username"] == "ls_alice"
    assert panel.records("database_user")[0]["database_user"] == "ls_alice"
    assert panel.records("database")[0]["database_name"] == "ls_alice"
    assert panel.records("mailbox")[0]["email"] == "info@alice.shop.test"


def test_customers_are_kept_apart(alice, panel):
    site = panel.records("site")[0]
    assert site["php_fpm_use_socket"] == "y"
    assert site["allow_override"] == "None"
    assert "/tmp" not in site["php_open_basedir"].split(":")
    assert panel.records("shell")[0]["chroot"] == "jailkit"
    for method, call in panel.calls:
        if method in ("sites_web_domain_add", "sites_web_domain_update"):
            assert call["params"]["php_fpm_use_socket"] == "y"
            assert call["params"]["allow_override"] == "None"
            assert call["params"]["apache_directives"] == directives(is_pretty=False)


@with_settings(WALLS="mpm_itk")
def test_htaccess_keeps_its_power_where_apache_runs_as_the_customer(alice, panel):
    site = panel.records("site")[0]
    assert site["allow_override"] == "All Nonfatal=All"
    assert site["apache_directives"].count("AllowOverride All Nonfatal=All\n") == 2


@with_settings(WALLS="nginx")
def test_nginx_gets_directives_of_its_own(alice, this_shop, panel):
    settings = {"pretty_addresses": True, "redirect_to": "https://example.org/"}
    wanted.configure(alice.id, "site", "alice.shop.test", **settings)
    reconcile.account(this_shop, alice.id)
    site = panel.records("site")[0]
    assert (site["allow_override"], site["apache_directives"]) == ("None", "")
    assert "location / {\n    try_files $uri" in site["nginx_directives"]
    assert (site["redirect_type"], site["redirect_path"]) == ("permanent", "https://example.org/")


@pytest.mark.parametrize("days", [29, 30])
def test_php_sends_mail_only_after_as_many_days_as_mailboxes(days, this_shop, panel):
    account = open_account(this_shop, "bobby")
    Account.update(expires_at=account.opened_at + days * 86400).execute()
    reconcile.account(this_shop, account.id)

    refusal = panel.records("site")[0]["custom_php_ini"]
    assert (refusal == "sendmail_path = /bin/false") == (days < 30)


def test_the_client_cannot_log_in_to_the_panel(alice, panel):
    client_id = int(panel.records("client")[0]["client_id"])
    assert not panel.can_log_in(client_id)
    assert [method for method, _ in panel.calls].count("client_update") == 1


def test_the_typed_password_opens_every_service(alice, panel):
    for kind in ("ftp", "shell", "database_user", "mailbox"):
        assert panel.password_of(kind, 1) == "correct horse"


def test_a_password_is_wiped_once_the_panel_has_it(alice):
    assert alice.password_sealed is None
    assert not Service.select().where(Service.password_sealed.is_null(False)).exists()


def test_space_is_split_between_site_database_and_mailbox(alice, panel):
    assert panel.records("site")[0]["hd_quota"] == "70"
    assert panel.records("database")[0]["database_quota"] == "10"
    assert panel.records("mailbox")[0]["quota"] == str(20 * 1024 * 1024)


def test_a_mailbox_may_send_after_a_long_term_only(this_shop, wallet, worker, panel, alice):

    short = orders.place(this_shop, wish(username="brief", terms=Terms(100, 29, "days")))
    wallet.pay(short.bolt11)
    work(worker)
    sends = {box["email"]: box["disablesmtp"] for box in panel.records("mailbox")}
    assert sends == {"info@alice.shop.test": "n", "info@brief.shop.test": "y"}


def test_reconciling_again_calls_the_panel_no_more(alice, worker, panel):
    calls = len(panel.calls)
    Account.update(reconcile_at=0).execute()
    work(worker)
    assert len(panel.calls) == calls
    assert Account.get_by_id(alice.id).reconcile_at is None


def test_opening_needs_one_look_up_for_each_service(alice, panel):
    methods = [method for method, _ in panel.calls]
    look_ups = [m for m in methods if "_get" in m]
    assert len(look_ups) == 8
    assert methods.count("login") == 1
    assert len(methods) == 1 + 8 + 8 + 2  # login, look-ups, adds, two updates at the end


def test_waits_grow_while_the_panel_is_down(order, wallet, worker, panel, time_machine):
    panel.down()
    wallet.pay(order.bolt11)
    waits = []
    for _ in range(5):
        work(worker)
        account = Account.get()
        waits.append(account.reconcile_at - int(time_machine.moment))
        time_machine.forward(waits[-1])
    assert waits == sorted(waits)
    assert waits[-1] > 4 * waits[0]
    assert progress.failing()[0].tries == 5


def test_paid_time_starts_when_everything_is_there(order, wallet, worker, panel, time_machine):
    panel.down()
    wallet.pay(order.bolt11)
    work(worker)
    time_machine.forward(3600)
    panel.up()
    work(worker)
    account = Account.get()
    assert account.ready_at - account.opened_at == 3600
    assert account.expires_at - account.ready_at == 90 * 86400


def test_a_record_of_another_client_is_never_touched(order, wallet, worker, panel, this_shop):
    stranger = this_shop.panel.add_client("stranger", "stranger@example.org")
    fields = ispconfig_records.site_fields(1, stranger, None, "alice.shop.test", 10, True)
    site = this_shop.panel.add("site", stranger, fields)
    before = panel.records("site")
    wallet.pay(order.bolt11)
    work(worker)
    failing = progress.failing()[0]
    assert failing.permanent
    assert failing.error == f"its name exists at the panel and is another client's (id {site})"
    assert panel.records("site") == before
    assert int(before[0]["domain_id"]) == site


def test_a_missing_permission_names_the_function(order, wallet, worker, panel):
    panel.forbidden = {"sites_shell_user_add"}
    wallet.pay(order.bolt11)
    work(worker)
    failing = progress.failing()[0]
    assert failing.permanent
    assert "sites_shell_user_add" in failing.error


def test_errors_hold_no_secret_of_the_panel(order, wallet, worker, panel):
    secret = "Data truncated INSERT INTO `client` (`password`) VALUES ('$6$hash')"
    panel.faults.set("refuse", "client_add", message=secret)
    wallet.pay(order.bolt11)
    work(worker)
    assert "hash" not in progress.failing()[0].error


@pytest.mark.each_database
def test_one_worker_at_a_time_reconciles_an_account(order, wallet, worker, panel):
    wallet.pay(order.bolt11)
    lease = None

    def second_worker_tries():
        account_id = Account.get().id
        return Lease(account_id).take()

    record_payments(worker)
    account_id = payments.apply(worker.shop, order.token)
    lease = Lease(account_id)
    assert lease.take()
    assert not second_worker_tries()
    reconcile.account(worker.shop, account_id)
    assert panel.calls == []


@pytest.mark.each_database
def test_a_lease_that_another_took_is_noticed_before_the_next_write(
    order, wallet, worker, panel, time_machine
):
    wallet.pay(order.bolt11)
    record_payments(worker)
    account_id = payments.apply(worker.shop, order.token)
    other = Lease(account_id)

    def runs_out(method):
        if method == "sites_ftp_user_add":
            time_machine.forward(LEASE_SECONDS + 1)
            assert other.take()

    panel.before_call = runs_out
    reconcile.account(worker.shop, account_id)
    assert len(panel.records("ftp")) == 1
    assert panel.records("shell") == []
    assert Service.get(kind="ftp").applied_at is None
    assert Account.get().leased_by == other.holder


@pytest.mark.each_database
def test_paid_orders_are_forgotten_in_parts(this_shop, alice):
    """Otherwise closing an account with many payments would hold up everybody."""
    facts = {"account": alice, "space_mb": 100, "amount_msat": 1000, "placed_at": 1}
    facts |= {"expires_at": 2, "browser": "alice's", "message": "hello", "paid_at": 1}
    facts |= {"node_id": "n", "pay_index": 1, "received_msat": 1000, "duration": 1, "unit": "hours"}
    facts |= {"applied_at": 1, "bought_seconds": 1, "ends_at": 1}
    kinds = ["open", *["extend"] * (accounts.FORGOTTEN_AT_ONCE + 1)]
    Order.insert_many(
        facts | {"kind": kind, "token": f"{n:032x}", "payment_hash": f"{n}"}
        for n, kind in enumerate(kinds)
    ).execute()
    parts = [accounts.forget_some_orders(alice.id) for _ in range(3)]
    assert parts == [accounts.FORGOTTEN_AT_ONCE, 1, 0]
    [kept] = Order.select().where(Order.account == alice.id)
    assert (kept.kind, Order.select().where(Order.message.is_null(False)).count()) == ("open", 1)
    accounts.close(alice.id)
    reconcile.account(this_shop, alice.id)
    assert Account.select().count() == 0
    assert Order.select().where(Order.browser.is_null(False)).count() == 0


def test_stopping_ends_between_two_calls_and_goes_on_later(order, wallet, worker, panel):
    wallet.pay(order.bolt11)
    record_payments(worker)
    account_id = payments.apply(worker.shop, order.token)
    reconcile.account(worker.shop, account_id, stopping=lambda: len(panel.calls) > 5)
    assert 0 < sum(at_panel(panel).values()) < 8
    work(worker)
    assert at_panel(panel) == dict.fromkeys(KINDS_AT_PANEL, 1)


def test_an_unreadable_password_is_replaced(order, wallet, worker, panel, this_shop, time_machine):
    wallet.pay(order.bolt11)
    record_payments(worker)
    payments.apply(worker.shop, order.token)
    Service.update(password_sealed="spoiled").where(Service.kind == "shell").execute()
    work(worker)
    made = panel.password_of("shell", 1)
    assert made != "correct horse"
    assert panel.password_of("ftp", 1) == "correct horse"
    own = Service.get(Service.kind == "shell").own_password_sealed
    assert this_shop.vault.unseal(own) == made

    time_machine.forward(86401)
    progress.wipe_shown_passwords()
    assert Service.get(Service.kind == "shell").own_password_sealed is None


@pytest.mark.each_database
def test_the_worker_does_it_all_by_itself(order, wallet, worker, panel):
    thread = threading.Thread(target=worker.run)
    thread.start()
    wallet.pay(order.bolt11)
    eventually(lambda: Account.get_or_none(Account.ready_at.is_null(False)))
    worker.stop()
    thread.join(10)
    assert not thread.is_alive()
    assert at_panel(panel) == dict.fromkeys(KINDS_AT_PANEL, 1)


def test_records_unknown_to_a_restored_database_are_found(order, wallet, worker, panel, this_shop):
    wallet.pay(order.bolt11)
    record_payments(worker)
    account_id = payments.apply(worker.shop, order.token)
    before = [row.__data__ | {} for row in Service.select()]
    work(worker)
    Service.delete().execute()
    for row in before:
        Service.create(**row)
    Account.update(leases=0, reconcile_at=0).where(Account.id == account_id).execute()

    work(worker)
    assert progress.failing() == []
    assert at_panel(panel) == dict.fromkeys(KINDS_AT_PANEL, 1)
    assert [method for method, _ in panel.calls].count("client_update") == 1


@pytest.mark.each_database
def test_due_accounts_come_in_limited_batches(this_shop, monkeypatch):
    monkeypatch.setattr(reconcile, "DUE_AT_ONCE", 2)
    accounts = {open_account(this_shop, name).id for name in ("alice", "bobby", "carol")}
    done = set()
    while due := reconcile.due_accounts():
        assert len(due) <= 2
        for account_id in due:
            reconcile.account(this_shop, account_id)
        done |= set(due)
    assert done == accounts


def test_ssh_gives_way_to_hostings_that_are_just_being_opened(this_shop, panel, time_machine):
    """Its jail would hold up what is behind it in the server's queue."""
    alice, bobby = (open_account(this_shop, name) for name in ("alice", "bobby"))
    reconcile.account(this_shop, alice.id)
    assert at_panel(panel)["mailbox"] == 1 and not panel.records("shell")
    assert alice.id not in reconcile.due_accounts()
    calls = len(panel.calls)
    time_machine.forward(reconcile.SHELL_LOOKS_SECONDS)
    reconcile.account(this_shop, alice.id)
    assert len(panel.calls) == calls  # the panel is not asked meanwhile

    reconcile.account(this_shop, bobby.id)
    time_machine.forward(reconcile.SHELL_LOOKS_SECONDS)
    reconcile.account(this_shop, alice.id)
    assert [record["username"] for record in panel.records("shell")] == ["ls_bobby", "ls_alice"]
    assert Account.get_by_id(alice.id).ready_at


def test_ssh_waits_for_others_half_a_minute_at_most(this_shop, panel, time_machine):
    alice, _ = (open_account(this_shop, name) for name in ("alice", "bobby"))
    reconcile.account(this_shop, alice.id)
    time_machine.forward(reconcile.SHELL_WAITS_SECONDS)
    reconcile.account(this_shop, alice.id)
    assert Account.get_by_id(alice.id).ready_at


def test_ssh_does_not_wait_for_a_hosting_that_cannot_be_opened(this_shop, panel):
    alice, bobby = (open_account(this_shop, name) for name in ("alice", "bobby"))
    panel.faults.set("refuse", "client_add", times=1, message="no")
    reconcile.account(this_shop, bobby.id)
    reconcile.account(this_shop, alice.id)
    assert Account.get_by_id(alice.id).ready_at


# On SQLite alone, as this is about the clock.
@pytest.mark.parametrize(("step", "times"), [(0.2, 10), (0.5, 4), (1, 2), (2, 2)])
def test_work_that_becomes_due_at_the_last_moment_is_not_taken_for_done(
    this_shop, panel, step, times
):
    """Time passes at every look at the clock."""
    moments = count(time.time(), step)
    clock.set_source(lambda: next(moments))
    panel.faults.set("refuse", "sites_shell_user_add", message="not now")
    for number in range(times):
        account = open_account(this_shop, f"alice{number}")
        reconcile.account(this_shop, account.id)
        account = Account.get_by_id(account.id)
        assert account.ready_at is None and account.reconcile_at
