"""What a bitcoin costs in a currency, as somebody's JSON over HTTP says."""

import json
import re
from decimal import Decimal

from lightningspace.outside import small_answers

CALL_SECONDS = 10
ANSWER_BYTES_MAX = 256 * 1024
# What is beyond is no price of a bitcoin in any currency.
LEAST, MOST = Decimal("0.000001"), Decimal(10**12)
NUMBER = re.compile(r"[0-9]{1,20}(\.[0-9]{1,20})?")


class RateError(Exception):
    """The source gave no rate that can be used. The text is for the operator."""


def fetch(url: str, path: tuple[str, ...], seconds: float = CALL_SECONDS) -> Decimal:
    """The price of one bitcoin: what stands in the answer behind these keys. Raises RateError."""
    try:
        answer = small_answers.fetch(url, seconds, ANSWER_BYTES_MAX)
        found = json.loads(answer, parse_float=str, parse_int=str, parse_constant=str)
    except small_answers.NoAnswer as error:
        raise RateError(f"the source of the rate{error}") from error
    except (ValueError, RecursionError):
        raise RateError("the source of the rate answered something else than JSON") from None
    for step in path:
        found = _below(found, step)
    if not isinstance(found, str) or not NUMBER.fullmatch(found):
        raise RateError(f"the source of the rate has no number at {'.'.join(path)}")
    rate = Decimal(found)
    if not LEAST <= rate <= MOST:
        raise RateError("the source of the rate has a number that is no price of a bitcoin")
    return rate


def _below(found: object, step: str) -> object:
    if isinstance(found, dict):
        return found.get(step)
    if isinstance(found, list) and re.fullmatch("[0-9]{1,4}", step):
        return next(iter(found[int(step) :]), None)
    return None
