"""The files of static/, read and compressed once.

Pages name each with a hash of its content, `shop-1a2b3c4d.css`, so that browsers keep it for a year
and never ask again. It is there by its plain name as well.
"""

import hashlib
from mimetypes import guess_type
from pathlib import Path

from flask import Flask, Response, request
from werkzeug.exceptions import NotFound

from lightningspace.visitors import compression

FOLDER = Path(__file__).parents[2] / "static"
# What browsers and robots ask for before they have read a page.
AT_THE_ROOT = ("/favicon.ico", "/robots.txt")
FOR_A_YEAR = "public, max-age=31536000, immutable"
FOR_AN_HOUR = "public, max-age=3600"
ALREADY_PACKED = ("image/png",)


class File:
    def __init__(self, path: Path):
        self.body = path.read_bytes()
        self.digest = hashlib.sha256(self.body).hexdigest()[:12]
        self.hashed_name = f"{path.stem}-{self.digest}{path.suffix}"
        self.mimetype = guess_type(path.name)[0] or "application/octet-stream"
        self.packed = None if self.mimetype in ALREADY_PACKED else compression.pack(self.body, 9)

    def answer(self, kept: str) -> Response:
        """`kept`: for how long browsers may keep it."""
        answer = Response(self.body, mimetype=self.mimetype)
        if self.packed:
            answer.vary.add("Accept-Encoding")
            if compression.is_understood(request):
                answer.set_data(self.packed)
                answer.headers["Content-Encoding"] = "gzip"
        answer.headers["Cache-Control"] = kept
        answer.set_etag(self.digest, weak=True)
        return answer.make_conditional(request)


def init_app(app: Flask) -> None:
    """Serve them, where `url_for("static", filename="shop.css")` leads to the hashed name."""
    plain = {path.name: File(path) for path in sorted(FOLDER.iterdir())}
    hashed = {file.hashed_name: file for file in plain.values()}

    def static(filename):
        if filename in hashed:
            return hashed[filename].answer(FOR_A_YEAR)
        if filename in plain:
            return plain[filename].answer(FOR_AN_HOUR)
        raise NotFound

    def name_by_content(endpoint, values):
        if endpoint in ("static", "gate_static"):
            values["filename"] = plain[values["filename"]].hashed_name

    app.add_url_rule("/static/<filename>", "static", static)
    # What nginx sends on to the shop from other hosts, too.
    app.add_url_rule("/gate/static/<filename>", "gate_static", static)
    app.url_defaults(name_by_content)
    for path in AT_THE_ROOT:
        file = plain[path[1:]]
        app.add_url_rule(path, path[1:-4], lambda file=file: file.answer(FOR_AN_HOUR))


def is_file(path: str) -> bool:
    return path.startswith("/static/") or path in AT_THE_ROOT
