import pytest

from tests.conftest import free_port, opened
from tests.gate.box import Box, upstream

# The gate of tests that do not bring their own.
GATE = """
app = "http://127.0.0.1:{app}"
log = "{folder}/gate.log"
cache = "{folder}/cache"

[[service]]
name = "videos"
title = "The film archive"
location = "/videos/"
files = "{folder}/films"
price_sat = 50
time = "1 day"
free = ["/videos/trailers/"]

[[service]]
name = "api"
title = "An API"
location = "/v1/"
upstream = "http://127.0.0.1:{behind}"
price_sat = 5
time = "1 hour"
free = ["/v1/free/"]
no_invoice = ["/v1/quiet/"]
cors = true
body_mb = 500
"""


@pytest.fixture
def gate_toml() -> str:
    return GATE


@pytest.fixture
def app_port() -> int:
    return free_port()


@pytest.fixture
def gate_folder(tmp_path, gate_toml, app_port, more_settings):
    """The folder of a gate: its gate.toml, a film, and what nginx writes."""
    folder = tmp_path / "gate"
    (folder / "films" / "trailers").mkdir(parents=True)
    (folder / "films" / "film.mp4").write_bytes(bytes(range(256)) * 40)
    (folder / "films" / "text.txt").write_text("paid")
    (folder / "films" / "trailers" / "one.txt").write_text("free")
    (folder / "films" / "index.html").write_text("all films")
    with upstream() as behind:
        ports = {"app": app_port, "behind": behind.server_port, "folder": folder}
        (folder / "gate.toml").write_text(gate_toml.format(**ports))
        more_settings["GATE_CONFIG"] = str(folder / "gate.toml")
        more_settings |= {"PROXY_HOPS": "1", "GATE_LIMIT": "30 per day"}
        yield Box(folder, free_port(), app_port, behind)


@pytest.fixture
def box(gate_folder, own_app, app_port) -> Box:
    """nginx, and the shop behind it."""
    with opened(own_app, app_port):
        gate_folder.start()
        yield gate_folder
        gate_folder.stop()
    own_app.extensions["gate_upkeep"].stop()
