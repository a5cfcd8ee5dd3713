"""QR codes: as SVG, black on white with a quiet zone, so that they scan in dark mode too, and as
text for terminals.
"""

from functools import lru_cache

import qrcode
from markupsafe import Markup, escape
from qrcode.image.svg import SvgPathFillImage


@lru_cache(maxsize=128)
def svg(text: str, title: str = "") -> Markup:
    """`text` as an <svg> element; with a title, it is read out as a picture of that name.

    Upper case makes the code coarser and easier to scan.
    """
    code = _code(text, border=4, image_factory=SvgPathFillImage)
    picture = code.make_image().to_string(encoding="unicode")
    if title:
        picture = picture.replace(">", f' role="img"><title>{escape(title)}</title>', 1)
    return Markup(picture)


@lru_cache(maxsize=128)
def blocks(text: str) -> str:
    """`text` in half blocks, two rows to a line, for terminals that write light on dark."""
    rows = _code(text, border=2).get_matrix()
    rows += [[False] * len(rows[0])] * (len(rows) % 2)
    pairs = zip(rows[::2], rows[1::2], strict=True)
    return "\n".join("".join(map(_half_block, *pair)) for pair in pairs)


def _half_block(upper_is_dark: bool, lower_is_dark: bool) -> str:
    return ("█▀", "▄ ")[upper_is_dark][lower_is_dark]


def _code(text: str, **options) -> qrcode.QRCode:
    code = qrcode.QRCode(error_correction=qrcode.ERROR_CORRECT_L, **options)
    code.add_data(text)
    return code
