"""Reads the query parameters of a page; each has limits, and a wrong one is named."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import date
from typing import TypeVar

from services.leaderboard.problems import BadParameter

T = TypeVar("T")

MAX_QUERY_CHARACTERS = 2000
MAX_TEXT_CHARACTERS = 100
MAX_PAGE = 1_000_000
_DAY = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)


Given = Sequence[tuple[str, str]]
"""The query parameters of a request: name and value of each."""


class Parameters:
    """The query parameters of a request, by name; each read checks one of them.

    Args:
        given: name and value of each, in the order of the address.
        known: names that the page takes. An empty value is like none, as forms send it.

    Raises:
        BadParameter: a name is unknown, or given more often than `repeated` allows.
    """

    def __init__(
        self,
        given: Given,
        known: Collection[str],
        repeated: Mapping[str, int] | None = None,
    ) -> None:
        self._values: dict[str, list[str]] = {}
        limits = repeated or {}
        for name, value in given:
            if name not in known:
                names = ", ".join(sorted(known))
                expected = f"one of the parameters {names}" if known else "no parameter"
                raise BadParameter(name, value, expected)
            if value:
                self._values.setdefault(name, []).append(value)
        for name, values in self._values.items():
            if len(values) > limits.get(name, 1):
                expected = f"at most {limits.get(name, 1)} value(s)"
                raise BadParameter(name, f"{len(values)} values", expected)

    def _read(self, name: str, convert: Callable[[str], T | None], expected: str) -> T | None:
        if name not in self._values:
            return None
        (text,) = self._values[name]
        value = convert(text)
        if value is None:
            raise BadParameter(name, text, expected)
        return value

    def number(self, name: str, default: int, most: int = MAX_PAGE) -> int:
        """Returns a whole number from 1 to `most`."""

        def convert(text: str) -> int | None:
            number = int(text) if re.fullmatch(r"[0-9]{1,9}", text) else 0
            return number if 1 <= number <= most else None

        return self._read(name, convert, f"a whole number from 1 to {most}") or default

    def choice(self, name: str, choices: Collection[str]) -> str:
        """Returns one of the choices; empty if none is given."""
        expected = f"one of {', '.join(choices)}"
        return self._read(name, lambda text: text if text in choices else None, expected) or ""

    def choices(self, name: str, choices: Collection[str]) -> tuple[str, ...]:
        """Returns the values of a parameter that may be repeated, without duplicates."""
        values = tuple(dict.fromkeys(self._values.get(name, ())))
        for value in values:
            if value not in choices:
                raise BadParameter(name, value, f"one of {', '.join(choices)}")
        return values

    def day(self, name: str) -> date | None:
        """Returns a date YYYY-MM-DD, None if none is given."""

        def convert(text: str) -> date | None:
            try:
                return date.fromisoformat(text) if _DAY.fullmatch(text) else None
            except ValueError:
                return None

        return self._read(name, convert, "a date YYYY-MM-DD")

    def text(self, name: str) -> str:
        """Returns a text of at most 100 characters; empty if none is given."""
        expected = f"at most {MAX_TEXT_CHARACTERS} characters"
        value = self._read(name, lambda text: text[: MAX_TEXT_CHARACTERS + 1], expected) or ""
        if len(value) > MAX_TEXT_CHARACTERS:
            raise BadParameter(name, value, expected)
        return value

    def texts(self, name: str) -> tuple[str, ...]:
        """Returns the values of a parameter that may be repeated, without duplicates."""
        return tuple(dict.fromkeys(self._values.get(name, ())))
