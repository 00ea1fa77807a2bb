"""The stored evaluations: leases, predictions, reports.

Every call under a lease checks its token in the transaction of its effect, with the evaluation's
row locked, so that a worker that has lost its lease can change nothing. An expired lease stays
valid until it is reclaimed: a worker may resume with it if no other worker has taken the
evaluation.

A lease belongs to the caller that leased it: with its token, another caller can do nothing.
Methods that take a lease's token serve workers, which may read everything. The others return what
the caller may read.
"""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from sqlalchemy import Row, Select, delete, literal_column, or_, select
from sqlalchemy.orm import Session

from cxreval.audit.receipts import Signer
from cxreval.datasets.benchmark import BenchmarkSpec
from cxreval.errors import (
    EvaluationNotFound,
    LeaseLost,
    OwnerRequired,
    ReportMismatch,
    ReportNotFound,
    ServiceUnavailable,
)
from cxreval.fields import field_error, required
from cxreval.manifest.model import Kind
from cxreval.metrics.comparison import first_difference
from cxreval.metrics.report import Evidence, Report, covered_findings
from cxreval.records import Change, EvaluationState, Failure, Purpose
from cxreval.resource_names import BenchmarkName, EvaluationName, SubmissionName
from services.chassis.principal import Principal
from services.registry.domain.agreements import tier
from services.registry.domain.pages import Cursor, Page
from services.registry.domain.records import (
    NO_SCRIPT,
    Evaluation,
    Lease,
    PredictionBatch,
    ScriptRun,
)
from services.registry.domain.redaction import redact_evaluation
from services.registry.domain.report import check_report
from services.registry.domain.states import EVALUATION_STATE, after_failure, exhausted
from services.registry.store import predictions, records
from services.registry.store.benchmarks import ImageLists
from services.registry.store.comparing import compare, measured_findings
from services.registry.store.database import Database, insert_missing
from services.registry.store.events import append
from services.registry.store.ladder import is_released, no_significant_change
from services.registry.store.leasing import Abilities, SeenWorkers, lease_queued, runnable
from services.registry.store.models import (
    BenchmarkRow,
    ConfirmationRow,
    CurveRow,
    DerivedArtifactRow,
    EvaluationRow,
    PredictionRow,
    ReplicateRow,
    ReportRow,
    ScriptOutputRow,
    SubmissionRow,
)
from services.registry.store.pages import after
from services.registry.store.receipts import sign_row
from services.registry.store.repetitions import sample_names, sampled
from services.registry.store.submissions import REGISTRY, record_artifact
from services.registry.store.tenancy import evaluations_visible_to, visible_submission

PUBLISHER = "worker"
"""The actor of a publication."""

_RECLAIM_BATCH = 100

# Both rows change together, so both are locked: a wait for one lock would leave the other row as it
# was read before. Every transaction locks the submission first; another order could deadlock.
_LOCKED = (SubmissionRow, EvaluationRow)

# Literals instead of parameters, because partial indexes on a state are used only for a literal.
_QUEUED = EvaluationRow.state == literal_column(f"'{EvaluationState.QUEUED}'")
_RUNNING = EvaluationRow.state == literal_column(f"'{EvaluationState.RUNNING}'")

_Rows = Row[EvaluationRow, SubmissionRow, BenchmarkRow]


def _evaluations() -> Select[EvaluationRow, SubmissionRow, BenchmarkRow]:
    return (
        select(EvaluationRow, SubmissionRow, BenchmarkRow)
        .join(SubmissionRow, SubmissionRow.number == EvaluationRow.submission_number)
        .join(BenchmarkRow, BenchmarkRow.number == SubmissionRow.benchmark_number)
    )


