"""The board of a benchmark: its published submissions, ranked.

An *entry* (`Entry`) is the input of the ranking: a submission's score and replicates. A *rank*
(`Ranked`) is its output for one entry. A *row* is one published submission on a board: `RankedRow`
is a row in the order of the board, and `Row` is the same row with everything that is shown.

Rows with evidence and claims are ranked separately, because claims have no replicates to test. A
board is ranked when it is read, so it is always up to date.

A benchmark has its own board, by the macro mean of its ranking metric, and one for each other
metric and each choice of findings (`Selection`). A row that does not cover a finding of a board has
no score there, so it is never ranked with rows that do.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

import numpy as np
from numpy.typing import NDArray

from cxreval.datasets.benchmark import BenchmarkSpec
from cxreval.errors import NotComparable, UnknownMetric
from cxreval.fields import field_error
from cxreval.manifest.model import Kind
from cxreval.metrics.finding_comparison import FindingComparison
from cxreval.metrics.ranking import Comparison, Entry, Ranked, compare, rank, rank_frequencies
from cxreval.metrics.registry import Direction
from cxreval.metrics.report import (
    FINDING_UNDEFINED,
    NOT_CLAIMED,
    NOT_COVERED,
    NOT_RECORDED,
    UNDEFINED_SHARE,
    Contamination,
    MetricValue,
    TrainingVerdict,
    macro,
)
from cxreval.metrics.scorers import SCORERS, with_interval
from cxreval.resource_names import SubmissionName
from services.registry.domain.records import Submission

PROFILE_DIGEST = "profile_digest"
"""Key of an evaluation's provenance: the digest of the preprocessing profile that was used."""

FEWEST_COMPARED, MOST_COMPARED = 2, 50
MOST_COMPARED_BY_FINDING = 10
"""Their replicates are read for each of up to 200 findings."""


@dataclass(frozen=True, slots=True)
class Selection:
    """What a board ranks by: the mean of a metric over findings.

    `findings`: those that were chosen, in the benchmark's order; empty for all, whose mean is the
    macro mean. `recorded`: whether reports have the metric's replicates. Without them rows are in
    the order of their scores, and have no ranks.
    """

    metric: str
    direction: Direction
    findings: tuple[str, ...]
    recorded: bool


@dataclass(frozen=True, slots=True, eq=False)
class Candidate:
    """A published submission before it is ranked.

    `publish_time`: when it was put on the board, by the registry's clock. `figure`: its score with
    the interval, or the reason why it has none; None on a board of all findings, because the row's
    figures have it.
    """

    kind: Kind
    entry: Entry
    publish_time: datetime
    figure: MetricValue | None = None


@dataclass(frozen=True, slots=True)
class RankedRow:
    """A row in the order of the board: a submission and its rank.

    `kind`: `CLAIM` for a claim, `CHECKPOINT` for every row with evidence. `score`: None if it is
    undefined. `sota`: the row is the state of the art. If several rows share rank 1, only the one
    with the best score is. `publish_time`, `figure`: as in `Candidate`.
    """

    submission: str
    kind: Kind
    score: float | None
    ranked: Ranked
    sota: bool
    publish_time: datetime
    figure: MetricValue | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Figures:
    """The values of a report over all images, or those of a claim, and its declared training data.

    Instances are compared by identity. A report never changes and its figures are cached, so an
    instance can be the key of a cache.
    """

    values: tuple[MetricValue, ...]
    contamination: Contamination | None = None


@dataclass(frozen=True, slots=True)
class Row:
    """A row of the board with everything that is shown.

    `score`: the figure that ranks the board; None for a claim that does not state it.
    `profile_digest`: of the preprocessing profile that was used; empty for a claim.
    `claimed_score`: the submitter's own figure for what ranks the board; None if it states none.
    """

    ranked_row: RankedRow
    submission: Submission
    figures: Figures
    score: MetricValue | None
    profile_digest: str = ""
    claimed_score: float | None = None

    @property
    def training_verdict(self) -> TrainingVerdict:
        """Whether the model was trained on images or patients of the benchmark, as declared."""
        declared = self.figures.contamination
        return declared.verdict if declared else TrainingVerdict.UNDECLARED

    @property
    def clean_figure(self) -> MetricValue | None:
        """The figure that ranks the board on the clean remainder.

        None without an overlap, and on a board of chosen findings.
        """
        declared = self.figures.contamination
        if declared is None or self.score is None or self.ranked_row.figure is not None:
            return None
        return next(
            (
                value
                for value in declared.clean_metrics
                if (value.metric, value.finding) == (self.score.metric, "")
            ),
            None,
        )

    @property
    def rank_undefined_reason(self) -> str:
        """Why the row has no rank; empty if it has one."""
        if self.ranked_row.ranked.rank is not None:
            return ""
        if self.score is None:
            return NOT_CLAIMED
        return self.score.undefined_reason or NOT_RECORDED


