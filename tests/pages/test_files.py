"""The files of static/, and what is sent compressed."""

import gzip
import re

import pytest

from tests.conftest import enter, place_order

PACKED = {"Accept-Encoding": "br, gzip"}


def names_in(page: str) -> list[str]:
    return re.findall(r'(?:href|src)="(/static/[^"]+)"', page)


def test_a_page_names_files_by_what_is_in_them(client):
    named = names_in(client.get("/").text)
    assert len(set(named)) == 4
    for path in named:
        assert re.fullmatch(r"/static/[\w.-]+-[0-9a-f]{12}\.(css|js|svg)", path)
        answer = client.get(path)
        assert answer.headers["Cache-Control"] == "public, max-age=31536000, immutable"
        assert "Cookie" not in answer.headers["Vary"]
        assert "Set-Cookie" not in answer.headers


def test_a_file_is_sent_compressed_to_who_understands_that(client):
    for path in {*names_in(client.get("/").text), "/robots.txt"}:
        plain, packed = client.get(path), client.get(path, headers=PACKED)
        assert "Content-Encoding" not in plain.headers
        assert packed.headers["Content-Encoding"] == "gzip"
        assert gzip.decompress(packed.data) == plain.data
        assert packed.headers["Vary"] == plain.headers["Vary"] == "Accept-Encoding"
        assert packed.mimetype == plain.mimetype


def test_a_file_by_its_plain_name_is_soon_asked_for_again(client):
    answer = client.get("/static/shop.css")
    assert answer.headers["Cache-Control"] == "public, max-age=3600"
    again = client.get("/static/shop.css", headers={"If-None-Match": answer.headers["ETag"]})
    assert again.status_code == 304
    assert again.data == b""


@pytest.mark.parametrize(
    "path", ["nothing", "shop-000000000000.css", "../app.py", "%2e%2e/app.py", "", "shop.css/"]
)
def test_nothing_else_is_a_file(client, path):
    answer = client.get(f"/static/{path}")
    assert answer.status_code == 404
    assert answer.headers["Cache-Control"] == "no-store"


def test_what_browsers_and_robots_ask_for_by_themselves(client):
    icon = client.get("/favicon.ico")
    assert icon.data.startswith(b"\0\0\1\0") and len(icon.data) < 2000
    robots = client.get("/robots.txt")
    assert robots.mimetype == "text/plain"
    assert "Disallow: /account\n" in robots.text


def test_the_front_page_says_what_to_show_of_it_elsewhere(client):
    page = client.get("/").text
    assert re.search(r'<meta name="description" content="[^"]{50,160}">', page)
    picture = re.search(r'property="og:image" content="http://localhost(/[^"]+)"', page)[1]
    answer = client.get(picture, headers=PACKED)
    assert answer.data.startswith(b"\x89PNG") and len(answer.data) < 12_000
    assert [int.from_bytes(answer.data[at : at + 4]) for at in (16, 20)] == [1200, 630]


def test_the_color_around_a_page_is_that_of_the_page(client):
    style = client.get("/static/shop.css").text
    light, dark = re.findall(r"--page: (#\w+);", style)[:2]
    told = re.findall(r'theme-color" content="(#\w+)"', client.get("/").text)
    assert told == [light.replace("#fff", "#ffffff"), dark]


@pytest.mark.parametrize("path", ["/", "/login", "/terms", "/nowhere"])
def test_a_page_for_everybody_is_compressed(client, path):
    plain, packed = client.get(path), client.get(path, headers=PACKED)
    assert packed.headers["Content-Encoding"] == "gzip"
    assert "Accept-Encoding" in packed.vary
    assert "Accept-Encoding" in plain.vary
    assert packed.headers["Content-Length"] == str(len(packed.data))
    title = re.search("<h1>.*?</h1>", plain.text)[0]
    assert title in gzip.decompress(packed.data).decode()


def test_what_may_show_a_secret_is_not_compressed(client, alice):
    wrong = client.post("/login", data={"username": "x" * 1000}, headers=PACKED)
    assert wrong.status_code == 400 and len(wrong.data) > 500
    enter(client, alice)
    for answer in (
        wrong,
        client.get("/account", headers=PACKED),
        client.get("/account/access", headers=PACKED),
        client.get("/account/nowhere", headers=PACKED),
        client.get("/api/v1/hosting", headers=PACKED | {"Accept": "text/html"}),
    ):
        assert "Content-Encoding" not in answer.headers


def test_what_is_short_is_not_compressed(client):
    answer = client.get("/price?space_mb=100&duration=3&unit=months", headers=PACKED)
    assert "Content-Encoding" not in answer.headers
    assert "630 sat" in answer.text


def test_a_poll_of_an_order_is_light(client):
    link = place_order(client).location
    answer = client.get(f"{link}/status", headers=PACKED)
    assert len(answer.data) < 1000
