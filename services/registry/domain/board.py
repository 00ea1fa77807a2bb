"""The board: published submissions, ranked whenever they are read, so that it can never be stale.

Rows with evidence and rows that are only claimed are ranked apart, never together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cxreval.metrics.ranking import Entry, Ranked, rank
from cxreval.metrics.report import MetricValue
from services.registry.domain.records import Evaluation, Kind, Submission
from services.registry.domain.report import macro

PROFILE_DIGEST = "profile_digest"
"""Key of an evaluation's provenance: the digest of the preprocessing profile that was used."""


@dataclass(frozen=True, slots=True)
class Row:
    """One row. `rank` and `score` are None when the score is undefined; `sota_step`: it broke the record."""

    submission: Submission
    metrics: tuple[MetricValue, ...]
    score: float | None
    profile_digest: str
    rank: int | None
    sota_step: bool

    @property
    def sota(self) -> bool:
        """True for the current state of the art among its kind of rows."""
        return self.rank == 1


@dataclass(frozen=True, slots=True)
class Published:
    """A published submission with the evaluation that stands behind it; a claim has none."""

    submission: Submission
    evaluation: Evaluation | None = None


def ranked_rows(published: Sequence[Published], metric: str) -> list[Row]:
    """The board: rows with evidence by rank, then claims by rank. `metric` is the one that is ranked by."""
    evidence = [item for item in published if item.submission.kind is Kind.CHECKPOINT]
    claims = [item for item in published if item.submission.kind is Kind.CLAIM]
    return [*_ranked(evidence, metric), *_ranked(claims, metric)]


def sota_steps(board: Sequence[Row]) -> list[Row]:
    """The rows that broke the record, oldest first: evidence, then claims."""
    steps = [row for row in board if row.sota_step]
    # Every step has a higher score than the one before it, so the order by score is the order in time.
    return sorted(steps, key=lambda row: (row.submission.kind is Kind.CLAIM, row.score))


def _ranked(published: Sequence[Published], metric: str) -> list[Row]:
    by_id = {item.submission.id: item for item in published}
    scores = {item.submission.id: _score(item, metric) for item in published}
    entries = [
        Entry(item.submission.id, scores[item.submission.id], item.submission.submitted_date) for item in published
    ]
    return [_row(by_id[place.id], scores[place.id], place) for place in rank(entries)]


def _row(item: Published, score: float | None, place: Ranked) -> Row:
    digest = item.evaluation.provenance.get(PROFILE_DIGEST, "") if item.evaluation else ""
    return Row(item.submission, _metrics(item), score, digest, place.rank, place.sota_step)


def _metrics(item: Published) -> tuple[MetricValue, ...]:
    if item.evaluation and item.evaluation.report:
        return item.evaluation.report.metrics
    return tuple(
        MetricValue(claim.metric, claim.finding, claim.value) for claim in item.submission.manifest.claimed_metrics
    )


def _score(item: Published, metric: str) -> float | None:
    if item.evaluation and item.evaluation.report:
        return macro(item.evaluation.report, metric)
    values = (
        claim.value
        for claim in item.submission.manifest.claimed_metrics
        if (claim.metric, claim.finding) == (metric, "")
    )
    return next(values, None)
