"""Every chart: well-formed for any text and any figure, small, and without a label on another."""

import math
import re
import xml.etree.ElementTree as ET
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from itertools import combinations, cycle, islice, pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from markupsafe import Markup

from services.leaderboard.charts import (
    badge,
    curves,
    differences,
    findings,
    preview,
    progress,
    ranks,
    slices,
    svg,
    timeline,
    whisker,
)
from services.leaderboard.charts.scales import Estimate, Measure

AUROC = Measure()
BRIER = Measure("Brier score", higher_is_better=False)
START = datetime(2023, 3, 14, tzinfo=UTC)
LONGEST = "W" * 200
NAMES = [
    LONGEST,
    "<img src=x onerror=alert(1)>",
    "\"'&]]>",
    "مستشفى الملك فهد التخصصي ومركز الأبحاث",
    "胸部放射線写真分類器の非常に長い名前のモデル第二版",
    "Z" + "\N{COMBINING ACUTE ACCENT}" * 100,
    "\N{WOMAN}\N{ZERO WIDTH JOINER}\N{STAFF OF AESCULAPIUS} \N{SKULL}" * 12,
    "a\x00\x1b\ufffe\ud800\u202eb",
    "=cmd|calc",
    "",
    "Thumbnail",
]
LOOKS = (progress.Look.SIGNIFICANT, progress.Look.WITHIN_NOISE, progress.Look.NOT_TESTED)

Drawing = Callable[[Sequence[str], Sequence[Estimate], int], Markup]


def draw_findings(names: Sequence[str], estimates: Sequence[Estimate], width: int) -> Markup:
    rows = [
        findings.Finding(name, estimate, estimates[0], 1234, None)
        for name, estimate in zip(names, estimates, strict=True)
    ]
    return findings.chart(rows, AUROC, model=names[0], other=names[-1], width=width)


def draw_slices(names: Sequence[str], estimates: Sequence[Estimate], width: int) -> Markup:
    parts = [
        slices.Slice(name[:1], name, estimate, 25_596)
        for name, estimate in zip(names, estimates, strict=True)
    ]
    return slices.chart(parts, AUROC, estimates[0], width=width)


def draw_differences(names: Sequence[str], estimates: Sequence[Estimate], width: int) -> Markup:
    rows = [
        differences.Difference(name, names[0], names[-1], estimate, 0.04, True)
        for name, estimate in zip(names, estimates, strict=True)
    ]
    return differences.chart(rows, AUROC, width=width)


def draw_pairs(names: Sequence[str], estimates: Sequence[Estimate], width: int) -> Markup:
    rows = [
        differences.Difference("Macro mean", name, names[0], estimate, None, None)
        for name, estimate in zip(names, estimates, strict=True)
    ]
    return differences.chart(rows, BRIER, width=width)


def draw_ranks(names: Sequence[str], estimates: Sequence[Estimate], width: int) -> Markup:
    rows = [
        ranks.RankShares(name, [e.value if e.value is not None else math.nan for e in estimates])
        for name in names[:60]
    ]
    return ranks.chart(rows, width=width)


def draw_timeline(names: Sequence[str], _: Sequence[Estimate], width: int) -> Markup:
    events = [
        timeline.Event(name, START + timedelta(seconds=4**place % 10**9), name)
        for place, name in enumerate(names)
    ]
    return timeline.chart(events, width=width)


def draw_progress(names: Sequence[str], estimates: Sequence[Estimate], width: int) -> Markup:
    return progress.chart(entries(names, estimates), AUROC, width=width)


def entries(names: Sequence[str], estimates: Sequence[Estimate]) -> list[progress.Entry]:
    """Returns entries of which every second one is a step, and every fourth one a claim."""
    rows = []
    for place, (name, estimate) in enumerate(zip(names, estimates, strict=True)):
        look = LOOKS[place % 3] if place % 2 == 0 else progress.Look.ENTRY
        look = progress.Look.CLAIM if place % 4 == 3 else look
        look = look if place else progress.Look.FIRST
        rows.append(progress.Entry(name, START + timedelta(days=17 * place), estimate, look))
    return rows


