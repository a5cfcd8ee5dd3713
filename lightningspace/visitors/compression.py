"""What is sent compressed: files, and those pages whose length tells nobody a secret.

The length of a compressed answer says how much of it repeats. Whoever can make a visitor's browser
open a page with words of their choice in it, and sees how long each answer is, can guess a secret
of that page piece by piece (BREACH). So nothing of the control center and the operator's pages is
compressed, nor any answer to a form: those show passwords and access keys. Other pages hold one
secret, the CSRF token of their forms, whose signature changes each second; and requests that
another site makes come without our cookie, unless they open a page (SameSite), which is too slow
for guessing.
"""

import gzip

from flask import Request, Response, g, request

# The level of gzip: the higher ones take twice the time for a hundredth less.
LEVEL = 6
# Below this, gzip's header costs more than is saved.
BYTES_MIN = 500


def is_understood(by: Request) -> bool:
    return by.accept_encodings["gzip"] > 0


def pack(body: bytes, level: int = LEVEL) -> bytes:
    return gzip.compress(body, level, mtime=0)


def of_page(response: Response) -> Response:
    """Compress it, if it is a page that may be."""
    if response.mimetype != "text/html" or not _may_show_its_length():
        return response
    response.vary.add("Accept-Encoding")
    body = response.get_data()
    if len(body) >= BYTES_MIN and is_understood(request):
        response.set_data(pack(body))
        response.headers["Content-Encoding"] = "gzip"
    return response


def _may_show_its_length() -> bool:
    is_of_an_owner = request.path == "/account" or request.path.startswith("/account/")
    is_secret = is_of_an_owner or g.get("is_operator")
    return request.method in ("GET", "HEAD") and not is_secret
