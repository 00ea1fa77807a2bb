"""Replays and reproductions of rows: evaluations that are compared with the one behind the row.

The registry queues a replay some time after publication and again on a schedule, and a reproduction
once all files of the script are stored. Both leave the submission as it is until they end; then the
comparison may change its tier, which is an event.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from random import SystemRandom
from typing import Any

from sqlalchemy import ColumnElement, Select, and_, exists, or_, select
from sqlalchemy.orm import Session, aliased

from cxreval.errors import SubmissionState as WrongState
from cxreval.manifest.model import Kind, parts
from cxreval.metrics.predictions import image_rows
from cxreval.records import (
    EvaluationState,
    Failure,
    Fault,
    Part,
    Purpose,
    SubmissionState,
    Verdict,
)
from cxreval.resource_names import SubmissionName
from services.chassis.principal import Principal
from services.registry.domain.agreements import REPLAYED_KINDS
from services.registry.domain.records import ON_BOARD, Evaluation
from services.registry.store import records
from services.registry.store.benchmarks import ImageLists
from services.registry.store.database import Database
from services.registry.store.models import (
    BenchmarkRow,
    EvaluationRow,
    EvaluationSampleRow,
    SubmissionPartRow,
    SubmissionRow,
)
from services.registry.store.quotas import charge_request
from services.registry.store.submissions import missing_parts, queued_evaluation, submission_rows

SAMPLE_IMAGES = 512
"""Number of images of a reproduction that is not full, if the benchmark has as many."""

ENDPOINT_IMAGES = 64
"""Number of images for which an endpoint is asked again, if the benchmark has as many.

