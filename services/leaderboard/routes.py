"""The addresses of the pages, and which are rendered before anybody asks."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial

from services.leaderboard.pages.audit import audit
from services.leaderboard.pages.benchmark import ROWS_PER_PAGE, benchmark
from services.leaderboard.pages.compare import compare
from services.leaderboard.pages.findings import findings
from services.leaderboard.pages.home import home
from services.leaderboard.pages.method import method
from services.leaderboard.pages.organisation import organisation
from services.leaderboard.pages.receipt import receipt
from services.leaderboard.pages.submission import submission
from services.leaderboard.parameters import Given
from services.leaderboard.problems import Problem
from services.leaderboard.site import Content, Render, SiteData
from services.leaderboard.templates import board_address, page

Handler = Callable[[SiteData, dict[str, str], Given], Content]
"""Renders a page from the data, the parts of its path and its query parameters."""

ROUTES: tuple[tuple[str, str, Handler], ...] = (
    ("/", "home", home),
    ("/method", "method", method),
    ("/audit", "audit", audit),
    ("/b/{benchmark}", "benchmark", benchmark),
    ("/b/{benchmark}/findings", "findings", findings),
    ("/b/{benchmark}/compare", "compare", compare),
    ("/b/{benchmark}/o", "organisation", organisation),
    ("/b/{benchmark}/m/{submission}", "submission", submission),
    ("/b/{benchmark}/m/{submission}/receipt.json", "receipt", receipt),
)
"""Path, name and handler of each page; an address of strangers never adds a name."""


def problem_page(data: SiteData, problem: Problem) -> Content:
    """Returns the page that tells a visitor what is wrong."""
    return page(data, "problem.html", status=problem.status, problem=problem)


def first_pages(data: SiteData, changed: Iterable[str]) -> dict[str, Render]:
    """Returns the pages to render after a change of some benchmarks, by address.

    Others are rendered when somebody asks for them.
    """
    pages: dict[str, Render] = {
        "/": lambda site: home(site, {}, ()),
        "/audit": lambda site: audit(site, {}, ()),
    }
    for name in changed:
        for number in range(1, -(-len(data.boards[name].evidence_rows) // ROWS_PER_PAGE) + 1):
            chosen = {"page": number} if number > 1 else {}
            given = tuple((key, str(value)) for key, value in chosen.items())
            render = partial(_render, benchmark, {"benchmark": name}, given)
            pages[board_address(name, **chosen)] = render
    return pages


def _render(handler: Handler, path: dict[str, str], given: Given, data: SiteData) -> Content:
    return handler(data, path, given)
