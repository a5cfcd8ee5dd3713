"""Load: a browser that orders, a wallet that pays, browsers that poll, and a crowd in a hurry."""

import http.client
import itertools
import json
import multiprocessing
import re
import secrets
import selectors
import signal
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlencode

from pyln.client import LightningRpc

POLL_SECONDS = 2
FIELDS = {"space_mb": "100", "duration": "3", "unit": "months", "password": "Correct horse 1"}

_addresses = (f"10.{n >> 16}.{n >> 8 & 255}.{n & 255}" for n in itertools.count(1))


class Browser:
    """One browser, with its cookie and CSRF token. It may place any number of orders."""

    def __init__(self, port: int):
        self._port = port
        status, headers, page = fetch(port, "GET", "/")
        self.cookie = headers["Set-Cookie"].split(";")[0]
        self._csrf_token = re.search(r'name="csrf_token"[^>]*value="([^"]+)"', page)[1]

    def order(self, connection: http.client.HTTPConnection | None = None) -> str:
        """Place an order; return the path of its page."""
        fields = {"csrf_token": self._csrf_token, "form_id": secrets.token_hex(8), **FIELDS}
        headers = {
            "Cookie": self.cookie,
            "Content-Type": "application/x-www-form-urlencoded",
            "X-Forwarded-For": next(_addresses),
        }
        connection = connection or http.client.HTTPConnection("127.0.0.1", self._port, timeout=60)
        connection.request("POST", "/orders", urlencode(fields), headers)
        response = connection.getresponse()
        page = response.read()
        if response.status != 303:
            raise RuntimeError(f"the order was answered with {response.status}: {page[:2000]}")
        return response.headers["Location"]

    def orders(self, count: int) -> list[str]:
        with ThreadPoolExecutor(4) as pool:
            return list(pool.map(lambda _: self.order(), range(count)))

    def invoice(self, order: str) -> str:
        page = fetch(self._port, "GET", order, {"Cookie": self.cookie})[2]
        return re.search(r"lightning:(ln[a-z0-9]+)", page)[1]

    def is_ready(self, order: str) -> bool:
        """Whether a poll of the order's page sends the browser on, as it does once it is ready."""
        path = f"{order}/status"
        return "HX-Redirect" in fetch(self._port, "GET", path, {"Cookie": self.cookie})[1]


def fetch(
    port: int, method: str, path: str, headers: dict | None = None, body: str | None = None
) -> tuple:
    """Send a request on a connection of its own; return (status, headers, text)."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        connection.request(method, path, body, {"Connection": "close", **(headers or {})})
        response = connection.getresponse()
        return response.status, response.headers, response.read().decode()
    finally:
        connection.close()


def pay(wallet_path: Path, bolt11: str) -> str:
    """Pay an invoice; return the preimage."""
    return LightningRpc(str(wallet_path)).pay(bolt11)["payment_preimage"]


def challenge(port: int) -> dict:
    """Ask for a hosting as a program does; return the 402's body, with invoice and macaroon."""
    wish = {"space_mb": 100, "duration": 1, "unit": "days"}
    headers = {"Content-Type": "application/json", "X-Forwarded-For": next(_addresses)}
    status, _, body = fetch(port, "POST", "/api/v1/hosting", headers, json.dumps(wish))
    if status != 402:
        raise RuntimeError(f"the order was answered with {status}: {body[:2000]}")
    return json.loads(body)


class Pollers:
    """Browsers that each poll their order every 2 s, in a process of their own.

    Each poll opens a connection: gunicorn keeps one open for 2 s, and nginx by default not at all.
    """

    def __init__(self, port: int, orders: list[str], cookie: str):
        spawned = multiprocessing.get_context("spawn")
        self._pipe, theirs = spawned.Pipe()
        self._process = spawned.Process(
            target=_poll_all, args=(theirs, port, orders, cookie), daemon=True
        )
        self._process.start()
        theirs.close()
        self._pipe.recv()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if not self._pipe.closed:
            self.stop()

    def stop(self) -> tuple[list[float], int]:
        """Return how many seconds each poll took, and how many polls failed."""
        self._pipe.send("stop")
        result = self._pipe.recv()
        self._pipe.close()
        self._process.join()
        return result


def _poll_all(pipe, port: int, orders: list[str], cookie: str) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the bench stops this process
    seconds: list[float] = []
    failures: list[int] = []
    stopping = threading.Event()

    def poll(order: str, wait: float) -> None:
        while not stopping.wait(wait):
            started = time.perf_counter()
            try:
                status = fetch(port, "GET", f"{order}/status", {"Cookie": cookie})[0]
            except OSError:
                status = 0
            seconds.append(time.perf_counter() - started)
            if status != 200:
                failures.append(status)
            wait = max(0.0, POLL_SECONDS - seconds[-1])

    for number, order in enumerate(orders):
        wait = POLL_SECONDS * number / len(orders)
        threading.Thread(target=poll, args=(order, wait), daemon=True).start()
    pipe.send("polling")
    try:
        pipe.recv()
    except EOFError:
        return
    stopping.set()
    pipe.send((seconds, len(failures)))


def crowd(port: int, path: str, seconds: float, connections: int, header: str = "") -> int:
    """Count the answers that a few connections, never idle, get in `seconds`.

    It uses bare sockets: http.client would spend more time on an answer than the server.
    """
    lines = [f"GET {path} HTTP/1.1", "Host: 127.0.0.1", "X-Forwarded-For: 192.0.2.1"]
    if header:
        lines.append(header)
    request = ("\r\n".join(lines) + "\r\n\r\n").encode()
    answers = 0
    with selectors.DefaultSelector() as ready:
        for _ in range(connections):
            sock = socket.create_connection(("127.0.0.1", port), 60)
            sock.sendall(request)
            ready.register(sock, selectors.EVENT_READ, bytearray())
        try:
            deadline = time.perf_counter() + seconds
            while time.perf_counter() < deadline:
                for key, _ in ready.select(1):
                    if _is_answered(key.fileobj, key.data):
                        answers += 1
                        key.data.clear()
                        key.fileobj.sendall(request)
        finally:
            for key in list(ready.get_map().values()):
                key.fileobj.close()
    return answers


def _is_answered(sock: socket.socket, received: bytearray) -> bool:
    """Read what has come, and return whether the answer is complete. Raises unless it is 2xx."""
    received += sock.recv(65536)
    head, end, body = received.partition(b"\r\n\r\n")
    if not end:
        if not received:
            raise ConnectionResetError("the server closed the connection")
        return False
    if head.startswith(b"HTTP/1.1 204"):  # which has no body
        return True
    if not head.startswith(b"HTTP/1.1 200"):
        raise RuntimeError(f"an unexpected answer: {head[:200]}")
    size = re.search(rb"(?i)\r\ncontent-length: *(\d+)", head)
    return len(body) >= int(size[1])
