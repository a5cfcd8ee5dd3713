"""What somebody did at the panel by hand, or before us, is put right, adopted, or left alone."""

from dataclasses import replace
from itertools import cycle

import pytest

from lightningspace.base.models import Account, Service
from lightningspace.outside.ispconfig import Panel
from lightningspace.outside.ispconfig_records import KINDS
from lightningspace.rules import accounts, progress, services, wanted
from tests import actual
from tests.conftest import PANEL_PASSWORD
from tests.flows import ID, NAME, NAMES, SITE, World, add_foreign

RECORDS = tuple(KINDS)
# The kinds of one half do not depend on each other.
HALVES = [("site", "database_user", "mail_domain")]
HALVES.append(tuple(kind for kind in RECORDS if kind not in HALVES[0]))
WITH_PASSWORD = tuple(kind for kind in RECORDS if kind in services.WITH_PASSWORD)

# Fields that somebody changes, other than the name and whether the record is active.
CHANGES = {
    "site": {"hd_quota": 5000, "php_fpm_use_socket": "n", "pm_max_children": 50},
    "alias": {"redirect_type": "R", "redirect_path": "https://example.org/"},
    "ftp": {"quota_size": 5},
    "shell": {"chroot": "no", "ssh_rsa": "ssh-ed25519 AAAA somebody's"},
    "database": {"database_quota": 5000, "remote_access": "y"},
    "mailbox": {"quota": 0, "disablesmtp": "n"},
    "forward": {"destination": "somebody@example.org"},
}
OTHER_NAMES = {
    "site": "renamed.test",
    "alias": "renamed.example",
    "ftp": "renamed",
    "shell": "renamed",
    "database_user": "renamed",
    "database": "renamed",
    "mail_domain": "renamed.example",
    "mailbox": "renamed@alice.shop.test",
    "forward": "renamed@alice.shop.test",
}
# Kinds with which a customer logs in or gets mail: each is switched by hand.
SWITCHES = ("site", "alias", "ftp", "shell", "database", "mail_domain", "forward")


@pytest.fixture(scope="module")
def shared_world(tmp_path_factory):
    world = World(tmp_path_factory.mktemp("world"), DATABASE_URL="sqlite:///:memory:")
    yield world
    world.close()


@pytest.fixture
def world(shared_world):
    """Alice's account with a service of every kind, applied."""
    shared_world.start("resting")
    return shared_world


@pytest.fixture
def hand(world):
    """The operator's own connection to the panel."""
    return Panel(world.panel.url, "shop", PANEL_PASSWORD)


def record(world, kind: str) -> dict:
    name_column = actual.KINDS[kind][1]
    return next(r for r in world.panel.records(kind) if r[name_column] == NAMES[kind])


def id_of(world, kind: str) -> int:
    return int(record(world, kind)[actual.KINDS[kind][0]])


def change(hand, world, kind: str, **fields) -> None:
    method = f"{KINDS[kind].method}_update"
    hand._call(method, client_id=0, primary_id=id_of(world, kind), params=fields)


def check(world) -> None:
    """Do what `retry --check` does, and everything that follows."""
    before = len(world.panel.calls)
    accounts.check(ID)
    world.finish()
    methods = [method for method, _ in world.panel.calls[before:]]
    assert methods.count("client_update") == methods.count("client_add")
    actual.assert_panel_matches(world.shop, world.panel, ID, others=world.others)


def opens(world, kind: str) -> str:
    return world.panel.password_of(kind, id_of(world, kind))


def own_password(world, kind: str) -> str | None:
    sealed = world.row(kind).own_password_sealed
    return sealed and world.shop.vault.unseal(sealed)


# -- nothing to do ---------------------------------------------------------------------


def test_a_check_of_a_correct_panel_changes_nothing(world):
    before, calls = actual.everything(world.panel), len(world.panel.calls)
    check(world)
    assert actual.everything(world.panel) == before
    methods = [method for method, _ in world.panel.calls[calls:]]
    assert all("_get" in method for method in methods if method != "login")


# -- deleted ---------------------------------------------------------------------------


@pytest.mark.parametrize("kind", RECORDS)
def test_a_record_deleted_by_hand_is_made_again(world, hand, kind):
    before = kind in WITH_PASSWORD and opens(world, kind)
    hand.delete(kind, id_of(world, kind))
    check(world)
    if kind in WITH_PASSWORD:  # a new one, which the page can show
        assert own_password(world, kind) == opens(world, kind) != before


