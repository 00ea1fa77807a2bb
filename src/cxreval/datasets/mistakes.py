"""Collects what is wrong with a label table, so that one run shows all of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cxreval.errors import DatasetInvalid

MOST_SHOWN = 50
"""Number of mistakes that are shown; the others are counted."""


class Mistakes:
    """The mistakes of one label table, in the order of its lines."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._errors: list[DatasetInvalid] = []
        self._count = 0
        self._uncovered: dict[str, tuple[str, int]] = {}

    def add(self, problem: str, **about: Any) -> None:
        """Adds a mistake; `about` is the error's metadata."""
        self._count += 1
        if len(self._errors) < MOST_SHOWN:
            self._errors.append(self._error(problem, **about))

    def add_uncovered(self, cure: str, first: str) -> None:
        """Adds a cell that no rule covers: `first` says where it is, `cure` what to do.

        All such cells are one mistake, because one option cures them.
        """
        where, count = self._uncovered.get(cure, (first, 0))
        self._uncovered[cure] = where, count + 1

    def check(self) -> None:
        """Raises `DatasetInvalid` if there are mistakes: the first, with the others as `also`."""
        uncovered = [
            self._error(f"{where}{f', and {count - 1} more cells are' * (count > 1)}; {cure}")
            for cure, (where, count) in self._uncovered.items()
        ]
        errors = [*uncovered, *self._errors]
        if rest := self._count - len(self._errors):
            errors.append(self._error(f"has {rest} more mistakes", count=rest))
        if errors:
            errors[0].also = tuple(errors[1:])
            raise errors[0]

    def _error(self, problem: str, **about: Any) -> DatasetInvalid:
        return DatasetInvalid(f"{self._file} {problem}", file=self._file, **about)