If the endpoint changed on 5 % of the images, a sample has one of these with a probability of 96 %:
1 - 0.95 ** 64.
"""

DEADLINE = timedelta(days=7)
"""How long a replay or a reproduction may take from the time when it is queued."""

_EXPIRED = Failure("NO_WORKER", f"no worker finished it within {DEADLINE.days} days", Fault.SYSTEM)
_ACTIVE = (EvaluationState.QUEUED, EvaluationState.RUNNING)
_BATCH = 100

_random = SystemRandom()  # a submitter must not be able to predict which images are drawn


@dataclass(frozen=True, slots=True)
class Schedule:
    """When rows are replayed.

    `after`: how long after publication; None for never. `every`: how long after the last replay
    again; None for only once.
    """

    after: timedelta | None
    every: timedelta | None


class Repetitions:
    """Queues replays and reproductions."""

    def __init__(
        self, database: Database, clock: Callable[[], datetime], schedule: Schedule
    ) -> None:
        self._database = database
        self._clock = clock
        self._schedule = schedule
        self._images = ImageLists()

    def queue_due(self) -> int:
        """Queues the replays and reproductions that are due; returns how many.

        Ends those that no worker finished within `DEADLINE`.
        """
        self._expire()
        now, queued = self._clock(), 0
        for purpose, due in (
            (Purpose.REPLAY, _replay_due(self._schedule, now)),
            (Purpose.REPRODUCE, _reproduction_due()),
        ):
            if due is None:
                continue
            with self._database.reading() as session:
                numbers = session.scalars(_rows_on_boards(due).limit(_BATCH)).all()
            for number in numbers:
                with self._database.writing() as session:
                    # Read again, because another registry may have queued it.
                    query = select(SubmissionRow, BenchmarkRow).join(
                        BenchmarkRow, BenchmarkRow.number == SubmissionRow.benchmark_number
                    )
                    query = query.where(SubmissionRow.number == number)
                    row, benchmark = session.execute(query.with_for_update(of=SubmissionRow)).one()
                    if session.scalar(_rows_on_boards(due).where(SubmissionRow.number == number)):
                        self._add(session, row, benchmark, purpose)
                        queued += 1
        return queued

    def reproduced_on_samples(self) -> list[SubmissionName]:
        """Returns the rows that were reproduced on a sample, and of which no reproduction over all
        images was queued yet."""
        condition = exists().where(*_reproductions(SubmissionRow.number)) & ~_has_full()
        with self._database.reading() as session:
            query = _rows_on_boards(condition).with_only_columns(SubmissionRow, BenchmarkRow)
            found = [
                records.submission(row, benchmark, None)
                for row, benchmark in session.execute(query)
            ]
        return [
            SubmissionName(item.benchmark, item.id)
            for item in found
            if item.reproduction
            and item.reproduction.verdict is Verdict.AGREES
            and item.reproduction.images < item.reproduction.images_total
        ]

    def queue_full(self, name: SubmissionName) -> None:
        """Queues a reproduction over all images of a row, unless there was one."""
        with self._database.writing() as session:
            query = _with_benchmark().where(
                SubmissionRow.id == name.submission, BenchmarkRow.id == name.benchmark, ~_has_full()
            )
            rows = session.execute(query).one_or_none()
            if rows and _active(session, rows[0], Purpose.REPRODUCE) is None:
                self._add(session, *rows, Purpose.REPRODUCE, full=True)

    def request(self, name: SubmissionName, caller: Principal, *, full: bool) -> Evaluation:
        """Queues a reproduction for a caller, whose quota it uses, and returns it; one that is
        queued or runs is returned as it is.

        Raises:
            SubmissionNotFound: there is none that the caller may read.
            SubmissionState: it has no row, or files of its script are not stored.
            QuotaExceeded: the caller's organisation has reached its daily limit.
        """
        with self._database.writing() as session:
            row, benchmark, _ = submission_rows(session, name, caller)
            session.refresh(row, with_for_update=True)
            _check_reproducible(session, row, name)
            evaluation = _active(session, row, Purpose.REPRODUCE)
            if evaluation is None:
                charge_request(session, caller.organisation, self._clock())
                evaluation = self._add(
                    session, row, benchmark, Purpose.REPRODUCE, full=full, by=caller.organisation
                )
                session.flush()
            return records.evaluation(evaluation, row, benchmark, None)

    def _add(
        self,
        session: Session,
        row: SubmissionRow,
        benchmark: BenchmarkRow,
        purpose: Purpose,
        *,
        full: bool = False,
        by: str = "",
    ) -> EvaluationRow:
        evaluation = queued_evaluation(row, self._clock())
        evaluation.purpose, evaluation.requested_by = purpose, by or None
        if purpose is Purpose.REPLAY:
            evaluation.avoids = measured(session, row).lease_owner
        session.add(evaluation)
        wanted = None if full else _sample_images(Kind(row.kind), purpose)
        if wanted is not None:
            images = list(self._images.rows(session, benchmark))
            if len(images) > wanted:
                session.flush()
                drawn = sorted(_random.sample(images, wanted))
                names = zlib.compress("\n".join(drawn).encode())
                session.add(EvaluationSampleRow(evaluation_number=evaluation.number, names=names))
        return evaluation

    def _expire(self) -> None:
        now = self._clock()
        late = and_(
            EvaluationRow.state.in_(_ACTIVE),
            EvaluationRow.purpose != Purpose.MEASURE,
            EvaluationRow.create_time <= now - DEADLINE,
        )
        with self._database.reading() as session:
            if session.scalar(select(EvaluationRow.number).where(late).limit(1)) is None:
                return
        with self._database.writing() as session:
            query = select(EvaluationRow).where(late).limit(_BATCH)
            for row in session.scalars(query.with_for_update(skip_locked=True)):
                row.state, row.update_time = EvaluationState.FAILED, now
                row.failure = records.to_json(_EXPIRED)


def _sample_images(kind: Kind, purpose: Purpose) -> int | None:
    """Returns how many images are drawn for an evaluation that is not full; None for all."""
    if purpose is Purpose.REPRODUCE:
        return SAMPLE_IMAGES
    return ENDPOINT_IMAGES if kind is Kind.ENDPOINT else None


def measured(session: Session, row: SubmissionRow) -> EvaluationRow:
    """Returns the evaluation behind the row of a submission."""
    query = select(EvaluationRow).where(
        EvaluationRow.submission_number == row.number,
        EvaluationRow.purpose == Purpose.MEASURE,
        EvaluationRow.state == EvaluationState.SUCCEEDED,
    )
    return session.scalars(query).one()


def sampled(session: Session, row: EvaluationRow, images: Mapping[str, int]) -> Mapping[str, int]:
    """Returns the images that an evaluation is of, with their row numbers in `images`, which has
    all of the benchmark."""
    stored = session.get(EvaluationSampleRow, row.number)
    return images if stored is None else {name: images[name] for name in _names(stored)}


def sample_names(session: Session, row: EvaluationRow) -> tuple[str, ...]:
    """Returns the images that an evaluation is of; empty for all of the benchmark."""
    stored = session.get(EvaluationSampleRow, row.number)
    return () if stored is None else tuple(_names(stored))


def numbered(images: Mapping[str, int]) -> dict[str, int]:
    """Returns the row number of each image in a table of these images alone."""
    return image_rows(list(images))


def _names(row: EvaluationSampleRow) -> Sequence[str]:
    return zlib.decompress(row.names).decode().split("\n")


def _with_benchmark() -> Select[SubmissionRow, BenchmarkRow]:
    """Selects submissions, which it locks, with their benchmarks."""
    query = select(SubmissionRow, BenchmarkRow).join(
        BenchmarkRow, BenchmarkRow.number == SubmissionRow.benchmark_number
    )
    return query.with_for_update(of=SubmissionRow)


def _reproductions(submission: ColumnElement[int] | Any) -> tuple[ColumnElement[bool], ...]:
    """The conditions of a submission's reproductions."""
    return (
        EvaluationRow.submission_number == submission,
        EvaluationRow.purpose == Purpose.REPRODUCE,
    )


