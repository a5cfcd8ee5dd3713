"""Wallets that log in by a signature (LNURL-auth), once their owner has linked them."""

import re
from dataclasses import replace
from hashlib import sha256
from html import unescape
from urllib.parse import parse_qs, urlsplit

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import (
    Prehashed,
    decode_dss_signature,
    encode_dss_signature,
)
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from pyln.proto.bech32 import bech32_decode, convertbits

from lightningspace.base import models
from lightningspace.base.models import (
    Account,
    Notice,
    Service,
    Session,
    Wallet,
    WalletSignature,
)
from lightningspace.base.vault import Vault
from lightningspace.outside import lnurl
from lightningspace.rules import accounts, sessions, tokens, wallets
from tests.conftest import at_once, csrf_token, enter, open_account, with_mail, with_settings, work

ORDER_OF_CURVE = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
many_logins = with_settings(LOGINS_LIMIT="1000 per minute")


class SigningWallet:
    """A wallet that can log in, with another key for each host."""

    def __init__(self, seed: str):
        number = int.from_bytes(sha256(seed.encode()).digest()) % (ORDER_OF_CURVE - 1) + 1
        self._key = ec.derive_private_key(number, ec.SECP256K1())
        point = self._key.public_key().public_bytes(Encoding.X962, PublicFormat.CompressedPoint)
        self.key = point.hex()

    def signature(self, k1: str) -> str:
        return self._key.sign(bytes.fromhex(k1), ec.ECDSA(Prehashed(SHA256()))).hex()

    def scan(self, page: str) -> str:
        """The URL in the page's code."""
        shown = re.search(r'href="lightning:(LNURL[^"]+)"', page)[1]
        _, data = bech32_decode(shown.lower())
        url = bytes(convertbits(data, 5, 8, False)).decode()
        assert unescape(re.search(r'href="keyauth:([^"]+)"', page)[1]) == url.partition(":")[2]
        return url

    def signs(self, client, page: str, **changes) -> dict:
        """Scan the page, and send the signature as wallets do. Return the answer."""
        url = urlsplit(self.scan(page))
        k1 = parse_qs(url.query)["k1"][0]
        sent = {"sig": self.signature(k1), "key": self.key} | changes
        answer = client.get(f"{url.path}?{url.query}", query_string=None)
        assert answer.json["status"] == "ERROR"  # there is no signature yet
        extra = "".join(f"&{name}={value}" for name, value in sent.items())
        answer = client.get(f"{url.path}?{url.query}{extra}")
        assert answer.status_code == 200
        assert answer.headers["Access-Control-Allow-Origin"] == "*"
        return answer.json


@pytest.fixture
def wallet():
    return SigningWallet("alice's")


@pytest.fixture
def phone(app):
    """The wallet's own HTTP client, without the browser's cookie."""
    return app.test_client()


@pytest.fixture
def owner(app, alice):
    return enter(app.test_client(), alice)


def send(client, path, page="/login", **fields):
    return client.post(path, data={"csrf_token": csrf_token(client.get(page).text)} | fields)


def asks(client, then: str = "") -> str:
    """Choose the wallet at the login. Return the page with the code."""
    answer = send(client, f"/login/wallet{then}", f"/login{then}")
    return client.get(answer.location).text


def asks_to_link(owner) -> str:
    answer = send(owner, "/account/access/wallets")
    assert answer.location == "/account/access/wallets/new"
    return owner.get(answer.location).text


def link(owner, phone, wallet):
    """Link a wallet, with every step that its owner has to take."""
    assert wallet.signs(phone, asks_to_link(owner)) == {"status": "OK"}
    page = owner.get("/account/access/wallets/new").text
    k1 = re.search(r'name="k1" value="([^"]+)"', page)[1]
    return send(owner, "/account/access/wallets/new", k1=k1)


def is_in(client, username="alice") -> bool:
    page = client.get("/account")
    return page.status_code == 200 and f">{username}<" in page.text


def reason(answer: dict) -> str:
    assert answer["status"] == "ERROR"
    return answer["reason"]


