"""The settings: a wrong one stops the start and is named, and the secret key is made once."""

import re
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from app import create_app
from lightningspace import shop
from lightningspace.base import models, settings, settings_page
from lightningspace.base.config import Config, ConfigError, from_env
from lightningspace.base.models import Account, Fact, Wallet
from lightningspace.rules import capacity, hostnames, orders
from lightningspace.shop import SettingInUse, WrongKey
from tests.conftest import place_order, wish
from tests.programs import Program

ROOT = Path(__file__).parents[2]

NEEDED = {
    "PUBLIC_URL": "https://shop.example",
    "BASE_DOMAIN": "space.example",
    "LIGHTNING_RPC": "/run/lightning-rpc",
    "PANEL_URL": "https://panel.example:8080",
    "PANEL_USER": "shop",
    "PANEL_PASSWORD": "panel-password",
    "CAPACITY_MB": "1000",
    "SECRET_KEY": "a key of the tests that is long enough",
}

NO_NUMBERS = ("", "x", "-1", "1.5", "1e3", "٣", "1_0", "9" * 13, "9" * 5000, "0x10")
NO_LIMITS = (
    "",
    "x",
    "20",
    "per minute",
    "20 per year",
    "-1 per minute",
    "20/minute",
    "1.5 per day",
)

