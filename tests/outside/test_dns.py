"""Questions to name servers over real sockets: faults are told from answers that are certain."""

import socket
import threading
import time

import pytest
from dns.resolver import BaseResolver

from lightningspace.outside.dns import DnsError, Resolver
from lightningspace.sandbox.dns import SandboxDns
from tests.conftest import SOON_SECONDS, with_settings

WORST = ("", ".", "..", "a..b", "\0", "a\0.example", "🦊.example", "x" * 10_000, "\\", "a\\.b", "@")


@pytest.fixture
def resolver(dns):
    return Resolver((dns.address,))


@pytest.fixture
def impatient(dns):
    """A resolver whose deadline is short enough for a test."""
    return Resolver((dns.address,), seconds=0.3)


def test_texts_are_read_and_their_parts_joined(dns, resolver):
    dns.publish("alice.example", "TXT", '"one"', '"t" "wo"', '"gr\\195\\188n"', '""')
    assert sorted(resolver.txt("alice.example")) == ["", "grün", "one", "two"]


def test_an_unreadable_text_is_left_out(dns, resolver):
    dns.publish("alice.example", "TXT", '"\\255\\254"', '"good"')
    assert resolver.txt("alice.example") == ["good"]


def test_mail_hosts_come_in_order_in_lower_case_and_without_dot(dns, resolver):
    dns.publish("alice.example", "MX", "20 b.example.", "5 C.Example.", "10 a.example.")
    assert resolver.mx("alice.example") == ["c.example", "a.example", "b.example"]


def test_an_alias_has_the_addresses_of_its_target(dns, resolver):
    dns.publish("www.alice.example", "CNAME", "alice.example.")
    dns.publish("alice.example", "A", "192.0.2.1")
    dns.publish("alice.example", "AAAA", "2001:db8::1")
    assert resolver.addresses("www.alice.example") == {"192.0.2.1", "2001:db8::1"}
    assert resolver.addresses("bob.example") == set()


def test_a_null_mx_means_no_mail_hosts(dns, resolver):
    dns.publish("alice.example", "MX", "0 .")
    assert resolver.mx("alice.example") == []


def test_unknown_names_and_names_without_records_have_none(dns, resolver):
    dns.publish("alice.example", "TXT", '"x"')
    assert resolver.txt("bob.example") == []
    assert resolver.mx("alice.example") == []


def test_aliases_are_followed(dns, resolver):
    dns.publish("_proof.alice.example", "CNAME", "other.example.")
    dns.publish("other.example", "TXT", '"here"')
    assert resolver.txt("_proof.alice.example") == ["here"]


def test_an_alias_that_leads_nowhere_has_no_records(dns, resolver):
    dns.publish("_proof.alice.example", "CNAME", "nowhere.example.")
    assert resolver.txt("_proof.alice.example") == []


def test_an_alias_of_itself_is_not_followed_for_ever(dns, resolver):
    dns.publish("alice.example", "CNAME", "alice.example.")
    try:
        assert resolver.txt("alice.example") == []
    except DnsError:
        pass


def test_a_long_answer_comes_over_tcp(dns, resolver):
    dns.fault = "truncated"
    dns.publish("alice.example", "TXT", *(f'"{n} {"x" * 200}"' for n in range(20)))
    assert len(resolver.txt("alice.example")) == 20


def test_a_slow_answer_is_waited_for(dns, resolver):
    dns.fault, dns.slow_seconds = "slow", 0.1
    dns.publish("alice.example", "TXT", '"x"')
    assert resolver.txt("alice.example") == ["x"]


@pytest.mark.parametrize("fault", ["silent", "servfail", "refused", "referral", "garbage", "slow"])
@pytest.mark.parametrize("kind", ["txt", "mx"])
def test_a_fault_is_not_an_answer(dns, impatient, fault, kind):
    dns.fault = fault
    began = time.monotonic()
    with pytest.raises(DnsError):
        getattr(impatient, kind)("alice.example")
    assert time.monotonic() - began < SOON_SECONDS


