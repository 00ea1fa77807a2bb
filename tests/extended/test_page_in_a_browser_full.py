"""Every page of the site in Chromium, in each theme and width, and in the checkers of others.

tests/support/npm.py says how to install the checkers.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from services.leaderboard.site import SiteData
from tests.conftest import missing
from tests.support import npm
from tests.support.board_data import served
from tests.support.browser import THEMES, WIDTHS, Visit, chromium, executable
from tests.support.browser_site import site
from tests.support.processes import free_port

HERE = Path(__file__).parent

Site = tuple[str, SiteData, dict[str, str]]


@pytest.fixture(scope="module")
def visited(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """The address of the site, what it shows, and the path of each page by name."""
    executable()
    with site(tmp_path_factory.mktemp("site"), shared) as found:
        yield found


@pytest.fixture(scope="module")
def browser(visited: Site) -> Iterator[Any]:
    with chromium() as started:
        yield started


@pytest.fixture(scope="module")
def documents(visited: Site, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with every page and the style sheet, as they are sent."""
    address, _, pages = visited
    directory = tmp_path_factory.mktemp("documents")
    for name, path in {**pages, "page.css": "/static/page.css"}.items():
        try:
            with urllib.request.urlopen(f"{address}{path}", timeout=30) as response:
                body = response.read()
        except urllib.error.HTTPError as error:  # pages of problems are checked too
            body = error.read()
        (directory / (name if "." in name else f"{name}.html")).write_bytes(body)
    return directory


@pytest.mark.timeout(1200)
def test_every_page_fits_every_screen_and_axe_finds_nothing(
    browser: Any, visited: Site, tmp_path: Path
) -> None:
    address, _, pages = visited
    pictures = Path(os.environ.get("CXREVAL_SCREENSHOTS") or tmp_path)
    found: dict[str, list[str]] = {}
    for name, path in pages.items():
        with Visit(browser, f"{address}{path}") as visit:
            for width, theme in product((390, 1280), THEMES):
                visit.show(width, theme)
                visit.screenshot(f"{name}-{width}-{theme}", pictures)
            visit.unfold()
            for width, theme in product(WIDTHS, THEMES):
                visit.show(width, theme)
                found[f"{name} {width} {theme}"] = visit.geometry() + visit.axe()
            found[name] = visit.unexpected()
    assert {where: what for where, what in found.items() if what} == {}


def test_vnu_finds_nothing(documents: Path) -> None:
    if not shutil.which("java"):
        missing("there is no java, which vnu needs")
    jar = npm.modules() / "vnu-jar/build/dist/vnu.jar"
    checked = subprocess.run(
        ["java", "-jar", jar, "--stdout", "--also-check-css",
         # Names of strangers are shown as they were given, and vnu lacks a property of SVG 2.
         "--filterpattern", "(?s).*(Normalization Form C|“paint-order”).*", documents],
        capture_output=True, text=True, timeout=110, check=False,
    )  # fmt: skip
    assert (checked.stdout.strip(), checked.returncode) == ("", 0)


def test_html_validate_finds_nothing(documents: Path) -> None:
    checked = subprocess.run(
        [npm.modules() / ".bin/html-validate", "--config", HERE / "html-validate.json",
         *sorted(documents.glob("*.html"))],
        capture_output=True, text=True, timeout=110, check=False,
    )  # fmt: skip
    assert (checked.stdout.strip(), checked.returncode) == ("", 0)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", ["home", "method", "nih", "real", "real-model"])
def test_lighthouse_on_a_phone_finds_nothing_but_time(visited: Site, name: str) -> None:
    """`bench/page.py` measures the score of performance, which is a matter of time."""
    _, data, pages = visited
    port = free_port()
    with served(replace(data, public_url=f"http://127.0.0.1:{port}"), port) as address:
        scores, lost = npm.lighthouse(f"{address}{pages[name]}")
    del scores["performance"]
    assert scores == {"accessibility": 1, "best-practices": 1, "seo": 1}, lost
