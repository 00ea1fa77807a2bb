"""What a visitor is told when an address or a parameter is wrong."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from itertools import islice

_SHOWN = 80
_COMPARED = 500
"""Names that a wrong one is compared with: each costs time, and wrong addresses are never kept."""


class Problem(Exception):
    """A page that cannot be shown: HTTP status, title, what is wrong and what to do.

    `links`: titles and addresses of pages that the visitor may have meant. `reason`: a word for
    programs.
    """

    reason = "PROBLEM"

    def __init__(
        self, status: int, title: str, detail: str, links: Iterable[tuple[str, str]] = ()
    ) -> None:
        super().__init__(detail)
        self.status, self.title, self.detail, self.links = status, title, detail, tuple(links)


class BadParameter(Problem):
    """A query parameter is unknown or has a wrong value."""

    reason = "BAD_PARAMETER"

    def __init__(self, name: str, value: str, expected: str) -> None:
        name, value = name[:_SHOWN], value[:_SHOWN]
        self.parameter, self.value, self.expected = name, value, expected
        detail = f"The parameter {name!r} is {value!r}; expected {expected}."
        super().__init__(400, "The address has a wrong parameter", detail)


class QueryTooLong(Problem):
    """The query of an address has too many characters."""

    reason = "QUERY_TOO_LONG"

    def __init__(self, most: int) -> None:
        detail = f"The query has more than {most:,} characters. Ask for less at once."
        super().__init__(400, "The address is too long", detail)


class NotFound(Problem):
    """Nothing has this address. `known`: names that exist, with their addresses."""

    reason = "NOT_FOUND"

    def __init__(self, what: str, name: str, known: Iterable[tuple[str, str]] = ()) -> None:
        by_name = dict(islice(known, _COMPARED))
        nearest = get_close_matches(name[:_SHOWN], by_name, n=3, cutoff=0.5)
        detail = f"There is no {what} {name[:_SHOWN]!r} here."
        if nearest:
            detail += f" Did you mean {nearest[0]!r}?"
        links = [(each, by_name[each]) for each in nearest]
        super().__init__(404, "There is no such page", detail, links)


class BeingRead(Problem):
    """The page exists, and what it shows is not read from the registry yet."""

    reason = "BEING_READ"

    def __init__(self, what: str) -> None:
        detail = f"{what} is still being read from the registry. Try again in some seconds."
        super().__init__(503, "Not here yet", detail)


class Busy(Problem):
    """Too many visitors wait for pages that are not rendered yet."""

    reason = "BUSY"

    def __init__(self) -> None:
        super().__init__(503, "Too many requests at once", "Try again in some seconds.")


class NotAllowed(Problem):
    """The method of the request is not one of those that read."""

    reason = "NOT_ALLOWED"

    def __init__(self) -> None:
        super().__init__(405, "This page can only be read", "Use GET or HEAD.")


class Failed(Problem):
    """A defect of this site."""

    reason = "INTERNAL"

    def __init__(self) -> None:
        super().__init__(500, "This page failed", "The error is in the log of this site.")


class Removed(Problem):
    """The submission had a row and has none now. `facts`: what is kept of it, for programs."""

    reason = "REMOVED"

    def __init__(self, state: str, why: str, facts: Mapping[str, object]) -> None:
        detail = f"The row was {state}{f': {why}' if why else ''}. Its events are kept."
        super().__init__(410, "This row is no longer on the board", detail)
        self.facts = facts


class TooLarge(Problem):
    """A table would have more rows than this site sends at once."""

    reason = "TOO_LARGE"

    def __init__(self, rows: int, most: int) -> None:
        detail = (
            f"The table has {rows:,} rows; at most {most:,} are sent at once. Choose rows with "
            "tier, open, organisation, since or until, or read the entries as JSON, page by page."
        )
        super().__init__(400, "The table is too large", detail)