def test_a_missing_answer_over_tcp_is_given_up_in_time(dns):
    """The server says "ask over TCP" over UDP, and nothing over TCP."""
    with socket.socket() as tcp, socket.socket(type=socket.SOCK_DGRAM) as udp:
        tcp.bind(("127.0.0.1", 0))
        tcp.listen()
        udp.bind(tcp.getsockname())
        udp.settimeout(5)
        dns.fault = "truncated"
        resolver = Resolver((f"127.0.0.1#{udp.getsockname()[1]}",), seconds=0.3)

        def answer_once():
            wire, client = udp.recvfrom(2048)
            udp.sendto(dns.answer(wire, is_tcp=False), client)

        thread = threading.Thread(target=answer_once)
        thread.start()
        began = time.monotonic()
        with pytest.raises(DnsError):
            resolver.txt("alice.example")
        thread.join()
        assert time.monotonic() - began < SOON_SECONDS


def test_an_unreachable_server_is_a_fault():
    with socket.socket(type=socket.SOCK_DGRAM) as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    with pytest.raises(DnsError):
        Resolver((f"127.0.0.1#{port}",), seconds=0.3).txt("alice.example")


def test_the_second_server_answers_when_the_first_is_silent(dns):
    dns.publish("alice.example", "TXT", '"x"')
    with socket.socket(type=socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))
        servers = (f"127.0.0.1#{silent.getsockname()[1]}", dns.address)
        resolver = Resolver(servers, seconds=0.6)
        assert resolver.txt("alice.example") == ["x"]


def test_odd_names_give_an_answer_or_a_fault(resolver):
    for name in WORST:
        for ask in (resolver.txt, resolver.mx):
            try:
                assert ask(name) == []
            except DnsError:
                pass


def test_search_domains_of_the_machine_are_not_used(dns, tmp_path, monkeypatch):
    configured = tmp_path / "resolv.conf"
    configured.write_text("search eve.example\nnameserver 127.0.0.1\noptions ndots:5\n")
    dns.publish("alice.example.eve.example", "TXT", '"eve says so"')
    # /etc/resolv.conf cannot name ports.
    port = int(dns.address.partition("#")[2])
    monkeypatch.setattr(BaseResolver, "port", property(lambda _: port, lambda *_: None), False)
    assert Resolver(system=str(configured)).txt("alice.example") == []
    assert dns.questions == [("alice.example", "TXT")]


@pytest.mark.parametrize("content", [None, "", "nameserver", "nameserver nonsense", "\xff\0"])
def test_a_system_without_name_servers_is_a_fault_when_asked(tmp_path, content):
    configured = tmp_path / "resolv.conf"
    if content is not None:
        configured.write_bytes(content.encode("latin-1"))
    with pytest.raises(DnsError):
        Resolver(system=str(configured)).txt("alice.example")


@with_settings(DNS_SERVERS="192.0.2.1:5353, 2001:db8::1")
def test_the_settings_name_the_servers(this_shop):
    assert this_shop.config.dns_servers == ("192.0.2.1#5353", "2001:db8::1#53")
    assert this_shop.resolver._servers == this_shop.config.dns_servers


def test_published_records_outlast_a_restart(tmp_path):
    first = SandboxDns(tmp_path / "dns.json")
    first.publish_text("alice.example", 'a "quoted" \\ text')
    first.stop()
    second = SandboxDns(tmp_path / "dns.json")
    second.start()
    assert Resolver((second.address,)).txt("alice.example") == ['a "quoted" \\ text']
    second.stop()


def test_a_wildcard_answers_for_all_names_below(dns, resolver):
    dns.publish("*.space.example", "A", "192.0.2.1")
    dns.publish("bob.space.example", "A", "192.0.2.2")
    dns.publish("_proof.carol.space.example", "TXT", "x")
    for name, addresses in (
        ("alice.space.example", {"192.0.2.1"}),
        ("www.alice.space.example", {"192.0.2.1"}),
        ("bob.space.example", {"192.0.2.2"}),
        ("www.bob.space.example", set()),
        ("carol.space.example", set()),
        ("space.example", set()),
        ("example", set()),
    ):
        assert resolver.addresses(name) == addresses, name
    assert resolver.txt("alice.space.example") == []


def test_a_record_can_be_taken_back(dns, resolver):
    dns.publish("alice.example", "TXT", '"x"')
    dns.publish("alice.example", "TXT")
    assert resolver.txt("alice.example") == []


def test_malformed_questions_get_no_answer(dns):
    assert dns.answer(b"", is_tcp=False) is None
    assert dns.answer(b"\0" * 12, is_tcp=True) is None
    assert dns.answer(b"\xff" * 500, is_tcp=False) is None
