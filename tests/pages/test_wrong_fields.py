"""The page of a refused form links to the wrong fields, and the first one has the focus."""

import html
import re

from tests.conftest import csrf_token, enter, filled_form

FOCUSED = re.compile(r'<(?:input|select|textarea)\b[^>]*?\bid="([\w-]+)"[^>]*\bautofocus\b')
FOCUSED_BEFORE = re.compile(r'<(?:input|select|textarea)\b[^>]*\bautofocus\b[^>]*?\bid="([\w-]+)"')


def focused(page: str) -> list[str]:
    """The ids of the elements with autofocus."""
    assert len(re.findall(r"\bautofocus\b", page)) <= 1
    return FOCUSED.findall(page) or FOCUSED_BEFORE.findall(page)


def summary(page: str) -> list[tuple[str, str]]:
    """The fields that the page links to, with their labels."""
    told = re.search(r'<p class="problem" role="alert">\s*Not done yet.(.*?)</p>', page, re.S)
    return re.findall(r'<a href="#([\w-]+)">(.*?)</a>', told[1]) if told else []


def test_a_page_without_errors_mentions_none(client):
    page = client.get("/").text
    assert focused(page) == summary(page) == []
    assert "<title>Web hosting" in page


def test_the_first_wrong_field_has_the_focus_and_the_page_leads_to_all(client):
    form = filled_form(client, username="a b", email="nobody", duration="3")
    page = client.post("/orders", data=form).text
    assert focused(page) == ["username"]
    assert sorted(summary(page)) == [("email", "E-mail"), ("username", "Name")]
    assert "<title>Error: " in page
    assert re.search(r'aria-describedby="username-error username-hint"', page)


def test_a_wrong_choice_is_linked(client):
    page = client.post("/orders", data=filled_form(client, space_mb="7")).text
    assert focused(page) == ["space_mb"]
    assert summary(page) == [("space_mb", "Space")]
    assert page.count('id="space_mb"') == 1


def test_asking_for_a_price_moves_no_focus(client):
    page = client.get("/?space_mb=7&duration=x&unit=y").text
    assert summary(page) == []


# Wrong input for each form of the control center.
WRONG = {
    "/account/mail/mailbox": {"local_part": "e v e"},
    "/account/mail/forward": {"forward-local_part": "sales", "forward-destination": "nobody"},
    "/account/mail/info@alice.shop.test/password": {"password": "x"},
    "/account/mail/info@alice.shop.test/quota": {"quota_mb": "x"},
    "/account/domains": {"name": "-"},
    "/account/extend": {"duration": "x", "unit": "days"},
    "/account/extend/top-up": {"sats": "x"},
    "/account/password": {"current": "x", "new": "y"},
    "/account/prove": {"password": "x"},
    "/account/prove/receipt": {"receipt": "x"},
    "/account/settings/password": {"service": "all", "password": "y"},
    "/account/settings/ssh-key": {"name": "ls_alice", "ssh_key": "y"},
    "/account/settings/redirect": {"name": "alice.shop.test", "redirect_to": "y"},
    "/account/close": {"username": "bob"},
}


def test_each_form_links_to_its_wrong_fields(client, alice, subtests):
    enter(client, alice)
    token = csrf_token(client.get("/account").text)
    for path, typed in WRONG.items():
        with subtests.test(path=path):
            answer = client.post(path, data=typed | {"csrf_token": token})
            assert answer.status_code == 400, answer.location
            assert summary(answer.text)
            for field, _ in summary(answer.text):
                assert answer.text.count(f'id="{field}"') == 1
            assert focused(answer.text) == [summary(answer.text)[0][0]]
            # If the address had a fragment, browsers would go there and ignore autofocus.
            assert not re.search(r'<form [^>]*action="[^"]*#', html.unescape(answer.text))
