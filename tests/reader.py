"""A browser without script: it shows pages, follows links, sends forms and keeps cookies.

It ignores style sheets: only a real browser shows what they hide or move.
"""

import io
from html.parser import HTMLParser
from urllib.parse import urlencode, urljoin, urlsplit

from werkzeug.datastructures import FileStorage, MultiDict
from werkzeug.http import parse_options_header

VOID = ("base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "wbr")
UNSEEN = ("head", "script", "style", "template")
CONTROLS = ("button", "input", "select", "textarea")
PRESSED = ("button", "image", "reset", "submit")
URLENCODED = "application/x-www-form-urlencoded"


class Element(dict):
    """An element: its attributes, its `children`, and itself with all its parents (`around`)."""

    def __init__(self, tag: str, attributes=(), outer: "Element | None" = None):
        super().__init__((name, value or "") for name, value in attributes)
        self.tag, self.children = tag, []
        self.around = [self, *(outer.around if outer is not None else ())]
        self.file = FileStorage(io.BytesIO(), "")

    def all(self, *tags: str):
        """All elements within it that have one of these tags; without tags, all of them."""
        for child in self.children:
            if isinstance(child, Element):
                if child.tag in tags or not tags:
                    yield child
                yield from child.all(*tags)

    def first(self, tag: str) -> "Element | None":
        """The nearest element with this tag, from itself outwards."""
        return next((each for each in self.around if each.tag == tag), None)

    @property
    def hides(self) -> bool:
        """Whether it hides itself and what is in it."""
        outer = self.around[1:2]
        is_folded = outer and outer[0].tag == "details" and "open" not in outer[0]
        return (
            self.tag in UNSEEN
            or "hidden" in self
            or self.get("type") == "hidden"
            or bool(is_folded and self.tag != "summary")
        )

    @property
    def is_seen(self) -> bool:
        return not any(each.hides for each in self.around)

    @property
    def text(self) -> str:
        """Its visible text, in one line."""
        return " ".join("".join(self._shown()).split())

    @property
    def name(self) -> str:
        """Its accessible name."""
        return self.get("aria-label") or self.text or self.get("value", "")

    def _shown(self):
        for child in self.children if not self.hides else ():
            yield from [child] if isinstance(child, str) else child._shown()

    # -- of a form's controls --------------------------------------------------------

    @property
    def form(self) -> "Element | None":
        if "form" not in self:
            return self.first("form")
        return next(form for form in self.around[-1].all("form") if form.get("id") == self["form"])

    @property
    def is_choice(self) -> bool:
        return self.get("type") in ("checkbox", "radio")

    @property
    def is_button(self) -> bool:
        return self.tag == "button" or self.get("type") in PRESSED

    @property
    def submits(self) -> bool:
        return self.is_button and self.get("type", "submit") not in ("button", "reset")

    @property
    def control(self) -> "Element":
        """The control within a label."""
        return next(self.all(*CONTROLS))

    @property
    def is_off(self) -> bool:
        outer = [each for each in self.around if each.tag == "fieldset"]
        return any("disabled" in each for each in (self, *outer))

    @property
    def value(self) -> str:
        if self.tag == "select":
            options = list(self.all("option"))
            chosen = [each for each in options if "selected" in each] or options[:1]
            return chosen[-1].get("value", chosen[-1].text)
        if self.tag == "textarea":
            return "".join(self.children).replace("\r\n", "\n").removeprefix("\n")
        return self.get("value", "on" if self.is_choice else "")

    # -- of a form -------------------------------------------------------------------

    @property
    def controls(self) -> list["Element"]:
        """The controls in it that have a name."""
        named = (each for each in self.around[-1].all(*CONTROLS) if each.get("name"))
        return [each for each in named if each.form is self]

    def sent(self, button: "Element | None" = None) -> list[tuple]:
        """What the form sends when this button of it is pressed, or without a button."""
        return [
            (each["name"], each.file if each.get("type") == "file" else in_lines(each.value))
            for each in self.controls
            if not each.is_off
            and (each is button or not each.is_button)
            and (not each.is_choice or "checked" in each)
        ]


def in_lines(text: str) -> str:
    """The text with the line breaks that forms send."""
    return text.replace("\n", "\r\n")


class _Parser(HTMLParser):
    def __init__(self):
        super().__init__()
        self.page = self._inside = Element("")

    def handle_starttag(self, tag, attrs):
        element = Element(tag, attrs, self._inside)
        self._inside.children.append(element)
        self._inside = self._inside if tag in VOID else element

    def handle_endtag(self, tag):
        ended = self._inside.first(tag)
        self._inside = self._inside if ended is None else ended.around[1]

    def handle_data(self, data):
        self._inside.children.append(data)


def read(text: str) -> Element:
    """Parse a page. Return an element that holds it."""
    parser = _Parser()
    parser.feed(text)
    parser.close()
    return parser.page


class Reader:
    """A browser over werkzeug's client: its address, and the page that it shows."""

    def __init__(self, client, origin: str = "http://localhost"):
        self._client, self._origin = client, origin
        self.address, self.source, self.page = origin, "", read("")

    # -- what it shows ---------------------------------------------------------------

    @property
    def text(self) -> str:
        return self.page.text

    def part(self, name: str) -> Element:
        """The element with this id."""
        return self._only(name, [each for each in self.page.all() if each.get("id") == name])

    def field(self, label: str, within: str = "") -> Element:
        """The control whose label begins with this text."""
        labels = [each for each in self._in(within).all("label") if each.text.startswith(label)]
        return self._only(
            label, [self.part(each["for"]) if "for" in each else each.control for each in labels]
        )

    def _in(self, name: str) -> Element:
        return self.part(name) if name else self.page

    def _only(self, what: str, found: list[Element]) -> Element:
        assert len(found) == 1, f"{len(found)} of {what!r} at {self.address}: {self.text}"
        assert found[0].is_seen and not found[0].is_off, f"{what!r} is not to be had"
        return found[0]

    # -- what its visitor does -------------------------------------------------------

    def open(self, address: str, expected: int = 200, **sent) -> None:
        """Show an address, and follow redirects. `expected`: the status of the last answer."""
        self._show(self._ask(address, **sent), expected)

    def follow(self, text: str) -> None:
        self.open(self._link(text))

    def download(self, text: str) -> tuple[str, bytes]:
        """Follow a link to a file, which leaves the page as it is. Return its name and content."""
        answer = self._ask(self._link(text))
        kind, options = parse_options_header(answer.headers["Content-Disposition"])
        assert (answer.status_code, kind) == (200, "attachment")
        return options["filename"], answer.data

    def look_again(self) -> None:
        """Reload the page as its `refresh` does after a while."""
        [meta] = [each for each in self.page.all("meta") if each.get("http-equiv") == "refresh"]
        self.open(meta["content"].partition("url=")[2])

    def unfold(self, text: str) -> Element:
        """Open the details whose summary begins with this text."""
        summaries = [each for each in self.page.all("summary") if each.text.startswith(text)]
        details = self._only(text, summaries).around[1]
        details["open"] = ""
        return details

    def fill(self, label: str, text: str, within: str = "") -> None:
        field = self.field(label, within)
        if field.tag == "textarea":
            field.children = [text]
        else:
            field["value"] = text

    def check(self, label: str) -> None:
        field = self.field(label)
        if field["type"] == "radio":
            for each in field.form.all("input"):
                if each.get("name") == field["name"]:
                    each.pop("checked", None)
        field["checked"] = ""

    def choose(self, label: str, text: str, within: str = "") -> None:
        options = list(self.field(label, within).all("option"))
        for each in options:
            each.pop("selected", None)
        self._only(text, [each for each in options if each.text == text])["selected"] = ""

    def attach(self, label: str, name: str, content: bytes) -> None:
        self.field(label).file = FileStorage(io.BytesIO(content), name)

    def press(self, text: str, expected: int = 200, within: str = "") -> None:
        """Press the button whose name begins with this text, which sends its form."""
        buttons = [each for each in self._in(within).all("button", "input") if each.submits]
        button = self._only(text, [each for each in buttons if each.name.startswith(text)])
        form = button.form
        action = button.get("formaction", form.get("action", ""))
        sent = form.sent(button)
        if button.get("formmethod", form.get("method", "get")) == "post":
            kind = form.get("enctype", URLENCODED)
            answer = self._ask(action, method="POST", data=MultiDict(sent), content_type=kind)
        else:
            answer = self._ask(f"{action.partition('?')[0]}?{urlencode(sent)}")
        self._show(answer, expected)

    def _link(self, text: str) -> str:
        links = {each["href"]: each for each in self.page.all("a") if each.name == text}
        return self._only(text, list(links.values()))["href"]

    def _ask(self, address: str, **sent):
        url = urlsplit(urljoin(self.address, address))
        assert f"{url.scheme}://{url.netloc}" == self._origin
        headers = {"Accept": "text/html,*/*;q=0.8"} | ({"Origin": self._origin} if sent else {})
        return self._client.open(
            f"{url.path}?{url.query}",
            base_url=self._origin,
            headers=headers,
            follow_redirects=True,
            **sent,
        )

    def _show(self, answer, expected: int) -> None:
        assert answer.status_code == expected, answer.text
        self.address, self.source = answer.request.url, answer.text
        self.page = read(answer.text)
        # Pages load nothing from elsewhere, and have nothing that their policy forbids.
        ours = f"{self._origin}/"
        for each in self.page.all():
            loaded = each.get("src", each.get("href", "") if each.tag == "link" else "")
            assert urljoin(ours, loaded).startswith((ours, "data:")), each
            assert not any(name == "style" or name.startswith("on") for name in each), each
