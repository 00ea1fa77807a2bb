"""Enumerations and records that the registry keeps, sends and stores, and its clients read.

A member's value is what databases, audit digests and JSON hold; it never changes.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class Tier(StrEnum):
    """How much evidence stands behind the figures of a row."""

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


class Fault(StrEnum):
    """Whose fault a failure is: the submission's is final, the system's is retried."""

    SUBMISSION = "submission"
    SYSTEM = "system"


class Role(StrEnum):
    """The role of a caller; the .proto files say which roles may call an rpc."""

    PUBLIC = "public"
    VIEWER = "viewer"
    SUBMITTER = "submitter"
    WORKER = "worker"
    OPERATOR = "operator"


@dataclass(frozen=True, slots=True)
class Failure:
    """Why an evaluation or an upload failed: a reason for programs, a sentence for people."""

    reason: str
    message: str
    fault: Fault


@dataclass(frozen=True, slots=True)
class Quota:
    """The limits of an organisation; None: no limit.

    `submissions_per_day` counts days in UTC, `concurrent` submissions that have not ended,
    `stored_bytes` each artifact once, and what running uploads have declared.
    """

    submissions_per_day: int | None = None
    concurrent: int | None = None
    stored_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class AdminEvent:
    """What an operator did to an organisation or a key."""

    time: datetime
    actor: str
    action: str
    target: str