def _has_full() -> ColumnElement[bool]:
    """The submissions with a reproduction over all images."""
    sample = exists().where(EvaluationSampleRow.evaluation_number == EvaluationRow.number)
    return exists().where(*_reproductions(SubmissionRow.number), ~sample)


def _rows_on_boards(condition: ColumnElement[bool]) -> Select[int]:
    query = select(SubmissionRow.number).join(
        BenchmarkRow, BenchmarkRow.number == SubmissionRow.benchmark_number
    )
    on_board = SubmissionRow.state.in_(ON_BOARD)
    return query.where(on_board, BenchmarkRow.retire_time.is_(None), condition).order_by(
        SubmissionRow.number
    )


def _replay_due(schedule: Schedule, now: datetime) -> ColumnElement[bool] | None:
    """The submissions of which a replay is due; None if there are no replays."""
    if schedule.after is None:
        return None
    first, replay = aliased(EvaluationRow), aliased(EvaluationRow)
    published = exists().where(
        first.submission_number == SubmissionRow.number,
        first.purpose == Purpose.MEASURE,
        first.state == EvaluationState.SUCCEEDED,
        first.update_time <= now - schedule.after,
    )
    recent: ColumnElement[bool] = replay.state.in_(_ACTIVE)
    if schedule.every is not None:
        recent = or_(recent, replay.create_time > now - schedule.every)
    earlier = exists().where(
        replay.submission_number == SubmissionRow.number,
        replay.purpose == Purpose.REPLAY,
        *(() if schedule.every is None else (recent,)),
    )
    return and_(SubmissionRow.kind.in_(REPLAYED_KINDS), published, ~earlier)


def _reproduction_due() -> ColumnElement[bool]:
    """The submissions whose script can be run and never was."""
    earlier = aliased(EvaluationRow)
    none = ~exists().where(
        earlier.submission_number == SubmissionRow.number, earlier.purpose == Purpose.REPRODUCE
    )
    wheelhouse = SubmissionRow.manifest["reproduction"]["wheelhouse_sha256"].as_string()
    no_wheelhouse = or_(wheelhouse.is_(None), wheelhouse == "")
    return and_(none, _stored(Part.SOURCE_BUNDLE), or_(no_wheelhouse, _stored(Part.WHEELHOUSE)))


def _stored(part: Part) -> ColumnElement[bool]:
    return exists().where(
        SubmissionPartRow.submission_number == SubmissionRow.number,
        SubmissionPartRow.part == part,
        SubmissionPartRow.artifact_sha256.is_not(None),
    )


def _active(session: Session, row: SubmissionRow, purpose: Purpose) -> EvaluationRow | None:
    query = select(EvaluationRow).where(
        EvaluationRow.submission_number == row.number,
        EvaluationRow.purpose == purpose,
        EvaluationRow.state.in_(_ACTIVE),
    )
    return session.scalars(query.limit(1)).first()


def _check_reproducible(session: Session, row: SubmissionRow, name: SubmissionName) -> None:
    if SubmissionState(row.state) not in ON_BOARD:
        message = f"{name} is {row.state}; only a row of a board is reproduced"
        raise WrongState(message, field="name", state=row.state, expected="published")
    declared = parts(records.manifest(row.manifest))
    if Part.SOURCE_BUNDLE not in declared:
        message = f"{name} has no source bundle; submit it again with reproduction.bundle_sha256"
        raise WrongState(message, field="name", state=row.state, expected="a source bundle")
    if missing := missing_parts(session, row):
        message = f"{name} lacks its {', '.join(missing)}; upload the file first"
        raise WrongState(message, field="name", state=row.state, expected="all declared files")
