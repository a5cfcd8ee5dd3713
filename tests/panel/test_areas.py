"""A paid area as a service of an account: put online by FTP, and on once it passed a look."""

import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count

import pytest

from lightningspace import onsite, paidarea, tipjar
from lightningspace.base.models import Account, Service
from lightningspace.outside.ftp import READ_MAX
from lightningspace.panel import reconcile
from lightningspace.panel.areas import LOOKS, TRICKS
from lightningspace.rules import accounts, areas, services, tips, upgrades, wanted
from lightningspace.rules.areas import Reason
from tests.conftest import with_settings

MINE = b"<?php echo 'My own page';\n"
WALLET = {"mode": "wallet", "wallet_address": "me@wallet.example", "price_sat": 100}
CHALLENGE = 'L402 macaroon="AgEE", invoice="lnbcrt1"'


class SiteServer(ThreadingHTTPServer):
    """Answers as a gate does, unless a test sets `play`: by kind of request ("offer", "forged",
    "trick") a status and a body, or a function that is called with the handler.
    """

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Asked)
        self.play: dict = {}
        self.asked: list[tuple[str, dict]] = []
        self.root = None

    def kinds(self) -> list[str]:
        return [kind_of(path, headers) for path, headers in self.asked]


def kind_of(path: str, headers: dict) -> str:
    if headers.get("Authorization"):
        return "forged"
    return "offer" if "html" not in headers["Accept"] else "trick"


class _Asked(BaseHTTPRequestHandler):
    server: SiteServer

    def do_GET(self):
        self.server.asked.append((self.path, dict(self.headers)))
        kind = kind_of(self.path, self.headers)
        said = {
            "offer": (402, json.dumps({"price_msat": 100_000, "browsers": True})),
            "forged": (401, ""),
            "trick": (404, ""),
        } | self.server.play
        if callable(said[kind]):
            said[kind](self)
            return
        status, body = said[kind]
        body = body.encode() if isinstance(body, str) else body()
        self.send_response(status)
        if kind == "offer" and status == 402:
            self.send_header("WWW-Authenticate", CHALLENGE)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass


@pytest.fixture
def site(more_settings):
    with SiteServer() as server:
        serving = threading.Thread(target=server.serve_forever, args=(0.02,))
        serving.start()
        more_settings["WEB_ADDRESSES"] = f"127.0.0.1:{server.server_port}"
        yield server
        server.shutdown()
        serving.join()


@pytest.fixture(autouse=True)
def fair(site, shop_with_ftp, ftp_server):
    """Give every test here an FTP server and a site that answers."""
    return ftp_server


@pytest.fixture
def root(ftp_server):
    """The directory of alice's site."""
    ftp_server.lay_out()
    return ftp_server.root / "clients/client1/web1"


@pytest.fixture
def work(this_shop, time_machine):
    """Reconcile alice until nothing is due, whatever the waits in between."""

    def work(account):
        for rounds in count():
            assert rounds < 40
            now = Account.get_or_none(Account.id == account.id)
            if now is None or now.reconcile_at is None:
                return
            if account.id in reconcile.due_accounts():
                reconcile.account(this_shop, account.id)
            else:
                time_machine.forward(64)

    return work


@pytest.fixture
def ready(alice, work):
    work(alice)
    return alice


def add(this_shop, account, name="members", **settings):
    wanted.add(this_shop, account.id, "paidarea", name, **(WALLET | settings))


def area(account, name="members") -> Service | None:
    row = (Service.account == account) & (Service.kind == "paidarea") & (Service.name == name)
    return Service.get_or_none(row)


def files(directory) -> set[str]:
    return {path.name for path in directory.iterdir()}


def mode(path) -> int:
    return path.stat().st_mode & 0o777


def test_a_new_area_is_put_on_the_site_looked_at_and_switched_on(
    ready, this_shop, root, site, panel, work
):
    add(this_shop, ready, title="Films ⚡", seconds=7200)
    work(ready)

    assert area(ready).is_applied and area(ready).note is None
    gate, for_sale = root / "web/members", root / "private/paid/members"
    assert files(gate) == {"index.php", "paidarea.json", ".htaccess"} and files(for_sale) == set()
    assert (gate / "index.php").read_bytes() == paidarea.GATE.text
    assert b"FallbackResource /members/index.php\n" in (gate / ".htaccess").read_bytes()
    assert (mode(gate / "paidarea.json"), mode(for_sale.parent)) == (0o600, 0o700)
    settings = (gate / "paidarea.json").read_bytes()
    assert onsite.are_our_settings(settings)
    assert (
        json.loads(settings).items()
        >= {
            "shop": "http://localhost",
            "site": "alice.shop.test",
            "title": "Films ⚡",
            "price_sat": 100,
            "seconds": 7200,
            "address": "me@wallet.example",
            "keeps_site_online": False,
            "programs_only": False,
            "network": "bcrt",
        }.items()
    )
    assert site.kinds() == ["offer", *["trick"] * len(TRICKS), "forged"]
    assert {headers["Host"] for _, headers in site.asked} == {"alice.shop.test"}
    assert re.fullmatch(r"/members/index.php/paidarea-sample-\w+.tmp", site.asked[0][0])
    assert [each["username"] for each in panel.records("ftp")] == ["ls_alice"]


