"""The small modules: names, prices, passwords, the vault and QR codes."""

import base64
import random
import re
import string
import struct
import time
import zlib

import pytest

from lightningspace.base import names, passwords, qr
from lightningspace.base.prices import DAY, LONGEST_SECONDS, Holding, Prices, Size, Terms
from lightningspace.base.vault import Unreadable, Vault
from lightningspace.sandbox.panel import FORWARD, is_strong

# -- names -----------------------------------------------------------------------------


def test_a_name_is_letters_and_digits(subtests):
    for name in ["abc", "a" * 16, "a1b", "alice2", "weber", "clientele", "web"]:
        with subtests.test(name=name):
            assert names.RULE.fullmatch(name)


def test_other_names_are_refused(subtests):
    for name in [
        "",
        "ab",
        "a" * 17,
        "1ab",
        "Abc",
        "a-b",
        "a.b",
        "a_b",
        "äbc",
        "abc\n",
        "ab\0",
        "a bc",
    ]:
        with subtests.test(name=name):
            assert not names.RULE.fullmatch(name)


def test_names_that_would_mislead_are_reserved(subtests):
    for name in [
        *("www", "mail", "admin", "abuse", "postmaster", "hostmaster", "webmaster", "security"),
        *("root", "daemon", "bin", "sys", "nobody", "vmail", "mysql", "postgres", "ispconfig"),
        *("web1", "web99", "client5", "ns1", "mx2", "smtp1", "autoconfig", "autodiscover", "wpad"),
        *("localhost", "info", "noreply", "mailerdaemon", "phpmyadmin", "dbispconfig", "imap"),
        *("host", "host2", "vps", "vps12345", "server01", "panel3", "relay1", "node6", "srv10"),
        *("cp1", "hosting2", "esxi3", "ipmi1", "openpgpkey", "isatap", "orders", "checkout"),
        *("gw1", "db4", "lb2", "cdn1", "img3", "api2", "dev1", "staging", "git", "vpn1", "lnd2"),
    ]:
        with subtests.test(name=name):
            assert names.is_reserved(name)


def test_names_that_do_not_mislead_are_free(subtests):
    for name in ["alice", "weber1", "website1", "nsa", "client5a", "rooty"]:
        with subtests.test(name=name):
            assert not names.is_reserved(name)


def test_reserved_names_are_spelled_by_the_rule():
    reserved = names.RESERVED | names.HOSTS
    too_short = {name for name in reserved if not names.RULE.fullmatch(name)}
    assert all(len(name) < 3 or len(name) > 16 or not name[0].isalpha() for name in too_short)


def test_generated_names_fit_the_rule_and_differ():
    made = [names.generate() for _ in range(200)]
    assert all(re.fullmatch("[a-z]{3}[0-9]{5}", name) for name in made)
    assert not any(names.is_reserved(name) for name in made)
    assert len(set(made)) == 200
    assert (
        sum(len(word) == 3 for word in names.HOSTS) < 26**3 / 100
    )  # few of the possible names are reserved


PASTED_ADDRESSES = {
    "alice.smith@gmail.com": ["Alice.Smith@gmail.com", "mailto:Alice.Smith@Gmail.com"],
    "a+b@example.org": [" a+b@example.org\r\n", "<a+b@example.org>", "Al B. <a+b@example.org>"],
    "a@example.org": [
        *("\ufeffa@example.org\u200b", "\xa0a@example.org", "a@example.org,", "a@example.org."),
        *('"Smith, A." <a@example.org>;', "mailto:a@example.org?subject=x", "a@example。org"),
        "<mailto:a@example.org>",
    ],
    "test@xn--sw8hj0a.ws": ["test@🛡️🔼.ws"],
    "test@www.example.org": ["Test@www.Example.org"],
    "test@xn--tst-hoa.de": ["test@tüst.de", "Test@TÜST.de", "test@xn--tst-hoa.de"],
    "a@xn--strae-oqa.de": ["a@straße.de"],
    "o'b|c@example.org": ["o'b|c@example.org"],
}


def test_an_address_is_read_as_the_panel_keeps_it(subtests):
    for address in PASTED_ADDRESSES:
        with subtests.test(address=address):
            assert FORWARD.stored("destination", address) == address
            for pasted in PASTED_ADDRESSES[address]:
                assert names.as_address(pasted) == address
                assert names.is_address(pasted) == (pasted == address)


