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
    """A time in UTC. SQLite stores no time zone, so it is written without one and read as UTC."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Converts to the database. Raises `ValueError` for a time without time zone, which is a
        defect of the caller."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"{value} has no time zone")
        utc = value.astimezone(UTC)
        return utc.replace(tzinfo=None) if dialect.name == "sqlite" else utc

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002
        """Converts from the database."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class CanonicalJson(TypeDecorator[dict[str, str]]):
    """A mapping of strings, stored as canonical JSON. A stored text that is not canonical JSON
    reads as `{"unreadable": text}`, so that a changed one never verifies."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: dict[str, str] | None, dialect: Dialect) -> str:  # noqa: ARG002
        """Converts to the database."""
        return canonical_json(value or {}).decode()

    def process_result_value(self, value: str | None, dialect: Dialect) -> dict[str, str]:  # noqa: ARG002
        """Converts from the database."""
        try:
            parsed: Any = json.loads(value or "")
        except ValueError:
            parsed = None
        if not isinstance(parsed, dict) or canonical_json(parsed).decode() != value:
            return {"unreadable": str(value)}
        return parsed


# SQLite numbers rows automatically only for a column declared INTEGER.
_Number = BigInteger().with_variant(Integer(), "sqlite")


def _where(condition: str) -> dict[str, Any]:
    """Arguments that make an index partial. A query uses it only if the query has the condition as
    a literal, not as a parameter."""
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
    """An organisation, which owns submissions. A limit of NULL is no limit."""

    __tablename__ = "organisations"

    number: Mapped[int] = mapped_column(_Number, primary_key=True)
    id: Mapped[str] = mapped_column(String(63), unique=True)
    display_name: Mapped[str] = mapped_column(Text)
    submissions_per_day: Mapped[int | None] = mapped_column(BigInteger)
    concurrent: Mapped[int | None] = mapped_column(BigInteger)
    stored_bytes: Mapped[int | None] = mapped_column(BigInteger)
    create_time: Mapped[datetime] = mapped_column(UtcDateTime)


class ApiKeyRow(Base):
    """An API key: the sha256 of its secret, never the secret. Never deleted; revoked once."""

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
    """A change by an operator that is no event of a submission, written with its effect.
    Append-only."""

    __tablename__ = "admin_events"

    number: Mapped[int] = mapped_column(_Number, primary_key=True)
    create_time: Mapped[datetime] = mapped_column(UtcDateTime)
    actor: Mapped[str] = mapped_column(Text)
    action: Mapped[str] = mapped_column(String(32))
    target: Mapped[str] = mapped_column(Text)


class BenchmarkRow(Base):
    """A benchmark; only its card and its retirement change. `spec` holds the fields of
    `BenchmarkSpec`, `card` those of `BenchmarkCard`; NULL if it has none.

    `retire_time` is NULL unless it is retired. `superseded_by` is the id of another benchmark.
    """

    __tablename__ = "benchmarks"

    number: Mapped[int] = mapped_column(_Number, primary_key=True)
    id: Mapped[str] = mapped_column(String(63), unique=True)
    digest: Mapped[str] = mapped_column(String(64))
    spec: Mapped[dict[str, Any]] = mapped_column(JSON)
    create_time: Mapped[datetime] = mapped_column(UtcDateTime)
    retire_time: Mapped[datetime | None] = mapped_column(UtcDateTime)
    retire_reason: Mapped[str | None] = mapped_column(Text)
    superseded_by: Mapped[str | None] = mapped_column(String(63))
    card: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))


class BenchmarkImagesRow(Base):
    """The image list of a benchmark; never changed. `names`: sorted, joined by LF, deflated."""

    __tablename__ = "benchmark_images"

    benchmark_number: Mapped[int] = mapped_column(
        ForeignKey("benchmarks.number"), primary_key=True, autoincrement=False
    )
    names: Mapped[bytes] = mapped_column(LargeBinary)


class ArtifactRow(Base):
    """A completely stored artifact. A submission or an evaluation refers to it permanently."""

    __tablename__ = "artifacts"

    sha256: Mapped[str] = mapped_column(String(64), primary_key=True)
    size_bytes: Mapped[int] = mapped_column(BigInteger)
    create_time: Mapped[datetime] = mapped_column(UtcDateTime)


class SubmissionRow(Base):
    """A submission. `artifact_sha256` is NULL until its artifact is completely stored.

    `declared_bytes` is the largest size that an upload of the artifact has declared, while the
    upload is in progress. `sealed_token` is the encrypted token for an endpoint. `organisation` is
    the owner; NULL for the registry's own claims and for submissions from before there were keys.

    `state`, `corrections` and `superseded_by` follow from the events, of which there are `version`;
    the manifest never changes. `agreements` holds the fields of the latest `Agreement` of each
    purpose; NULL before the first. `tier` follows from it and the kind.
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
    agreements: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))


