"""gate.toml: what it may contain, and how its mistakes are reported."""

from pathlib import Path

import pytest

from lightningspace.base.clock import DAY
from lightningspace.base.settings import ConfigError
from lightningspace.gate import services
from lightningspace.gate.services import Bundle, Limit

FILMS = """
[[service]]
name = "films"
location = "/films/"
files = "/srv/films"
price_sat = 50
time = "1 day"
"""
API = """
[[service]]
name = "api"
location = "/v1/"
upstream = "http://127.0.0.1:9000"
bundle_sat = 100
per_request_msat = 200
"""
DISK = """
[[service]]
name = "disk"
location = "/disk/"
disk = "/srv/disk"
quota_mb = 100
price_sat = 500
time = "30 days"
"""


@pytest.fixture
def read(tmp_path):
    def read(text: str, **env: str):
        path = tmp_path / "gate.toml"
        path.write_text(text)
        return services.read(path, env)

    return read


def test_each_kind_of_service_is_read(read):
    more = 'limits = [{ requests = 10, per = "1s", burst = 20 }]\n[service.headers]\nX-K = "${K}"'
    films, disk, api = read(FILMS + DISK + API + more, K="secret").services
    assert (films.kind, films.seconds, films.title) == ("files", DAY, "films")
    assert (disk.kind, disk.quota_mb, disk.grace_seconds) == ("disk", 100, 7 * DAY)
    assert api.bundle == Bundle(100_000, 200, per_request_msat=200)
    assert api.limits == (Limit(10, 1, 20),)
    assert api.headers == (("X-K", "secret"),)


# A line that replaces one in FILMS, the number that the message names, and a part of the message.
WRONG = [
    ('name = "Films"', 3, "name: write small letters"),
    ('name = "lightning-space"', 3, "the hosting itself"),
    ("name = 5", 3, "name: "),
    ('location = "films"', 4, "location: write a path"),
    ('location = "/films/../x/"', 4, "location: "),
    ('location = "/gate/x/"', 4, "belong to the gate"),
    ('location = "/films;/"', 4, "location: "),
    ('files = "srv"', 5, "files: write an absolute path"),
    ('files = "/srv/../etc"', 5, "files: "),
    ('files = "/srv/$host"', 5, "files: "),
    ('upstream = "ftp://x"', 5, "upstream: write an address"),
    ('upstream = "http://127.0.0.1:9000/;"', 5, "upstream: "),
    ('upstream = "http://x:99999"', 5, "upstream: "),
    ("price_sat = 0", 6, "price_sat: write a whole number"),
    ("price_sat = true", 6, "price_sat: "),
    ("price_sat = 1.5", 6, "price_sat: "),
    ("bundle_sat = 5", 6, "write one of per_request_msat"),
    ('time = "1 fortnight"', 7, "time: write a time"),
    ('time = "11 years"', 7, "time: "),
    ("time = 5", 7, "time: "),
]


@pytest.mark.parametrize(("line", "number", "said"), WRONG)
def test_a_wrong_line_is_named(read, line, number, said):
    lines = FILMS.splitlines()
    lines[number - 1] = line
    with pytest.raises(ConfigError) as error:
        read("\n".join(lines))
    at = 2 if "write one of" in said else number
    assert f"line {at}: " in str(error.value) and said in str(error.value)