@dataclass(frozen=True, slots=True)
class Compared:
    """The comparison of every pair of some rows, and how often each row has each rank.

    `frequencies`: shares of the resamples by submission, rank 1 first. `undefined_replicates`:
    number of resamples that the shares leave out, because the score of every row is undefined
    there. `findings`: the same pairs by each finding, if that was requested; rows that have no
    score are compared there only.
    """

    pairs: list[Comparison]
    frequencies: Mapping[str, tuple[float, ...]]
    undefined_replicates: int
    findings: tuple[FindingComparison, ...] = ()


def selection(spec: BenchmarkSpec, metric: str = "", findings: Sequence[str] = ()) -> Selection:
    """Returns what the board of a metric and of findings ranks by.

    `metric`: one that reports of the benchmark have; empty for its ranking metric. `findings`:
    empty for all.

    Raises:
        UnknownMetric: reports of the benchmark do not have the metric.
        UnknownFinding, MalformedField: as `BenchmarkSpec.chosen`.
    """
    metric = metric or spec.ranking_metric
    directions = {item.id: item.direction for item in spec.metrics}
    if scorer := SCORERS.get(spec.scorer_version):
        directions = {name: item.direction for name, item in scorer.metrics.items()} | directions
    if metric not in directions:
        raise field_error("metric", metric, f"one of {', '.join(directions)}", UnknownMetric)
    chosen = spec.chosen(findings, "findings")
    some = () if chosen == spec.findings else chosen
    return Selection(metric, directions[metric], some, metric in spec.metric_names)


def chosen_figure(
    kind: Kind,
    board: Selection,
    scores: Mapping[str, float | None],
    replicates: NDArray[np.float64] | None,
) -> MetricValue:
    """Returns the mean over the chosen findings, with its interval or the reason for its absence.

    `scores`: the values of the findings that a submission covers or claims. `replicates`: of the
    mean, shape (replicates,); None if there are none.
    """
    missing = NOT_CLAIMED if kind is Kind.CLAIM else NOT_COVERED
    values = [scores[finding] for finding in board.findings if finding in scores]
    if len(values) < len(board.findings):
        return MetricValue(board.metric, "", None, missing)
    if None in values:
        return MetricValue(board.metric, "", None, FINDING_UNDEFINED)
    # As the macro mean of a report, to the last bit.
    mean = MetricValue(board.metric, "", float(np.mean(np.array(values, np.float64))))
    if replicates is not None:
        return with_interval(mean, replicates)
    return mean if kind is Kind.CLAIM else replace(mean, interval_undefined_reason=NOT_RECORDED)


def ranked_rows(candidates: Sequence[Candidate], board: Selection) -> tuple[RankedRow, ...]:
    """Returns the rows of a board in order: rows with evidence by rank, then claims by rank.

    The id of an entry is its submission's. Rows without a rank are the last of the first.
    """
    evidence = [candidate for candidate in candidates if candidate.kind is not Kind.CLAIM]
    claims = [candidate for candidate in candidates if candidate.kind is Kind.CLAIM]
    return (
        *_ranked_rows(Kind.CHECKPOINT, evidence, board),
        *_ranked_rows(Kind.CLAIM, claims, board),
    )


def sota_steps(board: Sequence[RankedRow]) -> tuple[RankedRow, ...]:
    """Returns the steps of the state of the art, oldest first: evidence, then claims."""
    # Every step that counts has a better score than the one before it, and the board has the best
    # row first.
    steps = [row for row in reversed(board) if row.ranked.sota_step]
    evidence = [row for row in steps if row.kind is not Kind.CLAIM]
    evidence.sort(key=lambda row: row.publish_time)
    return (*evidence, *(row for row in steps if row.kind is Kind.CLAIM))


def board_row(
    ranked_row: RankedRow,
    submission: Submission,
    reported: Figures | None,
    board: Selection,
    profile_digest: str,
) -> Row:
    """Returns a row of a board. `reported` is None for a claim."""
    figures = reported or Figures(claimed_metrics(submission))
    score = ranked_row.figure or macro(figures.values, board.metric)
    claimed = claimed_figure(submission, board)
    claimed_score = claimed.value if claimed else None
    return Row(ranked_row, submission, figures, score, profile_digest, claimed_score)


