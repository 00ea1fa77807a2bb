"""The public page in a real Chromium: three boards, both themes, narrow and wide screens.

tests/extended/test_page_in_a_browser_full.py visits every page with every check. With
`CXREVAL_SCREENSHOTS` set, a picture of each page is saved in that directory.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from tests.support.browser import SECONDS, THEMES, WIDTHS, Visit, chromium, executable
from tests.support.browser_site import site

KINDS = (
    "home", "method", "audit", "unknown",
    "nih", "nih-claim",
    "real", "real-model", "real-queued", "real-findings", "real-compare",
    "hostile", "hostile-model-1", "hostile-compare", "hostile-organisation", "hostile-withdrawn",
    "four-rows", "two-rows", "no-rows",
)  # fmt: skip
"""One page of every kind, and the kinds that hostile names change."""

AXE = ((320, "light"), (390, "dark"), (1280, "light"))
"""Each width and each theme; every combination is for the extended test."""

Pages = dict[str, str]


@pytest.fixture(scope="module")
def pages(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pages]:
    """The address of each page by name."""
    executable()  # without a browser, no site is needed
    with site(tmp_path_factory.mktemp("site"), shared) as (address, _, found):
        yield {name: f"{address}{path}" for name, path in found.items()}


@pytest.fixture(scope="module")
def browser(pages: Pages) -> Iterator[Any]:
    with chromium() as started:
        yield started


@pytest.mark.parametrize("name", KINDS)
def test_a_page_fits_each_screen_and_anyone_can_read_it(
    browser: Any, pages: Pages, name: str
) -> None:
    with Visit(browser, pages[name]) as visit:
        if directory := os.environ.get("CXREVAL_SCREENSHOTS"):
            for width, theme in product((390, 1280), THEMES):
                visit.show(width, theme)
                visit.screenshot(f"{name}-{width}-{theme}", Path(directory))
        visit.unfold()
        for width in WIDTHS:
            visit.show(width, "light")
            assert visit.geometry() == [], width
        for width, theme in AXE:
            visit.show(width, theme)
            assert visit.axe() == [], (width, theme)
        assert visit.unexpected() == []


def test_the_checks_find_what_they_look_for(browser: Any, pages: Pages) -> None:
    with Visit(browser, pages["real"]) as visit:
        visit.page.evaluate(
            """() => {
              const text = document.querySelector(".figure .chart-wide text, .figure text");
              const other = text.cloneNode(true);
              text.after(other);
              const far = text.cloneNode(true);
              far.setAttribute("x", 5000);
              text.after(far);
              const wide = document.createElement("div");
              wide.style.width = "3000px";
              wide.innerHTML = "<img src='/favicon.svg'>";
              document.querySelector("main").append(wide);
              console.log("said");
            }"""
        )
        found = " ".join(visit.geometry())
        assert all(word in found for word in ("sideways", "cut:", "overlap:"))
        assert any("image-alt" in each for each in visit.axe())
        assert visit.unexpected() != []


@pytest.mark.parametrize("name", ["real", "real-model", "real-findings", "hostile-compare"])
def test_a_page_says_the_same_without_scripts(browser: Any, pages: Pages, name: str) -> None:
    texts = []
    for scripts in (True, False):
        with Visit(browser, pages[name], java_script_enabled=scripts) as visit:
            texts.append(visit.page.locator("main").inner_text())
    assert texts[0] == texts[1]
    assert len(texts[0]) > 500


def test_the_keyboard_reaches_everything_and_shows_where_it_is(browser: Any, pages: Pages) -> None:
    outline = "(getComputedStyle(document.activeElement).outlineStyle)"
    with Visit(browser, pages["real"]) as visit:
        keyboard = visit.page.keyboard
        keyboard.press("Tab")
        skip = visit.page.locator(".skip")
        box = skip.bounding_box()
        assert skip.evaluate("each => each === document.activeElement")
        assert box["x"] >= 0
        keyboard.press("Enter")
        assert visit.page.evaluate("document.activeElement.id") == "content"
        reachable = "main a, main summary, main [tabindex='0']"
        expected = visit.page.locator(reachable).count()
        for _ in range(expected):
            keyboard.press("Tab")
            assert visit.page.evaluate("document.activeElement.closest('main') !== null")
            assert visit.page.evaluate(outline) != "none"
        keyboard.press("Tab")
        assert visit.page.evaluate("document.activeElement.closest('footer') !== null")


def test_the_script_sorts_as_the_address_does(browser: Any, pages: Pages) -> None:
    models = (
        "[...document.querySelectorAll('.heat[data-sort] tbody th')].map(each => each.innerText)"
    )
    address = pages["hostile-findings"]
    with Visit(browser, f"{address}&sort=Hernia") as visit:
        expected = visit.page.evaluate(models)
    with Visit(browser, address) as visit:
        heading = visit.page.locator("th", has=visit.page.locator("button[value=Hernia]"))
        heading.locator("button").click()
        assert visit.page.url == address
        best_first = visit.page.evaluate(models)
        assert heading.get_attribute("aria-sort") == "descending"
        heading.locator("button").click()
        assert heading.get_attribute("aria-sort") == "ascending"
        worst_first = visit.page.evaluate(models)
    # One model does not cover Hernia: it is last in either direction.
    assert best_first == expected
    assert worst_first[-1] == best_first[-1]
    assert worst_first[0] == best_first[-2]


def test_a_page_prints_dark_on_white(browser: Any, pages: Pages) -> None:
    with Visit(browser, pages["real"], color_scheme="dark") as visit:
        assert visit.page.pdf().startswith(b"%PDF-")
        visit.page.emulate_media(media="print")
        color = visit.page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert color == "rgb(255, 255, 255)"
        assert visit.page.locator("form").count() == 1
        assert not visit.page.locator("form").is_visible()
        assert visit.page.locator("table.board").first.is_visible()


def test_every_address_on_a_page_leads_somewhere(browser: Any, pages: Pages) -> None:
    origin = pages["home"].rstrip("/")
    links: set[str] = set()
    for name in ("home", "real", "audit"):
        with Visit(browser, pages[name]) as visit:
            found = visit.page.evaluate("[...document.links].map(each => each.href)")
            links |= {link.partition("#")[0] for link in found if link.startswith(origin)}
            broken = visit.page.evaluate(
                """[...document.links].map(each => each.getAttribute("href"))
                   .filter(to => to.startsWith("#") && !document.getElementById(to.slice(1)))"""
            )
            assert broken == []
    assert len(links) > 10
    context = browser.new_context()
    try:
        # A withdrawn row is on the audit page, and gone.
        answers = {link: context.request.get(link, timeout=SECONDS * 1000).status for link in links}
    finally:
        context.close()
    assert {link: status for link, status in answers.items() if status not in (200, 410)} == {}
