"""The addresses of the pages, and which are rendered before anybody asks."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial

from services.leaderboard.pages.audit import audit
from services.leaderboard.pages.benchmark import benchmark
from services.leaderboard.pages.compare import compare
from services.leaderboard.pages.findings import findings
from services.leaderboard.pages.home import home
from services.leaderboard.pages.method import method
from services.leaderboard.pages.organisation import organisation
from services.leaderboard.pages.receipt import receipt
from services.leaderboard.pages.submission import submission
from services.leaderboard.parameters import Given
from services.leaderboard.problems import Problem
from services.leaderboard.programs.answers import api, unknown
from services.leaderboard.programs.benchmarks import (
    all_changes,
    benchmark_facts,
    benchmarks,
    changes,
    steps,
)
from services.leaderboard.programs.citation import citation_bib, citation_cff
from services.leaderboard.programs.document import openapi
from services.leaderboard.programs.entries import entries
from services.leaderboard.programs.feed import board_feed, feed
from services.leaderboard.programs.indexing import robots, sitemap
from services.leaderboard.programs.pictures import badge, board_preview, preview
from services.leaderboard.programs.submissions import submission_facts
from services.leaderboard.programs.tables import table_csv, table_parquet
from services.leaderboard.selection import ROWS_PER_PAGE, page_count
from services.leaderboard.site import Content, Handler, Render, SiteData
from services.leaderboard.templates import board_address, page

ROUTES: tuple[tuple[str, str, Handler], ...] = (
    ("/", "home", home),
    ("/method", "method", method),
    ("/audit", "audit", audit),
    ("/b/{benchmark}", "benchmark", benchmark),
    ("/b/{benchmark}/findings", "findings", findings),
    ("/b/{benchmark}/compare", "compare", compare),
    ("/b/{benchmark}/o", "organisation", organisation),
    ("/b/{benchmark}/m/{submission}", "submission", submission),
    ("/b/{benchmark}/m/{submission}/receipt.json", "receipt", api(receipt)),
    ("/feed.atom", "feed", api(feed)),
    ("/sitemap.xml", "sitemap", api(sitemap)),
    ("/robots.txt", "robots", api(robots)),
    ("/b/{benchmark}/feed.atom", "board_feed", api(board_feed)),
    ("/b/{benchmark}/citation.bib", "citation_bib", api(citation_bib)),
    ("/b/{benchmark}/CITATION.cff", "citation_cff", api(citation_cff)),
    ("/b/{benchmark}/preview.png", "board_preview", api(board_preview)),
    ("/b/{benchmark}/m/{submission}/preview.png", "preview", api(preview)),
    ("/b/{benchmark}/m/{submission}/badge.svg", "badge", api(badge)),
    ("/api/v1/openapi.json", "api_openapi", api(openapi)),
    ("/api/v1/changes", "api_all_changes", api(all_changes)),
    ("/api/v1/benchmarks", "api_benchmarks", api(benchmarks)),
    ("/api/v1/benchmarks/{benchmark}", "api_benchmark", api(benchmark_facts)),
    ("/api/v1/benchmarks/{benchmark}/entries", "api_entries", api(entries)),
    ("/api/v1/benchmarks/{benchmark}/entries.csv", "api_csv", api(table_csv)),
    ("/api/v1/benchmarks/{benchmark}/entries.parquet", "api_parquet", api(table_parquet)),
    ("/api/v1/benchmarks/{benchmark}/steps", "api_steps", api(steps)),
    ("/api/v1/benchmarks/{benchmark}/changes", "api_changes", api(changes)),
    (
        "/api/v1/benchmarks/{benchmark}/submissions/{submission}",
        "api_submission",
        api(submission_facts),
    ),
    ("/api/{rest:path}", "api_unknown", api(unknown)),
)
"""Path, name and handler of each page; an address of strangers never adds a name."""


def problem_page(data: SiteData, problem: Problem) -> Content:
    """Returns the page that tells a visitor what is wrong."""
    return page(data, "problem.html", status=problem.status, problem=problem)


def first_pages(data: SiteData, changed: Iterable[str]) -> dict[str, tuple[str, Render]]:
    """Returns the pages to render after a change of some benchmarks: route and render by address.

    Others are rendered when somebody asks for them.
    """
    pages: dict[str, tuple[str, Render]] = {
        "/": ("home", lambda site: home(site, {}, ())),
        "/audit": ("audit", lambda site: audit(site, {}, ())),
    }
    for name in changed:
        rows = len(data.boards[name].evidence_rows)
        for number in range(1, page_count(rows, ROWS_PER_PAGE) + 1):
            chosen = {"page": number} if number > 1 else {}
            given = tuple((key, str(value)) for key, value in chosen.items())
            render = partial(_render, benchmark, {"benchmark": name}, given)
            pages[board_address(name, **chosen)] = ("benchmark", render)
    return pages


def _render(handler: Handler, path: dict[str, str], given: Given, data: SiteData) -> Content:
    return handler(data, path, given)
