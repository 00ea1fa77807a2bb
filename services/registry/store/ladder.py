"""The ladder: whether the figures of a further submission of an organisation are released."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby

from sqlalchemy import select
from sqlalchemy.orm import Session

from cxreval.errors import NoSignificantChange
from cxreval.metrics.ladder import FindingScore, Scores, released
from cxreval.metrics.report import Report
from cxreval.records import EvaluationState, Failure, Fault
from cxreval.resource_names import BenchmarkName
from services.registry.store import records
from services.registry.store.models import (
    BenchmarkRow,
    EvaluationRow,
    ReplicateRow,
    SubmissionRow,
)

_STREAMED_ROWS = 64


def is_released(
    session: Session, submission: SubmissionRow, benchmark: BenchmarkRow, report: Report
) -> bool:
    """Returns whether a report is significantly better than the organisation's earlier ones.

    Submissions without an organisation are taken as those of one. The benchmark's row is locked, so
    that two submissions that end at once are compared with each other.
    """
    session.refresh(benchmark, with_for_update={"key_share": True})
    spec = records.benchmark(benchmark).spec
    evidence = report.evidence.replicates if report.evidence else ()
    values = report.values(spec.ranking_metric)
    scores = {
        item.finding: FindingScore(score, item.values)
        for item in evidence
        if item.metric == spec.ranking_metric and (score := values.get(item.finding)) is not None
    }
    return released(scores, _earlier(session, submission, spec.ranking_metric), spec.direction)


def no_significant_change(benchmark: BenchmarkName) -> Failure:
    """Returns why a submission is not published; it states no figure."""
    message = (
        f"no significant change: {benchmark} has the ladder, and this submission is not "
        "significantly better than every earlier one of your organisation, so its figures are "
        "withheld"
    )
    return Failure(NoSignificantChange.reason, message, Fault.SUBMISSION)


def _earlier(session: Session, submission: SubmissionRow, metric: str) -> Iterator[Scores]:
    """Yields the scores of each report of the organisation's other submissions, also of withdrawn
    ones."""
    columns = ReplicateRow.finding, ReplicateRow.score, ReplicateRow.vector
    query = (
        select(EvaluationRow.number, *columns)
        .join(SubmissionRow, SubmissionRow.number == EvaluationRow.submission_number)
        .join(ReplicateRow, ReplicateRow.evaluation_number == EvaluationRow.number)
        .where(
            SubmissionRow.benchmark_number == submission.benchmark_number,
            SubmissionRow.organisation == submission.organisation
            if submission.organisation
            else SubmissionRow.organisation.is_(None),
            SubmissionRow.number != submission.number,
            EvaluationRow.state == EvaluationState.SUCCEEDED,
            ReplicateRow.metric == metric,
            ReplicateRow.finding != "",
        )
        .order_by(EvaluationRow.number, ReplicateRow.place)
    )
    rows = session.execute(query, execution_options={"yield_per": _STREAMED_ROWS})
    for _, of_it in groupby(rows, key=lambda row: row.number):
        yield {
            row.finding: FindingScore(row.score, records.vector(row.vector))
            for row in of_it
            if row.score is not None and row.vector is not None
        }
