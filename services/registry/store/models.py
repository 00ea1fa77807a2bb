"""The tables. `number` columns order rows by creation; `id` columns are the public identifiers.

Enums are stored as their text, structured declarations and reports as JSON, probabilities and replicates as bytes.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    DateTime,
    Dialect,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Text,
    TypeDecorator,
    UniqueConstraint,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


class UtcDateTime(TypeDecorator[datetime]):
    """A moment in UTC. SQLite keeps no time zone, so there it is written without and read back with UTC."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Into the database. Raises `ValueError` for a moment without time zone: a defect of the caller."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"{value} has no time zone")
        moment = value.astimezone(UTC)
        return moment.replace(tzinfo=None) if dialect.name == "sqlite" else moment

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002
        """Out of the database."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


# SQLite numbers rows by itself only for a column declared INTEGER.
_Number = BigInteger().with_variant(Integer(), "sqlite")


class Base(DeclarativeBase):
    """All tables, with names for every constraint so that migrations can refer to them."""

    metadata = MetaData(
        naming_convention={
            "pk": "pk_%(table_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        }
    )


class BenchmarkRow(Base):
    """A benchmark; never changed. `spec` holds the fields of `BenchmarkSpec`."""

    __tablename__ = "benchmarks"

    number: Mapped[int] = mapped_column(_Number, primary_key=True)
    id: Mapped[str] = mapped_column(String(63), unique=True)
    digest: Mapped[str] = mapped_column(String(64))
    spec: Mapped[dict[str, Any]] = mapped_column(JSON)
    create_time: Mapped[datetime] = mapped_column(UtcDateTime)


class ArtifactRow(Base):
    """A checkpoint whose bytes are completely stored."""

    __tablename__ = "artifacts"

    sha256: Mapped[str] = mapped_column(String(64), primary_key=True)
    size_bytes: Mapped[int] = mapped_column(BigInteger)
    create_time: Mapped[datetime] = mapped_column(UtcDateTime)


class SubmissionRow(Base):
    """Something handed in. `artifact_sha256` is empty until the checkpoint is completely stored."""

    __tablename__ = "submissions"
    __table_args__ = (UniqueConstraint("benchmark_number", "request_id"),)

    number: Mapped[int] = mapped_column(_Number, primary_key=True)
    id: Mapped[str] = mapped_column(String(32), unique=True)
    benchmark_number: Mapped[int] = mapped_column(ForeignKey("benchmarks.number"))
    request_id: Mapped[str | None] = mapped_column(String(32))
    kind: Mapped[str] = mapped_column(String(32))
    manifest: Mapped[dict[str, Any]] = mapped_column(JSON)
    note: Mapped[str] = mapped_column(Text)
    state: Mapped[str] = mapped_column(String(32))
    tier: Mapped[str | None] = mapped_column(String(32))
    artifact_sha256: Mapped[str | None] = mapped_column(ForeignKey("artifacts.sha256"))
    failure: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    create_time: Mapped[datetime] = mapped_column(UtcDateTime)
    update_time: Mapped[datetime] = mapped_column(UtcDateTime)


class EvaluationRow(Base):
    """A run of a submission. The lease columns stay after its end, so that a repeated completion can be recognised.

    `stalled_attempts` counts leases in a row that recorded no prediction; `waits_until` keeps an evaluation that failed
    through the platform's fault from being leased again at once.
    """

    __tablename__ = "evaluations"
    __table_args__ = (Index(None, "state", "number"),)

    number: Mapped[int] = mapped_column(_Number, primary_key=True)
    id: Mapped[str] = mapped_column(String(32), unique=True)
    submission_number: Mapped[int] = mapped_column(ForeignKey("submissions.number"), index=True)
    state: Mapped[str] = mapped_column(String(32))
    attempt: Mapped[int] = mapped_column(Integer)
    stalled_attempts: Mapped[int] = mapped_column(Integer)
    waits_until: Mapped[datetime | None] = mapped_column(UtcDateTime)
    worker: Mapped[str] = mapped_column(Text)
    lease_token: Mapped[str | None] = mapped_column(String(32))
    lease_expires: Mapped[datetime | None] = mapped_column(UtcDateTime)
    images_done: Mapped[int] = mapped_column(BigInteger)
    provenance: Mapped[dict[str, str]] = mapped_column(JSON)
    failure: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    create_time: Mapped[datetime] = mapped_column(UtcDateTime)
    update_time: Mapped[datetime] = mapped_column(UtcDateTime)


class PredictionRow(Base):
    """The probabilities of one image: float32 little-endian, one per finding. Written once, kept for good."""

    __tablename__ = "predictions"
    __table_args__ = (UniqueConstraint("evaluation_number", "image"),)

    number: Mapped[int] = mapped_column(_Number, primary_key=True)
    evaluation_number: Mapped[int] = mapped_column(ForeignKey("evaluations.number"))
    image: Mapped[str] = mapped_column(String(255))
    probabilities: Mapped[bytes] = mapped_column(LargeBinary)


class ReportRow(Base):
    """What an evaluation found, without its evidence. Append-only: at most one an evaluation, never changed."""

    __tablename__ = "reports"

    evaluation_number: Mapped[int] = mapped_column(
        ForeignKey("evaluations.number"), primary_key=True, autoincrement=False
    )
    report: Mapped[dict[str, Any]] = mapped_column(JSON)
    create_time: Mapped[datetime] = mapped_column(UtcDateTime)


class ReplicateRow(Base):
    """The primary metric of one finding, in the report's order, the macro mean last. Append-only.

    `score` is the report's value, so that a board is ranked without reading whole reports. `vector` is the value under
    each resample, float64 little-endian; absent for reports made before there were resamples. It stands last, so that
    reading the score leaves it alone.
    """

    __tablename__ = "replicates"

    evaluation_number: Mapped[int] = mapped_column(
        ForeignKey("evaluations.number"), primary_key=True, autoincrement=False
    )
    place: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    metric: Mapped[str] = mapped_column(String(64))
    finding: Mapped[str] = mapped_column(String(64))
    score: Mapped[float | None] = mapped_column(Float(53))
    vector: Mapped[bytes | None] = mapped_column(LargeBinary)


class CurveRow(Base):
    """ROC curves and reliabilities behind a report. Append-only."""

    __tablename__ = "curves"

    evaluation_number: Mapped[int] = mapped_column(
        ForeignKey("evaluations.number"), primary_key=True, autoincrement=False
    )
    curves: Mapped[dict[str, Any]] = mapped_column(JSON)
