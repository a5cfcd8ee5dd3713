"""Every fault of the panel at every call of an account's life is reported and recovered from.

The table of faults is FAULTS; the flows are those of tests/flows.py. A flow is run in two ways:
with one fault at a time, each recovered from before the next one; and, much faster, with a fault
at every call the first time that it is made.
"""

import logging
import re
import socket
import ssl
import threading
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import cycle

import pytest

from lightningspace.base.models import Order, Service
from lightningspace.outside.ispconfig_records import KINDS
from lightningspace.panel import reconcile
from lightningspace.rules import accounts, progress, wanted
from lightningspace.sandbox.certificate import self_signed
from tests.flows import EXTRA, ID, NAME, World, call_as_text

LIFE = ("opening", "changing", "suspending", "resuming", "closing")
SHORT_SECONDS = 0.03  # the time limit of a call that gets no answer

SQL = (
    "Data truncated for column 'x' INSERT INTO `client` (`password`) VALUES "
    "('$6$rounds=5000$0123456789abcdef$hashhashhash')"
)
SECRETS = re.compile(
    r"\$6\$|hashhash"  # a hash
    r"|\*[0-9A-F]{40}"  # MariaDB's
    r"|horse|staple|old password|second password|sandbox-panel"  # passwords
    r"|private key"
    r"|\b[a-z][0-9a-f]{40}\b"  # a session
)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    directory = tmp_path_factory.mktemp("world")
    # A short file with one authority: the machine's own long one would be read at every try.
    trusted = self_signed(directory / "trusted.pem")
    world = World(directory, DATABASE_URL="sqlite:///:memory:", PANEL_VERIFY_TLS=str(trusted))
    yield world
    world.close()


@pytest.fixture(autouse=True)
def log(caplog):
    caplog.set_level(logging.INFO)
    return caplog


# -- the faults ------------------------------------------------------------------------


@dataclass(frozen=True)
class Fault:
    """One way in which a call goes wrong.

    `strike(world, method)` causes it as the call goes out, and returns a time limit in seconds
    if the call is to end early. `error`: a pattern of what the operator reads.
    """

    strike: Callable[[World, str], float | None]
    error: str
    is_permanent: bool = False
    # Nobody notices it: the call is repeated at once.
    is_cured_at_once: bool = False
    spares_login: bool = False


def weather(kind: str, message: str = "", seconds: float | None = None):
    """A fault that the panel's stand-in plays for one call."""

    def strike(world, method):
        world.panel.faults.set(kind, method, times=1, message=message)
        return seconds

    return strike


def another_address(url: Callable[[], str]):
    return lambda world, method: world.shop.panel.lead_to(url())


def session_dies(world, method):
    # Slow enough for ten logins not to lock us out.
    world.clock.forward(40)
    world.panel.forget_sessions()


def maintenance_begins(world, method):
    session_dies(world, method)
    world.panel.maintenance = True


def permission_is_taken(world, method):
    world.panel.forbidden |= {method}


# Too long for a name: the resolver says so without asking anybody.
NO_NAME = f"http://{'a.' * 130}invalid/remote/json.php"
CUT = "the connection was cut"
LATE = "it took too long"
FAULTS = {
    "connection refused": Fault(another_address(lambda: nobody_listens), "connection refused"),
    "name not found": Fault(another_address(lambda: NO_NAME), "its name is not found"),
    "certificate not trusted": Fault(
        another_address(lambda: nobody_trusts), "its certificate is not accepted"
    ),
    "cut before": Fault(weather("cut-before"), CUT),
    "cut after": Fault(weather("cut-after"), CUT),
    "HTTP 500": Fault(weather("refuse", "HTTP 500"), "HTTP 500"),
    "HTTP 502": Fault(weather("refuse", "HTTP 502"), "HTTP 502"),
    "no JSON": Fault(weather("refuse", "garbage"), "no JSON of ISPConfig"),
    "no answer": Fault(weather("frozen", seconds=SHORT_SECONDS), LATE),
    "a byte a second": Fault(weather("refuse", "dribble", SHORT_SECONDS), LATE),
    "session died": Fault(
        session_dies, "the last login failed", is_cured_at_once=True, spares_login=True
    ),
    "locked out": Fault(lambda world, method: world.panel.lock_out(), "locked us out"),
    "maintenance": Fault(maintenance_begins, "under maintenance|the last login failed"),
    "permission missing": Fault(
        permission_is_taken,
        r"may not call \w+: allow it in ISPConfig",
        is_permanent=True,
        spares_login=True,
    ),
    "refused": Fault(
        weather("refuse", "domain_error_regex<br />\r\n"),
        r"the panel refused \w+: domain_error_regex$",
        is_permanent=True,
    ),
    "SQL fault": Fault(weather("refuse", SQL), r"the panel refused \w+; ISPConfig's own log"),
}

