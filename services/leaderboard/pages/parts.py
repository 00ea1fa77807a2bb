"""What several pages show: a chart with its data, and some of the findings of a benchmark."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from services.leaderboard.charts.svg import Table
from services.leaderboard.problems import NotFound

FINDINGS_PER_PAGE = 14
"""A benchmark may have 200 findings; a page shows some of them, and links to the others."""


@dataclass(frozen=True, slots=True)
class Drawn:
    """A chart with the data behind it."""

    picture: Markup
    table: Table


@dataclass(frozen=True, slots=True)
class Part:
    """Some of the findings of a benchmark; `first` is the number of the first one, from 1."""

    number: int
    first: int
    last: int
    findings: tuple[str, ...]


def parts_of(findings: Sequence[str]) -> list[Part]:
    """Returns the findings in the parts that a page shows at once."""
    size = FINDINGS_PER_PAGE
    chunks = [tuple(findings[start : start + size]) for start in range(0, len(findings), size)]
    return [
        Part(number, size * (number - 1) + 1, size * (number - 1) + len(chunk), chunk)
        for number, chunk in enumerate(chunks, 1)
    ]


def part_of(parts: Sequence[Part], number: int) -> Part:
    """Returns the part of a number, from 1. Raises `NotFound`."""
    if number > len(parts):
        raise NotFound("part of the findings with the number", str(number))
    return parts[number - 1]
