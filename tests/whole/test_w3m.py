"""Customers with w3m, a text browser in a terminal; a script presses its keys."""

import os
import pty
import re
import select
import subprocess
import time

import pytest

from lightningspace.base.models import Account, Order, Service
from lightningspace.base.prices import DAY
from tests.conftest import DEADLINE_SECONDS, debian_program, opened, work

ENTER, NEXT, EMPTY = "\r", "\t", "\x01\x0b"  # the last one empties the input line at the bottom
# A field with text right behind it.
RUN_TOGETHER = re.compile(r"\[[^]]{15,}\] *\w.*")
# A line of the QR code.
OF_BLOCKS = re.compile("^█.*[▄▀].*█$", re.MULTILINE)


class W3m:
    """w3m at an address, in a terminal of 80 columns."""

    def __init__(self, home, address: str):
        program, self._home, self._saved = debian_program("w3m", "w3m"), home, 0
        self._ours, its = pty.openpty()
        self._w3m = subprocess.Popen(
            ["setsid", "--ctty", program, "-cookie", "-cols", "80", address],
            stdin=its,
            stdout=its,
            stderr=its,
            env={"HOME": str(home), "TERM": "vt100", "LC_ALL": "C.UTF-8", "PATH": os.defpath},
        )
        os.close(its)

    def __enter__(self):
        return self

    def __exit__(self, *error) -> None:
        self._w3m.kill()
        self._w3m.wait()
        os.close(self._ours)

    def read(self) -> str:
        """The whole page, once all keys pressed before have had their effect."""
        # Once w3m has begun to save for the second time, the first file is complete.
        page, after = self._save(), self._save()
        deadline = time.monotonic() + DEADLINE_SECONDS
        while not after.exists():
            assert time.monotonic() < deadline, "w3m does not do what was pressed"
            # w3m would stop if nobody read its output.
            if select.select([self._ours], [], [], 0.02)[0]:
                os.read(self._ours, 65536)
        return page.read_text()

    def _save(self):
        self._saved += 1
        path = self._home / f"{self._saved}.txt"
        self._press(f"S{EMPTY}{path}{ENTER}")
        return path

    def go_to(self, address: str) -> None:
        self._press(f"U{EMPTY}{address}{ENTER}")

    def follow(self, text: str) -> None:
        """Press the first button or link with this text."""
        self._press(f"g/{text}{ENTER}{ENTER}")

    def fill_in(self, label: str, text: str) -> None:
        """Type into the first field behind this text."""
        self._press(f"g/{label}{ENTER}{NEXT}{ENTER}{EMPTY}{text}{ENTER}")

    def _press(self, keys: str) -> None:
        os.write(self._ours, keys.encode())


@pytest.fixture
def env(env, port):
    return env | {"PUBLIC_URL": f"http://127.0.0.1:{port}"}


def test_customers_buy_extend_add_a_mailbox_and_tip_with_w3m(
    own_app, config, port, tmp_path, wallet, worker
):
    def read(text: str) -> str:
        page = w3m.read()
        assert text in page
        assert RUN_TOGETHER.findall(page) == []
        return page

    def pay() -> None:
        page = read("Waiting for your payment")
        order = Order.get(Order.paid_at.is_null())
        assert order.bolt11 in page.replace("\n", "")
        assert len(OF_BLOCKS.findall(page)) > 20
        wallet.pay(order.bolt11)
        work(worker)
        w3m.follow("look again")

    url = config.public_url
    with opened(own_app, port), W3m(tmp_path, url) as w3m:
        read("\nOrder and pay\n")
        w3m.fill_in("Name optional", "alice")
        w3m.follow("Order and pay")
        pay()
        read("ls_alice")
        account = Account.get()

        w3m.go_to(f"{url}/account/extend")
        w3m.fill_in("^Duration", "6")
        w3m.follow("Show price")
        read("1,260 sat for 6 months")
        w3m.follow("Order and pay")
        pay()
        read("Extended by 180 days")
        assert Account.get().expires_at == account.expires_at + 180 * DAY

        w3m.go_to(f"{url}/account/mail")
        w3m.fill_in("Add a mailbox", "eve")
        w3m.follow("Add the mailbox")
        read("eve@alice.shop.test")
        assert Service.get(Service.name == "eve@alice.shop.test").kind == "mailbox"

        texts = {"domains": "Add a domain", "size": "Show price", "access": "Log out"}
        for path, text in texts.items():
            w3m.go_to(f"{url}/account/{path}")
            read(text)
        w3m.follow("Log out")
        w3m.go_to(f"{url}/login")
        read("Preimage\n")
        w3m.go_to(f"{url}/tip/alice")
        w3m.fill_in("Message optional", "Lovely")
        w3m.follow("^Tip$")
        pay()
        read("Thank you")
        assert Order.get(Order.door == "page").message == "Lovely"
