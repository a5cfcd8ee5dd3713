"""Self-signed certificates for the stand-ins."""

import datetime
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec


def self_signed(path: Path, name: str = "localhost", days: int = 1, age_days: int = 0) -> Path:
    """Write a PEM file with a key and a certificate for this machine, and return its path.

    It is valid for `days` from `age_days` ago.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    issuer = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    begins = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=age_days)
    hosts = [x509.DNSName(name)]
    hosts += [x509.IPAddress(ip_address(text)) for text in ("127.0.0.1", "127.0.0.2", "::1")]
    certificate = (
        x509.CertificateBuilder(issuer, issuer, key.public_key(), x509.random_serial_number())
        .not_valid_before(begins)
        .not_valid_after(begins + datetime.timedelta(days=days))
        .add_extension(x509.SubjectAlternativeName(hosts), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    private = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    path.write_bytes(key.private_bytes(pem, *private) + certificate.public_bytes(pem))
    return path
