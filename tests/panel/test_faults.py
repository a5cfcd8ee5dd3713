"""Every fault of the panel at every call of an account's life: said, waited out, made good.

The table of faults is FAULTS; the flows are those of tests/flows.py. A flow is run in two ways:
with a fault at one call alone, for each call in turn; and, much faster, with one at every call,
the first time that it is made in that state of the panel.
"""

import logging
import re
import socket
import ssl
import threading
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass

import pytest

from lightningspace.base.models import Order, Service
from lightningspace.outside.ispconfig_records import KINDS
from lightningspace.panel import reconcile
from lightningspace.rules import accounts, progress, wanted
from lightningspace.sandbox.certificate import self_signed
from tests.conftest import DATABASE_KINDS
from tests.flows import EXTRA, ID, NAME, World, call_as_text

LIFE = ("opening", "changing", "suspending", "resuming", "closing")
SHORT_SECONDS = 0.03  # what a call may take that will not be answered in time

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
def world(tmp_path_factory, shared_database_url):
    directory = tmp_path_factory.mktemp("world")
    # One authority, and a short file: the machine's own long one would be read at every try.
    trusted = self_signed(directory / "trusted.pem")
    settings = {"DATABASE_URL": shared_database_url, "PANEL_VERIFY_TLS": str(trusted)}
    world = World(directory, **settings)
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

    `strike(world, method)` brings it on as the call goes out, and returns the seconds that the
    call may take if it should end early. `error`: what the operator reads.
    """

    strike: Callable[[World, str], float | None]
    error: str
    is_permanent: bool = False
    # Not to be noticed: the call is repeated at once.
    is_cured_at_once: bool = False
    spares_login: bool = False


def weather(kind: str, message: str = "", seconds: float | None = None):
    """A fault of the stand-in's weather, for one call."""

    def strike(world, method):
        world.panel.faults.set(kind, method, times=1, message=message)
        return seconds

    return strike


def another_address(url: Callable[[], str]):
    return lambda world, method: world.shop.panel.lead_to(url())


def session_dies(world, method):
    # So slowly that ten of them do not lock us out.
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
        session_dies, "the last login was in vain", is_cured_at_once=True, spares_login=True
    ),
    "locked out": Fault(lambda world, method: world.panel.lock_out(), "locked us out"),
    "maintenance": Fault(maintenance_begins, "under maintenance|the last login was in vain"),
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
    """Let a failure say where it was."""
    try:
        yield
    except Exception as error:
        error.add_note(text())
        raise


def assert_is_said(world, fault: Fault, log) -> None:
    """The struck rows tell the operator what happened, and when it is tried again."""
    account, failing = world.account(), world.failing()
    assert failing or fault.is_cured_at_once
    for row in failing:
        assert re.search(fault.error, row.error)
        assert row.permanent == fault.is_permanent
        assert row.failed_since is not None
    if fault.is_permanent:
        assert {row.name for row in failing} <= {row.name for row in progress.problems()}
    if failing:
        assert 0 < account.reconcile_at - world.clock.moment <= reconcile.RETRY_SECONDS_MAX
    assert_no_secret(failing, log)


def assert_no_secret(failing, log) -> None:
    for text in [row.error for row in failing] + log.messages:
        assert not SECRETS.search(text)
    assert all(record.exc_info is None for record in log.records)
    log.clear()


def fair_weather(world) -> None:
    """Take the fault away; if the shop's client waits, see that it lets the panel alone."""
    if world.shop.panel.is_waiting:
        calls = len(world.panel.calls)
        world.wait()
        world.round()
        assert len(world.panel.calls) == calls
        world.clock.forward(300)
        world.renew_line()
    world.panel.faults.clear()
    world.panel.maintenance, world.panel.forbidden = False, set()


def make_good(world, flow, fault, log) -> None:
    """Round after round until it is done, however many calls are struck."""
    for _ in range(300):
        world.wait()
        world.round()
        if world.is_done:
            break
        assert_is_said(world, fault, log)
        fair_weather(world)
    assert_no_secret([], log)
    world.assert_all_is_as_wanted(flow)


def run_with_one_fault(world, flow, fault, position, log) -> None:
    world.start(flow)
    calls = []

    def step_in(method, arguments):
        calls.append(method)
        if len(calls) - 1 == position:
            return fault.strike(world, method)

    world.before_call = step_in
    make_good(world, flow, fault, log)
    assert len(calls) > position


def run_with_a_fault_at_every_call(world, flow, fault, log) -> list[str]:
    """The methods that were struck."""
    world.start(flow)
    met, struck = set(), []

    def step_in(method, arguments):
        # The login once: by our clock the waits outlast a session, and one in vain waits a minute
        # of the real one.
        place = method == "login" or call_as_text(method, arguments)
        if place in met or (method == "login" and fault.spares_login):
            return None
        met.add(place)
        struck.append(method)
        return fault.strike(world, method)

    world.before_call = step_in
    with told(lambda: f"at call {len(struck) - 1} that was struck, {struck[-1]}"):
        make_good(world, flow, fault, log)
    return struck


# All on SQLite, where a run takes half the time; on PostgreSQL those after which the rows differ.
WHERE_AND_WHAT = [("sqlite", fault) for fault in FAULTS] + [
    (kind, fault) for kind in DATABASE_KINDS[1:] for fault in ("cut after", "permission missing")
]
# Alone, those after which it is not sure what was done; any kind is met at every call below.
UNSURE = ("cut before", "cut after", "no answer")


