"""How the API answers: JSON, with problems as in RFC 9457; HTML only to browsers."""

import json
from http import HTTPStatus

from flask import Flask, Response, render_template, request, url_for
from werkzeug.exceptions import HTTPException

from lightningspace.base import clock
from lightningspace.base.refusals import Refusal
from lightningspace.outside import lnurl
from lightningspace.rules import wanted
from lightningspace.visitors import authorization

# The paths for programs. Cookies are ignored there, so pages of any site may call them.
MANIFEST, INDEX_402 = "/.well-known/l402.json", "/.well-known/402index-verify.txt"
PATHS = ("/api/", f"{lnurl.PATH}/", lnurl.AUTH_PATH, MANIFEST, INDEX_402, "/llms.txt")
# Leads programs from whatever they ask first to what is sold.
LINK = f'<{MANIFEST}>; rel="l402-manifest"'
PROBLEM = "application/problem+json"

CORS = {
    "Access-Control-Allow-Origin": "*",
    "Access-Control-Allow-Methods": "GET, POST, PATCH, DELETE, OPTIONS",
    "Access-Control-Allow-Headers": (
        "Content-Type, Authorization, Idempotency-Key, Accept-Authenticate, WWW-Authenticate, "
        "Macaroon, Grpc-Metadata-Macaroon, Payment-Receipt"
    ),
    "Access-Control-Expose-Headers": (
        "WWW-Authenticate, Retry-After, Location, Link, Payment-Receipt"
    ),
    "Access-Control-Max-Age": "86400",
}


# What Flask and Werkzeug refuse, in words for programs.
DETAILS = {
    400: "The request cannot be read.",
    404: "There is nothing at this address.",
    405: "This address takes other methods: see the header Allow.",
    413: "The body has more than 64 KiB.",
    429: "Too many requests in a short time. Send the same again later.",
}


class ApiError(Refusal):
    """A refusal that only programs meet."""

    def __init__(self, status: int, code: str, text: str, retry_after: int = 0, **facts):
        super().__init__(text, **facts)
        self.status, self.code, self.retry_after = status, code, retry_after


def is_for_programs(path: str) -> bool:
    return path == "/api" or path.startswith(PATHS)


def success(body: dict, status: int = 200, **headers: str) -> Response:
    """In the names of `headers`, underscores stand for hyphens."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Response(json.dumps(body), status, named, mimetype="application/json")


def problem(status: int, code: str, detail: str, title: str = "", **facts) -> Response:
    title = title or HTTPStatus(status).phrase
    body = {"type": "about:blank", "title": title, "status": status, "code": code}
    return Response(json.dumps(body | {"detail": detail} | facts), status, mimetype=PROBLEM)


def the(listed: list[dict], key: str, name: str) -> dict:
    """The one with this name. Raises wanted.UnknownService."""
    for each in listed:
        if each[key] == name:
            return each
    raise wanted.UnknownService


def created(listed: list[dict], endpoint: str, **name: str) -> Response:
    """201 with the one of this name, such as `address="info@…"`, and its URL."""
    ((key, value),) = name.items()
    return success(the(listed, key, value), 201, Location=url_for(endpoint, **name))


def going(**name: str) -> Response:
    return success({**name, "state": "going"}, 202, Retry_After="5")


def of_refusal(error: Refusal) -> Response:
    response = problem(error.status, error.code, error.detail or error.text, **error.facts)
    if error.retry_after:
        response.headers["Retry-After"] = str(error.retry_after)
    if error.status == 401:
        response.headers["WWW-Authenticate"] = authorization.BARE
    return response


def of_http_error(error: HTTPException, detail: str, retry_after: str | None) -> Response:
    """What Flask and Werkzeug refuse, as a problem. `detail`: what people are told."""
    code = HTTPStatus(error.code).phrase.lower().replace(" ", "_")
    response = problem(error.code, code, DETAILS.get(error.code, detail))
    for name, value in error.get_headers()[1:]:  # such as Allow
        response.headers[name] = value
    if retry_after:
        response.headers.setdefault("Retry-After", retry_after)
    return response


# -- every answer ----------------------------------------------------------------------


def init_app(app: Flask) -> None:
    app.before_request(answer_preflight)
    app.after_request(finish)


def answer_preflight() -> Response | None:
    """Tell browsers that pages of other sites may call us, with tokens of their own (CORS)."""
    if request.method == "OPTIONS" and is_for_programs(request.path):
        return Response(status=200)
    return None


def finish(response: Response) -> Response:
    if response.status_code == 402 or request.path == "/" or request.path.startswith("/api/"):
        response.headers["Link"] = LINK
    if not is_for_programs(request.path):
        return response
    response.headers.update(CORS)
    response.vary.update(("Accept", "Authorization"))
    is_json = response.mimetype in ("application/json", PROBLEM)
    # Wallets read only JSON, whatever they say in Accept.
    is_for_wallets = request.path.startswith((lnurl.PATH, lnurl.AUTH_PATH))
    if is_json and not is_for_wallets and _is_for_a_browser():
        _as_page(response)
    return response


def _is_for_a_browser() -> bool:
    """Whether text/html is preferred: programs ask for JSON, for anything, or for nothing."""
    accepted = request.accept_mimetypes
    html = max((quality for kind, quality in accepted if kind == "text/html"), default=0)
    json_kinds = ("application/json", PROBLEM)
    other = max(accepted[kind] for kind in json_kinds)
    if any(kind in json_kinds for kind, _ in accepted):
        return html > other
    return 0 < html >= other


def _as_page(response: Response) -> None:
    body, is_problem = response.get_json(), response.mimetype == PROBLEM
    page = render_template(
        "api.html",
        body=body,
        is_problem=is_problem,
        text=json.dumps(body, indent=2, ensure_ascii=False),
        until=clock.from_iso(body["expires_at"]) if is_problem and "invoice" in body else None,
    )
    # Names in a body may contain lone surrogates, which no page can.
    response.set_data(page.encode(errors="backslashreplace"))
    response.mimetype = "text/html"
