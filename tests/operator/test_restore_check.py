"""Restoring a day-old database while node and panel went on: what the shop finds again."""

from pathlib import Path

import pytest

from lightningspace import shop
from lightningspace.base import clock, models
from lightningspace.base.config import from_env
from lightningspace.base.models import Account, Order, Service, set_fact
from lightningspace.base.money_models import IncomeOfDay
from lightningspace.base.prices import DAY, Size, Terms
from lightningspace.operator import backup, problems, restore, restore_check
from lightningspace.outside import l402
from lightningspace.panel import reconcile
from lightningspace.rules import (
    accounts,
    clock_watch,
    order_book,
    orders,
    payments,
    rebuilding,
    restored,
    tips,
    tokens,
)
from lightningspace.rules.order_book import Door
from lightningspace.rules.orders import Buyer, Tip
from tests.actual import assert_panel_matches, everything
from tests.conftest import (
    WorkerByHand,
    open_account,
    wish,
    work,
)

HOUR = 60 * 60


class Life:
    """A shop whose database can go back to an archive, while its node and panel go on."""

    def __init__(self, this_shop, env, node, panel, wallet, tmp_path, time_machine, new_database):
        self.shop, self._env, self.node, self.panel = this_shop, env, node, panel
        self.wallet, self._place, self.time = wallet, tmp_path, time_machine
        self._new_database = new_database
        self.worker = WorkerByHand(this_shop)
        self.paid: dict[str, str] = {}

    def buy(self, name: str, **changes) -> Account:
        order = orders.place(self.shop, wish(username=name, password="correct horse", **changes))
        self.pay(name, order.bolt11)
        self.work()
        return Account.get(Account.username == name)

    def pay(self, what: str, bolt11: str, **more) -> None:
        self.wallet.pay(bolt11, **more)
        self.paid[what] = bolt11

    def work(self) -> None:
        while self.worker.follow_payments(seconds=0):
            pass
        for _ in range(3):
            work(self.worker)

    def tip(self, account: Account, sats: int, door=Door.PAGE) -> None:
        metadata = tips.metadata(self.shop, account) if door == Door.ADDRESS else None
        tip = Tip(sats * 1000, door, None, metadata)
        order = orders.top_up(self.shop, account.id, tip, None, f"{door} {sats}")
        self.pay(f"tip {door}", order.bolt11)

    def back_up(self) -> Path:
        return backup.make(self.shop, self._env, self._place, self._place / "backups")

    def restore(self, archive: Path) -> None:
        models.db.close()
        env = self._env | {"DATABASE_URL": self._new_database()}
        config = from_env(env, self._place)
        models.open_database(config.database_url)
        with archive.open("rb") as file:
            restore.fill(config, self._place, file)
        self.shop = shop.build(config)
        shop.settle_in(self.shop)
        self.worker = WorkerByHand(self.shop)

    def begin_anew(self) -> None:
        models.db.close()
        config = from_env(self._env | {"DATABASE_URL": self._new_database()}, self._place)
        models.open_database(config.database_url)
        models.init_db()
        self.shop = shop.build(config)
        shop.settle_in(self.shop)
        restored.begin()

    def check(self) -> list[str]:
        return list(restore_check.check(self.shop.for_worker()))


@pytest.fixture
def life(this_shop, env, node, panel, wallet, tmp_path, time_machine, database_kind, request):
    def new_database() -> str:
        if database_kind == "postgresql":
            return request.getfixturevalue("empty_postgresql")("restored")
        return f"sqlite:///{tmp_path / 'restored.sqlite3'}"

    panel.queue_seconds = 0
    yield Life(this_shop, env, node, panel, wallet, tmp_path, time_machine, new_database)
    models.db.close()


def income_by_kind() -> set[tuple]:
    return set(IncomeOfDay.select(IncomeOfDay.kind, IncomeOfDay.times, IncomeOfDay.msat).tuples())