WRONG = {
    "PUBLIC_URL": (
        *("", "shop.example", "ftp://shop.example", "https://", "https://shop.example/a"),
        *("http://shop.example", "http://192.168.1.2", "http://[fd00::1]", "http://onion"),
    ),
    "BASE_DOMAIN": ("", "localhost", "Shop.Example", "shop.example.", "a b.example", "-a.example"),
    "SHOP_NAME": ("", "a\nb", "a\u202eb", "x" * 41),
    "CONTACT": ("nobody", "a b@shop.example", "javascript:alert(1)", 'https://x.example/"onclick'),
    "ABUSE_CONTACT": ("nobody", "@", "ftp://shop.example"),
    "TERMS_FILE": ("/no/such/file", "/", "/dev/null"),
    "PRIVACY_FILE": ("/no/such/file", "/", sys.executable),
    "IMPRINT_FILE": ("/no/such/file", "/"),
    "INDEX_402_VERIFY": ("x", "ab" * 31, "AB" * 32, "ab" * 32 + "<"),
    "ADMIN_MAIL": ("nobody", "a@b, c@d", "admin@shop.example"),  # the last lacks SMTP_URL
    "BACKUP_AGE_RECIPIENT": ("age", "-r", "AGE-SECRET-KEY-1ABCDEFGH", "age1abcdefgh,", "/key.pub"),
    "OPERATOR_PASSWORD_HASH": ("secret", "scrypt:32768:8:1", "pbkdf2:sha256:1$abcdefgh$00"),
    "ADMIN_WEBHOOK": (
        *("hooks.example", "http://hooks.example/", "ftp://hooks.example"),
        "https://hooks.example/",  # lacks ADMIN_WEBHOOK_SECRET
    ),
    "ADMIN_WEBHOOK_SECRET": ("short", "ü" * 20),
    "SOURCE_URL": ("shop.example", "javascript:alert(1)", "https://"),
    "WEBMAIL_URL": ("mail.shop.example", "javascript:alert(1)", "https://a b.example/"),
    "PHPMYADMIN_URL": ("/phpmyadmin", "ftp://shop.example", "https://"),
    "FILES_URL": ("files.shop.example", "data:text/html,x"),
    "DATABASE_URL": (
        *("", "shop.sqlite3", "sqlite:///", "mysql://x/y", "postgresql://"),
        *("postgresql://shop:secret@db.example", "postgresql://shop:1?secret@db.example/shop"),
        "postgresql://shop:1/secret@db.example/shop",
    ),
    "SECRET_KEY": ("", "short", "        "),
    "SECRET_KEY_FALLBACKS": ("short", "long enough,short", "long enough,"),
    "LIGHTNING_RPC": ("", " "),
    "LABEL_PREFIX": ("", "x", "A-", "a b-", "a" * 41 + "-"),
    "PANEL_URL": ("", "panel.example", "ftp://panel.example", "https://"),
    "PANEL_USER": ("",),
    "PANEL_PASSWORD": ("", "short"),
    "PANEL_VERIFY_TLS": ("", "yes", "True", "0", "/no/such/file", __file__),
    "PANEL_PREFIX": ("", "ls", "LS_", "1_", "toolong_", "l-s_"),
    "WALLS": ("", "none", "Narrow", "mpm-itk"),
    "SITES_TLS": ("", "true", "Wildcard", "lets-encrypt"),
    "CERTIFICATE_MIN_DAYS": (*NO_NUMBERS, "36501"),
    "CERTIFICATES_PER_WEEK": (*NO_NUMBERS, "1000001"),
    "METRICS_TOKEN": ("short", "x" * 19, "with space " * 3, "x" * 300, "ü" * 20),
    "WORKER_METRICS": ("9101", "localhost:9101", "127.0.0.1:0", "127.0.0.1:70000", "127.0.0.1"),
    "WALLS_CHECK": ("", "daily", "true"),
    "PANEL_SERVER_ID": ("", "0", "x", "1,1", "1,,2", "-1"),
    "SERVER_HOSTS": ("nodots", "Host.Example", "a.example,b.example"),
    "REFUSED_NAMES": ("/no/such/file", "/", sys.executable, __file__),
    "EVIDENCE_DAYS": ("0", "3651", *NO_NUMBERS),
    "SERVER_ADDRESSES": ("server1.example", "203.0.113.5/24", "203.0.113.5,,", "a,b"),
    "NEW_HOSTINGS_PER_HOUR": ("1000001", *NO_NUMBERS),
    "RESERVED_NAMES": ("Server1", "server1.shop.example", "a b", "a,,b", "a" * 64),
    "CAPACITY_MB": (*NO_NUMBERS, "1,2"),
    "JAIL_MB": NO_NUMBERS,
    "SPACE_SIZES_MB": (*NO_NUMBERS, "9", "100,", "100,x"),
    "PRICE_MSAT_PER_DAY": NO_NUMBERS,
    "PRICE_MSAT_PER_GB_DAY": NO_NUMBERS,
    "FIAT": ("eur", "EURO", "E", "€", "EU1", "EUR"),
    "FIAT_RATE": (*"x 0 0.0 -1 NaN 1e5 1,5 .5 60000. ٣ 0x10 Infinity".split(), "9" * 13, "60000"),
    "FIAT_RATE_URL": (
        *("x", "rates.example#EUR", "https://rates.example", "https://rates.example/#"),
        *("http://rates.example/#EUR", "https://rates.example/#a..b", "https://#EUR"),
        *("https://a@rates.example/#EUR", "ftp://rates.example/#EUR", "https://a b/#EUR"),
        "https://rates.example/#EUR",
    ),
    "ADDRESSES_INCLUDED": (*NO_NUMBERS, "0", "10001"),
    "PRICE_MSAT_PER_ADDRESS_DAY": (*NO_NUMBERS, "1000000001"),
    "DOMAINS_INCLUDED": (*NO_NUMBERS, "10001"),
    "PRICE_MSAT_PER_DOMAIN_DAY": (*NO_NUMBERS, "1000000001"),
    "DNS_SERVERS": (
        *("x", "dns.example", "9.9.9", "9.9.9.9:", "9.9.9.9:0", "9.9.9.9:65536", "9.9.9.9:x"),
        *("9.9.9.9:53:53", "[::1]:53", "9.9.9.9,", ",9.9.9.9", "9.9.9.9 1.1.1.1", ":53", "::1#53"),
    ),
    "SMTP_URL": (
        *("mail.example", "http://mail.example", "smtp://", "smtp://:25", "smtp://mail.example/x"),
        *("smtp://mail.example:0", "smtp://mail.example:x", "smtp://mail.example:65536"),
        *("smtp://mail.example?x", "smtp://mail.example#x", "smtp://mail example"),
        *("smtp://shop:pa/ss@mail.example", "smtp://shop:pa#ss@mail.example"),
    ),
    "SMTP_VERIFY_TLS": ("", "yes", "True", "0", "/no/such/file", __file__, "/"),
    "MAIL_FROM": (
        *("", "hosting", "@shop.example", "hosting@", "Shop <hosting@shop.example>"),
        *(
            "a@b@shop.example",
            "hosting@shop.example, x@shop.example",
            "hosting@shop.example\nBcc: x",
        ),
    ),
    "GRACE_DAYS": (*NO_NUMBERS, "3651"),
    "HORIZON_DAYS": (*NO_NUMBERS, "759", "36501"),
    "SWEEP_LIMIT": (*NO_NUMBERS, "0", "101"),
    "INVOICE_MINUTES": (*NO_NUMBERS, "0", "1", "1441"),
    "UNPAID_PER_CLIENT": (*NO_NUMBERS, "0"),
    "MAIL_SEND_MIN_DAYS": NO_NUMBERS,
    "NAME_QUARANTINE_DAYS": NO_NUMBERS,
    "WORKER_THREADS": (*NO_NUMBERS, "0", "65"),
    "PROXY_HOPS": (*NO_NUMBERS, "11"),
    "RATE_LIMIT_STORAGE": ("", "nonsense", "memory", "redis://", "memcached://x", "redis:// x"),
    "ORDERS_LIMIT": NO_LIMITS,
    "ORDERS_LIMIT_OVERALL": NO_LIMITS,
    "LOGINS_LIMIT": NO_LIMITS,
    "LOGINS_LIMIT_OVERALL": NO_LIMITS,
    "CHANGES_LIMIT": NO_LIMITS,
    "CHANGES_LIMIT_OVERALL": NO_LIMITS,
    "NAMES_LIMIT": NO_LIMITS,
    "NAMES_LIMIT_OVERALL": NO_LIMITS,
    "TIPS_LIMIT": NO_LIMITS,
    "TIPS_LIMIT_OVERALL": NO_LIMITS,
    "REFUNDS_LIMIT": NO_LIMITS,
    "REFUNDS_LIMIT_OVERALL": NO_LIMITS,
    "REFUND_AUTO_MSAT": ("-1", "1.5", "1 sat", "10000000000000"),
    "GATE_CONFIG": ("/no/such/gate.toml", "/"),
    "GATE_LIMIT": NO_LIMITS,
    "GATE_LIMIT_OVERALL": NO_LIMITS,
    "TIP_MIN_SATS": (*NO_NUMBERS, "0", "1000000001", "1000001"),
    "TIP_MAX_SATS": (*NO_NUMBERS, "0", "1000000001"),
    "TIP_JARS": ("", "yes", "True", "0"),
    "FTP_UPLOADS": ("", "yes", "True", "0"),
    "FTP_ADDRESSES": (
        "x:y",
        "ftp.example:0",
        "ftp.example:65536",
        "Ftp.Example",
        "a:21,b:21",
        "a b",
    ),
    "WEB_ADDRESSES": ("x:y", "server.example:0", "Server.Example", "a:80,b:80", "http://a"),
    "FTP_TLS": ("", "true", "Always", "no"),
    "UPLOADS_DIR": ("", "uploads", "/a\0b", sys.executable),
    "UPLOADS_LIMIT": ("", "6", "many", "6 per week"),
    "FTP_VERIFY_TLS": ("", "yes", "True", "0", "/no/such/file", __file__),
}


