"""QR codes, black on white with a quiet zone, so that they scan in dark mode too: as pictures, and
as text for terminals. Upper case makes a code coarser and easier to scan.
"""

import struct
import zlib
from base64 import b64encode
from collections.abc import Iterator
from functools import lru_cache
from itertools import groupby

import qrcode
from markupsafe import Markup

# Weighing all eight masks takes four fifths of the time, and every one of them scans. By the
# penalties of ISO 18004, this one is 8 % worse than the best for an invoice, on average.
MASK = 4
# A byte of a black and white PNG is eight pixels: as wide as one square of the code.
SQUARE = 8
# Level 9 takes 70 times as long for such rows, and gets no smaller.
LEVEL = 4


@lru_cache(maxsize=128)
def svg(text: str) -> Markup:
    """`text` as an <svg> element."""
    rows = _rows(text, border=4)
    path = "".join(f"M{x},{y}h{width}v1h-{width}z" for x, y, width in _dark_runs(rows))
    side = len(rows)
    return Markup(
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {side} {side}" '
        f'width="{side}mm" height="{side}mm" shape-rendering="crispEdges">'
        f'<rect fill="white" x="0" y="0" width="100%" height="100%"/>'
        f'<path fill="#000" d="{path}"/></svg>'
    )


def _dark_runs(rows: list[list[bool]]) -> Iterator[tuple[int, int, int]]:
    """Where each begins, and how many squares it is wide."""
    for y, row in enumerate(rows):
        x = 0
        for is_dark, squares in groupby(row):
            width = len(list(squares))
            if is_dark:
                yield x, y, width
            x += width


@lru_cache(maxsize=128)
def png(text: str) -> str:
    """`text` as the data: URL of a PNG: Tor Browser shows no SVG at its safest level."""
    rows = _rows(text, border=4)
    lines = [b"\0" + bytes(0 if is_dark else 255 for is_dark in row) for row in rows]
    side = SQUARE * len(rows)
    parts = (
        (b"IHDR", struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)),
        (b"IDAT", zlib.compress(b"".join(line * SQUARE for line in lines), LEVEL)),
        (b"IEND", b""),
    )
    picture = b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(*part) for part in parts)
    return f"data:image/png;base64,{b64encode(picture).decode()}"


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


@lru_cache(maxsize=128)
def blocks(text: str) -> str:
    """`text` in half blocks, two rows to a line, for terminals that write light on dark."""
    rows = _rows(text, border=2)
    rows += [[False] * len(rows[0])] * (len(rows) % 2)
    pairs = zip(rows[::2], rows[1::2], strict=True)
    return "\n".join("".join(map(_half_block, *pair)) for pair in pairs)


def _half_block(upper_is_dark: bool, lower_is_dark: bool) -> str:
    return ("█▀", "▄ ")[upper_is_dark][lower_is_dark]


def _rows(text: str, border: int) -> list[list[bool]]:
    """True: a dark square."""
    code = qrcode.QRCode(error_correction=qrcode.ERROR_CORRECT_L, mask_pattern=MASK, border=border)
    code.add_data(text)
    return code.get_matrix()
