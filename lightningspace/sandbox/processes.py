"""Programs that the sandbox starts, and that end with it."""

import socket
import subprocess

HOST = "127.0.0.1"


def with_us(command: list[str]) -> subprocess.Popen:
    """Start a program that ends when this process does, however that is.

    Its standard input is a pipe from us: when the pipe closes, the shell around it ends it.
    """
    return subprocess.Popen(
        ["sh", "-c", '"$@" & read _; kill $!; wait', "sh", *command],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
        return True
