"""The application factory. `python app.py` runs the whole shop against the sandbox."""

import logging
import os
from decimal import Decimal
from pathlib import Path
from urllib.parse import urlsplit

from flask import Flask, render_template, request
from flask.sessions import SecureCookieSessionInterface
from peewee import InterfaceError, InternalError, OperationalError
from werkzeug.exceptions import BadRequest, HTTPException, TooManyRequests, default_exceptions
from werkzeug.middleware.proxy_fix import ProxyFix
from werkzeug.routing import BaseConverter

from lightningspace import api, cli, gate, operator, pages, shop
from lightningspace.api import answers
from lightningspace.base import logs, models, names, passwords, qr
from lightningspace.base.clock import clock_time, day, iso_time, now, span, time_left
from lightningspace.base.config import Config, ConfigError
from lightningspace.base.prices import EXTRAS, Size
from lightningspace.operator import entry
from lightningspace.pages import about, files, uploads
from lightningspace.pages.reminders import stop_reminders
from lightningspace.rules import order_book, services, sessions
from lightningspace.visitors import compression, forms, logins, networks, readers
from lightningspace.visitors.csrf import Protection
from lightningspace.visitors.limits import Limits, Unusable

ROOT = Path(__file__).parent
INSTANCE = ROOT / "instance"
BODY_BYTES_MAX = 64 * 1024
CENT = Decimal("0.01")

HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
        "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
}

csrf = Protection()


class Part(BaseConverter):
    """One segment of a URL's path. A NUL, on which PostgreSQL fails, matches none: 404."""

    regex = "[^/\0]+"


def create_app(config: Config) -> Flask:
    """The web application. It serves once its database has tables (`flask init-db`).

    Raises ConfigError.
    """
    app = Flask(__name__, instance_path=str(INSTANCE), static_folder=None)
    # Its redirect would give programs an HTML page, and a URL whose host the client has chosen.
    app.url_map.merge_slashes = False
    app.url_map.converters["default"] = Part
    app.config.update(
        SECRET_KEY=config.secret_key,
        SECRET_KEY_FALLBACKS=list(config.secret_key_fallbacks),
        SESSION_COOKIE_NAME="__Host-session" if config.is_https else "session",
        SESSION_COOKIE_SECURE=config.is_https,
        SESSION_COOKIE_HTTPONLY=True,
        SESSION_COOKIE_SAMESITE="Lax",
        SESSION_REFRESH_EACH_REQUEST=False,
        PERMANENT_SESSION_LIFETIME=sessions.LASTS_SECONDS,
        WTF_CSRF_TIME_LIMIT=None,
        # The strict check requires a Referer, which Tor Browser and others never send.
        WTF_CSRF_SSL_STRICT=False,
        MAX_CONTENT_LENGTH=BODY_BYTES_MAX,
    )
    if config.proxy_hops:
        hops = config.proxy_hops
        # Without x_for: networks.network itself reads the addresses that they noted.
        app.wsgi_app = ProxyFix(app.wsgi_app, x_for=0, x_proto=hops, x_host=hops)

    app.session_interface = Sessions()
    warn_of_shared_domain(config)
    models.open_database(config.database_url)
    app.extensions["shop"] = shop.build(config)
    app.before_request(check_origin)
    app.before_request(uploads.admit)
    app.before_request(check_parts)
    app.before_request(entry.admit)
    csrf.init_app(app)
    csrf.exempt(stop_reminders)
    answers.init_app(app)
    try:
        app.extensions["limits"] = Limits(config.rate_limit_storage)
    except Unusable as error:
        raise ConfigError(
            "RATE_LIMIT_STORAGE is not usable: write memory://, or redis://host:6379 and "
            "`pip install redis`"
        ) from error
    logins.login_manager.init_app(app, add_context_processor=False)
    for part in (*pages.PARTS, *operator.PARTS):
        app.register_blueprint(part.blueprint)
    for part in api.PARTS:
        app.register_blueprint(part.blueprint)
        csrf.exempt(part.blueprint)
    files.init_app(app)
    app.after_request(set_headers)
    app.after_request(compress)
    app.teardown_request(lambda error: error and models.drop_connection())
    register_errors(app)
    register_template_tools(app)
    app.add_template_global(about.facts(config), "about")
    cli.register(app)
    if config.gate_config:
        gate.init_app(app, config.gate_config)
        csrf.exempt(gate.pages.blueprint)  # its cookies come with no request of another site
    return app


def warn_of_shared_domain(config: Config) -> None:
    """Warn if customers' sites share the shop's domain: they could set cookies for it."""
    host = urlsplit(config.public_url).hostname or ""
    if f".{host}".endswith(f".{config.base_domain}") or config.base_domain.endswith(f".{host}"):
        logging.getLogger(__name__).warning(
            "PUBLIC_URL and BASE_DOMAIN share a domain: customers' pages could set cookies for the "
            "shop; better take a second domain"
        )


def check_origin() -> None:
    """Refuse a form that a page of another site sent, if the browser says so.

    Where a web server adds "Referrer-Policy: no-referrer", browsers send "null" as the origin, but
    still say whether it is ours.
    """
    origin = request.headers.get("Origin")
    if answers.is_for_programs(request.path):  # cookies are ignored there
        return
    if request.method != "POST" or origin is None or request.endpoint == "reminders.stop_reminders":
        return
    if origin == "null" and request.headers.get("Sec-Fetch-Site") == "same-origin":
        return
    ours = request.host_url.rstrip("/")
    if origin not in (ours, shop.this_shop().config.public_url):
        raise BadRequest("This form was sent from another site.")


