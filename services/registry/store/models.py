"""The tables. `number` columns order rows by creation; `id` columns are the public identifiers.

Enums are stored as their text, structured declarations and reports as JSON, probabilities and
replicates as bytes.
"""

from __future__ import annotations

import json
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
    text,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from cxreval.audit.canonical import canonical_json


class UtcDateTime(TypeDecorator[datetime]):
    """A moment in UTC. SQLite keeps no time zone, so there it is written without and read back with
    UTC."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Into the database. Raises `ValueError` for a moment without time zone: a defect of the
        caller."""
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


class CanonicalJson(TypeDecorator[dict[str, str]]):
    """A mapping of text, stored as its canonical JSON. What was written in another way is not taken
    for the same."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: dict[str, str] | None, dialect: Dialect) -> str:  # noqa: ARG002
        """Into the database."""
        return canonical_json(value or {}).decode()

    def process_result_value(self, value: str | None, dialect: Dialect) -> dict[str, str]:  # noqa: ARG002
        """Out of the database."""
        try:
            found: Any = json.loads(value or "")
        except ValueError:
            found = None
        if not isinstance(found, dict) or canonical_json(found).decode() != value:
            return {"unreadable": str(value)}
        return found


# SQLite numbers rows by itself only for a column declared INTEGER.
_Number = BigInteger().with_variant(Integer(), "sqlite")


def _where(condition: str) -> dict[str, Any]:
    """Makes an index partial. A query uses it only if it has the condition literally, not as a
    parameter."""
    return {"sqlite_where": text(condition), "postgresql_where": text(condition)}


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


class OrganisationRow(Base):
    """Whom submissions belong to. A limit that is absent is none."""

    __tablename__ = "organisations"

    number: Mapped[int] = mapped_column(_Number, primary_key=True)
    id: Mapped[str] = mapped_column(String(63), unique=True)
    display_name: Mapped[str] = mapped_column(Text)
    submissions_per_day: Mapped[int | None] = mapped_column(BigInteger)
    concurrent: Mapped[int | None] = mapped_column(BigInteger)
    stored_bytes: Mapped[int | None] = mapped_column(BigInteger)
    create_time: Mapped[datetime] = mapped_column(UtcDateTime)


class ApiKeyRow(Base):
    """A key: the sha256 of its secret, never the secret. Never deleted; revoked once, for good."""

    __tablename__ = "api_keys"

    number: Mapped[int] = mapped_column(_Number, primary_key=True)
    id: Mapped[str] = mapped_column(String(16), unique=True)
    organisation: Mapped[str] = mapped_column(ForeignKey("organisations.id"), index=True)
    role: Mapped[str] = mapped_column(String(32))
    secret_sha256: Mapped[str] = mapped_column(String(64))
    create_time: Mapped[datetime] = mapped_column(UtcDateTime)
    expire_time: Mapped[datetime | None] = mapped_column(UtcDateTime)
    revoke_time: Mapped[datetime | None] = mapped_column(UtcDateTime)


class AdminEventRow(Base):
    """What an operator did to organisations and keys, written with its effect. Only ever
    inserted."""

    __tablename__ = "admin_events"

    number: Mapped[int] = mapped_column(_Number, primary_key=True)
    create_time: Mapped[datetime] = mapped_column(UtcDateTime)
    actor: Mapped[str] = mapped_column(Text)
    action: Mapped[str] = mapped_column(String(32))
    target: Mapped[str] = mapped_column(Text)


class BenchmarkRow(Base):
    """A benchmark; never changed. `spec` holds the fields of `BenchmarkSpec`."""

    __tablename__ = "benchmarks"

    number: Mapped[int] = mapped_column(_Number, primary_key=True)
    id: Mapped[str] = mapped_column(String(63), unique=True)
    digest: Mapped[str] = mapped_column(String(64))
    spec: Mapped[dict[str, Any]] = mapped_column(JSON)
    create_time: Mapped[datetime] = mapped_column(UtcDateTime)


class ArtifactRow(Base):
    """A file whose bytes are completely stored. A submission or an evaluation refers to it for
    good."""

    __tablename__ = "artifacts"

    sha256: Mapped[str] = mapped_column(String(64), primary_key=True)
    size_bytes: Mapped[int] = mapped_column(BigInteger)
    create_time: Mapped[datetime] = mapped_column(UtcDateTime)


class SubmissionRow(Base):
    """Something handed in. `artifact_sha256` is empty until the checkpoint is completely stored.

    `declared_bytes` is the most that an upload of it has declared, while it is under way.
    `sealed_token` is what an endpoint is sent, encrypted. `organisation` is whom it belongs to;
    absent for what came with the registry and from before there were keys.

    `state`, `corrections` and `superseded_by` are what the events, `version` of them, left; the
    manifest never changes.
    """

    __tablename__ = "submissions"
    __table_args__ = (UniqueConstraint("benchmark_number", "request_id"),)

    number: Mapped[int] = mapped_column(_Number, primary_key=True)
    id: Mapped[str] = mapped_column(String(32), unique=True)
    benchmark_number: Mapped[int] = mapped_column(ForeignKey("benchmarks.number"))
    organisation: Mapped[str | None] = mapped_column(ForeignKey("organisations.id"), index=True)
    request_id: Mapped[str | None] = mapped_column(String(32))
    kind: Mapped[str] = mapped_column(String(32))
    manifest: Mapped[dict[str, Any]] = mapped_column(JSON)
    note: Mapped[str] = mapped_column(Text)
    corrections: Mapped[dict[str, Any]] = mapped_column(JSON)
    superseded_by: Mapped[str] = mapped_column(String(32))
    version: Mapped[int] = mapped_column(Integer)
    state: Mapped[str] = mapped_column(String(32), index=True)
    tier: Mapped[str | None] = mapped_column(String(32))
    artifact_sha256: Mapped[str | None] = mapped_column(ForeignKey("artifacts.sha256"))
    declared_bytes: Mapped[int | None] = mapped_column(BigInteger)
    sealed_token: Mapped[bytes | None] = mapped_column(LargeBinary)
    failure: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    create_time: Mapped[datetime] = mapped_column(UtcDateTime)
    update_time: Mapped[datetime] = mapped_column(UtcDateTime)


class EventRow(Base):
    """One change of a submission. Only ever inserted; `place` and `digest` are filled in once, when
    it joins the chain.

    `request_id` makes a call that changed something safe to repeat.
    """

    __tablename__ = "events"
    __table_args__ = (
        UniqueConstraint("submission_number", "version"),
        UniqueConstraint("submission_number", "request_id"),
        Index("ix_events_unchained", "number", **_where("place IS NULL")),
    )

    number: Mapped[int] = mapped_column(_Number, primary_key=True)
    id: Mapped[str] = mapped_column(String(32), unique=True)
    submission_number: Mapped[int] = mapped_column(ForeignKey("submissions.number"))
    version: Mapped[int] = mapped_column(Integer)
    change: Mapped[str] = mapped_column(String(32))
    state: Mapped[str] = mapped_column(String(32))
    actor: Mapped[str] = mapped_column(Text)
    reason: Mapped[str] = mapped_column(Text)
    details: Mapped[dict[str, str]] = mapped_column(CanonicalJson)
    request_id: Mapped[str | None] = mapped_column(String(32))
    create_time: Mapped[datetime] = mapped_column(UtcDateTime)
    place: Mapped[int | None] = mapped_column(BigInteger, unique=True)
    digest: Mapped[str | None] = mapped_column(String(64))


class ReceiptRow(Base):
    """What was signed about a submission when an event published or corrected it. Append-only."""

    __tablename__ = "receipts"

    event_number: Mapped[int] = mapped_column(
        ForeignKey("events.number"), primary_key=True, autoincrement=False
    )
    submission_number: Mapped[int] = mapped_column(ForeignKey("submissions.number"), index=True)
    payload: Mapped[bytes] = mapped_column(LargeBinary)
    signature: Mapped[bytes] = mapped_column(LargeBinary)


class EvaluationRow(Base):
    """A run of a submission. The lease columns stay after its end, so that a repeated completion
    can be recognised.

    `started`, `images_before` and `progress_time` say when the lease began, how many images were
    done then, and when
    the last ones were recorded: enough to estimate the time left.

    `stalled_attempts` counts leases in a row that recorded no prediction; `waits_until` keeps an
    evaluation that failed through the platform's fault from being leased again at once.
    """

    __tablename__ = "evaluations"
    # Of what waits and of what goes on only, so that they do not grow with what has ended. No other
    # index has the
    # order of the first: PostgreSQL could choose it and walk through all that was ever leased.
    __table_args__ = (
        Index("ix_evaluations_queued", "create_time", "number", **_where("state = 'queued'")),
        Index("ix_evaluations_running", "lease_expires", **_where("state = 'running'")),
    )

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
    started: Mapped[datetime | None] = mapped_column(UtcDateTime)
    progress_time: Mapped[datetime | None] = mapped_column(UtcDateTime)
    images_before: Mapped[int] = mapped_column(BigInteger)
    images_done: Mapped[int] = mapped_column(BigInteger)
    provenance: Mapped[dict[str, str]] = mapped_column(JSON)
    failure: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    create_time: Mapped[datetime] = mapped_column(UtcDateTime)
    update_time: Mapped[datetime] = mapped_column(UtcDateTime)


class DerivedArtifactRow(Base):
    """An artifact that a worker made for an evaluation, for example the ONNX form of a state
    dict."""

    __tablename__ = "derived_artifacts"

    evaluation_number: Mapped[int] = mapped_column(
        ForeignKey("evaluations.number"), primary_key=True, autoincrement=False
    )
    artifact_sha256: Mapped[str] = mapped_column(ForeignKey("artifacts.sha256"), primary_key=True)
    create_time: Mapped[datetime] = mapped_column(UtcDateTime)


class PredictionRow(Base):
    """The probabilities of one image: float32 little-endian, one per finding. Written once, kept
    for good."""

    __tablename__ = "predictions"
    __table_args__ = (UniqueConstraint("evaluation_number", "image"),)

    number: Mapped[int] = mapped_column(_Number, primary_key=True)
    evaluation_number: Mapped[int] = mapped_column(ForeignKey("evaluations.number"))
    image: Mapped[str] = mapped_column(String(255))
    probabilities: Mapped[bytes] = mapped_column(LargeBinary)


class ReportRow(Base):
    """What an evaluation found, without its evidence. Append-only: at most one an evaluation, never
    changed."""

    __tablename__ = "reports"

    evaluation_number: Mapped[int] = mapped_column(
        ForeignKey("evaluations.number"), primary_key=True, autoincrement=False
    )
    report: Mapped[dict[str, Any]] = mapped_column(JSON)
    create_time: Mapped[datetime] = mapped_column(UtcDateTime)


class ReplicateRow(Base):
    """The primary metric of one finding, in the report's order, the macro mean last. Append-only.

    `score` is the report's value, so that a board is ranked without reading whole reports. `vector`
    is the value under each resample, float64 little-endian; absent for reports made before there
    were resamples. It stands last, so that reading the score leaves it alone.
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
