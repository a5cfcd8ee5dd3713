"""A customer's browser or program: it repeats requests that get no answer."""

import json
import re
import secrets
import threading
import time
from dataclasses import dataclass, field
from urllib.parse import urlencode, urljoin, urlsplit

import urllib3

AGAIN_SECONDS = 1
ANSWER_SECONDS = 40
MARKUP = re.compile(r"<[^>]*>|\s+")
REFUSED = b"Somebody may be paying for this hosting right now"
GONE = (502, 503, 504, 429)


class NoAnswer(Exception):
    """There was no answer for as long as a customer has patience."""


@dataclass
class Asked:
    at: float
    seconds: float
    status: int  # 0: the connection broke
    what: str
    is_refused: bool  # 503 with a reason: nothing is broken


@dataclass
class Web:
    """The web boxes, behind a load balancer. `asked`: every request, and its answer."""

    addresses: list[str]
    patience_seconds: float
    asked: list[Asked] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _turn: int = 0

    def __post_init__(self):
        self._pool = urllib3.PoolManager(num_pools=4, maxsize=64, retries=False)

    def ask(self, method, path, headers, body) -> urllib3.BaseHTTPResponse:
        """Ask one box after the other until there is an answer. Raises NoAnswer."""
        given_up = time.monotonic() + self.patience_seconds
        while True:
            answer = self._once(method, path, headers, body)
            if answer is not None and answer.status not in GONE:
                return answer
            if time.monotonic() > given_up:
                if answer is not None and REFUSED in answer.data:
                    return answer
                said = answer.data.decode() if answer is not None else "nothing"
                said = MARKUP.sub(" ", said.partition("<main")[2] or said)
                raise NoAnswer(f"{method} {path}: {said[:500]}")
            time.sleep(AGAIN_SECONDS)

    def _once(self, method, path, headers, body):
        with self._lock:
            self._turn += 1
            box = self._turn % len(self.addresses)
        url, began = f"http://{self.addresses[box]}{path}", time.monotonic()
        try:
            answer = self._pool.request(
                method, url, body, headers=headers, redirect=False, timeout=ANSWER_SECONDS
            )
            status = answer.status
        except urllib3.exceptions.HTTPError:
            answer, status = None, 0
        what = f"{method} /{path.split('?')[0].split('/')[1]}"
        is_refused = status == 503 and REFUSED in answer.data
        self.asked.append(Asked(began, time.monotonic() - began, status, what, is_refused))
        return answer


class Page:
    def __init__(self, path: str, answer: urllib3.BaseHTTPResponse):
        self.path, self.status, self.headers = path, answer.status, answer.headers
        self.text = answer.data.decode()

    def json(self) -> dict:
        return json.loads(self.text)


class Browser:
    """A browser with its own address and cookies."""

    def __init__(self, web: Web, address: str):
        self._web, self._address = web, address
        self._cookies: dict[str, str] = {}

    def get(self, path: str) -> Page:
        return self._follow(self._send("GET", path))

    def post(self, path: str, fields: dict, follow: bool = True) -> Page:
        kind = {"Content-Type": "application/x-www-form-urlencoded"}
        page = self._send("POST", path, urlencode(fields), kind)
        return self._follow(page) if follow else page

    def send_file(self, path: str, fields: dict, name: str, content: bytes) -> Page:
        parts = fields | {"file": (name, content, "text/html")}
        body, kind = urllib3.encode_multipart_formdata(parts, boundary=secrets.token_hex(8))
        return self._follow(self._send("POST", path, body, {"Content-Type": kind}))

    def call(self, method: str, path: str, body: dict | None = None, credential="") -> Page:
        """Send a request as a program does, without cookies."""
        headers = {"Content-Type": "application/json", "Idempotency-Key": secrets.token_hex(16)}
        if credential:
            headers["Authorization"] = f"L402 {credential}"
        return self._send(method, path, json.dumps(body) if body else None, headers, False)

    def _follow(self, page: Page) -> Page:
        for _ in range(4):
            if page.status not in (302, 303):
                break
            url = urlsplit(urljoin(page.path, page.headers["Location"]))
            page = self._send("GET", url.path + (f"?{url.query}" if url.query else ""))
        return page

    def _send(self, method, path, body=None, headers=None, has_cookies=True) -> Page:
        headers = {"X-Forwarded-For": self._address, "Host": "localhost", **(headers or {})}
        if has_cookies and self._cookies:
            headers["Cookie"] = "; ".join(f"{name}={v}" for name, v in self._cookies.items())
        answer = self._web.ask(method, path, headers, body)
        for line in answer.headers.getlist("Set-Cookie"):
            name, _, value = line.split(";")[0].partition("=")
            self._cookies[name] = value
        return Page(path, answer)