def test_records_of_a_deleted_site_move_to_the_new_one(world, hand):
    before = id_of(world, "site")
    hand.delete("site", before)
    check(world)
    assert id_of(world, "site") != before
    for kind in ("alias", "ftp", "shell", "database"):
        assert record(world, kind)["parent_domain_id"] == str(id_of(world, "site"))
    assert opens(world, "ftp") == "battery staple"


def test_a_database_gets_its_new_user(world, hand):
    hand.delete("database_user", id_of(world, "database_user"))
    check(world)
    user = str(id_of(world, "database_user"))
    assert record(world, "database")["database_user_id"] == user


def test_a_client_deleted_by_hand_is_made_again(world, hand):
    before = id_of(world, "client")
    hand.delete_client(before)
    check(world)
    assert id_of(world, "client") != before
    for kind in WITH_PASSWORD:
        assert own_password(world, kind) == opens(world, kind)


def test_everything_deleted_one_by_one_is_made_again(world, hand):
    for kind in reversed(RECORDS):
        hand.delete(kind, id_of(world, kind))
    hand.delete_client(id_of(world, "client"))
    check(world)


# -- changed ---------------------------------------------------------------------------


def test_fields_changed_by_hand_are_put_right(world, hand):
    before = actual.everything(world.panel)
    for kind in CHANGES:
        was = record(world, kind)
        change(hand, world, kind, **CHANGES[kind])
        assert record(world, kind) != was
    check(world)
    assert actual.everything(world.panel) == before


@pytest.mark.parametrize("kinds", HALVES, ids=" ".join)
def test_records_renamed_by_hand_get_their_names_back(world, hand, kinds):
    before = actual.everything(world.panel)
    for kind in kinds:
        renamed = {KINDS[kind].name: OTHER_NAMES[kind]}
        if kind == "mailbox":
            renamed["login"] = OTHER_NAMES[kind]
        change(hand, world, kind, **renamed)
    check(world)
    assert actual.everything(world.panel) == before


def test_records_switched_by_hand_are_switched_back(world, hand):
    before = actual.everything(world.panel)
    for kind in SWITCHES:
        change(hand, world, kind, active="n" if record(world, kind)["active"] == "y" else "y")
    check(world)
    assert actual.everything(world.panel) == before


def test_records_switched_on_by_hand_while_suspended_are_switched_off(world, hand):
    accounts.suspend(ID)
    world.finish()
    for kind in ("site", "alias", "ftp", "forward"):
        change(hand, world, kind, active="y")
    change(hand, world, "mailbox", disableimap="n", disablesmtp="n")
    check(world)


def test_a_client_opened_by_hand_is_left_alone_and_reported(world, hand):
    params = {"canceled": "n", "password": ""}
    hand._call("client_update", client_id=id_of(world, "client"), reseller_id=0, params=params)
    before = len(world.panel.calls)
    accounts.check(ID)
    world.round()
    assert [row.kind for row in progress.problems()] == ["client"]
    assert "may log in to the panel: cancel it there by hand" in progress.problems()[0].error
    assert "client_update" not in [method for method, _ in world.panel.calls[before:]]

    params["canceled"] = "y"
    hand._call("client_update", client_id=id_of(world, "client"), reseller_id=0, params=params)
    check(world)


def rename_client(hand, id: int, name: str) -> None:
    params = {"username": name, "password": ""}
    hand._call("client_update", client_id=id, reseller_id=0, params=params)


def test_a_renamed_client_is_not_made_a_second_time(world, hand):
    id = id_of(world, "client")
    rename_client(hand, id, "renamed")
    accounts.check(ID)
    world.round()
    (failing,) = progress.problems()
    assert failing.error == f"the client (id {id}) was renamed: call it {NAMES['client']} again"
    assert len(world.panel.records("client")) == 2  # the other one is the stranger's

    rename_client(hand, id, NAMES["client"])
    check(world)


