"""FTP, by which the worker puts files on sites."""

from collections.abc import Iterator

from lightningspace.operator.doctor.dates import ends_soon
from lightningspace.operator.doctor.patient import Patient
from lightningspace.outside.certificates import after
from lightningspace.outside.ftp import FtpServer, Unreachable

SECONDS = 10


def _addresses(patient: Patient) -> dict[int, tuple[str, int]]:
    """Where the worker uploads to, by server. Without a setting it uses each site's own name, for
    which one name stands here.
    """
    config = patient.config
    if not config.ftp_uploads:
        return {}
    hosts = {
        id: config.server_hosts.get(id, f"doctor.{config.base_domain}")
        for id in config.panel_server_id
    }
    return {id: config.ftp_addresses.get(id, (host, 21)) for id, host in hosts.items()}


def answers(patient: Patient) -> Iterator[str]:
    config = patient.config
    for id, (host, port) in _addresses(patient).items():
        try:
            FtpServer(host, port, config.ftp_tls, config.ftp_verify_tls, SECONDS).try_out()
        except Unreachable as error:
            yield (
                f"server {id}, {host}:{port}: {error}. See “FTP errors” in "
                "docs/problems.md; FTP_ADDRESSES names another address, and FTP_UPLOADS=false "
                "does without"
            )


def certificates(patient: Patient) -> Iterator[str]:
    if not patient.config.ftp_tls:
        return
    for id, (host, port) in _addresses(patient).items():
        yield from ends_soon(
            f"the FTP certificate of server {id}, {host},",
            "let pure-ftpd have the one that ISPConfig renews for its own host",
            host,
            port,
            patient.config.ftp_verify_tls,
            after(b"AUTH TLS"),
        )


CHECKS = {"ftp": answers, "ftp certificate": certificates}
