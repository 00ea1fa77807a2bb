"""Page tokens and page sizes."""

from __future__ import annotations

import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cxreval.errors import InvalidPageToken, MalformedField
from services.registry.domain.pages import Cursor, page_size


def read_all(items: list[str], size: int) -> list[list[str]]:
    """Reads a list page by page as a client does."""
    pages, token = [], ""
    while True:
        cursor = Cursor.parse("things", "parents/p", size, token)
        start = items.index(cursor.after) + 1 if cursor.after else 0
        page = cursor.page(items[start : start + size + 1], str)
        pages.append(page.items)
        token = page.next_token
        if not token:
            return pages


KEYS = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), min_size=1)


@given(st.lists(KEYS, unique=True, max_size=20), st.integers(1, 7))
def test_pages_together_are_the_list_and_none_but_the_last_is_short(
    items: list[str], size: int
) -> None:
    pages = read_all(items, size)
    assert [item for page in pages for item in page] == items
    assert all(len(page) == size for page in pages[:-1])
    assert pages[-1] or not items


def token_of(*content: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(content).encode()).decode()


@pytest.mark.parametrize(
    "token",
    [
        "no token",
        "🩻",
        "AAAA",
        "a" * 10_000,
        token_of(),
        token_of("things", "parents/p"),
        token_of("things", "parents/p", ""),
        token_of("things", "parents/p", 7),
        token_of("things", "parents/other", "id"),
        token_of("others", "parents/p", "id"),
        token_of("things", "parents/p", "\0"),
        token_of("things", "parents/p", "\ud800"),
        token_of("things", "parents/p", "é"),
        base64.urlsafe_b64encode(b"7").decode(),
    ],
)
def test_token_that_the_list_did_not_give_out_is_refused(token: str) -> None:
    with pytest.raises(InvalidPageToken) as caught:
        Cursor.parse("things", "parents/p", 10, token)
    assert caught.value.metadata["field"] == "page_token"


@given(st.text(max_size=200))
def test_any_text_as_token_is_refused_by_name(token: str) -> None:
    if token:
        with pytest.raises(InvalidPageToken):
            Cursor.parse("things", "parents/p", 10, token)


def test_page_size_has_a_default_a_limit_and_no_negative() -> None:
    assert [page_size(size, 50, 500) for size in (0, 1, 500, 501)] == [50, 1, 500, 500]
    with pytest.raises(MalformedField):
        page_size(-1, 50, 500)
