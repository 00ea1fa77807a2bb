"""What the registry keeps, as plain values. Times are UTC; identifiers are the last segments of
resource names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from cxreval.datasets.benchmark import BenchmarkSpec
from cxreval.manifest.model import Kind, Manifest
from cxreval.metrics.report import Report
from cxreval.records import Change, EvaluationState, Failure, SubmissionState, Tier
from cxreval.resource_names import SubmissionName

EVALUATED_TIER = {
    Kind.CHECKPOINT: Tier.EXECUTED,
    Kind.ENDPOINT: Tier.EXECUTED,
    Kind.PREDICTIONS: Tier.SCORED,
}
"""What the figures of an evaluation are worth. Of an endpoint, a worker saw the answer to every
image."""


ON_BOARD = (SubmissionState.PUBLISHED, SubmissionState.DISPUTED)
"""States in which a submission has a row on the board."""

WAS_ON_BOARD = (*ON_BOARD, SubmissionState.SUPERSEDED, SubmissionState.WITHDRAWN)
"""States of a submission that is or was on the board, which every caller may read."""

ENDED = frozenset(SubmissionState) - {
    SubmissionState.AWAITING_ARTIFACT,
    SubmissionState.QUEUED,
    SubmissionState.RUNNING,
}
"""States that only a caller's request changes."""


PRIVATE_CHANGES = (
    Change.LEASED, Change.RETURNED, Change.LEASE_EXPIRED, Change.FAILED, Change.EXPIRED,
    Change.RETRIED,
)  # fmt: skip
"""Changes that state the worker or the failure; callers outside the owning organisation may not
read them, even if the submission is public."""


@dataclass(frozen=True, slots=True)
class Benchmark:
    """A benchmark and when it was created."""

    spec: BenchmarkSpec
    create_time: datetime


@dataclass(frozen=True, slots=True)
class Submission:
    """Something handed in, as its events left it.

    `version` counts them. `manifest` is shown; it has the corrections that `original`, as it was
    handed in, lacks. `evaluation` is its latest one, `images_done` that one's predictions, and
    `seconds_left` an estimate of what it still takes; None until there is progress to judge by.
    `superseded_by` is another submission's id. `owner` is the organisation it belongs to, or empty.
    """

    benchmark: str
    id: str
    kind: Kind
    manifest: Manifest
    state: SubmissionState
    tier: Tier | None
    create_time: datetime
    update_time: datetime
    images_total: int
    original: Manifest
    version: int = 1
    evaluation: str | None = None
    images_done: int = 0
    seconds_left: float | None = None
    failure: Failure | None = None
    note: str = ""
    superseded_by: str = ""
    owner: str = ""

    @property
    def submitted_date(self) -> str:
        """ISO 8601, to the day or the month: the declared date, or the day it was handed in."""
        return self.manifest.submitted_date or self.create_time.date().isoformat()


@dataclass(frozen=True, slots=True)
class Evaluation:
    """One run of a submission. `owner`: the submission's."""

    benchmark: str
    submission: str
    id: str
    state: EvaluationState
    attempt: int
    worker: str
    images_done: int
    create_time: datetime
    update_time: datetime
    report: Report | None = None
    provenance: Mapping[str, str] = field(default_factory=dict)
    failure: Failure | None = None
    owner: str = ""


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to run an evaluation for `seconds` without renewal."""

    evaluation: Evaluation
    token: str
    seconds: float
    submission: Submission
    benchmark: Benchmark


@dataclass(frozen=True, slots=True)
class PredictionBatch:
    """Predictions: for each image a row of probabilities, float32 little-endian, one per finding of
    the benchmark."""

    images: tuple[str, ...]
    rows: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Event:
    """One change of a submission. Never edited. `version` counts the submission's events from 1."""

    id: str
    submission: str
    version: int
    change: Change
    state: SubmissionState
    actor: str
    reason: str
    details: Mapping[str, str]
    time: datetime


@dataclass(frozen=True, slots=True)
class ChangeRequest:
    """A change of a submission that a caller requests.

    `etag`: the version that the caller read, or None. `request_id`: 32 hex characters, or empty; of
    an organisation's equal requests with the same id, one is executed. `corrections`: fields of the
    manifest with their new values. `successor`: the submission that supersedes it.
    """

    change: Change
    reason: str = ""
    etag: int | None = None
    request_id: str = ""
    corrections: Mapping[str, Any] | None = None
    successor: SubmissionName | None = None
