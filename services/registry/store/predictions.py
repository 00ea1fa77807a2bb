"""The recorded predictions of an evaluation: which attempt recorded them, and their digest."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from cxreval.datasets.benchmark import BenchmarkSpec
from cxreval.errors import MalformedBatch, PredictionsUnconfirmed, UnknownImage
from cxreval.fields import field_error
from cxreval.metrics.predictions import PredictionTable
from services.registry.domain.records import PredictionBatch
from services.registry.store.models import ConfirmationRow, EvaluationRow, PredictionRow

_ROWS = 4096
"""Number of rows that are read at a time."""


def check_batch(
    session: Session,
    row: EvaluationRow,
    batch: PredictionBatch,
    covered: Sequence[str],
    spec: BenchmarkSpec,
    images: Mapping[str, int],
) -> None:
    """Raises `UnknownImage` or `MalformedBatch` unless the batch fits benchmark and manifest.

    `covered`: the findings that the manifest's outputs name. Without such names only the file says
    what it covers; each image of the evaluation must then have equally many probabilities.
    """
    findings = len(covered) or recorded_width(session, row)
    expected = (
        f"{findings or f'1 to {len(spec.findings)}'} probabilities per image, one per finding"
    )
    for index, (image, probabilities) in enumerate(zip(batch.images, batch.rows, strict=True)):
        if image not in images:
            expected = "an image of the benchmark"
            raise field_error(f"batch.images[{index}]", image, expected, UnknownImage, image=image)
        values = len(probabilities) // 4
        findings = findings or values
        if values != findings or not 0 < values <= len(spec.findings):
            message = f"batch.probabilities has {values} values for {image!r}; expected {expected}"
            raise MalformedBatch(
                message, field="batch.probabilities", image=image, expected=expected
            )


def recorded_width(session: Session, row: EvaluationRow) -> int:
    """Returns the number of probabilities of each recorded image; 0 if none is recorded."""
    recorded = select(PredictionRow.probabilities).limit(1)
    row_of_it = session.scalar(recorded.where(PredictionRow.evaluation_number == row.number))
    return len(row_of_it or b"") // 4


def batches(
    session: Session, evaluation: int, last: int, images: int
) -> tuple[PredictionBatch | None, int]:
    """Returns the recorded predictions after row `last`, and the number of their last row."""
    query = (
        select(
            PredictionRow.number,
            PredictionRow.image,
            PredictionRow.probabilities,
            PredictionRow.attempt,
        )
        .where(PredictionRow.evaluation_number == evaluation, PredictionRow.number > last)
        .order_by(PredictionRow.number)
        .limit(images)
    )
    rows = session.execute(query).all()
    if not rows:
        return None, last
    numbers, names, probabilities, attempts = zip(*rows, strict=True)
    return PredictionBatch(names, probabilities, attempts), numbers[-1]


def recorded_table(
    session: Session,
    evaluation: int,
    images: Mapping[str, int],
    findings: Sequence[str],
    covered: Sequence[str],
) -> PredictionTable:
    """Returns the table of an evaluation's recorded predictions of the `covered` findings.

    Raises:
        UnknownImage: a row that an earlier version recorded is not of the benchmark.
        MissingImages: an image has no recorded prediction.
    """
    table = PredictionTable(images, findings, covered)
    for batch in _all(session, evaluation):
        table.add(batch.images, np.frombuffer(b"".join(batch.rows), "<f4").astype(np.float32))
    table.check_complete()
    return table


def _all(session: Session, evaluation: int) -> Iterator[PredictionBatch]:
    batch, last = batches(session, evaluation, 0, _ROWS)
    while batch:
        yield batch
        batch, last = batches(session, evaluation, last, _ROWS)


def check_confirmed(session: Session, row: EvaluationRow) -> None:
    """Raises `PredictionsUnconfirmed` if this attempt has not confirmed an earlier one's rows."""
    recorded = select(PredictionRow.attempt).where(PredictionRow.evaluation_number == row.number)
    confirmed = select(ConfirmationRow.attempt).where(
        ConfirmationRow.evaluation_number == row.number, ConfirmationRow.by_attempt == row.attempt
    )
    attempts = set(session.scalars(recorded.distinct())) - {row.attempt}
    unconfirmed = sorted(attempts - set(session.scalars(confirmed)))
    if unconfirmed:
        numbers = ", ".join(map(str, unconfirmed))
        expected = "each earlier attempt confirmed or dropped by the attempt that holds the lease"
        message = f"predictions of attempt {numbers} are not confirmed; expected {expected}"
        raise PredictionsUnconfirmed(
            message, field="evaluation", attempts=numbers, expected=expected
        )


def check_earlier(row: EvaluationRow, attempt: int) -> None:
    """Raises `MalformedField` unless `attempt` is before the one that holds the lease."""
    if not 0 <= attempt < row.attempt:
        expected = f"an attempt before this one, 0 to {row.attempt - 1}"
        raise field_error("attempt", attempt, expected)


def drop(session: Session, row: EvaluationRow, attempt: int) -> int:
    """Deletes the predictions of an attempt and returns how many there were."""
    query = delete(PredictionRow).where(
        PredictionRow.evaluation_number == row.number, PredictionRow.attempt == attempt
    )
    dropped = len(session.scalars(query.returning(PredictionRow.number)).all())
    row.images_done -= dropped
    # The rate of this lease counts only images that it recorded.
    row.images_before -= dropped
    return dropped
