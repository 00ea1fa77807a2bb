"""The stored evaluations: leases, predictions, reports.

Every call on behalf of a lease checks its token in the transaction of its effect, with the
evaluation's row locked, so that a worker whose lease has passed to another one can change nothing.
A lease that has run out holds until another
worker takes it: who comes back late to an evaluation that nobody wanted goes on.
"""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta

from sqlalchemy import Row, Select, literal_column, or_, select
from sqlalchemy.orm import Session

from cxreval.audit.receipts import Signer
from cxreval.errors import (
    EvaluationNotFound,
    LeaseLost,
    MalformedBatch,
    ReportMismatch,
    ReportNotFound,
    ServiceUnavailable,
)
from cxreval.manifest.model import CheckpointFormat, Kind
from cxreval.metrics.report import Evidence, Report
from cxreval.records import Change, EvaluationState, Failure
from cxreval.resource_names import BenchmarkName, EvaluationName, SubmissionName
from services.chassis.principal import Principal
from services.registry.domain.pages import Cursor, Page
from services.registry.domain.records import EVALUATED_TIER, Evaluation, Lease, PredictionBatch
from services.registry.domain.report import check_report
from services.registry.domain.states import EVALUATION_STATE, after_failure, exhausted
from services.registry.store import records
from services.registry.store.database import Database, insert_missing
from services.registry.store.events import append
from services.registry.store.leasing import lease_queued
from services.registry.store.models import (
    BenchmarkRow,
    CurveRow,
    DerivedArtifactRow,
    EvaluationRow,
    PredictionRow,
    ReplicateRow,
    ReportRow,
    SubmissionRow,
)
from services.registry.store.pages import after
from services.registry.store.receipts import sign_row
from services.registry.store.submissions import REGISTRY, record_artifact, submission_rows

SOME_WORKER = "worker"
"""The actor of a publication."""

_TAKEN_BACK = 100

# Both change together. Locking only one would read the other as it was before the wait for the
# lock. Everybody locks
# the submission first: in another order two of them would wait for each other.
_LOCKED = (SubmissionRow, EvaluationRow)

# Spelt out, not as parameters: only so can the indexes of these states be used.
_QUEUED = EvaluationRow.state == literal_column(f"'{EvaluationState.QUEUED}'")
_RUNNING = EvaluationRow.state == literal_column(f"'{EvaluationState.RUNNING}'")

_Found = Row[EvaluationRow, SubmissionRow, BenchmarkRow]


def _evaluations() -> Select[EvaluationRow, SubmissionRow, BenchmarkRow]:
    return (
        select(EvaluationRow, SubmissionRow, BenchmarkRow)
        .join(SubmissionRow, SubmissionRow.number == EvaluationRow.submission_number)
        .join(BenchmarkRow, BenchmarkRow.number == SubmissionRow.benchmark_number)
    )