@pytest.fixture
def linked(owner, phone, wallet) -> SigningWallet:
    assert link(owner, phone, wallet).location == "/account/access#wallets"
    return wallet


# -- logging in ------------------------------------------------------------------------


def test_a_linked_wallet_logs_in_the_browser_that_showed_the_code(app, phone, linked):
    browser, other = app.test_client(), app.test_client()
    page = asks(browser)
    assert "<strong>localhost</strong>" in page
    assert browser.get("/login/wallet/status").status_code == 204
    assert linked.signs(phone, page) == {"status": "OK"}
    for stranger in (other, phone):
        assert not is_in(stranger)
        assert stranger.get("/login/wallet").status_code == 200
    assert not is_in(browser)  # the wallet's GET does not log the browser in by itself
    poll = browser.get("/login/wallet/status", headers={"HX-Request": "true"})
    assert poll.headers["HX-Redirect"] == "/login/wallet"
    assert browser.get("/login/wallet").location == "/account"
    assert is_in(browser)
    assert not is_in(other)
    assert Wallet.get().used_at


def test_a_login_by_wallet_leads_to_what_was_asked_for(app, phone, linked):
    browser = app.test_client()
    login = browser.get("/account/extend").location
    assert linked.signs(phone, asks(browser, login.removeprefix("/login"))) == {"status": "OK"}
    assert browser.get("/login/wallet/status?then=extend").headers["HX-Redirect"] == (
        "/login/wallet?then=extend"
    )
    assert browser.get("/login/wallet?then=extend").location == "/account/extend"


def test_a_browser_without_a_cookie_is_asked_whether_it_keeps_one(app, linked, phone):
    browser = app.test_client()
    same_origin = {"Sec-Fetch-Site": "same-origin"}
    first = browser.post("/login/wallet?then=extend", headers=same_origin)
    assert first.location == "/cookie?then=/login/wallet?then%3Dextend"
    shown = browser.get(first.location).location
    assert linked.signs(phone, browser.get(shown).text) == {"status": "OK"}
    assert browser.get(shown).location == "/account/extend"
    assert app.test_client().get(first.location).status_code == 400


def test_a_signature_counts_once(app, phone, linked):
    browser = app.test_client()
    page = asks(browser)
    copy = app.test_client()
    copy.set_cookie("session", browser.get_cookie("session").value)
    linked.signs(phone, page)
    assert browser.get("/login/wallet").location == "/account"
    assert linked.signs(phone, page) == {"status": "OK"}  # a wallet that repeats its request
    answer = copy.get("/login/wallet")
    assert (answer.status_code, "This code has expired" in answer.text) == (200, True)
    assert not is_in(copy)


@pytest.mark.each_database
def test_two_tabs_that_come_at_once_make_one_session(app, phone, alice):
    owner, wallet, browser = app.test_client(), SigningWallet("alice's"), app.test_client()
    link(enter(owner, alice), phone, wallet)
    wallet.signs(phone, asks(browser))
    before = Session.select().count()
    cookie = browser.get_cookie("session").value

    def come():
        tab = app.test_client()
        tab.set_cookie("session", cookie)
        return tab.get("/login/wallet").location

    came = at_once(*[come] * 3)
    assert came.count("/account") == 1
    assert Session.select().count() == before + 1


def test_the_first_signature_of_a_code_counts(app, phone, linked, owner):
    second = SigningWallet("alice's second")
    link(owner, phone, second)
    browser = app.test_client()
    page = asks(browser)
    assert second.signs(phone, page) == {"status": "OK"}
    assert "Another wallet" in reason(linked.signs(phone, page))


