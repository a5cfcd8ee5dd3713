"""Markdown as HTML."""

from functools import cache

from markdown_it import MarkdownIt
from markupsafe import Markup

# CommonMark with tables. HTML in it is shown as text, and links run no script.
_reader = MarkdownIt("js-default")


@cache
def html(text: str) -> Markup:
    return Markup(_reader.render(text))
