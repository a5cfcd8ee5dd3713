"""A tour of the shop: each page in each of its states, as a browser gets it.

The shop goes from state to state by what customers, wallets, servers and time do; what would take
long is written to the database. Pages are chosen by address and state, never by their words.
"""

import io
import json
import re
from dataclasses import dataclass

from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from lightningspace.base import clock, models, passwords
from lightningspace.base.models import (
    Account,
    Domain,
    Fact,
    Notice,
    Order,
    Server,
    Service,
    Upload,
    Wallet,
    WalletSignature,
)
from lightningspace.base.money_models import Refund
from lightningspace.base.prices import DAY, Size
from lightningspace.operator import entry, problems
from lightningspace.outside import l402
from lightningspace.panel import reconcile
from lightningspace.rules import (
    accounts,
    domains,
    hostnames,
    order_book,
    orders,
    outbox,
    payments,
    payouts,
    progress,
    recovery,
    refunds,
    reminders,
    status,
    tokens,
    uploads,
    wanted,
)
from lightningspace.rules.order_book import Door
from tests.conftest import (
    ROOT,
    csrf_token,
    enter,
    form_id,
    let_the_server_follow,
    open_account,
    place_order,
    record_payments,
    with_settings,
    work,
)

PASSWORD = "correct horse"
BROWSER = {"Accept": "text/html,*/*;q=0.8"}
# The settings of the shop that is shown: like those of `make run`.
shown_shop = with_settings(
    OPERATOR_PASSWORD_HASH=passwords.make_hash("a long one of the operator"),
    BASE_DOMAIN="space.example",
    SHOP_NAME="lightning-space",
    CONTACT="help@space.example",
    ABUSE_CONTACT="abuse@space.example",
    SOURCE_URL="https://git.space.example/shop",
    WEBMAIL_URL="https://mail.space.example/",
    PHPMYADMIN_URL="https://db.space.example/",
    IMPRINT_FILE=str(ROOT / "LICENSE"),
    DOMAINS_INCLUDED="3",
    CAPACITY_MB="200000",
    CHANGES_LIMIT="1000 per minute",
    LOGINS_LIMIT="50 per day",
)
ERRORS = "errors"


@dataclass(frozen=True)
class Sight:
    """A page in a state. `page`: the rule of its address, such as "/orders/<token>", or ERRORS."""

    page: str
    state: str
    answer: TestResponse


