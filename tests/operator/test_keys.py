"""`flask rotate-key`: what the old key made stays valid until that key is forgotten."""

import pytest

from lightningspace import shop
from lightningspace.base import models
from lightningspace.base.config import ConfigError, from_env
from lightningspace.base.models import Account, Service, Token
from lightningspace.operator import keys
from lightningspace.outside import l402
from lightningspace.rules import tokens
from tests.conftest import at_once

PASSWORD = "battery staple"


@pytest.fixture
def env(env):
    """A shop that makes its own key."""
    return {name: value for name, value in env.items() if name != "SECRET_KEY"}


@pytest.fixture
def started(env, tmp_path):
    """Build the shop as a program that starts now would."""

    def started() -> shop.Shop:
        built = shop.build(from_env(env, tmp_path))
        shop.settle_in(built)
        return built

    return started


def sealed() -> list[str]:
    columns = [(table, column.name) for table, column in keys.SEALED]
    found = [getattr(row, name) for table, name in columns for row in table.select()]
    return [each for each in found if each]


def test_what_the_old_key_made_is_valid_until_the_key_is_forgotten(
    this_shop, alice, started, tmp_path, app
):
    def run(*options) -> list[str]:
        app.extensions["shop"], app.instance_path = started(), str(tmp_path)
        answer = app.test_cli_runner().invoke(args=["rotate-key", *options])
        assert answer.exit_code == 0, answer.output
        return answer.output.splitlines()

    old_key = this_shop.config.secret_key
    Account.update(password_sealed=this_shop.vault.seal(PASSWORD)).execute()
    Service.update(password_sealed=this_shop.vault.seal(PASSWORD)).where(
        Service.kind == "ftp"
    ).execute()
    tokens.hand_out(this_shop, alice.id, "helper", l402.WHOLE)
    assert "restart web and worker now" in run()[0]
    changed = started()
    assert changed.config.secret_key != old_key
    assert changed.config.secret_key_fallbacks == (old_key,)
    assert tokens.text_of(changed, Token.get())
    assert [changed.vault.unseal(each) for each in sealed()] == [PASSWORD] * 2

    assert run("--forget")[0].startswith("2 passwords that wait")
    forgetful = started()
    assert forgetful.config.secret_key == changed.config.secret_key
    assert forgetful.config.secret_key_fallbacks == ()
    assert [forgetful.vault.unseal(each) for each in sealed()] == [PASSWORD] * 2
    with pytest.raises(l402.Void):
        tokens.text_of(forgetful, Token.get())
    assert run("--forget")[-1] == "there are no older keys"
    assert sorted(path.name for path in tmp_path.glob("secret-key*")) == ["secret-key"]


def test_a_password_that_no_key_opens_does_not_hold_up_the_others(this_shop, alice):
    odd = "not sealed by us"
    Account.update(password_sealed=odd).execute()
    Service.update(own_password_sealed=this_shop.vault.seal(PASSWORD)).where(
        Service.kind == "ftp"
    ).execute()
    before = sealed()
    assert keys.reseal(this_shop.vault) == 1
    assert odd in sealed() and len(set(sealed()) & set(before)) == 1


def test_a_rotation_that_was_killed_or_came_twice_loses_no_key(this_shop, env, tmp_path):
    path, old = tmp_path / "secret-key", tmp_path / "secret-key.old"
    first = path.read_text().strip()
    old.write_text(f"{first}\n")  # as if killed between the two steps
    assert from_env(env, tmp_path).secret_key_fallbacks == (first,)
    keys.rotate(tmp_path)
    second = path.read_text().strip()
    assert old.read_text().split() == [first]
    at_once(lambda: keys.rotate(tmp_path), lambda: keys.rotate(tmp_path))
    third, *known = old.read_text().split()
    assert known == [second, first]
    assert len({first, second, third, path.read_text().strip()}) == 4
    assert {each.stat().st_mode & 0o777 for each in (path, old)} == {0o600}


def test_older_keys_are_used_with_the_key_file_alone(this_shop, env, tmp_path):
    keys.rotate(tmp_path)
    own = from_env(env | {"SECRET_KEY": "k" * 32}, tmp_path)
    assert own.secret_key_fallbacks == ()
    assert from_env(env | {"SECRET_KEY_FALLBACKS": ""}, tmp_path).secret_key_fallbacks == ()
    (tmp_path / "secret-key.old").write_text("short")
    with pytest.raises(ConfigError, match="^SECRET_KEY_FALLBACKS names a file that is not usable"):
        from_env(env, tmp_path)


def test_a_key_in_the_settings_is_changed_there(app, env, tmp_path):
    own = from_env(env | {"SECRET_KEY": "k" * 32}, tmp_path)
    models.open_database(own.database_url)
    app.extensions["shop"], app.instance_path = shop.build(own), str(tmp_path)
    before = (tmp_path / "secret-key").read_text()
    answer = app.test_cli_runner().invoke(args=["rotate-key"])
    assert answer.exit_code == 1 and "SECRET_KEY_FALLBACKS=<the key that" in answer.output
    assert "k" * 32 not in answer.output
    assert (tmp_path / "secret-key").read_text() == before
    answer = app.test_cli_runner().invoke(args=["rotate-key", "--forget"])
    assert answer.output.splitlines()[-1] == "there are no older keys"