nobody_listens = nobody_trusts = ""


@pytest.fixture(scope="module", autouse=True)
def wrong_addresses(tmp_path_factory):
    """A port that refuses connections, and one with a certificate that nobody trusts."""
    global nobody_listens, nobody_trusts
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(self_signed(tmp_path_factory.mktemp("tls") / "self-signed.pem"))
    with socket.socket() as bound, socket.create_server(("127.0.0.1", 0)) as listener:
        bound.bind(("127.0.0.1", 0))
        nobody_listens = f"http://127.0.0.1:{bound.getsockname()[1]}/remote/json.php"
        nobody_trusts = f"https://127.0.0.1:{listener.getsockname()[1]}/remote/json.php"
        threading.Thread(target=shake_hands, args=(listener, context), daemon=True).start()
        yield


def shake_hands(listener, context) -> None:
    while True:
        try:
            connection, _ = listener.accept()
        except OSError:
            return
        try:
            context.wrap_socket(connection, server_side=True).close()
        except OSError:
            connection.close()


# -- every fault at every call ---------------------------------------------------------


@contextmanager
def told(text: Callable[[], str]):
    """Add to a failure where it happened."""
    try:
        yield
    except Exception as error:
        error.add_note(text())
        raise


class Storm:
    """Strikes every call once, taking the given faults in turn; the login once with each of them.

    `is_calm`: each fault is recovered from before the next one comes.
    """

    def __init__(self, world, *names: str, is_calm: bool = False):
        self._world = world
        self._is_calm = is_calm
        self._faults = cycle(FAULTS[name] for name in names)
        self._for_login = [FAULTS[name] for name in names if not FAULTS[name].spares_login]
        self._met: set[str] = set()
        self._said: set[tuple] = set()
        self.struck: list[tuple[str, Fault]] = []
        self.of_this_round: list[Fault] = []
        self._is_first = True

    def begin_round(self) -> None:
        if self._for_login and self.struck:
            self._world.renew_line()  # which logs in
        self._world.before_call = self._step_in
        self.of_this_round, self._is_first = [], True

    def _step_in(self, method, arguments) -> float | None:
        fault = self._fault_for(method, call_as_text(method, arguments))
        self._is_first = False
        if fault is None:
            return None
        self.struck.append((method, fault))
        self.of_this_round.append(fault)
        return fault.strike(self._world, method)

    def _fault_for(self, method: str, place: str) -> Fault | None:
        is_login = method == "login"
        # A login that an expired session makes necessary is spared.
        is_open = self._for_login and self._is_first if is_login else place not in self._met
        if not is_open or (self._is_calm and self._world.failing()):
            return None
        if is_login:
            return self._for_login.pop(0)
        self._met.add(place)
        return next(self._faults)

    def assert_is_said(self) -> None:
        """The rows that were struck tell the operator what happened; the account is tried again."""
        account, failing = self._world.account(), self._world.failing()
        assert failing or any(fault.is_cured_at_once for fault in self.of_this_round)
        before, self._said = self._said, {_said(row) for row in failing}
        for row in failing:
            if _said(row) not in before:
                errors = [f.error for f in self.of_this_round if f.is_permanent == row.permanent]
                assert re.search("|".join(errors) or "no fault", row.error)
            assert row.failed_since is not None
        is_shown = {row.name for row in progress.problems()}
        assert {row.name for row in failing if row.permanent} <= is_shown
        if failing:
            left = account.reconcile_at - self._world.clock.moment
            assert 0 < left <= reconcile.RETRY_SECONDS_MAX

    def pass_by(self) -> None:
        """Take the fault away; if the shop's client waits, see that it lets the panel alone."""
        world = self._world
        if world.shop.panel.is_waiting:
            calls = len(world.panel.calls)
            world.wait()
            world.round()
            assert len(world.panel.calls) == calls
            self.of_this_round = [FAULTS["session died"], FAULTS["locked out"]]
            self.assert_is_said()
            world.clock.forward(300)
            world.renew_line()
        world.panel.faults.clear()
        world.panel.maintenance, world.panel.forbidden = False, set()


def _said(row) -> tuple:
    return row.kind, row.name, row.tries, row.error


def assert_no_secret(failing, log) -> None:
    for text in [row.error for row in failing] + log.messages:
        assert not SECRETS.search(text)
    assert all(record.exc_info is None for record in log.records)
    log.clear()


