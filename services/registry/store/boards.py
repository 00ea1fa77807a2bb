"""Ranks and reads the board of each benchmark.

The order of a board depends only on which submissions are on it, because neither a report nor a
figure or date of a manifest ever changes. It is computed once for each set of submissions and
cached in the process. Every read asks the database whether there were new events, so a board is
never stale. The figures of the reports that were read last are cached, too.
"""

from __future__ import annotations

from collections import OrderedDict, defaultdict
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from threading import Lock
from typing import Any, TypeVar

from sqlalchemy import Select, Subquery, func, select
from sqlalchemy.orm import Session

from cxreval.errors import SubmissionNotFound
from cxreval.manifest.model import Kind
from cxreval.metrics.ranking import Entry
from cxreval.metrics.report import macro
from cxreval.records import Change, EvaluationState, SubmissionState
from cxreval.resource_names import BenchmarkName, SubmissionName
from services.chassis.principal import Principal
from services.registry.domain.board import (
    PROFILE_DIGEST,
    Compared,
    Figures,
    RankedRow,
    Row,
    board_row,
    claimed_metrics,
    compared,
    ranked_rows,
)
from services.registry.domain.corrections import correction
from services.registry.domain.records import ON_BOARD, Submission
from services.registry.store import records
from services.registry.store.benchmarks import benchmark_row
from services.registry.store.database import Database
from services.registry.store.models import (
    BenchmarkRow,
    EvaluationRow,
    EventRow,
    ReplicateRow,
    ReportRow,
    SubmissionRow,
)
from services.registry.store.tenancy import visible_to

KEPT_BOARDS = 32
"""Maximum number of boards whose order is cached."""

KEPT_REPORTS = 1000
"""Maximum number of reports whose figures are cached: about 50 KB each, with their messages."""

S = TypeVar("S", bound=Select[*tuple[Any, ...]])

K = TypeVar("K")
V = TypeVar("V")

_Published = frozenset[tuple[int, int | None]]
"""Numbers of the published submissions, each with its evaluation's number; None for a claim."""


