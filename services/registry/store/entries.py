"""The published submissions of a board, as the entries that are ranked."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime
from itertools import groupby
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import ScalarSelect, Select, Subquery, func, select
from sqlalchemy.orm import Session, aliased

from cxreval.datasets.benchmark import StepRule
from cxreval.manifest.model import Kind
from cxreval.metrics.finding_comparison import finding_entry
from cxreval.metrics.ranking import Entry, latest_day
from cxreval.metrics.report import TrainingVerdict
from cxreval.records import Change, EvaluationState, Purpose
from services.registry.domain.board import (
    Candidate,
    Figures,
    Selection,
    by_finding,
    chosen_figure,
    claimed_figure,
)
from services.registry.domain.records import ON_BOARD, Submission
from services.registry.store import records
from services.registry.store.models import (
    BenchmarkRow,
    EvaluationRow,
    EventRow,
    ReplicateRow,
    ReportRow,
    SubmissionRow,
)

S = TypeVar("S", bound=Select[*tuple[Any, ...]])

Published = frozenset[tuple[int, int | None, datetime]]
"""Numbers of the published submissions, each with its evaluation's number, None for a claim, and
its time of publication."""

_PUBLISHING = (Change.PUBLISHED, Change.REINSTATED)
"""The changes that put a row on the board."""

_STREAMED_ROWS = 64
"""Number of vectors that are in memory at once while the means over findings are computed."""

_Scores = Mapping[int | None, Mapping[str, float | None]]
"""The values of the covered findings, and of the macro mean as "", by evaluation."""


def candidates(
    session: Session,
    benchmark: BenchmarkRow,
    board: Selection,
    figures: Mapping[int, Figures],
    only: Sequence[str] | None = None,
    as_of: datetime | None = None,
) -> list[Candidate]:
    """Returns the submissions of a board to rank, oldest first.

    `figures`: those of each report, for a metric whose replicates are not recorded. `only`: ids of
    the submissions to select from; None for all. `as_of`: time of the board; None for now.
    """
    published = session.execute(
        _published(
            select(SubmissionRow, EvaluationRow.number, _publish_time(as_of)),
            benchmark,
            only,
            as_of,
        )
    ).all()
    vectors: Mapping[int, NDArray[np.float64]] = {}
    if board.recorded:
        scores = _recorded_scores(session, benchmark, board, only, as_of)
        vectors = _vectors(session, benchmark, board, only, as_of)
    else:
        scores = {number: by_finding(item.values, board.metric) for number, item in figures.items()}
    spec = records.benchmark(benchmark).spec
    findings = board.findings or spec.findings
    clean = None if spec.steps is StepRule.ANY else _clean(session, benchmark)
    found = []
    for row, evaluation, publish_time in published:
        submission = records.submission(row, benchmark, None)
        if submission.kind is Kind.CLAIM:
            found.append(_claim(submission, publish_time, board))
            continue
        of_it, vector = scores.get(evaluation, {}), vectors.get(evaluation)
        figure, score = None, of_it.get("")
        if board.findings:
            figure = chosen_figure(submission.kind, board, of_it, vector)
            score = figure.value
        entry = Entry(
            submission.id,
            score,
            publish_time,
            replicates=vector,
            finding_scores=tuple(of_it.get(finding) for finding in findings),
            counts=clean is None or evaluation in clean,
        )
        found.append(Candidate(submission.kind, entry, publish_time, figure))
    return found


def published_set(session: Session, benchmark: BenchmarkRow, as_of: datetime | None) -> Published:
    """Returns the submissions on a board with their evaluations, now or as of a time."""
    columns = SubmissionRow.number, EvaluationRow.number, _publish_time(as_of)
    query = _published(select(*columns), benchmark, as_of=as_of)
    return frozenset((number, run, time) for number, run, time in session.execute(query))


def finding_entries(
    session: Session,
    benchmark: BenchmarkRow,
    metric: str,
    finding: str,
    reported: Mapping[str, Figures],
) -> dict[str, Entry | str]:
    """Returns the entry of each row by one finding, or the reason why it has none.

    `reported`: the figures of each row's report, by submission.
    """
    query = _replicates(benchmark, metric, [*reported], None, SubmissionRow.id, ReplicateRow.vector)
    vectors = {
        submission: records.vector(vector)
        for _, submission, vector in session.execute(query.where(ReplicateRow.finding == finding))
        if vector is not None
    }
    values = {
        submission: next(
            (item for item in figures.values if (item.metric, item.finding) == (metric, finding)),
            None,
        )
        for submission, figures in reported.items()
    }
    return {
        submission: finding_entry(submission, value, vectors.get(submission))
        for submission, value in values.items()
    }


def _clean(session: Session, benchmark: BenchmarkRow) -> set[int]:
    """Returns the numbers of the evaluations whose declared training data is clean."""
    query = (
        select(ReportRow.evaluation_number)
        .join(EvaluationRow, EvaluationRow.number == ReportRow.evaluation_number)
        .join(SubmissionRow, SubmissionRow.number == EvaluationRow.submission_number)
        .where(
            SubmissionRow.benchmark_number == benchmark.number,
            ReportRow.training_verdict == TrainingVerdict.CLEAN,
        )
    )
    return set(session.scalars(query))


def with_evaluation(query: S) -> S:
    """Joins submissions with the evaluation whose report is on the board, if there is one."""
    same_submission = EvaluationRow.submission_number == SubmissionRow.number
    succeeded = (EvaluationRow.state == EvaluationState.SUCCEEDED) & (
        EvaluationRow.purpose == Purpose.MEASURE
    )
    return query.select_from(SubmissionRow).outerjoin(EvaluationRow, same_submission & succeeded)


def _publish_time(as_of: datetime | None) -> ScalarSelect[datetime]:
    """Selects when a submission was last put on the board, now or as of a time.

    A row that was withdrawn or superseded has no precedence over rows that were published while it
    was not on the board. Disputes and corrections leave a row on the board, and its time too.
    """
    event = aliased(EventRow)
    query = select(func.max(event.create_time)).where(
        event.submission_number == SubmissionRow.number, event.change.in_(_PUBLISHING)
    )
    if as_of is not None:
        query = query.where(event.create_time <= as_of)
    return query.correlate(SubmissionRow).scalar_subquery()


def _claim(submission: Submission, publish_time: datetime, board: Selection) -> Candidate:
    claimed = claimed_figure(submission, board)
    value = claimed.value if claimed else None
    entry = Entry(submission.id, value, latest_day(submission.submitted_date))
    return Candidate(submission.kind, entry, publish_time, claimed if board.findings else None)


def _recorded_scores(
    session: Session,
    benchmark: BenchmarkRow,
    board: Selection,
    only: Sequence[str] | None,
    as_of: datetime | None,
) -> _Scores:
    query = _replicates(
        benchmark, board.metric, only, as_of, ReplicateRow.finding, ReplicateRow.score
    )
    scores: defaultdict[int | None, dict[str, float | None]] = defaultdict(dict)
    for evaluation, finding, score in session.execute(query):
        scores[evaluation][finding] = score
    return scores


def _vectors(
    session: Session,
    benchmark: BenchmarkRow,
    board: Selection,
    only: Sequence[str] | None,
    as_of: datetime | None,
) -> dict[int, NDArray[np.float64]]:
    """Returns the replicates of each report's score, by evaluation, if they are complete."""
    names = board.findings or ("",)
    columns = ReplicateRow.finding, ReplicateRow.vector
    query = _replicates(benchmark, board.metric, only, as_of, *columns)
    # The rows of an evaluation follow each other. They are read a few at a time, because those of
    # all evaluations may be large.
    rows = session.execute(
        query.where(ReplicateRow.finding.in_(names)),
        execution_options={"yield_per": _STREAMED_ROWS},
    )
    vectors = {}
    for evaluation, of_it in groupby(rows, key=lambda row: row.number):
        found = {row.finding: records.vector(row.vector) for row in of_it if row.vector is not None}
        if len(found) == len(names):
            vectors[evaluation] = np.mean([found[name] for name in names], axis=0)
    return vectors


