"""Attacks of one customer on another, tried on the operator's own server.

`check` makes two hostings of the shop's own, annie and bobby, and is annie: it uploads, asks and
logs in as any customer can, and looks what of bobby's it gets. Both are removed again. Nothing is
done to others' hostings, and no mail leaves the server.
"""

import json
import logging
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass

from lightningspace.attack.attacks import ATTACKS, Attack, NotTried
from lightningspace.attack.field import Field
from lightningspace.attack.hostings import CannotCheck, close_left_over, neighbours
from lightningspace.base.clock import clock_time, now
from lightningspace.base.models import Fact, set_fact
from lightningspace.base.prices import DAY
from lightningspace.shop import Shop

__all__ = ["CannotCheck", "Result", "check", "check_weekly", "close_left_over", "problems"]

logger = logging.getLogger(__name__)

HELD, OPEN, KNOWN, NOT_TRIED = "held", "open", "known", "not tried"
# What the last check of each server has found.
FOUND = "walls of server {id}"
NOT_ENDED = "it was begun and did not end"
WEEK = 7 * DAY
STAYS_OPEN = "“Whose rights Apache has” and “What stays open” in docs/hosting-server.md"
RACE_SECONDS = 10
# Some of what docs/hosting-server.md advises is done to new directories once a minute.
PATIENCE_SECONDS = 90


@dataclass(frozen=True)
class Result:
    """Of one attack: held, open, known (to be open with this setting of WALLS) or not tried.

    `proof`: what it got, or why it was not tried.
    """

    attack: str
    what: str
    result: str
    proof: str = ""
    advice: str = ""


def check(
    shop: Shop,
    server_id: int,
    address: str | None = None,
    race_seconds: int = RACE_SECONDS,
    patience_seconds: int = PATIENCE_SECONDS,
) -> Iterator[Result]:
    """Attack one server, and give each result as it is known; what was found is noted in the end.

    `address`: where it is reached from here, if not by the names that customers use. The race is
    tried for `race_seconds` with each of three files, and new directories may stay open for
    `patience_seconds`. Raises CannotCheck, which is noted too.
    """
    results: list[Result] = []
    trouble: str | None = NOT_ENDED
    try:
        with neighbours(shop, server_id) as (annie, bobby):
            field = Field(shop, annie, bobby, address, race_seconds, patience_seconds)
            field.settle_in()
            for attack in ATTACKS:
                results.append(_try(field, attack))
                yield results[-1]
        trouble = None
    except (CannotCheck, NotTried) as error:
        trouble = str(error)
        raise CannotCheck(trouble) from None
    finally:
        _note(server_id, results, trouble)


def _try(field: Field, attack: Attack) -> Result:
    started = time.monotonic()
    try:
        proof = attack.run(field)
    except NotTried as error:
        return Result(attack.name, attack.what, NOT_TRIED, str(error))
    finally:
        logger.info("walls: %s, %.1f s", attack.name, time.monotonic() - started)
    if proof is None:
        return Result(attack.name, attack.what, HELD)
    if field.walls in attack.open_with:
        return Result(attack.name, attack.what, KNOWN, proof, STAYS_OPEN)
    return Result(attack.name, attack.what, OPEN, proof, attack.advice)


# -- what was found ----------------------------------------------------------------------


def _note(server_id: int, results: list[Result], trouble: str | None) -> None:
    found = [asdict(result) for result in results if result.result in (OPEN, NOT_TRIED)]
    value = json.dumps({"at": now(), "found": found, "trouble": trouble})
    set_fact(FOUND.format(id=server_id), value)


def problems(shop: Shop) -> list[str]:
    """What the last check of each server has found open, or could not look at."""
    told = []
    for server_id in shop.config.capacity_mb:
        fact = Fact.get_or_none(Fact.name == FOUND.format(id=server_id))
        if fact is None:
            continue
        last = json.loads(fact.value)
        when = clock_time(last["at"])
        if last["trouble"]:
            told.append(f"{fact.name}: not checked at {when}: {last['trouble']}")
        for each in last["found"]:
            if each["result"] == OPEN:
                what = f"a customer can {each['what']} ({each['proof']}, {when})"
                told.append(f"{fact.name}: {what}: {each['advice']}")
            else:
                told.append(f"{fact.name}: not tried to {each['what']}: {each['proof']} ({when})")
    return told


def check_weekly(shop: Shop) -> None:
    """Check each server that was not checked for a week. Several workers may call it at once."""
    for server_id in shop.config.capacity_mb:
        if _take_turn(server_id):
            try:
                for _ in check(shop, server_id):
                    pass
            except CannotCheck as error:
                logger.warning("walls of server %d not checked: %s", server_id, error)


def _take_turn(server_id: int) -> bool:
    name = FOUND.format(id=server_id)
    begun = json.dumps({"at": now(), "found": [], "trouble": NOT_ENDED})
    before = Fact.get_or_none(Fact.name == name)
    if before is None:
        return Fact.insert(name=name, value=begun).on_conflict_ignore().execute() != 0
    if now() - WEEK < json.loads(before.value)["at"] <= now():
        return False
    mine = Fact.update(value=begun).where((Fact.name == name) & (Fact.value == before.value))
    return mine.execute() == 1
