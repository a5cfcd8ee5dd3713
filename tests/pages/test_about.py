"""Who runs the shop: the foot of every page, the terms, and the operator's own texts."""

import re

import pytest
from markupsafe import escape

from lightningspace.base import parsers
from lightningspace.base.config import ConfigError, from_env
from lightningspace.rules import status
from lightningspace.rules.stored import STORED
from lightningspace.rules.stored_entry import Group
from tests.conftest import with_settings

TRICKY = """\
# Who we are

Ada & Sons, <script>alert(1)</script> <img src=x onerror=alert(1)>

| a | b |
|---|---|
| 1 | 2 |

[click](javascript:alert(1)) [fine](https://ada.example/)
"""


@pytest.fixture
def written(more_settings, tmp_path):
    """The settings of an operator who has written all texts."""
    for name in ("terms", "privacy", "imprint"):
        path = tmp_path / f"{name}.md"
        path.write_text(TRICKY.replace("Who we are", f"Our {name}"))
        more_settings[f"{name.upper()}_FILE"] = str(path)
    more_settings["SHOP_NAME"] = "Ada's <Hosting>"
    more_settings["CONTACT"] = "help@ada.example"
    more_settings["ABUSE_CONTACT"] = "https://ada.example/abuse?from=shop"
    more_settings["SOURCE_URL"] = "https://ada.example/source"


def foot(page: str) -> dict[str, str]:
    """The links at the foot of a page, by their text."""
    found = re.search(r"<footer.*?</footer>", page, re.S)[0]
    return {text: href for href, text in re.findall(r'<a href="([^"]*)"[^>]*>([^<]*)</a>', found)}


def test_every_page_says_who_runs_the_shop(written, client):
    links = {
        "Contact": "mailto:help@ada.example",
        "Report abuse": "/abuse",
        "Terms": "/terms",
        "Privacy": "/privacy",
        "Imprint": "/imprint",
        "Status": "/status",
        "For programs": "/llms.txt",
        "Source": "https://ada.example/source",
    }
    for path in ("/", "/login", "/terms", "/no-such-page"):
        page = client.get(path).text
        assert foot(page) == links, path
        assert "Ada&#39;s &lt;Hosting&gt;</title>" in page
        assert "lightning-space" not in page


def test_without_a_contact_the_foot_names_none(client):
    assert list(foot(client.get("/").text)) == ["Terms", "Privacy", "Status", "For programs"]
    assert "<title>Web hosting, paid by Lightning · localhost</title>" in client.get("/").text
    assert client.get("/imprint").status_code == 404


def test_the_abuse_page_says_what_to_send_to_whom(written, client):
    page = client.get("/abuse").text
    assert 'href="https://ada.example/abuse?from=shop"' in page
    assert "https://name.shop.test/login.html" in page
    assert "https://ada.example/abuse" not in client.get("/terms").text


def test_without_an_address_for_abuse_there_is_no_page(client):
    assert client.get("/abuse").status_code == 404


def test_the_operators_documents_are_rendered_without_html(written, client):
    for name in ("terms", "privacy", "imprint"):
        page = client.get(f"/{name}").text
        assert re.findall("<h1>(.*)</h1>", page) == [f"Our {name}"]
        assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
        assert "<img src=x" not in page and 'href="javascript:' not in page
        assert '<a href="https://ada.example/">fine</a>' in page
        assert "<td>1</td>" in page


@with_settings(NAME_QUARANTINE_DAYS="7")
def test_the_privacy_page_says_what_is_stored_and_until_when(client):
    page = " ".join(client.get("/privacy").text.split())
    for group in Group:
        assert f"<h2>{group}</h2>" in page
    assert all(escape(entry.what) in page for entry in STORED)
    assert "Deleted: 7 days after the hosting was deleted." in page
    assert page.count("Deleted: ") == len(STORED) and "Deleted: <" not in page


def test_the_list_of_stored_data_follows_the_operators_own_text(written, client):
    page = client.get("/privacy").text
    assert page.index("Our privacy") < page.index("What we know about you")


def test_the_status_page_asks_neither_node_nor_panel(client, alice, node, panel, this_shop):
    page = " ".join(client.get("/status").text.split())
    assert "has not answered yet" in page and "not measured yet" in page
    status.look(this_shop)
    before = len(node.calls), len(panel.calls)
    page = " ".join(client.get("/status").text.split())
    assert "Everything works." in page and page.count("✓ answers") == 2
    assert "<dt>Hostings running</dt> <dd>1</dd>" in page
    assert "<dt>Space</dt> <dd>available</dd>" in page
    assert (len(node.calls), len(panel.calls)) == before


def test_the_terms_follow_the_settings(client):
    page = " ".join(client.get("/terms").text.split())
    assert "kept for up to 14 days" in page
    assert "refunded" in page


def test_a_missing_file_stops_the_start_and_is_named(env, tmp_path):
    with pytest.raises(ConfigError, match=r"TERMS_FILE is not usable: .*gone\.md"):
        from_env(env | {"TERMS_FILE": str(tmp_path / "gone.md")}, tmp_path)


def test_a_document_that_is_too_long_is_refused_and_never_cut(env, tmp_path):
    path = tmp_path / "terms.md"
    for text in ("ä" * 200_000, "x" + "ä" * 200_000):  # 400 kB in half as many characters
        path.write_text(text)
        with pytest.raises(ConfigError, match="TERMS_FILE is not usable: .*up to 256 kB"):
            from_env(env | {"TERMS_FILE": str(path)}, tmp_path)
    path.write_text("x" * parsers.DOCUMENT_BYTES_MAX)
    config = from_env(env | {"TERMS_FILE": str(path)}, tmp_path)
    assert len(config.terms_file) == parsers.DOCUMENT_BYTES_MAX
