"""The programs behind the sandbox's gate: an API sold by the request, and a queue that reports the
cost of each job.
"""

import queue
import secrets
import threading
from base64 import b64decode
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path

from flask import Flask, Response, jsonify, redirect, render_template, request
from werkzeug.exceptions import BadRequest, NotFound
from werkzeug.serving import make_server

from lightningspace.base import qr

# The files that the gate sells, and the template of the queue's page.
SOLD = Path(__file__).parent / "sold"
COST = "X-Gate-Cost-Msat"
DICE_MAX = 100
BYTES_MAX = 1000
MSAT_PER_BYTE = 10
JOBS_MAX = 100


@dataclass
class Job:
    """A text to be drawn. `owner`: the token id of the credential that paid for it."""

    owner: str
    text: str
    png: bytes | None = None


class Upstream:
    """A server that knows nothing of payments but the token id that nginx passes on."""

    def __init__(self):
        self._jobs: OrderedDict[str, Job] = OrderedDict()
        self._waiting: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        app = Flask(__name__, template_folder=str(SOLD), static_folder=None)
        app.config["MAX_CONTENT_LENGTH"] = 4 * BYTES_MAX
        app.add_url_rule("/v1/roll", view_func=_roll)
        app.add_url_rule("/queue/", view_func=self._form)
        app.add_url_rule("/queue/", view_func=self._order, methods=["POST"])
        app.add_url_rule("/queue/<name>", view_func=self._look)
        self._server = make_server("127.0.0.1", 0, app, threaded=True)
        self._threads = [
            threading.Thread(target=self._server.serve_forever),
            threading.Thread(target=self._work),
        ]
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._waiting.put(None)
        self._server.shutdown()
        for thread in self._threads:
            thread.join()
        self._server.server_close()

    def _work(self) -> None:
        """Do one job after another, until a None."""
        while job := self._waiting.get():
            job.png = b64decode(qr.png(job.text).partition(",")[2])

    def _form(self) -> Response:
        return _costing(0, _page())

    def _order(self) -> Response:
        """Take a job: a program sends the text itself, a browser a form."""
        is_form = request.mimetype == "application/x-www-form-urlencoded"
        sent = request.form.get("text", "").encode() if is_form else request.get_data()
        try:
            text = sent.decode()
        except UnicodeDecodeError:
            raise BadRequest from None
        if not 0 < len(sent) <= BYTES_MAX:
            raise BadRequest
        name, job = secrets.token_hex(8), Job(_owner(), text)
        self._jobs[name] = job
        self._waiting.put(job)
        while len(self._jobs) > JOBS_MAX:
            self._jobs.popitem(last=False)
        place = f"/queue/{name}"
        if is_form:
            return _costing(len(sent) * MSAT_PER_BYTE, redirect(place, 303))
        answer = jsonify(job=place, cost_msat=len(sent) * MSAT_PER_BYTE)
        answer.status_code = 202
        answer.headers["Location"] = place
        return _costing(len(sent) * MSAT_PER_BYTE, answer)

    def _look(self, name: str) -> Response:
        job = self._jobs.get(name)
        if job is None or job.owner != _owner():
            raise NotFound
        if job.png is None:
            return _costing(0, _page(waiting=True))
        return _costing(0, Response(job.png, mimetype="image/png"))


def _page(waiting: bool = False) -> Response:
    text = render_template(
        "queue.html", waiting=waiting, bytes_max=BYTES_MAX, msat_per_byte=MSAT_PER_BYTE
    )
    return Response(text, 202 if waiting else 200)


def _owner() -> str:
    return request.headers.get("X-L402-Token-Id", "")


def _costing(msat: int, answer: Response) -> Response:
    answer.headers[COST] = str(msat)
    return answer


def _roll() -> Response:
    dice = request.args.get("dice", "1")
    if not (dice.isascii() and dice.isdigit() and len(dice) < 4 and 0 < int(dice) <= DICE_MAX):
        raise BadRequest
    return jsonify(rolled=[1 + secrets.randbelow(6) for _ in range(int(dice))])