def read(tmp_path, **changes):
    """The settings with some changed; None leaves one out."""
    env = {name: value for name, value in (NEEDED | changes).items() if value is not None}
    return from_env(env, tmp_path)


def test_the_required_settings_are_enough(tmp_path):
    config = read(tmp_path)
    assert config.panel_url == "https://panel.example:8080/remote/json.php"
    assert config.is_https
    assert config.capacity_mb == {1: 1000}


def test_a_missing_setting_names_itself_and_says_what_to_write(subtests, tmp_path):
    for name in [name for name in NEEDED if name != "SECRET_KEY"]:
        says = pytest.raises(ConfigError, match=f"^{name} .*(write|needs)")
        with subtests.test(name=name), says:
            read(tmp_path, **{name: None})


def test_a_wrong_setting_names_itself_and_says_what_to_write(subtests, tmp_path):
    for name in WRONG:
        with subtests.test(name=name):
            for value in WRONG[name]:
                with pytest.raises(ConfigError, match=f"^{name} .*(write|needs)") as refused:
                    read(tmp_path, **{name: value})
                assert "\n" not in str(refused.value)


def test_a_refused_secret_is_not_repeated(subtests, tmp_path):
    secrets = ["SECRET_KEY", "SECRET_KEY_FALLBACKS", "PANEL_PASSWORD", "SMTP_URL"]
    for name in [*secrets, "OPERATOR_PASSWORD_HASH", "ADMIN_WEBHOOK_SECRET"]:
        with subtests.test(name=name):
            with pytest.raises(ConfigError) as refused:
                read(tmp_path, **{name: "hush"})
            assert "hush" not in str(refused.value)


