"""A stand-in for a wallet with Lightning Addresses (LUD-06, LUD-16, LUD-21), which may lie."""

import hashlib
import json
import secrets
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

from coincurve import PrivateKey

from lightningspace.sandbox import bolt11


class Wallet(ThreadingHTTPServer):
    """Each name is somebody's address. `play[name]` changes its answers, by "offer", "made" and
    "verify": a dict of changes, or a function that writes another answer to the connection.
    `asked[name]` lists the requested paths.
    """

    daemon_threads = True

    def __init__(self, host: str = "127.0.0.1"):
        super().__init__((host, 0), _Asked)
        self.host = host
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.play: dict[str, dict] = {}
        self.asked: dict[str, list[str]] = {}
        self.expiry = 600
        self._preimages: dict[str, bytes] = {}
        self._paid: set[str] = set()
        self._key = PrivateKey()

    def __enter__(self):
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_):
        self.shutdown()
        self.server_close()

    def address(self, name: str) -> str:
        return f"{name}@127.0.0.1:{self.server_port}"

    def made(self, name: str) -> int:
        """How many invoices were requested for this name."""
        return sum(path.startswith("/make/") for path in self.asked.get(name, []))

    def invoice(self, msat: int | None, created_at: int | None = None) -> str:
        preimage = secrets.token_bytes(32)
        payment_hash = hashlib.sha256(preimage).hexdigest()
        self._preimages[payment_hash] = preimage
        return bolt11.encode(
            self._key,
            payment_hash=payment_hash,
            payment_secret=secrets.token_hex(32),
            created_at=created_at or int(time.time()),
            expiry=self.expiry,
            amount_msat=msat,
            description="For a test",
        )

    def pay(self, invoice: str) -> str:
        """Pay an invoice; returns the preimage."""
        payment_hash = bolt11.decode(invoice.lower())["payment_hash"]
        self._paid.add(payment_hash)
        return self._preimages[payment_hash].hex()

    def answer(self, path: str) -> tuple[str, str, dict]:
        """The name and the kind of a request, and the answer."""
        at = urlsplit(path)
        what, name = at.path.split("/")[-2:]
        if what == "lnurlp":
            said = {"tag": "payRequest", "callback": f"{self.url}/make/{name}?k=1"}
            return name, "offer", said | {"minSendable": 1000, "maxSendable": 10**9, "metadata": ""}
        if what == "make":
            invoice = self.invoice(int(parse_qs(at.query)["amount"][0]))
            verify = f"{self.url}/verify/{name}?pr={invoice}"
            return name, "made", {"pr": invoice, "routes": [], "verify": verify}
        invoice = parse_qs(at.query)["pr"][0]
        payment_hash = bolt11.decode(invoice)["payment_hash"]
        settled = payment_hash in self._paid
        preimage = self._preimages[payment_hash].hex() if settled else None
        said = {"status": "OK", "settled": settled, "preimage": preimage, "pr": invoice}
        return name, "verify", said


class _Asked(BaseHTTPRequestHandler):
    server: Wallet

    def do_GET(self):
        name, kind, said = self.server.answer(self.path)
        self.server.asked.setdefault(name, []).append(self.path)
        change = self.server.play.get(name, {}).get(kind)
        if callable(change):
            change(self)
        else:
            send(self, json.dumps(said | change if change else said))

    def log_message(self, *args):
        pass


def send(handler, body: str, status: int = 200, **headers: str) -> None:
    handler.send_response(status)
    for name, value in headers.items():
        handler.send_header(name, value)
    handler.send_header("Content-Length", str(len(body.encode())))
    handler.end_headers()
    handler.wfile.write(body.encode())


def says(body: str, status: int = 200, **headers: str):
    return lambda handler: send(handler, body, status, **headers)
