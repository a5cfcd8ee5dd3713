"""Pictures of a tour: of each sight in each look, and a page that shows them all."""

import base64
import re
from html import escape
from itertools import groupby
from pathlib import Path

from flask import Flask

from tests.tour import Sight

WIDTHS, SCHEMES = (360, 1280), ("light", "dark")
HOST = "http://shop.example"
# The sights in the README's picture, and the size of each there.
OF_README = (
    ("/", "empty"),
    ("/orders/<token>", "paying"),
    ("/account", "just bought, live"),
    ("/account", "later"),
)
WIDE, HIGH, GAP = 820, 760, 24


class Camera:
    """A browser's page in which sights are shown. Their files come from the same app."""

    def __init__(self, page, app: Flask):
        self._page, self._files = page, app.test_client()
        self._text, self._policy, self._script = "", {}, ""
        page.route("**/*", self._answer)

    def _answer(self, route) -> None:
        asked = route.request
        if asked.is_navigation_request():
            headers = {"Content-Type": "text/html; charset=utf-8"} | self._policy
            route.fulfill(body=self._text, headers=headers)
        elif "/htmx" in asked.url:  # or the page would change
            route.abort()
        else:
            file = self._files.get(asked.url.removeprefix(HOST))
            route.fulfill(body=file.data, headers=dict(file.headers))

    def show(self, sight: Sight):
        """Load the sight, and return the browser's page."""
        policy, self._text = "Content-Security-Policy", sight.answer.text
        self._policy = {policy: sight.answer.headers[policy]}
        self._page.goto(HOST + sight.answer.request.path)
        return self._page

    def write(self, sight: Sight, script: bool = True):
        """Write the sight into a frame that is not painted, and return the frame.

        It replaces the sight before, but keeps the window with what was loaded, which takes a fifth
        of the time. No content security policy applies in it. `script`: whether the frame looks as
        in a browser with script; in either case nothing changes the page.
        """
        text = sight.answer.text
        if not self._script:
            source = re.search(r'src="(/static/shop-[^"]*)" defer', text)[1]
            self._script = self._files.get(source).text
            self._text, self._policy = FRAMED, {}
            self._page.goto(HOST)
        # The window has run the scripts already: they would declare their names twice.
        text = re.sub("<script.*?</script>", "", text)
        if not script:
            text = re.sub("</?noscript>|<meta http-equiv=.refresh.[^>]*>", "", text)
        run = self._script if script else ""
        self._page.evaluate(WRITE, [text, run, sight.answer.request.path])
        return self._page.frames[1]

    def take_all(self, sights: list[Sight], folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        for sight in sights:
            page = self.show(sight)
            for width in WIDTHS:
                page.set_viewport_size({"width": width, "height": 800})
                for scheme in SCHEMES:
                    page.emulate_media(color_scheme=scheme)
                    page.screenshot(path=folder / file_name(sight, width, scheme), full_page=True)
        (folder / "index.html").write_text(index(sights), encoding="utf-8")
        self._take_for_readme(sights, folder / "shop.webp")

    def _take_for_readme(self, sights: list[Sight], path: Path) -> None:
        page, taken = self._page, []
        page.emulate_media(color_scheme="light")
        page.set_viewport_size({"width": WIDE, "height": HIGH})
        for name in OF_README:
            self.show(next(sight for sight in sights if (sight.page, sight.state) == name))
            taken.append(base64.b64encode(page.screenshot()).decode())
        page.goto("about:blank")
        made = page.evaluate(COMPOSE, {"taken": taken, "wide": WIDE, "high": HIGH, "gap": GAP})
        path.write_bytes(base64.b64decode(made.partition(",")[2]))


FRAMED = """<!doctype html>
<html lang="en">
<meta name="color-scheme" content="light dark">
<title>Frame</title>
<iframe style="border: 0; height: 800px; visibility: hidden"></iframe>
</html>
"""
WRITE = """async ([text, script, path]) => {
  const frame = document.querySelector("iframe"), shown = frame.contentDocument;
  shown.open();
  shown.write(text);
  shown.close();
  frame.contentWindow.history.replaceState(null, "", path);
  while (shown.readyState !== "complete") await new Promise((done) => setTimeout(done, 2));
  frame.contentWindow.Function(script)();
}"""


# Two pictures in a row.
COMPOSE = """async ({taken, wide, high, gap}) => {
  const canvas = document.createElement("canvas");
  canvas.width = 2 * wide + gap;
  canvas.height = Math.ceil(taken.length / 2) * (high + gap) - gap;
  const context = canvas.getContext("2d");
  context.fillStyle = "#dde1e8";
  context.fillRect(0, 0, canvas.width, canvas.height);
  for (const [number, data] of taken.entries()) {
    const picture = new Image();
    picture.src = `data:image/png;base64,${data}`;
    await picture.decode();
    context.drawImage(picture, number % 2 * (wide + gap), Math.floor(number / 2) * (high + gap));
  }
  return canvas.toDataURL("image/webp", 0.8);
}"""


def file_name(sight: Sight, width: int, scheme: str) -> str:
    words = re.findall("[a-z0-9]+", f"{sight.page} {sight.state}".lower())
    return f"{'-'.join(words) or 'front'}-{width}-{scheme}.png"


def index(sights: list[Sight]) -> str:
    """An HTML page of all pictures, small, by page and state."""
    parts, links = [], []
    for name, of_page in groupby(sorted(sights, key=lambda sight: sight.page), lambda s: s.page):
        id = "-".join(re.findall(r"\w+", name)) or "front"
        links.append(f'<li><a href="#{id}">{escape(name)}</a></li>')
        parts.append(f'<h2 id="{id}">{escape(name)}</h2>')
        for sight in of_page:
            parts.append(f"<h3>{escape(sight.state)} ({sight.answer.status_code})</h3><p>")
            for width in WIDTHS:
                for scheme in SCHEMES:
                    file = file_name(sight, width, scheme)
                    alt = escape(f"{name}, {sight.state}, {width} px, {scheme}")
                    parts.append(
                        f'<a href="{file}"><img class="w{width}" src="{file}" alt="{alt}" '
                        f'loading="lazy"></a>'
                    )
            parts.append("</p>")
    return INDEX.format(links="\n".join(links), parts="\n".join(parts), count=len(sights))


INDEX = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>A tour of the shop</title>
<style>
  body {{ font: 16px/1.5 sans-serif; margin: 1rem auto; max-width: 90rem; padding: 0 1rem; }}
  ul {{ columns: 4 14rem; }}
  img {{ border: 1px solid #8889; height: 16rem; object-fit: cover; object-position: top; }}
  .w360 {{ width: 8rem; }}
  .w1280 {{ width: 28rem; }}
</style>
<h1>A tour of the shop</h1>
<p>{count} sights, each at 360 and 1280 px, light and dark.</p>
<ul>
{links}
</ul>
{parts}
</html>
"""
