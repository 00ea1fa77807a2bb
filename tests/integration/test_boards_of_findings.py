"""Boards of chosen findings and of each metric, over models that lack findings."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import astuple, replace
from datetime import UTC, datetime
from functools import cache
from itertools import combinations

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from numpy.typing import NDArray

from cxreval.audit.receipts import Signer
from cxreval.datasets.benchmark import ranked_by
from cxreval.datasets.truth import Truth
from cxreval.errors import MalformedBatch, ReportMismatch, UnknownFinding, UnknownMetric
from cxreval.manifest.model import ClaimedMetric, Kind
from cxreval.metrics.cohort import Cohort
from cxreval.metrics.predictions import image_rows
from cxreval.metrics.ranking import Entry, Ranked, compare, holm, rank
from cxreval.metrics.registry import METRICS
from cxreval.metrics.report import MetricValue, Report, covered_findings
from cxreval.metrics.scorers import SCORERS
from cxreval.resource_names import BenchmarkName, EvaluationName, SubmissionName
from services.chassis.principal import EVERYBODY
from services.registry.domain.board import Row, claimed_figure, selection, sota_steps
from services.registry.domain.records import PredictionBatch
from services.registry.store import boards
from services.registry.store.benchmarks import Benchmarks
from services.registry.store.boards import Boards, Choice
from services.registry.store.database import Database
from services.registry.store.evaluations import Evaluations
from services.registry.store.submissions import Submissions
from tests.support.registry import DATABASES, migrated_database, small_images, small_spec
from tests.support.system import claim, manifest, predictions

IMAGES = 60
NAMES = tuple(sorted(small_images(IMAGES)))
FINDINGS = ("Effusion", "Hernia", "Mass", "Nodule")
SPEC = replace(
    small_spec("parts", IMAGES, 200),
    findings=FINDINGS,
    patient_count=IMAGES // 2,
    metrics=ranked_by("auroc", "brier"),
    slices=(),
)
PARENT = BenchmarkName(SPEC.name)
DRAW = np.random.default_rng(11)
LABELS = DRAW.random((IMAGES, len(FINDINGS))) < 0.4
COVERED = {
    "whole": FINDINGS,
    "second": FINDINGS,
    "no hernia": ("Effusion", "Mass", "Nodule"),
    "pair": ("Hernia", "Mass"),
    "easiest": ("Hernia",),
    "table": ("Effusion", "Nodule"),
}
PROBABILITIES = {
    model: np.clip(
        (0.1 + 0.1 * number) * LABELS + (1 - 0.1 * number) * DRAW.random(LABELS.shape), 0, 1
    ).astype(np.float32)
    for number, model in enumerate(COVERED)
}
PROBABILITIES["easiest"][:, 1] = LABELS[:, 1]  # perfect: an AUROC of 1
CLAIMED = (
    ClaimedMetric("auroc", 0.6),
    *(ClaimedMetric("auroc", 0.9, finding) for finding in FINDINGS[:2]),
)
TIMES = {model: datetime(2026, 2, number + 1, tzinfo=UTC) for number, model in enumerate(COVERED)}
"""When each model is published: in the opposite order of the dates that their manifests declare."""


def columns(model: str, findings: tuple[str, ...]) -> NDArray[np.float32]:
    return PROBABILITIES[model][:, [FINDINGS.index(finding) for finding in findings]]


def truth() -> Truth:
    known, patients = np.ones_like(LABELS), np.arange(IMAGES) // 2
    cohort = Cohort(FINDINGS, LABELS, known, patients, IMAGES // 2)
    return Truth(SPEC, image_rows(NAMES), cohort)


class Store:
    """A registry's store with one benchmark, on which each model of `COVERED` is published."""

    def __init__(self, url: str) -> None:
        self.database = Database(url)
        self.time = datetime(2026, 2, 1, tzinfo=UTC)
        signer = Signer(Ed25519PrivateKey.generate())
        self.submissions = Submissions(self.database, self.now, signer)
        self.evaluations = Evaluations(self.database, self.now, signer, 60.0, 3)
        self.boards = Boards(self.database)
        benchmarks = Benchmarks(self.database, self.now)
        benchmarks.create(SPEC)
        benchmarks.record_images(PARENT, list(NAMES))

    def now(self) -> datetime:
        return self.time

    def lease(self, model: str, *, named: bool) -> tuple[EvaluationName, str]:
        """Submits and leases a checkpoint that names its findings, or a table."""
        declared = manifest(model, outputs=("", *COVERED[model])) if named else predictions(model)
        digest = format(len(model), "064x")
        declared = replace(declared, artifact_sha256=digest)
        declared = replace(declared, submitted_date=f"2026-01-{20 - TIMES[model].day}")
        created = self.submissions.create(PARENT, declared, "", EVERYBODY)
        name = SubmissionName(SPEC.name, created.id)
        self.submissions.queue(name, EVERYBODY, 8, lambda: None)
        lease = self.evaluations.lease("worker", [PARENT], EVERYBODY)
        assert lease
        return EvaluationName(SPEC.name, created.id, lease.evaluation.id), lease.token

    def append(self, leased: tuple[EvaluationName, str], rows: NDArray[np.float32]) -> None:
        """Records the predictions of all images."""
        batch = PredictionBatch(NAMES, tuple(row.astype("<f4").tobytes() for row in rows))
        self.evaluations.append(*leased, batch, EVERYBODY)

    def publish(self, model: str) -> None:
        """Publishes the predictions of a model; those of `table` as a table."""
        covered, self.time = COVERED[model], TIMES[model]
        leased = self.lease(model, named=model != "table")
        self.append(leased, columns(model, covered))
        self.evaluations.complete(*leased, report(model, covered), {}, EVERYBODY)

    def board(self, metric: str = "", findings: tuple[str, ...] = ()) -> list[Row]:
        """Returns the rows of the board of a metric and findings."""
        order = self.boards.ranked_rows(PARENT, None, (metric, findings))
        return self.boards.rows(PARENT, order, None, (metric, findings))