class Boards:
    """Ranks and reads boards. Safe for concurrent use by several threads."""

    def __init__(self, database: Database) -> None:
        self._database = database
        # The order of a benchmark's board by its set of published submissions.
        self._orders: OrderedDict[tuple[str, _Published], tuple[RankedRow, ...]] = OrderedDict()
        # The current order of a benchmark's board, with the number of events that it is for.
        self._current: OrderedDict[str, tuple[int, tuple[RankedRow, ...]]] = OrderedDict()
        self._lock = Lock()
        self._figures = _FigureCache()

    def ranked_rows(
        self, parent: BenchmarkName, as_of: datetime | None = None
    ) -> tuple[RankedRow, ...]:
        """Returns the rows of a board in order, now or as of a time. Raises `BenchmarkNotFound`."""
        with self._database.reading() as session:
            benchmark = benchmark_row(session, parent)
            event_count = None if as_of else _event_count(session, benchmark)
            cached_count, order = self._current.get(parent.benchmark, (None, ()))
            if event_count is not None and cached_count == event_count:
                return order
            published = _published_set(session, benchmark, as_of)
        # One thread ranks. Threads that wait for it hold no connection, and use its result.
        with self._lock:
            cached = self._orders.get((parent.benchmark, published))
            order = self._rank(parent, as_of) if cached is None else cached
            if event_count is not None:
                _cache(self._current, parent.benchmark, (event_count, order))
        return order

    def rows(
        self, parent: BenchmarkName, page: Sequence[RankedRow], as_of: datetime | None = None
    ) -> list[Row]:
        """Returns a page of a board with everything that is shown. Raises `BenchmarkNotFound`."""
        ids = [ranked_row.submission for ranked_row in page]
        with self._database.reading() as session:
            benchmark = benchmark_row(session, parent)
            metric = records.benchmark(benchmark).spec.ranking_metric
            # In any state: the order still has a row that was withdrawn after it was computed.
            query = _with_evaluation(select(SubmissionRow, EvaluationRow))
            query = query.where(
                SubmissionRow.benchmark_number == benchmark.number, SubmissionRow.id.in_(ids)
            )
            submissions, evaluations = dict[str, Submission](), dict[str, EvaluationRow | None]()
            for row, evaluation in session.execute(query):
                submissions[row.id] = records.submission(row, benchmark, evaluation)
                evaluations[row.id] = evaluation
            if as_of:
                for submission, events in _events_until(session, ids, as_of).items():
                    submissions[submission] = _after_events(submissions[submission], events)
            numbers = [row.number for row in evaluations.values() if row]
            figures = self._figures.read(session, numbers)
        return [
            _row(
                ranked_row,
                metric,
                submissions[ranked_row.submission],
                evaluations[ranked_row.submission],
                figures,
            )
            for ranked_row in page
        ]

    def compared(
        self, parent: BenchmarkName, submissions: Sequence[SubmissionName], caller: Principal
    ) -> Compared:
        """Compares every pair of some rows; the result keeps their order.

        Raises:
            BenchmarkNotFound: the benchmark does not exist.
            SubmissionNotFound: a submission does not exist, or the caller may not read it.
            NotComparable: a submission is not published or is a claim, or its score is undefined.
        """
        ids = [name.submission for name in submissions]
        with self._database.reading() as session:
            benchmark = benchmark_row(session, parent)
            query = select(SubmissionRow.id).where(
                SubmissionRow.benchmark_number == benchmark.number, visible_to(caller)
            )
            visible = set(session.scalars(query.where(SubmissionRow.id.in_(ids))))
            for name in submissions:
                if name.submission not in visible:
                    raise SubmissionNotFound(f"{name} does not exist here", name=name)
            direction = records.benchmark(benchmark).spec.direction
            entries = {entry.id: entry for _, entry in _entries(session, benchmark, ids)}
        return compared([entries.get(item) or Entry(item, None, "") for item in ids], direction)

    def _rank(self, parent: BenchmarkName, as_of: datetime | None) -> tuple[RankedRow, ...]:
        with self._database.reading() as session:
            benchmark = benchmark_row(session, parent)
            # Read again in this transaction, because the published set may have changed.
            published = _published_set(session, benchmark, as_of)
            direction = records.benchmark(benchmark).spec.direction
            entries = _entries(session, benchmark, as_of=as_of)
        claims = [entry for kind, entry in entries if kind is Kind.CLAIM]
        evidence = [entry for kind, entry in entries if kind is not Kind.CLAIM]
        order = ranked_rows(evidence, claims, direction)
        _cache(self._orders, (parent.benchmark, published), order)
        return order


def _cache(cache: OrderedDict[K, V], key: K, value: V) -> None:
    cache[key] = value
    cache.move_to_end(key)
    if len(cache) > KEPT_BOARDS:
        cache.popitem(last=False)


def _event_count(session: Session, benchmark: BenchmarkRow) -> int:
    """Returns the number of events on a benchmark; while it is the same, so is the board."""
    # The version of a submission is the number of its events.
    query = select(func.coalesce(func.sum(SubmissionRow.version), 0))
    return int(session.scalar(query.where(SubmissionRow.benchmark_number == benchmark.number)) or 0)


class _FigureCache:
    """A cache of the figures of evaluations, by the evaluation's number."""

    def __init__(self) -> None:
        self._cached: OrderedDict[int, Figures] = OrderedDict()
        self._lock = Lock()

    def read(self, session: Session, evaluations: Sequence[int]) -> dict[int, Figures]:
        """Returns the figures of some evaluations; reads the reports that are not cached."""
        with self._lock:
            figures = {
                number: self._cached[number] for number in evaluations if number in self._cached
            }
        missing = [number for number in evaluations if number not in figures]
        if missing:
            query = select(ReportRow.evaluation_number, ReportRow.report)
            for number, report in session.execute(
                query.where(ReportRow.evaluation_number.in_(missing))
            ):
                figures[number] = Figures(records.metrics_over_all_images(report))
        with self._lock:
            for number, read in figures.items():
                # Another thread may have cached the same report; all use the same instance.
                figures[number] = self._cached.setdefault(number, read)
                self._cached.move_to_end(number)
            while len(self._cached) > KEPT_REPORTS:
                self._cached.popitem(last=False)
        return figures