# Those of which it is sure that nothing was done differ in their words alone: one flow meets them.
EVERYWHERE = (*UNSURE, "session died", "permission missing")


def faults_where(places):
    return pytest.mark.parametrize(
        ("shared_database_url", "fault"), places, indirect=["shared_database_url"], scope="module"
    )


@faults_where([(kind, fault) for kind, fault in WHERE_AND_WHAT if fault in UNSURE])
def test_an_opening_survives_a_fault_at_any_call(world, fault, log):
    for position, method in enumerate(world.calls_of("opening")):
        if method == "login" and FAULTS[fault].spares_login:
            continue
        with told(lambda: f"{fault} at call {position}, {method}, of opening"):  # noqa: B023
            run_with_one_fault(world, "opening", FAULTS[fault], position, log)


@pytest.mark.parametrize("shared_database_url", ["sqlite"], indirect=True, scope="module")
@pytest.mark.parametrize("flow", ["changing", "closing"])
def test_other_flows_survive_a_cut_at_any_call(world, flow, log):
    for position, method in enumerate(world.calls_of(flow)):
        with told(lambda: f"cut after call {position}, {method}, of {flow}"):  # noqa: B023
            run_with_one_fault(world, flow, FAULTS["cut after"], position, log)


@pytest.mark.parametrize(
    ("shared_database_url", "fault", "flow"),
    [
        (kind, fault, flow)
        for kind, fault in WHERE_AND_WHAT
        for flow in LIFE
        if fault in EVERYWHERE or flow == "changing"
    ],
    indirect=["shared_database_url"],
    scope="module",
)
def test_any_flow_survives_a_fault_at_every_call(world, flow, fault, log):
    calls = set(world.calls_of(flow))
    if FAULTS[fault].spares_login:
        calls.discard("login")
    with told(lambda: f"{fault} at every call of {flow}"):
        struck = run_with_a_fault_at_every_call(world, flow, FAULTS[fault], log)
    assert calls <= set(struck)


# -- faults that last ------------------------------------------------------------------


def test_waits_grow_from_seconds_to_minutes_and_start_anew(world):
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


def test_a_lockout_is_not_knocked_at_until_it_is_over(world):
    world.start("opening")
    world.panel.lock_out()
    for _ in range(8):
        world.round()
        world.wait()
    assert [method for method, _ in world.panel.calls] == ["login"]


def test_a_died_session_costs_no_try(world):
    world.start("changing")
    died = []

    def step_in(method, arguments):
        if method == "sites_ftp_user_update" and not died:
            died.append(world.panel.forget_sessions())

    world.before_call = step_in
    world.finish(rounds=1)
    assert len(died) == 1


# -- twice, and half -------------------------------------------------------------------

ADDS = {
    "opening": ("client", *(kind for kind in KINDS if kind not in ("alias", "forward"))),
    "changing": ("alias", "mail_domain", "mailbox", "forward"),
    "resuming": ("shell",),
}
ONE_THING = ("shell", "database_user", "database", "mail_domain", "mailbox")


@pytest.mark.parametrize(("flow", "kind"), [(f, k) for f in ADDS for k in ADDS[f]])
def test_of_doubles_one_is_left(world, flow, kind, log):
    world.start(flow)
    method = "client_add" if kind == "client" else f"{KINDS[kind].method}_add"
    before = len(world.panel.calls)
    world.panel.faults.set("twice", method, times=1)
    world.finish()
    world.assert_all_is_as_wanted(flow)
    if kind not in ("site", "alias"):  # the panel's own key keeps these single
        assert f"the panel had {kind} 2 times" in log.text
    after = [name for name, _ in world.panel.calls[before:]]
    assert after.count(method) == 1 + (kind in ONE_THING)


def test_a_client_made_half_is_made_whole(world):
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
def test_walls_stand_in_every_call(world, days):
    for flow in LIFE:
        world.start(flow, days)
        world.finish(rounds=1)
        world.assert_all_is_as_wanted(flow, may_send=days >= 30)


def test_a_client_is_updated_once_in_its_life(world):
    world.start("closing")
    world.finish(rounds=1)
    methods = [method for method, _ in world.panel.calls]
    assert methods.count("client_update") == methods.count("client_add") == 1


def test_a_closed_account_leaves_its_bare_orders(world):
    world.start("closing")
    world.finish(rounds=1)
    order = Order.get()
    assert (order.account_id, order.username, order.browser, order.bolt11) == (None,) * 4
    assert (order.received_msat, order.payment_hash) == (7000, "0" * 64)
    assert Service.select().count() == 0


# -- never stuck without a word --------------------------------------------------------


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


def test_a_password_set_while_suspended_opens_afterwards(world):
    world.start("resuming")
    accounts.suspend(ID)
    wanted.set_password(world.shop, ID, "shell", NAME, "set while suspended")
    world.finish()
    accounts.resume(ID)
    world.finish()
    assert world.panel.password_of("shell", world.row("shell").panel_id) == "set while suspended"
    assert world.row("shell").password_sealed is None


# The call that always fails, while what; what is left undone then, and no more.
ALWAYS_FAILING = {
    "blocking": ("sites_web_domain_update", {"site"}),
    "closing": ("mail_user_delete", {"client", "mail_domain", "mailbox"}),
    "opening": ("sites_shell_user_add", {"shell"}),
}


@pytest.mark.parametrize("doing", ALWAYS_FAILING)
def test_a_call_that_always_fails_holds_up_nothing_else(world, doing):
    """An HTTP 500 may be the whole panel's; its round ends."""
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
