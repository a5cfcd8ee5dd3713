"""QR codes, black on white with a quiet zone, so that they scan in dark mode too: as pictures, and
as text for terminals. Upper case makes a code coarser and easier to scan.
"""

import struct
import zlib
from base64 import b64encode
from functools import lru_cache

import qrcode
from markupsafe import Markup
from qrcode.image.svg import SvgPathFillImage

# A byte of a black and white PNG is eight pixels: as wide as one square of the code.
SQUARE = 8


@lru_cache(maxsize=128)
def svg(text: str) -> Markup:
    """`text` as an <svg> element."""
    code = _code(text, border=4, image_factory=SvgPathFillImage)
    return Markup(code.make_image().to_string(encoding="unicode"))


@lru_cache(maxsize=128)
def png(text: str) -> str:
    """`text` as the data: URL of a PNG: Tor Browser shows no SVG at its safest level."""
    rows = _code(text, border=4).get_matrix()
    lines = [b"\0" + bytes(0 if is_dark else 255 for is_dark in row) for row in rows]
    side = SQUARE * len(rows)
    parts = (
        (b"IHDR", struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)),
        (b"IDAT", zlib.compress(b"".join(line * SQUARE for line in lines), 9)),
        (b"IEND", b""),
    )
    picture = b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(*part) for part in parts)
    return f"data:image/png;base64,{b64encode(picture).decode()}"


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


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