def report(model: str, covered: tuple[str, ...]) -> Report:
    table = truth().table(covered)
    table.add(NAMES, columns(model, covered))
    return truth().report(table)


@pytest.fixture(params=DATABASES, scope="module")
def store(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Store]:
    """A store with a row of each model, and a claim about two findings."""
    found = Store(migrated_database(request.param, tmp_path_factory.mktemp("boards")))
    for model in COVERED:
        found.publish(model)
    found.submissions.create(
        PARENT, replace(claim(), claimed_metrics=CLAIMED, submitted_date="2026-01"), "", EVERYBODY
    )
    yield found
    found.database.close()


def ran(rows: list[Row]) -> list[Row]:
    return [row for row in rows if row.submission.kind is not Kind.CLAIM]


def model(row: Row) -> str:
    return row.submission.manifest.model


SUBSETS = [chosen for size in (1, 2, 3) for chosen in combinations(FINDINGS, size)]


@cache
def benchmark_of(
    metric: str, chosen: tuple[str, ...]
) -> tuple[list[Ranked], dict[str, MetricValue]]:
    """Returns the ranks and macro means on a benchmark with exactly these findings."""
    labels = LABELS[:, [FINDINGS.index(finding) for finding in chosen]]
    known, patients = np.ones_like(labels), np.arange(IMAGES) // 2
    cohort = Cohort(chosen, labels, known, patients, IMAGES // 2)
    entries, scores = [], {}
    for name, covered in COVERED.items():
        if set(chosen) <= set(covered):
            values, evidence = SCORERS["2"].score(
                cohort, columns(name, chosen), SPEC.seed, SPEC.replicates, (metric,)
            )
            *by_finding, mean = (value for value in values if value.metric == metric)
            vector, figures = evidence.replicates[-1].values, (value.value for value in by_finding)
            entries.append(Entry(name, mean.value, TIMES[name], vector, tuple(figures)))
            scores[name] = mean
    return rank(entries, METRICS[metric].direction), scores


@pytest.mark.parametrize("metric", ["auroc", "brier"])
@pytest.mark.parametrize("chosen", SUBSETS, ids=" ".join)
def test_a_board_of_findings_ranks_like_a_benchmark_of_exactly_those(
    store: Store, metric: str, chosen: tuple[str, ...]
) -> None:
    expected, scores = benchmark_of(metric, chosen)
    rows = ran(store.board(metric, chosen))
    ranked, unranked = rows[: len(expected)], rows[len(expected) :]
    assert [replace(row.ranked_row.ranked, id=model(row)) for row in ranked] == expected
    for row in ranked:
        mean = scores[model(row)]
        assert row.score
        assert (row.score.value, row.score.interval) == (mean.value, mean.interval)
    assert {model(row) for row in unranked} == set(COVERED) - set(scores)
    assert all(row.rank_undefined_reason == "NOT_COVERED" for row in unranked)
    assert all(row.score.value is row.score.interval is None for row in unranked if row.score)


def test_no_model_that_lacks_findings_has_a_rank_on_the_whole_board(store: Store) -> None:
    rows = ran(store.board())
    assert {model(row) for row in rows[:2]} == {"whole", "second"}
    assert [row.ranked_row.ranked.rank for row in rows[2:]] == [None] * 4
    for row in rows:
        assert covered_findings(row.figures.values) == COVERED[model(row)]
        assert row.rank_undefined_reason == ("" if row in rows[:2] else "NOT_COVERED")
        assert not (row.ranked_row.sota and row in rows[2:])


def test_the_board_of_all_findings_is_the_benchmarks_own(store: Store) -> None:
    own = store.boards.ranked_rows(PARENT)
    assert len(own) == len(COVERED) + 1
    for choice in (("auroc", FINDINGS[::-1]), ("auroc", ()), ("", FINDINGS)):
        assert store.boards.ranked_rows(PARENT, None, choice) == own


def test_a_claim_is_ranked_where_it_states_each_chosen_finding(store: Store) -> None:
    (found,) = [row for row in store.board(findings=FINDINGS[:2]) if row not in ran([row])]
    assert found.score
    assert (found.score.value, found.score.interval, found.ranked_row.ranked.rank) == (0.9, None, 1)
    (found,) = [row for row in store.board(findings=FINDINGS[1:3]) if row not in ran([row])]
    assert (found.ranked_row.ranked.rank, found.rank_undefined_reason) == (None, "NOT_CLAIMED")
    (found,) = [row for row in store.board("brier") if row not in ran([row])]
    assert (found.score, found.rank_undefined_reason) == (None, "NOT_CLAIMED")


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        (("", ()), 0.6),
        (("auroc", FINDINGS[:1]), 0.9),
        (("auroc", FINDINGS[:2]), 0.9),
        (("auroc", FINDINGS[:3]), None),
        (("brier", ()), None),
    ],
)
def test_claimed_score_is_the_figure_that_the_submitter_states_for_the_board(
    store: Store, choice: Choice, expected: float | None
) -> None:
    board = selection(SPEC, *choice)
    stated = replace(claim(), claimed_metrics=CLAIMED)
    for row in store.board(*choice):
        if row.submission.kind is Kind.CLAIM:
            assert row.claimed_score == (row.score.value if row.score else None) == expected
        else:
            assert row.claimed_score is None  # these manifests claim nothing
            figure = claimed_figure(replace(row.submission, manifest=stated), board)
            assert (figure.value if figure else None) == expected


