"""L402 headers: a challenge that every client can read, and credentials as clients write them."""

import base64
import hashlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lightningspace.outside import l402
from lightningspace.visitors import authorization
from lightningspace.visitors.authorization import Credential, credentials

PREIMAGE = hashlib.sha256(b"pre").digest()
OTHER_PREIMAGE = hashlib.sha256(b"other").digest()


def minted(preimage: bytes, *caveats: str) -> l402.Macaroon:
    token_id = hashlib.sha256(b"tid" + preimage).digest()
    identifier = l402.IDENTIFIER.pack(0, hashlib.sha256(preimage).digest(), token_id)
    return l402.mint(b"root", identifier, "services=lightning-space:0", *caveats)


TOKEN, OTHER = minted(PREIMAGE), minted(OTHER_PREIMAGE, "lightning-space_capabilities=read??>>")
M, P = str(TOKEN), PREIMAGE.hex()
M2, P2 = str(OTHER), OTHER_PREIMAGE.hex()
BOTH = [(OTHER, OTHER_PREIMAGE), (TOKEN, PREIMAGE)]  # in the order they are found: last first


def found_in(authorization="", **headers) -> list[tuple]:
    environ = {"HTTP_AUTHORIZATION": authorization}
    environ |= {f"HTTP_{name.upper()}": value for name, value in headers.items()}
    return [(each.macaroon, each.preimage) for each in credentials(environ)]


def in_hex(token: l402.Macaroon, *preimages: bytes) -> str:
    return token.narrowed(*(f"preimage={each.hex()}" for each in preimages)).packed().hex()


def test_the_challenge_is_written_byte_for_byte_as_every_client_reads_it():
    assert authorization.challenge("TUFD+/8=", "lnbcrt1xyz") == [
        'LSAT macaroon="TUFD+/8=", invoice="lnbcrt1xyz"',
        'L402 macaroon="TUFD+/8=", invoice="lnbcrt1xyz", version="0", token="TUFD+/8="',
    ]


def test_one_credential_is_read_however_it_is_written(subtests):
    for header in [
        f"L402 {M}:{P}",
        f"LSAT {M}:{P}",
        f"l402 {M}:{P}",
        f"lSaT {M}:{P}",
        f"L402  {M}:{P} ",
        f"L402\t{M} : {P}",
        f"L402 {M}:{P.upper()}",
        f"L402 {M.rstrip('=')}:{P}",
        f"L402 {base64.urlsafe_b64encode(TOKEN.packed()).decode()}:{P}",
        f"L402 {base64.urlsafe_b64encode(TOKEN.packed()).decode().rstrip('=')}:{P}",
        # Beside another scheme, in one line, as a server joins headers.
        f"Basic dXNlcjpwYXNz,L402 {M}:{P}",
        f"L402 {M}:{P}, Basic dXNlcjpwYXNz",
        f'Digest username="a", realm="b,c", L402 {M}:{P},Bearer abc',
        # An unreadable credential does not spoil a good one.
        f"L402 nonsense:{P},L402 {M}:{P}",
        f"L402 {M}:{P},L402 nonsense",
    ]:
        with subtests.test(header=header):
            assert found_in(header) == [(TOKEN, PREIMAGE)]


def test_both_alphabets_of_base64_differ_in_the_tokens_of_this_test():
    assert set("+/") & set(M2)


def test_of_two_joined_headers_the_last_credential_comes_first(subtests):
    for comma in [",", ", ", " , "]:
        with subtests.test(comma=comma):
            assert found_in(f"L402 {M}:{P}{comma}LSAT {M2}:{P2}") == BOTH
            url_safe = base64.urlsafe_b64encode(OTHER.packed()).decode().rstrip("=")
            assert found_in(f"L402 {M}:{P}{comma}l402 {url_safe}:{P2}") == BOTH


def test_several_macaroons_may_share_a_preimage(subtests):
    for comma in [",", ", "]:
        with subtests.test(comma=comma):
            assert found_in(f"L402 {M}{comma}{M2}:{P}") == [(OTHER, PREIMAGE), (TOKEN, PREIMAGE)]