class SubmissionPartRow(Base):
    """A file of a submission beside its artifact, such as its source bundle.

    `artifact_sha256` is NULL until it is completely stored; `declared_bytes` is the size that its
    upload has declared.
    """

    __tablename__ = "submission_parts"

    submission_number: Mapped[int] = mapped_column(
        ForeignKey("submissions.number"), primary_key=True, autoincrement=False
    )
    part: Mapped[str] = mapped_column(String(32), primary_key=True)
    artifact_sha256: Mapped[str | None] = mapped_column(ForeignKey("artifacts.sha256"))
    declared_bytes: Mapped[int] = mapped_column(BigInteger)
    update_time: Mapped[datetime] = mapped_column(UtcDateTime)


class TrainingListRow(Base):
    """The training list that a submission's manifest names, compressed by zlib; never changed."""

    __tablename__ = "training_lists"

    submission_number: Mapped[int] = mapped_column(
        ForeignKey("submissions.number"), primary_key=True, autoincrement=False
    )
    content: Mapped[bytes] = mapped_column(LargeBinary)


class EventRow(Base):
    """One change of a submission, or of a benchmark. Append-only, but for `place` and `digest`,
    which are set once, when the event joins the audit chain.

    An event of a benchmark has a `benchmark_number`, an empty `state`, and no `submission_number`.
    `request_id` makes the call that caused the change idempotent.
    """

    __tablename__ = "events"
    __table_args__ = (
        UniqueConstraint("submission_number", "version"),
        UniqueConstraint("submission_number", "request_id"),
        Index("uq_events_benchmark_number_version", "benchmark_number", "version", unique=True),
        Index("ix_events_unchained", "number", **_where("place IS NULL")),
    )

    number: Mapped[int] = mapped_column(_Number, primary_key=True)
    id: Mapped[str] = mapped_column(String(32), unique=True)
    submission_number: Mapped[int | None] = mapped_column(ForeignKey("submissions.number"))
    benchmark_number: Mapped[int | None] = mapped_column(ForeignKey("benchmarks.number"))
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
    """The signed receipt of an event that published or changed a row of the board. Append-only."""

    __tablename__ = "receipts"

    event_number: Mapped[int] = mapped_column(
        ForeignKey("events.number"), primary_key=True, autoincrement=False
    )
    submission_number: Mapped[int] = mapped_column(ForeignKey("submissions.number"), index=True)
    payload: Mapped[bytes] = mapped_column(LargeBinary)
    signature: Mapped[bytes] = mapped_column(LargeBinary)


class EvaluationRow(Base):
    """A run of a submission. The lease columns stay after its end, so that a repeated completion is
    recognised.

    `started`, `images_before` and `progress_time` are when the lease began, how many images were
    done then, and when the last ones were recorded; they give an estimate of the time left.

    `stalled_attempts` counts leases in a row that recorded no prediction. `waits_until` delays the
    retry of an evaluation that the platform failed. `lease_owner` is the name of the caller that
    leased it; NULL for leases from before it was recorded.

    `purpose` is that of `cxreval.records.Purpose`. A replay `avoids` the caller that measured.
    `requested_by` is the organisation whose quota it uses; NULL if the registry queued it.
    `agreement`, `usage` and `limits` hold the fields of the records; NULL if there is none.
    """

    __tablename__ = "evaluations"
    # Partial, so that they do not grow with ended evaluations. No other index may have the order of
    # the first: PostgreSQL could choose that one and read through all evaluations that ever were.
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
    lease_owner: Mapped[str | None] = mapped_column(Text)
    lease_expires: Mapped[datetime | None] = mapped_column(UtcDateTime)
    started: Mapped[datetime | None] = mapped_column(UtcDateTime)
    progress_time: Mapped[datetime | None] = mapped_column(UtcDateTime)
    images_before: Mapped[int] = mapped_column(BigInteger)
    images_done: Mapped[int] = mapped_column(BigInteger)
    provenance: Mapped[dict[str, str]] = mapped_column(JSON)
    failure: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    create_time: Mapped[datetime] = mapped_column(UtcDateTime)
    update_time: Mapped[datetime] = mapped_column(UtcDateTime)
    purpose: Mapped[str] = mapped_column(String(32), server_default="measure")
    avoids: Mapped[str | None] = mapped_column(Text)
    requested_by: Mapped[str | None] = mapped_column(String(63))
    agreement: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    usage: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    limits: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))


