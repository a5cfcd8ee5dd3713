"""A stand-in name server, over UDP and TCP, for the records of customers' domains."""

import json
import socketserver
import struct
import threading
import time
from pathlib import Path

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdataclass
import dns.rdatatype
import dns.rrset

FAULTS = ("silent", "servfail", "refused", "nxdomain", "slow", "truncated", "referral", "garbage")
TTL = 60
CNAMES_MAX = 8


class SandboxDns:
    """Answers for every name: with its records, those of a wildcard above it, or none.

    `fault` is one of FAULTS, or None. `store` keeps the records across restarts.
    """

    def __init__(self, store: Path | None = None):
        self.fault: str | None = None
        self.slow_seconds = 1.0
        self.questions: list[tuple[str, str]] = []
        self._store = store
        self._lock = threading.Lock()
        self._records: dict[str, dict[str, list[str]]] = {}
        if store and store.exists():
            self._records = json.loads(store.read_text())
        self._tcp, self._udp = _two_servers(self)
        host, port = self._udp.server_address
        self.address = f"{host}#{port}"
        self._threads: list[threading.Thread] = []

    def start(self, look_seconds: float = 0.05) -> None:
        """`look_seconds`: how often the servers check whether to stop."""
        for server in (self._udp, self._tcp):
            looking = (look_seconds,)
            thread = threading.Thread(target=server.serve_forever, args=looking, daemon=True)
            thread.start()
            self._threads.append(thread)

    def stop(self) -> None:
        for server in (self._udp, self._tcp):
            if self._threads:
                server.shutdown()
            server.server_close()

    # -- its records -------------------------------------------------------------

    def publish(self, name: str, kind: str, *values: str) -> None:
        """Set a name's records of this kind, written as in a zone file. No values remove them."""
        with self._lock:
            records = self._records.setdefault(_key(name), {})
            records[kind] = list(values)
            if not values:
                del records[kind]
            if self._store:
                draft = self._store.with_suffix(".new")
                draft.write_text(json.dumps(self._records))
                draft.replace(self._store)

    def publish_text(self, name: str, text: str) -> None:
        escaped = text.replace("\\", "\\\\").replace('"', '\\"')
        self.publish(name, "TXT", f'"{escaped}"')

    def answer(self, wire: bytes, is_tcp: bool) -> bytes | None:
        """The answer to a query, or None to say nothing."""
        try:
            query = dns.message.from_wire(wire)
            question = query.question[0]
        except (dns.exception.DNSException, IndexError):
            return None
        name, kind = question.name, question.rdtype
        self.questions.append((name.to_text(True), dns.rdatatype.to_text(kind)))
        fault = self.fault
        if fault == "silent":
            return None
        if fault == "garbage":
            return wire[:2] + b"\xff" * 20
        if fault == "slow":
            time.sleep(self.slow_seconds)
        response = dns.message.make_response(query, recursion_available=fault != "referral")
        codes = {"servfail": dns.rcode.SERVFAIL, "refused": dns.rcode.REFUSED}
        if fault in codes or fault == "nxdomain":
            response.set_rcode(codes.get(fault, dns.rcode.NXDOMAIN))
        elif fault == "truncated" and not is_tcp:
            response.flags |= dns.flags.TC
        elif fault != "referral":
            self._fill(response, name, kind)
        try:
            return response.to_wire(max_size=65535 if is_tcp else 0)
        except dns.exception.TooBig:  # the client asks again over TCP
            response.answer.clear()
            response.flags |= dns.flags.TC
            return response.to_wire()

    def _of(self, name: str) -> dict[str, list[str]]:
        """A name's records. A wildcard counts only if neither it nor a name below it has any."""
        while name not in self._records and not self._has_names_below(name):
            name = name.partition(".")[2]
            if f"*.{name}" in self._records:
                return self._records[f"*.{name}"]
            if not name or name in self._records:
                return {}
        return self._records.get(name, {})

    def _has_names_below(self, name: str) -> bool:
        below = (each for each in self._records if not each.startswith("*."))
        return any(each.endswith(f".{name}") for each in below)

    def _fill(self, response, name: dns.name.Name, kind) -> None:
        text = dns.rdatatype.to_text(kind)
        with self._lock:
            for _ in range(CNAMES_MAX):
                records = self._of(_key(name.to_text()))
                if text in records:
                    response.answer.append(_rrset(name, text, records[text]))
                if text in records or "CNAME" not in records:
                    break
                response.answer.append(_rrset(name, "CNAME", records["CNAME"]))
                name = response.answer[-1][0].target
            if not records:
                response.set_rcode(dns.rcode.NXDOMAIN)


def _key(name: str) -> str:
    return name.lower().rstrip(".")


def _rrset(name: dns.name.Name, kind: str, values: list[str]) -> dns.rrset.RRset:
    return dns.rrset.from_text_list(name, TTL, "IN", kind, values)


class _Udp(socketserver.BaseRequestHandler):
    def handle(self):
        wire, sock = self.request
        answer = self.server.stand_in.answer(wire, is_tcp=False)
        if answer is not None:
            sock.sendto(answer, self.client_address)


class _Tcp(socketserver.StreamRequestHandler):
    timeout = 10

    def handle(self):
        while len(length := self.rfile.read(2)) == 2:
            wire = self.rfile.read(struct.unpack("!H", length)[0])
            answer = self.server.stand_in.answer(wire, is_tcp=True)
            if answer is None:
                return
            self.wfile.write(struct.pack("!H", len(answer)) + answer)


class _UdpServer(socketserver.ThreadingUDPServer):
    daemon_threads = True
    block_on_close = False


class _TcpServer(socketserver.ThreadingTCPServer):
    daemon_threads = True
    block_on_close = False
    allow_reuse_address = True


def _two_servers(stand_in: SandboxDns) -> tuple[_TcpServer, _UdpServer]:
    """Bind both to the same free port."""
    while True:
        tcp = _TcpServer(("127.0.0.1", 0), _Tcp)
        try:
            udp = _UdpServer(tcp.server_address, _Udp)
        except OSError:
            tcp.server_close()
            continue
        tcp.stand_in = udp.stand_in = stand_in
        return tcp, udp
