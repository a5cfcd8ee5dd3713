"""Third-party L402 clients, each a program that tests tell what to request. They pay from the
sandbox's wallet.
"""

import json
import os
import signal
import subprocess
from pathlib import Path

import pytest

from tests.conftest import client_program

CLIENTS = Path(__file__).parent / "clients"
# How often a client may pay, so that one that pays in a loop is stopped and noticed.
PAYMENTS_MAX = 5


def command_of(name: str) -> tuple[list, dict[str, str]]:
    """The command that starts a client, and its environment. Skips if the client is not built."""
    built = client_program(name)
    python = CLIENTS / name / "client.py"
    if python.exists():
        return [built / "bin" / "python", python], {}
    return ["node", CLIENTS / name / "client.cjs"], {"NODE_PATH": str(built / "node_modules")}


class Programs:
    """The clients' programs: each starts once, and forgets everything before it is used again."""

    def __init__(self):
        self._idle: dict[str, subprocess.Popen] = {}

    def take(self, name: str) -> subprocess.Popen:
        command, env = command_of(name)
        if name in self._idle:
            program = self._idle.pop(name)
            write(program, {"forget": True})
            return program
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        return subprocess.Popen(command, env=os.environ | env, start_new_session=True, **pipes)

    def give_back(self, name: str, program: subprocess.Popen) -> None:
        self._idle[name] = program

    def stop(self) -> None:
        for program in self._idle.values():
            stop(program)


def stop(program: subprocess.Popen) -> None:
    os.killpg(program.pid, signal.SIGKILL)
    program.communicate()


def write(program: subprocess.Popen, what: dict) -> None:
    program.stdin.write(json.dumps(what) + "\n")
    program.stdin.flush()


@pytest.fixture(scope="module", name="programs")
def running():
    yield (programs := Programs())
    programs.stop()


class Client:
    """A client's program. Its payments are made from the sandbox's wallet."""

    def __init__(self, programs: Programs, name: str, base: str, wallet):
        self._programs = programs
        self.name = name
        self._base = base
        self._wallet = wallet
        self.payments = 0
        self._process = programs.take(name)
        self._is_answering = False

    def stop(self) -> None:
        """End the program. One that still owes an answer cannot be used again."""
        if self._is_answering:
            stop(self._process)
        else:
            self._programs.give_back(self.name, self._process)

    def ask(self, method: str, path: str, body: dict | None = None, buys: bool = True) -> dict:
        """Have the client send a request; return "status" and "body", or its exception as "error".

        `buys`: a POST may be paid, for clients that must be told so.
        """
        url = self._base + path
        buys = buys and method == "POST"
        self._is_answering = True
        self._say({"method": method, "url": url, "body": body, "buys": buys})
        while "pay" in (said := self._hear()):
            self.payments += 1
            assert self.payments <= PAYMENTS_MAX, "it pays in a loop"
            paid = self._wallet.pay(said["pay"])
            self._say({"preimage": paid["payment_preimage"]})
        self._is_answering = False
        return said

    def _say(self, what: dict) -> None:
        write(self._process, what)

    def _hear(self) -> dict:
        line = self._process.stdout.readline()
        assert line, "it has ended"
        return json.loads(line)
