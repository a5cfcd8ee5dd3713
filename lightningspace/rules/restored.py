"""Whether the database is a restored copy that still has to be checked for what came in since.

Until then nothing is sold, closed or deleted: the copy may not know of a payment, or of a hosting.
"""

from lightningspace.base.clock import clock_time, now
from lightningspace.base.models import Fact, set_fact, transaction
from lightningspace.base.refusals import Refusal

SINCE = "restored at"


class Restoring(Refusal):
    """Nothing is sold until the operator has checked the restored database."""

    status, code, retry_after = 503, "restoring", 600
    text = (
        "Nothing can be bought right now: we restored this shop from a backup, and first look for "
        "what came in since. Hostings go on working, and no payment is lost. Please come back in "
        "an hour."
    )


def since() -> int | None:
    """When the database was restored; None: it was not, or has been checked."""
    fact = Fact.get_or_none(Fact.name == SINCE)
    return int(fact.value) if fact else None


def check_sells() -> None:
    """Raise Restoring while nothing may be sold."""
    if since() is not None:
        raise Restoring


def why_not() -> str | None:
    """Why nothing is sold, for visitors; None: it is."""
    return None if since() is None else Restoring.text


def begin() -> bool:
    """Stop selling; False: that was done before."""
    with transaction():
        if since() is not None:
            return False
        set_fact(SINCE, now())
    return True


def end() -> bool:
    """Sell again; False: selling had not stopped."""
    return Fact.delete().where(Fact.name == SINCE).execute() == 1


def problems() -> list[str]:
    moment = since()
    if moment is None:
        return []
    return [
        f"the database was restored at {clock_time(moment)}: nothing is sold, set up, changed or "
        "closed until `flask --app wsgi restore-check --go`"
    ]
