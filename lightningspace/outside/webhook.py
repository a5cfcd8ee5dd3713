"""Messages to a program of the operator's, by HTTP (requests): signed, and in bounded time."""

import hashlib
import hmac
import json

import requests

from lightningspace.base.clock import now
from lightningspace.outside.deadline import http_session, time_limit

CALL_SECONDS = 10
HEADER = "Lightning-Space-Signature"


class WebhookError(Exception):
    """The message was not taken, or nobody knows. The text is for the operator, without the URL."""


def post(url: str, secret: str, message: dict, seconds: float = CALL_SECONDS) -> None:
    """Send a message there. Raises WebhookError, also for a redirect."""
    body = json.dumps(message).encode()
    headers = {"Content-Type": "application/json", HEADER: signature(secret, body, now())}
    with http_session(verify_tls=True) as session, time_limit(seconds):
        try:
            with session.post(
                url,
                data=body,
                headers=headers,
                timeout=seconds,
                allow_redirects=False,
                stream=True,  # whatever it answers is not read
            ) as answer:
                code = answer.status_code
        except (requests.RequestException, OSError, ValueError) as error:
            raise WebhookError(f"the webhook did not answer: {type(error).__name__}") from None
    if not 200 <= code < 300:
        raise WebhookError(f"the webhook answered {code}")


def signature(secret: str, body: bytes, moment: int) -> str:
    """It covers the moment too: whoever checks both notices that an old message is sent again."""
    mac = hmac.new(secret.encode(), b"%d." % moment + body, hashlib.sha256).hexdigest()
    return f"t={moment},v1={mac}"
