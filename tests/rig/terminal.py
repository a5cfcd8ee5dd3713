"""A customer's own computer: a shell with a terminal. It is in the box for the network only."""

import os
import pty
import select
import subprocess
import time
from typing import NamedTuple

from tests.rig.box import ENVIRONMENT, Box, file

TRUSTED = "/etc/ssl/certs/ca-certificates.crt"
# ssh asks this at the first contact with a server.
FIRST_TIME = (b"continue connecting (yes/no", "yes")


class Done(NamedTuple):
    status: int
    said: str


class Terminal:
    """A shell with an empty home. It trusts `certificate`, and resolves the box's names."""

    home = ENVIRONMENT["HOME"]

    def __init__(self, box: Box, certificate: bytes):
        self._box = box
        # Hide the home of this machine's own user.
        box.shell(f"mount -t tmpfs -o mode=700 home {self.home}")
        box.write({TRUSTED: file(certificate)})

    def run(self, command: str, *dialog: tuple[str, str], seconds: float = 30) -> Done:
        """Run a command in bash. When the first text of a pair is seen, type the second.

        The whole dialog must take place, in order.
        """
        ours, its = pty.openpty()
        program = subprocess.Popen(
            ["setsid", "--ctty", *self._box.enter("bash", "-c", f"cd; {command}")],
            stdin=its,
            stdout=its,
            stderr=its,
            env=ENVIRONMENT | {"TERM": "dumb", "SSL_CERT_FILE": TRUSTED},
        )
        os.close(its)
        try:
            said, left = _talk(ours, list(dialog), time.monotonic() + seconds)
            assert not left, f"“{left[0][0]}” was not asked for: {said}"
            return Done(program.wait(seconds), said)
        finally:
            os.close(ours)  # hangs up, which ends whatever still runs
            program.kill()
            program.wait()


def _talk(terminal: int, dialog: list[tuple[str, str]], deadline: float) -> tuple[str, list]:
    """The output until the program ended or was late, and the part of the dialog that is left."""
    said = unanswered = b""
    while select.select([terminal], [], [], max(0, deadline - time.monotonic()))[0]:
        try:
            heard = os.read(terminal, 4096)
        except OSError:  # the program has ended
            break
        said += heard
        unanswered += heard
        if FIRST_TIME[0] in unanswered:
            answer = FIRST_TIME[1]
        elif dialog and dialog[0][0].encode() in unanswered:
            answer = dialog.pop(0)[1]
        else:
            continue
        os.write(terminal, f"{answer}\n".encode())
        unanswered = b""
    return said.decode(errors="replace"), dialog
