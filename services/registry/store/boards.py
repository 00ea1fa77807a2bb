"""The boards: what is published on each benchmark, ranked.

The order of a board depends only on which submissions are published, since neither a manifest nor a report ever
changes. So it is computed once for each set of them and kept in the process; every read still asks the database for the
set, and a board is never stale.
"""

from __future__ import annotations

from collections import OrderedDict, defaultdict
from collections.abc import Mapping, Sequence
from threading import Lock
from typing import Any, TypeVar

from sqlalchemy import Select, select
from sqlalchemy.orm import Session

from cxreval.errors import SubmissionNotFound
from cxreval.metrics.ranking import Entry
from cxreval.resource_names import BenchmarkName, SubmissionName
from services.registry.domain.board import PROFILE_DIGEST, Row, Standing, board_row, claimed_metrics, macro, standings
from services.registry.domain.records import EvaluationState, Kind, Submission, SubmissionState
from services.registry.store import records
from services.registry.store.benchmarks import benchmark_row
from services.registry.store.database import Database
from services.registry.store.models import (
    BenchmarkRow,
    EvaluationRow,
    ReplicateRow,
    ReportRow,
    SubmissionRow,
)

KEPT_BOARDS = 32
"""Most boards whose order is kept."""

S = TypeVar("S", bound=Select[*tuple[Any, ...]])

_Published = frozenset[tuple[int, int | None]]
"""Numbers of the published submissions, each with the evaluation behind it."""


class Boards:
    """Ranks and reads boards. Many threads may read at once."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._kept: OrderedDict[str, tuple[_Published, list[Standing]]] = OrderedDict()
        self._lock = Lock()

    def standings(self, parent: BenchmarkName) -> list[Standing]:
        """The order of a whole board. Raises `BenchmarkNotFound`."""
        with self._database.reading() as session:
            benchmark = benchmark_row(session, parent)
            query = _published(select(SubmissionRow.number, EvaluationRow.number), benchmark)
            published = frozenset((number, evaluation) for number, evaluation in session.execute(query))
        # One thread ranks. Those that wait for it hold no connection, and find its result.
        with self._lock:
            kept = self._kept.get(parent.benchmark)
            if kept is None or kept[0] != published:
                kept = published, self._ranked(parent)
            self._keep(parent.benchmark, kept)
        return kept[1]

    def rows(self, parent: BenchmarkName, page: Sequence[Standing]) -> list[Row]:
        """The rows of some standings, with their reports. Raises `BenchmarkNotFound`."""
        with self._database.reading() as session:
            benchmark = benchmark_row(session, parent)
            metric = records.benchmark(benchmark).spec.metrics[0]
            query = _published(select(SubmissionRow, EvaluationRow, ReportRow.report), benchmark)
            query = query.outerjoin(ReportRow, ReportRow.evaluation_number == EvaluationRow.number)
            query = query.where(SubmissionRow.id.in_([standing.submission for standing in page]))
            found = {
                submission.id: (records.submission(submission, benchmark, evaluation), evaluation, report)
                for submission, evaluation, report in session.execute(query)
            }
            return [_row(standing, metric, *found[standing.submission]) for standing in page]

    def entries(self, parent: BenchmarkName, submissions: Sequence[SubmissionName]) -> list[Entry]:
        """Submissions as the ranking sees them, in the order given; without a score unless they are published.

        Raises:
            BenchmarkNotFound, SubmissionNotFound: there is none of that name.
        """
        wanted = [name.submission for name in submissions]
        with self._database.reading() as session:
            benchmark = benchmark_row(session, parent)
            query = select(SubmissionRow.id).where(SubmissionRow.benchmark_number == benchmark.number)
            known = set(session.scalars(query.where(SubmissionRow.id.in_(wanted))))
            for name in submissions:
                if name.submission not in known:
                    raise SubmissionNotFound(f"{name} does not exist here", name=name)
            found = {entry.id: entry for _, entry in _entries(session, benchmark, wanted)}
        return [found.get(item) or Entry(item, None, "") for item in wanted]

    def _ranked(self, parent: BenchmarkName) -> list[Standing]:
        with self._database.reading() as session:
            entries = _entries(session, benchmark_row(session, parent))
        claims = [entry for kind, entry in entries if kind is Kind.CLAIM]
        return standings([entry for kind, entry in entries if kind is not Kind.CLAIM], claims)

    def _keep(self, benchmark: str, kept: tuple[_Published, list[Standing]]) -> None:
        self._kept[benchmark] = kept
        self._kept.move_to_end(benchmark)
        if len(self._kept) > KEPT_BOARDS:
            self._kept.popitem(last=False)


def _published(query: S, benchmark: BenchmarkRow, only: Sequence[str] | None = None) -> S:
    """Published submissions with the evaluation behind each, oldest first. `only`: among those with these ids."""
    of_it = EvaluationRow.submission_number == SubmissionRow.number
    query = (
        query.select_from(SubmissionRow)
        .outerjoin(EvaluationRow, of_it & (EvaluationRow.state == EvaluationState.SUCCEEDED))
        .where(SubmissionRow.benchmark_number == benchmark.number)
        .where(SubmissionRow.state == SubmissionState.PUBLISHED)
        .order_by(SubmissionRow.number)
    )
    return query if only is None else query.where(SubmissionRow.id.in_(only))


def _entries(session: Session, benchmark: BenchmarkRow, only: Sequence[str] | None = None) -> list[tuple[Kind, Entry]]:
    """What is published as entries to rank, each with its kind. `only`: as for `_published`."""
    spec = records.benchmark(benchmark).spec
    metric = spec.metrics[0]
    published = session.execute(_published(select(SubmissionRow, EvaluationRow.number), benchmark, only)).all()
    # Read after the list above: a row that is published meanwhile is left to the next read.
    query = _replicates(benchmark, metric, only, ReplicateRow.finding, ReplicateRow.score)
    scores: defaultdict[int | None, dict[str, float | None]] = defaultdict(dict)
    for evaluation, finding, score in session.execute(query):
        scores[evaluation][finding] = score
    query = _replicates(benchmark, metric, only, ReplicateRow.vector).where(ReplicateRow.finding == "")
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


def _replicates(benchmark: BenchmarkRow, metric: str, only: Sequence[str] | None, *columns: Any) -> Select[Any]:
    """`columns` of the metric's replicates behind what is published, each row with its evaluation's number."""
    query = _published(select(EvaluationRow.number, *columns), benchmark, only)
    of_it = ReplicateRow.evaluation_number == EvaluationRow.number
    return query.join(ReplicateRow, of_it).where(ReplicateRow.metric == metric)


def _row(
    standing: Standing,
    metric: str,
    submission: Submission,
    evaluation: EvaluationRow | None,
    report: Mapping[str, Any] | None,
) -> Row:
    reported = records.metrics_over_all_images(report) if report else ()
    digest = evaluation.provenance.get(PROFILE_DIGEST, "") if evaluation else ""
    return board_row(standing, submission, reported, metric, digest)