def test_an_area_that_keeps_the_site_online_is_paid_to_the_shop(ready, this_shop, root, work):
    add(this_shop, ready, mode="site", wallet_address=None)
    work(ready)
    settings = json.loads((root / "web/members/paidarea.json").read_bytes())
    assert settings["address"] == tips.lightning_address(this_shop, ready)
    assert settings["keeps_site_online"]


def sample_of(root):
    """The content of the sample file that lies there now."""
    (path,) = (root / "private/paid/members").iterdir()
    return path.read_bytes()


def wrong(reason: str, status: int = 503) -> tuple[int, str]:
    return status, json.dumps({"reason": reason})


OFFER = json.dumps({"price_msat": 100_000})
# An answer of the site to some request, and the reason for which the area is off then.
LOOKED = {
    "the wallet is down": ({"offer": wrong("down")}, Reason.DOWN),
    "it knows no such name": ({"offer": wrong("nobody")}, Reason.NOBODY),
    "it does not say what is paid": ({"offer": wrong("no_verify")}, Reason.NO_VERIFY),
    "an unknown reason": ({"offer": wrong("<b>")}, Reason.ODD),
    "a reason that only we may give": ({"offer": wrong("open")}, Reason.ODD),
    "a list as reason": ({"offer": (503, '{"reason": ["down"]}')}, Reason.ODD),
    "no JSON": ({"offer": (503, "<h1>Not now</h1>")}, Reason.ODD),
    "deep JSON": ({"offer": (503, "[" * 50_000)}, Reason.ODD),
    "PHP's source": ({"offer": (200, "<?php")}, Reason.ODD),
    "a redirect": ({"offer": (302, "")}, Reason.ODD),
    "another price": ({"offer": (402, '{"price_msat": 1}')}, Reason.ODD),
    "402 of somebody else": ({"offer": (402, "Pay!")}, Reason.ODD),
    "no credentials": ({"forged": (402, OFFER)}, Reason.DEAF),
    "it hangs up": ({"offer": lambda handler: handler.connection.close()}, Reason.SILENT),
    "no HTTP": ({"offer": lambda handler: handler.wfile.write(b"x" * 99)}, Reason.SILENT),
    "it hangs up on tricks": (
        {"trick": lambda handler: handler.connection.close()},
        Reason.SILENT,
    ),
}


def test_an_area_is_off_while_its_gate_does_not_work_as_it_should(
    ready, this_shop, root, site, work, subtests, monkeypatch
):
    monkeypatch.setattr("lightningspace.panel.areas.LOOKS", 0)
    add(this_shop, ready)
    for kind, (play, reason) in LOOKED.items():
        with subtests.test(kind):
            site.play = play
            wanted.configure(ready.id, "paidarea", "members", price_sat=100)
            work(ready)
            assert (area(ready).is_applied, area(ready).note) == (True, reason)
            assert "index.php" in files(root / "web/members")  # for those who have paid
            assert files(root / "private/paid/members") == set()
    site.play = {}
    wanted.configure(ready.id, "paidarea", "members", price_sat=100)
    work(ready)
    assert area(ready).note is None


def test_an_area_that_one_trick_opens_goes_even_if_other_tricks_hang(
    ready, this_shop, root, site, work
):
    def answer(handler):
        if not handler.path.startswith("/private/"):
            handler.connection.close()
            return
        handler.send_response(200)
        handler.end_headers()
        handler.wfile.write(sample_of(root))

    site.play = {"trick": answer}
    add(this_shop, ready)
    work(ready)
    assert area(ready).note == Reason.OPEN and files(root / "web/members") == set()


@pytest.mark.parametrize("kind", ["offer", "trick"])
def test_an_area_whose_files_can_be_read_unpaid_goes(ready, this_shop, root, site, work, kind):
    site.play = {kind: (200, lambda: b"<p>" + sample_of(root))}
    add(this_shop, ready)
    work(ready)
    assert area(ready).note == Reason.OPEN
    assert files(root / "web/members") == set()
    assert (
        site.kinds().count("offer") == 1
    )  # it is not asked again: an open file does not shut by itself


