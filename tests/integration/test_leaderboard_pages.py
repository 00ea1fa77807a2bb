"""The pages of a model, a comparison, the map of findings and an organisation, over a registry."""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from html import unescape
from itertools import pairwise
from xml.etree import ElementTree as ET

import numpy as np
import pytest

from cxreval.audit import receipts
from cxreval.client import Agreement, Kind, Verdict, WorkerClient
from cxreval.metrics.curves import RocCurve
from cxreval.metrics.ranking import ALPHA
from cxreval.metrics.thresholds import average_precision
from services.leaderboard.data import Figure
from services.leaderboard.pages import compare as comparing
from services.leaderboard.pages.benchmark import benchmark
from services.leaderboard.pages.compare import compare, finding_differences, macro_differences
from services.leaderboard.pages.findings import findings
from services.leaderboard.pages.organisation import organisation
from services.leaderboard.pages.receipt import receipt
from services.leaderboard.pages.report import precision_points
from services.leaderboard.pages.submission import submission
from services.leaderboard.parameters import Given
from services.leaderboard.problems import BadParameter, NotFound
from services.leaderboard.site import Content, SiteData
from services.leaderboard.store import Store
from services.leaderboard.templates import ABSENT
from tests.support.filled_registry import (
    ACCENTS,
    ARABIC,
    DRAW,
    FINDINGS,
    MARKUP,
    SKILLS,
    Filled,
    read,
)
from tests.support.registry import registry_service


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Filled]:
    directory = tmp_path_factory.mktemp("registry")
    with registry_service(directory) as service, WorkerClient(service.address) as client:
        yield Filled(directory, service.address, client)


@pytest.fixture(scope="module")
def data(filled: Filled, tmp_path_factory: pytest.TempPathFactory) -> SiteData:
    """What the page knows after it has read the registry once."""
    return read(filled.address, Store(tmp_path_factory.mktemp("page")))


Handler = Callable[[SiteData, dict[str, str], Given], Content]


