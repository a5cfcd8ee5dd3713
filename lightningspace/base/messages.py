"""Messages between strangers: sanitised so that they cannot disturb the page they appear on."""

import re
import unicodedata
from collections.abc import Iterator

# Characters in the message that comes with a tip.
LONGEST = 140
# Control characters, bidirectional overrides, annotations, surrogates and noncharacters. Unassigned
# code points stay: the next Unicode version may make them letters or emoji.
HARMFUL = re.compile(
    "[\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f\u202a-\u202e\u2066-\u2069\ufff9-\ufffb\ud800-\udfff"
    "\ufdd0-\ufdef"
    + "".join(chr(plane << 16 | 0xFFFE) + chr(plane << 16 | 0xFFFF) for plane in range(17))
    + "]"
)
# Invisible by themselves (Unicode's Default_Ignorable_Code_Point, and blanks). Emoji and many
# scripts need some of them between or after visible characters.
UNSEEN = (
    "\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u2060-\u206f\u2800\u3164"
    "\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufff8\U0001bca0-\U0001bca3\U0001d173-\U0001d17a"
    "\U000e0000-\U000e0fff"
)
SEEN = re.compile(rf"[^\s{UNSEEN}]")
# Tag characters: part of some flag emoji (first group); anywhere else they are hidden text.
TAGS = re.compile(
    rf"([^\s{UNSEEN}]\ufe0f?[\U000e0020-\U000e007e]{{1,16}}\U000e007f)|[\U000e0001-\U000e007f]"
)
# These have no effect at either end of a line.
EDGES = " \u00ad\u061c\u200b\u200e\u200f\u2060\ufeff"
# Combining marks on one letter. No script stacks more; a taller stack covers the lines around it.
MARKS_MAX = 8
# The longest beginning within LONGEST that cuts no emoji or letter in two.
WHOLE = re.compile(
    rf".{{{LONGEST - 30},{LONGEST}}}(?<!\u200d)"
    rf"(?![\u0300-\u036f\u20d0-\u20ff\U0001f3fb-\U0001f3ff{UNSEEN}])"
)


def cleaned(text: object) -> str | None:
    """The message as it is stored: safe for any database and on any page.

    None if nothing visible is left, or if `text` is not a string.
    """
    if not isinstance(text, str):
        return None
    line = on_one_line(text[: 64 * LONGEST])
    if len(line) > LONGEST:
        whole = WHOLE.match(line)
        line = (whole[0] if whole else line[:LONGEST]).strip(EDGES)
    return line or None


def in_lines(text: str) -> str:
    """The text without harmful characters; its lines stay."""
    return "\n".join(HARMFUL.sub("", line) for line in text.splitlines())


def on_one_line(text: str) -> str:
    """The text on one line without harmful characters; empty if nothing visible is left."""
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