def test_bad_addresses_are_refused(subtests):
    for text in [
        *("", "a", "@", "a@b", "a b@example.org", "<b>a</b>@example.org", "a@example.org b@c.org"),
        *("a@example.org,b@c.org", "a@b@c.org", "ä@example.org", "\u212a@example.org", "a@1.2.3.4"),
        # The panel would shorten these to "a@".
        *("a@ab--cd.example", "a@xn--zzzzzzz99.de", "a@-x.example", f"a@{'x' * 64}.example"),
        *("a@\ud800.org", f"{'a' * 250}@b.org", "a@b.org " * 10**5, "<" * 10**6),
    ]:
        with subtests.test(text=text), pytest.raises(ValueError):
            names.as_address(text)


def test_many_addresses_lead_to_one_mailbox(subtests):
    for address, mailbox in [
        ("eve@example.org", "eve@example.org"),
        ("E.v.E+a+b@Example.ORG", "eve@example.org"),
        ("ｅve@ｅxample.org", "eve@example.org"),
        ("eve@MÜLLER.example", "eve@xn--mller-kva.example"),
        ("eve@🎈.ws", "eve@xn--ck8h.ws"),
        ("jean-luc@example.org", "jean-luc@example.org"),
        ("e.ve+a@GoogleMail.com", "eve@gmail.com"),
        ("eve@pm.me", "eve@proton.me"),
        ("+@example.org", "@example.org"),
        ("eve@-", "eve@-"),
        ("", "@"),
    ]:
        with subtests.test(address=address, mailbox=mailbox):
            assert names.mailbox_of(address) == mailbox


# -- prices ------------------------------------------------------------------------------

SHOP = Prices(5000, 20000)


def test_prices_are_whole_sats(subtests):
    for terms, sats in [
        (Terms(100, 1, "hours"), 1),
        (Terms(1000, 1, "hours"), 2),
        (Terms(100, 1, "days"), 7),
        (Terms(100, 30, "days"), 210),
        (Terms(100, 1, "months"), 210),
        (Terms(5000, 24, "months"), 75_600),
    ]:
        with subtests.test(terms=terms, sats=sats):
            assert SHOP.price_msat(terms) == sats * 1000


SIZES = (10, 100, 333, 1000, 10**8)
PRICES = (Prices(0, 1), Prices(1, 0), SHOP, Prices(7, 13), Prices(10**12, 10**12))
TERMS = [
    Terms(size, count, unit)
    for size in SIZES
    for count, unit in ((1, "hours"), (25, "hours"), (1, "days"), (29, "days"), (24, "months"))
]


def test_a_price_is_at_least_one_sat_and_rounded_up_by_less_than_one(subtests):
    for prices in PRICES:
        with subtests.test(prices=prices):
            for terms in TERMS:
                price = prices.price_msat(terms)
                exact_times_day = prices.rate(Size(terms.space_mb)) * terms.seconds
                assert price % 1000 == 0
                assert price >= 1000
                assert price * DAY >= exact_times_day
                assert price == 1000 or (price - 1000) * DAY < exact_times_day


def test_paying_buys_at_least_the_time_that_was_named(subtests):
    for prices in PRICES:
        with subtests.test(prices=prices):
            for terms in TERMS:
                bought = Holding().buy(
                    prices.price_msat(terms), prices.rate(Size(terms.space_mb)), 10**9
                )
                assert bought.seconds >= terms.seconds


def test_more_space_or_more_time_is_never_cheaper(subtests):
    for prices in PRICES:
        with subtests.test(prices=prices):
            for small, large in zip(SIZES, SIZES[1:], strict=False):
                for count in (1, 24, 730):
                    cheap = prices.price_msat(Terms(small, count, "days"))
                    assert cheap <= prices.price_msat(Terms(large, count, "days"))
                    assert cheap <= prices.price_msat(Terms(small, count + 1, "days"))


def test_durations_are_told_in_words_and_seconds(subtests):
    for terms, words, seconds in [
        (Terms(100, 1, "hours"), "1 hour", 3600),
        (Terms(100, 2, "days"), "2 days", 2 * DAY),
        (Terms(100, 24, "months"), "24 months", 720 * DAY),
        (Terms(100, 365, "days"), "1 year", 365 * DAY),
        (Terms(100, 730, "days"), "2 years", LONGEST_SECONDS),
    ]:
        with subtests.test(terms=terms, words=words, seconds=seconds):
            assert (terms.time_in_words, terms.seconds) == (words, seconds)


