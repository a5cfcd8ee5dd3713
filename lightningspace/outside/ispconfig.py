"""ISPConfig's remote API (requests): plain values in and out.

Names, quotas and permissions are the caller's responsibility: the API adds no prefix, enforces no
limit and knows no reserved names.
"""

import logging
import re
import secrets
import threading
import time
from contextlib import contextmanager

import requests

from lightningspace.base import metrics
from lightningspace.outside.deadline import http_session, time_limit
from lightningspace.outside.ispconfig_records import KINDS, Hashed, record_id

logger = logging.getLogger(__name__)

# Every call ends after this time, answered or not. It is less than a third of a lease.
CALL_SECONDS = 60
CONNECT_SECONDS = 5

# Calls that change nothing. They are repeated once if the connection is cut: each change of a site
# restarts the web server, which also serves the panel.
READS = re.compile(r".*_get(_.*)?|server_get.*|monitor_jobqueue_count")

# A session ends 1800 s after the login, in use or not.
SESSION_SECONDS = 25 * 60
# Ten failed logins within five minutes lock the shop out; one a minute never does.
LOGIN_PAUSE_SECONDS = 60
LOCKOUT_SECONDS = 5 * 60
# After a longer pause a session may be gone early (a restored panel, a suspended box).
PAUSE_SECONDS = 30

SESSION_GONE = "The Session is expired or does not exist."
FORBIDDEN = "You do not have the permissions to access this function."
NO_CLIENT = "Invalid client_id"
NO_LOGIN = "There is no user account for this user name."
NO_GROUP = "There is no group for this client ID."
WEAK_PASSWORD = "password does not match the security guidelines"
WRONG_PASSWORD = "The login failed. Username or password wrong."
LOCKOUTS = (
    "The login failure limit has been reached.",
    "The Session failure limit has been reached.",
)
LOCKED_OUT = "the panel has locked us out for five minutes"
MAINTENANCE = "under maintenance"
LOGIN_ADDRESS = "The login is not allowed from"
LANGUAGE_KEY = re.compile(r"[a-z]+(_[a-z]+)+")


class PanelError(Exception):
    """The panel did not do it, or did not say whether it did.

    The text is for the operator and contains no secret. `permanent`: retrying is useless.
    """

    def __init__(self, text: str, permanent: bool = False):
        super().__init__(text)
        self.permanent = permanent


class PanelRefused(PanelError):
    """The panel answered, and refused this one call."""


class Forbidden(PanelRefused):
    """The remote user may not call this function at all."""


