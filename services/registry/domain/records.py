"""The registry's records as plain values.

Times are UTC. Identifiers are the last segments of resource names.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from cxreval.datasets.benchmark import BenchmarkSpec
from cxreval.manifest.model import Kind, Manifest
from cxreval.metrics.report import Report
from cxreval.records import (
    Agreement,
    BenchmarkCard,
    Canaries,
    Change,
    EvaluationState,
    Failure,
    Purpose,
    Retirement,
    SubmissionState,
    Tier,
    Usage,
)
from cxreval.resource_names import SubmissionName

EVALUATED_TIER = {
    Kind.CHECKPOINT: Tier.EXECUTED,
    Kind.ENDPOINT: Tier.EXECUTED,
    Kind.PREDICTIONS: Tier.SCORED,
    Kind.SCRIPT: Tier.EXECUTED,
}
"""Tier of the rows that an evaluation publishes, by kind of submission.

An endpoint's row is executed, because a worker received the endpoint's answer to every image.
"""

ON_BOARD = (SubmissionState.PUBLISHED, SubmissionState.DISPUTED)
"""States in which a submission has a row on the board."""

WAS_ON_BOARD = (*ON_BOARD, SubmissionState.SUPERSEDED, SubmissionState.WITHDRAWN)
"""States of submissions that are or were on the board, which every caller may read."""

ENDED = frozenset(SubmissionState) - {
    SubmissionState.AWAITING_ARTIFACT,
    SubmissionState.QUEUED,
    SubmissionState.RUNNING,
}
"""States that last until a caller requests a change."""

PRIVATE_CHANGES = (
    Change.LEASED, Change.RETURNED, Change.LEASE_EXPIRED, Change.FAILED, Change.EXPIRED,
    Change.RETRIED,
)  # fmt: skip
"""Changes whose events state the worker and the failure.

Only the owning organisation, workers and operators may read them, even of a public submission.
"""


@dataclass(frozen=True, slots=True)
class Benchmark:
    """A benchmark, when it was created, why it takes no submissions if it is retired, its card."""

    spec: BenchmarkSpec
    create_time: datetime
    retirement: Retirement | None = None
    card: BenchmarkCard | None = None


@dataclass(frozen=True, slots=True)
class Submission:
    """A submission after all of its events.

    `version`: the number of its events. `original`: the manifest as submitted; `manifest` has the
    corrections, too. `evaluation`: id of the latest evaluation; `images_done`: number of its
    predictions; `seconds_left`: estimated time until it has all, None if not known yet.
    `superseded_by`: id of another submission. `owner`: the organisation that owns it; empty if none
    does. `replay`, `reproduction`: the latest one that gave predictions.
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
    replay: Agreement | None = None
    reproduction: Agreement | None = None

    @property
    def submitted_date(self) -> str:
        """The declared date, or else the day of creation: ISO 8601, to the day or the month."""
        return self.manifest.submitted_date or self.create_time.date().isoformat()


@dataclass(frozen=True, slots=True)
class Evaluation:
    """One run of a submission: for its report, or for a comparison with it.

    `owner` is the submission's. `usage`, `limits`: of the submitter's script; None if none ran.
    """

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
    purpose: Purpose = Purpose.MEASURE
    agreement: Agreement | None = None
    usage: Usage | None = None
    limits: Usage | None = None


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to run an evaluation for `seconds` without renewal.

    `owner` is the organisation that owns the submission; empty without keys. `images`: those to
    predict; empty for all of the benchmark.
    """

    evaluation: Evaluation
    token: str
    seconds: float
    submission: Submission
    benchmark: Benchmark
    owner: str
    images: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ScriptRun:
    """What a worker states of a run of the submitter's script; `output` is what the script
    printed."""

    usage: Usage | None = None
    limits: Usage | None = None
    canaries: Canaries | None = None
    output: bytes = b""


NO_SCRIPT = ScriptRun()


@dataclass(frozen=True, slots=True)
class PredictionBatch:
    """Predictions of some images.

    `rows`: for each image the probabilities of the benchmark's findings, float32 little-endian.
    `attempts`: for each recorded image the attempt that recorded it.
    """

    images: tuple[str, ...]
    rows: tuple[bytes, ...]
    attempts: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Rescore:
    """A report that a caller computed again from the recorded predictions.

    `difference`: the first part that differs from the recorded report; empty if none does.
    """

    id: str
    evaluation: str
    actor: str
    difference: str
    time: datetime


@dataclass(frozen=True, slots=True)
class Event:
    """One change of a submission, which is never edited. `version` counts its events from 1."""

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

    `etag`: the version that the caller read, or None. `request_id`: 32 hex characters, or empty;
    an organisation's repeated request with the same one has no further effect. `corrections`:
    fields of the manifest with their new values. `successor`: the submission that supersedes it.
    """

    change: Change
    reason: str = ""
    etag: int | None = None
    request_id: str = ""
    corrections: Mapping[str, Any] | None = None
    successor: SubmissionName | None = None