class EvaluationSampleRow(Base):
    """The images that an evaluation is of; without a row, all of the benchmark. Append-only.

    `names`: as in `BenchmarkImagesRow`.
    """

    __tablename__ = "evaluation_samples"

    evaluation_number: Mapped[int] = mapped_column(
        ForeignKey("evaluations.number"), primary_key=True, autoincrement=False
    )
    names: Mapped[bytes] = mapped_column(LargeBinary)


class ScriptOutputRow(Base):
    """What the submitter's script printed in the last attempt of an evaluation."""

    __tablename__ = "script_outputs"

    evaluation_number: Mapped[int] = mapped_column(
        ForeignKey("evaluations.number"), primary_key=True, autoincrement=False
    )
    output: Mapped[bytes] = mapped_column(LargeBinary)


class DerivedArtifactRow(Base):
    """An artifact that a worker derived for an evaluation, for example the ONNX form of a state
    dict."""

    __tablename__ = "derived_artifacts"

    evaluation_number: Mapped[int] = mapped_column(
        ForeignKey("evaluations.number"), primary_key=True, autoincrement=False
    )
    artifact_sha256: Mapped[str] = mapped_column(ForeignKey("artifacts.sha256"), primary_key=True)
    create_time: Mapped[datetime] = mapped_column(UtcDateTime)


class PredictionRow(Base):
    """The probabilities of one image: float32 little-endian, one per finding.

    `attempt` is the attempt that recorded it; 0 if that was before attempts were recorded. Never
    changed; deleted only when a later attempt drops all rows of this one.
    """

    __tablename__ = "predictions"
    __table_args__ = (UniqueConstraint("evaluation_number", "image"),)

    number: Mapped[int] = mapped_column(_Number, primary_key=True)
    evaluation_number: Mapped[int] = mapped_column(ForeignKey("evaluations.number"))
    image: Mapped[str] = mapped_column(String(255))
    probabilities: Mapped[bytes] = mapped_column(LargeBinary)
    attempt: Mapped[int] = mapped_column(Integer, server_default="0")


class ConfirmationRow(Base):
    """A later attempt, `by_attempt`, has confirmed the predictions of an attempt. Append-only."""

    __tablename__ = "confirmations"

    evaluation_number: Mapped[int] = mapped_column(
        ForeignKey("evaluations.number"), primary_key=True, autoincrement=False
    )
    attempt: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    by_attempt: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    create_time: Mapped[datetime] = mapped_column(UtcDateTime)


class RescoreRow(Base):
    """A report that a caller computed again from the recorded predictions. Append-only.

    `difference` is the first part that differs from the recorded report; empty for none.
    """

    __tablename__ = "rescores"
    __table_args__ = (UniqueConstraint("evaluation_number", "actor", "difference"),)

    number: Mapped[int] = mapped_column(_Number, primary_key=True)
    id: Mapped[str] = mapped_column(String(32), unique=True)
    evaluation_number: Mapped[int] = mapped_column(ForeignKey("evaluations.number"))
    actor: Mapped[str] = mapped_column(String(255))
    difference: Mapped[str] = mapped_column(String(255))
    create_time: Mapped[datetime] = mapped_column(UtcDateTime)


class ReportRow(Base):
    """The report of an evaluation, without its evidence. Append-only, at most one an evaluation.

    `training_verdict` is the report's, so that a board is ranked without reading whole reports;
    NULL if no training data is declared.
    """

    __tablename__ = "reports"

    evaluation_number: Mapped[int] = mapped_column(
        ForeignKey("evaluations.number"), primary_key=True, autoincrement=False
    )
    report: Mapped[dict[str, Any]] = mapped_column(JSON)
    create_time: Mapped[datetime] = mapped_column(UtcDateTime)
    training_verdict: Mapped[str | None] = mapped_column(String(32))


class ReplicateRow(Base):
    """A metric of a report for one finding. Append-only.

    `place` is the index in the report's order, in which the macro mean is last. `score` is the
    report's value, so that a board is ranked without reading whole reports. `vector` is the value
    in each resample, float64 little-endian; NULL for reports from before there were resamples. It
    is the last column, so that reading the score does not read it.
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