def test_every_setting_is_tested_for_wrong_values():
    assert {name.upper() for name in settings.declared(Config)} == set(WRONG)


def test_settings_md_and_env_file_match_the_declarations():
    for path, made in (
        ("docs/settings.md", settings_page.text()),
        ("deploy/lightning-space.env", settings_page.env()),
    ):
        is_same = (ROOT / path).read_text() == made
        assert is_same, f"{path} is of other settings: run `make settings`"


def test_a_shell_can_read_the_settings_file(tmp_path):
    """With every # removed it sets the defaults. systemd understands the same quotes."""
    text = re.sub("^#(?=[A-Z_0-9]+=)", "", settings_page.env(), flags=re.M)
    (tmp_path / "all").write_text(text)
    read_by_it = subprocess.run(
        ["env", "-i", "sh", "-euac", f". {tmp_path}/all; env -0"], capture_output=True, check=True
    )
    given = dict(each.split("=", 1) for each in read_by_it.stdout.decode().split("\0")[:-1])
    for name, setting in settings.declared(Config).items():
        assert given[name.upper()] == (setting.default if isinstance(setting.default, str) else "")


def test_the_page_says_what_each_setting_does():
    for name, setting in settings.declared(Config).items():
        assert re.search(rf"^\| `{name.upper()}`.* \| .+ \| \S.*\. \|$", settings_page.text(), re.M)
        assert "|" not in setting.does, "it would end the table's cell"


def test_more_wrong_settings_name_themselves(subtests, tmp_path):
    for name, value in [
        ("PUBLIC_URL", "https://shop.example:port"),
        ("PUBLIC_URL", "https://user@shop.example"),
        ("PUBLIC_URL", "https://shop.example?x=y"),
        ("PUBLIC_URL", "https://Shop.Example"),
        ("PANEL_URL", "https://panel.example:port"),
        ("ORDERS_LIMIT", "٣ per minute"),
        ("ORDERS_LIMIT", "0 per minute"),
        ("SPACE_SIZES_MB", "100,100"),
    ]:
        says = pytest.raises(ConfigError, match=f"^{name} ")
        with subtests.test(name=name, value=value), says:
            read(tmp_path, **{name: value})


def without_key():
    return {name: value for name, value in NEEDED.items() if name != "SECRET_KEY"}


def test_a_price_of_nothing_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="PRICE_MSAT_PER_DAY or PRICE_MSAT_PER_GB_DAY"):
        read(tmp_path, PRICE_MSAT_PER_DAY="0", PRICE_MSAT_PER_GB_DAY="0")


def test_each_server_has_its_capacity_and_host(tmp_path):
    config = read(
        tmp_path,
        PANEL_SERVER_ID="1, 3",
        CAPACITY_MB="100, 200",
        SERVER_HOSTS="a.example, b.example",
    )
    assert config.capacity_mb == {1: 100, 3: 200}
    assert config.server_hosts == {1: "a.example", 3: "b.example"}


def test_settings_do_not_show_their_secrets(tmp_path):
    assert "panel-password" not in f"{read(tmp_path)!r} {read(tmp_path)}"


def test_a_shop_without_tls_is_allowed_on_this_machine_and_onions_alone(subtests, tmp_path):
    for host in ["localhost:5000", "127.0.0.1", "shop.localhost", "shop2x.onion"]:
        with subtests.test(host=host):
            assert read(tmp_path, PUBLIC_URL=f"http://{host}").public_url == f"http://{host}"


def test_mail_comes_from_the_shops_host_unless_told_otherwise(tmp_path):
    assert read(tmp_path).mail_from == "hosting@shop.example"
    assert read(tmp_path, MAIL_FROM="hi@mail.example").mail_from == "hi@mail.example"
    assert read(tmp_path, PUBLIC_URL="http://[::1]:5000").mail_from == "hosting@localhost"


