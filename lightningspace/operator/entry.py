"""Logging in at /operator: by the password of OPERATOR_PASSWORD_HASH, or by a link that
`flask operator-login` prints.

Without that setting, /operator exists only for a browser that came by a link: all others get a 404,
as at any unknown address. The operator's sessions are apart from customers' and have a cookie of
their own; a fact holds keyed hashes of these cookies.
"""

import json
import logging
import secrets

import click
from flask import Response, g, redirect, request
from flask.cli import with_appcontext
from werkzeug.exceptions import NotFound

from lightningspace.base import passwords
from lightningspace.base.clock import HOUR, MINUTE, now
from lightningspace.base.models import Fact, set_fact, transaction
from lightningspace.shop import Shop, this_shop
from lightningspace.visitors import networks

logger = logging.getLogger(__name__)

HOME = "/operator"
LOGIN = f"{HOME}/login"
SESSION_SECONDS = 12 * HOUR
SESSIONS_MAX = 20
LINK_SECONDS = 10 * MINUTE
# Names of facts. SESSIONS: JSON, when each began and the hash of its cookie. LINK: until when the
# link is good, and its hash.
SESSIONS = "operator's sessions"
LINK = "operator's link"
# Apart from the customers' lane: neither waits behind the other.
LANE = passwords.Lane(at_once=1, places=3)
PASSWORD_MIN = 12


def is_here(path: str) -> bool:
    """Whether the address is one of the operator's."""
    return path == HOME or path.startswith(f"{HOME}/")


def admit() -> Response | None:
    """Before each request: None lets it through. Others are sent to the login, or get a 404."""
    if not is_here(request.path):
        return None
    g.is_operator = is_logged_in(this_shop(), _cookie())
    link = request.path.removeprefix(f"{LOGIN}/")
    if g.is_operator or (link != request.path and is_link(link)):
        return None
    if not this_shop().config.operator_password_hash:
        raise NotFound
    return None if request.path == LOGIN else redirect(LOGIN, 303)


# -- sessions --------------------------------------------------------------------------


def is_logged_in(shop: Shop, secret: str) -> bool:
    mac = _mac_of_session(shop, secret)
    return any(secrets.compare_digest(mac, each) for _, each in _valid(_stored()))


def log_in(response: Response) -> Response:
    """Begin a session, in a cookie of the response."""
    shop, secret = this_shop(), secrets.token_hex(32)
    with transaction():
        begun = [*_valid(_locked()), [now(), _mac_of_session(shop, secret)]]
        _store(begun[-SESSIONS_MAX:])
    logger.info("the operator has logged in")
    response.set_cookie(_cookie_name(), secret, max_age=SESSION_SECONDS, **_cookie_options())
    return response


def log_out(response: Response) -> Response:
    """End this browser's session."""
    mac = _mac_of_session(this_shop(), _cookie())
    with transaction():
        _store([each for each in _locked() if each[1] != mac])
    response.delete_cookie(_cookie_name(), **_cookie_options())
    return response


def end_all() -> None:
    """End every session, and the link."""
    with transaction():
        Fact.delete().where(Fact.name << (SESSIONS, LINK)).execute()


def _mac_of_session(shop: Shop, secret: str) -> str:
    # The hash of the password goes into it: a new password ends all sessions.
    return shop.vault.mac("operator", shop.config.operator_password_hash, secret)


def _valid(sessions: list) -> list:
    return [each for each in sessions if 0 <= now() - each[0] < SESSION_SECONDS]


def _stored() -> list:
    fact = Fact.get_or_none(Fact.name == SESSIONS)
    return json.loads(fact.value) if fact else []


def _locked() -> list:
    """Within a transaction: like `_stored`, and nobody else changes them until it ends."""
    Fact.insert(name=SESSIONS, value="[]").on_conflict_ignore().execute()
    Fact.update(value=Fact.value).where(Fact.name == SESSIONS).execute()
    return _stored()


def _store(sessions: list) -> None:
    set_fact(SESSIONS, json.dumps(sessions))


def _cookie() -> str:
    return request.cookies.get(_cookie_name(), "")


def _cookie_name() -> str:
    # No other host can set a cookie with this prefix; browsers require Path=/ for it.
    return "__Host-operator" if _is_https() else "operator"


def _cookie_options() -> dict:
    path = "/" if _is_https() else HOME
    return {"path": path, "secure": _is_https(), "httponly": True, "samesite": "Lax"}


def _is_https() -> bool:
    return this_shop().config.is_https and not networks.is_by_onion()


# -- by password -----------------------------------------------------------------------


def is_password(typed: str) -> bool:
    """Raises passwords.Busy."""
    place = LANE.place(networks.network())
    return passwords.matches(this_shop().config.operator_password_hash, typed, place)


# -- by a link -------------------------------------------------------------------------


def new_link(shop: Shop) -> str:
    """Make a link that is good once, within ten minutes, and return its URL. The one before it is
    void.
    """
    secret = secrets.token_hex(32)
    set_fact(LINK, f"{now() + LINK_SECONDS} {shop.vault.mac('operator link', secret)}")
    return f"{shop.config.public_url}{LOGIN}/{secret}"


def use_link(secret: str) -> bool:
    """Use the link up; whether it was good. When several come with it at once, it is for one."""
    good = _good_link(secret)
    return bool(good) and Fact.delete().where(*good).execute() == 1


def is_link(secret: str) -> bool:
    return bool(_good_link(secret))


def _good_link(secret: str) -> tuple | None:
    """The condition that finds the fact of this link; None: the link is not good."""
    fact = Fact.get_or_none(Fact.name == LINK)
    until, _, mac = fact.value.partition(" ") if fact else ("0", "", "")
    is_its = this_shop().vault.is_mac(mac, "operator link", secret)
    if not is_its or not now() < int(until) <= now() + LINK_SECONDS:
        return None
    return Fact.name == LINK, Fact.value == fact.value


# -- commands --------------------------------------------------------------------------


@click.command("operator-password")
def operator_password():
    """Ask for a password for /operator, and print the setting that holds its hash."""
    password = click.prompt("Password", hide_input=True, confirmation_prompt=True)
    if not PASSWORD_MIN <= len(password) <= passwords.LENGTH_MAX:
        most = passwords.LENGTH_MAX
        raise click.ClickException(f"write {PASSWORD_MIN} to {most} characters")
    # In quotes, or a shell that reads the settings takes what follows a $ for a variable.
    click.echo(f"OPERATOR_PASSWORD_HASH='{passwords.make_hash(password)}'")


@click.command("operator-login")
@click.option("--end-all", "ends_all", is_flag=True, help="End all sessions instead.")
@with_appcontext
def operator_login(ends_all):
    """Print a link that logs in at /operator: good once, and for ten minutes."""
    if ends_all:
        end_all()
        click.echo("all sessions of the operator are ended")
        return
    click.echo(new_link(this_shop()))
