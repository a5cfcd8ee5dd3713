"""ISPConfig's remote API (requests): one method per kind of record, plain values in and out.

Names, quotas and permissions are the caller's duty: the API applies no prefix, enforces no
limit and knows no reserved name.
"""

import re
import secrets
import threading
import time
from contextlib import contextmanager

import requests

from lightningspace.deadline import http_session, time_limit

# Every call ends after this time, answered or not. A lease lasts more than three times as long.
CALL_SECONDS = 60
CONNECT_SECONDS = 5

# A session dies 1800 s after the login whatever its use.
SESSION_SECONDS = 25 * 60
# Ten failed logins in five minutes lock the shop out: one a minute never gets there.
LOGIN_PAUSE_SECONDS = 60
LOCKOUT_SECONDS = 5 * 60
# Unused for longer, a session may be dead before its time (a restored panel, a suspended box).
PAUSE_SECONDS = 30

SESSION_GONE = "The Session is expired or does not exist."
FORBIDDEN = "You do not have the permissions to access this function."
NO_SUCH_CLIENT = "There is no user account for this user name."
LOCKED_OUT = "the panel has locked us out for five minutes"
KNOWN_FAULTS = {
    "The login failed. Username or password wrong.": "the panel refuses PANEL_USER's password",
    "The login failure limit has been reached.": LOCKED_OUT,
    "The Session failure limit has been reached.": LOCKED_OUT,
}
MAINTENANCE = "under maintenance"
LOGIN_ADDRESS = "The login is not allowed from"
LANGUAGE_KEY = re.compile(r"[a-z]+(_[a-z]+)+")

# What every add and every update of a site sends: an update resets what it leaves out.
SITE_FIELDS = {
    # Without the socket any customer's PHP can run code as any other.
    "php_fpm_use_socket": "y",
    # 'All' lets a symlink in .htaccess show the neighbours' files.
    "allow_override": (
        "AuthConfig FileInfo Indexes Limit Options=Indexes,SymLinksIfOwnerMatch,MultiViews"
    ),
    "pm": "ondemand",
    "pm_max_children": 4,
    "pm_process_idle_timeout": 10,
    "pm_max_requests": 0,
}
WALLS = ("php_fpm_use_socket", "allow_override")


class PanelError(Exception):
    """The panel did not do it, or did not say whether it did.

    Its text is for the operator and holds no secret. `permanent`: no retry cures it.
    """

    def __init__(self, text: str, permanent: bool = False):
        super().__init__(text)
        self.permanent = permanent


