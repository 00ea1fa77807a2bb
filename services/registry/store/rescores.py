"""The recorded predictions behind reports, and the reports that callers computed from them."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from datetime import datetime

from sqlalchemy import select

from cxreval.errors import OwnerRequired
from cxreval.manifest.model import Kind
from cxreval.metrics.comparison import first_difference
from cxreval.metrics.report import Report
from cxreval.resource_names import BenchmarkName, EvaluationName
from services.chassis.principal import Principal
from services.registry.domain.pages import Cursor, Page
from services.registry.domain.records import PredictionBatch, Rescore
from services.registry.store import predictions
from services.registry.store.benchmarks import benchmark_row
from services.registry.store.database import Database, insert_missing
from services.registry.store.evaluations import reported, whole_report
from services.registry.store.models import EvaluationRow, RescoreRow, SubmissionRow
from services.registry.store.pages import after
from services.registry.store.tenancy import evaluations_visible_to


class Rescores:
    """Sends the predictions behind reports and records what callers computed from them."""

    def __init__(self, database: Database, clock: Callable[[], datetime]) -> None:
        self._database = database
        self._clock = clock

    def predictions(
        self, name: EvaluationName, batch_images: int, caller: Principal
    ) -> Iterator[PredictionBatch]:
        """Yields the predictions behind a report, in the order in which they were recorded.

        Raises:
            EvaluationNotFound, ReportNotFound: there is no report that the caller may read.
            OwnerRequired: they are the content of a table of another organisation.
        """
        last = 0
        while True:
            with self._database.reading() as session:
                row, submission, _ = reported(session, name, caller)
                if submission.kind == Kind.PREDICTIONS and not caller.knows(
                    submission.organisation or ""
                ):
                    message = f"the predictions of {name} are a table of another organisation"
                    raise OwnerRequired(message, name=name, expected="a submission of your own")
                batch, last = predictions.batches(session, row.number, last, batch_images)
            if batch is None:
                return
            yield batch

    def record(self, name: EvaluationName, report: Report, caller: Principal) -> Rescore:
        """Records whether a report that the caller computed again equals the recorded one.

        The same result of the same caller is recorded once.

        Raises:
            EvaluationNotFound, ReportNotFound: there is no report that the caller may read.
        """
        with self._database.writing() as session:
            row, submission, _ = reported(session, name, caller)
            values = {
                "id": uuid.uuid4().hex,
                "evaluation_number": row.number,
                "actor": caller.name,
                "difference": first_difference(whole_report(session, row), report),
                "create_time": self._clock(),
            }
            insert_missing(session, RescoreRow, [values])
            keys = ("evaluation_number", "actor", "difference")
            query = select(RescoreRow).filter_by(**{key: values[key] for key in keys})
            return _rescore(session.scalars(query).one(), row, submission, name.benchmark)

    def page(self, parent: BenchmarkName, cursor: Cursor, caller: Principal) -> Page[Rescore]:
        """The rescores of a benchmark's evaluations that the caller may read, oldest first.

        Raises:
            BenchmarkNotFound: there is no such benchmark.
            InvalidPageToken: the cursor is of another list.
        """
        with self._database.reading() as session:
            benchmark = benchmark_row(session, parent)
            query = (
                select(RescoreRow, EvaluationRow, SubmissionRow)
                .join(EvaluationRow, EvaluationRow.number == RescoreRow.evaluation_number)
                .join(SubmissionRow, SubmissionRow.number == EvaluationRow.submission_number)
                .where(
                    SubmissionRow.benchmark_number == benchmark.number,
                    evaluations_visible_to(caller),
                )
            )
            rows = session.execute(after(session, query, RescoreRow, cursor)).all()
            items = [_rescore(*row, parent.benchmark) for row in rows]
            return cursor.page(items, lambda item: item.id)


def _rescore(
    row: RescoreRow, evaluation: EvaluationRow, submission: SubmissionRow, benchmark: str
) -> Rescore:
    name = EvaluationName(benchmark, submission.id, evaluation.id)
    return Rescore(row.id, str(name), row.actor, row.difference, row.create_time)
