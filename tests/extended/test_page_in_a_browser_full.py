"""Every page of the site in Chromium, in each theme and width, and in the checkers of others.

vnu, html-validate and Lighthouse come from npm: run `npm install vnu-jar html-validate@10
lighthouse@12` in a directory, and name it in `CXREVAL_NPM`. vnu needs `java`.
"""

from __future__ import annotations

import json
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
from tests.support.board_data import served
from tests.support.browser import THEMES, WIDTHS, Visit, chromium, executable
from tests.support.browser_site import site
from tests.support.processes import free_port

HERE = Path(__file__).parent
BARS = {"performance": 0.95, "accessibility": 1.0, "best-practices": 1.0, "seo": 0.95}

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


@pytest.fixture(scope="module")
def npm() -> Path:
    """The programs that npm installed."""
    directory = Path(os.environ.get("CXREVAL_NPM", "/nonexistent")) / "node_modules"
    if not directory.is_dir():
        missing("the checkers of npm are not installed: see tests/extended/" + Path(__file__).name)
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


def test_vnu_finds_nothing(documents: Path, npm: Path) -> None:
    if not shutil.which("java"):
        missing("there is no java, which vnu needs")
    checked = subprocess.run(
        ["java", "-jar", npm / "vnu-jar/build/dist/vnu.jar", "--stdout", "--also-check-css",
         # Names of strangers are shown as they were given.
         "--filterpattern", ".*Unicode Normalization Form C.*", documents],
        capture_output=True, text=True, timeout=110, check=False,
    )  # fmt: skip
    assert (checked.stdout.strip(), checked.returncode) == ("", 0)


def test_html_validate_finds_nothing(documents: Path, npm: Path) -> None:
    checked = subprocess.run(
        [npm / ".bin/html-validate", "--config", HERE / "html-validate.json",
         *sorted(documents.glob("*.html"))],
        capture_output=True, text=True, timeout=110, check=False,
    )  # fmt: skip
    assert (checked.stdout.strip(), checked.returncode) == ("", 0)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", ["home", "method", "nih", "real", "real-model"])
def test_lighthouse_on_a_phone_reaches_the_bars(visited: Site, npm: Path, name: str) -> None:
    _, data, pages = visited
    port = free_port()
    with served(replace(data, public_url=f"http://127.0.0.1:{port}"), port) as address:
        checked = subprocess.run(
            [npm / ".bin/lighthouse", f"{address}{pages[name]}", "--quiet", "--output=json",
             "--chrome-flags=--headless=new --no-sandbox"],
            env=os.environ | {"CHROME_PATH": executable()},
            capture_output=True, text=True, timeout=240, check=True,
        )  # fmt: skip
    found = json.loads(checked.stdout)
    scores = {name: each["score"] for name, each in found["categories"].items()}
    lost = [
        f"{audit['id']}: {audit['title']} {audit.get('displayValue', '')}"
        for audit in found["audits"].values()
        if audit["score"] is not None and audit["score"] < 1
    ]
    assert all(scores[name] >= bar for name, bar in BARS.items()), (scores, lost)
