"""The paid area of a site: which files are uploaded, and when."""

from pathlib import Path

from lightningspace import onsite

PROGRAM, SETTINGS, HTACCESS = "index.php", "paidarea.json", ".htaccess"

GATE = onsite.Program("paid area", Path(__file__).parent / PROGRAM)


def htaccess(name: str) -> bytes:
    """Shorter addresses, where a .htaccess may give them; who has access is not its business."""
    return GATE.marked(HTACCESS_TEXT.format(name=name).encode(), b"#")


HTACCESS_TEXT = """\
# lightning-space paid area UNSTAMPED
DirectoryIndex index.php
FallbackResource /{name}/index.php
"""
