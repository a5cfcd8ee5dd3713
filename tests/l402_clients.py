"""Other people's L402 clients, each a program that tests tell what to ask for, and that pays for it
from the sandbox's wallet.
"""

import json
import os
import signal
import subprocess
from pathlib import Path

from tests.conftest import client_program

CLIENTS = Path(__file__).parent / "clients"
# What a client may ever pay here: one that pays in a loop is stopped, and seen.
PAYMENTS_MAX = 5


def command_of(name: str) -> tuple[list, dict[str, str]]:
    """The command that starts a client, and its environment. Skips where it is not built."""
    built = client_program(name)
    python = CLIENTS / name / "client.py"
    if python.exists():
        return [built / "bin" / "python", python], {}
    return ["node", CLIENTS / name / "client.cjs"], {"NODE_PATH": str(built / "node_modules")}


class Client:
    """A client's program; what it wants to pay is paid from the sandbox's wallet."""

    def __init__(self, command: list, env: dict[str, str], base: str, wallet):
        self._base = base
        self._wallet = wallet
        self.payments = 0
        self.process = subprocess.Popen(
            command,
            env=os.environ | env,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def stop(self) -> None:
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.communicate()

    def ask(self, method: str, path: str, body: dict | None = None, buys: bool = True) -> dict:
        """Its answer: "status" and "body", or what it has raised as "error". `buys`: a POST may
        be paid, by a client that wants to be told.
        """
        url = self._base + path
        buys = buys and method == "POST"
        self._say({"method": method, "url": url, "body": body, "buys": buys})
        while "pay" in (said := self._hear()):
            self.payments += 1
            assert self.payments <= PAYMENTS_MAX, "it pays in a loop"
            paid = self._wallet.pay(said["pay"])
            self._say({"preimage": paid["payment_preimage"]})
        return said

    def _say(self, what: dict) -> None:
        self.process.stdin.write(json.dumps(what) + "\n")
        self.process.stdin.flush()

    def _hear(self) -> dict:
        line = self.process.stdout.readline()
        assert line, "it has ended"
        return json.loads(line)