class Panel:
    """One ISPConfig panel. It serves all threads, which share one session."""

    def __init__(
        self,
        url: str,
        user: str,
        password: str,
        verify_tls: bool | str = True,
        seconds: float = CALL_SECONDS,
    ):
        self._seconds = seconds
        self._url = url
        self._user = user
        self._password = password
        self._verify_tls = verify_tls
        self._local = threading.local()
        self._login_lock = threading.Lock()
        self._probe_lock = threading.Lock()
        self._answered_at = float("-inf")
        self._locked_out_until = 0.0
        self._session_id: str | None = None
        self._known_session: str | None = None  # the last one that the panel accepted
        self._session_until = 0.0
        self._no_login_before = 0.0

    # -- clients -----------------------------------------------------------------

    def find_clients(self, username: str) -> list[dict]:
        """The clients called `username`, oldest first, incomplete and duplicate ones included.

        Each is {"id": int, "is_closed": bool}. The rest of the answer is dropped: it contains a
        password hash and a private key.
        """
        found = self._list("client_get", client_id={"username": _named(username)})
        clients = ({"id": int(c["client_id"]), "is_closed": c["canceled"] == "y"} for c in found)
        return sorted(clients, key=lambda client: client["id"])

    def clients_of(self, prefix: str) -> dict[str, tuple[int, int | None]]:
        """All clients whose name begins with `prefix` and goes on with a hexadecimal digit: the id,
        and when it was made (None: it is half made), by name.

        They are asked for in parts: of each client the panel sends a private key as well.
        """
        clients = {}
        for digit in "0123456789abcdef":
            for found in self._list("client_get", client_id={"username": f"{prefix}{digit}%"}):
                if found["username"].startswith(prefix + digit):  # "_" is any character to LIKE
                    made_at = int(found["created_at"]) if found["created_at"] else None
                    clients[found["username"]] = int(found["client_id"]), made_at
        return clients

    def records_of(self, kind: str, group_id: int) -> list[dict]:
        """A client's records of a kind, by its group."""
        of = KINDS[kind]
        return self._list(f"{of.method}_get", **{of.id_argument: {"sys_groupid": int(group_id)}})

    def find_login(self, username: str) -> tuple[int, int] | None:
        """The id of the client with this name, and its group: the sys_groupid of all its records.

        None if there is no such client, or an incomplete one.
        """
        try:
            login = self._call("client_get_by_username", username=_named(username))
            return int(login["client_id"]), int(login["default_group"])
        except _NoSuchClient:
            return None
        except (KeyError, TypeError, ValueError):
            raise PanelError("the panel answered client_get_by_username without a client") from None

    def add_client(self, username: str, email: str) -> int:
        params = {
            "contact_name": username,
            "username": username,
            "email": email,
            "language": "en",
            "web_php_options": "no,php-fpm",
            "ssh_chroot": "jailkit",
            "limit_cron_type": "url",
            # Nobody ever logs in with it: see close_client_login. "Aa1" makes it strong enough.
            "password": "Aa1" + secrets.token_hex(24),
        }
        return self._int("client_add", reseller_id=0, params=params)

    def close_client_login(self, client_id: int) -> None:
        """Keep a new client out of the panel. This is the only client_update ever made.

        A later one would switch on services that were switched off one by one.
        """
        # Without 'password': '' ISPConfig would hash the stored hash again.
        self._call(
            "client_update",
            client_id=int(client_id),
            reseller_id=0,
            params={"canceled": "y", "password": ""},
        )

    def group_id(self, client_id: int) -> int | None:
        """The client's group: the sys_groupid of all its records.

        None if there is no such client, or an incomplete one.
        """
        try:
            return self._int("client_get_groupid", client_id=int(client_id))
        except _NoSuchClient:
            return None

    def delete_client(self, client_id: int) -> None:
        """Delete a client and everything that its group still owns. May be called twice."""
        self._call("client_delete_everything", client_id=int(client_id))

    # -- records of clients: sites, users, databases, mail -------------------------

    def find(self, kind: str, name: str) -> list[dict]:
        """The records with this name, oldest first, whoever owns them."""
        # A "%" would make the panel search with LIKE; none of our names has one.
        of = KINDS[kind]
        found = self._list(f"{of.method}_get", **{of.id_argument: {of.name: _named(name)}})
        return sorted(found, key=lambda record: record_id(kind, record))

    def get(self, kind: str, id: int) -> dict | None:
        of = KINDS[kind]
        return self._call(f"{of.method}_get", **{of.id_argument: int(id)}) or None

    def add(self, kind: str, client_id: int, fields: dict, password: str | None = None) -> int:
        """Create a record for this client, and return its id.

        A site needs an update afterwards: the add ignores allow_override and php_open_basedir.
        """
        of = KINDS[kind]
        params = fields | _as_password(of.password, password or "") if of.password else fields
        _named(fields[of.name])
        return self._int(f"{of.method}_add", client_id=int(client_id), params=params)

    def update(self, kind: str, id: int, fields: dict, password: str | None = None) -> None:
        """Set all `fields`, and the password unless it is None. May be called twice."""
        of = KINDS[kind]
        params = fields if password is None else fields | _as_password(of.password, password)
        _named(fields[of.name])
        # client_id 0 keeps the owner; any other would move the record.
        arguments = {"client_id": 0, of.id_argument: int(id), "params": params}
        self._call(f"{of.method}_update", **arguments)

    def delete(self, kind: str, id: int) -> None:
        """Delete a record. May be called twice."""
        of = KINDS[kind]
        self._call(f"{of.method}_delete", **{of.id_argument: int(id)})

    def used(self, kind: str, client_id: int) -> dict[str, int | None]:
        """Bytes used by each of a client's sites, databases or mailboxes, by name.

        None for a site that was not measured yet; databases and mailboxes then have 0.
        """
        name, by = KINDS[kind].name, KINDS[kind].used
        used = {}
        for record in self._list(by.method, client_id=int(client_id)):
            try:
                used[record[name]] = _bytes(record.get(by.column), by.unit)
            except (KeyError, TypeError, ValueError, AttributeError):
                raise PanelError(f"the panel answered {by.method} otherwise than known") from None
        return used

    # -- the server behind it ----------------------------------------------------

    def jobs_waiting(self, server_id: int) -> int:
        """How many changes a server still has to carry out, whoever made them."""
        return self._int("monitor_jobqueue_count", server_id=int(server_id))

    def web_settings(self, server_id: int) -> dict[str, str]:
        """The panel's settings for a server, section "web"."""
        settings = self._call("server_get", server_id=int(server_id), section="web")
        if not isinstance(settings, dict):
            raise PanelError("the panel answered server_get without settings")
        return {name: str(value or "") for name, value in settings.items()}

    def php_versions(self, server_id: int) -> list[tuple[int, str]]:
        """Id and name of each PHP version that sites may choose besides the server's default.

        Older releases of ISPConfig ignore get_full_data and send no ids; those are left out.
        """
        method = "server_get_php_versions"
        asked = {"server_id": int(server_id), "php": "php-fpm", "get_full_data": True}
        answer = self._call(method, **asked) or []
        records = answer if isinstance(answer, list) else [answer]
        if not all(map(_is_php_version, records)):
            logger.warning("the panel answered %s with versions that cannot be chosen", method)
        return [
            (int(record["server_php_id"]), record["name"].strip())
            for record in records
            if _is_php_version(record) and record.get("active") != "n"
        ]

    # -- the protocol ------------------------------------------------------------

    def _int(self, method: str, **arguments) -> int:
        answer = self._call(method, **arguments)
        if not re.fullmatch(r"[0-9]{1,18}", str(answer)):
            raise PanelError(f"the panel answered {method} without a number")
        return int(answer)

    def _list(self, method: str, **arguments) -> list[dict]:
        answer = self._call(method, **arguments) or []
        if not isinstance(answer, list):
            raise PanelError(f"the panel answered {method} without a list")
        return answer

    def _call(self, method: str, **arguments):
        """The panel's answer to `method`, in bounded time. Raises PanelError."""
        deadline = time.monotonic() + self._seconds
        if time.monotonic() < self._locked_out_until:
            raise PanelError(LOCKED_OUT)
        with self._first_after_a_pause(deadline):
            for _ in range(2):
                session_id = self._session(deadline)
                try:
                    answer = self._post(method, {"session_id": session_id, **arguments}, deadline)
                except _SessionGone:
                    # The call was not carried out.
                    self._forget(session_id, deadline)
                    continue
                except PanelRefused:
                    self._known_session = session_id
                    raise
                self._known_session = session_id
                return answer
        raise PanelError("the panel does not know the session that it has just given us")

    @contextmanager
    def _first_after_a_pause(self, deadline: float):
        """After a pause, let one call go ahead and the others wait for it.

        The session may be gone, and ten calls at once with a dead session lock us out.
        """
        if self._is_session_fresh():
            yield
            return
        with self._held(self._probe_lock, deadline):
            if not self._is_session_fresh():
                yield
                return
        yield

    def _is_session_fresh(self) -> bool:
        """Whether the panel accepted the session a moment ago, or the next call logs in anyway."""
        is_new = self._session_id is None
        return is_new or time.monotonic() - self._answered_at < PAUSE_SECONDS

    @contextmanager
    def _held(self, lock: threading.Lock, deadline: float):
        if not lock.acquire(timeout=max(0, deadline - time.monotonic())):
            raise PanelError("the panel did not answer an earlier call in time")
        try:
            yield
        finally:
            lock.release()

    def _session(self, deadline: float) -> str:
        with self._held(self._login_lock, deadline):
            clock = time.monotonic()
            if self._session_id and clock < self._session_until:
                return self._session_id
            if clock < self._no_login_before:
                raise PanelError("the last login failed; the next one is within a minute")
            try:
                login = {"username": self._user, "password": self._password}
                self._session_id = self._post("login", login, deadline)
            except PanelRefused as refused:
                self._no_login_before = clock + LOGIN_PAUSE_SECONDS
                # A PanelError, because it is not about this call: all calls fail now.
                raise PanelError(str(refused), refused.permanent) from None
            self._session_until = clock + SESSION_SECONDS
            return self._session_id

    def _forget(self, session_id: str, deadline: float) -> None:
        with self._held(self._login_lock, deadline):
            if self._session_id == session_id:
                self._session_id = None
                if self._known_session != session_id:
                    self._no_login_before = time.monotonic() + LOGIN_PAUSE_SECONDS

    def _post(self, method: str, arguments: dict, deadline: float):
        with metrics.timed(metrics.PANEL, PanelRefused):
            return self._answer(method, arguments, deadline)

    def _answer(self, method: str, arguments: dict, deadline: float):
        try:
            answer = self._send_until_answered(method, arguments, deadline)
        except requests.RequestException as error:
            raise _no_answer(method, error, deadline) from None
        if answer.status_code != 200:
            raise PanelError(f"the panel answered {method} with HTTP {answer.status_code}")
        try:
            body = answer.json()
            code, message, response = body["code"], body["message"], body["response"]
        except (ValueError, KeyError, TypeError):
            raise PanelError(f"the panel's answer to {method} is no JSON of ISPConfig") from None
        if message != SESSION_GONE:
            self._answered_at = time.monotonic()
        if code != "ok":
            if message in LOCKOUTS:
                self._locked_out_until = time.monotonic() + LOCKOUT_SECONDS
            raise _fault(method, str(message))
        return response

    def _send_until_answered(self, method: str, arguments: dict, deadline: float):
        """Send again, once, if the connection was cut and the call changes nothing."""
        try:
            return self._send(method, arguments, deadline)
        except requests.ConnectionError as error:
            is_away = isinstance(error, requests.ConnectTimeout)
            if is_away or not READS.fullmatch(method) or time.monotonic() >= deadline:
                raise
        return self._send(method, arguments, deadline)

    def _send(self, method: str, arguments: dict, deadline: float) -> requests.Response:
        left = max(0.01, deadline - time.monotonic())
        timeout = (min(CONNECT_SECONDS, left), left)
        http, url = self._http(), f"{self._url}?{method}"
        request = requests.Request("POST", url, headers=http.headers, json=arguments).prepare()
        with time_limit(left):
            # Straight to the adapter: a session's cookies and redirects are nothing for the panel,
            # and looking for them takes a fifth of a call.
            answer = http.get_adapter(url).send(request, timeout=timeout, verify=http.verify)
            answer.content  # noqa: B018 - it reads the answer, within the limit
        return answer

    def _http(self) -> requests.Session:
        """This thread's session: those of requests are not thread-safe."""
        if not hasattr(self._local, "http"):
            self._local.http = http_session(self._verify_tls)
        return self._local.http


