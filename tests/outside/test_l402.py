"""L402 tokens: the test vector, another library, caveats, keys, and text that is no token."""

import base64
import hashlib
import random

import pytest
from pymacaroons import MACAROON_V1, MACAROON_V2, Verifier
from pymacaroons import Macaroon as TheirMacaroon
from pymacaroons.exceptions import MacaroonInvalidSignatureException
from pymacaroons.serializers import JsonSerializer

from lightningspace.outside import l402
from lightningspace.outside.l402 import WHOLE, Invalid, Keys, Macaroon, Rights, Void

NOW = 1_800_000_000
HERE = "lightning-space"


def sha256(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


# The same bytes come from pymacaroons, from js-macaroon and from Go's macaroon.v2.
VECTOR = (
    "AgEEbHNhdAJCAADFoGraWbtfniivONeh36aV2iqR+upeiohG/Nqxs1eAOscRecI7de06Hs/B4VruGohsVodUGx3+7EKV"
    "7B5/RosPAAIUc2VydmljZXM9d2ViOjAsYXBpOjEAAht3ZWJfY2FwYWJpbGl0aWVzPXJlYWQsd3JpdGUAAhp3ZWJfdmFs"
    "aWRfdW50aWw9MjAwMDAwMDAwMAAABiCAIKPkvZ34mMBe4wf0AGEpSEIaMV4cmm332v2I92lZoA=="
)
ROOT = sha256(b"root")
PREIMAGE = sha256(b"pre")
IDENTIFIER = l402.IDENTIFIER.pack(0, sha256(PREIMAGE), sha256(b"tid"))
OF_RECEIPT = l402.caveats(l402.SERVICE, WHOLE)
CAVEATS = ("services=web:0,api:1", "web_capabilities=read,write", "web_valid_until=2000000000")


@pytest.fixture
def keys():
    return Keys([b"a master key"])


@pytest.fixture
def receipt(keys):
    return keys.mint(sha256(PREIMAGE), keys.token_id(epoch=0), OF_RECEIPT)


# -- the vector, and another library ---------------------------------------------------


def test_the_vector_is_minted_byte_for_byte():
    assert str(l402.mint(ROOT, IDENTIFIER, *CAVEATS)) == VECTOR


def test_the_vector_is_read():
    macaroon = l402.read(VECTOR)
    assert macaroon == l402.mint(ROOT, IDENTIFIER, *CAVEATS)
    assert macaroon.payment_hash == sha256(PREIMAGE)
    assert macaroon.token_id == sha256(b"tid")
    l402.check_signature(macaroon, ROOT)


def theirs(*caveats: str, version=MACAROON_V2, identifier=IDENTIFIER) -> TheirMacaroon:
    macaroon = TheirMacaroon("lsat", identifier, ROOT, version=version)
    for caveat in caveats:
        macaroon.add_first_party_caveat(caveat)
    return macaroon


def read_by_them(macaroon: Macaroon) -> TheirMacaroon:
    return TheirMacaroon.deserialize(base64.urlsafe_b64encode(macaroon.packed()).decode())


def verify_by_them(macaroon: TheirMacaroon) -> bool:
    verifier = Verifier()
    verifier.satisfy_general(lambda caveat: True)
    return verifier.verify(macaroon, ROOT)


# Lengths around those at which a varint gets longer.
SETS_OF_CAVEATS = [(), CAVEATS, *[("x" * length, "ü=ö") for length in (0, 1, 127, 128, 129, 3500)]]


def test_pymacaroons_writes_the_same_bytes(subtests):
    for caveats in SETS_OF_CAVEATS:
        with subtests.test(caveats=caveats):
            ours = l402.mint(ROOT, IDENTIFIER, *caveats)
            assert l402.read(theirs(*caveats).serialize()).packed() == ours.packed()


def test_each_library_accepts_tokens_of_the_other(subtests):
    for caveats in SETS_OF_CAVEATS:
        with subtests.test(caveats=caveats):
            l402.check_signature(l402.read(theirs(*caveats).serialize()), ROOT)
            assert verify_by_them(read_by_them(l402.mint(ROOT, IDENTIFIER, *caveats)))


def test_each_library_accepts_tokens_narrowed_by_the_other():
    ours = read_by_them(l402.mint(ROOT, IDENTIFIER, "services=web:0"))
    ours.add_first_party_caveat("web_capabilities=read")
    l402.check_signature(l402.read(ours.serialize()), ROOT)
    narrowed = l402.read(theirs("services=web:0").serialize()).narrowed("web_capabilities=read")
    assert verify_by_them(read_by_them(narrowed))
    assert narrowed.packed() == l402.read(ours.serialize()).packed()


def test_neither_accepts_a_caveat_that_is_taken_away():
    whole = l402.mint(ROOT, IDENTIFIER, *CAVEATS)
    widened = Macaroon(whole.identifier, whole.caveats[:-1], whole.signature)
    with pytest.raises(Invalid):
        l402.check_signature(widened, ROOT)
    with pytest.raises(MacaroonInvalidSignatureException):
        verify_by_them(read_by_them(widened))


# -- reading ---------------------------------------------------------------------------


def test_base64_is_read_in_all_its_spellings(subtests):
    for spelled in [
        VECTOR.rstrip("="),
        VECTOR.replace("+", "-").replace("/", "_"),
        VECTOR.replace("+", "-").replace("/", "_").rstrip("="),
    ]:
        with subtests.test(spelled=spelled):
            assert str(l402.read(spelled)) == VECTOR


def test_the_location_is_not_signed_and_may_be_missing():
    packed = base64.b64decode(VECTOR)
    assert l402.unpack(packed[:1] + packed[7:]).location == b""
    assert l402.unpack(packed[:1] + packed[7:]).packed() == packed[:1] + packed[7:]


PACKED = base64.b64decode(VECTOR)
ID_FIELD = b"\x02\x42" + IDENTIFIER
SIGNATURE_FIELD = PACKED[-34:]
THIRD_PARTY = theirs()
THIRD_PARTY.add_third_party_caveat("https://auth.example", "a key", "an identifier")

NO_TOKENS = {
    "nothing": b"",
    "only a version": b"\x02",
    "version 1": base64.urlsafe_b64decode(
        theirs(version=MACAROON_V1, identifier="an identifier").serialize() + "=="
    ),
    "version 3": b"\x03" + PACKED[1:],
    "JSON": theirs().serialize(serializer=JsonSerializer()).encode(),
    "a third party's caveat": base64.urlsafe_b64decode(THIRD_PARTY.serialize() + "=="),
    "a byte after it": PACKED + b"\0",
    "another token after it": PACKED * 2,
    "a location twice": PACKED[:7] + PACKED[1:],
    "a location after the identifier": b"\x02" + ID_FIELD + PACKED[1:7] + b"\0\0" + SIGNATURE_FIELD,
    "no identifier": b"\x02\0\0" + SIGNATURE_FIELD,
    "two identifiers": b"\x02" + ID_FIELD * 2 + b"\0\0" + SIGNATURE_FIELD,
    "no end of the identifier": b"\x02" + ID_FIELD + b"\0" + SIGNATURE_FIELD,
    "no end of a caveat": b"\x02" + ID_FIELD + b"\0\x02\x01a\0" + SIGNATURE_FIELD,
    "no signature": b"\x02" + ID_FIELD + b"\0\0",
    "two signatures": b"\x02" + ID_FIELD + b"\0\0" + SIGNATURE_FIELD * 2,
    "a short signature": b"\x02" + ID_FIELD + b"\0\0\x06\x1f" + SIGNATURE_FIELD[3:],
    "a long signature": b"\x02" + ID_FIELD + b"\0\0\x06\x21" + SIGNATURE_FIELD[1:],
    "an unknown field": b"\x02" + ID_FIELD + b"\x07\x01a" + b"\0\0" + SIGNATURE_FIELD,
    "a short identifier": b"\x02\x02\x41" + IDENTIFIER[1:] + b"\0\0" + SIGNATURE_FIELD,
    "an identifier of version 1": (
        b"\x02\x02\x42\x00\x01" + IDENTIFIER[2:] + b"\0\0" + SIGNATURE_FIELD
    ),
    "a length longer than it needs": (b"\x02\x02\xc2\x00" + IDENTIFIER + b"\0\0" + SIGNATURE_FIELD),
    "a length of three bytes": b"\x02" + ID_FIELD + b"\0\x02\x81\x80\x01a\0\0" + SIGNATURE_FIELD,
    "a length cut off": b"\x02\x02\xc2",
    "a length of 10 bytes": b"\x02\x02" + b"\xff" * 9 + b"\x01" + IDENTIFIER,
}


def test_text_that_is_no_token_is_refused(subtests):
    for packed in NO_TOKENS.values():
        with subtests.test(packed=packed):
            with pytest.raises(Invalid) as refused:
                l402.unpack(packed)
            assert refused.type is Invalid


def test_a_token_cut_off_anywhere_is_refused():
    for length in range(len(PACKED)):
        with pytest.raises(Invalid):
            l402.unpack(PACKED[:length])


def test_bad_base64_is_refused(subtests):
    for text in [
        "",
        "=",
        "A",
        "%",
        "AgE\n",
        " " + VECTOR,
        VECTOR[:40] + "=" + VECTOR[40:],
        "ä" * 8,
    ]:
        with subtests.test(text=text), pytest.raises(Invalid):
            l402.read(text)


def test_a_token_has_at_most_4096_bytes():
    empty = len(l402.mint(ROOT, IDENTIFIER, "").packed()) + 1  # a length of two bytes
    largest = l402.mint(ROOT, IDENTIFIER, "x" * (l402.MACAROON_BYTES_MAX - empty))
    assert len(largest.packed()) == l402.MACAROON_BYTES_MAX
    assert l402.read(str(largest)) == largest
    larger = l402.mint(ROOT, IDENTIFIER, "x" * (l402.MACAROON_BYTES_MAX - empty + 1))
    for refuse in (lambda: l402.read(str(larger)), lambda: l402.unpack(larger.packed())):
        with pytest.raises(Invalid, match="too long"):
            refuse()


def test_a_token_has_at_most_32_caveats():
    most = l402.mint(ROOT, IDENTIFIER, *["a=b"] * l402.CAVEATS_MAX)
    assert l402.read(str(most)) == most
    with pytest.raises(Invalid, match="too many"):
        l402.read(str(most.narrowed("a=b")))


def test_a_preimage_is_64_hex_digits(subtests):
    for text in ["", "ab" * 31, "ab" * 33, "0x" + "ab" * 31, "g" * 64, "٣" * 64]:
        with subtests.test(text=text):
            assert l402.read_preimage("aB" * 32) == b"\xab" * 32
            with pytest.raises(Invalid):
                l402.read_preimage(text)


def test_the_last_preimage_in_a_token_counts():
    macaroon = l402.mint(ROOT, IDENTIFIER, "preimage=" + "ab" * 32, "preimage=" + "CD" * 32, "a=b")
    assert l402.preimage_in(macaroon) == b"\xcd" * 32
    assert l402.preimage_in(l402.mint(ROOT, IDENTIFIER, "a=preimage=1")) is None
    with pytest.raises(Invalid):
        l402.preimage_in(macaroon.narrowed("preimage=ü"))


def test_the_repr_of_a_token_does_not_show_it_whole(receipt):
    assert repr(receipt) == f"<Macaroon of {sha256(PREIMAGE)[:4].hex()}>"


# -- caveats ---------------------------------------------------------------------------

OURS = f"services={HERE}:0"
CAN = f"{HERE}_capabilities="
UNTIL = f"{HERE}_valid_until="
NONE = Rights(frozenset(), None)


def able(capabilities: str, valid_until: int | None = None) -> Rights:
    return Rights(frozenset(capabilities.split()), valid_until)


OUTCOMES = [
    # Services.
    ([], Void),
    ([OURS], NONE),
    (["services=other:0", CAN + "read"], Void),
    (["services="], Void),
    (["services"], Void),
    ([OURS, "services", "services"], NONE),
    ([f"services=other:1,{HERE}:7,a.b-c_d:0"], NONE),
    ([f"services=other:1,{HERE}:7", OURS], NONE),
    ([f"services=other:1,{HERE}:7", "services=other:1"], Void),
    ([OURS, "services="], Void),
    ([OURS, "services=other:0"], Invalid),
    ([OURS, f"services={HERE}:0,other:0"], Invalid),
    (["services=other:0", OURS], Invalid),
    ([f"services={HERE}"], Invalid),
    ([f"services={HERE}:"], Invalid),
    ([f"services={HERE}:-1"], Invalid),
    ([f"services={HERE}:0:0"], Invalid),
    ([f"services={HERE}:0,"], Invalid),
    ([f"services= {HERE}:0"], Invalid),
    ([f"services={HERE}:0\n"], Invalid),
    ([f"services={HERE}:٣"], Invalid),
    (["services=ü:0"], Invalid),
    # Capabilities.
    ([OURS, CAN + "read,mail"], able("read mail")),
    ([OURS, CAN + "mail,read,mail"], able("read mail")),
    ([OURS, CAN], NONE),
    ([OURS, CAN + "read,fly"], able("read")),
    ([OURS, CAN + "Read"], NONE),
    ([OURS, CAN + "read,mail", CAN + "mail"], able("mail")),
    ([OURS, CAN + "read,mail", CAN + "mail", CAN + "mail"], able("mail")),
    ([OURS, CAN + "read,mail", CAN], NONE),
    ([OURS, CAN + "read", CAN + "read,mail"], Invalid),
    ([OURS, CAN + "read", CAN + "fly"], Invalid),
    ([OURS, CAN + "read", CAN + "", CAN + "read"], Invalid),
    ([CAN + "read", OURS], able("read")),
    ([OURS, "other_capabilities=pay", CAN + "read"], able("read")),
    ([OURS, CAN + "read,"], Invalid),
    ([OURS, CAN + "read, mail"], Invalid),
    ([OURS, CAN + "read=mail"], Invalid),
    ([OURS, CAN + "réad"], Invalid),
    # The end: `now < valid_until`.
    ([OURS, CAN + "read", UNTIL + str(NOW + 1)], able("read", NOW + 1)),
    ([OURS, UNTIL + str(NOW)], Void),
    ([OURS, UNTIL + "0"], Void),
    ([OURS, UNTIL + "-5"], Void),
    ([OURS, UNTIL + f"+{NOW + 1}"], able("", NOW + 1)),
    ([OURS, UNTIL + f"000{NOW + 1}"], able("", NOW + 1)),
    ([OURS, UNTIL + str(2**63 - 1)], able("", 2**63 - 1)),
    ([OURS, UNTIL + str(NOW + 9), UNTIL + str(NOW + 9)], able("", NOW + 9)),
    ([OURS, UNTIL + str(NOW + 9), UNTIL + str(NOW + 1)], able("", NOW + 1)),
    ([OURS, UNTIL + str(NOW + 9), UNTIL + str(NOW - 1)], Void),
    ([OURS, UNTIL + str(NOW + 1), UNTIL + str(NOW + 9)], Invalid),
    ([OURS, UNTIL + str(NOW - 1), UNTIL + str(NOW + 9)], Invalid),
    ([OURS, UNTIL + str(2**63)], Invalid),
    ([OURS, UNTIL + "9" * 3000], Invalid),
    ([OURS, UNTIL], Invalid),
    ([OURS, UNTIL + "1_900_000_000"], Invalid),
    ([OURS, UNTIL + f" {NOW + 1}"], Invalid),
    ([OURS, UNTIL + f"{NOW + 1}\n"], Invalid),
    ([OURS, UNTIL + f"{NOW + 1}.0"], Invalid),
    ([OURS, UNTIL + "0x7fffffff"], Invalid),
    ([OURS, UNTIL + "٣"], Invalid),
    ([OURS, UNTIL + "never"], Invalid),
    # Unknown caveats are skipped.
    ([OURS, "ip=192.0.2.1", "=", "", "x", "a=b=c", "preimage=" + "ab" * 32, "ü=1"], NONE),
    ([OURS, "Services=other:0", " services=other:0", "other_valid_until=1"], NONE),
]


@pytest.mark.parametrize(
    ("caveats", "outcome"),
    OUTCOMES,
    ids=lambda value: " ".join(value)[:60] if isinstance(value, list) else "",
)
def test_what_caveats_leave(caveats, outcome):
    macaroon = l402.mint(ROOT, IDENTIFIER, *caveats)
    if isinstance(outcome, Rights):
        assert l402.rights_at_hosting(macaroon, NOW) == outcome
        return
    with pytest.raises(Invalid) as refused:
        l402.rights_at_hosting(macaroon, NOW)
    assert refused.type is outcome


def test_caveats_need_not_be_text():
    signed = Macaroon(IDENTIFIER, (OURS.encode(), b"\xff\xfe=\x00", b"\x80"), bytes(32))
    assert l402.rights_at_hosting(signed, NOW) == NONE
    with pytest.raises(Invalid):
        l402.rights_at_hosting(Macaroon(IDENTIFIER, (b"services=\xff:0",), bytes(32)), NOW)


@pytest.mark.parametrize(
    "rights", [WHOLE, NONE, able("read"), able("mail settings close", NOW + 60)]
)
def test_a_token_gives_the_rights_that_it_was_minted_for(keys, rights):
    macaroon = keys.mint(sha256(PREIMAGE), keys.token_id(0), l402.caveats(HERE, rights))
    assert l402.rights_at_hosting(l402.read(str(macaroon)), NOW) == rights


def test_a_receipt_has_no_end_and_two_caveats(receipt):
    assert [caveat.decode() for caveat in receipt.caveats] == [
        f"services={HERE}:0",
        f"{HERE}_capabilities=read,mail,domains,settings,pay,close",
    ]
    assert WHOLE.are_whole and not able("read").are_whole
    assert not Rights(WHOLE.capabilities, NOW).are_whole


# -- several services ------------------------------------------------------------------


def test_a_token_has_rights_of_each_service_that_it_names():
    web, api = Rights(frozenset(["read", "write"]), 2_000_000_000), Rights(None, None)
    macaroon = l402.mint(ROOT, IDENTIFIER, *CAVEATS, UNTIL + "1")
    assert l402.services(macaroon) == {"web", "api"}
    assert l402.rights(macaroon, "web", NOW) == web
    assert l402.rights(macaroon, "api", NOW) == api
    with pytest.raises(Void, match="not for this service"):
        l402.rights(macaroon, "we", NOW)
    with pytest.raises(Void, match="time"):
        l402.rights(macaroon, "web", 2_000_000_000)
    assert l402.services(l402.mint(ROOT, IDENTIFIER, "a=b")) == frozenset()


def test_a_service_without_capabilities_has_no_caveat_for_them():
    assert l402.caveats("web", Rights(None, 7)) == ["services=web:0", "web_valid_until=7"]
    rights = Rights(frozenset(["write", "pay", "fetch", "read"]), None)
    assert l402.caveats("web", rights)[1] == "web_capabilities=read,pay,fetch,write"
    assert l402.caveats("web", able("")) == ["services=web:0", "web_capabilities="]


BOUGHT = Rights(None, NOW + 60)
FOR = f"{HERE}_payment="
BEFORE = FOR + sha256(b"an earlier payment").hex()
WITH_ONE_MORE = [
    # An access key, whole and narrowed.
    (OF_RECEIPT, [BEFORE, f"services={HERE}:0,films:0", OF_RECEIPT[1]]),
    ([*OF_RECEIPT, CAN + "read", UNTIL + str(NOW + 1)],
     [BEFORE, f"services={HERE}:0,films:0", CAN + "read", UNTIL + str(NOW + 1)]),
    ([OURS], [BEFORE, f"services={HERE}:0,films:0"]),
    ([FOR + "ab" * 32, OURS], [FOR + "ab" * 32, f"services={HERE}:0,films:0"]),
    ([FOR + "ab" * 32, OURS, UNTIL + str(NOW)], ["services=films:0"]),
    # Tokens of another service, of the same, of one whose time is over, and of a removed one.
    (CAVEATS, ["services=api:0,web:0,films:0", *CAVEATS[1:]]),
    (["services=films:0", f"films_valid_until={NOW - 1}"], ["services=films:0"]),
    (["services=films:0", "films_capabilities=read", f"films_valid_until={NOW + 5}"],
     ["services=films:0"]),
    (["services=web:0", f"web_valid_until={NOW}"], ["services=films:0"]),
    ([*CAVEATS, "services=api:1"], ["services=api:0,films:0"]),
    (["services=web:0", "services="], ["services=films:0"]),
    # Caveats that the holder added for a service not named in the token.
    (["services=web:0", "films_valid_until=9999999999", "b_capabilities=read"],
     ["services=web:0,films:0"]),
    # Unknown caveats stay; a preimage goes, as it belongs to the earlier payment.
    (["services=web:0", "ip=192.0.2.1", "preimage=" + "ab" * 32, b"\xff\xfe=", "x"],
     ["services=web:0,films:0", "ip=192.0.2.1", b"\xff\xfe=", "x"]),
]  # fmt: skip


def test_a_token_is_minted_with_the_rights_of_another_and_one_more_service(keys, subtests):
    for shown, expected in WITH_ONE_MORE:
        with subtests.test(shown=shown):
            token_id = keys.token_id(0)
            old = keys.mint(sha256(b"an earlier payment"), token_id, shown)
            new = keys.mint(
                sha256(PREIMAGE), token_id, l402.caveats_with(old, "films", BOUGHT, NOW)
            )
            keys.check(new, PREIMAGE)
            assert new.token_id == old.token_id
            assert l402.rights(new, "films", NOW) == BOUGHT
            until = [f"films_valid_until={NOW + 60}"]
            assert sorted(new.caveats) == sorted(
                l402.mint(ROOT, IDENTIFIER, *expected, *until).caveats
            )
            for service in l402.services(new) - {"films"}:
                assert l402.rights(new, service, NOW) == l402.rights(old, service, NOW)


def test_the_payment_of_a_hosting_is_named_by_the_first_caveat_alone(keys, subtests):
    whole, one, other = OURS, FOR + "ab" * 32, FOR + "cd" * 32
    token_id = keys.token_id(0)
    named = keys.mint(sha256(PREIMAGE), token_id, [one, whole])
    keys.check(named, PREIMAGE)
    assert named.hosting_payment == b"\xab" * 32
    own = keys.mint(sha256(PREIMAGE), token_id, [whole])
    for wrong in (one, other, FOR, FOR.rstrip("="), FOR + "AB" * 32, FOR + "ab" * 31, one + "\n"):
        for macaroon in (own, named):
            with subtests.test(wrong=wrong, macaroon=macaroon):
                changed = macaroon.narrowed(wrong)
                assert changed.hosting_payment == macaroon.hosting_payment
                with pytest.raises(Invalid, match="name the payment"):
                    keys.check(changed, PREIMAGE)
                # In front of the others, it makes the signature wrong.
                moved = Macaroon(
                    macaroon.identifier, (wrong.encode(), *macaroon.caveats), changed.signature
                )
                with pytest.raises(Invalid, match="signature"):
                    keys.check(moved, PREIMAGE)
                with pytest.raises(Invalid, match="name the payment"):
                    keys.mint(sha256(PREIMAGE), token_id, [*macaroon.caveats, wrong])
    keys.check(own.narrowed(f"{HERE}_payments=1", f"a{FOR}"), PREIMAGE)
    for malformed in (FOR, FOR.rstrip("="), FOR + "AB" * 32, one + ","):
        with pytest.raises(Invalid):
            keys.mint(sha256(PREIMAGE), token_id, [malformed, whole])


def test_no_token_is_minted_without_caveats_of_ours(keys):
    for minted in ([], ["a=b"], ["services"]):
        with pytest.raises(ValueError, match="names its services"):
            keys.mint(sha256(PREIMAGE), keys.token_id(0), minted)


def test_nobody_can_add_credit_at_a_service(keys):
    metered = l402.caveats("api", BOUGHT, 700)
    bought = keys.mint(sha256(PREIMAGE), keys.token_id(0), metered)
    more = keys.mint(
        sha256(PREIMAGE), bought.token_id, l402.caveats_with(bought, "web", BOUGHT, NOW, 50)
    )
    again = keys.mint(sha256(PREIMAGE), bought.token_id, l402.caveats_again(more))
    paid, also = (700, BOUGHT.valid_until), (50, BOUGHT.valid_until)
    for macaroon, expected in ((bought, (paid, None)), (more, (None, also)), (again, (None, None))):
        for shown in (
            macaroon,
            macaroon.narrowed("api_credit_msat=99999", "web_credit_msat=99999"),
            macaroon.narrowed("services=api:0", "api_credit_msat=99999"),
            macaroon.narrowed("api_valid_until=1", "web_valid_until=never"),
        ):
            found = tuple(l402.credit(shown, service) for service in ("api", "web"))
            assert found == expected


AGAIN = [
    (OF_RECEIPT, OF_RECEIPT),
    ([FOR + "ab" * 32, *OF_RECEIPT], OF_RECEIPT),
    ([*OF_RECEIPT, CAN + "read", UNTIL + "7", "ip=::1", b"\xff="], None),
    (["web_credit_msat=5", "services=web:0", "web_credit_msat=9"], ["services=web:0"]),
    (["services=web:0", "preimage=" + "ab" * 32, "services="], ["services=web:0", "services="]),
]


def test_a_token_for_another_payment_grants_the_same_rights(keys):
    for caveats, kept in AGAIN:
        old = keys.mint(sha256(b"an earlier payment"), keys.token_id(0), caveats)
        new = keys.mint(sha256(PREIMAGE), old.token_id, l402.caveats_again(old))
        keys.check(new, PREIMAGE)
        assert new.hosting_payment == old.hosting_payment
        before = FOR + old.hosting_payment.hex()
        expected = [before, *(caveats if kept is None else kept)]
        assert new.caveats == l402.mint(ROOT, IDENTIFIER, *expected).caveats
        assert kept is not None or not l402.is_as_minted(new)


def test_a_narrowed_token_is_told_from_one_as_minted(keys):
    whole = keys.mint(sha256(PREIMAGE), keys.token_id(0), OF_RECEIPT)
    more = keys.mint(sha256(PREIMAGE), whole.token_id, l402.caveats_with(whole, "web", BOUGHT, NOW))
    for macaroon in (whole, more):
        assert l402.is_as_minted(macaroon)
        assert l402.is_as_minted(macaroon.narrowed("preimage=" + "ab" * 32))
        for caveat in (CAN + "read", UNTIL + "9", "services=web:0", "ip=::1", "x"):
            assert not l402.is_as_minted(macaroon.narrowed(caveat))
    assert not l402.is_as_minted(more.narrowed(f"web_valid_until={NOW + 1}"))


def test_removed_rights_do_not_come_back_with_one_more_service():
    for caveats in (
        [OURS, f"services={HERE}:0,web:0"],
        [*OF_RECEIPT, CAN + "fly"],
        ["services=web"],
    ):
        with pytest.raises(Invalid):
            l402.caveats_with(l402.mint(ROOT, IDENTIFIER, *caveats), "films", BOUGHT, NOW)


def test_a_minted_token_leaves_room_for_caveats_of_its_holder(keys):
    for caveats in (["services=web:0"] * l402.MINTED_MAX, ["services=web:0", "x" * 1050]):
        macaroon = keys.mint(sha256(PREIMAGE), keys.token_id(0), caveats)
        assert l402.read(str(macaroon.narrowed(*["preimage=" + "ab" * 32] * 8)))
        with pytest.raises(Invalid, match="too long"):
            keys.mint(sha256(PREIMAGE), keys.token_id(0), [*caveats, "x" * 100])


# -- keys ------------------------------------------------------------------------------


def test_a_token_counts_with_its_preimage_alone(keys, receipt):
    keys.check(receipt, PREIMAGE)
    for other in (sha256(b"another"), b"", PREIMAGE[:31], sha256(PREIMAGE)):
        with pytest.raises(Invalid) as refused:
            keys.check(receipt, other)
        assert refused.type is Invalid


def test_a_narrowed_token_is_as_good_and_a_forged_one_is_not(keys, receipt):
    keys.check(receipt.narrowed(CAN + "read", "anything"), PREIMAGE)
    for forged in (
        Macaroon(receipt.identifier, receipt.caveats[:1], receipt.signature),
        Macaroon(receipt.identifier, receipt.caveats[::-1], receipt.signature),
        Macaroon(receipt.identifier, (*receipt.caveats, b"a"), receipt.signature),
        Macaroon(receipt.identifier, receipt.caveats, bytes(32)),
        l402.mint(b"", receipt.identifier),
    ):
        with pytest.raises(Invalid) as refused:
            keys.check(forged, PREIMAGE)
        assert refused.type is Invalid


def test_each_bit_of_the_identifier_is_signed(keys, receipt):
    for bit in range(16 + 256, l402.IDENTIFIER.size * 8):
        identifier = bytearray(receipt.identifier)
        identifier[bit // 8] ^= 1 << bit % 8
        with pytest.raises(Invalid):
            keys.check(Macaroon(bytes(identifier), receipt.caveats, receipt.signature), PREIMAGE)


def test_a_token_of_an_older_key_is_good_while_that_key_is_set(keys, receipt):
    Keys([b"a new one", b"another", b"a master key"]).check(receipt, PREIMAGE)
    with pytest.raises(Void):
        Keys([b"a new one"]).check(receipt, PREIMAGE)


def test_a_new_key_mints_with_itself(keys):
    rotated = Keys([b"a new one", b"a master key"])
    token_id = rotated.token_id(epoch=7)
    minted = rotated.mint(sha256(PREIMAGE), token_id, OF_RECEIPT)
    assert l402.epoch(minted) == 7
    Keys([b"a new one"]).check(minted, PREIMAGE)
    with pytest.raises(Void):
        keys.check(minted, PREIMAGE)
    with pytest.raises(Void):
        keys.mint(sha256(PREIMAGE), token_id, OF_RECEIPT)


def test_token_ids_are_random_or_follow_from_a_seed(keys):
    assert keys.token_id(0) != keys.token_id(0)
    assert keys.token_id(0, b"a seed") == keys.token_id(0, b"a seed")
    assert len({keys.token_id(0, b"a"), keys.token_id(0, b"b"), keys.token_id(1, b"a")}) == 3
    assert Keys([b"another key"]).token_id(0, b"a seed")[8:] != keys.token_id(0, b"a seed")[8:]


def test_a_secret_belongs_to_its_token_id_and_key(keys):
    token_id = keys.token_id(0)
    rotated = Keys([b"a new one", b"a master key"])
    assert rotated.secret(token_id) == keys.secret(token_id) != keys.secret(keys.token_id(0))
    with pytest.raises(Void):
        Keys([b"a new one"]).secret(token_id)


# -- everything else -------------------------------------------------------------------


def noise(rng: random.Random) -> str:
    """A random text, at most a little longer than a token may be."""
    packed = rng.randbytes(rng.choice((3, 60, 200, 4200)) * rng.randrange(10) // 9)
    start = rng.choice((b"", b"\x02", b"\x02" + ID_FIELD + b"\0", PACKED[: rng.randrange(200)]))
    return base64.b64encode(start + packed).decode()


def mutated(rng: random.Random, packed: bytes) -> str:
    """A good token with a few bytes changed, put in, left out, or doubled."""
    changed = bytearray(packed)
    for _ in range(rng.choice((1, 1, 1, 2, 5))):
        at, size = rng.randrange(len(changed)), rng.choice((0, 1, 1, 2, 34))
        some = rng.choice((rng.randbytes(size), bytes(changed[at : at + size]) * 2, b""))
        changed[at : at + size] = some or bytes([changed[at] ^ 1 << rng.randrange(8)])
    text = base64.b64encode(changed).decode()
    if rng.random() < 0.1:
        at = rng.randrange(len(text))
        text = text[:at] + rng.choice(("", "=", "ü", "\0", ",", ":", "\udc80")) + text[at + 1 :]
    return text


@pytest.mark.parametrize("part", range(2))
def test_any_text_raises_only_invalid(keys, receipt, part):
    rng = random.Random(part)
    narrowed = receipt.narrowed(UNTIL + str(NOW + 60), CAN + "read,mail", "preimage=" + "ab" * 32)
    passed = 0
    for number in range(20_000):
        text = mutated(rng, narrowed.packed()) if number % 5 else noise(rng)
        try:
            macaroon = l402.read(text)
            l402.preimage_in(macaroon)
            l402.rights_at_hosting(macaroon, NOW)
            keys.check(macaroon, PREIMAGE)
        except Invalid:
            continue
        passed += 1
        # The location alone is not signed.
        assert (macaroon.identifier, macaroon.caveats, macaroon.signature) == (
            narrowed.identifier,
            narrowed.caveats,
            narrowed.signature,
        )
    assert 0 < passed < 4000