class Evaluations:
    """Hands evaluations to workers and records what they find."""

    def __init__(
        self,
        database: Database,
        clock: Callable[[], datetime],
        signer: Signer,
        lease_seconds: float,
        max_attempts: int,
    ) -> None:
        self._database = database
        self._clock = clock
        self._signer = signer
        self._lease_seconds = lease_seconds
        self._max_attempts = max_attempts
        self._benchmarks: dict[str, BenchmarkRow] = {}

    def lease(
        self, worker: str, benchmarks: Sequence[BenchmarkName], *, converts: bool = False
    ) -> Lease | None:
        """The oldest evaluation of these benchmarks that waits or whose lease has run out; None
        when there is none.

        State dicts are leased only to a worker that `converts` them. One that was leased too often
        in a row without a new prediction fails instead, and the next one is taken.
        """
        if not self._database.embedded and (
            lease := self._lease_queued(worker, benchmarks, converts)
        ):
            return lease
        with self._database.writing() as session:
            while (found := self._next(session, benchmarks, converts)) is not None:
                row, submission, benchmark = found
                if row.stalled_attempts < self._max_attempts:
                    return self._leased_to(session, worker, row, submission, benchmark)
                self._move(
                    session,
                    row,
                    submission,
                    Change.FAILED,
                    REGISTRY,
                    exhausted(row.stalled_attempts, row.worker),
                )
                session.flush()
        return None

    def _lease_queued(
        self, worker: str, benchmarks: Sequence[BenchmarkName], converts: bool
    ) -> Lease | None:
        known = {row.number: row for name in benchmarks if (row := self._benchmark(name))}
        found = None
        # A connection may have died unnoticed: the other way asks whether its own is alive.
        with contextlib.suppress(ServiceUnavailable), self._database.at_once() as connection:
            found = lease_queued(
                connection,
                list(known),
                converts,
                worker,
                _worker(worker),
                self._clock(),
                self._expiry(),
            )
        return self._lease(*found, known[found[1].benchmark_number]) if found else None

    def _benchmark(self, name: BenchmarkName) -> BenchmarkRow | None:
        """Read once: a benchmark never changes."""
        if name.benchmark not in self._benchmarks:
            with self._database.reading() as session:
                row = session.scalar(select(BenchmarkRow).where(BenchmarkRow.id == name.benchmark))
            if row is None:
                return None
            self._benchmarks[name.benchmark] = row
        return self._benchmarks[name.benchmark]

    def reclaim_expired_leases(self) -> int:
        """Queues evaluations whose lease ran out more than a lease's length ago, of any benchmark;
        how many.

        Without it one whose worker died would seem to run for as long as no worker asks for work.
        The time to spare is for a worker that comes back.
        """
        with self._database.writing() as session:
            late = self._clock() - timedelta(seconds=self._lease_seconds)
            query = (
                _evaluations()
                .where(_RUNNING, EvaluationRow.lease_expires <= late)
                .limit(_TAKEN_BACK)
            )
            query = query.order_by(EvaluationRow.lease_expires)
            rows = session.execute(query.with_for_update(of=_LOCKED, skip_locked=True)).all()
            for row, submission, _ in rows:
                if row.stalled_attempts < self._max_attempts:
                    self._move(session, row, submission, Change.LEASE_EXPIRED, REGISTRY)
                else:
                    failure = exhausted(row.stalled_attempts, row.worker)
                    self._move(session, row, submission, Change.FAILED, REGISTRY, failure)
            return len(rows)

    def renew(self, name: EvaluationName, token: str) -> datetime:
        """Extends a lease to its full length from now; when it runs out. Raises
        `EvaluationNotFound`, `LeaseLost`."""
        with self._database.writing() as session:
            row, _, _ = self._held(session, name, token)
            row.lease_expires = self._expiry()
            return row.lease_expires

    def append(self, name: EvaluationName, token: str, batch: PredictionBatch) -> int:
        """Records predictions; images already recorded are left as they are. How many are recorded
        in all.

        Raises:
            EvaluationNotFound, LeaseLost: the lease does not hold.
            MalformedBatch: not one probability per finding, or more images than the benchmark has.
        """
        with self._database.writing() as session:
            row, _, benchmark = self._held(session, name, token)
            spec = records.benchmark(benchmark).spec
            _check_width(batch, len(spec.findings))
            rows = [
                {"evaluation_number": row.number, "image": image, "probabilities": probabilities}
                for image, probabilities in zip(batch.images, batch.rows, strict=True)
            ]
            added = insert_missing(session, PredictionRow, rows)
            row.images_done += added
            if added:
                row.stalled_attempts, row.progress_time = 0, self._clock()
            if row.images_done > spec.image_count:
                expected = f"at most the benchmark's {spec.image_count} images"
                message = f"batch.images brings the evaluation to {row.images_done} images; expected {expected}"
                raise MalformedBatch(
                    message, field="batch.images", found=row.images_done, expected=expected
                )
            return row.images_done

    def has_artifact(self, name: EvaluationName, token: str, sha256: str) -> bool:
        """Whether an artifact that a worker made for an evaluation is stored. Raises as `renew`."""
        with self._database.reading() as session:
            row, _, _ = self._held(session, name, token, lock=False)
            return session.get(DerivedArtifactRow, (row.number, sha256)) is not None

    def add_artifact(
        self,
        name: EvaluationName,
        token: str,
        sha256: str,
        size_bytes: int,
        keep: Callable[[], None],
    ) -> None:
        """Records an artifact that a worker made for an evaluation. Raises as `renew`.

        Args:
            name: a leased evaluation.
            token: its lease's.
            sha256: the artifact's digest.
            size_bytes: its size.
            keep: as in `Submissions.queue`.
        """
        with self._database.writing() as session:
            row, _, _ = self._held(session, name, token)
            now = self._clock()
            record_artifact(session, sha256, size_bytes, now)
            made = {"evaluation_number": row.number, "artifact_sha256": sha256, "create_time": now}
            insert_missing(session, DerivedArtifactRow, [made])
            keep()

    def predictions(
        self, name: EvaluationName, token: str, batch_images: int
    ) -> Iterator[PredictionBatch]:
        """The recorded predictions in the order they came, at most `batch_images` at a time.

        Raises:
            EvaluationNotFound, LeaseLost: the lease does not hold, or no longer.
        """
        last = 0
        while True:
            # No lock: reading changes nothing, so it is enough that the lease held when each batch
            # was read.
            with self._database.reading() as session:
                row, _, _ = self._held(session, name, token, lock=False)
                query = (
                    select(PredictionRow)
                    .where(
                        PredictionRow.evaluation_number == row.number, PredictionRow.number > last
                    )
                    .order_by(PredictionRow.number)
                    .limit(batch_images)
                )
                found = session.scalars(query).all()
            if not found:
                return
            last = found[-1].number
            yield PredictionBatch(
                tuple(item.image for item in found), tuple(item.probabilities for item in found)
            )

    def complete(
        self, name: EvaluationName, token: str, report: Report, provenance: Mapping[str, str]
    ) -> Evaluation:
        """Records the report with its evidence and publishes the submission.

        With the same lease and report it may be repeated. The evaluation comes back with its
        report's figures alone.

        Raises:
            EvaluationNotFound, LeaseLost: the lease does not hold.
            ReportMismatch: the report is not the benchmark's, or another one than was recorded with
                this lease.
        """
        with self._database.writing() as session:
            row, submission, benchmark = _find(session, name, lock=True)
            if row.state == EvaluationState.SUCCEEDED and row.lease_token == token:
                recorded = _evaluation(session, row, submission, benchmark)
                if recorded.report != report or not _same_evidence(session, row.number, report):
                    raise ReportMismatch(
                        f"{name} has another report already; a report is never changed",
                        field="report",
                    )
                return recorded
            self._check_held(row, name, token)
            check_report(report, records.benchmark(benchmark).spec)
            now = self._clock()
            session.add(
                ReportRow(
                    evaluation_number=row.number,
                    report=records.report_json(report),
                    create_time=now,
                )
            )
            session.add_all(records.evidence_rows(row.number, report))
            row.provenance = dict(provenance)
            row.state, row.failure, row.update_time = EvaluationState.SUCCEEDED, None, now
            submission.tier, submission.failure = EVALUATED_TIER[Kind(submission.kind)], None
            # Everybody reads this event, and its digest covers its actor: whose worker it was says
            # the lease's.
            event = append(
                session,
                submission,
                Change.PUBLISHED,
                SOME_WORKER,
                now,
                details={"evaluation": row.id},
            )
            sign_row(session, self._signer, submission, benchmark, event)
            session.flush()
            return _evaluation(session, row, submission, benchmark)

    def fail(self, name: EvaluationName, token: str, failure: Failure) -> Evaluation:
        """Ends the evaluation, or queues it again. Raises `EvaluationNotFound`, `LeaseLost`."""
        with self._database.writing() as session:
            row, submission, benchmark = self._held(session, name, token)
            change = after_failure(failure.fault, row.stalled_attempts, self._max_attempts)
            self._move(session, row, submission, change, _worker(row.worker), failure)
            if change is Change.RETURNED:
                # What broke needs time to mend, and a worker with a broken mount must not use up
                # the attempts at once.
                row.waits_until = self._expiry()
            return _evaluation(session, row, submission, benchmark)

    def get(self, name: EvaluationName) -> Evaluation:
        """Raises `EvaluationNotFound`."""
        with self._database.reading() as session:
            return _evaluation(session, *_find(session, name, lock=False))

    def evidence(self, name: EvaluationName) -> Evidence:
        """What stands behind the report. Raises `EvaluationNotFound`, `ReportNotFound`."""
        with self._database.reading() as session:
            row, _, _ = _find(session, name, lock=False)
            if session.get(ReportRow, row.number) is None:
                raise ReportNotFound(
                    f"{name} has no report: it is {row.state}", name=name, state=row.state
                )
            return _evidence(session, row.number)

    def page(self, parent: SubmissionName, cursor: Cursor, who: Principal) -> Page[Evaluation]:
        """Those that are somebody's to know, oldest first. Raises `SubmissionNotFound`,
        `InvalidPageToken`."""
        with self._database.reading() as session:
            submission, _, _ = submission_rows(session, parent)
            query = _evaluations().where(EvaluationRow.submission_number == submission.number)
            if not who.knows(submission.organisation or ""):
                query = query.where(EvaluationRow.state == EvaluationState.SUCCEEDED)
            found = session.execute(after(session, query, EvaluationRow, cursor)).all()
            return cursor.page(
                [_evaluation(session, *rows) for rows in found], lambda item: item.id
            )

    def _next(
        self, session: Session, benchmarks: Sequence[BenchmarkName], converts: bool
    ) -> _Found | None:
        now = self._clock()
        query = _evaluations().where(BenchmarkRow.id.in_([name.benchmark for name in benchmarks]))
        if not converts:
            format_ = SubmissionRow.manifest["format"].as_string()
            query = query.where(format_.is_distinct_from(CheckpointFormat.PYTORCH_STATE_DICT))
        query = query.limit(1).with_for_update(of=_LOCKED, skip_locked=True)
        waited = or_(EvaluationRow.waits_until.is_(None), EvaluationRow.waits_until <= now)
        # Two queries, each of which walks an index and stops at the first row; one would sort the
        # queue.
        queries = (
            query.where(_RUNNING, EvaluationRow.lease_expires <= now).order_by(
                EvaluationRow.lease_expires
            ),
            query.where(_QUEUED, waited).order_by(EvaluationRow.create_time, EvaluationRow.number),
        )
        found = [session.execute(query).one_or_none() for query in queries]
        return min((item for item in found if item), key=lambda item: item[0].number, default=None)

    def _leased_to(
        self,
        session: Session,
        worker: str,
        row: EvaluationRow,
        submission: SubmissionRow,
        benchmark: BenchmarkRow,
    ) -> Lease:
        row.attempt += 1
        row.stalled_attempts += 1
        row.worker = worker
        row.started, row.progress_time, row.images_before = self._clock(), None, row.images_done
        self._move(session, row, submission, Change.LEASED, _worker(worker))
        row.lease_token, row.lease_expires = secrets.token_hex(16), self._expiry()
        return self._lease(row, submission, benchmark)

    def _lease(
        self, row: EvaluationRow, submission: SubmissionRow, benchmark: BenchmarkRow
    ) -> Lease:
        return Lease(
            evaluation=records.evaluation(row, submission, benchmark, None),
            token=row.lease_token or "",
            seconds=self._lease_seconds,
            submission=records.submission(submission, benchmark, row),
            benchmark=records.benchmark(benchmark),
        )

    def _move(
        self,
        session: Session,
        row: EvaluationRow,
        submission: SubmissionRow,
        change: Change,
        actor: str,
        failure: Failure | None = None,
    ) -> None:
        now, state = self._clock(), EVALUATION_STATE[change]
        details = {"evaluation": row.id, "attempt": str(row.attempt)}
        if failure:
            details |= {"failure": failure.reason, "fault": failure.fault}
        reason = failure.message if failure else ""
        append(session, submission, change, actor, now, reason=reason, details=details)
        row.state, row.update_time = state, now
        # A failure after which it is tried again is only an event.
        ended = failure if state is EvaluationState.FAILED else None
        row.failure = submission.failure = records.to_json(ended) if ended else None
        if state is EvaluationState.QUEUED:
            row.lease_token = row.lease_expires = None

    def _held(
        self, session: Session, name: EvaluationName, token: str, *, lock: bool = True
    ) -> _Found:
        found = _find(session, name, lock=lock)
        self._check_held(found[0], name, token)
        return found

    def _check_held(self, row: EvaluationRow, name: EvaluationName, token: str) -> None:
        if row.state != EvaluationState.RUNNING:
            problem = f"it is {row.state}"
        elif row.lease_token is None or not secrets.compare_digest(
            row.lease_token.encode(), token.encode()
        ):
            problem = f"it is leased to {row.worker!r} with another token"
        else:
            return
        raise LeaseLost(
            f"the lease of {name} is lost: {problem}", field="token", name=name, state=row.state
        )

    def _expiry(self) -> datetime:
        return self._clock() + timedelta(seconds=self._lease_seconds)


