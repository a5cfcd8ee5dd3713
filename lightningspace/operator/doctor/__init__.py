"""`flask doctor`: looks at all that a shop stands on, and says what to type where it is wrong.

It changes nothing, but for an invoice at the node that it deletes again (and, if asked to, a client
at the panel). It also runs where the shop does not start: with wrong settings, or no database.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from peewee import PeeweeException

from lightningspace.base import messages, models
from lightningspace.base.logs import first_line
from lightningspace.operator.doctor import (
    database,
    files,
    front,
    mail,
    names,
    node,
    panel,
    settings,
    uploads,
)
from lightningspace.operator.doctor.patient import NotSeen, Patient
from lightningspace.outside.dns import DnsError
from lightningspace.outside.ftp import FtpError
from lightningspace.outside.ispconfig import PanelError
from lightningspace.outside.mail import MailError
from lightningspace.outside.node import NodeError
from lightningspace.outside.raw_http import NoAnswer

logger = logging.getLogger(__name__)

OK, WRONG, UNKNOWN = "ok", "wrong", "unknown"
# Checks that take longer are reported as unknown.
SECONDS = 50
OUTSIDE_ERRORS = (NodeError, PanelError, FtpError, MailError, DnsError)

Check = Callable[[Patient], Iterable[str]]
# For each subject, its checks by name. They run one after the other, and the subjects side by side.
# When the first check of a subject is not ok, its others are skipped. A check yields what is wrong,
# or raises NotSeen.
SUBJECTS: tuple[Mapping[str, Check], ...] = (
    files.CHECKS,
    database.CHECKS,
    node.CHECKS,
    panel.CHECKS,
    uploads.CHECKS,
    names.CHECKS,
    mail.CHECKS,
    front.CHECKS,
)
BY_NAME = {name: check for each in (settings.CHECKS, *SUBJECTS) for name, check in each.items()}


@dataclass(frozen=True)
class Finding:
    """`text`: what is wrong, and what to type; or why that is not known. "" where all is well."""

    check: str
    result: str
    text: str = ""


def examine(patient: Patient, seconds: float = SECONDS) -> Iterator[Finding]:
    """The findings of every check, always in the same order, within about `seconds`."""
    found: dict[str, list[Finding]] = {}
    _look(settings.CHECKS, patient, found)
    for findings in found.values():
        yield from findings
    if patient.shop is None:
        for name in (name for checks in SUBJECTS for name in checks):
            yield Finding(name, UNKNOWN, "not looked at while “settings” is not ok")
        return
    ends_at = time.monotonic() + seconds
    looking = []
    for checks in SUBJECTS:
        found = {}
        # A daemon, so that a check that hangs does not keep the program from ending.
        thread = threading.Thread(target=_look, args=(checks, patient, found), daemon=True)
        thread.start()
        looking.append((checks, thread, found))
    for checks, thread, found in looking:
        thread.join(max(0, ends_at - time.monotonic()))
        for name in checks:
            late = [Finding(name, UNKNOWN, f"not seen within {seconds:g} seconds")]
            yield from found.get(name, late)


def _look(checks: Mapping[str, Check], patient: Patient, found: dict[str, list[Finding]]) -> None:
    first = next(iter(checks))
    try:
        for name in checks:
            if name != first and found[first][0].result != OK:
                found[name] = [Finding(name, UNKNOWN, f"not looked at while “{first}” is not ok")]
            else:
                found[name] = look(name, patient)
    finally:
        # Only if this thread has a connection: close() waits while another is being opened.
        if patient.shop is not None and not models.db.is_closed():
            models.db.close()


def look(name: str, patient: Patient) -> list[Finding]:
    """What one check finds, each on one line: it may quote what other servers answered."""
    found = _seen(name, patient)
    return [replace(each, text=messages.on_one_line(each.text)) for each in found]


def _seen(name: str, patient: Patient) -> list[Finding]:
    try:
        wrong = [Finding(name, WRONG, text) for text in BY_NAME[name](patient)]
    except NotSeen as error:
        return [Finding(name, UNKNOWN, str(error))]
    except NoAnswer as error:
        return [Finding(name, WRONG, f"{patient.config.public_url} {error}")]
    except OUTSIDE_ERRORS as error:
        return [Finding(name, WRONG, str(error))]
    except PeeweeException as error:
        text = f"the database does not answer: {first_line(error)}"
        return [Finding(name, WRONG, text)]
    except Exception as error:
        logger.exception("the check “%s” failed", name)
        return [Finding(name, UNKNOWN, f"the check itself failed: {type(error).__name__}")]
    return wrong or [Finding(name, OK)]
