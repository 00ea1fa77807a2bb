"""Ranks and reads the board of each benchmark.

The order of a board depends only on which submissions are on it and since when, because neither a
report nor a figure or date of a manifest ever changes. It is computed once for each set of
submissions with their times and cached in the process. Every read asks the database whether there
were new events, so a board is never stale. The figures of the reports that were read last are
cached, too.
"""

from __future__ import annotations

from collections import OrderedDict, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from threading import Lock
from typing import TypeVar

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from cxreval.errors import SubmissionNotFound
from cxreval.manifest.model import Kind
from cxreval.metrics.finding_comparison import FindingComparison, compared_by_finding
from cxreval.metrics.ranking import Entry
from cxreval.records import Agreement, Change, Purpose, SubmissionState
from cxreval.resource_names import BenchmarkName, SubmissionName
from services.chassis.principal import Principal
from services.registry.domain.agreements import tier as evidence_tier
from services.registry.domain.board import (
    PROFILE_DIGEST,
    Compared,
    Figures,
    RankedRow,
    Row,
    Selection,
    board_row,
    compared,
    ranked_rows,
    selection,
)
from services.registry.domain.corrections import correction
from services.registry.domain.records import Submission
from services.registry.store import records
from services.registry.store.benchmarks import benchmark_row
from services.registry.store.database import Database
from services.registry.store.entries import (
    Published,
    candidates,
    finding_entries,
    published_set,
    with_evaluation,
)
from services.registry.store.models import (
    BenchmarkRow,
    EvaluationRow,
    EventRow,
    ReportRow,
    SubmissionRow,
)
from services.registry.store.tenancy import visible_to

KEPT_BOARDS = 32
"""Maximum number of boards whose order is cached."""

KEPT_REPORTS = 1000
"""Maximum number of reports whose figures are cached: about 50 KB each, with their messages."""

K = TypeVar("K")
V = TypeVar("V")

Choice = tuple[str, tuple[str, ...]]
"""A metric, empty for the benchmark's own, and findings, empty for all; `selection` checks it."""

OWN: Choice = ("", ())
"""The choice of a benchmark's own board."""

_Board = tuple[str, Selection]


class _Orders:
    """The orders of boards that were ranked last. One thread ranks at a time."""

    def __init__(self) -> None:
        # The order of a board by its set of published submissions.
        self.ranked: OrderedDict[tuple[_Board, Published], tuple[RankedRow, ...]] = OrderedDict()
        # The current order of a board, with the number of events that it is for.
        self.current: OrderedDict[_Board, tuple[int, tuple[RankedRow, ...]]] = OrderedDict()
        self.lock = Lock()