def test_a_mail_server_may_come_from_a_file(tmp_path):
    assert read(tmp_path).smtp_url == ""
    url = "smtps://shop:pa%2Fss@mail.example:465"
    (tmp_path / "secret").write_text(f"{url}\n")
    assert read(tmp_path, SMTP_URL_FILE=str(tmp_path / "secret")).smtp_url == url
    (tmp_path / "secret").write_text("smtp://shop:pa/ss@mail.example")
    with pytest.raises(ConfigError, match="^SMTP_URL_FILE") as refused:
        read(tmp_path, SMTP_URL_FILE=str(tmp_path / "secret"))
    assert "pa/ss" not in str(refused.value)


# -- secrets in files ------------------------------------------------------------------


def test_a_secret_may_come_from_a_file(subtests, tmp_path):
    for name in ["SECRET_KEY", "PANEL_PASSWORD"]:
        with subtests.test(name=name):
            secret = "from the file and long enough to be one"
            (tmp_path / "secret").write_text(f"{secret}\n")
            config = read(tmp_path, **{name: None, f"{name}_FILE": str(tmp_path / "secret")})
            assert getattr(config, name.lower()) == secret


def test_a_file_without_a_secret_names_its_setting(subtests, tmp_path):
    for name in ["SECRET_KEY", "PANEL_PASSWORD"]:
        for content in [None, b"", b"short", b"\n\n", b"\xff" * 20]:
            with subtests.test(name=name, content=content):
                path = tmp_path / "secret"
                if content is not None:
                    path.write_bytes(content)
                with pytest.raises(ConfigError, match=f"^{name}_FILE .*{path}"):
                    read(tmp_path, **{name: None, f"{name}_FILE": str(path)})


def test_the_secret_key_is_made_at_the_first_start_with_mode_0600(tmp_path):
    made = read(tmp_path / "instance", SECRET_KEY=None).secret_key
    path = tmp_path / "instance" / "secret-key"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert re.fullmatch("[0-9a-f]{64}", made)
    assert read(tmp_path / "instance", SECRET_KEY=None).secret_key == made


