"""A small answer of a program over HTTP (requests), in bounded time."""

import requests

from lightningspace.outside.deadline import http_session, time_limit


class NoAnswer(Exception):
    """It gave no answer that can be used. The text goes on after its name."""


def fetch(url: str, seconds: float, bytes_max: int, headers: dict[str, str] | None = None) -> bytes:
    """The body of its answer to a GET. Raises NoAnswer."""
    with http_session(verify_tls=True) as session, time_limit(seconds):
        try:
            # Not compressed, or a small answer could become a large one.
            with session.get(
                url,
                headers={"Accept-Encoding": "identity"} | (headers or {}),
                timeout=seconds,
                allow_redirects=False,
                stream=True,
            ) as answer:
                text = answer.raw.read(bytes_max + 1)
        except (requests.RequestException, OSError, ValueError) as error:
            raise NoAnswer(f": {type(error).__name__}") from error
    if answer.status_code != 200:
        raise NoAnswer(f" answered {answer.status_code}")
    if len(text) > bytes_max:
        raise NoAnswer(" answered too much")
    return text