class Sessions(SecureCookieSessionInterface):
    """Flask's cookie sessions, with one signer for all requests instead of one for each.

    Programs have no session: a logged-in browser that calls the API is not logged in there. Neither
    has the gate, which is on other hosts as well, nor have files: what depends on a cookie,
    browsers ask for again when the cookie changes.

    Who comes by an onion address has a cookie without `Secure`: Tor encrypts the way to it, and
    most browsers would keep no other there.
    """

    def __init__(self):
        self._signer = None

    def open_session(self, app, request):
        if self._has_none(request.path):
            return self.session_class()
        return super().open_session(app, request)

    def save_session(self, app, session, response):
        if not self._has_none(request.path):
            super().save_session(app, session, response)

    def _has_none(self, path: str) -> bool:
        is_gate = path.startswith("/gate/")
        return is_gate or answers.is_for_programs(path) or files.is_file(path)

    def get_cookie_name(self, app):
        return "session" if networks.is_by_onion() else super().get_cookie_name(app)

    def get_cookie_secure(self, app):
        return super().get_cookie_secure(app) and not networks.is_by_onion()

    def get_signing_serializer(self, app):
        if self._signer is None:
            self._signer = super().get_signing_serializer(app)
        return self._signer


def check_parts() -> None:
    """Refuse a multipart body with a nameless part, on which Flask-WTF fails."""
    if answers.is_for_programs(request.path):
        return
    if request.method == "POST" and None in request.form:
        raise BadRequest("A field of this form has no name.")


def set_headers(response):
    response.headers.extend(HEADERS)
    response.headers.setdefault("Cache-Control", "no-store")
    return response


def compress(response):
    if answers.is_for_programs(request.path):
        return response
    return compression.of_page(response)


def register_errors(app: Flask) -> None:
    def error_page(error: HTTPException):
        if error.response is not None:  # a redirect, or a response made on purpose
            return error.response
        code = error.code if error.code in ERRORS else 500 if error.code >= 500 else 400
        title, text = ERRORS[code]
        if answers.is_for_programs(request.path):
            return answers.of_http_error(error, text, RETRY_AFTER.get(code))
        page = render_template("error.html", title=title, text=text, code=error.code)
        headers = dict(error.get_headers()[1:])
        if code in RETRY_AFTER:
            headers.setdefault("Retry-After", RETRY_AFTER[code])
        return page, error.code, headers

    for code in default_exceptions:
        app.register_error_handler(code, error_page)

    def database_fault(error):
        logging.getLogger(__name__).error(
            "the database does not answer: %s: %s", type(error).__name__, logs.first_line(error)
        )
        models.drop_connection()
        return error_page(default_exceptions[503]())

    app.register_error_handler(passwords.Busy, lambda error: error_page(TooManyRequests()))
    # InternalError: PostgreSQL's, when it may only be read.
    for fault in (OperationalError, InterfaceError, InternalError):
        app.register_error_handler(fault, database_fault)


RETRY_AFTER = {429: "60", 503: "10"}
ERRORS = {
    400: (
        "That did not work",
        "We could not accept what your browser sent: it was incomplete, too old, or from another "
        "site. Please allow cookies for this site, open the page again and send the form once "
        "more. Nothing was charged.",
    ),
    403: ("Not allowed", "You may not open this page."),
    404: ("Nothing here", "There is no page at this address, or it is not yours to see."),
    405: ("Nothing here", "This address only takes forms. Start from the front page."),
    413: ("Too much", "Your browser sent more than this form can hold. Please send less."),
    429: ("Slow down", "Too many tries in a short time. Please wait a minute and try again."),
    500: (
        "Our mistake",
        "Something broke on our side, and it is in our log. Whatever you paid is recorded.",
    ),
    503: ("One moment", "We cannot answer right now. Nothing is lost. Please try again soon."),
}


def register_template_tools(app: Flask) -> None:
    app.add_template_global(now)
    app.add_template_global(services.SERVICE_NAMES, "SERVICE_NAMES")
    app.add_template_global(EXTRAS, "EXTRAS")
    app.add_template_filter(qr.png, "qr_png")
    app.add_template_global(forms.wrong_fields)
    app.add_template_global(forms.takes_focus)
    app.add_template_filter(qr.blocks, "qr_blocks")
    app.add_template_global(readers.shows_text_only)
    app.add_template_filter(forms.size_in_words, "size")
    app.add_template_filter(names.in_unicode)
    app.add_template_filter(sats)
    app.add_template_filter(order_book.terms_of, "terms")
    app.add_template_filter(lambda row: vars(Size.of(row)), "size_fields")
    app.add_template_filter(lambda msat: sats(msat - 999), "sats_down")
    app.add_template_filter(iso_time)
    app.add_template_filter(clock_time)
    app.add_template_filter(day)
    app.add_template_filter(money)
    app.add_template_filter(span)
    app.add_template_filter(time_left)


def sats(msat: int) -> str:
    """Whole sats, rounded up, with commas between the thousands."""
    return f"{-(-msat // 1000):,}"


def money(amount: Decimal) -> str:
    """To the cent, with commas between the thousands; "0" for less than half of one."""
    return f"{amount:,.2f}" if amount >= CENT / 2 else "0"


if __name__ == "__main__":
    # Only here: production never loads the stand-ins.
    from lightningspace.sandbox import program

    program.run(create_app, ROOT, os.environ)
