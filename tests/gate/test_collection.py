"""Folders of disks whose time and grace period are over: which are deleted, and when."""

import os
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from lightningspace.base import clock
from lightningspace.base.gate_models import GateDisk
from lightningspace.base.models import Fact
from lightningspace.gate import collection, disks, services
from lightningspace.gate.collection import ASIDE, Collection
from lightningspace.rules import clock_watch
from lightningspace.worker import Worker
from tests.conftest import eventually

GATE = """
[[service]]
name = "my-disk"
location = "/my/disk/"
disk = "{folder}/disk"
quota_mb = 2
price_sat = 50
time = "1 day"
grace = "3 days"
"""
DAY = 86400


@pytest.fixture
def one_disk(tmp_path, app):
    """A service with a disk, whose folder exists."""
    (tmp_path / "disk").mkdir()
    (tmp_path / "gate.toml").write_text(GATE.format(folder=tmp_path))
    [service] = services.read(tmp_path / "gate.toml").services
    return service


def pass_without_a_gap(time_machine, seconds: int) -> None:
    """Let time pass that the calendar has watched."""
    time_machine.forward(seconds)
    clock_watch.wake()
    Fact.update(value="0").where(Fact.name == clock_watch.UNBROKEN).execute()


def filled(disk, whose: str, depth: int = 3) -> Path:
    """A folder that is paid until now, with nested folders that each hold a file."""
    disks.note(disk.name, whose, clock.now())
    below, name = os.open(disk.disk, os.O_RDONLY), whose
    for _ in range(depth):
        os.mkdir(name, dir_fd=below)
        above, below = below, os.open(name, os.O_RDONLY, dir_fd=below)
        os.close(above)
        os.mknod("file", dir_fd=below)
        name = "below"
    os.close(below)
    return Path(disk.disk, whose)


@pytest.fixture
def collect(one_disk, tmp_path):
    return Collection(services.read(tmp_path / "gate.toml"))


@pytest.mark.each_database
def test_a_folder_is_deleted_when_its_grace_period_is_over(one_disk, collect, time_machine):
    alices, bobs = filled(one_disk, "aa" * 32), filled(one_disk, "bb" * 32)
    pass_without_a_gap(time_machine, 3 * DAY - 1)
    collect.look()
    assert alices.exists() and bobs.exists()
    disks.note(one_disk.name, "bb" * 32, clock.now() + DAY)  # its owner has renewed
    disks.note(one_disk.name, "bb" * 32, clock.now() - 4 * DAY)  # and shows the old credential, too
    pass_without_a_gap(time_machine, 1)
    collect.look()
    assert not alices.exists() and bobs.exists()
    assert [row.token_id for row in GateDisk.select()] == ["bb" * 32]
    assert not os.listdir(Path(one_disk.disk, ASIDE))


def test_after_a_gap_nothing_is_deleted_before_a_whole_grace_period(
    one_disk, collect, time_machine
):
    made = filled(one_disk, "aa" * 32)
    clock_watch.wake()
    time_machine.forward(30 * DAY)  # the clock leaps, or the database is last month's
    collect.look()
    assert made.exists()
    pass_without_a_gap(time_machine, 3 * DAY)
    collect.look()
    assert not made.exists()


@pytest.mark.each_database
def test_renewing_at_the_moment_of_deletion_keeps_the_files(one_disk, collect, time_machine):
    made = filled(one_disk, "aa" * 32)
    pass_without_a_gap(time_machine, 4 * DAY)
    assert collection.due(one_disk) == ["aa" * 32]
    disks.note(one_disk.name, "aa" * 32, clock.now() + DAY)
    collection.put_aside(one_disk, "aa" * 32)
    assert made.exists() and GateDisk.select().count() == 1


def test_a_killed_deletion_is_continued(one_disk, tmp_path, time_machine):
    read = services.read(tmp_path / "gate.toml")
    filled(one_disk, "aa" * 32, depth=1000)  # deeper than any path can be long
    made = filled(one_disk, "bb" * 32)
    pass_without_a_gap(time_machine, 4 * DAY)
    looks, is_left = 0, True
    while is_left:
        steps = [None] * 300
        Collection(read).look(lambda left=steps: not left or left.pop())
        looks += 1
        is_left = GateDisk.select().exists() or os.listdir(Path(one_disk.disk, ASIDE))
    assert looks > 5 and not made.exists()
    # As if killed after the folder was put aside and before its row was deleted.
    disks.note(one_disk.name, "aa" * 32, clock.now() - 4 * DAY)
    Collection(read).look()
    assert not GateDisk.select().exists()


def test_no_link_leads_a_deletion_astray(one_disk, collect, time_machine, tmp_path, caplog):
    outside = tmp_path / "outside"
    (outside / "sub").mkdir(parents=True)
    (outside / "file").write_text("kept")
    made = filled(one_disk, "aa" * 32)
    (made / "link").symlink_to(outside)
    (made / "below" / "file-link").symlink_to(outside / "file")
    Path(one_disk.disk, "bb" * 32).symlink_to(outside)
    disks.note(one_disk.name, "bb" * 32, clock.now())
    aside = Path(one_disk.disk, ASIDE)
    aside.symlink_to(outside)
    pass_without_a_gap(time_machine, 4 * DAY)
    for _ in range(2):
        collect.look()
    assert made.exists() and GateDisk.select().count() == 2
    assert len([each for each in caplog.records if "cannot be deleted" in each.message]) == 4
    aside.unlink()
    collect.look()
    assert os.listdir(one_disk.disk) == [ASIDE] and not os.listdir(aside)
    assert (outside / "file").read_text() == "kept" and (outside / "sub").is_dir()


def test_the_worker_deletes_folders_by_itself(one_disk, tmp_path, time_machine, this_shop):
    made = filled(one_disk, "aa" * 32)
    pass_without_a_gap(time_machine, 3 * DAY)
    config = replace(this_shop.config, gate_config=tmp_path / "gate.toml")
    worker = Worker(replace(this_shop, config=config))
    thread = threading.Thread(target=worker.run)
    thread.start()
    eventually(lambda: not made.exists())
    worker.stop()
    thread.join(20)


def test_the_operator_is_told_of_folders_that_cannot_be_deleted(
    one_disk, collect, time_machine, tmp_path
):
    gate_toml = tmp_path / "gate.toml"
    filled(one_disk, "aa" * 32)
    assert collection.problems(gate_toml) == []
    Path(one_disk.disk, ASIDE).write_text("in the way")
    pass_without_a_gap(time_machine, 3 * DAY + 3601)
    collect.look()
    [told] = collection.problems(gate_toml)
    assert "my-disk" in told
    disks.note("of-old", "cc" * 32, clock.now())
    assert "1 folders are kept" in collection.problems(gate_toml)[-1]