# -- passwords ------------------------------------------------------------------------------


def test_good_passwords_are_accepted(subtests):
    for password in [
        *("a" * 9, "Abcdefg1", "abcdef1!", "ABCDEF1!", "Abcdefg!", "Abcd fg1", " " * 9, "~" * 64),
        "correct horse battery staple",
    ]:
        with subtests.test(password=password):
            assert passwords.is_good(password)


def test_bad_passwords_are_refused(subtests):
    for password in [
        *("", "Abcd1!x", "abcdefgh", "abcdefg1", "ABCDEFG1", "1234567!", " " * 8, "a" * 65),
        *("it's 9 lives!", 'a "quoted" one', "back\\slash 9A", "abcd123\\", "Abcdef1\\"),
        *("pässwörter!", "password\n", "password\0x", "password\x7f", "\ttabulator", "пароль12345"),
    ]:
        with subtests.test(password=password):
            assert not passwords.is_good(password)


def made_up_passwords(count):
    """Passwords around the length that matters, of few kinds of characters or many."""
    letters, digits = string.ascii_lowercase, string.digits
    signs = string.punctuation + " "
    alphabets = [letters, digits, signs, letters + digits, letters + signs, digits + signs]
    alphabets += [string.printable[:95], letters.upper() + digits, letters + letters.upper()]
    chance = random.Random(1)
    for _ in range(count):
        length = chance.choice((6, 7, 8, 8, 8, 8, 9, 10, 64, 65))
        yield "".join(chance.choices(chance.choice(alphabets), k=length))


def test_passwords_are_judged_as_the_panel_does():
    opened = re.compile(r"""[^'"\\]{1,64}""")
    for password in made_up_passwords(60_000):
        takes = is_strong(password) and opened.fullmatch(password) is not None
        assert passwords.is_good(password) == takes, password


def test_generated_passwords_are_good_and_differ():
    made = [passwords.generate() for _ in range(300)]
    assert all(passwords.is_good(password) for password in made)
    assert all(re.fullmatch("[A-Za-z0-9]{16}", password) for password in made)
    assert not any(set(password) & set("0O1lI") for password in made)
    assert len(set(made)) == 300


def test_a_hash_matches_its_password_alone():
    hashed = passwords.make_hash("correct horse")
    assert "correct" not in hashed
    assert passwords.matches(hashed, "correct horse")
    assert not passwords.matches(hashed, "correct hors")
    assert not passwords.matches(hashed, "")
    assert not passwords.matches(None, "correct horse")


def test_a_longer_password_never_matches_a_long_one():
    hashed = passwords.make_hash("x" * 64)
    assert passwords.matches(hashed, "x" * 64)
    assert not passwords.matches(hashed, "x" * 65)
    assert not passwords.matches(hashed, "x" * 10_000)


def test_logins_that_would_wait_too_long_are_refused():
    lane = passwords.Lane(at_once=3, places=2)
    with lane.place("192.0.2.1"):
        with pytest.raises(passwords.Busy):  # each network has one place
            passwords.matches(None, "correct horse", lane.place("192.0.2.1"))
        with lane.place("192.0.2.2"), pytest.raises(passwords.Busy):
            passwords.make_hash("correct horse", lane.place("192.0.2.3"))
    assert not passwords.matches(None, "correct horse", lane.place("192.0.2.1"))


# -- the vault --------------------------------------------------------------------------------


def test_only_its_key_opens_a_sealed_text():
    sealed = Vault("a key").seal("gehéim \0 \N{SNOWMAN}")
    assert "geh" not in sealed
    assert Vault("a key").unseal(sealed) == "gehéim \0 \N{SNOWMAN}"
    with pytest.raises(Unreadable):
        Vault("another key that is long enough as well").unseal(sealed)


def test_text_that_was_never_sealed_is_unreadable(subtests):
    for spoiled in ["", "x", "gAAAA", "é", "\0", "gAAAAA" * 40]:
        with subtests.test(spoiled=spoiled), pytest.raises(Unreadable):
            Vault("a key").unseal(spoiled)


