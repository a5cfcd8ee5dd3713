"""Whether nginx writes down credentials, or what wallets send in queries."""

import os
import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from lightningspace.operator.doctor.patient import NotSeen, Patient

INCLUDE = re.compile(r"\binclude\s+([^;\s*]+);")
TAIL_BYTES = 256 * 1024
CONFIG_BYTES_MAX = 1024 * 1024
ADVICE = "`access_log off;` in nginx's configuration of the shop, and `systemctl reload nginx`"


def look(patient: Patient, marks: tuple[str, ...]) -> Iterator[str]:
    """Search nginx's logs for marks that the doctor has just sent. Where they may not be read, its
    configuration is. Raises NotSeen.
    """
    shut = False
    for path in sorted(patient.nginx_logs.glob("*.log")):
        try:
            tail = _tail(path)
        except OSError:
            shut = True
            continue
        if any(mark.encode() in tail for mark in marks):
            yield f"{path} has queries or credentials of visitors: {ADVICE}"
    if (shut or not os.access(patient.nginx_logs, os.R_OK)) and not _is_off(patient):
        raise NotSeen(
            f"this user may not read {patient.nginx_logs}: `grep -l {marks[0]} "
            f"{patient.nginx_logs}/*.log`, as root, names the logs that have queries of visitors; "
            f"what helps: {ADVICE}"
        )


def _tail(path: Path) -> bytes:
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - TAIL_BYTES))
        return file.read(TAIL_BYTES)


def _is_off(patient: Patient) -> bool:
    """Whether every `server` of the shop's host has `access_log off`, and no other access log."""
    name = re.compile(rf"server_name[^;]*[\s]{re.escape(patient.host)}[\s;]")
    ours = [block for block in _servers(patient.nginx) if name.search(block)]
    logs = [re.findall(r"\baccess_log\s+([^;\s]+)", block) for block in ours]
    return bool(ours) and all(found and set(found) == {"off"} for found in logs)


def _servers(directory: Path) -> Iterator[str]:
    """The text of each `server { }`, with what it includes and without comments."""
    for path in sorted({*directory.glob("sites-enabled/*"), *directory.glob("conf.d/*.conf")}):
        try:
            text = _text(path)
        except OSError:
            continue
        for found in re.finditer(r"\bserver\s*{", text):
            depth, end = 1, found.end()
            while depth and end < len(text):
                depth += {"{": 1, "}": -1}.get(text[end], 0)
                end += 1
            yield INCLUDE.sub(partial(_included, directory), text[found.end() : end])


def _included(directory: Path, line: re.Match) -> str:
    try:
        return _text(directory / line[1])
    except OSError:
        return line[0]


def _text(path: Path) -> str:
    """Raises OSError."""
    return re.sub(r"#.*", "", path.read_text(errors="replace")[:CONFIG_BYTES_MAX])
