"""Payment in front of what nginx serves: the operator's services of gate.toml."""

from pathlib import Path

from flask import Flask

from lightningspace.gate import pages, services
from lightningspace.gate.check import Check
from lightningspace.gate.looks import Looks
from lightningspace.gate.upkeep import Upkeep


def init_app(app: Flask, path: Path) -> None:
    """Put the gate that this file describes in front of the app. Raises ConfigError."""
    app.extensions["gate"] = services.read(path)
    app.extensions["gate_upkeep"] = Upkeep()
    app.extensions["gate_looks"] = Looks()
    app.register_blueprint(pages.blueprint)
    app.wsgi_app = Check(app)
