"""What people write for others to read: text that does no harm where it is shown."""

import re
import unicodedata
from collections.abc import Iterator

# What is written to the owner of a hosting with a tip.
LONGEST = 140
# Controls, what turns the text around it, annotations, halves of characters, and what is none. Of
# what is not assigned yet the next Unicode may make letters and emoji.
HARMFUL = re.compile(
    "[\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f\u202a-\u202e\u2066-\u2069\ufff9-\ufffb\ud800-\udfff"
    "\ufdd0-\ufdef"
    + "".join(chr(plane << 16 | 0xFFFE) + chr(plane << 16 | 0xFFFF) for plane in range(17))
    + "]"
)
# Of no width by themselves (Unicode's Default_Ignorable_Code_Point), or empty: emoji and many
# scripts need some of them between or behind what is seen.
UNSEEN = (
    "\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u2060-\u206f\u2800\u3164"
    "\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufff8\U0001bca0-\U0001bca3\U0001d173-\U0001d17a"
    "\U000e0000-\U000e0fff"
)
SEEN = re.compile(rf"[^\s{UNSEEN}]")
# Letters that nobody sees: of flags behind what they change, else a text within the text.
TAGS = re.compile(
    rf"([^\s{UNSEEN}]\ufe0f?[\U000e0020-\U000e007e]{{1,16}}\U000e007f)|[\U000e0001-\U000e007f]"
)
# At the end of a line they do nothing.
EDGES = " \u00ad\u061c\u200b\u200e\u200f\u2060\ufeff"
# Upon one another; the tallest that are written have so many. More stand over the lines around.
MARKS_MAX = 8
# As much as is kept, and no emoji or letter cut in two.
WHOLE = re.compile(
    rf".{{{LONGEST - 30},{LONGEST}}}(?<!\u200d)"
    rf"(?![\u0300-\u036f\u20d0-\u20ff\U0001f3fb-\U0001f3ff{UNSEEN}])"
)


def cleaned(text: object) -> str | None:
    """The text as it is kept: any database takes it, and it changes nothing around it.

    None: there is none.
    """
    if not isinstance(text, str):
        return None
    line = on_one_line(text[: 64 * LONGEST])
    if len(line) > LONGEST:
        whole = WHOLE.match(line)
        line = (whole[0] if whole else line[:LONGEST]).strip(EDGES)
    return line or None


def on_one_line(text: str) -> str:
    """Without what does harm; empty if nobody would see anything of it."""
    harmless = TAGS.sub(r"\1", HARMFUL.sub("", text))
    line = " ".join("".join(_few_marks(harmless)).split()).strip(EDGES)
    return line if SEEN.search(line) else ""


def _few_marks(text: str) -> Iterator[str]:
    marks = 0
    for each in text:
        if unicodedata.category(each) in ("Mn", "Me"):
            marks += 1
        elif SEEN.match(each):
            marks = 0
        if marks <= MARKS_MAX:
            yield each
