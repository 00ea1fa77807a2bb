"""What search engines read: the list of pages, rules for crawlers, a board as a data set."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import date
from html import escape
from itertools import islice

from markupsafe import Markup

from services.leaderboard.data import BoardData, event_time
from services.leaderboard.parameters import Given, Parameters
from services.leaderboard.site import Content, SiteData
from services.leaderboard.templates import board_address, https_only, submission_address

MAX_ADDRESSES = 50_000
"""Addresses that a sitemap may have (sitemaps.org)."""

_ROBOTS = """\
User-agent: *
Disallow: /api/
Disallow: /b/*/compare?
Disallow: /b/*/m/*/events

Sitemap: {address}/sitemap.xml
"""


def robots(data: SiteData, _: dict[str, str], given: Given) -> Content:
    """Returns the rules for crawlers."""
    Parameters(given, ())
    return Content(_ROBOTS.format(address=data.public_url), "text/plain; charset=utf-8")


def sitemap(data: SiteData, _: dict[str, str], given: Given) -> Content:
    """Returns the addresses of the pages with the day of their last change; boards come first."""
    Parameters(given, ())
    lines = []
    for address, changed in islice(_addresses(data), MAX_ADDRESSES):
        day = f"<lastmod>{changed}</lastmod>" if changed else ""
        lines.append(f"<url><loc>{escape(data.public_url + address)}</loc>{day}</url>")
    text = "\n".join(
        [
            '<?xml version="1.0" encoding="UTF-8"?>',
            '<urlset xmlns="http://www.sitemaps.org/schemas/sitemap/0.9">',
            *lines,
            "</urlset>",
            "",
        ]
    )
    return Content(text, "application/xml; charset=utf-8")


def _addresses(data: SiteData) -> Iterator[tuple[str, date | None]]:
    """Yields the address of each page and the day of its last change."""
    for address in ("/", "/method", "/audit"):
        yield address, None
    for board in data.boards.values():
        yield board_address(board.name), next(reversed(board.days), None)
    for board in data.boards.values():
        for entry in board.entries:
            events = board.events.get(entry.submission, ())
            changed = event_time(events[-1]).date() if events else None
            yield submission_address(entry.submission), changed


def dataset(data: SiteData, board: BoardData) -> Markup:
    """Returns a board as a schema.org Dataset, JSON that may stand inside of a script element."""
    spec, page = board.spec, data.public_url + board_address(board.name)
    table = f"{data.public_url}/api/v1/benchmarks/{board.name}/entries"
    document: dict[str, object] = {
        "@context": "https://schema.org",
        "@type": "Dataset",
        "name": f"{spec.title}: leaderboard",
        "description": (
            f"Scores of chest X-ray classifiers on {spec.image_count} images of "
            f"{spec.patient_count} patients, with 95 % intervals and ranks, for "
            f"{len(spec.findings)} findings."
        ),
        "url": page,
        "identifier": spec.digest,
        "creator": {"@type": "Organization", "name": "cxreval", "url": data.public_url},
        "isAccessibleForFree": True,
        "variableMeasured": [metric.id for metric in spec.metrics],
        "distribution": [
            {"@type": "DataDownload", "encodingFormat": kind, "contentUrl": table + suffix}
            for kind, suffix in (
                ("text/csv", ".csv"),
                ("application/vnd.apache.parquet", ".parquet"),
                ("application/json", ""),
            )
        ],
    }
    if board.days:
        document["dateModified"] = board.days[-1].isoformat()
    if board.card and https_only(board.card.paper):
        document["citation"] = board.card.paper
    text = json.dumps(document, ensure_ascii=False)
    for letter in "<>&\u2028\u2029":
        text = text.replace(letter, f"\\u{ord(letter):04x}")
    return Markup(text)  # noqa: S704 -- nothing is left that HTML reads