def test_closing_waits_for_a_renamed_client(world, hand):
    id = id_of(world, "client")
    rename_client(hand, id, "renamed")
    accounts.close(ID)
    world.round()
    (problem,) = progress.problems()
    assert problem.error == f"the client (id {id}) was renamed: call it {NAMES['client']} again"

    rename_client(hand, id, NAMES["client"])
    world.finish()
    actual.assert_panel_matches(world.shop, world.panel, ID, others=world.others)


def add_double(world, hand, kind: str) -> int:
    """Add a second record of alice's, which the panel accepts only from two adds at once."""
    if kind != "forward":
        world.panel.faults.set("twice", f"{KINDS[kind].method}_add", times=1)
    client, site = id_of(world, "client"), id_of(world, "site")
    return add_foreign(hand, kind, NAMES[kind], client, site)


@pytest.mark.parametrize("kind", ["ftp", "forward"])
def test_a_double_made_by_hand_is_deleted(world, hand, kind):
    id = id_of(world, kind)
    add_double(world, hand, kind)
    check(world)
    assert id_of(world, kind) == id


@pytest.mark.parametrize("kind", ["shell", "database_user", "database", "mail_domain", "mailbox"])
def test_a_double_whose_deletion_would_lose_data_is_left_to_the_operator(world, hand, kind):
    before = actual.everything(world.panel)[kind]
    double = add_double(world, hand, kind)
    accounts.check(ID)
    world.round()
    (failing,) = progress.problems()
    assert failing.error.startswith("the panel has it 2 times (ids ")
    assert len(actual.everything(world.panel)[kind]) == len(before) + 1

    hand.delete(kind, double)
    check(world)
    assert actual.everything(world.panel)[kind] == before


# -- made before, and not known -------------------------------------------------------------------


def forget(kind: str, **facts) -> None:
    """Change a row as if its record had been made and never been noted."""
    nothing = {"panel_id": None, "applied_revision": 0, "applied_at": None}
    Service.update(nothing | facts).where(
        (Service.kind == kind) & (Service.name == NAMES[kind])
    ).execute()


@pytest.mark.parametrize("kinds", [("client",), *HALVES], ids=" ".join)
def test_existing_records_of_ours_are_adopted(world, kinds):
    before = {kind: id_of(world, kind) for kind in kinds}
    for kind in kinds:
        forget(kind)
    check(world)
    assert {kind: id_of(world, kind) for kind in kinds} == before


def test_adopted_records_get_our_passwords_and_settings(world, hand):
    before = {kind: id_of(world, kind) for kind in WITH_PASSWORD}
    for kind in WITH_PASSWORD:
        if kind in CHANGES:
            change(hand, world, kind, **CHANGES[kind])
        forget(kind, password_sealed=world.shop.vault.seal(f"a newer password for {kind}"))
    check(world)
    for kind in WITH_PASSWORD:
        assert id_of(world, kind) == before[kind]
        assert opens(world, kind) == f"a newer password for {kind}"


def give_away(world, hand, kinds) -> dict[str, int]:
    """Give these names to somebody else; returns the numbers of the new records."""
    for kind in kinds:
        hand.delete(kind, id_of(world, kind))
    return {kind: add_foreign(hand, kind, NAMES[kind]) for kind in kinds}


@pytest.mark.parametrize("kinds", HALVES, ids=" ".join)
def test_records_of_another_client_are_never_touched(world, hand, kinds):
    foreign = give_away(world, hand, kinds)
    before = {kind: record(world, kind) for kind in kinds}
    accounts.check(ID)
    world.round()
    problems = {problem.name for problem in progress.problems()}
    for kind, id in foreign.items():
        row = world.row(kind)
        assert row.error == f"its name exists at the panel and is another client's (id {id})"
        assert row.name in problems
        assert record(world, kind) == before[kind]
        hand.delete(kind, id)

    world.finish()
    check(world)


@pytest.mark.parametrize("kind", [k for k in RECORDS if k not in ("alias", "mailbox", "forward")])
def test_an_opening_leaves_records_of_another_client_alone(world, hand, kind):
    world.start("opening")
    foreign = add_foreign(hand, kind, SITE if kind in ("site", "mail_domain") else NAME)
    before = actual.everything(world.panel)[kind]
    world.round()
    failing = next(row for row in progress.problems() if row.kind == kind)
    assert failing.error == f"its name exists at the panel and is another client's (id {foreign})"
    assert actual.everything(world.panel)[kind] == before

    hand.delete(kind, foreign)
    world.finish()
    actual.assert_panel_matches(world.shop, world.panel, ID, others=world.others)