@many_logins
def test_a_wrong_signature_is_refused(app, phone, linked, owner, subtests):
    page, other = asks(app.test_client()), SigningWallet("a stranger's")
    k1 = parse_qs(urlsplit(linked.scan(page)).query)["k1"][0]
    link_k1 = parse_qs(urlsplit(linked.scan(asks_to_link(owner))).query)["k1"][0]
    good = {"k1": k1, "sig": linked.signature(k1), "key": linked.key}
    point = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256K1(), bytes.fromhex(linked.key))
    long = point.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint).hex()
    wrong = {
        "another wallet's": {"key": other.key, "sig": other.signature(k1)},
        "another key": {"key": other.key},
        "another code": {"sig": linked.signature(link_k1)},
        "hashed once more": {"sig": linked.signature(sha256(bytes.fromhex(k1)).hexdigest())},
        "no key of the curve": {"key": "02" + "f" * 64},
        "a key not compressed": {"key": long},
        "no DER": {"sig": "00" * 70},
        "too long": {"sig": linked.signature(k1) + "00"},
        "endless": {"sig": "3044" * 5000},
        "no hex": {"sig": "\N{ARABIC-INDIC DIGIT ONE}" * 140},
        "a NUL": {"key": linked.key[:-1] + "\0"},
        "a k1 that nobody made": {"k1": "0" * 64, "sig": linked.signature("0" * 64)},
        "one that says it lasts": {
            "k1": "ffffffff" + k1[8:],
            "sig": linked.signature("f" * 8 + k1[8:]),
        },
        "a short one": {"k1": k1[:-2]},
        "two of them": {"k1": k1 + k1},
        "none": {"k1": ""},
    }
    for name, changes in wrong.items():
        with subtests.test(name):
            answer = phone.get("/lnurl-auth", query_string={"tag": "login"} | good | changes)
            assert answer.status_code == 200
            assert reason(answer.json)
    assert phone.head("/lnurl-auth", query_string=good).status_code == 200
    sent_twice = [(name, good[name]) for name in good] + [("k1", k1)]
    assert phone.get("/lnurl-auth", query_string=sent_twice).json["status"] == "ERROR"
    assert phone.post("/lnurl-auth", data=good).status_code == 405
    assert WalletSignature.select().where(WalletSignature.k1 << [k1, link_k1]).count() == 0
    assert phone.get("/lnurl-auth", query_string=good).json == {"status": "OK"}


def test_capitals_and_both_halves_of_the_curve_are_accepted(app, phone, linked):
    page = asks(app.test_client())
    k1 = parse_qs(urlsplit(linked.scan(page)).query)["k1"][0]
    r, s = decode_dss_signature(bytes.fromhex(linked.signature(k1)))
    for each in (s, ORDER_OF_CURVE - s):
        sig = encode_dss_signature(r, each).hex().upper()
        assert linked.signs(phone, page, sig=sig, key=linked.key.upper()) == {"status": "OK"}


def test_the_specifications_vector_is_accepted():
    """It is the example in LUD-04."""
    k1 = "e2af6254a8df433264fa23f67eb8188635d15ce883e8fc020989d5f82ae6f11e"
    key = "02c3b844b8104f0c1b15c507774c9ba7fc609f58f343b9b149122e944dd20c9362"
    signature = (
        "304402203767faf494f110b139293d9bab3c50e07b3bf33c463d4aa767256cd09132dc5102205821f8efacdb5c595b"
        "92ada255876d9201e126e2f31a140d44561cc1f7e9e43d"
    )
    told = [bytes.fromhex(each) for each in (k1, signature, key)]
    assert lnurl.is_signed(*told)
    assert not lnurl.is_signed(bytes(32), *told[1:])
    for nonsense in (b"", b"\0" * 33, bytes(range(72))):
        assert not lnurl.is_signed(told[0], nonsense, told[2])
        assert not lnurl.is_signed(told[0], told[1], nonsense)


def test_a_code_expires_in_ten_minutes(app, phone, linked, time_machine):
    browser = app.test_client()
    page = asks(browser)
    time_machine.forward(wallets.SIGN_SECONDS)
    assert "is over" in reason(linked.signs(phone, page))
    assert browser.get("/login/wallet/status").headers["HX-Redirect"] == "/login/wallet"
    assert "This code has expired" in browser.get("/login/wallet").text