# Text added below FILMS, which is lines 1 to 7, and a part of the message.
# More capabilities than a credential can hold, for which each invoice would be made in vain.
MANY = ", ".join(f'{"c" * 29}{number} = ["GET"]' for number in range(100, 113))
WRONG_MORE = [
    ("pice = 5", 8, "there is no setting pice here"),
    ('free = ["/other/"]', 8, "free: write paths below /films/"),
    ('free = "/films/x/"', 8, "free: write a list"),
    ("limits = [{ requests = 1 }]", 8, "limits: write { requests"),
    ('limits = [{ requests = 1, per = "1s", bust = 2 }]', 8, "limits: "),
    ('blocklist = ["here"]', 8, "blocklist: write addresses"),
    ('capabilities = { read = "GET" }', 8, "capabilities: write which methods"),
    ('capabilities = { "a b" = ["GET"] }', 8, "capabilities: "),
    (f"capabilities = {{ {MANY} }}", 8, "400 letters at most"),
    ("cors = 1", 8, "cors: write true or false"),
    ('gate_down = "ajar"', 8, "gate_down: write"),
    ('title = "a\\nb"', 8, "title: write a line"),
    ("freebie = -1", 8, "freebie: write a whole number"),
    ("quota_mb = 5", 8, "there is no setting quota_mb here"),
    ("bundle_sat = 5", 8, "write one of price_sat, bundle_sat"),
    (FILMS, 10, "another service is called films"),
    (FILMS.replace('"films"', '"more"'), 11, "films has the same path"),
    (DISK + "freebie = 3", 12, "nothing of it can be free"),
    (DISK + 'gate_down = "open"', 16, "its gate cannot be open"),
    (DISK.replace("quota_mb = 100", ""), 9, "quota_mb is missing"),
    (DISK.replace("/srv/disk", "/srv/films"), 12, "films has the same folder"),
    (DISK.replace("/srv/disk", "/srv/films/disk"), 12, "films has the same folder"),
    (DISK.replace("/srv/disk", "/srv"), 12, "films has the same folder"),
    (DISK + "propfind = 1", 16, "propfind: write true or false"),
    (DISK + "cors = true\npropfind = true", 16, "OPTIONS can be for"),
    ("propfind = true", 8, "there is no setting propfind here"),
    (API.replace("200", "200000"), 13, "must pay for one request"),
    (API.replace("per_request_msat = 200", "per_mb_msat = 5"), 9, "reserve_msat is missing"),
    (API + 'headers = { "X-K" = "${GONE}" }', 15, "GONE is not set"),
    (API + 'headers = { "X-K" = "a\'b$c" }', 15, "no quotes"),
    (API + 'headers = { "X K" = "a" }', 15, "write the name of a header"),
]


@pytest.mark.parametrize(("more", "number", "said"), WRONG_MORE)
def test_a_wrong_addition_is_named(read, more, number, said):
    with pytest.raises(ConfigError, match=f"line {number}: ") as error:
        read(FILMS + more)
    assert said in str(error.value)


@pytest.mark.parametrize(
    ("more", "app"),
    [
        ("", "unix:/run/lightning-space/web"),
        ('app = "unix:/tmp/web"', "unix:/tmp/web"),
        ('app = "http://127.0.0.1:8000/"', "127.0.0.1:8000"),
        ('app = "http://[::1]:8000"', "[::1]:8000"),
    ],
)
def test_the_shop_is_at_a_socket_or_a_port(read, more, app):
    assert read(more + FILMS).app_server == app


def test_all_mistakes_are_named_at_once(read):
    with pytest.raises(ConfigError) as error:
        read(FILMS.replace("50", "0") + API.replace("/v1/", "v1"))
    assert "line 6: " in str(error.value) and "line 11: " in str(error.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("service = 5", "line 1: write each service as"),
        ("[service]", "line 1: write each service as"),
        ("a = ", "is not TOML"),
        ("", "there is no"),
        ('app = "x"' + FILMS, "line 1: app: "),
        ('app = "https://127.0.0.1:8000"' + FILMS, "line 1: app: write unix:/run/"),
        ('app = "http://127.0.0.1:8000/x"' + FILMS, "line 1: app: write unix:/run/"),
        ('app = "unix:/run/a b"' + FILMS, "line 1: app: "),
        ('app = "unix:web"' + FILMS, "line 1: app: "),
    ],
)
def test_what_is_no_gate_is_said(read, text, said):
    with pytest.raises(ConfigError, match=said):
        read(text)


def test_a_missing_file_is_named():
    with pytest.raises(ConfigError, match="GATE_CONFIG names a file that is not usable"):
        services.read(Path("/nowhere/gate.toml"))