@pytest.mark.parametrize("kinds", HALVES, ids=" ".join)
def test_a_closing_leaves_records_of_another_client_alone(world, hand, kinds):
    foreign = give_away(world, hand, kinds)
    before = {kind: record(world, kind) for kind in kinds}
    accounts.close(ID)
    world.finish()
    assert {kind: record(world, kind) for kind in kinds} == before
    for kind, id in foreign.items():
        hand.delete(kind, id)
    actual.assert_panel_matches(world.shop, world.panel, ID, others=world.others)


# -- restored from a backup ------------------------------------------------------------

BOBS_NAMES = {
    "site": "bob.shop.test",
    "alias": "bob.example",
    "ftp": "ls_bob",
    "shell": "ls_bob",
    "database_user": "ls_bob",
    "database": "ls_bob",
    "mail_domain": "bob.example",
    "mailbox": "info@bob.example",
    "forward": "hello@bob.example",
}
DOINGS = {
    "check": lambda shop: accounts.check(ID),
    "close": lambda shop: accounts.close(ID),
    "suspend": lambda shop: accounts.suspend(ID),
    "remove": lambda shop: wanted.remove(ID, "database", NAME),
    "set a password": lambda shop: wanted.set_password(shop, ID, "ftp", NAME, "a new password"),
}


def restore_panel(world, backup: bytes) -> Panel:
    """Restore the panel's records of then; returns a connection of the operator's to it."""
    world.panel.go_back(backup)
    world.renew_line()
    return Panel(world.panel.url, "shop", PANEL_PASSWORD)


def add_numbered(world, hand, kind: str, id: int, client: int, site: int) -> None:
    """Add a record of bob's with this number."""
    world.panel.set_next_id(kind, id)
    assert add_foreign(hand, kind, BOBS_NAMES[kind], client, site) == id


@pytest.mark.parametrize(
    ("doing", "who"), list(zip(DOINGS, cycle(["ls_fedcba9876543210", "acme"]), strict=False))
)
def test_a_client_with_alices_numbers_after_a_restore_is_not_touched(world, doing, who):
    numbers = {kind: id_of(world, kind) for kind in NAMES}
    hand = restore_panel(world, world.empty[0])
    client = hand.add_client(who, "info@bob.example")
    hand.close_client_login(client)
    assert client == numbers["client"]
    for kind in RECORDS:
        add_numbered(world, hand, kind, numbers[kind], client, numbers["site"])
    others = actual.everything(world.panel)

    DOINGS[doing](world.shop)
    world.finish()
    actual.assert_panel_matches(world.shop, world.panel, ID, others=others)
    names = [client["username"] for client in world.panel.records("client")]
    assert (NAMES["client"] in names) == (doing != "close")


@pytest.mark.parametrize("doing", DOINGS)
def test_alice_from_a_backup_is_completed_beside_bob_with_her_newer_numbers(world, doing):
    numbers = {kind: id_of(world, kind) for kind in ("alias", "mail_domain", "forward")}
    hand = restore_panel(world, world.saved("growing", 1)[0])
    assert id_of(world, "client") == world.row("client").panel_id
    for kind, id in numbers.items():
        add_numbered(world, hand, kind, id, client=1, site=1)
    bobs = {kind: record_of(world, kind, id) for kind, id in numbers.items()}

    DOINGS[doing](world.shop)
    accounts.check(ID)
    world.finish()
    assert {kind: record_of(world, kind, id) for kind, id in numbers.items()} == bobs
    others = world.others | {kind: [*world.others[kind], bobs[kind]] for kind in bobs}
    actual.assert_panel_matches(world.shop, world.panel, ID, others=others)


def record_of(world, kind: str, id: int) -> dict:
    return dict(world.panel.find(kind, id).record)