def _with_evaluation(query: S) -> S:
    """Joins submissions with the evaluation whose report is on the board, if there is one."""
    same_submission = EvaluationRow.submission_number == SubmissionRow.number
    succeeded = EvaluationRow.state == EvaluationState.SUCCEEDED
    return query.select_from(SubmissionRow).outerjoin(EvaluationRow, same_submission & succeeded)


def _published(
    query: S,
    benchmark: BenchmarkRow,
    only: Sequence[str] | None = None,
    as_of: datetime | None = None,
) -> S:
    """Selects submissions on a board, now or as of a time, with their evaluations, oldest first.

    `only`: ids of the submissions to select from; None for all.
    """
    query = _with_evaluation(query).where(SubmissionRow.benchmark_number == benchmark.number)
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


def _published_set(session: Session, benchmark: BenchmarkRow, as_of: datetime | None) -> _Published:
    query = _published(select(SubmissionRow.number, EvaluationRow.number), benchmark, as_of=as_of)
    return frozenset((number, evaluation) for number, evaluation in session.execute(query))


def _last_versions(as_of: datetime) -> Subquery:
    """Selects the version that each submission had at a time."""
    number, version = EventRow.submission_number, func.max(EventRow.version).label("version")
    return select(number, version).where(EventRow.create_time <= as_of).group_by(number).subquery()


def _events_until(
    session: Session, submissions: Sequence[str], as_of: datetime
) -> dict[str, list[EventRow]]:
    """Returns the events of some submissions until a time, by submission, oldest first."""
    query = select(SubmissionRow.id, EventRow).join(
        EventRow, EventRow.submission_number == SubmissionRow.number
    )
    query = query.where(SubmissionRow.id.in_(submissions), EventRow.create_time <= as_of)
    events: defaultdict[str, list[EventRow]] = defaultdict(list)
    for submission, event in session.execute(query.order_by(EventRow.version)):
        events[submission].append(event)
    return events


def _after_events(submission: Submission, events: Sequence[EventRow]) -> Submission:
    """Returns a submission with the manifest and state that its first `events` led to."""
    manifest = submission.original
    for event in events:
        if event.change == Change.CORRECTED:
            manifest = replace(manifest, **correction(event.details))
    return replace(submission, manifest=manifest, state=SubmissionState(events[-1].state))


def _entries(
    session: Session,
    benchmark: BenchmarkRow,
    only: Sequence[str] | None = None,
    as_of: datetime | None = None,
) -> list[tuple[Kind, Entry]]:
    """Returns the entries to rank, each with its kind. `only` is as for `_published`."""
    spec = records.benchmark(benchmark).spec
    metric = spec.ranking_metric
    published = session.execute(
        _published(select(SubmissionRow, EvaluationRow.number), benchmark, only, as_of)
    ).all()
    query = _replicates(benchmark, metric, only, as_of, ReplicateRow.finding, ReplicateRow.score)
    scores: defaultdict[int | None, dict[str, float | None]] = defaultdict(dict)
    for evaluation, finding, score in session.execute(query):
        scores[evaluation][finding] = score
    query = _replicates(benchmark, metric, only, as_of, ReplicateRow.vector).where(
        ReplicateRow.finding == ""
    )
    vectors = {row.number: row.vector for row in session.execute(query)}
    entries = []
    for row, evaluation in published:
        submission, vector = records.submission(row, benchmark, None), vectors.get(evaluation)
        if submission.kind is Kind.CLAIM:
            claim = macro(claimed_metrics(submission), metric)
            entry = Entry(submission.id, claim.value if claim else None, submission.submitted_date)
        else:
            entry = Entry(
                submission.id,
                scores[evaluation].get(""),
                submission.submitted_date,
                replicates=None if vector is None else records.vector(vector),
                finding_scores=tuple(scores[evaluation].get(finding) for finding in spec.findings),
            )
        entries.append((submission.kind, entry))
    return entries


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


def _row(
    ranked_row: RankedRow,
    metric: str,
    submission: Submission,
    evaluation: EvaluationRow | None,
    figures: dict[int, Figures],
) -> Row:
    if evaluation is None:
        return board_row(ranked_row, submission, None, metric, "")
    digest = evaluation.provenance.get(PROFILE_DIGEST, "")
    return board_row(ranked_row, submission, figures.get(evaluation.number), metric, digest)