def test_a_signature_expires_then_too_and_is_deleted_in_a_day(
    app, phone, linked, time_machine, worker
):
    browser = app.test_client()
    linked.signs(phone, asks(browser))
    time_machine.forward(wallets.SIGN_SECONDS)
    assert browser.get("/login/wallet").status_code == 200
    time_machine.forward(wallets.KEPT_SECONDS - 1)
    wallets.tidy()
    assert WalletSignature.select().where(~WalletSignature.is_used).exists()
    time_machine.forward(1)
    worker.tidy()
    assert not WalletSignature.select().exists()


def test_codes_and_signatures_of_unknown_wallets_store_nothing(app, phone, alice):
    for number in range(5):
        answer = SigningWallet(str(number)).signs(phone, asks(app.test_client()))
        assert "No hosting here" in reason(answer)
    assert not WalletSignature.select().exists()


@with_settings(LOGINS_LIMIT="2 per day")
def test_stored_signatures_are_limited(app, phone, alice, this_shop):
    signing = SigningWallet("alice's")
    Wallet.create(account=alice, wallet_key=signing.key, linked_at=1)
    for status in ("OK", "OK", "ERROR"):
        k1 = wallets.new_k1(this_shop, wallets.LOGIN)
        sent = {"k1": k1, "sig": signing.signature(k1), "key": signing.key}
        assert phone.get("/lnurl-auth", query_string=sent).json["status"] == status
    assert WalletSignature.select().count() == 2


@with_settings(LOGINS_LIMIT="2 per day")
def test_failed_signatures_are_limited_like_logins(app, phone, linked):
    page = asks(app.test_client())
    for _ in range(2):
        assert phone.get("/lnurl-auth?tag=login").json["status"] == "ERROR"
    answer = phone.get("/lnurl-auth?tag=login")
    assert (answer.status_code, "Too many" in reason(answer.json)) == (200, True)
    assert page


def test_a_wallet_linked_with_several_hostings_chooses_one(app, phone, linked, this_shop, alice):
    for username in ("bobby", "carol"):
        account = open_account(this_shop, username)
        link(enter(app.test_client(), account), phone, linked)
    open_account(this_shop, "david")
    browser = app.test_client()
    linked.signs(phone, asks(browser))
    page = browser.get("/login/wallet").text
    assert re.findall(r'name="username" value="(\w+)"', page) == ["alice", "bobby", "carol"]
    answer = send(browser, "/login/wallet/choose", username="david")
    assert answer.location == "/login/wallet"
    assert send(browser, "/login/wallet/choose", username="bobby").location == "/account"
    assert is_in(browser, "bobby")
    assert send(browser, "/login/wallet/choose", username="carol").location == "/login/wallet"
    assert browser.get("/login/wallet").location == "/account"
    assert is_in(browser, "bobby")


def test_wallets_are_deleted_with_their_account(app, phone, linked, alice, worker):
    accounts.close(alice.id)
    work(worker)
    assert not Account.select().exists()
    assert not Wallet.select().exists()
    assert "No hosting here" in reason(linked.signs(phone, asks(app.test_client())))


# -- what a login by wallet may do -----------------------------------------------------


def test_a_login_by_wallet_is_no_proof(app, phone, linked, alice):
    browser = app.test_client()
    linked.signs(phone, asks(browser))
    browser.get("/login/wallet")
    assert browser.get("/account/receipt").location.startswith("/account/prove")
    for path in (
        "/account/access/wallets",
        "/account/access/wallets/new",
        "/account/access/tokens",
    ):
        assert send(browser, path).location.startswith("/account/prove")
    assert "Current password" in browser.get("/account/password").text
    assert Wallet.select().count() == 1


