"""How templates are written: for those who read them."""

from pathlib import Path

TEMPLATES = Path(__file__).parent.parent / "templates"
WIDTH = 110


def test_no_line_of_a_template_is_too_long_to_be_read():
    lines = {
        f"{path.relative_to(TEMPLATES)}:{number}": len(line)
        for path in TEMPLATES.rglob("*.*")
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
    }
    assert {place: length for place, length in lines.items() if length > WIDTH} == {}
    assert len(lines) > 1000
