"""What people write to the owner of a hosting with a tip: text on one line, and not much of it."""

import unicodedata

LONGEST = 140
# Format characters that emoji and some scripts are written with; others turn text around.
JOINERS = "\N{ZERO WIDTH JOINER}\N{ZERO WIDTH NON-JOINER}"
# Control, format and half characters, and what is no character.
UNSHOWN = ("Cc", "Cf", "Cs", "Cn")


def cleaned(text: object) -> str | None:
    """The text as it is kept: any database takes it, and it changes nothing around it.

    None: there is none.
    """
    if not isinstance(text, str):
        return None
    return on_one_line(text[: 64 * LONGEST])[:LONGEST].strip() or None


def on_one_line(text: str) -> str:
    """Without what nobody sees."""
    blanks = "".join(" " if each.isspace() else each for each in text)
    return " ".join("".join(filter(_is_shown, blanks)).split())


def _is_shown(character: str) -> bool:
    return character in JOINERS or unicodedata.category(character) not in UNSHOWN