def panels(curve: Callable[..., Markup]) -> Drawing:
    def draw(names: Sequence[str], estimates: Sequence[Estimate], _: int) -> Markup:
        points = [(e.value or 0.0, e.low or 0.0) for e in estimates]
        images = [place**3 for place in range(len(points))]
        drawn = [
            curves.Curve(name, points, estimate.value, estimate.low, images)
            for name, estimate in islice(zip(names, estimates, strict=True), 15)
        ]
        return curve([*drawn, curves.Curve(names[0], (), None, reason=names[-1])], AUROC)

    return draw


def draw_whiskers(_: Sequence[str], estimates: Sequence[Estimate], __: int) -> Markup:
    span = whisker.axis(estimates, AUROC)
    rows = [whisker.row(estimate, span, claim=estimate.low is None) for estimate in estimates]
    return Markup("<p>{}{}</p>").format(whisker.header(span, AUROC), Markup("").join(rows))


def draw_badge(names: Sequence[str], _: Sequence[Estimate], __: int) -> Markup:
    return badge.chart(names[0], names[-1])


def draw_preview(names: Sequence[str], estimates: Sequence[Estimate], _: int) -> Markup:
    return preview.chart(a_preview(names, estimates))


def a_preview(names: Sequence[str], estimates: Sequence[Estimate]) -> preview.Preview:
    span = whisker.axis(estimates, AUROC)
    title, model = (names[0], "nih"), (names[-1], "submissions/4f")
    return preview.Preview(title, model, "Rank =1 of 12", estimates[0], span, AUROC)


DRAWINGS: dict[str, Drawing] = {
    "findings": draw_findings,
    "slices": draw_slices,
    "differences": draw_differences,
    "pairs": draw_pairs,
    "ranks": draw_ranks,
    "timeline": draw_timeline,
    "progress": draw_progress,
    "roc": panels(curves.roc),
    "precision-recall": panels(curves.precision_recall),
    "calibration": panels(curves.calibration),
    "whisker": draw_whiskers,
    "badge": draw_badge,
    "preview": draw_preview,
}

each_drawing = pytest.mark.parametrize("kind", DRAWINGS)
each_width = pytest.mark.parametrize("width", [svg.WIDE, svg.NARROW])


def rows_of(number: int) -> tuple[list[str], list[Estimate]]:
    """Returns names and estimates; those of later rows are better, with little steps at the end."""
    values = [0.9 - 0.3 / (1 + place / 3) for place in range(number)]
    estimates = [Estimate(value, value - 0.02, value + 0.015) for value in values]
    return list(islice(cycle(NAMES), number)), estimates


def elements(picture: Markup) -> list[ET.Element]:
    return list(ET.fromstring(f"<div>{picture}</div>").iter())


def local(element: ET.Element) -> str:
    return element.tag.rpartition("}")[2]


def labels(picture: ET.Element) -> list[svg.Label]:
    """Returns the labels of one picture; turned ones, whose place no stranger's text moves, not."""
    found = []
    for element in picture.iter():
        if local(element) != "text" or "transform" in element.attrib:
            continue
        words = (element.text or "") + "".join(child.tail or "" for child in element)
        kinds = element.get("class", "").split()
        size = float(element.get("font-size", svg.SMALL if "small" in kinds else svg.SIZE))
        kind = "bold" if "bold" in kinds else ""
        anchor = element.get("text-anchor", "start")
        place = float(element.get("x", 0)), float(element.get("y", 0))
        found.append(svg.Label(*place, words, kind, anchor, size=size))
    return found


