"""Bad input, by mistake or by attackers, is refused beside its field and makes no invoice."""

import io
import re
from urllib.parse import urlencode

import pytest
from markupsafe import escape

from lightningspace.base.models import Account, Order
from tests.conftest import csrf_token, filled_form, invoices_asked_for, place_order

FORM = "application/x-www-form-urlencoded"

NUMBERS = ["", "0", "-1", "-5", "1.5", "1e9", "abc", "٣", "1_0", "0x10", "9" * 5000, "1\0", None]
WRONG = {
    "space_mb": [*NUMBERS, "7", "100.0", "١٠٠", "100,500", "1000000000"],
    "duration": [*NUMBERS, str(10**30), "25", "NaN", "<script>"],
    "unit": ["", "weeks", "MONTHS", "month", "__class__", "\0", None],
    "username": [
        *("Älice", "al", "a" * 17, "a" * 1000, "1alice", "al-ice", "al.ice", "al_ice", "alicé"),
        *("www", "root", "admin", "postmaster", "web1", "client5", "ns2", "mysql"),
        *("аlice", "alice%", "a%0ab", "ali\nce", "ali\r\nce", "al\0ice", "alice\0", "ａlice"),
        *("a' OR '1'='1", 'a"><script>alert(1)</script>', "../../etc", "{{7*7}}", "alice;--"),
    ],
    "email": [
        *("alice", "a@b", "@example.org", "a@example.org, b@example.org", "a b@example.org"),
        *("a" * 1000 + "@example.org", "a@" + "b" * 1000 + ".org", "a@localhost", "a@[127.0.0.1]"),
        *("a@example.org\r\nBcc: b@example.org", "a\nb@example.org", "a@example.org\0b"),
        *("Alice <a@example.org>", '"a\\\r\n"@example.org', "a@exa\tmple.org", "x" * 30_000),
    ],
    "password": [
        *("Sh0rt!x", "alllower", "12345678", "lower123", "   ", "\t", "        ", "x" * 65),
        *("it's 9 lives!", 'say "friend"', "back\\slash", "abcd123\\"),
        *("pässword long", "пароль long", "password\0long", "password\nlong", "password\x7flong"),
        *("\u2003" * 9, "password\u200blong", "p" * 30_000),
    ],
}


def test_an_error_is_shown_beside_its_field_and_nothing_is_charged(subtests, client, node):
    for field in WRONG:
        with subtests.test(field=field):
            typed = {"username": "alice", "email": "a@example.org", "password": "correct horse"}
            for value in WRONG[field]:
                answer = place_order(client, **(typed | {field: value}))
                assert answer.status_code == 400, value
                assert f'id="{field}-error"' in answer.text, value
                assert "correct horse" not in answer.text
                for kept, text in (typed | {field: value}).items():
                    if kept in ("username", "email", "duration") and text is not None:
                        # Browsers normalize line breaks and outer blanks themselves.
                        assert str(escape(text.strip())).lower() in answer.text.lower(), value
            assert (
                invoices_asked_for(node) == Order.select().count() == Account.select().count() == 0
            )


@pytest.mark.parametrize(
    ("password", "why"),
    [
        ("lower123", "At least 9 characters, or 8 with three of:"),
        ("Sh0rt!x", "At least 9 characters"),
        ("x" * 65, "At most 64 characters."),
        ("pässword long", "Use letters a to z, digits and symbols"),
        ("it's 9 lives!", "but none of &#39; &#34; and \\."),
        ("\u2003" * 9, "Use letters"),
    ],
)
def test_a_refused_password_comes_with_the_reason(client, password, why):
    said = re.search(
        'id="password-error"[^>]*>([^<]*)', place_order(client, password=password).text
    )
    assert why in said[1]


def test_an_order_of_an_unknown_size_is_told_which_there_are(subtests, client):
    for size in ["7", "abc"]:
        with subtests.test(size=size):
            errors = client.get(f"/api/v1/prices?space_mb={size}&duration=1&unit=days").json[
                "errors"
            ]
            assert errors == {
                "space_mb": ["Choose one of these sizes: 100 MB, 500 MB, 1 GB, 5 GB."]
            }


def test_a_refused_password_is_not_shown_again(client):
    for password in WRONG["password"]:
        page = place_order(client, password=password).text
        assert f'value="{escape(password)}"' not in page


RIGHT = {
    "space_mb": ["100", "5000", " 100 "],
    "duration": ["1", "24", " 03 "],
    "unit": ["hours", "days", "months"],
    "username": ["abc", "a" * 16, "a1b2c3", " alice ", " Bobby\t", "", " "],
    "email": ["a@example.org", "a+b@sub.example.org", " a@example.org ", "", " "],
    "password": [
        "correct horse",
        "Abcdefg1",
        "a" * 9,
        " " * 9,
        "~!@#$%^&",
        "~!@#$%^&9",
        "x" * 64,
        "",
    ],
}
RIGHT["password"].remove("~!@#$%^&")  # characters of one class alone


