"""Collects what is wrong with a label table, so that one run shows all of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cxreval.errors import DatasetInvalid

MOST_SHOWN = 50
"""Number of mistakes that an error spells out; it counts the others."""


class Mistakes:
    """The mistakes of one label table, in the order of its lines.

    A label that no rule covers is one mistake for all its cells, because one option cures them all.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._lines: list[str] = []
        self._count = 0
        self._uncovered: dict[str, tuple[str, int]] = {}
        self._first: dict[str, Any] = {}

    def add(self, problem: str, **about: object) -> None:
        """Adds a mistake; `about` is the error's metadata if it is the first."""
        self._first = self._first or {"count": 1, **about}
        self._count += 1
        if len(self._lines) < MOST_SHOWN:
            self._lines.append(problem)

    def add_uncovered(self, cure: str, first: str) -> None:
        """Adds a cell that needs another rule: `cure`; `first` says where the cell is."""
        where, count = self._uncovered.get(cure, (first, 0))
        self._uncovered[cure] = where, count + 1

    def lines(self) -> list[str]:
        """Returns the mistakes, at most `MOST_SHOWN` and the number of the others."""
        uncovered = [
            f"{where}{f', and {count - 1} more cells like it' if count > 1 else ''}; {cure}"
            for cure, (where, count) in self._uncovered.items()
        ]
        rest = self._count - len(self._lines)
        return [*uncovered, *self._lines, *([f"and {rest} more mistakes"] if rest else [])]

    def check(self) -> None:
        """Raises `DatasetInvalid` if there are mistakes; the message has a line for each."""
        lines = self.lines()
        if not lines:
            return
        if len(lines) == 1:
            message = f"{self._file} {lines[0]}"
        else:
            count = self._count + len(self._uncovered)
            message = "\n  ".join([f"{self._file} has {count} mistakes:", *lines])
        raise DatasetInvalid(message, file=self._file, **self._first)
