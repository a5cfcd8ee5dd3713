"""One customer attacks another, by all that `flask walls` tries, on servers of real daemons that
have exactly what the shop sends, and what docs/hosting-server.md advises.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from lightningspace import attack, models, shop, walls
from lightningspace.attack import hostings
from lightningspace.config import from_env
from lightningspace.models import Account, Server
from lightningspace.sandbox.node import SandboxNode
from lightningspace.sandbox.panel import SandboxPanel
from tests.conftest import PANEL_PASSWORD, work
from tests.rig import Rig

pytestmark = pytest.mark.any_database

RACE_SECONDS = 1


class Careless(SandboxPanel):
    """Its server leaves out what the shop sends to keep neighbours apart."""

    def records(self, kind: str) -> list[dict]:
        open_to_all = {"allow_override": "All", "apache_directives": "", "custom_php_ini": ""}
        records = super().records(kind)
        if kind == "site":
            return [each | open_to_all | {"php_open_basedir": "/"} for each in records]
        return records


Attacked = Callable[..., dict[str, attack.Result]]


@pytest.fixture
def attacked(tmp_path) -> Iterator[Attacked]:
    """Attack a server of one's own: `attacked("apache-itk", WALLS="mpm_itk")`."""
    with ExitStack() as running:

        def attacked(
            web: str, hardening: bool = True, kind: type = SandboxPanel, **settings: str
        ) -> dict[str, attack.Result]:
            panel = kind(password=PANEL_PASSWORD)
            panel.queue_seconds = 0
            node = SandboxNode(tmp_path / "lightning-rpc", tmp_path / "wallet-rpc")
            for server in (panel, node):
                server.start()
                running.callback(server.stop)
            rig = running.enter_context(Rig(panel, web, hardening))
            running.enter_context(rig.keep_up())
            env = {
                "PUBLIC_URL": "http://localhost",
                "BASE_DOMAIN": "shop.test",
                "DATABASE_URL": f"sqlite:///{tmp_path / 'shop.sqlite3'}",
                "SECRET_KEY": "a key of the tests that is long enough",
                "LIGHTNING_RPC": str(tmp_path / "lightning-rpc"),
                "PANEL_URL": panel.url,
                "PANEL_USER": "shop",
                "PANEL_PASSWORD": PANEL_PASSWORD,
                "CAPACITY_MB": "100000",
                "FTP_ADDRESSES": rig.address,
                "FTP_VERIFY_TLS": "false",
            }
            config = from_env(env | settings, tmp_path)
            models.open_database(config.database_url)
            running.callback(models.db.close)
            models.init_db()
            this_shop = shop.build(config)
            shop.settle_in(this_shop)
            results = list(attack.check(this_shop, 1, rig.address, RACE_SECONDS))
            assert not Account.select().exists()
            assert not panel.records("client") and not panel.records("site")
            assert Server.get().held_mb == 0
            return {result.attack: result for result in results}

        yield attacked


def those(results: dict[str, attack.Result], result: str) -> set[str]:
    return {name for name, each in results.items() if each.result == result}


@pytest.mark.parametrize(
    ("web", "mode", "known"),
    [
        ("apache-event", walls.NARROW, {"race"}),
        ("apache-itk", walls.MPM_ITK, {"own limits", "questions"}),
        ("nginx", walls.NGINX, set()),
    ],
)
def test_what_the_shop_sends_holds_on_a_server_fit_for_strangers(attacked, web, mode, known):
    results = attacked(web, WALLS=mode)
    assert {name: results[name].proof for name in those(results, attack.OPEN)} == {}
    assert those(results, attack.KNOWN) == known
    # The rig's mail server takes no logins.
    not_tried = {name: results[name].proof for name in those(results, attack.NOT_TRIED)}
    assert not_tried.keys() == {"submission"}, not_tried
    assert attack.problems() == []


def test_each_attack_works_where_nothing_is_done_against_it(attacked):
    """Else it would not show that something holds."""
    results = attacked("apache-event", hardening=False, kind=Careless)
    # By what the shop does itself, over FTP and by kinds of records; test_rig shows them open.
    held = {"files by PHP", "files by a shell", "PHP sockets", "jail"}
    assert those(results, attack.HELD) == held
    assert those(results, attack.OPEN) == results.keys() - held - {"submission", "race"}
    assert those(results, attack.KNOWN) == {"race"}
    told = attack.problems()
    assert len(told) == len(those(results, attack.OPEN))
    assert all(line.startswith("walls of server 1: a customer can ") for line in told)


# -- where it cannot be looked at -----------------------------------------------------------


def test_hostings_that_cannot_be_made_are_removed_and_told(this_shop, panel, runner):
    panel.forbidden = {"sites_shell_user_add"}
    told = runner.invoke(args=["walls"])
    assert told.exit_code == 2
    assert "a hosting of the check cannot be made: shell: the remote user may not" in told.output
    assert not Account.select().exists() and not panel.records("client")
    assert Server.get().held_mb == 0
    problem = runner.invoke(args=["problems"]).output
    assert problem.startswith("walls of server 1: not checked at ") and "cannot be made" in problem


def test_what_a_killed_check_has_left_the_calendar_removes(this_shop, panel, worker, time_machine):
    hostings._open(this_shop, 1)
    for _ in range(24):
        work(worker)
        worker.mind_calendar()
        time_machine.forward(600)
    assert not Account.select().exists() and not panel.records("client")
    assert Server.get().held_mb == 0


def test_the_next_check_removes_what_is_long_there(this_shop, panel, time_machine):
    left = hostings._open(this_shop, 1)
    time_machine.forward(hostings.SECONDS)
    panel.forbidden = {"sites_shell_user_add"}
    with pytest.raises(attack.CannotCheck):
        list(attack.check(this_shop, 1))
    assert Account.get_or_none(Account.id == left.account_id) is None


def test_each_server_is_checked_once_a_week(this_shop, panel, time_machine):
    panel.forbidden = {"client_add"}
    for days, checks in ((0, 1), (6, 0), (1, 1), (6, 0), (8, 1)):
        time_machine.forward(days * 86400)
        before = [method for method, _ in panel.calls].count("client_add")
        for _ in range(2):
            attack.check_weekly(this_shop)
        added = [method for method, _ in panel.calls].count("client_add") - before
        assert bool(added) == bool(checks)


def test_server_that_is_not_ours_is_not_attacked(this_shop, runner, panel):
    told = runner.invoke(args=["walls", "--server", "7"])
    assert told.exit_code == 1 and "server 7 is not among PANEL_SERVER_ID" in told.output
    assert not panel.calls