def claimed_figure(submission: Submission, board: Selection) -> MetricValue | None:
    """Returns the figure that a submission claims for what ranks a board; None if it claims none.

    On a board of chosen findings, the figure may have a reason instead of a value.
    """
    claimed = claimed_metrics(submission)
    if board.findings:
        return chosen_figure(Kind.CLAIM, board, by_finding(claimed, board.metric), None)
    return macro(claimed, board.metric)


def by_finding(values: Sequence[MetricValue], metric: str) -> dict[str, float | None]:
    """Returns the values of a metric by finding, without findings that are not covered."""
    return {
        value.finding: value.value
        for value in values
        if value.metric == metric and value.undefined_reason != NOT_COVERED
    }


def claimed_metrics(submission: Submission) -> tuple[MetricValue, ...]:
    """Returns the figures that a submission claims, as values without interval."""
    claims = submission.manifest.claimed_metrics
    return tuple(MetricValue(claim.metric, claim.finding, claim.value) for claim in claims)


def check_compared(names: Sequence[SubmissionName], benchmark: str) -> None:
    """Raises `MalformedField` unless they are 2 to 50 different submissions of the benchmark."""
    if not FEWEST_COMPARED <= len(names) <= MOST_COMPARED or len(set(names)) < len(names):
        expected = f"{FEWEST_COMPARED} to {MOST_COMPARED} different submissions"
        raise field_error("submissions", f"a list of {len(names)}", expected)
    for index, name in enumerate(names):
        if name.benchmark != benchmark:
            raise field_error(
                f"submissions[{index}]", name, f"a submission of benchmarks/{benchmark}"
            )


def check_compared_by_finding(count: int) -> None:
    """Raises `MalformedField` if more rows are named than are compared by each finding."""
    if count > MOST_COMPARED_BY_FINDING:
        expected = f"at most {MOST_COMPARED_BY_FINDING} submissions with per_finding"
        raise field_error("submissions", f"a list of {count}", expected)


def compared(entries: Sequence[Entry], direction: Direction) -> Compared:
    """Compares entries by their replicates; the result keeps their order.

    Raises:
        NotComparable: an entry is a claim or has no score, or its score is undefined in too many
            resamples.
    """
    for entry in entries:
        problem = _not_comparable(entry)
        if problem:
            raise NotComparable(
                f"submission {entry.id} cannot be compared: {problem}",
                field="submissions",
                value=entry.id,
            )
    if not entries:
        return Compared([], {}, 0)
    frequencies, undefined = rank_frequencies(entries, direction)
    shares = {
        entry.id: tuple(row.tolist()) for entry, row in zip(entries, frequencies, strict=True)
    }
    return Compared(compare(entries), shares, undefined)


def _not_comparable(entry: Entry) -> str:
    """Returns why an entry cannot be compared; empty if it can."""
    if entry.score is None:
        return "it has no score"
    if entry.replicates is None:
        return "its score was not computed here"
    undefined = int(np.isnan(entry.replicates).sum())
    if undefined <= UNDEFINED_SHARE * entry.replicates.size:
        return ""
    return f"its score is undefined in {undefined} of {entry.replicates.size} resamples"


def _ranked_rows(kind: Kind, candidates: Sequence[Candidate], board: Selection) -> list[RankedRow]:
    by_id = {candidate.entry.id: candidate for candidate in candidates}
    entries = [candidate.entry for candidate in candidates]
    ranks = rank(entries, board.direction) if board.recorded else _unranked(entries, board)
    # Best first: the first step that counts is the newest one.
    newest = next((item.id for item in ranks if item.sota_step and not item.not_counted), None)
    return [
        RankedRow(
            ranked.id,
            kind,
            by_id[ranked.id].entry.score,
            ranked,
            ranked.id == newest,
            by_id[ranked.id].publish_time,
            by_id[ranked.id].figure,
        )
        for ranked in ranks
    ]


def _unranked(entries: Sequence[Entry], board: Selection) -> list[Ranked]:
    """Returns entries in the order of their scores, best first, without ranks."""
    sign = -1 if board.direction is Direction.HIGHER_IS_BETTER else 1

    def place(entry: Entry) -> float:
        return np.inf if entry.score is None else sign * entry.score

    return [Ranked(entry.id, None) for entry in sorted(entries, key=place)]