class Panel:
    """One ISPConfig panel. A Panel serves all threads and keeps one session for them."""

    def __init__(self, url: str, user: str, password: str, verify_tls: bool | str = True):
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
        self._session_until = 0.0
        self._no_login_before = 0.0

    # -- clients -----------------------------------------------------------------

    def find_client(self, username: str) -> int | None:
        """The id of the client called `username`; None when there is none."""
        try:
            return int(self._call("client_get_by_username", username=username)["client_id"])
        except _NoSuchClient:
            return None

    def add_client(self, username: str, email: str) -> int:
        params = {
            "contact_name": username,
            "username": username,
            "email": email,
            "language": "en",
            "web_php_options": "no,php-fpm",
            "ssh_chroot": "jailkit",
            "limit_cron_type": "url",
            # Nobody ever logs in with it, see close_client_login; "Aa1" makes it strong enough.
            "password": "Aa1" + secrets.token_hex(24),
        }
        return int(self._call("client_add", reseller_id=0, params=params))

    def is_client_login_closed(self, client_id: int) -> bool:
        return self._call("client_get", client_id=int(client_id))["canceled"] == "y"

    def close_client_login(self, client_id: int) -> None:
        """Keep the client out of the panel. The one client_update: others switch services on."""
        # Without 'password': '' ISPConfig hashes the stored hash once more.
        self._call(
            "client_update",
            client_id=int(client_id),
            reseller_id=0,
            params={"canceled": "y", "password": ""},
        )

    def group_id(self, client_id: int) -> int:
        """The client's group: the sys_groupid of every record that is the client's."""
        return int(self._call("client_get_groupid", client_id=int(client_id)))

    # -- sites -------------------------------------------------------------------

    def find_site(self, domain: str) -> dict | None:
        return self._find("sites_web_domain_get", domain=domain)

    def add_site(self, client_id: int, server_id: int, domain: str, quota_mb: int) -> int:
        """Create a site. It needs `wall_site` as well: the add ignores allow_override."""
        return self._add(
            "sites_web_domain_add",
            client_id,
            server_id=int(server_id),
            domain=domain,
            hd_quota=int(quota_mb),
            ip_address="*",
            type="vhost",
            vhost_type="name",
            traffic_quota=-1,
            subdomain="www",
            http_port=80,
            https_port=443,
            php="php-fpm",
            active="y",
            **SITE_FIELDS,
        )

    def wall_site(self, site_id: int) -> None:
        """Set what keeps the neighbours out. May be called twice."""
        self._call(
            "sites_web_domain_update",
            client_id=0,  # another client's id would move the site
            primary_id=int(site_id),
            params={**SITE_FIELDS, "log_retention": 30},
        )

    def is_walled(self, site: dict) -> bool:
        """Whether a found site has the walls."""
        return all(site[name] == SITE_FIELDS[name] for name in WALLS)

    def find_ftp_user(self, username: str) -> dict | None:
        return self._find("sites_ftp_user_get", username=username)

    def add_ftp_user(
        self, client_id: int, server_id: int, site_id: int, username: str, password: str
    ) -> int:
        return self._add(
            "sites_ftp_user_add",
            client_id,
            **_site_user(client_id, server_id, site_id, username, password),
            uid=f"web{int(site_id)}",
            gid=f"client{int(client_id)}",
        )

    def find_shell_user(self, username: str) -> dict | None:
        return self._find("sites_shell_user_get", username=username)

    def add_shell_user(
        self, client_id: int, server_id: int, site_id: int, username: str, password: str
    ) -> int:
        return self._add(
            "sites_shell_user_add",
            client_id,
            **_site_user(client_id, server_id, site_id, username, password),
            puser=f"web{int(site_id)}",
            pgroup=f"client{int(client_id)}",
            shell="/bin/bash",
            chroot="jailkit",  # with 'no' every other customer's files can be read
            ssh_rsa="",
        )

    # -- databases ---------------------------------------------------------------

    def find_database_user(self, username: str) -> dict | None:
        return self._find("sites_database_user_get", database_user=username)

    def add_database_user(
        self, client_id: int, server_id: int, username: str, password: str
    ) -> int:
        return self._add(
            "sites_database_user_add",
            client_id,
            server_id=int(server_id),
            database_user=_named(username),
            database_password=_named(password),
        )

    def find_database(self, name: str) -> dict | None:
        return self._find("sites_database_get", database_name=name)

    def add_database(
        self, client_id: int, server_id: int, site_id: int, name: str, user_id: int, quota_mb: int
    ) -> int:
        return self._add(
            "sites_database_add",
            client_id,
            server_id=int(server_id),
            parent_domain_id=int(site_id),
            type="mysql",
            database_name=_named(name),
            database_quota=int(quota_mb),
            database_user_id=int(user_id),
            database_ro_user_id=0,
            database_charset="utf8mb4",
            remote_access="n",
            remote_ips="",
            active="y",
        )

    # -- mail --------------------------------------------------------------------

    def find_mail_domain(self, domain: str) -> dict | None:
        found = self._call("mail_domain_get_by_domain", domain=domain)
        return found[0] if found else None

    def add_mail_domain(self, client_id: int, server_id: int, domain: str) -> int:
        return self._add(
            "mail_domain_add", client_id, server_id=int(server_id), domain=domain, active="y"
        )

    def find_mailbox(self, email: str) -> dict | None:
        return self._find("mail_user_get", email=email)

    def add_mailbox(
        self,
        client_id: int,
        server_id: int,
        email: str,
        password: str,
        quota_mb: int,
        may_send: bool,
    ) -> int:
        local, domain = email.split("@")
        return self._add(
            "mail_user_add",
            client_id,
            server_id=int(server_id),
            email=email,
            login=email,
            password=_named(password),
            quota=int(quota_mb) * 1024 * 1024,
            name=local,
            maildir=f"/var/vmail/{domain}/{local}",
            homedir="/var/vmail",
            move_junk="n",
            purge_trash_days=0,
            purge_junk_days=0,
            postfix="y",
            disablesmtp="n" if may_send else "y",  # a mailbox may send as anybody
            disableimap="n",
            disablepop3="n",
        )

    # -- the server behind it ----------------------------------------------------

    def jobs_waiting(self) -> int:
        """How many changes of the whole server wait to be carried out."""
        return int(self._call("monitor_jobqueue_count", server_id=0))

    # -- the protocol ------------------------------------------------------------

    def _find(self, method: str, **where: str) -> dict | None:
        # A '%' would make it a LIKE; none of our names has one.
        found = self._call(method, primary_id=where)
        return found[0] if found else None

    def _add(self, method: str, client_id: int, **params) -> int:
        return int(self._call(method, client_id=int(client_id), params=params))

    def _call(self, method: str, **arguments):
        """What the panel answers to `method`, within CALL_SECONDS in all. Raises PanelError."""
        deadline = time.monotonic() + CALL_SECONDS
        if time.monotonic() < self._locked_out_until:
            raise PanelError(LOCKED_OUT)
        with self._first_after_a_pause(deadline):
            session_id = self._session(deadline)
            try:
                return self._post(method, {"session_id": session_id, **arguments}, deadline)
            except _SessionGone:
                # The call was not carried out. Once more: a new session refused is a fault.
                self._forget(session_id)
            session_id = self._session(deadline)
            return self._post(method, {"session_id": session_id, **arguments}, deadline)

    @contextmanager
    def _first_after_a_pause(self, deadline: float):
        """Let one call go ahead when the session has not been used for a while.

        It may be dead, and ten calls at once with a dead session lock us out.
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
        """Whether the panel has known the session a moment ago, or the next call logs in."""
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
                raise PanelError(
                    "the panel refused the last login; the next try is within a minute"
                )
            try:
                login = {"username": self._user, "password": self._password}
                self._session_id = self._post("login", login, deadline)
            except _Refused:
                self._no_login_before = clock + LOGIN_PAUSE_SECONDS
                raise
            self._session_until = clock + SESSION_SECONDS
            return self._session_id

    def _forget(self, session_id: str) -> None:
        with self._login_lock:
            if self._session_id == session_id:
                self._session_id = None

    def _post(self, method: str, arguments: dict, deadline: float):
        left = max(0.01, deadline - time.monotonic())
        try:
            with time_limit(left) as limit:
                answer = self._http().post(
                    f"{self._url}?{method}",
                    json=arguments,
                    timeout=(min(CONNECT_SECONDS, left), left),
                    allow_redirects=False,
                )
        except requests.RequestException as error:
            reason = "it took too long" if limit.is_over else _reason(error)
            raise PanelError(f"the panel did not answer {method}: {reason}") from None
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
            if "limit has been reached" in str(message):
                self._locked_out_until = time.monotonic() + LOCKOUT_SECONDS
            raise _fault(method, str(message))
        return response

    def _http(self) -> requests.Session:
        """This thread's connection, kept open between calls."""
        if not hasattr(self._local, "http"):
            self._local.http = http_session(self._verify_tls)
        return self._local.http


