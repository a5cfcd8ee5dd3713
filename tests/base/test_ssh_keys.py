"""Public SSH keys as people paste them, and text that is not a key."""

import base64
import textwrap

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from lightningspace.base import ssh_keys
from lightningspace.sandbox.panel import SHELL

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIB0NEtxcJ2O5pSNUEvSLhZqVgVn3Dq3JfHEtVxkS3gbq"


def line_of(public) -> str:
    return public.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()


RSA_KEY = rsa.RSAPublicNumbers(65537, 7**729).public_key()
RSA = line_of(RSA_KEY)
CURVES = [
    line_of(ec.derive_private_key(7, of()).public_key()) for of in (ec.SECP256R1, ec.SECP521R1)
]
WRAPPED = textwrap.wrap(RSA.split()[1], 70)
SSH2 = "\n".join(
    ["---- BEGIN SSH2 PUBLIC KEY ----", 'Comment: "a long\\', 'comment"', "Subject: alice"]
    + [*WRAPPED, "---- END SSH2 PUBLIC KEY ----\n"]
)


def of_bits(bits: int) -> str:
    return line_of(rsa.RSAPublicNumbers(65537, (1 << bits) - 1).public_key())


def of_a_token(kind: str, *fields: bytes) -> str:
    parts = (kind.encode(), *fields)
    encoded = base64.b64encode(b"".join(len(part).to_bytes(4) + part for part in parts))
    return f"{kind} {encoded.decode()}"


def test_a_key_stays_as_it_is(subtests):
    for key in [KEY, RSA, *CURVES, of_a_token("sk-ssh-ed25519@openssh.com", b"k" * 32, b"ssh:")]:
        with subtests.test(key=key):
            for text in (key, f"{key} alice@laptop", f"{key} a 'b' \"c\\d\" <e>"):
                assert ssh_keys.is_kept(text)
                assert SHELL.stored("ssh_rsa", text) == text


def test_a_key_is_read_however_it_was_pasted(subtests):
    for pasted, kept in [
        (f"{KEY} José Müller (laptop)", f"{KEY} Jose Muller (laptop)"),
        (f"{KEY} 😀 алиса\u200d", KEY),
        (f"\ufeff {KEY}\talice \r\n\r\n", f"{KEY} alice"),
        (f"{KEY.replace(' ', '   ')}  a   b", f"{KEY} a b"),
        (f"{KEY}\xa0alice".replace(" ", "\xa0"), f"{KEY} alice"),
        (f"“{KEY} alice”", f"{KEY} alice"),
        (f'"{KEY}"', KEY),
        (f"```\n{KEY} alice\n```", f"{KEY} alice"),
        (f"{KEY[:40]}\u200b{KEY[40:]}", KEY),
        (KEY.replace("ssh-", "Ssh\u2011"), KEY),
        (f"{KEY}\nalice@laptop", f"{KEY} alice@laptop"),
        # With the signature of the mail that it was copied from.
        (f"{KEY} alice\n\n-- \n{'Alice, ' * 30}", f"{KEY} alice -- {'Alice, ' * 13}".rstrip()),
        ("\r\n".join(["ssh-rsa", *WRAPPED, "alice"]), f"{RSA} alice"),
        ("\n".join(f"> {line}" for line in ("ssh-rsa", *WRAPPED)), RSA),
        (SSH2, RSA),
        (SSH2.replace("\n", "\r\n").replace("----", "-----"), RSA),
        (SSH2.replace("\n", " "), RSA),
    ]:
        with subtests.test(pasted=pasted, kept=kept):
            assert ssh_keys.read(pasted) == kept
            assert not ssh_keys.is_kept(pasted) and ssh_keys.is_kept(kept)


def as_pem(format) -> str:
    return RSA_KEY.public_bytes(Encoding.PEM, format).decode()


def test_text_that_is_not_a_key_is_refused_with_advice(subtests):
    for pasted, why in [
        (f'from="192.0.2.1",no-pty {KEY}', ssh_keys.NOTHING_BEFORE),
        (f'command="{KEY}" {KEY}', ssh_keys.NOTHING_BEFORE),
        (f"example.org {KEY}", ssh_keys.NOTHING_BEFORE),
        (f"{KEY}\n{RSA}", ssh_keys.ONE_ONLY),
        (f"{KEY} {KEY}", ssh_keys.ONE_ONLY),
        (SSH2 + SSH2, ssh_keys.ONE_ONLY),
        ("ssh-dss AAAAB3NzaC1kc3MAAACBAM", ssh_keys.NO_DSA),
        *((of_bits(bits), ssh_keys.NO_RSA) for bits in (512, 1023, 16385)),
        ("---- BEGIN SSH2 PUBLIC KEY ----\nnothing", "ssh-keygen -i -f FILE"),
        (as_pem(PublicFormat.SubjectPublicKeyInfo), "ssh-keygen -i -m PKCS8 -f FILE"),
        (as_pem(PublicFormat.PKCS1), "ssh-keygen -i -m PEM -f FILE"),
        *((text, ssh_keys.NO_KEY) for text in ("", "x", "ssh-ed25519", f"{KEY}=", f"{KEY}AAAA")),
        *((f"ssh-rsa {part}", ssh_keys.NO_KEY) for part in (KEY.split()[1], "A" * 60, "AAAA" * 9)),
        *((f"{KEY} {end}", ssh_keys.NO_KEY) for end in ("\0", "\x1b[2J", "x" * 10**6)),
        ("ssh-rsa " + "AAAA " * 3000, ssh_keys.NO_KEY),
        (f"ssh-ed25519-cert-v01@openssh.com {KEY.split()[1]}", ssh_keys.NO_KEY),
    ]:
        with subtests.test(pasted=pasted, why=why):
            with pytest.raises(ValueError) as refused:
                ssh_keys.read(pasted)
            assert why in str(refused.value)
