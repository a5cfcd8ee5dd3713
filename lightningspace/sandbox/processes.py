"""Programs of others that run beside the sandbox, and end with it."""

import socket
import subprocess

HOST = "127.0.0.1"


def with_us(command: list[str]) -> subprocess.Popen:
    """Start a program. It ends when its input does, so with us, however we end."""
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