@each_drawing
@each_width
@pytest.mark.parametrize("number", [1, 2, 4, 15, 200])
def test_no_label_is_cut_or_covers_another(kind: str, width: int, number: int) -> None:
    drawn = DRAWINGS[kind](*rows_of(number), width)
    for picture in elements(drawn):
        if local(picture) != "svg" or kind == "badge":
            continue
        _, _, right, bottom = map(float, picture.attrib["viewBox"].split())
        found = labels(picture)
        for label in found:
            assert label.box.left >= -0.2, label
            assert label.box.top >= -0.2, label
            assert label.box.right <= right + 0.2, label
            assert label.box.bottom <= bottom + 0.2, label
        boxes = [(label, label.box) for label in found if label.words]
        covering = [(a, b) for (a, one), (b, two) in combinations(boxes, 2) if near(one).meets(two)]
        assert not covering


def near(box: svg.Box) -> svg.Box:
    """Returns the box less the rounding of coordinates to one decimal."""
    return svg.Box(box.left + 0.2, box.top + 0.2, box.right - 0.2, box.bottom - 0.2)


VALUES = st.none() | st.floats() | st.floats(0, 1)
ROWS = st.lists(
    st.tuples(
        st.text(st.characters(codec=None, exclude_categories=()), max_size=60),
        st.builds(Estimate, VALUES, VALUES, VALUES),
    ),
    min_size=1,
    max_size=5,
)


ELEMENTS = {
    "div", "p", "svg", "title", "desc", "g", "use", "path", "circle", "rect", "text",
}  # fmt: skip


@each_drawing
@each_width
@given(rows=ROWS)
@settings(max_examples=25)
def test_any_text_and_any_figure_give_a_well_formed_picture(
    kind: str, width: int, rows: list[tuple[str, Estimate]]
) -> None:
    names, estimates = [name for name, _ in rows], [estimate for _, estimate in rows]
    drawn = DRAWINGS[kind](names, estimates, width)
    assert drawn == DRAWINGS[kind](names, estimates, width)
    drawn.encode("utf-8")
    for element in elements(drawn):
        assert local(element) in ELEMENTS
        assert not {"style", "onload"} & set(element.attrib)
        assert re.fullmatch(r"(#[a-z-]+)?", element.get("href", ""))
        for name in ("d", "x", "y", "cx", "cy", "r", "width", "height", "viewBox", "transform"):
            words = re.findall(r"[a-z]{2,}", element.get(name, ""))
            assert set(words) <= {"translate", "rotate"}
        for name in ("width", "height"):
            assert float(element.get(name, 0)) >= 0


@each_drawing
def test_a_picture_has_a_title_a_description_and_ids_of_its_own(kind: str) -> None:
    drawn = elements(DRAWINGS[kind](*rows_of(4), svg.WIDE))
    ids = [element.attrib["id"] for element in drawn if "id" in element.attrib]
    assert len(ids) == len(set(ids))
    for picture in drawn:
        if local(picture) == "svg" and picture.get("aria-hidden") != "true":
            assert picture.attrib["role"] == "img"
            named = picture.attrib["aria-labelledby"].split()
            texts = {e.get("id"): e.text for e in picture if local(e) in {"title", "desc"}}
            assert all(texts[name] for name in named)


def test_hostile_names_are_text_and_nothing_else() -> None:
    for kind, draw in DRAWINGS.items():
        drawn = draw(*rows_of(11), svg.WIDE)
        assert "<img" not in drawn, kind
        assert not re.search(r"[\x00-\x08\x0b-\x1f\ufffe\ud800-\udfff\u202e]", drawn), kind


def test_a_whisker_of_the_board_is_tiny() -> None:
    _, estimates = rows_of(100)
    span = whisker.axis(estimates, AUROC)
    assert max(len(whisker.row(estimate, span)) for estimate in estimates) < 250


def test_a_whisker_outside_of_the_axis_has_no_end() -> None:
    inside = whisker.row(Estimate(0.8, 0.75, 0.85), (0.7, 0.9))
    outside = whisker.row(Estimate(0.8, 0.6, 0.85), (0.7, 0.9))
    assert (inside.count("v8"), outside.count("v8")) == (2, 1)


