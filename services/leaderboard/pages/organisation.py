"""The page of an organisation: its rows on a benchmark over time."""

from __future__ import annotations

from collections import Counter

from services.leaderboard.data import REMOVED, BoardDay, published
from services.leaderboard.figures import measure_of, rank_texts
from services.leaderboard.lookup import find_board
from services.leaderboard.pages.progress import progress_chart
from services.leaderboard.parameters import Given, Parameters
from services.leaderboard.problems import NotFound
from services.leaderboard.selection import View
from services.leaderboard.site import Content, SiteData
from services.leaderboard.templates import organisation_address, page

SHOWN = 100
"""Rows on the page, the latest ones."""


def organisation(data: SiteData, path: dict[str, str], given: Given) -> Content:
    """Returns the rows of the organisation `name`; without a name, the organisations of a board.

    Raises:
        NotFound: nothing of the benchmark names the organisation.
    """
    board = find_board(data, path["benchmark"])
    name = Parameters(given, ("name",)).text("name")
    numbers = Counter(entry.organisation for entry in board.entries)
    if not name:
        names = numbers.most_common(SHOWN)
        more = len(numbers) - len(names)
        return page(data, "organisations.html", board=board, organisations=names, more=more)
    removed = [
        item
        for item in board.submissions.values()
        if item.status in REMOVED and item.manifest.organisation == name
    ]
    if not removed and name not in numbers:
        known = ((each, organisation_address(board.name, each)) for each in numbers)
        raise NotFound("organisation", name, known)
    entries = [entry for entry in board.entries if entry.organisation == name]
    names_of = {entry.submission for entry in entries}
    steps = {step.submission: step for step in board.steps if step.submission in names_of}
    measure = measure_of(board.spec.ranking_metric)
    shown = sorted(entries, key=published)[::-1][:SHOWN]
    return page(
        data,
        "organisation.html",
        board=board,
        spec=board.spec,
        name=name,
        entries=shown,
        more=len(entries) - len(shown),
        ranks=rank_texts(board.entries),
        steps=steps,
        removed=sorted(removed, key=lambda item: item.update_time, reverse=True)[:SHOWN],
        measure=measure,
        progress=progress_chart(BoardDay(tuple(entries), tuple(steps.values())), measure, View()),
    )
