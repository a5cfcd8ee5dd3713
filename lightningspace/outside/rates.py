"""What a bitcoin costs in a currency, as somebody's JSON over HTTP says (requests)."""

import json
import re
from decimal import Decimal

import requests

from lightningspace.outside.deadline import http_session, time_limit

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
        answer = _answer(url, seconds)
        found = json.loads(answer, parse_float=str, parse_int=str, parse_constant=str)
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


def _answer(url: str, seconds: float) -> bytes:
    with http_session(verify_tls=True) as session, time_limit(seconds):
        try:
            # Not compressed, or a small answer could become a large one.
            with session.get(
                url,
                headers={"Accept-Encoding": "identity"},
                timeout=seconds,
                allow_redirects=False,
                stream=True,
            ) as answer:
                text = answer.raw.read(ANSWER_BYTES_MAX + 1)
        except (requests.RequestException, OSError, ValueError) as error:
            raise RateError(f"the source of the rate: {type(error).__name__}") from error
    if answer.status_code != 200:
        raise RateError(f"the source of the rate answered {answer.status_code}")
    if len(text) > ANSWER_BYTES_MAX:
        raise RateError("the source of the rate answered too much")
    return text
