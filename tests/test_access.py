"""Who gets in, and with what: a receipt, a token, what the wallet kept; and who does not."""

from dataclasses import dataclass

import pytest

from lightningspace import receipts
from lightningspace.models import Account, Notice, Order
from tests.conftest import place_order, work

pytestmark = pytest.mark.any_database


@dataclass
class Bought:
    """A hosting, and what the wallet that paid for it keeps."""

    account: Account
    invoice: str
    preimage: str


@pytest.fixture
def buy(app, wallet, worker):
    """Buy a hosting with a browser that is never used again: `buy(username="alice")`."""

    def buy(**fields) -> Bought:
        browser = app.test_client()
        token = place_order(browser, **fields).location.rpartition("/")[2]
        invoice = Order.get_by_id(token).bolt11
        preimage = wallet.pay(invoice)["payment_preimage"]
        work(worker)
        return Bought(Order.get_by_id(token).account, invoice, preimage)

    return buy


@pytest.fixture
def bought(buy) -> Bought:
    return buy()


def now_of(bought) -> Account:
    return Account.get_by_id(bought.account.id)


def recover(shop, bought):
    return receipts.recover(shop, bought.invoice, bytes.fromhex(bought.preimage))


# -- the notice ------------------------------------------------------------------------


def test_who_is_at_home_is_told_once_of_an_attempt(this_shop, mails, buy, time_machine):
    bought = buy(username="alice", email="alice@example.org")
    Account.update(entered_at=1).execute()
    for _ in range(2):
        with pytest.raises(receipts.RecoveryWaits) as waits:
            recover(this_shop, bought)
        time_machine.forward(60)
    assert waits.value.at == now_of(bought).recovery_asked_at + receipts.RECOVERY_SECONDS
    told = Notice.select().where(Notice.kind == "recovery").order_by(Notice.channel)
    assert [row.recipient for row in told] == ["alice@example.org", "info@alice.shop.test"]
    for row in told:
        assert "/account/access" in row.body
        assert bought.preimage not in row.body


def test_where_nobody_came_in_nobody_is_told(this_shop, mails, buy):
    _, password = recover(this_shop, buy(email="alice@example.org"))
    assert password
    assert not Notice.select().where(Notice.kind == "recovery").exists()