def _worker(name: str) -> str:
    return f"worker {name}"


def _find(session: Session, name: EvaluationName, *, lock: bool) -> _Found:
    query = _evaluations().where(
        EvaluationRow.id == name.evaluation,
        SubmissionRow.id == name.submission,
        BenchmarkRow.id == name.benchmark,
    )
    found = session.execute(query.with_for_update(of=_LOCKED) if lock else query).one_or_none()
    if found is None:
        raise EvaluationNotFound(f"{name} does not exist here", name=name)
    return found


def _evaluation(
    session: Session, row: EvaluationRow, submission: SubmissionRow, benchmark: BenchmarkRow
) -> Evaluation:
    report = session.get(ReportRow, row.number) if row.state == EvaluationState.SUCCEEDED else None
    return records.evaluation(row, submission, benchmark, report.report if report else None)


def _evidence(session: Session, number: int) -> Evidence:
    query = (
        select(ReplicateRow)
        .where(ReplicateRow.evaluation_number == number)
        .order_by(ReplicateRow.place)
    )
    return records.evidence(session.scalars(query).all(), session.get(CurveRow, number))


def _same_evidence(session: Session, number: int, report: Report) -> bool:
    """Compares it bit by bit; NaN equals NaN."""
    if report.evidence is None:
        return False
    recorded, found = _evidence(session, number), report.evidence
    vectors = zip(recorded.replicates, found.replicates, strict=False)
    return (
        len(recorded.replicates) == len(found.replicates)
        and all(mine.values.tobytes() == other.values.tobytes() for mine, other in vectors)
        and (recorded.roc_curves, recorded.reliabilities) == (found.roc_curves, found.reliabilities)
    )


def _check_width(batch: PredictionBatch, findings: int) -> None:
    for image, probabilities in zip(batch.images, batch.rows, strict=True):
        if len(probabilities) != 4 * findings:
            expected = f"{findings} probabilities per image, one per finding"
            message = f"batch.probabilities holds {len(probabilities) // 4} values for {image!r}; expected {expected}"
            raise MalformedBatch(
                message, field="batch.probabilities", image=image, expected=expected
            )