class Evaluations:
    """Leases evaluations to workers and records their predictions and reports."""

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
        self._images = ImageLists()
        self._seen = SeenWorkers()

    def lease(
        self,
        worker: str,
        benchmarks: Sequence[BenchmarkName],
        caller: Principal,
        *,
        converts: bool = False,
        reproduces: bool = False,
        without_images: Sequence[BenchmarkName] = (),
    ) -> Lease | None:
        """Leases the oldest queued evaluation of these benchmarks, or one with an expired lease.

        State dicts are leased only to a worker that `converts` them, scripts only to one that
        `reproduces`, and of the benchmarks `without_images` only tables of predictions. Replays and
        reproductions wait until nothing else is queued. An evaluation whose last `max_attempts`
        leases recorded no prediction fails instead, and the next one is taken.

        Returns:
            None when no evaluation can be leased.
        """
        able = Abilities(
            tuple(name.benchmark for name in benchmarks),
            tuple(name.benchmark for name in without_images),
            converts=converts,
            reproduces=reproduces,
            avoided=self._seen.avoided(caller.name, self._clock()),
        )
        if not self._database.embedded and (lease := self._lease_queued(worker, able, caller)):
            return lease
        with self._database.writing() as session:
            while (rows := _next(session, able, self._clock())) is not None:
                row, submission, _ = rows
                if row.stalled_attempts < self._max_attempts:
                    return self._leased_to(session, worker, caller, rows)
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

    def _lease_queued(self, worker: str, able: Abilities, caller: Principal) -> Lease | None:
        names = dict.fromkeys(able.without_images, False) | dict.fromkeys(able.benchmarks, True)
        rows = {name: row for name in names if (row := self._benchmark(name))}
        known = {row.number: row for row in rows.values()}
        leased = None
        # This connection may be dead. The transaction that follows checks its own before use.
        with contextlib.suppress(ServiceUnavailable), self._database.at_once() as connection:
            leased = lease_queued(
                connection,
                {row.number: names[name] for name, row in rows.items()},
                able,
                worker,
                _worker(worker),
                caller.name,
                self._clock(),
                self._expiry(),
            )
        return self._lease(*leased, known[leased[1].benchmark_number], ()) if leased else None

    def _benchmark(self, name: str) -> BenchmarkRow | None:
        """The row of a benchmark, cached, because all but its retirement never changes."""
        if name not in self._benchmarks:
            with self._database.reading() as session:
                row = session.scalar(select(BenchmarkRow).where(BenchmarkRow.id == name))
            if row is None:
                return None
            self._benchmarks[name] = row
        return self._benchmarks[name]

    def reclaim_expired_leases(self) -> int:
        """Queues evaluations whose lease expired more than a lease's length ago; returns how many.

        Without this an evaluation whose worker died would be shown as running until another worker
        asks for work. The extra time lets a worker that was interrupted resume.
        """
        with self._database.writing() as session:
            late = self._clock() - timedelta(seconds=self._lease_seconds)
            query = (
                _evaluations()
                .where(_RUNNING, EvaluationRow.lease_expires <= late)
                .limit(_RECLAIM_BATCH)
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

    def renew(self, name: EvaluationName, token: str, caller: Principal) -> datetime:
        """Extends a lease to its full length from now and returns its expiry. Raises
        `EvaluationNotFound`, `LeaseLost`."""
        with self._database.writing() as session:
            row, _, _ = self._held(session, name, token, caller)
            row.lease_expires = self._expiry()
            return row.lease_expires

    def append(
        self, name: EvaluationName, token: str, batch: PredictionBatch, caller: Principal
    ) -> int:
        """Records predictions and returns how many are recorded in all.

        Images that are recorded already are skipped.

        Raises:
            EvaluationNotFound, LeaseLost: the lease is not valid.
            ImageListMissing: the benchmark's image list is not recorded.
            UnknownImage: the benchmark does not have an image.
            MalformedBatch: not one probability per finding that the submission covers.
        """
        with self._database.writing() as session:
            row, submission, benchmark = self._held(session, name, token, caller)
            spec = records.benchmark(benchmark).spec
            images = sampled(session, row, self._images.rows(session, benchmark))
            covered = _covered(session, row, submission, spec)
            predictions.check_batch(session, row, batch, covered, spec, images)
            rows = [
                {
                    "evaluation_number": row.number,
                    "image": image,
                    "probabilities": probabilities,
                    "attempt": row.attempt,
                }
                for image, probabilities in zip(batch.images, batch.rows, strict=True)
            ]
            added = insert_missing(session, PredictionRow, rows)
            row.images_done += added
            if added:
                row.stalled_attempts, row.progress_time = 0, self._clock()
            return row.images_done

    def confirm(self, name: EvaluationName, token: str, attempt: int, caller: Principal) -> None:
        """Confirms the predictions of an earlier attempt, for this lease only.

        Raises:
            EvaluationNotFound, LeaseLost: the lease is not valid.
            MalformedField: the attempt is not an earlier one.
        """
        with self._database.writing() as session:
            row, _, _ = self._held(session, name, token, caller)
            predictions.check_earlier(row, attempt)
            confirmation = {
                "evaluation_number": row.number,
                "attempt": attempt,
                "by_attempt": row.attempt,
                "create_time": self._clock(),
            }
            insert_missing(session, ConfirmationRow, [confirmation])

    def drop(self, name: EvaluationName, token: str, attempt: int, caller: Principal) -> int:
        """Deletes the predictions of an earlier attempt and returns how many there were. Raises
        like `confirm`."""
        with self._database.writing() as session:
            row, _, _ = self._held(session, name, token, caller)
            predictions.check_earlier(row, attempt)
            return predictions.drop(session, row, attempt)

    def has_artifact(
        self, name: EvaluationName, token: str, sha256: str, caller: Principal
    ) -> bool:
        """Returns whether an artifact that a worker derived for an evaluation is stored. Raises
        like `renew`."""
        with self._database.reading() as session:
            row, _, _ = self._held(session, name, token, caller, lock=False)
            return session.get(DerivedArtifactRow, (row.number, sha256)) is not None

    def add_artifact(
        self,
        name: EvaluationName,
        token: str,
        sha256: str,
        size_bytes: int,
        keep: Callable[[], None],
        caller: Principal,
    ) -> None:
        """Records an artifact that a worker derived for an evaluation. Raises like `renew`.

        Args:
            name: a leased evaluation.
            token: its lease's.
            sha256: the artifact's digest.
            size_bytes: its size.
            keep: as in `Submissions.queue`.
            caller: the caller that leased it.
        """
        with self._database.writing() as session:
            row, _, _ = self._held(session, name, token, caller)
            now = self._clock()
            record_artifact(session, sha256, size_bytes, now)
            derived = {
                "evaluation_number": row.number,
                "artifact_sha256": sha256,
                "create_time": now,
            }
            insert_missing(session, DerivedArtifactRow, [derived])
            keep()

    def predictions(
        self, name: EvaluationName, token: str, batch_images: int, caller: Principal
    ) -> Iterator[PredictionBatch]:
        """Yields the recorded predictions in order, at most `batch_images` images at a time.

        Raises:
            EvaluationNotFound, LeaseLost: the lease is not valid, or no longer.
        """
        last = 0
        while True:
            # No lock: it is enough that the lease was valid when each batch was read.
            with self._database.reading() as session:
                row, _, _ = self._held(session, name, token, caller, lock=False)
                batch, last = predictions.batches(session, row.number, last, batch_images)
            if batch is None:
                return
            yield batch

    def complete(
        self,
        name: EvaluationName,
        token: str,
        report: Report | None,
        provenance: Mapping[str, str],
        caller: Principal,
        run: ScriptRun = NO_SCRIPT,
    ) -> Evaluation:
        """Records the report with its evidence, publishes the submission, returns the evaluation.

        A replay or a reproduction publishes nothing: its predictions are compared with those behind
        the row, and its report, which it may lack, gives the difference of the scores. Idempotent
        for the same lease and report. The returned report has no evidence. On a benchmark with the
        ladder, a report that is not released is not recorded, and the evaluation fails with
        `NO_SIGNIFICANT_CHANGE`.

        Raises:
            EvaluationNotFound, LeaseLost: the lease is not valid.
            ReportMismatch: the report does not fit the benchmark, the manifest or the recorded
                predictions, or this lease recorded another.
            MissingImages: an image has no recorded prediction.
            PredictionsUnconfirmed: those of an earlier attempt are not confirmed.
        """
        with self._database.writing() as session:
            row, submission, benchmark = _find(session, name, lock=True)
            completed = row.state == EvaluationState.SUCCEEDED and row.lease_token == token
            if completed and _owns(row, caller):
                if row.purpose == Purpose.MEASURE:
                    _check_repeated(session, name, row, _required(report))
                return _evaluation(session, row, submission, benchmark)
            self._check_held(row, name, token, caller)
            predictions.check_confirmed(session, row)
            now = self._clock()
            _record_run(session, row, run)
            row.provenance = dict(provenance)
            row.state, row.failure, row.update_time = EvaluationState.SUCCEEDED, None, now
            if row.purpose == Purpose.MEASURE:
                measured = _required(report)
                if not self._publish(session, (row, submission, benchmark), measured, now):
                    withheld = no_significant_change(BenchmarkName(benchmark.id))
                    worker = _worker(row.worker)
                    self._move(session, row, submission, Change.FAILED, worker, withheld)
            else:
                images = self._images.rows(session, benchmark)
                compare(
                    session,
                    self._signer,
                    (row, submission, benchmark),
                    images,
                    report,
                    run.canaries,
                    now,
                )
            session.flush()
            return _evaluation(session, row, submission, benchmark)

    def _publish(
        self,
        session: Session,
        rows: tuple[EvaluationRow, SubmissionRow, BenchmarkRow],
        report: Report,
        now: datetime,
    ) -> bool:
        """Records the report and publishes the row; False if the ladder withholds it."""
        row, submission, benchmark = rows
        spec = records.benchmark(benchmark).spec
        named, declares = records.named_findings(submission, spec), records.declares(submission)
        check_report(report, spec, named, declares=declares)
        self._check_predictions(session, row, benchmark, report)
        if spec.ladder and not is_released(session, submission, benchmark, report):
            return False
        declared = report.contamination
        session.add(
            ReportRow(
                evaluation_number=row.number,
                report=records.report_json(report),
                create_time=now,
                training_verdict=declared.verdict if declared else None,
            )
        )
        session.add_all(records.evidence_rows(row.number, report))
        submission.tier, submission.failure = tier(Kind(submission.kind), {}), None
        # This event is public and its digest covers the actor, so the actor is not the worker's
        # name; the event of the lease has that.
        details = {"evaluation": row.id}
        event = append(session, submission, Change.PUBLISHED, PUBLISHER, now, details=details)
        sign_row(session, self._signer, submission, benchmark, event)
        return True

    def _check_predictions(
        self, session: Session, row: EvaluationRow, benchmark: BenchmarkRow, report: Report
    ) -> None:
        """Raises unless the recorded predictions are those of the report."""
        images, spec = self._images.rows(session, benchmark), records.benchmark(benchmark).spec
        covered, width = covered_findings(report.metrics), predictions.recorded_width(session, row)
        if width and width != len(covered):
            expected = f"{width} covered findings, as many as the recorded predictions have"
            raise field_error("report.metrics", len(covered), expected, ReportMismatch)
        table = predictions.recorded_table(session, row.number, images, spec.findings, covered)
        if (digest := table.sha256()) != report.predictions_sha256:
            expected = f"{digest}, the digest of the recorded predictions"
            field, found = "report.predictions_sha256", report.predictions_sha256
            raise field_error(field, found, expected, ReportMismatch)

    def fail(
        self,
        name: EvaluationName,
        token: str,
        failure: Failure,
        caller: Principal,
        run: ScriptRun = NO_SCRIPT,
    ) -> Evaluation:
        """Fails the evaluation, or queues it for a retry. Raises `EvaluationNotFound`,
        `LeaseLost`."""
        with self._database.writing() as session:
            row, submission, benchmark = self._held(session, name, token, caller)
            change = after_failure(failure.fault, row.stalled_attempts, self._max_attempts)
            _record_run(session, row, run)
            self._move(session, row, submission, change, _worker(row.worker), failure)
            if change is Change.RETURNED:
                # A pause before the retry, so that one broken worker does not use up all attempts.
                row.waits_until = self._expiry()
            return _evaluation(session, row, submission, benchmark)

    def get(self, name: EvaluationName, caller: Principal) -> Evaluation:
        """An evaluation, redacted for the caller. Raises `EvaluationNotFound`."""
        with self._database.reading() as session:
            return redact_evaluation(_evaluation(session, *_visible(session, name, caller)), caller)

    def evidence(self, name: EvaluationName, caller: Principal) -> Evidence:
        """Replicates and curves of the report. Raises `EvaluationNotFound`, `ReportNotFound`."""
        with self._database.reading() as session:
            row, _, _ = reported(session, name, caller)
            return _evidence(session, row.number)

    def script_output(self, name: EvaluationName, caller: Principal) -> bytes:
        """What the submitter's script printed; empty if none ran.

        Raises:
            EvaluationNotFound: there is none that the caller may read.
            OwnerRequired: it is another organisation's.
        """
        with self._database.reading() as session:
            row, submission, _ = _visible(session, name, caller)
            if not caller.knows(submission.organisation or ""):
                message = f"the output of {name} belongs to another organisation"
                raise OwnerRequired(message, name=name, expected="a submission of your own")
            stored = session.get(ScriptOutputRow, row.number)
            return stored.output if stored else b""

    def page(self, parent: SubmissionName, cursor: Cursor, caller: Principal) -> Page[Evaluation]:
        """The evaluations of a submission that the caller may read, redacted for it, oldest first.

        Raises:
            SubmissionNotFound: there is no such submission.
            InvalidPageToken: the cursor is of another list.
        """
        with self._database.reading() as session:
            submission = visible_submission(session, parent, caller)
            query = _evaluations().where(
                EvaluationRow.submission_number == submission.number, evaluations_visible_to(caller)
            )
            rows = session.execute(after(session, query, EvaluationRow, cursor)).all()
            return cursor.page(
                [redact_evaluation(_evaluation(session, *row), caller) for row in rows],
                lambda item: item.id,
            )

    def _leased_to(
        self,
        session: Session,
        worker: str,
        caller: Principal,
        rows: _Rows,
    ) -> Lease:
        row, submission, benchmark = rows
        row.attempt += 1
        row.stalled_attempts += 1
        row.worker = worker
        row.started, row.progress_time, row.images_before = self._clock(), None, row.images_done
        self._move(session, row, submission, Change.LEASED, _worker(worker))
        row.lease_token, row.lease_expires = secrets.token_hex(16), self._expiry()
        row.lease_owner = caller.name
        return self._lease(row, submission, benchmark, sample_names(session, row))

    def _lease(
        self,
        row: EvaluationRow,
        submission: SubmissionRow,
        benchmark: BenchmarkRow,
        images: tuple[str, ...],
    ) -> Lease:
        return Lease(
            evaluation=records.evaluation(row, submission, benchmark, None),
            token=row.lease_token or "",
            seconds=self._lease_seconds,
            submission=records.submission(submission, benchmark, row),
            # Without its retirement: the row may be an older one, and what is queued is evaluated.
            benchmark=replace(records.benchmark(benchmark), retirement=None),
            owner=submission.organisation or "",
            images=images,
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
        row.state, row.update_time = state, now
        # A failure that is retried is recorded as an event only.
        ended = failure if state is EvaluationState.FAILED else None
        row.failure = records.to_json(ended) if ended else None
        if row.purpose == Purpose.MEASURE:
            # Replays and reproductions leave their submission as it is until they end.
            append(session, submission, change, actor, now, reason=reason, details=details)
            submission.failure = row.failure
        if state is EvaluationState.QUEUED:
            row.lease_token = row.lease_expires = None

    def _held(
        self,
        session: Session,
        name: EvaluationName,
        token: str,
        caller: Principal,
        *,
        lock: bool = True,
    ) -> _Rows:
        rows = _find(session, name, lock=lock)
        self._check_held(rows[0], name, token, caller)
        return rows

    def _check_held(
        self, row: EvaluationRow, name: EvaluationName, token: str, caller: Principal
    ) -> None:
        if row.state != EvaluationState.RUNNING:
            problem = f"it is {row.state}"
        elif row.lease_token is None or not secrets.compare_digest(
            row.lease_token.encode(), token.encode()
        ):
            problem = f"it is leased to {row.worker!r} with another token"
        elif not _owns(row, caller):
            problem = f"it is leased to {row.worker!r} with another key or certificate"
        else:
            return
        raise LeaseLost(
            f"the lease of {name} is lost: {problem}", field="token", name=name, state=row.state
        )

    def _expiry(self) -> datetime:
        return self._clock() + timedelta(seconds=self._lease_seconds)


def _next(session: Session, able: Abilities, now: datetime) -> _Rows | None:
    """The rows of the evaluation to lease next: one whose lease has expired, else the oldest that
    is queued; replays and reproductions last."""
    query = _evaluations().where(runnable(able))
    query = query.limit(1).with_for_update(of=_LOCKED, skip_locked=True)
    waited = or_(EvaluationRow.waits_until.is_(None), EvaluationRow.waits_until <= now)
    oldest = query.where(_QUEUED, waited).order_by(EvaluationRow.create_time, EvaluationRow.number)
    measures = EvaluationRow.purpose == Purpose.MEASURE
    # Separate queries, each of which reads few rows of an index; one query would sort the queue.
    queries = (
        query.where(_RUNNING, EvaluationRow.lease_expires <= now).order_by(
            EvaluationRow.lease_expires
        ),
        oldest.where(measures),
    )
    rows = [session.execute(query).one_or_none() for query in queries]
    first = min((row for row in rows if row), key=lambda row: row[0].number, default=None)
    return first or session.execute(oldest.where(~measures)).one_or_none()


def _covered(
    session: Session, row: EvaluationRow, submission: SubmissionRow, spec: BenchmarkSpec
) -> tuple[str, ...]:
    """The findings that an evaluation's predictions must cover; empty if only the submitted file
    says which."""
    if row.purpose == Purpose.MEASURE:
        return records.named_findings(submission, spec)
    return measured_findings(session, submission)


def _required(report: Report | None) -> Report:
    if report is None:
        raise required("report", "the report of the predictions")
    return report


def _record_run(session: Session, row: EvaluationRow, run: ScriptRun) -> None:
    """Records what a run of the submitter's script used and printed, if one ran."""
    row.usage = records.to_json(run.usage) if run.usage else None
    row.limits = records.to_json(run.limits) if run.limits else None
    session.execute(delete(ScriptOutputRow).where(ScriptOutputRow.evaluation_number == row.number))
    if run.output:
        session.add(ScriptOutputRow(evaluation_number=row.number, output=run.output))


def _owns(row: EvaluationRow, caller: Principal) -> bool:
    """Returns whether the caller leased it; a lease from before this was recorded is anyone's."""
    return row.lease_owner is None or row.lease_owner == caller.name


def _worker(name: str) -> str:
    return f"worker {name}"


def _named(name: EvaluationName) -> Select[EvaluationRow, SubmissionRow, BenchmarkRow]:
    return _evaluations().where(
        EvaluationRow.id == name.evaluation,
        SubmissionRow.id == name.submission,
        BenchmarkRow.id == name.benchmark,
    )


def _visible(session: Session, name: EvaluationName, caller: Principal) -> _Rows:
    """The rows of an evaluation that the caller may read. Raises `EvaluationNotFound`."""
    return _one(session, _named(name).where(evaluations_visible_to(caller)), name)


def reported(session: Session, name: EvaluationName, caller: Principal) -> _Rows:
    """Like `_visible`, of an evaluation with a report. Raises `ReportNotFound`, too."""
    rows = _visible(session, name, caller)
    if session.get(ReportRow, rows[0].number) is None:
        state = rows[0].state
        raise ReportNotFound(f"{name} has no report: it is {state}", name=name, state=state)
    return rows


def _find(session: Session, name: EvaluationName, *, lock: bool) -> _Rows:
    """The rows of an evaluation, for the worker that holds its lease. Raises
    `EvaluationNotFound`."""
    query = _named(name)
    return _one(session, query.with_for_update(of=_LOCKED) if lock else query, name)


def _one(
    session: Session,
    query: Select[EvaluationRow, SubmissionRow, BenchmarkRow],
    name: EvaluationName,
) -> _Rows:
    rows = session.execute(query).one_or_none()
    if rows is None:
        raise EvaluationNotFound(f"{name} does not exist here", name=name)
    return rows


def _evaluation(
    session: Session, row: EvaluationRow, submission: SubmissionRow, benchmark: BenchmarkRow
) -> Evaluation:
    report = session.get(ReportRow, row.number) if row.state == EvaluationState.SUCCEEDED else None
    return records.evaluation(row, submission, benchmark, report.report if report else None)


def _check_repeated(
    session: Session, name: EvaluationName, row: EvaluationRow, report: Report
) -> None:
    """Raises `ReportMismatch` unless the report is the recorded one, bit for bit."""
    if first_difference(whole_report(session, row), report):
        message = f"{name} has a different report already; reports never change"
        raise ReportMismatch(message, field="report")


def whole_report(session: Session, row: EvaluationRow) -> Report:
    """The report of an evaluation that succeeded, with its evidence."""
    stored = session.get_one(ReportRow, row.number).report
    return replace(records.report(stored), evidence=_evidence(session, row.number))


def _evidence(session: Session, number: int) -> Evidence:
    query = (
        select(ReplicateRow)
        .where(ReplicateRow.evaluation_number == number)
        .order_by(ReplicateRow.place)
    )
    return records.evidence(session.scalars(query).all(), session.get(CurveRow, number))
