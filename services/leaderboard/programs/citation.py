"""How a board at a date is cited: BibTeX and CITATION.cff."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

import yaml

from services.leaderboard.data import BoardData
from services.leaderboard.figures import measure_of
from services.leaderboard.lookup import find_board
from services.leaderboard.parameters import Given, Parameters
from services.leaderboard.problems import BeingRead
from services.leaderboard.programs.text import one_line
from services.leaderboard.selection import board_at
from services.leaderboard.site import Content, SiteData
from services.leaderboard.templates import board_address

_LATEX = {
    # A brace counts in BibTeX also behind a backslash, so it is written as a command.
    "{": r"\textbraceleft{}", "}": r"\textbraceright{}", "\\": r"\textbackslash{}",
    "$": r"\$", "&": r"\&", "#": r"\#", "%": r"\%", "_": r"\_",
    "^": r"\textasciicircum{}", "~": r"\textasciitilde{}",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Cited:
    """What a citation states of a board."""

    board: BoardData
    day: date
    title: str
    url: str
    record: str
    state: str


def citation_bib(data: SiteData, path: dict[str, str], given: Given) -> Content:
    """Returns a board at a date as an entry of BibTeX."""
    cited = _cited(data, path, given)
    fields = {
        "title": f"{{{latex(cited.title)}}}",
        "author": "{cxreval}",
        "year": str(cited.day.year),
        "month": str(cited.day.month),
        "url": cited.url,
        "note": latex(f"Board as of {cited.day}. {cited.record}{cited.state}"),
    }
    lines = [f"  {name} = {{{value}}}," for name, value in fields.items()]
    key = f"cxreval-{cited.board.name}-{cited.day}"
    text = "\n".join([f"@misc{{{key},", *lines, "}", ""])
    return Content(text, "application/x-bibtex; charset=utf-8")


def citation_cff(data: SiteData, path: dict[str, str], given: Given) -> Content:
    """Returns a board at a date as a file of the Citation File Format 1.2.0."""
    cited = _cited(data, path, given)
    document = {
        "cff-version": "1.2.0",
        "type": "dataset",
        "message": "Please cite the board with its date.",
        "title": one_line(cited.title),
        "authors": [{"name": "cxreval"}],
        "abstract": one_line(f"Board as of {cited.day}. {cited.record}{cited.state}"),
        "version": str(cited.day),
        "date-released": str(cited.day),
        "url": cited.url,
    }
    text = yaml.safe_dump(document, allow_unicode=True, sort_keys=False, width=100)
    return Content(text, "application/yaml; charset=utf-8")


def latex(text: str) -> str:
    """Returns a text in one line, in which LaTeX and BibTeX see nothing but text."""
    return "".join(_LATEX.get(letter, letter) for letter in one_line(text))


def _cited(data: SiteData, path: dict[str, str], given: Given) -> _Cited:
    """Returns what is cited: the board of a day, or of its last change."""
    board = find_board(data, path["benchmark"])
    as_of = Parameters(given, ("as_of",)).day("as_of")
    day = as_of or next(reversed(board.days), None) or (board.read_time and board.read_time.date())
    if day is None:
        raise BeingRead("The board")
    holder = board_at(data, board, as_of).holder
    measure = measure_of(board.spec.ranking_metric)
    record = (
        f"Record: {holder.model} ({holder.organisation}), {measure.unit} "
        f"{measure.written(holder.score)}, {holder.tier}. "
        if holder
        else "No rows. "
    )
    return _Cited(
        board,
        day,
        f"{board.spec.title}: leaderboard",
        data.public_url + board_address(board.name, as_of=day),
        record,
        f"Benchmark {board.spec.digest[:16]}, audit chain at {board.head.place}: "
        f"{board.head.digest[:16]}.",
    )
