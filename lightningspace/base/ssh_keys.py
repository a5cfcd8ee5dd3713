"""Public SSH keys: whatever form somebody pastes, normalised to the line that ssh-keygen writes."""

import base64
import re
import unicodedata

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_ssh_public_key

from lightningspace.base.names import UNSEEN

PASTED_MAX = 16 * 1024
# The longest key, wrapped narrowly.
LINES_MAX = 200
COMMENT_MAX = 100
CONTROLS = re.compile(r"[\x00-\x1f\x7f]")
BEGINS = re.compile(
    r"(?<![^\s\"'])(ssh-ed25519|ssh-rsa|ecdsa-sha2-nistp(?:256|384|521)|"
    r"sk-(?:ssh-ed25519|ecdsa-sha2-nistp256)@openssh\.com)\s+(?=AAAA)",
    re.I,
)
# The format of PuTTY and others (RFC 4716).
SSH2 = "BEGIN SSH2 PUBLIC KEY"
ENCODED = re.compile(r"(?<!\S)AAAA[A-Za-z0-9+/=\s]+")
# What editors and mail programs put around a text, and in place of hyphens.
AROUND = " \t\r\n\v\f\xa0\"'`«»‹›‘’‚‛“”„‟"
QUOTED = re.compile(r"^[>\s]+", re.M)
DASHES = re.compile("[\u2010-\u2015\u2212]")

NO_KEY = (
    "This is not a public key as ssh-keygen writes it: one line that begins with ssh-ed25519, "
    "ssh-rsa or ecdsa-sha2-…"
)
ONE_ONLY = "Paste only one key."
NOTHING_BEFORE = "Begin with ssh-…: leave out what stands before the key, such as options."
NO_DSA = "Servers no longer accept DSA keys. Make another one: ssh-keygen -t ed25519"
# OpenSSH accepts no others.
RSA_BITS = range(1024, 16384 + 1)
NO_RSA = (
    f"OpenSSH takes RSA keys of {RSA_BITS[0]} to {RSA_BITS[-1]} bits. Make another one: "
    "ssh-keygen -t ed25519"
)
TO_CONVERT = "Paste it as ssh-keygen writes it, on one line: ssh-keygen -i {}-f FILE"


def is_kept(text: str) -> bool:
    """Whether it is in the form that `read` returns."""
    try:
        return read(text) == text
    except ValueError:
        return False


def read(pasted: str) -> str:
    """The one public key in a text, on one line. Its comment becomes ASCII, because the panel's
    tables cannot store everything else. Raises ValueError with a text for whoever pasted it.
    """
    if len(pasted) > PASTED_MAX:
        raise ValueError(NO_KEY)
    text = QUOTED.sub("", DASHES.sub("-", UNSEEN.sub("", pasted))).strip(AROUND)
    if SSH2 in text:
        text = _of_ssh2(text)
    found = BEGINS.search(text)
    if found is None:
        raise ValueError(_why_none(text))
    if found.start():
        raise ValueError(NOTHING_BEFORE)
    if BEGINS.search(text, found.end()):
        raise ValueError(ONE_ONLY)
    kind, words = found[1].lower(), text[found.end() :].split()
    for count in range(1, min(len(words), LINES_MAX) + 1):
        encoded = "".join(words[:count])
        if _is_key(kind, encoded):
            return " ".join(filter(None, (kind, encoded, _comment(words[count:]))))
    raise ValueError(NO_KEY)


def _is_key(kind: str, encoded: str) -> bool:
    try:
        # Python also accepts too much padding.
        is_exact = base64.b64encode(base64.b64decode(encoded, validate=True)).decode() == encoded
        key = load_ssh_public_key(f"{kind} {encoded}".encode()) if is_exact else None
    except (ValueError, UnsupportedAlgorithm):
        return False
    if isinstance(key, RSAPublicKey) and key.key_size not in RSA_BITS:
        raise ValueError(NO_RSA)
    return key is not None


def _comment(words: list[str]) -> str:
    plain = unicodedata.normalize("NFKD", " ".join(words)).encode("ascii", "ignore").decode()
    if CONTROLS.search(plain):
        raise ValueError(NO_KEY)
    return " ".join(plain.split())[:COMMENT_MAX].rstrip()


def _of_ssh2(text: str) -> str:
    if text.count(SSH2) > 1:
        raise ValueError(ONE_ONLY)
    body = text.partition(SSH2)[2].partition("END SSH2")[0]
    found = ENCODED.search(body)  # after the headers
    try:
        encoded = "".join(found[0].split()) if found else ""
        key = base64.b64decode(encoded, validate=True)
        kind = key[4 : 4 + int.from_bytes(key[:4])].decode()
    except ValueError:
        kind = ""
    if not kind:
        raise ValueError(TO_CONVERT.format(""))
    return f"{kind} {encoded}"


def _why_none(text: str) -> str:
    if re.match("ssh-dss", text, re.I):
        return NO_DSA
    if "PUBLIC KEY" in text:
        return TO_CONVERT.format("-m PEM " if "RSA PUBLIC KEY" in text else "-m PKCS8 ")
    return NO_KEY
