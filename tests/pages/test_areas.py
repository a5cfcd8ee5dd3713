"""The pages of paid areas: setting them up, and their state."""

import re

import pytest

from lightningspace.base.models import Account, Service
from lightningspace.rules import services, tips, wanted
from lightningspace.rules.areas import Reason
from tests.conftest import csrf_token, enter, with_ftp, with_settings

pytestmark = with_ftp
WALLET = "me@wallet.example"
SOLD = {"name": "members", "price_sat": "100", "duration": "2", "unit": "days", "mode": "wallet"}
SOLD |= {"wallet_address": f" {WALLET.title()} ", "title": "My films"}


@pytest.fixture
def browser(client, alice):
    return enter(client, alice)


def send(browser, path="", **fields):
    token = csrf_token(browser.get("/account/areas").text)
    return browser.post(f"/account/areas{path}", data={"csrf_token": token} | fields)


def area(name="members") -> Service | None:
    return Service.get_or_none((Service.kind == "paidarea") & (Service.name == name))


def stands(note=None, **facts) -> None:
    facts = {"applied_revision": Service.revision, "applied_at": 1, "note": note} | facts
    Service.update(facts).where(Service.kind == "paidarea").execute()


def in_words(page: str) -> str:
    return " ".join(re.sub("<[^>]*>", " ", page).split())


def told(browser, path="/members/status") -> str:
    return in_words(browser.get(f"/account/areas{path}").text)


def test_a_paid_area_is_set_up(browser):
    answer = send(browser, **SOLD)
    assert answer.location == "/account/areas/members"
    assert services.settings_of(area()) == {
        "price_sat": 100,
        "seconds": 2 * 86400,
        "title": "My films",
        "mode": "wallet",
        "wallet_address": WALLET,
        "programs_only": False,
    }
    page = browser.get(answer.location).text
    assert 'hx-get="/account/areas/members/status" hx-trigger="every 3s"' in page
    said = in_words(page)
    assert "That takes a minute or two" in said and "100 sat for 2 days" in said
    assert "http://alice.shop.test/members/" in said and "private/paid/members" in said
    assert "curl -i http://alice.shop.test/members/index.php/film.mp4" in said
    assert "/members/index.php/film.mp4 or /members/film.mp4" in said


@pytest.mark.parametrize(
    "env, is_said",
    [
        ({"SITES_TLS": "letsencrypt"}, True),
        ({"SITES_TLS": "wildcard"}, False),
        ({"SITES_TLS": "none"}, False),
    ],
    indirect=["env"],
)
def test_an_area_without_https_warns_if_https_is_possible(browser, is_said):
    send(browser, **SOLD)
    assert ("Switch HTTPS on" in told(browser, "/members")) == is_said


@with_settings(WALLS="nginx")
def test_with_nginx_files_have_one_address_alone(browser):
    send(browser, **SOLD)
    assert "or /members/film.mp4" not in told(browser, "/members")


WRONG = [
    ({"name": "My films"}, "letters a to z"),
    ({"name": ""}, "letters a to z"),
    ({"name": "cgi-bin"}, "The server itself uses this address"),
    ({"price_sat": "0"}, "Enter whole sat"),
    ({"price_sat": "1.5"}, "Enter whole sat"),
    ({"price_sat": "9" * 30}, "Enter whole sat"),
    ({"price_sat": ""}, "Enter whole sat"),
    ({"duration": "0"}, "from one hour to two years"),
    ({"duration": "x"}, "Enter a whole number"),
    ({"unit": "years"}, "Not a valid choice"),
    ({"mode": ""}, "Choose where it goes"),
    ({"mode": "both"}, "Choose where it goes"),
    ({"wallet_address": ""}, "Enter the Lightning Address"),
    ({"wallet_address": "me"}, "This is not a Lightning Address"),
    ({"wallet_address": "a@127.0.0.1"}, "This is not a Lightning Address"),
    ({"wallet_address": "a@localhost"}, "This is not a Lightning Address"),
    ({"wallet_address": "a@b.example:8080"}, "This is not a Lightning Address"),
    ({"wallet_address": f"a@{'b' * 56}.onion"}, "onion service"),
    ({"title": "x" * 81}, "up to 80 characters"),
    ({"mode": "site", "price_sat": "2000000"}, "takes from 1 to 1,000,000 sat"),
]


def test_errors_of_an_area_are_shown_beside_their_fields(browser, subtests):
    for changes, why in WRONG:
        with subtests.test(**changes):
            answer = send(browser, **(SOLD | changes))
            assert (answer.status_code, area()) == (400, None)
            assert why in in_words(answer.text)


def test_names_are_taken_as_people_write_them(browser):
    assert send(browser, **(SOLD | {"name": " /Members/ "})).location == "/account/areas/members"
    again = send(browser, **SOLD)
    assert again.status_code == 409 and "already has" in in_words(again.text)


