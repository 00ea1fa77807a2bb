"""Pages of lists and their tokens, which are opaque to callers and valid for one list."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from cxreval.errors import CxrevalError, InvalidPageToken
from cxreval.fields import field_error

MAX_TOKEN_CHARACTERS = 500

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """Items of a list; `next_token` is empty on the last page."""

    items: list[T]
    next_token: str


@dataclass(frozen=True, slots=True)
class Cursor:
    """The start and the size of a page of the list `kind` of `parent`.

    `after` is the key of the last item before the page; empty for the first page.
    """

    kind: str
    parent: str
    size: int
    after: str = ""

    @classmethod
    def parse(cls, kind: str, parent: str, size: int, token: str) -> Cursor:
        """Returns the cursor of a page token. Raises `InvalidPageToken` if it is another list's."""
        if not token:
            return cls(kind, parent, size)
        try:
            token_kind, token_parent, after = json.loads(
                base64.b64decode(token[:MAX_TOKEN_CHARACTERS], b"-_", validate=True)
            )
        except (ValueError, TypeError, RecursionError):
            raise _invalid(token) from None
        if (token_kind, token_parent) != (kind, parent) or not isinstance(after, str) or not after:
            raise _invalid(token)
        # Keys are printable ASCII. Databases fail on NUL and lone surrogates in a forged token.
        if not (after.isascii() and after.isprintable()):
            raise _invalid(token)
        return cls(kind, parent, size, after)

    def page(self, items: Sequence[T], key: Callable[[T], str]) -> Page[T]:
        """Returns a page of the first `size` items; it has a next token if there are more."""
        kept = list(items[: self.size])
        if len(items) <= self.size:
            return Page(kept, "")
        content = json.dumps([self.kind, self.parent, key(kept[-1])], separators=(",", ":"))
        return Page(kept, base64.urlsafe_b64encode(content.encode()).decode())

    def invalid(self) -> CxrevalError:
        """Returns the error for a token whose item is no longer in the list."""
        return _invalid(self.after)


def page_size(requested: int, default: int, largest: int) -> int:
    """Returns the size of a page: `default` for 0, at most `largest`. Raises `MalformedField`."""
    if requested < 0:
        raise field_error("page_size", requested, f"0 to {largest}")
    return min(requested or default, largest)


def _invalid(token: str) -> CxrevalError:
    expected = "the next_page_token of an earlier page of the same list"
    return field_error("page_token", token, expected, InvalidPageToken)