@pytest.mark.parametrize("models", [("whole", "second"), ("table", "whole", "second", "easiest")])
def test_pairs_are_compared_by_each_finding_that_both_rows_cover(
    store: Store, models: tuple[str, ...]
) -> None:
    ids = {model(row): row.submission.id for row in ran(store.board())}
    names = [SubmissionName(SPEC.name, ids[name]) for name in models]
    found = store.boards.compared(PARENT, names, EVERYBODY, per_finding=True)
    scored = [ids[name] for name in models if COVERED[name] == FINDINGS]
    assert list(found.frequencies) == scored
    assert [(pair.first, pair.second) for pair in found.pairs] == list(combinations(scored, 2))
    # As if each finding were a benchmark of its own, but for the correction.
    expected = []
    for finding in FINDINGS:
        entries = {}
        for name in models:
            if finding in COVERED[name]:
                stated = report(name, COVERED[name])
                assert stated.evidence
                vector = next(
                    item.values
                    for item in stated.evidence.replicates
                    if (item.metric, item.finding) == ("auroc", finding)
                )
                entries[name] = Entry(ids[name], stated.auroc[finding], replicates=vector)
        pairs = {(pair.first, pair.second): pair for pair in compare([*entries.values()])}
        for first, second in combinations(models, 2):
            reason = "" if {first, second} <= entries.keys() else "NOT_COVERED"
            pair = pairs.get((ids[first], ids[second]))
            expected.append((finding, ids[first], ids[second], pair, reason))
    assert any(reason for *_, reason in expected) == (len(models) > 2)
    p_values = np.array([pair.p_value for *_, pair, _ in expected if pair])
    adjusted = iter(holm(p_values).tolist())
    assert [astuple(item)[:3] for item in found.findings] == [item[:3] for item in expected]
    for item, (*_, pair, reason) in zip(found.findings, expected, strict=True):
        assert item.undefined_reason == reason
        corrected = pair and replace(pair, adjusted_p_value=next(adjusted))
        assert item.comparison == corrected