def make_good(world, flow, storm, log) -> None:
    """Do rounds until the flow is done, however many calls are struck."""
    world.start(flow)
    for _ in range(300):
        world.wait()
        storm.begin_round()
        with told(lambda: f"at call {len(storm.struck)} that was struck: {storm.struck[-1:]}"):
            world.round()
            if world.is_done:
                break
            storm.assert_is_said()
            assert_no_secret(world.failing(), log)
        storm.pass_by()
    assert_no_secret([], log)
    world.assert_all_is_as_wanted(flow)


# The shop cannot know what was done; after the first two nothing was, after the last all was.
UNDONE, DONE = ["cut before", "no answer"], ["cut after"]
ONE_AT_A_TIME = [(UNDONE, "opening")]
ONE_AT_A_TIME += [(DONE, flow) for flow in ("opening", "changing", "closing")]

# Each call meets one of the faults: most differ in their messages alone.
AT_EVERY_CALL = {
    "cut": ["cut after"],
    "forbidden": ["permission missing"],
    "all kinds": list(FAULTS),
}


@pytest.mark.parametrize(
    ("faults", "flow"),
    ONE_AT_A_TIME,
    ids=lambda value: value if isinstance(value, str) else ", ".join(value),
)
def test_a_flow_survives_one_fault_at_any_call(world, flow, faults, log):
    storm = Storm(world, *faults, is_calm=True)
    before = -1
    while len(storm.struck) > before:
        before = len(storm.struck)
        make_good(world, flow, storm, log)
    assert set(world.calls_of(flow)) <= {method for method, _ in storm.struck}


@pytest.mark.parametrize("flow", LIFE)
@pytest.mark.parametrize("faults", AT_EVERY_CALL.values(), ids=AT_EVERY_CALL)
def test_any_flow_survives_a_fault_at_every_call(world, flow, faults, log):
    storm = Storm(world, *faults)
    make_good(world, flow, storm, log)
    struck = [(method, fault) for method, fault in storm.struck if method != "login"]
    assert set(world.calls_of(flow)) - {"login"} <= {method for method, _ in struck}
    assert {FAULTS[name] for name in faults} == {fault for _, fault in struck}
    at_login = [fault for method, fault in storm.struck if method == "login"]
    assert at_login == [FAULTS[name] for name in faults if not FAULTS[name].spares_login]


# -- faults that last ------------------------------------------------------------------


def test_waits_grow_from_seconds_to_minutes_and_start_again(world):
    world.start("opening")
    world.before_call = lambda method, arguments: world.shop.panel.lead_to(nobody_listens)
    waits = []
    for _ in range(12):
        world.round()
        waits.append(world.account().reconcile_at - world.clock.moment)
        world.wait()
    assert waits == sorted(waits)
    assert waits[0] <= 5
    assert waits[-1] == reconcile.RETRY_SECONDS_MAX
    since = world.failing()[0].failed_since

    world.before_call = lambda method, arguments: None
    world.finish(rounds=1)
    accounts.check(ID)
    world.before_call = lambda method, arguments: world.shop.panel.lead_to(nobody_listens)
    world.round()
    assert world.account().reconcile_at - world.clock.moment == waits[0]
    assert world.failing()[0].failed_since > since


HANGING = {
    "site": {"ftp", "shell", "database"},
    "database_user": {"database"},
    "alias": {"mail_domain"},
    "mail_domain": {"mailbox"},
}


@pytest.mark.parametrize("kind", KINDS)
def test_other_services_go_on_where_one_is_forbidden(world, kind):
    world.start("changing" if kind in ("alias", "forward") else "opening")
    method = f"{KINDS[kind].method}_add"
    world.panel.forbidden = {method}
    world.round()
    late = {row.kind for row in Service.select() if not row.is_applied}
    assert late == {kind} | HANGING.get(kind, set())
    assert [method in row.error for row in progress.problems()] == [True]

    world.panel.forbidden = set()
    world.finish()
    world.assert_all_is_as_wanted()


def test_nothing_is_asked_of_the_panel_during_a_lockout(world):
    world.start("opening")
    world.panel.lock_out()
    for _ in range(8):
        world.round()
        world.wait()
    assert [method for method, _ in world.panel.calls] == ["login"]


def test_an_expired_session_costs_no_try(world):
    world.start("changing")
    died = []

    def step_in(method, arguments):
        if method == "sites_ftp_user_update" and not died:
            died.append(world.panel.forget_sessions())

    world.before_call = step_in
    world.finish(rounds=1)
    assert len(died) == 1