class Boards:
    """Ranks and reads boards. Safe for concurrent use by several threads."""

    def __init__(self, database: Database) -> None:
        self._database = database
        # There are very many choices of findings. They must not displace the boards that everybody
        # reads, nor make their readers wait.
        self._own, self._selected = _Orders(), _Orders()
        self._figures = _FigureCache()

    def ranked_rows(
        self, parent: BenchmarkName, as_of: datetime | None = None, choice: Choice = OWN
    ) -> tuple[RankedRow, ...]:
        """Returns the rows of a board in order, now or as of a time.

        Raises:
            BenchmarkNotFound: the benchmark does not exist.
            UnknownMetric, UnknownFinding, MalformedField: as `selection`.
        """
        with self._database.reading() as session:
            benchmark = benchmark_row(session, parent)
            board = selection(records.benchmark(benchmark).spec, *choice)
            key = parent.benchmark, board
            orders = self._own if choice == OWN else self._selected
            event_count = None if as_of else _event_count(session, benchmark)
            cached_count, order = orders.current.get(key, (None, ()))
            if event_count is not None and cached_count == event_count:
                return order
            published = published_set(session, benchmark, as_of)
        # One thread ranks. Threads that wait for it hold no connection, and use its result.
        with orders.lock:
            cached = orders.ranked.get((key, published))
            order = self._rank(parent, board, orders, as_of) if cached is None else cached
            if event_count is not None:
                _cache(orders.current, key, (event_count, order))
        return order

    def rows(
        self,
        parent: BenchmarkName,
        page: Sequence[RankedRow],
        as_of: datetime | None = None,
        choice: Choice = OWN,
    ) -> list[Row]:
        """Returns a page of a board with everything that is shown. Raises as `ranked_rows`."""
        ids = [ranked_row.submission for ranked_row in page]
        with self._database.reading() as session:
            benchmark = benchmark_row(session, parent)
            board = selection(records.benchmark(benchmark).spec, *choice)
            # In any state: the order still has a row that was withdrawn after it was computed.
            query = with_evaluation(select(SubmissionRow, EvaluationRow))
            query = query.where(
                SubmissionRow.benchmark_number == benchmark.number, SubmissionRow.id.in_(ids)
            )
            submissions, evaluations = dict[str, Submission](), dict[str, EvaluationRow | None]()
            for row, evaluation in session.execute(query):
                submissions[row.id] = records.submission(row, benchmark, evaluation)
                evaluations[row.id] = evaluation
            if as_of:
                compared = _agreements_until(session, ids, as_of)
                for submission, events in _events_until(session, ids, as_of).items():
                    submissions[submission] = _after_events(
                        submissions[submission], events, compared[submission]
                    )
            numbers = [row.number for row in evaluations.values() if row]
            figures = self._figures.read(session, numbers)
        return [
            _row(
                ranked_row,
                board,
                submissions[ranked_row.submission],
                evaluations[ranked_row.submission],
                figures,
            )
            for ranked_row in page
        ]

    def compared(
        self,
        parent: BenchmarkName,
        submissions: Sequence[SubmissionName],
        caller: Principal,
        *,
        per_finding: bool = False,
    ) -> Compared:
        """Compares every pair of some rows; the result keeps their order.

        `per_finding`: also by each finding. Rows that have no score because they lack findings, or
        because one is undefined, are then compared by their findings only.

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
            board = selection(records.benchmark(benchmark).spec)
            found = candidates(session, benchmark, board, {}, ids)
            by_id = {candidate.entry.id: candidate.entry for candidate in found}
            entries = [by_id.get(item) or Entry(item, None) for item in ids]
            if not per_finding:
                return compared(entries, board.direction)
            unscored = {
                item.entry.id
                for item in found
                if item.kind is not Kind.CLAIM and item.entry.score is None
            }
            result = compared(
                [entry for entry in entries if entry.id not in unscored], board.direction
            )
            by_finding = self._compared_by_finding(session, benchmark, board.metric, ids)
        return replace(result, findings=by_finding)

    def _compared_by_finding(
        self, session: Session, benchmark: BenchmarkRow, metric: str, ids: Sequence[str]
    ) -> tuple[FindingComparison, ...]:
        """Compares rows with evidence by each finding, one after the other to save memory."""
        query = with_evaluation(select(SubmissionRow.id, EvaluationRow.number))
        rows = session.execute(query.where(SubmissionRow.id.in_(ids)))
        numbers = {row.id: row.number for row in rows}
        figures = self._figures.read(session, list(numbers.values()))
        reported = {item: figures[numbers[item]] for item in ids}
        return compared_by_finding(
            ids,
            (
                (finding, finding_entries(session, benchmark, metric, finding, reported))
                for finding in records.benchmark(benchmark).spec.findings
            ),
        )

    def _rank(
        self, parent: BenchmarkName, board: Selection, orders: _Orders, as_of: datetime | None
    ) -> tuple[RankedRow, ...]:
        with self._database.reading() as session:
            benchmark = benchmark_row(session, parent)
            # Read again in this transaction, because the published set may have changed.
            published = published_set(session, benchmark, as_of)
            figures: Mapping[int, Figures] = {}
            if not board.recorded:
                numbers = [evaluation for _, evaluation, _ in published if evaluation is not None]
                figures = self._figures.read(session, numbers)
            found = candidates(session, benchmark, board, figures, as_of=as_of)
        order = ranked_rows(found, board)
        _cache(orders.ranked, ((parent.benchmark, board), published), order)
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
                figures[number] = Figures(
                    records.metrics_over_all_images(report), records.contamination(report)
                )
        with self._lock:
            for number, read in figures.items():
                # Another thread may have cached the same report; all use the same instance.
                figures[number] = self._cached.setdefault(number, read)
                self._cached.move_to_end(number)
            while len(self._cached) > KEPT_REPORTS:
                self._cached.popitem(last=False)
        return figures


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


def _agreements_until(
    session: Session, submissions: Sequence[str], as_of: datetime
) -> Mapping[str, Mapping[Purpose, Agreement]]:
    """Returns the latest agreements of some submissions at a time, by submission and purpose."""
    query = select(SubmissionRow.id, EvaluationRow.purpose, EvaluationRow.agreement).join(
        EvaluationRow, EvaluationRow.submission_number == SubmissionRow.number
    )
    query = query.where(
        SubmissionRow.id.in_(submissions),
        EvaluationRow.agreement.is_not(None),
        EvaluationRow.update_time <= as_of,
    )
    latest: defaultdict[str, dict[Purpose, Agreement]] = defaultdict(dict)
    for submission, purpose, stored in session.execute(query.order_by(EvaluationRow.update_time)):
        if found := records.agreement(stored):
            latest[submission][Purpose(purpose)] = found
    return latest


def _after_events(
    submission: Submission, events: Sequence[EventRow], compared: Mapping[Purpose, Agreement]
) -> Submission:
    """Returns a submission with the manifest and state that its first `events` led to, and the
    tier that its first agreements gave."""
    manifest = submission.original
    for event in events:
        if event.change == Change.CORRECTED:
            manifest = replace(manifest, **correction(event.details))
    return replace(
        submission,
        manifest=manifest,
        state=SubmissionState(events[-1].state),
        tier=submission.tier and evidence_tier(submission.kind, compared),
        replay=compared.get(Purpose.REPLAY),
        reproduction=compared.get(Purpose.REPRODUCE),
    )


def _row(
    ranked_row: RankedRow,
    board: Selection,
    submission: Submission,
    evaluation: EvaluationRow | None,
    figures: dict[int, Figures],
) -> Row:
    if evaluation is None:
        return board_row(ranked_row, submission, None, board, "")
    digest = evaluation.provenance.get(PROFILE_DIGEST, "")
    return board_row(ranked_row, submission, figures.get(evaluation.number), board, digest)