def test_a_passing_fault_is_looked_at_again(ready, this_shop, site, work):
    site.play = {"offer": lambda handler: handler.connection.close()}
    add(this_shop, ready)
    reconcile.account(this_shop, ready.id)
    assert not area(ready).is_applied and area(ready).error is None
    site.play = {}
    work(ready)
    assert (area(ready).note, area(ready).is_applied) == (None, True)

    site.asked.clear()
    site.play = {"offer": wrong("down")}
    wanted.configure(ready.id, "paidarea", "members", price_sat=100)
    work(ready)
    assert site.kinds().count("offer") == LOOKS + 1


def test_without_the_node_an_area_waits(ready, this_shop, node, work):
    node.down()
    add(this_shop, ready)
    reconcile.account(this_shop, ready.id)
    assert not area(ready).is_applied and area(ready).error is None
    node.up()
    work(ready)
    assert area(ready).note is None


def test_a_slow_site_does_not_hold_the_worker_up(ready, this_shop, site, work, monkeypatch):
    monkeypatch.setattr("lightningspace.outside.sites.ANSWER_SECONDS", 0.2)
    monkeypatch.setattr("lightningspace.panel.areas.LOOKS", 0)
    site.play = {"offer": lambda handler: threading.Event().wait(2)}
    add(this_shop, ready)
    work(ready)
    assert area(ready).note == Reason.SILENT

    # Nor does a site whose answers are slow, each within the limit.
    monkeypatch.setattr("lightningspace.outside.sites.ANSWER_SECONDS", 5)
    monkeypatch.setattr("lightningspace.panel.areas.LOOK_SECONDS", 0.3)
    site.play = {"trick": lambda handler: threading.Event().wait(0.2)}
    site.asked.clear()
    wanted.configure(ready.id, "paidarea", "members", price_sat=100)
    work(ready)
    assert area(ready).note == Reason.SILENT and len(site.asked) < 5


def test_files_of_the_owner_are_never_touched(ready, this_shop, root, site, work, subtests):
    (root / "web/members").mkdir()
    for name in ("index.php", "paidarea.json"):
        for content in (MINE, b"x" * (READ_MAX + 1), None):
            with subtests.test(name, content=content and content[:20]):
                own = root / "web/members" / name
                own.write_bytes(content) if content else own.mkdir()
                add(this_shop, ready)
                work(ready)
                assert area(ready).note == Reason.IN_THE_WAY
                assert files(root / "web/members") == {name} and site.asked == []
                wanted.remove(ready.id, "paidarea", "members")
                work(ready)
                assert area(ready) is None and files(root / "web/members") == {name}
                assert content is None or own.read_bytes() == content
                own.unlink() if content else own.rmdir()


def test_files_that_the_owner_has_edited_stay(ready, this_shop, root, work):
    add(this_shop, ready)
    work(ready)
    edited = paidarea.GATE.text + b"// mine\n"
    (root / "web/members/index.php").write_bytes(edited)
    (root / "web/members/.htaccess").write_bytes(b"# mine\n")
    for change in ("configure", "remove"):
        more = {"price_sat": 200} if change == "configure" else {}
        getattr(wanted, change)(ready.id, "paidarea", "members", **more)
        work(ready)
        assert (root / "web/members/index.php").read_bytes() == edited
        assert (root / "web/members/.htaccess").read_bytes() == b"# mine\n"


def test_an_edited_gate_that_goes_on_selling_is_not_reported_as_off(ready, this_shop, root, work):
    add(this_shop, ready)
    work(ready)
    gate = root / "web/members"
    settings = (gate / "paidarea.json").read_bytes()
    (gate / "paidarea.json").write_bytes(settings.replace(b"100", b"200"))
    (gate / "index.php").write_bytes(paidarea.GATE.text + b"// mine\n")
    wanted.switch(ready.id, "paidarea", "members", False)
    work(ready)
    assert (area(ready).is_applied, area(ready).note) == (True, Reason.IN_THE_WAY)
    (gate / "index.php").write_bytes(paidarea.GATE.text)
    wanted.configure(ready.id, "paidarea", "members", price_sat=100)
    work(ready)
    assert (area(ready).note, files(gate)) == (None, {"paidarea.json"})


def test_files_for_sale_stay_when_an_area_is_switched_or_removed(
    ready, this_shop, root, panel, work
):
    add(this_shop, ready)
    work(ready)
    (root / "private/paid/members/film.mp4").write_bytes(b"film")
    gate = root / "web/members"
    for active in (False, True):
        wanted.switch(ready.id, "paidarea", "members", active)
        work(ready)
        assert (files(gate) != set(), area(ready).note) == (active, None)
    wanted.remove(ready.id, "paidarea", "members")
    work(ready)
    assert (area(ready), files(gate)) == (None, set())
    assert files(root / "private/paid/members") == {"film.mp4"}
    assert [each["username"] for each in panel.records("ftp")] == ["ls_alice"]


