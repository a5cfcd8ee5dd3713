"""DNS: whether sites, mail and the shop itself are found by their names."""

import secrets
from collections.abc import Iterator

from lightningspace.operator.doctor.patient import Patient, is_address
from lightningspace.outside.dns import DnsError

SPF = "v=spf1"


def answer(patient: Patient) -> Iterator[str]:
    """Whether a resolver answers, and makes up no address for an unknown name (RFC 6761)."""
    name = f"{secrets.token_hex(8)}.invalid"
    try:
        made_up = patient.shop.resolver.addresses(name)
    except DnsError as error:
        yield (
            f"no resolver answers ({error}): write ones that do into DNS_SERVERS, such as 9.9.9.9, "
            "or into /etc/resolv.conf"
        )
        return
    if made_up:
        yield (
            f"the resolver made up {_listed(made_up)} for a name that does not exist: write "
            "another into DNS_SERVERS, such as 9.9.9.9"
        )


def sites(patient: Patient) -> Iterator[str]:
    resolver, base = patient.shop.resolver, patient.config.base_domain
    found = resolver.addresses(f"doctor-{secrets.token_hex(4)}.{base}")
    hosts = patient.config.server_hosts.values()
    expected = set().union(*(_addresses(patient, host) for host in hosts))
    if not found:
        yield (
            f"sites are not found: publish an A and an AAAA record for *.{base} with the addresses "
            "of the hosting server"
        )
    elif expected and not found <= expected:
        yield (
            f"*.{base} leads to {_listed(found - expected)}, and SERVER_HOSTS to "
            f"{_listed(expected)}: let both lead to the hosting server"
        )
    for host in hosts:
        if not _addresses(patient, host):
            yield f"{host} of SERVER_HOSTS is not found: publish its A record"


def _addresses(patient: Patient, host: str) -> set[str]:
    return {host} if is_address(host) else patient.shop.resolver.addresses(host)


def mail_of_sites(patient: Patient) -> Iterator[str]:
    resolver, base = patient.shop.resolver, patient.config.base_domain
    name = f"doctor-{secrets.token_hex(4)}.{base}"
    hosts = resolver.mx(name)
    if not hosts:
        yield f"mailboxes get no mail: publish `*.{base}. MX 10 <the hosting server>`"
    for host in hosts:
        if not _addresses(patient, host):
            yield f"the MX of *.{base} names {host}, which is not found: publish its A record"
    if not _has_spf(patient, name):
        yield (
            f'mail of customers is taken for forged: publish `*.{base}. TXT "{SPF} mx -all"`, if '
            "they send by the hosting server alone"
        )


def our_mail(patient: Patient) -> Iterator[str]:
    domain = patient.config.mail_from.rpartition("@")[2]
    if not patient.config.smtp_url or patient.is_for_this_machine or is_address(domain):
        return
    if not _has_spf(patient, domain):
        yield (
            f"the shop's mail is taken for forged: publish a TXT record of {domain} that begins "
            f"with {SPF} and names the mail server of SMTP_URL, as your mail provider says"
        )


def _has_spf(patient: Patient, name: str) -> bool:
    return any(text.lower().startswith(SPF) for text in patient.shop.resolver.txt(name))


def the_shop(patient: Patient) -> Iterator[str]:
    host = patient.host
    if patient.is_for_this_machine or is_address(host) or host.endswith((".onion", ".localhost")):
        return
    if not patient.shop.resolver.addresses(host):
        yield (
            f"{host} of PUBLIC_URL is not found: publish its A record, with this machine's address"
        )


def _listed(addresses: set[str]) -> str:
    return ", ".join(sorted(addresses))


CHECKS = {
    "dns": answer,
    "dns sites": sites,
    "dns mail": mail_of_sites,
    "dns our mail": our_mail,
    "dns shop": the_shop,
}