def test_a_login_by_wallet_does_not_see_new_passwords(app, phone, linked, alice, this_shop):
    """The first passwords of the services open the login, too."""
    password, sealed = "made-for-alice", this_shop.vault.seal("made-for-alice")
    Account.update(password_sealed=sealed, ready_at=1).execute()
    made = {"own_password_sealed": sealed, "password_sealed": None, "applied_at": 1}
    Service.update(made).where(Service.kind << ["ftp", "mailbox"]).execute()
    browser = app.test_client()
    linked.signs(phone, asks(browser))
    browser.get("/login/wallet")
    pages = (
        "/account",
        "/account/mail",
        "/account/mail/addresses",
        "/account/mail/info@alice.shop.test",
    )
    for path in pages:
        assert password not in browser.get(path).text
    asks_first = 'href="/account/prove?then=/account">enter your password or access key'
    assert asks_first in browser.get("/account").text
    send(browser, "/account/noted", "/account", seen_at=2**40)  # though it has seen none
    send(browser, "/account/prove?then=/account", "/account/prove", password="correct horse")
    for path in pages:
        assert password in browser.get(path).text


def test_a_wallet_can_log_in_again_after_all_sessions_were_ended(app, phone, linked, owner):
    browser = app.test_client()
    linked.signs(phone, asks(browser))
    page = owner.get("/account/access").text
    assert "a linked wallet can log in again" in page
    send(owner, "/account/access/sessions")
    assert browser.get("/login/wallet").location == "/account"  # its signature still counts
    send(owner, "/account/access/sessions")
    assert not is_in(browser)


def test_a_new_access_key_unlinks_wallets_and_voids_their_signatures(app, phone, linked, alice):
    browser = app.test_client()
    linked.signs(phone, asks(browser))
    with models.transaction():
        tokens.renew(alice.id)
    assert browser.get("/login/wallet").status_code == 200
    assert not is_in(browser)
    assert "No hosting here" in reason(linked.signs(phone, asks(app.test_client())))


def test_an_unlinked_wallet_cannot_log_in(app, phone, linked, owner):
    browser = app.test_client()
    linked.signs(phone, asks(browser))
    assert linked.key in owner.get("/account/access").text
    Session.update(proved_at=0).execute()  # unlinking needs no proof
    assert send(owner, "/account/access/wallets/unlink", key=linked.key).status_code == 303
    assert send(owner, "/account/access/wallets/unlink", key=linked.key).status_code == 404
    assert browser.get("/login/wallet").status_code == 200
    assert not is_in(browser)


def test_wallets_of_others_are_out_of_reach(app, phone, linked, this_shop):
    bob = enter(app.test_client(), open_account(this_shop, "bobby"))
    assert linked.key not in bob.get("/account/access").text
    assert send(bob, "/account/access/wallets/unlink", key=linked.key).status_code == 404
    assert Wallet.select().count() == 1


# -- linking ---------------------------------------------------------------------------


def test_linking_a_wallet_needs_a_proof(owner, phone, wallet):
    page = asks_to_link(owner)
    assert owner.get("/account/access/wallets/new/status").status_code == 204
    Session.update(proved_at=0).execute()
    assert wallet.signs(phone, page) == {"status": "OK"}
    k1 = parse_qs(urlsplit(wallet.scan(page)).query)["k1"][0]
    answer = send(owner, "/account/access/wallets/new", k1=k1)
    assert answer.location == "/account/prove?then=/account/access"
    assert owner.get("/account/access/wallets/new").location.startswith("/account/prove")
    assert "give your password" in owner.get("/account/access").text
    assert not Wallet.select().exists()


def test_a_wallet_is_linked_only_after_the_owner_confirms(app, owner, phone, wallet):
    """Somebody who sees the code may be quicker: then the owner's own wallet fails."""
    page = asks_to_link(owner)
    thief = SigningWallet("a thief's")
    thief.signs(phone, page)
    assert "Another wallet" in reason(wallet.signs(phone, page))
    poll = owner.get("/account/access/wallets/new/status")
    assert poll.headers["HX-Redirect"] == "/account/access/wallets/new"
    assert "Did yours say that it worked?" in owner.get("/account/access/wallets/new").text
    assert not Wallet.select().exists()
    assert "No hosting here" in reason(thief.signs(phone, asks(app.test_client())))