class _Refused(PanelError):
    """The panel has answered, and it was a no."""


class _SessionGone(_Refused):
    pass


class _NoSuchClient(_Refused):
    pass


def _fault(method: str, message: str) -> _Refused:
    """The panel's words as ours: some repeat whole SQL statements with password hashes."""
    if message == SESSION_GONE:
        return _SessionGone("the panel does not know our session")
    if message == NO_SUCH_CLIENT:
        return _NoSuchClient("the panel has no client of that name")
    if message == FORBIDDEN:
        return _Refused(f"the remote user may not call {method}: allow it in ISPConfig", True)
    if message in KNOWN_FAULTS:
        return _Refused(KNOWN_FAULTS[message])
    if LOGIN_ADDRESS in message:
        return _Refused("the remote user may not log in from this address: allow it in ISPConfig")
    if MAINTENANCE in message:
        return _Refused("the panel is under maintenance")
    keys = [part for part in re.split(r"<br ?/?>|\s", message) if LANGUAGE_KEY.fullmatch(part)]
    if keys:
        return _Refused(f"the panel refused {method}: {', '.join(keys)}", True)
    # Such as SQL faults of the panel's database, which mostly pass.
    return _Refused(f"the panel refused {method}; ISPConfig's own log says why")


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


def _named(value: str) -> str:
    """ISPConfig accepts an empty name or password without a word."""
    if not value:
        raise ValueError("an empty name or password")
    return value


def _site_user(
    client_id: int, server_id: int, site_id: int, username: str, password: str
) -> dict[str, str | int]:
    """What FTP and shell users of a site have in common."""
    return {
        "server_id": int(server_id),
        "parent_domain_id": int(site_id),
        "username": _named(username),
        "password": _named(password),
        "quota_size": -1,
        "active": "y",
        "dir": f"/var/www/clients/client{int(client_id)}/web{int(site_id)}",
    }
