"""Joiners are allowed where a script or an emoji needs them, and refused everywhere else."""

from __future__ import annotations

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cxreval import joiners
from cxreval.errors import MalformedField
from cxreval.fields import check_text, is_printable, printable
from cxreval.joiners import JOINER, NON_JOINER

ALLOWED = {
    "a health worker": "\U0001f469\u200d\u2695\ufe0f Net",
    "a family": "\U0001f468\u200d\U0001f469\u200d\U0001f467\u200d\U0001f466",
    "a skin tone": "\U0001f469\U0001f3fd\u200d\U0001f52c",
    "a heart on fire": "\u2764\ufe0f\u200d\U0001f525",
    "the flag of England": "\U0001f3f4\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f",
    "Persian": "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645",
    "Persian plural": "\u062e\u0627\u0646\u0647\u200c\u0647\u0627",
    "Persian with a mark": "\u0645\u0650\u200c\u06cc",
    "Hindi, half form": "\u0915\u094d\u200d\u0937",
    "Hindi, no ligature": "\u0915\u094d\u200c\u0937",
    "Sinhala": "\u0dc1\u0dca\u200d\u0dbb\u0dd3",
}
REFUSED = {
    "joiner between Latin letters": "a\u200db",
    "non-joiner between Latin letters": "a\u200cb",
    "joiner at the start": "\u200dx",
    "joiner at the end": "x\u200d",
    "joiner behind an emoji": "\U0001f469\u200d",
    "joiner between emoji without a sequence": "\U0001f34e\u200d\U0001f34c",
    "two joiners in a sequence": "\U0001f469\u200d\u200d\u2695\ufe0f",
    "two non-joiners": "\u0645\u200c\u200c\u06cc",
    "non-joiner behind a letter that never joins": "\u06a9\u0627\u0631\u200c\u0647\u0627",
    "non-joiner at the end": "\u0645\u200c",
    "joiner between Persian letters": "\u0645\u200d\u06cc",
    "joiner behind a letter without virama": "\u0915\u200d\u0937",
    "joiner behind a character without a name": "\x00\u200d",
    "tags without a flag": "x\U000e0067\U000e0062\U000e007f",
    "flag whose tags do not end": "\U0001f3f4\U000e0067",
    "right-to-left override": "a\u202egpj.exe",
    "isolates": "\u2066x\u2069",
    "word joiner": "a\u2060b",
    "soft hyphen": "a\u00adb",
    "byte order mark": "\ufeffx",
}


@pytest.mark.parametrize("text", ALLOWED.values(), ids=ALLOWED)
def test_names_that_need_joiners_are_allowed_and_printed_as_they_are(text: str) -> None:
    check_text("manifest.model", text, 100)
    assert printable(text) == text


@pytest.mark.parametrize("text", REFUSED.values(), ids=REFUSED)
def test_names_that_only_look_alike_are_refused_and_printed_with_spaces(text: str) -> None:
    with pytest.raises(MalformedField, match="printable characters"):
        check_text("manifest.model", text, 100)
    assert printable(text).isprintable()
    assert len(printable(text)) == len(text)


@given(st.text(string.printable + JOINER + NON_JOINER, max_size=40))
def test_no_ascii_text_needs_a_joiner(text: str) -> None:
    assert joiners.needed(text) == frozenset()


@given(
    st.text(
        st.characters() | st.sampled_from("\u0645\u094d\U0001f469\u2695\u200c\u200d"), max_size=12
    )
)
def test_printing_a_printed_text_changes_nothing(text: str) -> None:
    assert is_printable(printable(text))


@pytest.mark.timeout(20)
@pytest.mark.parametrize(
    "unit",
    [
        "\U0001f469\u200d",
        "\u0628\u064e\u200c",
        "\u064e",
        "\ufe0f",
        "\u200d",
        "\U0001f3f4\U000e0067",
    ],
)
def test_a_long_text_of_joiners_is_read_in_time_that_grows_with_its_length(unit: str) -> None:
    text = unit * 50_000 + "\u200c\U000e007f"
    assert len(printable(text)) == len(text)
