"""How the doctor identifies itself to the web program, which then tells how the request reached it.

Whoever knows SECRET_KEY can. The answer tells of the asker's own request alone.
"""

import hashlib
import re
from pathlib import Path

from flask import Request

import lightningspace
from lightningspace.base.clock import CLOCKS_DIFFER_SECONDS, now
from lightningspace.base.models import set_fact
from lightningspace.base.vault import Vault
from lightningspace.shop import Shop

PURPOSE = "doctor"
# The name of a fact: the PROGRAM of the worker that was started last.
WORKER = "worker's program"
HEADER = re.compile("Doctor ([0-9]{1,12}):([0-9a-f]{16,128})")


def _program() -> str:
    """The version, and a hash of the code: two processes of the same code have the same."""
    code = hashlib.sha256()
    for path in sorted(Path(lightningspace.__file__).parent.rglob("*.py")):
        code.update(path.read_bytes())
    return f"{lightningspace.__version__} ({code.hexdigest()[:8]})"


# This process as it was started, whatever has changed on disk since.
PROGRAM = _program()


def note_worker() -> None:
    set_fact(WORKER, PROGRAM)


def header(vault: Vault) -> str:
    """The value for Authorization; good for some minutes."""
    moment = str(now())
    return f"Doctor {moment}:{vault.mac(PURPOSE, moment)}"


def is_valid(vault: Vault, header: str) -> bool:
    found = HEADER.fullmatch(header)
    if not found or abs(now() - int(found[1])) > CLOCKS_DIFFER_SECONDS:
        return False
    return vault.is_mac(found[2], PURPOSE, found[1])


def answer(shop: Shop, request: Request) -> dict[str, str | int]:
    return {
        "program": PROGRAM,
        "url": request.host_url,
        "forwarded": request.headers.get("X-Forwarded-For", ""),
        "hops": shop.config.proxy_hops,
    }