def test_a_changed_seal_is_unreadable():
    sealed = Vault("a key").seal("secret")
    middle = len(sealed) // 2
    changed = "A" if sealed[middle] != "A" else "B"
    with pytest.raises(Unreadable):
        Vault("a key").unseal(sealed[:middle] + changed + sealed[middle + 1 :])


def test_an_older_key_still_opens_and_the_new_one_seals():
    rotated = Vault("a new key", ("a key", "an old key"))
    assert rotated.unseal(Vault("a key").seal("secret")) == "secret"
    assert rotated.unseal(Vault("an old key").seal("secret")) == "secret"
    assert Vault("a new key").unseal(rotated.seal("secret")) == "secret"


def test_the_same_secret_is_sealed_differently_each_time():
    assert len({Vault("a key").seal("secret") for _ in range(3)}) == 3


def test_keyed_hashes_differ_by_purpose_parts_and_key():
    vault = Vault("a key")
    assert vault.mac("browser", "x") == Vault("a key").mac("browser", "x")
    hashes = {
        vault.mac("browser", "x"),
        vault.mac("client", "x"),
        vault.mac("browser", "x", ""),
        vault.mac("browser", "", "x"),
        Vault("another key that is long enough as well").mac("browser", "x"),
    }
    assert len(hashes) == 5


def test_fingerprints_differ_by_key_and_come_newest_first():
    rotated = Vault("a new key", ("a key",))
    assert rotated.fingerprints() == [
        *Vault("a new key").fingerprints(),
        *Vault("a key").fingerprints(),
    ]
    assert len(set(rotated.fingerprints())) == 2


# -- QR codes -----------------------------------------------------------------------------------

INVOICE = "LIGHTNING:LNBCRT" + "QPZRY9X8GF2TVDW0" * 20


def dark_squares(svg):
    runs = [map(int, run) for run in re.findall(r"M(\d+),(\d+)h(\d+)v1h-\3z", svg)]
    return {(x + beside, y) for x, y, width in runs for beside in range(width)}


def test_a_code_is_black_on_white_with_a_quiet_zone():
    svg = qr.svg(INVOICE)
    size = int(re.search(r'viewBox="0 0 (\d+) \1"', svg)[1])
    assert re.search(r'<rect fill="white" x="0" y="0" width="100%" height="100%"', svg)
    assert re.search(r'<path [^>]*fill="#000(000)?"', svg)
    dots = dark_squares(svg)
    assert min(min(dot) for dot in dots) == 4
    assert max(max(dot) for dot in dots) == size - 5


def test_upper_case_makes_a_coarser_code():
    def dots(text):
        return int(re.search(r'viewBox="0 0 (\d+)', qr.svg(text))[1])

    assert dots(INVOICE) < dots(INVOICE.lower())


def test_a_code_has_no_inline_style_and_no_markup_of_its_text():
    svg = qr.svg('"><script>alert(1)</script>')
    assert "script" not in svg
    assert "style" not in svg


def test_a_code_has_the_same_squares_as_svg_as_png_and_as_text():
    svg = dark_squares(qr.svg(INVOICE))
    size = int(re.search(r'viewBox="0 0 (\d+)', qr.svg(INVOICE))[1])

    head, _, picture = qr.png(INVOICE).partition(",")
    assert head == "data:image/png;base64"
    picture = base64.b64decode(picture)
    assert struct.unpack(">II", picture[16:24]) == (8 * size, 8 * size)
    data = zlib.decompress(picture[41 : picture.index(b"IEND") - 8])
    rows = [data[start + 1 : start + 1 + size] for start in range(0, len(data), size + 1)][::8]
    assert svg == {(x, y) for y, row in enumerate(rows) for x in range(size) if not row[x]}

    text = [
        ["".join("█" if block in lit else " " for block in line) for lit in ("█▀", "█▄")]
        for line in qr.blocks(INVOICE).splitlines()
    ]
    lines = [line for pair in text for line in pair]
    dark = {(x, y) for y, line in enumerate(lines) for x in range(len(line)) if line[x] == " "}
    assert svg == {(x + 2, y + 2) for x, y in dark}


def test_a_code_is_drawn_once():
    qr.svg(INVOICE)
    start = time.thread_time()
    for _ in range(50):
        qr.svg(INVOICE)
    assert time.thread_time() - start < 0.05