class _SessionGone(PanelRefused):
    pass


class _NoSuchClient(PanelRefused):
    pass


def _fault(method: str, message: str) -> PanelError:
    """The panel's error in our words: some of its own quote SQL statements with password hashes."""
    if message == SESSION_GONE:
        return _SessionGone("the panel does not know our session")
    if message in (NO_GROUP, NO_LOGIN):
        return _NoSuchClient("the panel has no such client")
    if NO_CLIENT in message:
        return PanelRefused("the client is gone from the panel: retry --check makes it again", True)
    if message == FORBIDDEN:
        return Forbidden(f"the remote user may not call {method}: allow it in ISPConfig", True)
    if message in LOCKOUTS:
        return PanelError(LOCKED_OUT)
    if message == WRONG_PASSWORD:
        return PanelRefused("the panel refuses PANEL_USER's password")
    if LOGIN_ADDRESS in message:
        return PanelRefused(
            "the remote user may not log in from this address: allow it in ISPConfig"
        )
    if MAINTENANCE in message:
        return PanelError("the panel is under maintenance")
    if WEAK_PASSWORD in message:
        text = (
            f"the panel refused {method}: it asks for a stronger password than 8 characters and "
            '"Good"'
        )
        return PanelRefused(text, True)
    keys = [part.strip() for part in re.split(r"<br ?/?>", message) if part.strip()]
    if keys and all(map(LANGUAGE_KEY.fullmatch, keys)):
        return PanelRefused(f"the panel refused {method}: {', '.join(keys)}", True)
    # Such as SQL errors of the panel's database, most of which pass.
    return PanelRefused(f"the panel refused {method}; ISPConfig's own log says why")


