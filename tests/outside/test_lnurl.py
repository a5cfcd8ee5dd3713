from pyln.proto.bech32 import bech32_decode, convertbits

from lightningspace.outside import lnurl

# The example of LUD-01.
URL = "https://service.com/api?q=3fc3645b439ce8e7f2553a69e5267081d96dcd340693afabe04be7b0ccd178df"
LNURL = (
    "LNURL1DP68GURN8GHJ7UM9WFMXJCM99E3K7MF0V9CXJ0M385EKVCENXC6R2C35XVUKXEFCV5MKVV34X5EKZD3EV56NYD"
    "3HXQURZEPEXEJXXEPNXSCRVWFNV9NXZCN9XQ6XYEFHVGCXXCMYXYMNSERXFQ5FNS"
)
ONION = "a" * 55 + "d.onion"


def test_lnurl_is_encoded_as_wallets_read_it():
    assert lnurl.encode(URL) == LNURL


def test_lnurl_of_any_length_can_be_read_back():
    for length in range(40):
        url = "https://shop.example/" + "x" * length
        hrp, words = bech32_decode(lnurl.encode(url))
        assert (hrp, bytes(convertbits(words, 5, 8, False)).decode()) == ("lnurl", url)


def test_address_gives_the_url_at_its_host(subtests):
    for address, url in [
        ("alice@shop.example", "https://shop.example/.well-known/lnurlp/alice"),
        (f"alice@{ONION}", f"http://{ONION}/.well-known/lnurlp/alice"),
        ("alice+tips@shop.example", "https://shop.example/.well-known/lnurlp/alice+tips"),
    ]:
        with subtests.test(address=address, url=url):
            assert lnurl.is_address(address)
            assert lnurl.url_of_address(address) == url


def test_other_text_is_refused_as_an_address(subtests):
    for text in [
        "",
        "alice",
        "@shop.example",
        "alice@",
        "alice@shop.example\n",
        "alice@shop.example:8080",
        "alice@shop.example/x",
        "alice@bob@shop.example",
        "alice bob@shop.example",
        "Alice@shop.example",
        "alice/..@shop.example",
        "alice?x@shop.example",
        "älice@shop.example",
        "alice@müller.example",
        "alice@127.0.0.1",
        "alice@localhost",
        "a" * 65 + "@shop.example",
        "alice@" + "x." * 126 + "example",
    ]:
        with subtests.test(text=text):
            assert not lnurl.is_address(text)
