"""Text of the charts: its width, its shortening, and what is drawn of hostile text."""

import unicodedata
from pathlib import Path

import matplotlib
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import ImageFont

from services.leaderboard.charts import text as texts

HOSTILE = st.text(st.characters(codec=None, exclude_categories=()), max_size=120)


@pytest.mark.parametrize("bold", [False, True])
def test_no_line_is_wider_in_dejavu_sans_than_measured(bold: bool) -> None:
    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    file = Path(matplotlib.get_data_path(), "fonts/ttf", name)
    font = ImageFont.truetype(file, 1000, layout_engine=ImageFont.Layout.BASIC)
    lines = [
        "DenseNet-121 with test-time augmentation, v2.3.1-rc4 (ensemble of 12)",
        "Universität Tübingen, Łódź, Größe, Œuvre, Ærø, İstanbul",
        "Московский университет имени М. В. Ломоносова",
        "Εθνικό Μετσόβιο Πολυτεχνείο",
        "+1.23 −0.45 100 % × 100 ± ≤ → 1,234",
    ]
    if not bold:
        drawable = (chr(code) for code in range(0x21, 0x3000))
        lines += [c for c in drawable if texts.drawable(c) == c and texts.width(c, 1)]
        assert len(lines) > 2000
    too_wide = [
        line for line in lines if font.getlength(line) > 1000 * texts.width(line, 1, bold=bold) + 1
    ]
    assert not too_wide


@given(HOSTILE, st.floats(0, 400))
def test_shortened_text_fits_its_room(text: str, room: float) -> None:
    short = texts.shorten(text, room, 12)
    assert texts.width(short, 12) <= max(room, texts.width("…", 12)) + 1e-6
    assert short == texts.drawable(text) or "…" in short


@given(HOSTILE, st.floats(20, 400), st.integers(1, 4))
def test_wrapped_text_fits_its_room_and_lines(text: str, room: float, lines: int) -> None:
    wrapped = texts.wrap(text, room, 11, lines)
    assert 1 <= len(wrapped) <= lines
    assert all(texts.width(line, 11) <= room + 1e-6 for line in wrapped)


@given(HOSTILE)
def test_drawn_text_has_no_controls_and_few_marks(text: str) -> None:
    drawn = texts.drawable(text)
    categories = [unicodedata.category(character) for character in drawn]
    assert not {"Cc", "Cf", "Cs", "Cn", "Zl", "Zp"} & set(categories)
    assert "MnMnMn" not in "".join(categories)
    assert texts.drawable(drawn) == drawn


def test_a_name_keeps_both_of_its_ends() -> None:
    short = texts.shorten("DenseNet-121 with test-time augmentation v2.3.1-rc4", 160, 12)
    assert short.startswith("DenseN")
    assert short.endswith("-rc4")


def test_a_character_of_unknown_width_is_a_box() -> None:
    assert texts.drawable("a\N{ARABIC LIGATURE BISMILLAH AR-RAHMAN AR-RAHEEM}\U00012031b") == "a□□b"


def test_directions_of_strangers_are_dropped() -> None:
    assert texts.clean("a\u202eb\u2066c\nd\x00e\ud800") == "abc de"
