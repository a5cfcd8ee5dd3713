"""tests/reader.py sends what browsers send."""

from tests.reader import Reader, read

PAGE = """
<p hidden>unseen</p><noscript>Hello</noscript> <script>script</script>
<details><summary>More</summary> <p>folded</p></details>
<form id="f" action="/to">
  <input name="typed" value="a"><input value="no name"><input name="off" value="x" disabled>
  <fieldset disabled><input name="in" value="x"></fieldset>
  <input type="hidden" name="hidden" value="h">
  <input type="checkbox" name="box" checked><input type="checkbox" name="unchecked">
  <label><input type="radio" name="one" value="1" checked>First</label>
  <label><input type="radio" name="one" value="2">Second</label>
  <select name="choice"><option value="x">X<option selected>Y</option></select>
  <textarea name="area">
text &amp;
more</textarea>
  <input type="file" name="file">
  <button name="pressed" value="yes">Press</button><button name="other">Other</button>
</form>
<input form="f" name="outside" value="o">
"""


def test_a_form_sends_what_browsers_send():
    form = next(read(PAGE).all("form"))
    pressed, other = form.all("button")
    sent = dict(form.sent(pressed))
    assert sent.pop("file").filename == ""
    assert sent == {
        "typed": "a",
        "hidden": "h",
        "box": "on",
        "one": "1",
        "choice": "Y",
        "area": "text &\r\nmore",
        "pressed": "yes",
        "outside": "o",
    }
    assert dict(form.sent(other))["other"] == ""
    assert {"pressed", "other"} & dict(form.sent()).keys() == set()


def test_hidden_text_is_not_read():
    page = read(PAGE)
    assert page.text.startswith("Hello More First Second")
    next(page.all("details"))["open"] = ""
    assert page.text.startswith("Hello More folded First")


def test_choosing_a_radio_button_unchecks_the_one_before():
    reader = Reader(None)
    reader.page = read(PAGE)
    reader.check("Second")
    assert dict(next(reader.page.all("form")).sent())["one"] == "2"
