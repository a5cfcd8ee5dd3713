"""L402 tokens: the test vector, other libraries, and everything that is no token."""

import hashlib

from lightningspace import l402


def sha256(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


# The same bytes come from pymacaroons, from js-macaroon and from Go's macaroon.v2.
VECTOR = (
    "AgEEbHNhdAJCAADFoGraWbtfniivONeh36aV2iqR+upeiohG/Nqxs1eAOscRecI7de06Hs/B4VruGohsVodUGx3+7EKV"
    "7B5/RosPAAIUc2VydmljZXM9d2ViOjAsYXBpOjEAAht3ZWJfY2FwYWJpbGl0aWVzPXJlYWQsd3JpdGUAAhp3ZWJfdmFs"
    "aWRfdW50aWw9MjAwMDAwMDAwMAAABiCAIKPkvZ34mMBe4wf0AGEpSEIaMV4cmm332v2I92lZoA=="
)
PREIMAGE = sha256(b"pre")
IDENTIFIER = l402.IDENTIFIER.pack(0, sha256(PREIMAGE), sha256(b"tid"))
CAVEATS = ("services=web:0,api:1", "web_capabilities=read,write", "web_valid_until=2000000000")


def test_the_vector_is_minted_byte_for_byte():
    assert str(l402.mint(sha256(b"root"), IDENTIFIER, *CAVEATS)) == VECTOR


def test_the_vector_is_read():
    macaroon = l402.read(VECTOR)
    assert macaroon == l402.mint(sha256(b"root"), IDENTIFIER, *CAVEATS)
    assert macaroon.payment_hash == sha256(PREIMAGE)
    l402.check_signature(macaroon, sha256(b"root"))
