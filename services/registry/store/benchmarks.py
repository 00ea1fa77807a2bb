"""Creates and reads stored benchmarks."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from cxreval.datasets.benchmark import BenchmarkSpec
from cxreval.errors import BenchmarkExists, BenchmarkNotFound
from cxreval.resource_names import BenchmarkName
from services.registry.domain.pages import Cursor, Page
from services.registry.domain.records import Benchmark
from services.registry.store import records
from services.registry.store.database import Database
from services.registry.store.models import BenchmarkRow
from services.registry.store.pages import after


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


class Benchmarks:
    """Creates and reads benchmarks."""

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
                    spec=records.to_json(spec),
                    create_time=self._clock(),
                )
                session.add(row)
            if row.digest != spec.digest:
                message = (
                    f"{name} exists with digest {row.digest}; this specification has {spec.digest}"
                )
                raise BenchmarkExists(
                    message,
                    field="benchmark.name",
                    name=name,
                    found=spec.digest,
                    expected=row.digest,
                )
            return records.benchmark(row)

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