def test_an_area_is_taken_off_a_site_without_php(ready, this_shop, root, site, work):
    add(this_shop, ready)
    work(ready)
    site.asked.clear()
    wanted.configure(ready.id, "site", "alice.shop.test", php=False)
    work(ready)
    assert (area(ready).note, files(root / "web/members")) == (Reason.NO_PHP, set())
    assert site.asked == []
    wanted.configure(ready.id, "site", "alice.shop.test", php=True)
    work(ready)
    assert area(ready).note is None


def test_nothing_is_done_on_a_site_that_is_off(ready, this_shop, root, site, work):
    add(this_shop, ready)
    accounts.suspend(ready.id)
    work(ready)
    assert site.asked == [] and not (root / "web/members").exists()
    accounts.resume(ready.id)
    work(ready)
    assert area(ready).note is None and site.asked

    accounts.suspend(ready.id)
    wanted.remove(ready.id, "paidarea", "members")
    work(ready)
    assert area(ready) is None and files(root / "web/members") == set()


def test_an_area_goes_with_its_hosting(ready, this_shop, panel, work):
    add(this_shop, ready)
    accounts.close(ready.id)
    work(ready)
    assert area(ready) is None and panel.records("ftp") == []


def test_a_site_has_up_to_five_areas(ready, this_shop, root, work):
    for number in range(5):
        add(this_shop, ready, f"area-{number}")
    with pytest.raises(wanted.TooMany):
        add(this_shop, ready, "one-more")
    with pytest.raises(wanted.NameInUse):
        add(this_shop, ready, "area-0")
    work(ready)
    for number in range(5):
        assert area(ready, f"area-{number}").note is None
        assert "index.php" in files(root / f"web/area-{number}")
    wanted.remove(ready.id, "paidarea", "area-0")
    add(this_shop, ready, "one-more")


NO_NAMES = ["", "-", "a-", "-a", "A", "a_b", "a.b", "..", "a/b", "ä", "a" * 31, "cgi-bin", "a\n"]
NO_SETTINGS = [
    *({"price_sat": price} for price in (0, 10**9, 1.5, True)),
    *({"seconds": 59}, {"seconds": 10**9}, {"title": "x" * 81}, {"mode": "both"}),
    *({"wallet_address": "x"}, {"programs_only": "yes"}),
]


def test_bad_names_and_settings_of_areas_are_refused(ready, this_shop, subtests):
    cases = [(name, {}) for name in NO_NAMES] + [("members", each) for each in NO_SETTINGS]
    for name, settings in cases:
        with subtests.test(name, **settings), pytest.raises(ValueError):
            add(this_shop, ready, name, **settings)


def test_a_full_space_is_reported_and_leaves_no_temporary_files(
    ready, this_shop, root, ftp_server, work
):
    ftp_server.space_bytes = 100
    add(this_shop, ready)
    work(ready)
    assert area(ready).note == Reason.NO_SPACE
    assert not any(each.endswith(".tmp") for each in files(root / "web/members"))


def test_an_area_is_renewed_once_by_an_upgrade_and_when_tips_change(ready, this_shop, site, work):
    add(this_shop, ready)
    work(ready)
    upgrades.bring_up_to_date(this_shop)
    work(ready)
    site.asked.clear()
    assert upgrades.bring_up_to_date(this_shop) == 0 and site.asked == []
    tips.switch(ready.id, tips_address=False)
    work(ready)
    assert "offer" in site.kinds()


def test_files_left_by_an_interrupted_look_are_removed(ready, this_shop, root, work):
    add(this_shop, ready)
    work(ready)
    left = root / "private/paid/members" / f"paidarea-sample-{'0' * 16}.tmp"
    left.write_text("x")
    (root / "web/members" / f"tipjar-upload-{'0' * 16}.tmp").write_text("x")
    wanted.configure(ready.id, "paidarea", "members", price_sat=100)
    work(ready)
    assert not left.exists()
    assert files(root / "web/members") == {"index.php", "paidarea.json", ".htaccess"}


@with_settings(WALLS="nginx")
def test_nginx_gets_no_htaccess_and_keeps_none_of_ours(ready, this_shop, root, work):
    gate = root / "web/members"
    gate.mkdir()
    for left, stays in ((paidarea.htaccess("members"), set()), (MINE, {".htaccess"})):
        (gate / ".htaccess").write_bytes(left)  # from a time with Apache
        add(this_shop, ready)
        work(ready)
        assert area(ready).note is None
        assert files(gate) == {"index.php", "paidarea.json"} | stays
        wanted.remove(ready.id, "paidarea", "members")
        work(ready)


def test_a_site_without_areas_has_its_tip_jar(ready, root):
    assert (root / "web/index.php").read_bytes() == tipjar.JAR.text
    assert services.KINDS["paidarea"].is_uploaded and areas.of_account([]) == []
