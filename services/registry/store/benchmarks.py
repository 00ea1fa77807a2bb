"""Creates, retires and reads stored benchmarks, and changes their cards."""

from __future__ import annotations

import uuid
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from datetime import datetime

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from cxreval.datasets.benchmark import BenchmarkSpec, list_problem
from cxreval.errors import (
    BenchmarkExists,
    BenchmarkNotFound,
    BenchmarkRetired,
    ImageListMismatch,
    ImageListMissing,
)
from cxreval.fields import field_error
from cxreval.metrics.predictions import image_rows
from cxreval.records import BenchmarkCard, Change
from cxreval.resource_names import BenchmarkName
from services.registry.domain.pages import Cursor, Page
from services.registry.domain.records import Benchmark
from services.registry.store import records
from services.registry.store.database import Database, insert_missing
from services.registry.store.models import BenchmarkImagesRow, BenchmarkRow, EventRow
from services.registry.store.organisations import record_admin_event
from services.registry.store.pages import after

_KEPT_LISTS = 8
"""Number of image lists that are kept in memory; one of 100,000 images takes about 15 MB."""


def benchmark_row(session: Session, name: BenchmarkName, *, lock: bool = False) -> BenchmarkRow:
    """Returns the row of a benchmark. Raises `BenchmarkNotFound`.

    `lock`: locks the row, so that no other transaction can add to the benchmark before this one
    ends.
    """
    query = select(BenchmarkRow).where(BenchmarkRow.id == name.benchmark)
    row = session.scalar(query.with_for_update(key_share=True) if lock else query)
    if row is None:
        raise BenchmarkNotFound(f"{name} does not exist here", name=name)
    return row


def check_not_retired(row: BenchmarkRow, field: str) -> None:
    """Raises `BenchmarkRetired` if a benchmark is retired. `field` of the request names it."""
    retirement = records.retirement(row)
    if retirement:
        name, successor = BenchmarkName(row.id), retirement.superseded_by
        instead = f"use {successor}" if successor else "no benchmark supersedes it"
        # The reason comes last, because a long message is cut.
        message = f"{name} is retired; {instead}. Reason: {retirement.reason}"
        raise BenchmarkRetired(
            message, field=field, name=name, superseded_by=successor, expected=successor
        )


def append_benchmark_event(
    session: Session,
    row: BenchmarkRow,
    change: Change,
    actor: str,
    now: datetime,
    reason: str,
    details: Mapping[str, str],
) -> None:
    """Records a change of a benchmark, whose row is locked."""
    of_it = select(func.count()).where(EventRow.benchmark_number == row.number)
    session.add(
        EventRow(
            id=uuid.uuid4().hex,
            benchmark_number=row.number,
            version=(session.scalar(of_it) or 0) + 1,
            change=change,
            state="",
            actor=actor,
            reason=reason,
            details=dict(details),
            create_time=now,
        )
    )