def shown(
    handler: Handler, data: SiteData, path: Mapping[str, str], *given: tuple[str, str]
) -> str:
    """Returns a page after the checks that hold for every page."""
    content = handler(data, dict(path), given)
    assert content.status == 200
    text = content.body
    assert isinstance(text, str)
    assert "<script>" not in text
    assert "<b>Mass" not in text
    assert len(text) <= 160_000
    assert len(gzip.compress(text.encode(), 6)) <= 30_000
    tags = re.findall(r"<([a-z][a-z0-9]*)", text)
    assert len(tags) <= 3000
    ids = re.findall(r'\bid="([^"]*)"', text)
    assert len(ids) == len(set(ids))
    levels = [int(level) for level in re.findall(r"<h([1-6])", text)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    assert "style=" not in text
    assert not re.search(r"\b(nan|None|undefined\b.{0,3}object)\b", text)
    for picture in re.findall(r"<svg.*?</svg>", text, re.DOTALL):
        ET.fromstring(picture)
    return text


def identifier(name: str) -> str:
    return name.rpartition("/")[2]


def model_page(filled: Filled, data: SiteData, model: str, board: str = "whole") -> str:
    path = {"benchmark": board, "submission": identifier(filled.names[model])}
    return shown(submission, data, path)


def words(text: str) -> str:
    """Returns the text of a page as a reader sees it, without its pictures."""
    plain = re.sub(r"<svg.*?</svg>", " ", text, flags=re.DOTALL)
    return re.sub(r"\s+", " ", unescape(re.sub(r"<[^>]*>", "", plain)))


# --- model ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", [*SKILLS, "no hernia", "claim on whole"])
def test_every_model_has_a_page_whatever_its_name(
    filled: Filled, data: SiteData, model: str
) -> None:
    text = model_page(filled, data, model)
    entry = next(e for e in data.boards["whole"].entries if e.submission == filled.names[model])
    assert entry.model in words(text)


def test_a_model_page_shows_every_figure_of_its_report(filled: Filled, data: SiteData) -> None:
    text = words(model_page(filled, data, "strong"))
    evaluation = filled.client.get_evaluation(
        filled.client.get_submission(filled.names["strong"]).evaluation
    )
    assert evaluation.report
    for value in evaluation.report.metrics:
        assert value.value is not None
        assert f"{100 * value.value:.2f}" in text, value
        if value.interval and not (value.slice and value.finding):
            low, high = (100 * bound for bound in (value.interval.low, value.interval.high))
            assert f"{low:.2f} to {high:.2f}" in text, value


def test_a_model_page_says_what_is_done_to_an_image_and_how_it_ran(
    filled: Filled, data: SiteData
) -> None:
    text = model_page(filled, data, "strong")
    assert text.count('class="chain"') == 1
    assert "resized with TorchXRayVision" in words(text)
    assert "package-0==111" in text
    assert "The rest is left out here" in text  # 400 long dependencies
    assert "Time per image 4 ms" in words(re.sub("<d[dt]", " <d", text))
    assert "not a date" in text
    assert "Preprocessing" not in words(model_page(filled, data, MARKUP))


def test_a_dispute_and_a_correction_are_on_the_page_of_their_row(
    filled: Filled, data: SiteData
) -> None:
    assert f"a dispute {MARKUP}" in words(model_page(filled, data, "strong"))
    corrected = words(model_page(filled, data, ARABIC))
    assert f"a correction {MARKUP}; model: {ARABIC} 2" in corrected


def test_a_claim_shows_what_it_claims_and_no_evidence(filled: Filled, data: SiteData) -> None:
    text = model_page(filled, data, "claim on claims", "claims")
    assert "Claimed figures" in text
    assert "90.00" in words(text)
    assert "80.00" in words(text)
    assert 'id="curves"' not in text
    assert "/compare?" not in text


def test_an_undefined_score_is_explained(filled: Filled, data: SiteData) -> None:
    text = words(model_page(filled, data, "alone", "undefined"))
    assert "It has no rank" in text
    assert "a finding has no value" in text
    assert "3 of 4" in text


def test_the_change_of_an_endpoint_is_on_its_page_and_on_the_board(
    filled: Filled, data: SiteData
) -> None:
    since, now = datetime(2026, 2, 1, tzinfo=UTC), datetime(2026, 3, 3, tzinfo=UTC)
    changed = Agreement(
        "again", "first", Verdict.DIFFERS, 2, 4, False, 0.2, 0.1, "image", "Mass", 0.002, now,
        differed_since=since,
    )  # fmt: skip
    board = data.boards["whole"]
    entries = tuple(
        replace(entry, kind=Kind.ENDPOINT, replay=changed)
        if entry.submission == filled.names["strong"]
        else entry
        for entry in board.entries
    )
    drifted = replace(data, boards={**data.boards, "whole": replace(board, entries=entries)})
    line = "changed since 2026-02-01: max |Δp| 0.2 for Mass, image image; at most 0.002 agrees "
    line += "(2 of 4 images asked again 2026-03-03)"
    assert line in words(model_page(filled, drifted, "strong"))
    assert line in words(shown(benchmark, drifted, {"benchmark": "whole"}))


def test_the_receipt_is_the_one_that_the_registry_signed(filled: Filled, data: SiteData) -> None:
    path = {"benchmark": "whole", "submission": identifier(filled.names["strong"])}
    document = receipt(data, path, ()).body
    assert isinstance(document, bytes)
    signed = receipts.verify(receipts.Receipt.from_file(document), filled.client.public_key())
    assert filled.names["strong"] in json.dumps(signed)


def test_a_precision_recall_curve_is_that_of_its_scores() -> None:
    scores, labels = np.repeat(DRAW.permutation(np.arange(200)), 1), DRAW.random(200) < 0.3
    positives = int(labels.sum())
    order = np.argsort(-scores)
    hits, alarms = np.cumsum(labels[order]), np.cumsum(~labels[order])
    curve = RocCurve(
        "Mass",
        (0.0, *(alarms / (200 - positives)).tolist()),
        (0.0, *(hits / positives).tolist()),
    )
    points = precision_points(curve, positives, 200 - positives)
    found = {(round(recall, 9), round(precision, 9)) for recall, precision in points}
    expected = zip(hits / positives, hits / (hits + alarms), strict=True)
    assert {(round(r, 9), round(p, 9)) for r, p in expected} <= found
    recall, precision = map(np.array, zip(*points, strict=True))
    exact = average_precision(scores.astype(np.float32), labels)
    assert exact is not None
    assert float(np.trapezoid(precision, recall)) == pytest.approx(exact, abs=0.02)


def test_a_precision_recall_curve_starts_without_positives_at_zero() -> None:
    curve = RocCurve("Mass", (0.0, 0.5, 1.0), (0.0, 0.0, 1.0))
    assert precision_points(curve, 10, 10)[0] == (0.0, 0.0)


# --- compare --------------------------------------------------------------------------------------


def chosen(filled: Filled, *models: str) -> list[tuple[str, str]]:
    return [("s", identifier(filled.names[model])) for model in models]


@pytest.mark.parametrize("number", [2, 3, 6])
def test_differences_are_those_that_the_registry_states(
    filled: Filled, data: SiteData, number: int
) -> None:
    names = [filled.names[model] for model in list(SKILLS)[:number]]
    board = data.boards["whole"]
    entries = comparing.entries_of(board, [identifier(name) for name in names])
    rows = comparing.rows_of(data, board, entries)
    expected = filled.client.compare("whole", names)
    found = macro_differences(rows)
    for ours, theirs in zip(found, expected.pairs, strict=True):
        assert ours.estimate.value == theirs.difference
        assert (ours.estimate.low, ours.estimate.high) == (theirs.low, theirs.high)
        assert ours.p_value == theirs.adjusted_p_value
        assert ours.separable == (theirs.adjusted_p_value < ALPHA)
    shares = comparing.rank_shares(rows, board)
    assert {row.model: tuple(row.shares) for row in shares} == {
        row.name: expected.rank_frequencies[row.entry.submission] for row in rows
    }


def test_differences_of_findings_are_those_that_the_registry_states(
    filled: Filled, data: SiteData
) -> None:
    board = data.boards["whole"]
    names = [filled.names[model] for model in ("strong", MARKUP, "no hernia", ACCENTS)]
    entries = comparing.entries_of(board, [identifier(name) for name in names])
    rows = comparing.rows_of(data, board, entries)
    found = finding_differences(rows, FINDINGS)
    expected = filled.client.compare("whole", names, per_finding=True).findings
    assert any(item.comparison is None for item in expected)
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.figure == theirs.finding
        pair = theirs.comparison
        if pair is None:
            assert (ours.estimate.value, ours.p_value) == (None, None)
        else:
            estimate = ours.estimate
            assert (estimate.value, estimate.low) == (pair.difference, pair.low)
            assert (ours.p_value, ours.separable) == (pair.adjusted_p_value, pair.separable)


def test_a_comparison_says_in_words_which_row_is_better(filled: Filled, data: SiteData) -> None:
    text = shown(compare, data, {"benchmark": "whole"}, *chosen(filled, "=cmd()|calc", "strong"))
    assert "strong is better than =cmd()|calc by" in words(text)
    twins = shown(compare, data, {"benchmark": "whole"}, *chosen(filled, ACCENTS, "x" * 100))
    assert "cannot tell them apart" in twins
    six = shown(compare, data, {"benchmark": "whole"}, *chosen(filled, *SKILLS))
    assert sum(map(words(six).count, (" is better than ", " is ahead of ", " same mean."))) == 15


def test_a_row_without_a_mean_is_compared_on_the_findings_that_it_covers(
    filled: Filled, data: SiteData
) -> None:
    text = shown(compare, data, {"benchmark": "whole"}, *chosen(filled, "no hernia", "strong"))
    assert "cannot be compared in the mean: not covered by the model" in words(text)
    assert "no value: not covered by the model" in unescape(text)


def test_without_rows_a_form_offers_those_that_can_be_compared(
    filled: Filled, data: SiteData
) -> None:
    text = shown(compare, data, {"benchmark": "whole"})
    offered = set(re.findall(r'type="checkbox" name="s" value="(\w+)"', text))
    claimed = filled.names["claim on whole"], filled.names["gone"]
    on_board = {filled.names[model] for model in (*SKILLS, "no hernia")}
    assert offered == {identifier(name) for name in on_board - {*claimed}}
    for name in ("undefined", "claims", "empty"):
        assert "Two rows that were run or scored are needed" in shown(
            compare, data, {"benchmark": name}
        )


@pytest.mark.parametrize(
    "models",
    [
        ("strong",),
        ("strong", "strong"),
        ("strong", MARKUP, "strong"),
        ("strong", "claim on whole"),
        ("strong", "gone"),
        (*SKILLS, "no hernia"),
    ],
)
def test_rows_that_cannot_be_compared_are_refused(
    filled: Filled, data: SiteData, models: Sequence[str]
) -> None:
    with pytest.raises(BadParameter) as refused:
        compare(data, {"benchmark": "whole"}, chosen(filled, *models))
    assert refused.value.parameter == "s"
    assert refused.value.status == 400


def test_a_row_that_is_named_by_the_beginning_of_its_id_is_not_compared_with_itself(
    filled: Filled, data: SiteData
) -> None:
    whole = identifier(filled.names["strong"])
    with pytest.raises(BadParameter, match="twice"):
        compare(data, {"benchmark": "whole"}, [("s", whole), ("s", whole[:20])])
    with pytest.raises(NotFound):
        compare(data, {"benchmark": "whole"}, [("s", whole), ("s", "f" * 32)])


# --- findings -------------------------------------------------------------------------------------


def table_of(text: str) -> list[list[str]]:
    """Returns the cells of the map, without its header."""
    body = text[text.index("<tbody>") : text.index("</tbody>")]
    return [
        [unescape(re.sub(r"<[^>]*>", "", cell)) for cell in re.findall(r"<t[dh].*?</t[dh]>", row)]
        for row in re.findall(r"<tr.*?</tr>", body, re.DOTALL)
    ]


def test_the_map_has_every_row_with_evidence_and_every_value(
    filled: Filled, data: SiteData
) -> None:
    rows = table_of(shown(findings, data, {"benchmark": "whole"}))
    assert len(rows) == len(SKILLS) + 1
    board = data.boards["whole"]
    for cells, entry in zip(rows, board.evidence_rows, strict=True):
        figures = board.figures[entry.submission]
        expected = [figures[f"auroc|{finding}"].value for finding in ("", *FINDINGS)]
        assert cells[1] == entry.model
        assert cells[2:] == [
            ABSENT if value is None else f"{100 * value:.2f}" for value in expected
        ]


@pytest.mark.parametrize("finding", FINDINGS)
def test_the_map_is_sorted_by_a_finding_with_absent_values_last(
    data: SiteData, finding: str
) -> None:
    rows = table_of(shown(findings, data, {"benchmark": "whole"}, ("sort", finding)))
    column = [cells[3 + FINDINGS.index(finding)] for cells in rows]
    values = [float(cell) for cell in column if cell != ABSENT]
    assert values == sorted(values, reverse=True)
    assert ABSENT not in column[: len(values)]
    ranks = {cells[1]: cells[0] for cells in rows}
    unsorted = table_of(shown(findings, data, {"benchmark": "whole"}))
    assert ranks == {cells[1]: cells[0] for cells in unsorted}  # ranks stay those of the board


def test_differences_and_ranks_of_the_map_follow_from_its_values(data: SiteData) -> None:
    values, differences, ranks = (
        table_of(shown(findings, data, {"benchmark": "whole"}, ("show", show)))
        for show in ("value", "difference", "rank")
    )
    for column in range(2, 3 + len(FINDINGS)):
        numbers = [float(row[column]) for row in values if row[column] != ABSENT]
        for value, difference, rank in zip(values, differences, ranks, strict=True):
            if value[column] == ABSENT:
                assert difference[column] == rank[column] == ABSENT
                continue
            number = float(value[column])
            shown_difference = float(difference[column].replace("\N{MINUS SIGN}", "-"))
            assert shown_difference == pytest.approx(number - max(numbers), abs=0.011)
            assert int(rank[column]) <= 1 + sum(other > number - 0.01 for other in numbers)
            assert int(rank[column]) >= 1 + sum(other > number for other in numbers)


def test_the_map_of_a_board_without_evidence_says_so(data: SiteData) -> None:
    for name in ("claims", "empty"):
        assert "No model has been run or scored" in shown(findings, data, {"benchmark": name})
    assert table_of(shown(findings, data, {"benchmark": "undefined"}))[0][4] == ABSENT


def test_claims_with_figures_of_findings_are_below_the_map_and_never_in_it(data: SiteData) -> None:
    text = shown(findings, data, {"benchmark": "nih-chestxray14"})
    board = data.boards["nih-chestxray14"]
    rows = table_of(text[text.index("Only claimed") :])
    stated = [
        [f"{100 * figure.value:.2f}" if figure.value is not None else ABSENT for figure in of_it]
        for entry in board.claims
        for of_it in [
            [
                board.figures[entry.submission].get(f"auroc|{name}", Figure(None))
                for name in ("", *board.spec.findings)
            ]
        ]
        if any(figure.value is not None for figure in of_it[1:])
    ]
    assert stated
    assert [cells[2:] for cells in rows] == stated
    whole = shown(findings, data, {"benchmark": "whole"})
    assert "claim on whole" not in whole  # it states a mean only


@pytest.mark.parametrize(
    "given", [("sort", "hernia"), ("show", "all"), ("page", "0"), ("column", "Hernia")]
)
def test_a_wrong_parameter_of_the_map_is_refused(data: SiteData, given: tuple[str, str]) -> None:
    with pytest.raises(BadParameter):
        findings(data, {"benchmark": "whole"}, [given])


def test_a_board_of_many_rows_and_findings_stays_small(data: SiteData) -> None:
    board = data.boards["whole"]
    names = tuple(f"Finding {number}" for number in range(200))
    entry = board.evidence_rows[0]
    entries = tuple(
        replace(entry, submission=f"benchmarks/whole/submissions/{number:032x}")
        for number in range(300)
    )
    figure = board.figures[entry.submission]["auroc|"]
    row = {f"auroc|{name}": figure for name in ("", *names)}
    large = replace(
        board,
        spec=replace(board.spec, findings=names),
        entries=entries,
        figures={each.submission: row for each in entries},
    )
    site = replace(data, boards={"whole": large})
    shown(findings, site, {"benchmark": "whole"}, ("page", "30"))
    with pytest.raises(NotFound):
        findings(site, {"benchmark": "whole"}, [("page", "31")])
    wide = replace(board, spec=replace(board.spec, findings=names))
    path = {"benchmark": "whole", "submission": identifier(entry.submission)}
    site = replace(data, boards={"whole": wide})
    assert "197\N{EN DASH}200" in shown(submission, site, path, ("part", "15"))
    with pytest.raises(NotFound):
        submission(site, path, [("part", "16")])


# --- organisation ---------------------------------------------------------------------------------


def test_an_organisation_has_its_own_rows_and_those_that_were_removed(
    filled: Filled, data: SiteData
) -> None:
    text = shown(organisation, data, {"benchmark": "whole"}, ("name", "Group"))
    linked = set(re.findall(r'<th scope="row"><a href="/b/whole/m/(\w+)"', text))
    models = ("strong", ARABIC, "=cmd()|calc", ACCENTS, "x" * 100, "no hernia")
    assert linked == {identifier(filled.names[model]) for model in models}
    assert "gone: withdrawn" in words(text)
    strange = shown(organisation, data, {"benchmark": "whole"}, ("name", MARKUP))
    assert words(strange).index("Rows, latest first") < words(strange).index("Only claimed")


def test_without_a_name_every_organisation_is_listed(data: SiteData) -> None:
    text = shown(organisation, data, {"benchmark": "whole"})
    assert "Group: 6 rows" in words(text)
    assert "No organisation" in shown(organisation, data, {"benchmark": "empty"})


def test_an_unknown_organisation_gets_the_nearest_name(data: SiteData) -> None:
    with pytest.raises(NotFound, match="Did you mean 'Group'"):
        organisation(data, {"benchmark": "whole"}, [("name", "Groop")])
    with pytest.raises(BadParameter):
        organisation(data, {"benchmark": "whole"}, [("name", "x" * 101)])