def large_board(number: int, steps: int) -> list[progress.Entry]:
    rows = []
    for place in range(number):
        value = 0.7 + 0.15 * math.sin(place) ** 2
        look = progress.Look.ENTRY
        if place % (number // steps) == 0:
            value, look = 0.86 + place / number / 10, LOOKS[place % 3]
        time = START + timedelta(hours=61 * place)
        estimate = Estimate(value, value - 0.02, value + 0.02)
        rows.append(progress.Entry(f"{place} DenseNet-121 of a laboratory", time, estimate, look))
    return rows


def test_a_thousand_rows_make_a_small_picture() -> None:
    rows = large_board(1000, 25)

    def draw(width: int, prefix: str) -> Markup:
        return progress.chart(rows, AUROC, width=width, prefix=prefix)

    both = svg.both(draw, "p")
    assert len(both) < 42_000
    assert len(elements(both)) < 400


def test_a_thousand_steps_are_few_elements() -> None:
    picture = progress.chart(large_board(1000, 1000), AUROC)
    assert len(elements(picture)) < 200


def test_fourteen_findings_and_curves_are_small() -> None:
    names, estimates = [f"Finding number {n}" for n in range(14)], rows_of(14)[1]
    assert len(draw_findings(names, estimates, svg.WIDE)) < 12_000
    chance = np.random.default_rng(1)
    positive = chance.random(20_000) < 0.04
    order = np.argsort(-(chance.normal(size=20_000) + 1.2 * positive))
    shares = [np.cumsum(found[order]) / found.sum() for found in (~positive, positive)]
    points = np.column_stack(shares).tolist()
    drawn = curves.roc([curves.Curve(name, points, 0.8) for name in names], AUROC)
    assert len(drawn) < 24_000


def test_names_stand_beside_few_steps_and_numbers_beside_many() -> None:
    few = progress.chart(entries(["Alpha", "", "Beta", "", "Gamma"], rows_of(5)[1]), AUROC)
    assert re.findall(r">(?:[^<]*</title>)?(Alpha|Beta|Gamma)", few)
    shown = [label.words for label in labels(ET.fromstring(str(few)))]
    assert [w.partition("\u200e")[0] for w in shown if "\u200e" in w] == ["Alpha", "Beta", "Gamma"]
    many = labels(ET.fromstring(str(progress.chart(large_board(300, 30), AUROC))))
    numbers = {label.words for label in many if label.words.isdigit()}
    assert {"1", "2", "29"} <= numbers
    assert any(label.words.startswith("30 ") for label in many)


def test_the_looks_of_rows_differ_in_shape_or_fill_and_the_legend_names_them() -> None:
    rows = []
    for place, look in enumerate(progress.Look):
        time = START + timedelta(days=30 * place)
        rows.append(progress.Entry(look.name, time, Estimate(0.7 + place / 50), look))
    picture = ET.fromstring(str(progress.chart(rows, AUROC)))
    words = {label.words for label in labels(picture)}
    assert {look.value for look in progress.Look} <= words
    legend = [e for e in picture.iter() if e.get("class", "").startswith("mark") and not len(e)]
    shapes = {(e.attrib["class"], re.sub(r"^M\S+ \S+", "", e.attrib["d"])) for e in legend}
    assert len(shapes) == len(progress.Look)


def test_later_rows_than_the_end_of_the_axis_are_counted() -> None:
    rows = entries(*rows_of(4))
    picture = progress.chart(rows, AUROC, until=START + timedelta(days=20))
    assert "2 rows are not drawn" in picture
    assert "not drawn" not in progress.chart(rows, AUROC)
    assert "No row has a score" in progress.chart([], AUROC)


def test_a_difference_says_in_words_which_row_is_better() -> None:
    gain = differences.Difference("Macro mean", "A", "B", Estimate(0.02, 0.01, 0.03), 0.0001, True)
    assert differences.verdict(gain, AUROC) == "A better"
    assert differences.verdict(gain, BRIER) == "B better"
    assert "← B better" in differences.chart([gain], AUROC)
    assert "← A better" in differences.chart([gain], BRIER)
    loss = differences.Difference("Macro mean", "A", "B", Estimate(-0.02), 0.4, False)
    assert differences.verdict(loss, AUROC) == "B better, not separable"
    assert differences.table([gain], AUROC).rows[0][3:6] == ("+2.00", "1.00 to 3.00", "< 0.001")


@given(st.lists(st.tuples(st.floats(0, 100), st.floats(0, 100)), min_size=2, max_size=60))
def test_a_thinned_curve_stays_within_its_tolerance(points: list[tuple[float, float]]) -> None:
    whole = np.array(points)
    kept = curves.thinned(whole, 0.35)
    assert (kept[0] == whole[0]).all()
    assert (kept[-1] == whole[-1]).all()
    for point in whole:
        gaps = [curves._distances(point[None], *ends)[0] for ends in pairwise(kept)]
        assert min(gaps) <= 0.35 + 1e-6


def test_a_point_beyond_the_tolerance_is_kept_and_one_within_is_not() -> None:
    points = np.array([(0, 0), (10, 0.36), (20, 0), (30, 0.34), (40, 0)])
    assert curves.thinned(points, 0.35)[:, 0].tolist() == [0, 10, 40]


def test_a_curve_without_points_says_why() -> None:
    picture = curves.roc([curves.Curve("Hernia", (), None, reason="no positive image")], AUROC)
    assert "no curve, no positive image" in picture


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.04, "0.0 s"),
        (59.97, "1 min"),
        (61, "1 min 1 s"),
        (7500, "2 h 5 min"),
        (86400 * 41, "41 days"),
        (86400 * 2000, "5.5 years"),
    ],
)
def test_time_spans_are_in_the_units_that_matter(seconds: float, words: str) -> None:
    assert timeline.duration(seconds) == words


