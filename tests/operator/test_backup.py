"""`flask backup` and `flask restore`: everything comes back, or nothing does."""

import io
import json
import os
import secrets
import shlex
import shutil
import sqlite3
import subprocess
import tarfile
from contextlib import closing
from pathlib import Path

import pytest

from lightningspace import shop
from lightningspace.base import models, schema
from lightningspace.base.config import from_env
from lightningspace.base.models import Account, Cursor, Fact, Server, set_fact
from lightningspace.base.tables import TABLES
from lightningspace.operator import backup, restore
from lightningspace.rules import restored
from tests.base.test_copying import all_rows, full  # noqa: F401
from tests.conftest import debian_program, eventually, with_settings
from tests.programs import Program

KEY = "a key of the tests that is long enough"


@pytest.fixture
def place(tmp_path) -> Path:
    """The instance directory of the shop that is restored to."""
    place = tmp_path / "place"
    place.mkdir()
    return place


@pytest.fixture
def there(env, place, database_kind, request):
    """The settings of the shop that is restored to, whose database is empty."""
    url = f"sqlite:///{place / 'shop.sqlite3'}"
    if database_kind == "postgresql":
        url = request.getfixturevalue("empty_postgresql")("restored")
    return env | {"DATABASE_URL": url}


def made(this_shop, env, tmp_path, **more) -> Path:
    return backup.make(this_shop, env, tmp_path, tmp_path / "backups", **more)


def members(path: Path) -> dict[str, bytes]:
    with tarfile.open(path) as tar:
        return {member.name: tar.extractfile(member).read() for member in tar}


def fill(there, place, archive: bytes | Path):
    models.db.close()
    config = from_env(there, place)
    models.open_database(config.database_url)
    content = archive.read_bytes() if isinstance(archive, Path) else archive
    try:
        return restore.fill(config, place, io.BufferedReader(io.BytesIO(content)))
    finally:
        models.db.close()


def packed(archive: Path, **changed) -> bytes:
    """The archive with other values in its manifest."""
    content = members(archive)
    manifest = json.loads(content["manifest.json"]) | changed
    content["manifest.json"] = json.dumps(manifest).encode()
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as tar:
        for name, data in content.items():
            tar.addfile(backup._member(name, len(data)), io.BytesIO(data))
    return file.getvalue()


# -- everything ------------------------------------------------------------------------


@pytest.mark.each_database
def test_every_row_comes_back_and_nothing_is_sold(
    full,  # noqa: F811
    this_shop,
    env,
    tmp_path,
    there,
    place,
):
    archive = made(this_shop, env, tmp_path)
    assert archive.stat().st_mode & 0o777 == 0o600
    assert fill(there, place, archive).is_older is False
    models.open_database(there["DATABASE_URL"])
    schema.check(models.db.obj)
    assert restored.since()
    assert restored.end()
    assert all_rows() == full
    indexes = {i.name for table in TABLES for i in models.db.get_indexes(table._meta.table_name)}
    assert {"accounts_due", "orders_opening"} <= indexes
    assert os.listdir(tmp_path / "backups") == [archive.name]
    assert not list(tmp_path.glob("backup-*")) and not list(place.glob("*restoring*"))


@pytest.fixture
def documents(tmp_path, more_settings):
    terms = tmp_path / "my terms.md"
    terms.write_text("Be nice.")
    more_settings |= {
        "TERMS_FILE": str(terms),
        "SMTP_URL": "smtp://shop:mailed-secret@mail.test:25",
    }
    more_settings |= {"RESERVED_NAMES": ",".join(f"name{number}" for number in range(99))}
    more_settings |= {"SHOP_NAME": "Bob's; $HOME"}
    return terms


def test_a_backup_has_settings_and_documents_and_no_secret(documents, this_shop, env, tmp_path):
    env = env | {"DATABASE_URL": "postgresql://shop:db-secret@db/shop?password=db-secret&a=b"}
    content = members(made(this_shop, env, tmp_path))
    assert content[f"documents{documents}"] == b"Be nice."
    settings = content["settings.env"].decode()
    assert "DATABASE_URL='postgresql://shop@db/shop?a=b'" in settings
    assert "# PANEL_PASSWORD is not kept here" in settings
    everything = b"".join(content.values())
    for secret in (KEY, "sandbox-panel", "mailed-secret", "db-secret"):
        assert secret.encode() not in everything
    read = subprocess.run(
        ["sh", "-c", f'. {shlex.quote(str(_written(tmp_path, settings)))}; echo "$SHOP_NAME"'],
        capture_output=True,
        text=True,
        check=True,
    )
    assert read.stdout == "Bob's; $HOME\n"

    whole = members(made(this_shop, env, tmp_path, with_key=True))
    assert whole["secret-key"].decode().strip() == KEY
    assert "PANEL_PASSWORD=sandbox-panel\n" in whole["settings.env"].decode()


def _written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "settings.env"
    path.write_text(text)
    return path


