"""The files of static/, and which answers are compressed."""

import gzip
import re

import pytest

from tests.conftest import enter, place_order

PACKED = {"Accept-Encoding": "br, gzip"}


def names_in(page: str) -> list[str]:
    return re.findall(r'(?:href|src)="(/static/[^"]+)"', page)


def test_pages_name_files_by_their_content(client):
    named = names_in(client.get("/").text)
    assert len(set(named)) == 4
    for path in named:
        assert re.fullmatch(r"/static/[\w.-]+-[0-9a-f]{12}\.(css|js|svg)", path)
        answer = client.get(path)
        assert answer.headers["Cache-Control"] == "public, max-age=31536000, immutable"
        assert "Cookie" not in answer.headers["Vary"]
        assert "Set-Cookie" not in answer.headers


def test_a_file_is_compressed_for_clients_that_accept_it(client):
    for path in {*names_in(client.get("/").text), "/robots.txt"}:
        plain, packed = client.get(path), client.get(path, headers=PACKED)
        assert "Content-Encoding" not in plain.headers
        assert packed.headers["Content-Encoding"] == "gzip"
        assert gzip.decompress(packed.data) == plain.data
        assert packed.headers["Vary"] == plain.headers["Vary"] == "Accept-Encoding"
        assert packed.mimetype == plain.mimetype


def test_a_file_by_its_plain_name_is_cached_only_briefly(client):
    answer = client.get("/static/shop.css")
    assert answer.headers["Cache-Control"] == "public, max-age=3600"
    again = client.get("/static/shop.css", headers={"If-None-Match": answer.headers["ETag"]})
    assert again.status_code == 304
    assert again.data == b""


@pytest.mark.parametrize(
    "path", ["nothing", "shop-000000000000.css", "../app.py", "%2e%2e/app.py", "", "shop.css/"]
)
def test_other_paths_are_not_files(client, path):
    answer = client.get(f"/static/{path}")
    assert answer.status_code == 404
    assert answer.headers["Cache-Control"] == "no-store"


def test_favicon_and_robots_txt_are_served(client):
    icon = client.get("/favicon.ico")
    assert icon.data.startswith(b"\0\0\1\0") and len(icon.data) < 2000
    robots = client.get("/robots.txt")
    assert robots.mimetype == "text/plain"
    assert "Disallow: /account\n" in robots.text


def test_the_front_page_has_a_preview_for_other_sites(client):
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


def test_pages_that_may_show_a_secret_are_not_compressed(client, alice):
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


def test_short_answers_are_not_compressed(client):
    answer = client.get("/price?space_mb=100&duration=3&unit=months", headers=PACKED)
    assert "Content-Encoding" not in answer.headers
    assert "630 sat" in answer.text


def test_a_poll_of_an_order_is_small(client):
    link = place_order(client).location
    answer = client.get(f"{link}/status", headers=PACKED)
    assert len(answer.data) < 1000
