"""QR codes: as SVG, black on white with a quiet zone, so that they scan in dark mode too."""

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


def _code(text: str, **options) -> qrcode.QRCode:
    code = qrcode.QRCode(error_correction=qrcode.ERROR_CORRECT_L, **options)
    code.add_data(text)
    return code