def test_the_grpc_way_has_the_preimage_in_the_token_and_the_last_counts(subtests):
    for name in ["macaroon", "grpc_metadata_macaroon"]:
        with subtests.test(name=name):
            token = TOKEN.narrowed(f"preimage={P2}", f"preimage={P}")
            for text in (token.packed().hex(), token.packed().hex().upper()):
                assert found_in(**{name: text}) == [(token, PREIMAGE)]


def test_a_preimage_in_the_token_does_not_count_beside_that_in_the_header():
    token = TOKEN.narrowed(f"preimage={P2}")
    assert found_in(f"L402 {token}:{P}") == [(token, PREIMAGE)]


def test_authorization_counts_before_the_grpc_way():
    in_token = OTHER.narrowed(f"preimage={P2}")
    both = found_in(f"L402 {M}:{P}", macaroon=in_token.packed().hex())
    assert both == [(TOKEN, PREIMAGE), (in_token, OTHER_PREIMAGE)]


def test_other_schemes_are_no_credential(subtests):
    for header in [
        "",
        " ",
        ",",
        "Basic dXNlcjpwYXNz",
        f"Bearer {M}:{P}",
        f"{M}:{P}",
        "Negotiate",
        "L4020 a:b",
    ]:
        with subtests.test(header=header):
            assert found_in(header) == []


def test_what_cannot_be_read_is_said_to_be_so(subtests):
    for header in [
        "L402",
        "L402 ",
        "LSAT,",
        f"L402:{M}:{P}",
        f"L402 {M}",
        f"L402 {M}:",
        f"L402 :{P}",
        f"L402 {M}:{P[:-1]}",
        f"L402 {M}:{P}0",
        f"L402 {M}:{'g' * 64}",
        f"L402 {M}:{P}:{P}",
        f"L402 {M[:-9]}:{P}",
        f"L402 {M[1:]}:{P}",
        f"L402 !{M}:{P}",
        f"L402 {M}\xff:{P}",
        f'L402 macaroon="{M}", preimage="{P}"',
        f"L402 {'A' * 6000}:{P}",
        "L402 " + ",".join([M] * 5) + f":{P}",
        ",".join([f"L402 {M}:{P}"] * 200),
        f"Basic abc,L402 {M}",
    ]:
        with subtests.test(header=header), pytest.raises(l402.Invalid):
            found_in(header)


def test_hex_that_is_not_a_token_with_its_preimage_is_refused(subtests):
    for text in [
        in_hex(TOKEN),
        in_hex(TOKEN, PREIMAGE)[:-1],
        in_hex(TOKEN, PREIMAGE)[:-2],
        "zz" + in_hex(TOKEN, PREIMAGE),
        M,
        "00" * 5000,
        TOKEN.narrowed("preimage=").packed().hex(),
        TOKEN.narrowed("preimage=" + "ü" * 32).packed().hex(),
    ]:
        with subtests.test(text=text), pytest.raises(l402.Invalid):
            found_in(macaroon=text)


PIECES = ["L402", "LSAT", " ", ",", ", ", ":", "=", M, M2, M[:40], P, P2, P[:9], "Basic a", "\xff"]


@settings(max_examples=500, deadline=None)
@given(
    st.lists(st.sampled_from(PIECES) | st.text("L402SAT,: =\t\x00\xe4", max_size=9)), st.booleans()
)
def test_whatever_is_sent_is_read_or_refused(pieces, as_hex):
    text = "".join(pieces)
    try:
        found = found_in(macaroon=text) if as_hex else found_in(text)
    except l402.Invalid:
        return
    assert all(isinstance(macaroon, l402.Macaroon) for macaroon, _ in found)
    assert len(found) <= authorization.CREDENTIALS_MAX


def test_a_credential_does_not_show_itself():
    shown = repr(Credential(TOKEN, PREIMAGE))
    assert P not in shown and M not in shown