def test_a_backup_with_the_key_restores_the_key(this_shop, env, tmp_path, there, place):
    """The new shop has made a key of its own, which protects nothing yet."""
    del there["SECRET_KEY"]
    archive = made(this_shop, env, tmp_path)
    whole = backup.make(this_shop, env, tmp_path, tmp_path / "whole", with_key=True)
    with pytest.raises(restore.RestoreFailed, match="of another SECRET_KEY: put that one into"):
        fill(there, place, archive)
    assert (place / "secret-key").read_text().strip() != KEY
    fill(there, place, whole)
    assert (place / "secret-key").read_text().strip() == KEY
    config = from_env(there, place)
    models.open_database(config.database_url)
    shop.settle_in(shop.build(config))  # raises WrongKey if it is another key


def test_unfinished_writes_of_others_are_not_in_a_backup(this_shop, env, tmp_path, there, place):
    Server.create(id=7, capacity_mb=1)
    with closing(sqlite3.connect(tmp_path / "shop.sqlite3")) as writer, writer:
        writer.execute("UPDATE servers SET capacity_mb = 2 WHERE id = 7")
        archive = made(this_shop, env, tmp_path)
    fill(there, place, archive)
    models.open_database(there["DATABASE_URL"])
    assert Server.get_by_id(7).capacity_mb == 1


def test_the_newest_backups_are_kept(this_shop, env, tmp_path, time_machine, runner, app):
    app.instance_path, before = str(tmp_path), app.instance_path
    directory = tmp_path / "backups"
    others = [directory / "lightning-space-other.example-20260101-000000.tar.gz"]
    others.append(directory / "lightning-space-localhost-notes.txt")
    said = ""
    for _ in range(4):
        answer = runner.invoke(args=["backup", str(directory), "--keep", "2"], env=env)
        assert answer.exit_code == 0, answer.output
        said += answer.output
        time_machine.forward(1)
        for each in others:
            each.touch()
    app.instance_path = before
    ours = sorted(set(directory.iterdir()) - set(others))
    assert len(ours) == 2 and said.count("deleted") == 2
    assert all(each.exists() for each in others)
    assert said.splitlines()[-2] == str(ours[-1])


# -- encrypted -------------------------------------------------------------------------


def test_an_encrypted_backup_needs_its_key(this_shop, env, tmp_path, there, place, request):
    age = debian_program("age", "age")
    subprocess.run(["age-keygen", "-o", tmp_path / "key"], check=True, capture_output=True)
    public = subprocess.run(
        ["age-keygen", "-y", tmp_path / "key"], check=True, capture_output=True, text=True
    ).stdout.strip()
    secretive = shop.build(from_env(env | {"BACKUP_AGE_RECIPIENT": public}, tmp_path))
    archive = made(secretive, env, tmp_path)
    assert archive.name.endswith(".tar.gz.age")
    with pytest.raises(restore.RestoreFailed, match="it is encrypted: age -d|is encrypted: age -d"):
        fill(there, place, archive)
    opened = subprocess.run([age, "-d", "-i", tmp_path / "key", archive], capture_output=True)
    fill(there, place, opened.stdout)
    models.open_database(there["DATABASE_URL"])
    assert restored.since()

    broken = shop.build(from_env(env | {"BACKUP_AGE_RECIPIENT": "age1abcdefgh"}, tmp_path))
    with pytest.raises(backup.BackupFailed, match="^age: .*malformed recipient"):
        made(broken, env, tmp_path)
    assert [path.name for path in (tmp_path / "backups").iterdir()] == [archive.name]