def _published(
    query: S,
    benchmark: BenchmarkRow,
    only: Sequence[str] | None = None,
    as_of: datetime | None = None,
) -> S:
    """Selects submissions on a board, now or as of a time, with their evaluations, oldest first.

    `only`: ids of the submissions to select from; None for all.
    """
    query = with_evaluation(query).where(SubmissionRow.benchmark_number == benchmark.number)
    if as_of is None:
        query = query.where(SubmissionRow.state.in_(ON_BOARD))
    else:
        last = _last_versions(as_of)
        is_last = (EventRow.submission_number == last.c.submission_number) & (
            EventRow.version == last.c.version
        )
        query = query.join(last, last.c.submission_number == SubmissionRow.number).join(
            EventRow, is_last
        )
        query = query.where(EventRow.state.in_(ON_BOARD))
    query = query.order_by(SubmissionRow.number)
    return query if only is None else query.where(SubmissionRow.id.in_(only))


def _last_versions(as_of: datetime) -> Subquery:
    """Selects the version that each submission had at a time."""
    number, version = EventRow.submission_number, func.max(EventRow.version).label("version")
    return select(number, version).where(EventRow.create_time <= as_of).group_by(number).subquery()


def _replicates(
    benchmark: BenchmarkRow,
    metric: str,
    only: Sequence[str] | None,
    as_of: datetime | None,
    *columns: Any,
) -> Select[Any]:
    """Selects the evaluation's number and `columns` of the metric's replicates on a board."""
    query = _published(select(EvaluationRow.number, *columns), benchmark, only, as_of)
    same_evaluation = ReplicateRow.evaluation_number == EvaluationRow.number
    return query.join(ReplicateRow, same_evaluation).where(ReplicateRow.metric == metric)
