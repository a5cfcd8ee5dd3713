"""Questions to the domain name system: what a domain's owner has written there."""

import dns.exception
import dns.flags
import dns.name
import dns.nameserver
import dns.resolver

# One question as a whole, with every server and over TCP where the answer is long.
QUESTION_SECONDS = 5
# What fits through every network in one piece.
PAYLOAD_BYTES = 1232


class DnsError(Exception):
    """Nobody knows: no server answered, or with no answer to the question."""


class Resolver:
    """Asks `servers` ("ip#port"), or those of the system when there are none.

    A list that is empty says that there are no such records, for certain.
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
        """The texts at a name. One that is no UTF-8 is left out."""
        texts = []
        for record in self._ask(name, "TXT"):
            try:
                texts.append(b"".join(record.strings).decode())
            except UnicodeDecodeError:
                pass
        return texts

    def mx(self, name: str) -> list[str]:
        """The hosts that take a domain's mail, in lower case and without dot, the best first."""
        records = sorted(self._ask(name, "MX"), key=lambda each: (each.preference, each.exchange))
        hosts = [each.exchange.to_text(omit_final_dot=True).lower() for each in records]
        return [host for host in hosts if host not in (".", "@", "")]  # "." says: no mail at all

    def addresses(self, name: str) -> set[str]:
        """The addresses that a name leads to, of both kinds."""
        return {each.address for kind in ("A", "AAAA") for each in self._ask(name, kind)}

    def _ask(self, name: str, kind: str) -> list:
        try:
            # Absolute: the machine's search domains are not asked.
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
        # Made for each question: /etc/resolv.conf may change, or not be there yet.
        resolver = dns.resolver.Resolver(self._system, configure=not self._servers)
        if self._servers:
            parts = [server.rpartition("#") for server in self._servers]
            resolver.nameservers = [
                dns.nameserver.Do53Nameserver(address, int(port)) for address, _, port in parts
            ]
        resolver.lifetime = self._seconds
        resolver.timeout = self._seconds / 3  # of each try
        resolver.use_edns(0, 0, PAYLOAD_BYTES)
        return resolver


def _check_competence(response) -> None:
    """A server that neither looks for others nor holds the zone has nothing to say of it."""
    if not response.flags & (dns.flags.RA | dns.flags.AA):
        raise DnsError("the server only refers to others: DNS_SERVERS needs ones that resolve")
