"""QR codes as SVG: black on white with a quiet zone, so that they scan in dark mode too."""

from functools import lru_cache

import qrcode
from markupsafe import Markup
from qrcode.image.svg import SvgPathFillImage


@lru_cache(maxsize=128)
def svg(text: str) -> Markup:
    """`text` as an <svg> element. Upper case makes the code coarser and easier to scan."""
    code = qrcode.QRCode(
        error_correction=qrcode.ERROR_CORRECT_L, border=4, image_factory=SvgPathFillImage
    )
    code.add_data(text)
    return Markup(code.make_image().to_string(encoding="unicode"))
