"""Enumerations and records that the registry and its clients share.

The value of an enumeration's member is stored in databases, audit digests and JSON; it never
changes.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class Tier(StrEnum):
    """How the figures of a row came about, from the least evidence to the most."""

    CLAIMED = "claimed"
    SCORED = "scored"
    EXECUTED = "executed"
    REPLAYED = "replayed"
    REPRODUCED = "reproduced"


class SubmissionState(StrEnum):
    """The state of a submission."""

    AWAITING_ARTIFACT = "awaiting_artifact"
    QUEUED = "queued"
    RUNNING = "running"
    PUBLISHED = "published"
    DISPUTED = "disputed"
    SUPERSEDED = "superseded"
    WITHDRAWN = "withdrawn"
    FAILED = "failed"
    CANCELLED = "cancelled"


class EvaluationState(StrEnum):
    """The state of an evaluation."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


class Change(StrEnum):
    """A change of a submission; each is one event."""

    CREATED = "created"
    QUEUED = "queued"
    LEASED = "leased"
    RETURNED = "returned"
    LEASE_EXPIRED = "lease_expired"
    PUBLISHED = "published"
    FAILED = "failed"
    EXPIRED = "expired"
    CANCELLED = "cancelled"
    RETRIED = "retried"
    DISPUTED = "disputed"
    RESOLVED = "resolved"
    CORRECTED = "corrected"
    SUPERSEDED = "superseded"
    WITHDRAWN = "withdrawn"
    REINSTATED = "reinstated"
    CARD_UPDATED = "card_updated"


class Fault(StrEnum):
    """The cause of a failure: the submission, which is final, or the system, which is retried."""

    SUBMISSION = "submission"
    SYSTEM = "system"


class Role(StrEnum):
    """What a caller may do; the .proto files list the roles for each rpc."""

    PUBLIC = "public"
    VIEWER = "viewer"
    SUBMITTER = "submitter"
    WORKER = "worker"
    OPERATOR = "operator"


@dataclass(frozen=True, slots=True)
class Failure:
    """Why an evaluation or an upload failed: a reason code for programs, a message for users."""

    reason: str
    message: str
    fault: Fault


@dataclass(frozen=True, slots=True)
class Quota:
    """The limits of an organisation; None is no limit.

    `submissions_per_day`: submissions created in one day, UTC. `concurrent`: submissions that have
    not ended. `stored_bytes`: size of the artifacts, each counted once, plus the declared size of
    running uploads.
    """

    submissions_per_day: int | None = None
    concurrent: int | None = None
    stored_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class Retirement:
    """Why a benchmark takes no submissions. `superseded_by`: the resource name of the benchmark
    that takes them instead; empty if none does."""

    time: datetime
    reason: str
    superseded_by: str = ""


@dataclass(frozen=True, slots=True)
class BenchmarkCard:
    """What visitors read about a benchmark's data set; empty or None where it is not stated.

    `year`: of publication. `paper`, `download`, `licence_url`: addresses https://. `image_count`,
    `patient_count`: of the whole data set, not of the benchmark's image list.
    """

    description: str = ""
    task: str = ""
    modality: str = ""
    language: str = ""
    year: int | None = None
    paper: str = ""
    download: str = ""
    licence: str = ""
    licence_url: str = ""
    image_count: int | None = None
    patient_count: int | None = None


@dataclass(frozen=True, slots=True)
class AdminEvent:
    """A change of an organisation, a key or the retirement of a benchmark by an operator."""

    time: datetime
    actor: str
    action: str
    target: str


CORRECTED_FIELDS = ("model", "organisation", "open_source", "source_url")
"""The fields of a row that a correction may change; its event has the new values."""