class Tour:
    """`sights`: those seen so far. `shown`: the endpoints that have answered with a page."""

    def __init__(self, app, shop, node, panel, wallet, worker, time_machine):
        self.app, self.shop, self.node, self.panel = app, shop, node, panel
        self.wallet, self.worker, self.clock = wallet, worker, time_machine
        self.sights: list[Sight] = []
        self.shown: set[str] = set()

    def begin(self) -> list[Sight]:
        """Make the first stops, which include the sights of the README's picture."""
        self._what_everybody_may_see()
        self._an_order()
        self._a_new_hosting()
        return self.sights

    def walk(self) -> list[Sight]:
        self.begin()
        self._the_control_center()
        self._how_a_hosting_may_stand()
        self._orders_of_owners_and_givers()
        self._ways_in()
        self._the_operator()
        self._what_goes_wrong()
        return self.sights

    # -- seeing ----------------------------------------------------------------------

    def visitor(self) -> FlaskClient:
        return self.app.test_client()

    def see(self, state: str, path: str, browser: FlaskClient | None = None, page="") -> None:
        """Keep the page that an address shows, after redirects."""
        browser = browser or self.visitor()
        self._keep(state, browser.get(path, headers=BROWSER, follow_redirects=True), page)

    def send(self, state: str, browser: FlaskClient, page: str, to: str = "", **typed) -> None:
        """Send a page's form, and keep the page that it leads to."""
        self._keep(state, self.press(browser, page, to, **typed), page)

    def press(self, browser: FlaskClient, page: str, to: str = "", **typed) -> TestResponse:
        shown = browser.get(page, headers=BROWSER).text
        typed = {"csrf_token": csrf_token(shown)} | typed
        if 'name="form_id"' in shown:
            typed["form_id"] = form_id(shown)
        return browser.post(to or page, data=typed, headers=BROWSER, follow_redirects=True)

    def _keep(self, state: str, answer: TestResponse, page: str) -> None:
        assert answer.mimetype == "text/html", (state, answer.text)
        got = answer.request.method == "GET"
        path = answer.request.path if got else page.partition("?")[0]
        if page != ERRORS:
            rule, _ = self.app.url_map.bind("localhost").match(path, return_rule=True)
            page = rule.rule
            if got and answer.status_code == 200:
                self.shown.add(rule.endpoint)
        self.sights.append(Sight(page, state, answer))

    # -- changing the state ----------------------------------------------------------

    def hosting(self, username: str, **facts) -> Account:
        account = open_account(self.shop, username)
        self.set_up(account)
        return self.change(account, **facts)

    def set_up(self, account: Account) -> Account:
        """Work until everything of the account is live; the tip jar comes last."""
        for _ in range(2):
            self.look_now(account)
            let_the_server_follow()
        return Account.get_by_id(account.id)

    def change(self, account: Account, **facts) -> Account:
        if facts:
            Account.update(facts).where(Account.id == account.id).execute()
        return Account.get_by_id(account.id)

    def owner(self, account: Account) -> FlaskClient:
        return enter(self.visitor(), account)

    def facts(self, table, which, **facts) -> None:
        table.update(facts).where(which).execute()

    def look_now(self, account: Account) -> Account:
        reconcile.try_now(account.id)
        work(self.worker)
        return Account.get_by_id(account.id)

    def order(self, browser: FlaskClient, **fields) -> Order:
        link = place_order(browser, **fields).location
        return Order.get_by_id(link[-order_book.TOKEN_LENGTH :])

    def pay(self, order: Order) -> Order:
        self.wallet.pay(order.bolt11)
        record_payments(self.worker)
        return order

    def apply(self, order: Order) -> Account:
        payments.apply(self.shop, self.pay(order).token)
        return Order.get_by_id(order.token).account

    # -- the stops -------------------------------------------------------------------

    def _what_everybody_may_see(self) -> None:
        self.see("empty", "/")
        self.see("chosen by a link", "/?space_mb=1000&duration=12&unit=days")
        wrong = {"space_mb": "7", "duration": "0", "unit": "days", "username": "a b"}
        self.send("wrong fields", self.visitor(), "/", "/orders", password="short", **wrong)
        self.hosting("taken")
        wish = {"space_mb": "500", "time": "1 year"}
        self.send("taken name", self.visitor(), "/", "/orders", username="taken", **wish)
        self.send("price", self.visitor(), "/", "/orders", show="price", username="free", **wish)
        self.node.down()
        self.send("node down", self.visitor(), "/", "/orders", **wish)
        self.node.up()
        for state, capacity_mb in (("scarce", 30_000), ("sold out", 300)):
            Server.update(capacity_mb=capacity_mb).execute()
            self.see(state, "/")
        Server.update(capacity_mb=200_000).execute()
        with models.transaction():
            hostnames.let_rest(self.shop, "rested", "ab" * 32, 1)
        former = self.visitor()
        with former.session_transaction() as session:
            session["proof"] = ("ab" * 32, 1)
        self.see("after the last hosting", "/", former)

        self.see("not answering", "/status")
        status.look(self.shop)
        Fact.insert(name=status.TOOK, value="9 14 11").on_conflict_replace().execute()
        self.see("working", "/status")
        for path in ("/terms", "/privacy", "/imprint", "/abuse", "/goodbye"):
            self.see("", path)
        self.see("nothing to pay", "/api/v1/hosting")
        wish = {"space_mb": 100, "duration": 1, "unit": "days"}
        sale = self.visitor().post("/api/v1/hosting", json=wish, headers=BROWSER)
        self._keep("invoice", sale, "/api/v1/hosting")

    def _an_order(self) -> None:
        alice, month = self.visitor(), {"time": "1 month"}
        order = self.order(alice, username="alice", **month)
        link = f"/orders/{order.token}"
        self.see("paying", link, alice)
        self.see("paying, for a stranger", link)
        self.see("waiting order", "/", alice)
        self.see("waiting order", "/login", alice)
        self.send("own name", alice, "/", "/orders", username="alice", space_mb="500", **month)
        Order.update(bolt11=None, payment_hash=None).where(Order.token == order.token).execute()
        self.see("preparing", link, alice)
        held = {"bolt11": order.bolt11, "payment_hash": order.payment_hash}
        Order.update(held).where(Order.token == order.token).execute()
        name = Account.get_by_id(order.account_id).username
        self.change(order.account, username=None)
        self.see("name not reserved", link, alice)
        self.change(order.account, username=name)
        moment = self.clock.moment
        self.clock.forward(16 * 60)
        self.see("checking", link, alice)
        payments.tidy(self.shop, self.node.id)
        self.see("expired", link, alice)
        Order.update(missing_at=clock.now()).where(Order.token == order.token).execute()
        self.see("lost by the node", link, alice)
        self.clock.moment = moment + 17 * 60
        order = self.order(alice)
        self.send("cancelled", alice, f"/orders/{order.token}", f"/orders/{order.token}/cancel")

    def _a_new_hosting(self) -> None:
        alice = self.visitor()
        order = self.pay(self.order(alice, username="alice", email="alice@example.org"))
        link = f"/orders/{order.token}"
        self.see("paid", link, alice)
        payments.apply(self.shop, order.token)
        self.panel.faults.set("cut-before", "sites_database_add", times=3)
        work(self.worker)
        self.see("failing", link, alice)
        self.panel.faults.clear()
        account = Order.get_by_id(order.token).account
        self.facts(Service, Service.kind == "database", permanent=True)
        self.see("stuck", link, alice)
        self.facts(Service, Service.kind == "database", error=None, permanent=False)
        self.see("setting up", link, alice)
        self.look_now(account)
        self.see("ready, for a stranger", link)
        self.see("just bought", link, alice)
        self.set_up(account)
        self.see("just bought, live", "/account", alice)
        self.see("just bought", "/account/known", alice)
        self.see("just bought", "/account/access/card", alice)
        self.clock.forward(2 * DAY)
        progress.wipe_shown_passwords()
        used = {"used_database_mb": 3, "used_mail_mb": 1, "used_at": clock.now()}
        self.change(account, used_site_mb=31, **used)
        self.see("later", "/account", alice)
        self.change(account, used_site_mb=69)
        self.see("nearly full", "/account", alice)
        self.facts(Order, Order.token == order.token, is_late=True)
        self.change(account, opened_at=clock.now(), username="alice2")
        self.see("opened anew, with another name", "/account", alice)
        self.facts(Order, Order.token == order.token, is_late=False)
        self.facts(Order, Order.token == order.token, account=None)
        self.see("ended", link)

    def _the_control_center(self) -> None:
        carol, site = self.visitor(), "carol.space.example"
        order = self.order(carol, username="carol", password=PASSWORD)
        account = self.set_up(self.apply(order))
        carol.get(f"/orders/{order.token}")
        for page in ("settings", "htaccess", "mail", "domains", "tips", "extend", "size", "access"):
            self.see("at first", f"/account/{page}", carol)
        for page in ("password", "payments", "data", "close", "prove"):
            self.see("", f"/account/{page}", carol)
        self._an_upload(carol, account)
        self._a_paid_area(carol, account)

        wanted.add(self.shop, account.id, "forward", f"all@{site}", destination="me@example.org")
        wanted.add(self.shop, account.id, "mailbox", f"eve@{site}")
        self.see("being set up", "/account/mail", carol)
        self.see("being set up", f"/account/mail/eve@{site}", carol)
        self.set_up(account)
        self.see("new password", "/account/mail", carol)
        self.see("new password", f"/account/mail/eve@{site}", carol)
        self.see("forward", f"/account/mail/all@{site}", carol)
        self.send(
            "wrong fields", carol, "/account/mail", "/account/mail/mailbox", local_part="e v e"
        )
        failing = {"revision": Service.revision + 1, "error": "x", "failed_since": clock.now()}
        self.facts(Service, Service.name == f"eve@{site}", permanent=True, **failing)
        self.see("stuck", f"/account/mail/eve@{site}", carol)
        self.set_up(account)

        for name in ("carol.example", "mail.example", "lost.example"):
            domains.add(self.shop, account.id, name, wants_mail=name == "mail.example")
        self.see("waiting", "/account/domains", carol)
        seen = {"verified_at": clock.now(), "looked_at": clock.now(), "asked_at": clock.now()}
        self.facts(Domain, Domain.name == "mail.example", **seen, has_mx=True)
        problem = "We found no TXT record at _lightning-space.lost.example."
        lost = seen | {"missing_at": clock.now(), "problem": problem}
        self.facts(Domain, Domain.name == "lost.example", **lost)
        wanted.add(self.shop, account.id, "alias", "mail.example")
        self.look_now(account)
        self.see("proven and lost", "/account/domains", carol)
        self.see("", "/account/domains/mail.example/remove", carol)
        self.send("wrong fields", carol, "/account/domains", name="-")
        self.see("many services", "/account", carol)

        page, form = "/account/settings", "/account/settings/password"
        self.send("wrong fields", carol, page, form, service="all", password="y")
        self.press(carol, page, form, service="ftp:ls_carol", make="1")
        self.look_now(account)
        self.see("a service's new password", "/account", carol)
        self.send("wrong fields", carol, "/account/prove", password="x")
        self.send("wrong name", carol, "/account/close", username="bob")
        self.send("wrong fields", carol, "/account/extend", duration="0", unit="days")
        self.press(carol, "/account/extend", duration="30", unit="days")
        self.see("unpaid order", "/account/extend", carol)
        self.see("price", "/account/size?space_mb=500&extra_addresses=2", carol)
        self.press(carol, "/account/size", space_mb="1000")
        self.see("unpaid order", "/account/size", carol)

        token = tokens.hand_out(self.shop, account.id, "my script", l402.WHOLE)
        tokens.hand_out(self.shop, account.id, "mail only", l402.Rights(frozenset(["mail"]), 1))
        self.clock.forward(DAY)
        self.see("not proven", "/account/access", carol)
        self.see("before a receipt", "/account/access/receipt", carol)
        self.press(carol, "/account/prove", password=PASSWORD)
        for path in ("", "/receipt", f"/tokens/{token.id}"):
            self.see("proven", f"/account/access{path}", carol)

    def _a_paid_area(self, owner: FlaskClient, account: Account) -> None:
        page = "/account/areas"
        self.see("none yet", page, owner)
        sold = {"price_sat": "100", "duration": "1", "unit": "days", "mode": "wallet"}
        wrong = sold | {"name": "m e", "price_sat": "x", "wallet_address": "x", "duration": "0"}
        self.send("wrong fields", owner, page, **wrong)
        self.press(owner, page, name="members", **sold, wallet_address="me@wallet.example")
        area, here = Service.kind == "paidarea", f"{page}/members"
        self.see("being tried", here, owner)
        done = {"applied_revision": Service.revision, "applied_at": clock.now(), "tries": 0}
        for state, note in (("on", None), ("programs only?", "no_verify"), ("wrong", "down")):
            self.facts(Service, area, **done, note=note, error=None)
            self.see(state, here, owner)
        self.see("one", page, owner)
        self.send("wrong fields", owner, here, f"{here}/change", **(sold | {"mode": "x"}))
        self.facts(Service, area, active=False, note=None)
        self.see("off", here, owner)
        Service.delete().where(area).execute()

    def _an_upload(self, carol: FlaskClient, account: Account) -> None:
        page = "/account/upload"
        self.see("at first", page, carol)
        self.send("wrong file", carol, page, file=(io.BytesIO(b"?"), "photo.jpg"))
        self.send("sent", carol, page, file=(io.BytesIO(b"<h1>Carol</h1>"), "index.html"))
        self.facts(Upload, Upload.account == account.id, total=214, compared=214, done=87)
        self.see("half way", page, carol)
        ended = {"ended_at": clock.now(), "about": json.dumps(["index.html", "img/me.jpg"])}
        for outcome in uploads.Outcome:
            self.facts(Upload, Upload.account == account.id, outcome=outcome, **ended)
            self.see(outcome, page, carol)
        Upload.delete().execute()

    def _how_a_hosting_may_stand(self) -> None:
        account = self.hosting("dave", credit_msat=500_000, email_waits="dave@example.org")
        dave, moment = self.owner(account), clock.now()
        ended = {"expires_at": moment - DAY, "valued_at": moment - 2 * DAY}
        for state, facts in {
            "address not confirmed": {},
            "ending": {"expires_at": moment + 2 * DAY, "ready_at": moment - 28 * DAY},
            "suspended": ended | {"suspended_at": moment - DAY},
            "last call": {"last_call_at": moment},
            "blocked": {
                "last_call_at": None,
                "suspended_at": None,
                "expires_at": moment + 60 * DAY,
                "blocked_at": moment,
                "blocked_for": "phishing",
                "blocked_reason": "See the terms: https://space.example/terms",
            },
            "somebody wants to take it over": {
                "blocked_at": None,
                "blocked_for": None,
                "blocked_reason": None,
                "recovery_asked_at": moment,
            },
        }.items():
            self.change(account, **facts)
            self.see(state, "/account", dave)
            if state in ("suspended", "last call"):
                self.see(state, "/tip/dave")
        self.change(account, recovery_asked_at=None)
        wanted.set_every_password(self.shop, account.id)
        self.see("being changed", "/account", dave)
        self.panel.down()
        self.look_now(account)
        self.see("failing", "/account", dave)
        self.facts(Service, Service.error.is_null(False), permanent=True)
        self.see("stuck", "/account", dave)
        self.facts(Service, Service.permanent, permanent=False)
        self.panel.up()
        self.look_now(account)
        self.see("new passwords", "/account", dave)
        accounts.close(account.id)
        self.see("being closed", "/account", dave)

    def _orders_of_owners_and_givers(self) -> None:
        account = self.hosting("erin")
        erin, buyer = self.owner(account), orders.Buyer("erin's browser", "1")
        extension = orders.extend(self.shop, account.id, 30, "days", buyer)
        link = f"/orders/{extension.token}"
        self.see("paying for more time", link, erin)
        self.pay(extension)
        self.see("paid for more time", link, erin)
        payments.apply(self.shop, extension.token)
        self.see("has more time", link, self.visitor())
        self.facts(
            Order,
            Order.token == extension.token,
            applied_at=None,
            ends_at=None,
            bought_seconds=None,
        )
        self.change(account, closing_at=clock.now(), deleting_at=clock.now())
        self.see("paid too late", link, erin)
        self.change(account, closing_at=None, deleting_at=None)
        payments.apply(self.shop, extension.token)
        buyer = orders.Buyer("erin's browser", "2")
        size = orders.resize(self.shop, account.id, Size(500, 1, 1), buyer)
        self.see("paying for another size", f"/orders/{size.token}", erin)
        self.see("", "/tip/erin")
        self.send("wrong fields", self.visitor(), "/tip/erin", sats="x", message="y" * 500)
        giver = self.visitor()
        self.send("paying a tip", giver, "/tip/erin", sats="2100", message="Lovely pictures!")
        tip = Order.get(Order.door == Door.PAGE)
        self.pay(tip)
        payments.apply(self.shop, tip.token)
        link = f"/orders/{tip.token}"
        self.see("thank you", link, giver)
        self.see("some", "/account/tips", erin)
        self.see("with a tip", "/account", erin)
        self.see("many", "/account/payments", erin)
        unapplied = {"applied_at": None, "ends_at": None, "bought_seconds": None}
        self.facts(Order, Order.token == tip.token, account=None, **unapplied)
        self.see("a tip too late", link, giver)
        self._a_refund(giver, Order.get_by_id(tip.token))

    def _a_refund(self, giver: FlaskClient, order: Order) -> None:
        page, rule = f"/refund/{order.token}", "/refund/<token>"
        self.see("", "/refund")
        self.send("wrong fields", self.visitor(), "/refund", invoice="x", preimage="y")
        self.send("wrong key", self.visitor(), "/refund", "/refund/key", receipt="x")
        self.see("to be claimed", page, giver, rule)
        self.send("a wrong destination", giver, page, destination="x")
        invoice = self.wallet.invoice(order.received_msat, "a refund", "x", 3600)["bolt11"]
        self.send("waits", giver, page, destination=invoice)
        refund = Refund.get()
        refunds.approve(refund.id)
        self.see("being paid", page, giver, rule)
        self.facts(Refund, Refund.id == refund.id, problem="failed")
        self.see("not paid", page, giver, rule)
        refunds.approve(refund.id)
        payouts.pay_due(self.shop)
        self.see("paid", page, giver, rule)
        self.see("paid back", f"/orders/{order.token}", giver)
        no = {"preimage": None, "paid_at": None, "sent_at": None, "refused_at": 1, "reason": "No."}
        self.facts(Refund, Refund.id == refund.id, **no)
        self.see("refused", page, giver, rule)

    def _ways_in(self) -> None:
        bob = self.visitor()
        order = self.order(bob, username="bobby")
        invoice = order.bolt11
        preimage = self.wallet.pay(invoice)["payment_preimage"]
        record_payments(self.worker)
        payments.apply(self.shop, order.token)
        account = self.look_now(Order.get_by_id(order.token).account)
        self.see("", "/login")
        typed = {"username": "bobby", "password": "wrong password"}
        self.send("wrong password", self.visitor(), "/login", **typed)
        self.send("no receipt", self.visitor(), "/login", "/login/receipt", receipt="x")
        shown = {"invoice": invoice, "preimage": preimage}
        wrong = shown | {"preimage": "0" * 64}
        self.send("not recovered", self.visitor(), "/login", "/login/recover", **wrong)
        self.change(account, entered_at=clock.now())
        self.send("recovery waits", self.visitor(), "/login", "/login/recover", **shown)
        self.clock.forward(recovery.WAIT_SECONDS)
        self.send("recovered", self.visitor(), "/login", "/login/recover", **shown)

        self._a_linked_wallet(account)
        reminders.request_change(self.shop, account.id, "bob@example.org")
        mail = Notice.get((Notice.account_id == account.id) & (Notice.kind == "confirm"))
        confirm = re.search(r"/reminders/confirm/\S+", mail.body)[0]
        self.see("link", confirm)
        self.send("confirmed", self.visitor(), confirm)
        stop = outbox.unsubscribe_url(self.shop, account.id, "bob@example.org")
        stop = stop.removeprefix(self.shop.config.public_url)
        self.see("end", stop)
        self._keep("ended", self.visitor().post(stop, headers=BROWSER), stop)
        self.see("unknown link", "/reminders/confirm/x")

    def _a_linked_wallet(self, account: Account) -> None:
        owner, visitor = self.owner(self.change(account)), self.visitor()
        until = clock.now() + DAY
        self.see("logged in", "/login", owner)
        self.send("to be signed", owner, "/account/access", "/account/access/wallets")
        with owner.session_transaction() as session:
            WalletSignature.create(k1=session["link_k1"], wallet_key="02", until=until)
        self.see("signed", "/account/access/wallets/new", owner)
        for linked in (account, Account.get(username="erin")):
            Wallet.create(account=linked, wallet_key="02", linked_at=clock.now())
        self.see("with a wallet", "/account/access", owner)
        self.see("over", "/login/wallet")
        self.send("to be signed", visitor, "/login", "/login/wallet")
        with visitor.session_transaction() as session:
            WalletSignature.create(k1=session["login_k1"], wallet_key="02", until=until)
        self.see("of several hostings", "/login/wallet", visitor)

    def _the_operator(self) -> None:
        operator, page = self.visitor(), "/operator/hostings/erin"
        link = entry.new_link(self.shop).removeprefix(self.shop.config.public_url)
        self.see("", link, operator)
        self.send("at first", operator, link)
        erin, bobby = (Account.get(username=name) for name in ("erin", "bobby"))
        status.look(self.shop)
        lost = {"kind": "lost", "placed_at": clock.now(), "expires_at": clock.now(), "node_id": "n"}
        lost |= {"pay_index": 1, "received_msat": 7_000_000, "paid_at": clock.now()}
        lost = Order.create(token="0" * 32, payment_hash="0" * 64, **lost)
        failing = {"error": "x", "permanent": True, "failed_since": 1, "tried_at": clock.now()}
        self.facts(Service, (Service.account == erin.id) & (Service.kind == "ftp"), **failing)
        problems.count(self.shop)
        found = [f"/hostings{asked}" for asked in ("", "?q=nobody", "?standing=running")]
        for here in ("", "/problems", *found, "/money", "/login"):
            self.see(here, f"/operator{here}", operator)
        self.see("with a failure", page, operator)
        for state, order in (("paid", Order.get(Order.account == erin)), ("lost", lost)):
            self.see(state, f"/operator/orders/{order.token}", operator)
        self._refunds_at_the_operators(operator, lost)
        self.send("wrong fields", operator, page, f"{page}/block", category="x")
        typed = {"category": "spam", "reason": "Mails", "note": "Received: by …"}
        self.send("blocked", operator, page, f"{page}/block", **typed)
        self.see("", f"{page}/close", operator)
        self.send("wrong name", operator, f"{page}/close", username="bobby")
        accounts.close(bobby.id)
        self.see("being closed", "/operator/hostings/bobby", operator)
        self.see("being closed", "/operator/hostings/bobby/close", operator)
        self.facts(Service, Service.error.is_null(False), error=None, permanent=False)

    def _refunds_at_the_operators(self, operator: FlaskClient, lost: Order) -> None:
        page = f"/operator/orders/{lost.token}"
        self.see("none", "/operator/refunds", operator)
        refunds.claim(self.shop, lost, "alice@wallet.example")
        self.see("some", "/operator/refunds", operator)
        self.see("claimed back", page, operator)
        self.send("no reason", operator, page, f"{page}/refund/refuse", reason="")
        self.send("refused", operator, page, f"{page}/refund/refuse", reason="No.")

    def _what_goes_wrong(self) -> None:
        self.see("404", "/nowhere", page=ERRORS)
        visitor = self.visitor()
        self._keep("400", visitor.post("/login", headers=BROWSER), ERRORS)
        self._keep("405", visitor.get("/logout", headers=BROWSER), ERRORS)
        much = {"username": "x" * 100_000}
        self._keep("413", visitor.post("/login", data=much, headers=BROWSER), ERRORS)
        for _ in range(60):
            answer = self.press(visitor, "/login", username="x", password="y")
            if answer.status_code == 429:
                break
        self._keep("429", answer, ERRORS)
        models.db.execute_sql("ALTER TABLE facts RENAME TO gone")
        self.see("503", "/status", page=ERRORS)
        models.db.execute_sql("ALTER TABLE gone RENAME TO facts")