@with_settings(BACKUP_AGE_RECIPIENT="age1abcdefgh")
def test_without_age_nothing_is_written_in_the_clear(this_shop, env, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(backup.BackupFailed, match="apt-get install age"):
        made(this_shop, env, tmp_path)
    assert not (tmp_path / "backups").exists()


# -- refused archives ------------------------------------------------------------------


@pytest.mark.each_database
def test_an_archive_that_does_not_fit_is_refused_and_restores_nothing(
    this_shop, env, tmp_path, there, place, subtests, database_kind
):
    Cursor.create(node_id="node", pay_index=0)
    archive = made(this_shop, env, tmp_path)
    good = archive.read_bytes()
    middle = len(good) // 2
    other = "postgresql" if database_kind == "sqlite" else "sqlite"
    table = {
        "no archive": (b"hello", "damaged, or none of"),
        "nothing": (b"", "damaged, or none of"),
        "cut short": (good[: len(good) // 2], "damaged"),
        "a wrong byte": (good[:middle] + b"\0\xff" + good[middle + 2 :], "damaged"),
        "a newer form": (packed(archive, format=2), "of a newer version"),
        "a newer schema": (packed(archive, migrations=["0001", "9999"]), "of a newer version"),
        "another database": (packed(archive, database_sha256="00"), "not whole"),
        "another kind": (packed(archive, database=other), f"is of {other}, and DATABASE_URL is"),
        "another key": (packed(archive, key="00"), "of another SECRET_KEY"),
        "another prefix": (packed(archive, panel_prefix="other_"), "PANEL_PREFIX was other_ there"),
    }
    for what, (content, says) in table.items():
        with subtests.test(what):
            with pytest.raises(restore.RestoreFailed, match=says):
                fill(there, place, content)
            models.open_database(there["DATABASE_URL"])
            assert models.db.get_tables() == []
            models.db.close()
    assert fill(there, place, packed(archive, migrations=["0001"])).is_older is True
    with pytest.raises(restore.RestoreFailed, match="is not empty"):
        fill(there, place, good)


@pytest.mark.each_database
def test_only_a_database_that_was_just_made_can_be_restored_to(
    this_shop, env, tmp_path, there, place, database_kind
):
    Server.create(id=7, capacity_mb=1)
    archive = made(this_shop, env, tmp_path)
    models.db.close()
    config = from_env(there, place)
    models.open_database(config.database_url)
    models.init_db()
    shop.settle_in(shop.build(config))
    Cursor.create(node_id="node", pay_index=0)
    with pytest.raises(restore.RestoreFailed, match="is not empty"):
        fill(there, place, archive)
    models.open_database(config.database_url)
    Cursor.delete().execute()
    models.db.close()
    if database_kind == "sqlite":
        with closing(sqlite3.connect(place / "shop.sqlite3")) as other:  # as if a program ran
            other.execute("SELECT * FROM facts").fetchall()
            with pytest.raises(restore.RestoreFailed, match="database is locked"):
                fill(there, place, archive)
    fill(there, place, archive)
    models.open_database(config.database_url)
    assert Server.get_by_id(7).capacity_mb == 1 and restored.since()


def test_a_damaged_database_is_reported(this_shop, env, tmp_path):
    Fact.insert_many({"name": str(n), "value": "x" * 500} for n in range(100)).execute()
    models.db.close()
    path = tmp_path / "shop.sqlite3"
    with closing(sqlite3.connect(path)) as database:
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    content = bytearray(path.read_bytes())
    content[-6000:-5000] = b"x" * 1000
    path.write_bytes(content)
    with pytest.raises(backup.BackupFailed, match="the database is damaged|malformed"):
        made(this_shop, env, tmp_path)
    assert not list((tmp_path / "backups").iterdir())


# -- killed ----------------------------------------------------------------------------


def stuck(tmp_path: Path, name: str, script: str) -> dict[str, str]:
    """A PATH with a program that hangs half-way, after it has made the file `stuck`."""
    programs = tmp_path / "programs"
    programs.mkdir()
    path = programs / name
    path.write_text(
        f"#!/bin/sh\n{script}\ntouch {shlex.quote(str(tmp_path / 'stuck'))}\nsleep 99\n"
    )
    path.chmod(0o755)
    return {"PATH": f"{programs}:{os.environ['PATH']}"}


def killed(arguments: list[str], env: dict[str, str], tmp_path: Path, is_there) -> None:
    program = Program(["flask", "--app", "wsgi", *arguments], os.environ | env, tmp_path / "said")
    try:
        eventually(is_there)
    finally:
        program.kill()


def test_a_killed_backup_leaves_no_file_with_the_name_of_a_backup(this_shop, env, tmp_path):
    models.db.close()
    env |= {"BACKUP_AGE_RECIPIENT": "age1abcdefgh"}
    env |= stuck(tmp_path, "age", "head -c 500")
    directory = tmp_path / "backups"
    killed(["backup", str(directory)], env, tmp_path, (tmp_path / "stuck").exists)
    [draft] = directory.iterdir()
    assert draft.name.startswith(".lightning-space-") and draft.name.endswith(".draft")
    archive = made(this_shop, env, tmp_path)
    assert list(directory.iterdir()) == [archive]


@pytest.mark.each_database
def test_a_killed_restore_can_be_run_again(this_shop, env, tmp_path, there, place, database_kind):
    set_fact("much", secrets.token_hex(200_000))
    archive = made(this_shop, env, tmp_path)
    models.db.close()
    if database_kind == "postgresql":
        real = shutil.which("pg_restore")
        there = there | stuck(tmp_path, "pg_restore", f'{real} "$@" | head -c 9000')
        killed(["restore", str(archive)], there, tmp_path, (tmp_path / "stuck").exists)
    else:
        pipe = tmp_path / "archive"
        os.mkfifo(pipe)
        draft = place / "shop.sqlite3.restoring"
        half = archive.read_bytes()[:-100_000]

        arguments = ["flask", "--app", "wsgi", "restore", str(pipe)]
        program = Program(arguments, os.environ | there, tmp_path / "said")
        with pipe.open("wb", buffering=0) as writer:
            writer.write(half)
            eventually(draft.exists)
            program.kill()
    models.open_database(there["DATABASE_URL"])
    assert models.db.get_tables() == []
    models.db.close()
    if database_kind == "sqlite":
        (place / "shop.sqlite3").unlink()
    fill(there, place, archive)
    models.open_database(there["DATABASE_URL"])
    assert restored.since() and Account.select().count() == 0