def one(lines: list[str], *words: str) -> str:
    found = [line for line in lines if all(word in line for word in words)]
    assert len(found) == 1, (words, lines)
    return found[0]


@pytest.mark.each_database
def test_a_day_missing_in_the_copy_is_found_again(life):
    for name in ("alice", "bob", "carol"):
        life.buy(name)
    alice, bob, carol = (Account.get(Account.username == n) for n in ("alice", "bob", "carol"))
    archive = life.back_up()

    # A day passes: sales, extensions, another size, tips, a closing.
    life.time.forward(HOUR)
    dave = life.buy("dave", terms=Terms(500, 30, "days"))
    life.buy("erin")
    order = orders.extend(life.shop, alice.id, 30, "days", Buyer("alice's browser", "form"))
    life.pay("extension", order.bolt11)
    order = orders.extend(life.shop, dave.id, 30, "days", Buyer("dave's browser", "form"))
    life.pay("dave's extension", order.bolt11)
    life.work()
    order = orders.resize(life.shop, bob.id, Size(500, 0, 0), Buyer("bob's browser", "form"))
    life.pay("size", order.bolt11)
    life.tip(alice, 7)
    life.tip(bob, 8, Door.ADDRESS)
    offer = tips.offer(life.shop, Account.get_by_id(dave.id))
    invoice = life.wallet.call("fetchinvoice", {"offer": offer, "amount_msat": 9000})
    life.pay("offer", invoice["invoice"])
    life.work()
    accounts.close(carol.id)
    life.work()
    assert not Account.get_or_none(Account.id == carol.id)
    expected = {a.username: a for a in Account.select()}
    paid = {o.payment_hash: o.received_msat for o in Order.select() if o.paid_at}
    proofs = {o.payment_hash: o.invoice_hash for o in Order.select().where(Order.kind == "open")}
    access_key = tokens.receipt(life.shop, dave)
    sums = income_by_kind()
    before = everything(life.panel)
    passwords = {
        row.panel_id: life.panel.password_of("ftp", row.panel_id)
        for row in Service.select().where(Service.kind == "ftp")
    }
    life.time.forward(23 * HOUR)

    life.restore(archive)
    assert restored.since()
    lines = life.check()
    print("\n".join(lines))
    assert everything(life.panel) == before  # nothing is made, changed or deleted yet
    assert lines[0].endswith(": 8")
    assert one(lines, "dave", "it is back") and one(lines, "erin", "it is back")
    assert one(lines, "more time for alice") and one(lines, "more time for dave")
    assert one(lines, "another size for bob: 500 MB")
    assert one(lines, "a tip for alice") and one(lines, "a tip for bob")
    assert one(lines, "a tip for dave")
    gone = one(lines, "account carol", "no client")
    assert len(lines) == 10

    # No payment is lost or counted twice.
    assert {o.payment_hash: o.received_msat for o in Order.select() if o.paid_at} == paid
    assert not payments.lost() and not payments.due()
    assert income_by_kind() == sums
    assert life.check() == ["payments that the node had and the database did not: 0", gone]

    # Whoever paid can log in, by the access key or by the wallet's history.
    macaroon, _, preimage = access_key.partition(":")
    holder = tokens.holder(life.shop, l402.read(macaroon), bytes.fromhex(preimage))
    assert holder.account.id == dave.id
    opened = Order.select().where(Order.kind == "open")
    assert {o.payment_hash: o.invoice_hash for o in opened} == proofs

    # Nothing is sold until the operator says so.
    with pytest.raises(restored.Restoring):
        orders.place(life.shop, wish(username="frank"))
    assert restored.end()
    life.time.forward(reconcile.SHELL_WAITS_SECONDS)
    life.work()
    again = {a.username: a for a in Account.select()}
    assert again.keys() == expected.keys() | {"carol"}
    for name in expected:
        assert again[name].id == expected[name].id
        assert again[name].paid_msat == expected[name].paid_msat
        assert again[name].expires_at >= expected[name].expires_at - 1
        assert again[name].space_mb == expected[name].space_mb
    for name in ("alice", "dave", "erin"):
        assert_panel_matches(life.shop, life.panel, again[name].id)
    assert {i: life.panel.password_of("ftp", i) for i in passwords} == passwords
    assert not [line for line in problems.found(life.shop) if "plugin" not in line.text]