def test_a_metric_without_replicates_orders_by_score_and_ranks_nothing(store: Store) -> None:
    rows = ran(store.board("average_precision"))
    scores = [row.score.value for row in rows if row.score and row.score.value is not None]
    assert len(scores) == 2
    assert scores == sorted(scores, reverse=True)
    assert {row.ranked_row.ranked.rank for row in rows} == {None}
    assert [row.rank_undefined_reason for row in rows[:2]] == ["NOT_RECORDED"] * 2
    assert all(row.score and row.score.interval for row in rows[:2])  # the report has them
    assert sota_steps(tuple(row.ranked_row for row in rows)) == ()
    lowest = ran(store.board("calibration_error", ("Mass",)))
    values = [row.score.value for row in lowest if row.score and row.score.value is not None]
    assert values == sorted(values)
    assert [model(row) for row in lowest if row.rank_undefined_reason == "NOT_COVERED"] == [
        "easiest", "table",
    ]  # fmt: skip
    assert all(
        row.score and row.score.interval_undefined_reason == "NOT_RECORDED" for row in lowest[:4]
    )


@pytest.mark.parametrize(
    ("choice", "error"),
    [
        (("f1", ()), UnknownMetric),
        (("auroc", ("Fracture",)), UnknownFinding),
        (("", ("",)), UnknownFinding),
    ],
)
def test_an_unknown_metric_or_finding_is_refused(
    store: Store, choice: Choice, error: type[Exception]
) -> None:
    with pytest.raises(error, match="expected one of"):
        store.boards.ranked_rows(PARENT, None, choice)


def test_boards_of_findings_do_not_displace_the_boards_that_everybody_reads(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(boards, "KEPT_BOARDS", 2)
    own = store.boards.ranked_rows(PARENT)
    for chosen in SUBSETS:
        store.boards.ranked_rows(PARENT, None, ("", chosen))
    assert store.boards.ranked_rows(PARENT) is own
    first = store.boards.ranked_rows(PARENT, None, ("", SUBSETS[0]))
    assert store.boards.ranked_rows(PARENT, None, ("", SUBSETS[0])) is first


# --- what a worker may record ---------------------------------------------------------------------


@pytest.mark.parametrize("width", [0, 1, 3, 4])
def test_predictions_of_other_findings_than_the_manifest_names_are_refused(
    store: Store, width: int
) -> None:
    leased = store.lease("pair", named=True)
    with pytest.raises(MalformedBatch, match="2 probabilities per image"):
        store.append(leased, np.full((IMAGES, width), 0.5, np.float32))


def test_a_worker_cannot_report_another_coverage_than_the_manifest(store: Store) -> None:
    leased = store.lease("pair", named=True)
    store.append(leased, columns("pair", COVERED["pair"]))
    for wrong in (COVERED["easiest"], COVERED["table"], FINDINGS):
        with pytest.raises(ReportMismatch, match="output_names"):
            store.evaluations.complete(*leased, report("pair", wrong), {}, EVERYBODY)


def test_each_image_of_a_table_has_equally_many_predictions(store: Store) -> None:
    leased = store.lease("table", named=False)
    for width in (0, 5):
        with pytest.raises(MalformedBatch, match="1 to 4 probabilities"):
            store.append(leased, np.full((IMAGES, width), 0.5, np.float32))
    half = tuple(row.astype("<f4").tobytes() for row in columns("table", COVERED["table"]))
    batch = PredictionBatch(NAMES[:30], half[:30])
    store.evaluations.append(*leased, batch, EVERYBODY)
    with pytest.raises(MalformedBatch, match="2 probabilities per image"):
        store.append(leased, np.full((IMAGES, 3), 0.5, np.float32))
    # A report of as many other findings has another digest.
    store.append(leased, columns("table", COVERED["table"]))
    other = ("Hernia", "Mass")
    with pytest.raises(ReportMismatch, match="predictions_sha256"):
        store.evaluations.complete(*leased, report("table", other), {}, EVERYBODY)
    with pytest.raises(ReportMismatch, match="expected 2 covered findings"):
        store.evaluations.complete(*leased, report("table", FINDINGS), {}, EVERYBODY)
