"""The API's answers to browsers, which get a page of the shop."""

import re

BROWSER = {"Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"}
HOUR = {"space_mb": 100, "duration": 1, "unit": "hours"}
PATHS = ("/api/v1/prices", "/api/v1/hosting", "/api/none", "/.well-known/l402.json")


def test_programs_get_json(subtests, client):
    for accept in [
        None,
        "",
        "*/*",
        "application/json",
        "application/json, text/plain, */*",
        "application/json, text/html",
        "text/html, application/problem+json",
        "text/html;q=0.9, application/json",
        "text/html;q=0.1, */*",
        "text/html;q=0",
        "text/*",
        "application/*",
        "nonsense",
    ]:
        for path in PATHS:
            with subtests.test(accept=accept, path=path):
                headers = {} if accept is None else {"Accept": accept}
                assert client.get(path, headers=headers).mimetype.endswith("json")


def test_a_browser_gets_a_page(subtests, client):
    for accept in [
        BROWSER["Accept"],
        "text/html",
        "text/html, */*",
        "text/html, application/json;q=0.9",
    ]:
        for path in PATHS:
            with subtests.test(accept=accept, path=path):
                plain, page = client.get(path), client.get(path, headers={"Accept": accept})
                assert (page.status_code, page.content_type) == (
                    plain.status_code,
                    "text/html; charset=utf-8",
                )
                assert "For programs" in page.text or plain.json["title"] in page.text
                differs = ("Content-Type", "Content-Length")
                assert [pair for pair in page.headers if pair[0] not in differs] == [
                    pair for pair in plain.headers if pair[0] not in differs
                ]


def test_an_invoice_is_shown_as_on_the_page_of_its_order(client):
    bought = client.post("/api/v1/hosting", json=HOUR, headers=BROWSER)
    assert bought.status_code == 402
    challenges = bought.headers.getlist("WWW-Authenticate")
    assert [each.split()[0] for each in challenges] == ["LSAT", "L402"]
    [order_url] = re.findall(r'href="http://localhost(/orders/\w+)"', bought.text)
    invoice = re.search(r'<div class="pay">.*?<button[^>]*>', bought.text, re.S)[0]
    assert "LIGHTNING" not in invoice and "data:image/png" in invoice
    assert invoice in client.get(order_url).text


def test_no_body_breaks_the_page(subtests, client):
    for body in [
        b'{"\\ud800": 1}',
        b'{"\\u0000": 1}',
        b'{"<script>alert(1)</script>": 1}',
        b'{"' + b"x" * 60_000 + b'": 1}',
        b"{" + b",".join(b'"%d": 1' % number for number in range(5000)) + b"}",
        b"x" * 70_000,
        b"[" * 30_000,
        b"\xff\xfe",
    ]:
        with subtests.test(body=body):
            plain = client.post("/api/v1/hosting", data=body)
            page = client.post("/api/v1/hosting", data=body, headers=BROWSER)
            assert page.status_code == plain.status_code in (400, 413)
            assert page.data.decode()
            assert "<script>" not in page.text


def test_an_unpaired_surrogate_is_shown_as_it_was_sent(client):
    page = client.post("/api/v1/hosting", data=b'{"\\ud800": 1}', headers=BROWSER)
    assert r"<code>\ud800</code>: There is no such field." in page.text