def test_a_restored_shop_deletes_each_record_before_the_client(world):
    """Files of records that client_delete_everything deletes would stay on the server's disk."""
    expected = [
        (f"{KINDS[row.kind].method}_delete", row.panel_id)
        for row in services.of_account(ID)
        if row.kind != "client"
    ]
    Service.update(panel_id=None, applied_revision=0, applied_at=None).execute()
    Account.update(leases=0).execute()
    before = len(world.panel.calls)
    accounts.close(ID)
    world.finish()
    calls = world.panel.calls[before:]
    deletes = [(m, given.get("primary_id")) for m, given in calls if "_delete" in m]
    assert sorted(deletes[:-1]) == sorted(expected)
    assert deletes[-1][0] == "client_delete_everything"
    actual.assert_panel_matches(world.shop, world.panel, ID, others=world.others)


# -- moved to another client, or left without one --------------------------------------


def move(hand, kind: str, id: int, name: str, client: int) -> None:
    params = {KINDS[kind].name: name}
    hand._call(f"{KINDS[kind].method}_update", client_id=client, primary_id=id, params=params)


@pytest.mark.parametrize("kind", ["site", "ftp"])
def test_closing_waits_for_records_moved_to_another_client(world, hand, kind):
    id, client = id_of(world, kind), id_of(world, "client")
    move(hand, kind, id, NAMES[kind], client=1)
    before = record(world, kind)
    accounts.close(ID)
    for _ in range(3):
        world.wait()
        world.round()
    (problem,) = progress.problems()
    assert f"(id {id}) is another client's now" in problem.error
    assert record(world, kind) == before

    move(hand, kind, id, NAMES[kind], client)
    world.finish()
    actual.assert_panel_matches(world.shop, world.panel, ID, others=world.others)


def delete_orphans(world, hand) -> None:
    """Delete the records that have lost their client, as the operator would."""
    for row in services.of_account(ID):
        if row.kind != "client" and row.panel_id:
            hand.delete(row.kind, row.panel_id)


def assert_operator_is_told(world) -> None:
    """The problem is shown, and no round is followed by another one at once."""
    for _ in range(6):
        world.wait()
        world.round()
        assert world.account().reconcile_at > world.clock.moment
    assert "is another client's now" in progress.problems()[0].error


@pytest.mark.parametrize("is_checked", [False, True], ids=["", "checked"])
@pytest.mark.parametrize("is_half", [False, True], ids=["", "half"])
def test_closing_waits_for_records_that_a_deleted_client_has_left(world, hand, is_half, is_checked):
    if is_half:
        world.panel.half_make(id_of(world, "client"))
    else:
        hand._call("client_delete", client_id=id_of(world, "client"))
    left = actual.everything(world.panel)
    if is_checked:
        accounts.check(ID)
        assert_operator_is_told(world)
    accounts.close(ID)
    assert_operator_is_told(world)
    assert all(actual.everything(world.panel)[kind] == left[kind] for kind in RECORDS)

    delete_orphans(world, hand)
    world.finish()
    actual.assert_panel_matches(world.shop, world.panel, ID, others=world.others)


def test_a_client_that_lost_its_login_is_made_again_and_reported(world, hand):
    world.panel.half_make(id_of(world, "client"))
    before = len(world.panel.calls)
    accounts.check(ID)
    assert_operator_is_told(world)
    methods = [method for method, _ in world.panel.calls[before:]]
    assert methods.count("client_add") == 1

    delete_orphans(world, hand)
    world.finish()
    actual.assert_panel_matches(world.shop, world.panel, ID, others=world.others)


def test_removing_deletes_our_renamed_record_and_not_the_one_with_its_name(world, hand):
    id = id_of(world, "ftp")
    change(hand, world, "ftp", username="renamed")
    add_foreign(hand, "ftp", NAME)
    foreign = record(world, "ftp")
    wanted.remove(ID, "ftp", NAME)
    world.finish()
    assert world.panel.find("ftp", id) is None
    assert record(world, "ftp") == foreign


# -- another shop's settings -----------------------------------------------------------


@pytest.mark.parametrize("setting", [{"base_domain": "new.test"}, {"panel_prefix": "new_"}])
def test_an_account_of_earlier_settings_is_suspended_resumed_and_closed(
    world, monkeypatch, setting
):
    shop = world.shop
    changed = replace(shop, config=replace(shop.config, **setting))
    monkeypatch.setattr(world, "shop", changed)
    for step in (accounts.suspend, accounts.resume, accounts.suspend, accounts.close):
        step(ID)
        world.finish()
        actual.assert_panel_matches(shop, world.panel, ID, others=world.others)