def test_programs_that_start_together_make_one_key(tmp_path):
    script = (
        "import os, pathlib, sys; from lightningspace.base.config import from_env\n"
        "print('ready', flush=True); sys.stdin.readline()\n"
        "print(from_env(os.environ, pathlib.Path(sys.argv[1])).secret_key)"
    )
    programs = [
        subprocess.Popen(
            [sys.executable, "-c", script, str(tmp_path / "instance")],
            env=without_key(),
            cwd=ROOT,
            text=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        for _ in range(4)
    ]
    for program in programs:
        program.stdout.readline()
    for program in programs:
        program.stdin.write("\n")
        program.stdin.flush()
    keys = {program.communicate()[0] for program in programs}
    assert len(keys) == 1
    assert [path.name for path in (tmp_path / "instance").iterdir()] == ["secret-key"]


# -- the start ---------------------------------------------------------------------------


def start(tmp_path, **changes) -> tuple[int, str]:
    """Import wsgi as gunicorn does; return the exit code and the output."""
    env = NEEDED | {"DATABASE_URL": f"sqlite:///{tmp_path / 'shop.sqlite3'}"} | changes
    started = Program(["wsgi"], env, tmp_path / "output")
    return started.wait(), started.said


def test_the_start_stops_with_one_line_about_the_wrong_setting(tmp_path):
    code, said = start(tmp_path, CAPACITY_MB="much")
    assert code == 4  # see wsgi.py
    assert said.splitlines() == [
        "The shop does not start: CAPACITY_MB is not usable: "
        "write a whole number from 0 to 1000000000000"
    ]


@pytest.mark.each_database
def test_the_start_says_how_to_make_the_tables(tmp_path, empty_database_url):
    code, said = start(tmp_path, DATABASE_URL=empty_database_url)
    assert code == 4  # see wsgi.py
    assert said.splitlines() == [
        "The database has no tables: run `flask --app wsgi init-db` first."
    ]


def test_the_start_stops_with_one_line_if_something_cannot_be_reached(subtests, tmp_path):
    for name, value in [
        ("DATABASE_URL", "sqlite:////proc/version"),
        ("DATABASE_URL", "postgresql://shop@127.0.0.1:1/shop"),
        ("RATE_LIMIT_STORAGE", "nonsense"),
        ("RATE_LIMIT_STORAGE", "redis://127.0.0.1:1"),
    ]:
        with subtests.test(name=name, value=value):
            code, said = start(tmp_path, **{name: value})
            # A server that is down may come back; everything else needs the operator (see wsgi.py).
            assert code == (5 if value.startswith("postgresql:") else 4)
            assert re.fullmatch(f"The shop does not start: .*{name}.*\n", said)


def restart(env, tmp_path, **changes):
    app = create_app(from_env(env | changes, tmp_path))
    shop.settle_in(app.extensions["shop"])
    return app.extensions["shop"]


def test_the_shop_does_not_start_with_another_key(app, env, tmp_path):
    with pytest.raises(WrongKey, match="SECRET_KEY_FALLBACKS"):
        restart(env, tmp_path, SECRET_KEY="another key that is long enough as well")


def test_a_new_key_with_the_old_one_as_fallback_reads_sealed_values(order, env, tmp_path):
    keys = {
        "SECRET_KEY": "another key that is long enough as well",
        "SECRET_KEY_FALLBACKS": f"a third key that is long enough as well,{NEEDED['SECRET_KEY']}",
    }
    after = restart(env, tmp_path, **keys)
    assert after.vault.unseal(Account.get().password_sealed) == "correct horse"
    assert Fact.get_by_id(shop.KEY_FINGERPRINT).value == after.vault.fingerprints()[0]


def test_the_shop_does_not_start_with_a_replaced_key(app, env, tmp_path):
    new = {
        "SECRET_KEY": "another key that is long enough as well",
        "SECRET_KEY_FALLBACKS": "a key of the tests that is long enough",
    }
    restart(env, tmp_path, **new)
    with pytest.raises(WrongKey):
        restart(env, tmp_path)


def test_names_that_others_rely_on_cannot_be_changed_later(app, env, tmp_path, subtests):
    changed = {
        "BASE_DOMAIN": "other.test",
        "PANEL_PREFIX": "other_",
        "LABEL_PREFIX": "other-",
    }
    for name, value in changed.items():  # an empty shop may still change them
        restart(env, tmp_path, **{name: value})
        restart(env, tmp_path)
    orders.place(restart(env, tmp_path), wish(username="alice"))
    for name, value in changed.items():
        with subtests.test(name), pytest.raises(SettingInUse, match=f"{name} was [a-z_.-]+, and"):
            restart(env, tmp_path, **{name: value})
    restart(env, tmp_path)


def test_a_changed_public_url_is_a_problem_for_a_week(app, env, tmp_path, time_machine):
    Wallet.create(account=app_account(restart(env, tmp_path)), wallet_key="02ab", linked_at=1)
    assert hostnames.problems(app.extensions["shop"]) == []
    moved = restart(env, tmp_path, PUBLIC_URL="https://new.example")
    [told] = hostnames.problems(moved)
    assert "was http://localhost, and is https://new.example: wallets that log in (1) are" in told
    again = restart(env, tmp_path, PUBLIC_URL="https://new.example")
    assert hostnames.problems(again) == [told]
    time_machine.forward(7 * 86400 + 1)
    assert hostnames.problems(again) == []


def app_account(its_shop) -> Account:
    return orders.place(its_shop, wish(username="alice")).account


def test_a_server_that_left_the_settings_sells_nothing(app, env, tmp_path):
    after = restart(env, tmp_path, PANEL_SERVER_ID="2", CAPACITY_MB="300")
    assert capacity.largest_mb(after) == 300 - 146


def test_a_browser_keeps_its_orders_when_the_key_is_rotated(app, env, tmp_path):
    client = app.test_client()
    link = place_order(client).location
    keys = {
        "SECRET_KEY": "another key that is long enough as well",
        "SECRET_KEY_FALLBACKS": "a key of the tests that is long enough",
    }
    rotated = create_app(from_env(env | keys, tmp_path))
    shop.settle_in(rotated.extensions["shop"])
    again = rotated.test_client()
    again.set_cookie("session", client.get_cookie("session").value)
    assert "Cancel the order" in again.get(link).text


def test_the_same_form_is_the_same_order_after_a_restart(app, env, tmp_path):
    asked = wish()
    first = orders.place(app.extensions["shop"], asked)
    assert orders.place(restart(env, tmp_path), asked).token == first.token
    models.db.close()