def test_without_any_copy_hostings_are_rebuilt_from_the_panel(life):
    alice = life.buy("alice")
    life.buy("bob", terms=Terms(100, 1, "hours"))
    order = orders.extend(life.shop, alice.id, 30, "days", Buyer("alice's browser", "form"))
    life.pay("extension", order.bolt11)
    bob = Account.get(Account.username == "bob")
    accounts.close(bob.id)
    life.work()
    life.time.forward(30 * DAY)
    life.begin_anew()
    lines = life.check()
    assert one(lines, "alice", "it is back") and one(lines, "more time for alice")
    assert one(lines, "whose time is over") and len(lines) == 4
    again = Account.get()
    assert (again.id, again.username, again.paid_msat) == (alice.id, "alice", 120 * 7000)
    assert again.expires_at == clock.now() + 120 * DAY


# -- what cannot be attributed ---------------------------------------------------------


@pytest.fixture
def begun(this_shop):
    """A shop whose database was restored by other means."""
    assert restored.begin() and not restored.begin()
    return this_shop


def lost(node, wallet, shop, description: str, token: str, msat: int = 7000) -> str:
    """Pay an invoice for which the database has no order, and return its payment hash."""
    invoice = shop.node.create_invoice(shop.config.label_prefix + token, msat, description, 600)
    wallet.pay(invoice.bolt11)
    return invoice.payment_hash


def words(shop) -> list[str]:
    return list(restore_check.check(shop.for_worker()))


def test_even_a_recent_copy_undoes_closings_and_restarts_grace_periods(begun, alice):
    set_fact(clock_watch.PASSED, clock.now())
    clock_watch.approve(clock.now())
    moment = clock.now()
    Account.update(expires_at=1, valued_at=1, suspended_at=1, last_call_at=2).execute()
    accounts.close(alice.id, by_calendar=True)
    words(begun)
    assert Account.get().closing_at is None
    assert clock_watch.unbroken_since() >= moment


def test_an_order_that_the_copy_has_takes_effect(order, begun, wallet):
    wallet.pay(order.bolt11)
    assert one(words(begun), order.token[:8], "takes effect for alice")
    assert len(words(begun)) == 1


def test_an_opening_missing_at_the_panel_is_opened_again(begun, node, wallet):
    terms = "Web hosting: open 100 MB 2 addresses 3 months 00000000"
    paid = lost(node, wallet, begun, terms, "0" * 32)
    line = one(words(begun), paid, "opened anew as")
    account = Account.get()
    assert line.endswith(account.username) and account.extra_addresses == 2
    assert account.expires_at - account.opened_at == 90 * DAY
    assert words(begun) == ["payments that the node had and the database did not: 0"]
    assert Account.select().count() == 1


def test_an_opening_that_may_be_at_the_panel_waits_for_the_operator(
    time_machine, begun, node, wallet
):
    """The token does not name its account: an older version made it, or another key."""
    alice = open_account(begun, "alice")
    reconcile.account(begun, alice.id)
    name = f"{begun.config.panel_prefix}{alice.id}"
    Service.delete().execute()
    Account.delete().execute()
    paid = lost(node, wallet, begun, "Web hosting: open 100 MB 3 months 00000000", "0" * 32)
    for _ in range(2):
        lines = words(begun)
        assert one(lines, paid, "nobody can say whose", "open 100 MB 3 months")
        assert one(lines, name, "the site alice.shop.test", "has no account")
        assert len(lines) == 3 and not Account.select().exists()
    assert any(paid in line.text for line in problems.found(begun))
    assert not orders.can_be_had(begun, "alice")  # people still write to that name
    # A panel client from long before the payment does not belong to it.
    time_machine.forward(2 * rebuilding.CLOCKS_SECONDS)
    paid = lost(node, wallet, begun, "Web hosting: open 100 MB 3 months 00000000", "1" * 32)
    assert one(words(begun), paid, "opened anew as")