def test_a_code_to_log_in_links_nothing_and_one_to_link_logs_in_nobody(app, owner, phone, linked):
    browser = app.test_client()
    linked.signs(phone, asks_to_link(owner))
    with owner.session_transaction() as session:
        k1 = session["link_k1"]
    with browser.session_transaction() as session:
        session["login_k1"] = k1
    other = SigningWallet("another")
    assert "No hosting here" in reason(other.signs(phone, asks(browser)))
    for nonsense in ("", "x", "0" * 64, "\0"):
        answer = send(owner, "/account/access/wallets/new", k1=nonsense)
        assert answer.location == "/account/access/wallets/new"
    assert Wallet.select().count() == 1


@many_logins
def test_a_wallet_is_linked_once_and_wallets_are_limited(owner, phone, linked):
    assert link(owner, phone, linked).status_code == 303
    assert Wallet.select().count() == 1
    for number in range(wallets.WALLETS_MAX - 1):
        assert link(owner, phone, SigningWallet(str(number))).status_code == 303
    assert "Link a wallet</button>" not in owner.get("/account/access").text
    answer = link(owner, phone, SigningWallet("one more"))
    assert (answer.status_code, "Unlink one of them first" in answer.text) == (409, True)
    assert Wallet.select().count() == wallets.WALLETS_MAX


def test_the_hostings_of_a_wallet_are_limited(app, owner, phone, wallet, this_shop):
    for number in range(wallets.HOSTINGS_MAX):
        account = open_account(this_shop, f"other{number}")
        Wallet.create(account=account, wallet_key=wallet.key, linked_at=1)
    answer = link(owner, phone, wallet)
    assert (answer.status_code, "already" in answer.text) == (409, True)


def test_a_linked_wallet_is_a_lasting_login(owner, phone, wallet, alice):
    assert alice.entered_at is None
    link(owner, phone, wallet)
    assert Account.get().entered_at


def test_a_closing_hosting_links_no_wallet(owner, phone, wallet, alice):
    page = asks_to_link(owner)
    wallet.signs(phone, page)
    accounts.close(alice.id)
    k1 = parse_qs(urlsplit(wallet.scan(page)).query)["k1"][0]
    assert send(owner, "/account/access/wallets/new", k1=k1).location == "/account"
    assert not Wallet.select().exists()


@with_mail
def test_the_owner_is_mailed_about_a_linked_wallet(owner, phone, wallet, alice, mails):
    Account.update(email="alice@example.org").execute()
    link(owner, phone, wallet)
    told = list(Notice.select().where(Notice.kind == "wallet").order_by(Notice.channel))
    assert [row.recipient for row in told] == ["alice@example.org", "info@alice.shop.test"]
    assert "/account/access" in told[0].body
    assert wallet.key not in told[0].body


def test_the_owner_sees_what_is_stored_about_a_wallet(owner, linked):
    page = owner.get("/account/known").text
    assert "A wallet that logs in" in page
    assert linked.key in page


def test_a_session_that_is_ended_meanwhile_links_no_wallet(owner, phone, wallet, alice):
    page = asks_to_link(owner)
    wallet.signs(phone, page)
    k1 = parse_qs(urlsplit(wallet.scan(page)).query)["k1"][0]

    def ended():
        raise sessions.SessionOver

    shop = owner.application.extensions["shop"]
    with pytest.raises(sessions.SessionOver):
        wallets.link(shop, alice.id, k1, ended)
    assert not Wallet.select().exists()
    assert wallets.signer(k1) == wallet.key


def test_codes_outlive_a_change_of_the_secret_key(this_shop, wallet):
    k1 = wallets.new_k1(this_shop, wallets.LOGIN)
    assert wallets.new_k1(this_shop, wallets.LOGIN) != k1
    signed = (k1, wallet.signature(k1), wallet.key)
    new, old = "another key, which is long enough", this_shop.config.secret_key
    for vault, told in ((Vault(new, (old,)), "No hosting here"), (Vault(new), "none of ours")):
        with pytest.raises(wallets.NotSigned, match=told):
            wallets.sign(replace(this_shop, vault=vault), *signed)