def _no_answer(method: str, error: requests.RequestException, deadline: float) -> PanelError:
    # The time limit shuts the connection down, which looks as if the panel had.
    reason = "it took too long" if time.monotonic() >= deadline else _reason(error)
    return PanelError(f"the panel did not answer {method}: {reason}")


def _reason(error: requests.RequestException) -> str:
    if isinstance(error, requests.exceptions.SSLError):
        return "its certificate is not accepted (PANEL_VERIFY_TLS)"
    if isinstance(error, requests.exceptions.ConnectTimeout):
        return "no connection in time"
    if isinstance(error, requests.exceptions.Timeout):
        return "it took too long"
    if isinstance(error, requests.exceptions.ConnectionError):
        if "NameResolutionError" in repr(error):
            return "its name is not found"
        if "refused" in str(error):
            return "connection refused"
        return "the connection was cut"
    return type(error).__name__


def _bytes(value: object, unit: int) -> int | None:
    """Bytes from a number or its string; None stays None. Raises ValueError for anything else."""
    if value is None:
        return None
    number = re.fullmatch(r"(-?[0-9]{1,15})(\.[0-9]+)?", str(value))
    if not number:
        raise ValueError("not a number")
    # Mail servers add up differences, and the sum can be negative.
    return max(0, int(number[1]) * unit)


def _is_php_version(record: object) -> bool:
    if not isinstance(record, dict) or not isinstance(record.get("name"), str):
        return False
    id = str(record.get("server_php_id"))
    return bool(record["name"].strip() and re.fullmatch(r"[1-9][0-9]{0,17}", id))


def _as_password(column: str, password: str) -> dict:
    flag = {"_ispconfig_pw_crypted": 1} if isinstance(password, Hashed) else {}
    return {column: _named(password)} | flag


def _named(value: str) -> str:
    """Refuse an empty name or password, which ISPConfig would accept silently."""
    if not value:
        raise ValueError("an empty name or password")
    return value
