"""Chromium, and what a page must be in it: no sideways scroll, no cut text, no finding of axe."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.conftest import missing, require_module

WIDTHS = (320, 390, 768, 1280)
THEMES = ("light", "dark")
SECONDS = 20.0
"""The longest that anything in the browser may take."""

_GEOMETRY = """() => {
  const found = [];
  const wide = document.documentElement.scrollWidth - document.documentElement.clientWidth;
  if (wide > 0) found.push(`the page scrolls sideways by ${wide} px`);
  for (const svg of document.querySelectorAll("svg")) {
    const picture = svg.getBoundingClientRect();
    if (!picture.width) continue;
    const texts = [...svg.querySelectorAll("text")].map(text => [text.textContent, text.getBoundingClientRect()]);
    texts.forEach(([text, box], place) => {
      if (box.left < picture.left - .5 || box.right > picture.right + .5 || box.top < picture.top - 1 || box.bottom > picture.bottom + 1)
        found.push(`cut: ${text} (${svg.getAttribute("class")}, ${Math.round(picture.width)} px wide)`);
      if (box.height < 8.5) found.push(`too small to read: ${text} (${box.height.toFixed(1)} px)`);
      for (const [other, next] of texts.slice(place + 1)) {
        const across = Math.min(box.right, next.right) - Math.max(box.left, next.left);
        const down = Math.min(box.bottom, next.bottom) - Math.max(box.top, next.top);
        if (across > .5 && down > 2.5) found.push(`overlap: ${text} | ${other}`);
      }
    });
  }
  return found;
}"""  # noqa: E501

_AXE = """async () => {
  const {violations} = await axe.run(document, {
    resultTypes: ["violations"], rules: {"target-size": {enabled: true}}});
  return violations.map(found => `${found.id} (${found.help}): ` +
    found.nodes.slice(0, 3).map(node => node.html.slice(0, 160)).join(" ; "));
}"""


def executable() -> str:
    """Returns the path of Chromium; skips the test if it or Playwright is missing."""
    require_module("playwright.sync_api")
    found = os.environ.get("CHROMIUM") or shutil.which("chromium")
    if not found:
        missing("there is no Chromium: install it, or name it in the variable CHROMIUM")
    return found


@contextmanager
def chromium() -> Iterator[Any]:
    """Returns Debian's Chromium, driven by Playwright, whose event loop runs in this thread."""
    path = executable()
    playwright = require_module("playwright.sync_api")
    # Chromium's own sandbox does not start as root; the pages are those of this test.
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=path, args=["--no-sandbox"])
        try:
            yield browser
        finally:
            browser.close()


class Visit:
    """A page that a visitor opens, with what the console said and which addresses failed."""

    def __init__(self, browser: Any, address: str, **context: Any) -> None:
        """Opens the address. `context`: further options of Playwright's `new_context`."""
        self._context = browser.new_context(viewport={"width": 1280, "height": 900}, **context)
        self._context.set_default_timeout(SECONDS * 1000)
        self.page = self._context.new_page()
        self.messages: list[str] = []
        self.page.on("console", lambda message: self.messages.append(message.text))
        self.page.on("pageerror", lambda error: self.messages.append(str(error)))
        self._host = address.split("/")[2]
        self.hosts: set[str] = set()
        self.page.on("request", lambda request: self.hosts.add(request.url.split("/")[2]))
        self.status = self.page.goto(address).status

    def __enter__(self) -> Visit:
        """Returns itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Closes the page."""
        self._context.close()

    def unexpected(self) -> list[str]:
        """Returns what the console said, and other hosts that were asked for anything.

        Chromium itself reports the status of a page that is an error.
        """
        said = self.messages
        if self.status >= 400:
            said = [
                text
                for text in said
                if f"the server responded with a status of {self.status}" not in text
            ]
        return [*said, *(host for host in self.hosts if host != self._host)]

    def unfold(self) -> None:
        """Opens everything that is folded, so that it is checked too."""
        self.page.evaluate("document.querySelectorAll('details').forEach(each => each.open = true)")

    def show(self, width: int, theme: str) -> None:
        """Shows the page on a screen of a width, in a theme."""
        self.page.set_viewport_size({"width": width, "height": 900})
        self.page.emulate_media(color_scheme=theme)

    def geometry(self) -> list[str]:
        """Returns what is cut, overlaps or scrolls sideways."""
        found: list[str] = self.page.evaluate(_GEOMETRY)
        return found

    def axe(self) -> list[str]:
        """Returns the findings of axe-core, of any impact."""
        if not self.page.evaluate("typeof axe !== 'undefined'"):
            base = require_module("axe_playwright_python.base")
            self.page.evaluate(Path(base.AXE_FILE_PATH).read_text(encoding="utf-8"))
        found: list[str] = self.page.evaluate(_AXE)
        return found

    def screenshot(self, name: str, directory: Path) -> None:
        """Saves a picture of the whole page."""
        self.page.screenshot(path=str(directory / f"{name}.png"), full_page=True)
