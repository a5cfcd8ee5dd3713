"""Whether gunicorn can be reached past the web server in front (Linux's /proc)."""

import ipaddress
import os
import re
from collections.abc import Iterator
from pathlib import Path

from lightningspace.operator.doctor.patient import Patient

PROC = Path("/proc")
LISTENING = "0A"
SOCKET = re.compile(r"socket:\[([0-9]+)\]")
OURS = (b"gunicorn",)


def ports(patient: Patient) -> Iterator[str]:
    """Those of this user's gunicorns that others can reach, who may then claim any address."""
    if not patient.config.proxy_hops:
        return
    open_to_all = _open_sockets()
    ids = {id for process in _gunicorns() for id in _sockets(process)}  # its processes share them
    for address in sorted({open_to_all[id] for id in ids if id in open_to_all}):
        yield (
            f"gunicorn listens on {address}, so whoever asks it past the web server in front may "
            "claim any address: start it with `--bind unix:/run/lightning-space/web`"
        )


def _gunicorns() -> Iterator[Path]:
    for process in PROC.glob("[0-9]*"):
        try:
            if process.stat().st_uid == os.geteuid() and any(
                each in (process / "cmdline").read_bytes() for each in OURS
            ):
                yield process
        except OSError:
            continue  # it has ended


def _sockets(process: Path) -> Iterator[str]:
    try:
        links = [os.readlink(each) for each in (process / "fd").iterdir()]
    except OSError:
        return
    yield from (found[1] for link in links if (found := SOCKET.fullmatch(link)))


def _open_sockets() -> dict[str, str]:
    """By inode, the addresses that others than this machine can reach."""
    found = {}
    for name in ("tcp", "tcp6"):
        path = PROC / "net" / name
        for line in path.read_text().splitlines()[1:] if path.exists() else ():
            parts = line.split()
            host, _, port = parts[1].partition(":")
            address = _address(host)
            if parts[3] == LISTENING and not address.is_loopback:
                found[parts[9]] = f"[{address}]:{int(port, 16)}"
    return found


def _address(hexadecimal: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """The kernel writes words of four bytes, each in the machine's order."""
    words = [hexadecimal[at : at + 8] for at in range(0, len(hexadecimal), 8)]
    return ipaddress.ip_address(b"".join(bytes.fromhex(word)[::-1] for word in words))