def test_of_many_events_the_middle_is_left_out_of_the_picture_and_not_of_the_table() -> None:
    events = [timeline.Event(f"event {n}", START + timedelta(minutes=n)) for n in range(500)]
    assert "476 events are left out" in timeline.chart(events)
    assert len(timeline.table(events).rows) == 500


def test_every_table_has_as_many_cells_as_its_header() -> None:
    names, estimates = rows_of(6)
    pairs = list(zip(names, estimates, strict=True))
    tables = [
        findings.table([findings.Finding(n, e) for n, e in pairs], AUROC, model="A"),
        slices.table([slices.Slice("sex", n, e) for n, e in pairs], AUROC, estimates[0]),
        differences.table([differences.Difference("x", n, "B", e) for n, e in pairs], AUROC),
        ranks.table([ranks.RankShares("A", (1.0, 0.0)), ranks.RankShares("B", (0.995,))]),
        progress.table(entries(names, estimates), AUROC),
        curves.table([curves.Curve(n, (), e.value) for n, e in pairs], AUROC),
        timeline.table([timeline.Event("A", START)]),
    ]
    for table in tables:
        assert table.rows
        assert {len(row) for row in table.rows} == {len(table.header)}


def test_the_preview_is_a_png_and_replaces_names_that_its_font_lacks() -> None:
    names, estimates = rows_of(4)
    file = preview.png(a_preview(names, estimates))
    assert file[:8] == b"\x89PNG\r\n\x1a\n"
    assert (int.from_bytes(file[16:20]), int.from_bytes(file[20:24])) == (1200, 630)
    assert len(file) < 60_000
    assert preview._ascii("Modèle no 5", "id") == "Modele no 5"
    assert preview._ascii("胸部", "submissions/4f") == "submissions/4f"