def test_payments_that_nobody_can_attribute_stay_on_the_list(begun, node, wallet, alice, subtests):
    known = order_book.new_token(begun, alice)
    table = {
        "more time, of nobody known": ("Web hosting: extend 100 MB 3 months 00000000", "1" * 32),
        "another size, of nobody known": ("Web hosting: resize 500 MB 00000000", "2" * 32),
        "no terms": ("A cup of coffee", "3" * 32),
        "more time without a time": ("Web hosting: extend 100 MB 00000000", known),
        "no space": ("Web hosting: open 0 MB 3 months 00000000", "4" * 32),
        "an opening of an account that is there": (
            "Web hosting: open 100 MB 3 months 00000000",
            order_book.new_token(begun, alice),
        ),
    }
    before = Account.get()
    for what, (description, token) in table.items():
        with subtests.test(what):
            paid = lost(node, wallet, begun, description, token)
            assert one(words(begun), paid, "nobody can say whose", description)
    assert len(payments.lost()) == len(table)
    assert (Account.get().expires_at, Account.select().count()) == (before.expires_at, 1)


def test_a_payment_refunded_since_is_not_delivered_too(begun, node, wallet):
    paid = lost(node, wallet, begun, "Web hosting: open 100 MB 3 months 00000000", "0" * 32)
    key = ("lightning-space", f"{begun.config.label_prefix}refunds", paid)
    begun.for_worker().node.note(*key, f"r1-{'0' * 64}", text="7000")
    assert one(words(begun), paid, "was paid back")
    assert not Account.select().exists()
    assert [each.payment_hash for each in payments.lost()] == [paid]


def test_a_name_taken_by_another_account_is_reported_and_nothing_is_merged(
    begun, node, wallet, panel, alice
):
    bob = open_account(begun, "bob")
    reconcile.account(begun, bob.id)
    token = order_book.new_token(begun, bob)
    Service.delete().where(Service.account == bob.id).execute()
    bob.delete_instance()
    Account.update(username="bob").execute()  # as if alice had another name by now
    paid = lost(node, wallet, begun, "Web hosting: open 100 MB 3 months 00000000", token)
    lines = words(begun)
    assert one(lines, paid, "nobody can say whose")
    assert one(lines, bob.id, "the site bob.shop.test, a name that another account has here")
    assert Account.select().count() == 1


# -- until the operator says so --------------------------------------------------------


def test_the_command_goes_on_only_when_node_and_panel_have_answered(
    this_shop, alice, node, panel, runner
):
    def run(*options):
        answer = runner.invoke(args=["restore-check", *options])
        return answer.exit_code, answer.output.splitlines()

    assert run("--begin")[1][0] == "nothing is sold until --go"
    for stand_in, call in ((node, "getinfo"), (panel, "client_get")):
        stand_in.faults.set("cut-before", call)
        status, lines = run("--go")
        assert status == 1 and "run this again, and then --go" in lines[-1]
        assert restored.since()
        stand_in.faults.clear()
    assert any("restore-check --go" in line.text for line in problems.found(this_shop))
    for command in (["calendar", "--yes"], ["retry", "alice", "--check"], ["walls"]):
        refused = runner.invoke(args=command)
        assert refused.exit_code == 1 and "restore-check" in refused.output
    assert run()[1][-1] == "nothing is sold yet: when this is as it should be, run it with --go"
    assert run("--go")[1][-1] == "the shop sells again"
    assert run("--go")[1][-1] == "the shop was selling already"