@pytest.mark.parametrize("field", RIGHT)
def test_valid_input_is_accepted(field, client):
    for value in RIGHT[field]:
        assert place_order(client, **{field: value}).status_code == 303, value


def test_a_name_is_ordered_in_small_letters_as_it_logs_in(client):
    place_order(client, username=" Alice ")
    assert Account.get().username == "alice"


def test_an_empty_optional_field_counts_as_missing(client):
    place_order(client, username=" ", email=" ", password="")
    account = Account.get()
    assert (account.email, account.password_sealed) == (None, None)
    assert Order.get().username is None


def test_a_password_is_kept_as_it_was_typed(client, this_shop):
    place_order(client, password="  blanks count ")
    assert this_shop.vault.unseal(Account.get().password_sealed) == "  blanks count "


def test_bytes_that_are_not_text_are_refused(subtests, client, node):
    for field in ["username", "email", "duration", "unit"]:
        with subtests.test(field=field):
            for typed in ("%FF", "%ED%A0%80", "%00", "%C0%AF", "a%", "%F4%90%80%80"):
                form = filled_form(client, **{field: None})
                body = f"{urlencode(form)}&{field}={typed}"
                answer = client.post("/orders", data=body, content_type=FORM)
                assert answer.status_code == 400, typed
                assert f'id="{field}-error"' in answer.text
            assert invoices_asked_for(node) == 0


def test_of_a_field_sent_twice_the_first_counts_everywhere(client):
    form = filled_form(client, username="alice", space_mb="100")
    body = f"{urlencode(form)}&space_mb=5000&username=ADMIN&password=x&password=y"
    assert client.post("/orders", data=body, content_type=FORM).status_code == 400
    body = f"{urlencode(form)}&space_mb=5000&username=ADMIN"
    assert client.post("/orders", data=body, content_type=FORM).status_code == 303
    assert Account.get().username == "alice"
    assert (Account.get().space_mb, Order.get().amount_msat) == (100, 630_000)


def test_ten_thousand_fields_do_no_harm(client):
    body = urlencode(filled_form(client)) + "&a" * 10_000
    assert client.post("/orders", data=body, content_type=FORM).status_code == 303


def test_a_file_in_place_of_a_text_counts_as_a_missing_field(subtests, client):
    for field in ["username", "email", "password", "duration", "space_mb", "unit", "form_id"]:
        with subtests.test(field=field):
            form = filled_form(client, **{field: (io.BytesIO(b"alice"), "name.txt")})
            answer = client.post("/orders", data=form, content_type="multipart/form-data")
            # As if the field were missing, which optional fields may be.
            wanted = 400 if field in ("duration", "space_mb", "unit") else 303
            assert answer.status_code == wanted
            assert Account.get_or_none(Account.username == "alice") is None


JSON = [[1, 2], 5, "text", None, {"username": 5, "password": ["x"]}, {"space_mb": 100}]


def test_json_in_place_of_a_form_is_refused(subtests, client):
    for path in ["/orders", "/login"]:
        with subtests.test(path=path):
            token = csrf_token(client.get("/login").text)
            for body in JSON:
                answer = client.post(path, json=body, headers={"X-CSRFToken": token})
                assert answer.status_code == 400
            assert Order.select().count() == 0


def test_a_body_that_is_no_form_is_refused(subtests, client):
    for content_type, body in [
        ("text/plain", b"csrf_token=x"),
        ("multipart/form-data", b"--x\r\n\r\n--x--"),
        ("multipart/form-data; boundary=x", b"--x\r\nContent-Disposition: nonsense\r\n\r\n--x--"),
        ("application/json", b"{"),
        ("", b"\0\xff"),
        (FORM, b"csrf_token=%FF"),
        (FORM, b"csrf_token[]=x&csrf_token"),
    ]:
        with subtests.test(content_type=content_type, body=body):
            client.get("/")
            answer = client.post("/orders", data=body, content_type=content_type)
            assert answer.status_code == 400
            assert "<h1>That did not work</h1>" in answer.text


def test_an_oversized_body_is_refused_with_a_page_of_ours(client):
    answer = place_order(client, email="x" * 70_000)
    assert answer.status_code == 413
    assert "<h1>Too much</h1>" in answer.text


def test_too_many_parts_are_refused_with_a_page_of_ours(client):
    part = b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\n\r\n'
    answer = client.post(
        "/orders", data=part * 1100 + b"--x--", content_type="multipart/form-data; boundary=x"
    )
    assert answer.status_code == 413
    assert "<h1>Too much</h1>" in answer.text
