"""Colours of the charts: contrast in both themes."""

import re
from itertools import product

import pytest

from services.leaderboard.charts.heatmap import CLASSES, shades
from services.leaderboard.charts.scales import Measure
from tests.conftest import REPOSITORY

CSS = (REPOSITORY / "services/leaderboard/static/charts.css").read_text(encoding="utf-8")


def colours(theme: str) -> dict[str, str]:
    """Returns the variables of a theme."""
    light, dark = re.findall(r":root \{(.*?)\}", CSS, re.DOTALL)[:2]
    found = dict(re.findall(r"--([\w-]+): (#\w+);", light))
    return found if theme == "light" else found | dict(re.findall(r"--([\w-]+): (#\w+);", dark))


def luminance(colour: str) -> float:
    """Returns the relative luminance of a colour, by WCAG 2.2."""
    digits = colour[1:] if len(colour) == 7 else "".join(2 * digit for digit in colour[1:])
    parts = [int(digits[place : place + 2], 16) / 255 for place in (0, 2, 4)]
    red, green, blue = (p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    dark, light = sorted([luminance(one), luminance(other)])
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_text_and_marks_stand_out_in_both_themes(theme: str) -> None:
    known = colours(theme)
    for text, ground in product(("ink", "quiet"), ("paper", "band")):
        assert contrast(known[f"chart-{text}"], known[f"chart-{ground}"]) >= 4.5
    for mark, ground in product("abc", ("paper", "band")):
        assert contrast(known[f"chart-{mark}"], known[f"chart-{ground}"]) >= 3


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("place", range(CLASSES))
def test_numbers_in_coloured_cells_are_readable(theme: str, place: int) -> None:
    known = colours(theme)
    (ink,) = re.findall(rf"\.q{place} \{{[^}}]*color: var\(--(q-\w+)\)", CSS)
    assert contrast(known[ink], known[f"q{place}"]) >= 4.5


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_a_better_value_is_further_from_the_page(theme: str) -> None:
    known = colours(theme)
    steps = [contrast(known[f"q{place}"], known["chart-paper"]) for place in range(CLASSES)]
    assert steps == sorted(steps)


def test_the_best_value_has_the_last_class_in_either_direction() -> None:
    higher, lower = shades([0.7, 0.9, None]), shades([0.7, 0.9], higher_is_better=False)
    assert (higher.of(0.9), higher.of(0.7), lower.of(0.7), lower.of(0.9)) == (
        "q8",
        "q0",
        "q8",
        "q0",
    )
    assert (higher.of(None), higher.of(float("nan"))) == ("", "")
    assert shades([0.8, 0.8]).of(0.8) == "q4"
    assert [kind for kind, _ in higher.legend(Measure())] == [f"q{n}" for n in range(CLASSES)]
