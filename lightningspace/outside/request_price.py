"""The price of one request, as the operator's own program names it over HTTP."""

import json

from lightningspace.outside import small_answers

SECONDS = 2
ANSWER_BYTES_MAX = 1024


class PriceUnknown(Exception):
    """It named no price within the bounds, or not in time. The text is for the operator."""


def fetch(url: str, bounds: tuple[int, int], method: str, address: str) -> int:
    """The price of a request in msat. Raises PriceUnknown.

    The program gets the method and address in headers, and answers `{"price_msat": 500}`.
    """
    headers = {"X-Gate-Method": method, "X-Gate-Uri": address, "Accept": "application/json"}
    try:
        answer = json.loads(small_answers.fetch(url, SECONDS, ANSWER_BYTES_MAX, headers))
        price = answer["price_msat"]
    except small_answers.NoAnswer as error:
        raise PriceUnknown(f"its program{error}") from error
    except (ValueError, KeyError, TypeError, RecursionError):
        raise PriceUnknown("its program answered no price_msat") from None
    low, high = bounds
    if type(price) is not int or not low <= price <= high:
        raise PriceUnknown(f"its program answered no whole number from {low} to {high}")
    return price
