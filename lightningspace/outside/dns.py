"""DNS lookups: the records that a domain's owner has published."""

import dns.exception
import dns.flags
import dns.name
import dns.nameserver
import dns.resolver

# For one question in all: every server, and TCP where the answer is long.
QUESTION_SECONDS = 5
# The largest UDP answer that no network fragments.
PAYLOAD_BYTES = 1232


class DnsError(Exception):
    """The answer is unknown: no server answered, or none answered the question."""


class Resolver:
    """Asks `servers` ("ip#port"), or the system's if there are none.

    An empty list is a definite answer: there are no such records. All methods raise DnsError.
    """

    def __init__(
        self,
        servers: tuple[str, ...] = (),
        seconds: float = QUESTION_SECONDS,
        system: str = "/etc/resolv.conf",
    ):
        self._servers = servers
        self._seconds = seconds
        self._system = system

    def txt(self, name: str) -> list[str]:
        """The TXT records of a name. Those that are not UTF-8 are left out."""
        texts = []
        for record in self._ask(name, "TXT"):
            try:
                texts.append(b"".join(record.strings).decode())
            except UnicodeDecodeError:
                pass
        return texts

    def mx(self, name: str) -> list[str]:
        """A domain's mail hosts, in lower case without the final dot, best first."""
        records = sorted(self._ask(name, "MX"), key=lambda each: (each.preference, each.exchange))
        hosts = [each.exchange.to_text(omit_final_dot=True).lower() for each in records]
        return [host for host in hosts if host not in (".", "@", "")]  # "." says: no mail at all

    def addresses(self, name: str) -> set[str]:
        """The IPv4 and IPv6 addresses of a name."""
        return {each.address for kind in ("A", "AAAA") for each in self._ask(name, kind)}

    def _ask(self, name: str, kind: str) -> list:
        try:
            # Absolute, so that the machine's search domains do not apply.
            full_name = dns.name.from_text(name, origin=dns.name.root)
            answer = self._resolver().resolve(full_name, kind, search=False)
        except dns.resolver.NXDOMAIN:
            return []
        except dns.resolver.NoAnswer as error:
            _check_competence(error.response())
            return []
        except (dns.exception.DNSException, OSError, ValueError) as error:
            raise DnsError(f"{kind}: {type(error).__name__}") from error
        return list(answer)

    def _resolver(self) -> dns.resolver.Resolver:
        # A new one each time: /etc/resolv.conf may change, or not exist yet.
        resolver = dns.resolver.Resolver(self._system, configure=not self._servers)
        if self._servers:
            parts = [server.rpartition("#") for server in self._servers]
            resolver.nameservers = [
                dns.nameserver.Do53Nameserver(address, int(port)) for address, _, port in parts
            ]
        resolver.lifetime = self._seconds
        resolver.timeout = self._seconds / 3  # per try
        resolver.use_edns(0, 0, PAYLOAD_BYTES)
        return resolver


def _check_competence(response) -> None:
    """Refuse the answer of a server that neither recurses nor holds the zone."""
    if not response.flags & (dns.flags.RA | dns.flags.AA):
        raise DnsError("the server only refers to others: DNS_SERVERS needs ones that resolve")
