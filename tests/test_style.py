"""The style sheet: small, readable, and with enough contrast."""

import re

import pytest

from tests.conftest import ROOT

STYLE = (ROOT / "static" / "shop.css").read_text(encoding="utf-8")
RULES = re.sub(r"/\*.*?\*/", "", STYLE, flags=re.S)
LIGHT, DARK = re.findall(r":root \{(.*?)\}", RULES, re.S)[:2]
# The backgrounds of text and of the focus outline.
GROUNDS = ("page", "card", "field")


def colours(*blocks: str) -> dict[str, str]:
    found = {}
    for block in blocks:
        found |= dict(re.findall(r"--([\w-]+): (#\w+);", block))
    return found


SCHEMES = {"light": colours(LIGHT), "dark": colours(LIGHT, DARK)}


def brightness(colour: str) -> float:
    """The relative luminance, as defined by WCAG."""
    digits = colour[1:] if len(colour) == 7 else "".join(digit * 2 for digit in colour[1:])
    red, green, blue = (_linear(int(digits[at : at + 2], 16) / 255) for at in (0, 2, 4))
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def _linear(part: float) -> float:
    return part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4


def contrast(one: str, other: str) -> float:
    darker, lighter = sorted(map(brightness, (one, other)))
    return (lighter + 0.05) / (darker + 0.05)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_colours_can_be_told_apart(scheme, subtests):
    of = SCHEMES[scheme]
    for name in ("button", "button-hover", "danger"):
        assert contrast(of[name], of["on-button"]) >= 4.5
    for ground in GROUNDS:
        for name in ("text", "muted", "accent", "accent-hover", "problem", "good"):
            with subtests.test(ground=ground, text=name):
                assert contrast(of[name], of[ground]) >= 4.5
        for name in ("edge", "button"):
            with subtests.test(ground=ground, edge=name):
                assert contrast(of[name], of[ground]) >= 3


def test_the_focus_is_an_outline_which_forced_colours_keep():
    assert re.search(r":focus-visible \{\s+outline: 3px solid var\(--accent\);", RULES)
    assert re.findall(r"\n([^\n]*) \{\s+outline: (?:0|none)", RULES) == ["main:focus"]


def test_each_colour_and_size_that_is_used_has_a_value():
    declared = set(re.findall(r"(--[\w-]+):", RULES))
    assert set(re.findall(r"var\((--[\w-]+)\)", RULES)) == declared


def test_every_rule_styles_something_that_a_page_has():
    pages = "\n".join(path.read_text() for path in (ROOT / "templates").rglob("*.html"))
    pages += "\n".join(path.read_text() for path in (ROOT / "lightningspace").rglob("*.py"))
    pages += (ROOT / "static" / "shop.js").read_text()
    selectors = re.sub(r"\{[^{}]*\}", "{}", RULES)
    names = set(re.findall(r"[.#]([a-z][\w-]*)", selectors))
    assert len(names) > 40
    assert {name for name in names if not re.search(rf"[\"' ]{name}\b", pages)} == set()


def test_the_style_sheet_has_short_lines_with_one_declaration_each():
    assert max(map(len, STYLE.splitlines())) <= 100
    assert all(line.count(";") <= 1 for line in RULES.splitlines())