# -- doubles and halves -------------------------------------------------------------------

ADDS = {
    "opening": ("client", *(kind for kind in KINDS if kind not in ("alias", "forward"))),
    "changing": ("alias", "mail_domain", "mailbox", "forward"),
    "resuming": ("shell",),
}
ONE_THING = ("shell", "database_user", "database", "mail_domain", "mailbox")


@pytest.mark.parametrize(("flow", "kind"), [(f, k) for f in ADDS for k in ADDS[f]])
def test_one_of_two_doubles_is_left(world, flow, kind, log):
    world.start(flow)
    method = "client_add" if kind == "client" else f"{KINDS[kind].method}_add"
    before = len(world.panel.calls)
    world.panel.faults.set("twice", method, times=1)
    world.finish()
    world.assert_all_is_as_wanted(flow)
    if kind not in ("site", "alias"):  # a unique key of the panel's database keeps these single
        assert f"the panel had {kind} 2 times" in log.text
    after = [name for name, _ in world.panel.calls[before:]]
    assert after.count(method) == 1 + (kind in ONE_THING)


def test_a_half_made_client_is_completed(world):
    world.start("opening")
    world.panel.faults.set("cut-after", "client_add", times=1)
    world.round()
    half = max(int(client["client_id"]) for client in world.panel.records("client"))
    world.panel.half_make(half)
    world.finish()
    world.assert_all_is_as_wanted("opening")
    assert str(half) not in {client["client_id"] for client in world.panel.records("client")}


# -- walls -----------------------------------------------------------------------------


@pytest.mark.parametrize("days", [29, 30])
def test_customers_are_kept_apart_by_every_call(world, days):
    for flow in LIFE:
        world.start(flow, days)
        world.finish(rounds=1)
        world.assert_all_is_as_wanted(flow, may_send=days >= 30)


def test_a_client_is_updated_once_in_its_life(world):
    world.start("closing")
    world.finish(rounds=1)
    methods = [method for method, _ in world.panel.calls]
    assert methods.count("client_update") == methods.count("client_add") == 1


def test_a_closed_account_leaves_orders_without_personal_data(world):
    world.start("closing")
    world.finish(rounds=1)
    order = Order.get()
    assert (order.account_id, order.username, order.browser, order.bolt11) == (None,) * 4
    assert (order.received_msat, order.payment_hash) == (7000, "0" * 64)
    assert Service.select().count() == 0


# -- nothing is stuck in silence --------------------------------------------------------


@pytest.mark.parametrize("kind", ["mailbox", "forward"])
def test_an_address_cannot_be_added_while_its_mail_domain_goes(world, kind):
    world.start("resting")
    settings = {"destination": "alice@example.org"} if kind == "forward" else {}
    wanted.remove(ID, "mail_domain", EXTRA)
    with pytest.raises(ValueError, match="not a name"):
        wanted.add(world.shop, ID, kind, f"late@{EXTRA}", **settings)
    world.finish()
    with pytest.raises(ValueError, match="not a name"):
        wanted.add(world.shop, ID, kind, f"late@{EXTRA}", **settings)
    world.assert_all_is_as_wanted("changing")


def test_a_password_set_while_suspended_works_afterwards(world):
    world.start("resuming")
    accounts.suspend(ID)
    wanted.set_password(world.shop, ID, "shell", NAME, "set while suspended")
    world.finish()
    accounts.resume(ID)
    world.finish()
    assert world.panel.password_of("shell", world.row("shell").panel_id) == "set while suspended"
    assert world.row("shell").password_sealed is None


# A call that always fails, and the only kinds that it leaves undone.
ALWAYS_FAILING = {
    "blocking": ("sites_web_domain_update", {"site"}),
    "closing": ("mail_user_delete", {"client", "mail_domain", "mailbox"}),
    "opening": ("sites_shell_user_add", {"shell"}),
}


@pytest.mark.parametrize("doing", ALWAYS_FAILING)
def test_a_call_that_always_fails_holds_up_nothing_else(world, doing):
    """An HTTP 500 may concern the whole panel, so it ends the round."""
    method, left = ALWAYS_FAILING[doing]
    world.start("resting" if doing == "blocking" else doing)
    if doing == "blocking":
        accounts.block(ID, "spam")
    world.panel.faults.set("refuse", method, message="HTTP 500")
    for _ in range(12):
        world.wait()
        world.round()
        assert world.account().reconcile_at > world.clock.moment
    assert {row.kind for row in Service.select() if not row.is_applied} == left

    world.panel.faults.clear()
    world.finish()
    world.assert_all_is_as_wanted()
