"""The boards: what is published on each benchmark, ranked.

The order of a board depends only on which submissions are on it, since neither a report nor a
figure or date of a manifest ever changes. So it is computed once for each set of them and kept in
the process. Every read still asks the database whether anything happened, and a board is never
stale. The figures of the reports that were shown last are kept, too.
"""

from __future__ import annotations

from collections import OrderedDict, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import datetime
from threading import Lock
from typing import Any, TypeVar

from sqlalchemy import Select, Subquery, func, select
from sqlalchemy.orm import Session

from cxreval.errors import SubmissionNotFound
from cxreval.manifest.model import Kind
from cxreval.metrics.ranking import Entry
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
    macro,
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
"""Most boards whose order is kept."""

KEPT_REPORTS = 1000
"""Most reports whose figures are kept: about 50 KB each, with their messages."""

S = TypeVar("S", bound=Select[*tuple[Any, ...]])

K = TypeVar("K")
V = TypeVar("V")

_Published = frozenset[tuple[int, int | None]]
"""Numbers of the published submissions, each with the evaluation behind it."""


class Boards:
    """Ranks and reads boards. Many threads may read at once."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._kept: OrderedDict[tuple[str, _Published], tuple[RankedRow, ...]] = OrderedDict()
        self._newest: OrderedDict[str, tuple[int, tuple[RankedRow, ...]]] = OrderedDict()
        self._lock = Lock()
        self._figures = _KeptFigures()

    def ranked_rows(
        self, parent: BenchmarkName, as_of: datetime | None = None
    ) -> tuple[RankedRow, ...]:
        """Returns the order of a board, now or as of a time. Raises `BenchmarkNotFound`."""
        with self._database.reading() as session:
            benchmark = benchmark_row(session, parent)
            happened = None if as_of else _happened(session, benchmark)
            seen, order = self._newest.get(parent.benchmark, (None, ()))
            if happened is not None and seen == happened:
                return order
            published = _published_set(session, benchmark, as_of)
        # One thread ranks. Those that wait for it hold no connection, and find its result.
        with self._lock:
            kept = self._kept.get((parent.benchmark, published))
            order = self._ranked(parent, as_of) if kept is None else kept
            if happened is not None:
                _keep(self._newest, parent.benchmark, (happened, order))
        return order

    def rows(
        self, parent: BenchmarkName, page: Sequence[RankedRow], as_of: datetime | None = None
    ) -> list[Row]:
        """The rows of some ranked_rows, with their reports. Raises `BenchmarkNotFound`."""
        wanted = [standing.submission for standing in page]
        with self._database.reading() as session:
            benchmark = benchmark_row(session, parent)
            metric = records.benchmark(benchmark).spec.ranking_metric
            # In any state: a row that was withdrawn after the order was computed is still part of
            # it.
            query = _with_run(select(SubmissionRow, EvaluationRow))
            query = query.where(
                SubmissionRow.benchmark_number == benchmark.number, SubmissionRow.id.in_(wanted)
            )
            found = {
                row.id: (records.submission(row, benchmark, evaluation), evaluation)
                for row, evaluation in session.execute(query)
            }
            if as_of:
                for submission, then in _as_they_were(session, wanted, as_of).items():
                    found[submission] = _as_it_was(found[submission][0], then), found[submission][1]
            figures = self._figures.read(session, (row.number for _, row in found.values() if row))
        return [_row(standing, metric, *found[standing.submission], figures) for standing in page]

    def compared(
        self, parent: BenchmarkName, submissions: Sequence[SubmissionName], caller: Principal
    ) -> Compared:
        """Compares every two of some rows, in the order given.

        Raises:
            BenchmarkNotFound, SubmissionNotFound: there is none that the caller may read.
            NotComparable: one is not published, is a claim, or its score is undefined.
        """
        wanted = [name.submission for name in submissions]
        with self._database.reading() as session:
            benchmark = benchmark_row(session, parent)
            query = select(SubmissionRow.id).where(
                SubmissionRow.benchmark_number == benchmark.number, visible_to(caller)
            )
            known = set(session.scalars(query.where(SubmissionRow.id.in_(wanted))))
            for name in submissions:
                if name.submission not in known:
                    raise SubmissionNotFound(f"{name} does not exist here", name=name)
            direction = records.benchmark(benchmark).spec.direction
            entries = {entry.id: entry for _, entry in _entries(session, benchmark, wanted)}
        return compared([entries.get(item) or Entry(item, None, "") for item in wanted], direction)

    def _ranked(self, parent: BenchmarkName, as_of: datetime | None) -> tuple[RankedRow, ...]:
        with self._database.reading() as session:
            benchmark = benchmark_row(session, parent)
            # Asked again: by now another set may be published, and this order is that one's.
            published = _published_set(session, benchmark, as_of)
            direction = records.benchmark(benchmark).spec.direction
            entries = _entries(session, benchmark, as_of=as_of)
        claims = [entry for kind, entry in entries if kind is Kind.CLAIM]
        evidence = [entry for kind, entry in entries if kind is not Kind.CLAIM]
        order = ranked_rows(evidence, claims, direction)
        _keep(self._kept, (parent.benchmark, published), order)
        return order


def _keep(kept: OrderedDict[K, V], key: K, value: V) -> None:
    kept[key] = value
    kept.move_to_end(key)
    if len(kept) > KEPT_BOARDS:
        kept.popitem(last=False)


def _happened(session: Session, benchmark: BenchmarkRow) -> int:
    """How many events there were on a benchmark. With each it grows, so while it is the same, so is
    the board."""
    query = select(func.coalesce(func.sum(SubmissionRow.version), 0))
    return int(session.scalar(query.where(SubmissionRow.benchmark_number == benchmark.number)) or 0)


class _KeptFigures:
    """The figures of the evaluations that were asked for last, by number."""

    def __init__(self) -> None:
        self._kept: OrderedDict[int, Figures] = OrderedDict()
        self._lock = Lock()

    def read(self, session: Session, evaluations: Iterable[int]) -> dict[int, Figures]:
        """Those of some evaluations; only reports that are not kept are read."""
        wanted = list(evaluations)
        with self._lock:
            found = {number: self._kept[number] for number in wanted if number in self._kept}
        missing = [number for number in wanted if number not in found]
        if missing:
            query = select(ReportRow.evaluation_number, ReportRow.report)
            for number, report in session.execute(
                query.where(ReportRow.evaluation_number.in_(missing))
            ):
                found[number] = Figures(records.metrics_over_all_images(report))
        with self._lock:
            for number, figures in found.items():
                found[number] = self._kept.setdefault(number, figures)
                self._kept.move_to_end(number)
            while len(self._kept) > KEPT_REPORTS:
                self._kept.popitem(last=False)
        return found


def _with_run(query: S) -> S:
    """Submissions with the evaluation behind each row."""
    of_it = EvaluationRow.submission_number == SubmissionRow.number
    succeeded = EvaluationRow.state == EvaluationState.SUCCEEDED
    return query.select_from(SubmissionRow).outerjoin(EvaluationRow, of_it & succeeded)


def _published(
    query: S,
    benchmark: BenchmarkRow,
    only: Sequence[str] | None = None,
    as_of: datetime | None = None,
) -> S:
    """What is on the board, now or at a moment, with the evaluation behind each row, oldest first.

    `only`: among those with these ids.
    """
    query = _with_run(query).where(SubmissionRow.benchmark_number == benchmark.number)
    if as_of is None:
        query = query.where(SubmissionRow.state.in_(ON_BOARD))
    else:
        last = _last_versions(as_of)
        of_it = (EventRow.submission_number == last.c.submission_number) & (
            EventRow.version == last.c.version
        )
        query = query.join(last, last.c.submission_number == SubmissionRow.number).join(
            EventRow, of_it
        )
        query = query.where(EventRow.state.in_(ON_BOARD))
    query = query.order_by(SubmissionRow.number)
    return query if only is None else query.where(SubmissionRow.id.in_(only))


def _published_set(session: Session, benchmark: BenchmarkRow, as_of: datetime | None) -> _Published:
    query = _published(select(SubmissionRow.number, EvaluationRow.number), benchmark, as_of=as_of)
    return frozenset((number, evaluation) for number, evaluation in session.execute(query))


def _last_versions(as_of: datetime) -> Subquery:
    """The version that each submission had at a moment."""
    number, version = EventRow.submission_number, func.max(EventRow.version).label("version")
    return select(number, version).where(EventRow.create_time <= as_of).group_by(number).subquery()


def _as_they_were(
    session: Session, submissions: Sequence[str], as_of: datetime
) -> dict[str, list[EventRow]]:
    """The events of submissions until a moment, oldest first."""
    query = select(SubmissionRow.id, EventRow).join(
        EventRow, EventRow.submission_number == SubmissionRow.number
    )
    query = query.where(SubmissionRow.id.in_(submissions), EventRow.create_time <= as_of)
    found: defaultdict[str, list[EventRow]] = defaultdict(list)
    for submission, event in session.execute(query.order_by(EventRow.version)):
        found[submission].append(event)
    return found


def _as_it_was(submission: Submission, events: Sequence[EventRow]) -> Submission:
    """A submission with what its row showed after these events, its first ones."""
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
    """What is published as entries to rank, each with its kind. `only`: as for `_published`."""
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
    """`columns` of the metric's replicates behind what is published, each row with its evaluation's
    number."""
    query = _published(select(EvaluationRow.number, *columns), benchmark, only, as_of)
    of_it = ReplicateRow.evaluation_number == EvaluationRow.number
    return query.join(ReplicateRow, of_it).where(ReplicateRow.metric == metric)


def _row(
    standing: RankedRow,
    metric: str,
    submission: Submission,
    evaluation: EvaluationRow | None,
    figures: dict[int, Figures],
) -> Row:
    if evaluation is None:
        return board_row(standing, submission, None, metric, "")
    digest = evaluation.provenance.get(PROFILE_DIGEST, "")
    return board_row(standing, submission, figures.get(evaluation.number), metric, digest)