def test_a_site_has_no_more_than_five_areas(browser, this_shop):
    for number in range(5):
        send(browser, **(SOLD | {"name": f"area-{number}"}))
    page = browser.get("/account/areas").text
    assert "5 of 5" in in_words(page) and "Set it up" not in page
    assert send(browser, **SOLD).status_code == 409


def test_paying_for_the_site_needs_its_lightning_address(browser, this_shop, alice):
    tips.switch(alice.id, tips_address=False)
    answer = send(browser, **(SOLD | {"mode": "site"}))
    assert answer.status_code == 400 and "switch it on under Tips" in in_words(answer.text)
    tips.switch(alice.id, tips_address=True)
    assert send(browser, **(SOLD | {"mode": "site", "wallet_address": ""})).status_code == 303
    assert "it becomes time of this hosting" in told(browser, "/members")


def test_each_state_of_an_area_is_described(browser, subtests):
    send(browser, **SOLD)
    for reason in Reason:
        with subtests.test(reason=str(reason)):
            stands(reason)
            page = browser.get("/account/areas/members/status").text
            assert "hx-trigger" not in page and "/account/areas/members/try" in page
            words = in_words(page)
            if reason == Reason.IN_THE_WAY:  # an edited gate may still be selling
                assert words.startswith("We changed nothing there. web/members has")
            elif reason != Reason.NO_VERIFY:
                assert re.match(r"It is off\. \S.{20}", words), words
    stands()
    assert told(browser) == "It is on. It asked us for payment, and no trick of ours got us in."
    assert "on" in told(browser, "")
    stands(active=False)
    assert "It is off: nobody buys or gets in" in told(browser)
    stands(Reason.IN_THE_WAY, active=False)
    assert told(browser).startswith("It may still be selling: web/members has")
    assert "/account/areas/members/try" in browser.get("/account/areas/members/status").text
    stands(active=True, gone=True)
    assert told(browser) == "It is being removed."
    assert browser.get("/account/areas/members").status_code == 404
    Service.delete().where(Service.kind == "paidarea").execute()
    gone = browser.get("/account/areas/members/status", headers={"HX-Request": "true"})
    assert "/account/areas" in gone.headers["HX-Location"]


def test_selling_to_programs_only_is_agreed_to_for_each_wallet(browser):
    send(browser, **SOLD)
    stands(Reason.NO_VERIFY)
    assert "nobody could get in with a browser" in told(browser)
    send(browser, "/members/try", programs_only="yes")
    assert services.settings_of(area())["programs_only"] and not area().is_applied
    stands()
    assert "for programs only" in told(browser)
    send(browser, "/members/change", **(SOLD | {"price_sat": "5"}))
    assert services.settings_of(area())["programs_only"]
    send(browser, "/members/change", **(SOLD | {"wallet_address": "me@other.example"}))
    assert not services.settings_of(area())["programs_only"]


def test_an_area_is_changed_switched_tried_and_removed(browser):
    send(browser, **SOLD)
    page = browser.get("/account/areas/members").text
    assert 'value="My films"' in page and f'value="{WALLET}"' in page and 'name="name"' not in page
    changed = SOLD | {"duration": "36", "unit": "hours", "title": ""}
    assert send(browser, "/members/change", **changed).status_code == 303
    assert services.settings_of(area())["seconds"] == 36 * 3600
    assert "100 sat for 36 hours" in told(browser, "/members")
    assert send(browser, "/members/change", **(changed | {"mode": "x"})).status_code == 400
    send(browser, "/members/switch", active="off")
    assert not area().active
    stands(Reason.DOWN, active=True)
    before = area().revision
    send(browser, "/members/try")
    assert area().revision == before + 1
    assert send(browser, "/members/remove").location == "/account/areas"
    assert area().gone
    for path in ("/members/remove", "/members/switch", "/members/try", "/nothing/change"):
        assert send(browser, path).status_code == 404, path


def test_the_owners_texts_are_escaped(browser):
    send(browser, **(SOLD | {"title": "<script>alert(1)</script>"}))
    assert "<script>alert" not in browser.get("/account/areas/members").text
    for name in ("%3Cb%3E", "..", "a" * 300, "%00", "members%0a"):
        assert browser.get(f"/account/areas/{name}").status_code == 404


def test_changes_of_areas_are_limited(browser, this_shop):
    send(browser, **SOLD)
    statuses = [send(browser, "/members/try").status_code for _ in range(200)]
    assert statuses[0] == 303 and statuses[-1] == 429


def test_a_closing_hosting_gets_no_area(browser, this_shop, alice):
    wanted.add(this_shop, alice.id, "paidarea", "members", wallet_address=WALLET)
    Account.update(closing_at=1).execute()
    assert send(browser, "/members/try").location == "/account"


@with_settings(FTP_UPLOADS="false")
def test_a_shop_without_ftp_offers_no_areas(browser):
    page = browser.get("/account/areas").text
    assert "puts no files on sites" in in_words(page) and "Set it up" not in page