class Benchmarks:
    """Creates, retires and reads benchmarks."""

    def __init__(self, database: Database, clock: Callable[[], datetime]) -> None:
        self._database = database
        self._clock = clock

    def create(self, spec: BenchmarkSpec) -> Benchmark:
        """Creates a benchmark, or returns the existing one if its digest is the same.

        Raises:
            BenchmarkExists: the existing benchmark has another digest.
        """
        name = BenchmarkName(spec.name)
        with self._database.writing() as session:
            row = session.scalar(select(BenchmarkRow).where(BenchmarkRow.id == spec.name))
            if row is None:
                row = BenchmarkRow(
                    id=spec.name,
                    digest=spec.digest,
                    spec=records.spec_json(spec),
                    create_time=self._clock(),
                )
                session.add(row)
            if row.digest != spec.digest:
                message = (
                    f"{name} exists with digest {row.digest}; this specification has "
                    f"{spec.digest}; give it another name, and retire the one it supersedes"
                )
                raise BenchmarkExists(
                    message,
                    field="benchmark.name",
                    name=name,
                    found=spec.digest,
                    expected=row.digest,
                )
            return records.benchmark(row)

    def retire(
        self, name: BenchmarkName, reason: str, successor: BenchmarkName | None, actor: str
    ) -> Benchmark:
        """Retires a benchmark, or replaces reason and successor of a retired one; idempotent.

        Raises:
            BenchmarkNotFound: there is no such benchmark, or no such successor.
            MalformedField: the successor is the benchmark itself.
            BenchmarkRetired: the successor is retired, so that no chain of successors is a circle.
        """
        with self._database.writing() as session:
            # In one order for all callers, so that two of them cannot wait for each other.
            names = sorted({name, successor or name}, key=str)
            rows = {item: benchmark_row(session, item, lock=True) for item in names}
            row = rows[name]
            if successor == name:
                raise field_error("superseded_by", name, "another benchmark")
            if successor:
                check_not_retired(rows[successor], "superseded_by")
            values = reason, successor.benchmark if successor else None
            if row.retire_time is None or (row.retire_reason, row.superseded_by) != values:
                now = self._clock()
                row.retire_time = row.retire_time or now
                row.retire_reason, row.superseded_by = values
                details = f"{reason}; superseded by {successor}" if successor else reason
                target = f"{name} ({details})"
                record_admin_event(session, now, actor, "benchmark_retired", target)
            return records.benchmark(row)

    def reinstate(self, name: BenchmarkName, reason: str, actor: str) -> Benchmark:
        """Lets a retired benchmark take submissions again; idempotent. Raises
        `BenchmarkNotFound`."""
        with self._database.writing() as session:
            row = benchmark_row(session, name, lock=True)
            if row.retire_time is not None:
                row.retire_time = row.retire_reason = row.superseded_by = None
                now, target = self._clock(), f"{name} ({reason})"
                record_admin_event(session, now, actor, "benchmark_reinstated", target)
            return records.benchmark(row)

    def seed_card(self, name: BenchmarkName, card: BenchmarkCard) -> None:
        """Gives a benchmark its first card, unless it has one. Raises `BenchmarkNotFound`."""
        with self._database.writing() as session:
            row = benchmark_row(session, name, lock=True)
            if row.card is None:
                row.card = asdict(card)

    def update_card(
        self, name: BenchmarkName, card: BenchmarkCard, reason: str, actor: str
    ) -> Benchmark:
        """Replaces the card of a benchmark and records the event; idempotent.

        Raises `BenchmarkNotFound`.
        """
        with self._database.writing() as session:
            row = benchmark_row(session, name, lock=True)
            fields = asdict(card)
            if row.card != fields:
                row.card = fields
                stated = {key: str(value) for key, value in fields.items() if value}
                append_benchmark_event(
                    session, row, Change.CARD_UPDATED, actor, self._clock(), reason, stated
                )
            return records.benchmark(row)

    def record_images(self, name: BenchmarkName, images: Sequence[str]) -> None:
        """Records the image list of a benchmark; idempotent.

        Raises:
            BenchmarkNotFound: there is no such benchmark.
            ImageListMismatch: its specification states the digest of another list.
        """
        listed = sorted(images)
        # A worker sends the list with each evaluation, and the check must not hold the write lock.
        with self._database.reading() as session:
            row = benchmark_row(session, name)
            if problem := list_problem(records.benchmark(row).spec, listed):
                message = f"the image list of {name} {problem}"
                raise ImageListMismatch(message, field="images", name=name)
            if session.get(BenchmarkImagesRow, row.number) is not None:
                return
            names = zlib.compress("\n".join(listed).encode())
            values = {"benchmark_number": row.number, "names": names}
        with self._database.writing() as session:
            insert_missing(session, BenchmarkImagesRow, [values])

    def get(self, name: BenchmarkName) -> Benchmark:
        """Returns a benchmark. Raises `BenchmarkNotFound`."""
        with self._database.reading() as session:
            return records.benchmark(benchmark_row(session, name))

    def page(self, cursor: Cursor) -> Page[Benchmark]:
        """Returns a page of benchmarks, oldest first. Raises `InvalidPageToken`."""
        with self._database.reading() as session:
            rows = session.scalars(after(session, select(BenchmarkRow), BenchmarkRow, cursor)).all()
            return cursor.page(
                [records.benchmark(row) for row in rows], lambda item: item.spec.name
            )


class ImageLists:
    """Reads the recorded image lists, and keeps the latest, because a list never changes."""

    def __init__(self) -> None:
        self._kept: dict[int, Mapping[str, int]] = {}

    def rows(self, session: Session, benchmark: BenchmarkRow) -> Mapping[str, int]:
        """Returns the row number of each image in the sorted list. Raises `ImageListMissing`."""
        kept = self._kept.get(benchmark.number)
        if kept is not None:
            return kept
        stored = session.get(BenchmarkImagesRow, benchmark.number)
        if stored is None:
            name = BenchmarkName(benchmark.id)
            message = (
                f"the registry does not have the image list of {name}; "
                "record it with `cxreval dataset register DIRECTORY`, or run a current worker"
            )
            raise ImageListMissing(message, name=name)
        rows = image_rows(zlib.decompress(stored.names).decode().split("\n"))
        for number in list(self._kept)[: 1 - _KEPT_LISTS]:
            self._kept.pop(number, None)
        self._kept[benchmark.number] = rows
        return rows
